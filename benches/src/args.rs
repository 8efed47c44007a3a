//! What the user may ask of `millrace bench`. Every number left out falls back to the scenario's own default,
//! which `settings` knows.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

/// Drives a running server and measures it beside the floors of the machine.
#[derive(Debug, Clone, Args)]
pub struct BenchArgs {
    /// Server to drive.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    pub endpoint: String,
    /// PEM file with the certificate that an `https://` endpoint shows, or of who signed it.
    #[arg(long)]
    pub ca: Option<PathBuf>,
    /// Access token that requests carry.
    #[arg(long, env = "S2_ACCESS_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Scenarios to run, comma separated. Without this and `--all`: the appends' four main figures.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub scenario: Vec<Scenario>,
    /// Run every scenario.
    #[arg(long, conflicts_with = "scenario")]
    pub all: bool,
    /// Repetitions of each scenario; the table shows their median [default: 5, with --quick 1].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub repeat: Option<u32>,
    /// How long each repetition measures, e.g. `10` or `500ms` [default: 10s, with --quick 2s].
    #[arg(long, value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// Appends in flight, in total.
    #[arg(long, value_parser = parse_count)]
    pub concurrency: Option<usize>,
    /// Bytes of a record's body.
    #[arg(long, value_parser = parse_bytes)]
    pub record_bytes: Option<u64>,
    /// Streams the load is spread over.
    #[arg(long, value_parser = parse_count)]
    pub streams: Option<usize>,
    /// Appends per second: open loop, measured from the intended send time. Without it the loop is closed.
    #[arg(long, value_parser = parse_rate)]
    pub rate: Option<f64>,
    /// Threads of the generator, each with its own runtime.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: u16,
    /// Unary appends over HTTP/2 instead of HTTP/1.1.
    #[arg(long)]
    pub http2: bool,
    /// Appends and append sessions over gRPC instead of REST and s2s; reads stay with s2s.
    #[arg(long)]
    pub grpc: bool,
    /// HTTP version of sessions: 2 (prior knowledge), or 1 (chunked, the cheapest for the generator).
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=2))]
    pub session_http: u8,
    /// Directory for the scratch file of the device floor; it should be on the server's disk.
    #[arg(long, default_value = ".")]
    pub floor_dir: PathBuf,
    /// Do not measure the floors.
    #[arg(long)]
    pub no_floors: bool,
    /// Bytes that `catch-up` writes and reads back [default: 2GiB, with --quick 128MiB].
    #[arg(long, value_parser = parse_bytes)]
    pub catch_up_bytes: Option<u64>,
    /// Sessions that `idle-tails` and `open-sessions` open [default: 10000, with --quick 500].
    #[arg(long, value_parser = parse_count)]
    pub tails: Option<usize>,
    /// Process whose CPU and memory are reported beside the figures.
    #[arg(long)]
    pub server_pid: Option<u32>,
    /// Write every repetition and the machine's description to this file.
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// Small and short: shows that everything works, not how fast.
    #[arg(long)]
    pub quick: bool,
}

/// A figure the run can produce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Scenario {
    /// Latency of a lone 1 KiB append over a kept-alive connection.
    UnaryLatency,
    /// Single-record appends per second in sessions.
    SessionSingle,
    /// Small unary appends per second.
    UnarySmall,
    /// MiB/s of one session of full batches of 1 KiB records.
    SessionBulk,
    /// MiB/s of one session of full batches of 64 KiB records.
    #[value(name = "session-bulk-64k")]
    SessionBulk64k,
    /// MiB/s of 64 sessions on 64 streams.
    #[value(name = "sessions-64")]
    Sessions64,
    /// MiB/s of one read session over a long stream, from its start.
    CatchUp,
    /// Time from append to delivery at a tailing reader.
    TailLatency,
    /// Append latency with many tailing readers of the same stream.
    TailFanout,
    /// Append latency when the appends go round very many streams.
    ManyStreams,
    /// Creation of a million streams.
    MillionStreams,
    /// CPU that idle tailing readers cost the server.
    IdleTails,
    /// Append latency, and memory of the server, with very many open sessions that do nothing.
    OpenSessions,
    /// The generator's own ceiling, against a server that does nothing.
    Null,
}

