//! The memory that outlives the process: the final outcomes of fan-out messages, one record for each message, the policies of
//! MTA-STS, and the counts and states of TLS reports.
//!
//! The store keeps records and evicts the oldest ones. It does not decide which messages have a record, and it does
//! not know sessions: [`crate::journal`] does both. Nor does it decide which policies are kept: [`crate::discovery`] does;
//! nor which reports: [`crate::dispatch`] does.
//! Each operation is one transaction. Each backend has a file of its own, the only one that names its library.

mod key;
mod sqlite;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::smtp::reply::Reply;

pub use key::{ContentDigest, ContentHasher, MessageKey, Pair};
use sqlite::Sqlite;
use tokio::sync::Mutex;

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

/// A policy of MTA-STS as it is kept. The times are in seconds of the Unix clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PolicyRow {
    /// The domain.
    pub(crate) domain: String,
    /// The id of the policy.
    pub(crate) id: String,
    /// Its text as it was fetched.
    pub(crate) body: Vec<u8>,
    /// When it was fetched.
    pub(crate) fetched: i64,
    /// When it was last used, to the day.
    pub(crate) used: i64,
    /// Since when it cannot be fetched anew.
    pub(crate) failing_since: Option<i64>,
}

/// The counts of a domain on one day, for TLS reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CountsRow {
    /// The Julian day.
    pub(crate) day: i64,
    /// The domain.
    pub(crate) domain: String,
    /// The counts, as JSON.
    pub(crate) counts: String,
}

/// The state of a TLS report. The times are in seconds of the Unix clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReportRow {
    /// The Julian day that it is about.
    pub(crate) day: i64,
    /// The domain that it is about.
    pub(crate) domain: String,
    /// Its address; empty for the lookup of the addresses.
    pub(crate) address: String,
    /// How it ended; empty while it waits.
    pub(crate) state: String,
    /// When it was due first.
    pub(crate) first: i64,
    /// How often it was tried.
    pub(crate) tries: i64,
    /// When it is tried next.
    pub(crate) next: i64,
    /// The organisation that its first try named; empty before that.
    pub(crate) organization: String,
    /// The mailbox likewise.
    pub(crate) contact: String,
}

/// An address that has refused a TLS report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SuppressedRow {
    /// The address.
    pub(crate) address: String,
    /// It gets no reports until then, in seconds of the Unix clock; `None` deletes the row.
    pub(crate) until: Option<i64>,
    /// How often it has refused one in a row.
    pub(crate) level: i64,
}

/// All rows of TLS reports.
#[derive(Debug, Default)]
pub(crate) struct ReportRows {
    pub(crate) counts: Vec<CountsRow>,
    pub(crate) reports: Vec<ReportRow>,
    pub(crate) suppressed: Vec<SuppressedRow>,
}

/// An open store. Clones are the same store.
#[derive(Clone)]
pub struct Store {
    backend: StoreBackend,
}

/// The backends.
#[derive(Clone)]
enum StoreBackend {
    /// A file for one process.
    Sqlite(Arc<Mutex<Sqlite>>),
}

impl Store {
    /// Opens the file, or makes it. Without a path the store ends with the process.
    ///
    /// # Errors
    /// If the file cannot be used, or another process uses it.
    pub async fn open(path: Option<&Path>) -> Result<Self, OpenError> {
        let sqlite = Sqlite::open(path).await?;
        Ok(Self { backend: StoreBackend::Sqlite(Arc::new(Mutex::new(sqlite))) })
    }

    /// The number of outcomes.
    pub(crate) async fn outcomes(&self) -> usize {
        match &self.backend {
            StoreBackend::Sqlite(sqlite) => sqlite.lock().await.outcomes(),
        }
    }

    /// The recipients of all records.
    pub(crate) async fn served(&self) -> Result<Vec<Served>, Error> {
        match &self.backend {
            StoreBackend::Sqlite(sqlite) => sqlite.lock().await.served().await,
        }
    }

    /// The outcomes of a message with its last attempt not before `since`; none without a record.
    pub(crate) async fn replies(&self, key: MessageKey, since: i64) -> Result<BTreeMap<Pair, Reply>, Error> {
        match &self.backend {
            StoreBackend::Sqlite(sqlite) => sqlite.lock().await.replies(key, since).await,
        }
    }

    /// Writes a record in the place of the one before, durably. The oldest others make room for it.
    pub(crate) async fn put(&self, writing: Writing<'_>) -> Result<Written, Error> {
        match &self.backend {
            StoreBackend::Sqlite(sqlite) => sqlite.lock().await.put(writing).await,
        }
    }

    /// Deletes the record of a message, durably, and returns its number.
    pub(crate) async fn delete(&self, key: MessageKey) -> Result<Option<RecordId>, Error> {
        match &self.backend {
            StoreBackend::Sqlite(sqlite) => sqlite.lock().await.delete(key).await,
        }
    }

    /// Deletes the records whose last attempt was before `since`, and returns their numbers.
    pub(crate) async fn tidy(&self, since: i64) -> Result<Vec<RecordId>, Error> {
        match &self.backend {
            StoreBackend::Sqlite(sqlite) => sqlite.lock().await.tidy(since).await,
        }
    }

    /// All policies of MTA-STS.
    pub(crate) async fn policies(&self) -> Result<Vec<PolicyRow>, Error> {
        match &self.backend {
            StoreBackend::Sqlite(sqlite) => sqlite.lock().await.policies().await,
        }
    }

    /// Writes a policy in the place of the domain's one before, durably.
    pub(crate) async fn put_policy(&self, row: &PolicyRow) -> Result<(), Error> {
        match &self.backend {
            StoreBackend::Sqlite(sqlite) => sqlite.lock().await.put_policy(row).await,
        }
    }

    /// Deletes the policy of a domain, durably.
    pub(crate) async fn delete_policy(&self, domain: &str) -> Result<(), Error> {
        match &self.backend {
            StoreBackend::Sqlite(sqlite) => sqlite.lock().await.delete_policy(domain).await,
        }
    }

    /// All rows of TLS reports.
    pub(crate) async fn report_rows(&self) -> Result<ReportRows, Error> {
        match &self.backend {
            StoreBackend::Sqlite(sqlite) => sqlite.lock().await.report_rows().await,
        }
    }

    /// Writes rows of TLS reports in the place of those before, durably.
    pub(crate) async fn put_report_rows(&self, rows: &ReportRows) -> Result<(), Error> {
        match &self.backend {
            StoreBackend::Sqlite(sqlite) => sqlite.lock().await.put_report_rows(rows).await,
        }
    }

    /// Deletes rows of TLS reports about days before this Julian day, durably: at most 500 of each table.
    pub(crate) async fn forget_reports_before(&self, day: i64) -> Result<(), Error> {
        match &self.backend {
            StoreBackend::Sqlite(sqlite) => sqlite.lock().await.forget_reports_before(day).await,
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Store")
    }
}
