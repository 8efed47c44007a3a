//! Every answer is held against the truth at the moment it leaves the shard.

use engine::event::{Append, Follow, Op, Provision, Read, ReadLimits, ReadReply, ReadStart, Reply, ReplyTo, Target};
use model::config::Cipher;
use model::stored::StoredRecords;
use model::{BasinId, BasinName, Failure, GroupId, Position, SecretHash, ShardId, StreamId, StreamName, TokenId};

use super::World;
use super::clients::Place;
use super::leases::is_of_a_lease;
use crate::attempts::LeaseAsk;
use crate::coverage::Point;
use crate::payload;
use crate::truth::{Ask, StreamTruth};
use crate::violation::{Rule, Violation, broken};

/// What was asked, as far as the answer is judged by it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Asked {
    Append {
        sets_token: Option<String>,
        fencing_token: Option<String>,
        cipher: Option<Cipher>,
    },
    Lease(LeaseAsk),
    OpenSession,
    CheckTail,
    Read {
        start: ReadStart,
        clamp: bool,
        may_follow: bool,
        limits: ReadLimits,
    },
    Follow {
        from: u64,
        limits: ReadLimits,
    },
    CreateStream,
    EnsureStream,
    Reconfigure,
    GetConfig,
    DeleteStream,
    List(BasinId, ShardId),
    CreateBasin(BasinName),
    EnsureBasin(BasinName),
    ReconfigureBasin(BasinName),
    DeleteBasin(BasinName),
    IssueToken(SecretHash),
    RevokeToken(TokenId),
    /// Is not answered.
    Nothing,
}

/// A stream as a request names it.
#[derive(Debug, Clone)]
pub(super) struct Named {
    pub(super) group: GroupId,
    pub(super) basin: BasinId,
    pub(super) stream: StreamName,
}

/// What was true of a stream when the request was sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Before {
    pub(super) id: StreamId,
    /// The furthest tail that anybody had been told.
    pub(super) told_tail: u64,
    /// The durable tail.
    pub(super) tail: u64,
    /// Records below were gone.
    pub(super) trim_point: u64,
    /// It was being deleted.
    pub(super) is_deleted: bool,
    /// How many tokens and configurations it had had.
    pub(super) tokens: u64,
    pub(super) configs: u64,
    /// Likewise of leases.
    pub(super) leases: u64,
}

/// A request that is not answered.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    pub(super) client: usize,
    pub(super) shard: ShardId,
    pub(super) place: Option<Place>,
    pub(super) asked: Asked,
    pub(super) named: Option<Named>,
    creates: bool,
    pub(super) sent_us: u64,
    /// The same on the node's clocks.
    pub(super) sent_mono_us: u64,
    pub(super) sent_wall_ms: u64,
    pub(super) before: Option<Before>,
}

impl Pending {
    pub(super) fn new(client: usize, shard: ShardId, op: &Op, place: Option<Place>, asked: Asked, now_us: u64) -> Self {
        let (target, creates): (Option<&Target>, bool) = match op {
            Op::Append(Append { target, create, .. })
            | Op::OpenSession { target, create }
            | Op::CheckTail { target, create }
            | Op::Read(Read { target, create, .. }) => (Some(target), create.is_some()),
            Op::CreateStream { target, .. } | Op::EnsureStream { target, .. } => (Some(target), true),
            Op::Follow(Follow { target, .. })
            | Op::ReconfigureStream { target, .. }
            | Op::GetStreamConfig { target }
            | Op::DeleteStream { target }
            | Op::Lease { target, .. } => (Some(target), false),
            Op::EndSession(_)
            | Op::CancelFollow(_)
            | Op::ListStreams { .. }
            | Op::MeterStorage(_)
            | Op::CreateBasin { .. }
            | Op::EnsureBasin { .. }
            | Op::ReconfigureBasin { .. }
            | Op::DeleteBasin { .. }
            | Op::IssueToken(_)
            | Op::RevokeToken(_) => (None, false),
        };
        let named = target.map(|t| Named { group: t.group, basin: t.basin_id, stream: t.stream.clone() });
        let (sent_us, sent_mono_us, sent_wall_ms) = (now_us, 0, 0);
        Self { client, shard, place, asked, named, creates, sent_us, sent_mono_us, sent_wall_ms, before: None }
    }

