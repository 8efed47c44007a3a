//! All drivers, with a machine that keeps every part of them busy.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::task::{Wake, Waker};
use std::time::Duration;

use model::config::BasinConfig;
use model::record::{BatchBuilder, Span};
use model::{BasinId, BasinName, Batch, Failure, GroupId, NamePrefix, StreamName, Unavailable};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::*;
use crate::driver::HostedRest;
use crate::driver::clerk::Clerk;
use crate::event::{Append, Follow, Op, ReadLimits, Reply, StreamSpec, Target};

const DRIVERS: [Driver; 3] = [Driver::Inline, Driver::Glommio, Driver::Threads];

fn config(dir: &Path, driver: Driver) -> NodeConfig {
    let shards = Some(2);
    let log_bytes_max = Some(1 << 30);
    NodeConfig { driver, shards, segment_bytes: 16 << 20, log_bytes_max, ..NodeConfig::new(dir.join("data")) }
}

/// A node with a thread for each shard that the driver leaves to its fronts. It stops when it is dropped.
struct Running {
    node: Option<Node>,
    hosts: Vec<JoinHandle<()>>,
}

impl Running {
    fn new(node: Node) -> Self {
        let fronts = u16::try_from(node.shared.fronts.len()).unwrap();
        let hosted = (0..fronts).flat_map(|front| node.hosted_shards(front));
        let host = |shard: HostedShard| {
            thread::Builder::new().name("shard-hosted".to_owned()).spawn(|| run_hosted(shard)).unwrap()
        };
        let hosts = hosted.map(host).collect();
        Self { node: Some(node), hosts }
    }
}

impl std::ops::Deref for Running {
    type Target = Node;

    fn deref(&self) -> &Node {
        self.node.as_ref().expect("there until the drop")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.node.take());
        for host in self.hosts.drain(..) {
            let _ = host.join();
        }
    }
}

/// A waker of a thread that sleeps on an eventfd.
struct Bell(OwnedFd);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        rustix::io::write(&self.0, &1_u64.to_ne_bytes()).unwrap();
    }
}

/// What a front does with a shard on its thread.
fn run_hosted(shard: HostedShard) {
    let mut shard = shard.begin().unwrap();
    let bell = Arc::new(Bell(eventfd(0, EventfdFlags::NONBLOCK).unwrap()));
    let waker = Waker::from(Arc::clone(&bell));
    loop {
        while shard.burst() {}
        let timeout = match shard.rest(&waker) {
            HostedRest::None => continue,
            HostedRest::Stop => return,
            HostedRest::Until(at_us) => at_us.map(|at_us| Duration::from_micros(at_us.saturating_sub(shard.now_us()))),
        };
        let timeout = timeout.map(|timeout| Timespec::try_from(timeout).unwrap());
        let (rang, called) = (shard.eventfd(), bell.0.as_fd());
        let mut fds = [PollFd::new(&rang, PollFlags::IN), PollFd::new(&called, PollFlags::IN)];
        poll(&mut fds, timeout.as_ref()).unwrap();
        let rang = !fds[0].revents().is_empty();
        let _ = rustix::io::read(&bell.0, &mut [0_u8; 8]);
        shard.woken(rang);
    }
}

fn start(config: &NodeConfig) -> Running {
    Running::new(Node::start_machines(config, Clerk::recover).unwrap_or_else(|error| panic!("{error}")))
}

fn target() -> Target {
    Target {
        group: GroupId(1),
        basin_id: BasinId(1),
        basin: basin(),
        stream: StreamName::try_from("stream").unwrap(),
        incarnation: None,
    }
}

fn basin() -> BasinName {
    BasinName::try_from("basin-of-tests").unwrap()
}

/// Makes the clerk write this many bytes.
fn write(bytes: usize) -> Op {
    let (prefix, start_after) = (NamePrefix::empty(), NamePrefix::empty());
    Op::ListStreams { basin_id: BasinId(1), prefix, start_after, limit: bytes }
}

fn batch(bodies: &[&[u8]]) -> Batch {
    let mut builder = BatchBuilder::new(bodies.concat().into());
    let mut start = 0;
    for body in bodies {
        builder.push(None, Span::default(), Span::new(start, body.len()).unwrap()).unwrap();
        start += body.len();
    }
    builder.finish().unwrap()
}

