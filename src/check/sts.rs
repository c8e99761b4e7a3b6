//! The MTA-STS policy of a domain in a report of `danelaw check`, and the advice on it.

use std::time::Duration;

use humantime_serde::re::humantime::format_duration;
use serde::Serialize;
use time::OffsetDateTime;

use super::advice::Advice;
use super::certificate::CertificateReport;
use super::checker::{DomainCheck, ExchangeCheck};
use super::ends::{CERTIFICATE_SOON, DAY};
use crate::dane::pkix::PkixWorth;
use crate::discovery::{RunningPolicy, StsFound, StsInForce, StsSource};
use crate::mta_sts::{MxPattern, NoStsRecord, StsFetchError, StsMode};
use crate::policy::TlsPolicy;
use crate::upstream::sts::StsAtHand;

/// A policy that ends sooner leaves first contacts to chance; RFC 8461 §3.2 has weeks in mind.
const SHORT: Duration = Duration::from_secs(24 * 60 * 60);

/// The policy.
#[derive(Debug, Serialize)]
pub(crate) struct StsReport {
    /// `enforce`, `testing`, `none`, `unfetched` or `failed`, for a lookup of the record that failed.
    pub(crate) found: &'static str,
    /// In words.
    pub(crate) text: String,
    /// Whether there is a record, of use or not, or none could be looked up.
    #[serde(skip)]
    pub(crate) has_record: bool,
    pub(crate) id: Option<String>,
    /// In seconds.
    pub(crate) max_age: Option<u64>,
    pub(crate) mx: Vec<String>,
    /// `secure` or `insecure`, of the TXT record.
    pub(crate) record: Option<String>,
    /// Until the certificate of the policy host ends.
    pub(crate) certificate_days_left: Option<i64>,
    /// The policy that the running danelaw has, if it is another one: in words.
    pub(crate) running: Option<String>,
}

impl StsReport {
    /// The report of the policy and its record; none if no policy was asked for.
    pub(crate) fn of(check: &DomainCheck, now: OffsetDateTime) -> Option<Self> {
        let at_hand: &StsAtHand = check.sts.as_ref().filter(|at_hand| at_hand.found != StsFound::Off)?;
        let in_force = at_hand.found.in_force();
        let patterns = in_force.map_or(&[][..], |in_force| in_force.policy.patterns());
        let record = in_force.and_then(|in_force| match in_force.source {
            StsSource::Fetched(security) | StsSource::Kept(security) => Some(security.to_string()),
            StsSource::Renewed | StsSource::Unfetched(_) | StsSource::NoRecord(_) | StsSource::LookupFailed(_) => None,
        });
        Some(Self {
            found: at_hand.label(),
            text: at_hand.to_string(),
            has_record: at_hand.found != StsFound::Absent(NoStsRecord::Absent),
            id: in_force.map(|in_force| in_force.id.as_str().to_owned()),
            max_age: in_force.map(|in_force| in_force.policy.max_age().as_secs()),
            mx: patterns.iter().map(ToString::to_string).collect(),
            record,
            certificate_days_left: days_left(check, now),
            running: running(check, now),
        })
    }

    /// Lines for people; none for a domain that has nothing of MTA-STS.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.has_record || self.running.is_some() {
            let age = self.max_age.map_or(String::new(), |seconds| {
                format!(", holds for {}: {}", format_duration(Duration::from_secs(seconds)), self.mx.join(", "))
            });
            let end = self
                .certificate_days_left
                .map_or(String::new(), |days| format!("; the policy host's certificate ends in {days} days"));
            lines.push(format!("MTA-STS {}{age}{end}", self.text));
        }
        lines.extend(self.running.as_ref().map(|running| format!("the danelaw that runs has {running}")));
        lines
    }
}

/// Days until the certificate of the policy host ends.
fn days_left(check: &DomainCheck, now: OffsetDateTime) -> Option<i64> {
    CertificateReport::of(check.policy_host.as_ref()?, now).map(|certificate| certificate.days_left)
}

/// The policy of the running danelaw, where it is not the one that is published now.
fn running(check: &DomainCheck, now: OffsetDateTime) -> Option<String> {
    let running = check.running.as_ref()?;
    let published = check.sts.as_ref().and_then(|at_hand| at_hand.found.in_force());
    if published.is_some_and(|published| is_same(running, published)) {
        return None;
    }
    let age = u64::try_from(now.unix_timestamp().saturating_sub(running.fetched)).unwrap_or(0);
    let age = format_duration(Duration::from_secs(age));
    Some(format!("another MTA-STS policy: mode {}, {} (fetched {age} ago)", running.mode, running.id))
}

fn is_same(running: &RunningPolicy, published: &StsInForce) -> bool {
    running.id == published.id.as_str() && running.body == String::from_utf8_lossy(published.policy.body())
}

