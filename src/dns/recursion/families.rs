//! The network between this host and the authoritative servers: which families of addresses have a route, and by which prefix IPv4
//! addresses are reached, if it has IPv6 alone.

use std::net::{IpAddr, UdpSocket};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::super::by_nat64::{connect_address, identities};
use super::super::query::any_of_family;
use super::super::setup::ResolverSettings;
use super::super::{Nat64, Nat64Prefix};
use super::hints::RootHints;

/// How long a finding holds. A network may come and go.
const HOLDS_FOR: Duration = Duration::from_secs(30);

/// Whether IPv4 and IPv6 have a route to the root servers, and the prefix for IPv4.
pub(super) struct RoutedFamilies {
    /// The prefix by which IPv4 addresses are reached, where it is set.
    nat64: Option<Nat64Prefix>,
    found: Mutex<Option<RouteFinding>>,
}

struct RouteFinding {
    since: Instant,
    families: FamilyRoutes,
}

/// Which families have a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FamilyRoutes {
    pub(super) v4: bool,
    pub(super) v6: bool,
}

impl RoutedFamilies {
    pub(super) fn new(settings: &ResolverSettings) -> Self {
        let nat64 = match settings.nat64 {
            Nat64::By(prefix) => Some(prefix),
            // No authoritative server knows the prefix of this network.
            Nat64::Off | Nat64::Auto => None,
        };
        Self { nat64, found: Mutex::default() }
    }

    /// The address at which a server is dialled.
    pub(super) fn dialled(&self, address: IpAddr) -> IpAddr {
        connect_address(address, self.nat64)
    }

    /// The addresses that count: one below the prefix is the IPv4 address inside, which may be a private one.
    pub(super) fn identities(&self, addresses: &[IpAddr]) -> Vec<IpAddr> {
        match self.nat64 {
            Some(prefix) => identities(addresses.to_vec(), prefix),
            None => addresses.to_vec(),
        }
    }

    /// Whether there is a route for IPv4 and for IPv6. If there is none at all, both are tried all the same: the error
    /// says more than this can.
    pub(super) fn routes(&self, hints: &RootHints) -> FamilyRoutes {
        let mut found = self.found.lock();
        if let Some(finding) = found.as_ref().filter(|finding| finding.since.elapsed() < HOLDS_FOR) {
            return finding.families;
        }
        let any = |is: fn(&IpAddr) -> bool| {
            let of_family = hints.addresses().iter().find(|address| is(address));
            of_family.is_some_and(|address| has_route(self.dialled(*address)))
        };
        let routes = FamilyRoutes { v4: any(IpAddr::is_ipv4), v6: any(IpAddr::is_ipv6) };
        let families = match routes {
            FamilyRoutes { v4: false, v6: false } => FamilyRoutes { v4: true, v6: true },
            some => some,
        };
        *found = Some(RouteFinding { since: Instant::now(), families });
        families
    }
}

impl FamilyRoutes {
    /// Whether the family of this address has a route.
    pub(super) fn reach(self, address: IpAddr) -> bool {
        if address.is_ipv4() { self.v4 } else { self.v6 }
    }
}

/// Whether a socket can be connected there. No packet is sent: UDP has no connections.
fn has_route(address: IpAddr) -> bool {
    UdpSocket::bind(any_of_family(address)).is_ok_and(|socket| socket.connect((address, 53)).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_with_an_ipv4_address_is_dialled_below_the_prefix() {
        let behind = |nat64: &str| {
            RoutedFamilies::new(&ResolverSettings { nat64: nat64.parse().unwrap(), ..ResolverSettings::default() })
        };
        for (nat64, address, expected) in [
            ("", "198.41.0.4", "198.41.0.4"),
            ("auto", "198.41.0.4", "198.41.0.4"),
            ("64:ff9b::/96", "198.41.0.4", "64:ff9b::c629:4"),
            ("64:ff9b::/96", "2001:503:ba3e::2:30", "2001:503:ba3e::2:30"),
            ("64:ff9b::/96", "127.0.0.1", "127.0.0.1"),
        ] {
            let (network, address): (_, IpAddr) = (behind(nat64), address.parse().unwrap());
            let dialled = network.dialled(address);
            assert_eq!(dialled.to_string(), expected, "{nat64}");
            assert_eq!(network.identities(&[address, dialled]).first(), Some(&address));
        }
        let addresses = ["198.41.0.4", "64:ff9b::198.41.0.4"].map(|text| text.parse().unwrap());
        assert_eq!(behind("64:ff9b::/96").identities(&addresses), addresses[..1]);
        assert_eq!(behind("").identities(&addresses), addresses);
    }

    #[test]
    fn a_family_without_a_root_server_that_can_be_reached_is_not_used() {
        let hints = RootHints::parse("ns. A 127.0.0.1").unwrap();
        let routes = RoutedFamilies::new(&ResolverSettings::default()).routes(&hints);
        assert_eq!(routes, FamilyRoutes { v4: true, v6: false });
        assert!(routes.reach("127.0.0.2".parse().unwrap()));
    }
}
