//! What is sealed opens with the same key for the same stream, and in no other way.

use bytes::Bytes;
use model::Position;
use model::limits::BATCH_RECORDS_MAX;
use model::placement::{BasinId, GroupId};
use model::stored::{StoredRecords, put_batch};
use proptest::prelude::*;

use super::*;

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const OTHER_KEY: &str = "//////////////////////////////////////////8=";
const CIPHERS: [Cipher; 2] = [Cipher::Aegis256, Cipher::Aes256Gcm];

type Plain = (Vec<(Vec<u8>, Vec<u8>)>, Vec<u8>);

fn target(basin: &str, stream: &str) -> Target {
    Target {
        group: GroupId(0),
        basin_id: BasinId(7),
        basin: basin.try_into().expect("a name"),
        stream: stream.try_into().expect("a name"),
        incarnation: None,
    }
}

fn sealer_of(cipher: Cipher, key: &str, basin: &str, stream: &str, id: u64) -> Sealer {
    Sealer::new(cipher, key.as_bytes(), &target(basin, stream), StreamId(id)).expect("a key")
}

fn ours(cipher: Cipher) -> Sealer {
    sealer_of(cipher, KEY, "basin-one", "stream", 5)
}

fn batch_of(records: &[Plain]) -> Batch {
    let headers: Vec<Vec<(&[u8], &[u8])>> =
        records.iter().map(|(headers, _)| headers.iter().map(|(n, v)| (&n[..], &v[..])).collect()).collect();
    let records: Vec<_> = records
        .iter()
        .zip(&headers)
        .map(|((_, body), headers)| api::proto::AppendRecord { timestamp: Some(9), headers, body })
        .collect();
    let input = api::proto::encode_append_input(&records, &api::AppendConditions::default());
    api::proto::append_input(Bytes::from(input)).expect("a batch").0
}

fn stored(batch: &Batch) -> ReadBatch {
    let mut run = vec![0; batch.stored_bytes_max()];
    let taken = put_batch(&mut run, batch, 40, &[9; BATCH_RECORDS_MAX]);
    run.truncate(taken);
    let records_count = batch.records().len() as u64;
    let metered_bytes = batch.metered_bytes().into();
    ReadBatch { runs: vec![run.into()], records_count, metered_bytes, last: Position { seq_num: 40, timestamp: 9 } }
}

fn code(result: Result<ReadBatch, ApiError>) -> Option<String> {
    let body = result.err()?.body;
    let api::status::ErrorBody::Coded(code, message) = body else { return Some(format!("{body:?}")) };
    Some(format!("{}: {message}", code.as_str()))
}

