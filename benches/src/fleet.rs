//! Runs one piece of load on the generator's threads: each has its own single-threaded runtime and its own
//! notebook, so that nothing is shared on the path of an append.

use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::task::LocalSet;

use crate::pace::Pace;
use crate::recorder::{Load, Recorder, Stop, Window};
use crate::scenario::Context;

/// A thread's place among the others.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) index: usize,
    pub(crate) count: usize,
    pub(crate) recorder: Rc<Recorder>,
}

impl Seat {
    /// This seat's part of `total` things, as a range: the parts are disjoint and cover it.
    pub(crate) const fn share(&self, total: usize) -> std::ops::Range<usize> {
        total * self.index / self.count..total * (self.index + 1) / self.count
    }

    /// This seat's part of `rate`, or a closed loop.
    pub(crate) fn pace(&self, rate: Option<f64>) -> std::io::Result<Pace> {
        Pace::start(rate, self.index, self.count)
    }
}

/// What the threads brought back.
#[derive(Debug)]
pub(crate) struct Outcome<T> {
    pub(crate) load: Load,
    /// One per thread that was not given up.
    pub(crate) results: Vec<T>,
    /// Length of the window, or of the work when it knew its own end.
    pub(crate) seconds: f64,
    /// CPU time of the threads, and how long they ran, set-up included.
    pub(crate) cpu: Duration,
    pub(crate) ran: Duration,
}

impl<T> Outcome<T> {
    pub(crate) fn per_second(&self, count: u64) -> f64 {
        if self.seconds > 0.0 { count as f64 / self.seconds } else { 0.0 }
    }

    pub(crate) fn mib_per_second(&self) -> f64 {
        self.per_second(self.load.bytes) / f64::from(1 << 20)
    }
}

/// Runs `work` on `threads` threads within `window` and merges what they saw.
pub(crate) fn run<T, F, Fut>(context: &Context<'_>, window: Window, threads: usize, work: F) -> Outcome<T>
where
    T: Send,
    F: Fn(Seat) -> Fut + Sync,
    Fut: Future<Output = T>,
{
    let threads = threads.max(1);
    let begin = Instant::now();
    let outcomes: Vec<(Load, Option<T>, Duration)> = thread::scope(|scope| {
        let handles: Vec<_> = (0..threads)
            .map(|index| {
                let (work, stop) = (&work, context.stop.clone());
                let progress = context.progress.clone();
                scope.spawn(move || {
                    let recorder = Rc::new(Recorder::new(window, stop.clone(), progress));
                    let seat = Seat { index, count: threads, recorder: Rc::clone(&recorder) };
                    let result = sit(&recorder, &stop, window, work(seat));
                    (recorder.take(), result, cpu_time_of_this_thread())
                })
            })
            .collect();
        handles.into_iter().map(|handle| handle.join().expect("a generator thread does not panic")).collect()
    });
    let end = window.to.map_or_else(Instant::now, |to| to.min(Instant::now()));
    let seconds = end.saturating_duration_since(window.from).as_secs_f64();
    let mut outcome =
        Outcome { load: Load::new(), results: Vec::new(), seconds, cpu: Duration::ZERO, ran: begin.elapsed() };
    for (load, result, cpu) in outcomes {
        outcome.cpu += cpu;
        outcome.load.merge(&load);
        outcome.results.extend(result);
    }
    outcome
}

fn cpu_time_of_this_thread() -> Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(used.tv_sec).unwrap_or(0), u32::try_from(used.tv_nsec).unwrap_or(0))
}

/// One thread's runtime: `work`, until it is done or has to be given up.
fn sit<T>(recorder: &Recorder, stop: &Stop, window: Window, work: impl Future<Output = T>) -> Option<T> {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            recorder.failed(&error);
            return None;
        }
    };
    LocalSet::new().block_on(&runtime, async {
        tokio::select! {
            biased;
            result = work => Some(result),
            why = patience(stop, window) => {
                if let Some(why) = why {
                    recorder.failed(&why);
                }
                None
            }
        }
    })
}

/// Ends when waiting for the work has no more use; with the reason if that is a failure.
async fn patience(stop: &Stop, window: Window) -> Option<&'static str> {
    loop {
        tokio::time::sleep(CHECK_INTERVAL).await;
        if stop.is_set() {
            tokio::time::sleep(INTERRUPT_GRACE).await;
            return None;
        }
        if window.to.is_some_and(|to| Instant::now() >= to + DRAIN_MAX) {
            return Some("an operation was not answered within 15 s after the end of the measurement");
        }
    }
}

const CHECK_INTERVAL: Duration = Duration::from_millis(50);
/// How long an interrupted thread may take to end by itself.
const INTERRUPT_GRACE: Duration = Duration::from_millis(500);
/// How long operations in flight at the end of the window are waited for; then they count as one failure.
const DRAIN_MAX: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_of_all_seats_cover_the_whole_once() {
        for (total, count) in [(10, 3), (1, 4), (64, 2), (0, 1)] {
            let mut next = 0;
            for index in 0..count {
                let recorder = Rc::new(Recorder::for_test(Window::unbounded()));
                let share = Seat { index, count, recorder }.share(total);
                assert_eq!(share.start, next);
                next = share.end;
            }
            assert_eq!(next, total);
        }
    }
}
