//! Which domains a day's reports are for.

use std::collections::{BTreeMap, BTreeSet};

use super::event::PolicyKind;
use super::tally::TalliedDay;
use crate::config::ReportExtent;
use crate::name::Name;
use crate::rules::Domains;

/// Which domains get reports.
#[derive(Debug, Clone)]
pub struct ReportScope {
    /// Whether days without a failure are reported.
    pub extent: ReportExtent,
    /// Domains that get none.
    pub skip: Vec<Domains>,
    /// Our own domain, which gets none.
    pub own: Name,
}

/// Why the configuration has no report for a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotReported {
    /// It is left out.
    #[error("tlsrpt.skip has it")]
    Skipped,
    /// It is our own.
    #[error("it is the domain of tlsrpt.contact, which gets none")]
    Own,
    /// Days without a failure are.
    #[error("tlsrpt.report is \"failures\", and nothing has failed")]
    NoFailure,
}

/// The part that a domain has in the counts of a day.
#[derive(Debug, Default)]
pub(super) struct DomainPart {
    /// Whether it is the domain of TLSA records of other recipients.
    pub(super) is_base_of_others: bool,
    /// The failures of its sessions.
    pub(super) failed: u64,
}

impl ReportScope {
    /// Why a domain with so many failures gets no report, if it gets none.
    pub fn keeps_back(&self, domain: &Name, failed: u64) -> Option<NotReported> {
        self.leaves_out(domain).or(match self.extent {
            ReportExtent::Failures if failed == 0 => Some(NotReported::NoFailure),
            ReportExtent::All | ReportExtent::Failures => None,
        })
    }

    /// Whether this domain gets reports. Mail to ourselves would be a loop.
    pub fn reports_to(&self, domain: &Name) -> bool {
        self.leaves_out(domain).is_none()
    }

    fn leaves_out(&self, domain: &Name) -> Option<NotReported> {
        match domain {
            domain if self.skips(domain) => Some(NotReported::Skipped),
            domain if *domain == self.own => Some(NotReported::Own),
            _ => None,
        }
    }

    /// Whether the configuration leaves this domain out.
    pub fn skips(&self, domain: &Name) -> bool {
        self.skip.iter().any(|domains| domains.contain(domain))
    }
}

/// The domains that a report about the day may be for: the recipients, and the domains of their TLSA records.
pub fn subjects(day: &TalliedDay) -> BTreeSet<&Name> {
    parts(day).into_keys().collect()
}

/// The recipients of a day and the TLSA base domains.
pub(super) fn parts(day: &TalliedDay) -> BTreeMap<&Name, DomainPart> {
    let mut parts = BTreeMap::<&Name, DomainPart>::new();
    for (recipient, policies) in day.domains() {
        for (policy, counts) in policies {
            parts.entry(recipient).or_default().failed += counts.failed();
            if policy.kind == PolicyKind::Tlsa && policy.domain != *recipient {
                let base = parts.entry(&policy.domain).or_default();
                base.is_base_of_others = true;
                base.failed += counts.failed();
            }
        }
    }
    parts
}
