//! The memory of the watch: the facts and findings of each domain and host, and the changes by one run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::entry::{WatchEntry, ttl};
use super::facts::{DaneFact, DomainFacts, HostFacts, SignatureFact, Standing};
use super::findings::{self, Compared, DomainsBehind};
use super::kinds::{FindingKind, Ownership};
use super::states::{FindingNews, FindingState, LookTime};
use crate::check::ends::DAY;

/// An entry that no look has renewed for so long is forgotten.
const FORGOTTEN_AFTER: i64 = 90 * DAY;
/// An entry that was not looked at for so many times the time between two looks is no longer watched.
const MISSED: i64 = 3;
/// A domain is looked at again no sooner than so long after the last such look.
const AGAIN_AFTER: i64 = DAY / 4;
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
    /// The run without answers, if the last one was such.
    #[serde(default)]
    pub(crate) blind: Option<Blind>,
    /// The end of the last run, in seconds since 1970.
    #[serde(default)]
    pub(crate) last_run: Option<i64>,
    /// The time between two looks at a domain, in seconds.
    #[serde(default)]
    pub(crate) every: i64,
}

/// A run without answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blind {
    /// The first such run.
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
    /// The time between two looks at a domain, in seconds.
    pub(crate) every: i64,
    /// Each domain.
    pub(crate) domains: BTreeMap<String, DomainFacts>,
    /// Each host.
    pub(crate) hosts: BTreeMap<String, HostFacts>,
    /// The reason for the run.
    pub(crate) reason: RunReason,
    /// The operator's own domains.
    pub(crate) own: BTreeSet<String>,
    /// The refusal that several deliveries have met, by the domain and by its hosts.
    pub(crate) met: BTreeMap<String, String>,
    /// The reason for which the run had no answers.
    pub(crate) cannot_see: Option<String>,
    /// The sources of the facts.
    pub(crate) looks: LookCounts,
}

/// The reason for a run.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunReason {
    /// The time of these domains has come.
    #[default]
    Due,
    /// Findings or refused deliveries ask for another look.
    Again,
}

/// The number of facts by their source.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LookCounts {
    /// Addresses that a delivery has verified.
    pub(crate) delivery: u64,
    /// Domains whose records were asked for.
    pub(crate) dns: u64,
    /// Sessions.
    pub(crate) session: u64,
}

impl LookCounts {
    pub(crate) fn add(&mut self, more: Self) {
        let Self { delivery, dns, session } = more;
        (self.delivery, self.dns, self.session) = (self.delivery + delivery, self.dns + dns, self.session + session);
    }
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

/// The result of one run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum RunEnd {
    /// These findings are told; often none.
    Saw(Vec<ToldFinding>),
    /// The run had no answers, and no finding is told.
    Blind(BlindStart, Blind),
}

/// Whether a run without answers is the first one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BlindStart {
    First,
    Again,
}

impl fmt::Display for Blind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { label, failed, of, .. } = self;
        match failed {
            0 => write!(f, "the look had no answers ({label}): no name server passes the self-test"),
            _ => write!(
                f,
                "{failed} of {of} hosts fail that were good before, most with {label}: look at this machine first, its firewall, its \
                 name servers and its clock; no finding is told of this look"
            ),
        }
    }
}

impl ToldFinding {
    /// The name of the domain or host.
    pub(crate) fn about(&self) -> &str {
        match &self.name {
            SubjectName::Domain(name) | SubjectName::Host(name) => name,
        }
    }

    /// The remedy, while the finding holds.
    pub(crate) fn remedy(&self) -> Option<&'static str> {
        self.kind.remedy(self.state.label.as_deref()).filter(|_| self.told != FindingNews::Ended)
    }
}

impl Book {
    /// Takes up the facts of a run.
    pub(crate) fn take_up(&mut self, run: RunFacts) -> RunEnd {
        (self.last_run, self.every) = (Some(run.at), run.every);
        if run.cannot_see.is_none() {
            self.tried(&run);
        }
        if let Some(blind) = self.blindness(&run) {
            let start = if self.blind.is_some() { BlindStart::Again } else { BlindStart::First };
            let since = self.blind.as_ref().map_or(run.at, |blind| blind.since);
            let blind = Blind { since, ..blind };
            self.blind = Some(blind.clone());
            return RunEnd::Blind(start, blind);
        }
        // Few domains are looked at again: of the others they say that there are answers, and no more.
        if run.reason == RunReason::Due || self.blind.as_ref().is_some_and(|blind| blind.failed == 0) {
            self.blind = None;
        }
        let mut told = self.take_hosts(&run);
        told.extend(self.take_domains(&run));
        self.domains.retain(|_, entry| run.at - entry.last < FORGOTTEN_AFTER);
        let known = self.domains.values().flat_map(|entry| [&entry.now, &entry.compared]);
        let used: BTreeSet<_> = known.flat_map(|facts| facts.mx.iter().flatten()).map(|mx| mx.host.clone()).collect();
        self.hosts.retain(|key, _| used.contains(key));
        RunEnd::Saw(told)
    }

