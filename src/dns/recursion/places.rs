//! The memory of the iterator: which zone serves a name, which addresses a name server has, and how fast each is.
//!
//! All of it only leads to servers, whose replies are validated; a wrong entry costs time and no security. An entry comes
//! from a parent's referral alone, and never from a zone's word about itself: a zone that was taken out of its parent is
//! gone at the end of the TTL that the parent gave (the "ghost domain" attack, CVE-2012-1033).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::super::cache::{Cache, CacheBounds, EntryWeight, WithTtl};
use super::super::canonical::CanonicalName;
use super::super::memory::now;
use super::super::pace::{self, MISSES, RoundTrip};
use super::referral::{Referral, ServerName};

/// How much is remembered of zones, and of the addresses of name servers.
const MEMORY: CacheBounds = CacheBounds { entries: 10_000, octets: 16 << 20 };
/// The longest time for which a zone's servers are remembered, even if the TTL is longer.
const LONGEST: Duration = Duration::from_secs(6 * 3600);
/// How long it is remembered that no zone begins at a name.
const WITHIN_FOR: Duration = Duration::from_secs(300);
/// How long it is remembered that a name server has no address.
const NO_ADDRESS_FOR: Duration = Duration::from_secs(30);
/// How long the speed of a server is remembered, and a failure of it.
const SPEED_FOR: Duration = Duration::from_secs(900);
const FAILURE_FOR: Duration = Duration::from_secs(60);
/// A round trip that is not known yet counts as one of up to so much: unknown servers are tried, too.
const UNKNOWN_UP_TO: u64 = 100;
/// A round trip above this is slow.
const FAST: Duration = Duration::from_millis(500);
/// The wait for a server that is not known yet, and the least wait for one that is.
pub(super) const FIRST_WAIT: Duration = Duration::from_millis(1500);
const LEAST_WAIT: Duration = Duration::from_millis(400);

/// The knowledge about a name.
enum ZoneCut {
    /// A zone begins there.
    Begins(Arc<Referral>),
    /// No zone begins there.
    Within,
}

/// The zone that serves a name.
pub(super) struct ZonePosition {
    pub(super) cut: Arc<Referral>,
    /// The number of labels of the name down to which no other zone begins.
    pub(super) known: usize,
}

/// The experience with a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ServerSpeed {
    /// It has answered within this time. Of so many questions in a row it has missed each, and another server has not.
    Answers {
        trip: RoundTrip,
        misses: u32,
    },
    Failed,
}

/// The kinds of servers, by the places that their questions take ([`lanes`](super::lanes)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ServerClass {
    /// It has answered of late, and without delay.
    Fast,
    /// It has answered of late, and took its time.
    Slow,
    /// It has not answered of late.
    Failed,
    /// It was not asked of late.
    Unknown,
}

/// That a server has left a question with EDNS unanswered, and has answered it without.
struct DropsEdns;

struct HostAddresses(Vec<IpAddr>);

/// The memory. Bounded in entries, in octets and in time.
pub(super) struct DelegationMemory {
    zones: Cache<CanonicalName, ZoneCut>,
    hosts: Cache<CanonicalName, HostAddresses>,
    speeds: Cache<IpAddr, ServerSpeed>,
    edns_dropped: Cache<IpAddr, DropsEdns>,
}

impl DelegationMemory {
    pub(super) fn new() -> Self {
        let (zones, hosts, speeds) = (Cache::new(MEMORY), Cache::new(MEMORY), Cache::new(MEMORY));
        Self { zones, hosts, speeds, edns_dropped: Cache::new(MEMORY) }
    }

    /// The deepest known zone at or above a name.
    pub(super) fn position(&self, name: &CanonicalName) -> Option<ZonePosition> {
        let mut known = name.depth();
        for depth in (0..=name.depth()).rev() {
            match self.zones.get(&name.ancestor(depth), now()).as_deref() {
                Some(ZoneCut::Begins(cut)) => return Some(ZonePosition { cut: Arc::clone(cut), known }),
                Some(ZoneCut::Within) => {}
                None => known = depth.saturating_sub(1),
            }
        }
        None
    }

    pub(super) fn put_cut(&self, cut: &Arc<Referral>) {
        let lasting = WithTtl { value: Arc::new(ZoneCut::Begins(Arc::clone(cut))), ttl: cut.ttl.min(LONGEST) };
        self.zones.put(cut.zone.clone(), lasting, now());
    }

    pub(super) fn put_within(&self, name: &CanonicalName) {
        self.zones.put(name.clone(), WithTtl { value: Arc::new(ZoneCut::Within), ttl: WITHIN_FOR }, now());
    }

    pub(super) fn forget(&self, zone: &CanonicalName) {
        self.zones.remove(zone);
    }

