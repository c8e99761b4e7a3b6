//! The MTA-STS policy of a domain in a report of `danelaw check`, and the advice on it.

use std::time::Duration;

use humantime_serde::re::humantime::format_duration;
use serde::Serialize;

use super::advice::Advice;
use super::checker::DomainCheck;
use crate::discovery::StsFound;
use crate::mta_sts::{MxPattern, StsFetchError, StsMode};
use crate::upstream::sts::StsAtHand;

/// A policy that ends sooner leaves first contacts to chance; RFC 8461 §3.2 has weeks in mind.
const SHORT: Duration = Duration::from_secs(24 * 60 * 60);

/// The policy.
#[derive(Debug, Serialize)]
pub(super) struct StsReport {
    /// `enforce`, `testing`, `none`, `unfetched` or `off`.
    pub(super) found: &'static str,
    /// In words.
    pub(super) text: String,
    pub(super) id: Option<String>,
    /// In seconds.
    pub(super) max_age: Option<u64>,
    pub(super) mx: Vec<String>,
}

impl StsReport {
    /// The report of the policy and its record; none if no policy was asked for.
    pub(super) fn of(check: &DomainCheck) -> Option<Self> {
        let at_hand: &StsAtHand = check.sts.as_ref().filter(|at_hand| at_hand.found != StsFound::Off)?;
        let in_force = at_hand.found.in_force();
        let patterns = in_force.map_or(&[][..], |in_force| in_force.policy.patterns());
        Some(Self {
            found: at_hand.label(),
            text: at_hand.to_string(),
            id: in_force.map(|in_force| in_force.id.as_str().to_owned()),
            max_age: in_force.map(|in_force| in_force.policy.max_age().as_secs()),
            mx: patterns.iter().map(ToString::to_string).collect(),
        })
    }

    /// One line, for people.
    pub(super) fn line(&self) -> String {
        let age = self.max_age.map_or(String::new(), |seconds| {
            format!(", holds for {}: {}", format_duration(Duration::from_secs(seconds)), self.mx.join(", "))
        });
        format!("MTA-STS {}{age}", self.text)
    }
}

/// Policies that stop mail, or protect less than they could.
pub(super) fn advice(check: &DomainCheck) -> Vec<Advice> {
    let said = |kind, text: String| Advice { kind, host: None, text };
    let in_force = match check.sts.as_ref().map(|at_hand| &at_hand.found) {
        Some(StsFound::InForce(in_force)) => in_force,
        Some(StsFound::Unfetched(error)) => {
            let kind = match error {
                StsFetchError::MediaType(_) => "sts-wrong-type",
                StsFetchError::Redirect(_) => "sts-redirect",
                _ => "sts-unreachable",
            };
            return vec![said(
                kind,
                format!("the policy of MTA-STS cannot be fetched, so it protects no mail: {error}"),
            )];
        }
        Some(StsFound::Absent(_) | StsFound::LookupFailed(_) | StsFound::Off) | None => return Vec::new(),
    };
    let policy = &in_force.policy;
    let mut all = Vec::new();
    match policy.mode() {
        StsMode::None => return all,
        StsMode::Testing => {
            all.push(said("sts-testing", "the policy of MTA-STS is in mode testing, and protects no mail".to_owned()));
        }
        StsMode::Enforce => {}
    }
    if policy.max_age() < SHORT {
        let age = format_duration(policy.max_age());
        all.push(said("sts-short-max-age", format!("the policy of MTA-STS holds for {age}; weeks are meant")));
    }
    for exchange in check.exchanges.iter().filter(|exchange| !policy.lists(&exchange.name)) {
        let text = "it gets no mail from senders that honour the domain's policy of MTA-STS, which does not list it";
        all.push(Advice { host: Some(exchange.name.to_string()), ..said("sts-mx-not-listed", text.to_owned()) });
    }
    let unusable = policy.patterns().iter().filter(|pattern| !MxPattern::is_usable(pattern));
    all.extend(
        unusable.map(|pattern| said("sts-unusable-mx", format!("no host can match the policy's mx value {pattern}"))),
    );
    all
}
