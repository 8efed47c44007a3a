//! The figures: what each scenario does, what it compares itself with, and what comes out of it.

mod catch_up;
mod idle_tails;
mod many_streams;
mod null;
mod open_sessions;
mod sessions;
mod tail_fanout;
mod tail_latency;
mod unary;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::args::Scenario;
use crate::fleet::Outcome;
use crate::floor::{Floor, FloorKind};
use crate::progress::Progress;
use crate::recorder::{Failures, Stop};
use crate::settings::{Endpoint, Settings};
use crate::stats::LatencySummary;

/// Everything a repetition needs.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) endpoint: Endpoint,
    /// A basin that nobody else uses.
    pub(crate) basin: String,
    /// From 0.
    pub(crate) repetition: u32,
    pub(crate) stop: Stop,
    pub(crate) progress: Arc<Progress>,
}

/// One figure of one repetition.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Measure {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    pub(crate) floor: Option<Floor>,
    pub(crate) latency: Option<LatencySummary>,
    pub(crate) failures: u64,
    pub(crate) failure_kinds: BTreeMap<String, u64>,
    /// Further numbers by name.
    pub(crate) extra: BTreeMap<String, f64>,
}

impl Measure {
    pub(crate) fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self {
            name: name.into(),
            value,
            unit,
            floor: None,
            latency: None,
            failures: 0,
            failure_kinds: BTreeMap::new(),
            extra: BTreeMap::new(),
        }
    }

    /// With the latencies and failures of `outcome`.
    fn seen_in<T>(mut self, outcome: &Outcome<T>) -> Self {
        self.latency = outcome.load.latencies.summary();
        self.fail(&outcome.load.failures);
        self.extra.insert("operations".to_owned(), outcome.load.operations as f64);
        self.extra.insert("seconds".to_owned(), outcome.seconds);
        let cores = outcome.cpu.as_secs_f64() / outcome.ran.as_secs_f64();
        self.extra.insert("generator_cpu_cores".to_owned(), cores);
        if outcome.load.operations > 0 {
            // As if the threads had been as busy before and after the window as within.
            let us_per_operation = cores * outcome.seconds * 1e6 / outcome.load.operations as f64;
            self.extra.insert("generator_us_per_op".to_owned(), us_per_operation);
        }
        if outcome.load.unsent > 0 {
            self.extra.insert("unsent".to_owned(), outcome.load.unsent as f64);
        }
        self
    }

    fn with(mut self, name: &str, value: f64) -> Self {
        self.extra.insert(name.to_owned(), value);
        self
    }

    fn fail(&mut self, failures: &Failures) {
        let mut all = Failures { count: self.failures, kinds: std::mem::take(&mut self.failure_kinds) };
        all.merge(failures);
        (self.failures, self.failure_kinds) = (all.count, all.kinds);
    }

    /// Compared with `value` in the same unit.
    fn over(mut self, what: &str, value: f64) -> Self {
        self.floor = Some(Floor { what: what.to_owned(), value, unit: self.unit });
        self
    }
}

impl Scenario {
    /// Runs one repetition.
    pub(crate) fn run(self, context: &Context<'_>) -> Vec<Measure> {
        match self {
            Self::UnaryLatency => unary::latency(context),
            Self::UnarySmall => unary::small(context),
            Self::SessionSingle => sessions::single(context),
            Self::SessionBulk => sessions::bulk(context, self.name(), 1 << 10),
            Self::SessionBulk64k => sessions::bulk(context, self.name(), 64 << 10),
            Self::Sessions64 => sessions::many(context),
            Self::CatchUp => catch_up::run(context),
            Self::TailLatency => tail_latency::run(context),
            Self::TailFanout => tail_fanout::run(context),
            Self::ManyStreams => many_streams::run(context),
            Self::MillionStreams => many_streams::create_a_million(context),
            Self::IdleTails => idle_tails::run(context),
            Self::OpenSessions => open_sessions::run(context),
            Self::Null => null::run(context),
        }
    }

    /// The floor to be measured around each repetition.
    pub(crate) fn floor_kind(self, settings: &Settings) -> FloorKind {
        let depth = |default: usize| settings.concurrency.unwrap_or(default).min(FLOOR_DEPTH_MAX);
        match self {
            Self::UnaryLatency => FloorKind::SyncAndRoundTrip,
            Self::UnarySmall => FloorKind::Syncs { depth: depth(unary::SMALL_CONCURRENCY) },
            Self::SessionSingle => FloorKind::Syncs { depth: depth(sessions::SINGLE_CONCURRENCY) },
            Self::SessionBulk | Self::SessionBulk64k => {
                FloorKind::BulkSync { depth: sessions::BULK_WINDOW_BYTES >> 20 }
            }
            Self::Sessions64 => {
                FloorKind::BulkSync { depth: (sessions::MANY_SESSIONS * sessions::MANY_WINDOW_BYTES) >> 20 }
            }
            Self::CatchUp => FloorKind::SequentialRead,
            Self::TailLatency
            | Self::TailFanout
            | Self::ManyStreams
            | Self::MillionStreams
            | Self::IdleTails
            | Self::OpenSessions
            | Self::Null => FloorKind::None,
        }
    }

    /// Whether later repetitions use what the first has made.
    pub(crate) const fn shares_basin(self) -> bool {
        match self {
            Self::CatchUp | Self::ManyStreams => true,
            Self::UnaryLatency
            | Self::SessionSingle
            | Self::UnarySmall
            | Self::SessionBulk
            | Self::SessionBulk64k
            | Self::Sessions64
            | Self::TailLatency
            | Self::TailFanout
            | Self::MillionStreams
            | Self::IdleTails
            | Self::OpenSessions
            | Self::Null => false,
        }
    }

    /// Whether it drives the user's server.
    pub(crate) fn needs_server(self) -> bool {
        self != Self::Null
    }
}

/// More threads than this measure the scheduler, not the device.
const FLOOR_DEPTH_MAX: usize = 256;
/// After a failure, so that a server that is gone is not asked a million times.
const RETRY_DELAY: Duration = Duration::from_millis(100);
