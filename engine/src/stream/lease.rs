//! The lease of one stream. It has no token of its own: who holds it holds the fencing token that was set with it, and
//! whoever sets another one ends it. So a lease is in force only while the stream's token is the one it came with.
//!
//! Like a stream it has two faces. The speculative one decides, and is the only one with a time: how long a lease holds
//! is known to the process that gave or renewed it; the log has the duration alone. After a restart it runs anew.

use model::lease::{LeaseDuration, LeaseHolder};

use crate::event::LeaseInfo;
use crate::log::codec::{Malformed, Reader, Writer};
use crate::mutation::Mutation;

/// A lease that somebody holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Who.
    pub holder: LeaseHolder,
    /// How long it holds from when it was given, or last renewed.
    pub duration: LeaseDuration,
}

/// One face.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Face {
    /// How often the stream's lease was given.
    generation: u64,
    held: Option<Held>,
}

/// The lease of a stream that has had one. Streams that never had one have no such thing, and cost nothing for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lease {
    next: Face,
    committed: Face,
    /// When the speculative one runs out, on the clock of `Now::mono_us`; `None` when it was given before the shard started.
    deadline_us: Option<u64>,
}

impl Lease {
    /// Who holds it at `now_us`, in a shard that started at `started_us`.
    #[must_use]
    pub fn held(&self, now_us: u64, started_us: u64) -> Option<LeaseInfo> {
        let held = self.next.held.as_ref()?;
        let grace_us = if Mutation::LeaseWithoutGrace.is_on() { 0 } else { GRACE_US };
        let anew_us = if Mutation::LeaseNotAnew.is_on() { 0 } else { us(held.duration) + grace_us };
        let deadline_us = self.deadline_us.unwrap_or(started_us + anew_us);
        let now_us = if Mutation::LeaseNeverRunsOut.is_on() { now_us.min(deadline_us - 1) } else { now_us };
        let left_us = deadline_us.checked_sub(now_us).filter(|left| *left > 0)?;
        Some(LeaseInfo {
            holder: held.holder.clone(),
            duration: held.duration,
            generation: self.next.generation,
            expires_in_ms: left_us.div_ceil(1000),
        })
    }

    /// The number of the next holder.
    #[must_use]
    pub const fn next_generation(&self) -> u64 {
        self.next.generation + 1
    }

    /// It is given, or renewed, from `now_us` on.
    pub fn put_soon(&mut self, held: Held, generation: u64, now_us: u64) {
        if !Mutation::LeaseTimeStands.is_on() || self.next.generation != generation {
            self.deadline_us = Some(now_us + us(held.duration));
        }
        self.next = Face { generation, held: Some(held) };
    }

    /// That is durable.
    pub fn put(&mut self, held: Held, generation: u64) {
        self.committed = Face { generation, held: Some(held) };
    }

    /// Somebody set another fencing token.
    pub fn end_soon(&mut self) {
        self.next.held = None;
    }

    /// That is durable.
    pub fn end(&mut self) {
        self.committed.held = None;
    }

    /// Ends a recovery: both faces agree, and the time runs anew.
    pub fn settle(&mut self) {
        self.next = self.committed.clone();
        self.deadline_us = None;
    }

    /// Writes the committed face.
    pub(crate) fn encode(&self, w: &mut Writer) {
        let face = if Mutation::LeaseInCheckpointAhead.is_on() { &self.next } else { &self.committed };
        w.u64(face.generation);
        w.u8(u8::from(face.held.is_some()));
        if let Some(held) = &face.held {
            put_held(w, held);
        }
    }

    /// Reads what [`Lease::encode`] wrote.
    pub(crate) fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let generation = r.u64()?;
        let held = match r.u8()? {
            0 => None,
            1 => Some(get_held(r)?),
            _ => return Err(Malformed),
        };
        let face = Face { generation, held };
        Ok(Self { next: face.clone(), committed: face, deadline_us: None })
    }
}

/// Writes who holds a lease and for how long.
pub(crate) fn put_held(w: &mut Writer, held: &Held) {
    w.bytes(held.holder.as_str().as_bytes()).u32(held.duration.as_ms());
}

/// Reads what [`put_held`] wrote.
pub(crate) fn get_held(r: &mut Reader<'_>) -> Result<Held, Malformed> {
    Ok(Held {
        holder: LeaseHolder::try_from(r.str()?).map_err(|_| Malformed)?,
        duration: LeaseDuration::try_from(u64::from(r.u32()?)).map_err(|_| Malformed)?,
    })
}

fn us(duration: LeaseDuration) -> u64 {
    u64::from(duration.as_ms()) * 1000
}

/// What a lease gets on top when it runs anew: for a holder whose clock is slow, and for messages that took long.
const GRACE_US: u64 = 1_000_000;
