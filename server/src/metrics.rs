//! What `/metrics` shows, in the Prometheus text format.
//!
//! Each front counts for itself: it alone writes its [`FrontMetrics`] (plain stores, no locked instruction); whoever
//! scrapes reads those of all fronts.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use engine::event::Appended;
use engine::shard::ShardStats;

use crate::admission::{KINDS, Limited, SCOPES};
use crate::http::route::ROUTE_NAMES;

/// A number that one thread writes and any thread reads.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds; only the owning front may.
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Subtracts; only the owning front may.
    pub(crate) fn sub(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_sub(n), Ordering::Relaxed);
    }

    /// The value of now.
    #[must_use]
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Bucket `i` counts values of at most `10 << i` microseconds; the last one counts the rest, above 10 s.
const BUCKETS_COUNT: usize = 21;

/// Latencies in microseconds, in buckets that double from 10 µs.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [Counter; BUCKETS_COUNT + 1],
    sum_us: Counter,
}

impl Histogram {
    /// Counts one value.
    pub(crate) fn record(&self, us: u64) {
        self.buckets[bucket_of(us)].add(1);
        self.sum_us.add(us);
    }
}

fn bucket_of(us: u64) -> usize {
    let tens = us.div_ceil(10).max(1);
    let bucket = (u64::BITS - (tens - 1).leading_zeros()) as usize;
    bucket.min(BUCKETS_COUNT)
}

/// The stages of a durable append, in order.
const STAGES: [&str; 5] = ["queue", "commit_wait", "device", "reply", "total"];

/// The statuses that are told apart.
const STATUSES: [u16; 24] = [
    200, 201, 202, 204, 400, 401, 403, 404, 405, 408, 409, 412, 413, 416, 422, 429, 499, 500, 501, 502, 503, 504, 507,
    0,
];

type ByLimit = [[Counter; KINDS.len()]; SCOPES.len()];

/// What one front counts.
#[derive(Debug)]
pub(crate) struct FrontMetrics {
    requests: Box<[[Counter; STATUSES.len()]]>,
    append_stages: [Histogram; STAGES.len()],
    /// By scope and kind.
    limited_total: ByLimit,
    limit_waits_total: ByLimit,
    /// Connections that are open.
    pub(crate) connections: Counter,
    /// Connections accepted since the start.
    pub(crate) connections_total: Counter,
    /// Connections that were turned away because there were too many.
    pub(crate) connections_refused_total: Counter,
    /// Connections that were cut because the client sent or took nothing for too long.
    pub(crate) connections_stalled_total: Counter,
    /// Append, read and SSE sessions that are open.
    pub(crate) sessions: Counter,
    /// Requests whose answer is not finished.
    pub(crate) requests_open: Counter,
    /// Panics that were caught; each cost its connection.
    pub(crate) panics_total: Counter,
    /// Bytes of request bodies and of batches on their way to readers.
    pub(crate) buffered_bytes: Counter,
}

impl Default for FrontMetrics {
    fn default() -> Self {
        Self {
            requests: ROUTE_NAMES.iter().map(|_| Default::default()).collect(),
            append_stages: Default::default(),
            limited_total: Default::default(),
            limit_waits_total: Default::default(),
            connections: Counter::default(),
            connections_total: Counter::default(),
            connections_refused_total: Counter::default(),
            connections_stalled_total: Counter::default(),
            sessions: Counter::default(),
            requests_open: Counter::default(),
            panics_total: Counter::default(),
            buffered_bytes: Counter::default(),
        }
    }
}

impl FrontMetrics {
    /// Counts a request by its route and the status of its answer.
    pub(crate) fn request(&self, route: usize, status: u16) {
        let column = STATUSES.iter().position(|s| *s == status).unwrap_or(STATUSES.len() - 1);
        self.requests[route][column].add(1);
    }

    /// What a limit has refused.
    #[must_use]
    pub(crate) const fn limited_total(&self, limited: Limited) -> &Counter {
        &self.limited_total[limited.scope as usize][limited.kind as usize]
    }

