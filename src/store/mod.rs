//! The memory that outlives the process: the final outcomes of fan-out messages, one record for each message, the policies of
//! MTA-STS, the counts and states of TLS reports, the mails of each month, and the entries of the watch.
//!
//! The store keeps records and evicts the oldest ones. It does not decide which messages have a record, and it does
//! not know sessions: [`crate::journal`] does both. Nor does it decide which policies are kept: [`crate::discovery`] does;
//! nor which reports: [`crate::dispatch`] does.
//! Each operation is one transaction. Each backend has a module of its own, the only one that names its library.
//!
//! There are two backends. A file of SQLite is for one danelaw ([`local`]). A database of PostgreSQL is for several
//! ([`postgres`]): there a message is *claimed* before its first end of data, so that two danelaws never send one message at
//! a time, and the clock of the database decides when claims and records end.

mod figures;
mod index;
mod kept;
pub mod key;
mod local;
mod lease;
mod mails;
mod month;
mod policies;
mod postgres;
mod reports;
mod rows;
mod sqlite;
mod watch;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::smtp::reply::Reply;
use figures::StoreCounts;
use local::Local;
use postgres::Postgres;

pub(crate) use lease::SoleTask;
pub(crate) use policies::{DatedPolicy, GonePolicy, HostClock, PolicyChanges, PolicyPart, PolicyWrite};
pub(crate) use reports::SharedReports;
pub(crate) use rows::{
    CountsRow, DomainTally, HeldReport, MadeReport, PolicyRow, ReportChanges, ReportRight, ReportRow, ReportRows,
    SuppressedRow, TakeLimits, TakenReport, TallyDay, TallyDelta, TallyWrite, ToldReport,
};

pub use figures::{OperationFigures, StoreFigures};
pub use key::{ContentDigest, ContentHasher, MessageKey, Pair, RecordId};
pub use lease::TaskLease;
pub use mails::{MailDelta, MailWrite, MailedDomain};
pub use month::{Month, MonthError, day_of};
pub use postgres::{DatabaseCheck, DatabaseOpenError, DatabaseSettings, Migration, migration_sql};
pub use sqlite::{OpenError, SqliteError};
pub use watch::{HostSessions, WatchRow};

/// A message whose record is to be locked and read.
pub(crate) struct Claim<'a> {
    /// The message.
    pub(crate) key: MessageKey,
    /// Its recipients.
    pub(crate) recipients: &'a [Pair],
    /// The number of this claim. Later claims of a process have higher numbers, so that a claim that comes late takes nothing
    /// from a newer one.
    pub(crate) token: i64,
    /// How long the claim lasts if its holder is not heard of again.
    pub(crate) hold: Duration,
    /// How long a record is kept after the last attempt.
    pub(crate) expiry: Duration,
    /// The largest number of outcomes.
    pub(crate) entries: usize,
}

/// A message that is claimed.
pub(crate) struct Claimed {
    /// The final outcomes of earlier attempts.
    pub(crate) outcomes: BTreeMap<Pair, Reply>,
    /// Whether the store has a row for it.
    pub(crate) is_stored: bool,
}

/// A record as it is to be.
#[derive(Clone, Copy)]
pub(crate) struct Writing<'a> {
    /// The message.
    pub(crate) key: MessageKey,
    /// The number of its claim.
    pub(crate) token: i64,
    /// How long the claim lasts from now on.
    pub(crate) hold: Duration,
    /// All its final outcomes.
    pub(crate) outcomes: &'a BTreeMap<Pair, Reply>,
    /// The largest number of outcomes that the store may keep then.
    pub(crate) entries: usize,
}

/// A claim that is to end.
#[derive(Clone, Copy)]
pub(crate) struct HeldClaim {
    /// The message.
    pub(crate) key: MessageKey,
    /// The number of its claim.
    pub(crate) token: i64,
    /// The largest number of outcomes.
    pub(crate) entries: usize,
}

/// The result of a write to SQLite.
struct Written {
    /// The record.
    record: RecordId,
    /// The records that made room for it.
    evicted: Vec<RecordId>,
}

/// A recipient with a final outcome in a record.
struct Served {
    /// The record.
    record: RecordId,
    /// The time of the last attempt, in seconds of the Unix clock.
    seen: i64,
    /// The sender and the recipient.
    recipient: Pair,
}

/// Why an operation fails.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// SQLite fails.
    #[error(transparent)]
    Sqlite(#[from] SqliteError),
    /// Another danelaw has claimed the message.
    #[error("another danelaw is still sending the same message")]
    Busy,
    /// The claim has ended: it was held for too long, and another danelaw may have taken the message.
    #[error("the claim of the message has ended")]
    ClaimEnded,
    /// The database did not answer in time.
    #[error("the database did not answer within store.patience")]
    Slow,
    /// The database cannot be reached, or does not take requests. It is not asked again before a probe has passed.
    #[error("the database is down")]
    Down,
    /// The database fails.
    #[error("the database fails: {0}")]
    Database(String),
    /// Another danelaw does this task now.
    #[error("another danelaw has the lease of the task")]
    LeaseEnded,
    /// The operation is one of the other backend.
    #[error("the store has no such operation")]
    OtherBackend,
}

impl Error {
    /// Its label in metrics.
    fn kind(&self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::ClaimEnded => "claim-ended",
            Self::LeaseEnded => "lease-ended",
            Self::Slow => "timeout",
            Self::Down => "down",
            Self::Sqlite(_) | Self::Database(_) | Self::OtherBackend => "other",
        }
    }
}

