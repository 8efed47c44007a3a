//! The log's own io_uring: linked write and fdatasync, and reads, many at a time.
//!
//! glommio's files know neither linked requests nor a depth of our choosing. The ring signals the shard's doorbell, so
//! that the executor waits on one descriptor for everything. Buffers are not registered: an extent is memory of the
//! shard's choosing, so it would have to be copied first. Whether that pays was not measured.
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use io_uring::squeue::{Entry, Flags};
use io_uring::types::{Fd, FsyncFlags};
use io_uring::{IoUring, opcode};

use super::config::IN_FLIGHT_MAX;
use super::device::DurabilityOp;
use super::doorbell::Doorbell;
#[cfg(feature = "faults")]
use super::faults::{self, Held, Point};
use super::transfer::{Completion, Device, ExtentWrite, LogRead, short};
use crate::event::Event;

/// A ring and what is under way on it.
///
/// Invariant: memory and file of every request that the kernel may still touch are held by its slot.
pub(super) struct LogRing {
    ring: IoUring,
    durability: DurabilityOp,
    slots: Vec<Option<Work>>,
    free: Vec<usize>,
    /// Reads that found no room: see [`Device::read`].
    waiting: VecDeque<LogRead>,
    reads_count: usize,
    writes_count: usize,
    #[cfg(feature = "faults")]
    held: Held,
}

impl std::fmt::Debug for LogRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogRing").field("writes", &self.writes_count).field("reads", &self.reads_count).finish()
    }
}

/// What a slot is busy with.
enum Work {
    Write {
        write: ExtentWrite,
        /// Completions that are still to come: of the write, and of the sync linked behind it.
        parts_left: u8,
        /// The first thing that went wrong.
        failure: Option<String>,
    },
    Read(LogRead),
}

impl LogRing {
    /// A ring that makes `doorbell` readable whenever something ends.
    pub(super) fn new(doorbell: BorrowedFd<'_>, durability: DurabilityOp) -> io::Result<Self> {
        let ring = IoUring::new(ENTRIES)?;
        ring.submitter().register_eventfd(doorbell.as_raw_fd())?;
        Ok(Self {
            ring,
            durability,
            slots: (0..SLOTS_COUNT).map(|_| None).collect(),
            free: (0..SLOTS_COUNT).rev().collect(),
            waiting: VecDeque::new(),
            reads_count: 0,
            writes_count: 0,
            #[cfg(feature = "faults")]
            held: Held::new(doorbell.try_clone_to_owned()?),
        })
    }

    /// Tries whether a ring can be made here.
    pub(super) fn probe() -> io::Result<()> {
        let doorbell = Doorbell::new()?;
        Self::new(doorbell.as_fd(), DurabilityOp::WriteThenSync).map(drop)
    }

    fn start_read(&mut self, mut read: LogRead) {
        let slot = self.free.pop().expect("reads leave room for the writes");
        let memory = read.memory.as_mut_slice();
        let len = u32::try_from(memory.len()).expect("a read's length was 32 bits");
        let entry = opcode::Read::new(Fd(read.file.file.as_raw_fd()), memory.as_mut_ptr(), len)
            .offset(read.offset)
            .build()
            .user_data(tag(slot, Part::Transfer));
        self.slots[slot] = Some(Work::Read(read));
        self.reads_count += 1;
        self.push(&entry);
    }

    /// Queues a request whose memory and file are held by a slot.
    fn push(&mut self, entry: &Entry) {
        // SAFETY: `entry` was built from a file and memory that `self.slots` owns by now. A slot is emptied only when the
        // kernel has reported the end of all its requests, and `drop` waits for those or leaks the slots. Moving the owner
        // into the slot does not move the bytes: they live on the heap.
        let pushed = unsafe { self.ring.submission().push(entry) };
        assert!(pushed.is_ok(), "the queue has room for two requests of every slot");
    }

