//! Leases on streams: who holds one, and for how long it may be asked for.

use std::fmt;
use std::ops::RangeInclusive;

/// What whoever holds a lease calls itself: 1 to 64 bytes without control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseHolder(Box<str>);

impl LeaseHolder {
    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&str> for LeaseHolder {
    type Error = InvalidLease;

    fn try_from(text: &str) -> Result<Self, InvalidLease> {
        if (1..=HOLDER_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidLease("a lease's holder must be 1 to 64 bytes of text without control characters"))
        }
    }
}

/// How long a lease holds without being renewed, in milliseconds: a second to an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseDuration(u32);

impl LeaseDuration {
    /// Milliseconds.
    #[must_use]
    pub const fn as_ms(self) -> u32 {
        self.0
    }
}

impl TryFrom<u64> for LeaseDuration {
    type Error = InvalidLease;

    fn try_from(ms: u64) -> Result<Self, InvalidLease> {
        let error = InvalidLease("a lease's duration must be 1000 to 3600000 ms");
        if !DURATION_MS.contains(&ms) {
            return Err(error);
        }
        u32::try_from(ms).map(Self).map_err(|_| error)
    }
}

/// What is wrong with a request for a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidLease(&'static str);

impl fmt::Display for InvalidLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for InvalidLease {}

const HOLDER_BYTES_MAX: usize = 64;
const DURATION_MS: RangeInclusive<u64> = 1000..=3_600_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_hold() {
        let long = "x".repeat(65);
        for (holder, ok) in
            [("w", true), (&long[..64], true), ("é", true), ("", false), (&long, false), ("a\nb", false)]
        {
            assert_eq!(LeaseHolder::try_from(holder).is_ok(), ok, "{holder:?}");
        }
        for (ms, ok) in
            [(999, false), (1000, true), (3_600_000, true), (3_600_001, false), (u64::MAX, false), (0, false)]
        {
            assert_eq!(LeaseDuration::try_from(ms).map(|d| u64::from(d.as_ms())).ok(), ok.then_some(ms));
        }
    }
}
