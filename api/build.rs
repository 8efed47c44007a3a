//! Compiles `proto/` to messages, and to the descriptors that server reflection hands out. No protoc is needed.

use std::error::Error;
use std::path::PathBuf;

use prost::Message as _;

#[expect(clippy::disallowed_methods, reason = "a build script is not the crate: it reads and writes where cargo says")]
fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(["s2/v1alpha/s2.proto"], ["proto"])?;
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    // What is read from a message points into it.
    prost_build::Config::new().bytes(["."]).compile_fds(descriptors)?;
    Ok(())
}
