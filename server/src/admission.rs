//! Limits per access token, basin and stream: how much may be appended, and how many sessions may be open. Off unless the
//! settings give some; then one set of buckets serves all fronts, so a limit means the whole server.
//!
//! Nothing here knows HTTP: a front asks before it gives a batch to a shard, whatever way the batch came. A refusal says
//! when to come again, and nothing has happened. A batch is taken from all buckets that it concerns or from none.

pub(crate) mod bucket;
pub(crate) mod names;
pub(crate) mod setting;

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Instant;

use api::{ApiError, Code};
use model::{BasinName, StreamName, TokenId};

use crate::metrics::FrontMetrics;
use names::Names;
use setting::NameLimits;

/// What is limited, for one front. It counts what it refuses in the front's metrics.
pub(crate) struct Limits {
    shared: Option<Arc<Shared>>,
    metrics: Arc<FrontMetrics>,
}

/// What all fronts share.
pub(crate) struct Shared {
    /// By [`Scope`].
    names: [Option<Names>; SCOPES.len()],
    hasher: RandomState,
    start: Instant,
}

/// What the names of a request are limited by. Made once per request or session.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Subject([Option<u64>; SCOPES.len()]);

/// Whose limit it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// The access token's; requests without one are not limited by it.
    Token,
    /// The basin's.
    Basin,
    /// The stream's.
    Stream,
}

/// What there is too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Batches.
    Appends,
    /// Metered bytes.
    Bytes,
    /// Open sessions.
    Sessions,
}

/// How somebody asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// By itself: a refusal says when it would be admitted if nobody else came.
    Once,
    /// As one of many that wait: a refusal says when its turn to ask again is.
    InLine,
}

/// A limit is reached; nothing has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limited {
    /// Whose.
    pub(crate) scope: Scope,
    /// Of what.
    pub(crate) kind: Kind,
    /// How many of these, per second or at once.
    pub(crate) most: u64,
    /// When to try again, in nanoseconds from now.
    pub(crate) retry_after_ns: u64,
}

/// A session's place within the limits, given back on drop.
pub(crate) struct Seat {
    shared: Option<Arc<Shared>>,
    subject: Subject,
}

impl Shared {
    /// The limits of tokens, basins and streams; `None` when there are none.
    #[must_use]
    pub(crate) fn new(limits: [&NameLimits; SCOPES.len()]) -> Option<Arc<Self>> {
        let names = limits.map(Names::new);
        names
            .iter()
            .any(Option::is_some)
            .then(|| Arc::new(Self { names, hasher: RandomState::new(), start: Instant::now() }))
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).expect("a process does not run for 500 years")
    }

    /// The names of one kind, and which of them is meant.
    fn at(&self, subject: &Subject, scope: Scope) -> Option<(&Names, u64)> {
        self.names[scope as usize].as_ref().zip(subject.0[scope as usize])
    }

    /// Admits a batch at `now_ns` or says when to try again.
    fn admit(&self, subject: &Subject, bytes: u64, turn: Turn, now_ns: u64) -> Result<(), Limited> {
        // Always in the order of the scopes, so that no two fronts wait for each other.
        let mut parts =
            SCOPES.map(|scope| self.at(subject, scope).map(|(names, key)| (names.rates(), key, names.lock(key))));
        let mut worst: Option<Limited> = None;
        for (scope, part) in SCOPES.into_iter().zip(&mut parts) {
            let Some((rates, key, part)) = part else { continue };
            let used = part.used(*key, *rates, now_ns);
            let Some((kind, wait_ns)) = used.wait(*rates, now_ns) else { continue };
            let retry_after_ns = used.try_again_ns(*rates, now_ns, turn, (wait_ns, bytes));
            if worst.is_none_or(|worst| retry_after_ns > worst.retry_after_ns) {
                worst = Some(Limited { scope, kind, most: rates.most(kind), retry_after_ns });
            }
        }
        if let Some(limited) = worst {
            return Err(limited);
        }
        for (rates, key, part) in parts.iter_mut().flatten() {
            part.used(*key, *rates, now_ns).take(*rates, now_ns, bytes);
        }
        Ok(())
    }

    fn enter(&self, subject: &Subject) -> Result<(), Limited> {
        for (index, scope) in SCOPES.into_iter().enumerate() {
            let Some((names, key)) = self.at(subject, scope) else { continue };
            if let Err(most) = names.enter(key) {
                self.leave(subject, &SCOPES[..index]);
                return Err(Limited { scope, kind: Kind::Sessions, most, retry_after_ns: SESSION_RETRY_NS });
            }
        }
        Ok(())
    }

    fn leave(&self, subject: &Subject, scopes: &[Scope]) {
        for (names, key) in scopes.iter().filter_map(|scope| self.at(subject, *scope)) {
            names.leave(key);
        }
    }
}

