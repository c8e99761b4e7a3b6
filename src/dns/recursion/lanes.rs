//! The places that questions hold while they are in flight.
//!
//! A server that is dead holds a question for as long as one waits for it, and a stranger can name any number of dead
//! servers. So each kind of server has places of its own: those that answer fast, those that are not known yet, those that
//! are slow, and those that have failed. A question to an unknown server keeps its place for as long as most servers take to
//! answer; then it takes one for slow servers, and ends without an answer where there is none. So the servers of a zone that
//! was never asked before wait for some hundred milliseconds for each hundred unknown servers in front of them.
//!
//! One zone has few places among those of servers that are not fast, and one server has few among all. A question that is put
//! to a second server beside the first takes a place only where no other question waits for it.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::super::FailureReason;
use super::super::canonical::CanonicalName;
use super::places::{DelegationMemory, ServerClass};

/// How many questions may be in flight to servers that answer fast, and how many to others.
const FAST: usize = 200;
const UNKNOWN: usize = 100;
const SLOW: usize = 50;
const FAILED: usize = 50;
/// How many of them may be on their way to one server: it may have been fast until now.
const TO_ONE: usize = 50;
/// How many questions may be in flight for one zone to servers that are not fast.
const OF_ZONE: usize = 8;
/// How long a question to an unknown server keeps its place.
const YOUNG: Duration = Duration::from_millis(400);

/// The places for all questions.
pub(super) struct Lanes {
    fast: Semaphore,
    unknown: Semaphore,
    slow: Semaphore,
    failed: Semaphore,
    servers: PlacesByKey<IpAddr>,
    /// For questions to servers that are not fast.
    zones: PlacesByKey<CanonicalName>,
}

/// A few places for each server or zone. Those that no question waits for or holds are not kept.
struct PlacesByKey<K> {
    of_each: usize,
    in_use: Mutex<HashMap<K, Arc<Semaphore>>>,
}

/// The places that one question holds.
pub(super) struct HeldPlace<'a> {
    lanes: &'a Lanes,
    class: ServerClass,
    in_lane: SemaphorePermit<'a>,
    _of_server: KeyPlace<'a, IpAddr>,
    _of_zone: Option<KeyPlace<'a, CanonicalName>>,
}

/// A place among those of one key.
struct KeyPlace<'a, K: Eq + Hash> {
    places: &'a PlacesByKey<K>,
    key: K,
    permit: Option<OwnedSemaphorePermit>,
}

impl Lanes {
    pub(super) fn new() -> Self {
        Self {
            fast: Semaphore::new(FAST),
            unknown: Semaphore::new(UNKNOWN),
            slow: Semaphore::new(SLOW),
            failed: Semaphore::new(FAILED),
            servers: PlacesByKey::new(TO_ONE),
            zones: PlacesByKey::new(OF_ZONE),
        }
    }

    /// Waits for a place for a question to a server of a zone.
    ///
    /// # Errors
    /// There will be none.
    pub(super) async fn enter(
        &self,
        zone: &CanonicalName,
        server: IpAddr,
        known: &DelegationMemory,
    ) -> Result<HeldPlace<'_>, FailureReason> {
        let of_zone = match known.class(server) {
            ServerClass::Fast => None,
            ServerClass::Unknown | ServerClass::Slow | ServerClass::Failed => Some(self.zones.enter(zone).await?),
        };
        let of_server = self.servers.enter(&server).await?;
        // The server may become known while its questions wait.
        loop {
            let class = known.class(server);
            let in_lane = permit(self.lane(class)).await?;
            if known.class(server) == class {
                let of_zone = of_zone.filter(|_| class != ServerClass::Fast);
                return Ok(HeldPlace { lanes: self, class, in_lane, _of_server: of_server, _of_zone: of_zone });
            }
        }
    }

    /// A place for a question that goes to another server of the zone beside this one, if there is a place at once: a
    /// question that might do without this server keeps no other waiting.
    pub(super) fn enter_beside(
        &self,
        zone: &CanonicalName,
        server: IpAddr,
        known: &DelegationMemory,
    ) -> Option<HeldPlace<'_>> {
        let class = known.class(server);
        let of_zone = match class {
            ServerClass::Fast => None,
            ServerClass::Unknown | ServerClass::Slow | ServerClass::Failed => Some(self.zones.enter_at_once(zone)?),
        };
        let of_server = self.servers.enter_at_once(&server)?;
        let in_lane = self.lane(class).try_acquire().ok()?;
        Some(HeldPlace { lanes: self, class, in_lane, _of_server: of_server, _of_zone: of_zone })
    }

    fn lane(&self, class: ServerClass) -> &Semaphore {
        match class {
            ServerClass::Fast => &self.fast,
            ServerClass::Unknown => &self.unknown,
            ServerClass::Slow => &self.slow,
            ServerClass::Failed => &self.failed,
        }
    }
}

