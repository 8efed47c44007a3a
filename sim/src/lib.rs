//! The simulator: real shards over simulated disks, clocks and clients, out of one seed; and the checker of histories.

mod attempts;
mod cli;
mod coverage;
mod disk;
pub mod history;
#[cfg(feature = "mutations")]
mod mutants;
mod node;
mod payload;
mod rng;
mod run;
mod scratch;
mod swarm;
mod trace;
mod truth;
mod violation;
mod world;

pub use cli::{SimArgs, run_command};
pub use coverage::{Coverage, Fault, Phase, Point};
#[cfg(feature = "mutations")]
pub use mutants::{MutantArgs, mutants_command};
pub use run::{Outcome, Plan, catch_panics, run};
pub use trace::{Entry, Sink, Trace};
pub use violation::{Rule, Violation};
pub use world::{Counts, World};

#[cfg(test)]
mod tests {
    use super::*;

    /// The meta test: without it a seed would mean nothing.
    #[test]
    fn the_same_seed_is_the_same_bytes() {
        for seed in [3, 4] {
            let plan = Plan { seed, minutes: 1, faults: Fault::ALL.to_vec(), load_percent: 100 };
            let (once, again) = (run(&plan, None), run(&plan, None));
            assert!(once.violation.is_none(), "{:?}", once.violation);
            assert!(once.entries_count > 1000, "{}", once.entries_count);
            assert_eq!((once.hash, once.entries_count), (again.hash, again.entries_count));
        }
    }

    #[test]
    fn another_seed_is_another_run() {
        let plan = |seed| Plan { seed, minutes: 1, faults: Vec::new(), load_percent: 100 };
        assert_ne!(run(&plan(5), None).hash, run(&plan(6), None).hash);
    }
}
