//! `StreamService`: appends and reads, one by one and in sessions (s2-wire.md 5.4).

use api::compression::Compressor;
use api::grpc::append::{AppendInput, append_request, append_response};
use api::grpc::frame::Outgoing;
use api::grpc::{decode, read as wire, v1alpha};
use api::status::ErrorBody;
use api::{ApiError, Code, Compression};
use bytes::Bytes;
use engine::event::ReadBatch;
use hyper::body::Incoming;
use model::token::Operation;
use v1alpha::{CheckTailRequest, ReadRequest, ReadSessionRequest};

use super::body::Kind;
use super::opening::Opening;
use super::refused::Refused;
use super::{Call, Reply};
use crate::access::guard::Guard;
use crate::http::append::{self, Opening as Conditions, append_batch};
use crate::http::cursor::READ_BATCHES;
use crate::http::read::{self, Found, first_batch};
use crate::http::read_session::{self, Responses};
use crate::meters::Meter;
use crate::router::not_deleting;

/// An append is permitted by any of these; which, its records decide.
const APPENDS: [Operation; 3] = [Operation::Append, Operation::Trim, Operation::Fence];

impl Call<'_> {
    pub(super) async fn check_tail(&self, message: Bytes) -> Result<Reply, Refused> {
        let request: CheckTailRequest = decode(message)?;
        let name = self.stream(&request.stream)?;
        let basin = self.basin(&[Operation::CheckTail], Some(&name))?;
        let tail = self.caller().check_tail(&basin, name).await?;
        let (next_seq_num, last_timestamp) = (tail.seq_num, tail.timestamp);
        Ok(Reply::of(&v1alpha::CheckTailResponse { next_seq_num, last_timestamp }))
    }

    pub(super) async fn append(&self, message: Bytes) -> Result<Reply, Refused> {
        let AppendInput { stream, batch, conditions } = append_request(message)?;
        let name = self.stream(&stream)?;
        let basin = self.basin(&APPENDS, Some(&name))?;
        let opening = Conditions::of(self.headers(), &self.access)?;
        let stream = (basin, name);
        let appended = append_batch(self.front, self.connection, &stream, &opening, (batch, conditions)).await?;
        Ok(Reply::Message(append_response(&append::ack(&appended)), None))
    }

    /// The answer begins at once; the first message says which stream is meant.
    pub(super) fn append_session(&self, body: Incoming, encoding: Compression) -> Result<Kind, Refused> {
        // Which stream it is nobody knows yet; whether that may be used is seen then.
        let basin = self.basin(&APPENDS, None)?;
        Conditions::of(self.headers(), &self.access)?;
        not_deleting(&basin)?;
        let guard = Guard::new(&self.front.gate, &self.access);
        let place = self.front.sessions.enter(&self.front.watch, self.connection)?.guarded(guard);
        let whose = (self.front, self.connection);
        let opening = Opening::new(whose, self.headers(), &self.access, basin, place, (body, encoding));
        Ok(Kind::Opening(Box::new(opening)))
    }

    pub(super) async fn read(&self, message: Bytes) -> Result<Reply, Refused> {
        let request: ReadRequest = decode(message)?;
        let (name, query) = wire::read_request(&request)?;
        let name = self.whole_name(name)?;
        let basin = self.basin(&[Operation::Read], Some(&name))?;
        self.front.meters.basin((basin.id, &basin.name), Meter::READ_UNARY, 1);
        let budget = (1, &self.front.budgets.answers);
        let opened = match read::open(self.front, self.headers(), &basin, name, query.unary(), budget).await {
            Ok(opened) => opened,
            Err(error) => return Ok(Reply::Message(at_tail(error)?, None)),
        };
        let Found { batch, tail: _, nothing_before, mut reserved } = first_batch(self.front, opened).await?;
        let message = match (nothing_before, batch) {
            (Some(tail), _) => wire::tail_response(tail),
            (None, batch) => batch_message(batch.as_ref())?,
        };
        let mut message = message;
        reserved.settle(message.message().len());
        Ok(Reply::Message(message, Some(reserved)))
    }

    pub(super) async fn read_session(&self, message: Bytes) -> Result<Reply, Refused> {
        let request: ReadSessionRequest = decode(message)?;
        let (name, query) = wire::read_session_request(&request)?;
        let name = self.whole_name(name)?;
        let basin = self.basin(&[Operation::Read], Some(&name))?;
        let guard = Guard::new(&self.front.gate, &self.access);
        let place = self.front.sessions.enter(&self.front.watch, self.connection)?.guarded(guard);
        let seat = self.front.limits.seat_for(self.access.token_id(), &basin.name, &name).map_err(ApiError::from)?;
        let place = place.seated(seat);
        let budget = (READ_BATCHES, &self.front.budgets.sessions);
        let opened = match read::open(self.front, self.headers(), &basin, name, query, budget).await {
            Ok(opened) => opened,
            Err(error) => return Ok(Reply::Message(at_tail(error)?, None)),
        };
        let compressor = Compressor::new(self.compression);
        let responses = Responses { compressor, heartbeats: request.heartbeats, has_records: false };
        let wire = read_session::Wire::Grpc(responses);
        let session = read::session(self.front, self.connection, &basin, (place, opened), wire);
        Ok(Reply::Session(Box::new(session)))
    }

    fn whole_name(&self, name: model::StreamName) -> Result<model::StreamName, ApiError> {
        self.access.stream_in(name).map_err(|error| ApiError::new(Code::Invalid, error.0))
    }
}

/// What REST calls an error is an answer here: where the tail is.
fn at_tail(error: ApiError) -> Result<Outgoing, ApiError> {
    match error.body {
        ErrorBody::Unwritten(tail) => Ok(wire::tail_response(tail)),
        ErrorBody::Coded(..) | ErrorBody::FencingTokenMismatch(_) | ErrorBody::SeqNumMismatch(_) => Err(error),
    }
}

fn batch_message(batch: Option<&ReadBatch>) -> Result<Outgoing, ApiError> {
    let runs = batch.map_or(&[][..], |batch| &batch.runs);
    wire::batch_response(runs).map_err(|_| read_session::grpc_damage())
}
