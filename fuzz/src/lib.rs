//! What each fuzz target does with its input. Plain functions that panic when something does not hold, so that stable
//! runs them too (`tests/seeds.rs`).

mod frames;
mod grpc;
mod input;
mod json;
mod log;
mod meaning;
mod protobuf;
mod query;

pub use frames::s2s_frames;
pub use grpc::grpc;
pub use json::json;
pub use log::log_extents;
pub use protobuf::protobuf;
pub use query::query;
