//! The delivery to one destination: a remote is found, takes the envelope and the message, and answers.
//!
//! 1. The [`MxIteration`](crate::upstream::MxIteration) finds a remote that meets its policy.
//! 2. [`envelope`] asks it for MAIL, as it takes it ([`parameters`]), and each RCPT. It tries the next remote as long as the client
//!    has heard no answer to one.
//! 3. [`body`] sends the message and its end.
//!
//! Each attempt leaves exactly one [`Outcome`](crate::report::Outcome): see [`attempt`]. Deliveries go on side by side, and
//! none waits for another one. The [`transaction`](crate::transaction) decides, and knows a destination
//! by its id; the connections are here ([`Upstreams`]).

mod answers;
pub(crate) mod attempt;
pub(crate) mod body;
pub(crate) mod declined;
pub(crate) mod envelope;
pub(crate) mod incoming;
mod parameters;
pub(crate) mod received;
pub mod shared;

use crate::transaction::destination::DestinationId;
use crate::transaction::{Event, Transaction};
use crate::upstream::verified::Ready;
use crate::wire::WireError;
use attempt::Attempt;

/// A remote that has the transaction, and the account of the attempt.
#[derive(Debug)]
pub(crate) struct Upstream {
    ready: Ready,
    pub(crate) attempt: Attempt,
}

impl Upstream {
    /// Leaves the remote without a message. The attempt is reported as it stands.
    pub(crate) fn release(self) {
        self.ready.release();
    }
}

/// The remote that has the transaction of a destination.
#[derive(Debug)]
pub(crate) struct DestinationUpstream {
    pub(crate) destination: DestinationId,
    pub(crate) upstream: Upstream,
}

impl DestinationUpstream {
    /// The client went away before the remote was asked for the message: the end of the attempt.
    pub(crate) fn client_lost(self, gone: &WireError) {
        self.upstream.ready.release();
        self.upstream.attempt.client_lost(gone);
    }
}

/// The remotes that have the open transaction, in the order of their destinations. There are few, and mostly one: a map would
/// take room for ten.
#[derive(Debug, Default)]
pub(crate) struct Upstreams(Vec<DestinationUpstream>);

impl Upstreams {
    /// Takes the remote of a destination that has none.
    pub(crate) fn put(&mut self, open: DestinationUpstream) {
        let place = self.place(open.destination).unwrap_or_else(|place| place);
        self.0.reserve_exact(1);
        self.0.insert(place, open);
    }

    pub(crate) fn get(&self, destination: DestinationId) -> Option<&Upstream> {
        self.place(destination).ok().map(|place| &self.0[place].upstream)
    }

    pub(crate) fn remove(&mut self, destination: DestinationId) -> Option<Upstream> {
        self.place(destination).ok().map(|place| self.0.remove(place).upstream)
    }

    /// The place of a destination, or the one where it belongs.
    fn place(&self, destination: DestinationId) -> Result<usize, usize> {
        self.0.binary_search_by_key(&destination, |open| open.destination)
    }

    /// Those of destinations that have an accepted recipient. The others are left without a message, which the transaction
    /// is to hear.
    pub(crate) fn accepting(&mut self, transaction: &Transaction) -> (Vec<DestinationUpstream>, Vec<Event>) {
        let (accepting, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.0).into_iter().partition(|open| transaction.has_accepted(open.destination));
        let left = others.into_iter().map(|DestinationUpstream { destination, upstream }| {
            upstream.release();
            Event::Left(destination)
        });
        (accepting, left.collect())
    }

    /// Leaves all remotes without a message.
    pub(crate) fn release(&mut self) {
        std::mem::take(&mut self.0).into_iter().for_each(|open| open.upstream.release());
    }
}
