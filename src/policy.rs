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
//! Two levels do not look at the table, and only a rule for one domain can set them (see [`rules`](crate::rules)):
//! `fingerprint` holds each host to the rule's own records, and `may` takes TLS where it is offered and cleartext where
//! it is not, until a day that the rule must name.
//!
//! In mode `observe` the table decides in the same way, and each session is asked for the same proof. Only mail that would
//! be refused because the proof is missing goes at the level `may`, with [`Permit::Observe`]; the log names the proof that is
//! missing and the level that is not enforced.

use std::fmt;
use std::sync::Arc;

use time::Date;

use crate::dane::tlsa::{Associations, NoDane, Tlsa, Usable};
use crate::dane::verify::{Expectation, References};
use crate::dns::{Host, Security};
use crate::mx::Route;
use crate::name::Name;

/// How much a session must prove, in Postfix's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Level {
    /// TLS if the host offers it and it works, cleartext if not. The one level that needs a [`Permit`].
    May(Permit),
    /// TLS without authentication; TLSA is not asked.
    Encrypt,
    /// DANE where the domain publishes it, unauthenticated TLS everywhere else. The default.
    Dane(InsecureMx),
    /// DANE or no delivery: a host without usable TLSA records in a secure zone gets no mail (RFC 7672 §6).
    DaneOnly,
    /// As if the domain had published these records for each of its hosts, and no others.
    Fingerprint(Vec<Tlsa>),
}

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
}

impl Permit {
    /// Why a session under this permit is not authenticated.
    pub fn no_dane(&self) -> NoDane {
        match self {
            Self::Rule { .. } => NoDane::NotAsked,
            Self::Observe { level } => NoDane::NotEnforced(level),
        }
    }
}

/// Whether danelaw enforces the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A session that does not meet its policy gets no mail.
    Enforce,
    /// Mail to a host that does not meet its policy is delivered all the same, and the log says so.
    Observe,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Enforce => "enforce",
            Self::Observe => "observe",
        })
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl Level {
    /// The word in the configuration and in the log.
    pub fn label(&self) -> &'static str {
        match self {
            Self::May(_) => "may",
            Self::Encrypt => "encrypt",
            Self::Dane(_) => "dane",
            Self::DaneOnly => "dane-only",
            Self::Fingerprint(_) => "fingerprint",
        }
    }

    /// The level at which mode `observe` delivers mail that this one would refuse.
    pub fn observed(&self) -> &'static Self {
        macro_rules! instead_of {
            ($level:literal) => {
                const { &Self::May(Permit::Observe { level: $level }) }
            };
        }
        match self {
            Self::May(_) => instead_of!("may"),
            Self::Encrypt => instead_of!("encrypt"),
            Self::Dane(_) => instead_of!("dane"),
            Self::DaneOnly => instead_of!("dane-only"),
            Self::Fingerprint(_) => instead_of!("fingerprint"),
        }
    }
}

/// What a session must prove before mail may pass. [`TlsPolicy::May`] is the only variant that has a way to cleartext,
/// and carries the permit for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsPolicy {
    /// The host must be authenticated, and is known to serve the domain.
    Dane(Arc<Expectation>),
    /// The host must be authenticated under its own name; that it serves the domain rests on an insecure MX record.
    HalfDane(Arc<Expectation>),
    /// The host must match the pins of the configuration.
    Fingerprint(Arc<Expectation>),
    /// TLS is mandatory, authentication is impossible for the reason given; the name is sent as SNI.
    Encrypt(Name, NoDane),
    /// TLS if the host offers it, else cleartext; the name is sent as SNI.
    May(Name, Permit),
}

impl TlsPolicy {
    /// The name to send as SNI: the TLSA base domain where there is one (RFC 7672 §8.1).
    pub fn server_name(&self) -> &Name {
        match self {
            Self::Dane(expected) | Self::HalfDane(expected) | Self::Fingerprint(expected) => {
                expected.usable.base_domain()
            }
            Self::Encrypt(name, _) | Self::May(name, _) => name,
        }
    }

    /// The expectation that the server's chain must match, if there is one.
    pub fn expectation(&self) -> Option<&Arc<Expectation>> {
        match self {
            Self::Dane(expected) | Self::HalfDane(expected) | Self::Fingerprint(expected) => Some(expected),
            Self::Encrypt(..) | Self::May(..) => None,
        }
    }

    /// The name of the policy in log lines.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Dane(_) => "dane",
            Self::HalfDane(_) => "half-dane",
            Self::Fingerprint(_) => "fingerprint",
            Self::Encrypt(..) => "encrypt",
            Self::May(..) => "may",
        }
    }
}

/// The level is `dane-only`, and the host cannot be authenticated for this domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("DANE is required, but {0}")]
pub struct DaneRequired(pub NoDane);

/// Why TLSA records are not worth asking for, before any is asked; `None` where they must be asked for.
pub fn tlsa_not_asked(route: &Route, level: &Level) -> Option<NoDane> {
    match (level, route.security) {
        (Level::May(_) | Level::Encrypt | Level::Fingerprint(_), _) => Some(NoDane::NotAsked),
        (Level::Dane(InsecureMx::Encrypt) | Level::DaneOnly, Security::Insecure) => Some(NoDane::InsecureMx),
        (Level::Dane(InsecureMx::Dane), Security::Insecure) | (Level::Dane(_) | Level::DaneOnly, Security::Secure) => {
            None
        }
    }
}

