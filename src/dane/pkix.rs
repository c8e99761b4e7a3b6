//! The parts of the Web PKI's check that are decided here: the certificate's names, and the words for a chain that no public CA
//! vouches for (RFC 8461 §4.2). The path to a CA is the TLS library's matter.
//!
//! The rule for names is stricter than that of DANE: a common name never counts (RFC 8461 §4.2, RFC 9525 §6.3).

use std::fmt;

use rustls_pki_types::UnixTime;
use serde::Serialize;

use super::certificate::Certificate;
use super::mismatch::{Holder, Mismatch, Untrusted};
use super::names::{self, DistinguishedName};
use super::verify::{Presented, Sent};
use crate::name::Name;
use crate::words::words;

/// A public CA vouches for the server's key under its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vouched {
    /// The common name of the authority at the end of the path.
    pub authority: String,
}

impl Vouched {
    /// By the authority with this subject (RFC 5280 §4.1.2.6), in DER without its outer SEQUENCE.
    pub fn by(subject: &[u8]) -> Self {
        // DER has one length for each element: the shortest (X.690 §10.1).
        let [.., high, low] = subject.len().to_be_bytes();
        let length: &[u8] = match subject.len() {
            ..0x80 => &[low],
            0x80..0x100 => &[0x81, low],
            _ => &[0x82, high, low],
        };
        let whole = [&[0x30][..], length, subject].concat();
        let name = DistinguishedName::read(&whole).map_or_else(|| "(unreadable)".to_owned(), |name| name.to_string());
        Self { authority: name }
    }
}

/// The worth of a server's certificate to the Web PKI: whether a public CA vouches for it and for the server's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(into = "&'static str")]
#[derive(strum::IntoStaticStr, strum::EnumString, strum::VariantArray)]
#[strum(serialize_all = "kebab-case")]
pub enum PkixWorth {
    /// A CA vouches for it under the server's name.
    Valid,
    /// It has expired, or a certificate above it.
    Expired,
    /// It is not valid yet, or a certificate above it.
    NotYetValid,
    /// It is good, and for another name.
    OtherName,
    /// The server has signed it itself.
    SelfSigned,
    /// Its chain ends at an authority that is not among the CA certificates, or a certificate between is missing.
    UnknownAuthority,
    /// It breaks another rule.
    Invalid,
    /// The server has refused a session under its name (SNI), and has shown it in one without.
    SniRefused,
}

words!(PkixWorth);

/// For people: a half sentence about the server.
impl fmt::Display for PkixWorth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SniRefused => f.write_str("it refuses a session under its name (SNI)"),
            certificate => write!(f, "to public CAs its certificate is {}", certificate.as_str()),
        }
    }
}

impl From<&Result<Vouched, Mismatch>> for PkixWorth {
    fn from(checked: &Result<Vouched, Mismatch>) -> Self {
        match checked {
            Ok(_) => Self::Valid,
            Err(Mismatch::Expired(_)) => Self::Expired,
            Err(Mismatch::NotYetValid(_)) => Self::NotYetValid,
            Err(Mismatch::Name { .. }) => Self::OtherName,
            Err(Mismatch::Untrusted(Untrusted::SelfSigned(_))) => Self::SelfSigned,
            Err(Mismatch::Untrusted(Untrusted::Issuer(_))) => Self::UnknownAuthority,
            Err(
                Mismatch::Untrusted(Untrusted::Rule(_))
                | Mismatch::NoCertificate
                | Mismatch::ChainTooLarge { .. }
                | Mismatch::NoRecord(_)
                | Mismatch::KeySize(..)
                | Mismatch::Path(..),
            ) => Self::Invalid,
        }
    }
}

