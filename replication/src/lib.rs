//! Consensus groups: which entries are committed, decided by raft behind one seam, [`GroupConsensus`].
//!
//! Pure: no IO, no clock, no task. An entry carries a small [`Descriptor`]; the payload it describes lies beside it
//! in the same log extent, so nothing is encoded or copied here (docs/adr/0003).

mod descriptor;
mod group;
mod log_view;

pub use descriptor::{Descriptor, MalformedDescriptor};
pub use group::{Committed, GroupConsensus, HardState, NotLeader, Persist, PersistEntry, Restored};
