//! The lookups of records that are due.

use std::collections::{BTreeMap, BTreeSet};

use time::{Date, Duration, OffsetDateTime};

use super::{ReportBook, ReportEntry, ReportKey};
use crate::name::Name;
use crate::tlsrpt::event::PolicyKind;
use crate::tlsrpt::report_end::ReportEnd;
use crate::tlsrpt::scope::{DomainPart, ReportScope, parts};
use crate::tlsrpt::tally::{DomainDay, TalliedDay, TlsTally};
use crate::tlsrpt::window::ReportWindow;

/// The most lookups that are begun together.
pub(super) const MAX_LOOKUPS: usize = 200;
/// The reports about base domains come behind the lookups of all recipients: see [`ReportWindow::due`].
const BEHIND_RECIPIENTS: Duration = Duration::hours(4);
/// The time after the end of the day at which no report waits for another one any more. A recipient has had four hours by then.
const NO_WAIT: Duration = Duration::hours(8);

/// The place of a lookup among those that are due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct LookupRank {
    attempt: LookupAttempt,
    /// How many others below the same registered domain come before it.
    behind: usize,
    due: OffsetDateTime,
}

/// Whether a lookup was made before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum LookupAttempt {
    First,
    Later,
}

impl ReportBook {
    /// The domains and days whose records are to be looked up now, as many as are begun together. The domain of TLSA records
    /// waits for the recipients below it: its report has those alone that get none of their own.
    ///
    /// First tries come before later ones, registered domains take turns, and of each the lookup that was due first is first:
    /// neither many names of a stranger nor name servers that are silent hold up the others for long.
    pub fn due_lookups(&self, tally: &TlsTally, scope: &ReportScope, now: OffsetDateTime) -> Vec<DomainDay> {
        let mut due = Vec::new();
        for day in tally.days().filter(|day| ReportWindow::of(*day).is_open(now)) {
            let Some(tallied) = tally.day(day) else { continue };
            let mut parts = parts(tallied);
            parts.retain(|domain, part| scope.keeps_back(domain, part.failed).is_none());
            let waiting = match now >= ReportWindow::of(day).end().saturating_add(NO_WAIT) {
                true => BTreeSet::new(),
                false => self.waiting_bases(day, tallied, &parts),
            };
            for (domain, part) in parts.into_iter().filter(|(domain, _)| !waiting.contains(domain)) {
                let of = DomainDay { day, domain: domain.clone() };
                if let Some(rank) = self.rank(&of, &part).filter(|rank| rank.due <= now) {
                    due.push((rank, of));
                }
            }
        }
        due.sort();
        let mut of_one = BTreeMap::<Name, usize>::new();
        for (rank, of) in &mut due {
            let before = of_one.entry(of.domain.registered()).or_default();
            rank.behind = *before;
            *before += 1;
        }
        due.sort();
        due.into_iter().map(|(_, of)| of).take(MAX_LOOKUPS).collect()
    }

    /// The domains of TLSA records that wait for a recipient. A recipient with a failed lookup holds up none: a stranger
    /// can drop each query. Nor do recipients in a circle: each of two domains may be the base domain of the other.
    fn waiting_bases<'a>(
        &self,
        day: Date,
        tallied: &'a TalliedDay,
        parts: &BTreeMap<&'a Name, DomainPart>,
    ) -> BTreeSet<&'a Name> {
        let mut bases_of = BTreeMap::<&Name, BTreeSet<&Name>>::new();
        for (recipient, policies) in tallied.domains().iter().filter(|(recipient, _)| parts.contains_key(recipient)) {
            let key = ReportKey { of: DomainDay { day, domain: recipient.clone() }, address: None };
            if !self.entries.contains_key(&key) {
                let bases =
                    policies.keys().filter(|policy| policy.kind == PolicyKind::Tlsa && policy.domain != *recipient);
                bases_of.insert(recipient, bases.map(|policy| &policy.domain).collect());
            }
        }
        let mut recipients = BTreeMap::<&Name, usize>::new();
        bases_of.values().flatten().for_each(|base| *recipients.entry(base).or_default() += 1);
        // Those that wait for no other, then those that wait for these alone, and so on: a circle is never reached.
        let mut ready: Vec<_> = bases_of.keys().copied().filter(|domain| !recipients.contains_key(domain)).collect();
        let mut waiting = BTreeSet::new();
        while let Some(recipient) = ready.pop() {
            for base in bases_of.get(recipient).into_iter().flatten().copied() {
                waiting.insert(base);
                let left = recipients.entry(base).or_default();
                *left = left.saturating_sub(1);
                if *left == 0 {
                    ready.push(base);
                }
            }
        }
        waiting
    }

    /// The rank of a lookup that has not ended.
    fn rank(&self, of: &DomainDay, part: &DomainPart) -> Option<LookupRank> {
        let (attempt, due) = match self.entries.get(&ReportKey { of: of.clone(), address: None }) {
            Some(entry) if entry.end.is_some() => return None,
            Some(entry) => (LookupAttempt::Later, entry.next),
            None => {
                let behind = if part.is_base_of_others { BEHIND_RECIPIENTS } else { Duration::ZERO };
                (LookupAttempt::First, ReportWindow::of(of.day).due(&of.domain).saturating_add(behind))
            }
        };
        Some(LookupRank { attempt, behind: 0, due })
    }

    /// Ends the reports of days that are too long ago, those too without a lookup of the record: danelaw did not run.
    pub fn close_days(&mut self, tally: &TlsTally, scope: &ReportScope, now: OffsetDateTime) {
        self.end_old(now);
        for day in tally.days().filter(|day| ReportWindow::of(*day).is_over(now)) {
            let parts = tally.day(day).map(parts).unwrap_or_default();
            let wanted = parts.into_iter().filter(|(domain, part)| scope.keeps_back(domain, part.failed).is_none());
            for (domain, _) in wanted {
                let key = ReportKey { of: DomainDay { day, domain: domain.clone() }, address: None };
                if !self.entries.contains_key(&key) {
                    let end = ReportEnd::Old;
                    self.untold.add(&key, end);
                    self.put(key, ReportEntry { first: now, tries: 0, next: now, end: Some(end), author: None });
                }
            }
        }
    }
}
