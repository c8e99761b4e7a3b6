//! The store: SQLite, and the only place that names it.
//!
//! A store that replicas share would say the same sentences to PostgreSQL. Here there is one process: the file is locked
//! for as long as it is open, so that what [`Ledger`](super::Ledger) knows of its keys without asking is all there is.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::BytesMut;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteLockingMode, SqliteRow, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Row, SqliteConnection};

use super::key::{Content, Pair};
use super::past::{Fate, Manners, Past};
use crate::smtp::reply::{Reply, ReplyDecoder};

/// "danl": says whose file it is, in the place that SQLite keeps for it.
const APPLICATION: i64 = 0x64_61_6e_6c;
/// The version of [`SCHEMA`]. A change counts it up and says how to get there from the one before.
const VERSION: i64 = 1;
/// One row for each outcome. `reply` is what the client was or would have been told, codes and all; without one the
/// outcome is in the making, or nobody will ever know it. `seen` is in seconds of the Unix clock.
const SCHEMA: &str = "
    CREATE TABLE outcomes (
        pair BLOB NOT NULL,
        content BLOB NOT NULL,
        reply TEXT,
        all_or_nothing INTEGER NOT NULL DEFAULT 0,
        seen INTEGER NOT NULL,
        PRIMARY KEY (pair, content)
    );
    CREATE INDEX outcomes_seen ON outcomes (seen);
    PRAGMA application_id = 1684106860;
    PRAGMA user_version = 1;
";
/// How long to wait for another process to let go of the file.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
/// Most lines of a reply that are kept.
const MAX_LINES: usize = 8;

/// Why the memory cannot be opened. The configuration names the file, so each says what to do about it.
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
        "{path} is no ledger of danelaw, or is damaged ({found}); move it away and a new one is made, but what it \
         remembers may then be delivered twice"
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
    #[error("the memory cannot be set up: {0}")]
    Library(sqlx::Error),
}

/// What is to be written of one message.
pub(super) struct Writing<'a> {
    /// What is to be remembered.
    pub(super) outcomes: &'a [(Pair, &'a Reply)],
    /// For whom nothing is.
    pub(super) forget: &'a [Pair],
    /// In seconds of the Unix clock.
    pub(super) now: i64,
}

pub(super) struct Store {
    connection: SqliteConnection,
    rows: usize,
}

impl Store {
    /// Opens the file, or makes it; without a path, a store that ends with the process.
    pub(super) async fn open(path: Option<&Path>) -> Result<Self, OpenError> {
        let connection = match path {
            None => {
                let options = SqliteConnectOptions::new().disable_statement_logging();
                let mut connection = options.connect().await.map_err(OpenError::Library)?;
                sqlx::raw_sql(SCHEMA).execute(&mut connection).await.map_err(OpenError::Library)?;
                connection
            }
            Some(path) => open_file(path).await?,
        };
        let mut store = Self { connection, rows: 0 };
        store.count().await.map_err(OpenError::Library)?;
        Ok(store)
    }

    /// How many rows there are.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// All pairs of which something is remembered.
    pub(super) async fn pairs(&mut self) -> sqlx::Result<Vec<Pair>> {
        let sql = "SELECT DISTINCT pair FROM outcomes WHERE reply IS NOT NULL";
        let rows = sqlx::query(sql).fetch_all(&mut self.connection).await?;
        rows.iter().map(|row| pair(row, 0)).collect()
    }

    /// What is remembered of a pair since `since`.
    pub(super) async fn past(&mut self, of: Pair, since: i64) -> sqlx::Result<Past> {
        let sql = "SELECT content, reply, all_or_nothing FROM outcomes
                   WHERE pair = ?1 AND seen >= ?2 AND reply IS NOT NULL";
        let rows = sqlx::query(sql).bind(of.octets()).bind(since).fetch_all(&mut self.connection).await?;
        let (mut fates, mut manners) = (Vec::new(), Manners::Unproved);
        for row in &rows {
            let content = Content::from_octets(row.try_get(0)?).ok_or_else(|| damaged("content"))?;
            fates.push((content, Fate::of(&reply(row, 1)?)));
            if row.try_get::<i64, _>(2)? != 0 {
                manners = Manners::AllOrNothing;
            }
        }
        Ok(Past::new(fates, manners))
    }

    /// What is remembered of one message and these pairs since `since`.
    pub(super) async fn replies(
        &mut self,
        content: Content,
        pairs: &[Pair],
        since: i64,
    ) -> sqlx::Result<BTreeMap<Pair, Reply>> {
        let sql = "SELECT reply FROM outcomes
                   WHERE pair = ?1 AND content = ?2 AND seen >= ?3 AND reply IS NOT NULL";
        let mut replies = BTreeMap::new();
        for pair in pairs {
            let query = sqlx::query(sql).bind(pair.octets()).bind(content.octets()).bind(since);
            if let Some(row) = query.fetch_optional(&mut self.connection).await? {
                replies.insert(*pair, reply(&row, 0)?);
            }
        }
        Ok(replies)
    }

