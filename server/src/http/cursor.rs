//! Where a reading session is: fetches ahead while there is more, follows at the tail, and knows when it is over
//! (s2-wire.md 4.5, 4.6). It yields steps; how they look on the wire is the body's business.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use engine::event::{Follow, Op, Read, ReadBatch, ReadLimits, ReadReply, ReadStart, Reply, Target};
use model::{Failure, Position, ShardId};
use tokio::time::{Instant, Sleep};

use super::limits::{Budget, Reserved};
use crate::store::{Pending, Store, unexpected};

/// Batches in one answer of a shard.
pub(crate) const READ_BATCHES: usize = 4;
/// What is set aside for one answer that may hold that many batches, in bytes.
pub(crate) const READ_BYTES_MAX: usize = READ_BATCHES << 20;
/// Between two heartbeats of an idle session: well below the 20 s after which clients give up, and with
/// [`HEARTBEAT_GAP_US_MIN`] below the 15 s that are promised.
const HEARTBEAT_PERIOD_US: u64 = 13_500_000;
/// A heartbeat comes no sooner than this after something else.
const HEARTBEAT_GAP_US_MIN: u64 = 500_000;
/// Moments within a period at which heartbeats are sent. All sessions of a connection share one moment, so that their
/// heartbeats leave in one write; connections are spread over all, so that a moment is not a burst.
const HEARTBEAT_SLOTS: u64 = 54;

/// How long a read may wait at the tail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Not at all: the tail ends it.
    Never,
    /// This long after it reached the tail or delivered its last batch.
    For(Duration),
    /// For ever.
    Forever,
}

/// What comes next.
#[derive(Debug)]
pub(crate) enum Step {
    /// Records; the tail is known when they were followed.
    Batch(ReadBatch, Option<Position>),
    /// Nothing new: the session is at this tail and alive.
    Heartbeat(Position),
    /// Nothing will follow.
    End,
    /// Nothing will follow, because of this.
    Failed(Failure),
}

/// A read that goes on.
pub(crate) struct Cursor {
    store: Store,
    budget: Rc<Budget>,
    shard: ShardId,
    target: Target,
    limits: ReadLimits,
    wait: Wait,
    state: State,
    /// Where to go on; behind everything in `ready`.
    next_seq_num: u64,
    tail: Position,
    ready: VecDeque<(ReadBatch, Option<Position>, Option<Reserved>)>,
    heartbeat_due: bool,
    /// Fires at or before the next heartbeat or the end of the wait.
    timer: Pin<Box<Sleep>>,
    heartbeat_at: Instant,
    wait_until: Option<Instant>,
    /// Where in the period heartbeats are sent.
    heartbeat_phase_us: u64,
}

enum State {
    /// The next chunk is to be asked for once there is memory for it.
    Catching,
    /// The next chunk is on its way, and has its place in memory.
    Fetching(Pending, Reserved),
    /// The lane was full.
    Refused,
    /// At the tail.
    Following(Pending),
    Over,
}

impl Cursor {
    /// Goes on behind the first answer. `target` carries the incarnation.
    #[must_use]
    pub(crate) fn new(
        store: &Store,
        budget: &Rc<Budget>,
        (shard, target): (ShardId, Target),
        (limits, wait): (ReadLimits, Wait),
        first: (Reserved, ReadReply),
        connection_id: u64,
    ) -> Self {
        let now = Instant::now();
        let (reserved, first) = first;
        let mut cursor = Self {
            store: store.clone(),
            budget: Rc::clone(budget),
            shard,
            target,
            limits,
            wait,
            state: State::Catching,
            next_seq_num: 0,
            tail: Position::ZERO,
            ready: VecDeque::new(),
            heartbeat_due: false,
            timer: Box::pin(tokio::time::sleep_until(now + Duration::from_micros(HEARTBEAT_PERIOD_US))),
            heartbeat_at: now,
            wait_until: None,
            heartbeat_phase_us: connection_id % HEARTBEAT_SLOTS * (HEARTBEAT_PERIOD_US / HEARTBEAT_SLOTS),
        };
        cursor.absorb(first, Some(reserved));
        cursor
    }

    /// Sends a heartbeat at the next chance, if the session is at the tail.
    pub(crate) fn heartbeat_now(&mut self) {
        self.heartbeat_due |= matches!(self.state, State::Following(_));
    }

    /// The tail, if everything before it was read.
    pub(crate) fn reached_tail(&self) -> Option<Position> {
        self.at_tail().then_some(self.tail)
    }

