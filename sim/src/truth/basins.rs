//! The truth about basins, from the metadata group.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use engine::event::BasinInfo;
use model::{BasinId, BasinName};

use crate::truth::tokens::TokensTruth;
use crate::violation::{Rule, Violation, broken};

/// One basin.
#[derive(Debug, Clone)]
pub(crate) struct BasinTruth {
    /// As the log has it.
    pub info: Arc<BasinInfo>,
    /// As it had it before, latest last.
    former: VecDeque<Arc<BasinInfo>>,
}

impl BasinTruth {
    /// Whether it is so, or was not so long ago.
    #[must_use]
    pub(crate) fn had(&self, info: &Arc<BasinInfo>) -> bool {
        self.info == *info || self.former.contains(info)
    }
}

/// All basins.
#[derive(Debug, Default)]
pub(crate) struct BasinsTruth {
    by_name: BTreeMap<BasinName, BasinTruth>,
    /// When a name was last free, and when its basin was last being deleted, in simulated time.
    absent_us: BTreeMap<BasinName, u64>,
    deleting_us: BTreeMap<BasinName, u64>,
    last_id: u64,
    /// The other half of the metadata group.
    pub(crate) tokens: TokensTruth,
}

impl BasinsTruth {
    pub(super) fn put(&mut self, info: &Arc<BasinInfo>, now_us: u64) -> Result<(), Violation> {
        match self.by_name.get(&info.name) {
            None if info.id.0 <= self.last_id => {
                return broken(Rule::Basins, format!("basin incarnation {} is given again", info.id.0));
            }
            None => {
                self.absent_us.insert(info.name.clone(), now_us);
            }
            Some(before) if before.info.id != info.id => {
                return broken(Rule::Basins, format!("basin `{}` is replaced while it exists", info.name));
            }
            Some(before) if before.info.deleted_at_ms.is_some() && info.deleted_at_ms.is_none() => {
                return broken(Rule::Basins, format!("basin `{}` comes back from its deletion", info.name));
            }
            Some(_) => {}
        }
        self.last_id = self.last_id.max(info.id.0);
        let before = self.by_name.remove(&info.name);
        let mut former = before.map_or_else(VecDeque::new, |mut before| {
            before.former.push_back(before.info);
            before.former
        });
        if former.len() > FORMER_MAX {
            former.pop_front();
        }
        self.by_name.insert(info.name.clone(), BasinTruth { info: Arc::clone(info), former });
        Ok(())
    }

    pub(super) fn purge(&mut self, name: &BasinName, now_us: u64) -> Result<(), Violation> {
        match self.by_name.remove(name) {
            Some(basin) if basin.info.deleted_at_ms.is_some() => {
                self.deleting_us.insert(name.clone(), now_us);
                Ok(())
            }
            Some(_) => broken(Rule::DeleteLawful, format!("basin `{name}` is purged and was not deleted")),
            None => broken(Rule::DeleteLawful, format!("basin `{name}` is purged twice")),
        }
    }

    /// A basin that exists.
    #[must_use]
    pub(crate) fn get(&self, name: &BasinName) -> Option<&BasinTruth> {
        self.by_name.get(name)
    }

    /// All that exist.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &BasinTruth> {
        self.by_name.values()
    }

    /// Whether this incarnation is being deleted, or gone.
    #[must_use]
    pub(crate) fn is_going(&self, id: BasinId) -> bool {
        self.by_name.values().find(|b| b.info.id == id).is_none_or(|b| b.info.deleted_at_ms.is_some())
    }

    /// Whether the name was free at some time since.
    #[must_use]
    pub(crate) fn was_absent(&self, name: &BasinName, since_us: u64) -> bool {
        !self.by_name.contains_key(name) || self.absent_us.get(name).is_some_and(|at| *at >= since_us)
    }

    /// Whether its basin was being deleted at some time since.
    #[must_use]
    pub(crate) fn was_deleting(&self, name: &BasinName, since_us: u64) -> bool {
        self.by_name.get(name).is_some_and(|b| b.info.deleted_at_ms.is_some())
            || self.deleting_us.get(name).is_some_and(|at| *at >= since_us)
    }
}

/// Configurations remembered of a basin.
const FORMER_MAX: usize = 16;
