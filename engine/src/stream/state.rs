//! One stream. Kept under 256 bytes beside its name and index, whether anybody uses it or not.

use std::sync::Arc;

use model::config::{Cipher, ResolvedStreamConfig};
use model::{BasinId, Command, FencingToken, Position, StreamId, StreamName};

use crate::event::StreamInfo;
use crate::mutation::Mutation;
use crate::stream::index::StreamIndex;
use crate::stream::lease::Lease;
use crate::stream::op::BatchOp;

/// How far a stream's existence or deletion has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// Its creation is on its way to being durable: appends go on, readers do not see it.
    Creating,
    /// It is there.
    Active,
    /// Its deletion is on its way to being durable: appends are refused, readers still see it.
    DeletingSoon,
    /// Both its creation and its deletion are on their way: appends are refused, and readers never see it.
    DeletingUnseen,
    /// It is being deleted: nothing works but deleting it again.
    Deleting,
}

/// One stream.
///
/// Invariants: `trim_point <= tail.seq_num <= next.seq_num`; the index covers `trim_point..tail.seq_num`.
#[derive(Debug, Clone)]
pub struct Stream {
    /// Its incarnation.
    pub id: StreamId,
    /// Its basin.
    pub basin: BasinId,
    /// Its name.
    pub name: StreamName,
    /// Speculative configuration, which new appends follow; shared by all streams that have the same.
    pub config: Arc<ResolvedStreamConfig>,
    /// Committed configuration.
    pub committed_config: Arc<ResolvedStreamConfig>,
    /// Milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// Idempotency key of the request that created it.
    pub request_key: Option<u64>,
    /// When its deletion was asked for, in milliseconds since the Unix epoch.
    pub deleted_ms: u64,
    /// Where its records are.
    pub index: StreamIndex,
    /// Committed: the number the next record gets and the last one's timestamp.
    pub tail: Position,
    /// Committed: records below are gone.
    pub trim_point: u64,
    /// Speculative: what the next append gets, and the timestamp it may not fall below.
    pub next: Position,
    /// Committed token; `None` is the empty one.
    pub token: Option<FencingToken>,
    /// Speculative token.
    pub next_token: Option<FencingToken>,
    /// The ticket of the extent that changed it last; once that is applied, both faces agree.
    pub touched: u64,
    /// When it was last written, or created, in seconds since the Unix epoch.
    pub written_s: u32,
    /// The deadline it is listed under, in seconds since the Unix epoch; 0 is none.
    pub deadline_s: u32,
    /// Its lease, if it ever had one.
    pub lease: Option<Box<Lease>>,
    /// Its cipher.
    pub cipher: Option<Cipher>,
    /// Whether it is there.
    pub life: Life,
}

impl Stream {
    /// A new stream, not yet durable.
    #[must_use]
    pub fn new(
        id: StreamId,
        basin: BasinId,
        name: StreamName,
        config: Arc<ResolvedStreamConfig>,
        created_ms: u64,
    ) -> Self {
        Self {
            id,
            basin,
            name,
            committed_config: Arc::clone(&config),
            config,
            created_ms,
            request_key: None,
            deleted_ms: 0,
            index: StreamIndex::default(),
            tail: Position::ZERO,
            trim_point: 0,
            next: Position::ZERO,
            token: None,
            next_token: None,
            touched: 0,
            written_s: seconds(created_ms),
            deadline_s: 0,
            lease: None,
            cipher: None,
            life: Life::Creating,
        }
    }

    /// As listings show it.
    #[must_use]
    pub fn info(&self) -> StreamInfo {
        StreamInfo {
            name: self.name.clone(),
            created_at_ms: self.created_ms,
            deleted_at_ms: (self.deleted_ms != 0).then_some(self.deleted_ms),
            cipher: self.cipher,
        }
    }

    /// Whether readers and listings may see it.
    #[must_use]
    pub const fn is_visible(&self) -> bool {
        match self.life {
            Life::Creating | Life::DeletingUnseen => false,
            Life::Active | Life::DeletingSoon | Life::Deleting => true,
        }
    }

