//! The simulator alone: the same as `millrace sim`, built without the server.

use std::process::ExitCode;

use clap::Parser;

/// Extents of all sizes come and go with every commit.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Real shards over simulated disks, clocks and clients.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(flatten)]
    sim: sim::SimArgs,
    #[cfg(feature = "mutations")]
    #[command(flatten)]
    mutants: sim::MutantArgs,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    #[cfg(feature = "mutations")]
    if let Some(code) = sim::mutants_command(&sim::MutantArgs { jobs: cli.sim.jobs, ..cli.mutants }, cli.sim.within) {
        return code;
    }
    sim::run_command(&cli.sim)
}
