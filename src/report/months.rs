//! The counts of mail by month, domain and result, on their way to the store.
//!
//! Counting never waits. A task writes the counts every ten seconds, and those of the last seconds are written at the end of
//! the program; a crash loses ten seconds of them. While the store fails they stay in memory, up to a bound; beyond it they
//! count for the domain "", which stands for all others. Deliveries and other attempts have a bound of their own each, so that
//! invented domains take no room from those that get mail.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use time::OffsetDateTime;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::result::MailResult;
use super::{Outcome, Reporter};
use crate::name::Name;
use crate::store::{Error, MailDelta, MailWrite, Month, Store};

/// How often counts are written to the store.
const FLUSH_EVERY: Duration = Duration::from_secs(10);
/// How long the last write may take at the end of the program.
const LAST: Duration = Duration::from_secs(2);
/// How often months that are over are forgotten, in flushes: each hour.
const FORGET_EVERY: u64 = 360;
/// The most that is written in one transaction: the journal, and so a mail, waits for no more.
const BATCH: usize = 500;
/// The most domains of each kind that wait to be written.
const MOST: usize = 20_000;

/// The counts that the store does not have yet.
#[derive(Debug, Default)]
pub struct MailMonths {
    state: Mutex<UnwrittenMonths>,
    /// One write at a time.
    writing: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct UnwrittenMonths {
    delivered: UnwrittenCounts,
    failed: UnwrittenCounts,
    /// The write that is under way. It stays until the store has it: the task may end in between.
    pending: Option<Arc<PendingWrite>>,
    /// The number of the last write.
    number: i64,
    /// Whether the last write has failed.
    is_failing: bool,
}

/// Counts of one kind: of deliveries, or of other attempts.
#[derive(Debug, Default)]
struct UnwrittenCounts {
    domains: BTreeMap<(Month, Name), MonthCounts>,
    others: BTreeMap<Month, MonthCounts>,
}

/// A write of counts of one kind.
#[derive(Debug)]
enum PendingWrite {
    /// Deliveries.
    Delivered(MailWrite),
    /// Other attempts.
    Failed(MailWrite),
}

/// The counts of one domain in a month.
type MonthCounts = BTreeMap<MailResult, MailCount>;

#[derive(Debug, Default, Clone, Copy)]
struct MailCount {
    mails: i64,
    last_day: i64,
}

impl MailMonths {
    /// Counts an attempt that is over now.
    pub(super) fn note(&self, outcome: &Outcome, now: OffsetDateTime) {
        let Some(result) = MailResult::of(outcome) else { return };
        let (month, day) = (Month::of(now.date()), i64::from(now.date().to_julian_day()));
        let mut state = self.state.lock();
        let kind = if result.is_delivery() { &mut state.delivered } else { &mut state.failed };
        let UnwrittenCounts { domains, others } = kind;
        let (key, is_full) = ((month, outcome.domain.clone()), domains.len() >= MOST);
        let counts = match domains.get_mut(&key) {
            Some(counts) => counts,
            None if is_full => others.entry(month).or_default(),
            None => domains.entry(key).or_default(),
        };
        let count = counts.entry(result).or_default();
        count.mails += 1;
        count.last_day = count.last_day.max(day);
    }

    /// Writes all counts to the store. What fails is written the next time, once.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn flush(&self, store: &Store) -> Result<(), Error> {
        let _one = self.writing.lock().await;
        while let Some(write) = self.next_write() {
            let done = write.make(store).await;
            self.note_write(&done);
            done?;
        }
        Ok(())
    }

    /// The write that is under way, or the next one.
    fn next_write(&self) -> Option<Arc<PendingWrite>> {
        let mut state = self.state.lock();
        if state.pending.is_none() {
            state.pending = state.next().map(Arc::new);
        }
        state.pending.clone()
    }

    fn note_write(&self, done: &Result<(), Error>) {
        let mut state = self.state.lock();
        let was_failing = std::mem::replace(&mut state.is_failing, done.is_err());
        match done {
            Ok(()) => state.pending = None,
            Err(error) if !was_failing => {
                drop(state);
                let text =
                    "counts of mail by month cannot be written to the store; they are kept in memory, and mail goes on";
                tracing::warn!(%error, "{text}");
            }
            Err(_) => {}
        }
    }
}

impl UnwrittenMonths {
    /// The next write: deliveries first, since a domain that has mail needs no room for its other attempts.
    fn next(&mut self) -> Option<PendingWrite> {
        let (kind, deltas): (fn(MailWrite) -> PendingWrite, _) = match self.delivered.take(BATCH) {
            none if none.is_empty() => (PendingWrite::Failed, self.failed.take(BATCH)),
            deltas => (PendingWrite::Delivered, deltas),
        };
        if deltas.is_empty() {
            return None;
        }
        self.number += 1;
        Some(kind(MailWrite { number: self.number, deltas }))
    }
}

impl PendingWrite {
    async fn make(&self, store: &Store) -> Result<(), Error> {
        match self {
            Self::Delivered(write) => store.add_mails(write).await,
            Self::Failed(write) => store.add_failed_mails(write).await,
        }
    }
}

impl UnwrittenCounts {
    /// Takes the counts of some domains out, about so many.
    fn take(&mut self, most: usize) -> Vec<MailDelta> {
        let mut deltas = Vec::new();
        while deltas.len() < most
            && let Some(((month, domain), counts)) = self.domains.pop_first()
        {
            deltas.extend(deltas_of(month, domain.as_str(), counts));
        }
        while deltas.len() < most
            && let Some((month, counts)) = self.others.pop_first()
        {
            deltas.extend(deltas_of(month, "", counts));
        }
        deltas
    }
}

