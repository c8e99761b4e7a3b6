//! Whether a server is the one that the TLSA records mean (RFC 7671 §5, RFC 7672 §3).
//!
//! A DANE-EE record is about the server's own certificate or key. If one matches, that is all: names, dates, issuers
//! and extensions are ignored (RFC 7671 §5.1), since the record is under the name, lives as long as its TTL, and was
//! signed by the domain itself. A DANE-TA record is about an authority above the server. Then all checks of the Web PKI
//! apply, except for the list of authorities: the path, the dates, and the names (RFC 7671 §5.2).
//!
//! A verdict here is half of the truth. That the server *holds* the key is shown by its handshake signature, which must
//! be checked with the very key that matched: [`spki`] gives both sides the same octets.

use std::cell::OnceCell;

use rustls_pki_types::{CertificateDer, UnixTime};
use sha2::{Digest, Sha256, Sha512};

use super::certificate::{Certificate, Malformed};
pub use super::der::spki;
pub use super::mismatch::Mismatch;
use super::mismatch::{Defect, Holder, NoRecord};
use super::path::{self, Materials};
use super::tlsa::{Matching, Selector, Tlsa, Usable, Usage};
use super::{der, facts, names};
use crate::hex::Hex;
use crate::name::Name;

/// The most certificates in a chain, and the most octets in all of them. Honest chains have five, and rustls takes no
/// more than 64 KB.
const MAX_CERTIFICATES: usize = 16;
const MAX_OCTETS: usize = 128 * 1024;
/// The RSA keys that are taken (decision 15).
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// The reference identifiers of a connection (RFC 7672 §3.2.2): the names a DANE-TA certificate may be for, TLSA base
/// domain first. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct References(Vec<Name>);

/// The proof that is asked of a server: its chain matches one of the records, and, under a trust anchor, it has one of
/// the names.
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
    /// The first end of a certificate on the path whose dates count, in seconds since 1970; none where no date counts: under
    /// usage 3 (RFC 7671 §5.1).
    pub path_ends: Option<i64>,
    /// A fault that the log should report beside the match.
    pub warning: Option<Warning>,
}

/// A fault in a match that its publisher should mend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// The trust anchor is an intermediate authority outside its dates. Postfix takes it, and so do we (decision 15).
    #[error("the trust anchor's certificate has expired or is not yet valid")]
    AnchorOutOfDate,
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

/// A server's certificates, its own first, each read once: for the verdict, and for the lines that tell people about them.
pub struct Sent<'a> {
    /// Those that are looked at.
    presented: Vec<Presented<'a>>,
    certificates: usize,
    octets: usize,
}

impl<'a> Sent<'a> {
    /// Reads the certificates. Of a chain that is larger than any honest one only the server's own is read.
    pub fn read(chain: &'a [CertificateDer<'a>]) -> Self {
        let (certificates, octets) = (chain.len(), chain.iter().map(|certificate| certificate.len()).sum());
        let read = if certificates > MAX_CERTIFICATES || octets > MAX_OCTETS { 1 } else { certificates };
        let presented = chain.iter().take(read).map(|certificate| Presented::new(certificate)).collect();
        Self { presented, certificates, octets }
    }

    /// The octets of the server's key, if they can be read (see [`spki`]).
    pub fn key(&self) -> Option<&'a [u8]> {
        self.presented.first()?.key
    }

    /// A line about each of the first certificates, as [`facts`] has it.
    pub fn lines(&self, most: usize) -> Vec<String> {
        self.presented.iter().take(most).map(facts::line).collect()
    }

    /// Whether the whole chain was read.
    ///
    /// # Errors
    /// Its size, if it is larger than any honest one.
    pub fn in_bounds(&self) -> Result<(), Mismatch> {
        match self.presented.len() < self.certificates || self.octets > MAX_OCTETS {
            true => Err(Mismatch::ChainTooLarge { certificates: self.certificates, octets: self.octets }),
            false => Ok(()),
        }
    }

    /// The certificates that were read, the server's own first.
    pub(super) fn presented(&self) -> &[Presented<'a>] {
        &self.presented
    }

    /// Judges the chain.
    ///
    /// # Errors
    /// Why it does not meet the expectation.
    pub fn verify(&self, expected: &Expectation, now: UnixTime) -> Result<Match, Mismatch> {
        let (leaf, others) = self.presented.split_first().ok_or(Mismatch::NoCertificate)?;
        if let Some(record) = expected.usable.records().iter().find(|record| ends_at(record, leaf)) {
            let found = Match { record: record.clone(), depth: 0, path_ends: None, warning: None };
            return leaf.key_size().map(|()| found);
        }
        self.in_bounds()?;
        trust_anchor(leaf, others, expected, now)
    }
}

