//! Records on their way in: a batch whose every limit was proved once (s2-wire.md 4.1, 4.4).
//!
//! A [`Batch`] borrows nothing and copies nothing: it is the request's own bytes plus, for each record, where in
//! them its parts are. [`BatchBuilder`] is the only door.

use std::fmt;

use bytes::Bytes;

use crate::config::Cipher;
use crate::limits::{BATCH_METERED_BYTES_MAX, BATCH_RECORDS_MAX, RECORD_METERED_BYTES_MAX, RECORD_STORED_BYTES_MAX};
use crate::name::FencingToken;
use crate::stored;
use crate::varint::{Fields, Value};

/// Tag of a header in `AppendRecord` (field 2, bytes).
const HEADER_FIELD: u32 = 2;

/// Why a batch was refused: 422 `invalid`; the text is what the client sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidBatch(pub String);

impl fmt::Display for InvalidBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidBatch {}

fn invalid<T>(why: impl Into<String>) -> Result<T, InvalidBatch> {
    Err(InvalidBatch(why.into()))
}

/// What a command record does (s2-wire.md 4.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Sets the fencing token.
    Fence(FencingToken),
    /// Makes records below this number unreadable; the stream clamps it to the command's own number + 1.
    Trim(u64),
}

/// A part of the batch's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    start: u32,
    len: u32,
}

impl Span {
    /// The part from `start`, `len` bytes long. `None` when it does not fit 32 bits.
    #[must_use]
    pub fn new(start: usize, len: usize) -> Option<Self> {
        Some(Self { start: u32::try_from(start).ok()?, len: u32::try_from(len).ok()? })
    }

    /// The bytes it names.
    #[must_use]
    pub fn of<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.start as usize..][..self.len as usize]
    }
}

/// Where one record of a batch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordSpan {
    /// The client's timestamp, if it gave one.
    pub timestamp: Option<u64>,
    /// `AppendRecord.headers` as protobuf fields: tag, length, `Header`, again and again.
    pub(crate) headers: Span,
    /// The body, raw.
    pub(crate) body: Span,
    /// Bytes of the headers as `SequencedRecord` stores them.
    pub(crate) headers_stored_bytes: u32,
    /// Whether it is a fence or trim command.
    pub is_command: bool,
    /// Whether `body` is a sealed record (`crate::sealed`), and there are no headers.
    pub(crate) is_sealed: bool,
}

impl RecordSpan {
    /// The record's headers as (name, value), in order.
    pub fn headers<'a>(&self, bytes: &'a [u8]) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        parse_headers(self.headers.of(bytes)).map(|h| h.expect("the builder has parsed these headers"))
    }

    /// The record's body.
    #[must_use]
    pub fn body<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        self.body.of(bytes)
    }

    /// Bytes of the headers as they are stored.
    #[must_use]
    pub const fn headers_stored_bytes(&self) -> usize {
        self.headers_stored_bytes as usize
    }

    /// Bytes of the body.
    #[must_use]
    pub const fn body_bytes(&self) -> usize {
        self.body.len as usize
    }

    /// What the record does, if it is a command.
    #[must_use]
    pub fn command(&self, bytes: &[u8]) -> Option<Command> {
        if !self.is_command {
            return None;
        }
        let (_, op) = self.headers(bytes).next()?;
        parse_command(op, self.body(bytes)).ok()
    }
}

/// 1-1000 records, at most 1 MiB metered, every record within its limits, every command well formed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    pub(crate) bytes: Bytes,
    pub(crate) records: Vec<RecordSpan>,
    pub(crate) metered_bytes: u32,
    pub(crate) stored_bytes_max: u32,
    pub(crate) has_commands: bool,
    pub(crate) cipher: Option<Cipher>,
}

impl Batch {
    /// The request's bytes that the spans point into.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where each record is; never empty.
    #[must_use]
    pub fn records(&self) -> &[RecordSpan] {
        &self.records
    }

    /// What its ordinary records are sealed with; `None` means that they are clear.
    #[must_use]
    pub const fn cipher(&self) -> Option<Cipher> {
        self.cipher
    }

    /// Metered size of all records, in bytes; sealing does not change it.
    #[must_use]
    pub const fn metered_bytes(&self) -> u32 {
        self.metered_bytes
    }

    /// Upper bound of the bytes the batch takes when stored, whatever its numbers and timestamps become.
    #[must_use]
    pub const fn stored_bytes_max(&self) -> usize {
        self.stored_bytes_max as usize
    }

    /// Whether any record is a command.
    #[must_use]
    pub const fn has_commands(&self) -> bool {
        self.has_commands
    }

    /// Whether any record lacks a timestamp.
    #[must_use]
    pub fn lacks_a_timestamp(&self) -> bool {
        self.records.iter().any(|r| r.timestamp.is_none())
    }
}

