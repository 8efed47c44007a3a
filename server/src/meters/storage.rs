//! What is stored: asked of the shards, and written down for each basin once an hour.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use engine::event::{BasinInfo, Op, Reply, StorageOf};
use model::{BasinId, Failure, NamePrefix, StreamName};

use super::front::minute_now;
use super::keeper::{Key, Totals};
use super::meter::{Meter, Scope};
use crate::router::Router;
use crate::store::{Store, unexpected};

/// Metered bytes of a basin.
///
/// # Errors
/// When a shard is busy or on its way out.
pub(crate) async fn of_basin(store: &Store, router: &Router, basin: BasinId) -> Result<u64, Failure> {
    let mut sum = 0;
    for shard in router.shards() {
        sum += total(&stored(store.ask(shard, Op::MeterStorage(StorageOf::Basin(basin))).await?));
    }
    Ok(sum)
}

/// Metered bytes of a stream.
///
/// # Errors
/// As [`of_basin`], and when it is not there.
pub(crate) async fn of_stream(
    store: &Store,
    router: &Router,
    basin: &BasinInfo,
    stream: StreamName,
) -> Result<u64, Failure> {
    let (shard, target) = router.target(basin, stream);
    Ok(total(&stored(store.ask(shard, Op::MeterStorage(StorageOf::Stream(target))).await?)))
}

/// Writes down what each basin has, now and when an hour begins, for as long as it is polled.
pub(crate) async fn record_hours(store: Store, router: Router, totals: Arc<Totals>) {
    let mut look = tokio::time::interval(LOOK_PERIOD);
    let mut recorded_hour = None;
    loop {
        look.tick().await;
        let minute = minute_now();
        let hour = minute / 60;
        if recorded_hour == Some(hour) {
            continue;
        }
        match of_basins(&store, &router).await {
            Ok(stored) => {
                totals.add(named(&router, minute, &stored));
                recorded_hour = Some(hour);
            }
            Err(failure) => tracing::debug!("what is stored cannot be asked for, will try again: {failure}"),
        }
    }
}

async fn of_basins(store: &Store, router: &Router) -> Result<HashMap<BasinId, u64>, Failure> {
    let mut sums = HashMap::new();
    for shard in router.shards() {
        for (basin, bytes) in stored(store.ask(shard, Op::MeterStorage(StorageOf::Basins)).await?) {
            *sums.entry(basin).or_default() += bytes;
        }
    }
    Ok(sums)
}

/// What is stored, under the names that basins have now; those without anything say 0.
fn named(router: &Router, minute: u32, stored: &HashMap<BasinId, u64>) -> Vec<(Key, u64)> {
    let mut found = Vec::new();
    let mut after = NamePrefix::empty();
    loop {
        let (page, has_more) = router.basins().list(&NamePrefix::empty(), &after, PAGE_BASINS);
        found.extend(page.iter().map(|basin| {
            let bytes = stored.get(&basin.id).copied().unwrap_or(0);
            ((minute, Scope::Basin(basin.name.clone()), Meter::STORED), bytes)
        }));
        match page.last() {
            Some(last) if has_more => after = NamePrefix::of_basin(last.name.as_str()).expect("a name is a prefix"),
            Some(_) | None => return found,
        }
    }
}

fn stored(reply: Reply) -> Vec<(BasinId, u64)> {
    let Reply::Stored(stored) = reply else { unexpected("a look at what is stored", &reply) };
    stored
}

fn total(stored: &[(BasinId, u64)]) -> u64 {
    stored.iter().map(|(_, bytes)| bytes).sum()
}

/// How often it is looked whether an hour has begun.
const LOOK_PERIOD: Duration = Duration::from_secs(10);
/// Basins whose names are taken at once, under a lock.
const PAGE_BASINS: usize = 1000;