    /// Whether no record is left.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.trim_point == self.tail.seq_num
    }

    /// Its deletion is on its way, in the extent of this ticket.
    pub fn delete_soon(&mut self, ticket: u64) {
        self.touched = ticket;
        self.life = match self.life {
            Life::Creating | Life::DeletingUnseen if Mutation::UnseenDeletionShown.is_on() => Life::DeletingSoon,
            Life::Creating | Life::DeletingUnseen => Life::DeletingUnseen,
            Life::Active | Life::DeletingSoon => Life::DeletingSoon,
            // What is durably deleted stays so, also while its basin goes.
            Life::Deleting if Mutation::DeletedSeenAgain.is_on() => Life::DeletingSoon,
            Life::Deleting => Life::Deleting,
        };
    }

    /// Takes an admitted batch into the speculative face.
    pub fn advance(&mut self, op: &BatchOp, ticket: u64) {
        assert_eq!(op.first.seq_num, self.next.seq_num, "numbers are dense");
        assert!(op.end.timestamp >= self.next.timestamp, "timestamps never fall");
        self.next = op.end;
        self.touched = ticket;
        for (_, command) in &op.commands {
            if let Command::Fence(token) = command {
                let token = (!token.as_str().is_empty()).then(|| token.clone());
                let is_same = token == self.next_token && !Mutation::LeaseEndedBySameFence.is_on();
                let ends = !is_same && !Mutation::LeaseOutlivesFence.is_on();
                if let Some(lease) = self.lease.as_mut().filter(|_| ends) {
                    lease.end_soon();
                }
                self.next_token = token;
            }
        }
    }

    /// The planted bug [`Mutation::SeqNumReused`].
    pub(crate) fn rewind(&mut self) {
        self.next = self.tail;
    }

    /// Makes a committed batch visible; returns the new trim point if commands moved it. The caller trims the index.
    pub fn commit(&mut self, op: &BatchOp) -> Option<u64> {
        assert_eq!(op.first.seq_num, self.tail.seq_num, "numbers are dense");
        assert!(op.end.timestamp >= self.tail.timestamp, "timestamps never fall");
        self.tail = op.end;
        self.written_s = self.written_s.max(op.arrived_s);
        let before = self.trim_point;
        for (seq_num, command) in &op.commands {
            match command {
                Command::Fence(token) => {
                    let token = (!token.as_str().is_empty()).then(|| token.clone());
                    let ends = token != self.token && !Mutation::LeaseOutlivesFenceOnDisk.is_on();
                    if let Some(lease) = self.lease.as_mut().filter(|_| ends) {
                        lease.end();
                    }
                    self.token = token;
                }
                Command::Trim(up_to) => {
                    let up_to = up_to + u64::from(Mutation::TrimTooFar.is_on());
                    self.trim_point = self.trim_point.max(up_to.min(seq_num + 1));
                }
            }
        }
        (self.trim_point > before).then_some(self.trim_point)
    }

    /// When something is to be done about it without being asked, in seconds since the Unix epoch; 0 is never.
    #[must_use]
    pub fn next_deadline_s(&self) -> u32 {
        match self.life {
            Life::Creating | Life::DeletingSoon | Life::DeletingUnseen => 0,
            Life::Deleting => seconds(self.deleted_ms).saturating_add(PURGE_DELAY_S),
            Life::Active => {
                let expiry = self.expiry_s();
                let empty = self.empty_deadline_s();
                if expiry == 0 || (empty != 0 && empty < expiry) { empty } else { expiry }
            }
        }
    }

    /// When the oldest records expire.
    fn expiry_s(&self) -> u32 {
        let (Some(age_secs), Some(oldest)) = (self.config.retention_age_secs, self.index.entries().first()) else {
            return 0;
        };
        u32::try_from(u64::from(oldest.last_arrived_s).saturating_add(age_secs).saturating_add(1)).unwrap_or(0)
    }

    /// When the stream is deleted for being empty, if it stays so.
    fn empty_deadline_s(&self) -> u32 {
        let min_age_secs = self.config.delete_on_empty_min_age_secs;
        if min_age_secs == 0 || !self.is_empty() {
            return 0;
        }
        let since_s = if Mutation::EmptyAgeFromCreation.is_on() { seconds(self.created_ms) } else { self.written_s };
        u32::try_from(u64::from(since_s).saturating_add(min_age_secs)).unwrap_or(0)
    }

    /// The number below which records have expired at `now_s`.
    #[must_use]
    pub fn expired_up_to(&self, now_s: u32) -> u64 {
        let Some(age_secs) = self.config.retention_age_secs else { return 0 };
        let Some(cutoff) = u64::from(now_s).checked_sub(age_secs) else { return 0 };
        // A record that arrived at second s is older than `age_secs` from second s + age_secs + 1 on.
        let cutoff_s =
            u32::try_from(cutoff).unwrap_or(u32::MAX).saturating_sub(u32::from(!Mutation::ExpiresEarly.is_on()));
        self.index.first_since(cutoff_s, self.tail.seq_num)
    }

    /// Whether it is to be deleted for being empty at `now_s`.
    #[must_use]
    pub fn is_empty_too_long(&self, now_s: u32) -> bool {
        let deadline = self.empty_deadline_s();
        let is_quiet = self.next == self.tail || Mutation::EmptyThoughInFlight.is_on();
        self.life == Life::Active && deadline != 0 && deadline <= now_s && is_quiet
    }
}

/// Whole seconds of a time in milliseconds; the end of the century's end for times beyond.
#[must_use]
pub fn seconds(ms: u64) -> u32 {
    u32::try_from(ms / 1000).unwrap_or(u32::MAX)
}

/// How long the name of a deleted stream stays taken, so that its deletion can be seen.
const PURGE_DELAY_S: u32 = 1;

const _: () = assert!(size_of::<Stream>() <= 240, "a stream costs less than 256 bytes beside its name");
