//! TLSA records: which of them a mail server may be authenticated by (RFC 6698 §2, RFC 7671 §4 and §9, RFC 7672 §3.1).
//!
//! A record says "the server's key (or the whole certificate, or the authority that signed it) is this". Three steps
//! lead from the records in DNS to those that count. A record that cannot be understood, or that relies on a public
//! certificate authority, is *unusable* and set aside. Of the rest, a SHA2-256 digest gives way to a SHA2-512 digest of
//! the same kind: *digest agility*. The records that are left bind. If there were records and none is left, TLS stays
//! mandatory, but the server cannot be authenticated (RFC 7672 §2.2; it overrides RFC 6698 §4.1 in that).
//!
//! The set-aside goes first on purpose: a malformed SHA2-512 record must not displace a good SHA2-256 one.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256, Sha512};

use super::agility::Digests;
use super::der;
use crate::digits::Digits;
use crate::dns::{Host, RawTlsa, Security};
use crate::hex::{self, Hex};
use crate::name::Name;

/// The certificate usages that have a meaning on port 25 (RFC 7672 §3.1). PKIX-TA(0) and PKIX-EE(1) do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Usage {
    /// DANE-TA(2): a trust anchor in the chain.
    TrustAnchor,
    /// DANE-EE(3): the server's own certificate or key.
    EndEntity,
}

/// The part of a certificate that a record is about (RFC 6698 §2.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Selector {
    /// Cert(0): the whole certificate.
    Certificate,
    /// SPKI(1): the SubjectPublicKeyInfo.
    PublicKey,
}

/// The relation of the record's data to the selected part (RFC 6698 §2.1.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Matching {
    /// Full(0): the very bytes.
    Full,
    /// SHA2-256(1).
    Sha256,
    /// SHA2-512(2).
    Sha512,
}

/// A usable TLSA record. Only [`Tlsa::read`] makes one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tlsa {
    usage: Usage,
    selector: Selector,
    matching: Matching,
    data: Vec<u8>,
}

/// The three numbers of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TlsaForm {
    /// DANE-TA or DANE-EE.
    pub usage: Usage,
    /// Certificate or public key.
    pub selector: Selector,
    /// Full, SHA2-256 or SHA2-512.
    pub matching: Matching,
}

/// Why a record is unusable (RFC 6698 §4.1, RFC 7672 §3.1.3).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Three numbers and at least one octet of data make a record (RFC 6698 §2.1).
    #[error("the record has {0} octets, which is too short for a TLSA record")]
    TooShort(usize),
    /// PKIX-TA(0) or PKIX-EE(1): there is no agreed set of public authorities for mail (RFC 7672 §3.1.3).
    #[error("certificate usage {0} relies on public certificate authorities and does not apply to SMTP")]
    PkixUsage(u8),
    /// Neither 0 to 3.
    #[error("certificate usage {0} is unknown")]
    UnknownUsage(u8),
    /// Neither Cert(0) nor SPKI(1).
    #[error("selector {0} is unknown")]
    UnknownSelector(u8),
    /// Neither Full(0), SHA2-256(1) nor SHA2-512(2).
    #[error("matching type {0} is unknown")]
    UnknownMatching(u8),
    /// A digest that the settings do not list (RFC 6698 §4.1).
    #[error("the digest of matching type {0} is disabled by tls.digests")]
    DisabledDigest(u8),
    /// The data is no digest of that kind.
    #[error("the digest has {found} octets instead of {expected}")]
    DigestLength {
        /// The length by the matching type.
        expected: usize,
        /// The length in the record.
        found: usize,
    },
    /// Full(0) data that is no certificate.
    #[error("the data is no X.509 certificate")]
    NoCertificate,
    /// Full(0) data that is no SubjectPublicKeyInfo.
    #[error("the data is no public key")]
    NoPublicKey,
}

