//! Slow file work of one shard, on a thread of its own: making segments ready and writing checkpoints.
//!
//! Promise: a file has its final name only once all of it is durable, so a crash leaves whole files and `*.tmp`.
//!
//! Zeros written as fast as the device takes them cost every append some milliseconds meanwhile. So they are written in
//! small pieces with pauses, unless nothing was appended since the start (nobody is in the way), and not at all while much
//! is appended. When the writer comes near, the rest is only allocated: extents that come that fast are large, and what
//! the file system's journal costs them is little against half of the device's bandwidth. A checkpoint does not wait for
//! that: its parts are written between the pieces.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::fs::FallocateFlags;

#[cfg(feature = "faults")]
use super::faults::{self, Point};
use super::files::{LogDir, open_log_file};
use super::guard::StopOnPanic;
use super::mailbox::Inbox;
use super::transfer::Completion;
use crate::event::{CheckpointPart, Event};
use crate::log::buffer::AlignedBuf;
use crate::log::{Lsn, SegmentNo};

/// Something to do.
#[derive(Debug)]
pub(super) enum Job {
    /// See [`crate::event::Effect::PrepareSegment`].
    Prepare {
        /// The new segment.
        segment: SegmentNo,
        /// Whose file to use.
        recycled: Option<SegmentNo>,
        /// The first bytes of the file.
        header: Bytes,
    },
    /// See [`crate::event::Effect::Checkpoint`].
    Checkpoint(CheckpointPart),
}

/// The thread; it ends when this is dropped and the job in hand is done.
#[derive(Debug)]
pub(super) struct Housekeeper {
    jobs: Option<Sender<Job>>,
    written_end: Arc<AtomicU64>,
    inbox: Arc<Inbox>,
    thread: Option<JoinHandle<()>>,
}

impl Housekeeper {
    /// Starts the thread. It reports to `inbox`.
    pub(super) fn start(log: LogDir, segment_bytes: u64, direct: bool, inbox: Arc<Inbox>) -> io::Result<Self> {
        let (jobs, todo) = bounded(JOBS_MAX);
        let written_end = Arc::new(AtomicU64::new(0));
        let rooms = Rooms {
            log,
            segment_bytes,
            direct,
            inbox: Arc::clone(&inbox),
            written_end: Arc::clone(&written_end),
            todo,
            checkpoint: None,
        };
        let thread = thread::Builder::new().name("housekeeper".to_owned()).spawn(move || {
            let _guard = StopOnPanic;
            work(rooms);
        })?;
        Ok(Self { jobs: Some(jobs), written_end, inbox, thread: Some(thread) })
    }

    /// Tells it how far the log is written, so that it knows how much time it has.
    pub(super) fn note_written(&self, end: Lsn) {
        self.written_end.store(end.0, Ordering::Relaxed);
    }

    /// Gives it something to do.
    pub(super) fn give(&self, job: Job) {
        let jobs = self.jobs.as_ref().expect("it runs until it is dropped");
        assert!(jobs.try_send(job).is_ok(), "a shard asks for a few segments and one checkpoint part at a time");
    }
}

impl Drop for Housekeeper {
    fn drop(&mut self) {
        self.jobs = None;
        // Whoever drops it goes; a segment in the making is made anew after the next start.
        self.inbox.stop.store(true, Ordering::Release);
        // A panic over there has ended the process already.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// How fast zeros are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// Nobody is in the way.
    Unhindered,
    /// Others use the device.
    Polite,
    /// The writer would wait.
    NoTime,
}

/// What the thread works on.
struct Rooms {
    log: LogDir,
    segment_bytes: u64,
    direct: bool,
    inbox: Arc<Inbox>,
    /// End of the newest extent that was given to the device since the start; 0 before the first.
    written_end: Arc<AtomicU64>,
    todo: Receiver<Job>,
    /// The checkpoint that is being written.
    checkpoint: Option<File>,
}

fn work(mut rooms: Rooms) {
    while let Ok(job) = rooms.todo.recv() {
        match job {
            Job::Prepare { segment, recycled, header } => rooms.take_prepare(segment, recycled, &header),
            Job::Checkpoint(part) => rooms.take_checkpoint(part),
        }
    }
}

impl Rooms {
    fn take_prepare(&mut self, segment: SegmentNo, recycled: Option<SegmentNo>, header: &[u8]) {
        let event = match self.prepare(segment, recycled, header) {
            Ok(()) => Event::SegmentReady { segment },
            Err(error) => {
                // The space is worth more than the work: the shard asks again from the start.
                let _ = fs::remove_file(self.log.segment_tmp(segment));
                let path = self.log.segment(segment);
                Event::SegmentFailed { segment, reason: format!("prepare {}: {error}", path.display()) }
            }
        };
        self.inbox.complete(Completion::Event(event));
    }