impl Limits {
    /// A front's view of what all fronts share.
    #[must_use]
    pub(crate) const fn new(shared: Option<Arc<Shared>>, metrics: Arc<FrontMetrics>) -> Self {
        Self { shared, metrics }
    }

    /// What a request on these names is limited by. The stream's name is the whole one.
    #[must_use]
    pub(crate) fn subject(&self, token: Option<&TokenId>, basin: &BasinName, stream: &StreamName) -> Subject {
        let Some(shared) = &self.shared else { return Subject::default() };
        let hash = |name: (&str, &str)| shared.hasher.hash_one(name);
        Subject([
            token.map(|token| hash((token.as_str(), ""))),
            Some(hash((basin.as_str(), ""))),
            Some(hash((basin.as_str(), stream.as_str()))),
        ])
    }

    /// Admits a batch of so many metered bytes, or says when to come again.
    ///
    /// # Errors
    /// When a limit is reached: nothing was taken.
    pub(crate) fn admit(&self, subject: &Subject, bytes: u64) -> Result<(), Limited> {
        let Some(shared) = &self.shared else { return Ok(()) };
        shared.admit(subject, bytes, Turn::Once, shared.now_ns()).inspect_err(|limited| {
            self.metrics.limited_total(*limited).add(1);
        })
    }

    /// The same for a batch that waits for its turn and has been refused `refusals_count` times. At its turn it asks a few
    /// times, because somebody may have come in between and be a little ahead of it; then it goes to the end of the line.
    ///
    /// # Errors
    /// When a limit is reached: nothing was taken, and `retry_after_ns` is this batch's turn to ask again.
    pub(crate) fn admit_in_line(&self, subject: &Subject, bytes: u64, refusals_count: u32) -> Result<(), Limited> {
        let Some(shared) = &self.shared else { return Ok(()) };
        let turn = if refusals_count.is_multiple_of(TRIES_PER_TURN) { Turn::InLine } else { Turn::Once };
        shared.admit(subject, bytes, turn, shared.now_ns()).inspect_err(|limited| {
            if refusals_count == 0 {
                self.metrics.limit_waits_total(*limited).add(1);
            }
        })
    }

    /// The place of a session on these names. The stream's name is the whole one.
    ///
    /// # Errors
    /// When as many sessions are open as may be.
    pub(crate) fn seat_for(
        &self,
        token: Option<&TokenId>,
        basin: &BasinName,
        stream: &StreamName,
    ) -> Result<Seat, Limited> {
        self.seat(self.subject(token, basin, stream))
    }

    fn seat(&self, subject: Subject) -> Result<Seat, Limited> {
        let Some(shared) = &self.shared else { return Ok(Seat { shared: None, subject }) };
        shared.enter(&subject).inspect_err(|limited| self.metrics.limited_total(*limited).add(1))?;
        Ok(Seat { shared: Some(Arc::clone(shared)), subject })
    }
}

impl Seat {
    /// Whose it is.
    #[must_use]
    pub(crate) const fn subject(&self) -> Subject {
        self.subject
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            shared.leave(&self.subject, &SCOPES);
        }
    }
}

impl Scope {
    /// The word for it.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Basin => "basin",
            Self::Stream => "stream",
        }
    }
}

impl Kind {
    /// The word for it.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Appends => "appends",
            Self::Bytes => "bytes",
            Self::Sessions => "sessions",
        }
    }
}

impl From<Limited> for ApiError {
    /// 429 `rate_limited`, with the time to come again rounded up.
    fn from(limited: Limited) -> Self {
        let Limited { scope, kind, most, retry_after_ns } = limited;
        let scope = scope.as_str();
        let text = match kind {
            Kind::Appends => format!("this {scope} takes {most} appends per second, and had them: try again later"),
            Kind::Bytes => {
                format!("this {scope} takes {most} metered bytes of appends per second, and had them: try again later")
            }
            Kind::Sessions => format!("this {scope} may have {most} open sessions, and has them: close one"),
        };
        let retry_after_ms = u32::try_from(retry_after_ns.div_ceil(1_000_000)).unwrap_or(u32::MAX);
        Self { retry_after_ms: Some(retry_after_ms), ..Self::new(Code::RateLimited, text) }
    }
}

/// Every scope, in the order in which locks are taken.
pub(crate) const SCOPES: [Scope; 3] = [Scope::Token, Scope::Basin, Scope::Stream];
/// Every kind.
pub(crate) const KINDS: [Kind; 3] = [Kind::Appends, Kind::Bytes, Kind::Sessions];
/// How often a batch asks at its turn.
const TRIES_PER_TURN: u32 = 3;
/// Nobody knows when a session ends.
const SESSION_RETRY_NS: u64 = 1_000_000_000;

#[cfg(test)]
#[path = "admission/admission_tests.rs"]
mod tests;
