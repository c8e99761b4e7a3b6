//! A certificate as certification path validation needs it (RFC 5280 §4). Only DANE-TA comes here: under DANE-EE a
//! certificate is the wrapping of a key, and nothing in it but the key is read (RFC 7671 §5.1).
//!
//! Reading fails closed. An extension that path validation relies on and that is malformed or doubled makes the
//! certificate unreadable; a critical extension that nobody here acts on is remembered and refused when the certificate is
//! used (RFC 5280 §4.2).

use rustls_pki_types::SubjectPublicKeyInfoDer;
use x509_parser::asn1_rs::{FromDer, Oid};
use x509_parser::certificate::Validity;

use super::constraints::Constraints;
use super::der::{self, Der, Element, Fields};
use super::names::{DistinguishedName, GeneralName};

/// serverAuth, 1.3.6.1.5.5.7.3.1 (RFC 5280 §4.2.1.12), and what Netscape and Microsoft had for servers before,
/// 2.16.840.1.113730.4.1 and 1.3.6.1.4.1.311.10.3.3, which Postfix takes for it.
const SERVER_AUTH: [&[u8]; 3] = [
    &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01],
    &[0x60, 0x86, 0x48, 0x01, 0x86, 0xf8, 0x42, 0x04, 0x01],
    &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x0a, 0x03, 0x03],
];
/// proxyCertInfo, 1.3.6.1.5.5.7.1.14 (RFC 3820 §3.8).
const PROXY_CERT_INFO: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x01, 0x0e];
/// Netscape's certificate type, 2.16.840.1.113730.1.1, older than extKeyUsage; its second bit is for TLS servers.
const NETSCAPE_TYPE: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x86, 0xf8, 0x42, 0x01, 0x01];

/// 1.2.840.113549.1.1.4, 1.2.840.113549.1.1.5 and 1.2.840.10045.4.1.
const WEAK_SIGNATURES: [&[u8]; 3] = [
    &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x04],
    &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05],
    &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01],
];

/// A certificate, read.
#[derive(Debug)]
pub(super) struct Certificate<'a> {
    pub(super) der: &'a [u8],
    pub(super) version: Version,
    pub(super) issuer: DistinguishedName,
    pub(super) subject: DistinguishedName,
    /// Seconds since 1970, both ends valid (RFC 5280 §4.1.2.5).
    pub(super) not_before: i64,
    pub(super) not_after: i64,
    /// With its outer SEQUENCE.
    pub(super) spki: &'a [u8],
    pub(super) extensions: Extensions<'a>,
    serial: &'a [u8],
    signed: &'a [u8],
    algorithm: &'a [u8],
    inner_algorithm: &'a [u8],
    signature: &'a [u8],
}

/// The version (RFC 5280 §4.1.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    V2,
    V3,
}

/// The extensions that path validation acts on (RFC 5280 §4.2.1).
#[derive(Debug, Default)]
pub(super) struct Extensions<'a> {
    pub(super) basic_constraints: Option<BasicConstraints>,
    pub(super) key_usage: Option<KeyUsage>,
    pub(super) extended_key_usage: Option<Purposes>,
    pub(super) alternative_names: Option<Vec<GeneralName<'a>>>,
    pub(super) name_constraints: Option<Constraints<'a>>,
    pub(super) netscape_type: Option<NetscapeType>,
    /// The first critical extension that nobody here acts on, as a dotted OID.
    pub(super) unhandled_critical: Option<String>,
    subject_key: Option<&'a [u8]>,
    authority_key: Option<AuthorityKey<'a>>,
}

/// Which of an issuer's certificates is meant (RFC 5280 §4.2.1.1). What is absent fits every one.
#[derive(Debug)]
struct AuthorityKey<'a> {
    id: Option<&'a [u8]>,
    issuer: Option<DistinguishedName>,
    serial: Option<&'a [u8]>,
}

/// RFC 5280 §4.2.1.9.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BasicConstraints {
    EndEntity,
    Authority { path_length: Option<usize> },
}

/// RFC 5280 §4.2.1.3, reduced to what is asked of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyUsage {
    /// digitalSignature, keyEncipherment or keyAgreement: one of them makes a TLS server's key.
    pub(super) tls: bool,
    /// keyCertSign.
    pub(super) certificates: bool,
}

/// RFC 5280 §4.2.1.12, reduced to what is asked of it. anyExtendedKeyUsage does not stand for serverAuth, nor
/// does it with Postfix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purposes {
    ServerAuth,
    Others,
}

