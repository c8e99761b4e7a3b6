//! Names in certificates: does the certificate hold one of the server's reference identifiers (RFC 7672 §3.2.3, RFC
//! 9525 §6), and are two distinguished names the same name, in any string type and case (RFC 5280 §7.1)?
//!
//! The names in a certificate are the peer's text. They are compared; they are never mended into names that could
//! match.

use std::fmt;

use super::certificate::Certificate;
use super::der::{self, Der};
use crate::excerpt::printable;
use crate::name::Name;

/// commonName, 2.5.4.3.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
/// emailAddress, 1.2.840.113549.1.9.1.
const EMAIL_ADDRESS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x01];

/// The most octets of a peer's text that go into a message.
const MAX_SHOWN: usize = 100;

/// A distinguished name: its relative distinguished names, the most general first.
#[derive(Debug, Clone)]
pub(super) struct DistinguishedName {
    rdns: Vec<Vec<Attribute>>,
    common_names: Vec<String>,
    email: Presence,
}

/// Whether a distinguished name has an emailAddress, which name constraints reach (RFC 5280 §4.2.1.10).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    Present,
    Absent,
}

/// One attribute in a form in which equal values are equal (RFC 5280 §7.1).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Attribute {
    kind: Vec<u8>,
    value: AttributeValue,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum AttributeValue {
    /// Lower case, outer blanks cut off, inner ones collapsed.
    Text(String),
    /// No text: compared octet by octet with its tag.
    Other(Vec<u8>),
}

impl DistinguishedName {
    /// Reads a Name (RFC 5280 §4.1.2.4) with its outer SEQUENCE.
    pub(super) fn read(name: &[u8]) -> Option<Self> {
        let mut names = Self { rdns: Vec::new(), common_names: Vec::new(), email: Presence::Absent };
        let mut rdns = Der(Der::only(name, der::SEQUENCE)?.body);
        while !rdns.is_empty() {
            let mut set = Der(rdns.take(der::SET)?.body);
            let mut rdn = Vec::new();
            while !set.is_empty() {
                let mut pair = Der(set.take(der::SEQUENCE)?.body);
                let kind = pair.take(der::OID)?.body;
                let value = pair.next().filter(|_| pair.is_empty())?;
                let text = text(value.tag, value.body);
                match (kind, &text) {
                    (COMMON_NAME, Some(text)) => names.common_names.push(text.clone()),
                    (EMAIL_ADDRESS, _) => names.email = Presence::Present,
                    _ => {}
                }
                let value = text.map_or_else(
                    || AttributeValue::Other(value.whole.to_vec()),
                    |text| AttributeValue::Text(folded(&text)),
                );
                rdn.push(Attribute { kind: kind.to_vec(), value });
            }
            rdn.sort();
            names.rdns.push(rdn);
        }
        Some(names)
    }

    /// Whether this name lies in the subtree below `base` (RFC 5280 §4.2.1.10).
    pub(super) fn is_within(&self, base: &Self) -> bool {
        self.rdns.starts_with(&base.rdns)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rdns.is_empty()
    }

    pub(super) fn email(&self) -> Presence {
        self.email
    }

    /// The common names as they are written.
    pub(super) fn common_names(&self) -> &[String] {
        &self.common_names
    }
}

/// The name in messages: the last common name, which says most.
impl fmt::Display for DistinguishedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.common_names.last() {
            Some(name) => f.write_str(&shown(name.as_bytes())),
            None => f.write_str("(no common name)"),
        }
    }
}

impl PartialEq for DistinguishedName {
    fn eq(&self, other: &Self) -> bool {
        self.rdns == other.rdns
    }
}

/// The text of a directory string; `None` for a value that is no text (X.520; the types of RFC 5280 §4.1.2.4 and
/// IA5String).
fn text(tag: u8, body: &[u8]) -> Option<String> {
    match tag {
        // UTF8String.
        0x0c => String::from_utf8(body.to_vec()).ok(),
        // PrintableString, T61String (read as Latin-1, as other implementations do), IA5String, VisibleString.
        0x13 | 0x14 | 0x16 | 0x1a => Some(body.iter().copied().map(char::from).collect()),
        // UniversalString.
        0x1c => {
            let (chars, []) = body.as_chunks::<4>() else { return None };
            chars.iter().map(|&octets| char::from_u32(u32::from_be_bytes(octets))).collect()
        }
        // BMPString.
        0x1e => {
            let (units, []) = body.as_chunks::<2>() else { return None };
            let units: Vec<u16> = units.iter().map(|&octets| u16::from_be_bytes(octets)).collect();
            String::from_utf16(&units).ok()
        }
        _ => None,
    }
}

