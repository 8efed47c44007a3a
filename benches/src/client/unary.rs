//! Unary appends in protobuf: REST over either version of HTTP, or gRPC.

use bytes::Bytes;
use http::{Method, header};

use super::codec::Ack;
use super::http2::RequestHead;
use super::{ClientError, Result, Target, grpc, http1, http2};
use crate::payload::Payload;
use crate::settings::{Endpoint, Protocol};

/// An append ready to be sent, any number of times.
#[derive(Debug, Clone)]
pub(crate) enum Request {
    /// Head and body in one piece.
    Http1(Vec<u8>),
    Http2(Box<RequestHead>, Bytes),
    Grpc(Box<RequestHead>, Bytes),
}

impl Request {
    pub(crate) fn new(endpoint: &Endpoint, protocol: Protocol, target: &Target, payload: &Payload) -> Self {
        match protocol {
            Protocol::Http1 => {
                let headers =
                    format!("content-type: {PROTO}\r\naccept: {PROTO}\r\ncontent-length: {}\r\n", payload.input.len());
                let mut request = http1::request_head(endpoint, "POST", target, "", &headers);
                request.extend_from_slice(&payload.input);
                Self::Http1(request)
            }
            Protocol::Grpc => {
                Self::Grpc(Box::new(grpc::head(endpoint, "Append", target)), grpc::append(target, payload))
            }
            Protocol::Http2 => {
                let headers = [(header::CONTENT_TYPE, PROTO), (header::ACCEPT, PROTO)];
                let head = RequestHead::new(endpoint, Method::POST, target, "", &headers);
                Self::Http2(Box::new(head), payload.input.clone())
            }
        }
    }
}

/// Where appends are sent to, one at a time.
#[derive(Debug)]
pub(crate) enum Channel {
    /// `None` after a failure: the next append connects anew.
    Http1(Endpoint, Option<http1::Connection>),
    /// A clone of a connection that other channels use as well.
    Http2(http2::Connection),
    /// Likewise.
    Grpc(http2::Connection),
}

impl Channel {
    /// `count` channels. Over HTTP/1.1 each is a connection; over HTTP/2 they share a few.
    pub(crate) async fn open_many(endpoint: &Endpoint, protocol: Protocol, count: usize) -> Result<Vec<Self>> {
        let mut channels = Vec::with_capacity(count);
        match protocol {
            Protocol::Http1 => {
                for _ in 0..count {
                    let connection = http1::Connection::open(endpoint).await?;
                    channels.push(Self::Http1(endpoint.clone(), Some(connection)));
                }
            }
            Protocol::Http2 | Protocol::Grpc => {
                let channel = if protocol == Protocol::Grpc { Self::Grpc } else { Self::Http2 };
                while channels.len() < count {
                    let connection = http2::Connection::open(endpoint).await?;
                    let clones = CHANNELS_PER_HTTP2_CONNECTION.min(count - channels.len());
                    channels.extend((0..clones).map(|_| channel(connection.clone())));
                }
            }
        }
        Ok(channels)
    }

    /// Appends, and checks that the ack acknowledges `records` records.
    pub(crate) async fn append(&mut self, request: &Request, records: u64) -> Result<Ack> {
        let (status, body) = match (&mut *self, request) {
            (Self::Http1(endpoint, slot), Request::Http1(bytes)) => {
                // Taken out meanwhile: after a failure nobody knows what is still to come on it.
                let mut connection = match slot.take() {
                    Some(connection) => connection,
                    None => http1::Connection::open(endpoint).await?,
                };
                let answer = connection.exchange(bytes).await?;
                *slot = Some(connection);
                answer
            }
            (Self::Http2(connection), Request::Http2(head, body)) => connection.exchange(head, body.clone()).await?,
            (Self::Grpc(connection), Request::Grpc(head, message)) => {
                return grpc::ack(&connection.call(head, message.clone()).await?, records);
            }
            (Self::Http1(..) | Self::Http2(_) | Self::Grpc(_), _) => {
                unreachable!("channel and request are made for the same protocol")
            }
        };
        if status == 200 { Ack::of(&body, records) } else { Err(ClientError::status(status, &body)) }
    }
}

const PROTO: &str = "application/protobuf";
const CHANNELS_PER_HTTP2_CONNECTION: usize = 64;
