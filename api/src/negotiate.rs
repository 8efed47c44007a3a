//! Which kind of request this is and how it wants its answer, from header values (s2-wire.md 1.4, 1.5, 1.11).
//!
//! Only the first media type of a list counts; what cannot be parsed counts as absent.

use crate::compression::{COMPRESSED_BYTES_MIN, Compression};
use crate::status::{ApiError, Code};

/// How names, values and bodies stand in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// As text; what is not UTF-8 is shown as U+FFFD.
    #[default]
    Raw,
    /// In base64.
    Base64,
}

/// How a unary body is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// `application/json`
    Json,
    /// `application/protobuf`
    Proto,
}

/// What GET records asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadKind {
    /// A session of frames.
    S2s,
    /// Server-sent events.
    Sse,
    /// One answer.
    Unary(Wire),
}

/// What POST records brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendKind {
    /// A session of frames.
    S2s,
    /// One batch.
    Unary {
        /// Encoding of the request.
        input: Wire,
        /// Encoding of the answer.
        output: Wire,
    },
}

impl Wire {
    /// The `content-type` of an answer.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Proto => "application/protobuf",
        }
    }
}

/// The `s2-format` header.
///
/// # Errors
/// 400 `bad_header`.
pub fn format(header: Option<&str>) -> Result<Format, ApiError> {
    match header.map(str::trim) {
        None | Some("raw" | "json") => Ok(Format::Raw),
        Some("base64" | "json-binsafe") => Ok(Format::Base64),
        Some(_) => Err(ApiError::new(Code::BadHeader, "Invalid header `s2-format`: expected `raw` or `base64`")),
    }
}

/// What GET records asks for, by `content-type` and `accept`.
#[must_use]
pub fn read_kind(content_type: Option<&str>, accept: Option<&str>) -> ReadKind {
    if media_type(content_type) == MediaType::S2s {
        return ReadKind::S2s;
    }
    match media_type(accept) {
        MediaType::EventStream => ReadKind::Sse,
        MediaType::Proto => ReadKind::Unary(Wire::Proto),
        MediaType::Json | MediaType::S2s | MediaType::Other => ReadKind::Unary(Wire::Json),
    }
}

/// What POST records brings, by `content-type` and `accept`.
///
/// # Errors
/// 400 `bad_json` when the content type is missing or none of ours.
pub fn append_kind(content_type: Option<&str>, accept: Option<&str>) -> Result<AppendKind, ApiError> {
    let input = match media_type(content_type) {
        MediaType::S2s => return Ok(AppendKind::S2s),
        MediaType::Proto => Wire::Proto,
        MediaType::Json => Wire::Json,
        MediaType::EventStream | MediaType::Other => return Err(json_expected()),
    };
    let output = match media_type(accept) {
        MediaType::Proto => Wire::Proto,
        MediaType::Json | MediaType::S2s | MediaType::EventStream | MediaType::Other => Wire::Json,
    };
    Ok(AppendKind::Unary { input, output })
}

/// Checks the content type of a control-plane body that must be there (POST, PATCH).
///
/// # Errors
/// 400 `bad_json` unless it is JSON.
pub fn required_json<'a>(content_type: Option<&str>, body: &'a [u8]) -> Result<&'a [u8], ApiError> {
    match media_type(content_type) {
        MediaType::Json => Ok(body),
        MediaType::Proto | MediaType::S2s | MediaType::EventStream | MediaType::Other => Err(json_expected()),
    }
}

/// The control-plane body of a PUT: empty when no content type was given, whatever the bytes.
///
/// # Errors
/// 400 `bad_json` when another content type than JSON was given.
pub fn optional_json<'a>(content_type: Option<&str>, body: &'a [u8]) -> Result<&'a [u8], ApiError> {
    match content_type {
        None => Ok(&[]),
        Some(_) => required_json(content_type, body),
    }
}

/// Compression of a session's frames, by `accept-encoding`: any zstd, else any gzip, but for those with `q=0`.
#[must_use]
pub fn session_compression(accept_encoding: Option<&str>) -> Compression {
    let accepts = |name: &str| codings(accept_encoding).any(|(coding, q)| coding.eq_ignore_ascii_case(name) && q > 0);
    if accepts("zstd") {
        Compression::Zstd
    } else if accepts("gzip") {
        Compression::Gzip
    } else {
        Compression::None
    }
}

