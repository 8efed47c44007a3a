//! Bodies in JSON: what clients send and what they get (s2-wire.md 1.6-1.8).

mod append;
mod config;
mod read;
mod resource;
pub(crate) mod text;
mod time;

pub use append::append_input;
pub use config::{
    CreateBasin, CreateStream, EnsureBasin, basin_config, parse_basin_reconfiguration, parse_create_basin,
    parse_create_stream, parse_ensure_basin, parse_ensure_stream, parse_stream_reconfiguration,
    resolved_stream_config, stream_config, stream_config_header,
};
pub use read::{append_ack, read_batch, tail_response};
pub use resource::{BasinInfo, StreamInfo, basin_info, basin_list, stream_info, stream_list};
