//! Why a certificate chain does not meet the TLSA records, in words that an operator on either side can act on.
//!
//! The commonest cause by far is a key that was changed while its TLSA record was not ("stale TLSA"), so a message
//! shows the server's digests beside the records. Texts from certificates are the peer's: an octet that is no printable
//! ASCII was replaced before it got here.

use std::fmt;

use super::tlsa::{Matching, Tlsa};
use crate::name::Name;

/// The most records, and names, that a message lists.
const MAX_LISTED: usize = 5;

/// Why a chain does not meet the expectation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// The server sent no certificate at all.
    #[error("the server sent no certificate")]
    NoCertificate,
    /// More certificates, or larger ones, than any honest chain has.
    #[error("the server sent {certificates} certificates of {octets} octets in all, which is more than is looked at")]
    ChainTooLarge {
        /// How many.
        certificates: usize,
        /// Their octets together.
        octets: usize,
    },
    /// No record matches.
    #[error("{0}")]
    NoRecord(NoRecord),
    /// A record matches, and the key is an RSA key of a size that is not taken.
    #[error("{0} has an RSA key of {1} bits, and only 2048 to 8192 bits are accepted")]
    KeySize(Holder, usize),
    /// A certificate on the path is no longer valid (DANE-TA only).
    #[error("{0} has expired")]
    Expired(Holder),
    /// A certificate on the path is not yet valid (DANE-TA only).
    #[error("{0} is not yet valid")]
    NotYetValid(Holder),
    /// The chain does not lead to the trust anchor that the records name (DANE-TA only).
    #[error("the certificate chain does not verify up to the trust anchor of the TLSA records: {0} {1}")]
    Path(Holder, Defect),
    /// No public CA vouches for the chain (Web PKI only).
    #[error("{0}")]
    Untrusted(Untrusted),
    /// The chain verifies, and is for another name.
    #[error("the certificate is for {found} and not for {}", wanted.iter().map(Name::to_string).collect::<ListedItems>())]
    Name {
        /// The names in the certificate.
        found: ListedItems,
        /// The reference identifiers (RFC 7672 §3.2.2).
        wanted: Vec<Name>,
    },
}

/// Why no public CA vouches for a chain (RFC 5280 §6.1).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Untrusted {
    /// It ends at an authority of this name.
    #[error("the certificate chain ends at \"{0}\", which is not among the CA certificates here")]
    Issuer(String),
    /// The server's certificate, of this name, is its own issuer.
    #[error("the server's certificate \"{0}\" is self-signed")]
    SelfSigned(String),
    /// A certificate breaks a rule. The text completes the sentence.
    #[error("the certificate chain does not verify up to a CA: {0}")]
    Rule(String),
}

/// No record matches: the server's digests, and the records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoRecord {
    /// The SHA2-256 digest of the server's certificate, in upper-case hexadecimal.
    pub certificate: String,
    /// That of its key, if one can be read.
    pub key: Option<String>,
    /// The records.
    pub records: ListedItems,
}

impl NoRecord {
    /// As it is kept: of a few records, and of each no more than a message shows.
    pub fn new(certificate: String, key: Option<String>, records: &[Tlsa]) -> Self {
        Self { certificate, key, records: records.iter().map(brief).collect() }
    }
}

impl fmt::Display for NoRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no TLSA record matches the certificate chain; the server's ")?;
        match &self.key {
            Some(key) => write!(f, "key is 3 1 1 {key}, its certificate 3 0 1 {}", self.certificate)?,
            None => write!(f, "certificate is 3 0 1 {} and has no readable key", self.certificate)?,
        }
        write!(f, ", the records are {} (stale TLSA?)", self.records)
    }
}

/// A record for a message: certificates in full would fill pages.
fn brief(record: &Tlsa) -> String {
    let text = record.to_string();
    match record.matching() {
        Matching::Sha256 | Matching::Sha512 => text,
        Matching::Full => format!("{}... ({} octets)", text.chars().take(30).collect::<String>(), record.data().len()),
    }
}

/// As many items as a message lists, and the number of the others: a certificate has room for 20,000 names, and a
/// [`Mismatch`] is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedItems {
    items: Vec<String>,
    others: usize,
}

impl FromIterator<String> for ListedItems {
    fn from_iter<T: IntoIterator<Item = String>>(items: T) -> Self {
        let mut items = items.into_iter().fuse();
        Self { items: items.by_ref().take(MAX_LISTED).collect(), others: items.count() }
    }
}

impl fmt::Display for ListedItems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.items.is_empty() {
            return f.write_str("no name at all");
        }
        f.write_str(&self.items.join(", "))?;
        match self.others {
            0 => Ok(()),
            others => write!(f, ", {others} more"),
        }
    }
}

/// The certificate that is at fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// The server's own.
    Server,
    /// That of an authority of this name.
    Authority(String),
    /// The trust anchor of a record.
    Anchor,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server => f.write_str("the server's certificate"),
            Self::Authority(name) => write!(f, "the authority certificate \"{name}\""),
            Self::Anchor => f.write_str("the trust anchor of the TLSA record"),
        }
    }
}

/// The fault of a certificate on the path (RFC 5280 §6.1). Each completes a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Defect {
    /// No certificate at hand issued it.
    #[error("was issued by nothing in the chain")]
    NoIssuer,
    /// The records bring more keys than are tried on it.
    #[error("was issued by nothing in the chain, and the TLSA records bring more keys than are tried")]
    TooManyKeys,
    /// Its issuer's key does not verify its signature.
    #[error("has a signature that does not verify with its issuer's key")]
    Signature,
    /// SHA-1, MD5 or an unknown algorithm.
    #[error("is signed with an algorithm that is not accepted")]
    SignatureAlgorithm,
    /// basicConstraints do not say that it is an authority.
    #[error("is not marked as an authority")]
    NoAuthority,
    /// More authorities below it than it allows.
    #[error("does not allow so many authorities below it")]
    PathLength,
    /// keyUsage forbids it.
    #[error("has a key usage that does not allow this use")]
    KeyUsage,
    /// extKeyUsage is there and has no serverAuth.
    #[error("has an extended key usage without serverAuth")]
    ExtendedKeyUsage,
    /// A Netscape certificate type is there and is not for servers.
    #[error("has a Netscape certificate type that does not allow servers")]
    NetscapeType,
    /// A critical extension that is not understood.
    #[error("has the critical extension {0}, which is not understood")]
    CriticalExtension(String),
    /// The name constraints forbid a name below.
    #[error("has name constraints that do not allow {0}")]
    NameConstraints(String),
    /// More names below it and more subtrees in its name constraints than are compared.
    #[error("has more name constraints than are compared with the names below it")]
    TooManyConstraints,
    /// It cannot be read.
    #[error("cannot be read: malformed {0}")]
    Malformed(&'static str),
    /// The path is too long.
    #[error("is too far up the chain")]
    TooDeep,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_records_a_few_are_kept() {
        let record: Tlsa = format!("3 1 2 {}", "AB".repeat(64)).parse().unwrap();
        let none = NoRecord::new("1F".repeat(32), None, &vec![record; 20]);
        assert_eq!((none.records.items.len(), none.records.others), (MAX_LISTED, 15));
        assert!(none.to_string().ends_with("AB, 15 more (stale TLSA?)"), "{none}");
    }
}
