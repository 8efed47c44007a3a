//! Locations in JSON (s2-wire.md 1.2).

use std::sync::Arc;

use serde_json::Value;

use super::bad_json;
use super::text::Json;
use crate::schema::{self, boolean, list_of, object, text};
use crate::status::{ApiError, Code};

/// Where basins may be, as clients see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocationInfo {
    /// Its name.
    pub name: Arc<str>,
    /// The storage classes on offer there, the default one first. Never empty.
    pub storage_classes: &'static [&'static str],
}

/// `LocationInfo`.
#[must_use]
pub fn location_info(location: &LocationInfo) -> String {
    let mut json = Json::new();
    json.raw(r#"{"name":"#).string(&location.name).raw(r#","is_private":true,"storage_classes":["#);
    for (i, class) in location.storage_classes.iter().enumerate() {
        json.raw(if i > 0 { "," } else { "" }).string(class);
    }
    json.raw(r#"],"default_storage_class":"#).string(location.storage_classes[0]).raw("}");
    json.into_string()
}

/// A list of `LocationInfo`: a bare array.
#[must_use]
pub fn location_list(locations: &[LocationInfo]) -> String {
    let locations: Vec<String> = locations.iter().map(location_info).collect();
    format!("[{}]", locations.join(","))
}

/// The schema of what is shown.
pub(super) fn answer_schema() -> Value {
    object(
        "Where basins may be.",
        [
            ("name", schema::location()),
            ("is_private", boolean("Whether it is nobody else's.")),
            ("storage_classes", list_of("What is on offer there, the default one first.", text("A storage class."))),
            ("default_storage_class", text("The storage class of a stream for which none was set.")),
        ],
    )
}

/// Whether this may be the name of a location: 1 to 64 letters, digits, colons, periods and hyphens.
#[must_use]
pub fn is_location(name: &str) -> bool {
    (1..=LOCATION_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b":.-".contains(&b))
}

/// Decodes PUT `/locations/default`: a bare string.
///
/// # Errors
/// 400 `bad_json` unless it is the name of a location.
pub fn parse_location(body: &[u8]) -> Result<Arc<str>, ApiError> {
    let name: String = serde_json::from_slice(body).map_err(bad_json)?;
    checked_location(Some(name)).map(|location| location.expect("there is one"))
}

/// A location's name, if one was given.
///
/// # Errors
/// 400 `bad_json`.
pub(super) fn checked_location(location: Option<String>) -> Result<Option<Arc<str>>, ApiError> {
    match location {
        Some(location) if !is_location(&location) => {
            let why = "location must be 1 to 64 letters, digits, colons, periods and hyphens";
            Err(ApiError::new(Code::BadJson, why))
        }
        location => Ok(location.map(Arc::from)),
    }
}

pub(crate) const LOCATION_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_what_clients_decode() {
        let location = LocationInfo { name: "eu:zone-1".into(), storage_classes: &["native", "other"] };
        let expected = concat!(
            r#"{"name":"eu:zone-1","is_private":true,"storage_classes":["native","other"],"#,
            r#""default_storage_class":"native"}"#
        );
        assert_eq!(location_info(&location), expected);
        assert_eq!(location_list(&[location]), format!("[{expected}]"));
    }

    #[test]
    fn names_of_locations_are_checked() {
        for (name, is_good) in [("aws:us-east-1", true), ("", false), ("a b", false), (&"x".repeat(65), false)] {
            assert_eq!(parse_location(format!("{name:?}").as_bytes()).is_ok(), is_good, "{name}");
        }
        assert!(parse_location(b"null").is_err() && parse_location(b"7").is_err());
    }
}
