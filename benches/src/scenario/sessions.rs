//! Append sessions: single records, full batches, and many sessions at once.

use std::rc::Rc;

use tokio::task::JoinSet;

use super::{Context, Measure};
use crate::client::pipeline::{self, Until};
use crate::client::session::Transport;
use crate::client::{Result, Target};
use crate::fleet::{self, Outcome, Seat};
use crate::payload::Payload;
use crate::recorder::Window;

/// How many sessions, each on a stream of its own, and how many batches each keeps in flight.
#[derive(Debug, Clone, Copy)]
pub(super) struct SessionLoad {
    pub(super) sessions: usize,
    pub(super) window: usize,
}

/// The same number of records in flight in one session, and over several.
pub(super) fn single(context: &Context<'_>) -> Vec<Measure> {
    let settings = context.settings;
    let in_flight = settings.concurrency.unwrap_or(SINGLE_CONCURRENCY);
    let payload = Payload::single(settings.record_bytes_or(100));
    let sessions = settings.streams.map_or_else(|| vec![1, 8], |streams| vec![streams]);
    let measure = |sessions: usize| {
        let load = SessionLoad { sessions, window: (in_flight / sessions).max(1) };
        let outcome = drive(context, load, &payload);
        let name = format!("session-single/{sessions}x{}", load.window);
        Measure::new(name, outcome.per_second(outcome.load.records), "rec/s").seen_in(&outcome)
    };
    sessions.into_iter().map(measure).collect()
}

/// One session as full as the clients of S2 keep it.
pub(super) fn bulk(context: &Context<'_>, name: &str, record_bytes: usize) -> Vec<Measure> {
    let payload = Payload::full(context.settings.record_bytes_or(record_bytes));
    let sessions = context.settings.streams.unwrap_or(1);
    let load = SessionLoad { sessions, window: payload.window(BULK_WINDOW_BYTES) };
    vec![measured_in_mib(name, &drive(context, load, &payload))]
}

/// Many sessions with moderate batches.
pub(super) fn many(context: &Context<'_>) -> Vec<Measure> {
    let payload = Payload::about(MANY_BATCH_BYTES, context.settings.record_bytes_or(1 << 10));
    let sessions = context.settings.streams.unwrap_or(MANY_SESSIONS);
    let load = SessionLoad { sessions, window: payload.window(MANY_WINDOW_BYTES) };
    vec![measured_in_mib("sessions-64", &drive(context, load, &payload))]
}

fn measured_in_mib(name: &str, outcome: &Outcome<()>) -> Measure {
    Measure::new(name, outcome.mib_per_second(), "MiB/s").seen_in(outcome)
}

/// Appends for the duration of a repetition.
pub(super) fn drive(context: &Context<'_>, load: SessionLoad, payload: &Payload) -> Outcome<()> {
    let settings = context.settings;
    let window = Window::lasting(settings.warmup, settings.duration);
    fleet::run(context, window, settings.threads.min(load.sessions), async |seat| {
        if let Err(error) = sessions(context, load, payload, &seat).await {
            seat.recorder.failed(&error);
        }
    })
}

async fn sessions(context: &Context<'_>, load: SessionLoad, payload: &Payload, seat: &Seat) -> Result<()> {
    let mine: Vec<usize> = seat.share(load.sessions).collect();
    let pace = seat.pace(context.settings.rate)?;
    let mut running = JoinSet::new();
    for of_connection in mine.chunks(SESSIONS_PER_CONNECTION) {
        let transport = Transport::open(&context.endpoint, context.settings.session).await?;
        for index in of_connection {
            let stream = format!("session-{}-{index}", load.sessions);
            let target = Target::new(&context.basin, stream);
            let session = transport.append(&target).await?;
            let (payload, pace, recorder) =
                (transport.prepared(&target, payload), pace.clone(), Rc::clone(&seat.recorder));
            running.spawn_local(async move {
                let done = pipeline::drive(session, &payload, load.window, &pace, Until::WindowEnds, &recorder).await;
                if let Err(error) = done {
                    recorder.failed(&error);
                }
            });
        }
    }
    while running.join_next().await.is_some() {}
    pace.settle(&seat.recorder);
    Ok(())
}

pub(super) const SINGLE_CONCURRENCY: usize = 64;
/// What the SDKs allow a session by default (s2-wire.md 2.7).
pub(super) const BULK_WINDOW_BYTES: usize = 5 << 20;
pub(super) const MANY_SESSIONS: usize = 64;
pub(super) const MANY_WINDOW_BYTES: usize = 256 << 10;
const MANY_BATCH_BYTES: usize = 64 << 10;
const SESSIONS_PER_CONNECTION: usize = 16;
