//! The body of a reading session: what its cursor yields, as s2s frames, server-sent events or gRPC messages
//! (s2-wire.md 2.6, 3, 5.4).
//!
//! Bounded: it holds one chunk that is being sent and one that is fetched ahead, and is polled only as fast as its
//! client takes what it gives.

use std::rc::Rc;
use std::task::{Context, Poll};

use api::compression::Compressor;
use api::grpc::read as grpc;
use api::s2s::{self, Flags};
use api::sse::{self, EventId};
use api::{ApiError, Compression, Format};
use bytes::Bytes;
use engine::event::ReadBatch;
use model::stored::tail_field;
use model::{BasinId, BasinName, Failure, Position, Unavailable};

use super::cursor::{Cursor, Step};
use super::pieces::Pieces;
use super::session::Place;
use super::{Front, Phase};
use crate::clock::now_ms;
use crate::encryption::Sealer;
use crate::meters::Meter;

/// Once this much is ready to be sent, nothing more is encoded.
const READY_BYTES_MAX: usize = 128 << 10;

/// A session that reads.
pub(crate) struct ReadSession {
    front: Rc<Front>,
    basin: (BasinId, BasinName),
    /// The last minute that was metered as a read operation.
    counted_minute: u32,
    place: Place,
    cursor: Cursor,
    sealer: Option<Sealer>,
    wire: Wire,
    pieces: Pieces,
    over: bool,
    /// The error that has ended it.
    ended: Option<ApiError>,
    told_to_reconnect: bool,
}

/// How a session looks on the wire.
pub(crate) enum Wire {
    /// Frames.
    S2s(Compression, Compressor),
    /// Server-sent events, and how much was delivered.
    Sse(Format, EventId),
    /// Messages of `ReadSession`.
    Grpc(Responses),
}

/// What is kept for the messages of a `ReadSession`.
pub(crate) struct Responses {
    /// How they are compressed.
    pub(crate) compressor: Compressor,
    /// Whether the client wants to hear that nothing is new.
    pub(crate) heartbeats: bool,
    /// Whether any record was sent.
    pub(crate) has_records: bool,
}

impl ReadSession {
    /// A session from where `cursor` is.
    #[must_use]
    pub(crate) fn new(
        front: &Rc<Front>,
        basin: (BasinId, BasinName),
        place: Place,
        cursor: Cursor,
        sealer: Option<Sealer>,
        wire: Wire,
    ) -> Self {
        Self {
            front: Rc::clone(front),
            basin,
            counted_minute: 0,
            place,
            cursor,
            sealer,
            wire,
            pieces: Pieces::default(),
            over: false,
            ended: None,
            told_to_reconnect: false,
        }
    }

