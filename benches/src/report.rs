//! The report: repetitions of a figure as one row with its median, on the terminal and in JSON.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Value, json};

use crate::machine::Machine;
use crate::scenario::Measure;
use crate::settings::{Protocol, Settings};
use crate::stats::{LatencySummary, Spread, ratio};

/// All repetitions of one figure. Invariant: never empty, and all have the same name.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    name: String,
    unit: &'static str,
    value: Spread,
    floor: Option<Spread>,
    /// Value ÷ floor of the same repetition.
    ratio: Option<Spread>,
    p50_us: Option<Spread>,
    p99_us: Option<Spread>,
    p999_us: Option<Spread>,
    failures: u64,
    repetitions: Vec<Measure>,
}

impl Row {
    fn of(repetitions: Vec<Measure>) -> Self {
        let first = repetitions.first().expect("a row has a repetition");
        let quantile = |which: fn(&LatencySummary) -> f64| {
            Spread::of(repetitions.iter().filter_map(|m| m.latency.as_ref().map(which)))
        };
        Self {
            name: first.name.clone(),
            unit: first.unit,
            value: Spread::of(repetitions.iter().map(|m| m.value)).expect("a row has a repetition"),
            floor: Spread::of(repetitions.iter().filter_map(|m| m.floor.as_ref().map(|floor| floor.value))),
            ratio: Spread::of(repetitions.iter().filter_map(|m| ratio(m.value, m.floor.as_ref()?.value))),
            p50_us: quantile(|latency| latency.p50_us),
            p99_us: quantile(|latency| latency.p99_us),
            p999_us: quantile(|latency| latency.p999_us),
            failures: repetitions.iter().map(|m| m.failures).sum(),
            repetitions,
        }
    }

    fn cells(&self) -> [String; COLUMNS] {
        let median = |spread: &Option<Spread>| spread.as_ref().map_or_else(|| "-".to_owned(), |s| number(s.median));
        [
            self.name.clone(),
            number(self.value.median),
            self.unit.to_owned(),
            median(&self.floor),
            self.ratio.map_or_else(|| "-".to_owned(), |s| format!("{:.2}", s.median)),
            median(&self.p50_us),
            median(&self.p99_us),
            median(&self.p999_us),
            format!("{} (+-{:.0} %)", self.repetitions.len(), self.value.relative() * 50.0),
            self.failures.to_string(),
        ]
    }

    /// What the table has no column for, of the last repetition.
    fn notes(&self) -> String {
        let last = self.repetitions.last().expect("a row has a repetition");
        let mut notes = String::new();
        if let Some(floor) = &last.floor {
            let _ = writeln!(notes, "  floor: {}", floor.what);
        }
        let extra: Vec<String> = last
            .extra
            .iter()
            .filter(|(name, _)| !matches!(name.as_str(), "operations" | "seconds"))
            .map(|(name, value)| format!("{name} {}", number(*value)))
            .collect();
        if !extra.is_empty() {
            let _ = writeln!(notes, "  {}", extra.join(", "));
        }
        for measure in &self.repetitions {
            for (kind, count) in &measure.failure_kinds {
                let _ = writeln!(notes, "  FAILED {count} x {kind}");
            }
        }
        notes
    }
}

/// Every row of the run so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

impl Report {
    /// Takes the repetitions of one scenario, in the order they were made, and returns them as text.
    pub(crate) fn add(&mut self, measures: Vec<Measure>) -> String {
        let mut names: Vec<String> = Vec::new();
        for measure in &measures {
            if !names.contains(&measure.name) {
                names.push(measure.name.clone());
            }
        }
        let first_new = self.rows.len();
        for name in names {
            self.rows.push(Row::of(measures.iter().filter(|m| m.name == name).cloned().collect()));
        }
        let mut text = table(&self.rows[first_new..]);
        for row in &self.rows[first_new..] {
            let notes = row.notes();
            if !notes.is_empty() {
                let _ = write!(text, "{}:\n{notes}", row.name);
            }
        }
        text
    }