    /// Takes a completion to its slot; hands over the work's end when it was the last part.
    fn end(&mut self, entry: &io_uring::cqueue::Entry) -> Option<Completion> {
        let (slot, part) = untag(entry.user_data());
        let result = outcome(entry.result());
        #[cfg(feature = "faults")]
        let result = faults::ended(point(&self.slots, entry), result);
        match self.slots[slot].as_mut().expect("a completion belongs to work under way") {
            Work::Write { write, parts_left, failure } => {
                let error = match (part, result) {
                    (Part::Transfer, Ok(written)) if written == write.bytes.len() => None,
                    (Part::Transfer, Ok(written)) => Some(short(written, write.bytes.len())),
                    (Part::Sync, Ok(_)) => None,
                    (Part::Transfer | Part::Sync, Err(error)) => Some(error),
                };
                // The failure of the write breaks the link; the sync then reports only that it was cancelled.
                if let (Some(error), None) = (error, &failure) {
                    let what = if part == Part::Sync { "sync" } else { "write" };
                    *failure = Some(write.failed(what, &error));
                }
                *parts_left -= 1;
                if *parts_left > 0 {
                    return None;
                }
            }
            Work::Read(read) => {
                let asked = read.memory.as_slice().len();
                return self
                    .end_read(slot, result.and_then(|got| if got == asked { Ok(()) } else { Err(short(got, asked)) }));
            }
        }
        self.free.push(slot);
        self.writes_count -= 1;
        let Some(Work::Write { write, failure, .. }) = self.slots[slot].take() else {
            unreachable!("it was one above")
        };
        Some(failure.map_or(Completion::Event(Event::ExtentDurable { lsn: write.lsn }), Completion::Fatal))
    }

    fn end_read(&mut self, slot: usize, result: io::Result<()>) -> Option<Completion> {
        self.free.push(slot);
        self.reads_count -= 1;
        let Some(Work::Read(read)) = self.slots[slot].take() else { unreachable!("the caller saw a read") };
        Some(read.ended(result))
    }

    /// The next thing that ended.
    fn next(&mut self) -> Option<io_uring::cqueue::Entry> {
        #[cfg(feature = "faults")]
        return self.held.next(&mut self.ring, |entry| point(&self.slots, entry));
        #[cfg(not(feature = "faults"))]
        self.ring.completion().next()
    }

    fn submit_all(&mut self) -> io::Result<()> {
        while !self.ring.submission().is_empty() {
            match self.ring.submit() {
                Ok(_) => {}
                Err(error) if is_passing(&error) => std::thread::yield_now(),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Device for LogRing {
    fn write(&mut self, write: ExtentWrite) {
        assert!(self.writes_count < IN_FLIGHT_MAX, "the shard keeps to its own bound");
        let slot = self.free.pop().expect("reads leave room for the writes");
        let file = Fd(write.file.file.as_raw_fd());
        let len = u32::try_from(write.bytes.len()).expect("an extent is smaller than a segment");
        let transfer = opcode::Write::new(file, write.bytes.as_ptr(), len)
            .offset(write.offset)
            .rw_flags(if self.durability == DurabilityOp::DsyncWrite { RWF_DSYNC } else { 0 })
            .build()
            .user_data(tag(slot, Part::Transfer));
        let linked_sync = self.durability == DurabilityOp::WriteThenSync;
        self.slots[slot] = Some(Work::Write { write, parts_left: if linked_sync { 2 } else { 1 }, failure: None });
        self.writes_count += 1;
        if linked_sync {
            let sync = opcode::Fsync::new(file).flags(FsyncFlags::DATASYNC).build().user_data(tag(slot, Part::Sync));
            self.push(&transfer.flags(Flags::IO_LINK));
            self.push(&sync);
        } else {
            self.push(&transfer);
        }
    }

    fn read(&mut self, read: LogRead) {
        if self.reads_count < READS_MAX {
            self.start_read(read);
        } else {
            self.waiting.push_back(read);
        }
    }

    fn submit(&mut self) {
        if let Err(error) = self.submit_all() {
            // What was queued may or may not run: as bad as a failed write.
            super::guard::stop_on_device_failure(&format!("io_uring takes no requests: {error}"));
        }
    }

    fn reap(&mut self, ended: &mut Vec<Completion>) {
        while let Some(entry) = self.next() {
            ended.extend(self.end(&entry));
        }
        while self.reads_count < READS_MAX {
            let Some(read) = self.waiting.pop_front() else { break };
            self.start_read(read);
        }
        self.submit();
    }

    fn has_ended(&mut self) -> bool {
        #[cfg(feature = "faults")]
        if self.held.has_due() {
            return true;
        }
        !self.ring.completion().is_empty()
    }

    fn in_flight(&self) -> usize {
        self.reads_count + self.writes_count + self.waiting.len()
    }
}

impl Drop for LogRing {
    /// The kernel may still read from or write to memory of ours: waits until it does not.
    fn drop(&mut self) {
        self.waiting.clear();
        #[cfg(feature = "faults")]
        while let Some(entry) = self.held.let_go() {
            let _ = self.end(&entry);
        }
        while self.reads_count + self.writes_count > 0 {
            if let Err(error) = self.ring.submit_and_wait(1)
                && !is_passing(&error)
            {
                tracing::warn!(%error, "io_uring does not answer; what was under way is leaked");
                std::mem::forget(std::mem::take(&mut self.slots));
                return;
            }
            while let Some(entry) = self.next() {
                let _ = self.end(&entry);
            }
        }
    }
}

/// Which request of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Transfer,
    Sync,
}

const fn tag(slot: usize, part: Part) -> u64 {
    (slot as u64) << 1 | matches!(part, Part::Sync) as u64
}

fn untag(tag: u64) -> (usize, Part) {
    let slot = usize::try_from(tag >> 1).expect("a slot of ours");
    (slot, if tag & 1 == 1 { Part::Sync } else { Part::Transfer })
}

/// What a completion belongs to.
#[cfg(feature = "faults")]
fn point(slots: &[Option<Work>], entry: &io_uring::cqueue::Entry) -> Point {
    let (slot, part) = untag(entry.user_data());
    match (&slots[slot], part) {
        (Some(Work::Read(_)) | None, _) => Point::Read,
        (Some(Work::Write { .. }), Part::Transfer) => Point::Write,
        (Some(Work::Write { .. }), Part::Sync) => Point::Sync,
    }
}

/// A completion's result: a count, or an errno below zero.
fn outcome(result: i32) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))
}

