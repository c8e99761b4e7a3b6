//! The words of the page about the watch.

use crate::watch::kinds::Severity;
use crate::watch::view::FindingWord;

/// The parts of the page, in their order.
pub(super) const STATES: [(&str, FindingWord); 3] = [
    ("Findings that hold", FindingWord::Active),
    ("Seen once; a second look has yet to confirm it", FindingWord::Suspected),
    ("Over within the last week", FindingWord::Ended),
];

/// The colour of a severity; the word stands beside it.
pub(super) fn class(severity: Severity) -> &'static str {
    match severity {
        Severity::Alarm | Severity::Warn => "bad",
        Severity::Info => "good",
    }
}
