//! Watches over a session whose token may be revoked or expire while it is open.

use std::cell::Cell;

use api::ApiError;

use super::{Access, Gate, authn, checked};

/// Held by a session and asked at each of its turns: one atomic load, and the clock where the token expires.
pub(crate) struct Guard {
    gate: Gate,
    access: Access,
    /// The token was there in this generation of the directory.
    generation: Cell<u64>,
}

impl Guard {
    /// Watches over what `access` was given.
    #[must_use]
    pub(crate) fn new(gate: &Gate, access: &Access) -> Self {
        // A generation that is never current: the first turn looks the token up.
        Self { gate: gate.clone(), access: access.clone(), generation: Cell::new(u64::MAX) }
    }

    /// Whether the session may go on.
    ///
    /// # Errors
    /// 401 `authn`.
    pub(crate) fn check(&self) -> Result<(), ApiError> {
        let Access::Token(token) = &self.access else { return Ok(()) };
        let generation = self.gate.tokens().generation();
        if self.generation.get() != generation {
            if self.gate.find(&token.secret).is_none() {
                return Err(authn("the access token was revoked"));
            }
            self.generation.set(generation);
        }
        checked(self.access.clone()).map(drop)
    }

    /// When the session must be looked at again at the latest, in milliseconds since the Unix epoch.
    #[must_use]
    pub(crate) fn expires_at_ms(&self) -> Option<u64> {
        match &self.access {
            Access::Open => None,
            Access::Token(token) => token.expires_at_ms,
        }
    }
}
