//! Runs shards on cores: carries out effects, reports events, and decides nothing about streams or the log.
//!
//! A [`Node`] is all shards of a process over one data directory. Fronts reach them through [`FrontPort`]s. Three drivers
//! run a shard: `inline` (on the thread of a front), `glommio` (an executor and an io_uring of its own per core) and
//! `threads` (blocking system calls); what they share is `carry`. Two things end the process at once, each with its own exit status: a write or sync that failed
//! ([`EXIT_DEVICE`]) and a panic on a thread of a shard ([`EXIT_PANIC`]).
//!
//! Floors inside: `clock`, `doorbell`, `faults`, `files`, `device`, `guard` < `transfer`, `report` < `mailbox`, `basins`, `tokens`, `config`,
//! `image` < `seat`, `directory`, `housekeeper`, `ring` < `carry` < `inline`, `glommio`, `threads` < `node`.

mod basins;
mod carry;
#[cfg(test)]
mod clerk;
mod clock;
mod config;
mod device;
mod directory;
mod doorbell;
#[cfg(feature = "faults")]
pub mod faults;
mod files;
mod glommio;
mod guard;
mod housekeeper;
mod image;
mod inline;
mod inspect;
mod mailbox;
mod node;
mod report;
mod ring;
mod seat;
mod threads;
mod tokens;
mod transfer;

pub use basins::BasinDirectory;
pub use clock::Clock;
pub use config::{Driver, NodeConfig, Recorded, ShardLimits, default_shards_count};
pub use device::{DeviceProbe, DurabilityOp, probe_device};
pub use directory::{DirectoryUser, directory_user};
pub use inline::{HostedRest, HostedShard, RunningShard};
pub use inspect::{Inspection, inspect_directory};
pub use mailbox::{DRAIN_MAX, FrontPort};
pub use node::Node;
pub use report::{DriverKind, MemoryBudget, NodeReport, StartError};
pub use tokens::TokenDirectory;

/// Exit status after a failed write or sync of the log: what the device promised cannot be trusted any more.
pub const EXIT_DEVICE: i32 = 70;
/// Exit status after a panic on a shard: it has lost its invariants and must not write another byte.
pub const EXIT_PANIC: i32 = 71;
