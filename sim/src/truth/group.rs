//! The truth about one group: its promises, its entries, its streams and their names.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use engine::log::codec::Reader;
use engine::log::frame::{FrameHeader, FrameKind};
use engine::stream::lease::Held;
use engine::stream::op::ControlOp;
use model::{BasinId, GroupId, StreamId, StreamName};
use replication::Descriptor;

use crate::attempts::{Attempts, LeaseAsk};
use crate::payload::Attempt;
use crate::truth::Context;
use crate::truth::basins::BasinsTruth;
use crate::truth::lease::{LeaseSights, check_given, check_ours, put};
use crate::truth::stream::{BatchTruth, StreamTruth, seconds};
use crate::violation::{Rule, Violation, broken};

/// Something clients asked for that changes what exists; counted so that nothing else does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    /// That a stream be there.
    Create,
    /// That it be gone.
    Delete,
}

/// The truth about one name.
#[derive(Debug, Default, Clone)]
pub(crate) struct NameTruth {
    /// The incarnation that has it.
    pub current: Option<StreamId>,
    /// Those that had it, latest last.
    pub former: Vec<StreamId>,
    /// When it was last free, and last being deleted, in simulated time.
    absent_us: Option<u64>,
    deleting_us: Option<u64>,
    /// Creations and deletions asked for and not used up.
    creates: u64,
    deletes: u64,
}

/// What has been seen in the log, for coverage.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Sights {
    /// Records expired.
    pub expired: bool,
    /// A stream was deleted for being empty.
    pub emptied: bool,
    /// A name was given again.
    pub recreated: bool,
    /// Of leases.
    pub leases: LeaseSights,
}

/// One group.
#[derive(Debug)]
pub(crate) struct GroupTruth {
    /// What has been seen.
    pub sights: Sights,
    id: GroupId,
    term: u64,
    /// Terms of earlier lives are below.
    term_min: u64,
    vote: u64,
    index: u64,
    generation: u64,
    streams: BTreeMap<StreamId, StreamTruth>,
    /// Those that are gone, for answers under way: latest last.
    gone: VecDeque<(StreamId, StreamTruth)>,
    names: BTreeMap<(BasinId, StreamName), NameTruth>,
    dropped: BTreeSet<BasinId>,
    pending: Vec<(FrameHeader, Vec<u8>, usize)>,
    pending_crc: u32,
    /// The fence of an acquisition was just seen: the lease must be right behind it.
    fenced: Option<(StreamId, Attempt)>,
}

impl GroupTruth {
    pub(super) fn new(id: GroupId) -> Self {
        Self {
            sights: Sights::default(),
            id,
            term: 0,
            term_min: 0,
            vote: 0,
            index: 0,
            generation: 0,
            streams: BTreeMap::new(),
            gone: VecDeque::new(),
            names: BTreeMap::new(),
            dropped: BTreeSet::new(),
            pending: Vec::new(),
            pending_crc: 0,
            fenced: None,
        }
    }

    /// Which.
    #[must_use]
    pub(crate) const fn id(&self) -> GroupId {
        self.id
    }

    /// The shard begins another life: it leads in terms of its own.
    pub(super) const fn begin_life(&mut self) {
        self.term_min = self.term + 1;
    }

    pub(super) const fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    pub(super) fn pend(&mut self, frame: &FrameHeader, payload: &[u8], offset: usize) -> Result<(), Violation> {
        self.pending_crc = crc32c::crc32c_append(self.pending_crc, &frame.encode());
        self.pending.push((*frame, payload.to_vec(), offset));
        Ok(())
    }

    pub(super) fn hard_state(&mut self, payload: &[u8]) -> Result<(), Violation> {
        let mut r = Reader::new(payload);
        let (Ok(term), Ok(vote)) = (r.u64(), r.u64()) else {
            return broken(Rule::Consensus, "a hard state that cannot be read");
        };
        let changed_vote = term == self.term && self.vote != 0 && vote != self.vote;
        if term < self.term || changed_vote {
            let what = format!("group {}: term {term} vote {vote} behind {} {}", self.id.0, self.term, self.vote);
            return broken(Rule::Consensus, what);
        }
        (self.term, self.vote) = (term, vote);
        Ok(())
    }

