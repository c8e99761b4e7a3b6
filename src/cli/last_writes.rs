//! The last writes of the tasks that count mail and TLS sessions, at the end of the program.

use super::reports::ReportTask;
use crate::report::months::MonthsTask;

/// The tasks that write counts while mail goes on, if there are any.
#[derive(Default)]
pub(super) struct LastWrites {
    pub(super) reports: Option<ReportTask>,
    pub(super) months: Option<MonthsTask>,
}

impl LastWrites {
    /// Tells or writes the last sessions and the last counts of mail, at the end of the program.
    pub(super) async fn finish(self) {
        let reports = async {
            match self.reports {
                Some(ReportTask::Collectd(task)) => task.finish().await,
                Some(ReportTask::Send(task, _)) => task.finish().await,
                None => {}
            }
        };
        let months = async {
            if let Some(months) = self.months {
                months.finish().await;
            }
        };
        tokio::join!(reports, months);
    }
}