    /// Notes the look at the domains that are known, with or without an answer: others are due before they are again. A clock that was
    /// ahead has left times that are still to come.
    fn tried(&mut self, run: &RunFacts) {
        for name in run.domains.keys() {
            self.domains.entry(name.clone()).and_modify(|entry| entry.tried(run));
        }
        for key in run.hosts.keys() {
            self.hosts.entry(key.clone()).and_modify(|entry| {
                entry.tried(run);
                entry.now.addresses.iter_mut().for_each(|fact| fact.at = fact.at.min(run.at));
            });
        }
    }

    /// Whether this run says more about this host than about others.
    fn blindness(&self, run: &RunFacts) -> Option<Blind> {
        if let Some(why) = &run.cannot_see {
            return Some(Blind { since: run.at, label: why.clone(), failed: 0, of: run.hosts.len() });
        }
        // Those that are looked at again fail: that is why.
        if run.reason == RunReason::Again {
            return None;
        }
        let mut faults: BTreeMap<&str, usize> = BTreeMap::new();
        let mut failed_hosts = BTreeSet::new();
        let probed = run.hosts.iter().filter(|(_, now)| now.newest().is_some());
        for (key, now) in probed.clone() {
            let was_good = self.hosts.get(key).is_some_and(|entry| entry.good_since.is_some());
            if let Some(fault) = now.fault().filter(|_| was_good) {
                *faults.entry(fault.label.as_str()).or_default() += 1;
                failed_hosts.insert(key);
            }
        }
        let (failed, of) = (failed_hosts.len(), probed.count());
        // One domain with many names for its hosts is one.
        let uses = |facts: &DomainFacts| facts.mx.iter().flatten().any(|mx| failed_hosts.contains(&mx.host));
        let domains = run.domains.values().filter(|facts| uses(facts)).count();
        let (label, _) = faults.iter().max_by_key(|(_, times)| **times)?;
        let blind = Blind { since: run.at, label: (*label).to_owned(), failed, of };
        (failed.min(domains) >= MIN_BLIND && failed * BLIND_PART > of).then_some(blind)
    }

    fn take_hosts(&mut self, run: &RunFacts) -> Vec<ToldFinding> {
        let behind = self.behind(run);
        let mut told = Vec::new();
        for (key, seen) in &run.hosts {
            let HostUse { domains, is_ours } = behind.get(key).copied().unwrap_or_default();
            let before = self.hosts.remove(key);
            if let Some(entry) = before.as_ref().filter(|_| seen.is_unknown()) {
                self.hosts.insert(key.clone(), entry.without_answer(run.at, None));
                continue;
            }
            let now = seen.clone().over(before.as_ref().map(|entry| &entry.now));
            let whose = if is_ours { Ownership::Ours } else { Ownership::Theirs };
            let past = before.as_ref().map(WatchEntry::<HostFacts>::past).unwrap_or_default();
            let compared =
                Compared { before: before.as_ref().map(|entry| &entry.compared), now: &now, whose, at: run.at };
            let found = findings::of_host(&compared, domains, past);
            let is_good = now.broken().is_none() && now.addresses.iter().any(|fact| fact.standing == Standing::Good);
            let look = run.look_at(key, now.signature.as_ref());
            let mut entry = WatchEntry::after(before, now, whose, run.at);
            entry.good_since = is_good.then(|| entry.good_since.unwrap_or(run.at));
            let has_dane = entry.now.dane == DaneFact::Usable;
            let news = entry.take(&found, look).filter(|news| has_dane || !news.is_end_of(FindingKind::DaneLost));
            told.extend(news.map(|news| news.of(SubjectName::Host(key.clone()), whose, domains.all)));
            self.hosts.insert(key.clone(), entry);
        }
        told
    }

