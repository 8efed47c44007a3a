//! Appends: resolve, admit, stage; and how a missing stream comes to be.

use model::config::Cipher;
use model::{Failure, FencingToken, Rejected, StreamId, Unavailable};

use crate::event::{Append, Effects, Now, Reply, ReplyTo, StreamSpec, Target};
use crate::mutation::Mutation;
use crate::shard::Shard;
use crate::shard::stage::Answer;
use crate::stream::admit::{Conditions, admit};
use crate::stream::op::ControlOp;
use crate::stream::state::{Life, Stream};

/// Why not, and the ticket under which the state that says so becomes durable.
pub(crate) type Refusal = (Failure, u64);

/// A stream on this shard: the position of its group, and its incarnation.
pub(crate) type Place = (usize, StreamId);

impl Shard {
    pub(crate) fn append(&mut self, now: Now, to: ReplyTo, arrived_us: u64, append: Append, effects: &mut Effects) {
        if append.session.is_some_and(|s| self.poisoned.contains(&s)) {
            effects.reply(to, Reply::Failed(Unavailable::SessionPoisoned.into()));
            return;
        }
        let session = append.session;
        let target = Mutation::SeqNumReused.is_on().then(|| append.target.clone());
        let tried = self.try_append(now, to, arrived_us, append);
        if let Ok(Some((id, cipher))) = tried {
            if let Some(session) = session {
                self.poisoned.insert(session);
            }
            effects.reply(to, Reply::OtherCipher(id, cipher));
        }
        if let Err(refusal) = tried {
            if let Some(Ok(Some((group, id)))) = target.map(|target| self.find(&target)) {
                self.state.groups[group].catalog.get_mut(id).expect("just found").rewind();
            }
            if let Some(session) = session.filter(|_| !Mutation::SessionNotPoisoned.is_on()) {
                self.poisoned.insert(session);
            }
            self.fail(to, refusal, effects);
        }
    }

    /// Stages the batch, or says that the stream wants another cipher than the batch has. The one place that holds: no
    /// clear record in a stream with a cipher, no sealed one in a stream without, none under another cipher.
    fn try_append(
        &mut self,
        now: Now,
        to: ReplyTo,
        arrived_us: u64,
        append: Append,
    ) -> Result<Option<(StreamId, Option<Cipher>)>, Refusal> {
        let Append { target, batch, match_seq_num, fencing_token, create, session: _ } = append;
        // Commands make room rather than take it, so they may use the reserve.
        let only_commands = batch.has_commands() && batch.records().iter().all(|r| r.is_command);
        self.check_space(if only_commands { 0 } else { RESERVE_BYTES })?;
        let place = self.resolve_to_write(now, &target, create)?;
        let stream = self.stream(place);
        if batch.cipher() != stream.cipher && !Mutation::CipherIgnored.is_on() {
            return Ok(Some((place.1, stream.cipher)));
        }
        let fencing_token: Option<&FencingToken> = fencing_token.as_ref();
        let conditions = Conditions { match_seq_num, fencing_token };
        let ticket = stream.touched;
        let stream = self.state.groups[place.0].catalog.get(place.1).expect("just resolved");
        let admitted = admit(stream, &batch, conditions, now.wall_ms, &mut self.timestamps);
        let admitted = admitted.map_err(|rejected| {
            let early = (Mutation::SeqNumMismatchEarly.is_on() && matches!(rejected, Rejected::SeqNumMismatch(_)))
                || (Mutation::TokenMismatchEarly.is_on() && matches!(rejected, Rejected::FencingTokenMismatch(_)));
            (Failure::Rejected(rejected), if early { 0 } else { ticket })
        })?;
        self.stage_batch(now, place, &batch, admitted, (Answer::Ack(to), arrived_us));
        Ok(None)
    }

    pub(crate) fn open_session(
        &mut self,
        now: Now,
        to: ReplyTo,
        target: &Target,
        create: Option<StreamSpec>,
        effects: &mut Effects,
    ) {
        match self.resolve_to_write(now, target, create) {
            Ok(place) => effects.reply(to, Reply::Opened(place.1, self.stream(place).cipher)),
            Err(refusal) => self.fail(to, refusal, effects),
        }
    }

