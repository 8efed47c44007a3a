//! Catch-up: a long stream read from its start by one session, every record checked.

use std::time::Instant;

use super::{Context, Measure};
use crate::client::pipeline::{self, Until};
use crate::client::read::Check;
use crate::client::session::Transport;
use crate::client::{ClientError, Result, Target};
use crate::fleet::{self, Seat};
use crate::pace::Pace;
use crate::payload::Payload;
use crate::recorder::{Failures, Window};

pub(super) fn run(context: &Context<'_>) -> Vec<Measure> {
    let payload = Payload::full(context.settings.record_bytes_or(1 << 10));
    let batches = context.settings.catch_up_bytes.div_ceil(payload.size.bytes).max(1);
    let mut written = Failures::default();
    let mut written_mib_per_second = None;
    if context.repetition == 0 {
        context.progress.label("catch-up: writing");
        let outcome =
            fleet::run(context, Window::unbounded(), 1, async |seat| write(context, &payload, batches, &seat).await);
        written = outcome.load.failures.clone();
        written_mib_per_second = Some(outcome.mib_per_second());
    }
    context.progress.label("catch-up: reading");
    let outcome = fleet::run(context, Window::unbounded(), 1, async |seat| {
        let read = read(context, &payload, batches * payload.size.records, &seat).await;
        if let Err(error) = &read {
            seat.recorder.failed(error);
        }
    });
    let mut measure = Measure::new("catch-up", outcome.mib_per_second(), "MiB/s").seen_in(&outcome);
    // Batches of a read have no latency.
    measure.latency = None;
    measure.fail(&written);
    match written_mib_per_second {
        Some(mib) => vec![measure.with("write_mib_per_second", mib)],
        None => vec![measure],
    }
}

fn target(context: &Context<'_>) -> Target {
    Target::new(&context.basin, "catch-up")
}

async fn write(context: &Context<'_>, payload: &Payload, batches: u64, seat: &Seat) {
    let written = async {
        let transport = Transport::open(&context.endpoint, context.settings.session).await?;
        let session = transport.append(&target(context)).await?;
        let payload = &transport.prepared(&target(context), payload);
        let window = payload.window(super::sessions::BULK_WINDOW_BYTES);
        pipeline::drive(session, payload, window, &Pace::Closed, Until::Sent(batches), &seat.recorder).await
    };
    if let Err(error) = written.await {
        seat.recorder.failed(&error);
    }
}

async fn read(context: &Context<'_>, payload: &Payload, records: u64, seat: &Seat) -> Result<()> {
    let transport = Transport::open(&context.endpoint, context.settings.session).await?;
    let mut reader = transport.read(&target(context), &format!("?seq_num=0&count={records}")).await?;
    let mut check = Check::whole_stream(payload.body_crcs.clone());
    while !seat.recorder.is_over() && reader.fill().await? {
        while let Some(message) = reader.next_message()? {
            let size = check.batch(&message)?;
            seat.recorder.succeeded(Instant::now(), size);
        }
    }
    let is_whole = check.next_seq_num() == records || seat.recorder.is_over();
    if is_whole { Ok(()) } else { Err(ClientError::Wrong("a read that ends before its count")) }
}
