//! The kept policies in the store: read at the start, written behind, and with a database learned from the other danelaws.
//!
//! Each danelaw has a copy of all of them, and a mail asks that copy alone. The policy that was fetched last counts for all.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::kept::{StsPolicies, StsState, clock};
use crate::mta_sts::cache::{FetchedPolicy, KeptPolicy};
use crate::mta_sts::{StsId, StsPolicy};
use crate::name::{Name, NameError};
use crate::store::{Error, OpenError, PolicyChanges, PolicyRow};

/// The knowledge about the store.
#[derive(Default)]
pub(super) struct StoredPolicies {
    /// When the policy of a domain in it was fetched.
    fetched: HashMap<Name, i64>,
    /// The domains whose last write failed. There are no more of them than domains with a policy, now or before.
    unwritten: BTreeSet<Name>,
    /// The time of the store from which changes of other danelaws are asked for.
    since: i64,
}

/// A row that cannot be read any more.
#[derive(Debug, thiserror::Error)]
enum BadRow {
    #[error("{0}")]
    Domain(#[from] NameError),
    #[error("{0}")]
    Id(#[from] crate::mta_sts::StsIdError),
    #[error("{0}")]
    Policy(#[from] crate::mta_sts::StsPolicyError),
}

/// A change of a policy on its way to the store.
enum PolicyChange {
    /// This one is kept.
    Put(PolicyRow),
    /// None is kept any more; the store has one that was fetched then.
    Delete { fetched: i64 },
}

impl StsPolicies {
    /// Takes up the policies that other danelaws have fetched, and writes those of this one that could not be written before. To be
    /// called every minute or so.
    pub(super) async fn learn(&self) {
        let Some(store) = self.inner.store.as_ref().filter(|store| store.is_shared()) else { return };
        let since = self.state().stored.since;
        match store.policies(since).await {
            Ok(changes) => {
                if let Err(error) = self.state().learn(changes) {
                    tracing::error!(%error, "a policy of another danelaw is left out");
                }
            }
            Err(error) => {
                tracing::debug!(%error, "the MTA-STS policies of other danelaws cannot be read");
                return;
            }
        }
        let mut unwritten = std::mem::take(&mut self.state().stored.unwritten);
        while let Some(domain) = unwritten.pop_first() {
            self.persist(&domain).await;
            let mut state = self.state();
            if state.stored.unwritten.contains(&domain) {
                // The others would wait as long.
                state.stored.unwritten.append(&mut unwritten);
            }
        }
    }

    /// Writes the present state of a domain to the store, soon.
    pub(super) fn persist_later(&self, domain: Name) {
        if self.are_stored() {
            let this = self.clone();
            tokio::spawn(async move { this.persist(&domain).await });
        }
    }

    async fn persist(&self, domain: &Name) {
        let Some(store) = &self.inner.store else { return };
        let _one = self.inner.writing.lock().await;
        let change = self.state().change_of(domain);
        let done: Result<(), Error> = match &change {
            PolicyChange::Put(row) => store.put_policy(row).await,
            PolicyChange::Delete { fetched } => store.delete_policy(domain.as_str(), *fetched).await,
        };
        match (done, change) {
            (Ok(()), PolicyChange::Put(_)) => {}
            (Ok(()), PolicyChange::Delete { .. }) => self.state().stored.forget(domain),
            (Err(error), _) if store.is_shared() => {
                // The first one of an outage is told.
                if self.state().stored.put_back(domain) {
                    tracing::warn!(%domain, %error, "an MTA-STS policy cannot be written to the store; it is written once the store answers");
                }
            }
            (Err(error), _) => {
                tracing::error!(%domain, %error, "an MTA-STS policy cannot be written to the store; a restart knows the one before");
            }
        }
    }
}

impl StoredPolicies {
    /// Remembers that a write has failed, and says whether it is the first one.
    fn put_back(&mut self, domain: &Name) -> bool {
        let is_first = self.unwritten.is_empty();
        self.unwritten.insert(domain.clone());
        is_first
    }

    /// The store has no policy of the domain any more.
    fn forget(&mut self, domain: &Name) {
        self.fetched.remove(domain);
    }
}

impl StsState {
    /// Takes up policies of the store that are newer than those at hand.
    pub(super) fn learn(&mut self, PolicyChanges { rows, until }: PolicyChanges) -> Result<(), OpenError> {
        let (now, mut wrong) = (clock(), None);
        self.stored.since = until;
        for row in rows {
            let domain = row.domain.clone();
            match read(row) {
                Ok((domain, kept)) => {
                    self.stored.fetched.insert(domain.clone(), kept.fetched.fetched);
                    let own = self.cache.kept(&domain).map(|own| own.fetched.fetched);
                    if own.is_none_or(|own| own < kept.fetched.fetched) {
                        self.cache.load(domain, kept, now);
                    }
                }
                Err(error) => wrong = Some(OpenError::Policy { domain, found: error.to_string() }),
            }
        }
        wrong.map_or(Ok(()), Err)
    }

    /// The change that the store has to make.
    fn change_of(&mut self, domain: &Name) -> PolicyChange {
        match self.cache.kept(domain).map(|kept| written(domain, kept)) {
            Some(row) => {
                // Before the write: one that fails may have reached the store all the same.
                self.stored.fetched.insert(domain.clone(), row.fetched);
                PolicyChange::Put(row)
            }
            None => PolicyChange::Delete { fetched: self.stored.fetched.get(domain).copied().unwrap_or_default() },
        }
    }
}

fn read(row: PolicyRow) -> Result<(Name, KeptPolicy), BadRow> {
    let domain = Name::parse(&row.domain)?;
    let (id, policy) = (StsId::parse(row.id.as_bytes())?, Arc::new(StsPolicy::parse(&row.body)?));
    let fetched = FetchedPolicy { id, policy, fetched: row.fetched };
    Ok((domain, KeptPolicy { fetched, used: row.used, failing_since: row.failing_since }))
}

fn written(domain: &Name, kept: &KeptPolicy) -> PolicyRow {
    PolicyRow {
        domain: domain.as_str().to_owned(),
        id: kept.fetched.id.as_str().to_owned(),
        body: kept.fetched.policy.body().to_vec(),
        fetched: kept.fetched.fetched,
        used: kept.used,
        failing_since: kept.failing_since,
    }
}
