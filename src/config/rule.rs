//! The rules for single domains: a rule for less than the default has a reason and a last day, and no rule is hidden by one
//! before it.

use std::net::IpAddr;
use std::str::FromStr;

use serde::Deserialize;
use time::Date;

use super::check::Faults;
use super::{Config, Fault, MxValue, TlsaText, Unsound, day, optional, parsed};
use crate::last_day::LastDay;
use crate::policy::{Level, Permit};
use crate::rules::{Domains, NextHop, NextHopHost, Rule, RuleIndex, Rules, StsByRule};

/// A rule for some domains.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleEntry {
    /// The domain, as in "example.com"; ".example.com" is every domain below it.
    #[serde(deserialize_with = "parsed")]
    pub domain: Domains,
    /// "dane", "verify", "secure", "dane-only", "encrypt", "fingerprint" (the host must match `records` in place of those in
    /// the DNS), or "may" (TLS where it is offered, cleartext where it is not).
    pub level: RuleLevel,
    /// For "fingerprint": TLSA records, as in "3 1 1 0123..".
    #[serde(default)]
    pub records: Vec<TlsaText>,
    /// For "secure": the hosts that may take the domain's mail although its MX record is insecure, as in "*.example.net"; "*"
    /// stands for one label.
    #[serde(default)]
    pub mx: Vec<MxValue>,
    /// "ignore" skips the domain's MTA-STS policy. It needs `reason` and `until`. Empty: the policy counts.
    #[serde(default, deserialize_with = "optional")]
    pub mta_sts: Option<IgnoredSts>,
    /// The host that takes the domain's mail, in place of those in its MX records; or its address in brackets, as in
    /// `"[192.0.2.7]"` or `"[IPv6:2001:db8::7]"`, for which the DNS is not asked and DANE cannot be had. Behind either may stand a port,
    /// as in "mx.example.net:2525". Empty: the hosts in the MX records.
    #[serde(default, deserialize_with = "optional")]
    pub next_hop: Option<NextHop>,
    /// Why. Required for a level below tls.level and with mta_sts; logged at each use.
    #[serde(default)]
    pub reason: Option<String>,
    /// The last day, as in "2027-01-31" (UTC). Required for a level below tls.level and with mta_sts. A rule that has ended is
    /// left out, with an error in the log: its domain goes by the next rule that names it, or at tls.level. `danelaw config check` fails.
    #[serde(default, deserialize_with = "day")]
    pub until: Option<Date>,
}

/// The levels that may hold for one domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuleLevel {
    /// TLS where it is offered, cleartext where it is not.
    May,
    /// TLS without authentication.
    Encrypt,
    /// DANE where it is published, else MTA-STS, else unauthenticated TLS.
    Dane,
    /// DANE, else a certificate of a public CA.
    Verify,
    /// The same, and the host's name is vouched for.
    Secure,
    /// DANE or no delivery.
    DaneOnly,
    /// The host must match the rule's own records.
    Fingerprint,
}

/// The one value of a rule's `mta_sts`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IgnoredSts;

impl FromStr for IgnoredSts {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "ignore" => Ok(Self),
            _ => Err("it may be \"ignore\"; without this key the policy counts".to_owned()),
        }
    }
}

