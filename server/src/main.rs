//! The process `millrace`: serves the S2 API over the engine's shards; measures or verifies a server; looks into a
//! data directory.

mod access;
mod clock;
mod encryption;
mod front;
mod grpc;
mod host;
mod http;
mod inspect;
mod meters;
mod metrics;
mod node;
mod resource;
mod router;
mod settings;
mod size;
mod store;
mod tls;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Extents of all sizes come and go with every commit; the system's allocator asks the kernel for each (docs/performance.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A durable stream store that speaks the S2 API.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the server
    Serve(Box<settings::ServeArgs>),
    /// Shows what a data directory holds
    Inspect(inspect::InspectArgs),
    /// Lets real shards live through simulated crashes, damage and full disks
    Sim(Box<sim::SimArgs>),
    /// Measures a running server beside the floors of its machine
    Bench(Box<benches::BenchArgs>),
    /// Drives a running server with concurrent clients and proves its answers consistent
    Verify(verify::VerifyArgs),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(args) => match args.load() {
            Ok(loaded) => node::serve(&loaded),
            Err(why) => node::refuse(node::EXIT_SETTINGS, &why),
        },
        Command::Inspect(args) => inspect::inspect(&args),
        Command::Bench(args) => benches::run(*args),
        Command::Sim(args) => sim::run_command(&args),
        Command::Verify(args) => verify::verify(args),
    }
}
