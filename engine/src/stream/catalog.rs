//! The streams of one group: by incarnation, by name in order, by deadline.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use model::config::ResolvedStreamConfig;
use model::{BasinId, NamePrefix, StreamId, StreamName};

use crate::event::StreamInfo;
use crate::mutation::Mutation;
use crate::stream::state::Stream;

/// All streams of a group.
///
/// A [`StreamId`] is a place in the table (low 32 bits) and a generation (high 32 bits) that grows with every
/// creation, so that a place can be used again without being mistaken for its former stream.
#[derive(Debug, Default)]
pub struct Catalog {
    slots: Vec<Option<Box<Stream>>>,
    free: Vec<u32>,
    names: BTreeMap<BasinId, BTreeMap<StreamName, u32>>,
    /// Basins that are gone: nothing is created in them again.
    dropped: BTreeSet<BasinId>,
    /// Basins whose drop is on its way: whatever is staged behind it would find their streams gone.
    dropping: BTreeSet<BasinId>,
    /// (seconds since the Unix epoch, place) of every stream that has a deadline.
    deadlines: BTreeSet<(u32, u32)>,
    configs: BTreeSet<Arc<ResolvedStreamConfig>>,
    generation: u32,
    count: usize,
    /// What is stored, by basin. Invariant: the sum of the streams' indices, once settled.
    pub(crate) stored: Stored,
}

/// Metered bytes that are stored, by basin.
#[derive(Debug, Default)]
pub(crate) struct Stored(BTreeMap<BasinId, u64>);

impl Stored {
    /// Counts what was appended.
    pub(crate) fn add(&mut self, basin: BasinId, metered_bytes: u64) {
        *self.0.entry(basin).or_default() += metered_bytes;
    }

    /// Counts what is gone. During a recovery more may go than was counted: rows of the checkpoint are counted at its end.
    pub(crate) fn take(&mut self, basin: BasinId, metered_bytes: u64) {
        if let Some(stored) = self.0.get_mut(&basin) {
            *stored = stored.saturating_sub(metered_bytes);
            if *stored == 0 {
                self.0.remove(&basin);
            }
        }
    }

    /// Basins that have something stored.
    pub(crate) fn basins(&self) -> impl Iterator<Item = (BasinId, u64)> + '_ {
        self.0.iter().map(|(basin, stored)| (*basin, *stored))
    }

    /// What a basin has stored.
    #[must_use]
    pub(crate) fn of(&self, basin: BasinId) -> u64 {
        self.0.get(&basin).copied().unwrap_or(0)
    }
}

const fn slot_of(id: StreamId) -> u32 {
    (id.0 & 0xffff_ffff) as u32
}

/// Which creation of its group made the stream: a later one has a greater number.
pub(crate) const fn generation_of(id: StreamId) -> u32 {
    (id.0 >> 32) as u32
}

