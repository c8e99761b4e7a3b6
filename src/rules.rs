//! The level of each domain: the default level, and the rules that administrators wrote for single domains.
//!
//! A rule for less than the default must have a reason and a last day; after that day it no longer holds. So no domain stays
//! below the default after its reason is forgotten.

mod index;
mod next_hop;

use std::fmt;
use std::str::FromStr;

use time::Date;

use crate::last_day::LastDay;
use crate::name::{Name, NameError};
use crate::policy::Level;

pub(crate) use index::RuleIndex;
pub use next_hop::{NextHop, NextHopError, NextHopHost};

/// The level of every domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// For domains that no rule names.
    pub default: Level,
    entries: Vec<Rule>,
    index: RuleIndex,
}

/// A level for some domains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Which domains.
    pub domains: Domains,
    /// The level.
    pub level: Level,
    /// The host that takes their mail, in place of the hosts in MX records.
    pub next_hop: Option<NextHop>,
    /// Whether their MTA-STS policies count.
    pub sts: StsByRule,
    /// The reason.
    pub reason: Option<String>,
    /// The last day it holds, in UTC.
    pub until: Option<Date>,
}

/// Whether the MTA-STS policy of a domain counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StsByRule {
    /// It does, where the level looks at policies.
    Heeded,
    /// It does not, until the rule ends.
    Ignored,
}

impl StsByRule {
    /// By the rule for a domain, if there is one.
    pub fn of(rule: Option<&Rule>) -> Self {
        rule.map_or(Self::Heeded, |rule| rule.sts)
    }
}

/// The least level of a mail, which its listener or its tag sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LevelFloor {
    /// [`Level::Verify`].
    Verify,
    /// [`Level::Secure`], with no host that a rule would have to name.
    Secure,
    /// [`Level::DaneOnly`].
    DaneOnly,
}

impl LevelFloor {
    const ALL: [Self; 3] = [Self::Verify, Self::Secure, Self::DaneOnly];

    /// The level.
    pub fn level(self) -> &'static Level {
        match self {
            Self::Verify => const { &Level::Verify },
            Self::Secure => const { &Level::Secure(Vec::new()) },
            Self::DaneOnly => const { &Level::DaneOnly },
        }
    }

    /// The stricter of this and the level of a domain. The records of a rule are the strictest; the hosts that a rule names for
    /// `secure` go on to count.
    pub fn or_stricter(self, level: &Level) -> &Level {
        match (self, level) {
            (_, Level::May(_) | Level::Encrypt | Level::Dane(_)) => self.level(),
            (Self::Verify, Level::Verify) | (Self::Verify | Self::Secure, Level::Secure(_)) => level,
            (Self::Secure | Self::DaneOnly, Level::Verify) | (Self::DaneOnly, Level::Secure(_)) => self.level(),
            (_, Level::DaneOnly | Level::Fingerprint(_)) => level,
        }
    }
}

impl fmt::Display for LevelFloor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.level().fmt(f)
    }
}

impl FromStr for LevelFloor {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|floor| floor.level().as_str() == text);
        found.ok_or("it may be \"verify\", \"secure\" or \"dane-only\"; empty, tls.level holds")
    }
}

/// The domains a rule is for, written as in Postfix's tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Domains {
    /// `example.com`: this domain and none below it.
    Exactly(Name),
    /// `.example.com`: every domain below, and not this one.
    Below(Name),
}

impl Rules {
    /// The level for domains that no rule names, and the rules: the first one that names a domain and has not ended holds.
    pub fn new(default: Level, entries: Vec<Rule>) -> Self {
        let mut index = RuleIndex::default();
        entries.iter().for_each(|rule| index.push(&rule.domains, rule.until));
        Self { default, entries, index }
    }

    /// The rules, in the order of the configuration.
    pub fn entries(&self) -> &[Rule] {
        &self.entries
    }

    /// The level for a domain on a day, and the rule it comes from, if any.
    pub fn level(&self, domain: &Name, today: Date) -> (&Level, Option<&Rule>) {
        match self.index.holding(domain, today).and_then(|entry| self.entries.get(entry)) {
            Some(rule) => (&rule.level, Some(rule)),
            None => (&self.default, None),
        }
    }

    /// The rules that have ended before a day: their domains go by the next rule, or by the default.
    pub fn ended(&self, today: Date) -> impl Iterator<Item = &Rule> {
        self.entries.iter().filter(move |rule| rule.has_ended(today))
    }

    /// The rules that end within a week of a day, or have ended.
    pub fn ending(&self, today: Date) -> impl Iterator<Item = &Rule> {
        self.entries.iter().filter(move |rule| rule.ends_soon(today))
    }
}

impl Rule {
    /// The days for which it holds after this one: 0 on its last day, less than that once it has ended.
    pub fn days_left(&self, today: Date) -> Option<i32> {
        self.until.map(|until| LastDay(until).days_left(today))
    }

    /// Whether its last day is over.
    pub fn has_ended(&self, today: Date) -> bool {
        self.until.is_some_and(|until| LastDay(until).is_over(today))
    }

    /// Whether it ends soon or has ended, so that its domain needs attention.
    pub fn ends_soon(&self, today: Date) -> bool {
        self.until.is_some_and(|until| LastDay(until).is_near(today))
    }
}

/// As it stands in the log's field `rule`.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {}", self.level, self.domains)?;
        if let Some(next_hop) = &self.next_hop {
            write!(f, " by {next_hop}")?;
        }
        match self.sts {
            StsByRule::Heeded => {}
            StsByRule::Ignored => f.write_str(" without its MTA-STS policy")?,
        }
        if let Some(until) = self.until {
            write!(f, " until {until}")?;
        }
        write!(f, ": {}", self.reason.as_deref().unwrap_or("no reason given"))
    }
}

