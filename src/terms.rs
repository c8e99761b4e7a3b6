//! The terms of a listener for its mail, and those of one mail.
//!
//! A listener may demand a level, tag its mail, or take mail with the field `TLS-Required: No` alone. Delivery and the forecast of
//! `danelaw check` go by the same terms:
//!
//! | the listener has | level | mode `observe` | a rule's `mta_sts = "ignore"` | lowered by [`Waiver`] |
//! |---|---|---|---|---|
//! | no terms | that of the domain | holds | holds | by the mode |
//! | a level, or a tag and the sender is a mailbox | the stricter of both | does not hold | does not hold | no |
//! | `tls_required_no = "only"` | that of the domain | holds | holds | by the field |

use crate::policy::{Level, ListenerMail, Mode, Waiver};
use crate::requiretls::{Tag, TagDemand};
use crate::rules::{LevelFloor, Rule, StsByRule};

/// The terms of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ListenerTerms {
    /// The least level of its mail.
    pub floor: Option<LevelFloor>,
    /// The tag of all its mail.
    pub tag: Option<Tag>,
    /// The mail that it takes.
    pub takes: ListenerMail,
}

impl ListenerTerms {
    /// The terms of a mail with this demand.
    pub fn of(self, demand: TagDemand) -> MailTerms {
        // A listener with a level of its own promises it, and so does a tag that holds.
        MailTerms { floor: self.floor.max(demand.floor()), demand, takes: self.takes }
    }

    /// The terms of a mail from a mailbox, of which the client demands no more than the listener.
    pub fn of_ordinary_mail(self) -> MailTerms {
        self.of(self.tag.map_or(TagDemand::None, TagDemand::Tagged))
    }
}

/// The terms of one mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MailTerms {
    floor: Option<LevelFloor>,
    /// The demand of its tag.
    pub demand: TagDemand,
    takes: ListenerMail,
}

impl MailTerms {
    /// The least level that it goes at, if its listener or its tag sets one.
    pub fn floor(self) -> Option<LevelFloor> {
        self.floor
    }

    /// The level that holds for it where this is the level of the domain.
    pub fn level(self, of_domain: &Level) -> &Level {
        self.floor.map_or(of_domain, |floor| floor.or_stricter(of_domain))
    }

    /// The mode that holds for it where this one is configured.
    pub fn mode(self, configured: Mode) -> Mode {
        self.floor.map_or(configured, |_| Mode::Enforce)
    }

    /// Whether the MTA-STS policy of a domain with this rule counts: a rule lowers no promise.
    pub fn sts(self, rule: Option<&Rule>) -> StsByRule {
        self.floor.map_or_else(|| StsByRule::of(rule), |_| StsByRule::Heeded)
    }

    /// The ground on which it goes on where its level refuses it.
    pub fn waiver(self, level: &Level, configured: Mode) -> Waiver {
        Waiver::of(self.takes, level, self.mode(configured))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::InsecureMx;

    #[test]
    fn the_terms_of_mail_by_a_listener() {
        // B15, Q2, Q4, Q6.
        let dane = Level::Dane(InsecureMx::Dane);
        let rule = Rule {
            domains: "example.com".parse().unwrap(),
            level: dane.clone(),
            next_hop: None,
            sts: StsByRule::Ignored,
            reason: None,
            until: None,
        };
        let none = ListenerTerms::default();
        let verify = ListenerTerms { floor: Some(LevelFloor::Verify), ..none };
        let tagged = ListenerTerms { tag: Some(Tag::WhereOffered), ..none };
        let both = ListenerTerms { floor: Some(LevelFloor::DaneOnly), ..tagged };
        let only = ListenerTerms { takes: ListenerMail::TlsRequiredNo, ..none };
        for (terms, level, mode, sts, waiver) in [
            (none.of_ordinary_mail(), "dane", Mode::Observe, StsByRule::Ignored, Waiver::Observe),
            (verify.of_ordinary_mail(), "verify", Mode::Enforce, StsByRule::Heeded, Waiver::None),
            (tagged.of_ordinary_mail(), "secure", Mode::Enforce, StsByRule::Heeded, Waiver::None),
            (both.of_ordinary_mail(), "dane-only", Mode::Enforce, StsByRule::Heeded, Waiver::None),
            (only.of_ordinary_mail(), "dane", Mode::Observe, StsByRule::Ignored, Waiver::TlsRequiredNo),
            // A report of a failure, and mail of which the client demands more.
            (tagged.of(TagDemand::Wish), "dane", Mode::Observe, StsByRule::Ignored, Waiver::Observe),
            (verify.of(TagDemand::Wish), "verify", Mode::Enforce, StsByRule::Heeded, Waiver::None),
            (verify.of(TagDemand::Tagged(Tag::Always)), "secure", Mode::Enforce, StsByRule::Heeded, Waiver::None),
        ] {
            let level_held = terms.level(&dane);
            assert_eq!(level_held.to_string(), level, "{terms:?}");
            assert_eq!((terms.mode(Mode::Observe), terms.sts(Some(&rule))), (mode, sts), "{terms:?}");
            assert_eq!(terms.waiver(level_held, Mode::Observe), waiver, "{terms:?}");
            assert_eq!((terms.mode(Mode::Enforce), terms.sts(None)), (Mode::Enforce, StsByRule::Heeded), "{terms:?}");
        }
    }
}
