//! A reply of an authoritative server, as far as the way to the next server depends on it.
//!
//! A stranger writes these octets: [`RawSections`] bounds the records by the length of the message, and no more of them are
//! read here than any honest server needs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::super::FailureReason;
use super::super::canonical::CanonicalName;
use super::super::message::{RawRecord, RawSections, labels};
use super::super::reply::{Rcode, Rtype};

/// The most records of one section that the way to the next server may depend on.
const MAX_OF_SECTION: usize = 256;

/// A reply as it came, read and not judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AuthorityReply {
    /// The response code; an error by its name.
    pub(super) rcode: Result<Rcode, String>,
    pub(super) authority: ReplyAuthority,
    pub(super) answers: Vec<PlainRecord>,
    pub(super) authorities: Vec<PlainRecord>,
    pub(super) additionals: Vec<PlainRecord>,
}

/// The source of the data in a reply, by its AA and RA bits (RFC 1035 §4.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReplyAuthority {
    /// AA is set: the server has the data itself.
    Authoritative,
    /// AA and RA are clear. The server does not recurse, so it has the data from no other server. Some servers never set AA.
    Unmarked,
    /// AA is clear, and RA is set: the data may be of another server.
    Recursive,
}

/// A record, as far as the way to the next server depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PlainRecord {
    pub(super) owner: CanonicalName,
    pub(super) rtype: Rtype,
    pub(super) ttl: Duration,
    pub(super) data: PlainData,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PlainData {
    /// The name in an NS or CNAME record.
    Name(CanonicalName),
    Address(IpAddr),
    Other,
}

impl AuthorityReply {
    /// Reads a reply, and validates nothing.
    ///
    /// # Errors
    /// It cannot be read, or is truncated.
    pub(super) fn read(octets: &[u8]) -> Result<Self, FailureReason> {
        let raw = RawSections::read(octets)?;
        let rcode = match raw.rcode {
            0 => Ok(Rcode::NoError),
            3 => Ok(Rcode::NxDomain),
            other => Err(error_name(other)),
        };
        Ok(Self {
            rcode,
            authority: match (raw.flags.authoritative(), raw.flags.recursion_available()) {
                (true, _) => ReplyAuthority::Authoritative,
                (false, false) => ReplyAuthority::Unmarked,
                (false, true) => ReplyAuthority::Recursive,
            },
            answers: plain(octets, &raw.answers)?,
            authorities: plain(octets, &raw.authorities)?,
            additionals: plain(octets, &raw.additionals)?,
        })
    }
}

/// The name of an RCODE that is an error (RFC 1035 §4.1.1), by which operators search.
fn error_name(code: u16) -> String {
    match code {
        1 => "FORMERR".to_owned(),
        2 => "SERVFAIL".to_owned(),
        4 => "NOTIMP".to_owned(),
        5 => "REFUSED".to_owned(),
        other => format!("RCODE {other}"),
    }
}

fn plain(octets: &[u8], records: &[RawRecord]) -> Result<Vec<PlainRecord>, FailureReason> {
    let records = records.iter().filter(|record| record.is_of_internet()).take(MAX_OF_SECTION);
    records.map(|record| plain_record(octets, record)).collect()
}

fn plain_record(octets: &[u8], record: &RawRecord) -> Result<PlainRecord, FailureReason> {
    let rdata = octets.get(record.rdata.clone()).unwrap_or_default();
    let data = match record.rtype {
        Rtype::NS | Rtype::CNAME => PlainData::Name(name(octets, record.rdata.start)?),
        Rtype::A => <[u8; 4]>::try_from(rdata)
            .map_or(PlainData::Other, |octets| PlainData::Address(IpAddr::V4(Ipv4Addr::from(octets)))),
        Rtype::AAAA => <[u8; 16]>::try_from(rdata)
            .map_or(PlainData::Other, |octets| PlainData::Address(IpAddr::V6(Ipv6Addr::from(octets)).to_canonical())),
        _ => PlainData::Other,
    };
    let (owner, ttl) = (name(octets, record.owner)?, Duration::from_secs(record.ttl.into()));
    Ok(PlainRecord { owner, rtype: record.rtype, ttl, data })
}

fn name(octets: &[u8], place: usize) -> Result<CanonicalName, FailureReason> {
    Ok(CanonicalName::from_labels(labels(octets, place)?.into_iter()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &[u8] = b"\x01a\x04test\x00";

    /// A reply about `a.test`, with these records, as type and RDATA, of the asked name in the additional section.
    fn reply(records: &[(u16, &[u8])]) -> Vec<u8> {
        let count = u16::try_from(records.len()).unwrap().to_be_bytes();
        let mut octets = [&[0, 0, 0x84, 0, 0, 1, 0, 0, 0, 0], &count[..], NAME, &[0, 1, 0, 1]].concat();
        for (rtype, rdata) in records {
            octets.extend([&[0xc0, 12], &rtype.to_be_bytes()[..], &[0, 1, 0, 0, 1, 0]].concat());
            octets.extend(u16::try_from(rdata.len()).unwrap().to_be_bytes());
            octets.extend(*rdata);
        }
        octets
    }

    #[test]
    fn addresses_and_names_are_read_and_others_passed_over() {
        let mapped = [&[0; 10][..], &[0xff, 0xff, 10, 0, 0, 1]].concat();
        let found = AuthorityReply::read(&reply(&[
            (1, &[192, 0, 2, 1]),
            (28, &mapped),
            (1, &[192, 0, 2]),
            (2, &[2, b'n', b'S', 0xc0, 14]),
            (46, &[]),
        ]))
        .unwrap();
        let data: Vec<PlainData> = found.additionals.into_iter().map(|record| record.data).collect();
        let address = |text: &str| PlainData::Address(text.parse().unwrap());
        let server = PlainData::Name(CanonicalName::from_labels([&b"ns"[..], b"test"].into_iter()));
        assert_eq!(data, [address("192.0.2.1"), address("10.0.0.1"), PlainData::Other, server, PlainData::Other]);
        assert_eq!((found.authority, found.rcode), (ReplyAuthority::Authoritative, Ok(Rcode::NoError)));
    }

    #[test]
    fn a_reply_is_read_up_to_a_bound_and_no_pointer_leads_round() {
        let many = vec![(1, &[192, 0, 2, 1][..]); 3000];
        assert_eq!(AuthorityReply::read(&reply(&many)).unwrap().additionals.len(), MAX_OF_SECTION);
        assert!(AuthorityReply::read(&reply(&[(2, &[0xc0, 37])])).is_err());
        let mut refused = reply(&[]);
        refused[3] |= 5;
        assert_eq!(AuthorityReply::read(&refused).unwrap().rcode, Err("REFUSED".to_owned()));
        refused[2] |= 2;
        assert!(AuthorityReply::read(&refused).is_err(), "truncated");
    }
}
