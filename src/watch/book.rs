//! The memory of the watch: the facts and findings of each domain and host, and what one run changes in them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::facts::{DomainFacts, HostFacts, Standing};
use super::findings::{self, Compared, DAY, DomainsBehind, SeenFinding};
use super::kinds::{FindingKind, Ownership};
use super::states::{self, FindingNews, FindingState, LookTime};

/// An entry that no look has found for so long is forgotten.
const FORGOTTEN_AFTER: i64 = 90 * DAY;
/// A run in which so many hosts fail that were good before says more about this host than about them.
const MIN_BLIND: usize = 10;
/// The same as a part of all hosts that were looked at.
const BLIND_PART: usize = 5;

/// All that is remembered.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Book {
    /// By the domain.
    pub(crate) domains: BTreeMap<String, WatchEntry<DomainFacts>>,
    /// By the key of the host.
    pub(crate) hosts: BTreeMap<String, WatchEntry<HostFacts>>,
    /// Since when no run could see, with the commonest fault.
    #[serde(default)]
    pub(crate) blind: Option<Blind>,
    /// The end of the last run, in seconds since 1970.
    #[serde(default)]
    pub(crate) last_run: Option<i64>,
}

/// The memory of one domain or host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WatchEntry<F> {
    /// The facts that the next look is compared with.
    pub(crate) base: F,
    /// The facts of the last look.
    pub(crate) now: F,
    /// The owner.
    pub(crate) whose: Ownership,
    /// The first look, in seconds since 1970.
    pub(crate) first: i64,
    /// The last look that has learnt something.
    pub(crate) last: i64,
    /// The start of the present good time.
    pub(crate) good_since: Option<i64>,
    /// The findings that are not absent.
    pub(crate) findings: BTreeMap<FindingKind, FindingState>,
}

/// A run that could not see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blind {
    /// Since when.
    pub since: i64,
    /// The commonest fault.
    pub label: String,
    /// How many hosts fail that were good before.
    pub failed: usize,
    /// How many were looked at.
    pub of: usize,
}

/// The facts of one run.
#[derive(Debug, Default)]
pub(crate) struct RunFacts {
    /// When, in seconds since 1970.
    pub(crate) at: i64,
    /// Each domain.
    pub(crate) domains: BTreeMap<String, DomainFacts>,
    /// Each host.
    pub(crate) hosts: BTreeMap<String, HostFacts>,
    /// The operator's own domains.
    pub(crate) own: BTreeSet<String>,
    /// Domains and hosts of which several deliveries have said the same.
    pub(crate) sure: BTreeSet<String>,
    /// Why nothing could be seen, if so.
    pub(crate) cannot_see: Option<String>,
    /// How the facts were had.
    pub(crate) looks: LookCounts,
}

/// How facts were had.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LookCounts {
    /// Addresses that a delivery has verified.
    pub(crate) delivery: u64,
    /// Domains whose records were asked for.
    pub(crate) dns: u64,
    /// Sessions.
    pub(crate) session: u64,
}

/// A finding that is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ToldFinding {
    pub(crate) told: FindingNews,
    pub(crate) kind: FindingKind,
    pub(crate) whose: Ownership,
    pub(crate) name: SubjectName,
    /// The domains behind a host.
    pub(crate) domains: usize,
    pub(crate) state: FindingState,
}

/// The domain or host that a finding is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SubjectName {
    Domain(String),
    Host(String),
}

/// What one run has to tell.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum RunEnd {
    /// These findings.
    Saw(Vec<ToldFinding>),
    /// Nothing: the run could not see. The flag tells whether this is new.
    Blind(BlindStart),
}

/// Whether a run that could not see is the first one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BlindStart {
    First,
    Again,
}

impl Book {
    /// Takes up the facts of a run.
    pub(crate) fn take_up(&mut self, run: RunFacts) -> RunEnd {
        self.last_run = Some(run.at);
        if let Some(blind) = self.blindness(&run) {
            let start = if self.blind.is_some() { BlindStart::Again } else { BlindStart::First };
            let since = self.blind.as_ref().map_or(run.at, |blind| blind.since);
            self.blind = Some(Blind { since, ..blind });
            return RunEnd::Blind(start);
        }
        self.blind = None;
        let mut told = self.take_hosts(&run);
        told.extend(self.take_domains(&run));
        self.forget(run.at);
        RunEnd::Saw(told)
    }

