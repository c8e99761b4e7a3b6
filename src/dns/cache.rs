//! A memory of values, bounded in number and in time.
//!
//! The clock is the caller's. It is used twice: for finished lookups, none of which outlives the least TTL of the
//! records it rests on (RFC 6698 §8.2), and for unvalidated replies about keys and delegations.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A value, and for how long it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lasting<V> {
    pub(super) value: V,
    pub(super) ttl: Duration,
}

/// Values by key, each for its time.
pub(super) struct Cache<K, V> {
    capacity: usize,
    entries: Mutex<HashMap<K, (Instant, V)>>,
}

impl<K: Eq + Hash, V: Clone> Cache<K, V> {
    /// An empty memory of at most `capacity` values.
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, entries: Mutex::default() }
    }

    /// The value, if its time has not passed.
    pub(super) fn get(&self, key: &K, now: Instant) -> Option<V> {
        self.entries().get(key).filter(|(until, _)| now < *until).map(|(_, value)| value.clone())
    }

    /// Remembers a value. Where there is no room, the new value is the one that is not kept: a flood of names that are
    /// asked once does not push out those that are asked all day.
    pub(super) fn put(&self, key: K, lasting: Lasting<V>, now: Instant) {
        let Some(until) = now.checked_add(lasting.ttl).filter(|until| now < *until) else { return };
        let mut entries = self.entries();
        if entries.len() >= self.capacity {
            entries.retain(|_, (until, _)| now < *until);
        }
        if entries.len() < self.capacity || entries.contains_key(&key) {
            entries.insert(key, (until, lasting.value));
        }
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<K, (Instant, V)>> {
        // An entry is put in whole: a panic elsewhere cannot leave half of one behind.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lasting(value: u8, seconds: u64) -> Lasting<u8> {
        Lasting { value, ttl: Duration::from_secs(seconds) }
    }

    #[test]
    fn a_value_holds_for_its_time() {
        let (cache, now) = (Cache::new(2), Instant::now());
        cache.put("a", lasting(1, 10), now);
        assert_eq!(cache.get(&"a", now + Duration::from_secs(9)), Some(1));
        // A18: at its TTL a record is gone.
        assert_eq!(cache.get(&"a", now + Duration::from_secs(10)), None);
        cache.put("a", lasting(2, 20), now);
        assert_eq!(cache.get(&"a", now + Duration::from_secs(10)), Some(2));
        // RFC 1035 §3.2.1: a TTL of zero is for this one use.
        cache.put("b", lasting(3, 0), now);
        assert_eq!(cache.get(&"b", now), None);
    }

    #[test]
    fn a_full_memory_keeps_what_it_has() {
        let (cache, now) = (Cache::new(2), Instant::now());
        cache.put("a", lasting(1, 10), now);
        cache.put("b", lasting(2, 20), now);
        cache.put("c", lasting(3, 20), now);
        assert_eq!((cache.get(&"a", now), cache.get(&"c", now)), (Some(1), None));
        // What it has already may change.
        cache.put("b", lasting(4, 20), now);
        assert_eq!(cache.get(&"b", now), Some(4));
        // What has passed makes room.
        let later = now + Duration::from_secs(11);
        cache.put("c", lasting(3, 20), later);
        assert_eq!((cache.get(&"a", later), cache.get(&"c", later)), (None, Some(3)));
    }
}
