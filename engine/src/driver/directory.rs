//! The data directory: who owns it, what is fixed in it, where things are.
//!
//! ```text
//! DIR/millrace.toml                    what is fixed; written once, whole or not at all
//! DIR/millrace.lock                    locked by the process that uses DIR; holds its number until that ends cleanly
//! DIR/log/<shard>/<segment>.seg        a segment of a shard's log (two decimal digits; sixteen hexadecimal digits)
//! DIR/log/<shard>/checkpoint           the checkpoint in force
//! DIR/log/<shard>/*.tmp                unfinished; removed at start
//! ```

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use model::ShardId;
use model::placement::Placement;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::config::{NodeConfig, Recorded, default_shards_count};
use super::files::LogDir;
use super::report::StartError;

/// An open data directory. While this lives, no other process opens it.
#[derive(Debug)]
pub(super) struct DataDirectory {
    pub(super) dir: PathBuf,
    pub(super) recorded: Recorded,
    /// What the settings asked for and did not get.
    pub(super) notices: Vec<String>,
    /// Holds the lock.
    lock: File,
}

impl DataDirectory {
    /// Opens the directory of `config`, and makes it when it is not there.
    pub(super) fn open(config: &NodeConfig) -> Result<Self, StartError> {
        let dir = config.dir.clone();
        fs::create_dir_all(&dir).map_err(StartError::io("create", &dir))?;
        let lock = lock(&dir)?;
        let file = dir.join(SUPERBLOCK);
        let mut notices = Vec::new();
        let recorded = match fs::read_to_string(&file) {
            Ok(text) => {
                let refuse = |reason| StartError::Directory { dir: dir.clone(), reason };
                let recorded = parse(&text).map_err(|reason| refuse(format!("{SUPERBLOCK}: {reason}")))?;
                compare(config, &recorded, &mut notices).map_err(refuse)?;
                recorded
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => create(config, &dir)?,
            Err(error) => return Err(StartError::io("read", &file)(error)),
        };
        let directory = Self { dir, recorded, notices, lock };
        for shard in 0..recorded.placement.shards_count {
            directory.prepare(&directory.log_dir(ShardId(shard)))?;
        }
        Ok(directory)
    }

    /// Opens a directory as it is, to look into it.
    pub(super) fn open_existing(dir: &Path) -> Result<Self, StartError> {
        let file = dir.join(SUPERBLOCK);
        let text = fs::read_to_string(&file).map_err(StartError::io("read", &file))?;
        let lock = lock(dir)?;
        let refuse = |reason| StartError::Directory { dir: dir.to_owned(), reason: format!("{SUPERBLOCK}: {reason}") };
        let recorded = parse(&text).map_err(refuse)?;
        Ok(Self { dir: dir.to_owned(), recorded, notices: Vec::new(), lock })
    }

    /// Says that its process has left nothing undone.
    pub(super) fn leave(&self) -> io::Result<()> {
        self.lock.set_len(0)
    }

    pub(super) fn log_dir(&self, shard: ShardId) -> LogDir {
        LogDir::new(&self.dir, shard)
    }

    /// How many segments each shard may have, within `log_bytes_max` for all.
    pub(super) fn segments_max(&self, log_bytes_max: Option<u64>) -> Result<u64, StartError> {
        let shards_count = u64::from(self.recorded.placement.shards_count);
        let log_bytes_max = match log_bytes_max {
            Some(bytes) => bytes,
            None => {
                let (free, taken) = self.room().map_err(StartError::io("look for space in", &self.dir))?;
                // What is taken stays, however little is left beside it.
                ((free + taken) / 2).max(taken)
            }
        };
        let segments_max = log_bytes_max / shards_count / self.recorded.segment_bytes;
        if segments_max < SEGMENTS_MIN {
            let needed_mib = (SEGMENTS_MIN * shards_count * self.recorded.segment_bytes) >> 20;
            return Err(StartError::Settings(format!(
                "the logs may take {} MiB but {shards_count} shards need at least {needed_mib} MiB: \
                 give them more, or make a data directory with fewer shards or smaller segments",
                log_bytes_max >> 20,
            )));
        }
        Ok(segments_max)
    }

    /// Bytes that are free on the file system, and bytes that the logs have taken.
    fn room(&self) -> io::Result<(u64, u64)> {
        let space = rustix::fs::statvfs(&self.dir)?;
        let mut taken = 0;
        for shard in 0..self.recorded.placement.shards_count {
            for entry in fs::read_dir(self.log_dir(ShardId(shard)).path())? {
                taken += entry?.metadata()?.len();
            }
        }
        Ok((space.f_bavail * space.f_frsize, taken))
    }

    /// Makes a shard's directory, or clears it of what a crash left unfinished.
    fn prepare(&self, log: &LogDir) -> Result<(), StartError> {
        let path = log.path();
        if !path.is_dir() {
            fs::create_dir_all(path).map_err(StartError::io("create", path))?;
            for durable in [path, &self.dir.join("log"), &self.dir] {
                sync_dir(durable).map_err(StartError::io("sync", durable))?;
            }
        }
        for entry in fs::read_dir(path).map_err(StartError::io("list", path))? {
            let file = entry.map_err(StartError::io("list", path))?.path();
            if file.extension().is_some_and(|extension| extension == "tmp") {
                fs::remove_file(&file).map_err(StartError::io("remove", &file))?;
            }
        }
        Ok(())
    }
}

/// Who uses a data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirectoryUser {
    /// The process with this number.
    Process(u32),
    /// Nobody; the last one ended cleanly, or there was none.
    Nobody,
    /// Nobody; the process with this number was the last one, and did not say that it ended cleanly.
    NobodyAfter(u32),
}

