//! Readers that wait for records, by stream. Bounded: one more than `readers_max` is turned away.

use std::collections::BTreeMap;

use crate::event::{Follow, ReplyTo};
use model::{GroupId, StreamId};

/// The waiting readers of a shard.
#[derive(Debug, Default)]
pub struct Waiters {
    by_stream: BTreeMap<(GroupId, StreamId), Vec<Waiter>>,
    streams: BTreeMap<ReplyTo, (GroupId, StreamId)>,
}

/// One that waits.
#[derive(Debug, Clone)]
pub struct Waiter {
    /// Where its answer goes.
    pub to: ReplyTo,
    /// What it wants.
    pub follow: Follow,
}

impl Waiters {
    /// Lets a reader wait.
    pub fn add(&mut self, stream: (GroupId, StreamId), waiter: Waiter) {
        self.streams.insert(waiter.to, stream);
        self.by_stream.entry(stream).or_default().push(waiter);
    }

    /// Lets a reader wait no more.
    pub fn cancel(&mut self, to: ReplyTo) {
        let Some(stream) = self.streams.remove(&to) else { return };
        let Some(waiters) = self.by_stream.get_mut(&stream) else { return };
        waiters.retain(|w| w.to != to);
        if waiters.is_empty() {
            self.by_stream.remove(&stream);
        }
    }

    /// Takes all readers that wait on a stream.
    pub fn take(&mut self, stream: (GroupId, StreamId)) -> Vec<Waiter> {
        let waiters = self.by_stream.remove(&stream).unwrap_or_default();
        for waiter in &waiters {
            self.streams.remove(&waiter.to);
        }
        waiters
    }

    /// Whether anybody waits on a stream.
    #[must_use]
    pub fn wait_on(&self, stream: (GroupId, StreamId)) -> bool {
        self.by_stream.contains_key(&stream)
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }
}