/// Netscape's word on the same. Postfix heeds it, and so do we (decision 15).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NetscapeType {
    Server,
    Others,
}

/// Why a certificate cannot be read: the part at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

/// What came of checking a certificate's signature with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signature {
    Good,
    Bad,
    /// SHA-1, MD5, or an algorithm that is not implemented.
    Algorithm,
}

impl<'a> Certificate<'a> {
    pub(super) fn read(certificate: &'a [u8]) -> Result<Self, Malformed> {
        let structure = Malformed("structure");
        let mut outer = Der(Der::only(certificate, der::SEQUENCE).ok_or(structure)?.body);
        let tbs = outer.take(der::SEQUENCE).ok_or(structure)?;
        let algorithm = outer.take(der::SEQUENCE).ok_or(structure)?;
        let signature = outer.take(der::BIT_STRING).filter(|_| outer.is_empty()).ok_or(structure)?;
        let fields = Fields::read(tbs.body).ok_or(structure)?;
        let version = read_version(fields.version).ok_or(Malformed("version"))?;
        let (_, validity) = Validity::from_der(fields.validity.whole).map_err(|_| Malformed("validity"))?;
        Ok(Self {
            der: certificate,
            version,
            issuer: DistinguishedName::read(fields.issuer.whole).ok_or(Malformed("issuer"))?,
            subject: DistinguishedName::read(fields.subject.whole).ok_or(Malformed("subject"))?,
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
            spki: fields.spki.whole,
            extensions: read_extensions(fields.rest)?,
            serial: fields.serial.body,
            signed: tbs.whole,
            algorithm: algorithm.body,
            inner_algorithm: fields.signature.body,
            signature: der::bit_string(signature.body).ok_or(Malformed("signature"))?,
        })
    }

    /// Whether the signature is made over a SHA-1 or MD5 digest: sha1WithRSAEncryption, md5WithRSAEncryption (RFC 8017
    /// §A.2.4), ecdsa-with-SHA1 (RFC 5758 §3.2).
    pub(super) fn weakly_signed(&self) -> bool {
        Der(self.algorithm).take(der::OID).is_some_and(|id| WEAK_SIGNATURES.contains(&id.body))
    }

    /// Whether subject and issuer are one (RFC 5280 §3.2 "self-issued").
    pub(super) fn self_issued(&self) -> bool {
        self.subject == self.issuer
    }

    /// Whether a certificate may be that of this one's issuer, going by its name, by what the authority key identifier
    /// says (RFC 5280 §4.2.1.1) and by the kind of its key. OpenSSL takes no other either.
    pub(super) fn points_to(&self, issuer: &Certificate<'_>) -> bool {
        self.issuer == issuer.subject
            && self.extensions.authority_key.as_ref().is_none_or(|key| key.fits(issuer))
            && der::key_suits(issuer.spki, self.algorithm)
    }

    /// Whether the certificate is at the end of its chain: self-issued, and not by an earlier key of the same authority,
    /// which the key identifiers would tell. The signature itself is not looked at: it is no proof of anything, and
    /// taking a certificate for self-signed is always the stricter choice.
    pub(super) fn self_signed(&self) -> bool {
        self.points_to(self)
    }

    /// Checks the certificate's signature with a key (a SubjectPublicKeyInfo).
    pub(super) fn signed_by(&self, spki: &[u8]) -> Signature {
        let key = SubjectPublicKeyInfoDer::from(spki);
        let Ok(key) = webpki::RawPublicKeyEntity::try_from(&key) else { return Signature::Bad };
        // RFC 5280 §4.1.1.2.
        if self.inner_algorithm != self.algorithm {
            return Signature::Bad;
        }
        let mut verdict = Signature::Algorithm;
        for algorithm in webpki::ALL_VERIFICATION_ALGS.iter().filter(|a| *a.signature_alg_id() == *self.algorithm) {
            verdict = match key.verify_signature(*algorithm, self.signed, self.signature) {
                Ok(()) => return Signature::Good,
                // One signature algorithm goes with several kinds of key: this was not the one.
                Err(webpki::Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_)) => verdict,
                Err(_) => Signature::Bad,
            };
        }
        verdict
    }
}

