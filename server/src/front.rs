//! A front's thread: one runtime, one port to the shards, one listener, and nothing that another thread touches.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use engine::driver::{FrontPort, HostedShard};
use tokio::net::TcpListener;
use tokio::runtime::LocalOptions;
use tokio::sync::watch;

use crate::access::Gate;
use crate::access::ready::Ready;
use crate::admission::{self, Limits};
use crate::clock::now_ms;
use crate::grpc::foreign::Services;
use crate::host;
use crate::http::limits::Budgets;
use crate::http::listen::Door;
use crate::http::session::Sessions;
use crate::http::watch::Watch;
use crate::http::{Front, Phase};
use crate::meters::FrontMeters;
use crate::meters::keeper::{Asker, Totals};
use crate::meters::storage;
use crate::metrics::FrontMetrics;
use crate::node::EXIT_FRONT;
use crate::router::Router;
use crate::settings::Settings;
use crate::store::Store;
use crate::tls::Tls;

/// What a front is made of; moves to its thread.
pub(crate) struct Seed {
    /// Its listener.
    pub(crate) listener: std::net::TcpListener,
    /// TLS, unless the port is in clear text.
    pub(crate) tls: Option<Tls>,
    /// The shards that run on its thread.
    pub(crate) shards: Vec<HostedShard>,
    /// Its way to the shards.
    pub(crate) port: FrontPort,
    /// Basins and placement.
    pub(crate) router: Router,
    /// Who is let in.
    pub(crate) gate: Gate,
    /// Told to all fronts when the first may let somebody in.
    pub(crate) ready: Ready,
    /// The limits that the settings give, for all fronts.
    pub(crate) limits: Option<Arc<admission::Shared>>,
    /// Its counters.
    pub(crate) metrics: Arc<FrontMetrics>,
    /// Where it puts what it meters.
    pub(crate) totals: Arc<Totals>,
    /// Its way to ask for what was metered.
    pub(crate) asker: Asker,
    /// The page of `/metrics`.
    pub(crate) scrape: Arc<dyn Fn() -> String + Send + Sync>,
    /// How far the process is on its way out. The front ends when the sender is gone.
    pub(crate) phase: watch::Receiver<Phase>,
}

/// Runs a front until the process ends it.
///
/// # Errors
/// When the runtime cannot be made or the listener cannot be watched.
pub(crate) fn run(seed: Seed, settings: &Settings) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    runtime.block_on(serve(seed, settings))
}

async fn serve(seed: Seed, settings: &Settings) -> std::io::Result<()> {
    let Seed { listener, tls, shards, port, router, gate, ready, limits, metrics, totals, asker, scrape, mut phase } =
        seed;
    for shard in shards {
        let running = shard.begin().map_err(|error| std::io::Error::other(error.to_string()))?;
        vital("shard", host::run(running));
    }
    let listener = TcpListener::from_std(listener)?;
    let (is_first, stored) = (ready.is_first(), Arc::clone(&totals));
    let front = Rc::new(Front {
        store: Store::new(port),
        router,
        open_metrics: settings.opens_metrics(),
        gate,
        meters: FrontMeters::new(totals),
        asker,
        scrape,
        watch: Rc::new(Watch::new(Arc::clone(&metrics))),
        sessions: Rc::new(Sessions::new(settings.sessions_max, Arc::clone(&metrics))),
        limits: Limits::new(limits, Arc::clone(&metrics)),
        budgets: Budgets::new(settings.front_bytes_max.as_usize(), &metrics),
        lease_waits: crate::resource::leases::Waits::default(),
        services: Services::new().await.map_err(std::io::Error::other)?,
        cors: !settings.no_cors,
        location: settings.location.as_str().into(),
        phase: std::cell::Cell::new(Phase::Serving),
        entered: tokio::sync::Notify::new(),
        metrics,
    });
    let store = front.store.clone();
    vital("pump", async move { store.pump().await });
    let sweeping = Rc::clone(&front);
    vital("sweep", async move {
        let sessions = Rc::clone(&sweeping.sessions);
        let watch = Rc::clone(&sweeping.watch);
        let metering = Rc::clone(&sweeping);
        let every_second = move |now: u32| {
            metering.meters.tick(now);
            sessions.wake_expired(now_ms());
            if now.is_multiple_of(SESSIONS_SWEEP_SECS) {
                sessions.sweep(&watch, now);
            }
        };
        sweeping.watch.sweep(every_second).await;
    });
    watch_tokens(&front);
    if !ready.pass(&front.store, &front.gate, &front.router).await {
        return Ok(());
    }
    if is_first {
        let (store, router) = (front.store.clone(), front.router.clone());
        vital("storage meter", storage::record_hours(store, router, stored));
    }
    let (closed, port_closed) = tokio::sync::oneshot::channel();
    let door = Door::new(&front, tls, settings.connections_max);
    vital("accept", async move {
        door.accept(listener).await;
        let _ = closed.send(());
        std::future::pending().await
    });
    while phase.changed().await.is_ok() {
        let next = *phase.borrow_and_update();
        if next > front.phase.get() {
            front.enter(next);
            front.services.drain().await;
        }
    }
    if front.phase.get() == Phase::Closing {
        let left = async {
            // The sender is kept by a task that never ends.
            let _ = port_closed.await;
            front.watch.emptied().await;
        };
        if tokio::time::timeout(CLOSE_TIME_MAX, left).await.is_err() {
            tracing::info!(
                connections = front.watch.len(),
                "the last clients did not take their leave: they are cut off"
            );
        }
    }
    front.meters.hand_over();
    Ok(())
}

/// Wakes the sessions when a token has gone, so that its own end.
fn watch_tokens(front: &Rc<Front>) {
    let gone = Arc::new(tokio::sync::Notify::new());
    let sessions = Rc::clone(&front.sessions);
    front.gate.tokens().subscribe({
        let gone = Arc::clone(&gone);
        move || gone.notify_one()
    });
    vital("token watch", async move {
        loop {
            gone.notified().await;
            sessions.wake_all();
        }
    });
}

/// Spawns what a front cannot be without: its end, or a panic in it, ends the process.
fn vital(name: &'static str, future: impl Future<Output = ()> + 'static) {
    tokio::task::spawn_local(async move {
        let mut future = pin!(future);
        std::future::poll_fn(|cx| {
            catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))).unwrap_or(std::task::Poll::Ready(()))
        })
        .await;
        tracing::error!("a front has lost its {name}: the process stops");
        std::process::exit(EXIT_FRONT);
    });
}

/// Connections get this long to end once the port is closed; then they are cut off.
const CLOSE_TIME_MAX: Duration = Duration::from_millis(1500);
/// How often sessions are looked at for clients that take nothing, in seconds.
const SESSIONS_SWEEP_SECS: u32 = 5;
