//! The store in a database of PostgreSQL, for several danelaws that take the mail of one name.
//!
//! Each operation is one statement: a query, or a function of `postgres/schema.sql`. A call ends within `store.patience`,
//! whatever the server does, and its connection is closed if the answer is not there by then. A call on a connection that was
//! cut is made once more on a fresh one, and a call that the server rolled back for the sake of another one is made once more:
//! each operation may be repeated. After three failures in a row the database is not asked before a probe has passed; there is
//! one each second.

mod circuit;
mod fault;
mod leases;
mod mails;
mod policies;
mod pool;
mod reports;
mod schema;
mod settings;
mod watch;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Weak};
use std::time::Duration;

use aws_lc_rs::hmac;
use parking_lot::Mutex;
use sqlx::Row;
use sqlx::postgres::{PgArguments, PgRow, Postgres as Database};
use sqlx::query::Query;
use tokio::time::{Instant, timeout};

use super::kept::{damaged, kept_reply, reply_of};
use super::local::seconds;
use super::{Claim, Claimed, Error, HeldClaim, OpenError, Pair, RecordId, SoleTask, TaskLease, Writing};
use crate::background::keep_up;
use circuit::Circuit;
use fault::{AfterFault, DatabaseFault};
use leases::HeldLeases;
use pool::{ConnectionPool, PooledConnection};

pub use fault::DatabaseOpenError;
pub use schema::migration_sql;
pub use settings::{DatabaseSettings, Migration};

/// How often a database that is down is asked.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// How long the making of tables may take.
const MIGRATION: Duration = Duration::from_secs(60);
/// How long a call may take that no mail waits for.
const LEISURE: Duration = Duration::from_secs(60);
/// How far back changes of others are asked for once more, in seconds: a write is committed after the time that it is dated with.
const OVERLAP: i64 = 120;
/// Calls whose latency `danelaw store check` measures.
const CALLS: u32 = 100;

type PgQuery<'q> = Query<'q, Database, PgArguments>;

/// A database, and our connections to it.
pub(super) struct Postgres {
    pool: ConnectionPool,
    /// One connection for calls that no mail waits for, so that they neither hold up mail nor are held up by it.
    leisurely: ConnectionPool,
    circuit: Circuit,
    leases: Mutex<HeldLeases>,
    /// This process among all that use the database.
    owner: i64,
    /// The number of the next write of sessions.
    session_writes: AtomicI64,
    pepper: Option<hmac::Key>,
}

/// The findings about a database.
#[derive(Debug, Clone, PartialEq)]
pub struct DatabaseCheck {
    /// The server's name for its version.
    pub server: String,
    /// The version of danelaw's tables.
    pub schema: i32,
    /// The server's clock less this host's, in seconds.
    pub clock_ahead: f64,
    /// The median latency of a call, and the worst of 100.
    pub latency: [Duration; 2],
    /// How many danelaws hold claims.
    pub holders: i64,
}

impl Postgres {
    /// See [`Store::connect`](super::Store::connect).
    pub(super) async fn connect(settings: DatabaseSettings) -> Result<Arc<Self>, OpenError> {
        settings::refuse_foreign_settings()?;
        let pepper = settings.pepper()?;
        // 63 bits.
        let owner = i64::from_ne_bytes(fastrand::u64(..).to_ne_bytes()) & i64::MAX;
        // The server's limits are those of the settings.
        let leisurely = DatabaseSettings { connections: 1, patience: LEISURE, ..settings.clone() };
        let (pool, leisurely) = (ConnectionPool::new(settings), ConnectionPool::new(leisurely));
        let (circuit, leases, session_writes) = (Circuit::default(), Mutex::default(), AtomicI64::new(0));
        let postgres = Self { pool, leisurely, circuit, leases, owner, session_writes, pepper };
        match postgres.prepare().await {
            Ok(()) => postgres.circuit.came_up(),
            Err(error) if error.may_pass() => postgres.circuit.went_down(&error.to_string()),
            Err(error) => return Err(error.into()),
        }
        let postgres = Arc::new(postgres);
        let probed = Arc::downgrade(&postgres);
        keep_up("probing of the database", move || keep_probing(Weak::clone(&probed)));
        Ok(postgres)
    }

    pub(super) fn is_up(&self) -> bool {
        self.circuit.is_up()
    }

