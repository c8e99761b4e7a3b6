//! The store in one file of SQLite, mode 0600. A commit is in the write-ahead log and synced when it returns.
//!
//! One process has the file: it is locked for as long as it is open, so that the index of [`Local`](super::local) has every
//! record.

mod fault;
mod mails;
mod reports;
mod transaction;
mod watch;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteLockingMode, SqliteRow, SqliteSynchronous};
use sqlx::{ConnectOptions, Row, SqliteConnection};

use super::kept::{damaged, kept_reply, reply_of};
use super::postgres::DatabaseOpenError;
use super::{MessageKey, Pair, PolicyRow, RecordId, Served, Writing, Written};
use crate::smtp::reply::Reply;
pub use fault::SqliteError;
use mails::MAILS;
use reports::{FROM_4, REPORTER, REPORTS};
use transaction::SqliteHandle;
use watch::WATCH;

/// "danl": names the program that made the file, in the place that SQLite keeps for it.
const APPLICATION: i64 = 0x64_61_6e_6c;
/// The version of the tables. A change of them counts it up, and [`open_file`] converts the files of each earlier version.
const VERSION: i64 = 7;
/// One row for each message, and one for each final outcome of it. `seen` is the time of the last attempt in seconds of
/// the Unix clock. `reply` is the reply as it would go over the wire.
const OUTCOMES: &str = "
    CREATE TABLE records (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        key BLOB NOT NULL UNIQUE,
        seen INTEGER NOT NULL
    );
    CREATE INDEX records_seen ON records (seen);
    CREATE TABLE outcomes (
        record INTEGER NOT NULL REFERENCES records (id) ON DELETE CASCADE,
        pair BLOB NOT NULL,
        reply TEXT NOT NULL,
        PRIMARY KEY (record, pair)
    ) WITHOUT ROWID;
";
/// One row for each domain's policy of MTA-STS, with its text as it was fetched. The times are in seconds of the Unix clock.
const POLICIES: &str = "
    CREATE TABLE sts_policies (
        domain TEXT PRIMARY KEY,
        id TEXT NOT NULL,
        body BLOB NOT NULL,
        fetched INTEGER NOT NULL,
        used INTEGER NOT NULL,
        failing_since INTEGER
    ) WITHOUT ROWID;
";
/// What makes a file a store of this version.
const MARKS: &str = "
    PRAGMA application_id = 1684106860;
    PRAGMA user_version = 7;
";
/// From version 1, which kept outcomes by recipient and octets alone. They do not belong to a message by its key, so
/// they are dropped: a message that was open then may bring a second copy.
const FROM_1: &str = "DROP TABLE outcomes;";
/// The file that the documentation named before it named `store.sqlite`.
const OLD_NAME: &str = "ledger.sqlite";
/// How long to wait until another process closes the file.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// Why the store cannot be opened. The configuration names the file, so each text gives the remedy.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The system refuses it.
    #[error("cannot open {path}: {error}; it must be a file in a directory that danelaw may write to")]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// Another process has it.
    #[error("{0} is in use by another process; each danelaw needs a store of its own")]
    InUse(PathBuf),
    /// Another program made it, or it is damaged.
    #[error(
        "{path} is no store of danelaw, or is damaged ({found}); give another path, or move it away and a new one is \
         made, but open messages may then be delivered twice"
    )]
    NotAStore {
        /// The file.
        path: PathBuf,
        /// The fault.
        found: String,
    },
    /// A newer danelaw has written it.
    #[error("{path} has version {found}, and this danelaw knows {VERSION}; use the newer danelaw, or another file")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
    },
    /// A policy of MTA-STS in it is none.
    #[error(
        "the store's MTA-STS policy of {domain} cannot be read ({found}); delete its row of the table sts_policies, and the \
         policy is fetched anew"
    )]
    Policy {
        /// The domain.
        domain: String,
        /// The fault.
        found: String,
    },
    /// The database cannot be used as it is configured.
    #[error("{0}")]
    Database(#[from] DatabaseOpenError),
    /// The library fails.
    #[error(
        "{path} cannot be set up as a store: {error}; the file and its directory must be writable by danelaw, on a disk \
         that is not full"
    )]
    Library {
        /// The file.
        path: PathBuf,
        /// The library's error.
        error: String,
    },
}

