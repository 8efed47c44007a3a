//! A shard's disk: files, what is on its way to them, and what a crash leaves of that.

use std::collections::BTreeMap;

use bytes::Bytes;
use engine::event::{CheckpointPart, LogReadId};
use engine::log::{Lsn, SegmentNo};
use engine::shard::LogImage;

use crate::rng::Rng;

/// Names work that was given to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WorkId(pub u64);

/// Names a file, whatever name it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct FileId(u64);

/// Work under way.
#[derive(Debug, Clone)]
pub(crate) enum Work {
    /// An extent that is being written and synced.
    Write {
        /// Its place.
        lsn: Lsn,
        /// Its file.
        segment: SegmentNo,
        /// Where in the file.
        offset: usize,
        /// What.
        bytes: Bytes,
    },
    /// A piece of the log that is being read.
    Read {
        /// Whose answer it is.
        id: LogReadId,
        /// From which segment, as it was named when the read began.
        segment: SegmentNo,
        /// From where in the file.
        offset: usize,
        /// How much.
        len: usize,
    },
    /// A segment that is being made.
    Prepare {
        /// Its number.
        segment: SegmentNo,
        /// Whose file it takes.
        recycled: Option<SegmentNo>,
        /// Its first block.
        header: Bytes,
    },
    /// A part of a checkpoint.
    Checkpoint(CheckpointPart),
}

/// What is on stable storage, and what is on its way there.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    segment_bytes: usize,
    files: BTreeMap<FileId, Vec<u8>>,
    names: BTreeMap<SegmentNo, FileId>,
    checkpoint: Option<Vec<u8>>,
    making: Option<Vec<u8>>,
    work: BTreeMap<WorkId, (Work, Option<FileId>)>,
    last_id: u64,
    last_file: u64,
}

/// What a crash does with the sectors that were under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tear {
    /// Nothing arrived.
    Nothing,
    /// All arrived, though nobody was told.
    Everything,
    /// Each sector by chance.
    Some,
    /// All but one sector of each write.
    AllButOne,
    /// Each write wholly or not at all.
    WholeWrites,
}

impl Tear {
    /// All of them.
    pub(crate) const ALL: [Self; 5] = [Self::Nothing, Self::Everything, Self::Some, Self::AllButOne, Self::WholeWrites];
}

impl Disk {
    /// An empty disk for segments of this size.
    #[must_use]
    pub(crate) fn new(segment_bytes: u64) -> Self {
        Self { segment_bytes: usize::try_from(segment_bytes).expect("segments fit memory"), ..Self::default() }
    }

    /// Takes work.
    pub(crate) fn begin(&mut self, work: Work) -> WorkId {
        self.last_id += 1;
        let file = match &work {
            Work::Write { segment, .. } | Work::Read { segment, .. } => self.names.get(segment).copied(),
            Work::Prepare { recycled, .. } => recycled.and_then(|old| self.names.get(&old).copied()),
            Work::Checkpoint(_) => None,
        };
        self.work.insert(WorkId(self.last_id), (work, file));
        WorkId(self.last_id)
    }

    /// The work under way.
    pub(crate) fn under_way(&self) -> impl Iterator<Item = &Work> {
        self.work.values().map(|(work, _)| work)
    }

    /// The first work under way of this kind.
    pub(crate) fn find_work(&self, is_it: impl Fn(&Work) -> bool) -> Option<WorkId> {
        self.work.iter().find(|(_, (work, _))| is_it(work)).map(|(id, _)| *id)
    }

    /// Extents under way.
    #[must_use]
    pub(crate) fn writes_count(&self) -> usize {
        self.under_way().filter(|w| matches!(w, Work::Write { .. })).count()
    }

    /// Gives up work whose failure is told: nothing of it happens. A recycled file is lost with it, as with the driver.
    pub(crate) fn fail(&mut self, id: WorkId) -> Option<Work> {
        let (work, _) = self.work.remove(&id)?;
        match &work {
            Work::Prepare { recycled: Some(recycled), .. } => {
                if let Some(file) = self.names.remove(recycled) {
                    self.files.remove(&file);
                }
            }
            Work::Checkpoint(_) => self.making = None,
            Work::Prepare { recycled: None, .. } | Work::Write { .. } | Work::Read { .. } => {}
        }
        Some(work)
    }

