//! The tables of TLS reports.

use std::time::Duration;

use sqlx::postgres::PgRow;

use super::super::{
    DomainTally, Error, HeldReport, MadeReport, ReportChanges, ReportRight, ReportRow, SuppressedRow, TakeLimits,
    TakenReport, TallyDay, TallyWrite, TaskLease, ToldReport,
};
use super::{OVERLAP, PgQuery, Postgres, column, seconds};

/// How long a report may take before another danelaw sends it: longer than a try.
const HOLD: Duration = Duration::from_secs(10 * 60);
/// About the most octets of counts of a day.
const MOST: i64 = 64 << 20;
/// How many counts are read together.
const PAGE: i64 = 5000;

/// The columns of a [`ReportRow`].
const COLUMNS: &str = "day, domain, address, state, first, tries, next, organization, contact";

/// The columns that a report begins with, as parameters: each is a list with an entry for each row.
struct RowColumns<'a> {
    days: Vec<i64>,
    domains: Vec<&'a str>,
    addresses: Vec<&'a str>,
    states: Vec<&'a str>,
    firsts: Vec<i64>,
    tries: Vec<i64>,
    nexts: Vec<i64>,
}

impl<'a> RowColumns<'a> {
    fn of(rows: impl Iterator<Item = &'a ReportRow> + Clone) -> Self {
        Self {
            days: rows.clone().map(|row| row.day).collect(),
            domains: rows.clone().map(|row| row.domain.as_str()).collect(),
            addresses: rows.clone().map(|row| row.address.as_str()).collect(),
            states: rows.clone().map(|row| row.state.as_str()).collect(),
            firsts: rows.clone().map(|row| row.first).collect(),
            tries: rows.clone().map(|row| row.tries).collect(),
            nexts: rows.map(|row| row.next).collect(),
        }
    }

    fn bound(&'a self, query: PgQuery<'a>) -> PgQuery<'a> {
        let query = query.bind(&self.days).bind(&self.domains).bind(&self.addresses).bind(&self.states);
        query.bind(&self.firsts).bind(&self.tries).bind(&self.nexts)
    }
}

impl Postgres {
    pub(in super::super) async fn reporter_id(&self) -> Result<String, Error> {
        let rows = self.at_leisure(|| sqlx::query("SELECT id FROM danelaw.tls_reporter")).await?;
        rows.first().map_or_else(|| Err(Error::Database("tls_reporter has no row".to_owned())), |row| column(row, 0))
    }

    pub(in super::super) async fn add_tallies(&self, write: &TallyWrite) -> Result<i64, Error> {
        let TallyWrite { number, deltas } = write;
        let days: Vec<i64> = deltas.iter().map(|delta| delta.day).collect();
        let domains: Vec<&str> = deltas.iter().map(|delta| delta.domain.as_str()).collect();
        let owners: Vec<&str> = deltas.iter().map(|delta| delta.owner.as_str()).collect();
        let counted: Vec<&str> = deltas.iter().map(|delta| delta.counted.as_str()).collect();
        let counts: Vec<i64> = deltas.iter().map(|delta| delta.count).collect();
        let sql = "SELECT danelaw.tls_add($1, $2, $3, $4, $5, $6, $7, $8)";
        let query = || {
            let query = sqlx::query(sql).bind(self.owner).bind(number).bind(MOST);
            query.bind(&days).bind(&domains).bind(&owners).bind(&counted).bind(&counts)
        };
        let rows = self.at_leisure(query).await?;
        rows.first().map_or(Ok(0), |row| column(row, 0))
    }

    pub(in super::super) async fn tally_days(&self) -> Result<Vec<TallyDay>, Error> {
        let rows = self.at_leisure(|| sqlx::query("SELECT day, is_closed FROM danelaw.tls_days ORDER BY day")).await?;
        rows.iter().map(|row| Ok(TallyDay { day: column(row, 0)?, is_closed: column(row, 1)? })).collect()
    }

