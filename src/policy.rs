//! The policy table: what a session with one host must prove before mail may pass (RFC 7672 §2.2).
//!
//! | MX records | address (or first CNAME) | TLSA | `dane` | `dane-only` | `encrypt` |
//! |---|---|---|---|---|---|
//! | secure or implicit | secure | some usable | Dane | Dane | Encrypt(NotAsked) |
//! | secure or implicit | secure | only unusable | Encrypt(UnusableTlsa) | refuse | Encrypt(NotAsked) |
//! | secure or implicit | secure | none or insecure | Encrypt(NoTlsa) | refuse | Encrypt(NotAsked) |
//! | secure or implicit | insecure | not asked | Encrypt(InsecureAddress) | refuse | Encrypt(NotAsked) |
//! | insecure | secure | some usable | HalfDane, or Encrypt(InsecureMx) by setting | refuse | Encrypt(NotAsked) |
//! | insecure | secure | only unusable | Encrypt(UnusableTlsa) | refuse | Encrypt(NotAsked) |
//! | insecure | secure | none or insecure | Encrypt(NoTlsa) | refuse | Encrypt(NotAsked) |
//! | insecure | insecure | not asked | Encrypt(InsecureAddress) | refuse | Encrypt(NotAsked) |
//!
//! A failed lookup never gets here: it is a refusal already. No row is cleartext.
//!
//! An MTA-STS policy (RFC 8461) that is in force changes these rows. DANE comes first: where it applies to the exchange over a
//! secure MX, no policy is asked. Level `encrypt` and `dane-only` ask for none.
//!
//!  | MX | TLSA | policy | `dane` | `verify` | `secure` |
//!  |---|---|---|---|---|---|
//!  | secure | usable | any | Dane | Dane | Dane |
//!  | secure | none | no | Encrypt | Pkix(SecureMx) | Pkix(SecureMx) |
//!  | secure | none | testing | Encrypt | Pkix(SecureMx) | Pkix(SecureMx) |
//!  | secure | none | enforce, listed | Sts | Sts | Sts |
//!  | secure | none | enforce, not listed | mx-not-in-policy | mx-not-in-policy | mx-not-in-policy |
//!  | insecure | usable | no | HalfDane | HalfDane | not-authenticated |
//!  | insecure | usable | testing | HalfDane | HalfDane | not-authenticated |
//!  | insecure | usable | enforce, listed | StsDane | StsDane | StsDane |
//!  | insecure | usable | enforce, not listed | mx-not-in-policy | mx-not-in-policy | mx-not-in-policy |
//!  | insecure | none | no | Encrypt | Pkix(InsecureMx) | not-authenticated |
//!  | insecure | none | testing | Encrypt | Pkix(InsecureMx) | not-authenticated |
//!  | insecure | none | enforce, listed | Sts | Sts | Sts |
//!  | insecure | none | enforce, not listed | mx-not-in-policy | mx-not-in-policy | mx-not-in-policy |
//!
//! At level `secure` a rule may name the hosts (`mx`). For a host that it names, `not-authenticated` becomes Dane under the
//! host's own name where TLSA records are usable, and Pkix(Rule) where none are.
//!
//! Two levels do not look at the tables, and only a rule for one domain can set them (see [`rules`](crate::rules)):
//! `fingerprint` holds each host to the rule's own records, and `may` takes TLS where it is offered and cleartext where
//! it is not, until a day that the rule must name.
//!
//! In mode `observe` the table decides in the same way, and each session is asked for the same proof. Only mail that would
//! be refused because the proof is missing goes at the level `may`, with [`Permit::Observe`]; the log names the proof that is
//! missing and the level that is not enforced. Mail with the field `TLS-Required: No` goes in the same way, with
//! [`Permit::TlsRequiredNo`] ([`Waiver`]).

pub mod host_session;
mod protection_word;
mod waiver;

use std::sync::Arc;

use time::Date;

use crate::dane::tlsa::{Associations, NoDane, Tlsa, Usable};
use crate::dane::verify::{Expectation, References};
use crate::dns::{Host, Security};
use crate::mta_sts::MxPattern;
use crate::mx::Route;
use crate::name::Name;
use crate::words::words;

pub use protection_word::ProtectionWord;
pub use waiver::{ListenerMail, Waiver};

