//! Basins and streams in JSON, one by one and in lists.

use std::sync::Arc;

use model::config::Cipher;
use model::{BasinName, StreamName};
use serde_json::Value;

use super::text::Json;
use super::time::rfc3339;
use crate::schema::{self, nullable, object, one_of, text, time};

/// A basin as clients see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BasinInfo {
    /// Its name.
    pub name: BasinName,
    /// Where it is, if that was said.
    pub location: Option<Arc<str>>,
    /// When it was created, in milliseconds since the Unix epoch.
    pub created_at_ms: u64,
    /// When its deletion began; then its state is "deleting".
    pub deleted_at_ms: Option<u64>,
}

/// A stream as clients see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamInfo {
    /// Its name.
    pub name: StreamName,
    /// When it was created, in milliseconds since the Unix epoch.
    pub created_at_ms: u64,
    /// When its deletion began.
    pub deleted_at_ms: Option<u64>,
    /// Its cipher.
    pub cipher: Option<Cipher>,
}

/// `BasinInfo`.
#[must_use]
pub fn basin_info(basin: &BasinInfo) -> String {
    let mut json = Json::new();
    put_basin(&mut json, basin);
    json.into_string()
}

/// `StreamInfo`.
#[must_use]
pub fn stream_info(stream: &StreamInfo) -> String {
    let mut json = Json::new();
    put_stream(&mut json, stream);
    json.into_string()
}

/// `{"basins":[…],"has_more":…}`
#[must_use]
pub fn basin_list(basins: &[BasinInfo], has_more: bool) -> String {
    list("basins", basins, put_basin, has_more)
}

/// `{"streams":[…],"has_more":…}`
#[must_use]
pub fn stream_list(streams: &[StreamInfo], has_more: bool) -> String {
    list("streams", streams, put_stream, has_more)
}

/// A cipher's name in JSON and headers.
#[must_use]
pub const fn cipher_name(cipher: Cipher) -> &'static str {
    match cipher {
        Cipher::Aegis256 => "aegis-256",
        Cipher::Aes256Gcm => "aes-256-gcm",
    }
}

/// A page of a listing.
pub(super) fn list<T>(key: &str, items: &[T], put: impl Fn(&mut Json, &T), has_more: bool) -> String {
    let mut json = Json::new();
    json.raw("{").string(key).raw(":[");
    let mut separator = "";
    for item in items {
        json.raw(separator);
        put(&mut json, item);
        separator = ",";
    }
    json.raw(r#"],"has_more":"#).boolean(has_more).raw("}");
    json.into_string()
}

fn put_basin(json: &mut Json, basin: &BasinInfo) {
    json.raw(r#"{"name":"#).string(basin.name.as_str());
    json.raw(r#","location":"#).optional(basin.location.as_deref());
    put_times(json, basin.created_at_ms, basin.deleted_at_ms);
    // Deprecated, but Rust clients before 2026-03 require it.
    json.raw(r#","state":"#).string(if basin.deleted_at_ms.is_some() { "deleting" } else { "active" }).raw("}");
}

fn put_stream(json: &mut Json, stream: &StreamInfo) {
    json.raw(r#"{"name":"#).string(stream.name.as_str());
    put_times(json, stream.created_at_ms, stream.deleted_at_ms);
    json.raw(r#","cipher":"#).optional(stream.cipher.map(cipher_name)).raw("}");
}

/// The schemas of what is shown.
pub(super) fn answer_schemas() -> [(&'static str, Value); 4] {
    let created = || ("created_at", time("When it was created."));
    let deleted = || ("deleted_at", nullable(time("When its deletion began; null while it is live.")));
    let basin = object(
        "A basin.",
        [
            ("name", schema::basin_name()),
            ("location", nullable(text("Where it is."))),
            created(),
            deleted(),
            ("state", one_of("`deleting` as soon as `deleted_at` is set. For older clients.", ["active", "deleting"])),
        ],
    );
    let cipher =
        one_of("How its records are sealed; null: not at all.", [Cipher::Aegis256, Cipher::Aes256Gcm].map(cipher_name));
    let stream =
        object("A stream.", [("name", schema::stream_name()), created(), deleted(), ("cipher", nullable(cipher))]);
    [
        ("BasinInfo", basin),
        ("ListBasinsResponse", schema::page("basins", "BasinInfo")),
        ("StreamInfo", stream),
        ("ListStreamsResponse", schema::page("streams", "StreamInfo")),
    ]
}

/// Both keys always: Rust clients do not decode a stream without `deleted_at`.
fn put_times(json: &mut Json, created_at_ms: u64, deleted_at_ms: Option<u64>) {
    json.raw(r#","created_at":"#).string(&rfc3339(created_at_ms));
    json.raw(r#","deleted_at":"#).optional(deleted_at_ms.map(rfc3339).as_deref());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basins_are_what_clients_expect() {
        let mut basin = BasinInfo {
            name: BasinName::try_from("my-basin").expect("valid"),
            location: None,
            created_at_ms: 1,
            deleted_at_ms: None,
        };
        let live = r#"{"name":"my-basin","location":null,"created_at":"1970-01-01T00:00:00.001Z","deleted_at":null,"state":"active"}"#;
        assert_eq!(basin_info(&basin), live);
        basin.deleted_at_ms = Some(0);
        basin.location = Some("here".into());
        let dead = r#"{"name":"my-basin","location":"here","created_at":"1970-01-01T00:00:00.001Z","deleted_at":"1970-01-01T00:00:00.000Z","state":"deleting"}"#;
        assert_eq!(
            basin_list(&[basin.clone(), basin], true),
            format!(r#"{{"basins":[{dead},{dead}],"has_more":true}}"#)
        );
    }

    #[test]
    fn streams_are_what_clients_expect() {
        let stream = StreamInfo {
            name: StreamName::try_from("a/\"\n").expect("valid"),
            created_at_ms: 1000,
            deleted_at_ms: None,
            cipher: Some(Cipher::Aes256Gcm),
        };
        let json =
            r#"{"name":"a/\"\n","created_at":"1970-01-01T00:00:01.000Z","deleted_at":null,"cipher":"aes-256-gcm"}"#;
        assert_eq!(stream_info(&stream), json);
        assert!(stream_info(&StreamInfo { cipher: None, ..stream }).ends_with(r#""cipher":null}"#));
        assert_eq!(stream_list(&[], false), r#"{"streams":[],"has_more":false}"#);
    }
}
