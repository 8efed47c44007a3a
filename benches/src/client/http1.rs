//! HTTP/1.1 by hand: one request at a time on a kept-alive connection, or one session with chunked bodies.

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

use super::socket::Socket;
use super::{ClientError, Result, Target};
use crate::settings::{Endpoint, HttpVersion};

/// Where the head of a response ends and what follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    /// Bytes of the head, its blank line included.
    head_bytes: usize,
    body: BodyLength,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BodyLength {
    Exactly(usize),
    Chunked,
}

impl Head {
    /// `None` when more bytes are needed.
    fn parse(bytes: &[u8]) -> Result<Option<Self>> {
        let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else {
            let too_long = bytes.len() > HEAD_BYTES_MAX;
            return if too_long { Err(ClientError::Wrong("an endless response head")) } else { Ok(None) };
        };
        let mut lines = bytes[..end].split(|b| *b == b'\n').map(<[u8]>::trim_ascii);
        let status = lines.next().and_then(status_of).ok_or(ClientError::Wrong("no HTTP/1.1 status line"))?;
        let mut body = BodyLength::Exactly(0);
        for line in lines {
            let Some(colon) = line.iter().position(|b| *b == b':') else { continue };
            let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
            if name.eq_ignore_ascii_case(b"content-length") {
                let length = str::from_utf8(value).ok().and_then(|v| v.parse().ok());
                body = BodyLength::Exactly(length.ok_or(ClientError::Wrong("malformed content-length"))?);
            } else if name.eq_ignore_ascii_case(b"transfer-encoding") && value.eq_ignore_ascii_case(b"chunked") {
                body = BodyLength::Chunked;
            }
        }
        Ok(Some(Self { status, head_bytes: end + 4, body }))
    }
}

/// `HTTP/1.1 200 OK` -> 200.
fn status_of(line: &[u8]) -> Option<u16> {
    let rest = line.strip_prefix(b"HTTP/1.1 ")?;
    str::from_utf8(rest.get(..3)?).ok()?.parse().ok()
}

/// Undoes `transfer-encoding: chunked`.
#[derive(Debug, Default)]
pub(crate) struct Dechunker {
    /// Bytes left of the current chunk, with the line end behind it.
    left: usize,
    is_at_end: bool,
}

impl Dechunker {
    /// Takes the next piece of the body out of `raw`; `None` when more bytes are needed or the body has ended.
    fn next_piece(&mut self, raw: &mut BytesMut) -> Result<Option<Bytes>> {
        while !self.is_at_end {
            if self.left > LINE_END_BYTES && !raw.is_empty() {
                let piece = raw.split_to(raw.len().min(self.left - LINE_END_BYTES)).freeze();
                self.left -= piece.len();
                return Ok(Some(piece));
            }
            if self.left > 0 {
                if raw.len() < self.left || self.left > LINE_END_BYTES {
                    return Ok(None);
                }
                raw.advance(self.left);
                self.left = 0;
            }
            let Some(line_bytes) = raw.iter().position(|b| *b == b'\n') else { return Ok(None) };
            let line = raw.split_to(line_bytes + 1);
            let digits = line[..].split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
            let size = str::from_utf8(digits).ok().and_then(|d| usize::from_str_radix(d, 16).ok());
            match size {
                Some(0) => self.is_at_end = true,
                Some(size) if size <= CHUNK_BYTES_MAX => self.left = size + LINE_END_BYTES,
                Some(_) | None => return Err(ClientError::Wrong("malformed chunk size")),
            }
        }
        Ok(None)
    }
}

/// A kept-alive connection with one request in flight at most.
#[derive(Debug)]
pub struct Connection {
    socket: Socket,
    raw: BytesMut,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// When nobody accepts the connection; nothing was sent then.
    pub async fn open(endpoint: &Endpoint) -> Result<Self> {
        let socket = Socket::open(endpoint, HttpVersion::Http1).await?;
        Ok(Self { socket, raw: BytesMut::with_capacity(4096) })
    }

    /// Sends a whole request and returns the status and body of its answer, whatever the status is.
    ///
    /// # Errors
    /// When the connection breaks or the answer is not HTTP/1.1: nobody knows then what became of the request, and the
    /// connection is of no further use.
    pub async fn exchange(&mut self, request: &[u8]) -> Result<(u16, Bytes)> {
        self.socket.write_all(request).await?;
        self.socket.flush().await?;
        let head = read_head(&mut self.socket, &mut self.raw).await?;
        match head.body {
            BodyLength::Exactly(length) => {
                while self.raw.len() < length {
                    fill(&mut self.socket, &mut self.raw).await?;
                }
                Ok((head.status, self.raw.split_to(length).freeze()))
            }
            BodyLength::Chunked => {
                let mut chunks = Dechunker::default();
                let mut body = BytesMut::new();
                loop {
                    while let Some(piece) = chunks.next_piece(&mut self.raw)? {
                        body.extend_from_slice(&piece);
                    }
                    if chunks.is_at_end {
                        // The blank line behind the last chunk; we never ask for trailers.
                        while self.raw.len() < LINE_END_BYTES {
                            fill(&mut self.socket, &mut self.raw).await?;
                        }
                        self.raw.advance(LINE_END_BYTES);
                        return Ok((head.status, body.freeze()));
                    }
                    fill(&mut self.socket, &mut self.raw).await?;
                }
            }
        }
    }

