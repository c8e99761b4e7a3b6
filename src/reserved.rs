//! Which addresses may be dialled: those where a public mail server can be.
//!
//! An MX record is written by strangers. One that points at loopback, at a private network or at a cloud's metadata
//! service would turn us into a probe inside our own network. Addresses that carry an IPv4 address inside (mapped,
//! NAT64, 6to4) are judged by that address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// The rule for addresses to dial.
#[derive(Debug, Clone, Default)]
pub struct Dialable {
    allowed: Vec<IpNet>,
}

impl Dialable {
    /// Public addresses, and those in `allowed`, reserved or not.
    pub fn new(allowed: impl IntoIterator<Item = IpNet>) -> Self {
        Self { allowed: allowed.into_iter().collect() }
    }

    /// Whether the address may be dialled.
    pub fn allows(&self, address: IpAddr) -> bool {
        let inner = embedded(address);
        self.allowed.iter().any(|network| network.contains(&address) || network.contains(&inner))
            || !is_reserved(address) && !is_reserved(inner)
    }
}

/// The IPv4 address inside, or the address itself.
fn embedded(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let s = v6.segments();
    let v4 = |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    match s {
        // ::ffff:0:0/96 mapped (RFC 4291 §2.5.5.2), 64:ff9b::/96 NAT64 (RFC 6052).
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        // 2002::/16 6to4 (RFC 3056 §2).
        [0x2002, high, low, ..] => v4(high, low),
        _ => address,
    }
}

/// Whether no public host has this address (RFC 6890 and its registries).
pub(crate) fn is_reserved(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_reserved_v4(v4),
        IpAddr::V6(v6) => is_reserved_v6(v6),
    }
}

fn is_reserved_v4(v4: Ipv4Addr) -> bool {
    match v4.octets() {
        // This network, private, shared (RFC 6598), loopback, link-local.
        [0 | 10 | 127, ..] | [100, 64..=127, ..] | [169, 254, ..] | [172, 16..=31, ..] | [192, 168, ..] => true,
        // Protocol assignments, documentation, 6to4 relays, benchmarking.
        [192, 0, 0 | 2, _] | [198, 51, 100, _] | [203, 0, 113, _] | [192, 88, 99, _] | [198, 18 | 19, ..] => true,
        // Multicast, class E, broadcast.
        [224..=255, ..] => true,
        _ => false,
    }
}

fn is_reserved_v6(v6: Ipv6Addr) -> bool {
    match v6.segments() {
        // Mapped and NAT64: the IPv4 address inside decides.
        [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => false,
        // Teredo and the other IETF assignments, documentation.
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => true,
        // RFC 4291 §2.4: IANA has given out global unicast addresses from 2000::/3 alone. The other addresses are
        // loopback, link-local, unique local, multicast, or free, and overlay networks use free ones.
        [0x2000..=0x3fff, ..] => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_where_a_public_mail_server_can_be() {
        //
        let dialable = Dialable::default();
        for reserved in [
            "127.0.0.1",
            "127.255.0.1",
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "169.254.169.254",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "192.0.2.1",
            "198.51.100.1",
            "203.0.113.1",
            "198.18.0.1",
            "::",
            "::1",
            "fe80::1",
            "fec0::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "2001:db8::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "::10.0.0.1",
            "100::1",
            "2001::1",
            "3fff::1",
            "200::1",
            "5f00::1",
            "4000::1",
            "::8.8.8.8",
            "::ffff:0:7f00:1",
        ] {
            assert!(!dialable.allows(reserved.parse().unwrap()), "{reserved}");
        }
        for public in [
            "8.8.8.8",
            "172.15.0.1",
            "172.32.0.1",
            "100.63.0.1",
            "100.128.0.1",
            "192.0.1.1",
            "223.255.255.255",
            "2a01:4f8::1",
            "2001:4860::1",
            "2620:fe::fe",
            "64:ff9b::808:808",
            "2002:808:808::1",
            "::ffff:8.8.8.8",
        ] {
            assert!(dialable.allows(public.parse().unwrap()), "{public}");
        }
    }

    #[test]
    fn a_listed_range_may_be_dialled() {
        // Decision 14.
        let dialable = Dialable::new(["127.25.0.0/16".parse().unwrap()]);
        assert!(dialable.allows("127.25.3.4".parse().unwrap()));
        assert!(dialable.allows("::ffff:127.25.3.4".parse().unwrap()));
        assert!(!dialable.allows("127.26.0.1".parse().unwrap()));
        assert!(!dialable.allows("10.0.0.1".parse().unwrap()));
    }
}
