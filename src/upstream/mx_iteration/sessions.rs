//! A session with the exchange that is tried now: one that waits in the pool, or a new one.

use std::net::IpAddr;

use tokio::time::Instant;

use super::super::Connector;
use super::super::connect::{ConnectOptions, Dialer, Won};
use super::super::failover::NextCandidate;
use super::super::host_session::HostLearning;
use super::super::limits::DomainPermit;
use super::super::reuse::Identity;
use super::super::starttls::SessionOptions;
use super::super::tcp::Tcp;
use super::super::verified::Ready;
use super::candidate::{Candidate, Sessions};
use super::reported::Dialled;
use super::{MxIteration, share_until};
use crate::dns::Resolver;
use crate::refusal::{Peer, Reason, Refusal};

impl<R: Resolver> MxIteration<'_, R> {
    /// A session with the first address of the exchange that gives one.
    pub(super) async fn reach(&mut self, candidate: &mut Candidate, permit: &DomainPermit) -> Option<Ready> {
        match self.waiting(candidate) {
            Some(ready) => Some(self.for_reuse(ready, permit)),
            // On the heap: most transactions do without it.
            None => Box::pin(self.open(candidate, permit)).await,
        }
    }

    /// A new session with one of the addresses of the exchange.
    async fn open(&mut self, candidate: &mut Candidate, permit: &DomainPermit) -> Option<Ready> {
        let Candidate { exchange, addresses, finality, .. } = &*candidate;
        let comes_back = self.connector.comes_back(exchange, addresses, *finality, &self.request);
        if let Some(reason) = comes_back {
            self.refuse(Refusal::host(&candidate.exchange, reason));
            return None;
        }
        let exchange_until = self.until(1 + self.untried.len() + self.last.len());
        while !candidate.addresses.is_empty() {
            if exchange_until <= Instant::now() {
                self.refuse(Refusal::host(&candidate.exchange, Reason::OutOfTime));
                return None;
            }
            let until = share_until(exchange_until, candidate.addresses.len());
            match self.attempt(candidate, permit, until).await {
                Ok(ready) => return Some(ready),
                Err(NextCandidate::Address) => {}
                Err(NextCandidate::Exchange | NextCandidate::Stop) => return None,
            }
        }
        None
    }

    /// A session with the address that answers first. Addresses that fail are recorded.
    async fn attempt(
        &mut self,
        candidate: &mut Candidate,
        permit: &DomainPermit,
        until: Instant,
    ) -> Result<Ready, NextCandidate> {
        let Connector { dialer, timeouts, .. } = self.connector;
        let ehlo = self.connector.ehlo(self.request.hello);
        // The key of the memory is the name of an exchange, and never that of the domain.
        let learning = self.request.address().map_or(self.connector.learning, |_| HostLearning::Off);
        let options = SessionOptions {
            ehlo,
            timeouts,
            until,
            domain: Some(permit),
            nat64: self.nat64,
            learning,
            trace: self.request.trace,
        };
        let identity = candidate.addresses.front().map(|address| self.identity(candidate, *address));
        let identity = identity.filter(|_| candidate.sessions == Sessions::Any && may_be_shared(candidate));
        let connect = ConnectOptions { identity: identity.as_ref(), ..options.connect(candidate.port) };
        let race = dialer.race(&mut candidate.addresses, connect).await;
        let mut next = NextCandidate::Address;
        for (address, reason) in race.failed {
            next = self.refuse(Refusal::peer(&candidate.peer(address), reason).under(&candidate.policy));
        }
        match race.first {
            Some((address, Won::Session(pooled))) => {
                candidate.reused = Some(address);
                Ok(self.for_reuse(pooled.session(), permit))
            }
            Some((address, Won::Connection(tcp))) => {
                let peer = candidate.peer(address);
                self.verify(tcp, &peer, candidate, &options).await
            }
            None => Err(next),
        }
    }

    /// A session over a new connection, if it meets the policy.
    async fn verify(
        &mut self,
        tcp: Tcp,
        peer: &Peer,
        candidate: &Candidate,
        options: &SessionOptions<'_>,
    ) -> Result<Ready, NextCandidate> {
        let sending = self.reporting().is_on().then(|| tcp.local_address()).flatten();
        let dialled = Dialled { peer, policy: &candidate.policy, sending };
        match self.connector.session(tcp, peer, &candidate.policy, options).await {
            Ok(ready) => {
                self.report_session(dialled, Ok(&ready));
                if !may_be_shared(candidate) {
                    // It tells nothing of the proof that other mail asks for.
                    return Ok(ready.heeding(&self.connector.without_bdat));
                }
                self.connector.host_status.forget(peer.endpoint());
                let lease = self.connector.dialer.pool.lease(self.identity(candidate, peer.address));
                Ok(ready.leased(lease).heeding(&self.connector.without_bdat))
            }
            Err(reason) => {
                self.report_session(dialled, Err(&reason));
                Err(self.refuse(Refusal::peer(peer, reason).under(&candidate.policy)))
            }
        }
    }

    /// A session that served another transaction before, for this one.
    fn for_reuse(&self, ready: Ready, permit: &DomainPermit) -> Ready {
        let mut ready = ready.heeding(&self.connector.without_bdat);
        ready.tcp_mut().serve(Some(DomainPermit::clone(permit)));
        let (peer, proven) = (ready.peer(), ready.proven());
        self.request.trace.reused(format_args!("{peer}: took a session that waited; when it was opened: {proven}"));
        ready
    }

    /// A session that waits at one of the addresses.
    fn waiting(&self, candidate: &mut Candidate) -> Option<Ready> {
        let pool = &self.connector.dialer.pool;
        if candidate.sessions == Sessions::New || !may_be_shared(candidate) || pool.waiting() == 0 {
            return None;
        }
        let addresses = candidate.addresses.iter().enumerate();
        let mut found = addresses.map(|(place, &address)| (place, pool.take(&self.identity(candidate, address))));
        let (place, pooled) = found.find_map(|(place, pooled)| Some((place, pooled?)))?;
        candidate.reused = candidate.addresses.remove(place);
        Some(pooled.session())
    }

    fn identity(&self, candidate: &Candidate, address: IpAddr) -> Identity {
        let Dialer { port, source, .. } = self.connector.dialer;
        Identity {
            peer: candidate.peer(address),
            port: candidate.port.unwrap_or(port),
            policy: candidate.policy.clone(),
            ehlo: self.connector.ehlo(self.request.hello).to_owned(),
            source: source.towards(address),
        }
    }
}

/// Whether a session for this mail may serve other mail too, before or after it.
fn may_be_shared(candidate: &Candidate) -> bool {
    !candidate.policy.is_lowered_by_the_mail()
}
