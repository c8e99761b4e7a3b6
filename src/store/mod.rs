//! The memory that outlives the process: the final outcomes of fan-out messages, one record for each message.
//!
//! The store keeps records and evicts the oldest ones. It does not decide which messages have a record, and it does
//! not know sessions: [`crate::journal`] does both. Each operation is one transaction. Each backend has a file of its
//! own, the only one that names its library.

mod key;
mod sqlite;

use std::collections::BTreeMap;
use std::path::Path;

use crate::smtp::reply::Reply;

pub use key::{ContentDigest, ContentHasher, MessageKey, Pair};
use sqlite::Sqlite;
pub use sqlite::{Error, OpenError};

/// The number of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId(pub(crate) i64);

/// A record as it is to be.
pub(crate) struct Writing<'a> {
    /// The message.
    pub(crate) key: MessageKey,
    /// All its final outcomes.
    pub(crate) outcomes: &'a BTreeMap<Pair, Reply>,
    /// The largest number of outcomes that the store may keep then.
    pub(crate) entries: usize,
    /// In seconds of the Unix clock.
    pub(crate) now: i64,
}

/// The result of a write.
pub(crate) struct Written {
    /// The record.
    pub(crate) record: RecordId,
    /// The records that made room for it.
    pub(crate) evicted: Vec<RecordId>,
}

/// A recipient with a final outcome in a record.
pub(crate) struct Served {
    /// The record.
    pub(crate) record: RecordId,
    /// The time of the last attempt, in seconds of the Unix clock.
    pub(crate) seen: i64,
    /// The sender and the recipient.
    pub(crate) recipient: Pair,
}

/// The backends.
pub(crate) enum Store {
    /// A file for one process.
    Sqlite(Sqlite),
}

impl Store {
    /// Opens the file, or makes it. Without a path the store ends with the process.
    pub(crate) async fn open(path: Option<&Path>) -> Result<Self, OpenError> {
        Sqlite::open(path).await.map(Self::Sqlite)
    }

    /// The number of outcomes.
    pub(crate) fn outcomes(&self) -> usize {
        match self {
            Self::Sqlite(sqlite) => sqlite.outcomes(),
        }
    }

    /// The recipients of all records.
    pub(crate) async fn served(&mut self) -> Result<Vec<Served>, Error> {
        match self {
            Self::Sqlite(sqlite) => sqlite.served().await,
        }
    }

    /// The outcomes of a message with its last attempt not before `since`; none without a record.
    pub(crate) async fn replies(&mut self, key: MessageKey, since: i64) -> Result<BTreeMap<Pair, Reply>, Error> {
        match self {
            Self::Sqlite(sqlite) => sqlite.replies(key, since).await,
        }
    }

    /// Writes a record in the place of the one before, durably. The oldest others make room for it.
    pub(crate) async fn put(&mut self, writing: Writing<'_>) -> Result<Written, Error> {
        match self {
            Self::Sqlite(sqlite) => sqlite.put(writing).await,
        }
    }

    /// Deletes the record of a message, durably, and returns its number.
    pub(crate) async fn settle(&mut self, key: MessageKey) -> Result<Option<RecordId>, Error> {
        match self {
            Self::Sqlite(sqlite) => sqlite.settle(key).await,
        }
    }

    /// Deletes the records whose last attempt was before `since`, and returns their numbers.
    pub(crate) async fn tidy(&mut self, since: i64) -> Result<Vec<RecordId>, Error> {
        match self {
            Self::Sqlite(sqlite) => sqlite.tidy(since).await,
        }
    }
}
