//! The queues between fronts and shards, and among shards.
//!
//! Every pair of a front and a shard has one *lane*: a queue of requests and a queue of answers. Promises:
//!
//! * A shard never waits for a front. A front may have at most `outstanding_max` requests open on a lane, and the queue
//!   of answers holds them all ([`FrontPort::send`] refuses beyond that). A follow that is cancelled may or may not have
//!   been answered; the shard confirms the cancellation on the same queue, behind that answer if there was one, and only
//!   this confirmation closes the request. Hence the queue of answers is twice as long as `outstanding_max`.
//! * One wake per burst: [`FrontPort::flush`] wakes the shards that were given something, if they sleep; a shard wakes
//!   the fronts it answered once it has answered everything.
//! * Requests of one front to one shard arrive in the order they were sent, answers in the order they were given.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

use crossbeam_queue::ArrayQueue;
use model::ShardId;

use super::clock::Clock;
use super::doorbell::Doorbell;
use super::transfer::Completion;
use crate::event::{Op, Reply, ReplyTo, Request, ShardMessage};

/// What a shard puts into a lane.
#[derive(Debug)]
pub(super) enum Answer {
    /// An answer to the request with this token.
    Reply(u64, Reply),
    /// The follow with this token is cancelled and will not be answered any more.
    FollowOver(u64),
}

/// The queues of one front and one shard.
#[derive(Debug)]
pub(super) struct Lane {
    /// Full: the request goes back to the caller of [`FrontPort::send`].
    requests: ArrayQueue<Request>,
    /// Never full, see the promises of this module.
    answers: ArrayQueue<Answer>,
}

impl Lane {
    pub(super) fn new(outstanding_max: usize) -> Self {
        assert!(outstanding_max > 0, "a lane that takes nothing");
        Self { requests: ArrayQueue::new(outstanding_max), answers: ArrayQueue::new(2 * outstanding_max) }
    }

    /// Memory of a lane, in bytes.
    pub(super) const fn bytes(outstanding_max: usize) -> usize {
        outstanding_max * (size_of::<Request>() + 2 * size_of::<Answer>() + 3 * size_of::<usize>())
    }

    /// The next request.
    pub(super) fn take(&self) -> Option<Request> {
        self.requests.pop()
    }

    /// Answers the front.
    pub(super) fn put(&self, answer: Answer) {
        assert!(self.answers.push(answer).is_ok(), "a front has no more requests open than its lane holds answers");
    }
}

/// All that comes to one shard from other threads.
#[derive(Debug)]
pub(super) struct Inbox {
    /// Wakes the shard.
    pub(super) doorbell: Doorbell,
    /// One per front.
    pub(super) lanes: Vec<Arc<Lane>>,
    /// From other shards, in order. Full: the sending shard keeps the message and tries again.
    pub(super) messages: ArrayQueue<ShardMessage>,
    /// From the shard's housekeeper. Never full: whoever gives them work counts it.
    pub(super) completions: ArrayQueue<Completion>,
    /// The process wants to stop: the shard is told once.
    pub(super) drain: AtomicBool,
    /// The thread shall end.
    pub(super) stop: AtomicBool,
}

impl Inbox {
    pub(super) fn new(lanes: Vec<Arc<Lane>>) -> std::io::Result<Self> {
        Ok(Self {
            doorbell: Doorbell::new()?,
            lanes,
            messages: ArrayQueue::new(MESSAGES_MAX),
            completions: ArrayQueue::new(COMPLETIONS_MAX),
            drain: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        })
    }

    /// Whether there is anything to take. `drain` counts until the shard was told, which its caller knows.
    pub(super) fn has_any(&self, drain_told: bool) -> bool {
        self.lanes.iter().any(|lane| !lane.requests.is_empty())
            || !self.completions.is_empty()
            || !self.messages.is_empty()
            || self.stop.load(Ordering::Acquire)
            || (!drain_told && self.drain.load(Ordering::Acquire))
    }

    /// Whether a front waits to be heard.
    pub(super) fn has_requests(&self) -> bool {
        self.lanes.iter().any(|lane| !lane.requests.is_empty())
    }

    /// Reports the end of some work, and wakes the shard.
    pub(super) fn complete(&self, completion: Completion) {
        assert!(self.completions.push(completion).is_ok(), "no more work is given out than completions fit");
        self.doorbell.ring();
    }

    /// Sets one of the two flags and wakes the shard.
    pub(super) fn raise(&self, flag: &AtomicBool) {
        flag.store(true, Ordering::Release);
        self.doorbell.ring();
    }
}

