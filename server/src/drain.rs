//! `millrace drain`: asks a running server to stop, and waits until it has.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use engine::driver::{DirectoryUser, directory_user};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::node::{EXIT_SETTINGS, refuse};

/// Exit status when no server runs.
const EXIT_NOBODY: u8 = 3;
/// How often it is said that the server still drains.
const SAY_PERIOD: Duration = Duration::from_secs(2);

/// The flags of `drain`.
#[derive(Debug, clap::Args)]
pub(crate) struct DrainArgs {
    /// The data directory of the server
    #[arg(long, env = "MILLRACE_DATA", default_value = "./millrace-data")]
    data: PathBuf,
    /// The process id of the server, instead of its data directory
    #[arg(long, conflicts_with = "data")]
    pid: Option<u32>,
    /// Wait so many seconds at most. A server needs about 20 when its clients do not leave by themselves
    #[arg(long, default_value_t = 60)]
    wait: u64,
}

/// Sends SIGTERM and waits; fails when the server does not end in time or does not end cleanly.
#[must_use]
pub(crate) fn drain(args: &DrainArgs) -> ExitCode {
    let process = match args.pid {
        Some(process) => process,
        None => match directory_user(&args.data) {
            Ok(DirectoryUser::Process(process)) => process,
            Ok(DirectoryUser::Nobody | DirectoryUser::NobodyAfter(_)) => {
                return refuse(EXIT_NOBODY, &format!("no server uses {}: nothing to drain", args.data.display()));
            }
            Err(error) => {
                return refuse(EXIT_SETTINGS, &format!("{} is no data directory: {error}", args.data.display()));
            }
        },
    };
    let server = match ask(process) {
        Ok(server) => server,
        Err(Errno::SRCH) => return refuse(EXIT_NOBODY, &format!("there is no process {process}: nothing to drain")),
        Err(error) => return refuse(EXIT_SETTINGS, &format!("cannot ask process {process} to drain: {error}")),
    };
    println!("asked process {process} to drain");
    match wait(&server, Duration::from_secs(args.wait)) {
        Ok(true) => report(args, process),
        Ok(false) => {
            refuse(1, &format!("process {process} still runs after {} s; a second SIGTERM ends it at once", args.wait))
        }
        Err(error) => refuse(1, &format!("cannot wait for process {process}: {error}")),
    }
}

/// Sends SIGTERM to a process, and to no other that may get its number meanwhile.
fn ask(process: u32) -> Result<OwnedFd, Errno> {
    let pid = i32::try_from(process).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
    let server = pidfd_open(pid, PidfdFlags::empty())?;
    pidfd_send_signal(&server, Signal::TERM)?;
    Ok(server)
}

/// Whether the process ends in time.
fn wait(server: &OwnedFd, time_max: Duration) -> Result<bool, Errno> {
    let begun = Instant::now();
    loop {
        let left = time_max.saturating_sub(begun.elapsed());
        let look = Timespec::try_from(left.min(SAY_PERIOD)).map_err(|_| Errno::INVAL)?;
        match poll(&mut [PollFd::new(server, PollFlags::IN)], Some(&look)) {
            Ok(0) if left.is_zero() => return Ok(false),
            Ok(0) => println!("still draining after {} s", begun.elapsed().as_secs()),
            Ok(_) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

fn report(args: &DrainArgs, process: u32) -> ExitCode {
    if args.pid.is_some() {
        println!("process {process} has ended; its log says how");
        return ExitCode::SUCCESS;
    }
    match directory_user(&args.data) {
        Ok(DirectoryUser::NobodyAfter(last)) if last == process => {
            refuse(1, &format!("process {process} has ended, but not cleanly: its log says why"))
        }
        // Another one may have been started already.
        Ok(DirectoryUser::Nobody | DirectoryUser::NobodyAfter(_) | DirectoryUser::Process(_)) => {
            println!("process {process} has ended cleanly: all that was accepted is durable");
            ExitCode::SUCCESS
        }
        Err(error) => refuse(1, &format!("cannot look at {} any more: {error}", args.data.display())),
    }
}