    /// Whether the stream that it names is still the one of when it was sent.
    pub(super) fn is_about(&self, id: StreamId) -> bool {
        self.before.is_some_and(|b| b.id == id)
    }

    /// The stream that had the name when it was sent.
    pub(super) fn incarnation(&self) -> Option<StreamId> {
        self.before.map(|before| before.id)
    }

    /// How many leases the stream had had when it was sent.
    pub(super) fn leases_of(&self, id: StreamId) -> u64 {
        self.before.filter(|before| before.id == id).map_or(1, |before| before.leases)
    }

    /// What of existence it may change.
    fn asks(&self) -> Option<Ask> {
        if self.asked == Asked::DeleteStream { Some(Ask::Delete) } else { self.creates.then_some(Ask::Create) }
    }
}

impl World {
    /// Notes what is true now, before the request is on its way.
    pub(super) fn register(&mut self, token: u64, mut pending: Pending) {
        let now_us = self.now_us;
        let now = self.nodes[0].now(now_us);
        (pending.sent_mono_us, pending.sent_wall_ms) = (now.mono_us, now.wall_ms);
        let truth = &mut self.nodes[0].seats[usize::from(pending.shard.0)].truth;
        if let Some(Named { group, basin, stream }) = &pending.named
            && let Some(group) = truth.group_mut(*group)
        {
            if let Some(ask) = pending.asks() {
                group.asked(*basin, stream, ask);
            }
            pending.before = group.named(*basin, stream).map(|(id, truth)| Before {
                id,
                told_tail: truth.told_tail,
                tail: truth.tail.seq_num,
                trim_point: truth.trim_point,
                is_deleted: truth.deleted_ms.is_some(),
                tokens: truth.token.count(),
                configs: truth.config.count(),
                leases: truth.lease.count(),
            });
        }
        self.pending.insert(token, pending);
    }

    /// What a request asked of existence can no longer come to be.
    pub(super) fn unregister(&mut self, pending: &Pending) {
        // A session is open before the stream that it made is durable.
        if pending.asked == Asked::OpenSession {
            return;
        }
        if let (Some(ask), Some(Named { group, basin, stream })) = (pending.asks(), &pending.named)
            && let Some(group) = self.nodes[0].seats[usize::from(pending.shard.0)].truth.group_mut(*group)
        {
            group.settled(*basin, stream, ask);
        }
    }

    pub(super) fn follow_cancelled(&mut self, node: usize, shard: ShardId, token: u64) -> Result<(), Violation> {
        // An answer in this very burst was given before the cancellation was heard.
        let seat = &mut self.nodes[node].seats[usize::from(shard.0)];
        let effects: Vec<_> = seat.effects.drain().collect();
        for effect in effects {
            self.carry(node, shard, effect)?;
        }
        self.note(node, shard, "follow cancelled", [token, 0, 0]);
        self.check_closed(node, shard, token)?;
        if let Some(pending) = self.pending.remove(&token) {
            self.record_loss(token);
            self.clients[pending.client].waiting.retain(|t| *t != token);
        }
        Ok(())
    }

    pub(super) fn reply(&mut self, node: usize, shard: ShardId, to: ReplyTo, reply: Reply) -> Result<(), Violation> {
        let token = to.token;
        let Some(pending) = self.pending.remove(&token) else {
            return broken(
                Rule::Answered,
                format!("request {token} is answered and nobody waits: {}", name_of(&reply)),
            );
        };
        self.note(node, shard, name_of(&reply), numbers_of(token, &reply));
        self.judge(node, token, &pending, &reply).map_err(|violation| {
            let what = format!("{} (request {token} of {} us: {:?})", violation.what, pending.sent_us, pending.asked);
            Violation { what, ..violation }
        })?;
        self.record_reply(token, &reply);
        // A batch that is given back may have made its stream, which is not durable yet.
        if !matches!(reply, Reply::OtherCipher(..)) {
            self.unregister(&pending);
        }
        self.hear(&pending, token, &reply);
        Ok(())
    }

