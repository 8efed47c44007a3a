//! The way back: an extent is durable, its entries are committed and applied, answers go out, readers wake.

use std::collections::BTreeSet;

use model::config::MeteredClass;
use model::{GroupId, StreamId};
use replication::Committed;

use crate::event::{Appended, Effect, Effects, Now, Reply};
use crate::log::Lsn;
use crate::mutation::Mutation;
use crate::shard::Shard;
use crate::shard::stage::{Answer, Part, Staged};
use crate::shard::state::{Change, Indexing, Phase};
use crate::stream::index::ENTRY_BYTES;
use crate::stream::op::{BatchOp, ControlOp};

/// Streams that got records, and whose readers wait.
type Woken = BTreeSet<(GroupId, StreamId)>;

impl Shard {
    /// An extent is durable: acknowledges the contiguous prefix.
    pub(crate) fn extent_durable(&mut self, now: Now, lsn: Lsn, effects: &mut Effects) {
        self.writer.durable(lsn);
        let mut woken = Woken::new();
        while let Some(lsn) = self.writer.pop_durable() {
            let at = self.sealed.iter().position(|e| e.lsn == lsn).expect("what was written was sealed");
            let extent = &mut self.sealed[at];
            extent.durable_us = now.mono_us;
            self.stats.extents_total += 1;
            self.stats.extent_bytes_total += extent.bytes;
            for (group, number) in std::mem::take(&mut extent.persists) {
                self.persisted(group, number, &mut woken, effects);
            }
            self.retire(effects);
        }
        for stream in woken {
            self.wake(stream, effects);
        }
        self.timer.note_durable(now);
        self.go_on(now, effects);
    }

    /// The planted bug [`Mutation::AckBeforeDurable`].
    pub(crate) fn acknowledge_early(&mut self, effects: &mut Effects) {
        let persists = self.sealed.back_mut().map(|extent| std::mem::take(&mut extent.persists)).unwrap_or_default();
        for (group, number) in persists {
            self.persisted(group, number, &mut Woken::new(), effects);
        }
    }

    /// Tells a group that it is durable so far, and applies what that committed.
    fn persisted(&mut self, group: usize, number: u64, woken: &mut Woken, effects: &mut Effects) {
        self.state.groups[group].consensus.persisted(number);
        while let Some(persist) = self.state.groups[group].consensus.ready() {
            assert!(persist.entries.is_empty(), "entries come only from proposals, which are sealed at once");
            for committed in persist.committed {
                self.commit(group, committed, woken, effects);
            }
        }
        let Self { state, .. } = self;
        let group = &mut state.groups[group];
        group.consensus.applied(group.applied_index);
    }

    fn commit(&mut self, group: usize, committed: Committed, woken: &mut Woken, effects: &mut Effects) {
        let applied = &mut self.state.groups[group];
        assert_eq!(committed.index, applied.applied_index + 1, "entries are applied densely");
        (applied.applied_index, applied.applied_term) = (committed.index, committed.term);
        let Some(descriptor) = committed.descriptor else { return };
        let extent = self.sealed.iter_mut().find(|e| e.lsn.0 == descriptor.extent).expect("a committed extent is kept");
        let at = extent.parts.iter().position(|p| p.group == group).expect("a descriptor describes a part");
        let part = extent.parts.swap_remove(at);
        let (lsn, times) = (extent.lsn, (extent.submitted_us, extent.durable_us));
        self.apply(part, lsn, times, woken, effects);
    }

