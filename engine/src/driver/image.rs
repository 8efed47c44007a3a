//! The log as recovery sees it: segment files and checkpoint mapped into memory, so that only what is looked at is read.
//!
//! Promise: a sector that the disk does not give back is an error with file and offset, not the end of the process. A page
//! of a mapping that cannot be read raises SIGBUS. So a piece is read into the page cache by `pread`, which can fail,
//! before the mapping shows it. What is left is a page that the kernel drops from its cache between the two, whose sector
//! fails only the second time.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

#[cfg(feature = "faults")]
use super::faults::{self, Point};
use super::files::LogDir;
use super::report::StartError;
use crate::log::SegmentNo;
use crate::shard::LogImage;

/// All files of one shard's log. Dropped before the shard runs, since running writes to them.
#[derive(Debug)]
pub(super) struct DiskImage {
    segments: BTreeMap<SegmentNo, ImageFile>,
    checkpoint: Option<ImageFile>,
    /// What could not be read; the first one.
    unreadable: RefCell<Option<StartError>>,
}

impl DiskImage {
    /// Maps what is there. Every segment file is `segment_bytes` long: it gets its name only once it is whole.
    pub(super) fn open(log: &LogDir, segment_bytes: u64) -> Result<Self, StartError> {
        let list = || StartError::io("list", log.path());
        let mut segments = BTreeMap::new();
        for entry in fs::read_dir(log.path()).map_err(list())? {
            let entry = entry.map_err(list())?;
            let Some(segment) = entry.file_name().to_str().and_then(LogDir::segment_no) else { continue };
            let image = ImageFile::open(entry.path())?;
            if image.map.len() as u64 != segment_bytes {
                let reason = format!(
                    "{} has {} bytes where {segment_bytes} were written: restore it, or restore the directory",
                    entry.path().display(),
                    image.map.len(),
                );
                return Err(StartError::Directory { dir: log.path().to_owned(), reason });
            }
            segments.insert(segment, image);
        }
        let checkpoint = log.checkpoint();
        let checkpoint = if checkpoint.exists() { Some(ImageFile::open(checkpoint)?) } else { None };
        Ok(Self { segments, checkpoint, unreadable: RefCell::new(None) })
    }

    /// What recovery asked for and did not get. Whatever it made of the rest must not be used then.
    pub(super) fn into_unreadable(self) -> Option<StartError> {
        self.unreadable.into_inner()
    }

    /// The bytes of `range`, up to the first that cannot be read.
    fn show<'a>(&self, file: &'a ImageFile, range: Range<u64>) -> &'a [u8] {
        let mut end = range.end.min(file.map.len() as u64);
        if range.start >= end {
            return &[];
        }
        if let Err((at, source)) = file.read(range.start..end) {
            end = at.max(range.start);
            let unreadable = StartError::Unreadable { path: file.path.clone(), offset: at, source };
            self.unreadable.borrow_mut().get_or_insert(unreadable);
        }
        let in_memory = |offset| usize::try_from(offset).expect("the file is mapped");
        &file.map[in_memory(range.start)..in_memory(end)]
    }
}

impl LogImage for DiskImage {
    fn segments(&self) -> Vec<SegmentNo> {
        self.segments.keys().copied().collect()
    }

    fn bytes(&self, segment: SegmentNo) -> &[u8] {
        self.part(segment, 0..u64::MAX)
    }

    fn len(&self, segment: SegmentNo) -> u64 {
        self.segments[&segment].map.len() as u64
    }

    fn part(&self, segment: SegmentNo, range: Range<u64>) -> &[u8] {
        self.show(&self.segments[&segment], range)
    }

    fn checkpoint(&self) -> Option<&[u8]> {
        self.checkpoint.as_ref().map(|file| self.show(file, 0..u64::MAX))
    }
}

/// A mapped file, and which of its pieces were read.
#[derive(Debug)]
struct ImageFile {
    path: PathBuf,
    file: File,
    map: Mmap,
    /// By piece of [`PIECE_BYTES`].
    was_read: RefCell<Vec<bool>>,
}

