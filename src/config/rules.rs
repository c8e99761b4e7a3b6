//! The rules of the configuration: a rule for less than the default has a reason and a last day, and no rule is hidden by
//! one before it.

use std::fmt;

use time::Date;

use super::check::Faults;
use super::{Config, DefaultLevel, Fault, RuleEntry, RuleLevel, Unsound};
use crate::policy::{InsecureMx, Level, Permit};
use crate::rules::{Rule, Rules};

impl Config {
    /// The levels of all domains. A rule that has ended is among them and holds no longer.
    ///
    /// # Errors
    /// All rules that ask for less than `tls.level` without a reason or a last day, that have records which do not fit
    /// their level, or that can never hold because of one before them.
    pub fn rules(&self) -> Result<Rules, Unsound> {
        let mut faults = Faults::default();
        for (entry, rule) in self.rule.iter().enumerate() {
            let mut own = Faults::default();
            self.check_rule(rule, &mut own);
            if let Some(first) = self.rule[..entry].iter().find(|first| first.hides(rule)) {
                let what_to_do = match first.domain == rule.domain {
                    true => "remove one of them",
                    false => "put this one first, or remove it",
                };
                let problem = format!(
                    "the rule for {} can never hold: one for {} stands before it, and the first that names a domain holds; \
                     {what_to_do}",
                    rule.domain, first.domain
                );
                own.add("rule.domain", problem);
            }
            faults.extend(entry, own);
        }
        faults.none_or(Rules {
            default: self.tls.level.level(self.tls.insecure_mx),
            entries: self.rule.iter().filter_map(|rule| self.rule(rule)).collect(),
        })
    }

    /// The rules that have ended before a day. They do not stop a start or a reload: a restart on the day after the end
    /// would otherwise stop the mail of all domains.
    pub fn ended(&self, today: Date) -> Vec<Fault> {
        let ended = self.rule.iter().enumerate().filter_map(|(entry, rule)| {
            let until = rule.until.filter(|until| *until < today)?;
            let problem = format!(
                "the rule for {} has ended on {until}; remove it, or give it a later day and a reason that still holds",
                rule.domain
            );
            Some(Fault { key: "rule.until", entry: Some(entry), problem })
        });
        ended.collect()
    }

    fn check_rule(&self, rule: &RuleEntry, faults: &mut Faults) {
        let mut add = |key, problem: String| faults.add(key, format!("the rule for {} {problem}", rule.domain));
        match (rule.level == RuleLevel::Fingerprint, rule.records.is_empty()) {
            (true, true) => add(
                "rule.records",
                "has level \"fingerprint\" and no records; give those that the host must match, as in records = [\"3 1 1 \
                 0123..\"] (danelaw tlsa generate makes them out of its certificate)"
                    .into(),
            ),
            (false, false) => add(
                "rule.records",
                "has records, which only level \"fingerprint\" looks at; remove them, or set that level".into(),
            ),
            (true, false) | (false, true) => {}
        }
        let (key, missing) = match (rule.reason(), rule.until) {
            _ if rule.level >= self.tls.level.as_rule() => return,
            (None, None) => ("rule.reason", "a reason and a last day, as in reason = \"ticket 4711\", until"),
            (None, Some(_)) => ("rule.reason", "a reason, as in reason = \"ticket 4711\"; until is there, as"),
            (Some(_), None) => ("rule.until", "a last day, as in until"),
            (Some(_), Some(_)) => return,
        };
        add(key, format!("asks for less than tls.level and needs {missing} = \"2027-01-31\""));
    }

    /// The rule; none if it asks for cleartext and does not say why and until when.
    fn rule(&self, rule: &RuleEntry) -> Option<Rule> {
        let reason = rule.reason();
        let level = match rule.level {
            RuleLevel::May => Level::May(Permit::Rule { reason: reason.clone()?, until: rule.until? }),
            RuleLevel::Encrypt => Level::Encrypt,
            RuleLevel::Dane => Level::Dane(self.tls.insecure_mx),
            RuleLevel::DaneOnly => Level::DaneOnly,
            RuleLevel::Fingerprint => Level::Fingerprint(rule.records.iter().map(|record| record.0.clone()).collect()),
        };
        let (domains, next_hop) = (rule.domain.clone(), rule.next_hop.clone());
        Some(Rule { domains, level, next_hop, reason, until: rule.until })
    }
}

impl RuleEntry {
    fn reason(&self) -> Option<String> {
        self.reason.clone().filter(|reason| !reason.trim().is_empty())
    }

    /// Whether a rule behind this one can never hold: it names no domain that this one does not, and ends no later.
    fn hides(&self, later: &Self) -> bool {
        let ends_first = self.until.is_some_and(|until| later.until.is_none_or(|later| until < later));
        self.domain.cover(&later.domain) && !ends_first
    }
}

impl fmt::Display for DefaultLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.level(InsecureMx::Dane).fmt(f)
    }
}

impl DefaultLevel {
    fn level(self, insecure_mx: InsecureMx) -> Level {
        match self {
            Self::Dane => Level::Dane(insecure_mx),
            Self::DaneOnly => Level::DaneOnly,
            Self::Encrypt => Level::Encrypt,
        }
    }

    /// The same level among those of rules, which are ordered from weak to strong.
    fn as_rule(self) -> RuleLevel {
        match self {
            Self::Dane => RuleLevel::Dane,
            Self::DaneOnly => RuleLevel::DaneOnly,
            Self::Encrypt => RuleLevel::Encrypt,
        }
    }
}