impl Tlsa {
    /// Reads a record's RDATA (RFC 6698 §2.1).
    ///
    /// # Errors
    /// The fault that makes the record unusable.
    pub fn read(raw: &RawTlsa) -> Result<Self, Unusable> {
        let (usage, selector, matching, data) = match raw.0.as_slice() {
            [usage, selector, matching, data @ ..] if !data.is_empty() => (*usage, *selector, *matching, data),
            short => return Err(Unusable::TooShort(short.len())),
        };
        let record = Self {
            usage: match usage {
                0 | 1 => return Err(Unusable::PkixUsage(usage)),
                2 => Usage::TrustAnchor,
                3 => Usage::EndEntity,
                4.. => return Err(Unusable::UnknownUsage(usage)),
            },
            selector: match selector {
                0 => Selector::Certificate,
                1 => Selector::PublicKey,
                2.. => return Err(Unusable::UnknownSelector(selector)),
            },
            matching: match matching {
                0 => Matching::Full,
                1 => Matching::Sha256,
                2 => Matching::Sha512,
                3.. => return Err(Unusable::UnknownMatching(matching)),
            },
            data: data.to_vec(),
        };
        record.check_data()?;
        Ok(record)
    }

    /// The record of this form over its subject: a certificate, or a key with its outer SEQUENCE.
    ///
    /// # Errors
    /// The octets do not fit the selector.
    pub(super) fn of(form: TlsaForm, octets: &[u8]) -> Result<Self, Unusable> {
        let data = match form.matching {
            Matching::Full => octets.to_vec(),
            Matching::Sha256 => Sha256::digest(octets).to_vec(),
            Matching::Sha512 => Sha512::digest(octets).to_vec(),
        };
        let record = Self { usage: form.usage, selector: form.selector, matching: form.matching, data };
        record.check_data()?;
        Ok(record)
    }

    /// RFC 6698 §4.1: a record whose data cannot be of its matching type is unusable.
    fn check_data(&self) -> Result<(), Unusable> {
        let digest = |expected| match self.data.len() {
            found if found == expected => Ok(()),
            found => Err(Unusable::DigestLength { expected, found }),
        };
        match (self.matching, self.selector, self.usage) {
            (Matching::Sha256, ..) => digest(32),
            (Matching::Sha512, ..) => digest(64),
            (Matching::Full, Selector::PublicKey, _) => {
                der::is_spki(&self.data).then_some(()).ok_or(Unusable::NoPublicKey)
            }
            // Only the key needs to be readable. Under DANE-EE the rest does not count (RFC 7671 §5.1), and an
            // authority that cannot be read is a reason against the server; an unusable record would be a reason to
            // accept any server in its place.
            (Matching::Full, Selector::Certificate, Usage::EndEntity | Usage::TrustAnchor) => {
                der::spki(&self.data).map(|_| ()).ok_or(Unusable::NoCertificate)
            }
        }
    }

    /// DANE-TA or DANE-EE.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// Certificate or public key.
    pub fn selector(&self) -> Selector {
        self.selector
    }

    /// Full, SHA2-256 or SHA2-512.
    pub fn matching(&self) -> Matching {
        self.matching
    }

    /// The three numbers.
    pub fn form(&self) -> TlsaForm {
        TlsaForm { usage: self.usage, selector: self.selector, matching: self.matching }
    }

    /// The certificate association data.
    pub fn data(&self) -> &[u8] {
        &self.data
    }
}

/// The presentation form of RFC 6698 §2.2 with no blank inside the data: the form of `dig`, and of the log.
impl fmt::Display for Tlsa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.form().fmt(f)?;
        f.write_str(" ")?;
        Hex(&self.data).fmt(f)
    }
}

impl TlsaForm {
    /// Usage, selector and matching type as numbers (RFC 6698 §2.1, the registry of RFC 7218).
    pub fn numbers(self) -> [u8; 3] {
        let usage = match self.usage {
            Usage::TrustAnchor => 2,
            Usage::EndEntity => 3,
        };
        let selector = match self.selector {
            Selector::Certificate => 0,
            Selector::PublicKey => 1,
        };
        let matching = match self.matching {
            Matching::Full => 0,
            Matching::Sha256 => 1,
            Matching::Sha512 => 2,
        };
        [usage, selector, matching]
    }
}

/// `3 1 1`.
impl fmt::Display for TlsaForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Digits::joined(b' ', self.numbers()).as_str())
    }
}

