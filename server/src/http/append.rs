//! POST records: one batch, or the opening of a session (s2-wire.md 1.4, 1.6, 4.3).

use std::rc::Rc;
use std::sync::Arc;

use api::negotiate::{self, AppendKind, Wire};
use api::{ApiError, AppendAck, AppendConditions, Code, json, proto};
use engine::event::{Append, Appended, BasinInfo, Op, Reply, StreamSpec, Target};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use hyper::body::Incoming;
use model::{BasinName, Batch, Failure, Operation, Rejected, ShardId, StreamConfig, StreamName, Unavailable};

use super::answer::{self, Answer, header};
use super::append_session::AppendSession;
use super::append_wire::AppendWire;
use super::limits::{self, BodyLimit, JSON_BYTES_MAX, PROTO_BYTES_MAX, WholeBody, read_body};
use super::payload::Kind;
use super::watch::Connection;
use super::{Front, route};
use crate::access::Access;
use crate::access::guard::Guard;
use crate::encryption::{self, Sealer};
use crate::meters::Meter;
use crate::resource::basins::create_first_basin;
use crate::router::{not_deleting, stream_spec};
use crate::store::unexpected;

/// POST `/streams/{stream}/records`. Returns the row of the metrics beside the answer.
///
/// # Errors
/// As the spec says; once a session is open its errors are part of its body.
pub(crate) async fn append(
    front: &Rc<Front>,
    connection: &Rc<Connection>,
    parts: &Parts,
    body: Incoming,
    stream: Result<(Arc<BasinInfo>, StreamName), ApiError>,
    access: &Access,
) -> Result<(usize, Answer), ApiError> {
    let headers = &parts.headers;
    let kind =
        negotiate::append_kind(header(headers, http::header::CONTENT_TYPE), header(headers, http::header::ACCEPT));
    let (input, output) = match kind {
        Ok(AppendKind::Unary { input, output }) => (input, output),
        Ok(AppendKind::S2s) => {
            return match open_session(front, connection, headers, body, stream, access).await {
                Ok(answer) => Ok((route::APPEND_SESSION_ROW, answer)),
                Err((body, error)) => {
                    tokio::task::spawn_local(limits::drain(body));
                    Err(error)
                }
            };
        }
        Err(error) => {
            tokio::task::spawn_local(limits::drain(body));
            return Err(error);
        }
    };
    let limit = match input {
        Wire::Json => BodyLimit { bytes_max: JSON_BYTES_MAX, code: Code::BadJson },
        Wire::Proto => BodyLimit { bytes_max: PROTO_BYTES_MAX, code: Code::BadProto },
    };
    let body = whole_body(front, connection, headers, body, limit).await?;
    let stream = stream?;
    let opening = Opening::of(headers, access)?;
    let input = match input {
        Wire::Json => json::append_input(&body.bytes, negotiate::format(header(headers, "s2-format"))?)?,
        Wire::Proto => proto::append_input(body.bytes)?,
    };
    let ack = ack(&append_batch(front, connection, &stream, &opening, input).await?);
    let body = match output {
        Wire::Json => json::append_ack(&ack).into_bytes(),
        Wire::Proto => proto::append_ack(&ack),
    };
    Ok((6, answer::full(StatusCode::OK, output.content_type(), body)))
}

/// POST `/{basin}/{stream}`, whatever its content type is. A basin that is missing, and may be, is made.
///
/// # Errors
/// As an append.
pub(crate) async fn first_form(
    front: &Rc<Front>,
    connection: &Rc<Connection>,
    parts: &Parts,
    body: Incoming,
    (missing, locate): (Option<BasinName>, impl FnOnce() -> Result<(Arc<BasinInfo>, StreamName), ApiError>),
    access: &Access,
) -> Result<Answer, ApiError> {
    let headers = &parts.headers;
    let limit = BodyLimit { bytes_max: JSON_BYTES_MAX, code: Code::BadJson };
    let body = whole_body(front, connection, headers, body, limit).await?;
    let opening = Opening::of(headers, access)?;
    let input = json::first_form_input(&body.bytes);
    if let Some(basin) = missing {
        input.as_ref().map_err(Clone::clone)?;
        front.meters.account(Meter::operation(Operation::CreateBasin));
        create_first_basin(&front.store, basin).await?;
    }
    let stream = locate()?;
    let input = input?;
    let appended = append_batch(front, connection, &stream, &opening, input).await?;
    Ok(answer::json(StatusCode::OK, json::first_form_ack(&ack(&appended))))
}