/// Blocks until answers come, then hands them over; the test fails when none come for long.
fn answers(port: &mut FrontPort, mut answered: impl FnMut(u64, Reply)) {
    loop {
        port.flush();
        if port.drain(&mut answered) > 0 {
            return;
        }
        if port.prepare_sleep() {
            let timeout = Timespec { tv_sec: 20, tv_nsec: 0 };
            let fd = port.eventfd();
            assert_eq!(poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)).unwrap(), 1, "no answer came");
            port.awake();
        }
    }
}

/// Asks one thing and waits for its answer.
fn ask(port: &mut FrontPort, shard: u16, token: u64, op: Op) -> Reply {
    let arrived_us = port.now_us();
    port.send(ShardId(shard), token, arrived_us, op).unwrap();
    let mut answer = None;
    answers(port, |got, reply| {
        assert_eq!(got, token);
        answer = Some(reply);
    });
    answer.expect("one answer came")
}

#[test]
fn every_effect_is_carried_out_and_every_event_reported() {
    for driver in DRIVERS {
        let dir = tempfile::tempdir().unwrap();
        let node = start(&config(dir.path(), driver));
        let mut port = node.front_port(0);
        for shard in [0, 1] {
            assert!(matches!(
                ask(&mut port, shard, 1, Op::CheckTail { target: target(), create: None }),
                Reply::Tail(_)
            ));
            assert!(matches!(ask(&mut port, shard, 2, write(40_000)), Reply::Done));
            assert!(matches!(ask(&mut port, shard, 3, Op::GetStreamConfig { target: target() }), Reply::Done));
            assert!(matches!(ask(&mut port, shard, 4, Op::DeleteStream { target: target() }), Reply::Done));
        }
        let create = Op::CreateBasin { basin: basin(), config: BasinConfig::default(), request_key: None };
        assert!(matches!(ask(&mut port, 0, 5, create), Reply::Basin(..)));
        assert!(node.basins().get(&basin()).is_some(), "a change is visible before the reply behind it");
        assert!(matches!(ask(&mut port, 0, 6, Op::DeleteBasin { basin: basin() }), Reply::Done));
        drop(node);
        let checkpoint = dir.path().join("data/log/01/checkpoint");
        assert_eq!(std::fs::read(checkpoint).unwrap(), b"checkpoint");
    }
}

#[test]
fn many_open_requests_on_two_fronts_are_all_answered() {
    const REQUESTS: u64 = 3000;
    for driver in DRIVERS {
        let dir = tempfile::tempdir().unwrap();
        let node = start(&NodeConfig { fronts: 2, ..config(dir.path(), driver) });
        thread::scope(|scope| {
            for front in [0, 1] {
                let mut port = node.front_port(front);
                scope.spawn(move || {
                    let (mut sent, mut answered) = (0, 0);
                    while answered < REQUESTS {
                        while sent < REQUESTS && sent - answered < 100 {
                            let shard = ShardId(u16::try_from(sent % 2).unwrap());
                            let op = if sent % 7 == 3 {
                                Op::CheckTail { target: target(), create: None }
                            } else {
                                write(300)
                            };
                            port.send(shard, sent, 0, op).unwrap();
                            sent += 1;
                        }
                        answers(&mut port, |_, _| answered += 1);
                    }
                });
            }
        });
        assert!(node.drain(Duration::from_secs(20)));
        let appends: u64 = node.stats().iter().map(|stats| stats.appends_total).sum();
        assert_eq!(appends, 2 * (0..REQUESTS).filter(|n| n % 7 != 3).count() as u64);
    }
}

#[test]
fn a_drain_waits_for_what_is_open_and_a_cancelled_follow_is_not() {
    for driver in DRIVERS {
        let dir = tempfile::tempdir().unwrap();
        let node = start(&config(dir.path(), driver));
        let mut port = node.front_port(0);
        let follow = || Op::Follow(Follow { target: target(), from_seq_num: 0, limits: ReadLimits::default() });
        port.send(ShardId(0), 1, 0, follow()).unwrap();
        port.send(ShardId(0), 2, 0, follow()).unwrap();
        port.send(ShardId(0), 0, 0, Op::CancelFollow(1)).unwrap();
        answers(&mut port, |token, reply| panic!("nothing to answer, but {token} got {reply:?}"));
        assert_eq!(port.outstanding(), 1);
        assert!(node.drain(Duration::from_secs(20)));
        let mut failures = Vec::new();
        answers(&mut port, |token, reply| failures.push((token, reply)));
        let [(2, Reply::Failed(Failure::Unavailable(Unavailable::Draining)))] = failures[..] else {
            panic!("{failures:?}")
        };
    }
}

