//! A line on standard error that shows, while the run goes on, where it is and how fast.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Counters that the generator's threads add to, and what they are about.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    operations: AtomicU64,
    bytes: AtomicU64,
    failures: AtomicU64,
    label: Mutex<String>,
    done: AtomicBool,
}

impl Progress {
    pub(crate) fn add(&self, operations: u64, bytes: u64) {
        self.operations.fetch_add(operations, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn add_failure(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// Names what happens from now on.
    pub(crate) fn label(&self, label: impl Into<String>) {
        *self.label.lock().unwrap_or_else(PoisonError::into_inner) = label.into();
    }
}

/// Prints the progress until dropped.
#[derive(Debug)]
pub(crate) struct Printer {
    progress: Arc<Progress>,
    thread: Option<JoinHandle<()>>,
}

impl Printer {
    pub(crate) fn start(progress: Arc<Progress>) -> Self {
        let shown = Arc::clone(&progress);
        let thread = thread::spawn(move || print_until_done(&shown));
        Self { progress, thread: Some(thread) }
    }
}

impl Drop for Printer {
    fn drop(&mut self) {
        self.progress.done.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A printer that panicked has nothing left to say.
            let _ = thread.join();
        }
    }
}

fn print_until_done(progress: &Progress) {
    let rewrites = std::io::stderr().is_terminal();
    let interval = if rewrites { Duration::from_secs(1) } else { Duration::from_secs(5) };
    let mut last = (Instant::now(), 0, 0);
    loop {
        thread::park_timeout(interval);
        if progress.done.load(Ordering::Relaxed) {
            return;
        }
        let operations = progress.operations.load(Ordering::Relaxed);
        let bytes = progress.bytes.load(Ordering::Relaxed);
        let seconds = last.0.elapsed().as_secs_f64();
        let label = progress.label.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let line = format!(
            "{label}: {:.0} op/s, {:.1} MiB/s, {} failed",
            (operations - last.1) as f64 / seconds,
            (bytes - last.2) as f64 / seconds / f64::from(1 << 20),
            progress.failures.load(Ordering::Relaxed)
        );
        last = (Instant::now(), operations, bytes);
        let mut stderr = std::io::stderr().lock();
        // Nobody may be reading; the figures matter more.
        let _ = if rewrites { write!(stderr, "\r\x1b[K{line}") } else { writeln!(stderr, "{line}") };
        let _ = stderr.flush();
    }
}

/// Clears the progress line, so that what is printed next begins at the margin.
pub(crate) fn clear_line() {
    let mut stderr = std::io::stderr().lock();
    if stderr.is_terminal() {
        let _ = write!(stderr, "\r\x1b[K");
        let _ = stderr.flush();
    }
}
