//! Carries events to a shard and its effects out: what all drivers do, but for the waiting.
//!
//! A *burst* is everything that is there at one time: the ends of device work, messages, requests. The shard takes it
//! event by event, then hears [`Event::BurstEnd`]; then all effects are carried out in order, and only then are fronts
//! and other shards woken, each once.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::sync::atomic::Ordering;

use model::ShardId;

use super::files::SegmentFiles;
use super::guard::stop_on_device_failure;
use super::housekeeper::{Housekeeper, Job};
use super::mailbox::Answer;
use super::seat::Seat;
use super::transfer::{Completion, Device, ExtentWrite, LogRead};
use crate::event::{Effect, Effects, Event, Now, Op, ReplyTo, ShardMessage};
use crate::log::Lsn;
use crate::shard::{Shard, ShardStats};

/// A state machine that a driver can run. The second one, in the tests, needs no log format to keep a device busy.
pub(super) trait Machine: Debug {
    /// See [`Shard::start`].
    fn start(&mut self, now: Now, effects: &mut Effects);
    /// See [`Shard::step`].
    fn step(&mut self, now: Now, event: Event, effects: &mut Effects);
    /// See [`Shard::is_idle`].
    fn is_idle(&self) -> bool;
    /// See [`Shard::stats`].
    fn stats(&self) -> ShardStats;
}

impl Machine for Shard {
    fn start(&mut self, now: Now, effects: &mut Effects) {
        Self::start(self, now, effects);
    }

    fn step(&mut self, now: Now, event: Event, effects: &mut Effects) {
        Self::step(self, now, event, effects);
    }

    fn is_idle(&self) -> bool {
        Self::is_idle(self)
    }

    fn stats(&self) -> ShardStats {
        Self::stats(self)
    }
}

/// How a driver goes on after a burst without work.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// Something came: no rest.
    None,
    /// Until the doorbell is readable, or until this time on the clock of [`Now::mono_us`].
    Until(Option<u64>),
    /// For good.
    Stop,
}

/// A shard, its device and its place in the node.
#[derive(Debug)]
pub(super) struct Carrier<M, D> {
    machine: M,
    device: D,
    files: SegmentFiles,
    housekeeper: Housekeeper,
    seat: Seat,
    effects: Effects,
    /// Ended work that the machine has not heard of.
    ended: Vec<Completion>,
    /// Writes of this burst.
    writes: Vec<ExtentWrite>,
    /// Follows that were cancelled in this burst, to be confirmed behind its answers.
    cancelled: Vec<(u16, u64)>,
    timer_at_us: Option<u64>,
    /// By target: messages that found its queue full. Few: one per shard for every basin that is being deleted.
    outbox: Vec<VecDeque<ShardMessage>>,
    /// By front, by shard: woken at the end of the burst.
    wake_fronts: Vec<bool>,
    wake_shards: Vec<bool>,
    /// The lane to begin with, so that no front is always first.
    first_lane: usize,
    /// Requests taken since the last write was handed out.
    requests_since_write: usize,
    /// See [`Carrier::writes_here`].
    write_here_requests_max: usize,
    drain_told: bool,
    shown_us: u64,
    told: Told,
}

/// What was last said about work of the housekeeper that failed. It is tried again, by a full log with every write.
#[derive(Debug, Default)]
struct Told {
    reason: String,
    at_us: u64,
}

impl Told {
    /// Whether to say it, since it is something else or long ago.
    fn is_news(&mut self, reason: &str, now_us: u64) -> bool {
        if self.reason == reason && now_us < self.at_us + TELL_US {
            return false;
        }
        (self.reason, self.at_us) = (reason.to_owned(), now_us);
        true
    }
}

impl<M: Machine, D: Device> Carrier<M, D> {
    pub(super) fn new(machine: M, device: D, files: SegmentFiles, housekeeper: Housekeeper, seat: Seat) -> Self {
        let shards_count = seat.shared.inboxes.len();
        let fronts_count = seat.shared.fronts.len();
        Self {
            machine,
            device,
            files,
            housekeeper,
            effects: Effects::default(),
            ended: Vec::new(),
            writes: Vec::new(),
            cancelled: Vec::new(),
            timer_at_us: None,
            outbox: vec![VecDeque::new(); shards_count],
            wake_fronts: vec![false; fronts_count],
            wake_shards: vec![false; shards_count],
            first_lane: 0,
            requests_since_write: 0,
            write_here_requests_max: usize::MAX,
            drain_told: false,
            shown_us: 0,
            told: Told::default(),
            seat,
        }
    }

    /// Makes writes on this thread only for so many requests: a thread that also serves connections does better to go on
    /// with the others.
    pub(super) const fn write_here_for(&mut self, requests_max: usize) {
        self.write_here_requests_max = requests_max;
    }

