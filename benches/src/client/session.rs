//! Sessions: s2s over either version of HTTP, or gRPC. Frames out, messages in.

use api::s2s::FrameDecoder;
use bytes::{Buf, Bytes, BytesMut};
use http::{Method, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::io::{AsyncWriteExt, WriteHalf};
use tokio::sync::mpsc;

use super::codec;
use super::codec::Ack;
use super::grpc::{self, Messages};
use super::http2::{RequestBody, RequestHead};
use super::socket::Socket;
use super::{ClientError, Result, Target, http1, http2};
use crate::payload::Payload;
use crate::settings::{Endpoint, Protocol};

/// What sessions are opened through.
#[derive(Debug, Clone)]
pub(crate) enum Transport {
    /// Each session is a connection of its own.
    Http1(Endpoint),
    /// Sessions share the connection.
    Http2(Endpoint, http2::Connection),
    /// Likewise, for appends; reads are s2s.
    Grpc(Endpoint, http2::Connection),
}

impl Transport {
    pub(crate) async fn open(endpoint: &Endpoint, protocol: Protocol) -> Result<Self> {
        Ok(match protocol {
            Protocol::Http1 => Self::Http1(endpoint.clone()),
            Protocol::Grpc => Self::Grpc(endpoint.clone(), http2::Connection::open(endpoint).await?),
            Protocol::Http2 => Self::Http2(endpoint.clone(), http2::Connection::open(endpoint).await?),
        })
    }

    /// Opens an append session.
    pub(crate) async fn append(&self, target: &Target) -> Result<(FrameWriter, MessageReader)> {
        match self {
            Self::Http1(endpoint) => {
                let headers = format!("content-type: {S2S}\r\ntransfer-encoding: chunked\r\n");
                let head = http1::request_head(endpoint, "POST", target, "", &headers);
                let (socket, body) = http1::Connection::open(endpoint).await?.into_session(&head).await?;
                let writer = FrameWriter::Http1 { socket, scratch: BytesMut::new() };
                Ok((writer, MessageReader::new(Chunks::Http1 { body, _sending: None })))
            }
            Self::Http2(endpoint, connection) => {
                let (frames, queue) = mpsc::channel(FRAMES_QUEUED_MAX);
                let head = RequestHead::new(endpoint, Method::POST, target, "", &[(header::CONTENT_TYPE, S2S)]);
                let body = connection.clone().open_session(&head, RequestBody::Session(queue)).await?;
                Ok((FrameWriter::Http2(frames), MessageReader::new(Chunks::Http2(body))))
            }
            Self::Grpc(endpoint, connection) => {
                let (frames, queue) = mpsc::channel(FRAMES_QUEUED_MAX);
                let head = grpc::head(endpoint, "AppendSession", target);
                let body = connection.clone().open_session(&head, RequestBody::Session(queue)).await?;
                let chunks = Chunks::Http2(body);
                Ok((FrameWriter::Http2(frames), MessageReader { chunks, frames: Frames::Grpc(Messages::default()) }))
            }
        }
    }

    /// Opens a read session; `query` begins with `?`.
    pub(crate) async fn read(&self, target: &Target, query: &str) -> Result<MessageReader> {
        match self {
            Self::Http1(endpoint) => {
                let headers = format!("content-type: {S2S}\r\n");
                let head = http1::request_head(endpoint, "GET", target, query, &headers);
                let (socket, body) = http1::Connection::open(endpoint).await?.into_session(&head).await?;
                Ok(MessageReader::new(Chunks::Http1 { body, _sending: Some(socket) }))
            }
            Self::Http2(endpoint, connection) | Self::Grpc(endpoint, connection) => {
                let head = RequestHead::new(endpoint, Method::GET, target, query, &[(header::CONTENT_TYPE, S2S)]);
                let body = connection.clone().open_session(&head, RequestBody::Empty).await?;
                Ok(MessageReader::new(Chunks::Http2(body)))
            }
        }
    }
}

impl Transport {
    /// The same batch with the frame that append sessions of this transport take.
    pub(crate) fn prepared(&self, target: &Target, payload: &Payload) -> Payload {
        let frame = match self {
            Self::Http1(_) | Self::Http2(..) => payload.frame.clone(),
            Self::Grpc(..) => grpc::append(target, payload),
        };
        Payload { frame, ..payload.clone() }
    }
}

/// The sending direction of an append session.
#[derive(Debug)]
pub(crate) enum FrameWriter {
    Http1 { socket: WriteHalf<Socket>, scratch: BytesMut },
    Http2(mpsc::Sender<Bytes>),
}

impl FrameWriter {
    /// Sends a frame `count` times, as one body chunk each.
    pub(crate) async fn send(&mut self, frame: &Bytes, count: usize) -> Result<()> {
        match self {
            Self::Http1 { socket, scratch } => {
                let size_line = format!("{:x}\r\n", frame.len());
                if frame.len() > COPIED_FRAME_BYTES_MAX {
                    for _ in 0..count {
                        let mut chunk = size_line.as_bytes().chain(frame.clone()).chain(&b"\r\n"[..]);
                        socket.write_all_buf(&mut chunk).await?;
                    }
                    socket.flush().await?;
                    return Ok(());
                }
                // Small frames that are due together leave in one system call.
                for _ in 0..count {
                    scratch.extend_from_slice(size_line.as_bytes());
                    scratch.extend_from_slice(frame);
                    scratch.extend_from_slice(b"\r\n");
                }
                socket.write_all_buf(scratch).await?;
                socket.flush().await?;
            }
            Self::Http2(frames) => {
                for _ in 0..count {
                    frames.send(frame.clone()).await.map_err(|_| ClientError::Closed)?;
                }
            }
        }
        Ok(())
    }

    /// Says that no frame follows. Keep the result until the answer has ended: dropping it may reset the socket.
    pub(crate) async fn finish(self) -> Result<Option<WriteHalf<Socket>>> {
        match self {
            Self::Http1 { mut socket, .. } => {
                socket.write_all(b"0\r\n\r\n").await?;
                socket.flush().await?;
                Ok(Some(socket))
            }
            Self::Http2(_) => Ok(None),
        }
    }
}

/// The receiving direction of a session.
pub(crate) struct MessageReader {
    chunks: Chunks,
    frames: Frames,
}

enum Frames {
    S2s(FrameDecoder),
    Grpc(Messages),
}

enum Chunks {
    Http1 {
        body: http1::SessionBody,
        /// A read session sends nothing; dropping this would say that it never will.
        _sending: Option<WriteHalf<Socket>>,
    },
    Http2(Incoming),
}

impl MessageReader {
    fn new(chunks: Chunks) -> Self {
        Self { chunks, frames: Frames::S2s(FrameDecoder::new()) }
    }

    /// Waits for more of the body; `false` at its end. To be called once [`Self::next_message`] returns `None`.
    pub(crate) async fn fill(&mut self) -> Result<bool> {
        let chunk = match &mut self.chunks {
            Chunks::Http1 { body, .. } => body.next_piece().await?,
            Chunks::Http2(body) => match body.frame().await {
                Some(frame) => match frame?.into_data() {
                    Ok(chunk) => Some(chunk),
                    Err(other) => {
                        if let (Frames::Grpc(_), Some(trailers)) = (&self.frames, other.trailers_ref()) {
                            grpc::check(200, trailers)?;
                        }
                        None
                    }
                },
                None => None,
            },
        };
        match (chunk, &mut self.frames) {
            (Some(chunk), Frames::S2s(frames)) => frames.push(chunk),
            (Some(chunk), Frames::Grpc(frames)) => frames.push(&chunk),
            (None, Frames::S2s(frames)) => return frames.finish().map(|()| false).map_err(Into::into),
            (None, Frames::Grpc(frames)) => return frames.finish().map(|()| false),
        }
        Ok(true)
    }

    /// The next message that has arrived whole.
    pub(crate) fn next_message(&mut self) -> Result<Option<Bytes>> {
        match &mut self.frames {
            Frames::S2s(frames) => codec::next_message(frames),
            Frames::Grpc(frames) => frames.next_message(),
        }
    }

    /// Reads a message of an append session as an ack of `records` records.
    pub(crate) fn ack(&self, message: &[u8], records: u64) -> Result<Ack> {
        match &self.frames {
            Frames::S2s(_) => Ack::of(message, records),
            Frames::Grpc(_) => grpc::ack(message, records),
        }
    }
}

const S2S: &str = "s2s/proto";
/// Frames between a session and its connection; the window of unacknowledged batches is the real bound.
const FRAMES_QUEUED_MAX: usize = 64;
const COPIED_FRAME_BYTES_MAX: usize = 16 << 10;