fn deltas_of(month: Month, domain: &str, counts: MonthCounts) -> impl Iterator<Item = MailDelta> {
    counts.into_iter().map(move |(result, MailCount { mails, last_day })| MailDelta {
        month: month.number(),
        domain: domain.to_owned(),
        result: result.as_str().to_owned(),
        mails,
        last_day,
    })
}

/// The task that writes the counts of a reporter.
#[derive(Debug)]
pub struct MonthsTask {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl MonthsTask {
    /// Starts to write the counts of a reporter that has them. So many months are kept, this one among them.
    pub fn start(reporter: Arc<Reporter>, store: Store, kept: u32) -> Self {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let Some(months) = reporter.months() else { return };
            let mut flushes = tokio::time::interval(FLUSH_EVERY);
            flushes.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut round: u64 = 0;
            while stopped.run_until_cancelled(flushes.tick()).await.is_some() {
                // Its failure is told once.
                let is_written = months.flush(&store).await.is_ok();
                if is_written && round.is_multiple_of(FORGET_EVERY) {
                    forget(&store, kept).await;
                }
                round += u64::from(is_written);
            }
            let _ = months.flush(&store).await;
        });
        Self { stop, task }
    }

    /// Writes the last counts, within two seconds.
    pub async fn finish(self) {
        self.stop.cancel();
        let _ = tokio::time::timeout(LAST, self.task).await;
    }
}

async fn forget(store: &Store, kept: u32) {
    let this = Month::of(OffsetDateTime::now_utc().date());
    if let Err(error) = store.forget_mails(this.earlier(kept.saturating_sub(1)).number()).await {
        tracing::debug!(%error, "counts of past months cannot be deleted from the store");
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::tests::outcome;
    use super::*;

    fn attempt(domain: &str) -> Outcome {
        let reason = Some(crate::refusal::Label::ConnectTimeout);
        Outcome { domain: Name::parse(domain).unwrap(), verdict: Verdict::Deferred, reason, ..outcome() }
    }

    fn delivery(domain: &str) -> Outcome {
        Outcome { verdict: Verdict::Delivered, reason: None, ..attempt(domain) }
    }

    fn at(days: i64) -> OffsetDateTime {
        // 2020-01-01.
        OffsetDateTime::UNIX_EPOCH + time::Duration::days(18_262 + days)
    }

    async fn shown(store: &Store, month: i64) -> Vec<String> {
        let rows = store.mails_of(2020 * 12 + month).await.unwrap().into_iter();
        rows.map(|row| format!("{} {} {} {}", row.domain, row.result, row.mails, row.last_day - 2_458_850)).collect()
    }

    #[tokio::test]
    async fn counts_reach_the_store_once_by_month_domain_and_result() {
        let (months, store) = (MailMonths::default(), Store::open(None).await.unwrap());
        months.flush(&store).await.unwrap();
        for (domain, day) in [("a.example", 0), ("b.example", 3), ("a.example", 30), ("a.example", 31)] {
            months.note(&attempt(domain), at(day));
        }
        months.note(&Outcome { verdict: Verdict::Aborted, ..attempt("a.example") }, at(0));
        months.note(&Outcome { verdict: Verdict::Rejected, ..attempt("a.example") }, at(0));
        for _ in 0..2 {
            months.flush(&store).await.unwrap();
            let january = ["a.example deferred 2 30", "a.example rejected 1 0", "b.example deferred 1 3"];
            assert_eq!(shown(&store, 0).await, january);
            assert_eq!(shown(&store, 1).await, ["a.example deferred 1 31"]);
        }
        months.note(&attempt("b.example"), at(2));
        months.flush(&store).await.unwrap();
        assert_eq!(shown(&store, 0).await[2], "b.example deferred 2 3");
    }

    #[tokio::test]
    async fn domains_that_find_no_room_are_counted_together() {
        //
        let (months, store) = (MailMonths::default(), Store::open(None).await.unwrap());
        for number in 0..MOST + 5 {
            months.note(&attempt(&format!("d{number:05}.example")), at(0));
        }
        months.note(&attempt("d00000.example"), at(1));
        // Deliveries have room of their own.
        months.note(&delivery("z.example"), at(0));
        months.flush(&store).await.unwrap();
        let rows = shown(&store, 0).await;
        assert_eq!(rows.len(), MOST + 2);
        assert_eq!(rows[..3], [" deferred 5 0", "d00000.example deferred 2 1", "d00001.example deferred 1 0"]);
        assert_eq!(rows.last().unwrap(), "z.example unclaimed 1 0");
    }

    #[tokio::test]
    async fn a_write_that_is_given_up_is_made_again_and_counts_once() {
        let (months, store) = (MailMonths::default(), Store::open(None).await.unwrap());
        months.note(&attempt("a.example"), at(0));
        // A flush ends in the middle of its write, which the store takes all the same.
        let write = months.next_write().unwrap();
        write.make(&store).await.unwrap();
        months.note(&attempt("a.example"), at(0));
        months.flush(&store).await.unwrap();
        assert_eq!(shown(&store, 0).await, ["a.example deferred 2 0"]);
        // And one that the store does not take.
        months.note(&attempt("a.example"), at(0));
        drop(months.next_write());
        months.flush(&store).await.unwrap();
        assert_eq!(shown(&store, 0).await, ["a.example deferred 3 0"]);
        assert!(months.next_write().is_none());
    }
}
