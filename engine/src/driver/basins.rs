//! The committed basins of the node, as every front may look them up without asking a shard.
//!
//! Promise: a change is visible here before any reply that a shard gives after it. The lock is held for a lookup or a
//! page of a listing, never across anything that waits.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock};

use model::{BasinName, NamePrefix};

use crate::event::{BasinChange, BasinInfo};

/// All basins, by name. Bounded by what shard 0 admits.
#[derive(Debug, Default)]
pub struct BasinDirectory(RwLock<BTreeMap<BasinName, Arc<BasinInfo>>>);

impl BasinDirectory {
    /// The basin of this name, if there is one (it may be on its way out: `deleted_at_ms`).
    #[must_use]
    pub fn get(&self, basin: &BasinName) -> Option<Arc<BasinInfo>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(basin).cloned()
    }

    /// Up to `limit` basins whose names begin with `prefix` and come after `start_after`, in order; true when there are
    /// more of them.
    #[must_use]
    pub fn list(&self, prefix: &NamePrefix, start_after: &NamePrefix, limit: usize) -> (Vec<Arc<BasinInfo>>, bool) {
        let (prefix, start_after): (&str, &str) = (prefix.as_ref(), start_after.as_ref());
        let from = if start_after < prefix { Bound::Included(prefix) } else { Bound::Excluded(start_after) };
        let basins = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut matching = basins
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(|(name, _)| AsRef::<str>::as_ref(*name).starts_with(prefix))
            .map(|(_, info)| Arc::clone(info));
        let page = matching.by_ref().take(limit).collect();
        (page, matching.next().is_some())
    }

    /// Takes over a change.
    pub(super) fn apply(&self, change: BasinChange) {
        let mut basins = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match change {
            BasinChange::Put(info) => {
                basins.insert(info.name.clone(), info);
            }
            BasinChange::Removed(name) => {
                basins.remove(&name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use model::BasinId;

    use super::*;

    fn directory(names: &[&str]) -> BasinDirectory {
        let directory = BasinDirectory::default();
        for (id, name) in (1..).zip(names) {
            let name = BasinName::try_from(*name).unwrap();
            let info =
                BasinInfo { id: BasinId(id), name, config: Default::default(), created_at_ms: 0, deleted_at_ms: None };
            directory.apply(BasinChange::Put(Arc::new(info)));
        }
        directory
    }

    fn names(page: &(Vec<Arc<BasinInfo>>, bool)) -> Vec<String> {
        page.0.iter().map(|info| info.name.to_string()).collect()
    }

    #[test]
    fn a_listing_pages_through_one_prefix_in_order() {
        let directory = directory(&["aaaaaaaa", "bbbbbbb1", "bbbbbbb2", "bbbbbbb3", "cccccccc"]);
        let prefix = NamePrefix::of_basin("b").unwrap();
        let first = directory.list(&prefix, &NamePrefix::empty(), 2);
        assert_eq!((names(&first), first.1), (vec!["bbbbbbb1".to_owned(), "bbbbbbb2".to_owned()], true));
        let second = directory.list(&prefix, &NamePrefix::of_basin("bbbbbbb2").unwrap(), 2);
        assert_eq!((names(&second), second.1), (vec!["bbbbbbb3".to_owned()], false));
        assert_eq!(directory.list(&prefix, &NamePrefix::of_basin("c").unwrap(), 2).0.len(), 0);
    }

    #[test]
    fn a_removed_basin_is_gone() {
        let directory = directory(&["aaaaaaaa"]);
        let name = BasinName::try_from("aaaaaaaa").unwrap();
        assert!(directory.get(&name).is_some());
        directory.apply(BasinChange::Removed(name.clone()));
        assert!(directory.get(&name).is_none());
    }
}
