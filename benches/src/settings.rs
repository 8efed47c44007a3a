//! The run as decided: the arguments with every default filled in. A value of [`Settings`] is the proof that the
//! arguments make sense together.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use model::limits::RECORD_METERED_BYTES_MAX;

use crate::args::{BenchArgs, Scenario};

/// Where the server listens.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Host and port as the user wrote them: the `Host` header.
    pub authority: String,
    /// The first address of the host.
    pub address: SocketAddr,
}

impl Endpoint {
    /// Resolves `http://host[:port]`.
    ///
    /// # Errors
    /// What is wrong with the URL, for people.
    pub fn parse(url: &str) -> Result<Self, String> {
        let Some(rest) = url.strip_prefix("http://") else {
            return Err(format!("endpoint `{url}` must begin with http://"));
        };
        let authority = rest.trim_end_matches('/');
        let with_port = if authority.contains(':') { authority.to_owned() } else { format!("{authority}:80") };
        let mut addresses = with_port.to_socket_addrs().map_err(|e| format!("endpoint `{url}`: {e}"))?;
        match addresses.next() {
            Some(address) => Ok(Self { authority: authority.to_owned(), address }),
            None => Err(format!("endpoint `{url}` has no address")),
        }
    }

    /// The endpoint of a server in this process.
    pub(crate) fn local(address: SocketAddr) -> Self {
        Self { authority: address.to_string(), address }
    }
}

/// HTTP version of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HttpVersion {
    Http1,
    Http2,
}

/// Everything a run needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) endpoint: Endpoint,
    pub(crate) scenarios: Vec<Scenario>,
    pub(crate) repeat: u32,
    pub(crate) warmup: Duration,
    pub(crate) duration: Duration,
    pub(crate) threads: usize,
    pub(crate) concurrency: Option<usize>,
    pub(crate) record_bytes: Option<usize>,
    pub(crate) streams: Option<usize>,
    pub(crate) rate: Option<f64>,
    pub(crate) unary_http: HttpVersion,
    pub(crate) session_http: HttpVersion,
    /// `None` when the floors are not wanted.
    pub(crate) floor_dir: Option<PathBuf>,
    pub(crate) catch_up_bytes: u64,
    pub(crate) tails: usize,
    pub(crate) server_pid: Option<u32>,
    pub(crate) json: Option<PathBuf>,
    pub(crate) quick: bool,
}

impl Settings {
    pub(crate) fn resolve(args: BenchArgs) -> Result<Self, String> {
        let quick = args.quick;
        let scenarios = match (args.all, args.scenario.is_empty()) {
            (true, _) => Scenario::ALL.to_vec(),
            (false, true) => Scenario::DEFAULT.to_vec(),
            (false, false) => args.scenario,
        };
        let record_bytes = match args.record_bytes {
            Some(bytes) if bytes + RECORD_OVERHEAD_BYTES > RECORD_METERED_BYTES_MAX => {
                return Err("a record's metered size must not exceed 1 MiB: use a smaller --record-bytes".to_owned());
            }
            bytes => bytes.map(|b| usize::try_from(b).expect("at most 1 MiB")),
        };
        let version = |two| if two { HttpVersion::Http2 } else { HttpVersion::Http1 };
        Ok(Self {
            endpoint: Endpoint::parse(&args.endpoint)?,
            scenarios,
            repeat: args.repeat.unwrap_or(if quick { 1 } else { 5 }),
            warmup: Duration::from_millis(if quick { 500 } else { 1000 }),
            duration: args.duration.unwrap_or(Duration::from_secs(if quick { 2 } else { 10 })),
            threads: usize::from(args.threads),
            concurrency: args.concurrency,
            record_bytes,
            streams: args.streams,
            rate: args.rate,
            unary_http: version(args.http2),
            session_http: version(args.session_http == 2),
            floor_dir: (!args.no_floors).then_some(args.floor_dir),
            catch_up_bytes: args.catch_up_bytes.unwrap_or(if quick { 128 << 20 } else { 2 << 30 }),
            tails: args.tails.unwrap_or(if quick { 500 } else { 10_000 }),
            server_pid: args.server_pid,
            json: args.json,
            quick,
        })
    }

    /// The record size the user chose, or the scenario's own.
    pub(crate) fn record_bytes_or(&self, default: usize) -> usize {
        self.record_bytes.unwrap_or(default)
    }
}

/// Metered bytes of a record beside its body (s2-wire.md 4.1).
pub(crate) const RECORD_OVERHEAD_BYTES: u64 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_plain_http_with_a_resolvable_host() {
        let endpoint = Endpoint::parse("http://127.0.0.1:8080/").expect("good");
        assert_eq!((endpoint.authority.as_str(), endpoint.address.port()), ("127.0.0.1:8080", 8080));
        assert_eq!(Endpoint::parse("http://127.0.0.1").expect("good").address.port(), 80);
        for bad in ["https://127.0.0.1:1", "127.0.0.1:8080", "http://127.0.0.1:99999", "http://"] {
            assert!(Endpoint::parse(bad).is_err(), "{bad}");
        }
    }
}
