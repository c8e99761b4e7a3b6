//! The delivery path of a message, checked without one: the same steps as before every mail ([`Connector`]), and then
//! QUIT. Delivery stops at the first host that takes the message; the check goes on to all of them.

use std::net::IpAddr;
use std::sync::Arc;

use futures_util::future::join_all;
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use tokio::time::{Instant, timeout};

use super::reach::Reach;
use super::recording::{RecordedAnswers, RecordingResolver};
use super::sessions::{SessionChecks, SessionPace, SparedPeers};
use crate::config::Config;
use crate::dane::pkix::PkixWorth;
use crate::discovery::{MtaSts, RunningPolicy, StsPolicies};
use crate::dns::stub::Stub;
use crate::http::HostCertificates;
use crate::mta_sts::record::policy_host;
use crate::mx::Route;
use crate::name::Name;
use crate::policy::{Level, TlsPolicy};
use crate::refusal::{Peer, Reason, Refusal, Stage};
use crate::requiretls::TagDemand;
use crate::roots::Roots;
use crate::rules::{LevelFloor, NextHop, NextHopHost, StsByRule};
use crate::settings;
use crate::smtp::command::Hello;
use crate::tls::Tls;
use crate::tlsrpt::event::Reporting;
use crate::trace::Trace;
use crate::upstream::starttls::SessionOptions;
use crate::upstream::sts::{PolicySource, StsAtHand, StsInquiry};
use crate::upstream::timeouts::Timeouts;
use crate::upstream::verified::Channel;
use crate::upstream::{Choice, Connector, Plan, Request, Unrouted};

/// Whether mail servers are connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Connections {
    /// They are, up to the second EHLO.
    Connect,
    /// Those that DANE is to verify alone.
    Dane,
    /// The DNS and the policy hosts of MTA-STS alone are asked.
    None,
}

/// Whether an exchange at an address of this host's interfaces ends the list (RFC 5321 §5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OwnHosts {
    /// It does, as for a mail, and so does every failure behind which a delivery tries no other host.
    EndTheList,
    /// It is looked at, as others see it.
    AreSeen,
}

/// The settings and clients that every check needs.
pub(crate) struct Checker {
    pub(crate) config: Config,
    pub(crate) hostname: Name,
    pub(crate) hello: Hello,
    pub(crate) dns: Stub,
    pub(crate) tls: Tls,
    pub(crate) connections: Connections,
    /// The addresses that no connection is made to.
    pub(crate) spared: SparedPeers,
    pub(crate) own_hosts: OwnHosts,
    /// The order of the sessions of one domain.
    pub(crate) pace: SessionPace,
    /// Shows the number of open sessions.
    pub(crate) show_open: Box<dyn Fn(usize) + Send + Sync>,
    pub(crate) sessions: SessionChecks,
    pub(crate) reach: Reach,
    pub(crate) policies: PolicyChecks,
}

/// Policies of MTA-STS: each is fetched once, however often its domain is checked.
pub(crate) struct PolicyChecks {
    source: Arc<dyn PolicySource>,
    hosts: HostCertificates,
}

impl PolicyChecks {
    /// Policies as they are published now.
    pub(crate) fn new(config: &Config, dns: &Stub, roots: &Roots) -> Self {
        let (https, hosts) = settings::policy_hosts(config, dns.clone(), roots).watched();
        let source = MtaSts::new(https, config.into(), StsPolicies::in_memory(&config.into()));
        Self { source: Arc::new(source), hosts }
    }
}

/// Policies that are kept, as mail goes by them.
impl From<Arc<dyn PolicySource>> for PolicyChecks {
    fn from(source: Arc<dyn PolicySource>) -> Self {
        Self { source, hosts: HostCertificates::default() }
    }
}

/// Whether the server may never have been reached.
fn is_unconnected(reason: &Reason) -> bool {
    match reason {
        Reason::Connect(_) | Reason::Bind { .. } | Reason::Scarce(_) | Reason::OutOfTime => true,
        Reason::Timeout { stage, .. } => *stage == Stage::Connect,
        _ => false,
    }
}

