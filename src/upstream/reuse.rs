//! The reuse of verified sessions: how they wait in the [`pool`](super::pool).
//!
//! Each transaction looks up the remote and the policy in the DNS as it is now, before it looks for a session here. So a
//! new TLSA record, another policy or another MX record is seen at once, and a session that was verified by the old ones
//! serves no mail any more (RFC 6698 §8.2, RFC 7672 §2.2; L14, A-106). Sessions that wait keep their permits, because
//! they are connections, and hold no memory for mail.

use std::net::IpAddr;

use tokio::task::JoinHandle;

use super::pool::{Idle, Lease, Pooled};
use super::tcp::Source;
use super::verified::{Ready, SessionOwner};
use crate::policy::TlsPolicy;
use crate::refusal::Peer;

/// The identity of a session for a transaction: all of it must be equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The exchange, its address, and the port that a rule may name.
    pub peer: Peer,
    /// The port that was dialled.
    pub port: u16,
    /// The policy that the session has met: the level's demand as the DNS fills it in, with the security of the MX records,
    /// the TLSA base domain (which is the SNI), the set of TLSA records and the reference identifiers.
    pub policy: TlsPolicy,
    /// The name that was given in EHLO.
    pub ehlo: String,
    /// The address to connect from, if one is set.
    pub source: Option<IpAddr>,
}

impl Identity {
    /// The same at another address, where connections to it come from its source.
    pub(super) fn at(&self, address: IpAddr, source: Source) -> Self {
        let peer = Peer { address, ..self.peer.clone() };
        Self { peer, source: source.towards(address), ..self.clone() }
    }
}

impl Idle for Ready {
    type Identity = Identity;

    fn address(identity: &Identity) -> IpAddr {
        identity.peer.address
    }

    fn is_quiet(&mut self) -> bool {
        Self::is_quiet(self)
    }

    fn has_more(&self, most: u64) -> bool {
        Self::has_more(self, most)
    }

    fn end(self) -> JoinHandle<()> {
        self.quit()
    }
}

impl SessionOwner for Lease<Ready> {
    fn take_back(self: Box<Self>, session: Ready) {
        Pooled { connection: session, lease: *self }.give_back();
    }
}

impl Ready {
    /// The same session, which waits in the pool of this lease after its transaction.
    pub(super) fn leased(self, lease: Option<Lease<Self>>) -> Self {
        self.owned_by(lease.map(|lease| Box::new(lease) as Box<dyn SessionOwner>))
    }
}

impl Pooled<Ready> {
    /// The session, for its next transaction.
    pub(super) fn session(self) -> Ready {
        self.connection.leased(Some(self.lease))
    }
}
