//! Whether mail servers can be reached from this host at all.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

/// How many addresses of IPv4, or of IPv6, must have been tried: fewer may all be down.
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
    /// Since the first attempt.
    waited: Duration,
}

/// The facts, and their probable cause. It is not certain: each of the hosts may be down.
impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named: Vec<_> = self.named.iter().map(ToString::to_string).collect();
        let within = match self.waited.as_secs() {
            0 => String::new(),
            seconds => format!(" within {seconds} s"),
        };
        write!(
            f,
            "none of {} addresses ({}, ..) has taken a connection{within}: it seems that outbound port 25 is closed here, or that \
             this host has no network; ask your provider to open the port, or check the DNS alone with --no-connect",
            self.tried,
            named.join(", ")
        )
    }
}

impl Reach {
    /// A connection to this address begins.
    pub(crate) fn dials(&self, address: IpAddr) {
        let mut attempts = self.0.lock();
        attempts.first.get_or_insert_with(Instant::now);
        attempts.tried.insert(address);
    }

    /// A server has taken a connection. Its replies do not count.
    pub(crate) fn connected(&self) {
        self.0.lock().connected = true;
    }

    /// Waits until it is clear that no server can be reached. Does not return once one was.
    pub(crate) async fn lost(&self) -> Unreachable {
        loop {
            sleep(EVERY).await;
            if let Some(unreachable) = self.0.lock().verdict_after(PATIENCE) {
                return unreachable;
            }
        }
    }

    /// Whether no server could be reached, once every attempt has ended.
    pub(crate) fn at_the_end(&self) -> Option<Unreachable> {
        self.0.lock().verdict_after(Duration::ZERO)
    }
}

impl Attempts {
    fn verdict_after(&self, patience: Duration) -> Option<Unreachable> {
        let waited = self.first?.elapsed();
        // A host without IPv6 reaches none of its addresses, however many have both.
        let by_ipv4 = self.tried.iter().filter(|address| address.is_ipv4()).count();
        let of_a_family = by_ipv4.max(self.tried.len() - by_ipv4);
        let named = self.tried.iter().take(MAX_NAMED).copied().collect();
        (waited >= patience && !self.connected && of_a_family >= MIN_TRIED).then_some(Unreachable {
            tried: self.tried.len(),
            named,
            waited,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

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
            said.starts_with(
                "none of 16 addresses (192.0.2.0, 192.0.2.1, 192.0.2.2, ..) has taken a connection within 10 s: "
            ) && said.contains("--no-connect"),
            "{said}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_list_is_judged_by_its_attempts() {
        let v6 = |last: u16| IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last));
        let mixed = |v4: u8, count: u16| {
            let reach = tried(v4);
            (0..count).for_each(|last| reach.dials(v6(last)));
            reach
        };
        for (reach, cause) in [
            (Reach::default(), None),
            (tried(15), None),
            (tried(16), Some("none of 16 addresses (192.0.2.0, 192.0.2.1, 192.0.2.2, ..) has taken a connection: ")),
            // Hosts with both families, tried from one without IPv6.
            (mixed(15, 15), None),
            (mixed(16, 15), Some("none of 31 addresses (192.0.2.0, ")),
            (mixed(0, 16), Some("none of 16 addresses (2001:db8::, ")),
        ] {
            let said = reach.at_the_end().map(|unreachable| unreachable.to_string());
            let is_true = match (&said, cause) {
                (Some(said), Some(cause)) => said.starts_with(cause),
                (said, cause) => said.is_none() && cause.is_none(),
            };
            assert!(is_true, "{said:?} {cause:?}");
            reach.connected();
            assert_eq!(reach.at_the_end(), None);
        }
        // Sixteen domains at one dead host.
        let reach = Reach::default();
        (0..16).for_each(|_| reach.dials(v6(1)));
        assert_eq!(reach.at_the_end(), None);
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
