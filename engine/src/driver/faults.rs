//! Faults of the device on demand, for tests of the whole process. Only in builds with the feature `faults`, which no
//! default build has.
//!
//! ```text
//! plan    rule,rule,…              the environment variable MILLRACE_FAULTS of such a server
//! rule    POINT:KIND[:WHEN]…
//! POINT   write sync read          of an extent, behind it, and of the log for readers
//!         image                    reading the log at start
//!         prepare                  making a segment
//!         checkpoint rename        writing a piece of a checkpoint, and putting the whole in force
//! KIND    eio enospc short         the operation is carried out, and said to have failed or moved half of its bytes
//!         slow=MS                  its end is heard so many milliseconds later
//! WHEN    at=N                     only the N-th operation at this point (counted over all shards, from 1)
//!         after=N                  all behind the N-th
//!         p=PERCENT seed=N         by chance; the same seed hits the same operations
//!         while=FILE               as long as that file exists
//! ```
//!
//! A blocking operation that is slow sleeps. On the ring the completion is held back instead, so that the shard goes on
//! as it does beside a slow device.

use std::io;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use io_uring::IoUring;
use io_uring::cqueue::Entry;
use rustix::fd::OwnedFd;
use rustix::io::Errno;

/// Where an operation of the device is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Point {
    Write,
    Sync,
    Read,
    Image,
    Prepare,
    Checkpoint,
    Rename,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Fail(Errno),
    Short,
    Slow(Duration),
}

#[derive(Debug)]
struct Rule {
    text: String,
    point: Point,
    kind: Kind,
    /// The first and the last operation that it hits, counted from 1.
    first: u64,
    last: u64,
    percent: u64,
    seed: u64,
    while_exists: Option<PathBuf>,
    /// Operations seen so far.
    seen: AtomicU64,
    /// Operations hit so far.
    hit: AtomicU64,
}

static PLAN: OnceLock<Vec<Rule>> = OnceLock::new();

/// Puts a plan in force, once and before the node starts.
///
/// # Errors
/// When it is not written as the top of this file says.
pub fn install(plan: &str) -> Result<(), String> {
    let rules: Vec<Rule> = plan.split(',').filter(|rule| !rule.is_empty()).map(parse).collect::<Result<_, _>>()?;
    PLAN.set(rules).map_err(|_| "a plan of faults is in force already".to_owned())
}

/// What is heard of an operation that ended with `result`, after its delay.
pub(super) fn blocking(point: Point, result: io::Result<usize>) -> io::Result<usize> {
    thread::sleep(delay(point));
    ended(point, result)
}

/// [`blocking`] for operations that move nothing.
pub(super) fn check(point: Point) -> io::Result<()> {
    blocking(point, Ok(0)).map(drop)
}

/// What is heard of an operation that ended with `result`.
pub(super) fn ended(point: Point, result: io::Result<usize>) -> io::Result<usize> {
    let mut result = result;
    for rule in rules(point) {
        match rule.kind {
            Kind::Fail(errno) if rule.hits() => result = Err(errno.into()),
            Kind::Short if rule.hits() => result = result.map(|moved| moved / 2),
            Kind::Fail(_) | Kind::Short | Kind::Slow(_) => {}
        }
    }
    result
}

fn delay(point: Point) -> Duration {
    rules(point)
        .map(|rule| match rule.kind {
            Kind::Slow(delay) if rule.hits() => delay,
            Kind::Fail(_) | Kind::Short | Kind::Slow(_) => Duration::ZERO,
        })
        .sum()
}

fn rules(point: Point) -> impl Iterator<Item = &'static Rule> {
    PLAN.get().into_iter().flatten().filter(move |rule| rule.point == point)
}

/// Completions of a ring that are heard later.
#[derive(Debug)]
pub(super) struct Held {
    entries: Vec<(Instant, Entry)>,
    /// Rung when one is due.
    doorbell: OwnedFd,
    /// Nothing more is held back.
    is_over: bool,
}

impl Held {
    pub(super) const fn new(doorbell: OwnedFd) -> Self {
        Self { entries: Vec::new(), doorbell, is_over: false }
    }

    /// The next completion that may be heard; `point` says what it belongs to.
    pub(super) fn next(&mut self, ring: &mut IoUring, point: impl Fn(&Entry) -> Point) -> Option<Entry> {
        loop {
            if let Some(at) = self.entries.iter().position(|(due, _)| *due <= Instant::now()) {
                return Some(self.entries.remove(at).1);
            }
            let entry = ring.completion().next()?;
            let delay = if self.is_over { Duration::ZERO } else { delay(point(&entry)) };
            if delay.is_zero() {
                return Some(entry);
            }
            self.entries.push((Instant::now() + delay, entry));
            let doorbell = self.doorbell.try_clone().expect("there is a descriptor left");
            thread::spawn(move || {
                thread::sleep(delay);
                let _ = rustix::io::write(&doorbell, &1u64.to_ne_bytes());
            });
        }
    }

