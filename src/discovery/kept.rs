//! The kept policies and the fetches that go on, for as long as danelaw runs: a change of the configuration leaves them.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::{Mutex, MutexGuard};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::time::timeout;

use super::fetch::{FetchId, PendingFetch};
use super::places::FetchPlaces;
use super::stored::{StoredPolicies, UnreadPolicies};
use super::{StsInForce, StsSettings, StsSource, in_force};
use crate::dns::Failure;
use crate::mta_sts::cache::{FailingSince, FetchedPolicy, Keeping, KeptPolicy, Lapse, StsCache, StsClock};
use crate::mta_sts::{StsFetchError, StsId, StsMode, StsPolicy};
use crate::name::Name;
use crate::store::{Error, OpenError, Store};

/// How long after a fetch a domain's policy is not fetched again for a failure (RFC 8461 §3.3).
pub(super) const PAUSE: Duration = Duration::from_secs(5 * 60);
/// How many failures are remembered.
const MAX_FAILURES: usize = 10_000;
/// The words of the lookups of TXT records.
const LOOKUPS: [&str; 5] = ["found", "absent", "several", "malformed", "failed"];

/// The numbers for metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StsFigures {
    /// Lookups of TXT records, by result.
    pub lookups: Vec<(&'static str, u64)>,
    /// Fetches, by result.
    pub fetches: Vec<(&'static str, u64)>,
    /// Policies in force, by mode.
    pub policies: Vec<(&'static str, usize)>,
    /// Policies of mode `enforce` or `testing` that cannot be fetched anew for a day or more.
    pub failing: usize,
}

/// A kept policy as the admin port tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningPolicy {
    /// The id that it was fetched under.
    pub id: String,
    /// Its mode.
    pub mode: String,
    /// When it was fetched, in seconds since 1970.
    pub fetched: i64,
    /// Its text.
    pub body: String,
}

/// All policies that are kept. Clones share everything.
#[derive(Clone)]
pub struct StsPolicies {
    pub(super) inner: Arc<PoliciesInner>,
}

pub(super) struct PoliciesInner {
    state: Mutex<StsState>,
    pub(super) store: Option<Store>,
    /// Held for a write, so that the last state of a domain is written last.
    pub(super) writing: tokio::sync::Mutex<()>,
    pub(super) places: FetchPlaces,
    /// How far the wall clock is ahead of the host's, in seconds: 0 except in tests.
    ahead: AtomicI64,
    lookups: [AtomicU64; LOOKUPS.len()],
    fetches: [AtomicU64; StsFetchError::RESULTS.len()],
}

pub(super) struct StsState {
    pub(super) cache: StsCache,
    pub(super) pending: HashMap<Name, PendingFetch>,
    failures: HashMap<Name, FetchFailure>,
    /// The domains with a kept policy whose TXT lookup failed last, so that this is told once.
    unlogged: HashSet<Name>,
    pub(super) stored: StoredPolicies,
}

/// A fetch that failed.
struct FetchFailure {
    id: StsId,
    error: StsFetchError,
    at: Instant,
}

/// How long a start waits for the policies of a database. Those that come later are read beside the mail.
const FIRST_READ: Duration = Duration::from_secs(3);

impl StsPolicies {
    /// No policy yet; those that come end with the process.
    pub fn in_memory(settings: &StsSettings) -> Self {
        Self::of(StsCache::new(settings.entries, settings.refresh), None)
    }

    /// Reads the policies of the store. Without one they end with the process, and each start trusts the first contact anew. A
    /// database may be down: then its policies come later, by [`Self::learn`].
    ///
    /// # Errors
    /// A file cannot be read, or a policy in the store. None is ever left out because of that: mail would go without it.
    pub async fn open(store: Option<Store>, settings: &StsSettings) -> Result<Self, OpenError> {
        let policies = Self::of(StsCache::new(settings.entries, settings.refresh), store);
        let Some(store) = &policies.inner.store else { return Ok(policies) };
        let read = policies.read(store);
        let read = match store.is_shared() {
            // A database that is slow delays no start.
            true => timeout(FIRST_READ, read).await.unwrap_or(Err(UnreadPolicies::Store(Error::Down))),
            false => read.await,
        };
        match read {
            Ok(()) => {}
            Err(UnreadPolicies::Policy(error)) => return Err(error),
            Err(UnreadPolicies::Store(error)) if store.is_shared() => {
                tracing::warn!(%error, "the MTA-STS policies of the store cannot be read yet; until then each first contact is trusted");
            }
            Err(UnreadPolicies::Store(error)) => return Err(OpenError::library(None, error)),
        }
        Ok(policies)
    }

    fn of(cache: StsCache, store: Option<Store>) -> Self {
        let state = StsState {
            cache,
            pending: HashMap::new(),
            failures: HashMap::new(),
            unlogged: HashSet::new(),
            stored: StoredPolicies::default(),
        };
        let inner = PoliciesInner {
            state: Mutex::new(state),
            store,
            writing: tokio::sync::Mutex::new(()),
            places: FetchPlaces::new(),
            ahead: AtomicI64::new(0),
            lookups: [const { AtomicU64::new(0) }; LOOKUPS.len()],
            fetches: [const { AtomicU64::new(0) }; StsFetchError::RESULTS.len()],
        };
        Self { inner: Arc::new(inner) }
    }

    /// Whether the policies outlive the process.
    pub fn are_stored(&self) -> bool {
        self.inner.store.is_some()
    }

    /// The numbers for metrics.
    pub fn figures(&self) -> StsFigures {
        let now = self.clock();
        let state = self.state();
        let count = |count: &AtomicU64| count.load(Relaxed);
        StsFigures {
            lookups: LOOKUPS.into_iter().zip(self.inner.lookups.iter().map(count)).collect(),
            fetches: StsFetchError::RESULTS.into_iter().zip(self.inner.fetches.iter().map(count)).collect(),
            policies: state.cache.counts(now).map(|(mode, count)| (mode.as_str(), count)).into(),
            failing: state.cache.failing(now),
        }
    }

    pub(super) fn set_bounds(&self, settings: &StsSettings) {
        self.state().cache.set_bounds(settings.entries, settings.refresh);
    }

    /// The kept policy of a domain, if it is in force; a mail uses it.
    pub(super) fn in_force(&self, domain: &Name, source: StsSource) -> Option<StsInForce> {
        let (now, mut state) = (self.clock(), self.state());
        let age = state.cache.age(domain, now)?;
        let found = in_force(state.cache.in_force(domain, now)?, age, source);
        if state.cache.touch(domain, now) {
            self.persist_later(domain.clone());
        }
        Some(found)
    }

    /// The kept policy of a domain, if it is in force. This is no use of it.
    pub fn running(&self, domain: &Name) -> Option<RunningPolicy> {
        let (now, state) = (self.clock(), self.state());
        let FetchedPolicy { id, policy, fetched } = state.cache.in_force(domain, now)?;
        let (id, mode) = (id.as_str().to_owned(), policy.mode().as_str().to_owned());
        let body = String::from_utf8_lossy(policy.body()).into_owned();
        Some(RunningPolicy { id, mode, fetched: *fetched, body })
    }

    /// The same, if it was fetched under this id. A mail uses one of another id too, unless a fetch replaces it.
    pub(super) fn in_force_under(&self, domain: &Name, id: &StsId, source: StsSource) -> Option<StsInForce> {
        self.in_force(domain, source).filter(|found| found.id == *id)
    }

    /// Notes that a mail uses the policy of a domain.
    pub(super) fn note_use(&self, domain: &Name) {
        if self.state().cache.touch(domain, self.clock()) {
            self.persist_later(domain.clone());
        }
    }

    /// The policy of a domain, if no fetch was tried within the last five minutes.
    pub(super) fn stale(&self, domain: &Name) -> Option<FetchedPolicy> {
        let (now, state) = (self.clock(), self.state());
        let failed = state.failures.get(domain).is_some_and(|failure| failure.is_recent(now));
        let is_fresh = state.cache.age(domain, now)? < PAUSE;
        if failed || is_fresh { None } else { state.cache.in_force(domain, now).cloned() }
    }

    /// Drops the policy of a domain that has no TXT record, if its mode is `none`: the domain has withdrawn MTA-STS (RFC 8461
    /// §8.3).
    pub(super) fn drop_withdrawn(&self, domain: &Name) {
        let mut state = self.state();
        let is_none = |kept: &KeptPolicy| kept.fetched.policy.mode() == StsMode::None;
        if state.cache.kept(domain).is_some_and(is_none) {
            state.cache.remove(domain);
            state.stored.withdrawn(domain);
            self.persist_later(domain.clone());
        }
    }

    /// Tells of mail to a domain whose policy of mode `enforce` has expired, where no other was found: once a day.
    pub(super) fn note_lapse(&self, domain: &Name) {
        let lapse = self.state().cache.lapsed(domain, self.clock());
        if let Some(Lapse { id, since, failing_since }) = lapse {
            let day = |at| OffsetDateTime::from_unix_timestamp(at).ok().map(|at| at.date().to_string());
            let (since, failing_since) = (day(since), failing_since.and_then(day));
            tracing::warn!(
                %domain, %id, since, failing_since, kind = "sts-lapsed",
                "the MTA-STS policy of mode enforce has expired, and no other is found"
            );
        }
    }

    /// Counts a lookup of a TXT record that had an answer.
    pub(super) fn note_lookup(&self, domain: &Name, label: &str) {
        self.count_lookup(label);
        self.state().unlogged.remove(domain);
    }

    /// Counts a lookup that failed, and tells it once for a domain whose policy is kept.
    pub(super) fn note_failed_lookup(&self, domain: &Name, failure: &Failure) {
        self.count_lookup("failed");
        let mut state = self.state();
        if state.cache.in_force(domain, self.clock()).is_none() {
            tracing::warn!(%domain, %failure, "it is not known whether the domain has an MTA-STS policy");
        } else if state.unlogged.insert(domain.clone()) {
            tracing::warn!(%domain, %failure, "it is not known whether the MTA-STS policy has changed; the kept one holds");
        }
    }

    /// The failure of the last fetch for this id, if that is not long ago.
    pub(super) fn recent_failure(&self, state: &StsState, domain: &Name, id: &StsId) -> Option<StsFetchError> {
        let failure = state.failures.get(domain)?;
        (failure.id == *id && failure.is_recent(self.clock())).then(|| failure.error.clone())
    }

    /// Takes up the end of a fetch.
    pub(super) fn finish(
        &self,
        domain: &Name,
        id: FetchId,
        fetched: Result<StsPolicy, StsFetchError>,
    ) -> Result<FetchedPolicy, StsFetchError> {
        let label = fetched.as_ref().map_or_else(StsFetchError::as_str, |_| "ok");
        count(&StsFetchError::RESULTS, &self.inner.fetches, label);
        let now = self.clock();
        let mut state = self.state();
        match fetched {
            Ok(policy) => {
                if let FetchId::Seen(id) = &id {
                    state.tell_change(domain, id, &policy);
                }
                let (id, policy) = (id.id().clone(), Arc::new(policy));
                let fetched = FetchedPolicy { id, policy, fetched: now.wall };
                self.keep(&mut state, domain, &fetched, now);
                Ok(fetched)
            }
            // The policy host was not asked, so nothing is known of it.
            Err(error @ (StsFetchError::Busy | StsFetchError::Scarce(_))) => {
                let in_force = state.cache.in_force(domain, now).is_some();
                tracing::warn!(%domain, fetch = label, %error, in_force, "the MTA-STS policy was not fetched, for a lack of this host's");
                Err(error)
            }
            Err(error) => {
                let failure = FetchFailure { id: id.id().clone(), error: error.clone(), at: now.steady };
                if state.fail(domain, failure, now) == Some(FailingSince::Begins) {
                    self.persist_later(domain.clone());
                }
                Err(error)
            }
        }
    }

    pub(super) fn keep(&self, state: &mut StsState, domain: &Name, fetched: &FetchedPolicy, now: StsClock) {
        state.failures.remove(domain);
        let was_kept = state.cache.kept(domain).is_some();
        match state.cache.put(domain, fetched.clone(), now) {
            Keeping::Kept(evicted) => {
                state.stored.not_withdrawn(domain);
                evicted.into_iter().for_each(|domain| self.let_go(state, domain));
            }
            Keeping::TooShort if was_kept => state.stored.withdrawn(domain),
            Keeping::TooShort => {}
            Keeping::NoRoom => {
                tracing::warn!(%domain, "there is no room for an MTA-STS policy, so it holds for this mail only, and one that was kept before stays: raise mta_sts.entries");
            }
        }
        self.persist_later(domain.clone());
    }

    /// Drops policies that have been expired for long, corrects dates, and returns the domains that are due.
    pub(super) fn due(&self) -> Vec<Name> {
        let (now, mut state) = (self.clock(), self.state());
        let corrected = state.correct_dates(now);
        if !corrected.is_empty() {
            tracing::warn!(
                policies = corrected.len(),
                "MTA-STS policies have a date that has not come yet, so the clock was ahead; they count as fetched now"
            );
        }
        let swept = state.cache.sweep(now);
        let StsState { cache, unlogged, .. } = &mut *state;
        unlogged.retain(|domain| cache.kept(domain).is_some());
        swept.into_iter().for_each(|domain| self.let_go(&mut state, domain));
        corrected.into_iter().for_each(|domain| self.persist_later(domain));
        state.cache.due(now)
    }

    /// The policy of a domain, in force or not.
    pub(super) fn kept(&self, domain: &Name) -> Option<FetchedPolicy> {
        self.state().cache.kept(domain).map(|kept| kept.fetched.clone())
    }

    /// The time by both clocks. The steady one is the runtime's, which a test may stop.
    pub(super) fn clock(&self) -> StsClock {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = i64::try_from(wall.as_secs()).unwrap_or(i64::MAX).saturating_add(self.inner.ahead.load(Relaxed));
        StsClock { steady: tokio::time::Instant::now().into_std(), wall }
    }

    /// Sets the wall clock of these policies ahead of the host's, by seconds. This is for tests of a wrong clock.
    pub fn set_clock_ahead(&self, seconds: i64) {
        self.inner.ahead.store(seconds, Relaxed);
    }

    fn count_lookup(&self, label: &str) {
        count(&LOOKUPS, &self.inner.lookups, label);
    }

    pub(super) fn state(&self) -> MutexGuard<'_, StsState> {
        // Entries are put in and taken out whole.
        self.inner.state.lock()
    }
}

