//! Who wants room for a connection, and who of them is as well served by a session that comes free.
//!
//! Wishes for one address are heard in the order in which they came. A session that has done its work goes to the one
//! that has waited longest, if it is what that one would open; if not, it has to end to make room.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::oneshot;

use super::pool::{Identity, Pool};
use super::ready::Ready;
use super::shards::Shards;
use crate::refusal::Cap;

/// All that are not fulfilled.
#[derive(Debug)]
pub(super) struct Wishes {
    /// For room at one address, the oldest first.
    at: Shards<IpAddr, VecDeque<Entry>>,
    /// How many there are for room anywhere.
    anywhere: AtomicUsize,
    next: AtomicU64,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    heir: Option<Heir>,
}

/// Who takes a session of this identity.
#[derive(Debug)]
struct Heir {
    identity: Identity,
    to: oneshot::Sender<Ready>,
}

/// What is to become of a session that comes free.
pub(super) enum WantedBy {
    /// Nobody wants its place.
    Nobody,
    /// Somebody wants its place.
    Somebody,
    /// This one wants the session.
    Heir(oneshot::Sender<Ready>),
}

impl Wishes {
    /// Nobody wants anything.
    pub(super) fn new() -> Self {
        Self { at: Shards::new(), anywhere: AtomicUsize::new(0), next: AtomicU64::new(0) }
    }

    /// Who wants this session, or its place. The heir is taken off the list.
    pub(super) fn by(&self, address: IpAddr, identity: &Identity) -> WantedBy {
        if self.anywhere.load(Ordering::SeqCst) > 0 {
            return WantedBy::Somebody;
        }
        let mut at = self.at.of(&address);
        let Some(waiting) = at.get_mut(&address) else { return WantedBy::Nobody };
        let Some(oldest) = waiting.front_mut() else { return WantedBy::Nobody };
        let Some(heir) = oldest.heir.take_if(|heir| heir.identity == *identity) else { return WantedBy::Somebody };
        waiting.pop_front();
        if waiting.is_empty() {
            at.remove(&address);
        }
        WantedBy::Heir(heir.to)
    }

    fn add(&self, address: IpAddr, heir: Option<Heir>) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.at.of(&address).entry(address).or_default().push_back(Entry { number, heir });
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

/// Somebody wants room for a connection. While the wish lasts, no session comes to wait in the place of the one that is
/// wanted.
#[derive(Debug)]
pub(super) struct Wish<'a> {
    pool: &'a Arc<Pool>,
    cap: Cap,
    address: IpAddr,
    place: Place,
    heritage: Option<oneshot::Receiver<Ready>>,
}

/// Where room is wanted.
#[derive(Debug)]
enum Place {
    Host(u64),
    Anywhere,
    /// Sessions that wait serve no domain: they are in nobody's way.
    Elsewhere,
}

impl<'a> Wish<'a> {
    /// For room at an address, or in all; a session of this identity will do.
    pub(super) fn new(pool: &'a Arc<Pool>, cap: Cap, address: IpAddr, identity: Option<Identity>) -> Self {
        let wishes = pool.wishes();
        let (place, heritage) = match cap {
            Cap::Host(_) => {
                let (heir, heritage) = identity
                    .map(|identity| {
                        let (to, heritage) = oneshot::channel();
                        (Heir { identity, to }, heritage)
                    })
                    .unzip();
                (Place::Host(wishes.add(address, heir)), heritage)
            }
            Cap::All(_) => {
                wishes.anywhere.fetch_add(1, Ordering::SeqCst);
                (Place::Anywhere, None)
            }
            Cap::Domain(_) => (Place::Elsewhere, None),
        };
        Self { pool, cap, address, place, heritage }
    }

    /// Ends a session that waits in the way.
    pub(super) fn make_room(&self) {
        self.pool.make_room(self.cap, self.address);
    }

    /// A session that has come free and still stands. May never come, and comes once.
    pub(super) async fn inherited(&mut self) -> Ready {
        if let Some(heritage) = &mut self.heritage {
            let ready = heritage.await;
            self.heritage = None;
            if let Some(ready) = ready.ok().and_then(Ready::if_quiet) {
                return ready;
            }
        }
        std::future::pending().await
    }
}

impl Drop for Wish<'_> {
    fn drop(&mut self) {
        match self.place {
            Place::Host(number) => self.pool.wishes().remove(self.address, number),
            Place::Anywhere => _ = self.pool.wishes().anywhere.fetch_sub(1, Ordering::SeqCst),
            Place::Elsewhere => {}
        }
        if let Some(heritage) = &mut self.heritage {
            // It may have come in this very moment: the next one has it.
            heritage.close();
            heritage.try_recv().into_iter().for_each(Ready::wait);
        }
    }
}
