//! One consensus group: the seam to the raft kernel, and the only place that knows it.
//!
//! The order of durability is in the types: [`GroupConsensus::ready`] hands out a [`Persist`] that has to be in one
//! extent; only its number, told back by [`GroupConsensus::persisted`], can yield [`Committed`] entries.

use std::fmt;

use raft::prelude::Entry;
use raft::{Config, RawNode, StateRole};

use crate::descriptor::Descriptor;
use crate::log_view::LogView;

/// Raft's promises to its peers: durable no later than the entries of their term.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HardState {
    /// The latest term seen.
    pub term: u64,
    /// Who got this replica's vote in it; 0 is nobody.
    pub vote: u64,
    /// The highest index known to be committed.
    pub commit: u64,
}

/// What a log said of a group: where it left off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Restored {
    /// The promises.
    pub hard_state: HardState,
    /// The last entry that was applied.
    pub applied_index: u64,
    /// Its term.
    pub applied_term: u64,
}

/// One entry to be made durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PersistEntry {
    /// Its term.
    pub term: u64,
    /// Its index.
    pub index: u64,
    /// What it carries; `None` for the empty entry of a new leader.
    pub descriptor: Option<Descriptor>,
}

/// What has to be durable, in one extent, before the number is told to [`GroupConsensus::persisted`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Persist {
    /// Tell it back.
    pub number: u64,
    /// In order.
    pub entries: Vec<PersistEntry>,
    /// When it changed. A change of the commit index alone may ride along with anything.
    pub hard_state: Option<HardState>,
    /// Entries that became committed while this was collected.
    pub committed: Vec<Committed>,
}

/// An entry that a quorum has, in order of index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// Its index.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// What it carries; `None` for the empty entry of a new leader.
    pub descriptor: Option<Descriptor>,
}

/// A proposal was made to a replica that does not lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotLeader;

/// One group's replica on this node.
pub struct GroupConsensus {
    node: RawNode<LogView>,
}

impl fmt::Debug for GroupConsensus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let raft = &self.node.raft;
        write!(
            f,
            "GroupConsensus {{ term: {}, last: {}, committed: {} }}",
            raft.term,
            raft.raft_log.last_index(),
            raft.raft_log.committed
        )
    }
}

impl GroupConsensus {
    /// A replica with one voter, itself, that goes on where its log left off.
    ///
    /// With one voter every durable entry is committed, so nothing lies between the applied entry and the end.
    ///
    /// # Panics
    /// When `restored` contradicts itself, which only a bug in recovery can cause.
    #[must_use]
    pub fn single_voter(restored: Restored) -> Self {
        let Restored { hard_state, applied_index, applied_term } = restored;
        assert!(hard_state.term >= applied_term, "a term is durable no later than its entries");
        let mut raft_state = raft::prelude::HardState::default();
        raft_state.set_term(hard_state.term);
        raft_state.set_vote(hard_state.vote);
        // The last hard state in the log may be older than the last entry; the quorum of one has that entry.
        raft_state.set_commit(applied_index);
        let view = LogView::new(raft_state, vec![REPLICA], applied_index, applied_term);
        let config = Config {
            id: REPLICA,
            election_tick: ELECTION_TICKS,
            heartbeat_tick: 1,
            // One possible value: raft's random choice of a timeout has nothing to choose.
            min_election_tick: ELECTION_TICKS,
            max_election_tick: ELECTION_TICKS + 1,
            applied: applied_index,
            max_size_per_msg: 1 << 20,
            pre_vote: true,
            check_quorum: true,
            ..Config::default()
        };
        let silent = slog::Logger::root(slog::Discard, slog::o!());
        let node = RawNode::new(&config, view, &silent).expect("the configuration is constant and valid");
        Self { node }
    }

    /// Stands for election at once. The only voter has won when this returns.
    pub fn campaign(&mut self) {
        self.node.campaign().expect("a restored voter may campaign");
    }

