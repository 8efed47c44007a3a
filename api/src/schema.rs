//! JSON Schemas (2020-12, the dialect of OpenAPI 3.1) of all that the API's bodies, queries and errors are.
//!
//! Requests are described by the very structs that decode them, answers by constructors that stand beside their writers.
//! Answers name every key they have; they are open to further ones, so that clients made from them survive a newer server.

use model::Operation;
use model::limits::{BASIN_NAME_BYTES, FENCING_TOKEN_BYTES_MAX, STREAM_NAME_BYTES_MAX, TOKEN_ID_BYTES_MAX};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::{Code, json, usage};

/// A parameter of a query.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// What it means.
    pub about: String,
    /// What it may be.
    pub schema: Value,
    /// Whether it must be there.
    pub is_required: bool,
}

impl Parameter {
    /// One that may be left out.
    #[must_use]
    pub fn optional(name: &'static str, about: impl Into<String>, schema: Value) -> Self {
        Self { name, about: about.into(), schema, is_required: false }
    }

    /// One that must be there.
    #[must_use]
    pub fn required(name: &'static str, about: impl Into<String>, schema: Value) -> Self {
        Self { name, about: about.into(), schema, is_required: true }
    }
}

/// The schemas of the API, by name, as they stand below `#/components/schemas`.
#[must_use]
pub fn components() -> Map<String, Value> {
    let mut generator = generator();
    json::describe_requests(&mut generator);
    let mut schemas = generator.take_definitions(true);
    for (name, schema) in json::answer_schemas() {
        let former = schemas.insert(name.to_owned(), schema);
        assert!(former.is_none(), "two schemas are called {name}");
    }
    schemas.insert("MetricSetResponse".to_owned(), usage::response_schema());
    schemas.insert("Error".to_owned(), error());
    schemas
}

/// The schema of what `T` decodes, for bodies that are decoded outside of this crate; it refers to no other.
#[must_use]
pub fn of<T: JsonSchema>() -> Value {
    generator().into_root_schema_for::<T>().to_value()
}

/// A reference to one of [`components`].
#[must_use]
pub fn reference(name: &str) -> Value {
    json!({ "$ref": format!("{PATH}/{name}") })
}

/// What an error says, with one of all codes.
fn error() -> Value {
    let codes: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    let mut about = String::from(
        "What went wrong. `code` is for programs and always comes with the same status; `message` is for people. The codes:\n",
    );
    for code in Code::ALL {
        about += &format!("\n- `{}` ({}): {}", code.as_str(), code.status(), code.about());
    }
    object(
        &about,
        [
            ("code", json!({ "type": "string", "enum": codes })),
            ("message", text("What went wrong and what to do, for people. Its wording may change.")),
        ],
    )
}

fn generator() -> SchemaGenerator {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = PATH.trim_start_matches('#').into();
        settings.meta_schema = None;
    });
    settings.into_generator()
}

const PATH: &str = "#/components/schemas";

// ---------------------------------------------------------------- pieces

/// An object with all of these keys.
#[must_use]
pub fn object<const N: usize>(about: &str, keys: [(&str, Value); N]) -> Value {
    let required: Vec<&str> = keys.iter().map(|(key, _)| *key).collect();
    let properties: Map<String, Value> = keys.iter().map(|(key, schema)| ((*key).to_owned(), schema.clone())).collect();
    json!({ "type": "object", "description": about, "properties": properties, "required": required })
}

/// The same object with keys that may be left out.
#[must_use]
pub fn with_optional<const N: usize>(mut object: Value, keys: [(&str, Value); N]) -> Value {
    for (key, schema) in keys {
        object["properties"][key] = schema;
    }
    object
}

/// A string.
#[must_use]
pub fn text(about: &str) -> Value {
    json!({ "type": "string", "description": about })
}

/// One of these strings.
#[must_use]
pub fn one_of<'a>(about: &str, names: impl IntoIterator<Item = &'a str>) -> Value {
    let names: Vec<&str> = names.into_iter().collect();
    json!({ "type": "string", "description": about, "enum": names })
}

/// A time as RFC 3339 writes it.
#[must_use]
pub fn time(about: &str) -> Value {
    json!({ "type": "string", "format": "date-time", "description": about })
}

/// A number from 0 to 2^64-1.
#[must_use]
pub fn u64(about: &str) -> Value {
    json!({ "type": "integer", "format": "uint64", "minimum": 0, "maximum": u64::MAX, "description": about })
}

/// A number from 0 to 2^32-1.
#[must_use]
pub fn u32(about: &str) -> Value {
    json!({ "type": "integer", "format": "uint32", "minimum": 0, "maximum": u32::MAX, "description": about })
}

