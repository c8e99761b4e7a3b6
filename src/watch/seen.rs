//! The facts of one look, from the check of a domain.

use std::collections::BTreeMap;
use std::net::IpAddr;

use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use super::facts::{
    AddressFact, DaneFact, DomainFacts, FactSource, HostFacts, MxFact, RecordFact, RuleFact, SeenFault, SignatureFact,
    Standing, StsFact,
};
use crate::check::checker::{DomainCheck, ExchangeCheck, SessionCheck};
use crate::check::ends::{DAY, is_signature_late};
use crate::check::forecast::Forecast;
use crate::check::verdict::{MailVerdict, Need};
use crate::dane::agility::Digests;
use crate::dane::facts;
use crate::dane::tlsa::{self, Tlsa};
use crate::dane::verify::Match;
use crate::discovery::StsSource;
use crate::dns::{
    Answer, Failure, FailureReason, Finality, HostLookup, Lookup, Mx, MxTarget, RawTlsa, Rtype, Security,
    SignatureValidity,
};
use crate::hex::Hex;
use crate::mx::Route;
use crate::name::Name;
use crate::policy::TlsPolicy;
use crate::refusal::{Place, Reason, Refusal};
use crate::report::deliveries::{DeliveryNotes, VerifiedAddress};
use crate::rules::{Rule, Rules};
use crate::upstream::verified::Channel;

/// A look at one domain: its facts, and those of its hosts by their keys.
#[derive(Debug)]
pub(super) struct SeenDomain {
    pub(super) facts: DomainFacts,
    pub(super) hosts: Vec<(String, HostFacts)>,
    /// Whether mail would go to a host that was not connected to.
    pub(super) is_unasked: bool,
}

/// The facts of addresses that a delivery has verified.
pub(super) type DeliveredFacts = BTreeMap<(Name, IpAddr), AddressFact>;

/// The settings that facts depend on.
#[derive(Clone, Copy)]
pub(super) struct Seeing<'a> {
    pub(super) digests: &'a Digests,
    pub(super) rules: &'a Rules,
    pub(super) delivered: &'a DeliveredFacts,
    /// Whether hosts are connected to.
    pub(super) connects: bool,
    /// The deliveries of this danelaw, if it has any.
    pub(super) deliveries: Option<&'a DeliveryNotes>,
    pub(super) now: OffsetDateTime,
}

/// The rule of a domain, and the check without it.
pub(super) struct RuledLook<'a> {
    pub(super) rule: &'a Rule,
    pub(super) without: &'a DomainCheck,
}

impl SeenDomain {
    /// The facts of a check.
    pub(super) fn of(check: &DomainCheck, ruled: Option<&RuledLook<'_>>, seeing: Seeing<'_>) -> Self {
        let verdict = MailVerdict::of(check);
        let hosts = check.exchanges.iter().map(|exchange| (key(exchange), host(exchange, seeing))).collect();
        let facts = DomainFacts {
            standing: standing(check, seeing),
            refused: None,
            newest: newest(check),
            took_tls: took_tls(check, seeing),
            stopping: stopping(check),
            is_verified: verdict.is_verified(),
            mx: exchanges(check),
            sts: sts(check, seeing.now),
            tlsrpt: None,
            rule: ruled.map(|ruled| rule(ruled, check, seeing)),
            signature: signature(&check.recorded.signatures, seeing.now),
        };
        let is_unasked = matches!(check.forecast(), Forecast::Delivered(_, None));
        Self { facts, hosts, is_unasked }
    }
}

/// The key of a host: its name, with the port that a rule may name.
pub(super) fn host_key(name: &Name, port: Option<u16>) -> String {
    port.map_or_else(|| name.to_string(), |port| format!("{name}:{port}"))
}

fn key(exchange: &ExchangeCheck) -> String {
    host_key(&exchange.name, exchange.port)
}

