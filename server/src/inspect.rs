//! `millrace inspect`: what a data directory holds, for people.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::node::{EXIT_SETTINGS, refuse};

/// The flags of `inspect`.
#[derive(Debug, clap::Args)]
pub(crate) struct InspectArgs {
    /// The data directory; no server may be using it
    #[arg(long, env = "MILLRACE_DATA", default_value = "./millrace-data")]
    data: PathBuf,
}

/// Prints what is in a data directory.
#[must_use]
pub(crate) fn inspect(args: &InspectArgs) -> ExitCode {
    refuse(
        EXIT_SETTINGS,
        &format!("cannot inspect {}: this version has no reader of data directories yet", args.data.display()),
    )
}
