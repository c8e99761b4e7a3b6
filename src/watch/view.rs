//! The state of the watch, for `danelaw watch`, the page and JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use humantime_serde::re::humantime::format_duration;
use serde::{Deserialize, Serialize};

use super::book::{Blind, Book};
use super::entry::WatchEntry;
use super::findings::counted;
use super::kinds::{FindingKind, Ownership, Severity};
use super::states::{FindingStage, FindingState};
use crate::name::Name;
use crate::words::words;

/// The state of the watch.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchView {
    /// The end of the last run, in seconds since 1970.
    pub last_run: Option<i64>,
    /// Why the last run could not see, if it could not.
    pub blind: Option<Blind>,
    /// How many domains are watched.
    pub domains: usize,
    /// How many hosts they have.
    pub hosts: usize,
    /// The findings, the most urgent first.
    pub findings: Vec<FindingRow>,
    /// How many more there are.
    pub more: usize,
    /// Domains whose last look had no answer.
    pub unknown: Vec<UnknownRow>,
}

/// A domain whose last look had no answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnknownRow {
    /// The domain.
    pub domain: String,
    /// Its owner.
    pub whose: Ownership,
    /// In words.
    pub text: String,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindingRow {
    /// How urgent it is.
    pub severity: Severity,
    /// The owner of the domain or host.
    pub whose: Ownership,
    /// Its kind.
    pub kind: FindingKind,
    /// The domain that it is about.
    pub domain: Option<String>,
    /// The host that it is about.
    pub host: Option<String>,
    /// The watched domains that it concerns, some of them.
    pub domains: Vec<String>,
    /// How many these are.
    pub domains_in_all: usize,
    /// `suspected` (a second look has yet to confirm it), `active`, or `ended`.
    pub state: FindingWord,
    /// Since when, in seconds since 1970.
    pub since: i64,
    /// In words. It may have words of the host in it.
    pub text: String,
    /// The name in the table of refusals, for a finding about one.
    pub reason: Option<String>,
    /// The remedy.
    pub remedy: Option<String>,
}

/// How far a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
#[serde(rename_all = "kebab-case")]
pub enum FindingWord {
    /// A second look has yet to confirm it.
    Suspected,
    /// It holds, and was told.
    Active,
    /// It is over.
    Ended,
}

words!(FindingWord);

impl FindingRow {
    /// The name of the domain or host.
    pub fn about(&self) -> &str {
        self.host.as_deref().or(self.domain.as_deref()).unwrap_or_default()
    }

    /// The domains behind a host, in words.
    pub fn behind(&self) -> String {
        let named = self.domains.join(", ");
        match (&self.host, self.domains_in_all.saturating_sub(self.domains.len())) {
            (None, _) => String::new(),
            (Some(_), 0) => format!("of {named}"),
            (Some(_), more) => format!("of {named} and {more} more"),
        }
    }
}

impl WatchView {
    /// The last look, in words.
    pub fn last_look(&self, now: i64) -> String {
        let Some(at) = self.last_run else { return "no look yet".to_owned() };
        let looked = format!(
            "{} with {}, last looked at {} ago",
            counted(self.domains, "domain"),
            counted(self.hosts, "host"),
            lasting(now - at)
        );
        match &self.blind {
            Some(blind) => format!("{looked}; {blind}, for {}", lasting(now - blind.since)),
            None => looked,
        }
    }

    /// Whether the last look had no answers, or there was none.
    pub fn is_blind(&self) -> bool {
        self.blind.is_some() || self.last_run.is_none()
    }

    /// Whether a finding of severity warn or alarm holds.
    pub fn is_urgent(&self) -> bool {
        self.findings.iter().any(|row| row.state == FindingWord::Active && row.severity >= Severity::Warn)
    }
}

/// The most rows.
const MAX_ROWS: usize = 1000;
/// The most domains that one row names.
const MAX_NAMED: usize = 5;

