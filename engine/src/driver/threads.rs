//! Runs a shard on a plain thread that blocks in `poll`; writes and reads that shall not hold it up go to a few helper
//! threads. For kernels and containers without io_uring.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};
use crossbeam_queue::ArrayQueue;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::carry::{Carrier, Machine, Rest};
use super::config::IN_FLIGHT_MAX;
use super::device::DurabilityOp;
use super::guard::StopOnPanic;
use super::mailbox::Inbox;
use super::seat::Seat;
use super::transfer::{Completion, Device, ExtentWrite, LogRead};

/// Runs a started shard until it is told to stop.
pub(super) fn run<M: Machine>(carrier: &mut Carrier<M, HelperThreads>, seat: &Seat) {
    let doorbell = &seat.inbox().doorbell;
    loop {
        while !carrier.stopped() && carrier.burst() {}
        match carrier.rest() {
            Rest::None => {}
            Rest::Stop => return,
            Rest::Until(at_us) => {
                let timeout = at_us.map(|at_us| {
                    let left_us = at_us.saturating_sub(seat.shared.clock.mono_us());
                    let whole = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
                    Timespec { tv_sec: whole(left_us / 1_000_000), tv_nsec: whole(left_us % 1_000_000 * 1000) }
                });
                match poll(&mut [PollFd::new(doorbell, PollFlags::IN)], timeout.as_ref()) {
                    Ok(0) | Err(Errno::INTR) => {}
                    Ok(_) => doorbell.clear(),
                    Err(errno) => panic!("an eventfd of ours cannot be polled: {errno}"),
                }
                carrier.woken();
            }
        }
    }
}

/// Keeps the calling thread on one core. Only a wish: that it is refused changes nothing but speed.
pub(super) fn pin_to(cpu: usize) {
    let mut cpus = rustix::thread::CpuSet::new();
    cpus.set(cpu);
    let _ = rustix::thread::sched_setaffinity(None, &cpus);
}

/// Two threads that write and two that read, for one shard. They end when this is dropped and their work is done.
#[derive(Debug)]
pub(super) struct HelperThreads {
    writes: Option<Sender<ExtentWrite>>,
    reads: Option<Sender<LogRead>>,
    threads: Vec<JoinHandle<()>>,
    done: Arc<Done>,
    /// Reads that found no room: see [`Device::read`].
    waiting: VecDeque<LogRead>,
    reads_count: usize,
    writes_count: usize,
}

/// Where the helpers put what ended.
#[derive(Debug)]
struct Done {
    queue: ArrayQueue<Completion>,
    inbox: Arc<Inbox>,
}

impl HelperThreads {
    /// Starts the threads; they ring the doorbell of `inbox`.
    pub(super) fn start(inbox: Arc<Inbox>, durability: DurabilityOp) -> io::Result<Self> {
        let done = Arc::new(Done { queue: ArrayQueue::new(IN_FLIGHT_MAX + READS_MAX), inbox });
        let (writes, writes_todo) = bounded(IN_FLIGHT_MAX);
        let (reads, reads_todo) = bounded(READS_MAX);
        let mut threads = Vec::new();
        for _ in 0..WRITERS_COUNT {
            threads.push(start("log-writer", &writes_todo, &done, move |w: ExtentWrite| w.perform(durability))?);
        }
        for _ in 0..READERS_COUNT {
            threads.push(start("log-reader", &reads_todo, &done, LogRead::perform)?);
        }
        let (writes, reads) = (Some(writes), Some(reads));
        Ok(Self { writes, reads, threads, done, waiting: VecDeque::new(), reads_count: 0, writes_count: 0 })
    }

    fn start_read(&mut self, read: LogRead) {
        self.reads_count += 1;
        let reads = self.reads.as_ref().expect("they run until this is dropped");
        assert!(reads.try_send(read).is_ok(), "the channel holds all reads that are under way");
    }
}

/// Starts a thread that does one kind of work.
fn start<W: Send + 'static>(
    name: &str,
    todo: &Receiver<W>,
    done: &Arc<Done>,
    perform: impl Fn(W) -> Completion + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let (todo, done) = (todo.clone(), Arc::clone(done));
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        let _guard = StopOnPanic;
        for work in &todo {
            let pushed = done.queue.push(perform(work));
            assert!(pushed.is_ok(), "the queue holds all that is under way");
            done.inbox.doorbell.ring();
        }
    })
}

impl Device for HelperThreads {
    fn write(&mut self, write: ExtentWrite) {
        assert!(self.writes_count < IN_FLIGHT_MAX, "the shard keeps to its own bound");
        self.writes_count += 1;
        let writes = self.writes.as_ref().expect("they run until this is dropped");
        assert!(writes.try_send(write).is_ok(), "the channel holds all writes that are under way");
    }

    fn read(&mut self, read: LogRead) {
        if self.reads_count < READS_MAX {
            self.start_read(read);
        } else {
            self.waiting.push_back(read);
        }
    }

    /// The threads have begun already.
    fn submit(&mut self) {}

    fn reap(&mut self, ended: &mut Vec<Completion>) {
        let before = ended.len();
        ended.extend(std::iter::from_fn(|| self.done.queue.pop()));
        for completion in &ended[before..] {
            if is_read(completion) {
                self.reads_count -= 1;
            } else {
                self.writes_count -= 1;
            }
        }
        while self.reads_count < READS_MAX {
            let Some(read) = self.waiting.pop_front() else { break };
            self.start_read(read);
        }
    }

    fn has_ended(&mut self) -> bool {
        !self.done.queue.is_empty()
    }

    fn in_flight(&self) -> usize {
        self.reads_count + self.writes_count + self.waiting.len()
    }
}

impl Drop for HelperThreads {
    fn drop(&mut self) {
        (self.writes, self.reads) = (None, None);
        for thread in self.threads.drain(..) {
            // A panic over there has ended the process already.
            let _ = thread.join();
        }
    }
}

const fn is_read(completion: &Completion) -> bool {
    matches!(completion, Completion::Event(crate::event::Event::LogRead { .. }))
}

/// As many writes overlap; more would only queue behind each other's flush.
const WRITERS_COUNT: usize = 2;
const READERS_COUNT: usize = 2;
/// Reads with the helpers; more wait.
const READS_MAX: usize = 64;
