//! Keeps an append session busy: up to a window of batches unacknowledged, each timed from when it was due.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::Instant;

use tokio::sync::Notify;

use super::session::{FrameWriter, MessageReader};
use super::{ClientError, Result};
use crate::pace::Pace;
use crate::payload::Payload;
use crate::recorder::Recorder;

/// What is sent and not yet acknowledged. Invariant: never more than the window.
#[derive(Debug, Default)]
struct Flight {
    /// When each batch was due, oldest first.
    due_at: RefCell<VecDeque<Instant>>,
    landed: Notify,
}

impl Flight {
    /// Waits until fewer than `window` are in flight and returns how many more may start.
    async fn room(&self, window: usize) -> usize {
        loop {
            let in_flight = self.due_at.borrow().len();
            assert!(in_flight <= window, "the window holds");
            if in_flight < window {
                return window - in_flight;
            }
            self.landed.notified().await;
        }
    }
}

/// How much a session sends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Until {
    /// As long as the recorder's window is open.
    WindowEnds,
    /// This many batches, or fewer when the run is interrupted.
    Sent(u64),
}

/// Appends `payload` again and again until the end, waits for the acks that are due, and returns the number behind
/// the last record.
pub(crate) async fn drive(
    session: (FrameWriter, MessageReader),
    payload: &Payload,
    window: usize,
    pace: &Pace,
    until: Until,
    recorder: &Recorder,
) -> Result<u64> {
    let (writer, reader) = session;
    let flight = Flight::default();
    tokio::select! {
        // The answer ends after the request, unless something is wrong.
        acked = acknowledge(reader, payload, &flight, recorder) => acked,
        failed = async {
            match write(writer, payload, window, pace, until, &flight, recorder).await {
                Ok(_open_socket) => std::future::pending().await,
                Err(error) => error,
            }
        } => Err(failed),
    }
}

async fn write(
    mut writer: FrameWriter,
    payload: &Payload,
    window: usize,
    pace: &Pace,
    until: Until,
    flight: &Flight,
    recorder: &Recorder,
) -> Result<impl Sized + use<>> {
    let mut left = match until {
        Until::WindowEnds => u64::MAX,
        Until::Sent(batches) => batches,
    };
    while left > 0 {
        let Some(due_at) = pace.next(recorder).await else { break };
        let room = flight.room(window).await;
        let (due_at, count) = match pace {
            Pace::Closed => (Instant::now(), room),
            Pace::Open(_) => (due_at, 1),
        };
        let count = count.min(usize::try_from(left).unwrap_or(usize::MAX));
        flight.due_at.borrow_mut().extend(std::iter::repeat_n(due_at, count));
        writer.send(&payload.frame, count).await?;
        left -= count as u64;
    }
    writer.finish().await
}

async fn acknowledge(
    mut reader: MessageReader,
    payload: &Payload,
    flight: &Flight,
    recorder: &Recorder,
) -> Result<u64> {
    let mut end = 0;
    while reader.fill().await? {
        while let Some(message) = reader.next_message()? {
            let ack = reader.ack(&message, payload.size.records)?;
            if ack.start < end {
                return Err(ClientError::Wrong("an ack that goes backwards"));
            }
            end = ack.end;
            let due_at = flight.due_at.borrow_mut().pop_front().ok_or(ClientError::Wrong("an ack of nothing"))?;
            recorder.succeeded(due_at, payload.size);
        }
        flight.landed.notify_one();
    }
    if flight.due_at.borrow().is_empty() { Ok(end) } else { Err(ClientError::Closed) }
}