    /// Whether this run says more about this host than about others.
    fn blindness(&self, run: &RunFacts) -> Option<Blind> {
        if let Some(why) = &run.cannot_see {
            return Some(Blind { since: run.at, label: why.clone(), failed: 0, of: run.hosts.len() });
        }
        let mut faults: BTreeMap<&str, usize> = BTreeMap::new();
        for (key, now) in &run.hosts {
            let was_good = self.hosts.get(key).is_some_and(|entry| entry.good_since.is_some());
            if let Some(fault) = now.fault().filter(|_| was_good) {
                *faults.entry(fault.label.as_str()).or_default() += 1;
            }
        }
        let (failed, of) = (faults.values().sum::<usize>(), run.hosts.len());
        let (label, _) = faults.iter().max_by_key(|(_, times)| **times)?;
        let blind = Blind { since: run.at, label: (*label).to_owned(), failed, of };
        (failed >= MIN_BLIND && failed * BLIND_PART > of).then_some(blind)
    }

    fn take_hosts(&mut self, run: &RunFacts) -> Vec<ToldFinding> {
        let behind = self.behind(run);
        let mut told = Vec::new();
        for (key, seen) in &run.hosts {
            let behind = behind.get(key).copied().unwrap_or_default();
            let before = self.hosts.remove(key);
            if seen.is_unknown() && before.is_some() {
                self.hosts.extend(before.map(|entry| (key.clone(), entry)));
                continue;
            }
            let now = seen.clone().over(before.as_ref().map(|entry| &entry.now));
            let whose = if behind.is_ours { Ownership::Ours } else { Ownership::Theirs };
            let base = before.as_ref().map(|entry| &entry.base);
            let lost = before
                .as_ref()
                .and_then(|entry| entry.findings.get(&FindingKind::DaneLost).filter(|state| state.is_active()));
            let compared = Compared { before: base, now: &now, whose, at: run.at };
            let found = findings::of_host(compared, behind.domains, lost.map(|state| state.since));
            let ttl = now.signature.as_ref().map_or(0, |signature| i64::from(signature.ttl));
            let look = LookTime { at: run.at, ttl, is_sure: run.sure.contains(key) };
            let is_good = now.broken().is_none() && now.addresses.iter().any(|fact| fact.standing == Standing::Good);
            let mut entry = WatchEntry::after(before, now, whose, run.at);
            entry.good_since = is_good.then(|| entry.good_since.unwrap_or(run.at));
            let of_entry = entry.take(&found, look).into_iter();
            told.extend(of_entry.map(|(told, kind, state)| ToldFinding {
                told,
                kind,
                whose,
                name: SubjectName::Host(key.clone()),
                domains: behind.domains.all,
                state,
            }));
            self.hosts.insert(key.clone(), entry);
        }
        told
    }

    fn take_domains(&mut self, run: &RunFacts) -> Vec<ToldFinding> {
        let mut told = Vec::new();
        for (name, now) in &run.domains {
            let before = self.domains.remove(name);
            // Its MX records may be known all the same, but its state is not.
            if now.standing.is_unknown() && before.is_some() {
                self.domains.extend(before.map(|entry| (name.clone(), entry)));
                continue;
            }
            let whose = if run.own.contains(name) { Ownership::Ours } else { Ownership::Theirs };
            let good_since = before.as_ref().and_then(|entry| entry.good_since);
            let base = before.as_ref().map(|entry| &entry.base);
            let found =
                findings::of_domain(Compared { before: base, now, whose, at: run.at }, &self.hosts_of(now), good_since);
            let ttl = now.signature.as_ref().map_or(0, |signature| i64::from(signature.ttl));
            let look = LookTime { at: run.at, ttl, is_sure: run.sure.contains(name) };
            let mut entry = WatchEntry::after(before, now.clone(), whose, run.at);
            let is_missed = found.iter().any(|finding| finding.kind == FindingKind::StarttlsLost);
            entry.good_since = match now.standing {
                Standing::Good => Some(good_since.unwrap_or(run.at)),
                // STARTTLS is missed for as long as it is not offered.
                Standing::Broken(_) | Standing::Unknown(_) => good_since.filter(|_| is_missed),
            };
            let of_entry = entry.take(&found, look).into_iter();
            told.extend(of_entry.map(|(told, kind, state)| ToldFinding {
                told,
                kind,
                whose,
                name: SubjectName::Domain(name.clone()),
                domains: 1,
                state,
            }));
            self.domains.insert(name.clone(), entry);
        }
        told
    }