impl Domains {
    /// Whether a domain is among them.
    pub fn contain(&self, domain: &Name) -> bool {
        match self {
            Self::Exactly(name) => domain == name,
            Self::Below(name) => domain != name && domain.is_at_or_below(name),
        }
    }
}

impl fmt::Display for Domains {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(name) => name.fmt(f),
            Self::Below(name) => write!(f, ".{name}"),
        }
    }
}

/// Why a text names no domains.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DomainsError {
    /// The form of other programs for our form with a dot.
    #[error("every domain below {0} is \".{0}\", and {0} itself takes a rule of its own")]
    Asterisk(String),
    /// It is no name.
    #[error(transparent)]
    Name(#[from] NameError),
}

impl FromStr for Domains {
    type Err = DomainsError;

    fn from_str(text: &str) -> Result<Self, DomainsError> {
        if let Some(name) = text.strip_prefix("*.") {
            return Err(DomainsError::Asterisk(name.to_owned()));
        }
        Ok(match text.strip_prefix('.') {
            Some(name) => Self::Below(Name::parse(name)?),
            None => Self::Exactly(Name::parse(text)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::InsecureMx;

    #[test]
    fn the_days_that_are_left() {
        let day = |ordinal| Date::from_ordinal_date(2026, ordinal).unwrap();
        let rule = |until| Rule {
            domains: "example.com".parse().unwrap(),
            level: Level::Encrypt,
            next_hop: None,
            sts: StsByRule::Heeded,
            reason: None,
            until,
        };
        for (until, left, soon) in [
            (None, None, false),
            (Some(18), Some(8), false),
            (Some(17), Some(7), true),
            (Some(10), Some(0), true),
            (Some(9), Some(-1), true),
        ] {
            let rule = rule(until.map(day));
            assert_eq!((rule.days_left(day(10)), rule.ends_soon(day(10))), (left, soon), "{until:?}");
        }
        let entries = [None, Some(18), Some(11)].map(|until| rule(until.map(day))).to_vec();
        let rules = Rules::new(Level::Encrypt, entries);
        assert_eq!(rules.ending(day(10)).collect::<Vec<_>>(), [&rules.entries()[2]]);
        assert_eq!((rules.ended(day(11)).count(), rules.ended(day(12)).count()), (0, 1));
    }

    #[test]
    fn the_stricter_of_listener_and_domain_holds() {
        // B15.
        let may = Level::May(crate::policy::Permit::Rule { reason: "x".into(), until: Date::MIN });
        let secure = Level::Secure(vec![crate::mta_sts::MxPattern::parse("*.example.net")]);
        for (level, verify, secure_floor, dane_only) in [
            (&may, "verify", "secure", "dane-only"),
            (&Level::Encrypt, "verify", "secure", "dane-only"),
            (&Level::Dane(InsecureMx::Dane), "verify", "secure", "dane-only"),
            (&Level::Dane(InsecureMx::Encrypt), "verify", "secure", "dane-only"),
            (&Level::Verify, "verify", "secure", "dane-only"),
            (&secure, "secure", "secure", "dane-only"),
            (&Level::DaneOnly, "dane-only", "dane-only", "dane-only"),
            (&Level::Fingerprint(Vec::new()), "fingerprint", "fingerprint", "fingerprint"),
        ] {
            let held = LevelFloor::ALL.map(|floor| floor.or_stricter(level).to_string());
            assert_eq!(held, [verify, secure_floor, dane_only], "{level}");
        }
        assert_eq!(LevelFloor::Secure.or_stricter(&secure), &secure);
        assert_eq!(LevelFloor::ALL.map(|floor| floor.to_string().parse().ok()), LevelFloor::ALL.map(Some));
        assert!("dane".parse::<LevelFloor>().is_err() && "".parse::<LevelFloor>().is_err());
    }

    #[test]
    fn domains_as_they_may_be_written() {
        for (text, written) in [
            ("Example.com", Some("example.com")),
            (".example.com", Some(".example.com")),
            ("*.example.com", None),
            ("a b", None),
            (".", None),
            ("", None),
        ] {
            let domains = text.parse::<Domains>().ok().map(|domains| domains.to_string());
            assert_eq!(domains.as_deref(), written, "{text}");
        }
        let why = "*.example.com".parse::<Domains>().unwrap_err().to_string();
        assert_eq!(
            why,
            "every domain below example.com is \".example.com\", and example.com itself takes a rule of its own"
        );
    }

    #[test]
    fn the_first_rule_that_names_the_domain_and_has_not_ended() {
        let day = |ordinal| Date::from_ordinal_date(2026, ordinal).unwrap();
        let rule = |domains: &str, level, until| Rule {
            domains: domains.parse().unwrap(),
            level,
            next_hop: None,
            sts: StsByRule::Heeded,
            reason: None,
            until,
        };
        let entries = vec![
            rule("example.com", Level::Encrypt, Some(day(10))),
            rule("EXAMPLE.com", Level::DaneOnly, None),
            rule(".example.com", Level::DaneOnly, None),
        ];
        let rules = Rules::new(Level::Dane(InsecureMx::Dane), entries);
        for (domain, today, expected) in [
            ("example.com", 10, "encrypt"),
            // The day after, it is as if the rule were not there.
            ("example.com", 11, "dane-only"),
            ("a.example.com", 1, "dane-only"),
            ("a.b.example.com", 1, "dane-only"),
            ("badexample.com", 1, "dane"),
            ("com", 1, "dane"),
        ] {
            let (level, _) = rules.level(&Name::parse(domain).unwrap(), day(today));
            assert_eq!(level.to_string(), expected, "{domain} on day {today}");
        }
    }
}
