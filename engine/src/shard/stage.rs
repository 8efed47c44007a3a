//! Staging and sealing: operations gather in the open extent, one raft entry per group covers them, and off they go.

use bytes::Bytes;
use model::stored::{self, PayloadKind};
use model::{Batch, StreamId};
use replication::Descriptor;

use crate::event::{AppendTimes, Effect, Effects, Now, Reply, ReplyTo};
use crate::log::Lsn;
use crate::log::codec::Writer;
use crate::log::extent::PutFrame;
use crate::log::frame::{FLAG_COMMANDS, FrameHeader, FrameKind};
use crate::log::writer::SEAL_BYTES_MAX;
use crate::mutation::Mutation;
use crate::shard::Shard;
use crate::shard::state::now_s;
use crate::stream::admit::Admitted;
use crate::stream::op::{BatchOp, ControlOp};

/// An operation on its way, with whom to answer.
#[derive(Debug)]
pub(crate) enum Staged {
    Batch(BatchOp, Answer, AppendTimes),
    Control(ControlOp, Option<(ReplyTo, Reply)>),
}

/// Who hears of a batch, and what.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Whoever appended it: where it is.
    Ack(ReplyTo),
    /// Whoever asked for something that a batch does.
    With(ReplyTo, Box<Reply>),
    /// It is part of something that is answered by its other part.
    Nobody,
}

/// What one group has in an extent.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) group: usize,
    pub(crate) ops: Vec<Staged>,
    frames_count: u32,
    frames_crc: u32,
}

/// What gathers in the open extent.
#[derive(Debug)]
pub(crate) struct Stage {
    /// Numbers the open extent; grows with each seal, from 1.
    pub(crate) ticket: u64,
    parts: Vec<Part>,
    /// Groups have something to persist although nothing was staged.
    pub(crate) must_seal: bool,
}

/// A sealed extent until all of it is applied.
#[derive(Debug)]
pub(crate) struct SealedExtent {
    pub(crate) ticket: u64,
    pub(crate) lsn: Lsn,
    pub(crate) bytes: u64,
    /// (group, number to tell its consensus) of all that is persisted with it.
    pub(crate) persists: Vec<(usize, u64)>,
    /// Parts that are not committed yet.
    pub(crate) parts: Vec<Part>,
    pub(crate) submitted_us: u64,
    /// 0 until it is durable.
    pub(crate) durable_us: u64,
}

impl Stage {
    pub(crate) const fn new() -> Self {
        Self { ticket: 1, parts: Vec::new(), must_seal: false }
    }

    fn add(&mut self, group: usize, frame: &PutFrame, op: Staged) {
        let part = match self.parts.iter().position(|p| p.group == group) {
            Some(at) => &mut self.parts[at],
            None => {
                self.parts.push(Part { group, ops: Vec::new(), frames_count: 0, frames_crc: 0 });
                self.parts.last_mut().expect("just added")
            }
        };
        part.frames_count += 1;
        part.frames_crc = crc32c::crc32c_append(part.frames_crc, &frame.encoded);
        part.ops.push(op);
    }
}

impl Shard {
    /// Puts an admitted batch into the open extent: the one copy on its way in.
    pub(crate) fn stage_batch(
        &mut self,
        now: Now,
        (group, stream): (usize, StreamId),
        batch: &Batch,
        admitted: Admitted,
        (to, arrived_us): (Answer, u64),
    ) {
        let header = FrameHeader {
            payload_kind: PayloadKind::Sequenced as u8,
            flags: if admitted.commands.is_empty() { 0 } else { FLAG_COMMANDS },
            stream,
            first_seq_num: admitted.first.seq_num,
            first_timestamp: admitted.first.timestamp,
            last_timestamp: admitted.end.timestamp,
            records_count: u32::try_from(batch.records().len()).expect("at most 1000"),
            metered_bytes: batch.metered_bytes(),
            arrived_s: now_s(now),
            ..FrameHeader::new(FrameKind::Batch, self.state.groups[group].id)
        };
        let timestamps = &self.timestamps;
        let frame = self.writer.open().put(header, batch.stored_bytes_max(), |room| {
            stored::put_batch(room, batch, admitted.first.seq_num, timestamps)
        });
        let op = BatchOp {
            stream,
            first: admitted.first,
            end: admitted.end,
            metered_bytes: batch.metered_bytes(),
            arrived_s: header.arrived_s,
            offset: frame.offset,
            frame_bytes: u32::try_from(frame.header.frame_bytes()).expect("an extent is a few MiB"),
            commands: admitted.commands,
        };
        let state = self.state.groups[group].catalog.get_mut(stream).expect("the stream was just admitted to");
        state.advance(&op, self.stage.ticket);
        let times = AppendTimes { arrived_us, admitted_us: now.mono_us, ..AppendTimes::default() };
        self.stage.add(group, &frame, Staged::Batch(op, to, times));
    }

