//! Control-plane requests in JSON: a name, a configuration, a place.

use std::sync::Arc;

use model::{BasinConfig, BasinName, StreamConfig, StreamName};
use schemars::JsonSchema;
use serde::Deserialize;

use super::bad_json;
use super::config::{BasinConfigJson, StreamConfigJson};
use super::location::checked_location;
use super::object::Object;
use crate::schema;
use crate::status::{ApiError, Code};

/// POST `/basins`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateBasin {
    /// Its name.
    pub basin: BasinName,
    /// What was set; the rest is default.
    pub config: BasinConfig,
    /// Where it shall be.
    pub location: Option<Arc<str>>,
}

/// PUT `/basins/{basin}`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EnsureBasin {
    /// What was set; the rest is default.
    pub config: BasinConfig,
    /// Where it shall be.
    pub location: Option<Arc<str>>,
}

/// POST `/streams`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateStream {
    /// Its name.
    pub stream: StreamName,
    /// What was set.
    pub config: StreamConfig,
}

/// Decodes POST `/basins`.
///
/// # Errors
/// 400 `bad_json`, or 422 `invalid` when a value is out of range.
pub fn parse_create_basin(body: &[u8]) -> Result<CreateBasin, ApiError> {
    let Object(request): Object<CreateBasinJson> = serde_json::from_slice(body).map_err(bad_json)?;
    Ok(CreateBasin {
        basin: BasinName::try_from(request.basin.as_str()).map_err(|e| bad_value(&e.to_string()))?,
        config: request.config.unwrap_or_default().0.checked()?,
        location: checked_location(request.location)?,
    })
}

/// Decodes PUT `/basins/{basin}`; an empty body and `null` stand for nothing set.
///
/// # Errors
/// As [`parse_create_basin`].
pub fn parse_ensure_basin(body: &[u8]) -> Result<EnsureBasin, ApiError> {
    let request: EnsureBasinJson = optional(body)?;
    Ok(EnsureBasin {
        config: request.config.unwrap_or_default().0.checked()?,
        location: checked_location(request.location)?,
    })
}

/// Decodes POST `/streams`.
///
/// # Errors
/// As [`parse_create_basin`].
pub fn parse_create_stream(body: &[u8]) -> Result<CreateStream, ApiError> {
    let Object(request): Object<CreateStreamJson> = serde_json::from_slice(body).map_err(bad_json)?;
    Ok(CreateStream {
        stream: StreamName::try_from(request.stream.as_str()).map_err(|e| bad_value(&e.to_string()))?,
        config: request.config.unwrap_or_default().0.checked()?,
    })
}

/// Decodes PUT `/streams/{stream}`, a `StreamConfig`; an empty body and `null` stand for nothing set.
///
/// # Errors
/// As [`parse_create_basin`].
pub fn parse_ensure_stream(body: &[u8]) -> Result<StreamConfig, ApiError> {
    Ok(optional::<StreamConfigJson>(body)?.checked()?)
}

/// A basin to be created.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "CreateBasinRequest")]
pub(super) struct CreateBasinJson {
    #[schemars(schema_with = "schema::basin_name_field")]
    basin: String,
    config: Option<Object<BasinConfigJson>>,
    #[schemars(schema_with = "schema::location_field", default)]
    location: Option<String>,
}

/// A basin as it shall be: what is not mentioned gets its default.
#[derive(Default, Deserialize, JsonSchema)]
#[schemars(rename = "EnsureBasinRequest")]
#[serde(default)]
pub(super) struct EnsureBasinJson {
    config: Option<Object<BasinConfigJson>>,
    #[schemars(schema_with = "schema::location_field", default)]
    location: Option<String>,
}

/// A stream to be created.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "CreateStreamRequest")]
pub(super) struct CreateStreamJson {
    #[schemars(schema_with = "schema::stream_name_field")]
    stream: String,
    config: Option<Object<StreamConfigJson>>,
}

fn optional<'a, T: Deserialize<'a> + Default>(body: &'a [u8]) -> Result<T, ApiError> {
    if body.is_empty() {
        return Ok(T::default());
    }
    let given = serde_json::from_slice::<Option<Object<T>>>(body).map_err(bad_json)?;
    Ok(given.unwrap_or_default().0)
}

/// 1-64 of `[A-Za-z0-9:.-]` (s2-wire.md 1.12).
fn bad_value(why: &str) -> ApiError {
    ApiError::new(Code::BadJson, why)
}

#[cfg(test)]
mod tests {
    use model::RetentionPolicy;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn requests_are_what_they_say() {
        let body = br#"{"basin":"my-basin","location":"aws:us-east-1","x":1,"config":{"create_stream_on_read":true}}"#;
        let create = parse_create_basin(body).expect("valid");
        assert_eq!((create.basin.as_str(), create.location.as_deref()), ("my-basin", Some("aws:us-east-1")));
        assert_eq!(create.config, BasinConfig { create_stream_on_read: true, ..BasinConfig::default() });
        let create = parse_create_stream(br#"{"stream":"a","config":null}"#).expect("valid");
        assert_eq!((create.stream.as_str(), create.config), ("a", StreamConfig::default()));
        for body in ["", "null", "{}", r#"{"config":null,"location":null}"#] {
            assert_eq!(parse_ensure_basin(body.as_bytes()), Ok(EnsureBasin::default()), "{body}");
            assert_eq!(parse_ensure_stream(body.as_bytes()), Ok(StreamConfig::default()), "{body}");
        }
        let config = parse_ensure_stream(br#"{"retention_policy":{"age":1}}"#).expect("valid");
        assert_eq!(config.retention, Some(RetentionPolicy::AgeSecs(1)));
    }

    #[test]
    fn what_is_wrong_gets_its_code() {
        for (body, code) in [
            ("", Code::BadJson),
            ("{}", Code::BadJson),
            (r#"["my-basin"]"#, Code::BadJson),
            (r#"{"basin":"my-basin","config":[]}"#, Code::BadJson),
            (r#"{"basin":"Short"}"#, Code::BadJson),
            (r#"{"basin":"my-basin","config":1}"#, Code::BadJson),
            (r#"{"basin":"my-basin","location":"a b"}"#, Code::BadJson),
            (r#"{"basin":"my-basin","location":""}"#, Code::BadJson),
            (
                r#"{"basin":"my-basin","config":{"default_stream_config":{"retention_policy":{"age":0}}}}"#,
                Code::Invalid,
            ),
        ] {
            assert_eq!(parse_create_basin(body.as_bytes()).map_err(|e| e.code()), Err(Some(code)), "{body}");
        }
        let nul = parse_create_stream(br#"{"stream":"a\u0000"}"#).expect_err("refused");
        assert_eq!(nul, bad_value("stream name must not contain NUL bytes"));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(body in prop::collection::vec(any::<u8>(), 0..100), text in "[\\[{\"a:,0-9\\]}]{0,60}") {
            for body in [&body[..], text.as_bytes()] {
                let _ = parse_create_basin(body);
                let _ = parse_ensure_basin(body);
                let _ = parse_create_stream(body);
                let _ = parse_ensure_stream(body);
            }
        }
    }
}
