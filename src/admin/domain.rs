//! The knowledge of one domain, for `danelaw status DOMAIN` and the page: its last mail, its rule, and its hosts and findings by the
//! watch.

use std::fmt;

use time::{Duration, OffsetDateTime};

use super::answers::AdminState;
use super::status::{ago, stamp, verdict};
use crate::excerpt::printable;
use crate::name::Name;
use crate::refusal::Label;
use crate::refusal::rule_to_copy::RuleToCopy;
use crate::report::recent::{RecentDomain, VerdictCounts};
use crate::rules::Rule;
use crate::watch::kinds::FindingKind;
use crate::watch::looked::LookedDomain;
use crate::watch::view::{FindingRow, FindingWord, lasting};

/// How long a rule to copy would hold.
const COPY_HOLDS: Duration = Duration::weeks(2);
/// The most findings of one domain that are told.
pub(super) const MOST_FINDINGS: usize = 20;

/// The knowledge of one domain.
pub(super) struct DomainView {
    /// The domain.
    pub(super) name: Name,
    /// The time of the answer.
    pub(super) now: OffsetDateTime,
    /// Its last mail, if there was some.
    pub(super) last: Option<RecentDomain>,
    /// Its rule, if it has one.
    rule: Option<String>,
    /// The word for its level.
    level: &'static str,
    /// The last look of the watch, if it is watched.
    pub(super) looked: Option<LookedDomain>,
    /// The findings about it and its hosts, the most urgent first.
    pub(super) findings: Vec<FindingRow>,
    /// The rule that would let its mail pass, if it fails and a rule can do that.
    pub(super) rule_to_copy: Option<RuleToCopy>,
}

impl DomainView {
    /// The knowledge now.
    pub(super) fn of(state: &AdminState, name: &Name) -> Self {
        let (shared, now) = (state.shared(), OffsetDateTime::now_utc());
        let last = shared.reporter.recent().and_then(|recent| recent.domain(name));
        let watch = state.watch.as_ref();
        let (level, rule) = shared.rules.level(name, now.date());
        let mut findings = watch.and_then(|watch| watch.view_of(name)).map(|view| view.findings).unwrap_or_default();
        findings.truncate(MOST_FINDINGS);
        let reason = match &last {
            Some(last) => last.reason,
            None => findings.iter().find_map(broken_by),
        };
        Self {
            name: name.clone(),
            now,
            rule: rule.map(Rule::to_string),
            level: level.as_str(),
            looked: watch.and_then(|watch| watch.looked(name, now)),
            findings,
            rule_to_copy: reason.and_then(|reason| RuleToCopy::of(name, level, reason, (now + COPY_HOLDS).date())),
            last,
        }
    }

    /// Whether there was mail, or a look.
    pub(super) fn is_known(&self) -> bool {
        self.last.is_some() || self.looked.is_some()
    }

    /// Its rule, or its level without one, in words.
    pub(super) fn rule(&self) -> String {
        self.rule.clone().unwrap_or_else(|| format!("none; the level is {}", self.level))
    }

    /// The commands that tell more.
    pub(super) fn commands(&self) -> Vec<String> {
        let name = &self.name;
        let mut commands = vec![format!("danelaw check {name}"), format!("danelaw resolve {name} MX")];
        let last = self.last.as_ref();
        if let Some((last, reason)) = last.and_then(|last| Some((last, last.reason?))) {
            commands.extend([format!("danelaw explain {}", last.id), format!("danelaw refusals {reason}")]);
        } else if self.rule.is_none() && last.is_some_and(|last| !last.protection.is_of_proven_host()) {
            commands.push(format!("danelaw rules suggest {name}"));
        }
        if self.looked.is_some() {
            commands.push(format!("danelaw watch {name}"));
        }
        commands
    }

    /// The facts of the last mail: each with its title.
    pub(super) fn mail(&self) -> Vec<(&'static str, String)> {
        let Some(last) = &self.last else { return Vec::new() };
        let mut facts = vec![
            ("last mail", format!("{}, {} ago", verdict(last), ago(last.last, self.now))),
            ("so since", format!("{} ({})", stamp(last.since), ago(last.since, self.now))),
        ];
        if let Some((exchange, policy)) = &last.remote {
            let tls = last.tls.map(|version| format!(" by {version}")).unwrap_or_default();
            facts.push(("remote", format!("{exchange}, policy {policy}, protection {}{tls}", last.protection)));
        }
        let VerdictCounts { delivered, deferred, rejected, aborted } = last.counts;
        facts.push((
            "attempts",
            format!("{delivered} delivered, {deferred} deferred, {rejected} rejected, {aborted} aborted"),
        ));
        facts
    }

    /// The time of the last look, in words.
    pub(super) fn look(&self) -> Option<String> {
        self.looked.as_ref().map(|looked| format!("looked at {} ago", lasting(self.now.unix_timestamp() - looked.at)))
    }
}

impl fmt::Display for DomainView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |title: &str, value: &str| {
            let value: String = value.chars().map(printable).collect();
            writeln!(f, "{title:<11} {value}")
        };
        line("domain", self.name.as_str())?;
        self.mail().iter().try_for_each(|(title, value)| line(title, value))?;
        line("rule", &self.rule())?;
        if let (Some(looked), Some(at)) = (&self.looked, self.look()) {
            line("watch", &at)?;
            looked.sts.iter().try_for_each(|sts| line("MTA-STS", sts))?;
            for host in &looked.hosts {
                line("host", &format!("{} (preference {}): {}", host.host, host.preference, host.dane))?;
                host.addresses.iter().try_for_each(|address| line("", address))?;
            }
            if looked.more > 0 {
                line("", &format!("and {} more hosts", looked.more))?;
            }
        }
        for row in &self.findings {
            let (severity, kind, state) = (row.severity.as_str(), row.kind.as_str(), row.state.as_str());
            line("finding", &format!("{state}: {severity} {kind}, {}: {}", row.about(), row.text))?;
        }
        self.commands().iter().try_for_each(|command| line("see", command))?;
        match &self.rule_to_copy {
            Some(rule) => write!(f, "\n{COPY_WORDS}:\n{rule}"),
            None => Ok(()),
        }
    }
}

/// The refusal that the watch expects for mail to the domain, if this finding is about one.
fn broken_by(row: &FindingRow) -> Option<Label> {
    let holds = row.kind == FindingKind::BrokenNow && row.state != FindingWord::Ended;
    row.reason.as_ref().filter(|_| holds)?.parse().ok()
}

/// The words before such a rule.
pub(super) const COPY_WORDS: &str = "a rule that would let its mail pass, to copy before its other rules if you accept the risk; a listener's level and \
    REQUIRETLS hold in spite of it";
