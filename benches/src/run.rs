//! One run: scenario by scenario and repetition by repetition, each with its floors around it, then the report.

use std::fs;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::args::{BenchArgs, Scenario};
use crate::client::{self, admin};
use crate::floor::{self, Floor, FloorKind, Floors};
use crate::machine::Machine;
use crate::process;
use crate::progress::{self, Printer, Progress};
use crate::recorder::Stop;
use crate::report::Report;
use crate::scenario::{Context, Measure};
use crate::settings::Settings;

/// Runs what the arguments ask for and prints the report. Fails when anything failed.
#[must_use]
pub fn run(args: BenchArgs) -> ExitCode {
    match Run::prepare(args) {
        Ok(mut run) => run.go(),
        Err(why) => {
            eprintln!("millrace bench: {why}");
            ExitCode::from(EXIT_USAGE)
        }
    }
}

struct Run {
    settings: Settings,
    machine: Machine,
    /// `None` when they are not wanted.
    floors: Option<Floors>,
    stop: Stop,
    progress: Arc<Progress>,
    report: Report,
    /// Part of every basin's name, so that no two runs share one.
    basin_prefix: String,
}

impl Run {
    fn prepare(args: BenchArgs) -> Result<Self, String> {
        let settings = Settings::resolve(args)?;
        let machine = Machine::describe(settings.floor_dir.as_deref());
        let needs_floors = settings.scenarios.iter().any(|s| s.floor_kind(&settings) != FloorKind::None);
        let floors =
            match &settings.floor_dir {
                Some(dir) if needs_floors => {
                    let floors = Floors::prepare(dir, settings.quick);
                    Some(floors.map_err(|e| {
                        format!("scratch file in {}: {e} (see --floor-dir, --no-floors)", dir.display())
                    })?)
                }
                Some(_) | None => None,
            };
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let stop = Stop::default();
        stop_on_ctrl_c(stop.clone());
        Ok(Self {
            settings,
            machine,
            floors,
            stop,
            progress: Arc::default(),
            report: Report::default(),
            basin_prefix: format!("bench-{seconds:x}-{:x}", std::process::id()),
        })
    }

    fn go(&mut self) -> ExitCode {
        println!("{}\n", self.machine.line());
        let printer = Printer::start(Arc::clone(&self.progress));
        for scenario in self.settings.scenarios.clone() {
            if self.stop.is_set() {
                break;
            }
            let measures = self.scenario(scenario);
            if !measures.is_empty() {
                let text = self.report.add(measures);
                progress::clear_line();
                println!("{text}");
            }
            // After each scenario: whatever happens to the next ones, these figures are kept.
            if let Err(why) = self.write_json() {
                eprintln!("millrace bench: {why}");
                return ExitCode::FAILURE;
            }
        }
        drop(printer);
        progress::clear_line();
        println!("{}", self.report.table());
        match (self.stop.is_set(), self.report.failures()) {
            (true, _) => ExitCode::from(EXIT_INTERRUPTED),
            (false, 0) => ExitCode::SUCCESS,
            (false, failures) => {
                eprintln!("millrace bench: {failures} failures");
                ExitCode::FAILURE
            }
        }
    }

    /// All repetitions of one scenario. A repetition that was interrupted is not a measurement and left out.
    fn scenario(&self, scenario: Scenario) -> Vec<Measure> {
        let mut measures = Vec::new();
        let mut basin: Option<String> = None;
        for repetition in 0..self.settings.repeat {
            if basin.is_none() {
                let name = format!("{}-{}-{repetition}", self.basin_prefix, scenario.name());
                if let Err(error) = self.admin(scenario, async |e| admin::create_basin(e, &name).await) {
                    measures.push(failed(scenario, &format!("creating a basin: {error}")));
                    return measures;
                }
                basin = Some(name);
            }
            let name = basin.clone().expect("created above");
            let label = format!("{} {}/{}", scenario.name(), repetition + 1, self.settings.repeat);
            let of_repetition = self.repetition(scenario, repetition, &name, &label);
            if self.stop.is_set() {
                break;
            }
            measures.extend(of_repetition);
            if !scenario.shares_basin() {
                measures.extend(self.delete(scenario, basin.take()));
            }
        }
        measures.extend(self.delete(scenario, basin));
        measures
    }

