//! The tables and functions in the database, and their versions.

use sqlx::postgres::PgConnection;
use sqlx::{Connection, Row};

use super::{DatabaseOpenError, Migration};

/// The version of the tables that this danelaw makes and uses. A later version that it can use says so in `readable_from`.
const VERSION: i32 = 1;
/// "danelaw": the advisory lock under which tables are made.
const LOCK: i64 = 0x64_61_6e_65_6c_61_77;
/// The tables of version 1.
const VERSION_1: &str = include_str!("schema.sql");

/// All statements that make the tables, for a role that may.
pub fn migration_sql() -> &'static str {
    VERSION_1
}

/// Finds the tables, or makes them, and looks whether they can be written to.
pub(super) async fn prepare(connection: &mut PgConnection, migration: Migration) -> Result<(), DatabaseOpenError> {
    match (found(connection).await?, migration) {
        (Some(version), _) => version.judge()?,
        (None, Migration::ByHand) => return Err(DatabaseOpenError::NoTables),
        (None, Migration::AtStart) => make(connection).await?,
    }
    // A write of no row needs the same rights as one of a row, and a server that takes writes.
    for sql in ["DELETE FROM danelaw.records WHERE false", "DELETE FROM danelaw.outcomes WHERE false"] {
        sqlx::query(sql).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Makes the tables. If another danelaw makes them at the same time, this one waits, and finds them.
pub(super) async fn make(connection: &mut PgConnection) -> Result<(), DatabaseOpenError> {
    let mut transaction = connection.begin().await?;
    sqlx::raw_sql("SET LOCAL lock_timeout = '30s'; SET LOCAL statement_timeout = '60s'")
        .execute(&mut *transaction)
        .await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(LOCK).execute(&mut *transaction).await?;
    // By the rows of the catalogue: this session may remember by name that the table is not there.
    let sql =
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
               WHERE n.nspname = 'danelaw' AND c.relname = 'version')";
    if !sqlx::query(sql).fetch_one(&mut *transaction).await?.try_get(0)? {
        sqlx::raw_sql(VERSION_1).execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    match found(connection).await? {
        Some(version) => version.judge(),
        None => Err(DatabaseOpenError::NoTables),
    }
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
