//! The machine a run was made on: figures without it mean nothing.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

/// What the JSON says about the machine.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    date: String,
    kernel: String,
    cpus: usize,
    cpu_model: String,
    memory_bytes: u64,
    /// The device under the floor directory; absent when the floors are not measured.
    disk: Option<Disk>,
}

/// A block device as the kernel describes it; what it does not say is absent.
#[derive(Debug, Serialize)]
struct Disk {
    device: String,
    size_bytes: Option<u64>,
    write_cache: Option<String>,
    fua: Option<String>,
    scheduler: Option<String>,
    rotational: Option<String>,
    logical_block_bytes: Option<String>,
    physical_block_bytes: Option<String>,
}

impl Machine {
    pub(crate) fn describe(floor_dir: Option<&Path>) -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let memory_kib = value_of(&meminfo, "MemTotal").and_then(|v| v.split(' ').next()?.parse::<u64>().ok());
        Self {
            date: utc(SystemTime::now()),
            kernel: read_line(Path::new("/proc/sys/kernel/osrelease")).unwrap_or_default(),
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            cpu_model: value_of(&cpuinfo, "model name").unwrap_or_default().to_owned(),
            memory_bytes: memory_kib.unwrap_or(0) << 10,
            disk: floor_dir.and_then(Disk::under),
        }
    }

    /// One line for the terminal.
    pub(crate) fn line(&self) -> String {
        let gib = self.memory_bytes as f64 / f64::from(1 << 30);
        let disk = self.disk.as_ref().map_or(String::new(), |disk| {
            let or_unknown = |value: &Option<String>| value.clone().unwrap_or_else(|| "?".to_owned());
            format!(", {} (write cache {}, fua {})", disk.device, or_unknown(&disk.write_cache), or_unknown(&disk.fua))
        });
        format!("{}, Linux {}, {} x {}, {gib:.1} GiB{disk}", self.date, self.kernel, self.cpus, self.cpu_model)
    }
}

impl Disk {
    /// `None` when the directory's file system has no block device of its own.
    fn under(dir: &Path) -> Option<Self> {
        let dev = fs::metadata(dir).ok()?.dev();
        let link = format!("/sys/dev/block/{}:{}", rustix::fs::major(dev), rustix::fs::minor(dev));
        let mut sys = fs::canonicalize(link).ok()?;
        let device = sys.file_name()?.to_string_lossy().into_owned();
        if !sys.join("queue").exists() {
            // A partition: the queue is its disk's.
            sys.pop();
        }
        let queue = |name: &str| read_line(&sys.join("queue").join(name));
        Some(Self {
            device,
            size_bytes: read_line(&sys.join("size")).and_then(|sectors| sectors.parse::<u64>().ok()).map(|s| s * 512),
            write_cache: queue("write_cache"),
            fua: queue("fua"),
            scheduler: queue("scheduler"),
            rotational: queue("rotational"),
            logical_block_bytes: queue("logical_block_size"),
            physical_block_bytes: queue("physical_block_size"),
        })
    }
}

fn read_line(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// Of the first line `key : value`.
fn value_of<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().filter_map(|line| line.split_once(':')).find(|(k, _)| k.trim() == key).map(|(_, v)| v.trim())
}

/// RFC 3339, in seconds.
fn utc(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let (year, month, day) = civil_date(seconds / 86_400);
    let of_day = seconds % 86_400;
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", of_day / 3600, of_day / 60 % 60, of_day % 60)
}

/// Gregorian date of a day counted from 1970-01-01. Years are counted from March, so that the leap day is the last.
const fn civil_date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn dates_are_gregorian() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_564_800, "2026-11-25T00:00:00Z"),
        ] {
            assert_eq!(utc(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn the_machine_has_a_kernel_and_cpus() {
        let machine = Machine::describe(Some(&std::env::temp_dir()));
        assert!(machine.cpus > 0 && !machine.kernel.is_empty() && machine.memory_bytes > 0);
    }
}