impl Book {
    /// The whole state.
    pub(crate) fn view(&self) -> WatchView {
        let mut view = self.all();
        view.more = view.findings.len().saturating_sub(MAX_ROWS);
        view.findings.truncate(MAX_ROWS);
        view.unknown.truncate(MAX_ROWS);
        view
    }

    /// The findings about a domain and about its hosts; none for a domain that is not watched.
    pub(crate) fn view_of(&self, domain: &Name) -> Option<WatchView> {
        let (_, entry) = self.watched().find(|(name, _)| name.as_str() == domain.as_str())?;
        let hosts = self.hosts_of(&entry.now);
        let mut view = self.all();
        view.findings.retain(|row| {
            row.domain.as_deref() == Some(domain.as_str())
                || row.host.as_deref().is_some_and(|host| hosts.contains_key(host))
        });
        view.unknown.retain(|row| row.domain == domain.as_str());
        Some(WatchView { domains: 1, hosts: hosts.len(), last_run: Some(entry.last), ..view })
    }

    /// All rows.
    fn all(&self) -> WatchView {
        let users = self.users();
        let mut findings: Vec<_> =
            self.watched().flat_map(|(name, entry)| rows(entry, Subject::Domain(name))).collect();
        findings.extend(users.iter().flat_map(|(key, users)| {
            let entry = self.hosts.get(*key);
            entry.map(|entry| rows(entry, Subject::Host(key, users))).unwrap_or_default()
        }));
        let by = |row: &FindingRow| {
            (row.state != FindingWord::Active, std::cmp::Reverse(row.severity), row.whose, row.since)
        };
        findings.sort_by_key(by);
        let unknown = self.watched().filter_map(|(name, entry)| {
            let text = entry.unknown.as_ref()?.text.clone();
            Some(UnknownRow { domain: name.clone(), whose: entry.whose, text })
        });
        WatchView {
            last_run: self.last_run,
            blind: self.blind.clone(),
            domains: self.watched().count(),
            hosts: users.len(),
            findings,
            more: 0,
            unknown: unknown.collect(),
        }
    }

    /// The domains behind each host.
    pub(super) fn users(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut users: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, entry) in self.watched() {
            for mx in entry.now.mx.iter().flatten() {
                users.entry(mx.host.as_str()).or_default().push(name);
            }
        }
        users
    }
}

#[derive(Clone, Copy)]
enum Subject<'a> {
    Domain(&'a str),
    Host(&'a str, &'a Vec<&'a str>),
}

fn rows<F>(entry: &WatchEntry<F>, subject: Subject<'_>) -> Vec<FindingRow> {
    entry.findings.iter().map(|(kind, state)| row(*kind, state, entry.whose, subject)).collect()
}

fn row(kind: FindingKind, state: &FindingState, whose: Ownership, subject: Subject<'_>) -> FindingRow {
    let (domain, host, domains) = match subject {
        Subject::Domain(name) => (Some(name.to_owned()), None, &[name][..]),
        Subject::Host(key, users) => (None, Some(key.to_owned()), users.as_slice()),
    };
    FindingRow {
        severity: state.severity,
        whose,
        kind,
        domain,
        host,
        domains: domains.iter().take(MAX_NAMED).map(|name| (*name).to_owned()).collect(),
        domains_in_all: domains.len(),
        state: match state.stage {
            FindingStage::Suspected => FindingWord::Suspected,
            FindingStage::Active(_) | FindingStage::Back(_) => FindingWord::Active,
            FindingStage::Ended(_) => FindingWord::Ended,
        },
        since: state.since,
        text: state.text.clone(),
        reason: state.label.clone(),
        remedy: kind.remedy(state.label.as_deref()).filter(|_| state.holds()).map(str::to_owned),
    }
}

/// A time in its two greatest units.
pub fn lasting(seconds: i64) -> String {
    let text = format_duration(Duration::from_secs(seconds.max(0).unsigned_abs())).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}
