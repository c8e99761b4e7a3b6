//! Turns a finished lookup into the answer that the caller needs: MX records, TLSA records, or a host with its
//! addresses.
//!
//! Here are the bounds that no honest zone exceeds. A lookup above one of them has failed: a shortened record
//! set would be an answer that no zone gave.

use std::net::IpAddr;

use super::reply::{Data, Rtype};
use super::{Answer, Failure, FailureReason, Families, Finality, Host, HostLookup, Lookup, Mx, RawTlsa, RawTxt};
use crate::name::Name;

/// More MX records than this are a failure.
const MAX_MX: usize = 200;
/// More addresses of one family than this are a failure.
const MAX_ADDRESSES: usize = 100;
/// More TLSA records than this are a failure, and never "absent".
const MAX_TLSA: usize = 100;
/// More TXT records than this are a failure. Names that mail asks have one; a domain's own name has some dozens.
const MAX_TXT: usize = 100;

/// More records of a type that mail does not need.
const MAX_OTHERS: usize = 200;

/// The result of a lookup or of a step of one.
pub(super) type DnsResult<T> = Result<T, FailureReason>;

/// Reads MX records.
pub(super) fn mx(domain: &Name, found: Result<&Lookup<Data>, &FailureReason>) -> Result<Lookup<Mx>, Failure> {
    typed(found, &fail(domain, Rtype::MX), MAX_MX, |data| match data {
        Data::Mx(mx) => Some(mx.clone()),
        _ => None,
    })
}

/// Reads TLSA records.
pub(super) fn tlsa(owner: &Name, found: Result<&Lookup<Data>, &FailureReason>) -> Result<Lookup<RawTlsa>, Failure> {
    typed(found, &fail(owner, Rtype::TLSA), MAX_TLSA, |data| match data {
        Data::Tlsa(tlsa) => Some(tlsa.clone()),
        _ => None,
    })
}

/// Reads TXT records.
pub(super) fn txt(owner: &Name, found: Result<&Lookup<Data>, &FailureReason>) -> Result<Lookup<RawTxt>, Failure> {
    typed(found, &fail(owner, Rtype::TXT), MAX_TXT, |data| match data {
        Data::Txt(txt, _) => Some(txt.clone()),
        _ => None,
    })
}

/// Reads the addresses of one record type. An IPv4 address in IPv6 form (RFC 4291 §2.5.5.2) is the IPv4 address: a host has one
/// identity for limits, for the memory of failures and for the comparison with our own addresses.
pub(super) fn addresses(
    name: &Name,
    rtype: Rtype,
    found: Result<&Lookup<Data>, &FailureReason>,
) -> Result<Lookup<IpAddr>, Failure> {
    typed(found, &fail(name, rtype), MAX_ADDRESSES, |data| match data {
        Data::Address(address) => Some(address.to_canonical()),
        _ => None,
    })
}

/// Reads records of any type as in a master file, under the bounds of those that mail needs.
pub(super) fn presented(
    name: &Name,
    rtype: Rtype,
    found: Result<&Lookup<Data>, &FailureReason>,
) -> Result<Lookup<String>, Failure> {
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
    found: Result<&Lookup<Data>, &FailureReason>,
    fail: &impl Fn(FailureReason) -> Failure,
    limit: usize,
    read: impl Fn(&Data) -> Option<T>,
) -> Result<Lookup<T>, Failure> {
    let Lookup { asked, aliases, end, answer, finality } = found.map_err(|reason| fail(reason.clone()))?;
    let answer = match answer {
        Answer::NoData => Answer::NoData,
        Answer::NxDomain => Answer::NxDomain,
        Answer::Records(records) if records.len() > limit => return Err(fail(FailureReason::TooManyRecords(limit))),
        Answer::Records(records) => match records.iter().map(read).collect::<Option<Vec<T>>>() {
            Some(records) => Answer::Records(records),
            None => return Err(fail(FailureReason::Malformed("records of another type".to_owned()))),
        },
    };
    Ok(Lookup { asked: asked.clone(), aliases: aliases.clone(), end: *end, answer, finality: *finality })
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
    let finality = [&v4, &v6].into_iter().flatten().map(|lookup| lookup.finality).min().unwrap_or(Finality::Final);
    let found = |host: Host| Ok(HostLookup::Found(Host { finality, ..host }));
    match (has_address(&v4), has_address(&v6)) {
        (true, true) => found(both_families(v4?, v6?)),
        (true, false) => found(Host { unknown: v6.err(), ..host(v4?) }),
        (false, true) => found(Host { unknown: v4.err(), ..host(v6?) }),
        // RFC 7672 §2.1.2: only two answers of "none" are the answer "none".
        (false, false) => v4.and(v6).map(|_| HostLookup::NoAddress(finality)),
    }
}

