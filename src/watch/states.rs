//! When the watch speaks: the state of one finding about one domain or host, from look to look.
//!
//! absent → suspected → active → ended → back or absent. A second look confirms a finding before it is told, since most alerts of DNS
//! changes are false. A finding that goes on, or comes back, is told again after a week.

use serde::{Deserialize, Serialize};

use super::findings::SeenFinding;
use super::kinds::Severity;
use crate::check::ends::DAY;
use crate::words::words;

/// The least time between two looks that tell a finding.
const CONFIRMED_AFTER: i64 = 60 * 60;
/// A finding that goes on is told again after so long.
const AGAIN_AFTER: i64 = 7 * DAY;

/// The state of a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FindingState {
    /// When it was first seen, in seconds since 1970.
    pub(crate) since: i64,
    /// Its severity at the last look.
    pub(crate) severity: Severity,
    /// In words, at the last look.
    pub(crate) text: String,
    /// The name in the table of refusals, for a finding about one.
    pub(crate) label: Option<String>,
    /// How far it is.
    pub(crate) stage: FindingStage,
}

/// How far a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum FindingStage {
    /// One look has seen it, and it was not told.
    Suspected,
    /// It was told at this time, with this severity.
    Active(LastTelling),
    /// It is over; it was told last at this time.
    Ended(LastTelling),
    /// It has come back within a week, and was not told again.
    Back(LastTelling),
}

/// The last time that a finding was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LastTelling {
    /// In seconds since 1970.
    pub(crate) at: i64,
    /// The severity.
    pub(crate) severity: Severity,
}

/// A look at one domain or host.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LookTime<'a> {
    /// In seconds since 1970.
    pub(crate) at: i64,
    /// The TTL of the records, in seconds: an earlier look sees the same answer.
    pub(crate) ttl: i64,
    /// The refusal that several deliveries have met: a finding about it needs no second look.
    pub(crate) met: Option<&'a str>,
}

impl LookTime<'_> {
    fn has_met(&self, finding: &SeenFinding) -> bool {
        self.met.is_some() && self.met == finding.label.as_deref()
    }
}

/// The news of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub(crate) enum FindingNews {
    /// It is new.
    New,
    /// It goes on.
    Still,
    /// It is over.
    Ended,
}

words!(FindingNews);

/// The state after a look, and whether it is told.
pub(crate) fn step(
    before: Option<FindingState>,
    finding: Option<&SeenFinding>,
    look: LookTime<'_>,
) -> (Option<FindingState>, Option<FindingNews>) {
    match (before, finding) {
        (None, None) => (None, None),
        (None, Some(finding)) if finding.is_carried => (None, None),
        (None, Some(finding)) => {
            let new = FindingState {
                since: look.at,
                severity: finding.severity,
                text: finding.text.clone(),
                label: finding.label.clone(),
                stage: FindingStage::Suspected,
            };
            if look.has_met(finding) { told(new, finding, look, FindingNews::New) } else { (Some(new), None) }
        }
        (Some(before), None) => ended(before, look),
        (Some(before), Some(finding)) => goes_on(before, finding, look),
    }
}

fn ended(before: FindingState, look: LookTime<'_>) -> (Option<FindingState>, Option<FindingNews>) {
    match before.stage {
        FindingStage::Suspected => (None, None),
        FindingStage::Active(telling) => {
            let stage = FindingStage::Ended(telling);
            (Some(FindingState { stage, ..before }), Some(FindingNews::Ended))
        }
        // Its end was told before, and so was its return.
        FindingStage::Back(telling) => (Some(FindingState { stage: FindingStage::Ended(telling), ..before }), None),
        FindingStage::Ended(telling) if look.at - telling.at >= AGAIN_AFTER => (None, None),
        FindingStage::Ended(_) => (Some(before), None),
    }
}

fn goes_on(
    before: FindingState,
    finding: &SeenFinding,
    look: LookTime<'_>,
) -> (Option<FindingState>, Option<FindingNews>) {
    // It tells neither that the finding goes on nor that it is over.
    if finding.is_carried {
        return (Some(before), None);
    }
    let now = FindingState {
        severity: finding.severity,
        text: finding.text.clone(),
        label: finding.label.clone(),
        ..before.clone()
    };
    let is_confirmed = look.has_met(finding) || look.at >= before.confirmed_from(look.ttl);
    match before.stage {
        FindingStage::Suspected if finding.kind.is_change() && is_confirmed => {
            let stage = FindingStage::Ended(LastTelling { at: look.at, severity: finding.severity });
            (Some(FindingState { stage, ..now }), Some(FindingNews::New))
        }
        FindingStage::Suspected if is_confirmed => told(now, finding, look, FindingNews::New),
        FindingStage::Suspected => (Some(now), None),
        FindingStage::Active(telling) | FindingStage::Back(telling) if is_due(telling, finding, look) => {
            told(now, finding, look, FindingNews::Still)
        }
        FindingStage::Active(_) | FindingStage::Back(_) => (Some(now), None),
        // It flaps: a week of quiet.
        FindingStage::Ended(telling) if !is_due(telling, finding, look) => {
            let stage = if finding.kind.is_change() { before.stage } else { FindingStage::Back(telling) };
            (Some(FindingState { stage, ..now }), None)
        }
        FindingStage::Ended(_) => (Some(FindingState { since: look.at, stage: FindingStage::Suspected, ..now }), None),
    }
}

fn is_due(telling: LastTelling, finding: &SeenFinding, look: LookTime<'_>) -> bool {
    finding.severity > telling.severity || look.at - telling.at >= AGAIN_AFTER
}

