//! Leases as scripts: each line is what is done, at what time, and what comes of it.

use model::{Failure, FencingToken, Rejected};

use super::rig::{Rig, append_op, command, target};
use crate::event::{LeaseInfo, LeaseRequest, Op, Reply};
use crate::shard::checkpoint;

fn token(text: &str) -> FencingToken {
    FencingToken::try_from(text).expect("a token")
}

fn show(reply: Reply) -> String {
    let info = |lease: LeaseInfo| {
        format!(
            "{} #{} for {} of {}",
            lease.holder.as_str(),
            lease.generation,
            lease.expires_in_ms,
            lease.duration.as_ms()
        )
    };
    match reply {
        Reply::Lease(None) => "free".into(),
        Reply::Lease(Some(lease)) => info(lease),
        Reply::LeaseHeld(lease) => format!("held by {}", info(lease)),
        Reply::LeaseLost => "lost".into(),
        Reply::Done => "done".into(),
        Reply::Appended(appended) => format!("at {}", appended.start.seq_num),
        Reply::Failed(Failure::Rejected(Rejected::FencingTokenMismatch(token))) => {
            format!("fenced by {:?}", token.as_str())
        }
        Reply::Failed(failure) => failure.to_string(),
        other => panic!("{other:?}"),
    }
}

/// Does one line: `acquire HOLDER MS TOKEN`, `renew TOKEN [MS]`, `release TOKEN`, `look`, `append TOKEN`, `fence TOKEN`,
/// `pass MS`, `restart`, `checkpoint`, `delete`, `create`.
fn act(mut rig: Rig, line: &str) -> (Rig, String) {
    let words: Vec<&str> = line.split(' ').collect();
    let ms = |text: &str| text.parse::<u64>().expect("a number");
    let duration = |text: &str| ms(text).try_into().expect("a duration");
    let lease = |request| Op::Lease { target: target("s"), request };
    let op = match words[..] {
        ["acquire", holder, for_ms, given] => lease(LeaseRequest::Acquire {
            holder: holder.try_into().expect("a holder"),
            duration: duration(for_ms),
            token: token(given),
        }),
        ["renew", given] => lease(LeaseRequest::Renew { token: token(given), duration: None }),
        ["renew", given, for_ms] => {
            lease(LeaseRequest::Renew { token: token(given), duration: Some(duration(for_ms)) })
        }
        ["release", given] => lease(LeaseRequest::Release { token: token(given) }),
        ["look"] => lease(LeaseRequest::Inspect),
        ["append", given] => {
            return {
                let reply = rig.append_if("s", None, Some(given));
                (rig, show(reply))
            };
        }
        ["fence", given] => Op::Append(append_op("s", command("fence", given.as_bytes()))),
        ["create"] => Op::CreateStream { target: target("s"), spec: super::rig::spec(), request_key: None },
        ["delete"] => Op::DeleteStream { target: target("s") },
        ["pass", for_ms] => {
            rig.pass(ms(for_ms));
            return (rig, String::new());
        }
        // All time is lost: the process that comes has another monotonic clock.
        ["restart"] => return (Rig::recover(rig.disk).expect("the log is whole").0, String::new()),
        _ => panic!("{line}"),
    };
    let reply = rig.ask(op);
    let shown = if matches!(reply, Reply::Stream(..)) { String::new() } else { show(reply) };
    (rig, shown)
}

#[track_caller]
fn check(script: &str) {
    let (mut rig, _) = act(Rig::new(), "create");
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (what, expected) = line.split_once(" -> ").unwrap_or((line, ""));
        let shown;
        (rig, shown) = act(rig, what);
        assert_eq!(shown, expected, "{line}\nin{script}");
    }
}

#[test]
fn one_holds_it_at_a_time() {
    check(
        "look -> free
         acquire a 5000 ta -> a #1 for 5000 of 5000
         append ta -> at 1
         acquire b 5000 tb -> held by a #1 for 5000 of 5000
         acquire a 5000 ta2 -> held by a #1 for 5000 of 5000
         pass 2000
         look -> a #1 for 3000 of 5000
         append tb -> fenced by \"ta\"
         append ta -> at 2",
    );
}

#[test]
fn what_is_not_renewed_runs_out_and_may_be_taken() {
    check(
        "acquire a 2000 ta -> a #1 for 2000 of 2000
         pass 1500
         renew ta -> a #1 for 2000 of 2000
         pass 1999
         acquire b 1000 tb -> held by a #1 for 1 of 2000
         pass 1
         look -> free
         renew ta -> lost
         release ta -> lost
         append ta -> at 1
         acquire b 1000 tb -> b #2 for 1000 of 1000
         append ta -> fenced by \"tb\"
         renew ta -> lost
         release ta -> lost
         append tb -> at 3",
    );
}

