//! Inputs decode to what protobuf says, in place when they can; acks and batches read back.

use proptest::prelude::*;

use super::*;

/// What a decoded batch holds, by value.
type Plain = (Option<u64>, Vec<(Vec<u8>, Vec<u8>)>, Vec<u8>);

fn plain(batch: &Batch) -> Vec<Plain> {
    let bytes = batch.bytes();
    let headers = |r: &model::RecordSpan| r.headers(bytes).map(|(n, v)| (n.to_vec(), v.to_vec())).collect();
    batch.records().iter().map(|r| (r.timestamp, headers(r), r.body(bytes).to_vec())).collect()
}

fn code(result: Result<(Batch, AppendConditions), ApiError>) -> Option<Code> {
    result.expect_err("refused").code()
}

fn records() -> impl Strategy<Value = Vec<Plain>> {
    let bytes = |len| prop::collection::vec(any::<u8>(), len);
    let header = (bytes(1..9), bytes(0..40));
    prop::collection::vec((any::<Option<u64>>(), prop::collection::vec(header, 0..4), bytes(0..200)), 1..9)
}

fn encode(records: &[Plain], conditions: &AppendConditions) -> Vec<u8> {
    let headers: Vec<Vec<(&[u8], &[u8])>> =
        records.iter().map(|(_, headers, _)| headers.iter().map(|(n, v)| (&n[..], &v[..])).collect()).collect();
    let records: Vec<_> = records
        .iter()
        .zip(&headers)
        .map(|((timestamp, _, body), headers)| AppendRecord { timestamp: *timestamp, headers, body })
        .collect();
    encode_append_input(&records, conditions)
}

proptest! {
    #[test]
    fn inputs_read_back(records in records(), match_seq_num in any::<Option<u64>>(), token in "\\PC{0,9}", has_token: bool) {
        let fencing_token = has_token.then(|| FencingToken::try_from(token.as_str()).expect("at most 36 bytes"));
        let conditions = AppendConditions { match_seq_num, fencing_token };
        let (batch, back) = append_input(encode(&records, &conditions).into()).expect("valid");
        prop_assert_eq!(plain(&batch), records);
        prop_assert_eq!(back, conditions);
    }

    #[test]
    fn cut_or_flipped_inputs_never_panic(records in records(), at: prop::sample::Index, flip: u8) {
        let mut bytes = encode(&records, &AppendConditions::default());
        let at = at.index(bytes.len());
        let _ = append_input(bytes[..at].to_vec().into());
        bytes[at] ^= flip;
        let _ = append_input(bytes.into());
    }

    #[test]
    fn fields_in_any_order_mean_the_same(fields in prop::collection::vec((0..4u8, any::<u8>()), 0..12)) {
        let (mut record, mut expected) = (Vec::new(), (None, Vec::new(), Vec::new()));
        for (kind, byte) in fields {
            match kind {
                0 => { record.extend([0x08, byte & 0x7f]); expected.0 = Some(u64::from(byte & 0x7f)) }
                1 => { record.extend([0x12, 3, 0x0a, 1, byte]); expected.1.push((vec![byte], vec![])) }
                2 => { record.extend([0x1a, 1, byte]); expected.2 = vec![byte] }
                _ => record.extend([0x3a, 1, byte]),
            }
        }
        let input = [&[0x0a, u8::try_from(record.len()).expect("short")][..], &record].concat();
        let (batch, _) = append_input(input.into()).expect("valid");
        prop_assert_eq!(plain(&batch), [expected]);
    }

    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = append_input(bytes.clone().into());
        let _ = decode_append_ack(&bytes);
        if let Ok(batch) = decode_read_batch(&bytes) {
            let _ = batch.records.count();
        }
    }

    #[test]
    fn acks_read_back(n in any::<[u64; 6]>(), zeros in any::<[bool; 6]>()) {
        let n: Vec<u64> = n.iter().zip(zeros).map(|(n, zero)| if zero { 0 } else { *n }).collect();
        let at = |i: usize| Position { seq_num: n[i], timestamp: n[i + 1] };
        let ack = AppendAck { start: at(0), end: at(2), tail: at(4) };
        prop_assert_eq!(decode_append_ack(&append_ack(&ack)).expect("valid"), ack);
    }
}