#[test]
fn a_restart_finds_the_segment_and_a_damaged_shard_keeps_all_from_starting() {
    let dir = tempfile::tempdir().unwrap();
    for (driver, segments) in [(Driver::Auto, 0), (Driver::Threads, 1)] {
        let node = start(&config(dir.path(), driver));
        let mut port = node.front_port(0);
        assert!(matches!(ask(&mut port, 0, 1, write(100)), Reply::Done));
        assert!(matches!(ask(&mut port, 1, 2, write(100)), Reply::Done));
        println!("{}", node.report());
        assert!(node.report().recovered.iter().all(|recovered| recovered.streams_count == segments));
        let second = Node::start_machines(&config(dir.path(), driver), Clerk::recover);
        assert!(matches!(second, Err(StartError::InUse { process: Some(_), .. })));
    }
    std::fs::write(dir.path().join("data/log/01/checkpoint"), b"damaged").unwrap();
    let refusal = Node::start_machines(&config(dir.path(), Driver::Threads), Clerk::recover).unwrap_err();
    assert_eq!(refusal.to_string(), "shard 1: the checkpoint is damaged");
}

#[test]
fn appends_are_found_again_by_the_other_driver() {
    const STREAMS: u64 = 40;
    let dir = tempfile::tempdir().unwrap();
    let to = |node: &Node, n: u64| {
        let stream = StreamName::try_from(format!("stream-{n}").as_str()).unwrap();
        let group = node.placement().group(Placement::slot(&basin(), &stream));
        (node.placement().shard(group), Target { group, stream, ..target() })
    };
    for (round, driver) in [Driver::Inline, Driver::Glommio, Driver::Threads].into_iter().enumerate() {
        let node = Running::new(Node::start(config(dir.path(), driver)).unwrap());
        let mut port = node.front_port(0);
        for n in 0..STREAMS {
            let (shard, target) = to(&node, n);
            let append = Append {
                target,
                batch: batch(&[b"one", b"two"]),
                match_seq_num: Some(2 * round as u64),
                fencing_token: None,
                create: Some(StreamSpec { config: Arc::default(), cipher: None }),
                session: None,
            };
            port.send(shard, n, 0, Op::Append(append)).unwrap();
        }
        let mut appended = 0;
        while appended < STREAMS {
            answers(&mut port, |token, reply| {
                let Reply::Appended(ack) = reply else { panic!("{token}: {reply:?}") };
                assert_eq!(ack.end.seq_num, 2 * round as u64 + 2);
                appended += 1;
            });
        }
        let recovered: u64 = node.report().recovered.iter().map(|recovered| recovered.streams_count).sum();
        assert_eq!(recovered, if round == 0 { 0 } else { STREAMS });
        if round == 1 {
            assert!(node.drain(Duration::from_secs(20)));
        }
    }
}

/// The exit status of this very test when it runs alone in a process of its own and does `what`.
fn exit_status(test: &str, what: &str) -> Option<i32> {
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", test, "--nocapture"]).env(CHILD, what);
    child.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    child.status().unwrap().code()
}

const CHILD: &str = "MILLRACE_TEST_CHILD";