fn told(
    now: FindingState,
    finding: &SeenFinding,
    look: LookTime<'_>,
    what: FindingNews,
) -> (Option<FindingState>, Option<FindingNews>) {
    let telling = LastTelling { at: look.at, severity: finding.severity };
    (Some(FindingState { stage: FindingStage::Active(telling), ..now }), Some(what))
}

impl FindingState {
    /// Takes times that are still to come, as a clock that was ahead has left them, for this one.
    pub(crate) fn not_after(&mut self, at: i64) {
        self.since = self.since.min(at);
        match &mut self.stage {
            FindingStage::Suspected => {}
            FindingStage::Active(telling) | FindingStage::Ended(telling) | FindingStage::Back(telling) => {
                telling.at = telling.at.min(at);
            }
        }
    }

    /// The first time at which another look confirms it, for records with this TTL.
    pub(crate) fn confirmed_from(&self, ttl: i64) -> i64 {
        self.since.saturating_add(CONFIRMED_AFTER.max(ttl))
    }

    /// Whether it holds, told or not.
    pub(crate) fn holds(&self) -> bool {
        !matches!(self.stage, FindingStage::Ended(_))
    }

    /// Whether it holds, and was told.
    pub(crate) fn is_active(&self) -> bool {
        matches!(self.stage, FindingStage::Active(_) | FindingStage::Back(_))
    }
}

#[cfg(test)]
mod tests {
    use super::super::kinds::FindingKind;
    use super::*;

    const HOUR: i64 = 60 * 60;

    fn finding(severity: Severity) -> SeenFinding {
        let label = Some("tlsa-mismatch".to_owned());
        SeenFinding { kind: FindingKind::BrokenNow, severity, text: "it fails".to_owned(), label, is_carried: false }
    }

    /// The words that these looks tell: hour and finding.
    fn told(looks: &[(i64, Option<&SeenFinding>)]) -> Vec<(i64, FindingNews)> {
        let (mut state, mut all) = (None, Vec::new());
        for (hour, finding) in looks {
            let look = LookTime { at: hour * HOUR, ttl: 0, met: None };
            let (after, told) = step(state.take(), *finding, look);
            state = after;
            all.extend(told.map(|told| (*hour, told)));
        }
        all
    }

    #[test]
    fn a_second_look_confirms() {
        // W8.
        let warn = finding(Severity::Warn);
        let seen = Some(&warn);
        assert_eq!(told(&[(0, seen), (1, seen)]), [(1, FindingNews::New)]);
        // Broken for half an hour, between two looks, or for one look: nothing.
        assert_eq!(told(&[(0, seen), (1, None), (2, seen), (3, None)]), []);
        assert_eq!(told(&[(0, None), (24, None)]), []);
        let soon = LookTime { at: HOUR - 1, ttl: 0, met: None };
        let first = step(None, seen, LookTime { at: 0, ..soon });
        assert_eq!(step(first.0.clone(), seen, soon).1, None);
        // Within the TTL of the records, the second look would see the same answer.
        let cached = LookTime { at: HOUR, ttl: 2 * HOUR, met: None };
        assert_eq!(step(first.0, seen, cached).1, None);
        // Several deliveries have said so already.
        assert_eq!(step(None, seen, LookTime { at: 0, ttl: 0, met: Some("tlsa-mismatch") }).1, Some(FindingNews::New));
    }

    #[test]
    fn it_is_told_again_after_a_week_and_at_its_end() {
        // W9.
        let (warn, alarm) = (finding(Severity::Warn), finding(Severity::Alarm));
        let mut looks: Vec<_> = (0..20).map(|day| (day * 24, Some(&warn))).collect();
        looks.push((20 * 24, None));
        let expected = [
            (24, FindingNews::New),
            (8 * 24, FindingNews::Still),
            (15 * 24, FindingNews::Still),
            (20 * 24, FindingNews::Ended),
        ];
        assert_eq!(told(&looks), expected);
        // A higher severity is told at once, a lower one is not.
        let rises = [(0, Some(&warn)), (1, Some(&warn)), (2, Some(&alarm)), (3, Some(&warn))];
        assert_eq!(told(&rises), [(1, FindingNews::New), (2, FindingNews::Still)]);
    }

    #[test]
    fn one_that_flaps_is_quiet_for_a_week() {
        let warn = finding(Severity::Warn);
        let flaps: Vec<_> = (0..14 * 24).map(|hour| (hour, (hour % 4 < 2).then_some(&warn))).collect();
        let all = told(&flaps);
        // The end of a finding that was told is told, and not each time that it flaps.
        let week = 7 * 24 + 1;
        assert_eq!(
            all,
            [
                (1, FindingNews::New),
                (2, FindingNews::Ended),
                (week, FindingNews::Still),
                (week + 1, FindingNews::Ended)
            ]
        );
    }

    #[test]
    fn a_change_is_told_once() {
        let change = SeenFinding { kind: FindingKind::MxMoved, ..finding(Severity::Info) };
        let seen = Some(&change);
        assert_eq!(told(&[(0, seen), (24, seen), (48, None), (72, None)]), [(24, FindingNews::New)]);
        // Another one within a week is quiet; later it is told.
        let later = [
            (0, seen),
            (1, seen),
            (2, None),
            (3, seen),
            (4, seen),
            (9 * 24, None),
            (9 * 24 + 1, seen),
            (9 * 24 + 2, seen),
        ];
        assert_eq!(told(&later), [(1, FindingNews::New), (9 * 24 + 2, FindingNews::New)]);
    }
}
