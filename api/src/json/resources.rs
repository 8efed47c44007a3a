//! S2's resource spec: the basins and streams that shall be there, in one JSON file. It is what the S2 CLI's `apply` reads,
//! not what the REST API takes: durations are text such as `7days`, and unknown keys are refused.
//!
//! Promises: what [`parse_resources`] returns can be asked for as it stands; what is wrong is told with its place in the
//! file, such as `basins[1].streams[0].config.retention_policy`.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use model::config::Cipher;
use model::{BasinConfig, BasinName, RetentionPolicy, StreamConfig, StreamName, TimestampingMode};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::config::{CipherJson, ModeJson, checked_storage_class};

/// Basins and streams that shall be there. No basin comes twice.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resources {
    /// In the order of the file.
    pub basins: Vec<BasinResource>,
}

/// A basin that shall be there. No stream comes twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BasinResource {
    /// Its name.
    pub name: BasinName,
    /// What was set; the rest is default.
    pub config: BasinConfig,
    /// In the order of the file.
    pub streams: Vec<StreamResource>,
}

/// A stream that shall be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamResource {
    /// Its name.
    pub name: StreamName,
    /// What was set; the rest is the basin's default.
    pub config: StreamConfig,
}

/// What is wrong with a resource spec, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidResources {
    /// The place in the file; empty when it is not JSON.
    pub path: String,
    /// Why.
    pub why: String,
}

impl fmt::Display for InvalidResources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.why) } else { write!(f, "{}: {}", self.path, self.why) }
    }
}

/// Decodes a resource spec.
///
/// # Errors
/// When it is no JSON, has keys that are not known, or names or values that may not be.
pub fn parse_resources(file: &[u8]) -> Result<Resources, InvalidResources> {
    let mut json = serde_json::Deserializer::from_slice(file);
    let spec: ResourcesJson = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        InvalidResources { path: if path == "." { String::new() } else { path }, why: error.into_inner().to_string() }
    })?;
    json.end().map_err(|error| InvalidResources { path: String::new(), why: error.to_string() })?;
    spec.checked()
}

#[derive(Deserialize)]
struct ResourcesJson {
    // Other keys are let in here and nowhere else: editors put `$schema` beside it.
    #[serde(default)]
    basins: Vec<BasinJson>,
}