#[test]
fn a_failed_device_and_a_panic_end_the_process_each_with_its_own_status() {
    let Ok(what) = std::env::var(CHILD) else {
        let test = "driver::node::tests::a_failed_device_and_a_panic_end_the_process_each_with_its_own_status";
        for driver in ["inline", "glommio", "threads"] {
            assert_eq!(exit_status(test, &format!("{driver} device")), Some(super::super::EXIT_DEVICE), "{driver}");
            assert_eq!(exit_status(test, &format!("{driver} panic")), Some(super::super::EXIT_PANIC), "{driver}");
        }
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let driver = match what.split(' ').next() {
        Some("inline") => Driver::Inline,
        Some("glommio") => Driver::Glommio,
        _ => Driver::Threads,
    };
    let node = start(&config(dir.path(), driver));
    let mut port = node.front_port(0);
    let op = if what.ends_with("panic") {
        Op::EnsureBasin { basin: basin(), config: BasinConfig::default() }
    } else {
        // The segment vanishes before it is opened for its first write.
        let segment = dir.path().join("data/log/00/0000000000000001.seg");
        while std::fs::remove_file(&segment).is_err() {
            thread::sleep(Duration::from_millis(1));
        }
        write(100)
    };
    let _ = ask(&mut port, 0, 1, op);
    unreachable!("the process has ended");
}

#[test]
fn an_idle_node_uses_no_cpu() {
    for driver in DRIVERS {
        let dir = tempfile::tempdir().unwrap();
        let node = start(&config(dir.path(), driver));
        assert!(matches!(ask(&mut node.front_port(0), 0, 1, write(100)), Reply::Done));
        thread::sleep(Duration::from_millis(200));
        let before = shard_cpu_ticks();
        thread::sleep(Duration::from_millis(1500));
        // Shards of tests that run beside this one are busy: only the least busy of all counts.
        let used: Vec<u64> = shard_cpu_ticks().iter().filter_map(|(thread, t)| Some(t - before.get(thread)?)).collect();
        assert!(used.iter().filter(|ticks| **ticks <= 1).count() >= 2, "{driver:?}: {used:?} ticks");
    }
}

/// User and system time by thread, in ticks, of the threads that run shards in this process.
fn shard_cpu_ticks() -> std::collections::BTreeMap<String, u64> {
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    let stats = threads.filter_map(|thread| std::fs::read_to_string(thread.unwrap().path().join("stat")).ok());
    stats
        .filter(|stat| stat.contains("(shard"))
        .map(|stat| {
            let (id, fields) = (stat.split(' ').next().unwrap(), stat.rsplit(')').next().unwrap());
            let fields: Vec<&str> = fields.split_whitespace().collect();
            (id.to_owned(), fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap())
        })
        .collect()
}

/// Run by hand: `cargo test --release -p millrace-engine -- --ignored --nocapture driver_figures`.
#[test]
#[ignore = "measures, does not check"]
fn driver_figures() {
    const RUN: Duration = Duration::from_millis(400);
    // The variants in turns, so that a busy moment of the machine does not fall on one of them only.
    for (open, bytes) in [(1, 100), (4, 100), (16, 100), (64, 100), (256, 100), (1, 65_536), (4, 65_536), (16, 65_536)]
    {
        for round in 0..3 {
            for (driver, write_here_bytes_max) in
                [(Driver::Glommio, 0), (Driver::Glommio, 1 << 20), (Driver::Threads, 0), (Driver::Threads, 1 << 20)]
            {
                let dir = tempfile::Builder::new().tempdir_in(".").unwrap();
                let one = NodeConfig {
                    shards: Some(1),
                    segment_bytes: 64 << 20,
                    write_here_bytes_max,
                    ..config(dir.path(), driver)
                };
                let node = start(&one);
                let mut port = node.front_port(0);
                let _ = ask(&mut port, 0, 0, write(100));
                let (mut latencies_us, start) = (Vec::new(), Instant::now());
                let mut free = open;
                while start.elapsed() < RUN {
                    for _ in 0..std::mem::take(&mut free) {
                        let now_us = port.now_us();
                        port.send(ShardId(0), now_us, now_us, write(bytes)).unwrap();
                    }
                    let mut got = Vec::new();
                    answers(&mut port, |sent_us, _| got.push(sent_us));
                    let now_us = port.now_us();
                    free = got.len();
                    latencies_us.extend(got.iter().map(|sent_us| now_us - sent_us));
                }
                latencies_us.sort_unstable();
                let at = |part: usize| latencies_us[(latencies_us.len() * part / 1000).min(latencies_us.len() - 1)];
                println!(
                    "{driver:?} here {write_here_bytes_max:>7} round {round} open {open:>3} x {bytes:>5} B: {:>7.0}/s p50 {:>5} p99 {:>5} us",
                    latencies_us.len() as f64 / RUN.as_secs_f64(),
                    at(500),
                    at(990),
                );
            }
        }
    }
}
