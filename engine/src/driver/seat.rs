//! What the threads of a node share, and where one shard sits among them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use model::ShardId;

use super::basins::BasinDirectory;
use super::clock::Clock;
use super::device::DurabilityOp;
use super::doorbell::Doorbell;
use super::mailbox::Inbox;
use super::tokens::TokenDirectory;
use crate::shard::ShardStats;

/// Shared by all threads of a node.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) clock: Clock,
    pub(super) durability: DurabilityOp,
    pub(super) write_here_bytes_max: usize,
    pub(super) basins: Arc<BasinDirectory>,
    pub(super) tokens: Arc<TokenDirectory>,
    /// By shard.
    pub(super) inboxes: Vec<Arc<Inbox>>,
    /// By front.
    pub(super) fronts: Vec<Arc<Doorbell>>,
    /// By shard.
    pub(super) boards: Vec<Board>,
}

/// What a shard shows of itself, as it was when it last rested or [`super::carry::SHOW_US`] ago.
#[derive(Debug, Default)]
pub(super) struct Board {
    stats: Mutex<ShardStats>,
    /// It was told to drain, and everything it accepted is durable and answered.
    drained: AtomicBool,
}

impl Board {
    pub(super) fn show(&self, stats: ShardStats, drained: bool) {
        *self.stats.lock().unwrap_or_else(PoisonError::into_inner) = stats;
        self.drained.store(drained, Ordering::Release);
    }

    pub(super) fn stats(&self) -> ShardStats {
        *self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn drained(&self) -> bool {
        self.drained.load(Ordering::Acquire)
    }
}

/// One shard's place.
#[derive(Debug, Clone)]
pub(super) struct Seat {
    pub(super) shard: ShardId,
    pub(super) shared: Arc<Shared>,
}

impl Seat {
    pub(super) fn inbox(&self) -> &Arc<Inbox> {
        &self.shared.inboxes[usize::from(self.shard.0)]
    }

    pub(super) fn board(&self) -> &Board {
        &self.shared.boards[usize::from(self.shard.0)]
    }
}