    /// Puts any other operation into the open extent.
    pub(crate) fn stage_control(&mut self, group: usize, op: ControlOp, reply: Option<(ReplyTo, Reply)>) {
        let header = FrameHeader::new(FrameKind::Control, self.state.groups[group].id);
        let frame = self.writer.open().put_bytes(header, &op.encode());
        self.stage.add(group, &frame, Staged::Control(op, reply));
    }

    /// Makes room for so many bytes in the open extent, by sealing it if that may be; false when that has to wait.
    pub(crate) fn make_room(&mut self, now: Now, bytes: usize, effects: &mut Effects) -> bool {
        self.writer.has_room_for(bytes)
            || (self.writer.has_slot() && self.seal(now, effects) && self.writer.has_room_for(bytes))
    }

    /// Sends the open extent on its way, if there is anything in it and the device has room.
    pub(crate) fn flush(&mut self, now: Now, effects: &mut Effects) {
        if (self.writer.has_frames() || self.stage.must_seal) && self.writer.may_seal() {
            self.seal(now, effects);
        }
    }

    /// Seals the open extent; false when no segment is ready for it.
    pub(crate) fn seal(&mut self, now: Now, effects: &mut Effects) -> bool {
        let Some(lsn) = self.writer.place(&mut self.space, SEAL_BYTES_MAX) else { return false };
        let parts = std::mem::take(&mut self.stage.parts);
        for part in &parts {
            let Part { frames_count, frames_crc, .. } = *part;
            let descriptor = Descriptor { extent: lsn.0, frames_count, frames_crc };
            let proposed = self.state.groups[part.group].consensus.propose(descriptor);
            proposed.expect("a group of one voter leads from its start");
        }
        let persists = self.put_consensus();
        let sealed = self.writer.seal(now.wall_ms);
        assert_eq!(sealed.lsn, lsn, "an extent is written where its descriptors say");
        self.cache.push(lsn, sealed.bytes.clone());
        self.sealed.push_back(SealedExtent {
            ticket: self.stage.ticket,
            lsn,
            bytes: sealed.bytes.len() as u64,
            persists,
            parts,
            submitted_us: now.mono_us,
            durable_us: 0,
        });
        if Mutation::AckBeforeDurable.is_on() {
            self.acknowledge_early(effects);
        }
        self.stage.ticket += 1;
        self.stage.must_seal = false;
        self.write(lsn, sealed.bytes, effects);
        self.consider_checkpoint(now, effects);
        true
    }

    fn write(&self, lsn: Lsn, bytes: Bytes, effects: &mut Effects) {
        let (segment, offset) = (self.geometry.segment(lsn), self.geometry.offset(lsn));
        effects.push(Effect::WriteExtent { lsn, segment, offset, bytes });
    }

    /// Puts entries and promises of all groups that have any into the open extent.
    fn put_consensus(&mut self) -> Vec<(usize, u64)> {
        let mut persists = Vec::new();
        let open = self.writer.open();
        for (at, group) in self.state.groups.iter_mut().enumerate() {
            let Some(persist) = group.consensus.ready() else { continue };
            assert!(persist.committed.is_empty(), "what was committed before was taken when it became durable");
            if let Some(hard_state) = persist
                .hard_state
                .filter(|h| (h.term, h.vote) != group.written_vote && !Mutation::HardStateNotWritten.is_on())
            {
                let mut w = Writer::new();
                w.u64(hard_state.term).u64(hard_state.vote).u64(hard_state.commit);
                open.put_bytes(FrameHeader::new(FrameKind::HardState, group.id), &w.finish());
                group.written_vote = (hard_state.term, hard_state.vote);
            }
            for entry in &persist.entries {
                let mut w = Writer::new();
                w.u64(entry.term).u64(entry.index);
                let descriptor = entry.descriptor.map(|d| d.encode());
                w.bytes(descriptor.as_ref().map_or(&[], |d| &d[..]));
                open.put_bytes(FrameHeader::new(FrameKind::Entry, group.id), &w.finish());
            }
            persists.push((at, persist.number));
        }
        persists
    }
}