    /// An entry: what is pending is committed with it. Returns how many batches that was.
    pub(super) fn entry(
        &mut self,
        payload: &[u8],
        context: Context,
        attempts: &mut Attempts,
        basins: &mut BasinsTruth,
    ) -> Result<u64, Violation> {
        let mut r = Reader::new(payload);
        let (Ok(term), Ok(index), Ok(descriptor)) = (r.u64(), r.u64(), r.bytes()) else {
            return broken(Rule::Consensus, "an entry that cannot be read");
        };
        if index != self.index + 1 || term != self.term || term < self.term_min {
            let what = format!(
                "group {}: entry {index} of term {term} behind entry {} under promise {}",
                self.id.0, self.index, self.term
            );
            return broken(Rule::Consensus, what);
        }
        self.index = index;
        if descriptor.is_empty() {
            return Ok(0);
        }
        let frames_count = u32::try_from(self.pending.len()).expect("an extent has few frames");
        let is = Descriptor { extent: context.lsn.0, frames_count, frames_crc: std::mem::take(&mut self.pending_crc) };
        if Descriptor::decode(descriptor) != Ok(is) {
            return broken(Rule::Consensus, format!("group {}: entry {index} describes other frames", self.id.0));
        }
        let mut batches_count = 0;
        for (frame, payload, offset) in std::mem::take(&mut self.pending) {
            match frame.kind {
                FrameKind::Batch => {
                    self.check_lease_follows()?;
                    self.batch(&frame, &payload, offset, context, attempts)?;
                    batches_count += 1;
                }
                FrameKind::Control => {
                    let Ok(op) = ControlOp::decode(&payload) else {
                        return broken(Rule::Consensus, "an operation that cannot be read");
                    };
                    self.control(op, context, attempts, basins)?;
                }
                FrameKind::Entry | FrameKind::HardState => unreachable!("only these two are pending"),
            }
        }
        self.check_lease_follows()?;
        Ok(batches_count)
    }

    /// No fence of an acquisition lies there without its lease.
    fn check_lease_follows(&self) -> Result<(), Violation> {
        match self.fenced {
            Some((_, attempt)) => {
                broken(Rule::Leases, format!("the fence of acquisition {attempt} has no lease with it"))
            }
            None => Ok(()),
        }
    }

    fn batch(
        &mut self,
        frame: &FrameHeader,
        payload: &[u8],
        offset: usize,
        context: Context,
        attempts: &mut Attempts,
    ) -> Result<(), Violation> {
        let Some(stream) = self.streams.get_mut(&frame.stream) else {
            return broken(Rule::DeleteLawful, format!("a batch of stream {}, which does not exist", frame.stream.0));
        };
        let lsn = context.lsn.plus(offset as u64);
        let batch: BatchTruth = stream.decode(frame, payload, lsn, context)?;
        let attempt = match (batch.attempt, &*batch.commands) {
            (Some(attempt), _) => attempt,
            (None, [(_, command)]) => {
                match attempts.of_command(stream.basin, &stream.name, stream.token.now(), command) {
                    Some(attempt) => attempt,
                    None => return broken(Rule::SentOnce, format!("stream `{}`: {command:?} by nobody", stream.name)),
                }
            }
            (None, _) => return broken(Rule::Atomic, format!("stream `{}`: a batch without a body", stream.name)),
        };
        attempts.found(attempt, frame.stream, batch.first)?;
        let sent = attempts.get(attempt).expect("just found");
        stream.admits(sent, &batch).map_err(|v| Violation {
            what: format!("{} (append {attempt}, stream id {:x}, lsn {})", v.what, frame.stream.0, lsn.0),
            ..v
        })?;
        let lease = attempts.leases.get(attempt);
        match lease.map(|sent| &sent.ask) {
            None => self.sights.leases.fenced |= stream.take(batch),
            Some(LeaseAsk::Acquire { .. }) => {
                check_given(stream.lease.now().as_ref(), context.decided, &mut self.sights.leases)
                    .map_err(|v| v.of(&stream.name))?;
                stream.take(batch);
                self.fenced = Some((frame.stream, attempt));
            }
            Some(LeaseAsk::Renew { .. } | LeaseAsk::Release { .. } | LeaseAsk::Inspect) => {
                let sent = lease.expect("just seen");
                check_ours(stream.lease.now().as_ref(), sent, context.decided.life).map_err(|v| v.of(&stream.name))?;
                self.sights.leases.released = true;
                stream.take(batch);
            }
        }
        Ok(())
    }

