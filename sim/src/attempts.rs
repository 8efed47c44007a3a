//! Appends that were sent and are not settled: what may still come to be in a log.

mod leases;

use std::collections::BTreeMap;

use engine::event::SessionId;
use model::{BasinId, Command, StreamId, StreamName};

use crate::payload::Attempt;
use crate::violation::{Rule, Violation, broken};
pub(crate) use leases::{LeaseAsk, LeaseSent, Leases};

/// One append on its way.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    /// Records in the batch.
    pub records_count: u32,
    /// The one command of a batch that has nothing else in it, so no body that tells whose it is.
    pub lone_command: Option<Command>,
    /// Its basin's incarnation.
    pub basin: BasinId,
    /// Its stream.
    pub stream: StreamName,
    /// Condition.
    pub match_seq_num: Option<u64>,
    /// Condition; the empty string is the empty token.
    pub fencing_token: Option<String>,
    /// Its session, and its place in it.
    pub session: Option<(SessionId, u64)>,
    /// Where it was found in the log: stream and first number.
    pub found: Option<(StreamId, u64)>,
}

/// All appends that may still be found in a log, and sessions.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    sent: BTreeMap<Attempt, Sent>,
    /// What is asked of leases; the fences of those that fence are in `sent` as well.
    pub(crate) leases: Leases,
    sessions: BTreeMap<SessionId, Progress>,
}

/// How far a session is.
#[derive(Debug, Default)]
struct Progress {
    /// The next input that may be found.
    next: u64,
    /// The first input that failed.
    failed: Option<u64>,
}

impl Attempts {
    /// An append leaves its client.
    pub(crate) fn send(&mut self, attempt: Attempt, sent: Sent) {
        if let Some((session, _)) = sent.session {
            self.sessions.entry(session).or_default();
        }
        self.sent.insert(attempt, sent);
    }

    /// An append that is not settled.
    #[must_use]
    pub(crate) fn get(&self, attempt: Attempt) -> Option<&Sent> {
        self.sent.get(&attempt)
    }

    /// The append whose batch is only this command, on this stream. Releases of leases all set the empty token: the one
    /// that could do so while `token` is in force comes first.
    #[must_use]
    pub(crate) fn of_command(
        &self,
        basin: BasinId,
        stream: &StreamName,
        token: &str,
        command: &Command,
    ) -> Option<Attempt> {
        let is_it = |s: &Sent| {
            s.found.is_none() && s.basin == basin && s.stream == *stream && s.lone_command.as_ref() == Some(command)
        };
        let is_barred = |s: &Sent| s.fencing_token.as_ref().is_some_and(|given| given != token);
        let all = self.sent.iter().filter(|(_, s)| is_it(s));
        all.min_by_key(|(attempt, s)| (is_barred(s), **attempt)).map(|(attempt, _)| *attempt)
    }

    /// The batch was found in a log.
    pub(crate) fn found(&mut self, attempt: Attempt, stream: StreamId, first: u64) -> Result<(), Violation> {
        let Some(sent) = self.sent.get_mut(&attempt) else {
            return broken(
                Rule::SentOnce,
                format!("batch {attempt} at {first} was never sent, or was refused or settled"),
            );
        };
        if let Some((_, before)) = sent.found.replace((stream, first)) {
            return broken(Rule::SentOnce, format!("batch {attempt} is at {before} and again at {first}"));
        }
        let Some((session, place)) = sent.session else { return Ok(()) };
        let progress = self.sessions.entry(session).or_default();
        if place < progress.next || progress.failed.is_some_and(|failed| failed < place) {
            let what = format!(
                "input {place} of session {} (append {attempt}) is found, {} is next, {:?} has failed",
                session.number, progress.next, progress.failed
            );
            return broken(Rule::SessionOrder, what);
        }
        progress.next = place + 1;
        Ok(())
    }

    /// It was answered: nothing more may be found of it.
    pub(crate) fn settle(&mut self, attempt: Attempt) -> Option<Sent> {
        self.sent.remove(&attempt)
    }

    /// It was refused, for this reason or that.
    pub(crate) fn refuse(&mut self, attempt: Attempt) -> Option<Sent> {
        let sent = self.sent.remove(&attempt)?;
        if let Some((session, place)) = sent.session {
            let failed = self.sessions.entry(session).or_default().failed.get_or_insert(place);
            *failed = place.min(*failed);
        }
        Some(sent)
    }

    /// The node has died and come back, and all that it left was looked at: what was not found never will be. Returns
    /// how many were found and how many were not.
    pub(crate) fn forget(&mut self, lost: impl IntoIterator<Item = Attempt>) -> (u64, u64) {
        let (mut found, mut vanished) = (0, 0);
        for attempt in lost {
            self.leases.settle(attempt);
            match self.sent.remove(&attempt) {
                Some(Sent { found: Some(_), .. }) => found += 1,
                Some(_) => vanished += 1,
                None => {}
            }
        }
        (found, vanished)
    }
}
