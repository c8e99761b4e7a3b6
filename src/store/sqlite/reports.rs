//! The tables of TLS reports.

use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::super::{CountsRow, ReportRow, ReportRows, SuppressedRow};
use super::{Sqlite, SqliteError};

/// One row for the counts of each domain and day, one for each report, and one for each address that has refused a report.
/// Days are Julian days, times are in seconds of the Unix clock.
pub(super) const REPORTS: &str = "
    CREATE TABLE tls_counts (
        day INTEGER NOT NULL,
        domain TEXT NOT NULL,
        counts TEXT NOT NULL,
        PRIMARY KEY (day, domain)
    ) WITHOUT ROWID;
    CREATE TABLE tls_reports (
        day INTEGER NOT NULL,
        domain TEXT NOT NULL,
        address TEXT NOT NULL,
        state TEXT NOT NULL,
        first INTEGER NOT NULL,
        tries INTEGER NOT NULL,
        next INTEGER NOT NULL,
        organization TEXT NOT NULL,
        contact TEXT NOT NULL,
        PRIMARY KEY (day, domain, address)
    ) WITHOUT ROWID;
    CREATE TABLE tls_suppressed (
        address TEXT PRIMARY KEY,
        until INTEGER NOT NULL,
        level INTEGER NOT NULL
    ) WITHOUT ROWID;
";

/// One row: an id by which reports from this store differ from those of another store of the same organisation.
pub(super) const REPORTER: &str = "
    CREATE TABLE IF NOT EXISTS tls_reporter (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        id TEXT NOT NULL
    );
    INSERT OR IGNORE INTO tls_reporter (one, id) VALUES (1, lower(hex(randomblob(16))));
";

/// From version 4, in which a report did not keep its author.
pub(super) const FROM_4: &str = "
    ALTER TABLE tls_reports ADD COLUMN organization TEXT NOT NULL DEFAULT '';
    ALTER TABLE tls_reports ADD COLUMN contact TEXT NOT NULL DEFAULT '';
";

impl Sqlite {
    pub(in super::super) async fn reporter_id(&mut self) -> Result<String, SqliteError> {
        let row = sqlx::query("SELECT id FROM tls_reporter").fetch_one(self.handle.connection().await?).await?;
        Ok(row.try_get(0)?)
    }

    pub(in super::super) async fn report_rows(&mut self) -> Result<ReportRows, SqliteError> {
        let sql = "SELECT day, domain, counts FROM tls_counts";
        let counts = sqlx::query(sql).fetch_all(self.handle.connection().await?).await?;
        let sql = "SELECT day, domain, address, state, first, tries, next, organization, contact FROM tls_reports";
        let reports = sqlx::query(sql).fetch_all(self.handle.connection().await?).await?;
        let sql = "SELECT address, until, level FROM tls_suppressed";
        let suppressed = sqlx::query(sql).fetch_all(self.handle.connection().await?).await?;
        Ok(ReportRows {
            counts: counts.iter().map(counts_row).collect::<sqlx::Result<_>>()?,
            reports: reports.iter().map(report_row).collect::<sqlx::Result<_>>()?,
            suppressed: suppressed.iter().map(suppressed_row).collect::<sqlx::Result<_>>()?,
        })
    }

    pub(in super::super) async fn put_report_rows(&mut self, rows: &ReportRows) -> Result<(), SqliteError> {
        let mut transaction = self.handle.begin().await?;
        for CountsRow { day, domain, counts } in &rows.counts {
            let sql = "INSERT OR REPLACE INTO tls_counts (day, domain, counts) VALUES (?1, ?2, ?3)";
            sqlx::query(sql).bind(*day).bind(domain).bind(counts).execute(&mut *transaction).await?;
        }
        for row in &rows.reports {
            let sql = "INSERT OR REPLACE INTO tls_reports
                       (day, domain, address, state, first, tries, next, organization, contact)
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
            let query = sqlx::query(sql).bind(row.day).bind(&row.domain).bind(&row.address).bind(&row.state);
            let query = query.bind(row.first).bind(row.tries).bind(row.next);
            query.bind(&row.organization).bind(&row.contact).execute(&mut *transaction).await?;
        }
        for SuppressedRow { address, until, level } in &rows.suppressed {
            let query = match until {
                Some(until) => {
                    let sql = "INSERT OR REPLACE INTO tls_suppressed (address, until, level) VALUES (?1, ?2, ?3)";
                    sqlx::query(sql).bind(address).bind(*until).bind(*level)
                }
                None => sqlx::query("DELETE FROM tls_suppressed WHERE address = ?1").bind(address),
            };
            query.execute(&mut *transaction).await?;
        }
        Ok(transaction.commit().await?)
    }

