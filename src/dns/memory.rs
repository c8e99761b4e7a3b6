//! The results of lookups, finished and in flight: of names, and of the zones that they lie in.
//!
//! A mail run asks for the same hosts from many sessions in the same moment. The first session starts the lookup in a
//! task of its own, so that a session that ends does not end the lookup. Each session that asks before the end gets the
//! same result. Then the result is kept for as long as its records allow (RFC 6698 §8.2), and a failure for a short
//! time (RFC 9520 §3.2), so that a broken zone is not asked for by every session again.
//!
//! A result belongs to the [epoch](super::fitness) in which its question was asked. In another epoch it is neither kept,
//! nor recalled, nor waited for.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::answers::DnsResult;
use super::cache::{Cache, CacheBounds, ClockReading, EntryWeight, WithTtl};
use super::fitness::{Epoch, Fitness};
use super::reply::Data;
use super::{Alias, FailureReason, Lookup, MxTarget};

/// The result of a lookup in flight, once it is known.
type Pending<T> = watch::Receiver<Option<Arc<DnsResult<T>>>>;

/// Keeps results, and lets callers with the same question share one lookup. Clones share everything.
pub(super) struct Memory<K, T> {
    inner: Arc<MemoryInner<K, T>>,
}

struct MemoryInner<K, T> {
    counts: Counts,
    fitness: Arc<Fitness>,
    finished: Cache<K, Dated<T>>,
    in_flight: Mutex<HashMap<InFlightKey<K>, Pending<T>>>,
}

/// A question, and the epoch in which it is asked.
#[derive(Clone, PartialEq, Eq, Hash)]
struct InFlightKey<K> {
    key: K,
    epoch: Epoch,
}

/// A result, and the epoch in which its question was asked.
struct Dated<T> {
    found: Arc<DnsResult<T>>,
    epoch: Epoch,
}

/// How often each thing happened since the start.
#[derive(Default)]
struct Counts {
    remembered: AtomicU64,
    joined: AtomicU64,
    asked: AtomicU64,
}

impl<K, T> Clone for Memory<K, T> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<K, T> Memory<K, T>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    T: EntryWeight + Send + Sync + 'static,
{
    /// An empty memory, of one epoch that never ends.
    pub(super) fn new(bounds: CacheBounds) -> Self {
        Self::of(bounds, Arc::default())
    }

    /// An empty memory of the words of servers with these epochs.
    pub(super) fn of(bounds: CacheBounds, fitness: Arc<Fitness>) -> Self {
        let (counts, finished, in_flight) = (Counts::default(), Cache::new(bounds), Mutex::default());
        Self { inner: Arc::new(MemoryInner { counts, fitness, finished, in_flight }) }
    }

    /// The counts of questions that were answered from memory, joined a lookup in flight, and were asked.
    pub(super) fn counts(&self) -> [u64; 3] {
        let Counts { remembered, joined, asked } = &self.inner.counts;
        [remembered, joined, asked].map(|count| count.load(Relaxed))
    }

    /// The result that is kept, if there is one of the current epoch.
    pub(super) fn recall(&self, key: &K) -> Option<Arc<DnsResult<T>>> {
        let kept = self.inner.finished.get(key, now())?;
        (kept.epoch == self.inner.fitness.epoch()).then(|| Arc::clone(&kept.found))
    }

    /// Drops the result.
    pub(super) fn forget(&self, key: &K) {
        self.inner.finished.remove(key);
    }

    /// The result that is kept; else that of the lookup in flight; else that of `make`, which also says how long it
    /// holds.
    pub(super) async fn find<M, F>(&self, key: K, make: M) -> Arc<DnsResult<T>>
    where
        M: FnOnce(K) -> F,
        F: Future<Output = (DnsResult<T>, Duration)> + Send + 'static,
    {
        if let Some(found) = self.recall(&key) {
            self.inner.counts.remembered.fetch_add(1, Relaxed);
            return found;
        }
        let epoch = self.inner.fitness.epoch();
        let mut pending = self.join(InFlightKey { key, epoch }, make);
        match pending.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(found)) => Arc::clone(found),
            // The task has ended without a result: it panicked, or the program ends.
            Ok(None) | Err(_) => Arc::new(Err(FailureReason::Network("the lookup was given up".to_owned()))),
        }
    }

    /// The lookup that is under way, or a new one.
    fn join<M, F>(&self, asked: InFlightKey<K>, make: M) -> Pending<T>
    where
        M: FnOnce(K) -> F,
        F: Future<Output = (DnsResult<T>, Duration)> + Send + 'static,
    {
        let mut in_flight = self.inner.in_flight.lock();
        if let Some(pending) = in_flight.get(&asked) {
            self.inner.counts.joined.fetch_add(1, Relaxed);
            return pending.clone();
        }
        let (sender, pending) = watch::channel(None);
        // The lookup may have ended between the look at the finished ones and the look at those in flight.
        if let Some(found) = self.recall(&asked.key) {
            sender.send_replace(Some(found));
            return pending;
        }
        self.inner.counts.asked.fetch_add(1, Relaxed);
        in_flight.insert(asked.clone(), pending.clone());
        let lookup = make(asked.key.clone());
        let guard = InFlightGuard { inner: Arc::clone(&self.inner), asked };
        drop(in_flight);
        tokio::spawn(async move {
            let (found, ttl) = lookup.await;
            // RFC 9520 §2 is about failures of name servers. That there was no socket to ask them is none.
            let ttl = if matches!(found, Err(FailureReason::Scarce(_))) { Duration::ZERO } else { ttl };
            let found = Arc::new(found);
            guard.keep(&found, ttl);
            drop(guard);
            sender.send_replace(Some(found));
        });
        pending
    }
}