/// The answer about the host from the lookup of the one family in use.
pub(super) fn one_family(found: Result<Lookup<IpAddr>, Failure>, only: Families) -> Result<HostLookup, Failure> {
    let found = found?;
    if found.answer == Answer::NxDomain {
        return Ok(HostLookup::NoAddress(found.finality));
    }
    let mut host = host(found);
    host.addresses.retain(|&address| only.contain(address));
    Ok(if host.addresses.is_empty() { HostLookup::NotInFamily(only) } else { HostLookup::Found(host) })
}

/// One host out of two families, which were asked at different moments. If they came over different aliases, or differ
/// in their security, only the family that is surer is used: the status of a host is one (RFC 7672 §2.2.2).
fn both_families(v4: Lookup<IpAddr>, v6: Lookup<IpAddr>) -> Host {
    if v4.aliases == v6.aliases && v4.end == v6.end {
        let further = v6.answer.records().to_vec();
        let mut host = host(v4);
        for address in further {
            if !host.addresses.contains(&address) {
                host.addresses.push(address);
            }
        }
        return host;
    }
    let first = |lookup: &Lookup<IpAddr>| lookup.aliases.first().map_or(lookup.end, |alias| alias.security);
    let surer = (v6.security(), first(&v6)) > (v4.security(), first(&v4));
    host(if surer { v6 } else { v4 })
}

