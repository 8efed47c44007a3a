//! In-place decoding says what prost says.

use model::varint;
use proptest::prelude::*;
use prost::Message as _;

use super::v1alpha::{AppendRecord as Record, AppendRequest, AppendResponse, Header};
use super::*;
use model::Position;

fn message(input: v1alpha::AppendInput) -> Bytes {
    AppendRequest { input: Some(input) }.encode_to_vec().into()
}

fn record(headers: &[(&'static str, &'static str)], body: &'static str, timestamp: Option<u64>) -> Record {
    let headers = headers.iter().map(|(name, value)| Header { name: (*name).into(), value: (*value).into() }).collect();
    Record { headers, body: body.into(), timestamp }
}

fn meaning(input: &AppendInput) -> Vec<Record> {
    let bytes = input.batch.bytes();
    let header = |(name, value): (&[u8], &[u8])| Header { name: name.to_vec().into(), value: value.to_vec().into() };
    let records = input.batch.records().iter();
    records
        .map(|r| Record {
            headers: r.headers(bytes).map(header).collect(),
            body: r.body(bytes).to_vec().into(),
            timestamp: r.timestamp,
        })
        .collect()
}

fn records() -> impl Strategy<Value = Vec<Record>> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from);
    let name = prop::collection::vec(any::<u8>(), 1..20).prop_map(Bytes::from);
    let header = (name, bytes()).prop_map(|(name, value)| Header { name, value });
    let record = (prop::collection::vec(header, 0..4), bytes(), any::<Option<u64>>());
    prop::collection::vec(record.prop_map(|(headers, body, timestamp)| Record { headers, body, timestamp }), 1..20)
}

proptest! {
    #[test]
    fn a_message_is_what_prost_says(
        records in records(), match_seq_num in any::<Option<u64>>(),
        fencing_token in prop::option::of("[a-z]{0,36}"), stream in "[a-z/]{0,20}",
    ) {
        let input = v1alpha::AppendInput { stream, records, match_seq_num, fencing_token };
        let in_place = append_request(message(input.clone())).expect("valid");
        prop_assert_eq!(&in_place, &AppendInput { batch: in_place.batch.clone(), ..regular(message(input.clone())).expect("valid") });
        prop_assert_eq!(meaning(&in_place), input.records);
        prop_assert_eq!(in_place.stream, input.stream);
        prop_assert_eq!(in_place.conditions.match_seq_num, input.match_seq_num);
        prop_assert_eq!(in_place.conditions.fencing_token.map(|t| t.as_str().to_owned()), input.fencing_token);
    }

    #[test]
    fn garbage_never_panics(garbage in prop::collection::vec(any::<u8>(), 0..60), records in records(), at in any::<prop::sample::Index>(), bits in any::<u8>()) {
        let _ = append_request(garbage.into());
        let mut damaged = message(v1alpha::AppendInput { records, ..Default::default() }).to_vec();
        let at = at.index(damaged.len());
        damaged[at] ^= bits;
        let _ = append_request(damaged.into());
    }
}

#[test]
fn bodies_stay_where_they_arrived() {
    let sent = message(v1alpha::AppendInput { records: vec![record(&[], "body", None)], ..Default::default() });
    let range = sent.as_ptr_range();
    let input = append_request(sent).expect("valid");
    assert!(range.contains(&input.batch.bytes().as_ptr()));
}

#[test]
fn scattered_headers_and_split_inputs_mean_the_same() {
    let field = |tag: u8, bytes: &[u8]| {
        let mut out = vec![tag];
        varint::push(&mut out, bytes.len() as u64);
        [out, bytes.to_vec()].concat()
    };
    let header = |name: &str| field(0x0a, &field(0x0a, name.as_bytes()));
    let scattered = field(0x12, &[header("a"), field(0x12, b"body"), header("b")].concat());
    let expected = vec![record(&[("a", ""), ("b", "")], "body", None)];
    let whole = field(0x0a, &scattered);
    assert_eq!(meaning(&append_request(whole.into()).expect("valid")), expected);
    let split = [field(0x0a, &scattered), field(0x0a, &field(0x0a, b"s"))].concat();
    let input = append_request(split.into()).expect("valid");
    assert_eq!((meaning(&input), input.stream.as_str()), (expected, "s"));
}

#[test]
fn what_is_wrong_is_told() {
    let with = |records, fencing_token: Option<&str>| {
        let fencing_token = fencing_token.map(str::to_owned);
        message(v1alpha::AppendInput { records, fencing_token, ..Default::default() })
    };
    for (sent, text) in [
        (Bytes::new(), "input is missing"),
        (with(vec![], None), "must not be empty"),
        (with(vec![record(&[], "", None); 1001], None), "1000 records"),
        (with(vec![record(&[("", "x")], "", None)], None), "unknown command"),
        (with(vec![record(&[("", "fence")], "", None)], Some(&"x".repeat(37))), "36 bytes"),
        (Bytes::from_static(b"\x0a\x05x"), "decode"),
        (Bytes::from_static(b"\x0a\x03\x0a\x01\xff"), "UTF-8"),
        (Bytes::from_static(b"\x08\x01"), "decode"),
    ] {
        let error = append_request(sent).expect_err(text);
        assert!(error.body_json().contains(text), "{} should say {text}", error.body_json());
    }
}

#[test]
fn an_ack_has_all_six_numbers() {
    let at = |seq_num, timestamp| Position { seq_num, timestamp };
    let framed = append_response(&AppendAck { start: at(1, 2), end: at(3, 4), tail: at(5, 6) })
        .framed(&mut crate::compression::Compressor::new(crate::Compression::None));
    let output =
        AppendResponse::decode(&framed[super::super::frame::HEAD_BYTES..]).expect("valid").output.expect("set");
    let numbers = (output.start_seq_num, output.end_seq_num, output.next_seq_num);
    assert_eq!(numbers, (1, 3, 5));
    assert_eq!((output.start_timestamp, output.end_timestamp, output.last_timestamp), (2, 4, 6));
}
