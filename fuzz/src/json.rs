//! JSON bodies from clients.

use api::json::{
    append_input, basin_config, first_form_input, parse_basin_reconfiguration, parse_create_basin, parse_create_stream,
    parse_ensure_basin, parse_ensure_stream, parse_issue_access_token, parse_resources, parse_stream_reconfiguration,
    stream_config, stream_config_header,
};
use api::{ApiError, Format};
use model::{BasinConfig, StreamConfig};

use crate::meaning::check_input;

/// Decodes the input as each body; what decodes must mean the same when it is encoded and decoded again.
pub fn json(input: &[u8]) {
    for format in [Format::Raw, Format::Base64] {
        if let Some((batch, conditions)) = checked(append_input(input, format)) {
            check_input(&batch, &conditions);
        }
    }
    if let Some((batch, conditions)) = checked(first_form_input(input)) {
        check_input(&batch, &conditions);
    }
    if let Some(request) = checked(parse_issue_access_token(input)) {
        // What a token may do is within what the most powerful one may.
        assert_eq!(request.scope.check_within(&model::Scope::all()), Ok(()), "{request:?}");
    }
    if let Some(request) = checked(parse_create_basin(input)) {
        check_basin_config(&request.config);
    }
    if let Some(request) = checked(parse_ensure_basin(input)) {
        check_basin_config(&request.config);
    }
    if let Some(request) = checked(parse_create_stream(input)) {
        check_stream_config(&request.config);
    }
    if let Some(config) = checked(parse_ensure_stream(input)) {
        check_stream_config(&config);
    }
    if let Some(change) = checked(parse_basin_reconfiguration(input)) {
        let mut config = BasinConfig::default();
        change.apply(&mut config);
        check_basin_config(&config);
    }
    if let Some(change) = checked(parse_stream_reconfiguration(input)) {
        let mut config = StreamConfig::default();
        change.apply(&mut config);
        check_stream_config(&config);
    }
    if let Some(config) = std::str::from_utf8(input).ok().and_then(|text| checked(stream_config_header(text))) {
        check_stream_config(&config);
    }
    if let Ok(resources) = parse_resources(input) {
        for basin in &resources.basins {
            check_basin_config(&basin.config);
            basin.streams.iter().for_each(|stream| check_stream_config(&stream.config));
        }
    }
}

/// What was decoded; else the error must be one that a client can be told.
fn checked<T>(decoded: Result<T, ApiError>) -> Option<T> {
    decoded
        .map_err(|error| {
            assert!(matches!(error.status(), 400 | 422), "what a client sent is the client's fault: {error:?}");
            serde_json::from_str::<serde_json::Value>(&error.body_json()).expect("what we write is JSON");
        })
        .ok()
}

fn check_stream_config(config: &StreamConfig) {
    assert_eq!(parse_ensure_stream(stream_config(config).as_bytes()).as_ref(), Ok(config));
    let resolved = config.resolve(&StreamConfig::default());
    assert_eq!(resolved.to_config().resolve(&StreamConfig::default()), resolved);
}

fn check_basin_config(config: &BasinConfig) {
    let body = format!(r#"{{"config":{}}}"#, basin_config(config));
    assert_eq!(parse_ensure_basin(body.as_bytes()).map(|request| request.config).as_ref(), Ok(config));
}