impl Catalog {
    /// An incarnation for a new stream.
    pub fn allocate(&mut self) -> StreamId {
        self.generation = self.generation.checked_add(1).expect("four billion creations per group");
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("fewer than four billion streams")
        });
        StreamId(u64::from(self.generation) << 32 | u64::from(slot))
    }

    /// Adds a stream under its incarnation and name.
    ///
    /// # Panics
    /// When its place or name is taken.
    pub fn insert(&mut self, mut stream: Stream) -> &mut Stream {
        stream.config = self.intern(stream.config);
        stream.committed_config = self.intern(stream.committed_config);
        let slot = slot_of(stream.id);
        self.generation = self.generation.max(generation_of(stream.id));
        if self.slots.len() <= slot as usize {
            self.slots.resize_with(slot as usize + 1, || None);
        }
        let names = self.names.entry(stream.basin).or_default();
        assert!(names.insert(stream.name.clone(), slot).is_none(), "a name is given to one stream");
        let place = &mut self.slots[slot as usize];
        assert!(place.is_none(), "a place is given to one stream");
        self.count += 1;
        place.insert(Box::new(stream))
    }

    /// Ends a recovery: finds the free places, counts what is stored, lists deadlines, and lets both faces of every stream
    /// agree.
    pub fn settle(&mut self) {
        self.stored = Stored::default();
        for stream in self.slots.iter().flatten() {
            self.stored.add(stream.basin, stream.index.metered_bytes());
        }
        self.free = (0u32..).zip(&self.slots).filter(|(_, s)| s.is_none()).map(|(slot, _)| slot).collect();
        self.free.reverse();
        let ids: Vec<StreamId> = self.slots.iter().flatten().map(|s| s.id).collect();
        for id in ids {
            let stream = self.get_mut(id).expect("just listed");
            stream.next = stream.tail;
            if !Mutation::ReplayedFenceStale.is_on() {
                stream.next_token = stream.token.clone();
            }
            if let Some(lease) = &mut stream.lease {
                lease.settle();
            }
            stream.touched = 0;
            self.refresh_deadline(id);
        }
    }

    /// Keeps one copy of equal configurations.
    pub fn intern(&mut self, config: Arc<ResolvedStreamConfig>) -> Arc<ResolvedStreamConfig> {
        if let Some(same) = self.configs.get(&config) {
            return Arc::clone(same);
        }
        if self.configs.len() >= CONFIGS_SWEEP {
            self.configs.retain(|c| Arc::strong_count(c) > 1);
        }
        self.configs.insert(Arc::clone(&config));
        config
    }

    /// The stream of this incarnation.
    #[must_use]
    pub fn get(&self, id: StreamId) -> Option<&Stream> {
        self.slots.get(slot_of(id) as usize)?.as_deref().filter(|s| s.id == id)
    }

    /// The stream of this incarnation.
    pub fn get_mut(&mut self, id: StreamId) -> Option<&mut Stream> {
        self.slots.get_mut(slot_of(id) as usize)?.as_deref_mut().filter(|s| s.id == id)
    }

    /// The latest generation given; recovery must not fall behind it.
    #[must_use]
    pub const fn generation(&self) -> u32 {
        self.generation
    }

    /// Goes on giving generations behind this one.
    pub fn skip_generations(&mut self, generation: u32) {
        self.generation = self.generation.max(generation);
    }

    /// Whatever stream has the place of `id` now.
    #[must_use]
    pub fn at_place_of(&self, id: StreamId) -> Option<&Stream> {
        self.slots.get(slot_of(id) as usize)?.as_deref()
    }

    /// The stream of this name.
    #[must_use]
    pub fn find(&self, basin: BasinId, name: &StreamName) -> Option<StreamId> {
        let slot = *self.names.get(&basin)?.get(name)?;
        self.slots[slot as usize].as_ref().map(|s| s.id)
    }

    /// Takes a stream out and frees its name and place.
    pub fn remove(&mut self, id: StreamId) -> Option<Stream> {
        self.get(id)?;
        if !Mutation::DeadlineNotCleared.is_on() {
            self.set_deadline(id, 0);
        }
        let stream = self.slots[slot_of(id) as usize].take()?;
        let names = self.names.get_mut(&stream.basin).expect("every stream is listed under its basin");
        names.remove(&stream.name);
        if names.is_empty() {
            self.names.remove(&stream.basin);
        }
        self.free.push(slot_of(id));
        self.count -= 1;
        self.stored.take(stream.basin, stream.index.metered_bytes());
        Some(*stream)
    }

    /// Lists the stream under a deadline, or under none if 0.
    pub fn set_deadline(&mut self, id: StreamId, deadline_s: u32) {
        let Some(stream) = self.get_mut(id) else { return };
        let before = std::mem::replace(&mut stream.deadline_s, deadline_s);
        if before == deadline_s {
            return;
        }
        if before != 0 {
            self.deadlines.remove(&(before, slot_of(id)));
        }
        if deadline_s != 0 {
            self.deadlines.insert((deadline_s, slot_of(id)));
        }
    }

    /// Brings the deadline of a stream up to date.
    pub fn refresh_deadline(&mut self, id: StreamId) {
        if let Some(deadline_s) = self.get(id).map(Stream::next_deadline_s) {
            self.set_deadline(id, deadline_s);
        }
    }

    /// The earliest deadline.
    #[must_use]
    pub fn first_deadline_s(&self) -> Option<u32> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// A stream whose deadline has come at `now_s`.
    #[must_use]
    pub fn due(&self, now_s: u32) -> Option<StreamId> {
        let (at, slot) = self.deadlines.first()?;
        if *at > now_s {
            return None;
        }
        self.slots[*slot as usize].as_ref().map(|s| s.id)
    }

    /// Visible streams of a basin in order of name, and whether there are more than `limit`.
    #[must_use]
    pub fn list(
        &self,
        basin: BasinId,
        prefix: &NamePrefix,
        start_after: &NamePrefix,
        limit: usize,
    ) -> (Vec<StreamInfo>, bool) {
        let Some(names) = self.names.get(&basin) else { return (Vec::new(), false) };
        let from = if start_after.as_str() >= prefix.as_str() {
            Bound::Excluded(start_after.as_str())
        } else {
            Bound::Included(prefix.as_str())
        };
        let mut found = names
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(|(name, _)| name.as_str().starts_with(prefix.as_str()))
            .filter_map(|(_, slot)| self.slots[*slot as usize].as_deref())
            .filter(|s| s.is_visible() || Mutation::CreatingListed.is_on());
        let page = found.by_ref().take(limit).map(Stream::info).collect();
        (page, found.next().is_some())
    }

    /// The streams of a basin.
    #[must_use]
    pub fn of_basin(&self, basin: BasinId) -> Vec<StreamId> {
        let slots = self.names.get(&basin).into_iter().flat_map(BTreeMap::values);
        slots.filter_map(|slot| self.slots[*slot as usize].as_ref().map(|s| s.id)).collect()
    }

    /// Notes that the drop of a basin is on its way: its streams take nothing more.
    pub fn begin_drop(&mut self, basin: BasinId, ticket: u64) {
        self.dropping.insert(basin);
        for id in self.of_basin(basin) {
            let stream = self.get_mut(id).expect("just listed");
            stream.delete_soon(ticket);
            self.set_deadline(id, 0);
        }
    }

    /// Whether the drop of a basin is on its way.
    #[must_use]
    pub fn is_dropping(&self, basin: BasinId) -> bool {
        self.dropping.contains(&basin)
    }

    /// Remembers that a basin is gone.
    pub fn drop_basin(&mut self, basin: BasinId) {
        self.dropping.remove(&basin);
        self.dropped.insert(basin);
    }

    /// Whether a basin is gone.
    #[must_use]
    pub fn is_dropped(&self, basin: BasinId) -> bool {
        self.dropped.contains(&basin)
    }

    /// Basins that are gone.
    pub fn dropped(&self) -> impl Iterator<Item = BasinId> + '_ {
        self.dropped.iter().copied()
    }

    /// How many streams there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there is no stream.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Places in use or free: what a walk over all streams has to visit.
    #[must_use]
    pub const fn places(&self) -> usize {
        self.slots.len()
    }

    /// Streams at places from `from` on.
    pub fn from_place(&self, from: usize) -> impl Iterator<Item = (usize, &Stream)> {
        self.slots.iter().enumerate().skip(from).filter_map(|(place, s)| Some((place, s.as_deref()?)))
    }
}

