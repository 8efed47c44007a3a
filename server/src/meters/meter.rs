//! What is counted. The names are stored, so none may change.

use std::fmt;

use model::config::MeteredClass;
use model::{BasinName, Operation};

/// What is counted, as a small number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Meter(u8);

/// Whose it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// The account's.
    Account,
    /// A basin's.
    Basin(BasinName),
}

/// Meters that are no operations, then the operations, then what is stored, by their stored names.
const NAMES: [&str; 34] = [
    "append-ops.native",
    "append-ops.express",
    "append-ops.standard",
    "append-bytes.native",
    "append-bytes.express",
    "append-bytes.standard",
    "read-ops.streaming",
    "read-ops.unary",
    "read-bytes",
    "list-basins",
    "create-basin",
    "delete-basin",
    "reconfigure-basin",
    "get-basin-config",
    "issue-access-token",
    "revoke-access-token",
    "list-access-tokens",
    "list-streams",
    "create-stream",
    "delete-stream",
    "get-stream-config",
    "reconfigure-stream",
    "check-tail",
    "append",
    "read",
    "trim",
    "fence",
    "account-metrics",
    "basin-metrics",
    "stream-metrics",
    "list-locations",
    "get-default-location",
    "set-default-location",
    "stored-bytes",
];

/// Kinds of meters.
pub(crate) const METERS_COUNT: usize = NAMES.len();
const OPERATIONS_FROM: u8 = 9;

impl Meter {
    /// Streaming read operations: minutes of a session.
    pub(crate) const READ_STREAMING: Self = Self(6);
    /// Unary read operations.
    pub(crate) const READ_UNARY: Self = Self(7);
    /// Metered bytes read.
    pub(crate) const READ_BYTES: Self = Self(8);

    /// Metered bytes that are stored: not counted, but seen at times.
    pub(crate) const STORED: Self = Self(33);

    /// What two values of the same minute make: they add up, or for what is only seen, the greater one stands.
    #[must_use]
    pub(crate) fn together(self, a: u64, b: u64) -> u64 {
        if self == Self::STORED { a.max(b) } else { a + b }
    }

    /// Append operations: minutes of appends to a stream over a connection.
    #[must_use]
    pub(crate) const fn append_ops(class: MeteredClass) -> Self {
        Self(class as u8)
    }

    /// Metered bytes appended.
    #[must_use]
    pub(crate) const fn append_bytes(class: MeteredClass) -> Self {
        Self(3 + class as u8)
    }

    /// Requests for an operation.
    #[must_use]
    pub(crate) const fn operation(operation: Operation) -> Self {
        Self(OPERATIONS_FROM + operation as u8 - 1)
    }

    /// All operations, in order of their numbers.
    pub(crate) fn operations() -> impl Iterator<Item = Self> {
        Operation::ALL.into_iter().map(Self::operation)
    }

    /// The one with this stored name.
    #[must_use]
    pub(crate) fn named(name: &str) -> Option<Self> {
        let index = NAMES.iter().position(|known| *known == name)?;
        Some(Self(u8::try_from(index).expect("there are few")))
    }

    /// Its stored name.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        NAMES[self.index()]
    }

    /// Its place in an array of [`METERS_COUNT`].
    #[must_use]
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }

    /// All of them.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..u8::try_from(METERS_COUNT).expect("there are few")).map(Self)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Account => f.write_str("-"),
            Self::Basin(name) => write!(f, "{name}"),
        }
    }
}

impl Scope {
    /// From how it is stored.
    #[must_use]
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "-" => Some(Self::Account),
            name => BasinName::try_from(name).ok().map(Self::Basin),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meters_have_the_names_they_are_stored_under() {
        for (meter, name) in [
            (Meter::append_ops(MeteredClass::Native), "append-ops.native"),
            (Meter::append_ops(MeteredClass::Standard), "append-ops.standard"),
            (Meter::append_bytes(MeteredClass::Express), "append-bytes.express"),
            (Meter::READ_STREAMING, "read-ops.streaming"),
            (Meter::READ_UNARY, "read-ops.unary"),
            (Meter::READ_BYTES, "read-bytes"),
            (Meter::STORED, "stored-bytes"),
        ] {
            assert_eq!(meter.name(), name);
            assert_eq!(Meter::named(name), Some(meter));
        }
        for operation in Operation::ALL {
            assert_eq!(Meter::operation(operation).name(), operation.as_str());
        }
        assert_eq!(Meter::all().count(), METERS_COUNT);
    }
}
