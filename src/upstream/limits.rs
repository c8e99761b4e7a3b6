//! The limits on connections: to one address, for one domain, and in all.
//!
//! A connection holds its [`Permits`] from before the connection attempt until its socket is closed, QUIT included.

use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::shards::Shards;
use crate::name::Name;
use crate::refusal::Cap;

/// The time that a transaction waits for a permit before it is refused.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// The most connections at a time.
#[derive(Debug, Clone, Copy)]
pub struct MaxConnections {
    /// To one address.
    pub per_host: usize,
    /// For mail to one domain.
    pub per_domain: usize,
    /// In all.
    pub in_all: usize,
}

/// The connections that are open, counted against the limits.
#[derive(Debug)]
pub struct ConnectionLimits {
    most: MaxConnections,
    hosts: Counter<IpAddr>,
    domains: Counter<Name>,
    all: Arc<Semaphore>,
}

/// The right to one connection.
#[derive(Debug)]
pub struct Permits {
    _host: KeyedPermit<IpAddr>,
    _all: OwnedSemaphorePermit,
    domain: Option<DomainPermit>,
}

/// The right of one transaction to have connections, one of them in use at a time.
pub type DomainPermit = Arc<KeyedPermit<Name>>;

impl Permits {
    /// Counts the connection for the domain of this transaction, or for none.
    pub(super) fn serve(&mut self, domain: Option<DomainPermit>) {
        self.domain = domain;
    }
}

impl ConnectionLimits {
    /// Limits without a connection yet.
    pub fn new(most: MaxConnections) -> Self {
        Self {
            most,
            hosts: Counter::new(most.per_host),
            domains: Counter::new(most.per_domain),
            all: semaphore(most.in_all),
        }
    }

    /// The connections that are open or reserved, and how many may be, over all hosts and domains.
    pub fn in_all(&self) -> [usize; 2] {
        [self.most.in_all.saturating_sub(self.all.available_permits()), self.most.in_all]
    }

    /// Admits a transaction, as soon as there is room for the domain.
    pub(super) async fn domain(&self, domain: &Name) -> Result<DomainPermit, Cap> {
        let until = Instant::now() + PATIENCE;
        self.domains.permit(domain, until).await.map(Arc::new).ok_or(Cap::Domain(self.most.per_domain))
    }

    /// The limit for which a connection would have to wait, if there is one.
    pub(super) fn full(&self, address: IpAddr) -> Option<Cap> {
        if self.hosts.is_full(&address) {
            return Some(Cap::Host(self.most.per_host));
        }
        (self.all.available_permits() == 0).then_some(Cap::All(self.most.in_all))
    }

    /// Admits a connection, as soon as there is room for the host and in all.
    pub(super) async fn connection(
        &self,
        address: IpAddr,
        domain: Option<&DomainPermit>,
        until: Instant,
    ) -> Result<Permits, Cap> {
        let until = until.min(Instant::now() + PATIENCE);
        let host = self.hosts.permit(&address, until).await.ok_or(Cap::Host(self.most.per_host))?;
        let all = permit(&self.all, until).await.ok_or(Cap::All(self.most.in_all))?;
        Ok(Permits { _host: host, _all: all, domain: domain.map(Arc::clone) })
    }
}

/// Counts by key. A key without a holder and without a waiter takes no memory.
#[derive(Debug)]
struct Counter<K> {
    most: usize,
    counted: Arc<Shards<K, Arc<Semaphore>>>,
}

/// One of a key's permits.
#[derive(Debug)]
pub struct KeyedPermit<K: Eq + Hash> {
    // Dropped before the place, so that it is given back when the place is looked at.
    _permit: OwnedSemaphorePermit,
    _place: PermitPlace<K>,
}

/// A holder or waiter of a key.
#[derive(Debug)]
struct PermitPlace<K: Eq + Hash> {
    key: K,
    semaphore: Arc<Semaphore>,
    counted: Arc<Shards<K, Arc<Semaphore>>>,
}

impl<K: Eq + Hash + Clone> Counter<K> {
    fn new(most: usize) -> Self {
        Self { most, counted: Arc::new(Shards::new()) }
    }

    fn is_full(&self, key: &K) -> bool {
        self.counted.of(key).get(key).is_some_and(|semaphore| semaphore.available_permits() == 0)
    }

    async fn permit(&self, key: &K, until: Instant) -> Option<KeyedPermit<K>> {
        let semaphore = Arc::clone(self.counted.of(key).entry(key.clone()).or_insert_with(|| semaphore(self.most)));
        let place = PermitPlace { key: key.clone(), semaphore, counted: Arc::clone(&self.counted) };
        let permit = permit(&place.semaphore, until).await?;
        Some(KeyedPermit { _permit: permit, _place: place })
    }
}

impl<K: Eq + Hash> Drop for PermitPlace<K> {
    fn drop(&mut self) {
        let mut counted = self.counted.of(&self.key);
        // The map's and ours. A task that wants one more must take the lock first.
        if Arc::strong_count(&self.semaphore) == 2 {
            counted.remove(&self.key);
        }
    }
}

fn semaphore(most: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)))
}

async fn permit(semaphore: &Arc<Semaphore>, until: Instant) -> Option<OwnedSemaphorePermit> {
    // It is never closed, so that only the time can run out.
    tokio::time::timeout_at(until, Arc::clone(semaphore).acquire_owned()).await.ok()?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_the_limits_and_no_key_left_behind() {
        //
        let limits = ConnectionLimits::new(MaxConnections { per_host: 2, per_domain: 3, in_all: 3 });
        let (one, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let domain = limits.domain(&name("example")).await.unwrap();
        let far = Instant::now() + Duration::from_secs(1000);
        let first = limits.connection(one, Some(&domain), far).await.unwrap();
        let second = limits.connection(one, Some(&domain), far).await.unwrap();
        let began = Instant::now();
        assert_eq!(limits.connection(one, Some(&domain), far).await.unwrap_err(), Cap::Host(2));
        assert_eq!(began.elapsed(), PATIENCE);
        // The wait ends with the time.
        let soon = Instant::now() + Duration::from_secs(1);
        assert_eq!(limits.connection(one, Some(&domain), soon).await.unwrap_err(), Cap::Host(2));
        // Another address has room, until there are too many in all.
        let third = limits.connection(other, Some(&domain), far).await.unwrap();
        assert_eq!(limits.connection(other, Some(&domain), far).await.unwrap_err(), Cap::All(3));
        // A waiter gets the permit that is given back.
        let waiting = limits.connection(one, Some(&domain), far);
        let (waited, ()) = tokio::join!(waiting, async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            drop(first);
        });
        drop((waited.unwrap(), second, third));
        // One permit for the transaction, however many connections it has.
        let domains = [limits.domain(&name("example")).await.unwrap(), limits.domain(&name("example")).await.unwrap()];
        assert_eq!(limits.domain(&name("example")).await.unwrap_err(), Cap::Domain(3));
        assert!(limits.domain(&name("example.org")).await.is_ok());
        drop((domains, domain));
        assert!(limits.hosts.counted.each().all(|shard| shard.is_empty()));
        assert!(limits.domains.counted.each().all(|shard| shard.is_empty()));
    }
}
