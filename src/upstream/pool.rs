//! Verified sessions that wait for their next mail.
//!
//! A session may serve another transaction only if that one asks for the very same thing: the same [`Identity`]. Who is
//! asked and what must be proven is found out anew for each transaction, from the DNS as it is now, before a session is
//! looked for here; so a new TLSA record, another policy or another MX record is seen at once, and what was proven by the
//! old ones serves nobody any more (RFC 6698 §8.2, RFC 7672 §2.2; L14, A-106).
//!
//! Only sessions that are in step with us come here ([`Ready::release`]). They keep their permits, for they are
//! connections, and hold no memory for mail.

use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::ready::Ready;
use super::shards::Shards;
use super::tcp::Source;
use super::wishes::{WantedBy, Wishes};
use crate::policy::TlsPolicy;
use crate::refusal::{Cap, Peer};

/// How often somebody looks after those that wait.
const ROUND: Duration = Duration::from_secs(1);

/// How many sessions may wait, how long, and how much each may do.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// In all.
    pub in_all: usize,
    /// With one address.
    pub per_host: usize,
    /// How long one may wait.
    pub idle: Duration,
    /// How long after it was verified one may start another transaction.
    pub age: Duration,
    /// How many transactions one may have.
    pub mails: u64,
}

/// What a session is to a transaction, apart from the mail: all of it must be equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The exchange and its address.
    pub peer: Peer,
    /// The port.
    pub port: u16,
    /// What must be proven: the level's demand as the DNS fills it in, with the security of the MX records, the TLSA base
    /// domain (which is the SNI), the set of TLSA records and the reference identifiers.
    pub policy: TlsPolicy,
    /// The name that was given in EHLO.
    pub ehlo: String,
    /// The address to connect from, if one is set.
    pub source: Option<IpAddr>,
}

impl Identity {
    /// The same at another address, where connections to it come from its source.
    pub(super) fn at(&self, address: IpAddr, source: Source) -> Self {
        let peer = Peer { exchange: self.peer.exchange.clone(), address };
        Self { peer, source: source.towards(address), ..self.clone() }
    }
}

/// Where a session came from and may wait.
#[derive(Debug)]
pub(super) struct Lease {
    pool: Weak<Pool>,
    identity: Identity,
    /// When it was verified.
    since: Instant,
}

/// Sessions that wait.
#[derive(Debug)]
pub struct Pool {
    bounds: Bounds,
    waiting: Shards<IpAddr, Vec<Waiting>>,
    count: AtomicUsize,
    /// Who wants room for a connection.
    wishes: Wishes,
    /// Somebody makes the rounds.
    tended: AtomicBool,
    closed: AtomicBool,
}

#[derive(Debug)]
struct Waiting {
    ready: Ready,
    since: Instant,
}

