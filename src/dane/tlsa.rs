use crate::dns::{Host, RawTlsa};
use crate::name::Name;

/// The certificate usages that mean something on port 25 (RFC 7672 §3.1). PKIX-TA(0) and PKIX-EE(1) do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Usage {
    /// DANE-TA(2): a trust anchor in the chain.
    TrustAnchor,
    /// DANE-EE(3): the server's own certificate or key.
    EndEntity,
}

/// What of a certificate a record speaks of (RFC 6698 §2.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Selector {
    /// Cert(0): the whole certificate.
    Certificate,
    /// SPKI(1): the SubjectPublicKeyInfo.
    PublicKey,
}

/// How the record's data stands for what the selector picks (RFC 6698 §2.1.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Matching {
    /// Full(0): the very bytes.
    Full,
    /// SHA2-256(1).
    Sha256,
    /// SHA2-512(2).
    Sha512,
}

/// A usable TLSA record.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tlsa {
    /// DANE-TA or DANE-EE.
    pub usage: Usage,
    /// Certificate or public key.
    pub selector: Selector,
    /// Full, SHA2-256 or SHA2-512.
    pub matching: Matching,
    /// The certificate association data.
    pub data: Vec<u8>,
}

/// Why a record is unusable (RFC 6698 §4.1, RFC 7672 §3.1.3).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// placeholder
    #[error("placeholder")]
    Placeholder,
}

/// The records a server may be authenticated by: never empty, reduced by digest agility (RFC 7671 §9), and bound to the
/// name they were found under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usable {
    base_domain: Name,
    records: Vec<Tlsa>,
}

/// What the lookups for one host amount to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Associations {
    /// The host must be authenticated by these.
    Usable(Usable),
    /// It cannot be, and this is why.
    None(NoDane),
}

/// Why a host is not authenticated by DANE: an answer, never a failure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoDane {
    /// The MX records are insecure, and the settings ask for no more than encryption then.
    #[error("the MX records are not secured by DNSSEC")]
    InsecureMx,
    /// The address (and the first alias, if any) is insecure: TLSA is not asked (RFC 7672 §2.2.2).
    #[error("the host's address is not secured by DNSSEC")]
    InsecureAddress,
    /// TLSA records are proven absent, or lie in an insecure zone.
    #[error("the host has no TLSA records in a secure zone")]
    NoTlsa,
    /// TLSA records exist, and none is usable: TLS is mandatory, authentication impossible (RFC 7672 §2.2).
    #[error("none of the host's TLSA records is usable")]
    UnusableTlsa(Vec<Unusable>),
    /// The level `encrypt` does not ask for TLSA.
    #[error("the level does not ask for it")]
    NotAsked,
}

impl Usable {
    /// The TLSA base domain: the SNI and the first reference identifier (RFC 7672 §2.2.3).
    pub fn base_domain(&self) -> &Name {
        &self.base_domain
    }

    /// The records, at least one.
    pub fn records(&self) -> &[Tlsa] {
        &self.records
    }
}

/// placeholder
pub fn associations(_base_domain: Name, _records: &[RawTlsa]) -> Associations {
    todo!()
}

/// placeholder
pub fn base_domains(_host: &Host) -> Vec<Name> {
    todo!()
}
