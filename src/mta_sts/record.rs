//! The TXT records at `_mta-sts.<domain>` (RFC 8461 §3.1): whether the domain has a policy, and the id of its present one.

use std::fmt;

use super::text::trimmed;
use crate::name::{Name, NameError};

/// The start of each record that counts. Blanks may stand between it and the `;` behind it.
const VERSION: &[u8] = b"v=STSv1";
/// The key of the id.
const ID: &[u8] = b"id=";
/// The longest id (RFC 8461 §3.1).
const MAX_ID_OCTETS: usize = 32;

/// The id of a policy: 1 to 32 letters and digits. Ids are equal or they differ; no id is newer than another (RFC 8461 §3.1).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct StsId(Box<str>);

/// Why a text is no [`StsId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StsIdError {
    /// It is empty, or has more than 32 characters.
    #[error("an id has 1 to 32 characters, this one has {0}")]
    Length(usize),
    /// A character other than an ASCII letter or digit.
    #[error("an id has letters and digits only")]
    ForbiddenCharacter,
}

impl StsId {
    /// Reads an id.
    ///
    /// # Errors
    /// The octets are no id, for this reason.
    pub fn parse(octets: &[u8]) -> Result<Self, StsIdError> {
        if octets.is_empty() || octets.len() > MAX_ID_OCTETS {
            return Err(StsIdError::Length(octets.len()));
        }
        match str::from_utf8(octets) {
            Ok(text) if octets.iter().all(u8::is_ascii_alphanumeric) => Ok(Self(text.into())),
            _ => Err(StsIdError::ForbiddenCharacter),
        }
    }

    /// The id as the domain wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StsId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StsId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why the TXT records say nothing of a policy. A policy that is kept stays in force all the same (RFC 8461 §3.1).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoStsRecord {
    /// No record is one of MTA-STS.
    #[error("there is no record of MTA-STS")]
    Absent,
    /// More than one record of MTA-STS, which counts as none.
    #[error("there are {0} records of MTA-STS; one is allowed")]
    Several(usize),
    /// The record has no id.
    #[error("the record has no id")]
    NoId,
    /// The record has more than one id.
    #[error("the record has more than one id")]
    SeveralIds,
    /// The record has an id that is none.
    #[error("{0}")]
    BadId(#[from] StsIdError),
}

/// The name at which the TXT records of a domain's policy stand. The policy of a parent domain has no say (RFC 8461 §3.4).
///
/// # Errors
/// The result is no DNS name any more, so that the domain can have no policy.
pub fn record_owner(domain: &Name) -> Result<Name, NameError> {
    Name::parse(&format!("_mta-sts.{}", domain.as_str()))
}

/// The host that serves the policy of a domain (RFC 8461 §3.3).
///
/// # Errors
/// The result is no DNS name any more, so that the domain can have no policy.
pub fn policy_host(domain: &Name) -> Result<Name, NameError> {
    Name::parse(&format!("mta-sts.{}", domain.as_str()))
}

/// Reads the TXT records at the name; the strings of each are joined already (RFC 8461 §3.1).
///
/// # Errors
/// They name no policy, for this reason.
pub fn policy_id<'a>(texts: impl IntoIterator<Item = &'a [u8]>) -> Result<StsId, NoStsRecord> {
    let mut records = texts.into_iter().filter_map(fields);
    let Some(record) = records.next() else { return Err(NoStsRecord::Absent) };
    match records.count() {
        0 => id_of(record),
        more => Err(NoStsRecord::Several(more + 1)),
    }
}

/// The fields behind the version, if this is a record of MTA-STS.
fn fields(text: &[u8]) -> Option<&[u8]> {
    trimmed(text.strip_prefix(VERSION)?).strip_prefix(b";")
}