    /// The next bytes of the body.
    pub(crate) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.place.polled(cx);
        self.notice_phase();
        self.count_minute();
        if !self.over
            && let Err(error) = self.place.check()
        {
            self.fail(&error);
        }
        while !self.over && self.pieces.len() < READY_BYTES_MAX {
            match self.cursor.poll_step(cx) {
                Poll::Ready(step) => self.encode(step),
                Poll::Pending => break,
            }
        }
        match self.pieces.pop() {
            Some(piece) => {
                self.place.gave();
                Poll::Ready(Some(piece))
            }
            None if self.over => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    /// Heartbeats let it be called in every minute.
    fn count_minute(&mut self) {
        let minute = self.front.meters.minute();
        if std::mem::replace(&mut self.counted_minute, minute) != minute {
            self.meter(Meter::READ_STREAMING, 1);
        }
    }

    fn meter(&self, meter: Meter, n: u64) {
        self.front.meters.basin((self.basin.0, &self.basin.1), meter, n);
    }

    fn notice_phase(&mut self) {
        match self.front.phase.get() {
            Phase::Serving => {}
            Phase::Draining => {
                if !std::mem::replace(&mut self.told_to_reconnect, true) {
                    self.cursor.heartbeat_now();
                }
            }
            Phase::Ending | Phase::Closing => {
                if !self.over {
                    self.fail(&Failure::from(Unavailable::Draining).into());
                }
            }
        }
    }

    fn encode(&mut self, step: Step) {
        match step {
            Step::Batch(batch, tail) => match self.sealer.as_ref().map(|sealer| sealer.open(&batch)) {
                None => self.batch(&batch, tail),
                Some(Ok(opened)) => self.batch(&opened, tail),
                Some(Err(error)) => self.fail(&error),
            },
            Step::Heartbeat(tail) => self.heartbeat(tail),
            Step::End => {
                self.over = true;
                match &mut self.wire {
                    Wire::S2s(..) => {}
                    Wire::Sse(..) => self.pieces.copy(sse::DONE.as_bytes()),
                    Wire::Grpc(responses) => {
                        // Who got nothing is told where the stream goes on.
                        if let (false, Some(tail)) = (responses.has_records, self.cursor.reached_tail()) {
                            self.pieces.put(grpc::tail_response(tail).framed(&mut responses.compressor).into());
                        }
                    }
                }
            }
            Step::Failed(failure) => self.fail(&failure.into()),
        }
    }

    fn batch(&mut self, batch: &ReadBatch, tail: Option<Position>) {
        self.meter(Meter::READ_BYTES, batch.metered_bytes);
        match &mut self.wire {
            Wire::S2s(compression, compressor) => {
                let tail = tail.map(tail_field).unwrap_or_default();
                let reconnect_advised = self.told_to_reconnect;
                if *compression != Compression::None {
                    let mut parts: Vec<&[u8]> = batch.runs.iter().map(|run| &**run).collect();
                    parts.push(&tail);
                    if let Some(payload) = compressor.compress(&parts) {
                        let flags = Flags { compression: *compression, reconnect_advised };
                        self.pieces.copy(&s2s::frame_header(payload.len(), flags));
                        self.pieces.put(payload.into());
                        return;
                    }
                }
                let len = batch.runs.iter().map(Bytes::len).sum::<usize>() + tail.len();
                self.pieces.copy(&s2s::frame_header(len, Flags { compression: Compression::None, reconnect_advised }));
                for run in &batch.runs {
                    self.pieces.put(run.clone());
                }
                self.pieces.copy(&tail);
            }
            Wire::Sse(format, delivered) => {
                let runs: Vec<&[u8]> = batch.runs.iter().map(|run| &**run).collect();
                match sse::batch(&runs, tail, *format, delivered) {
                    Ok(event) => self.pieces.put(event.into()),
                    Err(failure) => {
                        tracing::error!("a stored batch cannot be decoded: {failure:?}");
                        self.fail(&failure.into());
                    }
                }
            }
            Wire::Grpc(responses) => match grpc::batch_response(&batch.runs) {
                Ok(response) => {
                    responses.has_records = true;
                    self.pieces.put(response.framed(&mut responses.compressor).into());
                }
                Err(_) => self.fail(&grpc_damage()),
            },
        }
    }

    fn heartbeat(&mut self, tail: Position) {
        match &mut self.wire {
            Wire::S2s(..) => {
                let payload = tail_field(tail);
                let flags = Flags { compression: Compression::None, reconnect_advised: self.told_to_reconnect };
                self.pieces.copy(&s2s::frame_header(payload.len(), flags));
                self.pieces.copy(&payload);
            }
            Wire::Sse(..) => {
                self.pieces.copy(sse::ping(now_ms(), tail).as_bytes());
            }
            Wire::Grpc(responses) if responses.heartbeats => {
                self.pieces.copy(&grpc::heartbeat_response().framed(&mut responses.compressor));
            }
            Wire::Grpc(_) => {}
        }
    }

    fn fail(&mut self, error: &ApiError) {
        self.over = true;
        match self.wire {
            Wire::S2s(..) => self.pieces.put(s2s::terminal(error)),
            Wire::Sse(..) => self.pieces.copy(sse::error(error).as_bytes()),
            // It comes in trailers.
            Wire::Grpc(_) => {}
        }
        self.ended = Some(error.clone());
    }

    /// The error that has ended the session.
    pub(crate) fn take_ended(&mut self) -> Option<ApiError> {
        self.ended.take()
    }
}

/// A stored batch cannot be decoded.
pub(crate) fn grpc_damage() -> ApiError {
    let what = "a stored batch cannot be decoded";
    tracing::error!("{what}");
    Failure::Corrupt(what.into()).into()
}