/// The level to check a domain at, and the way that a rule gives.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CheckTarget<'a> {
    pub(crate) level: &'a Level,
    /// The least level of the mail, if it has one.
    pub(crate) floor: Option<LevelFloor>,
    pub(crate) demand: TagDemand,
    pub(crate) next_hop: Option<&'a NextHop>,
    pub(crate) sts: StsByRule,
}

/// The check of one domain at one level.
pub(crate) struct DomainCheck {
    pub(crate) domain: Name,
    pub(crate) level: Level,
    /// The least level of the mail, if it has one.
    pub(crate) floor: Option<LevelFloor>,
    pub(crate) connections: Connections,
    /// The answers of the DNS about the domain itself.
    pub(crate) recorded: RecordedAnswers,
    pub(crate) route: Result<Route, Refusal>,
    /// The MTA-STS policy, if the level heeds it.
    pub(crate) sts: Option<StsAtHand>,
    /// The certificate of the policy host, in DER.
    pub(crate) policy_host: Option<Vec<u8>>,
    /// The domain whose MTA-STS policy was asked for, if one was.
    pub(crate) sts_domain: Option<Name>,
    /// The policy that the running danelaw keeps, if one was asked and has it.
    pub(crate) running: Option<RunningPolicy>,
    /// The exchanges, in the order mail would try them; none without a route.
    pub(crate) exchanges: Vec<ExchangeCheck>,
    /// The refusals of the domain beyond those of its exchanges: that there are more than are ever tried, that this host is behind
    /// exchanges without an address, and the doubt about the MX records.
    pub(super) beyond: Vec<Reason>,
}

/// The check of one exchange.
pub(crate) struct ExchangeCheck {
    pub(crate) name: Name,
    /// The port, if a rule names one.
    pub(crate) port: Option<u16>,
    pub(crate) recorded: RecordedAnswers,
    pub(crate) plan: Result<Plan, Reason>,
    /// In the order of the plan's addresses; none if no connection is made.
    pub(crate) sessions: Vec<(IpAddr, Arc<SessionCheck>)>,
    /// Whether there are addresses that mail would be sent to, and that no connection was made to.
    pub(crate) has_unasked: bool,
    /// The demand of the mail's tag.
    pub(super) demand: TagDemand,
}

/// A session with one address.
pub(crate) struct SessionCheck {
    /// The proof of the session.
    pub(crate) outcome: Result<Channel, Reason>,
    /// Whether the host offers REQUIRETLS under TLS (RFC 8689 §2); none without a session under TLS.
    pub(crate) offers_require_tls: Option<bool>,
    /// The certificates that the server showed, even if the session failed.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    /// Their worth to public CAs.
    pub(crate) worth: PkixWorth,
    /// The end of the session, in seconds since 1970.
    pub(crate) at: i64,
}

/// A plan, and those of its addresses that are connected to.
struct AskedPlan<'a> {
    plan: &'a Plan,
    asked: Vec<IpAddr>,
}

impl Checker {
    /// Checks the delivery path of one domain, by way of a host that a rule may name.
    pub(crate) async fn check(&self, domain: &Name, target: CheckTarget<'_>) -> DomainCheck {
        let resolver = RecordingResolver::new(&self.dns);
        let connector = self.connector(&resolver, self.tls.clone());
        let (trace, inquiry) = (Trace::default(), StsInquiry::default());
        let request = self.request(domain, target, &trace);
        let route = connector.route(&request).await;
        let mx = route.as_ref().map_or_else(|unrouted| unrouted.mx, |route| route.security);
        let exchanges = self.exchanges(&route, &inquiry, &request).await;
        let route = route.map_err(|unrouted| unrouted.refusal);
        let untried = route.as_ref().map_or(0, Route::untried);
        let next_hop = route.as_ref().map_or(domain, |route| &route.next_hop);
        let asked = inquiry.known().map(|_| next_hop.clone());
        let mut check = DomainCheck {
            domain: domain.clone(),
            level: target.level.clone(),
            floor: target.floor,
            connections: self.connections,
            recorded: resolver.recorded(),
            route,
            sts: inquiry.known().cloned(),
            policy_host: asked.as_ref().and_then(|domain| self.policies.hosts.of(&policy_host(domain).ok()?)),
            sts_domain: asked,
            running: None,
            exchanges,
            beyond: (untried > 0).then_some(Reason::NotTried(untried)).into_iter().collect(),
        };
        check.beyond.extend(check.without_primary());
        check.beyond.extend(check.doubt(mx, &inquiry));
        check
    }