fn said(kind: &'static str, text: impl Into<String>) -> Advice {
    Advice { kind, host: None, text: text.into() }
}

/// Policies that stop mail, or protect less than they could.
pub(crate) fn advice(check: &DomainCheck, now: OffsetDateTime) -> Vec<Advice> {
    let in_force = match check.sts.as_ref().map(|at_hand| &at_hand.found) {
        Some(StsFound::InForce(in_force)) => in_force,
        // The policy host was not asked, so the policy may be good.
        Some(StsFound::Unfetched(error)) if error.is_own() => return Vec::new(),
        Some(StsFound::Unfetched(error)) => return vec![unfetched(error)],
        Some(StsFound::Absent(why @ (NoStsRecord::NoId | NoStsRecord::BadId(_)))) => {
            let text = format!("the TXT record of MTA-STS does not count (RFC 8461 §3.1): {why}");
            return vec![said("sts-bad-record", text)];
        }
        Some(StsFound::Absent(NoStsRecord::Several(_) | NoStsRecord::SeveralIds)) => {
            let text = "there are several TXT records or ids of MTA-STS, so none counts (RFC 8461 §3.1)";
            return vec![said("sts-several-records", text)];
        }
        Some(StsFound::Absent(_) | StsFound::LookupFailed(_) | StsFound::Off) | None => return Vec::new(),
    };
    let mut all = of_text(in_force);
    if in_force.policy.mode() != StsMode::None {
        all.extend(check.exchanges.iter().filter_map(|exchange| of_exchange(exchange, in_force)));
    }
    if let Some(running) = &check.running
        && running.id == in_force.id.as_str()
        && !is_same(running, in_force)
    {
        let text = format!(
            "the policy has changed, and its id {} has not: senders that keep the old one notice after a day or later",
            in_force.id
        );
        all.push(said("sts-id-unchanged", text));
    }
    all.extend(days_left(check, now).filter(|days| *days < CERTIFICATE_SOON / DAY).map(|days| {
        let text = format!("the certificate of the policy host ends in {days} days; no policy is fetched from then on");
        said("sts-certificate-ends", text)
    }));
    all
}

fn unfetched(error: &StsFetchError) -> Advice {
    let kind = match error {
        StsFetchError::MediaType(_) => "sts-wrong-type",
        StsFetchError::Redirect(_) => "sts-redirect",
        _ => "sts-unreachable",
    };
    said(kind, format!("the policy of MTA-STS cannot be fetched, so it protects no mail: {error}"))
}

/// The text of a policy by itself.
fn of_text(in_force: &StsInForce) -> Vec<Advice> {
    let policy = &in_force.policy;
    let mut all = Vec::new();
    match policy.mode() {
        StsMode::None => return all,
        StsMode::Testing => {
            all.push(said("sts-testing", "the policy of MTA-STS is in mode testing, and protects no mail"));
        }
        StsMode::Enforce => {}
    }
    if policy.max_age() < SHORT {
        let age = format_duration(policy.max_age());
        all.push(said("sts-short-max-age", format!("the policy of MTA-STS holds for {age}; weeks are meant")));
    }
    let unusable = policy.patterns().iter().filter(|pattern| !MxPattern::is_usable(pattern));
    all.extend(unusable.map(|pattern| {
        let kind = if pattern.is_address() { "sts-ip-as-mx" } else { "sts-unusable-mx" };
        said(kind, format!("no host can match the policy's mx value {pattern}"))
    }));
    all
}

/// An exchange that the policy stops.
fn of_exchange(exchange: &ExchangeCheck, in_force: &StsInForce) -> Option<Advice> {
    let about = |kind, text: String| Some(Advice { host: Some(exchange.name.to_string()), ..said(kind, text) });
    if !in_force.policy.lists(&exchange.name) {
        let text = "it gets no mail from senders that honour the domain's policy of MTA-STS, which does not list it";
        return about("sts-mx-not-listed", text.to_owned());
    }
    // Senders without DANE hold this host to the policy.
    let by_dane = matches!(
        exchange.plan.as_ref().map(|plan| &plan.policy),
        Ok(TlsPolicy::Dane(_) | TlsPolicy::HalfDane(_) | TlsPolicy::StsDane(_))
    );
    let sessions = exchange.sessions.iter().filter(|(_, session)| by_dane && session.outcome.is_ok());
    let worth = sessions.map(|(_, session)| session.worth).find(|worth| *worth != PkixWorth::Valid)?;
    let text = format!(
        "its certificate passes by DANE and not by the domain's policy of MTA-STS: to public CAs it is {}, so senders that know \
         MTA-STS alone send it no mail",
        worth.as_str()
    );
    about("sts-contradicts-dane", text)
}
