//! One reply of a name server, reduced to plain data: which record sets it holds and whether each is signed.
//!
//! The adapter makes these values out of its library's messages and checks signatures on the way;
//! [`links`](super::links) and [`denial`](super::denial), which do not know that library, decide about the *meaning* of
//! the records.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use time::OffsetDateTime;

use super::canonical::CanonicalName;
use super::{Mx, MxTarget, RawTlsa, RawTxt};
use crate::name::Name;

/// A record type by its number (RFC 3597 §5: unknown ones are as good as known ones).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rtype(pub(super) u16);

/// A text that names no record type that can be asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no record type that can be asked for; these are: {all}", all = Rtype::NAMES.map(|(_, name)| name).join(" "))]
pub struct UnknownRtype(String);

impl Rtype {
    /// An IPv4 address.
    pub const A: Self = Self(1);
    pub(super) const NS: Self = Self(2);
    pub(super) const CNAME: Self = Self(5);
    pub(super) const SOA: Self = Self(6);
    /// A mail exchange.
    pub const MX: Self = Self(15);
    /// An IPv6 address.
    pub const AAAA: Self = Self(28);
    pub(super) const DNAME: Self = Self(39);
    pub(super) const DS: Self = Self(43);
    pub(super) const NSEC: Self = Self(47);
    /// The keys of a zone (RFC 4034 §2).
    pub const DNSKEY: Self = Self(48);
    pub(super) const NSEC3: Self = Self(50);
    /// Text (RFC 1035 §3.3.14).
    pub const TXT: Self = Self(16);
    /// The certificate or key that a TLS server must have (RFC 6698).
    pub const TLSA: Self = Self(52);

    /// The types that can be asked for by name. Denials cannot: they prove facts about other types.
    const NAMES: [(Self, &'static str); 17] = [
        (Self::A, "A"),
        (Self::AAAA, "AAAA"),
        (Self(257), "CAA"),
        (Self::CNAME, "CNAME"),
        (Self::DNAME, "DNAME"),
        (Self::DNSKEY, "DNSKEY"),
        (Self::DS, "DS"),
        (Self(65), "HTTPS"),
        (Self::MX, "MX"),
        (Self(35), "NAPTR"),
        (Self::NS, "NS"),
        (Self(12), "PTR"),
        (Self::SOA, "SOA"),
        (Self(33), "SRV"),
        (Self(44), "SSHFP"),
        (Self::TLSA, "TLSA"),
        (Self::TXT, "TXT"),
    ];

    /// The name of a type that can be asked for.
    pub(super) fn label(self) -> &'static str {
        Self::NAMES.iter().find(|(rtype, _)| *rtype == self).map_or("other", |(_, name)| name)
    }
}

impl FromStr for Rtype {
    type Err = UnknownRtype;

    fn from_str(text: &str) -> Result<Self, UnknownRtype> {
        let known = Self::NAMES.iter().find(|(_, name)| name.eq_ignore_ascii_case(text));
        known.map(|(rtype, _)| *rtype).ok_or_else(|| UnknownRtype(text.to_owned()))
    }
}

impl fmt::Display for Rtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// The one signature by which a record set was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Signature {
    /// The apex of the zone that signed (RFC 4035 §5.3.1).
    pub(super) signer: CanonicalName,
    /// The labels of the owner as it stands in the zone, a leading `*` not counted (RFC 4034 §3.1.3). Fewer than the
    /// owner has: the records were made from a wildcard.
    pub(super) labels: usize,
}

/// The proof for one record set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Proof {
    /// Signed, and the key is reached from a trust anchor.
    Secure(Signature),
    /// It is not signed by any zone that it may lie in, or that zone is unsigned. A claim, until the unsigned delegation
    /// above it is shown: see [`links::LinkStatus`](super::links::LinkStatus).
    Insecure,
    /// Bogus, indeterminate, or not looked at; and why.
    Unproven(&'static str),
}

/// The records of one type at one owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RrSet {
    pub(super) owner: CanonicalName,
    pub(super) rtype: Rtype,
    pub(super) proof: Proof,
    /// Each once.
    pub(super) records: Vec<Data>,
}

/// The RDATA of the types that matter here.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Data {
    Mx(Mx),
    Address(IpAddr),
    Tlsa(RawTlsa),
    Txt(RawTxt, Presentation),
    Ds(DsSupport, Presentation),
    /// The target of a CNAME or a DNAME.
    Alias(CanonicalName),
    Nsec(Nsec),
    Nsec3(Nsec3),
    /// Any other type.
    Other(Presentation),
}

impl fmt::Display for Data {
    /// As in a master file. The types that cannot be asked for have no text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mx(Mx { preference, target: MxTarget::Root }) => write!(f, "{preference} ."),
            Self::Mx(Mx { preference, target: MxTarget::Host(host) }) => write!(f, "{preference} {host}."),
            Self::Mx(Mx { preference, target: MxTarget::Invalid(escaped) }) => write!(f, "{preference} {escaped}."),
            Self::Address(address) => write!(f, "{address}"),
            Self::Tlsa(record) => write!(f, "{record}"),
            Self::Alias(target) if target.depth() == 0 => f.write_str("."),
            Self::Alias(target) => write!(f, "{target}."),
            Self::Ds(_, text) | Self::Txt(_, text) | Self::Other(text) => f.write_str(&text.0),
            Self::Nsec(_) | Self::Nsec3(_) => Ok(()),
        }
    }
}

