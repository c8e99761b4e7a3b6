//! The words of the page about the watch.

use time::OffsetDateTime;

use super::super::status;
use crate::watch::kinds::Severity;
use crate::watch::view::{FindingRow, FindingWord, WatchView};

/// The parts of the page, in their order.
pub(super) const STATES: [(&str, FindingWord); 3] = [
    ("Findings that hold", FindingWord::Active),
    ("Seen once; a second look has yet to confirm it", FindingWord::Suspected),
    ("Over within the last week", FindingWord::Ended),
];

/// The time and the result of the last look.
pub(super) fn last_look(view: &WatchView, now: OffsetDateTime) -> String {
    match (view.last_run, &view.blind) {
        (_, Some(blind)) => format!("The last look could not see: {blind}."),
        (None, None) => "No look yet.".to_owned(),
        (Some(at), None) => {
            format!("{} domains with {} hosts, last looked at {} ago.", view.domains, view.hosts, since(at, now))
        }
    }
}

/// How long a finding holds.
pub(super) fn lasting(row: &FindingRow, now: OffsetDateTime) -> String {
    since(row.since, now)
}

fn since(at: i64, now: OffsetDateTime) -> String {
    status::ago(OffsetDateTime::from_unix_timestamp(at).unwrap_or(now), now)
}

/// The colour of a severity; the word stands beside it.
pub(super) fn class(severity: Severity) -> &'static str {
    match severity {
        Severity::Alarm | Severity::Warn => "bad",
        Severity::Info => "good",
    }
}
