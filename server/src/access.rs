//! Who asks, and what they may do (s2-wire.md 1.1, 1.13; docs/access-tokens.md).
//!
//! Promise: between the end of a token (revoked, expired) and the next request or the next piece of a session, nothing is
//! served to it any more. A request on a connection that has shown its token before costs a comparison of some bytes and
//! one atomic load; the hash and the lookup happen once per connection and change of the set of tokens.

pub(crate) mod guard;
pub(crate) mod operation;
pub(crate) mod page;
pub(crate) mod ready;
pub(crate) mod root;
pub(crate) mod root_setting;
pub(crate) mod secret;

use std::cell::RefCell;
use std::sync::Arc;

use api::{ApiError, Code};
use engine::driver::TokenDirectory;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use model::token::{On, Operation};
use model::{AccessToken, Batch, Command, InvalidName, SecretHash, StreamName, TokenId};
use subtle::ConstantTimeEq as _;

use crate::clock::now_ms;

/// What a front lets in. Clones are the same.
#[derive(Clone)]
pub(crate) struct Gate(Arc<Inner>);

struct Inner {
    tokens: Arc<TokenDirectory>,
    /// Whether a request without a token is refused.
    is_required: bool,
    /// The root token of the settings.
    root: Option<Arc<AccessToken>>,
}

/// What the caller of one request may do.
#[derive(Debug, Clone)]
pub(crate) enum Access {
    /// Everything: no token is needed here and none of ours was shown.
    Open,
    /// What this token permits.
    Token(Arc<AccessToken>),
}

/// What a connection has shown last, so that it is not looked up again.
#[derive(Default)]
pub(crate) struct Shown(RefCell<Option<Known>>);

struct Known {
    header: Box<[u8]>,
    generation: u64,
    access: Access,
}

impl Gate {
    /// Lets in who shows one of `tokens` or `root`, and everybody else unless a token `is_required`.
    #[must_use]
    pub(crate) fn new(tokens: Arc<TokenDirectory>, is_required: bool, root: Option<AccessToken>) -> Self {
        Self(Arc::new(Inner { tokens, is_required, root: root.map(Arc::new) }))
    }

    /// Whether a request without a token is refused.
    #[must_use]
    pub(crate) fn is_required(&self) -> bool {
        self.0.is_required
    }

    /// Whether the settings give a root token.
    #[must_use]
    pub(crate) fn has_root(&self) -> bool {
        self.0.root.is_some()
    }

    /// All committed access tokens.
    #[must_use]
    pub(crate) fn tokens(&self) -> &Arc<TokenDirectory> {
        &self.0.tokens
    }

    /// What a request with these headers may do.
    ///
    /// # Errors
    /// 401 `authn`.
    pub(crate) fn access(&self, headers: &HeaderMap, shown: &Shown) -> Result<Access, ApiError> {
        let Some(header) = headers.get(AUTHORIZATION) else {
            return self.without("a token is required: send `Authorization: Bearer <access token>`");
        };
        let header = header.as_bytes();
        // Read before the lookup: a change between the two is looked up again, not missed.
        let generation = self.0.tokens.generation();
        if let Some(known) = &*shown.0.borrow()
            && known.generation == generation
            && known.header.ct_eq(header).into()
        {
            return checked(known.access.clone());
        }
        let Some(secret) = bearer(header) else {
            return self.without("the header `authorization` must be `Bearer <access token>`");
        };
        let access = match self.find(&secret::hash(secret)) {
            Some(token) => Access::Token(token),
            // Who shows what looks like a token of ours means it: a revoked one must not be let in as nobody.
            None if self.0.is_required || secret::looks_like_ours(secret) => {
                return Err(authn("the access token is unknown, or was revoked"));
            }
            None => Access::Open,
        };
        *shown.0.borrow_mut() = Some(Known { header: header.into(), generation, access: access.clone() });
        checked(access)
    }

    /// The token with this secret. A lookup by the hash tells a caller who measures its time something about hashes, and
    /// nothing about secrets.
    fn find(&self, secret: &SecretHash) -> Option<Arc<AccessToken>> {
        match &self.0.root {
            Some(root) if root.secret == *secret => Some(Arc::clone(root)),
            Some(_) | None => self.0.tokens.of_secret(secret),
        }
    }

    fn without(&self, why: &str) -> Result<Access, ApiError> {
        if self.0.is_required { Err(authn(why)) } else { Ok(Access::Open) }
    }
}

impl Access {
    /// Whether nobody has to say who he is, and nobody did.
    #[must_use]
    pub(crate) const fn is_open(&self) -> bool {
        match self {
            Self::Open => true,
            Self::Token(_) => false,
        }
    }

