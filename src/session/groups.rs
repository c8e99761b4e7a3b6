//! Which recipients of a fan-out transaction may share a connection to their destination.
//!
//! A recipient that has a message already must not get it again with those that do not have it. Whether the client is
//! sending such a message shows at the end of the data only. So recipients share a connection if they have a final outcome
//! in the same records of the [journal](crate::journal): for each message, all of them have an outcome or none has.

use crate::journal::RecordId;

/// The groups of one transaction.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// The records of group 1, 2 and so on.
    records: Vec<Vec<RecordId>>,
}

impl Groups {
    /// The group of a recipient with a final outcome in these records. Without any, group 0.
    pub(super) fn group(&mut self, records: Vec<RecordId>) -> usize {
        if records.is_empty() {
            return 0;
        }
        let known = self.records.iter().position(|other| *other == records);
        let place = known.unwrap_or_else(|| {
            self.records.push(records);
            self.records.len() - 1
        });
        place + 1
    }

    /// Whether no recipient has an outcome in any record.
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
}
