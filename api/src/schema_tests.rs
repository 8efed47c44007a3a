//! The schemas hold what the code has: every code, operation, metric set and interval, and no reference into nothing.

use super::*;
use crate::query::{ListQuery, ReadQuery};
use crate::usage::{AccountSet, BasinSet, Interval, MetricSet, StreamSet, UsageQuery};

fn strings(list: &Value) -> Vec<&str> {
    list.as_array().expect("an array").iter().map(|item| item.as_str().expect("a string")).collect()
}

#[test]
fn every_error_code_is_described() {
    let error = &components()["Error"];
    let codes = strings(&error["properties"]["code"]["enum"]);
    assert_eq!(codes, Code::ALL.iter().map(|code| code.as_str()).collect::<Vec<_>>());
    for code in Code::ALL {
        let line = format!("- `{}` ({}): {}", code.as_str(), code.status(), code.about());
        assert!(error["description"].as_str().expect("text").contains(&line), "{line}");
        assert!(code.about().ends_with('.') && code.about().len() > 10, "{code:?}");
    }
}

#[test]
fn every_operation_can_be_asked_for() {
    let ops = &components()["AccessTokenScopeInput"]["properties"]["ops"]["anyOf"][0]["items"]["enum"];
    assert_eq!(strings(ops), Operation::ALL.map(Operation::as_str));
}

fn check_sets<S: MetricSet>(count: usize) {
    let parameters = UsageQuery::<S>::parameters();
    let of = |name: &str| parameters.iter().find(|parameter| parameter.name == name).expect("described");
    let sets: Vec<&str> = S::SETS.iter().map(|(name, _, _)| *name).collect();
    assert_eq!(strings(&of("set").schema["enum"]), sets);
    assert_eq!(sets.len(), count);
    for (name, _, intervals) in S::SETS {
        let intervals: Vec<&str> = intervals.iter().map(|interval| interval.name()).collect();
        assert!(of("set").about.contains(&format!("- `{name}`: {}", intervals.join(", "))), "{name}");
    }
    assert_eq!(strings(&of("interval").schema["enum"]), Interval::ALL.map(Interval::name));
}

#[test]
fn every_metric_set_and_interval_is_described() {
    check_sets::<AccountSet>(3);
    check_sets::<BasinSet>(6);
    check_sets::<StreamSet>(1);
}

/// A parameter that no parser reads would be taken for an unknown one, which is ignored.
#[test]
fn every_parameter_is_read() {
    type Parse = fn(&str) -> bool;
    let parsers: [(Vec<Parameter>, &str, Parse); 3] = [
        (ReadQuery::parameters(), "", |query| ReadQuery::parse(query).is_ok()),
        (ListQuery::parameters(), "", |query| ListQuery::parse_streams(query).is_ok()),
        (UsageQuery::<BasinSet>::parameters(), "set=append-ops&start=1&end=2&", |query| {
            UsageQuery::<BasinSet>::parse(query, 9).is_ok()
        }),
    ];
    for (parameters, rest, parse) in parsers {
        assert!(parse(rest));
        for Parameter { name, .. } in parameters {
            assert!(!parse(&format!("{rest}{name}=%00")), "{name} is not read");
        }
    }
}

#[test]
fn no_reference_leads_nowhere() {
    let schemas = components();
    let all = Value::from(schemas.clone()).to_string();
    for part in all.split(r##""$ref":"#/components/schemas/"##).skip(1) {
        let name = part.split('"').next().expect("a name");
        assert!(schemas.contains_key(name), "{name}");
    }
}
