//! The road of a message, walked without one: the same steps as before every mail ([`Connector`]), and then QUIT. Where a
//! message stops at the first host that will do, this goes on to all of them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::join_all;
use rustls_pki_types::CertificateDer;
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::{Instant, timeout};

use super::progress::Progress;
use super::witness::{Seen, Witness};
use crate::config::Config;
use crate::dane::tlsa::Usage;
use crate::dane::verify::Expectation;
use crate::dns::stub::Stub;
use crate::mx::Route;
use crate::name::Name;
use crate::policy::{Level, TlsPolicy};
use crate::refusal::{Peer, Place, Reason, Refusal};
use crate::server;
use crate::smtp::command::Hello;
use crate::tls::Tls;
use crate::trace::Trace;
use crate::upstream::verified::Channel;
use crate::upstream::{Connector, Plan, Request};

/// The most sessions at a time, whatever the number of domains.
const MAX_SESSIONS: usize = 64;

/// Whether mail servers are connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialling {
    /// They are, up to the second EHLO.
    Connect,
    /// The DNS alone is asked.
    DnsOnly,
}

/// What every walk needs.
pub(super) struct Road {
    pub(super) config: Config,
    pub(super) hostname: Name,
    pub(super) hello: Hello,
    pub(super) dns: Stub,
    pub(super) tls: Tls,
    pub(super) dialling: Dialling,
    pub(super) progress: Arc<Progress>,
    pub(super) sessions: Sessions,
}

/// Sessions are not repeated: many domains have the same hosts, and their operators would not like it. A session is good
/// for another domain if the same was asked of it ([`is_same`]).
pub(super) struct Sessions {
    permits: Semaphore,
    held: Mutex<HashMap<(Name, IpAddr), Vec<Held>>>,
}

type Held = (TlsPolicy, Arc<OnceCell<Arc<Session>>>);

impl Default for Sessions {
    fn default() -> Self {
        Self { permits: Semaphore::new(MAX_SESSIONS), held: Mutex::default() }
    }
}

impl Sessions {
    /// The one session with this peer under this policy, held or yet to be.
    fn of(&self, peer: &Peer, policy: &TlsPolicy) -> Arc<OnceCell<Arc<Session>>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let with_peer = held.entry((peer.exchange.clone(), peer.address)).or_default();
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

/// One domain's road at one level.
pub(super) struct Walk {
    pub(super) domain: Name,
    pub(super) level: Level,
    pub(super) dialling: Dialling,
    /// What the DNS said of the domain itself.
    pub(super) seen: Seen,
    pub(super) route: Result<Route, Refusal>,
    /// The exchanges, in the order mail would try them; none without a route.
    pub(super) visits: Vec<Visit>,
    /// That there are more exchanges than are ever tried, if there are.
    not_tried: Option<Reason>,
}

/// One exchange.
pub(super) struct Visit {
    pub(super) exchange: Name,
    pub(super) seen: Seen,
    pub(super) plan: Result<Plan, Reason>,
    /// In the order of the plan's addresses; none if nobody is dialled.
    pub(super) sessions: Vec<(IpAddr, Arc<Session>)>,
}

/// A session with one address.
pub(super) struct Session {
    /// What was proven.
    pub(super) outcome: Result<Channel, Reason>,
    /// What the server showed, whatever came of it.
    pub(super) chain: Vec<CertificateDer<'static>>,
}

/// What would become of a message.
pub(super) enum Fate<'w> {
    /// It would go to this host and address; over this, if there was a session.
    Taken(&'w Visit, Option<(IpAddr, &'w Channel)>),
    /// It would be refused for these reasons.
    Refused,
}

impl Road {
    /// Walks the road of one domain, by way of a host that a rule may name.
    pub(super) async fn walk(&self, domain: &Name, level: &Level, next_hop: Option<&Name>) -> Walk {
        let witness = Witness::new(&self.dns);
        let connector = self.connector(&witness, self.tls.clone());
        let until = Instant::now() + self.config.timeouts.route;
        let trace = Trace::default();
        let request =
            Request { domain, next_hop, hello: &self.hello, level, until, original_destination: None, trace: &trace };
        let route = connector.route(&request).await;
        let visits = match &route {
            Ok(route) => join_all(route.exchanges().iter().map(|exchange| self.visit(route, exchange, &request))).await,
            Err(_) => Vec::new(),
        };
        let untried = route.as_ref().map_or(0, Route::untried);
        Walk {
            domain: domain.clone(),
            level: level.clone(),
            dialling: self.dialling,
            seen: witness.seen(),
            route,
            visits,
            not_tried: (untried > 0).then_some(Reason::NotTried(untried)),
        }
    }

