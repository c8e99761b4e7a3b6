//! The negative trust anchors (RFC 7646): each has a reason and a last day, as a rule for cleartext has.

use serde::Deserialize;
use time::Date;

use super::check::Faults;
use super::{Config, Fault, last_day, parsed};
use crate::dns::{NegativeTrustAnchor, NegativeTrustAnchors, never_asked};
use crate::last_day::LastDay;
use crate::name::Name;

/// A zone below which nothing is validated.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NegativeTrustAnchorEntry {
    /// The zone, as in "cluster.local": it and every name below it.
    #[serde(deserialize_with = "parsed")]
    pub zone: Name,
    /// Why. Logged at each start and every day.
    pub reason: String,
    /// The last day, as in "2027-01-31" (UTC). After it names below the zone are validated again, and the log has an error
    /// every day. `danelaw config check` fails.
    #[serde(deserialize_with = "last_day")]
    pub until: Date,
}

impl Config {
    /// The negative trust anchors. One that has ended is among them and holds no longer.
    pub fn negative_trust_anchors(&self) -> NegativeTrustAnchors {
        let anchor = |entry: &NegativeTrustAnchorEntry| NegativeTrustAnchor {
            zone: entry.zone.clone(),
            reason: entry.reason.clone(),
            until: LastDay(entry.until),
        };
        NegativeTrustAnchors(self.negative_trust_anchor.iter().map(anchor).collect())
    }

    pub(super) fn check_negative_trust_anchors(&self, faults: &mut Faults) {
        for (place, entry) in self.negative_trust_anchor.iter().enumerate() {
            let mut own = Faults::default();
            entry.check(&mut own);
            faults.extend(place, own);
        }
    }

    /// Those that have ended before a day. They do not stop a start or a reload.
    pub(super) fn ended_negative_trust_anchors(&self, today: Date) -> impl Iterator<Item = Fault> {
        let ended = self.negative_trust_anchor.iter().enumerate();
        ended.filter(move |(_, entry)| LastDay(entry.until).is_over(today)).map(|(place, entry)| {
            let problem = format!(
                "the negative trust anchor for {} has ended on {}; remove it, or give it a later day and a reason that still \
                 holds",
                entry.zone, entry.until
            );
            Fault { key: "negative_trust_anchor.until", entry: Some(place), problem }
        })
    }
}

impl NegativeTrustAnchorEntry {
    fn check(&self, faults: &mut Faults) {
        let zone = &self.zone;
        if self.reason.trim().is_empty() {
            let problem = format!("the one for {zone} needs a reason, as in reason = \"ticket 4711\"");
            faults.add("negative_trust_anchor.reason", problem);
        }
        if let Some(special) = never_asked(zone) {
            let problem = format!("{special}, so that no resolver is asked about {zone}; remove the entry");
            faults.add("negative_trust_anchor.zone", problem);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::with;

    fn of(entry: &str) -> Result<Config, String> {
        with(&format!("negative_trust_anchor = [{{ {entry} }}]"))
    }

    #[test]
    fn a_negative_trust_anchor_says_why_and_until_when() {
        // A24.
        let right = of("zone = 'Cluster.local.', reason = 'x', until = '2026-06-01'").unwrap();
        assert_eq!(
            right.negative_trust_anchors().0[0].to_string(),
            "negative trust anchor for cluster.local until 2026-06-01: x"
        );
        for (wrong, says) in [
            ("zone = 'a.test', reason = 'x'", "missing field `until`"),
            ("zone = 'a.test', until = '2026-06-01'", "missing field `reason`"),
            ("reason = 'x', until = '2026-06-01'", "missing field `zone`"),
            ("zone = 'a.test', reason = ' ', until = '2026-06-01'", "negative_trust_anchor.reason: the one for a.test"),
            ("zone = 'a.test', reason = 'x', until = 'never'", "is no day"),
            ("zone = 'a.test', reason = 'x', until = ''", "is no day"),
            // Without the signatures of the root there is no DANE at all.
            ("zone = '.', reason = 'x', until = '2026-06-01'", "empty label"),
            ("zone = 'x.onion', reason = 'x', until = '2026-06-01'", "names in .onion are reserved"),
        ] {
            let error = of(wrong).unwrap_err();
            assert!(error.contains(says), "{wrong}: {error}");
        }
    }

    #[test]
    fn one_that_has_ended_is_told_and_stops_nothing() {
        let config = of("zone = 'a.test', reason = 'x', until = '2025-12-31'").unwrap();
        let day = |ordinal| Date::from_ordinal_date(2026, ordinal).unwrap();
        assert_eq!(
            config.ended(day(1))[0].to_string(),
            "negative_trust_anchor.until: the negative trust anchor for a.test has ended on 2025-12-31; remove it, or give \
             it a later day and a reason that still holds"
        );
        let config = of("zone = 'a.test', reason = 'x', until = '2026-01-01'").unwrap();
        assert_eq!((config.ended(day(1)).len(), config.ended(day(2)).len()), (0, 1));
    }
}
