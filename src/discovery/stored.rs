//! The kept policies in the store: read at the start, written behind, and with a database learned from the other danelaws.
//!
//! Each danelaw has a copy of all of them, and a mail asks that copy alone. The policy that was fetched last counts for all, by
//! the date that the store gives it. A fetch that the store does not have yet counts here until its write has decided.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::kept::{StsPolicies, StsState};
use crate::mta_sts::cache::{FetchedPolicy, Keeping, KeptPolicy, StsClock};
use crate::mta_sts::{StsId, StsPolicy};
use crate::name::{Name, NameError};
use crate::store::{
    DatedPolicy, Error, GonePolicy, HostClock, OpenError, PolicyChanges, PolicyPart, PolicyRow, PolicyWrite, Store,
};

/// How far the time of one fetch may seem to change, in seconds: clocks are read to the second.
const SAME_FETCH: u64 = 2;

/// The knowledge about the store.
#[derive(Default)]
pub(super) struct StoredPolicies {
    kind: StoreKind,
    /// The fetch of each domain that the store has.
    known: HashMap<Name, KnownFetch>,
    /// The domains whose last write failed. There are no more of them than domains with a policy, now or before.
    unwritten: BTreeSet<Name>,
    /// The time of the store from which changes of other danelaws are asked for.
    since: i64,
    /// Policies of the store for which there was no room since that was told.
    left_out: usize,
}

/// Where the policies come from.
#[derive(Default, Clone, Copy)]
enum StoreKind {
    /// From a file that has those which this danelaw has kept.
    #[default]
    File,
    /// From a database, to which others add.
    Database,
}

/// A fetch that the store has.
struct KnownFetch {
    fetched: FetchedPolicy,
    /// When that was, by the clock of the store.
    date: i64,
}

/// A row that can be read.
struct ReadPolicy {
    domain: Name,
    kept: KeptPolicy,
    date: i64,
}

