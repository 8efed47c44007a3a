//! The limits of a token, a basin or a stream as a setting: `appends-per-second=200, bytes-per-second=100MiB, sessions=50`.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

use super::bucket::Rate;
use crate::size::ByteSize;

/// What one name may do. Every limit is off unless it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct NameLimits {
    /// Batches per second; 0: no limit.
    appends_per_second: u64,
    /// Metered bytes of batches per second; 0: no limit.
    bytes_per_second: u64,
    /// How much of both may come at once, as the time in which it flows in.
    burst_ms: u64,
    /// Open append, read and SSE sessions; 0: no limit.
    sessions: u64,
}

impl NameLimits {
    /// No limit of any kind.
    #[must_use]
    pub(crate) const fn off() -> Self {
        Self { appends_per_second: 0, bytes_per_second: 0, burst_ms: BURST_MS, sessions: 0 }
    }

    /// Batches, if they are limited.
    #[must_use]
    pub(crate) fn appends(&self) -> Option<Rate> {
        (self.appends_per_second > 0).then(|| Rate::new(self.appends_per_second, self.burst_ms))
    }

    /// Metered bytes, if they are limited.
    #[must_use]
    pub(crate) fn bytes(&self) -> Option<Rate> {
        (self.bytes_per_second > 0).then(|| Rate::new(self.bytes_per_second, self.burst_ms))
    }

    /// Sessions, if they are limited.
    #[must_use]
    pub(crate) fn sessions(&self) -> Option<u64> {
        (self.sessions > 0).then_some(self.sessions)
    }

    /// Whether anything is limited.
    #[must_use]
    pub(crate) const fn is_off(&self) -> bool {
        self.appends_per_second == 0 && self.bytes_per_second == 0 && self.sessions == 0
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let (field, max) = match key {
            "appends-per-second" => (&mut self.appends_per_second, RATE_MAX),
            "bytes-per-second" => {
                let size: ByteSize = value.parse().map_err(|why| format!("{key}: {why}"))?;
                self.bytes_per_second = at_most(key, size.0, RATE_MAX)?;
                return Ok(());
            }
            "burst-ms" => (&mut self.burst_ms, BURST_MS_MAX),
            "sessions" => (&mut self.sessions, RATE_MAX),
            _ => return Err(format!("`{key}` is no limit: there are {KEYS}")),
        };
        let number = value.parse().map_err(|_| format!("{key} is `{value}`, and must be a whole number"))?;
        *field = at_most(key, number, max)?;
        Ok(())
    }
}

fn at_most(key: &str, number: u64, max: u64) -> Result<u64, String> {
    if number > max { Err(format!("{key} is {number}, and must be at most {max}")) } else { Ok(number) }
}

impl FromStr for NameLimits {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut limits = Self::off();
        let mut seen = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (key, value) = part
                .split_once('=')
                .map(|(key, value)| (key.trim(), value.trim()))
                .ok_or_else(|| format!("`{part}` must be a limit and its value, like `appends-per-second=200`"))?;
            if seen.contains(&key) {
                return Err(format!("{key} is given twice: leave one of them out"));
            }
            limits.set(key, value)?;
            seen.push(key);
        }
        if limits.burst_ms == 0 {
            return Err("burst-ms is 0, and must be at least 1: leave it out for one second".to_owned());
        }
        if seen.contains(&"burst-ms") && limits.appends_per_second == 0 && limits.bytes_per_second == 0 {
            return Err("burst-ms says how much of a rate may come at once: give appends-per-second or \
                        bytes-per-second, or leave it out"
                .to_owned());
        }
        Ok(limits)
    }
}

impl TryFrom<String> for NameLimits {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// As it is read; nothing where nothing is limited.
impl fmt::Display for NameLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if self.appends_per_second > 0 {
            parts.push(format!("appends-per-second={}", self.appends_per_second));
        }
        if self.bytes_per_second > 0 {
            parts.push(format!("bytes-per-second={}", ByteSize(self.bytes_per_second)));
        }
        if self.burst_ms != BURST_MS {
            parts.push(format!("burst-ms={}", self.burst_ms));
        }
        if self.sessions > 0 {
            parts.push(format!("sessions={}", self.sessions));
        }
        f.write_str(&parts.join(", "))
    }
}

const KEYS: &str = "appends-per-second, bytes-per-second, burst-ms and sessions";
/// A second's worth at once, unless something else is said.
const BURST_MS: u64 = 1000;
/// An hour: more would hardly be a limit.
const BURST_MS_MAX: u64 = 3_600_000;
/// A trillion of anything: what is beyond is a slip of the pen.
const RATE_MAX: u64 = 1 << 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_written_and_written_as_read() {
        for (text, shown) in [
            ("", ""),
            ("appends-per-second=0", ""),
            ("appends-per-second=200", "appends-per-second=200"),
            (" bytes-per-second = 100 MiB ,", "bytes-per-second=100MiB"),
            ("sessions=5, burst-ms=1000,appends-per-second=1", "appends-per-second=1, sessions=5"),
            ("bytes-per-second=1000,burst-ms=50", "bytes-per-second=1000B, burst-ms=50"),
        ] {
            let limits: NameLimits = text.parse().expect(text);
            assert_eq!(limits.to_string(), shown);
            assert_eq!(shown.parse(), Ok(limits), "{text}");
            assert_eq!(limits.is_off(), shown.is_empty(), "{text}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_to_do() {
        for (text, why) in [
            ("200", "like `appends-per-second=200`"),
            ("appends=200", "there are appends-per-second, bytes-per-second, burst-ms and sessions"),
            ("appends-per-second=-1", "must be a whole number"),
            ("appends-per-second=1.5", "must be a whole number"),
            ("appends-per-second=2000000000000", "must be at most"),
            ("bytes-per-second=fast", "write a whole number with B, KiB"),
            ("bytes-per-second=2TiB", "must be at most"),
            ("sessions=1,sessions=2", "given twice"),
            ("appends-per-second=1,burst-ms=0", "at least 1"),
            ("sessions=1,burst-ms=5", "give appends-per-second or bytes-per-second"),
        ] {
            let error = text.parse::<NameLimits>().expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
