//! Configurations read back, and a PATCH tells silence, null and a value apart.

use model::config::{BasinReconfiguration, Patch, StreamReconfiguration};
use proptest::prelude::*;

use super::*;
use crate::json::{parse_basin_reconfiguration, parse_stream_reconfiguration};

fn stream(body: &str) -> Result<StreamConfig, ApiError> {
    super::super::parse_ensure_stream(body.as_bytes())
}

#[test]
fn configurations_are_what_clients_expect() {
    let unset = r#"{"storage_class":null,"retention_policy":null,"timestamping":null,"delete_on_empty":null}"#;
    assert_eq!(stream_config(&StreamConfig::default()), unset);
    assert_eq!(
        resolved_stream_config(&ResolvedStreamConfig::default()),
        r#"{"storage_class":null,"retention_policy":{"age":604800},"timestamping":{"mode":"client-prefer","uncapped":false},"delete_on_empty":{"min_age_secs":0}}"#
    );
    let nothing = r#"{"default_stream_config":null,"stream_cipher":null,"create_stream_on_append":false,"create_stream_on_read":false}"#;
    assert_eq!(basin_config(&BasinConfig::default()), nothing);
    let basin = BasinConfig {
        default_stream_config: Some(StreamConfig {
            retention: Some(RetentionPolicy::Infinite),
            timestamping_uncapped: Some(true),
            delete_on_empty_min_age_secs: Some(0),
            ..StreamConfig::default()
        }),
        stream_cipher: Some(Cipher::Aegis256),
        create_stream_on_append: true,
        create_stream_on_read: false,
    };
    assert_eq!(
        basin_config(&basin),
        r#"{"default_stream_config":{"storage_class":null,"retention_policy":{"infinite":{}},"timestamping":{"mode":null,"uncapped":true},"delete_on_empty":{"min_age_secs":0}},"stream_cipher":"aegis-256","create_stream_on_append":true,"create_stream_on_read":false}"#
    );
}

fn any_stream_config() -> impl Strategy<Value = StreamConfig> {
    let retention = prop_oneof![(1..u64::MAX).prop_map(RetentionPolicy::AgeSecs), Just(RetentionPolicy::Infinite)];
    let modes = [TimestampingMode::ClientPrefer, TimestampingMode::ClientRequire, TimestampingMode::Arrival];
    (
        prop::option::of("\\PC{0,9}"),
        prop::option::of(retention),
        prop::option::of(prop::sample::select(modes.to_vec())),
        any::<Option<bool>>(),
        any::<Option<u64>>(),
    )
        .prop_map(|(storage_class, retention, timestamping_mode, timestamping_uncapped, min_age)| StreamConfig {
            storage_class: storage_class.map(Arc::from),
            retention,
            timestamping_mode,
            timestamping_uncapped,
            delete_on_empty_min_age_secs: min_age,
        })
}

proptest! {
    #[test]
    fn stream_configurations_read_back(config in any_stream_config()) {
        let json = stream_config(&config);
        prop_assert_eq!(stream_config_header(&json), Ok(config.clone()));
        prop_assert_eq!(stream(&json), Ok(config));
    }

    #[test]
    fn a_patch_with_every_field_makes_any_configuration(from in any_stream_config(), to in any_stream_config()) {
        let mut config = from;
        parse_stream_reconfiguration(stream_config(&to).as_bytes()).expect("valid").apply(&mut config);
        prop_assert_eq!(config, to);
    }

    #[test]
    fn garbage_never_panics(body in prop::collection::vec(any::<u8>(), 0..100), text in "[\\[{\"a:,0-9\\]}]{0,60}") {
        for body in [&body[..], text.as_bytes()] {
            let _ = parse_basin_reconfiguration(body);
            let _ = parse_stream_reconfiguration(body);
        }
        let _ = stream_config_header(&text);
    }
}

