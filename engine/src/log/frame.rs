//! Frames: what an extent is made of. A header of 64 bytes, then its payload (docs/format.md).
//!
//! ```text
//!  0 kind u8 | 1 payload_kind u8 | 2 flags u16 | 4 payload_bytes u32 | 8 group u32 | 12 payload_crc u32
//! 16 stream u64 | 24 first_seq_num u64 | 32 first_timestamp u64 | 40 last_timestamp u64
//! 48 records_count u32 | 52 metered_bytes u32 | 56 arrived_s u32 | 60 header_crc u32 (over bytes 0..60)
//! ```
//! A frame can be read and proved on its own, so a read of one stream need not read its neighbours' payloads.

use model::{GroupId, StreamId};

use crate::mutation::Mutation;

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// Records of one stream.
    Batch = 1,
    /// A change of the group's state other than records: `stream::op`, `metadata`.
    Control = 2,
    /// The raft entry that covers all earlier frames of its group in this extent.
    Entry = 3,
    /// A group's raft promises.
    HardState = 4,
}

/// The payload has fence or trim commands in it.
pub const FLAG_COMMANDS: u16 = 1;

/// The header of a frame. Fields that a kind does not use are 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// What it holds.
    pub kind: FrameKind,
    /// How a batch's records are encoded (`model::stored::PayloadKind`).
    pub payload_kind: u8,
    /// [`FLAG_COMMANDS`].
    pub flags: u16,
    /// Bytes behind the header.
    pub payload_bytes: u32,
    /// Whose frame it is.
    pub group: GroupId,
    /// CRC-32C of the payload.
    pub payload_crc: u32,
    /// Batch: the stream.
    pub stream: StreamId,
    /// Batch: the number of the first record.
    pub first_seq_num: u64,
    /// Batch: the first record's timestamp.
    pub first_timestamp: u64,
    /// Batch: the last record's timestamp.
    pub last_timestamp: u64,
    /// Batch: records.
    pub records_count: u32,
    /// Batch: metered size of the records.
    pub metered_bytes: u32,
    /// Batch: when it arrived, in seconds since the Unix epoch.
    pub arrived_s: u32,
}

/// Why bytes are no frame header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAFrame {
    /// The frames of the extent have ended here: padding, or the next extent.
    End,
    /// Damaged, or cut off.
    Damaged,
}

impl FrameHeader {
    /// A header with nothing in it but its kind and group.
    #[must_use]
    pub const fn new(kind: FrameKind, group: GroupId) -> Self {
        Self {
            kind,
            payload_kind: 0,
            flags: 0,
            payload_bytes: 0,
            group,
            payload_crc: 0,
            stream: StreamId(0),
            first_seq_num: 0,
            first_timestamp: 0,
            last_timestamp: 0,
            records_count: 0,
            metered_bytes: 0,
            arrived_s: 0,
        }
    }

    /// The number behind the last record.
    #[must_use]
    pub fn end_seq_num(&self) -> u64 {
        self.first_seq_num + u64::from(self.records_count)
    }

    /// Bytes of header and payload.
    #[must_use]
    pub const fn frame_bytes(&self) -> usize {
        FRAME_HEADER_BYTES + self.payload_bytes as usize
    }

    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; FRAME_HEADER_BYTES] {
        let mut out = [0; FRAME_HEADER_BYTES];
        out[0] = self.kind as u8;
        out[1] = self.payload_kind;
        out[2..4].copy_from_slice(&self.flags.to_le_bytes());
        out[4..8].copy_from_slice(&self.payload_bytes.to_le_bytes());
        out[8..12].copy_from_slice(&self.group.0.to_le_bytes());
        out[12..16].copy_from_slice(&self.payload_crc.to_le_bytes());
        out[16..24].copy_from_slice(&self.stream.0.to_le_bytes());
        out[24..32].copy_from_slice(&self.first_seq_num.to_le_bytes());
        out[32..40].copy_from_slice(&self.first_timestamp.to_le_bytes());
        out[40..48].copy_from_slice(&self.last_timestamp.to_le_bytes());
        out[48..52].copy_from_slice(&self.records_count.to_le_bytes());
        out[52..56].copy_from_slice(&self.metered_bytes.to_le_bytes());
        out[56..60].copy_from_slice(&self.arrived_s.to_le_bytes());
        let crc = crc32c::crc32c(&out[..60]);
        out[60..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads the header at the start of `bytes`.
    ///
    /// # Errors
    /// [`NotAFrame`] tells an ordinary end from damage.
    pub fn decode(bytes: &[u8]) -> Result<Self, NotAFrame> {
        // Fewer bytes than a header can only be padding: extents end on whole blocks.
        let Some(kind) = bytes.first() else { return Err(NotAFrame::End) };
        let kind = match *kind {
            0 | EXTENT_MAGIC_FIRST => return Err(NotAFrame::End),
            1 => FrameKind::Batch,
            2 => FrameKind::Control,
            3 => FrameKind::Entry,
            4 => FrameKind::HardState,
            _ => return Err(NotAFrame::Damaged),
        };
        let Some(bytes) = bytes.first_chunk::<FRAME_HEADER_BYTES>() else { return Err(NotAFrame::Damaged) };
        let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        if crc32c::crc32c(&bytes[..60]) != u32_at(60) && !Mutation::FrameHeaderCrcSkipped.is_on() {
            return Err(NotAFrame::Damaged);
        }
        Ok(Self {
            kind,
            payload_kind: bytes[1],
            flags: u16_at(2),
            payload_bytes: u32_at(4),
            group: GroupId(u32_at(8)),
            payload_crc: u32_at(12),
            stream: StreamId(u64_at(16)),
            first_seq_num: u64_at(24),
            first_timestamp: u64_at(32),
            last_timestamp: u64_at(40),
            records_count: u32_at(48),
            metered_bytes: u32_at(52),
            arrived_s: u32_at(56),
        })
    }
}

/// Bytes of a frame's header.
pub const FRAME_HEADER_BYTES: usize = 64;
/// An extent's first byte, which no frame kind has.
pub(crate) const EXTENT_MAGIC_FIRST: u8 = b'M';
