//! What is in force, for the lines that the process prints at start, and why a node could not start.

use std::fmt;
use std::path::PathBuf;

use model::ShardId;
use model::placement::Placement;

use super::device::{DeviceProbe, DurabilityOp};
use crate::shard::{Recovered, RecoveryError};

/// What runs the shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DriverKind {
    /// Shards on their fronts' threads.
    Inline,
    /// A glommio executor and an io_uring of its own per shard.
    Glommio,
    /// Plain threads that block in system calls.
    Threads,
}

impl fmt::Display for DriverKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inline => "inline (shards on their fronts' threads)",
            Self::Glommio => "glommio (io_uring)",
            Self::Threads => "threads (no io_uring)",
        })
    }
}

/// What a node may use, in bytes; the sum over its shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemoryBudget {
    /// Recent extents for readers.
    pub cache_bytes: u64,
    /// Indexes of the logs.
    pub index_bytes: u64,
    /// Batches that are not yet durable.
    pub pending_bytes: u64,
    /// Queues between fronts and shards.
    pub queue_bytes: u64,
}

impl MemoryBudget {
    /// All of it.
    #[must_use]
    pub const fn total_bytes(&self) -> u64 {
        self.cache_bytes + self.index_bytes + self.pending_bytes + self.queue_bytes
    }
}

/// What is in force since the start.
#[derive(Debug, Clone)]
pub struct NodeReport {
    /// Which driver.
    pub driver: DriverKind,
    /// Why that one, in one line.
    pub driver_reason: String,
    /// How an extent becomes durable.
    pub durability: DurabilityOp,
    /// What the probe of the device measured and read.
    pub device: DeviceProbe,
    /// The data directory.
    pub dir: PathBuf,
    /// Its identity.
    pub directory_id: u128,
    /// How streams are spread.
    pub placement: Placement,
    /// Size of a segment file.
    pub segment_bytes: u64,
    /// Segments that a shard's log may have.
    pub segments_max: u64,
    /// The cores that the shards are pinned to; empty when they are not.
    pub pinned_to: Vec<usize>,
    /// What recovery found, by shard.
    pub recovered: Vec<Recovered>,
    /// What may be used.
    pub memory: MemoryBudget,
    /// Settings that the data directory overruled, in one line each.
    pub notices: Vec<String>,
}

impl fmt::Display for NodeReport {
    /// A few lines for the start of the process.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes >> 20;
        writeln!(f, "driver {}: {}", self.driver, self.driver_reason)?;
        writeln!(f, "durability {}: {}", self.durability, self.device)?;
        writeln!(
            f,
            "data directory {}: {} shards, {} groups, {} segments of {} MiB per shard at most",
            self.dir.display(),
            self.placement.shards_count,
            self.placement.groups_count,
            self.segments_max,
            mib(self.segment_bytes),
        )?;
        for (shard, recovered) in self.recovered.iter().enumerate() {
            writeln!(
                f,
                "shard {shard}: {} streams, {} extents replayed ({} KiB), {} torn extents cut off",
                recovered.streams_count,
                recovered.extents_count,
                recovered.replayed_bytes >> 10,
                recovered.torn_count,
            )?;
            if let Some(lost) = &recovered.lost {
                writeln!(f, "DATA LOST, as --accept-data-loss allows: {lost}")?;
            }
        }
        for notice in &self.notices {
            writeln!(f, "notice: {notice}")?;
        }
        write!(
            f,
            "memory at most {} MiB: cache {}, index {}, pending {}, queues {}",
            mib(self.memory.total_bytes()),
            mib(self.memory.cache_bytes),
            mib(self.memory.index_bytes),
            mib(self.memory.pending_bytes),
            mib(self.memory.queue_bytes),
        )
    }
}

/// Why a node does not start. Says what the operator can do.
#[derive(Debug)]
pub enum StartError {
    /// The settings make no sense.
    Settings(String),
    /// Another process has the data directory.
    InUse {
        /// The data directory.
        dir: PathBuf,
        /// Its owner, when it said.
        process: Option<u32>,
    },
    /// The data directory was made by other settings or another version, or is not one.
    Directory {
        /// The data directory.
        dir: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// The system refused something.
    Io {
        /// What was tried.
        what: String,
        /// The file.
        path: PathBuf,
        /// The answer.
        source: std::io::Error,
    },
    /// The disk does not give back a part of the log that a start has to read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// From where on, in bytes.
        offset: u64,
        /// The answer.
        source: std::io::Error,
    },
    /// The driver that was asked for does not run here.
    Driver(String),
    /// What was durable is damaged. The error names the shard.
    Recovery {
        /// Whose log.
        shard: ShardId,
        /// What is damaged, and the way out.
        error: RecoveryError,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Settings(reason) => f.write_str(reason),
            Self::InUse { dir, process: Some(process) } => {
                write!(f, "data directory {} is in use by process {process}", dir.display())
            }
            Self::InUse { dir, process: None } => {
                write!(f, "data directory {} is in use by another process", dir.display())
            }
            Self::Directory { dir, reason } => write!(f, "data directory {}: {reason}", dir.display()),
            Self::Io { what, path, source } => write!(f, "{what} {}: {source}", path.display()),
            Self::Unreadable { path, offset, source } => write!(
                f,
                "the disk does not give back {} at offset {offset}: {source}. Nothing was changed. Look at the kernel's log \
                 and the disk. Restore this data directory from a copy; or copy it to a sound disk with a tool that puts \
                 zeros for what cannot be read (ddrescue, dd conv=noerror,sync), and start on that",
                path.display()
            ),
            Self::Driver(reason) => f.write_str(reason),
            Self::Recovery { error, .. } => error.fmt(f),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } | Self::Unreadable { source, .. } => Some(source),
            Self::Recovery { error, .. } => Some(error),
            Self::Settings(_) | Self::InUse { .. } | Self::Directory { .. } | Self::Driver(_) => None,
        }
    }
}

impl StartError {
    /// For `map_err`.
    pub(super) fn io(what: &str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let (what, path) = (what.to_owned(), path.to_owned());
        move |source| Self::Io { what, path, source }
    }
}
