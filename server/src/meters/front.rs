//! What one front counts, and when it hands over.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;

use engine::event::Appended;
use model::{BasinId, BasinName, StreamId};

use super::keeper::Totals;
use super::meter::{METERS_COUNT, Meter, Scope};
use crate::clock::now_ms;

/// The meters of a front. Only its thread has them.
pub(crate) struct FrontMeters {
    totals: Arc<Totals>,
    minute: Cell<u32>,
    account: RefCell<Counts>,
    basins: RefCell<Basins>,
}

type Counts = Box<[u64; METERS_COUNT]>;

/// What was counted for basins since the last time it was handed over: bounded by the basins that exist.
#[derive(Default)]
struct Basins {
    places: HashMap<BasinId, usize>,
    counts: Vec<(BasinName, Counts)>,
    /// The basin that was counted for last, and its place: mostly it comes again, and needs no lookup then.
    last: Option<(BasinId, usize)>,
}

/// Which minutes of appends of a connection are counted already: at most [`STREAMS_MAX`] streams; one that appends to
/// more in a minute may have some counted twice.
#[derive(Debug, Default)]
pub(crate) struct CountedMinutes(RefCell<HashMap<StreamId, u32>>);

impl FrontMeters {
    /// Counts for these totals.
    #[must_use]
    pub(crate) fn new(totals: Arc<Totals>) -> Self {
        let counts = || Box::new([0; METERS_COUNT]);
        Self { totals, minute: Cell::new(minute_now()), account: RefCell::new(counts()), basins: RefCell::default() }
    }

    /// Minutes since the Unix epoch.
    #[must_use]
    pub(crate) const fn minute(&self) -> u32 {
        self.minute.get()
    }

    /// Counts for the account.
    pub(crate) fn account(&self, meter: Meter) {
        self.account.borrow_mut()[meter.index()] += 1;
    }

    /// Counts for a basin.
    pub(crate) fn basin(&self, (id, name): (BasinId, &BasinName), meter: Meter, n: u64) {
        self.basins.borrow_mut().of(id, name)[meter.index()] += n;
    }

    /// Counts a durable append over a connection.
    pub(crate) fn appended(
        &self,
        (id, name): (BasinId, &BasinName),
        counted: &CountedMinutes,
        appended: &Appended,
        metered_bytes: u64,
    ) {
        let class = appended.class;
        let mut basins = self.basins.borrow_mut();
        let counts = basins.of(id, name);
        counts[Meter::append_bytes(class).index()] += metered_bytes;
        if counted.is_new(appended.stream, self.minute()) {
            counts[Meter::append_ops(class).index()] += 1;
        }
    }

    /// To be called every second: follows the clock, and hands over at times.
    pub(crate) fn tick(&self, second: u32) {
        let minute = minute_now();
        if minute != self.minute.get() || second.is_multiple_of(HAND_OVER_SECS) {
            self.hand_over();
            self.minute.set(minute);
        }
    }

    /// Gives away everything that was counted.
    pub(crate) fn hand_over(&self) {
        let minute = self.minute.get();
        let mut deltas = Vec::new();
        let mut take = |scope: &Scope, counts: &mut Counts| {
            for meter in Meter::all() {
                let n = std::mem::take(&mut counts[meter.index()]);
                if n > 0 {
                    deltas.push(((minute, scope.clone(), meter), n));
                }
            }
        };
        take(&Scope::Account, &mut self.account.borrow_mut());
        for (name, mut counts) in self.basins.take().counts {
            take(&Scope::Basin(name), &mut counts);
        }
        if !deltas.is_empty() {
            self.totals.add(deltas);
        }
    }
}

impl Basins {
    fn of(&mut self, id: BasinId, name: &BasinName) -> &mut Counts {
        let place = match self.last {
            Some((last, place)) if last == id => place,
            Some(_) | None => *self.places.entry(id).or_insert_with(|| {
                self.counts.push((name.clone(), Box::new([0; METERS_COUNT])));
                self.counts.len() - 1
            }),
        };
        self.last = Some((id, place));
        &mut self.counts[place].1
    }
}

impl CountedMinutes {
    fn is_new(&self, stream: StreamId, minute: u32) -> bool {
        let mut counted = self.0.borrow_mut();
        if counted.get(&stream) == Some(&minute) {
            return false;
        }
        if counted.len() >= STREAMS_MAX {
            counted.retain(|_, counted| *counted == minute);
            if counted.len() >= STREAMS_MAX {
                counted.clear();
            }
        }
        counted.insert(stream, minute);
        true
    }
}

/// Minutes since the Unix epoch, by the wall clock.
#[must_use]
pub(crate) fn minute_now() -> u32 {
    u32::try_from(now_ms() / 60_000).unwrap_or(u32::MAX)
}

/// A front hands over this often at least, in seconds, so that answers are not much older.
const HAND_OVER_SECS: u32 = 2;
/// Streams of one connection whose minutes are remembered.
const STREAMS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_basin_has_its_own_counts_whichever_came_last() {
        let mut basins = Basins::default();
        let names = ["basin-one", "basin-two"].map(|name| BasinName::try_from(name).expect("a name"));
        for (number, n) in [(0, 1), (0, 10), (1, 100), (0, 1000), (1, 10_000), (1, 100_000)] {
            let id = BasinId(u64::try_from(number).expect("small"));
            basins.of(id, &names[number])[0] += n;
        }
        let counted: Vec<_> = basins.counts.iter().map(|(name, counts)| (name.as_str(), counts[0])).collect();
        assert_eq!(counted, [("basin-one", 1011), ("basin-two", 110_100)]);
    }

    #[test]
    fn a_minute_of_appends_counts_once_for_a_connection_and_stream() {
        let counted = CountedMinutes::default();
        let (a, b) = (StreamId(1), StreamId(2));
        let seen =
            [(a, 5), (a, 5), (b, 5), (a, 6), (b, 5), (b, 6)].map(|(stream, minute)| counted.is_new(stream, minute));
        assert_eq!(seen, [true, false, true, true, false, true]);
        for stream in 0..3 * STREAMS_MAX as u64 {
            counted.is_new(StreamId(stream), 7);
        }
        assert!(counted.0.borrow().len() <= STREAMS_MAX);
    }
}
