//! What is counted as stored, whatever happens to the stream.

use super::rig::{Rig, append_op, batch, command, target};
use crate::event::{Op, Reply, StorageOf};

/// Metered size of a record with this body, and of a trim.
const RECORD: u64 = 8 + 4;
const TRIM: u64 = 8 + 2 + 4 + 8;

fn stored(rig: &mut Rig, of: StorageOf) -> u64 {
    match rig.ask(Op::MeterStorage(of)) {
        Reply::Stored(stored) => stored.iter().map(|(_, bytes)| bytes).sum(),
        other => panic!("{other:?}"),
    }
}

/// Of the stream, of its basin, and of all basins.
#[track_caller]
fn check(rig: &mut Rig, expected: u64) {
    let basin = target("s").basin_id;
    let of = [StorageOf::Stream(target("s")), StorageOf::Basin(basin), StorageOf::Basins];
    assert_eq!(of.map(|of| stored(rig, of)), [expected; 3]);
}

fn trim(rig: &mut Rig, up_to: u64) {
    let trim = command("trim", &up_to.to_be_bytes());
    assert!(matches!(rig.ask(Op::Append(append_op("s", trim))), Reply::Appended(_)));
}

#[test]
fn what_is_appended_counts_until_it_is_gone() {
    let mut rig = Rig::new();
    for _ in 0..3 {
        assert!(matches!(rig.append("s", &[b"four", b"four"]), Reply::Appended(_)));
    }
    check(&mut rig, 6 * RECORD);
    trim(&mut rig, 5);
    // They share a part of the log with a record that stays.
    check(&mut rig, 6 * RECORD + TRIM);
    trim(&mut rig, 8);
    check(&mut rig, 0);
    assert!(matches!(rig.append("s", &[b"four"]), Reply::Appended(_)));
    check(&mut rig, RECORD);
}

#[test]
fn a_restart_counts_the_same() {
    let mut rig = Rig::new();
    assert!(matches!(rig.append("s", &[b"four" as &[u8]; 5]), Reply::Appended(_)));
    for _ in 0..3 {
        rig = Rig::recover(rig.disk).expect("the log is whole").0;
        check(&mut rig, 5 * RECORD);
    }
}

#[test]
fn a_deleted_stream_has_nothing_and_gives_it_back_to_its_basin() {
    let mut rig = Rig::new();
    assert!(matches!(rig.append("s", &[b"four"]), Reply::Appended(_)));
    assert!(matches!(rig.ask(Op::Append(append_op("t", batch(&[b"four"])))), Reply::Appended(_)));
    assert!(matches!(rig.ask(Op::DeleteStream { target: target("s") }), Reply::Done));
    assert!(matches!(rig.ask(Op::MeterStorage(StorageOf::Stream(target("s")))), Reply::Failed(_)));
    rig.pass(120_000);
    assert_eq!(stored(&mut rig, StorageOf::Basin(target("s").basin_id)), RECORD);
    assert_eq!(stored(&mut rig, StorageOf::Basins), RECORD);
}
