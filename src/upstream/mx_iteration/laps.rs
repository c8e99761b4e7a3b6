//! The laps of an iteration. The first one is for a remote that takes all that the mail may hold. Once no remote is left, there is
//! a second lap along the remotes that take less ([`super::lesser`]), or another first one at the lower level of a waiver.
//!
//! | the host with the extension | the host without | mail | goes |
//! |---|---|---|---|
//! | has met its policy | any | any | to the first |
//! | fails in TLS | has met its policy | enforced, or `TLS-Required: No` | to the second, if it needs no more |
//! | fails in TLS | has met its policy | `TLS-Required: No`, and an earlier try has shown that it needs more | to the first |
//! | fails in TLS | has met its policy | in mode `observe` | to the first |
//! | fails in TLS | fails in TLS | enforced | nowhere for now |
//! | fails in TLS | fails in TLS | in mode `observe`, or `TLS-Required: No` | to the first |

use std::time::Duration;

use tokio::time::Instant;

use super::candidate::{Candidate, Sessions};
use super::lesser::{LesserRank, PolicyMet};
use super::{MxIteration, Request, WaiverState};
use crate::dns::{Finality, Resolver};
use crate::policy::Waiver;
use crate::refusal::{Reason, Refusal, Refusals};
use crate::smtp::extensions::Content;

/// The time that a second lap has at least. Its hosts have just answered.
const LITTLE: Duration = Duration::from_secs(15);

/// A lap, with the refusals of the one before.
#[derive(Debug, Default)]
pub(super) enum Lap {
    /// For all that the mail may hold.
    #[default]
    First,
    /// For less, along the remotes of this rank.
    Second {
        rank: LesserRank,
        /// The refusals of the first lap.
        first: Refusals,
    },
}

/// The rest of an iteration once no remote is left in a lap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AfterLap {
    /// The second lap, along the remotes of this rank.
    SecondLap(LesserRank),
    /// The lower level of the waiver.
    Waive,
    /// None.
    End,
}

impl AfterLap {
    /// The rule. `waiver` is the ground on which the refused mail may go at a lower level, `best` the highest rank of the remotes
    /// that a second lap may go along, and `shown` the content that an earlier try of the mail has shown.
    fn of(waiver: Waiver, best: Option<LesserRank>, shown: Content) -> Self {
        match (waiver, best) {
            // The mode refuses no mail that an ordinary server delivers, so the mail first looks for a host with the extension.
            (Waiver::Observe, _) => Self::Waive,
            // The mail has come before, and these could not take it. Only for want of TLS or a proof it does not go to another.
            (Waiver::TlsRequiredNo, Some(best)) if best.of_shown < shown => Self::Waive,
            // RFC 8689 §4.1 waives a failure of TLS, and a missing extension is none: hosts that have met their policy come
            // first, as for any other mail.
            (Waiver::None | Waiver::TlsRequiredNo, Some(best)) => Self::SecondLap(best),
            (Waiver::TlsRequiredNo, None) => Self::Waive,
            (Waiver::None, None) => Self::End,
        }
    }
}

