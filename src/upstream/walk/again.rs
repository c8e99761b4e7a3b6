//! A second lap: along addresses that were reached once and did not get the mail then.

use std::time::Duration;

use tokio::time::Instant;

use super::{Approach, Connector, Observing, Sessions, Walk, is_waived};
use crate::dns::Resolver;
use crate::name::Name;
use crate::policy::TlsPolicy;
use crate::refusal::{Peer, Reason, Refusal, Refusals};

/// The time that a second lap has at least. The hosts of it have just answered.
const LITTLE: Duration = Duration::from_secs(15);

/// Whether a remote has met the policy itself, or only the weaker level of mode `observe`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Held {
    /// The policy would have led past it, and the mode is `observe`.
    No,
    /// It has met the policy.
    Yes,
}

impl<'a, R: Resolver> Walk<'a, R> {
    /// Whether the remote that was found last has met the policy.
    pub fn held(&self) -> Held {
        match self.observing {
            Observing::Would(_) => Held::No,
            Observing::No | Observing::Until(_) => Held::Yes,
        }
    }

    /// Sets out once more for these addresses alone, each held to its policy.
    pub fn again(&mut self, held: Held, peers: impl Iterator<Item = (Peer, TlsPolicy)>) {
        if held == Held::Yes {
            (self.request.level, self.observing) = (self.level, Observing::No);
        }
        self.request.until = self.request.until.max(Instant::now() + LITTLE);
        (self.approach, self.waited) = (None, None);
        self.untried.clear();
        let approach = |(Peer { exchange, address }, policy)| Approach {
            exchange,
            addresses: [address].into(),
            policy,
            sessions: Sessions::Any,
            beyond: Vec::new(),
        };
        self.last = peers.map(approach).collect();
    }

    /// The number of addresses of the current exchange and of further exchanges that were not tried yet.
    pub(super) fn others(&self) -> usize {
        let addresses = self.approach.as_ref().map_or(0, |approach| approach.addresses.len());
        addresses + self.untried.len() + self.last.len()
    }

    /// The addresses and exchanges that may have an extension and were not asked, those beyond the configured bounds included.
    /// The walk forgets the addresses that it never dials.
    pub fn take_unasked(&mut self) -> Refusals {
        let untried = self.under_way.as_ref().map_or(0, |under_way| under_way.route.untried());
        let mut unasked = self.take_beyond();
        if self.others() + untried > 0 {
            unasked.push(Refusal::domain(Reason::NotAsked(self.others() + untried)));
        }
        unasked
    }

    /// The reasons for which the current exchange may have addresses that are never dialled. The walk forgets them.
    pub(super) fn take_beyond(&mut self) -> Refusals {
        let mut beyond = Refusals::default();
        if let Some(approach) = &mut self.approach {
            for reason in approach.beyond.drain(..) {
                beyond.push(Refusal::host(&approach.exchange, reason));
            }
        }
        beyond
    }

    /// Whether the remote that was found last is the last one to ask.
    pub fn is_last(&self) -> bool {
        let goes_on = matches!(self.observing, Observing::Until(_)) && self.refusals.iter().any(is_waived);
        self.others() == 0 && !goes_on
    }

    /// The refusals so far, in order.
    pub fn skipped(&self) -> &Refusals {
        &self.refusals
    }

    /// The refusals so far; the walk forgets them.
    pub fn take_skipped(&mut self) -> Refusals {
        std::mem::take(&mut self.refusals)
    }

    /// Puts earlier refusals in front of those that the walk knows.
    pub fn put_back(&mut self, mut before: Refusals) {
        before.extend(self.take_skipped());
        self.refusals = before;
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