/// Whether the same call may succeed in a moment: a signal came, or the kernel is short of memory or behind with completions.
fn is_passing(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::INTR, Errno::AGAIN, Errno::BUSY].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Reads under way; more wait.
const READS_MAX: usize = 32;
const SLOTS_COUNT: usize = IN_FLIGHT_MAX + READS_MAX;
/// Two requests per slot; the completion queue is twice as long again and cannot overflow.
const ENTRIES: u32 = 128;
const _: () = assert!(2 * SLOTS_COUNT <= ENTRIES as usize, "all slots fit the queue at once");
/// From `linux/fs.h`.
const RWF_DSYNC: i32 = 2;

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileExt;
    use std::path::Path;
    use std::sync::Arc;

    use bytes::Bytes;
    use model::ShardId;

    use super::*;
    use crate::driver::doorbell::Doorbell;
    use crate::driver::files::{LogDir, SegmentFile, SegmentFiles};
    use crate::event::LogReadId;
    use crate::log::buffer::AlignedBuf;
    use crate::log::{Lsn, SegmentNo};

    const SEGMENT_BYTES: u64 = 1 << 20;

    fn segment(dir: &Path) -> Arc<SegmentFile> {
        let log = LogDir::new(dir, ShardId(0));
        std::fs::create_dir_all(log.path()).unwrap();
        std::fs::write(log.segment(SegmentNo(1)), vec![0; 1 << 20]).unwrap();
        SegmentFiles::new(log, true).get(SegmentNo(1)).unwrap()
    }

    fn extent(fill: u8, blocks: usize) -> Bytes {
        let mut memory = AlignedBuf::zeroed(blocks * 4096);
        memory.as_mut_slice().fill(fill);
        Bytes::from_owner(memory)
    }

    /// Waits for `count` ends, by the doorbell alone.
    fn wait(ring: &mut LogRing, doorbell: &Doorbell, count: usize) -> Vec<Completion> {
        let mut ended = Vec::new();
        ring.submit();
        while ended.len() < count {
            let mut fds = [rustix::event::PollFd::new(doorbell, rustix::event::PollFlags::IN)];
            let timeout = rustix::event::Timespec { tv_sec: 30, tv_nsec: 0 };
            assert_eq!(rustix::event::poll(&mut fds, Some(&timeout)).unwrap(), 1, "the ring signals the doorbell");
            doorbell.clear();
            ring.reap(&mut ended);
        }
        ended
    }

    #[test]
    fn extents_written_together_are_read_back_with_either_durability() {
        for durability in [DurabilityOp::WriteThenSync, DurabilityOp::DsyncWrite] {
            let dir = tempfile::tempdir().unwrap();
            let file = segment(dir.path());
            let doorbell = Doorbell::new().unwrap();
            let mut ring = LogRing::new(doorbell.as_fd(), durability).unwrap();
            for n in 0..8u8 {
                let offset = u64::from(n) * 8192;
                ring.write(ExtentWrite { lsn: Lsn(offset), file: Arc::clone(&file), offset, bytes: extent(n, 2) });
            }
            let mut durable: Vec<Lsn> = wait(&mut ring, &doorbell, 8)
                .into_iter()
                .map(|end| match end {
                    Completion::Event(Event::ExtentDurable { lsn }) => lsn,
                    Completion::Event(_) | Completion::Fatal(_) => panic!("{end:?}"),
                })
                .collect();
            durable.sort();
            assert_eq!(durable, (0..8).map(|n| Lsn(n * 8192)).collect::<Vec<_>>());
            // More reads than run at once.
            for n in 0..100 {
                ring.read(LogRead::new(LogReadId(n), Arc::clone(&file), n % 8 * 8192, 8192));
            }
            for end in wait(&mut ring, &doorbell, 100) {
                let Completion::Event(Event::LogRead { id, result }) = end else { panic!("{end:?}") };
                assert_eq!(result.unwrap(), extent(u8::try_from(id.0 % 8).unwrap(), 2));
            }
            assert_eq!(ring.in_flight(), 0);
        }
    }

    #[test]
    fn a_failed_write_is_fatal_once_and_names_file_and_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = segment(dir.path()).path.clone();
        let file = Arc::new(SegmentFile { file: std::fs::File::open(&path).unwrap(), path });
        let doorbell = Doorbell::new().unwrap();
        let mut ring = LogRing::new(doorbell.as_fd(), DurabilityOp::WriteThenSync).unwrap();
        ring.write(ExtentWrite { lsn: Lsn(0), file, offset: 0, bytes: extent(1, 1) });
        let ended = wait(&mut ring, &doorbell, 1);
        let [Completion::Fatal(reason)] = ended.as_slice() else { panic!("{ended:?}") };
        assert!(reason.contains("0000000000000001.seg") && reason.contains("Bad file descriptor"), "{reason}");
    }

    #[test]
    fn a_read_behind_the_end_fails_and_the_ring_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let file = segment(dir.path());
        let doorbell = Doorbell::new().unwrap();
        let mut ring = LogRing::new(doorbell.as_fd(), DurabilityOp::WriteThenSync).unwrap();
        ring.read(LogRead::new(LogReadId(1), Arc::clone(&file), SEGMENT_BYTES - 4096, 8192));
        let ended = wait(&mut ring, &doorbell, 1);
        let [Completion::Event(Event::LogRead { result: Err(reason), .. })] = ended.as_slice() else {
            panic!("{ended:?}")
        };
        assert!(reason.contains("only 4096 of 8192 bytes"), "{reason}");
        ring.write(ExtentWrite { lsn: Lsn(0), file, offset: 0, bytes: extent(1, 1) });
        assert!(matches!(wait(&mut ring, &doorbell, 1)[..], [Completion::Event(Event::ExtentDurable { lsn: Lsn(0) })]));
    }

    #[test]
    fn a_ring_dropped_with_work_under_way_waits_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = segment(dir.path());
        let doorbell = Doorbell::new().unwrap();
        let mut ring = LogRing::new(doorbell.as_fd(), DurabilityOp::WriteThenSync).unwrap();
        ring.write(ExtentWrite { lsn: Lsn(0), file: Arc::clone(&file), offset: 0, bytes: extent(9, 1) });
        ring.submit();
        drop(ring);
        let mut first = AlignedBuf::zeroed(4096);
        file.file.read_exact_at(first.as_mut_slice(), 0).unwrap();
        assert_eq!(first.as_slice(), extent(9, 1));
    }
}