impl<R: Resolver> MxIteration<'_, R> {
    /// The rest of the iteration if a lap ends with these refusals.
    pub(super) fn after_lap(&self, refusals: &Refusals) -> AfterLap {
        let best = match self.lap {
            Lap::First => self.lesser.iter().map(|lesser| lesser.rank(self.content.shown)).max(),
            Lap::Second { .. } => None,
        };
        AfterLap::of(self.waiver_for(refusals), best, self.content.shown)
    }

    /// The ground on which mail that was refused for these reasons may go on at a lower level.
    fn waiver_for(&self, refusals: &Refusals) -> Waiver {
        match self.waiver_state {
            WaiverState::Open(_) if refusals.iter().any(|refusal| refusal.reason.may_be_waived()) => self.waiver,
            WaiverState::None | WaiverState::Open(_) | WaiverState::Used(_) => Waiver::None,
        }
    }

    /// Starts again, over all exchanges at the lower level of the waiver, for these refusals at the level of the request.
    pub(super) fn waive(&mut self, refusals: Refusals) {
        let (WaiverState::Open(until), Some(level)) = (&self.waiver_state, self.waiver.instead_of(self.level)) else {
            return;
        };
        let (answer, going_on) = (refusals.verdict(), going_on(self.waiver));
        self.request.trace.fact(format_args!("enforcing would have answered {answer}; going on{going_on}"));
        self.request = Request { until: *until, level, ..self.request };
        self.waiver_state = WaiverState::Used(refusals);
        if let Lap::Second { .. } = std::mem::take(&mut self.lap) {
            // These were asked again.
            self.lesser.clear();
        }
        self.all_untried();
    }

    /// Starts the second lap, along the remotes of this rank alone, each with its policy, after a first lap with these refusals.
    pub(super) fn second_lap(&mut self, rank: LesserRank, first: Refusals) {
        match (rank.met, &self.waiver_state) {
            (PolicyMet::Yes, WaiverState::Used(_)) => {
                (self.request.level, self.waiver_state) = (self.level, WaiverState::None);
            }
            (PolicyMet::Yes | PolicyMet::No, _) => {}
        }
        self.request.until = self.request.until.max(Instant::now() + LITTLE);
        self.candidate = None;
        self.untried.clear();
        let these = self.lesser.iter().filter(|lesser| lesser.rank(self.content.shown) == rank);
        let candidate = these.map(|lesser| Candidate {
            exchange: lesser.peer.exchange.clone(),
            port: lesser.peer.port,
            addresses: [lesser.peer.address].into(),
            // It has answered, and so is no address of this host.
            finality: Finality::Final,
            policy: lesser.policy.clone(),
            sessions: Sessions::Any,
            reused: None,
            unknown: None,
            beyond: 0,
        });
        self.last = candidate.collect();
        self.lap = Lap::Second { rank, first };
    }

    /// All that is known once a lap has ended with these refusals. A second lap has the last word on its own addresses. Others
    /// that take less were not asked again, and would have taken the mail if it needs no more.
    pub(super) fn of_both_laps(&mut self, refusals: Refusals) -> Refusals {
        let Lap::Second { rank, first } = &mut self.lap else { return refusals };
        let mut first = std::mem::take(first);
        let these = self.lesser.iter().filter(|lesser| lesser.rank(self.content.shown) == *rank);
        let asked: Vec<_> = these.map(|lesser| &lesser.peer).collect();
        let others: Vec<_> =
            self.lesser.iter().map(|lesser| &lesser.peer).filter(|peer| !asked.contains(peer)).collect();
        others.iter().for_each(|peer| first.forget_lacking(peer));
        asked.iter().for_each(|peer| first.forget(peer));
        if !others.is_empty() {
            first.push(Refusal::domain(Reason::NotAsked(others.len())));
        }
        first.followed_by(refusals)
    }
}

fn going_on(waiver: Waiver) -> &'static str {
    match waiver {
        Waiver::None => "",
        Waiver::Observe => ", to observe",
        Waiver::TlsRequiredNo => ", for TLS-Required: No",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_after_a_lap() {
        use Content::{Ascii, EightBit, International};
        let rank = |takes: Content, shown| LesserRank { of_shown: takes.min(shown), met: PolicyMet::Yes, takes };
        for (waiver, takes, shown, then) in [
            (Waiver::None, None, Ascii, "end"),
            (Waiver::None, Some(Ascii), Ascii, "second lap"),
            // Without a waiver the content that was shown is of no matter.
            (Waiver::None, Some(Ascii), EightBit, "second lap"),
            (Waiver::Observe, None, Ascii, "waive"),
            (Waiver::Observe, Some(EightBit), Ascii, "waive"),
            (Waiver::TlsRequiredNo, None, Ascii, "waive"),
            (Waiver::TlsRequiredNo, None, EightBit, "waive"),
            (Waiver::TlsRequiredNo, Some(Ascii), Ascii, "second lap"),
            (Waiver::TlsRequiredNo, Some(Ascii), EightBit, "waive"),
            (Waiver::TlsRequiredNo, Some(EightBit), EightBit, "second lap"),
            (Waiver::TlsRequiredNo, Some(EightBit), International, "waive"),
        ] {
            let best = takes.map(|takes| rank(takes, shown));
            let found = match AfterLap::of(waiver, best, shown) {
                AfterLap::SecondLap(along) => {
                    assert_eq!(Some(along), best);
                    "second lap"
                }
                AfterLap::Waive => "waive",
                AfterLap::End => "end",
            };
            assert_eq!(found, then, "{waiver:?} {takes:?} {shown:?}");
        }
    }
}
