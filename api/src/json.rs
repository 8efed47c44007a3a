//! Bodies in JSON: what clients send and what they get (s2-wire.md 1.6-1.8).

mod append;
mod config;
mod first;
mod location;
mod read;
mod request;
mod resource;
mod resources;
pub(crate) mod text;
mod time;
mod token;

pub use append::append_input;
pub use config::{
    basin_config, parse_basin_reconfiguration, parse_stream_reconfiguration, resolved_stream_config, stream_config,
    stream_config_header,
};
pub use first::{first_form_ack, first_form_input};
pub use location::{LocationInfo, is_location, location_info, location_list, parse_location};
pub use read::{append_ack, read_batch, tail_response};
pub(crate) use read::{damaged, put_read_batch, read_batch_bytes};
pub use request::{
    CreateBasin, CreateStream, EnsureBasin, parse_create_basin, parse_create_stream, parse_ensure_basin,
    parse_ensure_stream,
};
pub use resource::{BasinInfo, StreamInfo, basin_info, basin_list, cipher_name, stream_info, stream_list};
pub use resources::{BasinResource, InvalidResources, Resources, StreamResource, parse_resources};

pub use token::{IssueAccessToken, access_token_list, issued_access_token, parse_issue_access_token};

use crate::status::{ApiError, Code};

/// What text that is not the JSON it should be means; serde_json says where it went wrong.
fn bad_json(error: serde_json::Error) -> ApiError {
    ApiError::new(Code::BadJson, error.to_string())
}