/// Beyond so many different configurations, those that no stream has any more are forgotten.
const CONFIGS_SWEEP: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::state::Life;

    fn stream(catalog: &mut Catalog, basin: u64, name: &str) -> StreamId {
        let id = catalog.allocate();
        let name = StreamName::try_from(name).expect("valid");
        let mut stream = Stream::new(id, BasinId(basin), name, Arc::default(), 0);
        stream.life = Life::Active;
        catalog.insert(stream);
        id
    }

    #[test]
    fn listing_is_ordered_by_bytes_and_pages_exactly() {
        let mut catalog = Catalog::default();
        for name in ["b", "a/2", "a/1", "a", "c", "a/3"] {
            stream(&mut catalog, 1, name);
        }
        stream(&mut catalog, 2, "a/0");
        let list = |prefix: &str, after: &str, limit| {
            let [prefix, after] = [prefix, after].map(|p| NamePrefix::of_stream(p).expect("valid"));
            let (page, more) = catalog.list(BasinId(1), &prefix, &after, limit);
            (page.iter().map(|s| s.name.to_string()).collect::<Vec<_>>().join(" "), more)
        };
        assert_eq!(list("", "", 9), ("a a/1 a/2 a/3 b c".into(), false));
        assert_eq!(list("a/", "", 2), ("a/1 a/2".into(), true));
        assert_eq!(list("a/", "a/2", 2), ("a/3".into(), false));
        assert_eq!(list("a/", "a", 1), ("a/1".into(), true), "a start before the prefix begins at the prefix");
        assert_eq!(list("a/", "b", 9), (String::new(), false));
        assert_eq!(list("a/", "", 3), ("a/1 a/2 a/3".into(), false), "more is only said when there is more");
    }

    #[test]
    fn a_place_is_used_again_under_another_generation() {
        let mut catalog = Catalog::default();
        let first = stream(&mut catalog, 1, "a");
        assert!(catalog.remove(first).is_some());
        let second = stream(&mut catalog, 1, "a");
        assert_eq!(slot_of(first), slot_of(second));
        assert_ne!(first, second);
        assert!(catalog.get(first).is_none());
        assert_eq!(catalog.find(BasinId(1), &StreamName::try_from("a").expect("valid")), Some(second));
    }
}
