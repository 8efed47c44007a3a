//! All shards of a process over one data directory.

use std::sync::Arc;
use std::time::Duration;

use model::placement::Placement;

use super::basins::BasinDirectory;
use super::clock::Clock;
use super::config::NodeConfig;
use super::mailbox::FrontPort;
use super::report::{NodeReport, StartError};
use crate::shard::ShardStats;

/// The running shards. Dropping it stops them.
#[derive(Debug)]
pub struct Node {}

impl Node {
    /// Opens or makes the data directory, recovers all shards and starts them.
    ///
    /// # Errors
    /// See [`StartError`]; nothing runs then, and nothing was written to the logs.
    pub fn start(_config: NodeConfig) -> Result<Self, StartError> {
        unimplemented!()
    }

    /// The port of front `front`, to be moved to its thread.
    ///
    /// # Panics
    /// When it was taken before, or there is no such front.
    #[must_use]
    pub fn front_port(&self, _front: u16) -> FrontPort {
        unimplemented!()
    }

    /// What is in force.
    #[must_use]
    pub fn report(&self) -> &NodeReport {
        unimplemented!()
    }

    /// The committed basins.
    #[must_use]
    pub fn basins(&self) -> Arc<BasinDirectory> {
        unimplemented!()
    }

    /// How streams are spread.
    #[must_use]
    pub fn placement(&self) -> Placement {
        unimplemented!()
    }

    /// The clock of all arrival times.
    #[must_use]
    pub fn clock(&self) -> Clock {
        unimplemented!()
    }

    /// Counters and gauges by shard, a moment old.
    #[must_use]
    pub fn stats(&self) -> Vec<ShardStats> {
        unimplemented!()
    }

    /// Tells the shards to refuse new appends and waits until all that was accepted is durable and answered; false when
    /// that takes longer than `patience`. Fronts go on taking answers meanwhile.
    #[must_use]
    pub fn drain(&self, _patience: Duration) -> bool {
        unimplemented!()
    }

    /// Ends all threads; what was not answered by then never is.
    pub fn stop(self) {
        unimplemented!()
    }
}
