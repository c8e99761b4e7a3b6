//! The numbers of the watch for metrics.

use super::book::Book;
use crate::report::metrics::WatchFigures;

impl Book {
    /// The numbers for metrics.
    pub(crate) fn figures(&self) -> WatchFigures {
        let mut figures =
            WatchFigures { last_run: self.last_run, is_blind: self.blind.is_some(), ..WatchFigures::default() };
        let domains = self.watched().map(|(_, entry)| (entry.whose, &entry.findings, entry.unknown.is_some()));
        let users = self.users();
        let hosts = users
            .keys()
            .filter_map(|key| self.hosts.get(*key))
            .map(|entry| (entry.whose, &entry.findings, entry.now.is_unknown()));
        let all = domains.map(|entry| ("domains", entry)).chain(hosts.map(|entry| ("hosts", entry)));
        for (what, (whose, findings, is_unknown)) in all {
            let active = findings.iter().filter(|(_, state)| state.is_active());
            let mut holds = false;
            for (kind, state) in active {
                holds = true;
                *figures.findings.entry([kind.as_str(), state.severity.as_str(), whose.as_str()]).or_default() += 1;
            }
            let state = match (holds, is_unknown) {
                (true, _) => "finding",
                (false, true) => "unknown",
                (false, false) => "good",
            };
            *figures.names.entry([what, state]).or_default() += 1;
        }
        figures
    }
}