    fn take_domains(&mut self, run: &RunFacts) -> Vec<ToldFinding> {
        let mut told = Vec::new();
        for (name, seen) in &run.domains {
            let before = self.domains.remove(name);
            if let Some(entry) = before.as_ref().filter(|entry| seen.has_no_news(&entry.now)) {
                self.domains.insert(name.clone(), entry.without_answer(run.at, seen.standing.fault().cloned()));
                continue;
            }
            let mut now = seen.clone();
            now.mx = now.mx.or_else(|| before.as_ref()?.now.mx.clone());
            let whose = if run.own.contains(name) { Ownership::Ours } else { Ownership::Theirs };
            let past = before.as_ref().map(WatchEntry::<DomainFacts>::past).unwrap_or_default();
            let compared =
                Compared { before: before.as_ref().map(|entry| &entry.compared), now: &now, whose, at: run.at };
            let found = findings::of_domain(&compared, &self.hosts_of(&now), past);
            let look = run.look_at(name, now.signature.as_ref());
            let mut entry = WatchEntry::after(before, now, whose, run.at);
            entry.unknown = seen.standing.fault().filter(|_| seen.standing.is_unknown()).cloned();
            let is_missed = found.iter().any(|finding| finding.kind == FindingKind::StarttlsLost);
            entry.good_since = match seen.standing {
                Standing::Good => entry.good_since.or(seen.took_tls.then_some(run.at)),
                // STARTTLS is missed for as long as it is not offered.
                Standing::Broken(_) | Standing::Unknown(_) => entry.good_since.filter(|_| is_missed),
            };
            told.extend(entry.take(&found, look).map(|news| news.of(SubjectName::Domain(name.clone()), whose, 1)));
            self.domains.insert(name.clone(), entry);
        }
        told
    }

    /// The hosts of a domain, with their facts.
    pub(crate) fn hosts_of<'a>(&'a self, domain: &'a DomainFacts) -> BTreeMap<&'a str, &'a HostFacts> {
        let keys = domain.mx.iter().flatten().map(|mx| mx.host.as_str());
        keys.filter_map(|key| Some((key, &self.hosts.get(key)?.now))).collect()
    }

    /// The domains that are watched: not those that mail no longer goes to, or that are off the lists.
    pub(crate) fn watched(&self) -> impl Iterator<Item = (&String, &WatchEntry<DomainFacts>)> {
        let from = self.last_run.unwrap_or_default() - self.every.saturating_mul(MISSED);
        self.domains.iter().filter(move |(_, entry)| entry.last >= from)
    }

    /// The domains behind each host, of this run and of those before.
    fn behind(&self, run: &RunFacts) -> BTreeMap<String, HostUse> {
        let mut behind: BTreeMap<String, HostUse> = BTreeMap::new();
        let is_seen = |name: &String| run.domains.get(name).is_some_and(|facts| !facts.standing.is_unknown());
        let seen = run.domains.iter().filter(|(name, _)| is_seen(name) || !self.domains.contains_key(*name));
        let known = self.watched().filter(|(name, _)| !is_seen(name));
        for (name, facts) in seen.chain(known.map(|(name, entry)| (name, &entry.now))) {
            for mx in facts.mx.iter().flatten() {
                let host = behind.entry(mx.host.clone()).or_default();
                host.domains.all += 1;
                host.is_ours |= run.own.contains(name);
                let stops = facts.standing.broken().is_some() && facts.stopping.contains(&mx.host);
                host.domains.stopped += usize::from(stops);
            }
        }
        behind
    }

    /// The domains to look at again: those that have a finding which another look at this time confirms, and one for each host that
    /// has such a finding. One look is made for it: if that has no answer, the next regular one follows.
    pub(crate) fn suspects(&self, at: i64) -> BTreeSet<String> {
        let (mut domains, mut hosts) = (BTreeSet::new(), BTreeSet::new());
        for (name, entry) in self.watched().filter(|(_, entry)| at - entry.again >= AGAIN_AFTER) {
            let keys = entry.now.mx.iter().flatten().map(|mx| &mx.host);
            let is_suspect = |key: &&String| {
                self.hosts.get(*key).is_some_and(|host| host.is_suspect(at, host.now.signature.as_ref()))
            };
            // All of them: a host with a look needs no other.
            let new = keys.filter(is_suspect).filter(|key| hosts.insert((*key).clone())).count();
            if new > 0 || entry.is_suspect(at, entry.now.signature.as_ref()) {
                domains.insert(name.clone());
            }
        }
        domains
    }

    /// Whether a refused delivery asks for no other look at a domain: its mail is known to wait, or it was looked at again lately.
    pub(crate) fn is_settled(&self, domain: &str, at: i64) -> bool {
        let Some(entry) = self.domains.get(domain) else { return false };
        if at - entry.again < AGAIN_AFTER {
            return true;
        }
        let is_broken = |findings: &BTreeMap<FindingKind, FindingState>| {
            let kinds = [FindingKind::BrokenNow, FindingKind::StarttlsLost];
            kinds.iter().any(|kind| findings.get(kind).is_some_and(FindingState::is_active))
        };
        let hosts = self.hosts_of(&entry.now);
        is_broken(&entry.findings)
            || hosts.keys().any(|key| self.hosts.get(*key).is_some_and(|host| is_broken(&host.findings)))
    }
}

