//! Clients: who asks what, and when. They know only what they were told, and much of that is out of date.

use std::sync::Arc;

use engine::event::{
    Append, Follow, Op, Read, ReadLimits, ReadStart, Reply, ReplyTo, Request, SessionId, StreamSpec, Target,
};
use model::config::{
    BasinConfig, BasinReconfiguration, Cipher, Patch, RetentionPolicy, StreamConfig, StreamReconfiguration,
};
use model::placement::Placement;
use model::{BasinId, Command, FencingToken, GroupId, NamePrefix, ShardId, StreamId};

use super::judge::{Asked, Pending};
use super::leases::Grants;
use super::witness::call_of;
use super::{What, World};
use crate::attempts::{LeaseAsk, Sent};
use crate::coverage::Point;
use crate::payload::{self, BODY_BYTES_MIN, Part};

/// What clients have been told of a stream.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    pub(super) tail: u64,
    pub(super) timestamp: u64,
    pub(super) token: String,
    pub(super) cipher: Option<Cipher>,
}

/// What a client does for a living.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trade {
    /// One request after the other, of any kind.
    Plain,
    /// Appends in sessions, several under way.
    Session,
    /// Reads a stream from some place on and follows it.
    Follower,
    /// Comes when it is called: reads a few streams at once.
    Visitor,
    /// Wants the lease of a stream, and appends under it.
    Holder,
}

/// A session as its client sees it.
#[derive(Debug, Clone)]
struct OpenSession {
    id: SessionId,
    /// The request that opens it.
    opened_by: u64,
    place: Place,
    incarnation: Option<StreamId>,
    /// The place of the next input.
    next: u64,
    is_failed: bool,
}

/// One client.
#[derive(Debug)]
pub(super) struct Client {
    trade: Trade,
    /// Requests that are not answered.
    pub(super) waiting: Vec<u64>,
    session: Option<OpenSession>,
    /// Where a follower is: stream, incarnation, next number.
    following: Option<(Place, StreamId, u64)>,
    /// Leases that it has, or had.
    pub(super) grants: Grants,
    /// When its last request arrives: requests of one connection stay in order.
    last_arrival_us: u64,
}

/// A stream by the positions of its names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) basin: usize,
    pub(super) stream: usize,
}

impl Client {
    pub(super) fn new(at: usize) -> Self {
        Self::of(match at % 5 {
            0 | 1 | 4 => Trade::Plain,
            2 => Trade::Session,
            _ => Trade::Follower,
        })
    }

    pub(super) fn visitor() -> Self {
        Self::of(Trade::Visitor)
    }

    pub(super) fn holder() -> Self {
        Self::of(Trade::Holder)
    }

    fn of(trade: Trade) -> Self {
        let grants = Grants::default();
        Self { trade, waiting: Vec::new(), session: None, following: None, grants, last_arrival_us: 0 }
    }

    /// Its connection is gone.
    pub(super) fn reset(&mut self) {
        self.waiting.clear();
        self.session = None;
        self.following = None;
    }
}

impl World {
    /// The next thing a client does.
    pub(super) fn act(&mut self, client: usize) {
        let node = 0;
        if self.clients_stopped {
            return;
        }
        if !self.nodes[node].is_up {
            let again_us = self.rng.between(50_000, 500_000);
            return self.act_again(client, again_us);
        }
        match self.clients[client].trade {
            // Goes on when it is answered.
            Trade::Plain => return self.act_plain(client),
            Trade::Visitor => return self.visit(client),
            Trade::Session => self.act_session(client),
            Trade::Follower => self.act_follower(client),
            Trade::Holder => {
                let again_us = self.act_holder(client);
                return self.act_again(client, again_us);
            }
        }
        let again_us = self.think_us();
        self.act_again(client, again_us);
    }

    pub(super) fn act_again(&mut self, client: usize, after_us: u64) {
        self.schedule(self.now_us + after_us, 0, None, What::Act(client));
    }

    pub(super) fn think_us(&mut self) -> u64 {
        let mean_us = self.swarm.think_us;
        self.rng.after(mean_us)
    }

