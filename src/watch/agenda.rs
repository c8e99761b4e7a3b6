//! The domains of a run: those whose last look is long ago, some of them in each run, so that the looks are spread evenly.

use super::book::Book;
use crate::name::Name;

/// The number of runs in which all domains have their look.
pub(crate) const PARTS: u32 = 24;
/// The fewest domains of a run, so that few domains are all looked at in the first one.
const LEAST: usize = 20;

/// The domains to watch.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    /// Those that the configuration names. They are looked at as soon as they are due.
    pub(crate) named: Vec<Name>,
    /// Those that mail went to, the busiest first.
    pub(crate) mailed: Vec<Name>,
}

impl Watched {
    /// Whether this domain is watched.
    pub(crate) fn has(&self, name: &Name) -> bool {
        self.named.contains(name) || self.mailed.contains(name)
    }

    /// The named domains that were never looked at, or that `every` seconds have passed for.
    pub(crate) fn due_named(&self, book: &Book, at: i64, every: i64) -> Vec<Name> {
        self.named.iter().filter(|name| is_due(name, book, at, every)).cloned().collect()
    }

    /// The same of those that mail went to, up to one part of all: first the one that waits for the longest time; of those never
    /// looked at, the busiest.
    pub(crate) fn due_mailed(&self, book: &Book, at: i64, every: i64) -> Vec<Name> {
        let most = self.mailed.len().div_ceil(PARTS as usize).max(LEAST);
        let mut due: Vec<_> = self.mailed.iter().filter(|name| is_due(name, book, at, every)).collect();
        due.sort_by_key(|name| book.domains.get(name.as_str()).map(|entry| entry.last));
        due.into_iter().take(most).cloned().collect()
    }
}

fn is_due(name: &Name, book: &Book, at: i64, every: i64) -> bool {
    // A part of the time is taken off, since the look before took some time itself.
    let since = every - every / i64::from(PARTS);
    let last = book.domains.get(name.as_str()).map(|entry| entry.last);
    last.is_none_or(|last| at - last >= since || last > at)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::book::RunFacts;
    use super::super::facts::tests::domain;
    use super::super::facts::{DomainFacts, SeenFault, Standing};
    use super::*;

    const DAY: i64 = 24 * 60 * 60;

    fn names(of: &str, count: usize) -> Vec<Name> {
        (0..count).map(|number| Name::parse(&format!("{of}{number}.example")).unwrap()).collect()
    }

    #[test]
    fn the_domains_are_spread_over_the_time_and_each_has_its_turn() {
        // W1.
        let watched = Watched { named: names("own", 3), mailed: names("d", 960) };
        let mut book = Book::default();
        let mut seen = BTreeSet::new();
        for hour in 0..48 {
            let at = 1_000 * DAY + hour * 60 * 60;
            let own = watched.due_named(&book, at, DAY);
            assert_eq!(own.len(), if [0, 23, 46].contains(&hour) { 3 } else { 0 }, "{hour}");
            let mailed = watched.due_mailed(&book, at, DAY);
            assert!(mailed.len() <= 40, "{hour}: {}", mailed.len());
            // The busiest first.
            assert!(hour > 0 || mailed.contains(&watched.mailed[0]));
            seen.extend(own.iter().chain(&mailed).cloned());
            let domains = own.iter().chain(&mailed).map(|name| (name.to_string(), domain())).collect();
            book.take_up(RunFacts { at, every: DAY, domains, ..RunFacts::default() });
        }
        assert_eq!(seen.len(), 963);
    }

    #[test]
    fn domains_without_answers_keep_no_other_from_its_turn() {
        let watched = Watched { named: Vec::new(), mailed: names("d", 40) };
        let mut book = Book::default();
        let unknown = DomainFacts { standing: Standing::Unknown(SeenFault::new("out-of-time", "", None)), ..domain() };
        let mut seen = BTreeSet::new();
        for hour in 0..2 {
            let due = watched.due_mailed(&book, hour * 60 * 60, DAY);
            let domains = due.iter().map(|name| (name.to_string(), unknown.clone())).collect();
            seen.extend(due);
            book.take_up(RunFacts { at: hour * 60 * 60, every: DAY, domains, ..RunFacts::default() });
        }
        assert_eq!(seen.len(), 40);
    }

    #[test]
    fn few_domains_do_not_wait() {
        let watched = Watched { named: names("own", 1), mailed: names("d", 5) };
        let book = Book::default();
        assert_eq!((watched.due_named(&book, 0, DAY).len(), watched.due_mailed(&book, 0, DAY).len()), (1, 5));
        assert!(watched.has(&watched.mailed[0]) && !watched.has(&names("other", 1)[0]));
    }
}