/// The time by both clocks.
pub(super) fn now() -> ClockReading {
    ClockReading { steady: Instant::now(), wall: SystemTime::now() }
}

/// Takes a lookup off the list of those that are under way, however it ends.
struct InFlightGuard<K: Eq + Hash, T> {
    inner: Arc<MemoryInner<K, T>>,
    asked: InFlightKey<K>,
}

impl<K: Clone + Eq + Hash, T: EntryWeight> InFlightGuard<K, T> {
    /// Keeps the result, unless another epoch has begun since the question was asked.
    fn keep(&self, found: &Arc<DnsResult<T>>, ttl: Duration) {
        let epoch = self.asked.epoch;
        if epoch == self.inner.fitness.epoch() {
            let value = Arc::new(Dated { found: Arc::clone(found), epoch });
            self.inner.finished.put(self.asked.key.clone(), WithTtl { value, ttl }, now());
        }
    }
}

impl<K: Eq + Hash, T> Drop for InFlightGuard<K, T> {
    fn drop(&mut self) {
        self.inner.in_flight.lock().remove(&self.asked);
    }
}

impl<T: EntryWeight> EntryWeight for Dated<T> {
    fn octets(&self) -> usize {
        size_of::<Self>() + self.found.octets()
    }
}

impl<T: EntryWeight> EntryWeight for DnsResult<T> {
    fn octets(&self) -> usize {
        let inside = match self {
            Ok(value) => value.octets(),
            Err(FailureReason::Bogus(text) | FailureReason::Refused(text)) => text.len(),
            Err(FailureReason::Network(text) | FailureReason::Malformed(text)) => text.len(),
            Err(
                FailureReason::Timeout
                | FailureReason::TooManyAliases(_)
                | FailureReason::TooManyRecords(_)
                | FailureReason::Scarce(_)
                | FailureReason::NotValidating
                | FailureReason::DeniedByFallback
                | FailureReason::NameTooLong,
            ) => 0,
        };
        size_of::<Self>() + inside
    }
}

impl EntryWeight for Lookup<Data> {
    fn octets(&self) -> usize {
        let records = self.answer.records();
        let records: usize = records.iter().map(|data| size_of::<Data>() + data.octets()).sum();
        let link = |alias: &Alias| size_of::<Alias>() + alias.owner.as_str().len() + alias.target.as_str().len();
        self.asked.as_str().len() + records + self.aliases.iter().map(link).sum::<usize>()
    }
}

