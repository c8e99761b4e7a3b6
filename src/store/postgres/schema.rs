//! The tables and functions in the database, and their versions.

use sqlx::postgres::PgConnection;
use sqlx::{Connection, Row};

use super::{DatabaseOpenError, Migration};

/// The version of the tables that this danelaw makes and uses. A later version that it can use says so in `readable_from`.
const VERSION: i32 = 4;
/// The tables that danelaw writes to.
const WRITTEN: [&str; 16] = [
    "records",
    "outcomes",
    "leases",
    "tls_days",
    "tls_tallies",
    "tls_owners",
    "tls_writers",
    "tls_reports",
    "tls_suppressed",
    "sts_policies",
    "sts_gone",
    "sum_writers",
    "mail_months",
    "mail_domains",
    "watch_entries",
    "host_sessions",
];
/// "danelaw": the advisory lock under which tables are made.
const LOCK: i64 = 0x64_61_6e_65_6c_61_77;
/// The statements that make each version from the one before. Each adds to it, so that programs of the versions before run on.
const STEPS: [(i32, &str); 4] = [
    (1, include_str!("schema.sql")),
    (2, include_str!("schema_2.sql")),
    (3, include_str!("schema_3.sql")),
    (4, include_str!("schema_4.sql")),
];

/// All statements that make the tables, for a role that may.
pub fn migration_sql() -> String {
    let step = |(version, sql): &(i32, &str)| format!("-- To version {version}.\n{sql}\n");
    STEPS.iter().map(step).collect()
}

/// Finds the tables, or makes them, and looks whether they can be written to.
pub(super) async fn prepare(connection: &mut PgConnection, migration: Migration) -> Result<(), DatabaseOpenError> {
    match (found(connection).await?, migration) {
        (Some(version), _) if version.schema >= VERSION => version.judge()?,
        (_, Migration::ByHand) => return Err(DatabaseOpenError::NoTables),
        (_, Migration::AtStart) => make(connection).await?,
    }
    // A write of no row needs the same rights as one of a row, and a server that takes writes.
    for table in WRITTEN {
        let sql = format!("DELETE FROM danelaw.{table} WHERE false");
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Makes the tables that are missing. A role that may not is told so.
pub(super) async fn make(connection: &mut PgConnection) -> Result<(), DatabaseOpenError> {
    let is_denied = |error: &sqlx::Error| {
        let database = error.as_database_error();
        // insufficient_privilege
        database.is_some_and(|database| database.code().as_deref() == Some("42501"))
    };
    match make_missing(connection).await {
        Err(error) if is_denied(&error) => return Err(DatabaseOpenError::MayNotMake(error.to_string())),
        made => made?,
    }
    match found(connection).await? {
        Some(version) => version.judge(),
        None => Err(DatabaseOpenError::NoTables),
    }
}

/// If another danelaw makes them at the same time, this one waits, and finds them.
async fn make_missing(connection: &mut PgConnection) -> sqlx::Result<()> {
    let mut transaction = connection.begin().await?;
    sqlx::raw_sql("SET LOCAL lock_timeout = '30s'; SET LOCAL statement_timeout = '60s'")
        .execute(&mut *transaction)
        .await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(LOCK).execute(&mut *transaction).await?;
    // By the rows of the catalogue: this session may remember by name that the table is not there.
    let sql =
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
               WHERE n.nspname = 'danelaw' AND c.relname = 'version')";
    let has_version: bool = sqlx::query(sql).fetch_one(&mut *transaction).await?.try_get(0)?;
    let before = match has_version {
        true => {
            let row = sqlx::query("SELECT schema FROM danelaw.version").fetch_optional(&mut *transaction).await?;
            row.map_or(Ok(0), |row| row.try_get(0))?
        }
        false => 0,
    };
    for (_, sql) in STEPS.iter().filter(|(version, _)| *version > before) {
        sqlx::raw_sql(*sql).execute(&mut *transaction).await?;
    }
    transaction.commit().await
}

/// The version of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FoundVersion {
    pub(super) schema: i32,
    pub(super) readable_from: i32,
}

impl FoundVersion {
    fn judge(self) -> Result<(), DatabaseOpenError> {
        match self {
            Self { readable_from, .. } if readable_from > VERSION => Err(DatabaseOpenError::Newer(self.schema)),
            Self { schema, .. } if schema < VERSION => Err(DatabaseOpenError::NoTables),
            Self { .. } => Ok(()),
        }
    }
}

pub(super) async fn found(connection: &mut PgConnection) -> Result<Option<FoundVersion>, DatabaseOpenError> {
    let sql = "SELECT to_regclass('danelaw.version') IS NOT NULL";
    if !sqlx::query(sql).fetch_one(&mut *connection).await?.try_get(0)? {
        return Ok(None);
    }
    let row = sqlx::query("SELECT schema, readable_from FROM danelaw.version").fetch_optional(connection).await?;
    Ok(match row {
        Some(row) => Some(FoundVersion { schema: row.try_get(0)?, readable_from: row.try_get(1)? }),
        None => None,
    })
}