    fn place(&mut self) -> Place {
        if self.rng.percent(12) {
            return self.witness();
        }
        let (basins, streams, skew) = (self.swarm.basins_count, self.streams.len(), self.swarm.skew);
        Place { basin: self.rng.at(basins), stream: self.rng.skewed(streams, skew) }
    }

    pub(super) const fn known_at(&self, place: Place) -> usize {
        place.basin * self.streams.len() + place.stream
    }

    fn spec(&mut self) -> StreamSpec {
        let at = self.rng.at(self.swarm.configs.len());
        let cipher = self.rng.at(self.swarm.ciphers.len());
        StreamSpec { config: Arc::clone(&self.swarm.configs[at]), cipher: self.swarm.ciphers[cipher] }
    }

    /// A stream as a front resolves it now; `None` when there is no such basin.
    pub(super) fn target(&self, place: Place) -> Option<Target> {
        let basin = &self.basins[place.basin];
        let info = self.nodes[0].basins.get(basin)?;
        let stream = self.streams[place.stream].clone();
        let group = self.swarm.placement.group(Placement::slot(basin, &stream));
        Some(Target { group, basin_id: info.id, basin: basin.clone(), stream, incarnation: None })
    }

    fn visit(&mut self, client: usize) {
        for _ in 0..3 {
            let place = self.place();
            if let Some(target) = self.target(place) {
                self.read(client, target);
            }
        }
    }

    fn act_plain(&mut self, client: usize) {
        let place = self.place();
        let Some(target) = self.target(place) else {
            return self.create_basin(client, place.basin);
        };
        if self.pressure > 0 && self.rng.percent(70) {
            self.pressure -= 1;
            let (place, target) = self.oldest().unwrap_or((place, target));
            return self.make_room(client, place, target);
        }
        if self.swarm.has_busy_basins && !self.is_witness(place) && self.rng.one_in(8) {
            return self.act_on_basin(client, place.basin);
        }
        if self.is_witness(place) && !self.is_there(&target) {
            let spec = StreamSpec { config: Arc::clone(&self.swarm.witness_config), cipher: None };
            let op = Op::CreateStream { target, spec, request_key: None };
            return self.ask(client, op, Some(place), Asked::CreateStream);
        }
        // Those are written and read only.
        let dice = self.rng.below(if self.is_witness(place) { 850 } else { 1000 });
        match dice {
            0..630 => self.append(client, place, target, None),
            630..660 => self.fence(client, place, target),
            660..700 => self.trim(client, place, target),
            700..780 => self.read(client, target),
            780..850 => {
                let create = self.rng.one_in(8).then(|| self.spec());
                self.ask(client, Op::CheckTail { target, create }, Some(place), Asked::CheckTail);
            }
            850..880 => {
                let (spec, request_key) = (self.spec(), self.rng.one_in(3).then_some(place.stream as u64));
                self.ask(client, Op::CreateStream { target, spec, request_key }, Some(place), Asked::CreateStream);
            }
            880..900 => {
                let spec = self.spec();
                self.ask(client, Op::EnsureStream { target, spec }, Some(place), Asked::EnsureStream);
            }
            900..920 => {
                let change = self.change();
                let defaults = StreamConfig::default();
                self.ask(client, Op::ReconfigureStream { target, change, defaults }, Some(place), Asked::Reconfigure);
            }
            920..945 => self.ask(client, Op::GetStreamConfig { target }, Some(place), Asked::GetConfig),
            945..970 => self.ask(client, Op::DeleteStream { target }, Some(place), Asked::DeleteStream),
            970..980 => self.list(client, target.basin_id),
            980..988 => self.act_on_lease(client, place, target),
            _ => self.act_on_basin(client, place.basin),
        }
    }

    fn is_there(&self, target: &Target) -> bool {
        let shard = self.swarm.placement.shard(target.group);
        let truth = &self.nodes[0].seats[usize::from(shard.0)].truth;
        truth.group(target.group).is_some_and(|g| g.named(target.basin_id, &target.stream).is_some())
    }