    pub(super) fn has_due(&self) -> bool {
        self.entries.iter().any(|(due, _)| *due <= Instant::now())
    }

    /// The ring goes: nothing is held back any more, and this is one of those that were.
    pub(super) fn let_go(&mut self) -> Option<Entry> {
        self.is_over = true;
        self.entries.pop().map(|(_, entry)| entry)
    }
}

impl Rule {
    /// Counts an operation, and says whether it is hit.
    fn hits(&self) -> bool {
        let number = self.seen.fetch_add(1, Ordering::Relaxed) + 1;
        let is_hit = (self.first..=self.last).contains(&number)
            && (self.percent == 100 || mix(self.seed ^ number) % 100 < self.percent)
            && self.while_exists.as_ref().is_none_or(|file| file.exists());
        // Once is enough to know that it happened.
        if is_hit && self.hit.fetch_add(1, Ordering::Relaxed) == 0 {
            eprintln!("millrace: fault {} hits operation {number}", self.text);
        }
        is_hit
    }
}

fn parse(text: &str) -> Result<Rule, String> {
    let wrong = |part: &str| format!("MILLRACE_FAULTS: `{part}` of `{text}` is not known");
    let mut parts = text.split(':');
    let point = match parts.next().unwrap_or_default() {
        "write" => Point::Write,
        "sync" => Point::Sync,
        "read" => Point::Read,
        "image" => Point::Image,
        "prepare" => Point::Prepare,
        "checkpoint" => Point::Checkpoint,
        "rename" => Point::Rename,
        other => return Err(wrong(other)),
    };
    let kind = parts.next().unwrap_or_default();
    let number = |value: &str| value.parse::<u64>().map_err(|_| wrong(value));
    let kind = match kind.split_once('=') {
        None if kind == "eio" => Kind::Fail(Errno::IO),
        None if kind == "enospc" => Kind::Fail(Errno::NOSPC),
        None if kind == "short" => Kind::Short,
        Some(("slow", ms)) => Kind::Slow(Duration::from_millis(number(ms)?)),
        None | Some(_) => return Err(wrong(kind)),
    };
    let mut rule = Rule {
        text: text.to_owned(),
        point,
        kind,
        first: 1,
        last: u64::MAX,
        percent: 100,
        seed: 1,
        while_exists: None,
        seen: AtomicU64::new(0),
        hit: AtomicU64::new(0),
    };
    for when in parts {
        match when.split_once('=') {
            Some(("at", n)) => (rule.first, rule.last) = (number(n)?, number(n)?),
            Some(("after", n)) => rule.first = number(n)? + 1,
            Some(("p", n)) => rule.percent = number(n)?,
            Some(("seed", n)) => rule.seed = number(n)?,
            Some(("while", file)) => rule.while_exists = Some(file.into()),
            None | Some(_) => return Err(wrong(when)),
        }
    }
    Ok(rule)
}

/// The end of splitmix64: near numbers become far ones.
const fn mix(number: u64) -> u64 {
    let number = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hits(rule: &str, operations: u64) -> Vec<u64> {
        let rule = parse(rule).unwrap();
        (1..=operations).filter(|_| rule.hits()).collect()
    }

    #[test]
    fn a_rule_hits_the_operations_that_it_names() {
        assert_eq!(hits("write:eio", 3), [1, 2, 3]);
        assert_eq!(hits("write:eio:at=2", 4), [2]);
        assert_eq!(hits("sync:slow=5:after=2", 4), [3, 4]);
        assert_eq!(hits("prepare:enospc:while=/no/such/file", 9), []);
        let some = hits("read:short:p=10:seed=7", 1000);
        assert!((50..200).contains(&some.len()), "{}", some.len());
        assert_eq!(some, hits("read:short:p=10:seed=7", 1000));
    }

    #[test]
    fn what_is_not_known_is_named() {
        for (rule, part) in
            [("rite:eio", "`rite`"), ("write:oops", "`oops`"), ("write:eio:at=x", "`x`"), ("write:eio:on=1", "`on=1`")]
        {
            let refusal = parse(rule).unwrap_err();
            assert!(refusal.contains(part), "{refusal}");
        }
    }
}
