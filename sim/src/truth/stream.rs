//! The truth about one stream.

use std::collections::VecDeque;
use std::sync::Arc;

use engine::log::Lsn;
use engine::log::frame::FrameHeader;
use model::config::{Cipher, ResolvedStreamConfig, TimestampingMode};
use model::stored::StoredRecords;
use model::{BasinId, Command, Position, StreamName};

use crate::attempts::Sent;
use crate::payload::{self, Attempt};
use crate::truth::Context;
use crate::truth::lease::Holding;
use crate::violation::{Rule, Violation, broken};

/// One batch as it lies in the log.
#[derive(Debug, Clone)]
pub(crate) struct BatchTruth {
    /// Its first number.
    pub first: u64,
    /// Whose it is; `None` for a batch that is only a command.
    pub attempt: Option<Attempt>,
    /// Of each record.
    pub timestamps: Box<[u64]>,
    /// Commands in it, by place.
    pub commands: Box<[(u32, Command)]>,
    /// Its frame.
    pub lsn: Lsn,
    /// Bytes of the frame.
    pub frame_bytes: u32,
    /// On the shard's wall clock, in seconds.
    pub arrived_s: u32,
    /// Metered size of its records.
    pub metered_bytes: u32,
}

impl BatchTruth {
    /// The number behind its last record.
    #[must_use]
    pub(crate) const fn end(&self) -> u64 {
        self.first + self.timestamps.len() as u64
    }
}

/// A value that changes, with the last few it had.
#[derive(Debug, Clone)]
pub(crate) struct Versions<T> {
    last: VecDeque<T>,
    count: u64,
}

impl<T: PartialEq> Versions<T> {
    fn new(first: T) -> Self {
        Self { last: VecDeque::from([first]), count: 1 }
    }

    pub(super) fn push(&mut self, value: T) {
        if self.last.len() == VERSIONS_MAX {
            self.last.pop_front();
        }
        self.last.push_back(value);
        self.count += 1;
    }

    pub(crate) fn now(&self) -> &T {
        self.last.back().expect("there is always one")
    }

    /// How many there were.
    pub(crate) const fn count(&self) -> u64 {
        self.count
    }

    /// Whether it was this at some time since there were `count`; yes if that is too long ago to tell.
    pub(crate) fn was(&self, value: &T, count: u64) -> bool {
        self.was_so(count, |v| v == value)
    }

    /// Whether it was like this at some time since there were `count`; yes if that is too long ago to tell.
    pub(crate) fn was_so(&self, count: u64, is_so: impl FnMut(&T) -> bool) -> bool {
        let back = usize::try_from(self.count - count + 1).unwrap_or(usize::MAX);
        back > self.last.len() || self.last.iter().rev().take(back).any(is_so)
    }
}

/// One stream.
#[derive(Debug, Clone)]
pub(crate) struct StreamTruth {
    /// Its basin.
    pub basin: BasinId,
    /// Its name.
    pub name: StreamName,
    /// Its configuration, and those before.
    pub(crate) config: Versions<Arc<ResolvedStreamConfig>>,
    /// Being deleted since, in milliseconds since the Unix epoch.
    pub deleted_ms: Option<u64>,
    /// Batches of which something is not trimmed, in order.
    pub batches: VecDeque<BatchTruth>,
    /// Metered size of all records it ever had.
    pub appended_metered_bytes: u64,
    /// The durable tail.
    pub tail: Position,
    /// Records below are gone.
    pub trim_point: u64,
    /// The token in force, and those before; empty is none.
    pub(crate) token: Versions<String>,
    /// What its records are sealed with.
    pub cipher: Option<Cipher>,
    /// Its lease, and those before.
    pub(crate) lease: Versions<Option<Holding>>,
    /// How often its lease was given.
    pub leases_given: u64,
    /// When it was last written, on the shard's wall clock, in seconds.
    pub written_s: u32,
    /// The furthest tail that anybody was told.
    pub told_tail: u64,
}

