//! Between the DNS library's values and ours.
//!
//! A value that a later version of the library adds ends in a failure here: every match on its types has an arm for the
//! unknown, and none of those arms is an answer.

use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;
use std::time::{Duration, SystemTime};

use hickory_resolver::proto::dnssec::Nsec3HashAlgorithm;
use hickory_resolver::proto::dnssec::rdata::{DNSSECRData, DS, NSEC, NSEC3, RRSIG};
use hickory_resolver::proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::NULL;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::proto::serialize::binary::{BinDecodable, BinDecoder, BinEncodable, Restrict};

use super::super::budget::Budget;
use super::super::canonical::CanonicalName;
use super::super::message::{RawRecord, RawReply, end_of_name, labels};
use super::super::reply::{
    Data, DnsReply, DsSupport, Nsec, Nsec3, Nsec3Parameters, Presentation, Proof, Rcode, RrSet, Rtype, SeenSignatures,
    SignatureValidity, Traces, Types,
};
use super::super::{FailureReason, Mx, MxTarget, RawTlsa, RawTxt, Security};
use super::sets::{self, Section, Set, signature_data};
use crate::hex::Hex;
use crate::name::Name as ZoneName;

/// The octets of a reply as the library's message, with the needed records alone (see
/// [`message`](super::super::message)).
///
/// # Errors
/// It cannot be read, or holds more than any honest zone sends.
pub(super) fn message(octets: &[u8]) -> Result<Message, FailureReason> {
    let raw = RawReply::read(octets)?;
    let mut message = Message::new(0, MessageType::Response, OpCode::Query);
    message.metadata.response_code = raw.rcode.into();
    message.metadata.recursion_available = raw.flags.recursion_available();
    message.metadata.authentic_data = raw.flags.authentic_data();
    message.metadata.checking_disabled = raw.flags.checking_disabled();
    let decode = |records: Vec<RawRecord>| -> Result<Vec<Record>, FailureReason> {
        records.iter().map(|raw| record(octets, raw)).collect()
    };
    message.answers = decode(raw.answers)?;
    message.authorities = decode(raw.authorities)?;
    Ok(message)
}

/// Decodes a record. One that the library cannot decode keeps its octets, which a signature covers like any others; each
/// reader of its type decides how much it is worth. Without their data the types that answer by themselves are worth
/// nothing.
fn record(octets: &[u8], raw: &RawRecord) -> Result<Record, FailureReason> {
    let unreadable = |why: &dyn fmt::Display| FailureReason::Malformed(why.to_string());
    let rtype = RecordType::from(raw.rtype.0);
    let at = |place: usize, end: usize| -> Result<BinDecoder<'_>, FailureReason> {
        let place = u16::try_from(place).map_err(|error| unreadable(&error))?;
        Ok(BinDecoder::new(octets.get(..end).unwrap_or_default()).clone(place))
    };
    let owner = Name::read(&mut at(raw.owner, octets.len())?).map_err(|error| unreadable(&error))?;
    let length = u16::try_from(raw.rdata.len()).map_err(|error| unreadable(&error))?;
    let mut data = at(raw.rdata.start, raw.rdata.end)?;
    let mut read = |()| RData::read(&mut data, rtype, Restrict::new(length)).map_err(|error| unreadable(&error));
    let rdata = match short_names(octets, raw).and_then(&mut read) {
        Ok(rdata) => rdata,
        Err(error) => match rtype {
            RecordType::A | RecordType::AAAA | RecordType::MX | RecordType::CNAME | RecordType::SOA => {
                return Err(error);
            }
            code => {
                let octets = octets.get(raw.rdata.clone()).unwrap_or_default();
                // The library panics if `with` is given no octets.
                let rdata = if octets.is_empty() { NULL::new() } else { NULL::with(octets.to_vec()) };
                RData::Unknown { code, rdata }
            }
        },
    };
    Ok(Record::from_rdata(owner, raw.ttl, rdata))
}

