use rustls_pki_types::{CertificateDer, UnixTime};

use super::tlsa::{Tlsa, Usable};
use crate::name::Name;

/// The reference identifiers of a connection (RFC 7672 §3.2.2): the names a DANE-TA certificate may be for, TLSA base
/// domain first. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct References(Vec<Name>);

/// What a server has to prove: to match one of the records, and, under a trust anchor, to be one of the names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectation {
    /// The records.
    pub usable: Usable,
    /// The names.
    pub references: References,
}

/// The record that matched, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// The record.
    pub record: Tlsa,
    /// 0 for the server's own certificate, 1 for its issuer, and so on.
    pub depth: usize,
}

/// Why a chain does not meet the expectation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// placeholder
    #[error("placeholder")]
    Placeholder,
}

impl References {
    /// `first` is the TLSA base domain; doubles among the others are dropped.
    pub fn new(first: Name, others: impl IntoIterator<Item = Name>) -> Self {
        let mut names = vec![first];
        for name in others {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        Self(names)
    }

    /// The names, at least one.
    pub fn names(&self) -> &[Name] {
        &self.0
    }
}

/// placeholder
pub fn verify(_chain: &[CertificateDer<'_>], _expected: &Expectation, _now: UnixTime) -> Result<Match, Mismatch> {
    todo!()
}