    /// One repetition between its two floors.
    fn repetition(&self, scenario: Scenario, repetition: u32, basin: &str, label: &str) -> Vec<Measure> {
        let settings = &self.settings;
        let kind = scenario.floor_kind(settings);
        let before = self.floor(kind, label);
        self.progress.label(label);
        let context = Context {
            settings,
            endpoint: settings.endpoint.clone(),
            basin: basin.to_owned(),
            repetition,
            stop: self.stop.clone(),
            progress: Arc::clone(&self.progress),
        };
        let cpu = CpuMeter::start(settings.server_pid);
        let mut measures = scenario.run(&context);
        cpu.read_into(&mut measures);
        let floor = floor::between(before, self.floor(kind, label));
        for measure in measures.iter_mut().filter(|measure| measure.floor.is_none()) {
            measure.floor.clone_from(&floor);
        }
        measures
    }

    fn floor(&self, kind: FloorKind, label: &str) -> Option<Floor> {
        let floors = self.floors.as_ref()?;
        if self.stop.is_set() {
            return None;
        }
        self.progress.label(format!("{label}: floor"));
        floors.measure(kind).unwrap_or_else(|error| {
            eprintln!("millrace bench: the floor was not measured: {error}");
            None
        })
    }

    fn delete(&self, scenario: Scenario, basin: Option<String>) -> Option<Measure> {
        let name = basin?;
        let deleted = self.admin(scenario, async |e| admin::delete_basin(e, &name).await);
        deleted.err().map(|error| failed(scenario, &format!("deleting the basin {name}: {error}")))
    }

    /// Makes one request that is not measured.
    fn admin(
        &self,
        scenario: Scenario,
        request: impl AsyncFnOnce(&crate::settings::Endpoint) -> client::Result<()>,
    ) -> client::Result<()> {
        if !scenario.needs_server() {
            return Ok(());
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            match tokio::time::timeout(ADMIN_MAX, request(&self.settings.endpoint)).await {
                Ok(done) => done,
                Err(_elapsed) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
            }
        })
    }

    fn write_json(&self) -> Result<(), String> {
        let Some(path) = &self.settings.json else { return Ok(()) };
        let json = self.report.json(&self.settings, &self.machine, self.stop.is_set());
        let text = serde_json::to_string_pretty(&json).map_err(|e| e.to_string())?;
        fs::write(path, text + "\n").map_err(|e| format!("{}: {e}", path.display()))
    }
}

/// CPU that the server uses during one repetition.
struct CpuMeter {
    begin: Instant,
    /// The process and what it had used at the beginning, when it is known.
    server: Option<(u32, Duration)>,
}

impl CpuMeter {
    fn start(server_pid: Option<u32>) -> Self {
        let server = server_pid.and_then(|pid| Some((pid, process::cpu_time(pid)?)));
        Self { begin: Instant::now(), server }
    }

    /// The average over the whole repetition, set-up included; of several measures all get the same.
    fn read_into(&self, measures: &mut [Measure]) {
        let Some((pid, before)) = self.server else { return };
        let Some(after) = process::cpu_time(pid) else { return };
        let cores = after.saturating_sub(before).as_secs_f64() / self.begin.elapsed().as_secs_f64();
        for measure in measures {
            measure.extra.insert("server_cpu_cores".to_owned(), cores);
        }
    }
}

/// A scenario that could not be run at all.
fn failed(scenario: Scenario, why: &str) -> Measure {
    let mut measure = Measure::new(scenario.name(), 0.0, "-");
    measure.failures = 1;
    measure.failure_kinds.insert(why.to_owned(), 1);
    measure
}

/// The first Ctrl-C ends the run in order; the second at once.
fn stop_on_ctrl_c(stop: Stop) {
    thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async {
            while tokio::signal::ctrl_c().await.is_ok() {
                if stop.is_set() {
                    std::process::exit(i32::from(EXIT_INTERRUPTED));
                }
                eprintln!("\nstopping; once more to stop at once");
                stop.set();
            }
        });
    });
}

const EXIT_USAGE: u8 = 2;
/// What a shell calls a process that Ctrl-C ended.
const EXIT_INTERRUPTED: u8 = 130;
const ADMIN_MAX: Duration = Duration::from_secs(30);
