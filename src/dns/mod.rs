//! The answers of the DNS, each with the proof that it is secure or insecure.
//!
//! Everything that RFC 7672 decides starts from one question: is this answer *secure* (proven by a chain of signatures
//! from the root), *insecure* (proven to come from below an unsigned delegation), or neither? "Neither" (bogus,
//! indeterminate, time-out, SERVFAIL, an answer that does not fit the question) is a [`Failure`]. The adapters below
//! this module alone make it, so that no module further in can mistake it for "insecure" or for "no such record" (RFC
//! 7672 §2.1.1, §2.1.2; RFC 4035 §4.3).
//!
//! This module holds the answer types and the port, [`Resolver`]. [`stub`] implements the port: it follows aliases one
//! name at a time, and asks one of two backends about each name. `validating` checks the signatures of each reply,
//! within a `budget`; `links` then decides what the reply says, and `denial` which absences signed records prove, both
//! plain functions of plain values (`reply`, `canonical`). `trust_ad` relies on the AD bit of a validating resolver on
//! loopback. `recursion` asks the authoritative servers where no resolver is to be asked. `special` names the names that the
//! public DNS does not have, and `negative_anchors` those that the operator has taken out of validation. `memory` keeps the
//! results, and [`selftest`] tells which of the [`server`]s of the [`setup`] are fit to be asked.

mod ad_bit;
mod answers;
mod backend;
mod budget;
pub mod by_nat64;
mod cache;
mod canonical;
mod denial;
mod fitness;
mod query;
mod links;
#[cfg(any(test, fuzzing))]
pub mod invariant;
mod memory;
mod message;
mod nat64;
mod negative_anchors;
mod pace;
mod race;
#[cfg(any(test, fuzzing))]
mod reference_model;
mod reply;
mod recursion;
mod resolv_conf;
pub mod selftest;
pub mod server;
mod servers;
pub mod setup;
mod special;
pub mod stub;
mod trust_ad;
mod validating;

use std::fmt;
use std::future::Future;
use std::net::IpAddr;

pub use self::nat64::{Nat64, Nat64Prefix};
pub use self::negative_anchors::{NegativeTrustAnchor, NegativeTrustAnchors};
pub use self::reply::{Rtype, SeenSignatures, SignatureValidity, UnknownRtype};
pub use self::special::{SpecialUse, never_asked, special_use};
#[cfg(any(test, fuzzing))]
pub use self::validating::reading::reading;
use crate::digits::Digits;
use crate::hex::Hex;
use crate::name::Name;
use crate::scarce::Scarcity;

/// The security of an answer by its chain of signatures (RFC 4035 §4.3). There is no third value on purpose: bogus and
/// indeterminate are a [`Failure`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, strum::Display)]
#[strum(serialize_all = "kebab-case")]
pub enum Security {
    /// Proven to come from at or below a delegation that the parent left unsigned.
    Insecure,
    /// Proven by signatures from the trust anchor down.
    Secure,
}

/// Whether mail may be returned to its sender on the word of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Finality {
    /// It may not: the authoritative servers answer, and are asked only because the configured servers, which may have names and
    /// addresses of their own, fail the self-test.
    Provisional,
    /// It may.
    Final,
}

impl Finality {
    /// The failure that a "no" about this name is, where it is not the last word.
    pub fn failure(self, name: &Name, rtype: Rtype) -> Option<Failure> {
        match self {
            Self::Provisional => Some(Failure { name: name.clone(), rtype, reason: FailureReason::DeniedByFallback }),
            Self::Final => None,
        }
    }
}

/// One alias that was followed: the CNAME at `owner` (a DNAME makes one as well), and whether that record was secure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    /// The name that turned out to be an alias.
    pub owner: Name,
    /// Where it points.
    pub target: Name,
    /// The security of this one record, not of the chain before it.
    pub security: Security,
}

/// Records of one type, or the proof that there are none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer<T> {
    /// At least one record.
    Records(Vec<T>),
    /// The name exists and has no record of this type.
    NoData,
    /// The name does not exist.
    NxDomain,
}

impl<T> Answer<T> {
    /// The records; empty for both kinds of denial.
    pub fn records(&self) -> &[T] {
        match self {
            Self::Records(records) => records,
            Self::NoData | Self::NxDomain => &[],
        }
    }
}

