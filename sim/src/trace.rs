//! What happened, in order: a hash over all of it, the last events in memory, all of them in a file if wanted.

use std::collections::VecDeque;
use std::fmt;

use xxhash_rust::xxh3::Xxh3;

/// One thing that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Microseconds since the run began.
    pub at_us: u64,
    /// Node and shard.
    pub place: (u16, u16),
    /// What.
    pub what: &'static str,
    /// Three numbers that say more; which ones depends on `what`.
    pub details: [u64; 3],
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at_us, place: (node, shard), what, details: [a, b, c] } = self;
        write!(f, "{:>12}.{:06} n{node}s{shard} {what:<28} {a} {b} {c}", at_us / 1_000_000, at_us % 1_000_000)
    }
}

/// Gets every entry as it happens.
pub type Sink = Box<dyn FnMut(&Entry)>;

/// The trace of a run.
pub struct Trace {
    hash: Xxh3,
    count: u64,
    last: VecDeque<Entry>,
    sink: Option<Sink>,
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace").field("count", &self.count).finish_non_exhaustive()
    }
}

impl Trace {
    /// An empty trace. `sink` gets every entry.
    #[must_use]
    pub fn new(sink: Option<Sink>) -> Self {
        Self { hash: Xxh3::new(), count: 0, last: VecDeque::with_capacity(LAST_MAX), sink }
    }

    /// Adds an entry.
    pub fn push(&mut self, entry: Entry) {
        let mut raw = [0u8; 36];
        raw[..8].copy_from_slice(&entry.at_us.to_le_bytes());
        raw[8..10].copy_from_slice(&entry.place.0.to_le_bytes());
        raw[10..12].copy_from_slice(&entry.place.1.to_le_bytes());
        for (at, detail) in entry.details.iter().enumerate() {
            raw[12 + at * 8..20 + at * 8].copy_from_slice(&detail.to_le_bytes());
        }
        self.hash.update(&raw);
        self.hash.update(entry.what.as_bytes());
        self.count += 1;
        if self.last.len() == LAST_MAX {
            self.last.pop_front();
        }
        self.last.push_back(entry);
        if let Some(sink) = &mut self.sink {
            sink(&entry);
        }
    }

    /// Adds bytes to the hash only: what was written, what was answered.
    pub fn absorb(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
    }

    /// The hash of all that happened.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash.digest()
    }

    /// How much happened.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The last entries.
    pub fn last(&self) -> impl Iterator<Item = &Entry> {
        self.last.iter()
    }
}

/// Entries kept to be shown when a rule is broken.
const LAST_MAX: usize = 60;
