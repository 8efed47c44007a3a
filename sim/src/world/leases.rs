//! Clients that want to be the only one that appends, and what must hold of the answers.
//!
//! Whose a lease is, and for how long, follows from the log (`truth/lease.rs`). An answer is given from state that is durable
//! when it leaves, so each must have been true at some time between the request and now.

use engine::event::{LeaseInfo, LeaseRequest, Op, Reply, Target};
use model::lease::{LeaseDuration, LeaseHolder};
use model::{Command, FencingToken};

use super::World;
use super::clients::{Extra, Place, fencing_token};
use super::judge::{Asked, Pending};
use crate::attempts::{LeaseAsk, LeaseSent, Sent};
use crate::coverage::Point;
use crate::payload::{BODY_BYTES_MIN, Part};
use crate::truth::Holding;
use crate::violation::{Rule, Violation, broken};

/// A lease as its client has been told of it.
#[derive(Debug, Clone)]
pub(super) struct Grant {
    place: Place,
    token: String,
    duration: LeaseDuration,
}

/// What a client knows of leases. It outlives the node: a token is not a connection.
#[derive(Debug, Default)]
pub(super) struct Grants {
    /// What it thinks it holds.
    now: Option<Grant>,
    /// What it held before.
    former: Option<Grant>,
}

impl Grants {
    fn lose(&mut self, token: &str) {
        if self.now.as_ref().is_some_and(|grant| grant.token == token) {
            self.former = self.now.take();
        }
    }

    /// What an answer says of what it holds.
    pub(super) fn hear(&mut self, place: Place, asked: &Asked, reply: &Reply) {
        match (asked, reply) {
            (Asked::Lease(LeaseAsk::Acquire { token, duration, .. }), Reply::Lease(Some(_))) => {
                let grant = Grant { place, token: token.clone(), duration: *duration };
                self.former = self.now.replace(grant).or_else(|| self.former.take());
            }
            (Asked::Lease(LeaseAsk::Renew { token, .. }), Reply::Lease(Some(lease))) => {
                if let Some(grant) = self.now.as_mut().filter(|grant| grant.token == *token) {
                    grant.duration = lease.duration;
                }
            }
            (
                Asked::Lease(LeaseAsk::Renew { token, .. } | LeaseAsk::Release { token }),
                Reply::LeaseLost | Reply::Done,
            ) => {
                self.lose(token);
            }
            (
                Asked::Append { fencing_token: Some(token), .. },
                Reply::Failed(model::Failure::Rejected(model::Rejected::FencingTokenMismatch(_))),
            ) => self.lose(token),
            _ => {}
        }
    }
}

impl World {
    /// The next thing that a client does who wants leases; returns when it goes on.
    pub(super) fn act_holder(&mut self, client: usize) -> u64 {
        let think_us = self.think_us();
        if !self.clients[client].waiting.is_empty() {
            return think_us;
        }
        match self.clients[client].grants.now.clone() {
            Some(grant) => self.use_lease(client, &grant).unwrap_or(think_us),
            None => {
                self.seek_lease(client);
                think_us
            }
        }
    }

    fn use_lease(&mut self, client: usize, grant: &Grant) -> Option<u64> {
        let place = grant.place;
        let Some(target) = self.target(place) else {
            self.clients[client].grants.lose(&grant.token);
            return None;
        };
        let token = grant.token.clone();
        match self.rng.below(100) {
            0..40 => self.append_as(client, place, target, &[Part::Data(BODY_BYTES_MIN, None)], &token),
            40..65 => {
                let duration = self.rng.one_in(3).then(|| self.duration());
                self.ask_lease(client, place, target, LeaseAsk::Renew { token, duration });
            }
            65..71 => self.ask_lease(client, place, target, LeaseAsk::Release { token }),
            71..77 => self.ask_lease(client, place, target, LeaseAsk::Inspect),
            77..81 => self.acquire(client, place, target),
            // The same token again changes nothing.
            81..86 => {
                let parts = [Part::Data(BODY_BYTES_MIN, None), Part::Fence(&token)];
                self.append_as(client, place, target, &parts, &token);
            }
            // Falls silent: comes back a moment before its time is over, or after.
            _ => {
                let us = u64::from(grant.duration.as_ms()) * 1000;
                return Some((us + self.rng.below(400_000)).saturating_sub(200_000));
            }
        }
        None
    }

    fn seek_lease(&mut self, client: usize) {
        let streams_count = self.streams.len().min(CONTESTED_MAX);
        let place = Place { basin: self.rng.at(self.swarm.basins_count), stream: self.rng.at(streams_count) };
        let former = self.clients[client].grants.former.clone().filter(|_| self.rng.one_in(4));
        let place = former.as_ref().map_or(place, |grant| grant.place);
        let Some(target) = self.target(place) else { return };
        match former {
            Some(Grant { token, .. }) => match self.rng.below(3) {
                0 => self.append_as(client, place, target, &[Part::Data(BODY_BYTES_MIN, None)], &token),
                1 => self.ask_lease(client, place, target, LeaseAsk::Renew { token, duration: None }),
                _ => self.ask_lease(client, place, target, LeaseAsk::Release { token }),
            },
            None => self.act_on_lease(client, place, target),
        }
    }

