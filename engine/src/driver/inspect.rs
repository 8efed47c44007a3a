//! Opens a data directory that no server uses, to look into it. Changes nothing.

use std::path::Path;

use model::ShardId;

use super::config::{NodeConfig, Recorded};
use super::directory::DataDirectory;
use super::image::DiskImage;
use super::report::StartError;
use crate::shard::{ShardReport, inspect};

/// What a data directory holds.
#[derive(Debug)]
pub struct Inspection {
    /// What was fixed when it was made.
    pub recorded: Recorded,
    /// Its logs, by shard.
    pub shards: Vec<ShardReport>,
}

/// Looks into the data directory `dir`.
///
/// # Errors
/// When it is not there, is in use, or its files cannot be read.
pub fn inspect_directory(dir: &Path) -> Result<Inspection, StartError> {
    let directory = DataDirectory::open_existing(dir)?;
    let config = NodeConfig::new(dir.to_owned());
    let recorded = directory.recorded;
    let mut shards = Vec::new();
    for shard in (0..recorded.placement.shards_count).map(ShardId) {
        let image = DiskImage::open(&directory.log_dir(shard), recorded.segment_bytes)?;
        shards.push(inspect(&config.shard(shard, &recorded, u64::MAX), &image));
        if let Some(unreadable) = image.into_unreadable() {
            return Err(unreadable);
        }
    }
    Ok(Inspection { recorded, shards })
}
