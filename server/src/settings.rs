//! Settings of `millrace serve`. Each has a flag, an environment variable and a key in the file, in this order of
//! precedence, and a default below them. `--print-config` shows each value and where it came from.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, FromArgMatches, ValueEnum};
use serde::Deserialize;

use crate::access::root_setting::RootToken;
use crate::admission::setting::NameLimits;
use crate::size::ByteSize;

/// Declares every setting once: the struct of final values, the flags and variables, and the keys of the file.
macro_rules! settings {
    ($($(#[doc = $doc:literal])+ $(#[arg($($arg:tt)*)])* $name:ident: $type:ty = $default:expr, $flag:literal, $env:literal;)+) => {
        /// Every setting with its final value.
        #[derive(Debug, Clone)]
        pub(crate) struct Settings {
            $($(#[doc = $doc])+ pub(crate) $name: $type,)+
        }

        /// The flags and variables of `serve`.
        #[derive(Debug, Args)]
        struct Flags {
            $($(#[doc = $doc])+ #[arg(long = $flag, env = $env, $($($arg)*)*)] $name: Option<$type>,)+
        }

        /// The keys of the file.
        #[derive(Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields, rename_all = "kebab-case")]
        struct File {
            $($name: Option<$type>,)+
        }

        fn resolve(flags: Flags, file: File, matches: &ArgMatches) -> (Settings, Vec<Shown>) {
            let mut shown = Vec::new();
            $(
                let (value, source) = match (flags.$name, file.$name) {
                    (Some(value), _) => match matches.value_source(stringify!($name)) {
                        Some(ValueSource::EnvVariable) => (value, Source::Environment($env)),
                        Some(_) | None => (value, Source::Flag(concat!("--", $flag))),
                    },
                    (None, Some(value)) => (value, Source::File),
                    (None, None) => ($default, Source::Default),
                };
                shown.push(Shown { name: $flag, value: value.to_string_shown(), source });
                let $name = value;
            )+
            (Settings { $($name,)+ }, shown)
        }
    };
}

settings! {
    /// Address and port to listen on. Anything but loopback needs TLS, or --insecure
    listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8080)), "listen", "MILLRACE_LISTEN";
    /// Directory that holds everything the server stores
    data: PathBuf = PathBuf::from("./millrace-data"), "data", "MILLRACE_DATA";
    /// Shards, each with a log of its own; fixed when the directory is made. 0: what the directory has, or half the cores
    shards: u16 = 0, "shards", "MILLRACE_SHARDS";
    /// Front threads that speak HTTP. 0: half the cores
    fronts: u16 = 0, "fronts", "MILLRACE_FRONTS";
    /// What runs the shards: inline (on the fronts' threads, the default), glommio (an executor per core), or plain threads
    #[arg(value_enum)]
    driver: DriverChoice = DriverChoice::Auto, "driver", "MILLRACE_DRIVER";
    /// Disk space for the logs of all shards; when live data fills it, appends are refused and reads go on. 0: half of what is free
    log_bytes_max: ByteSize = ByteSize(0), "log-bytes-max", "MILLRACE_LOG_BYTES_MAX";
    /// Memory for recent records, over all shards. Older ones are read from disk
    cache_bytes_max: ByteSize = ByteSize(512 << 20), "cache-bytes-max", "MILLRACE_CACHE_BYTES_MAX";
    /// Size of a log segment; fixed when the directory is made
    segment_bytes: ByteSize = ByteSize(128 << 20), "segment-bytes", "MILLRACE_SEGMENT_BYTES";
    /// Readers that wait at the tail of streams, per shard; more are answered 429
    readers_max: usize = 16_384, "readers-max", "MILLRACE_READERS_MAX";
    /// Connections per front; more are answered 429 and closed
    connections_max: usize = 16_384, "connections-max", "MILLRACE_CONNECTIONS_MAX";
    /// Open append, read and SSE sessions per front; more are answered 429
    sessions_max: usize = 65_536, "sessions-max", "MILLRACE_SESSIONS_MAX";
    /// Memory per front for request bodies and for batches on their way to slow readers; beyond it requests are answered 429 and readers fetch no further ahead
    front_bytes_max: ByteSize = ByteSize(512 << 20), "front-bytes-max", "MILLRACE_FRONT_BYTES_MAX";
    /// Limits of each access token, over all fronts: any of appends-per-second=N, bytes-per-second=SIZE, burst-ms=N and
    /// sessions=N, with commas between them. More are answered 429; append sessions are slowed down instead
    token_limits: NameLimits = NameLimits::off(), "token-limits", "MILLRACE_TOKEN_LIMITS";
    /// The same for each basin
    basin_limits: NameLimits = NameLimits::off(), "basin-limits", "MILLRACE_BASIN_LIMITS";
    /// The same for each stream
    stream_limits: NameLimits = NameLimits::off(), "stream-limits", "MILLRACE_STREAM_LIMITS";
    /// Name of the location that this server is, as clients see it: 1 to 64 letters, digits, colons, periods and hyphens
    location: String = "local".to_owned(), "location", "MILLRACE_LOCATION";
    /// S2's resource spec in JSON: basins and streams that every start makes, or configures as the file says, before it answers
    init_file: PathBuf = PathBuf::new(), "init-file", "MILLRACE_INIT_FILE";
    /// Certificate chain in PEM; with tls-key the port speaks TLS only. Read again when the file changes, and on SIGHUP
    tls_cert: PathBuf = PathBuf::new(), "tls-cert", "MILLRACE_TLS_CERT";
    /// Private key of the certificate in PEM
    tls_key: PathBuf = PathBuf::new(), "tls-key", "MILLRACE_TLS_KEY";
    /// Certificates in PEM of those who may sign for clients; with it every client must show a certificate
    tls_client_ca: PathBuf = PathBuf::new(), "tls-client-ca", "MILLRACE_TLS_CLIENT_CA";
    /// TLS with a certificate that the server signs itself and keeps in the data directory: for development
    #[arg(num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    tls_self: bool = false, "tls-self", "MILLRACE_TLS_SELF";
    /// Whether requests need an access token. auto: yes with a root token in the settings, and on any address that is not
    /// loopback unless --insecure
    #[arg(value_enum)]
    auth: AuthChoice = AuthChoice::Auto, "auth", "MILLRACE_AUTH";
    /// The secret of the root token, 16 to 512 visible ASCII characters. Better given as a variable or a file than as a flag,
    /// which all users of the machine see
    #[arg(hide_env_values = true)]
    root_token: RootToken = RootToken::none(), "root-token", "MILLRACE_ROOT_TOKEN";
    /// A file that holds the root token and nothing else
    root_token_file: PathBuf = PathBuf::new(), "root-token-file", "MILLRACE_ROOT_TOKEN_FILE";
    /// Serve /metrics without a token on an address that is not loopback, too
    #[arg(num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    open_metrics: bool = false, "open-metrics", "MILLRACE_OPEN_METRICS";
    /// Allow plain HTTP, and no access tokens, on an address that is not loopback
    #[arg(num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    insecure: bool = false, "insecure", "MILLRACE_INSECURE";
    /// Send no CORS headers
    #[arg(num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    no_cors: bool = false, "no-cors", "MILLRACE_NO_CORS";
    /// What is logged to stderr, as `tracing` filters: `info`, `debug`, `millrace=debug,warn`
    log: String = "info".to_owned(), "log", "MILLRACE_LOG";
}

/// Whether requests need an access token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum AuthChoice {
    /// As the address and the other settings say.
    Auto,
    /// No.
    Off,
    /// Yes.
    Required,
}

/// What runs the shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DriverChoice {
    /// Inline.
    Auto,
    /// Every shard on the thread of a front.
    Inline,
    /// Glommio, or refuse to start.
    Glommio,
    /// One plain thread per shard.
    Threads,
}

/// `serve` as it stands on the command line.
#[derive(Debug)]
pub(crate) struct ServeArgs {
    flags: Flags,
    extra: Extra,
    matches: ArgMatches,
}

/// Flags that are not settings.
#[derive(Debug, Args)]
struct Extra {
    /// A TOML file with settings; its keys are the flags' names
    #[arg(long, env = "MILLRACE_CONFIG")]
    config: Option<PathBuf>,
    /// Print every setting and where it came from, then exit
    #[arg(long)]
    print_config: bool,
    /// Start on a damaged log and cut it before the damage: everything from there on is lost. For one start only, so it is
    /// neither a variable nor a key of the file
    #[arg(long)]
    accept_data_loss: bool,
}

impl FromArgMatches for ServeArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self {
            flags: Flags::from_arg_matches(matches)?,
            extra: Extra::from_arg_matches(matches)?,
            matches: matches.clone(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for ServeArgs {
    fn augment_args(command: clap::Command) -> clap::Command {
        Extra::augment_args(Flags::augment_args(command))
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

/// What the command line, the environment and the file came to.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// The final values.
    pub(crate) settings: Settings,
    /// Each value with its source, for `--print-config`.
    pub(crate) shown: Vec<Shown>,
    /// Whether to print and exit.
    pub(crate) print_config: bool,
    /// Whether a damaged log is cut before the damage.
    pub(crate) accept_data_loss: bool,
}

impl ServeArgs {
    /// Reads the file, if one is named, and puts all sources together.
    ///
    /// # Errors
    /// When the file cannot be read or has a key or value that is not known. The text is for the operator.
    pub(crate) fn load(self) -> Result<Loaded, String> {
        let file = match &self.extra.config {
            Some(path) => read_file(path)?,
            None => File::default(),
        };
        let (mut settings, shown) = resolve(self.flags, file, &self.matches);
        if settings.fronts == 0 {
            let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
            settings.fronts = u16::try_from(cores.div_ceil(2)).unwrap_or(u16::MAX);
        }
        settings.root_token.read(&settings.root_token_file)?;
        let Extra { print_config, accept_data_loss, .. } = self.extra;
        Ok(Loaded { settings, shown, print_config, accept_data_loss })
    }
}

impl Settings {
    /// Whether a request without an access token is refused.
    #[must_use]
    pub(crate) fn requires_tokens(&self) -> bool {
        match self.auth {
            AuthChoice::Required => true,
            AuthChoice::Off => false,
            AuthChoice::Auto => self.root_token.is_some() || !(self.listen.ip().is_loopback() || self.insecure),
        }
    }

    /// Whether `/metrics` is served without an access token.
    #[must_use]
    pub(crate) fn opens_metrics(&self) -> bool {
        self.open_metrics || !self.requires_tokens() || self.listen.ip().is_loopback()
    }

    /// Refuses what would be unsafe.
    ///
    /// # Errors
    /// The text is for the operator.
    pub(crate) fn check(&self) -> Result<(), String> {
        if !self.listen.ip().is_loopback() && !self.insecure && !self.has_tls() {
            return Err(format!(
                "refusing to listen on {} without TLS: it is not a loopback address, and everyone on the way could read \
                 records and access tokens. Give --tls-cert and --tls-key (or --tls-self to try it out), listen on \
                 127.0.0.1, or pass --insecure when the network is trusted (with --auth required if clients shall need \
                 access tokens)",
                self.listen
            ));
        }
        self.check_tls()?;
        if !api::json::is_location(&self.location) {
            return Err(format!(
                "location is `{}`, and must be 1 to 64 letters, digits, colons, periods and hyphens",
                self.location
            ));
        }
        if self.auth == AuthChoice::Off && self.root_token.is_some() {
            return Err(
                "there is a root token, but `auth` is off, so nobody would need it: leave one of them out".into()
            );
        }
        if self.front_bytes_max < FRONT_BYTES_MIN {
            return Err(format!("front-bytes-max is {}, and must be at least {FRONT_BYTES_MIN}", self.front_bytes_max));
        }
        Ok(())
    }
}

impl Settings {
    /// Whether the port speaks TLS.
    #[must_use]
    pub(crate) fn has_tls(&self) -> bool {
        self.tls_self || !self.tls_cert.as_os_str().is_empty()
    }

    fn check_tls(&self) -> Result<(), String> {
        let (has_cert, has_key) = (!self.tls_cert.as_os_str().is_empty(), !self.tls_key.as_os_str().is_empty());
        if has_cert != has_key {
            return Err("tls-cert and tls-key belong together: give both, or neither".to_owned());
        }
        if self.tls_self && has_cert {
            return Err("tls-self makes its own certificate: give tls-cert and tls-key, or tls-self".to_owned());
        }
        if !self.tls_client_ca.as_os_str().is_empty() && !self.has_tls() {
            return Err(
                "tls-client-ca asks clients for certificates, which needs TLS: give tls-cert and tls-key".to_owned()
            );
        }
        Ok(())
    }
}

/// Enough for some bodies and reads of the largest size at once.
const FRONT_BYTES_MIN: ByteSize = ByteSize(32 << 20);

fn read_file(path: &Path) -> Result<File, String> {
    let text =
        std::fs::read_to_string(path).map_err(|e| format!("cannot read the settings in {}: {e}", path.display()))?;
    toml::from_str(&text).map_err(|e| format!("the settings in {} are not valid: {e}", path.display()))
}

/// One line of `--print-config`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    name: &'static str,
    value: String,
    source: Source,
}

/// Where a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Flag(&'static str),
    Environment(&'static str),
    File,
    Default,
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = match self.source {
            Source::Flag(flag) => format!("flag {flag}"),
            Source::Environment(variable) => format!("environment {variable}"),
            Source::File => "file".to_owned(),
            Source::Default => "default".to_owned(),
        };
        write!(f, "{} = {:<24} # {source}", self.name, self.value)
    }
}

/// How a value is written in a settings file, so that the output of `--print-config` is one.
trait ToStringShown {
    fn to_string_shown(&self) -> String;
}

macro_rules! shown_bare {
    ($($type:ty)+) => { $(impl ToStringShown for $type { fn to_string_shown(&self) -> String { self.to_string() } })+ };
}
macro_rules! shown_quoted {
    ($($type:ty => $text:expr;)+) => { $(impl ToStringShown for $type { fn to_string_shown(&self) -> String { let text: fn(&$type) -> String = $text; format!("{:?}", text(self)) } })+ };
}

shown_bare!(u16 usize bool);
shown_quoted! {
    String => |s| s.clone();
    SocketAddr => |a| a.to_string();
    ByteSize => |b| b.to_string();
    PathBuf => |p| p.display().to_string();
    NameLimits => |l| l.to_string();
    DriverChoice => |d| format!("{d:?}").to_lowercase();
    AuthChoice => |a| format!("{a:?}").to_lowercase();
    // Not as it is, and so not to be read back: the output may go anywhere.
    RootToken => |t| if t.is_some() { "***".to_owned() } else { String::new() };
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
