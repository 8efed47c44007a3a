//! `millrace serve`, from the settings to the exit status: starts shards and fronts, says what is in force, waits for a
//! signal, drains.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use engine::driver::{Driver, Node, NodeConfig, StartError};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::access::ready::{Made, Ready};
use crate::access::{Gate, root};
use crate::admission;
use crate::front::{self, Seed};
use crate::http::{Phase, listen};
use crate::init::InitFile;
use crate::meters::Keeper;
use crate::metrics::{self, FrontMetrics};
use crate::router::Router;
use crate::settings::{DriverChoice, Loaded, Settings};
use crate::tls::Tls;

/// Exit status when settings make no sense or are unsafe.
pub(crate) const EXIT_SETTINGS: u8 = 2;
/// Exit status when what was durable is damaged or cannot be read.
pub(crate) const EXIT_DAMAGED: u8 = 65;
/// Exit status when the address cannot be listened on.
pub(crate) const EXIT_ADDRESS: u8 = 69;
/// Exit status when a front has lost a vital part. 70 and 71 are the engine's.
pub(crate) const EXIT_FRONT: i32 = 72;
/// Exit status when the data directory, or something else of the system, cannot be used.
pub(crate) const EXIT_SYSTEM: u8 = 73;
/// Exit status when another process has the data directory.
pub(crate) const EXIT_IN_USE: u8 = 75;

/// Sessions get this long to leave by themselves.
const LEAVE_TIME_MAX: Duration = Duration::from_secs(5);
/// Whoever has a connection gets this long to ask once more and hear of the drain, so that nobody who is busy loses it first.
const TELL_TIME: Duration = Duration::from_secs(1);
/// Then they are ended, and get this long to see it.
const END_TIME_MAX: Duration = Duration::from_secs(3);
/// What was accepted gets this long to become durable.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(10);
/// How often a front in drain is looked at.
const LOOK: Duration = Duration::from_millis(10);
/// Requests of one front that may be open at one shard beside its waiting readers.
const REQUESTS_MAX: usize = 4096;

/// Serves until SIGTERM or SIGINT.
#[must_use]
pub(crate) fn serve(loaded: &Loaded) -> ExitCode {
    if loaded.print_config {
        loaded.shown.iter().for_each(|line| println!("{line}"));
        return ExitCode::SUCCESS;
    }
    let settings = &loaded.settings;
    if let Err(why) = settings.check() {
        return refuse(EXIT_SETTINGS, &why);
    }
    if let Err(why) = start_log(settings) {
        return refuse(EXIT_SETTINGS, &why);
    }
    #[cfg(feature = "faults")]
    if let Err(why) = plan_faults() {
        return refuse(EXIT_SETTINGS, &why);
    }
    // Before anything is touched: whoever has a mistake in the file hears of it at once.
    let init = match InitFile::load(&settings.init_file) {
        Ok(init) => init,
        Err(why) => return refuse(EXIT_SETTINGS, &why),
    };
    let (address, listeners) = match listen::bind(settings.listen, settings.fronts) {
        Ok(bound) => bound,
        Err(error) => {
            return refuse(EXIT_ADDRESS, &format!("cannot listen on {}: {error}", settings.listen));
        }
    };
    let config = NodeConfig { accept_data_loss: loaded.accept_data_loss, ..node_config(settings) };
    let node = match Node::start(config) {
        Ok(node) => Arc::new(node),
        Err(error) => return refuse(start_status(&error), &start_text(&error)),
    };
    let tls = match Tls::load(settings) {
        Ok(tls) => tls,
        Err(why) => return refuse(EXIT_SETTINGS, &why),
    };
    if let Some(tls) = &tls
        && let Err(error) = tls.watch_files()
    {
        return refuse(EXIT_SYSTEM, &format!("cannot watch the certificates: {error}"));
    }
    let keeper = match Keeper::start(&settings.data) {
        Ok(keeper) => keeper,
        Err(error) => return refuse(EXIT_SYSTEM, &format!("cannot start the meters' thread: {error}")),
    };
    // Before anybody is answered: who sees the server up may stop it.
    let signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => return refuse(EXIT_SYSTEM, &format!("cannot wait for signals: {error}")),
    };
    let root = settings.root_token.get().map(root::of_settings);
    let gate = Gate::new(node.tokens(), settings.requires_tokens(), root);
    let (ready, prepared) = Ready::of_fronts(listeners.len(), init);
    let doors = Doors { gate: &gate, keeper: &keeper, tls: tls.as_ref() };
    let (phases, fronts) = match start_fronts(settings, &node, &doors, listeners.into_iter().zip(ready)) {
        Ok(started) => started,
        Err(error) => return refuse(EXIT_SYSTEM, &format!("cannot start a front: {error}")),
    };
    let refused = match prepared.recv() {
        Ok(Ok(made)) => {
            print_banner(settings, &node, address, &doors, &made);
            signals.wait().err().map(|error| format!("cannot wait for signals: {error}"))
        }
        Ok(Err(why)) => Some(why),
        Err(_) => Some("front 0 ended before it was ready".to_owned()),
    };
    if let Some(why) = refused {
        let status = refuse(EXIT_SYSTEM, &why);
        if let Some(node) = end(phases, fronts, keeper, node) {
            node.stop();
        }
        return status;
    }
    let clean = drain(&node, &phases);
    match end(phases, fronts, keeper, node) {
        Some(node) if clean => {
            if let Err(error) = node.leave() {
                tracing::warn!("cannot note the clean stop: {error}");
            }
        }
        Some(node) => node.stop(),
        None => {}
    }
    tracing::info!("stopped");
    if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Ends fronts and meters, in this order, and gives the node back: fronts use both, and shards that they host end with them.
