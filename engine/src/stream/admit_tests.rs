//! The append rules as tables: each row is one line of s2-wire.md 4.2-4.3.

use std::sync::Arc;

use bytes::Bytes;
use model::config::StreamConfig;
use model::record::{BatchBuilder, Span};
use model::{BasinId, StreamId, StreamName};

use super::*;

fn stream(config: StreamConfig) -> Stream {
    let config = Arc::new(config.resolve(&StreamConfig::default()));
    let mut stream = Stream::new(StreamId(1), BasinId(1), StreamName::try_from("s").expect("valid"), config, 0);
    stream.next = Position { seq_num: 10, timestamp: 500 };
    stream.next_token = Some(FencingToken::try_from("me").expect("valid"));
    stream
}

fn batch(timestamps: &[Option<u64>]) -> Batch {
    let mut builder = BatchBuilder::new(Bytes::from_static(b"x"));
    for timestamp in timestamps {
        builder.push(*timestamp, Span::default(), Span::new(0, 1).expect("small")).expect("valid");
    }
    builder.finish().expect("valid")
}

const FREE: Conditions<'_> = Conditions { match_seq_num: None, fencing_token: None };

/// `client-prefer 1000: 700 - 900` reads: in that mode, at time 1000, a record with 700, one without, one with 900.
#[track_caller]
fn check_timestamps(script: &str, expected: &str) {
    let (setting, given) = script.split_once(": ").expect("a colon");
    let (mode, now_ms) = setting.rsplit_once(' ').expect("a time");
    let timestamping_mode = Some(match mode.trim_end_matches(" uncapped") {
        "client-prefer" => TimestampingMode::ClientPrefer,
        "client-require" => TimestampingMode::ClientRequire,
        "arrival" => TimestampingMode::Arrival,
        other => panic!("no mode {other}"),
    });
    let timestamping_uncapped = Some(mode.ends_with("uncapped"));
    let stream = stream(StreamConfig { timestamping_mode, timestamping_uncapped, ..StreamConfig::default() });
    let given: Vec<_> = given.split(' ').map(|t| t.parse().ok()).collect();
    let mut scratch = [0; BATCH_RECORDS_MAX];
    let got = match admit(&stream, &batch(&given), FREE, now_ms.parse().expect("a number"), &mut scratch) {
        Ok(admitted) => {
            assert_eq!(admitted.first.timestamp, scratch[0]);
            assert_eq!(admitted.end.timestamp, scratch[given.len() - 1]);
            scratch[..given.len()].iter().map(u64::to_string).collect::<Vec<_>>().join(" ")
        }
        Err(rejected) => rejected.to_string(),
    };
    assert_eq!(got, expected, "{script}");
}

#[test]
fn timestamps_follow_their_mode() {
    check_timestamps("client-prefer 1000: 700 - 900", "700 1000 1000");
    check_timestamps("client-prefer 1000: 1 600 550", "500 600 600");
    check_timestamps("client-prefer 1000: 2000 700", "1000 1000");
    check_timestamps("client-prefer uncapped 1000: 2000 700 -", "2000 2000 2000");
    check_timestamps("client-require 1000: 700 800", "700 800");
    check_timestamps("client-require 1000: 700 -", "record timestamp was required but was missing");
    check_timestamps("arrival 1000: 700 - 2000", "1000 1000 1000");
    check_timestamps("arrival uncapped 1000: 2000", "1000");
    check_timestamps("arrival 400: -", "500");
}

fn judged(match_seq_num: Option<u64>, token: Option<&str>) -> Result<u64, Rejected> {
    let token = token.map(|t| FencingToken::try_from(t).expect("valid"));
    let conditions = Conditions { match_seq_num, fencing_token: token.as_ref() };
    let mut scratch = [0; BATCH_RECORDS_MAX];
    admit(&stream(StreamConfig::default()), &batch(&[None, None]), conditions, 1000, &mut scratch)
        .map(|a| a.end.seq_num)
}

#[test]
fn conditions_are_judged_token_first() {
    let mismatch = || Rejected::FencingTokenMismatch(FencingToken::try_from("me").expect("valid"));
    assert_eq!(judged(None, None), Ok(12), "fencing is cooperative");
    assert_eq!(judged(Some(10), Some("me")), Ok(12));
    assert_eq!(judged(Some(9), None), Err(Rejected::SeqNumMismatch(10)));
    assert_eq!(judged(Some(11), Some("me")), Err(Rejected::SeqNumMismatch(10)));
    assert_eq!(judged(Some(9), Some("you")), Err(mismatch()));
    assert_eq!(judged(None, Some("")), Err(mismatch()));
}

#[test]
fn a_stream_under_gcm_ends_before_its_nonces_repeat() {
    let end = 1 << 32;
    for (cipher, next, fits) in [
        (Some(Cipher::Aes256Gcm), end - 2, true),
        (Some(Cipher::Aes256Gcm), end - 1, false),
        (Some(Cipher::Aegis256), end, true),
        (None, end, true),
    ] {
        let mut stream = stream(StreamConfig::default());
        (stream.cipher, stream.next.seq_num) = (cipher, next);
        let admitted = admit(&stream, &batch(&[None, None]), FREE, 1000, &mut [0; BATCH_RECORDS_MAX]);
        match admitted {
            Ok(_) => assert!(fits, "{cipher:?} at {next}"),
            Err(Rejected::Invalid(_)) => assert!(!fits, "{cipher:?} at {next}"),
            Err(other) => panic!("{other}"),
        }
    }
}
