//! IPv4 addresses in IPv6 addresses (RFC 6052), and the prefix that a network has for them (RFC 7050).
//!
//! In a network with IPv6 alone a translator (NAT64) takes packets for the addresses below its prefix to the IPv4 address
//! inside. Its DNS64 resolvers make AAAA records of that form, which no zone has signed, so danelaw makes the addresses
//! itself, out of validated A records (RFC 6147 §5.5, RFC 8305 §7).

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::Ipv6Net;

/// The name that has IPv4 addresses alone, so that its IPv6 addresses show the prefix (RFC 7050 §2.2).
pub(super) const IPV4_ONLY: &str = "ipv4only.arpa";
/// Its IPv4 addresses (RFC 7050 §2.2).
const WELL_KNOWN: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 0, 170), Ipv4Addr::new(192, 0, 0, 171)];
/// The prefix that is the same in every network (RFC 6052 §2.1).
const WELL_KNOWN_PREFIX: Nat64Prefix =
    Nat64Prefix { prefix: Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), length: 96 };
/// The lengths that a prefix may have (RFC 6052 §2.2).
const LENGTHS: [u8; 6] = [32, 40, 48, 56, 64, 96];
/// The octet that is zero in each such address (RFC 6052 §2.2).
const RESERVED: usize = 8;

/// Whether IPv4 addresses are reached by NAT64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nat64 {
    /// They are not.
    Off,
    /// They are, where the network has a prefix.
    Auto,
    /// They are, by this prefix.
    By(Nat64Prefix),
}

/// The prefix of a translator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Nat64Prefix {
    prefix: Ipv6Addr,
    length: u8,
}

impl Nat64Prefix {
    /// The IPv6 address by which the IPv4 address is reached.
    pub fn embed(self, address: Ipv4Addr) -> Ipv6Addr {
        let mut octets = self.prefix.octets();
        for (place, octet) in places(self.length).zip(address.octets()) {
            if let Some(target) = octets.get_mut(place) {
                *target = octet;
            }
        }
        octets.into()
    }

    /// The IPv4 address inside, of an address below the prefix. Reserved bits do not matter: a translator may ignore them.
    pub fn extract(self, address: Ipv6Addr) -> Option<Ipv4Addr> {
        let is_below = Ipv6Net::new(self.prefix, self.length).is_ok_and(|network| network.contains(&address));
        is_below.then(|| embedded(address, self.length))
    }

    /// The prefix that the addresses of [`IPV4_ONLY`] show, if they show one that may be used.
    pub(super) fn discovered(addresses: &[Ipv6Addr]) -> Option<Self> {
        addresses.iter().filter_map(|address| Self::around(*address)).find(|prefix| prefix.is_of_a_network())
    }

    /// The prefix of an address that has one of the well-known addresses inside. RFC 7050 §3: one that is found at two places
    /// does not count. If both are found, neither does.
    fn around(address: Ipv6Addr) -> Option<Self> {
        let length = |wanted: Ipv4Addr| {
            let mut fitting = LENGTHS.into_iter().filter(|length| embedded(address, *length) == wanted);
            fitting.next().filter(|_| fitting.next().is_none())
        };
        match WELL_KNOWN.map(length) {
            [Some(length), None] | [None, Some(length)] => Self::new(Ipv6Net::new(address, length).ok()?.trunc()),
            [None, None] | [Some(_), Some(_)] => None,
        }
    }

    /// Whether a translator of a public network may have it. The answer that shows it is not signed, so that it must not lead
    /// into the own network; the operator can set any other.
    fn is_of_a_network(self) -> bool {
        match self.prefix.segments() {
            // Teredo and other assignments of the IETF, and 6to4, which has an IPv4 address of its own inside.
            [0x2001, 0..=0x1ff, ..] | [0x2002, ..] => false,
            [0x2000..=0x3fff, ..] => true,
            _ => self == WELL_KNOWN_PREFIX,
        }
    }

    fn new(network: Ipv6Net) -> Option<Self> {
        let (prefix, length) = (network.network(), network.prefix_len());
        let is_one = LENGTHS.contains(&length) && prefix == network.addr() && prefix.octets().get(RESERVED) == Some(&0);
        is_one.then_some(Self { prefix, length })
    }
}

/// The places of the octets of the IPv4 address, behind a prefix of this length.
fn places(length: u8) -> impl Iterator<Item = usize> {
    (usize::from(length / 8)..16).filter(|place| *place != RESERVED).take(4)
}

fn embedded(address: Ipv6Addr, length: u8) -> Ipv4Addr {
    let (octets, mut inside) = (address.octets(), [0; 4]);
    for (target, place) in inside.iter_mut().zip(places(length)) {
        *target = octets.get(place).copied().unwrap_or_default();
    }
    inside.into()
}

impl fmt::Display for Nat64Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.prefix, self.length)
    }
}

