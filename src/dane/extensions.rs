//! The extensions of a certificate that path validation acts on (RFC 5280 §4.2.1).
//!
//! An extension that is malformed or doubled makes the certificate unreadable. A critical extension that this module does
//! not act on is remembered, and refused when the certificate is used (RFC 5280 §4.2).

use x509_parser::asn1_rs::Oid;

use super::certificate::{Certificate, Malformed};
use super::constraints::Constraints;
use super::der::{self, Der};
use super::names::{DistinguishedName, GeneralName};

/// The most extensions of a certificate. Honest ones have up to twenty.
const MAX_EXTENSIONS: usize = 100;

/// serverAuth, 1.3.6.1.5.5.7.3.1 (RFC 5280 §4.2.1.12), and the purposes that Netscape and Microsoft had before,
/// 2.16.840.1.113730.4.1 and 1.3.6.1.4.1.311.10.3.3, which Postfix takes for it as well.
const SERVER_AUTH: [&[u8]; 3] = [
    &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01],
    &[0x60, 0x86, 0x48, 0x01, 0x86, 0xf8, 0x42, 0x04, 0x01],
    &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x0a, 0x03, 0x03],
];
/// proxyCertInfo, 1.3.6.1.5.5.7.1.14 (RFC 3820 §3.8).
const PROXY_CERT_INFO: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x01, 0x0e];
/// Netscape's certificate type, 2.16.840.1.113730.1.1, older than extKeyUsage; its second bit is for TLS servers.
const NETSCAPE_TYPE: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x86, 0xf8, 0x42, 0x01, 0x01];

/// The extensions that path validation acts on (RFC 5280 §4.2.1).
#[derive(Debug, Default)]
pub(super) struct CertificateExtensions<'a> {
    pub(super) basic_constraints: Option<BasicConstraints>,
    pub(super) key_usage: Option<KeyUsage>,
    pub(super) extended_key_usage: Option<Purposes>,
    pub(super) alternative_names: Option<Vec<GeneralName<'a>>>,
    pub(super) name_constraints: Option<Constraints<'a>>,
    pub(super) netscape_type: Option<NetscapeType>,
    /// The first critical extension that is not acted on, as a dotted OID.
    pub(super) unhandled_critical: Option<String>,
    subject_key: Option<&'a [u8]>,
    authority_key: Option<AuthorityKey<'a>>,
}

/// Which of an issuer's certificates is meant (RFC 5280 §4.2.1.1). A part that is absent fits every certificate.
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

/// RFC 5280 §4.2.1.3, reduced to the two uses that a path needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyUsage {
    /// digitalSignature, keyEncipherment or keyAgreement: one of them makes a TLS server's key.
    pub(super) tls: bool,
    /// keyCertSign.
    pub(super) certificates: bool,
}

/// RFC 5280 §4.2.1.12, reduced to serverAuth. anyExtendedKeyUsage does not stand for serverAuth, nor
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

/// The longest identifier of an extension, in octets, that is shown.
const MAX_SHOWN_ID: usize = 64;

/// A BOOLEAN DEFAULT FALSE. An explicit FALSE is not DER, but common, and means the same, as do the other forms that BER has for TRUE.
fn boolean(der: &mut Der<'_>) -> Option<bool> {
    match der.optional(der::BOOLEAN).map(|element| element.body) {
        None | Some([0]) => Some(false),
        Some([_]) => Some(true),
        Some(_) => None,
    }
}

