//! Advice on setups that work today and are about to break, or protect less than their operator may think.

use std::io::ErrorKind;
use std::time::Duration;

use humantime_serde::re::humantime::format_duration;
use serde::Serialize;
use time::OffsetDateTime;

use super::checker::{DomainCheck, ExchangeCheck, SessionCheck};
use super::ends::{CERTIFICATE_SOON, DAY, is_signature_late};
use super::forecast::Forecast;
use super::recording::RecordedAnswers;
use super::sts;
use crate::dane::agility::Digests;
use crate::dane::facts::{self, Digesting};
use crate::dane::tlsa::{self, NoDane, Usage};
use crate::dane::verify::Match;
use crate::dns::{HostLookup, Rtype};
use crate::name::Name;
use crate::policy::TlsPolicy;
use crate::refusal::Reason;

/// One thing to mend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Advice {
    /// Its name, for machines.
    pub(crate) kind: &'static str,
    /// The host that it is about, if it is about one.
    pub(crate) host: Option<String>,
    /// In words.
    pub(crate) text: String,
}

impl Advice {
    fn about(host: &Name, kind: &'static str, text: impl ToString) -> Self {
        Self { kind, host: Some(host.to_string()), text: text.to_string() }
    }
}

/// All advice on a domain.
pub(crate) fn advice(check: &DomainCheck, digests: &Digests, now: OffsetDateTime) -> Vec<Advice> {
    let mut told = Vec::new();
    let mut all = signatures(None, &check.recorded, now, &mut told);
    for exchange in &check.exchanges {
        all.extend(signatures(Some(&exchange.name), &exchange.recorded, now, &mut told));
        all.extend(records(exchange, digests));
        all.extend(protection(exchange, &check.exchanges));
        all.extend(addresses(exchange));
        for (_, session) in &exchange.sessions {
            for advice in certificates(&exchange.name, session, now) {
                // Hosts show the same certificate at each of their addresses.
                if !all.contains(&advice) {
                    all.push(advice);
                }
            }
        }
    }
    all.extend(sts::advice(check, now));
    all.extend(failing(check));
    all
}

/// Signatures in the DNS that should have been renewed by now, except those over records of which it was told before: a domain and
/// its hosts are often in one zone. A server that signs as it answers gives its keys another signature with each answer.
fn signatures(
    host: Option<&Name>,
    recorded: &RecordedAnswers,
    now: OffsetDateTime,
    told: &mut Vec<(Name, Rtype)>,
) -> Vec<Advice> {
    let mut all = Vec::new();
    for (name, rtype, validity) in &recorded.signatures {
        let (records, left) = ((name.clone(), *rtype), validity.left_at(now));
        if !is_signature_late(left, validity.term()) || told.contains(&records) {
            continue;
        }
        let text = format!(
            "the signature of {name} {rtype} ends in {}; if it is not renewed, mail is deferred from then on",
            format_duration(Duration::from_secs(left.max(0).unsigned_abs()))
        );
        all.push(Advice { kind: "signature-ends", host: host.map(ToString::to_string), text });
        told.push(records);
    }
    all
}

/// Records that protect less than they could, or not at all.
fn records(exchange: &ExchangeCheck, digests: &Digests) -> Vec<Advice> {
    let about = |kind, text| Advice::about(&exchange.name, kind, text);
    let answers = exchange.recorded.tlsa.iter().filter_map(|(_, found)| found.as_ref().ok());
    let raw: Vec<_> = answers.flat_map(|found| found.answer.records()).cloned().collect();
    let read = tlsa::readings(&raw, digests);
    let unusable = raw.iter().zip(&read).filter_map(|(record, read)| Some((record, read.as_ref().err()?)));
    let mut all: Vec<_> = unusable
        .map(|(record, why)| about("unusable-record", format!("the TLSA record {record} is unusable: {why}")))
        .collect();
    if let Some(TlsPolicy::Dane(expected) | TlsPolicy::HalfDane(expected)) =
        exchange.plan.as_ref().ok().map(|p| &p.policy)
        && let [record] = expected.usable.records()
    {
        let text = format!(
            "{record} is the only TLSA record that counts; the next {} must be published beside it before it is taken \
             into use (RFC 7671 §8.4)",
            match record.usage() {
                Usage::EndEntity => "key",
                Usage::TrustAnchor => "authority",
            }
        );
        all.push(about("one-record", text));
    }
    all
}

