//! The addresses of the root servers, from which the way to every zone begins, and the addresses that a name server
//! may have.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::reserved::Dialable;

/// The root servers by IANA's list (<https://www.internic.net/domain/named.root>), a to m.
const ROOT: [&str; 26] = [
    "198.41.0.4",
    "2001:503:ba3e::2:30",
    "170.247.170.2",
    "2801:1b8:10::b",
    "192.33.4.12",
    "2001:500:2::c",
    "199.7.91.13",
    "2001:500:2d::d",
    "192.203.230.10",
    "2001:500:a8::e",
    "192.5.5.241",
    "2001:500:2f::f",
    "192.112.36.4",
    "2001:500:12::d0d",
    "198.97.190.53",
    "2001:500:1::53",
    "192.36.148.17",
    "2001:7fe::53",
    "192.58.128.30",
    "2001:503:c27::2:30",
    "193.0.14.129",
    "2001:7fd::1",
    "199.7.83.42",
    "2001:500:9f::42",
    "202.12.27.33",
    "2001:dc3::35",
];
/// More addresses than this are no list of root servers.
const MAX_HINTS: usize = 64;

/// The addresses of the root servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct RootHints(Vec<IpAddr>);

impl RootHints {
    /// The addresses of a file in the form of IANA's: lines with an A or AAAA record each. Its NS records are not needed.
    ///
    /// # Errors
    /// A line is no such record, or there is no address.
    pub(in super::super) fn parse(text: &str) -> Result<Self, String> {
        let no_address = |number: usize| format!("line {number} has no address");
        let mut found = Vec::new();
        for (line, number) in text.lines().zip(1..) {
            let record = line.split(';').next().unwrap_or_default();
            let words: Vec<&str> = record.split_whitespace().collect();
            let [.., rtype, data] = words.as_slice() else {
                if words.is_empty() {
                    continue;
                }
                return Err(format!("line {number} is no record"));
            };
            match rtype.to_ascii_uppercase().as_str() {
                "NS" => {}
                "A" => found.push(data.parse::<Ipv4Addr>().map_err(|_| no_address(number))?.into()),
                "AAAA" => found.push(data.parse::<Ipv6Addr>().map_err(|_| no_address(number))?.into()),
                _ => return Err(format!("line {number} is neither an NS nor an A nor an AAAA record")),
            }
        }
        match found.len() {
            0 => Err("there is no address in it".to_owned()),
            1..=MAX_HINTS => Ok(Self(found)),
            _ => Err(format!("there are more than {MAX_HINTS} addresses in it")),
        }
    }

    pub(super) fn addresses(&self) -> &[IpAddr] {
        &self.0
    }

    /// The addresses at which name servers are asked: public ones. Where a root server is on loopback or in a private
    /// network, as in a laboratory, those of that network too: a stranger's NS record must not make us a probe in our
    /// own network, and a root of our own is no stranger.
    pub(super) fn dialable(&self) -> Dialable {
        let networks = PRIVATE.iter().filter_map(|text| text.parse::<IpNet>().ok());
        Dialable::new(networks.filter(|network| self.0.iter().any(|address| network.contains(address))))
    }
}

/// The networks that a root of our own may be in.
const PRIVATE: [&str; 7] =
    ["127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"];

impl Default for RootHints {
    fn default() -> Self {
        Self(ROOT.iter().filter_map(|text| text.parse().ok()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thirteen_root_servers_with_two_public_addresses_each() {
        let hints = RootHints::default();
        assert_eq!(hints.addresses().len(), 26);
        assert_eq!(hints.addresses().iter().filter(|address| address.is_ipv4()).count(), 13);
        assert!(hints.addresses().iter().all(|address| Dialable::default().allows(*address)));
    }

    #[test]
    fn a_file_of_hints() {
        let text = "; by hand\n. 3600 IN NS ns.\nns. 3600 IN A 127.25.1.4 ; here\nNS. AAAA ::1\n\n";
        let expected: Vec<IpAddr> = vec!["127.25.1.4".parse().unwrap(), "::1".parse().unwrap()];
        assert_eq!(RootHints::parse(text).unwrap().addresses(), expected);
        for (text, why) in [
            ("", "no address"),
            (". NS ns.", "no address"),
            ("ns. A ::1", "line 1 has no address"),
            ("\n. NS ns.\nns. AAAA 192.0.2.1", "line 3 has no address"),
            ("ns. MX 1", "line 1 is neither"),
            // a key in the wrong place is not shown, and neither steers the terminal.
            ("\n\u{1b}[2Jword", "line 2 is no record"),
            (&"ns. A 192.0.2.1\n".repeat(65), "more than 64"),
        ] {
            assert!(RootHints::parse(text).unwrap_err().contains(why), "{text}");
        }
    }

    #[test]
    fn servers_in_our_own_network_are_asked_only_below_a_root_there() {
        let allows = |hints: &RootHints, address: &str| hints.dialable().allows(address.parse().unwrap());
        let public = RootHints::default();
        for address in ["127.0.0.1", "::1", "10.1.2.3", "169.254.169.254", "fd00::1", "::ffff:10.0.0.1"] {
            assert!(!allows(&public, address), "{address}");
        }
        assert!(allows(&public, "8.8.8.8"));
        let lab = RootHints::parse("ns. A 127.25.1.4").unwrap();
        assert!(allows(&lab, "127.25.1.9") && !allows(&lab, "10.1.2.3") && !allows(&lab, "169.254.169.254"));
    }
}
