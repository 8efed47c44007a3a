//! What raft may know of our log: terms, indices and descriptors. The bytes stay in the shard's log.

use std::collections::VecDeque;

use raft::prelude::{ConfState, Entry, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Storage, StorageError};

/// The tail of a group's log behind what was applied.
///
/// Invariant: `entries` are dense, the first has index `truncated_index + 1`.
#[derive(Debug)]
pub(crate) struct LogView {
    hard_state: raft::prelude::HardState,
    voters: Vec<u64>,
    truncated_index: u64,
    truncated_term: u64,
    entries: VecDeque<Entry>,
}

impl LogView {
    pub(crate) fn new(
        hard_state: raft::prelude::HardState,
        voters: Vec<u64>,
        truncated_index: u64,
        truncated_term: u64,
    ) -> Self {
        Self { hard_state, voters, truncated_index, truncated_term, entries: VecDeque::new() }
    }

    fn end(&self) -> u64 {
        self.truncated_index + self.entries.len() as u64 + 1
    }

    /// Adds entries that raft wants to have stored. They may replace a suffix that was never committed.
    pub(crate) fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        assert!(first.index > self.truncated_index, "applied entries are never replaced");
        assert!(first.index <= self.end(), "the log has no hole");
        self.entries.truncate(position(first.index - self.truncated_index - 1));
        self.entries.extend(entries.iter().cloned());
    }

    /// Forgets entries up to `index`: they are applied, and whoever needs them reads the shard's log.
    pub(crate) fn truncate_to(&mut self, index: u64) {
        assert!(index < self.end(), "only what is there can be forgotten");
        while self.truncated_index < index {
            let entry = self.entries.pop_front().expect("entries are dense up to their end");
            self.truncated_index = entry.index;
            self.truncated_term = entry.term;
        }
    }
}

impl Storage for LogView {
    fn initial_state(&self) -> raft::Result<RaftState> {
        let conf_state = ConfState { voters: self.voters.clone(), ..ConfState::default() };
        Ok(RaftState { hard_state: self.hard_state.clone(), conf_state })
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.truncated_index {
            return Err(Error::Store(StorageError::Compacted));
        }
        assert!(high <= self.end(), "raft asks only for what it stored");
        let range = position(low - self.truncated_index - 1)..position(high - self.truncated_index - 1);
        let mut entries: Vec<Entry> = self.entries.range(range).cloned().collect();
        raft::util::limit_size(&mut entries, max_size.into());
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.truncated_index {
            return Ok(self.truncated_term);
        }
        if index < self.truncated_index {
            return Err(Error::Store(StorageError::Compacted));
        }
        let entry = self.entries.get(position(index - self.truncated_index - 1));
        entry.map(|e| e.term).ok_or(Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.truncated_index + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.end() - 1)
    }

    fn snapshot(&self, _request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable))
    }
}

/// A distance within the entries kept in memory.
fn position(distance: u64) -> usize {
    usize::try_from(distance).expect("entries in memory are counted by usize")
}