/// RFC 5280 §7.1 by way of RFC 4518, as far as OpenSSL goes: ASCII case and blanks.
fn folded(text: &str) -> String {
    text.split_ascii_whitespace().collect::<Vec<_>>().join(" ").to_ascii_lowercase()
}

/// A GeneralName (RFC 5280 §4.2.1.6), read as far as this module needs it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum GeneralName<'a> {
    /// dNSName, of any octets.
    Dns(&'a [u8]),
    /// directoryName.
    Directory(DistinguishedName),
    /// iPAddress: an address, or in a name constraint an address and a mask.
    Address(&'a [u8]),
    /// Any other form, by its number: rfc822Name is 1, uniformResourceIdentifier 6.
    Other(u8),
}

impl<'a> GeneralName<'a> {
    /// Reads the next name of a sequence.
    pub(super) fn read(der: &mut Der<'a>) -> Option<Self> {
        let element = der.next()?;
        match element.tag {
            0x82 => Some(Self::Dns(element.body)),
            0xa4 => DistinguishedName::read(element.body).map(Self::Directory),
            0x87 => Some(Self::Address(element.body)),
            0xa0 | 0x81 | 0xa3 | 0xa5 | 0x86 | 0x88 => Some(Self::Other(element.tag & 0x1f)),
            _ => None,
        }
    }

    /// Reads the value of a subjectAltName.
    pub(super) fn read_all(value: &'a [u8]) -> Option<Vec<Self>> {
        Self::read_list(Der(Der::only(value, der::SEQUENCE)?.body))
    }

    /// Reads GeneralNames without their outer tag.
    pub(super) fn read_list(mut der: Der<'a>) -> Option<Vec<Self>> {
        let mut names = Vec::new();
        while !der.is_empty() {
            names.push(Self::read(&mut der)?);
        }
        Some(names)
    }
}

/// The DNS names a certificate is for: its dNSNames, or, only when it has none at all, its common names
/// (RFC 7672 §3.2.3; RFC 9525 has dropped common names, Postfix has not).
pub(super) fn presented<'c>(certificate: &'c Certificate<'_>) -> impl Iterator<Item = &'c [u8]> {
    dns_names(certificate).chain(common_names_as_dns_names(certificate).iter().map(String::as_bytes))
}

/// The common names that stand for the DNS names that the certificate does not have.
pub(super) fn common_names_as_dns_names<'c>(certificate: &'c Certificate<'_>) -> &'c [String] {
    match dns_names(certificate).next() {
        Some(_) => &[],
        None => certificate.subject.common_names(),
    }
}

/// RFC 9525 §6.2: an iPAddress is never compared with a DNS name.
pub(super) fn dns_names<'c>(certificate: &'c Certificate<'_>) -> impl Iterator<Item = &'c [u8]> {
    certificate.extensions.alternative_names.iter().flatten().filter_map(|name| match name {
        GeneralName::Dns(name) => Some(*name),
        GeneralName::Directory(_) | GeneralName::Address(_) | GeneralName::Other(_) => None,
    })
}

/// Whether a presented name is the reference identifier (RFC 9525 §6.3): label by label without regard to ASCII case;
/// `*` stands for exactly one label, and only as the whole leftmost one. A reference identifier has no odd octet, no
/// empty label and no final dot, so neither has anything that equals it.
pub(super) fn is_for(presented: &[u8], reference: &Name) -> bool {
    let reference = reference.as_str().as_bytes();
    let Some(wildcard) = presented.strip_prefix(b"*.") else {
        return presented.eq_ignore_ascii_case(reference);
    };
    // RFC 9525 §7.1: a wildcard directly below a top-level domain matches no name, and a wildcard matches no name that
    // a host cannot have, such as one with an underscore; OpenSSL has the same rules.
    let of_a_host = reference.iter().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.'));
    let parent = reference.iter().position(|&octet| octet == b'.').and_then(|dot| reference.get(dot + 1..));
    of_a_host && wildcard.contains(&b'.') && parent.is_some_and(|parent| wildcard.eq_ignore_ascii_case(parent))
}

/// A peer's text for a message: printable ASCII, of bounded length (it ends up in logs and reply lines).
pub(super) fn shown(text: &[u8]) -> String {
    let mut shown: String = text.iter().take(MAX_SHOWN).map(|octet| printable(char::from(*octet))).collect();
    if text.len() > MAX_SHOWN {
        shown.push_str("...");
    }
    shown
}
