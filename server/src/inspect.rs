//! `millrace inspect DIR`: what a data directory holds, for people.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use engine::driver::{Inspection, StartError, inspect_directory};
use engine::shard::{SegmentReport, ShardReport};

use crate::node::{EXIT_IN_USE, EXIT_SETTINGS, refuse};

/// The flags of `inspect`.
#[derive(Debug, clap::Args)]
pub(crate) struct InspectArgs {
    /// The data directory; no server may be using it
    dir: PathBuf,
    /// Every extent on a line of its own
    #[arg(long)]
    extents: bool,
    /// Every stream on a line of its own
    #[arg(long)]
    streams: bool,
}

/// Prints what is in a data directory; fails when a start on it would be refused.
#[must_use]
pub(crate) fn inspect(args: &InspectArgs) -> ExitCode {
    let inspection = match inspect_directory(&args.dir) {
        Ok(inspection) => inspection,
        Err(why @ StartError::InUse { .. }) => return refuse(EXIT_IN_USE, &why.to_string()),
        Err(why) => return refuse(EXIT_SETTINGS, &why.to_string()),
    };
    print_head(&inspection);
    let basins: BTreeMap<u64, &str> =
        inspection.shards.iter().flat_map(|s| &s.basins).map(|b| (b.id, b.name.as_str())).collect();
    let mut is_sound = true;
    for shard in &inspection.shards {
        is_sound &= print_shard(shard, args);
        if args.streams {
            print_streams(shard, &basins);
        }
    }
    if is_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn print_head(inspection: &Inspection) {
    let recorded = &inspection.recorded;
    println!(
        "data directory {:032x}: {} shards, {} groups, segments of {} MiB",
        recorded.directory_id,
        recorded.placement.shards_count,
        recorded.placement.groups_count,
        recorded.segment_bytes >> 20
    );
}

fn print_shard(report: &ShardReport, args: &InspectArgs) -> bool {
    println!("shard {}", report.shard.0);
    match report.checkpoint_bytes {
        Some(bytes) => println!("  checkpoint of {bytes} bytes"),
        None => println!("  no checkpoint yet: the whole log is replayed"),
    }
    for segment in &report.segments {
        print_segment(segment, args.extents);
    }
    match &report.recovery {
        Ok(recovered) => {
            println!(
                "  a start would replay {} extents ({} KiB), cut off {} torn ones, and find {} basins and {} streams",
                recovered.extents_count,
                recovered.replayed_bytes >> 10,
                recovered.torn_count,
                report.basins.len(),
                report.streams.len()
            );
            true
        }
        Err(refusal) => {
            println!("  a start would be REFUSED: {refusal}");
            false
        }
    }
}

fn print_segment(report: &SegmentReport, each_extent: bool) {
    let damaged = report.extents.iter().filter(|e| !e.is_whole).count();
    let bytes: usize = report.extents.iter().map(|e| e.header.extent_bytes()).sum();
    let state = match (report.is_ours, damaged) {
        (false, _) => "header damaged or of another log".to_owned(),
        (true, 0) => "checksums good".to_owned(),
        (true, damaged) => format!("{damaged} extents DAMAGED or torn"),
    };
    println!("  {:016x}.seg  {} extents, {} KiB, {state}", report.segment.0, report.extents.len(), bytes >> 10);
    if !each_extent {
        return;
    }
    for extent in &report.extents {
        let header = &extent.header;
        println!(
            "    extent at offset {}: lsn {}, {} bytes, {} frames, epoch {}, durable before {}, {}",
            extent.offset,
            header.lsn.0,
            header.extent_bytes(),
            header.frames_count,
            header.epoch,
            header.durable_lsn.0,
            if extent.is_whole { "good" } else { "DAMAGED or torn" }
        );
    }
}

fn print_streams(report: &ShardReport, basins: &BTreeMap<u64, &str>) {
    for stream in &report.streams {
        let basin = basins.get(&stream.basin_id).copied().unwrap_or("(basin is gone)");
        let deleting = if stream.is_deleting { ", being deleted" } else { "" };
        println!("  stream {basin} {:?}: records {}..{}{deleting}", stream.name, stream.trim_point, stream.tail);
    }
}