    fn take_checkpoint(&mut self, part: CheckpointPart) {
        let event = match self.write_checkpoint(part) {
            Ok(()) => Event::CheckpointWritten,
            Err(error) => {
                self.checkpoint = None;
                let path = self.log.checkpoint_tmp();
                Event::CheckpointFailed { reason: format!("write {}: {error}", path.display()) }
            }
        };
        self.inbox.complete(Completion::Event(event));
    }

    /// Pauses the making of a segment, and writes what comes of a checkpoint meanwhile. That must not wait for the whole
    /// segment: under load it is made as slowly as the log is written, and the checkpoint has many parts.
    fn pause(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while let Ok(job) = self.todo.recv_deadline(until) {
            match job {
                Job::Checkpoint(part) => self.take_checkpoint(part),
                Job::Prepare { .. } => unreachable!("a shard asks for one segment at a time"),
            }
        }
    }

    fn prepare(&mut self, segment: SegmentNo, recycled: Option<SegmentNo>, header: &[u8]) -> io::Result<()> {
        assert!(header.len() as u64 <= self.segment_bytes, "the header is part of the segment");
        let tmp = self.log.segment_tmp(segment);
        if let Some(recycled) = recycled {
            fs::rename(self.log.segment(recycled), &tmp)?;
            // Durable before the new header is: else a crash could show the new header under the old name.
            self.log.sync()?;
        }
        let file = open_log_file(&tmp, self.direct, recycled.is_none())?;
        #[cfg(feature = "faults")]
        faults::check(Point::Prepare)?;
        if recycled.is_none() {
            self.write_zeros(&file, segment)?;
        }
        let mut aligned = AlignedBuf::zeroed(header.len());
        aligned.as_mut_slice().copy_from_slice(header);
        file.write_all_at(aligned.as_slice(), 0)?;
        file.sync_all()?;
        fs::rename(&tmp, self.log.segment(segment))?;
        self.log.sync()
    }

    /// Makes the file written extents, so that no later write changes the file system's metadata, as far as time allows.
    fn write_zeros(&mut self, file: &File, segment: SegmentNo) -> io::Result<()> {
        let by_device = FallocateFlags::from_bits_retain(FALLOC_FL_WRITE_ZEROES);
        if rustix::fs::fallocate(file.as_fd(), by_device, 0, self.segment_bytes).is_ok() {
            return Ok(());
        }
        // All of the space at once: it is one piece then, and too little space shows before any work is done.
        rustix::fs::fallocate(file.as_fd(), FallocateFlags::empty(), 0, self.segment_bytes)?;
        let zeros = AlignedBuf::zeroed(ZEROS_BYTES);
        let mut offset = 0;
        let mut seen = (Instant::now(), self.written_end.load(Ordering::Relaxed));
        while offset < self.segment_bytes {
            if self.inbox.stop.load(Ordering::Acquire) {
                return Err(io::Error::other("the node stops"));
            }
            let pace = self.pace(segment);
            let bytes_max = match pace {
                Pace::Unhindered => ZEROS_BYTES,
                Pace::Polite => ZEROS_PACED_BYTES,
                Pace::NoTime => return Ok(()),
            };
            let bytes = usize::try_from(self.segment_bytes - offset).unwrap_or(usize::MAX).min(bytes_max);
            let start = Instant::now();
            file.write_all_at(&zeros.as_slice()[..bytes], offset)?;
            offset += bytes as u64;
            if pace == Pace::Polite {
                self.pause(start.elapsed() * PAUSE_FACTOR);
                self.wait_for_calm(segment, &mut seen);
            } else {
                self.pause(Duration::ZERO);
            }
        }
        Ok(())
    }

