//! Server-sent events of a read, and how a read resumes (s2-wire.md 3).

use model::stored::StoredRecords;
use model::{Failure, Position};

use crate::json::text::Json;
use crate::json::{damaged, put_read_batch, read_batch_bytes};
use crate::negotiate::Format;
use crate::query::{ReadQuery, ReadStart};
use crate::status::{ApiError, Code};

/// The `id` of a batch event: how far the read has come, over all resumptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EventId {
    /// Number of the last record delivered.
    pub seq_num: u64,
    /// Records delivered.
    pub count: u64,
    /// Metered bytes delivered.
    pub bytes: u64,
}

impl EventId {
    /// From a `Last-Event-ID` header.
    ///
    /// # Errors
    /// 400 `bad_header` unless it is three decimal integers with commas between.
    pub fn parse(header: &str) -> Result<Self, ApiError> {
        let mut parts = header.trim().split(',');
        let mut number = || parts.next().and_then(|part| part.trim().parse().ok());
        let numbers = (number(), number(), number());
        match (numbers, parts.next()) {
            ((Some(seq_num), Some(count), Some(bytes)), None) => Ok(Self { seq_num, count, bytes }),
            _ => Err(ApiError::new(Code::BadHeader, "Invalid header `last-event-id`: expected `seq_num,count,bytes`")),
        }
    }

    /// The rest of `query`, whose first part was delivered: starts behind the last record, limits reduced.
    #[must_use]
    pub fn resume(&self, query: ReadQuery) -> ReadQuery {
        ReadQuery {
            start: ReadStart::SeqNum(self.seq_num.saturating_add(1)),
            count: query.count.map(|count| count.saturating_sub(self.count)),
            bytes: query.bytes.map(|bytes| bytes.saturating_sub(self.bytes)),
            ..query
        }
    }

    /// Counts the records of `runs` as delivered.
    fn advance(&mut self, runs: &[&[u8]]) -> Result<(), Failure> {
        for record in runs.iter().flat_map(|run| StoredRecords::new(run)) {
            let record = record.map_err(damaged)?;
            self.seq_num = record.position.seq_num;
            self.count = self.count.saturating_add(1);
            self.bytes = self.bytes.saturating_add(record.metered_bytes);
        }
        Ok(())
    }
}

/// A batch event of at least one record. `delivered` is what was delivered before (zero at first, or the
/// `Last-Event-ID`), and is moved on.
///
/// # Errors
/// `Failure::Corrupt` when the runs are not stored records.
pub fn batch(
    runs: &[&[u8]],
    tail: Option<Position>,
    format: Format,
    delivered: &mut EventId,
) -> Result<Vec<u8>, Failure> {
    delivered.advance(runs)?;
    let mut event = Json::with_capacity(read_batch_bytes(runs));
    event.raw("event: batch\nid: ").number(delivered.seq_num).raw(",").number(delivered.count);
    event.raw(",").number(delivered.bytes).raw("\ndata: ");
    put_read_batch(&mut event, runs, tail, format)?;
    event.raw("\n\n");
    Ok(event.into_bytes())
}

/// A ping event, sent where a session sends a heartbeat.
#[must_use]
pub fn ping(now_ms: u64, tail: Position) -> String {
    let mut event = Json::new();
    event.raw("event: ping\ndata: {\"timestamp\":").number(now_ms).raw(",\"tail\":").position(tail).raw("}\n\n");
    event.into_string()
}

/// An error event; the body ends behind it, without [`DONE`].
#[must_use]
pub fn error(error: &ApiError) -> String {
    format!("event: error\ndata: {}\n\n", error.body_json())
}

/// The event that ends a body cleanly.
pub const DONE: &str = "data: [DONE]\n\n";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The second record of a stream: body `hi`, at time 9.
    const RUN: &[u8] = &[0x0a, 8, 0x08, 1, 0x10, 9, 0x22, 2, b'h', b'i'];

    fn id(seq_num: u64, count: u64, bytes: u64) -> EventId {
        EventId { seq_num, count, bytes }
    }

    #[test]
    fn events_are_what_clients_expect() {
        let mut delivered = EventId::default();
        let event = batch(&[RUN], None, Format::Raw, &mut delivered).expect("valid");
        let expected =
            "event: batch\nid: 1,1,10\ndata: {\"records\":[{\"seq_num\":1,\"timestamp\":9,\"body\":\"hi\"}]}\n\n";
        assert_eq!(String::from_utf8_lossy(&event), expected);
        let tail = Position { seq_num: 2, timestamp: 9 };
        let ping = ping(7, tail);
        assert_eq!(ping, "event: ping\ndata: {\"timestamp\":7,\"tail\":{\"seq_num\":2,\"timestamp\":9}}\n\n");
        let lost = error(&ApiError::new(Code::Storage, "two\nlines"));
        assert_eq!(lost, "event: error\ndata: {\"code\":\"storage\",\"message\":\"two\\nlines\"}\n\n");
    }

    #[test]
    fn counters_go_on_over_a_resumption() {
        let mut delivered = EventId::parse("0,5,100").expect("valid");
        batch(&[RUN], None, Format::Raw, &mut delivered).expect("valid");
        assert_eq!(delivered, id(1, 6, 110));
        batch(&[RUN, RUN], None, Format::Raw, &mut delivered).expect("valid");
        assert_eq!(delivered, id(1, 8, 130));
        assert!(batch(&[&[1]], None, Format::Raw, &mut delivered).is_err());
    }

    #[test]
    fn a_resumed_read_starts_behind_and_wants_less() {
        let query = ReadQuery::parse("timestamp=3&count=10&bytes=50&clamp=true&wait=4").expect("valid");
        let rest = id(7, 4, 60).resume(query);
        let expected = ReadQuery::parse("seq_num=8&count=6&bytes=0&clamp=true&wait=4").expect("valid");
        assert_eq!(rest, expected);
        assert!(rest.wants_nothing());
        let unlimited = ReadQuery::parse("").expect("valid");
        assert_eq!(id(u64::MAX, 1, 1).resume(unlimited).start, ReadStart::SeqNum(u64::MAX));
    }

    #[test]
    fn event_ids_are_three_numbers() {
        assert_eq!(EventId::parse(" 1,2,3 "), Ok(id(1, 2, 3)));
        for bad in ["", "1", "1,2", "1,2,3,4", "1,2,x", "-1,2,3", "1,,3", "18446744073709551616,0,0"] {
            assert_eq!(EventId::parse(bad).map_err(|e| e.code()), Err(Some(Code::BadHeader)), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(header in any::<String>()) {
            let _ = EventId::parse(&header);
        }
    }
}
