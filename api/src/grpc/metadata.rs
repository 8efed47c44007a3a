//! Headers that only gRPC has: encodings, and the time that a client gives.

use std::time::Duration;

use crate::compression::Compression;
use crate::status::{ApiError, Code};

/// What `grpc-accept-encoding` of an answer says.
pub const ACCEPT_ENCODING: &str = "identity,gzip,zstd";

/// How the messages of a request are compressed, by `grpc-encoding`.
///
/// # Errors
/// 501 `not_implemented` for a coding that we do not have.
pub fn encoding(header: Option<&str>) -> Result<Compression, ApiError> {
    match header.map(str::trim) {
        None | Some("identity" | "") => Ok(Compression::None),
        Some("gzip") => Ok(Compression::Gzip),
        Some("zstd") => Ok(Compression::Zstd),
        Some(_) => {
            Err(ApiError::new(Code::NotImplemented, format!("grpc-encoding: only {ACCEPT_ENCODING} are understood")))
        }
    }
}

/// How messages of an answer are compressed where that pays, by `grpc-accept-encoding`: zstd before gzip.
#[must_use]
pub fn accepted(header: Option<&str>) -> Compression {
    let accepts = |coding: &str| header.is_some_and(|header| header.split(',').any(|given| given.trim() == coding));
    if accepts("zstd") {
        Compression::Zstd
    } else if accepts("gzip") {
        Compression::Gzip
    } else {
        Compression::None
    }
}

/// The time that `grpc-timeout` gives: at most eight digits and a unit.
///
/// # Errors
/// 400 `bad_header`.
pub fn timeout(header: Option<&str>) -> Result<Option<Duration>, ApiError> {
    let Some(header) = header else { return Ok(None) };
    let bad =
        || ApiError::new(Code::BadHeader, "Invalid header `grpc-timeout`: expected up to 8 digits and one of HMSmun");
    let (unit_at, unit) = header.char_indices().next_back().ok_or_else(bad)?;
    let digits = &header[..unit_at];
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(bad());
    }
    let count: u64 = digits.parse().map_err(|_| bad())?;
    Ok(Some(match unit {
        'H' => Duration::from_secs(count * 3600),
        'M' => Duration::from_secs(count * 60),
        'S' => Duration::from_secs(count),
        'm' => Duration::from_millis(count),
        'u' => Duration::from_micros(count),
        'n' => Duration::from_nanos(count),
        _ => return Err(bad()),
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn encodings_are_found() {
        assert_eq!(encoding(None), Ok(Compression::None));
        assert_eq!(encoding(Some("gzip")), Ok(Compression::Gzip));
        assert_eq!(encoding(Some("deflate")).map_err(|e| e.status()), Err(501));
        for (header, coding) in [
            (None, Compression::None),
            (Some("identity,deflate"), Compression::None),
            (Some("identity, deflate, gzip"), Compression::Gzip),
            (Some("gzip,zstd"), Compression::Zstd),
        ] {
            assert_eq!(accepted(header), coding, "{header:?}");
        }
    }

    #[test]
    fn timeouts_have_their_units() {
        for (header, time) in [
            ("1H", Duration::from_secs(3600)),
            ("2M", Duration::from_secs(120)),
            ("99999999S", Duration::from_secs(99_999_999)),
            ("5m", Duration::from_millis(5)),
            ("5u", Duration::from_micros(5)),
            ("0n", Duration::ZERO),
        ] {
            assert_eq!(timeout(Some(header)), Ok(Some(time)), "{header}");
        }
        for header in ["", "S", "5", "5s", "123456789S", "-1S", "+1S", "5é", "1 S"] {
            assert!(timeout(Some(header)).is_err(), "{header}");
        }
        assert_eq!(timeout(None), Ok(None));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(header in ".{0,12}") {
            let _ = (timeout(Some(&header)), encoding(Some(&header)), accepted(Some(&header)));
        }
    }
}