/// How much a session must prove, in Postfix's words.
#[derive(Debug, Clone, PartialEq, Eq, strum::Display, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub enum Level {
    /// TLS if the host offers it and it works, cleartext if not. The one level that needs a [`Permit`].
    May(Permit),
    /// TLS without authentication; TLSA is not asked.
    Encrypt,
    /// DANE where the domain publishes it, unauthenticated TLS everywhere else. The default.
    Dane(InsecureMx),
    /// DANE, else a certificate of a public CA for the exchange's name.
    Verify,
    /// The same, and the exchange's name must not rest on an insecure MX record: a secure one, an MTA-STS policy or one of
    /// these patterns of a rule names it.
    Secure(Vec<MxPattern>),
    /// DANE or no delivery: a host without usable TLSA records in a secure zone gets no mail (RFC 7672 §6).
    DaneOnly,
    /// As if the domain had published these records for each of its hosts, and no others.
    Fingerprint(Vec<Tlsa>),
}

words!(&Level);

/// The use of TLSA records of a secure host that an insecure MX record names (RFC 7672 §2.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InsecureMx {
    /// Authenticate the host by them, under its own name alone, and log that the domain was not.
    Dane,
    /// Do not ask for them.
    Encrypt,
}

/// A permission for mail to go in cleartext.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Permit {
    /// A rule for some domains.
    Rule {
        /// The reason.
        reason: String,
        /// The last day.
        until: Date,
    },
    /// The mode is `observe`, and enforcing would have refused this mail.
    Observe {
        /// The name of the level that is not enforced.
        level: &'static str,
    },
    /// The mail has the field `TLS-Required: No` (RFC 8689 §4.1), and its level would have refused it.
    TlsRequiredNo {
        /// The name of that level.
        level: &'static str,
    },
}

impl Permit {
    /// Why a session under this permit is not authenticated.
    pub fn no_dane(&self) -> NoDane {
        match self {
            Self::Rule { .. } => NoDane::NotAsked,
            Self::Observe { level } => NoDane::NotEnforced(level),
            Self::TlsRequiredNo { level } => NoDane::NotRequired(level),
        }
    }
}

/// Whether danelaw enforces the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display)]
#[strum(serialize_all = "kebab-case")]
pub enum Mode {
    /// A session that does not meet its policy gets no mail.
    Enforce,
    /// Mail to a host that does not meet its policy is delivered all the same, and the log says so.
    Observe,
}

/// The level `may` with a permit that names the level in whose place it is.
macro_rules! lowered {
    ($level:expr, $permit:ident) => {
        match $level {
            Level::May(_) => const { &Level::May(Permit::$permit { level: "may" }) },
            Level::Encrypt => const { &Level::May(Permit::$permit { level: "encrypt" }) },
            Level::Dane(_) => const { &Level::May(Permit::$permit { level: "dane" }) },
            Level::Verify => const { &Level::May(Permit::$permit { level: "verify" }) },
            Level::Secure(_) => const { &Level::May(Permit::$permit { level: "secure" }) },
            Level::DaneOnly => const { &Level::May(Permit::$permit { level: "dane-only" }) },
            Level::Fingerprint(_) => const { &Level::May(Permit::$permit { level: "fingerprint" }) },
        }
    };
}

impl Level {
    /// Whether an MTA-STS policy counts.
    pub fn heeds_sts(&self) -> bool {
        match self {
            Self::Dane(_) | Self::Verify | Self::Secure(_) => true,
            Self::May(_) | Self::Encrypt | Self::DaneOnly | Self::Fingerprint(_) => false,
        }
    }

    /// The level at which mode `observe` delivers mail that this one would refuse.
    pub fn observed(&self) -> &'static Self {
        lowered!(self, Observe)
    }

    /// The level at which mail with the field `TLS-Required: No` is delivered that this one would refuse (RFC 8689 §4.2.2).
    pub fn not_required(&self) -> &'static Self {
        lowered!(self, TlsRequiredNo)
    }
}

