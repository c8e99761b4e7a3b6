//! Leases: which danelaw of all does a task, by the clock of the database.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::super::{Error, SoleTask, TaskLease};
use super::{Postgres, column, seconds};

/// The ends of the leases that this danelaw has asked for; none where another one has it.
#[derive(Debug, Default)]
pub(super) struct HeldLeases(BTreeMap<SoleTask, Option<Instant>>);

impl Postgres {
    /// Takes or renews a lease; none while another danelaw has it.
    pub(in super::super) async fn lease(&self, task: SoleTask) -> Result<Option<TaskLease>, Error> {
        // Before the call: the lease never ends later than this danelaw believes.
        let until = Instant::now() + task.term();
        self.leases.lock().0.entry(task).or_default();
        let sql = "SELECT danelaw.lease($1, $2, $3)";
        let query = || sqlx::query(sql).bind(task.as_str()).bind(self.owner).bind(seconds(task.term()));
        let rows = self.at_leisure(query).await?;
        let token: Option<i64> = rows.first().map_or(Ok(None), |row| column(row, 0))?;
        self.leases.lock().0.insert(task, token.map(|_| until));
        Ok(token.map(|token| TaskLease { token }))
    }

    /// The tasks that this danelaw does or would do, and whether it does them.
    pub(in super::super) fn leads(&self) -> Vec<(&'static str, bool)> {
        let now = Instant::now();
        let leads = |(task, end): (&SoleTask, &Option<Instant>)| (task.as_str(), end.is_some_and(|end| end > now));
        self.leases.lock().0.iter().map(leads).collect()
    }
}