    /// The hosts of a domain, with their facts.
    pub(crate) fn hosts_of<'a>(&'a self, domain: &'a DomainFacts) -> BTreeMap<&'a str, &'a HostFacts> {
        let keys = domain.mx.iter().flatten().map(|mx| mx.host.as_str());
        keys.filter_map(|key| Some((key, &self.hosts.get(key)?.now))).collect()
    }

    /// The domains behind each host, of this run and of those before.
    fn behind(&self, run: &RunFacts) -> BTreeMap<String, HostUse> {
        let mut behind: BTreeMap<String, HostUse> = BTreeMap::new();
        let is_seen = |name: &String| run.domains.get(name).is_some_and(|facts| !facts.standing.is_unknown());
        let seen = run.domains.iter().filter(|(name, _)| is_seen(name) || !self.domains.contains_key(*name));
        let known = self.domains.iter().filter(|(name, _)| !is_seen(name));
        for (name, facts) in seen.chain(known.map(|(name, entry)| (name, &entry.now))) {
            for mx in facts.mx.iter().flatten() {
                let host = behind.entry(mx.host.clone()).or_default();
                host.domains.all += 1;
                host.is_ours |= run.own.contains(name);
                let stops = facts.standing.broken().is_some_and(|fault| fault.host.as_ref() == Some(&mx.host));
                host.domains.stopped += usize::from(stops);
            }
        }
        behind
    }

    /// Forgets entries of names that are not looked at any more.
    fn forget(&mut self, at: i64) {
        self.domains.retain(|_, entry| at - entry.last < FORGOTTEN_AFTER);
        self.hosts.retain(|_, entry| at - entry.last < FORGOTTEN_AFTER);
    }

    /// The domains that have, or whose hosts have, a finding which is not confirmed and was first seen before this time.
    pub(crate) fn suspects(&self, before: i64) -> BTreeSet<String> {
        let is_suspect = |findings: &BTreeMap<FindingKind, FindingState>| {
            let mut states = findings.values();
            states.any(|state| state.stage == states::FindingStage::Suspected && state.since <= before)
        };
        let domains = self.domains.iter().filter(|(_, entry)| {
            let hosts = self.hosts_of(&entry.now);
            let hosts = hosts.keys().filter_map(|key| self.hosts.get(*key));
            is_suspect(&entry.findings) || hosts.into_iter().any(|host| is_suspect(&host.findings))
        });
        domains.map(|(name, _)| name.clone()).collect()
    }
}

/// The use of a host by the watched domains.
#[derive(Debug, Default, Clone, Copy)]
struct HostUse {
    domains: DomainsBehind,
    is_ours: bool,
}

impl<F: Clone> WatchEntry<F> {
    /// The entry after a look, with the findings of before.
    fn after(before: Option<Self>, now: F, whose: Ownership, at: i64) -> Self {
        match before {
            Some(before) => Self { now, whose, last: at, ..before },
            None => {
                Self { base: now.clone(), now, whose, first: at, last: at, good_since: None, findings: BTreeMap::new() }
            }
        }
    }

