//! Between the DNS library's values and ours.
//!
//! A value that a later version of the library adds ends in a failure here: every match on its types has an arm for the
//! unknown, and none of those arms is an answer.

use std::cell::Cell;
use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::dnssec::Nsec3HashAlgorithm;
use hickory_resolver::proto::dnssec::rdata::{DNSSECRData, DS, NSEC, NSEC3, RRSIG};
use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_resolver::proto::serialize::binary::BinEncodable;

use super::super::budget::Budget;
use super::super::canonical::CanonicalName;
use super::super::reply::{
    Data, DnsReply, DsSupport, Nsec, Nsec3, Nsec3Parameters, Presentation, Proof, Rcode, RrSet, Rtype,
    SignatureValidity, Traces, Types,
};
use super::super::{FailureReason, Mx, MxTarget, RawTlsa, Security};
use super::sets::{self, Section, Set, signature_data};

/// The parts of a reply that matter for a verdict. `prove` gives the proof for each record set.
///
/// # Errors
/// A response code that is no answer, a truncated message, or records that cannot be read.
pub(super) fn reply(
    message: &Message,
    mut prove: impl FnMut(Section, &Set<'_>) -> Proof,
) -> Result<DnsReply, FailureReason> {
    // RFC 2181 §9: a truncated reply is no answer; above all it is not "no data".
    if message.metadata.truncation {
        return Err(malformed("truncated"));
    }
    let rcode = match message.metadata.response_code {
        ResponseCode::NoError => Rcode::NoError,
        ResponseCode::NXDomain => Rcode::NxDomain,
        other => return Err(FailureReason::Refused(rcode_name(other))),
    };
    if message.answers.iter().chain(&message.authorities).any(|record| record.dns_class != DNSClass::IN) {
        return Err(malformed("records of another class"));
    }
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

fn malformed(why: &str) -> FailureReason {
    FailureReason::Malformed(why.to_owned())
}

/// A reply of a resolver that validates for us, and the security by its AD bit: every record in it is secure, or else
/// one at least is not (RFC 4035 §3.2.3, RFC 6840 §5.8).
///
/// # Errors
/// As [`reply`]; or another bit shows that the AD bit does not have its meaning here.
pub(in super::super) fn vouched(octets: &[u8]) -> Result<(DnsReply, Security), FailureReason> {
    let message = Message::from_vec(octets).map_err(|error| FailureReason::Malformed(error.to_string()))?;
    let reply = reply(&message, unvalidated)?;
    if !message.metadata.recursion_available {
        return Err(malformed("the server is no recursive resolver"));
    }
    // RFC 6840 §5.9: with CD the data may not have been validated. It was not asked for.
    if message.metadata.checking_disabled {
        return Err(malformed("the server says that it has not validated"));
    }
    Ok((reply, if message.metadata.authentic_data { Security::Secure } else { Security::Insecure }))
}

/// The DNSSEC records of an unvalidated reply, for the report of why it proves no answer.
///
/// # Errors
/// The reply cannot be read, or is an error by itself.
pub(in super::super) fn traces(octets: &[u8]) -> Result<Traces, FailureReason> {
    let message = Message::from_vec(octets).map_err(|error| FailureReason::Malformed(error.to_string()))?;
    reply(&message, unvalidated)?;
    let records = || message.answers.iter().chain(&message.authorities);
    let signatures = records().filter_map(signature_data).map(validity);
    let denies = |record: &Record| matches!(record.record_type(), RecordType::NSEC | RecordType::NSEC3);
    Ok(Traces { signatures: signatures.collect(), denials: records().any(denies) })
}

/// The signature of the answer that ends first. Of several over one set, as in the midst of a change of keys, the one that
/// ends last counts.
///
/// # Errors
/// The reply cannot be read, or is an error by itself.
pub(in super::super) fn first_to_end(octets: &[u8]) -> Result<Option<SignatureValidity>, FailureReason> {
    let message = Message::from_vec(octets).map_err(|error| FailureReason::Malformed(error.to_string()))?;
    reply(&message, unvalidated)?;
    let now = unix_time();
    let left = |validity: &SignatureValidity| validity.left(now);
    let sets = sets::group(&message.answers).into_iter();
    Ok(sets.filter_map(|set| set.signatures.into_iter().map(validity).max_by_key(left)).min_by_key(left))
}

fn validity(rrsig: &RRSIG) -> SignatureValidity {
    let input = rrsig.input();
    SignatureValidity { inception: input.sig_inception.get(), expiration: input.sig_expiration.get() }
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

fn data(rdata: &RData) -> Result<Data, FailureReason> {
    Ok(match rdata {
        RData::MX(mx) => Data::Mx(Mx { preference: mx.preference, target: mx_target(&canonical(&mx.exchange)) }),
        RData::A(address) => Data::Address(address.0.into()),
        RData::AAAA(address) => Data::Address(address.0.into()),
        RData::TLSA(tlsa) => {
            let octets = tlsa.to_bytes().map_err(|error| FailureReason::Malformed(error.to_string()))?;
            Data::Tlsa(RawTlsa(octets))
        }
        RData::CNAME(target) => Data::Alias(canonical(&target.0)),
        RData::DNSSEC(DNSSECRData::DS(ds)) => Data::Ds(ds_support(ds), Presentation::new(&ds.to_string())),
        RData::DNSSEC(DNSSECRData::NSEC(nsec)) => Data::Nsec(nsec_data(nsec)),
        RData::DNSSEC(DNSSECRData::NSEC3(nsec3)) => Data::Nsec3(nsec3_data(nsec3)),
        RData::Unknown { code: RecordType::DNAME, rdata } => Data::Alias(dname_target(&rdata.anything)?),
        other => Data::Other(Presentation::new(&other.to_string())),
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

/// Why there was no reply.
pub(super) fn failure(error: &NetError) -> FailureReason {
    match error {
        NetError::Timeout => FailureReason::Timeout,
        NetError::Dns(DnsError::ResponseCode(code)) => FailureReason::Refused(rcode_name(*code)),
        NetError::Proto(_)
        | NetError::QueryCaseMismatch
        | NetError::ForeignClassRecord { .. }
        | NetError::Truncated => FailureReason::Malformed(error.to_string()),
        _ => FailureReason::Network(error.to_string()),
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
