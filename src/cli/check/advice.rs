//! What works today and is about to break, or protects less than its operator may think.

use std::io::ErrorKind;
use std::time::Duration;

use humantime_serde::re::humantime::format_duration;
use serde::Serialize;
use time::OffsetDateTime;

use super::walk::{Fate, Session, Visit, Walk};
use super::witness::Seen;
use crate::dane::agility::Digests;
use crate::dane::facts::{self, Digesting};
use crate::dane::tlsa::{self, NoDane, Usage};
use crate::dane::verify::Match;
use crate::dns::{HostLookup, Rtype, Validity};
use crate::name::Name;
use crate::policy::TlsPolicy;
use crate::refusal::Reason;
use crate::tls::Authentication;
use crate::upstream::verified::Channel;

/// A certificate that counts should not have less time left: authorities renew a month before the end.
const MIN_DAYS_LEFT: i64 = 14;

/// A DNSSEC signature should have more than this part of its time left: signers renew it long before, whether it holds for
/// two days or for thirty.
const LAST_PART: i64 = 10;

/// One thing to mend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Advice {
    /// Its name, for machines.
    pub(super) kind: &'static str,
    /// The host that it is about, if it is about one.
    pub(super) host: Option<String>,
    /// In words.
    pub(super) text: String,
}

impl Advice {
    fn about(host: &Name, kind: &'static str, text: impl ToString) -> Self {
        Self { kind, host: Some(host.to_string()), text: text.to_string() }
    }
}

/// All there is to say about a walk.
pub(super) fn advice(walk: &Walk, digests: &Digests, now: OffsetDateTime) -> Vec<Advice> {
    let mut all = signatures(None, &walk.seen, now);
    for visit in &walk.visits {
        all.extend(signatures(Some(&visit.exchange), &visit.seen, now));
        all.extend(records(visit, digests));
        all.extend(protection(visit, &walk.visits));
        all.extend(addresses(visit));
        for (_, session) in &visit.sessions {
            for advice in certificates(&visit.exchange, session, now) {
                // Hosts show the same certificate at each of their addresses.
                if !all.contains(&advice) {
                    all.push(advice);
                }
            }
        }
    }
    all.extend(failing(walk));
    all
}

/// Signatures in the DNS that should have been renewed by now.
fn signatures(host: Option<&Name>, seen: &Seen, now: OffsetDateTime) -> Vec<Advice> {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "modulo 2^32 is what is meant")]
    let now = now.unix_timestamp() as u32;
    let advice = |(name, rtype, validity): &(Name, Rtype, Validity)| {
        let left = i64::from(validity.left(now));
        let whole = i64::from(validity.expiration.wrapping_sub(validity.inception));
        (left * LAST_PART < whole).then(|| Advice {
            kind: "signature-ends",
            host: host.map(ToString::to_string),
            text: format!(
                "the signature of {name} {rtype} ends in {}; if it is not renewed, mail is deferred from then on",
                format_duration(Duration::from_secs(left.max(0).unsigned_abs()))
            ),
        })
    };
    seen.signatures.iter().filter_map(advice).collect()
}

