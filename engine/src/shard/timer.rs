//! What is done without being asked: expiry, deletion of empty streams, purges, idle extents.

use model::{BasinId, BasinName};

use crate::event::{Effect, Effects, Now};
use crate::mutation::Mutation;
use crate::shard::state::now_s;
use crate::shard::{CONTROL_BYTES_MAX, Shard};
use crate::stream::op::ControlOp;
use crate::stream::state::Life;

/// Something to stage once there is room.
#[derive(Debug, Clone)]
pub(crate) enum Chore {
    DropBasin(usize, BasinId),
    PurgeBasin(BasinName),
}

/// When the shard wants to be called.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    /// The timer that is set.
    armed_us: Option<u64>,
    /// When to write an idle extent, if nothing else is written before.
    idle_at_us: Option<u64>,
}

impl Timer {
    /// Something became durable, and nothing behind it in the log says so yet.
    pub(crate) const fn note_durable(&mut self, now: Now) {
        self.idle_at_us = Some(now.mono_us + IDLE_US);
    }
}

impl Shard {
    pub(crate) fn timer_fired(&mut self, now: Now, effects: &mut Effects) {
        self.timer.armed_us = None;
        self.drop_basins(now, effects);
        self.do_due(now, effects);
        self.go_on(now, effects);
        self.write_idle_extent(now, effects);
    }

    /// Stages what fits of what waits.
    pub(crate) fn do_chores(&mut self, now: Now, effects: &mut Effects) {
        while !self.chores.is_empty() && self.make_room(now, CONTROL_BYTES_MAX, effects) {
            match self.chores.pop_front().expect("not empty") {
                Chore::DropBasin(group, basin) => {
                    self.state.groups[group].catalog.begin_drop(basin, self.stage.ticket);
                    self.stage_control(group, ControlOp::DropBasin { basin }, None);
                }
                Chore::PurgeBasin(name) => self.stage_control(0, ControlOp::PurgeBasin { name }, None),
            }
        }
    }

    /// Streams whose deadline has come: at most [`DUE_MAX`] at a time, so that appends are not held up.
    fn do_due(&mut self, now: Now, effects: &mut Effects) {
        let now_s = now_s(now);
        let mut left = DUE_MAX;
        for group in 0..self.state.groups.len() {
            while let Some(id) = self.state.groups[group].catalog.due(now_s) {
                if left == 0 || !self.make_room(now, CONTROL_BYTES_MAX, effects) {
                    return;
                }
                left -= 1;
                self.do_due_stream(now, (group, id));
            }
        }
    }

    fn do_due_stream(&mut self, now: Now, (group, id): crate::shard::append::Place) {
        let stream = self.stream((group, id));
        if self.state.groups[group].catalog.is_dropping(stream.basin) {
            return self.state.groups[group].catalog.set_deadline(id, 0);
        }
        let expired = stream.expired_up_to(now_s(now));
        let is_expired = expired > stream.trim_point;
        match stream.life {
            Life::Creating | Life::DeletingSoon | Life::DeletingUnseen => {
                self.state.groups[group].catalog.set_deadline(id, 0)
            }
            Life::Deleting => {
                self.state.groups[group].catalog.set_deadline(id, 0);
                self.stage_control(group, ControlOp::PurgeStream { id }, None);
            }
            Life::Active if is_expired => {
                // Listed again when the trim is applied.
                self.state.groups[group].catalog.set_deadline(id, 0);
                self.stage_control(group, ControlOp::TrimStream { id, up_to: expired }, None);
            }
            Life::Active if stream.is_empty_too_long(now_s(now)) || Mutation::OldDeadlineKills.is_on() => {
                self.stage_delete(now, (group, id), None)
            }
            Life::Active => {
                let next = stream.next_deadline_s();
                // A clock that stands still, or an append on its way, must not keep us busy.
                let next = if next == 0 { 0 } else { next.max(now_s(now) + 1) };
                self.state.groups[group].catalog.set_deadline(id, next);
            }
        }
    }

    /// Says in the log that the last extent is durable, so that its loss would be seen as damage, not as a torn end.
    fn write_idle_extent(&mut self, now: Now, effects: &mut Effects) {
        if self.timer.idle_at_us.is_none_or(|at| now.mono_us < at) {
            return;
        }
        self.timer.idle_at_us = None;
        if self.writer.is_idle() && !self.writer.end_is_idle() && !Mutation::IdleExtentMissing.is_on() {
            self.stage.must_seal = true;
            self.flush(now, effects);
        }
    }

    /// Sets the timer if it has to ring earlier than it would.
    pub(crate) fn arm_timer(&mut self, now: Now, effects: &mut Effects) {
        let idle_at_us = self.timer.idle_at_us.filter(|_| self.writer.is_idle());
        let deadline_s = self.state.groups.iter().filter_map(|g| g.catalog.first_deadline_s()).min();
        let deadline_s = deadline_s.into_iter().chain(self.state.metadata.next_drop_s()).min();
        let deadline_us = deadline_s.map(|at_s| {
            let wait_ms = (u64::from(at_s) * 1000).saturating_sub(now.wall_ms);
            now.mono_us + wait_ms.clamp(DUE_PAUSE_MS, CLOCK_CHECK_MS) * 1000
        });
        let wanted = [idle_at_us, deadline_us, self.space.retry_at_us()].into_iter().flatten().min();
        let Some(at_us) = wanted else { return };
        // A deadline is rounded, so a timer that rings a little late for it is left alone.
        if self.timer.armed_us.is_none_or(|armed| at_us + SLACK_US < armed) {
            self.timer.armed_us = Some(at_us);
            effects.push(Effect::SetTimer { at_us });
        }
    }
}

/// How long after the last extent an idle one is written.
const IDLE_US: u64 = 10_000;
/// Streams looked at in one go.
const DUE_MAX: usize = 256;
/// Pause between two goes.
const DUE_PAUSE_MS: u64 = 10;
/// The wall clock may jump, so deadlines are looked at this often at least.
const CLOCK_CHECK_MS: u64 = 60_000;
/// Timers this close are as good as the same.
const SLACK_US: u64 = 1_000;
