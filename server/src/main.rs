//! The process `millrace`: serves the S2 API over the engine's shards; stops, measures or verifies a server; looks
//! into a data directory.

mod access;
mod admission;
mod clock;
mod drain;
mod encryption;
mod front;
mod grpc;
mod host;
mod http;
mod init;
mod inspect;
mod meters;
mod metrics;
mod node;
mod openapi;
mod pipe;
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
    /// Asks a running server to stop, and waits until it has
    Drain(drain::DrainArgs),
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
    let command = Cli::parse().command;
    match &command {
        // It goes on serving whoever reads its log, or does not.
        Command::Serve(_) => {}
        Command::Drain(_) | Command::Inspect(_) | Command::Sim(_) | Command::Bench(_) | Command::Verify(_) => {
            pipe::end_quietly_when_closed();
        }
    }
    match command {
        Command::Serve(args) => match args.load() {
            Ok(loaded) => node::serve(&loaded),
            Err(why) => node::refuse(node::EXIT_SETTINGS, &why),
        },
        Command::Drain(args) => drain::drain(&args),
        Command::Inspect(args) => inspect::inspect(&args),
        Command::Bench(args) => benches::run(*args),
        Command::Sim(args) => sim::run_command(&args),
        Command::Verify(args) => verify::verify(args),
    }
}