    /// Blocks while much is appended, and the writer is not near. `seen` is where the writer was, and when.
    fn wait_for_calm(&mut self, segment: SegmentNo, seen: &mut (Instant, u64)) {
        while seen.0.elapsed() >= LOOK && self.pace(segment) == Pace::Polite && !self.inbox.stop.load(Ordering::Acquire)
        {
            let before = std::mem::replace(seen, (Instant::now(), self.written_end.load(Ordering::Relaxed)));
            let (appended, ms) = (seen.1.saturating_sub(before.1), seen.0.duration_since(before.0).as_millis());
            if u128::from(appended) < CALM_BYTES_PER_MS * ms {
                return;
            }
            self.pause(LOOK);
        }
    }

    /// How zeros are written as things stand; there is no time once the writer has come within a quarter of a segment of
    /// `segment`.
    fn pace(&self, segment: SegmentNo) -> Pace {
        let written_end = self.written_end.load(Ordering::Relaxed);
        if written_end == 0 {
            Pace::Unhindered
        } else if written_end + self.segment_bytes / 4 >= segment.0 * self.segment_bytes {
            Pace::NoTime
        } else {
            Pace::Polite
        }
    }

    fn write_checkpoint(&mut self, part: CheckpointPart) -> io::Result<()> {
        let not_begun = || io::Error::other("the part before it failed");
        #[cfg(feature = "faults")]
        faults::check(if matches!(part, CheckpointPart::Commit) { Point::Rename } else { Point::Checkpoint })?;
        match part {
            CheckpointPart::Begin => {
                self.checkpoint = Some(File::create(self.log.checkpoint_tmp())?);
                Ok(())
            }
            CheckpointPart::Bytes(bytes) => self.checkpoint.as_mut().ok_or_else(not_begun)?.write_all(&bytes),
            CheckpointPart::Commit => {
                self.checkpoint.take().ok_or_else(not_begun)?.sync_all()?;
                fs::rename(self.log.checkpoint_tmp(), self.log.checkpoint())?;
                self.log.sync()
            }
        }
    }
}

/// Since Linux 6.17, for devices that write zeros by themselves; others and older kernels refuse, and we write them.
const FALLOC_FL_WRITE_ZEROES: u32 = 0x80;
/// Zeros written at a time, in a hurry.
const ZEROS_BYTES: usize = 1 << 20;
/// Zeros written at a time otherwise: what an append may find before it in the device's queue.
const ZEROS_PACED_BYTES: usize = 128 << 10;
/// Pause after a piece, in the time that it took: appends find the device free in fifteen cases of sixteen.
const PAUSE_FACTOR: u32 = 15;
/// How often the writer is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// So much appended is calm: 32 MiB/s.
const CALM_BYTES_PER_MS: u128 = 32 << 10;
/// Segments asked for ahead, and one checkpoint part. Beyond is a bug of the shard.
const JOBS_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use model::ShardId;

    use super::*;

    struct Room {
        _dir: tempfile::TempDir,
        log: LogDir,
        inbox: Arc<Inbox>,
        housekeeper: Housekeeper,
    }

    fn room(segment_bytes: u64) -> Room {
        let dir = tempfile::tempdir().unwrap();
        let log = LogDir::new(dir.path(), ShardId(0));
        fs::create_dir_all(log.path()).unwrap();
        let inbox = Arc::new(Inbox::new(Vec::new()).unwrap());
        let housekeeper = Housekeeper::start(log.clone(), segment_bytes, true, Arc::clone(&inbox)).unwrap();
        Room { _dir: dir, log, inbox, housekeeper }
    }

    impl Room {
        fn outcome(&self, job: Job) -> Event {
            self.housekeeper.give(job);
            let start = Instant::now();
            loop {
                match self.inbox.completions.pop() {
                    Some(Completion::Event(event)) => return event,
                    Some(Completion::Fatal(reason)) => panic!("{reason}"),
                    None => assert!(start.elapsed() < Duration::from_secs(30), "no answer"),
                }
                thread::sleep(Duration::from_millis(1));
            }
        }
    }