    /// Refuses what is not permitted.
    ///
    /// # Errors
    /// 403 `permission_denied`; the text names the operation.
    pub(crate) fn permit(&self, operation: Operation, on: On<'_>) -> Result<(), ApiError> {
        match self {
            Self::Token(token) if !token.scope.permits(operation, on) => Err(denied(operation)),
            Self::Open | Self::Token(_) => Ok(()),
        }
    }

    /// Refuses what no operation of these is permitted for.
    ///
    /// # Errors
    /// 403 `permission_denied`; the text names the first.
    pub(crate) fn permit_any(&self, operations: &[Operation], on: On<'_>) -> Result<(), ApiError> {
        match self {
            Self::Token(token) if !operations.iter().any(|op| token.scope.permits(*op, on)) => {
                Err(denied(operations[0]))
            }
            Self::Open | Self::Token(_) => Ok(()),
        }
    }

    /// Refuses a batch with a record of a kind that is not permitted: commands need `trim` and `fence`, others `append`.
    /// Whether the stream is in scope was seen before.
    ///
    /// # Errors
    /// 403 `permission_denied`.
    pub(crate) fn permit_batch(&self, batch: &Batch) -> Result<(), ApiError> {
        let Self::Token(token) = self else { return Ok(()) };
        let operations = token.scope.operations();
        if !batch.has_commands() {
            return if operations.has(Operation::Append) { Ok(()) } else { Err(denied(Operation::Append)) };
        }
        for record in batch.records() {
            let needed = match record.command(batch.bytes()) {
                None => Operation::Append,
                Some(Command::Trim(_)) => Operation::Trim,
                Some(Command::Fence(_)) => Operation::Fence,
            };
            if !operations.has(needed) {
                return Err(denied(needed));
            }
        }
        Ok(())
    }

    /// Whether streams that are missing may be created by the way, where their basin says so.
    #[must_use]
    pub(crate) fn may(&self, operation: Operation) -> bool {
        match self {
            Self::Open => true,
            Self::Token(token) => token.scope.operations().has(operation),
        }
    }

    /// A stream's whole name from the one that the caller gave.
    ///
    /// # Errors
    /// When it is too long with the token's prefix.
    pub(crate) fn stream_in(&self, name: StreamName) -> Result<StreamName, InvalidName> {
        match self.stream_prefix() {
            "" => Ok(name),
            prefix => StreamName::try_from(format!("{prefix}{name}").as_str()),
        }
    }

    /// A stream's name as the caller knows it. A stream whose name is the prefix and nothing more has no such name.
    #[must_use]
    pub(crate) fn stream_out(&self, name: StreamName) -> Option<StreamName> {
        match self.stream_prefix() {
            "" => Some(name),
            prefix => StreamName::try_from(name.as_str().strip_prefix(prefix)?).ok(),
        }
    }

    /// The token, if one of ours was shown.
    #[must_use]
    pub(crate) fn token_id(&self) -> Option<&TokenId> {
        match self {
            Self::Open => None,
            Self::Token(token) => Some(&token.id),
        }
    }

    /// What stream names get in front of them; mostly empty.
    #[must_use]
    pub(crate) fn stream_prefix(&self) -> &str {
        match self {
            Self::Open => "",
            Self::Token(token) => token.stream_prefix(),
        }
    }

    /// Takes the prefix out of an error's text again, where it names a stream.
    pub(crate) fn error_out(&self, error: &mut ApiError) {
        if let api::status::ErrorBody::Coded(_, message) = &mut error.body {
            self.message_out(message);
        }
    }

    /// The same for a text alone.
    pub(crate) fn message_out(&self, message: &mut String) {
        let prefix = self.stream_prefix();
        if !prefix.is_empty() {
            *message = message.replace(&format!("stream `{prefix}"), "stream `");
        }
    }
}

/// A token is good until its time.
fn checked(access: Access) -> Result<Access, ApiError> {
    match &access {
        // The clock is only asked where it matters.
        Access::Token(token) if token.expires_at_ms.is_some() && token.is_expired(now_ms()) => {
            Err(authn("the access token has expired"))
        }
        Access::Open | Access::Token(_) => Ok(access),
    }
}

fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = header.split_at_checked(7)?;
    let secret = rest.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer ") && !secret.is_empty()).then_some(secret)
}

/// 401 `authn`. No text of these has anything of what was shown.
fn authn(why: &str) -> ApiError {
    ApiError::new(Code::Authn, why)
}

fn denied(operation: Operation) -> ApiError {
    let why = format!("the access token does not permit `{}` here", operation.as_str());
    ApiError::new(Code::PermissionDenied, why)
}

#[cfg(test)]
#[path = "access/access_tests.rs"]
mod tests;