/// Whether the names in the data of a record can be read with few steps: the library counts no pointers, and follows them in
/// types too that must not compress a name (RFC 3597 §4).
fn short_names(octets: &[u8], raw: &RawRecord) -> Result<(), FailureReason> {
    let start = raw.rdata.start;
    let name = match RecordType::from(raw.rtype.0) {
        RecordType::NS | RecordType::CNAME | RecordType::PTR | RecordType::NSEC => start,
        RecordType::MX => start + 2,
        RecordType::SRV => start + 6,
        RecordType::RRSIG => start + 18,
        RecordType::SOA => {
            labels(octets, start)?;
            end_of_name(octets, start)?
        }
        _ => return Ok(()),
    };
    labels(octets, name).map(drop)
}

/// The parts of a reply that matter for a verdict. `prove` gives the proof for each record set.
///
/// # Errors
/// A response code that is no answer, or records that cannot be read.
pub(super) fn reply(
    message: &Message,
    mut prove: impl FnMut(Section, &Set<'_>) -> Proof,
) -> Result<DnsReply, FailureReason> {
    let rcode = rcode(message)?;
    let mut read = |section, records| -> Result<Vec<RrSet>, FailureReason> {
        let sets = sets::group(records).into_iter().map(|set| {
            let records = distinct(set.records.iter().map(|record| data(&record.data)))?;
            let (owner, rtype) = (canonical(set.owner), Rtype(set.rtype.into()));
            Ok(RrSet { owner, rtype, proof: prove(section, &set), records })
        });
        sets.collect()
    };
    let answers = read(Section::Answer, &message.answers)?;
    let authorities = read(Section::Authority, &message.authorities)?;
    Ok(DnsReply { rcode, answers, authorities, ttl: least_ttl(message) })
}

/// The response code of a reply.
///
/// # Errors
/// It is none of an answer.
pub(super) fn rcode(message: &Message) -> Result<Rcode, FailureReason> {
    match message.metadata.response_code {
        ResponseCode::NoError => Ok(Rcode::NoError),
        ResponseCode::NXDomain => Ok(Rcode::NxDomain),
        other => Err(FailureReason::Refused(rcode_name(other))),
    }
}

/// The records of a set, each once: a record that comes twice is one (RFC 2181 §5).
fn distinct(all: impl Iterator<Item = Result<Data, FailureReason>>) -> Result<Vec<Data>, FailureReason> {
    let (mut seen, mut records) = (HashSet::new(), Vec::new());
    for data in all {
        let data = data?;
        if seen.insert(data.clone()) {
            records.push(data);
        }
    }
    Ok(records)
}

/// The proof for a set that is not to be validated.
fn unvalidated(_: Section, _: &Set<'_>) -> Proof {
    Proof::Unproven("not validated here")
}

/// A reply of a resolver that validates for us, and the security by its AD bit: every record in it is secure, or else
/// one at least is not (RFC 4035 §3.2.3, RFC 6840 §5.8).
///
/// # Errors
/// As [`reply`]; or another bit shows that the AD bit does not have its meaning here.
pub(in super::super) fn vouched(octets: &[u8]) -> Result<(DnsReply, Security), FailureReason> {
    let message = message(octets)?;
    let reply = reply(&message, unvalidated)?;
    if !message.metadata.recursion_available {
        return Err(FailureReason::malformed("the server is no recursive resolver"));
    }
    // RFC 6840 §5.9: with CD the data may not have been validated. It was not asked for.
    if message.metadata.checking_disabled {
        return Err(FailureReason::malformed("the server says that it has not validated"));
    }
    Ok((reply, if message.metadata.authentic_data { Security::Secure } else { Security::Insecure }))
}

/// A reply of which nothing is to be validated.
///
/// # Errors
/// As [`reply`].
pub(in super::super) fn as_it_is(octets: &[u8]) -> Result<DnsReply, FailureReason> {
    reply(&message(octets)?, unvalidated)
}

/// The DNSSEC records of an unvalidated reply, for the report of why it proves no answer.
///
/// # Errors
/// The reply cannot be read, or is an error by itself.
pub(in super::super) fn traces(octets: &[u8]) -> Result<Traces, FailureReason> {
    let message = message(octets)?;
    reply(&message, unvalidated)?;
    let records = || message.answers.iter().chain(&message.authorities);
    let signatures = records().filter_map(signature_data).map(validity);
    let denies = |record: &Record| matches!(record.record_type(), RecordType::NSEC | RecordType::NSEC3);
    Ok(Traces { signatures: signatures.collect(), denials: records().any(denies) })
}

/// The signatures of the answer. Of several over one set, as in the midst of a change of keys, the one that ends last counts.
///
/// # Errors
/// The reply cannot be read, or is an error by itself.
pub(in super::super) fn seen_signatures(octets: &[u8]) -> Result<Option<SeenSignatures>, FailureReason> {
    let message = message(octets)?;
    reply(&message, unvalidated)?;
    let (now, mut zones) = (unix_time(), Vec::new());
    let mut validities = Vec::new();
    for set in sets::group(&message.answers) {
        let last = set.signatures.iter().max_by_key(|rrsig| validity(rrsig).left(now));
        let Some(rrsig) = last else { continue };
        validities.push(validity(rrsig));
        let signer = &rrsig.input().signer_name;
        let zone = ZoneName::parse(&canonical(signer).to_string()).ok().filter(|_| signer.zone_of(set.owner));
        zones.extend(zone.filter(|zone| !zones.contains(zone)));
    }
    let first = validities.into_iter().min_by_key(|validity| validity.left(now));
    Ok(first.map(|first| SeenSignatures { first, zones }))
}

fn validity(rrsig: &RRSIG) -> SignatureValidity {
    let input = rrsig.input();
    SignatureValidity {
        inception: input.sig_inception.get(),
        expiration: input.sig_expiration.get(),
        original_ttl: input.original_ttl,
    }
}

/// How long the reply holds: the least TTL of its records, none of which outlives the end of a signature that came with
/// them or the signature's own TTL (RFC 4035 §5.3.3). A resolver that validates for us may not have cut them.
pub(super) fn least_ttl(message: &Message) -> Duration {
    let now = unix_time();
    let ttl = |record: &Record| match &record.data {
        // RFC 2308 §5.
        RData::SOA(soa) => record.ttl.min(soa.minimum),
        RData::DNSSEC(DNSSECRData::RRSIG(rrsig)) => {
            let input = rrsig.input();
            // RFC 4034 §3.1.5: the difference is one of serial numbers. An expired signature is not the one that
            // verified the set.
            let rest = input.sig_expiration.get().wrapping_sub(now);
            let rest = if i32::try_from(rest).is_ok() { rest } else { record.ttl };
            record.ttl.min(input.original_ttl).min(rest)
        }
        _ => record.ttl,
    };
    let least = message.answers.iter().chain(&message.authorities).map(ttl).min();
    Duration::from_secs(least.unwrap_or(0).into())
}

/// The time as signatures count it: seconds since 1970, modulo 2^32 (RFC 4034 §3.1.5).
pub(in super::super) fn unix_time() -> u32 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    (since.as_secs() & u64::from(u32::MAX)) as u32
}

