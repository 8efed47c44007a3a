//! A door for the fuzz targets in `fuzz/` to the parsers of recovery that are private to the shard. Only with the feature
//! `fuzzing`, which nothing else turns on.

use model::ShardId;

use crate::log::codec::Writer;
use crate::log::frame::FrameHeader;
use crate::shard::checkpoint::{load, put_row};
use crate::shard::recover;
use crate::stream::op::BatchOp;

/// Reads a checkpoint of the shard that `expected` names (directory, shard, segment size) and writes each of its rows again.
///
/// # Errors
/// When it is damaged or another shard's.
pub fn checkpoint_rows(bytes: &[u8], expected: (u128, ShardId, u64)) -> Result<Vec<Vec<u8>>, String> {
    let loaded = load(bytes, expected)?;
    let rows = loaded.streams.iter().map(|(_, _, stream)| {
        let mut w = Writer::new();
        put_row(&mut w, stream);
        w.finish()
    });
    Ok(rows.collect())
}

/// What replay makes of the frame of a batch; `None` when header and payload contradict each other.
#[must_use]
pub fn batch_op(frame: &FrameHeader, payload: &[u8], offset: usize) -> Option<BatchOp> {
    recover::batch_op(frame, payload, offset)
}
