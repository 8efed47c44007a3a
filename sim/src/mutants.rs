//! The test of the simulator itself: each bug of `engine::mutation` is switched on, and some seed must break a rule.
//!
//! A seed counts only if the code without the bug lives through it. So what is told as caught is caught by the bug, and
//! the control run is the same seeds over the same code.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use clap::Args;
use engine::mutation::{Mutation, choose};

use crate::coverage::Fault;
use crate::run::{Outcome, Plan, catch_panics, run};
use crate::violation::Rule;

/// Settings of `millrace-sim` that only the feature `mutations` has.
#[derive(Debug, Clone, Args)]
pub struct MutantArgs {
    /// Switch this planted bug on; `list` shows all
    #[arg(long, value_name = "NAME")]
    pub mutant: Option<String>,
    /// Run seeds against every planted bug until each is caught, and print the table
    #[arg(long, conflicts_with = "mutant")]
    pub mutants: bool,
    /// Like --mutants, but only as many seeds as the table of this file lets expect, times 4: a bug that needs more fails
    #[arg(long, value_name = "FILE", conflicts_with_all = ["mutant", "mutants"])]
    pub mutants_quick: Option<PathBuf>,
    /// Only these planted bugs, by comma
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub only: Vec<String>,
    /// A planted bug that lives through so many seeds is told as missed
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub seeds_max: u64,
    /// Simulated minutes of each seed
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub mutant_minutes: u64,
    /// Give up on a planted bug, as missed, after so many real seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3_600)]
    pub seconds_max: u64,
    /// Planted bugs tried at a time: `--jobs` of the simulator
    #[arg(skip = 1usize)]
    pub jobs: usize,
    /// Put the table between the two markers of this file
    #[arg(long, value_name = "FILE")]
    pub write: Option<PathBuf>,
}

/// Runs what the settings say of planted bugs. `None` when the run that was asked for goes on, maybe with a bug in it.
/// `within` is the time box of the quick run, in seconds: no further bug is tried after it.
#[must_use]
pub fn mutants_command(args: &MutantArgs, within: Option<u64>) -> Option<ExitCode> {
    match (&args.mutant, &args.mutants_quick) {
        (Some(name), _) if name == "list" => {
            Mutation::ALL.iter().for_each(|m| println!("{:28} {}", m.name(), m.bug()));
            Some(ExitCode::SUCCESS)
        }
        (Some(name), _) => match named(name) {
            Some(mutation) => {
                PLANTED.get_or_init(|| mutation);
                None
            }
            None => Some(told(&format!("there is no planted bug `{name}`: `--mutant list` shows them"))),
        },
        (None, Some(file)) => Some(quick(args, file, within)),
        (None, None) if args.mutants => Some(table(args)),
        (None, None) => None,
    }
}

/// The bug that runs of this process have, if one was asked for.
static PLANTED: OnceLock<Mutation> = OnceLock::new();

/// Gives the shards of this thread the bug that was asked for.
pub(crate) fn plant() {
    choose(PLANTED.get().copied());
}

fn told(why: &str) -> ExitCode {
    eprintln!("millrace sim: {why}");
    ExitCode::from(2)
}

fn named(name: &str) -> Option<Mutation> {
    Mutation::ALL.iter().find(|m| m.name() == name).copied()
}

/// How a planted bug was caught.
#[derive(Debug, Clone)]
struct Caught {
    /// Seeds from 1 on, the one that caught it included.
    seeds: u64,
    simulated_us: u64,
    rule: Rule,
    what: String,
}

/// What a bug's runs came to.
#[derive(Debug, Clone)]
enum Verdict {
    Caught(Caught),
    Missed { seeds: u64 },
}

/// Runs seeds, with the memory of which of them the code without a bug does not live through.
#[derive(Debug)]
struct Bench {
    minutes: u64,
    control: Mutex<BTreeMap<u64, Option<String>>>,
}

impl Bench {
    fn new(minutes: u64) -> Self {
        Self { minutes, control: Mutex::new(BTreeMap::new()) }
    }