/// Reads the body before anything is refused, so that the connection stays usable.
async fn whole_body(
    front: &Front,
    connection: &Rc<Connection>,
    headers: &HeaderMap,
    body: Incoming,
    limit: BodyLimit,
) -> Result<WholeBody, ApiError> {
    let encoding = negotiate::content_encoding(header(headers, http::header::CONTENT_ENCODING));
    let body = read_body(front, connection, body, encoding.clone().unwrap_or_default(), limit).await?;
    encoding?;
    Ok(body)
}

/// What is known of an append beside its records.
pub(crate) struct Opening<'a> {
    headers: &'a HeaderMap,
    access: &'a Access,
    config: StreamConfig,
}

impl<'a> Opening<'a> {
    /// By the headers or the metadata of its request.
    ///
    /// # Errors
    /// 400 `bad_header`.
    pub(crate) fn of(headers: &'a HeaderMap, access: &'a Access) -> Result<Self, ApiError> {
        encryption::check_header(headers)?;
        Ok(Self { headers, access, config: stream_config_header(headers)? })
    }
}

/// Appends one batch and waits until it is durable.
///
/// # Errors
/// As the spec says.
pub(crate) async fn append_batch(
    front: &Rc<Front>,
    connection: &Connection,
    (basin, stream): &(Arc<BasinInfo>, StreamName),
    opening: &Opening<'_>,
    (batch, conditions): (Batch, AppendConditions),
) -> Result<Appended, ApiError> {
    opening.access.permit_batch(&batch)?;
    not_deleting(basin)?;
    let metered_bytes = batch.metered_bytes().into();
    front.limits.admit(&front.limits.subject(opening.access.token_id(), &basin.name, stream), metered_bytes)?;
    let create = creates(basin, opening.access).then(|| stream_spec(basin, &opening.config));
    let (shard, target) = front.router.target(basin, stream.clone());
    let appended = append_sealed(front, opening.headers, (shard, target), (batch, conditions), create).await?;
    front.metrics.appended(&appended, front.store.now_us());
    front.meters.appended((basin.id, &basin.name), &connection.counted, &appended, metered_bytes);
    Ok(appended)
}

/// Whether an append to a stream that is missing creates it: the basin says so, and needs `append` alone. Who may only trim
/// or fence creates nothing.
fn creates(basin: &BasinInfo, access: &Access) -> bool {
    basin.config.create_stream_on_append && access.may(Operation::Append)
}

/// Appends one batch, sealed for the cipher of whatever stream has the name when it arrives. The cipher of a stream that
/// exists is its own, not the basin's, so the shard has the last word: it takes a batch only under the stream's cipher, and
/// else says which that is.
///
/// # Errors
/// As the spec says.
pub(crate) async fn append_sealed(
    front: &Front,
    headers: &HeaderMap,
    (shard, target): (ShardId, Target),
    (batch, conditions): (Batch, AppendConditions),
    create: Option<StreamSpec>,
) -> Result<Appended, ApiError> {
    let AppendConditions { match_seq_num, fencing_token } = conditions;
    // Whoever sends a key, or creates a stream with a cipher, asks first: its records leave the front sealed only.
    if !encryption::has_key(headers) && create.as_ref().is_none_or(|spec| spec.cipher.is_none()) {
        // Without a key there is one try: it needs no copy of the batch.
        let append = Append { target: target.clone(), batch, match_seq_num, fencing_token, create, session: None };
        let reply = front.store.ask(shard, Op::Append(append)).await?;
        if let Reply::OtherCipher(stream, cipher) = reply {
            encryption::sealer(headers, cipher, &target, stream)?;
            unreachable!("a clear batch is given back by a stream with a cipher only, and there is no key");
        }
        let Reply::Appended(appended) = reply else { unexpected("an append", &reply) };
        return Ok(appended);
    }
    let mut found = None;
    for _ in 0..CIPHER_TRIES_MAX {
        if found.is_none() {
            let op = Op::OpenSession { target: target.clone(), create: create.clone() };
            let reply = front.store.ask(shard, op).await?;
            let Reply::Opened(stream, cipher) = reply else { unexpected("the opening of a session", &reply) };
            found = Some((stream, cipher));
        }
        let (incarnation, cipher) = found.map_or((None, None), |(stream, cipher)| (Some(stream), cipher));
        let sealed = match incarnation {
            Some(stream) => encryption::sealer(headers, cipher, &target, stream)?.map(|sealer| sealer.seal(&batch)),
            None => None,
        };
        let batch = sealed.transpose()?.unwrap_or_else(|| batch.clone());
        // A sealed batch is for this incarnation and no other; a clear one is for whatever is there.
        let incarnation = incarnation.filter(|_| cipher.is_some());
        let target = Target { incarnation, ..target.clone() };
        let (fencing_token, create) = (fencing_token.clone(), create.clone());
        let append = Append { target, batch, match_seq_num, fencing_token, create, session: None };
        match front.store.ask(shard, Op::Append(append)).await {
            Ok(Reply::Appended(appended)) => return Ok(appended),
            Ok(Reply::OtherCipher(stream, cipher)) => found = Some((stream, cipher)),
            Ok(reply) => unexpected("an append", &reply),
            // The incarnation it was sealed for is gone; another may have its name.
            Err(Failure::Rejected(Rejected::StreamNotFound(..))) if incarnation.is_some() => found = None,
            Err(failure) => return Err(failure.into()),
        }
    }
    Err(Failure::from(Unavailable::Conflict).into())
}

