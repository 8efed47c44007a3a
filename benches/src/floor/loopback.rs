//! The loopback without HTTP: two threads and a TCP connection on 127.0.0.1.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::stats::{Latencies, LatencySummary};

/// Sends `request_bytes` and waits for `answer_bytes`, again and again. The other side does `work` in between.
pub(crate) fn round_trip(
    request_bytes: usize,
    answer_bytes: usize,
    duration: Duration,
    mut work: impl FnMut() -> io::Result<()> + Send,
) -> io::Result<LatencySummary> {
    let (mut client, mut server) = pair()?;
    thread::scope(|scope| {
        scope.spawn(move || {
            let (mut request, answer) = (vec![0; request_bytes], vec![0; answer_bytes]);
            while server.read_exact(&mut request).is_ok() && work().is_ok() && server.write_all(&answer).is_ok() {}
        });
        let (request, mut answer) = (vec![0; request_bytes], vec![0; answer_bytes]);
        let ends = Instant::now() + duration;
        let mut latencies = Latencies::new();
        let result = loop {
            let since = Instant::now();
            if let Err(error) = client.write_all(&request).and_then(|()| client.read_exact(&mut answer)) {
                break Err(error);
            }
            latencies.record(since.elapsed());
            if Instant::now() >= ends {
                break Ok(());
            }
        };
        client.shutdown(Shutdown::Both)?;
        result.map(|()| latencies.summary().expect("at least one round trip"))
    })
}

/// MiB/s in one direction.
pub(crate) fn throughput(duration: Duration) -> io::Result<f64> {
    let (mut client, mut server) = pair()?;
    thread::scope(|scope| {
        let receiver = scope.spawn(move || {
            let mut buffer = vec![0; PIECE_BYTES];
            let mut bytes = 0u64;
            loop {
                match server.read(&mut buffer)? {
                    0 => return io::Result::Ok(bytes),
                    read => bytes += read as u64,
                }
            }
        });
        let piece = vec![0; PIECE_BYTES];
        let begin = Instant::now();
        let mut result = Ok(());
        while result.is_ok() && begin.elapsed() < duration {
            result = client.write_all(&piece);
        }
        client.shutdown(Shutdown::Write)?;
        let bytes = receiver.join().expect("the receiver does not panic")?;
        result.map(|()| bytes as f64 / begin.elapsed().as_secs_f64() / f64::from(1 << 20))
    })
}

fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    let (server, _) = listener.accept()?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    Ok((client, server))
}

const PIECE_BYTES: usize = 256 << 10;
