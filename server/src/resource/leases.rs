//! Leases on streams: one holder at a time, with a fencing token of its own (docs/leases.md). Nothing of this is in the S2
//! API. To acquire, renew or release is to fence: it takes the operation `fence` of an access token.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use api::{ApiError, Code};
use engine::event::{BasinInfo, LeaseInfo, LeaseRequest, Op, Reply, Target};
use model::lease::{LeaseDuration, LeaseHolder};
use model::{Failure, FencingToken, ShardId, StreamName, Unavailable};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::time::Instant;

use crate::http::{Front, Phase};
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

impl Wanted {
    /// To have it.
    ///
    /// # Errors
    /// 422 `invalid`; so do the others here.
    pub(crate) fn acquire(holder: &str, duration_ms: u64, wait_ms: u64) -> Result<Self, ApiError> {
        let holder = LeaseHolder::try_from(holder).map_err(invalid)?;
        let duration = LeaseDuration::try_from(duration_ms).map_err(invalid)?;
        if wait_ms > WAIT_MS_MAX {
            return Err(invalid(format!("wait_ms must be at most {WAIT_MS_MAX}")));
        }
        Ok(Self::Acquire(holder, duration, Duration::from_millis(wait_ms)))
    }

    /// To have it for longer.
    pub(crate) fn renew(token: &str, duration_ms: Option<u64>) -> Result<Self, ApiError> {
        let duration = duration_ms.map(LeaseDuration::try_from).transpose().map_err(invalid)?;
        Ok(Self::Renew(checked_token(token)?, duration))
    }

    /// To give it back.
    pub(crate) fn release(token: &str) -> Result<Self, ApiError> {
        checked_token(token).map(Self::Release)
    }
}

/// What a client is told whose stream is somebody else's.
pub(crate) fn held_message(stream: &StreamName, lease: &LeaseInfo) -> String {
    let LeaseInfo { holder, expires_in_ms, .. } = lease;
    format!("the lease of stream `{stream}` is held by `{}` for another {expires_in_ms} ms", holder.as_str())
}

/// What a client is told whose token is of no use.
pub(crate) fn lost_message(stream: &StreamName) -> String {
    format!("the token is of no lease of stream `{stream}` that is in force: acquire it again")
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

/// What a client is told to wait when too many wait.
const RETRY_AFTER_MS: u32 = 500;
