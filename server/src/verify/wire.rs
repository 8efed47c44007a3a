//! Requests on one connection that is opened anew when it has to be.

use std::rc::Rc;
use std::time::Duration;

use benches::{ClientError, Connection, Endpoint};
use bytes::Bytes;

/// Where the server is and who we are.
#[derive(Debug)]
pub(super) struct Access {
    pub(super) endpoint: Endpoint,
    pub(super) basin: String,
    pub(super) token: Option<String>,
}

/// A client's connection; one request at a time.
#[derive(Debug)]
pub(super) struct Wire {
    access: Rc<Access>,
    /// `None` after a failure: nobody knows what is still to come on the old one.
    connection: Option<Connection>,
}

/// Status and body of an answer.
pub(super) type Answer = (u16, Bytes);

impl Wire {
    pub(super) fn new(access: Rc<Access>) -> Self {
        Self { access, connection: None }
    }

    /// Opens a connection if there is none. When this fails, nothing has left this client.
    pub(super) async fn connect(&mut self) -> Result<(), ClientError> {
        if self.connection.is_none() {
            let opened = tokio::time::timeout(ANSWER_MAX, Connection::open(&self.access.endpoint)).await;
            self.connection = Some(opened.map_err(|_| timed_out())??);
        }
        Ok(())
    }

    /// Sends a request and waits for its answer. After an error nobody knows what became of it, unless it came from
    /// connecting: so who needs to know calls [`Self::connect`] first.
    pub(super) async fn ask(
        &mut self,
        method: &str,
        path: &str,
        content_type: &str,
        body: &[u8],
    ) -> Result<Answer, ClientError> {
        self.connect().await?;
        let Some(mut connection) = self.connection.take() else { return Err(ClientError::Closed) };
        let Access { endpoint, basin, token } = &*self.access;
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\ns2-basin: {basin}\r\naccept: {content_type}\r\n",
            endpoint.authority
        );
        if let Some(token) = token {
            request += &format!("authorization: Bearer {token}\r\n");
        }
        if !body.is_empty() {
            request += &format!("content-type: {content_type}\r\ncontent-length: {}\r\n", body.len());
        }
        request += "\r\n";
        let mut request = request.into_bytes();
        request.extend_from_slice(body);
        let exchange = connection.exchange(&request);
        let (status, body) = tokio::time::timeout(ANSWER_MAX, exchange).await.map_err(|_| timed_out())??;
        // Servers close the connection after some errors.
        if matches!(status, 200..=299 | 412 | 416) {
            self.connection = Some(connection);
        }
        Ok((status, body))
    }
}

fn timed_out() -> ClientError {
    ClientError::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer in time"))
}

/// An answer that takes longer counts as lost.
const ANSWER_MAX: Duration = Duration::from_secs(10);
