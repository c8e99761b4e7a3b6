//! The state of the watch for people and programs: what is told of it when somebody asks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::book::{Blind, Book, WatchEntry};
use super::kinds::{FindingKind, Ownership, Severity};
use super::states::{FindingStage, FindingState};
use crate::name::Name;
use crate::refusal::table;

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
    pub label: Option<String>,
    /// The remedy.
    pub remedy: Option<String>,
}

/// How far a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FindingWord {
    /// A second look has yet to confirm it.
    Suspected,
    /// It holds, and was told.
    Active,
    /// It is over.
    Ended,
}

impl FindingWord {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Suspected => "suspected",
            Self::Active => "active",
            Self::Ended => "ended",
        }
    }
}

impl WatchView {
    /// Whether a finding of severity warn or alarm holds.
    pub fn is_urgent(&self) -> bool {
        self.findings.iter().any(|row| row.state == FindingWord::Active && row.severity >= Severity::Warn)
    }
}

/// The most domains that one row names.
const MAX_NAMED: usize = 5;

impl Book {
    /// The whole state.
    pub(crate) fn view(&self) -> WatchView {
        let users = self.users();
        let no_users = Vec::new();
        let mut findings: Vec<_> =
            self.domains.iter().flat_map(|(name, entry)| rows(entry, Subject::Domain(name))).collect();
        findings.extend(
            self.hosts
                .iter()
                .flat_map(|(key, entry)| rows(entry, Subject::Host(key, users.get(key.as_str()).unwrap_or(&no_users)))),
        );
        findings.sort_by(|one, other| {
            let by = |row: &FindingRow| {
                (row.state != FindingWord::Active, std::cmp::Reverse(row.severity), row.whose, row.since)
            };
            by(one).cmp(&by(other))
        });
        WatchView {
            last_run: self.last_run,
            blind: self.blind.clone(),
            domains: self.domains.len(),
            hosts: self.hosts.len(),
            findings,
        }
    }

    /// The findings about a domain and about its hosts; none for a domain that is not watched.
    pub(crate) fn view_of(&self, domain: &Name) -> Option<WatchView> {
        let facts = &self.domains.get(domain.as_str())?.now;
        let hosts = self.hosts_of(facts);
        let all = self.view();
        let concerns = |row: &FindingRow| {
            row.domain.as_deref() == Some(domain.as_str())
                || row.host.as_deref().is_some_and(|host| hosts.contains_key(host))
        };
        let findings = all.findings.into_iter().filter(concerns).collect();
        Some(WatchView { domains: 1, hosts: hosts.len(), findings, ..all })
    }

    /// The domains behind each host.
    fn users(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut users: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, entry) in &self.domains {
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
        label: state.label.clone(),
        remedy: remedy(kind, state.label.as_deref()).map(str::to_owned),
    }
}

/// The remedy of a finding: that of the refusal that it is about, or its own.
pub(crate) fn remedy(kind: FindingKind, label: Option<&str>) -> Option<&'static str> {
    let of_refusal = || table::ROWS.iter().find(|row| Some(row.label.as_str()) == label).map(|row| row.remedy);
    match kind {
        FindingKind::BrokenNow | FindingKind::HostBroken | FindingKind::StarttlsLost => of_refusal(),
        FindingKind::DaneLost => Some("if this is not meant, publish the TLSA records again or sign the zone again"),
        FindingKind::MxWithoutDane => Some("publish TLSA records for each exchange of the domain"),
        FindingKind::WillBreakRenewal => Some("publish TLSA 3 1 1, of the key, and keep the key at renewals"),
        FindingKind::CertificateEnds => Some("renew the certificate"),
        FindingKind::SignatureEnds => Some("let the signer of the zone sign again"),
        FindingKind::OneRecord => Some("publish the record of the next key beside it before that key is used"),
        FindingKind::UnusableRecords => Some("publish TLSA 3 1 1 (`danelaw tlsa generate`)"),
        FindingKind::StsMxMismatch => Some("list each exchange in the policy, and give it a new id"),
        FindingKind::StsEnds => Some("let the policy host serve the policy again"),
        FindingKind::TlsrptGone => Some("publish the TXT record of _smtp._tls again"),
        FindingKind::RuleNeedless => Some("`danelaw check DOMAIN` shows the outcome without the rule"),
        FindingKind::DaneGained
        | FindingKind::MxMoved
        | FindingKind::TlsaChanged
        | FindingKind::CertificateChanged
        | FindingKind::StsChanged => None,
    }
}
