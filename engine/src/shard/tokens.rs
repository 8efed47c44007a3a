//! Access tokens: issue and revoke (s2-wire.md 1.13). What a token may issue is decided by the front that knows it.

use std::sync::Arc;

use model::limits::TOKENS_MAX;
use model::{AccessToken, Rejected, TokenId, Unavailable};

use crate::event::{Effect, Effects, Now, Reply, ReplyTo, TokenChange};
use crate::mutation::Mutation;
use crate::shard::Shard;
use crate::stream::op::ControlOp;

impl Shard {
    pub(crate) fn issue_token(&mut self, now: Now, to: ReplyTo, token: Arc<AccessToken>, effects: &mut Effects) {
        if self.is_draining {
            return self.fail(to, (Unavailable::Draining.into(), 0), effects);
        }
        let (existing, ticket) = self.state.tokens.get(&token.id);
        // A token that has expired is in nobody's way.
        let expires = |t: &AccessToken| t.is_expired(now.wall_ms) && !Mutation::TokenOutlivesExpiry.is_on();
        if existing.is_some_and(|existing| !expires(existing)) && !Mutation::TokenReplaced.is_on() {
            let ticket = if Mutation::TokenTakenEarly.is_on() { 0 } else { ticket };
            return self.fail(to, (Rejected::TokenExists(token.id.clone()).into(), ticket), effects);
        }
        let (count, ticket) = self.state.tokens.count();
        if existing.is_none() && count >= TOKENS_MAX {
            match self.state.tokens.expired(now.wall_ms) {
                Some(expired) => self.stage_token(TokenChange::Removed(expired), None, effects),
                None => return self.fail(to, (Rejected::TooManyTokens.into(), ticket), effects),
            }
        }
        self.stage_token(TokenChange::Put(token), Some((to, Reply::Done)), effects);
    }

    pub(crate) fn revoke_token(&mut self, to: ReplyTo, id: &TokenId, effects: &mut Effects) {
        if self.is_draining {
            return self.fail(to, (Unavailable::Draining.into(), 0), effects);
        }
        match self.state.tokens.get(id) {
            (None, ticket) => self.fail(to, (Rejected::TokenNotFound(id.clone()).into(), ticket), effects),
            (Some(_), _) => self.stage_token(TokenChange::Removed(id.clone()), Some((to, Reply::Done)), effects),
        }
    }

    fn stage_token(&mut self, change: TokenChange, mut reply: Option<(ReplyTo, Reply)>, effects: &mut Effects) {
        self.state.tokens.stage(&change, self.stage.ticket);
        if Mutation::TokenShownEarly.is_on() {
            effects.push(Effect::PublishToken(change.clone()));
        }
        if let Some((to, reply)) = reply.take_if(|_| Mutation::TokenToldEarly.is_on()) {
            effects.reply(to, reply);
        }
        self.stage_control(METADATA, ControlOp::ChangeToken(change), reply);
    }
}

/// The position of the metadata group on shard 0: it has the lowest number.
const METADATA: usize = 0;

#[cfg(test)]
#[allow(clippy::wildcard_enum_match_arm)]
#[path = "tokens_tests.rs"]
mod tests;
