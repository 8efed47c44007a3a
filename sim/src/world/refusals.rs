//! Every refusal is held against the truth: what it says must be so, durably, and nothing of what was refused is in the log.

use model::{Failure, Rejected, StreamId, Unavailable};

use super::World;
use super::judge::{Asked, Pending};
use super::leases::is_of_a_lease;
use crate::coverage::Point;
use crate::truth::StreamTruth;
use crate::violation::{Rule, Violation, broken};

impl World {
    pub(super) fn judge_failure(
        &mut self,
        node: usize,
        token: u64,
        pending: &Pending,
        failure: &Failure,
    ) -> Result<(), Violation> {
        if matches!(pending.asked, Asked::Append { .. })
            && let Some(sent) = self.attempts.refuse(token)
            && let Some((_, first)) = sent.found
        {
            return broken(Rule::SentOnce, format!("append {token} is refused and in the log at {first}: {failure}"));
        }
        if matches!(pending.asked, Asked::Lease(_)) {
            self.refuse_lease(token)?;
        }
        match failure {
            Failure::Rejected(rejected) => self.judge_rejection(node, pending, rejected),
            Failure::Unavailable(unavailable) => self.judge_unavailable(pending, unavailable),
            Failure::Corrupt(what) => {
                self.coverage.point(Point::DamageRead);
                let seat = &self.nodes[node].seats[usize::from(pending.shard.0)];
                if seat.disturbed_us.is_some_and(|at| at >= pending.sent_us) || !seat.rots.is_empty() {
                    Ok(())
                } else {
                    broken(Rule::ReadContents, format!("nothing was damaged: {what}"))
                }
            }
        }
    }

    fn judge_unavailable(&mut self, pending: &Pending, unavailable: &Unavailable) -> Result<(), Violation> {
        match unavailable {
            Unavailable::LogFull => {
                self.coverage.point(Point::LogFull);
                self.pressure = self.pressure.max(8);
                self.check_full(0, pending.shard)
            }
            Unavailable::Busy { .. } => {
                self.coverage.point(Point::Busy);
                Ok(())
            }
            Unavailable::SessionPoisoned if matches!(pending.asked, Asked::Append { .. }) => {
                self.coverage.point(Point::Poisoned);
                Ok(())
            }
            Unavailable::Draining if self.clients_stopped => Ok(()),
            Unavailable::Draining | Unavailable::SessionPoisoned | Unavailable::Storage | Unavailable::Conflict => {
                broken(Rule::Answered, format!("{:?} is answered with {unavailable:?}", pending.asked))
            }
        }
    }

    fn judge_rejection(&mut self, node: usize, pending: &Pending, rejected: &Rejected) -> Result<(), Violation> {
        let since_us = pending.sent_us;
        let basins = &self.nodes[node].seats[0].truth.basins;
        let is_true = match rejected {
            Rejected::BasinNotFound(name) => basins.was_absent(name, since_us),
            Rejected::BasinExists(name) => basins.get(name).is_some() || basins.was_deleting(name, since_us),
            Rejected::TokenNotFound(id) => basins.tokens.was_absent(id, since_us),
            Rejected::TokenExists(id) => {
                self.coverage.point(Point::TokenTaken);
                // Nobody knows how far back the wall clock went if it has jumped since.
                let has_jumped = self.nodes[node].jumped_us.is_some_and(|at| at >= since_us);
                basins.tokens.was_taken(id, since_us, if has_jumped { 0 } else { pending.sent_wall_ms })
            }
            Rejected::TooManyTokens => false,
            Rejected::BasinDeleting(name) => match &pending.named {
                None => basins.was_deleting(name, since_us),
                Some(named) => basins.is_going(named.basin),
            },
            Rejected::StreamNotFound(..) => {
                let (group, named) = self.named(node, pending);
                // A session or follower asks for one incarnation, which may be gone while the name is there again.
                let is_another = pending.before.is_none_or(|b| group.stream(b.id).is_none())
                    || matches!(pending.asked, Asked::Append { .. } | Asked::Follow { .. });
                group.was_absent(named.basin, &named.stream, since_us) || is_another
            }
            Rejected::StreamExists(..) => {
                let (group, named) = self.named(node, pending);
                group.named(named.basin, &named.stream).is_some()
                    || group.was_deleting(named.basin, &named.stream, since_us)
            }
            Rejected::StreamDeleting(..) => {
                let (group, named) = self.named(node, pending);
                if matches!(pending.asked, Asked::Follow { .. }) {
                    self.coverage.point(Point::FollowClosed);
                    return Ok(());
                }
                group.was_deleting(named.basin, &named.stream, since_us)
            }
            Rejected::FencingTokenMismatch(token) => return self.judge_token_mismatch(node, pending, token.as_str()),
            Rejected::SeqNumMismatch(next) => return self.judge_seq_mismatch(node, pending, *next),
            Rejected::Unwritten(tail) => {
                let tail = *tail;
                return self.judge_tail(node, pending, None, tail);
            }
            Rejected::Invalid(_) => matches!(pending.asked, Asked::Append { .. }),
        };
        if is_true { Ok(()) } else { broken(Rule::Existence, format!("{:?}: {rejected}", pending.asked)) }
    }

    fn judge_token_mismatch(&mut self, node: usize, pending: &Pending, token: &str) -> Result<(), Violation> {
        self.coverage.point(match &pending.asked {
            Asked::Append { fencing_token: Some(token), .. } if is_of_a_lease(token) => Point::LeaseFencedOut,
            _ => Point::TokenMismatch,
        });
        let (group, named) = self.named(node, pending);
        let known = group.name(named.basin, &named.stream).cloned().unwrap_or_default();
        let ids = known.current.into_iter().chain(known.former.iter().copied());
        let was = |stream: &StreamTruth, id: StreamId| {
            let tokens = pending.before.filter(|b| b.id == id).map_or(1, |b| b.tokens);
            stream.token.was(&token.to_owned(), tokens)
        };
        if ids.filter_map(|id| group.stream_or_gone(id).map(|s| (s, id))).any(|(s, id)| was(s, id)) {
            return Ok(());
        }
        broken(Rule::ConditionsDurable, format!("stream `{}`: token `{token}` is not in force durably", named.stream))
    }

    fn judge_seq_mismatch(&mut self, node: usize, pending: &Pending, next: u64) -> Result<(), Violation> {
        self.coverage.point(Point::SeqMismatch);
        let (group, named) = self.named(node, pending);
        let known = group.name(named.basin, &named.stream).cloned().unwrap_or_default();
        let ids = known.current.into_iter().chain(known.former.iter().copied());
        let fits = |stream: &StreamTruth, id: StreamId| {
            let floor = pending.before.filter(|b| b.id == id).map_or(0, |b| b.tail);
            next >= floor && next <= stream.tail.seq_num
        };
        if ids.filter_map(|id| group.stream_or_gone(id).map(|s| (s, id))).any(|(s, id)| fits(s, id)) {
            return Ok(());
        }
        broken(Rule::ConditionsDurable, format!("stream `{}`: its next number is not durably {next}", named.stream))
    }
}