/// What a session must prove before mail may pass. [`TlsPolicy::May`] is the only variant that has a way to cleartext,
/// and carries the permit for it.
#[derive(Debug, Clone, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub enum TlsPolicy {
    /// The host must be authenticated, and is known to serve the domain.
    Dane(Arc<Expectation>),
    /// The host must be authenticated under its own name; that it serves the domain rests on an insecure MX record.
    HalfDane(Arc<Expectation>),
    /// An MTA-STS policy in force lists the host, and a public CA must vouch for it under this name (RFC 8461 §4).
    Sts(Name),
    /// An MTA-STS policy in force lists the host, which must be authenticated by its TLSA records under its own name.
    #[strum(serialize = "sts")]
    StsDane(Arc<Expectation>),
    /// A public CA must vouch for the host under this name.
    Pkix(Name, NamedBy),
    /// The host must match the pins of the configuration.
    Fingerprint(Arc<Expectation>),
    /// TLS is mandatory, authentication is impossible for the reason given; the name is sent as SNI.
    Encrypt(Name, NoDane),
    /// TLS if the host offers it, else cleartext; the name is sent as SNI.
    May(Name, Permit),
}

words!(&TlsPolicy);

/// The authority for the name of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamedBy {
    /// A secure MX record, or a rule that names the next hop.
    SecureMx,
    /// The patterns of a rule.
    Rule,
    /// An insecure MX record, which anybody on the path may have forged.
    InsecureMx,
}

/// What a handshake must prove of the server's key.
#[derive(Debug, Clone)]
pub enum KeyDemand {
    /// It matches these records.
    Record(Arc<Expectation>),
    /// A public CA vouches for it under this name.
    Authority(Name),
    /// Nothing; the worth of the certificate for this name is noted.
    Nothing(Name),
}

/// The authorities for a verified server's name and key, in one word for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub enum VerifiedBy {
    /// DNSSEC and TLSA.
    Dane,
    /// An MTA-STS policy and a public CA.
    MtaSts,
    /// An MTA-STS policy and TLSA.
    #[strum(serialize = "mta-sts+tlsa")]
    MtaStsTlsa,
    /// A public CA; the name rests on the MX record or on a rule.
    Pkix,
    /// The records of a rule.
    Record,
}

words!(VerifiedBy);

impl TlsPolicy {
    /// The name to send as SNI: the TLSA base domain where there is one (RFC 7672 §8.1).
    pub fn server_name(&self) -> &Name {
        match self {
            Self::Dane(expected) | Self::HalfDane(expected) | Self::StsDane(expected) | Self::Fingerprint(expected) => {
                expected.usable.base_domain()
            }
            // RFC 8461 §4.2: the host's name in the MX record.
            Self::Sts(name) | Self::Pkix(name, _) | Self::Encrypt(name, _) | Self::May(name, _) => name,
        }
    }

    /// What the handshake must prove.
    pub fn demand(&self) -> KeyDemand {
        match self {
            Self::Dane(expected) | Self::HalfDane(expected) | Self::StsDane(expected) | Self::Fingerprint(expected) => {
                KeyDemand::Record(Arc::clone(expected))
            }
            Self::Sts(name) | Self::Pkix(name, _) => KeyDemand::Authority(name.clone()),
            Self::Encrypt(name, _) | Self::May(name, _) => KeyDemand::Nothing(name.clone()),
        }
    }

    /// The authorities by which a session under this policy is verified; none if it is not.
    pub fn verified_by(&self) -> Option<VerifiedBy> {
        match self {
            Self::Dane(_) | Self::HalfDane(_) => Some(VerifiedBy::Dane),
            Self::Sts(_) => Some(VerifiedBy::MtaSts),
            Self::StsDane(_) => Some(VerifiedBy::MtaStsTlsa),
            Self::Pkix(..) => Some(VerifiedBy::Pkix),
            Self::Fingerprint(_) => Some(VerifiedBy::Record),
            Self::Encrypt(..) | Self::May(..) => None,
        }
    }

    /// The expectation that the server's chain must match, if there is one.
    pub fn expectation(&self) -> Option<&Arc<Expectation>> {
        match self {
            Self::Dane(expected) | Self::HalfDane(expected) | Self::StsDane(expected) | Self::Fingerprint(expected) => {
                Some(expected)
            }
            Self::Sts(_) | Self::Pkix(..) | Self::Encrypt(..) | Self::May(..) => None,
        }
    }

