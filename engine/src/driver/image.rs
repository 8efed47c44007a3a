//! The log as recovery sees it: segment files and checkpoint mapped into memory, so that only what is looked at is read.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use memmap2::{Advice, Mmap};

use super::files::LogDir;
use super::report::StartError;
use crate::log::SegmentNo;
use crate::shard::LogImage;

/// All files of one shard's log. Dropped before the shard runs, since running writes to them.
#[derive(Debug)]
pub(super) struct DiskImage {
    segments: BTreeMap<SegmentNo, Mmap>,
    checkpoint: Option<Mmap>,
}

impl DiskImage {
    /// Maps what is there. Every segment file is `segment_bytes` long: it gets its name only once it is whole.
    pub(super) fn open(log: &LogDir, segment_bytes: u64) -> Result<Self, StartError> {
        let list = || StartError::io("list", log.path());
        let mut segments = BTreeMap::new();
        for entry in fs::read_dir(log.path()).map_err(list())? {
            let entry = entry.map_err(list())?;
            let Some(segment) = entry.file_name().to_str().and_then(LogDir::segment_no) else { continue };
            let image = map(&entry.path())?;
            if image.len() as u64 != segment_bytes {
                let reason = format!(
                    "{} has {} bytes where {segment_bytes} were written: restore it, or restore the directory",
                    entry.path().display(),
                    image.len(),
                );
                return Err(StartError::Directory { dir: log.path().to_owned(), reason });
            }
            segments.insert(segment, image);
        }
        let checkpoint = log.checkpoint();
        let checkpoint = if checkpoint.exists() { Some(map(&checkpoint)?) } else { None };
        Ok(Self { segments, checkpoint })
    }
}

impl LogImage for DiskImage {
    fn segments(&self) -> Vec<SegmentNo> {
        self.segments.keys().copied().collect()
    }

    fn bytes(&self, segment: SegmentNo) -> &[u8] {
        &self.segments[&segment]
    }

    fn checkpoint(&self) -> Option<&[u8]> {
        self.checkpoint.as_deref()
    }
}

fn map(path: &Path) -> Result<Mmap, StartError> {
    let file = File::open(path).map_err(StartError::io("open", path))?;
    // SAFETY: a mapping is sound while nobody changes or shortens the file. This process has the only lock on the data
    // directory and neither shard nor housekeeper runs before the image is dropped. Whoever changes the files of a locked
    // directory from outside breaks more than this mapping.
    let image = unsafe { Mmap::map(&file) }.map_err(StartError::io("map", path))?;
    // Recovery goes through in order. Only advice: that it is refused changes nothing but speed.
    let _ = image.advise(Advice::Sequential);
    Ok(image)
}

#[cfg(test)]
mod tests {
    use model::ShardId;

    use super::*;

    #[test]
    fn the_image_shows_segments_and_checkpoint_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let log = LogDir::new(dir.path(), ShardId(0));
        fs::create_dir_all(log.path()).unwrap();
        assert_eq!(DiskImage::open(&log, 8192).unwrap().segments(), []);
        for segment in [SegmentNo(3), SegmentNo(17)] {
            fs::write(log.segment(segment), [u8::try_from(segment.0).unwrap(); 8192]).unwrap();
        }
        fs::write(log.checkpoint(), b"checkpoint").unwrap();
        fs::write(log.segment_tmp(SegmentNo(4)), b"unfinished").unwrap();
        let image = DiskImage::open(&log, 8192).unwrap();
        assert_eq!(image.segments(), [SegmentNo(3), SegmentNo(17)]);
        assert_eq!(image.bytes(SegmentNo(17)), [17; 8192]);
        assert_eq!(image.checkpoint(), Some(&b"checkpoint"[..]));
    }

    #[test]
    fn a_segment_that_lost_bytes_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let log = LogDir::new(dir.path(), ShardId(0));
        fs::create_dir_all(log.path()).unwrap();
        fs::write(log.segment(SegmentNo(1)), [0; 100]).unwrap();
        let refusal = DiskImage::open(&log, 8192).unwrap_err().to_string();
        assert!(refusal.contains("0000000000000001.seg has 100 bytes"), "{refusal}");
    }
}
