//! The tables of TLS reports: those of a file, which one danelaw writes whole, and those of a database, to which several add.

use std::sync::Arc;

use super::local::Local;
use super::postgres::Postgres;
use super::{
    DomainTally, Error, HeldReport, MadeReport, ReportChanges, ReportRight, ReportRows, SoleTask, Store, StoreBackend,
    SuppressedRow, TakeLimits, TakenReport, TallyDay, TallyWrite, TaskLease, ToldReport,
};

/// The tables that several danelaws share.
#[derive(Clone)]
pub(crate) struct SharedReports {
    store: Store,
    postgres: Arc<Postgres>,
}

impl Store {
    /// The tables of a database, if it is one.
    pub(crate) fn shared_reports(&self) -> Option<SharedReports> {
        match &self.backend {
            StoreBackend::Sqlite(_) => None,
            StoreBackend::Postgres(postgres) => {
                Some(SharedReports { store: self.clone(), postgres: Arc::clone(postgres) })
            }
        }
    }

    /// The id of the store in TLS reports: random, and made with the store.
    pub(crate) async fn reporter_id(&self) -> Result<String, Error> {
        match &self.backend {
            StoreBackend::Sqlite(local) => Ok(local.named(local.lock().await.sqlite.reporter_id().await)?),
            StoreBackend::Postgres(postgres) => self.timed("reports", postgres.reporter_id()).await,
        }
    }

    /// All rows of TLS reports in a file.
    pub(crate) async fn report_rows(&self) -> Result<ReportRows, Error> {
        let file = self.file()?;
        Ok(file.named(file.lock().await.sqlite.report_rows().await)?)
    }

    /// Writes rows of TLS reports to a file in the place of those before, durably.
    pub(crate) async fn put_report_rows(&self, rows: &ReportRows) -> Result<(), Error> {
        let file = self.file()?;
        Ok(file.named(file.lock().await.sqlite.put_report_rows(rows).await)?)
    }

    /// Deletes rows of TLS reports about days before this Julian day from a file, durably: at most 500 of each table. The row of
    /// one report of each day stays until the second day.
    pub(crate) async fn forget_reports_before(&self, day: i64, last: i64) -> Result<(), Error> {
        let file = self.file()?;
        Ok(file.named(file.lock().await.sqlite.forget_reports_before(day, last).await)?)
    }

    fn file(&self) -> Result<&Local, Error> {
        match &self.backend {
            StoreBackend::Sqlite(local) => Ok(local),
            StoreBackend::Postgres(_) => Err(Error::OtherBackend),
        }
    }
}

impl SharedReports {
    /// Takes or renews the lease of the task; none while another danelaw has it.
    pub(crate) async fn lease(&self) -> Result<Option<TaskLease>, Error> {
        self.store.timed("lease", self.postgres.lease(SoleTask::Reports)).await
    }

    /// Adds counts. Returns the number of events for which the store has no room.
    pub(crate) async fn add(&self, write: &TallyWrite) -> Result<i64, Error> {
        self.store.timed("tally", self.postgres.add_tallies(write)).await
    }

    /// The days that have counts.
    pub(crate) async fn days(&self) -> Result<Vec<TallyDay>, Error> {
        self.store.timed("reports", self.postgres.tally_days()).await
    }

    /// Closes a day: its counts stay as they are from now on.
    pub(crate) async fn close(&self, lease: TaskLease, day: i64) -> Result<(), Error> {
        self.store.timed("reports", self.postgres.close_day(lease, day)).await
    }

    /// The counts of a day.
    pub(crate) async fn tallies(&self, day: i64) -> Result<Vec<DomainTally>, Error> {
        self.store.timed("reports", self.postgres.tallies(day)).await
    }

    /// The addresses that have refused a report.
    pub(crate) async fn suppressed(&self) -> Result<Vec<SuppressedRow>, Error> {
        self.store.timed("reports", self.postgres.suppressed()).await
    }

    /// The reports that have changed since this time of the database, all of them since 0, and the addresses that get none.
    pub(crate) async fn changes(&self, since: i64) -> Result<ReportChanges, Error> {
        self.store.timed("reports", self.postgres.report_changes(since)).await
    }

    /// Writes reports that are new, states of lookups, and the ends of reports that no danelaw is sending.
    pub(crate) async fn make(&self, lease: TaskLease, reports: &[MadeReport]) -> Result<(), Error> {
        self.store.timed("reports", self.postgres.make_reports(lease, reports)).await
    }

    /// Takes reports that are due at this time, in seconds of the Unix clock. Each belongs to this danelaw for ten minutes.
    pub(crate) async fn take(&self, due: i64, limits: TakeLimits) -> Result<Vec<TakenReport>, Error> {
        self.store.timed("reports", self.postgres.take_reports(due, limits)).await
    }

    /// Goes on with the right to send a report, right before it is sent: the time since it was taken may have been long.
    pub(crate) async fn hold(&self, held: &HeldReport) -> Result<ReportRight, Error> {
        self.store.timed("reports", self.postgres.hold_report(held)).await
    }

    /// Writes the states of reports that were taken, and of their addresses.
    pub(crate) async fn tell(&self, reports: &[ToldReport], suppressed: &[SuppressedRow]) -> Result<(), Error> {
        let tell = async {
            // First, so that a report whose result is lost ends as one to an address that is left alone.
            self.postgres.tell_suppressed(suppressed).await?;
            self.postgres.tell_reports(reports).await
        };
        self.store.timed("reports", tell).await
    }

    /// Deletes what is about days before the first Julian day, and the knowledge that a day was reported before the second one.
    pub(crate) async fn forget(&self, lease: TaskLease, [day, known]: [i64; 2]) -> Result<(), Error> {
        self.store.timed("reports", self.postgres.forget_reports(lease, day, known)).await
    }
}