fn end(phases: Phases, fronts: Fronts, keeper: Keeper, node: Arc<Node>) -> Option<Node> {
    drop(phases);
    for front in fronts {
        match front.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!("a front ended badly: {error}"),
            Err(_) => tracing::error!("a front panicked"),
        }
    }
    keeper.stop();
    // None when `/metrics` is being made at this moment; it ends with the process.
    Arc::into_inner(node)
}

/// Says why the process does not run.
pub(crate) fn refuse(status: u8, why: &str) -> ExitCode {
    eprintln!("millrace: {why}");
    ExitCode::from(status)
}

fn start_log(settings: &Settings) -> Result<(), String> {
    let filter = tracing_subscriber::EnvFilter::try_new(&settings.log)
        .map_err(|e| format!("the setting `log` is not a filter: {e}"))?;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    Ok(())
}

/// Puts in force what MILLRACE_FAULTS asks for, and says that this is no binary to keep data with.
#[cfg(feature = "faults")]
fn plan_faults() -> Result<(), String> {
    let plan = std::env::var("MILLRACE_FAULTS").unwrap_or_default();
    engine::driver::faults::install(&plan)?;
    eprintln!("millrace: this binary makes faults for tests; the plan is `{plan}`");
    Ok(())
}

fn node_config(settings: &Settings) -> NodeConfig {
    let shards = (settings.shards > 0).then_some(settings.shards);
    let mut config = NodeConfig::new(settings.data.clone());
    config.driver = match settings.driver {
        DriverChoice::Auto => Driver::Auto,
        DriverChoice::Inline => Driver::Inline,
        DriverChoice::Glommio => Driver::Glommio,
        DriverChoice::Threads => Driver::Threads,
    };
    config.shards = shards;
    config.fronts = settings.fronts;
    config.segment_bytes = settings.segment_bytes.0;
    config.log_bytes_max = (settings.log_bytes_max.0 > 0).then_some(settings.log_bytes_max.0);
    config.cache_bytes_max = settings.cache_bytes_max.as_usize();
    config.limits.readers_max = settings.readers_max;
    config.outstanding_max = usize::from(settings.fronts) * (settings.readers_max + REQUESTS_MAX);
    config
}

const fn start_status(error: &StartError) -> u8 {
    match error {
        StartError::Settings(_) | StartError::Driver(_) => EXIT_SETTINGS,
        StartError::InUse { .. } => EXIT_IN_USE,
        StartError::Directory { .. } | StartError::Io { .. } => EXIT_SYSTEM,
        StartError::Recovery { .. } | StartError::Unreadable { .. } => EXIT_DAMAGED,
    }
}

fn start_text(error: &StartError) -> String {
    match error {
        StartError::InUse { .. } => {
            format!(
                "{error}. Only one server may use a directory: stop the other one, or give this one its own with --data"
            )
        }
        StartError::Recovery { .. } => {
            format!("{error}\nmillrace: the server does not start on damaged data, and has changed nothing on the disk")
        }
        StartError::Settings(_)
        | StartError::Driver(_)
        | StartError::Directory { .. }
        | StartError::Io { .. }
        | StartError::Unreadable { .. } => error.to_string(),
    }
}

type Fronts = Vec<JoinHandle<std::io::Result<()>>>;

/// What fronts share beside the node.
struct Doors<'a> {
    gate: &'a Gate,
    keeper: &'a Keeper,
    tls: Option<&'a Tls>,
}

struct Phases {
    sender: watch::Sender<Phase>,
    metrics: Vec<Arc<FrontMetrics>>,
}