    fn change(&mut self) -> StreamReconfiguration {
        let retention = match self.rng.below(4) {
            0 => Patch::Keep,
            1 => Patch::Clear,
            _ => Patch::Set(RetentionPolicy::AgeSecs(self.rng.between(1, 60))),
        };
        let min_age = if self.rng.one_in(3) { Patch::Set(self.rng.below(10)) } else { Patch::Keep };
        StreamReconfiguration { retention, delete_on_empty_min_age_secs: min_age, ..StreamReconfiguration::default() }
    }

    fn create_basin(&mut self, client: usize, basin: usize) {
        let basin = self.basins[basin].clone();
        let config = BasinConfig { create_stream_on_append: true, ..BasinConfig::default() };
        let request_key = self.rng.one_in(2).then_some(7);
        self.ask(
            client,
            Op::CreateBasin { basin: basin.clone(), config, request_key },
            None,
            Asked::CreateBasin(basin),
        );
    }

    pub(super) fn act_on_basin(&mut self, client: usize, basin: usize) {
        let basin = self.basins[basin].clone();
        match self.rng.below(8) {
            // With it go all its streams, so many of them are spared at times.
            0 if !self.swarm.has_many_streams || self.rng.one_in(20) => {
                self.ask(client, Op::DeleteBasin { basin: basin.clone() }, None, Asked::DeleteBasin(basin))
            }
            4..6 => self.act_on_token(client),
            1..4 => {
                let config = BasinConfig { create_stream_on_read: self.rng.one_in(2), ..BasinConfig::default() };
                self.ask(client, Op::EnsureBasin { basin: basin.clone(), config }, None, Asked::EnsureBasin(basin));
            }
            _ => {
                let change = BasinReconfiguration {
                    create_stream_on_read: Some(self.rng.one_in(2)),
                    ..BasinReconfiguration::default()
                };
                let asked = Asked::ReconfigureBasin(basin.clone());
                self.ask(client, Op::ReconfigureBasin { basin, change }, None, asked);
            }
        }
    }

    /// A checkpoint is begun: what is on its way to the log now must not be in it.
    pub(super) fn hurry_before_checkpoint(&mut self) {
        if self.clients_stopped {
            return;
        }
        let (visitor, basins_count) = (self.swarm.clients_count, self.swarm.basins_count);
        let basin = self.rng.at(basins_count);
        if self.swarm.has_busy_basins {
            self.act_on_basin(visitor, basin);
            self.act_on_token(visitor);
        }
        if self.swarm.holders_count > 0 {
            self.upset_leases(visitor, basin);
        }
    }

    /// All shards would be asked by a front; one is as good here.
    fn list(&mut self, client: usize, basin_id: BasinId) {
        let shards = self.swarm.placement.shards_count;
        let shard = ShardId(u16::try_from(self.rng.below(u64::from(shards))).expect("few shards"));
        let (prefix, start_after) = (NamePrefix::empty(), NamePrefix::empty());
        let op = Op::ListStreams { basin_id, prefix, start_after, limit: 1000 };
        self.send(client, 0, shard, op, None, Asked::List(basin_id, shard));
    }

    /// The stream whose records have been in a log longest.
    fn oldest(&self) -> Option<(Place, Target)> {
        let streams = self.nodes[0].seats.iter().flat_map(|seat| seat.truth.streams());
        let (_, _, oldest) = streams
            .filter(|(_, _, s)| s.deleted_ms.is_none())
            .min_by_key(|(_, _, s)| s.batches.front().map_or(u64::MAX, |b| b.lsn.0))?;
        let basin =
            self.basins.iter().position(|b| self.nodes[0].basins.get(b).is_some_and(|i| i.id == oldest.basin))?;
        let place = Place { basin, stream: self.streams.iter().position(|s| *s == oldest.name)? };
        self.target(place).map(|target| (place, target))
    }

    /// What an operator does whose log is full.
    fn make_room(&mut self, client: usize, place: Place, target: Target) {
        if self.rng.percent(25) && !self.is_witness(place) {
            return self.ask(client, Op::DeleteStream { target }, Some(place), Asked::DeleteStream);
        }
        // Beyond every tail, and of its own: a batch of one command is told by it.
        let all = (u64::MAX >> 1) - self.last_token;
        self.append_parts(client, place, target, &[Part::Trim(all)], Extra::default());
    }