impl ImageFile {
    fn open(path: PathBuf) -> Result<Self, StartError> {
        let file = File::open(&path).map_err(StartError::io("open", &path))?;
        let map = map(&file, &path)?;
        let pieces_count = map.len().div_ceil(PIECE_BYTES);
        Ok(Self { path, file, map, was_read: RefCell::new(vec![false; pieces_count]) })
    }

    /// Reads the pieces of `range` that were not read before; else says from where on nothing could be read.
    fn read(&self, range: Range<u64>) -> Result<(), (u64, io::Error)> {
        let mut was_read = self.was_read.borrow_mut();
        let mut memory = Vec::new();
        let piece_bytes = PIECE_BYTES as u64;
        for piece in range.start / piece_bytes..range.end.div_ceil(piece_bytes) {
            let done = &mut was_read[usize::try_from(piece).expect("the file is mapped")];
            if *done {
                continue;
            }
            memory.resize(PIECE_BYTES, 0);
            let whole = piece * piece_bytes..((piece + 1) * piece_bytes).min(self.map.len() as u64);
            *done = self.read_all(whole.clone(), &mut memory).is_ok();
            if !*done {
                // What nobody asked for may be as it is.
                let asked = whole.start.max(range.start / PAGE_BYTES * PAGE_BYTES)..whole.end.min(range.end);
                self.read_all(asked, &mut memory)?;
            }
        }
        Ok(())
    }

    fn read_all(&self, range: Range<u64>, memory: &mut [u8]) -> Result<(), (u64, io::Error)> {
        let mut at = range.start;
        while at < range.end {
            let room = usize::try_from(range.end - at).map_or(memory.len(), |left| left.min(memory.len()));
            let read = self.file.read_at(&mut memory[..room], at);
            #[cfg(feature = "faults")]
            let read = faults::blocking(Point::Image, read);
            match read {
                Ok(0) => return Err((at, io::ErrorKind::UnexpectedEof.into())),
                Ok(bytes) => at += bytes as u64,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err((at, error)),
            }
        }
        Ok(())
    }
}

fn map(file: &File, path: &Path) -> Result<Mmap, StartError> {
    // SAFETY: a mapping is sound while nobody changes or shortens the file. This process has the only lock on the data
    // directory and neither shard nor housekeeper runs before the image is dropped. Whoever changes the files of a locked
    // directory from outside breaks more than this mapping.
    unsafe { Mmap::map(file) }.map_err(StartError::io("map", path))
}

/// Read at a time. Recovery looks at the first block of every segment, and a few hundred may exist.
const PIECE_BYTES: usize = 256 << 10;
/// At least what the kernel reads at once.
const PAGE_BYTES: u64 = 4096;

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

    #[test]
    fn what_the_disk_does_not_give_back_is_named_with_its_offset_and_only_when_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let log = LogDir::new(dir.path(), ShardId(0));
        fs::create_dir_all(log.path()).unwrap();
        let len = 2 * PIECE_BYTES as u64;
        fs::write(log.segment(SegmentNo(1)), vec![7; 2 * PIECE_BYTES]).unwrap();
        let image = DiskImage::open(&log, len).unwrap();
        // Pages of a mapping behind the end of its file raise the same signal as those that cannot be read.
        File::options().write(true).open(log.segment(SegmentNo(1))).unwrap().set_len(40_960).unwrap();
        assert_eq!(image.part(SegmentNo(1), 36_864..40_960), [7; 4096]);
        assert!(image.unreadable.borrow().is_none());
        assert_eq!(image.part(SegmentNo(1), 4096..len).len(), 36_864, "up to what cannot be read");
        assert_eq!(image.part(SegmentNo(1), 45_056..len).len(), 0);
        let refusal = image.into_unreadable().unwrap().to_string();
        assert!(refusal.contains("0000000000000001.seg at offset 40960: "), "{refusal}");
    }
}
