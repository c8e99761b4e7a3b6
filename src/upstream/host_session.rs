//! Sessions under the policies `encrypt` and `may`, noted for the memory of hosts.

use super::Connector;
use super::starttls::SessionOptions;
use super::verified::{Channel, Ready};
use crate::dane::facts;
use crate::policy::TlsPolicy;
use crate::policy::host_session::{HostSession, LeafNote, SessionWord};
use crate::refusal::{Peer, Reason};
use crate::reserved::Dialable;
use crate::tls::Chain;
use crate::trace::Trace;

/// Whether sessions are noted for the memory of hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostLearning {
    /// Those of mail to exchanges are.
    On,
    /// Those of a check, and those with a next hop that is an address, are not.
    Off,
}

/// One dialled host, and where its session is noted.
#[derive(Debug, Clone, Copy)]
pub struct HostNote<'a> {
    /// The exchange and its address.
    pub peer: &'a Peer,
    /// The port that was dialled.
    pub port: u16,
    /// The policy of the session.
    pub policy: &'a TlsPolicy,
    /// The digest of the authorities.
    pub roots: u64,
    /// Whether it is noted.
    pub learning: HostLearning,
    /// The account of the attempt.
    pub trace: &'a Trace,
}

impl<R> Connector<R> {
    pub(super) fn host_note<'a>(
        &self,
        peer: &'a Peer,
        policy: &'a TlsPolicy,
        options: &SessionOptions<'a>,
    ) -> HostNote<'a> {
        let (port, roots) = (peer.port.unwrap_or(self.dialer.port), self.tls.roots().digest());
        HostNote { peer, port, policy, roots, learning: options.learning, trace: options.trace }
    }
}

impl HostNote<'_> {
    /// Notes the end of a handshake with the certificates that were shown. One that has failed may be our own fault, and is not
    /// noted.
    pub fn note(&self, secured: &Result<Ready, Reason>, shown: &Chain) {
        match secured {
            Ok(ready) => {
                let channel: &Channel = &ready.terms().channel;
                let worth = channel.protection().and_then(|protection| Some(protection.unverified()?.1));
                let word = worth.and_then(|worth| SessionWord::under_tls(self.policy, worth));
                self.keep(word, shown);
            }
            // The session of the policy `may` goes on.
            Err(Reason::StartTlsMissing) if !matches!(self.policy, TlsPolicy::May(..)) => {
                self.keep(SessionWord::without_starttls(self.policy), shown);
            }
            Err(_) => {}
        }
    }

    /// Notes that a session goes on in cleartext, for this reason.
    pub fn note_cleartext(&self, why: &Reason) {
        if matches!(why, Reason::StartTlsMissing | Reason::StartTlsRefused(_)) {
            self.keep(SessionWord::without_starttls(self.policy), &Chain::default());
        }
    }

    fn keep(&self, word: Option<SessionWord>, shown: &Chain) {
        // No public CA vouches for a host that the operator has allowed in his own network.
        let is_public = Dialable::default().allows(self.peer.address);
        let Some(word) = word.filter(|_| is_public && self.learning == HostLearning::On) else { return };
        let leaf = shown.first().and_then(|der| facts::read(der));
        self.trace.host_session(HostSession {
            host: self.peer.exchange.clone(),
            port: self.port,
            word,
            leaf: leaf.map(|leaf| LeafNote { issuer: leaf.issuer, ends: leaf.not_after }),
            roots: self.roots,
        });
    }
}