impl Sent<'_> {
    /// Whether the server's certificate is for this name.
    ///
    /// # Errors
    /// Its names, if it is not.
    pub fn is_for(&self, name: &Name) -> Result<(), Mismatch> {
        let certificate = self.leaf().ok_or(Mismatch::NoCertificate)?;
        if names::dns_names(certificate).any(|presented| names::is_for(presented, name)) {
            return Ok(());
        }
        let found = names::dns_names(certificate).map(names::shown).collect();
        Err(Mismatch::Name { found, wanted: vec![name.clone()] })
    }

    /// Where the chain ends that no CA here has issued: the name of the authority that is missing.
    pub fn end_of_chain(&self) -> Untrusted {
        let Some(leaf) = self.leaf() else { return Untrusted::Issuer("(unreadable)".to_owned()) };
        if leaf.self_signed() {
            return Untrusted::SelfSigned(leaf.subject.to_string());
        }
        let others: Vec<_> = self.authorities().collect();
        let mut top = leaf;
        // Each step goes to another certificate; a circle ends with their number.
        for _ in 0..others.len() {
            match others.iter().find(|issuer| top.points_to(issuer) && issuer.der != top.der) {
                Some(issuer) if !top.self_signed() => top = issuer,
                Some(_) | None => break,
            }
        }
        Untrusted::Issuer(top.issuer.to_string())
    }

    /// The first certificate from below that is out of its dates.
    pub fn out_of_date(&self, now: UnixTime) -> Holder {
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let is_out = |certificate: &Certificate<'_>| {
            now < certificate.validity.not_before || now > certificate.validity.not_after
        };
        match self.leaf().is_some_and(is_out) {
            true => Holder::Server,
            false => self
                .authorities()
                .find(|authority| is_out(authority))
                .map_or(Holder::Server, |authority| Holder::Authority(authority.subject.to_string())),
        }
    }

    fn leaf(&self) -> Option<&Certificate<'_>> {
        self.presented().first().and_then(Presented::readable)
    }

    fn authorities(&self) -> impl Iterator<Item = &Certificate<'_>> {
        self.presented().iter().skip(1).filter_map(Presented::readable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls_pki_types::CertificateDer;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    /// A certificate for these names, with a common name.
    fn certificate(names: &[&str]) -> Vec<CertificateDer<'static>> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut parameters = rcgen::CertificateParams::new(names).unwrap();
        parameters.distinguished_name.push(rcgen::DnType::CommonName, "common.example");
        vec![parameters.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().clone()]
    }

    #[test]
    fn p13_the_names_that_count() {
        for (names, asked, is_for) in [
            (&["mx.example"][..], "mx.example", true),
            (&["MX.Example"], "mx.example", true),
            (&["other.example", "mx.example"], "mx.example", true),
            (&["*.a.example"], "mx.a.example", true),
            (&["*.a.example"], "a.example", false),
            (&["*.a.example"], "x.mx.a.example", false),
            (&["m*.a.example"], "mx.a.example", false),
            (&["*.example"], "mx.example", false),
            (&["www.example"], "mx.example", false),
            // A common name never counts, and no address.
            (&[], "common.example", false),
            (&["192.0.2.1"], "common.example", false),
        ] {
            let chain = certificate(names);
            assert_eq!(Sent::read(&chain).is_for(&name(asked)).is_ok(), is_for, "{names:?} {asked}");
        }
        let why = Sent::read(&certificate(&["www.example"])).is_for(&name("mx.example")).unwrap_err();
        assert_eq!(why.to_string(), "the certificate is for www.example and not for mx.example");
    }

    #[test]
    fn the_name_of_an_authority() {
        let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
        for octets in [0, 60, 200] {
            let (common, shown) = ("Example Root", "Example Root");
            parameters.distinguished_name = rcgen::DistinguishedName::new();
            parameters.distinguished_name.push(rcgen::DnType::OrganizationName, "o".repeat(octets));
            parameters.distinguished_name.push(rcgen::DnType::CommonName, common);
            let certificate = parameters.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
            let anchor = webpki::anchor_from_trusted_cert(certificate.der()).unwrap();
            assert_eq!(Vouched::by(&anchor.subject).authority, shown);
        }
        assert_eq!(Vouched::by(b"junk").authority, "(unreadable)");
    }
}
