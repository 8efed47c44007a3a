//! The limits of the S2 API (s2-wire.md 1.3, 1.6, 1.10, 2.2, 4.1), in one place.

/// Most records in one batch.
pub const BATCH_RECORDS_MAX: usize = 1000;
/// Most metered bytes in one batch: 1 MiB.
pub const BATCH_METERED_BYTES_MAX: u64 = 1 << 20;
/// Most metered bytes in one record: 1 MiB.
pub const RECORD_METERED_BYTES_MAX: u64 = 1 << 20;
/// Most bytes of one encoded record or batch that an s2s frame can carry, its flag byte set aside: 2 MiB - 1.
pub const FRAME_PAYLOAD_BYTES_MAX: usize = (2 << 20) - 1;
/// Most bytes of one encoded `SequencedRecord`. It leaves room in an s2s frame for the tail beside it.
///
/// The metered size counts 2 bytes for a header whose encoding needs more, so a record of very many tiny
/// headers reaches this limit before the metered one.
pub const RECORD_STORED_BYTES_MAX: usize = FRAME_PAYLOAD_BYTES_MAX - 64;
/// Most bytes of a fencing token.
pub const FENCING_TOKEN_BYTES_MAX: usize = 36;
/// Most bytes of a request token.
pub const REQUEST_TOKEN_BYTES_MAX: usize = 36;
/// Shortest and longest basin name, in bytes.
pub const BASIN_NAME_BYTES: std::ops::RangeInclusive<usize> = 8..=48;
/// Longest stream name, in bytes.
pub const STREAM_NAME_BYTES_MAX: usize = 512;
/// Longest id of an access token, in bytes.
pub const TOKEN_ID_BYTES_MAX: usize = 96;
/// Most access tokens that exist at once. One more is refused with 403 `quota_exhausted`, unless one of them has expired.
pub const TOKENS_MAX: usize = 10_000;
/// Most items of one page of a listing; also what `0` and anything above mean.
pub const LIST_ITEMS_MAX: usize = 1000;
/// Longest wait of a unary read, in seconds.
pub const UNARY_WAIT_SECS_MAX: u32 = 60;
