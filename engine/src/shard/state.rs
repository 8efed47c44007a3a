//! The state machine of a shard's groups: what a committed operation changes. The same live and at recovery.

use std::sync::Arc;

use model::config::ResolvedStreamConfig;
use model::{BasinId, GroupId, StreamId};
use replication::GroupConsensus;
use smallvec::SmallVec;

use crate::event::{BasinChange, TokenChange};
use crate::log::{Geometry, Lsn};
use crate::metadata::tokens::Tokens;
use crate::metadata::{Basin, Metadata};
use crate::mutation::Mutation;
use crate::stream::catalog::Catalog;
use crate::stream::index::Dropped;
use crate::stream::op::{BatchOp, ControlOp};
use crate::stream::state::{Life, Stream, seconds};

/// One consensus group and the streams it orders.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) id: GroupId,
    pub(crate) consensus: GroupConsensus,
    /// The last entry that was applied, and its term.
    pub(crate) applied_index: u64,
    pub(crate) applied_term: u64,
    /// Term and vote as the log has them.
    pub(crate) written_vote: (u64, u64),
    pub(crate) catalog: Catalog,
}

/// Everything that the groups of a shard agree on.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// In order of their numbers.
    pub(crate) groups: Vec<Group>,
    /// Empty except on shard 0.
    pub(crate) metadata: Metadata,
    /// Empty except on shard 0.
    pub(crate) tokens: Tokens,
}

/// What an operation changed beside the state itself.
#[derive(Debug, Default)]
pub(crate) struct Change {
    /// An index entry points here now.
    pub(crate) retained: Option<Lsn>,
    /// Index entries that pointed here are gone.
    pub(crate) released: SmallVec<[Lsn; 4]>,
    /// Streams whose readers must be told that it is being deleted.
    pub(crate) closed: Vec<StreamId>,
    /// What fronts must see.
    pub(crate) published: Option<BasinChange>,
    /// Likewise, of access tokens.
    pub(crate) published_token: Option<TokenChange>,
}

/// Whether an operation was staged by this process, which has taken it into the speculative face then, or comes from the
/// log of an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Live,
    Replay,
}

/// How frames gather into index entries.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Indexing {
    pub(crate) geometry: Geometry,
    pub(crate) window_bytes: u32,
}

impl State {
    /// The position of a group; `None` when it is not on this shard.
    pub(crate) fn group(&self, id: GroupId) -> Option<usize> {
        self.groups.binary_search_by_key(&id, |g| g.id).ok()
    }

    pub(crate) fn streams_count(&self) -> usize {
        self.groups.iter().map(|g| g.catalog.len()).sum()
    }

    /// Applies records that lie at `lsn`.
    ///
    /// # Panics
    /// When the stream is not there: the caller has looked.
    pub(crate) fn apply_batch(&mut self, group: usize, op: &BatchOp, lsn: Lsn, indexing: Indexing) -> Change {
        let mut change = Change::default();
        let catalog = &mut self.groups[group].catalog;
        let stream = catalog.get_mut(op.stream).expect("records are committed only to streams that are there");
        let (basin, mut dropped) = (stream.basin, Dropped::default());
        let trimmed = stream.commit(op);
        if stream.index.push(op, lsn, indexing.window_bytes, indexing.geometry) {
            change.retained = Some(lsn);
        }
        if let Some(trim_point) = trimmed {
            dropped = stream.index.trim(trim_point, stream.tail.seq_num);
        }
        let deadline_s = stream.next_deadline_s();
        if deadline_s != stream.deadline_s && !Mutation::NeverExpires.is_on() {
            catalog.set_deadline(op.stream, deadline_s);
        }
        catalog.stored.add(basin, u64::from(op.metered_bytes));
        catalog.stored.take(basin, dropped.metered_bytes);
        change.released = dropped.places;
        change
    }

