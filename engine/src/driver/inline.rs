//! Runs a shard on its front's own thread: no hop between the connection and the log (docs/adr/0002).
//!
//! The front's runtime polls a [`RunningShard`] like any task: while [`RunningShard::burst`] finds work it is called again;
//! then [`RunningShard::rest`] says until when to sleep. Whatever comes from fronts (this thread's as well), other shards and
//! helpers wakes the task; the ends of device work make [`RunningShard::eventfd`] readable.

use std::fmt::{Debug, Formatter, Result};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::task::Waker;

use model::ShardId;

use super::carry::{Carrier, Machine, Rest};
use super::files::SegmentFiles;
use super::guard::StopOnPanic;
use super::housekeeper::Housekeeper;
use super::node::Room;
use super::report::StartError;
use super::ring::LogRing;
use super::seat::Seat;
use super::threads::HelperThreads;
use super::transfer::Device;

/// How a hosted shard goes on after a burst without work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostedRest {
    /// Something came: call [`RunningShard::burst`] again.
    None,
    /// Until the eventfd is readable, or until this time on the clock of the node, in microseconds.
    Until(Option<u64>),
    /// The node stops: never call again.
    Stop,
}

/// A shard that has recovered and waits for the thread it will run on.
pub struct HostedShard {
    seat: Seat,
    /// Builds what has to be built on that thread.
    build: Box<Build>,
}

type Build = dyn FnOnce() -> std::result::Result<Box<dyn Run>, StartError> + Send;

/// A shard that runs on the thread which began it.
pub struct RunningShard {
    seat: Seat,
    run: Box<dyn Run>,
}

impl Debug for HostedShard {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "HostedShard({})", self.seat.shard.0)
    }
}

impl Debug for RunningShard {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "RunningShard({})", self.seat.shard.0)
    }
}

/// A running shard over whatever device it has.
trait Run {
    fn burst(&mut self) -> bool;
    fn rest(&mut self) -> Rest;
    fn woken(&self);
}

impl<M: Machine, D: Device> Run for Carrier<M, D> {
    fn burst(&mut self) -> bool {
        Self::burst(self)
    }

    fn rest(&mut self) -> Rest {
        Self::rest(self)
    }

    fn woken(&self) {
        Self::woken(self);
    }
}

impl HostedShard {
    pub(super) fn new<M: Machine + Send + 'static>(room: Room, machine: M, has_ring: bool) -> Self {
        let seat = room.seat.clone();
        Self { seat, build: Box::new(move || build(room, machine, has_ring)) }
    }

    pub(super) const fn shard(&self) -> ShardId {
        self.seat.shard
    }

    /// Begins to run, on the thread that calls this.
    ///
    /// # Errors
    /// When its helpers cannot be started.
    pub fn begin(self) -> std::result::Result<RunningShard, StartError> {
        let _guard = StopOnPanic;
        Ok(RunningShard { seat: self.seat, run: (self.build)()? })
    }
}

impl RunningShard {
    /// Takes one burst of work; false when there was nothing to do.
    pub fn burst(&mut self) -> bool {
        let _guard = StopOnPanic;
        self.run.burst()
    }

    /// Called after a burst without work. Unless it returns [`HostedRest::None`], call [`RunningShard::woken`] after the rest.
    /// `task` is woken when something comes, but for the end of device work, which makes the eventfd readable.
    pub fn rest(&mut self, task: &Waker) -> HostedRest {
        let _guard = StopOnPanic;
        self.seat.inbox().doorbell.sleeper(task);
        match self.run.rest() {
            Rest::None => HostedRest::None,
            Rest::Until(at_us) => HostedRest::Until(at_us),
            Rest::Stop => HostedRest::Stop,
        }
    }

    /// The rest is over; `rang` when the eventfd was readable.
    pub fn woken(&mut self, rang: bool) {
        if rang {
            self.seat.inbox().doorbell.clear();
        }
        self.run.woken();
    }

    /// Readable when device work ended during a rest. It does not block.
    #[must_use]
    pub fn eventfd(&self) -> BorrowedFd<'_> {
        self.seat.inbox().doorbell.as_fd()
    }

    /// Microseconds on the clock of [`HostedRest::Until`].
    #[must_use]
    pub fn now_us(&self) -> u64 {
        self.seat.shared.clock.mono_us()
    }
}

fn build<M: Machine + 'static>(
    room: Room,
    machine: M,
    has_ring: bool,
) -> std::result::Result<Box<dyn Run>, StartError> {
    let Room { seat, log, config, direct, cpu: _ } = room;
    let failed = || StartError::io("start the helpers of", log.path());
    let inbox = Arc::clone(seat.inbox());
    let housekeeper =
        Housekeeper::start(log.clone(), config.segment_bytes, direct, Arc::clone(&inbox)).map_err(failed())?;
    let files = SegmentFiles::new(log.clone(), direct);
    let durability = seat.shared.durability;
    if has_ring {
        let ring = LogRing::new(inbox.doorbell.as_fd(), durability).map_err(failed())?;
        return Ok(started(Carrier::new(machine, ring, files, housekeeper, seat)));
    }
    let helpers = HelperThreads::start(inbox, durability).map_err(failed())?;
    Ok(started(Carrier::new(machine, helpers, files, housekeeper, seat)))
}

fn started<M: Machine + 'static, D: Device + 'static>(mut carrier: Carrier<M, D>) -> Box<dyn Run> {
    carrier.write_here_for(LONE_REQUESTS_MAX);
    carrier.start();
    Box::new(carrier)
}

/// A front writes by itself only for a request that came alone: then nobody else waits for the front.
const LONE_REQUESTS_MAX: usize = 1;