impl<K: Clone + Eq + Hash> PlacesByKey<K> {
    fn new(of_each: usize) -> Self {
        Self { of_each, in_use: Mutex::default() }
    }

    /// Waits for a place.
    async fn enter(&self, key: &K) -> Result<KeyPlace<'_, K>, FailureReason> {
        let mut place = self.waiting(key);
        place.permit = Some(self.of(key).acquire_owned().await.map_err(closed)?);
        Ok(place)
    }

    fn enter_at_once(&self, key: &K) -> Option<KeyPlace<'_, K>> {
        let mut place = self.waiting(key);
        place.permit = Some(self.of(key).try_acquire_owned().ok()?);
        Some(place)
    }

    /// A question without a place so far. Where it is given up, the key does not stay in the list.
    fn waiting(&self, key: &K) -> KeyPlace<'_, K> {
        KeyPlace { places: self, key: key.clone(), permit: None }
    }

    fn of(&self, key: &K) -> Arc<Semaphore> {
        Arc::clone(self.in_use.lock().entry(key.clone()).or_insert_with(|| Arc::new(Semaphore::new(self.of_each))))
    }
}

impl HeldPlace<'_> {
    /// Waits for the reply to the question.
    ///
    /// # Errors
    /// Those of the question; or it takes longer than there are places.
    pub(super) async fn hold<T>(
        mut self,
        asking: impl Future<Output = Result<T, FailureReason>>,
    ) -> Result<T, FailureReason> {
        let mut asking = pin!(asking);
        if self.class == ServerClass::Unknown {
            match timeout(YOUNG, &mut asking).await {
                Ok(asked) => return asked,
                Err(_) => self.in_lane = self.lanes.slow.try_acquire().map_err(|_| FailureReason::Timeout)?,
            }
        }
        asking.await
    }
}

impl<K: Eq + Hash> Drop for KeyPlace<'_, K> {
    fn drop(&mut self) {
        let mut in_use = self.places.in_use.lock();
        self.permit = None;
        // A question that waits, or is in flight, has the semaphore too.
        if in_use.get(&self.key).is_some_and(|places| Arc::strong_count(places) == 1) {
            in_use.remove(&self.key);
        }
    }
}

async fn permit(places: &Semaphore) -> Result<SemaphorePermit<'_>, FailureReason> {
    places.acquire().await.map_err(closed)
}

