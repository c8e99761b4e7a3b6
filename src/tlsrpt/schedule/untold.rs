//! The reports that have ended without a try, for the log.

use std::collections::BTreeMap;

use time::Date;

use super::ReportKey;
use crate::tlsrpt::record::ReportAddress;
use crate::tlsrpt::report_end::ReportEnd;

/// Reports that have ended without a try since the log was last told.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct UntoldEnds {
    /// Those that have a line each.
    pub named: Vec<(ReportKey, ReportEnd)>,
    /// The numbers of those that have no line each: strangers can make any number of them.
    pub summed: BTreeMap<SummedEnd, u64>,
}

/// The ends that one line of the log sums up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SummedEnd {
    /// The day that the reports are about.
    pub day: Date,
    /// How they ended.
    pub end: ReportEnd,
    /// The way to their addresses; "none" where these are not known.
    pub way: &'static str,
}

impl ReportKey {
    /// The word for the way to its address, for metrics.
    pub fn way(&self) -> &'static str {
        self.address.as_ref().map_or("none", ReportAddress::way)
    }
}

impl UntoldEnds {
    pub(super) fn add(&mut self, key: &ReportKey, end: ReportEnd) {
        match end {
            ReportEnd::Dns | ReportEnd::Skipped => self.named.push((key.clone(), end)),
            ReportEnd::Old | ReportEnd::Limit | ReportEnd::Suppressed => {
                *self.summed.entry(SummedEnd { day: key.of.day, end, way: key.way() }).or_default() += 1;
            }
            // The log has a line of the last try, or no report was wanted.
            ReportEnd::Found
            | ReportEnd::Sent
            | ReportEnd::NoRecord
            | ReportEnd::Refused
            | ReportEnd::Tries
            | ReportEnd::Told => {}
        }
    }
}