impl Data {
    /// The octets that it holds outside of itself. Denials and delegations are never kept here.
    fn octets(&self) -> usize {
        match self {
            Self::Mx(mx) => match &mx.target {
                MxTarget::Root => 0,
                MxTarget::Host(name) => name.as_str().len(),
                MxTarget::Invalid(text) => text.len(),
            },
            Self::Tlsa(tlsa) => tlsa.0.len(),
            Self::Txt(txt, text) => txt.0.len() + text.octets(),
            Self::Ds(_, text) | Self::Other(text) => text.octets(),
            Self::Address(_) | Self::Alias(_) | Self::Nsec(_) | Self::Nsec3(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::super::reply::Rtype;
    use super::super::{Answer, Finality, Security};
    use super::*;
    use crate::name::Name;
    use crate::scarce::Scarcity;

    type TestKey = (Name, Rtype);
    type Lookups = Memory<TestKey, Lookup<Data>>;

    const MINUTE: Duration = Duration::from_secs(60);

    fn memory() -> Lookups {
        Memory::new(CacheBounds { entries: 100, octets: 100_000 })
    }

    fn key() -> TestKey {
        (Name::parse("mx.test").unwrap(), Rtype::A)
    }

    fn no_data() -> DnsResult<Lookup<Data>> {
        let (aliases, answer) = (vec![], Answer::NoData);
        Ok(Lookup { asked: key().0, aliases, end: Security::Secure, answer, finality: Finality::Final })
    }

    #[tokio::test]
    async fn questions_at_the_same_time_are_asked_once() {
        let (memory, made, go) = (memory(), Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let asking: Vec<_> = (0..100)
            .map(|_| {
                let (memory, made, go) = (memory.clone(), Arc::clone(&made), Arc::clone(&go));
                let make = move |_| async move {
                    made.fetch_add(1, Ordering::SeqCst);
                    go.notified().await;
                    (no_data(), Duration::ZERO)
                };
                tokio::spawn(async move { memory.find(key(), make).await })
            })
            .collect();
        tokio::task::yield_now().await;
        go.notify_one();
        for asked in asking {
            assert_eq!(*asked.await.unwrap(), no_data());
        }
        assert_eq!(made.load(Ordering::SeqCst), 1);
        assert!(memory.inner.in_flight.lock().is_empty());
    }

    #[tokio::test]
    async fn the_first_caller_may_go_away() {
        let (memory, go) = (memory(), Arc::new(Notify::new()));
        let make = |go: Arc<Notify>| {
            move |_| async move {
                go.notified().await;
                (no_data(), MINUTE)
            }
        };
        let first = tokio::spawn({
            let (memory, make) = (memory.clone(), make(Arc::clone(&go)));
            async move { memory.find(key(), make).await }
        });
        tokio::task::yield_now().await;
        first.abort();
        assert!(first.await.is_err());
        let never = |_| async { unreachable!("it is under way") };
        let second = tokio::spawn({
            let memory = memory.clone();
            async move { memory.find(key(), never).await }
        });
        tokio::task::yield_now().await;
        go.notify_one();
        assert_eq!(*second.await.unwrap(), no_data());
    }

    #[tokio::test]
    async fn a_lookup_that_breaks_down_is_a_failure_and_no_more() {
        let memory = memory();
        let breaks = |_| async { panic!("as a bug would") };
        assert!(matches!(*memory.find(key(), breaks).await, Err(FailureReason::Network(_))));
        // The next one is made afresh.
        assert_eq!(*memory.find(key(), |_| async { (no_data(), MINUTE) }).await, no_data());
        let never = |_| async { unreachable!("it is remembered") };
        assert_eq!(*memory.find(key(), never).await, no_data());
    }

    #[tokio::test]
    async fn a19_a_failure_is_remembered_as_one() {
        // A19.
        let memory = memory();
        let timeout: DnsResult<_> = Err(FailureReason::Timeout);
        memory.find(key(), |_| async { (Err(FailureReason::Timeout), MINUTE) }).await;
        let never = |_| async { unreachable!("it is remembered") };
        assert_eq!(*memory.find(key(), never).await, timeout);
    }

    #[tokio::test]
    async fn a_result_belongs_to_the_epoch_of_its_question() {
        let fitness = Arc::new(Fitness::default());
        let memory = Lookups::of(CacheBounds { entries: 100, octets: 100_000 }, Arc::clone(&fitness));
        memory.find(key(), |_| async { (Err(FailureReason::Timeout), MINUTE) }).await;
        assert!(memory.recall(&key()).is_some());
        fitness.advance();
        assert!(memory.recall(&key()).is_none(), "an entry of the epoch before");
        // The epoch ends while the question is under way. A caller of the new epoch asks for itself.
        let go = Arc::new(Notify::new());
        let waits = Arc::clone(&go);
        let slow = |_| async move {
            waits.notified().await;
            (Err(FailureReason::Timeout), MINUTE)
        };
        let first = tokio::spawn({
            let memory = memory.clone();
            async move { memory.find(key(), slow).await }
        });
        tokio::task::yield_now().await;
        fitness.advance();
        assert_eq!(*memory.find(key(), |_| async { (no_data(), MINUTE) }).await, no_data());
        go.notify_one();
        assert_eq!(*first.await.unwrap(), Err(FailureReason::Timeout));
        // The late result does not take the place of the new one.
        let never = |_| async { unreachable!("it is remembered") };
        assert_eq!(*memory.find(key(), never).await, no_data());
        assert!(memory.inner.in_flight.lock().is_empty());
    }

    #[tokio::test]
    async fn a_fault_of_this_host_is_not_kept() {
        let memory = memory();
        let scarce = FailureReason::Scarce(Scarcity::OwnDescriptors);
        let failed =
            memory.find(key(), |_| async move { (Err(FailureReason::Scarce(Scarcity::OwnDescriptors)), MINUTE) });
        assert_eq!(*failed.await, Err(scarce));
        assert_eq!(*memory.find(key(), |_| async { (no_data(), MINUTE) }).await, no_data());
    }
}