/// Hosts that protect mail less than other hosts of the domain do.
fn protection(exchange: &ExchangeCheck, all: &[ExchangeCheck]) -> Option<Advice> {
    let about = |kind, text: &str| Some(Advice::about(&exchange.name, kind, text));
    let verifies = |other: &&ExchangeCheck| {
        matches!(other.plan.as_ref().map(|plan| &plan.policy), Ok(TlsPolicy::Dane(_) | TlsPolicy::HalfDane(_)))
    };
    match &exchange.plan.as_ref().ok()?.policy {
        TlsPolicy::HalfDane(_) => about(
            "insecure-mx",
            "the host is secure and has TLSA records, and the MX record that names it is not signed: an attacker who forges \
             that record sends mail elsewhere",
        ),
        TlsPolicy::Encrypt(_, why @ (NoDane::NoTlsa | NoDane::InsecureAddress | NoDane::UnusableTlsa(_))) => {
            let other = all.iter().find(verifies)?;
            about(
                "mx-without-dane",
                &format!(
                    "{why}, while {} has: an attacker who makes that one unreachable has mail sent here",
                    other.name
                ),
            )
        }
        TlsPolicy::Encrypt(..)
        | TlsPolicy::Dane(_)
        | TlsPolicy::Sts(_)
        | TlsPolicy::StsDane(_)
        | TlsPolicy::Pkix(..)
        | TlsPolicy::Fingerprint(_)
        | TlsPolicy::May(..) => None,
    }
}

/// A family of addresses that is not known.
fn addresses(exchange: &ExchangeCheck) -> Option<Advice> {
    match &exchange.recorded.host {
        Some(Ok(HostLookup::Found(host))) => {
            let failure = host.unknown.as_ref()?;
            Some(Advice::about(&exchange.name, "partial-lookup", format!("{failure}; its other addresses are used")))
        }
        Some(Ok(HostLookup::NoAddress(_) | HostLookup::NotInFamily(_)) | Err(_)) | None => None,
    }
}

/// Certificates that count, or may soon, and have a bad date or signature.
fn certificates(exchange: &Name, session: &SessionCheck, now: OffsetDateTime) -> Vec<Advice> {
    let about = |kind, text| Advice::about(exchange, kind, text);
    let Some(matched) = matched(session) else { return Vec::new() };
    let mut all: Vec<_> =
        matched.warning.map(|warning| about("anchor-dates", warning.to_string())).into_iter().collect();
    for facts in session.chain.iter().filter_map(|certificate| facts::read(certificate)) {
        let left = facts.not_after.saturating_sub(now.unix_timestamp());
        let subject = &facts.subject;
        // RFC 7671 §5.1: under usage 3 no date counts.
        if matched.record.usage() == Usage::TrustAnchor && (0..CERTIFICATE_SOON).contains(&left) {
            all.push(about(
                "certificate-ends",
                format!("the certificate of \"{subject}\" ends in {} days, and its date counts", left / DAY),
            ));
        }
        // A self-signed certificate is not believed for its signature.
        if facts.signature == Digesting::Weak && facts.subject != facts.issuer {
            all.push(about(
                "weak-signature",
                format!(
                    "the certificate of \"{subject}\" is signed with SHA-1 or MD5, which clients refuse under usage 2"
                ),
            ));
        }
    }
    all
}

fn matched(session: &SessionCheck) -> Option<&Match> {
    session.outcome.as_ref().ok()?.protection()?.matched()
}

/// Hosts that fail while mail still goes out over others.
fn failing(check: &DomainCheck) -> Vec<Advice> {
    if let Forecast::Refused = check.forecast() {
        return Vec::new();
    }
    let theirs = |reason: &Reason| match reason {
        // No route to an address of its family from here: that is no fault of the host.
        Reason::Connect(error) => error.kind() != ErrorKind::NetworkUnreachable,
        // Few hosts offer REQUIRETLS, so its lack is no fault.
        Reason::NotTried(_) | Reason::Lacking(_) => false,
        _ => true,
    };
    let obstacles = check.obstacles().into_iter().filter(|(_, reason)| theirs(reason));
    let said =
        |(at, reason)| Advice { kind: "failing-host", host: None, text: format!("{at}{reason}; mail goes elsewhere") };
    obstacles.map(said).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::SignatureValidity;

    #[test]
    fn a_signature_that_is_late_is_told_of_once() {
        let now = OffsetDateTime::from_unix_timestamp(1_000_000).unwrap();
        let name = |text: &str| Name::parse(text).unwrap();
        let ends = |left| SignatureValidity { inception: 900_000, expiration: 1_000_000 + left, original_ttl: 3600 };
        let recorded = |signatures: &[(&str, Rtype, u32)]| RecordedAnswers {
            signatures: signatures.iter().map(|(owner, rtype, left)| (name(owner), *rtype, ends(*left))).collect(),
            ..RecordedAnswers::default()
        };
        // The server of the zone signs as it answers, so the host's keys came with another signature than the domain's.
        let domain =
            recorded(&[("example", Rtype::MX, 60), ("example", Rtype::DNSKEY, 60), ("other", Rtype::DNSKEY, 90_000)]);
        let host = recorded(&[("mx.example", Rtype::A, 61), ("example", Rtype::DNSKEY, 61)]);
        let mut told = Vec::new();
        let mut all = signatures(None, &domain, now, &mut told);
        all.extend(signatures(Some(&name("mx.example")), &host, now, &mut told));
        let texts: Vec<_> = all.iter().map(|advice| advice.text.split(';').next().unwrap()).collect();
        let expected = [
            "the signature of example MX ends in 1m",
            "the signature of example DNSKEY ends in 1m",
            "the signature of mx.example A ends in 1m 1s",
        ];
        assert_eq!(texts, expected);
    }
}
