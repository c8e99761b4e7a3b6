//! The last look at one domain and at its hosts, in words for people.

use super::book::Book;
use super::entry::WatchEntry;
use super::facts::{AddressFact, DaneFact, DomainFacts, FactSource, HostFacts, RecordFact, Standing};
use super::findings::counted;
use super::view::lasting;
use crate::check::ends::DAY;
use crate::name::Name;

/// The most addresses of a host that are told.
const MOST_ADDRESSES: usize = 8;
/// The most kinds of records of a host that are told.
const MOST_RECORDS: usize = 8;
/// The most hosts of a domain that are told.
const MOST_HOSTS: usize = 20;

/// The last look at a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookedDomain {
    /// When it was, in seconds since 1970.
    pub at: i64,
    /// Its MTA-STS policy, in words, if it has one in force.
    pub sts: Option<String>,
    /// Its hosts by their preference, 20 at most.
    pub hosts: Vec<LookedHost>,
    /// How many more it has.
    pub more: usize,
}

/// The last look at a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookedHost {
    /// Its name, with the port that a rule may name.
    pub host: String,
    /// The preference of its MX record.
    pub preference: u16,
    /// Its DANE state, in words.
    pub dane: String,
    /// The result at each address, in words. It may have words of the host in it.
    pub addresses: Vec<String>,
}

impl Book {
    /// The last look at a domain and its hosts; none for a domain that is not watched.
    pub(crate) fn looked(&self, domain: &Name, now: i64) -> Option<LookedDomain> {
        let (_, WatchEntry { now: facts, last, .. }) =
            self.watched().find(|(name, _)| name.as_str() == domain.as_str())?;
        let DomainFacts { mx, sts, .. } = facts;
        let mut all: Vec<_> = mx.iter().flatten().collect();
        all.sort();
        let host = |preference, key: &str| {
            let seen = self.hosts.get(key).map(|entry| &entry.now);
            LookedHost {
                host: key.to_owned(),
                preference,
                dane: seen.map_or_else(|| "no look yet".to_owned(), dane),
                addresses: seen.map(|seen| addresses(seen, now)).unwrap_or_default(),
            }
        };
        Some(LookedDomain {
            at: *last,
            sts: sts.as_ref().map(|sts| format!("mode {}, id {}", sts.mode, sts.id)),
            hosts: all.iter().take(MOST_HOSTS).map(|mx| host(mx.preference, &mx.host)).collect(),
            more: all.len().saturating_sub(MOST_HOSTS),
        })
    }
}

fn dane(host: &HostFacts) -> String {
    let words = match host.dane {
        DaneFact::Usable => "DANE",
        DaneFact::Unusable => "TLSA records, and none is usable",
        DaneFact::Absent => "no TLSA records",
        DaneFact::Insecure => "no DANE: its zone is insecure",
        DaneFact::NotAsked => "TLSA records are not asked for",
        DaneFact::Unknown => "the lookup of its TLSA records failed",
    };
    let listed: Vec<_> = host.records.iter().take(MOST_RECORDS).map(fields).collect();
    match (host.records.len().saturating_sub(MOST_RECORDS), listed.as_slice()) {
        (_, []) => words.to_owned(),
        (0, listed) => format!("{words}, usable records {}", listed.join(", ")),
        (more, listed) => format!("{words}, usable records {} and {more} more", listed.join(", ")),
    }
}

/// The three fields of a record, as in `3 1 1`.
fn fields(RecordFact { usage, selector, matching, .. }: &RecordFact) -> String {
    format!("{usage} {selector} {matching}")
}

fn addresses(host: &HostFacts, now: i64) -> Vec<String> {
    let told = host.addresses.iter().take(MOST_ADDRESSES).map(|fact| address(fact, now));
    let more = host.addresses.len().saturating_sub(MOST_ADDRESSES);
    told.chain((more > 0).then(|| format!("{more} more"))).collect()
}

