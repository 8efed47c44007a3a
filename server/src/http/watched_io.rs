//! The socket of a watched connection: notes what comes and goes, and sees to it that a connection that the server ends is
//! never reset under its client.
//!
//! Promises, once the server closes its connections: a client of HTTP/1.1 whose next request crosses with the end reads
//! `server_draining` as its answer, and nothing of that request is looked at; what was sent is not lost to a reset, because
//! the socket is closed only when the client has closed its side or had time to.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::Phase;
use super::watch::{Connection, Watch, Watched};

/// The socket of a watched connection, or TLS over it.
pub(crate) struct WatchedIo<S> {
    stream: S,
    watch: Rc<Watch>,
    connection: Rc<Connection>,
    /// Bytes of the farewell that are sent, once it has begun. The reader sees the end of the stream behind it.
    farewell: Option<usize>,
    /// Until when the client may close its side, once ours is closed.
    linger: Option<Pin<Box<Sleep>>>,
}

impl<S> WatchedIo<S> {
    /// Notes what `stream` does in `watched`.
    #[must_use]
    pub(crate) fn new(stream: S, watched: &Watched) -> Self {
        let (watch, connection) = (Rc::clone(&watched.watch), Rc::clone(&watched.connection));
        Self { stream, watch, connection, farewell: None, linger: None }
    }

    fn note_write<T>(&self, polled: &Poll<T>) {
        let blocked = match (polled, self.connection.blocked_since.get()) {
            (Poll::Ready(_), _) => None,
            (Poll::Pending, None) => Some(self.watch.seconds()),
            (Poll::Pending, since) => since,
        };
        self.connection.blocked_since.set(blocked);
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> WatchedIo<S> {
    /// Sends the answer to a request that may be on its way. A client that sends none drops it with the connection.
    fn poll_farewell(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let mut sent = self.farewell.unwrap_or(0);
        while sent < FAREWELL.len() {
            self.farewell = Some(sent);
            match ready!(Pin::new(&mut self.stream).poll_write(cx, &FAREWELL[sent..])) {
                Ok(more) if more > 0 => sent += more,
                // It has gone: nobody needs it.
                Ok(_) | Err(_) => sent = FAREWELL.len(),
            }
        }
        self.farewell = Some(sent);
        Pin::new(&mut self.stream).poll_flush(cx).map(|_| Ok(()))
    }

    /// Reads and drops what still comes, until the client has closed its side or had time to.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let until = self.linger.get_or_insert_with(|| Box::pin(sleep(LINGER_TIME_MAX)));
        if until.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let mut scratch = [0; 1024];
        loop {
            let mut buf = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => {}
                Ok(()) | Err(_) => return Poll::Ready(()),
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WatchedIo<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        if self.farewell.is_some() {
            return self.poll_farewell(cx);
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.connection.has_read(self.watch.seconds(), &buf.filled()[before..]);
        }
        if polled.is_pending() && self.watch.phase() == Phase::Closing && self.connection.is_idle_h1() {
            return self.poll_farewell(cx);
        }
        polled
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WatchedIo<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note_write(&polled);
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.note_write(&polled);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.note_write(&polled);
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        if self.linger.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        }
        // Closing on bytes that nobody has read resets the connection, and the client may lose what it was sent.
        if self.watch.phase() > Phase::Serving {
            ready!(self.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }
}

/// A client has this long to close its side; then the connection is closed on what may still come.
const LINGER_TIME_MAX: Duration = Duration::from_secs(1);
/// What a request that crosses with the end of its connection is answered.
const FAREWELL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nconnection: close\r\n\
    content-length: 76\r\n\r\n{\"code\":\"server_draining\",\"message\":\"the server is draining, connect again\"}";

#[cfg(test)]
mod tests {
    use api::ApiError;
    use model::{Failure, Unavailable};

    use super::*;

    #[test]
    fn the_farewell_is_what_a_request_in_a_drain_is_answered() {
        let text = std::str::from_utf8(FAREWELL).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.ends_with(&format!("content-length: {}", body.len())), "{}", body.len());
        let error = ApiError::from(Failure::from(Unavailable::Draining));
        assert_eq!((error.status(), error.body_json()), (503, body.to_owned()));
    }
}
