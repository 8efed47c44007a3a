//! `millrace verify`: drives a running server with concurrent clients through the public API, records what they were told,
//! and holds that against what a linearizable stream could have answered (`sim::history`).
//!
//! The server may be killed and started again meanwhile: clients reconnect, and a request without an answer counts as one
//! of which nobody knows whether it had its effect. Nothing is taken from the server but its answers.

mod answer;
mod client;
mod crew;
mod plan;
mod report;
mod wire;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use benches::Endpoint;
use sim::history::{History, write_jsonl};

use crate::node::{EXIT_SETTINGS, EXIT_SYSTEM, refuse};
use crew::Crew;
use wire::{Access, Wire};

/// The flags of `verify`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct VerifyArgs {
    /// Server to verify; plain `http://` only
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    endpoint: String,
    /// How long clients work, e.g. `60s` or `5m`; a final read follows
    #[arg(long, default_value = "60s", value_parser = benches::parse_duration)]
    duration: Duration,
    /// Concurrent clients, each with one request at a time
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=1024))]
    clients: u64,
    /// Streams they share
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=1024))]
    streams: u64,
    /// An existing basin for the streams; without it a new one is made
    #[arg(long)]
    basin: Option<String>,
    /// Access token, sent as `authorization: Bearer …`
    #[arg(long, env = "S2_ACCESS_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Fixes what clients ask; when and in which order is the machine's own. Without it, one is drawn and printed
    #[arg(long)]
    seed: Option<u64>,
    /// End early after so many operations: the history is held in memory, at a few hundred bytes each
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    operations_max: u64,
    /// Write the history for S2's own checker, s2-porcupine; with several streams, one file each: FILE.<stream>
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    /// Do not delete the streams at the end. After a violation they stay anyway
    #[arg(long)]
    keep: bool,
}

/// Everything a run needs to know.
#[derive(Debug)]
struct Settings {
    access: Rc<Access>,
    /// The basin was made for this run and goes with it.
    owns_basin: bool,
    streams: Vec<String>,
    seed: u64,
    args: VerifyArgs,
}

impl Settings {
    fn resolve(args: VerifyArgs) -> Result<Self, String> {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let run = format!("verify-{:x}-{:x}", since_epoch.as_secs(), std::process::id());
        let token = args.token.clone().filter(|token| !token.is_empty());
        if token.as_ref().is_some_and(|token| !token.bytes().all(|b| b.is_ascii_graphic())) {
            return Err("the access token has characters that no header can carry".to_owned());
        }
        let basin = args.basin.clone().unwrap_or_else(|| run.clone());
        if model::BasinName::try_from(basin.as_str()).is_err() {
            return Err(format!("`{basin}` is not the name of a basin"));
        }
        let seed = args.seed.unwrap_or_else(|| since_epoch.as_secs() ^ u64::from(since_epoch.subsec_nanos()) << 20);
        Ok(Self {
            access: Rc::new(Access { endpoint: Endpoint::parse(&args.endpoint)?, basin, token }),
            owns_basin: args.basin.is_none(),
            streams: (0..args.streams).map(|number| format!("{run}-{number}")).collect(),
            seed,
            args,
        })
    }
}

/// Runs what the arguments ask for and prints the report.
///
/// Exit status: 0 consistent, 1 not, 2 settings that make no sense, 3 the server was never reached, refused the preparations
/// or was gone at the end, 73 the history cannot be written.
#[must_use]
pub(crate) fn verify(args: VerifyArgs) -> ExitCode {
    let settings = match Settings::resolve(args) {
        Ok(settings) => settings,
        Err(why) => return refuse(EXIT_SETTINGS, &why),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return refuse(EXIT_SYSTEM, &format!("cannot start a runtime: {error}")),
    };
    tokio::task::LocalSet::new().block_on(&runtime, run(settings))
}

