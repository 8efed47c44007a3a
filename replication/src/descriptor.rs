//! What a raft entry says of its payload: where it is and what it must hash to.

/// The payload of one entry: the frames of its group in one extent of the log.
///
/// ```text
/// extent u64 | frames_count u32 | frames_crc u32      little endian, 16 bytes
/// ```
/// Invariant: a descriptor is never persisted or acknowledged without its payload in the same extent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    /// Numbers the extent on the node that proposed it.
    pub extent: u64,
    /// Frames of the group in that extent.
    pub frames_count: u32,
    /// CRC-32C over the headers of those frames, each of which covers its payload.
    pub frames_crc: u32,
}

/// Bytes that are no descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MalformedDescriptor;

impl Descriptor {
    /// Its bytes in the entry.
    #[must_use]
    pub fn encode(&self) -> [u8; DESCRIPTOR_BYTES] {
        let mut out = [0; DESCRIPTOR_BYTES];
        out[..8].copy_from_slice(&self.extent.to_le_bytes());
        out[8..12].copy_from_slice(&self.frames_count.to_le_bytes());
        out[12..].copy_from_slice(&self.frames_crc.to_le_bytes());
        out
    }

    /// Reads it back.
    ///
    /// # Errors
    /// When `bytes` has another length.
    pub fn decode(bytes: &[u8]) -> Result<Self, MalformedDescriptor> {
        let bytes: &[u8; DESCRIPTOR_BYTES] = bytes.try_into().map_err(|_| MalformedDescriptor)?;
        let (extent, rest) = bytes.split_first_chunk::<8>().ok_or(MalformedDescriptor)?;
        let (frames_count, rest) = rest.split_first_chunk::<4>().ok_or(MalformedDescriptor)?;
        let frames_crc = rest.try_into().map_err(|_| MalformedDescriptor)?;
        Ok(Self {
            extent: u64::from_le_bytes(*extent),
            frames_count: u32::from_le_bytes(*frames_count),
            frames_crc: u32::from_le_bytes(frames_crc),
        })
    }
}

const DESCRIPTOR_BYTES: usize = 16;