fn start_fronts(
    settings: &Settings,
    node: &Arc<Node>,
    doors: &Doors<'_>,
    listeners: impl ExactSizeIterator<Item = (std::net::TcpListener, Ready)>,
) -> std::io::Result<(Phases, Fronts)> {
    let metrics: Vec<Arc<FrontMetrics>> = (0..listeners.len()).map(|_| Arc::default()).collect();
    let (sender, receiver) = watch::channel(Phase::Serving);
    let scrape: Arc<dyn Fn() -> String + Send + Sync> = {
        // Weak, so that a page that is being made does not keep the shards.
        let (node, metrics) = (Arc::downgrade(node), metrics.clone());
        Arc::new(move || {
            let fronts: Vec<&FrontMetrics> = metrics.iter().map(|m| &**m).collect();
            metrics::render(&fronts, &node.upgrade().map(|node| node.stats()).unwrap_or_default())
        })
    };
    let limits = admission::Shared::new([&settings.token_limits, &settings.basin_limits, &settings.stream_limits]);
    let mut fronts = Vec::new();
    for ((index, (listener, ready)), metrics) in (0..).zip(listeners).zip(&metrics) {
        let seed = Seed {
            listener,
            tls: doors.tls.cloned(),
            port: node.front_port(index),
            shards: node.hosted_shards(index),
            router: Router::new(node.basins(), node.placement()),
            gate: doors.gate.clone(),
            ready,
            limits: limits.clone(),
            metrics: Arc::clone(metrics),
            totals: doors.keeper.totals(),
            asker: doors.keeper.asker(),
            scrape: Arc::clone(&scrape),
            phase: receiver.clone(),
        };
        let settings = settings.clone();
        let thread = std::thread::Builder::new().name(format!("front-{index}"));
        fronts.push(thread.spawn(move || front::run(seed, &settings))?);
    }
    Ok((Phases { sender, metrics }, fronts))
}

/// What is in force, for whoever reads stdout. Who does not is no reason to stop: a failed write is let go.
fn print_banner(settings: &Settings, node: &Node, address: std::net::SocketAddr, doors: &Doors<'_>, made: &Made) {
    let mut out = std::io::stdout().lock();
    macro_rules! say {
        ($($what:tt)*) => { writeln!(out, $($what)*).unwrap_or_default() };
    }
    say!("millrace {}", env!("CARGO_PKG_VERSION"));
    say!("{}", node.report());
    say!("fronts: {}, memory for bodies and slow readers at most {} each", settings.fronts, settings.front_bytes_max);
    let scheme = if doors.tls.is_some() { "https" } else { "http" };
    say!("listening on {scheme}://{address}");
    if let (Some(tls), true) = (doors.tls, settings.tls_self) {
        say!("clients must trust {}", tls.cert_path().display());
    }
    let limits = [&settings.token_limits, &settings.basin_limits, &settings.stream_limits];
    for (scope, limits) in admission::SCOPES.into_iter().zip(limits).filter(|(_, limits)| !limits.is_off()) {
        say!("limits of each {}: {limits}", scope.as_str());
    }
    say!("access tokens: {}", if doors.gate.is_required() { "required" } else { "not required" });
    let host =
        if address.ip().is_unspecified() { format!("127.0.0.1:{}", address.port()) } else { address.to_string() };
    say!("export S2_ACCOUNT_ENDPOINT={scheme}://{host}");
    say!("export S2_BASIN_ENDPOINT={scheme}://{host}");
    if let Some(applied) = &made.applied {
        say!("{applied}");
    }
    match &made.root {
        Some(secret) => {
            say!("# The root token, shown this once: keep it. It may do everything and does not expire.");
            say!("export S2_ACCESS_TOKEN={}", secret.reveal());
        }
        None if doors.gate.is_required() => {
            say!("export S2_ACCESS_TOKEN=  # the root token, or one issued with it")
        }
        None => say!("export S2_ACCESS_TOKEN=any"),
    }
}

/// The signals that end the process.
struct Signals {
    runtime: tokio::runtime::Runtime,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on they are kept until somebody waits; before, they end the process without a drain.
    fn listen() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let entered = runtime.enter();
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        drop(entered);
        Ok(Self { runtime, terminate, interrupt })
    }

    /// Returns at the first; from then on another one ends the process at once.
    fn wait(self) -> std::io::Result<()> {
        let Self { runtime, mut terminate, mut interrupt } = self;
        let name = runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            }
        });
        tracing::info!("{name}: draining; a second one stops at once");
        std::thread::Builder::new().name("second-signal".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
            });
            std::process::exit(1);
        })?;
        Ok(())
    }
}

/// Lets sessions leave, ends those that stay, then waits until all that was accepted is durable.
fn drain(node: &Node, phases: &Phases) -> bool {
    let is_any = |gauge: fn(&FrontMetrics) -> u64| phases.metrics.iter().any(|m| gauge(m) > 0);
    let steps = [(Phase::Draining, TELL_TIME, LEAVE_TIME_MAX), (Phase::Ending, Duration::ZERO, END_TIME_MAX)];
    for (phase, tell_time, time_max) in steps {
        phases.sender.send_replace(phase);
        let begun = Instant::now();
        // A front takes a moment to hear of it; what it had open by then counts.
        std::thread::sleep(LOOK);
        while (is_any(|m| m.requests_open.get()) && begun.elapsed() < time_max)
            || (is_any(|m| m.connections.get()) && begun.elapsed() < tell_time)
        {
            std::thread::sleep(LOOK);
        }
    }
    let clean = node.drain(DRAIN_TIME_MAX);
    if !clean {
        tracing::warn!("not everything that was accepted became durable within {} s", DRAIN_TIME_MAX.as_secs());
    }
    phases.sender.send_replace(Phase::Closing);
    clean
}
