//! The name servers of a `resolv.conf`, at port 53, in the order of the file.
//!
//! The file is written by DHCP clients, by router advertisements and by hand. A line that cannot be used is left out, and
//! the others serve. The rest of the file is ignored: names are always asked as they are, without a search list (RFC
//! 5321 §5.1). The file is read as octets: a comment may be in any encoding.

use std::fmt;

use super::server::{DNS_PORT, NameServer, address};

/// Longer texts are cut in a warning.
const SHOWN: usize = 80;

/// The lines of a file that name servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) servers: Vec<NameServer>,
    pub(super) left_out: Vec<LeftOut>,
}

/// A line that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LeftOut {
    /// Its number, from 1.
    line: usize,
    /// The text where an address belongs.
    found: String,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {:?} is no address of a name server that can be used here", self.line, self.found)
    }
}

/// Reads the file. `index` gives the number of an interface of this host by its name.
pub(super) fn parse(octets: &[u8], index: impl Fn(&str) -> Option<u32>) -> Listed {
    let mut listed = Listed { servers: Vec::new(), left_out: Vec::new() };
    for (number, line) in octets.split(|octet| *octet == b'\n').enumerate() {
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        if words.next() != Some(b"nameserver") {
            continue;
        }
        let found = String::from_utf8_lossy(words.next().unwrap_or_default());
        match address(&found, DNS_PORT).and_then(|server| server.located(&index)) {
            Some(server) => listed.servers.push(server),
            None => {
                let found = crate::excerpt::cut(found, SHOWN);
                listed.left_out.push(LeftOut { line: number + 1, found });
            }
        }
    }
    listed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_used_or_left_out() {
        let index = |name: &str| (name == "eth0").then_some(7);
        for (line, server) in [
            ("nameserver 127.0.0.1", Some("127.0.0.1:53")),
            (" nameserver\t2001:db8::53 # second", Some("[2001:db8::53]:53")),
            ("nameserver 127.0.0.1\r", Some("127.0.0.1:53")),
            ("nameserver fe80::1%eth0", Some("[fe80::1%7]:53")),
            ("nameserver fe80::1%2", Some("[fe80::1%2]:53")),
            ("nameserver ::ffff:192.0.2.1", Some("192.0.2.1:53")),
            ("nameserver fe80::1%eth1", None),
            ("nameserver fe80::1%0", None),
            ("nameserver fe80::1%", None),
            ("nameserver 192.0.2.1%eth0", None),
            ("nameserver dns.example", None),
            ("nameserver 192.0.2.1:53", None),
            ("nameserver", None),
        ] {
            let listed = parse(line.as_bytes(), index);
            let servers: Vec<_> = listed.servers.iter().map(ToString::to_string).collect();
            assert_eq!(servers, server.into_iter().collect::<Vec<_>>(), "{line}");
            assert_eq!(listed.left_out.len(), usize::from(server.is_none()), "{line}");
        }
        for line in ["# nameserver 192.0.2.1", "nameservers 192.0.2.1", "search nameserver", "; \u{e9}", ""] {
            assert_eq!(parse(line.as_bytes(), index), Listed { servers: vec![], left_out: vec![] }, "{line}");
        }
    }

    #[test]
    fn unusable_entries_are_named_and_the_others_serve() {
        let text = b"# caf\xe9\nnameserver fe80::1%eth9\nnameserver 192.0.2.1\nnameserver dns.\xff\n";
        let listed = parse(text, |_| None);
        assert_eq!(listed.servers, ["192.0.2.1:53".parse().unwrap()]);
        let said: Vec<_> = listed.left_out.iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "line 2: \"fe80::1%eth9\" is no address of a name server that can be used here",
                "line 4: \"dns.\u{fffd}\" is no address of a name server that can be used here"
            ]
        );
        let long = [b"nameserver ".as_slice(), &[b'x'; 5000]].concat();
        assert!(parse(&long, |_| None).left_out[0].found.len() < 100);
    }
}