fn standing(check: &DomainCheck, seeing: Seeing<'_>) -> Standing {
    match check.forecast() {
        Forecast::Delivered(exchange, None) if !is_known(exchange, seeing) => {
            Standing::Unknown(SeenFault::new("out-of-time", "its host was not connected to in this look", None))
        }
        Forecast::Delivered(..) => Standing::Good,
        Forecast::Refused => match check.main_obstacle() {
            Some((place, reason)) => {
                let port = check.exchanges.iter().find_map(|exchange| exchange.port);
                // The demand of a policy or a rule of the domain is no fault of the host.
                let host = match &place {
                    Place::Host(name) if matches!(reason, Reason::Dns(_)) => Some(host_key(name, port)),
                    Place::Domain | Place::Host(_) => None,
                    Place::Peer(peer) => Some(host_key(&peer.exchange, peer.port)),
                };
                judged(reason, format!("{place}{reason}"), host)
            }
            None => Standing::Unknown(SeenFault::new("out-of-time", "no host could be tried", None)),
        },
    }
}

/// Whether the state of a host without a session is known: DANE does not verify it, or a delivery has; or the DNS alone is asked.
fn is_known(exchange: &ExchangeCheck, seeing: Seeing<'_>) -> bool {
    let is_delivered = |address: &IpAddr| seeing.delivered.contains_key(&(exchange.name.clone(), *address));
    let planned = exchange.plan.as_ref().map_or(&[][..], |plan| plan.addresses.as_slice());
    !is_by_dane(exchange) || !seeing.connects || planned.iter().any(is_delivered)
}

fn is_by_dane(exchange: &ExchangeCheck) -> bool {
    let policy = exchange.plan.as_ref().map(|plan| &plan.policy);
    matches!(policy, Ok(TlsPolicy::Dane(_) | TlsPolicy::HalfDane(_) | TlsPolicy::StsDane(_)))
}

/// The end of the last session, if there was one.
fn newest(check: &DomainCheck) -> Option<i64> {
    check.exchanges.iter().flat_map(|exchange| &exchange.sessions).map(|(_, session)| session.at).max()
}

/// The hosts with a fault of TLS or DNSSEC, where none takes the mail.
fn stopping(check: &DomainCheck) -> Vec<String> {
    let hosts = check.exchanges.iter().filter(|_| matches!(check.forecast(), Forecast::Refused));
    let is_broken = |exchange: &&ExchangeCheck| {
        let mut reasons = exchange.obstacles().into_iter().map(|(_, reason)| reason);
        reasons.any(|reason| judged(reason, String::new(), None).broken().is_some())
    };
    hosts.filter(is_broken).map(key).collect()
}

/// The watch counts refusals for TLS or DNSSEC alone. A lookup without an answer is no fault of the domain.
fn judged(reason: &Reason, text: String, host: Option<String>) -> Standing {
    let fault = SeenFault::new(reason.view().label.as_str(), &text, host);
    let is_broken = match reason {
        Reason::Dns(failure) | Reason::StsLookup(failure) => match &failure.reason {
            FailureReason::Bogus(_) => true,
            FailureReason::Refused(_) => reason.may_be_waived(),
            FailureReason::Timeout
            | FailureReason::Network(_)
            | FailureReason::Malformed(_)
            | FailureReason::TooManyAliases(_)
            | FailureReason::TooManyRecords(_)
            | FailureReason::Scarce(_)
            | FailureReason::NotValidating
            | FailureReason::DeniedByFallback
            | FailureReason::NameTooLong => false,
        },
        // The memory of a failure says no more than that failure did. A policy that had no place is our own fault.
        Reason::JustFailed { .. } | Reason::StsNoTurn => false,
        reason => reason.may_be_waived(),
    };
    if is_broken { Standing::Broken(fault) } else { Standing::Unknown(fault) }
}

/// The exchanges as they are published; none if that is not known.
fn exchanges(check: &DomainCheck) -> Option<Vec<MxFact>> {
    let named = records(check.recorded.mx.as_ref(), &check.route)?.iter().filter_map(|record| match &record.target {
        MxTarget::Host(name) => Some(MxFact { preference: record.preference, host: host_key(name, None) }),
        MxTarget::Root | MxTarget::Invalid(_) => None,
    });
    let mut mx: Vec<_> = named.collect();
    if mx.is_empty() {
        mx = check.exchanges.iter().map(|exchange| MxFact { preference: 0, host: key(exchange) }).collect();
    }
    mx.sort();
    mx.dedup();
    Some(mx)
}

