//! A certificate as certification path validation needs it (RFC 5280 §4). Only DANE-TA goes by it: under DANE-EE a
//! certificate is the wrapping of a key, and its key alone counts (RFC 7671 §5.1).
//!
//! Reading fails closed: a certificate of which one part is malformed, its [`extensions`](super::extensions) among them, is
//! unreadable.

use rustls_pki_types::SubjectPublicKeyInfoDer;

use super::dates::Validity;
use super::der::{self, Der, Element, Fields};
use super::extensions::CertificateExtensions;
use super::names::DistinguishedName;

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
    pub(super) validity: Validity,
    /// With its outer SEQUENCE.
    pub(super) spki: &'a [u8],
    pub(super) extensions: CertificateExtensions<'a>,
    pub(super) serial: &'a [u8],
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

/// Why a certificate cannot be read: the part at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

/// The result of checking a certificate's signature with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SignatureCheck {
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
        Ok(Self {
            der: certificate,
            version,
            issuer: DistinguishedName::read(fields.issuer.whole).ok_or(Malformed("issuer"))?,
            subject: DistinguishedName::read(fields.subject.whole).ok_or(Malformed("subject"))?,
            validity: Validity::read(fields.validity.whole).ok_or(Malformed("validity"))?,
            spki: fields.spki.whole,
            extensions: CertificateExtensions::read(fields.rest)?,
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

    /// Whether a certificate may be that of this one's issuer, by its name, by the authority key identifier (RFC 5280
    /// §4.2.1.1) and by the kind of its key. OpenSSL takes no other either.
    pub(super) fn points_to(&self, issuer: &Certificate<'_>) -> bool {
        self.issuer == issuer.subject && self.extensions.point_to(issuer) && der::key_suits(issuer.spki, self.algorithm)
    }

    /// Whether the certificate is at the end of its chain: self-issued, and not by an earlier key of the same authority,
    /// which the key identifiers would tell. The signature itself is not looked at: it is no proof of anything, and
    /// taking a certificate for self-signed is always the stricter choice.
    pub(super) fn self_signed(&self) -> bool {
        self.points_to(self)
    }

    /// Checks the certificate's signature with a key (a SubjectPublicKeyInfo).
    pub(super) fn signed_by(&self, spki: &[u8]) -> SignatureCheck {
        let key = SubjectPublicKeyInfoDer::from(spki);
        let Ok(key) = webpki::RawPublicKeyEntity::try_from(&key) else { return SignatureCheck::Bad };
        // RFC 5280 §4.1.1.2.
        if self.inner_algorithm != self.algorithm {
            return SignatureCheck::Bad;
        }
        let mut verdict = SignatureCheck::Algorithm;
        for algorithm in webpki::ALL_VERIFICATION_ALGS.iter().filter(|a| *a.signature_alg_id() == *self.algorithm) {
            verdict = match key.verify_signature(*algorithm, self.signed, self.signature) {
                Ok(()) => return SignatureCheck::Good,
                // One signature algorithm goes with several kinds of key: this was not the one.
                Err(webpki::Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_)) => verdict,
                Err(_) => SignatureCheck::Bad,
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
