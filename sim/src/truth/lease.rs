//! The truth about the lease of one stream. What the log says is exact: who was given it, how often, and what ended it. When
//! it runs out is known within bounds: the shard decided after the request was sent and before its extent was written.

use engine::stream::lease::Held;

use crate::attempts::{LeaseAsk, LeaseSent};
use crate::violation::{Rule, Violation, broken};

/// One life of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Life {
    /// Which.
    pub number: u32,
    /// When it began, on the shard's monotonic clock.
    pub started_us: u64,
}

impl Life {
    /// The one that begins behind it.
    #[must_use]
    pub(crate) const fn next(self, started_us: u64) -> Self {
        Self { number: self.number + 1, started_us }
    }
}

/// When something that is in the log was decided at the latest, on the shard's monotonic clock, and in which life.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Decided {
    /// Its extent was written.
    pub by_us: u64,
    /// The life.
    pub life: Life,
}

/// A lease that somebody holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holding {
    /// Who, and for how long.
    pub held: Held,
    /// How often it was given.
    pub generation: u64,
    /// The token that came with it.
    pub token: String,
    /// The life it was given or last renewed in.
    life: u32,
    /// When that was sent, and when it was decided at the latest.
    sent_us: u64,
    by_us: u64,
}

impl Holding {
    /// It runs out then: at the earliest, and at the latest.
    #[must_use]
    pub(crate) fn runs_out_us(&self, life: Life) -> (u64, u64) {
        let us = u64::from(self.held.duration.as_ms()) * 1000;
        if self.life == life.number {
            return (self.sent_us + us, self.by_us + us);
        }
        let anew_us = life.started_us + us + GRACE_US;
        (anew_us, anew_us)
    }

    /// Whether it was given before this life.
    #[must_use]
    pub(crate) const fn is_of_before(&self, life: Life) -> bool {
        self.life != life.number
    }
}

/// What a look at the log found of leases, for coverage.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct LeaseSights {
    /// One was given.
    pub given: bool,
    /// One that had run out was given to somebody.
    pub overtaken: bool,
    /// One of an earlier life that had run out was.
    pub overtaken_anew: bool,
    /// One was renewed with another duration.
    pub changed: bool,
    /// One of an earlier life was renewed.
    pub renewed_anew: bool,
    /// A token of somebody else's ended one.
    pub fenced: bool,
    /// One was given back.
    pub released: bool,
}

/// Whether the lease may be given at that time, to whoever asked so.
pub(super) fn check_given(
    before: Option<&Holding>,
    Decided { by_us, life }: Decided,
    sights: &mut LeaseSights,
) -> Result<(), Violation> {
    sights.given = true;
    let Some(before) = before else { return Ok(()) };
    let (earliest_us, _) = before.runs_out_us(life);
    if by_us < earliest_us {
        let what = format!("the lease is given at {by_us} us, and is held until {earliest_us} us: {before:?}");
        return broken(Rule::Leases, what);
    }
    sights.overtaken = true;
    sights.overtaken_anew |= before.is_of_before(life);
    Ok(())
}

/// Whether what was asked with the lease's token may be done.
pub(super) fn check_ours(before: Option<&Holding>, sent: &LeaseSent, life: Life) -> Result<(), Violation> {
    let token = match &sent.ask {
        LeaseAsk::Renew { token, .. } | LeaseAsk::Release { token } => token,
        LeaseAsk::Acquire { .. } | LeaseAsk::Inspect => return broken(Rule::Leases, "nothing of the kind was asked"),
    };
    match before {
        Some(held) if held.token == *token && held.runs_out_us(life).1 > sent.sent_us => Ok(()),
        Some(_) | None => {
            let what = format!("{:?} of {} us is done, and the lease is {before:?}", sent.ask, sent.sent_us);
            broken(Rule::Leases, what)
        }
    }
}

/// The lease as an acquisition or a renewal leaves it, if it is what was asked for.
pub(super) fn put(
    before: (Option<&Holding>, u64),
    (held, generation): (Held, u64),
    sent: &LeaseSent,
    Decided { by_us, life }: Decided,
    sights: &mut LeaseSights,
) -> Result<Holding, Violation> {
    let (before, last) = before;
    let wrong = |what: &str| broken(Rule::Leases, format!("{held:?} #{generation} {what}: {before:?}, last #{last}"));
    let token = match &sent.ask {
        LeaseAsk::Acquire { holder, duration, token } => {
            if (holder, *duration) != (&held.holder, held.duration) {
                return wrong("is not what was asked");
            }
            if generation != last + 1 {
                return wrong("is not the next generation");
            }
            token
        }
        LeaseAsk::Renew { token, duration } => {
            check_ours(before, sent, life)?;
            let is_so = |b: &&Holding| (&b.held.holder, b.generation) == (&held.holder, generation);
            let Some(before) = before.filter(is_so) else { return wrong("is renewed as another") };
            if duration.unwrap_or(before.held.duration) != held.duration {
                return wrong("has another duration");
            }
            sights.changed |= before.held.duration != held.duration;
            sights.renewed_anew |= before.is_of_before(life);
            token
        }
        LeaseAsk::Release { .. } | LeaseAsk::Inspect => return wrong("is not what was asked"),
    };
    Ok(Holding { held, generation, token: token.clone(), life: life.number, sent_us: sent.sent_us, by_us })
}

/// What a lease gets on top when it runs anew (docs/leases.md).
const GRACE_US: u64 = 1_000_000;
