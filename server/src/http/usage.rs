//! Metric sets, from the meters (s2-wire.md 9.4).

use api::ApiError;
use api::usage::{AccountSet, BasinSet, Interval, Metric, MetricSet, StreamSet, Unit, UsageQuery};
use model::BasinName;
use model::config::MeteredClass::{Express, Native, Standard};
use model::token::{On, Operation};

use super::Front;
use super::answer::not_implemented;
use crate::access::Access;
use crate::meters::Meter;
use crate::meters::front::minute_now;
use crate::meters::meter::Scope;
use crate::meters::query::{Question, Series, Wanted};

/// A set of the account.
///
/// # Errors
/// As [`UsageQuery::parse`] and the meters say; so do the others here.
pub(crate) async fn account(front: &Front, access: &Access, query: &str) -> Result<Vec<Metric>, ApiError> {
    let query = UsageQuery::<AccountSet>::parse(query, now_s())?;
    match query.set {
        AccountSet::ActiveBasins => {
            let basins = front.asker.ask(question(&query, None, Wanted::Basins)).await?.into_basins();
            // Names out of a token's scope are not told.
            let is_shown = |basin: &BasinName| {
                access.permit(Operation::AccountMetrics, On { basin: Some(basin), ..On::default() }).is_ok()
            };
            let values = basins.iter().filter(|basin| is_shown(basin)).map(ToString::to_string).collect();
            Ok(vec![Metric::Label { name: "active_basins", values }])
        }
        AccountSet::AccountOps => operations(front, &query, Scope::Account).await,
        // Nobody is billed for a server of their own.
        AccountSet::EstimatedBillableUsage => {
            let interval = query.interval;
            Ok(vec![Metric::Accumulation { name: "total", unit: Unit::Usd, interval, values: Vec::new() }])
        }
    }
}

/// A set of a basin. One that never was has none, and no error either: it may have been, before it was deleted.
pub(crate) async fn basin(front: &Front, basin: BasinName, query: &str) -> Result<Vec<Metric>, ApiError> {
    let query = UsageQuery::<BasinSet>::parse(query, now_s())?;
    let scope = Scope::Basin(basin);
    let rows: &[(&str, Unit, Meter)] = match query.set {
        BasinSet::Storage => return Err(not_implemented()),
        BasinSet::BasinOps => return operations(front, &query, scope).await,
        BasinSet::AppendOps => &[
            ("standard", Unit::Operations, Meter::append_ops(Standard)),
            ("express", Unit::Operations, Meter::append_ops(Express)),
            ("native", Unit::Operations, Meter::append_ops(Native)),
        ],
        BasinSet::AppendThroughput => &[
            ("standard", Unit::Bytes, Meter::append_bytes(Standard)),
            ("express", Unit::Bytes, Meter::append_bytes(Express)),
            ("native", Unit::Bytes, Meter::append_bytes(Native)),
        ],
        BasinSet::ReadOps => {
            &[("streaming", Unit::Operations, Meter::READ_STREAMING), ("unary", Unit::Operations, Meter::READ_UNARY)]
        }
        BasinSet::ReadThroughput => &[("read", Unit::Bytes, Meter::READ_BYTES)],
    };
    let wanted = Wanted::Meters(rows.iter().map(|(_, _, meter)| *meter).collect());
    let series = front.asker.ask(question(&query, Some(scope), wanted)).await?;
    Ok(rows.iter().map(|(name, unit, meter)| accumulation(&series, name, *unit, query.interval, *meter)).collect())
}

/// A set of a stream.
pub(crate) fn stream(query: &str) -> Result<Vec<Metric>, ApiError> {
    match UsageQuery::<StreamSet>::parse(query, now_s())?.set {
        StreamSet::Storage => Err(not_implemented()),
    }
}

/// A series for each operation that was asked for at all.
async fn operations<S: MetricSet>(front: &Front, query: &UsageQuery<S>, scope: Scope) -> Result<Vec<Metric>, ApiError> {
    let wanted = Wanted::Meters(Meter::operations().collect());
    let series = front.asker.ask(question(query, Some(scope), wanted)).await?;
    let used = Meter::operations().filter(|meter| !series.points(*meter).is_empty());
    Ok(used.map(|meter| accumulation(&series, meter.name(), Unit::Operations, query.interval, meter)).collect())
}

fn question<S: MetricSet>(query: &UsageQuery<S>, scope: Option<Scope>, wanted: Wanted) -> Question {
    Question { scope, wanted, start_s: query.start_s, end_s: query.end_s, step_s: query.interval.secs() }
}

#[expect(clippy::cast_precision_loss, reason = "the wire has f64, which is exact up to 2^53")]
fn accumulation(series: &Series, name: &'static str, unit: Unit, interval: Interval, meter: Meter) -> Metric {
    let values = series.points(meter).into_iter().map(|(at_s, n)| (at_s, n as f64)).collect();
    Metric::Accumulation { name, unit, interval, values }
}

fn now_s() -> u32 {
    // The end of the minute of now: ranges are checked with a minute to spare.
    minute_now().saturating_mul(60).saturating_add(59)
}