    /// The addresses of a name server, if they are known; none at all may be known, too.
    pub(super) fn host(&self, name: &CanonicalName) -> Option<Vec<IpAddr>> {
        self.hosts.get(name, now()).map(|addresses| addresses.0.clone())
    }

    pub(super) fn put_host(&self, name: &CanonicalName, addresses: &WithTtl<Vec<IpAddr>>) {
        let ttl = if addresses.value.is_empty() { NO_ADDRESS_FOR } else { addresses.ttl.min(LONGEST) };
        self.hosts.put(name.clone(), WithTtl { value: Arc::new(HostAddresses(addresses.value.clone())), ttl }, now());
    }

    /// A reply has come after so long.
    pub(super) fn replied(&self, server: IpAddr, after: Duration) {
        let trip = match self.speeds.get(&server, now()).as_deref() {
            Some(ServerSpeed::Answers { trip, .. }) => trip.then(after),
            Some(ServerSpeed::Failed) | None => RoundTrip::first(after),
        };
        self.put_speed(server, WithTtl { value: ServerSpeed::Answers { trip, misses: 0 }, ttl: SPEED_FOR });
    }

    /// No reply has come within that time, and one of another server of the zone has. A server that has not answered before
    /// has failed.
    pub(super) fn missed(&self, server: IpAddr, after: Duration) {
        match self.speeds.get(&server, now()).as_deref() {
            Some(ServerSpeed::Answers { trip, misses }) if misses + 1 < MISSES => {
                let value = ServerSpeed::Answers { trip: trip.then(after), misses: misses + 1 };
                self.put_speed(server, WithTtl { value, ttl: SPEED_FOR });
            }
            Some(ServerSpeed::Answers { .. } | ServerSpeed::Failed) | None => self.failed(server),
        }
    }

    /// No reply that is of use has come.
    pub(super) fn failed(&self, server: IpAddr) {
        self.put_speed(server, WithTtl { value: ServerSpeed::Failed, ttl: FAILURE_FOR });
    }

    /// It has answered without EDNS alone.
    pub(super) fn put_drops_edns(&self, server: IpAddr) {
        self.edns_dropped.put(server, WithTtl { value: Arc::new(DropsEdns), ttl: SPEED_FOR }, now());
    }

    /// Whether it has answered without EDNS alone of late.
    pub(super) fn drops_edns(&self, server: IpAddr) -> bool {
        self.edns_dropped.get(&server, now()).is_some()
    }

    fn put_speed(&self, server: IpAddr, speed: WithTtl<ServerSpeed>) {
        self.speeds.put(server, WithTtl { value: Arc::new(speed.value), ttl: speed.ttl }, now());
    }

    /// How a server has answered of late.
    pub(super) fn class(&self, server: IpAddr) -> ServerClass {
        match self.speeds.get(&server, now()).as_deref() {
            Some(ServerSpeed::Answers { trip, .. }) if trip.smoothed() <= FAST => ServerClass::Fast,
            Some(ServerSpeed::Answers { .. }) => ServerClass::Slow,
            Some(ServerSpeed::Failed) => ServerClass::Failed,
            None => ServerClass::Unknown,
        }
    }

    /// How long to wait for a reply of a server.
    pub(super) fn wait(&self, server: IpAddr) -> Duration {
        match self.speeds.get(&server, now()).as_deref() {
            Some(ServerSpeed::Answers { trip, .. }) => (trip.smoothed() * 4).clamp(LEAST_WAIT, FIRST_WAIT),
            Some(ServerSpeed::Failed) | None => FIRST_WAIT,
        }
    }

    /// How long to wait for a reply of a server until another one is asked beside it.
    pub(super) fn wait_alone(&self, server: IpAddr) -> Duration {
        match self.speeds.get(&server, now()).as_deref() {
            Some(ServerSpeed::Answers { trip, .. }) => trip.wait().clamp(pace::SHORTEST, FIRST_WAIT),
            Some(ServerSpeed::Failed) | None => pace::FIRST,
        }
    }

    /// The addresses, each once: the fast ones first, those that failed last.
    pub(super) fn in_order(&self, addresses: &[IpAddr]) -> Vec<IpAddr> {
        let mut ranked: Vec<(Duration, IpAddr)> = Vec::new();
        for address in addresses {
            if ranked.iter().any(|(_, known)| known == address) {
                continue;
            }
            let rank = match self.speeds.get(address, now()).as_deref() {
                Some(ServerSpeed::Answers { trip, .. }) => trip.smoothed(),
                Some(ServerSpeed::Failed) => Duration::MAX,
                None => Duration::from_millis(fastrand::u64(0..UNKNOWN_UP_TO)),
            };
            ranked.push((rank, *address));
        }
        ranked.sort();
        ranked.into_iter().map(|(_, address)| address).collect()
    }
}

