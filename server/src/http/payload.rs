//! The body of an answer: nothing, some bytes, or a session that is pulled piece by piece as the client takes them.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::append_session::AppendSession;
use super::limits::Reserved;
use super::read_session::ReadSession;
use super::watch::OpenRequest;
use crate::grpc::body::GrpcBody;

/// The body of an answer. Dropped when the answer is finished or its client has gone.
pub(crate) struct Payload {
    kind: Kind,
    /// The request this answers.
    open: Option<OpenRequest>,
    /// The memory that its bytes are counted under.
    reserved: Option<Reserved>,
}

/// What it is made of.
pub(crate) enum Kind {
    /// No bytes (any more).
    Empty,
    /// These bytes.
    Full(Bytes),
    /// Acks, as appends become durable.
    Append(Box<AppendSession>),
    /// Records, as they come.
    Read(Box<ReadSession>),
    /// Messages and trailers.
    Grpc(Box<GrpcBody>),
}

impl Payload {
    /// A body of this kind.
    #[must_use]
    pub(crate) const fn new(kind: Kind) -> Self {
        Self { kind, open: None, reserved: None }
    }

    /// Keeps `reserved` until the bytes are sent.
    pub(crate) fn keep(&mut self, reserved: Reserved) {
        self.reserved = Some(reserved);
    }

    /// What it is made of.
    #[must_use]
    pub(crate) const fn kind(&self) -> &Kind {
        &self.kind
    }

    /// The same with other bytes.
    #[must_use]
    pub(crate) fn with(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }

    /// The same, kept as the end of `open`.
    #[must_use]
    pub(crate) fn of_request(mut self, mut open: OpenRequest) -> Self {
        let is_whole = match &self.kind {
            Kind::Full(_) => true,
            Kind::Grpc(body) => body.is_whole(),
            Kind::Empty | Kind::Append(_) | Kind::Read(_) => false,
        };
        if is_whole {
            open.answered();
        }
        self.open = Some(open);
        self
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = match &mut self.kind {
            Kind::Empty => Poll::Ready(None),
            Kind::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.kind = Kind::Empty;
                Poll::Ready(Some(bytes))
            }
            Kind::Append(session) => session.poll_piece(cx),
            Kind::Read(session) => session.poll_piece(cx),
            Kind::Grpc(body) => return body.poll_frame(cx).map(|frame| frame.map(Ok)),
        };
        piece.map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.kind, Kind::Empty)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Append(_) | Kind::Read(_) | Kind::Grpc(_) => SizeHint::default(),
        }
    }
}