    fn put_lease(
        &mut self,
        id: StreamId,
        (held, generation): (Held, u64),
        context: Context,
        attempts: &mut Attempts,
    ) -> Result<(), Violation> {
        let fenced = self.fenced.take();
        if let Some((_, attempt)) = fenced.filter(|(fenced, _)| *fenced != id) {
            return broken(Rule::Leases, format!("acquisition {attempt} fences one stream and leases another"));
        }
        let mut sights = self.sights.leases;
        let stream = self.existing(id, "leased")?;
        let renewal = || {
            let from = stream.lease.now().as_ref().map_or(held.duration, |before| before.held.duration);
            attempts.leases.of_renewal((stream.basin, &stream.name), stream.token.now(), from, held.duration)
        };
        let Some(attempt) = fenced.map(|(_, attempt)| attempt).or_else(renewal) else {
            return broken(Rule::Leases, format!("stream `{}`: {held:?} is put by nobody", stream.name));
        };
        let sent = attempts.leases.get(attempt).expect("just found");
        let before = (stream.lease.now().as_ref(), stream.leases_given);
        let holding = put(before, (held.clone(), generation), sent, context.decided, &mut sights);
        let holding = holding.map_err(|v| v.of(&stream.name))?;
        stream.leases_given = generation;
        stream.lease.push(Some(holding));
        attempts.leases.found(attempt, held, generation);
        self.sights.leases = sights;
        Ok(())
    }

    fn control(
        &mut self,
        op: ControlOp,
        context: Context,
        attempts: &mut Attempts,
        basins: &mut BasinsTruth,
    ) -> Result<(), Violation> {
        if !matches!(op, ControlOp::PutLease { .. }) {
            self.check_lease_follows()?;
        }
        match op {
            ControlOp::CreateStream { id, basin, name, config, cipher, created_ms, .. } => {
                let stream = StreamTruth::new(basin, name, config, cipher, created_ms);
                self.create(id, stream, context)
            }
            ControlOp::ConfigureStream { id, config } => {
                self.existing(id, "configured")?.configure(config);
                Ok(())
            }
            ControlOp::DeleteStream { id, at_ms } => self.delete(id, at_ms, context),
            ControlOp::PurgeStream { id } => match self.existing(id, "purged")?.deleted_ms {
                Some(_) => {
                    self.remove(id, context);
                    Ok(())
                }
                None => broken(Rule::DeleteLawful, format!("stream {} is purged and was not deleted", id.0)),
            },
            ControlOp::TrimStream { id, up_to } => {
                self.sights.expired = true;
                self.existing(id, "trimmed")?.expire(up_to, context)
            }
            ControlOp::PutLease { id, held, generation } => self.put_lease(id, (held, generation), context, attempts),
            ControlOp::DropBasin { basin } => {
                let ids: Vec<_> = self.streams.iter().filter(|(_, s)| s.basin == basin).map(|(id, _)| *id).collect();
                for id in ids {
                    self.remove(id, context);
                }
                self.dropped.insert(basin);
                Ok(())
            }
            ControlOp::PutBasin { info, .. } => basins.put(&info, context.now_us),
            ControlOp::PurgeBasin { name } => basins.purge(&name, context.now_us),
            ControlOp::ChangeToken(change) => basins.tokens.change(&change, context.now_us, context.wall_ms_max),
        }
    }

    fn existing(&mut self, id: StreamId, what: &str) -> Result<&mut StreamTruth, Violation> {
        match self.streams.get_mut(&id) {
            Some(stream) => Ok(stream),
            None => broken(Rule::DeleteLawful, format!("stream {} is {what} and does not exist", id.0)),
        }
    }

    fn create(&mut self, id: StreamId, stream: StreamTruth, context: Context) -> Result<(), Violation> {
        let generation = id.0 >> 32;
        if generation <= self.generation {
            return broken(Rule::Existence, format!("incarnation {generation} is given after {}", self.generation));
        }
        if self.dropped.contains(&stream.basin) {
            return broken(Rule::DeleteLawful, format!("stream `{}` is created in a basin that is gone", stream.name));
        }
        self.generation = generation;
        let name = self.names.entry((stream.basin, stream.name.clone())).or_default();
        if name.creates == 0 {
            return broken(Rule::Existence, format!("stream `{}` is created and nobody asked for it", stream.name));
        }
        if let Some(before) = name.current.replace(id) {
            return broken(Rule::Existence, format!("stream `{}` is created beside {}", stream.name, before.0));
        }
        // A deletion that was asked of an earlier incarnation may still come to this one, while it is under way.
        name.absent_us = Some(context.now_us);
        self.sights.recreated |= !name.former.is_empty();
        self.streams.insert(id, stream);
        Ok(())
    }