    pub(crate) fn table(&self) -> String {
        table(&self.rows)
    }

    pub(crate) fn failures(&self) -> u64 {
        self.rows.iter().map(|row| row.failures).sum()
    }

    pub(crate) fn json(&self, settings: &Settings, machine: &Machine, was_interrupted: bool) -> Value {
        let name = |protocol| match protocol {
            Protocol::Http1 => "http/1.1",
            Protocol::Http2 => "http/2",
            Protocol::Grpc => "grpc",
        };
        json!({
            "machine": machine,
            "settings": {
                "endpoint": settings.endpoint.authority,
                "repeat": settings.repeat,
                "warmup_seconds": settings.warmup.as_secs_f64(),
                "duration_seconds": settings.duration.as_secs_f64(),
                "threads": settings.threads,
                "concurrency": settings.concurrency,
                "record_bytes": settings.record_bytes,
                "streams": settings.streams,
                "rate": settings.rate,
                "tls": settings.endpoint.tls.is_some(),
                "unary": name(settings.unary),
                "session": name(settings.session),
                "catch_up_bytes": settings.catch_up_bytes,
                "tails": settings.tails,
                "quick": settings.quick,
            },
            "interrupted": was_interrupted,
            "failures": self.failures(),
            "rows": self.rows,
        })
    }
}

/// Columns as wide as their widest cell; names to the left, numbers to the right.
fn table(rows: &[Row]) -> String {
    let mut lines = vec![HEADINGS.map(str::to_owned)];
    lines.extend(rows.iter().map(Row::cells));
    let widths: [usize; COLUMNS] =
        std::array::from_fn(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0));
    let mut text = String::new();
    for line in lines {
        for (column, cell) in line.iter().enumerate() {
            let width = widths[column];
            let is_text = column == 0 || column == 2;
            let _ = if is_text { write!(text, "{cell:<width$}  ") } else { write!(text, "{cell:>width$}  ") };
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

/// Three significant digits, or all of a large number's whole part.
fn number(value: f64) -> String {
    let decimals = match value.abs() {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        0.0 => 0,
        _ => 2,
    };
    format!("{value:.decimals$}")
}

const COLUMNS: usize = 10;
const HEADINGS: [&str; COLUMNS] =
    ["scenario", "value", "unit", "floor", "ratio", "p50 us", "p99 us", "p99.9 us", "repetitions", "failed"];

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::floor::Floor;

    fn measure(name: &str, value: f64, floor: f64) -> Measure {
        Measure {
            name: name.to_owned(),
            value,
            unit: "us",
            floor: Some(Floor { what: "sync".into(), value: floor, unit: "us" }),
            latency: None,
            failures: 1,
            failure_kinds: BTreeMap::new(),
            extra: BTreeMap::new(),
        }
    }

    #[test]
    fn a_ratio_is_taken_within_a_repetition_and_then_the_median() {
        let row = Row::of(vec![measure("a", 10.0, 10.0), measure("a", 40.0, 20.0), measure("a", 30.0, 10.0)]);
        assert_eq!(row.value, Spread { median: 30.0, min: 10.0, max: 40.0 });
        assert_eq!(row.ratio, Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(row.failures, 3);
    }

    #[test]
    fn repetitions_of_several_figures_become_a_row_each_in_order() {
        let mut report = Report::default();
        let text = report.add(vec![measure("b", 1.0, 1.0), measure("a", 2.0, 1.0), measure("b", 3.0, 1.0)]);
        assert_eq!(report.rows.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), ["b", "a"]);
        assert_eq!(report.failures(), 3);
        assert!(text.contains("2 (+-50 %)"), "{text}");
    }

    #[test]
    fn numbers_are_as_precise_as_they_are_small() {
        for (value, text) in [(0.0, "0"), (1.234, "1.23"), (12.34, "12.3"), (1234.5, "1234"), (0.5, "0.50")] {
            assert_eq!(number(value), text);
        }
    }
}
