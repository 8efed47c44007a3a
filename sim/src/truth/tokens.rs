//! The truth about access tokens, from the metadata group. Each token that a client asks for has a secret of its own, so
//! a secret names one issue.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use engine::event::TokenChange;
use model::{AccessToken, SecretHash, TokenId};

use crate::violation::{Rule, Violation, broken};

/// All access tokens.
#[derive(Debug, Default)]
pub(crate) struct TokensTruth {
    by_id: BTreeMap<TokenId, Arc<AccessToken>>,
    /// Every secret there ever was, and until when, in simulated time.
    secrets: BTreeMap<SecretHash, Option<u64>>,
    /// When an id was last given.
    absent_us: BTreeMap<TokenId, u64>,
    /// When tokens of an id went, and when they would have expired: the last few.
    gone: BTreeMap<TokenId, VecDeque<(u64, Option<u64>)>>,
    /// A token gave its id to another because it had expired.
    pub(crate) has_replaced: bool,
}

impl TokensTruth {
    pub(super) fn change(&mut self, change: &TokenChange, now_us: u64, wall_ms_max: u64) -> Result<(), Violation> {
        let (id, next) = match change {
            TokenChange::Put(token) => (&token.id, Some(token)),
            TokenChange::Removed(id) => (id, None),
        };
        let before = self.by_id.remove(id);
        match (&before, next) {
            (None, None) => return broken(Rule::Tokens, format!("token `{id}` is revoked twice")),
            (Some(before), Some(_)) if !before.is_expired(wall_ms_max) => {
                return broken(Rule::Tokens, format!("token `{id}` is replaced before it has expired"));
            }
            (Some(_), _) | (None, Some(_)) => {}
        }
        match before {
            Some(before) => {
                self.has_replaced |= next.is_some();
                self.secrets.insert(before.secret, Some(now_us));
                let gone = self.gone.entry(id.clone()).or_default();
                if gone.len() == GONE_MAX {
                    gone.pop_front();
                }
                gone.push_back((now_us, before.expires_at_ms));
            }
            None => {
                self.absent_us.insert(id.clone(), now_us);
            }
        }
        if let Some(token) = next {
            if self.secrets.insert(token.secret, None).is_some() {
                return broken(Rule::Tokens, format!("token `{id}` is issued twice"));
            }
            self.by_id.insert(id.clone(), Arc::clone(token));
        }
        Ok(())
    }

    /// Those that are in force.
    #[must_use]
    pub(crate) const fn all(&self) -> &BTreeMap<TokenId, Arc<AccessToken>> {
        &self.by_id
    }

    /// Whether this very token was ever in force.
    #[must_use]
    pub(crate) fn was_issued(&self, secret: &SecretHash) -> bool {
        self.secrets.contains_key(secret)
    }

    /// Whether this very token was in force at some time since.
    #[must_use]
    pub(crate) fn was_in_force(&self, secret: &SecretHash, since_us: u64) -> bool {
        self.secrets.get(secret).is_some_and(|until| until.is_none_or(|at| at >= since_us))
    }

    /// Whether the id was free at some time since.
    #[must_use]
    pub(crate) fn was_absent(&self, id: &TokenId, since_us: u64) -> bool {
        !self.by_id.contains_key(id) || self.absent_us.get(id).is_some_and(|at| *at >= since_us)
    }

    /// Whether at some time since a token had the id, and had not expired at this time of the wall clock.
    #[must_use]
    pub(crate) fn was_taken(&self, id: &TokenId, since_us: u64, wall_ms: u64) -> bool {
        let lives = |expires_at_ms: Option<u64>| expires_at_ms.is_none_or(|at| at > wall_ms);
        let gone = self.gone.get(id).map(|gone| gone.iter().filter(|(at, _)| *at >= since_us));
        self.by_id.get(id).is_some_and(|token| lives(token.expires_at_ms))
            || gone.is_some_and(|mut gone| gone.any(|(_, expires)| lives(*expires)))
    }
}

/// Tokens remembered of an id: more than go while a request is under way.
const GONE_MAX: usize = 64;
