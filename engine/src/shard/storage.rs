//! How much is stored, for the meters (s2-wire.md 9.3).

use std::collections::BTreeMap;

use model::BasinId;

use crate::event::{Effects, Reply, ReplyTo, StorageOf};
use crate::shard::Shard;

impl Shard {
    /// Counts committed state: what is only on its way is not stored yet.
    pub(crate) fn meter_storage(&mut self, to: ReplyTo, of: StorageOf, effects: &mut Effects) {
        let groups = self.state.groups.iter();
        let stored = match of {
            StorageOf::Basins => {
                let mut sums = BTreeMap::<BasinId, u64>::new();
                for (basin, stored) in groups.flat_map(|group| group.catalog.stored.basins()) {
                    *sums.entry(basin).or_default() += stored;
                }
                sums.into_iter().collect()
            }
            StorageOf::Basin(basin) => vec![(basin, groups.map(|group| group.catalog.stored.of(basin)).sum())],
            StorageOf::Stream(target) => match self.existing_place(&target) {
                Err(refusal) => return self.fail(to, refusal, effects),
                Ok(place) => {
                    let stream = self.stream(place);
                    let stored = vec![(stream.basin, stream.index.metered_bytes())];
                    // That it is there at all may not be durable yet.
                    return self.reply_after(stream.touched, to, Reply::Stored(stored), effects);
                }
            },
        };
        effects.reply(to, Reply::Stored(stored));
    }
}
