//! Query strings read as the spec says, and nothing in them panics.

use proptest::prelude::*;

use super::*;

const TAIL: ReadQuery =
    ReadQuery { start: ReadStart::TailOffset(0), clamp: false, count: None, bytes: None, until: None, wait_secs: None };

#[test]
fn reads_are_what_they_say() {
    let rows = [
        ("", TAIL),
        ("&&other=1&x", TAIL),
        ("seq_num=18446744073709551615", ReadQuery { start: ReadStart::SeqNum(u64::MAX), ..TAIL }),
        ("timestamp=%35&until=6", ReadQuery { start: ReadStart::Timestamp(5), until: Some(6), ..TAIL }),
        ("tail_offset=3&clamp=false", ReadQuery { start: ReadStart::TailOffset(3), ..TAIL }),
        (
            "clamp=true&count=1&bytes=2&until=0&wait=4",
            ReadQuery { clamp: true, count: Some(1), bytes: Some(2), until: Some(0), wait_secs: Some(4), ..TAIL },
        ),
    ];
    for (query, expected) in rows {
        assert_eq!(ReadQuery::parse(query), Ok(expected), "{query}");
    }
}

#[test]
fn what_is_wrong_gets_its_code_and_text() {
    let bad = "Failed to deserialize query string: ";
    let rows = [
        ("seq_num=x", Code::BadQuery, format!("{bad}seq_num: invalid digit found in string")),
        ("count=", Code::BadQuery, format!("{bad}count: cannot parse integer from empty string")),
        ("wait=4294967296", Code::BadQuery, format!("{bad}wait: number too large to fit in target type")),
        ("clamp=1", Code::BadQuery, format!("{bad}clamp: provided string was not `true` or `false`")),
        ("count=1&count=1", Code::BadQuery, format!("{bad}duplicate field `count`")),
        ("x=%ff", Code::BadQuery, format!("{bad}invalid UTF-8")),
        (
            "seq_num=1&tail_offset=1",
            Code::Invalid,
            "only one of seq_num, timestamp, or tail_offset can be provided".into(),
        ),
        ("timestamp=5&until=5", Code::Invalid, "start `timestamp` exceeds or equal to `until`".into()),
    ];
    for (query, code, message) in rows {
        assert_eq!(ReadQuery::parse(query), Err(ApiError::new(code, message)), "{query}");
    }
}

#[test]
fn unary_reads_are_capped_and_follow_only_when_told_to_wait() {
    let unary = |query| ReadQuery::parse(query).expect("valid").unary();
    let capped = unary("count=5000&bytes=9999999&wait=61");
    assert_eq!((capped.count, capped.bytes, capped.wait_secs), (Some(1000), Some(1 << 20), Some(60)));
    let small = unary("count=5&bytes=9");
    assert_eq!((small.count, small.bytes, small.wait_secs), (Some(5), Some(9), None));
    assert!(!unary("").may_follow());
    assert!(!unary("wait=0").may_follow());
    assert!(unary("wait=1").may_follow());
    assert!(TAIL.may_follow());
    for bounded in ["count=1", "bytes=1", "until=1"] {
        assert!(!ReadQuery::parse(bounded).expect("valid").may_follow());
        assert!(ReadQuery::parse(&format!("{bounded}&wait=1")).expect("valid").may_follow());
    }
}

#[test]
fn listings_are_what_they_say() {
    for (query, prefix, start_after, limit) in [
        ("", "", "", 1000),
        ("limit=0", "", "", 1000),
        ("limit=1001", "", "", 1000),
        ("limit=1000", "", "", 1000),
        ("limit=1&prefix=a%2Fb+c%20%2B&start_after=%E6%97%A5", "a/b c +", "日", 1),
    ] {
        let list = ListQuery::parse_streams(query).expect(query);
        assert_eq!(
            (list.prefix.as_str(), list.start_after.as_str(), list.limit),
            (prefix, start_after, limit),
            "{query}"
        );
    }
    assert!(ListQuery::parse_basins("prefix=a-&start_after=zz").is_ok());
    for bad in
        ["limit=-1", "limit=x", "limit=99999999999999999999", "prefix=%00", "start_after=a%00b", "prefix=a&prefix=a"]
    {
        assert_eq!(ListQuery::parse_streams(bad).map_err(|e| e.code()), Err(Some(Code::BadQuery)), "{bad}");
    }
    for bad in ["prefix=-a", "prefix=A", "start_after=a_b"] {
        assert_eq!(ListQuery::parse_basins(bad).map_err(|e| e.code()), Err(Some(Code::BadQuery)), "{bad}");
    }
}

proptest! {
    #[test]
    fn garbage_never_panics(query in "[a-z_=&%+0-9]{0,40}|.{0,40}") {
        let _ = ReadQuery::parse(&query);
        let _ = ReadQuery::parse(&format!("seq_num={query}"));
        let _ = ListQuery::parse_basins(&query);
        let _ = ListQuery::parse_streams(&format!("prefix={query}"));
    }
}
