//! The failure of an operation on the file, in words that name the file and the remedy.

use std::fmt;
use std::path::{Path, PathBuf};

/// The library fails in an operation.
#[derive(Debug, thiserror::Error)]
pub struct SqliteError {
    /// None for a store that ends with the process.
    file: Option<PathBuf>,
    source: sqlx::Error,
}

impl SqliteError {
    /// The same failure of this file.
    pub(in super::super) fn of(self, file: Option<&Path>) -> Self {
        Self { file: file.map(Path::to_owned), ..self }
    }
}

impl From<sqlx::Error> for SqliteError {
    fn from(source: sqlx::Error) -> Self {
        Self { file: None, source }
    }
}

impl fmt::Display for SqliteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}: ", file.display())?;
        }
        write!(f, "{}{}", self.source, remedy(&self.source))
    }
}

/// The primary result code of SQLite.
pub(super) fn code(error: &sqlx::Error) -> Option<i64> {
    let code = error.as_database_error()?.code()?.parse::<i64>().ok()?;
    Some(code & 0xff)
}

fn remedy(error: &sqlx::Error) -> &'static str {
    match code(error) {
        // SQLITE_FULL.
        Some(13) => "; make room on its disk: no restart is needed",
        // SQLITE_READONLY, SQLITE_CANTOPEN.
        Some(8 | 14) => "; danelaw's user must be able to write to the file and to its directory",
        // SQLITE_IOERR. Some file systems say so where they are full.
        Some(10) => "; see whether its disk is full or fails",
        // SQLITE_CORRUPT, SQLITE_NOTADB.
        Some(11 | 26) => "; the file is damaged: move it away and restart danelaw, which makes a new one",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::super::super::{ContentHasher, MessageKey, Pair, Store, StoreBackend, Writing};
    use crate::smtp::reply::{Code, EnhancedCode, Reply};

    #[tokio::test]
    async fn a_full_disk_is_told_with_the_file_and_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.sqlite");
        let store = Store::open(Some(&path)).await.unwrap();
        let StoreBackend::Sqlite(local) = &store.backend else { unreachable!() };
        {
            let mut kept = local.lock().await;
            let connection = kept.sqlite.handle.connection().await.unwrap();
            // The file may not grow.
            sqlx::raw_sql("PRAGMA max_page_count = 1").execute(connection).await.unwrap();
        }
        let text = "taken ".repeat(10_000);
        let reply = Reply::new(Code::OK, EnhancedCode::success(0, 0), text);
        let outcomes: BTreeMap<Pair, Reply> =
            (0..=u8::MAX).map(|number| (Pair::from_octets(&[number; 32]).unwrap(), reply.clone())).collect();
        let key = MessageKey::new(ContentHasher::default().finish(), []);
        let writing = Writing { key, token: 0, hold: Duration::ZERO, outcomes: &outcomes, entries: 1000 };
        let told = store.put(writing, Duration::from_secs(60)).await.unwrap_err().to_string();
        assert!(told.starts_with(&format!("{}: ", path.display())), "{told}");
        assert!(told.contains("full") && told.ends_with("; make room on its disk: no restart is needed"), "{told}");
        {
            let mut kept = local.lock().await;
            let connection = kept.sqlite.handle.connection().await.unwrap();
            sqlx::raw_sql("PRAGMA query_only = 1").execute(connection).await.unwrap();
        }
        let told = store.put(writing, Duration::from_secs(60)).await.unwrap_err().to_string();
        assert!(told.starts_with(&format!("{}: ", path.display())) && told.contains("able to write"), "{told}");
    }
}
