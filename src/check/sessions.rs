//! The sessions of a check: how many, in which order, and which of them count for several domains.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OnceCell, Semaphore};

use super::checker::SessionCheck;
use crate::dane::tlsa::Usage;
use crate::dane::verify::Expectation;
use crate::name::Name;
use crate::policy::TlsPolicy;
use crate::refusal::{HostEndpoint, Peer};

/// The most sessions at a time, for any number of domains.
const MAX_SESSIONS: usize = 64;

/// Addresses to which no connection is made, because a delivery has proven them: exchange and address.
pub(crate) type SparedPeers = HashSet<(Name, IpAddr)>;

/// The order of the sessions of one domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SessionPace {
    /// All at once.
    Together,
    /// One after the other, so that a domain whose hosts are slow holds up no other.
    OneByOne,
}

/// Sessions are not repeated: many domains have the same hosts, and their operators would not like it. A session counts
/// for another domain if it had to meet the same policy ([`is_same`]).
pub(crate) struct SessionChecks {
    most: usize,
    /// The most exchanges whose names lead to one address.
    names: usize,
    pub(super) permits: Semaphore,
    by_address: Mutex<HashMap<IpAddr, HashSet<Name>>>,
    by_peer: Mutex<HashMap<(Name, HostEndpoint), Vec<SharedSession>>>,
}

type SharedSession = (TlsPolicy, Arc<OnceCell<Arc<SessionCheck>>>);

impl Default for SessionChecks {
    fn default() -> Self {
        Self::bounded(MAX_SESSIONS, usize::MAX)
    }
}

impl SessionChecks {
    /// No more than so many at a time, and no more than for so many names with one address: a zone may name the address of a
    /// stranger as often as it likes.
    pub(crate) fn bounded(most: usize, names: usize) -> Self {
        let (by_address, by_peer) = (Mutex::new(HashMap::new()), Mutex::new(HashMap::new()));
        Self { most, names, permits: Semaphore::new(most), by_address, by_peer }
    }

    /// Whether a session with this address may be opened for an exchange.
    pub(super) fn has_room(&self, address: IpAddr, exchange: &Name) -> bool {
        let mut by_address = self.by_address.lock();
        let names = by_address.entry(address).or_default();
        let has_room = names.len() < self.names || names.contains(exchange);
        if has_room {
            names.insert(exchange.clone());
        }
        has_room
    }

    /// How many sessions are open.
    pub(super) fn open(&self) -> usize {
        self.most - self.permits.available_permits()
    }

    /// The one session with this peer under this policy, kept or yet to begin.
    pub(super) fn of(&self, peer: &Peer, policy: &TlsPolicy) -> Arc<OnceCell<Arc<SessionCheck>>> {
        let mut by_peer = self.by_peer.lock();
        let with_peer = by_peer.entry((peer.exchange.clone(), peer.endpoint())).or_default();
        if let Some((_, session)) = with_peer.iter().find(|(asked, _)| is_same(asked, policy)) {
            return Arc::clone(session);
        }
        let session = Arc::default();
        with_peer.push((policy.clone(), Arc::clone(&session)));
        session
    }
}

/// Whether two policies ask the same of a session. Those of two domains differ in their reference identifiers, at which
/// DANE-EE does not look (RFC 7671 §5.1).
fn is_same(one: &TlsPolicy, other: &TlsPolicy) -> bool {
    let by_keys_alone = |one: &Expectation, other: &Expectation| {
        one.usable == other.usable && one.usable.records().iter().all(|record| record.usage() == Usage::EndEntity)
    };
    match (one, other) {
        (TlsPolicy::Dane(one), TlsPolicy::Dane(other)) | (TlsPolicy::HalfDane(one), TlsPolicy::HalfDane(other)) => {
            one == other || by_keys_alone(one, other)
        }
        (one, other) => one == other,
    }
}