/// Records that protect less than they could, or not at all.
fn records(visit: &Visit, digests: &Digests) -> Vec<Advice> {
    let about = |kind, text| Advice::about(&visit.exchange, kind, text);
    let answers = visit.seen.tlsa.iter().filter_map(|(_, found)| found.as_ref().ok());
    let raw: Vec<_> = answers.flat_map(|found| found.answer.records()).cloned().collect();
    let read = tlsa::readings(&raw, digests);
    let unusable = raw.iter().zip(&read).filter_map(|(record, read)| Some((record, read.as_ref().err()?)));
    let mut all: Vec<_> = unusable
        .map(|(record, why)| about("unusable-record", format!("the TLSA record {record} is unusable: {why}")))
        .collect();
    if let Some(TlsPolicy::Dane(expected) | TlsPolicy::HalfDane(expected)) = visit.plan.as_ref().ok().map(|p| &p.policy)
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

/// Hosts whose mail is protected less than that of others of the domain.
fn protection(visit: &Visit, all: &[Visit]) -> Option<Advice> {
    let about = |kind, text: &str| Some(Advice::about(&visit.exchange, kind, text));
    let verifies = |other: &&Visit| {
        matches!(other.plan.as_ref().map(|plan| &plan.policy), Ok(TlsPolicy::Dane(_) | TlsPolicy::HalfDane(_)))
    };
    match &visit.plan.as_ref().ok()?.policy {
        TlsPolicy::HalfDane(_) => about(
            "insecure-mx",
            "the host is secure and has TLSA records, and the MX record that names it is not signed: who forges that sends \
             mail elsewhere",
        ),
        TlsPolicy::Encrypt(_, why @ (NoDane::NoTlsa | NoDane::InsecureAddress | NoDane::UnusableTlsa(_))) => {
            let other = all.iter().find(verifies)?;
            about(
                "mx-without-dane",
                &format!("{why}, while {} has: who makes that one unreachable has mail sent here", other.exchange),
            )
        }
        TlsPolicy::Encrypt(..) | TlsPolicy::Dane(_) | TlsPolicy::Fingerprint(_) | TlsPolicy::May(..) => None,
    }
}

/// A family of addresses that is not known.
fn addresses(visit: &Visit) -> Option<Advice> {
    match &visit.seen.host {
        Some(Ok(HostLookup::Found(host))) => {
            let failure = host.unknown.as_ref()?;
            Some(Advice::about(&visit.exchange, "partial-lookup", format!("{failure}; its other addresses are used")))
        }
        Some(Ok(HostLookup::NoAddress) | Err(_)) | None => None,
    }
}

/// Certificates whose dates or signatures count, or may soon.
fn certificates(exchange: &Name, session: &Session, now: OffsetDateTime) -> Vec<Advice> {
    let about = |kind, text| Advice::about(exchange, kind, text);
    let Some(matched) = matched(session) else { return Vec::new() };
    let mut all: Vec<_> =
        matched.warning.map(|warning| about("anchor-dates", warning.to_string())).into_iter().collect();
    for facts in session.chain.iter().filter_map(|certificate| facts::read(certificate)) {
        let days = facts.not_after.saturating_sub(now.unix_timestamp()).div_euclid(24 * 60 * 60);
        let subject = &facts.subject;
        // RFC 7671 §5.1: under usage 3 no date counts.
        if matched.record.usage() == Usage::TrustAnchor && (0..MIN_DAYS_LEFT).contains(&days) {
            all.push(about(
                "certificate-ends",
                format!("the certificate of \"{subject}\" ends in {days} days, and its date counts"),
            ));
        }
        // A self-signed certificate is not believed for its signature.
        if facts.signature == Digesting::Weak && facts.subject != facts.issuer {
            all.push(about(
                "weak-signature",
                format!(
                    "the certificate of \"{subject}\" is signed with SHA-1 or MD5, which nobody takes under usage 2"
                ),
            ));
        }
    }
    all
}

fn matched(session: &Session) -> Option<&Match> {
    match session.outcome.as_ref().ok()? {
        Channel::Secured(protection) => match protection.authentication() {
            Authentication::Verified(matched) | Authentication::HostVerified(matched) => Some(matched),
            Authentication::Unverified(_) => None,
        },
        Channel::Cleartext(_) => None,
    }
}

/// What fails while mail still goes out over something else.
fn failing(walk: &Walk) -> Vec<Advice> {
    if let Fate::Refused = walk.fate() {
        return Vec::new();
    }
    let theirs = |reason: &Reason| match reason {
        // No way to an address of its family from here, which says nothing about the host.
        Reason::Connect(error) => error.kind() != ErrorKind::NetworkUnreachable,
        Reason::NotTried(_) => false,
        _ => true,
    };
    let obstacles = walk.obstacles().into_iter().filter(|(_, reason)| theirs(reason));
    let said =
        |(at, reason)| Advice { kind: "failing-host", host: None, text: format!("{at}{reason}; mail goes elsewhere") };
    obstacles.map(said).collect()
}
