//! What one thread of the generator has seen: counted while it happens, merged over the threads at the end.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::progress::Progress;
use crate::stats::Latencies;

/// Set once by Ctrl-C: everybody stops at the next opportunity.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The time that counts. Invariant: `from <= to`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(crate) from: Instant,
    /// `None` when the work itself knows its end.
    pub(crate) to: Option<Instant>,
}

impl Window {
    /// Opens after `warmup` and stays open for `duration`.
    pub(crate) fn lasting(warmup: Duration, duration: Duration) -> Self {
        let from = Instant::now() + warmup;
        Self { from, to: Some(from + duration) }
    }

    /// Open from now on.
    pub(crate) fn unbounded() -> Self {
        Self { from: Instant::now(), to: None }
    }

    fn holds(&self, at: Instant) -> bool {
        at >= self.from && self.to.is_none_or(|to| at < to)
    }
}

/// Failures by their text. Of more than [`FAILURE_KINDS_MAX`] texts the further ones are only counted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Failures {
    pub(crate) count: u64,
    pub(crate) kinds: BTreeMap<String, u64>,
}

impl Failures {
    pub(crate) fn add(&mut self, what: &impl fmt::Display) {
        self.add_many(what.to_string(), 1);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        let known: u64 = other.kinds.values().sum();
        for (kind, count) in &other.kinds {
            self.add_many(kind.clone(), *count);
        }
        self.count += other.count - known;
    }

    fn add_many(&mut self, kind: String, count: u64) {
        self.count += count;
        if let Some(known) = self.kinds.get_mut(&kind) {
            *known += count;
        } else if self.kinds.len() < FAILURE_KINDS_MAX {
            self.kinds.insert(kind, count);
        }
    }
}

/// The sum of what was seen within the window.
#[derive(Debug)]
pub(crate) struct Load {
    /// Of operations begun within the window, whenever they ended.
    pub(crate) latencies: Latencies,
    /// Operations that ended within the window.
    pub(crate) operations: u64,
    /// Records of those operations.
    pub(crate) records: u64,
    /// Body bytes of those records.
    pub(crate) bytes: u64,
    /// Operations that an open loop should have begun within the window but did not.
    pub(crate) unsent: u64,
    /// At any time, within the window or not.
    pub(crate) failures: Failures,
}

impl Load {
    pub(crate) fn new() -> Self {
        Self {
            latencies: Latencies::new(),
            operations: 0,
            records: 0,
            bytes: 0,
            unsent: 0,
            failures: Failures::default(),
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.latencies.merge(&other.latencies);
        self.operations += other.operations;
        self.records += other.records;
        self.bytes += other.bytes;
        self.unsent += other.unsent;
        self.failures.merge(&other.failures);
    }
}

/// Size of one operation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) records: u64,
    pub(crate) bytes: u64,
}

/// One thread's notebook.
#[derive(Debug)]
pub(crate) struct Recorder {
    window: Window,
    stop: Stop,
    progress: Arc<Progress>,
    load: RefCell<Load>,
}

impl Recorder {
    pub(crate) fn new(window: Window, stop: Stop, progress: Arc<Progress>) -> Self {
        Self { window, stop, progress, load: RefCell::new(Load::new()) }
    }

    #[cfg(test)]
    pub(crate) fn for_test(window: Window) -> Self {
        Self::new(window, Stop::default(), Arc::default())
    }

    /// Whether no further operation should begin.
    pub(crate) fn is_over(&self) -> bool {
        self.stop.is_set() || self.window.to.is_some_and(|to| Instant::now() >= to)
    }

    /// When the window closes, if it does by itself.
    pub(crate) const fn end(&self) -> Option<Instant> {
        self.window.to
    }

    /// An operation that was due at `since` has just succeeded.
    pub(crate) fn succeeded(&self, since: Instant, size: Size) {
        let now = Instant::now();
        self.progress.add(1, size.bytes);
        let mut load = self.load.borrow_mut();
        if self.window.holds(since) {
            load.latencies.record(now - since);
        }
        if self.window.holds(now) {
            load.operations += 1;
            load.records += size.records;
            load.bytes += size.bytes;
        }
    }

    /// Something went wrong.
    pub(crate) fn failed(&self, what: &impl fmt::Display) {
        self.progress.add_failure();
        self.load.borrow_mut().failures.add(what);
    }

    /// An operation due at `due_at` was not begun before `end`.
    pub(crate) fn unsent(&self, due_at: Instant, end: Instant) {
        if self.window.holds(due_at) {
            let mut load = self.load.borrow_mut();
            load.unsent += 1;
            load.latencies.record(end.saturating_duration_since(due_at));
        }
    }

    /// The notes so far; the notebook is empty afterwards.
    pub(crate) fn take(&self) -> Load {
        self.load.replace(Load::new())
    }
}

/// Most texts of failures kept.
const FAILURE_KINDS_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { records: 2, bytes: 10 };

    #[test]
    fn latency_counts_by_its_beginning_and_throughput_by_its_end() {
        let now = Instant::now();
        let window = Window { from: now - Duration::from_secs(2), to: Some(now - Duration::from_secs(1)) };
        let recorder = Recorder::for_test(window);
        recorder.succeeded(now - Duration::from_secs(3), SIZE);
        recorder.succeeded(now - Duration::from_millis(1500), SIZE);
        let load = recorder.take();
        assert_eq!(load.operations, 0, "both ended after the window");
        let summary = load.latencies.summary().expect("one began within the window");
        assert_eq!(summary.count, 1);
        assert!(summary.p50_us >= 1_490_000.0);
    }

    #[test]
    fn failures_are_all_counted_but_not_all_kept() {
        let recorder = Recorder::for_test(Window::unbounded());
        for i in 0..100 {
            recorder.failed(&format!("failure {i}"));
            recorder.failed(&"failure 0");
        }
        let mut merged = Load::new();
        merged.merge(&recorder.take());
        assert_eq!(merged.failures.count, 200);
        assert_eq!(merged.failures.kinds.len(), FAILURE_KINDS_MAX);
        assert_eq!(merged.failures.kinds["failure 0"], 101);
    }
}
