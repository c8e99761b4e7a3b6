//! The state of a danelaw in words, for `danelaw status`: whether mail has a chance, the mail of the last day by verdict, and
//! which domains have had none since when.

use std::fmt::{self, Write as _};
use std::time::Duration;

use humantime_serde::re::humantime::format_duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::excerpt::printable;
use crate::last_day::LastDay;
use crate::name::Name;
use crate::report::recent::{RecentDomain, RecentSummary, VerdictCounts};
use crate::version;

/// How many domains and reasons are listed.
pub(super) const MOST: usize = 20;

/// The state of a danelaw.
pub(super) struct StatusView {
    /// The time of the answer.
    pub(super) now: OffsetDateTime,
    /// The lines of `/readyz`.
    pub(super) readiness: String,
    /// The sessions that are open, and how many may be.
    pub(super) sessions: [usize; 2],
    /// Whether the store answers.
    pub(super) store: StoreState,
    /// The mail of the last day, if it is counted.
    pub(super) recent: Option<RecentSummary>,
    /// The rules that end within a week, or have ended.
    pub(super) ending: Vec<(String, LastDay)>,
}

/// Whether the store answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StoreState {
    /// It does.
    Up,
    /// It does not.
    Down,
}

impl fmt::Display for StatusView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { now, readiness, sessions: [open, most], store, recent, ending } = self;
        f.write_str(readiness)?;
        writeln!(f, "version: {}", version::VERSION)?;
        writeln!(f, "sessions: {open} of {most}")?;
        match store {
            StoreState::Up => {}
            StoreState::Down => {
                writeln!(f, "store: does not answer; fan-out mail is deferred, and all other mail goes on")?
            }
        }
        if let Some(recent) = recent {
            counts(f, recent, *now)?;
            reasons(f, recent, *now)?;
            failing(f, recent, *now)?;
        }
        if !ending.is_empty() {
            writeln!(f, "\nrules that end within a week, or have ended")?;
        }
        ending.iter().try_for_each(|(domains, last)| writeln!(f, "  rule for {domains}: its last day is {last}"))
    }
}

fn counts(f: &mut fmt::Formatter<'_>, recent: &RecentSummary, now: OffsetDateTime) -> fmt::Result {
    let row = |f: &mut fmt::Formatter<'_>, name: &str, counts: VerdictCounts| {
        let VerdictCounts { delivered, deferred, rejected, aborted } = counts;
        writeln!(f, "{name:<14}{delivered:>10}{deferred:>10}{rejected:>10}{aborted:>10}")
    };
    writeln!(f, "counting since: {}, for {}", stamp(recent.since), ago(recent.since, now))?;
    writeln!(f, "\n{:<14}{:>10}{:>10}{:>10}{:>10}", "attempts", "delivered", "deferred", "rejected", "aborted")?;
    row(f, "last hour", recent.hour)?;
    row(f, "last 24 hours", recent.day)
}

fn reasons(f: &mut fmt::Formatter<'_>, recent: &RecentSummary, now: OffsetDateTime) -> fmt::Result {
    if recent.reasons.is_empty() {
        return Ok(());
    }
    writeln!(f, "\nreasons since then, the most frequent first (danelaw refusals REASON explains one)")?;
    recent.reasons.iter().take(MOST).try_for_each(|seen| {
        writeln!(f, "{:>8}  {}, last for {}, {} ago", seen.times, seen.label, seen.domain, ago(seen.last, now))
    })
}

fn failing(f: &mut fmt::Formatter<'_>, recent: &RecentSummary, now: OffsetDateTime) -> fmt::Result {
    let RecentSummary { failing, failing_domains, domains, .. } = recent;
    writeln!(f, "\ndomains whose last mail was refused: {failing_domains} of {domains} since then")?;
    failing.iter().try_for_each(|(name, domain)| {
        writeln!(f, "  {name}, for {}: {}; danelaw explain {}", ago(domain.since, now), verdict(domain), domain.id)
    })?;
    match failing_domains.saturating_sub(failing.len()) {
        0 => Ok(()),
        more => writeln!(f, "  and {more} more"),
    }
}

/// The last mail to a domain.
pub(super) fn of_domain(name: &Name, domain: &RecentDomain, now: OffsetDateTime) -> String {
    let mut text = String::new();
    let mut line = |title: &str, value: &str| {
        let value: String = value.chars().map(printable).collect();
        let _ = writeln!(text, "{title:<11} {value}");
    };
    line("domain", name.as_str());
    line("last mail", &format!("{}, {} ago", verdict(domain), ago(domain.last, now)));
    line("so since", &format!("{} ({})", stamp(domain.since), ago(domain.since, now)));
    if let Some((exchange, policy)) = &domain.remote {
        line("remote", &format!("{exchange}, policy {policy}, protection {}", domain.protection));
    }
    let VerdictCounts { delivered, deferred, rejected, aborted } = domain.counts;
    line("attempts", &format!("{delivered} delivered, {deferred} deferred, {rejected} rejected, {aborted} aborted"));
    line("see", &format!("danelaw check {name}"));
    if let Some(reason) = domain.reason {
        line("see", &format!("danelaw explain {}", domain.id));
        line("see", &format!("danelaw refusals {reason}"));
    }
    text
}

pub(super) fn verdict(domain: &RecentDomain) -> String {
    match domain.reason {
        Some(reason) => format!("{}: {reason}", domain.verdict),
        None => domain.verdict.to_string(),
    }
}

pub(super) fn stamp(at: OffsetDateTime) -> String {
    at.replace_nanosecond(0).unwrap_or(at).format(&Rfc3339).unwrap_or_default()
}

/// The time between, in seconds. A clock that went back makes it 0.
pub(super) fn ago(then: OffsetDateTime, now: OffsetDateTime) -> String {
    let seconds = u64::try_from((now - then).whole_seconds()).unwrap_or(0);
    format_duration(Duration::from_secs(seconds)).to_string()
}