impl Pool {
    /// Nobody waits yet.
    pub fn new(bounds: Bounds) -> Arc<Self> {
        Arc::new(Self {
            bounds,
            waiting: Shards::new(),
            count: AtomicUsize::new(0),
            wishes: Wishes::new(),
            tended: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        })
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// A new session may come back here, under this name; unless nobody ever waits.
    pub(super) fn lease(self: &Arc<Self>, identity: Identity) -> Option<Lease> {
        let anybody = self.bounds.in_all > 0 && self.bounds.per_host > 0;
        anybody.then(|| Lease { pool: Arc::downgrade(self), identity, since: Instant::now() })
    }

    /// A session for a transaction, if one waits that is the same to it and still stands: the one that waited least,
    /// which the remote has the least reason to end.
    pub(super) fn take(&self, identity: &Identity) -> Option<Ready> {
        let now = Instant::now();
        let (mut found, mut stale) = (None, Vec::new());
        self.change(identity.peer.address, |waiting| {
            let is_for = |waiting: &Waiting| waiting.ready.lease().is_some_and(|lease| lease.identity == *identity);
            while let Some(place) = waiting.iter().rposition(is_for) {
                let mut candidate = waiting.remove(place);
                match self.still_lasts(&candidate, now) {
                    true if candidate.ready.is_quiet() => {
                        found = Some(candidate.ready);
                        return;
                    }
                    // RFC 5321 §3.8: it has said 421, or hung up. There is nobody to say goodbye to.
                    true => {}
                    false => stale.push(candidate.ready),
                }
            }
        });
        stale.into_iter().for_each(|ready| drop(ready.quit()));
        found
    }

    /// Lets a session wait, or hands it to who waits for one; gives it back if there is no room for it.
    pub(super) fn put(self: &Arc<Self>, mut ready: Ready) -> Option<Ready> {
        let now = Instant::now();
        let address = ready.peer().address;
        if self.closed.load(Ordering::SeqCst) || !self.lasts(&ready, now) {
            return Some(ready);
        }
        while let Some(lease) = ready.lease() {
            match self.wishes.by(address, &lease.identity) {
                WantedBy::Nobody => break,
                WantedBy::Somebody => return Some(ready),
                WantedBy::Heir(heir) => match heir.send(ready) {
                    Ok(()) => return None,
                    // It has gone away.
                    Err(back) => ready = back,
                },
            }
        }
        let mut waiting = Some(Waiting { ready, since: now });
        self.change(address, |others| {
            let room = others.len() < self.bounds.per_host && self.waiting() < self.bounds.in_all;
            if room && !self.closed.load(Ordering::SeqCst) {
                others.extend(waiting.take());
            }
        });
        if waiting.is_none() {
            self.tend();
        }
        waiting.map(|waiting| waiting.ready)
    }

    /// Who wants room.
    pub(super) fn wishes(&self) -> &Wishes {
        &self.wishes
    }

    /// Ends a session, so that there is room for another connection: to this address, or any.
    pub(super) fn make_room(&self, cap: Cap, address: IpAddr) {
        let mut parting = None;
        match cap {
            Cap::Host(_) => self.change(address, |waiting| parting = (!waiting.is_empty()).then(|| waiting.remove(0))),
            Cap::All(_) => {
                let addresses: Vec<_> = self.waiting.each().flat_map(|shard| shard.keys().copied().next()).collect();
                for address in addresses {
                    if parting.is_none() {
                        self.change(address, |waiting| parting = (!waiting.is_empty()).then(|| waiting.remove(0)));
                    }
                }
            }
            // Who waits here serves no domain.
            Cap::Domain(_) => {}
        }
        parting.into_iter().for_each(|waiting| drop(waiting.ready.quit()));
    }

    /// Says goodbye to all that wait, and lets nobody wait any more. Ends when they have answered, or had their time.
    pub async fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        let parting = self.part_with(|_| Keep::No);
        join_all(parting.into_iter().map(Ready::quit)).await;
    }

    /// Changes what waits at one address.
    fn change(&self, address: IpAddr, change: impl FnOnce(&mut Vec<Waiting>)) {
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

    fn lasts(&self, ready: &Ready, now: Instant) -> bool {
        let young = ready.lease().is_some_and(|lease| now.duration_since(lease.since) < self.bounds.age);
        young && ready.has_more(self.bounds.mails)
    }

    fn still_lasts(&self, Waiting { ready, since }: &Waiting, now: Instant) -> bool {
        now.duration_since(*since) < self.bounds.idle && self.lasts(ready, now)
    }

    /// Sees to it that somebody makes the rounds while anybody waits.
    fn tend(self: &Arc<Self>) {
        if self.tended.swap(true, Ordering::SeqCst) {
            return;
        }
        let pool = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(ROUND).await;
                let Some(pool) = pool.upgrade() else { return };
                pool.make_round();
                if pool.waiting() == 0 {
                    pool.tended.store(false, Ordering::SeqCst);
                    // Somebody may have come in between.
                    if pool.waiting() == 0 || pool.tended.swap(true, Ordering::SeqCst) {
                        return;
                    }
                }
            }
        });
    }

    /// Lets go those whose time is over, and those that were left by their remotes.
    fn make_round(&self) {
        let now = Instant::now();
        let parting = self.part_with(|waiting| match self.still_lasts(waiting, now) {
            true if waiting.ready.is_quiet() => Keep::Yes,
            true => Keep::Gone,
            false => Keep::No,
        });
        parting.into_iter().for_each(|ready| drop(ready.quit()));
    }

    /// Takes out those that are not to be kept; those that are not gone already are handed back.
    fn part_with(&self, keep: impl Fn(&mut Waiting) -> Keep) -> Vec<Ready> {
        let mut parting = Vec::new();
        for mut shard in self.waiting.each() {
            shard.retain(|_, waiting| {
                let (before, all) = (waiting.len(), std::mem::take(waiting));
                for mut candidate in all {
                    match keep(&mut candidate) {
                        Keep::Yes => waiting.push(candidate),
                        Keep::No => parting.push(candidate.ready),
                        Keep::Gone => {}
                    }
                }
                self.count.fetch_sub(before - waiting.len(), Ordering::Relaxed);
                !waiting.is_empty()
            });
        }
        parting
    }
}

/// What becomes of one that waits.
enum Keep {
    Yes,
    /// It is to hear QUIT.
    No,
    /// There is nobody to hear it.
    Gone,
}

impl Lease {
    /// Where to wait, if it is still there.
    pub(super) fn pool(&self) -> Option<Arc<Pool>> {
        self.pool.upgrade()
    }
}
