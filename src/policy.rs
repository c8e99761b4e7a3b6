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

use std::fmt;

use crate::dane::tlsa::{Associations, NoDane};
use crate::dane::verify::{Expectation, References};
use crate::dns::{Host, Security};
use crate::mx::Route;
use crate::name::Name;

/// How much a session must prove, in Postfix's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// DANE where the domain publishes it, unauthenticated TLS everywhere else. The default.
    Dane,
    /// DANE or nothing: what has no usable TLSA records in a secure zone gets no mail (RFC 7672 §6).
    DaneOnly,
    /// TLS without authentication; TLSA is not asked.
    Encrypt,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dane => "dane",
            Self::DaneOnly => "dane-only",
            Self::Encrypt => "encrypt",
        })
    }
}

/// What to do with TLSA records of a secure host that an insecure MX record names (RFC 7672 §2.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum InsecureMx {
    /// Authenticate the host by them, under its own name alone, and log that the domain was not.
    Dane,
    /// Do not ask for them.
    Encrypt,
}

/// What the operator asks of a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// The level.
    pub level: Level,
    /// How to treat an insecure MX record.
    pub insecure_mx: InsecureMx,
}

/// What a session must prove before mail may pass. There is no cleartext variant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsPolicy {
    /// The host must be authenticated, and is known to serve the domain.
    Dane(Expectation),
    /// The host must be authenticated under its own name; that it serves the domain rests on an insecure MX record.
    HalfDane(Expectation),
    /// TLS is mandatory, authentication is impossible for the reason given; the name is sent as SNI.
    Encrypt(Name, NoDane),
}

impl TlsPolicy {
    /// The name to send as SNI: the TLSA base domain where there is one (RFC 7672 §8.1).
    pub fn server_name(&self) -> &Name {
        match self {
            Self::Dane(expected) | Self::HalfDane(expected) => expected.usable.base_domain(),
            Self::Encrypt(name, _) => name,
        }
    }

    /// What the server's chain is held against, if anything.
    pub fn expectation(&self) -> Option<&Expectation> {
        match self {
            Self::Dane(expected) | Self::HalfDane(expected) => Some(expected),
            Self::Encrypt(..) => None,
        }
    }

    /// The name of the policy in log lines.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Dane(_) => "dane",
            Self::HalfDane(_) => "half-dane",
            Self::Encrypt(..) => "encrypt",
        }
    }
}

/// The level is `dane-only`, and the host cannot be authenticated for this domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("DANE is required, but {0}")]
pub struct DaneRequired(pub NoDane);

/// Why TLSA records are not worth asking for, before any is asked; `None` where they must be asked for.
pub fn tlsa_not_asked(route: &Route, rule: Rule) -> Option<NoDane> {
    match (rule.level, route.security, rule.insecure_mx) {
        (Level::Encrypt, _, _) => Some(NoDane::NotAsked),
        (Level::Dane, Security::Insecure, InsecureMx::Encrypt) | (Level::DaneOnly, Security::Insecure, _) => {
            Some(NoDane::InsecureMx)
        }
        (Level::Dane, Security::Insecure, InsecureMx::Dane) | (Level::Dane | Level::DaneOnly, Security::Secure, _) => {
            None
        }
    }
}

/// The table. `associations` is what [`tlsa_not_asked`], the host's own security or the TLSA lookups have said.
///
/// # Errors
/// [`DaneRequired`] where the level is `dane-only` and there is nothing to authenticate the host by.
pub fn decide(route: &Route, host: &Host, associations: Associations, rule: Rule) -> Result<TlsPolicy, DaneRequired> {
    match (rule.level, associations) {
        (Level::Dane | Level::DaneOnly, Associations::Usable(usable)) => Ok(match route.security {
            // RFC 7672 §3.2.2: over a secure MX the certificate may also be for the next-hop domain.
            Security::Secure => {
                let names = [route.next_hop.clone(), route.expanded.clone()];
                TlsPolicy::Dane(Expectation {
                    references: References::new(usable.base_domain().clone(), names),
                    usable,
                })
            }
            // RFC 7672 §2.2.1: over an insecure one only the host's own name is known.
            Security::Insecure => {
                if rule.level == Level::DaneOnly {
                    return Err(DaneRequired(NoDane::InsecureMx));
                }
                TlsPolicy::HalfDane(Expectation {
                    references: References::new(usable.base_domain().clone(), []),
                    usable,
                })
            }
        }),
        (Level::DaneOnly, Associations::None(why)) => Err(DaneRequired(why)),
        (Level::Dane, Associations::None(why)) => Ok(TlsPolicy::Encrypt(host.name.clone(), why)),
        (Level::Encrypt, _) => Ok(TlsPolicy::Encrypt(host.name.clone(), NoDane::NotAsked)),
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
        mx::route(&lookup, Here { names: &[], seed: 0 }).unwrap()
    }

    fn host(security: Security) -> Host {
        Host { name: name("mx.example"), aliases: Vec::new(), end: security, addresses: Vec::new() }
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
            for (level, expected) in [(Level::Dane, row[3]), (Level::DaneOnly, row[4]), (Level::Encrypt, row[5])] {
                for (insecure_mx, expected) in
                    [(InsecureMx::Dane, expected.split(", or ").next()), (InsecureMx::Encrypt, None)]
                {
                    let rule = Rule { level, insecure_mx };
                    let associations = tlsa_not_asked(&route, rule).map_or_else(|| found(row[2]), Associations::None);
                    let decided = said(&decide(&route, &host, associations, rule));
                    let expected = match (expected, route.security, level) {
                        (Some(expected), ..) => expected.trim_matches('`').to_owned(),
                        (None, Security::Insecure, Level::Dane) => "Encrypt(InsecureMx)".to_owned(),
                        (None, ..) => {
                            said(&decide(&route, &host, found(row[2]), Rule { insecure_mx: InsecureMx::Dane, ..rule }))
                        }
                    };
                    assert_eq!(decided, expected, "{row:?} at {level} with {insecure_mx:?}");
                }
            }
        }
    }

    #[test]
    fn reference_identifiers() {
        let usable = || Usable::new(name("mx.example"), vec![format!("3 1 1 {}", "07".repeat(32)).parse().unwrap()]);
        let decided = |security| {
            let rule = Rule { level: Level::Dane, insecure_mx: InsecureMx::Dane };
            let associations = Associations::Usable(usable().unwrap());
            let policy = decide(&route(security), &host(Security::Secure), associations, rule).unwrap();
            policy.expectation().unwrap().references.names().to_vec()
        };
        // R1, R2, F6, F7: the base domain first, then the next-hop domain and what it expands to;
        // never a name in between.
        assert_eq!(decided(Security::Secure), [name("mx.example"), name("example"), name("expanded.example")]);
        // F9: without an MX, and the base domain found by way of an alias, the domain itself is the second name.
        let lookup = Lookup { asked: name("example"), aliases: vec![], end: Security::Secure, answer: Answer::NoData };
        let implicit = mx::route(&lookup, Here { names: &[], seed: 0 }).unwrap();
        let rule = Rule { level: Level::Dane, insecure_mx: InsecureMx::Dane };
        let host = Host { name: name("example"), ..host(Security::Secure) };
        let policy = decide(&implicit, &host, Associations::Usable(usable().unwrap()), rule).unwrap();
        assert_eq!(policy.expectation().unwrap().references.names(), [name("mx.example"), name("example")]);
        // F8: over an insecure MX the host's own name alone.
        assert_eq!(decided(Security::Insecure), [name("mx.example")]);
    }
}
