//! HTTP/2 with prior knowledge, through hyper: many requests and sessions on one connection.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;

use super::grpc;
use super::socket::Socket;
use super::{ClientError, Result, Target};
use crate::settings::{Endpoint, HttpVersion};

/// Body of a request.
#[derive(Debug)]
pub(crate) enum RequestBody {
    Empty,
    /// Sent whole; `None` once it is.
    Whole(Option<Bytes>),
    /// Sent as it comes, until the sender is dropped.
    Session(mpsc::Receiver<Bytes>),
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, Self::Error>>> {
        let data = match &mut *self {
            Self::Empty => None,
            Self::Whole(bytes) => bytes.take(),
            Self::Session(frames) => std::task::ready!(frames.poll_recv(cx)),
        };
        Poll::Ready(data.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Whole(bytes) => bytes.is_none(),
            Self::Session(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Self::Session(_) => SizeHint::default(),
        }
    }
}

/// A request but for its body.
#[derive(Debug, Clone)]
pub(crate) struct RequestHead {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
}

impl RequestHead {
    /// Of a request on `target`'s records.
    pub(crate) fn new(
        endpoint: &Endpoint,
        method: Method,
        target: &Target,
        query: &str,
        headers: &[(HeaderName, &'static str)],
    ) -> Self {
        Self::at(endpoint, method, &format!("{}{query}", target.path()), target, headers)
    }

    /// Of a request for another path, about `target`.
    pub(crate) fn at(
        endpoint: &Endpoint,
        method: Method,
        path: &str,
        target: &Target,
        headers: &[(HeaderName, &'static str)],
    ) -> Self {
        let uri = format!("{}://{}{path}", endpoint.scheme(), endpoint.authority);
        let mut all = HeaderMap::with_capacity(headers.len() + 2);
        if let Some(bearer) = endpoint.bearer() {
            all.insert(header::AUTHORIZATION, bearer);
        }
        all.insert("s2-basin", HeaderValue::from_str(&target.basin).expect("our own names are plain"));
        all.extend(headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))));
        Self { method, uri: uri.parse().expect("our own names are plain"), headers: all }
    }

    fn with(&self, body: RequestBody) -> Request<RequestBody> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }
}

/// One connection; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Connection(SendRequest<RequestBody>);

impl Connection {
    /// Connects. Needs a `LocalSet`, on which the connection lives as long as it is used.
    pub(crate) async fn open(endpoint: &Endpoint) -> Result<Self> {
        let socket = Socket::open(endpoint, HttpVersion::Http2).await?;
        let (sender, connection) = hyper::client::conn::http2::Builder::new(LocalExecutor)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .handshake(TokioIo::new(socket))
            .await?;
        // An error of the connection is an error of every request on it, which is where it is counted.
        tokio::task::spawn_local(async move { drop(connection.await) });
        Ok(Self(sender))
    }

    /// Sends a whole request and returns the status and body of its answer.
    pub(crate) async fn exchange(&mut self, head: &RequestHead, body: Bytes) -> Result<(u16, Bytes)> {
        self.0.ready().await?;
        let response = self.0.send_request(head.with(RequestBody::Whole(Some(body)))).await?;
        let status = response.status().as_u16();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    }

    /// Calls an RPC and returns the message that it answers.
    pub(crate) async fn call(&mut self, head: &RequestHead, message: Bytes) -> Result<Bytes> {
        self.0.ready().await?;
        let response = self.0.send_request(head.with(RequestBody::Whole(Some(message)))).await?;
        let status = response.status().as_u16();
        let only_head = response.headers().clone();
        let collected = response.into_body().collect().await?;
        grpc::check(status, collected.trailers().unwrap_or(&only_head))?;
        let mut messages = grpc::Messages::default();
        messages.push(&collected.to_bytes());
        messages.next_message()?.ok_or(ClientError::Wrong("an RPC that answers nothing"))
    }

    /// Opens a session and returns its answer once the server has accepted it.
    pub(crate) async fn open_session(&mut self, head: &RequestHead, body: RequestBody) -> Result<Incoming> {
        self.0.ready().await?;
        let response = self.0.send_request(head.with(body)).await?;
        let status = response.status().as_u16();
        if status != 200 {
            let body = response.into_body().collect().await?.to_bytes();
            return Err(ClientError::status(status, &body));
        }
        Ok(response.into_body())
    }
}

/// Runs hyper's tasks on the thread they belong to.
#[derive(Debug, Clone, Copy)]
struct LocalExecutor;

impl<F> hyper::rt::Executor<F> for LocalExecutor
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}

/// Flow control should not be what a read session waits for.
const WINDOW_BYTES: u32 = 16 << 20;
