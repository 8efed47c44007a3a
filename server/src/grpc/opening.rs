//! An append session before its first message, which names the stream. The answer has begun by then: clients wait for its
//! head before they send anything.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use api::grpc::append::{AppendInput, append_request};
use api::grpc::frame::MessageDecoder;
use api::grpc::stream_name;
use api::{ApiError, Code, Compression};
use engine::event::{BasinInfo, Target};
use http::HeaderMap;
use http_body::Body;
use hyper::body::Incoming;
use model::token::{On, Operation};
use model::{Failure, ShardId, Unavailable};

use crate::access::Access;
use crate::admission::Seat;
use crate::encryption::Sealer;
use crate::http::append::{Opening as Conditions, resolve};
use crate::http::append_session::AppendSession;
use crate::http::append_wire::AppendWire;
use crate::http::session::Place;
use crate::http::watch::Connection;
use crate::http::{Front, Phase};

/// A session that is being opened.
pub(crate) struct Opening {
    front: Rc<Front>,
    connection: Rc<Connection>,
    headers: HeaderMap,
    access: Access,
    basin: Arc<BasinInfo>,
    /// Until the session takes them over.
    parts: Option<Parts>,
    /// The stream is being looked up, for this first input.
    resolving: Option<(Resolving, (usize, AppendInput))>,
}

struct Parts {
    place: Place,
    body: Incoming,
    decoder: MessageDecoder,
}

type Resolved = Result<(Seat, ((ShardId, Target), Option<Sealer>)), ApiError>;
type Resolving = Pin<Box<dyn Future<Output = Resolved>>>;

impl Opening {
    /// Nothing was read yet.
    #[must_use]
    pub(crate) fn new(
        (front, connection): (&Rc<Front>, &Rc<Connection>),
        headers: &HeaderMap,
        access: &Access,
        basin: Arc<BasinInfo>,
        place: Place,
        (body, encoding): (Incoming, Compression),
    ) -> Self {
        Self {
            front: Rc::clone(front),
            connection: Rc::clone(connection),
            headers: headers.clone(),
            access: access.clone(),
            basin,
            parts: Some(Parts { place, body, decoder: MessageDecoder::new(encoding) }),
            resolving: None,
        }
    }

    /// The session, once its first message has come and its stream is there; none when no message came at all.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Box<AppendSession>>, ApiError>> {
        if self.resolving.is_none() {
            let Some(first) = ready!(self.poll_first(cx))? else { return Poll::Ready(Ok(None)) };
            self.resolving = Some((self.resolve(&first.1)?, first));
        }
        let Some((resolving, _)) = &mut self.resolving else { unreachable!("it was just begun") };
        let (seat, (at, sealer)) = ready!(resolving.as_mut().poll(cx))?;
        let (Some((_, first)), Some(parts)) = (self.resolving.take(), self.parts.take()) else {
            unreachable!("a session is opened once")
        };
        let Parts { place, body, decoder } = parts;
        let place = place.seated(seat);
        let wire = AppendWire::grpc(decoder, first);
        let keys = (&self.access, sealer);
        let session = AppendSession::new(&self.front, &self.connection, place, at, keys, (body, wire));
        Poll::Ready(Ok(Some(Box::new(session))))
    }

    /// The first message, and how many bytes it has.
    fn poll_first(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<(usize, AppendInput)>, ApiError>> {
        let Parts { place, body, decoder } = self.parts.as_mut().expect("it is not open yet");
        place.polled(cx);
        if self.front.phase.get() >= Phase::Ending {
            return Poll::Ready(Err(Failure::from(Unavailable::Draining).into()));
        }
        place.check()?;
        loop {
            if let Some(message) = decoder.next_message()? {
                return Poll::Ready(append_request_of(message).map(Some));
            }
            match ready!(Pin::new(&mut *body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        decoder.push(data);
                    }
                }
                None => return Poll::Ready(decoder.finish().map(|()| None)),
                Some(Err(error)) => {
                    let why = format!("the request body broke off: {error}");
                    return Poll::Ready(Err(ApiError::new(Code::ClientHangup, why)));
                }
            }
        }
    }

    fn resolve(&self, first: &AppendInput) -> Result<Resolving, ApiError> {
        let name = stream_name(&first.stream)?;
        let name = self.access.stream_in(name).map_err(|error| ApiError::new(Code::Invalid, error.0))?;
        let on = On { basin: Some(&self.basin.name), stream: Some(&name), token: None };
        self.access.permit_any(&[Operation::Append, Operation::Trim, Operation::Fence], on)?;
        let seat = self.front.limits.seat_for(self.access.token_id(), &self.basin.name, &name)?;
        let (front, headers, access) = (Rc::clone(&self.front), self.headers.clone(), self.access.clone());
        let stream = (Arc::clone(&self.basin), name);
        Ok(Box::pin(async move {
            let resolved = resolve(&front, stream, &Conditions::of(&headers, &access)?).await?;
            Ok((seat, resolved))
        }))
    }
}

fn append_request_of(message: bytes::Bytes) -> Result<(usize, AppendInput), ApiError> {
    let bytes = message.len();
    Ok((bytes, append_request(message)?))
}
