//! The exchanges and addresses that an iteration has not tried.

use super::MxIteration;
use crate::dns::Resolver;
use crate::refusal::{Reason, Refusal, Refusals};

impl<R: Resolver> MxIteration<'_, R> {
    /// The number of addresses of the current exchange and of further exchanges that were not tried yet.
    pub(super) fn others(&self) -> usize {
        let addresses = self.candidate.as_ref().map_or(0, |candidate| candidate.addresses.len());
        addresses + self.untried.len() + self.last.len()
    }

    /// The addresses and exchanges that may have an extension and were not asked, those beyond the configured bounds
    /// included. The iteration forgets the addresses that it never dials.
    pub(super) fn take_unasked(&mut self) -> Refusals {
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
}