fn read_version(version: Option<Element<'_>>) -> Option<Version> {
    let Some(version) = version else { return Some(Version::V1) };
    match Der::only(version.body, der::INTEGER)?.body {
        [0] => Some(Version::V1),
        [1] => Some(Version::V2),
        [2] => Some(Version::V3),
        _ => None,
    }
}

/// Reads what follows the key: two unique identifiers that nobody uses, and the extensions. RFC 5280 §4.1.2.9 has them in
/// v3; what an older certificate says in them holds all the same, as with Postfix.
fn read_extensions(mut rest: Der<'_>) -> Result<Extensions<'_>, Malformed> {
    let malformed = Malformed("extensions");
    rest.optional(0x81);
    rest.optional(0x82);
    let mut extensions = Extensions::default();
    let Some(list) = rest.optional(0xa3) else {
        return if rest.is_empty() { Ok(extensions) } else { Err(malformed) };
    };
    let list = Der::only(list.body, der::SEQUENCE).filter(|_| rest.is_empty()).ok_or(malformed)?;
    let mut list = Der(list.body);
    let mut seen = Vec::new();
    while !list.is_empty() {
        let extension = Extension::read(&mut list).ok_or(malformed)?;
        // RFC 5280 §4.2: no extension twice. Whichever instance counted, the other would be ignored.
        if seen.contains(&extension.id) {
            return Err(Malformed("extensions (one of them is there twice)"));
        }
        seen.push(extension.id);
        extensions.add(extension)?;
    }
    Ok(extensions)
}

/// One extension, its value unread (RFC 5280 §4.1).
struct Extension<'a> {
    id: &'a [u8],
    critical: bool,
    value: &'a [u8],
}

impl<'a> Extension<'a> {
    fn read(list: &mut Der<'a>) -> Option<Self> {
        let mut der = Der(list.take(der::SEQUENCE)?.body);
        let id = der.take(der::OID)?.body;
        let critical = boolean(&mut der)?;
        let value = der.take(der::OCTET_STRING)?.body;
        der.is_empty().then_some(Self { id, critical, value })
    }
}

/// A BOOLEAN DEFAULT FALSE. An explicit FALSE is not DER, but common, and means the same; so with what BER has for TRUE.
fn boolean(der: &mut Der<'_>) -> Option<bool> {
    match der.optional(der::BOOLEAN).map(|element| element.body) {
        None | Some([0]) => Some(false),
        Some([_]) => Some(true),
        Some(_) => None,
    }
}

impl<'a> Extensions<'a> {
    fn add(&mut self, extension: Extension<'a>) -> Result<(), Malformed> {
        let value = extension.value;
        // id-ce, 2.5.29 (RFC 5280 §4.2.1).
        match extension.id {
            [0x55, 0x1d, 14] => {
                let id = Der::only(value, der::OCTET_STRING).ok_or(Malformed("subjectKeyIdentifier"))?;
                self.subject_key = Some(id.body);
                self.refuse_if_critical(&extension);
            }
            [0x55, 0x1d, 15] => self.key_usage = Some(read_key_usage(value).ok_or(Malformed("keyUsage"))?),
            [0x55, 0x1d, 17] => {
                self.alternative_names = Some(GeneralName::read_all(value).ok_or(Malformed("subjectAltName"))?);
            }
            [0x55, 0x1d, 19] => {
                self.basic_constraints = Some(read_basic_constraints(value).ok_or(Malformed("basicConstraints"))?);
            }
            [0x55, 0x1d, 30] => {
                self.name_constraints = Some(Constraints::read(value).ok_or(Malformed("nameConstraints"))?);
            }
            [0x55, 0x1d, 35] => {
                let key = read_authority_key(value).ok_or(Malformed("authorityKeyIdentifier"))?;
                self.authority_key = Some(key);
                self.refuse_if_critical(&extension);
            }
            [0x55, 0x1d, 37] => {
                self.extended_key_usage = Some(read_purposes(value).ok_or(Malformed("extKeyUsage"))?);
            }
            // cRLDistributionPoints and certificatePolicies, as Postfix: revocation is not asked of DANE (RFC 7672 §4),
            // and every policy is acceptable (the initial policy set of RFC 5280 §6.1.1 is any-policy).
            [0x55, 0x1d, 31] => read_distribution_points(value).ok_or(Malformed("cRLDistributionPoints"))?,
            [0x55, 0x1d, 32] => {}
            NETSCAPE_TYPE => {
                self.netscape_type = Some(read_netscape_type(value).ok_or(Malformed("Netscape certificate type"))?);
            }
            // RFC 3820 §3.8 has it critical. Whoever forgot that made a proxy certificate all the same.
            PROXY_CERT_INFO => self.refuse(PROXY_CERT_INFO),
            _ => self.refuse_if_critical(&extension),
        }
        Ok(())
    }

