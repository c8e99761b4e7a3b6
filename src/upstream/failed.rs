//! Addresses that could not be reached a moment ago (RFC 5321 §4.5.4.1).
//!
//! Only what happened before anything was said of a mail is remembered, and not for long; what a remote says about mail
//! never is. [`super::next`] has the table. That a host does not take BDAT is no word about mail, and is remembered beside it.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::next::Standing;
use super::shards::{SHARDS, Shards};
use super::without_bdat::WithoutBdat;
use crate::refusal::Reason;
use crate::trace;

/// The most addresses that are remembered. An attacker who has many gains nothing but that they are tried again.
const MAX_ADDRESSES: usize = 16 * 1024;
/// The most characters of a reason that are remembered.
const MAX_TEXT: usize = 200;

/// The memory.
#[derive(Debug)]
pub struct FailedHosts {
    keep: Duration,
    marks: Shards<IpAddr, Mark>,
    /// The part that is swept next.
    sweep: AtomicUsize,
    without_bdat: WithoutBdat,
}

/// What is remembered of one address.
#[derive(Debug, Clone)]
struct Mark {
    seen: Instant,
    standing: Standing,
    why: String,
}

/// How an address stands now.
#[derive(Debug)]
pub(super) enum Now {
    /// Nothing is known against it.
    Open,
    /// It has failed: others first.
    Failed,
    /// It is not worth waiting for again: why, and how long ago that was seen.
    Silent(Reason),
}

impl FailedHosts {
    /// Remembers each failure for this long.
    pub fn new(keep: Duration) -> Self {
        Self { keep, marks: Shards::new(), sweep: AtomicUsize::new(0), without_bdat: WithoutBdat::new() }
    }

    /// The addresses that have refused BDAT.
    pub(super) fn without_bdat(&self) -> &WithoutBdat {
        &self.without_bdat
    }

    /// Takes note of a failure.
    pub(super) fn note(&self, address: IpAddr, standing: Standing, reason: &Reason) {
        if standing == Standing::Unchanged || self.keep.is_zero() {
            return;
        }
        let now = Instant::now();
        let mut marks = self.marks.of(&address);
        if marks.len() >= MAX_ADDRESSES / SHARDS {
            marks.retain(|_, mark| now.duration_since(mark.seen) < self.keep);
        }
        if marks.len() < MAX_ADDRESSES / SHARDS {
            marks.insert(address, Mark { seen: now, standing, why: trace::cut(reason, MAX_TEXT) });
        }
    }

    /// Drops the marks of one part that are over: of another part each time, so that a few mails see to all of them.
    fn sweep(&self) {
        let part = self.sweep.fetch_add(1, Ordering::Relaxed) % SHARDS;
        if let Some(mut marks) = self.marks.each().nth(part)
            && !marks.is_empty()
        {
            marks.retain(|_, mark| mark.seen.elapsed() < self.keep);
            if marks.is_empty() {
                marks.shrink_to_fit();
            }
        }
    }

    /// The address works again.
    pub(super) fn forget(&self, address: IpAddr) {
        self.marks.of(&address).remove(&address);
    }

    /// How an address stands.
    pub(super) fn standing(&self, address: IpAddr) -> Now {
        self.sweep();
        let marks = self.marks.of(&address);
        let Some(mark) = marks.get(&address) else { return Now::Open };
        let ago = mark.seen.elapsed();
        match mark.standing {
            _ if ago >= self.keep => Now::Open,
            Standing::Unchanged => Now::Open,
            Standing::Failed => Now::Failed,
            Standing::Silent => Now::Silent(Reason::JustFailed { why: mark.why.clone(), ago }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused() -> Reason {
        Reason::Connect(std::io::ErrorKind::ConnectionRefused.into())
    }

    #[tokio::test(start_paused = true)]
    async fn remembered_for_its_time_and_no_longer() {
        // A-105, K17.
        let keep = Duration::from_secs(60);
        let failed = FailedHosts::new(keep);
        let address = IpAddr::from([192, 0, 2, 1]);
        assert!(matches!(failed.standing(address), Now::Open));
        failed.note(address, Standing::Unchanged, &refused());
        assert!(matches!(failed.standing(address), Now::Open));
        failed.note(address, Standing::Silent, &refused());
        tokio::time::advance(Duration::from_secs(59)).await;
        let Now::Silent(reason) = failed.standing(address) else { panic!("forgotten") };
        assert_eq!(reason.to_string(), "not tried again, because 59 seconds ago: cannot connect: connection refused");
        assert!(matches!(failed.standing([192, 0, 2, 2].into()), Now::Open));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(matches!(failed.standing(address), Now::Open));
        failed.note(address, Standing::Failed, &refused());
        assert!(matches!(failed.standing(address), Now::Failed));
        failed.forget(address);
        assert!(matches!(failed.standing(address), Now::Open));
        // 0 remembers nothing.
        let never = FailedHosts::new(Duration::ZERO);
        never.note(address, Standing::Silent, &refused());
        assert!(matches!(never.standing(address), Now::Open));
    }

    #[tokio::test(start_paused = true)]
    async fn neither_long_texts_nor_old_marks_are_kept() {
        let failed = FailedHosts::new(Duration::from_secs(60));
        let address = |number: u32| IpAddr::from(std::net::Ipv4Addr::from(number));
        let novel = crate::smtp::reply::Reply::plain(crate::smtp::reply::Code::LOCAL_ERROR, "x".repeat(60_000));
        for number in 0..1000 {
            failed.note(address(number), Standing::Silent, &Reason::Greeting(novel.clone()));
        }
        let texts = || failed.marks.each().map(|marks| marks.values().map(|mark| mark.why.len()).sum::<usize>());
        assert!(texts().sum::<usize>() <= 1000 * (MAX_TEXT + 3));
        assert!(matches!(failed.standing(address(1)), Now::Silent(_)));
        // The mails of a minute later ask for others.
        tokio::time::advance(Duration::from_secs(60)).await;
        (0..16).for_each(|_| drop(failed.standing(address(5000))));
        assert_eq!(failed.marks.each().map(|marks| marks.len()).sum::<usize>(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_so_many() {
        let failed = FailedHosts::new(Duration::from_secs(60));
        let count = || failed.marks.each().map(|marks| marks.len()).sum::<usize>();
        let fill = |from: u32| {
            for number in from..from + 2 * u32::try_from(MAX_ADDRESSES).unwrap() {
                failed.note(std::net::Ipv4Addr::from(number).into(), Standing::Silent, &refused());
            }
        };
        fill(0);
        assert!(count() <= MAX_ADDRESSES && count() > MAX_ADDRESSES / 2);
        // What is over makes room.
        tokio::time::advance(Duration::from_secs(61)).await;
        let late = std::net::Ipv4Addr::from(u32::MAX).into();
        failed.note(late, Standing::Failed, &refused());
        assert!(matches!(failed.standing(late), Now::Failed));
    }
}
