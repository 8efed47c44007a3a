//! The world: one queue of what happens next, nodes, clients, and the rules that are checked at every event.
//!
//! ```text
//! clients.rs  who asks what, when     carry.rs  a burst, its effects, the disk's answers    judge.rs   every answer
//! crash.rs    dying and coming back   mishap.rs faults by the clock                         refusals.rs every refusal
//! leases.rs   who appends alone       tokens.rs access tokens                               ciphers.rs sealed or not
//! witness.rs  what clients write down themselves                                            damage.rs  what must be refused
//! finish.rs   faults end, all works again, everything is read from the disk alone
//! ```
#![allow(clippy::wildcard_enum_match_arm, reason = "rules look for a few kinds of answers, faults and work among many")]

mod carry;
mod ciphers;
mod clients;
mod crash;
mod damage;
mod finish;
mod judge;
mod leases;
mod mishap;
mod overdue;
mod promises;
mod refusals;
mod tokens;
mod witness;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use engine::event::{Request, ShardMessage};
use model::{BasinName, ShardId, StreamName};

use crate::attempts::Attempts;
use crate::coverage::{Coverage, Fault};
use crate::disk::WorkId;
use crate::history::{History, OpId};
use crate::node::Node;
use crate::rng::Rng;
use crate::run::Plan;
use crate::swarm::Swarm;
use crate::trace::{Entry, Trace};
use crate::violation::Violation;
use clients::{Client, Known};
use judge::Pending;
pub(crate) use promises::Promises;

/// What happens at a time.
#[derive(Debug)]
enum What {
    /// A shard takes what has come.
    Burst(ShardId),
    /// Work of a disk ends.
    DiskEnd(ShardId, WorkId),
    /// A timer rings, if it is still the one that is set.
    Timer(ShardId, u64),
    /// A request reaches a shard.
    Arrive(ShardId, Box<Request>),
    /// A message reaches a shard.
    Message(ShardId, ShardMessage),
    /// A client does something.
    Act(usize),
    /// A fault happens, and will again or not.
    Mishap(Fault, Repeat),
    /// A bit is put right.
    Heal(ShardId),
    /// The node's process starts.
    Restart,
}

/// Whether a fault comes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repeat {
    Yes,
    No,
}

#[derive(Debug)]
struct Scheduled {
    at_us: u64,
    order: u64,
    node: u16,
    /// The life of the node that it belongs to; `None` for what outlives it.
    life: Option<u32>,
    what: What,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.at_us, self.order) == (other.at_us, other.order)
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_us, self.order).cmp(&(other.at_us, other.order))
    }
}

/// What a run did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests sent.
    pub operations: u64,
    /// Appends acknowledged.
    pub acks: u64,
    /// Events taken by shards.
    pub events: u64,
    /// Lives of nodes.
    pub lives: u64,
}

/// A simulated world.
#[derive(Debug)]
pub struct World {
    rng: Rng,
    swarm: Swarm,
    now_us: u64,
    end_us: u64,
    queue: BinaryHeap<Reverse<Scheduled>>,
    order: u64,
    nodes: Vec<Node>,
    basins: Vec<BasinName>,
    streams: Vec<StreamName>,
    clients: Vec<Client>,
    known: Vec<Known>,
    pending: BTreeMap<u64, Pending>,
    last_token: u64,
    last_session: u64,
    attempts: Attempts,
    /// What clients of some streams have written down, and which of it is not answered.
    pub history: History,
    recorded: BTreeMap<u64, (usize, OpId)>,
    faults_stopped: bool,
    clients_stopped: bool,
    /// The log was full not long ago: clients make room.
    pressure: u32,
    /// Reached so far.
    pub coverage: Coverage,
    /// Done so far.
    pub counts: Counts,
    /// What happened.
    pub trace: Trace,
}

