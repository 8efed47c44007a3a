//! Very many open sessions that do nothing: what they cost the server in memory, and whether others feel them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;

use super::unary::{self, UnaryLoad};
use super::{Context, Measure};
use crate::client::session::{FrameWriter, MessageReader, Transport};
use crate::client::{Result, Target};
use crate::fleet::{self, Outcome, Seat};
use crate::process;
use crate::recorder::Window;

/// Shared between the threads that hold sessions and the one that measures.
#[derive(Debug, Default)]
struct Stage {
    seats_ready: AtomicUsize,
    sessions_open: AtomicUsize,
    is_done: AtomicBool,
}

/// A session that is only kept: a tailing read, or an append session to which nothing is sent.
enum Held {
    Tail(MessageReader),
    Append { writer: FrameWriter, reader: MessageReader },
}

pub(super) fn run(context: &Context<'_>) -> Vec<Measure> {
    let settings = context.settings;
    let load = UnaryLoad {
        protocol: settings.unary,
        in_flight: settings.concurrency.unwrap_or(1),
        record_bytes: settings.record_bytes_or(1 << 10),
        streams: 1,
    };
    context.progress.label("open-sessions: appends without them");
    let alone = unary::drive(context, load);
    let rss_before = settings.server_pid.and_then(process::resident_bytes);
    let stage = Arc::<Stage>::default();
    let (crowded, rss_with, open) = std::thread::scope(|scope| {
        let holding = scope.spawn(|| {
            fleet::run(context, Window::unbounded(), settings.threads, async |seat| {
                if let Err(error) = hold(context, &stage, &seat).await {
                    seat.recorder.failed(&error);
                }
            })
        });
        context.progress.label("open-sessions: opening");
        while stage.seats_ready.load(Ordering::Relaxed) < settings.threads && !holding.is_finished() {
            std::thread::sleep(POLL_INTERVAL);
        }
        std::thread::sleep(if settings.quick { Duration::from_millis(500) } else { Duration::from_secs(10) });
        let rss_with = settings.server_pid.and_then(process::resident_bytes);
        context.progress.label("open-sessions: appends beside them");
        let crowded = unary::drive(context, load);
        let open = stage.sessions_open.load(Ordering::Relaxed);
        stage.is_done.store(true, Ordering::Relaxed);
        (crowded, rss_with, open)
    });
    report(settings.tails, open, (&alone, &crowded), rss_before.zip(rss_with))
}

fn report(
    wanted: usize,
    open: usize,
    (alone, crowded): (&Outcome<()>, &Outcome<()>),
    rss: Option<(u64, u64)>,
) -> Vec<Measure> {
    let of = |outcome: &Outcome<()>, p99: bool| {
        outcome.load.latencies.summary().map_or(0.0, |s| if p99 { s.p99_us } else { s.p50_us })
    };
    let mut measures = Vec::new();
    for (name, p99) in [("open-sessions/p50", false), ("open-sessions/p99", true)] {
        let mut measure = Measure::new(name, of(crowded, p99), "us")
            .seen_in(crowded)
            .over("the same without the sessions", of(alone, p99))
            .with("sessions", open as f64);
        measure.fail(&alone.load.failures);
        if open < wanted {
            measure.failures += 1;
            measure.failure_kinds.insert(format!("only {open} sessions of {wanted} were open"), 1);
        }
        measures.push(measure);
    }
    if let Some((before, with)) = rss.filter(|_| open > 0) {
        let each = with.saturating_sub(before) as f64 / open as f64;
        measures.push(Measure::new("open-sessions/memory", each, "B each").with("sessions", open as f64));
    }
    measures
}

/// Opens a seat's share of the sessions, half of them append sessions, and answers nothing until the end.
async fn hold(context: &Context<'_>, stage: &Arc<Stage>, seat: &Seat) -> Result<()> {
    let settings = context.settings;
    let mine: Vec<usize> = seat.share(settings.tails).collect();
    let mut held = Vec::new();
    for of_connection in mine.chunks(SESSIONS_PER_CONNECTION) {
        let transport = Transport::open(&context.endpoint, settings.session).await?;
        for index in of_connection {
            let target = Target::new(&context.basin, format!("open-{index}"));
            held.push(if index % 2 == 0 {
                Held::Tail(transport.read(&target, "?seq_num=0").await?)
            } else {
                let (writer, reader) = transport.append(&target).await?;
                Held::Append { writer, reader }
            });
            stage.sessions_open.fetch_add(1, Ordering::Relaxed);
            if seat.recorder.is_over() {
                return Ok(());
            }
        }
    }
    let mut holding = JoinSet::new();
    for session in held {
        let stage = Arc::clone(stage);
        holding.spawn_local(async move {
            let (mut reader, _writer) = match session {
                Held::Tail(reader) => (reader, None),
                Held::Append { writer, reader } => (reader, Some(writer)),
            };
            // A client reads what it is sent; a session that has ended is one too few.
            while let Ok(true) = reader.fill().await {
                while let Ok(Some(_)) = reader.next_message() {}
            }
            stage.sessions_open.fetch_sub(1, Ordering::Relaxed);
        });
    }
    stage.seats_ready.fetch_add(1, Ordering::Relaxed);
    while !stage.is_done.load(Ordering::Relaxed) && !seat.recorder.is_over() {
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    // Dropping the set aborts what it holds: that sessions end now is no failure.
    drop(holding);
    Ok(())
}

const SESSIONS_PER_CONNECTION: usize = 100;
const POLL_INTERVAL: Duration = Duration::from_millis(50);
