//! Names and tokens that clients choose (s2-wire.md 1.12).

use std::fmt;
use std::sync::Arc;

use crate::limits::{BASIN_NAME_BYTES, FENCING_TOKEN_BYTES_MAX, STREAM_NAME_BYTES_MAX, TOKEN_ID_BYTES_MAX};

/// Why a name was refused; the text is what the client sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidName(pub &'static str);

impl fmt::Display for InvalidName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for InvalidName {}

macro_rules! shown_as_text {
    ($name:ident) => {
        impl $name {
            /// The name as given.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

/// 8-48 bytes of `[a-z0-9-]` that start and end with a letter or digit.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BasinName(Arc<str>);
shown_as_text!(BasinName);

impl TryFrom<&str> for BasinName {
    type Error = InvalidName;

    fn try_from(name: &str) -> Result<Self, InvalidName> {
        if !BASIN_NAME_BYTES.contains(&name.len()) {
            return Err(InvalidName("basin name must be between 8 and 48 bytes in length"));
        }
        let ends_well = |b: Option<&u8>| b.is_some_and(|b| is_alphanumeric(*b));
        let bytes = name.as_bytes();
        if !bytes.iter().all(|b| is_alphanumeric(*b) || *b == b'-') {
            return Err(InvalidName("basin name must comprise lowercase letters, numbers, and hyphens"));
        }
        if !ends_well(bytes.first()) || !ends_well(bytes.last()) {
            return Err(InvalidName("basin name must begin and end with a lowercase letter or number"));
        }
        Ok(Self(name.into()))
    }
}

const fn is_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

/// 1-512 bytes of UTF-8 without NUL, and neither `.` nor `..`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamName(Arc<str>);
shown_as_text!(StreamName);

impl TryFrom<&str> for StreamName {
    type Error = InvalidName;

    fn try_from(name: &str) -> Result<Self, InvalidName> {
        if name.is_empty() {
            return Err(InvalidName("stream name must not be empty"));
        }
        if name.len() > STREAM_NAME_BYTES_MAX {
            return Err(InvalidName("stream name must not exceed 512 bytes in length"));
        }
        if name == "." || name == ".." {
            return Err(InvalidName("stream name must not be \".\" or \"..\""));
        }
        if name.bytes().any(|b| b == 0) {
            return Err(InvalidName("stream name must not contain NUL bytes"));
        }
        Ok(Self(name.into()))
    }
}

/// The beginning of a name, for listings: may be empty, need not be a whole name (s2-wire.md 1.3).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamePrefix(Arc<str>);
shown_as_text!(NamePrefix);

impl NamePrefix {
    /// The prefix of every name.
    #[must_use]
    pub fn empty() -> Self {
        Self("".into())
    }

    /// A prefix of basin names: at most 48 bytes, may end with a hyphen.
    ///
    /// # Errors
    /// When no basin name could begin so.
    pub fn of_basin(prefix: &str) -> Result<Self, InvalidName> {
        if prefix.len() > *BASIN_NAME_BYTES.end() {
            return Err(InvalidName("basin name prefix must not exceed 48 bytes in length"));
        }
        let bytes = prefix.as_bytes();
        if !bytes.iter().all(|b| is_alphanumeric(*b) || *b == b'-') {
            return Err(InvalidName("basin name prefix must comprise lowercase letters, numbers, and hyphens"));
        }
        if bytes.first().is_some_and(|b| !is_alphanumeric(*b)) {
            return Err(InvalidName("basin name prefix must begin with a lowercase letter or number"));
        }
        Ok(Self(prefix.into()))
    }

    /// A prefix of ids of access tokens: at most 96 bytes, no NUL.
    ///
    /// # Errors
    /// When no id could begin so.
    pub fn of_token(prefix: &str) -> Result<Self, InvalidName> {
        if prefix.len() > TOKEN_ID_BYTES_MAX {
            return Err(InvalidName("access token ID prefix must not exceed 96 bytes in length"));
        }
        if prefix.bytes().any(|b| b == 0) {
            return Err(InvalidName("access token ID prefix must not contain NUL bytes"));
        }
        Ok(Self(prefix.into()))
    }

    /// A prefix of stream names: at most 512 bytes, no NUL.
    ///
    /// # Errors
    /// When no stream name could begin so.
    pub fn of_stream(prefix: &str) -> Result<Self, InvalidName> {
        if prefix.len() > STREAM_NAME_BYTES_MAX {
            return Err(InvalidName("stream name prefix must not exceed 512 bytes in length"));
        }
        if prefix.bytes().any(|b| b == 0) {
            return Err(InvalidName("stream name prefix must not contain NUL bytes"));
        }
        Ok(Self(prefix.into()))
    }
}

/// 0-36 bytes of UTF-8 that guard a stream; the empty token is the one a new stream has (s2-wire.md 4.3-4.4).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FencingToken(Arc<str>);
shown_as_text!(FencingToken);

impl FencingToken {
    /// The token of a stream that was never fenced.
    #[must_use]
    pub fn empty() -> Self {
        Self("".into())
    }
}

impl TryFrom<&str> for FencingToken {
    type Error = InvalidName;

    fn try_from(token: &str) -> Result<Self, InvalidName> {
        if token.len() > FENCING_TOKEN_BYTES_MAX {
            return Err(InvalidName("fencing token must not exceed 36 bytes in length"));
        }
        Ok(Self(token.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basin_names_keep_their_alphabet_and_length() {
        for good in ["abcdefgh", "a-b-c-d-1", &"a".repeat(48)] {
            assert!(BasinName::try_from(good).is_ok(), "{good}");
        }
        for bad in ["", "short", "-abcdefgh", "abcdefgh-", "Abcdefgh", "abc_defgh", &"a".repeat(49), "abcdéfgh"] {
            assert!(BasinName::try_from(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn stream_names_are_almost_anything() {
        for good in ["a", "a/b c", "\u{1}", "日本", "...", &"x".repeat(512)] {
            assert!(StreamName::try_from(good).is_ok(), "{good:?}");
        }
        for bad in ["", ".", "..", "a\0b", &"x".repeat(513)] {
            assert!(StreamName::try_from(bad).is_err(), "{bad:?}");
        }
    }
}
