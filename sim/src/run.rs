//! One seed, lived through; and what came of it.

use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};

use crate::coverage::{Coverage, Fault};
use crate::history::History;
use crate::trace::{Entry, Sink, Trace};
use crate::violation::{Rule, Violation};
use crate::world::{Counts, World};

/// What to run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Everything follows from it.
    pub seed: u64,
    /// Simulated minutes before faults stop.
    pub minutes: u64,
    /// Faults that may happen.
    pub faults: Vec<Fault>,
    /// How busy clients are, in percent of what the seed says.
    pub load_percent: u64,
}

/// What came of a run.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// The broken rule, if any, and what happened last.
    pub violation: Option<(Violation, Vec<Entry>)>,
    /// Over everything that happened and every byte that was written.
    pub hash: u64,
    /// Entries of the trace.
    pub entries_count: u64,
    /// Simulated microseconds.
    pub simulated_us: u64,
    /// Reached.
    pub coverage: Coverage,
    /// Done.
    pub counts: Counts,
    /// What clients of two streams wrote down.
    pub history: History,
}

thread_local! {
    /// What the last panic on this thread said.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Lets panics inside a run be told as broken rules instead of on the terminal. Call once.
pub fn catch_panics() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let is_in_run = PANIC.with(|panic| panic.borrow().is_some());
        if is_in_run {
            PANIC.with(|panic| *panic.borrow_mut() = Some(info.to_string().replace('\n', " ")));
        } else {
            before(info);
        }
    }));
}

/// Runs a plan; `sink` gets every entry of the trace.
#[must_use]
pub fn run(plan: &Plan, sink: Option<Sink>) -> Outcome {
    PANIC.with(|panic| *panic.borrow_mut() = Some("a panic without a message".to_owned()));
    let mut world = World::new(plan, Trace::new(sink));
    let lived = panic::catch_unwind(AssertUnwindSafe(|| world.run()));
    let said = PANIC.with(|panic| panic.borrow_mut().take()).unwrap_or_default();
    let violation = match lived {
        Ok(Ok(())) => None,
        Ok(Err(violation)) => Some(violation),
        Err(_) => Some(Violation { rule: Rule::NoPanic, what: said }),
    };
    Outcome {
        seed: plan.seed,
        violation: violation.map(|violation| (violation, world.trace.last().copied().collect())),
        hash: world.trace.hash(),
        entries_count: world.trace.count(),
        simulated_us: world.simulated_us(),
        coverage: world.coverage.clone(),
        counts: world.counts,
        history: std::mem::take(&mut world.history),
    }
}
