//! The kept policies in the store: read at the start, written behind, and with a database learned from the other danelaws.
//!
//! Each danelaw has a copy of all of them, and a mail asks that copy alone. The policy that was fetched last counts for all, by
//! the date that the store gives it. A fetch that the store does not have yet counts here until its write has decided.
//!
//! | a policy leaves one danelaw | a file | a database |
//! |---|---|---|
//! | its domain has withdrawn it (RFC 8461 §8.3), or has a new one of no age | deletes it | deletes it, and tells all danelaws |
//! | to make room, or long after it has expired | deletes it | has it until no danelaw can use it |

use std::collections::{BTreeSet, HashMap, HashSet};
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
    /// The domains that have withdrawn their policy, until the store knows it.
    withdrawn: HashSet<Name>,
    /// The domains whose last write failed. There are no more of them than domains with a policy, now or before.
    unwritten: BTreeSet<Name>,
    /// The time of the store from which changes of other danelaws are asked for.
    since: i64,
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
    /// None is kept any more, and that is no word of the domain's: others may have more room.
    Nothing,
}

/// The rows of a store that are not taken up.
#[derive(Default)]
struct NotTakenUp {
    /// Those for which there is no room.
    no_room: usize,
    /// The last one that cannot be read.
    wrong: Option<OpenError>,
}

/// Whether there is room for a policy of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StoreRoom {
    /// There is, or none was needed.
    Found,
    /// All that is kept is worth more.
    Lacking,
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
        let mut not_taken_up = NotTakenUp::default();
        let read = self.read_parts(store, &mut not_taken_up).await;
        if not_taken_up.no_room > 0 {
            let policies = not_taken_up.no_room;
            tracing::warn!(policies, "there is no room for MTA-STS policies of the store: raise mta_sts.entries");
        }
        read?;
        Ok(not_taken_up.wrong.map_or(Ok(()), Err)?)
    }

    async fn read_parts(&self, store: &Store, not_taken_up: &mut NotTakenUp) -> Result<(), Error> {
        let (since, clock) = (self.state().stored.since, host_clock(self.clock()));
        let mut part = PolicyPart { since, after: String::new(), clock };
        let mut until = None;
        loop {
            let changes = store.policies(&part).await?;
            until.get_or_insert(changes.until);
            let next = changes.next.clone();
            self.state().learn(changes, self.clock(), not_taken_up);
            let Some(after) = next else { break };
            part.after = after;
        }
        self.state().stored.since = until.unwrap_or_default();
        Ok(())
    }

    /// A policy has left this memory, and that is no word of its domain's: it made room, or has been expired for long. A file
    /// has the policies of this danelaw. A database has those of others too, and for them it must stay: without it they would
    /// trust the first contact anew.
    pub(super) fn let_go(&self, state: &mut StsState, domain: Name) {
        match state.stored.kind {
            StoreKind::File => self.persist_later(domain),
            StoreKind::Database => drop(state.stored.known.remove(&domain)),
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
        let change = self.state().change_of(domain, self.clock());
        let done: Result<(), Error> = match change {
            PolicyChange::Put { write, fetched } => {
                store.put_policy(&write).await.map(|stored| self.settle(domain, &fetched, stored))
            }
            PolicyChange::Delete { date } => {
                let done = store.delete_policy(domain.as_str(), date).await;
                done.map(|()| self.state().stored.deleted(domain))
            }
            PolicyChange::Nothing => Ok(()),
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
                tracing::error!(%domain, %error, "an MTA-STS policy cannot be written to the store; it holds as long as danelaw runs, and a restart knows the one before");
            }
        }
    }

    /// Takes up the policy that the store has after a write of this fetch, unless there is a newer fetch here.
    fn settle(&self, domain: &Name, written: &FetchedPolicy, stored: Option<DatedPolicy>) {
        let now = self.clock();
        let mut state = self.state();
        let own = state.cache.kept(domain);
        let is_last = own.is_some_and(|own| own.fetched == *written);
        // A policy that has made room meanwhile is not to be known: the next change would delete it for all.
        let is_of_use = own.is_some() || state.stored.withdrawn.contains(domain);
        match stored.map(read) {
            Some(Ok(ReadPolicy { kept, date, .. })) if is_of_use && is_same_fetch(&kept.fetched, written) => {
                state.stored.known.insert(domain.clone(), KnownFetch { fetched: written.clone(), date });
            }
            Some(Ok(newer)) if is_last => match state.take_up(newer, now) {
                StoreRoom::Found => {}
                StoreRoom::Lacking => {
                    tracing::warn!(%domain, "there is no room for an MTA-STS policy of the store: raise mta_sts.entries");
                }
            },
            Some(Ok(_)) => {}
            Some(Err(error)) => tracing::error!(%domain, %error, "the store's MTA-STS policy cannot be read"),
            None if is_last => {
                state.cache.remove(domain);
                state.stored.known.remove(domain);
            }
            None => {}
        }
    }
}

impl StoredPolicies {
    /// The domain has withdrawn its policy.
    pub(super) fn withdrawn(&mut self, domain: &Name) {
        self.withdrawn.insert(domain.clone());
    }

