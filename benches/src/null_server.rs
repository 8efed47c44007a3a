//! A server that does nothing but answer: what the generator reaches against it is the generator's own ceiling.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::thread::{self, JoinHandle};

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Request, Response, header};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use model::varint;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::client::codec::FrameCutter;
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
        let acks = SessionAcks { request: request.into_body(), cutter: FrameCutter::default(), next: 0 };
        return Ok(Response::new(Answer::Session(acks)));
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
    cutter: FrameCutter,
    next: u64,
}

impl SessionAcks {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            let Some(Ok(frame)) = ready!(Pin::new(&mut self.request).poll_frame(cx)) else { return Poll::Ready(None) };
            let Ok(chunk) = frame.into_data() else { continue };
            self.cutter.push(chunk);
            let mut acks = BytesMut::new();
            while let Ok(Some(_)) = self.cutter.next_message() {
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

/// `AppendAck` of the record `seq_num`: start, end and tail, whose first field is the number.
fn ack(seq_num: u64) -> Vec<u8> {
    let mut ack = Vec::with_capacity(40);
    for (tag, number) in [(0x0a, seq_num), (0x12, seq_num + 1), (0x1a, seq_num + 1)] {
        let len = 1 + u8::try_from(varint::len(number)).expect("at most 10");
        ack.extend_from_slice(&[tag, len, 0x08]);
        varint::push(&mut ack, number);
    }
    ack
}
