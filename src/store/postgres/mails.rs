//! The table of mails by month.

use sqlx::postgres::PgRow;

use super::super::mails::{MailPage, STEP};
use super::super::{Error, MailDelta, MailWrite};
use super::{Postgres, column};

impl Postgres {
    /// New domains come into months that have less than `most`.
    pub(in super::super) async fn add_mails(&self, most: i64, write: &MailWrite) -> Result<(), Error> {
        let MailWrite { number, deltas } = write;
        let months: Vec<i64> = deltas.iter().map(|delta| delta.month).collect();
        let domains: Vec<&str> = deltas.iter().map(|delta| delta.domain.as_str()).collect();
        let results: Vec<&str> = deltas.iter().map(|delta| delta.result.as_str()).collect();
        let mails: Vec<i64> = deltas.iter().map(|delta| delta.mails).collect();
        let days: Vec<i64> = deltas.iter().map(|delta| delta.last_day).collect();
        let sql = "SELECT danelaw.mail_add($1, $2, $3, $4, $5, $6, $7, $8)";
        let query = || {
            let query = sqlx::query(sql).bind(self.owner).bind(number).bind(most);
            query.bind(&months).bind(&domains).bind(&results).bind(&mails).bind(&days)
        };
        self.at_leisure(query).await.map(drop)
    }

    pub(in super::super) async fn mails(&self, page: &MailPage) -> Result<Vec<MailDelta>, Error> {
        let MailPage { months: [first, last], after: (month, domain, result) } = page;
        let sql = "SELECT month, domain, result, mails, last_day FROM danelaw.mail_months
                   WHERE month BETWEEN $1 AND $2 AND (month, domain, result) > ($3, $4, $5)
                   ORDER BY month, domain, result LIMIT $6";
        let query = || sqlx::query(sql).bind(first).bind(last).bind(month).bind(domain).bind(result).bind(STEP);
        self.at_leisure(query).await?.iter().map(mail_row).collect()
    }

    /// Returns the number of deleted rows.
    pub(in super::super) async fn forget_mails(&self, before: i64) -> Result<i64, Error> {
        let sql = "SELECT danelaw.mail_forget($1, $2)";
        let rows = self.at_leisure(|| sqlx::query(sql).bind(before).bind(STEP)).await?;
        rows.first().map_or(Ok(0), |row| column(row, 0))
    }
}

fn mail_row(row: &PgRow) -> Result<MailDelta, Error> {
    Ok(MailDelta {
        month: column(row, 0)?,
        domain: column(row, 1)?,
        result: column(row, 2)?,
        mails: column(row, 3)?,
        last_day: column(row, 4)?,
    })
}
