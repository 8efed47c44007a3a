//! The socket below a connection: in clear text or through TLS.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::Result;
use crate::settings::{Endpoint, HttpVersion};

/// A connected socket.
#[derive(Debug)]
pub(crate) enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// How to speak TLS to one server.
#[derive(Debug, Clone)]
pub(crate) struct Tls {
    name: ServerName<'static>,
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
}

impl Tls {
    /// For the server of this name, whose certificate one of the PEM file vouches for.
    ///
    /// # Errors
    /// What is wrong with the name or the file, for people.
    pub(crate) fn new(host: &str, roots: &std::path::Path) -> std::result::Result<Self, String> {
        let name = ServerName::try_from(host.to_owned()).map_err(|e| format!("endpoint host `{host}`: {e}"))?;
        let shown = roots.display();
        let mut store = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(roots).map_err(|e| format!("{shown}: {e}"))? {
            let certificate = certificate.map_err(|e| format!("{shown}: {e}"))?;
            store.add(certificate).map_err(|e| format!("{shown}: {e}"))?;
        }
        if store.is_empty() {
            return Err(format!("{shown} has no certificate"));
        }
        let config = |protocol: &str| {
            let mut config = ClientConfig::builder().with_root_certificates(store.clone()).with_no_client_auth();
            config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
            Arc::new(config)
        };
        Ok(Self { name, http1: config("http/1.1"), http2: config("h2") })
    }
}

impl Socket {
    /// Connects, and shakes hands where there is TLS.
    pub(crate) async fn open(endpoint: &Endpoint, version: HttpVersion) -> Result<Self> {
        let socket = TcpStream::connect(endpoint.address).await?;
        socket.set_nodelay(true)?;
        let Some(tls) = &endpoint.tls else { return Ok(Self::Plain(socket)) };
        let config = match version {
            HttpVersion::Http1 => &tls.http1,
            HttpVersion::Http2 => &tls.http2,
        };
        let stream = TlsConnector::from(Arc::clone(config)).connect(tls.name.clone(), socket).await?;
        Ok(Self::Tls(Box::new(stream)))
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Tls(socket) => Pin::new(socket).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, buf),
            Self::Tls(socket) => Pin::new(socket).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, bufs),
            Self::Tls(socket) => Pin::new(socket).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.is_write_vectored(),
            Self::Tls(socket) => socket.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Self::Tls(socket) => Pin::new(socket).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(socket) => Pin::new(socket).poll_shutdown(cx),
        }
    }
}
