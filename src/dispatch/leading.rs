//! The danelaw that makes the reports of a day for all that share a database: the one that has the lease.
//!
//! It closes the day, so that its counts stay as they are, looks up the records of the domains, and writes a row for each
//! report with its counts. So each danelaw that sends the report later sends the same octets. A holder that was paused writes
//! nothing: each write fails unless the lease is still its own. Then another danelaw goes on from the rows.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use time::{Date, OffsetDateTime};

use super::sending::RoundClock;
use super::{Dispatch, DispatchSettings, lookups, rows};
use crate::dns::Resolver;
use crate::store::{Error, MadeReport, ReportChanges, SharedReports, TallyDay, TaskLease};
use crate::tlsrpt::kept::{KeptTally, UnwrittenLimits, counts_text};
use crate::tlsrpt::record::ReportAddress;
use crate::tlsrpt::schedule::{KeptDays, ReportBook, ReportKey};
use crate::tlsrpt::scope::ReportScope;
use crate::tlsrpt::tally::DomainDay;
use crate::tlsrpt::window::ReportWindow;

/// The most that is written together.
const BATCH: UnwrittenLimits = UnwrittenLimits { rows: 200, octets: 4 * 1024 * 1024 };

/// The state of the danelaw that leads, for as long as it does.
pub(super) struct Leading {
    lease: TaskLease,
    /// The counts of closed days.
    kept: KeptTally,
    loaded: BTreeSet<Date>,
    book: ReportBook,
    /// The time of the database from which changes are asked for.
    since: i64,
}

impl<R: Resolver + Clone> Dispatch<R> {
    /// Makes the reports that are due, if no other danelaw has the lease, and unless the lookups of a round before still go on.
    pub(super) async fn lead(
        self: Arc<Self>,
        pool: SharedReports,
        dns: R,
        settings: Arc<DispatchSettings>,
        clock: RoundClock,
    ) {
        let Ok(mut leading) = self.leading.try_lock() else { return };
        // It comes back if all of it is written.
        let before = leading.take();
        let round = LeadingRound { pool: &pool, clock, scope: &settings.scope };
        let done = async {
            let Some(mut now) = round.begin(before).await? else { return Ok(None) };
            let mut lookups = lookups::begin(&dns, now.due_lookups(&round));
            while let Some(looked_up) = lookups.join_next().await {
                if let Ok((of, found)) = looked_up {
                    now.book.looked_up(&of, found, clock.now());
                }
            }
            now.write(&pool).await?;
            Ok::<_, Error>(Some(now))
        };
        match done.await {
            Ok(Some(mut now)) => {
                self.waiting.store(now.book.waiting(), Relaxed);
                self.tell_untold(now.book.take_untold());
                *leading = Some(now);
            }
            // The danelaw that leads tells how many wait.
            Ok(None) => self.waiting.store(0, Relaxed),
            // As many wait as before.
            Err(error) => tracing::warn!(%error, "the TLS reports of all danelaws cannot be made now"),
        }
        self.show_waiting();
    }
}

/// The parts of one round.
struct LeadingRound<'a> {
    pool: &'a SharedReports,
    clock: RoundClock,
    scope: &'a ReportScope,
}

impl LeadingRound<'_> {
    /// Takes the lease, and reads the changes since the last round; none if another danelaw has it.
    async fn begin(&self, before: Option<Leading>) -> Result<Option<Leading>, Error> {
        let Some(lease) = self.pool.lease().await? else { return Ok(None) };
        let mut leading = match before {
            Some(leading) if leading.lease == lease => leading,
            Some(_) | None => Leading {
                lease,
                kept: KeptTally::default(),
                loaded: BTreeSet::new(),
                book: ReportBook::default(),
                since: 0,
            },
        };
        let kept = super::writing::kept_days(self.clock.now());
        let julian = [kept.counts, kept.states].map(|day| i64::from(day.to_julian_day()));
        self.pool.forget(lease, julian).await?;
        leading.close(self.pool, kept, self.clock.now()).await?;
        leading.refresh(self.pool.changes(leading.since).await?);
        leading.book.forget_before(kept);
        leading.book.close_days(leading.kept.tally(), self.scope, self.clock.now());
        Ok(Some(leading))
    }
}

impl Leading {
    /// Closes the days that are to be reported, and reads their counts.
    async fn close(&mut self, pool: &SharedReports, kept: KeptDays, now: OffsetDateTime) -> Result<(), Error> {
        self.kept.forget_before(kept.counts);
        self.loaded.retain(|day| *day >= kept.counts);
        for TallyDay { day: julian, is_closed } in pool.days().await? {
            let Some(day) = rows::day(julian) else { continue };
            let window = ReportWindow::of(day);
            if day < kept.counts || self.loaded.contains(&day) || !(window.is_open(now) || window.is_over(now)) {
                continue;
            }
            if !is_closed {
                pool.close(self.lease, julian).await?;
            }
            rows::restore_counts(&mut self.kept, pool.tallies(julian).await?);
            self.loaded.insert(day);
        }
        Ok(())
    }

    /// Takes up the states that other danelaws have written.
    fn refresh(&mut self, changes: ReportChanges) {
        let ReportChanges { reports, suppressed, until } = changes;
        rows::restore_reports(&mut self.book, reports);
        self.book.forget_suppressions();
        rows::restore_suppressions(&mut self.book, suppressed);
        self.since = until;
    }

    fn due_lookups(&self, round: &LeadingRound<'_>) -> Vec<DomainDay> {
        self.book.due_lookups(self.kept.tally(), round.scope, round.clock.now())
    }

    /// Writes all that has changed. If that fails, the state is of no use any more.
    async fn write(&mut self, pool: &SharedReports) -> Result<(), Error> {
        let mut keys = self.book.take_changed(usize::MAX);
        // Those with an address come first: a lookup counts as done once it is written, and then no report of it may be missing.
        keys.sort_by_key(|key| key.address.is_none());
        let mut keys = keys.into_iter();
        loop {
            let (mut made, mut octets) = (Vec::new(), 0);
            while made.len() < BATCH.rows
                && octets < BATCH.octets
                && let Some(key) = keys.next()
            {
                let report = self.made(&key);
                octets += report.as_ref().map_or(0, |report| report.content.len());
                made.extend(report);
            }
            if made.is_empty() && keys.len() == 0 {
                return Ok(());
            }
            pool.make(self.lease, &made).await?;
        }
    }

    fn made(&self, key: &ReportKey) -> Option<MadeReport> {
        let entry = self.book.entry(key)?;
        let day = self.kept.tally().day(key.of.day).filter(|_| key.address.is_some() && entry.end.is_none());
        let content = day.and_then(|day| counts_text(&self.book.content(day, key))).unwrap_or_default();
        let target = key.address.as_ref().map(ReportAddress::target);
        let target = target.map(|target| target.registered().to_string()).unwrap_or_default();
        Some(MadeReport { row: rows::report_row(key, entry), target, content })
    }
}
