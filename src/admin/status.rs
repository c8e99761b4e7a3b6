//! The state of a danelaw, for `danelaw status` and the page: whether mail has a chance, the mail of the last day by verdict, and
//! which domains have had none since when.

use std::fmt;
use std::time::Duration;

use humantime_serde::re::humantime::format_duration;
use time::format_description::well_known::Rfc3339;
use time::{Date, OffsetDateTime};

use super::answers::AdminState;
use crate::last_day::LastDay;
use crate::policy::Mode;
use crate::report::metrics::WatchFigures;
use crate::report::month::share;
use crate::report::recent::{RecentDomain, RecentSummary, VerdictCounts};
use crate::rules::Rules;
use crate::version;
use crate::watch::kinds::Severity;

/// How many domains, reasons and rules are listed.
pub(super) const MOST: usize = 20;
/// How many days before its last day a rule is listed.
const NEAR: i32 = 14;

/// The state of a danelaw.
pub(super) struct StatusView {
    /// The time of the answer.
    pub(super) now: OffsetDateTime,
    /// The lines of `/readyz`.
    pub(super) readiness: String,
    /// Whether policies are held to.
    pub(super) mode: Mode,
    /// The numbers that have a limit.
    pub(super) caps: [CapUse; 2],
    /// The store.
    pub(super) store: StoreState,
    /// The host name, for one danelaw of several with the same database.
    pub(super) replica: Option<String>,
    /// The mail of the last day, if it is counted.
    pub(super) recent: Option<RecentSummary>,
    /// The rules that end within two weeks, or have ended.
    pub(super) ending: EndingRules,
    /// The findings of the watch that hold, if there is a watch.
    pub(super) findings: Option<FindingCounts>,
    /// The TLS reports that wait to be sent, if danelaw sends them.
    pub(super) reports: Option<u64>,
}

/// A number with its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CapUse {
    pub(super) title: &'static str,
    pub(super) used: usize,
    pub(super) most: usize,
}

/// Rules that end soon, or have ended.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct EndingRules {
    /// Each with its last day, the first ones.
    pub(super) rows: Vec<(String, LastDay)>,
    /// How many more there are.
    pub(super) more: usize,
}

/// The findings that hold, by their severity, the most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FindingCounts(pub(super) [(Severity, u64); 3]);

/// Whether the store answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StoreState {
    /// It does.
    Up,
    /// It does not.
    Down,
}

impl StoreState {
    /// In words.
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Up => "answers",
            Self::Down => "does not answer; fan-out mail is deferred, and all other mail goes on",
        }
    }
}

impl CapUse {
    /// In words, as in `3 of 9000 (<0.1 %)`.
    pub(super) fn words(self) -> String {
        let whole = |count| u64::try_from(count).unwrap_or(u64::MAX);
        format!("{} of {} ({})", self.used, self.most, share(whole(self.used), whole(self.most)))
    }
}

impl EndingRules {
    fn of(rules: &Rules, today: Date) -> Self {
        let ending = rules.entries().iter().filter(|rule| rule.days_left(today).is_some_and(|days| days <= NEAR));
        let all: Vec<_> = ending.filter_map(|rule| Some((rule.domains.to_string(), LastDay(rule.until?)))).collect();
        let more = all.len().saturating_sub(MOST);
        Self { rows: all.into_iter().take(MOST).collect(), more }
    }
}

impl FindingCounts {
    fn of(figures: &WatchFigures) -> Self {
        let all = [Severity::Alarm, Severity::Warn, Severity::Info];
        Self(all.map(|severity| {
            let rows = figures.findings.iter().filter(|([_, word, _], _)| *word == severity.as_str());
            (severity, rows.map(|(_, count)| *count).sum())
        }))
    }
}

/// The words for one danelaw of several.
pub(super) fn replica(state: &AdminState) -> Option<String> {
    let shared = state.shared();
    let is_one_of_several = shared.journal.store().is_shared();
    is_one_of_several.then(|| {
        let host = &shared.us.hostname;
        format!("danelaw on {host}, one of several with the same store.url; it tells of its own mail alone")
    })
}

impl StatusView {
    /// The state now.
    pub(super) fn of(state: &AdminState) -> Self {
        let (shared, now) = (state.shared(), OffsetDateTime::now_utc());
        let [used, most] = shared.connector.dialer.limits.in_all();
        Self {
            now,
            readiness: state.readiness().text,
            mode: shared.connector.mode,
            caps: [
                CapUse { title: "sessions", used: state.open_sessions.count(), most: shared.max_sessions },
                CapUse { title: "connections", used, most },
            ],
            store: if shared.journal.store().figures().is_up { StoreState::Up } else { StoreState::Down },
            replica: replica(state),
            recent: shared.reporter.recent().map(|recent| recent.summary(now, MOST)),
            ending: EndingRules::of(&shared.rules, now.date()),
            findings: state.watch.as_ref().map(|watch| FindingCounts::of(&watch.figures())),
            reports: state.reports.as_ref().map(|_| shared.reporter.metrics().tls_reports().waiting),
        }
    }
}

impl fmt::Display for StatusView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { now, readiness, mode, caps, store, replica, recent, ending, findings, reports } = self;
        f.write_str(readiness)?;
        writeln!(f, "version: {}\nmode: {mode}", version::VERSION)?;
        replica.iter().try_for_each(|replica| writeln!(f, "replica: {replica}"))?;
        caps.iter().try_for_each(|cap| writeln!(f, "{}: {}", cap.title, cap.words()))?;
        writeln!(f, "store: {}", store.words())?;
        if let Some(FindingCounts([(_, alarm), (_, warn), (_, info)])) = findings {
            writeln!(f, "findings of the watch: {alarm} alarm, {warn} warn, {info} info (danelaw watch)")?;
        }
        reports.iter().try_for_each(|waiting| writeln!(f, "TLS reports that wait: {waiting}"))?;
        if let Some(recent) = recent {
            counts(f, recent, *now)?;
            reasons(f, recent, *now)?;
            failing(f, recent, *now)?;
        }
        if !ending.rows.is_empty() {
            writeln!(f, "\nrules that end within two weeks, or have ended")?;
        }
        ending
            .rows
            .iter()
            .try_for_each(|(domains, last)| writeln!(f, "  rule for {domains}: its last day is {last}"))?;
        match ending.more {
            0 => Ok(()),
            more => writeln!(f, "  and {more} more: danelaw rules"),
        }
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