    /// Whether mail goes under it for the sake of its field `TLS-Required: No` alone. Such a session serves no other mail.
    pub fn is_lowered_by_the_mail(&self) -> bool {
        matches!(self, Self::May(_, Permit::TlsRequiredNo { .. }))
    }

    /// The word for the mail's own permit in log lines. Rules and the mode have fields of their own.
    pub fn permit(&self) -> Option<&'static str> {
        self.is_lowered_by_the_mail().then_some("tls-required-no")
    }
}

/// The level is `dane-only`, and the host cannot be authenticated for this domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("DANE is required, but {0}")]
pub struct DaneRequired(pub NoDane);

/// Why no policy can be met, whatever the host proves.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unmeetable {
    /// The level is `dane-only`.
    #[error(transparent)]
    DaneRequired(#[from] DaneRequired),
    /// The MTA-STS policy in force does not list the host.
    #[error("the STS policy does not list the host")]
    NotListed,
    /// The level is `secure`, and only an insecure MX record names the host.
    #[error("nothing vouches for the name of the host")]
    NotNamed,
}

/// Whether an MTA-STS policy lists an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StsListing {
    /// It does.
    Yes,
    /// It does not.
    No,
}

/// The domain's MTA-STS policy, as far as it concerns one exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StsDemand {
    /// There is none, its mode is `none`, or it does not count here.
    Nothing,
    /// The mail goes all the same (RFC 8461 §5).
    Testing(StsListing),
    /// The exchange must be listed and authenticated.
    Enforce(StsListing),
}

impl StsDemand {
    /// The demand as if a policy in mode `testing` were one in mode `enforce`.
    #[must_use]
    pub fn enforced(self) -> Self {
        match self {
            Self::Testing(listed) | Self::Enforce(listed) => Self::Enforce(listed),
            Self::Nothing => Self::Nothing,
        }
    }
}

/// The facts about one exchange of a domain.
#[derive(Debug, Clone)]
pub struct ExchangeFacts<'a> {
    /// The domain's exchanges.
    pub route: &'a Route,
    /// This one.
    pub host: &'a Host,
    /// From [`tlsa_not_asked`], from the host's own security or from the TLSA lookups.
    pub associations: Associations,
    /// The domain's MTA-STS policy.
    pub sts: StsDemand,
}

/// Why TLSA records are not worth asking for, before any is asked; `None` where they must be asked for.
pub fn tlsa_not_asked(route: &Route, level: &Level) -> Option<NoDane> {
    match (level, route.security) {
        (Level::May(_) | Level::Encrypt | Level::Fingerprint(_), _) => Some(NoDane::NotAsked),
        (Level::Dane(InsecureMx::Encrypt) | Level::DaneOnly, Security::Insecure) => Some(NoDane::InsecureMx),
        (Level::Dane(_) | Level::Verify | Level::Secure(_), Security::Insecure)
        | (Level::Dane(_) | Level::Verify | Level::Secure(_) | Level::DaneOnly, Security::Secure) => None,
    }
}

/// Whether an MTA-STS policy has a say at this exchange. DANE over a secure MX is stronger, and decides alone.
pub fn asks_sts(route: &Route, associations: &Associations, level: &Level) -> bool {
    let by_dane = route.security == Security::Secure && matches!(associations, Associations::Usable(_));
    // The rule that names an address has no policy domain.
    let by_address = matches!(associations, Associations::None(NoDane::AddressOnly));
    level.heeds_sts() && !by_dane && !by_address
}

