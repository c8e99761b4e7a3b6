//! The store of one process: a file of SQLite, and the memory beside it.
//!
//! The file is locked for as long as it is open, so the index in memory has every record, and RCPT does not wait for the disk.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::RwLock;
use time::OffsetDateTime;
use tokio::sync::{Mutex, MutexGuard};

use super::index::Index;
use super::sqlite::{OpenError, Sqlite, SqliteError};
use super::{Claim, Claimed, MessageKey, Pair, RecordId, Writing, Written};

/// How often expired records are looked for.
const TIDY: Duration = Duration::from_secs(60 * 60);

/// An open file, or a database in memory.
pub(super) struct Local {
    path: Option<PathBuf>,
    kept: Mutex<Kept>,
    /// Which recipients have a final outcome in which records.
    index: RwLock<Index>,
}

pub(super) struct Kept {
    pub(super) sqlite: Sqlite,
    tidied: i64,
    /// Records that were taken and could not be deleted. They count as deleted.
    gone: HashSet<MessageKey>,
}

impl Local {
    pub(super) async fn open(path: Option<&Path>) -> Result<Self, OpenError> {
        let mut sqlite = Sqlite::open(path).await?;
        let served = sqlite.served().await.map_err(|error| OpenError::library(path, error))?;
        let kept = Kept { sqlite, tidied: now(), gone: HashSet::new() };
        Ok(Self { path: path.map(Path::to_owned), kept: Mutex::new(kept), index: RwLock::new(Index::of(served)) })
    }

    /// The file; none for a database in memory.
    pub(super) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The result of an operation, with the name of the file if it fails.
    pub(super) fn named<T>(&self, done: Result<T, SqliteError>) -> Result<T, SqliteError> {
        done.map_err(|error| error.of(self.path()))
    }

    pub(super) async fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().await
    }

    pub(super) fn served(&self, recipient: Pair, expiry: Duration) -> Vec<RecordId> {
        self.index.read().records(recipient, since(expiry, now()))
    }

    /// The lock of the message is the journal's: there is no other process. A record that cannot be read counts as deleted.
    pub(super) async fn claim(&self, claim: Claim<'_>) -> Claimed {
        let Claim { key, recipients, expiry, entries, .. } = claim;
        let may_have_record = {
            let index = self.index.read();
            recipients.iter().any(|recipient| index.has(*recipient))
        };
        let mut claimed = Claimed { outcomes: BTreeMap::new(), is_stored: false };
        if !may_have_record {
            return claimed;
        }
        let mut kept = self.lock().await;
        if kept.gone.contains(&key) {
            return claimed;
        }
        match kept.sqlite.replies(key, since(expiry, now())).await {
            Ok(outcomes) => {
                claimed.is_stored = !outcomes.is_empty();
                claimed.outcomes = outcomes;
            }
            Err(error) => {
                kept.lose(key, entries);
                let error = error.of(self.path());
                tracing::error!(%error, "the record of a message cannot be read; its recipients may get a second copy");
            }
        }
        claimed
    }

    pub(super) async fn put(&self, writing: Writing<'_>, expiry: Duration) -> Result<(), SqliteError> {
        let Writing { key, outcomes, .. } = writing;
        let now = now();
        let mut kept = self.lock().await;
        let tidied = self.named(kept.tidy_sometimes(expiry, now).await);
        let expired = tidied.unwrap_or_else(|error| {
            tracing::error!(%error, "expired records of the store cannot be deleted");
            Vec::new()
        });
        let Written { record, evicted } = kept.sqlite.put(writing, now).await?;
        kept.gone.remove(&key);
        let mut index = self.index.write();
        expired.into_iter().chain(evicted).for_each(|record| index.remove(record));
        index.insert(record, now, outcomes.keys().copied());
        Ok(())
    }

    pub(super) async fn take(&self, key: MessageKey, entries: usize) -> Result<(), SqliteError> {
        let mut kept = self.lock().await;
        // Before the deletion: a session that is cut in it leaves a record that counts as deleted.
        kept.lose(key, entries);
        if let Some(record) = kept.sqlite.delete(key).await? {
            self.index.write().remove(record);
        }
        kept.gone.remove(&key);
        Ok(())
    }

    pub(super) async fn tidy(&self, expiry: Duration) -> Result<(), SqliteError> {
        let mut kept = self.lock().await;
        let gone = kept.sqlite.tidy(since(expiry, now())).await?;
        let mut index = self.index.write();
        gone.into_iter().for_each(|record| index.remove(record));
        Ok(())
    }
}

impl Kept {
    /// Deletes expired records once in a while, and returns their numbers. A record that is still there has expired all the same.
    async fn tidy_sometimes(&mut self, expiry: Duration, now: i64) -> Result<Vec<RecordId>, SqliteError> {
        if self.tidied.saturating_add(seconds(TIDY)) >= now {
            return Ok(Vec::new());
        }
        self.tidied = now;
        self.sqlite.tidy(since(expiry, now)).await
    }

    /// A record counts as deleted from now on. There are no more of them than records.
    fn lose(&mut self, key: MessageKey, most: usize) {
        if self.gone.len() < most {
            self.gone.insert(key);
        }
    }
}

fn now() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp()
}

/// The time before which a record has expired.
fn since(expiry: Duration, now: i64) -> i64 {
    now.saturating_sub(seconds(expiry))
}

/// Whole seconds, as both backends count them.
pub(super) fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}
