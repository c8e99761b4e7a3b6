//! The ends that a report can have.

/// The end of a report. The words are in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReportEnd {
    /// Of a lookup: the record was found.
    Found,
    /// The receiver has it.
    Sent,
    /// The domain asks for no reports.
    NoRecord,
    /// The record could not be looked up for 24 hours.
    Dns,
    /// The receiver refuses it.
    Refused,
    /// It could not be delivered for 24 hours.
    Tries,
    /// Its day is too long ago.
    Old,
    /// There are too many reports.
    Limit,
    /// The address has refused an earlier report.
    Suppressed,
    /// All of it is in other reports to the same address.
    Told,
    /// The configuration leaves out its domain.
    Skipped,
}

impl ReportEnd {
    const ALL: [Self; 11] = [
        Self::Found,
        Self::Sent,
        Self::NoRecord,
        Self::Dns,
        Self::Refused,
        Self::Tries,
        Self::Old,
        Self::Limit,
        Self::Suppressed,
        Self::Told,
        Self::Skipped,
    ];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::Sent => "sent",
            Self::NoRecord => "no-record",
            Self::Dns => "dns",
            Self::Refused => "refused",
            Self::Tries => "tries",
            Self::Old => "old",
            Self::Limit => "limit",
            Self::Suppressed => "suppressed",
            Self::Told => "told",
            Self::Skipped => "skipped",
        }
    }

    /// The inverse of [`Self::as_str`].
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|end| end.as_str() == word)
    }
}