impl StsState {
    /// Tells of a policy that has changed under the id that the TXT record has now as before.
    fn tell_change(&self, domain: &Name, id: &StsId, policy: &StsPolicy) {
        let before = self.cache.kept(domain).map(|kept| &kept.fetched);
        if before.is_some_and(|before| before.id == *id && before.policy.body() != policy.body()) {
            tracing::info!(%domain, %id, kind = "id-unchanged", "the MTA-STS policy has changed under the same id");
        }
    }

    fn fail(&mut self, domain: &Name, failure: FetchFailure, now: StsClock) -> Option<FailingSince> {
        let in_force = self.cache.in_force(domain, now).is_some();
        // In quotes, as it may have words of the policy host: they are no other field of the line.
        let (fetch, error) = (failure.error.as_str(), failure.error.to_string());
        let since = self.cache.failed(domain, now);
        match since {
            Some(FailingSince::Tell(since)) => {
                let hours = now.wall.saturating_sub(since) / 3600;
                tracing::warn!(%domain, fetch, error, hours, in_force, "the MTA-STS policy cannot be fetched anew");
            }
            Some(FailingSince::Begins | FailingSince::Quiet) => {
                tracing::info!(%domain, fetch, error, in_force, "the MTA-STS policy cannot be fetched anew");
            }
            None => {
                tracing::warn!(%domain, fetch, error, "the MTA-STS policy cannot be fetched; mail goes as if there were none");
            }
        }
        if self.failures.len() >= MAX_FAILURES {
            self.failures.retain(|_, failure| failure.is_recent(now));
        }
        if self.failures.len() >= MAX_FAILURES
            && let Some(any) = self.failures.keys().next().cloned()
        {
            self.failures.remove(&any);
        }
        self.failures.insert(domain.clone(), failure);
        since
    }
}

impl FetchFailure {
    fn is_recent(&self, now: StsClock) -> bool {
        now.steady.saturating_duration_since(self.at) < PAUSE
    }
}

fn count(words: &[&str], counts: &[AtomicU64], label: &str) {
    if let Some((_, count)) = words.iter().zip(counts).find(|(word, _)| **word == label) {
        count.fetch_add(1, Relaxed);
    }
}

impl fmt::Debug for StsPolicies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StsPolicies").field("are_stored", &self.are_stored()).finish_non_exhaustive()
    }
}
