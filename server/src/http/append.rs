//! POST records: one batch, or the opening of a session (s2-wire.md 1.4, 1.6, 4.3).

use std::rc::Rc;

use api::negotiate::{self, AppendKind, Wire};
use api::{ApiError, AppendAck, AppendConditions, Code, json, proto};
use engine::event::{Append, Appended, BasinInfo, Op, Reply, Target};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use hyper::body::Incoming;
use model::{Batch, Operation, StreamConfig, StreamName};

use super::answer::{self, Answer, header};
use super::append_session::AppendSession;
use super::limits::{self, BodyLimit, JSON_BYTES_MAX, PROTO_BYTES_MAX, read_body};
use super::payload::Kind;
use super::watch::Connection;
use super::{Front, route};
use crate::access::Access;
use crate::access::guard::Guard;
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
    stream: Result<(std::sync::Arc<BasinInfo>, StreamName), ApiError>,
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
    let encoding = negotiate::content_encoding(header(headers, http::header::CONTENT_ENCODING));
    let limit = match input {
        Wire::Json => BodyLimit { bytes_max: JSON_BYTES_MAX, code: Code::BadJson },
        Wire::Proto => BodyLimit { bytes_max: PROTO_BYTES_MAX, code: Code::BadProto },
    };
    // The body is read before anything is refused, so that the connection stays usable.
    let body = read_body(&front.budgets.bodies, connection, body, encoding.clone().unwrap_or_default(), limit).await?;
    encoding?;
    let (basin, stream) = stream?;
    check_encryption_key(headers)?;
    let config = stream_config_header(headers)?;
    let (batch, conditions) = match input {
        Wire::Json => json::append_input(&body.bytes, negotiate::format(header(headers, "s2-format"))?)?,
        Wire::Proto => proto::append_input(body.bytes)?,
    };
    access.permit_batch(&batch)?;
    not_deleting(&basin)?;
    let create = creates(&basin, access).then(|| stream_spec(&basin, &config));
    let (shard, target) = front.router.target(&basin, stream);
    let op = Op::Append(append_op(target, batch, conditions, create));
    let reply = front.store.ask(shard, op).await?;
    let Reply::Appended(appended) = reply else { unexpected("an append", &reply) };
    front.metrics.appended(&appended, front.store.now_us());
    let ack = ack(&appended);
    let body = match output {
        Wire::Json => json::append_ack(&ack).into_bytes(),
        Wire::Proto => proto::append_ack(&ack),
    };
    Ok((6, answer::full(StatusCode::OK, output.content_type(), body)))
}

/// Whether an append to a stream that is missing creates it: the basin says so, and needs `append` alone. Who may only trim
/// or fence creates nothing.
fn creates(basin: &BasinInfo, access: &Access) -> bool {
    basin.config.create_stream_on_append && access.may(Operation::Append)
}

fn append_op(
    target: Target,
    batch: Batch,
    conditions: AppendConditions,
    create: Option<engine::event::StreamSpec>,
) -> Append {
    let AppendConditions { match_seq_num, fencing_token } = conditions;
    Append { target, batch, match_seq_num, fencing_token, create, session: None }
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
    stream: Result<(std::sync::Arc<BasinInfo>, StreamName), ApiError>,
    access: &Access,
) -> Result<Answer, (Incoming, ApiError)> {
    let opened = async {
        let (basin, stream) = stream?;
        check_encryption_key(headers)?;
        let config = stream_config_header(headers)?;
        not_deleting(&basin)?;
        let place = front.sessions.enter(&front.watch, connection)?.guarded(Guard::new(&front.gate, access));
        let create = creates(&basin, access).then(|| stream_spec(&basin, &config));
        let (shard, target) = front.router.target(&basin, stream);
        let reply = front.store.ask(shard, Op::OpenSession { target: target.clone(), create }).await?;
        let Reply::Opened(incarnation) = reply else { unexpected("the opening of a session", &reply) };
        Ok((place, shard, Target { incarnation: Some(incarnation), ..target }))
    };
    match opened.await {
        Ok((place, shard, target)) => {
            let session = AppendSession::new(front, place, shard, target, body, access);
            Ok(answer::streaming("s2s/proto", Kind::Append(Box::new(session))))
        }
        Err(error) => Err((body, error)),
    }
}

/// Checks the length of `s2-encryption-key`; no stream has a cipher, so it is not decoded.
///
/// # Errors
/// 400 `bad_header`.
pub(crate) fn check_encryption_key(headers: &HeaderMap) -> Result<(), ApiError> {
    match headers.get("s2-encryption-key") {
        None => Ok(()),
        Some(key) if (1..=ENCRYPTION_KEY_BYTES_MAX).contains(&key.as_bytes().trim_ascii().len()) => Ok(()),
        Some(_) => {
            Err(ApiError::new(Code::BadHeader, "Invalid header `s2-encryption-key`: expected 1 to 44 characters"))
        }
    }
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

/// Base64 of 32 bytes.
const ENCRYPTION_KEY_BYTES_MAX: usize = 44;