/// Why a text is no usable TLSA record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseTlsaError {
    /// Not of the form `3 1 1 AB..`.
    #[error(
        "a TLSA record is three numbers and its data in hexadecimal, as in \"3 1 1 8CB0..\", or its line in a zone, as in \
         \"_25._tcp.mx.example.com. IN TLSA 3 1 1 8CB0..\"; give the data in full, since the dots stand for the rest"
    )]
    Syntax,
    /// A record, but one that cannot authenticate a server.
    #[error(transparent)]
    Unusable(#[from] Unusable),
}

/// Reads the presentation form (RFC 6698 §2.2): blanks may stand inside the data, and its case is free.
impl FromStr for Tlsa {
    type Err = ParseTlsaError;

    fn from_str(text: &str) -> Result<Self, ParseTlsaError> {
        let mut words = text.split_ascii_whitespace();
        let mut octets = Vec::new();
        for _ in 0..3 {
            octets.push(words.next().and_then(number).ok_or(ParseTlsaError::Syntax)?);
        }
        let digits: Vec<u8> = words.flat_map(str::bytes).collect();
        octets.extend(hex::octets(&digits).ok_or(ParseTlsaError::Syntax)?);
        Ok(Self::read(&RawTlsa(octets))?)
    }
}

/// A decimal number of one octet. `str::parse` alone would take a plus sign.
fn number(word: &str) -> Option<u8> {
    word.bytes().all(|digit| digit.is_ascii_digit()).then(|| word.parse().ok()).flatten()
}

/// The records a server may be authenticated by: never empty, reduced by digest agility (RFC 7671 §9), and bound to the
/// name they were found under. They are kept sorted, so that two values are equal exactly when the sets are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usable {
    base_domain: Name,
    records: Vec<Tlsa>,
}

impl Usable {
    /// The records that bind, out of those that are usable, by the default strength of digests; `None` if there are
    /// none. Pins from the configuration come through here as well.
    pub fn new(base_domain: Name, records: Vec<Tlsa>) -> Option<Self> {
        Self::by(&Digests::default(), base_domain, records)
    }

    fn by(digests: &Digests, base_domain: Name, mut records: Vec<Tlsa>) -> Option<Self> {
        records.sort();
        records.dedup();
        digests.reduce(&mut records);
        (!records.is_empty()).then_some(Self { base_domain, records })
    }

    /// The TLSA base domain: the SNI and the first reference identifier (RFC 7672 §2.2.3).
    pub fn base_domain(&self) -> &Name {
        &self.base_domain
    }

    /// The records, at least one.
    pub fn records(&self) -> &[Tlsa] {
        &self.records
    }
}

/// The result of the lookups for one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Associations {
    /// The host must be authenticated by these.
    Usable(Usable),
    /// It cannot be, and this is why.
    None(NoDane),
}