/// An open store. Clones are the same store.
#[derive(Clone)]
pub struct Store {
    backend: StoreBackend,
    counts: Arc<StoreCounts>,
}

/// The backends.
#[derive(Clone)]
enum StoreBackend {
    /// A file for one process.
    Sqlite(Arc<Local>),
    /// A database for several.
    Postgres(Arc<Postgres>),
}

impl Store {
    /// Opens the file, or makes it. Without a path the store ends with the process.
    ///
    /// # Errors
    /// If the file cannot be used, or another process uses it.
    pub async fn open(path: Option<&Path>) -> Result<Self, OpenError> {
        let backend = StoreBackend::Sqlite(Arc::new(Local::open(path).await?));
        Ok(Self { backend, counts: Arc::default() })
    }

    /// Connects to a database, and brings its tables up to date if it may. A database that cannot be reached is asked again
    /// each second; until it answers, the store is down.
    ///
    /// # Errors
    /// If the database refuses danelaw, or has tables that danelaw cannot use.
    pub async fn connect(settings: DatabaseSettings) -> Result<Self, OpenError> {
        let backend = StoreBackend::Postgres(Postgres::connect(settings).await?);
        Ok(Self { backend, counts: Arc::default() })
    }

    /// Whether other processes may use it too.
    pub fn is_shared(&self) -> bool {
        matches!(self.backend, StoreBackend::Postgres(_))
    }

    /// The numbers for metrics.
    pub fn figures(&self) -> StoreFigures {
        let (is_up, leads) = match &self.backend {
            StoreBackend::Sqlite(_) => (true, Vec::new()),
            StoreBackend::Postgres(postgres) => (postgres.is_up(), postgres.leads()),
        };
        StoreFigures { is_up, leads, ..self.counts.figures() }
    }

    /// The number of outcomes in the file; 0 for a database, which other processes write to.
    pub(crate) async fn outcomes(&self) -> usize {
        match &self.backend {
            StoreBackend::Sqlite(local) => local.lock().await.sqlite.outcomes(),
            StoreBackend::Postgres(_) => 0,
        }
    }

    /// The records in which each recipient has a final outcome, sorted; one question for all of them.
    pub(crate) async fn served(
        &self,
        recipients: &[Pair],
        expiry: Duration,
    ) -> Result<BTreeMap<Pair, Vec<RecordId>>, Error> {
        self.timed("served", async {
            match &self.backend {
                StoreBackend::Sqlite(local) => {
                    Ok(recipients.iter().map(|recipient| (*recipient, local.served(*recipient, expiry))).collect())
                }
                StoreBackend::Postgres(postgres) => postgres.served(recipients, expiry).await,
            }
        })
        .await
    }

    /// Claims a message, and reads its record.
    pub(crate) async fn claim(&self, claim: Claim<'_>) -> Result<Claimed, Error> {
        self.timed("claim", async {
            match &self.backend {
                StoreBackend::Sqlite(local) => Ok(local.claim(claim).await),
                StoreBackend::Postgres(postgres) => postgres.claim(claim).await,
            }
        })
        .await
    }

    /// Writes a record, durably. In a file it takes the place of the one before, and the oldest others make room for it.
    pub(crate) async fn put(&self, writing: Writing<'_>, expiry: Duration) -> Result<(), Error> {
        self.timed("put", async {
            match &self.backend {
                StoreBackend::Sqlite(local) => Ok(local.put(writing, expiry).await?),
                StoreBackend::Postgres(postgres) => postgres.put(writing).await,
            }
        })
        .await
    }

    /// Deletes the record of a message, durably, with its claim.
    pub(crate) async fn take(&self, held: HeldClaim) -> Result<(), Error> {
        self.timed("take", async {
            match &self.backend {
                StoreBackend::Sqlite(local) => Ok(local.take(held.key, held.entries).await?),
                StoreBackend::Postgres(postgres) => postgres.take(held).await,
            }
        })
        .await
    }

    /// Ends a claim, and leaves the record.
    pub(crate) async fn release(&self, held: HeldClaim) -> Result<(), Error> {
        self.timed("release", async {
            match &self.backend {
                StoreBackend::Sqlite(_) => Ok(()),
                StoreBackend::Postgres(postgres) => postgres.release(held).await,
            }
        })
        .await
    }

    /// Deletes the records whose last attempt is longer ago than this; in a database also the oldest above `entries`, if no other
    /// danelaw does so.
    pub(crate) async fn tidy(&self, expiry: Duration, entries: usize) -> Result<(), Error> {
        self.timed("tidy", async {
            match &self.backend {
                StoreBackend::Sqlite(local) => Ok(local.tidy(expiry).await?),
                StoreBackend::Postgres(postgres) => {
                    self.counts.count_unknown(postgres.tidy(expiry, entries).await?);
                    Ok(())
                }
            }
        })
        .await
    }

    /// The error with the name of the file, if that fails.
    fn of_file(&self, error: Error) -> Error {
        match (error, &self.backend) {
            (Error::Sqlite(error), StoreBackend::Sqlite(local)) => Error::Sqlite(error.of(local.path())),
            (error, _) => error,
        }
    }

    async fn timed<T>(&self, operation: &'static str, run: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let since = Instant::now();
        let done = run.await.map_err(|error| self.of_file(error));
        self.counts.count(operation, since.elapsed(), done.as_ref().err().map(Error::kind));
        done
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Store")
    }
}
