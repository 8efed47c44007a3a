//! Configurations go both ways, and each path of a mask changes what it names.

use proptest::prelude::*;

use super::*;

fn configs() -> impl Strategy<Value = StreamConfig> {
    let class = prop::sample::select(vec![None, Some("standard"), Some("express")]);
    let retention = prop::option::of((0..100u64).prop_map(|secs| match secs {
        0 => RetentionPolicy::Infinite,
        secs => RetentionPolicy::AgeSecs(secs),
    }));
    let modes = [TimestampingMode::ClientPrefer, TimestampingMode::ClientRequire, TimestampingMode::Arrival];
    let mode = prop::option::of(prop::sample::select(modes.to_vec()));
    (class, retention, mode, any::<Option<bool>>(), any::<Option<u64>>()).prop_map(
        |(class, retention, timestamping_mode, timestamping_uncapped, delete_on_empty_min_age_secs)| StreamConfig {
            storage_class: class.map(Arc::from),
            retention,
            timestamping_mode,
            timestamping_uncapped,
            delete_on_empty_min_age_secs,
        },
    )
}

proptest! {
    #[test]
    fn a_configuration_goes_both_ways(config in configs(), default in prop::option::of(configs()), bits in any::<(bool, bool)>()) {
        prop_assert_eq!(stream_config(Some(&shown_stream_config(&config))), Ok(config));
        let basin = BasinConfig {
            default_stream_config: default,
            stream_cipher: None,
            create_stream_on_append: bits.0,
            create_stream_on_read: bits.1,
        };
        prop_assert_eq!(basin_config(Some(&shown_basin_config(&basin))), Ok(basin));
    }

    #[test]
    fn all_paths_together_replace_all(before in configs(), after in configs()) {
        let paths = ["storage_class", "retention_policy", "timestamping", "delete_on_empty"].map(String::from);
        let mut changed = before;
        stream_change(Some(&shown_stream_config(&after)), Some(&paths)).expect("valid").apply(&mut changed);
        prop_assert_eq!(changed, after);
    }
}

fn full() -> StreamConfig {
    StreamConfig {
        storage_class: Some("express".into()),
        retention: Some(RetentionPolicy::Infinite),
        timestamping_mode: Some(TimestampingMode::Arrival),
        timestamping_uncapped: Some(true),
        delete_on_empty_min_age_secs: Some(7),
    }
}

#[test]
fn each_path_changes_what_it_names() {
    let nothing = StreamConfig::default;
    let rows: [(&str, StreamConfig); 9] = [
        ("storage_class", StreamConfig { storage_class: full().storage_class, ..nothing() }),
        ("retention_policy", StreamConfig { retention: full().retention, ..nothing() }),
        ("retention_policy.age", StreamConfig { retention: full().retention, ..nothing() }),
        ("infinite", StreamConfig { retention: full().retention, ..nothing() }),
        (
            "timestamping",
            StreamConfig {
                timestamping_mode: full().timestamping_mode,
                timestamping_uncapped: full().timestamping_uncapped,
                ..nothing()
            },
        ),
        ("timestamping.mode", StreamConfig { timestamping_mode: full().timestamping_mode, ..nothing() }),
        ("timestamping.uncapped", StreamConfig { timestamping_uncapped: Some(true), ..nothing() }),
        ("delete_on_empty", StreamConfig { delete_on_empty_min_age_secs: Some(7), ..nothing() }),
        ("delete_on_empty.min_age_secs", StreamConfig { delete_on_empty_min_age_secs: Some(7), ..nothing() }),
    ];
    for (path, only) in rows {
        let mut set = nothing();
        stream_change(Some(&shown_stream_config(&full())), Some(&[path.into()])).expect(path).apply(&mut set);
        assert_eq!(set, only, "{path} sets");
        let mut cleared = only;
        stream_change(None, Some(&[path.into()])).expect(path).apply(&mut cleared);
        assert_eq!(cleared, nothing(), "{path} clears");
        let mut basin = BasinConfig::default();
        let wanted =
            v1alpha::BasinConfig { default_stream_config: Some(shown_stream_config(&full())), ..Default::default() };
        let path = format!("default_stream_config.{path}");
        basin_change(Some(&wanted), Some(&[path])).expect("a path").apply(&mut basin);
        assert_eq!(basin.default_stream_config, Some(set));
    }
}

#[test]
fn basin_paths_and_what_comes_without_a_mask() {
    let wanted = v1alpha::BasinConfig {
        default_stream_config: Some(shown_stream_config(&StreamConfig {
            retention: full().retention,
            ..Default::default()
        })),
        create_stream_on_append: true,
        create_stream_on_read: false,
    };
    let before = BasinConfig {
        default_stream_config: Some(full()),
        create_stream_on_append: false,
        create_stream_on_read: true,
        stream_cipher: None,
    };
    let after = |mask: &[&str], wanted: &v1alpha::BasinConfig| {
        let mask: Vec<String> = mask.iter().map(ToString::to_string).collect();
        let mut basin = before.clone();
        basin_change(Some(wanted), Some(&mask)).expect("valid").apply(&mut basin);
        basin
    };
    let whole = after(&["default_stream_config"], &wanted).default_stream_config.expect("set");
    assert_eq!(whole, StreamConfig { retention: full().retention, ..Default::default() }, "the rest is reset");
    assert_eq!(after(&["default_stream_config"], &v1alpha::BasinConfig::default()).default_stream_config, None);
    assert!(!after(&["create_stream_on_read"], &wanted).create_stream_on_read);
    assert!(after(&["create_stream_on_append"], &wanted).create_stream_on_append);
    let merged = after(&[], &wanted);
    assert_eq!(merged, BasinConfig { create_stream_on_append: true, ..before.clone() });
}

#[test]
fn what_is_wrong_is_told() {
    let age_0 = v1alpha::StreamConfig { retention_policy: Some(Retention::Age(0)), ..Default::default() };
    let class = v1alpha::StreamConfig { storage_class: 9, ..Default::default() };
    let mode =
        v1alpha::StreamConfig { timestamping: Some(Timestamping { mode: 9, uncapped: None }), ..Default::default() };
    for (config, text) in [(age_0, "greater than 0"), (class, "storage class 9"), (mode, "timestamping mode 9")] {
        let error = stream_config(Some(&config)).expect_err(text);
        assert!(error.body_json().contains(text), "{}", error.body_json());
    }
    for path in ["", "name", "timestamping.", "default_stream_config"] {
        assert!(stream_change(None, Some(&[path.into()])).is_err(), "{path}");
    }
    assert!(basin_change(None, Some(&["default_stream_config.name".into()])).is_err());
}
