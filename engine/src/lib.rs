//! One shard of Millrace: the log, the streams in it, reads; and the drivers that run it on a core.
//!
//! Floors inside: `log`, `stream`, `metadata`, `event` < `read` < `shard` < `driver`. Nothing below `driver` waits,
//! reads a clock or a file; nothing in `driver` decides.

pub mod driver;
pub mod event;
pub mod log;
pub mod metadata;
#[cfg(not(feature = "mutations"))]
mod mutation;
#[cfg(feature = "mutations")]
pub mod mutation;
pub mod read;
pub mod shard;
pub mod stream;
