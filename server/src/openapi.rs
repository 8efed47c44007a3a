//! The OpenAPI 3.1 document at `/openapi.json`. It is made from the code that serves: paths and methods from [`Route`], the
//! operations of access tokens from [`operation`], bodies, queries and error codes from `api::schema`. What is written by
//! hand, in `control.rs` and `records.rs`, is what each operation means and which errors it has.
//!
//! It has no secrets and is the same for everybody, so it needs no token.

mod control;
mod parts;
mod records;

use std::sync::OnceLock;

use api::schema;
use bytes::Bytes;
use http::Method;
use serde_json::{Map, Value, json};

use crate::access::operation;
use crate::http::route::Route;
use parts::Operation;

/// The document as text, made when it is first asked for.
pub(crate) fn document() -> Bytes {
    static DOCUMENT: OnceLock<Bytes> = OnceLock::new();
    DOCUMENT.get_or_init(|| build().to_string().into()).clone()
}

fn build() -> Value {
    let mut paths = Map::new();
    for route in Route::all() {
        for path in templates(&route) {
            paths.insert((*path).to_owned(), path_item(&route, path));
        }
    }
    let mut schemas = schema::components();
    for (name, body) in crate::http::lease::schemas() {
        schemas.insert(name.to_owned(), body);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Millrace",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "A durable stream store that speaks the S2 API.",
            "description": ABOUT,
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/", "description": "The server that this document came from." }],
        "tags": parts::tags(),
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": { "accessToken": {
                "type": "http", "scheme": "bearer",
                "description": "An access token. The names beside it in an operation are the operations that it must permit. \
                    Without a token everything is permitted, unless the settings of the server require one.",
            } },
        },
    })
}

