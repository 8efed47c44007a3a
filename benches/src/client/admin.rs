//! The run's own basins and streams: made before, deleted after.

use serde_json::json;

use super::http1::Connection;
use super::{ClientError, Result, Target};
use crate::settings::Endpoint;

/// Creates a basin whose streams come into being by being used.
pub(crate) async fn create_basin(endpoint: &Endpoint, basin: &str) -> Result<()> {
    let body = json!({
        "basin": basin,
        "config": { "create_stream_on_append": true, "create_stream_on_read": true },
    })
    .to_string();
    let headers = format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len());
    expect(&[201], endpoint, "POST /v1/basins", &headers, &body).await
}

/// Deletes a basin and, in the server's own time, its streams.
pub(crate) async fn delete_basin(endpoint: &Endpoint, basin: &str) -> Result<()> {
    expect(&[202], endpoint, &format!("DELETE /v1/basins/{basin}"), "", "").await
}

/// Creates a stream, if it is not there yet. Appends would do it as well, but of several that are the first at once a server may refuse some.
pub(crate) async fn create_stream(endpoint: &Endpoint, target: &Target) -> Result<()> {
    let headers = format!("s2-basin: {}\r\n", target.basin);
    expect(&[201, 200], endpoint, &format!("PUT /v1/streams/{}", target.stream), &headers, "").await
}

async fn expect(success: &[u16], endpoint: &Endpoint, method_and_path: &str, headers: &str, body: &str) -> Result<()> {
    let (authority, token) = (&endpoint.authority, endpoint.token_line());
    let request = format!("{method_and_path} HTTP/1.1\r\nhost: {authority}\r\n{token}{headers}\r\n{body}");
    let (status, answer) = Connection::open(endpoint).await?.exchange(request.as_bytes()).await?;
    if success.contains(&status) { Ok(()) } else { Err(ClientError::status(status, &answer)) }
}
