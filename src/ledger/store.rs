//! The store: SQLite, and the only place that names it.
//!
//! One process has the file: it is locked for as long as it is open, so that the index of [`Ledger`](super::Ledger) knows
//! every record. A store that replicas share would say the same sentences to PostgreSQL.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::BytesMut;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteLockingMode, SqliteRow, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Row, SqliteConnection};

use super::index::{Index, RecordId};
use super::key::{MessageKey, Pair};
use crate::smtp::reply::{Reply, ReplyDecoder};

/// "danl": names the program that made the file, in the place that SQLite keeps for it.
const APPLICATION: i64 = 0x64_61_6e_6c;
/// The version of [`SCHEMA`]. A change counts it up, and [`open_file`] leads there from each one before.
const VERSION: i64 = 2;
/// One row for each message, and one for each final outcome of it. `seen` is the time of the last attempt in seconds of
/// the Unix clock. `reply` is the reply as it would go over the wire.
const SCHEMA: &str = "
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
    PRAGMA application_id = 1684106860;
    PRAGMA user_version = 2;
";
/// From version 1, which kept outcomes by recipient and octets alone. They do not belong to a message by its key, so
/// they are dropped: a message that was open then may bring a second copy.
const FROM_1: &str = "DROP TABLE outcomes;";
/// How long to wait for another process to let go of the file.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
/// Most lines of a reply that are kept.
const MAX_LINES: usize = 8;

/// Why the ledger cannot be opened. The configuration names the file, so each says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The system refuses it.
    #[error("cannot open {path}: {error}; it must be a file in a directory that danelaw may write to")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Another process has it.
    #[error("{0} is in use by another process; each danelaw needs a ledger of its own")]
    InUse(PathBuf),
    /// It was not made here, or what was made here is damaged.
    #[error(
        "{path} is no ledger of danelaw, or is damaged ({found}); move it away and a new one is made, but open \
         messages may then be delivered twice"
    )]
    NotALedger {
        /// The file.
        path: PathBuf,
        /// What it has instead.
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
    /// The library fails.
    #[error(
        "{path} cannot be set up as a ledger: {error}; the file and its directory must be writable by danelaw, on a disk \
         that is not full"
    )]
    Library {
        /// The file.
        path: PathBuf,
        /// What the library says.
        error: sqlx::Error,
    },
}

impl OpenError {
    /// A failure of the library at this file, or at a ledger that ends with the process.
    pub(super) fn library(path: Option<&Path>, error: sqlx::Error) -> Self {
        Self::Library { path: path.unwrap_or(Path::new(":memory:")).to_owned(), error }
    }
}

/// A record as it is to be.
pub(super) struct Writing<'a> {
    /// The message.
    pub(super) key: MessageKey,
    /// All its final outcomes.
    pub(super) outcomes: &'a BTreeMap<Pair, Reply>,
    /// The most outcomes that the store may hold then.
    pub(super) entries: usize,
    /// In seconds of the Unix clock.
    pub(super) now: i64,
}

/// The result of a write.
pub(super) struct Written {
    /// The record.
    pub(super) record: RecordId,
    /// The records that made room for it.
    pub(super) evicted: Vec<RecordId>,
}

pub(super) struct Store {
    connection: SqliteConnection,
    outcomes: usize,
}

impl Store {
    /// Opens the file, or makes it; without a path, a store that ends with the process.
    pub(super) async fn open(path: Option<&Path>) -> Result<Self, OpenError> {
        let library = |error| OpenError::library(path, error);
        let connection = match path {
            None => {
                let options = SqliteConnectOptions::new().disable_statement_logging();
                let mut connection = options.connect().await.map_err(library)?;
                sqlx::raw_sql(SCHEMA).execute(&mut connection).await.map_err(library)?;
                connection
            }
            Some(path) => open_file(path).await?,
        };
        let mut store = Self { connection, outcomes: 0 };
        store.count().await.map_err(library)?;
        Ok(store)
    }

    /// The number of outcomes.
    pub(super) fn outcomes(&self) -> usize {
        self.outcomes
    }

