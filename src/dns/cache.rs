//! A memory of values, bounded in number, in octets and in time.
//!
//! The clock is the caller's. A value is dropped at the least TTL of the records that it rests on (RFC 6698 §8.2), by
//! the clock that reaches it first: while a machine sleeps, or is moved, its steady clock stands still, and signatures
//! expire all the same (RFC 4035 §5.3.1).
//!
//! A full cache drops values by the CLOCK algorithm. A hand goes round over the values: a value that was read since the
//! last pass of the hand is skipped once, and the first other one is dropped. So names that are asked all day stay, and
//! a flood of names that are asked once displaces little but itself.
//!
//! The memory is in shards, each with a lock of its own that is held for a look-up and no longer: askers on different
//! threads seldom meet.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::{Mutex, MutexGuard};

/// How many shards a memory has, unless it is small.
const SHARDS: usize = 64;
/// A memory has no more shards than leave each room for this many values.
const LEAST_SHARD: usize = 16;

/// A value, and for how long it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WithTtl<V> {
    pub(super) value: V,
    pub(super) ttl: Duration,
}

/// The time by two clocks: the steady one, which cannot be set, and the wall clock, which does not stop while the
/// machine sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ClockReading {
    pub(super) steady: Instant,
    pub(super) wall: SystemTime,
}

impl ClockReading {
    pub(super) fn after(self, time: Duration) -> Option<Self> {
        Some(Self { steady: self.steady.checked_add(time)?, wall: self.wall.checked_add(time)? })
    }

    /// How long it is until the other by the clock that reaches it first; zero if one of them has.
    pub(super) fn left_until(self, other: Self) -> Duration {
        let steady = other.steady.saturating_duration_since(self.steady);
        steady.min(other.wall.duration_since(self.wall).unwrap_or_default())
    }

    /// Whether it is before the other by both clocks.
    fn is_before(self, other: Self) -> bool {
        self.steady < other.steady && self.wall < other.wall
    }
}

/// A value that knows its size.
pub(super) trait EntryWeight {
    /// How much memory it takes, in octets, roughly.
    fn octets(&self) -> usize;
}

/// How much is remembered at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CacheBounds {
    pub(super) entries: usize,
    pub(super) octets: usize,
}

/// Values by key, each for its time.
pub(super) struct Cache<K, V> {
    shards: Box<[Mutex<Shard<K, V>>]>,
    hasher: RandomState,
}

impl<K: Eq + Hash, V: EntryWeight> Cache<K, V> {
    /// An empty memory.
    pub(super) fn new(bounds: CacheBounds) -> Self {
        let shards = (bounds.entries / LEAST_SHARD).clamp(1, SHARDS);
        let share = CacheBounds { entries: bounds.entries / shards, octets: bounds.octets / shards };
        Self { shards: (0..shards).map(|_| Mutex::new(Shard::new(share))).collect(), hasher: RandomState::new() }
    }

    /// The value, if its time has not passed.
    pub(super) fn get(&self, key: &K, now: ClockReading) -> Option<Arc<V>> {
        self.shard(key)?.get(key, now)
    }

    /// Remembers a value, if its time is any and it fits at all.
    pub(super) fn put(&self, key: K, lasting: WithTtl<Arc<V>>, now: ClockReading) {
        let Some(until) = now.after(lasting.ttl).filter(|until| now.is_before(*until)) else { return };
        let Some(mut shard) = self.shard(&key) else { return };
        let octets = lasting.value.octets() + size_of::<CacheEntry<K, V>>();
        shard.put(CacheEntry { key: Arc::new(key), value: lasting.value, until, octets, asked: false }, now);
    }

    /// Forgets a value.
    pub(super) fn remove(&self, key: &K) {
        if let Some(mut shard) = self.shard(key)
            && let Some(place) = shard.places.get(key).copied()
        {
            shard.remove(place);
        }
    }

