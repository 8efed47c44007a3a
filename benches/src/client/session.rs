//! s2s sessions, over either version of HTTP: frames out, messages in.

use api::s2s::FrameDecoder;
use bytes::{Buf, Bytes, BytesMut};
use http::{Method, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::mpsc;

use super::codec;
use super::http2::{RequestBody, RequestHead};
use super::{ClientError, Result, Target, http1, http2};
use crate::settings::{Endpoint, HttpVersion};

/// What sessions are opened through.
#[derive(Debug, Clone)]
pub(crate) enum Transport {
    /// Each session is a connection of its own.
    Http1(Endpoint),
    /// Sessions share the connection.
    Http2(Endpoint, http2::Connection),
}

impl Transport {
    pub(crate) async fn open(endpoint: &Endpoint, version: HttpVersion) -> Result<Self> {
        Ok(match version {
            HttpVersion::Http1 => Self::Http1(endpoint.clone()),
            HttpVersion::Http2 => Self::Http2(endpoint.clone(), http2::Connection::open(endpoint).await?),
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
            Self::Http2(endpoint, connection) => {
                let head = RequestHead::new(endpoint, Method::GET, target, query, &[(header::CONTENT_TYPE, S2S)]);
                let body = connection.clone().open_session(&head, RequestBody::Empty).await?;
                Ok(MessageReader::new(Chunks::Http2(body)))
            }
        }
    }
}

/// The sending direction of an append session.
#[derive(Debug)]
pub(crate) enum FrameWriter {
    Http1 { socket: OwnedWriteHalf, scratch: BytesMut },
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
                    return Ok(());
                }
                // Small frames that are due together leave in one system call.
                for _ in 0..count {
                    scratch.extend_from_slice(size_line.as_bytes());
                    scratch.extend_from_slice(frame);
                    scratch.extend_from_slice(b"\r\n");
                }
                socket.write_all_buf(scratch).await?;
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
    pub(crate) async fn finish(self) -> Result<Option<OwnedWriteHalf>> {
        match self {
            Self::Http1 { mut socket, .. } => {
                socket.write_all(b"0\r\n\r\n").await?;
                Ok(Some(socket))
            }
            Self::Http2(_) => Ok(None),
        }
    }
}

/// The receiving direction of a session.
pub(crate) struct MessageReader {
    chunks: Chunks,
    frames: FrameDecoder,
}

enum Chunks {
    Http1 {
        body: http1::SessionBody,
        /// A read session sends nothing; dropping this would say that it never will.
        _sending: Option<OwnedWriteHalf>,
    },
    Http2(Incoming),
}

impl MessageReader {
    fn new(chunks: Chunks) -> Self {
        Self { chunks, frames: FrameDecoder::new() }
    }

    /// Waits for more of the body; `false` at its end. To be called once [`Self::next_message`] returns `None`.
    pub(crate) async fn fill(&mut self) -> Result<bool> {
        let chunk = match &mut self.chunks {
            Chunks::Http1 { body, .. } => body.next_piece().await?,
            Chunks::Http2(body) => match body.frame().await {
                Some(frame) => frame?.into_data().ok(),
                None => None,
            },
        };
        match chunk {
            Some(chunk) => {
                self.frames.push(chunk);
                Ok(true)
            }
            None => {
                self.frames.finish()?;
                Ok(false)
            }
        }
    }

    /// The next message that has arrived whole.
    pub(crate) fn next_message(&mut self) -> Result<Option<Bytes>> {
        codec::next_message(&mut self.frames)
    }
}

const S2S: &str = "s2s/proto";
/// Frames between a session and its connection; the window of unacknowledged batches is the real bound.
const FRAMES_QUEUED_MAX: usize = 64;
const COPIED_FRAME_BYTES_MAX: usize = 16 << 10;
