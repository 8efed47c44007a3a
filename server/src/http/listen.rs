//! Accepts connections and runs them: HTTP/1.1 or HTTP/2 with prior knowledge, whichever the first bytes are.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use socket2::SockFilter;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::watch::{Connection, Watched};
use super::watched_io::WatchedIo;
use super::{Front, Phase, dispatch};
use crate::tls::Tls;

/// Connections that the kernel keeps for us until we accept them.
const BACKLOG: i32 = 4096;
/// What an HTTP/2 client may send ahead on one stream: a few full batches.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
/// And on one connection.
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// What is read from the socket of a TLS connection at once; rustls by itself takes 4 KiB at a time.
const TLS_BUFFER_BYTES: usize = 32 << 10;
/// Largest HTTP/2 frame we take.
const FRAME_BYTES_MAX: u32 = 1 << 20;
/// Streams of one HTTP/2 connection. Clients open another connection at 90 to 100.
const STREAMS_MAX: u32 = 1024;
/// What we keep for one HTTP/2 stream whose client takes it slowly.
const SEND_BYTES_MAX: usize = 1 << 20;
/// All headers of one request.
const HEADERS_BYTES_MAX: u32 = 64 << 10;
/// When the port closes, clients that have been answered by the kernel have this long to complete their connection.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_millis(100);
/// Time to let descriptors come free when there are none left to accept with.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Opens one listener per front on the same address. The kernel spreads connections over them.
///
/// # Errors
/// When the address is in use, even by a process that would share it, or not ours.
pub(crate) fn bind(
    address: SocketAddr,
    fronts_count: u16,
) -> std::io::Result<(SocketAddr, Vec<std::net::TcpListener>)> {
    // Without REUSEPORT first: two servers must not share a port by accident. It also finds the port when 0 is asked for.
    let probe = socket(address, false)?;
    let address = probe.local_addr()?;
    drop(probe);
    let listeners = (0..fronts_count).map(|_| socket(address, true)).collect::<Result<_, _>>()?;
    Ok((address, listeners))
}

fn socket(address: SocketAddr, shared: bool) -> std::io::Result<std::net::TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, shared)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

/// Where connections come in.
pub(crate) struct Door {
    front: Rc<Front>,
    builder: Rc<auto::Builder<LocalExec>>,
    tls: Option<Tls>,
    connections_max: usize,
}

impl Door {
    /// A door to `front`; more connections than `connections_max` are answered 429 and closed.
    #[must_use]
    pub(crate) fn new(front: &Rc<Front>, tls: Option<Tls>, connections_max: usize) -> Self {
        Self { front: Rc::clone(front), builder: Rc::new(builder(front)), tls, connections_max }
    }

    /// Accepts until the front closes; then whoever got in is served, and the port is closed.
    pub(crate) async fn accept(&self, listener: TcpListener) {
        while let Some(accepted) = self.front.before(Phase::Closing, listener.accept()).await {
            match accepted {
                Ok((stream, _)) => self.admit(stream),
                Err(error) => {
                    tracing::warn!("cannot accept a connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        if let Err(error) = self.close(listener).await {
            tracing::debug!("the port is closed on those who were just connecting: {error}");
        }
    }

    /// Closes the port so that nobody who got a connection is reset: first nobody gets one any more, then those who have
    /// one are taken in.
    async fn close(&self, listener: TcpListener) -> std::io::Result<()> {
        // Who asks for a connection now is not heard, tries again a second later, and is refused then.
        let deaf = socket2::SockRef::from(&listener).attach_filter(NO_NEW_CONNECTIONS);
        let taking = async {
            while let Ok((stream, _)) = listener.accept().await {
                self.admit(stream);
            }
        };
        let _ = tokio::time::timeout(HANDSHAKE_TIME_MAX, taking).await;
        let listener = listener.into_std()?;
        while let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(true)?;
            self.admit(TcpStream::from_std(stream)?);
        }
        deaf
    }

    fn admit(&self, stream: TcpStream) {
        let front = Rc::clone(&self.front);
        if front.watch.len() >= self.connections_max {
            front.metrics.connections_refused_total.add(1);
            let answer = if self.tls.is_some() { &[] } else { TOO_MANY_CONNECTIONS };
            tokio::task::spawn_local(turn_away(stream, answer));
            return;
        }
        if let Err(error) = tune(&stream) {
            tracing::debug!("a connection was gone before it was accepted: {error}");
            return;
        }
        let builder = Rc::clone(&self.builder);
        let watched = front.watch.open();
        match &self.tls {
            None => tokio::task::spawn_local(caught(Rc::clone(&front), run(front, stream, watched, builder))),
            Some(tls) => {
                let run = run_tls(Rc::clone(&front), stream, watched, tls.acceptor(), builder);
                tokio::task::spawn_local(caught(front, run))
            }
        };
    }
}

/// Small writes go at once, and a dead peer is found within two minutes.
fn tune(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, Duration::from_secs(60))?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(10))?;
    sockopt::set_tcp_keepcnt(stream, 6)?;
    Ok(())
}

