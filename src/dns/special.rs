//! Special-use names (RFC 6761): names that the public DNS does not have, and that resolvers answer by themselves.
//!
//! Such an answer has no signatures, so below the signed root it fails validation, and mail to such a name would wait for
//! days. This table decides instead. Only the names of [`SPECIAL_USE`] are concerned, with all names below them.
//!
//! | names | asked | the lookup |
//! |---|---|---|
//! | `localhost`, `invalid`, `onion` | never | the name does not exist |
//! | all others of the table | always | a validated answer counts: a network may have a zone of that name below a root of its own, or a negative trust anchor |
//! | the same, if the reply is an error or does not validate | the DS records of the zone | the name does not exist, if a signed denial proves that the zone does not exist (RFC 8020 §2); else the lookup fails |
//!
//! Below a negative trust anchor (RFC 7646) the table holds for the names of the first row alone: all others are asked, and the
//! answer counts as it is, insecure. So `cluster.local` of Kubernetes, unsigned and below `local`, is a zone like any other.
//!
//! No answer in time is a failure in each case: it says nothing about the name. `localhost` is denied for addresses too: a relay
//! has no mail for its own host, and a rule can name `[127.0.0.1]`.

use std::fmt;

use crate::name::Name;

/// A name space of special use.
#[derive(Debug, PartialEq, Eq)]
pub struct SpecialUse {
    /// The name at its top, in lower case.
    zone: &'static str,
    asked: ResolverUse,
    /// The document that reserves it.
    document: &'static str,
}

/// Whether a resolver is asked about a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResolverUse {
    /// The name does not exist in any DNS (RFC 6761 §6.3, §6.4; RFC 7686 §2).
    Never,
    /// A network may have the name.
    Always,
}

const fn never(zone: &'static str, document: &'static str) -> SpecialUse {
    SpecialUse { zone, asked: ResolverUse::Never, document }
}

const fn always(zone: &'static str, document: &'static str) -> SpecialUse {
    SpecialUse { zone, asked: ResolverUse::Always, document }
}

/// The private networks of RFC 1918, in the reverse tree.
const PRIVATE: &str = "RFC 6761 §6.1";
/// The reverse zones that resolvers serve.
const LOCALLY_SERVED: &str = "RFC 6303 §4";

/// Every name space of special use that mail is ever addressed to, or that resolvers serve.
static SPECIAL_USE: &[SpecialUse] = &[
    never("localhost", "RFC 6761 §6.3"),
    never("invalid", "RFC 6761 §6.4"),
    never("onion", "RFC 7686"),
    always("local", "RFC 6762 §3"),
    always("test", "RFC 6761 §6.2"),
    always("internal", "ICANN, resolution 2024.07.29.06"),
    always("home.arpa", "RFC 8375"),
    always("10.in-addr.arpa", PRIVATE),
    always("16.172.in-addr.arpa", PRIVATE),
    always("17.172.in-addr.arpa", PRIVATE),
    always("18.172.in-addr.arpa", PRIVATE),
    always("19.172.in-addr.arpa", PRIVATE),
    always("20.172.in-addr.arpa", PRIVATE),
    always("21.172.in-addr.arpa", PRIVATE),
    always("22.172.in-addr.arpa", PRIVATE),
    always("23.172.in-addr.arpa", PRIVATE),
    always("24.172.in-addr.arpa", PRIVATE),
    always("25.172.in-addr.arpa", PRIVATE),
    always("26.172.in-addr.arpa", PRIVATE),
    always("27.172.in-addr.arpa", PRIVATE),
    always("28.172.in-addr.arpa", PRIVATE),
    always("29.172.in-addr.arpa", PRIVATE),
    always("30.172.in-addr.arpa", PRIVATE),
    always("31.172.in-addr.arpa", PRIVATE),
    always("168.192.in-addr.arpa", PRIVATE),
    always("0.in-addr.arpa", LOCALLY_SERVED),
    always("127.in-addr.arpa", LOCALLY_SERVED),
    always("254.169.in-addr.arpa", LOCALLY_SERVED),
    always("2.0.192.in-addr.arpa", LOCALLY_SERVED),
    always("100.51.198.in-addr.arpa", LOCALLY_SERVED),
    always("113.0.203.in-addr.arpa", LOCALLY_SERVED),
    always("255.255.255.255.in-addr.arpa", LOCALLY_SERVED),
    always("d.f.ip6.arpa", LOCALLY_SERVED),
    always("8.e.f.ip6.arpa", LOCALLY_SERVED),
    always("9.e.f.ip6.arpa", LOCALLY_SERVED),
    always("a.e.f.ip6.arpa", LOCALLY_SERVED),
    always("b.e.f.ip6.arpa", LOCALLY_SERVED),
    always("8.b.d.0.1.0.0.2.ip6.arpa", LOCALLY_SERVED),
];