/// Tells who uses a data directory.
///
/// # Errors
/// When it is none, or its lock cannot be looked at.
pub fn directory_user(dir: &Path) -> io::Result<DirectoryUser> {
    fs::metadata(dir.join(SUPERBLOCK))?;
    let mut file = match File::open(dir.join(LOCK)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(DirectoryUser::Nobody),
        Err(error) => return Err(error),
    };
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    let Ok(process) = text.trim().parse() else { return Ok(DirectoryUser::Nobody) };
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Err(Errno::WOULDBLOCK) => Ok(DirectoryUser::Process(process)),
        Ok(()) => Ok(DirectoryUser::NobodyAfter(process)),
        Err(errno) => Err(errno.into()),
    }
}

/// Takes the lock of a data directory, or tells who has it.
fn lock(dir: &Path) -> Result<File, StartError> {
    let path = dir.join(LOCK);
    let failed = |error| StartError::io("lock", &path)(error);
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            let mut owner = String::new();
            // The number is for the message only: without it the refusal is as right.
            let _ = file.read_to_string(&mut owner);
            return Err(StartError::InUse { dir: dir.to_owned(), process: owner.trim().parse().ok() });
        }
        Err(errno) => return Err(failed(errno.into())),
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(failed)?;
    Ok(file)
}

/// Records what `config` asks for, in a directory that has no log yet.
fn create(config: &NodeConfig, dir: &Path) -> Result<Recorded, StartError> {
    if dir.join("log").exists() {
        let reason = format!("there is a log but no {SUPERBLOCK}: restore that file, or use another directory");
        return Err(StartError::Directory { dir: dir.to_owned(), reason });
    }
    let shards_count = config.shards.unwrap_or_else(default_shards_count);
    let groups_count = u32::from(shards_count) * u32::from(config.groups_per_shard);
    let recorded = Recorded {
        directory_id: random_id().map_err(StartError::io("read", Path::new(RANDOM)))?,
        placement: Placement { groups_count, shards_count },
        segment_bytes: config.segment_bytes,
    };
    let (file, tmp) = (dir.join(SUPERBLOCK), dir.join(format!("{SUPERBLOCK}.tmp")));
    let written = File::create(&tmp).and_then(|mut new| {
        new.write_all(render(&recorded).as_bytes())?;
        new.sync_all()?;
        fs::rename(&tmp, &file)?;
        sync_dir(dir)?;
        // The directory itself may be new.
        dir.canonicalize()?.parent().map_or(Ok(()), sync_dir)
    });
    written.map_err(StartError::io("write", &file))?;
    Ok(recorded)
}