    fn judge(&mut self, node: usize, token: u64, pending: &Pending, reply: &Reply) -> Result<(), Violation> {
        match reply {
            Reply::Failed(failure) => self.judge_failure(node, token, pending, failure),
            Reply::Appended(_)
            | Reply::Opened(..)
            | Reply::OtherCipher(..)
            | Reply::Lease(_)
            | Reply::LeaseHeld(_)
            | Reply::LeaseLost
            | Reply::Tail(_)
            | Reply::Read(_)
            | Reply::Stream(..)
            | Reply::StreamConfig(_)
            | Reply::Streams(..)
            | Reply::Stored(_)
            | Reply::Basin(..)
            | Reply::Done => self.judge_success(node, token, pending, reply),
        }
    }

    fn judge_success(&mut self, node: usize, token: u64, pending: &Pending, reply: &Reply) -> Result<(), Violation> {
        self.judge_life(node, pending, reply)?;
        match (&pending.asked, reply) {
            (Asked::Append { .. }, Reply::Appended(appended)) => self.judge_ack(node, token, pending, appended),
            (Asked::Append { cipher, .. }, Reply::OtherCipher(id, wanted)) => {
                self.judge_other_cipher(node, token, pending, *cipher, (*id, *wanted))
            }
            (Asked::Lease(_), _) => self.judge_lease(node, token, pending, reply),
            (Asked::OpenSession, Reply::Opened(id, cipher)) => self.judge_cipher(node, pending, *id, *cipher),
            (Asked::CheckTail, Reply::Tail(tail)) => self.judge_tail(node, pending, None, *tail),
            (Asked::Read { start, limits, .. }, Reply::Read(read)) => {
                self.judge_read(node, pending, *start, *limits, read)
            }
            (Asked::Follow { from, limits }, Reply::Read(read)) => {
                self.coverage.point(Point::Followed);
                self.judge_read(node, pending, ReadStart::SeqNum(*from), *limits, read)
            }
            (Asked::CreateStream | Asked::EnsureStream, Reply::Stream(_, provision)) => {
                self.judge_exists(node, pending, *provision)
            }
            (Asked::Reconfigure | Asked::GetConfig, Reply::StreamConfig(config)) => {
                let (group, named) = self.named(node, pending);
                let Some((id, stream)) = group.named(named.basin, &named.stream) else { return Ok(()) };
                let configs = pending.before.filter(|b| b.id == id).map_or(1, |b| b.configs);
                if stream.config.was(config, configs) {
                    Ok(())
                } else {
                    broken(Rule::Configuration, format!("stream `{}` never had {config:?}", named.stream))
                }
            }
            (Asked::DeleteStream, Reply::Done) => {
                let (group, named) = self.named(node, pending);
                match group.named(named.basin, &named.stream) {
                    Some((id, stream)) if stream.deleted_ms.is_none() && pending.before.is_some_and(|b| b.id == id) => {
                        broken(Rule::AckedIsDurable, format!("stream `{}` is said to be deleted", named.stream))
                    }
                    _ => Ok(()),
                }
            }
            (Asked::List(basin, shard), Reply::Streams(streams, _)) => self.judge_list(node, *basin, *shard, streams),
            (
                Asked::CreateBasin(name) | Asked::EnsureBasin(name) | Asked::ReconfigureBasin(name),
                Reply::Basin(info, _),
            ) => {
                let basins = &self.nodes[node].seats[0].truth.basins;
                if basins.get(name).is_some_and(|b| b.info.id == info.id) || basins.was_deleting(name, pending.sent_us)
                {
                    Ok(())
                } else {
                    broken(Rule::AckedIsDurable, format!("basin `{name}` is said to be there"))
                }
            }
            (Asked::DeleteBasin(name), Reply::Done) => {
                if self.nodes[node].seats[0].truth.basins.get(name).is_none_or(|b| b.info.deleted_at_ms.is_some()) {
                    Ok(())
                } else {
                    broken(Rule::AckedIsDurable, format!("basin `{name}` is said to be deleted"))
                }
            }
            (Asked::IssueToken(secret), Reply::Done) => {
                if self.nodes[node].seats[0].truth.basins.tokens.was_issued(secret) {
                    Ok(())
                } else {
                    broken(Rule::AckedIsDurable, "a token is said to be issued")
                }
            }
            (Asked::RevokeToken(id), Reply::Done) => {
                if self.nodes[node].seats[0].truth.basins.tokens.was_absent(id, pending.sent_us) {
                    Ok(())
                } else {
                    broken(Rule::AckedIsDurable, format!("token `{id}` is said to be revoked"))
                }
            }
            (asked, reply) => broken(Rule::Answered, format!("{asked:?} is answered with {}", name_of(reply))),
        }
    }

