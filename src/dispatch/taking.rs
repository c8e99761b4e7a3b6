//! The reports of a database that this danelaw sends: it takes some that are due, each for a while, and writes how it went.
//!
//! A report whose danelaw dies in between is due again when its time is over, with the same author, counts and id.

use std::collections::BTreeMap;

use time::OffsetDateTime;

use super::{Dispatch, DispatchState, rows};
use crate::dns::Resolver;
use crate::store::{
    Error, HeldReport, ReportRight, SharedReports, SuppressedRow, TakeLimits, TakenReport, TallyWrite, ToldReport,
};
use crate::tlsrpt::kept::{UnwrittenLimits, counts_of};
use crate::tlsrpt::schedule::{MAX_UNDER_WAY, ReportKey, TO_ONE_TOGETHER};
use crate::tlsrpt::tally::TalliedDomain;

/// The most that is written together.
const BATCH: UnwrittenLimits = UnwrittenLimits { rows: 2000, octets: 4 * 1024 * 1024 };

/// The reports that this danelaw has taken.
#[derive(Debug, Default)]
pub(super) struct TakenReports(BTreeMap<ReportKey, Taken>);

#[derive(Debug)]
struct Taken {
    token: i64,
    content: TalliedDomain,
    phase: TakenPhase,
}

/// How far a report that was taken has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TakenPhase {
    /// It is not decided yet whether it is sent now.
    Fresh,
    /// It is sent, or goes back.
    Settled,
}

impl TakenReports {
    /// The counts for a report, if it was taken.
    pub(super) fn content(&self, key: &ReportKey) -> Option<&TalliedDomain> {
        self.0.get(key).map(|taken| &taken.content)
    }

    fn held(&self, key: &ReportKey) -> Option<HeldReport> {
        let token = self.0.get(key)?.token;
        let address = key.address.as_ref()?.to_string();
        Some(HeldReport {
            day: i64::from(key.of.day.to_julian_day()),
            domain: key.of.domain.to_string(),
            address,
            token,
        })
    }

    /// Those that are not being sent go back from now on.
    pub(super) fn settle(&mut self) {
        self.0.values_mut().for_each(|taken| taken.phase = TakenPhase::Settled);
    }
}

/// States on their way to the database. They stay to be written unless the database has them: the task may end in between.
struct UntoldStates<'a, R> {
    dispatch: &'a Dispatch<R>,
    told: Vec<ToldReport>,
    suppressed: Vec<SuppressedRow>,
}

impl<R: Resolver + Clone> Dispatch<R> {
    /// Takes reports that are due, as many as this danelaw may send besides.
    pub(super) async fn take(&self, pool: &SharedReports, now: OffsetDateTime) {
        let room = MAX_UNDER_WAY.saturating_sub(self.state.lock().taken.0.len());
        if room == 0 || !self.is_identified().await {
            return;
        }
        let limit = |most: usize| i64::try_from(most).unwrap_or(i64::MAX);
        let limits = TakeLimits { most: limit(room), together: limit(TO_ONE_TOGETHER) };
        match pool.take(now.unix_timestamp(), limits).await {
            Ok(reports) => {
                let mut state = self.state.lock();
                reports.into_iter().for_each(|report| state.take(report));
            }
            Err(error) => tracing::debug!(%error, "TLS reports that are due cannot be taken"),
        }
    }

    /// Whether the id of the store is known: without it no report could be written. The first failure is told.
    async fn is_identified(&self) -> bool {
        let found = self.store_id().await.map(drop);
        let was_unidentified = std::mem::replace(&mut self.state.lock().unidentified, found.is_err());
        match found {
            Ok(()) => true,
            Err(error) => {
                if !was_unidentified {
                    let text =
                        "the id of the store in TLS reports cannot be read (table tls_reporter), and none is sent";
                    tracing::error!(%error, "{text}");
                }
                false
            }
        }
    }

    /// Goes on with the right to send a report. The report may have been taken long ago, and the right may have ended
    /// since. Then, and if the store does not answer, the report goes back.
    pub(super) async fn hold(&self, key: &ReportKey) -> ReportRight {
        let Some(pool) = &self.pool else { return ReportRight::Ours };
        let Some(held) = self.state.lock().taken.held(key) else { return ReportRight::Lost };
        match pool.hold(&held).await {
            Ok(right) => right,
            Err(error) => {
                tracing::debug!(%error, domain = %key.of.domain, "a TLS report waits until the store answers");
                ReportRight::Lost
            }
        }
    }

