//! Idle connections that wait for their next use.
//!
//! The pool knows no protocol: a connection is anything that is [`Idle`]. A connection serves a user only if that user asks
//! for an equal [`Idle::Identity`], which the user computes anew each time. So a change of any part of it is seen at once,
//! and a connection that was opened under an old identity serves no user any more.
//!
//! Only a connection that is in step with its other end comes back here. A user that waits for room for a
//! connection is served before the connection waits.

pub(super) mod waiters;

use std::collections::hash_map::Entry;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::shards::Shards;
use crate::refusal::Cap;
use waiters::{Demand, Waiters};

/// The time between two rounds, in which the connections that may not stay are removed.
const ROUND: Duration = Duration::from_secs(1);

/// A connection that can wait in a pool.
pub trait Idle: fmt::Debug + Send + Sized + 'static {
    /// The properties of a connection that must equal those that its user asks for.
    type Identity: Clone + Eq + fmt::Debug + Send + Sync + 'static;

    /// The address of the other end.
    fn address(identity: &Self::Identity) -> IpAddr;

    /// Whether the other end has sent no octet and has not closed the connection since the last use.
    fn is_quiet(&mut self) -> bool;

    /// Whether one more use is allowed, where `most` is the most of them.
    fn has_more(&self, most: u64) -> bool;

    /// Ends the connection politely, in a task of its own.
    fn end(self) -> JoinHandle<()>;
}

/// How many connections may wait, how long, and how often one is used.
#[derive(Debug, Clone, Copy)]
pub struct IdleLimits {
    /// The most that wait in all.
    pub in_all: usize,
    /// The most that wait with one address.
    pub per_host: usize,
    /// The longest wait of one.
    pub idle: Duration,
    /// The age at which a connection is used no more.
    pub age: Duration,
    /// The most uses of one.
    pub uses: u64,
}

/// The right of a connection to wait in a pool, under its identity.
#[derive(Debug)]
pub(super) struct Lease<T: Idle> {
    pool: Weak<Pool<T>>,
    identity: T::Identity,
    /// When the connection was opened.
    since: Instant,
}

/// A connection with its lease.
#[derive(Debug)]
pub(super) struct Pooled<T: Idle> {
    pub(super) connection: T,
    pub(super) lease: Lease<T>,
}

/// The connections that wait.
#[derive(Debug)]
pub struct Pool<T: Idle> {
    limits: IdleLimits,
    waiting: Shards<IpAddr, Vec<Waiting<T>>>,
    count: AtomicUsize,
    /// The users that wait for room for a connection.
    waiters: Waiters<T>,
    /// Whether the task that makes the rounds runs.
    has_rounds: AtomicBool,
    closed: AtomicBool,
}

#[derive(Debug)]
struct Waiting<T: Idle> {
    pooled: Pooled<T>,
    since: Instant,
}

/// Whether a connection stays in the pool.
enum Keep {
    Yes,
    /// It has to be ended.
    No,
    /// The other end has left: there is no one to end it with.
    Gone,
}

