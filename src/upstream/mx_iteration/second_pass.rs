//! The second pass of an iteration: over addresses that were reached once and did not get the mail then, or over all of them at
//! the lower level of a waiver.

use std::time::Duration;

use tokio::time::Instant;

use super::candidate::{Candidate, Sessions};
use super::{Connector, MxIteration, Request, WaiverState};
use crate::dns::{Finality, Resolver};
use crate::name::Name;
use crate::policy::{TlsPolicy, Waiver};
use crate::refusal::{Peer, Reason, Refusal, Refusals};
use crate::requiretls::TagDemand;

/// The time that a second pass has at least. Its hosts have just answered.
const LITTLE: Duration = Duration::from_secs(15);

/// Whether a remote has met the policy itself, or only the weaker level of a waiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PolicyMet {
    /// It has not: enforcing would have passed it over.
    No,
    /// It has.
    Yes,
}

impl<'a, R: Resolver> MxIteration<'a, R> {
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

    /// Starts again, over these addresses alone, each with its policy.
    pub fn second_pass(&mut self, met: PolicyMet, peers: impl Iterator<Item = (Peer, TlsPolicy)>) {
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

    /// The number of addresses of the current exchange and of further exchanges that were not tried yet.
    pub(super) fn others(&self) -> usize {
        let addresses = self.candidate.as_ref().map_or(0, |candidate| candidate.addresses.len());
        addresses + self.untried.len() + self.last.len()
    }

    /// The addresses and exchanges that may have an extension and were not asked, those beyond the configured bounds
    /// included. The iteration forgets the addresses that it never dials.
    pub fn take_unasked(&mut self) -> Refusals {
        let untried = self.resolved.as_ref().map_or(0, |resolved| resolved.route.untried());
        let mut unasked = self.take_not_dialled();
        if self.others() + untried > 0 {
            unasked.push(Refusal::domain(Reason::NotAsked(self.others() + untried)));
        }
        unasked
    }

    /// The reasons for which the current exchange may have addresses that are never dialled. The iteration forgets them.
    pub(super) fn take_not_dialled(&mut self) -> Refusals {
        let mut refusals = Refusals::default();
        if let Some(candidate) = &mut self.candidate {
            for reason in candidate.not_dialled.drain(..) {
                refusals.push(Refusal::host(&candidate.exchange, reason));
            }
        }
        refusals
    }

    /// Whether the remote that was found last is the last one that is asked for a missing extension. In mode `observe` those
    /// at the lower level are asked too.
    pub fn is_last(&self) -> bool {
        self.others() == 0 && self.waiver_for(&self.refusals) != Waiver::Observe
    }

    /// The refusals so far, in order.
    pub fn skipped(&self) -> &Refusals {
        &self.refusals
    }

    /// The refusals so far; the iteration forgets them.
    pub fn take_skipped(&mut self) -> Refusals {
        std::mem::take(&mut self.refusals)
    }

    /// Puts earlier refusals in front of those that the iteration knows.
    pub fn put_back(&mut self, mut before: Refusals) {
        before.extend(self.take_skipped());
        self.refusals = before;
    }

    /// The demand of the mail's tag.
    pub fn demand(&self) -> TagDemand {
        self.request.demand
    }

    /// The domain that it is for.
    pub fn domain(&self) -> &'a Name {
        self.request.domain
    }

    /// Its connector.
    pub fn connector(&self) -> &'a Connector<R> {
        self.connector
    }
}

fn going_on(waiver: Waiver) -> &'static str {
    match waiver {
        Waiver::None => "",
        Waiver::Observe => ", to observe",
        Waiver::TlsRequiredNo => ", for TLS-Required: No",
    }
}