impl<'a> CertificateExtensions<'a> {
    /// Reads the fields after the key: two unique identifiers, which have no use, and the extensions. RFC 5280 §4.1.2.9
    /// has them in v3; those of an older certificate hold all the same, as with Postfix.
    pub(super) fn read(mut rest: Der<'a>) -> Result<Self, Malformed> {
        let malformed = Malformed("extensions");
        rest.optional(0x81);
        rest.optional(0x82);
        let mut extensions = Self::default();
        let Some(list) = rest.optional(0xa3) else {
            return if rest.is_empty() { Ok(extensions) } else { Err(malformed) };
        };
        let list = Der::only(list.body, der::SEQUENCE).filter(|_| rest.is_empty()).ok_or(malformed)?;
        let mut list = Der(list.body);
        let mut seen = Vec::new();
        while !list.is_empty() {
            let extension = Extension::read(&mut list).ok_or(malformed)?;
            // RFC 5280 §4.2: no extension twice. If one instance counted, the other would be ignored.
            if seen.contains(&extension.id) {
                return Err(Malformed("extensions (one of them is there twice)"));
            }
            if seen.len() == MAX_EXTENSIONS {
                return Err(Malformed("extensions (more than 100)"));
            }
            seen.push(extension.id);
            extensions.add(extension)?;
        }
        Ok(extensions)
    }

    /// Whether these name a key that a certificate with that issuer and serial number has (RFC 5280 §4.2.1.1).
    pub(super) fn point_to(&self, issuer: &Certificate<'_>) -> bool {
        self.authority_key.as_ref().is_none_or(|key| key.fits(issuer))
    }

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
            // cRLDistributionPoints, as Postfix: revocation is not asked of DANE (RFC 7672 §4).
            [0x55, 0x1d, 31] => read_distribution_points(value).ok_or(Malformed("cRLDistributionPoints"))?,
            // certificatePolicies, policyMappings and inhibitAnyPolicy, as Postfix. They decide which policies a path is
            // valid for. We ask for none, and without requireExplicitPolicy none is needed (RFC 5280 §6.1.1, §6.1.5 (g)).
            [0x55, 0x1d, 32 | 33 | 54] => {}
            [0x55, 0x1d, 36] if maps_no_policies(value) => {}
            NETSCAPE_TYPE => {
                self.netscape_type = Some(read_netscape_type(value).ok_or(Malformed("Netscape certificate type"))?);
            }
            // RFC 3820 §3.8 has it critical. Without that it is a proxy certificate all the same.
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
        self.unhandled_critical.get_or_insert_with(|| match id.len() {
            // A refusal is kept, and an identifier may be as long as a certificate.
            ..=MAX_SHOWN_ID => Oid::new(id.into()).to_id_string(),
            octets => format!("with an identifier of {octets} octets"),
        });
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
    let bits = der::flags(Der::only(value, der::BIT_STRING)?.body)?;
    Some(KeyUsage { tls: bits & 0b1010_1000 != 0, certificates: bits & 0b0000_0100 != 0 })
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
    // RFC 5280 §4.2.1.9 forbids a path length without the CA flag; here it has no effect.
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
        GeneralName::Dns(_) | GeneralName::Address(_) | GeneralName::Other(_) => None,
    });
    let serial = der.optional(0x82).map(|serial| serial.body);
    der.is_empty().then_some(AuthorityKey { id, issuer, serial })
}

/// The points are not used, but they must be well formed (RFC 5280 §4.2.1.13: a name or an issuer for each point).
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

/// Whether policyConstraints have inhibitPolicyMapping alone (RFC 5280 §4.2.1.11), which demands no policy of a path. The
/// other constraint, requireExplicitPolicy, does.
fn maps_no_policies(value: &[u8]) -> bool {
    let Some(list) = Der::only(value, der::SEQUENCE) else { return false };
    let mut der = Der(list.body);
    der.optional(0x81).is_some() && der.is_empty()
}

fn read_netscape_type(value: &[u8]) -> Option<NetscapeType> {
    let bits = der::flags(Der::only(value, der::BIT_STRING)?.body)?;
    Some(if bits & 0b0100_0000 != 0 { NetscapeType::Server } else { NetscapeType::Others })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_identifier_is_not_kept() {
        for (octets, shown) in [(1, "1.2"), (58_000, "with an identifier of 58000 octets")] {
            let mut extensions = CertificateExtensions::default();
            extensions.refuse(&vec![0x2a; octets]);
            assert_eq!(extensions.unhandled_critical.as_deref(), Some(shown));
        }
    }
}