    /// Carries work out: from now on it is stable. A read returns its bytes.
    pub(crate) fn finish(&mut self, id: WorkId) -> Option<(Work, Bytes)> {
        let (work, file) = self.work.remove(&id)?;
        let mut read = Bytes::new();
        match &work {
            Work::Write { offset, bytes, .. } => {
                let file = self.files.get_mut(&file?)?;
                file[*offset..*offset + bytes.len()].copy_from_slice(bytes);
            }
            Work::Read { offset, len, .. } => {
                let bytes = file.and_then(|file| self.files.get(&file));
                read =
                    bytes.and_then(|b| b.get(*offset..*offset + *len)).map(Bytes::copy_from_slice).unwrap_or_default();
            }
            Work::Prepare { segment, recycled, header } => self.put_segment(*segment, *recycled, header),
            Work::Checkpoint(part) => self.put_checkpoint(part),
        }
        Some((work, read))
    }

    fn put_segment(&mut self, segment: SegmentNo, recycled: Option<SegmentNo>, header: &[u8]) {
        let file = match recycled.and_then(|old| self.names.remove(&old)) {
            Some(file) => file,
            None => {
                self.last_file += 1;
                self.files.insert(FileId(self.last_file), vec![0; self.segment_bytes]);
                FileId(self.last_file)
            }
        };
        self.names.insert(segment, file);
        self.files.get_mut(&file).expect("named files exist")[..header.len()].copy_from_slice(header);
    }

    fn put_checkpoint(&mut self, part: &CheckpointPart) {
        match part {
            CheckpointPart::Begin => self.making = Some(Vec::new()),
            CheckpointPart::Bytes(bytes) => {
                if let Some(making) = &mut self.making {
                    making.extend_from_slice(bytes);
                }
            }
            CheckpointPart::Commit => {
                if let Some(made) = self.making.take() {
                    self.checkpoint = Some(made);
                }
            }
        }
    }

    /// Power is lost, or the process is killed: what was under way arrives as `tear` and chance say. Returns how many
    /// sectors arrived, and how many did not.
    pub(crate) fn crash(&mut self, tear: Tear, rng: &mut Rng) -> (u64, u64) {
        let (mut kept, mut lost) = (0, 0);
        for (_, (work, file)) in std::mem::take(&mut self.work) {
            match &work {
                Work::Write { offset, bytes, .. } => {
                    let Some(file) = file.and_then(|file| self.files.get_mut(&file)) else { continue };
                    let sectors = bytes.len() / SECTOR_BYTES;
                    let whole = rng.percent(50);
                    let missing = rng.at(sectors);
                    for (at, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
                        let arrives = match tear {
                            Tear::Nothing => false,
                            Tear::Everything => true,
                            Tear::Some => rng.percent(50),
                            Tear::AllButOne => at != missing,
                            Tear::WholeWrites => whole,
                        };
                        if arrives {
                            let start = offset + at * SECTOR_BYTES;
                            file[start..start + sector.len()].copy_from_slice(sector);
                        }
                        *(if arrives { &mut kept } else { &mut lost }) += 1;
                    }
                }
                Work::Prepare { segment, recycled, header } => match rng.below(3) {
                    // Untouched; or the old name is gone and the new one not there; or done.
                    0 => {}
                    1 => {
                        if let Some(file) = recycled.and_then(|old| self.names.remove(&old)) {
                            self.files.remove(&file);
                        }
                    }
                    _ => self.put_segment(*segment, *recycled, header),
                },
                Work::Checkpoint(CheckpointPart::Commit) if rng.percent(50) => {
                    self.put_checkpoint(&CheckpointPart::Commit);
                }
                Work::Checkpoint(_) | Work::Read { .. } => {}
            }
        }
        self.making = None;
        (kept, lost)
    }

