//! Faults, the phases they can fall into, and which of both have met: the points a campaign must reach.

use std::collections::BTreeMap;

macro_rules! named {
    ($(#[$doc:meta])* $type:ident { $($variant:ident, $name:literal;)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $type {
            $(#[doc = $name] $variant,)*
        }

        impl $type {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// In words.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

named! {
    /// What goes wrong.
    Fault {
        Kill, "kill";
        KillMidway, "kill-midway";
        Torn, "torn-write";
        Pause, "pause";
        Slow, "slow-disk";
        WallBack, "wall-clock-back";
        WallAhead, "wall-clock-ahead";
        Drift, "clock-drift";
        WriteError, "write-eio";
        SyncError, "sync-eio";
        ReadError, "read-eio";
        ReadMisdirected, "misdirected-read";
        ReadFlipped, "read-bit-flip";
        Rot, "bit-rot";
        NoSpaceSegment, "enospc-segment";
        NoSpaceCheckpoint, "enospc-checkpoint";
        DamageFlip, "damage-bit-flip";
        DamageSector, "damage-latent-sector";
        DamageMisdirected, "damage-misdirected-write";
        DamageLyingFlush, "damage-lying-flush";
        DamageSegment, "damage-missing-segment";
        DamageCheckpoint, "damage-checkpoint";
        DamageNoCheckpoint, "damage-missing-checkpoint";
        OtherShards, "other-shards-count";
    }
}

named! {
    /// Where a shard is. It is in several phases at a time.
    Phase {
        Idle, "idle";
        OneExtent, "one extent in flight";
        ManyExtents, "several extents in flight";
        Unheard, "durable and not yet heard";
        CheckpointBegun, "checkpoint begun";
        CheckpointRows, "checkpoint rows";
        CheckpointCommit, "checkpoint commit";
        MakingSegment, "making a segment";
        RecyclingSegment, "recycling a segment";
        FirstExtent, "first extent of a life in flight";
    }
}

named! {
    /// Things that must happen sometimes, or the workload is blind to them.
    Point {
        LogFull, "an append is refused for a full log";
        Busy, "a reader is turned away";
        Poisoned, "a poisoned session drops an input";
        SeqMismatch, "a seq_num condition fails";
        TokenMismatch, "a fencing condition fails";
        FencedAck, "a fenced append is acknowledged";
        ConditionAck, "a conditional append is acknowledged";
        DeviceRead, "a read goes to the device";
        MemoryRead, "a read is served from memory";
        TrimmedRead, "a read begins at the trim point";
        Followed, "a follower is woken";
        FollowClosed, "a follower is told of a deletion";
        Expired, "records expire";
        EmptyDeleted, "an empty stream is deleted";
        Recreated, "a name is given again";
        BasinGone, "a basin is dropped and purged";
        Recycled, "a segment is recycled";
        CheckpointDone, "a checkpoint is in force";
        CheckpointFailed, "a checkpoint fails and a later one is made";
        TornEnd, "recovery cuts a torn end";
        RecoveredPlain, "recovery without a checkpoint";
        RecoveredCheckpoint, "recovery from a checkpoint";
        IndefiniteFound, "an unanswered append is there after a crash";
        IndefiniteGone, "an unanswered append is gone after a crash";
        Deferred, "requests wait for room in the extent";
        LargeBatch, "a batch of more than half an extent";
        DamageRefused, "damage is refused at start";
        DamageRead, "damage is told to a reader";
        DamageHarmless, "damage where nothing is needed is survived";
        DamageTailUnseen, "the very last extent is lost and nothing on the disk can tell";
        Drained, "a node drains and stops";
        LeaseGiven, "a lease is given";
        LeaseHeld, "a lease is refused: somebody holds it";
        LeaseLost, "a renewal or a release is refused: the lease is lost";
        LeaseRenewed, "a lease is renewed";
        LeaseChanged, "a lease is renewed with another duration";
        LeaseReleased, "a lease is given back";
        LeaseOvertaken, "a lease that ran out is taken by another";
        LeaseFenced, "a foreign fence ends a lease";
        LeaseFencedOut, "an append of an old holder is refused";
        LeaseAppended, "an append of a holder is acknowledged";
        LeaseAnew, "a lease runs anew after a restart and is renewed";
        LeaseAnewOvertaken, "a lease runs anew after a restart, runs out and is taken";
        LeaseBack, "a lease is there after a crash";
        TokenExpired, "an access token that has expired gives its id to another";
        TokenTaken, "an access token is refused: its id is taken";
        OtherCipher, "a batch that is sealed otherwise is given back";
        SealedAck, "a sealed batch is acknowledged";
        SealedRead, "sealed records are read";
    }
}

impl Fault {
    /// Mean interval in microseconds, before the swarm hurries it.
    #[must_use]
    pub const fn mean_us(self) -> u64 {
        match self {
            Self::Kill | Self::KillMidway => 60_000_000,
            Self::WriteError | Self::SyncError => 120_000_000,
            Self::Pause | Self::Slow => 40_000_000,
            Self::WallBack | Self::WallAhead | Self::Drift => 50_000_000,
            Self::ReadError | Self::ReadMisdirected | Self::ReadFlipped | Self::Rot => 15_000_000,
            Self::NoSpaceSegment | Self::NoSpaceCheckpoint => 30_000_000,
            // These go with crashes: the interval is not used.
            Self::Torn
            | Self::DamageFlip
            | Self::DamageSector
            | Self::DamageMisdirected
            | Self::DamageLyingFlush
            | Self::DamageSegment
            | Self::DamageCheckpoint
            | Self::DamageNoCheckpoint
            | Self::OtherShards => 0,
        }
    }

    /// Whether it goes with a crash rather than by the clock.
    #[must_use]
    pub const fn goes_with_a_crash(self) -> bool {
        self.mean_us() == 0
    }

    /// Whether it can fall into this phase at all.
    #[must_use]
    pub const fn meets(self, phase: Phase) -> bool {
        let is_writing = !matches!(phase, Phase::Idle | Phase::Unheard);
        match self {
            Self::WriteError | Self::SyncError => is_writing,
            // Something has to be on its way to be torn; so nothing is idle.
            Self::Torn => !matches!(phase, Phase::Idle),
            Self::NoSpaceSegment => !matches!(phase, Phase::Idle),
            Self::NoSpaceCheckpoint => !matches!(phase, Phase::Idle),
            Self::Kill
            | Self::KillMidway
            | Self::ReadError
            | Self::ReadMisdirected
            | Self::ReadFlipped
            | Self::Pause
            | Self::Slow
            | Self::WallBack
            | Self::WallAhead
            | Self::Drift
            | Self::Rot
            | Self::DamageFlip
            | Self::DamageSector
            | Self::DamageMisdirected
            | Self::DamageLyingFlush
            | Self::DamageSegment
            | Self::DamageCheckpoint
            | Self::DamageNoCheckpoint
            | Self::OtherShards => true,
        }
    }
}

/// What has met.
#[derive(Debug, Clone, Default)]
pub struct Coverage {
    faults: BTreeMap<Fault, u64>,
    met: BTreeMap<(Fault, Phase), u64>,
    points: BTreeMap<Point, u64>,
}

impl Coverage {
    /// A fault falls into these phases.
    pub fn fault(&mut self, fault: Fault, phases: &[Phase]) {
        *self.faults.entry(fault).or_default() += 1;
        for phase in phases {
            *self.met.entry((fault, *phase)).or_default() += 1;
        }
    }

    /// A point is reached.
    pub fn point(&mut self, point: Point) {
        *self.points.entry(point).or_default() += 1;
    }

    /// Adds what another run reached.
    pub fn add(&mut self, other: &Self) {
        for (fault, count) in &other.faults {
            *self.faults.entry(*fault).or_default() += count;
        }
        for (met, count) in &other.met {
            *self.met.entry(*met).or_default() += count;
        }
        for (point, count) in &other.points {
            *self.points.entry(*point).or_default() += count;
        }
    }

    /// Faults by kind.
    pub fn faults(&self) -> impl Iterator<Item = (Fault, u64)> + '_ {
        self.faults.iter().map(|(fault, count)| (*fault, *count))
    }

    /// All faults.
    #[must_use]
    pub fn faults_count(&self) -> u64 {
        self.faults.values().sum()
    }

    /// How often a point was reached.
    #[must_use]
    pub fn reached(&self, point: Point) -> u64 {
        self.points.get(&point).copied().unwrap_or(0)
    }

    /// Named points reached and all there are; and the names of those missed.
    #[must_use]
    pub fn summary(&self) -> (usize, usize, Vec<String>) {
        let mut missed = Vec::new();
        let mut all = 0;
        for fault in Fault::ALL {
            for phase in Phase::ALL.iter().filter(|phase| fault.meets(**phase)) {
                all += 1;
                if !self.met.contains_key(&(*fault, *phase)) {
                    missed.push(format!("{} x {}", fault.name(), phase.name()));
                }
            }
        }
        for point in Point::ALL {
            all += 1;
            if !self.points.contains_key(point) {
                missed.push(point.name().to_owned());
            }
        }
        (all - missed.len(), all, missed)
    }
}
