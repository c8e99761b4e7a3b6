//! The places of fetches: how many go on at a time, and which one is next.
//!
//! A policy host that drips its answer holds a place for as long as it likes, and a stranger may have many such hosts. So
//! the places are given out fairly, by [registered domain](Name::registered): a free place goes to the fetch whose registered
//! domain holds the fewest, and of these to the one that came first. A fetch that has had the time for which a mail waits
//! gives its place to a fetch that waits, unless that one's registered domain holds as many. So a stranger needs as many
//! registered domains as there are places to make another's fetch wait for longer than that time.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use crate::name::Name;

/// How many fetches go on at a time.
pub(super) const MAX_FETCHES: usize = 32;
/// How many wait for a place.
const MAX_WAITING: usize = 1000;

/// The places of fetches. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct FetchPlaces {
    order: Arc<Mutex<PlaceOrder>>,
    /// Told of each change.
    changed: watch::Sender<()>,
}

/// The places that are held, and the fetches that wait for one.
#[derive(Debug, Default)]
struct PlaceOrder {
    held: HashMap<Name, usize>,
    waiting: VecDeque<FetchWaiter>,
}

#[derive(Debug)]
struct FetchWaiter {
    registered: Name,
    place: oneshot::Sender<FetchPlace>,
}

/// A fetch's place. Another fetch has it once this is dropped.
#[derive(Debug)]
pub(super) struct FetchPlace {
    places: FetchPlaces,
    /// None once another fetch has the place.
    registered: Option<Name>,
}

/// The wait for a place; an error if there is none, because too many others wait.
pub(super) type FuturePlace = oneshot::Receiver<FetchPlace>;

impl FetchPlaces {
    /// All places are free.
    pub(super) fn new() -> Self {
        Self { order: Arc::default(), changed: watch::Sender::default() }
    }

    /// Asks for a place for the policy of this domain.
    pub(super) fn join(&self, domain: &Name) -> FuturePlace {
        let (place, awaited) = oneshot::channel();
        self.order.lock().join(FetchWaiter { registered: domain.registered(), place });
        self.give();
        awaited
    }

    /// Gives the free places to those that wait.
    fn give(&self) {
        loop {
            let next = self.order.lock().next();
            let Some(FetchWaiter { registered, place }) = next else { break };
            // One that has ceased to wait gives its place back.
            let _ = place.send(FetchPlace { places: self.clone(), registered: Some(registered) });
        }
        self.changed.send_replace(());
    }
}

impl FetchPlace {
    /// Keeps the place until another fetch waits for one, and gives it to that.
    pub(super) async fn until_wanted(mut self) {
        let mut changed = self.places.changed.subscribe();
        while !self.give_up_if_wanted() {
            // The sender is this place's own, so it is there.
            let _ = changed.changed().await;
        }
    }

    fn give_up_if_wanted(&mut self) -> bool {
        let mut order = self.places.order.lock();
        let is_wanted = self.registered.as_ref().is_none_or(|registered| order.is_wanted(registered));
        if is_wanted && let Some(registered) = self.registered.take() {
            order.release(&registered);
        }
        drop(order);
        if is_wanted {
            self.places.give();
        }
        is_wanted
    }
}

impl Drop for FetchPlace {
    fn drop(&mut self) {
        if let Some(registered) = self.registered.take() {
            self.places.order.lock().release(&registered);
            self.places.give();
        }
    }
}

impl PlaceOrder {
    fn is_full(&self) -> bool {
        self.held.values().sum::<usize>() >= MAX_FETCHES
    }

    /// Whether a fetch of a registered domain that holds fewer places than this one can have no place but one that is held.
    fn is_wanted(&self, holder: &Name) -> bool {
        let held = |registered: &Name| self.held.get(registered).copied().unwrap_or(0);
        let wants = |waiter: &FetchWaiter| !waiter.place.is_closed() && held(&waiter.registered) < held(holder);
        self.is_full() && self.waiting.iter().any(wants)
    }

    /// The fetch that is next, if a place is free. It has the place.
    fn next(&mut self) -> Option<FetchWaiter> {
        self.waiting.retain(|waiter| !waiter.place.is_closed());
        if self.is_full() {
            return None;
        }
        let held = |waiter: &FetchWaiter| self.held.get(&waiter.registered).copied().unwrap_or(0);
        // Of equals, this is the first.
        let (next, _) = self.waiting.iter().enumerate().min_by_key(|(_, waiter)| held(waiter))?;
        let waiter = self.waiting.remove(next)?;
        *self.held.entry(waiter.registered.clone()).or_default() += 1;
        Some(waiter)
    }

