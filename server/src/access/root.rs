//! The root token: from the settings, or made at the first start that requires tokens, and shown once.

use std::sync::Arc;

use engine::event::Op;
use model::{AccessToken, BasinId, NamePrefix, Scope, SecretHash, TokenId};

use super::Gate;
use super::secret::{self, Secret};
use crate::clock::now_ms;
use crate::router::METADATA_SHARD;
use crate::store::Store;

/// The id of the root token, which nobody else may issue.
pub(crate) const ROOT_ID: &str = "root";

/// A token that may do everything and never expires.
#[must_use]
pub(crate) fn root_token(secret: SecretHash, created_at_ms: u64) -> AccessToken {
    AccessToken {
        id: TokenId::try_from(ROOT_ID).expect("a valid id"),
        secret,
        expires_at_ms: None,
        auto_prefix_streams: false,
        scope: Scope::all(),
        expires_sub_ns: 0,
        created_at_ms,
    }
}

/// The root token of the settings.
#[must_use]
pub(crate) fn of_settings(secret: &str) -> AccessToken {
    root_token(secret::hash(secret.as_bytes()), 0)
}

/// Waits until shard 0 shows what it has, then makes a root token where tokens are required and there is none that could
/// issue all others. Returns its secret.
///
/// # Errors
/// When the token cannot be made durable. The text is for the operator.
pub(crate) async fn prepare(store: &Store, gate: &Gate) -> Result<Option<Secret>, String> {
    // Any answer of the shard comes after all basins and tokens of its log were shown.
    let (prefix, start_after) = (NamePrefix::empty(), NamePrefix::empty());
    let begun = Op::ListStreams { basin_id: BasinId(0), prefix, start_after, limit: 1 };
    store.ask(METADATA_SHARD, begun).await.map_err(|e| format!("shard 0 does not answer: {e}"))?;
    let now_ms = now_ms();
    let has_root = gate.has_root() || gate.tokens().any(|token| token.is_root() && !token.is_expired(now_ms));
    if has_root || !gate.is_required() {
        return Ok(None);
    }
    let secret = Secret::new().map_err(ToOwned::to_owned)?;
    let token = Arc::new(root_token(secret.hash(), now_ms));
    store.ask(METADATA_SHARD, Op::IssueToken(token)).await.map_err(|e| format!("cannot store a root token: {e}"))?;
    Ok(Some(secret))
}
