//! Bodies in JSON: what clients send and what they get (s2-wire.md 1.6-1.8).

mod append;
mod config;
mod first;
mod location;
mod object;
mod patch;
mod read;
mod request;
mod resource;
mod resources;
pub(crate) mod text;
mod time;
mod token;

pub use append::append_input;
pub(crate) use config::STORAGE_CLASS_BYTES_MAX;
pub use config::{basin_config, resolved_stream_config, stream_config, stream_config_header};
pub use first::{first_form_ack, first_form_input};
pub(crate) use location::LOCATION_BYTES_MAX;
pub use location::{LocationInfo, is_location, location_info, location_list, parse_location};
pub use object::Object;
pub use patch::{parse_basin_reconfiguration, parse_stream_reconfiguration};
pub use read::{append_ack, read_batch, tail_response};
pub(crate) use read::{damaged, put_read_batch, read_batch_bytes};
pub use request::{
    CreateBasin, CreateStream, EnsureBasin, parse_create_basin, parse_create_stream, parse_ensure_basin,
    parse_ensure_stream,
};
pub use resource::{BasinInfo, StreamInfo, basin_info, basin_list, cipher_name, stream_info, stream_list};
pub use resources::{BasinResource, InvalidResources, Resources, StreamResource, parse_resources};

pub use token::{IssueAccessToken, access_token_list, issued_access_token, parse_issue_access_token};

use schemars::SchemaGenerator;
use serde_json::Value;

use crate::status::{ApiError, Code};

/// Registers the bodies that clients send, by the structs that decode them.
pub(crate) fn describe_requests(generator: &mut SchemaGenerator) {
    generator.subschema_for::<request::CreateBasinJson>();
    generator.subschema_for::<request::EnsureBasinJson>();
    generator.subschema_for::<request::CreateStreamJson>();
    generator.subschema_for::<patch::BasinPatchJson>();
    generator.subschema_for::<patch::StreamPatchJson>();
    generator.subschema_for::<token::IssueJson>();
}

/// What clients get, and the two bodies that are decoded by hand.
pub(crate) fn answer_schemas() -> Vec<(&'static str, Value)> {
    let mut schemas = vec![
        ("AppendInput", append::input_schema()),
        ("FirstFormInput", first::input_schema()),
        ("FirstFormAck", first::ack_schema()),
        ("LocationInfo", location::answer_schema()),
    ];
    schemas.extend(config::answer_schemas());
    schemas.extend(read::answer_schemas());
    schemas.extend(resource::answer_schemas());
    schemas.extend(token::answer_schemas());
    schemas.extend(crate::status::answer_schemas());
    schemas
}

/// What text that is not the JSON it should be means; serde_json says where it went wrong.
fn bad_json(error: serde_json::Error) -> ApiError {
    ApiError::new(Code::BadJson, error.to_string())
}
