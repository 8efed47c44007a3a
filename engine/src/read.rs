//! Reads: recent extents in memory, walking log bytes, cutting them to a reader's limits, and who waits.

pub mod cache;
pub mod collect;
pub mod waiters;
pub mod walk;