    fn shard(&self, key: &K) -> Option<MutexGuard<'_, Shard<K, V>>> {
        let number = self.hasher.hash_one(key) % self.shards.len() as u64;
        let shard = self.shards.get(usize::try_from(number).ok()?)?;
        // No code of others runs under the lock: a panic elsewhere cannot leave half of a change behind.
        Some(shard.lock())
    }
}

struct CacheEntry<K, V> {
    key: Arc<K>,
    value: Arc<V>,
    until: ClockReading,
    octets: usize,
    /// Since the hand last came by.
    asked: bool,
}

struct Shard<K, V> {
    bounds: CacheBounds,
    octets: usize,
    slots: Vec<CacheEntry<K, V>>,
    /// Where in `slots` a key is.
    places: HashMap<Arc<K>, usize>,
    hand: usize,
}

impl<K: Eq + Hash, V> Shard<K, V> {
    fn new(bounds: CacheBounds) -> Self {
        Self { bounds, octets: 0, slots: Vec::new(), places: HashMap::new(), hand: 0 }
    }

    fn get(&mut self, key: &K, now: ClockReading) -> Option<Arc<V>> {
        let slot = self.slots.get_mut(*self.places.get(key)?)?;
        slot.asked = true;
        now.is_before(slot.until).then(|| Arc::clone(&slot.value))
    }

    fn put(&mut self, slot: CacheEntry<K, V>, now: ClockReading) {
        if let Some(place) = self.places.get(&slot.key) {
            self.remove(*place);
        }
        if self.bounds.entries == 0 || slot.octets > self.bounds.octets {
            return;
        }
        while self.slots.len() >= self.bounds.entries || self.octets + slot.octets > self.bounds.octets {
            self.forget_one(now);
        }
        self.octets += slot.octets;
        self.places.insert(Arc::clone(&slot.key), self.slots.len());
        self.slots.push(slot);
    }

    /// Takes out the next value that has passed or was not asked for. There is one: the hand clears as it goes.
    fn forget_one(&mut self, now: ClockReading) {
        loop {
            if self.hand >= self.slots.len() {
                self.hand = 0;
            }
            match self.slots.get_mut(self.hand) {
                Some(slot) if slot.asked && now.is_before(slot.until) => {
                    slot.asked = false;
                    self.hand += 1;
                }
                Some(_) | None => return self.remove(self.hand),
            }
        }
    }

