//! Metric sets of the account, a basin or a stream: what is asked for, and how the answer looks (s2-wire.md 9.4).

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::query::{bad_query, invalid, pairs, set};
use crate::schema::{self, Parameter, list_of, object, one_of, text};
use crate::status::ApiError;

/// Sets of the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountSet {
    /// Basins in which something happened.
    ActiveBasins,
    /// Operations on the account.
    AccountOps,
    /// What it costs, in dollars.
    EstimatedBillableUsage,
}

/// Sets of a basin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BasinSet {
    /// Metered bytes that are stored.
    Storage,
    /// Minutes of appends.
    AppendOps,
    /// Reads.
    ReadOps,
    /// Metered bytes read.
    ReadThroughput,
    /// Metered bytes appended.
    AppendThroughput,
    /// Operations on the basin and its streams.
    BasinOps,
}

/// Sets of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamSet {
    /// Metered bytes that are stored.
    Storage,
}

/// The width of a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interval {
    /// 60 seconds.
    Minute,
    /// 3,600 seconds.
    Hour,
    /// 86,400 seconds, from midnight UTC.
    Day,
}

/// What a set is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsageQuery<S> {
    /// The set.
    pub set: S,
    /// From this second since the Unix epoch on.
    pub start_s: u32,
    /// Up to this second, exclusive. Invariant: `start_s <= end_s`.
    pub end_s: u32,
    /// The width of a point. Always one that the set offers.
    pub interval: Interval,
}

/// A level that has sets.
pub trait MetricSet: Sized + Copy + 'static {
    /// Names, as queries say them, with the intervals that a set offers, the default one first.
    const SETS: &'static [(&'static str, Self, &'static [Interval])];
}

use Interval::{Day, Hour, Minute};

impl MetricSet for AccountSet {
    const SETS: &'static [(&'static str, Self, &'static [Interval])] = &[
        ("active-basins", Self::ActiveBasins, &[Hour, Minute, Day]),
        ("account-ops", Self::AccountOps, &[Hour, Minute, Day]),
        ("estimated-billable-usage", Self::EstimatedBillableUsage, &[Hour, Day]),
    ];
}

impl MetricSet for BasinSet {
    const SETS: &'static [(&'static str, Self, &'static [Interval])] = &[
        ("storage", Self::Storage, &[Hour]),
        ("append-ops", Self::AppendOps, &[Minute, Hour, Day]),
        ("read-ops", Self::ReadOps, &[Minute, Hour, Day]),
        ("read-throughput", Self::ReadThroughput, &[Minute, Hour, Day]),
        ("append-throughput", Self::AppendThroughput, &[Minute, Hour, Day]),
        ("basin-ops", Self::BasinOps, &[Minute, Hour, Day]),
    ];
}

impl MetricSet for StreamSet {
    const SETS: &'static [(&'static str, Self, &'static [Interval])] = &[("storage", Self::Storage, &[Minute])];
}

impl Interval {
    /// Its width in seconds.
    #[must_use]
    pub const fn secs(self) -> u32 {
        match self {
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => 86_400,
        }
    }

    /// All of them.
    pub const ALL: [Self; 3] = [Minute, Hour, Day];

    /// As queries and answers say it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }

    fn named(name: &str) -> Result<Self, ApiError> {
        Self::ALL.into_iter().find(|interval| interval.name() == name).ok_or_else(|| {
            bad_query(&format!("interval: unknown variant `{name}`, expected one of `minute`, `hour`, `day`"))
        })
    }
}

impl<S: MetricSet> UsageQuery<S> {
    /// The parameters of a query for these sets.
    #[must_use]
    pub fn parameters() -> Vec<Parameter> {
        let mut about = String::from("The set. Each offers some intervals, the default one first:\n");
        for (name, _, intervals) in S::SETS {
            let intervals: Vec<&str> = intervals.iter().map(|interval| interval.name()).collect();
            let _ = write!(about, "\n- `{name}`: {}", intervals.join(", "));
        }
        let (sets, intervals) = (S::SETS.iter().map(|(name, _, _)| *name), Interval::ALL.iter().map(|i| i.name()));
        vec![
            Parameter::required("set", about, one_of("A set.", sets)),
            Parameter::required("start", "From this second since the Unix epoch on.", schema::u32("Seconds.")),
            Parameter::required(
                "end",
                "Up to this second since the Unix epoch, exclusive; at most 90 days after `start` and not in the future.",
                schema::u32("Seconds."),
            ),
            Parameter::optional(
                "interval",
                "The width of a point. It must be one that the set offers.",
                one_of("An interval.", intervals),
            ),
        ]
    }