/// Why the policies of the store are not known.
#[derive(Debug, thiserror::Error)]
pub(super) enum UnreadPolicies {
    /// The store fails.
    #[error("{0}")]
    Store(#[from] Error),
    /// One of them cannot be read.
    #[error("{0}")]
    Policy(#[from] OpenError),
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
    Put { write: PolicyWrite, fetched: FetchedPolicy },
    /// None is kept any more; the store has one of this date.
    Delete { date: i64 },
}

impl StsPolicies {
    /// Takes up the policies that other danelaws have fetched, and writes those of this one that could not be written before. To be
    /// called every minute or so.
    pub(super) async fn learn(&self) {
        let Some(store) = self.inner.store.as_ref().filter(|store| store.is_shared()) else { return };
        match self.read(store).await {
            Ok(()) => {}
            Err(UnreadPolicies::Policy(error)) => tracing::error!(%error, "a policy of another danelaw is left out"),
            Err(UnreadPolicies::Store(error)) => {
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

    /// Reads the policies that have changed since the last time, part by part: there may be more than memory has room for.
    pub(super) async fn read(&self, store: &Store) -> Result<(), UnreadPolicies> {
        if store.is_shared() {
            self.state().stored.kind = StoreKind::Database;
        }
        let mut part = PolicyPart { since: self.state().stored.since, after: String::new(), clock: self.host_clock() };
        let (mut until, mut wrong) = (None, None);
        loop {
            let changes = store.policies(&part).await?;
            until.get_or_insert(changes.until);
            let next = changes.next.clone();
            wrong = self.state().learn(changes, self.clock()).err().or(wrong);
            let Some(after) = next else { break };
            part.after = after;
        }
        let left_out = {
            let mut state = self.state();
            state.stored.since = until.unwrap_or_default();
            std::mem::take(&mut state.stored.left_out)
        };
        if left_out > 0 {
            tracing::warn!(left_out, "there is no room for all MTA-STS policies of the store: raise mta_sts.entries");
        }
        Ok(wrong.map_or(Ok(()), Err)?)
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
        let change = self.state().change_of(domain, self.host_clock());
        let done: Result<(), Error> = match change {
            PolicyChange::Put { write, fetched } => {
                store.put_policy(&write).await.map(|stored| self.settle(domain, &fetched, stored))
            }
            PolicyChange::Delete { date } => {
                let done = store.delete_policy(domain.as_str(), date).await;
                done.map(|()| drop(self.state().stored.known.remove(domain)))
            }
        };
        match done {
            Ok(()) => {}
            Err(error) if store.is_shared() => {
                // The first one of an outage is told.
                if self.state().stored.put_back(domain) {
                    tracing::warn!(%domain, %error, "an MTA-STS policy cannot be written to the store; it is written once the store answers");
                }
            }
            Err(error) => {
                tracing::error!(%domain, %error, "an MTA-STS policy cannot be written to the store; a restart knows the one before");
            }
        }
    }

    /// Takes up the policy that the store has after a write of this fetch, unless there is a newer fetch here.
    fn settle(&self, domain: &Name, written: &FetchedPolicy, stored: Option<DatedPolicy>) {
        let now = self.clock();
        let mut state = self.state();
        let is_last = state.cache.kept(domain).is_some_and(|own| own.fetched == *written);
        match stored.map(read) {
            Some(Ok(ReadPolicy { kept, date, .. })) if is_same_fetch(&kept.fetched, written) => {
                state.stored.known.insert(domain.clone(), KnownFetch { fetched: written.clone(), date });
            }
            Some(Ok(newer)) if is_last => state.take_up(newer, now),
            Some(Ok(_)) => {}
            Some(Err(error)) => tracing::error!(%domain, %error, "the store's MTA-STS policy cannot be read"),
            None if is_last => {
                state.cache.remove(domain);
                state.stored.known.remove(domain);
            }
            None => {}
        }
    }

    fn host_clock(&self) -> HostClock {
        let StsClock { wall, steady } = self.clock();
        HostClock { wall, steady: steady.into() }
    }
}

impl StoredPolicies {
    /// Remembers that a write has failed, and says whether it is the first one.
    fn put_back(&mut self, domain: &Name) -> bool {
        let is_first = self.unwritten.is_empty();
        self.unwritten.insert(domain.clone());
        is_first
    }

    /// The date of this fetch in the store, if it is there.
    fn date_of(&self, domain: &Name, fetched: &FetchedPolicy) -> Option<i64> {
        self.known.get(domain).filter(|known| known.fetched == *fetched).map(|known| known.date)
    }
}

impl StsState {
    /// Takes up policies of the store that are newer than those at hand, and drops those that it has no more.
    fn learn(&mut self, changes: PolicyChanges, now: StsClock) -> Result<(), OpenError> {
        let mut wrong = None;
        for dated in changes.rows {
            let domain = dated.row.domain.clone();
            match read(dated) {
                Ok(stored) => self.learn_one(stored, now),
                Err(error) => wrong = Some(OpenError::Policy { domain, found: error.to_string() }),
            }
        }
        for GonePolicy { domain, date } in changes.gone {
            let Ok(domain) = Name::parse(&domain) else { continue };
            let own = self.cache.kept(&domain).map(|own| &own.fetched);
            let is_it = |own: &FetchedPolicy| self.stored.date_of(&domain, own).is_some_and(|own| own <= date);
            if own.is_some_and(is_it) {
                self.cache.remove(&domain);
                self.stored.known.remove(&domain);
            }
        }
        wrong.map_or(Ok(()), Err)
    }

    fn learn_one(&mut self, stored: ReadPolicy, now: StsClock) {
        let ReadPolicy { domain, kept, date } = &stored;
        let (own, known) = (self.cache.kept(domain), self.stored.known.get(domain));
        match (own, known) {
            (None, None) => self.take_up(stored, now),
            // It is being deleted.
            (None, Some(known)) if known.date >= *date => {}
            (None, Some(_)) => self.take_up(stored, now),
            (Some(own), known) => match known.filter(|known| known.fetched == own.fetched) {
                // The store does not have the own one yet; its write decides.
                None => {}
                Some(known) if known.date > *date => {}
                Some(known) if known.date == *date && is_same_text(&known.fetched, &kept.fetched) => {
                    self.cache.learn_use(domain, kept.used);
                }
                Some(_) => self.take_up(stored, now),
            },
        }
    }

    /// Keeps a policy of the store in the place of the one at hand.
    fn take_up(&mut self, stored: ReadPolicy, now: StsClock) {
        let ReadPolicy { domain, kept, date } = stored;
        let known = KnownFetch { fetched: kept.fetched.clone(), date };
        let keeping = match self.stored.kind {
            StoreKind::File => {
                self.cache.load(domain.clone(), kept, now);
                Keeping::Kept(Vec::new())
            }
            StoreKind::Database => self.cache.load_within(&domain, kept, now),
        };
        match keeping {
            Keeping::Kept(evicted) => {
                // They stay in the store, for danelaws with more room.
                self.stored.left_out += evicted.len();
                evicted.iter().for_each(|domain| drop(self.stored.known.remove(domain)));
                self.stored.known.insert(domain, known);
            }
            Keeping::NoRoom | Keeping::TooShort => self.stored.left_out += 1,
        }
    }

    /// The change that the store has to make.
    fn change_of(&self, domain: &Name, clock: HostClock) -> PolicyChange {
        match self.cache.kept(domain) {
            Some(kept) => {
                let date = self.stored.date_of(domain, &kept.fetched);
                let write = PolicyWrite { row: written(domain, kept), clock, date };
                PolicyChange::Put { write, fetched: kept.fetched.clone() }
            }
            None => PolicyChange::Delete { date: self.stored.known.get(domain).map_or(0, |known| known.date) },
        }
    }
}

fn is_same_text(one: &FetchedPolicy, other: &FetchedPolicy) -> bool {
    one.id == other.id && one.policy.body() == other.policy.body()
}

fn is_same_fetch(one: &FetchedPolicy, other: &FetchedPolicy) -> bool {
    is_same_text(one, other) && one.fetched.abs_diff(other.fetched) <= SAME_FETCH
}

fn read(DatedPolicy { row, date }: DatedPolicy) -> Result<ReadPolicy, BadRow> {
    let domain = Name::parse(&row.domain)?;
    let (id, policy) = (StsId::parse(row.id.as_bytes())?, Arc::new(StsPolicy::parse(&row.body)?));
    let fetched = FetchedPolicy { id, policy, fetched: row.fetched };
    Ok(ReadPolicy { domain, kept: KeptPolicy { fetched, used: row.used, failing_since: row.failing_since }, date })
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