/// A front's end of its lanes. Made by `Node`, used by one thread at a time.
///
/// A front that sleeps as a task of a runtime, each time it is polled:
/// ```text
/// if asleep { port.awake_task(); }
/// while port.drain(|token, reply| ...) > 0 {}
/// port.flush();                            // also after any sends of this turn
/// asleep = port.prepare_sleep_of(cx.waker());      // false: poll again
/// ```
/// A front that sleeps as a thread waits on [`FrontPort::eventfd`], between [`FrontPort::prepare_sleep`] and
/// [`FrontPort::awake`].
///
/// Requests may be sent while another task of the same thread waits so: `send` and `flush` do not touch the announcement.
#[derive(Debug)]
pub struct FrontPort {
    front: u16,
    clock: Clock,
    doorbell: Arc<Doorbell>,
    lanes: Vec<PortLane>,
}

/// A lane as its front sees it.
#[derive(Debug)]
struct PortLane {
    lane: Arc<Lane>,
    shard: Arc<Inbox>,
    outstanding_max: usize,
    /// Requests that will be answered. Invariant: `outstanding <= outstanding_max`.
    outstanding: usize,
    /// The follows among them; true once cancelled.
    follows: BTreeMap<u64, bool>,
    /// Ops that are not answered and found the queue full; they go first at the next chance. At most one for every follow
    /// and for every session that the front has.
    deferred: VecDeque<Request>,
    /// Something was queued since the last flush.
    dirty: bool,
}

impl FrontPort {
    pub(super) fn new(
        front: u16,
        clock: Clock,
        doorbell: Arc<Doorbell>,
        shards: &[Arc<Inbox>],
        outstanding_max: usize,
    ) -> Self {
        let lanes = shards
            .iter()
            .map(|shard| PortLane {
                lane: Arc::clone(&shard.lanes[usize::from(front)]),
                shard: Arc::clone(shard),
                outstanding_max,
                outstanding: 0,
                follows: BTreeMap::new(),
                deferred: VecDeque::new(),
                dirty: false,
            })
            .collect();
        Self { front, clock, doorbell, lanes }
    }

    /// Which front this is.
    #[must_use]
    pub const fn front(&self) -> u16 {
        self.front
    }

    /// Queues a request; the shard sees it at the latest after [`FrontPort::flush`]. `token` comes back with the answer
    /// and must not be in use; for ops that are not answered it is ignored. `arrived_us` is on the clock of
    /// [`FrontPort::now_us`].
    ///
    /// # Errors
    /// Gives the op back when too much is open on this lane: nothing has happened, the client may try again later.
    /// Ops that are not answered ([`Op::EndSession`], [`Op::CancelFollow`]) are never refused.
    #[expect(clippy::result_large_err, reason = "the refused op goes back whole, for another try without a copy")]
    pub fn send(&mut self, shard: ShardId, token: u64, arrived_us: u64, op: Op) -> Result<(), Op> {
        let request = Request { reply_to: ReplyTo { front: self.front, token }, arrived_us, op };
        let lane = &mut self.lanes[usize::from(shard.0)];
        match &request.op {
            Op::CancelFollow(follow) => {
                match lane.follows.get_mut(follow) {
                    Some(cancelled) if !*cancelled => *cancelled = true,
                    // Answered already, or cancelled before.
                    Some(_) | None => return Ok(()),
                }
                lane.send_unanswered(request);
                Ok(())
            }
            Op::EndSession(_) => {
                lane.send_unanswered(request);
                Ok(())
            }
            Op::Follow(_) => {
                lane.send_answered(request)?;
                lane.follows.insert(token, false);
                Ok(())
            }
            Op::Append(_)
            | Op::OpenSession { .. }
            | Op::CheckTail { .. }
            | Op::Read(_)
            | Op::CreateStream { .. }
            | Op::EnsureStream { .. }
            | Op::ReconfigureStream { .. }
            | Op::GetStreamConfig { .. }
            | Op::DeleteStream { .. }
            | Op::ListStreams { .. }
            | Op::MeterStorage(_)
            | Op::CreateBasin { .. }
            | Op::EnsureBasin { .. }
            | Op::ReconfigureBasin { .. }
            | Op::DeleteBasin { .. }
            | Op::Lease { .. }
            | Op::IssueToken(_)
            | Op::RevokeToken(_) => lane.send_answered(request),
        }
    }