    /// Wants the lease of a stream, or meddles with it.
    pub(super) fn act_on_lease(&mut self, client: usize, place: Place, target: Target) {
        let token = self.known[self.known_at(place)].token.clone();
        match self.rng.below(10) {
            0 => self.ask_lease(client, place, target, LeaseAsk::Inspect),
            // With whatever token is in force, a holder's or not.
            1 => {
                let duration = Some(self.duration());
                self.ask_lease(client, place, target, LeaseAsk::Renew { token, duration });
            }
            2 if !is_of_a_lease(&token) => self.ask_lease(client, place, target, LeaseAsk::Release { token }),
            _ => self.acquire(client, place, target),
        }
    }

    /// Wants the leases that many want, or ends them, all at a time.
    pub(super) fn upset_leases(&mut self, client: usize, basin: usize) {
        for stream in 0..self.streams.len().min(CONTESTED_MAX) {
            let place = Place { basin, stream };
            let Some(target) = self.target(place) else { return };
            if self.rng.one_in(3) {
                self.fence(client, place, target);
            } else {
                self.acquire(client, place, target);
            }
        }
    }

    fn acquire(&mut self, client: usize, place: Place, target: Target) {
        let holder = LeaseHolder::try_from(format!("worker-{client}").as_str()).expect("short");
        let (duration, token) = (self.duration(), format!("{LEASE_TOKEN}{}", self.last_token + 1));
        self.ask_lease(client, place, target, LeaseAsk::Acquire { holder, duration, token });
    }

    fn duration(&mut self) -> LeaseDuration {
        let ms = self.rng.pick(&[1_000, 1_000, 2_000, 5_000, 30_000]) + self.rng.below(1_000);
        LeaseDuration::try_from(ms).expect("a second to an hour")
    }

