//! The root token as a setting: checked where it is read, and never shown.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::Deserialize;

/// A root token, or none.
#[derive(Clone, Default, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct RootToken(Option<String>);

impl RootToken {
    /// None.
    #[must_use]
    pub(crate) const fn none() -> Self {
        Self(None)
    }

    /// Its text.
    #[must_use]
    pub(crate) fn get(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// Whether there is one.
    #[must_use]
    pub(crate) const fn is_some(&self) -> bool {
        self.0.is_some()
    }

    /// Takes it from a file, if one is named.
    ///
    /// # Errors
    /// When it cannot be read, holds no root token, or there is one already. The text is for the operator.
    pub(crate) fn read_from(&mut self, file: &Path) -> Result<(), String> {
        if file.as_os_str().is_empty() {
            return Ok(());
        }
        if self.is_some() {
            return Err("there are both a root-token and a root-token-file: leave one of them out".to_owned());
        }
        let text = std::fs::read_to_string(file)
            .map_err(|e| format!("cannot read the root token in {}: {e}", file.display()))?;
        *self = text.trim().parse().map_err(|why| format!("the root token in {}: {why}", file.display()))?;
        Ok(())
    }
}

impl FromStr for RootToken {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        let is_valid = (16..=512).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if is_valid { Ok(Self(Some(text.to_owned()))) } else { Err("must be 16 to 512 visible ASCII characters") }
    }
}

impl TryFrom<String> for RootToken {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl fmt::Debug for RootToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_some() { "RootToken(***)" } else { "RootToken(none)" })
    }
}
