//! Planted bugs, each one condition in the code it breaks: what the simulator must catch (docs/verification.md).
//!
//! Only the feature `mutations` can switch one on, and no binary that serves has it. Without it [`Mutation::is_on`] is a
//! constant, and nothing of them is left in the code.
#![cfg_attr(not(feature = "mutations"), allow(unreachable_pub))]

macro_rules! mutations {
    ($($variant:ident, $name:literal, $file:literal, $bug:literal;)*) => {
        /// A planted bug.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Mutation {
            $(#[doc = $bug] $variant,)*
        }

        #[cfg(feature = "mutations")]
        impl Mutation {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// How it is called.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The file that it breaks, below `engine/src`.
            #[must_use]
            pub const fn file(self) -> &'static str {
                match self { $(Self::$variant => $file,)* }
            }

            /// What is wrong with it, in a sentence.
            #[must_use]
            pub const fn bug(self) -> &'static str {
                match self { $(Self::$variant => $bug,)* }
            }
        }
    };
}

mutations! {
    AckBeforeDurable, "ack-before-durable", "shard/stage.rs", "An append is acknowledged when its extent is handed to the device, not when it is durable";
    AckNonContiguous, "ack-non-contiguous", "log/writer.rs", "An extent is acknowledged while one before it is still in flight";
    DurableLsnAhead, "durable-lsn-ahead", "log/writer.rs", "An extent says that those in flight before it are durable";
    DurableLsnBehind, "durable-lsn-behind", "log/writer.rs", "Extents never say that anything before them is durable";
    IdleExtentMissing, "idle-extent-missing", "shard/timer.rs", "No idle extent follows the last append: its loss looks like a torn end";
    AnswersOneExtentEarly, "answers-one-extent-early", "shard/durable.rs", "Held answers go out one extent too early";
    SeqNumMismatchEarly, "seq-num-mismatch-early", "shard/append.rs", "A failed `match_seq_num` is answered before the state that fails it is durable";
    TokenMismatchEarly, "token-mismatch-early", "shard/append.rs", "A failed fencing token is answered before the fence that fails it is durable";
    ConfigToldEarly, "config-told-early", "shard/control.rs", "A configuration is told before it is durable";
    CreateRepeatedEarly, "create-repeated-early", "shard/control.rs", "A creation that is asked again is confirmed before the first is durable";
    DeleteRepeatedEarly, "delete-repeated-early", "shard/control.rs", "A deletion that is asked again is confirmed before the first is durable";
    ReplyTwice, "reply-twice", "shard/durable.rs", "A held answer is sent twice";
    ReadUncommitted, "read-uncommitted", "shard/read.rs", "A read goes on into records that are not durable yet";
    TailUncommitted, "tail-uncommitted", "shard/read.rs", "A check of the tail tells the tail that is not durable yet";
    ReadCrcSkipped, "read-crc-skipped", "read/walk.rs", "Records from the device are served without a look at their CRC";
    FrameHeaderCrcSkipped, "frame-header-crc-skipped", "log/frame.rs", "A frame's header is believed without a look at its CRC";
    ReadHoleServed, "read-hole-served", "read/collect.rs", "A read skips records that the piece of the log lacks (found by seed 1)";
    TrimmedServed, "trimmed-served", "shard/read.rs", "A read serves trimmed records that still lie in the log";
    UntilIgnored, "until-ignored", "read/collect.rs", "A read passes its `until` when whole frames fit";
    CountIgnored, "count-ignored", "read/collect.rs", "A read passes its limit of records when whole frames fit";
    TimestampEntryLate, "timestamp-entry-late", "stream/index.rs", "A read by timestamp begins one index entry too late";
    FollowerNotWoken, "follower-not-woken", "shard/read.rs", "Of the readers that wait on a stream only the first is woken";
    FollowNotCancelled, "follow-not-cancelled", "shard/read.rs", "A follow that was cancelled stays";
    CancelledFetchAnswered, "cancelled-fetch-answered", "shard/read.rs", "A follow that is cancelled while its records are fetched is answered (found by seed 9)";
    ReadersNotClosed, "readers-not-closed", "shard/durable.rs", "Readers of a stream that is deleted are left waiting";
    SeqNumAgainstCommitted, "seq-num-against-committed", "stream/admit.rs", "`match_seq_num` is judged by the durable tail, not by what is on its way";
    FenceOnceDurable, "fence-once-durable", "stream/admit.rs", "A fence is in force only once it is durable";
    SeqNumReused, "seq-num-reused", "shard/append.rs", "A refused append takes the numbers of those on their way back";
    TimestampsFall, "timestamps-fall", "stream/admit.rs", "Timestamps of a batch may fall";
    TimestampsUncapped, "timestamps-uncapped", "stream/admit.rs", "Timestamps of the future are taken from everybody";
    SessionNotPoisoned, "session-not-poisoned", "shard/append.rs", "A session goes on after an input of it has failed";
    DeferredOvertaken, "deferred-overtaken", "shard.rs", "An append that fits overtakes those that wait for room";
    SessionEndOvertakes, "session-end-overtakes", "shard.rs", "The end of a session overtakes its appends that wait for room";
    CreatingListed, "creating-listed", "stream/catalog.rs", "A listing shows streams whose creation is not durable";
    UnseenDeletionShown, "unseen-deletion-shown", "stream/state.rs", "A stream that is deleted while it is created becomes visible (found by seed 45)";
    DeletedSeenAgain, "deleted-seen-again", "stream/state.rs", "The drop of a basin shows a deleted stream again (found by seed 45)";
    CreateInDroppingBasin, "create-in-dropping-basin", "shard/append.rs", "A stream is created in a basin whose drop is on its way";
    DropLeavesAStream, "drop-leaves-a-stream", "shard/state.rs", "The drop of a basin leaves one of its streams";
    EmptyAgeFromCreation, "empty-age-from-creation", "stream/state.rs", "Delete-on-empty counts from the creation of a stream, not from its last write";
    EmptyThoughInFlight, "empty-though-in-flight", "stream/state.rs", "Delete-on-empty overlooks an append that is on its way";
    OldDeadlineKills, "old-deadline-kills", "shard/timer.rs", "A deadline is taken at its word: the stream that has the place now is deleted";
    DeadlineNotCleared, "deadline-not-cleared", "stream/catalog.rs", "The deadline of a stream that is gone stays with its place";
    ExpiresEarly, "expires-early", "stream/state.rs", "Records expire a second too early";
    ClockBackExpires, "clock-back-expires", "stream/index.rs", "A wall clock that jumps back lets records expire early (found by seed 8)";
    NeverExpires, "never-expires", "shard/state.rs", "Expiry is forgotten once a trim by a client has changed the deadline";
    TrimTooFar, "trim-too-far", "stream/state.rs", "A trim takes one record too many";
    RecycledIndexed, "recycled-indexed", "log/space.rs", "A segment is recycled that an index still points into";
    RecycledReplayed, "recycled-replayed", "log/space.rs", "A segment is recycled that recovery would replay";
    ReplayFromTooSoon, "replay-from-too-soon", "shard/checkpoint.rs", "Segments are free when a checkpoint is begun, not when it is in force";
    ReleasedTwice, "released-twice", "shard/durable.rs", "An index entry that goes is released twice";
    IndexEntryLost, "index-entry-lost", "stream/index.rs", "A frame that would begin an index entry in a new segment gets none";
    FailedSegmentUsed, "failed-segment-used", "log/space.rs", "A segment that could not be made is written to";
    SegmentsUnbounded, "segments-unbounded", "log/space.rs", "More segments are made than may exist";
    InFlightUnbounded, "in-flight-unbounded", "log/writer.rs", "More extents are in flight than may be";
    ReadersUnbounded, "readers-unbounded", "shard/read.rs", "More readers wait than may";
    IndexUnbounded, "index-unbounded", "shard/append.rs", "The index takes more memory than it may";
    HardStateNotWritten, "hard-state-not-written", "shard/stage.rs", "A group's new term is not written to the log";
    HardStateForgotten, "hard-state-forgotten", "shard/recover.rs", "Recovery starts again at term 0";
    HardStateNotInCheckpoint, "hard-state-not-in-checkpoint", "shard/checkpoint.rs", "A checkpoint forgets the terms of its groups";
    ReplayTooLate, "replay-too-late", "log/writer.rs", "A checkpoint begins its replay behind the extents in flight";
    CreatingInCheckpoint, "creating-in-checkpoint", "shard/checkpoint.rs", "A checkpoint has streams whose creation is not durable";
    TailInCheckpointAhead, "tail-in-checkpoint-ahead", "shard/checkpoint.rs", "A checkpoint has the tail of appends that are not durable";
    TrimNotInCheckpoint, "trim-not-in-checkpoint", "shard/checkpoint.rs", "A checkpoint loses trims";
    FenceNotInCheckpoint, "fence-not-in-checkpoint", "shard/checkpoint.rs", "A checkpoint loses fences";
    AgeNotInCheckpoint, "age-not-in-checkpoint", "shard/checkpoint.rs", "A checkpoint loses when a stream was last written";
    StorageNotInCheckpoint, "storage-not-in-checkpoint", "shard/checkpoint.rs", "A checkpoint loses how much is stored";
    DeletionNotInCheckpoint, "deletion-not-in-checkpoint", "shard/checkpoint.rs", "A checkpoint loses deletions";
    GenerationNotInCheckpoint, "generation-not-in-checkpoint", "shard/checkpoint.rs", "A checkpoint loses which incarnations were given";
    RowLostBetweenPieces, "row-lost-between-pieces", "shard/checkpoint.rs", "A checkpoint skips a row between two pieces";
    CheckpointDurableAhead, "checkpoint-durable-ahead", "shard/checkpoint.rs", "A checkpoint says that what is in flight is durable";
    PayloadCrcSkipped, "payload-crc-skipped", "log/extent.rs", "Recovery takes frames without a look at the CRC of their payload";
    ChainNotChecked, "chain-not-checked", "log/recovery.rs", "Recovery takes an extent that does not follow the one before";
    EpochStays, "epoch-stays", "log/recovery.rs", "The epoch does not grow with a restart: stale extents are as good as new ones";
    CorruptionCut, "corruption-cut", "log/recovery.rs", "Recovery cuts the log at damage instead of refusing";
    CheckpointDurableIgnored, "checkpoint-durable-ignored", "log/recovery.rs", "Recovery does not believe the checkpoint's word on what was durable";
    LookAheadShort, "look-ahead-short", "log/recovery.rs", "Recovery looks for a sign of damage only right behind the end";
    ForeignGroupsTaken, "foreign-groups-taken", "shard/recover.rs", "A log of another number of shards is taken up (found by seed 1)";
    ConfigNotReplayed, "config-not-replayed", "shard/state.rs", "A configuration that was changed behind the checkpoint is lost";
    ConfigInCheckpointAhead, "config-in-checkpoint-ahead", "shard/checkpoint.rs", "A checkpoint has a configuration that is not durable (found by seed 18)";
    BasinInCheckpointAhead, "basin-in-checkpoint-ahead", "shard/checkpoint.rs", "A checkpoint has a basin that is not durable (found by seed 18)";
    ChangedBasinForgotten, "changed-basin-forgotten", "shard/control.rs", "A checkpoint forgets a basin that is being changed (found by seed 12)";
    DropBeforeDurable, "drop-before-durable", "metadata.rs", "The streams of a basin go before its deletion is durable (found by reading)";
    OldOperationsReplayed, "old-operations-replayed", "shard/recover.rs", "An operation is applied to a row that has it already";
    GoneStreamRefused, "gone-stream-refused", "shard/recover.rs", "An operation on a stream that was gone before its row was written stops recovery";
    LeaseToldEarly, "lease-told-early", "shard/lease.rs", "A lease is given or renewed before that is durable";
    LeaseHeldEarly, "lease-held-early", "shard/lease.rs", "A lease is refused for another that is not durable";
    LeaseWithoutItsFence, "lease-without-its-fence", "shard/lease.rs", "A lease is given without a fence: an old holder's token stays in force";
    LeaseGivenTwice, "lease-given-twice", "shard/lease.rs", "A lease is given while somebody holds it";
    LeaseNeverRunsOut, "lease-never-runs-out", "stream/lease.rs", "Whether a lease has run out is not looked at";
    LeaseTimeStands, "lease-time-stands", "stream/lease.rs", "A renewal leaves the time at which a lease runs out";
    LeaseNotAnew, "lease-not-anew", "stream/lease.rs", "After a restart a lease has run out";
    LeaseWithoutGrace, "lease-without-grace", "stream/lease.rs", "A lease that runs anew gets nothing on top";
    LeaseRenewedByAnybody, "lease-renewed-by-anybody", "shard/lease.rs", "A lease is renewed and given back with any token";
    LeaseRenewalUnwritten, "lease-renewal-unwritten", "shard/lease.rs", "A renewal with another duration is written with the one before";
    LeaseOutlivesFence, "lease-outlives-fence", "stream/state.rs", "A foreign fence does not end a lease";
    LeaseOutlivesFenceOnDisk, "lease-outlives-fence-on-disk", "stream/state.rs", "A foreign fence ends a lease until the next restart";
    LeaseEndedBySameFence, "lease-ended-by-same-fence", "stream/state.rs", "Setting the same token again ends a lease";
    LeaseNotInCheckpoint, "lease-not-in-checkpoint", "shard/checkpoint.rs", "A checkpoint loses leases";
    LeaseInCheckpointAhead, "lease-in-checkpoint-ahead", "stream/lease.rs", "A checkpoint has a lease that is not durable";
    LeaseGenerationReused, "lease-generation-reused", "shard/lease.rs", "A lease is given under the number of the one before";
    LeaseLostAtReplay, "lease-lost-at-replay", "shard/state.rs", "A lease that lies behind the checkpoint is not replayed";
    TokenToldEarly, "token-told-early", "shard/tokens.rs", "An access token is issued or revoked, for its client, before that is durable";
    TokenShownEarly, "token-shown-early", "shard/tokens.rs", "Fronts see an access token before it is durable";
    TokenTakenEarly, "token-taken-early", "shard/tokens.rs", "An id of an access token is told to be taken before that is durable";
    TokenReplaced, "token-replaced", "shard/tokens.rs", "Issuing a token under an id that is taken replaces it";
    TokenOutlivesExpiry, "token-outlives-expiry", "shard/tokens.rs", "An access token that has expired keeps its id";
    TokenNotInCheckpoint, "token-not-in-checkpoint", "shard/checkpoint.rs", "A checkpoint loses access tokens";
    TokenInCheckpointAhead, "token-in-checkpoint-ahead", "metadata/tokens.rs", "A checkpoint has an access token that is not durable";
    RevocationNotInCheckpoint, "revocation-not-in-checkpoint", "metadata/tokens.rs", "A checkpoint has an access token that was revoked";
    CipherIgnored, "cipher-ignored", "shard/append.rs", "A batch is taken however it is sealed";
    CipherNotInCheckpoint, "cipher-not-in-checkpoint", "shard/checkpoint.rs", "A checkpoint loses the ciphers of streams";
    ReplayedFenceStale, "replayed-fence-stale", "stream/catalog.rs", "A fence that recovery replays does not reach the appends that follow";
}

#[cfg(feature = "mutations")]
std::thread_local! {
    static CHOSEN: std::cell::Cell<Option<Mutation>> = const { std::cell::Cell::new(None) };
}

/// Switches one bug on for all shards of this thread, or all bugs off. Call between runs.
#[cfg(feature = "mutations")]
pub fn choose(mutation: Option<Mutation>) {
    CHOSEN.set(mutation);
}

impl Mutation {
    /// Whether it is switched on.
    #[cfg(feature = "mutations")]
    pub(crate) fn is_on(self) -> bool {
        CHOSEN.get() == Some(self)
    }

    /// Whether it is switched on: never.
    #[cfg(not(feature = "mutations"))]
    pub(crate) const fn is_on(self) -> bool {
        let _ = self;
        false
    }
}

#[cfg(all(test, feature = "mutations"))]
#[path = "mutation_tests.rs"]
mod tests;