    fn trim(&mut self, client: usize, place: Place, target: Target) {
        let tail = self.known[self.known_at(place)].tail;
        let up_to = self.rng.below(tail + 2);
        let timestamp = Some(self.known[self.known_at(place)].timestamp);
        let parts = [Part::Data(20, timestamp), Part::Trim(up_to), Part::Data(BODY_BYTES_MIN, timestamp)];
        let parts = if self.rng.one_in(2) { &parts[..2] } else { &parts[1..] };
        self.append_parts(client, place, target, parts, Extra::default());
    }

    pub(super) fn fence(&mut self, client: usize, place: Place, target: Target) {
        // A token of its own for each, so that it is told whose fence is in force; sometimes none.
        let token = if self.rng.one_in(5) { String::new() } else { format!("t{}", self.last_token + 1) };
        let guard = self.rng.one_in(2).then(|| self.known[self.known_at(place)].token.clone());
        let extra = Extra { fencing_token: guard, create: true, ..Extra::default() };
        if token.is_empty() || self.rng.one_in(3) {
            let parts = [Part::Fence(&token), Part::Data(BODY_BYTES_MIN, Some(0))];
            return self.append_parts(client, place, target, &parts, extra);
        }
        self.append_parts(client, place, target, &[Part::Fence(&token)], extra);
    }

    fn append(&mut self, client: usize, place: Place, target: Target, session: Option<(SessionId, u64)>) {
        let known = self.known[self.known_at(place)].clone();
        let mut extra = Extra { create: self.rng.percent(70), session, ..Extra::default() };
        match self.rng.below(10) {
            0 | 1 => extra.match_seq_num = Some(known.tail),
            2 => extra.match_seq_num = Some(known.tail.saturating_sub(self.rng.below(3))),
            3 => extra.fencing_token = Some(known.token.clone()),
            4 if self.rng.one_in(2) => extra.fencing_token = Some("stale".to_owned()),
            5 => {
                extra.match_seq_num = Some(known.tail);
                extra.fencing_token = Some(known.token.clone());
            }
            _ => {}
        }
        let (records_max, bytes_max) = (self.swarm.records_max, self.swarm.record_bytes_max);
        let mut parts = Vec::new();
        if self.swarm.has_large_batches && self.rng.one_in(30) {
            self.coverage.point(Point::LargeBatch);
            let bytes = 250_000 + self.rng.at(90_000);
            parts.extend((0..3).map(|_| Part::Data(bytes, Some(known.timestamp))));
        } else if self.swarm.has_bursts && self.rng.one_in(4) {
            let bytes = self.swarm.extent_bytes_max / 3 - self.rng.at(4 << 10);
            parts.push(Part::Data(bytes.min(300_000), Some(known.timestamp)));
        } else {
            let room = self.swarm.extent_bytes_max - (12 << 10);
            let each = (room / 2 / records_max - 64).min(bytes_max).max(BODY_BYTES_MIN);
            let lacks_some = self.rng.one_in(6);
            for _ in 0..=self.rng.at(records_max) {
                let bytes = BODY_BYTES_MIN + self.rng.at(each - BODY_BYTES_MIN + 1);
                let timestamp = match self.rng.below(8) {
                    0 if lacks_some => None,
                    1 => Some(known.timestamp + self.rng.below(5_000)),
                    _ => Some(known.timestamp),
                };
                parts.push(Part::Data(bytes, timestamp));
            }
        }
        self.append_parts(client, place, target, &parts, extra);
    }

    /// As clients think that the stream has its records, which they find out by trying.
    fn cipher(&mut self, place: Place) -> Option<Cipher> {
        let is_wrong = !self.is_witness(place) && self.rng.one_in(40);
        let at = self.rng.at(self.swarm.ciphers.len());
        if is_wrong { self.swarm.ciphers[at] } else { self.known[self.known_at(place)].cipher }
    }

