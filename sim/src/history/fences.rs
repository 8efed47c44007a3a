//! Which fencing token was in force where, as far as the places of fence commands are known.

use std::collections::BTreeMap;

use super::slots::Slots;
use super::{Op, OpId, StreamHistory};

/// The fence commands of a stream.
#[derive(Debug)]
pub(super) struct Fences<'a> {
    /// Those whose place is known, in the stream's order.
    placed: Vec<Fence<'a>>,
    /// For each token, the stretches of lengths of the stream at which it was in force, in order; both ends included.
    in_force: BTreeMap<&'a str, Vec<(u64, u64)>>,
    /// Tokens of commands that may be anywhere or nowhere, with the time at which the first of each was started.
    unplaced: BTreeMap<&'a str, u64>,
}

#[derive(Debug, Clone, Copy)]
struct Fence<'a> {
    start: u64,
    end: u64,
    token: &'a str,
    op: OpId,
}

/// The token that the last known fence command before a place has set.
#[derive(Debug, Clone, Copy)]
pub(super) struct InForce<'a> {
    pub(super) token: &'a str,
    /// Length of the stream from which on it is in force.
    pub(super) since: u64,
    /// `None` for the empty token that every stream begins with.
    pub(super) set_by: Option<OpId>,
}

impl<'a> Fences<'a> {
    pub(super) fn of(history: &'a StreamHistory, slots: &Slots<'_>) -> Self {
        let (mut placed, mut unplaced) = (Vec::new(), BTreeMap::new());
        for op in history.ops() {
            let Some(append) = Op::append_that_may_be(op) else { continue };
            let Some(token) = append.sets_fencing_token.as_deref() else { continue };
            match slots.start(op.id) {
                Some(start) => placed.push(Fence { start, end: start + append.len(), token, op: op.id }),
                None if slots.has_room(append) => drop(unplaced.entry(token).or_insert(op.started)),
                None => {}
            }
        }
        placed.sort_unstable_by_key(|fence| fence.start);
        let mut in_force: BTreeMap<&str, Vec<(u64, u64)>> = BTreeMap::new();
        let (mut token, mut since) = ("", 0);
        for fence in &placed {
            in_force.entry(token).or_default().push((since, fence.start));
            (token, since) = (fence.token, fence.end);
        }
        in_force.entry(token).or_default().push((since, u64::MAX));
        Self { placed, in_force, unplaced }
    }

    /// The token in force for an append that begins at `start`, if no command of unknown place lies between.
    pub(super) fn at(&self, start: u64) -> InForce<'a> {
        let count = self.placed.partition_point(|fence| fence.end <= start);
        match self.placed[..count].last() {
            Some(fence) => InForce { token: fence.token, since: fence.end, set_by: Some(fence.op) },
            None => InForce { token: "", since: 0, set_by: None },
        }
    }

    /// The least length of the stream within `low..=high` at which `token` was in force, by commands of known place.
    pub(super) fn first_in_force(&self, token: &str, low: u64, high: u64) -> Option<u64> {
        let stretches = self.in_force.get(token)?;
        let (from, _) = stretches.get(stretches.partition_point(|(_, to)| *to < low))?;
        let first = (*from).max(low);
        (first <= high).then_some(first)
    }

    /// Whether a command of unknown place, started before `time`, sets `token`.
    pub(super) fn may_be_set(&self, token: &str, time: u64) -> bool {
        self.unplaced.get(token).is_some_and(|started| *started < time)
    }
}
