//! The original destination of an intercepted client, and its relation to the recipient's domain.
//!
//! It decides no delivery: the client found it in a DNS without verification, and a third party may have chosen it. It is
//! compared with the addresses of the domain's exchanges, and the result is logged. Among the addresses of one exchange
//! it is tried first. The order of the exchanges stays the publisher's (RFC 5321 §5.1); otherwise an attacker could
//! mislead the client, and so choose the exchange without DANE.

use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::join_all;

use super::{Connector, Request};
use crate::dns::{Finality, HostLookup, Resolver};
use crate::trace::Trace;
use crate::words::words;

/// The longest time that mail waits for the relation, which only the log shows.
const PATIENCE: Duration = Duration::from_secs(3);

/// An original destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OriginalDestination {
    /// The address.
    pub address: IpAddr,
    /// Its relation to the domain.
    pub relation: Relation,
}

/// The relation of an address to a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub enum Relation {
    /// It is an address of an exchange of the domain.
    #[strum(serialize = "mx")]
    Exchange,
    /// It is an address of none of its exchanges.
    #[strum(serialize = "no-mx")]
    Other,
    /// It is not known: a lookup failed, or took too long.
    Unknown,
}

words!(Relation);

impl Relation {
    /// By the addresses of all exchanges; `None` for an exchange with an unknown address.
    fn of(address: IpAddr, exchanges: &[Option<Vec<IpAddr>>]) -> Self {
        if exchanges.iter().flatten().flatten().any(|&known| known == address) {
            Self::Exchange
        } else if exchanges.iter().all(Option::is_some) {
            Self::Other
        } else {
            Self::Unknown
        }
    }
}

impl<R: Resolver> Connector<R> {
    /// Finds the relation of the original destination to the domain.
    pub async fn original_destination(&self, address: IpAddr, request: &Request<'_>) -> OriginalDestination {
        let relation = tokio::time::timeout(PATIENCE, self.relation(address, request)).await;
        OriginalDestination { address, relation: relation.unwrap_or(Relation::Unknown) }
    }

    async fn relation(&self, address: IpAddr, request: &Request<'_>) -> Relation {
        // Delivery makes the same lookups. They are shared with it, and it notes them.
        let request = Request { trace: &Trace::default(), ..*request };
        if let Some(known) = request.address() {
            return Relation::of(address, &[Some(vec![known])]);
        }
        let Ok(route) = self.route(&request).await else { return Relation::Unknown };
        let hosts = join_all(route.exchanges().iter().map(|exchange| self.dns.host(exchange))).await;
        let mut exchanges: Vec<_> = hosts
            .into_iter()
            .map(|host| match host {
                Ok(HostLookup::Found(host)) if host.unknown.is_none() => Some(host.addresses),
                Ok(HostLookup::NoAddress(Finality::Final)) => Some(Vec::new()),
                Ok(
                    HostLookup::NoAddress(Finality::Provisional) | HostLookup::Found(_) | HostLookup::NotInFamily(_),
                )
                | Err(_) => None,
            })
            .collect();
        if route.untried() > 0 {
            exchanges.push(None);
        }
        Relation::of(address, &exchanges)
    }
}

/// The addresses in their order, with the original destination in front.
pub(super) fn first(mut addresses: Vec<IpAddr>, original: Option<IpAddr>) -> Vec<IpAddr> {
    addresses.sort_by_key(|&address| Some(address) != original);
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[test]
    fn another_address_is_one_only_if_all_addresses_are_known() {
        let known = |lasts: &[u8]| Some(lasts.iter().map(|&last| address(last)).collect());
        for (exchanges, relation) in [
            (vec![known(&[1, 2]), known(&[3])], Relation::Other),
            (vec![known(&[1, 2]), known(&[9])], Relation::Exchange),
            (vec![known(&[9]), None], Relation::Exchange),
            (vec![known(&[1]), None], Relation::Unknown),
            (vec![known(&[])], Relation::Other),
        ] {
            assert_eq!(Relation::of(address(9), &exchanges), relation, "{exchanges:?}");
        }
    }

    #[test]
    fn the_original_destination_comes_first_and_the_rest_keeps_its_order() {
        let addresses = || [3, 1, 2].map(address).to_vec();
        assert_eq!(first(addresses(), Some(address(2))), [2, 3, 1].map(address));
        assert_eq!(first(addresses(), Some(address(9))), [3, 1, 2].map(address));
        assert_eq!(first(addresses(), None), [3, 1, 2].map(address));
    }
}