    /// The request of a delivery that is checked.
    fn request<'a>(&'a self, domain: &'a Name, target: CheckTarget<'a>, trace: &'a Trace) -> Request<'a> {
        let CheckTarget { level, floor: _, demand, next_hop, sts } = target;
        let (hello, original_destination, reporting) = (&self.hello, None, Reporting::Off);
        let until = Instant::now() + self.config.timeouts.route;
        Request { domain, next_hop, hello, level, demand, sts, until, original_destination, reporting, trace }
    }

    /// The checks of the exchanges. Without a route the policy is looked up if the MX records are not signed.
    async fn exchanges(
        &self,
        route: &Result<Route, Unrouted>,
        inquiry: &StsInquiry,
        request: &Request<'_>,
    ) -> Vec<ExchangeCheck> {
        match route {
            Ok(route) => self.check_exchanges(route, inquiry, request).await,
            Err(unrouted) => {
                inquiry.ask_without_route(&*self.policies.source, unrouted.mx, request).await;
                Vec::new()
            }
        }
    }

    async fn check_exchanges(&self, route: &Route, inquiry: &StsInquiry, request: &Request<'_>) -> Vec<ExchangeCheck> {
        let by_address = matches!(request.next_hop, Some(NextHop { host: NextHopHost::Address(_), .. }));
        if request.level.heeds_sts() && !by_address {
            inquiry.answer(&*self.policies.source, &route.next_hop, request).await;
        }
        let choice = |exchange| Choice { route, exchange, inquiry };
        let limits = Timeouts::from(&self.config);
        let is_end = |check: &ExchangeCheck| self.own_hosts == OwnHosts::EndTheList && check.ends_the_list(&limits);
        let mut checks = match self.pace {
            SessionPace::Together => {
                join_all(route.exchanges().iter().map(|exchange| self.check_exchange(choice(exchange), request))).await
            }
            SessionPace::OneByOne => {
                let mut checks = Vec::new();
                for exchange in route.exchanges() {
                    checks.push(self.check_exchange(choice(exchange), request).await);
                    if checks.last().is_some_and(is_end) {
                        break;
                    }
                }
                checks
            }
        };
        // RFC 5321 §5.1: mail never goes to an exchange behind this host, nor behind a failure of this host.
        if let Some(end) = checks.iter().position(is_end) {
            checks.truncate(end + 1);
        }
        checks
    }

    async fn check_exchange(&self, choice: Choice<'_>, request: &Request<'_>) -> ExchangeCheck {
        let (exchange, port) = (choice.exchange, request.port());
        let resolver = RecordingResolver::new(&self.dns);
        let connector = self.connector(&resolver, self.tls.clone());
        let planned = timeout(self.config.timeouts.route, connector.plan(choice, request)).await;
        let plan = planned.unwrap_or(Err(Reason::OutOfTime));
        let comes_back = |plan: &Plan| match self.own_hosts {
            OwnHosts::EndTheList => connector.comes_back(exchange, &plan.addresses, plan.finality, request),
            OwnHosts::AreSeen => None,
        };
        let plan = plan.and_then(|plan| comes_back(&plan).map_or(Ok(plan), Err));
        let asked = plan.as_ref().map_or(Vec::new(), |plan| self.asked(exchange, plan));
        let has_unasked = plan.as_ref().is_ok_and(|plan| asked.len() < plan.addresses.len());
        let sessions = match &plan {
            Ok(plan) => self.sessions_with(exchange, port, AskedPlan { plan, asked }).await,
            Err(_) => Vec::new(),
        };
        let (name, recorded, demand) = (exchange.clone(), resolver.recorded(), request.demand);
        ExchangeCheck { name, port, recorded, plan, sessions, has_unasked, demand }
    }

