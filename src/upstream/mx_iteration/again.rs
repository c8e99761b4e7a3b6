//! The ways in which an iteration goes on once no remote is left: a second lap along addresses that were reached and did not get the
//! mail then, or all exchanges anew at the lower level of a waiver.

use std::time::Duration;

use tokio::time::Instant;

use super::candidate::{Candidate, Sessions};
use super::{MxIteration, Request, WaiverState};
use crate::dns::{Finality, Resolver};
use crate::policy::{TlsPolicy, Waiver};
use crate::refusal::{Peer, Refusals};

/// The time that a second lap has at least. Its hosts have just answered.
const LITTLE: Duration = Duration::from_secs(15);

/// Whether a remote has met the policy itself, or only the weaker level of a waiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PolicyMet {
    /// It has not: enforcing would have passed it over.
    No,
    /// It has.
    Yes,
}

impl<R: Resolver> MxIteration<'_, R> {
    /// Whether the remote that was found last has met the policy.
    pub fn policy_met(&self) -> PolicyMet {
        match self.waiver_state {
            WaiverState::Used(_) => PolicyMet::No,
            WaiverState::None | WaiverState::Open(_) => PolicyMet::Yes,
        }
    }

    /// The waiver that the iteration has from the beginning.
    pub fn waiver(&self) -> Waiver {
        self.waiver
    }

    /// The ground on which mail that was refused for these reasons may go on at a lower level.
    pub fn waiver_for(&self, refusals: &Refusals) -> Waiver {
        match self.waiver_state {
            WaiverState::Open(_) if refusals.iter().any(|refusal| refusal.reason.may_be_waived()) => self.waiver,
            WaiverState::None | WaiverState::Open(_) | WaiverState::Used(_) => Waiver::None,
        }
    }

    /// Starts again, over all exchanges at the lower level of the waiver, for these refusals at the level of the request.
    pub fn waive(&mut self, refusals: Refusals) {
        let (WaiverState::Open(until), Some(level)) = (&self.waiver_state, self.waiver.instead_of(self.level)) else {
            return;
        };
        let (answer, going_on) = (refusals.verdict(), going_on(self.waiver));
        self.request.trace.fact(format_args!("enforcing would have answered {answer}; going on{going_on}"));
        self.request = Request { until: *until, level, ..self.request };
        self.waiver_state = WaiverState::Used(refusals);
        self.all_untried();
    }

    /// Starts the second lap, along these addresses alone, each with its policy.
    pub fn second_lap(&mut self, met: PolicyMet, peers: impl Iterator<Item = (Peer, TlsPolicy)>) {
        match (met, &self.waiver_state) {
            (PolicyMet::Yes, WaiverState::Used(_)) => {
                (self.request.level, self.waiver_state) = (self.level, WaiverState::None);
            }
            (PolicyMet::Yes | PolicyMet::No, _) => {}
        }
        self.request.until = self.request.until.max(Instant::now() + LITTLE);
        (self.candidate, self.reused) = (None, None);
        self.untried.clear();
        let candidate = |(Peer { exchange, address, port }, policy)| Candidate {
            exchange,
            port,
            addresses: [address].into(),
            // It has answered, and so is no address of this host.
            finality: Finality::Final,
            policy,
            sessions: Sessions::Any,
            not_dialled: Vec::new(),
        };
        self.last = peers.map(candidate).collect();
    }
}

fn going_on(waiver: Waiver) -> &'static str {
    match waiver {
        Waiver::None => "",
        Waiver::Observe => ", to observe",
        Waiver::TlsRequiredNo => ", for TLS-Required: No",
    }
}
