//! All shards of a process over one data directory: starts them, hands out their ports, stops them.

use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use model::ShardId;
use model::placement::Placement;

use super::basins::BasinDirectory;
use super::carry::{Carrier, Machine};
use super::clock::Clock;
use super::config::{Driver, NodeConfig};
use super::device::{DeviceProbe, probe_device};
use super::directory::DataDirectory;
use super::doorbell::Doorbell;
use super::files::{LogDir, SegmentFiles};
use super::guard::StopOnPanic;
use super::housekeeper::Housekeeper;
use super::image::DiskImage;
use super::inline::HostedShard;
use super::mailbox::{FrontPort, Inbox, Lane};
use super::report::{DriverKind, NodeReport, StartError};
use super::ring::LogRing;
use super::seat::{Board, Seat, Shared};
use super::threads::HelperThreads;
use super::tokens::TokenDirectory;
use super::{glommio, threads};
use crate::shard::{LogImage, Recovered, RecoveryError, Shard, ShardConfig, ShardStats};

/// The running shards. Dropping it stops them.
#[derive(Debug)]
pub struct Node {
    shared: Arc<Shared>,
    report: NodeReport,
    /// By front; `None` once taken.
    ports: Mutex<Vec<Option<FrontPort>>>,
    threads: Vec<JoinHandle<()>>,
    /// Shards that wait for their front's thread; only of the inline driver.
    hosted: Mutex<Vec<HostedShard>>,
    /// Held as long as anything of ours may write.
    directory: DataDirectory,
}

impl Node {
    /// Opens or makes the data directory, recovers all shards and starts them.
    ///
    /// # Errors
    /// See [`StartError`]; nothing runs then, and nothing was written to the logs.
    pub fn start(config: NodeConfig) -> Result<Self, StartError> {
        Self::start_machines(&config, |config, image| Shard::recover(config, image))
    }

