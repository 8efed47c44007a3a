//! Access tokens: what one may do, to what, and until when (s2-wire.md 1.13). Decides; keeps no secret, only its hash.

use std::fmt;
use std::sync::Arc;

use crate::limits::{BASIN_NAME_BYTES, STREAM_NAME_BYTES_MAX, TOKEN_ID_BYTES_MAX};
use crate::name::{BasinName, InvalidName, NamePrefix, StreamName};

pub use crate::operation::{OpGroups, Operation, Operations, ReadWrite};

/// 1-96 bytes of UTF-8 without NUL, and neither `.` nor `..`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(Arc<str>);

impl TokenId {
    /// The id as given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl std::borrow::Borrow<str> for TokenId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&str> for TokenId {
    type Error = InvalidName;

    fn try_from(id: &str) -> Result<Self, InvalidName> {
        if id.is_empty() {
            return Err(InvalidName("access token ID must not be empty"));
        }
        if id.len() > TOKEN_ID_BYTES_MAX {
            return Err(InvalidName("access token ID must not exceed 96 bytes in length"));
        }
        if id == "." || id == ".." {
            return Err(InvalidName("access token ID must not be \".\" or \"..\""));
        }
        if id.bytes().any(|b| b == 0) {
            return Err(InvalidName("access token ID must not contain NUL bytes"));
        }
        Ok(Self(id.into()))
    }
}

/// SHA-256 of a token's secret. The secret has 256 random bits, so the hash needs no salt and tells nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretHash(pub [u8; 32]);

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(..)")
    }
}

/// Names that a token may use. Where a scope has none, no name is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResourceSet {
    /// This name; the empty one is nobody's, so it stands for nothing.
    Exact(Arc<str>),
    /// All names that begin so; the empty one stands for everything.
    Prefix(Arc<str>),
}

impl ResourceSet {
    /// Every name.
    #[must_use]
    pub fn all() -> Self {
        Self::Prefix("".into())
    }

    /// Whether the name is in it.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        match self {
            Self::Exact(exact) => !exact.is_empty() && **exact == *name,
            Self::Prefix(prefix) => name.starts_with(&**prefix),
        }
    }

    /// Whether every name in it is in `other`, too.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(name), _) => name.is_empty() || other.has(name),
            (Self::Prefix(ours), Self::Prefix(theirs)) => ours.starts_with(&**theirs),
            // A prefix has names without number; even one that fills a whole name is not taken for that name.
            (Self::Prefix(_), Self::Exact(_)) => false,
        }
    }

    /// Checked as names of basins.
    ///
    /// # Errors
    /// When no basin could have such a name.
    pub fn of_basins(self) -> Result<Self, InvalidName> {
        match &self {
            Self::Exact(name) if name.is_empty() => {}
            Self::Exact(name) => drop(BasinName::try_from(&**name)?),
            Self::Prefix(prefix) => drop(NamePrefix::of_basin(prefix)?),
        }
        Ok(self)
    }

    /// Checked as names of streams.
    ///
    /// # Errors
    /// When no stream could have such a name.
    pub fn of_streams(self) -> Result<Self, InvalidName> {
        match &self {
            Self::Exact(name) if name.is_empty() => {}
            Self::Exact(name) => drop(StreamName::try_from(&**name)?),
            Self::Prefix(prefix) => drop(NamePrefix::of_stream(prefix)?),
        }
        Ok(self)
    }

    /// Checked as ids of access tokens.
    ///
    /// # Errors
    /// When no token could have such an id.
    pub fn of_tokens(self) -> Result<Self, InvalidName> {
        match &self {
            Self::Exact(id) if id.is_empty() => {}
            Self::Exact(id) => drop(TokenId::try_from(&**id)?),
            Self::Prefix(prefix) => drop(NamePrefix::of_token(prefix)?),
        }
        Ok(self)
    }
}

/// What a token may do, and to what.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scope {
    /// Basins.
    pub basins: Option<ResourceSet>,
    /// Streams, by their whole names, in each of those basins.
    pub streams: Option<ResourceSet>,
    /// Access tokens.
    pub access_tokens: Option<ResourceSet>,
    /// Operations by group.
    pub op_groups: OpGroups,
    /// Operations one by one, beside those of the groups.
    pub ops: Operations,
}

