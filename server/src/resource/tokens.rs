//! Access tokens: issue, list, revoke (s2-wire.md 1.13).

use std::sync::Arc;

use api::json::IssueAccessToken;
use api::query::ListQuery;
use api::{ApiError, Code};
use engine::event::Op;
use model::token::{On, Operation, ScopeError};
use model::{AccessToken, Rejected, TokenId};

use super::Caller;
use crate::access::Access;
use crate::access::root::ROOT_ID;
use crate::access::secret::Secret;
use crate::clock::now_ms;
use crate::router::METADATA_SHARD;

impl Caller<'_> {
    /// A page of those in the scope of the token that asks; whether there are more.
    pub(crate) fn list_tokens(&self, page: &ListQuery) -> (Vec<Arc<AccessToken>>, bool) {
        let is_shown = |token: &AccessToken| match self.access {
            Access::Open => true,
            Access::Token(ours) => ours.scope.shows_token(token.id.as_str()),
        };
        self.front.gate.tokens().list(&page.prefix, &page.start_after, page.limit, is_shown)
    }

    /// Issues a token and returns its secret, which nobody can tell again.
    ///
    /// # Errors
    /// As the spec says.
    pub(crate) async fn issue_token(&self, wanted: IssueAccessToken) -> Result<Secret, ApiError> {
        let now_ms = now_ms();
        wanted.scope.check(wanted.auto_prefix_streams).map_err(refusal)?;
        if wanted.expires_at_ms.is_some_and(|at| at <= now_ms) {
            return Err(ApiError::new(Code::Invalid, "expires_at must be in the future"));
        }
        self.access.permit(Operation::IssueAccessToken, On { token: Some(&wanted.id), ..On::default() })?;
        let expires_at_ms = match self.access {
            Access::Open => wanted.expires_at_ms,
            Access::Token(issuer) => {
                wanted.scope.check_within(&issuer.scope).map_err(refusal)?;
                expiry_within(wanted.expires_at_ms, issuer.expires_at_ms)?
            }
        };
        if wanted.id.as_str() == ROOT_ID {
            // The server's own, even while there is none.
            return Err(Rejected::TokenExists(wanted.id).into());
        }
        let secret = Secret::new().map_err(|why| ApiError::new(Code::Other, why))?;
        let token = AccessToken {
            id: wanted.id,
            secret: secret.hash(),
            expires_at_ms,
            // Absent in the request means that the issuer's milliseconds are enough.
            expires_sub_ns: wanted.expires_sub_ns,
            auto_prefix_streams: wanted.auto_prefix_streams,
            scope: wanted.scope,
            created_at_ms: now_ms,
        };
        self.front.store.ask(METADATA_SHARD, Op::IssueToken(Arc::new(token))).await?;
        Ok(secret)
    }

    /// Ends a token.
    ///
    /// # Errors
    /// As the spec says.
    pub(crate) async fn revoke_token(&self, id: TokenId) -> Result<(), ApiError> {
        self.access.permit(Operation::RevokeAccessToken, On { token: Some(&id), ..On::default() })?;
        self.front.store.ask(METADATA_SHARD, Op::RevokeToken(id)).await?;
        Ok(())
    }
}

/// Absent means as long as the issuer.
fn expiry_within(wanted_ms: Option<u64>, issuer_ms: Option<u64>) -> Result<Option<u64>, ApiError> {
    match (wanted_ms, issuer_ms) {
        (Some(wanted), Some(issuer)) if wanted > issuer => {
            let why = "expires_at lies beyond the expiry of the access token that issues it";
            Err(ApiError::new(Code::PermissionDenied, why))
        }
        (Some(wanted), _) => Ok(Some(wanted)),
        (None, issuer) => Ok(issuer),
    }
}

fn refusal(error: ScopeError) -> ApiError {
    match error {
        ScopeError::Invalid(why) => ApiError::new(Code::Invalid, why),
        ScopeError::Exceeds(why) => ApiError::new(Code::PermissionDenied, why),
    }
}