fn host(found: Lookup<IpAddr>) -> Host {
    let addresses = found.answer.records().to_vec();
    let Lookup { asked: name, aliases, end, finality, .. } = found;
    Host { name, aliases, end, addresses, unknown: None, finality }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::Security::{Insecure, Secure};
    use crate::dns::{Alias, Security};

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    /// A lookup that ended in these addresses; `-` is NODATA and `!` is NXDOMAIN.
    fn found(rtype: Rtype, text: &str, end: Security) -> Result<Lookup<IpAddr>, Failure> {
        let answer = match text {
            "-" => Answer::NoData,
            "!" => Answer::NxDomain,
            text => Answer::Records(text.split(' ').map(|one| Data::Address(one.parse().unwrap())).collect()),
        };
        let asked = name("mx.example");
        let lookup = Lookup { asked, aliases: Vec::new(), end, answer, finality: Finality::Final };
        addresses(&name("mx.example"), rtype, Ok(&lookup))
    }

    /// The addresses of a host, in words.
    fn said(host: Result<HostLookup, Failure>) -> String {
        match host {
            Ok(HostLookup::Found(host)) => host.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            Ok(HostLookup::NoAddress(_)) => "no address".into(),
            Ok(HostLookup::NotInFamily(families)) => format!("not in {families}"),
            Err(failure) => failure.to_string(),
        }
    }

    #[test]
    fn an_ipv4_address_in_ipv6_form_is_the_ipv4_address() {
        for (v4, v6, expected) in [
            ("192.0.2.1", "2001:db8::1", "192.0.2.1 2001:db8::1"),
            ("-", "::ffff:192.0.2.7", "192.0.2.7"),
            ("-", "::ffff:127.0.0.1 2001:db8::1", "127.0.0.1 2001:db8::1"),
            // It is there once.
            ("192.0.2.7 192.0.2.8", "::ffff:192.0.2.7", "192.0.2.7 192.0.2.8"),
            ("-", "-", "no address"),
        ] {
            let host = either_family(found(Rtype::A, v4, Secure), found(Rtype::AAAA, v6, Secure));
            assert_eq!(said(host), expected, "{v4} {v6}");
        }
        // The status of the record that it stands in decides: the surer family alone is used.
        let host =
            either_family(found(Rtype::A, "192.0.2.7", Insecure), found(Rtype::AAAA, "::ffff:192.0.2.7", Secure));
        assert!(matches!(host, Ok(HostLookup::Found(host)) if host.end == Secure && host.addresses.len() == 1));
    }

    #[test]
    fn one_family_alone() {
        use Families::{Ipv4, Ipv6};
        for (rtype, records, only, expected) in [
            (Rtype::A, "192.0.2.1 192.0.2.2", Ipv4, "192.0.2.1 192.0.2.2"),
            (Rtype::A, "-", Ipv4, "not in ipv4"),
            // A name that does not exist has no address of any family.
            (Rtype::A, "!", Ipv4, "no address"),
            (Rtype::AAAA, "2001:db8::1", Ipv6, "2001:db8::1"),
            (Rtype::AAAA, "::ffff:192.0.2.1 2001:db8::1", Ipv6, "2001:db8::1"),
            (Rtype::AAAA, "::ffff:192.0.2.1", Ipv6, "not in ipv6"),
            (Rtype::AAAA, "-", Ipv6, "not in ipv6"),
            (Rtype::AAAA, "!", Ipv6, "no address"),
        ] {
            assert_eq!(said(one_family(found(rtype, records, Secure), only)), expected, "{records} {only}");
        }
        // RFC 7672 §2.1.2: a failure stays one.
        let failure = Failure { name: name("mx.example"), rtype: Rtype::A, reason: FailureReason::Timeout };
        assert_eq!(one_family(Err(failure.clone()), Ipv4), Err(failure));
        let alias = Alias { owner: name("mx.example"), target: name("mx.other"), security: Insecure };
        let aliased = found(Rtype::A, "192.0.2.1", Secure).map(|lookup| Lookup { aliases: vec![alias], ..lookup });
        assert!(matches!(one_family(aliased, Ipv4), Ok(HostLookup::Found(host)) if host.security() == Insecure));
    }

    #[test]
    fn a_host_is_as_final_as_the_answers_about_both_families() {
        use Finality::{Final, Provisional};
        let by = |text: &str, finality| found(Rtype::A, text, Secure).map(|lookup| Lookup { finality, ..lookup });
        let finality = |found: Result<HostLookup, Failure>| match found.unwrap() {
            HostLookup::Found(host) => host.finality,
            HostLookup::NoAddress(finality) => finality,
            HostLookup::NotInFamily(families) => panic!("not in {families}"),
        };
        let address = "192.0.2.1";
        for (v4, v6) in [(address, address), (address, "-"), ("-", address), ("-", "-"), ("!", "!")] {
            for (of_v4, of_v6) in [(Final, Final), (Final, Provisional), (Provisional, Final)] {
                let found = either_family(by(v4, of_v4), by(v6, of_v6));
                assert_eq!(finality(found), of_v4.min(of_v6), "{v4} {v6} {of_v4:?} {of_v6:?}");
            }
        }
        let failure = Failure { name: name("mx.example"), rtype: Rtype::AAAA, reason: FailureReason::Timeout };
        assert_eq!(finality(either_family(by(address, Provisional), Err(failure))), Provisional);
        for text in [address, "!"] {
            assert_eq!(finality(one_family(by(text, Provisional), Families::Ipv4)), Provisional);
        }
    }
}