/// About as much as a name takes.
const NAME: usize = 128;

impl EntryWeight for ZoneCut {
    fn octets(&self) -> usize {
        let server = |server: &ServerName| NAME + size_of_val(server.addresses.as_slice());
        match self {
            Self::Begins(cut) => 2 * NAME + cut.servers.iter().map(server).sum::<usize>(),
            Self::Within => NAME,
        }
    }
}

impl EntryWeight for HostAddresses {
    fn octets(&self) -> usize {
        NAME + size_of_val(self.0.as_slice())
    }
}

impl EntryWeight for DropsEdns {
    fn octets(&self) -> usize {
        size_of::<IpAddr>()
    }
}

impl EntryWeight for ServerSpeed {
    fn octets(&self) -> usize {
        size_of::<IpAddr>()
    }
}

#[cfg(test)]
mod tests {
    use super::super::referral::ZoneSigning;
    use super::*;

    fn name(text: &str) -> CanonicalName {
        CanonicalName::from_labels(text.split('.').filter(|label| !label.is_empty()).map(str::as_bytes))
    }

    #[test]
    fn the_deepest_zone_and_the_labels_known_to_be_in_it() {
        let places = DelegationMemory::new();
        let cut = |zone| {
            let (ttl, delegation) = (Duration::from_secs(60), ZoneSigning::Signed);
            Arc::new(Referral { zone: name(zone), servers: Vec::new(), ttl, delegation })
        };
        assert!(places.position(&name("mx.a.test")).is_none());
        places.put_cut(&cut(""));
        let position = |text: &str| places.position(&name(text)).map(|at| (at.cut.zone.to_string(), at.known));
        assert_eq!(position("mx.a.test"), Some((".".to_owned(), 0)));
        places.put_cut(&cut("test"));
        assert_eq!(position("mx.a.test"), Some(("test".to_owned(), 1)));
        places.put_within(&name("a.test"));
        assert_eq!(position("mx.a.test"), Some(("test".to_owned(), 2)));
        places.put_within(&name("mx.a.test"));
        assert_eq!(position("mx.a.test"), Some(("test".to_owned(), 3)));
        places.put_cut(&cut("a.test"));
        assert_eq!(position("_25._tcp.mx.a.test"), Some(("a.test".to_owned(), 3)));
        places.forget(&name("a.test"));
        assert_eq!(position("mx.a.test"), Some(("test".to_owned(), 1)));
    }

    #[test]
    fn fast_servers_come_first_and_failed_ones_last() {
        let places = DelegationMemory::new();
        let [slow, fast, failed, unknown]: [IpAddr; 4] =
            ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"].map(|text| text.parse().unwrap());
        places.replied(slow, Duration::from_secs(1));
        places.replied(fast, Duration::ZERO);
        places.failed(failed);
        let classes = [ServerClass::Fast, ServerClass::Slow, ServerClass::Failed, ServerClass::Unknown];
        assert_eq!([fast, slow, failed, unknown].map(|server| places.class(server)), classes);
        let order = places.in_order(&[failed, slow, unknown, fast, slow]);
        assert!(order == [fast, unknown, slow, failed] || order == [unknown, fast, slow, failed], "{order:?}");
        assert_eq!((places.wait(fast), places.wait(slow), places.wait(failed)), (LEAST_WAIT, FIRST_WAIT, FIRST_WAIT));
        let alone = [fast, slow, failed, unknown].map(|server| places.wait_alone(server));
        assert_eq!(alone, [pace::SHORTEST, FIRST_WAIT, pace::FIRST, pace::FIRST]);
    }

    #[test]
    fn a_server_that_others_answer_for_has_failed_at_once_or_when_it_was_known_after_three() {
        let places = DelegationMemory::new();
        let [known, unknown]: [IpAddr; 2] = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse().unwrap());
        places.replied(known, Duration::from_millis(10));
        let mut classes = Vec::new();
        for _ in 0..3 {
            places.missed(known, Duration::from_millis(50));
            classes.push(places.class(known));
        }
        assert_eq!(classes, [ServerClass::Fast, ServerClass::Fast, ServerClass::Failed]);
        places.missed(unknown, Duration::from_millis(400));
        assert_eq!(
            places.class(unknown),
            ServerClass::Failed,
            "a server that never answered has no place of a fast one"
        );
        places.replied(known, Duration::from_millis(10));
        places.missed(known, Duration::from_millis(50));
        places.replied(known, Duration::from_millis(10));
        places.missed(known, Duration::from_millis(50));
        places.missed(known, Duration::from_millis(50));
        assert_eq!(places.class(known), ServerClass::Fast, "a reply in between counts");
    }
}
