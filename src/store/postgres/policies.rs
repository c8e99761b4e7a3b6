//! The policies of MTA-STS. Times go to the database and come back as ages, so that the clocks of danelaws do not count.

use sqlx::postgres::PgRow;

use super::super::policies::{DatedPolicy, GonePolicy, HostClock, PolicyPart, PolicyWrite};
use super::super::{Error, PolicyChanges, PolicyRow};
use super::{OVERLAP, Postgres, column};

/// How many policies are read together. Each has 64 KiB at most.
const PART: i64 = 200;
/// How many deletions are read.
const MOST_GONE: i64 = 10_000;

/// Our clock and that of the database at one moment, in seconds.
#[derive(Clone, Copy)]
struct BothClocks {
    ours: i64,
    database: i64,
}

impl BothClocks {
    /// A time of the database by our clock.
    fn ours(self, time: i64) -> i64 {
        time.saturating_sub(self.database).saturating_add(self.ours)
    }
}

impl Postgres {
    pub(in super::super) async fn policies(&self, part: &PolicyPart) -> Result<PolicyChanges, Error> {
        let PolicyPart { since, after, clock } = part;
        let clocks = self.clocks(*clock).await?;
        let sql = "SELECT domain, fetched FROM danelaw.sts_gone WHERE changed >= $1 ORDER BY changed DESC LIMIT $2";
        let gone = match after.as_str() {
            "" if *since > 0 => self.at_leisure(|| sqlx::query(sql).bind(since).bind(MOST_GONE)).await?,
            _ => Vec::new(),
        };
        let gone = gone.iter().map(|row| Ok(GonePolicy { domain: column(row, 0)?, date: column(row, 1)? }));
        let sql = "SELECT domain, id, body, fetched, used, failing_since FROM danelaw.sts_policies
                   WHERE changed >= $1 AND domain > $2 ORDER BY domain LIMIT $3";
        let rows = self.at_leisure(|| sqlx::query(sql).bind(since).bind(after).bind(PART)).await?;
        let next = match rows.last() {
            Some(row) if i64::try_from(rows.len()) == Ok(PART) => Some(column(row, 0)?),
            Some(_) | None => None,
        };
        Ok(PolicyChanges {
            rows: rows.iter().map(|row| dated(row, clocks)).collect::<Result<_, _>>()?,
            gone: gone.collect::<Result<_, Error>>()?,
            // A write that began before and is not committed yet is found the next time.
            until: clocks.database.saturating_sub(OVERLAP),
            next,
        })
    }

    pub(in super::super) async fn put_policy(&self, write: &PolicyWrite) -> Result<Option<DatedPolicy>, Error> {
        let PolicyWrite { row, clock, date } = write;
        let sql = "SELECT domain, id, body, fetched, used, failing_since, danelaw.clock()
                   FROM danelaw.sts_put($1, $2, $3, $4, $5, $6, $7)";
        // Made when the statement is sent, which may have waited.
        let query = || {
            let age = |time: i64| clock.now().saturating_sub(time);
            let query = sqlx::query(sql).bind(&row.domain).bind(&row.id).bind(&row.body).bind(*date);
            query.bind(age(row.fetched)).bind(age(row.used)).bind(row.failing_since.map(age))
        };
        let rows = self.at_leisure(query).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        dated(row, BothClocks { ours: clock.now(), database: column(row, 6)? }).map(Some)
    }

    pub(in super::super) async fn delete_policy(&self, domain: &str, date: i64) -> Result<(), Error> {
        let sql = "SELECT danelaw.sts_delete($1, $2)";
        self.at_leisure(|| sqlx::query(sql).bind(domain).bind(date)).await.map(drop)
    }

    async fn clocks(&self, clock: HostClock) -> Result<BothClocks, Error> {
        let rows = self.at_leisure(|| sqlx::query("SELECT danelaw.clock()")).await?;
        let ours = clock.now();
        let database = rows.first().map_or(Ok(ours), |row| column(row, 0))?;
        Ok(BothClocks { ours, database })
    }
}

fn dated(row: &PgRow, clocks: BothClocks) -> Result<DatedPolicy, Error> {
    let date: i64 = column(row, 3)?;
    let failing_since: Option<i64> = column(row, 5)?;
    let row = PolicyRow {
        domain: column(row, 0)?,
        id: column(row, 1)?,
        body: column(row, 2)?,
        fetched: clocks.ours(date),
        used: clocks.ours(column(row, 4)?),
        failing_since: failing_since.map(|since| clocks.ours(since)),
    };
    Ok(DatedPolicy { row, date })
}
