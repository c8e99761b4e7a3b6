//! The policies of MTA-STS in the store.
//!
//! In a database the policy that was fetched last counts for all, by the clock of the database: the clocks of danelaws differ. So
//! a policy has a date there, beside the times by the clock of this host, which each danelaw works out anew.

use tokio::time::Instant;

use super::local::seconds;
use super::{Error, PolicyRow, Store, StoreBackend};

/// A policy as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DatedPolicy {
    /// The policy, its times by the clock of this host.
    pub(crate) row: PolicyRow,
    /// When it was fetched, by the clock of the store.
    pub(crate) date: i64,
}

/// The clock of this host.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HostClock {
    /// The time when it was read, in seconds since 1970.
    pub(crate) wall: i64,
    /// The same by the steady clock.
    pub(crate) steady: Instant,
}

impl HostClock {
    /// The present time in seconds since 1970. A call to the store may have waited since the clock was read.
    pub(super) fn now(self) -> i64 {
        self.wall.saturating_add(seconds(self.steady.elapsed()))
    }
}

/// A policy that is to be written.
#[derive(Debug, Clone)]
pub(crate) struct PolicyWrite {
    /// The policy, its times by the clock of this host.
    pub(crate) row: PolicyRow,
    /// That clock.
    pub(crate) clock: HostClock,
    /// Its date, if the store has had it; none for one that was just fetched.
    pub(crate) date: Option<i64>,
}

/// A policy that a danelaw has deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GonePolicy {
    /// The domain.
    pub(crate) domain: String,
    /// Those that were fetched until then are gone, by the clock of the store.
    pub(crate) date: i64,
}

/// The policies that are asked for: a part of those that have changed since a time.
#[derive(Debug, Clone)]
pub(crate) struct PolicyPart {
    /// The clock of this host, by which their times are told.
    pub(crate) clock: HostClock,
    /// The time, by the clock of the store; 0 for all policies.
    pub(crate) since: i64,
    /// The domain behind which the part begins, in the order of the store.
    pub(crate) after: String,
}

/// Policies that have changed.
#[derive(Debug, Default)]
pub(crate) struct PolicyChanges {
    /// The policies.
    pub(crate) rows: Vec<DatedPolicy>,
    /// Those that were deleted; in the first part alone.
    pub(crate) gone: Vec<GonePolicy>,
    /// The time that the next changes are asked from, by the clock of the store.
    pub(crate) until: i64,
    /// The domain behind which the next part begins, if there is one.
    pub(crate) next: Option<String>,
}

impl Store {
    /// A part of the policies of MTA-STS. A file has one part, and is changed by its own danelaw alone.
    pub(crate) async fn policies(&self, part: &PolicyPart) -> Result<PolicyChanges, Error> {
        self.timed("policies", async {
            match &self.backend {
                StoreBackend::Sqlite(local) => {
                    let rows = local.lock().await.sqlite.policies().await?;
                    let rows = rows.into_iter().map(|row| DatedPolicy { date: row.fetched, row }).collect();
                    Ok(PolicyChanges { rows, until: part.since, ..PolicyChanges::default() })
                }
                StoreBackend::Postgres(postgres) => postgres.policies(part).await,
            }
        })
        .await
    }

    /// Writes a policy, durably, and returns the one that the store has of the domain then. In a database that may be one that
    /// another danelaw has fetched later, or none, if another one has deleted it.
    pub(crate) async fn put_policy(&self, write: &PolicyWrite) -> Result<Option<DatedPolicy>, Error> {
        self.timed("policies", async {
            match &self.backend {
                StoreBackend::Sqlite(local) => {
                    local.lock().await.sqlite.put_policy(&write.row).await?;
                    Ok(Some(DatedPolicy { row: write.row.clone(), date: write.row.fetched }))
                }
                StoreBackend::Postgres(postgres) => postgres.put_policy(write).await,
            }
        })
        .await
    }

    /// Deletes the policy of a domain, durably. One that another danelaw has fetched later than this date stays.
    pub(crate) async fn delete_policy(&self, domain: &str, date: i64) -> Result<(), Error> {
        self.timed("policies", async {
            match &self.backend {
                StoreBackend::Sqlite(local) => Ok(local.lock().await.sqlite.delete_policy(domain).await?),
                StoreBackend::Postgres(postgres) => postgres.delete_policy(domain, date).await,
            }
        })
        .await
    }
}
