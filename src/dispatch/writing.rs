//! The state of reports on its way to the store.

use time::OffsetDateTime;

use super::{Dispatch, DispatchState, rows};
use crate::dns::Resolver;
use crate::store::{Error, ReportRows};
use crate::tlsrpt::kept::{TallyRow, UnwrittenLimits};
use crate::tlsrpt::schedule::KeptDays;
use crate::tlsrpt::scope::ReportScope;

/// The most that is written in one transaction: the journal, and so a mail, waits for no more.
const BATCH: UnwrittenLimits = UnwrittenLimits { rows: 200, octets: 256 * 1024 };
/// How many days are kept: a report may be sent for two days, at last four hours and ten minutes after midnight.
const KEPT_DAYS: time::Duration = time::Duration::days(4);
/// How long danelaw remembers that a day was reported: the clock may go back.
const KNOWN_DAYS: time::Duration = time::Duration::days(30);

/// Rows on their way to the store. They stay to be written unless the store has them: the task may end in between.
struct Unwritten<'a, R> {
    dispatch: &'a Dispatch<R>,
    counts: Vec<TallyRow>,
    rows: ReportRows,
}

impl<R: Resolver + Clone> Dispatch<R> {
    /// Writes to the store all that has changed. A store that fails gets it the next time.
    pub async fn flush(&self) {
        let _one = self.writing.lock().await;
        match &self.pool {
            Some(pool) => self.flush_to(pool).await,
            None => self.flush_to_file().await,
        }
    }

    async fn flush_to_file(&self) {
        loop {
            let mut unwritten = self.take_unwritten();
            if unwritten.rows.is_empty() {
                return;
            }
            let done = self.store.put_report_rows(&unwritten.rows).await;
            let is_done = done.is_ok();
            if is_done {
                (unwritten.counts, unwritten.rows) = (Vec::new(), ReportRows::default());
            }
            self.note_write(done);
            if !is_done {
                return;
            }
        }
    }

    /// Tells of the first write that fails.
    pub(super) fn note_write(&self, done: Result<(), Error>) {
        let unwritable = std::mem::replace(&mut self.state.lock().unwritable, done.is_err());
        if let Err(error) = done
            && !unwritable
        {
            let text =
                "counts for TLS reports cannot be written to the store; they are kept in memory, and mail goes on";
            tracing::warn!(%error, "{text}");
        }
    }

    fn take_unwritten(&self) -> Unwritten<'_, R> {
        let mut state = self.state.lock();
        let counts = state.kept.take_unwritten(BATCH);
        let rows = rows::changed(&counts, &mut state.book, BATCH.rows);
        Unwritten { dispatch: self, counts, rows }
    }

    /// Ends the reports of days that are too long ago.
    pub(super) fn close_days(&self, scope: &ReportScope, now: OffsetDateTime) {
        let mut guard = self.state.lock();
        let DispatchState { kept, book, .. } = &mut *guard;
        book.close_days(kept.tally(), scope, now);
    }

    /// Forgets the days that are over, here at once and in a file step by step. The danelaw that leads does so in a database.
    pub(super) async fn forget(&self, now: OffsetDateTime) {
        let kept = kept_days(now);
        {
            let mut state = self.state.lock();
            state.kept.forget_before(kept.counts);
            state.book.forget_before(kept);
        }
        if self.pool.is_some() {
            return;
        }
        let [counts, states] = [kept.counts, kept.states].map(|day| i64::from(day.to_julian_day()));
        if let Err(error) = self.store.forget_reports_before(counts, states).await {
            tracing::debug!(%error, "counts of past days cannot be deleted from the store");
        }
    }
}

/// The first days that are kept.
pub(super) fn kept_days(now: OffsetDateTime) -> KeptDays {
    let before = |days| now.saturating_sub(days).date();
    KeptDays { counts: before(KEPT_DAYS), states: before(KNOWN_DAYS) }
}

impl<R> Drop for Unwritten<'_, R> {
    fn drop(&mut self) {
        if self.rows.is_empty() {
            return;
        }
        let mut guard = self.dispatch.state.lock();
        let DispatchState { kept, book, .. } = &mut *guard;
        kept.put_back(std::mem::take(&mut self.counts));
        rows::put_back(&self.rows, book);
    }
}
