//! The body of an append session (s2-wire.md 2.7, 5.4): takes inputs from the request, appends them in order, and gives
//! acks in the same order, many at a time.
//!
//! It is driven by whoever sends the answer: when the client takes no acks, nothing is polled, and so nothing is read.
//! Promises: acks come strictly in input order; the first failure comes behind all earlier acks, and
//! nothing after it is applied (the shard poisons the session); dropping it tells the shard.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use api::ApiError;
use bytes::{Bytes, BytesMut};
use engine::event::{Append, Op, Reply, SessionId, Target};
use http_body::Body;
use hyper::body::Incoming;
use model::{Failure, ShardId, Unavailable};

use super::append::ack;
use super::append_wire::{self, AppendWire};
use super::in_line::InLine;
use super::limits::{self, Reserved};
use super::session::Place;
use super::watch::Connection;
use super::{Front, Phase};
use crate::access::Access;
use crate::admission::Subject;
use crate::encryption::Sealer;
use crate::store::{Pending, unexpected};

/// Metered bytes of a session that are not acknowledged; beyond it reads nothing more.
const IN_FLIGHT_BYTES_MAX: u64 = 8 << 20;
/// Inputs of a session that are not acknowledged; beyond it reads nothing more.
const IN_FLIGHT_MAX: usize = 4096;
/// Acks that are sent as one piece, in bytes.
const ACKS_BYTES_MAX: usize = 32 << 10;

/// A session that appends.
pub(crate) struct AppendSession {
    front: Rc<Front>,
    connection: Rc<Connection>,
    place: Place,
    access: Access,
    subject: Subject,
    id: SessionId,
    shard: ShardId,
    target: Target,
    sealer: Option<Sealer>,
    input: Input,
    wire: AppendWire,
    /// An input that a limit makes wait. Nothing more is read meanwhile, so the client is slowed down.
    held: Option<(Op, Inputs, InLine)>,
    /// An input that found the lane full.
    refused: Option<(Op, Inputs)>,
    in_flight: VecDeque<(Pending, Inputs)>,
    in_flight_bytes: u64,
    /// The error that ends the session once all earlier inputs are acknowledged.
    ending: Option<ApiError>,
    /// The error that has ended it.
    ended: Option<ApiError>,
    over: bool,
}

/// One input's share of what is bounded.
struct Inputs {
    metered_bytes: u64,
    _reserved: Reserved,
}

/// The request's body.
enum Input {
    Open(Incoming),
    /// Everything was read.
    Ended,
}

impl AppendSession {
    /// A session on an opened stream.
    #[must_use]
    pub(crate) fn new(
        front: &Rc<Front>,
        connection: &Rc<Connection>,
        place: Place,
        (shard, target): (ShardId, Target),
        (access, sealer): (&Access, Option<Sealer>),
        (body, wire): (Incoming, AppendWire),
    ) -> Self {
        Self {
            front: Rc::clone(front),
            connection: Rc::clone(connection),
            subject: place.subject(),
            place,
            access: access.clone(),
            id: front.store.new_session(),
            shard,
            target,
            sealer,
            input: Input::Open(body),
            wire,
            held: None,
            refused: None,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            ending: None,
            ended: None,
            over: false,
        }
    }

    /// The error that has ended the session.
    pub(crate) fn take_ended(&mut self) -> Option<ApiError> {
        self.ended.take()
    }