/// The tables.
///
/// # Errors
/// [`Unmeetable`] where no session with the host can be enough.
pub fn decide(facts: ExchangeFacts<'_>, level: &Level) -> Result<TlsPolicy, Unmeetable> {
    let ExchangeFacts { route, host, associations, sts } = facts;
    match (level, associations) {
        (Level::May(permit), _) => Ok(TlsPolicy::May(host.name.clone(), permit.clone())),
        (Level::Encrypt, Associations::None(why @ NoDane::AddressOnly)) => {
            Ok(TlsPolicy::Encrypt(host.name.clone(), why))
        }
        (Level::Encrypt, _) => Ok(TlsPolicy::Encrypt(host.name.clone(), NoDane::NotAsked)),
        (Level::Fingerprint(pins), _) => match Usable::new(host.name.clone(), pins.clone()) {
            Some(usable) => Ok(TlsPolicy::Fingerprint(pinned(route, usable))),
            None => Err(DaneRequired(NoDane::NoTlsa).into()),
        },
        (Level::Dane(_) | Level::Verify | Level::Secure(_) | Level::DaneOnly, Associations::Usable(usable))
            if route.security == Security::Secure =>
        {
            Ok(TlsPolicy::Dane(over_secure_mx(route, usable)))
        }
        (Level::DaneOnly, Associations::Usable(_)) => Err(DaneRequired(NoDane::InsecureMx).into()),
        (Level::DaneOnly, Associations::None(why)) => Err(DaneRequired(why).into()),
        (Level::Dane(_) | Level::Verify | Level::Secure(_), associations) => {
            let key = match associations {
                Associations::Usable(usable) => KeyEvidence::Records(under_own_name(usable)),
                Associations::None(why) => KeyEvidence::Authority(why),
            };
            by_sts(sts, &key, host).unwrap_or_else(|| without_sts(route, host, key, level))
        }
    }
}

/// The evidence that there can be for the key of a host, where DANE does not decide.
enum KeyEvidence {
    /// Its TLSA records.
    Records(Arc<Expectation>),
    /// A public CA; why there are no records.
    Authority(NoDane),
}

/// The policy by an MTA-STS policy in mode `enforce`. There is no way from here to anything less (RFC 8461 §5).
fn by_sts(sts: StsDemand, key: &KeyEvidence, host: &Host) -> Option<Result<TlsPolicy, Unmeetable>> {
    match (sts, key) {
        (StsDemand::Nothing | StsDemand::Testing(_), _) => None,
        (StsDemand::Enforce(StsListing::No), _) => Some(Err(Unmeetable::NotListed)),
        (StsDemand::Enforce(StsListing::Yes), KeyEvidence::Records(expected)) => {
            Some(Ok(TlsPolicy::StsDane(Arc::clone(expected))))
        }
        (StsDemand::Enforce(StsListing::Yes), KeyEvidence::Authority(_)) => Some(Ok(TlsPolicy::Sts(host.name.clone()))),
    }
}

/// The policy by the level, over an insecure MX or without TLSA records.
fn without_sts(route: &Route, host: &Host, key: KeyEvidence, level: &Level) -> Result<TlsPolicy, Unmeetable> {
    let by_rule = match level {
        Level::Secure(patterns) => patterns.iter().any(|pattern| pattern.matches(&host.name)),
        Level::May(_) | Level::Encrypt | Level::Dane(_) | Level::Verify | Level::DaneOnly | Level::Fingerprint(_) => {
            false
        }
    };
    let named_by = match (route.security, by_rule) {
        (Security::Secure, _) => NamedBy::SecureMx,
        (Security::Insecure, true) => NamedBy::Rule,
        (Security::Insecure, false) => NamedBy::InsecureMx,
    };
    match (level, named_by, key) {
        (Level::Secure(_), NamedBy::InsecureMx, _) => Err(Unmeetable::NotNamed),
        // The operator vouches for the name, so that it is as good as one of a secure MX record.
        (Level::Secure(_), NamedBy::Rule | NamedBy::SecureMx, KeyEvidence::Records(expected)) => {
            Ok(TlsPolicy::Dane(expected))
        }
        // RFC 7672 §2.2.1.
        (_, _, KeyEvidence::Records(expected)) => Ok(TlsPolicy::HalfDane(expected)),
        (Level::Verify | Level::Secure(_), _, KeyEvidence::Authority(_)) => {
            Ok(TlsPolicy::Pkix(host.name.clone(), named_by))
        }
        (_, _, KeyEvidence::Authority(why)) => Ok(TlsPolicy::Encrypt(host.name.clone(), why)),
    }
}

/// RFC 7672 §2.2.1: over an insecure MX only the host's own name is known.
fn under_own_name(usable: Usable) -> Arc<Expectation> {
    let references = References::new(usable.base_domain().clone(), []);
    Arc::new(Expectation { references, usable })
}

