//! The memory of all hosts: what one batch of sessions changes in it, and whether many hosts change at once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use super::{DaySessions, HostChange, HostEntry, LATE};
use crate::name::Name;

/// How many hosts are remembered.
const MOST: usize = 50_000;
/// A host without a session for so many days is forgotten.
pub(crate) const FORGOTTEN: i64 = 90;
/// Changes within so many seconds belong together.
const TOGETHER: i64 = 60 * 60;
/// So many hosts that change together are probably no fault of theirs.
const MANY: usize = 20;
/// The same as a part of the settled hosts, where there are several.
const MANY_PART: usize = 20;
const SEVERAL: usize = 5;

/// The name and port of a host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostKey {
    /// The name of the exchange.
    pub host: Name,
    /// The port.
    pub port: u16,
}

impl fmt::Display for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl HostKey {
    /// Reads a key as it is written.
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        Some(Self { host: Name::parse(host).ok()?, port: port.parse().ok()? })
    }
}

/// All hosts that are remembered.
#[derive(Debug, Default)]
pub(crate) struct HostMemory {
    entries: BTreeMap<HostKey, HostEntry>,
    flood: ChangeFlood,
}

/// The moment of a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LearnTime {
    /// In seconds since 1970.
    pub(crate) at: i64,
    /// The Julian day.
    pub(crate) day: i64,
}

/// The outcome of a batch.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Learnt {
    /// The entries that are new or changed.
    pub(crate) changed: BTreeSet<HostKey>,
    /// The entries that are forgotten to make room.
    pub(crate) evicted: Vec<HostKey>,
    /// The warnings.
    pub(crate) changes: Vec<(HostKey, HostChange)>,
    /// Whether they are too many to be told one by one.
    pub(crate) flood: FloodState,
}

/// Whether many hosts change at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum FloodState {
    /// They do not.
    #[default]
    None,
    /// It begins with so many hosts within an hour.
    Begins(usize),
    /// It was told.
    GoesOn,
}

impl HostMemory {
    /// Takes up the entries of the store in the place of all others.
    pub(crate) fn replace(&mut self, entries: BTreeMap<HostKey, HostEntry>) {
        self.entries = entries;
    }

    pub(crate) fn get(&self, key: &HostKey) -> Option<&HostEntry> {
        self.entries.get(key)
    }

    /// How many hosts there are.
    pub(crate) fn count(&self) -> usize {
        self.entries.len()
    }

    /// How many of them are settled.
    pub(crate) fn settled(&self) -> usize {
        self.entries.values().filter(|entry| entry.is_settled()).count()
    }

    /// Takes up a batch of sessions. Those that are not of these days say more about a clock than about a host.
    pub(crate) fn learn(&mut self, mut batch: Vec<(HostKey, DaySessions)>, now: LearnTime) -> Learnt {
        self.entries.retain(|_, entry| now.day.saturating_sub(entry.last) <= FORGOTTEN);
        let expected = self.entries.values().filter(|entry| entry.expected(now.day).is_some()).count();
        let mut learnt = Learnt::default();
        batch.retain(|(_, seen)| (now.day - LATE..=now.day + LATE).contains(&seen.day));
        // In the order in which they were.
        batch.sort_by_key(|(_, seen)| (seen.day, seen.last));
        for (key, seen) in batch {
            match self.entries.get_mut(&key) {
                Some(entry) => {
                    let change = entry.learn(&seen);
                    learnt.changes.extend(change.map(|change| (key.clone(), change)));
                }
                None => match HostEntry::first(&seen) {
                    Some(entry) => drop(self.entries.insert(key.clone(), entry)),
                    None => continue,
                },
            }
            learnt.changed.insert(key);
        }
        learnt.evicted = self.make_room();
        learnt.changed.retain(|key| self.entries.contains_key(key));
        let hosts: BTreeSet<_> = learnt.changes.iter().map(|(key, _)| key).collect();
        learnt.flood = self.flood.take(now.at, hosts.len(), expected);
        learnt
    }

    /// Forgets the hosts above the bound that were not seen for the longest time.
    fn make_room(&mut self) -> Vec<HostKey> {
        let over = self.entries.len().saturating_sub(MOST);
        if over == 0 {
            return Vec::new();
        }
        let mut oldest: Vec<_> = self.entries.iter().map(|(key, entry)| (entry.last, key.clone())).collect();
        oldest.sort_unstable();
        oldest.truncate(over);
        let keys: Vec<_> = oldest.into_iter().map(|(_, key)| key).collect();
        keys.iter().for_each(|key| drop(self.entries.remove(key)));
        keys
    }
}

/// The changes of the last hour.
#[derive(Debug, Default)]
struct ChangeFlood {
    /// When, in seconds since 1970, and how many hosts.
    recent: VecDeque<(i64, usize)>,
    was_told: bool,
}

