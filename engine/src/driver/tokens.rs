//! The committed access tokens of the node, as every front may look them up without asking a shard.
//!
//! Promise: a change is visible here before any reply that a shard gives after it. [`TokenDirectory::generation`] moves
//! on with each change, so that what a front has looked up stays good while the generation does. When a token goes,
//! everyone who [subscribed](TokenDirectory::subscribe) is told, so that its open sessions end.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use model::{AccessToken, NamePrefix, SecretHash, TokenId};

use crate::event::TokenChange;

/// All access tokens, by id and by the hash of their secret. Bounded by what shard 0 admits.
#[derive(Default)]
pub struct TokenDirectory {
    generation: AtomicU64,
    tokens: RwLock<Tokens>,
    listeners: Mutex<Vec<Box<dyn Fn() + Send>>>,
}

#[derive(Default)]
struct Tokens {
    by_id: BTreeMap<TokenId, Arc<AccessToken>>,
    by_secret: BTreeMap<SecretHash, Arc<AccessToken>>,
}

impl fmt::Debug for TokenDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenDirectory").field("generation", &self.generation()).finish_non_exhaustive()
    }
}

impl TokenDirectory {
    /// Moves on with each change.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The token whose secret has this hash.
    #[must_use]
    pub fn of_secret(&self, secret: &SecretHash) -> Option<Arc<AccessToken>> {
        self.tokens.read().unwrap_or_else(PoisonError::into_inner).by_secret.get(secret).cloned()
    }

    /// The token with this id.
    #[must_use]
    pub fn named(&self, id: &TokenId) -> Option<Arc<AccessToken>> {
        self.tokens.read().unwrap_or_else(PoisonError::into_inner).by_id.get(id).cloned()
    }

    /// Whether there is a token that `is_wanted` says yes to.
    pub fn any(&self, is_wanted: impl Fn(&AccessToken) -> bool) -> bool {
        self.tokens.read().unwrap_or_else(PoisonError::into_inner).by_id.values().any(|token| is_wanted(token))
    }

    /// Up to `limit` tokens whose ids begin with `prefix` and come after `start_after`, of those that `is_shown` says yes
    /// to, in order; true when there are more of them.
    #[must_use]
    pub fn list(
        &self,
        prefix: &NamePrefix,
        start_after: &NamePrefix,
        limit: usize,
        is_shown: impl Fn(&AccessToken) -> bool,
    ) -> (Vec<Arc<AccessToken>>, bool) {
        let (prefix, start_after): (&str, &str) = (prefix.as_ref(), start_after.as_ref());
        let from = if start_after < prefix { Bound::Included(prefix) } else { Bound::Excluded(start_after) };
        let tokens = self.tokens.read().unwrap_or_else(PoisonError::into_inner);
        let mut matching = tokens
            .by_id
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(|(id, _)| id.as_str().starts_with(prefix))
            .filter(|(_, token)| is_shown(token))
            .map(|(_, token)| Arc::clone(token));
        let page = matching.by_ref().take(limit).collect();
        (page, matching.next().is_some())
    }

    /// Has `listener` called after each change that ends a token, on the thread that makes it: it may only wake others.
    pub fn subscribe(&self, listener: impl Fn() + Send + 'static) {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(listener));
    }

    /// Takes over a change.
    pub(super) fn apply(&self, change: TokenChange) {
        let ends_one = {
            let mut tokens = self.tokens.write().unwrap_or_else(PoisonError::into_inner);
            let before = match change {
                TokenChange::Put(token) => {
                    tokens.by_secret.insert(token.secret, Arc::clone(&token));
                    tokens.by_id.insert(token.id.clone(), Arc::clone(&token)).filter(|b| b.secret != token.secret)
                }
                TokenChange::Removed(id) => tokens.by_id.remove(&id),
            };
            if let Some(before) = &before {
                tokens.by_secret.remove(&before.secret);
            }
            self.generation.fetch_add(1, Ordering::Release);
            before.is_some()
        };
        if ends_one {
            self.listeners.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(|listener| listener());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use model::Scope;

    use super::*;

    fn put(directory: &TokenDirectory, id: &str, secret: u8) {
        let (id, secret) = (TokenId::try_from(id).unwrap(), SecretHash([secret; 32]));
        let scope = Scope::all();
        let token = AccessToken {
            id,
            secret,
            expires_at_ms: None,
            auto_prefix_streams: false,
            scope,
            expires_sub_ns: 0,
            created_at_ms: 1,
        };
        directory.apply(TokenChange::Put(Arc::new(token)));
    }

    fn id_of(directory: &TokenDirectory, secret: u8) -> Option<String> {
        directory.of_secret(&SecretHash([secret; 32])).map(|token| token.id.to_string())
    }

    #[test]
    fn a_secret_is_known_from_its_issue_to_its_revocation() {
        let directory = TokenDirectory::default();
        let calls = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&calls);
        directory.subscribe(move || {
            seen.fetch_add(1, Ordering::Relaxed);
        });
        put(&directory, "a", 1);
        put(&directory, "b", 2);
        assert_eq!((id_of(&directory, 1).as_deref(), id_of(&directory, 3)), (Some("a"), None));
        // Issued again after it had expired: the former secret is nobody's.
        put(&directory, "a", 3);
        assert_eq!((id_of(&directory, 1), id_of(&directory, 3).as_deref()), (None, Some("a")));
        let generation = directory.generation();
        directory.apply(TokenChange::Removed(TokenId::try_from("a").unwrap()));
        assert_eq!((id_of(&directory, 3), id_of(&directory, 2).as_deref()), (None, Some("b")));
        assert!(directory.generation() > generation);
        assert_eq!(calls.load(Ordering::Relaxed), 2, "of the four changes, two ended a token");
    }

    #[test]
    fn a_listing_shows_a_page_of_what_may_be_seen() {
        let directory = TokenDirectory::default();
        for (secret, id) in (1..).zip(["a1", "a2", "a3", "b1"]) {
            put(&directory, id, secret);
        }
        let prefix = NamePrefix::of_token("a").unwrap();
        let list = |start_after: &str, limit| {
            let start_after = NamePrefix::of_token(start_after).unwrap();
            let (page, more) = directory.list(&prefix, &start_after, limit, |t| t.id.as_str() != "a2");
            (page.iter().map(|t| t.id.to_string()).collect::<Vec<_>>(), more)
        };
        assert_eq!(list("", 1), (vec!["a1".to_owned()], true));
        assert_eq!(list("a1", 5), (vec!["a3".to_owned()], false));
        assert_eq!(list("a3", 5), (vec![], false));
    }
}
