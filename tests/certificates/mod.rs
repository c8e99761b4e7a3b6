//! Certificates for tests, written octet by octet: tests need malformed and unusual ones, which no library makes.
//!
//! [`Spec::default`] is a good server certificate for `mx.example.com`; a test changes the one thing it is about.

#![allow(dead_code)]

use rcgen::{KeyPair, PublicKeyData, SigningKey};
use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256, Sha512};

/// ecdsa-with-SHA256, 1.2.840.10045.4.3.2.
const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];

pub(crate) const SERVER_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];
/// Microsoft's "Server Gated Crypto".
pub(crate) const SERVER_GATED: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x0a, 0x03, 0x03];
pub(crate) const CLIENT_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];
pub(crate) const ANY_PURPOSE: &[u8] = &[0x55, 0x1d, 0x25, 0x00];

pub(crate) const DIGITAL_SIGNATURE: u8 = 0x80;
pub(crate) const CONTENT_COMMITMENT: u8 = 0x40;
pub(crate) const KEY_CERT_SIGN: u8 = 0x04;

pub(crate) const UTF8: u8 = 0x0c;
pub(crate) const PRINTABLE: u8 = 0x13;
pub(crate) const BMP: u8 = 0x1e;

/// One DER element.
pub(crate) fn der(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let mut octets = vec![tag];
    match length {
        0..=0x7f => octets.push(length as u8),
        0x80..=0xff => octets.extend([0x81, length as u8]),
        0x100..=0xffff => octets.extend([0x82, (length >> 8) as u8, length as u8]),
        _ => octets.extend([0x83, (length >> 16) as u8, (length >> 8) as u8, length as u8]),
    }
    octets.extend(body);
    octets
}

/// Elements in a row inside one of this tag.
pub(crate) fn seq(tag: u8, parts: &[Vec<u8>]) -> Vec<u8> {
    der(tag, &parts.concat())
}

/// A distinguished name: attribute OIDs are 2.5.4.x, each with its string type.
pub(crate) fn dn(attributes: &[(u8, u8, &str)]) -> Vec<u8> {
    let rdns: Vec<Vec<u8>> = attributes
        .iter()
        .map(|(kind, tag, text)| {
            let octets = match *tag {
                BMP => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
                _ => text.as_bytes().to_vec(),
            };
            seq(0x31, &[seq(0x30, &[der(0x06, &[0x55, 0x04, *kind]), der(*tag, &octets)])])
        })
        .collect();
    seq(0x30, &rdns)
}

/// A distinguished name of a common name only.
pub(crate) fn cn(name: &str) -> Vec<u8> {
    dn(&[(3, UTF8, name)])
}

fn extension(id: u8, critical: &[u8], value: &[u8]) -> Vec<u8> {
    seq(0x30, &[der(0x06, &[0x55, 0x1d, id]), critical.to_vec(), der(0x04, value)])
}

/// An extension 2.5.29.x.
pub(crate) fn plain(id: u8, value: &[u8]) -> Vec<u8> {
    extension(id, &[], value)
}

pub(crate) fn critical(id: u8, value: &[u8]) -> Vec<u8> {
    extension(id, &[0x01, 0x01, 0xff], value)
}

/// 2.5.29.99 is an extension that no program knows.
pub(crate) fn unknown_critical() -> Vec<u8> {
    critical(99, &[0x05, 0x00])
}

pub(crate) fn authority() -> Vec<u8> {
    critical(19, &seq(0x30, &[der(0x01, &[0xff])]))
}

pub(crate) fn authority_over(path_length: u8) -> Vec<u8> {
    critical(19, &seq(0x30, &[der(0x01, &[0xff]), der(0x02, &[path_length])]))
}

pub(crate) fn no_authority() -> Vec<u8> {
    critical(19, &[0x30, 0x00])
}

pub(crate) fn key_usage(bits: u8) -> Vec<u8> {
    critical(15, &der(0x03, &[bits.trailing_zeros() as u8, bits]))
}

pub(crate) fn purposes(oids: &[&[u8]]) -> Vec<u8> {
    let oids: Vec<Vec<u8>> = oids.iter().map(|oid| der(0x06, oid)).collect();
    plain(37, &seq(0x30, &oids))
}

pub(crate) fn dns_name(name: &str) -> Vec<u8> {
    der(0x82, name.as_bytes())
}

/// subjectAltName out of whole GeneralNames.
pub(crate) fn alternative_names(names: &[Vec<u8>]) -> Vec<u8> {
    plain(17, &seq(0x30, names))
}

/// subjectAltName out of DNS names.
pub(crate) fn dns_names(names: &[&str]) -> Vec<u8> {
    alternative_names(&names.iter().map(|name| dns_name(name)).collect::<Vec<_>>())
}

/// nameConstraints out of whole GeneralNames.
pub(crate) fn name_constraints(permitted: &[Vec<u8>], excluded: &[Vec<u8>]) -> Vec<u8> {
    let subtrees = |tag, names: &[Vec<u8>]| match names {
        [] => Vec::new(),
        names => seq(tag, &names.iter().map(|name| der(0x30, name)).collect::<Vec<_>>()),
    };
    critical(30, &seq(0x30, &[subtrees(0xa0, permitted), subtrees(0xa1, excluded)]))
}

pub(crate) fn subject_key(id: u8) -> Vec<u8> {
    plain(14, &der(0x04, &[id]))
}

pub(crate) fn authority_key(id: u8) -> Vec<u8> {
    plain(35, &seq(0x30, &[der(0x80, &[id])]))
}

