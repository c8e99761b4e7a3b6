//! The users that wait for room for a connection, and the hand-off of a connection that has come free to one of them.
//!
//! Waiters at one address are served in the order in which they came. A connection that has come free is handed to the
//! oldest one, if that one would open a connection of the same identity. If not, the connection ends and makes room.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::oneshot;

use super::super::shards::Shards;
use super::{Idle, Pool, Pooled};
use crate::refusal::Cap;

/// All users that wait.
#[derive(Debug)]
pub(super) struct Waiters<T: Idle> {
    /// For room at one address, the oldest first.
    at: Shards<IpAddr, VecDeque<WaiterEntry<T>>>,
    /// The number of those that wait for room at any address.
    anywhere: AtomicUsize,
    next: AtomicU64,
}

#[derive(Debug)]
struct WaiterEntry<T: Idle> {
    number: u64,
    hand_off: Option<HandOff<T>>,
}

/// The way to hand a connection of this identity to a waiter.
#[derive(Debug)]
struct HandOff<T: Idle> {
    identity: T::Identity,
    to: oneshot::Sender<Pooled<T>>,
}

/// The use of a connection that has come free.
pub(super) enum Demand<T: Idle> {
    /// No waiter wants its place.
    None,
    /// A waiter wants its place.
    Room,
    /// A waiter takes the connection itself.
    HandOff(oneshot::Sender<Pooled<T>>),
}

impl<T: Idle> Waiters<T> {
    pub(super) fn new() -> Self {
        Self { at: Shards::new(), anywhere: AtomicUsize::new(0), next: AtomicU64::new(0) }
    }

    /// The demand for a connection of this identity. A waiter that takes it is removed from the list.
    pub(super) fn demand(&self, identity: &T::Identity) -> Demand<T> {
        if self.anywhere.load(Ordering::SeqCst) > 0 {
            return Demand::Room;
        }
        let address = T::address(identity);
        let mut at = self.at.of(&address);
        let Some(waiting) = at.get_mut(&address) else { return Demand::None };
        let Some(oldest) = waiting.front_mut() else { return Demand::None };
        let Some(taker) = oldest.hand_off.take_if(|hand_off| hand_off.identity == *identity) else {
            return Demand::Room;
        };
        waiting.pop_front();
        if waiting.is_empty() {
            at.remove(&address);
        }
        Demand::HandOff(taker.to)
    }

    fn add(&self, address: IpAddr, hand_off: Option<HandOff<T>>) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.at.of(&address).entry(address).or_default().push_back(WaiterEntry { number, hand_off });
        number
    }

    fn remove(&self, address: IpAddr, number: u64) {
        let mut at = self.at.of(&address);
        if let Some(waiting) = at.get_mut(&address) {
            waiting.retain(|entry| entry.number != number);
            if waiting.is_empty() {
                at.remove(&address);
            }
        }
    }
}

/// One user that waits for room. While it waits, no connection waits in the place that it wants.
#[derive(Debug)]
pub(in crate::upstream) struct Waiter<'a, T: Idle> {
    pool: &'a Arc<Pool<T>>,
    cap: Cap,
    address: IpAddr,
    place: WaiterPlace,
    handed_off: Option<oneshot::Receiver<Pooled<T>>>,
}

/// The place at which room is wanted.
#[derive(Debug)]
enum WaiterPlace {
    Host(u64),
    Anywhere,
    /// Connections that wait serve no domain, so they take no room of one.
    Domain,
}

impl<'a, T: Idle> Waiter<'a, T> {
    /// Waits for room at an address, or in all; a connection of this identity will do.
    pub(in crate::upstream) fn new(
        pool: &'a Arc<Pool<T>>,
        cap: Cap,
        address: IpAddr,
        identity: Option<T::Identity>,
    ) -> Self {
        let waiters = &pool.waiters;
        let (place, handed_off) = match cap {
            Cap::Host(_) => {
                let (hand_off, handed_off) = identity
                    .map(|identity| {
                        let (to, handed_off) = oneshot::channel();
                        (HandOff { identity, to }, handed_off)
                    })
                    .unzip();
                (WaiterPlace::Host(waiters.add(address, hand_off)), handed_off)
            }
            Cap::All(_) => {
                waiters.anywhere.fetch_add(1, Ordering::SeqCst);
                (WaiterPlace::Anywhere, None)
            }
            Cap::Domain(_) => (WaiterPlace::Domain, None),
        };
        Self { pool, cap, address, place, handed_off }
    }

    /// Ends a connection that waits in the place that is wanted.
    pub(in crate::upstream) fn make_room(&self) {
        self.pool.make_room(self.cap, self.address);
    }

    /// A quiet connection that has come free. It may never come, and comes once.
    pub(in crate::upstream) async fn handed_off(&mut self) -> Pooled<T> {
        if let Some(handed_off) = &mut self.handed_off {
            let pooled = handed_off.await;
            self.handed_off = None;
            if let Some(pooled) = pooled.ok().and_then(Pooled::if_quiet) {
                return pooled;
            }
        }
        std::future::pending().await
    }
}

impl<T: Idle> Drop for Waiter<'_, T> {
    fn drop(&mut self) {
        let waiters = &self.pool.waiters;
        match self.place {
            WaiterPlace::Host(number) => waiters.remove(self.address, number),
            WaiterPlace::Anywhere => _ = waiters.anywhere.fetch_sub(1, Ordering::SeqCst),
            WaiterPlace::Domain => {}
        }
        if let Some(handed_off) = &mut self.handed_off {
            // A connection may have come in this very moment: the next waiter has it.
            handed_off.close();
            handed_off.try_recv().into_iter().for_each(Pooled::give_back);
        }
    }
}
