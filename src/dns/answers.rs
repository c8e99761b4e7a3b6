//! Turns a finished lookup into the answer that the caller needs: MX records, TLSA records, or a host with its
//! addresses.
//!
//! Here are the bounds that no honest zone exceeds. A lookup above one of them has failed: a shortened record
//! set would be an answer that no zone gave.

use std::net::IpAddr;

use super::reply::{Data, Rtype};
use super::{Answer, Failure, FailureReason, Host, HostLookup, Lookup, Mx, RawTlsa};
use crate::name::Name;

/// More MX records than this are a failure.
const MAX_MX: usize = 200;
/// More addresses of one family than this are a failure.
const MAX_ADDRESSES: usize = 100;
/// More TLSA records than this are a failure, and never "absent".
const MAX_TLSA: usize = 100;

/// More records of a type that mail does not need.
const MAX_OTHERS: usize = 200;

/// The result of a lookup or of a step of one.
pub(super) type DnsResult<T> = Result<T, FailureReason>;

/// Reads MX records.
pub(super) fn mx(domain: &Name, found: &DnsResult<Lookup<Data>>) -> Result<Lookup<Mx>, Failure> {
    typed(found, &fail(domain, Rtype::MX), MAX_MX, |data| match data {
        Data::Mx(mx) => Some(mx.clone()),
        _ => None,
    })
}

/// Reads TLSA records.
pub(super) fn tlsa(owner: &Name, found: &DnsResult<Lookup<Data>>) -> Result<Lookup<RawTlsa>, Failure> {
    typed(found, &fail(owner, Rtype::TLSA), MAX_TLSA, |data| match data {
        Data::Tlsa(tlsa) => Some(tlsa.clone()),
        _ => None,
    })
}

/// Reads the addresses of one family.
pub(super) fn addresses(name: &Name, rtype: Rtype, found: &DnsResult<Lookup<Data>>) -> Result<Lookup<IpAddr>, Failure> {
    typed(found, &fail(name, rtype), MAX_ADDRESSES, |data| match data {
        Data::Address(address) => Some(*address),
        _ => None,
    })
}

/// Reads records of any type as in a master file, under the bounds of those that mail needs.
pub(super) fn presented(name: &Name, rtype: Rtype, found: &DnsResult<Lookup<Data>>) -> Result<Lookup<String>, Failure> {
    let (limit, must_be_read) = match rtype {
        Rtype::MX => (MAX_MX, true),
        Rtype::A | Rtype::AAAA => (MAX_ADDRESSES, true),
        Rtype::TLSA => (MAX_TLSA, true),
        _ => (MAX_OTHERS, false),
    };
    typed(found, &fail(name, rtype), limit, |data| match data {
        Data::Other(_) if must_be_read => None,
        data => Some(data.to_string()),
    })
}

/// Makes the failure of a lookup of this name and type.
fn fail(name: &Name, rtype: Rtype) -> impl Fn(FailureReason) -> Failure {
    move |reason| Failure { name: name.clone(), rtype, reason }
}

/// Reads the records of a lookup as records of the asked type.
fn typed<T>(
    found: &DnsResult<Lookup<Data>>,
    fail: &impl Fn(FailureReason) -> Failure,
    limit: usize,
    read: impl Fn(&Data) -> Option<T>,
) -> Result<Lookup<T>, Failure> {
    let Lookup { asked, aliases, end, answer } = found.as_ref().map_err(|reason| fail(reason.clone()))?;
    let answer = match answer {
        Answer::NoData => Answer::NoData,
        Answer::NxDomain => Answer::NxDomain,
        Answer::Records(records) if records.len() > limit => return Err(fail(FailureReason::TooManyRecords(limit))),
        Answer::Records(records) => match records.iter().map(read).collect::<Option<Vec<T>>>() {
            Some(records) => Answer::Records(records),
            None => return Err(fail(FailureReason::Malformed("records of another type".to_owned()))),
        },
    };
    Ok(Lookup { asked: asked.clone(), aliases: aliases.clone(), end: *end, answer })
}

/// Combines the lookups of both families into one answer about the host. A family that fails does no harm while the
/// other has addresses; a family that is merely absent cannot stand in for one that failed.
pub(super) fn either_family(
    v4: Result<Lookup<IpAddr>, Failure>,
    v6: Result<Lookup<IpAddr>, Failure>,
) -> Result<HostLookup, Failure> {
    let has_address = |found: &Result<Lookup<IpAddr>, Failure>| {
        found.as_ref().is_ok_and(|lookup| !lookup.answer.records().is_empty())
    };
    match (has_address(&v4), has_address(&v6)) {
        (true, true) => Ok(HostLookup::Found(both_families(v4?, v6?))),
        (true, false) => Ok(HostLookup::Found(Host { unknown: v6.err(), ..host(v4?) })),
        (false, true) => Ok(HostLookup::Found(Host { unknown: v4.err(), ..host(v6?) })),
        // RFC 7672 §2.1.2: only two answers of "none" are the answer "none".
        (false, false) => v4.and(v6).map(|_| HostLookup::NoAddress),
    }
}

/// One host out of two families, which were asked at different moments. If they came over different aliases, or differ
/// in their security, only the family that is surer is used: the status of a host is one (RFC 7672 §2.2.2).
fn both_families(v4: Lookup<IpAddr>, v6: Lookup<IpAddr>) -> Host {
    if v4.aliases == v6.aliases && v4.end == v6.end {
        let further = v6.answer.records().to_vec();
        let mut host = host(v4);
        host.addresses.extend(further);
        return host;
    }
    let first = |lookup: &Lookup<IpAddr>| lookup.aliases.first().map_or(lookup.end, |alias| alias.security);
    let surer = (v6.security(), first(&v6)) > (v4.security(), first(&v4));
    host(if surer { v6 } else { v4 })
}

fn host(found: Lookup<IpAddr>) -> Host {
    let addresses = found.answer.records().to_vec();
    Host { name: found.asked, aliases: found.aliases, end: found.end, addresses, unknown: None }
}
