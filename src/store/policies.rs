//! The policies of MTA-STS in the store.

use super::{Error, PolicyRow, Store, StoreBackend};

/// Policies that have changed since a time.
#[derive(Debug, Default)]
pub(crate) struct PolicyChanges {
    /// The policies.
    pub(crate) rows: Vec<PolicyRow>,
    /// The time that the next changes are asked from, by the clock of the store.
    pub(crate) until: i64,
}

impl Store {
    /// All policies of MTA-STS, or those that others have changed since. A file is changed by its own danelaw alone.
    pub(crate) async fn policies(&self, since: i64) -> Result<PolicyChanges, Error> {
        self.timed("policies", async {
            match &self.backend {
                StoreBackend::Sqlite(local) => {
                    Ok(PolicyChanges { rows: local.lock().await.sqlite.policies().await?, until: since })
                }
                StoreBackend::Postgres(postgres) => postgres.policies(since).await,
            }
        })
        .await
    }

    /// Writes a policy in the place of the domain's one before, durably. One that another danelaw has fetched later stays.
    pub(crate) async fn put_policy(&self, row: &PolicyRow) -> Result<(), Error> {
        self.timed("policies", async {
            match &self.backend {
                StoreBackend::Sqlite(local) => Ok(local.lock().await.sqlite.put_policy(row).await?),
                StoreBackend::Postgres(postgres) => postgres.put_policy(row).await,
            }
        })
        .await
    }

    /// Deletes the policy of a domain, durably. One that another danelaw has fetched later than this stays.
    pub(crate) async fn delete_policy(&self, domain: &str, fetched: i64) -> Result<(), Error> {
        self.timed("policies", async {
            match &self.backend {
                StoreBackend::Sqlite(local) => Ok(local.lock().await.sqlite.delete_policy(domain).await?),
                StoreBackend::Postgres(postgres) => postgres.delete_policy(domain, fetched).await,
            }
        })
        .await
    }
}
