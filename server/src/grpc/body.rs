//! The body of an answer to a call: messages, then trailers with its status. It ends by itself when the time that the
//! client gave is over.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use api::ApiError;
use api::grpc::status::Status;
use bytes::Bytes;
use http_body::Frame;
use tokio::time::{Instant, Sleep};

use super::foreign::Foreign;
use super::opening::Opening;
use super::refused::{Refused, trailers};
use crate::access::Access;
use crate::http::append_session::AppendSession;
use crate::http::read_session::ReadSession;

/// The body of an answer.
pub(crate) struct GrpcBody {
    kind: Kind,
    /// Fires when the client gives up. A single answer has none: it is there.
    deadline: Option<Pin<Box<Sleep>>>,
    access: Access,
}

/// What it is made of.
pub(crate) enum Kind {
    /// One message.
    Whole(Bytes),
    /// An append session whose first message has not come.
    Opening(Box<Opening>),
    /// Acks, as appends become durable.
    Append(Box<AppendSession>),
    /// Records, as they come.
    Read(Box<ReadSession>),
    /// What another service says.
    Foreign(Box<Foreign>),
    /// Only the trailers are missing.
    Ending(Status),
    /// Nothing any more.
    Over,
}

/// What comes next of a body.
enum Next {
    Piece(Bytes),
    End(Option<ApiError>),
    Becomes(Kind),
}

impl GrpcBody {
    /// A body that ends at `deadline`.
    #[must_use]
    pub(crate) fn new(kind: Kind, deadline: Option<Instant>, access: &Access) -> Self {
        let deadline = match kind {
            Kind::Whole(_) | Kind::Ending(_) | Kind::Over => None,
            Kind::Opening(_) | Kind::Append(_) | Kind::Read(_) | Kind::Foreign(_) => deadline,
        };
        let deadline = deadline.map(|at| Box::pin(tokio::time::sleep_until(at)));
        Self { kind, deadline, access: access.clone() }
    }

    /// Whether it is there, and only has to be taken.
    #[must_use]
    pub(crate) const fn is_whole(&self) -> bool {
        match self.kind {
            Kind::Whole(_) | Kind::Ending(_) | Kind::Over => true,
            Kind::Opening(_) | Kind::Append(_) | Kind::Read(_) | Kind::Foreign(_) => false,
        }
    }

    /// The next frame.
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Frame<Bytes>>> {
        loop {
            if let Some(deadline) = &mut self.deadline
                && deadline.as_mut().poll(cx).is_ready()
            {
                self.too_late();
            }
            let next = match &mut self.kind {
                Kind::Over => return Poll::Ready(None),
                Kind::Ending(status) => {
                    self.access.message_out(&mut status.message);
                    let trailers = trailers(status);
                    self.kind = Kind::Over;
                    return Poll::Ready(Some(Frame::trailers(trailers)));
                }
                Kind::Foreign(foreign) => {
                    let frame = std::task::ready!(foreign.poll_frame(cx));
                    match frame {
                        Ok(frame) => return Poll::Ready(frame),
                        Err(error) => Poll::Ready(Next::End(Some(error))),
                    }
                }
                Kind::Whole(message) => {
                    let message = std::mem::take(message);
                    self.kind = Kind::Ending(Status::OK);
                    return Poll::Ready(Some(Frame::data(message)));
                }
                Kind::Opening(opening) => opening.poll(cx).map(|opened| match opened {
                    Ok(Some(session)) => Next::Becomes(Kind::Append(session)),
                    Ok(None) => Next::End(None),
                    Err(error) => Next::End(Some(error)),
                }),
                Kind::Append(session) => session.poll_piece(cx).map(|piece| match piece {
                    Some(piece) => Next::Piece(piece),
                    None => Next::End(session.take_ended()),
                }),
                Kind::Read(session) => session.poll_piece(cx).map(|piece| match piece {
                    Some(piece) => Next::Piece(piece),
                    None => Next::End(session.take_ended()),
                }),
            };
            match std::task::ready!(next) {
                Next::Piece(piece) => return Poll::Ready(Some(Frame::data(piece))),
                Next::Becomes(kind) => self.kind = kind,
                Next::End(error) => self.end(error.map_or(Status::OK, |error| Status::from(&error))),
            }
        }
    }

    fn too_late(&mut self) {
        let may_have_happened = match self.kind {
            Kind::Append(_) => true,
            Kind::Whole(_) | Kind::Opening(_) | Kind::Read(_) | Kind::Foreign(_) | Kind::Ending(_) | Kind::Over => {
                false
            }
        };
        self.end(Refused::too_late(may_have_happened).status);
    }

    /// What is behind is dropped here: sessions end.
    fn end(&mut self, status: Status) {
        self.deadline = None;
        self.kind = Kind::Ending(status);
    }
}