#[test]
fn a_patch_tells_silence_null_and_a_value_apart() {
    let full = r#"{"storage_class":"native","retention_policy":{"age":5},"timestamping":{"mode":"arrival","uncapped":true},"delete_on_empty":{"min_age_secs":7}}"#;
    let full = stream(full).expect("valid");
    let changed = |change: &str| {
        let mut config = full.clone();
        parse_stream_reconfiguration(change.as_bytes()).expect(change).apply(&mut config);
        config
    };
    let without = |clear: fn(&mut StreamConfig)| {
        let mut config = full.clone();
        clear(&mut config);
        config
    };
    assert_eq!(changed("{}"), full);
    assert_eq!(changed(r#"{"other":null}"#), full);
    assert_eq!(changed(r#"{"storage_class":null}"#), without(|c| c.storage_class = None));
    assert_eq!(changed(r#"{"timestamping":{}}"#), full);
    assert_eq!(changed(r#"{"timestamping":{"mode":null}}"#), without(|c| c.timestamping_mode = None));
    assert_eq!(changed(r#"{"timestamping":{"uncapped":false}}"#), without(|c| c.timestamping_uncapped = Some(false)));
    assert_eq!(
        changed(r#"{"timestamping":null}"#),
        without(|c| (c.timestamping_mode, c.timestamping_uncapped) = (None, None))
    );
    assert_eq!(changed(r#"{"delete_on_empty":null}"#), without(|c| c.delete_on_empty_min_age_secs = None));
    assert_eq!(changed(r#"{"delete_on_empty":{}}"#), full);
    let infinite = changed(r#"{"retention_policy":{"infinite":{}}}"#);
    assert_eq!(infinite, without(|c| c.retention = Some(RetentionPolicy::Infinite)));
}

#[test]
fn a_basins_patch_reaches_into_its_default() {
    let change = |body: &str| parse_basin_reconfiguration(body.as_bytes()).expect(body);
    assert_eq!(change(r#"{"create_stream_on_append":null}"#), BasinReconfiguration::default());
    assert_eq!(change(r#"{"create_stream_on_read":false}"#).create_stream_on_read, Some(false));
    assert_eq!(change(r#"{"default_stream_config":null}"#).default_stream_config, Patch::Clear);
    let inner = change(r#"{"default_stream_config":{"storage_class":null},"stream_cipher":"aes-256-gcm"}"#);
    let expected = StreamReconfiguration { storage_class: Patch::Clear, ..StreamReconfiguration::default() };
    assert_eq!(inner.default_stream_config, Patch::Set(expected));
    assert_eq!(inner.stream_cipher, Patch::Set(Cipher::Aes256Gcm));
}

#[test]
fn an_age_of_zero_is_refused_in_its_own_way_everywhere() {
    let zero = r#"{"retention_policy":{"age":0}}"#;
    let text = "age must be greater than 0 seconds";
    assert_eq!(stream(zero), Err(ApiError::new(Code::Invalid, text)));
    assert_eq!(parse_stream_reconfiguration(zero.as_bytes()), Err(ApiError::new(Code::Invalid, text)));
    let header = stream_config_header(zero).expect_err("refused");
    assert_eq!(header.code(), Some(Code::BadHeader));
    assert!(header.body_json().contains(text));
}

#[test]
fn what_is_wrong_gets_its_code() {
    let long = format!(r#"{{"storage_class":"{}"}}"#, "x".repeat(65));
    for (body, code) in [
        ("x", Code::BadJson),
        (r#"{"retention_policy":{"age":-1}}"#, Code::BadJson),
        (r#"{"retention_policy":{"never":{}}}"#, Code::BadJson),
        (r#"{"timestamping":{"mode":"now"}}"#, Code::BadJson),
        (r#"{"storage_class":1}"#, Code::BadJson),
        (&long, Code::Invalid),
    ] {
        assert_eq!(stream(body).map_err(|e| e.code()), Err(Some(code)), "{body}");
        assert_eq!(parse_stream_reconfiguration(body.as_bytes()).map_err(|e| e.code()), Err(Some(code)), "{body}");
    }
    let header = stream_config_header("{").expect_err("refused");
    assert_eq!(header.code(), Some(Code::BadHeader));
    assert!(header.body_json().contains("invalid JSON"), "{header}");
    let deep = format!(r#"{{"x":{}"#, "[".repeat(1_000_000));
    assert!(parse_basin_reconfiguration(deep.as_bytes()).is_err());
}
