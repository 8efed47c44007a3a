//! `millrace sim`: runs seeds, says what happened, and how to see it again.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;

use crate::coverage::{Coverage, Fault};
use crate::history::write_jsonl;
use crate::run::{Outcome, Plan, catch_panics, run};
use crate::trace::Sink;
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
    /// How busy clients are, in percent; fewer requests leave more time for faults
    #[arg(long, value_name = "PERCENT", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub load: u64,
    /// Only these faults, by comma; `none`; or `list` to see their names
    #[arg(long, value_name = "LIST", default_value = "all")]
    pub faults: String,
    /// Write everything that happens to this file (one seed)
    #[arg(long, value_name = "FILE", requires = "seed")]
    pub trace: Option<PathBuf>,
    /// Write the history of one stream as S2's public verification tool reads it (one seed)
    #[arg(long, value_name = "FILE", requires = "seed")]
    pub history: Option<PathBuf>,
    /// Begin no further seed after so many seconds
    #[arg(long, value_name = "SECONDS")]
    pub within: Option<u64>,
    /// Run what the lines of this file say: seed, minutes, faults
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seed", "seeds"])]
    pub list: Option<PathBuf>,
    /// Seeds at a time, each on a thread of its own
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub jobs: usize,
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
    match run_all(args) {
        Ok(code) => code,
        Err(why) => {
            eprintln!("millrace sim: {why}");
            ExitCode::from(EXIT_SETTINGS)
        }
    }
}

fn run_all(args: &SimArgs) -> Result<ExitCode, String> {
    let Some(faults) = faults_of(&args.faults)? else { return Ok(ExitCode::SUCCESS) };
    catch_panics();
    let started = Instant::now();
    let plans: Box<dyn Iterator<Item = Plan> + Send> = match &args.list {
        Some(path) => Box::new(plans_in(path)?.into_iter()),
        None => {
            let seed = args.seed.unwrap_or(1);
            let (from, to) = args.seeds.unwrap_or((seed, seed + 1));
            let (minutes, load_percent) = (args.minutes, args.load);
            Box::new((from..to).map(move |seed| Plan { seed, minutes, faults: faults.clone(), load_percent }))
        }
    };
    let (plans, total) = (Mutex::new(plans), Mutex::new(Total::default()));
    let is_over = AtomicBool::new(false);
    let work = || -> Result<(), String> {
        #[cfg(feature = "mutations")]
        crate::mutants::plant();
        while args.within.is_none_or(|within| started.elapsed() < Duration::from_secs(within)) {
            let next = plans.lock().expect("no plan panics").next();
            let Some(plan) = next.filter(|_| !is_over.load(Ordering::Relaxed)) else { break };
            if !run_one(args, &plan, &total)? {
                is_over.store(true, Ordering::Relaxed);
            }
        }
        Ok(())
    };
    // A run is one thread; several runs are as many.
    let results: Vec<Result<(), String>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..args.jobs.max(1)).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().expect("panics of a run are caught")).collect()
    });
    results.into_iter().collect::<Result<(), String>>()?;
    let total = total.into_inner().expect("no run panics under it");
    total.print(started.elapsed(), args.jobs.max(1));
    let is_short = args.need_coverage && !total.coverage.summary().2.is_empty();
    let has_failed = is_over.into_inner() || is_short;
    Ok(if has_failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Runs one plan; false when it broke a rule, or was not the same twice.
fn run_one(args: &SimArgs, plan: &Plan, total: &Mutex<Total>) -> Result<bool, String> {
    let file_error = |path: &Path, error: io::Error| format!("write {}: {error}", path.display());
    let sink = match &args.trace {
        None => None,
        Some(path) => Some(sink_into(File::create(path).map_err(|error| file_error(path, error))?)),
    };
    let outcome = run(plan, sink);
    total.lock().expect("no run panics under it").add(&outcome);
    if let Some(path) = &args.history {
        export(&outcome, path).map_err(|error| file_error(path, error))?;
    }
    if args.twice {
        let again = run(plan, None);
        if (again.hash, again.entries_count) != (outcome.hash, outcome.entries_count) {
            println!("seed {}: two runs differ: {:016x} and {:016x}", plan.seed, outcome.hash, again.hash);
            return Ok(false);
        }
    }
    if let Some((violation, last)) = &outcome.violation {
        let seconds = outcome.simulated_us / 1_000_000;
        println!("seed {}, after {seconds} simulated seconds: BROKEN RULE\n  {violation}", plan.seed);
        println!("\nlast events (time, node and shard, what, numbers):");
        last.iter().for_each(|entry| println!("  {entry}"));
        let faults = names_of(&plan.faults);
        println!(
            "\nto see it again:\n  millrace sim --seed {} --minutes {} --load {} --faults {faults}\n",
            plan.seed, plan.minutes, plan.load_percent
        );
        return Ok(false);
    }
    if args.seed.is_some() {
        println!("seed {}: trace {:016x} of {} entries", plan.seed, outcome.hash, outcome.entries_count);
    }
    Ok(true)
}

/// The runs of a file: `seed minutes faults what it is for` in each line; `#` begins a comment.
fn plans_in(path: &Path) -> Result<Vec<Plan>, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("read {}: {error}", path.display()))?;
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    let plan_of = |(number, line): (usize, &str)| {
        let mut words = line.split_whitespace();
        let mut number_of = || words.next().and_then(|word| word.parse().ok());
        let (seed, minutes) = (number_of(), number_of());
        match (seed, minutes, words.next().map(faults_of)) {
            (Some(seed), Some(minutes), Some(Ok(Some(faults)))) => {
                Ok(Plan { seed, minutes, faults, load_percent: 100 })
            }
            _ => Err(format!("{}:{number}: not `seed minutes faults`: {line}", path.display())),
        }
    };
    lines.map(plan_of).collect()
}

