//! The content of a certificate, for people: its subject, its names, its dates. No decision rests on it; under DANE-EE
//! none of it counts (RFC 7671 §5.1).

use std::fmt;

use time::OffsetDateTime;

use super::certificate::{Certificate, Malformed};
use super::names;
use super::verify::Presented;

/// The most names that one line shows.
const MAX_NAMES: usize = 8;

/// The content of a certificate. Its texts are the peer's, cut to a length and freed of all but printable ASCII.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The subject: its last common name.
    pub subject: String,
    /// The issuer.
    pub issuer: String,
    /// The DNS names it is for (RFC 7672 §3.2.3).
    pub names: Vec<String>,
    /// The first moment at which it is valid, in seconds since 1970 (RFC 5280 §4.1.2.5).
    pub not_before: i64,
    /// The last one.
    pub not_after: i64,
    /// How its signature is made.
    pub signature: Digesting,
}

/// The strength of a certificate's signature by its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Digesting {
    /// SHA-1 or MD5: a client that must build a path over it does not take it (RFC 9155, RFC 9325 §4.1).
    Weak,
    /// Anything else.
    Sound,
}

/// Reads a certificate; `None` if it is malformed.
pub fn read(certificate: &[u8]) -> Option<Facts> {
    Some(of(&Certificate::read(certificate).ok()?, usize::MAX))
}

/// The facts of a certificate, with no more names than `most`.
fn of(certificate: &Certificate<'_>, most: usize) -> Facts {
    Facts {
        subject: certificate.subject.to_string(),
        issuer: certificate.issuer.to_string(),
        names: names::presented(certificate).take(most).map(names::shown).collect(),
        not_before: certificate.validity.not_before,
        not_after: certificate.validity.not_after,
        signature: if certificate.weakly_signed() { Digesting::Weak } else { Digesting::Sound },
    }
}

/// One line about a certificate: its facts, and the digests that a TLSA record of it would have. Of one that cannot be
/// read there are the digests alone.
pub(super) fn line(presented: &Presented<'_>) -> String {
    let facts = match &presented.certificate {
        // One more than is shown, which says that there are more.
        Ok(certificate) => of(certificate, MAX_NAMES + 1).to_string(),
        Err(Malformed(_)) => "a certificate that cannot be read".to_owned(),
    };
    let (certificate, key) = presented.sha256();
    let key = key.map_or_else(|| "no readable key".to_owned(), |key| format!("key 3 1 1 {key}"));
    format!("{facts}, {key}, certificate 3 0 1 {certificate}")
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let day = |seconds| OffsetDateTime::from_unix_timestamp(seconds).map_or("?".into(), |at| at.date().to_string());
        let mut shown: Vec<&str> = self.names.iter().take(MAX_NAMES).map(String::as_str).collect();
        if self.names.len() > MAX_NAMES {
            shown.push("...");
        }
        write!(f, "\"{}\", issued by \"{}\", for {}", self.subject, self.issuer, shown.join(" "))?;
        write!(f, ", valid from {} to {}", day(self.not_before), day(self.not_after))
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::hex::Hex;

    #[test]
    fn facts_of_a_certificate() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(vec!["mx.example".into(), "*.example".into()]).unwrap();
        parameters.distinguished_name.push(rcgen::DnType::CommonName, "odd \u{1b}[2J name");
        parameters.not_after = rcgen::date_time_ymd(2031, 2, 3);
        let certificate = parameters.self_signed(&key).unwrap();
        let facts = read(certificate.der()).unwrap();
        // a remote's text cannot steer the terminal.
        assert_eq!((facts.subject.as_str(), &facts.issuer), ("odd ?[2J name", &facts.subject));
        assert_eq!(facts.names, ["mx.example", "*.example"]);
        assert_eq!((facts.not_after, facts.signature), (1_927_843_200, Digesting::Sound));
        assert_eq!(read(b"no certificate"), None);
        let told = line(&Presented::new(certificate.der()));
        let digest = Hex(&Sha256::digest(rcgen::PublicKeyData::subject_public_key_info(&key))).to_string();
        let begins = "\"odd ?[2J name\", issued by \"odd ?[2J name\", for mx.example *.example, valid from 1975-01-01 to 2031-02-03";
        assert!(told.starts_with(&format!("{begins}, key 3 1 1 {digest}, certificate 3 0 1 ")), "{told}");
        let junk = line(&Presented::new(b"junk"));
        assert!(junk.starts_with("a certificate that cannot be read, no readable key, certificate 3 0 1 "), "{junk}");
    }

    #[test]
    fn a_signature_that_is_weak() {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["mx.example".into()]).unwrap().self_signed(&key).unwrap();
        let mut der = certificate.der().to_vec();
        // sha256WithRSAEncryption, in the signed part and behind it, becomes sha1WithRSAEncryption.
        let sha256 = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b];
        let places: Vec<_> =
            der.windows(9).enumerate().filter(|(_, id)| *id == sha256).map(|(place, _)| place).collect();
        assert_eq!((read(&der).unwrap().signature, places.len()), (Digesting::Sound, 2));
        places.iter().for_each(|place| der[place + 8] = 0x05);
        assert_eq!(read(&der).unwrap().signature, Digesting::Weak);
    }
}