    pub(super) fn append_parts(
        &mut self,
        client: usize,
        place: Place,
        target: Target,
        parts: &[Part<'_>],
        extra: Extra,
    ) {
        let attempt = self.last_token + 1;
        let batch = payload::batch(attempt, parts, Some(self.known[self.known_at(place)].timestamp));
        let cipher = self.cipher(place);
        let batch = payload::sealed(&batch, cipher);
        let lone_command = match parts {
            [Part::Fence(token)] => Some(Command::Fence(fencing_token(token))),
            [Part::Trim(up_to)] => Some(Command::Trim(*up_to)),
            _ => None,
        };
        let sent = Sent {
            records_count: u32::try_from(parts.len()).expect("at most 1000"),
            lone_command,
            basin: target.basin_id,
            stream: target.stream.clone(),
            match_seq_num: extra.match_seq_num,
            fencing_token: extra.fencing_token.clone(),
            session: extra.session,
            found: None,
        };
        let sets_token = parts.iter().rev().find_map(|part| match part {
            Part::Fence(token) => Some((*token).to_owned()),
            Part::Data(..) | Part::Trim(_) => None,
        });
        let create = extra.create.then(|| self.spec());
        let append = Append {
            target,
            batch,
            match_seq_num: extra.match_seq_num,
            fencing_token: extra.fencing_token.as_deref().map(fencing_token),
            create,
            session: extra.session.map(|(session, _)| session),
        };
        self.attempts.send(attempt, sent);
        let asked = Asked::Append { sets_token, fencing_token: extra.fencing_token, cipher };
        self.ask(client, Op::Append(append), Some(place), asked);
    }

    fn read(&mut self, client: usize, target: Target) {
        let place = Place {
            basin: self.basins.iter().position(|b| *b == target.basin).expect("one of ours"),
            stream: self.streams.iter().position(|s| *s == target.stream).expect("one of ours"),
        };
        let known = self.known[self.known_at(place)].clone();
        let start = match self.rng.below(6) {
            0 | 1 => ReadStart::SeqNum(0),
            2 => ReadStart::SeqNum(self.rng.below(known.tail + 2)),
            3 => ReadStart::TailOffset(self.rng.below(20)),
            4 => ReadStart::Timestamp(known.timestamp.saturating_sub(self.rng.below(10_000))),
            _ => ReadStart::Timestamp(known.timestamp),
        };
        let limits = ReadLimits {
            count: self.rng.percent(75).then(|| self.rng.below(30)),
            bytes: self.rng.one_in(5).then(|| self.rng.below(20_000)),
            until: self.rng.one_in(8).then_some(known.timestamp),
            batches: if self.rng.percent(75) { 1 } else { 1 + self.rng.at(4) },
        };
        let (clamp, may_follow) = (self.rng.one_in(2), self.rng.one_in(2));
        let create = self.rng.one_in(10).then(|| self.spec());
        let op = Op::Read(Read { target, create, start, clamp, may_follow, limits });
        self.ask(client, op, Some(place), Asked::Read { start, clamp, may_follow, limits });
    }

    fn act_session(&mut self, client: usize) {
        if self.clients[client].waiting.len() >= SESSION_INPUTS_MAX {
            return;
        }
        let Some(mut session) = self.clients[client].session.clone() else {
            return self.open_session(client);
        };
        let Some(incarnation) = session.incarnation else { return };
        let is_over = session.is_failed || self.rng.one_in(40);
        let Some(target) = self.target(session.place).filter(|_| !is_over) else {
            return self.end_session(client, &session);
        };
        let target = Target { incarnation: Some(incarnation), ..target };
        // Now and then as much as makes the device take several extents at a time, or as makes some wait for room.
        let inputs = match (self.swarm.has_bursts && self.rng.one_in(6), self.rng.one_in(8)) {
            (true, _) => 16,
            (false, true) => SESSION_INPUTS_MAX as u64,
            (false, false) => self.rng.between(1, 3),
        };
        for _ in 0..inputs {
            self.append(client, session.place, target.clone(), Some((session.id, session.next)));
            session.next += 1;
        }
        self.clients[client].session = Some(session);
    }

    fn open_session(&mut self, client: usize) {
        let place = self.place();
        let Some(target) = self.target(place) else { return };
        self.last_session += 1;
        let id = SessionId { front: 0, number: self.last_session };
        self.clients[client].session = Some(OpenSession {
            id,
            opened_by: self.last_token + 1,
            place,
            incarnation: None,
            next: 0,
            is_failed: false,
        });
        let create = self.rng.percent(70).then(|| self.spec());
        self.ask(client, Op::OpenSession { target, create }, Some(place), Asked::OpenSession);
    }

    fn end_session(&mut self, client: usize, session: &OpenSession) {
        self.clients[client].session = None;
        let Some(target) = self.target(session.place) else { return };
        let shard = self.swarm.placement.shard(target.group);
        // Its inputs may still be on their way: it stays behind them. Its number is never used again.
        self.send(client, 0, shard, Op::EndSession(session.id), None, Asked::Nothing);
    }

    fn act_follower(&mut self, client: usize) {
        if let [token] = self.clients[client].waiting[..] {
            // It is waiting; now and then it has enough of that.
            if self.pending.get(&token).is_some_and(|p| matches!(p.asked, Asked::Follow { .. })) && self.rng.one_in(3) {
                let shard = self.pending[&token].shard;
                self.send(client, 0, shard, Op::CancelFollow(token), None, Asked::Nothing);
            }
            return;
        }
        let Some((place, stream, next)) = self.clients[client].following else {
            let place = self.place();
            let Some(target) = self.target(place) else { return };
            let start = if self.rng.one_in(2) { ReadStart::TailOffset(0) } else { ReadStart::SeqNum(0) };
            let limits = ReadLimits { batches: 2, ..ReadLimits::default() };
            let op = Op::Read(Read { target, create: None, start, clamp: true, may_follow: true, limits });
            return self.ask(client, op, Some(place), Asked::Read { start, clamp: true, may_follow: true, limits });
        };
        let Some(target) = self.target(place) else {
            self.clients[client].following = None;
            return;
        };
        let target = Target { incarnation: Some(stream), ..target };
        let limits = ReadLimits { batches: 2, ..ReadLimits::default() };
        let follow = Follow { target, from_seq_num: next, limits };
        self.ask(client, Op::Follow(follow), Some(place), Asked::Follow { from: next, limits });
    }

    /// Sends to the shard that the target's group is on; basins are on shard 0.
    pub(super) fn ask(&mut self, client: usize, mut op: Op, place: Option<Place>, asked: Asked) {
        let witness = place.filter(|place| self.is_witness(*place));
        if witness.is_some() {
            create_nothing(&mut op);
        }
        let call = witness.and_then(|place| call_of(&op).map(|call| (place, call)));
        let group = match &op {
            Op::Append(Append { target, .. })
            | Op::OpenSession { target, .. }
            | Op::CheckTail { target, .. }
            | Op::Read(Read { target, .. })
            | Op::Follow(Follow { target, .. })
            | Op::CreateStream { target, .. }
            | Op::EnsureStream { target, .. }
            | Op::ReconfigureStream { target, .. }
            | Op::GetStreamConfig { target }
            | Op::DeleteStream { target }
            | Op::Lease { target, .. } => target.group,
            Op::CreateBasin { .. }
            | Op::EnsureBasin { .. }
            | Op::ReconfigureBasin { .. }
            | Op::DeleteBasin { .. }
            | Op::IssueToken(_)
            | Op::RevokeToken(_)
            | Op::ListStreams { .. }
            | Op::MeterStorage(_)
            | Op::EndSession(_)
            | Op::CancelFollow(_) => GroupId::METADATA,
        };
        let shard = self.swarm.placement.shard(group);
        if let Some((place, call)) = call {
            self.record_start(client, self.last_token + 1, place, call);
        }
        self.send(client, 0, shard, op, place, asked);
    }

    fn send(&mut self, client: usize, node: usize, shard: ShardId, op: Op, place: Option<Place>, asked: Asked) {
        self.last_token += 1;
        let token = self.last_token;
        self.counts.operations += 1;
        let delay_us = self.rng.between(10, 300);
        let at_us = (self.now_us + delay_us).max(self.clients[client].last_arrival_us);
        self.clients[client].last_arrival_us = at_us;
        if asked != Asked::Nothing {
            self.clients[client].waiting.push(token);
            let pending = Pending::new(client, shard, &op, place, asked, self.now_us);
            self.register(token, pending);
        }
        let arrived_us = self.nodes[node].clock.now(self.now_us).mono_us;
        let request = Request { reply_to: ReplyTo { front: 0, token }, arrived_us, op };
        self.soon(at_us - self.now_us, node, What::Arrive(shard, Box::new(request)));
    }

    /// A client gets its answer.
    pub(super) fn hear(&mut self, pending: &Pending, token: u64, reply: &Reply) {
        let client = pending.client;
        self.clients[client].waiting.retain(|t| *t != token);
        if let Some(place) = pending.place {
            self.learn(place, pending, reply);
        }
        let is_failed = matches!(reply, Reply::Failed(_) | Reply::OtherCipher(..));
        match self.clients[client].trade {
            Trade::Plain => {
                let again_us = self.think_us();
                self.act_again(client, again_us);
            }
            Trade::Visitor => {}
            Trade::Holder => {
                let place = pending.place.expect("all that it asks is of a stream");
                self.clients[client].grants.hear(place, &pending.asked, reply);
            }
            Trade::Session => match (&mut self.clients[client].session, reply) {
                // An answer to the opening of an earlier session says nothing of this one.
                (Some(session), _) if session.opened_by > token => {}
                (Some(session), Reply::Opened(id, _)) => session.incarnation = Some(*id),
                (Some(session), _) if session.incarnation.is_none() => self.clients[client].session = None,
                (Some(session), _) => session.is_failed |= is_failed,
                (None, _) => {}
            },
            Trade::Follower => {
                self.clients[client].following = match (reply, pending.place) {
                    (Reply::Read(read), Some(place)) if !read.done => Some((place, read.stream, read.next_seq_num)),
                    _ => None,
                };
            }
        }
    }

    /// After a crash: nobody's connection is there, and those who wait for an answer to go on must be woken.
    pub(super) fn reset_clients(&mut self) {
        for client in 0..self.clients.len() {
            let was_waiting = !self.clients[client].waiting.is_empty();
            self.clients[client].reset();
            if was_waiting && self.clients[client].trade == Trade::Plain {
                let again_us = self.rng.between(1_000, 300_000);
                self.act_again(client, again_us);
            }
        }
    }

    fn learn(&mut self, place: Place, pending: &Pending, reply: &Reply) {
        let at = self.known_at(place);
        let known = &mut self.known[at];
        match reply {
            Reply::Appended(appended) => {
                (known.tail, known.timestamp) = (appended.tail.seq_num, appended.tail.timestamp);
                if let Asked::Append { sets_token: Some(token), .. } = &pending.asked {
                    known.token.clone_from(token);
                }
            }
            Reply::Lease(Some(_)) => {
                if let Asked::Lease(LeaseAsk::Acquire { token, .. }) = &pending.asked {
                    known.token.clone_from(token);
                }
            }
            Reply::OtherCipher(_, cipher) | Reply::Opened(_, cipher) => known.cipher = *cipher,
            Reply::Read(read) => known.cipher = read.cipher,
            Reply::Tail(tail) => (known.tail, known.timestamp) = (tail.seq_num, tail.timestamp),
            Reply::Failed(model::Failure::Rejected(model::Rejected::SeqNumMismatch(next))) => known.tail = *next,
            Reply::Failed(model::Failure::Rejected(model::Rejected::FencingTokenMismatch(token))) => {
                token.as_str().clone_into(&mut known.token);
            }
            _ => {}
        }
    }
}

/// Takes back the wish that a missing stream be made.
fn create_nothing(op: &mut Op) {
    match op {
        Op::Append(Append { create, .. })
        | Op::OpenSession { create, .. }
        | Op::CheckTail { create, .. }
        | Op::Read(Read { create, .. }) => *create = None,
        _ => {}
    }
}

/// What an append has beside its records.
#[derive(Debug, Clone, Default)]
pub(super) struct Extra {
    pub(super) match_seq_num: Option<u64>,
    pub(super) fencing_token: Option<String>,
    pub(super) create: bool,
    pub(super) session: Option<(SessionId, u64)>,
}

pub(super) fn fencing_token(token: &str) -> FencingToken {
    FencingToken::try_from(token).expect("short")
}

/// Inputs of a session under way, beyond which its client waits.
const SESSION_INPUTS_MAX: usize = 8;