    pub(in super::super) async fn close_day(&self, lease: TaskLease, day: i64) -> Result<(), Error> {
        let sql = "SELECT danelaw.tls_close($1, $2, $3)";
        self.at_leisure(|| sqlx::query(sql).bind(self.owner).bind(lease.token).bind(day)).await.map(drop)
    }

    pub(in super::super) async fn tallies(&self, day: i64) -> Result<Vec<DomainTally>, Error> {
        let sql = "SELECT key, domain, counted, count FROM danelaw.tls_tallies WHERE day = $1 AND key > $2
                   ORDER BY key LIMIT $3";
        let (mut tallies, mut last) = (Vec::new(), Vec::<u8>::new());
        loop {
            let rows = self.at_leisure(|| sqlx::query(sql).bind(day).bind(&last).bind(PAGE)).await?;
            for row in &rows {
                let (domain, counted, count) = (column(row, 1)?, column(row, 2)?, column(row, 3)?);
                tallies.push(DomainTally { day, domain, counted, count });
            }
            match rows.last() {
                Some(row) if i64::try_from(rows.len()) == Ok(PAGE) => last = column(row, 0)?,
                Some(_) | None => return Ok(tallies),
            }
        }
    }

    pub(in super::super) async fn report_changes(&self, since: i64) -> Result<ReportChanges, Error> {
        let rows = self.at_leisure(|| sqlx::query("SELECT danelaw.clock()")).await?;
        let now: i64 = rows.first().map_or(Ok(since), |row| column(row, 0))?;
        let sql = format!("SELECT {COLUMNS} FROM danelaw.tls_reports WHERE changed >= $1");
        let rows = self.at_leisure(|| sqlx::query(sqlx::AssertSqlSafe(sql.clone())).bind(since)).await?;
        let reports = rows.iter().map(report_row).collect::<Result<_, _>>()?;
        let suppressed = self.suppressed().await?;
        Ok(ReportChanges { reports, suppressed, until: now.saturating_sub(OVERLAP) })
    }

    pub(in super::super) async fn suppressed(&self) -> Result<Vec<SuppressedRow>, Error> {
        let sql = "SELECT address, until, level FROM danelaw.tls_suppressed";
        let rows = self.at_leisure(|| sqlx::query(sql)).await?;
        let suppressed =
            |row| Ok(SuppressedRow { address: column(row, 0)?, until: column(row, 1)?, level: column(row, 2)? });
        rows.iter().map(suppressed).collect()
    }

    pub(in super::super) async fn make_reports(&self, lease: TaskLease, reports: &[MadeReport]) -> Result<(), Error> {
        if reports.is_empty() {
            return Ok(());
        }
        let rows = RowColumns::of(reports.iter().map(|made| &made.row));
        let targets: Vec<&str> = reports.iter().map(|made| made.target.as_str()).collect();
        let contents: Vec<&str> = reports.iter().map(|made| made.content.as_str()).collect();
        let sql = "SELECT danelaw.tls_make($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
        let query = || {
            let query = rows.bound(sqlx::query(sql).bind(self.owner).bind(lease.token));
            query.bind(&targets).bind(&contents)
        };
        self.at_leisure(query).await.map(drop)
    }

    pub(in super::super) async fn take_reports(&self, due: i64, limits: TakeLimits) -> Result<Vec<TakenReport>, Error> {
        let sql = format!(
            "SELECT {COLUMNS}, content, token, s.until, s.level
             FROM danelaw.tls_take($1, $2, $3, $4, $5) AS r LEFT JOIN danelaw.tls_suppressed s USING (address)"
        );
        let query = || {
            let query = sqlx::query(sqlx::AssertSqlSafe(sql.clone())).bind(self.owner).bind(seconds(HOLD));
            query.bind(due).bind(limits.most).bind(limits.together)
        };
        let rows = self.at_leisure(query).await?;
        rows.iter().map(taken_report).collect()
    }