/// RFC 7672 §3.2.2: over a secure MX the certificate may also be for the next-hop domain.
fn over_secure_mx(route: &Route, usable: Usable) -> Arc<Expectation> {
    let names = [route.next_hop.clone(), route.expanded.clone()];
    Arc::new(Expectation { references: References::new(usable.base_domain().clone(), names), usable })
}

/// A pinned authority may have issued certificates for other hosts too, so an insecure MX record must not choose the name: only
/// the domain the mail is for counts then (the reasoning of RFC 7672 §3.2.2, the other way round).
fn pinned(route: &Route, usable: Usable) -> Arc<Expectation> {
    match route.security {
        Security::Secure => over_secure_mx(route, usable),
        Security::Insecure => Arc::new(Expectation { references: References::new(route.next_hop.clone(), []), usable }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dane::agility::Digests;
    use crate::dane::tlsa::{self, Usable};
    use crate::dns::RawTlsa;
    use crate::dns::{Answer, Finality, Lookup, Mx, MxTarget};
    use crate::mx::{self, Here};

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn route(security: Security) -> Route {
        let records = vec![Mx { preference: 10, target: MxTarget::Host(name("mx.example")) }];
        let alias = |owner, target| crate::dns::Alias { owner: name(owner), target: name(target), security };
        let aliases = vec![alias("example", "between.example"), alias("between.example", "expanded.example")];
        let (answer, finality) = (Answer::Records(records), Finality::Final);
        let lookup = Lookup { asked: name("example"), aliases, end: security, answer, finality };
        mx::route(&lookup, Here { names: &[], most: 20, seed: 0 }).unwrap()
    }

    fn host(security: Security) -> Host {
        let (aliases, addresses, finality) = (Vec::new(), Vec::new(), Finality::Final);
        Host { name: name("mx.example"), aliases, end: security, addresses, unknown: None, finality }
    }

    fn security(cell: &str) -> Security {
        match cell.split(' ').next() {
            Some("secure") => Security::Secure,
            Some("insecure") => Security::Insecure,
            other => panic!("{other:?}"),
        }
    }

    /// The records a cell of the TLSA column speaks of.
    fn found(cell: &str) -> Associations {
        let associations = |records: &[RawTlsa]| tlsa::associations(name("mx.example"), records, &Digests::default());
        let record = |usage: u8| RawTlsa([vec![usage, 1, 1], vec![7; 32]].concat());
        match cell {
            "some usable" => associations(&[record(3), record(0)]),
            "only unusable" => associations(&[record(0)]),
            "none or insecure" => Associations::None(NoDane::NoTlsa),
            "not asked" => Associations::None(NoDane::InsecureAddress),
            other => panic!("{other}"),
        }
    }

    /// The decision without an MTA-STS policy.
    fn plain(route: &Route, host: &Host, associations: Associations, level: &Level) -> Result<TlsPolicy, Unmeetable> {
        decide(ExchangeFacts { route, host, associations, sts: StsDemand::Nothing }, level)
    }

    /// A decision in the words of the table.
    fn said(decision: &Result<TlsPolicy, Unmeetable>) -> String {
        match decision {
            Ok(TlsPolicy::Dane(_)) => "Dane".into(),
            Ok(TlsPolicy::HalfDane(_)) => "HalfDane".into(),
            Ok(TlsPolicy::Fingerprint(_)) => "Fingerprint".into(),
            Ok(TlsPolicy::May(..)) => "May".into(),
            Ok(TlsPolicy::Encrypt(_, NoDane::UnusableTlsa(_))) => "Encrypt(UnusableTlsa)".into(),
            Ok(TlsPolicy::Encrypt(_, why)) => format!("Encrypt({why:?})"),
            Ok(TlsPolicy::Sts(_)) => "Sts".into(),
            Ok(TlsPolicy::StsDane(_)) => "StsDane".into(),
            Ok(TlsPolicy::Pkix(_, by)) => format!("Pkix({by:?})"),
            Err(Unmeetable::DaneRequired(_)) => "refuse".into(),
            Err(Unmeetable::NotListed) => "mx-not-in-policy".into(),
            Err(Unmeetable::NotNamed) => "not-authenticated".into(),
        }
    }

    /// The policy in the words of the second table.
    fn demand(cell: &str) -> StsDemand {
        match cell {
            "no" | "any" => StsDemand::Nothing,
            "testing" => StsDemand::Testing(StsListing::No),
            "enforce, listed" => StsDemand::Enforce(StsListing::Yes),
            "enforce, not listed" => StsDemand::Enforce(StsListing::No),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn p14_the_table_of_sts() {
        // P12, P14, P15, P17: the second table at the top of this file is the test.
        let rows: Vec<Vec<&str>> = include_str!("policy.rs")
            .lines()
            .filter_map(|line| line.strip_prefix("//!  | "))
            .map(|row| row.trim_end_matches(" |").split(" | ").collect())
            .collect();
        assert_eq!(rows.len(), 14, "the header and thirteen rows");
        let host = host(Security::Secure);
        let named = Level::Secure(vec![MxPattern::parse("*.example")]);
        for row in &rows[1..] {
            let route = route(security(row[0]));
            let found = || found(if row[1] == "usable" { "some usable" } else { "none or insecure" });
            let decided = |sts, level: &Level| {
                let asked = asks_sts(&route, &found(), level);
                let sts = if asked { sts } else { StsDemand::Nothing };
                said(&decide(ExchangeFacts { route: &route, host: &host, associations: found(), sts }, level))
            };
            let sts = demand(row[2]);
            let levels = [Level::Dane(InsecureMx::Dane), Level::Verify, Level::Secure(Vec::new())];
            for (level, expected) in levels.iter().zip(&row[3..]) {
                let expected = if *expected == "Encrypt" { "Encrypt(NoTlsa)" } else { expected };
                assert_eq!(decided(sts, level), expected, "{row:?} at {level:?}");
            }
            // A rule that names the host.
            let by_rule = match (row[5], row[1]) {
                ("not-authenticated", "usable") => "Dane",
                ("not-authenticated", _) => "Pkix(Rule)",
                (other, _) => other,
            };
            assert_eq!(decided(sts, &named), by_rule, "{row:?}");
            if row[2] == "any" {
                for sts in ["testing", "enforce, listed", "enforce, not listed"].map(demand) {
                    assert_eq!(decided(sts, &levels[0]), "Dane", "DANE decides alone");
                }
            }
            // Other levels ask for no policy.
            for level in [Level::DaneOnly, Level::Encrypt, Level::May(Permit::Observe { level: "dane" })] {
                assert!(!asks_sts(&route, &found(), &level));
            }
        }
        let address = Associations::None(NoDane::AddressOnly);
        assert!(!asks_sts(&route(Security::Secure), &address, &Level::Dane(InsecureMx::Dane)));
    }

    proptest::proptest! {
        #[test]
        fn p14_enforce_never_falls_to_less(
            secure in proptest::bool::ANY,
            tlsa in 0_usize..4,
            listed in proptest::bool::ANY,
            level in 0_usize..6,
        ) {
            // P14: whatever the DNS says, a policy in mode enforce leaves no way to cleartext or to an unverified server,
            // and none to a server that it does not list, unless DANE has named it.
            let route = route(if secure { Security::Secure } else { Security::Insecure });
            let cell = ["some usable", "only unusable", "none or insecure", "not asked"][tlsa];
            let level = &[
                Level::Dane(InsecureMx::Dane),
                Level::Dane(InsecureMx::Encrypt),
                Level::Verify,
                Level::Secure(Vec::new()),
                Level::Secure(vec![MxPattern::parse("mx.example")]),
                Level::Secure(vec![MxPattern::parse("other.example")]),
            ][level];
            let associations = tlsa_not_asked(&route, level).map_or_else(|| found(cell), Associations::None);
            let sts = StsDemand::Enforce(if listed { StsListing::Yes } else { StsListing::No });
            let host = host(Security::Secure);
            let decided = decide(ExchangeFacts { route: &route, host: &host, associations, sts }, level);
            match decided {
                Ok(TlsPolicy::Dane(_)) => assert!(secure),
                Ok(TlsPolicy::Sts(_) | TlsPolicy::StsDane(_)) => assert!(listed),
                Err(Unmeetable::NotListed) => assert!(!listed),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn the_table_of_the_documentation() {
        // B1, B2, B3, B6, C16, C17, X1: the rows at the top of this file are the test.
        let rows: Vec<Vec<&str>> = include_str!("policy.rs")
            .lines()
            .filter_map(|line| line.strip_prefix("//! | "))
            .map(|row| row.trim_end_matches(" |").split(" | ").collect())
            .collect();
        assert_eq!(rows.len(), 9, "the header and eight rows");
        for row in &rows[1..] {
            let (route, host) = (route(security(row[0])), host(security(row[1])));
            // One cell of an insecure MX has a decision for each setting; the other rows are the same for both.
            let (dane, encrypt) = match row[3].split_once(", or ") {
                Some((dane, other)) => (dane, other.trim_end_matches(" by setting")),
                None if route.security == Security::Insecure => (row[3], "Encrypt(InsecureMx)"),
                None => (row[3], row[3]),
            };
            for (level, expected) in [
                (Level::Dane(InsecureMx::Dane), dane),
                (Level::Dane(InsecureMx::Encrypt), encrypt),
                (Level::DaneOnly, row[4]),
                (Level::Encrypt, row[5]),
            ] {
                let associations = tlsa_not_asked(&route, &level).map_or_else(|| found(row[2]), Associations::None);
                assert_eq!(said(&plain(&route, &host, associations, &level)), expected, "{row:?} at {level:?}");
            }
        }
    }

    #[test]
    fn reference_identifiers() {
        let pin = || format!("3 1 1 {}", "07".repeat(32)).parse().unwrap();
        let decided = |level: &Level, security| {
            let usable = Usable::new(name("mx.example"), vec![pin()]).unwrap();
            let policy = plain(&route(security), &host(Security::Secure), Associations::Usable(usable), level).unwrap();
            policy.expectation().unwrap().references.names().to_vec()
        };
        let dane = Level::Dane(InsecureMx::Dane);
        let all = [name("mx.example"), name("example"), name("expanded.example")];
        // R1, R2, F6, F7: the base domain first, then the next-hop domain and its expansion; never a name in
        // between.
        assert_eq!(decided(&dane, Security::Secure), all);
        // F9: without MX records the domain is the host; expanded, it comes first, and the domain itself second.
        let expanded = Usable::new(name("expanded.example"), vec![pin()]).unwrap();
        let found = Associations::Usable(expanded);
        let policy = plain(&route(Security::Secure), &host(Security::Secure), found, &dane).unwrap();
        assert_eq!(policy.expectation().unwrap().references.names(), [name("expanded.example"), name("example")]);
        // F8: over an insecure MX the host's own name alone.
        assert_eq!(decided(&dane, Security::Insecure), [name("mx.example")]);
        // Pins are for the domain; an insecure MX does not choose the name in the certificate.
        assert_eq!(decided(&Level::Fingerprint(vec![pin()]), Security::Secure), all);
        assert_eq!(decided(&Level::Fingerprint(vec![pin()]), Security::Insecure), [name("example")]);
    }

    #[test]
    fn mode_observe_names_the_level_that_it_does_not_enforce() {
        let permit = Permit::Rule { reason: "appliance".into(), until: Date::MAX };
        assert_eq!(permit.no_dane(), NoDane::NotAsked);
        let dane = Level::Dane(InsecureMx::Dane);
        let named = [Level::Verify, Level::Secure(Vec::new()), Level::DaneOnly, Level::Fingerprint(Vec::new())];
        for level in [Level::May(permit), Level::Encrypt, dane].into_iter().chain(named) {
            let Level::May(observing) = level.observed() else { panic!("{level}") };
            assert_eq!(observing.no_dane().to_string(), format!("mode observe does not enforce the level {level}"));
        }
    }

    #[test]
    fn levels_that_only_a_rule_can_set() {
        let permit = Permit::Rule { reason: "appliance".into(), until: Date::MAX };
        let may = Level::May(permit.clone());
        assert_eq!(tlsa_not_asked(&route(Security::Secure), &may), Some(NoDane::NotAsked));
        let policy = plain(&route(Security::Secure), &host(Security::Secure), found("some usable"), &may).unwrap();
        assert_eq!(policy, TlsPolicy::May(name("mx.example"), permit));
        // No pins is no permission.
        let empty = Level::Fingerprint(Vec::new());
        assert!(plain(&route(Security::Secure), &host(Security::Secure), found("some usable"), &empty).is_err());
    }
}
