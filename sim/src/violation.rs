//! What a run ends with when a rule is broken.

use std::fmt;

/// A broken rule. The first one ends the run: what comes after it would only be noise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The rule, as `docs/verification.md` lists it.
    pub rule: Rule,
    /// What was seen.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule.name(), self.what)
    }
}

impl Violation {
    /// The same, of this stream.
    pub(crate) fn of(self, stream: &model::StreamName) -> Self {
        Self { what: format!("stream `{stream}`: {}", self.what), ..self }
    }
}

/// A violation, as the `Err` of a check.
pub(crate) fn broken<T>(rule: Rule, what: impl Into<String>) -> Result<T, Violation> {
    Err(Violation { rule, what: what.into() })
}

macro_rules! rules {
    ($($variant:ident, $name:literal;)*) => {
        /// What must always hold.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Rule {
            $(#[doc = $name] $variant,)*
        }

        impl Rule {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// In words.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

rules! {
    AckedIsDurable, "what is acknowledged is decodable from synced bytes";
    Dense, "seq_nums are dense";
    Atomic, "batches are atomic and whole";
    SentOnce, "nothing is in the log that nobody sent, twice, or after it was refused";
    Timestamps, "timestamps never fall and are nobody's future";
    Conditions, "an append is admitted only if its condition held";
    ConditionsDurable, "a failed condition is answered only from durable state";
    ReadCommitted, "no read above the durable tail";
    ReadContents, "a read returns what was appended";
    TailWindow, "a tail is neither stale nor ahead";
    TrimLawful, "records go only by trim, expiry or deletion";
    DeleteLawful, "streams go only by request or by their own configuration";
    Existence, "answers about existence are true";
    Configuration, "a configuration is one that was asked for";
    Fenced, "a token in force survives";
    Leases, "one at a time holds a lease, durably and for as long as was said";
    Sealed, "records are sealed as their stream wants them, and in no other way";
    Consensus, "terms and promises never fall, entries are dense and described";
    Chain, "extents are chained, in growing epochs, and never overwritten while they count";
    Recycle, "no segment is recycled while it is needed";
    Budget, "every bound is kept";
    Answered, "every request is answered, once";
    ComesBack, "what a crash leaves is enough to come back, exactly";
    DamageTold, "damage is refused or told, never served";
    Basins, "fronts see only durable basins";
    Tokens, "fronts see only durable access tokens, and each is issued once";
    SessionOrder, "the inputs of a session are applied in order, none after a failure";
    History, "the clients' history is linearizable";
    NoPanic, "the shard keeps its own invariants";
    Heals, "without faults, everything works again";
    Foreign, "a log is taken up only by the shards that wrote it";
}
