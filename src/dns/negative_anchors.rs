//! Negative trust anchors (RFC 7646): zones below which the operator of this host has validation switched off.
//!
//! A zone with broken signatures, or one of the own network that is signed by no parent, is bogus to a validator, and mail to
//! it waits. Below a negative trust anchor every answer is insecure: it is used, and DANE is not had. Strangers can use
//! that as well as the operator, so each has a reason and a last day. A name is covered by its place alone,
//! whichever zone signs its records.

use std::fmt;

use time::Date;

use super::Alias;
use crate::last_day::LastDay;
use crate::name::Name;

/// One zone below which no answer is validated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NegativeTrustAnchor {
    /// It covers this name and all names below it.
    pub zone: Name,
    /// The reason.
    pub reason: String,
    /// The last day on which it holds.
    pub until: LastDay,
}

/// All of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NegativeTrustAnchors(pub Vec<NegativeTrustAnchor>);

impl NegativeTrustAnchors {
    /// The one that covers a name on a day, if one does. Of several it is the one that holds longest.
    pub fn covering(&self, name: &Name, today: Date) -> Option<&NegativeTrustAnchor> {
        let covers = |anchor: &&NegativeTrustAnchor| name.is_at_or_below(&anchor.zone) && !anchor.until.is_over(today);
        self.0.iter().filter(covers).max_by_key(|anchor| anchor.until.0)
    }

    /// The one that covers a name or the target of one of its aliases, if one does.
    pub fn covering_any(&self, name: &Name, aliases: &[Alias], today: Date) -> Option<&NegativeTrustAnchor> {
        let mut names = std::iter::once(name).chain(aliases.iter().map(|alias| &alias.target));
        names.find_map(|name| self.covering(name, today))
    }
}

/// As in the output of commands: `negative trust anchor for corp.local until 2027-01-31: ticket 4711`.
impl fmt::Display for NegativeTrustAnchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "negative trust anchor for {} until {}: {}", self.zone, self.until, self.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> Date {
        crate::last_day::parsed(text).unwrap()
    }

    #[test]
    fn a_name_is_covered_at_and_below_the_zone_until_the_last_day() {
        let anchor = |zone: &str, until| NegativeTrustAnchor {
            zone: Name::parse(zone).unwrap(),
            reason: "x".to_owned(),
            until: LastDay(until),
        };
        let anchors = NegativeTrustAnchors(vec![
            anchor("cluster.local", day("2027-01-31")),
            anchor("broken.example", day("2027-01-31")),
            anchor("example", day("2027-01-10")),
            anchor("old.test", day("2026-12-31")),
        ]);
        let covering = |name: &str, today| {
            let found = anchors.covering(&Name::parse(name).unwrap(), today);
            found.map(|anchor| anchor.zone.to_string())
        };
        for (name, today, expected) in [
            ("cluster.local", day("2027-01-01"), Some("cluster.local")),
            ("_25._tcp.mx.svc.Cluster.Local.", day("2027-01-31"), Some("cluster.local")),
            ("mx.cluster.local", day("2027-02-01"), None),
            ("local", day("2027-01-01"), None),
            ("mycluster.local", day("2027-01-01"), None),
            ("a.broken.example", day("2027-01-01"), Some("broken.example")),
            ("other.example", day("2027-01-10"), Some("example")),
            ("other.example", day("2027-01-11"), None),
            ("mx.old.test", day("2027-01-01"), None),
        ] {
            assert_eq!(covering(name, today).as_deref(), expected, "{name} {today}");
        }
        assert_eq!(anchors.0[0].to_string(), "negative trust anchor for cluster.local until 2027-01-31: x");
    }
}
