//! How the process ends when a shard cannot go on. Both ways are immediate: nothing more may be written or acknowledged.

use super::{EXIT_DEVICE, EXIT_PANIC};

/// Lives on the stack of every thread that works for a shard, and ends the process when that thread panics. The panic's
/// own message has been printed by then.
#[derive(Debug)]
pub(super) struct StopOnPanic;

impl Drop for StopOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let name = std::thread::current().name().unwrap_or("unnamed").to_owned();
            tracing::error!(thread = name, status = EXIT_PANIC, "a shard has lost its invariants: the process ends");
            eprintln!("millrace: thread {name} of a shard panicked; exit status {EXIT_PANIC}");
            std::process::exit(EXIT_PANIC);
        }
    }
}

/// Ends the process because the log's device failed.
pub(super) fn stop_on_device_failure(reason: &str) -> ! {
    tracing::error!(reason, status = EXIT_DEVICE, "the log cannot be written: the process ends");
    eprintln!("millrace: the log cannot be written: {reason}; exit status {EXIT_DEVICE}");
    std::process::exit(EXIT_DEVICE);
}