/// A completed lookup: the aliases that were followed and the answer at the end of the chain. A denial is an answer,
/// not an error (RFC 7672 §2.1.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lookup<T> {
    /// The name that was asked.
    pub asked: Name,
    /// The aliases that were followed, in order; mostly empty.
    pub aliases: Vec<Alias>,
    /// The security of the record set or denial at the end of the chain, taken by itself.
    pub end: Security,
    /// The answer at the end of the chain.
    pub answer: Answer<T>,
    /// Whether it is the last word on mail.
    pub finality: Finality,
}

impl<T> Lookup<T> {
    /// The security of the whole chain: one insecure link makes all that follows insecure (RFC 7672 §2.1.3).
    pub fn security(&self) -> Security {
        self.aliases.iter().map(|alias| alias.security).fold(self.end, Ord::min)
    }

    /// The fully expanded name: the target of the last alias, else the name that was asked.
    pub fn expanded(&self) -> &Name {
        self.aliases.last().map_or(&self.asked, |alias| &alias.target)
    }
}

/// The exchange of an MX record.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum MxTarget {
    /// `.`: by itself a null MX (RFC 7505 §3).
    Root,
    /// A host name.
    Host(Name),
    /// Not a host name: an IP address, or octets that no host name has. Kept, escaped, for the log.
    Invalid(String),
}

/// The families of addresses that connections are made to. Questions for the addresses of another family are not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display)]
#[strum(serialize_all = "kebab-case")]
pub enum Families {
    /// IPv4 and IPv6.
    Any,
    /// IPv4 alone.
    Ipv4,
    /// IPv6 alone.
    Ipv6,
}

impl Families {
    /// Whether an address is of one of them.
    pub fn contain(self, address: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::Ipv4 => address.is_ipv4(),
            Self::Ipv6 => address.is_ipv6(),
        }
    }
}

/// One MX record.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Mx {
    /// Lower is tried first (RFC 5321 §5.1).
    pub preference: u16,
    /// The host that takes the mail.
    pub target: MxTarget,
}

/// The RDATA of a TLSA record, not yet read: usage, selector, matching type and data, or fewer octets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RawTlsa(pub Vec<u8>);

/// The presentation form of RFC 6698 §2.2; that of unknown data (RFC 3597 §5) for RDATA that is too short for it. With a precision,
/// longer data is cut after so many octets.
impl fmt::Display for RawTlsa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let data = match self.0.split_at_checked(3) {
            Some((numbers, data)) if !data.is_empty() => {
                f.write_str(Digits::joined(b' ', numbers.iter().copied()).as_str())?;
                f.write_str(" ")?;
                data
            }
            Some(_) | None => {
                write!(f, "\\# {} ", self.0.len())?;
                &self.0
            }
        };
        match f.precision().and_then(|most| data.split_at_checked(most)) {
            Some((start, rest)) if !rest.is_empty() => write!(f, "{}... ({} octets)", Hex(start), data.len()),
            Some(_) | None => Hex(data).fmt(f),
        }
    }
}

/// The strings of a TXT record, joined without a blank between them (RFC 7208 §3.3). Any octets may be in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RawTxt(pub Vec<u8>);

/// A host whose addresses are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// The name that was asked: the unexpanded name of the exchange.
    pub name: Name,
    /// The aliases from `name` to the owner of the addresses, each with its security.
    pub aliases: Vec<Alias>,
    /// The security of the address records themselves, at the end of the aliases.
    pub end: Security,
    /// At least one address, in the order they came, A before AAAA.
    pub addresses: Vec<IpAddr>,
    /// Why the addresses of one family are not known, if they are not: there may be more than these.
    pub unknown: Option<Failure>,
    /// Whether the answers about both families are the last word on mail.
    pub finality: Finality,
}

impl Host {
    /// The security of the addresses with every alias on the way (RFC 7672 §2.2.2).
    pub fn security(&self) -> Security {
        self.aliases.iter().map(|alias| alias.security).fold(self.end, Ord::min)
    }

    /// The fully expanded name of the host.
    pub fn expanded(&self) -> &Name {
        self.aliases.last().map_or(&self.name, |alias| &alias.target)
    }
}