    /// Sends the head of a session and returns its two directions once the server has accepted it.
    pub(crate) async fn into_session(mut self, head: &[u8]) -> Result<(WriteHalf<Socket>, SessionBody)> {
        self.socket.write_all(head).await?;
        self.socket.flush().await?;
        let answer = read_head(&mut self.socket, &mut self.raw).await?;
        match (answer.status, answer.body) {
            (200, BodyLength::Chunked) => {}
            (200, BodyLength::Exactly(_)) => return Err(ClientError::Wrong("a session whose length is known")),
            (status, BodyLength::Exactly(length)) => {
                while self.raw.len() < length {
                    fill(&mut self.socket, &mut self.raw).await?;
                }
                return Err(ClientError::status(status, &self.raw[..length]));
            }
            (status, BodyLength::Chunked) => return Err(ClientError::status(status, b"")),
        }
        let (socket, writer) = tokio::io::split(self.socket);
        Ok((writer, SessionBody { socket, raw: self.raw, chunks: Dechunker::default() }))
    }
}

/// The answer of a session as it arrives.
#[derive(Debug)]
pub(crate) struct SessionBody {
    socket: ReadHalf<Socket>,
    raw: BytesMut,
    chunks: Dechunker,
}

impl SessionBody {
    /// The next piece; `None` at the end.
    pub(crate) async fn next_piece(&mut self) -> Result<Option<Bytes>> {
        loop {
            if let Some(piece) = self.chunks.next_piece(&mut self.raw)? {
                return Ok(Some(piece));
            }
            if self.chunks.is_at_end {
                return Ok(None);
            }
            if self.raw.capacity() - self.raw.len() < READ_BYTES / 4 {
                self.raw.reserve(READ_BYTES);
            }
            if self.socket.read_buf(&mut self.raw).await? == 0 {
                return Err(ClientError::Closed);
            }
        }
    }
}

/// Head of a request on `target`'s records; `headers` are whole lines.
pub(crate) fn request_head(endpoint: &Endpoint, method: &str, target: &Target, query: &str, headers: &str) -> Vec<u8> {
    let (authority, basin, path) = (&endpoint.authority, &target.basin, target.path());
    let token = endpoint.token_line();
    format!("{method} {path}{query} HTTP/1.1\r\nhost: {authority}\r\ns2-basin: {basin}\r\n{token}{headers}\r\n")
        .into_bytes()
}

async fn read_head(socket: &mut Socket, raw: &mut BytesMut) -> Result<Head> {
    loop {
        if let Some(head) = Head::parse(raw)? {
            raw.advance(head.head_bytes);
            return Ok(head);
        }
        fill(socket, raw).await?;
    }
}

async fn fill(socket: &mut Socket, raw: &mut BytesMut) -> Result<()> {
    raw.reserve(1024);
    match socket.read_buf(raw).await? {
        0 => Err(ClientError::Closed),
        _ => Ok(()),
    }
}

const HEAD_BYTES_MAX: usize = 64 << 10;
const CHUNK_BYTES_MAX: usize = 64 << 20;
const LINE_END_BYTES: usize = 2;
const READ_BYTES: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_parsed_once_it_is_whole() {
        let head = b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 12\r\n\r\n";
        for cut in 0..head.len() {
            assert_eq!(Head::parse(&head[..cut]).expect("not malformed"), None, "{cut} bytes");
        }
        let parsed = Head::parse(head).expect("good").expect("whole");
        assert_eq!(parsed, Head { status: 200, head_bytes: head.len(), body: BodyLength::Exactly(12) });
    }

    #[test]
    fn heads_say_how_long_the_body_is() {
        let parse = |text: &str| Head::parse(text.as_bytes()).map(|h| h.expect("whole"));
        let chunked = parse("HTTP/1.1 416 Range\r\nTRANSFER-ENCODING: Chunked\r\n\r\n").expect("good");
        assert_eq!((chunked.status, chunked.body), (416, BodyLength::Chunked));
        assert_eq!(parse("HTTP/1.1 204 No Content\r\n\r\n").expect("good").body, BodyLength::Exactly(0));
        for bad in ["HTTP/2 200\r\n\r\n", "HTTP/1.1 abc\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn chunks_are_joined_however_the_bytes_arrive() {
        let wire = b"5\r\nhello\r\n1;ext=1\r\n \r\nA\r\n0123456789\r\n0\r\n";
        for step in [1, 2, 3, 7, wire.len()] {
            let (mut chunks, mut raw, mut body) = (Dechunker::default(), BytesMut::new(), Vec::new());
            for part in wire.chunks(step) {
                raw.extend_from_slice(part);
                while let Some(piece) = chunks.next_piece(&mut raw).expect("good") {
                    body.extend_from_slice(&piece);
                }
            }
            assert_eq!(body, b"hello 0123456789", "steps of {step}");
            assert!(chunks.is_at_end);
        }
    }
}
