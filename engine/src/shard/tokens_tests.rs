//! Tokens are answered for when they are durable, and are there again after a crash, with or without a checkpoint.

use model::{Failure, Scope, SecretHash};

use super::*;
use crate::event::Op;
use crate::shard::rig::Rig;

fn id(text: &str) -> TokenId {
    TokenId::try_from(text).expect("valid")
}

fn token(text: &str, expires_at_ms: Option<u64>) -> Arc<AccessToken> {
    let (id, secret, scope) = (id(text), SecretHash([9; 32]), Scope::all());
    Arc::new(AccessToken {
        id,
        secret,
        expires_at_ms,
        auto_prefix_streams: false,
        scope,
        expires_sub_ns: 0,
        created_at_ms: 5,
    })
}

fn ids(rig: &Rig) -> Vec<&str> {
    rig.shard.state.tokens.committed().map(|t| t.id.as_str()).collect()
}

fn rejected(reply: Reply) -> Rejected {
    match reply {
        Reply::Failed(Failure::Rejected(rejected)) => rejected,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_token_is_issued_once_and_revoked_once() {
    let mut rig = Rig::new();
    assert!(matches!(rig.ask(Op::IssueToken(token("a", None))), Reply::Done));
    assert_eq!(rejected(rig.ask(Op::IssueToken(token("a", None)))), Rejected::TokenExists(id("a")));
    assert!(matches!(rig.ask(Op::RevokeToken(id("a"))), Reply::Done));
    assert_eq!(rejected(rig.ask(Op::RevokeToken(id("a")))), Rejected::TokenNotFound(id("a")));
    assert!(matches!(rig.ask(Op::IssueToken(token("a", None))), Reply::Done));
}

#[test]
fn nothing_is_said_of_a_token_before_it_is_durable() {
    let mut rig = Rig::new();
    let issue = rig.send(Op::IssueToken(token("a", None)));
    rig.step(crate::event::Event::BurstEnd);
    let again = rig.send(Op::IssueToken(token("a", None)));
    let revoke = rig.send(Op::RevokeToken(id("a")));
    let gone = rig.send(Op::RevokeToken(id("a")));
    for asked in [issue, again, revoke, gone] {
        assert!(!rig.replies.contains_key(&asked), "nothing is durable yet");
    }
    // A crash now: none of it ever was.
    let (crashed, _) = Rig::recover(rig.disk.clone()).expect("intact");
    assert!(ids(&crashed).is_empty());
    rig.settle();
    assert!(matches!(rig.replies[&issue], Reply::Done) && matches!(rig.replies[&revoke], Reply::Done));
    assert_eq!(rejected(rig.replies.remove(&again).expect("told")), Rejected::TokenExists(id("a")));
    assert_eq!(rejected(rig.replies.remove(&gone).expect("told")), Rejected::TokenNotFound(id("a")));
}

#[test]
fn tokens_outlive_crashes_and_checkpoints() {
    let mut rig = Rig::new();
    for name in ["a", "b", "c"] {
        rig.ask(Op::IssueToken(token(name, None)));
    }
    rig.ask(Op::RevokeToken(id("b")));
    let (mut rig, _) = Rig::recover(rig.disk).expect("intact");
    assert_eq!(ids(&rig), ["a", "c"]);
    let before = rig.shard.stats().checkpoints_total;
    let mut written = 0;
    while rig.shard.stats().checkpoints_total == before {
        rig.append("s", &[&[7; 100_000]]);
        written += 1;
        assert!(written < 100, "a checkpoint comes after 1 MiB");
    }
    rig.ask(Op::RevokeToken(id("a")));
    rig.ask(Op::IssueToken(token("d", Some(1))));
    let (rig, _) = Rig::recover(rig.disk).expect("intact");
    assert_eq!(ids(&rig), ["c", "d"]);
    assert_eq!(rig.shard.state.tokens.get(&id("c")).0, Some(&token("c", None)));
    assert_eq!(rig.shard.state.tokens.get(&id("d")).0, Some(&token("d", Some(1))));
}

#[test]
fn an_expired_token_is_in_nobodys_way() {
    let mut rig = Rig::new();
    let now_ms = rig.now.wall_ms;
    rig.ask(Op::IssueToken(token("a", Some(now_ms))));
    assert!(matches!(rig.ask(Op::IssueToken(token("a", None))), Reply::Done));
    rig.ask(Op::IssueToken(token("old", Some(now_ms))));
    for n in 2..TOKENS_MAX {
        rig.ask(Op::IssueToken(token(&format!("t{n}"), None)));
    }
    assert!(matches!(rig.ask(Op::IssueToken(token("one-more", None))), Reply::Done), "in the place of the old one");
    assert_eq!(rejected(rig.ask(Op::IssueToken(token("two-more", None)))), Rejected::TooManyTokens);
    assert_eq!((ids(&rig).len(), ids(&rig).contains(&"old")), (TOKENS_MAX, false));
    rig.ask(Op::RevokeToken(id("t5")));
    assert!(matches!(rig.ask(Op::IssueToken(token("two-more", None))), Reply::Done));
}