impl StreamTruth {
    pub(super) fn new(
        basin: BasinId,
        name: StreamName,
        config: Arc<ResolvedStreamConfig>,
        cipher: Option<Cipher>,
        created_ms: u64,
    ) -> Self {
        Self {
            basin,
            name,
            config: Versions::new(config),
            deleted_ms: None,
            batches: VecDeque::new(),
            appended_metered_bytes: 0,
            tail: Position::ZERO,
            trim_point: 0,
            token: Versions::new(String::new()),
            cipher,
            lease: Versions::new(None),
            leases_given: 0,
            written_s: seconds(created_ms),
            told_tail: 0,
        }
    }

    pub(super) fn configure(&mut self, config: Arc<ResolvedStreamConfig>) {
        self.config.push(config);
    }

    /// Decodes a batch of this stream, and says what is wrong with it by itself.
    pub(super) fn decode(
        &self,
        frame: &FrameHeader,
        payload: &[u8],
        lsn: Lsn,
        context: Context,
    ) -> Result<BatchTruth, Violation> {
        let mut timestamps = Vec::with_capacity(frame.records_count as usize);
        let mut commands = Vec::new();
        let mut attempt = None;
        let mut last = self.tail;
        let mut place = 0u32;
        for record in StoredRecords::new(payload) {
            let Ok(record) = record else {
                return broken(Rule::Atomic, format!("stream `{}`: a record that cannot be read", self.name));
            };
            if record.position.seq_num != last.seq_num {
                let what = format!("stream `{}`: {} behind {}", self.name, record.position.seq_num, last.seq_num);
                return broken(Rule::Dense, what);
            }
            let ahead = if self.allows_future() { u64::MAX } else { context.wall_ms_max };
            let timestamp = record.position.timestamp;
            if timestamp < last.timestamp || timestamp > ahead.max(last.timestamp) {
                let what = format!("stream `{}`: timestamp {timestamp} behind {}", self.name, last.timestamp);
                return broken(Rule::Timestamps, what);
            }
            match record.command() {
                Some(command) => commands.push((place, command)),
                None => match payload::whose(&record, self.cipher) {
                    Some((whose, at)) if at == place && attempt.is_none_or(|a| a == whose) => attempt = Some(whose),
                    _ if record.sealed.is_some() != self.cipher.is_some() => {
                        let is = if record.sealed.is_some() { "sealed" } else { "clear" };
                        return broken(Rule::Sealed, format!("stream `{}` has a {is} record", self.name));
                    }
                    _ => return broken(Rule::Atomic, format!("stream `{}`: a body that nobody sent", self.name)),
                },
            }
            timestamps.push(timestamp);
            last = Position { seq_num: last.seq_num + 1, timestamp };
            place += 1;
        }
        let said = (frame.first_seq_num, frame.records_count, frame.first_timestamp, frame.last_timestamp);
        let is = (self.tail.seq_num, place, timestamps.first().copied().unwrap_or(0), last.timestamp);
        if said != is {
            return broken(Rule::Atomic, format!("stream `{}`: the frame says {said:?} and is {is:?}", self.name));
        }
        let frame_bytes = u32::try_from(frame.frame_bytes()).expect("an extent is a few MiB");
        let (timestamps, commands) = (timestamps.into(), commands.into());
        let first = self.tail.seq_num;
        let (arrived_s, metered_bytes) = (frame.arrived_s, frame.metered_bytes);
        Ok(BatchTruth { first, attempt, timestamps, commands, lsn, frame_bytes, arrived_s, metered_bytes })
    }

    /// Whether timestamps beyond the clock may be in its log, now or by a configuration not so long ago.
    fn allows_future(&self) -> bool {
        self.config.last.iter().any(|c| c.timestamping_uncapped && c.timestamping_mode() != TimestampingMode::Arrival)
    }

