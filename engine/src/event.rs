//! What a shard is told ([`Event`]) and what it asks for ([`Effect`]): the one seam of the engine.
//!
//! Fronts speak [`Op`] and hear [`Reply`]; disks, timers and other shards are the driver's business. Nothing here
//! waits, and every value is plain, so that a simulator can stand in for any driver.

use std::sync::Arc;

use bytes::Bytes;
use model::config::{
    BasinConfig, BasinReconfiguration, Cipher, MeteredClass, ResolvedStreamConfig, StreamReconfiguration,
};
use model::lease::{LeaseDuration, LeaseHolder};
use model::{
    AccessToken, BasinId, BasinName, Batch, Failure, FencingToken, GroupId, NamePrefix, Position, ShardId, StreamId,
    StreamName, TokenId,
};

use crate::log::{Lsn, SegmentNo};

/// The time, as an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Monotonic microseconds from an arbitrary start; for deadlines and latencies.
    pub mono_us: u64,
    /// Milliseconds since the Unix epoch; for timestamps and ages. May jump.
    pub wall_ms: u64,
}

/// Where an answer goes: which front, and which of its waiting requests. A token is used once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplyTo {
    /// The front that asked.
    pub front: u16,
    /// Chosen by the front.
    pub token: u64,
}

/// An append session, as its front numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId {
    /// The front that carries the session.
    pub front: u16,
    /// Chosen by the front, used once.
    pub number: u64,
}

/// A request of a front to a shard.
#[derive(Debug, Clone)]
pub struct Request {
    /// Where the answer goes.
    pub reply_to: ReplyTo,
    /// When the front had the whole request, on the clock of [`Now::mono_us`].
    pub arrived_us: u64,
    /// What is asked.
    pub op: Op,
}

/// A stream as a request names it. The front has resolved the basin and the group.
#[derive(Debug, Clone)]
pub struct Target {
    /// The group that owns the stream's slot.
    pub group: GroupId,
    /// The basin's incarnation.
    pub basin_id: BasinId,
    /// For messages.
    pub basin: BasinName,
    /// The stream.
    pub stream: StreamName,
    /// The incarnation a session began with: another one under the same name is "not found".
    pub incarnation: Option<StreamId>,
}

/// How a missing stream is created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamSpec {
    /// Resolved against the basin's defaults.
    pub config: Arc<ResolvedStreamConfig>,
    /// From the basin.
    pub cipher: Option<Cipher>,
}

/// What a front may ask of a shard.
#[derive(Debug, Clone)]
pub enum Op {
    /// Answered by [`Reply::Appended`] once durable.
    Append(Append),
    /// Resolves (or auto-creates) a stream for an append session; answered by [`Reply::Opened`].
    OpenSession {
        /// The stream.
        target: Target,
        /// Present when the basin creates missing streams on append.
        create: Option<StreamSpec>,
    },
    /// The session is over: forget whether it was poisoned. Not answered.
    EndSession(SessionId),
    /// Answered by [`Reply::Tail`].
    CheckTail {
        /// The stream.
        target: Target,
        /// Present when the basin creates missing streams on read.
        create: Option<StreamSpec>,
    },
    /// Never waits for records; answered by [`Reply::Read`], maybe empty at the tail.
    Read(Read),
    /// Waits until there are records at `from_seq_num`; answered by [`Reply::Read`]. The front cancels it to stop waiting.
    Follow(Follow),
    /// Stops the [`Op::Follow`] that was asked with this token by the same front. Not answered, nor is the follow
    /// afterwards (an answer that is already under way may still come).
    CancelFollow(u64),
    /// Answered by [`Reply::Stream`].
    CreateStream {
        /// The stream.
        target: Target,
        /// Its configuration.
        spec: StreamSpec,
        /// Idempotency key: a hash of request token and request body (s2-wire.md 1.4).
        request_key: Option<u64>,
    },
    /// PUT: creates the stream or replaces its configuration; answered by [`Reply::Stream`].
    EnsureStream {
        /// The stream.
        target: Target,
        /// Its whole configuration. The cipher is only used when it is created.
        spec: StreamSpec,
    },
    /// PATCH; answered by [`Reply::StreamConfig`].
    ReconfigureStream {
        /// The stream.
        target: Target,
        /// What changes.
        change: StreamReconfiguration,
        /// What a cleared field falls back to: the basin's defaults of now.
        defaults: model::StreamConfig,
    },
    /// Answered by [`Reply::StreamConfig`].
    GetStreamConfig {
        /// The stream.
        target: Target,
    },
    /// Answered by [`Reply::Done`] once the deletion is durable.
    DeleteStream {
        /// The stream.
        target: Target,
    },
    /// The lease of a stream; answered by [`Reply::Lease`], [`Reply::LeaseHeld`], [`Reply::LeaseLost`] or [`Reply::Done`].
    Lease {
        /// The stream.
        target: Target,
        /// What is wanted of it.
        request: LeaseRequest,
    },
    /// The streams of one basin that live on this shard, in order; answered by [`Reply::Streams`].
    ListStreams {
        /// The basin.
        basin_id: BasinId,
        /// What names begin with.
        prefix: NamePrefix,
        /// Names up to and including this one are left out.
        start_after: NamePrefix,
        /// At most this many.
        limit: usize,
    },
    /// What is stored on this shard; answered by [`Reply::Stored`].
    MeterStorage(StorageOf),
    /// Answered by [`Reply::Basin`]. Basin requests go to shard 0.
    CreateBasin {
        /// Its name.
        basin: BasinName,
        /// Its configuration.
        config: BasinConfig,
        /// Idempotency key, see [`Op::CreateStream`].
        request_key: Option<u64>,
    },
    /// PUT; answered by [`Reply::Basin`].
    EnsureBasin {
        /// Its name.
        basin: BasinName,
        /// Its whole configuration.
        config: BasinConfig,
    },
    /// PATCH; answered by [`Reply::Basin`].
    ReconfigureBasin {
        /// Its name.
        basin: BasinName,
        /// What changes.
        change: BasinReconfiguration,
    },
    /// Answered by [`Reply::Done`] once the deletion is durable; its streams go in the background.
    DeleteBasin {
        /// Its name.
        basin: BasinName,
    },
    /// Answered by [`Reply::Done`] once it is durable and in force. Requests on access tokens go to shard 0.
    IssueToken(Arc<AccessToken>),
    /// Answered by [`Reply::Done`] once the revocation is durable and in force.
    RevokeToken(TokenId),
}