    pub(in super::super) async fn forget_reports_before(&mut self, day: i64, last: i64) -> Result<(), SqliteError> {
        let mut transaction = self.handle.begin().await?;
        // In steps, because the journal waits meanwhile. The states go behind the counts: a domain that has counts and no state
        // would look as if it was not reported.
        let sql = "DELETE FROM tls_counts WHERE (day, domain) IN
                   (SELECT day, domain FROM tls_counts WHERE day < ?1 LIMIT 500)";
        sqlx::query(sql).bind(day).execute(&mut *transaction).await?;
        let sql = "DELETE FROM tls_reports WHERE (day, domain, address) IN
                   (SELECT day, domain, address FROM tls_reports WHERE day < ?2 OR (day < ?1
                       AND NOT EXISTS (SELECT 1 FROM tls_counts WHERE tls_counts.day = tls_reports.day)
                       AND EXISTS (SELECT 1 FROM tls_reports AS first WHERE first.day = tls_reports.day
                           AND (first.domain, first.address) < (tls_reports.domain, tls_reports.address)))
                   LIMIT 500)";
        sqlx::query(sql).bind(day).bind(last).execute(&mut *transaction).await?;
        Ok(transaction.commit().await?)
    }
}

fn counts_row(row: &SqliteRow) -> sqlx::Result<CountsRow> {
    Ok(CountsRow { day: row.try_get(0)?, domain: row.try_get(1)?, counts: row.try_get(2)? })
}

fn report_row(row: &SqliteRow) -> sqlx::Result<ReportRow> {
    Ok(ReportRow {
        day: row.try_get(0)?,
        domain: row.try_get(1)?,
        address: row.try_get(2)?,
        state: row.try_get(3)?,
        first: row.try_get(4)?,
        tries: row.try_get(5)?,
        next: row.try_get(6)?,
        organization: row.try_get(7)?,
        contact: row.try_get(8)?,
    })
}

fn suppressed_row(row: &SqliteRow) -> sqlx::Result<SuppressedRow> {
    Ok(SuppressedRow { address: row.try_get(0)?, until: Some(row.try_get(1)?), level: row.try_get(2)? })
}

#[cfg(test)]
mod tests {
    use super::super::super::Store;
    use super::*;

    #[tokio::test]
    async fn a_store_keeps_its_id_and_no_other_has_it() {
        // T29.
        let folder = tempfile::tempdir().unwrap();
        let id = async |file: Option<&str>| {
            let path = file.map(|file| folder.path().join(file));
            Store::open(path.as_deref()).await.unwrap().reporter_id().await.unwrap()
        };
        let (one, again, other) = (id(Some("one")).await, id(Some("one")).await, id(Some("other")).await);
        let (memory, of_another) = (id(None).await, id(None).await);
        assert_eq!((one.len(), &one), (32, &again));
        let all = std::collections::BTreeSet::from([one, other, memory, of_another]);
        assert_eq!(all.len(), 4, "{all:?}");
    }

    #[tokio::test]
    async fn a_day_that_is_over_keeps_one_row_of_its_reports_and_no_counts() {
        let store = Store::open(None).await.unwrap();
        let count =
            |number: usize| CountsRow { day: 10, domain: format!("d{number}.example"), counts: "[]".to_owned() };
        let report = |day: i64, domain: &str, address: &str| ReportRow {
            day,
            domain: domain.to_owned(),
            address: address.to_owned(),
            state: "sent".to_owned(),
            first: 0,
            tries: 1,
            next: 0,
            organization: String::new(),
            contact: String::new(),
        };
        let of_day = |day| {
            [("a.example", ""), ("a.example", "mailto:r@a.example"), ("b.example", "")]
                .map(|(domain, address)| report(day, domain, address))
        };
        let rows = ReportRows {
            counts: (0..600).map(count).collect(),
            reports: of_day(1).into_iter().chain(of_day(10)).chain(of_day(30)).collect(),
            suppressed: Vec::new(),
        };
        store.put_report_rows(&rows).await.unwrap();
        // The first day that is kept, and the first of which it is known that it was reported.
        for (last, expected) in [(5, (100, vec![10, 10, 10, 30, 30, 30])), (5, (0, vec![10, 30, 30, 30]))] {
            store.forget_reports_before(20, last).await.unwrap();
            let rows = store.report_rows().await.unwrap();
            let days: Vec<_> = rows.reports.iter().map(|row| row.day).collect();
            assert_eq!((rows.counts.len(), days), expected);
        }
        store.forget_reports_before(20, 11).await.unwrap();
        assert_eq!(store.report_rows().await.unwrap().reports.len(), 3);
    }
}
