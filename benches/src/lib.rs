//! The load generator behind `millrace bench`: it drives a running server through the public S2 API, and measures
//! in the same run what the device and the loopback could do at best.
//!
//! It promises: no coordinated omission (an open loop measures from the intended send time), no failure hidden
//! (each is counted and shown, and the exit status tells), bounded memory, and little CPU, because it shares the
//! machine with the server it measures.
//!
//! Its HTTP/1.1 client serves `millrace verify` as well.

mod args;
mod client;
mod fleet;
mod floor;
mod machine;
mod null_server;
mod pace;
mod payload;
mod process;
mod progress;
mod recorder;
mod report;
mod run;
mod scenario;
mod settings;
mod stats;

pub use args::{BenchArgs, Scenario, parse_duration};
pub use client::{ClientError, Connection};
pub use run::run;
pub use settings::Endpoint;
