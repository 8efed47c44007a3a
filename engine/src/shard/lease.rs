//! Leases: acquire, renew, release, inspect. Giving one sets its token by an ordinary fence record, so that clients who
//! know nothing of leases are fenced as well; record and lease go into one extent, and come into force together.
//!
//! Whether a lease has run out is looked at when somebody asks: an idle one costs no timer.

use bytes::Bytes;
use model::record::{BatchBuilder, Span};
use model::{Batch, FencingToken};

use crate::event::{Effects, LeaseInfo, LeaseRequest, Now, Reply, ReplyTo, Target};
use crate::mutation::Mutation;
use crate::shard::Shard;
use crate::shard::append::{Place, Refusal};
use crate::shard::stage::Answer;
use crate::stream::admit::{Conditions, admit};
use crate::stream::lease::Held;
use crate::stream::op::ControlOp;

impl Shard {
    pub(crate) fn lease(
        &mut self,
        now: Now,
        to: ReplyTo,
        target: &Target,
        request: LeaseRequest,
        effects: &mut Effects,
    ) {
        if let Err(refusal) = self.try_lease(now, to, target, request, effects) {
            self.fail(to, refusal, effects);
        }
    }

    fn try_lease(
        &mut self,
        now: Now,
        to: ReplyTo,
        target: &Target,
        request: LeaseRequest,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        let place = self.existing_place(target)?;
        let held = self.lease_of(now, place);
        let stream = self.stream(place);
        let ticket = stream.touched;
        let in_force = stream.next_token.clone();
        let is_ours = |token: &FencingToken| {
            held.is_some() && (in_force.as_ref() == Some(token) || Mutation::LeaseRenewedByAnybody.is_on())
        };
        let refused = match &request {
            LeaseRequest::Inspect => Some(Reply::Lease(held.clone())),
            LeaseRequest::Acquire { .. } => {
                held.clone().filter(|_| !Mutation::LeaseGivenTwice.is_on()).map(Reply::LeaseHeld)
            }
            LeaseRequest::Renew { token, .. } | LeaseRequest::Release { token } => {
                (!is_ours(token)).then_some(Reply::LeaseLost)
            }
        };
        if let Some(reply) = refused {
            self.reply_after(if Mutation::LeaseHeldEarly.is_on() { 0 } else { ticket }, to, reply, effects);
            return Ok(());
        }
        // As for other commands: they make room rather than take it.
        self.check_space(0)?;
        match (request, held) {
            (LeaseRequest::Acquire { holder, duration, token }, _) => {
                let generation = self.stream(place).lease.as_ref().map_or(1, |lease| lease.next_generation());
                let generation = generation - u64::from(Mutation::LeaseGenerationReused.is_on());
                if !Mutation::LeaseWithoutItsFence.is_on() {
                    self.stage_fence(now, place, &token, Answer::Nobody)?;
                }
                self.stage_lease(now, place, Held { holder, duration }, generation, to, effects);
            }
            (LeaseRequest::Renew { duration, .. }, Some(LeaseInfo { holder, duration: before, generation, .. })) => {
                let duration = duration.filter(|_| !Mutation::LeaseRenewalUnwritten.is_on()).unwrap_or(before);
                self.stage_lease(now, place, Held { holder, duration }, generation, to, effects);
            }
            (LeaseRequest::Release { .. }, _) => {
                self.stage_fence(now, place, &FencingToken::empty(), Answer::With(to, Box::new(Reply::Done)))?;
            }
            (LeaseRequest::Renew { .. }, None) | (LeaseRequest::Inspect, _) => unreachable!("answered above"),
        }
        Ok(())
    }

    fn lease_of(&self, now: Now, place: Place) -> Option<LeaseInfo> {
        self.stream(place).lease.as_ref()?.held(now.mono_us, self.started_us)
    }

    /// Puts a fence record into the open extent. Another token than the one in force ends a lease.
    fn stage_fence(&mut self, now: Now, place: Place, token: &FencingToken, answer: Answer) -> Result<(), Refusal> {
        let stream = self.state.groups[place.0].catalog.get(place.1).expect("just found");
        let batch = fence(token, now.wall_ms);
        let conditions = Conditions { match_seq_num: None, fencing_token: None };
        let admitted = admit(stream, &batch, conditions, now.wall_ms, &mut self.timestamps);
        let admitted = admitted.map_err(|rejected| (rejected.into(), stream.touched))?;
        self.stage_batch(now, place, &batch, admitted, (answer, now.mono_us));
        Ok(())
    }

    fn stage_lease(
        &mut self,
        now: Now,
        (group, id): Place,
        held: Held,
        generation: u64,
        to: ReplyTo,
        effects: &mut Effects,
    ) {
        let (ticket, started_us) = (self.stage.ticket, self.started_us);
        let stream = self.state.groups[group].catalog.get_mut(id).expect("just found");
        let lease = stream.lease.get_or_insert_default();
        lease.put_soon(held.clone(), generation, now.mono_us);
        let mut reply = Some((to, Reply::Lease(lease.held(now.mono_us, started_us))));
        stream.touched = ticket;
        if let Some((to, reply)) = reply.take_if(|_| Mutation::LeaseToldEarly.is_on()) {
            effects.reply(to, reply);
        }
        self.stage_control(group, ControlOp::PutLease { id, held, generation }, reply);
    }
}

/// A batch of one fence command, which may go to any stream: commands are never sealed.
fn fence(token: &FencingToken, now_ms: u64) -> Batch {
    let mut raw = FENCE_HEADER.to_vec();
    raw.extend_from_slice(token.as_str().as_bytes());
    let headers = Span::new(0, FENCE_HEADER.len()).expect("small");
    let body = Span::new(FENCE_HEADER.len(), token.as_str().len()).expect("small");
    let mut builder = BatchBuilder::new(Bytes::from(raw));
    builder.push(Some(now_ms), headers, body).expect("a well formed command");
    builder.finish().expect("one record")
}

/// `AppendRecord.headers` of a fence command: an empty name, and `fence`.
const FENCE_HEADER: &[u8] = b"\x12\x07\x12\x05fence";
