//! The queues under threads that hammer them: order, no lost wake, and the books of what is open.

use std::thread;
use std::time::Duration;

use model::{BasinId, BasinName, GroupId, StreamName};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::*;
use crate::event::{Follow, ReadLimits, SessionId, Target};

/// A front port and the shards' inboxes at its other end.
fn port(shards_count: usize, outstanding_max: usize) -> (FrontPort, Vec<Arc<Inbox>>) {
    let inboxes: Vec<_> =
        (0..shards_count).map(|_| Arc::new(Inbox::new(vec![Arc::new(Lane::new(outstanding_max))]).unwrap())).collect();
    let doorbell = Arc::new(Doorbell::new().unwrap());
    (FrontPort::new(0, Clock::start(), doorbell, &inboxes, outstanding_max), inboxes)
}

fn target() -> Target {
    Target {
        group: GroupId(1),
        basin_id: BasinId(1),
        basin: BasinName::try_from("basin-of-tests").unwrap(),
        stream: StreamName::try_from("stream").unwrap(),
        incarnation: None,
    }
}

fn ask() -> Op {
    Op::GetStreamConfig { target: target() }
}

fn follow() -> Op {
    Op::Follow(Follow { target: target(), from_seq_num: 0, limits: ReadLimits::default() })
}

/// Blocks like a driver; fails the test when nothing comes for long: a wake was lost.
fn sleep(doorbell: &Doorbell) {
    let timeout = Timespec { tv_sec: 20, tv_nsec: 0 };
    assert_eq!(poll(&mut [PollFd::new(doorbell, PollFlags::IN)], Some(&timeout)).unwrap(), 1, "a wake was lost");
}

/// A shard that answers each request with its token, `burst_max` at a time, until the inbox is told to stop.
fn echo(inbox: &Inbox, front: &Doorbell, burst_max: usize) {
    loop {
        let mut count = 0;
        while let Some(request) = inbox.lanes[0].take() {
            inbox.lanes[0].put(Answer::Reply(request.reply_to.token, Reply::Done));
            count += 1;
            if count == burst_max {
                break;
            }
        }
        if count > 0 {
            front.ring();
            continue;
        }
        if inbox.stop.load(Ordering::Acquire) {
            return;
        }
        inbox.doorbell.announce_sleep();
        if !inbox.has_any(true) {
            sleep(&inbox.doorbell);
            inbox.doorbell.clear();
        }
        inbox.doorbell.awake();
    }
}

#[test]
fn a_hammered_mailbox_loses_no_wake_and_keeps_the_order() {
    const REQUESTS: u64 = 60_000;
    // Few open requests make both sides sleep often; many make them overtake each other.
    for outstanding_max in [1, 3, 256] {
        let (mut port, inboxes) = port(2, outstanding_max);
        let front = Arc::clone(&port.doorbell);
        thread::scope(|scope| {
            for inbox in &inboxes {
                let front = Arc::clone(&front);
                scope.spawn(move || echo(inbox, &front, 64));
            }
            let mut sent = [0; 2];
            let mut answered = [0; 2];
            while answered.iter().sum::<u64>() < REQUESTS {
                for (shard, sent) in (0u16..).zip(&mut sent) {
                    // The token tells shard and number.
                    while *sent < REQUESTS / 2
                        && port.send(ShardId(shard), *sent * 2 + u64::from(shard), 0, ask()).is_ok()
                    {
                        *sent += 1;
                    }
                }
                port.flush();
                let drained = port.drain(|token, _| {
                    let shard = usize::try_from(token % 2).unwrap();
                    assert_eq!(token / 2, answered[shard], "answers keep the order");
                    answered[shard] += 1;
                });
                if drained == 0 && port.prepare_sleep() {
                    sleep(&front);
                    port.awake();
                }
            }
            for inbox in &inboxes {
                inbox.raise(&inbox.stop);
            }
        });
        assert_eq!(port.outstanding(), 0);
    }
}

#[test]
fn a_full_lane_gives_the_op_back_and_an_answer_makes_room() {
    let (mut port, inboxes) = port(1, 2);
    for token in 0..2 {
        port.send(ShardId(0), token, 0, ask()).unwrap();
    }
    assert!(matches!(port.send(ShardId(0), 2, 0, ask()), Err(Op::GetStreamConfig { .. })));
    // The shard has taken them, but they are still open.
    while inboxes[0].lanes[0].take().is_some() {}
    assert!(port.send(ShardId(0), 2, 0, ask()).is_err());
    inboxes[0].lanes[0].put(Answer::Reply(0, Reply::Done));
    assert_eq!(port.drain(|token, _| assert_eq!(token, 0)), 1);
    port.send(ShardId(0), 2, 0, ask()).unwrap();
}

#[test]
fn a_cancelled_follow_is_open_until_that_is_confirmed() {
    let (mut port, inboxes) = port(1, 1);
    let lane = &inboxes[0].lanes[0];
    port.send(ShardId(0), 7, 0, follow()).unwrap();
    port.send(ShardId(0), 0, 0, Op::CancelFollow(7)).unwrap();
    port.send(ShardId(0), 0, 0, Op::CancelFollow(7)).unwrap();
    // The queue held only the follow: its cancellation goes as soon as there is room, and once.
    assert!(matches!(lane.take().unwrap().op, Op::Follow(_)));
    port.flush();
    assert!(matches!(lane.take().unwrap().op, Op::CancelFollow(7)));
    port.flush();
    assert!(lane.take().is_none());
    // An answer was under way already: it is delivered, but the request stays open.
    lane.put(Answer::Reply(7, Reply::Done));
    assert_eq!(port.drain(|token, _| assert_eq!(token, 7)), 1);
    assert_eq!(port.outstanding(), 1);
    lane.put(Answer::FollowOver(7));
    assert_eq!(port.drain(|_, _| panic!("a confirmation is not an answer")), 1);
    assert_eq!(port.outstanding(), 0);
    // Nothing to cancel any more.
    port.send(ShardId(0), 0, 0, Op::CancelFollow(7)).unwrap();
    assert!(lane.take().is_none());
}

#[test]
fn ops_without_an_answer_are_never_refused() {
    let (mut port, inboxes) = port(1, 1);
    port.send(ShardId(0), 1, 0, ask()).unwrap();
    for number in 0..10 {
        port.send(ShardId(0), 0, 0, Op::EndSession(SessionId { front: 0, number })).unwrap();
    }
    let mut ended = Vec::new();
    while let Some(request) = inboxes[0].lanes[0].take() {
        if let Op::EndSession(session) = request.op {
            ended.push(session.number);
        }
        port.flush();
    }
    assert_eq!(ended, (0..10).collect::<Vec<_>>());
    assert_eq!(port.outstanding(), 1);
}

#[test]
fn a_busy_side_is_not_signalled() {
    let doorbell = Doorbell::new().unwrap();
    let is_readable = || {
        let none = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut [PollFd::new(&doorbell, PollFlags::IN)], Some(&none)).unwrap() == 1
    };
    doorbell.ring();
    assert!(!is_readable());
    doorbell.announce_sleep();
    doorbell.ring();
    doorbell.ring();
    assert!(is_readable());
    doorbell.clear();
    assert!(!is_readable());
    thread::sleep(Duration::from_millis(1));
    doorbell.ring();
    assert!(!is_readable(), "one announcement, one wake");
}
