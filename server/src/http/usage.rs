//! Metric sets, from the meters (s2-wire.md 9.4).

use api::ApiError;
use api::usage::{AccountSet, BasinSet, Interval, Metric, MetricSet, StreamSet, Unit, UsageQuery};
use model::config::MeteredClass::{Express, Native, Standard};
use model::token::{On, Operation};
use model::{BasinName, Failure, StreamName};

use super::Front;
use crate::access::Access;
use crate::meters::front::minute_now;
use crate::meters::meter::Scope;
use crate::meters::query::{Question, Series, Wanted};
use crate::meters::{Meter, storage};

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
pub(crate) async fn basin(front: &Front, name: BasinName, query: &str) -> Result<Vec<Metric>, ApiError> {
    let query = UsageQuery::<BasinSet>::parse(query, now_s())?;
    let scope = Scope::Basin(name.clone());
    let rows: &[(&str, Unit, Meter)] = match query.set {
        BasinSet::Storage => return stored_of_basin(front, name, &query).await,
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

/// A set of a stream. What was stored in the past is not kept: there is a point for now at most.
pub(crate) async fn stream(
    front: &Front,
    basin: &BasinName,
    stream: StreamName,
    query: &str,
) -> Result<Vec<Metric>, ApiError> {
    let query = UsageQuery::<StreamSet>::parse(query, now_s())?;
    match query.set {
        StreamSet::Storage => {
            let minute = minute_now();
            let wanted = question(&query, None, Wanted::Meters(vec![Meter::STORED]));
            let mut points = Vec::new();
            if let Some(basin) = front.router.basins().get(basin).filter(|_| wanted.minutes().contains(&minute)) {
                match storage::of_stream(&front.store, &front.router, &basin, stream).await {
                    Ok(bytes) => points.push((minute * 60, bytes)),
                    // As for basins, no error: it may have been.
                    Err(Failure::Rejected(_)) => {}
                    Err(failure) => return Err(failure.into()),
                }
            }
            Ok(vec![stored_gauge(points)])
        }
    }
}

/// What was written down for each hour; for the one of now, what is stored now if that is more.
async fn stored_of_basin(
    front: &Front,
    name: BasinName,
    query: &UsageQuery<BasinSet>,
) -> Result<Vec<Metric>, ApiError> {
    let (minute, basin) = (minute_now(), front.router.basins().get(&name));
    let scope = Scope::Basin(name);
    let asked = question(query, Some(scope.clone()), Wanted::Meters(vec![Meter::STORED]));
    let mut series = front.asker.ask(asked.clone()).await?;
    if let Some(basin) = basin.filter(|_| asked.minutes().contains(&minute)) {
        let bytes = storage::of_basin(&front.store, &front.router, basin.id).await?;
        series.add(&asked, &(minute, scope, Meter::STORED), bytes)?;
    }
    Ok(vec![stored_gauge(series.points(Meter::STORED))])
}

fn stored_gauge(points: Vec<(u32, u64)>) -> Metric {
    Metric::Gauge { name: "metered_size", unit: Unit::Bytes, values: floats(points) }
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

fn accumulation(series: &Series, name: &'static str, unit: Unit, interval: Interval, meter: Meter) -> Metric {
    Metric::Accumulation { name, unit, interval, values: floats(series.points(meter)) }
}

#[expect(clippy::cast_precision_loss, reason = "the wire has f64, which is exact up to 2^53")]
fn floats(points: Vec<(u32, u64)>) -> Vec<(u32, f64)> {
    points.into_iter().map(|(at_s, n)| (at_s, n as f64)).collect()
}

fn now_s() -> u32 {
    // The end of the minute of now: ranges are checked with a minute to spare.
    minute_now().saturating_mul(60).saturating_add(59)
}
