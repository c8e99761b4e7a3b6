//! The last attempts that did not end well, for `danelaw explain`.

use std::collections::VecDeque;

use parking_lot::Mutex;

/// The most octets of one account: the 20 KB of `admin.remember`.
const MAX_OCTETS: usize = 20 * 1000;
/// The end of an account that was longer.
const REST: &str = "\n(the rest is left out)\n";

/// So many attempts at most; the oldest goes first.
#[derive(Debug)]
pub(super) struct Ring {
    most: usize,
    attempts: Mutex<VecDeque<RememberedAttempt>>,
}

/// An attempt that is over, by its id, and the account of it: only the printed text stays in memory.
#[derive(Debug)]
struct RememberedAttempt {
    id: Box<str>,
    line: Box<str>,
    account: Box<str>,
}

/// The texts about one attempt.
pub(super) struct AttemptTexts {
    /// Its line in the list of all.
    pub(super) line: String,
    /// Every step.
    pub(super) steps: String,
}

impl Ring {
    pub(super) fn new(most: usize) -> Self {
        Self { most, attempts: Mutex::default() }
    }

    /// Remembers an attempt. Its client has its reply already, so no session waits for this.
    pub(super) fn push(&self, id: &str, account: impl FnOnce() -> AttemptTexts) {
        if self.most == 0 {
            return;
        }
        let AttemptTexts { line, steps } = account();
        let ended = RememberedAttempt { id: id.into(), line: line.into(), account: bounded(steps).into() };
        let forgotten = {
            let mut attempts = self.attempts.lock();
            let forgotten = if attempts.len() >= self.most { attempts.pop_front() } else { None };
            attempts.push_back(ended);
            forgotten
        };
        // Freed after the lock is.
        drop(forgotten);
    }

    /// The account of the last attempt, if one is remembered.
    pub(super) fn last(&self) -> Option<String> {
        self.attempts.lock().back().map(|ended| ended.account.to_string())
    }

    /// The line of each attempt that is remembered, the last one first.
    pub(super) fn lines(&self) -> Vec<String> {
        self.attempts.lock().iter().rev().map(|ended| ended.line.to_string()).collect()
    }

    /// The account of the attempt with this id, if it is remembered.
    pub(super) fn find(&self, id: &str) -> Option<String> {
        self.attempts
            .lock()
            .iter()
            .rev()
            .find(|ended| ended.id.eq_ignore_ascii_case(id))
            .map(|ended| ended.account.to_string())
    }
}

fn bounded(mut account: String) -> String {
    if account.len() > MAX_OCTETS {
        let most = MAX_OCTETS - REST.len();
        let end = account.char_indices().map(|(at, _)| at).take_while(|at| *at <= most).last();
        account.truncate(end.unwrap_or_default());
        account.push_str(REST);
    }
    account
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_keeps_the_newest_accounts_and_cuts_long_ones() {
        let account = |id: &str, steps: String| AttemptTexts { line: format!("{id}, of a.example"), steps };
        let ring = Ring::new(2);
        assert_eq!((ring.last(), ring.lines()), (None, Vec::new()));
        for id in ["A", "B", "C"] {
            ring.push(id, || account(id, "x".repeat(100_000)));
        }
        assert_eq!(ring.find("A"), None);
        let long = ring.find("b").unwrap();
        assert!(long.len() == MAX_OCTETS && long.ends_with("xx\n(the rest is left out)\n"));
        ring.push("D", || account("D", "short".to_owned()));
        assert_eq!((ring.find("D").unwrap(), ring.last().unwrap()), ("short".to_owned(), "short".to_owned()));
        assert_eq!(ring.lines(), ["D, of a.example", "C, of a.example"]);
        let none = Ring::new(0);
        none.push("A", || panic!("nobody asks"));
        assert_eq!(none.find("A"), None);
    }
}