    fn refuse_if_critical(&mut self, extension: &Extension<'_>) {
        if extension.critical {
            self.refuse(extension.id);
        }
    }

    fn refuse(&mut self, id: &[u8]) {
        self.unhandled_critical.get_or_insert_with(|| Oid::new(id.into()).to_id_string());
    }
}

impl AuthorityKey<'_> {
    fn fits(&self, issuer: &Certificate<'_>) -> bool {
        let id = self.id.zip(issuer.extensions.subject_key).is_none_or(|(wanted, found)| wanted == found);
        let name = self.issuer.as_ref().is_none_or(|wanted| *wanted == issuer.issuer);
        id && name && self.serial.is_none_or(|wanted| wanted == issuer.serial)
    }
}

fn read_key_usage(value: &[u8]) -> Option<KeyUsage> {
    match Der::only(value, der::BIT_STRING)?.body {
        [0..=7, bits, ..] => Some(KeyUsage { tls: bits & 0b1010_1000 != 0, certificates: bits & 0b0000_0100 != 0 }),
        [0] => Some(KeyUsage { tls: false, certificates: false }),
        _ => None,
    }
}

fn read_basic_constraints(value: &[u8]) -> Option<BasicConstraints> {
    let mut der = Der(Der::only(value, der::SEQUENCE)?.body);
    let authority = boolean(&mut der)?;
    let path_length = match der.optional(der::INTEGER) {
        None => None,
        Some(length) => match *length.body {
            [length @ 0..=0x7f] => Some(length.into()),
            // Longer than any path that is built here, which is as good as no limit.
            [1..=0x7f, _, ..] | [0, 0x80..=0xff, ..] => Some(usize::MAX),
            _ => return None,
        },
    };
    if !der.is_empty() {
        return None;
    }
    // RFC 5280 §4.2.1.9 forbids a path length without the CA flag; it binds nothing here.
    Some(if authority { BasicConstraints::Authority { path_length } } else { BasicConstraints::EndEntity })
}

fn read_purposes(value: &[u8]) -> Option<Purposes> {
    let mut der = Der(Der::only(value, der::SEQUENCE)?.body);
    let mut purposes = Purposes::Others;
    while !der.is_empty() {
        if SERVER_AUTH.contains(&der.take(der::OID)?.body) {
            purposes = Purposes::ServerAuth;
        }
    }
    Some(purposes)
}

/// KeyIdentifier, and the issuer and serial number of the issuer's certificate (RFC 5280 §4.2.1.1).
fn read_authority_key(value: &[u8]) -> Option<AuthorityKey<'_>> {
    let mut der = Der(Der::only(value, der::SEQUENCE)?.body);
    let id = der.optional(0x80).map(|id| id.body);
    let names = match der.optional(0xa1) {
        Some(names) => GeneralName::read_list(Der(names.body))?,
        None => Vec::new(),
    };
    let issuer = names.into_iter().find_map(|name| match name {
        GeneralName::Directory(name) => Some(name),
        GeneralName::Dns(_) | GeneralName::Other(_) => None,
    });
    let serial = der.optional(0x82).map(|serial| serial.body);
    der.is_empty().then_some(AuthorityKey { id, issuer, serial })
}

/// Nobody asks what they say, but they must say it (RFC 5280 §4.2.1.13: a name or an issuer for each point).
fn read_distribution_points(value: &[u8]) -> Option<()> {
    let mut points = Der(Der::only(value, der::SEQUENCE)?.body);
    while !points.is_empty() {
        let mut point = Der(points.take(der::SEQUENCE)?.body);
        let name = point.optional(0xa0);
        point.optional(0x81);
        let issuer = point.optional(0xa2);
        if !point.is_empty() || (name.is_none() && issuer.is_none()) {
            return None;
        }
    }
    Some(())
}

fn read_netscape_type(value: &[u8]) -> Option<NetscapeType> {
    match Der::only(value, der::BIT_STRING)?.body {
        [0..=7, bits, ..] if bits & 0b0100_0000 != 0 => Some(NetscapeType::Server),
        [0..=7, ..] => Some(NetscapeType::Others),
        _ => None,
    }
}