    /// Writes to the database all that has changed. A database that fails gets it the next time.
    pub(super) async fn flush_to(&self, pool: &SharedReports) {
        let done = match self.add(pool).await {
            Ok(()) => self.tell(pool).await,
            Err(error) => Err(error),
        };
        self.note_write(done);
    }

    /// Adds the counts. Those of a write whose answer was lost are written with the same number, and so count once.
    async fn add(&self, pool: &SharedReports) -> Result<(), Error> {
        loop {
            let Some(write) = self.state.lock().next_write() else { return Ok(()) };
            let left_out = pool.add(&write).await?;
            self.state.lock().adding = None;
            if left_out > 0 {
                tracing::warn!(
                    left_out,
                    "the database has no room for more counts of the day; TLS reports are not complete"
                );
            }
        }
    }

    async fn tell(&self, pool: &SharedReports) -> Result<(), Error> {
        loop {
            let mut untold = self.take_untold_states();
            if untold.is_empty() {
                return Ok(());
            }
            pool.tell(&untold.told, &untold.suppressed).await?;
            let told = std::mem::take(&mut untold.told);
            untold.suppressed.clear();
            let mut state = self.state.lock();
            let ended = told.iter().filter(|told| !told.is_kept).filter_map(|told| rows::key(&told.row));
            ended.for_each(|key| state.hand_over(&key));
        }
    }

    fn take_untold_states(&self) -> UntoldStates<'_, R> {
        let mut state = self.state.lock();
        let DispatchState { taken, book, .. } = &mut *state;
        // Of a day that is forgotten.
        taken.0.retain(|key, _| book.entry(key).is_some());
        let is_back =
            |(key, taken): &(&ReportKey, &Taken)| taken.phase == TakenPhase::Settled && !book.is_under_way(key);
        let back: Vec<_> = taken.0.iter().filter(is_back).map(|(key, _)| key.clone()).collect();
        book.put_back(back);
        let keys = book.take_changed(BATCH.rows);
        let suppressed = rows::suppressed(book, BATCH.rows);
        let told = keys.iter().filter_map(|key| state.told(key)).collect();
        UntoldStates { dispatch: self, told, suppressed }
    }
}

impl DispatchState {
    /// Takes up a report that this danelaw may send.
    fn take(&mut self, report: TakenReport) {
        let TakenReport { row, content, token, suppressed } = report;
        // A row that danelaw did not write is left out.
        let (Some(key), Some(entry)) = (rows::key(&row), rows::entry(&row)) else { return };
        if let Some(address) = &key.address {
            let suppression = suppressed.as_ref().and_then(rows::suppression);
            self.book.learn_suppression(address.clone(), suppression);
        }
        self.book.restore(key.clone(), entry);
        let content = counts_of(&content).unwrap_or_default();
        self.taken.0.insert(key, Taken { token, content, phase: TakenPhase::Fresh });
    }

    fn hand_over(&mut self, key: &ReportKey) {
        self.taken.0.remove(key);
        self.book.hand_over(key);
    }

    fn told(&self, key: &ReportKey) -> Option<ToldReport> {
        let (taken, entry) = (self.taken.0.get(key)?, self.book.entry(key)?);
        // A report that waits in this round is kept too.
        let is_kept = self.book.is_under_way(key) || taken.phase == TakenPhase::Fresh;
        Some(ToldReport { row: rows::report_row(key, entry), token: taken.token, is_kept })
    }

    /// The counts that are to be written next.
    fn next_write(&mut self) -> Option<TallyWrite> {
        if self.adding.is_none() {
            let deltas: Vec<_> = self.kept.take_added(BATCH).into_iter().map(rows::delta).collect();
            if deltas.is_empty() {
                return None;
            }
            self.added += 1;
            self.adding = Some(TallyWrite { number: self.added, deltas });
        }
        self.adding.clone()
    }
}

impl<R> UntoldStates<'_, R> {
    fn is_empty(&self) -> bool {
        self.told.is_empty() && self.suppressed.is_empty()
    }
}

impl<R> Drop for UntoldStates<'_, R> {
    fn drop(&mut self) {
        if self.is_empty() {
            return;
        }
        let mut state = self.dispatch.state.lock();
        state.book.put_back(self.told.iter().filter_map(|told| rows::key(&told.row)));
        rows::put_back_suppressed(&self.suppressed, &mut state.book);
    }
}