/// True or false.
#[must_use]
pub fn boolean(about: &str) -> Value {
    json!({ "type": "boolean", "description": about })
}

/// Any number of these.
#[must_use]
pub fn list_of(about: &str, item: Value) -> Value {
    json!({ "type": "array", "description": about, "items": item })
}

/// That, or null.
#[must_use]
pub fn nullable(mut schema: Value) -> Value {
    let about = schema.as_object_mut().and_then(|fields| fields.remove("description"));
    let mut either = json!({ "anyOf": [schema, { "type": "null" }] });
    if let Some(about) = about {
        either["description"] = about;
    }
    either
}

/// A page of a listing.
#[must_use]
pub fn page(key: &str, item: &str) -> Value {
    object(
        "A page of a listing, in the order of the names' bytes.",
        [
            (key, list_of("At most as many as `limit` says.", reference(item))),
            (
                "has_more",
                boolean("Whether at least one more follows: ask again with `start_after` the last name here."),
            ),
        ],
    )
}

// ---------------------------------------------------------------- names

/// The name of a basin.
#[must_use]
pub fn basin_name() -> Value {
    json!({
        "type": "string", "pattern": "^[a-z0-9][a-z0-9-]*[a-z0-9]$",
        "minLength": BASIN_NAME_BYTES.start(), "maxLength": BASIN_NAME_BYTES.end(),
        "description": "The name of a basin: 8 to 48 lowercase letters, digits and hyphens; no hyphen at either end.",
    })
}

/// The name of a stream.
#[must_use]
pub fn stream_name() -> Value {
    json!({
        "type": "string", "pattern": "^[^\\u0000]+$", "minLength": 1, "maxLength": STREAM_NAME_BYTES_MAX,
        "not": { "enum": [".", ".."] },
        "description": "The name of a stream: 1 to 512 bytes of UTF-8 without NUL, and neither `.` nor `..`. In a path it is one \
            segment, so its slashes are percent-encoded (`%2F`).",
    })
}

/// The id of an access token.
#[must_use]
pub fn token_id() -> Value {
    json!({
        "type": "string", "pattern": "^[^\\u0000]+$", "minLength": 1, "maxLength": TOKEN_ID_BYTES_MAX,
        "not": { "enum": [".", ".."] },
        "description": "The id of an access token: 1 to 96 bytes of UTF-8 without NUL, and neither `.` nor `..`.",
    })
}

/// The name of a location.
#[must_use]
pub fn location() -> Value {
    json!({
        "type": "string", "pattern": "^[A-Za-z0-9:.-]+$", "minLength": 1, "maxLength": json::LOCATION_BYTES_MAX,
        "description": "The name of a location: 1 to 64 letters, digits, colons, periods and hyphens.",
    })
}

/// A fencing token.
#[must_use]
pub fn fencing_token(about: &str) -> Value {
    json!({ "type": "string", "maxLength": FENCING_TOKEN_BYTES_MAX, "description": about })
}

/// The name of an operation that an access token may permit.
#[must_use]
pub fn operation() -> Value {
    one_of("An operation that an access token may permit.", Operation::ALL.iter().map(|op| op.as_str()))
}

/// A schema as `schemars` takes it.
fn schema(value: Value) -> Schema {
    Schema::try_from(value).expect("an object is a schema")
}

/// For `schema_with` of fields that hold the name of a basin; so do those that follow.
pub(crate) fn basin_name_field(_: &mut SchemaGenerator) -> Schema {
    schema(basin_name())
}

pub(crate) fn stream_name_field(_: &mut SchemaGenerator) -> Schema {
    schema(stream_name())
}

pub(crate) fn token_id_field(_: &mut SchemaGenerator) -> Schema {
    schema(token_id())
}

pub(crate) fn location_field(_: &mut SchemaGenerator) -> Schema {
    schema(nullable(location()))
}

pub(crate) fn storage_class_field(_: &mut SchemaGenerator) -> Schema {
    let about = "Any text up to 64 bytes; it is stored and shown as given. Null or absent: none is set.";
    schema(nullable(json!({ "type": "string", "maxLength": json::STORAGE_CLASS_BYTES_MAX, "description": about })))
}

pub(crate) fn expires_at_field(_: &mut SchemaGenerator) -> Schema {
    schema(nullable(time("When it ends. Null or absent: with the token that issues it, or never.")))
}

pub(crate) fn operations_field(_: &mut SchemaGenerator) -> Schema {
    schema(nullable(list_of("Operations one by one, beside those of the groups.", operation())))
}

#[cfg(test)]
#[path = "schema_tests.rs"]
mod tests;