/// The table. `associations` come from [`tlsa_not_asked`], from the host's own security or from the TLSA lookups.
///
/// # Errors
/// [`DaneRequired`] where the level is `dane-only` and DANE cannot authenticate the host.
pub fn decide(
    route: &Route,
    host: &Host,
    associations: Associations,
    level: &Level,
) -> Result<TlsPolicy, DaneRequired> {
    match (level, associations) {
        (Level::May(permit), _) => Ok(TlsPolicy::May(host.name.clone(), permit.clone())),
        (Level::Encrypt, Associations::None(why @ NoDane::AddressOnly)) => {
            Ok(TlsPolicy::Encrypt(host.name.clone(), why))
        }
        (Level::Encrypt, _) => Ok(TlsPolicy::Encrypt(host.name.clone(), NoDane::NotAsked)),
        (Level::Fingerprint(pins), _) => match Usable::new(host.name.clone(), pins.clone()) {
            Some(usable) => Ok(TlsPolicy::Fingerprint(pinned(route, usable))),
            None => Err(DaneRequired(NoDane::NoTlsa)),
        },
        (Level::Dane(_) | Level::DaneOnly, Associations::Usable(usable)) if route.security == Security::Secure => {
            Ok(TlsPolicy::Dane(over_secure_mx(route, usable)))
        }
        (Level::Dane(_), Associations::Usable(usable)) => {
            // RFC 7672 §2.2.1: over an insecure MX only the host's own name is known.
            let references = References::new(usable.base_domain().clone(), []);
            Ok(TlsPolicy::HalfDane(Arc::new(Expectation { references, usable })))
        }
        (Level::DaneOnly, Associations::Usable(_)) => Err(DaneRequired(NoDane::InsecureMx)),
        (Level::Dane(_), Associations::None(why)) => Ok(TlsPolicy::Encrypt(host.name.clone(), why)),
        (Level::DaneOnly, Associations::None(why)) => Err(DaneRequired(why)),
    }
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
    use crate::dns::{Answer, Lookup, Mx, MxTarget};
    use crate::mx::{self, Here};

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn route(security: Security) -> Route {
        let records = vec![Mx { preference: 10, target: MxTarget::Host(name("mx.example")) }];
        let alias = |owner, target| crate::dns::Alias { owner: name(owner), target: name(target), security };
        let aliases = vec![alias("example", "between.example"), alias("between.example", "expanded.example")];
        let lookup = Lookup { asked: name("example"), aliases, end: security, answer: Answer::Records(records) };
        mx::route(&lookup, Here { names: &[], most: 20, seed: 0 }).unwrap()
    }

    fn host(security: Security) -> Host {
        Host { name: name("mx.example"), aliases: Vec::new(), end: security, addresses: Vec::new(), unknown: None }
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

    /// A decision in the words of the table.
    fn said(decision: &Result<TlsPolicy, DaneRequired>) -> String {
        match decision {
            Ok(TlsPolicy::Dane(_)) => "Dane".into(),
            Ok(TlsPolicy::HalfDane(_)) => "HalfDane".into(),
            Ok(TlsPolicy::Fingerprint(_)) => "Fingerprint".into(),
            Ok(TlsPolicy::May(..)) => "May".into(),
            Ok(TlsPolicy::Encrypt(_, NoDane::UnusableTlsa(_))) => "Encrypt(UnusableTlsa)".into(),
            Ok(TlsPolicy::Encrypt(_, why)) => format!("Encrypt({why:?})"),
            Err(DaneRequired(_)) => "refuse".into(),
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
                assert_eq!(said(&decide(&route, &host, associations, &level)), expected, "{row:?} at {level:?}");
            }
        }
    }

    #[test]
    fn reference_identifiers() {
        let pin = || format!("3 1 1 {}", "07".repeat(32)).parse().unwrap();
        let decided = |level: &Level, security| {
            let usable = Usable::new(name("mx.example"), vec![pin()]).unwrap();
            let policy =
                decide(&route(security), &host(Security::Secure), Associations::Usable(usable), level).unwrap();
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
        let policy = decide(&route(Security::Secure), &host(Security::Secure), found, &dane).unwrap();
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
        for level in [Level::May(permit), Level::Encrypt, dane, Level::DaneOnly, Level::Fingerprint(Vec::new())] {
            let Level::May(observing) = level.observed() else { panic!("{level}") };
            assert_eq!(observing.no_dane().to_string(), format!("mode observe does not enforce the level {level}"));
        }
    }

    #[test]
    fn levels_that_only_a_rule_can_set() {
        let permit = Permit::Rule { reason: "appliance".into(), until: Date::MAX };
        let may = Level::May(permit.clone());
        assert_eq!(tlsa_not_asked(&route(Security::Secure), &may), Some(NoDane::NotAsked));
        let policy = decide(&route(Security::Secure), &host(Security::Secure), found("some usable"), &may).unwrap();
        assert_eq!(policy, TlsPolicy::May(name("mx.example"), permit));
        // No pins is no permission.
        let empty = Level::Fingerprint(Vec::new());
        assert!(decide(&route(Security::Secure), &host(Security::Secure), found("some usable"), &empty).is_err());
    }
}
