//! The ends that a report can have.

use crate::words::words;

/// The end of a report. The words are in the store.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, strum::IntoStaticStr, strum::EnumString, strum::VariantArray,
)]
#[strum(serialize_all = "kebab-case")]
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

words!(ReportEnd);