    /// Whether a segment has a file.
    #[must_use]
    pub(crate) fn has(&self, segment: SegmentNo) -> bool {
        self.names.contains_key(&segment)
    }

    /// The bytes of a segment, to damage them.
    pub(crate) fn bytes_mut(&mut self, segment: SegmentNo) -> Option<&mut [u8]> {
        let file = self.names.get(&segment)?;
        self.files.get_mut(file).map(Vec::as_mut_slice)
    }

    /// The checkpoint in force, to damage it.
    pub(crate) const fn checkpoint_mut(&mut self) -> &mut Option<Vec<u8>> {
        &mut self.checkpoint
    }

    /// Takes the name of a segment away, as if its file were lost; returns what [`Disk::give_back`] wants.
    pub(crate) fn hide(&mut self, segment: SegmentNo) -> Option<Hidden> {
        self.names.remove(&segment).map(|file| Hidden(segment, file))
    }

    /// Undoes [`Disk::hide`].
    pub(crate) fn give_back(&mut self, Hidden(segment, file): Hidden) {
        self.names.insert(segment, file);
    }
}

/// A file without its name.
#[derive(Debug)]
pub(crate) struct Hidden(SegmentNo, FileId);

impl LogImage for Disk {
    fn segments(&self) -> Vec<SegmentNo> {
        self.names.keys().copied().collect()
    }

    fn bytes(&self, segment: SegmentNo) -> &[u8] {
        self.names.get(&segment).and_then(|file| self.files.get(file)).map_or(&[], Vec::as_slice)
    }

    fn checkpoint(&self) -> Option<&[u8]> {
        self.checkpoint.as_deref()
    }
}

/// What a device writes wholly or not at all.
pub(crate) const SECTOR_BYTES: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    fn disk_with_a_write() -> (Disk, WorkId) {
        let mut disk = Disk::new(16 << 10);
        let header = Bytes::from(vec![1; 4096]);
        let made = disk.begin(Work::Prepare { segment: SegmentNo(1), recycled: None, header });
        disk.finish(made).expect("begun");
        let bytes = Bytes::from(vec![2; 4096]);
        let id = disk.begin(Work::Write { lsn: Lsn(0), segment: SegmentNo(1), offset: 4096, bytes });
        (disk, id)
    }

    #[test]
    fn a_write_is_on_the_disk_when_it_is_finished_and_not_before() {
        let (mut disk, id) = disk_with_a_write();
        assert_eq!(disk.bytes(SegmentNo(1))[4096], 0);
        disk.finish(id).expect("begun");
        assert_eq!(disk.bytes(SegmentNo(1))[4096..8192], [2; 4096]);
    }

    #[test]
    fn a_crash_keeps_what_the_tear_says() {
        for (tear, kept) in [(Tear::Nothing, 0), (Tear::Everything, 8), (Tear::AllButOne, 7)] {
            let (mut disk, _) = disk_with_a_write();
            assert_eq!(disk.crash(tear, &mut Rng::new(1)), (kept, 8 - kept));
            let arrived = disk.bytes(SegmentNo(1))[4096..8192].iter().filter(|b| **b == 2).count();
            assert_eq!(arrived as u64, kept * 512);
        }
    }

    #[test]
    fn a_recycled_file_keeps_its_bytes_and_a_read_under_way_keeps_its_file() {
        let (mut disk, id) = disk_with_a_write();
        disk.finish(id).expect("begun");
        let read = disk.begin(Work::Read { id: LogReadId(1), segment: SegmentNo(1), offset: 4096, len: 4096 });
        let header = Bytes::from(vec![3; 4096]);
        let made = disk.begin(Work::Prepare { segment: SegmentNo(2), recycled: Some(SegmentNo(1)), header });
        disk.finish(made).expect("begun");
        assert_eq!(disk.segments(), [SegmentNo(2)]);
        assert_eq!(disk.bytes(SegmentNo(2))[4095..4097], [3, 2]);
        assert_eq!(disk.finish(read).expect("begun").1[0], 2);
    }
}
