//! Appends over gRPC, package `s2.v1alpha` (s2-wire.md 5): the few messages that they need, by hand, so that the generator
//! costs as little here as with the other protocols.

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, Method, header};
use model::varint::{self, Fields, Malformed, Value};

use super::codec::Ack;
use super::http2::RequestHead;
use super::{ClientError, Result, Target};
use crate::payload::Payload;
use crate::settings::Endpoint;

/// Head of a request for an RPC of the stream service.
pub(crate) fn head(endpoint: &Endpoint, rpc: &str, target: &Target) -> RequestHead {
    let headers = [(header::CONTENT_TYPE, "application/grpc"), (HeaderName::from_static("te"), "trailers")];
    RequestHead::at(endpoint, Method::POST, &format!("/s2.v1alpha.StreamService/{rpc}"), target, &headers)
}

/// An `AppendRequest` or `AppendSessionRequest`, as it goes over the wire.
pub(crate) fn append(target: &Target, payload: &Payload) -> Bytes {
    let mut input = Vec::with_capacity(payload.grpc_records.len() + 100);
    put_field(&mut input, 1, target.stream.as_bytes());
    input.extend_from_slice(&payload.grpc_records);
    let mut request = Vec::with_capacity(input.len() + 10);
    put_field(&mut request, 1, &input);
    let mut framed = Vec::with_capacity(request.len() + PREFIX_BYTES);
    framed.push(0);
    framed.extend_from_slice(&u32::try_from(request.len()).expect("a batch is about 1 MiB").to_be_bytes());
    framed.extend_from_slice(&request);
    framed.into()
}

/// A record as a field of `AppendInput`: only its body.
pub(crate) fn put_record(out: &mut Vec<u8>, body: &[u8]) {
    out.push(2 << 3 | 2);
    varint::push(out, (1 + varint::len(body.len() as u64) + body.len()) as u64);
    put_field(out, 2, body);
}

fn put_field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    varint::push(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads an `AppendResponse` to a batch of `records` records.
pub(crate) fn ack(message: &[u8], records: u64) -> Result<Ack> {
    let wrong = |_: Malformed| ClientError::Wrong("an answer that is no AppendResponse");
    let (mut start, mut end) = (0, 0);
    for field in Fields::new(message) {
        let (1, Value::Bytes(output, _)) = field.map_err(wrong)? else { continue };
        for field in Fields::new(output) {
            match field.map_err(wrong)? {
                (1, Value::Varint(n)) => start = n,
                (2, Value::Varint(n)) => end = n,
                _ => {}
            }
        }
    }
    Ack::between(start, end, records)
}

/// Whether a call ended well, as its trailers, or for lack of them its headers, tell.
pub(crate) fn check(status: u16, trailers: &HeaderMap) -> Result<()> {
    let text = |name: &str| trailers.get(name).and_then(|value| value.to_str().ok());
    match (status, text("grpc-status")) {
        (200, Some("0")) => Ok(()),
        (200, code) => {
            let said = format!("grpc-status {}: {}", code.unwrap_or("is missing"), text("grpc-message").unwrap_or(""));
            Err(ClientError::status(status, said.as_bytes()))
        }
        _ => Err(ClientError::status(status, b"")),
    }
}

/// Cuts what arrives into messages.
#[derive(Debug, Default)]
pub(crate) struct Messages(BytesMut);

impl Messages {
    pub(crate) fn push(&mut self, chunk: &[u8]) {
        self.0.extend_from_slice(chunk);
    }

    /// The next message that has arrived whole.
    pub(crate) fn next_message(&mut self) -> Result<Option<Bytes>> {
        let Some(prefix) = self.0.first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
        let [flag, length @ ..] = *prefix;
        if flag != 0 {
            return Err(ClientError::Wrong("a compressed message, which was not asked for"));
        }
        let length = u32::from_be_bytes(length) as usize;
        if self.0.len() < PREFIX_BYTES + length {
            return Ok(None);
        }
        self.0.advance(PREFIX_BYTES);
        Ok(Some(self.0.split_to(length).freeze()))
    }

    /// Nothing may be left when the answer ends.
    pub(crate) fn finish(&self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(ClientError::Closed) }
    }
}

const PREFIX_BYTES: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_append_is_framed_and_its_answer_is_read() {
        let payload = Payload::single(2);
        let framed = append(&Target::new("some-basin", "s"), &payload);
        // input { stream: "s", records { body: 2 bytes } }
        assert_eq!(framed[..14], [0, 0, 0, 0, 11, 0x0a, 9, 0x0a, 1, b's', 0x12, 4, 0x12, 2]);
        // output { start_seq_num: 5, end_seq_num: 6, next_seq_num: 6 }
        let answer = b"\x0a\x06\x08\x05\x10\x06\x18\x06";
        assert_eq!(ack(answer, 1).expect("good"), Ack { start: 5, end: 6 });
        assert!(ack(answer, 2).is_err());
        for cut in 0..answer.len() {
            assert!(ack(&answer[..cut], 1).is_err(), "{cut} bytes");
        }
    }

    #[test]
    fn messages_are_cut_however_the_bytes_arrive() {
        let wire = b"\0\0\0\0\x02ab\0\0\0\0\0\0\0\0\0\x01c";
        for step in 1..=wire.len() {
            let (mut messages, mut seen) = (Messages::default(), Vec::new());
            for chunk in wire.chunks(step) {
                messages.push(chunk);
                while let Some(message) = messages.next_message().expect("good") {
                    seen.push(message);
                }
            }
            assert_eq!(seen, [&b"ab"[..], b"", b"c"], "steps of {step}");
            assert!(messages.finish().is_ok());
        }
    }
}
