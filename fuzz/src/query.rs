//! Query strings and the headers that we parse.

use api::query::{ListQuery, ReadQuery, ReadStart};
use api::sse::EventId;
use api::{json, negotiate};

/// Decodes the input as each; a query that decodes must mean the same when it is written and decoded again.
pub fn query(input: &[u8]) {
    // What is not UTF-8 never reaches these parsers: URIs and headers are text.
    let Ok(text) = std::str::from_utf8(input) else { return };
    let read = ReadQuery::parse(text);
    if let Ok(read) = read {
        assert_eq!(ReadQuery::parse(&written(&read)), Ok(read));
        let unary = read.unary();
        assert_eq!(unary.unary(), unary);
        let _ = (read.may_follow(), unary.may_follow(), read.wants_nothing());
    }
    for list in [ListQuery::parse_basins(text), ListQuery::parse_streams(text)].into_iter().flatten() {
        assert!((1..=model::limits::LIST_ITEMS_MAX).contains(&list.limit));
    }
    if let Ok(id) = EventId::parse(text) {
        let all = ReadQuery::parse("count=5&bytes=100").expect("valid");
        assert_eq!(id.resume(all).count, Some(5u64.saturating_sub(id.count)));
        assert_eq!(EventId::parse(&format!("{},{},{}", id.seq_num, id.count, id.bytes)), Ok(id));
    }
    let _ = json::stream_config_header(text);
    let _ = (
        negotiate::format(Some(text)),
        negotiate::read_kind(Some(text), None),
        negotiate::content_encoding(Some(text)),
    );
    let _ = (negotiate::read_kind(None, Some(text)), negotiate::append_kind(Some(text), Some(text)));
    let _ = (negotiate::session_compression(Some(text)), negotiate::unary_compression(Some(text), 1 << 20));
}

fn written(query: &ReadQuery) -> String {
    let mut text = match query.start {
        ReadStart::SeqNum(seq_num) => format!("seq_num={seq_num}"),
        ReadStart::Timestamp(timestamp) => format!("timestamp={timestamp}"),
        ReadStart::TailOffset(offset) => format!("tail_offset={offset}"),
    };
    text.push_str(&format!("&clamp={}", query.clamp));
    let numbers = [("count", query.count), ("bytes", query.bytes), ("until", query.until)];
    let wait = ("wait", query.wait_secs.map(u64::from));
    for (name, value) in numbers.into_iter().chain([wait]) {
        if let Some(value) = value {
            text.push_str(&format!("&{name}={value}"));
        }
    }
    text
}