impl RunFacts {
    fn look_at(&self, name: &str, signature: Option<&SignatureFact>) -> LookTime<'_> {
        LookTime { at: self.at, ttl: ttl(signature), met: self.met.get(name).map(String::as_str) }
    }
}

/// The use of a host by the watched domains.
#[derive(Debug, Default, Clone, Copy)]
struct HostUse {
    domains: DomainsBehind,
    is_ours: bool,
}

#[cfg(test)]
mod tests {
    use super::super::facts::tests::{broken_domain, broken_host, domain, host};
    use super::super::facts::{MxFact, SeenFault};
    use super::*;

    const HOUR: i64 = 60 * 60;

    /// A run at this hour that has seen one domain and its host.
    fn run(hour: i64, facts: DomainFacts, mut host: HostFacts) -> RunFacts {
        host.addresses.iter_mut().for_each(|fact| fact.at = hour * HOUR);
        RunFacts {
            at: hour * HOUR,
            every: DAY,
            domains: BTreeMap::from([("example".to_owned(), facts)]),
            hosts: BTreeMap::from([("mx.example".to_owned(), host)]),
            ..RunFacts::default()
        }
    }

    fn told(end: RunEnd) -> Vec<(FindingNews, &'static str, String)> {
        match end {
            RunEnd::Saw(told) => told.into_iter().map(|t| (t.told, t.kind.as_str(), t.about().to_owned())).collect(),
            RunEnd::Blind(start, blind) => panic!("{start:?}: {blind}"),
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
        // W12: a restart reads the file, and does not tell again.
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
    fn three_refused_deliveries_confirm_a_finding() {
        let mut book = Book::default();
        book.take_up(run(0, domain(), host()));
        let mut sure = broken(1);
        let met = |name: &str| (name.to_owned(), "tlsa-mismatch".to_owned());
        sure.met = [met("example"), met("mx.example")].into();
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
        assert_eq!(book.suspects(25 * HOUR - 1), BTreeSet::new());
        assert_eq!(
            told(book.take_up(run(25, moved(), host()))),
            [(FindingNews::New, "mx-moved", "example".to_owned())]
        );
        assert_eq!(told(book.take_up(run(48, moved(), host()))), []);
        // One that is taken back is not told.
        assert_eq!(told(book.take_up(run(240, domain(), host()))), []);
        assert_eq!(told(book.take_up(run(241, moved(), host()))), []);
        assert_eq!(book.domains["example"].compared, moved());
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
        let hosts = |at: i64, standing: &Standing, count: usize| -> RunFacts {
            let one = |number: usize| {
                let mut facts = host();
                facts.addresses[0].at = at;
                if number < 10 {
                    facts.addresses[0].standing = standing.clone();
                }
                (format!("mx{number}.example"), facts)
            };
            let mx = |number: usize| MxFact { preference: 1, host: format!("mx{number}.example") };
            let with = |number: usize| DomainFacts { mx: Some(vec![mx(number)]), ..domain() };
            let domains = (0..count).map(|number| (format!("d{number}.example"), with(number))).collect();
            RunFacts { at, every: DAY, hosts: (0..count).map(one).collect(), domains, ..RunFacts::default() }
        };
        let bad = Standing::Broken(SeenFault::new("handshake-timeout", "", None));
        for (count, is_blind) in [(49, true), (50, false)] {
            let mut book = Book::default();
            assert_eq!(told(book.take_up(hosts(0, &Standing::Good, count))), []);
            let end = book.take_up(hosts(HOUR, &bad, count));
            assert_eq!(matches!(end, RunEnd::Blind(BlindStart::First, _)), is_blind, "{count}");
            if is_blind {
                assert_eq!(book.blind.as_ref().unwrap().label, "handshake-timeout");
                let again = book.take_up(hosts(2 * HOUR, &bad, count));
                assert!(matches!(again, RunEnd::Blind(BlindStart::Again, _)), "{again:?}");
                // No finding became suspected.
                assert_eq!(told(book.take_up(hosts(3 * HOUR, &Standing::Good, count))), []);
                assert_eq!(book.blind, None);
            }
        }
        let mut book = Book::default();
        let none = RunFacts { cannot_see: Some("no-resolver".to_owned()), ..broken(1) };
        assert!(matches!(book.take_up(none), RunEnd::Blind(BlindStart::First, _)));
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
