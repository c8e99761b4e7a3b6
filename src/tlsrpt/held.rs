//! The events of sessions, on their way to be counted or told. A failure of the DNS is held back until it is known that it is
//! none of our own resolver.
//!
//! A resolver that breaks looks like a bogus zone for each domain that mail goes to. So such an event counts only if some
//! resolver passes the self-test when it comes, and passes one that began after it.

use std::collections::VecDeque;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::collectd::DatagramDropped;
use super::event::{TlsEvent, TlsResult};
use crate::dns::selftest::{Health, SelfTested};
use crate::refusal::ResultType;

/// How many events wait for a self-test.
const MAX_HELD: usize = 1000;
/// How often the events that wait look for the end of one.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// An event, and when it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatedEvent {
    /// The event.
    pub event: TlsEvent,
    /// When it came.
    pub at: OffsetDateTime,
}

/// The standing of our own resolvers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResolverStanding {
    /// Whether lookups are validated now: a resolver passes, or the fallback serves.
    pub resolves: bool,
    /// The last self-test that has ended.
    pub last: Option<SelfTested>,
}

impl ResolverStanding {
    /// By the self-tests so far.
    pub fn of(health: &Health, last: Option<SelfTested>) -> Self {
        Self { resolves: health.resolves(), last }
    }
}

/// The events, without those that may be failures of our own resolver.
pub struct SiftedEvents {
    events: mpsc::Receiver<TlsEvent>,
    /// None where no event is in doubt.
    doubt: Option<Doubt>,
    held: VecDeque<HeldEvent>,
    looks: Interval,
}

struct Doubt {
    standing: Box<dyn Fn() -> ResolverStanding + Send>,
    dropped: Box<dyn Fn(DatagramDropped) + Send>,
}

struct HeldEvent {
    dated: DatedEvent,
    since: Instant,
}

/// All of them, in a runtime.
impl From<mpsc::Receiver<TlsEvent>> for SiftedEvents {
    fn from(events: mpsc::Receiver<TlsEvent>) -> Self {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { events, doubt: None, held: VecDeque::new(), looks }
    }
}

impl SiftedEvents {
    /// Those that are not in doubt by the standing of the resolvers. `dropped` counts the others.
    pub fn new(
        events: mpsc::Receiver<TlsEvent>,
        standing: impl Fn() -> ResolverStanding + Send + 'static,
        dropped: impl Fn(DatagramDropped) + Send + 'static,
    ) -> Self {
        let doubt = Doubt { standing: Box::new(standing), dropped: Box::new(dropped) };
        Self { doubt: Some(doubt), ..events.into() }
    }

    /// The next event. None if no more come; those that are held then are dropped. Nothing is lost if this is not awaited to
    /// its end.
    pub async fn recv(&mut self) -> Option<DatedEvent> {
        loop {
            if let Some(dated) = self.released() {
                return Some(dated);
            }
            let event = tokio::select! {
                biased;
                event = self.events.recv() => event?,
                _ = self.looks.tick(), if !self.held.is_empty() => continue,
            };
            let dated = DatedEvent { event, at: OffsetDateTime::now_utc() };
            if !is_of_dns(&dated.event) || self.doubt.is_none() {
                return Some(dated);
            }
            self.hold(dated);
        }
    }

    fn hold(&mut self, dated: DatedEvent) {
        let Some(Doubt { standing, dropped }) = &self.doubt else { return };
        if !standing().resolves {
            dropped(DatagramDropped::OwnResolver);
        } else if self.held.len() < MAX_HELD {
            self.held.push_back(HeldEvent { dated, since: Instant::now() });
        } else {
            dropped(DatagramDropped::Full);
        }
    }

    /// The first event that a self-test has cleared since. Those before it that a self-test speaks against are dropped.
    fn released(&mut self) -> Option<DatedEvent> {
        let Some(Doubt { standing, dropped }) = &self.doubt else { return None };
        while let Some(first) = self.held.front() {
            let last = standing().last.filter(|last| last.began > first.since)?;
            let held = self.held.pop_front()?;
            if last.resolves {
                return Some(held.dated);
            }
            dropped(DatagramDropped::OwnResolver);
        }
        None
    }
}