fn id_of(fields: &[u8]) -> Result<StsId, NoStsRecord> {
    // RFC 8461 §3.1: fields that are not known are ignored; the last `;` may be missing.
    let mut ids = fields.split(|octet| *octet == b';').filter_map(|field| trimmed(field).strip_prefix(ID));
    match (ids.next(), ids.next()) {
        (None, _) => Err(NoStsRecord::NoId),
        (Some(id), None) => Ok(StsId::parse(id)?),
        (Some(_), Some(_)) => Err(NoStsRecord::SeveralIds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(texts: &[&str]) -> Result<String, NoStsRecord> {
        policy_id(texts.iter().map(|text| text.as_bytes())).map(|id| id.to_string())
    }

    #[test]
    fn p1_one_record_that_starts_with_the_version() {
        // P1.
        use NoStsRecord::{Absent, Several};
        for (texts, expected) in [
            (&["v=STSv1; id=20260101T0;"][..], Ok("20260101T0")),
            (&["v=spf1 mx -all", "v=STSv1; id=a", "v=STSv2; id=b"], Ok("a")),
            (&["v=STSv1 \t;id=a"], Ok("a")),
            (&[], Err(Absent)),
            (&["google-site-verification=x"], Err(Absent)),
            // RFC 8461 §3.1: records that do not begin with the version are dropped.
            (&["v=STSv1"], Err(Absent)),
            (&["v=STSv1 id=a;"], Err(Absent)),
            (&["v=STSv10; id=a"], Err(Absent)),
            (&["v=STSv0; id=a"], Err(Absent)),
            (&["v=STSv1/; id=a"], Err(Absent)),
            (&["V=STSv1; id=a"], Err(Absent)),
            (&["v=stsv1; id=a"], Err(Absent)),
            (&[" v=STSv1; id=a"], Err(Absent)),
            (&["v =STSv1; id=a"], Err(Absent)),
            (&["id=a; v=STSv1;"], Err(Absent)),
            (&["\"v=STSv1; id=a\""], Err(Absent)),
            // Two are none, and so are two that are equal, or of which one has a fault.
            (&["v=STSv1; id=a", "v=STSv1; id=b"], Err(Several(2))),
            (&["v=STSv1; id=a", "v=STSv1; id=a", "v=STSv1;"], Err(Several(3))),
        ] {
            assert_eq!(read(texts), expected.map(str::to_owned), "{texts:?}");
        }
    }

    #[test]
    fn p2_the_id_has_1_to_32_letters_and_digits() {
        // P2.
        use NoStsRecord::{BadId, NoId, SeveralIds};
        let (longest, too_long) = ("9".repeat(32), "9".repeat(33));
        let bad = || Err(BadId(StsIdError::ForbiddenCharacter));
        for (fields, expected) in [
            (" id=1", Ok("1")),
            ("id=AbZ09", Ok("AbZ09")),
            ("\t id=a \t; \t", Ok("a")),
            (&format!("id={longest}"), Ok(longest.as_str())),
            // Fields that are not known are ignored, whatever they have in them.
            ("a=1; id=x; b=2;", Ok("x")),
            (" id=x; ID=y; Id=z; idx=w; x-id=v", Ok("x")),
            ("id=x;;", Ok("x")),
            ("id=x; =; \u{fc}=\0", Ok("x")),
            // Others take a fault in such a field for a fault of the record, and then ask for no policy.
            ("id=x; more=", Ok("x")),
            ("id=x; more==", Ok("x")),
            ("id=x; 1%=a", Ok("x")),
            (&format!("id=x; {}=1", "a".repeat(33)), Ok("x")),
            (" id=x   ", Ok("x")),
            ("", Err(NoId)),
            (" ; ", Err(NoId)),
            ("ID=x", Err(NoId)),
            ("id =x", Err(NoId)),
            ("id", Err(NoId)),
            ("id=", Err(BadId(StsIdError::Length(0)))),
            (&format!("id={too_long}"), Err(BadId(StsIdError::Length(33)))),
            ("id= x", bad()),
            ("id=a-b", bad()),
            ("id=a b", bad()),
            ("id=a=b", bad()),
            ("id=\u{fc}", bad()),
            ("id=\u{662}", bad()),
            ("id=a\0", bad()),
            ("id=a\n", bad()),
            ("id=x; id=y", Err(SeveralIds)),
            ("id=x; id=x", Err(SeveralIds)),
        ] {
            assert_eq!(read(&[&format!("v=STSv1;{fields}")]), expected.map(str::to_owned), "{fields:?}");
        }
        assert_eq!(policy_id([&b"v=STSv1; id=\xff"[..]]), Err(BadId(StsIdError::ForbiddenCharacter)));
    }

    #[test]
    fn p2_ids_are_equal_or_differ() {
        // P2.
        let id = |text: &str| StsId::parse(text.as_bytes()).unwrap();
        assert_eq!(id("20260101T0"), id("20260101T0"));
        assert_ne!(id("a"), id("A"));
        assert_ne!(id("1"), id("01"));
    }

    #[test]
    fn p3_the_names_of_a_domain() {
        // P3.
        let domain = Name::parse("Example.NET").unwrap();
        assert_eq!(record_owner(&domain).unwrap().as_str(), "_mta-sts.example.net");
        assert_eq!(policy_host(&domain).unwrap().as_str(), "mta-sts.example.net");
        let longest = Name::parse(&["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(53)].join(".")).unwrap();
        assert_eq!(record_owner(&longest), Err(NameError::TooLong));
        assert_eq!(policy_host(&longest).unwrap().as_str().len(), 253);
    }
}
