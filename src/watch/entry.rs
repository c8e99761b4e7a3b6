//! The memory of one domain or host, and the changes by one look.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::book::{RunFacts, RunReason, SubjectName, ToldFinding};
use super::facts::{DomainFacts, HostFacts, SeenFault, SignatureFact};
use super::findings::{DomainPast, HostPast, SeenFinding};
use super::kinds::{FindingKind, Ownership};
use super::states::{self, FindingNews, FindingStage, FindingState, LookTime};
use crate::check::ends::DAY;

/// The memory of one domain or host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WatchEntry<F> {
    /// The facts that the next look is compared with.
    pub(crate) compared: F,
    /// The facts of the last look with an answer.
    pub(crate) now: F,
    /// The owner.
    pub(crate) whose: Ownership,
    /// The last look, in seconds since 1970.
    pub(crate) last: i64,
    /// The last look that findings or refused deliveries asked for.
    #[serde(default)]
    pub(crate) again: i64,
    /// The start of the present good time.
    pub(crate) good_since: Option<i64>,
    /// The reason for which the last look had no answer.
    #[serde(default)]
    pub(crate) unknown: Option<SeenFault>,
    /// The findings that are not absent.
    pub(crate) findings: BTreeMap<FindingKind, FindingState>,
}

/// The time that an earlier look sees the same answer for; a day at most, also where a zone says more.
pub(super) fn ttl(signature: Option<&SignatureFact>) -> i64 {
    signature.map_or(0, |signature| i64::from(signature.ttl)).min(DAY)
}

/// A finding of an entry that is told.
pub(super) struct EntryNews {
    told: FindingNews,
    kind: FindingKind,
    state: FindingState,
}

impl EntryNews {
    /// Whether a finding of this kind is over: lost records are told of for a month, and may not be back then.
    pub(super) fn is_end_of(&self, kind: FindingKind) -> bool {
        self.kind == kind && self.told == FindingNews::Ended
    }

    pub(super) fn of(self, name: SubjectName, whose: Ownership, domains: usize) -> ToldFinding {
        let Self { told, kind, state } = self;
        ToldFinding { told, kind, whose, name, domains, state }
    }
}

impl WatchEntry<DomainFacts> {
    pub(super) fn past(&self) -> DomainPast {
        DomainPast { good_since: self.good_since, refused: self.now.refused }
    }
}

impl WatchEntry<HostFacts> {
    pub(super) fn past(&self) -> HostPast {
        let lost = self.findings.get(&FindingKind::DaneLost).filter(|state| state.is_active());
        let was_broken = self.findings.get(&FindingKind::HostBroken).is_some_and(FindingState::holds);
        HostPast { lost: lost.map(|state| state.since), was_broken }
    }
}

impl<F: Clone> WatchEntry<F> {
    /// The entry after a look, with the findings of before.
    pub(super) fn after(before: Option<Self>, now: F, whose: Ownership, at: i64) -> Self {
        match before {
            // Of others less is told than of our own, and of the host.
            Some(before) if before.whose != whose => {
                Self { findings: BTreeMap::new(), ..Self::after(None, now, whose, at) }
            }
            Some(before) => Self { now, whose, last: at, unknown: None, ..before },
            None => {
                let (compared, findings) = (now.clone(), BTreeMap::new());
                Self { compared, now, whose, last: at, again: 0, good_since: None, unknown: None, findings }
            }
        }
    }

    /// Notes that a look was made.
    pub(super) fn tried(&mut self, run: &RunFacts) {
        self.last = run.at;
        if run.reason == RunReason::Again {
            self.again = run.at;
        }
        self.again = self.again.min(run.at);
        self.findings.values_mut().for_each(|state| state.not_after(run.at));
    }

    /// The entry after a look without an answer.
    pub(super) fn without_answer(&self, at: i64, unknown: Option<SeenFault>) -> Self {
        Self { last: at, unknown, ..self.clone() }
    }

    /// Whether it has a finding that another look at this time confirms, and none was made for it yet.
    pub(super) fn is_suspect(&self, at: i64, signature: Option<&SignatureFact>) -> bool {
        let waits = |state: &FindingState| {
            let is_ripe = state.confirmed_from(ttl(signature)) <= at && self.again < state.since;
            state.stage == FindingStage::Suspected && is_ripe
        };
        self.findings.values().any(waits)
    }

    /// Takes up the findings of a look. The facts become those to compare with, unless a change of them has yet to be confirmed.
    pub(super) fn take(&mut self, found: &[SeenFinding], look: LookTime<'_>) -> impl Iterator<Item = EntryNews> {
        let mut news = Vec::new();
        let kinds: BTreeSet<_> =
            self.findings.keys().copied().chain(found.iter().map(|finding| finding.kind)).collect();
        for kind in kinds {
            // Of others less is told than of our own.
            if kind.severity(self.whose).is_none() {
                self.findings.remove(&kind);
                continue;
            }
            let finding = found.iter().find(|finding| finding.kind == kind);
            let (state, told) = states::step(self.findings.remove(&kind), finding, look);
            news.extend(told.zip(state.clone()).map(|(told, state)| EntryNews { told, kind, state }));
            self.findings.extend(state.map(|state| (kind, state)));
        }
        let waits = |kind: &FindingKind, state: &FindingState| {
            let compares = kind.is_change() || *kind == FindingKind::DaneLost;
            compares && state.stage == FindingStage::Suspected
        };
        if !self.findings.iter().any(|(kind, state)| waits(kind, state)) {
            self.compared = self.now.clone();
        }
        news.into_iter()
    }
}