async fn run(settings: Settings) -> ExitCode {
    let mut wire = Wire::new(Rc::clone(&settings.access));
    if let Err(why) = prepare(&settings, &mut wire).await {
        return refuse(EXIT_SERVER, &format!("cannot prepare {}: {why}", settings.args.endpoint));
    }
    println!(
        "verifying {} for {:?}: {} clients on {} streams of basin {}, seed {}",
        settings.args.endpoint,
        settings.args.duration,
        settings.args.clients,
        settings.streams.len(),
        settings.access.basin,
        settings.seed
    );
    let began = Instant::now();
    let crew = Crew::new(&settings.streams, settings.args.operations_max);
    crew.work(&settings.access, settings.args.clients, settings.seed, settings.args.duration).await;
    let lost = crew.read_everything(&settings.access, settings.args.clients).await;

    let ran = began.elapsed();
    let (history, notes) = crew.finish();
    if let Some(path) = &settings.args.history
        && let Err(error) = write_history(&history, path)
    {
        return refuse(EXIT_SYSTEM, &format!("cannot write {}: {error}", path.display()));
    }
    let verdict = history.check();
    print!("{}", report::report(&history, &notes, &verdict, ran));
    if verdict.is_err() || !notes.breaches.is_empty() {
        println!("the streams stay in basin {}", settings.access.basin);
        return ExitCode::FAILURE;
    }
    if let Err(why) = lost {
        return refuse(EXIT_SERVER, &format!("the final read failed, so this proves less than it should: {why}"));
    }
    if !settings.args.keep {
        clean_up(&settings, &mut wire).await;
    }
    ExitCode::SUCCESS
}

/// Makes the basin and the streams.
async fn prepare(settings: &Settings, wire: &mut Wire) -> Result<(), String> {
    let deadline = Instant::now() + REACH_MAX;
    if settings.owns_basin {
        let body = serde_json::json!({ "basin": settings.access.basin }).to_string();
        // A former attempt may have made it, though its answer was lost.
        control(wire, "POST", "/v1/basins", &body, &[200, 201, 409], deadline).await?;
    }
    for stream in &settings.streams {
        let path = format!("/v1/streams/{stream}");
        control(wire, "PUT", &path, STREAM_CONFIG, &[200, 201], deadline).await?;
    }
    Ok(())
}

async fn clean_up(settings: &Settings, wire: &mut Wire) {
    let deadline = Instant::now() + REACH_MAX;
    for stream in &settings.streams {
        if let Err(why) = control(wire, "DELETE", &format!("/v1/streams/{stream}"), "", &[202, 404], deadline).await {
            eprintln!("millrace verify: stream {stream} stays: {why}");
        }
    }
    if settings.owns_basin {
        let path = format!("/v1/basins/{}", settings.access.basin);
        if let Err(why) = control(wire, "DELETE", &path, "", &[202, 404], deadline).await {
            eprintln!("millrace verify: basin {} stays: {why}", settings.access.basin);
        }
    }
}

/// Repeats a request of the control plane until it is answered with one of these statuses. Refusals that will not change
/// end it early.
async fn control(
    wire: &mut Wire,
    method: &str,
    path: &str,
    body: &str,
    wanted: &[u16],
    deadline: Instant,
) -> Result<(), String> {
    loop {
        let why = match wire.ask(method, path, "application/json", body.as_bytes()).await {
            Ok((status, _)) if wanted.contains(&status) => return Ok(()),
            Ok((status, body)) => {
                let why = format!("{method} {path}: status {status}: {}", String::from_utf8_lossy(&body));
                let is_final = (400..500).contains(&status) && ![408, 409, 429].contains(&status);
                if is_final {
                    return Err(why);
                }
                why
            }
            Err(error) => error.to_string(),
        };
        if Instant::now() >= deadline {
            return Err(why);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn write_history(history: &History, path: &Path) -> std::io::Result<()> {
    let is_alone = history.streams().count() == 1;
    for (stream, history) in history.streams() {
        let mut name = path.as_os_str().to_owned();
        if !is_alone {
            name.push(".");
            name.push(stream);
        }
        let mut file = BufWriter::new(File::create(PathBuf::from(name))?);
        write_jsonl(history, &mut file)?;
        file.flush()?;
    }
    Ok(())
}

/// Records must not go away by age during a run, whatever the basin's default is.
const STREAM_CONFIG: &str = r#"{"retention_policy":{"age":604800}}"#;

/// How long the server may be away before the run and after it.
const REACH_MAX: Duration = Duration::from_secs(10);

/// The server cannot be reached, or does not let us work.
const EXIT_SERVER: u8 = 3;