    /// Lets one more wait. If there are too many then, the last one of the registered domain with the most is sent away.
    fn join(&mut self, waiter: FetchWaiter) {
        self.waiting.push_back(waiter);
        if self.waiting.len() <= MAX_WAITING {
            return;
        }
        let mut counts: HashMap<&Name, usize> = HashMap::new();
        for waiter in &self.waiting {
            *counts.entry(&waiter.registered).or_default() += 1;
        }
        let count = |waiter: &FetchWaiter| counts.get(&waiter.registered).copied().unwrap_or(0);
        // Of equals, this is the last.
        let last = self.waiting.iter().enumerate().max_by_key(|(_, waiter)| count(waiter)).map(|(last, _)| last);
        last.and_then(|last| self.waiting.remove(last));
    }

    fn release(&mut self, registered: &Name) {
        if let Some(held) = self.held.get_mut(registered) {
            *held = held.saturating_sub(1);
            if *held == 0 {
                self.held.remove(registered);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn joined(places: &FetchPlaces, domains: impl IntoIterator<Item = String>) -> Vec<FuturePlace> {
        domains.into_iter().map(|domain| places.join(&name(&domain))).collect()
    }

    /// The place of one that has it already.
    fn taken(place: &mut FuturePlace) -> Option<FetchPlace> {
        place.try_recv().ok()
    }

    #[test]
    fn p21_the_next_place_is_for_the_registered_domain_with_the_fewest() {
        // P21: a stranger holds all places with hosts below one domain, and has more that wait.
        let places = FetchPlaces::new();
        let strangers = |range: std::ops::Range<usize>| range.map(|index| format!("{index}.stranger.test"));
        let held: Vec<_> =
            joined(&places, strangers(0..MAX_FETCHES)).iter_mut().map(|place| taken(place).unwrap()).collect();
        let mut more = joined(&places, strangers(32..40));
        let mut others = joined(&places, ["a.test", "b.test", "x.a.test"].map(str::to_owned));
        assert!(more.iter_mut().chain(&mut others).all(|place| taken(place).is_none()));
        let mut held = held.into_iter();
        let mut free = || drop(held.next());
        free();
        let one = taken(&mut others[0]).unwrap();
        free();
        let two = taken(&mut others[1]).unwrap();
        free();
        assert!(taken(&mut others[2]).is_some(), "one of its registered domain and 29 of the other");
        // The place of the last was given back, and only strangers wait.
        let of_a_stranger = taken(&mut more[0]).unwrap();
        assert!(taken(&mut more[1]).is_none());
        drop((one, two, of_a_stranger));
        assert_eq!(more[1..].iter_mut().filter_map(|place| taken(place).map(std::mem::forget)).count(), 3);
    }

    #[test]
    fn p21_too_many_that_wait_are_of_the_registered_domain_with_the_most() {
        // P21.
        let places = FetchPlaces::new();
        let strangers = (0..MAX_FETCHES + MAX_WAITING).map(|index| format!("{index}.stranger.test"));
        let mut strangers = joined(&places, strangers);
        let mut other = places.join(&name("example.test"));
        let is_away = |place: &mut FuturePlace| matches!(place.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        assert!(!is_away(&mut other) && is_away(strangers.last_mut().unwrap()));
        assert!(is_away(&mut places.join(&name("late.stranger.test"))));
        drop(strangers);
        assert!(taken(&mut other).is_some(), "all others have gone");
        assert!(places.order.lock().held.is_empty() && places.order.lock().waiting.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn p21_one_place_is_given_up_for_each_that_waits() {
        // P21.
        let places = FetchPlaces::new();
        let mut held = joined(&places, (0..MAX_FETCHES).map(|index| format!("x.{index}.test")));
        let held: Vec<_> = held.iter_mut().map(|place| taken(place).unwrap()).collect();
        let held: Vec<_> = held.into_iter().map(|place| tokio::spawn(place.until_wanted())).collect();
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        assert!(held.iter().all(|task| !task.is_finished()));
        let others = joined(&places, ["a.test", "b.test"].map(str::to_owned));
        let mut kept = Vec::new();
        for place in others {
            kept.push(place.await.unwrap());
        }
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        assert_eq!(held.iter().filter(|task| task.is_finished()).count(), 2);
        // One that does not wait any more wants no place, and neither does one of a registered domain that holds as many.
        let mut same = places.join(&name("x.a.test"));
        assert!(taken(&mut same).is_none());
        drop(places.join(&name("c.test")));
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        assert_eq!(held.iter().filter(|task| task.is_finished()).count(), 2);
    }
}
