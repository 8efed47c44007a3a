//! Meters: what was done and how much was moved, by minute and basin, kept for 90 days (s2-wire.md 9.3, 9.4).
//!
//! A front counts for itself ([`front`]) and hands over every few seconds; one thread of the process adds it all up and
//! keeps it in files of its own ([`keeper`], [`file`]). Nothing here is on the way of an append to the disk. A kill loses
//! the minute that was not written yet; a drain loses nothing. What is stored is not counted but asked of the shards
//! ([`storage`]).

pub(crate) mod file;
pub(crate) mod front;
pub(crate) mod keeper;
pub(crate) mod meter;
pub(crate) mod query;
pub(crate) mod storage;

pub(crate) use front::FrontMeters;
pub(crate) use keeper::Keeper;
pub(crate) use meter::Meter;
