//! What stands in a certificate, for people: who it is for, who issued it, how long it holds, and the digests that a TLSA
//! record would have. Nothing is decided by it.

use std::fmt;

use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use super::certificate::Certificate;
use super::{der, names};

/// The most names that are shown.
const MAX_NAMES: usize = 8;

/// The facts of one certificate. Its texts are made of printable ASCII.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The subject's last common name.
    pub subject: String,
    /// The issuer's last common name.
    pub issuer: String,
    /// The names that a client would look at (RFC 7672 §3.2.3).
    pub names: Vec<String>,
    /// The dates, both of them valid (RFC 5280 §4.1.2.5); `None` if they are beyond the calendar.
    pub not_before: Option<OffsetDateTime>,
    /// See `not_before`.
    pub not_after: Option<OffsetDateTime>,
    /// The digests as they would stand in a TLSA record.
    digests: Digests,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Digests {
    certificate: String,
    key: Option<String>,
}

/// Reads a certificate (DER); of one that cannot be read there are the digests alone.
pub fn facts(certificate: &[u8]) -> Result<Facts, String> {
    let digests = Digests {
        certificate: hex(&Sha256::digest(certificate)),
        key: der::spki(certificate).map(|key| hex(&Sha256::digest(key))),
    };
    let read = Certificate::read(certificate)
        .map_err(|malformed| format!("a certificate that cannot be read ({}); {digests}", malformed.0))?;
    let date = |seconds| OffsetDateTime::from_unix_timestamp(seconds).ok();
    let (not_before, not_after) = (date(read.not_before), date(read.not_after));
    Ok(Facts {
        subject: read.subject.to_string(),
        issuer: read.issuer.to_string(),
        names: names::presented(&read).into_iter().map(names::shown).collect(),
        not_before,
        not_after,
        digests,
    })
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let day = |date: Option<OffsetDateTime>| date.map_or("?".to_owned(), |date| date.date().to_string());
        let mut shown: Vec<&str> = self.names.iter().take(MAX_NAMES).map(String::as_str).collect();
        if self.names.len() > MAX_NAMES {
            shown.push("...");
        }
        write!(f, "\"{}\", issued by \"{}\", for {}", self.subject, self.issuer, shown.join(" "))?;
        write!(f, ", valid from {} to {}, {}", day(self.not_before), day(self.not_after), self.digests)
    }
}

impl fmt::Display for Digests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "key 3 1 1 {key}, certificate 3 0 1 {}", self.certificate),
            None => write!(f, "no readable key, certificate 3 0 1 {}", self.certificate),
        }
    }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02X}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_of_a_certificate() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(vec!["mx.example".to_owned(), "x.example".into()]).unwrap();
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        parameters.distinguished_name.push(rcgen::DnType::CommonName, "evil\u{1b}[2J");
        (parameters.not_before, parameters.not_after) =
            (rcgen::date_time_ymd(2026, 1, 1), rcgen::date_time_ymd(2027, 2, 3));
        let certificate = parameters.self_signed(&key).unwrap();
        let told = facts(certificate.der()).unwrap().to_string();
        let digest = hex(&Sha256::digest(rcgen::PublicKeyData::subject_public_key_info(&key)));
        //
        assert!(told.starts_with("\"evil?[2J\", issued by \"evil?[2J\", for mx.example x.example, valid from 2026-01-01 to 2027-02-03, key 3 1 1 "), "{told}");
        assert!(told.contains(&digest), "{told}");
        assert!(
            facts(b"junk").unwrap_err().starts_with("a certificate that cannot be read (structure); no readable key")
        );
    }
}
