//! Access tokens as resources: issue, list, revoke (s2-wire.md 1.2, 1.13).

use api::query::ListQuery;
use api::{ApiError, Code, json};
use http::StatusCode;
use model::TokenId;

use super::answer::{self, Answer};
use super::control::Request;
use super::route::decode_segment;

impl Request<'_> {
    /// GET `/access-tokens`: those in the scope of the token that asks.
    ///
    /// # Errors
    /// As the spec says; so do the others here.
    pub(crate) fn list_tokens(&self) -> Result<Answer, ApiError> {
        let (tokens, has_more) = self.caller().list_tokens(&ListQuery::parse_tokens(self.query())?);
        Ok(answer::json(StatusCode::OK, json::access_token_list(&tokens, has_more)))
    }

    /// POST `/access-tokens`. The one answer that has a secret in it.
    pub(crate) async fn issue_token(&self) -> Result<Answer, ApiError> {
        let secret = self.caller().issue_token(json::parse_issue_access_token(self.required_json()?)?).await?;
        Ok(answer::json(StatusCode::CREATED, json::issued_access_token(secret.reveal())))
    }

    /// DELETE `/access-tokens/{id}`.
    pub(crate) async fn revoke_token(&self, segment: &str) -> Result<Answer, ApiError> {
        let id = TokenId::try_from(&*decode_segment(segment)?).map_err(|e| ApiError::new(Code::BadPath, e.0))?;
        self.caller().revoke_token(id).await?;
        Ok(answer::empty(StatusCode::NO_CONTENT))
    }
}
