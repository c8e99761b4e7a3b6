//! The host status: addresses that failed a moment ago (RFC 5321 §4.5.4.1).
//!
//! Only failures before MAIL are remembered, and not for long. A remote's answer about mail never is. [`super::failover`]
//! has the table.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::failover::StatusChange;
use super::shards::{SHARDS, Shards};
use crate::excerpt;
use crate::refusal::{FailedPart, HostEndpoint, Reason};

/// The most addresses that are remembered. If an attacker fills the memory, further addresses are only tried again.
const MAX_ADDRESSES: usize = 16 * 1024;
/// The most characters of a reason that are remembered.
const MAX_TEXT: usize = 200;

/// The memory of failures.
#[derive(Debug)]
pub struct HostStatusCache {
    keep: Duration,
    failures: Shards<HostEndpoint, HostFailure>,
    /// The shard that is swept next.
    sweep: AtomicUsize,
}

/// The last failure of one address.
#[derive(Debug, Clone)]
struct HostFailure {
    seen: Instant,
    change: StatusChange,
    why: String,
    part: FailedPart,
}

/// The status of an address now.
#[derive(Debug)]
pub(super) enum HostStatus {
    /// No failure is known.
    Good,
    /// It has failed: others are tried first.
    Failed,
    /// It is not tried again, for this reason.
    Unresponsive(Reason),
}

impl HostStatusCache {
    /// A memory that keeps each failure for this long.
    pub fn new(keep: Duration) -> Self {
        Self { keep, failures: Shards::new(), sweep: AtomicUsize::new(0) }
    }

    /// Remembers a failure.
    pub(super) fn note(&self, server: HostEndpoint, change: StatusChange, reason: &Reason) {
        if change == StatusChange::Unchanged || self.keep.is_zero() {
            return;
        }
        let now = Instant::now();
        let mut failures = self.failures.of(&server);
        if failures.len() >= MAX_ADDRESSES / SHARDS {
            failures.retain(|_, failure| now.duration_since(failure.seen) < self.keep);
        }
        if failures.len() < MAX_ADDRESSES / SHARDS {
            let part = if reason.is_about_tls() { FailedPart::Tls } else { FailedPart::Other };
            failures.insert(server, HostFailure { seen: now, change, why: excerpt::cut(reason, MAX_TEXT), part });
        }
    }

    /// Drops the expired failures of one shard: each call of the next shard, so that a few mails clear all.
    fn sweep(&self) {
        let shard = self.sweep.fetch_add(1, Ordering::Relaxed) % SHARDS;
        if let Some(mut failures) = self.failures.each().nth(shard)
            && !failures.is_empty()
        {
            failures.retain(|_, failure| failure.seen.elapsed() < self.keep);
            if failures.is_empty() {
                failures.shrink_to_fit();
            }
        }
    }

    /// Forgets the failure of an address that works again.
    pub(super) fn forget(&self, server: HostEndpoint) {
        self.failures.of(&server).remove(&server);
    }

    /// The status of an address.
    pub(super) fn status(&self, server: HostEndpoint) -> HostStatus {
        self.sweep();
        let failures = self.failures.of(&server);
        let Some(failure) = failures.get(&server) else { return HostStatus::Good };
        let ago = failure.seen.elapsed();
        if ago >= self.keep {
            return HostStatus::Good;
        }
        match failure.change {
            StatusChange::Unchanged => HostStatus::Good,
            StatusChange::Failed => HostStatus::Failed,
            StatusChange::Unresponsive => {
                HostStatus::Unresponsive(Reason::JustFailed { why: failure.why.clone(), ago, part: failure.part })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn server(address: impl Into<Ipv4Addr>) -> HostEndpoint {
        HostEndpoint { address: address.into().into(), port: None }
    }

    fn refused() -> Reason {
        Reason::Connect(std::io::ErrorKind::ConnectionRefused.into())
    }

    #[tokio::test(start_paused = true)]
    async fn remembered_for_its_time_and_no_longer() {
        // A-105, K17.
        let keep = Duration::from_secs(60);
        let cache = HostStatusCache::new(keep);
        let address = server([192, 0, 2, 1]);
        assert!(matches!(cache.status(address), HostStatus::Good));
        cache.note(address, StatusChange::Unchanged, &refused());
        assert!(matches!(cache.status(address), HostStatus::Good));
        cache.note(address, StatusChange::Unresponsive, &refused());
        tokio::time::advance(Duration::from_secs(59)).await;
        let HostStatus::Unresponsive(reason) = cache.status(address) else { panic!("forgotten") };
        assert_eq!(reason.to_string(), "not tried again, because 59 seconds ago: cannot connect: connection refused");
        assert!(matches!(cache.status(server([192, 0, 2, 2])), HostStatus::Good));
        // Another port is another server.
        let other_port = HostEndpoint { port: Some(2525), ..address };
        assert!(matches!(cache.status(other_port), HostStatus::Good));
        cache.forget(other_port);
        assert!(matches!(cache.status(address), HostStatus::Unresponsive(_)));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(matches!(cache.status(address), HostStatus::Good));
        cache.note(address, StatusChange::Failed, &refused());
        assert!(matches!(cache.status(address), HostStatus::Failed));
        cache.forget(address);
        assert!(matches!(cache.status(address), HostStatus::Good));
        // With 0 no failure is remembered.
        let never = HostStatusCache::new(Duration::ZERO);
        never.note(address, StatusChange::Unresponsive, &refused());
        assert!(matches!(never.status(address), HostStatus::Good));
    }

    #[tokio::test(start_paused = true)]
    async fn neither_long_texts_nor_old_failures_are_kept() {
        let cache = HostStatusCache::new(Duration::from_secs(60));
        let address = |number: u32| server(number);
        let novel = crate::smtp::reply::Reply::plain(crate::smtp::reply::Code::LOCAL_ERROR, "x".repeat(60_000));
        for number in 0..1000 {
            cache.note(address(number), StatusChange::Unresponsive, &Reason::Greeting(novel.clone()));
        }
        let texts =
            || cache.failures.each().map(|failures| failures.values().map(|failure| failure.why.len()).sum::<usize>());
        assert!(texts().sum::<usize>() <= 1000 * (MAX_TEXT + 3));
        assert!(matches!(cache.status(address(1)), HostStatus::Unresponsive(_)));
        // A minute later mail asks for other addresses.
        tokio::time::advance(Duration::from_secs(60)).await;
        (0..16).for_each(|_| drop(cache.status(address(5000))));
        assert_eq!(cache.failures.each().map(|failures| failures.len()).sum::<usize>(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_the_bound() {
        let cache = HostStatusCache::new(Duration::from_secs(60));
        let count = || cache.failures.each().map(|failures| failures.len()).sum::<usize>();
        let fill = |from: u32| {
            for number in from..from + 2 * u32::try_from(MAX_ADDRESSES).unwrap() {
                cache.note(server(number), StatusChange::Unresponsive, &refused());
            }
        };
        fill(0);
        assert!(count() <= MAX_ADDRESSES && count() > MAX_ADDRESSES / 2);
        // Expired failures make room.
        tokio::time::advance(Duration::from_secs(61)).await;
        let late = server(u32::MAX);
        cache.note(late, StatusChange::Failed, &refused());
        assert!(matches!(cache.status(late), HostStatus::Failed));
    }
}
