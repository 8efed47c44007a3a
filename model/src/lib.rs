//! The words of Millrace: names, positions, records, limits, configurations and failures.
//!
//! Everything here is a plain value: no IO, no clock, no randomness. A value of one of these types is the
//! proof that its rule was checked (`StreamName` is a valid stream name; `Batch` is an acceptable batch).

pub mod config;
pub mod failure;
pub mod lease;
pub mod limits;
pub mod name;
pub mod operation;
pub mod placement;
pub mod position;
pub mod record;
pub mod sealed;
pub mod stored;
pub mod token;
pub mod varint;

pub use config::{BasinConfig, ResolvedStreamConfig, RetentionPolicy, StreamConfig, TimestampingMode};
pub use failure::{Failure, Outcome, Rejected, Unavailable};
pub use name::{BasinName, FencingToken, InvalidName, NamePrefix, StreamName};
pub use operation::{Operation, Operations};
pub use placement::{BasinId, GroupId, ShardId, Slot, StreamId};
pub use position::Position;
pub use record::{Batch, BatchBuilder, Command, InvalidBatch, RecordSpan};
pub use token::{AccessToken, Scope, SecretHash, TokenId};