impl OpenError {
    /// A failure of the library at this file, or at a store that ends with the process.
    pub(crate) fn library(path: Option<&Path>, error: impl fmt::Display) -> Self {
        Self::Library { path: path.unwrap_or(Path::new(":memory:")).to_owned(), error: error.to_string() }
    }
}

/// An open file, or a database in memory.
pub(crate) struct Sqlite {
    handle: SqliteHandle,
    outcomes: usize,
    /// This process among those that have written to the file.
    writer: i64,
}

impl Sqlite {
    /// See [`Store::open`](super::Store::open), and so on.
    pub(super) async fn open(path: Option<&Path>) -> Result<Self, OpenError> {
        let library = |error| OpenError::library(path, error);
        let connection = match path {
            None => {
                let options = SqliteConnectOptions::new().disable_statement_logging();
                let mut connection = options.connect().await.map_err(library)?;
                let sql = format!("{OUTCOMES} {POLICIES} {REPORTS} {REPORTER} {MAILS} {WATCH} {MARKS}");
                sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.map_err(library)?;
                connection
            }
            Some(path) => open_file(path).await?,
        };
        let writer = i64::from_ne_bytes(fastrand::u64(..).to_ne_bytes());
        let mut store = Self { handle: SqliteHandle::new(connection), outcomes: 0, writer };
        store.count().await.map_err(library)?;
        Ok(store)
    }

    pub(super) fn outcomes(&self) -> usize {
        self.outcomes
    }

    pub(super) async fn served(&mut self) -> Result<Vec<Served>, SqliteError> {
        let sql = "SELECT record, seen, pair FROM outcomes JOIN records ON records.id = outcomes.record";
        let rows = sqlx::query(sql).fetch_all(self.handle.connection().await?).await?;
        let served = |row| {
            Ok(Served { record: RecordId(row_number(row, 0)?), seen: row_number(row, 1)?, recipient: pair(row, 2)? })
        };
        rows.iter().map(served).collect()
    }

    pub(super) async fn replies(&mut self, key: MessageKey, since: i64) -> Result<BTreeMap<Pair, Reply>, SqliteError> {
        let sql = "SELECT pair, reply FROM outcomes JOIN records ON records.id = outcomes.record
                   WHERE key = ?1 AND seen >= ?2";
        let rows = sqlx::query(sql).bind(key.octets()).bind(since).fetch_all(self.handle.connection().await?).await?;
        rows.iter().map(|row| Ok((pair(row, 0)?, reply(row, 1)?))).collect()
    }

    pub(super) async fn put(&mut self, writing: Writing<'_>, now: i64) -> Result<Written, SqliteError> {
        let Writing { key, outcomes, entries, .. } = writing;
        let mut transaction = self.handle.begin().await?;
        let sql = "INSERT INTO records (key, seen) VALUES (?1, ?2)
                   ON CONFLICT (key) DO UPDATE SET seen = excluded.seen RETURNING id";
        let query = sqlx::query(sql).bind(key.octets()).bind(now);
        let record: i64 = query.fetch_one(&mut *transaction).await?.try_get(0)?;
        let sql = "DELETE FROM outcomes WHERE record = ?1";
        let before = sqlx::query(sql).bind(record).execute(&mut *transaction).await?.rows_affected();
        for (pair, reply) in outcomes {
            let sql = "INSERT INTO outcomes (record, pair, reply) VALUES (?1, ?2, ?3)";
            let query = sqlx::query(sql).bind(record).bind(pair.octets()).bind(kept_reply(reply));
            query.execute(&mut *transaction).await?;
        }
        let mut count = self.outcomes.saturating_sub(rows(before)) + outcomes.len();
        let mut evicted = Vec::new();
        while count > entries {
            let sql = "SELECT id, (SELECT COUNT(*) FROM outcomes WHERE record = id) FROM records
                       WHERE id <> ?1 ORDER BY seen, id LIMIT 1";
            let Some(row) = sqlx::query(sql).bind(record).fetch_optional(&mut *transaction).await? else { break };
            let oldest: i64 = row.try_get(0)?;
            count = count.saturating_sub(usize::try_from(row.try_get::<i64, _>(1)?).unwrap_or(usize::MAX));
            let sql = "DELETE FROM records WHERE id = ?1";
            sqlx::query(sql).bind(oldest).execute(&mut *transaction).await?;
            evicted.push(RecordId(oldest));
        }
        transaction.commit().await?;
        self.outcomes = count;
        Ok(Written { record: RecordId(record), evicted })
    }

