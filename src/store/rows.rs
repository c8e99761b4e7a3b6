//! The rows of policies and TLS reports, as the rest of the program gives and gets them.

/// A policy of MTA-STS as it is kept. The times are in seconds of the Unix clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PolicyRow {
    /// The domain.
    pub(crate) domain: String,
    /// The id of the policy.
    pub(crate) id: String,
    /// Its text as it was fetched.
    pub(crate) body: Vec<u8>,
    /// When it was fetched.
    pub(crate) fetched: i64,
    /// When it was last used, to the day.
    pub(crate) used: i64,
    /// Since when it cannot be fetched anew.
    pub(crate) failing_since: Option<i64>,
}

/// The counts of a domain on one day, for TLS reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CountsRow {
    /// The Julian day.
    pub(crate) day: i64,
    /// The domain.
    pub(crate) domain: String,
    /// The counts, as JSON.
    pub(crate) counts: String,
}

/// The state of a TLS report. The times are in seconds of the Unix clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReportRow {
    /// The Julian day that it is about.
    pub(crate) day: i64,
    /// The domain that it is about.
    pub(crate) domain: String,
    /// Its address; empty for the lookup of the addresses.
    pub(crate) address: String,
    /// How it ended; empty while it waits.
    pub(crate) state: String,
    /// When it was due first.
    pub(crate) first: i64,
    /// How often it was tried.
    pub(crate) tries: i64,
    /// When it is tried next.
    pub(crate) next: i64,
    /// The organisation that its first try named; empty before that.
    pub(crate) organization: String,
    /// The mailbox likewise.
    pub(crate) contact: String,
}

/// An address that has refused a TLS report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SuppressedRow {
    /// The address.
    pub(crate) address: String,
    /// It gets no reports until then, in seconds of the Unix clock; `None` deletes the row.
    pub(crate) until: Option<i64>,
    /// How often it has refused one in a row.
    pub(crate) level: i64,
}

/// All rows of TLS reports.
#[derive(Debug, Default)]
pub(crate) struct ReportRows {
    pub(crate) counts: Vec<CountsRow>,
    pub(crate) reports: Vec<ReportRow>,
    pub(crate) suppressed: Vec<SuppressedRow>,
}

/// A result of a domain on one day that came so often since the last write, for TLS reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TallyDelta {
    /// The Julian day.
    pub(crate) day: i64,
    /// The domain.
    pub(crate) domain: String,
    /// The registered domain above it, by which room is shared out.
    pub(crate) owner: String,
    /// The policy and the result, as JSON.
    pub(crate) counted: String,
    /// How often.
    pub(crate) count: i64,
}

/// A result of a domain on one day that came so often at all danelaws, for TLS reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DomainTally {
    /// The Julian day.
    pub(crate) day: i64,
    /// The domain.
    pub(crate) domain: String,
    /// The policy and the result, as JSON.
    pub(crate) counted: String,
    /// How often.
    pub(crate) count: i64,
}

/// Counts that are added to those of other danelaws.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TallyWrite {
    /// Later writes of a process have higher numbers. A write with the number of one before adds nothing.
    pub(crate) number: i64,
    /// The counts.
    pub(crate) deltas: Vec<TallyDelta>,
}

/// A day with counts of TLS sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TallyDay {
    /// The Julian day.
    pub(crate) day: i64,
    /// Whether its counts stay as they are.
    pub(crate) is_closed: bool,
}

/// A TLS report that a danelaw makes for all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MadeReport {
    /// Its state.
    pub(crate) row: ReportRow,
    /// The registered domain that takes it.
    pub(crate) target: String,
    /// Its counts, as JSON.
    pub(crate) content: String,
}

/// A TLS report that this danelaw may send for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TakenReport {
    /// Its state.
    pub(crate) row: ReportRow,
    /// Its counts, as JSON.
    pub(crate) content: String,
    /// The number of this right.
    pub(crate) token: i64,
    /// Whether its address has refused one.
    pub(crate) suppressed: Option<SuppressedRow>,
}

/// A TLS report that is to be sent now, and the number of the right to do so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HeldReport {
    /// The Julian day that it is about.
    pub(crate) day: i64,
    /// The domain that it is about.
    pub(crate) domain: String,
    /// Its address.
    pub(crate) address: String,
    /// The number of the right.
    pub(crate) token: i64,
}

/// Whether this danelaw may still send a report that it has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReportRight {
    /// It may, for another ten minutes.
    Ours,
    /// Another danelaw may have taken it, or it has ended.
    Lost,
}

/// The state of a TLS report that this danelaw has taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ToldReport {
    /// The state.
    pub(crate) row: ReportRow,
    /// The number of the right to send it.
    pub(crate) token: i64,
    /// Whether the right goes on.
    pub(crate) is_kept: bool,
}

/// The most reports that are taken together, and the most to one target at a time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TakeLimits {
    pub(crate) most: i64,
    pub(crate) together: i64,
}

/// The states of TLS reports that have changed since a time.
#[derive(Debug, Default)]
pub(crate) struct ReportChanges {
    /// The reports.
    pub(crate) reports: Vec<ReportRow>,
    /// All addresses that have refused one.
    pub(crate) suppressed: Vec<SuppressedRow>,
    /// The time that the next changes are asked from, by the clock of the database.
    pub(crate) until: i64,
}
