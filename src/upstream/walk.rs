//! The walk along a domain's exchanges, one address after the other, until one takes the mail (RFC 5321 §5.1).
//!
//! [`Walk::next`] gives the next remote that has met its policy. If that one does not take the transaction, and nothing
//! was relayed to the client yet, [`Walk::turned_away`] says whether there is another one to ask. What a failure means is
//! decided in [`super::next`]; here it is carried out.
//!
//! In mode `observe` a walk that would end in a refusal for want of TLS or of a proof begins again, as an ordinary
//! opportunistic server would have gone it (RFC 7435 §3).

mod again;

use std::collections::VecDeque;
use std::net::IpAddr;

use tokio::time::Instant;

use super::caps::DomainPermit;
use super::dialer::{Dialer, Errand, Won};
use super::failed::Now;
use super::next::{Next, after};
use super::open::Dial;
use super::order::share;
use super::pool::Identity;
use super::ready::Ready;
use super::tcp::is_of_this_host;
use super::{Connector, Plan, Request};
use crate::dns::Resolver;
use crate::mx::{NoRoute, Route};
use crate::name::Name;
use crate::policy::{Level, Mode, Permit, TlsPolicy};
use crate::refusal::{Peer, Place, Reason, Refusal, Refusals};
use crate::smtp::reply::{Class, Code};

pub use again::Held;

/// One transaction's search for a remote.
#[derive(Debug)]
pub struct Walk<'a, R> {
    connector: &'a Connector<R>,
    request: Request<'a>,
    /// The level that the request asked for, before any change by mode `observe`.
    level: &'a Level,
    under_way: Option<UnderWay>,
    /// Exchanges that have not had their turn, in order.
    untried: VecDeque<Name>,
    /// Those of them whose every address has failed a moment ago: behind all others, in order.
    last: VecDeque<Approach>,
    /// The exchange whose turn it is.
    approach: Option<Approach>,
    /// The remote that was found last, if it had waited for this mail.
    waited: Option<IpAddr>,
    refusals: Refusals,
    /// How it may go on at the level `may`.
    observing: Observing,
}

/// What the mode makes of a walk.
#[derive(Debug)]
enum Observing {
    /// The policy is held to.
    No,
    /// It is, and if that ends in a refusal there is until then for another way.
    Until(Instant),
    /// Enforcing would have refused the mail for these.
    Would(Refusals),
}

/// What observing asks for where enforcing has ended.
static OBSERVED: Level = Level::May(Permit::Observe);

/// What a walk has once it has set out.
#[derive(Debug)]
struct UnderWay {
    route: Route,
    permit: DomainPermit,
}

/// One exchange: where it is, and what a session with it must prove.
#[derive(Debug)]
struct Approach {
    exchange: Name,
    /// Those that were not tried yet, in order.
    addresses: VecDeque<IpAddr>,
    policy: TlsPolicy,
    sessions: Sessions,
    /// The reasons for which it may have addresses that are never dialled, until they are told.
    beyond: Vec<Reason>,
}

/// Which sessions do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sessions {
    /// One that waits, or a new one.
    Any,
    /// A new one.
    New,
}

impl Approach {
    fn peer(&self, address: IpAddr) -> Peer {
        Peer { exchange: self.exchange.clone(), address }
    }
}

impl<'a, R: Resolver> Walk<'a, R> {
    pub(super) fn new(connector: &'a Connector<R>, mut request: Request<'a>) -> Self {
        let observing = match connector.mode {
            Mode::Enforce => Observing::No,
            Mode::Observe => {
                let until = request.until;
                // Half of the time, so that a server which stalls in its handshake leaves some for the second way.
                request.until = share_until(until, 2);
                Observing::Until(until)
            }
        };
        Self {
            connector,
            level: request.level,
            request,
            under_way: None,
            untried: VecDeque::new(),
            last: VecDeque::new(),
            approach: None,
            waited: None,
            refusals: Refusals::default(),
            observing,
        }
    }