/// Data as in a master file, for people. No decision rests on it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Presentation(Box<str>);

impl Presentation {
    /// The length of the text.
    pub(super) fn octets(&self) -> usize {
        self.0.len()
    }

    /// The text of a value of the DNS library. A stranger may choose its kind. The library cannot write some kinds, and `to_string`
    /// panics for these; here their text ends where the library fails.
    pub(super) fn of(value: &impl fmt::Display) -> Self {
        let mut text = String::new();
        let _ = write!(text, "{value}");
        Self::new(&text)
    }

    /// Keeps a text on its line, even if a remote zone has control characters in it.
    pub(super) fn new(text: &str) -> Self {
        let visible = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
        Self(text.chars().map(visible).collect())
    }
}

/// Whether this validator can follow a DS record at all (RFC 4035 §5.2: unsupported algorithms do not bind).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum DsSupport {
    Supported,
    Unsupported,
}

/// The types that exist at a name (RFC 4034 §4.1.2).
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Types(pub(super) BTreeSet<u16>);

impl Types {
    pub(super) fn has(&self, rtype: Rtype) -> bool {
        self.0.contains(&rtype.0)
    }

    /// The owner is a zone cut seen from above: it has NS and is no apex.
    pub(super) fn is_cut(&self) -> bool {
        self.has(Rtype::NS) && !self.has(Rtype::SOA)
    }

    /// Names below the owner belong to another zone: it is a cut or has a DNAME (RFC 6840 §4.1).
    pub(super) fn ends_the_zone(&self) -> bool {
        self.is_cut() || self.has(Rtype::DNAME)
    }

    /// Whether a type that is not in the list is proven absent at the owner (RFC 4035 §5.4, RFC 5155 §8.5).
    pub(super) fn deny(&self, rtype: Rtype) -> bool {
        // RFC 6840 §4.1: the parent's record at a cut speaks of DS alone; RFC 4035 §5.2: the child's never does.
        let other_side = if rtype == Rtype::DS { self.has(Rtype::SOA) } else { self.is_cut() };
        !other_side && !self.has(rtype) && !self.has(Rtype::CNAME)
    }

    /// A delegation whose child the parent left unsigned (RFC 6840 §4.4: NS must be there, or it is no delegation).
    pub(super) fn is_unsigned_delegation(&self) -> bool {
        self.is_cut() && !self.has(Rtype::DS)
    }
}

/// An NSEC record (RFC 4034 §4.1).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Nsec {
    pub(super) next: CanonicalName,
    pub(super) types: Types,
}

/// An NSEC3 record (RFC 5155 §3.1). Its hash algorithm is SHA-1, the only one there is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Nsec3 {
    pub(super) opt_out: bool,
    pub(super) parameters: Nsec3Parameters,
    pub(super) next: Vec<u8>,
    pub(super) types: Types,
}

/// How the names of an NSEC3 chain are hashed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Nsec3Parameters {
    pub(super) iterations: u16,
    pub(super) salt: Vec<u8>,
}

/// The hash function of RFC 5155 §5, which the adapter lends; `None` once the budget of the lookup is used up.
pub(super) type Nsec3Hash<'a> = &'a dyn Fn(&CanonicalName, &Nsec3Parameters) -> Option<Vec<u8>>;

/// The two response codes that are answers; every other one is a failure before it gets here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rcode {
    NoError,
    NxDomain,
}

/// One reply. Additional records are not in it: no decision rests on them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DnsReply {
    pub(super) rcode: Rcode,
    pub(super) answers: Vec<RrSet>,
    pub(super) authorities: Vec<RrSet>,
    /// The least TTL of all these records, for a denial also that of RFC 2308 §5; zero where there are no records.
    pub(super) ttl: Duration,
}

/// When a signature holds, in seconds since 1970 modulo 2^32 (RFC 4034 §3.1.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignatureValidity {
    /// From when.
    pub inception: u32,
    /// Until when.
    pub expiration: u32,
    /// The TTL of the records as their zone has it, in seconds (RFC 4034 §3.1.4).
    pub original_ttl: u32,
}

impl SignatureValidity {
    /// Seconds until the end, seen from such a time; the difference is one of serial numbers, and negative after the end.
    pub fn left(self, now: u32) -> i32 {
        self.expiration.wrapping_sub(now).cast_signed()
    }

    /// Seconds until the end, seen from this moment; negative after the end.
    pub fn left_at(self, moment: OffsetDateTime) -> i64 {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "modulo 2^32 is what is meant")]
        let now = moment.unix_timestamp() as u32;
        i64::from(self.left(now))
    }

    /// Seconds from the start to the end.
    pub fn term(self) -> i64 {
        i64::from(self.expiration.wrapping_sub(self.inception))
    }
}

/// The signatures of a reply, which are not validated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenSignatures {
    /// The one that ends first.
    pub first: SignatureValidity,
    /// The zones that claim to have signed, each once. A stranger may name any that its records lie in.
    pub zones: Vec<Name>,
}

/// The DNSSEC records of a reply, verified or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Traces {
    pub(super) signatures: Vec<SignatureValidity>,
    /// Whether it has NSEC or NSEC3 records.
    pub(super) denials: bool,
}