    /// [`Node::start`] with any kind of machine.
    pub(super) fn start_machines<M: Machine + Send + 'static>(
        config: &NodeConfig,
        recover: Recover<M>,
    ) -> Result<Self, StartError> {
        config.check()?;
        let directory = DataDirectory::open(config)?;
        let device = probe_device(&directory.dir).map_err(StartError::io("probe", &directory.dir))?;
        let (driver, driver_reason) = choose(config.driver)?;
        let segments_max = directory.segments_max(config.log_bytes_max)?;
        let mut notices = directory.notices.clone();
        let pinned_to = cores(config, directory.recorded.placement.shards_count, &mut notices);
        let shared = share(config, &directory, device)?;
        let mut rooms = Vec::new();
        for shard in 0..directory.recorded.placement.shards_count {
            let seat = Seat { shard: ShardId(shard), shared: Arc::clone(&shared) };
            let room = Room {
                log: directory.log_dir(seat.shard),
                config: config.shard(seat.shard, &directory.recorded, segments_max),
                direct: device.direct,
                cpu: pinned_to.get(usize::from(shard)).copied(),
                seat,
            };
            rooms.push(room);
        }
        let (threads, hosted, recovered) = match driver {
            DriverKind::Glommio | DriverKind::Threads => {
                let (threads, recovered) = start_threads(rooms, driver, recover)?;
                (threads, Vec::new(), recovered)
            }
            DriverKind::Inline => {
                let (hosted, recovered) = recover_all(rooms, recover)?;
                (Vec::new(), hosted, recovered)
            }
        };
        let report = NodeReport {
            driver,
            driver_reason,
            durability: shared.durability,
            device,
            dir: directory.dir.clone(),
            directory_id: directory.recorded.directory_id,
            placement: directory.recorded.placement,
            segment_bytes: directory.recorded.segment_bytes,
            segments_max,
            pinned_to,
            recovered,
            memory: config.memory(directory.recorded.placement.shards_count),
            notices,
        };
        let port = |front| {
            let doorbell = Arc::clone(&shared.fronts[usize::from(front)]);
            Some(FrontPort::new(front, shared.clock, doorbell, &shared.inboxes, config.lane_outstanding_max()))
        };
        let ports = Mutex::new((0..config.fronts).map(port).collect());
        Ok(Self { shared, report, ports, threads, hosted: Mutex::new(hosted), directory })
    }

    /// The port of front `front`, to be moved to its thread.
    ///
    /// # Panics
    /// When it was taken before, or there is no such front.
    #[must_use]
    pub fn front_port(&self, front: u16) -> FrontPort {
        let mut ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        ports[usize::from(front)].take().expect("a port is taken once")
    }

    /// The shards that run on the thread of front `front`, to be moved there; none unless the driver is
    /// [`DriverKind::Inline`]. They must run for as long as the node is asked anything.
    #[must_use]
    pub fn hosted_shards(&self, front: u16) -> Vec<HostedShard> {
        let fronts_count = self.shared.fronts.len();
        let mut hosted = self.hosted.lock().unwrap_or_else(PoisonError::into_inner);
        let (ours, others) =
            hosted.drain(..).partition(|h| usize::from(h.shard().0) % fronts_count == usize::from(front));
        *hosted = others;
        ours
    }

    /// What is in force.
    #[must_use]
    pub const fn report(&self) -> &NodeReport {
        &self.report
    }

    /// The committed basins.
    #[must_use]
    pub fn basins(&self) -> Arc<BasinDirectory> {
        Arc::clone(&self.shared.basins)
    }

    /// The committed access tokens.
    #[must_use]
    pub fn tokens(&self) -> Arc<TokenDirectory> {
        Arc::clone(&self.shared.tokens)
    }

    /// How streams are spread.
    #[must_use]
    pub const fn placement(&self) -> Placement {
        self.report.placement
    }

    /// The clock of all arrival times.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.shared.clock
    }

    /// Counters and gauges by shard, a moment old.
    #[must_use]
    pub fn stats(&self) -> Vec<ShardStats> {
        self.shared.boards.iter().map(Board::stats).collect()
    }

    /// Tells the shards to refuse new appends and waits until all that was accepted is durable and answered; false when
    /// that takes longer than `patience`. Fronts go on taking answers meanwhile.
    #[must_use]
    pub fn drain(&self, patience: Duration) -> bool {
        for inbox in &self.shared.inboxes {
            inbox.raise(&inbox.drain);
        }
        let start = Instant::now();
        while !self.shared.boards.iter().all(Board::drained) {
            if start.elapsed() > patience {
                return false;
            }
            thread::sleep(DRAIN_LOOK);
        }
        true
    }

    /// Ends all threads; what was not answered by then never is.
    pub fn stop(self) {
        drop(self);
    }

    /// Ends all threads after a drain, and notes in the directory that nothing was left undone.
    ///
    /// # Errors
    /// When that cannot be noted; everything durable is safe all the same.
    pub fn leave(mut self) -> std::io::Result<()> {
        self.end_threads();
        self.directory.leave()
    }

    fn end_threads(&mut self) {
        for inbox in &self.shared.inboxes {
            inbox.raise(&inbox.stop);
        }
        for thread in self.threads.drain(..) {
            // A panic over there has ended the process already.
            let _ = thread.join();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.end_threads();
    }
}

/// The driver in force, and why.
fn choose(asked: Driver) -> Result<(DriverKind, String), StartError> {
    match asked {
        Driver::Threads => Ok((DriverKind::Threads, "asked for".to_owned())),
        Driver::Glommio => match glommio::probe() {
            Ok(()) => Ok((DriverKind::Glommio, "asked for".to_owned())),
            Err(reason) => Err(StartError::Driver(format!(
                "the glommio driver does not run here ({reason}): allow io_uring, or use the inline or the threads driver"
            ))),
        },
        Driver::Inline | Driver::Auto => {
            let device = match LogRing::probe() {
                Ok(()) => "io_uring works here and carries the log".to_owned(),
                Err(reason) => format!("the log is carried by helper threads, io_uring does not work here: {reason}"),
            };
            Ok((DriverKind::Inline, device))
        }
    }
}

