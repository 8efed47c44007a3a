//! `/v1/streams/{stream}/lease`: POST acquires, PUT renews, DELETE releases, GET inspects (docs/leases.md).

use api::json::Object;
use api::schema::{self, fencing_token, nullable, object, one_of, reference, text};
use api::{ApiError, Code, negotiate};
use bytes::Bytes;
use engine::event::{BasinInfo, LeaseInfo};
use http::request::Parts;
use http::{Method, StatusCode};
use model::StreamName;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

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
    let parsed = serde_json::from_slice::<Object<T>>(body);
    parsed.map(|Object(body)| body).map_err(|error| ApiError::new(Code::BadJson, format!("invalid JSON: {error}")))
}

fn shown(lease: &LeaseInfo) -> Value {
    json!({
        "holder": lease.holder.as_str(),
        "generation": lease.generation,
        "duration_ms": lease.duration.as_ms(),
        "expires_in_ms": lease.expires_in_ms,
    })
}

/// The schemas of what is asked for and what is answered.
pub(crate) fn schemas() -> [(&'static str, Value); 7] {
    let of = |about, token: &[(&str, Value)]| {
        let mut lease = object(
            about,
            [
                ("holder", text("Who has it.")),
                ("generation", schema::u64("How often the lease of this stream was given.")),
                ("duration_ms", schema::u64("For how long it is given or renewed, in milliseconds.")),
                ("expires_in_ms", schema::u64("How long it holds yet, in milliseconds.")),
            ],
        );
        for (key, schema) in token {
            lease["properties"][*key] = schema.clone();
            lease["required"].as_array_mut().expect("a list").push((*key).into());
        }
        lease
    };
    let token = fencing_token("To append with, to renew and to release.");
    let code = |code: &str| ("code", one_of("What went wrong.", [code]));
    let message = || ("message", text("What went wrong, for people."));
    [
        ("AcquireLeaseRequest", schema::of::<AcquireJson>()),
        ("RenewLeaseRequest", schema::of::<RenewJson>()),
        ("Lease", of("A lease that is in force.", &[])),
        ("AcquiredLease", of("A lease that the caller has now.", &[("token", token)])),
        ("LeaseHeld", of("The lease of another.", &[code("lease_held"), message()])),
        ("LeaseLost", object("The token is of no lease that is in force.", [code("lease_lost"), message()])),
        ("LeaseStatus", object("Who has the lease.", [("lease", nullable(reference("Lease")))])),
    ]
}

/// Who wants the lease.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "AcquireLeaseRequest")]
#[serde(deny_unknown_fields)]
struct AcquireJson {
    /// Who will have it, for others to see: 1 to 64 bytes.
    #[schemars(length(min = 1, max = 64))]
    holder: String,
    /// For how long it shall hold when it is not renewed, in milliseconds.
    #[schemars(range(min = 1000, max = 3_600_000))]
    duration_ms: u64,
    /// How long to wait for it while somebody else has it, in milliseconds. Null or absent: not at all.
    #[schemars(range(max = 60_000))]
    wait_ms: Option<u64>,
}

/// A lease that shall hold for longer.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "RenewLeaseRequest")]
#[serde(deny_unknown_fields)]
struct RenewJson {
    /// The token that came with it.
    #[schemars(length(min = 1, max = 36))]
    token: String,
    /// Another duration, in milliseconds. Null or absent: the one it has.
    #[schemars(range(min = 1000, max = 3_600_000))]
    duration_ms: Option<u64>,
}