/// The ack of a durable append.
#[must_use]
pub(crate) const fn ack(appended: &Appended) -> AppendAck {
    AppendAck { start: appended.start, end: appended.end, tail: appended.tail }
}

/// Resolves the stream: after this the answer is 200, before any frame has come. An error comes with the body, which
/// is still to be read.
async fn open_session(
    front: &Rc<Front>,
    connection: &Rc<Connection>,
    headers: &HeaderMap,
    body: Incoming,
    stream: Result<(Arc<BasinInfo>, StreamName), ApiError>,
    access: &Access,
) -> Result<Answer, (Incoming, ApiError)> {
    let opened = async {
        let stream = stream?;
        let opening = Opening::of(headers, access)?;
        not_deleting(&stream.0)?;
        let place = front.sessions.enter(&front.watch, connection)?.guarded(Guard::new(&front.gate, access));
        let (basin, name) = &stream;
        let place = place.seated(front.limits.seat_for(access.token_id(), &basin.name, name)?);
        Ok((place, resolve(front, stream, &opening).await?))
    };
    match opened.await {
        Ok((place, (at, sealer))) => {
            let body = (body, AppendWire::s2s());
            let session = AppendSession::new(front, connection, place, at, (access, sealer), body);
            Ok(answer::streaming("s2s/proto", Kind::Append(Box::new(session))))
        }
        Err(error) => Err((body, error)),
    }
}

/// Finds or creates the stream of a session, and takes its key where it has a cipher.
///
/// # Errors
/// As the spec says.
pub(crate) async fn resolve(
    front: &Front,
    (basin, stream): (Arc<BasinInfo>, StreamName),
    opening: &Opening<'_>,
) -> Result<((ShardId, Target), Option<Sealer>), ApiError> {
    not_deleting(&basin)?;
    let create = creates(&basin, opening.access).then(|| stream_spec(&basin, &opening.config));
    let (shard, target) = front.router.target(&basin, stream);
    let reply = front.store.ask(shard, Op::OpenSession { target: target.clone(), create }).await?;
    let Reply::Opened(incarnation, cipher) = reply else { unexpected("the opening of a session", &reply) };
    let sealer = encryption::sealer(opening.headers, cipher, &target, incarnation)?;
    Ok(((shard, Target { incarnation: Some(incarnation), ..target }), sealer))
}

/// What `s2-stream-config` sets for a stream that this request creates.
///
/// # Errors
/// 400 `bad_header`.
pub(crate) fn stream_config_header(headers: &HeaderMap) -> Result<StreamConfig, ApiError> {
    match headers.get("s2-stream-config") {
        None => Ok(StreamConfig::default()),
        Some(value) => {
            let text = std::str::from_utf8(value.as_bytes());
            let text = text.map_err(|_| {
                ApiError::new(Code::BadHeader, "Invalid header `s2-stream-config`: invalid JSON: not UTF-8")
            })?;
            json::stream_config_header(text)
        }
    }
}

/// How often a batch is sealed anew because its name went to a stream with another cipher meanwhile.
const CIPHER_TRIES_MAX: usize = 4;