/// Compression of a unary answer of `body_len` bytes, by `accept-encoding`: the coding liked best, zstd on a tie.
#[must_use]
pub fn unary_compression(accept_encoding: Option<&str>, body_len: usize) -> Compression {
    if body_len <= COMPRESSED_BYTES_MIN {
        return Compression::None;
    }
    let liking = |name: &str| {
        codings(accept_encoding)
            .filter(|(coding, _)| coding.eq_ignore_ascii_case(name))
            .map(|(_, q)| q)
            .max()
            .unwrap_or(0)
    };
    let (zstd, gzip) = (liking("zstd"), liking("gzip"));
    if zstd == 0 && gzip == 0 {
        Compression::None
    } else if zstd >= gzip {
        Compression::Zstd
    } else {
        Compression::Gzip
    }
}

/// Compression of a unary request, by `content-encoding`.
///
/// # Errors
/// 400 `bad_header` for a coding we do not know.
pub fn content_encoding(header: Option<&str>) -> Result<Compression, ApiError> {
    let coding = header.unwrap_or_default().trim();
    for (name, compression) in [
        ("", Compression::None),
        ("identity", Compression::None),
        ("zstd", Compression::Zstd),
        ("gzip", Compression::Gzip),
    ] {
        if coding.eq_ignore_ascii_case(name) {
            return Ok(compression);
        }
    }
    Err(ApiError::new(Code::BadHeader, "Invalid header `content-encoding`: expected `gzip` or `zstd`"))
}

/// The media types that mean something to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MediaType {
    S2s,
    EventStream,
    Json,
    Proto,
    Other,
}

fn media_type(header: Option<&str>) -> MediaType {
    let first = header.unwrap_or_default().split([',', ';']).next().unwrap_or_default().trim();
    let is = |name: &str| first.eq_ignore_ascii_case(name);
    if is("s2s/proto") {
        MediaType::S2s
    } else if is("text/event-stream") {
        MediaType::EventStream
    } else if is("application/protobuf") || is("application/x-protobuf") {
        MediaType::Proto
    } else if is("application/json") || is_json_suffixed(first) {
        MediaType::Json
    } else {
        MediaType::Other
    }
}

/// Whether this is `application/*+json`.
fn is_json_suffixed(media_type: &str) -> bool {
    let lower = media_type.to_ascii_lowercase();
    lower.strip_prefix("application/").and_then(|subtype| subtype.strip_suffix("+json")).is_some_and(|s| !s.is_empty())
}

fn json_expected() -> ApiError {
    ApiError::new(Code::BadJson, "Expected request with `Content-Type: application/json`")
}

/// (coding, q in thousandths) of an `accept-encoding` list; a q that cannot be parsed counts as 1.
fn codings(header: Option<&str>) -> impl Iterator<Item = (&str, u32)> {
    header.unwrap_or_default().split(',').map(|item| {
        let mut parts = item.split(';').map(str::trim);
        let coding = parts.next().unwrap_or_default();
        let q = parts.find_map(|p| p.strip_prefix("q=").or_else(|| p.strip_prefix("Q="))).map_or(1000, thousandths);
        (coding, q)
    })
}

