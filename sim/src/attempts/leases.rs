//! What clients have asked of leases, beside the fences that go with it: whose a renewal in a log is, and what came of it.

use std::collections::BTreeMap;

use engine::stream::lease::Held;
use model::lease::{LeaseDuration, LeaseHolder};
use model::{BasinId, StreamName};

use crate::payload::Attempt;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LeaseAsk {
    /// To have it, with this token.
    Acquire { holder: LeaseHolder, duration: LeaseDuration, token: String },
    /// To have it for longer.
    Renew { token: String, duration: Option<LeaseDuration> },
    /// To give it back.
    Release { token: String },
    /// To know who has it.
    Inspect,
}

/// One such request.
#[derive(Debug, Clone)]
pub(crate) struct LeaseSent {
    /// Its basin's incarnation.
    pub basin: BasinId,
    /// Its stream.
    pub stream: StreamName,
    /// What it wants.
    pub ask: LeaseAsk,
    /// When its client sent it, on the shard's monotonic clock.
    pub sent_us: u64,
    /// The lease in the log that it made: who, for how long, which generation.
    pub put: Option<(Held, u64)>,
}

impl LeaseSent {
    fn keeps_duration(&self) -> bool {
        matches!(self.ask, LeaseAsk::Renew { duration: None, .. })
    }

    fn may_renew(&self, token: &str, to: LeaseDuration) -> bool {
        match &self.ask {
            LeaseAsk::Renew { token: of, duration } => of == token && duration.is_none_or(|wanted| wanted == to),
            LeaseAsk::Acquire { .. } | LeaseAsk::Release { .. } | LeaseAsk::Inspect => false,
        }
    }
}

/// All that are not answered.
#[derive(Debug, Default)]
pub(crate) struct Leases(BTreeMap<Attempt, LeaseSent>);

impl Leases {
    /// It leaves its client.
    pub(crate) fn send(&mut self, attempt: Attempt, sent: LeaseSent) {
        self.0.insert(attempt, sent);
    }

    /// One that is not answered.
    #[must_use]
    pub(crate) fn get(&self, attempt: Attempt) -> Option<&LeaseSent> {
        self.0.get(&attempt)
    }

    /// The first that may have renewed the lease with this token, which was held for `from`, for `to`, and is not in a log.
    /// One that names no duration keeps the one that there is.
    #[must_use]
    pub(crate) fn of_renewal(
        &self,
        (basin, stream): (BasinId, &StreamName),
        token: &str,
        from: LeaseDuration,
        to: LeaseDuration,
    ) -> Option<Attempt> {
        let is_it = |s: &LeaseSent| {
            let fits = s.may_renew(token, to) && (from == to || !s.keeps_duration());
            s.put.is_none() && s.basin == basin && s.stream == *stream && fits
        };
        self.0.iter().find(|(_, sent)| is_it(sent)).map(|(attempt, _)| *attempt)
    }

    /// The lease that it made was found in a log.
    pub(crate) fn found(&mut self, attempt: Attempt, held: Held, generation: u64) {
        let sent = self.0.get_mut(&attempt).expect("just looked up");
        sent.put = Some((held, generation));
    }

    /// It was answered. Of renewals that ask for the same the log does not say which is which: one that was found is as good
    /// as another.
    pub(crate) fn settle(&mut self, attempt: Attempt) -> Option<LeaseSent> {
        let mut sent = self.0.remove(&attempt)?;
        if let (None, LeaseAsk::Renew { token, .. }) = (&sent.put, &sent.ask) {
            let is_it = |other: &LeaseSent| {
                let is_same = other.basin == sent.basin && other.stream == sent.stream;
                let put = other.put.as_ref().map(|(held, _)| held.duration);
                is_same && put.is_some_and(|to| other.may_renew(token, to) && sent.may_renew(token, to))
            };
            let other = self.0.values_mut().find(|other| is_it(other));
            sent.put = other.and_then(|other| other.put.take());
        }
        Some(sent)
    }

    /// It was refused; what it made all the same, if anything. A renewal in the log may as well be another's.
    pub(crate) fn refuse(&mut self, attempt: Attempt) -> Option<(Held, u64)> {
        let sent = self.0.remove(&attempt)?;
        let put = sent.put?;
        if let LeaseAsk::Renew { token, .. } = &sent.ask {
            let other = self.of_renewal((sent.basin, &sent.stream), token, put.0.duration, put.0.duration);
            if let Some(other) = other.and_then(|other| self.0.get_mut(&other)) {
                other.put = Some(put);
                return None;
            }
        }
        Some(put)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn renewal(duration_ms: Option<u64>) -> LeaseSent {
        let duration = duration_ms.map(|ms| ms.try_into().expect("a duration"));
        let stream = StreamName::try_from("s").expect("valid");
        let ask = LeaseAsk::Renew { token: "t".into(), duration };
        LeaseSent { basin: BasinId(1), stream, ask, sent_us: 0, put: None }
    }

    #[test]
    fn of_renewals_that_ask_for_the_same_any_found_one_will_do() {
        let (stream, held) = (
            StreamName::try_from("s").expect("valid"),
            Held { holder: "h".try_into().expect("valid"), duration: 5000.try_into().expect("valid") },
        );
        let mut leases = Leases::default();
        for (attempt, duration_ms) in [(1, None), (2, Some(5000)), (3, Some(9000))] {
            leases.send(attempt, renewal(duration_ms));
        }
        let (at, other) = ((BasinId(1), &stream), 7000.try_into().expect("valid"));
        assert_eq!(leases.of_renewal(at, "other", held.duration, held.duration), None);
        assert_eq!(leases.of_renewal(at, "t", other, held.duration), Some(2), "the first keeps what there is");
        assert_eq!(leases.of_renewal(at, "t", held.duration, held.duration), Some(1));
        leases.found(1, held.clone(), 7);
        assert_eq!(leases.settle(3).and_then(|sent| sent.put), None, "it asked for something else");
        assert_eq!(leases.settle(2).and_then(|sent| sent.put), Some((held, 7)));
        assert_eq!(leases.settle(1).and_then(|sent| sent.put), None, "it was another's, then");
    }
}
