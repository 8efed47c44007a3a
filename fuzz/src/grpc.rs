//! gRPC bodies: messages cut out of arbitrary chunks, what is in them, and stored records on their way out.

use api::compression::{Compression, Compressor};
use api::grpc::append::append_request;
use api::grpc::frame::{HEAD_BYTES, MESSAGE_BYTES_MAX, MessageDecoder, Outgoing, only_message};
use api::grpc::{config, decode, metadata, read, token, v1alpha};
use bytes::Bytes;
use model::stored::StoredRecords;

use crate::input::Input;
use crate::meaning::check_input;

/// The input says how to cut and how messages are compressed, then comes the body.
pub fn grpc(input: &[u8]) {
    let mut input = Input::new(input);
    let mode = input.u8();
    let encoding = match mode & 3 {
        1 => Compression::Zstd,
        2 => Compression::Gzip,
        _ => Compression::None,
    };
    let cuts: Vec<usize> = (0..mode >> 2 & 7).map(|_| usize::from(input.u8())).collect();
    let body = input.rest();
    check_body(body, encoding, &cuts);
    check_message(Bytes::copy_from_slice(body));
    check_stored(body);
    if let Ok(text) = std::str::from_utf8(body) {
        let _ = (metadata::timeout(Some(text)), metadata::encoding(Some(text)), metadata::accepted(Some(text)));
    }
}

/// What a decoder makes of a body: its messages, and whether it ended well.
type Decoded = (Vec<Bytes>, bool);

fn check_body(body: &[u8], encoding: Compression, cuts: &[usize]) {
    let whole = decoded([Bytes::copy_from_slice(body)], encoding);
    let mut rest = Input::new(body);
    let mut chunks: Vec<Bytes> = cuts.iter().map(|len| Bytes::copy_from_slice(rest.take(*len))).collect();
    chunks.push(Bytes::copy_from_slice(rest.rest()));
    assert_eq!(decoded(chunks, encoding), whole, "where a body is cut does not matter");
    let only = only_message(Bytes::copy_from_slice(body), encoding).ok();
    assert_eq!(only.as_ref(), whole.0.first().filter(|_| whole.1 && whole.0.len() == 1));
    let mut encoded = Vec::new();
    for message in &whole.0 {
        assert!(message.len() <= MESSAGE_BYTES_MAX, "what comes out is bounded");
        let mut outgoing = Outgoing::with_capacity(message.len());
        outgoing.message().extend_from_slice(message);
        encoded.extend(outgoing.framed(&mut Compressor::new(encoding)));
        check_message(message.clone());
    }
    assert_eq!(decoded([encoded.into()], encoding), (whole.0, true), "a message reads back");
}

fn decoded(chunks: impl IntoIterator<Item = Bytes>, encoding: Compression) -> Decoded {
    let mut decoder = MessageDecoder::new(encoding);
    let mut messages = Vec::new();
    for chunk in chunks {
        decoder.push(chunk);
        loop {
            match decoder.next_message() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(error.status(), 400);
                    return (messages, false);
                }
            }
        }
    }
    (messages, decoder.finish().is_ok())
}

fn check_message(message: Bytes) {
    if let Ok(input) = append_request(message.clone()) {
        check_input(&input.batch, &input.conditions);
    }
    if let Ok(request) = decode::<v1alpha::ReconfigureBasinRequest>(message.clone()) {
        let _ = config::basin_change(request.config.as_ref(), request.mask.as_ref().map(|mask| &*mask.paths));
    }
    if let Ok(request) = decode::<v1alpha::IssueAccessTokenRequest>(message.clone()) {
        let _ = request.info.map(token::issue_access_token);
    }
    if let Ok(request) = decode::<v1alpha::ReadSessionRequest>(message) {
        let _ = read::read_session_request(&request);
    }
}

/// What is sent of stored records is what is stored.
fn check_stored(run: &[u8]) {
    let Ok(records) = StoredRecords::new(run).collect::<Result<Vec<_>, _>>() else { return };
    let Ok(response) = read::batch_response(&[Bytes::copy_from_slice(run)]) else { return };
    let framed = response.framed(&mut Compressor::new(Compression::None));
    let response: v1alpha::ReadSessionResponse = decode(framed[HEAD_BYTES..].to_vec().into()).expect("well formed");
    let output = response.output.and_then(|output| output.output);
    let Some(v1alpha::read_output::Output::Batch(batch)) = output else { panic!("a batch") };
    assert_eq!(batch.records.len(), records.len());
    for (sent, stored) in batch.records.iter().zip(records) {
        assert_eq!((sent.seq_num, sent.timestamp), (stored.position.seq_num, stored.position.timestamp));
        assert_eq!(sent.body, stored.body);
        assert!(stored.headers().eq(sent.headers.iter().map(|header| (&*header.name, &*header.value))));
    }
}