    pub(super) async fn delete(&mut self, key: MessageKey) -> Result<Option<RecordId>, SqliteError> {
        let sql = "DELETE FROM outcomes WHERE record = (SELECT id FROM records WHERE key = ?1)";
        let mut transaction = self.handle.begin().await?;
        let outcomes = sqlx::query(sql).bind(key.octets()).execute(&mut *transaction).await?.rows_affected();
        let sql = "DELETE FROM records WHERE key = ?1 RETURNING id";
        let row = sqlx::query(sql).bind(key.octets()).fetch_optional(&mut *transaction).await?;
        transaction.commit().await?;
        self.outcomes = self.outcomes.saturating_sub(rows(outcomes));
        row.map(|row| Ok(RecordId(row_number(&row, 0)?))).transpose()
    }

    pub(super) async fn tidy(&mut self, since: i64) -> Result<Vec<RecordId>, SqliteError> {
        let sql = "DELETE FROM records WHERE seen < ?1 RETURNING id";
        let gone = sqlx::query(sql).bind(since).fetch_all(self.handle.connection().await?).await?;
        if !gone.is_empty() {
            self.count().await?;
        }
        gone.iter().map(|row| Ok(RecordId(row_number(row, 0)?))).collect()
    }

    pub(super) async fn policies(&mut self) -> Result<Vec<PolicyRow>, SqliteError> {
        let sql = "SELECT domain, id, body, fetched, used, failing_since FROM sts_policies";
        let rows = sqlx::query(sql).fetch_all(self.handle.connection().await?).await?;
        Ok(rows.iter().map(policy_row).collect::<sqlx::Result<_>>()?)
    }

    pub(super) async fn put_policy(&mut self, row: &PolicyRow) -> Result<(), SqliteError> {
        let sql = "INSERT OR REPLACE INTO sts_policies (domain, id, body, fetched, used, failing_since)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let query = sqlx::query(sql).bind(&row.domain).bind(&row.id).bind(&row.body);
        let query = query.bind(row.fetched).bind(row.used).bind(row.failing_since);
        query.execute(self.handle.connection().await?).await?;
        Ok(())
    }

    pub(super) async fn delete_policy(&mut self, domain: &str) -> Result<(), SqliteError> {
        let sql = "DELETE FROM sts_policies WHERE domain = ?1";
        sqlx::query(sql).bind(domain).execute(self.handle.connection().await?).await?;
        Ok(())
    }

    async fn count(&mut self) -> sqlx::Result<()> {
        let row = sqlx::query("SELECT COUNT(*) FROM outcomes").fetch_one(self.handle.connection().await?).await?;
        self.outcomes = usize::try_from(row.try_get::<i64, _>(0)?).unwrap_or(usize::MAX);
        Ok(())
    }
}

fn rows(affected: u64) -> usize {
    usize::try_from(affected).unwrap_or(usize::MAX)
}

async fn open_file(path: &Path) -> Result<SqliteConnection, OpenError> {
    make_file(path).map_err(|error| OpenError::File { path: path.to_owned(), error })?;
    let options = SqliteConnectOptions::new()
        .filename(path)
        .locking_mode(SqliteLockingMode::Exclusive)
        .journal_mode(SqliteJournalMode::Wal)
        // Each commit is on the disk before the client gets its reply, so that a power failure brings no second copy.
        .synchronous(SqliteSynchronous::Full)
        .pragma("secure_delete", "ON")
        .busy_timeout(LOCK_PATIENCE)
        .disable_statement_logging();
    let mut connection = options.connect().await.map_err(|error| wrong(path, error))?;
    make_tables(&mut connection, path).await?;
    // The check finds a damaged page now, and not when a message depends on it.
    let row = sqlx::query("PRAGMA quick_check(1)").fetch_one(&mut connection).await;
    let found: String = row.and_then(|row| row.try_get(0)).map_err(|error| wrong(path, error))?;
    match found.as_str() {
        "ok" => Ok(connection),
        _ => Err(OpenError::NotAStore { path: path.to_owned(), found }),
    }
}