    /// From the query string, without its `?`. `now_s` is the time of the request.
    ///
    /// # Errors
    /// 400 `bad_query` when a value is malformed or unknown; 422 `invalid` when the range or the interval cannot be had.
    pub fn parse(query: &str, now_s: u32) -> Result<Self, ApiError> {
        let (mut name, mut start, mut end, mut interval) = (None::<String>, None::<u32>, None::<u32>, None::<String>);
        for pair in pairs(query) {
            let (key, value) = pair?;
            match &*key {
                "set" => set(&mut name, "set", &value)?,
                "start" => set(&mut start, "start", &value)?,
                "end" => set(&mut end, "end", &value)?,
                "interval" => set(&mut interval, "interval", &value)?,
                _ => {}
            }
        }
        let name = name.ok_or_else(|| bad_query("missing field `set`"))?;
        let Some((_, set, intervals)) = S::SETS.iter().find(|(known, _, _)| *known == name) else {
            let known: Vec<String> = S::SETS.iter().map(|(known, _, _)| format!("`{known}`")).collect();
            return Err(bad_query(&format!("set: unknown variant `{name}`, expected one of {}", known.join(", "))));
        };
        let interval = interval.map(|name| Interval::named(&name)).transpose()?;
        let (Some(start_s), Some(end_s)) = (start, end) else {
            return Err(invalid(&format!("start and end params required for the metric set `{name}`")));
        };
        if start_s > end_s {
            return Err(invalid("start must not be greater than end"));
        }
        if end_s > now_s.saturating_add(FUTURE_SECS_MAX) {
            return Err(invalid("end must not be in the future"));
        }
        if end_s - start_s > RANGE_SECS_MAX {
            return Err(invalid("the time range must not exceed 90 days"));
        }
        match interval {
            Some(interval) if !intervals.contains(&interval) => {
                Err(invalid(&format!("the interval `{}` is not supported by the metric set `{name}`", interval.name())))
            }
            given => Ok(Self { set: *set, start_s, end_s, interval: given.unwrap_or(intervals[0]) }),
        }
    }
}

/// What a metric counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Operations.
    Operations,
    /// Dollars.
    Usd,
}

/// One metric of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Metric {
    /// How much happened in each interval that begins at these seconds since the Unix epoch.
    Accumulation {
        /// Its name.
        name: &'static str,
        /// What it counts.
        unit: Unit,
        /// The width of a point.
        interval: Interval,
        /// The points, in order.
        values: Vec<(u32, f64)>,
    },
    /// What stood at these seconds since the Unix epoch.
    Gauge {
        /// Its name.
        name: &'static str,
        /// What it counts.
        unit: Unit,
        /// The points, in order.
        values: Vec<(u32, f64)>,
    },
    /// Names.
    Label {
        /// Its name.
        name: &'static str,
        /// The names, in order.
        values: Vec<String>,
    },
}

/// The body of the answer.
#[must_use]
pub fn response(metrics: &[Metric]) -> String {
    let mut out = String::from("{\"values\":[");
    for (i, metric) in metrics.iter().enumerate() {
        out.push_str(if i > 0 { "," } else { "" });
        match metric {
            Metric::Accumulation { name, unit, interval, values } => {
                let (unit, interval) = (unit_name(*unit), interval.name());
                let head = "{\"accumulation\":{\"name\":";
                let _ = write!(out, "{head}\"{name}\",\"unit\":\"{unit}\",\"interval\":\"{interval}\",\"values\":");
                points(&mut out, values);
                out.push_str("}}");
            }
            Metric::Gauge { name, unit, values } => {
                let _ = write!(out, "{{\"gauge\":{{\"name\":\"{name}\",\"unit\":\"{}\",\"values\":", unit_name(*unit));
                points(&mut out, values);
                out.push_str("}}");
            }
            Metric::Label { name, values } => {
                let values = Value::from(values.clone());
                let _ = write!(out, "{{\"label\":{{\"name\":\"{name}\",\"values\":{values}}}}}");
            }
        }
    }
    out.push_str("]}");
    out
}