impl ChangeFlood {
    fn take(&mut self, at: i64, hosts: usize, settled: usize) -> FloodState {
        self.recent.retain(|(then, _)| (at - TOGETHER..=at).contains(then));
        if hosts > 0 {
            self.recent.push_back((at, hosts));
        }
        let all: usize = self.recent.iter().map(|(_, hosts)| hosts).sum();
        let is_flood = all > MANY || all >= SEVERAL && all * MANY_PART > settled;
        let was_told = std::mem::replace(&mut self.was_told, is_flood);
        match (is_flood, was_told) {
            (false, _) => FloodState::None,
            (true, false) => FloodState::Begins(all),
            (true, true) => FloodState::GoesOn,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dane::pkix::PkixWorth;
    use crate::policy::host_session::SessionWord;

    const SECONDS: i64 = 24 * 60 * 60;

    fn key(number: usize) -> HostKey {
        HostKey::parse(&format!("mx{number}.example:25")).unwrap()
    }

    fn at(day: i64) -> LearnTime {
        LearnTime { at: day * SECONDS, day }
    }

    fn seen(day: i64, worth: PkixWorth) -> DaySessions {
        DaySessions { day, word: SessionWord::Tls(worth), sessions: 2, last: day * SECONDS, leaf: None, roots: 1 }
    }

    /// So many hosts that are settled on day 31.
    fn settled(hosts: usize) -> HostMemory {
        let mut memory = HostMemory::default();
        for day in 1..=31 {
            let batch = (0..hosts).map(|host| (key(host), seen(day, PkixWorth::Valid)));
            assert_eq!(memory.learn(batch.collect(), at(day)).changes, []);
        }
        assert_eq!((memory.settled(), memory.count()), (hosts, hosts));
        memory
    }

    #[test]
    fn u1_the_key_is_the_name_and_the_port() {
        // U1: two domains with one host have one entry, and another port is another host.
        let mut memory = HostMemory::default();
        let submission = HostKey { port: 587, ..key(1) };
        let batch = [key(1), key(1), submission.clone()].map(|key| (key, seen(1, PkixWorth::Valid)));
        let learnt = memory.learn(batch.to_vec(), at(1));
        assert_eq!(learnt.changed, BTreeSet::from([key(1), submission]));
        assert_eq!((memory.settled(), memory.count()), (0, 2));
        assert_eq!(HostKey::parse(&key(1).to_string()), Some(key(1)));
        for wrong in ["mx.example", "mx.example:", "mx.example:70000", ":25", "a b:25"] {
            assert_eq!(HostKey::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn u7_a_host_is_forgotten_and_the_oldest_makes_room() {
        // U7, U8: forward by years forgets all, and warns of nothing.
        let mut memory = settled(30);
        memory.learn(Vec::new(), at(31 + FORGOTTEN));
        assert_eq!(memory.settled(), 30);
        let batch = (0..30).map(|host| (key(host), seen(800, PkixWorth::Expired))).collect();
        let learnt = memory.learn(batch, at(800));
        assert_eq!((learnt.changes, learnt.flood), (vec![], FloodState::None));
        assert_eq!((memory.settled(), memory.count()), (0, 30));
        let batch = (0..MOST).map(|host| (key(1000 + host), seen(801, PkixWorth::Valid))).collect();
        let learnt = memory.learn(batch, at(801));
        assert_eq!((learnt.evicted.len(), learnt.changed.len()), (30, MOST));
        assert!(learnt.evicted.contains(&key(29)) && memory.get(&key(29)).is_none());
    }

    #[test]
    fn u8_sessions_of_other_days_are_left_out() {
        // U8.
        let mut memory = HostMemory::default();
        for (day, is_learnt) in [(8, false), (9, true), (10, true), (11, true), (12, false)] {
            let learnt = memory.learn(vec![(key(1), seen(day, PkixWorth::Valid))], at(10));
            assert_eq!(!learnt.changed.is_empty(), is_learnt, "{day}");
        }
    }

    #[test]
    fn u15_many_hosts_at_once_are_one_line() {
        // U15: more than 20 hosts, or five and 5 % of the settled, within an hour.
        for (hosts, changed, is_flood) in
            [(1000, 20, false), (1000, 21, true), (100, 5, false), (99, 5, true), (4, 4, false), (5, 5, true)]
        {
            let mut memory = settled(hosts);
            let batch = (0..changed).map(|host| (key(host), seen(32, PkixWorth::Expired))).collect();
            let learnt = memory.learn(batch, at(32));
            let flood = if is_flood { FloodState::Begins(changed) } else { FloodState::None };
            assert_eq!((learnt.changes.len(), learnt.flood), (changed, flood), "{hosts} {changed}");
        }
    }

    #[test]
    fn u15_the_hour_is_one_that_slides() {
        // U15.
        let mut flood = ChangeFlood::default();
        assert_eq!(flood.take(0, 15, 10_000), FloodState::None);
        assert_eq!(flood.take(1800, 15, 10_000), FloodState::Begins(30));
        assert_eq!(flood.take(1860, 0, 10_000), FloodState::GoesOn);
        assert_eq!(flood.take(3601, 1, 10_000), FloodState::None);
        assert_eq!(flood.take(3660, 15, 10_000), FloodState::Begins(31));
        // A clock that goes back.
        assert_eq!(flood.take(-9000, 1, 10_000), FloodState::None);
    }
}