/// Whose storage is asked for.
#[derive(Debug, Clone)]
pub enum StorageOf {
    /// All basins that have some.
    Basins,
    /// One basin.
    Basin(BasinId),
    /// One stream; it must be there.
    Stream(Target),
}

/// What is asked of a stream's lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseRequest {
    /// To have it, unless somebody has. Answered by [`Reply::Lease`] or [`Reply::LeaseHeld`].
    Acquire {
        /// Who wants it.
        holder: LeaseHolder,
        /// How long it holds without being renewed.
        duration: LeaseDuration,
        /// The fencing token that comes with it: never used before. The core has no randomness.
        token: FencingToken,
    },
    /// To have it for longer. Answered by [`Reply::Lease`] or [`Reply::LeaseLost`].
    Renew {
        /// The token it came with.
        token: FencingToken,
        /// Another duration.
        duration: Option<LeaseDuration>,
    },
    /// To give it back. Answered by [`Reply::Done`] or [`Reply::LeaseLost`].
    Release {
        /// The token it came with.
        token: FencingToken,
    },
    /// To know who has it. Answered by [`Reply::Lease`].
    Inspect,
}

/// One batch to append.
#[derive(Debug, Clone)]
pub struct Append {
    /// The stream.
    pub target: Target,
    /// The records.
    pub batch: Batch,
    /// The number the first record must get.
    pub match_seq_num: Option<u64>,
    /// The token that must be in force.
    pub fencing_token: Option<FencingToken>,
    /// Present when the basin creates missing streams on append.
    pub create: Option<StreamSpec>,
    /// Inputs of one session are applied in order, and none after the first that fails.
    pub session: Option<SessionId>,
}

/// Where a read starts (s2-wire.md 1.10).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadStart {
    /// At this number.
    SeqNum(u64),
    /// At the first record with this timestamp or a later one.
    Timestamp(u64),
    /// This many records before the tail.
    TailOffset(u64),
}

/// What is left of a read's limits; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReadLimits {
    /// Records.
    pub count: Option<u64>,
    /// Metered bytes.
    pub bytes: Option<u64>,
    /// Stop before the first record with this timestamp or a later one.
    pub until: Option<u64>,
    /// At most this many batches in one answer; at least 1. Bounds what one answer may hold.
    pub batches: usize,
}

/// A read that does not wait.
#[derive(Debug, Clone)]
pub struct Read {
    /// The stream.
    pub target: Target,
    /// Present when the basin creates missing streams on read.
    pub create: Option<StreamSpec>,
    /// Where it starts.
    pub start: ReadStart,
    /// Beyond the tail means at the tail.
    pub clamp: bool,
    /// Whether being at the tail is fine (the front will follow) or 416.
    pub may_follow: bool,
    /// Limits.
    pub limits: ReadLimits,
}

/// A read that waits for records.
#[derive(Debug, Clone)]
pub struct Follow {
    /// The stream; its incarnation is set.
    pub target: Target,
    /// The first number wanted, at most the tail.
    pub from_seq_num: u64,
    /// Limits.
    pub limits: ReadLimits,
}

