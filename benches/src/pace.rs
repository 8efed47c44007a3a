//! The open loop: when each append is due, however long the ones before it take.
//!
//! A latency is measured from the intended send time. Were it measured from the actual one, a server that stalls
//! for a second would be charged for the one append that waited, not for the thousand that should have been sent
//! meanwhile (coordinated omission). Appends that were due but never sent are charged what they waited at least.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::net::unix::pipe::Receiver;
use tokio::sync::Semaphore;

use crate::recorder::Recorder;

/// Due times at a fixed rate: pure arithmetic.
#[derive(Debug, Clone, Copy)]
struct Schedule {
    start: Instant,
    interval: Duration,
}

impl Schedule {
    /// When tick `index` is due.
    fn due_at(&self, index: u64) -> Instant {
        let nanos = u128::from(index) * self.interval.as_nanos();
        self.start + Duration::from_nanos(u64::try_from(nanos).expect("a run is shorter than centuries"))
    }

    /// How many ticks are due at `now`.
    fn due_count(&self, now: Instant) -> u64 {
        match now.checked_duration_since(self.start) {
            Some(since) => u64::try_from(since.as_nanos() / self.interval.as_nanos()).expect("as above") + 1,
            None => 0,
        }
    }
}

/// How the workers of one thread take turns.
#[derive(Debug, Clone)]
pub(crate) enum Pace {
    /// Each sends as soon as its last append is answered.
    Closed,
    /// All share a schedule.
    Open(Rc<OpenLoop>),
}

impl Pace {
    /// The pace of one of `seats` threads that reach `rate` together; closed without a rate. Needs a `LocalSet`.
    pub(crate) fn start(rate: Option<f64>, seat: usize, seats: usize) -> io::Result<Self> {
        match rate {
            None => Ok(Self::Closed),
            Some(rate) => Ok(Self::Open(OpenLoop::start(rate, seat, seats)?)),
        }
    }

    /// Waits for the next turn and returns when it was due; `None` when the recorder's window is over.
    pub(crate) async fn next(&self, recorder: &Recorder) -> Option<Instant> {
        if recorder.is_over() {
            return None;
        }
        match self {
            Self::Closed => Some(Instant::now()),
            Self::Open(open) => open.next(recorder).await,
        }
    }

    /// Charges what was due within the window but never sent. To be called once, when the workers are done.
    pub(crate) fn settle(&self, recorder: &Recorder) {
        let Self::Open(open) = self else { return };
        let end = recorder.end().unwrap_or_else(Instant::now).min(Instant::now());
        for index in open.claimed.get()..open.schedule.due_count(end) {
            recorder.unsent(open.schedule.due_at(index), end);
        }
    }
}

/// A schedule whose ticks are claimed in order and released by a timer.
#[derive(Debug)]
pub(crate) struct OpenLoop {
    schedule: Schedule,
    /// Ticks handed to workers. Invariant: a claimed tick is sent or the window ended before it was due.
    claimed: Cell<u64>,
    /// One permit for each tick that is due and not claimed.
    released: Semaphore,
}

impl OpenLoop {
    fn start(rate: f64, seat: usize, seats: usize) -> io::Result<Rc<Self>> {
        let interval = Duration::from_secs_f64(seats as f64 / rate).max(Duration::from_nanos(1));
        // The seats' ticks interleave instead of coinciding.
        let start = Instant::now() + interval.mul_f64(seat as f64 / seats as f64);
        let open = Rc::new(Self {
            schedule: Schedule { start, interval },
            claimed: Cell::new(0),
            released: Semaphore::new(0),
        });
        let timer = Timer::every(interval)?;
        let releasing = Rc::downgrade(&open);
        tokio::task::spawn_local(async move {
            let mut released = 0;
            while let Some(open) = releasing.upgrade() {
                let due = open.schedule.due_count(Instant::now());
                open.released.add_permits(usize::try_from(due - released).expect("64 bit"));
                released = due;
                drop(open);
                if timer.tick().await.is_err() {
                    return;
                }
            }
        });
        Ok(open)
    }

