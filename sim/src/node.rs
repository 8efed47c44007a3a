//! A node: its clock, its shards, each with its disk, its inbox and the truth about it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use engine::event::{BasinInfo, CheckpointPart, Effects, Event, Now};
use engine::log::SegmentNo;
use engine::shard::{Shard, ShardConfig};
use model::{AccessToken, BasinName, ShardId, TokenId};

use crate::coverage::{Fault, Phase};
use crate::disk::{Disk, WorkId};
use crate::swarm::Swarm;
use crate::truth::Truth;
use crate::world::Promises;

/// The clocks of a node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    /// True time and monotonic time, when the rate last changed.
    anchor: (u64, u64),
    /// Parts per million that it goes too fast; negative is too slow.
    drift_ppm: i64,
    /// What the wall clock is ahead by, in milliseconds; negative is behind.
    wall_offset_ms: i64,
}

impl Clock {
    const fn new() -> Self {
        Self { anchor: (0, 1_000_000), drift_ppm: 0, wall_offset_ms: 0 }
    }

    fn mono_us(&self, true_us: u64) -> u64 {
        let passed = i128::from(true_us - self.anchor.0);
        let shown = passed + passed * i128::from(self.drift_ppm) / 1_000_000;
        self.anchor.1 + u64::try_from(shown).expect("a clock goes forward")
    }

    /// What it shows.
    #[must_use]
    pub(crate) fn now(&self, true_us: u64) -> Now {
        let mono_us = self.mono_us(true_us);
        let wall_ms = (EPOCH_MS + mono_us / 1000).saturating_add_signed(self.wall_offset_ms);
        Now { mono_us, wall_ms }
    }

    /// The true time at which it shows this.
    #[must_use]
    pub(crate) fn true_us(&self, true_now_us: u64, mono_us: u64) -> u64 {
        let left = i128::from(mono_us.saturating_sub(self.mono_us(true_now_us)));
        let left = left * 1_000_000 / (1_000_000 + i128::from(self.drift_ppm)) + 1;
        true_now_us + u64::try_from(left).expect("a wait is positive")
    }

    /// Goes at another rate from now on.
    pub(crate) fn set_drift(&mut self, true_us: u64, drift_ppm: i64) {
        self.anchor = (true_us, self.mono_us(true_us));
        self.drift_ppm = drift_ppm;
    }

    /// The wall clock jumps.
    pub(crate) const fn jump(&mut self, ms: i64) {
        self.wall_offset_ms += ms;
    }

    /// How far the wall clock is off.
    #[must_use]
    pub(crate) const fn wall_offset_ms(&self) -> i64 {
        self.wall_offset_ms
    }
}

/// What a shard is waiting for beside extents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CheckpointPhase {
    /// Nothing.
    None,
    /// The file is being begun.
    Begun,
    /// Rows are being written.
    Rows,
    /// It is being put into force.
    Commit,
}

/// A bit that has flipped and will be put right.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rot {
    /// Where.
    pub segment: SegmentNo,
    /// Where in the file.
    pub offset: usize,
    /// What is there now.
    pub value: u8,
    /// What was there.
    pub before: u8,
}

/// One shard of a node.
#[derive(Debug)]
pub(crate) struct Seat {
    /// Its settings.
    pub config: ShardConfig,
    /// The state machine; `None` while the node is down.
    pub shard: Option<Shard>,
    /// Its disk.
    pub disk: Disk,
    /// What is true of it.
    pub truth: Truth,
    /// What has come and was not taken.
    pub inbox: VecDeque<Event>,
    /// A burst is scheduled.
    pub is_called: bool,
    /// What a step asked for.
    pub effects: Effects,
    /// The timer that is set, on the node's clock.
    pub timer_us: Option<u64>,
    /// The checkpoint in the making.
    pub checkpoint: CheckpointPhase,
    /// The segment in the making, and whether it takes an old file.
    pub preparing: Option<bool>,
    /// No extent of this life is durable yet.
    pub is_fresh: bool,
    /// What its next extent has to say.
    pub(crate) promises: Promises,
    /// Extents that are durable while the shard has not heard.
    pub unheard: u32,
    /// Faults that wait for the next work they fit.
    pub armed: Vec<Fault>,
    /// Work that will fail, and how.
    pub doomed: BTreeMap<WorkId, Fault>,
    /// Bits that are wrong now.
    pub rots: Vec<Rot>,
    /// When a read was last disturbed, or rot was there, in simulated time.
    pub disturbed_us: Option<u64>,
    /// A failure of a checkpoint that no later success has made good.
    pub checkpoint_failed: bool,
}

impl Seat {
    fn new(swarm: &Swarm, shard: ShardId) -> Self {
        Self {
            config: swarm.shard(shard),
            shard: None,
            disk: Disk::new(swarm.segment_bytes),
            truth: Truth::new(shard, swarm.placement, swarm.segment_bytes),
            inbox: VecDeque::new(),
            is_called: false,
            effects: Effects::default(),
            timer_us: None,
            checkpoint: CheckpointPhase::None,
            preparing: None,
            is_fresh: true,
            promises: Promises::default(),
            unheard: 0,
            armed: Vec::new(),
            doomed: BTreeMap::new(),
            rots: Vec::new(),
            disturbed_us: None,
            checkpoint_failed: false,
        }
    }