    pub(in super::super) async fn hold_report(&self, held: &HeldReport) -> Result<ReportRight, Error> {
        let sql = "SELECT danelaw.tls_hold($1, $2, $3, $4, $5, $6)";
        let query = || {
            let query = sqlx::query(sql).bind(self.owner).bind(seconds(HOLD)).bind(held.day).bind(&held.domain);
            query.bind(&held.address).bind(held.token)
        };
        let rows = self.at_leisure(query).await?;
        Ok(match rows.first().map_or(Ok(false), |row| column(row, 0))? {
            true => ReportRight::Ours,
            false => ReportRight::Lost,
        })
    }

    pub(in super::super) async fn tell_reports(&self, reports: &[ToldReport]) -> Result<(), Error> {
        if reports.is_empty() {
            return Ok(());
        }
        let row = || reports.iter().map(|told| &told.row);
        let rows = RowColumns::of(row());
        let organizations: Vec<&str> = row().map(|row| row.organization.as_str()).collect();
        let contacts: Vec<&str> = row().map(|row| row.contact.as_str()).collect();
        let tokens: Vec<i64> = reports.iter().map(|told| told.token).collect();
        let keeps: Vec<bool> = reports.iter().map(|told| told.is_kept).collect();
        let sql = "SELECT danelaw.tls_tell($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
        let query = || {
            let query = rows.bound(sqlx::query(sql).bind(self.owner));
            query.bind(&organizations).bind(&contacts).bind(&tokens).bind(&keeps)
        };
        self.at_leisure(query).await.map(drop)
    }

    pub(in super::super) async fn tell_suppressed(&self, rows: &[SuppressedRow]) -> Result<(), Error> {
        let kept: Vec<(&SuppressedRow, i64)> = rows.iter().filter_map(|row| Some((row, row.until?))).collect();
        let ended: Vec<&str> = rows.iter().filter(|row| row.until.is_none()).map(|row| row.address.as_str()).collect();
        if !kept.is_empty() {
            let addresses: Vec<&str> = kept.iter().map(|(row, _)| row.address.as_str()).collect();
            let untils: Vec<i64> = kept.iter().map(|(_, until)| *until).collect();
            let levels: Vec<i64> = kept.iter().map(|(row, _)| row.level).collect();
            let sql = "INSERT INTO danelaw.tls_suppressed (address, until, level)
                       SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS x (address, until, level) ORDER BY address
                       ON CONFLICT (address) DO UPDATE SET until = excluded.until, level = excluded.level";
            self.at_leisure(|| sqlx::query(sql).bind(&addresses).bind(&untils).bind(&levels)).await?;
        }
        if !ended.is_empty() {
            let sql = "DELETE FROM danelaw.tls_suppressed WHERE address IN (
                           SELECT address FROM danelaw.tls_suppressed WHERE address = ANY ($1) ORDER BY address FOR UPDATE)";
            self.at_leisure(|| sqlx::query(sql).bind(&ended)).await?;
        }
        Ok(())
    }

    pub(in super::super) async fn forget_reports(&self, lease: TaskLease, day: i64, known: i64) -> Result<(), Error> {
        let sql = "SELECT danelaw.tls_forget($1, $2, $3, $4)";
        self.at_leisure(|| sqlx::query(sql).bind(self.owner).bind(lease.token).bind(day).bind(known)).await.map(drop)
    }
}

fn report_row(row: &PgRow) -> Result<ReportRow, Error> {
    Ok(ReportRow {
        day: column(row, 0)?,
        domain: column(row, 1)?,
        address: column(row, 2)?,
        state: column(row, 3)?,
        first: column(row, 4)?,
        tries: column(row, 5)?,
        next: column(row, 6)?,
        organization: column(row, 7)?,
        contact: column(row, 8)?,
    })
}

fn taken_report(row: &PgRow) -> Result<TakenReport, Error> {
    let report = report_row(row)?;
    let suppressed = match (column(row, 11)?, column(row, 12)?) {
        (Some(until), Some(level)) => {
            Some(SuppressedRow { address: report.address.clone(), until: Some(until), level })
        }
        (None::<i64>, _) | (_, None::<i64>) => None,
    };
    Ok(TakenReport { row: report, content: column(row, 9)?, token: column(row, 10)?, suppressed })
}
