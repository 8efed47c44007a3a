//! Leases on streams: one holder at a time, with a fencing token of its own (docs/leases.md).
//!
//! `/v1/streams/{stream}/lease`: POST acquires, PUT renews, DELETE releases, GET inspects. Nothing of this is in the S2
//! API. To acquire, renew or release is to fence: it takes the operation `fence` of an access token.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use api::json::Object;
use api::schema::{self, fencing_token, nullable, object, one_of, reference, text};
use api::{ApiError, Code, negotiate};
use bytes::Bytes;
use engine::event::{BasinInfo, LeaseInfo, LeaseRequest, Op, Reply, Target};
use http::request::Parts;
use http::{Method, StatusCode};
use model::lease::{LeaseDuration, LeaseHolder};
use model::{Failure, FencingToken, ShardId, StreamName, Unavailable};
use ring::rand::{SecureRandom, SystemRandom};
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::answer::{self, Answer, header};
use super::{Front, Phase};
use crate::router::not_deleting;
use crate::store::unexpected;

/// Requests of one front that wait for a lease; one more is told that the server is busy.
const WAITS_MAX: usize = 1024;
/// How often a lease that is waited for is looked at: somebody may release it early.
const LOOK_PERIOD: Duration = Duration::from_millis(100);
/// Longest wait for a lease.
const WAIT_MS_MAX: u64 = 60_000;
/// Random bytes of a token; its text has two characters for each, within the 36 of a fencing token.
const TOKEN_BYTES: usize = 16;

/// How many requests of a front wait for a lease.
#[derive(Debug, Default)]
pub(crate) struct Waits(Rc<Cell<usize>>);

/// One of them, until it is dropped.
struct Waiting(Rc<Cell<usize>>);

impl Waits {
    fn enter(&self) -> Result<Waiting, ApiError> {
        if self.0.get() >= WAITS_MAX {
            return Err(Failure::from(Unavailable::Busy { retry_after_ms: RETRY_AFTER_MS }).into());
        }
        self.0.set(self.0.get() + 1);
        Ok(Waiting(Rc::clone(&self.0)))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// What came of a request for a lease.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It is given, with this token; nobody else is told.
    Acquired(LeaseInfo, FencingToken),
    /// It holds for longer.
    Renewed(LeaseInfo),
    /// It is given back.
    Released,
    /// Who has it.
    Seen(Option<LeaseInfo>),
    /// Somebody else has it.
    Held(LeaseInfo),
    /// The token is of no lease that is in force.
    Lost,
}

/// A request for a lease, whatever it came in.
#[derive(Debug)]
pub(crate) enum Wanted {
    /// To have it, after waiting this long at most.
    Acquire(LeaseHolder, LeaseDuration, Duration),
    /// To have it for longer.
    Renew(FencingToken, Option<LeaseDuration>),
    /// To give it back.
    Release(FencingToken),
    /// To know who has it.
    Inspect,
}

/// Does what is wanted.
///
/// # Errors
/// 404 `stream_not_found`, 409 when the stream or its basin is being deleted, 429, and those of any append.
pub(crate) async fn ask(
    front: &Front,
    basin: &BasinInfo,
    stream: StreamName,
    wanted: Wanted,
) -> Result<Outcome, ApiError> {
    not_deleting(basin)?;
    let (shard, target) = front.router.target(basin, stream);
    let (reply, token) = match wanted {
        Wanted::Acquire(holder, duration, wait) => {
            let token = new_token()?;
            let request = LeaseRequest::Acquire { holder, duration, token: token.clone() };
            (acquire(front, shard, &target, request, wait).await?, Some(token))
        }
        Wanted::Renew(token, duration) => {
            (once(front, shard, &target, LeaseRequest::Renew { token, duration }).await?, None)
        }
        Wanted::Release(token) => (once(front, shard, &target, LeaseRequest::Release { token }).await?, None),
        Wanted::Inspect => {
            let reply = once(front, shard, &target, LeaseRequest::Inspect).await?;
            let Reply::Lease(lease) = reply else { unexpected("a look at a lease", &reply) };
            return Ok(Outcome::Seen(lease));
        }
    };
    Ok(match (reply, token) {
        (Reply::Lease(Some(lease)), Some(token)) => Outcome::Acquired(lease, token),
        (Reply::Lease(Some(lease)), None) => Outcome::Renewed(lease),
        (Reply::LeaseHeld(lease), _) => Outcome::Held(lease),
        (Reply::LeaseLost, _) => Outcome::Lost,
        (Reply::Done, _) => Outcome::Released,
        (reply, _) => unexpected("a request for a lease", &reply),
    })
}

async fn once(front: &Front, shard: ShardId, target: &Target, request: LeaseRequest) -> Result<Reply, Failure> {
    front.store.ask(shard, Op::Lease { target: target.clone(), request }).await
}

/// Tries until it is given, or the wait is over. Who waits is not in order: whoever looks first gets it.
async fn acquire(
    front: &Front,
    shard: ShardId,
    target: &Target,
    request: LeaseRequest,
    wait: Duration,
) -> Result<Reply, ApiError> {
    let until = Instant::now() + wait;
    let mut waiting = None;
    loop {
        let reply = once(front, shard, target, request.clone()).await?;
        let Reply::LeaseHeld(lease) = &reply else { return Ok(reply) };
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(reply);
        }
        if front.phase.get() > Phase::Serving {
            return Err(Failure::from(Unavailable::Draining).into());
        }
        if waiting.is_none() {
            waiting = Some(front.lease_waits.enter()?);
        }
        let pause = Duration::from_millis(lease.expires_in_ms.max(1)).min(LOOK_PERIOD).min(left);
        // Told at once when the server begins to stop.
        let _ = front.before(Phase::Draining, tokio::time::sleep(pause)).await;
    }
}