impl World {
    /// The world of a plan.
    #[must_use]
    pub fn new(plan: &Plan, trace: Trace) -> Self {
        let mut rng = Rng::new(plan.seed);
        let mut swarm = Swarm::new(&mut rng, &plan.faults);
        swarm.think_us = swarm.think_us * 100 / plan.load_percent;
        // One more, for the streams whose history is kept.
        let basins = (0..=swarm.basins_count).map(|n| name(&format!("basin-{n:04}"))).collect();
        let streams = (0..swarm.streams_count).map(|n| stream_name(&format!("s{n}"))).collect();
        let known = vec![Known::default(); (swarm.basins_count + 1) * swarm.streams_count];
        let clients: Vec<Client> = (0..swarm.clients_count).map(Client::new).collect();
        let holders = (0..swarm.holders_count).map(|_| Client::holder());
        let clients = clients.into_iter().chain([Client::visitor()]).chain(holders).collect();
        let nodes = vec![Node::new(&swarm)];
        let mut world = Self {
            rng,
            now_us: 0,
            end_us: plan.minutes * 60_000_000,
            queue: BinaryHeap::new(),
            order: 0,
            nodes,
            basins,
            streams,
            clients,
            known,
            pending: BTreeMap::new(),
            last_token: 0,
            last_session: 0,
            attempts: Attempts::default(),
            history: History::default(),
            recorded: BTreeMap::new(),
            faults_stopped: false,
            clients_stopped: false,
            pressure: 0,
            coverage: Coverage::default(),
            counts: Counts::default(),
            trace,
            swarm,
        };
        world.schedule(0, 0, None, What::Restart);
        let (clients_count, holders_count) = (world.swarm.clients_count, world.swarm.holders_count);
        let holders = clients_count + 1..=clients_count + holders_count;
        for client in (0..clients_count).chain(holders) {
            let at_us = world.rng.below(1_000_000);
            world.schedule(at_us, 0, None, What::Act(client));
        }
        let faults: Vec<(Fault, u64)> = world.swarm.faults.iter().map(|(fault, mean_us)| (*fault, *mean_us)).collect();
        for (fault, mean_us) in faults.into_iter().filter(|(fault, _)| !fault.goes_with_a_crash()) {
            let at_us = world.rng.after(mean_us);
            world.schedule(at_us, 0, None, What::Mishap(fault, Repeat::Yes));
        }
        world
    }

    /// Lives through all of it.
    ///
    /// # Errors
    /// The first broken rule.
    pub fn run(&mut self) -> Result<(), Violation> {
        self.run_until(self.end_us)?;
        self.finish()
    }

    fn run_until(&mut self, end_us: u64) -> Result<(), Violation> {
        while self.queue.peek().is_some_and(|Reverse(next)| next.at_us <= end_us) {
            let Some(Reverse(next)) = self.queue.pop() else { break };
            self.now_us = next.at_us;
            self.happen(next)?;
        }
        self.now_us = self.now_us.max(end_us);
        Ok(())
    }

    fn happen(&mut self, next: Scheduled) -> Result<(), Violation> {
        let node = usize::from(next.node);
        if next.life.is_some_and(|life| life != self.nodes[node].life || !self.nodes[node].is_up) {
            return Ok(());
        }
        if next.life.is_some() && self.nodes[node].paused_until_us > self.now_us {
            // A stopped process takes nothing in; its disk and its timers do not wait, but nobody hears them.
            let at_us = self.nodes[node].paused_until_us;
            self.schedule_again(at_us, next);
            return Ok(());
        }
        match next.what {
            What::Burst(shard) => self.burst(node, shard),
            What::DiskEnd(shard, work) => self.disk_end(node, shard, work),
            What::Timer(shard, at_us) => self.timer(node, shard, at_us),
            What::Arrive(shard, request) => {
                self.arrive(node, shard, *request);
                Ok(())
            }
            What::Message(shard, message) => {
                self.give(node, shard, engine::event::Event::Shard(message));
                Ok(())
            }
            What::Act(client) => {
                self.act(client);
                Ok(())
            }
            What::Mishap(fault, repeat) => self.mishap(node, fault, repeat),
            What::Heal(shard) => {
                self.nodes[node].seats[usize::from(shard.0)].heal();
                Ok(())
            }
            What::Restart => self.restart(node),
        }
    }

    fn schedule(&mut self, at_us: u64, node: usize, life: Option<u32>, what: What) {
        self.order += 1;
        let node = u16::try_from(node).expect("few nodes");
        self.queue.push(Reverse(Scheduled { at_us, order: self.order, node, life, what }));
    }

    fn schedule_again(&mut self, at_us: u64, next: Scheduled) {
        self.order += 1;
        self.queue.push(Reverse(Scheduled { at_us, order: self.order, ..next }));
    }

    /// Schedules something of the node's present life.
    fn soon(&mut self, after_us: u64, node: usize, what: What) {
        let life = self.nodes[node].life;
        self.schedule(self.now_us + after_us, node, Some(life), what);
    }

    fn note(&mut self, node: usize, shard: ShardId, what: &'static str, details: [u64; 3]) {
        let place = (u16::try_from(node).expect("few nodes"), shard.0);
        self.trace.push(Entry { at_us: self.now_us, place, what, details });
    }

    /// Simulated time so far, in microseconds.
    #[must_use]
    pub const fn simulated_us(&self) -> u64 {
        self.now_us
    }
}

fn name(name: &str) -> BasinName {
    BasinName::try_from(name).expect("a valid name")
}

fn stream_name(name: &str) -> StreamName {
    StreamName::try_from(name).expect("a valid name")
}