/// Makes the file, so that the error is the system's own, and so that no other user may read it: remotes name mailboxes in
/// their replies. The write-ahead log gets the same mode.
fn make_file(path: &Path) -> io::Result<()> {
    match std::fs::metadata(path) {
        // The open of a FIFO would wait until it has a reader.
        Ok(found) if !found.is_file() => {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
        }
        Ok(_) => {}
        Err(_) => {
            let old = path.with_file_name(OLD_NAME);
            if old.exists() {
                tracing::warn!(
                    store = %path.display(),
                    old = %old.display(),
                    "a new store is made, and the outcomes in the old file are not used: set store.path to the old file, \
                     or remove it; messages that were open may be delivered twice"
                );
            }
        }
    }
    OpenOptions::new().create(true).append(true).mode(0o600).open(path).map(drop)
}

/// Makes the tables of a new file, and converts those of an earlier version.
async fn make_tables(connection: &mut SqliteConnection, path: &Path) -> Result<(), OpenError> {
    let wrong = |error| wrong(path, error);
    let application = pragma(connection, "PRAGMA application_id").await.map_err(wrong)?;
    let version = pragma(connection, "PRAGMA user_version").await.map_err(wrong)?;
    let tables = pragma(connection, "SELECT COUNT(*) FROM sqlite_schema").await.map_err(wrong)?;
    let changes = match (application, version, tables) {
        (APPLICATION, VERSION, _) => return Ok(()),
        (APPLICATION, found, _) if found > VERSION => {
            return Err(OpenError::Newer { path: path.to_owned(), found });
        }
        (APPLICATION, 5 | 6, _) => String::new(),
        (APPLICATION, 4, _) => FROM_4.to_owned(),
        (APPLICATION, 3, _) => REPORTS.to_owned(),
        (APPLICATION, 2, _) => format!("{POLICIES} {REPORTS}"),
        (APPLICATION, ..) => format!("{FROM_1} {OUTCOMES} {POLICIES} {REPORTS}"),
        (_, _, 0) => format!("{OUTCOMES} {POLICIES} {REPORTS}"),
        _ => {
            let found = "the tables of another program".to_owned();
            return Err(OpenError::NotAStore { path: path.to_owned(), found });
        }
    };
    let sql = format!("BEGIN IMMEDIATE; {changes} {REPORTER} {MAILS} {WATCH} {MARKS} COMMIT;");
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(connection).await.map_err(wrong)?;
    if (application, version) == (APPLICATION, 1) {
        tracing::warn!(store = %path.display(), "outcomes of an earlier version are dropped; they may be delivered twice");
    }
    Ok(())
}

async fn pragma(connection: &mut SqliteConnection, sql: &'static str) -> sqlx::Result<i64> {
    sqlx::query(sql).fetch_one(connection).await?.try_get(0)
}

/// The fault of the file, by the primary result code of SQLite.
fn wrong(path: &Path, error: sqlx::Error) -> OpenError {
    match fault::code(&error) {
        // SQLITE_BUSY, SQLITE_LOCKED.
        Some(5 | 6) => OpenError::InUse(path.to_owned()),
        // SQLITE_CORRUPT, SQLITE_NOTADB.
        Some(11 | 26) => OpenError::NotAStore { path: path.to_owned(), found: error.to_string() },
        _ => OpenError::library(Some(path), error),
    }
}

fn row_number(row: &SqliteRow, column: usize) -> sqlx::Result<i64> {
    row.try_get(column)
}

fn policy_row(row: &SqliteRow) -> sqlx::Result<PolicyRow> {
    Ok(PolicyRow {
        domain: row.try_get(0)?,
        id: row.try_get(1)?,
        body: row.try_get(2)?,
        fetched: row.try_get(3)?,
        used: row.try_get(4)?,
        failing_since: row.try_get(5)?,
    })
}

fn pair(row: &SqliteRow, column: usize) -> sqlx::Result<Pair> {
    Pair::from_octets(row.try_get(column)?).ok_or_else(|| unreadable("pair"))
}

fn reply(row: &SqliteRow, column: usize) -> sqlx::Result<Reply> {
    reply_of(row.try_get(column)?).ok_or_else(|| unreadable("reply"))
}

/// A value that danelaw does not write.
fn unreadable(column: &'static str) -> sqlx::Error {
    sqlx::Error::Decode(damaged(column).into())
}