fn builder(front: &Rc<Front>) -> auto::Builder<LocalExec> {
    let mut builder = auto::Builder::new(LocalExec(Rc::clone(front)));
    // Silence is watched by `Watch`, which needs no timer per request.
    builder.http1().timer(TokioTimer::new()).header_read_timeout(None).half_close(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_concurrent_streams(STREAMS_MAX)
        .max_send_buf_size(SEND_BYTES_MAX)
        .max_header_list_size(HEADERS_BYTES_MAX);
    builder
}

/// One connection that must begin with TLS. The handshake has as long as the head of a request.
async fn run_tls(
    front: Rc<Front>,
    stream: TcpStream,
    watched: Watched,
    acceptor: TlsAcceptor,
    builder: Rc<auto::Builder<LocalExec>>,
) {
    let connection = Rc::clone(&watched.connection);
    let mut handshake = pin!(async {
        let mut first = [0];
        let seen = stream.peek(&mut first).await?;
        if seen == 1 && first[0].is_ascii_uppercase() {
            turn_away(stream, NEEDS_TLS).await;
            return Err(std::io::Error::other("it speaks plain HTTP"));
        }
        acceptor.accept(BufReader::with_capacity(TLS_BUFFER_BYTES, stream)).await
    });
    let shaken = poll_fn(|cx| {
        if connection.poll_cut(cx) {
            return Poll::Ready(Err(std::io::Error::from(std::io::ErrorKind::TimedOut)));
        }
        handshake.as_mut().poll(cx)
    });
    match shaken.await {
        Ok(stream) => run(front, stream, watched, builder).await,
        Err(error) => tracing::debug!("no TLS came about: {error}"),
    }
}

/// One connection, from its first byte to its last.
async fn run<S: AsyncRead + AsyncWrite + Unpin + 'static>(
    front: Rc<Front>,
    stream: S,
    watched: Watched,
    builder: Rc<auto::Builder<LocalExec>>,
) {
    let connection = Rc::clone(&watched.connection);
    let io = TokioIo::new(WatchedIo::new(stream, &watched));
    let service = {
        let (front, connection) = (Rc::clone(&front), Rc::clone(&connection));
        service_fn(move |request| dispatch::serve(Rc::clone(&front), Rc::clone(&connection), request))
    };
    let mut http = pin!(builder.serve_connection(io, service));
    let mut said_goaway = false;
    poll_fn(|cx| {
        if connection.poll_cut(cx) {
            return Poll::Ready(());
        }
        // HTTP/1.1 is told in an answer instead (`dispatch`, `WatchedIo`): closed here, a request on its way would be lost.
        if !said_goaway && says_goaway(front.phase.get(), &connection) {
            said_goaway = true;
            http.as_mut().graceful_shutdown();
        }
        http.as_mut().poll(cx).map(|ended| {
            if let Err(error) = ended {
                tracing::debug!("a connection broke off: {error}");
            }
        })
    })
    .await;
}

/// Whether an HTTP/2 client is sent a GOAWAY: at the end, when it is idle. There are clients, S2's in Python for one, that
/// lose whatever answer is still to be read when they see one; so who was answered `server_draining` leaves without.
fn says_goaway(phase: Phase, connection: &Connection) -> bool {
    match phase {
        Phase::Serving | Phase::Draining | Phase::Ending => false,
        Phase::Closing => connection.is_idle_h2() && !connection.told.get(),
    }
}

/// A panic costs what it happened in: a connection, or one stream of one.
async fn caught(front: Rc<Front>, future: impl Future) {
    let mut future = pin!(future);
    poll_fn(|cx| {
        catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx).map(drop))).unwrap_or_else(|_| {
            // The panic hook has logged what and where.
            front.metrics.panics_total.add(1);
            Poll::Ready(())
        })
    })
    .await;
}

async fn turn_away(mut stream: TcpStream, answer: &[u8]) {
    // It may be gone already: then nobody needs the answer.
    let _ = stream.write_all(answer).await;
    let _ = stream.shutdown().await;
}

/// Runs the tasks of HTTP/2 connections on this front.
#[derive(Clone)]
struct LocalExec(Rc<Front>);

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalExec {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(caught(Rc::clone(&self.0), future));
    }
}

/// For the kernel: what comes to the listening socket is dropped when it has SYN without ACK among the flags in byte 13 of
/// its TCP header, and let in otherwise.
const NO_NEW_CONNECTIONS: &[SockFilter] = &[
    SockFilter::new(LOAD_BYTE, 0, 0, 13),
    SockFilter::new(AND, 0, 0, 0x12),
    SockFilter::new(JUMP_IF_EQUAL, 0, 1, 0x02),
    SockFilter::new(RETURN, 0, 0, 0),
    SockFilter::new(RETURN, 0, 0, u32::MAX),
];
/// Instructions of such filters.
const LOAD_BYTE: u16 = 0x30;
const AND: u16 = 0x54;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;

const NEEDS_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\n\
    content-length: 39\r\n\r\nthis port speaks TLS: use an https URL\n";

const TOO_MANY_CONNECTIONS: &[u8] = b"HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json\r\n\
    retry-after-ms: 1000\r\nconnection: close\r\ncontent-length: 67\r\n\r\n\
    {\"code\":\"rate_limited\",\"message\":\"too many connections, try later\"}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_not_shared_with_another_server() {
        let (address, _listeners) = bind(SocketAddr::from(([127, 0, 0, 1], 0)), 2).expect("a free port");
        assert_ne!(address.port(), 0);
        assert_eq!(bind(address, 1).expect_err("it is taken").kind(), std::io::ErrorKind::AddrInUse);
    }

    #[test]
    fn answers_by_hand_are_well_formed() {
        for answer in [TOO_MANY_CONNECTIONS, NEEDS_TLS] {
            let text = std::str::from_utf8(answer).expect("text");
            let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
            assert!(head.ends_with(&format!("content-length: {}", body.len())), "{}", body.len());
        }
    }
}