    /// Whether this replica orders entries.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.node.raft.state == StateRole::Leader
    }

    /// Proposes the next entry.
    ///
    /// # Errors
    /// When this replica does not lead.
    pub fn propose(&mut self, descriptor: Descriptor) -> Result<(), NotLeader> {
        if !self.is_leader() {
            return Err(NotLeader);
        }
        self.node.propose(Vec::new(), descriptor.encode().to_vec()).map_err(|_| NotLeader)
    }

    /// What has to be made durable now, if anything.
    pub fn ready(&mut self) -> Option<Persist> {
        if !self.node.has_ready() {
            return None;
        }
        let mut ready = self.node.ready();
        let number = ready.number();
        let entries = ready.take_entries();
        let committed = ready.take_committed_entries();
        let hard_state = ready.hs().map(|hs| HardState { term: hs.term, vote: hs.vote, commit: hs.commit });
        self.node.mut_store().append(&entries);
        self.node.advance_append_async(ready);
        let committed = committed.iter().map(committed_entry).collect();
        Some(Persist { number, entries: entries.iter().map(persist_entry).collect(), hard_state, committed })
    }

    /// All that was handed out up to `number` is durable here.
    pub fn persisted(&mut self, number: u64) {
        self.node.on_persist_ready(number);
    }

    /// The state machine has applied all entries up to `index`.
    pub fn applied(&mut self, index: u64) {
        self.node.advance_apply_to(index);
        self.node.mut_store().truncate_to(index);
    }

    /// The promises as they stand, for a checkpoint.
    #[must_use]
    pub fn hard_state(&self) -> HardState {
        let hs = self.node.raft.hard_state();
        HardState { term: hs.term, vote: hs.vote, commit: hs.commit }
    }
}

fn descriptor_of(entry: &Entry) -> Option<Descriptor> {
    if entry.data.is_empty() {
        return None;
    }
    Some(Descriptor::decode(&entry.data).expect("entries carry what `propose` gave them"))
}

fn persist_entry(entry: &Entry) -> PersistEntry {
    PersistEntry { term: entry.term, index: entry.index, descriptor: descriptor_of(entry) }
}

fn committed_entry(entry: &Entry) -> Committed {
    Committed { index: entry.index, term: entry.term, descriptor: descriptor_of(entry) }
}

/// The replica's number in its group; other numbers come with other nodes.
const REPLICA: u64 = 1;
const ELECTION_TICKS: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(extent: u64) -> Descriptor {
        Descriptor { extent, frames_count: 3, frames_crc: 7 }
    }

    /// Persists all that is ready and returns what got committed on the way.
    fn settle(group: &mut GroupConsensus) -> Vec<Committed> {
        let mut committed = Vec::new();
        while let Some(persist) = group.ready() {
            committed.extend(persist.committed);
            group.persisted(persist.number);
        }
        if let Some(last) = committed.last() {
            group.applied(last.index);
        }
        committed
    }

    #[test]
    fn nothing_is_committed_before_it_is_durable() {
        let mut group = GroupConsensus::single_voter(Restored::default());
        group.campaign();
        assert!(group.is_leader());
        settle(&mut group);
        group.propose(descriptor(1)).expect("leads");
        let first = group.ready().expect("an entry to persist");
        assert_eq!(first.entries.len(), 1);
        assert!(first.committed.is_empty());
        group.propose(descriptor(2)).expect("leads");
        let second = group.ready().expect("another");
        assert!(second.committed.is_empty(), "two are in flight, none durable");
        group.persisted(first.number);
        let third = group.ready().expect("the first is committed");
        assert_eq!(third.committed.iter().map(|c| c.descriptor).collect::<Vec<_>>(), [Some(descriptor(1))]);
        group.persisted(second.number);
        assert_eq!(settle(&mut group).last().map(|c| c.descriptor), Some(Some(descriptor(2))));
    }

    #[test]
    fn a_restored_group_goes_on_in_a_later_term() {
        let mut group = GroupConsensus::single_voter(Restored::default());
        group.campaign();
        group.propose(descriptor(1)).expect("leads");
        let last = settle(&mut group).pop().expect("committed");
        let restored = Restored { hard_state: group.hard_state(), applied_index: last.index, applied_term: last.term };
        let mut again = GroupConsensus::single_voter(restored);
        again.campaign();
        again.propose(descriptor(2)).expect("leads");
        let next = settle(&mut again).pop().expect("committed");
        assert_eq!(next.index, last.index + 2, "the empty entry of the new term lies between");
        assert!(next.term > last.term);
    }
}
