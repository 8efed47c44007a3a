//! Two streams whose clients write down all that they do: a second, black-box opinion by the checker of histories.
//!
//! They are made once and never deleted, and nothing in them expires, so that the history of a name is that of one stream.

use engine::event::{Append, Follow, Op, Read, ReadReply, ReadStart, Reply};
use model::stored::StoredRecords;
use model::{Command, Failure, Rejected};

use super::World;
use super::clients::Place;
use crate::history::{self, Ack, BodyHash, Call, Outcome, ReadAnswer, Refusal, Seen};
use crate::violation::{Rule, Violation, broken};

impl World {
    /// Whether the stream is one whose history is kept.
    pub(super) const fn is_witness(&self, place: Place) -> bool {
        place.basin == self.swarm.basins_count
    }

    /// A stream whose history is kept.
    pub(super) fn witness(&mut self) -> Place {
        let streams_count = WITNESSES_MAX.min(self.streams.len());
        Place { basin: self.swarm.basins_count, stream: self.rng.at(streams_count) }
    }

    /// A request leaves its client.
    pub(super) fn record_start(&mut self, client: usize, token: u64, place: Place, call: Call) {
        let name = self.streams[place.stream].as_str();
        let op = self.history.stream(name).start(client as u64, call);
        self.recorded.insert(token, (place.stream, op));
    }

    /// An answer leaves the shard.
    pub(super) fn record_reply(&mut self, token: u64, reply: &Reply) {
        self.record_end(token, |call| outcome_of(call, reply));
    }

    /// Nobody will ever answer.
    pub(super) fn record_loss(&mut self, token: u64) {
        self.record_end(token, |call| match call {
            Call::Append(_) => Outcome::Unknown,
            Call::Read { .. } | Call::CheckTail => Outcome::Failed,
        });
    }

    fn record_end(&mut self, token: u64, outcome: impl FnOnce(&Call) -> Outcome) {
        let Some((stream, op)) = self.recorded.remove(&token) else { return };
        let history = self.history.stream(self.streams[stream].as_str());
        let outcome = outcome(history.op_of(op).call());
        history.finish(op, outcome);
    }

    /// Whether a linearizable stream could have answered so.
    pub(super) fn check_history(&self) -> Result<(), Violation> {
        match self.history.check() {
            Ok(_) => Ok(()),
            Err((stream, violation)) => broken(Rule::History, format!("stream `{stream}`: {violation}")),
        }
    }
}

/// What the history keeps of a request; `None` when it has no use for it.
pub(super) fn call_of(op: &Op) -> Option<Call> {
    match op {
        Op::Append(append) => Some(Call::Append(append_of(append))),
        Op::CheckTail { .. } => Some(Call::CheckTail),
        Op::Read(Read { start: ReadStart::SeqNum(from), .. }) => Some(Call::Read { from: *from }),
        Op::Follow(Follow { from_seq_num, .. }) => Some(Call::Read { from: *from_seq_num }),
        _ => None,
    }
}

fn append_of(append: &Append) -> history::Append {
    let bytes = append.batch.bytes();
    let commands: Vec<Command> = append.batch.records().iter().filter_map(|r| r.command(bytes)).collect();
    history::Append {
        bodies: append.batch.records().iter().map(|r| BodyHash::of(r.body(bytes))).collect(),
        match_seq_num: append.match_seq_num,
        fencing_token: append.fencing_token.as_ref().map(|t| t.as_str().to_owned()),
        sets_fencing_token: commands.iter().rev().find_map(|c| match c {
            Command::Fence(token) => Some(token.as_str().to_owned()),
            Command::Trim(_) => None,
        }),
        trims_to: commands.iter().filter_map(|c| if let Command::Trim(up_to) = c { Some(*up_to) } else { None }).max(),
    }
}

fn outcome_of(call: &Call, reply: &Reply) -> Outcome {
    match (call, reply) {
        (Call::Append(_), Reply::Appended(a)) => {
            Outcome::Appended(Ack { start: a.start.seq_num, end: a.end.seq_num, tail: Some(a.tail.seq_num) })
        }
        (Call::Append(_), Reply::Failed(Failure::Rejected(Rejected::SeqNumMismatch(actual)))) => {
            Outcome::Refused(Refusal::SeqNumMismatch { actual: *actual })
        }
        (Call::Append(_), Reply::Failed(Failure::Rejected(Rejected::FencingTokenMismatch(token)))) => {
            Outcome::Refused(Refusal::FencingTokenMismatch { actual: token.as_str().to_owned() })
        }
        (Call::Append(_), Reply::Failed(failure)) => Outcome::Refused(Refusal::Other(failure.to_string())),
        // A limit that leaves room for no record says nothing of the stream.
        (Call::Read { .. }, Reply::Read(read)) if read.done && read.batches.is_empty() => Outcome::Failed,
        (Call::Read { .. }, Reply::Read(read)) => Outcome::Read(answer_of(read)),
        (Call::CheckTail, Reply::Tail(tail)) => Outcome::Tail(tail.seq_num),
        (Call::Append(_), _) => Outcome::Unknown,
        (Call::Read { .. } | Call::CheckTail, _) => Outcome::Failed,
    }
}

fn answer_of(read: &ReadReply) -> ReadAnswer {
    let mut records = Vec::new();
    for batch in &read.batches {
        // A record never spans two runs.
        for record in batch.runs.iter().flat_map(|run| StoredRecords::new(run)).filter_map(Result::ok) {
            let (seq_num, timestamp) = (record.position.seq_num, record.position.timestamp);
            records.push(Seen { seq_num, timestamp, body: BodyHash::of(record.body) });
        }
    }
    ReadAnswer { records, tail: Some(read.tail.seq_num) }
}

/// Streams whose history is kept.
const WITNESSES_MAX: usize = 2;
