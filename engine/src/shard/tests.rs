//! The shard as a whole, on disks in memory: what it acknowledges, shows, keeps and forgets.

use model::config::StreamConfig;
use model::{Failure, Position, Rejected, RetentionPolicy, Unavailable};
use proptest::prelude::*;

use super::rig::*;
use super::*;
use crate::event::*;
use crate::log::extent::{EXTENT_HEADER_BYTES, ExtentHeader};
use crate::log::frame::{FrameHeader, FrameKind};
use crate::log::{BLOCK_BYTES, SegmentNo};

fn rejected(reply: Reply) -> Rejected {
    match reply {
        Reply::Failed(Failure::Rejected(rejected)) => rejected,
        other => panic!("{other:?}"),
    }
}

fn appended(reply: Reply) -> Appended {
    match reply {
        Reply::Appended(appended) => appended,
        other => panic!("{other:?}"),
    }
}

fn tail(rig: &mut Rig, stream: &str) -> u64 {
    match rig.tail(stream) {
        Reply::Tail(tail) => tail.seq_num,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_append_is_answered_only_when_durable_and_in_order_of_the_log() {
    let mut rig = Rig::new();
    rig.append("s", &[b"0"]);
    let first = rig.send(Op::Append(append_op("s", batch(&[&vec![1; 300_000]]))));
    rig.step(Event::BurstEnd);
    let second = rig.send(Op::Append(append_op("s", batch(&[&vec![2; 300_000]]))));
    rig.step(Event::BurstEnd);
    assert_eq!(rig.writes.len(), 2, "a large extent goes out beside another");
    rig.end_write(1);
    assert!(rig.replies.is_empty(), "the second is durable, the first is not");
    let tail = rig.send(Op::CheckTail { target: target("s"), create: None });
    assert!(
        matches!(rig.replies.remove(&tail), Some(Reply::Tail(Position { seq_num: 1, .. }))),
        "nothing new is visible"
    );
    rig.end_write(0);
    assert_eq!(appended(rig.replies.remove(&first).expect("durable")).start.seq_num, 1);
    assert_eq!(appended(rig.replies.remove(&second).expect("durable")).start.seq_num, 2);
}

#[test]
fn appends_that_come_during_a_write_share_the_next() {
    let mut rig = Rig::new();
    for _ in 0..10 {
        rig.send(Op::Append(append_op("s", batch(&[b"x"]))));
        rig.step(Event::BurstEnd);
    }
    assert_eq!(rig.writes.len(), 1);
    rig.end_write(0);
    assert_eq!((rig.replies.len(), rig.writes.len()), (1, 1));
    rig.end_write(0);
    assert_eq!(rig.replies.len(), 10);
}

#[test]
fn a_failed_condition_is_told_when_what_it_was_judged_against_is_durable() {
    let mut rig = Rig::new();
    rig.append("s", &[b"0"]);
    assert_eq!(rejected(rig.append_if("s", Some(7), None)), Rejected::SeqNumMismatch(1));
    rig.send(Op::Append(append_op("s", batch(&[b"1"]))));
    rig.step(Event::BurstEnd);
    let failed = rig.send(Op::Append(Append { match_seq_num: Some(1), ..append_op("s", batch(&[b"x"])) }));
    rig.step(Event::BurstEnd);
    assert!(!rig.replies.contains_key(&failed), "record 1 is not durable yet");
    rig.end_write(0);
    assert_eq!(rejected(rig.replies.remove(&failed).expect("told now")), Rejected::SeqNumMismatch(2));
}

#[test]
fn a_session_stops_at_its_first_failure() {
    let mut rig = Rig::new();
    let id = SessionId { front: 0, number: 1 };
    let session = Some(id);
    let input = |match_seq_num| Op::Append(Append { match_seq_num, session, ..append_op("s", batch(&[b"x"])) });
    let tokens = [None, Some(9), None].map(|m| rig.send(input(m)));
    rig.settle();
    let replies = tokens.map(|t| rig.replies.remove(&t).expect("answered"));
    assert!(matches!(replies[0], Reply::Appended(_)));
    assert!(matches!(replies[1], Reply::Failed(Failure::Rejected(Rejected::SeqNumMismatch(1)))));
    assert!(matches!(replies[2], Reply::Failed(Failure::Unavailable(Unavailable::SessionPoisoned))));
    assert_eq!(tail(&mut rig, "s"), 1);
    rig.send(Op::EndSession(id));
    assert!(rig.shard.poisoned.is_empty());
}

#[test]
fn fences_and_trims_take_effect_and_survive() {
    let mut rig = Rig::new();
    rig.append("s", &[b"0", b"1", b"2"]);
    rig.ask(Op::Append(append_op("s", command("fence", b"me"))));
    assert!(
        matches!(rejected(rig.append_if("s", None, Some("you"))), Rejected::FencingTokenMismatch(t) if t.as_str() == "me")
    );
    appended(rig.append_if("s", None, Some("me")));
    appended(rig.append_if("s", None, None));
    rig.ask(Op::Append(append_op("s", command("trim", &2u64.to_be_bytes()))));
    let numbers = |rig: &mut Rig| rig.read_all("s", 0).iter().map(|(p, _)| p.seq_num).collect::<Vec<_>>();
    assert_eq!(numbers(&mut rig), [2, 3, 4, 5, 6]);
    let (mut rig, _) = Rig::recover(rig.disk).expect("intact");
    assert_eq!(numbers(&mut rig), [2, 3, 4, 5, 6]);
    assert!(
        matches!(rejected(rig.append_if("s", None, Some("you"))), Rejected::FencingTokenMismatch(t) if t.as_str() == "me")
    );
    rig.ask(Op::Append(append_op("s", command("trim", &u64::MAX.to_be_bytes()))));
    assert_eq!(numbers(&mut rig), Vec::<u64>::new(), "a trim beyond the tail is clamped to behind itself");
    assert_eq!(tail(&mut rig, "s"), 8);
}

#[test]
fn followers_wake_when_records_are_durable() {
    let mut rig = Rig::new();
    rig.append("s", &[b"0"]);
    let mut followed = target("s");
    followed.incarnation = rig.shard.find(&followed).expect("no refusal").map(|(_, id)| id);
    let limits = ReadLimits { batches: 1, ..ReadLimits::default() };
    let follow = Op::Follow(Follow { target: followed, from_seq_num: 1, limits });
    let waiting = rig.send(follow.clone());
    let cancelled = rig.send(follow.clone());
    rig.send(Op::CancelFollow(cancelled));
    assert!(rig.replies.is_empty());
    rig.send(Op::Append(append_op("s", batch(&[b"1", b"2"]))));
    rig.step(Event::BurstEnd);
    assert!(rig.replies.is_empty());
    rig.settle();
    let Some(Reply::Read(reply)) = rig.replies.remove(&waiting) else { panic!("woken") };
    assert_eq!(records_of(&reply).len(), 2);
    assert_eq!((reply.next_seq_num, reply.tail.seq_num), (3, 3));
    assert!(!rig.replies.contains_key(&cancelled));
    let late = rig.send(follow);
    rig.settle();
    assert!(matches!(rig.replies.remove(&late), Some(Reply::Read(_))), "what is there is answered at once");
}

#[test]
fn a_deleted_stream_closes_its_readers_then_frees_its_name() {
    let mut rig = Rig::new();
    rig.append("s", &[b"0"]);
    let mut followed = target("s");
    followed.incarnation = rig.shard.find(&followed).expect("no refusal").map(|(_, id)| id);
    let limits = ReadLimits { batches: 1, ..ReadLimits::default() };
    let waiting = rig.send(Op::Follow(Follow { target: followed, from_seq_num: 1, limits }));
    assert!(matches!(rig.ask(Op::DeleteStream { target: target("s") }), Reply::Done));
    assert!(matches!(rejected(rig.replies.remove(&waiting).expect("told")), Rejected::StreamDeleting(..)));
    assert!(matches!(rejected(rig.append("s", &[b"x"])), Rejected::StreamDeleting(..)));
    assert!(matches!(rig.ask(Op::DeleteStream { target: target("s") }), Reply::Done), "again is fine");
    rig.pass(3000);
    assert!(matches!(rejected(rig.tail("s")), Rejected::StreamNotFound(..)));
    assert_eq!(appended(rig.append("s", &[b"new"])).start.seq_num, 0);
    let (mut rig, _) = Rig::recover(rig.disk).expect("intact");
    assert_eq!(rig.read_all("s", 0).iter().map(|(_, b)| &b[..]).collect::<Vec<_>>(), [b"new"]);
}

#[test]
fn a_deleted_basin_takes_its_streams_with_it() {
    let mut rig = Rig::new();
    for i in 0..20 {
        rig.append(&format!("s{i}"), &[b"x"]);
    }
    assert!(matches!(rig.ask(Op::DeleteBasin { basin: basin() }), Reply::Done));
    let create = || Op::CreateBasin { basin: basin(), config: Default::default(), request_key: None };
    assert!(matches!(rejected(rig.ask(create())), Rejected::BasinDeleting(_)));
    rig.pass(5000);
    assert_eq!(rig.shard.stats().streams_count, 0);
    assert!(
        matches!(rejected(rig.append("s1", &[b"x"])), Rejected::BasinDeleting(_)),
        "the old incarnation stays gone"
    );
    assert!(matches!(rig.ask(create()), Reply::Basin(info, Provision::Created) if info.id == model::BasinId(2)));
    assert_eq!(rig.shard.index_bytes, 0);
}

#[test]
fn a_basin_that_is_going_takes_nothing_more_and_the_log_says_so_in_order() {
    let mut rig = Rig::new();
    for i in 0..20 {
        rig.append(&format!("s{i}"), &[b"x"]);
    }
    rig.ask(Op::DeleteStream { target: target("s9") });
    assert!(matches!(rig.ask(Op::DeleteBasin { basin: basin() }), Reply::Done));
    // Sessions have seen nothing of it yet. Their appends come before, between and behind the drops of the groups.
    let mut tokens = Vec::new();
    for _ in 0..4 {
        for i in 0..20 {
            tokens.push(rig.send(Op::Append(Append { create: None, ..append_op(&format!("s{i}"), batch(&[b"y"])) })));
        }
        tokens.push(rig.send(Op::DeleteStream { target: target("s3") }));
        tokens.push(rig.send(Op::Append(append_op("new", batch(&[b"y"])))));
        rig.now.mono_us += 700_000;
        rig.now.wall_ms += 700;
        rig.step(Event::Timer);
    }
    rig.settle();
    let refused = tokens.iter().filter(|t| matches!(rig.replies.get(t), Some(Reply::Failed(_)))).count();
    let done = tokens.iter().filter(|t| rig.replies.contains_key(t)).count();
    assert!(refused >= 20 && done == tokens.len(), "{refused} of {done}");
    rig.pass(2000);
    let (rig, recovered) = Rig::recover(rig.disk).expect("the log contradicts nothing");
    assert_eq!((recovered.streams_count, rig.shard.stats().streams_count), (0, 0));
}

#[test]
fn the_end_of_a_session_stays_behind_its_appends() {
    let mut rig = Rig::new();
    rig.append("s", &[b"x"]);
    let session = SessionId { front: 0, number: 1 };
    let append = |match_seq_num| {
        let body = vec![b'b'; 900_000];
        Op::Append(Append { match_seq_num, session: Some(session), ..append_op("s", batch(&[&body])) })
    };
    // More than the device takes at once, so that the last ones wait.
    let first: Vec<u64> = (0..20).map(|_| rig.send(append(None))).collect();
    let failing = rig.send(append(Some(0)));
    let behind = rig.send(append(None));
    rig.send(Op::EndSession(session));
    assert!(!rig.shard.deferred.is_empty(), "the test needs requests that wait");
    rig.settle();
    for token in first {
        assert!(matches!(rig.replies[&token], Reply::Appended(_)), "{:?}", rig.replies[&token]);
    }
    for token in [failing, behind] {
        assert!(matches!(rig.replies[&token], Reply::Failed(_)), "{:?}", rig.replies[&token]);
    }
    assert!(rig.shard.poisoned.is_empty(), "nobody ends this session again");
}

#[test]
fn a_segment_without_its_header_is_damage_where_the_log_may_go_on() {
    let mut rig = Rig::new();
    rig.ask(Op::CreateStream { target: target("s"), spec: spec(), request_key: None });
    let mut disk = rig.disk;
    // No later segment tells of it.
    disk.segments.retain(|segment, _| *segment == SegmentNo(1));
    disk.segments.get_mut(&SegmentNo(1)).expect("the first")[5] ^= 1;
    let refusal = Rig::recover(disk).err().expect("refused");
    assert!(refusal.0.contains("0000000000000001.seg does not begin with its header"), "{refusal}");
}

#[test]
fn records_expire_and_empty_streams_go() {
    let mut rig = Rig::new();
    let config = StreamConfig {
        retention: Some(RetentionPolicy::AgeSecs(60)),
        delete_on_empty_min_age_secs: Some(90),
        ..StreamConfig::default()
    };
    let spec = StreamSpec { config: config.resolve(&StreamConfig::default()).into(), cipher: None };
    rig.ask(Op::CreateStream { target: target("s"), spec, request_key: None });
    rig.append("s", &[b"0"]);
    rig.pass(40_000);
    rig.append("s", &[b"1"]);
    rig.pass(25_000);
    assert_eq!(rig.read_all("s", 0).len(), 1, "the first has expired");
    rig.pass(40_000);
    assert_eq!(rig.shard.stats().index_bytes, 0);
    assert_eq!(tail(&mut rig, "s"), 2, "expiry never lowers the tail");
    rig.pass(40_000);
    assert!(matches!(rejected(rig.tail("s")), Rejected::StreamNotFound(..)));
}

#[test]
fn a_file_whose_number_is_no_segments_is_passed_over() {
    let mut rig = Rig::new();
    rig.append("s", &[b"0"]);
    // Anybody may put a file of this name there: `ffffffffffffffff.seg`.
    let copy = rig.disk.segments[&SegmentNo(1)].clone();
    rig.disk.segments.insert(SegmentNo(u64::MAX), copy);
    let report = inspect(&config(), &rig.disk);
    assert!(report.recovery.is_ok() && !report.segments.last().expect("two").is_ours);
    let (mut rig, _) = Rig::recover(rig.disk).expect("the log is whole");
    assert_eq!(rig.read_all("s", 0).len(), 1);
}

#[test]
fn the_largest_epoch_on_the_disk_stops_no_start() {
    let mut rig = Rig::new();
    rig.append("s", &[b"0"]);
    rig.settle();
    let end = rig.shard.writer.end();
    let offset = usize::try_from(rig.shard.geometry.offset(end)).expect("a segment is small");
    let file = rig.disk.segments.get_mut(&rig.shard.geometry.segment(end)).expect("written");
    let (mut stray, _) = ExtentHeader::decode(&file[BLOCK_BYTES..]).expect("the first extent");
    (stray.epoch, stray.lsn, stray.durable_lsn) = (u32::MAX, end, Lsn(0));
    file[offset..offset + EXTENT_HEADER_BYTES].copy_from_slice(&stray.encode().0);
    let (mut rig, recovered) = Rig::recover(rig.disk).expect("nothing says that it was durable");
    assert_eq!((recovered.torn_count, rig.read_all("s", 0).len()), (1, 1));
}

#[test]
fn a_batch_whose_numbers_overflow_is_a_contradiction() {
    let mut frame = FrameHeader::new(FrameKind::Batch, model::GroupId(0));
    (frame.first_seq_num, frame.records_count) = (u64::MAX - 1, 1);
    assert!(recover::batch_op(&frame, &[], 0).is_some());
    frame.records_count = 2;
    assert_eq!(recover::batch_op(&frame, &[], 0), None);
}

#[test]
fn a_full_log_stops_appends_and_goes_on_after_a_trim() {
    let mut rig = Rig::new();
    let body = vec![7; 1_000_000];
    let mut count = 0;
    let full = loop {
        match rig.append("s", &[&body]) {
            Reply::Appended(_) => count += 1,
            other => break other,
        }
    };
    assert!(matches!(full, Reply::Failed(Failure::Unavailable(Unavailable::LogFull))));
    assert!(count > 30, "{count} MB fit six segments of 8 MiB");
    assert_eq!(rig.read_all("s", 0).len(), count, "reads go on");
    appended(rig.ask(Op::Append(append_op("s", command("trim", &(count as u64).to_be_bytes())))));
    rig.pass(5000);
    for _ in 0..100 {
        appended(rig.append("s", &[&body]));
        let up_to = tail(&mut rig, "s").to_be_bytes();
        appended(rig.ask(Op::Append(append_op("s", command("trim", &up_to)))));
    }
    assert!(rig.disk.segments.len() <= 6);
    Rig::recover(rig.disk).expect("intact");
}

#[test]
fn no_space_on_the_device_stops_appends_until_there_is() {
    let mut rig = Rig::new();
    rig.no_space = true;
    let body = vec![7; 1_000_000];
    while let Reply::Appended(_) = rig.append("s", &[&body]) {}
    assert!(matches!(rig.append("s", &[&body]), Reply::Failed(Failure::Unavailable(Unavailable::LogFull))));
    rig.no_space = false;
    rig.pass(3000);
    appended(rig.append("s", &[&body]));
}

#[test]
fn old_records_are_read_from_the_device() {
    let mut rig = Rig::new();
    for i in 0..40u8 {
        for stream in ["a", "b", "c"] {
            rig.append(stream, &[&vec![i; 50_000], &[i]]);
        }
    }
    assert!(rig.shard.cache.bytes() <= 4 << 20);
    for stream in ["a", "b", "c"] {
        let records = rig.read_all(stream, 0);
        assert_eq!(records.len(), 80);
        assert!(records.iter().zip(0u64..).all(|((p, body), i)| p.seq_num == i && body[0] == (i / 2) as u8));
    }
    assert!(rig.shard.stats().log_reads_total > 0);
    let Reply::Read(reply) = rig.read("b", ReadStart::TailOffset(3)) else { panic!("readable") };
    assert_eq!(records_of(&reply).len(), 3);
}

#[test]
fn damage_of_what_was_durable_is_refused_by_name() {
    let mut rig = Rig::new();
    rig.append("precious", &[b"first"]);
    rig.append("precious", &[b"0123456789"]);
    let (_, offset) = find_body(&rig.disk, b"0123456789");
    rig.append("other", &[b"x"]);
    let mut disk = rig.disk.clone();
    disk.segments.get_mut(&SegmentNo(1)).expect("exists")[offset] ^= 1;
    let error = Rig::recover(disk.clone()).err().expect("refused").0;
    for part in ["0000000000000001.seg", "precious", "--accept-data-loss"] {
        assert!(error.contains(part), "{error}");
    }
    let (mut rig, recovered) =
        Rig::recover_with(ShardConfig { accept_data_loss: true, ..config() }, disk).expect("accepted");
    assert!(recovered.lost.is_some());
    appended(rig.append("precious", &[b"again"]));
    Rig::recover(rig.disk).expect("whole again");
}

#[test]
fn damage_of_the_very_last_extent_is_noticed_once_an_idle_extent_follows() {
    let mut rig = Rig::new();
    rig.append("s", &[b"0123456789"]);
    rig.pass(50);
    let (segment, offset) = find_body(&rig.disk, b"0123456789");
    rig.disk.segments.get_mut(&segment).expect("exists")[offset] ^= 1;
    assert!(Rig::recover(rig.disk).is_err());
}

#[test]
fn a_missing_segment_is_refused_by_name() {
    let mut rig = Rig::new();
    rig.shard.config.checkpoint_log_bytes = u64::MAX;
    for _ in 0..20 {
        rig.append("s", &[&vec![7; 900_000]]);
    }
    assert!(rig.shard.space.current() > Some(SegmentNo(2)));
    rig.disk.segments.remove(&SegmentNo(2));
    let error = Rig::recover(rig.disk).err().expect("refused").0;
    assert!(error.contains("0000000000000002.seg is missing"), "{error}");
}

fn find_body(disk: &Disk, body: &[u8]) -> (SegmentNo, usize) {
    let mut found = disk
        .segments
        .iter()
        .filter_map(|(segment, bytes)| Some((*segment, bytes.windows(body.len()).position(|w| w == body)?)));
    found.next().expect("it is there")
}

/// What a client may do to the rig.
#[derive(Debug, Clone)]
enum Act {
    Append(u8, u8, u16),
    Trim(u8, u8),
    Delete(u8),
    EndWrite(u8),
    Pass(u16),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (0..4u8, 1..6u8, 0..3000u16).prop_map(|(s, n, len)| Act::Append(s, n, len)),
        1 => (0..4u8, 0..30u8).prop_map(|(s, to)| Act::Trim(s, to)),
        1 => (0..4u8).prop_map(Act::Delete),
        6 => any::<u8>().prop_map(Act::EndWrite),
        1 => (0..2000u16).prop_map(Act::Pass),
    ]
}

/// Runs a script; returns the rig, and for each stream that was never deleted its acknowledged records.
fn run(acts: &[Act]) -> (Rig, BTreeMap<String, BTreeMap<u64, Vec<u8>>>) {
    let mut rig = Rig::new();
    rig.shard.config.checkpoint_log_bytes = 64 << 10;
    let mut sent: BTreeMap<u64, (String, Vec<Vec<u8>>)> = BTreeMap::new();
    let mut acked: BTreeMap<String, BTreeMap<u64, Vec<u8>>> = BTreeMap::new();
    let mut deleted = BTreeSet::new();
    let mut counter = 0u64;
    for act in acts {
        match act {
            Act::Append(stream, count, len) => {
                let stream = format!("s{stream}");
                let bodies: Vec<Vec<u8>> = (0..*count)
                    .map(|_| {
                        counter += 1;
                        let mut body = counter.to_be_bytes().to_vec();
                        body.resize(8 + usize::from(*len), counter as u8);
                        body
                    })
                    .collect();
                let refs: Vec<&[u8]> = bodies.iter().map(|b| &b[..]).collect();
                let token = rig.send(Op::Append(append_op(&stream, batch(&refs))));
                sent.insert(token, (stream, bodies));
                rig.step(Event::BurstEnd);
            }
            Act::Trim(stream, up_to) => {
                rig.send(Op::Append(append_op(
                    &format!("t{stream}"),
                    command("trim", &u64::from(*up_to).to_be_bytes()),
                )));
            }
            Act::Delete(stream) => {
                rig.send(Op::DeleteStream { target: target(&format!("s{stream}")) });
                deleted.insert(format!("s{stream}"));
            }
            Act::EndWrite(at) if !rig.writes.is_empty() => rig.end_write(usize::from(*at) % rig.writes.len()),
            Act::EndWrite(_) => {}
            Act::Pass(ms) => {
                rig.now =
                    Now { mono_us: rig.now.mono_us + u64::from(*ms) * 1000, wall_ms: rig.now.wall_ms + u64::from(*ms) }
            }
        }
        for (token, reply) in std::mem::take(&mut rig.replies) {
            if let (Reply::Appended(a), Some((stream, bodies))) = (reply, sent.remove(&token)) {
                acked.entry(stream).or_default().extend((a.start.seq_num..).zip(bodies));
            }
        }
    }
    acked.retain(|stream, _| !deleted.contains(stream));
    (rig, acked)
}

/// Before the checkpoint nothing is looked at when a shard comes up, so damage shows when it is read.
#[test]
fn a_damaged_extent_header_ends_the_read_and_not_the_shard() {
    let mut rig = Rig::new();
    let body = vec![b'x'; 60 << 10];
    let mut extents = Vec::new();
    while rig.disk.checkpoint.is_none() {
        extents.push(rig.shard.geometry.offset(rig.shard.writer.end()) as usize);
        rig.append("s", &[&body]);
        rig.settle();
    }
    for _ in 0..3 {
        rig.append("s", &[b"later"]);
        rig.settle();
    }
    rig.pass(50);
    let segment = rig.shard.space.current().expect("written");
    let mut damaged_count = 0;
    for extent in extents {
        let mut disk = rig.disk.clone();
        disk.segments.get_mut(&segment).expect("exists")[extent + 1] ^= 1;
        let Ok((mut rig, _)) = Rig::recover(disk) else { continue };
        let mut next = 0;
        let is_damaged = loop {
            match rig.read("s", ReadStart::SeqNum(next)) {
                Reply::Read(reply) if reply.next_seq_num == reply.tail.seq_num => break false,
                Reply::Read(reply) => next = reply.next_seq_num,
                Reply::Failed(Failure::Corrupt(_)) => break true,
                other => panic!("{other:?}"),
            }
        };
        damaged_count += usize::from(is_damaged);
    }
    assert!(damaged_count > 3, "{damaged_count}");
}

/// A crash: of every write in flight any subset of its 512-byte sectors is there.
fn crash(rig: &Rig, keep: &[bool]) -> Disk {
    let mut disk = rig.disk.clone();
    let mut keep = keep.iter().cycle();
    for write in &rig.writes {
        let file = disk.segments.get_mut(&write.segment).expect("prepared");
        for (i, sector) in write.bytes.chunks(512).enumerate() {
            if *keep.next().expect("endless") {
                file[write.offset + i * 512..][..512].copy_from_slice(sector);
            }
        }
    }
    disk
}

fn check_all(rig: &mut Rig, acked: &BTreeMap<String, BTreeMap<u64, Vec<u8>>>) {
    for (stream, records) in acked {
        let found = rig.read_all(stream, 0);
        for (i, (position, body)) in found.iter().enumerate() {
            assert_eq!(position.seq_num, i as u64, "dense");
            if let Some(expected) = records.get(&position.seq_num) {
                assert_eq!(body, expected, "{stream} {}", position.seq_num);
            }
        }
        assert!(found.len() >= records.len(), "{stream}: {} of {}", found.len(), records.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn whatever_a_crash_keeps_all_that_was_acknowledged_is_there(
        acts in prop::collection::vec(act(), 1..60),
        keep in prop::collection::vec(any::<bool>(), 1..64),
        more in prop::collection::vec(any::<u8>(), 0..4),
    ) {
        let (rig, acked) = run(&acts);
        let (mut rig, _) = Rig::recover(crash(&rig, &keep)).expect("a crash is no damage");
        check_all(&mut rig, &acked);
        // And it goes on: more appends, another crash at once.
        for i in &more {
            rig.append(&format!("s{}", i % 4), &[&[*i]]);
        }
        let (mut rig, _) = Rig::recover(crash(&rig, &keep)).expect("a crash is no damage");
        check_all(&mut rig, &acked);
    }

    #[test]
    fn a_flipped_bit_is_survived_or_refused(
        acts in prop::collection::vec(act(), 1..40),
        place in any::<prop::sample::Index>(),
        bit in 0..8u8,
    ) {
        let (mut rig, acked) = run(&acts);
        rig.settle();
        // The last extent's durability is on disk once the idle extent is.
        rig.pass(50);
        let mut disk = rig.disk.clone();
        let end = rig.shard.geometry.offset(rig.shard.writer.end()) as usize;
        let current = rig.shard.space.current().expect("written");
        disk.segments.get_mut(&current).expect("exists")[4096 + place.index(end - 4096)] ^= 1 << bit;
        if let Ok((mut rig, _)) = Rig::recover(disk) {
            for (stream, records) in &acked {
                // Damage before the checkpoint shows when it is read.
                let mut next = 0;
                while next < records.len() as u64 {
                    match rig.read(stream, ReadStart::SeqNum(next)) {
                        Reply::Read(reply) => {
                            for (position, body) in records_of(&reply) {
                                if let Some(expected) = records.get(&position.seq_num) {
                                    prop_assert_eq!(&body, expected);
                                }
                            }
                            prop_assert!(reply.next_seq_num > next, "never silently less");
                            next = reply.next_seq_num;
                        }
                        Reply::Failed(Failure::Corrupt(_)) => break,
                        other => prop_assert!(false, "{:?}", other),
                    }
                }
            }
        }
    }
}
