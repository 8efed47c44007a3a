//! JSON inputs decode to the batch they describe, and what is wrong with them gets the code the spec says.

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// What a decoded batch holds, as text.
fn show(batch: &Batch) -> String {
    let bytes = batch.bytes();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let records = batch.records().iter().map(|record| {
        let headers: Vec<_> = record.headers(bytes).map(|(n, v)| format!("{}={}", text(n), text(v))).collect();
        let timestamp = record.timestamp.map_or("-".into(), |t| t.to_string());
        format!("{timestamp} [{}] {}", headers.join(" "), text(record.body(bytes)))
    });
    records.collect::<Vec<_>>().join("; ")
}

fn decode(body: &str, format: Format) -> Result<(Batch, AppendConditions), ApiError> {
    append_input(body.as_bytes(), format)
}

#[test]
fn inputs_are_what_they_say() {
    let rows = [
        (Format::Raw, r#"{"records":[{"body":"hi"}]}"#, "- [] hi"),
        (
            Format::Raw,
            r#" {"x":[{}],"records":[{},{"timestamp":null,"y":{"z":1}},{"timestamp":7}]} "#,
            "- [] ; - [] ; 7 [] ",
        ),
        (
            Format::Raw,
            r#"{"records":[{"body":"b\n\u00e9\ud83d\ude00","headers":[["a","1"],["a",""]]}]}"#,
            "- [a=1 a=] b\né😀",
        ),
        (Format::Raw, r#"{"records":[{"headers":[["","fence"]],"body":"me"}]}"#, "- [=fence] me"),
        (Format::Base64, r#"{"records":[{"headers":[["YQ==","YmM="]],"body":"aGk="}]}"#, "- [a=bc] hi"),
    ];
    for (format, body, expected) in rows {
        let (batch, conditions) = decode(body, format).expect(body);
        assert_eq!(show(&batch), expected, "{body}");
        assert_eq!(conditions, AppendConditions::default());
    }
    let (_, conditions) =
        decode(r#"{"fencing_token":"","match_seq_num":18446744073709551615,"records":[{}]}"#, Format::Raw)
            .expect("valid");
    assert_eq!(
        conditions,
        AppendConditions { match_seq_num: Some(u64::MAX), fencing_token: Some(FencingToken::empty()) }
    );
}

#[test]
fn what_is_wrong_gets_its_code_and_text() {
    let (raw, base64) = (Format::Raw, Format::Base64);
    let (bad_json, invalid) = (Code::BadJson, Code::Invalid);
    let many = format!(r#"{{"records":[{}]}}"#, vec!["{}"; 1002].join(","));
    let large = format!(r#"{{"records":[{{"body":"{}"}}]}}"#, "x".repeat((1 << 20) - 7));
    let long_token = format!(r#"{{"records":[{{}}],"fencing_token":"{}"}}"#, "x".repeat(40));
    let deep = format!(r#"{{"x":{}"#, "[".repeat(1_000_000));
    let deep_record = format!(r#"{{"records":[{{"body":{}"#, "[".repeat(1_000_000));
    let rows = [
        (raw, "", bad_json, "EOF while parsing a value at line 1 column 0"),
        (raw, "[]", bad_json, "expected struct AppendInput"),
        (raw, "{}", bad_json, "missing field `records`"),
        (raw, r#"{"records":null}"#, bad_json, "an array of records"),
        (raw, r#"{"records":[]}"#, invalid, "record batch must not be empty"),
        (raw, &many, invalid, "record batch must not exceed 1000 records"),
        (raw, &large, invalid, "record must have metered size less than 1 MiB"),
        (raw, &long_token, bad_json, "fencing token must not exceed 36 bytes in length"),
        (raw, r#"{"records":[{"timestamp":-1}]}"#, bad_json, "u64"),
        (raw, r#"{"records":[{"body":1}]}"#, bad_json, "a string"),
        (raw, r#"{"records":[{"body":"a","body":"b"}]}"#, bad_json, "duplicate field `body`"),
        (raw, r#"{"records":[],"records":[]}"#, bad_json, "duplicate field `records`"),
        (raw, r#"{"records":[{"headers":[["a"]]}]}"#, bad_json, "invalid length 1"),
        (raw, r#"{"records":[{"headers":[["a","b","c"]]}]}"#, bad_json, "trailing characters"),
        (raw, r#"{"records":[{"headers":[["","a"],["b",""]]}]}"#, invalid, "invalid header: empty name"),
        (raw, r#"{"records":[{}]} x"#, bad_json, "trailing characters"),
        (raw, r#"{"records":[{"body":"\ud800"}]}"#, bad_json, "hex escape"),
        (base64, r#"{"records":[{"body":"aGk"}]}"#, invalid, "invalid Base64 encoding"),
        (base64, r#"{"records":[{"headers":[["!",""]]}]}"#, invalid, "invalid Base64 encoding"),
        (base64, r#"{"records":[{"body":"aGk"}"#, bad_json, "EOF"),
        (raw, &deep, bad_json, "EOF"),
        (raw, &deep_record, bad_json, "a string"),
    ];
    for (format, body, code, text) in rows {
        let error = decode(body, format).expect_err(text);
        assert_eq!(error.code(), Some(code), "{text}");
        let json = error.body_json();
        assert!(json.contains(text), "{json} should say {text}");
    }
}

proptest! {
    #[test]
    fn inputs_read_back_in_both_formats(
        records in prop::collection::vec(
            (any::<Option<u64>>(), prop::collection::vec(("\\PC{1,5}", any::<String>()), 0..3), any::<String>()),
            1..6,
        ),
    ) {
        for format in [Format::Raw, Format::Base64] {
            let text = |s: &str| match format {
                Format::Raw => s.to_owned(),
                Format::Base64 => STANDARD.encode(s),
            };
            let json: Vec<_> = records.iter().map(|(timestamp, headers, body)| {
                let headers: Vec<_> = headers.iter().map(|(n, v)| [text(n), text(v)]).collect();
                json!({ "body": text(body), "timestamp": timestamp, "headers": headers })
            }).collect();
            let body = json!({ "records": json }).to_string();
            let (batch, _) = append_input(body.as_bytes(), format).expect("valid");
            prop_assert_eq!(batch.records().len(), records.len());
            for (span, (timestamp, headers, body)) in batch.records().iter().zip(&records) {
                prop_assert_eq!(span.timestamp, *timestamp);
                prop_assert_eq!(span.body(batch.bytes()), body.as_bytes());
                let expected: Vec<_> = headers.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())).collect();
                prop_assert_eq!(span.headers(batch.bytes()).collect::<Vec<_>>(), expected);
            }
        }
    }

    #[test]
    fn garbage_never_panics(body in prop::collection::vec(any::<u8>(), 0..100), at: prop::sample::Index) {
        let _ = append_input(&body, Format::Raw);
        let mut valid = br#"{"records":[{"headers":[["YQ==","YmM="]],"body":"aGk=","timestamp":1}],"match_seq_num":3}"#.to_vec();
        let at = at.index(valid.len());
        let _ = append_input(&valid[..at], Format::Base64);
        valid.splice(at..at, body);
        let _ = append_input(&valid, Format::Base64);
    }
}
