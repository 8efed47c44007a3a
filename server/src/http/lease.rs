//! `/v1/streams/{stream}/lease`: POST acquires, PUT renews, DELETE releases, GET inspects (docs/leases.md).

use api::{ApiError, Code, negotiate};
use bytes::Bytes;
use engine::event::{BasinInfo, LeaseInfo};
use http::request::Parts;
use http::{Method, StatusCode};
use model::StreamName;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::Front;
use super::answer::{self, Answer, header};
use crate::resource::leases::{Outcome, Wanted, ask, held_message, lost_message};

/// Answers a request to `/v1/streams/{stream}/lease`.
///
/// # Errors
/// As [`ask`], and 400 or 422 for what is malformed.
pub(crate) async fn serve(
    front: &Front,
    parts: &Parts,
    body: &Bytes,
    basin: &BasinInfo,
    stream: StreamName,
) -> Result<Answer, ApiError> {
    let wanted = wanted(parts, body)?;
    let name = stream.clone();
    Ok(match ask(front, basin, stream, wanted).await? {
        Outcome::Acquired(lease, token) => {
            let mut shown = shown(&lease);
            shown["token"] = token.as_str().into();
            answer::json(StatusCode::OK, shown.to_string())
        }
        Outcome::Renewed(lease) => answer::json(StatusCode::OK, shown(&lease).to_string()),
        Outcome::Released => answer::empty(StatusCode::NO_CONTENT),
        Outcome::Seen(lease) => answer::json(StatusCode::OK, json!({ "lease": lease.as_ref().map(shown) }).to_string()),
        Outcome::Held(lease) => {
            let mut body = shown(&lease);
            body["code"] = "lease_held".into();
            body["message"] = held_message(&name, &lease).into();
            answer::json(StatusCode::CONFLICT, body.to_string())
        }
        Outcome::Lost => {
            let body = json!({ "code": "lease_lost", "message": lost_message(&name) });
            answer::json(StatusCode::CONFLICT, body.to_string())
        }
    })
}

fn wanted(parts: &Parts, body: &Bytes) -> Result<Wanted, ApiError> {
    Ok(match parts.method {
        Method::POST => {
            let AcquireJson { holder, duration_ms, wait_ms } = parse(parts, body)?;
            Wanted::acquire(&holder, duration_ms, wait_ms.unwrap_or(0))?
        }
        Method::PUT => {
            let RenewJson { token, duration_ms } = parse(parts, body)?;
            Wanted::renew(&token, duration_ms)?
        }
        Method::DELETE => {
            let query = parts.uri.query().unwrap_or_default();
            let token = query.split('&').find_map(|pair| pair.strip_prefix("token="));
            let token = token.ok_or_else(|| ApiError::new(Code::BadQuery, "missing query parameter `token`"))?;
            Wanted::release(token)?
        }
        _ => Wanted::Inspect,
    })
}

fn parse<T: DeserializeOwned>(parts: &Parts, body: &Bytes) -> Result<T, ApiError> {
    let body = negotiate::required_json(header(&parts.headers, http::header::CONTENT_TYPE), body)?;
    serde_json::from_slice(body).map_err(|error| ApiError::new(Code::BadJson, format!("invalid JSON: {error}")))
}

fn shown(lease: &LeaseInfo) -> serde_json::Value {
    json!({
        "holder": lease.holder.as_str(),
        "generation": lease.generation,
        "duration_ms": lease.duration.as_ms(),
        "expires_in_ms": lease.expires_in_ms,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AcquireJson {
    holder: String,
    duration_ms: u64,
    wait_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RenewJson {
    token: String,
    duration_ms: Option<u64>,
}
