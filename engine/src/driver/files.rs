//! Segment files as the device side uses them: where they are, opened once and kept open, and memory that `O_DIRECT`
//! accepts.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::ShardId;
use rustix::fs::OFlags;

use crate::log::SegmentNo;

/// The directory of one shard's log: `DIR/log/<shard>/`.
#[derive(Debug, Clone)]
pub(super) struct LogDir(PathBuf);

impl LogDir {
    pub(super) fn new(data_dir: &Path, shard: ShardId) -> Self {
        Self(data_dir.join("log").join(format!("{:02}", shard.0)))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// The file of a segment. It exists only once it is whole: see `housekeeper`.
    pub(super) fn segment(&self, segment: SegmentNo) -> PathBuf {
        self.0.join(format!("{:016x}.seg", segment.0))
    }

    /// The file of a segment while it is made.
    pub(super) fn segment_tmp(&self, segment: SegmentNo) -> PathBuf {
        self.0.join(format!("{:016x}.seg.tmp", segment.0))
    }

    /// The number of a segment file by its name.
    pub(super) fn segment_no(name: &str) -> Option<SegmentNo> {
        let digits = name.strip_suffix(".seg").filter(|digits| digits.len() == 16)?;
        u64::from_str_radix(digits, 16).ok().map(SegmentNo)
    }

    pub(super) fn checkpoint(&self) -> PathBuf {
        self.0.join("checkpoint")
    }

    pub(super) fn checkpoint_tmp(&self) -> PathBuf {
        self.0.join("checkpoint.tmp")
    }

    /// Makes names in this directory durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }
}

/// Opens a file for the log: read and write, past the page cache where the file system can.
pub(super) fn open_log_file(path: &Path, direct: bool, create: bool) -> io::Result<File> {
    let flags = if direct { OFlags::DIRECT } else { OFlags::empty() };
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(create)
        .truncate(false)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
}

/// An open segment, with its name for messages.
#[derive(Debug)]
pub(super) struct SegmentFile {
    pub(super) file: File,
    pub(super) path: PathBuf,
}

/// The open segment files of a shard, at most [`FILES_OPEN_MAX`]; the one that was idle longest is closed first. A file
/// that still has work under way is closed when that ends.
#[derive(Debug)]
pub(super) struct SegmentFiles {
    dir: LogDir,
    direct: bool,
    /// With the time of last use, counted in uses.
    open: BTreeMap<SegmentNo, (u64, Arc<SegmentFile>)>,
    uses: u64,
}

impl SegmentFiles {
    pub(super) fn new(dir: LogDir, direct: bool) -> Self {
        Self { dir, direct, open: BTreeMap::new(), uses: 0 }
    }

    /// The file of a segment.
    pub(super) fn get(&mut self, segment: SegmentNo) -> io::Result<Arc<SegmentFile>> {
        self.uses += 1;
        if let Some((used, file)) = self.open.get_mut(&segment) {
            *used = self.uses;
            return Ok(Arc::clone(file));
        }
        let path = self.dir.segment(segment);
        let file = open_log_file(&path, self.direct, false)
            .map_err(|error| io::Error::new(error.kind(), format!("open {}: {error}", path.display())))?;
        if self.open.len() == FILES_OPEN_MAX {
            let idle = self.open.iter().min_by_key(|(_, (used, _))| *used).map(|(segment, _)| *segment);
            self.open.remove(&idle.expect("it is full"));
        }
        let file = Arc::new(SegmentFile { file, path });
        self.open.insert(segment, (self.uses, Arc::clone(&file)));
        Ok(file)
    }

    /// The segment is about to be recycled: its file gets another name.
    pub(super) fn forget(&mut self, segment: SegmentNo) {
        self.open.remove(&segment);
    }
}

/// Open segment files per shard.
const FILES_OPEN_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_segments_are_read_back() {
        let dir = LogDir::new(Path::new("/data"), ShardId(3));
        let path = dir.segment(SegmentNo(0xabc));
        assert_eq!(path, Path::new("/data/log/03/0000000000000abc.seg"));
        assert_eq!(LogDir::segment_no("0000000000000abc.seg"), Some(SegmentNo(0xabc)));
        for other in ["checkpoint", "0000000000000abc.seg.tmp", "abc.seg"] {
            assert_eq!(LogDir::segment_no(other), None, "{other}");
        }
    }
}
