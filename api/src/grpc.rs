//! The gRPC face: package `s2.v1alpha` (s2-wire.md 5; docs/grpc.md).
//!
//! Control-plane messages are prost's and are turned into the same values as their JSON forms. Records are not decoded
//! into objects: an input's records stay where they arrived, and what is read is what is stored, with other tags.

pub mod append;
pub mod config;
pub mod frame;
pub mod metadata;
pub mod read;
pub mod status;
pub mod token;

use model::{BasinName, InvalidName, NamePrefix, StreamName};

use crate::query::ListQuery;
use crate::status::{ApiError, Code};

/// The messages, as `proto/s2/v1alpha/s2.proto` defines them.
#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all, reason = "generated")]
pub mod v1alpha {
    include!(concat!(env!("OUT_DIR"), "/s2.v1alpha.rs"));
}

/// A `google.protobuf.FileDescriptorSet` of the package and what it imports.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Decodes a message.
///
/// # Errors
/// 400 `bad_proto`.
pub fn decode<M: prost::Message + Default>(bytes: bytes::Bytes) -> Result<M, ApiError> {
    M::decode(bytes).map_err(|error| ApiError::new(Code::BadProto, error.to_string()))
}

/// A basin's name out of a message.
///
/// # Errors
/// 422 `invalid`.
pub fn basin_name(name: &str) -> Result<BasinName, ApiError> {
    BasinName::try_from(name).map_err(bad_name)
}

/// A stream's name out of a message.
///
/// # Errors
/// 422 `invalid`.
pub fn stream_name(name: &str) -> Result<StreamName, ApiError> {
    StreamName::try_from(name).map_err(bad_name)
}

/// A page of a listing; `prefix_of` checks the names.
///
/// # Errors
/// 400 `bad_query`.
pub fn list_query(
    (prefix, start_after): (&str, &str),
    limit: Option<u64>,
    prefix_of: impl Fn(&str) -> Result<NamePrefix, InvalidName>,
) -> Result<ListQuery, ApiError> {
    let limit = limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
    ListQuery::new((prefix, start_after), limit, prefix_of)
}

fn bad_name(error: InvalidName) -> ApiError {
    invalid(error.0)
}

fn invalid(why: impl Into<String>) -> ApiError {
    ApiError::new(Code::Invalid, why)
}