impl FromStr for Nat64 {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" => Ok(Self::Off),
            "auto" => Ok(Self::Auto),
            text => text.parse().ok().and_then(Nat64Prefix::new).map(Self::By).ok_or_else(|| {
                format!(
                    "{text:?} is neither \"auto\" nor a prefix such as 64:ff9b::/96, of 32, 40, 48, 56, 64 or 96 bits, with \
                     zeros behind them and in bits 64 to 71 (RFC 6052)"
                )
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn prefix(text: &str) -> Nat64Prefix {
        match text.parse() {
            Ok(Nat64::By(prefix)) => prefix,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn the_table_of_rfc_6052_section_2_4() {
        let inside = Ipv4Addr::new(192, 0, 2, 33);
        for (text, whole) in [
            ("2001:db8::/32", "2001:db8:c000:221::"),
            ("2001:db8:100::/40", "2001:db8:1c0:2:21::"),
            ("2001:db8:122::/48", "2001:db8:122:c000:2:2100::"),
            ("2001:db8:122:300::/56", "2001:db8:122:3c0:0:221::"),
            ("2001:db8:122:344::/64", "2001:db8:122:344:c0:2:2100::"),
            ("2001:db8:122:344::/96", "2001:db8:122:344::192.0.2.33"),
            ("64:ff9b::/96", "64:ff9b::192.0.2.33"),
        ] {
            let (prefix, whole): (_, Ipv6Addr) = (prefix(text), whole.parse().unwrap());
            assert_eq!((prefix.embed(inside), prefix.extract(whole)), (whole, Some(inside)), "{text}");
            assert_eq!(prefix.to_string(), text);
            assert_eq!(prefix.extract("2001:db9::1".parse().unwrap()), None);
        }
    }

    #[test]
    fn reserved_bits_hide_no_address() {
        let loopback = Some(Ipv4Addr::LOCALHOST);
        for (network, whole) in [
            ("2001:db8:122:344::/64", "2001:db8:122:344:7f:0:100::"),
            ("2001:db8:122:344::/64", "2001:db8:122:344:ff7f:0:100::"),
            ("2001:db8:122:344::/64", "2001:db8:122:344:7f:0:1ff:ffff"),
        ] {
            assert_eq!(prefix(network).extract(whole.parse().unwrap()), loopback, "{whole}");
        }
    }

    #[test]
    fn prefixes_as_they_may_be_written() {
        assert_eq!(("".parse(), "auto".parse()), (Ok(Nat64::Off), Ok(Nat64::Auto)));
        for wrong in [
            "64:ff9b::",
            "64:ff9b::/95",
            "64:ff9b::1/96",
            "2001:db8::/24",
            "10.0.0.0/32",
            "2001:db8:0:0:100::/96",
            "on",
            "::/0",
        ] {
            assert!(wrong.parse::<Nat64>().unwrap_err().contains("RFC 6052"), "{wrong}");
        }
    }

    #[test]
    fn the_prefix_of_a_network_is_found_by_the_well_known_addresses() {
        for (addresses, expected) in [
            (&["64:ff9b::192.0.0.170", "64:ff9b::192.0.0.171"][..], Some("64:ff9b::/96")),
            (&["64:ff9b::192.0.0.171"], Some("64:ff9b::/96")),
            (&["2001:db8:c000:aa::"], Some("2001:db8::/32")),
            (&["2001:db8:1c0:0:aa::"], Some("2001:db8:100::/40")),
            (&["2001:db8:122:c000:0:aa00::"], Some("2001:db8:122::/48")),
            (&["2001:db8:122:3c0:0:aa::"], Some("2001:db8:122:300::/56")),
            (&["2001:db8:122:344:c0:0:aa00::"], Some("2001:db8:122:344::/64")),
            // The first that can be used.
            (&["fd00:64::192.0.0.170", "2001:db8:64::192.0.0.170"], Some("2001:db8:64::/96")),
            // RFC 7050 §3: one of the two is at two places.
            (&["2001:db8:c000:aa::192.0.0.170"], None),
            (&["2001:db8:c000:aa::192.0.0.171"], None),
            (&["2001:db8:c000:ab::192.0.0.171", "64:ff9b::192.0.0.171"], Some("64:ff9b::/96")),
            // Private prefixes, and those with another address inside, have to be set.
            (&["fd00:64::192.0.0.170"], None),
            (&["64:ff9b:1::192.0.0.170"], None),
            (&["::ffff:192.0.0.170"], None),
            (&["::192.0.0.170"], None),
            (&["2002:7f00:1::192.0.0.170"], None),
            (&["2001::192.0.0.170"], None),
            // No well-known address.
            (&["2001:db8::1"], None),
            (&["64:ff9b::192.0.2.170"], None),
            (&[], None),
        ] {
            let addresses: Vec<Ipv6Addr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
            let found = Nat64Prefix::discovered(&addresses).map(|prefix| prefix.to_string());
            assert_eq!(found.as_deref(), expected, "{addresses:?}");
        }
    }

    proptest! {
        #[test]
        fn an_embedded_address_is_extracted_again(bits: u128, place in 0..LENGTHS.len(), inside: u32) {
            let length = LENGTHS[place];
            let network = Ipv6Net::new(Ipv6Addr::from(bits & !(0xff_u128 << 56)), length).unwrap().trunc();
            let prefix = Nat64Prefix::new(network).unwrap();
            let inside = Ipv4Addr::from(inside);
            let whole = prefix.embed(inside);
            prop_assert_eq!(prefix.extract(whole), Some(inside));
            prop_assert_eq!(whole.octets()[RESERVED], 0);
            prop_assert!(network.contains(&whole));
        }
    }
}
