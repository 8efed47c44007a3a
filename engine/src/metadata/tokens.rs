//! The access tokens of the metadata group: as accepted changes left them, and as durable ones did.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{AccessToken, TokenId};

use crate::event::TokenChange;
use crate::mutation::Mutation;

/// A token's id, and what is known of it.
#[derive(Debug, Clone)]
struct Row {
    /// As it will be once all accepted changes are durable; `None` when it is being revoked.
    next: Option<Arc<AccessToken>>,
    /// As the last durable change left it.
    committed: Option<Arc<AccessToken>>,
    /// Changes that are on their way. Without any, `next` and `committed` are the same.
    pending: u32,
    /// The ticket of the extent that changed it last.
    touched: u64,
}

/// All access tokens of the node. Lives on shard 0.
#[derive(Debug, Default)]
pub struct Tokens {
    rows: BTreeMap<TokenId, Row>,
    /// Rows with a `next`.
    count: usize,
    /// The ticket of the last change of any.
    touched: u64,
}

impl Tokens {
    /// The token of this id, and the ticket after which that may be told.
    #[must_use]
    pub fn get(&self, id: &TokenId) -> (Option<&Arc<AccessToken>>, u64) {
        self.rows.get(id).map_or((None, 0), |row| (row.next.as_ref(), row.touched))
    }

    /// How many there are, and the ticket after which that may be told.
    #[must_use]
    pub const fn count(&self) -> (usize, u64) {
        (self.count, self.touched)
    }

    /// One whose time is over, if there is one.
    #[must_use]
    pub fn expired(&self, now_ms: u64) -> Option<TokenId> {
        let tokens = self.rows.values().filter_map(|row| row.next.as_ref());
        tokens.filter(|token| token.is_expired(now_ms)).min_by_key(|token| token.expires_at_ms).map(|t| t.id.clone())
    }

    /// A change is on its way.
    pub fn stage(&mut self, change: &TokenChange, ticket: u64) {
        let (id, next) = parts(change);
        let row =
            self.rows.entry(id.clone()).or_insert(Row { next: None, committed: None, pending: 0, touched: ticket });
        self.count = self.count + usize::from(next.is_some()) - usize::from(row.next.is_some());
        (row.next, row.touched) = (next, ticket);
        row.pending += 1;
        self.touched = ticket;
    }

    /// A staged change is durable. Changes of one token become durable in the order they were staged.
    pub fn commit(&mut self, change: &TokenChange) {
        let (id, committed) = parts(change);
        let Some(row) = self.rows.get_mut(id) else { return };
        assert!(row.pending > 0, "a change is staged before it is committed");
        row.pending -= 1;
        if committed.is_some() || !Mutation::RevocationNotInCheckpoint.is_on() {
            row.committed = committed;
        }
        if row.pending == 0 && row.committed.is_none() {
            self.rows.remove(id);
        }
    }

    /// A change that is durable as it comes: from a checkpoint or the log of an earlier process.
    pub fn restore(&mut self, change: &TokenChange) {
        self.stage(change, 0);
        self.commit(change);
    }

    /// What is durable, in order of ids.
    pub fn committed(&self) -> impl Iterator<Item = &Arc<AccessToken>> {
        let ahead = Mutation::TokenInCheckpointAhead.is_on();
        self.rows.values().filter_map(move |row| if ahead { row.next.as_ref() } else { row.committed.as_ref() })
    }
}

fn parts(change: &TokenChange) -> (&TokenId, Option<Arc<AccessToken>>) {
    match change {
        TokenChange::Put(token) => (&token.id, Some(Arc::clone(token))),
        TokenChange::Removed(id) => (id, None),
    }
}

#[cfg(test)]
mod tests {
    use model::{Scope, SecretHash};

    use super::*;

    fn token(id: &str, expires_at_ms: Option<u64>) -> Arc<AccessToken> {
        let id = TokenId::try_from(id).expect("valid");
        let secret = SecretHash([7; 32]);
        let scope = Scope::all();
        Arc::new(AccessToken {
            id,
            secret,
            expires_at_ms,
            auto_prefix_streams: false,
            scope,
            expires_sub_ns: 0,
            created_at_ms: 1,
        })
    }

    fn ids(tokens: &Tokens) -> Vec<&str> {
        tokens.committed().map(|t| t.id.as_str()).collect()
    }

    #[test]
    fn a_change_shows_at_once_to_requests_and_once_durable_to_checkpoints() {
        let mut tokens = Tokens::default();
        let (put, removed) = (TokenChange::Put(token("a", None)), TokenChange::Removed(token("a", None).id.clone()));
        tokens.stage(&put, 3);
        assert_eq!((tokens.get(&token("a", None).id).0.is_some(), tokens.count()), (true, (1, 3)));
        assert!(ids(&tokens).is_empty());
        tokens.commit(&put);
        assert_eq!(ids(&tokens), ["a"]);
        // Revoked and issued again while the first revocation is on its way.
        tokens.stage(&removed, 4);
        assert_eq!((tokens.get(&token("a", None).id), tokens.count().0), ((None, 4), 0));
        tokens.stage(&put, 5);
        tokens.commit(&removed);
        assert!(ids(&tokens).is_empty() && tokens.count().0 == 1);
        tokens.commit(&put);
        assert_eq!(ids(&tokens), ["a"]);
        tokens.restore(&removed);
        assert_eq!((ids(&tokens).len(), tokens.count().0, tokens.get(&token("a", None).id)), (0, 0, (None, 0)));
    }

    #[test]
    fn the_one_that_expired_first_is_found() {
        let mut tokens = Tokens::default();
        for (id, at) in [("a", None), ("b", Some(30)), ("c", Some(20)), ("d", Some(90))] {
            tokens.restore(&TokenChange::Put(token(id, at)));
        }
        assert_eq!(tokens.expired(19), None);
        assert_eq!(tokens.expired(50).as_ref().map(TokenId::as_str), Some("c"));
    }
}