/// A token that nobody can guess and that was never used.
fn new_token() -> Result<FencingToken, ApiError> {
    let mut raw = [0; TOKEN_BYTES];
    SystemRandom::new()
        .fill(&mut raw)
        .map_err(|_| ApiError::new(Code::Other, "the system gives no random bytes to make a token of"))?;
    let text: String = raw.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(FencingToken::try_from(&*text).expect("32 characters"))
}

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
            let LeaseInfo { holder, expires_in_ms, .. } = &lease;
            let holder = holder.as_str();
            let mut body = shown(&lease);
            body["code"] = "lease_held".into();
            body["message"] =
                format!("the lease of stream `{name}` is held by `{holder}` for another {expires_in_ms} ms").into();
            answer::json(StatusCode::CONFLICT, body.to_string())
        }
        Outcome::Lost => {
            let message = format!("the token is of no lease of stream `{name}` that is in force: acquire it again");
            let body = json!({ "code": "lease_lost", "message": message });
            answer::json(StatusCode::CONFLICT, body.to_string())
        }
    })
}

fn wanted(parts: &Parts, body: &Bytes) -> Result<Wanted, ApiError> {
    Ok(match parts.method {
        Method::POST => {
            let AcquireJson { holder, duration_ms, wait_ms } = parse(parts, body)?;
            let holder = LeaseHolder::try_from(&*holder).map_err(invalid)?;
            let duration = LeaseDuration::try_from(duration_ms).map_err(invalid)?;
            let wait_ms = wait_ms.unwrap_or(0);
            if wait_ms > WAIT_MS_MAX {
                return Err(invalid(format!("wait_ms must be at most {WAIT_MS_MAX}")));
            }
            Wanted::Acquire(holder, duration, Duration::from_millis(wait_ms))
        }
        Method::PUT => {
            let RenewJson { token, duration_ms } = parse(parts, body)?;
            let duration = duration_ms.map(LeaseDuration::try_from).transpose().map_err(invalid)?;
            Wanted::Renew(checked_token(&token)?, duration)
        }
        Method::DELETE => {
            let query = parts.uri.query().unwrap_or_default();
            let token = query.split('&').find_map(|pair| pair.strip_prefix("token="));
            let token = token.ok_or_else(|| ApiError::new(Code::BadQuery, "missing query parameter `token`"))?;
            Wanted::Release(checked_token(token)?)
        }
        _ => Wanted::Inspect,
    })
}

fn parse<T: DeserializeOwned>(parts: &Parts, body: &Bytes) -> Result<T, ApiError> {
    let body = negotiate::required_json(header(&parts.headers, http::header::CONTENT_TYPE), body)?;
    let parsed = serde_json::from_slice::<Object<T>>(body);
    parsed.map(|Object(body)| body).map_err(|error| ApiError::new(Code::BadJson, format!("invalid JSON: {error}")))
}

/// The empty token is no lease's: it says that nobody is fenced.
fn checked_token(text: &str) -> Result<FencingToken, ApiError> {
    match FencingToken::try_from(text) {
        Ok(token) if !text.is_empty() => Ok(token),
        Ok(_) => Err(invalid("token must not be empty")),
        Err(error) => Err(invalid(error)),
    }
}

fn invalid(why: impl std::fmt::Display) -> ApiError {
    ApiError::new(Code::Invalid, why.to_string())
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

/// What a client is told to wait when too many wait.
const RETRY_AFTER_MS: u32 = 500;