    /// The next bytes of the body.
    pub(crate) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.place.polled(cx);
        if self.over {
            return Poll::Ready(None);
        }
        self.take_input(cx);
        let mut piece = self.take_acks(cx);
        if self.in_flight.is_empty() && self.refused.is_none() {
            if let Some(error) = self.ending.take() {
                self.wire.put_end(&mut piece, &error);
                self.ended = Some(error);
                self.over = true;
            } else if matches!(self.input, Input::Ended) {
                self.over = true;
            }
        }
        if !piece.is_empty() {
            self.place.gave();
            return Poll::Ready(Some(piece.freeze()));
        }
        if self.over { Poll::Ready(None) } else { Poll::Pending }
    }

    /// Reads and submits until something is missing: bytes, room, or a reason to go on.
    fn take_input(&mut self, cx: &mut Context<'_>) {
        if self.front.phase.get() >= Phase::Ending && matches!(self.input, Input::Open(_)) {
            self.end_with(Failure::from(Unavailable::Draining).into());
        }
        if matches!(self.input, Input::Open(_))
            && let Err(error) = self.place.check()
        {
            // What was appended before is still acknowledged.
            self.end_with(error);
        }
        if let Some((op, inputs)) = self.refused.take() {
            self.submit(op, inputs, cx);
        }
        if let Some((op, inputs, turn)) = self.held.take() {
            self.admit(op, inputs, turn, cx);
        }
        while self.ending.is_none() && self.refused.is_none() && self.held.is_none() && self.has_room() {
            let Input::Open(body) = &mut self.input else { return };
            match self.wire.next_input() {
                Ok(Some(input)) => self.append(input, cx),
                Err(error) => self.end_with(error),
                Ok(None) => match Pin::new(body).poll_frame(cx) {
                    Poll::Pending => return,
                    Poll::Ready(Some(Ok(frame))) => {
                        if let Ok(data) = frame.into_data() {
                            self.wire.push(data);
                        }
                    }
                    Poll::Ready(None) => {
                        let finished = self.wire.finish();
                        self.input = Input::Ended;
                        if let Err(error) = finished {
                            self.end_with(error);
                        }
                    }
                    // The client has gone, or broke off this stream: it gets what acks it may still take.
                    Poll::Ready(Some(Err(_))) => self.input = Input::Ended,
                },
            }
        }
    }

    /// Whether another input may come. One always may, so that a full front goes on, if slowly.
    fn has_room(&self) -> bool {
        self.in_flight.is_empty()
            || (self.in_flight.len() < IN_FLIGHT_MAX
                && self.in_flight_bytes < IN_FLIGHT_BYTES_MAX
                && self.front.budgets.bodies.has_room())
    }

    fn append(&mut self, (mut bytes, mut batch, conditions): append_wire::Input, cx: &mut Context<'_>) {
        if let Err(error) = self.access.permit_batch(&batch) {
            return self.end_with(error);
        }
        if let Some(sealer) = &self.sealer {
            batch = match sealer.seal(&batch) {
                Ok(sealed) => sealed,
                Err(error) => return self.end_with(error),
            };
            bytes = batch.bytes().len();
        }
        let inputs =
            Inputs { metered_bytes: batch.metered_bytes().into(), _reserved: self.front.budgets.bodies.take(bytes) };
        let op = Op::Append(Append {
            target: self.target.clone(),
            batch,
            match_seq_num: conditions.match_seq_num,
            fencing_token: conditions.fencing_token,
            create: None,
            session: Some(self.id),
        });
        self.admit(op, inputs, InLine::default(), cx);
    }

    /// Submits an input as soon as the limits of token, basin and stream permit.
    fn admit(&mut self, op: Op, inputs: Inputs, mut turn: InLine, cx: &mut Context<'_>) {
        match turn.poll_admitted(&self.front.limits, &self.subject, inputs.metered_bytes, cx) {
            Poll::Ready(Ok(())) => self.submit(op, inputs, cx),
            Poll::Ready(Err(limited)) => self.end_with(limited.into()),
            Poll::Pending => self.held = Some((op, inputs, turn)),
        }
    }

    fn submit(&mut self, op: Op, inputs: Inputs, cx: &Context<'_>) {
        match self.front.store.submit(self.shard, op) {
            Ok(pending) => {
                self.in_flight_bytes += inputs.metered_bytes;
                self.in_flight.push_back((pending, inputs));
            }
            Err(op) => {
                self.front.store.wait_for_room(cx);
                self.refused = Some((op, inputs));
            }
        }
    }

    /// All acks that are ready, as frames.
    fn take_acks(&mut self, cx: &mut Context<'_>) -> BytesMut {
        let mut acks = BytesMut::new();
        let reconnect_advised = self.front.phase.get() > Phase::Serving;
        while let Some((pending, inputs)) = self.in_flight.front_mut() {
            let Poll::Ready(reply) = Pin::new(pending).poll(cx) else { break };
            let metered_bytes = inputs.metered_bytes;
            self.in_flight_bytes -= metered_bytes;
            self.in_flight.pop_front();
            if let Reply::Failed(failure) = reply {
                self.fail(failure);
                break;
            }
            let Reply::Appended(appended) = reply else { unexpected("an append", &reply) };
            self.front.metrics.appended(&appended, self.front.store.now_us());
            let basin = (self.target.basin_id, &self.target.basin);
            self.front.meters.appended(basin, &self.connection.counted, &appended, metered_bytes);
            self.wire.put_ack(&mut acks, &ack(&appended), reconnect_advised);
            if acks.len() >= ACKS_BYTES_MAX {
                break;
            }
        }
        acks
    }

    /// An input failed. Whatever was sent after it is poisoned; nobody hears of it.
    fn fail(&mut self, failure: Failure) {
        self.in_flight.clear();
        self.in_flight_bytes = 0;
        self.refused = None;
        self.ending = None;
        self.end_with(failure.into());
    }

    /// Takes nothing more from the client; the first error counts. An input that waits for a limit was not admitted.
    fn end_with(&mut self, error: ApiError) {
        self.held = None;
        self.ending.get_or_insert(error);
        if let Input::Open(body) = std::mem::replace(&mut self.input, Input::Ended) {
            tokio::task::spawn_local(limits::drain(body));
        }
    }
}

impl Drop for AppendSession {
    fn drop(&mut self) {
        self.front.store.end_session(self.shard, self.id);
    }
}
