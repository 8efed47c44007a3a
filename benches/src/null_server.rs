//! A server that does nothing but answer: what the generator reaches against it is the generator's own ceiling.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::thread::{self, JoinHandle};

use api::s2s::FrameDecoder;
use api::{AppendAck, proto};
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use model::Position;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::client::codec;
use crate::payload;

/// Runs on a thread of its own until dropped.
#[derive(Debug)]
pub(crate) struct NullServer {
    pub(crate) address: SocketAddr,
    stop: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
}

impl NullServer {
    pub(crate) fn start() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let address = listener.local_addr()?;
        let stop = Arc::new(Notify::new());
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = accept(&listener) => {}
                    () = stopped.notified() => {}
                }
            });
        });
        Ok(Self { address, stop, thread: Some(thread) })
    }
}

impl Drop for NullServer {
    fn drop(&mut self) {
        self.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            // Its panic, if any, has been printed and has shown as failed requests.
            let _ = thread.join();
        }
    }
}

async fn accept(listener: &TcpListener) {
    while let Ok((socket, _)) = listener.accept().await {
        // Without it the figures are lower; they are still figures.
        let _ = socket.set_nodelay(true);
        tokio::spawn(async move {
            let mut server = auto::Builder::new(TokioExecutor::new());
            server
                .http2()
                .max_concurrent_streams(1000)
                .initial_stream_window_size(16 << 20)
                .initial_connection_window_size(16 << 20);
            // A client that goes away is no news.
            let _ = server.serve_connection(TokioIo::new(socket), service_fn(answer)).await;
        });
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Answer>, Infallible> {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    if content_type.is_some_and(|value| value == "s2s/proto") {
        let acks = SessionAcks { request: request.into_body(), frames: FrameDecoder::new(), next: 0 };
        return Ok(Response::new(Answer::Session(acks)));
    }
    if request.method() == Method::PUT {
        let mut created = Response::new(Answer::Whole(None));
        *created.status_mut() = StatusCode::CREATED;
        return Ok(created);
    }
    // The request has to be read whole before the connection can carry the next one.
    if request.into_body().collect().await.is_err() {
        return Ok(Response::new(Answer::Whole(None)));
    }
    let mut response = Response::new(Answer::Whole(Some(ack(0).into())));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/protobuf"));
    Ok(response)
}

enum Answer {
    Whole(Option<Bytes>),
    Session(SessionAcks),
}

/// One ack for each frame of the request.
struct SessionAcks {
    request: Incoming,
    frames: FrameDecoder,
    next: u64,
}

impl SessionAcks {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            let Some(Ok(frame)) = ready!(Pin::new(&mut self.request).poll_frame(cx)) else { return Poll::Ready(None) };
            let Ok(chunk) = frame.into_data() else { continue };
            self.frames.push(chunk);
            let mut acks = BytesMut::new();
            while let Ok(Some(_)) = codec::next_message(&mut self.frames) {
                acks.extend_from_slice(&payload::frame(&ack(self.next)));
                self.next += 1;
            }
            if !acks.is_empty() {
                return Poll::Ready(Some(acks.freeze()));
            }
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = match &mut *self {
            Self::Whole(bytes) => bytes.take(),
            Self::Session(acks) => ready!(acks.poll(cx)),
        };
        Poll::Ready(data.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Session(_) => false,
        }
    }

    fn size_hint(&self) -> http_body::SizeHint {
        match self {
            Self::Whole(bytes) => http_body::SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Self::Session(_) => http_body::SizeHint::default(),
        }
    }
}

/// `AppendAck` of the record `seq_num`.
fn ack(seq_num: u64) -> Vec<u8> {
    let at = |seq_num| Position { seq_num, timestamp: 0 };
    proto::append_ack(&AppendAck { start: at(seq_num), end: at(seq_num + 1), tail: at(seq_num + 1) })
}
