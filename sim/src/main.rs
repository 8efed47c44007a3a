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
}

fn main() -> ExitCode {
    sim::run_command(&Cli::parse().sim)
}