    /// Forgets what a process has in memory.
    pub(crate) fn die(&mut self) {
        self.shard = None;
        self.inbox.clear();
        self.is_called = false;
        self.effects = Effects::default();
        self.timer_us = None;
        self.checkpoint = CheckpointPhase::None;
        self.preparing = None;
        self.is_fresh = true;
        self.unheard = 0;
        self.armed.clear();
        self.doomed.clear();
    }

    /// The phases the shard is in.
    #[must_use]
    pub(crate) fn phases(&self) -> Vec<Phase> {
        let mut phases = Vec::with_capacity(4);
        match self.disk.writes_count() {
            0 => {}
            1 => phases.push(Phase::OneExtent),
            _ => phases.push(Phase::ManyExtents),
        }
        if self.is_fresh && !phases.is_empty() {
            phases.push(Phase::FirstExtent);
        }
        if self.unheard > 0 {
            phases.push(Phase::Unheard);
        }
        match self.checkpoint {
            CheckpointPhase::None => {}
            CheckpointPhase::Begun => phases.push(Phase::CheckpointBegun),
            CheckpointPhase::Rows => phases.push(Phase::CheckpointRows),
            CheckpointPhase::Commit => phases.push(Phase::CheckpointCommit),
        }
        match self.preparing {
            None => {}
            Some(false) => phases.push(Phase::MakingSegment),
            Some(true) => phases.push(Phase::RecyclingSegment),
        }
        if phases.is_empty() {
            phases.push(Phase::Idle);
        }
        phases
    }

    /// Notes a checkpoint part that was asked for.
    pub(crate) const fn note_part(&mut self, part: &CheckpointPart) {
        self.checkpoint = match part {
            CheckpointPart::Begin => CheckpointPhase::Begun,
            CheckpointPart::Bytes(_) => CheckpointPhase::Rows,
            CheckpointPart::Commit => CheckpointPhase::Commit,
        };
    }

    /// Puts right what has rotted, the last first: the same bit may have flipped twice.
    pub(crate) fn heal(&mut self) {
        for rot in std::mem::take(&mut self.rots).into_iter().rev() {
            if let Some(byte) = self.disk.bytes_mut(rot.segment).and_then(|bytes| bytes.get_mut(rot.offset))
                && *byte == rot.value
            {
                *byte = rot.before;
            }
        }
    }
}

/// A process and its machine.
#[derive(Debug)]
pub(crate) struct Node {
    /// Its shards.
    pub seats: Vec<Seat>,
    /// Its clocks.
    pub clock: Clock,
    /// Counts its lives; what belongs to an earlier one is ignored.
    pub life: u32,
    /// Whether it runs.
    pub is_up: bool,
    /// Nothing of it moves before this time.
    pub paused_until_us: u64,
    /// Its disk takes a hundred times as long until then.
    pub slow_until_us: u64,
    /// Basins as its fronts see them.
    pub basins: BTreeMap<BasinName, Arc<BasinInfo>>,
    /// Access tokens as its fronts see them.
    pub tokens: BTreeMap<TokenId, Arc<AccessToken>>,
    /// The latest wall clock it has shown.
    pub wall_ms_max: u64,
    /// When its wall clock last jumped, in simulated time.
    pub jumped_us: Option<u64>,
    /// The process is killed after so many effects more.
    pub dies_after: Option<u32>,
}

impl Node {
    /// A node with empty disks.
    #[must_use]
    pub(crate) fn new(swarm: &Swarm) -> Self {
        Self {
            seats: (0..swarm.placement.shards_count).map(|shard| Seat::new(swarm, ShardId(shard))).collect(),
            clock: Clock::new(),
            life: 0,
            is_up: false,
            paused_until_us: 0,
            slow_until_us: 0,
            basins: BTreeMap::new(),
            tokens: BTreeMap::new(),
            wall_ms_max: 0,
            jumped_us: None,
            dies_after: None,
        }
    }

    /// What its clocks show.
    pub(crate) fn now(&mut self, true_us: u64) -> Now {
        let now = self.clock.now(true_us);
        self.wall_ms_max = self.wall_ms_max.max(now.wall_ms);
        now
    }
}

const EPOCH_MS: u64 = 1_700_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_goes_forward_through_drift_and_its_timers_are_found() {
        let mut clock = Clock::new();
        clock.set_drift(5_000_000, 200);
        let shown = clock.now(10_000_000).mono_us;
        assert_eq!(shown, 1_000_000 + 5_000_000 + 5_001_000);
        let at = clock.true_us(10_000_000, shown + 1_000_000);
        assert!(clock.now(at).mono_us >= shown + 1_000_000);
        clock.jump(-60_000);
        assert_eq!(clock.now(10_000_000).mono_us, shown);
    }
}