/// The answer to a lookup of a host's addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostLookup {
    /// There are addresses.
    Found(Host),
    /// Neither A nor AAAA exist, and both denials are answers: the host is unreachable for now.
    NoAddress(Finality),
    /// There is no address of the families in use. Whether there is one of the other family was not asked.
    NotInFamily(Families),
}

/// A lookup that did not end in an answer. It never means "insecure" and never means "none": also not where aliases before the name
/// that failed lead out of the signed zones, and any answer would be insecure (RFC 7672 §2.1.2: an error delays the mail, and
/// §2.2.3: that of a TLSA lookup, too). So it does not tell how secure these aliases are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{rtype} lookup for {name} failed: {reason}")]
pub struct Failure {
    /// The name that was asked.
    pub name: Name,
    /// The type that was asked: `MX`, `A`, `AAAA`, `TLSA`, `TXT`.
    pub rtype: Rtype,
    /// The reason, at any link of the chain.
    pub reason: FailureReason,
}

/// The reason why a lookup failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FailureReason {
    /// Signatures or denials do not prove the answer (RFC 4035 §4.3 "bogus" and "indeterminate" alike).
    #[error("DNSSEC validation failed ({0})")]
    Bogus(String),
    /// The name servers answered with an error, such as SERVFAIL or REFUSED.
    #[error("the name server answered {0}")]
    Refused(String),
    /// No answer in time.
    #[error("no answer within the time limit")]
    Timeout,
    /// The transport failed: no server could be reached, or TCP after truncation failed.
    #[error("the name server could not be reached ({0})")]
    Network(String),
    /// The answer does not fit the question, or breaks the protocol.
    #[error("the answer makes no sense ({0})")]
    Malformed(String),
    /// A chain of aliases that is too long or loops (RFC 7672 §2.1.3).
    #[error("the chain of aliases is longer than {0} or loops")]
    TooManyAliases(usize),
    /// More records than any honest zone has. Above a cap is a failure, never "absent".
    #[error("the answer has more than {0} records")]
    TooManyRecords(usize),
    /// No server was asked, because this host has no socket left. This is no fact about the name, and is never remembered.
    #[error("{0}")]
    Scarce(#[from] Scarcity),
    /// In mode "trust-ad": the signed root is insecure by the server's AD bit, so that the bit says nothing about other names.
    #[error("the name server has stopped validating: its answer for the signed root has no AD bit")]
    NotValidating,
    /// By the answers no host takes the mail, and they are [`Provisional`](Finality::Provisional).
    #[error("the public DNS has no way there, and the configured name servers, which may have one, fail the self-test")]
    DeniedByFallback,
    /// The name that would have to be asked is no DNS name any more.
    #[error("the name to ask is longer than 255 octets")]
    NameTooLong,
}

impl FailureReason {
    /// The answer does not fit the question, or breaks the protocol, in this way.
    fn malformed(why: &str) -> Self {
        Self::Malformed(why.to_owned())
    }
}

/// The crate's only port to the DNS. An implementation answers from validated data alone.
pub trait Resolver: Send + Sync + 'static {
    /// The MX records of a domain.
    fn mx(&self, domain: &Name) -> impl Future<Output = Result<Lookup<Mx>, Failure>> + Send;

    /// The addresses of a host, of the families in use. One family failing while the other has addresses is no failure;
    /// the status of the family that answered decides.
    fn host(&self, name: &Name) -> impl Future<Output = Result<HostLookup, Failure>> + Send;

    /// The prefix by which IPv4 addresses are reached (RFC 6052), where they are reached by NAT64 at all.
    ///
    /// # Errors
    /// Whether the network has a prefix is not known.
    fn nat64(&self) -> impl Future<Output = Result<Option<Nat64Prefix>, Failure>> + Send {
        std::future::ready(Ok(None))
    }

    /// The TLSA records at an owner name such as `_25._tcp.mx.example`.
    fn tlsa(&self, owner: &Name) -> impl Future<Output = Result<Lookup<RawTlsa>, Failure>> + Send;

    /// The TXT records at a name such as `_mta-sts.example`.
    fn txt(&self, owner: &Name) -> impl Future<Output = Result<Lookup<RawTxt>, Failure>> + Send;
}