    /// Whether a batch may have been admitted under these conditions.
    pub(super) fn admits(&self, sent: &Sent, batch: &BatchTruth) -> Result<(), Violation> {
        let name = &self.name;
        if sent.records_count as usize != batch.timestamps.len() {
            let what = format!("stream `{name}`: {} of {} records", batch.timestamps.len(), sent.records_count);
            return broken(Rule::Atomic, what);
        }
        if sent.basin != self.basin || sent.stream != self.name {
            return broken(Rule::SentOnce, format!("stream `{name}` has a batch that was sent to `{}`", sent.stream));
        }
        if let Some(wanted) = sent.match_seq_num.filter(|wanted| *wanted != batch.first) {
            return broken(
                Rule::Conditions,
                format!("stream `{name}`: admitted at {}, asked for {wanted}", batch.first),
            );
        }
        let token = self.token.now();
        match &sent.fencing_token {
            Some(given) if given != token => {
                broken(Rule::Fenced, format!("stream `{name}`: admitted with `{given}` while `{token}` was in force"))
            }
            _ if self.deleted_ms.is_some() => {
                broken(Rule::DeleteLawful, format!("stream `{name}`: admitted while it was being deleted"))
            }
            _ => Ok(()),
        }
    }

    /// Takes a batch. Returns whether that ended a lease: another token than the one in force does.
    pub(super) fn take(&mut self, batch: BatchTruth) -> bool {
        let mut ends = false;
        for (place, command) in &batch.commands {
            match command {
                Command::Fence(token) => {
                    ends |= self.lease.now().is_some() && token.as_str() != self.token.now();
                    self.token.push(token.as_str().to_owned());
                }
                Command::Trim(up_to) => {
                    self.trim_point = self.trim_point.max((*up_to).min(batch.first + u64::from(*place) + 1));
                }
            }
        }
        let timestamp = *batch.timestamps.last().expect("a batch has records");
        self.tail = Position { seq_num: batch.end(), timestamp };
        self.written_s = self.written_s.max(batch.arrived_s);
        self.appended_metered_bytes += u64::from(batch.metered_bytes);
        self.batches.push_back(batch);
        self.drop_trimmed();
        if ends {
            self.lease.push(None);
        }
        ends
    }

    /// Metered size of the batches of which something can be read.
    pub(crate) fn metered_bytes(&self) -> u64 {
        self.batches.iter().map(|batch| u64::from(batch.metered_bytes)).sum()
    }

    /// Records below `up_to` expire, as the shard says.
    pub(super) fn expire(&mut self, up_to: u64, context: Context) -> Result<(), Violation> {
        let now_s = seconds(context.wall_ms_max);
        let ages = self.config.last.iter().filter_map(|c| c.retention_age_secs).min();
        let gone = self.batches.iter().take_while(|b| b.first < up_to);
        for batch in gone {
            let is_old = ages.is_some_and(|age| u64::from(batch.arrived_s) + age < u64::from(now_s));
            if !is_old {
                let what = format!("stream `{}`: expired at {now_s} s what came at {} s", self.name, batch.arrived_s);
                return broken(Rule::TrimLawful, what);
            }
        }
        self.trim_point = self.trim_point.max(up_to.min(self.tail.seq_num));
        self.drop_trimmed();
        Ok(())
    }

    /// Whether it may be deleted for being empty, as of `at_ms`.
    pub(super) fn is_empty_too_long(&self, at_ms: u64) -> bool {
        let min_age = self.config.last.iter().map(|c| c.delete_on_empty_min_age_secs).filter(|age| *age > 0).min();
        let is_empty = self.trim_point == self.tail.seq_num;
        is_empty && min_age.is_some_and(|age| u64::from(self.written_s) + age <= u64::from(seconds(at_ms)))
    }

    /// It is gone, and all its records with it.
    pub(super) fn drop_all(&mut self) {
        self.trim_point = self.tail.seq_num;
        self.batches.clear();
    }

    fn drop_trimmed(&mut self) {
        while self.batches.front().is_some_and(|b| b.end() <= self.trim_point) {
            self.batches.pop_front();
        }
    }

    /// The batch that holds this number.
    #[must_use]
    pub(crate) fn batch_of(&self, seq_num: u64) -> Option<&BatchTruth> {
        let at = self.batches.partition_point(|b| b.end() <= seq_num);
        self.batches.get(at).filter(|b| b.first <= seq_num)
    }
}

/// Whole seconds.
pub(crate) fn seconds(ms: u64) -> u32 {
    u32::try_from(ms / 1000).unwrap_or(u32::MAX)
}

/// Values remembered of what changes.
const VERSIONS_MAX: usize = 64;
