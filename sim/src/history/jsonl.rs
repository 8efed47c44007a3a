//! A history in the format of `s2-porcupine`, S2's own checker of linearizability: one JSON object per line, one file per
//! stream.
//!
//! Its model knows less than ours and its search is exponential, so this is for a second opinion on small histories. It has
//! reads from the first record to the tail only, each with a hash over all bodies ([`chain`]); other reads are left out.
//! Its streams begin without a token rather than with the empty one, so the demand of an empty token is left out.
//! It knows nothing of trims: a history in which a trim had an effect yields no reads. A client goes on under another number
//! after an append without an answer, whose failure is written at the end: until then it may still take effect.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Serialize;

use super::{Append, BodyHash, Call, Op, Outcome, ReadAnswer, StreamHistory};

/// Writes the history of one stream.
///
/// # Errors
/// Those of `out`.
pub fn write_jsonl(history: &StreamHistory, out: &mut impl Write) -> io::Result<()> {
    let mut clients = Clients::default();
    for (op, is_start) in events(history) {
        let Some(call) = Start::of(op) else { continue };
        if is_start {
            clients.take(op);
            line(out, &clients, op, Event::Start(call))?;
            continue;
        }
        match Finish::of(op) {
            Some(finish) => line(out, &clients, op, Event::Finish(finish))?,
            None => clients.retire(op.client),
        }
    }
    for op in history.ops().iter().filter(|op| matches!(op.call, Call::Append(_)) && Finish::of(op).is_none()) {
        line(out, &clients, op, Event::Finish(Finish::AppendIndefiniteFailure))?;
    }
    Ok(())
}

/// Hash over all bodies of a stream, one record further: XXH3-64 of the body's hash in little endian, seeded with the hash
/// so far, which is 0 for an empty stream.
#[must_use]
pub fn chain(so_far: u64, body: BodyHash) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(&body.0.to_le_bytes(), so_far)
}

/// Starts and finishes in their order.
fn events(history: &StreamHistory) -> impl Iterator<Item = (&Op, bool)> {
    let mut events: Vec<(u64, &Op, bool)> = Vec::with_capacity(history.ops().len() * 2);
    for op in history.ops() {
        events.push((op.started, op, true));
        if let Some((at, _)) = &op.finished {
            events.push((*at, op, false));
        }
    }
    events.sort_unstable_by_key(|(at, _, _)| *at);
    events.into_iter().map(|(_, op, is_start)| (op, is_start))
}

/// The numbers under which clients appear: each has one operation at a time.
#[derive(Debug, Default)]
struct Clients {
    current: BTreeMap<u64, u64>,
    next: u64,
    /// By operation.
    of_ops: BTreeMap<u32, u64>,
}

impl Clients {
    fn take(&mut self, op: &Op) {
        let number = *self.current.entry(op.client).or_insert_with(|| {
            self.next += 1;
            self.next - 1
        });
        self.of_ops.insert(op.id.0, number);
    }

    fn retire(&mut self, client: u64) {
        self.current.remove(&client);
    }
}

fn line(out: &mut impl Write, clients: &Clients, op: &Op, event: Event<'_>) -> io::Result<()> {
    let client_id = clients.of_ops[&op.id.0];
    serde_json::to_writer(&mut *out, &Line { event, client_id, op_id: u64::from(op.id.0) })?;
    out.write_all(b"\n")
}

#[derive(Debug, Serialize)]
struct Line<'a> {
    event: Event<'a>,
    client_id: u64,
    op_id: u64,
}

#[derive(Debug, Serialize)]
enum Event<'a> {
    Start(Start<'a>),
    Finish(Finish),
}

#[derive(Debug, Serialize)]
enum Start<'a> {
    Append {
        num_records: u64,
        record_hashes: Vec<u64>,
        set_fencing_token: Option<&'a str>,
        fencing_token: Option<&'a str>,
        match_seq_num: Option<u64>,
    },
    Read,
    CheckTail,
}

impl<'a> Start<'a> {
    /// `None` for what the format cannot tell.
    fn of(op: &'a Op) -> Option<Self> {
        match &op.call {
            Call::Append(Append { bodies, match_seq_num, fencing_token, sets_fencing_token, trims_to: _ }) => {
                Some(Self::Append {
                    num_records: bodies.len() as u64,
                    record_hashes: bodies.iter().map(|body| body.0).collect(),
                    set_fencing_token: sets_fencing_token.as_deref(),
                    fencing_token: fencing_token.as_deref().filter(|token| !token.is_empty()),
                    match_seq_num: *match_seq_num,
                })
            }
            Call::Read { .. } => Finish::of(op).map(|_| Self::Read),
            Call::CheckTail => Finish::of(op).map(|_| Self::CheckTail),
        }
    }
}

#[derive(Debug, Serialize)]
enum Finish {
    AppendSuccess { tail: u64 },
    AppendDefiniteFailure,
    AppendIndefiniteFailure,
    ReadSuccess { tail: u64, stream_hash: u64 },
    ReadFailure,
    CheckTailSuccess { tail: u64 },
    CheckTailFailure,
}

impl Finish {
    /// `None` for an append without an answer, and for what the format cannot tell.
    fn of(op: &Op) -> Option<Self> {
        match op.outcome()? {
            Outcome::Appended(ack) => Some(Self::AppendSuccess { tail: ack.end }),
            Outcome::Refused(_) => Some(Self::AppendDefiniteFailure),
            Outcome::Unknown => None,
            Outcome::Read(ReadAnswer { records, tail }) => {
                let is_whole = records.iter().map(|record| record.seq_num).eq(0..records.len() as u64)
                    && *tail == Some(records.len() as u64);
                let hash = || records.iter().fold(0, |hash, record| chain(hash, record.body));
                is_whole.then(|| Self::ReadSuccess { tail: records.len() as u64, stream_hash: hash() })
            }
            Outcome::Tail(tail) => Some(Self::CheckTailSuccess { tail: *tail }),
            Outcome::Failed => match op.call {
                Call::Read { .. } => Some(Self::ReadFailure),
                Call::CheckTail => Some(Self::CheckTailFailure),
                Call::Append(_) => unreachable!("an append does not end so"),
            },
        }
    }
}