    /// A session with each of these addresses.
    async fn sessions_with(
        &self,
        exchange: &Name,
        port: Option<u16>,
        AskedPlan { plan, asked }: AskedPlan<'_>,
    ) -> Vec<(IpAddr, Arc<SessionCheck>)> {
        let session = |address| async move {
            let peer = Peer { exchange: exchange.clone(), address, port };
            (address, self.session(&peer, plan).await)
        };
        match self.pace {
            SessionPace::Together => join_all(asked.into_iter().map(session)).await,
            SessionPace::OneByOne => {
                let mut sessions = Vec::new();
                for address in asked {
                    sessions.push(session(address).await);
                }
                sessions
            }
        }
    }

    /// The addresses of an exchange to connect to.
    fn asked(&self, exchange: &Name, plan: &Plan) -> Vec<IpAddr> {
        let connects = match self.connections {
            Connections::Connect => true,
            Connections::Dane => {
                matches!(plan.policy, TlsPolicy::Dane(_) | TlsPolicy::HalfDane(_) | TlsPolicy::StsDane(_))
            }
            Connections::None => false,
        };
        let is_asked = |address: &IpAddr| {
            connects
                && !self.spared.contains(&(exchange.clone(), *address))
                && self.sessions.has_room(*address, exchange)
        };
        plan.addresses.iter().copied().filter(is_asked).collect()
    }

    async fn session(&self, peer: &Peer, plan: &Plan) -> Arc<SessionCheck> {
        let session = self.sessions.of(peer, &plan.policy);
        Arc::clone(session.get_or_init(|| async { Arc::new(self.dial(peer, plan).await) }).await)
    }

    async fn dial(&self, peer: &Peer, plan: &Plan) -> SessionCheck {
        // The semaphore is never closed.
        let _permit = self.sessions.permits.acquire().await;
        (self.show_open)(self.sessions.open());
        // Port 25 may be closed where the port of a rule is open.
        let has_own_port = peer.port.is_some();
        if !has_own_port {
            self.reach.dials(peer.address);
        }
        let (tls, shown) = self.tls.watched();
        let connector = self.connector(&RecordingResolver::new(&self.dns), tls);
        let trace = Trace::default();
        let options = SessionOptions { nat64: plan.nat64, ..connector.session_options(&self.hello, &trace) };
        let asked = timeout(self.config.timeouts.route, connector.try_peer(peer, &plan.policy, &options)).await;
        let mut offers_require_tls = None;
        let outcome = match asked {
            Ok(Ok(ready)) => {
                let channel = ready.terms().channel.clone();
                // RFC 8689 §2: in the clear the keyword has no meaning.
                offers_require_tls = channel.protection().map(|_| ready.terms().extensions.require_tls);
                // The server's answer to QUIT does not matter; but the server is to get the command.
                let _ = ready.quit().await;
                Ok(channel)
            }
            Ok(Err(reason)) => Err(reason),
            Err(_) => Err(Reason::OutOfTime),
        };
        if !has_own_port && !outcome.as_ref().is_err_and(is_unconnected) {
            self.reach.connected();
        }
        (self.show_open)(self.sessions.open() - 1);
        let chain = shown.chain().to_vec();
        let worth = self.tls.worth(&chain, &peer.exchange);
        let at = OffsetDateTime::now_utc().unix_timestamp();
        SessionCheck { outcome, offers_require_tls, chain, worth, at }
    }

    fn connector(&self, resolver: &RecordingResolver, tls: Tls) -> Connector<RecordingResolver> {
        let connector = settings::connector(&self.config, self.hostname.clone(), resolver.clone(), tls);
        Connector { enforced_sts: Arc::clone(&self.policies.source), ..connector }
    }
}
