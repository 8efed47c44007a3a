//! Fan-out: many readers tail a stream that is written at a steady rate. Do they keep up, and do appends suffer?

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::{Context, Measure};
use crate::client::pipeline::{self, Until};
use crate::client::read::Check;
use crate::client::session::{MessageReader, Transport};
use crate::client::{ClientError, Result, Target, admin};
use crate::fleet::{self, Outcome, Seat};
use crate::payload::Payload;
use crate::recorder::Window;

/// Shared between the writer's thread and the readers'.
#[derive(Debug, Default)]
struct Stage {
    is_created: AtomicBool,
    readers_open: AtomicUsize,
    /// Number behind the last record once the writer is done; until then 0.
    end: AtomicU64,
}

/// How far behind one reader was when the writer was done.
#[derive(Debug, Clone, Copy)]
struct Lag {
    records: u64,
    /// How long it took to read the rest; longer than [`CAUGHT_UP_MAX`] when it was given up.
    caught_up_after: Duration,
}

pub(super) fn run(context: &Context<'_>) -> Vec<Measure> {
    let payload = Payload::about(BATCH_BYTES, context.settings.record_bytes_or(1 << 10));
    let alone = append_with(context, &payload, 0);
    let Some(without) = alone.load.latencies.summary() else {
        return vec![Measure::new("tail-fanout", 0.0, "us").seen_in(&alone)];
    };
    let mut measures = Vec::new();
    for readers in READERS {
        if context.stop.is_set() {
            break;
        }
        let outcome = append_with(context, &payload, readers);
        let p99 = outcome.load.latencies.summary().map_or(0.0, |summary| summary.p99_us);
        let lags = || outcome.results.iter().flatten();
        let lag_records = lags().map(|lag| lag.records).max().unwrap_or(0);
        let slowest = lags().map(|lag| lag.caught_up_after).max().unwrap_or_default();
        let kept_up = lags().filter(|lag| lag.caught_up_after < KEPT_UP_WITHIN).count();
        let mut measure = Measure::new(format!("tail-fanout/{readers}"), p99, "us")
            .seen_in(&outcome)
            .over("append p99 without readers", without.p99_us)
            .with("written_mib_per_second", outcome.mib_per_second())
            .with("readers", readers as f64)
            .with("readers_that_kept_up", kept_up as f64)
            .with("lag_records_max", lag_records as f64)
            .with("caught_up_after_ms_max", slowest.as_secs_f64() * 1e3);
        measure.fail(&alone.load.failures);
        measures.push(measure);
    }
    measures
}

/// The writer has a thread of its own: what the readers cost must not delay it in the generator.
fn append_with(context: &Context<'_>, payload: &Payload, readers: usize) -> Outcome<Vec<Lag>> {
    let settings = context.settings;
    context.progress.label(format!("tail-fanout: {readers} readers"));
    let target = Target::new(&context.basin, format!("fanout-{readers}"));
    let window = Window::lasting(settings.warmup, settings.duration);
    let stage = Stage::default();
    fleet::run(context, window, if readers == 0 { 1 } else { 2 }, async |seat| {
        let result = if seat.index == 0 {
            let end = write(context, payload, &target, readers, &stage, &seat).await;
            // Whatever happened, the readers need not wait for more; they fail when nothing was written.
            stage.end.store(end.as_ref().copied().unwrap_or(0).max(1), Ordering::Relaxed);
            end.map(|_| Vec::new())
        } else {
            read_all(context, &target, readers, &stage, &seat).await
        };
        result.unwrap_or_else(|error| {
            seat.recorder.failed(&error);
            Vec::new()
        })
    })
}

async fn write(
    context: &Context<'_>,
    payload: &Payload,
    target: &Target,
    readers: usize,
    stage: &Stage,
    seat: &Seat,
) -> Result<u64> {
    let settings = context.settings;
    admin::create_stream(&context.endpoint, target).await?;
    stage.is_created.store(true, Ordering::Relaxed);
    let transport = Transport::open(&context.endpoint, settings.session).await?;
    let (session, payload) = (transport.append(target).await?, &transport.prepared(target, payload));
    while stage.readers_open.load(Ordering::Relaxed) < readers && !seat.recorder.is_over() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let rate = settings.rate.unwrap_or(BYTES_PER_SECOND / payload.size.bytes as f64);
    // The writer's pace is its own: the readers' seat has none.
    let pace = crate::pace::Pace::start(Some(rate), 0, 1)?;
    let window = payload.window(super::sessions::BULK_WINDOW_BYTES);
    let end = pipeline::drive(session, payload, window, &pace, Until::WindowEnds, &seat.recorder).await?;
    pace.settle(&seat.recorder);
    Ok(end)
}

async fn read_all(
    context: &Context<'_>,
    target: &Target,
    readers: usize,
    stage: &Stage,
    seat: &Seat,
) -> Result<Vec<Lag>> {
    // As if each were a process of its own, each has a connection of its own.
    while !stage.is_created.load(Ordering::Relaxed) && !seat.recorder.is_over() {
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    let mut sessions = Vec::new();
    for _ in 0..readers {
        let transport = Transport::open(&context.endpoint, context.settings.session).await?;
        sessions.push(transport.read(target, "?seq_num=0").await?);
        stage.readers_open.fetch_add(1, Ordering::Relaxed);
    }
    let ended = Rc::new(Cell::new(0));
    let mut running = JoinSet::new();
    for reader in sessions {
        running.spawn_local(follow(reader, Rc::clone(&ended)));
    }
    let mut lags = Vec::new();
    loop {
        tokio::select! {
            lag = running.join_next() => match lag {
                Some(Ok(Ok(lag))) => lags.push(lag),
                Some(Ok(Err(error))) => seat.recorder.failed(&error),
                Some(Err(panicked)) => seat.recorder.failed(&panicked),
                None => return Ok(lags),
            },
            () = tokio::time::sleep(POLL_INTERVAL), if ended.get() == 0 => ended.set(stage.end.load(Ordering::Relaxed)),
        }
    }
}

/// Reads until it has everything that was written. `end` is 0 until that is known.
async fn follow(mut reader: MessageReader, end: Rc<Cell<u64>>) -> Result<Lag> {
    let mut check = Check::whole_stream(Vec::new());
    // Records behind, and since when.
    let mut behind: Option<(u64, Instant)> = None;
    loop {
        while let Some(message) = reader.next_message()? {
            check.batch(&message)?;
        }
        if end.get() > 0 {
            let left = end.get().saturating_sub(check.next_seq_num());
            let (records, since) = *behind.get_or_insert_with(|| (left, Instant::now()));
            if left == 0 {
                return Ok(Lag { records, caught_up_after: since.elapsed() });
            }
            if since.elapsed() > CAUGHT_UP_MAX {
                // Not to keep up is a figure, not a failure.
                return Ok(Lag { records, caught_up_after: since.elapsed() });
            }
        }
        // A reader at the tail gets no more data: it looks at the end again by itself.
        if let Ok(more) = tokio::time::timeout(POLL_INTERVAL, reader.fill()).await
            && !more?
        {
            return Err(ClientError::Closed);
        }
    }
}

const READERS: [usize; 2] = [4, 16];
const BYTES_PER_SECOND: f64 = 50.0 * 1_048_576.0;
const BATCH_BYTES: usize = 64 << 10;
const POLL_INTERVAL: Duration = Duration::from_millis(10);
const KEPT_UP_WITHIN: Duration = Duration::from_secs(1);
const CAUGHT_UP_MAX: Duration = Duration::from_secs(5);
