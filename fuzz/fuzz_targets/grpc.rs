//! Hands libFuzzer's inputs to `targets::grpc`.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|input: &[u8]| targets::grpc(input));

#[cfg(not(fuzzing))]
fn main() {
    eprintln!("run this with scripts/fuzz");
}
