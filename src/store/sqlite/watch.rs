//! The tables of the watch.

use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::super::watch::ENTRIES;
use super::super::{HostSessions, WatchRow};
use super::{Sqlite, SqliteError};

/// One row for each domain or host that is watched, and one for each result of the sessions with a host on a day. Files before
/// version 7 do not have them.
pub(super) const WATCH: &str = "
    CREATE TABLE IF NOT EXISTS watch_entries (
        kind TEXT NOT NULL,
        name TEXT NOT NULL,
        entry TEXT NOT NULL,
        seen INTEGER NOT NULL,
        PRIMARY KEY (kind, name)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS host_sessions (
        host TEXT NOT NULL,
        port INTEGER NOT NULL,
        day INTEGER NOT NULL,
        word TEXT NOT NULL,
        sessions INTEGER NOT NULL,
        last INTEGER NOT NULL,
        note TEXT NOT NULL,
        PRIMARY KEY (host, port, day, word)
    ) WITHOUT ROWID;
";

impl Sqlite {
    pub(in super::super) async fn watch_rows(&mut self, after: &[String; 2]) -> Result<Vec<WatchRow>, SqliteError> {
        let [kind, name] = after;
        let sql = "SELECT kind, name, entry, seen FROM watch_entries WHERE (kind, name) > (?1, ?2)
                   ORDER BY kind, name LIMIT ?3";
        let query = sqlx::query(sql).bind(kind).bind(name).bind(ENTRIES);
        let rows = query.fetch_all(self.handle.connection().await?).await?;
        Ok(rows.iter().map(watch_row).collect::<sqlx::Result<_>>()?)
    }

    pub(in super::super) async fn put_watch_rows(&mut self, rows: &[WatchRow]) -> Result<(), SqliteError> {
        let mut transaction = self.handle.begin().await?;
        for WatchRow { kind, name, entry, seen } in rows {
            let sql = "INSERT OR REPLACE INTO watch_entries (kind, name, entry, seen) VALUES (?1, ?2, ?3, ?4)";
            let query = sqlx::query(sql).bind(kind).bind(name).bind(entry).bind(*seen);
            query.execute(&mut *transaction).await?;
        }
        Ok(transaction.commit().await?)
    }

    /// Returns the number of deleted rows.
    pub(in super::super) async fn forget_watch_rows(&mut self, kind: &str, before: i64) -> Result<i64, SqliteError> {
        let sql = "DELETE FROM watch_entries WHERE (kind, name) IN
                   (SELECT kind, name FROM watch_entries WHERE kind = ?1 AND seen < ?2 LIMIT ?3)";
        let deleted =
            sqlx::query(sql).bind(kind).bind(before).bind(ENTRIES).execute(self.handle.connection().await?).await?;
        Ok(i64::try_from(deleted.rows_affected()).unwrap_or(i64::MAX))
    }

    pub(in super::super) async fn add_host_sessions(&mut self, rows: &[HostSessions]) -> Result<(), SqliteError> {
        let mut transaction = self.handle.begin().await?;
        for HostSessions { host, port, day, word, sessions, last, note } in rows {
            // On the right side of each assignment the names are those of the row as it was.
            let sql = "INSERT INTO host_sessions (host, port, day, word, sessions, last, note)
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                       ON CONFLICT (host, port, day, word) DO UPDATE SET sessions = sessions + excluded.sessions,
                           last = max(last, excluded.last),
                           note = CASE WHEN excluded.last >= last THEN excluded.note ELSE note END";
            let query = sqlx::query(sql).bind(host).bind(i64::from(*port)).bind(*day).bind(word);
            query.bind(*sessions).bind(*last).bind(note).execute(&mut *transaction).await?;
        }
        Ok(transaction.commit().await?)
    }

    pub(in super::super) async fn take_host_sessions(&mut self) -> Result<Vec<HostSessions>, SqliteError> {
        let sql = "DELETE FROM host_sessions RETURNING host, port, day, word, sessions, last, note";
        let rows = sqlx::query(sql).fetch_all(self.handle.connection().await?).await?;
        Ok(rows.iter().map(host_sessions).collect::<sqlx::Result<_>>()?)
    }
}

fn watch_row(row: &SqliteRow) -> sqlx::Result<WatchRow> {
    Ok(WatchRow { kind: row.try_get(0)?, name: row.try_get(1)?, entry: row.try_get(2)?, seen: row.try_get(3)? })
}

fn host_sessions(row: &SqliteRow) -> sqlx::Result<HostSessions> {
    Ok(HostSessions {
        host: row.try_get(0)?,
        port: row.try_get(1)?,
        day: row.try_get(2)?,
        word: row.try_get(3)?,
        sessions: row.try_get(4)?,
        last: row.try_get(5)?,
        note: row.try_get(6)?,
    })
}