/// `0.25` as 250: a digit, a point and at most three digits, as RFC 9110 says; anything else counts as 1.
fn thousandths(q: &str) -> u32 {
    let (whole, fraction) = q.split_once('.').unwrap_or((q, ""));
    let is_number = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    match whole {
        "0" if fraction.len() <= 3 && is_number(fraction) => format!("{fraction:0<3}").parse().unwrap_or(1000),
        _ => 1000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn get_records_is_what_the_spec_says() {
        let rows: [(Option<&str>, Option<&str>, ReadKind); 11] = [
            (None, None, ReadKind::Unary(Wire::Json)),
            (Some("S2S/proto"), Some("text/event-stream"), ReadKind::S2s),
            (Some("s2s/proto; v=1"), Some("application/protobuf"), ReadKind::S2s),
            (None, Some("text/event-stream"), ReadKind::Sse),
            (None, Some("application/json, text/event-stream"), ReadKind::Unary(Wire::Json)),
            (None, Some("text/event-stream;q=0.5, application/json"), ReadKind::Sse),
            (None, Some("application/vnd.x+json"), ReadKind::Unary(Wire::Json)),
            (None, Some("*/*"), ReadKind::Unary(Wire::Json)),
            (None, Some("application/x-protobuf"), ReadKind::Unary(Wire::Proto)),
            (Some("application/json"), Some("application/protobuf"), ReadKind::Unary(Wire::Proto)),
            (None, Some("éé"), ReadKind::Unary(Wire::Json)),
        ];
        for (content_type, accept, kind) in rows {
            assert_eq!(read_kind(content_type, accept), kind, "{content_type:?} {accept:?}");
        }
    }

    #[test]
    fn post_records_is_what_the_spec_says() {
        let unary = |input, output| Ok(AppendKind::Unary { input, output });
        let rows = [
            (Some("s2s/proto"), Some("s2s/proto"), Ok(AppendKind::S2s)),
            (Some("application/x-protobuf"), None, unary(Wire::Proto, Wire::Json)),
            (Some("application/json; charset=utf-8"), Some("application/protobuf"), unary(Wire::Json, Wire::Proto)),
            (Some("application/a+JSON"), Some("text/event-stream"), unary(Wire::Json, Wire::Json)),
            (Some("application/+json"), None, Err(400)),
            (Some("text/plain"), None, Err(400)),
            (None, None, Err(400)),
        ];
        for (content_type, accept, kind) in rows {
            assert_eq!(append_kind(content_type, accept).map_err(|e| e.status()), kind, "{content_type:?} {accept:?}");
        }
    }

    #[test]
    fn a_put_without_content_type_has_no_body() {
        assert_eq!(optional_json(None, b"{}"), Ok(&b""[..]));
        assert_eq!(optional_json(Some("application/json"), b"{}"), Ok(&b"{}"[..]));
        assert_eq!(optional_json(Some("text/plain"), b"{}"), Err(json_expected()));
        assert_eq!(required_json(None, b"{}"), Err(json_expected()));
    }

    #[test]
    fn formats_have_aliases() {
        for (header, expected) in [
            (None, Ok(Format::Raw)),
            (Some(" raw "), Ok(Format::Raw)),
            (Some("json"), Ok(Format::Raw)),
            (Some("base64"), Ok(Format::Base64)),
            (Some("json-binsafe"), Ok(Format::Base64)),
            (Some("RAW"), Err(Some(Code::BadHeader))),
        ] {
            assert_eq!(format(header).map_err(|e| e.code()), expected, "{header:?}");
        }
    }

    #[test]
    fn sessions_prefer_zstd_and_skip_what_has_no_weight() {
        for (header, expected) in [
            (None, Compression::None),
            (Some("gzip, zstd;q=0.1"), Compression::Zstd),
            (Some("zstd;q=0, gzip"), Compression::Gzip),
            (Some("zstd; q=0.000, GZIP;q=0.0"), Compression::None),
            (Some("br, deflate, *"), Compression::None),
            (Some("zstd;q=é"), Compression::Zstd),
        ] {
            assert_eq!(session_compression(header), expected, "{header:?}");
        }
    }

    #[test]
    fn large_unary_answers_get_the_coding_liked_best() {
        for (header, len, expected) in [
            (Some("gzip, zstd"), 1024, Compression::None),
            (Some("gzip, zstd"), 1025, Compression::Zstd),
            (Some("gzip, zstd;q=0.9"), 1025, Compression::Gzip),
            (Some("gzip;q=0"), 1025, Compression::None),
            (None, 1025, Compression::None),
        ] {
            assert_eq!(unary_compression(header, len), expected, "{header:?}");
        }
    }

    #[test]
    fn unknown_content_encodings_are_refused() {
        assert_eq!(content_encoding(Some("GZIP")), Ok(Compression::Gzip));
        assert_eq!(content_encoding(None), Ok(Compression::None));
        assert!(content_encoding(Some("br")).is_err());
    }
}