/// The core of each shard; none when they are not pinned.
fn cores(config: &NodeConfig, shards_count: u16, notices: &mut Vec<String>) -> Vec<usize> {
    if !config.pin {
        return Vec::new();
    }
    let allowed = rustix::thread::sched_getaffinity(None).ok();
    let cores: Vec<usize> = (0..rustix::thread::CpuSet::MAX_CPU)
        .filter(|cpu| allowed.as_ref().is_some_and(|allowed| allowed.is_set(*cpu)))
        .collect();
    // A pinned shard that shares its core with a front waits for it while other cores idle.
    let needed = usize::from(shards_count) + usize::from(config.fronts);
    if cores.len() < needed {
        notices.push(format!("shards are not pinned: {needed} cores are needed, {} are there", cores.len()));
        return Vec::new();
    }
    cores[cores.len() - usize::from(shards_count)..].to_vec()
}

/// Makes all queues.
fn share(config: &NodeConfig, directory: &DataDirectory, device: DeviceProbe) -> Result<Arc<Shared>, StartError> {
    let shards = 0..directory.recorded.placement.shards_count;
    let failed = || StartError::io("make an eventfd for", &directory.dir);
    let lanes = || (0..config.fronts).map(|_| Arc::new(Lane::new(config.lane_outstanding_max()))).collect();
    let inboxes = shards.clone().map(|_| Ok(Arc::new(Inbox::new(lanes()).map_err(failed())?)));
    let fronts = (0..config.fronts).map(|_| Ok(Arc::new(Doorbell::new().map_err(failed())?)));
    Ok(Arc::new(Shared {
        clock: Clock::start(),
        durability: device.durability(),
        write_here_bytes_max: config.write_here_bytes_max,
        basins: Arc::default(),
        tokens: Arc::default(),
        inboxes: inboxes.collect::<Result<_, StartError>>()?,
        fronts: fronts.collect::<Result<_, StartError>>()?,
        boards: shards.map(|_| Board::default()).collect(),
    }))
}

/// Where a shard works and what it is made of.
pub(super) struct Room {
    pub(super) seat: Seat,
    pub(super) log: LogDir,
    pub(super) config: ShardConfig,
    pub(super) direct: bool,
    pub(super) cpu: Option<usize>,
}

/// How a shard comes to be.
type Recover<M> = fn(ShardConfig, &dyn LogImage) -> Result<(M, Recovered), RecoveryError>;

/// Starts a thread per shard. All recover at the same time; none runs before all have recovered.
fn start_threads<M: Machine + 'static>(
    rooms: Vec<Room>,
    driver: DriverKind,
    recover: Recover<M>,
) -> Result<(Vec<JoinHandle<()>>, Vec<Recovered>), StartError> {
    let mut threads = Vec::new();
    let mut gates = Vec::new();
    for room in rooms {
        let (to_node, from_shard) = bounded(1);
        let (to_shard, from_node) = bounded(1);
        let gate = Gate { to_node, from_node };
        let name = format!("shard-{}", room.seat.shard.0);
        let path = room.log.path().to_owned();
        let thread = thread::Builder::new().name(name).spawn(move || {
            let _guard = StopOnPanic;
            if let Err(error) = live(room, driver, recover, &gate) {
                let _ = gate.to_node.send(Err(error));
            }
        });
        threads.push(thread.map_err(StartError::io("start a thread for", &path))?);
        gates.push((to_shard, from_shard));
    }
    let answer = |from_shard: &Receiver<_>| from_shard.recv().expect("a shard's thread says how it began");
    // A shard whose gate is dropped before it was told to go ends its thread.
    let recovered = gates.iter().map(|(_, from_shard)| answer(from_shard)).collect::<Result<_, _>>()?;
    for (to_shard, _) in &gates {
        to_shard.send(()).expect("the shard waits for it");
    }
    for (_, from_shard) in &gates {
        answer(from_shard)?;
    }
    Ok((threads, recovered))
}

