//! Bodies that tell whose they are: attempt, place in the batch, length; the rest follows from those.

use bytes::Bytes;
use model::Batch;
use model::config::Cipher;
use model::record::{BatchBuilder, Span};
use model::sealed;
use model::stored::StoredRecord;

/// Names one attempt to append; never used twice in a run.
pub(crate) type Attempt = u64;

/// Smallest body.
pub(crate) const BODY_BYTES_MIN: usize = 16;

/// A record to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    /// Data of this many bytes, at least [`BODY_BYTES_MIN`], with a client's timestamp perhaps.
    Data(usize, Option<u64>),
    /// A fence command.
    Fence(&'a str),
    /// A trim command.
    Trim(u64),
}

/// A batch of these records; commands get `timestamp`.
///
/// # Panics
/// When it breaks a limit: the workload keeps to them.
#[must_use]
pub(crate) fn batch(attempt: Attempt, parts: &[Part<'_>], timestamp: Option<u64>) -> Batch {
    let mut raw = Vec::new();
    let mut spans = Vec::with_capacity(parts.len());
    for (place, part) in parts.iter().enumerate() {
        let start = raw.len();
        let (headers, own_timestamp) = match part {
            Part::Data(bytes, timestamp) => {
                let place = u32::try_from(place).expect("at most 1000 records");
                raw.extend_from_slice(&attempt.to_le_bytes());
                raw.extend_from_slice(&place.to_le_bytes());
                raw.extend_from_slice(&u32::try_from(*bytes).expect("at most 1 MiB").to_le_bytes());
                raw.resize(start + bytes, fill(attempt, place));
                (Span::default(), *timestamp)
            }
            Part::Fence(token) => (command(&mut raw, b"fence", token.as_bytes()), timestamp),
            Part::Trim(up_to) => (command(&mut raw, b"trim", &up_to.to_be_bytes()), timestamp),
        };
        let body_start = if headers == Span::default() { start } else { start + header_bytes(part) };
        spans.push((own_timestamp, headers, Span::new(body_start, raw.len() - body_start).expect("at most 1 MiB")));
    }
    let mut builder = BatchBuilder::new(Bytes::from(raw));
    for (timestamp, headers, body) in spans {
        builder.push(timestamp, headers, body).expect("the workload keeps to the limits");
    }
    builder.finish().expect("the workload sends no empty batch")
}

/// Appends a command's one header and its body; returns where the header is.
fn command(raw: &mut Vec<u8>, op: &[u8], body: &[u8]) -> Span {
    let start = raw.len();
    let op_len = u8::try_from(op.len()).expect("short");
    raw.extend_from_slice(&[0x12, 2 + op_len, 0x12, op_len]);
    raw.extend_from_slice(op);
    let span = Span::new(start, raw.len() - start).expect("short");
    raw.extend_from_slice(body);
    span
}

const fn header_bytes(part: &Part<'_>) -> usize {
    match part {
        Part::Data(..) => 0,
        Part::Fence(_) => 4 + 5,
        Part::Trim(_) => 4 + 4,
    }
}

const fn fill(attempt: Attempt, place: u32) -> u8 {
    (attempt.wrapping_mul(31).wrapping_add(place as u64) & 0xff) as u8
}

/// The batch as a front would seal it. No shard opens an envelope, so this one only has the right form: what is secret with
/// every byte changed, by the cipher, and a byte of the cipher in front.
#[must_use]
pub(crate) fn sealed(batch: &Batch, cipher: Option<Cipher>) -> Batch {
    let Some(cipher) = cipher else { return batch.clone() };
    let key = key_of(cipher);
    let seal = |_: u32, clear: &[u8], out: &mut Vec<u8>| {
        out.push(key);
        out.extend(clear.iter().map(|byte| byte ^ key));
        Ok::<(), std::convert::Infallible>(())
    };
    match sealed::seal(batch, cipher, 1, seal) {
        Ok(batch) => batch,
        Err(never) => match never {},
    }
}

const fn key_of(cipher: Cipher) -> u8 {
    match cipher {
        Cipher::Aegis256 => 0x5a,
        Cipher::Aes256Gcm => 0xa7,
    }
}

/// Reads a record back that is no command, as a stream with this cipher has it: whose it is and its place in the batch;
/// `None` when it is not what was made, or not sealed so.
#[must_use]
pub(crate) fn whose(record: &StoredRecord<'_>, cipher: Option<Cipher>) -> Option<(Attempt, u32)> {
    let (sealed, cipher) = match (record.sealed, cipher) {
        (None, None) => return whose_body(record.body),
        (Some(sealed), Some(cipher)) => (sealed, cipher),
        (Some(_), None) | (None, Some(_)) => return None,
    };
    let key = key_of(cipher);
    let (said, envelope) = (sealed::metered_bytes(sealed)?, sealed.get(4..)?);
    let clear: Vec<u8> = envelope.strip_prefix(&[key])?.iter().map(|byte| byte ^ key).collect();
    // `22 len body` and nothing else: what is appended has no headers. The length takes one byte to three.
    let body = (2..=4).filter_map(|start| clear.get(start..)).find_map(|body| Some((body, whose_body(body)?)));
    let (body, whose) = body.filter(|_| clear[0] == 0x22)?;
    (said as usize == 8 + body.len()).then_some(whose)
}

/// Reads a body back.
#[must_use]
fn whose_body(body: &[u8]) -> Option<(Attempt, u32)> {
    let (attempt, rest) = body.split_first_chunk::<8>()?;
    let (place, rest) = rest.split_first_chunk::<4>()?;
    let (bytes, rest) = rest.split_first_chunk::<4>()?;
    let (attempt, place) = (u64::from_le_bytes(*attempt), u32::from_le_bytes(*place));
    let is_whole = u32::from_le_bytes(*bytes) as usize == body.len();
    let byte = fill(attempt, place);
    (is_whole && rest.iter().all(|b| *b == byte)).then_some((attempt, place))
}

#[cfg(test)]
mod tests {
    use model::stored::{self, StoredRecords};

    use super::*;

    #[test]
    fn a_body_tells_whose_it_is_and_a_changed_one_does_not() {
        let batch = batch(77, &[Part::Data(40, None), Part::Fence("me"), Part::Data(16, Some(3)), Part::Trim(9)], None);
        let bodies: Vec<Vec<u8>> = batch.records().iter().map(|r| r.body(batch.bytes()).to_vec()).collect();
        assert_eq!((whose_body(&bodies[0]), whose_body(&bodies[2])), (Some((77, 0)), Some((77, 2))));
        assert_eq!(bodies[1], b"me");
        let mut changed = bodies[0].clone();
        changed[33] ^= 4;
        assert_eq!((whose_body(&changed), whose_body(&bodies[0][..39])), (None, None));
        assert!(batch.records()[3].is_command);
    }

    #[test]
    fn a_record_tells_whose_it_is_only_under_its_own_cipher() {
        const CIPHERS: [Option<Cipher>; 3] = [None, Some(Cipher::Aegis256), Some(Cipher::Aes256Gcm)];
        for (ours, bytes) in CIPHERS.into_iter().flat_map(|cipher| [16, 200, 70_000].map(|bytes| (cipher, bytes))) {
            let batch = sealed(&batch(5, &[Part::Data(bytes, Some(9)), Part::Fence("me")], Some(9)), ours);
            let mut run = vec![0; batch.stored_bytes_max()];
            let len = stored::put_batch(&mut run, &batch, 3, &[9; model::limits::BATCH_RECORDS_MAX]);
            let records: Vec<_> = StoredRecords::new(&run[..len]).map(|record| record.expect("just written")).collect();
            for theirs in CIPHERS {
                assert_eq!(whose(&records[0], theirs), (ours == theirs).then_some((5, 0)), "{bytes} {ours:?}");
            }
            assert!(records[1].command().is_some(), "a command is clear");
        }
    }
}