    /// The next remote that has met its policy.
    ///
    /// # Errors
    /// All that was tried, if nothing is left to try (RFC 7672 §2.1.2: defer, unless the DNS says it is final).
    pub async fn next(&mut self) -> Result<Ready, Refusals> {
        match (self.search().await, &self.observing) {
            (Err(refusals), Observing::Until(until)) if refusals.iter().any(is_waived) => {
                let told = refusals.verdict();
                self.request.trace.fact(format_args!("enforcing would have answered {told}; going on, to observe"));
                self.request = Request { until: *until, level: &OBSERVED, ..self.request };
                self.observing = Observing::Would(refusals);
                let route = self.under_way.as_ref().map(|under_way| &under_way.route);
                self.untried = route.into_iter().flat_map(Route::exchanges).cloned().collect();
                self.search().await
            }
            (found, _) => found,
        }
    }

    /// What enforcing would have refused the mail for, if the mode is `observe` and it would have.
    pub fn would(&self) -> Option<&Refusals> {
        match &self.observing {
            Observing::Would(refusals) => Some(refusals),
            Observing::No | Observing::Until(_) => None,
        }
    }

    async fn search(&mut self) -> Result<Ready, Refusals> {
        let UnderWay { route, permit } = match self.under_way.take() {
            Some(under_way) => under_way,
            None => self.set_out().await?,
        };
        let found = self.found(&route, &permit).await;
        if found.is_none() && route.untried() > 0 {
            self.refusals.push(Refusal::domain(Reason::NotTried(route.untried())));
        }
        self.under_way = Some(UnderWay { route, permit });
        found.ok_or_else(|| std::mem::take(&mut self.refusals))
    }

    /// The remote that was found last does not take the transaction, for this reason, and nothing was relayed to the
    /// client yet.
    ///
    /// # Errors
    /// The reason itself, where it decides: whoever is asked next would be asked the same.
    pub fn turned_away(&mut self, peer: &Peer, reason: Reason) -> Result<(), Reason> {
        match (after(&reason, &self.connector.timeouts).next, self.waited.take()) {
            // RFC 5321 §3.8: a session that waited may end at any moment, and one that had mails before this one may have
            // had enough of them. That says nothing of the host, which is asked again.
            (next, Some(address)) if may_be_of_the_session(next, &reason) => {
                if let Some(approach) = &mut self.approach {
                    approach.addresses.push_front(address);
                    approach.sessions = Sessions::New;
                }
                return Ok(());
            }
            (Next::Nobody, _) => return Err(reason),
            (Next::Exchange, _) => self.approach = None,
            (Next::Address, _) => {}
        }
        if let Reason::Lacking(_) = reason {
            let beyond = self.take_beyond();
            self.refusals.extend(beyond);
        }
        self.refusals.push(Refusal::peer(peer, reason));
        Ok(())
    }

    /// When the remote that was found last should have answered MAIL and the first recipient: with others left to ask,
    /// it may not use up their time (K7).
    pub fn answer_by(&self) -> Instant {
        self.until(if self.waited.is_some() || self.others() > 0 { 2 } else { 1 })
    }

    async fn set_out(&mut self) -> Result<UnderWay, Refusal> {
        let permit = self.connector.dialer.caps.domain(self.request.domain).await.map_err(Refusal::domain)?;
        let route = self.connector.route(&self.request).await?;
        self.untried = route.exchanges().iter().cloned().collect();
        Ok(UnderWay { route, permit })
    }

    async fn found(&mut self, route: &Route, permit: &DomainPermit) -> Option<Ready> {
        while let Some(mut approach) = self.approach(route).await {
            let found = self.reach(&mut approach, permit).await;
            if found.is_some() {
                self.approach = Some(approach);
                return found;
            }
        }
        None
    }