#[test]
fn a_renewal_may_change_how_long_it_holds() {
    check(
        "acquire a 2000 ta -> a #1 for 2000 of 2000
         renew tb -> lost
         renew ta 60000 -> a #1 for 60000 of 60000
         pass 30000
         renew ta -> a #1 for 60000 of 60000
         renew ta 1000 -> a #1 for 1000 of 1000
         pass 1000
         look -> free",
    );
}

#[test]
fn a_release_frees_it_and_ends_its_token() {
    check(
        "acquire a 60000 ta -> a #1 for 60000 of 60000
         release tb -> lost
         release ta -> done
         look -> free
         append ta -> fenced by \"\"
         release ta -> lost
         acquire b 5000 tb -> b #2 for 5000 of 5000",
    );
}

#[test]
fn whoever_sets_another_token_ends_it() {
    check(
        "acquire a 60000 ta -> a #1 for 60000 of 60000
         fence ta -> at 1
         look -> a #1 for 60000 of 60000
         fence other -> at 2
         look -> free
         renew ta -> lost
         append ta -> fenced by \"other\"
         fence ta -> at 3
         look -> free
         renew ta -> lost
         acquire b 5000 tb -> b #2 for 5000 of 5000",
    );
}

#[test]
fn after_a_restart_it_holds_for_all_of_its_time_and_a_second() {
    check(
        "acquire a 5000 ta -> a #1 for 5000 of 5000
         pass 4000
         restart
         look -> a #1 for 6000 of 5000
         acquire b 5000 tb -> held by a #1 for 6000 of 5000
         append ta -> at 1
         pass 5999
         acquire b 5000 tb -> held by a #1 for 1 of 5000
         pass 1
         acquire b 5000 tb -> b #2 for 5000 of 5000
         restart
         append ta -> fenced by \"tb\"
         renew tb -> b #2 for 5000 of 5000
         fence x -> at 3
         restart
         look -> free
         acquire c 5000 tc -> c #3 for 5000 of 5000
         release tc -> done
         restart
         look -> free
         acquire d 5000 td -> d #4 for 5000 of 5000",
    );
}

#[test]
fn a_deleted_stream_takes_it_along() {
    check(
        "acquire a 60000 ta -> a #1 for 60000 of 60000
         delete -> done
         look -> stream deletion pending: stream `s` in basin `test-basin` is being deleted
         renew ta -> stream deletion pending: stream `s` in basin `test-basin` is being deleted
         pass 5000
         look -> stream `s` in basin `test-basin` not found
         create
         look -> free
         acquire b 5000 tb -> b #1 for 5000 of 5000",
    );
}

#[test]
fn requests_of_one_burst_are_judged_by_what_is_on_its_way() {
    let (mut rig, _) = act(Rig::new(), "create");
    let acquire = |holder: &str, given: &str| Op::Lease {
        target: target("s"),
        request: LeaseRequest::Acquire {
            holder: holder.try_into().expect("a holder"),
            duration: 5000.try_into().expect("a duration"),
            token: token(given),
        },
    };
    let first = rig.send(acquire("a", "ta"));
    let second = rig.send(acquire("b", "tb"));
    assert!(
        !rig.replies.contains_key(&first) && !rig.replies.contains_key(&second),
        "nobody is told before it is durable"
    );
    rig.settle();
    assert_eq!(show(rig.replies.remove(&first).expect("answered")), "a #1 for 5000 of 5000");
    assert_eq!(show(rig.replies.remove(&second).expect("answered")), "held by a #1 for 5000 of 5000");
}

#[test]
fn a_crash_before_it_is_durable_leaves_neither_lease_nor_fence() {
    let (mut rig, _) = act(Rig::new(), "create");
    rig.send(Op::Lease {
        target: target("s"),
        request: LeaseRequest::Acquire {
            holder: "a".try_into().expect("a holder"),
            duration: 5000.try_into().expect("a duration"),
            token: token("ta"),
        },
    });
    rig.step(crate::event::Event::BurstEnd);
    assert!(!rig.writes.is_empty());
    let (rig, shown) = act(Rig::recover(rig.disk).expect("the log is whole").0, "look");
    assert_eq!(shown, "free");
    assert_eq!(act(rig, "append ").1, "at 0", "the empty token is in force");
}

#[test]
fn a_row_of_a_checkpoint_has_it_and_an_old_row_has_none() {
    for script in [&["acquire a 5000 ta"][..], &["acquire a 5000 ta", "release ta"], &[]] {
        let mut rig = act(Rig::new(), "create").0;
        for line in script {
            rig = act(rig, line).0;
        }
        let place = rig.shard.find(&target("s")).ok().flatten().expect("it is there");
        let mut stream = rig.shard.stream(place).clone();
        let read = checkpoint::row_there_and_back(&stream);
        if let Some(lease) = &mut stream.lease {
            lease.settle();
        }
        assert_eq!(read.lease, stream.lease);
        assert_eq!((read.token, read.cipher, read.tail), (stream.token, stream.cipher, stream.tail));
        assert_eq!(read.lease.is_some(), !script.is_empty(), "without a lease the row is as it was");
    }
}