impl Config {
    /// The levels of all domains. A rule that has ended is among them and holds no longer.
    ///
    /// # Errors
    /// All rules that ask for less than `tls.level` without a reason or a last day, that have records which do not fit
    /// their level, or that can never hold because of one before them.
    pub fn rules(&self) -> Result<Rules, Unsound> {
        let (mut faults, mut before) = (Faults::default(), RuleIndex::default());
        for (entry, rule) in self.rule.iter().enumerate() {
            let mut own = Faults::default();
            self.check_rule(rule, &mut own);
            let hiding = before.hiding(&rule.domain, rule.until);
            before.push(&rule.domain, rule.until);
            if let Some(first) = hiding.and_then(|first| self.rule.get(first)) {
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
        let entries = self.rule.iter().filter_map(|rule| self.rule(rule)).collect();
        faults.none_or(Rules::new(self.tls.level.level(self.tls.insecure_mx), entries))
    }

    /// The rules and the negative trust anchors that have ended before a day. They do not stop a start or a reload: a restart on the day after the end
    /// would otherwise stop the mail of all domains.
    pub fn ended(&self, today: Date) -> Vec<Fault> {
        let ended = self.rule.iter().enumerate().filter_map(|(entry, rule)| {
            let until = rule.until.filter(|until| LastDay(*until).is_over(today))?;
            let problem = format!(
                "the rule for {} has ended on {until}; remove it, or give it a later day and a reason that still holds",
                rule.domain
            );
            Some(Fault { key: "rule.until", entry: Some(entry), problem })
        });
        ended.chain(self.ended_negative_trust_anchors(today)).collect()
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
        if let Some(NextHop { host: NextHopHost::Address(address), .. }) = rule.next_hop {
            self.check_address(rule, address, &mut add);
        }
        check_sts(rule, &mut add);
        let is_weaker = rule.level < self.tls.level.as_rule() || rule.mta_sts.is_some();
        let (key, missing) = match (rule.reason(), rule.until) {
            _ if !is_weaker => return,
            (None, None) => ("rule.reason", "a reason and a last day, as in reason = \"ticket 4711\", until"),
            (None, Some(_)) => ("rule.reason", "a reason, as in reason = \"ticket 4711\"; until is there, as"),
            (Some(_), None) => ("rule.until", "a last day, as in until"),
            (Some(_), Some(_)) => return,
        };
        let what = match rule.mta_sts {
            Some(IgnoredSts) => "ignores the domain's MTA-STS policy",
            None => "asks for less than tls.level",
        };
        add(key, format!("{what} and needs {missing} = \"2027-01-31\""));
    }

    /// RFC 7672 §2.2: DANE is for a host that has a name.
    fn check_address(&self, rule: &RuleEntry, address: IpAddr, add: &mut impl FnMut(&'static str, String)) {
        match rule.level {
            RuleLevel::Dane | RuleLevel::Verify | RuleLevel::Secure | RuleLevel::DaneOnly => add(
                "rule.next_hop",
                "names an address, for which there is no DANE, as TLSA records belong to names; name the host, or set level \
                 \"fingerprint\", \"encrypt\" or \"may\""
                    .into(),
            ),
            RuleLevel::Fingerprint | RuleLevel::Encrypt | RuleLevel::May => {}
        }
        if !self.remote.families.contain(address) {
            let families = self.remote.families;
            add("rule.next_hop", format!("names {address}, which is not of the family in remote.families, {families}"));
        }
    }

    /// The rule; none if it asks for cleartext and does not say why and until when.
    fn rule(&self, rule: &RuleEntry) -> Option<Rule> {
        let reason = rule.reason();
        let level = match rule.level {
            RuleLevel::May => Level::May(Permit::Rule { reason: reason.clone()?, until: rule.until? }),
            RuleLevel::Encrypt => Level::Encrypt,
            RuleLevel::Dane => Level::Dane(self.tls.insecure_mx),
            RuleLevel::Verify => Level::Verify,
            RuleLevel::Secure => Level::Secure(rule.mx.iter().map(|value| value.0.clone()).collect()),
            RuleLevel::DaneOnly => Level::DaneOnly,
            RuleLevel::Fingerprint => Level::Fingerprint(rule.records.iter().map(|record| record.0.clone()).collect()),
        };
        let (domains, next_hop) = (rule.domain.clone(), rule.next_hop.clone());
        let sts = if rule.mta_sts.is_some() { StsByRule::Ignored } else { StsByRule::Heeded };
        Some(Rule { domains, level, next_hop, sts, reason, until: rule.until })
    }
}

/// Patterns and policies that the level does not look at.
fn check_sts(rule: &RuleEntry, add: &mut impl FnMut(&'static str, String)) {
    if rule.level != RuleLevel::Secure && !rule.mx.is_empty() {
        add("rule.mx", "has mx, which only level \"secure\" looks at; remove it, or set that level".into());
    }
    match rule.level {
        RuleLevel::Dane | RuleLevel::Verify | RuleLevel::Secure => {}
        RuleLevel::May | RuleLevel::Encrypt | RuleLevel::DaneOnly | RuleLevel::Fingerprint => {
            if rule.mta_sts.is_some() {
                add("rule.mta_sts", "has mta_sts, and at its level no MTA-STS policy counts; remove it".into());
            }
        }
    }
}

impl RuleEntry {
    fn reason(&self) -> Option<String> {
        self.reason.clone().filter(|reason| !reason.trim().is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::with;
    use crate::name::Name;

    #[test]
    fn rules_say_why_and_until_when() {
        let rule = |rest: &str| with(&format!("rule = [{{ domain = 'example.com', {rest} }}]")).map(drop);
        let ends = "reason = 'x', until = '2026-06-01'";
        let record = format!("records = ['3 1 1 {}']", "07".repeat(32));
        for right in [
            format!("level = 'may', {ends}"),
            format!("level = 'encrypt', {ends}"),
            "level = 'dane'".into(),
            "level = 'dane-only'".into(),
            "level = 'verify'".into(),
            "level = 'secure', mx = ['*.example.net', 'mx.example.org']".into(),
            format!("level = 'dane', mta_sts = 'ignore', {ends}"),
            "level = 'dane', mta_sts = ''".into(),
            format!("level = 'fingerprint', {record}"),
        ] {
            assert_eq!(rule(&right), Ok(()), "{right}");
        }
        for (wrong, key) in [
            ("level = 'may'".to_owned(), "rule.reason: the rule for example.com"),
            ("level = 'may', reason = 'x'".into(), "rule.until"),
            ("level = 'may', until = '2026-06-01'".into(), "rule.reason"),
            ("level = 'may', reason = ' ', until = '2026-06-01'".into(), "rule.reason"),
            ("level = 'encrypt'".into(), "rule.reason"),
            ("level = 'fingerprint'".into(), "rule.records"),
            (format!("level = 'dane', {record}"), "rule.records"),
            ("level = 'verify', mx = ['a.example']".into(), "rule.mx"),
            ("level = 'secure', mta_sts = 'ignore', reason = 'x'".into(), "rule.until"),
            ("level = 'dane', mta_sts = 'ignore', until = '2026-06-01'".into(), "rule.reason"),
            (format!("level = 'encrypt', mta_sts = 'ignore', {ends}"), "rule.mta_sts"),
        ] {
            let error = rule(&wrong).unwrap_err();
            assert!(error.starts_with(key), "{wrong}: {error}");
        }
        for (wrong, says) in [
            ("level = 'dane', until = 'soon'", "is no day"),
            ("level = 'dane', until = 20270131", "expected a string"),
            ("level = 'fingerprint', records = ['3 1 1 07']", "is no TLSA record"),
            ("level = 'none'", "unknown variant"),
            ("level = 'secure', mx = ['*']", "no host can match it"),
            ("level = 'dane', mta_sts = 'off'", "it may be \"ignore\""),
        ] {
            assert!(rule(wrong).unwrap_err().contains(says), "{wrong}");
        }
        // The order of strength.
        let order = ["may", "encrypt", "dane", "verify", "secure", "dane-only"];
        for (place, weaker) in order.iter().enumerate().skip(1) {
            for stronger in order.iter().skip(place + 1) {
                let rules = format!("rule = [{{ domain = 'example.com', level = '{weaker}' }}]");
                assert!(with(&format!("tls.level = '{stronger}'\n{rules}")).is_err(), "{weaker} below {stronger}");
                let rules = format!("rule = [{{ domain = 'example.com', level = '{stronger}' }}]");
                assert!(with(&format!("tls.level = '{weaker}'\n{rules}")).is_ok(), "{stronger} above {weaker}");
            }
        }
        // A default that is stricter makes a rule for `dane` one that asks for less.
        let stricter = "tls.level = 'dane-only'\nrule = [{ domain = 'example.com', level = 'dane' }]";
        assert!(with(stricter).unwrap_err().starts_with("rule.reason"));
    }

    #[test]
    fn an_address_as_next_hop_has_a_level_without_dane() {
        let rule = |level: &str, next_hop: &str, more: &str| {
            let rule = format!("domain = 'example.com', level = '{level}', next_hop = '{next_hop}'");
            with(&format!("{more}\nrule = [{{ {rule}, reason = 'x', until = '2026-06-01' }}]")).map(drop)
        };
        let pinned = format!("fingerprint', records = ['3 1 1 {}'], reason = 'y", "07".repeat(32));
        for level in ["may", "encrypt"] {
            assert_eq!(rule(level, "[192.0.2.7]", ""), Ok(()));
            assert_eq!(rule(level, "[IPv6:2001:db8::7]", "remote.families = 'ipv6'"), Ok(()));
            let error = rule(level, "[192.0.2.7]", "remote.families = 'ipv6'").unwrap_err();
            assert!(error.starts_with("rule.next_hop: ") && error.contains("remote.families, ipv6"), "{error}");
        }
        let fingerprint =
            format!("rule = [{{ domain = 'example.com', level = '{pinned}', next_hop = '[192.0.2.7]' }}]");
        assert_eq!(with(&fingerprint).map(drop), Ok(()));
        for level in ["dane", "dane-only"] {
            let error = rule(level, "[192.0.2.7]", "").unwrap_err();
            assert!(
                error.starts_with("rule.next_hop: the rule for example.com names an address, for which"),
                "{error}"
            );
            assert_eq!(rule(level, "mx.example.net", ""), Ok(()));
            assert_eq!(rule(level, "mx.example.net:2525", ""), Ok(()));
            assert!(rule(level, "[192.0.2.7]:2525", "").unwrap_err().contains("names an address, for which"));
        }
        assert_eq!(rule("encrypt", "[192.0.2.7]:2525", ""), Ok(()));
        assert!(rule("encrypt", "mx.example.net:smtp", "").unwrap_err().contains("is no port"));
        assert!(rule("encrypt", "192.0.2.7", "").unwrap_err().contains("brackets"));
    }

    #[test]
    fn a_rule_that_has_ended_is_told_and_stops_nothing() {
        let rules = "rule = [{ domain = 'a.test', level = 'may', reason = 'x', until = '2025-12-31' }, \
                     { domain = 'b.test', level = 'may', reason = 'x', until = '2026-01-01' }, \
                     { domain = 'c.test', level = 'dane-only', until = '2025-12-31' }, \
                     { domain = 'd.test', level = 'dane-only' }]";
        let config = with(rules).unwrap();
        let day = |ordinal| Date::from_ordinal_date(2026, ordinal).unwrap();
        let told = config.ended(day(1));
        assert_eq!(told.iter().map(|fault| fault.entry).collect::<Vec<_>>(), [Some(0), Some(2)]);
        assert_eq!(
            told[0].to_string(),
            "rule.until: the rule for a.test has ended on 2025-12-31; remove it, or give it a later day and a reason that \
             still holds"
        );
        assert_eq!(config.ended(day(2)).len(), 3);
        // Cleartext ends with the rule: the default level holds again.
        let (rules, name) = (config.rules().unwrap(), |text| Name::parse(text).unwrap());
        for (domain, today, level) in [("b.test", 1, "may"), ("b.test", 2, "dane"), ("a.test", 1, "dane")] {
            assert_eq!(rules.level(&name(domain), day(today)).0.to_string(), level, "{domain} on day {today}");
        }
    }

    #[test]
    fn no_rule_keeps_another_from_ever_holding() {
        for (rules, hidden) in [
            (&["example.com", "other.example"][..], None),
            (&["example.com", ".example.com"], None),
            (&["example.com", "EXAMPLE.com"], Some("remove one of them")),
            (&[".example.com", "a.example.com"], Some("put this one first")),
            (&["a.example.com", ".example.com"], None),
            // A rule that ends leaves room for the rules after it.
            (&["example.com 2026-06-01", "example.com"], None),
            (&["example.com 2026-06-01", "example.com 2026-06-02"], None),
            (&["example.com 2026-06-01", "example.com 2026-06-01"], Some("remove one of them")),
            (&["example.com", "example.com 2026-06-01"], Some("remove one of them")),
        ] {
            let table = |rule: &&str| match rule.split_once(' ') {
                Some((domain, until)) => format!("{{ domain = '{domain}', level = 'dane', until = '{until}' }}"),
                None => format!("{{ domain = '{rule}', level = 'dane' }}"),
            };
            let written = rules.iter().map(table).collect::<Vec<_>>().join(", ");
            match (with(&format!("rule = [{written}]")), hidden) {
                (Ok(_), None) => {}
                (Err(error), Some(hidden)) => {
                    assert!(error.starts_with("rule.domain: ") && error.contains(hidden), "{error}");
                }
                (found, _) => panic!("{rules:?}: {:?}", found.map(drop)),
            }
        }
    }
}
