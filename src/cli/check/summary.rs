//! The forecast for mail to many domains: the counts of each outcome, with the reasons.

use std::collections::BTreeMap;
use std::io::{self, Write};

use crate::check::report::DomainReport;
use crate::check::verdict::{MailVerdict, Need};

/// The most domains that are named for one reason.
const MAX_NAMED: usize = 5;

/// Counts, of all that was checked.
#[derive(Debug, Default)]
pub(super) struct Summary {
    verdicts: BTreeMap<MailVerdict, usize>,
    refusals: BTreeMap<&'static str, Vec<String>>,
    no_dane: BTreeMap<String, usize>,
    /// Domains by the state of their MTA-STS policies.
    sts: BTreeMap<&'static str, usize>,
    advice: BTreeMap<&'static str, Vec<String>>,
    rules: usize,
    unneeded: Vec<String>,
}

impl Summary {
    pub(super) fn add(&mut self, report: &DomainReport) {
        *self.verdicts.entry(report.outcome.0).or_default() += 1;
        if let Some(no) = &report.refusal {
            self.refusals.entry(no.reason).or_default().push(report.domain.clone());
        }
        if let Some(why) = &report.no_dane {
            *self.no_dane.entry(why.clone()).or_default() += 1;
        }
        if let Some(sts) = &report.sts {
            *self.sts.entry(sts.found).or_default() += 1;
        }
        for advice in &report.advice {
            let named = self.advice.entry(advice.kind).or_default();
            if named.last() != Some(&report.domain) {
                named.push(report.domain.clone());
            }
        }
        if let Some(rule) = &report.rule {
            self.rules += 1;
            // Mail by other listeners may need it.
            if rule.need == Need::NotNeeded && report.listener.is_none() {
                self.unneeded.push(report.domain.clone());
            }
        }
    }

    pub(super) fn domains(&self) -> usize {
        self.verdicts.values().sum()
    }

    fn count(&self, which: impl Fn(MailVerdict) -> bool) -> usize {
        self.verdicts.iter().filter(|(verdict, _)| which(**verdict)).map(|(_, count)| count).sum()
    }

    /// The counts, the most important first.
    pub(super) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let all = self.domains();
        writeln!(out, "{all} domains:")?;
        for (verdict, count) in &self.verdicts {
            writeln!(out, "{count:8} {}", said(*verdict))?;
        }
        let unverified = self.count(|verdict| verdict.is_delivery() && !verdict.is_verified());
        if unverified > 0 {
            writeln!(out, "not verified, because:")?;
            for (why, count) in &self.no_dane {
                writeln!(out, "{count:8} {why}")?;
            }
        }
        for (found, count) in self.sts.iter().filter(|(found, _)| **found != "none") {
            writeln!(out, "{count:8} with MTA-STS: {found}")?;
        }
        section(out, "refused, because:", &self.refusals)?;
        section(out, "to mend:", &self.advice)?;
        if self.rules > 0 {
            writeln!(
                out,
                "{} under rules, {} of which are no longer needed{}",
                self.rules,
                self.unneeded.len(),
                named(&self.unneeded)
            )?;
        }
        Ok(())
    }
}

fn section(out: &mut dyn Write, title: &str, counts: &BTreeMap<&'static str, Vec<String>>) -> io::Result<()> {
    if counts.is_empty() {
        return Ok(());
    }
    writeln!(out, "{title}")?;
    let mut counts: Vec<_> = counts.iter().collect();
    counts.sort_by_key(|(_, domains)| std::cmp::Reverse(domains.len()));
    for (label, domains) in counts {
        writeln!(out, "{:8} {label}{}", domains.len(), named(domains))?;
    }
    Ok(())
}

fn named(domains: &[String]) -> String {
    let shown: Vec<_> = domains.iter().take(MAX_NAMED).map(String::as_str).collect();
    match domains.len() {
        0 => String::new(),
        more if more > MAX_NAMED => format!(": {}, and {} more", shown.join(", "), more - MAX_NAMED),
        _ => format!(": {}", shown.join(", ")),
    }
}

fn said(verdict: MailVerdict) -> &'static str {
    match verdict {
        MailVerdict::Verified => "verified by DANE, by MTA-STS, or as a rule asks",
        MailVerdict::HostVerified => "host verified, over an insecure MX record",
        MailVerdict::Encrypted => "encrypted, and not verified",
        MailVerdict::Cleartext => "in cleartext, by a rule",
        MailVerdict::Deferred => "deferred: refused for now",
        MailVerdict::Rejected => "rejected: refused for good",
        MailVerdict::Dane => "would have to be verified by DANE; not connected",
        MailVerdict::HalfDane => "would have to be verified by DANE under the host's name; not connected",
        MailVerdict::Sts => "would have to be verified by MTA-STS; not connected",
        MailVerdict::Pkix => "would have to be verified by a public CA; not connected",
        MailVerdict::HostPkix => "would have to be verified by a public CA under the host's name; not connected",
        MailVerdict::Fingerprint => "would have to match the records of a rule; not connected",
        MailVerdict::Encrypt => "would have to be encrypted; not connected",
        MailVerdict::May => "may go in cleartext by a rule; not connected",
    }
}
