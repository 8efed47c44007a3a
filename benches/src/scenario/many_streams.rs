//! Very many streams: whether appends that go round them are slower than appends to one, and what they weigh.

use std::cell::Cell;
use std::rc::Rc;

use tokio::task::JoinSet;

use super::{Context, Measure};
use crate::client::unary::{Channel, Request};
use crate::client::{Result, Target};
use crate::fleet::{self, Outcome, Seat};
use crate::payload::Payload;
use crate::process;
use crate::recorder::Window;

/// Appends that go round `streams` streams.
#[derive(Debug, Clone, Copy)]
struct Round {
    streams: usize,
    in_flight: usize,
    /// `None`: once round, as fast as possible.
    rate: Option<f64>,
}

pub(super) fn run(context: &Context<'_>) -> Vec<Measure> {
    let settings = context.settings;
    let quick = settings.quick;
    let streams = settings.streams.unwrap_or(if quick { 1000 } else { 100_000 });
    let rate = settings.rate.unwrap_or(if quick { 500.0 } else { 2000.0 });
    let mut creation = None;
    if context.repetition == 0 {
        context.progress.label(format!("many-streams: creating {streams} streams"));
        creation = Some(create(context, streams));
    }
    let in_flight = settings.concurrency.unwrap_or(RATED_CONCURRENCY);
    context.progress.label("many-streams: one stream");
    let one = go_round(context, Round { streams: 1, in_flight, rate: Some(rate) });
    context.progress.label(format!("many-streams: {streams} streams"));
    let many = go_round(context, Round { streams, in_flight, rate: Some(rate) });
    let p99 = |outcome: &Outcome<()>| outcome.load.latencies.summary().map_or(0.0, |summary| summary.p99_us);
    let mut measure = Measure::new("many-streams", p99(&many), "us")
        .seen_in(&many)
        .over("append p99 to one stream", p99(&one))
        .with("streams", streams as f64)
        .with("rate", rate);
    measure.fail(&one.load.failures);
    if let Some(creation) = creation {
        measure.fail(&creation.load.failures);
        measure = measure.with("created_per_second", creation.per_second(creation.load.operations));
    }
    vec![with_memory(context, measure)]
}

pub(super) fn create_a_million(context: &Context<'_>) -> Vec<Measure> {
    let streams = context.settings.streams.unwrap_or(if context.settings.quick { 10_000 } else { 1_000_000 });
    let before = context.settings.server_pid.and_then(process::resident_bytes);
    let outcome = create(context, streams);
    let mut measure = Measure::new("million-streams", outcome.per_second(outcome.load.operations), "streams/s")
        .seen_in(&outcome)
        .with("streams", streams as f64);
    let after = context.settings.server_pid.and_then(process::resident_bytes);
    if let (Some(before), Some(after)) = (before, after) {
        measure = measure.with("server_bytes_per_stream", after.saturating_sub(before) as f64 / streams as f64);
    }
    vec![with_memory(context, measure)]
}

fn with_memory(context: &Context<'_>, measure: Measure) -> Measure {
    match context.settings.server_pid.and_then(process::resident_bytes) {
        Some(bytes) => measure.with("server_rss_mib", bytes as f64 / f64::from(1 << 20)),
        None => measure,
    }
}

/// One append to each stream, which creates it.
fn create(context: &Context<'_>, streams: usize) -> Outcome<()> {
    let in_flight = context.settings.concurrency.unwrap_or(CREATE_CONCURRENCY);
    go_round(context, Round { streams, in_flight, rate: None })
}

fn go_round(context: &Context<'_>, round: Round) -> Outcome<()> {
    let settings = context.settings;
    let window = match round.rate {
        Some(_) => Window::lasting(settings.warmup, settings.duration),
        None => Window::unbounded(),
    };
    let payload = Payload::single(settings.record_bytes_or(100));
    fleet::run(context, window, settings.threads.min(round.in_flight), async |seat| {
        if let Err(error) = appends(context, round, &payload, &seat).await {
            seat.recorder.failed(&error);
        }
    })
}

async fn appends(context: &Context<'_>, round: Round, payload: &Payload, seat: &Seat) -> Result<()> {
    let protocol = context.settings.unary;
    let channels = Channel::open_many(&context.endpoint, protocol, seat.share(round.in_flight).len()).await?;
    let mine = if round.streams < seat.count { 0..round.streams } else { seat.share(round.streams) };
    let pace = seat.pace(round.rate)?;
    let payload = Rc::new(payload.clone());
    let turn = Rc::new(Cell::new(0));
    let failures = Rc::new(Cell::new(0));
    let mut workers = JoinSet::new();
    for mut channel in channels {
        let (pace, payload, turn, failures) =
            (pace.clone(), Rc::clone(&payload), Rc::clone(&turn), Rc::clone(&failures));
        let (recorder, mine) = (Rc::clone(&seat.recorder), mine.clone());
        let (endpoint, basin) = (context.endpoint.clone(), context.basin.clone());
        workers.spawn_local(async move {
            while let Some(due_at) = pace.next(&recorder).await {
                let index = turn.get();
                let once_round = round.rate.is_none();
                if once_round && (index >= mine.len() || failures.get() > CREATE_FAILURES_MAX) {
                    return;
                }
                turn.set(index + 1);
                let stream = mine.start + index % mine.len();
                let target = Target::new(&basin, format!("many-{stream:07}"));
                let request = Request::new(&endpoint, protocol, &target, &payload);
                match channel.append(&request, payload.size.records).await {
                    Ok(_) => recorder.succeeded(due_at, payload.size),
                    Err(error) => {
                        failures.set(failures.get() + 1);
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

const RATED_CONCURRENCY: usize = 64;
const CREATE_CONCURRENCY: usize = 256;
/// A server that refuses this many creations is not asked for the rest.
const CREATE_FAILURES_MAX: u64 = 10_000;