    /// Lets the machine begin. Once, before the first burst.
    pub(super) fn start(&mut self) {
        let now = self.seat.shared.clock.now();
        self.machine.start(now, &mut self.effects);
        self.carry_out();
        self.show(now.mono_us);
    }

    /// Takes one burst; false when there was nothing.
    pub(super) fn burst(&mut self) -> bool {
        let now = self.seat.shared.clock.now();
        if !self.take(now) {
            return false;
        }
        let now = self.seat.shared.clock.now();
        self.machine.step(now, Event::BurstEnd, &mut self.effects);
        self.carry_out();
        if now.mono_us - self.shown_us >= SHOW_US {
            self.show(now.mono_us);
        }
        true
    }

    /// Called after a burst without work. Unless it returns [`Rest::None`], the next thing that comes rings the doorbell,
    /// and the driver calls [`Carrier::woken`] after its rest.
    pub(super) fn rest(&mut self) -> Rest {
        if self.stopped() {
            return Rest::Stop;
        }
        self.show(self.seat.shared.clock.mono_us());
        self.seat.inbox().doorbell.announce_sleep();
        if self.seat.inbox().has_any(self.drain_told) || self.device.has_ended() || !self.ended.is_empty() {
            self.seat.inbox().doorbell.awake();
            return Rest::None;
        }
        let retry_at_us =
            self.outbox.iter().any(|queue| !queue.is_empty()).then(|| self.seat.shared.clock.mono_us() + RETRY_US);
        Rest::Until([self.timer_at_us, retry_at_us].into_iter().flatten().min())
    }

    /// The driver's rest is over.
    pub(super) fn woken(&self) {
        self.seat.inbox().doorbell.awake();
    }

    /// Whether the thread shall end.
    pub(super) fn stopped(&self) -> bool {
        self.seat.inbox().stop.load(Ordering::Acquire)
    }

    /// Whether something is under way whose end will ring the doorbell.
    pub(super) fn is_waiting_for_device(&self) -> bool {
        self.device.in_flight() > 0
    }

    fn show(&mut self, now_us: u64) {
        self.shown_us = now_us;
        let drained = self.drain_told && self.machine.is_idle() && self.outbox.iter().all(VecDeque::is_empty);
        self.seat.board().show(self.machine.stats(), drained);
    }

    /// Hands the machine everything that is there; false when there was nothing.
    fn take(&mut self, now: Now) -> bool {
        let Self { machine, device, seat, effects, ended, told, .. } = self;
        let inbox = seat.inbox();
        let mut any = false;
        let mut step = |event| {
            any = true;
            machine.step(now, event, effects);
        };
        device.reap(ended);
        for completion in ended.drain(..).chain(std::iter::from_fn(|| inbox.completions.pop())) {
            match completion {
                Completion::Event(event) => {
                    if let Event::SegmentFailed { reason, .. } | Event::CheckpointFailed { reason } = &event
                        && told.is_news(reason, now.mono_us)
                    {
                        tracing::warn!("shard {}: {reason}; it is tried again", seat.shard.0);
                    }
                    step(event);
                }
                Completion::Fatal(reason) => stop_on_device_failure(&reason),
            }
        }
        // No more than one lap: what comes meanwhile is for the next burst.
        for _ in 0..inbox.messages.len() {
            let Some(message) = inbox.messages.pop() else { break };
            step(Event::Shard(message));
        }
        if self.timer_at_us.is_some_and(|at_us| at_us <= now.mono_us) {
            self.timer_at_us = None;
            step(Event::Timer);
        }
        if !self.drain_told && inbox.drain.load(Ordering::Acquire) {
            self.drain_told = true;
            step(Event::Drain);
        }
        any |= self.take_requests(now);
        any |= self.outbox.iter().any(|queue| !queue.is_empty()) && self.retry_outbox();
        any
    }

    fn take_requests(&mut self, mut now: Now) -> bool {
        let Self { machine, seat, effects, cancelled, .. } = self;
        let lanes = &seat.inbox().lanes;
        let mut taken = 0;
        for n in 0..lanes.len() {
            let lane = &lanes[(self.first_lane + n) % lanes.len()];
            for _ in 0..BURST_REQUESTS_MAX / lanes.len() {
                let Some(request) = lane.take() else { break };
                if let Op::CancelFollow(token) = request.op {
                    cancelled.push((request.reply_to.front, token));
                }
                machine.step(now, Event::Request(request), effects);
                taken += 1;
                if taken % CLOCK_STEPS == 0 {
                    now = seat.shared.clock.now();
                }
            }
        }
        self.first_lane = (self.first_lane + 1) % lanes.len().max(1);
        self.requests_since_write += taken;
        taken > 0
    }

