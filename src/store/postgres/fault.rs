//! The faults of a database, by their SQLSTATE.

use std::io;
use std::path::{Path, PathBuf};

use super::super::Error;
use crate::roots::CaFileError;

/// Why a call fails.
#[derive(Debug)]
pub(super) enum DatabaseFault {
    /// Another danelaw has claimed the message.
    Busy,
    /// The claim has ended.
    ClaimEnded,
    /// The lease has ended.
    LeaseEnded,
    /// It took too long.
    Slow,
    /// The server cannot be reached, or takes no requests now.
    Unreachable(String),
    /// The server does not want danelaw, or is not the one that the configuration describes.
    Refused(String),
    /// Another fault of one request.
    Other(String),
}

/// The state of a connection after a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AfterFault {
    /// It can be used.
    Usable,
    /// The call was rolled back for the sake of another one: it may succeed the next time.
    RolledBack,
    /// It is of no use.
    Broken,
}

/// serialization_failure, deadlock_detected.
const ROLLED_BACK: [&str; 2] = ["40001", "40P01"];

impl DatabaseFault {
    pub(super) fn of(error: &sqlx::Error) -> Self {
        let text = error.to_string();
        match error {
            sqlx::Error::Database(database) => Self::of_state(database.code().as_deref().unwrap_or_default(), text),
            // rustls judges the certificate within a read.
            sqlx::Error::Io(io) if io.kind() == io::ErrorKind::InvalidData => Self::Refused(text),
            sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => Self::Unreachable(text),
            sqlx::Error::Tls(_) | sqlx::Error::Configuration(_) => Self::Refused(text),
            _ => Self::Other(text),
        }
    }

    fn of_state(state: &str, text: String) -> Self {
        match state {
            "DL001" => Self::Busy,
            "DL002" => Self::ClaimEnded,
            "DL003" => Self::LeaseEnded,
            // query_canceled, lock_not_available.
            "57014" | "55P03" => Self::Slow,
            // read_only_sql_transaction: the server has become a standby, or is the wrong one.
            "25006" => Self::Unreachable(text),
            // invalid_catalog_name, insufficient_privilege, invalid_schema_name, undefined_table, undefined_function.
            "3D000" | "42501" | "3F000" | "42P01" | "42883" => Self::Refused(text),
            // Classes: invalid authorization; connection, resources, intervention, system.
            _ if state.starts_with("28") => Self::Refused(text),
            _ if ["08", "53", "57", "58"].iter().any(|class| state.starts_with(class)) => Self::Unreachable(text),
            _ => Self::Other(text),
        }
    }

    /// The state of the connection after such an error.
    pub(super) fn after(error: &sqlx::Error) -> AfterFault {
        match (error, Self::of(error)) {
            (sqlx::Error::Database(_), Self::Unreachable(_)) => AfterFault::Broken,
            (sqlx::Error::Database(error), _)
                if error.code().is_some_and(|code| ROLLED_BACK.contains(&code.as_ref())) =>
            {
                AfterFault::RolledBack
            }
            (sqlx::Error::Database(_), _) => AfterFault::Usable,
            _ => AfterFault::Broken,
        }
    }

    pub(super) fn into_error(self) -> Error {
        match self {
            Self::Busy => Error::Busy,
            Self::ClaimEnded => Error::ClaimEnded,
            Self::LeaseEnded => Error::LeaseEnded,
            Self::Slow => Error::Slow,
            Self::Unreachable(text) | Self::Refused(text) | Self::Other(text) => Error::Database(text),
        }
    }
}

/// Why a database cannot be used. Each text begins with the key of the configuration.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseOpenError {
    /// A variable would change the connection.
    #[error(
        "store.url: the variable {0} of the environment is set; danelaw takes its settings from the configuration alone: unset it"
    )]
    Environment(&'static str),
    /// A file cannot be read.
    #[error("{key}: {path}: {error}")]
    File {
        /// The key that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// The file of `store.ca` is of no use.
    #[error("store.ca: {0}")]
    Ca(CaFileError),
    /// The server refuses danelaw, or is not the one that the configuration describes.
    #[error("store.url: the database cannot be used: {0}")]
    Refused(String),
    /// The server cannot be reached.
    #[error("store.url: the database cannot be reached: {0}")]
    Unreachable(String),
    /// The tables are missing.
    #[error(
        "store.url: the database has no tables of danelaw, or old ones; run `danelaw store migrate`, or set store.migrate = true"
    )]
    NoTables,
    /// The role may not make them.
    #[error(
        "store.url: this role may not make the tables ({0}); run `danelaw store migrate --set store.url=..` with the role that \
         owns the database, or give it the statements of `danelaw store migrate --print`"
    )]
    MayNotMake(String),
    /// A newer danelaw has made the tables, and this one cannot use them.
    #[error("store.url: the tables have version {0}, and this danelaw cannot use them; use the newer danelaw")]
    Newer(i32),
}

impl DatabaseOpenError {
    pub(super) fn file(key: &'static str, path: &Path, error: io::Error) -> Self {
        Self::File { key, path: path.to_owned(), error }
    }

    /// Whether the same settings may do later.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Environment(_)
            | Self::File { .. }
            | Self::Ca(_)
            | Self::Refused(_)
            | Self::NoTables
            | Self::MayNotMake(_)
            | Self::Newer(_) => false,
        }
    }
}

impl From<DatabaseFault> for DatabaseOpenError {
    fn from(fault: DatabaseFault) -> Self {
        match fault {
            DatabaseFault::Refused(text) | DatabaseFault::Other(text) => Self::Refused(text),
            DatabaseFault::Unreachable(text) => Self::Unreachable(text),
            DatabaseFault::Slow => Self::Unreachable("it does not answer within store.patience".to_owned()),
            fault @ (DatabaseFault::Busy | DatabaseFault::ClaimEnded | DatabaseFault::LeaseEnded) => {
                Self::Refused(fault.into_error().to_string())
            }
        }
    }
}

impl From<sqlx::Error> for DatabaseOpenError {
    fn from(error: sqlx::Error) -> Self {
        DatabaseFault::of(&error).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_has_its_fault() {
        let of = |state: &str| DatabaseFault::of_state(state, String::new());
        assert!(matches!((of("DL001"), of("DL002")), (DatabaseFault::Busy, DatabaseFault::ClaimEnded)));
        assert!(matches!(of("DL003"), DatabaseFault::LeaseEnded));
        for state in ["57014", "55P03"] {
            assert!(matches!(of(state), DatabaseFault::Slow), "{state}");
        }
        for state in ["25006", "57P01", "57P03", "53300", "53100", "08006"] {
            assert!(matches!(of(state), DatabaseFault::Unreachable(_)), "{state}");
        }
        for state in ["28P01", "28000", "3D000", "42501", "42P01"] {
            assert!(matches!(of(state), DatabaseFault::Refused(_)), "{state}");
        }
        for state in ["40P01", "22021", "23505", ""] {
            assert!(matches!(of(state), DatabaseFault::Other(_)), "{state}");
        }
    }
}
