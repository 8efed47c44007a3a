//! The targets' logic on stable: every seed, each seed with one byte changed, and each cut short.

use std::fs;
use std::path::Path;

fn check(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    let mut seeds: Vec<_> = fs::read_dir(&folder).expect("seeds").map(|entry| entry.expect("a seed").path()).collect();
    seeds.sort();
    assert!(!seeds.is_empty(), "{} has no seed", folder.display());
    for seed in seeds {
        let seed = fs::read(seed).expect("a seed");
        run(&seed);
        for at in 0..seed.len() {
            run(&seed[..at]);
            for bits in [0x01, 0x80, 0xff] {
                let mut changed = seed.clone();
                changed[at] ^= bits;
                run(&changed);
            }
        }
    }
}

#[test]
fn frames_of_sessions() {
    check("s2s_frames", targets::s2s_frames);
}

#[test]
fn grpc_bodies() {
    check("grpc", targets::grpc);
}

#[test]
fn protobuf_messages() {
    check("protobuf", targets::protobuf);
}

#[test]
fn json_bodies() {
    check("json", targets::json);
}

#[test]
fn query_strings() {
    check("query", targets::query);
}

#[test]
fn extents_of_the_log() {
    check("log_extents", targets::log_extents);
}