    fn run(&self, seed: u64, mutation: Option<Mutation>) -> Outcome {
        choose(mutation);
        let outcome = run(&Plan { seed, minutes: self.minutes, faults: Fault::ALL.to_vec(), load_percent: 100 }, None);
        choose(None);
        outcome
    }

    /// What the code without a bug breaks in this seed.
    fn control(&self, seed: u64) -> Option<String> {
        let known = self.control.lock().expect("nothing panics under it").get(&seed).cloned();
        known.unwrap_or_else(|| {
            let broken = self.run(seed, None).violation.map(|(violation, _)| violation.to_string());
            self.control.lock().expect("nothing panics under it").insert(seed, broken.clone());
            broken
        })
    }

    fn hunt(&self, mutation: Mutation, seeds_max: u64, seconds_max: u64) -> Verdict {
        let started = Instant::now();
        let mut simulated_us = 0;
        for seed in 1..=seeds_max {
            if started.elapsed() > Duration::from_secs(seconds_max) {
                return Verdict::Missed { seeds: seed - 1 };
            }
            let outcome = self.run(seed, Some(mutation));
            simulated_us += outcome.simulated_us;
            if let Some((violation, _)) = outcome.violation
                && self.control(seed).is_none()
            {
                let (rule, what) = (violation.rule, violation.what);
                return Verdict::Caught(Caught { seeds: seed, simulated_us, rule, what });
            }
        }
        Verdict::Missed { seeds: seeds_max }
    }
}

/// Hunts bugs on some threads; each result is told as it comes. `seeds_max` says for how long, and whether at all.
fn hunt_all(
    bench: &Bench,
    args: &MutantArgs,
    seeds_max: impl Fn(Mutation) -> Option<u64> + Sync,
) -> Result<Vec<(Mutation, Verdict)>, String> {
    if let Some(unknown) = args.only.iter().find(|name| named(name).is_none()) {
        return Err(format!("there is no planted bug `{unknown}`: `--mutant list` shows them"));
    }
    let wanted = |m: &Mutation| args.only.is_empty() || args.only.iter().any(|name| name == m.name());
    let mutations: Vec<Mutation> = Mutation::ALL.iter().copied().filter(wanted).collect();
    let next = AtomicUsize::new(0);
    let results = Mutex::new(BTreeMap::new());
    catch_panics();
    std::thread::scope(|scope| {
        for _ in 0..args.jobs.max(1) {
            scope.spawn(|| {
                while let Some(mutation) = mutations.get(next.fetch_add(1, Ordering::Relaxed)).copied() {
                    let Some(seeds_max) = seeds_max(mutation) else { continue };
                    let verdict = bench.hunt(mutation, seeds_max, args.seconds_max);
                    match &verdict {
                        Verdict::Caught(Caught { seeds, rule, what, .. }) => {
                            let what: String = what.chars().take(WHAT_SHOWN).collect();
                            println!("{:28} {seeds:>6}  {}: {what}", mutation.name(), rule.name());
                        }
                        Verdict::Missed { seeds } => println!("{:28} {seeds:>6}  MISSED", mutation.name()),
                    }
                    results.lock().expect("nothing panics under it").insert(mutation, verdict);
                }
            });
        }
    });
    Ok(results.into_inner().expect("nothing panics under it").into_iter().collect())
}