/// The MX records of a domain with this route; none if they are not known.
fn records<'a>(mx: Option<&'a Result<Lookup<Mx>, Failure>>, route: &Result<Route, Refusal>) -> Option<&'a [Mx]> {
    match (mx, route) {
        // The configured name servers may know a way for this mail.
        (Some(Ok(Lookup { finality: Finality::Provisional, .. })), Err(_)) => None,
        (Some(Ok(found)), _) => Some(found.answer.records()),
        // A rule names the host.
        (None, Ok(_)) => Some(&[]),
        (Some(Err(_)) | None, _) => None,
    }
}

fn sts(check: &DomainCheck, now: OffsetDateTime) -> Option<StsFact> {
    let in_force = check.sts.as_ref()?.found.in_force()?;
    let unlisted = check.exchanges.iter().filter(|exchange| !in_force.policy.lists(&exchange.name));
    let max_age = i64::try_from(in_force.policy.max_age().as_secs()).unwrap_or(i64::MAX);
    let age = i64::try_from(in_force.age.as_secs()).unwrap_or(i64::MAX);
    let is_failing = matches!(in_force.source, StsSource::Unfetched(_));
    Some(StsFact {
        id: in_force.id.as_str().to_owned(),
        mode: in_force.policy.mode().as_str().to_owned(),
        unlisted: unlisted.map(|exchange| exchange.name.to_string()).collect(),
        ends: is_failing.then(|| now.unix_timestamp().saturating_add(max_age.saturating_sub(age))),
    })
}

fn rule(ruled: &RuledLook<'_>, check: &DomainCheck, seeing: Seeing<'_>) -> RuleFact {
    let (with, without) = (MailVerdict::of(check), MailVerdict::of(ruled.without));
    // The policy alone does not tell whether the host would meet it.
    let is_known = !matches!(ruled.without.forecast(), Forecast::Delivered(_, None));
    let need = Need::of(&ruled.rule.level, &seeing.rules.default, with, without);
    RuleFact {
        domains: ruled.rule.domains.to_string(),
        is_needless: is_known.then_some(need == Need::NotNeeded),
        days_left: ruled.rule.days_left(seeing.now.date()).filter(|_| is_known && need == Need::Needed),
    }
}

/// The signature that ends first. One that should have been renewed comes before one that is short because its zone signs for
/// short times.
fn signature(signatures: &[(Name, Rtype, SignatureValidity)], now: OffsetDateTime) -> Option<SignatureFact> {
    let is_late = |validity: &SignatureValidity| is_signature_late(validity.left_at(now), validity.term());
    let first = signatures.iter().min_by_key(|(.., validity)| (!is_late(validity), validity.left_at(now)))?;
    let (name, rtype, validity) = first;
    // The keys of a zone often have a long TTL, which holds back no finding but the one about them.
    let counts =
        |other: &&(Name, Rtype, SignatureValidity)| other.1 != Rtype::DNSKEY || (*other == first && is_late(validity));
    let ttl = signatures.iter().filter(counts).map(|(.., validity)| validity.original_ttl).max().unwrap_or_default();
    Some(SignatureFact {
        records: format!("{name} {rtype}"),
        ends: now.unix_timestamp() + validity.left_at(now),
        term: validity.term(),
        ttl,
    })
}

