//! As much DER as a certificate needs (X.690 §8, §10): elements in order, lengths in their one correct form.
//!
//! This one reader cuts every part that DANE reads out of a certificate, the SubjectPublicKeyInfo above all: the octets
//! that are compared with a TLSA record must be the octets whose key the server proves to hold. Two parsers with
//! different leniency could disagree on where a damaged certificate keeps its key.

/// INTEGER.
pub(super) const INTEGER: u8 = 0x02;
/// BIT STRING.
pub(super) const BIT_STRING: u8 = 0x03;
/// OCTET STRING.
pub(super) const OCTET_STRING: u8 = 0x04;
/// OBJECT IDENTIFIER.
pub(super) const OID: u8 = 0x06;
/// BOOLEAN.
pub(super) const BOOLEAN: u8 = 0x01;
/// SEQUENCE and SEQUENCE OF.
pub(super) const SEQUENCE: u8 = 0x30;
/// SET and SET OF.
pub(super) const SET: u8 = 0x31;

/// rsaEncryption, 1.2.840.113549.1.1.1 (RFC 8017 appendix C).
const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

/// id-RSASSA-PSS, 1.2.840.113549.1.1.10, of keys and of signatures (RFC 4055 §3.1).
const RSA_PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a];
/// pkcs-1, 1.2.840.113549.1.1: above the RSA signature algorithms (RFC 8017 appendix C).
const PKCS1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
/// id-ecPublicKey, 1.2.840.10045.2.1 (RFC 5480 §2.1.1).
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// ansi-X9-62 signatures, 1.2.840.10045.4: above the ECDSA signature algorithms (RFC 5758 §3.2).
const ECDSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04];

/// One element: its tag, its content, and all of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    pub(super) body: &'a [u8],
    pub(super) whole: &'a [u8],
}

/// The octets still to be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Der<'a>(pub(super) &'a [u8]);

impl<'a> Der<'a> {
    /// The next element; `None` at the end, and for anything that is not DER with a one-octet tag.
    pub(super) fn next(&mut self) -> Option<Element<'a>> {
        let (&tag, rest) = self.0.split_first()?;
        if tag & 0x1f == 0x1f {
            return None;
        }
        let (length, header) = length(rest)?;
        let end = 1usize.checked_add(header)?.checked_add(length)?;
        let whole = self.0.get(..end)?;
        self.0 = self.0.get(end..)?;
        Some(Element { tag, body: whole.get(1 + header..)?, whole })
    }

    /// The next element, which must have this tag.
    pub(super) fn take(&mut self, tag: u8) -> Option<Element<'a>> {
        self.next().filter(|element| element.tag == tag)
    }

    /// The next element if it has this tag; otherwise the reader stays where it is.
    pub(super) fn optional(&mut self, tag: u8) -> Option<Element<'a>> {
        let mut ahead = *self;
        let element = ahead.take(tag)?;
        *self = ahead;
        Some(element)
    }

    /// Whether all octets have been read.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The one element of this tag that the octets consist of.
    pub(super) fn only(octets: &'a [u8], tag: u8) -> Option<Element<'a>> {
        let mut der = Der(octets);
        der.take(tag).filter(|_| der.is_empty())
    }
}

/// A length and the octets it takes: definite, in the shortest form (X.690 §10.1), at most 16 MB.
fn length(octets: &[u8]) -> Option<(usize, usize)> {
    match *octets {
        [short @ 0..=0x7f, ..] => Some((short.into(), 1)),
        [0x81, a @ 0x80..=0xff, ..] => Some((a.into(), 2)),
        [0x82, a @ 1..=0xff, b, ..] => Some((usize::from(a) << 8 | usize::from(b), 3)),
        [0x83, a @ 1..=0xff, b, c, ..] => Some((usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c), 4)),
        _ => None,
    }
}

/// The fields of a TBSCertificate up to the key (RFC 5280 §4.1), uninterpreted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a> {
    /// The explicit version, if there is one.
    pub(super) version: Option<Element<'a>>,
    pub(super) serial: Element<'a>,
    pub(super) signature: Element<'a>,
    pub(super) issuer: Element<'a>,
    pub(super) validity: Element<'a>,
    pub(super) subject: Element<'a>,
    pub(super) spki: Element<'a>,
    /// The fields after the key: unique identifiers and extensions.
    pub(super) rest: Der<'a>,
}

impl<'a> Fields<'a> {
    /// Cuts a TBSCertificate's body.
    pub(super) fn read(tbs: &'a [u8]) -> Option<Self> {
        let mut der = Der(tbs);
        Some(Self {
            version: der.optional(0xa0),
            serial: der.take(INTEGER)?,
            signature: der.take(SEQUENCE)?,
            issuer: der.take(SEQUENCE)?,
            validity: der.take(SEQUENCE)?,
            subject: der.take(SEQUENCE)?,
            spki: der.take(SEQUENCE).filter(|spki| is_spki(spki.whole))?,
            rest: der,
        })
    }
}

