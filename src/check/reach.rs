//! Whether mail servers can be reached from this host at all.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How many addresses must have been tried: fewer may all be down.
const MIN_TRIED: usize = 16;
/// How long no session may have come about, since the first attempt.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often to look.
const EVERY: Duration = Duration::from_millis(250);
/// The most addresses that are named.
const MAX_NAMED: usize = 3;

/// The addresses that were tried so far.
#[derive(Debug, Default)]
pub(crate) struct Reach(Mutex<Attempts>);

#[derive(Debug, Default)]
struct Attempts {
    first: Option<Instant>,
    tried: BTreeSet<IpAddr>,
    connected: bool,
}

/// No address can be reached.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unreachable {
    tried: usize,
    named: Vec<IpAddr>,
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named: Vec<_> = self.named.iter().map(ToString::to_string).collect();
        write!(
            f,
            "within {} s no connection to a mail server has succeeded, of {} addresses ({}, ..): outbound port 25 is closed here, \
             or this host has no network; ask your provider to open it, or check the DNS alone with --no-connect",
            PATIENCE.as_secs(),
            self.tried,
            named.join(", ")
        )
    }
}

impl Reach {
    /// A connection to this address begins.
    pub(crate) fn dials(&self, address: IpAddr) {
        let mut attempts = self.attempts();
        attempts.first.get_or_insert_with(Instant::now);
        attempts.tried.insert(address);
    }

    /// A server was connected to, whatever it said.
    pub(crate) fn connected(&self) {
        self.attempts().connected = true;
    }

    /// Waits until it is clear that no server can be reached. Does not return once one was.
    pub(crate) async fn lost(&self) -> Unreachable {
        loop {
            sleep(EVERY).await;
            if let Some(unreachable) = self.attempts().verdict() {
                return unreachable;
            }
        }
    }

    fn attempts(&self) -> MutexGuard<'_, Attempts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attempts {
    fn verdict(&self) -> Option<Unreachable> {
        let long = self.first.is_some_and(|first| first.elapsed() >= PATIENCE);
        let named = self.tried.iter().take(MAX_NAMED).copied().collect();
        (long && !self.connected && self.tried.len() >= MIN_TRIED)
            .then_some(Unreachable { tried: self.tried.len(), named })
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::time::timeout;

    use super::*;

    fn tried(count: u8) -> Reach {
        let reach = Reach::default();
        (0..count).for_each(|last| reach.dials(Ipv4Addr::new(192, 0, 2, last).into()));
        reach
    }

    #[tokio::test(start_paused = true)]
    async fn many_addresses_and_no_connection_end_the_wait_in_time() {
        let began = Instant::now();
        let lost = tried(16).lost().await;
        assert!((PATIENCE..=PATIENCE + EVERY).contains(&began.elapsed()), "{:?}", began.elapsed());
        let said = lost.to_string();
        assert!(
            said.contains("16 addresses (192.0.2.0, 192.0.2.1, 192.0.2.2, ..)") && said.contains("--no-connect"),
            "{said}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn one_connection_or_few_addresses_say_nothing_about_this_host() {
        let reach = tried(16);
        reach.connected();
        assert!(timeout(PATIENCE * 10, reach.lost()).await.is_err());
        assert!(timeout(PATIENCE * 10, tried(15).lost()).await.is_err());
        // The same address again is no other one.
        let reach = tried(15);
        reach.dials(Ipv4Addr::new(192, 0, 2, 1).into());
        assert!(timeout(PATIENCE * 10, reach.lost()).await.is_err());
    }
}