    fn apply(
        &mut self,
        part: Part,
        lsn: Lsn,
        (submitted_us, durable_us): (u64, u64),
        woken: &mut Woken,
        effects: &mut Effects,
    ) {
        let group_id = self.state.groups[part.group].id;
        for op in part.ops {
            match op {
                Staged::Batch(op, to, mut times) => {
                    (times.submitted_us, times.durable_us) = (submitted_us, durable_us);
                    let tail = self.apply_batch(part.group, &op, lsn.plus(u64::from(op.offset)), effects);
                    let stream = (group_id, op.stream);
                    if self.waiters.wait_on(stream) {
                        woken.insert(stream);
                    }
                    let class = self.stream((part.group, op.stream)).config.storage_class.as_deref();
                    let class = MeteredClass::named(class);
                    let appended = Appended { start: op.first, end: op.end, tail, stream: op.stream, class, times };
                    match to {
                        Answer::Ack(to) => effects.reply(to, Reply::Appended(appended)),
                        Answer::With(to, reply) => effects.reply(to, *reply),
                        Answer::Nobody => {}
                    }
                }
                Staged::Control(op, reply) => {
                    let change = self.state.apply_control(part.group, &op, Phase::Live);
                    self.carry(group_id, change, effects);
                    self.applied_control(&op, effects);
                    if let Some((to, reply)) = reply {
                        effects.reply(to, reply);
                    }
                }
            }
        }
    }

    fn apply_batch(&mut self, group: usize, op: &BatchOp, lsn: Lsn, effects: &mut Effects) -> model::Position {
        let indexing = Indexing { geometry: self.geometry, window_bytes: self.window_bytes() };
        let change = self.state.apply_batch(group, op, lsn, indexing);
        let records = op.end.seq_num - op.first.seq_num;
        self.stats.appends_total += 1;
        self.stats.records_total += records;
        self.stats.append_metered_bytes_total += u64::from(op.metered_bytes);
        let (id, tail) = {
            let group = &self.state.groups[group];
            (group.id, group.catalog.get(op.stream).map_or(op.end, |s| s.tail))
        };
        self.carry(id, change, effects);
        tail
    }

    /// Carries out what a change of the state means for space, readers and fronts.
    pub(crate) fn carry(&mut self, group: GroupId, change: Change, effects: &mut Effects) {
        if let Some(lsn) = change.retained {
            self.space.retain(lsn);
            self.index_bytes += ENTRY_BYTES;
        }
        for lsn in change.released {
            self.space.release(lsn);
            if Mutation::ReleasedTwice.is_on() {
                self.space.release(lsn);
            }
            self.index_bytes -= ENTRY_BYTES;
        }
        for stream in change.closed.into_iter().filter(|_| !Mutation::ReadersNotClosed.is_on()) {
            self.close_readers((group, stream), effects);
        }
        if let Some(change) = change.published {
            effects.push(Effect::Publish(change));
        }
        if let Some(change) = change.published_token {
            effects.push(Effect::PublishToken(change));
        }
    }

    fn applied_control(&mut self, op: &ControlOp, effects: &mut Effects) {
        if let ControlOp::DropBasin { basin } = op {
            self.dropped_in_one_group(*basin, effects);
        }
    }

    /// Forgets extents of which everything is applied, and sends the answers that waited for that.
    fn retire(&mut self, effects: &mut Effects) {
        while self.sealed.front().is_some_and(|e| e.durable_us != 0 && e.parts.is_empty()) {
            let extent = self.sealed.pop_front().expect("just seen");
            self.applied_ticket = extent.ticket + u64::from(Mutation::AnswersOneExtentEarly.is_on());
        }
        while let Some(held) = self.held.first_entry().filter(|h| *h.key() <= self.applied_ticket) {
            for (to, reply) in held.remove() {
                if Mutation::ReplyTwice.is_on() {
                    effects.reply(to, reply.clone());
                }
                effects.reply(to, reply);
            }
        }
    }

    /// The window of the log that one index entry covers: wider when memory for the index gets short.
    pub(crate) const fn window_bytes(&self) -> u32 {
        if self.index_bytes < self.config.index_bytes_max / 2 {
            WINDOW_BYTES
        } else if self.index_bytes < self.config.index_bytes_max / 4 * 3 {
            WINDOW_BYTES * 8
        } else {
            WINDOW_BYTES * 64
        }
    }
}

/// See [`Shard::window_bytes`]: small against the time a device takes to seek, large against an entry.
const WINDOW_BYTES: u32 = 256 << 10;
