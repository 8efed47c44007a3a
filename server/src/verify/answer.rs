//! What an answer of the server means: did it happen, did it certainly not, or does nobody know.

use serde::Deserialize;
use sim::history::{Ack, BodyHash, Outcome, Refusal, Seen};

/// An answer that breaks the protocol, in words.
pub(super) type Breach = String;

/// What became of an append.
pub(super) fn append(status: u16, body: &[u8]) -> Result<Outcome, Breach> {
    match status {
        200 => {
            let ack = api::proto::decode_append_ack(body).map_err(|_| breach("an ack", status, body))?;
            let (start, end) = (ack.start.seq_num, ack.end.seq_num);
            Ok(Outcome::Appended(Ack { start, end, tail: Some(ack.tail.seq_num) }))
        }
        412 => match serde_json::from_slice(body) {
            Ok(ConditionFailed::SeqNumMismatch(actual)) => Ok(Outcome::Refused(Refusal::SeqNumMismatch { actual })),
            Ok(ConditionFailed::FencingTokenMismatch(actual)) => {
                Ok(Outcome::Refused(Refusal::FencingTokenMismatch { actual }))
            }
            Err(_) => Err(breach("a failed condition", status, body)),
        },
        _ => Ok(match serde_json::from_slice::<Failed>(body) {
            Ok(failed) if is_without_effect(&failed.code, status) => Outcome::Refused(Refusal::Other(failed.code)),
            Ok(_) | Err(_) => Outcome::Unknown,
        }),
    }
}

/// The tail that an answer to a check-tail tells; `None` when it is an error.
pub(super) fn tail(status: u16, body: &[u8]) -> Result<Option<u64>, Breach> {
    match status {
        200 => unwritten(body).map(Some).ok_or_else(|| breach("a tail", status, body)),
        _ => Ok(None),
    }
}

/// A part of a read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Page {
    /// Some records; there may be more.
    Records(Vec<Seen>),
    /// Nothing from here on, and this is the tail.
    End { tail: u64 },
    /// No answer to the question.
    Failed,
}

/// What an answer to a read tells.
pub(super) fn page(status: u16, body: &[u8]) -> Result<Page, Breach> {
    match status {
        200 => {
            let batch = api::proto::decode_read_batch(body).map_err(|_| breach("records", status, b""))?;
            let mut records = Vec::new();
            for record in batch.records {
                let record = record.map_err(|_| breach("records", status, b""))?;
                let (seq_num, timestamp) = (record.position.seq_num, record.position.timestamp);
                records.push(Seen { seq_num, timestamp, body: BodyHash::of(record.body) });
            }
            Ok(Page::Records(records))
        }
        416 => match unwritten(body) {
            Some(tail) => Ok(Page::End { tail }),
            None => Err(breach("a tail", status, body)),
        },
        _ => Ok(Page::Failed),
    }
}

/// Whether the code promises that nothing happened (s2-wire.md 1.9). Only beside its own status does it count.
fn is_without_effect(code: &str, status: u16) -> bool {
    let expected = match code {
        "bad_frame" | "bad_header" | "bad_json" | "bad_path" | "bad_proto" | "bad_query" | "decryption_failed" => 400,
        "authn" => 401,
        "permission_denied" | "quota_exhausted" => 403,
        "access_token_not_found" | "basin_not_found" | "stream_not_found" => 404,
        "basin_deletion_pending" | "resource_already_exists" | "stream_deletion_pending" | "transaction_conflict" => {
            409
        }
        "invalid" => 422,
        "rate_limited" => 429,
        "not_implemented" => 501,
        "hot_server" => 502,
        "server_draining" => 503,
        _ => return false,
    };
    status == expected
}

#[derive(Debug, Deserialize)]
struct Failed {
    code: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ConditionFailed {
    SeqNumMismatch(u64),
    FencingTokenMismatch(String),
}

#[derive(Debug, Deserialize)]
struct Tail {
    tail: Position,
}

#[derive(Debug, Deserialize)]
struct Position {
    seq_num: u64,
}

fn unwritten(body: &[u8]) -> Option<u64> {
    serde_json::from_slice::<Tail>(body).ok().map(|answer| answer.tail.seq_num)
}

fn breach(wanted: &str, status: u16, body: &[u8]) -> Breach {
    let shown = &body[..body.len().min(BODY_BYTES_SHOWN_MAX)];
    format!("status {status} without {wanted} in it: {}", String::from_utf8_lossy(shown))
}

const BODY_BYTES_SHOWN_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn append_of(status: u16, body: &str) -> Outcome {
        append(status, body.as_bytes()).expect("no breach")
    }

    #[test]
    fn an_ack_says_where_the_batch_is() {
        // start {seq_num: 3}, end {seq_num: 5}, tail {seq_num: 7}.
        let body = b"\x0a\x02\x08\x03\x12\x02\x08\x05\x1a\x02\x08\x07";
        assert_eq!(append(200, body), Ok(Outcome::Appended(Ack { start: 3, end: 5, tail: Some(7) })));
        assert!(append(200, b"\x0a\xff").is_err());
    }

    #[test]
    fn failed_conditions_are_definite() {
        let mismatch = Outcome::Refused(Refusal::SeqNumMismatch { actual: 7 });
        assert_eq!(append_of(412, r#"{"seq_num_mismatch":7}"#), mismatch);
        let mismatch = Outcome::Refused(Refusal::FencingTokenMismatch { actual: String::new() });
        assert_eq!(append_of(412, r#"{"fencing_token_mismatch":""}"#), mismatch);
        assert!(append(412, b"{}").is_err());
    }

    #[test]
    fn a_code_promises_something_beside_its_own_status_only() {
        let definite = |status, code: &str| {
            matches!(append_of(status, &format!(r#"{{"code":"{code}","message":""}}"#)), Outcome::Refused(_))
        };
        for (status, code) in
            [(503, "server_draining"), (429, "rate_limited"), (404, "stream_not_found"), (422, "invalid")]
        {
            assert!(definite(status, code), "{status} {code}");
        }
        for (status, code) in [
            (500, "storage"),
            (500, "other"),
            (503, "unavailable"),
            (408, "request_timeout"),
            (504, "upstream_timeout"),
            (500, "rate_limited"),
            (400, "unheard_of"),
        ] {
            assert!(!definite(status, code), "{status} {code}");
        }
        assert_eq!(append_of(502, "<html>a proxy</html>"), Outcome::Unknown);
    }

    #[test]
    fn reads_end_at_the_tail() {
        let page_of = |status, body: &[u8]| page(status, body).expect("no breach");
        let record = b"\x0a\x07\x08\x02\x10\x09\x22\x01a";
        let seen = Seen { seq_num: 2, timestamp: 9, body: BodyHash::of(b"a") };
        assert_eq!(page_of(200, record), Page::Records(vec![seen]));
        assert_eq!(page_of(416, br#"{"tail":{"seq_num":4,"timestamp":1}}"#), Page::End { tail: 4 });
        assert_eq!(page_of(503, b""), Page::Failed);
        assert!(page(416, b"{}").is_err());
        assert_eq!(tail(200, br#"{"tail":{"seq_num":4,"timestamp":1}}"#), Ok(Some(4)));
        assert_eq!(tail(500, b""), Ok(None));
    }
}