    /// Refuses what takes log when there is none but the reserve, or no memory to index it.
    pub(crate) fn check_space(&mut self, reserve_bytes: u64) -> Result<(), Refusal> {
        let room = self.space.room_bytes(self.writer.end(), self.replay_from);
        let needed = self.writer.pending_bytes() + MARGIN_BYTES + reserve_bytes;
        let is_full = self.index_bytes >= self.config.index_bytes_max && !Mutation::IndexUnbounded.is_on();
        let index_full = reserve_bytes > 0 && is_full;
        if room >= needed && !index_full {
            return Ok(());
        }
        // A log that is still getting its first segment is not full: the request waits in the open extent.
        if self.space.current().is_none() && room > 0 {
            return Ok(());
        }
        self.stats.rejected_full_total += 1;
        self.wants_room = true;
        Err((Unavailable::LogFull.into(), 0))
    }

    /// The stream to append to, created if it is missing and may be.
    pub(crate) fn resolve_to_write(
        &mut self,
        now: Now,
        target: &Target,
        create: Option<StreamSpec>,
    ) -> Result<Place, Refusal> {
        match self.find(target)? {
            Some(place) => {
                let stream = self.stream(place);
                match stream.life {
                    Life::Creating | Life::Active => Ok(place),
                    Life::DeletingSoon | Life::DeletingUnseen | Life::Deleting => {
                        Err((deleting(target), stream.touched))
                    }
                }
            }
            None => match create {
                Some(spec) => self.stage_create(now, target, spec, None, None),
                None => Err((not_found(target), 0)),
            },
        }
    }

    /// The stream of this name (and incarnation, if the target has one), in whatever state.
    pub(crate) fn find(&self, target: &Target) -> Result<Option<Place>, Refusal> {
        if self.is_draining {
            return Err((Unavailable::Draining.into(), 0));
        }
        let group = self.state.group(target.group).expect("the router sends a stream to the shard of its group");
        let catalog = &self.state.groups[group].catalog;
        if let Some(id) = target.incarnation {
            return match catalog.get(id) {
                Some(_) => Ok(Some((group, id))),
                None => Err((not_found(target), 0)),
            };
        }
        Ok(catalog.find(target.basin_id, &target.stream).map(|id| (group, id)))
    }

    pub(crate) fn stream(&self, (group, id): Place) -> &Stream {
        self.state.groups[group].catalog.get(id).expect("a place that was just found")
    }

    /// Stages a creation; the stream takes appends at once.
    pub(crate) fn stage_create(
        &mut self,
        now: Now,
        target: &Target,
        spec: StreamSpec,
        request_key: Option<u64>,
        to: Option<ReplyTo>,
    ) -> Result<Place, Refusal> {
        self.check_space(RESERVE_BYTES)?;
        let group = self.state.group(target.group).expect("the router sends a stream to the shard of its group");
        let catalog = &mut self.state.groups[group].catalog;
        let dropping = catalog.is_dropping(target.basin_id) && !Mutation::CreateInDroppingBasin.is_on();
        if catalog.is_dropped(target.basin_id) || dropping {
            return Err((Rejected::BasinDeleting(target.basin.clone()).into(), 0));
        }
        let id = catalog.allocate();
        let mut stream = Stream::new(id, target.basin_id, target.stream.clone(), spec.config, now.wall_ms);
        (stream.cipher, stream.request_key, stream.touched) = (spec.cipher, request_key, self.stage.ticket);
        let info = stream.info();
        let stream = catalog.insert(stream);
        let op = ControlOp::CreateStream {
            id,
            basin: target.basin_id,
            name: target.stream.clone(),
            config: stream.config.clone(),
            cipher: stream.cipher,
            created_ms: stream.created_ms,
            request_key,
        };
        let reply = to.map(|to| (to, Reply::Stream(info, crate::event::Provision::Created)));
        self.stage_control(group, op, reply);
        Ok((group, id))
    }
}

pub(crate) fn not_found(target: &Target) -> Failure {
    Rejected::StreamNotFound(target.basin.clone(), target.stream.clone()).into()
}

pub(crate) fn deleting(target: &Target) -> Failure {
    Rejected::StreamDeleting(target.basin.clone(), target.stream.clone()).into()
}

/// Log kept for what makes room: trims, deletions, expiry.
pub(crate) const RESERVE_BYTES: u64 = 4 << 20;
/// With less room than this, appends are refused.
pub(crate) const FULL_BYTES: u64 = MARGIN_BYTES + RESERVE_BYTES;
/// Log that the extents on their way may need beside their frames: ends of segments.
const MARGIN_BYTES: u64 = 3 << 20;
