//! The device: writes that are synced, and sequential reads, past the page cache where the file system allows it.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};

use crate::stats::Latencies;

/// What synced writes reached.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SyncedWrites {
    pub(crate) p50_us: f64,
    pub(crate) per_second: f64,
}

/// A nameless scratch file, written once, so that no later write has to allocate.
#[derive(Debug)]
pub(crate) struct Device {
    file: OwnedFd,
    file_bytes: u64,
}

impl Device {
    pub(crate) fn prepare(dir: &Path, file_bytes: u64) -> io::Result<Self> {
        assert!(file_bytes.is_multiple_of(CHUNK_BYTES as u64), "the file is whole chunks");
        let file = open_nameless(dir)?;
        let mut chunk = Aligned::new(CHUNK_BYTES);
        for at in (0..file_bytes).step_by(CHUNK_BYTES) {
            write_all(&file, chunk.bytes_mut(), at)?;
        }
        rustix::fs::fsync(&file)?;
        Ok(Self { file, file_bytes })
    }

    /// `depth` threads, each of which writes `write_bytes` in its own part of the file and syncs, again and again.
    pub(crate) fn synced_writes(
        &self,
        write_bytes: usize,
        depth: usize,
        duration: Duration,
    ) -> io::Result<SyncedWrites> {
        let begin = Instant::now();
        let ends = begin + duration;
        let results = on_threads(depth, |index| {
            let mut buffer = Aligned::new(write_bytes);
            let part_bytes = (self.file_bytes / depth as u64).max(write_bytes as u64);
            let writes_in_part = part_bytes / write_bytes as u64;
            // Depths that do not fit the file share its parts; the device cannot tell.
            let part =
                (index as u64 * writes_in_part * write_bytes as u64) % (self.file_bytes - write_bytes as u64 + 1);
            let part = part - part % write_bytes as u64;
            let mut latencies = Latencies::new();
            let mut count = 0u64;
            while Instant::now() < ends || count == 0 {
                let since = Instant::now();
                let at = part + count % writes_in_part * write_bytes as u64;
                write_all(&self.file, buffer.bytes_mut(), at.min(self.file_bytes - write_bytes as u64))?;
                rustix::fs::fdatasync(&self.file)?;
                latencies.record(since.elapsed());
                count += 1;
            }
            Ok(latencies)
        })?;
        let seconds = begin.elapsed().as_secs_f64();
        let mut all = Latencies::new();
        results.iter().for_each(|latencies| all.merge(latencies));
        let summary = all.summary().expect("every thread writes at least once");
        Ok(SyncedWrites { p50_us: summary.p50_us, per_second: summary.count as f64 / seconds })
    }

    /// One synced write at each call, as a server without anything around it would make them.
    pub(crate) fn lone_write(&self, write_bytes: usize) -> impl FnMut() -> io::Result<()> + Send {
        let mut buffer = Aligned::new(write_bytes);
        let mut at = 0;
        move || {
            write_all(&self.file, buffer.bytes_mut(), at)?;
            at = (at + write_bytes as u64) % self.file_bytes;
            rustix::fs::fdatasync(&self.file).map_err(io::Error::from)
        }
    }

    /// MiB/s of reading the file from its start to its end, over and over, a few chunks ahead.
    pub(crate) fn sequential_read(&self, duration: Duration) -> io::Result<f64> {
        let begin = Instant::now();
        let ends = begin + duration;
        let next_chunk = AtomicU64::new(0);
        let chunks = self.file_bytes / CHUNK_BYTES as u64;
        let results = on_threads(READ_AHEAD, |_| {
            let mut buffer = Aligned::new(CHUNK_BYTES);
            let mut bytes = 0u64;
            while Instant::now() < ends || bytes == 0 {
                let chunk = next_chunk.fetch_add(1, Ordering::Relaxed) % chunks;
                bytes += rustix::io::pread(&self.file, buffer.bytes_mut(), chunk * CHUNK_BYTES as u64)? as u64;
            }
            Ok(bytes)
        })?;
        Ok(results.iter().sum::<u64>() as f64 / begin.elapsed().as_secs_f64() / f64::from(1 << 20))
    }
}

fn on_threads<T: Send>(count: usize, work: impl Fn(usize) -> io::Result<T> + Sync) -> io::Result<Vec<T>> {
    thread::scope(|scope| {
        let work = &work;
        let start = |index| thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, move || work(index));
        let handles = (0..count).map(start).collect::<io::Result<Vec<_>>>()?;
        handles.into_iter().map(|handle| handle.join().expect("a floor thread does not panic")).collect()
    })
}

/// `O_TMPFILE` and `O_DIRECT` where the file system has them; else a file that loses its name at once.
fn open_nameless(dir: &Path) -> io::Result<OwnedFd> {
    let mode = Mode::RUSR | Mode::WUSR;
    for flags in [OFlags::TMPFILE | OFlags::DIRECT, OFlags::TMPFILE] {
        if let Ok(file) = rustix::fs::open(dir, OFlags::RDWR | OFlags::CLOEXEC | flags, mode) {
            return Ok(file);
        }
    }
    let path = dir.join(format!(".millrace-floor-{}", std::process::id()));
    let file = rustix::fs::open(&path, OFlags::RDWR | OFlags::CLOEXEC | OFlags::CREATE | OFlags::EXCL, mode)?;
    rustix::fs::unlink(&path)?;
    Ok(file)
}

fn write_all(file: &OwnedFd, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = rustix::io::pwrite(file, bytes, at)?;
        bytes = &bytes[written..];
        at += written as u64;
    }
    Ok(())
}

/// Bytes that `O_DIRECT` accepts.
struct Aligned {
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

impl Aligned {
    fn new(len: usize) -> Self {
        // Not zeros: some devices do not write those.
        let memory = vec![0xa5; len + ALIGN_BYTES];
        let start = memory.as_ptr().align_offset(ALIGN_BYTES);
        Self { memory, start, len }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..][..self.len]
    }
}

const CHUNK_BYTES: usize = 1 << 20;
const ALIGN_BYTES: usize = 4096;
/// Chunks being read at once: enough that the device never waits for us.
const READ_AHEAD: usize = 4;
const STACK_BYTES: usize = 256 << 10;
