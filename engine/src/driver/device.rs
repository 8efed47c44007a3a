//! Asks the device how it wants to be written durably: what it says about its cache, and what a short probe measures.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::io::{ReadWriteFlags, pwritev2};

use crate::log::BLOCK_BYTES;
use crate::log::buffer::AlignedBuf;

/// How an extent becomes durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DurabilityOp {
    /// The write, then `fdatasync`. Right for every device.
    WriteThenSync,
    /// One write with `RWF_DSYNC`. Only for a device without a volatile cache, or one that can write past it (FUA):
    /// elsewhere the kernel flushes from a worker thread at low priority, which stalls for scheduler ticks.
    DsyncWrite,
}

impl fmt::Display for DurabilityOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WriteThenSync => "write + fdatasync",
            Self::DsyncWrite => "write with O_DSYNC",
        })
    }
}

/// What is known about the device below a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceProbe {
    /// It can write past its cache (`queue/fua`); `None` when there is no block device to ask.
    pub fua: Option<bool>,
    /// It has no volatile cache (`queue/write_cache` is "write through").
    pub write_through: Option<bool>,
    /// The file system takes `O_DIRECT`.
    pub direct: bool,
    /// Median of a 4 KiB write with `fdatasync`, in microseconds.
    pub write_sync_p50_us: u64,
    /// Median of a 4 KiB write with `RWF_DSYNC`.
    pub dsync_p50_us: u64,
}

impl DeviceProbe {
    /// The faster of the two, among those that are right for the device.
    #[must_use]
    pub const fn durability(&self) -> DurabilityOp {
        let dsync_is_one_command = matches!(self.fua, Some(true)) || matches!(self.write_through, Some(true));
        if dsync_is_one_command && self.dsync_p50_us < self.write_sync_p50_us {
            DurabilityOp::DsyncWrite
        } else {
            DurabilityOp::WriteThenSync
        }
    }
}

impl fmt::Display for DeviceProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = |answer: Option<bool>, yes: &'static str, no: &'static str| match answer {
            Some(true) => yes,
            Some(false) => no,
            None => "unknown",
        };
        write!(
            f,
            "fua {}, write cache {}, {}; 4 KiB p50 {} us with fdatasync, {} us with O_DSYNC",
            said(self.fua, "yes", "no"),
            said(self.write_through, "write through", "write back"),
            if self.direct { "O_DIRECT" } else { "no O_DIRECT" },
            self.write_sync_p50_us,
            self.dsync_p50_us,
        )
    }
}

/// Writes to a scratch file in `dir` for at most [`PROBE_TIME_MAX`] and removes it.
///
/// # Errors
/// When the directory cannot be written.
pub fn probe_device(dir: &Path) -> io::Result<DeviceProbe> {
    let path = dir.join(format!("probe.{}.tmp", std::process::id()));
    let measured = measure(&path);
    let removed = fs::remove_file(&path);
    let (direct, write_sync_p50_us, dsync_p50_us) = measured?;
    removed?;
    let queue = queue_of(dir);
    let read = |name: &str| queue.as_ref().and_then(|queue| fs::read_to_string(queue.join(name)).ok());
    Ok(DeviceProbe {
        fua: read("fua").map(|fua| fua.trim() == "1"),
        write_through: read("write_cache").map(|cache| cache.trim() == "write through"),
        direct,
        write_sync_p50_us,
        dsync_p50_us,
    })
}

/// Whether `O_DIRECT` works, and both medians.
fn measure(path: &Path) -> io::Result<(bool, u64, u64)> {
    let (file, direct) = open_scratch(path)?;
    let block = AlignedBuf::zeroed(BLOCK_BYTES * PROBE_BLOCKS_COUNT);
    // Written all over first: what is measured shall be an overwrite, as in a log segment.
    file.write_all_at(block.as_slice(), 0)?;
    file.sync_all()?;
    let block = &block.as_slice()[..BLOCK_BYTES];
    let (mut syncs_us, mut dsyncs_us) = (Vec::new(), Vec::new());
    let start = Instant::now();
    for round in 0..PROBE_ROUNDS_MAX {
        let offset = (round % PROBE_BLOCKS_COUNT * BLOCK_BYTES) as u64;
        // In turns, so that a busy moment of the machine does not fall on one of them only.
        syncs_us.push(timed(|| {
            file.write_all_at(block, offset)?;
            file.sync_data()
        })?);
        dsyncs_us.push(timed(|| {
            let written = pwritev2(file.as_fd(), &[IoSlice::new(block)], offset, ReadWriteFlags::DSYNC)?;
            if written == block.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
        })?);
        if start.elapsed() > PROBE_TIME_MAX {
            break;
        }
    }
    Ok((direct, median(syncs_us), median(dsyncs_us)))
}

fn open_scratch(path: &Path) -> io::Result<(File, bool)> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    let direct = options.clone().custom_flags(OFlags::DIRECT.bits().cast_signed()).open(path);
    match direct {
        Ok(file) => Ok((file, true)),
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok((options.open(path)?, false)),
        Err(error) => Err(error),
    }
}

fn timed(work: impl FnOnce() -> io::Result<()>) -> io::Result<u64> {
    let start = Instant::now();
    work()?;
    Ok(u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX))
}

fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values[values.len() / 2]
}

/// The `queue` directory in sysfs of the block device that holds `dir`; of the whole disk when that is a partition.
fn queue_of(dir: &Path) -> Option<PathBuf> {
    let device = fs::metadata(dir).ok()?.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let block = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
    [block.join("queue"), block.parent()?.join("queue")].into_iter().find(|queue| queue.is_dir())
}

/// Writes of each kind, at most.
const PROBE_ROUNDS_MAX: usize = 24;
/// Blocks of the scratch file.
const PROBE_BLOCKS_COUNT: usize = 16;
/// When to stop early, on a slow device.
const PROBE_TIME_MAX: Duration = Duration::from_millis(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_measures_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let probe = probe_device(dir.path()).unwrap();
        assert!(probe.write_sync_p50_us > 0 && probe.dsync_p50_us > 0, "{probe}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        println!("{}: {probe}", probe.durability());
    }

    #[test]
    fn dsync_is_only_chosen_where_it_is_one_command_and_faster() {
        let probe = |fua, write_through, dsync_p50_us| DeviceProbe {
            fua,
            write_through,
            direct: true,
            write_sync_p50_us: 100,
            dsync_p50_us,
        };
        for (probe, expected) in [
            (probe(Some(false), Some(false), 50), DurabilityOp::WriteThenSync),
            (probe(None, None, 50), DurabilityOp::WriteThenSync),
            (probe(Some(true), Some(false), 50), DurabilityOp::DsyncWrite),
            (probe(Some(false), Some(true), 50), DurabilityOp::DsyncWrite),
            (probe(Some(true), Some(false), 150), DurabilityOp::WriteThenSync),
        ] {
            assert_eq!(probe.durability(), expected, "{probe}");
        }
    }
}