    /// The recipients of all records.
    pub(super) async fn index(&mut self) -> sqlx::Result<Index> {
        let sql = "SELECT record, seen, pair FROM outcomes JOIN records ON records.id = outcomes.record";
        let rows = sqlx::query(sql).fetch_all(&mut self.connection).await?;
        let mut index = Index::default();
        for row in &rows {
            index.insert(RecordId(row.try_get(0)?), row.try_get(1)?, [pair(row, 2)?]);
        }
        Ok(index)
    }

    /// The outcomes of a message with its last attempt not before `since`; none without a record.
    pub(super) async fn find(&mut self, key: MessageKey, since: i64) -> sqlx::Result<BTreeMap<Pair, Reply>> {
        let sql = "SELECT pair, reply FROM outcomes JOIN records ON records.id = outcomes.record
                   WHERE key = ?1 AND seen >= ?2";
        let rows = sqlx::query(sql).bind(key.octets()).bind(since).fetch_all(&mut self.connection).await?;
        rows.iter().map(|row| Ok((pair(row, 0)?, reply(row, 1)?))).collect()
    }

    /// Writes a record in the place of the one before, durably. The oldest others make room for it.
    pub(super) async fn put(&mut self, writing: Writing<'_>) -> sqlx::Result<Written> {
        let Writing { key, outcomes, entries, now } = writing;
        let mut transaction = self.connection.begin().await?;
        let sql = "INSERT INTO records (key, seen) VALUES (?1, ?2)
                   ON CONFLICT (key) DO UPDATE SET seen = excluded.seen RETURNING id";
        let query = sqlx::query(sql).bind(key.octets()).bind(now);
        let record: i64 = query.fetch_one(&mut *transaction).await?.try_get(0)?;
        let sql = "DELETE FROM outcomes WHERE record = ?1";
        let before = sqlx::query(sql).bind(record).execute(&mut *transaction).await?.rows_affected();
        for (pair, reply) in outcomes {
            let sql = "INSERT INTO outcomes (record, pair, reply) VALUES (?1, ?2, ?3)";
            let query = sqlx::query(sql).bind(record).bind(pair.octets()).bind(written(reply));
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

    /// Deletes the record of a message, durably, and tells which one it was.
    pub(super) async fn delete(&mut self, key: MessageKey) -> sqlx::Result<Option<RecordId>> {
        let sql = "DELETE FROM outcomes WHERE record = (SELECT id FROM records WHERE key = ?1)";
        let mut transaction = self.connection.begin().await?;
        let outcomes = sqlx::query(sql).bind(key.octets()).execute(&mut *transaction).await?.rows_affected();
        let sql = "DELETE FROM records WHERE key = ?1 RETURNING id";
        let row = sqlx::query(sql).bind(key.octets()).fetch_optional(&mut *transaction).await?;
        transaction.commit().await?;
        self.outcomes = self.outcomes.saturating_sub(rows(outcomes));
        row.map(|row| Ok(RecordId(row.try_get(0)?))).transpose()
    }

    /// Deletes records whose last attempt was before `since`, and tells which they were.
    pub(super) async fn expire(&mut self, since: i64) -> sqlx::Result<Vec<RecordId>> {
        let sql = "DELETE FROM records WHERE seen < ?1 RETURNING id";
        let gone = sqlx::query(sql).bind(since).fetch_all(&mut self.connection).await?;
        if !gone.is_empty() {
            self.count().await?;
        }
        gone.iter().map(|row| Ok(RecordId(row.try_get(0)?))).collect()
    }

    async fn count(&mut self) -> sqlx::Result<()> {
        let row = sqlx::query("SELECT COUNT(*) FROM outcomes").fetch_one(&mut self.connection).await?;
        self.outcomes = usize::try_from(row.try_get::<i64, _>(0)?).unwrap_or(usize::MAX);
        Ok(())
    }
}

fn rows(affected: u64) -> usize {
    usize::try_from(affected).unwrap_or(usize::MAX)
}

async fn open_file(path: &Path) -> Result<SqliteConnection, OpenError> {
    // A FIFO would hold the start until it has a reader.
    if std::fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        let error = io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file");
        return Err(OpenError::File { path: path.to_owned(), error });
    }
    // Made here, so that the operator hears the system's own words, and so that no other user may read it: remotes name
    // mailboxes in their replies. The write-ahead log gets the same mode.
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    file.map_err(|error| OpenError::File { path: path.to_owned(), error })?;
    let options = SqliteConnectOptions::new()
        .filename(path)
        .locking_mode(SqliteLockingMode::Exclusive)
        .journal_mode(SqliteJournalMode::Wal)
        // Each commit is on the disk before the client hears of it, so that a power failure brings no second copy.
        .synchronous(SqliteSynchronous::Full)
        .pragma("secure_delete", "ON")
        .busy_timeout(LOCK_PATIENCE)
        .disable_statement_logging();
    let wrong = |error| wrong(path, error);
    let mut connection = options.connect().await.map_err(wrong)?;
    let application = pragma(&mut connection, "PRAGMA application_id").await.map_err(wrong)?;
    let tables = pragma(&mut connection, "SELECT COUNT(*) FROM sqlite_schema").await.map_err(wrong)?;
    if application == APPLICATION {
        let found = pragma(&mut connection, "PRAGMA user_version").await.map_err(wrong)?;
        if found > VERSION {
            return Err(OpenError::Newer { path: path.to_owned(), found });
        }
        if found < VERSION {
            let sql = format!("BEGIN IMMEDIATE; {FROM_1} {SCHEMA} COMMIT;");
            sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.map_err(wrong)?;
            tracing::warn!(ledger = %path.display(), "outcomes of an earlier version are dropped; they may be delivered twice");
        }
    } else if tables == 0 {
        let sql = format!("BEGIN IMMEDIATE; {SCHEMA} COMMIT;");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.map_err(wrong)?;
    } else {
        return Err(OpenError::NotALedger { path: path.to_owned(), found: "the tables of another program".to_owned() });
    }
    // A page that is damaged is to be found now, and not when a message hangs on it.
    let found: String = sqlx::query("PRAGMA quick_check(1)")
        .fetch_one(&mut connection)
        .await
        .and_then(|row| row.try_get(0))
        .map_err(wrong)?;
    match found.as_str() {
        "ok" => Ok(connection),
        _ => Err(OpenError::NotALedger { path: path.to_owned(), found }),
    }
}

async fn pragma(connection: &mut SqliteConnection, sql: &'static str) -> sqlx::Result<i64> {
    sqlx::query(sql).fetch_one(connection).await?.try_get(0)
}

/// What is wrong with the file, by the primary result code of SQLite.
fn wrong(path: &Path, error: sqlx::Error) -> OpenError {
    let code = error.as_database_error().and_then(|error| error.code()).and_then(|code| code.parse::<i64>().ok());
    match code.map(|code| code & 0xff) {
        // SQLITE_BUSY, SQLITE_LOCKED.
        Some(5 | 6) => OpenError::InUse(path.to_owned()),
        // SQLITE_CORRUPT, SQLITE_NOTADB.
        Some(11 | 26) => OpenError::NotALedger { path: path.to_owned(), found: error.to_string() },
        _ => OpenError::library(Some(path), error),
    }
}

fn pair(row: &SqliteRow, column: usize) -> sqlx::Result<Pair> {
    Pair::from_octets(row.try_get(column)?).ok_or_else(|| damaged("pair"))
}

/// A reply as it is kept: as it would go over the wire.
fn written(reply: &Reply) -> String {
    let mut octets = BytesMut::new();
    let lines = reply.lines().take(MAX_LINES);
    Reply::multiline(reply.code(), reply.enhanced(), lines).write(&mut octets);
    String::from_utf8_lossy(&octets).into_owned()
}

fn reply(row: &SqliteRow, column: usize) -> sqlx::Result<Reply> {
    let mut octets = BytesMut::from(row.try_get::<&str, _>(column)?.as_bytes());
    ReplyDecoder::new().decode(&mut octets).ok().flatten().ok_or_else(|| damaged("reply"))
}

/// What only another hand can have written.
fn damaged(column: &str) -> sqlx::Error {
    sqlx::Error::Decode(format!("the column {column} holds something else").into())
}