    /// The domain has a policy again.
    pub(super) fn not_withdrawn(&mut self, domain: &Name) {
        self.withdrawn.remove(domain);
    }

    /// The store has no policy of the domain any more.
    fn deleted(&mut self, domain: &Name) {
        self.known.remove(domain);
        self.withdrawn.remove(domain);
    }

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
    /// Corrects the dates of policies that were fetched while the wall clock was ahead, and returns their domains. The store has
    /// such a fetch under its own date, which stays: a policy that is old already is not to count as the newest.
    pub(super) fn correct_dates(&mut self, now: StsClock) -> Vec<Name> {
        let corrected = self.cache.correct_dates(now).into_iter();
        corrected
            .map(|(domain, before)| {
                if let Some(known) = self.stored.known.get_mut(&domain).filter(|known| known.fetched == before) {
                    known.fetched.fetched = now.wall;
                }
                domain
            })
            .collect()
    }

    /// Takes up policies of the store that are newer than those at hand, and drops those that it has no more.
    fn learn(&mut self, changes: PolicyChanges, now: StsClock, not_taken_up: &mut NotTakenUp) {
        for dated in changes.rows {
            let domain = dated.row.domain.clone();
            match read(dated) {
                Ok(stored) => match self.learn_one(stored, now) {
                    StoreRoom::Found => {}
                    StoreRoom::Lacking => not_taken_up.no_room += 1,
                },
                Err(error) => not_taken_up.wrong = Some(OpenError::Policy { domain, found: error.to_string() }),
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
    }

    fn learn_one(&mut self, stored: ReadPolicy, now: StsClock) -> StoreRoom {
        let ReadPolicy { domain, kept, date } = &stored;
        let (own, known) = (self.cache.kept(domain), self.stored.known.get(domain));
        match (own, known) {
            (None, None) => self.take_up(stored, now),
            // It is being deleted.
            (None, Some(known)) if known.date >= *date => StoreRoom::Found,
            (None, Some(_)) => self.take_up(stored, now),
            (Some(own), known) => match known.filter(|known| known.fetched == own.fetched) {
                // The store does not have the own one yet; its write decides.
                None => StoreRoom::Found,
                Some(known) if known.date > *date => StoreRoom::Found,
                Some(known) if known.date == *date && is_same_text(&known.fetched, &kept.fetched) => {
                    self.cache.learn_use(domain, kept.used);
                    StoreRoom::Found
                }
                Some(_) => self.take_up(stored, now),
            },
        }
    }

    /// Keeps a policy of the store in the place of the one at hand.
    fn take_up(&mut self, stored: ReadPolicy, now: StsClock) -> StoreRoom {
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
                evicted.iter().for_each(|domain| drop(self.stored.known.remove(domain)));
                self.stored.withdrawn.remove(&domain);
                self.stored.known.insert(domain, known);
                StoreRoom::Found
            }
            Keeping::NoRoom | Keeping::TooShort => StoreRoom::Lacking,
        }
    }

    /// The change that the store has to make.
    fn change_of(&self, domain: &Name, now: StsClock) -> PolicyChange {
        let is_shared = match self.stored.kind {
            StoreKind::File => false,
            StoreKind::Database => true,
        };
        match self.cache.kept(domain) {
            Some(kept) => {
                let date = self.stored.date_of(domain, &kept.fetched);
                let mut row = written(domain, kept);
                if is_shared && date.is_none() {
                    // The wall clock may have been set back since the fetch; then the steady one knows how long ago that was.
                    let age = self.cache.age(domain, now).unwrap_or_default().as_secs();
                    row.fetched = row.fetched.min(now.wall.saturating_sub(i64::try_from(age).unwrap_or(i64::MAX)));
                }
                let write = PolicyWrite { row, clock: host_clock(now), date };
                PolicyChange::Put { write, fetched: kept.fetched.clone() }
            }
            None if is_shared && !self.stored.withdrawn.contains(domain) => PolicyChange::Nothing,
            None => PolicyChange::Delete { date: self.stored.known.get(domain).map_or(0, |known| known.date) },
        }
    }
}