    fn append_as(&mut self, client: usize, place: Place, target: Target, parts: &[Part<'_>], token: &str) {
        let extra = Extra { fencing_token: Some(token.to_owned()), ..Extra::default() };
        self.append_parts(client, place, target, parts, extra);
    }

    fn ask_lease(&mut self, client: usize, place: Place, target: Target, ask: LeaseAsk) {
        let attempt = self.last_token + 1;
        let (basin, stream) = (target.basin_id, target.stream.clone());
        let (request, fence) = match &ask {
            LeaseAsk::Acquire { holder, duration, token } => {
                let token = fencing_token(token);
                let request =
                    LeaseRequest::Acquire { holder: holder.clone(), duration: *duration, token: token.clone() };
                (request, Some((token, None)))
            }
            LeaseAsk::Renew { token, duration } => {
                (LeaseRequest::Renew { token: fencing_token(token), duration: *duration }, None)
            }
            LeaseAsk::Release { token } => {
                let request = LeaseRequest::Release { token: fencing_token(token) };
                (request, Some((FencingToken::empty(), Some(token.clone()))))
            }
            LeaseAsk::Inspect => (LeaseRequest::Inspect, None),
        };
        if let Some((sets, fencing_token)) = fence {
            let lone_command = Some(Command::Fence(sets));
            let (basin, stream) = (basin, stream.clone());
            let sent = Sent {
                records_count: 1,
                lone_command,
                basin,
                stream,
                match_seq_num: None,
                fencing_token,
                session: None,
                found: None,
            };
            self.attempts.send(attempt, sent);
        }
        let sent_us = self.nodes[0].clock.now(self.now_us).mono_us;
        self.attempts.leases.send(attempt, LeaseSent { basin, stream, ask: ask.clone(), sent_us, put: None });
        self.ask(client, Op::Lease { target, request }, Some(place), Asked::Lease(ask));
    }

    /// A request about a lease was refused: nothing of it may be in the log.
    pub(super) fn refuse_lease(&mut self, token: u64) -> Result<(), Violation> {
        let fence = self.attempts.refuse(token).and_then(|sent| sent.found);
        let put = self.attempts.leases.refuse(token);
        match (fence, put) {
            (None, None) => Ok(()),
            found => broken(Rule::Leases, format!("request {token} is refused and in the log: {found:?}")),
        }
    }

    pub(super) fn judge_lease(
        &mut self,
        node: usize,
        token: u64,
        pending: &Pending,
        reply: &Reply,
    ) -> Result<(), Violation> {
        let Asked::Lease(ask) = &pending.asked else { unreachable!("only these come here") };
        match (ask, reply) {
            (LeaseAsk::Inspect, Reply::Lease(lease)) => {
                self.refuse_lease(token)?;
                match lease {
                    Some(lease) => self.judge_held(node, pending, lease),
                    None => self.judge_lost(node, pending, None),
                }
            }
            (LeaseAsk::Acquire { .. }, Reply::LeaseHeld(lease)) => {
                self.coverage.point(Point::LeaseHeld);
                self.refuse_lease(token)?;
                self.judge_held(node, pending, lease)
            }
            (LeaseAsk::Renew { token: of, .. } | LeaseAsk::Release { token: of }, Reply::LeaseLost) => {
                self.coverage.point(Point::LeaseLost);
                self.refuse_lease(token)?;
                self.judge_lost(node, pending, Some(of))
            }
            (LeaseAsk::Acquire { .. }, Reply::Lease(Some(lease))) => {
                let fence = self.attempts.settle(token).and_then(|sent| sent.found);
                if fence.is_none() {
                    return broken(Rule::AckedIsDurable, "a lease is given and its fence is not in the log");
                }
                self.judge_given(token, lease)
            }
            (LeaseAsk::Renew { .. }, Reply::Lease(Some(lease))) => {
                self.coverage.point(Point::LeaseRenewed);
                self.judge_given(token, lease)
            }
            (LeaseAsk::Release { .. }, Reply::Done) => {
                self.attempts.leases.settle(token);
                match self.attempts.settle(token).and_then(|sent| sent.found) {
                    Some(_) => Ok(()),
                    None => broken(Rule::AckedIsDurable, "a lease is given back and its fence is not in the log"),
                }
            }
            (ask, reply) => broken(Rule::Answered, format!("{ask:?} is answered with {reply:?}")),
        }
    }

    /// What is acknowledged is in the log, just so, and all of its time is still ahead.
    fn judge_given(&mut self, token: u64, lease: &LeaseInfo) -> Result<(), Violation> {
        let put = self.attempts.leases.settle(token).and_then(|sent| sent.put);
        let is = put.as_ref().map(|(held, generation)| LeaseInfo {
            holder: held.holder.clone(),
            duration: held.duration,
            generation: *generation,
            expires_in_ms: held.duration.as_ms().into(),
        });
        match is {
            Some(is) if is == *lease => Ok(()),
            None => broken(Rule::AckedIsDurable, format!("{lease:?} is acknowledged and is not in the log")),
            Some(is) => broken(Rule::Leases, format!("{lease:?} is acknowledged and the log has {is:?}")),
        }
    }

    /// Somebody held it so while the request was under way.
    fn judge_held(&mut self, node: usize, pending: &Pending, lease: &LeaseInfo) -> Result<(), Violation> {
        let (sent_us, now_us) = (pending.sent_mono_us, self.mono_us(node));
        let life = self.nodes[node].seats[usize::from(pending.shard.0)].truth.life();
        let is_so = |holding: &Option<Holding>| {
            let Some(Holding { held, generation, .. }) = holding else { return false };
            let (earliest_us, latest_us) = holding.as_ref().expect("just seen").runs_out_us(life);
            let left_ms =
                earliest_us.saturating_sub(now_us).div_ceil(1000)..=latest_us.saturating_sub(sent_us).div_ceil(1000);
            (&held.holder, held.duration, *generation) == (&lease.holder, lease.duration, lease.generation)
                && lease.expires_in_ms > 0
                && left_ms.contains(&lease.expires_in_ms)
        };
        if self.was_lease(node, pending, is_so) {
            return Ok(());
        }
        broken(Rule::Leases, format!("nobody held it so from {sent_us} us to {now_us} us: {lease:?}"))
    }

    /// While the request was under way nobody held it, or not with this token.
    fn judge_lost(&mut self, node: usize, pending: &Pending, token: Option<&str>) -> Result<(), Violation> {
        let (sent_us, now_us) = (pending.sent_mono_us, self.mono_us(node));
        let life = self.nodes[node].seats[usize::from(pending.shard.0)].truth.life();
        let is_so = |holding: &Option<Holding>| {
            holding.as_ref().is_none_or(|holding| {
                token.is_some_and(|token| token != holding.token) || holding.runs_out_us(life).0 <= now_us
            })
        };
        if self.was_lease(node, pending, is_so) {
            return Ok(());
        }
        broken(Rule::Leases, format!("it was held all the time from {sent_us} us to {now_us} us"))
    }

    fn was_lease(&self, node: usize, pending: &Pending, is_so: impl Fn(&Option<Holding>) -> bool) -> bool {
        let (group, named) = self.named(node, pending);
        let known = group.name(named.basin, &named.stream).cloned().unwrap_or_default();
        let mut ids = known.current.into_iter().chain(known.former.iter().copied());
        ids.any(|id| {
            let Some(stream) = group.stream_or_gone(id) else { return false };
            stream.lease.was_so(pending.leases_of(id), &is_so)
        })
    }

    fn mono_us(&mut self, node: usize) -> u64 {
        let now_us = self.now_us;
        self.nodes[node].now(now_us).mono_us
    }
}

/// Whether a token came with a lease.
pub(super) fn is_of_a_lease(token: &str) -> bool {
    token.starts_with(LEASE_TOKEN)
}

/// What tokens of leases begin with, and no other does.
const LEASE_TOKEN: &str = "worker's ";
/// Streams of a basin that such clients want, so that they meet.
const CONTESTED_MAX: usize = 2;
