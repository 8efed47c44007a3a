//! Hands libFuzzer's inputs to `targets::s2s_frames`.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|input: &[u8]| targets::s2s_frames(input));

#[cfg(not(fuzzing))]
fn main() {
    eprintln!("run this with scripts/fuzz");
}
