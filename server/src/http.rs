//! HTTP on a front: connections, routes and sessions. Everything here belongs to one thread.

pub(crate) mod answer;
pub(crate) mod append;
pub(crate) mod append_session;
pub(crate) mod append_wire;
pub(crate) mod control;
pub(crate) mod cursor;
pub(crate) mod dispatch;
pub(crate) mod in_line;
pub(crate) mod lease;
pub(crate) mod limits;
pub(crate) mod listen;
pub(crate) mod payload;
pub(crate) mod pieces;
pub(crate) mod read;
pub(crate) mod read_session;
pub(crate) mod route;
pub(crate) mod session;
pub(crate) mod tokens;
pub(crate) mod usage;
pub(crate) mod watch;
pub(crate) mod watched_io;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::Notify;

use crate::access::Gate;
use crate::admission::Limits;
use crate::grpc::foreign::Services;
use crate::meters::FrontMeters;
use crate::meters::keeper::Asker;
use crate::metrics::FrontMetrics;
use crate::resource::leases;
use crate::router::Router;
use crate::store::Store;
use limits::Budgets;
use session::Sessions;
use watch::Watch;

/// How far a front is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Everything is served.
    Serving,
    /// New requests are refused; sessions go on and advise their clients to reconnect.
    Draining,
    /// Sessions that are still open are ended, and requests whose body has not come yet.
    Ending,
    /// All that was accepted is answered: the port is closed, then every connection.
    Closing,
}

/// One front: what its connections share.
pub(crate) struct Front {
    /// The shards.
    pub(crate) store: Store,
    /// Basins and placement.
    pub(crate) router: Router,
    /// Access tokens.
    pub(crate) gate: Gate,
    /// Whether `/metrics` is served to everybody.
    pub(crate) open_metrics: bool,
    /// Counters of this front.
    pub(crate) metrics: Arc<FrontMetrics>,
    /// What this front meters.
    pub(crate) meters: FrontMeters,
    /// Its way to ask for what was metered.
    pub(crate) asker: Asker,
    /// The page of `/metrics`, over all fronts.
    pub(crate) scrape: Arc<dyn Fn() -> String + Send + Sync>,
    /// Connections and their clocks.
    pub(crate) watch: Rc<Watch>,
    /// Open sessions.
    pub(crate) sessions: Rc<Sessions>,
    /// What tokens, basins and streams may do.
    pub(crate) limits: Limits,
    /// Memory for bodies and for batches on their way.
    pub(crate) budgets: Budgets,
    /// The one location that there is.
    pub(crate) location: Arc<str>,
    /// Requests that wait for a lease.
    pub(crate) lease_waits: leases::Waits,
    /// gRPC services beside the API.
    pub(crate) services: Services,
    /// Whether CORS headers are sent.
    pub(crate) cors: bool,
    /// How far this front is on its way out.
    pub(crate) phase: Cell<Phase>,
    /// Told at each phase.
    pub(crate) entered: Notify,
}

impl Front {
    /// Moves on to a later phase and tells connections and sessions.
    pub(crate) fn enter(&self, phase: Phase) {
        assert!(phase > self.phase.get(), "a front only ever gets closer to its end");
        self.phase.set(phase);
        self.watch.enter(phase);
        self.sessions.wake_all();
        self.entered.notify_waiters();
    }

    /// What the future comes to, or none when the front reaches `phase` first.
    pub(crate) async fn before<T>(&self, phase: Phase, future: impl Future<Output = T>) -> Option<T> {
        let reached = async {
            while self.phase.get() < phase {
                self.entered.notified().await;
            }
        };
        tokio::select! {
            biased;
            done = future => Some(done),
            () = reached => None,
        }
    }
}
