//! Idle tails: very many readers that wait, and what their waiting costs the server.

use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::{Context, Measure};
use crate::client::session::Transport;
use crate::client::{ClientError, Result, Target};
use crate::fleet::{self, Seat};
use crate::process;
use crate::recorder::{Size, Window};

/// Shared between the thread that measures and those that hold the readers.
#[derive(Debug, Default)]
struct Stage {
    seats_ready: AtomicUsize,
    is_done: AtomicBool,
}

pub(super) fn run(context: &Context<'_>) -> Vec<Measure> {
    let settings = context.settings;
    let tails = settings.tails;
    context.progress.label(format!("idle-tails: opening {tails} reads"));
    let stage = Stage::default();
    // Seat 0 only measures; it sleeps meanwhile.
    let seats = settings.threads + 1;
    let outcome = fleet::run(context, Window::unbounded(), seats, async |seat| {
        if seat.index == 0 {
            let cpu = measure(context, seats - 1, &stage, &seat).await;
            stage.is_done.store(true, Ordering::Relaxed);
            return Some(cpu);
        }
        let mine = tails * (seat.index - 1) / (seats - 1)..tails * seat.index / (seats - 1);
        if let Err(error) = hold(context, mine, &stage, &seat).await {
            seat.recorder.failed(&error);
        }
        None
    });
    let cores = outcome.results.iter().find_map(|result| *result).flatten();
    let measure = match cores {
        Some(cores) => Measure::new("idle-tails", cores * 100.0, "% of a core"),
        None => Measure::new("idle-tails", tails as f64, "reads (no --server-pid)"),
    };
    let mut measure = measure.seen_in(&outcome).with("tails", tails as f64);
    // Heartbeats answer nothing.
    measure.latency = None;
    if let Some(bytes) = settings.server_pid.and_then(process::resident_bytes) {
        measure = measure.with("server_rss_mib", bytes as f64 / f64::from(1 << 20));
    }
    vec![measure]
}

/// Cores that the server used while nothing happened; `None` when its process is not known.
async fn measure(context: &Context<'_>, seats: usize, stage: &Stage, seat: &Seat) -> Option<f64> {
    let quick = context.settings.quick;
    while stage.seats_ready.load(Ordering::Relaxed) < seats && !seat.recorder.is_over() {
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    context.progress.label("idle-tails: settling");
    sleep_unless_over(if quick { Duration::from_millis(500) } else { Duration::from_secs(10) }, seat).await;
    context.progress.label("idle-tails: measuring");
    let cpu_time = || context.settings.server_pid.and_then(process::cpu_time);
    let (begin, before) = (Instant::now(), cpu_time());
    sleep_unless_over(if quick { Duration::from_secs(2) } else { Duration::from_secs(30) }, seat).await;
    Some((cpu_time()?.saturating_sub(before?)).as_secs_f64() / begin.elapsed().as_secs_f64())
}

async fn sleep_unless_over(duration: Duration, seat: &Seat) {
    let ends = Instant::now() + duration;
    while Instant::now() < ends && !seat.recorder.is_over() {
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Opens the reads of a seat and keeps them until the measurement is done.
async fn hold(context: &Context<'_>, tails: std::ops::Range<usize>, stage: &Stage, seat: &Seat) -> Result<()> {
    let streams = context.settings.streams.unwrap_or(context.settings.tails);
    let mut opening = JoinSet::new();
    let mut holding = JoinSet::new();
    let all: Vec<usize> = tails.collect();
    for of_connection in all.chunks(TAILS_PER_CONNECTION) {
        let of_connection = of_connection.to_vec();
        let transport = Transport::open(&context.endpoint, context.settings.session).await?;
        let (basin, recorder) = (context.basin.clone(), Rc::clone(&seat.recorder));
        opening.spawn_local(async move {
            let mut readers = Vec::with_capacity(of_connection.len());
            for index in of_connection {
                let target = Target::new(&basin, format!("idle-{}", index % streams));
                match transport.read(&target, "?seq_num=0").await {
                    Ok(reader) => readers.push(reader),
                    Err(error) => recorder.failed(&error),
                }
                if recorder.is_over() {
                    break;
                }
            }
            readers
        });
    }
    while let Some(opened) = opening.join_next().await {
        let Ok(readers) = opened else { continue };
        for mut reader in readers {
            let recorder = Rc::clone(&seat.recorder);
            holding.spawn_local(async move {
                let ended = async {
                    while reader.fill().await? {
                        while reader.next_message()?.is_some() {
                            recorder.succeeded(Instant::now(), Size { records: 0, bytes: 0 });
                        }
                    }
                    Err::<(), _>(ClientError::Closed)
                };
                if let Err(error) = ended.await {
                    recorder.failed(&error);
                }
            });
        }
    }
    stage.seats_ready.fetch_add(1, Ordering::Relaxed);
    while !stage.is_done.load(Ordering::Relaxed) && !seat.recorder.is_over() {
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    // Dropping the set aborts the readers: that they end now is no failure.
    drop(holding);
    Ok(())
}

const TAILS_PER_CONNECTION: usize = 100;
const POLL_INTERVAL: Duration = Duration::from_millis(50);