    async fn visit(&self, route: &Route, exchange: &Name, request: &Request<'_>) -> Visit {
        let witness = Witness::new(&self.dns);
        let connector = self.connector(&witness, self.tls.clone());
        let planned = timeout(self.config.timeouts.route, connector.plan(route, exchange, request)).await;
        let plan = planned.unwrap_or(Err(Reason::OutOfTime));
        let sessions = match (&plan, self.dialling) {
            (Ok(plan), Dialling::Connect) => {
                let session = |&address| async move {
                    let peer = Peer { exchange: exchange.clone(), address };
                    (address, self.session(&peer, &plan.policy).await)
                };
                join_all(plan.addresses.iter().map(session)).await
            }
            (Ok(_), Dialling::DnsOnly) | (Err(_), _) => Vec::new(),
        };
        Visit { exchange: exchange.clone(), seen: witness.seen(), plan, sessions }
    }

    async fn session(&self, peer: &Peer, policy: &TlsPolicy) -> Arc<Session> {
        let session = self.sessions.of(peer, policy);
        Arc::clone(session.get_or_init(|| async { Arc::new(self.dial(peer, policy).await) }).await)
    }

    async fn dial(&self, peer: &Peer, policy: &TlsPolicy) -> Session {
        // The semaphore is never closed.
        let _permit = self.sessions.permits.acquire().await;
        let _shown = self.progress.dialling();
        let (tls, shown) = self.tls.watched();
        let connector = self.connector(&Witness::new(&self.dns), tls);
        let trace = Trace::default();
        let options = connector.session_options(&self.hello, &trace);
        let asked = timeout(self.config.timeouts.route, connector.try_peer(peer, policy, &options)).await;
        let outcome = match asked {
            Ok(Ok(ready)) => {
                let channel = ready.terms().channel.clone();
                // Whether the server answers QUIT changes nothing; but it is to hear it.
                let _ = ready.quit().await;
                Ok(channel)
            }
            Ok(Err(reason)) => Err(reason),
            Err(_) => Err(Reason::OutOfTime),
        };
        Session { outcome, chain: shown.chain().to_vec() }
    }

    fn connector(&self, witness: &Witness, tls: Tls) -> Connector<Witness> {
        server::connector(&self.config, self.hostname.clone(), witness.clone(), tls)
    }
}

impl Walk {
    /// What would become of a message now.
    pub(super) fn fate(&self) -> Fate<'_> {
        let taken = self.visits.iter().find_map(|visit| match self.dialling {
            Dialling::Connect => visit.taken().map(|(address, channel)| Fate::Taken(visit, Some((address, channel)))),
            Dialling::DnsOnly => visit.plan.is_ok().then_some(Fate::Taken(visit, None)),
        });
        taken.unwrap_or(Fate::Refused)
    }

    /// Everything that stands in the way, in the order mail would meet it; if the mail is refused, that is why.
    pub(super) fn obstacles(&self) -> Vec<(Place, &Reason)> {
        let domain = self.route.as_ref().err().map(|refusal| (refusal.at.clone(), &refusal.reason));
        let beyond = self.not_tried.as_ref().map(|reason| (Place::Domain, reason));
        domain.into_iter().chain(self.visits.iter().flat_map(Visit::obstacles)).chain(beyond).collect()
    }

    /// The reason that speaks for all, as in the reply to a client.
    pub(super) fn main_obstacle(&self) -> Option<(Place, &Reason)> {
        self.obstacles().into_iter().rev().max_by_key(|(_, reason)| reason.weight())
    }
}

impl Visit {
    /// The first address at which a session met the policy.
    fn taken(&self) -> Option<(IpAddr, &Channel)> {
        self.sessions.iter().find_map(|(address, session)| Some((*address, session.outcome.as_ref().ok()?)))
    }

    /// What stands in the way at this exchange.
    pub(super) fn obstacles(&self) -> Vec<(Place, &Reason)> {
        if let Err(reason) = &self.plan {
            return vec![(Place::Host(self.exchange.clone()), reason)];
        }
        let peer = |address: &IpAddr| Place::Peer(Peer { exchange: self.exchange.clone(), address: *address });
        let failed =
            self.sessions.iter().filter_map(|(address, session)| Some((address, session.outcome.as_ref().err()?)));
        failed.map(|(address, reason)| (peer(address), reason)).collect()
    }
}