    pub(super) async fn served(
        &self,
        recipients: &[Pair],
        expiry: Duration,
    ) -> Result<BTreeMap<Pair, Vec<RecordId>>, Error> {
        let known: BTreeMap<Vec<u8>, Pair> =
            recipients.iter().map(|recipient| (self.digest(recipient.octets()), *recipient)).collect();
        let (pairs, expiry): (Vec<_>, _) = (known.keys().cloned().collect(), seconds(expiry));
        let sql = "SELECT DISTINCT o.pair, r.id FROM danelaw.outcomes o JOIN danelaw.records r ON r.id = o.record
                   WHERE o.pair = ANY ($1) AND r.seen >= danelaw.clock() - $2 ORDER BY r.id";
        let rows = self.ask("served", || sqlx::query(sql).bind(&pairs).bind(expiry)).await?;
        let mut served: BTreeMap<_, _> = recipients.iter().map(|recipient| (*recipient, Vec::new())).collect();
        for row in &rows {
            let (pair, record): (Vec<u8>, i64) = (column(row, 0)?, column(row, 1)?);
            let pair = known.get(&pair).ok_or_else(|| Error::Database(damaged("pair")))?;
            served.entry(*pair).or_default().push(RecordId(record));
        }
        Ok(served)
    }

    pub(super) async fn claim(&self, claim: Claim<'_>) -> Result<Claimed, Error> {
        let Claim { key, recipients, token, hold, expiry, .. } = claim;
        let (key, hold, expiry) = (self.digest(key.octets()), seconds(hold), seconds(expiry));
        let sql = "SELECT pair, reply FROM danelaw.claim($1, $2, $3, $4, $5)";
        let query = || sqlx::query(sql).bind(&key).bind(self.owner).bind(token).bind(hold).bind(expiry);
        let rows = self.ask("claim", query).await?;
        let known: BTreeMap<Vec<u8>, Pair> =
            recipients.iter().map(|recipient| (self.digest(recipient.octets()), *recipient)).collect();
        let mut outcomes = BTreeMap::new();
        for row in &rows {
            let (pair, reply): (Vec<u8>, String) = (column(row, 0)?, column(row, 1)?);
            let pair = known.get(&pair).ok_or_else(|| Error::Database(damaged("pair")))?;
            outcomes.insert(*pair, reply_of(&reply).ok_or_else(|| Error::Database(damaged("reply")))?);
        }
        Ok(Claimed { outcomes, is_stored: true })
    }

    pub(super) async fn put(&self, writing: Writing<'_>) -> Result<(), Error> {
        let Writing { key, token, hold, outcomes, .. } = writing;
        let (key, hold) = (self.digest(key.octets()), seconds(hold));
        let pairs: Vec<Vec<u8>> = outcomes.keys().map(|pair| self.digest(pair.octets())).collect();
        let replies: Vec<String> = outcomes.values().map(kept_reply).collect();
        let sql = "SELECT danelaw.put($1, $2, $3, $4, $5, $6)";
        let query = || {
            let query = sqlx::query(sql).bind(&key).bind(self.owner).bind(token).bind(hold);
            query.bind(&pairs).bind(&replies)
        };
        self.ask("put", query).await.map(drop)
    }

    pub(super) async fn take(&self, held: HeldClaim) -> Result<(), Error> {
        let key = self.digest(held.key.octets());
        let sql = "DELETE FROM danelaw.records WHERE key = $1 AND owner = $2 AND token = $3";
        self.ask("take", || sqlx::query(sql).bind(&key).bind(self.owner).bind(held.token)).await.map(drop)
    }

    pub(super) async fn release(&self, held: HeldClaim) -> Result<(), Error> {
        let key = self.digest(held.key.octets());
        let sql = "SELECT danelaw.release($1, $2, $3)";
        self.ask("release", || sqlx::query(sql).bind(&key).bind(self.owner).bind(held.token)).await.map(drop)
    }