/// For people: the records and the name they were found under, or why there are none.
impl fmt::Display for Associations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usable(usable) => {
                write!(f, "usable TLSA records under {}:", usable.base_domain)?;
                usable.records.iter().try_for_each(|record| write!(f, " {record};"))
            }
            Self::None(why) => {
                write!(f, "nothing to verify by: {why}")?;
                let NoDane::UnusableTlsa(unusable) = why else { return Ok(()) };
                unusable.iter().try_for_each(|why| write!(f, "; {why}"))
            }
        }
    }
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
    /// A rule names an address, and TLSA records belong to names.
    #[error("the next hop is an address, for which there is no DANE")]
    AddressOnly,
    /// The level `encrypt`, and `may` in a rule, do not ask for TLSA.
    #[error("the level does not ask for it")]
    NotAsked,
    /// The mode is `observe`, and the session did not meet the policy that this level asks for.
    #[error("mode observe does not enforce the level {0}")]
    NotEnforced(&'static str),
    /// The mail has the field `TLS-Required: No`, and the session did not meet the policy that this level asks for.
    #[error("mail with TLS-Required: No is not held to the level {0}")]
    NotRequired(&'static str),
}

/// Each record by itself: its value, or why it is unusable, by the settings too.
pub fn readings(records: &[RawTlsa], digests: &Digests) -> Vec<Result<Tlsa, Unusable>> {
    let read = |raw| Tlsa::read(raw).and_then(|record| digests.admit(&record).map(|()| record));
    records.iter().map(read).collect()
}

/// Reads a secure TLSA answer at a base domain. Only *secure* records may be handed in here.
pub fn associations(base_domain: Name, records: &[RawTlsa], digests: &Digests) -> Associations {
    if records.is_empty() {
        return Associations::None(NoDane::NoTlsa);
    }
    let (mut usable, mut unusable) = (Vec::new(), Vec::new());
    for reading in readings(records, digests) {
        match reading {
            Ok(record) => usable.push(record),
            Err(why) => unusable.push(why),
        }
    }
    match Usable::by(digests, base_domain, usable) {
        Some(usable) => Associations::Usable(usable),
        // RFC 7672 §2.2: records were published, so the server promises TLS.
        None => Associations::None(NoDane::UnusableTlsa(unusable)),
    }
}

/// The candidate TLSA base domains of a host, best first (RFC 7672 §2.2.2, §2.2.3). The next one is asked only when the
/// one before is proven to have no secure TLSA records; after a failed lookup there is no next one.
pub fn base_domains(host: &Host) -> Vec<Name> {
    match (host.aliases.first(), host.security()) {
        (None, Security::Secure) => vec![host.name.clone()],
        (None, Security::Insecure) => Vec::new(),
        // RFC 7672 §2.2.3: the fully expanded name first, then the name as it was asked.
        (Some(_), Security::Secure) => vec![host.expanded().clone(), host.name.clone()],
        // RFC 7672 §2.2.2: the target of the aliases is insecure, but the alias itself may stand in a secure zone.
        (Some(first), Security::Insecure) => match first.security {
            Security::Secure => vec![host.name.clone()],
            Security::Insecure => Vec::new(),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use proptest::prelude::*;

    use super::*;
    use crate::dns::{Alias, Finality};

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn raw(usage: u8, selector: u8, matching: u8, octets: usize) -> RawTlsa {
        let mut rdata = vec![usage, selector, matching];
        rdata.resize(3 + octets, 0xab);
        RawTlsa(rdata)
    }

    fn certificate() -> (Vec<u8>, Vec<u8>) {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["mx.example".into()]).unwrap().self_signed(&key).unwrap();
        (certificate.der().to_vec(), rcgen::PublicKeyData::subject_public_key_info(&key))
    }

    #[test]
    fn unusable_records_and_why() {
        for (record, why) in [
            // E1
            (RawTlsa(vec![]), Unusable::TooShort(0)),
            (RawTlsa(vec![3]), Unusable::TooShort(1)),
            (RawTlsa(vec![3, 1]), Unusable::TooShort(2)),
            (RawTlsa(vec![3, 1, 1]), Unusable::TooShort(3)),
            // E2
            (raw(4, 1, 1, 32), Unusable::UnknownUsage(4)),
            (raw(255, 1, 1, 32), Unusable::UnknownUsage(255)),
            (raw(3, 2, 1, 32), Unusable::UnknownSelector(2)),
            (raw(3, 7, 1, 32), Unusable::UnknownSelector(7)),
            (raw(3, 1, 3, 32), Unusable::UnknownMatching(3)),
            // E3
            (raw(3, 1, 1, 31), Unusable::DigestLength { expected: 32, found: 31 }),
            (raw(3, 1, 1, 33), Unusable::DigestLength { expected: 32, found: 33 }),
            (raw(3, 1, 1, 64), Unusable::DigestLength { expected: 32, found: 64 }),
            (raw(2, 0, 2, 32), Unusable::DigestLength { expected: 64, found: 32 }),
            (raw(2, 0, 0, 300), Unusable::NoCertificate),
            (raw(3, 0, 0, 300), Unusable::NoCertificate),
            (raw(2, 1, 0, 91), Unusable::NoPublicKey),
            (raw(3, 1, 0, 91), Unusable::NoPublicKey),
            // E5
            (raw(0, 0, 1, 32), Unusable::PkixUsage(0)),
            (raw(1, 1, 1, 32), Unusable::PkixUsage(1)),
        ] {
            assert_eq!(Tlsa::read(&record), Err(why));
        }
    }

    #[test]
    fn full_data_must_fit_the_selector() {
        let (certificate, key) = certificate();
        let mut parameters = rcgen::CertificateParams::new(vec!["ca.example".into()]).unwrap();
        let constraints = rcgen::CustomExtension::from_oid_content(&[2, 5, 29, 30], vec![0xff]);
        parameters.custom_extensions.push(constraints);
        let odd = parameters.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec();
        for (usage, selector, data, usable) in [
            (2, 0, &certificate, true),
            (3, 0, &certificate, true),
            (2, 1, &key, true),
            (3, 1, &key, true),
            (3, 0, &key, false),
            (3, 1, &certificate, false),
            (3, 0, &[&certificate[..], &[0]].concat(), false),
            (3, 1, &[&key[..], &[0]].concat(), false),
            (2, 0, &certificate[..certificate.len() - 1].to_vec(), false),
            // An authority with an extension that cannot be read is bad, and its record is no less a record.
            (2, 0, &odd, true),
        ] {
            let rdata = [&[usage, selector, 0][..], data].concat();
            assert_eq!(Tlsa::read(&RawTlsa(rdata)).is_ok(), usable, "{usage} {selector}");
        }
    }

    /// E11
    #[test]
    fn presentation_form() {
        let digest = "8CB0FC6C527506A053F4F14C8464BEBBD6DEDE2738D11468DD953D7D6A3021F1";
        let written = format!("3 1 1 {digest}");
        assert_eq!(written.parse::<Tlsa>().unwrap().to_string(), written);
        for same in [
            written.to_lowercase(),
            format!("  3\t1 1\n{} {}  ", &digest[..7], &digest[7..]),
            format!("03 001 1 {digest}"),
        ] {
            assert_eq!(same.parse::<Tlsa>().unwrap().to_string(), written);
        }
        for wrong in [
            "",
            "3",
            "3 1 x",
            "+3 1 1 ab",
            "-3 1 1 ab",
            "256 1 1 ab",
            "3 1 1 abc",
            "3 1 1 zz",
            "3 1 1 0xab",
            "311ab",
            "3 1 1 äö",
        ] {
            assert_eq!(wrong.parse::<Tlsa>(), Err(ParseTlsaError::Syntax), "{wrong}");
        }
        assert_eq!("3 1 1".parse::<Tlsa>(), Err(Unusable::TooShort(3).into()));
        assert_eq!("3 1 1 ab".parse::<Tlsa>(), Err(Unusable::DigestLength { expected: 32, found: 1 }.into()));
        assert_eq!(format!("1 1 1 {digest}").parse::<Tlsa>(), Err(Unusable::PkixUsage(1).into()));
    }

    fn decided(records: &[RawTlsa]) -> Associations {
        associations(name("mx.example"), records, &Digests::default())
    }

    /// E7, A-29: the rest of a record set.
    #[test]
    fn agility_comes_after_usability() {
        for (records, left) in [
            (vec![raw(3, 1, 1, 32), raw(3, 1, 2, 64)], vec!["3 1 2"]),
            (vec![raw(3, 1, 2, 64), raw(3, 1, 1, 32)], vec!["3 1 2"]),
            (vec![raw(3, 1, 1, 32), raw(3, 1, 2, 63)], vec!["3 1 1"]),
            (vec![raw(3, 1, 1, 32), raw(1, 1, 2, 64)], vec!["3 1 1"]),
            (vec![raw(3, 0, 1, 32), raw(3, 1, 2, 64)], vec!["3 0 1", "3 1 2"]),
            (vec![raw(2, 1, 1, 32), raw(3, 1, 2, 64)], vec!["2 1 1", "3 1 2"]),
            (vec![raw(3, 1, 1, 32), raw(3, 1, 1, 32)], vec!["3 1 1"]),
            (vec![raw(4, 1, 1, 32), raw(3, 1, 1, 32), raw(3, 1, 0, 5)], vec!["3 1 1"]),
        ] {
            let Associations::Usable(usable) = decided(&records) else { panic!("{records:?}") };
            let kept: Vec<String> = usable.records().iter().map(|record| record.to_string()[..5].into()).collect();
            assert_eq!(kept, left);
            assert_eq!(usable.base_domain(), &name("mx.example"));
        }
        let (_, key) = certificate();
        let full = RawTlsa([&[3, 1, 0][..], &key].concat());
        let Associations::Usable(usable) = decided(&[full, raw(3, 1, 2, 64), raw(3, 1, 1, 32)]) else { panic!() };
        assert_eq!(usable.records().len(), 2);
    }

    /// E12, B2, B3: no record and no usable record are different answers.
    #[test]
    fn no_record_to_authenticate_by() {
        assert_eq!(decided(&[]), Associations::None(NoDane::NoTlsa));
        assert_eq!(
            decided(&[raw(0, 0, 1, 32), raw(3, 1, 1, 0)]),
            Associations::None(NoDane::UnusableTlsa(vec![Unusable::PkixUsage(0), Unusable::TooShort(3)]))
        );
        assert_eq!(Usable::new(name("mx.example"), vec![]), None);
    }

    /// E4: a digest that the settings leave out is no digest, and then TLS is mandatory all the same.
    #[test]
    fn a_disabled_digest_is_unusable() {
        let sha256: Digests = vec![crate::dane::agility::Digest::Sha256].try_into().unwrap();
        assert_eq!(
            associations(name("mx.example"), &[raw(3, 1, 2, 64)], &sha256),
            Associations::None(NoDane::UnusableTlsa(vec![Unusable::DisabledDigest(2)]))
        );
        let Associations::Usable(usable) =
            associations(name("mx.example"), &[raw(3, 1, 2, 64), raw(3, 1, 1, 32)], &sha256)
        else {
            panic!()
        };
        assert_eq!(usable.records()[0].form().to_string(), "3 1 1");
    }

    /// DNS turns record sets round; two values are the same policy all the same.
    #[test]
    fn order_makes_no_difference() {
        let mut records = vec![raw(3, 1, 1, 32), raw(2, 1, 1, 32), raw(2, 0, 1, 32)];
        let one = decided(&records);
        records.reverse();
        assert_eq!(one, decided(&records));
    }

    /// RFC 7672 §2.2.2 and §2.2.3, row by row.
    #[test]
    fn base_domains_of_a_host() {
        use Security::{Insecure, Secure};
        for (aliases, end, expected) in [
            (vec![], Secure, vec!["mx.example"]),
            (vec![], Insecure, vec![]),
            (vec![Secure], Secure, vec!["alias1.example", "mx.example"]),
            (vec![Secure, Secure], Secure, vec!["alias2.example", "mx.example"]),
            (vec![Secure], Insecure, vec!["mx.example"]),
            (vec![Secure, Insecure], Secure, vec!["mx.example"]),
            (vec![Insecure], Secure, vec![]),
            (vec![Insecure, Secure], Secure, vec![]),
            (vec![Insecure], Insecure, vec![]),
        ] {
            let owner = |hop| name(&if hop == 0 { "mx.example".into() } else { format!("alias{hop}.example") });
            let aliases: Vec<Alias> = aliases
                .into_iter()
                .enumerate()
                .map(|(hop, security)| Alias { owner: owner(hop), target: owner(hop + 1), security })
                .collect();
            let host = Host {
                name: name("mx.example"),
                aliases,
                end,
                addresses: vec![IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))],
                unknown: None,
                finality: Finality::Final,
            };
            let expected: Vec<Name> = expected.into_iter().map(name).collect();
            assert_eq!(base_domains(&host), expected, "{host:?}");
        }
    }

    proptest! {
        /// A record that can be read can be written, and reads back as the same.
        #[test]
        fn presentation_is_lossless(
            numbers in (0u8..5, 0u8..3, 0u8..4),
            data in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..100),
                prop::collection::vec(any::<u8>(), 32),
                prop::collection::vec(any::<u8>(), 64),
            ],
        ) {
            let rdata = [&[numbers.0, numbers.1, numbers.2][..], &data].concat();
            if let Ok(record) = Tlsa::read(&RawTlsa(rdata)) {
                prop_assert_eq!(record.to_string().parse::<Tlsa>(), Ok(record));
            }
        }

        #[test]
        fn text_never_panics(text in "[0-9a-f +x\\t]{0,80}|\\PC*") {
            let _ = text.parse::<Tlsa>();
        }
    }
}
