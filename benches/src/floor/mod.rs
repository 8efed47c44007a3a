//! The floors: what the device and the loopback do at best, measured right beside each repetition, so that a noisy
//! neighbour disturbs both and the ratio says more than either figure.

mod device;
mod loopback;

use std::io;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

pub(crate) use device::Device;

/// Which floor a scenario stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FloorKind {
    /// It compares itself with something else.
    None,
    /// One synced 4 KiB write and one round trip: the least a lone append can take.
    SyncAndRoundTrip,
    /// 4 KiB writes per second, each synced by itself, with this many at once.
    Syncs { depth: usize },
    /// MiB/s of synced 1 MiB writes with this many at once, or of the loopback if that is slower.
    BulkSync { depth: usize },
    /// MiB/s of sequential reads, or of the loopback if that is slower.
    SequentialRead,
}

/// A measured floor.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Floor {
    pub(crate) what: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
}

/// Measures floors on one directory's device.
#[derive(Debug)]
pub(crate) struct Floors {
    device: Device,
    duration: Duration,
}

impl Floors {
    /// Prepares the scratch file. It has no name, so it is gone with the process however that ends.
    pub(crate) fn prepare(dir: &Path, quick: bool) -> io::Result<Self> {
        let (file_bytes, duration) = if quick { (64 << 20, 300) } else { (256 << 20, 1000) };
        Ok(Self { device: Device::prepare(dir, file_bytes)?, duration: Duration::from_millis(duration) })
    }

    /// Measures `kind` now.
    pub(crate) fn measure(&self, kind: FloorKind) -> io::Result<Option<Floor>> {
        let floor = |what: String, value, unit| Ok(Some(Floor { what, value, unit }));
        match kind {
            FloorKind::None => Ok(None),
            FloorKind::SyncAndRoundTrip => {
                let sync = self.device.synced_writes(4 << 10, 1, self.duration)?;
                let trip = loopback::round_trip(1 << 10, 100, self.duration / 2, || Ok(()))?;
                let write = self.device.lone_write(4 << 10);
                let bare = loopback::round_trip(1 << 10, 100, self.duration / 2, write)?;
                let what = format!(
                    "4 KiB write+fdatasync p50 {:.0} us + round trip p50 {:.0} us, each in a tight loop; \
                     one bare thread that reads 1 KiB, writes, syncs and answers: p50 {:.0} us",
                    sync.p50_us, trip.p50_us, bare.p50_us
                );
                floor(what, sync.p50_us + trip.p50_us, "us")
            }
            FloorKind::Syncs { depth } => {
                let sync = self.device.synced_writes(4 << 10, depth, self.duration)?;
                floor(format!("4 KiB write+fdatasync x{depth}"), sync.per_second, "op/s")
            }
            FloorKind::BulkSync { depth } => {
                let sync = self.device.synced_writes(1 << 20, depth, self.duration)?;
                let wire = loopback::throughput(self.duration / 2)?;
                floor(
                    slower(&format!("1 MiB write+fdatasync x{depth}"), sync.per_second, wire),
                    sync.per_second.min(wire),
                    "MiB/s",
                )
            }
            FloorKind::SequentialRead => {
                let read = self.device.sequential_read(self.duration)?;
                let wire = loopback::throughput(self.duration / 2)?;
                floor(slower("sequential read", read, wire), read.min(wire), "MiB/s")
            }
        }
    }
}

fn slower(device: &str, device_mib: f64, wire_mib: f64) -> String {
    let which = if device_mib <= wire_mib { device } else { "loopback" };
    format!("{which} ({device} {device_mib:.0} MiB/s, loopback {wire_mib:.0} MiB/s)")
}

/// The floor between the one before a repetition and the one after it.
pub(crate) fn between(before: Option<Floor>, after: Option<Floor>) -> Option<Floor> {
    match (before, after) {
        (Some(before), Some(after)) => {
            let what =
                if before.what == after.what { before.what } else { format!("{}; then {}", before.what, after.what) };
            Some(Floor { what, value: f64::midpoint(before.value, after.value), unit: before.unit })
        }
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_floor_of_this_machine_can_be_measured() {
        let dir = std::env::temp_dir();
        let floors =
            Floors { device: Device::prepare(&dir, 8 << 20).expect("scratch"), duration: Duration::from_millis(30) };
        assert_eq!(floors.measure(FloorKind::None).expect("nothing to do"), None);
        for kind in [
            FloorKind::SyncAndRoundTrip,
            FloorKind::Syncs { depth: 4 },
            FloorKind::BulkSync { depth: 2 },
            FloorKind::SequentialRead,
        ] {
            let floor = floors.measure(kind).expect("measured").expect("a floor");
            assert!(floor.value > 0.0, "{floor:?}");
        }
    }

    #[test]
    fn the_floor_of_a_repetition_lies_between_its_two() {
        let floor = |value| Some(Floor { what: "w".into(), value, unit: "us" });
        assert_eq!(between(floor(100.0), floor(200.0)), floor(150.0));
        assert_eq!(between(floor(100.0), None), floor(100.0));
        assert_eq!(between(None, None), None);
    }
}
