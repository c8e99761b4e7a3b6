//! The watch.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::check::Faults;
use super::store::StoreSection;
use super::value::{DomainsText, HostName};
use crate::name::Name;

/// A day: hosts of others are asked no more often.
const LEAST_EVERY: Duration = Duration::from_secs(24 * 60 * 60);
/// The window of mail: at least a day, and no longer than a look is remembered.
const SEEN: RangeInclusive<Duration> = LEAST_EVERY..=Duration::from_secs(90 * 24 * 60 * 60);
/// The most domains that are watched.
const MOST: usize = 100_000;

/// The watch.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WatchSection {
    /// How often to look whether the domains that mail goes to are about to break; "24h" at least. The log, the metrics and
    /// `danelaw watch` show the findings. danelaw then also remembers how hosts speak TLS. Empty: never.
    #[serde(deserialize_with = "every")]
    pub every: Option<Duration>,
    /// Domains that took mail within this time are watched, the busiest first. They are known by the counts of mail in the store
    /// (store.path or store.url).
    #[serde(with = "humantime_serde")]
    pub seen_within: Duration,
    /// How many of them at most.
    pub most: usize,
    /// Domains to watch besides, as in "example.com".
    pub domains: Vec<HostName>,
    /// Our own domains: of these more is said, and sooner.
    pub own: Vec<HostName>,
    /// Domains that are not looked at; ".example.com" is every domain below it.
    pub skip: Vec<DomainsText>,
    /// Whether to connect to hosts with TLSA records that no mail went to: once a day, and once more to confirm a finding. Without it
    /// only DNS is asked.
    pub connect: bool,
}

fn every<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    let parsed = humantime_serde::re::humantime::parse_duration(&text);
    parsed.map(Some).map_err(|error| serde::de::Error::custom(format!("{text:?} is no time such as \"24h\": {error}")))
}

impl WatchSection {
    /// The domains that it names, each once.
    pub fn named(&self) -> Vec<Name> {
        let all = self.own.iter().chain(&self.domains).map(|name| &name.0);
        let all: BTreeSet<_> = all.filter(|name| !self.skips(name)).collect();
        all.into_iter().cloned().collect()
    }

    /// Whether a domain is not looked at.
    pub fn skips(&self, domain: &Name) -> bool {
        self.skip.iter().any(|skip| skip.0.contain(domain))
    }

    pub(super) fn check(&self, store: &StoreSection, faults: &mut Faults) {
        if self.every.is_some_and(|every| every < LEAST_EVERY) {
            faults.add("watch.every", "it must be 24h or more: the hosts of others are not asked more often");
        }
        let knows_mail = store.counts_months() && self.most > 0;
        if self.every.is_some() && !knows_mail && self.named().is_empty() {
            let problem = "there is no domain to watch: those that mail goes to are known by store.path or store.url, with \
                           store.mail_months and watch.most above 0; or list some in watch.domains or watch.own";
            faults.add("watch.every", problem);
        }
        if !SEEN.contains(&self.seen_within) {
            faults.add("watch.seen_within", "it must be between 1d and 90d");
        }
        if self.most > MOST {
            faults.add("watch.most", format!("it must be {MOST} at most"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::with;

    #[test]
    fn a_watch_knows_its_domains() {
        // W13.
        let watch = |rest: &str| with(&format!("watch = {{ {rest} }}")).map(|config| config.watch);
        assert_eq!(watch("").unwrap().every, None);
        let day = watch("every = '24h', own = ['example.com']").unwrap();
        assert_eq!((day.every, day.connect), (Some(LEAST_EVERY), true));
        assert!(watch("every = '7d', domains = ['example.com']").is_ok());
        let stored = with("watch = { every = '1d' }\nstore = { path = '/var/lib/danelaw/store.sqlite' }");
        assert!(stored.is_ok(), "{stored:?}");
        for (wrong, key) in [
            ("every = '23h', own = ['example.com']", "watch.every"),
            ("every = '1d'", "watch.every"),
            ("every = '1d', own = ['example.com'], skip = ['example.com']", "watch.every"),
            ("seen_within = '1h'", "watch.seen_within"),
            ("seen_within = '91d'", "watch.seen_within"),
            ("most = 100001", "watch.most"),
        ] {
            assert!(watch(wrong).unwrap_err().starts_with(key), "{wrong}");
        }
        for wrong in ["every = 'daily'", "own = ['a b']", "skip = ['*.example.com']"] {
            assert!(watch(wrong).is_err(), "{wrong}");
        }
    }
}
