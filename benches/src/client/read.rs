//! What a reader checks while it reads: that no record is missing, doubled or changed.

use bytes::Bytes;

use super::{ClientError, Result};
use crate::recorder::Size;

/// A reader's place in a stream that holds one batch again and again.
#[derive(Debug)]
pub(crate) struct Check {
    /// Number that the next record must have.
    next: u64,
    /// CRC-32C of the bodies of one batch; empty when bodies are not checked.
    body_crcs: Vec<u32>,
}

impl Check {
    /// At the start of the stream.
    pub(crate) const fn whole_stream(body_crcs: Vec<u32>) -> Self {
        Self { next: 0, body_crcs }
    }

    /// Number of the record that would come next.
    pub(crate) const fn next_seq_num(&self) -> u64 {
        self.next
    }

    /// Takes the next batch and returns its size; a heartbeat has none.
    pub(crate) fn batch(&mut self, message: &Bytes) -> Result<Size> {
        let mut size = Size { records: 0, bytes: 0 };
        for record in api::proto::decode_read_batch(message)?.records {
            let record = record.map_err(|_| ClientError::Wrong("a record that is not protobuf"))?;
            let (seq_num, body) = (record.position.seq_num, record.body);
            if self.next != seq_num {
                return Err(ClientError::Wrong("a record is missing or doubled"));
            }
            if !self.body_crcs.is_empty() {
                let index = usize::try_from(seq_num % self.body_crcs.len() as u64).expect("an index");
                if crc32c::crc32c(body) != self.body_crcs[index] {
                    return Err(ClientError::Wrong("a record is not what was appended"));
                }
            }
            self.next = seq_num + 1;
            size.records += 1;
            size.bytes += body.len() as u64;
        }
        Ok(size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A `ReadBatch` of records with one-byte bodies.
    fn batch(records: &[(u8, u8)]) -> Bytes {
        records.iter().flat_map(|(seq_num, body)| [0x0a, 5, 8, *seq_num, 0x22, 1, *body]).collect()
    }

    #[test]
    fn a_reader_notices_a_gap_a_double_and_a_change() {
        let crcs = || vec![crc32c::crc32c(b"a"), crc32c::crc32c(b"b")];
        let mut good = Check::whole_stream(crcs());
        for part in [batch(&[(0, b'a'), (1, b'b'), (2, b'a')]), batch(&[]), batch(&[(3, b'b')])] {
            assert!(good.batch(&part).is_ok());
        }
        assert_eq!(good.next_seq_num(), 4);
        for bad in [batch(&[(0, b'a'), (2, b'a')]), batch(&[(0, b'a'), (0, b'a')]), batch(&[(0, b'b')])] {
            assert!(Check::whole_stream(crcs()).batch(&bad).is_err());
        }
    }
}
