//! A look without a danelaw that runs, with a file for a memory.

use super::book::{RunEnd, RunReason};
use super::kept::{MemoryFile, StateFileError};
use super::lookout::{Lookout, RunPlan};
use super::view::WatchView;
use crate::check::ends::DAY;
use crate::name::Name;

/// A domain that is on no list for three times as long is not watched any more, in seconds. How often cron calls is not known.
const EVERY: i64 = DAY;

/// A look that is over. Its findings are printed before it is kept: a finding may come twice, and is never lost.
pub(crate) struct LookOnce {
    /// The result.
    pub(crate) end: RunEnd,
    file: MemoryFile,
}

impl LookOnce {
    /// Looks at the domains by the memory of a file.
    pub(crate) async fn of(mut file: MemoryFile, lookout: &mut Lookout, domains: &[Name]) -> Self {
        let plan = RunPlan { domains, reason: RunReason::Due, every: EVERY };
        let facts = lookout.run(plan, &file.book).await;
        let end = file.book.take_up(facts);
        Self { end, file }
    }

    /// The state after the look.
    pub(crate) fn view(&self) -> WatchView {
        self.file.book.view()
    }

    /// Keeps the memory.
    ///
    /// # Errors
    /// The file cannot be written. Then the next look tells the same again.
    pub(crate) fn keep(self) -> Result<(), StateFileError> {
        self.file.write()
    }
}