/// Refuses what would send streams to the wrong shard, notes what is only overruled.
fn compare(config: &NodeConfig, recorded: &Recorded, notices: &mut Vec<String>) -> Result<(), String> {
    let Placement { groups_count, shards_count } = recorded.placement;
    if let Some(asked) = config.shards.filter(|asked| *asked != shards_count) {
        return Err(format!(
            "it was made with {shards_count} shards and cannot be used with {asked}: ask for {shards_count}, or do not ask"
        ));
    }
    if u32::from(config.groups_per_shard) * u32::from(shards_count) != groups_count {
        notices.push(format!("the data directory has {groups_count} groups; that does not change"));
    }
    if config.segment_bytes != recorded.segment_bytes {
        notices
            .push(format!("the data directory has segments of {} bytes; that does not change", recorded.segment_bytes));
    }
    Ok(())
}

fn render(recorded: &Recorded) -> String {
    let Placement { groups_count, shards_count } = recorded.placement;
    let mut text = format!(
        "# Written once, when this data directory was made. Changing it makes the log unreadable.\n\
         format = {FORMAT}\n\
         directory_id = \"{:032x}\"\n\
         shards_count = {shards_count}\n\
         groups_count = {groups_count}\n\
         segment_bytes = {}\n",
        recorded.directory_id, recorded.segment_bytes,
    );
    let checksum = crc32c::crc32c(text.as_bytes());
    writeln!(text, "crc32c = \"{checksum:08x}\"").expect("a String takes all");
    text
}

fn parse(text: &str) -> Result<Recorded, String> {
    let value = |key: &str| {
        let found = text.lines().find_map(|line| line.strip_prefix(key)?.trim_start().strip_prefix('='));
        found.map(|value| value.trim().trim_matches('"')).ok_or_else(|| format!("{key} is missing"))
    };
    let number = |key: &str| value(key)?.parse::<u64>().map_err(|_| format!("{key} is not a number"));
    let too_large = |key: &'static str| move |_| format!("{key} is too large");
    let format = number("format")?;
    if format != FORMAT {
        return Err(format!(
            "it has format {format}, this program knows format {FORMAT}: use the program that wrote it"
        ));
    }
    let directory_id = u128::from_str_radix(value("directory_id")?, 16).map_err(|_| "directory_id is damaged")?;
    let placement = Placement {
        groups_count: u32::try_from(number("groups_count")?).map_err(too_large("groups_count"))?,
        shards_count: u16::try_from(number("shards_count")?).map_err(too_large("shards_count"))?,
    };
    let recorded = Recorded { directory_id, placement, segment_bytes: number("segment_bytes")? };
    if render(&recorded) != text {
        return Err("it is not as it was written: restore it from a copy".to_owned());
    }
    Ok(recorded)
}