/// Times of one append on its way, on the clock of [`Now::mono_us`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AppendTimes {
    /// The front had it.
    pub arrived_us: u64,
    /// The shard took it up.
    pub admitted_us: u64,
    /// Its extent was handed to the device.
    pub submitted_us: u64,
    /// Its extent was durable.
    pub durable_us: u64,
}

/// What a durable append got (s2-wire.md 1.6, AppendAck).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The first record.
    pub start: Position,
    /// The number behind the last record, with the last record's timestamp.
    pub end: Position,
    /// The durable tail; at least `end`.
    pub tail: Position,
    /// The incarnation it went to.
    pub stream: StreamId,
    /// As what it is metered.
    pub class: MeteredClass,
    /// For the latency histograms.
    pub times: AppendTimes,
}

/// Records that fit one `ReadBatch`: at most 1000, at most 1 MiB metered, and with a tail within one s2s frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadBatch {
    /// Runs of stored records (`model::stored`), in order; together they are the batch. Never empty.
    pub runs: Vec<Bytes>,
    /// Records in them.
    pub records_count: u64,
    /// Their metered size.
    pub metered_bytes: u64,
    /// The last record.
    pub last: Position,
}

/// An answer to [`Op::Read`] or [`Op::Follow`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadReply {
    /// The incarnation that was read.
    pub stream: StreamId,
    /// What its ordinary records are sealed with.
    pub cipher: Option<Cipher>,
    /// What was read.
    pub batches: Vec<ReadBatch>,
    /// Where to go on. At the tail when it equals `tail.seq_num`.
    pub next_seq_num: u64,
    /// The durable tail when this was answered.
    pub tail: Position,
    /// A limit was reached or `until` was met: nothing will ever follow.
    pub done: bool,
}

/// A stream as listings show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamInfo {
    /// Its name.
    pub name: StreamName,
    /// Milliseconds since the Unix epoch.
    pub created_at_ms: u64,
    /// Set while it is being deleted.
    pub deleted_at_ms: Option<u64>,
    /// Fixed at creation.
    pub cipher: Option<Cipher>,
}

/// Who holds a stream's lease. The token is not told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseInfo {
    /// Who.
    pub holder: LeaseHolder,
    /// How long it holds without being renewed.
    pub duration: LeaseDuration,
    /// How often the stream's lease was given, this time included.
    pub generation: u64,
    /// It runs out after this many milliseconds.
    pub expires_in_ms: u64,
}

/// A basin as everyone may see it: committed state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BasinInfo {
    /// Its incarnation.
    pub id: BasinId,
    /// Its name.
    pub name: BasinName,
    /// Its configuration.
    pub config: BasinConfig,
    /// Milliseconds since the Unix epoch.
    pub created_at_ms: u64,
    /// Set while it is being deleted.
    pub deleted_at_ms: Option<u64>,
}

/// What a create or ensure did (`s2-provision-result`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provision {
    /// It is new.
    Created,
    /// It has another configuration now.
    Updated,
    /// It was so before.
    Noop,
}

/// An answer to a front.
#[derive(Debug, Clone)]
pub enum Reply {
    /// The batch is durable.
    Appended(Appended),
    /// The session may send, records sealed with this cipher if there is one.
    Opened(StreamId, Option<Cipher>),
    /// The batch was not appended: this incarnation wants its records sealed so. Nothing but a creation happened.
    OtherCipher(StreamId, Option<Cipher>),
    /// The durable tail.
    Tail(Position),
    /// What was read.
    Read(ReadReply),
    /// The stream.
    Stream(StreamInfo, Provision),
    /// The stream's whole configuration.
    StreamConfig(Arc<ResolvedStreamConfig>),
    /// One shard's part of a page; true when this shard has more.
    Streams(Vec<StreamInfo>, bool),
    /// Metered bytes that are stored, by basin, in order. They are of records that can be read, and of those trimmed from a
    /// part of the log that others keep: 256 KiB of it or less, more when memory for the index gets short.
    Stored(Vec<(BasinId, u64)>),
    /// The basin.
    Basin(BasinInfo, Provision),
    /// Who holds the lease, if anybody does.
    Lease(Option<LeaseInfo>),
    /// Somebody else holds it.
    LeaseHeld(LeaseInfo),
    /// The token is of no lease that is in force: it ran out, was given back or taken, or somebody set another token.
    LeaseLost,
    /// It is durable.
    Done,
    /// It did not happen, or may have: the failure tells.
    Failed(Failure),
}

/// A change of the committed set of basins. Whoever learns of a later reply has seen it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BasinChange {
    /// New or changed.
    Put(Arc<BasinInfo>),
    /// Gone; the name is free.
    Removed(BasinName),
}

/// A change of the committed set of access tokens. Whoever learns of a later reply has seen it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenChange {
    /// It may be used.
    Put(Arc<AccessToken>),
    /// It may not be used any more.
    Removed(TokenId),
}

