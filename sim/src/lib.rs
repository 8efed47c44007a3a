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
pub use trace::{Entry, Trace};
pub use violation::{Rule, Violation};
pub use world::{Counts, World};
