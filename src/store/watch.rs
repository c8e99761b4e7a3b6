//! The memory of the watch over domains and hosts: one entry for each of them, and the sessions with each host that the danelaws
//! have had since the last look.

use serde::Serialize;

use super::{Error, SoleTask, Store, StoreBackend, TaskLease};

/// How many entries are read or deleted together. The journal waits meanwhile in a file.
pub(super) const ENTRIES: i64 = 1000;

/// The entry of a domain or a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchRow {
    /// The kind of entry.
    pub kind: String,
    /// The name of the domain or host.
    pub name: String,
    /// Its facts, as JSON.
    pub entry: String,
    /// When it was last seen, in seconds of the Unix clock.
    pub seen: i64,
}

/// Sessions with a port of a host on one day that had one result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostSessions {
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The Julian day.
    pub day: i64,
    /// The word for the result.
    pub word: String,
    /// How many sessions.
    pub sessions: i64,
    /// The time of the last one, in seconds of the Unix clock.
    pub last: i64,
    /// The certificate and its authority in the last one, as JSON.
    pub note: String,
}

impl WatchRow {
    /// A row with these facts, which are texts, numbers and lists of them: they can always be written.
    pub(crate) fn of(kind: &str, name: &str, entry: &impl Serialize, seen: i64) -> Self {
        let entry = serde_json::to_string(entry).unwrap_or_default();
        Self { kind: kind.to_owned(), name: name.to_owned(), entry, seen }
    }
}

impl Store {
    /// Takes or renews the lease of the watch; none while another danelaw has it. A file has one danelaw, which has the lease always.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn watch_lease(&self) -> Result<Option<TaskLease>, Error> {
        match &self.backend {
            StoreBackend::Sqlite(_) => Ok(Some(TaskLease::of_one())),
            StoreBackend::Postgres(postgres) => self.timed("lease", postgres.lease(SoleTask::Watch)).await,
        }
    }

    /// All entries.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn watch_rows(&self) -> Result<Vec<WatchRow>, Error> {
        self.watch_rows_after([String::new(), String::new()], |_| true).await
    }

    /// The entries of a kind that have a name.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn watch_rows_of(&self, kind: &str) -> Result<Vec<WatchRow>, Error> {
        self.watch_rows_after([kind.to_owned(), String::new()], |row| row.kind == kind).await
    }

    /// The entries behind this kind and name, in their order, as long as they are wanted.
    async fn watch_rows_after(
        &self,
        mut after: [String; 2],
        is_wanted: impl Fn(&WatchRow) -> bool,
    ) -> Result<Vec<WatchRow>, Error> {
        let mut rows = Vec::<WatchRow>::new();
        loop {
            let part = self.timed("watch", async {
                match &self.backend {
                    StoreBackend::Sqlite(local) => Ok(local.lock().await.sqlite.watch_rows(&after).await?),
                    StoreBackend::Postgres(postgres) => postgres.watch_rows(&after).await,
                }
            });
            let part = part.await?;
            let is_last = i64::try_from(part.len()) != Ok(ENTRIES) || !part.iter().all(&is_wanted);
            if let Some(row) = part.last() {
                after = [row.kind.clone(), row.name.clone()];
            }
            rows.extend(part.into_iter().filter(&is_wanted));
            if is_last {
                return Ok(rows);
            }
        }
    }

    /// Writes entries in the place of those before, in one transaction.
    ///
    /// # Errors
    /// If the store fails, or the lease in a database has ended. A database takes nothing without a lease.
    pub async fn put_watch_rows(&self, rows: &[WatchRow], lease: Option<TaskLease>) -> Result<(), Error> {
        self.timed("watch", async {
            match &self.backend {
                StoreBackend::Sqlite(local) => Ok(local.lock().await.sqlite.put_watch_rows(rows).await?),
                StoreBackend::Postgres(postgres) => postgres.put_watch_rows(rows, held(lease)?).await,
            }
        })
        .await
    }

    /// Deletes the entries of a kind that were last seen before this time, in seconds of the Unix clock.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn forget_watch_rows(&self, kind: &str, before: i64) -> Result<(), Error> {
        loop {
            let deleted = self.timed("watch", async {
                match &self.backend {
                    StoreBackend::Sqlite(local) => {
                        Ok(local.lock().await.sqlite.forget_watch_rows(kind, before).await?)
                    }
                    StoreBackend::Postgres(postgres) => postgres.forget_watch_rows(kind, before).await,
                }
            });
            if deleted.await? < ENTRIES {
                return Ok(());
            }
        }
    }

    /// Adds sessions to those that wait for the danelaw with the lease. After a failure of a database they may be there or not: a
    /// caller that adds them again may count them twice.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn add_host_sessions(&self, rows: &[HostSessions]) -> Result<(), Error> {
        if rows.is_empty() {
            return Ok(());
        }
        self.timed("watch", async {
            match &self.backend {
                StoreBackend::Sqlite(local) => Ok(local.lock().await.sqlite.add_host_sessions(rows).await?),
                StoreBackend::Postgres(postgres) => postgres.add_host_sessions(rows).await,
            }
        })
        .await
    }

    /// Deletes all sessions that wait, and returns them. A holder that dies before it has written them, or that does not hear the
    /// answer of a database, loses those since the last call.
    ///
    /// # Errors
    /// If the store fails, or the lease in a database has ended. A database gives nothing without a lease.
    pub async fn take_host_sessions(&self, lease: Option<TaskLease>) -> Result<Vec<HostSessions>, Error> {
        self.timed("watch", async {
            match &self.backend {
                StoreBackend::Sqlite(local) => Ok(local.lock().await.sqlite.take_host_sessions().await?),
                StoreBackend::Postgres(postgres) => postgres.take_host_sessions(held(lease)?).await,
            }
        })
        .await
    }
}

fn held(lease: Option<TaskLease>) -> Result<TaskLease, Error> {
    lease.ok_or(Error::LeaseEnded)
}
