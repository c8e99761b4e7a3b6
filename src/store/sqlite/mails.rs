//! The table of mails by month.

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use super::super::mails::{MailPage, STEP};
use super::super::{MailDelta, MailWrite};
use super::{Sqlite, SqliteError};

/// One row for each domain and result of a month, one for the number of domains of each month, and one for the last write: the
/// process, and the number that it gave to the write. Files before version 7 do not have them.
pub(super) const MAILS: &str = "
    CREATE TABLE IF NOT EXISTS mail_months (
        month INTEGER NOT NULL,
        domain TEXT NOT NULL,
        result TEXT NOT NULL,
        mails INTEGER NOT NULL,
        last_day INTEGER NOT NULL,
        PRIMARY KEY (month, domain, result)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS mail_domains (
        month INTEGER PRIMARY KEY,
        domains INTEGER NOT NULL
    );
    CREATE TABLE IF NOT EXISTS mail_writer (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        writer INTEGER NOT NULL,
        number INTEGER NOT NULL
    );
";

impl Sqlite {
    /// New domains come into months that have less than `most`.
    pub(in super::super) async fn add_mails(&mut self, most: i64, write: &MailWrite) -> Result<(), SqliteError> {
        let mut transaction = self.handle.begin().await?;
        let sql = "INSERT INTO mail_writer (one, writer, number) VALUES (1, ?1, ?2)
                   ON CONFLICT (one) DO UPDATE SET writer = excluded.writer, number = excluded.number
                   WHERE writer <> excluded.writer OR number < excluded.number";
        let query = sqlx::query(sql).bind(self.writer).bind(write.number);
        if query.execute(&mut *transaction).await?.rows_affected() == 0 {
            return Ok(());
        }
        for delta in &write.deltas {
            let domain = if has_room(&mut transaction, delta, most).await? { delta.domain.as_str() } else { "" };
            let sql = "INSERT INTO mail_months (month, domain, result, mails, last_day) VALUES (?1, ?2, ?3, ?4, ?5)
                       ON CONFLICT (month, domain, result) DO UPDATE SET mails = mails + excluded.mails,
                           last_day = max(last_day, excluded.last_day)";
            let query = sqlx::query(sql).bind(delta.month).bind(domain).bind(&delta.result);
            query.bind(delta.mails).bind(delta.last_day).execute(&mut *transaction).await?;
        }
        Ok(transaction.commit().await?)
    }

    pub(in super::super) async fn mails(&mut self, page: &MailPage) -> Result<Vec<MailDelta>, SqliteError> {
        let MailPage { months: [first, last], after: (month, domain, result) } = page;
        let sql = "SELECT month, domain, result, mails, last_day FROM mail_months
                   WHERE month BETWEEN ?1 AND ?2 AND (month, domain, result) > (?3, ?4, ?5)
                   ORDER BY month, domain, result LIMIT ?6";
        let query = sqlx::query(sql).bind(first).bind(last).bind(month).bind(domain).bind(result).bind(STEP);
        let rows = query.fetch_all(self.handle.connection().await?).await?;
        Ok(rows.iter().map(mail_row).collect::<sqlx::Result<_>>()?)
    }

    /// Returns the number of deleted rows.
    pub(in super::super) async fn forget_mails(&mut self, before: i64) -> Result<i64, SqliteError> {
        let mut transaction = self.handle.begin().await?;
        let sql = "DELETE FROM mail_months WHERE (month, domain, result) IN
                   (SELECT month, domain, result FROM mail_months WHERE month < ?1 LIMIT ?2)";
        let deleted = sqlx::query(sql).bind(before).bind(STEP).execute(&mut *transaction).await?.rows_affected();
        let sql = "DELETE FROM mail_domains WHERE month < ?1
                   AND NOT EXISTS (SELECT 1 FROM mail_months WHERE mail_months.month = mail_domains.month)";
        sqlx::query(sql).bind(before).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(i64::try_from(deleted).unwrap_or(i64::MAX))
    }
}

/// Whether the domain has a row in its month, or there is room for one; then its place is taken.
async fn has_room(connection: &mut SqliteConnection, delta: &MailDelta, most: i64) -> sqlx::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM mail_months WHERE month = ?1 AND domain = ?2)";
    let row = sqlx::query(sql).bind(delta.month).bind(&delta.domain).fetch_one(&mut *connection).await?;
    if delta.domain.is_empty() || row.try_get(0)? {
        return Ok(true);
    }
    let sql = "INSERT INTO mail_domains (month, domains) VALUES (?1, 1)
               ON CONFLICT (month) DO UPDATE SET domains = domains + 1 WHERE domains < ?2";
    let taken = sqlx::query(sql).bind(delta.month).bind(most).execute(connection).await?;
    Ok(taken.rows_affected() > 0)
}

fn mail_row(row: &SqliteRow) -> sqlx::Result<MailDelta> {
    Ok(MailDelta {
        month: row.try_get(0)?,
        domain: row.try_get(1)?,
        result: row.try_get(2)?,
        mails: row.try_get(3)?,
        last_day: row.try_get(4)?,
    })
}
