//! The tables of the watch.

use std::sync::atomic::Ordering::SeqCst;

use sqlx::postgres::PgRow;

use super::super::watch::ENTRIES;
use super::super::{Error, HostSessions, TaskLease, WatchRow};
use super::{Postgres, column, damaged};

impl Postgres {
    pub(in super::super) async fn watch_rows(&self, after: &[String; 2]) -> Result<Vec<WatchRow>, Error> {
        let [kind, name] = after;
        let sql = "SELECT kind, name, entry, seen FROM danelaw.watch_entries WHERE (kind, name) > ($1, $2)
                   ORDER BY kind, name LIMIT $3";
        let rows = self.at_leisure(|| sqlx::query(sql).bind(kind).bind(name).bind(ENTRIES)).await?;
        rows.iter().map(watch_row).collect()
    }

    pub(in super::super) async fn put_watch_rows(&self, rows: &[WatchRow], lease: TaskLease) -> Result<(), Error> {
        let kinds: Vec<&str> = rows.iter().map(|row| row.kind.as_str()).collect();
        let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
        let entries: Vec<&str> = rows.iter().map(|row| row.entry.as_str()).collect();
        let seen: Vec<i64> = rows.iter().map(|row| row.seen).collect();
        let sql = "SELECT danelaw.watch_put($1, $2, $3, $4, $5, $6)";
        let query = || {
            let query = sqlx::query(sql).bind(self.owner).bind(lease.token);
            query.bind(&kinds).bind(&names).bind(&entries).bind(&seen)
        };
        self.at_leisure(query).await.map(drop)
    }

    /// Returns the number of deleted rows.
    pub(in super::super) async fn forget_watch_rows(&self, kind: &str, before: i64) -> Result<i64, Error> {
        // Rows that another danelaw is writing at this moment have been seen.
        let sql = "DELETE FROM danelaw.watch_entries WHERE (kind, name) IN (
                       SELECT kind, name FROM danelaw.watch_entries WHERE kind = $1 AND seen < $2
                       ORDER BY kind, name LIMIT $3 FOR UPDATE SKIP LOCKED) RETURNING seen";
        let rows = self.at_leisure(|| sqlx::query(sql).bind(kind).bind(before).bind(ENTRIES)).await?;
        Ok(i64::try_from(rows.len()).unwrap_or(i64::MAX))
    }

    pub(in super::super) async fn add_host_sessions(&self, rows: &[HostSessions]) -> Result<(), Error> {
        // A call that is made twice because its connection was cut adds once.
        let number = self.session_writes.fetch_add(1, SeqCst);
        let hosts: Vec<&str> = rows.iter().map(|row| row.host.as_str()).collect();
        let ports: Vec<i32> = rows.iter().map(|row| i32::from(row.port)).collect();
        let days: Vec<i64> = rows.iter().map(|row| row.day).collect();
        let words: Vec<&str> = rows.iter().map(|row| row.word.as_str()).collect();
        let sessions: Vec<i64> = rows.iter().map(|row| row.sessions).collect();
        let lasts: Vec<i64> = rows.iter().map(|row| row.last).collect();
        let notes: Vec<&str> = rows.iter().map(|row| row.note.as_str()).collect();
        let sql = "SELECT danelaw.host_add($1, $2, $3, $4, $5, $6, $7, $8, $9)";
        let query = || {
            let query = sqlx::query(sql).bind(self.owner).bind(number).bind(&hosts).bind(&ports).bind(&days);
            query.bind(&words).bind(&sessions).bind(&lasts).bind(&notes)
        };
        self.at_leisure(query).await.map(drop)
    }

    pub(in super::super) async fn take_host_sessions(&self, lease: TaskLease) -> Result<Vec<HostSessions>, Error> {
        let sql = "SELECT host, port, day, word, sessions, last, note FROM danelaw.host_take($1, $2)";
        let rows = self.at_leisure(|| sqlx::query(sql).bind(self.owner).bind(lease.token)).await?;
        rows.iter().map(host_sessions).collect()
    }
}

fn watch_row(row: &PgRow) -> Result<WatchRow, Error> {
    Ok(WatchRow { kind: column(row, 0)?, name: column(row, 1)?, entry: column(row, 2)?, seen: column(row, 3)? })
}

fn host_sessions(row: &PgRow) -> Result<HostSessions, Error> {
    let port: i32 = column(row, 1)?;
    Ok(HostSessions {
        host: column(row, 0)?,
        port: u16::try_from(port).map_err(|_| Error::Database(damaged("port")))?,
        day: column(row, 2)?,
        word: column(row, 3)?,
        sessions: column(row, 4)?,
        last: column(row, 5)?,
        note: column(row, 6)?,
    })
}