impl Scenario {
    /// All of them, in the order they run.
    pub(crate) const ALL: [Self; 14] = [
        Self::UnaryLatency,
        Self::SessionSingle,
        Self::UnarySmall,
        Self::SessionBulk,
        Self::SessionBulk64k,
        Self::Sessions64,
        Self::CatchUp,
        Self::TailLatency,
        Self::TailFanout,
        Self::ManyStreams,
        Self::MillionStreams,
        Self::IdleTails,
        Self::OpenSessions,
        Self::Null,
    ];

    /// What runs when the user names nothing.
    pub(crate) const DEFAULT: [Self; 4] =
        [Self::UnaryLatency, Self::SessionSingle, Self::UnarySmall, Self::SessionBulk];

    /// The name on the command line and in the report.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::UnaryLatency => "unary-latency",
            Self::SessionSingle => "session-single",
            Self::UnarySmall => "unary-small",
            Self::SessionBulk => "session-bulk",
            Self::SessionBulk64k => "session-bulk-64k",
            Self::Sessions64 => "sessions-64",
            Self::CatchUp => "catch-up",
            Self::TailLatency => "tail-latency",
            Self::TailFanout => "tail-fanout",
            Self::ManyStreams => "many-streams",
            Self::MillionStreams => "million-streams",
            Self::IdleTails => "idle-tails",
            Self::OpenSessions => "open-sessions",
            Self::Null => "null",
        }
    }
}

/// `10`, `2.5s`, `500ms`, `2m`.
///
/// # Errors
/// What is wrong with the text; also below 100 ms and above a day.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split_unit(text);
    let seconds = match unit {
        "" | "s" => 1.0,
        "ms" => 1e-3,
        "m" => 60.0,
        other => return Err(format!("unknown unit `{other}`: use ms, s or m")),
    };
    let number: f64 = number.parse().map_err(|_| "not a number".to_owned())?;
    match Duration::try_from_secs_f64(number * seconds) {
        Ok(duration) if duration >= DURATION_MIN && duration <= DURATION_MAX => Ok(duration),
        Ok(_) | Err(_) => Err("must be between 100ms and a day".to_owned()),
    }
}

/// `100`, `64k`, `64KiB`, `2GiB`: powers of 1024.
fn parse_bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = split_unit(text);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        other => return Err(format!("unknown unit `{other}`: use KiB, MiB or GiB")),
    };
    let number: u64 = number.parse().map_err(|_| "not a whole number".to_owned())?;
    number.checked_mul(1 << shift).filter(|bytes| *bytes <= BYTES_MAX).ok_or_else(|| "too many bytes".to_owned())
}

fn parse_count(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(count) if (1..=COUNT_MAX).contains(&count) => Ok(count),
        Ok(_) | Err(_) => Err(format!("must be a number from 1 to {COUNT_MAX}")),
    }
}

fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (RATE_MIN..=RATE_MAX).contains(&rate) => Ok(rate),
        Ok(_) | Err(_) => Err(format!("must be a number from {RATE_MIN} to {RATE_MAX}")),
    }
}

fn split_unit(text: &str) -> (&str, &str) {
    let digits = text.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
    text.split_at(digits)
}

const DURATION_MIN: Duration = Duration::from_millis(100);
const DURATION_MAX: Duration = Duration::from_secs(86_400);
const BYTES_MAX: u64 = 1 << 40;
const COUNT_MAX: usize = 10_000_000;
const RATE_MIN: f64 = 0.1;
const RATE_MAX: f64 = 10_000_000.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, bytes) in [("100", Ok(100)), ("64k", Ok(65_536)), ("2GiB", Ok(2 << 30)), ("1MiB", Ok(1 << 20))] {
            assert_eq!(parse_bytes(text), bytes, "{text}");
        }
        for bad in ["", "k", "1.5k", "3TB", "99999999999999999999"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_have_units_and_bounds() {
        assert_eq!(parse_duration("10"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_duration("2.5s"), Ok(Duration::from_millis(2500)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        for bad in ["", "0", "1h", "-3", "1e9"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_scenario_has_the_name_the_command_line_gives_it() {
        for scenario in Scenario::ALL {
            let value = scenario.to_possible_value().expect("no scenario is hidden");
            assert_eq!(value.get_name(), scenario.name());
        }
    }
}