/// The SubjectPublicKeyInfo of a certificate with its outer SEQUENCE, as a TLSA record with selector SPKI(1) means it
/// (RFC 6698 §2.1.2). The rest of the certificate need not be well-formed: under DANE-EE only the key counts (RFC 7671
/// §5.1).
pub fn spki(certificate: &[u8]) -> Option<&[u8]> {
    let tbs = Der(Der::only(certificate, SEQUENCE)?.body).take(SEQUENCE)?;
    Some(Fields::read(tbs.body)?.spki.whole)
}

/// Whether the octets are one SubjectPublicKeyInfo (RFC 5280 §4.1.2.7).
pub(super) fn is_spki(octets: &[u8]) -> bool {
    key_bits(octets).is_some()
}

/// Whether a key is of the kind that a signature algorithm (an AlgorithmIdentifier without its SEQUENCE) needs. Of
/// algorithms that are not known here any key is.
pub(super) fn key_suits(spki: &[u8], algorithm: &[u8]) -> bool {
    let Some((key, _)) = key_bits(spki) else { return false };
    match Der(algorithm).take(OID).map(|oid| oid.body) {
        Some(RSA_PSS) => key == RSA_ENCRYPTION || key == RSA_PSS,
        Some(oid) if oid.starts_with(PKCS1) => key == RSA_ENCRYPTION,
        Some(oid) if oid.starts_with(ECDSA) => key == EC_PUBLIC_KEY,
        Some(_) | None => true,
    }
}

/// The algorithm's OID and the octets of the key.
fn key_bits(spki: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut der = Der(Der::only(spki, SEQUENCE)?.body);
    let algorithm = Der(der.take(SEQUENCE)?.body).take(OID)?;
    let key = bit_string(der.take(BIT_STRING)?.body).filter(|_| der.is_empty())?;
    Some((algorithm.body, key))
}

/// The octets of a BIT STRING that ends on an octet boundary, as keys and signatures do.
pub(super) fn bit_string(body: &[u8]) -> Option<&[u8]> {
    body.strip_prefix(&[0])
}

/// The first eight bits of a BIT STRING that is a list of flags, such as a keyUsage (X.690 §8.6.2, §11.2). Its unused bits
/// are not its own: DER has them clear, and OpenSSL reads them as clear even if they are set.
pub(super) fn flags(body: &[u8]) -> Option<u8> {
    match *body {
        [0] => Some(0),
        [unused @ 0..=7, bits] => Some(bits & (0xff << unused)),
        [0..=7, bits, _, ..] => Some(bits),
        _ => None,
    }
}

/// The size of an RSA key's modulus in bits; `None` for keys of any other kind.
pub(super) fn rsa_bits(spki: &[u8]) -> Option<usize> {
    let (algorithm, key) = key_bits(spki)?;
    if algorithm != RSA_ENCRYPTION {
        return None;
    }
    let modulus = Der(Der::only(key, SEQUENCE)?.body).take(INTEGER)?.body;
    let modulus = modulus.strip_prefix(&[0]).unwrap_or(modulus);
    let (&top, rest) = modulus.split_first()?;
    Some(rest.len() * 8 + (8 - top.leading_zeros() as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_one_form() {
        assert_eq!(Der(&[4, 1, 7]).next().map(|e| e.body), Some(&[7][..]));
        let mut long = vec![4, 0x81, 0x80];
        long.extend([9; 0x80]);
        assert_eq!(Der(&long).next().map(|e| e.body.len()), Some(0x80));
        for bad in [
            &[][..],
            &[4],
            &[4, 2, 0],
            &[4, 0x80, 0, 0],
            &[4, 0x81, 1, 7],
            &[4, 0x82, 0, 1, 7],
            &[4, 0x84, 0, 0, 0, 1, 7],
            &[0x1f, 0x81, 1, 7],
        ] {
            assert!(Der(bad).next().is_none(), "{bad:?}");
        }
    }

    #[test]
    fn unused_bits_are_no_flags() {
        for (body, read) in [
            (&[2, 0x04][..], Some(0x04)),
            (&[3, 0x04], Some(0)),
            (&[7, 0xff], Some(0x80)),
            (&[0], Some(0)),
            // decipherOnly is the ninth flag, and the unused bits are those of the last octet.
            (&[7, 0x04, 0x80], Some(0x04)),
            (&[8, 0x04], None),
            (&[1], None),
            (&[], None),
        ] {
            assert_eq!(flags(body), read, "{body:?}");
        }
    }

    #[test]
    fn the_key_is_that_of_the_certificate() {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["mx.example".into()]).unwrap().self_signed(&key).unwrap();
        let found = spki(certificate.der()).unwrap();
        assert_eq!(found, rcgen::PublicKeyData::subject_public_key_info(&key));
        assert_eq!(rsa_bits(found), None);
        // The octets after the certificate's end are not the certificate's: no key is read out of such a thing.
        assert_eq!(spki(&[certificate.der(), &[0][..]].concat()), None);
        for cut in 0..certificate.der().len() {
            assert_eq!(spki(&certificate.der()[..cut]), None);
        }
    }
}