    fn remove(&mut self, place: usize) {
        if place >= self.slots.len() {
            return;
        }
        let gone = self.slots.swap_remove(place);
        self.octets -= gone.octets;
        self.places.remove(&gone.key);
        if let Some(moved) = self.slots.get(place) {
            self.places.insert(Arc::clone(&moved.key), place);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    impl EntryWeight for u8 {
        fn octets(&self) -> usize {
            usize::from(*self)
        }
    }

    fn now() -> ClockReading {
        ClockReading { steady: Instant::now(), wall: SystemTime::now() }
    }

    fn later(now: ClockReading, seconds: u64) -> ClockReading {
        now.after(Duration::from_secs(seconds)).unwrap()
    }

    fn lasting(value: u8, seconds: u64) -> WithTtl<Arc<u8>> {
        WithTtl { value: Arc::new(value), ttl: Duration::from_secs(seconds) }
    }

    fn cache<K: Eq + Hash>(entries: usize) -> Cache<K, u8> {
        Cache::new(CacheBounds { entries, octets: usize::MAX / 2 })
    }

    #[test]
    fn a_value_holds_for_its_time() {
        let (cache, now) = (cache(2), now());
        let get = |key, at| cache.get(&key, at).map(|value| *value);
        cache.put("a", lasting(1, 10), now);
        assert_eq!(get("a", later(now, 9)), Some(1));
        // A18: at its TTL a record is gone.
        assert_eq!(get("a", later(now, 10)), None);
        cache.put("a", lasting(2, 20), now);
        assert_eq!(get("a", later(now, 10)), Some(2));
        // RFC 1035 §3.2.1: a TTL of zero is for this one use.
        cache.put("b", lasting(3, 0), now);
        assert_eq!(get("b", now), None);
    }

    #[test]
    fn a_value_does_not_outlive_a_night_of_sleep() {
        let (cache, now) = (cache(2), now());
        cache.put("a", lasting(1, 10), now);
        let get = |moment| cache.get(&"a", moment).is_some();
        let night = later(now, 8 * 3600);
        assert!(get(later(now, 9)) && !get(night));
        assert!(!get(ClockReading { wall: night.wall, ..now }), "the steady clock stood still");
        // Nor one that was set back.
        assert!(!get(ClockReading { steady: night.steady, ..now }), "the wall clock was set back");
    }

    #[test]
    fn the_time_left_is_that_of_the_clock_that_is_ahead() {
        let begin = now();
        let (end, seconds) = (later(begin, 60), Duration::from_secs);
        let by = |steady, wall| ClockReading { steady: later(begin, steady).steady, wall: later(begin, wall).wall };
        for (moment, left) in [(by(0, 0), 60), (by(50, 10), 10), (by(10, 50), 10), (by(0, 8 * 3600), 0), (by(61, 0), 0)]
        {
            assert_eq!(moment.left_until(end), seconds(left), "{moment:?}");
        }
    }

    #[test]
    fn a_full_cache_keeps_values_in_use() {
        let (cache, now) = (cache(4), now());
        for key in 0..4 {
            cache.put(key, lasting(1, 60), now);
        }
        // Two that are asked for all the time, in a flood of names that are not.
        for key in 100..1000 {
            assert!(cache.get(&0, now).is_some() && cache.get(&3, now).is_some(), "before {key}");
            cache.put(key, lasting(1, 60), now);
            assert!(cache.get(&key, now).is_some());
        }
    }

    #[test]
    fn expired_values_go_first() {
        let (cache, now) = (cache(2), now());
        cache.put("short", lasting(1, 10), now);
        cache.put("long", lasting(2, 20), now);
        let later = later(now, 11);
        assert!(cache.get(&"short", later).is_none() && cache.get(&"long", later).is_some());
        cache.put("new", lasting(3, 20), later);
        assert!(cache.get(&"long", later).is_some() && cache.get(&"new", later).is_some());
    }

    #[test]
    fn no_room_at_all() {
        let now = now();
        for bounds in [CacheBounds { entries: 0, octets: 1000 }, CacheBounds { entries: 10, octets: 0 }] {
            let cache = Cache::new(bounds);
            cache.put("a", lasting(1, 10), now);
            assert!(cache.get(&"a", now).is_none());
        }
    }

    proptest! {
        /// After any sequence of calls neither bound is exceeded, the counts are right, and each value is one that was
        /// put.
        #[test]
        fn bounds_hold(steps in prop::collection::vec((0_u16..200, any::<u8>(), 0_u64..4), 1..400)) {
            let bounds = CacheBounds { entries: 8, octets: 8 * size_of::<CacheEntry<u16, u8>>() + 300 };
            let (mut shard, mut now) = (Shard::new(bounds), now());
            let mut last = HashMap::new();
            for (key, value, seconds) in steps {
                now = later(now, seconds / 2);
                let found = shard.get(&key, now).map(|value| *value);
                prop_assert!(found.is_none() || found == last.get(&key).copied());
                let octets = usize::from(value) + size_of::<CacheEntry<u16, u8>>();
                let until = later(now, seconds);
                shard.put(CacheEntry { key: Arc::new(key), value: Arc::new(value), until, octets, asked: false }, now);
                last.insert(key, value);
                prop_assert!(shard.slots.len() <= bounds.entries && shard.octets <= bounds.octets);
                prop_assert_eq!(shard.octets, shard.slots.iter().map(|slot| slot.octets).sum::<usize>());
                prop_assert_eq!(shard.places.len(), shard.slots.len());
                prop_assert!(shard.places.iter().all(|(key, place)| shard.slots[*place].key == *key));
            }
        }
    }
}