    /// The exchange whose turn it is, with at least one address that was not tried.
    async fn approach(&mut self, route: &Route) -> Option<Approach> {
        if let Some(approach) = self.approach.take().filter(|approach| !approach.addresses.is_empty()) {
            return Some(approach);
        }
        while let Some(exchange) = self.untried.pop_front() {
            let until = self.until(1 + self.untried.len() + self.last.len());
            if until <= Instant::now() {
                self.untried.clear();
                self.last.clear();
                self.refuse(Refusal::host(&exchange, Reason::OutOfTime));
                return None;
            }
            let plan = self.connector.plan(route, &exchange, &self.request);
            match tokio::time::timeout_at(until, plan).await {
                Ok(Ok(plan)) => {
                    if let Some(approach) = self.by_standing(exchange, plan) {
                        return Some(approach);
                    }
                }
                Ok(Err(reason)) => drop(self.refuse(Refusal::host(&exchange, reason))),
                Err(_) => drop(self.refuse(Refusal::host(&exchange, Reason::OutOfTime))),
            }
        }
        self.last.pop_front()
    }

    /// Puts the addresses that failed a moment ago behind the others (RFC 5321 §4.5.4.1), and the exchange behind the others if there are no
    /// others. An address that let somebody wait in vain a moment ago is not tried again: in a storm of retries each mail
    /// would wait for it.
    fn by_standing(&mut self, exchange: Name, Plan { addresses, policy, beyond }: Plan) -> Option<Approach> {
        let mut approach = Approach { exchange, addresses: VecDeque::new(), policy, sessions: Sessions::Any, beyond };
        let mut failed = VecDeque::new();
        for address in addresses {
            match self.connector.failed.standing(address) {
                Now::Open => approach.addresses.push_back(address),
                Now::Failed => failed.push_back(address),
                Now::Silent(reason) => self.refusals.push(Refusal::peer(&approach.peer(address), reason)),
            }
        }
        let any_open = !approach.addresses.is_empty();
        approach.addresses.append(&mut failed);
        match (any_open, approach.addresses.is_empty()) {
            (true, _) => return Some(approach),
            (false, false) => self.last.push_back(approach),
            (false, true) => {}
        }
        None
    }

    /// A session with one of the addresses of an exchange, the first that does.
    async fn reach(&mut self, approach: &mut Approach, permit: &DomainPermit) -> Option<Ready> {
        match self.waiting(approach) {
            Some(ready) => Some(self.taken(ready, permit)),
            // On the heap: most transactions do without it.
            None => Box::pin(self.open(approach, permit)).await,
        }
    }

    /// A new session with one of the addresses of an exchange.
    async fn open(&mut self, approach: &mut Approach, permit: &DomainPermit) -> Option<Ready> {
        // RFC 5321 §5.1, A-52: a relay that is among the exchanges drops itself and all that is not better.
        if let Some(reason) = approach.addresses.iter().find_map(|address| self.is_us(approach, *address)) {
            self.refuse(Refusal::host(&approach.exchange, reason));
            return None;
        }
        let exchange_until = self.until(1 + self.untried.len() + self.last.len());
        while !approach.addresses.is_empty() {
            if exchange_until <= Instant::now() {
                self.refuse(Refusal::host(&approach.exchange, Reason::OutOfTime));
                return None;
            }
            let until = share_until(exchange_until, approach.addresses.len());
            let Connector { dialer, timeouts, .. } = self.connector;
            let ehlo = self.connector.ehlo(self.request.hello);
            let dial = Dial { ehlo, timeouts, until, domain: Some(permit), trace: self.request.trace };
            let identity = approach.addresses.front().map(|address| self.identity(approach, *address));
            let identity = identity.filter(|_| approach.sessions == Sessions::Any);
            let errand = Errand { identity: identity.as_ref(), ..dial.errand() };
            let race = dialer.race(&mut approach.addresses, errand).await;
            let mut next = Next::Address;
            for (address, reason) in race.failed {
                next = self.refuse(Refusal::peer(&approach.peer(address), reason));
            }
            if let Some((address, won)) = race.first {
                let tcp = match won {
                    Won::Connection(tcp) => tcp,
                    Won::Session(ready) => {
                        self.waited = Some(address);
                        return Some(self.taken(*ready, permit));
                    }
                };
                let peer = approach.peer(address);
                match self.connector.session(tcp, &peer, &approach.policy, &dial).await {
                    Ok(ready) => {
                        self.connector.failed.forget(address);
                        let lease = dialer.pool.lease(self.identity(approach, address));
                        return Some(ready.leased(lease).heeding(self.connector.failed.without_bdat()));
                    }
                    Err(reason) => next = self.refuse(Refusal::peer(&peer, reason)),
                }
            }
            match next {
                Next::Address => {}
                Next::Exchange | Next::Nobody => return None,
            }
        }
        None
    }

