//! gRPC on the port of everything else: package `s2.v1alpha`, health and reflection (docs/grpc.md).
//!
//! A front belongs to one thread and is not `Send`; services that tonic generates have to be. So calls are found here, over
//! hyper: a call is an HTTP/2 request whose answer is a [`body::GrpcBody`], pulled like the other sessions' bodies. Messages
//! and framing are `api::grpc`; what a call does is what REST does (`resource`, `http::append`, `http::read`). Health and
//! reflection, which touch no front, are tonic's services as they are (`foreign`).

pub(crate) mod account;
pub(crate) mod basin;
pub(crate) mod body;
pub(crate) mod foreign;
pub(crate) mod lease;
pub(crate) mod opening;
pub(crate) mod refused;
pub(crate) mod rpc;
pub(crate) mod stream;

use std::rc::Rc;
use std::sync::Arc;

use api::compression::Compressor;
use api::grpc::frame::{HEAD_BYTES, MESSAGE_BYTES_MAX, Outgoing, only_message};
use api::grpc::{metadata, stream_name};
use api::{ApiError, Code, Compression};
use bytes::Bytes;
use engine::event::BasinInfo;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use hyper::body::Incoming;
use model::token::{On, Operation};
use model::{BasinName, Failure, StreamName, Unavailable};
use tokio::time::Instant;

use crate::access::Access;
use crate::http::answer::{Answer, header};
use crate::http::limits::{BodyLimit, Reserved, read_body};
use crate::http::payload::{Kind, Payload};
use crate::http::read_session::ReadSession;
use crate::http::route::GRPC_OTHER_ROW;
use crate::http::watch::Connection;
use crate::http::{Front, Phase};
use crate::meters::Meter;
use crate::resource::Caller;
use crate::router::Router;
use body::GrpcBody;
use refused::Refused;
use rpc::Rpc;

/// Whether a request is a call.
#[must_use]
pub(crate) fn is_call(parts: &Parts) -> bool {
    parts.version == Version::HTTP_2
        && parts.method == Method::POST
        && header(&parts.headers, CONTENT_TYPE)
            .and_then(|given| given.strip_prefix("application/grpc"))
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', ';']))
}

/// One call.
pub(crate) struct Call<'a> {
    front: &'a Rc<Front>,
    connection: &'a Rc<Connection>,
    parts: &'a Parts,
    access: Access,
    /// How answers are compressed where that pays.
    compression: Compression,
    /// When the client gives up.
    deadline: Option<Instant>,
}

/// What comes of a call that is not refused.
enum Reply {
    /// One message, and the memory it is counted under.
    Message(Outgoing, Option<Reserved>),
    /// Messages as they come.
    Session(Box<ReadSession>),
}

impl Reply {
    fn of(message: &impl prost::Message) -> Self {
        Self::Message(Outgoing::of(message), None)
    }
}

/// Answers a call. Beside the answer: its row in the metrics, and the status that REST would have for it.
pub(crate) async fn serve(
    front: &Rc<Front>,
    connection: &Rc<Connection>,
    parts: &Parts,
    body: Incoming,
) -> (usize, u16, Answer) {
    let path = parts.uri.path();
    let Some(rpc) = Rpc::parse(path) else {
        let answered = foreign::serve(front, connection, parts, body).await;
        return told(GRPC_OTHER_ROW, answered);
    };
    told(rpc.row(), answered(front, connection, parts, body, rpc).await)
}

fn told(row: usize, answered: Result<Answer, Refused>) -> (usize, u16, Answer) {
    match answered {
        Ok(answer) => (row, 200, answer),
        Err(refused) => (row, refused.http_status, refused.answer()),
    }
}

async fn answered(
    front: &Rc<Front>,
    connection: &Rc<Connection>,
    parts: &Parts,
    body: Incoming,
    rpc: Rpc,
) -> Result<Answer, Refused> {
    let headers = &parts.headers;
    let timeout = metadata::timeout(header(headers, "grpc-timeout"))?;
    let encoding = metadata::encoding(header(headers, "grpc-encoding"))?;
    if front.phase.get() > Phase::Serving {
        return Err(Failure::from(Unavailable::Draining).into());
    }
    let access = front.gate.access(headers, &connection.shown)?;
    let compression = metadata::accepted(header(headers, "grpc-accept-encoding"));
    // One so far off that no clock gets there is none.
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let call = Call { front, connection, parts, access, compression, deadline };
    let answering = async {
        if rpc == Rpc::AppendSession {
            return call.append_session(body, encoding).map(|body| call.answer(body));
        }
        let message = call.message(body, encoding).await?;
        Ok(call.reply(call.dispatch(rpc, message).await?))
    };
    let answered = match deadline {
        None => answering.await,
        Some(deadline) => match tokio::time::timeout_at(deadline, answering).await {
            Ok(answered) => answered,
            Err(_) => Err(Refused::too_late(rpc.changes_something())),
        },
    };
    answered.map_err(|mut refused| {
        call.access.message_out(&mut refused.status.message);
        refused
    })
}