fn table(args: &MutantArgs) -> ExitCode {
    let bench = Bench::new(args.mutant_minutes);
    let results = match hunt_all(&bench, args, |_| Some(args.seeds_max)) {
        Ok(results) => results,
        Err(why) => return told(&why),
    };
    let worst = results.iter().map(|(_, verdict)| match verdict {
        Verdict::Caught(caught) => caught.seeds,
        Verdict::Missed { seeds } => *seeds,
    });
    let control_seeds = worst.max().unwrap_or(0);
    let broken: Vec<u64> = (1..=control_seeds).filter(|seed| bench.control(*seed).is_some()).collect();
    let text = markdown(args, &results, control_seeds, &broken);
    println!("\n{text}");
    if let Some(path) = &args.write
        && let Err(why) = write_between_markers(path, &text)
    {
        return told(&why);
    }
    let all_caught = results.iter().all(|(_, verdict)| matches!(verdict, Verdict::Caught(_)));
    if all_caught && broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn markdown(args: &MutantArgs, results: &[(Mutation, Verdict)], control_seeds: u64, broken: &[u64]) -> String {
    let minutes = args.mutant_minutes;
    let mut text =
        String::from("| name | bug | where | seeds | simulated minutes | by the rule |\n|---|---|---|---:|---:|---|\n");
    for (mutation, verdict) in results {
        let _ = write!(text, "| `{}` | {} | `engine/src/{}` | ", mutation.name(), mutation.bug(), mutation.file());
        let _ = match verdict {
            Verdict::Caught(caught) => {
                let Caught { seeds, simulated_us, rule, .. } = caught;
                writeln!(text, "{seeds} | {} | {} |", simulated_us.div_ceil(60_000_000), rule.name())
            }
            Verdict::Missed { seeds } => writeln!(text, "more than {seeds} | | **missed** |"),
        };
    }
    let caught = results.iter().filter(|(_, verdict)| matches!(verdict, Verdict::Caught(_))).count();
    let control = match broken {
        [] => "0 violations".to_owned(),
        seeds => format!("violations in seeds {seeds:?}, which were left out above"),
    };
    let _ = writeln!(
        text,
        "\n{caught} of {} caught. Control: the code without a bug, seeds 1 to {control_seeds} of {minutes} minutes: {control}.",
        results.len()
    );
    text
}

fn write_between_markers(path: &Path, table: &str) -> Result<(), String> {
    let name = path.display();
    let text = std::fs::read_to_string(path).map_err(|e| format!("read {name}: {e}"))?;
    let parts = text.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let (before, after) = parts.ok_or_else(|| format!("{name} has no markers {BEGIN} and {END}"))?;
    std::fs::write(path, format!("{before}{BEGIN}\n{table}{END}{after}")).map_err(|e| format!("write {name}: {e}"))
}

/// Seeds that each bug of a table took.
fn recorded(path: &Path) -> Result<BTreeMap<String, u64>, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("read {}: {e}", path.display()))?;
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, name, _, _, seeds, ..] = cells[..] else { return None };
        Some((name.trim_matches('`').to_owned(), seeds.parse().ok()?))
    };
    Ok(text.lines().filter_map(row).collect())
}

fn quick(args: &MutantArgs, file: &Path, within: Option<u64>) -> ExitCode {
    let recorded = match recorded(file) {
        Ok(recorded) => recorded,
        Err(why) => return told(&why),
    };
    let bench = Bench::new(args.mutant_minutes);
    let started = Instant::now();
    let results = hunt_all(&bench, args, |mutation| {
        let is_in_time = within.is_none_or(|within| started.elapsed() < Duration::from_secs(within));
        // A bug that the table does not have is as bad as one that is missed.
        is_in_time.then(|| recorded.get(mutation.name()).map_or(0, |seeds| (seeds * 4).max(SEEDS_MIN)))
    });
    let results = match results {
        Ok(results) => results,
        Err(why) => return told(&why),
    };
    let caught = results.iter().filter(|(_, verdict)| matches!(verdict, Verdict::Caught(_))).count();
    let wanted = if args.only.is_empty() { Mutation::ALL.len() } else { args.only.len() };
    println!("{} planted bugs were not tried for want of time", wanted - results.len());
    println!("{caught} passed, {} failed", results.len() - caught);
    if caught == results.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

const BEGIN: &str = "<!-- mutants: begin -->";
const END: &str = "<!-- mutants: end -->";
/// Characters of what was seen that are shown.
const WHAT_SHOWN: usize = 140;
/// The quick run gives each bug so many seeds at least: a change of the code shifts what a seed does.
const SEEDS_MIN: u64 = 20;