/// Judges a server's certificate chain, its own certificate first.
///
/// # Errors
/// Why the chain does not meet the expectation.
pub fn verify(chain: &[CertificateDer<'_>], expected: &Expectation, now: UnixTime) -> Result<Match, Mismatch> {
    Sent::read(chain).verify(expected, now)
}

/// Whether a DANE-EE record matches the server's own certificate.
fn ends_at(record: &Tlsa, presented: &Presented<'_>) -> bool {
    match record.usage() {
        Usage::EndEntity => presented.is(record),
        Usage::TrustAnchor => false,
    }
}

/// DANE-TA: a path to an anchor, a server's certificate that is good for it, and a name (RFC 7671 §5.2).
fn trust_anchor(
    leaf: &Presented<'_>,
    others: &[Presented<'_>],
    expected: &Expectation,
    now: UnixTime,
) -> Result<Match, Mismatch> {
    let records = expected.usable.records();
    if records.iter().all(|record| record.usage() == Usage::EndEntity) {
        return Err(leaf.no_record(records));
    }
    let certificate = leaf.certificate.as_ref();
    let certificate = certificate.map_err(|Malformed(what)| Mismatch::Path(Holder::Server, Defect::Malformed(what)))?;
    let brought: Vec<Presented<'_>> =
        path::in_full(records, Selector::Certificate).map(|record| Presented::new(record.data())).collect();
    let materials = Materials::new(certificate, &brought, others, records);
    if !materials.has_anchor() {
        return Err(leaf.no_record(records));
    }
    let found = materials.path(now)?;
    path::server(certificate, now)?;
    leaf.key_size()?;
    let references = expected.references.names();
    if names::presented(certificate).any(|name| references.iter().any(|reference| names::is_for(name, reference))) {
        return Ok(found);
    }
    let found = names::presented(certificate).map(names::shown).collect();
    Err(Mismatch::Name { found, wanted: references.to_vec() })
}

/// Whether a key, if it is an RSA key, has a size that is taken.
///
/// # Errors
/// Its size in bits.
pub fn key_size(spki: &[u8]) -> Result<(), usize> {
    match der::rsa_bits(spki) {
        Some(bits) if !RSA_BITS.contains(&bits) => Err(bits),
        Some(_) | None => Ok(()),
    }
}

/// A certificate as records are compared with it.
pub(super) struct Presented<'a> {
    pub(super) octets: &'a [u8],
    pub(super) key: Option<&'a [u8]>,
    /// Its content, which counts under a trust anchor only.
    pub(super) certificate: Result<Certificate<'a>, Malformed>,
    digests: [LazyDigests; 2],
}

/// Digests, made when they are first asked for: a record set may be long.
#[derive(Default)]
struct LazyDigests {
    sha256: OnceCell<[u8; 32]>,
    sha512: OnceCell<[u8; 64]>,
}

impl<'a> Presented<'a> {
    pub(super) fn new(octets: &'a [u8]) -> Self {
        let certificate = Certificate::read(octets);
        Self { octets, key: spki(octets), certificate, digests: Default::default() }
    }

    /// Its content, if it can be read.
    pub(super) fn readable(&self) -> Option<&Certificate<'a>> {
        self.certificate.as_ref().ok()
    }

    /// The SHA-256 of the certificate, and that of its key, in upper-case hexadecimal.
    pub(super) fn sha256(&self) -> (String, Option<String>) {
        let [of_certificate, of_key] = &self.digests;
        let text = |digests: &LazyDigests, octets: &[u8]| {
            Hex(digests.sha256.get_or_init(|| Sha256::digest(octets).into())).to_string()
        };
        (text(of_certificate, self.octets), self.key.map(|key| text(of_key, key)))
    }

    /// Whether this is the certificate, or has the key, that the record speaks of (RFC 6698 §2.1).
    pub(super) fn is(&self, record: &Tlsa) -> bool {
        let [of_certificate, of_key] = &self.digests;
        let (octets, digests) = match (record.selector(), self.key) {
            (Selector::Certificate, _) => (self.octets, of_certificate),
            (Selector::PublicKey, Some(key)) => (key, of_key),
            (Selector::PublicKey, None) => return false,
        };
        match record.matching() {
            Matching::Full => octets == record.data(),
            Matching::Sha256 => digests.sha256.get_or_init(|| Sha256::digest(octets).into()) == record.data(),
            Matching::Sha512 => digests.sha512.get_or_init(|| Sha512::digest(octets).into()) == record.data(),
        }
    }

    /// A certificate whose key cannot be read matches no record in the end: no handshake signature could be checked.
    fn key_size(&self) -> Result<(), Mismatch> {
        let key = self.key.ok_or(Mismatch::Path(Holder::Server, Defect::Malformed("public key")))?;
        key_size(key).map_err(|bits| Mismatch::KeySize(Holder::Server, bits))
    }

    fn no_record(&self, records: &[Tlsa]) -> Mismatch {
        let (certificate, key) = self.sha256();
        Mismatch::NoRecord(NoRecord::new(certificate, key, records))
    }
}