impl Call<'_> {
    fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }

    fn caller(&self) -> Caller<'_> {
        Caller { front: self.front, access: &self.access }
    }

    /// Reads the one message of the request.
    async fn message(&self, body: Incoming, encoding: Compression) -> Result<Message, ApiError> {
        let limit = BodyLimit { bytes_max: MESSAGE_BYTES_MAX + HEAD_BYTES, code: Code::BadProto };
        let body = read_body(self.front, self.connection, body, Compression::None, limit).await?;
        let (bytes, reserved) = body.into_parts();
        Ok(Message { bytes: only_message(bytes, encoding)?, _reserved: reserved })
    }

    fn reply(&self, reply: Reply) -> Answer {
        let (kind, reserved) = match reply {
            Reply::Message(message, reserved) => {
                (body::Kind::Whole(message.framed(&mut Compressor::new(self.compression)).into()), reserved)
            }
            Reply::Session(session) => (body::Kind::Read(session), None),
        };
        let mut answer = self.answer(kind);
        if let Some(reserved) = reserved {
            answer.body_mut().keep(reserved);
        }
        answer
    }

    fn answer(&self, kind: body::Kind) -> Answer {
        let body = GrpcBody::new(kind, self.deadline, &self.access);
        let mut answer = begun(Kind::Grpc(Box::new(body)));
        if let Some(coding) = self.compression.as_str() {
            answer.headers_mut().insert(GRPC_ENCODING, HeaderValue::from_static(coding));
        }
        answer
    }

    /// Meters a call on the account.
    fn account(&self, operation: Operation) {
        self.front.meters.account(Meter::operation(operation));
    }

    /// The stream that a message names, by its whole name.
    fn stream(&self, name: &str) -> Result<StreamName, ApiError> {
        self.access.stream_in(stream_name(name)?).map_err(|error| ApiError::new(Code::Invalid, error.0))
    }

    fn basin_name(&self) -> Result<BasinName, ApiError> {
        Router::basin_name(self.headers(), self.parts.uri.authority().map(http::uri::Authority::as_str))
    }

    /// The basin that the metadata or the host names, once one of `operations` is permitted there, on `stream`. The call is
    /// metered as the first of them.
    fn basin(&self, operations: &[Operation], stream: Option<&StreamName>) -> Result<Arc<BasinInfo>, ApiError> {
        let name = self.basin_name()?;
        self.access.permit_any(operations, On { basin: Some(&name), stream, token: None })?;
        let basin = self.front.router.basin_named(&name)?;
        self.front.meters.basin((basin.id, &basin.name), Meter::operation(operations[0]), 1);
        Ok(basin)
    }

    async fn dispatch(&self, rpc: Rpc, message: Message) -> Result<Reply, Refused> {
        let Message { bytes, _reserved } = message;
        match rpc {
            Rpc::ListBasins => self.list_basins(bytes),
            Rpc::CreateBasin => self.create_basin(bytes).await,
            Rpc::DeleteBasin => self.delete_basin(bytes).await,
            Rpc::ReconfigureBasin => self.reconfigure_basin(bytes).await,
            Rpc::GetBasinConfig => self.basin_config(bytes),
            Rpc::IssueAccessToken => self.issue_token(bytes).await,
            Rpc::RevokeAccessToken => self.revoke_token(bytes).await,
            Rpc::ListAccessTokens => self.list_tokens(bytes),
            Rpc::ListStreams => self.list_streams(bytes).await,
            Rpc::CreateStream => self.create_stream(bytes).await,
            Rpc::DeleteStream => self.delete_stream(bytes).await,
            Rpc::GetStreamConfig => self.stream_config(bytes).await,
            Rpc::ReconfigureStream => self.reconfigure_stream(bytes).await,
            Rpc::CheckTail => self.check_tail(bytes).await,
            Rpc::Append => self.append(bytes).await,
            Rpc::Read => self.read(bytes).await,
            Rpc::ReadSession => self.read_session(bytes).await,
            Rpc::Acquire => self.acquire_lease(bytes).await,
            Rpc::Renew => self.renew_lease(bytes).await,
            Rpc::Release => self.release_lease(bytes).await,
            Rpc::Inspect => self.inspect_lease(bytes).await,
            Rpc::AppendSession => unreachable!("it has no one message"),
        }
    }
}

/// A message that was read whole, and the memory it is counted under.
struct Message {
    bytes: Bytes,
    _reserved: Reserved,
}

/// The beginning of every answer to a call.
fn begun(kind: Kind) -> Answer {
    let mut answer = Answer::new(Payload::new(kind));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, GRPC);
    headers.insert(GRPC_ACCEPT_ENCODING, HeaderValue::from_static(metadata::ACCEPT_ENCODING));
    answer
}

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