fn names_of(faults: &[Fault]) -> String {
    match faults {
        [] => "none".to_owned(),
        all if all.len() == Fault::ALL.len() => "all".to_owned(),
        some => some.iter().map(|fault| fault.name()).collect::<Vec<_>>().join(","),
    }
}

fn export(outcome: &Outcome, path: &Path) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    if let Some((_, stream)) = outcome.history.streams().next() {
        write_jsonl(stream, &mut file)?;
    }
    file.flush()
}

fn sink_into(file: File) -> Sink {
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

    fn print(&self, took: Duration, jobs: usize) {
        let hours = self.simulated_us as f64 / 3.6e9;
        let seconds = took.as_secs_f64().max(0.001);
        println!(
            "{} seeds, {hours:.1} simulated hours in {seconds:.1} s on {jobs} threads: {:.2} hours a second, {:.0} times real time each",
            self.seeds,
            hours / seconds,
            hours * 3600.0 / seconds / jobs as f64
        );
        let Counts { operations, acks, events, lives } = self.counts;
        println!("{operations} operations, {acks} appends acknowledged, {events} events, {lives} lives");
        println!("{} faults:", self.coverage.faults_count());
        for (fault, count) in self.coverage.faults() {
            println!("  {count:>10}  {}", fault.name());
        }
        let (reached, all, missed) = self.coverage.summary();
        println!("coverage: {reached} of {all} named points reached");
        // A few seeds cannot reach all, and need not.
        if self.seeds < SEEDS_FOR_ALL {
            return;
        }
        for name in missed.iter().take(MISSED_SHOWN) {
            println!("  not reached: {name}");
        }
        if missed.len() > MISSED_SHOWN {
            println!("  and {} more", missed.len() - MISSED_SHOWN);
        }
    }
}

/// Settings that cannot be used.
const EXIT_SETTINGS: u8 = 2;
/// So many seeds should reach every point.
const SEEDS_FOR_ALL: u64 = 200;
/// Points named when they are missed.
const MISSED_SHOWN: usize = 40;