    /// What a limit has made wait.
    #[must_use]
    pub(crate) const fn limit_waits_total(&self, limited: Limited) -> &Counter {
        &self.limit_waits_total[limited.scope as usize][limited.kind as usize]
    }

    /// Counts the times of a durable append that is answered at `now_us`.
    pub(crate) fn appended(&self, appended: &Appended, now_us: u64) {
        let t = appended.times;
        let stages = [
            t.admitted_us.saturating_sub(t.arrived_us),
            t.submitted_us.saturating_sub(t.admitted_us),
            t.durable_us.saturating_sub(t.submitted_us),
            now_us.saturating_sub(t.durable_us),
            now_us.saturating_sub(t.arrived_us),
        ];
        for (histogram, us) in self.append_stages.iter().zip(stages) {
            histogram.record(us);
        }
    }
}

/// The page that a scraper gets.
#[must_use]
pub(crate) fn render(fronts: &[&FrontMetrics], shards: &[ShardStats]) -> String {
    let mut page = Page(String::with_capacity(16 << 10));
    page.head("millrace_build_info", "gauge", "Always 1; the version is a label.");
    page.line("millrace_build_info", &format!("{{version=\"{}\"}}", env!("CARGO_PKG_VERSION")), 1);
    page.requests(fronts);
    page.stages(fronts);
    page.fronts(fronts);
    page.limits(fronts);
    page.shards(shards);
    page.0
}

struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &str, value: u64) {
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }

    fn requests(&mut self, fronts: &[&FrontMetrics]) {
        let name = "millrace_requests_total";
        self.head(name, "counter", "HTTP requests answered, by route and status (0: any other).");
        for (row, route) in ROUTE_NAMES.iter().enumerate() {
            for (column, status) in STATUSES.iter().enumerate() {
                let sum = fronts.iter().map(|f| f.requests[row][column].get()).sum();
                if sum > 0 {
                    self.line(name, &format!("{{route=\"{route}\",status=\"{status}\"}}"), sum);
                }
            }
        }
    }

    fn stages(&mut self, fronts: &[&FrontMetrics]) {
        let name = "millrace_append_seconds";
        self.head(name, "histogram", "Time of durable appends, by stage.");
        for (index, stage) in STAGES.iter().enumerate() {
            let of_front = |f: &FrontMetrics, bucket: usize| f.append_stages[index].buckets[bucket].get();
            let mut below = 0u64;
            for bucket in 0..=BUCKETS_COUNT {
                below += fronts.iter().map(|f| of_front(f, bucket)).sum::<u64>();
                let bound = if bucket == BUCKETS_COUNT { "+Inf".to_owned() } else { seconds(10 << bucket) };
                self.line(&format!("{name}_bucket"), &format!("{{stage=\"{stage}\",le=\"{bound}\"}}"), below);
            }
            let sum_us: u64 = fronts.iter().map(|f| f.append_stages[index].sum_us.get()).sum();
            let _ = writeln!(self.0, "{name}_sum{{stage=\"{stage}\"}} {}", seconds(sum_us));
            self.line(&format!("{name}_count"), &format!("{{stage=\"{stage}\"}}"), below);
        }
    }

    fn fronts(&mut self, fronts: &[&FrontMetrics]) {
        type Get = fn(&FrontMetrics) -> u64;
        let rows: [(&str, &str, &str, Get); 8] = [
            ("connections", "gauge", "Open connections.", |f| f.connections.get()),
            ("connections_total", "counter", "Connections accepted.", |f| f.connections_total.get()),
            ("connections_refused_total", "counter", "Connections beyond the limit.", |f| {
                f.connections_refused_total.get()
            }),
            ("connections_stalled_total", "counter", "Connections cut for silence.", |f| {
                f.connections_stalled_total.get()
            }),
            ("sessions", "gauge", "Open append, read and SSE sessions.", |f| f.sessions.get()),
            ("requests_open", "gauge", "Requests whose answer is not finished.", |f| f.requests_open.get()),
            ("panics_total", "counter", "Panics caught; each cost its connection.", |f| f.panics_total.get()),
            ("front_buffered_bytes", "gauge", "Request bodies, and batches on their way to readers.", |f| {
                f.buffered_bytes.get()
            }),
        ];
        for (name, kind, help, get) in rows {
            let name = format!("millrace_{name}");
            self.head(&name, kind, help);
            self.line(&name, "", fronts.iter().map(|f| get(f)).sum());
        }
    }

    fn limits(&mut self, fronts: &[&FrontMetrics]) {
        type Get = fn(&FrontMetrics) -> &ByLimit;
        let rows: [(&str, &str, Get); 2] = [
            ("millrace_limited_total", "Appends and sessions refused by a limit of the settings.", |f| {
                &f.limited_total
            }),
            ("millrace_limit_waits_total", "Batches of append sessions that such a limit made wait.", |f| {
                &f.limit_waits_total
            }),
        ];
        for (name, help, get) in rows {
            self.head(name, "counter", help);
            for (row, scope) in SCOPES.into_iter().enumerate() {
                for (column, kind) in KINDS.into_iter().enumerate() {
                    let sum = fronts.iter().map(|f| get(f)[row][column].get()).sum();
                    if sum > 0 {
                        let labels = format!("{{scope=\"{}\",kind=\"{}\"}}", scope.as_str(), kind.as_str());
                        self.line(name, &labels, sum);
                    }
                }
            }
        }
    }

    fn shards(&mut self, shards: &[ShardStats]) {
        type Get = fn(&ShardStats) -> u64;
        let rows: [(&str, &str, Get); 17] = [
            ("streams", "gauge", |s| s.streams_count),
            ("readers", "gauge", |s| s.readers_count),
            ("appends_total", "counter", |s| s.appends_total),
            ("records_total", "counter", |s| s.records_total),
            ("append_metered_bytes_total", "counter", |s| s.append_metered_bytes_total),
            ("read_metered_bytes_total", "counter", |s| s.read_metered_bytes_total),
            ("extents_total", "counter", |s| s.extents_total),
            ("extent_bytes_total", "counter", |s| s.extent_bytes_total),
            ("log_reads_total", "counter", |s| s.log_reads_total),
            ("cache_bytes", "gauge", |s| s.cache_bytes),
            ("index_bytes", "gauge", |s| s.index_bytes),
            ("pending_bytes", "gauge", |s| s.pending_bytes),
            ("deferred_requests", "gauge", |s| s.deferred_count),
            ("segments", "gauge", |s| s.segments_count),
            ("segments_free", "gauge", |s| s.segments_free_count),
            ("rejected_full_total", "counter", |s| s.rejected_full_total),
            ("checkpoints_total", "counter", |s| s.checkpoints_total),
        ];
        for (name, kind, get) in rows {
            let name = format!("millrace_shard_{name}");
            self.head(&name, kind, "See ShardStats.");
            for (shard, stats) in shards.iter().enumerate() {
                self.line(&name, &format!("{{shard=\"{shard}\"}}"), get(stats));
            }
        }
    }
}

/// Microseconds as seconds, without rounding.
fn seconds(us: u64) -> String {
    format!("{}.{:06}", us / 1_000_000, us % 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_double_from_ten_microseconds() {
        for (us, bucket) in [(0, 0), (10, 0), (11, 1), (20, 1), (21, 2), (40, 2), (u64::MAX, BUCKETS_COUNT)] {
            assert_eq!(bucket_of(us), bucket, "{us}");
        }
    }

    #[test]
    fn the_page_adds_up_the_fronts() {
        let (a, b) = (FrontMetrics::default(), FrontMetrics::default());
        a.request(0, 200);
        b.request(0, 200);
        b.append_stages[0].record(15);
        let page = render(&[&a, &b], &[ShardStats::default()]);
        assert!(
            page.contains(&format!("millrace_requests_total{{route=\"{}\",status=\"200\"}} 2\n", ROUTE_NAMES[0])),
            "{page}"
        );
        assert!(page.contains("millrace_append_seconds_bucket{stage=\"queue\",le=\"0.000010\"} 0\n"), "{page}");
        assert!(page.contains("millrace_append_seconds_bucket{stage=\"queue\",le=\"0.000020\"} 1\n"), "{page}");
    }
}
