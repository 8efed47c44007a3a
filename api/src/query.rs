//! Query strings of listings and reads (s2-wire.md 1.3, 1.10). Unknown parameters are ignored.

use model::NamePrefix;

use crate::status::ApiError;

/// Where a read starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadStart {
    /// At this number.
    SeqNum(u64),
    /// At the first record with this timestamp or a later one.
    Timestamp(u64),
    /// This many records before the tail.
    TailOffset(u64),
}

/// A read as asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadQuery {
    /// Where to start; the tail when nothing was said.
    pub start: ReadStart,
    /// Beyond the tail means at the tail.
    pub clamp: bool,
    /// Most records.
    pub count: Option<u64>,
    /// Most metered bytes.
    pub bytes: Option<u64>,
    /// Stop before the first record with this timestamp or a later one. A timestamp start is below it.
    pub until: Option<u64>,
    /// How long to wait for records, in seconds.
    pub wait_secs: Option<u32>,
}

/// A page of a listing as asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListQuery {
    /// Only names that begin so.
    pub prefix: NamePrefix,
    /// Only names behind this one.
    pub start_after: NamePrefix,
    /// Most items: 1 to `LIST_ITEMS_MAX`.
    pub limit: usize,
}

impl ReadQuery {
    /// From the query string, without its `?`.
    ///
    /// # Errors
    /// 400 `bad_query` when a value is malformed or given twice; 422 `invalid` when values contradict each other.
    pub fn parse(query: &str) -> Result<Self, ApiError> {
        todo!("{query}")
    }

    /// The same with the caps of a unary read: 1000 records, 1 MiB, 60 seconds.
    #[must_use]
    pub fn unary(self) -> Self {
        todo!()
    }

    /// Whether the read may wait at the tail (s2-wire.md 4.5); for a unary read ask after [`ReadQuery::unary`].
    #[must_use]
    pub fn may_follow(&self) -> bool {
        todo!()
    }

    /// Whether a limit is 0: the answer is empty, whatever the start (s2-wire.md 4.5).
    #[must_use]
    pub fn wants_nothing(&self) -> bool {
        self.count == Some(0) || self.bytes == Some(0)
    }
}

impl ListQuery {
    /// Of basins, from the query string without its `?`.
    ///
    /// # Errors
    /// 400 `bad_query`.
    pub fn parse_basins(query: &str) -> Result<Self, ApiError> {
        todo!("{query}")
    }

    /// Of streams, from the query string without its `?`.
    ///
    /// # Errors
    /// 400 `bad_query`.
    pub fn parse_streams(query: &str) -> Result<Self, ApiError> {
        todo!("{query}")
    }
}