    /// Why the mail would come back to this host (RFC 5321 §6.3), or why that is not known.
    fn is_us(&self, approach: &Approach, address: IpAddr) -> Option<Reason> {
        match is_of_this_host(address) {
            Ok(false) => None,
            Ok(true) => Some(NoRoute::Loop(self.request.domain.clone(), approach.exchange.clone()).into()),
            Err(scarcity) => Some(scarcity.into()),
        }
    }

    /// A session that served another transaction before.
    fn taken(&self, ready: Ready, permit: &DomainPermit) -> Ready {
        let mut ready = ready.heeding(self.connector.failed.without_bdat());
        ready.serve(Some(DomainPermit::clone(permit)));
        let (peer, proven) = (ready.peer(), &ready.terms().channel);
        self.request.trace.reused(format_args!("{peer}: took a session that waited; when it was opened: {proven}"));
        ready
    }

    /// A session that waits at one of the addresses.
    fn waiting(&mut self, approach: &mut Approach) -> Option<Ready> {
        let pool = &self.connector.dialer.pool;
        if approach.sessions == Sessions::New || pool.waiting() == 0 {
            return None;
        }
        let addresses = approach.addresses.iter().enumerate();
        let mut found = addresses.map(|(place, &address)| (place, pool.take(&self.identity(approach, address))));
        let (place, ready) = found.find_map(|(place, ready)| Some((place, ready?)))?;
        self.waited = approach.addresses.remove(place);
        Some(ready)
    }

    fn identity(&self, approach: &Approach, address: IpAddr) -> Identity {
        let Dialer { port, source, .. } = self.connector.dialer;
        Identity {
            peer: approach.peer(address),
            port,
            policy: approach.policy.clone(),
            ehlo: self.connector.ehlo(self.request.hello).to_owned(),
            source: source.towards(address),
        }
    }

    /// Writes down what was tried in vain, and what that means for others.
    fn refuse(&mut self, refusal: Refusal) -> Next {
        let row = after(&refusal.reason, &self.connector.timeouts);
        // Whom observing goes to without TLS is not to be passed over for want of it.
        let enforced = self.connector.mode == Mode::Enforce || !is_waived(&refusal);
        if let (Place::Peer(peer), true) = (&refusal.at, enforced) {
            self.connector.failed.note(peer.address, row.address, &refusal.reason);
        }
        if row.next == Next::Nobody {
            // What is in `last` came before: it is not further down the list.
            self.untried.clear();
        }
        self.refusals.push(refusal);
        row.next
    }

    /// Until when one of so many may use the time.
    fn until(&self, untried: usize) -> Instant {
        share_until(self.request.until, untried)
    }
}

/// Whether an ordinary opportunistic server would have gone on.
fn is_waived(refusal: &Refusal) -> bool {
    refusal.reason.is_waived_by_observing()
}

fn share_until(until: Instant, untried: usize) -> Instant {
    let now = Instant::now();
    now + share(until.saturating_duration_since(now), untried)
}

/// Whether the reason may be about the session and not about the host or the mail: that it has ended, that there were too
/// many mails, or that one was expected to be over.
fn may_be_of_the_session(next: Next, reason: &Reason) -> bool {
    match reason {
        Reason::Mail(reply) => reply.class() == Class::Transient || reply.code() == Code::BAD_SEQUENCE,
        // The host offers the same in a new session.
        Reason::Lacking(_) => false,
        _ => next == Next::Address,
    }
}