pub(super) fn data(rdata: &RData) -> Result<Data, FailureReason> {
    Ok(match rdata {
        RData::MX(mx) => Data::Mx(Mx { preference: mx.preference, target: mx_target(&canonical(&mx.exchange)) }),
        RData::A(address) => Data::Address(address.0.into()),
        RData::AAAA(address) => Data::Address(address.0.into()),
        RData::TLSA(tlsa) => {
            let octets = tlsa.to_bytes().map_err(|error| FailureReason::Malformed(error.to_string()))?;
            Data::Tlsa(RawTlsa(octets))
        }
        RData::TXT(txt) => Data::Txt(RawTxt(txt.txt_data.concat()), Presentation::of(txt)),
        RData::CNAME(target) => Data::Alias(canonical(&target.0)),
        RData::DNSSEC(DNSSECRData::DS(ds)) => Data::Ds(ds_support(ds), Presentation::of(ds)),
        RData::DNSSEC(DNSSECRData::NSEC(nsec)) => Data::Nsec(nsec_data(nsec)),
        RData::DNSSEC(DNSSECRData::NSEC3(nsec3)) => Data::Nsec3(nsec3_data(nsec3)),
        RData::Unknown { code, rdata } => unknown(*code, &rdata.anything)?,
        other => Data::Other(Presentation::of(other)),
    })
}