fn records() -> impl Strategy<Value = Vec<Plain>> {
    let header = (prop::collection::vec(any::<u8>(), 1..9), prop::collection::vec(any::<u8>(), 0..150));
    let record = (prop::collection::vec(header, 0..4), prop::collection::vec(any::<u8>(), 0..300));
    prop::collection::vec(record, 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_batch_comes_back_as_it_was_and_meters_the_same(records in records()) {
        let clear = batch_of(&records);
        for cipher in CIPHERS {
            let sealed = ours(cipher).seal(&clear).expect("random bytes");
            prop_assert_eq!(sealed.cipher(), Some(cipher));
            prop_assert_eq!(sealed.metered_bytes(), clear.metered_bytes());
            let read = stored(&sealed);
            prop_assert!(read.runs[0].len() <= sealed.stored_bytes_max());
            let metered: u64 = StoredRecords::new(&read.runs[0]).map(|r| r.expect("sound").metered_bytes).sum();
            prop_assert_eq!(metered, u64::from(clear.metered_bytes()));
            // What a reader gets is, byte for byte, what it would get of a stream without a cipher.
            prop_assert_eq!(ours(cipher).open(&read), Ok(stored(&clear)));
        }
    }

    #[test]
    fn one_changed_bit_fails(records in records(), at in any::<prop::sample::Index>(), bit in 0..8u8) {
        for cipher in CIPHERS {
            let read = stored(&ours(cipher).seal(&batch_of(&records)).expect("random bytes"));
            let mut run = read.runs[0].to_vec();
            let sealed = StoredRecords::new(&run).next().expect("one").expect("sound").sealed.expect("sealed");
            let start = sealed.as_ptr() as usize - run.as_ptr() as usize;
            let at = start + at.index(sealed.len());
            run[at] ^= 1 << bit;
            let failed = code(ours(cipher).open(&ReadBatch { runs: vec![run.into()], ..read }));
            prop_assert_eq!(failed.as_deref(), Some("decryption_failed: record decryption failed"));
        }
    }
}

#[test]
fn another_key_or_stream_does_not_open_it() {
    for cipher in CIPHERS {
        let read = stored(&ours(cipher).seal(&batch_of(&[(vec![], b"secret".to_vec())])).expect("random bytes"));
        for (other, what) in [
            (sealer_of(cipher, OTHER_KEY, "basin-one", "stream", 5), "key"),
            (sealer_of(cipher, KEY, "basin-two", "stream", 5), "basin"),
            (sealer_of(cipher, KEY, "basin-one", "streams", 5), "stream"),
            (sealer_of(cipher, KEY, "basin-one", "stream", 6), "incarnation"),
        ] {
            assert!(code(other.open(&read)).is_some_and(|c| c.starts_with("decryption_failed")), "{what}");
        }
        assert!(ours(cipher).open(&read).is_ok());
    }
}

#[test]
fn the_same_record_never_looks_the_same() {
    for cipher in CIPHERS {
        let batch = batch_of(&[(vec![], b"same".to_vec()), (vec![], b"same".to_vec())]);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..2 {
            let read = stored(&ours(cipher).seal(&batch).expect("random bytes"));
            let sealed = StoredRecords::new(&read.runs[0]).map(|r| r.expect("sound").sealed.expect("sealed").to_vec());
            seen.extend(sealed);
        }
        assert_eq!(seen.len(), 4);
    }
}

#[test]
fn commands_stay_clear_and_a_clear_record_is_refused() {
    let fence: Plain = (vec![(vec![], b"fence".to_vec())], b"token".to_vec());
    for cipher in CIPHERS {
        let clear = batch_of(&[fence.clone(), (vec![], b"secret".to_vec())]);
        let sealed = ours(cipher).seal(&clear).expect("random bytes");
        assert_eq!(sealed.records()[0].command(sealed.bytes()), clear.records()[0].command(clear.bytes()));
        let read = stored(&sealed);
        assert!(!read.runs[0].windows(6).any(|w| w == b"secret"));
        assert_eq!(ours(cipher).open(&read), Ok(stored(&clear)));
        assert_eq!(
            code(ours(cipher).open(&stored(&clear))).as_deref(),
            code(Err(Failure::Corrupt(String::new()).into())).as_deref()
        );
    }
}

#[test]
fn the_largest_batches_fit_when_sealed() {
    let whole = vec![(vec![], vec![b'x'; (1 << 20) - 8])];
    let many: Vec<Plain> = (0..1000).map(|_| (vec![], vec![b'x'; 1040])).collect();
    let headers = vec![(vec![(vec![b'n'], vec![]); 349_000], vec![])];
    for (records, what) in [(whole, "one record"), (many, "1000 records"), (headers, "tiny headers")] {
        for cipher in CIPHERS {
            let sealed = ours(cipher).seal(&batch_of(&records)).expect("random bytes");
            // What an extent has room for (engine), and what an s2s frame carries.
            assert!(sealed.stored_bytes_max() < 2 << 20, "{what}: {}", sealed.stored_bytes_max());
            assert!(ours(cipher).open(&stored(&sealed)).is_ok(), "{what}");
        }
    }
}

#[test]
fn what_is_no_key_is_refused_and_no_text_shows_one() {
    let of = |text: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, text.parse().expect("a header value"));
        headers
    };
    let ask = |headers: &HeaderMap, cipher| sealer(headers, cipher, &target("basin-one", "stream"), StreamId(1));
    let cipher = Some(Cipher::Aegis256);
    for (text, ok) in
        [(KEY, true), (" AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8= ", true), ("AAEC", false), ("?", false)]
    {
        assert_eq!(ask(&of(text), cipher).is_ok(), ok, "{text}");
        assert!(check_header(&of(text)).is_ok());
        assert!(ask(&of(text), None).expect("not even decoded").is_none());
    }
    assert!(check_header(&of(&"A".repeat(45))).is_err() && check_header(&of("")).is_err());
    let missing = ask(&HeaderMap::new(), cipher).expect_err("missing");
    let text = "missing encryption key for stream cipher 'aegis-256'";
    assert_eq!(missing, ApiError::new(Code::BadHeader, text));
    let shown = format!("{:?} {:?}", ours(Cipher::Aegis256), ask(&of("QUJD"), cipher));
    assert!(!shown.contains("AAEC") && !shown.contains("QUJD") && !shown.contains("[0, 1, 2"), "{shown}");
}
