//! `millrace bench` without the server around it: for work on the generator itself, and for peers.

use std::process::ExitCode;

use clap::Parser;

#[derive(Debug, Parser)]
#[command(name = "millrace-load", about = "The load generator behind `millrace bench`")]
struct Cli {
    #[command(flatten)]
    bench: benches::BenchArgs,
}

fn main() -> ExitCode {
    benches::run(Cli::parse().bench)
}