fn host(exchange: &ExchangeCheck, seeing: Seeing<'_>) -> HostFacts {
    let (dane, raw) = dane(exchange, seeing.digests);
    let mut records: Vec<_> = tlsa::readings(&raw, seeing.digests).into_iter().flatten().map(|r| record(&r)).collect();
    records.sort();
    records.dedup();
    let asked = exchange.sessions.iter().map(|(address, session)| of_session(*address, session, exchange));
    let planned = exchange.plan.as_ref().map_or(&[][..], |plan| plan.addresses.as_slice());
    let delivered = |address: &IpAddr| seeing.delivered.get(&(exchange.name.clone(), *address));
    let is_asked = |address: &IpAddr| exchange.sessions.iter().any(|(asked, _)| asked == address);
    let unasked = planned.iter().filter(|address| !is_asked(address) && delivered(address).is_none());
    let delivered = planned.iter().filter(|_| is_by_dane(exchange)).filter_map(delivered);
    let addresses = asked.chain(delivered.cloned());
    let lookups = match &exchange.plan {
        Err(reason @ Reason::Dns(_)) => judged(reason, format!("{}: {reason}", exchange.name), Some(key(exchange))),
        Ok(_) | Err(_) => Standing::Good,
    };
    HostFacts {
        lookups,
        dane,
        records,
        unasked: unasked.map(ToString::to_string).collect(),
        addresses: addresses.collect(),
        signature: signature(&exchange.recorded.signatures, seeing.now),
    }
}

/// Whether a delivery under TLS, or a session, ended well in the last day.
fn took_tls(check: &DomainCheck, seeing: Seeing<'_>) -> bool {
    let since = seeing.now.unix_timestamp() - DAY;
    let delivered = seeing.deliveries.map(|notes| notes.delivered(&check.domain)).unwrap_or_default();
    let mut sessions = check.exchanges.iter().flat_map(|exchange| &exchange.sessions);
    delivered.under_tls.is_some_and(|at| at >= since) || sessions.any(|(_, session)| session.outcome.is_ok())
}

/// The DANE state, and the secure records.
fn dane(exchange: &ExchangeCheck, digests: &Digests) -> (DaneFact, Vec<RawTlsa>) {
    let without = |fact| (fact, Vec::new());
    match &exchange.recorded.host {
        Some(Ok(HostLookup::Found(host))) if host.security() == Security::Secure => {}
        Some(Ok(HostLookup::Found(_))) => return without(DaneFact::Insecure),
        Some(Ok(HostLookup::NoAddress(_) | HostLookup::NotInFamily(_)) | Err(_)) | None => {
            return without(DaneFact::Unknown);
        }
    }
    // The last owner that was asked decided (RFC 7672 §2.2.2).
    match exchange.recorded.tlsa.last() {
        None => without(DaneFact::NotAsked),
        Some((_, Err(_))) => without(DaneFact::Unknown),
        Some((_, Ok(found))) if found.security() == Security::Insecure => without(DaneFact::Insecure),
        Some((_, Ok(found))) => match &found.answer {
            Answer::NoData | Answer::NxDomain => without(DaneFact::Absent),
            Answer::Records(raw) => {
                let usable = tlsa::readings(raw, digests).iter().any(Result::is_ok);
                let fact = if usable { DaneFact::Usable } else { DaneFact::Unusable };
                (fact, raw.clone())
            }
        },
    }
}

/// A record for comparison.
fn record(tlsa: &Tlsa) -> RecordFact {
    let [usage, selector, matching] = tlsa.form().numbers();
    RecordFact { usage, selector, matching, digest: digest(tlsa.data()) }
}

fn digest(octets: &[u8]) -> String {
    Hex(&Sha256::digest(octets)[..16]).to_string()
}

fn of_session(address: IpAddr, session: &SessionCheck, exchange: &ExchangeCheck) -> AddressFact {
    let matched = session.outcome.as_ref().ok().and_then(matched);
    let leaf = session.chain.first();
    let anchor = matched.and_then(|matched| session.chain.get(matched.depth).filter(|_| matched.depth > 0));
    AddressFact {
        address: address.to_string(),
        source: FactSource::Session,
        at: session.at,
        is_carried: false,
        standing: match &session.outcome {
            Ok(_) => Standing::Good,
            Err(reason) => judged(reason, format!("{}[{address}]: {reason}", exchange.name), Some(key(exchange))),
        },
        certificate: leaf.map(|der| digest(der)),
        matched: matched.map(|matched| record(&matched.record)),
        path_ends: matched.and_then(|matched| matched.path_ends),
        anchor_ends: anchor.and_then(|der| facts::read(der)).map(|facts| facts.not_after),
    }
}