    /// Returns the number of claims that have ended by time. Another danelaw may have the lease: then it tidies.
    pub(super) async fn tidy(&self, expiry: Duration, entries: usize) -> Result<u64, Error> {
        let Some(TaskLease { token }) = self.lease(SoleTask::Tidy).await? else { return Ok(0) };
        let (expiry, entries) = (seconds(expiry), i64::try_from(entries).unwrap_or(i64::MAX));
        let sql = "SELECT danelaw.tidy($1, $2, $3, $4)";
        let query = || sqlx::query(sql).bind(self.owner).bind(token).bind(expiry).bind(entries);
        let rows = self.at_leisure(query).await?;
        let ended: i64 = rows.first().map_or(Ok(0), |row| column(row, 0))?;
        if ended > 0 {
            let text = "claims of fan-out messages ended by time: a danelaw died or lost the store in the middle of them, and some \
                        recipients may get a second copy";
            tracing::warn!(messages = ended, "{text}");
        }
        Ok(u64::try_from(ended).unwrap_or_default())
    }

    /// Makes a call that no mail waits for and that may take longer. That it is slow is no sign of a database that is down, but
    /// a connection that cannot be made is one.
    async fn at_leisure<'q>(&self, query: impl Fn() -> PgQuery<'q>) -> Result<Vec<PgRow>, Error> {
        if !self.circuit.is_up() {
            return Err(Error::Down);
        }
        let call = async {
            let _permit = self.leisurely.permit().await;
            self.try_twice(&self.leisurely, query).await
        };
        let fault = match timeout(LEISURE, call).await {
            Ok(Ok(rows)) => return Ok(rows),
            Ok(Err(fault)) => fault,
            Err(_) => DatabaseFault::Slow,
        };
        if let DatabaseFault::Unreachable(why) = &fault {
            self.circuit.failed(why);
        }
        Err(fault.into_error())
    }

    /// Makes one call.
    async fn ask<'q>(&self, operation: &'static str, query: impl Fn() -> PgQuery<'q>) -> Result<Vec<PgRow>, Error> {
        if !self.circuit.is_up() {
            return Err(Error::Down);
        }
        let patience = self.pool.settings().patience;
        // A wait for our own calls says nothing about the database.
        let Ok(_permit) = timeout(patience, self.pool.permit()).await else {
            self.circuit.crowded(operation);
            return Err(DatabaseFault::Slow.into_error());
        };
        let fault = match timeout(patience, self.try_twice(&self.pool, query)).await {
            Ok(Ok(rows)) => {
                self.circuit.answered();
                return Ok(rows);
            }
            Ok(Err(fault)) => fault,
            Err(_) => DatabaseFault::Slow,
        };
        match &fault {
            DatabaseFault::Busy | DatabaseFault::ClaimEnded | DatabaseFault::LeaseEnded | DatabaseFault::Other(_) => {
                self.circuit.answered();
            }
            DatabaseFault::Slow => self.circuit.slow(operation),
            DatabaseFault::Unreachable(why) | DatabaseFault::Refused(why) => self.circuit.failed(why),
        }
        Err(fault.into_error())
    }

    /// On a connection that waits, and once more if it was cut, or if the call was rolled back.
    async fn try_twice<'q>(
        &self,
        pool: &ConnectionPool,
        query: impl Fn() -> PgQuery<'q>,
    ) -> Result<Vec<PgRow>, DatabaseFault> {
        let first = match pool.idle() {
            Some(pooled) => pooled,
            None => self.fresh(pool).await?,
        };
        let error = match on(pool, first, query()).await {
            Ok(rows) => return Ok(rows),
            Err(error) => error,
        };
        match DatabaseFault::after(&error) {
            AfterFault::Usable => return Err(DatabaseFault::of(&error)),
            AfterFault::RolledBack => {}
            // The others were cut with it.
            AfterFault::Broken => pool.clear(),
        }
        let second = self.fresh(pool).await?;
        on(pool, second, query()).await.map_err(|error| DatabaseFault::of(&error))
    }

    async fn fresh(&self, pool: &ConnectionPool) -> Result<PooledConnection, DatabaseFault> {
        let Ok(fresh) = timeout(self.pool.settings().patience, pool.connect()).await else {
            return Err(DatabaseFault::Unreachable("no connection within store.patience".to_owned()));
        };
        fresh.map_err(|error| DatabaseFault::Unreachable(error.to_string()))
    }

    /// Connects, and finds the tables or makes them.
    async fn prepare(&self) -> Result<(), DatabaseOpenError> {
        let settings = self.pool.settings();
        let patience = settings.patience;
        let slow = |_| DatabaseOpenError::from(DatabaseFault::Slow);
        let mut pooled = timeout(patience, self.pool.connect()).await.map_err(slow)??;
        let patience = match settings.migration {
            Migration::AtStart => MIGRATION,
            Migration::ByHand => patience,
        };
        let prepared = schema::prepare(&mut pooled.connection, settings.migration);
        timeout(patience, prepared).await.map_err(slow)??;
        self.pool.put(pooled);
        Ok(())
    }

    /// The octets as the database has them.
    fn digest(&self, octets: &[u8]) -> Vec<u8> {
        match &self.pepper {
            Some(pepper) => hmac::sign(pepper, octets).as_ref().to_vec(),
            None => octets.to_vec(),
        }
    }
}