fn host_clock(StsClock { wall, steady }: StsClock) -> HostClock {
    HostClock { wall, steady: steady.into() }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::StsSettings;
    use super::*;
    use crate::mta_sts::StsUse;

    const DAY: u64 = 24 * 60 * 60;
    /// The date of the fetches that a test's store has.
    const DATE: i64 = 1_700_000_000;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn fetched(mode: &str, at: i64) -> FetchedPolicy {
        let text = format!("version: STSv1\nmode: {mode}\nmx: mx.example\nmax_age: 864000\n");
        let policy = Arc::new(StsPolicy::parse(text.as_bytes()).unwrap());
        FetchedPolicy { id: StsId::parse(b"1").unwrap(), policy, fetched: at }
    }

    /// Room for one policy, in a store of this kind.
    fn policies(kind: StoreKind) -> StsPolicies {
        let (usage, timeout, refresh) = (StsUse::Enforce, Duration::from_secs(10), Duration::from_secs(DAY));
        let policies = StsPolicies::in_memory(&StsSettings { usage, entries: 1, timeout, refresh });
        policies.state().stored.kind = kind;
        policies
    }

    fn keep(policies: &StsPolicies, domain: &Name, policy: &FetchedPolicy) {
        let now = policies.clock();
        policies.keep(&mut policies.state(), domain, policy, now);
    }

    /// A policy that was fetched here and that the store has now.
    fn write(policies: &StsPolicies, domain: &Name, policy: &FetchedPolicy) {
        keep(policies, domain, policy);
        settle(policies, domain, policy);
    }

    fn settle(policies: &StsPolicies, domain: &Name, policy: &FetchedPolicy) {
        let kept = KeptPolicy { fetched: policy.clone(), used: policy.fetched, failing_since: None };
        policies.settle(domain, policy, Some(DatedPolicy { row: written(domain, &kept), date: DATE }));
    }

    fn change(policies: &StsPolicies, domain: &Name) -> String {
        match policies.state().change_of(domain, policies.clock()) {
            PolicyChange::Put { write, .. } => {
                let age = write.clock.wall - write.row.fetched;
                write.date.map_or_else(|| format!("put of age {age}"), |date| format!("put of date {date}"))
            }
            PolicyChange::Delete { date } => format!("delete {date}"),
            PolicyChange::Nothing => "nothing".to_owned(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_its_own_domain_takes_a_policy_out_of_a_database() {
        // V29, P18. A file has the policies of one danelaw, and follows it.
        let (a, b) = (name("a.example"), name("b.example"));
        for (kind, not_its_word) in
            [(StoreKind::Database, "nothing".to_owned()), (StoreKind::File, format!("delete {DATE}"))]
        {
            let with = |mode: &str| {
                let policies = policies(kind);
                let policy = fetched(mode, policies.clock().wall);
                write(&policies, &a, &policy);
                (policies, policy)
            };
            // It makes room.
            let (evicting, policy) = with("testing");
            keep(&evicting, &b, &fetched("enforce", evicting.clock().wall));
            assert!(evicting.kept(&a).is_none());
            assert_eq!(change(&evicting, &a), not_its_word);
            // A note of its use was on the way to the store; then its domain's next policy finds no room.
            settle(&evicting, &a, &policy);
            keep(&evicting, &a, &fetched("testing", evicting.clock().wall));
            assert_eq!(change(&evicting, &a), not_its_word);
            // The store tells of it again, once there is room.
            evicting.state().cache.remove(&b);
            let kept = KeptPolicy { fetched: policy, used: 0, failing_since: None };
            let rows = vec![DatedPolicy { row: written(&a, &kept), date: DATE }];
            let changes = PolicyChanges { rows, ..PolicyChanges::default() };
            if let StoreKind::Database = kind {
                evicting.state().learn(changes, evicting.clock(), &mut NotTakenUp::default());
                assert_eq!(change(&evicting, &a), format!("put of date {DATE}"));
            }
            // It is swept.
            let (sweeping, _) = with("enforce");
            for days in [11_u64, 31] {
                tokio::time::advance(Duration::from_secs(days * DAY)).await;
                sweeping.due();
            }
            assert!(sweeping.kept(&a).is_none());
            assert_eq!(change(&sweeping, &a), not_its_word);
            // Its domain withdraws it, also while the store hears of its use.
            let (withdrawing, policy) = with("none");
            withdrawing.drop_withdrawn(&a);
            assert_eq!(change(&withdrawing, &a), format!("delete {DATE}"));
            settle(&withdrawing, &a, &policy);
            assert_eq!(change(&withdrawing, &a), format!("delete {DATE}"));
            withdrawing.state().stored.deleted(&a);
            if let StoreKind::Database = kind {
                assert_eq!(change(&withdrawing, &a), "nothing");
            }
            // Its domain has one that holds for no time.
            let (ending, policy) = with("enforce");
            let text = b"version: STSv1\nmode: enforce\nmx: mx.example\nmax_age: 0\n";
            keep(&ending, &a, &FetchedPolicy { policy: Arc::new(StsPolicy::parse(text).unwrap()), ..policy });
            assert_eq!(change(&ending, &a), format!("delete {DATE}"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_corrected_makes_no_old_policy_the_newest() {
        // V29, P18: with a date of the store, and without one while the store does not answer.
        let a = name("a.example");
        for is_written in [true, false] {
            let policies = policies(StoreKind::Database);
            policies.set_clock_ahead(365 * 86_400);
            let policy = fetched("testing", policies.clock().wall);
            keep(&policies, &a, &policy);
            if is_written {
                settle(&policies, &a, &policy);
            }
            policies.set_clock_ahead(0);
            let expected = if is_written { format!("put of date {DATE}") } else { format!("put of age {}", 2 * DAY) };
            tokio::time::advance(Duration::from_secs(2 * DAY)).await;
            assert_eq!(change(&policies, &a), expected);
            policies.due();
            assert!(policies.kept(&a).unwrap().fetched <= policies.clock().wall, "it is corrected");
            assert_eq!(change(&policies, &a), expected);
        }
    }
}
