//! What the address that an intercepted client dialled is to the recipient's domain.
//!
//! It decides nothing: the client found it in a DNS that nobody has verified, and may have been sent anywhere. It is
//! compared with the addresses of the domain's exchanges as we know them, and what comes of it is told. Among the
//! addresses of one exchange it is tried first. The order of the exchanges stays the publisher's (RFC 5321 §5.1), or
//! whoever misleads the client could choose the exchange without DANE.

use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::join_all;

use super::{Connector, Request};
use crate::dns::{HostLookup, Resolver};
use crate::trace::Trace;

/// How long mail may wait for this, which is worth a line in the log and no more.
const PATIENCE: Duration = Duration::from_secs(3);

/// The address that a client dialled, and what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dialled {
    /// The address.
    pub address: IpAddr,
    /// What it is to the domain.
    pub is: Standing,
}

/// What an address is to a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// One of an exchange of the domain.
    Exchange,
    /// Of none of its exchanges.
    Stranger,
    /// That cannot be told: a lookup failed, or took too long.
    Unknown,
}

impl Standing {
    /// The word for it in log lines and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Exchange => "mx",
            Self::Stranger => "no-mx",
            Self::Unknown => "unknown",
        }
    }

    /// By the addresses of all exchanges, `None` for one whose addresses could not all be found.
    fn of(address: IpAddr, exchanges: &[Option<Vec<IpAddr>>]) -> Self {
        if exchanges.iter().flatten().flatten().any(|&known| known == address) {
            Self::Exchange
        } else if exchanges.iter().all(Option::is_some) {
            Self::Stranger
        } else {
            Self::Unknown
        }
    }
}

impl<R: Resolver> Connector<R> {
    /// What the address is that the client dialled, which was intercepted.
    pub async fn dialled(&self, address: IpAddr, request: &Request<'_>) -> Dialled {
        let is = tokio::time::timeout(PATIENCE, self.standing(address, request)).await.unwrap_or(Standing::Unknown);
        Dialled { address, is }
    }

    async fn standing(&self, address: IpAddr, request: &Request<'_>) -> Standing {
        // The same lookups as those of the way to a remote, which are shared with it, and noted there.
        let request = Request { trace: &Trace::default(), ..*request };
        let Ok(route) = self.route(&request).await else { return Standing::Unknown };
        let hosts = join_all(route.exchanges().iter().map(|exchange| self.dns.host(exchange))).await;
        let mut exchanges: Vec<_> = hosts
            .into_iter()
            .map(|host| match host {
                Ok(HostLookup::Found(host)) if host.unknown.is_none() => Some(host.addresses),
                Ok(HostLookup::NoAddress) => Some(Vec::new()),
                Ok(HostLookup::Found(_)) | Err(_) => None,
            })
            .collect();
        if route.untried() > 0 {
            exchanges.push(None);
        }
        Standing::of(address, &exchanges)
    }
}

/// The addresses in their order, but what the client dialled first.
pub(super) fn first(mut addresses: Vec<IpAddr>, dialled: Option<IpAddr>) -> Vec<IpAddr> {
    addresses.sort_by_key(|&address| Some(address) != dialled);
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[test]
    fn a_stranger_is_one_only_if_everything_is_known() {
        let known = |lasts: &[u8]| Some(lasts.iter().map(|&last| address(last)).collect());
        for (exchanges, standing) in [
            (vec![known(&[1, 2]), known(&[3])], Standing::Stranger),
            (vec![known(&[1, 2]), known(&[9])], Standing::Exchange),
            (vec![known(&[9]), None], Standing::Exchange),
            (vec![known(&[1]), None], Standing::Unknown),
            (vec![known(&[])], Standing::Stranger),
        ] {
            assert_eq!(Standing::of(address(9), &exchanges), standing, "{exchanges:?}");
        }
    }

    #[test]
    fn what_was_dialled_comes_first_and_the_rest_keeps_its_order() {
        let addresses = || [3, 1, 2].map(address).to_vec();
        assert_eq!(first(addresses(), Some(address(2))), [2, 3, 1].map(address));
        assert_eq!(first(addresses(), Some(address(9))), [3, 1, 2].map(address));
        assert_eq!(first(addresses(), None), [3, 1, 2].map(address));
    }
}