/// The paths of a route as the document writes them. Parsed, each is that route again.
const fn templates(route: &Route<'_>) -> &'static [&'static str] {
    match route {
        Route::Health => &["/health", "/ping"],
        Route::Scrape => &["/metrics"],
        Route::OpenApi => &["/openapi.json"],
        Route::Basins => &["/v1/basins"],
        Route::Basin(_) => &["/v1/basins/{basin}"],
        Route::Streams => &["/v1/streams"],
        Route::Stream(_) => &["/v1/streams/{stream}"],
        Route::Records(_) => &["/v1/streams/{stream}/records"],
        Route::Tail(_) => &["/v1/streams/{stream}/records/tail"],
        Route::Lease(_) => &["/v1/streams/{stream}/lease"],
        Route::AccessTokens => &["/v1/access-tokens"],
        Route::AccessToken(_) => &["/v1/access-tokens/{id}"],
        Route::Usage(None, _) => &["/v1/metrics"],
        Route::Usage(Some(_), None) => &["/v1/metrics/{basin}"],
        Route::Usage(Some(_), Some(_)) => &["/v1/metrics/{basin}/{stream}"],
        Route::Locations => &["/v1/locations"],
        Route::DefaultLocation => &["/v1/locations/default"],
        Route::FirstForm(..) => &["/v1/{basin}/{stream}"],
    }
}

fn path_item(route: &Route<'_>, path: &str) -> Value {
    let mut item = Map::new();
    let parameters: Vec<Value> = path.split('/').filter_map(parts::path_parameter).collect();
    if !parameters.is_empty() {
        item.insert("parameters".to_owned(), parameters.into());
    }
    for name in route.allow().split(", ") {
        let method: Method = name.parse().expect("`allow` has methods");
        let mut operation = describe(route, &method);
        if path == "/ping" {
            operation.id = "ping";
        }
        item.insert(name.to_lowercase(), operation.to_json(security(route, &method)));
    }
    item.into()
}

/// What each route means by its methods.
fn describe(route: &Route<'_>, method: &Method) -> Operation {
    match route {
        Route::Health => control::health(),
        Route::Scrape => control::scrape(),
        Route::OpenApi => control::openapi(),
        Route::Basins => control::basins(method),
        Route::Basin(_) => control::basin(method),
        Route::Streams => control::streams(method),
        Route::Stream(_) => control::stream(method),
        Route::AccessTokens => control::access_tokens(method),
        Route::AccessToken(_) => control::access_token(),
        Route::Usage(basin, stream) => control::usage(basin.is_some(), stream.is_some()),
        Route::Locations => control::locations(),
        Route::DefaultLocation => control::default_location(method),
        Route::Records(_) if method == Method::POST => records::append(),
        Route::Records(_) => records::read(),
        Route::Tail(_) => records::check_tail(),
        Route::Lease(_) => records::lease(method),
        Route::FirstForm(..) => records::first_form(),
    }
}

/// Nothing, or a token with one of these sets of operations.
fn security(route: &Route<'_>, method: &Method) -> Value {
    if matches!(route, Route::Health | Route::OpenApi) {
        return json!([]);
    }
    let mut ways = vec![json!({})];
    for needed in operation::operations(route, method) {
        let all: Vec<&str> = [Some(*needed), operation::also(route, method)]
            .into_iter()
            .flatten()
            .map(model::Operation::as_str)
            .collect();
        ways.push(json!({ "accessToken": all }));
    }
    ways.into()
}

const ABOUT: &str = "Streams are ordered, append-only sequences of records; basins group them. An append is answered once it is \
    durable.\n\nUnits: timestamps of records are milliseconds since the Unix epoch, ages and waits seconds, sizes metered bytes \
    (the bytes of body and headers, 8 for a record and 2 for a header). Numbers are unsigned 64-bit integers unless they say \
    otherwise; JavaScript keeps them exact below 2^53.\n\nKeys of JSON bodies and parameters that are not known are ignored, but \
    for leases. Bodies may be sent with `content-encoding: gzip` or `zstd`. Every error is JSON, whatever was asked for. Paths \
    and methods that are not here answer 404 `not_found` and 405 `method_not_allowed`. After a status of 5xx, 408 or no answer \
    at all what was asked for may have happened, unless the code's description says that nothing did.";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_route_and_method_is_in_the_document_and_nothing_else() {
        let document: Value = serde_json::from_slice(&document()).expect("JSON");
        let mut described = BTreeSet::new();
        for (path, item) in document["paths"].as_object().expect("paths") {
            for key in item.as_object().expect("a path").keys().filter(|key| *key != "parameters") {
                described.insert(format!("{} {path}", key.to_uppercase()));
            }
        }
        let mut served = BTreeSet::new();
        for route in Route::all() {
            for path in templates(&route) {
                assert_eq!(Route::parse(path), Some(route), "{path}");
                served.extend(route.allow().split(", ").map(|method| format!("{method} {path}")));
            }
        }
        assert_eq!(described, served);
    }

    #[test]
    fn every_operation_says_what_it_is() {
        let document = build();
        let mut ids = BTreeSet::new();
        for (path, item) in document["paths"].as_object().expect("paths") {
            for (method, operation) in item.as_object().expect("a path").iter().filter(|(key, _)| *key != "parameters")
            {
                let text = |key: &str| operation[key].as_str().unwrap_or_default().len();
                assert!(text("summary") > 3 && text("description") > 20, "{method} {path}");
                assert!(ids.insert(operation["operationId"].as_str().expect("an id")), "{method} {path}");
                let answers = operation["responses"].as_object().expect("answers");
                assert!(answers.keys().any(|status| status.starts_with('2')), "{method} {path}");
            }
        }
    }

    #[test]
    fn no_schema_is_missing_or_left_over() {
        let document = build();
        let text = document.to_string();
        let used: BTreeSet<&str> =
            text.split("\"#/components/schemas/").skip(1).filter_map(|part| part.split('"').next()).collect();
        let there: BTreeSet<&str> =
            document["components"]["schemas"].as_object().expect("schemas").keys().map(String::as_str).collect();
        assert_eq!(used, there);
    }
}