/// Recovers all shards at the same time, each on a thread of its own, for fronts to host.
fn recover_all<M: Machine + Send + 'static>(
    rooms: Vec<Room>,
    recover: Recover<M>,
) -> Result<(Vec<HostedShard>, Vec<Recovered>), StartError> {
    let has_ring = LogRing::probe().is_ok();
    let recovered: Vec<Result<(Room, M, Recovered), StartError>> = thread::scope(|scope| {
        let threads: Vec<_> = rooms.into_iter().map(|room| scope.spawn(move || recover_one(room, recover))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a panic in recovery ends the process")).collect()
    });
    let mut hosted = Vec::new();
    let mut reports = Vec::new();
    for one in recovered {
        let (room, machine, report) = one?;
        hosted.push(HostedShard::new(room, machine, has_ring));
        reports.push(report);
    }
    Ok((hosted, reports))
}

fn recover_one<M>(room: Room, recover: Recover<M>) -> Result<(Room, M, Recovered), StartError> {
    let _guard = StopOnPanic;
    let image = DiskImage::open(&room.log, room.config.segment_bytes)?;
    let shard = room.seat.shard;
    let recovered = recover(room.config.clone(), &image).map_err(|error| StartError::Recovery { shard, error });
    if let Some(unreadable) = image.into_unreadable() {
        return Err(unreadable);
    }
    let (machine, report) = recovered?;
    Ok((room, machine, report))
}

/// Between the thread that starts a node and that of a shard: recovered -> go -> started.
struct Gate {
    to_node: Sender<Result<Recovered, StartError>>,
    from_node: Receiver<()>,
}

/// The life of a shard's thread.
fn live<M: Machine>(room: Room, driver: DriverKind, recover: Recover<M>, gate: &Gate) -> Result<(), StartError> {
    let (room, machine, recovered) = recover_one(room, recover)?;
    let Room { seat, log, config, direct, cpu } = room;
    let segment_bytes = config.segment_bytes;
    if gate.to_node.send(Ok(recovered.clone())).is_err() || gate.from_node.recv().is_err() {
        // Another shard cannot start.
        return Ok(());
    }
    let started = || gate.to_node.send(Ok(recovered)).expect("the node waits for it");
    let io_failed = || StartError::io("start the helpers of", log.path());
    let inbox = seat.inbox();
    let housekeeper = Housekeeper::start(log.clone(), segment_bytes, direct, Arc::clone(inbox)).map_err(io_failed())?;
    let files = SegmentFiles::new(log.clone(), direct);
    let durability = seat.shared.durability;
    match driver {
        DriverKind::Glommio => {
            let executor = glommio::executor(cpu).map_err(|reason| StartError::Driver(format!("glommio: {reason}")))?;
            let ring = LogRing::new(inbox.doorbell.as_fd(), durability).map_err(io_failed())?;
            let mut carrier = Carrier::new(machine, ring, files, housekeeper, seat.clone());
            carrier.start();
            started();
            glommio::run(&executor, &mut carrier, &seat);
        }
        DriverKind::Threads => {
            cpu.inspect(|cpu| threads::pin_to(*cpu));
            let helpers = HelperThreads::start(Arc::clone(inbox), durability).map_err(io_failed())?;
            let mut carrier = Carrier::new(machine, helpers, files, housekeeper, seat.clone());
            carrier.start();
            started();
            threads::run(&mut carrier, &seat);
        }
        DriverKind::Inline => unreachable!("a hosted shard has no thread of its own"),
    }
    Ok(())
}

#[cfg(test)]
#[path = "node_tests.rs"]
mod tests;

/// How often a drain looks whether it is over.
const DRAIN_LOOK: Duration = Duration::from_millis(5);
