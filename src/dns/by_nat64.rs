//! IPv4 addresses in a network with IPv6 alone: the place to dial, and the address that counts.
//!
//! An exchange, and a policy host of MTA-STS, keeps the IPv4 address of its A record everywhere but in the call that opens the
//! socket: for the filter of reserved addresses, for our own addresses, for limits, for the memory of failures and
//! for the log.

use std::net::{IpAddr, Ipv6Addr};

use super::Nat64Prefix;
use crate::reserved::is_reserved;

/// The addresses that count, each once: an address below the prefix is the IPv4 address inside.
pub fn identities(addresses: Vec<IpAddr>, prefix: Nat64Prefix) -> Vec<IpAddr> {
    let mut identities = Vec::with_capacity(addresses.len());
    for address in addresses {
        let inside = match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(v6) => prefix.extract(v6).map(IpAddr::V4),
        };
        let identity = inside.unwrap_or(address);
        if !identities.contains(&identity) {
            identities.push(identity);
        }
    }
    identities
}

/// The address by which a translator reaches an IPv4 address. None for one of a private network or of this host, which may be
/// dialled because the operator says so: no translator is between us and it (RFC 6052 §3.1).
pub fn translated(address: IpAddr, prefix: Nat64Prefix) -> Option<Ipv6Addr> {
    match address {
        IpAddr::V4(v4) if !is_reserved(address) => Some(prefix.embed(v4)),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

/// The address to connect to: a translator's, where it reaches this one.
pub fn connect_address(address: IpAddr, prefix: Option<Nat64Prefix>) -> IpAddr {
    prefix.and_then(|prefix| translated(address, prefix)).map_or(address, IpAddr::V6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::Nat64;

    fn prefix(text: &str) -> Nat64Prefix {
        match text.parse() {
            Ok(Nat64::By(prefix)) => prefix,
            other => panic!("{other:?}"),
        }
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_below_the_prefix_is_the_ipv4_address_inside() {
        // A25, A-51, A-52.
        for (network, addresses, expected) in [
            ("64:ff9b::/96", "8.8.8.8 64:ff9b::8.8.8.8 2001:4860::1", "8.8.8.8 2001:4860::1"),
            ("64:ff9b::/96", "64:ff9b::127.0.0.1", "127.0.0.1"),
            (
                "2001:db8:64::/96",
                "2001:db8:64::10.0.0.5 2001:db8:64:0:100::10.0.0.5",
                "10.0.0.5 2001:db8:64:0:100::a00:5",
            ),
            ("2001:db8::/64", "2001:db8::100a:0:500:0", "10.0.0.5"),
        ] {
            let found = identities(addresses.split(' ').map(address).collect(), prefix(network));
            let expected: Vec<_> = expected.split(' ').map(address).collect();
            assert_eq!(found, expected, "{network} {addresses}");
        }
    }

    #[test]
    fn public_ipv4_addresses_alone_are_translated() {
        let network = prefix("64:ff9b::/96");
        assert_eq!(translated(address("8.8.8.8"), network), Some("64:ff9b::808:808".parse().unwrap()));
        for as_it_is in ["127.0.0.1", "10.1.2.3", "192.168.0.1", "169.254.169.254", "2001:4860::1", "::1"] {
            assert_eq!(translated(address(as_it_is), network), None, "{as_it_is}");
        }
    }
}