    /// A stream that was durably deleted before it was asked for shows nothing any more.
    fn judge_life(&self, node: usize, pending: &Pending, reply: &Reply) -> Result<(), Violation> {
        let shows = matches!(
            reply,
            Reply::Appended(_)
                | Reply::Tail(_)
                | Reply::Read(_)
                | Reply::StreamConfig(_)
                | Reply::Lease(_)
                | Reply::LeaseHeld(_)
                | Reply::LeaseLost
        );
        let Some(before) = pending.before.filter(|before| before.is_deleted && shows) else { return Ok(()) };
        let (group, named) = self.named(node, pending);
        match group.named(named.basin, &named.stream) {
            Some((id, _)) if id == before.id => {
                broken(Rule::Existence, format!("stream `{}` is deleted and answers", named.stream))
            }
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn named<'a>(&'a self, node: usize, pending: &'a Pending) -> (&'a crate::truth::GroupTruth, &'a Named) {
        let named = pending.named.as_ref().expect("requests on streams name one");
        let truth = &self.nodes[node].seats[usize::from(pending.shard.0)].truth;
        (truth.group(named.group).expect("requests go to the shard of their group"), named)
    }

    fn judge_ack(
        &mut self,
        node: usize,
        token: u64,
        pending: &Pending,
        appended: &engine::event::Appended,
    ) -> Result<(), Violation> {
        let Some(sent) = self.attempts.settle(token) else {
            return broken(Rule::Answered, format!("append {token} is acknowledged and was settled before"));
        };
        let is = (appended.stream, appended.start.seq_num);
        if sent.found != Some(is) {
            let what = format!(
                "append {token} is acknowledged at {} of stream {}, and the disk has it {:?}",
                is.1, is.0.0, sent.found
            );
            return broken(Rule::AckedIsDurable, what);
        }
        self.counts.acks += 1;
        if sent.lone_command.is_none() {
            self.nodes[node].seats[usize::from(pending.shard.0)].promises.roomy_us = None;
            self.check_index_had_room(node, pending.shard, appended.times.admitted_us)?;
        }
        if sent.match_seq_num.is_some() {
            self.coverage.point(Point::ConditionAck);
        }
        if let Some(token) = &sent.fencing_token {
            self.coverage.point(if is_of_a_lease(token) { Point::LeaseAppended } else { Point::FencedAck });
        }
        if matches!(pending.asked, Asked::Append { cipher: Some(_), .. }) {
            self.coverage.point(Point::SealedAck);
        }
        let end = appended.start.seq_num + u64::from(sent.records_count);
        if appended.end.seq_num != end || appended.tail.seq_num < end {
            let what = format!("append {token} of {} records is acknowledged with {appended:?}", sent.records_count);
            return broken(Rule::Atomic, what);
        }
        self.judge_tail(node, pending, Some(appended.stream), appended.tail)
    }

    /// Whether a tail is one that the stream has durably, and not older than what was told before.
    pub(super) fn judge_tail(
        &mut self,
        node: usize,
        pending: &Pending,
        stream: Option<StreamId>,
        tail: Position,
    ) -> Result<(), Violation> {
        let named = pending.named.as_ref().expect("requests on streams name one");
        let truth = &mut self.nodes[node].seats[usize::from(pending.shard.0)].truth;
        let group = truth.group_mut(named.group).expect("requests go to the shard of their group");
        let known = group.name(named.basin, &named.stream).cloned().unwrap_or_default();
        let candidates: Vec<StreamId> = match stream {
            Some(id) => vec![id],
            None => known.current.into_iter().chain(known.former.iter().rev().copied()).collect(),
        };
        let mut why = format!("stream `{}` is not there", named.stream);
        for id in candidates {
            let Some(stream) = group.stream_or_gone(id) else { continue };
            let floor = pending.before.filter(|b| b.id == id).map_or(0, |b| b.told_tail);
            if tail.seq_num < floor {
                why = format!("stream `{}`: tail {} after {floor} was told", named.stream, tail.seq_num);
            } else if tail.seq_num > stream.tail.seq_num {
                why = format!("stream `{}`: tail {} ahead of {}", named.stream, tail.seq_num, stream.tail.seq_num);
            } else if !is_position_of(stream, tail) {
                why = format!("stream `{}`: {tail:?} is no end of a batch", named.stream);
            } else {
                if let Some(stream) = group.stream_mut(id) {
                    stream.told_tail = stream.told_tail.max(tail.seq_num);
                }
                return Ok(());
            }
        }
        broken(Rule::TailWindow, why)
    }

    fn judge_read(
        &mut self,
        node: usize,
        pending: &Pending,
        start: ReadStart,
        limits: ReadLimits,
        read: &ReadReply,
    ) -> Result<(), Violation> {
        self.judge_tail(node, pending, Some(read.stream), read.tail)?;
        let (group, named) = self.named(node, pending);
        let Some(stream) = group.stream_or_gone(read.stream) else {
            return broken(Rule::Existence, format!("a read of stream {}, which is not there", read.stream.0));
        };
        if stream.cipher != read.cipher {
            let what = format!("stream `{}` of {:?} is read with {:?}", named.stream, stream.cipher, read.cipher);
            return broken(Rule::Sealed, what);
        }
        let mut next = None;
        let (mut count, mut metered) = (0, 0);
        for batch in &read.batches {
            let bytes = batch.runs.concat();
            let mut in_batch = 0;
            for record in StoredRecords::new(&bytes) {
                let Ok(record) = record else {
                    return broken(
                        Rule::ReadContents,
                        format!("stream `{}`: a record that cannot be read", named.stream),
                    );
                };
                let seq_num = record.position.seq_num;
                if next.is_some_and(|next| next != seq_num) {
                    return broken(Rule::Dense, format!("stream `{}`: a read skips to {seq_num}", named.stream));
                }
                check_record(stream, record.position, &record)?;
                if limits.until.is_some_and(|until| until != u64::MAX && record.position.timestamp >= until) {
                    return broken(
                        Rule::ReadContents,
                        format!("stream `{}`: {seq_num} is not before `until`", named.stream),
                    );
                }
                next = Some(seq_num + 1);
                in_batch += 1;
                count += 1;
                metered += record.metered_bytes;
            }
            if in_batch != batch.records_count || batch.last.seq_num + 1 != next.unwrap_or(0) {
                return broken(Rule::ReadContents, format!("stream `{}`: a batch that miscounts itself", named.stream));
            }
        }
        if next.is_some_and(|next| next != read.next_seq_num || next > stream.tail.seq_num) {
            let what = format!("stream `{}`: up to {next:?}, going on at {}", named.stream, read.next_seq_num);
            return broken(Rule::ReadCommitted, what);
        }
        let first = next.map(|next| next - count);
        check_limits(&named.stream, limits, (count, metered))?;
        let floor = pending.before.filter(|b| b.id == read.stream).map_or(0, |b| b.told_tail);
        check_start(stream, start, first, (floor, read.tail.seq_num))?;
        let trim_point = pending.before.filter(|b| b.id == read.stream).map_or(0, |b| b.trim_point);
        if first.is_some_and(|first| first < trim_point) {
            let what =
                format!("stream `{}`: {first:?} is read, all below {trim_point} was trimmed before", named.stream);
            return broken(Rule::ReadContents, what);
        }
        if first.is_some_and(|first| first > 0 && first == stream.trim_point && start == ReadStart::SeqNum(0)) {
            self.coverage.point(Point::TrimmedRead);
        }
        if count > 0 {
            self.coverage.point(Point::MemoryRead);
            if read.cipher.is_some() {
                self.coverage.point(Point::SealedRead);
            }
        }
        Ok(())
    }

    fn judge_exists(&self, node: usize, pending: &Pending, provision: Provision) -> Result<(), Violation> {
        let (group, named) = self.named(node, pending);
        let is_there = group.named(named.basin, &named.stream).is_some()
            || group.was_deleting(named.basin, &named.stream, pending.sent_us);
        if is_there {
            Ok(())
        } else {
            broken(Rule::AckedIsDurable, format!("stream `{}` is said to be there: {provision:?}", named.stream))
        }
    }

    fn judge_list(
        &self,
        node: usize,
        basin: BasinId,
        shard: ShardId,
        streams: &[engine::event::StreamInfo],
    ) -> Result<(), Violation> {
        if !streams.is_sorted_by(|a, b| a.name < b.name) {
            return broken(Rule::Existence, "a listing out of order");
        }
        let truth = &self.nodes[node].seats[usize::from(shard.0)].truth;
        let is_there = |info: &engine::event::StreamInfo| {
            truth.groups().any(|g| g.named(basin, &info.name).is_some() || g.was_deleting(basin, &info.name, 0))
        };
        match streams.iter().find(|info| !is_there(info)) {
            Some(info) => broken(Rule::Existence, format!("stream `{}` is listed and is not there", info.name)),
            None => Ok(()),
        }
    }
}

/// Whether it is the end of a batch: number and timestamp.
fn is_position_of(stream: &StreamTruth, tail: Position) -> bool {
    if tail == stream.tail {
        return true;
    }
    match tail.seq_num.checked_sub(1).and_then(|last| stream.batch_of(last)) {
        Some(batch) => batch.end() == tail.seq_num && batch.timestamps.last() == Some(&tail.timestamp),
        // Trimmed since, or the beginning.
        None => tail.seq_num <= stream.trim_point || tail == Position::ZERO,
    }
}

fn check_record(
    stream: &StreamTruth,
    position: Position,
    record: &model::stored::StoredRecord<'_>,
) -> Result<(), Violation> {
    let seq_num = position.seq_num;
    if seq_num >= stream.tail.seq_num {
        return broken(Rule::ReadCommitted, format!("stream `{}`: {seq_num} is not durable", stream.name));
    }
    let Some(batch) = stream.batch_of(seq_num) else {
        // Trimmed between the read and its answer.
        return Ok(());
    };
    let place = usize::try_from(seq_num - batch.first).expect("a batch is small");
    let is_same = match record.command() {
        Some(command) => batch.commands.iter().any(|(at, c)| *at as usize == place && *c == command),
        None => payload::whose(record, stream.cipher)
            .is_some_and(|(a, at)| batch.attempt == Some(a) && at as usize == place),
    };
    if is_same && batch.timestamps[place] == position.timestamp {
        return Ok(());
    }
    broken(Rule::ReadContents, format!("stream `{}`: {seq_num} is not what was appended there", stream.name))
}

fn check_limits(stream: &StreamName, limits: ReadLimits, (count, metered): (u64, u64)) -> Result<(), Violation> {
    if limits.count.is_some_and(|max| count > max) || limits.bytes.is_some_and(|max| metered > max && count > 1) {
        return broken(
            Rule::ReadContents,
            format!("stream `{stream}`: {count} records of {metered} bytes for {limits:?}"),
        );
    }
    Ok(())
}

/// Whether a read begins where it was asked to. The tail it was judged by lies between what had been told and `tail`.
fn check_start(
    stream: &StreamTruth,
    start: ReadStart,
    first: Option<u64>,
    (floor, tail): (u64, u64),
) -> Result<(), Violation> {
    let Some(first) = first else { return Ok(()) };
    let trim = stream.trim_point;
    let is_right = match start {
        ReadStart::SeqNum(seq_num) => first == seq_num || (first > seq_num && first <= trim.max(seq_num)),
        ReadStart::TailOffset(offset) => {
            first <= trim.max(tail.saturating_sub(offset)) && first >= floor.saturating_sub(offset)
        }
        ReadStart::Timestamp(timestamp) => {
            let of = |seq: u64| stream.batch_of(seq).map(|b| b.timestamps[usize::try_from(seq - b.first).unwrap_or(0)]);
            let before = first.checked_sub(1).filter(|seq| *seq >= trim).and_then(of);
            of(first).is_none_or(|is| is >= timestamp) && before.is_none_or(|before| before < timestamp)
        }
    };
    if is_right {
        return Ok(());
    }
    let at = |seq: u64| {
        stream.batch_of(seq).map(|b| (b.first, b.end(), b.timestamps[usize::try_from(seq - b.first).unwrap_or(0)]))
    };
    let what = format!(
        "stream `{}` of {trim}..{}: a read from {start:?} begins at {first} of {:?} behind {:?}",
        stream.name,
        stream.tail.seq_num,
        at(first),
        at(first.saturating_sub(1))
    );
    broken(Rule::ReadContents, what)
}

const fn name_of(reply: &Reply) -> &'static str {
    match reply {
        Reply::Appended(_) => "appended",
        Reply::Opened(..) => "opened",
        Reply::OtherCipher(..) => "other cipher",
        Reply::Tail(_) => "tail",
        Reply::Read(_) => "read",
        Reply::Stream(..) => "stream",
        Reply::StreamConfig(_) => "stream config",
        Reply::Streams(..) => "streams",
        Reply::Stored(_) => "stored",
        Reply::Basin(..) => "basin",
        Reply::Lease(_) => "lease",
        Reply::LeaseHeld(_) => "lease held",
        Reply::LeaseLost => "lease lost",
        Reply::Done => "done",
        Reply::Failed(Failure::Rejected(_)) => "rejected",
        Reply::Failed(Failure::Unavailable(_)) => "unavailable",
        Reply::Failed(Failure::Corrupt(_)) => "corrupt",
    }
}

fn numbers_of(token: u64, reply: &Reply) -> [u64; 3] {
    match reply {
        Reply::Appended(a) => [token, a.start.seq_num, a.tail.seq_num],
        Reply::Opened(id, _) | Reply::OtherCipher(id, _) => [token, id.0, 0],
        Reply::Tail(tail) => [token, tail.seq_num, tail.timestamp],
        Reply::Read(read) => [token, read.next_seq_num, read.tail.seq_num],
        Reply::Streams(streams, _) => [token, streams.len() as u64, 0],
        Reply::Stored(stored) => [token, stored.len() as u64, 0],
        Reply::Lease(lease) => [token, lease.as_ref().map_or(0, |l| l.generation), 0],
        Reply::LeaseHeld(lease) => [token, lease.generation, 0],
        Reply::LeaseLost => [token, 0, 0],
        Reply::Stream(..) | Reply::StreamConfig(_) | Reply::Basin(..) | Reply::Done | Reply::Failed(_) => [token, 0, 0],
    }
}