    /// Makes room for the outcomes of one message, durably.
    pub(super) async fn reserve(&mut self, content: Content, pairs: &[Pair], now: i64) -> sqlx::Result<()> {
        let mut transaction = self.connection.begin().await?;
        let mut added = 0;
        for pair in pairs {
            added += insert(&mut transaction, (*pair, content), now).await?;
        }
        transaction.commit().await?;
        self.rows += added;
        Ok(())
    }

    /// Writes outcomes of one message down, and forgets it for others, durably.
    pub(super) async fn put(&mut self, content: Content, writing: Writing<'_>) -> sqlx::Result<()> {
        let Writing { outcomes, forget, now } = writing;
        let sql = "UPDATE outcomes SET reply = ?3, seen = ?4 WHERE pair = ?1 AND content = ?2";
        let mut transaction = self.connection.begin().await?;
        let (mut added, mut gone) = (0, 0);
        for (pair, reply) in outcomes {
            added += insert(&mut transaction, (*pair, content), now).await?;
            let query = sqlx::query(sql).bind(pair.octets()).bind(content.octets()).bind(written(reply)).bind(now);
            query.execute(&mut *transaction).await?;
        }
        for pair in forget {
            gone += delete(&mut transaction, (*pair, content)).await?;
        }
        transaction.commit().await?;
        self.rows = (self.rows + added).saturating_sub(gone);
        Ok(())
    }

    /// Notes that the client which sends to these gives whole messages up.
    pub(super) async fn mark(&mut self, pairs: &[Pair], now: i64) -> sqlx::Result<()> {
        let sql = "UPDATE outcomes SET all_or_nothing = 1, seen = ?2 WHERE pair = ?1";
        let mut transaction = self.connection.begin().await?;
        for pair in pairs {
            sqlx::query(sql).bind(pair.octets()).bind(now).execute(&mut *transaction).await?;
        }
        transaction.commit().await
    }

    /// Forgets a message for these pairs.
    pub(super) async fn forget(&mut self, content: Content, pairs: &[Pair]) -> sqlx::Result<()> {
        let mut transaction = self.connection.begin().await?;
        let mut gone = 0;
        for pair in pairs {
            gone += delete(&mut transaction, (*pair, content)).await?;
        }
        transaction.commit().await?;
        self.rows = self.rows.saturating_sub(gone);
        Ok(())
    }

    /// Forgets what has not been of use since `since`.
    pub(super) async fn expire(&mut self, since: i64) -> sqlx::Result<()> {
        sqlx::query("DELETE FROM outcomes WHERE seen < ?1").bind(since).execute(&mut self.connection).await?;
        self.count().await
    }

    /// Forgets the outcomes that nobody will ever know, and says how many they were.
    pub(super) async fn forget_unknown(&mut self) -> sqlx::Result<u64> {
        let sql = "DELETE FROM outcomes WHERE reply IS NULL";
        let deleted = sqlx::query(sql).execute(&mut self.connection).await?.rows_affected();
        self.count().await?;
        Ok(deleted)
    }

    async fn count(&mut self) -> sqlx::Result<()> {
        let row = sqlx::query("SELECT COUNT(*) FROM outcomes").fetch_one(&mut self.connection).await?;
        self.rows = usize::try_from(row.try_get::<i64, _>(0)?).unwrap_or(usize::MAX);
        Ok(())
    }
}

/// A row without an outcome, unless there is one; how many were added.
async fn insert(connection: &mut SqliteConnection, key: (Pair, Content), now: i64) -> sqlx::Result<usize> {
    let sql = "INSERT INTO outcomes (pair, content, seen) VALUES (?1, ?2, ?3) ON CONFLICT (pair, content) DO NOTHING";
    let query = sqlx::query(sql).bind(key.0.octets()).bind(key.1.octets()).bind(now);
    Ok(rows(query.execute(connection).await?.rows_affected()))
}

/// Deletes a row, if there is one; how many were deleted.
async fn delete(connection: &mut SqliteConnection, key: (Pair, Content)) -> sqlx::Result<usize> {
    let sql = "DELETE FROM outcomes WHERE pair = ?1 AND content = ?2";
    let query = sqlx::query(sql).bind(key.0.octets()).bind(key.1.octets());
    Ok(rows(query.execute(connection).await?.rows_affected()))
}

fn rows(affected: u64) -> usize {
    usize::try_from(affected).unwrap_or(usize::MAX)
}

async fn open_file(path: &Path) -> Result<SqliteConnection, OpenError> {
    // Made here, so that what the system says is told in its words, and so that nobody else may read it: remotes name
    // mailboxes in their replies. The write-ahead log gets the same mode.
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    file.map_err(|error| OpenError::File { path: path.to_owned(), error })?;
    let options = SqliteConnectOptions::new()
        .filename(path)
        .locking_mode(SqliteLockingMode::Exclusive)
        .journal_mode(SqliteJournalMode::Wal)
        // Each commit is on the disk before the client hears of it: after a power failure, too, nobody gets a second copy.
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
        _ => OpenError::Library(error),
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