/// The data of a record that the library does not read.
fn unknown(code: RecordType, rdata: &[u8]) -> Result<Data, FailureReason> {
    // RFC 3597 §5.
    let text = || Presentation::new(&format!("\\# {} {}", rdata.len(), Hex(rdata)));
    Ok(match code {
        RecordType::DNAME => Data::Alias(dname_target(rdata)?),
        // RFC 6698 §4.1: the octets say by themselves that the record is not usable.
        RecordType::TLSA => Data::Tlsa(RawTlsa(rdata.to_vec())),
        // RFC 4035 §5.2: a delegation by such a record alone cannot be followed.
        RecordType::DS => Data::Ds(DsSupport::Unsupported, text()),
        // RFC 4034 §2.1.2, RFC 5155 §8.1: a key with another protocol, and a denial with an unknown hash, are ignored.
        _ => Data::Other(text()),
    })
}

fn mx_target(exchange: &CanonicalName) -> MxTarget {
    match exchange.to_name() {
        Ok(name) if name.is_root() => MxTarget::Root,
        Ok(name) => MxTarget::Host(name),
        Err(_) => MxTarget::Invalid(exchange.to_string()),
    }
}

/// Whether a delegation by this record can be followed.
pub(super) fn ds_support(ds: &DS) -> DsSupport {
    if ds.algorithm().is_supported() && ds.digest_type().is_supported() {
        DsSupport::Supported
    } else {
        DsSupport::Unsupported
    }
}

fn nsec_data(nsec: &NSEC) -> Nsec {
    Nsec { next: canonical(nsec.next_domain_name()), types: types(nsec.type_bit_maps()) }
}

fn nsec3_data(nsec3: &NSEC3) -> Nsec3 {
    // RFC 5155 §11: SHA-1 is the only hash algorithm; the library reads no other.
    let Nsec3HashAlgorithm::SHA1 = nsec3.hash_algorithm();
    Nsec3 {
        opt_out: nsec3.opt_out(),
        parameters: Nsec3Parameters { iterations: nsec3.iterations(), salt: nsec3.salt().to_vec() },
        next: nsec3.next_hashed_owner_name().to_vec(),
        types: types(nsec3.type_bit_maps()),
    }
}

fn types(types: impl Iterator<Item = RecordType>) -> Types {
    Types(types.map(u16::from).collect())
}

/// The library does not read DNAME records. Their target is a name that is never compressed (RFC 3597 §4).
fn dname_target(rdata: &[u8]) -> Result<CanonicalName, FailureReason> {
    let malformed = || FailureReason::Malformed("a DNAME record that cannot be read".to_owned());
    let (mut labels, mut rest) = (Vec::new(), rdata);
    loop {
        let (&length, after) = rest.split_first().ok_or_else(malformed)?;
        match (usize::from(length), after) {
            (0, []) => return Ok(CanonicalName::from_labels(labels.into_iter())),
            (1..=63, _) => {
                let (label, after) = after.split_at_checked(usize::from(length)).ok_or_else(malformed)?;
                labels.push(label);
                rest = after;
            }
            _ => return Err(malformed()),
        }
    }
}

