//! Clients that issue and revoke access tokens, and what must hold of the answers and of what fronts see.

use std::sync::Arc;

use engine::event::{Op, TokenChange};
use model::{AccessToken, Scope, SecretHash, ShardId, TokenId};

use super::World;
use super::judge::Asked;
use crate::violation::{Rule, Violation, broken};

/// Ids in use: few, so that the same one is issued and revoked at the same time.
const IDS: [&str; 4] = ["a", "b", "c", "d"];

impl World {
    pub(super) fn act_on_token(&mut self, client: usize) {
        let id = TokenId::try_from(self.rng.pick(&IDS)).expect("valid");
        // Often another wants something of the same id, before anybody can know what comes of it.
        if self.rng.one_in(2) {
            let visitor = self.swarm.clients_count;
            self.ask_of_token(visitor, id.clone());
        }
        self.ask_of_token(client, id);
    }

    fn ask_of_token(&mut self, client: usize, id: TokenId) {
        if self.rng.one_in(3) {
            return self.ask(client, Op::RevokeToken(id.clone()), None, Asked::RevokeToken(id));
        }
        let mut secret = [0; 32];
        // The next request's number, which no other has.
        secret[..8].copy_from_slice(&(self.last_token + 1).to_le_bytes());
        let secret = SecretHash(secret);
        let now = {
            let now_us = self.now_us;
            self.nodes[0].now(now_us)
        };
        let expires_at_ms = self.rng.one_in(2).then(|| now.wall_ms + self.rng.below(5000));
        let token = AccessToken {
            id,
            secret,
            expires_at_ms,
            auto_prefix_streams: false,
            scope: Scope::all(),
            expires_sub_ns: 0,
            created_at_ms: now.wall_ms,
        };
        self.ask(client, Op::IssueToken(Arc::new(token)), None, Asked::IssueToken(secret));
    }

    pub(super) fn publish_token(
        &mut self,
        node: usize,
        shard: ShardId,
        change: TokenChange,
        since_us: u64,
    ) -> Result<(), Violation> {
        let truth = &self.nodes[node].seats[usize::from(shard.0)].truth.basins.tokens;
        match change {
            TokenChange::Put(token) => {
                if !truth.was_in_force(&token.secret, since_us) {
                    return broken(Rule::Tokens, format!("token `{}` is shown and is not so in the log", token.id));
                }
                self.nodes[node].tokens.insert(token.id.clone(), token);
            }
            TokenChange::Removed(id) => {
                if !truth.was_absent(&id, since_us) {
                    return broken(Rule::Tokens, format!("token `{id}` is shown as gone and is there"));
                }
                self.nodes[node].tokens.remove(&id);
            }
        }
        Ok(())
    }

    /// What fronts see of a shard that has just come back must be exactly what the disk says.
    pub(super) fn audit_tokens(&self, node: usize, shard: ShardId) -> Result<(), Violation> {
        let truth = self.nodes[node].seats[usize::from(shard.0)].truth.basins.tokens.all();
        if shard == ShardId(0) && *truth != self.nodes[node].tokens {
            let what = format!("tokens {:?} come back of {:?}", self.nodes[node].tokens.keys(), truth.keys());
            return broken(Rule::ComesBack, what);
        }
        Ok(())
    }
}