/// The parts of a certificate.
#[derive(Clone)]
pub(crate) struct Spec {
    /// The explicit version field; empty for X.509 v1.
    pub(crate) version: Vec<u8>,
    /// The octets of the INTEGER.
    pub(crate) serial: Vec<u8>,
    pub(crate) issuer: Vec<u8>,
    pub(crate) subject: Vec<u8>,
    /// GeneralizedTime.
    pub(crate) not_before: &'static str,
    pub(crate) not_after: &'static str,
    /// The DER of the whole validity, in place of the two dates.
    pub(crate) validity: Option<Vec<u8>>,
    /// Unique identifiers and the like, between the key and the extensions.
    pub(crate) before_extensions: Vec<u8>,
    pub(crate) extensions: Vec<Vec<u8>>,
    /// The signature algorithm's OID; the signature itself may be of another algorithm.
    pub(crate) algorithm: Vec<u8>,
    /// The DER of the parameters, after the OID.
    pub(crate) parameters: Vec<u8>,
    /// The algorithm inside the signed part, where it differs from the outer one.
    pub(crate) inner_algorithm: Option<Vec<u8>>,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            version: vec![0xa0, 3, 0x02, 1, 2],
            serial: vec![1],
            issuer: cn("Root"),
            subject: cn("A mail server"),
            not_before: "20200101000000Z",
            not_after: "20500101000000Z",
            validity: None,
            before_extensions: vec![],
            extensions: vec![dns_names(&["mx.example.com"])],
            algorithm: ECDSA_SHA256.to_vec(),
            parameters: vec![],
            inner_algorithm: None,
        }
    }
}

impl Spec {
    /// A good authority.
    pub(crate) fn authority(subject: &str, issuer: &str) -> Self {
        Self { issuer: cn(issuer), subject: cn(subject), extensions: vec![authority()], ..Self::default() }
    }

    /// The certificate of `key`, signed by `signer`.
    pub(crate) fn issue(&self, key: &KeyPair, signer: &KeyPair) -> CertificateDer<'static> {
        self.issue_for(&key.subject_public_key_info(), signer)
    }

    /// The certificate of any SubjectPublicKeyInfo, signed by `signer`.
    pub(crate) fn issue_for(&self, spki: &[u8], signer: &KeyPair) -> CertificateDer<'static> {
        self.issue_by(spki, |tbs| signer.sign(tbs).unwrap())
    }

    /// The certificate of any SubjectPublicKeyInfo, signed by any function.
    pub(crate) fn issue_by(&self, spki: &[u8], sign: impl FnOnce(&[u8]) -> Vec<u8>) -> CertificateDer<'static> {
        let algorithm = |oid: &[u8]| seq(0x30, &[der(0x06, oid), self.parameters.clone()]);
        let dates = seq(0x30, &[der(0x18, self.not_before.as_bytes()), der(0x18, self.not_after.as_bytes())]);
        let extensions = match self.extensions.as_slice() {
            [] => Vec::new(),
            extensions => der(0xa3, &seq(0x30, extensions)),
        };
        let tbs = seq(
            0x30,
            &[
                self.version.clone(),
                der(0x02, &self.serial),
                algorithm(self.inner_algorithm.as_ref().unwrap_or(&self.algorithm)),
                self.issuer.clone(),
                self.validity.clone().unwrap_or(dates),
                self.subject.clone(),
                spki.to_vec(),
                self.before_extensions.clone(),
                extensions,
            ],
        );
        let mut signature = vec![0];
        signature.extend(sign(&tbs));
        CertificateDer::from(seq(0x30, &[tbs, algorithm(&self.algorithm), der(0x03, &signature)]))
    }
}

/// A P-256 key.
pub(crate) fn key() -> KeyPair {
    KeyPair::generate().unwrap()
}

/// An RSA SubjectPublicKeyInfo with a modulus of so many bits. No private key for it exists.
pub(crate) fn rsa_spki(bits: usize) -> Vec<u8> {
    let mut modulus = vec![0xa5; bits.div_ceil(8)];
    modulus[0] = 0xff >> (modulus.len() * 8 - bits);
    if modulus[0] & 0x80 != 0 {
        modulus.insert(0, 0);
    }
    let key = seq(0x30, &[der(0x02, &modulus), der(0x02, &[1, 0, 1])]);
    let algorithm = [0x30, 13, 0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0].to_vec();
    seq(0x30, &[algorithm, der(0x03, &[vec![0], key].concat())])
}

pub(crate) fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02X}")).collect()
}

/// The TLSA record of the given numbers, such as `3 1 1`, for a certificate with this key.
pub(crate) fn tlsa(numbers: &str, certificate: &[u8], spki: &[u8]) -> String {
    let octets = if numbers.split(' ').nth(1) == Some("0") { certificate } else { spki };
    let data = match numbers.split(' ').nth(2) {
        Some("0") => octets.to_vec(),
        Some("1") => Sha256::digest(octets).to_vec(),
        _ => Sha512::digest(octets).to_vec(),
    };
    format!("{numbers} {}", hex(&data))
}

/// PEM by hand: openssl makes PEM only of a certificate that it can read.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in der.chunks(48) {
        for group in line.chunks(3) {
            let bits = group.iter().fold(0, |bits, &octet| bits << 8 | u32::from(octet)) << (8 * (3 - group.len()));
            for digit in 0..4 {
                let value = (bits >> (18 - 6 * digit)) & 63;
                text.push(if digit <= group.len() { char::from(DIGITS[value as usize]) } else { '=' });
            }
        }
        text.push('\n');
    }
    text + &format!("-----END {label}-----\n")
}
