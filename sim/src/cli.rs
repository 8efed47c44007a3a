//! `millrace sim`: runs seeds, says what happened, and how to see it again.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;

use crate::coverage::{Coverage, Fault};
use crate::run::{Outcome, Plan, catch_panics, run};
use crate::trace::Entry;
use crate::world::Counts;

/// Settings of `millrace sim`.
#[derive(Debug, Clone, Args)]
pub struct SimArgs {
    /// The seed to run; the same seed is the same run
    #[arg(long, value_name = "N", conflicts_with = "seeds")]
    pub seed: Option<u64>,
    /// Seeds to run: A..B, B left out
    #[arg(long, value_name = "A..B", value_parser = parse_seeds)]
    pub seeds: Option<(u64, u64)>,
    /// Nodes; one until replication is there
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1))]
    pub nodes: u16,
    /// Simulated minutes of each seed, before its faults stop
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub minutes: u64,
    /// Only these faults, by comma; `none`; or `list` to see their names
    #[arg(long, value_name = "LIST", default_value = "all")]
    pub faults: String,
    /// Write everything that happens to this file (one seed)
    #[arg(long, value_name = "FILE", requires = "seed")]
    pub trace: Option<PathBuf>,
    /// Begin no further seed after so many seconds
    #[arg(long, value_name = "SECONDS")]
    pub within: Option<u64>,
    /// Run each seed twice and compare
    #[arg(long)]
    pub twice: bool,
    /// Fail when a named coverage point is missed
    #[arg(long)]
    pub need_coverage: bool,
}

fn parse_seeds(text: &str) -> Result<(u64, u64), String> {
    let (from, to) = text.split_once("..").ok_or("a range of seeds is written A..B")?;
    let number = |n: &str| n.trim().parse::<u64>().map_err(|e| format!("`{n}` is no seed: {e}"));
    let (from, to) = (number(from)?, number(to)?);
    if from < to { Ok((from, to)) } else { Err("the range is empty".into()) }
}

/// Runs what the settings say.
#[must_use]
pub fn run_command(args: &SimArgs) -> ExitCode {
    let faults = match faults_of(&args.faults) {
        Ok(Some(faults)) => faults,
        Ok(None) => return ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("millrace sim: {why}");
            return ExitCode::from(2);
        }
    };
    catch_panics();
    let (from, to) = args.seeds.unwrap_or_else(|| {
        let seed = args.seed.unwrap_or(1);
        (seed, seed + 1)
    });
    let started = Instant::now();
    let mut total = Total::default();
    for seed in from..to {
        if args.within.is_some_and(|within| started.elapsed() >= Duration::from_secs(within)) {
            break;
        }
        let plan = Plan { seed, minutes: args.minutes, faults: faults.clone() };
        let sink = match args.trace.as_ref().map(|path| (path, File::create(path))) {
            None => None,
            Some((_, Ok(file))) => Some(sink_into(file)),
            Some((path, Err(error))) => {
                eprintln!("millrace sim: create {}: {error}", path.display());
                return ExitCode::from(2);
            }
        };
        let outcome = run(&plan, sink);
        if args.twice {
            let again = run(&plan, None);
            if (again.hash, again.entries_count) != (outcome.hash, outcome.entries_count) {
                println!("seed {seed}: two runs differ: {:016x} and {:016x}", outcome.hash, again.hash);
                return ExitCode::FAILURE;
            }
        }
        total.add(&outcome);
        if let Some((violation, last)) = &outcome.violation {
            total.print(started.elapsed());
            println!(
                "\nseed {seed}, after {} simulated seconds: BROKEN RULE\n  {violation}",
                outcome.simulated_us / 1_000_000
            );
            println!("\nlast events (time, node and shard, what, numbers):");
            last.iter().for_each(|entry| println!("  {entry}"));
            println!(
                "\nto see it again:\n  millrace sim --seed {seed} --minutes {} --faults {}",
                args.minutes, args.faults
            );
            return ExitCode::FAILURE;
        }
        if to - from == 1 {
            println!("seed {seed}: trace {:016x} of {} entries", outcome.hash, outcome.entries_count);
        }
    }
    total.print(started.elapsed());
    if args.need_coverage && !total.coverage.summary().2.is_empty() {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn sink_into(file: File) -> Box<dyn FnMut(&Entry)> {
    let mut file = BufWriter::new(file);
    // A trace that cannot be written is of no use; the run goes on without it and the file is short.
    Box::new(move |entry| drop(writeln!(file, "{entry}")))
}

fn faults_of(list: &str) -> Result<Option<Vec<Fault>>, String> {
    match list {
        "all" => return Ok(Some(Fault::ALL.to_vec())),
        "none" => return Ok(Some(Vec::new())),
        "list" => {
            Fault::ALL.iter().for_each(|fault| println!("{}", fault.name()));
            return Ok(None);
        }
        _ => {}
    }
    let find = |name: &str| {
        let found = Fault::ALL.iter().find(|fault| fault.name() == name.trim()).copied();
        found.ok_or_else(|| format!("there is no fault `{name}`: `--faults list` shows them"))
    };
    list.split(',').map(find).collect::<Result<_, _>>().map(Some)
}

/// What all seeds did together.
#[derive(Debug, Default)]
struct Total {
    seeds: u64,
    simulated_us: u64,
    coverage: Coverage,
    counts: Counts,
}

impl Total {
    fn add(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        self.simulated_us += outcome.simulated_us;
        self.coverage.add(&outcome.coverage);
        let Counts { operations, acks, events, lives } = outcome.counts;
        self.counts.operations += operations;
        self.counts.acks += acks;
        self.counts.events += events;
        self.counts.lives += lives;
    }

    fn print(&self, took: Duration) {
        let hours = self.simulated_us as f64 / 3.6e9;
        let seconds = took.as_secs_f64().max(0.001);
        println!(
            "{} seeds, {hours:.1} simulated hours in {seconds:.1} s: {:.2} hours a second, {:.0} times real time",
            self.seeds,
            hours / seconds,
            hours * 3600.0 / seconds
        );
        let Counts { operations, acks, events, lives } = self.counts;
        println!("{operations} operations, {acks} appends acknowledged, {events} events, {lives} lives");
        println!("{} faults:", self.coverage.faults_count());
        for (fault, count) in self.coverage.faults() {
            println!("  {count:>10}  {}", fault.name());
        }
        let (reached, all, missed) = self.coverage.summary();
        println!("coverage: {reached} of {all} named points reached");
        for name in missed.iter().take(MISSED_SHOWN) {
            println!("  not reached: {name}");
        }
        if missed.len() > MISSED_SHOWN {
            println!("  and {} more", missed.len() - MISSED_SHOWN);
        }
    }
}

/// Points named when they are missed.
const MISSED_SHOWN: usize = 40;
