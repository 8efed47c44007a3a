//! Unary appends: the latency of a lone one, and how many small ones a second.

use tokio::task::JoinSet;

use super::{Context, Measure};
use crate::client::unary::{Channel, Request};
use crate::client::{Result, Target, admin};
use crate::fleet::{self, Outcome, Seat};
use crate::payload::Payload;
use crate::recorder::Window;
use crate::settings::Protocol;

/// How much, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct UnaryLoad {
    pub(super) protocol: Protocol,
    pub(super) in_flight: usize,
    pub(super) record_bytes: usize,
    pub(super) streams: usize,
}

pub(super) fn latency(context: &Context<'_>) -> Vec<Measure> {
    let settings = context.settings;
    let load = UnaryLoad {
        protocol: settings.unary,
        in_flight: settings.concurrency.unwrap_or(1),
        record_bytes: settings.record_bytes_or(1 << 10),
        streams: settings.streams.unwrap_or(1),
    };
    let outcome = drive(context, load);
    let p50 = outcome.load.latencies.summary().map_or(0.0, |summary| summary.p50_us);
    vec![Measure::new("unary-latency", p50, "us").seen_in(&outcome)]
}

pub(super) fn small(context: &Context<'_>) -> Vec<Measure> {
    let outcome = drive(context, small_load(context));
    vec![Measure::new("unary-small", outcome.per_second(outcome.load.operations), "op/s").seen_in(&outcome)]
}

pub(super) fn small_load(context: &Context<'_>) -> UnaryLoad {
    let settings = context.settings;
    UnaryLoad {
        protocol: settings.unary,
        in_flight: settings.concurrency.unwrap_or(SMALL_CONCURRENCY),
        record_bytes: settings.record_bytes_or(100),
        streams: settings.streams.unwrap_or(SMALL_STREAMS),
    }
}

/// Appends for the duration of a repetition.
pub(super) fn drive(context: &Context<'_>, load: UnaryLoad) -> Outcome<()> {
    let settings = context.settings;
    let payload = Payload::single(load.record_bytes);
    let creation = fleet::run(context, Window::unbounded(), 1, async |seat| {
        if let Err(error) = create_streams(context, load).await {
            seat.recorder.failed(&error);
        }
    });
    let window = Window::lasting(settings.warmup, settings.duration);
    let mut outcome = fleet::run(context, window, settings.threads.min(load.in_flight), async |seat| {
        if let Err(error) = appends(context, load, &payload, &seat).await {
            seat.recorder.failed(&error);
        }
    });
    outcome.load.failures.merge(&creation.load.failures);
    outcome
}

/// A stream for each group of workers that share it, made before they race to be the first on it.
async fn create_streams(context: &Context<'_>, load: UnaryLoad) -> Result<()> {
    for index in 0..load.streams.min(load.in_flight) {
        admin::create_stream(&context.endpoint, &target(context, load, index)).await?;
    }
    Ok(())
}

/// Stream of worker `index`.
fn target(context: &Context<'_>, load: UnaryLoad, index: usize) -> Target {
    Target::new(&context.basin, format!("unary-{}", index % load.streams))
}

/// One seat's channels, each with one append in flight.
async fn appends(context: &Context<'_>, load: UnaryLoad, payload: &Payload, seat: &Seat) -> Result<()> {
    let mine = seat.share(load.in_flight);
    let channels = Channel::open_many(&context.endpoint, load.protocol, mine.len()).await?;
    let pace = seat.pace(context.settings.rate)?;
    let mut workers = JoinSet::new();
    for (index, mut channel) in mine.zip(channels) {
        let request = Request::new(&context.endpoint, load.protocol, &target(context, load, index), payload);
        let (pace, recorder, size) = (pace.clone(), seat.recorder.clone(), payload.size);
        workers.spawn_local(async move {
            while let Some(due_at) = pace.next(&recorder).await {
                match channel.append(&request, size.records).await {
                    Ok(_) => recorder.succeeded(due_at, size),
                    Err(error) => {
                        recorder.failed(&error);
                        tokio::time::sleep(super::RETRY_DELAY).await;
                    }
                }
            }
        });
    }
    while workers.join_next().await.is_some() {}
    pace.settle(&seat.recorder);
    Ok(())
}

pub(super) const SMALL_CONCURRENCY: usize = 256;
/// Small appends come from many writers.
const SMALL_STREAMS: usize = 64;