/// The semaphores are never closed; should that change, the lookup fails.
fn closed(error: tokio::sync::AcquireError) -> FailureReason {
    FailureReason::Network(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use futures_util::future::join_all;
    use tokio::time::{Instant, sleep};

    use super::*;

    fn zone(number: u8) -> CanonicalName {
        CanonicalName::from_labels([&[number][..], b"test"].into_iter())
    }

    fn server(of: u8, number: u8) -> IpAddr {
        Ipv4Addr::new(192, 0, of, number).into()
    }

    /// A question to a server that does not answer.
    async fn dead(lanes: &Lanes, known: &DelegationMemory, of: u8, number: u8) {
        let place = lanes.enter(&zone(of), server(of, number), known).await.unwrap();
        let silence = async {
            sleep(Duration::from_millis(1500)).await;
            Err::<(), _>(FailureReason::Timeout)
        };
        place.hold(silence).await.unwrap_err();
        known.failed(server(of, number));
    }

    #[tokio::test(start_paused = true)]
    async fn a58_dead_servers_of_strangers_hold_an_unknown_one_up_for_moments() {
        // fifty zones of twenty dead servers, with twenty lookups for each that ask one server after the other.
        let (lanes, known) = (Lanes::new(), DelegationMemory::new());
        let attack = (0..50).flat_map(|of| (0..20).map(move |first| (of, first)));
        let attack = attack.map(|(of, first)| {
            let (lanes, known) = (&lanes, &known);
            async move {
                for number in (0..20).map(|number| (first + number) % 20) {
                    dead(lanes, known, of, number).await;
                }
            }
        });
        let cold = async {
            let mut most = Duration::ZERO;
            for number in 0..100 {
                sleep(Duration::from_millis(50)).await;
                let began = Instant::now();
                let place = lanes.enter(&zone(200), server(200, number), &known).await.unwrap();
                place.hold(async { Ok(()) }).await.unwrap();
                most = most.max(began.elapsed());
            }
            most
        };
        let most = tokio::select! {
            most = cold => most,
            _ = join_all(attack) => panic!("the attack is over"),
        };
        assert!(most < Duration::from_secs(2), "{most:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_zone_has_few_places_for_servers_that_are_not_fast() {
        let (lanes, known) = (Lanes::new(), DelegationMemory::new());
        let mut held = Vec::new();
        for number in 0..OF_ZONE {
            held.push(lanes.enter(&zone(1), server(1, number as u8), &known).await.unwrap());
        }
        let soon = Duration::from_secs(1);
        assert!(timeout(soon, lanes.enter(&zone(1), server(1, 99), &known)).await.is_err());
        assert!(timeout(soon, lanes.enter(&zone(2), server(1, 99), &known)).await.is_ok());
        // A fast server needs none of them, nor does one that turns out to be fast.
        known.replied(server(1, 99), Duration::ZERO);
        assert!(timeout(soon, lanes.enter(&zone(1), server(1, 99), &known)).await.is_ok());
        held.pop();
        assert!(timeout(soon, lanes.enter(&zone(1), server(1, 98), &known)).await.is_ok());
        held.clear();
        assert!(lanes.zones.in_use.lock().is_empty(), "no zone is kept that is not asked");
        assert_eq!(lanes.unknown.available_permits(), UNKNOWN);
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_beside_another_takes_a_free_place_or_none() {
        let (lanes, known) = (Lanes::new(), DelegationMemory::new());
        let beside = |of: u8, number: u8| lanes.enter_beside(&zone(of), server(of, number), &known);
        let held: Vec<_> = (0..OF_ZONE).map(|number| beside(1, number as u8).unwrap()).collect();
        // The zone has all its places; another one has not.
        assert!(beside(1, 99).is_none() && beside(2, 1).is_some());
        drop(held);
        assert!(beside(1, 99).is_some() && lanes.zones.in_use.lock().is_empty());
        // Another question waits for the next place among those for unknown servers.
        let full = lanes.unknown.acquire_many(UNKNOWN as u32).await.unwrap();
        assert!(beside(1, 1).is_none() && lanes.zones.in_use.lock().is_empty());
        // One server has few places, among those for fast ones too.
        known.replied(server(1, 1), Duration::ZERO);
        let held: Vec<_> = std::iter::from_fn(|| beside(1, 1)).collect();
        assert_eq!(held.len(), TO_ONE);
        drop((full, held));
    }

    #[tokio::test(start_paused = true)]
    async fn questions_that_wait_for_one_server_keep_none_to_another_waiting() {
        let (lanes, known) = (Lanes::new(), DelegationMemory::new());
        known.replied(server(1, 1), Duration::ZERO);
        let (asked, other) = (zone(1), zone(2));
        let held: Vec<_> = join_all((0..TO_ONE).map(|_| lanes.enter(&asked, server(1, 1), &known))).await;
        let waiting = lanes.enter(&asked, server(1, 1), &known);
        tokio::pin!(waiting);
        assert!(timeout(Duration::ZERO, &mut waiting).await.is_err());
        for of in 2..=255 {
            for number in 0..4 {
                known.replied(server(of, number), Duration::ZERO);
                let place = timeout(Duration::from_millis(1), lanes.enter(&other, server(of, number), &known)).await;
                assert!(place.is_ok(), "{of}.{number}");
            }
        }
        drop(held);
        assert!(waiting.await.is_ok() && lanes.servers.in_use.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_that_waits_goes_by_the_state_of_its_server_when_its_turn_comes() {
        let (lanes, known) = (Lanes::new(), DelegationMemory::new());
        let full = lanes.unknown.acquire_many(UNKNOWN as u32).await.unwrap();
        let place = zone(1);
        let waiting = lanes.enter(&place, server(1, 1), &known);
        let meanwhile = async {
            sleep(Duration::from_millis(100)).await;
            known.failed(server(1, 1));
            drop(full);
        };
        let (place, ()) = tokio::join!(waiting, meanwhile);
        assert_eq!(place.unwrap().class, ServerClass::Failed);
    }
}