fn random_id() -> io::Result<u128> {
    let mut id = [0; 16];
    File::open(RANDOM)?.read_exact(&mut id)?;
    Ok(u128::from_le_bytes(id))
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

const SUPERBLOCK: &str = "millrace.toml";
const LOCK: &str = "millrace.lock";
const RANDOM: &str = "/dev/urandom";
/// Of the data directory as a whole; segments and checkpoints have their own.
const FORMAT: u64 = 1;
/// One being written, one being made ready, one being read, one to spare.
const SEGMENTS_MIN: u64 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn config(dir: &Path) -> NodeConfig {
        NodeConfig { shards: Some(2), ..NodeConfig::new(dir.join("data")) }
    }

    #[test]
    fn what_was_recorded_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let made = DataDirectory::open(&config(dir.path())).unwrap().recorded;
        assert_eq!(made.placement, Placement { groups_count: 16, shards_count: 2 });
        let again = DataDirectory::open(&NodeConfig { shards: None, ..config(dir.path()) }).unwrap();
        assert_eq!((again.recorded, again.notices.len()), (made, 0));
        assert!(again.log_dir(ShardId(1)).path().is_dir());
    }

    #[test]
    fn a_directory_has_one_owner() {
        let dir = tempfile::tempdir().unwrap();
        let owner = DataDirectory::open(&config(dir.path())).unwrap();
        let refusal = DataDirectory::open(&config(dir.path())).unwrap_err().to_string();
        assert!(refusal.ends_with(&format!("is in use by process {}", std::process::id())), "{refusal}");
        drop(owner);
        DataDirectory::open(&config(dir.path())).unwrap();
    }

    #[test]
    fn the_lock_tells_who_uses_a_directory_and_how_the_last_one_ended() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        assert_eq!(directory_user(&config.dir).unwrap_err().kind(), io::ErrorKind::NotFound);
        let us = std::process::id();
        let owner = DataDirectory::open(&config).unwrap();
        assert_eq!(directory_user(&config.dir).unwrap(), DirectoryUser::Process(us));
        drop(owner);
        assert_eq!(directory_user(&config.dir).unwrap(), DirectoryUser::NobodyAfter(us));
        DataDirectory::open(&config).unwrap().leave().unwrap();
        assert_eq!(directory_user(&config.dir).unwrap(), DirectoryUser::Nobody);
    }

    #[test]
    fn another_number_of_shards_is_refused_and_other_sizes_are_noted() {
        let dir = tempfile::tempdir().unwrap();
        drop(DataDirectory::open(&config(dir.path())).unwrap());
        let refusal = DataDirectory::open(&NodeConfig { shards: Some(3), ..config(dir.path()) }).unwrap_err();
        assert!(refusal.to_string().contains("made with 2 shards"), "{refusal}");
        let other = NodeConfig { segment_bytes: 16 << 20, groups_per_shard: 1, ..config(dir.path()) };
        assert_eq!(DataDirectory::open(&other).unwrap().notices.len(), 2);
    }

    #[test]
    fn a_changed_or_unknown_superblock_is_refused() {
        let recorded = Recorded {
            directory_id: 7,
            placement: Placement { groups_count: 8, shards_count: 1 },
            segment_bytes: 1 << 27,
        };
        let text = render(&recorded);
        assert_eq!(parse(&text), Ok(recorded));
        for (from, to) in
            [("shards_count = 1", "shards_count = 2"), ("format = 1", "format = 2"), ("groups_count", "x")]
        {
            assert!(parse(&text.replace(from, to)).is_err(), "{to}");
        }
    }

    #[test]
    fn a_log_without_its_superblock_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        drop(DataDirectory::open(&config(dir.path())).unwrap());
        fs::remove_file(dir.path().join("data").join(SUPERBLOCK)).unwrap();
        assert!(matches!(DataDirectory::open(&config(dir.path())), Err(StartError::Directory { .. })));
    }

    #[test]
    fn unfinished_files_are_removed_and_the_log_has_its_bound() {
        let dir = tempfile::tempdir().unwrap();
        let directory = DataDirectory::open(&config(dir.path())).unwrap();
        let leftover = directory.log_dir(ShardId(0)).checkpoint_tmp();
        fs::write(&leftover, b"half").unwrap();
        assert_eq!(directory.segments_max(Some(2 << 30)).unwrap(), 8);
        assert!(directory.segments_max(Some(1 << 20)).is_err());
        drop(directory);
        DataDirectory::open(&config(dir.path())).unwrap();
        assert!(!leftover.exists());
    }
}