fn address(fact: &AddressFact, now: i64) -> String {
    let AddressFact { address, source, at, is_carried, standing, matched, path_ends, .. } = fact;
    let result = match (standing, matched) {
        (Standing::Good, Some(record)) => format!("verified by a record {}", fields(record)),
        (Standing::Good, None) => "good".to_owned(),
        (Standing::Broken(fault), _) => format!("broken, {}: {}", fault.label, fault.text),
        (Standing::Unknown(fault), _) => format!("no answer, {}: {}", fault.label, fault.text),
    };
    let by = match source {
        FactSource::Session => "a session of the watch",
        FactSource::Delivery => "a delivery",
    };
    let later = if *is_carried { ", and no answer since" } else { "" };
    let ends = path_ends.map_or_else(String::new, |ends| match (ends - now) / DAY {
        ..0 => "; its certificate has ended".to_owned(),
        days => format!("; its certificate ends in {}", counted(days, "day")),
    });
    format!("{address}: {result}, by {by} {} ago{later}{ends}", lasting(now - at))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::facts::tests::{address, broken_host, domain, host, record};
    use super::super::facts::{MxFact, SeenFault, StsFact};
    use super::super::kinds::Ownership;
    use super::*;

    fn book(facts: DomainFacts, hosts: impl IntoIterator<Item = (&'static str, HostFacts)>) -> Book {
        let whose = Ownership::Theirs;
        let hosts = hosts.into_iter().map(|(key, facts)| (key.to_owned(), WatchEntry::after(None, facts, whose, 1)));
        let domains = BTreeMap::from([("example.test".to_owned(), WatchEntry::after(None, facts, whose, 100))]);
        Book { domains, hosts: hosts.collect(), last_run: Some(100), every: 86_400, ..Book::default() }
    }

    #[test]
    fn a_domain_is_told_with_its_hosts() {
        let mx = |preference, host: &str| MxFact { preference, host: host.to_owned() };
        let sts = StsFact { id: "7".to_owned(), mode: "enforce".to_owned(), unlisted: Vec::new(), ends: None };
        let facts = DomainFacts {
            mx: Some(vec![mx(20, "b.test"), mx(10, "mx.example"), mx(30, "new.test")]),
            sts: Some(sts),
            ..domain()
        };
        let book = book(facts, [("mx.example", host()), ("b.test", broken_host("tlsa-mismatch"))]);
        let looked = book.looked(&"example.test".parse().unwrap(), 61).unwrap();
        assert_eq!((looked.at, looked.sts.as_deref(), looked.more), (100, Some("mode enforce, id 7"), 0));
        let hosts: Vec<_> = looked.hosts.iter().map(|host| (host.preference, host.host.as_str())).collect();
        assert_eq!(hosts, [(10, "mx.example"), (20, "b.test"), (30, "new.test")]);
        assert_eq!(looked.hosts[0].dane, "DANE, usable records 3 1 1");
        let verified = "192.0.2.1: verified by a record 3 1 1, by a session of the watch 1m ago";
        assert_eq!(looked.hosts[0].addresses, [verified]);
        let broken = "192.0.2.1: broken, tlsa-mismatch: it fails, by a session of the watch 1m ago";
        assert_eq!(looked.hosts[1].addresses, [broken]);
        assert_eq!((looked.hosts[2].dane.as_str(), looked.hosts[2].addresses.len()), ("no look yet", 0));
        assert_eq!(book.looked(&"other.test".parse().unwrap(), 61), None);
    }

    // Y14.
    #[test]
    fn y14_a_look_says_how_old_it_is_and_what_it_does_not_know() {
        let silent = Standing::Unknown(SeenFault::new("connect-timeout", "it is silent", None));
        let now = 2 * 86_400;
        for (fact, expected) in [
            (
                AddressFact { at: now - 60, standing: silent, ..address(&record([3, 1, 1], "K")) },
                "192.0.2.1: no answer, connect-timeout: it is silent, by a session of the watch 1m ago",
            ),
            (
                AddressFact {
                    at: 0,
                    is_carried: true,
                    matched: None,
                    source: FactSource::Delivery,
                    path_ends: Some(now + 86_400),
                    ..address(&record([3, 1, 1], "K"))
                },
                "192.0.2.1: good, by a delivery 2days ago, and no answer since; its certificate ends in 1 day",
            ),
        ] {
            assert_eq!(super::address(&fact, now), expected);
        }
    }

    // Y11.
    #[test]
    fn y11_a_domain_with_very_many_hosts_is_told_in_part() {
        let mx = (0..500).map(|host| MxFact { preference: 10, host: format!("mx{host}.test") }).collect();
        let many = HostFacts {
            addresses: vec![address(&record([3, 1, 1], "K")); 30],
            records: vec![record([3, 1, 1], "K"); 30],
            ..host()
        };
        let book = book(DomainFacts { mx: Some(mx), ..domain() }, [("mx0.test", many)]);
        let looked = book.looked(&"example.test".parse().unwrap(), 61).unwrap();
        assert_eq!((looked.hosts.len(), looked.more), (MOST_HOSTS, 480));
        assert!(looked.hosts[0].dane.ends_with(" and 22 more"), "{:?}", looked.hosts[0]);
        assert_eq!(looked.hosts[0].addresses.len(), MOST_ADDRESSES + 1);
    }
}