#[test]
fn an_input_is_decoded_in_place() {
    let input = Bytes::from(encode(
        &[(Some(1), vec![(b"n".to_vec(), b"v".to_vec())], b"body".to_vec())],
        &AppendConditions::default(),
    ));
    let (batch, _) = append_input(input.clone()).expect("valid");
    assert_eq!(batch.bytes().as_ptr(), input.as_ptr());
}

#[test]
fn odd_but_legal_inputs_are_understood() {
    let header = |name: &[u8]| [&[0x12, 3, 0x0a, 1], name].concat();
    // Body, a header, two timestamps of which the last counts, an unknown field, a header, the body again.
    let record =
        [&[0x1a, 1, b'x'][..], &header(b"a"), &[0x08, 1, 0x08, 2], &[0x7a, 1, 0], &header(b"b"), &[0x1a, 1, b'y']]
            .concat();
    let mut input = vec![0x10, 9, 0x1a, 2, b'm', b'e', 0x0a, u8::try_from(record.len()).expect("short")];
    input.extend(&record);
    input.extend([0x78, 1, 0x10, 7]);
    let (batch, conditions) = append_input(input.into()).expect("valid");
    let named = |name: &str| (name.as_bytes().to_vec(), vec![]);
    assert_eq!(plain(&batch), [(Some(2), vec![named("a"), named("b")], b"y".to_vec())]);
    assert_eq!(conditions.match_seq_num, Some(7));
    assert_eq!(conditions.fencing_token.expect("given").as_str(), "me");
}

#[test]
fn what_is_wrong_gets_its_code() {
    let conditions = |token: &str| [&[0x1a, u8::try_from(token.len()).expect("short")], token.as_bytes()].concat();
    let record: &[u8] = &[0x0a, 0];
    let rows: [(&str, Vec<u8>, Code); 11] = [
        ("no record", vec![], Code::Invalid),
        ("cut off", vec![0x0a, 5, 0], Code::BadProto),
        ("a record that is a number", vec![0x08, 0], Code::BadProto),
        ("a body that is a number", vec![0x0a, 2, 0x18, 0], Code::BadProto),
        ("a header cut off", vec![0x0a, 3, 0x12, 1, 0x0a], Code::BadProto),
        ("a header name that is a number", vec![0x0a, 4, 0x12, 2, 0x08, 0], Code::BadProto),
        ("a header without a name that is no command", vec![0x0a, 2, 0x12, 0], Code::Invalid),
        ("too many records", record.repeat(1001), Code::Invalid),
        ("too many records and then no protobuf", [&record.repeat(1001)[..], &[0x0a]].concat(), Code::BadProto),
        ("a long token", [record, &conditions(&"x".repeat(37))].concat(), Code::Invalid),
        ("a token that is not UTF-8", [record, &[0x1a, 1, 0xff]].concat(), Code::BadProto),
    ];
    for (what, input, expected) in rows {
        assert_eq!(code(append_input(input.into())), Some(expected), "{what}");
    }
}

#[test]
fn an_ack_has_all_positions_even_at_zero() {
    let ack = AppendAck { end: Position { seq_num: 1, timestamp: 0 }, ..AppendAck::default() };
    assert_eq!(append_ack(&ack), [0x0a, 0, 0x12, 2, 8, 1, 0x1a, 0]);
    assert_eq!(append_ack(&AppendAck::default()), [0x0a, 0, 0x12, 0, 0x1a, 0]);
}

#[test]
fn a_read_batch_is_records_then_tail() {
    let run = [0x0a, 5, 0x08, 1, 0x22, 1, b'x'];
    let tail = Position { seq_num: 2, timestamp: 0 };
    let bytes = [&run[..], &model::stored::tail_field(tail)].concat();
    let batch = decode_read_batch(&bytes).expect("valid");
    assert_eq!(batch.tail, Some(tail));
    let records: Vec<_> = batch.records.map(|r| r.expect("valid")).collect();
    assert_eq!((records.len(), records[0].position.seq_num, records[0].body), (1, 1, &b"x"[..]));
    assert_eq!(decode_read_batch(&[]).expect("an empty batch").tail, None);
}