impl ResourcesJson {
    /// No name comes twice: the second would silently win.
    fn checked(self) -> Result<Resources, InvalidResources> {
        let twice =
            |path: String, name: &str| InvalidResources { path, why: format!("`{name}` is in this list twice") };
        let mut basins = BTreeSet::new();
        for (b, basin) in self.basins.iter().enumerate() {
            if !basins.insert(&basin.name) {
                return Err(twice(format!("basins[{b}].name"), basin.name.as_str()));
            }
            let mut streams = BTreeSet::new();
            for (s, stream) in basin.streams.iter().enumerate() {
                if !streams.insert(&stream.name) {
                    return Err(twice(format!("basins[{b}].streams[{s}].name"), stream.name.as_str()));
                }
            }
        }
        Ok(Resources { basins: self.basins.into_iter().map(BasinResource::from).collect() })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BasinJson {
    #[serde(deserialize_with = "basin_name")]
    name: BasinName,
    #[serde(default)]
    config: Option<BasinConfigJson>,
    #[serde(default)]
    streams: Vec<StreamJson>,
}

impl From<BasinJson> for BasinResource {
    fn from(basin: BasinJson) -> Self {
        Self {
            name: basin.name,
            config: basin.config.unwrap_or_default().into(),
            streams: basin.streams.into_iter().map(StreamResource::from).collect(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StreamJson {
    #[serde(deserialize_with = "stream_name")]
    name: StreamName,
    #[serde(default)]
    config: Option<StreamConfigJson>,
}

impl From<StreamJson> for StreamResource {
    fn from(stream: StreamJson) -> Self {
        Self { name: stream.name, config: stream.config.unwrap_or_default().into() }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct BasinConfigJson {
    default_stream_config: Option<StreamConfigJson>,
    stream_cipher: Option<CipherJson>,
    create_stream_on_append: Option<bool>,
    create_stream_on_read: Option<bool>,
}

impl From<BasinConfigJson> for BasinConfig {
    fn from(config: BasinConfigJson) -> Self {
        Self {
            default_stream_config: config.default_stream_config.map(StreamConfig::from),
            stream_cipher: config.stream_cipher.map(Cipher::from),
            create_stream_on_append: config.create_stream_on_append.unwrap_or_default(),
            create_stream_on_read: config.create_stream_on_read.unwrap_or_default(),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct StreamConfigJson {
    #[serde(deserialize_with = "storage_class")]
    storage_class: Option<Arc<str>>,
    #[serde(deserialize_with = "retention")]
    retention_policy: Option<RetentionPolicy>,
    timestamping: Option<TimestampingJson>,
    delete_on_empty: Option<DeleteOnEmptyJson>,
}

impl From<StreamConfigJson> for StreamConfig {
    fn from(config: StreamConfigJson) -> Self {
        let timestamping = config.timestamping.unwrap_or_default();
        Self {
            storage_class: config.storage_class,
            retention: config.retention_policy,
            timestamping_mode: timestamping.mode.map(TimestampingMode::from),
            timestamping_uncapped: timestamping.uncapped,
            delete_on_empty_min_age_secs: config.delete_on_empty.and_then(|d| d.min_age),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TimestampingJson {
    mode: Option<ModeJson>,
    uncapped: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct DeleteOnEmptyJson {
    #[serde(deserialize_with = "min_age_secs")]
    min_age: Option<u64>,
}

fn basin_name<'de, D: Deserializer<'de>>(json: D) -> Result<BasinName, D::Error> {
    BasinName::try_from(&*String::deserialize(json)?).map_err(D::Error::custom)
}

fn stream_name<'de, D: Deserializer<'de>>(json: D) -> Result<StreamName, D::Error> {
    StreamName::try_from(&*String::deserialize(json)?).map_err(D::Error::custom)
}

fn storage_class<'de, D: Deserializer<'de>>(json: D) -> Result<Option<Arc<str>>, D::Error> {
    let class = Option::<String>::deserialize(json)?;
    class.map(checked_storage_class).transpose().map_err(|out_of_range| D::Error::custom(out_of_range.0))
}

fn retention<'de, D: Deserializer<'de>>(json: D) -> Result<Option<RetentionPolicy>, D::Error> {
    let Some(text) = Option::<String>::deserialize(json)? else { return Ok(None) };
    if text.eq_ignore_ascii_case("infinite") {
        return Ok(Some(RetentionPolicy::Infinite));
    }
    match whole_secs(&text) {
        Ok(0) => Err(D::Error::custom("age must be greater than 0 seconds")),
        Ok(secs) => Ok(Some(RetentionPolicy::AgeSecs(secs))),
        Err(why) => Err(D::Error::custom(format_args!("{why}, or `infinite`"))),
    }
}

fn min_age_secs<'de, D: Deserializer<'de>>(json: D) -> Result<Option<u64>, D::Error> {
    let text = Option::<String>::deserialize(json)?;
    text.as_deref().map(whole_secs).transpose().map_err(D::Error::custom)
}

/// Configurations hold whole seconds; a fraction would be dropped without a word.
fn whole_secs(text: &str) -> Result<u64, String> {
    let expected = "expected a duration in whole seconds such as `7days` or `2h 30m`";
    match humantime::parse_duration(text) {
        Ok(duration) if duration.subsec_nanos() == 0 => Ok(duration.as_secs()),
        Ok(_) => Err(format!("`{text}` has a fraction of a second: {expected}")),
        Err(error) => Err(format!("`{text}` is no duration ({error}): {expected}")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn error_of(file: &str) -> String {
        parse_resources(file.as_bytes()).expect_err(file).to_string()
    }

    #[test]
    fn everything_that_a_spec_can_say() {
        let file = r#"{
            "$schema": "https://example.org/schema.json",
            "basins": [
                {"name": "first-basin", "config": {
                    "create_stream_on_append": true, "create_stream_on_read": null, "stream_cipher": "aes-256-gcm",
                    "default_stream_config": {"storage_class": "express", "retention_policy": "7days"}
                }, "streams": [
                    {"name": "events", "config": {
                        "retention_policy": "Infinite", "delete_on_empty": {"min_age": "2h 30m"},
                        "timestamping": {"mode": "client-require", "uncapped": true}
                    }},
                    {"name": "plain"}
                ]},
                {"name": "second-basin", "config": null}
            ]
        }"#;
        let resources = parse_resources(file.as_bytes()).expect("a spec");
        let [first, second] = &resources.basins[..] else { panic!("two basins") };
        let defaults = StreamConfig {
            storage_class: Some("express".into()),
            retention: Some(RetentionPolicy::AgeSecs(604_800)),
            ..StreamConfig::default()
        };
        let config = BasinConfig {
            default_stream_config: Some(defaults),
            stream_cipher: Some(Cipher::Aes256Gcm),
            create_stream_on_append: true,
            create_stream_on_read: false,
        };
        assert_eq!(first.config, config);
        let events = StreamConfig {
            storage_class: None,
            retention: Some(RetentionPolicy::Infinite),
            timestamping_mode: Some(TimestampingMode::ClientRequire),
            timestamping_uncapped: Some(true),
            delete_on_empty_min_age_secs: Some(9000),
        };
        assert_eq!(first.streams[0].config, events);
        assert_eq!((first.streams[1].name.as_str(), &first.streams[1].config), ("plain", &StreamConfig::default()));
        assert_eq!((second.name.as_str(), &second.config), ("second-basin", &BasinConfig::default()));
        assert_eq!(parse_resources(b"{}"), Ok(Resources::default()));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let stream = |config: &str| {
            format!(
                r#"{{"basins":[{{"name":"fine-name"}},{{"name":"good-name","streams":[{{"name":"s","config":{config}}}]}}]}}"#
            )
        };
        let at = "basins[1].streams[0].config";
        for (file, path, why) in [
            ("{".to_owned(), "", "EOF"),
            ("7".to_owned(), "", "invalid type"),
            ("{} x".to_owned(), "", "trailing characters"),
            (r#"{"basins":[{"name":"x"}]}"#.to_owned(), "basins[0].name: ", "between 8 and 48"),
            (r#"{"basins":[{"config":{}}]}"#.to_owned(), "basins[0]: ", "missing field `name`"),
            (
                r#"{"basins":[{"name":"good-name","location":"here"}]}"#.to_owned(),
                "basins[0].location: ",
                "unknown field",
            ),
            (r#"{"basins":[{"name":"good-name"},{"name":"good-name"}]}"#.to_owned(), "basins[1].name: ", "twice"),
            (
                r#"{"basins":[{"name":"good-name","streams":[{"name":"s"},{"name":"s"}]}]}"#.to_owned(),
                "basins[0].streams[1].name: ",
                "twice",
            ),
            (stream(r#"{"retention_policy":"soon"}"#), &format!("{at}.retention_policy: "), "`7days`"),
            (stream(r#"{"retention_policy":"0s"}"#), &format!("{at}.retention_policy: "), "greater than 0"),
            (stream(r#"{"retention_policy":{"age":7}}"#), &format!("{at}.retention_policy: "), "expected a string"),
            (
                stream(r#"{"delete_on_empty":{"min_age":"1500ms"}}"#),
                &format!("{at}.delete_on_empty.min_age: "),
                "fraction",
            ),
            (stream(r#"{"timestamping":{"mode":"never"}}"#), &format!("{at}.timestamping.mode: "), "`client-prefer`"),
            (
                stream(&format!(r#"{{"storage_class":"{}"}}"#, "x".repeat(65))),
                &format!("{at}.storage_class: "),
                "64 bytes",
            ),
            (stream(r#"{"retention":"1d"}"#), &format!("{at}.retention: "), "`retention_policy`"),
        ] {
            let error = error_of(&file);
            assert!(error.starts_with(path) && error.contains(why), "{file}: {error}");
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(body in prop::collection::vec(any::<u8>(), 0..100), text in "[\\[{\"basin:,0-9\\]}]{0,60}") {
            for file in [&body[..], text.as_bytes()] {
                let _ = parse_resources(file);
            }
        }
    }
}