fn is_of_dns(event: &TlsEvent) -> bool {
    matches!(&event.result, TlsResult::Failure(failure) if failure.kind == ResultType::DnssecInvalid)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::sync::{Arc, Mutex};

    use super::super::tally::tests::{event, failure};
    use super::*;
    use crate::dns::selftest::{SelfTestFailure, ServerHealth, ServerState};

    /// Sifted events, with a standing that a test sets.
    struct Bed {
        sender: mpsc::Sender<TlsEvent>,
        events: SiftedEvents,
        standing: Arc<Mutex<ResolverStanding>>,
        dropped: Arc<Mutex<Vec<DatagramDropped>>>,
    }

    impl Bed {
        fn new() -> Self {
            let (sender, events) = mpsc::channel(2000);
            let standing = Arc::new(Mutex::new(ResolverStanding { resolves: true, last: None }));
            let dropped = Arc::<Mutex<Vec<_>>>::default();
            let (of, to) = (Arc::clone(&standing), Arc::clone(&dropped));
            let events =
                SiftedEvents::new(events, move || *of.lock().unwrap(), move |why| to.lock().unwrap().push(why));
            Self { sender, events, standing, dropped }
        }

        fn fail(&self, number: u8) {
            self.sender.try_send(bogus(number)).unwrap();
        }

        /// The events that come within a minute.
        async fn come(&mut self) -> Vec<TlsEvent> {
            let mut come = Vec::new();
            while let Ok(Some(dated)) = tokio::time::timeout(Duration::from_secs(60), self.events.recv()).await {
                come.push(dated.event);
            }
            come
        }

        fn tested(&self, resolves: bool) {
            let last = Some(SelfTested { began: Instant::now(), resolves });
            *self.standing.lock().unwrap() = ResolverStanding { resolves, last };
        }
    }

    fn bogus(number: u8) -> TlsEvent {
        event("example", "mx.example", failure(ResultType::DnssecInvalid, number))
    }

    fn dropped(bed: &Bed) -> usize {
        bed.dropped.lock().unwrap().len()
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_of_the_dns_counts_by_a_self_test_that_began_after_it() {
        // T6.
        let mut bed = Bed::new();
        bed.tested(true);
        tokio::time::advance(Duration::from_secs(1)).await;
        bed.fail(1);
        bed.sender.try_send(event("example", "mx.example", TlsResult::Success)).unwrap();
        // Others do not wait for it, and an earlier self-test is no proof.
        assert_eq!(bed.come().await, [event("example", "mx.example", TlsResult::Success)]);
        bed.tested(true);
        assert_eq!((bed.come().await, dropped(&bed)), (vec![bogus(1)], 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_resolver_of_our_own_that_breaks_counts_for_no_domain() {
        // T6.
        let mut bed = Bed::new();
        for number in 0..50 {
            bed.fail(number);
        }
        assert_eq!(bed.come().await, []);
        bed.tested(false);
        assert_eq!((bed.come().await, dropped(&bed)), (vec![], 50));
        // While it is known to be broken, no event waits for it to be mended.
        bed.fail(1);
        assert_eq!((bed.come().await, dropped(&bed)), (vec![], 51));
        bed.tested(true);
        assert_eq!(bed.come().await, []);
    }

    #[tokio::test(start_paused = true)]
    async fn the_events_that_wait_are_bounded() {
        let mut bed = Bed::new();
        for _ in 0..=MAX_HELD {
            bed.fail(1);
        }
        assert_eq!((bed.come().await, dropped(&bed)), (vec![], 1));
        bed.tested(true);
        assert_eq!(bed.come().await.len(), MAX_HELD);
    }

    #[test]
    fn the_fallback_vouches_like_any_resolver() {
        // T6.
        let state =
            |state| ServerHealth { server: SocketAddr::from((Ipv4Addr::LOCALHOST, 53)).into(), state, no_tcp: None };
        let failed = || state(ServerState::Failed(SelfTestFailure::TimesOut));
        for (fallback, resolves) in [(None, false), (Some(failed()), false), (Some(state(ServerState::Good)), true)] {
            let health = Health { servers: vec![failed()], fallback };
            assert_eq!(ResolverStanding::of(&health, None).resolves, resolves, "{health:?}");
        }
    }
}
