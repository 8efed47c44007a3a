//! Whose record is it: from the hash of a body to the append that sent it.

use super::{BodyHash, Call, OpId, StreamHistory};

/// All records that were sent, by the hash of their body.
#[derive(Debug)]
pub(super) struct Bodies {
    /// Sorted by hash, then by operation.
    sent: Vec<Sent>,
}

/// A record as it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Sent {
    body: BodyHash,
    pub(super) op: OpId,
    /// Its place in the batch.
    pub(super) place: u32,
}

impl Bodies {
    pub(super) fn of(history: &StreamHistory) -> Self {
        let mut sent = Vec::new();
        for op in history.ops() {
            match op.call() {
                Call::Append(append) => sent.extend(append.bodies.iter().zip(0..).map(|(body, place)| Sent {
                    body: *body,
                    op: op.id,
                    place,
                })),
                Call::Read { .. } | Call::CheckTail => {}
            }
        }
        sent.sort_unstable();
        Self { sent }
    }

    /// All records with this body, by the time of their start. More than one only for bodies of commands.
    pub(super) fn senders(&self, body: BodyHash) -> &[Sent] {
        let start = self.sent.partition_point(|sent| sent.body < body);
        let count = self.sent[start..].iter().take_while(|sent| sent.body == body).count();
        &self.sent[start..start + count]
    }
}
