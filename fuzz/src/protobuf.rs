//! Protobuf messages from clients, and stored records as a disk may return them.

use api::{Format, json, proto};
use bytes::Bytes;
use model::stored::StoredRecords;

use crate::meaning::check_input;

/// Decodes the input as each message; what decodes must mean the same when it is encoded and decoded again.
pub fn protobuf(input: &[u8]) {
    if let Ok((batch, conditions)) = proto::append_input(Bytes::copy_from_slice(input)) {
        check_input(&batch, &conditions);
    }
    if let Ok(ack) = proto::decode_append_ack(input) {
        assert_eq!(proto::decode_append_ack(&proto::append_ack(&ack)), Ok(ack));
    }
    if let Ok(answer) = proto::decode_read_batch(input) {
        for record in answer.records.map_while(Result::ok) {
            record.headers().for_each(drop);
            let _ = record.command();
        }
    }
    let is_whole = StoredRecords::new(input).all(|record| record.is_ok());
    for format in [Format::Raw, Format::Base64] {
        assert_eq!(json::read_batch(&[input], None, format).is_ok(), is_whole, "damage is told, never written out");
    }
}
