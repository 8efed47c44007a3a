//! Tailing: how long after an append was sent its record reaches a reader that waits for it.

use std::cell::Cell;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::{Context, Measure};
use crate::client::read::Check;
use crate::client::session::{MessageReader, Transport};
use crate::client::unary::{Channel, Request};
use crate::client::{ClientError, Result, Target};
use crate::fleet::{self, Seat};
use crate::payload::Payload;
use crate::recorder::{Size, Window};
use crate::stats::Latencies;

/// What the reader has seen.
#[derive(Debug)]
struct Delivered {
    /// Number behind the last record, and when that arrived.
    last: Cell<(u64, Instant)>,
    more: Notify,
}

/// The next append is sent once the last one is both acknowledged and delivered.
pub(super) fn run(context: &Context<'_>) -> Vec<Measure> {
    let settings = context.settings;
    let window = Window::lasting(settings.warmup, settings.duration);
    let outcome = fleet::run(context, window, 1, async |seat| {
        let mut deliveries = Latencies::new();
        if let Err(error) = tail(context, &seat, window, &mut deliveries).await {
            seat.recorder.failed(&error);
        }
        deliveries
    });
    let delivery = outcome.results.first().and_then(Latencies::summary);
    let ack = outcome.load.latencies.summary();
    let (Some(delivery), Some(ack)) = (delivery, ack) else {
        return vec![Measure::new("tail-latency", 0.0, "us").seen_in(&outcome)];
    };
    let mut measure = Measure::new("tail-latency", delivery.p50_us, "us").seen_in(&outcome);
    measure.latency = Some(delivery);
    vec![measure.over("append ack p50", ack.p50_us).with("ack_p50_us", ack.p50_us).with("ack_p99_us", ack.p99_us)]
}

async fn tail(context: &Context<'_>, seat: &Seat, window: Window, deliveries: &mut Latencies) -> Result<()> {
    let target = Target::new(&context.basin, "tail-latency");
    let transport = Transport::open(&context.endpoint, context.settings.session).await?;
    let reader = transport.read(&target, "?seq_num=0").await?;
    let delivered = Delivered { last: Cell::new((0, Instant::now())), more: Notify::new() };
    tokio::select! {
        done = append(context, &target, seat, window, &delivered, deliveries) => done,
        ended = follow(reader, &delivered) => ended,
    }
}

async fn follow(mut reader: MessageReader, delivered: &Delivered) -> Result<()> {
    let mut check = Check::whole_stream(Vec::new());
    while reader.fill().await? {
        while let Some(message) = reader.next_message()? {
            if check.batch(&message)?.records > 0 {
                delivered.last.set((check.next_seq_num(), Instant::now()));
                delivered.more.notify_one();
            }
        }
    }
    Err(ClientError::Closed)
}

async fn append(
    context: &Context<'_>,
    target: &Target,
    seat: &Seat,
    window: Window,
    delivered: &Delivered,
    deliveries: &mut Latencies,
) -> Result<()> {
    let (settings, recorder) = (context.settings, &seat.recorder);
    let payload = Payload::single(settings.record_bytes_or(1 << 10));
    let request = Request::new(&context.endpoint, settings.unary, target, &payload);
    let mut channels = Channel::open_many(&context.endpoint, settings.unary, 1).await?;
    let pace = seat.pace(settings.rate)?;
    while let Some(due_at) = pace.next(recorder).await {
        let ack = channels[0].append(&request, payload.size.records).await?;
        recorder.succeeded(due_at, Size { ..payload.size });
        let arrived = async {
            loop {
                let (next, at) = delivered.last.get();
                if next >= ack.end {
                    return at;
                }
                delivered.more.notified().await;
            }
        };
        let Ok(arrived_at) = tokio::time::timeout(DELIVERY_MAX, arrived).await else {
            return Err(ClientError::Wrong("an acknowledged record was not delivered within 10 s"));
        };
        if due_at >= window.from {
            deliveries.record(arrived_at.saturating_duration_since(due_at));
        }
    }
    pace.settle(recorder);
    Ok(())
}

const DELIVERY_MAX: Duration = Duration::from_secs(10);