/// A connection is closed if its call fails or is given up. It stays if the server has refused the call for good.
async fn on(pool: &ConnectionPool, mut pooled: PooledConnection, query: PgQuery<'_>) -> sqlx::Result<Vec<PgRow>> {
    let done = query.fetch_all(&mut pooled.connection).await;
    match done.as_ref().map_or_else(DatabaseFault::after, |_| AfterFault::Usable) {
        AfterFault::Usable => pool.put(pooled),
        AfterFault::RolledBack | AfterFault::Broken => {}
    }
    done
}

/// Asks a database that is down, for as long as it is used.
async fn keep_probing(postgres: Weak<Postgres>) {
    loop {
        tokio::time::sleep(PROBE_EVERY).await;
        let Some(postgres) = postgres.upgrade() else { return };
        if postgres.is_up() {
            continue;
        }
        [&postgres.pool, &postgres.leisurely].into_iter().for_each(ConnectionPool::clear);
        match postgres.prepare().await {
            Ok(()) => postgres.circuit.came_up(),
            Err(error) => postgres.circuit.went_down(&error.to_string()),
        }
    }
}

fn column<'r, T>(row: &'r PgRow, column: usize) -> Result<T, Error>
where
    T: sqlx::Decode<'r, Database> + sqlx::Type<Database>,
{
    row.try_get(column).map_err(|error| Error::Database(error.to_string()))
}

impl DatabaseSettings {
    /// Makes the tables, if they are missing.
    ///
    /// # Errors
    /// If the database cannot be reached or refuses it, or has tables that this danelaw cannot use.
    pub async fn migrate(&self) -> Result<(), DatabaseOpenError> {
        let mut pooled = self.connected().await?;
        schema::make(&mut pooled.connection).await
    }

    /// Looks whether the database will do.
    ///
    /// # Errors
    /// If it will not.
    pub async fn check(&self) -> Result<DatabaseCheck, DatabaseOpenError> {
        let mut pooled = self.connected().await?;
        let connection = &mut pooled.connection;
        schema::prepare(connection, Migration::ByHand).await?;
        let schema = schema::found(connection).await?.map_or(0, |version| version.schema);
        let sql = "SELECT current_setting('server_version'), extract(epoch FROM clock_timestamp())::float8,
                          (SELECT count(DISTINCT owner) FROM danelaw.records WHERE until >= danelaw.clock())";
        let row = sqlx::query(sql).fetch_one(&mut *connection).await?;
        let now = time::OffsetDateTime::now_utc().unix_timestamp_nanos() as f64 / 1e9;
        let mut latencies = Vec::new();
        for _ in 0..CALLS {
            let since = Instant::now();
            sqlx::query("SELECT danelaw.clock()").fetch_one(&mut *connection).await?;
            latencies.push(since.elapsed());
        }
        latencies.sort();
        let of = |place: usize| latencies.get(place).copied().unwrap_or_default();
        Ok(DatabaseCheck {
            server: row.try_get(0)?,
            schema,
            clock_ahead: row.try_get::<f64, _>(1)? - now,
            latency: [of(latencies.len() / 2), of(latencies.len().saturating_sub(1))],
            holders: row.try_get(2)?,
        })
    }

    async fn connected(&self) -> Result<PooledConnection, DatabaseOpenError> {
        settings::refuse_foreign_settings()?;
        let pool = ConnectionPool::new(self.clone());
        let connected = timeout(self.patience, pool.connect()).await;
        connected.map_err(|_| DatabaseOpenError::from(DatabaseFault::Slow))?
    }
}