pub(super) fn canonical(name: &Name) -> CanonicalName {
    CanonicalName::from_labels(name.iter())
}

/// The name as the library has it.
///
/// # Errors
/// It is too long, which a name that came out of a reply never is.
pub(super) fn library_name(name: &CanonicalName) -> Result<Name, FailureReason> {
    let mut name = Name::from_labels(name.labels()).map_err(|_| FailureReason::NameTooLong)?;
    name.set_fqdn(true);
    Ok(name)
}

/// The hash of RFC 5155 §5, for as long as the budget pays for it.
pub(super) fn hasher(left: &Cell<Budget>) -> impl Fn(&CanonicalName, &Nsec3Parameters) -> Option<Vec<u8>> {
    |name, parameters| {
        let mut budget = left.get();
        let affordable = budget.spend_hash(parameters.iterations);
        left.set(budget);
        let name = library_name(name).ok().filter(|_| affordable)?;
        let digest = Nsec3HashAlgorithm::SHA1.hash(&parameters.salt, &name, parameters.iterations).ok()?;
        Some(digest.as_ref().to_vec())
    }
}

/// The name of an RCODE (RFC 1035 §4.1.1), by which operators search.
fn rcode_name(code: ResponseCode) -> String {
    match code {
        ResponseCode::FormErr => "FORMERR".to_owned(),
        ResponseCode::ServFail => "SERVFAIL".to_owned(),
        ResponseCode::NotImp => "NOTIMP".to_owned(),
        ResponseCode::Refused => "REFUSED".to_owned(),
        other => format!("{other} (RCODE {})", u16::from(other)),
    }
}

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::dnssec::Algorithm;
    use hickory_resolver::proto::dnssec::rdata::sig::SigInput;
    use hickory_resolver::proto::op::Query;
    use hickory_resolver::proto::rr::SerialNumber;
    use hickory_resolver::proto::rr::rdata::{A, CNAME};

    use super::super::super::links::{Link, Question, judge};
    use super::*;

    /// What comes of one record of this type at the asked name `z`.
    fn read(rtype: Rtype, rdata: &[u8]) -> Result<Vec<Data>, FailureReason> {
        let mut octets = vec![0, 0, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0, 1, b'z', 0];
        octets.extend(rtype.0.to_be_bytes());
        octets.extend([0, 1, 0xc0, 12]);
        octets.extend(rtype.0.to_be_bytes());
        octets.extend([0, 1, 0, 0, 1, 0]);
        octets.extend(u16::try_from(rdata.len()).unwrap().to_be_bytes());
        octets.extend(rdata);
        let reply = reply(&message(&octets)?, unvalidated)?;
        Ok(reply.answers.into_iter().flat_map(|set| set.records).collect())
    }

    /// A reply to the question for the A records of `z`. It has one record of this type in this section, at that name.
    fn with_foreign(section: Section, rtype: u16, rdata: &[u8]) -> Vec<u8> {
        let (answers, authorities) = match section {
            Section::Answer => (1, 0),
            Section::Authority => (0, 1),
        };
        let mut octets =
            vec![0, 0, 0x81, 0x80, 0, 1, 0, answers, 0, authorities, 0, 0, 1, b'z', 0, 0, 1, 0, 1, 0xc0, 12];
        octets.extend(rtype.to_be_bytes());
        octets.extend([0, 1, 0, 0, 1, 0]);
        octets.extend(u16::try_from(rdata.len()).unwrap().to_be_bytes());
        octets.extend(rdata);
        octets
    }

    #[test]
    fn a_record_of_any_type_can_be_told_and_denies_nothing() {
        // OPT and others have no text in the library, and it panics where they are written.
        let long: Vec<u8> = (0..60).collect();
        for rtype in (0..=u16::MAX).filter(|rtype| ![5, 6, 39, 47, 50].contains(rtype)) {
            for section in [Section::Answer, Section::Authority] {
                for rdata in [&[][..], &[0, 1, 0, 0], &[1, b'a', 0, 0, 1, 0, 1, 1, 1, 1, 1, 1], &long] {
                    let Ok(message) = message(&with_foreign(section, rtype, rdata)) else { continue };
                    let reply = reply(&message, unvalidated).unwrap();
                    let sets = || reply.answers.iter().chain(&reply.authorities);
                    let told: String = sets().flat_map(|set| &set.records).map(ToString::to_string).collect();
                    assert!(!told.contains(char::is_control), "{rtype}: {told:?}");
                    let question = Question { name: canonical(&Name::from_ascii("z.").unwrap()), rtype: Rtype::A };
                    let link = judge(&question, &reply, &|_, _| None);
                    let denies = matches!(link, Ok(Link::Denied(..)));
                    assert!(!denies || sets().count() == 0 || rtype == 46, "{rtype} in {section:?}: {link:?}");
                }
            }
        }
    }

    #[test]
    fn long_ways_through_pointers_are_not_gone() {
        // A name behind 2,000 pointers, one after the other. A reader that counts no pointers follows all of them.
        let mut octets = with_foreign(Section::Authority, 46, &[0; 18]);
        let first = octets.len();
        octets.extend([0, 0]);
        for place in (first..first + 4000).step_by(2) {
            octets.extend((0xc000 | u16::try_from(place).unwrap()).to_be_bytes());
        }
        let (name, end) = (octets.len() - 2, octets.len());
        // In front of the second name of a SOA record stands the first, the root here.
        for (rtype, before) in [(2, 0), (15, 2), (33, 6), (46, 18), (47, 0), (6, 0), (6, 1)] {
            let mut octets = octets.clone();
            octets.extend(std::iter::repeat_n(0, before));
            octets.extend((0xc000 | u16::try_from(name).unwrap()).to_be_bytes());
            let mut raw = RawReply::read(&with_foreign(Section::Authority, 1, &[0; 4])).unwrap().authorities.remove(0);
            (raw.rtype, raw.rdata) = (Rtype(rtype), end..octets.len());
            assert!(short_names(&octets, &raw).is_err(), "{rtype}");
        }
    }

    #[test]
    fn a_record_that_cannot_be_read_is_unusable_or_a_failure() {
        for (rtype, rdata) in [
            (Rtype::A, &[192, 0, 2][..]),
            (Rtype::A, &[192, 0, 2, 1, 9]),
            (Rtype::A, &[]),
            (Rtype::AAAA, &[1; 15]),
            (Rtype::MX, &[0]),
            (Rtype::MX, &[0, 1, 64]),
            (Rtype::CNAME, &[1]),
            (Rtype::SOA, &[0, 0, 1]),
            (Rtype::DNAME, &[1]),
        ] {
            assert!(matches!(read(rtype, rdata), Err(FailureReason::Malformed(_))), "{rtype} {rdata:?}");
        }
        let tlsa = |octets: &[u8]| Ok(vec![Data::Tlsa(RawTlsa(octets.to_vec()))]);
        for octets in [&[][..], &[3, 1], &[3, 1, 1], &[3, 1, 1, 9]] {
            assert_eq!(read(Rtype::TLSA, octets), tlsa(octets));
        }
        let text = |text: &str| Presentation::new(text);
        let txt = |octets: &[u8], shown| Ok(vec![Data::Txt(RawTxt(octets.to_vec()), text(shown))]);
        assert_eq!(read(Rtype::TXT, b"\x03v=S\x00\x06TSv1;a"), txt(b"v=STSv1;a", "v=STSv1;a"));
        assert_eq!(read(Rtype::TXT, b"\x02\xff\n"), txt(b"\xff\n", "\u{fffd}\\n"));
        // Data that is cut short is no text.
        assert_eq!(read(Rtype::TXT, b"\x09v=STSv1"), Ok(vec![Data::Other(text("\\# 8 09763D5354537631"))]));
        let ds = vec![Data::Ds(DsSupport::Unsupported, text("\\# 3 010113"))];
        assert_eq!(read(Rtype::DS, &[1, 1, 0x13]), Ok(ds));
        assert_eq!(read(Rtype::DNSKEY, &[1, 1, 2, 13, 9]), Ok(vec![Data::Other(text("\\# 5 0101020D09"))]));
        assert_eq!(read(Rtype::NSEC3, &[2, 0, 0, 0, 0, 0]), Ok(vec![Data::Other(text("\\# 6 020000000000"))]));
    }

    #[test]
    fn of_the_signatures_over_a_set_the_last_to_end_counts_and_of_sets_the_first() {
        let name = |text: &str| Name::from_ascii(text).unwrap();
        let record = |owner: &str, rdata| Record::from_rdata(name(owner), 60, rdata);
        let alias = |owner, target| record(owner, RData::CNAME(CNAME(name(target))));
        let address = |owner| record(owner, RData::A(A::new(192, 0, 2, 1)));
        let signature = |owner: &str, type_covered, signer: &str, left: u32| {
            let input = SigInput {
                type_covered,
                algorithm: Algorithm::ECDSAP256SHA256,
                num_labels: 2,
                original_ttl: 60,
                sig_expiration: SerialNumber::from(unix_time() + left),
                sig_inception: SerialNumber::from(unix_time() - 60),
                key_tag: 1,
                signer_name: name(signer),
            };
            record(owner, RData::DNSSEC(DNSSECRData::RRSIG(RRSIG::from_sig(input, vec![1; 64]))))
        };
        let (a, cname) = (RecordType::A, RecordType::CNAME);
        let over_a = |signer, left| signature("h.a.example.", a, signer, left);
        let over_alias = |left| signature("h.a.example.", cname, "example.", left);
        let aliased = || vec![alias("h.a.example.", "x.example."), address("h.a.example.")];
        let with = |mut records: Vec<Record>, more: Vec<Record>| {
            records.extend(more);
            records
        };
        for (answers, expected) in [
            (vec![], None),
            (aliased(), None),
            (with(aliased(), vec![over_a("a.example.", 900)]), Some((900, vec!["a.example"]))),
            (
                with(aliased(), vec![over_a("a.example.", 900), over_a("a.example.", 300)]),
                Some((900, vec!["a.example"])),
            ),
            (
                with(aliased(), vec![over_a("a.example.", 900), over_alias(300)]),
                Some((300, vec!["example", "a.example"])),
            ),
            (
                with(aliased(), vec![over_a("a.example.", 300), over_alias(900)]),
                Some((300, vec!["example", "a.example"])),
            ),
            // A signature by a zone without the record in it, and by the root, which is no domain of mail.
            (with(aliased(), vec![over_a("c.example.", 900)]), Some((900, vec![]))),
            (with(aliased(), vec![over_a(".", 900)]), Some((900, vec![]))),
            // Over no record of the answer.
            (with(aliased(), vec![signature("x.a.example.", a, "a.example.", 9)]), None),
        ] {
            let mut message = Message::new(0, MessageType::Response, OpCode::Query);
            message.add_query(Query::query(name("h.a.example."), a));
            message.answers = answers;
            let seen = seen_signatures(&message.to_vec().unwrap()).unwrap();
            let seen = seen.map(|seen| {
                let zones = seen.zones.iter().map(ToString::to_string).collect::<Vec<_>>();
                // The clock may have gone on by seconds.
                ((seen.first.left(unix_time()) + 50) / 100 * 100, zones)
            });
            let expected =
                expected.map(|(left, zones)| (left, zones.into_iter().map(str::to_owned).collect::<Vec<_>>()));
            assert_eq!(seen, expected);
        }
    }
}