    /// Carries out all effects, in order, and wakes whom they concern.
    fn carry_out(&mut self) {
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain() {
            self.carry(effect);
        }
        self.effects = effects;
        for (front, token) in std::mem::take(&mut self.cancelled) {
            self.answer(front, Answer::FollowOver(token));
        }
        let writes_here = self.writes_here();
        if !self.writes.is_empty() {
            self.requests_since_write = 0;
        }
        if writes_here {
            // Whoever was answered need not wait for the device.
            self.wake();
            for write in self.writes.drain(..) {
                self.ended.push(write.perform(self.seat.shared.durability));
            }
        } else {
            for write in self.writes.drain(..) {
                self.device.write(write);
            }
            self.device.submit();
            self.wake();
        }
    }

    /// Whether the writes of this burst are made on this thread instead of by the device.
    ///
    /// A write of its own thread saves two thread switches, and costs that nothing else is done meanwhile. So: one small
    /// write, for few requests, nothing under way, nobody waiting to be heard.
    fn writes_here(&self) -> bool {
        self.writes.len() == 1
            && self.writes[0].bytes.len() <= self.seat.shared.write_here_bytes_max
            && self.requests_since_write <= self.write_here_requests_max
            && self.device.in_flight() == 0
            && !self.seat.inbox().has_requests()
    }

    fn carry(&mut self, effect: Effect) {
        match effect {
            Effect::Reply { to: ReplyTo { front, token }, reply } => self.answer(front, Answer::Reply(token, reply)),
            Effect::Publish(change) => self.seat.shared.basins.apply(change),
            Effect::PublishToken(change) => self.seat.shared.tokens.apply(change),
            Effect::WriteExtent { lsn, segment, offset, bytes } => match self.files.get(segment) {
                Ok(file) => {
                    self.housekeeper.note_written(Lsn(lsn.0 + bytes.len() as u64));
                    self.writes.push(ExtentWrite { lsn, file, offset, bytes });
                }
                Err(error) => stop_on_device_failure(&error.to_string()),
            },
            Effect::ReadLog { id, segment, offset, len } => match self.files.get(segment) {
                Ok(file) => self.device.read(LogRead::new(id, file, offset, len)),
                Err(error) => {
                    let result = Err(error.to_string());
                    self.ended.push(Completion::Event(Event::LogRead { id, result }));
                }
            },
            Effect::PrepareSegment { segment, recycled, header } => {
                if let Some(recycled) = recycled {
                    self.files.forget(recycled);
                }
                self.housekeeper.give(Job::Prepare { segment, recycled, header });
            }
            Effect::Checkpoint(part) => self.housekeeper.give(Job::Checkpoint(part)),
            Effect::SetTimer { at_us } => self.timer_at_us = Some(at_us),
            Effect::SendShard { to, message } => {
                self.outbox[usize::from(to.0)].push_back(message);
                self.send_outbox(to);
            }
        }
    }

    fn answer(&mut self, front: u16, answer: Answer) {
        self.seat.inbox().lanes[usize::from(front)].put(answer);
        self.wake_fronts[usize::from(front)] = true;
    }

    /// Moves messages to their target, as far as it has room; true when some went.
    fn send_outbox(&mut self, to: ShardId) -> bool {
        let queue = &mut self.outbox[usize::from(to.0)];
        let mut sent = false;
        while let Some(message) = queue.pop_front() {
            if let Err(message) = self.seat.shared.inboxes[usize::from(to.0)].messages.push(message) {
                queue.push_front(message);
                break;
            }
            sent = true;
        }
        self.wake_shards[usize::from(to.0)] |= sent;
        sent
    }

    fn retry_outbox(&mut self) -> bool {
        let shards_count = u16::try_from(self.outbox.len()).expect("shards are numbered with 16 bits");
        (0..shards_count).fold(false, |sent, to| self.send_outbox(ShardId(to)) | sent)
    }

    fn wake(&mut self) {
        for (front, wake) in self.seat.shared.fronts.iter().zip(&mut self.wake_fronts) {
            if std::mem::take(wake) {
                front.ring();
            }
        }
        for (inbox, wake) in self.seat.shared.inboxes.iter().zip(&mut self.wake_shards) {
            if std::mem::take(wake) {
                inbox.doorbell.ring();
            }
        }
    }
}

/// Requests of one burst: some hundred microseconds of work, so that ended writes are heard of in time.
const BURST_REQUESTS_MAX: usize = 1024;
/// Requests between two looks at the clock.
const CLOCK_STEPS: usize = 64;
/// How old the shown figures of a busy shard get.
pub(super) const SHOW_US: u64 = 50_000;
/// How often the same failure of the housekeeper is logged.
const TELL_US: u64 = 10_000_000;
/// When to try again to give a shard with a full queue its messages.
const RETRY_US: u64 = 1000;
