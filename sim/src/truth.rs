//! What is true: a second opinion on a shard's log, decoded from nothing but the synced bytes of its disk.
//!
//! It follows the chain of extents as they become stable and keeps for itself what each operation means, so that every
//! answer of the shard can be held against it. It shares the engine's decoders of bytes, and none of its decisions.

mod basins;
mod chain;
mod group;
mod lease;
mod stream;
mod tokens;

use std::collections::BTreeMap;

use engine::log::frame::FrameKind;
use engine::log::{Geometry, Lsn, SegmentNo};
use model::placement::Placement;
use model::{GroupId, ShardId, StreamId};

use crate::attempts::Attempts;
use crate::disk::Disk;
use crate::truth::basins::BasinsTruth;
use crate::truth::chain::{Chain, Link};
use crate::violation::{Rule, Violation, broken};
pub(crate) use chain::ExtentTruth;
pub(crate) use group::{Ask, GroupTruth};
pub(crate) use lease::{Decided, Holding, Life};
pub(crate) use stream::StreamTruth;
pub(crate) use stream::seconds;

/// What holds while an extent is looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context {
    /// Simulated time, for windows.
    pub(crate) now_us: u64,
    /// The latest wall clock the node has shown.
    pub(crate) wall_ms_max: u64,
    /// Where the extent is.
    pub(crate) lsn: Lsn,
    /// When all in it was decided at the latest.
    pub(crate) decided: Decided,
}

/// What a look at the disk found.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Found {
    /// Extents that became part of the chain.
    pub extents_count: u64,
    /// Batches in them.
    pub batches_count: u64,
}

/// The truth about one shard.
#[derive(Debug)]
pub(crate) struct Truth {
    chain: Chain,
    groups: BTreeMap<GroupId, GroupTruth>,
    life: Life,
    /// Extents of this life that were written and are not found, with when that was on the shard's monotonic clock.
    written_us: BTreeMap<Lsn, u64>,
    /// Empty except on shard 0.
    pub basins: BasinsTruth,
}

impl Truth {
    /// The truth about an empty log.
    #[must_use]
    pub(crate) fn new(shard: ShardId, placement: Placement, segment_bytes: u64) -> Self {
        let metadata = (shard == ShardId(0)).then_some(GroupId::METADATA);
        let ids = metadata.into_iter().chain(placement.groups_of(shard));
        Self {
            chain: Chain::new(Geometry { segment_bytes }),
            groups: ids.map(|id| (id, GroupTruth::new(id))).collect(),
            life: Life::default(),
            written_us: BTreeMap::new(),
            basins: BasinsTruth::default(),
        }
    }

    /// Looks at what is new on the disk.
    pub(crate) fn look(
        &mut self,
        disk: &Disk,
        now_us: u64,
        wall_ms_max: u64,
        attempts: &mut Attempts,
    ) -> Result<Found, Violation> {
        let mut found = Found::default();
        while let Some(link) = self.chain.next(disk) {
            let Some(by_us) = self.written_us.remove(&link.header.lsn) else {
                return broken(Rule::Chain, format!("an extent at {} that was not written", link.header.lsn.0));
            };
            let decided = Decided { by_us, life: self.life };
            let context = Context { now_us, wall_ms_max, lsn: link.header.lsn, decided };
            found.batches_count += self.extent(&link, context, attempts)?;
            found.extents_count += 1;
            let extent = ExtentTruth {
                lsn: link.header.lsn,
                end: link.header.end(),
                durable_lsn: link.header.durable_lsn,
                frames_count: link.header.frames_count,
                found_us: now_us,
            };
            self.chain.take(&link.header, link.crc, extent)?;
        }
        Ok(found)
    }

    fn extent(&mut self, link: &Link<'_>, context: Context, attempts: &mut Attempts) -> Result<u64, Violation> {
        if context.wall_ms_max < link.header.written_ms {
            return broken(Rule::Timestamps, format!("an extent of {} ms was written before", link.header.written_ms));
        }
        let mut batches_count = 0;
        for (frame, payload, offset) in &link.frames {
            let Some(group) = self.groups.get_mut(&frame.group) else {
                return broken(Rule::Consensus, format!("a frame of group {} on another's shard", frame.group.0));
            };
            match frame.kind {
                FrameKind::Batch | FrameKind::Control => group.pend(frame, payload, *offset)?,
                FrameKind::HardState => group.hard_state(payload)?,
                FrameKind::Entry => {
                    batches_count += group.entry(payload, context, attempts, &mut self.basins)?;
                }
            }
        }
        match self.groups.values().find(|g| g.has_pending()) {
            Some(group) => broken(Rule::Consensus, format!("frames of group {} that no entry covers", group.id().0)),
            None => Ok(batches_count),
        }
    }

    /// An extent is on its way to the disk.
    pub(crate) fn will_write(&mut self, lsn: Lsn, mono_us: u64) {
        self.written_us.insert(lsn, mono_us);
    }

    /// The life that the shard is in.
    #[must_use]
    pub(crate) const fn life(&self) -> Life {
        self.life
    }

    /// The shard begins another life.
    pub(crate) fn begin_life(&mut self, started_us: u64) {
        self.life = self.life.next(started_us);
        self.written_us.clear();
        self.groups.values_mut().for_each(GroupTruth::begin_life);
    }

    /// Where the chain of synced extents ends.
    #[must_use]
    pub(crate) const fn end(&self) -> Lsn {
        self.chain.end()
    }

    /// Whether the log goes on there: right behind the chain, or where the next segment begins. There it goes on when its
    /// first extent was in flight while a checkpoint was made, and is lost.
    #[must_use]
    pub(crate) const fn goes_on_at(&self, lsn: Lsn) -> bool {
        let (end, geometry) = (self.end(), self.geometry());
        let last = geometry.segment(Lsn(end.0 - 1));
        lsn.0 == end.0 || lsn.0 == geometry.start(SegmentNo(last.0 + 1)).0
    }

    /// The extents not so long ago, oldest first.
    pub(crate) fn extents(&self) -> impl Iterator<Item = &ExtentTruth> {
        self.chain.extents()
    }

    /// The epoch of the last extent.
    #[must_use]
    pub(crate) const fn epoch(&self) -> u32 {
        self.chain.epoch()
    }

    /// How segments lie.
    #[must_use]
    pub(crate) const fn geometry(&self) -> Geometry {
        self.chain.geometry()
    }

    /// A group of this shard.
    #[must_use]
    pub(crate) fn group(&self, id: GroupId) -> Option<&GroupTruth> {
        self.groups.get(&id)
    }

    /// A group of this shard, to note what was asked of it.
    pub(crate) fn group_mut(&mut self, id: GroupId) -> Option<&mut GroupTruth> {
        self.groups.get_mut(&id)
    }

    /// All groups.
    pub(crate) fn groups(&self) -> impl Iterator<Item = &GroupTruth> {
        self.groups.values()
    }

    /// All streams that exist, with their groups.
    pub(crate) fn streams(&self) -> impl Iterator<Item = (GroupId, StreamId, &StreamTruth)> {
        self.groups.values().flat_map(|g| g.streams().map(|(id, stream)| (g.id(), *id, stream)))
    }
}