/// The name space of special use that a name is in.
pub fn special_use(name: &Name) -> Option<&'static SpecialUse> {
    SPECIAL_USE.iter().find(|special| name.is_within(special.zone))
}

/// The name space that a name is in, if no resolver is asked about it.
pub fn never_asked(name: &Name) -> Option<&'static SpecialUse> {
    special_use(name).filter(|special| special.asked == ResolverUse::Never)
}

impl SpecialUse {
    /// Whether a resolver is asked.
    pub(super) fn asked(&self) -> ResolverUse {
        self.asked
    }

    /// The name at its top.
    pub(super) fn zone(&self) -> Option<Name> {
        Name::parse(self.zone).ok()
    }
}

/// As in a reply to a client.
impl fmt::Display for SpecialUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A reply is ASCII (RFC 5321 §2.4).
        write!(f, "names in .{} are reserved ({})", self.zone, self.document.replace('§', "section "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_special_use() {
        for (name, found) in [
            ("localhost", Some(("localhost", ResolverUse::Never))),
            ("mail.LOCALHOST.", Some(("localhost", ResolverUse::Never))),
            ("_25._tcp.mx.invalid", Some(("invalid", ResolverUse::Never))),
            ("expyuzz4wqqyqhjn.onion", Some(("onion", ResolverUse::Never))),
            ("exchange.corp.local", Some(("local", ResolverUse::Always))),
            ("mta.svc.cluster.local", Some(("local", ResolverUse::Always))),
            ("test", Some(("test", ResolverUse::Always))),
            ("mx.internal", Some(("internal", ResolverUse::Always))),
            ("nas.home.arpa", Some(("home.arpa", ResolverUse::Always))),
            ("7.0.0.10.in-addr.arpa", Some(("10.in-addr.arpa", ResolverUse::Always))),
            ("7.0.31.172.in-addr.arpa", Some(("31.172.in-addr.arpa", ResolverUse::Always))),
            ("1.8.b.d.0.1.0.0.2.ip6.arpa", Some(("8.b.d.0.1.0.0.2.ip6.arpa", ResolverUse::Always))),
            // Names of the public DNS that look like them.
            ("example.com", None),
            ("mylocalhost", None),
            ("invalid.example", None),
            ("local.example.com", None),
            ("thelocal", None),
            ("arpa", None),
            ("7.0.32.172.in-addr.arpa", None),
            ("110.in-addr.arpa", None),
        ] {
            let special = special_use(&Name::parse(name).unwrap());
            assert_eq!(special.map(|special| (special.zone, special.asked)), found, "{name}");
        }
    }

    #[test]
    fn each_row_is_a_name_and_is_found_once() {
        for special in SPECIAL_USE {
            let zone = special.zone().unwrap();
            assert_eq!(special_use(&zone), Some(special));
            assert_eq!(zone.as_str(), special.zone);
            assert!(special.to_string().is_ascii(), "{special}");
        }
        let invalid = special_use(&Name::parse("x.invalid").unwrap()).unwrap();
        assert_eq!(invalid.to_string(), "names in .invalid are reserved (RFC 6761 section 6.4)");
    }
}