    fn prepare(segment: u64, recycled: Option<u64>, fill: u8) -> Job {
        let header = Bytes::from(vec![fill; 4096]);
        Job::Prepare { segment: SegmentNo(segment), recycled: recycled.map(SegmentNo), header }
    }

    #[test]
    fn a_new_segment_is_zeros_behind_its_header() {
        let room = room(3 << 20);
        let event = room.outcome(prepare(1, None, 7));
        assert!(matches!(event, Event::SegmentReady { segment: SegmentNo(1) }), "{event:?}");
        let bytes = fs::read(room.log.segment(SegmentNo(1))).unwrap();
        assert_eq!(bytes.len(), 3 << 20);
        assert!(bytes[..4096].iter().all(|b| *b == 7) && bytes[4096..].iter().all(|b| *b == 0));
    }

    #[test]
    fn a_recycled_segment_keeps_its_bytes_under_the_new_header() {
        let room = room(1 << 20);
        room.outcome(prepare(1, None, 7));
        let event = room.outcome(prepare(9, Some(1), 8));
        assert!(matches!(event, Event::SegmentReady { segment: SegmentNo(9) }), "{event:?}");
        assert!(!room.log.segment(SegmentNo(1)).exists());
        assert_eq!(fs::read(room.log.segment(SegmentNo(9))).unwrap()[..4096], [8; 4096]);
    }

    #[test]
    fn a_segment_that_cannot_be_made_is_reported_with_its_name() {
        let room = room(1 << 20);
        let event = room.outcome(prepare(9, Some(1), 8));
        let Event::SegmentFailed { reason, .. } = event else { panic!("{event:?}") };
        assert!(reason.contains("0000000000000009.seg"), "{reason}");
    }

    #[test]
    fn a_checkpoint_replaces_the_one_before_only_when_committed() {
        let room = room(1 << 20);
        let part = |part| room.outcome(Job::Checkpoint(part));
        for text in ["first", "second"] {
            assert!(matches!(part(CheckpointPart::Begin), Event::CheckpointWritten));
            assert!(matches!(part(CheckpointPart::Bytes(text.into())), Event::CheckpointWritten));
            assert!(text == "first" || fs::read(room.log.checkpoint()).unwrap() == b"first");
            assert!(matches!(part(CheckpointPart::Commit), Event::CheckpointWritten));
            assert_eq!(fs::read(room.log.checkpoint()).unwrap(), text.as_bytes());
        }
        assert!(matches!(part(CheckpointPart::Commit), Event::CheckpointFailed { .. }));
    }

    #[test]
    fn a_checkpoint_does_not_wait_for_a_segment_in_the_making() {
        let room = room(64 << 20);
        room.housekeeper.note_written(Lsn(1));
        room.housekeeper.give(prepare(100, None, 7));
        for part in [CheckpointPart::Begin, CheckpointPart::Bytes("state".into()), CheckpointPart::Commit] {
            let event = room.outcome(Job::Checkpoint(part));
            assert!(matches!(event, Event::CheckpointWritten), "{event:?}");
        }
        assert!(!room.log.segment(SegmentNo(100)).exists() && room.log.checkpoint().exists());
    }

    #[test]
    fn zeros_are_written_politely_unless_nobody_appends_and_not_at_all_once_the_writer_is_near() {
        let room = room(1 << 20);
        let rooms = Rooms {
            log: room.log.clone(),
            segment_bytes: 100,
            direct: true,
            inbox: Arc::clone(&room.inbox),
            written_end: Arc::default(),
            todo: bounded(1).1,
            checkpoint: None,
        };
        let cases = [
            (0, 1, Pace::Unhindered),
            (110, 3, Pace::Polite),
            (274, 3, Pace::Polite),
            (275, 3, Pace::NoTime),
            (110, 2, Pace::Polite),
        ];
        for (written_end, segment, pace) in cases {
            rooms.written_end.store(written_end, Ordering::Relaxed);
            assert_eq!(rooms.pace(SegmentNo(segment)), pace, "{written_end} {segment}");
        }
    }

    #[test]
    fn a_full_size_segment_is_ready_fast_enough_to_start_with() {
        let room = room(128 << 20);
        let start = Instant::now();
        room.outcome(prepare(1, None, 7));
        println!("128 MiB made ready in {:?}", start.elapsed());
    }
}