/// Why a token is not issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScopeError {
    /// It makes no sense, whoever asks: 422. The text is what the client sees.
    Invalid(&'static str),
    /// It is more than the issuer has: 403. The text is what the client sees.
    Exceeds(&'static str),
}

impl Scope {
    /// Everything.
    #[must_use]
    pub fn all() -> Self {
        Self {
            basins: Some(ResourceSet::all()),
            streams: Some(ResourceSet::all()),
            access_tokens: Some(ResourceSet::all()),
            op_groups: OpGroups::ALL,
            ops: Operations::NONE,
        }
    }

    /// All operations that it permits on something.
    #[must_use]
    pub const fn operations(&self) -> Operations {
        self.op_groups.operations().union(self.ops)
    }

    /// Whether `operation` is permitted on what is named. What a listing shows is filtered by [`Scope::shows_basin`] and
    /// its like instead.
    #[must_use]
    pub fn permits(&self, operation: Operation, on: On<'_>) -> bool {
        let has = |set: &Option<ResourceSet>, name: Option<&str>| {
            name.is_none_or(|name| set.as_ref().is_some_and(|set| set.has(name)))
        };
        self.operations().has(operation)
            && has(&self.basins, on.basin.map(BasinName::as_str))
            && has(&self.streams, on.stream.map(StreamName::as_str))
            && has(&self.access_tokens, on.token.map(TokenId::as_str))
    }

    /// Whether a listing shows this basin.
    #[must_use]
    pub fn shows_basin(&self, name: &str) -> bool {
        self.basins.as_ref().is_some_and(|set| set.has(name))
    }

    /// Whether a listing shows this access token.
    #[must_use]
    pub fn shows_token(&self, id: &str) -> bool {
        self.access_tokens.as_ref().is_some_and(|set| set.has(id))
    }

    /// Refuses what makes no sense.
    ///
    /// # Errors
    /// [`ScopeError::Invalid`].
    pub fn check(&self, auto_prefix_streams: bool) -> Result<(), ScopeError> {
        if self.operations().is_empty() {
            return Err(ScopeError::Invalid("Access token permissions cannot be empty"));
        }
        match &self.streams {
            Some(ResourceSet::Prefix(_)) => Ok(()),
            Some(ResourceSet::Exact(_)) | None if auto_prefix_streams => {
                Err(ScopeError::Invalid("Auto prefixing is only allowed for streams with prefix matching"))
            }
            Some(ResourceSet::Exact(_)) | None => Ok(()),
        }
    }

    /// Whether it is no more than `issuer` has.
    ///
    /// # Errors
    /// [`ScopeError::Exceeds`] names the part that is more.
    pub fn check_within(&self, issuer: &Self) -> Result<(), ScopeError> {
        let within = |ours: &Option<ResourceSet>, theirs: &Option<ResourceSet>| match (ours, theirs) {
            (None, _) => true,
            (Some(ours), Some(theirs)) => ours.is_within(theirs),
            (Some(ours), None) => *ours == ResourceSet::Exact("".into()),
        };
        if !issuer.operations().has_all(self.operations()) {
            return Err(ScopeError::Exceeds("the operations exceed those of the access token that issues it"));
        }
        for (is_within, why) in [
            (within(&self.basins, &issuer.basins), "the basins exceed those of the access token that issues it"),
            (within(&self.streams, &issuer.streams), "the streams exceed those of the access token that issues it"),
            (
                within(&self.access_tokens, &issuer.access_tokens),
                "the access tokens in its scope exceed those of the access token that issues it",
            ),
        ] {
            if !is_within {
                return Err(ScopeError::Exceeds(why));
            }
        }
        Ok(())
    }
}

/// What an operation is done to.
#[derive(Debug, Clone, Copy, Default)]
pub struct On<'a> {
    /// A basin.
    pub basin: Option<&'a BasinName>,
    /// A stream of it, by its whole name.
    pub stream: Option<&'a StreamName>,
    /// An access token.
    pub token: Option<&'a TokenId>,
}

/// An access token as it is stored: everything but its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessToken {
    /// Its id.
    pub id: TokenId,
    /// What proves its secret.
    pub secret: SecretHash,
    /// From then on it is no token any more, in milliseconds since the Unix epoch.
    pub expires_at_ms: Option<u64>,
    /// Nanoseconds of that time below a millisecond: shown as they were given, and otherwise of no use.
    pub expires_sub_ns: u32,
    /// Stream names get the prefix of the scope on the way in, and lose it on the way out. Invariant: `scope.streams` is a
    /// prefix then.
    pub auto_prefix_streams: bool,
    /// What it may do.
    pub scope: Scope,
    /// In milliseconds since the Unix epoch.
    pub created_at_ms: u64,
}

impl AccessToken {
    /// What stream names get in front of them; empty when nothing.
    #[must_use]
    pub fn stream_prefix(&self) -> &str {
        match &self.scope.streams {
            Some(ResourceSet::Prefix(prefix)) if self.auto_prefix_streams => prefix,
            Some(ResourceSet::Prefix(_) | ResourceSet::Exact(_)) | None => "",
        }
    }

    /// Whether its time is over.
    #[must_use]
    pub fn is_expired(&self, now_ms: u64) -> bool {
        self.expires_at_ms.is_some_and(|at| at <= now_ms)
    }

    /// Whether it may issue and revoke every token: as long as there is one, the tokens of a server can be managed.
    #[must_use]
    pub fn is_root(&self) -> bool {
        let operations = self.scope.operations();
        operations.has(Operation::IssueAccessToken)
            && operations.has(Operation::RevokeAccessToken)
            && self.scope.access_tokens == Some(ResourceSet::all())
    }
}

/// The longest names of a scope, which bound what a token takes in the log.
pub const SCOPE_NAMES_BYTES_MAX: usize = *BASIN_NAME_BYTES.end() + STREAM_NAME_BYTES_MAX + TOKEN_ID_BYTES_MAX;

#[cfg(test)]
#[path = "token_tests.rs"]
mod tests;
