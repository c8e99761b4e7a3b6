//! The families of addresses to which this host has a route.

use std::net::{IpAddr, UdpSocket};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::super::Nat64Prefix;
use super::super::by_nat64::connect_address;
use super::super::query::any_of_family;
use super::hints::RootHints;

/// How long a finding holds. A network may come and go.
const HOLDS_FOR: Duration = Duration::from_secs(30);

/// Whether IPv4 and IPv6 have a route to the root servers.
#[derive(Default)]
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
    /// In a network in which IPv4 addresses are reached by this prefix, if there is one.
    pub(super) fn behind(nat64: Option<Nat64Prefix>) -> Self {
        Self { nat64, found: Mutex::default() }
    }

    /// Whether there is a route for IPv4 and for IPv6. If there is none at all, both are tried all the same: the error
    /// says more than this can.
    pub(super) fn routes(&self, hints: &RootHints) -> FamilyRoutes {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(finding) = found.as_ref().filter(|finding| finding.since.elapsed() < HOLDS_FOR) {
            return finding.families;
        }
        let any = |is: fn(&IpAddr) -> bool| {
            let of_family = hints.addresses().iter().find(|address| is(address));
            of_family.is_some_and(|address| has_route(connect_address(*address, self.nat64)))
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
    fn a_family_without_a_root_server_that_can_be_reached_is_not_used() {
        let hints = RootHints::parse("ns. A 127.0.0.1").unwrap();
        assert_eq!(RoutedFamilies::default().routes(&hints), FamilyRoutes { v4: true, v6: false });
        assert!(RoutedFamilies::default().routes(&hints).reach("127.0.0.2".parse().unwrap()));
    }
}