/// The schema of [`response`].
pub(crate) fn response_schema() -> Value {
    let points = |about: &str| {
        let second = schema::u32("Seconds since the Unix epoch.");
        list_of(
            about,
            json!({ "type": "array", "minItems": 2, "maxItems": 2, "prefixItems": [second, { "type": "number" }] }),
        )
    };
    let name = || ("name", text("Its name."));
    let unit = || ("unit", one_of("What it counts.", [Unit::Bytes, Unit::Operations, Unit::Usd].map(unit_name)));
    let interval = ("interval", one_of("The width of a point.", Interval::ALL.iter().map(|i| i.name())));
    let accumulation = object(
        "How much happened in each interval.",
        [
            name(),
            unit(),
            interval,
            ("values", points("The second at which an interval begins, and how much happened in it.")),
        ],
    );
    let gauge = object("What stood at a time.", [name(), unit(), ("values", points("A second, and what stood then."))]);
    let label = object("Names.", [name(), ("values", list_of("The names, in order.", text("A name.")))]);
    let metric = json!({ "oneOf": [
        object("An accumulation.", [("accumulation", accumulation)]),
        object("A gauge.", [("gauge", gauge)]),
        object("A label.", [("label", label)]),
    ] });
    object("The metrics of a set.", [("values", list_of("One or more, or none where nothing happened.", metric))])
}

fn points(out: &mut String, values: &[(u32, f64)]) {
    out.push('[');
    for (i, (at_s, value)) in values.iter().enumerate() {
        // `{:?}` keeps the point of a whole number, which clients of typed languages want to see.
        let _ = write!(out, "{}[{at_s},{value:?}]", if i > 0 { "," } else { "" });
    }
    out.push(']');
}

const fn unit_name(unit: Unit) -> &'static str {
    match unit {
        Unit::Bytes => "bytes",
        Unit::Operations => "operations",
        Unit::Usd => "usd",
    }
}

/// Longest range: 90 days.
pub const RANGE_SECS_MAX: u32 = 90 * 86_400;
/// How far in the future a range may end.
const FUTURE_SECS_MAX: u32 = 60;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_S: u32 = 1_800_000_000;

    #[test]
    fn a_query_is_checked_against_its_set() {
        type Row = (&'static str, Result<(BasinSet, Interval), u16>);
        let rows: [Row; 12] = [
            ("set=append-ops&start=10&end=20", Ok((BasinSet::AppendOps, Minute))),
            ("set=basin-ops&start=10&end=10&interval=day", Ok((BasinSet::BasinOps, Day))),
            ("set=storage&start=10&end=20", Ok((BasinSet::Storage, Hour))),
            ("set=storage&start=10&end=20&interval=minute", Err(422)),
            ("set=append-ops&start=20&end=10", Err(422)),
            ("set=append-ops&end=10", Err(422)),
            ("set=append-ops&start=10&end=1800000061", Err(422)),
            ("set=append-ops&start=1000000000&end=1007862400", Err(422)),
            ("set=append-ops&start=10&end=20&interval=year", Err(400)),
            ("set=account-ops&start=10&end=20", Err(400)),
            ("start=10&end=20", Err(400)),
            ("set=append-ops&start=-1&end=20", Err(400)),
        ];
        for (query, expected) in rows {
            let got = UsageQuery::<BasinSet>::parse(query, NOW_S);
            assert_eq!(got.map(|q| (q.set, q.interval)).map_err(|e| e.status()), expected, "{query}");
        }
    }

    #[test]
    fn the_longest_range_is_ninety_days() {
        let query = |days: u32| format!("set=account-ops&start={}&end={NOW_S}", NOW_S - days * 86_400);
        assert!(UsageQuery::<AccountSet>::parse(&query(90), NOW_S).is_ok());
        assert_eq!(UsageQuery::<AccountSet>::parse(&query(91), NOW_S).expect_err("too long").status(), 422);
    }

    #[test]
    fn answers_are_what_clients_decode() {
        let metrics = [
            Metric::Label { name: "active_basins", values: vec!["a\"b".to_owned()] },
            Metric::Accumulation {
                name: "append",
                unit: Unit::Operations,
                interval: Hour,
                values: vec![(3600, 2.0), (7200, 0.5)],
            },
            Metric::Gauge { name: "storage", unit: Unit::Bytes, values: vec![] },
        ];
        let expected = serde_json::json!({"values": [
            {"label": {"name": "active_basins", "values": ["a\"b"]}},
            {"accumulation": {"name": "append", "unit": "operations", "interval": "hour", "values": [[3600, 2.0], [7200, 0.5]]}},
            {"gauge": {"name": "storage", "unit": "bytes", "values": []}},
        ]});
        let got: Value = serde_json::from_str(&response(&metrics)).expect("JSON");
        assert_eq!(got, expected);
    }
}
