//! Which shard and which group a stream lives in (architecture.md 4).

use xxhash_rust::xxh3::Xxh3;

use crate::name::{BasinName, StreamName};

/// Slots that streams hash into; fixed for ever, since a stream's slot must never change.
pub const SLOTS_COUNT: u32 = 65_536;

/// One of [`SLOTS_COUNT`] parts of the space of names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u16);

/// A consensus group; 0 is the metadata group, data groups count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u32);

impl GroupId {
    /// The group that holds basins. It lives on shard 0.
    pub const METADATA: Self = Self(0);
}

/// A shard: one log and the groups it carries. Counts from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

/// Names one incarnation of a basin; never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BasinId(pub u64);

/// Names one incarnation of a stream within its group; never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// How the slots of a single node are spread: slot -> group -> shard, both round robin.
///
/// Invariant: fixed when the data directory is made, and recorded in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// Data groups of the node, at least 1 per shard.
    pub groups_count: u32,
    /// Shards of the node.
    pub shards_count: u16,
}

impl Placement {
    /// The slot of a stream: the top 16 bits of XXH3-64 over basin name, NUL, stream name.
    #[must_use]
    pub fn slot(basin: &BasinName, stream: &StreamName) -> Slot {
        let mut hash = Xxh3::new();
        hash.update(basin.as_str().as_bytes());
        hash.update(&[0]);
        hash.update(stream.as_str().as_bytes());
        Slot((hash.digest() >> 48) as u16)
    }

    /// The data group that owns `slot`.
    #[must_use]
    pub const fn group(&self, slot: Slot) -> GroupId {
        GroupId(1 + slot.0 as u32 % self.groups_count)
    }

    /// The shard that carries `group`.
    #[must_use]
    pub fn shard(&self, group: GroupId) -> ShardId {
        if group == GroupId::METADATA {
            return ShardId(0);
        }
        let shard = (group.0 - 1) % u32::from(self.shards_count);
        ShardId(u16::try_from(shard).expect("less than shards_count, a u16"))
    }

    /// The data groups that `shard` carries, in order.
    pub fn groups_of(&self, shard: ShardId) -> impl Iterator<Item = GroupId> + use<> {
        let placement = *self;
        (1..=self.groups_count).map(GroupId).filter(move |g| placement.shard(*g) == shard)
    }
}
