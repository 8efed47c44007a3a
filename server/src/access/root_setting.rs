//! The root token as a setting: checked where it is read, and never shown.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::Deserialize;

/// A root token, or none.
#[derive(Clone, Default, Deserialize)]
#[serde(from = "String")]
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

    /// Takes it from a file, if one is named, and refuses what is none.
    ///
    /// # Errors
    /// When the file cannot be read, there is one already, or it is none. The text is for the operator, without the token.
    pub(crate) fn read(&mut self, file: &Path) -> Result<(), String> {
        if !file.as_os_str().is_empty() {
            if self.is_some() {
                return Err("there are both a root-token and a root-token-file: leave one of them out".to_owned());
            }
            let text = std::fs::read_to_string(file)
                .map_err(|e| format!("cannot read the root token in {}: {e}", file.display()))?;
            // An empty file is no wish for a server without one.
            self.0 = Some(text.trim().to_owned());
        }
        let is_valid =
            |token: &str| ROOT_TOKEN_BYTES.contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic());
        match self.get() {
            Some(token) if !is_valid(token) => {
                Err("the root token must be 16 to 512 visible ASCII characters".to_owned())
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// Takes any text: an error of the flags or of the file would show it. [`RootToken::read`] looks at it.
impl FromStr for RootToken {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(text.to_owned().into())
    }
}

impl From<String> for RootToken {
    fn from(text: String) -> Self {
        Self((!text.is_empty()).then_some(text))
    }
}

impl fmt::Debug for RootToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_some() { "RootToken(***)" } else { "RootToken(none)" })
    }
}

/// Shortest and longest root token.
const ROOT_TOKEN_BYTES: std::ops::RangeInclusive<usize> = 16..=512;
