//! Runs a shard on a glommio executor, with the log's own io_uring beside the executor's.
//!
//! Requests, ended device work and the housekeeper all come by one eventfd, the doorbell. The executor waits on it and on
//! one timer.
//!
//! The timer is also a watchdog. glommio-ng 0.12 can park although its one task is ready, when its preemption timer fires
//! between a wake and the run of the task (upstream PR 53). A timer that is registered before the park ends that sleep:
//! after [`WATCH_BUSY`] while device work is under way, since someone waits then; else after [`WATCH_IDLE`], which costs
//! an idle core one wake per second (some 0.01 %, reckoned from 0.13 % for ten) and bounds what a request can lose to a race that takes a stall of
//! 100 ms at just the wrong place.

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use ::glommio::io::{PollState, PollableFd};
use ::glommio::timer::Timer;
use ::glommio::{LocalExecutor, LocalExecutorBuilder, Placement};
use rustix::fd::{AsFd, OwnedFd};

use super::carry::{Carrier, Machine, Rest};
use super::device::DurabilityOp;
use super::doorbell::Doorbell;
use super::ring::LogRing;
use super::seat::Seat;

/// An executor for a shard, on the core if one is given.
pub(super) fn executor(cpu: Option<usize>) -> Result<LocalExecutor, String> {
    let placement = cpu.map_or(Placement::Unbound, Placement::Fixed);
    LocalExecutorBuilder::new(placement)
        .name("shard")
        .io_memory(IO_MEMORY_BYTES)
        .ring_depth(RING_DEPTH)
        .make()
        .map_err(|error| error.to_string())
}

/// Tries on a thread of its own whether executor and ring can be made here.
pub(super) fn probe() -> Result<(), String> {
    let attempt = std::thread::spawn(|| {
        let executor = executor(None)?;
        let doorbell = Doorbell::new().map_err(|error| format!("eventfd: {error}"))?;
        LogRing::new(doorbell.as_fd(), DurabilityOp::WriteThenSync).map_err(|error| format!("io_uring: {error}"))?;
        executor.run(async move {
            let fd = doorbell.as_fd().try_clone_to_owned().map_err(|error| format!("eventfd: {error}"))?;
            PollableFd::new(fd).map(drop).map_err(|error| error.to_string())
        })
    });
    attempt.join().unwrap_or_else(|_| Err("glommio panicked when it was tried".to_owned()))
}

/// Runs a started shard until it is told to stop.
pub(super) fn run<M: Machine>(executor: &LocalExecutor, carrier: &mut Carrier<M, LogRing>, seat: &Seat) {
    executor.run(async {
        let fd = seat.inbox().doorbell.as_fd().try_clone_to_owned().expect("there is a descriptor left");
        let fd = PollableFd::new(fd).expect("this runs on an executor");
        let mut state = PollState::new();
        loop {
            while !carrier.stopped() && carrier.burst() {}
            match carrier.rest() {
                Rest::None => {}
                Rest::Stop => return,
                Rest::Until(at_us) => {
                    let left = |at_us: u64| Duration::from_micros(at_us.saturating_sub(seat.shared.clock.mono_us()));
                    let watch = if carrier.is_waiting_for_device() { WATCH_BUSY } else { WATCH_IDLE };
                    if wait(&fd, &mut state, at_us.map_or(watch, left).min(watch)).await {
                        seat.inbox().doorbell.clear();
                    }
                    carrier.woken();
                }
            }
        }
    });
}

/// Waits until the descriptor is readable (true) or the time is over. The descriptor's registration outlives a timeout.
async fn wait(fd: &PollableFd<OwnedFd>, state: &mut PollState, at_most: Duration) -> bool {
    let mut timer = pin!(Timer::new(at_most));
    poll_fn(|context| {
        if let Poll::Ready(polled) = fd.poll_readable(context, state) {
            polled.expect("an eventfd of ours can be polled");
            return Poll::Ready(true);
        }
        timer.as_mut().poll(context).map(|_| false)
    })
    .await
}

/// The executor moves no data of ours: the least that glommio takes, since it locks this much three times per shard.
const IO_MEMORY_BYTES: usize = 64 << 10;
/// One descriptor and one timer are all that the executor's own rings carry.
const RING_DEPTH: usize = 32;
/// See the top of this file.
const WATCH_BUSY: Duration = Duration::from_millis(10);
const WATCH_IDLE: Duration = Duration::from_secs(1);
