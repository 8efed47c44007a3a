//! One write or read of the log, and what a device does with it.

use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use rustix::io::{ReadWriteFlags, pwritev2};

use super::device::DurabilityOp;
#[cfg(feature = "faults")]
use super::faults::{self, Point};
use super::files::SegmentFile;
use crate::event::{Event, LogReadId};
use crate::log::buffer::AlignedBuf;
use crate::log::{BLOCK_BYTES, Lsn};

/// How work that was given to the device or to the housekeeper ended.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "the small variant comes once, and then the process ends")]
pub(super) enum Completion {
    /// As the shard shall hear it.
    Event(Event),
    /// A write or a sync failed: nothing can be trusted any more. Names the file and the error.
    Fatal(String),
}

/// An extent to be made durable.
#[derive(Debug)]
pub(super) struct ExtentWrite {
    pub(super) lsn: Lsn,
    pub(super) file: Arc<SegmentFile>,
    pub(super) offset: u64,
    pub(super) bytes: Bytes,
}

impl ExtentWrite {
    /// Writes it on the calling thread.
    pub(super) fn perform(&self, durability: DurabilityOp) -> Completion {
        let flags = match durability {
            DurabilityOp::WriteThenSync => ReadWriteFlags::empty(),
            DurabilityOp::DsyncWrite => ReadWriteFlags::DSYNC,
        };
        if let Err(error) = self.write(flags) {
            return Completion::Fatal(self.failed("write", &error));
        }
        if durability == DurabilityOp::WriteThenSync
            && let Err(error) = self.sync()
        {
            return Completion::Fatal(self.failed("sync", &error));
        }
        Completion::Event(Event::ExtentDurable { lsn: self.lsn })
    }

    /// A short write on a file that was written all over is a broken promise of the device: never tried again.
    fn write(&self, flags: ReadWriteFlags) -> io::Result<()> {
        loop {
            let written = pwritev2(&self.file.file, &[IoSlice::new(&self.bytes)], self.offset, flags);
            let written = written.map_err(io::Error::from);
            #[cfg(feature = "faults")]
            let written = faults::blocking(Point::Write, written);
            match written {
                Ok(written) if written == self.bytes.len() => return Ok(()),
                Ok(written) => return Err(short(written, self.bytes.len())),
                // Nothing was written.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn sync(&self) -> io::Result<()> {
        let synced = self.file.file.sync_data();
        #[cfg(feature = "faults")]
        let synced = faults::blocking(Point::Sync, synced.map(|()| 0)).map(drop);
        synced
    }

    /// How a failure is told.
    pub(super) fn failed(&self, what: &str, error: &io::Error) -> String {
        let place = format!("{} bytes at {} of {}", self.bytes.len(), self.offset, self.file.path.display());
        format!("{what} {place}: {error}")
    }
}

/// A piece of the log to be read.
#[derive(Debug)]
pub(super) struct LogRead {
    pub(super) id: LogReadId,
    pub(super) file: Arc<SegmentFile>,
    pub(super) offset: u64,
    pub(super) memory: AlignedBuf,
}

impl LogRead {
    pub(super) fn new(id: LogReadId, file: Arc<SegmentFile>, offset: u64, len: u32) -> Self {
        let len = usize::try_from(len).expect("32 bits fit");
        assert!(len > 0 && len.is_multiple_of(BLOCK_BYTES), "reads are whole blocks");
        Self { id, file, offset, memory: AlignedBuf::zeroed(len) }
    }

    /// Reads on the calling thread.
    pub(super) fn perform(mut self) -> Completion {
        let read = self.file.file.read_exact_at(self.memory.as_mut_slice(), self.offset);
        #[cfg(feature = "faults")]
        let read = self.with_fault(read);
        self.ended(read)
    }

    #[cfg(feature = "faults")]
    fn with_fault(&self, read: io::Result<()>) -> io::Result<()> {
        let asked = self.memory.as_slice().len();
        let got = faults::blocking(Point::Read, read.map(|()| asked))?;
        if got == asked { Ok(()) } else { Err(short(got, asked)) }
    }

    /// How its end is told.
    pub(super) fn ended(self, read: io::Result<()>) -> Completion {
        let place = format!("at {} of {}", self.offset, self.file.path.display());
        let result = match read {
            Ok(()) => Ok(Bytes::from_owner(self.memory)),
            Err(error) => Err(format!("read {} bytes {place}: {error}", self.memory.as_slice().len())),
        };
        Completion::Event(Event::LogRead { id: self.id, result })
    }
}

/// The end of a transfer that moved fewer bytes than it should.
pub(super) fn short(moved: usize, asked: usize) -> io::Error {
    io::Error::other(format!("only {moved} of {asked} bytes"))
}

/// What carries out writes and reads while the shard goes on.
pub(super) trait Device {
    /// Takes a write. At most [`super::config::IN_FLIGHT_MAX`] are under way.
    fn write(&mut self, write: ExtentWrite);
    /// Takes a read. Those that find no room wait; the shard bounds them by what its readers may ask.
    fn read(&mut self, read: LogRead);
    /// Sets off what was taken.
    fn submit(&mut self);
    /// Hands over what has ended since the last call.
    fn reap(&mut self, ended: &mut Vec<Completion>);
    /// Whether [`Device::reap`] would hand over something.
    fn has_ended(&mut self) -> bool;
    /// Work that was taken and not handed back.
    fn in_flight(&self) -> usize;
}
