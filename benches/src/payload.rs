//! What is appended: batches of incompressible records, encoded once and sent again and again.

use api::AppendConditions;
use api::proto::{self, AppendRecord};
use api::s2s::{self, Flags};
use bytes::Bytes;
use model::limits::{BATCH_METERED_BYTES_MAX, BATCH_RECORDS_MAX};

use crate::client::grpc;
use crate::recorder::Size;
use crate::settings::RECORD_OVERHEAD_BYTES;

/// One batch, in the form a unary append and a session want it.
#[derive(Debug, Clone)]
pub(crate) struct Payload {
    /// The `AppendInput` message.
    pub(crate) input: Bytes,
    /// Its records as fields of the `AppendInput` of gRPC, which numbers them otherwise.
    pub(crate) grpc_records: Bytes,
    /// The same as a session takes it: as an s2s frame, until a transport says otherwise.
    pub(crate) frame: Bytes,
    pub(crate) size: Size,
    /// CRC-32C of each record's body, in order.
    pub(crate) body_crcs: Vec<u32>,
    /// Metered size of the batch (s2-wire.md 4.1).
    pub(crate) metered_bytes: usize,
}

impl Payload {
    /// A batch of `records` records of `record_bytes` each.
    ///
    /// # Panics
    /// When that is no acceptable batch: the caller sized it.
    pub(crate) fn new(records: usize, record_bytes: usize) -> Self {
        assert!((1..=records_max(record_bytes)).contains(&records), "a batch within its limits");
        let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
        let mut bodies = vec![0; records * record_bytes];
        noise.fill(&mut bodies);
        let body = |index: usize| &bodies[index * record_bytes..][..record_bytes];
        let batch: Vec<AppendRecord<'_>> =
            (0..records).map(|index| AppendRecord { body: body(index), ..AppendRecord::default() }).collect();
        let input = proto::encode_append_input(&batch, &AppendConditions::default());
        let mut grpc_records = Vec::with_capacity(input.len());
        (0..records).for_each(|index| grpc::put_record(&mut grpc_records, body(index)));
        Self {
            grpc_records: grpc_records.into(),
            frame: frame(&input),
            input: input.into(),
            size: Size { records: records as u64, bytes: (records * record_bytes) as u64 },
            body_crcs: batch.iter().map(|record| crc32c::crc32c(record.body)).collect(),
            metered_bytes: records * metered_bytes(record_bytes),
        }
    }

    /// One record.
    pub(crate) fn single(record_bytes: usize) -> Self {
        Self::new(1, record_bytes)
    }

    /// As many records as a batch may hold.
    pub(crate) fn full(record_bytes: usize) -> Self {
        Self::new(records_max(record_bytes), record_bytes)
    }

    /// As many records as fit `batch_bytes`, but at least one.
    pub(crate) fn about(batch_bytes: usize, record_bytes: usize) -> Self {
        let records = (batch_bytes / record_bytes.max(1)).clamp(1, records_max(record_bytes));
        Self::new(records, record_bytes)
    }

    /// How many batches keep about `bytes` metered bytes in flight; at least one.
    pub(crate) fn window(&self, bytes: usize) -> usize {
        (bytes / self.metered_bytes).max(1)
    }
}

/// Most records of this size in one batch.
fn records_max(record_bytes: usize) -> usize {
    let by_bytes = usize::try_from(BATCH_METERED_BYTES_MAX).expect("1 MiB") / metered_bytes(record_bytes);
    by_bytes.min(BATCH_RECORDS_MAX)
}

fn metered_bytes(record_bytes: usize) -> usize {
    record_bytes + usize::try_from(RECORD_OVERHEAD_BYTES).expect("8")
}

/// An uncompressed regular s2s frame.
pub(crate) fn frame(payload: &[u8]) -> Bytes {
    [&s2s::frame_header(payload.len(), Flags::default()), payload].concat().into()
}

/// SplitMix64: bytes that no server can compress, the same in every run.
#[derive(Debug)]
struct Noise(u64);

impl Noise {
    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = self.0;
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            chunk.copy_from_slice(&(word ^ (word >> 31)).to_le_bytes()[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_batch_is_as_large_as_the_limits_allow() {
        let small = Payload::full(100);
        assert_eq!(small.size.records, 1000, "the record limit");
        let large = Payload::full(64 << 10);
        assert_eq!(large.size.records, 15, "16 records of 64 KiB and their overhead exceed 1 MiB");
        for payload in [small, large, Payload::full((1 << 20) - 8)] {
            assert!(payload.metered_bytes <= 1 << 20);
        }
    }

    #[test]
    fn windows_and_batches_are_never_empty() {
        assert_eq!(Payload::about(10, 1024).size.records, 1);
        assert_eq!(Payload::about(64 << 10, 1024).size.records, 64);
        assert_eq!(Payload::full(1024).window(1), 1);
        assert_eq!(Payload::full(1024).window(5 << 20), 5);
    }

    #[test]
    fn a_frame_counts_its_flag_byte() {
        assert_eq!(&frame(b"")[..], [0, 0, 1, 0]);
        assert_eq!(&frame(b"ab")[..], [0, 0, 3, 0, b'a', b'b']);
    }
}