    /// Wakes the shards that were given something since the last flush, if they sleep. Call it once per turn.
    pub fn flush(&mut self) {
        for lane in &mut self.lanes {
            lane.retry_deferred();
            if std::mem::take(&mut lane.dirty) {
                lane.shard.doorbell.ring();
            }
        }
    }

    /// Takes the answers that are there, at most [`DRAIN_MAX`] per shard so that a front stays responsive; returns how
    /// many there were.
    pub fn drain(&mut self, mut answered: impl FnMut(u64, Reply)) -> usize {
        let mut count = 0;
        for lane in &mut self.lanes {
            for _ in 0..DRAIN_MAX {
                let Some(answer) = lane.lane.answers.pop() else { break };
                count += 1;
                if let Some((token, reply)) = lane.close(answer) {
                    answered(token, reply);
                }
            }
            lane.retry_deferred();
        }
        count
    }

    /// Announces that the front is about to sleep on its eventfd. False: answers are waiting, drain first.
    #[must_use]
    pub fn prepare_sleep(&mut self) -> bool {
        self.flush();
        self.doorbell.announce_sleep();
        let waiting = self.lanes.iter().any(|lane| !lane.lane.answers.is_empty());
        if waiting {
            self.doorbell.awake();
        }
        !waiting
    }

    /// As [`FrontPort::prepare_sleep`], for a front that sleeps as a task: `task` is woken instead of the eventfd, which for
    /// an answer from the same thread costs no system call. Call [`FrontPort::awake_task`] when it runs again.
    #[must_use]
    pub fn prepare_sleep_of(&mut self, task: &Waker) -> bool {
        self.doorbell.sleeper(task);
        self.prepare_sleep()
    }

    /// The task of [`FrontPort::prepare_sleep_of`] runs again. Drain after this.
    pub fn awake_task(&self) {
        self.doorbell.awake();
    }

    /// The front woke up: resets the eventfd. Drain after this.
    pub fn awake(&self) {
        self.doorbell.awake();
        self.doorbell.clear();
    }

    /// Readable when answers came after [`FrontPort::prepare_sleep`]. It does not block.
    #[must_use]
    pub fn eventfd(&self) -> BorrowedFd<'_> {
        self.doorbell.as_fd()
    }

    /// Microseconds on the clock of all arrival times.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        self.clock.mono_us()
    }

    /// Requests that wait for their answer, over all shards.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.lanes.iter().map(|lane| lane.outstanding).sum()
    }
}

impl PortLane {
    #[expect(clippy::result_large_err, reason = "see FrontPort::send")]
    fn send_answered(&mut self, request: Request) -> Result<(), Op> {
        if self.outstanding == self.outstanding_max {
            return Err(request.op);
        }
        self.lane.requests.push(request).map_err(|request| request.op)?;
        self.outstanding += 1;
        self.dirty = true;
        Ok(())
    }

    fn send_unanswered(&mut self, request: Request) {
        self.deferred.push_back(request);
        self.retry_deferred();
    }

    fn retry_deferred(&mut self) {
        while let Some(request) = self.deferred.pop_front() {
            if let Err(request) = self.lane.requests.push(request) {
                self.deferred.push_front(request);
                // The shard has a full queue before it and will answer; that wakes us for another try.
                self.dirty = true;
                return;
            }
            self.dirty = true;
        }
    }

    /// Takes an answer off the books.
    fn close(&mut self, answer: Answer) -> Option<(u64, Reply)> {
        match answer {
            Answer::Reply(token, reply) => {
                // A follow whose cancellation is on its way stays open until that is confirmed.
                let cancelled = self.follows.get(&token) == Some(&true);
                if !cancelled {
                    self.follows.remove(&token);
                    self.outstanding = self.outstanding.checked_sub(1).expect("every request is answered once");
                }
                Some((token, reply))
            }
            Answer::FollowOver(token) => {
                assert_eq!(self.follows.remove(&token), Some(true), "only a cancelled follow is confirmed, once");
                self.outstanding = self.outstanding.checked_sub(1).expect("a follow that is open is counted");
                None
            }
        }
    }
}

/// Answers that a front takes from one shard at a time.
pub const DRAIN_MAX: usize = 1024;
/// Messages between shards that wait at one shard.
const MESSAGES_MAX: usize = 65_536;
/// Work of the housekeeper that ended and that the shard has not seen: as much as it takes.
const COMPLETIONS_MAX: usize = 2048;

#[cfg(test)]
#[path = "mailbox_tests.rs"]
mod tests;