    /// Takes up the findings of a look. The facts become those to compare with, unless a change of them has yet to be confirmed.
    fn take(&mut self, found: &[SeenFinding], look: LookTime) -> Vec<(FindingNews, FindingKind, FindingState)> {
        let mut told = Vec::new();
        let kinds: BTreeSet<_> =
            self.findings.keys().copied().chain(found.iter().map(|finding| finding.kind)).collect();
        for kind in kinds {
            let finding = found.iter().find(|finding| finding.kind == kind);
            let before = self.findings.remove(&kind);
            let last = before.clone();
            let (state, what) = states::step(before, finding, look);
            if let (Some(what), Some(state)) = (what, state.as_ref().or(last.as_ref())) {
                told.push((what, kind, state.clone()));
            }
            self.findings.extend(state.map(|state| (kind, state)));
        }
        let waits = |kind: &FindingKind, state: &FindingState| {
            let compares = kind.is_change() || *kind == FindingKind::DaneLost;
            compares && state.stage == states::FindingStage::Suspected
        };
        if !self.findings.iter().any(|(kind, state)| waits(kind, state)) {
            self.base = self.now.clone();
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::tests::{broken_domain, broken_host, domain, host};
    use super::super::facts::{MxFact, SeenFault};
    use super::*;

    const HOUR: i64 = 60 * 60;

    /// A run at this hour that has seen one domain and its host.
    fn run(hour: i64, facts: DomainFacts, host: HostFacts) -> RunFacts {
        RunFacts {
            at: hour * HOUR,
            domains: BTreeMap::from([("example".to_owned(), facts)]),
            hosts: BTreeMap::from([("mx.example".to_owned(), host)]),
            ..RunFacts::default()
        }
    }

    fn told(end: RunEnd) -> Vec<(FindingNews, &'static str, String)> {
        match end {
            RunEnd::Saw(told) => told.into_iter().map(|t| (t.told, t.kind.as_str(), t.about().to_owned())).collect(),
            RunEnd::Blind(start) => panic!("blind: {start:?}"),
        }
    }

    fn broken(hour: i64) -> RunFacts {
        run(hour, broken_domain("tlsa-mismatch", Some("mx.example")), broken_host("tlsa-mismatch"))
    }

    #[test]
    fn a_host_that_breaks_is_told_once_with_its_domains_and_at_its_end() {
        let mut book = Book::default();
        assert_eq!(told(book.take_up(run(0, domain(), host()))), []);
        assert_eq!(told(book.take_up(broken(24))), []);
        let mx = || "mx.example".to_owned();
        assert_eq!(told(book.take_up(broken(25))), [(FindingNews::New, "broken-now", mx())]);
        assert_eq!(told(book.take_up(broken(26))), []);
        // W12: a restart reads what was written, and does not tell again.
        let written = serde_json::to_string(&book).unwrap();
        let mut restarted: Book = serde_json::from_str(&written).unwrap();
        assert_eq!(restarted, book);
        assert_eq!(told(restarted.take_up(broken(48))), []);
        assert_eq!(told(restarted.take_up(run(72, domain(), host()))), [(FindingNews::Ended, "broken-now", mx())]);
        assert_eq!(told(restarted.take_up(run(96, domain(), host()))), []);
    }

    #[test]
    fn own_domains_are_told_each() {
        let mut book = Book::default();
        let own = |mut run: RunFacts| {
            run.own = BTreeSet::from(["example".to_owned()]);
            run
        };
        book.take_up(own(run(0, domain(), host())));
        book.take_up(own(broken(24)));
        let told = told(book.take_up(own(broken(25))));
        // `one-record` is seen from the first look on, and told by the second.
        let kinds: Vec<_> = told.iter().map(|(_, kind, about)| (*kind, about.as_str())).collect();
        assert!(
            kinds.contains(&("broken-now", "example")) && kinds.contains(&("broken-now", "mx.example")),
            "{kinds:?}"
        );
        assert_eq!(book.domains["example"].whose, Ownership::Ours);
        assert_eq!(book.hosts["mx.example"].whose, Ownership::Ours);
    }

    #[test]
    fn three_deliveries_are_enough() {
        let mut book = Book::default();
        book.take_up(run(0, domain(), host()));
        let mut sure = broken(1);
        sure.sure = BTreeSet::from(["example".to_owned(), "mx.example".to_owned()]);
        assert_eq!(told(book.take_up(sure)), [(FindingNews::New, "broken-now", "mx.example".to_owned())]);
    }

    #[test]
    fn a_change_waits_for_the_second_look_at_it() {
        let mut book = Book::default();
        let moved =
            || DomainFacts { mx: Some(vec![MxFact { preference: 5, host: "mx.example".to_owned() }]), ..domain() };
        book.take_up(run(0, domain(), host()));
        assert_eq!(told(book.take_up(run(24, moved(), host()))), []);
        assert_eq!(book.suspects(25 * HOUR), BTreeSet::from(["example".to_owned()]));
        assert_eq!(book.suspects(23 * HOUR), BTreeSet::new());
        assert_eq!(
            told(book.take_up(run(25, moved(), host()))),
            [(FindingNews::New, "mx-moved", "example".to_owned())]
        );
        assert_eq!(told(book.take_up(run(48, moved(), host()))), []);
        // One that is taken back is not told.
        assert_eq!(told(book.take_up(run(240, domain(), host()))), []);
        assert_eq!(told(book.take_up(run(241, moved(), host()))), []);
        assert_eq!(book.domains["example"].base, moved());
    }

    #[test]
    fn lost_records_are_told_until_they_are_back() {
        let mut book = Book::default();
        let gone = || HostFacts {
            dane: super::super::facts::DaneFact::Absent,
            records: Vec::new(),
            addresses: Vec::new(),
            ..host()
        };
        book.take_up(run(0, domain(), host()));
        book.take_up(run(24, domain(), gone()));
        let mx = || "mx.example".to_owned();
        assert_eq!(told(book.take_up(run(48, domain(), gone()))), [(FindingNews::New, "dane-lost", mx())]);
        assert_eq!(told(book.take_up(run(72, domain(), gone()))), []);
        let back = told(book.take_up(run(96, domain(), host())));
        assert_eq!(back, [(FindingNews::Ended, "dane-lost", mx())]);
    }

    #[test]
    fn a_run_that_cannot_see_tells_nothing_of_others() {
        // W10.
        let hosts = |standing: &Standing, count: usize| -> RunFacts {
            let one = |number: usize| {
                let mut facts = host();
                if number < 10 {
                    facts.addresses[0].standing = standing.clone();
                }
                (format!("mx{number}.example"), facts)
            };
            RunFacts { hosts: (0..count).map(one).collect(), ..RunFacts::default() }
        };
        let bad = Standing::Broken(SeenFault::new("handshake-timeout", "", None));
        for (count, is_blind) in [(49, true), (50, false)] {
            let mut book = Book::default();
            assert_eq!(told(book.take_up(hosts(&Standing::Good, count))), []);
            let end = book.take_up(RunFacts { at: HOUR, ..hosts(&bad, count) });
            assert_eq!(end == RunEnd::Blind(BlindStart::First), is_blind, "{count}");
            if is_blind {
                assert_eq!(book.blind.as_ref().unwrap().label, "handshake-timeout");
                let again = book.take_up(RunFacts { at: 2 * HOUR, ..hosts(&bad, count) });
                assert_eq!(again, RunEnd::Blind(BlindStart::Again));
                // Nothing became suspected.
                assert_eq!(told(book.take_up(RunFacts { at: 3 * HOUR, ..hosts(&Standing::Good, count) })), []);
                assert_eq!(book.blind, None);
            }
        }
        let mut book = Book::default();
        let none = RunFacts { cannot_see: Some("no-resolver".to_owned()), ..broken(1) };
        assert_eq!(book.take_up(none), RunEnd::Blind(BlindStart::First));
        assert!(book.domains.is_empty() && book.hosts.is_empty());
    }

    #[test]
    fn a_look_that_learns_nothing_changes_nothing() {
        let mut book = Book::default();
        book.take_up(run(0, domain(), host()));
        book.take_up(broken(24));
        book.take_up(broken(25));
        let unknown =
            DomainFacts { standing: Standing::Unknown(SeenFault::new("connect-timeout", "", None)), ..domain() };
        let mut silent = host();
        silent.addresses[0].standing = Standing::Unknown(SeenFault::new("connect-timeout", "", None));
        assert_eq!(told(book.take_up(run(26, unknown, silent))), []);
        assert!(book.hosts["mx.example"].findings[&FindingKind::BrokenNow].is_active());
    }

    #[test]
    fn a_host_whose_records_do_not_validate_is_told() {
        let mut book = Book::default();
        book.take_up(run(0, domain(), host()));
        let bogus = || HostFacts {
            lookups: broken_domain("tlsa-lookup-failed", Some("mx.example")).standing,
            dane: super::super::facts::DaneFact::Unknown,
            addresses: Vec::new(),
            records: Vec::new(),
            ..host()
        };
        let waits = || broken_domain("tlsa-lookup-failed", Some("mx.example"));
        book.take_up(run(24, waits(), bogus()));
        let told = told(book.take_up(run(25, waits(), bogus())));
        assert_eq!(told, [(FindingNews::New, "broken-now", "mx.example".to_owned())]);
        // The records of before are known all the same.
        let gone = || HostFacts { lookups: Standing::Good, dane: super::super::facts::DaneFact::Absent, ..bogus() };
        book.take_up(run(48, domain(), gone()));
        let told: Vec<_> = self::told(book.take_up(run(72, domain(), gone()))).into_iter().map(|told| told.1).collect();
        assert_eq!(told, ["dane-lost"]);
    }

    #[test]
    fn names_that_are_not_looked_at_are_forgotten() {
        let mut book = Book::default();
        book.take_up(run(0, domain(), host()));
        let other = |hour| RunFacts { at: hour * HOUR, ..RunFacts::default() };
        book.take_up(other(89 * 24));
        assert_eq!(book.domains.len(), 1);
        book.take_up(other(90 * 24));
        assert_eq!((book.domains.len(), book.hosts.len()), (0, 0));
    }
}