impl<T: Idle> Pool<T> {
    /// An empty pool.
    pub fn new(limits: IdleLimits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            waiting: Shards::new(),
            count: AtomicUsize::new(0),
            waiters: Waiters::new(),
            has_rounds: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        })
    }

    /// The number of connections that wait.
    pub fn waiting(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether a connection with this address waits, of any identity.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        self.waiting() > 0 && self.waiting.of(&address).contains_key(&address)
    }

    /// The right of a new connection to wait here; none, if the limits let no connection wait.
    pub(super) fn lease(self: &Arc<Self>, identity: T::Identity) -> Option<Lease<T>> {
        let is_used = self.limits.in_all > 0 && self.limits.per_host > 0;
        is_used.then(|| Lease { pool: Arc::downgrade(self), identity, since: Instant::now() })
    }

    /// Takes a quiet connection of this identity: of several the one that has waited least, because its other end has the
    /// least reason to close it.
    pub(super) fn take(&self, identity: &T::Identity) -> Option<Pooled<T>> {
        let now = Instant::now();
        let (mut found, mut stale) = (None, Vec::new());
        self.change(T::address(identity), |waiting| {
            while let Some(place) = waiting.iter().rposition(|one| one.pooled.lease.identity == *identity) {
                let mut candidate = waiting.remove(place);
                match self.keep(&mut candidate, now) {
                    Keep::Yes => {
                        found = Some(candidate.pooled);
                        return;
                    }
                    Keep::No => stale.push(candidate.pooled),
                    Keep::Gone => {}
                }
            }
        });
        stale.into_iter().for_each(Pooled::end);
        found
    }

    /// Hands the connection to the user that waits for it, or lets it wait. It is returned where it may not wait.
    fn put(self: &Arc<Self>, mut pooled: Pooled<T>) -> Option<Pooled<T>> {
        let now = Instant::now();
        if self.closed.load(Ordering::SeqCst) || !self.may_serve(&pooled, now) {
            return Some(pooled);
        }
        loop {
            match self.waiters.demand(&pooled.lease.identity) {
                Demand::None => break,
                Demand::Room => return Some(pooled),
                Demand::HandOff(waiter) => match waiter.send(pooled) {
                    Ok(()) => return None,
                    // That waiter has gone away.
                    Err(back) => pooled = back,
                },
            }
        }
        let address = pooled.address();
        let mut entering = Some(Waiting { pooled, since: now });
        self.change(address, |others| {
            let room = others.len() < self.limits.per_host && self.waiting() < self.limits.in_all;
            if room && !self.closed.load(Ordering::SeqCst) {
                others.extend(entering.take());
            }
        });
        if entering.is_none() {
            self.start_rounds();
        }
        entering.map(|waiting| waiting.pooled)
    }

    /// Ends one connection, to make room for another one to this address, or to any address.
    fn make_room(&self, cap: Cap, address: IpAddr) {
        let ended = match cap {
            Cap::Host(_) => self.remove_oldest(address),
            Cap::All(_) => {
                let addresses: Vec<_> = self.waiting.each().flat_map(|shard| shard.keys().copied().next()).collect();
                addresses.into_iter().find_map(|address| self.remove_oldest(address))
            }
            // A connection that waits serves no domain.
            Cap::Domain(_) => None,
        };
        ended.into_iter().for_each(Pooled::end);
    }

    fn remove_oldest(&self, address: IpAddr) -> Option<Pooled<T>> {
        let mut removed = None;
        self.change(address, |waiting| removed = (!waiting.is_empty()).then(|| waiting.remove(0)));
        removed.map(|waiting| waiting.pooled)
    }

    /// Ends all connections that wait, and lets no more wait. Returns when each has ended.
    pub async fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        let ended = self.remove_unless(|_| Keep::No);
        join_all(ended.into_iter().map(|pooled| pooled.connection.end())).await;
    }

    /// Changes the list of one address, and the count with it.
    fn change(&self, address: IpAddr, change: impl FnOnce(&mut Vec<Waiting<T>>)) {
        let mut shard = self.waiting.of(&address);
        let mut entry = match shard.entry(address) {
            Entry::Occupied(entry) => entry,
            Entry::Vacant(vacant) => vacant.insert_entry(Vec::new()),
        };
        let before = entry.get().len();
        change(entry.get_mut());
        let after = entry.get().len();
        self.count.fetch_add(after, Ordering::Relaxed);
        self.count.fetch_sub(before, Ordering::Relaxed);
        if after == 0 {
            entry.remove();
        }
    }

    fn may_serve(&self, pooled: &Pooled<T>, now: Instant) -> bool {
        now.duration_since(pooled.lease.since) < self.limits.age && pooled.connection.has_more(self.limits.uses)
    }

    fn keep(&self, waiting: &mut Waiting<T>, now: Instant) -> Keep {
        let is_due = now.duration_since(waiting.since) >= self.limits.idle || !self.may_serve(&waiting.pooled, now);
        match is_due {
            true => Keep::No,
            false if waiting.pooled.connection.is_quiet() => Keep::Yes,
            false => Keep::Gone,
        }
    }

    /// Starts the task that makes the rounds. It ends when no connection waits any more.
    fn start_rounds(self: &Arc<Self>) {
        if self.has_rounds.swap(true, Ordering::SeqCst) {
            return;
        }
        let pool = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(ROUND).await;
                let Some(pool) = pool.upgrade() else { return };
                pool.make_round();
                if pool.waiting() == 0 {
                    pool.has_rounds.store(false, Ordering::SeqCst);
                    // A connection may have come in between.
                    if pool.waiting() == 0 || pool.has_rounds.swap(true, Ordering::SeqCst) {
                        return;
                    }
                }
            }
        });
    }

    /// Ends the connections whose time is over, and drops those that their other ends have left.
    fn make_round(&self) {
        let now = Instant::now();
        self.remove_unless(|waiting| self.keep(waiting, now)).into_iter().for_each(Pooled::end);
    }

    /// Removes the connections that are not kept, and returns those that have to be ended.
    fn remove_unless(&self, keep: impl Fn(&mut Waiting<T>) -> Keep) -> Vec<Pooled<T>> {
        let mut removed = Vec::new();
        for mut shard in self.waiting.each() {
            shard.retain(|_, waiting| {
                let (before, all) = (waiting.len(), std::mem::take(waiting));
                for mut candidate in all {
                    match keep(&mut candidate) {
                        Keep::Yes => waiting.push(candidate),
                        Keep::No => removed.push(candidate.pooled),
                        Keep::Gone => {}
                    }
                }
                self.count.fetch_sub(before - waiting.len(), Ordering::Relaxed);
                !waiting.is_empty()
            });
        }
        removed
    }
}

impl<T: Idle> Pooled<T> {
    fn address(&self) -> IpAddr {
        T::address(&self.lease.identity)
    }

    /// Itself, if it is quiet. If not, the other end has left, or is about to: there is no one to end it with.
    fn if_quiet(mut self) -> Option<Self> {
        self.connection.is_quiet().then_some(self)
    }

    /// Lets the connection wait for its next use, and ends it where it may not wait.
    pub(super) fn give_back(self) {
        let refused = match self.lease.pool.upgrade() {
            Some(pool) => pool.put(self),
            None => Some(self),
        };
        refused.into_iter().for_each(Self::end);
    }

    fn end(self) {
        drop(self.connection.end());
    }
}

#[cfg(test)]
mod tests;