    /// The next step.
    pub(crate) fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        loop {
            if let Some((batch, tail, _reserved)) = self.ready.pop_front() {
                return Poll::Ready(Step::Batch(batch, tail));
            }
            if std::mem::take(&mut self.heartbeat_due) {
                self.set_heartbeat(Instant::now());
                return Poll::Ready(Step::Heartbeat(self.tail));
            }
            match &mut self.state {
                State::Over => return Poll::Ready(Step::End),
                State::Catching => {
                    self.fetch();
                    if matches!(self.state, State::Catching) {
                        self.budget.wait_for_room(cx);
                        return Poll::Pending;
                    }
                }
                State::Refused => {
                    self.go_on();
                    if matches!(self.state, State::Refused) {
                        self.store.wait_for_room(cx);
                        return Poll::Pending;
                    }
                }
                State::Fetching(pending, reserved) => {
                    let Poll::Ready(reply) = Pin::new(pending).poll(cx) else { return Poll::Pending };
                    let reserved = reserved.move_out();
                    if let Some(failure) = self.take(reply, Some(reserved)) {
                        return Poll::Ready(Step::Failed(failure));
                    }
                }
                State::Following(pending) => match Pin::new(pending).poll(cx) {
                    Poll::Pending => {
                        if self.poll_timer(cx).is_pending() {
                            return Poll::Pending;
                        }
                    }
                    Poll::Ready(reply) => {
                        if let Some(failure) = self.take(reply, None) {
                            return Poll::Ready(Step::Failed(failure));
                        }
                    }
                },
            }
        }
    }

    /// Ready when a heartbeat became due or the wait is over.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let due = self.wait_until.map_or(self.heartbeat_at, |until| until.min(self.heartbeat_at));
            // A timer that is early is left alone: it is moved on when it fires, not at every batch.
            if self.timer.deadline() > due {
                self.timer.as_mut().reset(due);
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let now = Instant::now();
            if self.wait_until.is_some_and(|until| until <= now) {
                self.state = State::Over;
                return Poll::Ready(());
            }
            if self.heartbeat_at <= now {
                self.heartbeat_due = true;
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(due);
        }
    }

    fn take(&mut self, reply: Reply, reserved: Option<Reserved>) -> Option<Failure> {
        if let Reply::Failed(failure) = reply {
            self.state = State::Over;
            return Some(failure);
        }
        let Reply::Read(read) = reply else { unexpected("a read", &reply) };
        self.absorb(read, reserved);
        None
    }

    /// Takes in an answer and asks for the next: that is the prefetch. What was followed has no memory set aside, since
    /// it is still in the memory of its shard.
    fn absorb(&mut self, reply: ReadReply, reserved: Option<Reserved>) {
        let is_live = reserved.is_none();
        self.target.incarnation = Some(reply.stream);
        self.next_seq_num = reply.next_seq_num;
        self.tail = reply.tail;
        for batch in &reply.batches {
            for (limit, used) in
                [(&mut self.limits.count, batch.records_count), (&mut self.limits.bytes, batch.metered_bytes)]
            {
                *limit = limit.map(|rest| rest.saturating_sub(used));
            }
        }
        let delivers = !reply.batches.is_empty();
        let bytes: usize = reply.batches.iter().flat_map(|b| &b.runs).map(bytes::Bytes::len).sum();
        let mut reserved = delivers.then(|| reserved.unwrap_or_else(|| self.budget.take(bytes)));
        if let Some(reserved) = &mut reserved {
            reserved.settle(bytes);
        }
        let tail = is_live.then_some(reply.tail);
        let count = reply.batches.len();
        // The last batch out gives the memory back.
        let batches = reply.batches.into_iter().enumerate();
        self.ready.extend(batches.map(|(i, batch)| (batch, tail, if i + 1 == count { reserved.take() } else { None })));
        if reply.done || self.limits.count == Some(0) || self.limits.bytes == Some(0) {
            self.state = State::Over;
            return;
        }
        if self.at_tail() {
            if self.wait == Wait::Never {
                self.state = State::Over;
                return;
            }
            let now = Instant::now();
            self.heartbeat_due = !is_live;
            self.set_heartbeat(now);
            if let (Wait::For(time), true) = (self.wait, delivers || !is_live) {
                self.wait_until = Some(now + time);
            }
        }
        self.go_on();
    }

    const fn at_tail(&self) -> bool {
        self.next_seq_num >= self.tail.seq_num
    }

    fn set_heartbeat(&mut self, now: Instant) {
        self.heartbeat_at =
            now + Duration::from_micros(heartbeat_after_us(self.store.now_us(), self.heartbeat_phase_us));
    }

    /// Asks for what comes next, if the lane has room.
    fn go_on(&mut self) {
        if !self.at_tail() {
            self.fetch();
            return;
        }
        let follow = Follow { target: self.target.clone(), from_seq_num: self.next_seq_num, limits: self.limits };
        self.state = match self.store.submit(self.shard, Op::Follow(follow)) {
            Ok(pending) => State::Following(pending),
            Err(_) => State::Refused,
        };
    }

    fn fetch(&mut self) {
        let Some(reserved) = self.budget.reserve(READ_BYTES_MAX) else {
            self.state = State::Catching;
            return;
        };
        let read = Read {
            target: self.target.clone(),
            create: None,
            start: ReadStart::SeqNum(self.next_seq_num),
            clamp: false,
            may_follow: true,
            limits: self.limits,
        };
        self.state = match self.store.submit(self.shard, Op::Read(read)) {
            Ok(pending) => State::Fetching(pending, reserved),
            Err(_) => State::Refused,
        };
    }
}

/// Microseconds from `now_us` to the next moment of this phase that keeps the gap.
const fn heartbeat_after_us(now_us: u64, phase_us: u64) -> u64 {
    let earliest_us = now_us + HEARTBEAT_GAP_US_MIN;
    let periods = earliest_us.saturating_sub(phase_us).div_ceil(HEARTBEAT_PERIOD_US);
    phase_us + periods * HEARTBEAT_PERIOD_US - now_us
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heartbeats_of_one_phase_fall_together_and_never_come_late() {
        for phase_us in [0, 250_000, 13_250_000] {
            for now_us in (0..60_000_000).step_by(123_457) {
                let after_us = heartbeat_after_us(now_us, phase_us);
                assert_eq!((now_us + after_us) % HEARTBEAT_PERIOD_US, phase_us % HEARTBEAT_PERIOD_US);
                assert!((500_000..=14_000_000).contains(&after_us), "{after_us} after {now_us}");
            }
        }
    }
}