    async fn next(&self, recorder: &Recorder) -> Option<Instant> {
        let index = self.claimed.get();
        let due_at = self.schedule.due_at(index);
        if recorder.end().is_some_and(|end| due_at >= end) {
            return None;
        }
        self.claimed.set(index + 1);
        self.released.acquire().await.expect("never closed").forget();
        Some(due_at)
    }
}

/// A kernel timer: tokio's own wakes at whole milliseconds, which is longer than an append takes. It is read like a
/// pipe that carries the number of expirations.
struct Timer(Receiver);

impl Timer {
    fn every(interval: Duration) -> io::Result<Self> {
        let fd = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        // More wake-ups would only cost CPU: ticks that fall due between two are released together.
        let interval = interval.max(WAKE_INTERVAL_MIN);
        let spec = Timespec {
            tv_sec: i64::try_from(interval.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(interval.subsec_nanos()),
        };
        timerfd_settime(&fd, TimerfdTimerFlags::empty(), &Itimerspec { it_interval: spec, it_value: spec })?;
        Ok(Self(Receiver::from_file_unchecked(fd.into())?))
    }

    async fn tick(&self) -> io::Result<()> {
        loop {
            self.0.readable().await?;
            match self.0.try_read(&mut [0; 8]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read.map(|_| ()),
            }
        }
    }
}

const WAKE_INTERVAL_MIN: Duration = Duration::from_micros(20);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::Window;

    #[test]
    fn ticks_are_due_at_the_rate_from_the_start() {
        let schedule = Schedule { start: Instant::now(), interval: Duration::from_millis(10) };
        assert_eq!(schedule.due_at(3), schedule.start + Duration::from_millis(30));
        assert_eq!(schedule.due_count(schedule.start - Duration::from_millis(1)), 0);
        assert_eq!(schedule.due_count(schedule.start), 1);
        assert_eq!(schedule.due_count(schedule.start + Duration::from_millis(9)), 1);
        assert_eq!(schedule.due_count(schedule.start + Duration::from_millis(10)), 2);
        for index in [0, 1, 2, 999] {
            assert_eq!(schedule.due_count(schedule.due_at(index)), index + 1, "a tick is due when it is due");
        }
    }

    fn on_a_local_set(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        tokio::task::LocalSet::new().block_on(&runtime, test);
    }

    #[test]
    fn an_append_behind_a_stall_is_measured_from_its_due_time() {
        on_a_local_set(async {
            let recorder = Recorder::for_test(Window::lasting(Duration::ZERO, Duration::from_millis(200)));
            let pace = Pace::start(Some(1000.0), 0, 1).expect("timer");
            let first = pace.next(&recorder).await.expect("the window is open");
            tokio::time::sleep(Duration::from_millis(50)).await;
            let second = pace.next(&recorder).await.expect("the window is open");
            assert_eq!(second - first, Duration::from_millis(1), "the stall does not move the schedule");
            assert!(second.elapsed() >= Duration::from_millis(45));
        });
    }

    #[test]
    fn what_was_due_and_never_sent_is_charged() {
        on_a_local_set(async {
            let recorder = Recorder::for_test(Window::lasting(Duration::ZERO, Duration::from_millis(100)));
            let pace = Pace::start(Some(1000.0), 0, 1).expect("timer");
            assert!(pace.next(&recorder).await.is_some());
            tokio::time::sleep(Duration::from_millis(120)).await;
            assert_eq!(pace.next(&recorder).await, None, "the window is over");
            pace.settle(&recorder);
            let load = recorder.take();
            assert!((95..=101).contains(&load.unsent), "{} of about 99", load.unsent);
            let summary = load.latencies.summary().expect("charged");
            assert!(summary.max_us > 90_000.0, "the first unsent one had waited the whole window");
        });
    }

    #[test]
    fn the_timer_releases_about_as_many_ticks_as_are_due() {
        on_a_local_set(async {
            let recorder = Recorder::for_test(Window::lasting(Duration::ZERO, Duration::from_millis(200)));
            let pace = Pace::start(Some(5000.0), 0, 1).expect("timer");
            let mut sent = 0;
            while pace.next(&recorder).await.is_some() {
                sent += 1;
            }
            assert!((900..=1000).contains(&sent), "{sent} of 1000");
        });
    }
}