    /// Applies anything else.
    pub(crate) fn apply_control(&mut self, group: usize, op: &ControlOp, phase: Phase) -> Change {
        match op {
            ControlOp::PutBasin { info, request_key } => {
                match phase {
                    Phase::Live => self.metadata.commit(info),
                    Phase::Replay => self.metadata.put(Basin::durable(Arc::clone(info), *request_key)),
                }
                Change { published: Some(BasinChange::Put(Arc::clone(info))), ..Change::default() }
            }
            ControlOp::PurgeBasin { name } => {
                self.metadata.remove(name);
                Change { published: Some(BasinChange::Removed(name.clone())), ..Change::default() }
            }
            ControlOp::ChangeToken(change) => {
                match phase {
                    Phase::Live => self.tokens.commit(change),
                    Phase::Replay => self.tokens.restore(change),
                }
                Change { published_token: Some(change.clone()), ..Change::default() }
            }
            ControlOp::CreateStream { id, .. }
            | ControlOp::ConfigureStream { id, .. }
            | ControlOp::DeleteStream { id, .. }
            | ControlOp::PurgeStream { id }
            | ControlOp::TrimStream { id, .. }
            | ControlOp::PutLease { id, .. } => self.groups[group].apply_to_stream(*id, op, phase),
            ControlOp::DropBasin { basin } => self.groups[group].drop_basin(*basin),
        }
    }
}

impl Group {
    fn apply_to_stream(&mut self, id: StreamId, op: &ControlOp, phase: Phase) -> Change {
        let mut change = Change::default();
        match op {
            ControlOp::CreateStream { basin, name, config, cipher, created_ms, request_key, .. } => {
                let stream = match self.catalog.get(id) {
                    Some(_) => self.catalog.get_mut(id).expect("just seen"),
                    None => {
                        let mut stream = Stream::new(id, *basin, name.clone(), Arc::clone(config), *created_ms);
                        (stream.cipher, stream.request_key) = (*cipher, *request_key);
                        self.catalog.insert(stream)
                    }
                };
                stream.life = match stream.life {
                    Life::Creating => Life::Active,
                    Life::DeletingUnseen => Life::DeletingSoon,
                    other @ (Life::Active | Life::DeletingSoon | Life::Deleting) => other,
                };
            }
            ControlOp::ConfigureStream { config, .. } => {
                if phase == Phase::Replay && !Mutation::ConfigNotReplayed.is_on() {
                    self.configure(id, config);
                }
                let config = self.catalog.intern(Arc::clone(config));
                if let Some(stream) = self.catalog.get_mut(id) {
                    stream.committed_config = config;
                }
            }
            ControlOp::DeleteStream { at_ms, .. } => {
                if let Some(stream) = self.catalog.get_mut(id) {
                    stream.life = Life::Deleting;
                    stream.deleted_ms = *at_ms;
                    change.closed.push(id);
                }
            }
            ControlOp::TrimStream { up_to, .. } => {
                if let Some(stream) = self.catalog.get_mut(id) {
                    stream.trim_point = stream.trim_point.max((*up_to).min(stream.tail.seq_num));
                    let dropped = stream.index.trim(stream.trim_point, stream.tail.seq_num);
                    let basin = stream.basin;
                    self.catalog.stored.take(basin, dropped.metered_bytes);
                    change.released = dropped.places;
                }
            }
            ControlOp::PutLease { .. } if phase == Phase::Replay && Mutation::LeaseLostAtReplay.is_on() => {}
            ControlOp::PutLease { held, generation, .. } => {
                if let Some(stream) = self.catalog.get_mut(id) {
                    stream.lease.get_or_insert_default().put(held.clone(), *generation);
                }
            }
            ControlOp::PurgeStream { .. } => self.remove(id, &mut change),
            ControlOp::DropBasin { .. }
            | ControlOp::PutBasin { .. }
            | ControlOp::PurgeBasin { .. }
            | ControlOp::ChangeToken(_) => {
                unreachable!("operations on basins and tokens are applied elsewhere")
            }
        }
        self.catalog.refresh_deadline(id);
        change
    }

    /// Gives a stream another configuration.
    pub(crate) fn configure(&mut self, id: StreamId, config: &Arc<ResolvedStreamConfig>) {
        let config = self.catalog.intern(Arc::clone(config));
        if let Some(stream) = self.catalog.get_mut(id) {
            stream.config = config;
        }
    }

    fn drop_basin(&mut self, basin: BasinId) -> Change {
        let mut change = Change::default();
        for id in self.catalog.of_basin(basin).into_iter().skip(usize::from(Mutation::DropLeavesAStream.is_on())) {
            self.remove(id, &mut change);
        }
        self.catalog.drop_basin(basin);
        change
    }

    fn remove(&mut self, id: StreamId, change: &mut Change) {
        if let Some(stream) = self.catalog.remove(id) {
            change.released.extend(stream.index.entries().iter().map(|e| e.lsn));
            change.closed.push(id);
        }
    }
}

/// Whole seconds of now.
pub(crate) fn now_s(now: crate::event::Now) -> u32 {
    seconds(now.wall_ms)
}
