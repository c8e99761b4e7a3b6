//! The policies of MTA-STS.

use sqlx::postgres::PgRow;

use super::super::{Error, PolicyChanges, PolicyRow};
use super::{OVERLAP, Postgres, column};

impl Postgres {
    pub(in super::super) async fn policies(&self, since: i64) -> Result<PolicyChanges, Error> {
        let mut changes = PolicyChanges::default();
        let sql = "SELECT danelaw.clock()";
        let rows = self.at_leisure(|| sqlx::query(sql)).await?;
        let now: i64 = rows.first().map_or(Ok(since), |row| column(row, 0))?;
        // A write that began before and is not committed yet is found the next time.
        changes.until = now.saturating_sub(OVERLAP);
        let sql = "SELECT domain, id, body, fetched, used, failing_since FROM danelaw.sts_policies WHERE changed >= $1";
        let rows = self.at_leisure(|| sqlx::query(sql).bind(since)).await?;
        changes.rows = rows.iter().map(policy_row).collect::<Result<_, _>>()?;
        Ok(changes)
    }

    pub(in super::super) async fn put_policy(&self, row: &PolicyRow) -> Result<(), Error> {
        let sql = "INSERT INTO danelaw.sts_policies AS kept (domain, id, body, fetched, used, failing_since, changed)
                   VALUES ($1, $2, $3, least($4, danelaw.clock()), $5, $6, danelaw.clock())
                   ON CONFLICT (domain) DO UPDATE SET id = excluded.id, body = excluded.body, fetched = excluded.fetched,
                       used = greatest(kept.used, excluded.used), failing_since = excluded.failing_since,
                       changed = excluded.changed
                   WHERE kept.fetched <= excluded.fetched OR kept.fetched > danelaw.clock() + 600";
        let query = || {
            let query = sqlx::query(sql).bind(&row.domain).bind(&row.id).bind(&row.body);
            query.bind(row.fetched).bind(row.used).bind(row.failing_since)
        };
        self.at_leisure(query).await.map(drop)
    }

    pub(in super::super) async fn delete_policy(&self, domain: &str, fetched: i64) -> Result<(), Error> {
        let sql = "DELETE FROM danelaw.sts_policies WHERE domain = $1 AND fetched <= $2";
        self.at_leisure(|| sqlx::query(sql).bind(domain).bind(fetched)).await.map(drop)
    }
}

fn policy_row(row: &PgRow) -> Result<PolicyRow, Error> {
    Ok(PolicyRow {
        domain: column(row, 0)?,
        id: column(row, 1)?,
        body: column(row, 2)?,
        fetched: column(row, 3)?,
        used: column(row, 4)?,
        failing_since: column(row, 5)?,
    })
}
