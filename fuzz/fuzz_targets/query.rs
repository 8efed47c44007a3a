//! Hands libFuzzer's inputs to `targets::query`.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|input: &[u8]| targets::query(input));

#[cfg(not(fuzzing))]
fn main() {
    eprintln!("run this with scripts/fuzz");
}
