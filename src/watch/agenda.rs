//! Which domains a run looks at: those whose last look is long ago, some of them in each run, so that the looks are spread evenly.

use std::collections::BTreeSet;

use super::book::Book;
use crate::name::Name;

/// In how many parts the domains are looked at.
pub(crate) const PARTS: u32 = 24;
/// The least that one part has.
const LEAST: usize = 20;

/// The domains to watch.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    /// Those that the configuration names. They are looked at as soon as they are due.
    pub(crate) named: Vec<Name>,
    /// Those that mail went to, the busiest first.
    pub(crate) mailed: Vec<Name>,
}

/// The domains of a run: each that was never looked at, or that `every` seconds have passed for, up to one part of all.
pub(crate) fn due(watched: &Watched, book: &Book, at: i64, every: i64) -> Vec<Name> {
    // A part of the time is taken off, since the look before took some time itself.
    let is_due = |name: &&Name| {
        let last = book.domains.get(name.as_str()).map(|entry| entry.last);
        last.is_none_or(|last| at - last >= every - every / i64::from(PARTS) || last > at)
    };
    let most = watched.mailed.len().div_ceil(PARTS as usize).max(LEAST);
    let mut seen = BTreeSet::new();
    let named = watched.named.iter().filter(is_due);
    let mut mailed: Vec<_> = watched.mailed.iter().filter(is_due).collect();
    // The one that waits for the longest time first; of those never looked at, the busiest.
    mailed.sort_by_key(|name| book.domains.get(name.as_str()).map(|entry| entry.last));
    named.chain(mailed.into_iter().take(most)).filter(|name| seen.insert(*name)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::super::book::RunFacts;
    use super::super::facts::tests::domain;
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
            let now = due(&watched, &book, at, DAY);
            let own = now.iter().filter(|name| name.as_str().starts_with("own")).count();
            assert_eq!(own, if [0, 23, 46].contains(&hour) { 3 } else { 0 }, "{hour}");
            assert!(now.len() - own <= 40, "{hour}: {}", now.len());
            seen.extend(now.iter().cloned());
            let domains = now.iter().map(|name| (name.to_string(), domain())).collect();
            book.take_up(RunFacts { at, domains, ..RunFacts::default() });
            // The busiest first.
            assert!(hour > 0 || now.contains(&watched.mailed[0]));
        }
        assert_eq!(seen.len(), 963);
    }

    #[test]
    fn few_domains_do_not_wait_and_none_is_looked_at_twice() {
        let mut watched = Watched { named: names("d", 1), mailed: names("d", 5) };
        let book = Book::default();
        assert_eq!(due(&watched, &book, 0, DAY).len(), 5);
        watched.mailed.clear();
        assert_eq!(due(&watched, &book, 0, DAY).len(), 1);
    }
}
