//! The run as decided: the arguments with every default filled in. A value of [`Settings`] is the proof that the
//! arguments make sense together.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::HeaderValue;
use model::limits::RECORD_METERED_BYTES_MAX;

use crate::args::{BenchArgs, Scenario};
use crate::client::socket::Tls;

/// Where the server listens.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Host and port as the user wrote them: the `Host` header.
    pub authority: String,
    /// The first address of the host.
    pub address: SocketAddr,
    /// TLS, for `https://`.
    pub(crate) tls: Option<Tls>,
    /// The access token that requests carry.
    token: Option<Token>,
}

/// A secret: not to be seen where settings are shown.
#[derive(Clone)]
struct Token(HeaderValue);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
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
        Self::resolve(url, rest, 80)
    }

    /// Resolves `http://…`, or `https://…` for a server whose certificate one of the PEM file vouches for.
    ///
    /// # Errors
    /// What is wrong with the URL or the file, for people.
    fn trusting(url: &str, ca: Option<&Path>) -> Result<Self, String> {
        let Some(rest) = url.strip_prefix("https://") else {
            if url.starts_with("http://") {
                return Self::parse(url);
            }
            return Err(format!("endpoint `{url}` must begin with http:// or https://"));
        };
        let ca = ca.ok_or("an endpoint in https:// needs --ca: the certificate of the server, or of who signed it")?;
        let mut endpoint = Self::resolve(url, rest, 443)?;
        let authority = &endpoint.authority;
        let host = authority.rsplit_once(':').map_or(authority.as_str(), |(host, _)| host);
        endpoint.tls = Some(Tls::new(host.trim_matches(['[', ']']), ca)?);
        Ok(endpoint)
    }

    fn resolve(url: &str, rest: &str, default_port: u16) -> Result<Self, String> {
        let authority = rest.trim_end_matches('/');
        let with_port =
            if authority.contains(':') { authority.to_owned() } else { format!("{authority}:{default_port}") };
        let mut addresses = with_port.to_socket_addrs().map_err(|e| format!("endpoint `{url}`: {e}"))?;
        match addresses.next() {
            Some(address) => Ok(Self { authority: authority.to_owned(), address, tls: None, token: None }),
            None => Err(format!("endpoint `{url}` has no address")),
        }
    }

    fn with_token(mut self, token: Option<&str>) -> Result<Self, String> {
        if let Some(token) = token {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
                .map_err(|_| "the access token has characters that no header may have")?;
            value.set_sensitive(true);
            self.token = Some(Token(value));
        }
        Ok(self)
    }

    /// `http` or `https`.
    pub(crate) const fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// The value of the `authorization` header, if requests carry one.
    pub(crate) fn bearer(&self) -> Option<HeaderValue> {
        self.token.as_ref().map(|token| token.0.clone())
    }

    /// The same as a line of an HTTP/1.1 request; empty without a token.
    pub(crate) fn token_line(&self) -> String {
        let line = |token: &Token| format!("authorization: {}\r\n", token.0.to_str().expect("it was made of text"));
        self.token.as_ref().map(line).unwrap_or_default()
    }

    /// The endpoint of a server in this process.
    pub(crate) fn local(address: SocketAddr) -> Self {
        Self { authority: address.to_string(), address, tls: None, token: None }
    }
}

/// HTTP version of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HttpVersion {
    Http1,
    Http2,
}

/// How appends are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// REST, or s2s for sessions, over HTTP/1.1.
    Http1,
    /// The same over HTTP/2.
    Http2,
    /// gRPC.
    Grpc,
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
    pub(crate) unary: Protocol,
    pub(crate) session: Protocol,
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
        let protocol = |two| match (args.grpc, two) {
            (true, _) => Protocol::Grpc,
            (false, true) => Protocol::Http2,
            (false, false) => Protocol::Http1,
        };
        Ok(Self {
            endpoint: Endpoint::trusting(&args.endpoint, args.ca.as_deref())?.with_token(args.token.as_deref())?,
            scenarios,
            repeat: args.repeat.unwrap_or(if quick { 1 } else { 5 }),
            warmup: Duration::from_millis(if quick { 500 } else { 1000 }),
            duration: args.duration.unwrap_or(Duration::from_secs(if quick { 2 } else { 10 })),
            threads: usize::from(args.threads),
            concurrency: args.concurrency,
            record_bytes,
            streams: args.streams,
            rate: args.rate,
            unary: protocol(args.http2),
            session: protocol(args.session_http == 2),
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
            assert!(Endpoint::trusting(bad, None).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_token_is_sent_and_not_shown() {
        let endpoint = Endpoint::parse("http://127.0.0.1:8080").expect("good");
        assert_eq!(endpoint.token_line(), "");
        let endpoint = endpoint.with_token(Some("abc")).expect("good");
        assert_eq!(endpoint.token_line(), "authorization: Bearer abc\r\n");
        assert!(!format!("{endpoint:?}").contains("abc"));
        assert!(endpoint.with_token(Some("a\nb")).is_err());
    }
}