/// What one shard tells another of the same node. Delivered in order, at least once after a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShardMessage {
    /// From shard 0: delete all streams of the basin, and never again create one.
    DropBasin(BasinId),
    /// To shard 0: all streams of the basin on the sending shard are gone, durably.
    BasinDropped(BasinId, ShardId),
}

/// Names one read of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogReadId(pub u64);

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// A front asked.
    Request(Request),
    /// The driver has handed over all it had: time to write, if there is anything to write.
    BurstEnd,
    /// The extent that begins at `lsn` is on stable storage. Any order; the shard acknowledges the contiguous prefix.
    ExtentDurable {
        /// Its start.
        lsn: Lsn,
    },
    /// An [`Effect::ReadLog`] ended; the text names the file and what failed.
    LogRead {
        /// Which.
        id: LogReadId,
        /// Exactly the bytes asked for.
        result: Result<Bytes, String>,
    },
    /// An [`Effect::PrepareSegment`] ended well: the file exists, is written with zeros or old extents all over, and its
    /// header is durable.
    SegmentReady {
        /// Which.
        segment: SegmentNo,
    },
    /// An [`Effect::PrepareSegment`] failed (no space, say); the shard asks again later.
    SegmentFailed {
        /// Which.
        segment: SegmentNo,
        /// For the log.
        reason: String,
    },
    /// The last [`Effect::Checkpoint`] part was written; after [`CheckpointPart::Commit`] it is durable and in force.
    CheckpointWritten,
    /// Writing the checkpoint failed; the one before stays in force.
    CheckpointFailed {
        /// For the log.
        reason: String,
    },
    /// The time of the last [`Effect::SetTimer`] has come.
    Timer,
    /// Another shard said something.
    Shard(ShardMessage),
    /// The process wants to stop: refuse new appends, finish what was accepted.
    Drain,
}

/// A piece of a checkpoint file. One is in flight at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckpointPart {
    /// A new file, beside the one in force.
    Begin,
    /// More bytes of it.
    Bytes(Bytes),
    /// Make it durable, then put it in the place of the one in force.
    Commit,
}

/// What to do.
#[derive(Debug)]
pub enum Effect {
    /// Answer a front.
    Reply {
        /// Where.
        to: ReplyTo,
        /// What.
        reply: Reply,
    },
    /// Show a change of basins to all fronts, before any later reply.
    Publish(BasinChange),
    /// Show a change of access tokens to all fronts, before any later reply.
    PublishToken(TokenChange),
    /// Write `bytes` (address, length and offset are multiples of 4 KiB) and make them durable; then
    /// [`Event::ExtentDurable`]. Writes may be under way together and end in any order. A failure is fatal to the process.
    WriteExtent {
        /// Names the write.
        lsn: Lsn,
        /// The file.
        segment: SegmentNo,
        /// Where in the file, in bytes.
        offset: u64,
        /// What.
        bytes: Bytes,
    },
    /// Read from the log; then [`Event::LogRead`]. Offset and length are multiples of 4 KiB.
    ReadLog {
        /// Names the read.
        id: LogReadId,
        /// The file.
        segment: SegmentNo,
        /// Where in the file, in bytes.
        offset: u64,
        /// How much, in bytes.
        len: u32,
    },
    /// Make the segment ready to be written: the file of `recycled` under its new name, or a new file written with zeros.
    /// Its header (`header`, 4 KiB) and the directory are durable before [`Event::SegmentReady`].
    PrepareSegment {
        /// The new segment.
        segment: SegmentNo,
        /// A segment that nobody needs any more.
        recycled: Option<SegmentNo>,
        /// The first 4 KiB of the file.
        header: Bytes,
    },
    /// Write the next part of a checkpoint; then [`Event::CheckpointWritten`].
    Checkpoint(CheckpointPart),
    /// Call back with [`Event::Timer`] at this time at the latest; replaces the timer set before.
    SetTimer {
        /// On the clock of [`Now::mono_us`].
        at_us: u64,
    },
    /// Tell another shard.
    SendShard {
        /// Which; may be this one.
        to: ShardId,
        /// What.
        message: ShardMessage,
    },
}

/// What a step asks for, in order. The driver empties it.
#[derive(Debug, Default)]
pub struct Effects(Vec<Effect>);

impl Effects {
    /// Asks for one thing more.
    pub fn push(&mut self, effect: Effect) {
        self.0.push(effect);
    }

    /// Answers a front.
    pub fn reply(&mut self, to: ReplyTo, reply: Reply) {
        self.push(Effect::Reply { to, reply });
    }

    /// Takes all that was asked for, in order.
    pub fn drain(&mut self) -> impl Iterator<Item = Effect> + '_ {
        self.0.drain(..)
    }

    /// Whether nothing was asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
