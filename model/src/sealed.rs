//! Sealed records: what client-key encryption leaves readable, and where the rest goes (s2-wire.md 4.11).
//!
//! Number, timestamp and metered size of a record stay clear, and so do command records. Headers and body become one
//! field, which only whoever has the key can turn back:
//!
//! ```text
//! 2A len  metered_bytes (u32, little endian)  envelope
//! ```
//! The envelope is the cipher's business (nonce, ciphertext, tag); this module knows none. What is sealed is
//! `(1A len (0A len name) (12 len value))*  (22 len body)`, as a clear record has it, so an opened record is put
//! together without encoding anything again. A record with this field has no other field but its numbers, and only
//! [`seal`] makes one: no client can.

use bytes::Bytes;

use crate::config::Cipher;
use crate::record::{Batch, RecordSpan, Span};
use crate::stored::{self, BODY, HEADER, NAME, RECORD, SEQ_NUM, StoredRecords, TIMESTAMP, VALUE};
use crate::varint;

/// Metered size of the clear record; `None` when `sealed` is cut off.
#[must_use]
pub fn metered_bytes(sealed: &[u8]) -> Option<u32> {
    sealed.first_chunk().map(|raw| u32::from_le_bytes(*raw))
}

/// The same batch with its ordinary records sealed under `cipher`. `seal` gets a record's metered size and what is
/// secret of it, and adds the envelope to the buffer.
///
/// # Errors
/// Those of `seal`.
///
/// # Panics
/// When the batch is sealed already.
pub fn seal<E>(
    batch: &Batch,
    cipher: Cipher,
    envelope_bytes: usize,
    mut seal: impl FnMut(u32, &[u8], &mut Vec<u8>) -> Result<(), E>,
) -> Result<Batch, E> {
    assert!(batch.cipher.is_none(), "a batch is sealed once");
    let raw = batch.bytes();
    let overhead = METERED_BYTES + envelope_bytes;
    let mut out = Vec::with_capacity(batch.stored_bytes_max() + batch.records.len() * overhead);
    let mut records = Vec::with_capacity(batch.records.len());
    let mut stored_bytes_max = 0;
    let mut clear = Vec::new();
    for record in &batch.records {
        let start = out.len();
        let mut sealed = *record;
        if record.is_command {
            out.extend_from_slice(record.headers.of(raw));
            sealed.headers = span(start, out.len());
            let body = out.len();
            out.extend_from_slice(record.body(raw));
            sealed.body = span(body, out.len());
        } else {
            clear.clear();
            let metered_bytes = put_clear(&mut clear, raw, record);
            out.extend_from_slice(&metered_bytes.to_le_bytes());
            seal(metered_bytes, &clear, &mut out)?;
            sealed.headers = Span::default();
            sealed.body = span(start, out.len());
            (sealed.headers_stored_bytes, sealed.is_sealed) = (0, true);
        }
        stored_bytes_max += stored::record_bytes_max(&sealed);
        records.push(sealed);
    }
    Ok(Batch {
        bytes: Bytes::from(out),
        records,
        metered_bytes: batch.metered_bytes,
        stored_bytes_max: u32::try_from(stored_bytes_max).expect("metered size bounds it to a few MiB"),
        has_commands: batch.has_commands,
        cipher: Some(cipher),
    })
}

/// Why a run could not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotOpened<E> {
    /// What `open` said.
    Refused(E),
    /// The run is damaged, or an ordinary record in it is clear.
    Malformed,
}

/// A run of stored records with the sealed ones opened. `open` gets a record's metered size and its envelope, and adds
/// what was secret to the buffer.
///
/// # Errors
/// At the first record that does not open.
pub fn open<E>(
    run: &[u8],
    mut open: impl FnMut(u32, &[u8], &mut Vec<u8>) -> Result<(), E>,
) -> Result<Vec<u8>, NotOpened<E>> {
    let mut out = Vec::with_capacity(run.len());
    let mut clear = Vec::new();
    let mut records = StoredRecords::new(run);
    loop {
        let start = records.offset();
        let Some(record) = records.next() else { return Ok(out) };
        let record = record.map_err(|_| NotOpened::Malformed)?;
        let Some(sealed) = record.sealed else {
            if record.command().is_none() {
                return Err(NotOpened::Malformed);
            }
            out.extend_from_slice(&run[start..records.offset()]);
            continue;
        };
        let metered_bytes = metered_bytes(sealed).ok_or(NotOpened::Malformed)?;
        clear.clear();
        open(metered_bytes, &sealed[METERED_BYTES..], &mut clear).map_err(NotOpened::Refused)?;
        let position = record.position;
        let numbers = stored::number_bytes(position.seq_num) + stored::number_bytes(position.timestamp);
        out.push(RECORD);
        varint::push(&mut out, (numbers + clear.len()) as u64);
        for (tag, value) in [(SEQ_NUM, position.seq_num), (TIMESTAMP, position.timestamp)] {
            if value != 0 {
                out.push(tag);
                varint::push(&mut out, value);
            }
        }
        out.extend_from_slice(&clear);
    }
}

/// Appends the secret part of a record; returns its metered size.
fn put_clear(out: &mut Vec<u8>, raw: &[u8], record: &RecordSpan) -> u32 {
    let mut metered = 8 + record.body_bytes();
    for (name, value) in record.headers(raw) {
        metered += 2 + name.len() + value.len();
        out.push(HEADER);
        varint::push(out, (stored::field_bytes(name.len()) + stored::field_bytes(value.len())) as u64);
        put_bytes(out, NAME, name);
        put_bytes(out, VALUE, value);
    }
    put_bytes(out, BODY, record.body(raw));
    u32::try_from(metered).expect("at most 1 MiB")
}

fn put_bytes(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        out.push(tag);
        varint::push(out, bytes.len() as u64);
        out.extend_from_slice(bytes);
    }
}

fn span(start: usize, end: usize) -> Span {
    Span::new(start, end - start).expect("a batch is a few MiB")
}

/// Bytes of the metered size in front of the envelope.
const METERED_BYTES: usize = 4;
