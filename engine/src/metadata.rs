//! The metadata group's state: basins, their names in order, their configurations (s2-wire.md 1.7-1.8, 4.9).

pub mod tokens;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{BasinId, BasinName, ShardId};

use crate::event::BasinInfo;
use crate::mutation::Mutation;

/// A basin, as the last accepted change left it.
#[derive(Debug, Clone)]
pub struct Basin {
    /// As it will be once all accepted changes are durable.
    pub info: Arc<BasinInfo>,
    /// As the last durable change left it; `None` while its creation is on its way.
    pub committed: Option<Arc<BasinInfo>>,
    /// Idempotency key of the request that created it.
    pub request_key: Option<u64>,
    /// The ticket of the extent that changed it last.
    pub touched: u64,
    /// When it is to be told to the shards that it is being deleted, in seconds since the Unix epoch.
    pub drop_at_s: u32,
}

impl Basin {
    /// A basin whose creation is on its way.
    #[must_use]
    pub const fn new(info: Arc<BasinInfo>, request_key: Option<u64>) -> Self {
        Self { info, committed: None, request_key, touched: 0, drop_at_s: 0 }
    }

    /// A basin that nothing is on its way for.
    #[must_use]
    pub fn durable(info: Arc<BasinInfo>, request_key: Option<u64>) -> Self {
        Self { committed: Some(Arc::clone(&info)), ..Self::new(info, request_key) }
    }

    fn is_durably_deleted(&self) -> bool {
        let info = if Mutation::DropBeforeDurable.is_on() { Some(&self.info) } else { self.committed.as_ref() };
        info.is_some_and(|info| info.deleted_at_ms.is_some())
    }
}

/// All basins of the node. Lives on shard 0.
#[derive(Debug, Default)]
pub struct Metadata {
    basins: BTreeMap<BasinName, Basin>,
    last_id: u64,
    /// Basins whose streams are going, with the shards that still have some.
    dropping: BTreeMap<BasinId, BTreeSet<ShardId>>,
}

impl Metadata {
    /// The basin of this name.
    #[must_use]
    pub fn get(&self, name: &BasinName) -> Option<&Basin> {
        self.basins.get(name)
    }

    /// An incarnation for a new basin.
    pub fn allocate(&mut self) -> BasinId {
        self.last_id += 1;
        BasinId(self.last_id)
    }

    /// The last incarnation given.
    #[must_use]
    pub const fn last_id(&self) -> u64 {
        self.last_id
    }

    /// Goes on giving incarnations behind this one.
    pub fn skip_ids(&mut self, last_id: u64) {
        self.last_id = self.last_id.max(last_id);
    }

    /// Adds or replaces a basin.
    pub fn put(&mut self, basin: Basin) {
        self.last_id = self.last_id.max(basin.info.id.0);
        self.basins.insert(basin.info.name.clone(), basin);
    }

    /// A change is durable.
    pub fn commit(&mut self, info: &Arc<BasinInfo>) {
        if let Some(basin) = self.basins.get_mut(&info.name).filter(|basin| basin.info.id == info.id) {
            basin.committed = Some(Arc::clone(info));
        }
    }

    /// Takes a basin out.
    pub fn remove(&mut self, name: &BasinName) -> Option<Basin> {
        let basin = self.basins.remove(name)?;
        self.dropping.remove(&basin.info.id);
        Some(basin)
    }

    /// All basins, in order of name.
    pub fn iter(&self) -> impl Iterator<Item = &Basin> {
        self.basins.values()
    }

    /// Basins whose deletion is durable and whose time has come, and that no shard was told of yet.
    #[must_use]
    pub fn to_drop(&self, now_s: u32) -> Vec<BasinId> {
        let deleting = self.basins.values().filter(|b| b.is_durably_deleted() && b.drop_at_s <= now_s);
        deleting.map(|b| b.info.id).filter(|id| !self.dropping.contains_key(id)).collect()
    }

    /// The next time that [`Metadata::to_drop`] has something.
    #[must_use]
    pub fn next_drop_s(&self) -> Option<u32> {
        let deleting = self.basins.values().filter(|b| b.is_durably_deleted());
        deleting.filter(|b| !self.dropping.contains_key(&b.info.id)).map(|b| b.drop_at_s).min()
    }

    /// Notes that these shards were told to drop the basin's streams.
    pub fn dropping(&mut self, basin: BasinId, shards: impl IntoIterator<Item = ShardId>) {
        self.dropping.insert(basin, shards.into_iter().collect());
    }

    /// Notes that a shard has dropped a basin's streams; returns the basin's name when it was the last.
    pub fn dropped(&mut self, basin: BasinId, shard: ShardId) -> Option<BasinName> {
        let shards = self.dropping.get_mut(&basin)?;
        // A shard may say it again. Only once does that end the basin: its name may be another's by then.
        if !shards.remove(&shard) || !shards.is_empty() {
            return None;
        }
        self.basins.values().find(|b| b.info.id == basin).map(|b| b.info.name.clone())
    }
}