    fn delete(&mut self, id: StreamId, at_ms: u64, context: Context) -> Result<(), Violation> {
        let stream = self.existing(id, "deleted")?;
        if stream.deleted_ms.is_some() {
            return broken(Rule::DeleteLawful, format!("stream `{}` is deleted twice", stream.name));
        }
        let is_empty = stream.is_empty_too_long(at_ms) && at_ms <= context.wall_ms_max;
        stream.deleted_ms = Some(at_ms);
        let (basin, name) = (stream.basin, stream.name.clone());
        let asked = self.names.get_mut(&(basin, name.clone())).map_or(0, |n| n.deletes);
        self.sights.emptied |= asked == 0;
        if asked == 0 && !is_empty {
            let stream = &self.streams[&id];
            let what = format!(
                "stream `{name}` is deleted at {} s; nobody asked, it was written at {} s, holds {} to {}",
                seconds(at_ms),
                stream.written_s,
                stream.trim_point,
                stream.tail.seq_num
            );
            return broken(Rule::DeleteLawful, what);
        }
        Ok(())
    }

    fn remove(&mut self, id: StreamId, context: Context) {
        let Some(mut stream) = self.streams.remove(&id) else { return };
        stream.drop_all();
        if let Some(name) = self.names.get_mut(&(stream.basin, stream.name.clone())) {
            name.current = None;
            name.deleting_us = Some(context.now_us);
            name.former.push(id);
            if name.former.len() > FORMER_MAX {
                name.former.remove(0);
            }
        }
        self.gone.push_back((id, stream));
        if self.gone.len() > GONE_MAX {
            self.gone.pop_front();
        }
    }

    /// A stream that exists.
    #[must_use]
    pub(crate) fn stream(&self, id: StreamId) -> Option<&StreamTruth> {
        self.streams.get(&id)
    }

    /// A stream that exists, to note what was told of it.
    pub(crate) fn stream_mut(&mut self, id: StreamId) -> Option<&mut StreamTruth> {
        self.streams.get_mut(&id)
    }

    /// A stream that exists or did not so long ago.
    #[must_use]
    pub(crate) fn stream_or_gone(&self, id: StreamId) -> Option<&StreamTruth> {
        self.streams.get(&id).or_else(|| self.gone.iter().rev().find(|(gone, _)| *gone == id).map(|(_, s)| s))
    }

    /// All streams that exist.
    pub(crate) fn streams(&self) -> impl Iterator<Item = (&StreamId, &StreamTruth)> {
        self.streams.iter()
    }

    /// The stream that has this name.
    #[must_use]
    pub(crate) fn named(&self, basin: BasinId, name: &StreamName) -> Option<(StreamId, &StreamTruth)> {
        let id = self.names.get(&(basin, name.clone()))?.current?;
        self.streams.get(&id).map(|stream| (id, stream))
    }

    /// What is known of a name.
    #[must_use]
    pub(crate) fn name(&self, basin: BasinId, name: &StreamName) -> Option<&NameTruth> {
        self.names.get(&(basin, name.clone()))
    }

    /// A client asks.
    pub(crate) fn asked(&mut self, basin: BasinId, name: &StreamName, ask: Ask) {
        let name = self.names.entry((basin, name.clone())).or_default();
        match ask {
            Ask::Create => name.creates += 1,
            Ask::Delete => name.deletes += 1,
        }
    }

    /// What a client asked can no longer happen.
    pub(crate) fn settled(&mut self, basin: BasinId, name: &StreamName, ask: Ask) {
        let Some(name) = self.names.get_mut(&(basin, name.clone())) else { return };
        match ask {
            Ask::Create => name.creates -= 1,
            Ask::Delete => name.deletes -= 1,
        }
    }

    /// Whether the name was free at some time since.
    #[must_use]
    pub(crate) fn was_absent(&self, basin: BasinId, name: &StreamName, since_us: u64) -> bool {
        self.name(basin, name).is_none_or(|n| n.current.is_none() || n.absent_us.is_some_and(|at| at >= since_us))
    }

    /// Whether its stream was being deleted at some time since.
    #[must_use]
    pub(crate) fn was_deleting(&self, basin: BasinId, name: &StreamName, since_us: u64) -> bool {
        let Some(known) = self.name(basin, name) else { return false };
        let is_now = self.named(basin, name).is_some_and(|(_, s)| s.deleted_ms.is_some());
        is_now || known.deleting_us.is_some_and(|at| at >= since_us)
    }
}

/// Incarnations remembered of a name.
const FORMER_MAX: usize = 8;
/// Streams remembered after they are gone.
const GONE_MAX: usize = 8192;