/// The fact of a delivery that has verified an address. Of the certificate it has the record that matched alone.
pub(super) fn of_delivery(address: IpAddr, verified: &VerifiedAddress) -> AddressFact {
    AddressFact {
        address: address.to_string(),
        source: FactSource::Delivery,
        at: verified.at,
        is_carried: false,
        standing: Standing::Good,
        certificate: None,
        matched: Some(record(&verified.record)),
        // Under usage 3 no date counts.
        path_ends: None,
        anchor_ends: None,
    }
}

/// The record that matched.
fn matched(channel: &Channel) -> Option<&Match> {
    channel.protection()?.matched()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mx::{self, Here};

    #[test]
    fn an_answer_of_the_fallback_does_not_take_the_exchanges_of_a_domain() {
        let name = || Name::parse("example").unwrap();
        let exchange = || vec![Mx { preference: 10, target: MxTarget::Host(Name::parse("mx.example").unwrap()) }];
        let null = || vec![Mx { preference: 0, target: MxTarget::Root }];
        for (answer, finality, known) in [
            (Answer::Records(exchange()), Finality::Final, Some(exchange())),
            (Answer::Records(exchange()), Finality::Provisional, Some(exchange())),
            (Answer::NoData, Finality::Provisional, Some(Vec::new())),
            (Answer::NxDomain, Finality::Final, Some(Vec::new())),
            (Answer::Records(null()), Finality::Final, Some(null())),
            (Answer::NxDomain, Finality::Provisional, None),
            (Answer::Records(null()), Finality::Provisional, None),
        ] {
            let lookup = Lookup { asked: name(), aliases: Vec::new(), end: Security::Secure, answer, finality };
            let route = mx::route(&lookup, Here { names: &[], most: 1, seed: 0 }).map_err(Refusal::domain);
            assert_eq!(records(Some(&Ok(lookup.clone())), &route), known.as_deref(), "{lookup:?}");
        }
        let by_rule = Ok(mx::by_address(&name()));
        assert_eq!(records(None, &by_rule), Some(&[][..]));
    }

    #[test]
    fn a_signature_that_should_have_been_renewed_comes_first() {
        const HOUR: i64 = 3600;
        let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        // The hours that are left, those of the term, and the TTL.
        let of = |name: &str, rtype, [left, term, ttl]: [i64; 3]| {
            let at = |hour: i64| u32::try_from(now.unix_timestamp() + hour * HOUR).unwrap();
            let validity = SignatureValidity {
                inception: at(left - term),
                expiration: at(left),
                original_ttl: u32::try_from(ttl).unwrap(),
            };
            (Name::parse(name).unwrap(), rtype, validity)
        };
        let a = |numbers| of("mx.example", Rtype::A, numbers);
        let tlsa = |numbers| of("_25._tcp.mx.example", Rtype::TLSA, numbers);
        let keys = |numbers| of("example", Rtype::DNSKEY, numbers);
        for (signatures, records, ends, ttl) in [
            (vec![a([100, 700, 300])], "mx.example A", 100, 300),
            (vec![a([100, 700, 300]), tlsa([90, 700, 60])], "_25._tcp.mx.example TLSA", 90, 300),
            // The TTL of keys counts for the finding about them alone.
            (vec![a([100, 700, 300]), keys([90, 700, 86400])], "example DNSKEY", 90, 300),
            (vec![a([100, 700, 300]), keys([20, 700, 86400])], "example DNSKEY", 20, 86400),
            (vec![a([20, 700, 300]), keys([19, 48, 86400])], "mx.example A", 20, 300),
            // A zone that signs for two days hides no other one.
            (vec![a([20, 48, 300]), tlsa([40, 700, 60])], "_25._tcp.mx.example TLSA", 40, 300),
            (vec![a([20, 700, 300]), tlsa([40, 700, 60]), keys([-5, 700, 7200])], "example DNSKEY", -5, 7200),
        ] {
            let fact = signature(&signatures, now).unwrap();
            let found = (fact.records.as_str(), (fact.ends - now.unix_timestamp()) / HOUR, fact.ttl);
            assert_eq!(found, (records, ends, ttl), "{signatures:?}");
        }
        assert_eq!(signature(&[], now), None);
    }
}
