//! A map in many parts, each under a lock of its own, so that messages seldom wait for one another.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};

use parking_lot::{Mutex, MutexGuard};

/// The number of parts.
pub(super) const SHARDS: usize = 16;

/// The map.
#[derive(Debug)]
pub(super) struct Shards<K, V> {
    hasher: RandomState,
    shards: [Mutex<HashMap<K, V>>; SHARDS],
}

impl<K: Eq + Hash, V> Shards<K, V> {
    /// An empty map.
    pub(super) fn new() -> Self {
        Self { hasher: RandomState::new(), shards: std::array::from_fn(|_| Mutex::default()) }
    }

    /// The part that a key is in.
    pub(super) fn of(&self, key: &K) -> MutexGuard<'_, HashMap<K, V>> {
        // SHARDS is a power of two, so that the mask is below it.
        let number = usize::try_from(self.hasher.hash_one(key) & (SHARDS as u64 - 1)).unwrap_or_default();
        self.shards[number].lock()
    }

    /// All parts, one after the other.
    pub(super) fn each(&self) -> impl Iterator<Item = MutexGuard<'_, HashMap<K, V>>> {
        self.shards.iter().map(Mutex::lock)
    }
}