/// Collects the records of one batch and proves its limits.
#[derive(Debug)]
pub struct BatchBuilder {
    bytes: Bytes,
    records: Vec<RecordSpan>,
    metered_bytes: u64,
    stored_bytes_max: usize,
    has_commands: bool,
}

impl BatchBuilder {
    /// A builder of records that lie in `bytes`.
    #[must_use]
    pub const fn new(bytes: Bytes) -> Self {
        Self { bytes, records: Vec::new(), metered_bytes: 0, stored_bytes_max: 0, has_commands: false }
    }

    /// Adds a record: `headers` names its `AppendRecord.headers` fields as protobuf (tag, length, message, ...),
    /// `body` its raw body.
    ///
    /// # Errors
    /// When the record breaks a limit or is a malformed command.
    pub fn push(&mut self, timestamp: Option<u64>, headers: Span, body: Span) -> Result<(), InvalidBatch> {
        if self.records.len() == BATCH_RECORDS_MAX {
            return invalid("record batch must not exceed 1000 records");
        }
        let mut record =
            RecordSpan { timestamp, headers, body, headers_stored_bytes: 0, is_command: false, is_sealed: false };
        let mut metered = 8 + u64::from(body.len);
        let mut headers_count = 0u32;
        let mut headers_stored = 0usize;
        let mut first = None;
        let mut empty_name = false;
        for header in parse_headers(headers.of(&self.bytes)) {
            let Some((name, value)) = header else {
                return invalid("failed to decode Protobuf message: malformed header");
            };
            metered += 2 + name.len() as u64 + value.len() as u64;
            headers_stored += stored::header_bytes(name.len(), value.len());
            empty_name |= name.is_empty();
            headers_count += 1;
            first.get_or_insert((name, value));
        }
        if empty_name {
            if headers_count != 1 {
                return invalid("invalid header: empty name");
            }
            let (_, op) = first.unwrap_or_default();
            parse_command(op, body.of(&self.bytes))?;
            record.is_command = true;
            self.has_commands = true;
        }
        if metered > RECORD_METERED_BYTES_MAX {
            return invalid("record must have metered size less than 1 MiB");
        }
        record.headers_stored_bytes = u32::try_from(headers_stored).unwrap_or(u32::MAX);
        let stored_max = stored::record_bytes_max(&record);
        if stored_max > RECORD_STORED_BYTES_MAX {
            return invalid("record has too many small headers: its encoding must not exceed 2 MiB");
        }
        self.metered_bytes += metered;
        if self.metered_bytes > BATCH_METERED_BYTES_MAX {
            return invalid("record batch must not exceed a metered size of 1 MiB");
        }
        self.stored_bytes_max += stored_max;
        self.records.push(record);
        Ok(())
    }

    /// The batch.
    ///
    /// # Errors
    /// When it has no record.
    pub fn finish(self) -> Result<Batch, InvalidBatch> {
        if self.records.is_empty() {
            return invalid("record batch must not be empty");
        }
        Ok(Batch {
            bytes: self.bytes,
            records: self.records,
            metered_bytes: u32::try_from(self.metered_bytes).expect("at most 1 MiB"),
            stored_bytes_max: u32::try_from(self.stored_bytes_max).expect("metered size bounds it to a few MiB"),
            has_commands: self.has_commands,
            cipher: None,
        })
    }
}

/// (name, value) of each header in a run of `AppendRecord.headers` or `SequencedRecord.headers` fields.
fn parse_headers(bytes: &[u8]) -> impl Iterator<Item = Option<(&[u8], &[u8])>> {
    Fields::new(bytes).map(|field| match field {
        Ok((HEADER_FIELD, Value::Bytes(header, _))) => stored::parse_header(header),
        Ok(_) | Err(_) => None,
    })
}

/// What a command with this operation and body does.
///
/// # Errors
/// When the operation is unknown or the body is not its argument.
pub fn parse_command(op: &[u8], body: &[u8]) -> Result<Command, InvalidBatch> {
    match op {
        b"fence" => {
            let token = std::str::from_utf8(body)
                .map_err(|_| InvalidBatch("invalid `fence` command: fencing token must be UTF-8".into()))?;
            let token =
                FencingToken::try_from(token).map_err(|e| InvalidBatch(format!("invalid `fence` command: {e}")))?;
            Ok(Command::Fence(token))
        }
        b"trim" => match <[u8; 8]>::try_from(body) {
            Ok(raw) => Ok(Command::Trim(u64::from_be_bytes(raw))),
            Err(_) => invalid(format!(
                "invalid `trim` command: earliest sequence number to trim to was {} bytes, must be 8",
                body.len()
            )),
        },
        _ => invalid("unknown command"),
    }
}
