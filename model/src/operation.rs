//! The operations that access tokens permit, one by one and in groups (s2-wire.md 1.13).

/// What a request does. The numbers are those of the protocol; they are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
#[allow(missing_docs, reason = "each is what its name says")]
pub enum Operation {
    ListBasins = 1,
    CreateBasin = 2,
    DeleteBasin = 3,
    ReconfigureBasin = 4,
    GetBasinConfig = 5,
    IssueAccessToken = 6,
    RevokeAccessToken = 7,
    ListAccessTokens = 8,
    ListStreams = 9,
    CreateStream = 10,
    DeleteStream = 11,
    GetStreamConfig = 12,
    ReconfigureStream = 13,
    CheckTail = 14,
    Append = 15,
    Read = 16,
    Trim = 17,
    Fence = 18,
    AccountMetrics = 19,
    BasinMetrics = 20,
    StreamMetrics = 21,
    ListLocations = 22,
    GetDefaultLocation = 23,
    SetDefaultLocation = 24,
}

impl Operation {
    /// All of them, in order of their numbers.
    pub const ALL: [Self; 24] = [
        Self::ListBasins,
        Self::CreateBasin,
        Self::DeleteBasin,
        Self::ReconfigureBasin,
        Self::GetBasinConfig,
        Self::IssueAccessToken,
        Self::RevokeAccessToken,
        Self::ListAccessTokens,
        Self::ListStreams,
        Self::CreateStream,
        Self::DeleteStream,
        Self::GetStreamConfig,
        Self::ReconfigureStream,
        Self::CheckTail,
        Self::Append,
        Self::Read,
        Self::Trim,
        Self::Fence,
        Self::AccountMetrics,
        Self::BasinMetrics,
        Self::StreamMetrics,
        Self::ListLocations,
        Self::GetDefaultLocation,
        Self::SetDefaultLocation,
    ];

    /// As it stands in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ListBasins => "list-basins",
            Self::CreateBasin => "create-basin",
            Self::DeleteBasin => "delete-basin",
            Self::ReconfigureBasin => "reconfigure-basin",
            Self::GetBasinConfig => "get-basin-config",
            Self::IssueAccessToken => "issue-access-token",
            Self::RevokeAccessToken => "revoke-access-token",
            Self::ListAccessTokens => "list-access-tokens",
            Self::ListStreams => "list-streams",
            Self::CreateStream => "create-stream",
            Self::DeleteStream => "delete-stream",
            Self::GetStreamConfig => "get-stream-config",
            Self::ReconfigureStream => "reconfigure-stream",
            Self::CheckTail => "check-tail",
            Self::Append => "append",
            Self::Read => "read",
            Self::Trim => "trim",
            Self::Fence => "fence",
            Self::AccountMetrics => "account-metrics",
            Self::BasinMetrics => "basin-metrics",
            Self::StreamMetrics => "stream-metrics",
            Self::ListLocations => "list-locations",
            Self::GetDefaultLocation => "get-default-location",
            Self::SetDefaultLocation => "set-default-location",
        }
    }

    /// The operation of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|op| op.as_str() == name)
    }

    const fn bit(self) -> u32 {
        1 << self as u8
    }
}

/// A set of operations: bit `n` is the operation with number `n`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Operations(u32);

impl Operations {
    /// None.
    pub const NONE: Self = Self(0);

    /// These.
    #[must_use]
    pub const fn of(operations: &[Operation]) -> Self {
        let mut bits = 0;
        let mut at = 0;
        while at < operations.len() {
            bits |= operations[at].bit();
            at += 1;
        }
        Self(bits)
    }

    /// The set as a number, for storage.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// The set of a number; `None` when it has a bit that stands for nothing.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Option<Self> {
        if bits & !Self::of(&Operation::ALL).0 == 0 { Some(Self(bits)) } else { None }
    }

    /// Whether the operation is in it.
    #[must_use]
    pub const fn has(self, operation: Operation) -> bool {
        self.0 & operation.bit() != 0
    }

    /// Whether all of `others` are in it.
    #[must_use]
    pub const fn has_all(self, others: Self) -> bool {
        others.0 & !self.0 == 0
    }

    /// Those of both.
    #[must_use]
    pub const fn union(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each, in order of their numbers.
    pub fn iter(self) -> impl Iterator<Item = Operation> {
        Operation::ALL.into_iter().filter(move |op| self.has(*op))
    }
}

/// Whether a group's reading and writing operations are permitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReadWrite {
    /// Those that change nothing.
    pub read: bool,
    /// Those that change something.
    pub write: bool,
}

/// Operations by what they are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OpGroups {
    /// Basins as such, access tokens, locations.
    pub account: ReadWrite,
    /// What is in a basin.
    pub basin: ReadWrite,
    /// What is in a stream.
    pub stream: ReadWrite,
}

impl OpGroups {
    /// All groups.
    pub const ALL: Self = {
        let both = ReadWrite { read: true, write: true };
        Self { account: both, basin: both, stream: both }
    };

    /// The operations that the groups stand for.
    #[must_use]
    pub const fn operations(self) -> Operations {
        let mut operations = Operations::NONE;
        let bits = self.bits();
        let mut at = 0;
        while at < GROUPS.len() {
            if bits & (1 << at) != 0 {
                operations = operations.union(Operations::of(GROUPS[at]));
            }
            at += 1;
        }
        operations
    }

    /// As one byte, for storage: account read, account write, basin read, and so on, from the lowest bit.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.account.read as u8
            | (self.account.write as u8) << 1
            | (self.basin.read as u8) << 2
            | (self.basin.write as u8) << 3
            | (self.stream.read as u8) << 4
            | (self.stream.write as u8) << 5
    }

    /// From that byte; `None` when it has a bit that stands for nothing.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        if bits >> 6 != 0 {
            return None;
        }
        Some(Self {
            account: ReadWrite { read: bits & 1 != 0, write: bits & 2 != 0 },
            basin: ReadWrite { read: bits & 4 != 0, write: bits & 8 != 0 },
            stream: ReadWrite { read: bits & 16 != 0, write: bits & 32 != 0 },
        })
    }
}

/// In the order of [`OpGroups::bits`].
const GROUPS: [&[Operation]; 6] = {
    use Operation::*;
    [
        &[ListBasins, ListAccessTokens, AccountMetrics, ListLocations, GetDefaultLocation],
        &[CreateBasin, DeleteBasin, ReconfigureBasin, IssueAccessToken, RevokeAccessToken, SetDefaultLocation],
        &[GetBasinConfig, ListStreams, BasinMetrics],
        &[CreateStream, DeleteStream, ReconfigureStream],
        &[GetStreamConfig, CheckTail, Read, StreamMetrics],
        &[Append, Trim, Fence],
    ]
};
