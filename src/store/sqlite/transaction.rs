//! The connection to the file, and its transactions. None of them outlives its operation.
//!
//! An operation may end in the middle: SQLite fails, or its session is cut. If the disk is full, SQLite sometimes rolls the
//! transaction back by itself (<https://www.sqlite.org/lang_transaction.html>, section 3). The next operation rolls back what is left,
//! and begins when SQLite says that no transaction is open. The transactions of `sqlx` are not used: they take each rollback for
//! successful. After one that failed, new ones are savepoints in a transaction that nobody commits, and their changes are
//! not on the disk.

use std::ops::{Deref, DerefMut};

use sqlx::SqliteConnection;

/// The connection. No operation sees a transaction of an earlier one.
pub(super) struct SqliteHandle {
    connection: SqliteConnection,
    last: LastTransaction,
}

/// The last transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LastTransaction {
    Ended,
    MaybeOpen,
}

/// An open transaction. Without [`commit`](Self::commit) it has no effect.
pub(super) struct SqliteTransaction<'a>(&'a mut SqliteHandle);

impl SqliteHandle {
    pub(super) fn new(connection: SqliteConnection) -> Self {
        Self { connection, last: LastTransaction::Ended }
    }

    /// The connection, with no open transaction.
    pub(super) async fn connection(&mut self) -> sqlx::Result<&mut SqliteConnection> {
        if self.last == LastTransaction::MaybeOpen {
            // It fails if SQLite has ended the transaction by itself.
            let _ = self.run("ROLLBACK").await;
            // SQLite begins no transaction in another one.
            self.run("BEGIN; COMMIT").await?;
            self.last = LastTransaction::Ended;
        }
        Ok(&mut self.connection)
    }

    pub(super) async fn begin(&mut self) -> sqlx::Result<SqliteTransaction<'_>> {
        self.connection().await?;
        self.last = LastTransaction::MaybeOpen;
        self.run("BEGIN").await?;
        Ok(SqliteTransaction(self))
    }

    async fn run(&mut self, sql: &'static str) -> sqlx::Result<()> {
        sqlx::raw_sql(sql).execute(&mut self.connection).await.map(drop)
    }
}

impl SqliteTransaction<'_> {
    /// Commits it: its changes are on the disk.
    pub(super) async fn commit(self) -> sqlx::Result<()> {
        self.0.run("COMMIT").await?;
        self.0.last = LastTransaction::Ended;
        Ok(())
    }
}

impl Deref for SqliteTransaction<'_> {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.0.connection
    }
}

impl DerefMut for SqliteTransaction<'_> {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.0.connection
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::task::Poll;
    use std::time::Duration;

    use futures_util::future::poll_fn;
    use tempfile::TempDir;

    use super::super::super::{ContentHasher, MessageKey, Pair, Writing};
    use super::super::Sqlite;
    use crate::smtp::reply::{Code, EnhancedCode, Reply};

    fn key(number: u8) -> MessageKey {
        let mut content = ContentHasher::default();
        content.update(&[number]);
        MessageKey::new(content.finish(), [])
    }

    async fn put(store: &mut Sqlite, number: u8) -> bool {
        let reply = Reply::new(Code::OK, EnhancedCode::success(0, 0), "taken");
        let outcomes = BTreeMap::from([1, 2].map(|pair| (Pair::from_octets(&[pair; 32]).unwrap(), reply.clone())));
        let (key, hold) = (key(number), Duration::ZERO);
        store.put(Writing { key, token: 0, hold, outcomes: &outcomes, entries: 100_000 }, 1).await.is_ok()
    }

    /// The records that the next process finds if this one is killed now.
    async fn after_a_kill(path: &Path) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("store.sqlite");
        for end in ["", "-wal"] {
            let name = |path: &Path| format!("{}{end}", path.display());
            let _ = std::fs::copy(name(path), name(&copy));
        }
        let mut found = Sqlite::open(Some(&copy)).await.unwrap();
        let mut numbers = Vec::new();
        for number in 0..100 {
            if !found.replies(key(number), 0).await.unwrap().is_empty() {
                numbers.push(number);
            }
        }
        numbers
    }

    async fn store() -> (TempDir, Sqlite) {
        let folder = tempfile::tempdir().unwrap();
        let store = Sqlite::open(Some(&folder.path().join("store.sqlite"))).await.unwrap();
        (folder, store)
    }

    /// How a transaction of an earlier operation ended.
    #[derive(Debug, Clone, Copy)]
    enum Ended {
        /// SQLite has rolled it back, as it may when the disk is full.
        BySqlite,
        /// The operation failed, and SQLite has left it open.
        Failed,
        Committed,
    }

    #[tokio::test]
    async fn records_are_on_the_disk_whatever_became_of_earlier_transactions() {
        let each = [Ended::BySqlite, Ended::Failed, Ended::Committed];
        for earlier in each.map(|one| each.map(|two| each.map(|three| [one, two, three]))).as_flattened().as_flattened()
        {
            let (folder, mut store) = store().await;
            for ended in earlier {
                let mut transaction = store.handle.begin().await.unwrap();
                sqlx::raw_sql("DELETE FROM sts_policies").execute(&mut *transaction).await.unwrap();
                match ended {
                    Ended::BySqlite => _ = sqlx::raw_sql("ROLLBACK").execute(&mut *transaction).await.unwrap(),
                    Ended::Failed => {}
                    Ended::Committed => transaction.commit().await.unwrap(),
                }
            }
            assert!(put(&mut store, 0).await);
            let found = after_a_kill(&folder.path().join("store.sqlite")).await;
            assert_eq!(found, [0], "{earlier:?}");
        }
    }

    #[tokio::test]
    async fn records_are_on_the_disk_after_operations_that_were_cut() {
        // A session is cut at any of its waits for the store. How many there are depends on the machine.
        let (folder, mut store) = store().await;
        let mut cuts = 0;
        for (round, waits) in (0..8).cycle().take(32).enumerate() {
            {
                let (mut writing, mut polls) = (Box::pin(put(&mut store, 1)), 0);
                cuts += poll_fn(|context| {
                    polls += 1;
                    match writing.as_mut().poll(context) {
                        Poll::Ready(_) => Poll::Ready(0),
                        Poll::Pending if polls > waits => Poll::Ready(1),
                        Poll::Pending => Poll::Pending,
                    }
                })
                .await;
            }
            let number = 2 + u8::try_from(round).unwrap();
            assert!(put(&mut store, number).await);
            let found = after_a_kill(&folder.path().join("store.sqlite")).await;
            assert!(found.contains(&number), "cut at wait {waits}: {found:?}");
        }
        assert!(cuts > 0);
    }
}
