//! From a domain to a remote that may be given mail: the core of danelaw (RFC 7672 §2.2).
//!
//! [`Connector::connect`] walks the exchanges in the publisher's order; [`open`] dials one address and secures it;
//! [`ready`] is what mail may be sent on, and nothing else can make one.

pub mod open;
pub mod ready;

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Timeouts;
use crate::dane::agility::Digests;
use crate::dane::tlsa::{self, Associations, NoDane};
use crate::dns::{Failure, FailureReason, Host, HostLookup, Resolver, Security};
use crate::mx::{self, Here, Route};
use crate::name::Name;
use crate::policy::{self, Level, Mode, Permit, TlsPolicy};
use crate::refusal::{Peer, Reason, Refusal, Refusals};
use crate::reserved::Dialable;
use crate::smtp::command::Hello;
use crate::tls::Tls;
use crate::trace::{Trace, What};

use open::{Dial, Greeted};
use ready::Ready;

/// Finds, dials and verifies remotes.
#[derive(Debug)]
pub struct Connector<R> {
    /// The DNS.
    pub dns: R,
    /// TLS towards remotes.
    pub tls: Tls,
    /// Whether what the policy asks for is held to.
    pub mode: Mode,
    /// Which digests of TLSA records count.
    pub digests: Digests,
    /// Which addresses may be dialled.
    pub dialable: Dialable,
    /// The port to dial.
    pub port: u16,
    /// The most addresses of one exchange that are tried.
    pub max_addresses: usize,
    /// Names that are ours in MX records.
    pub own_names: Vec<Name>,
    /// Our own name.
    pub hostname: Name,
    /// The name to give in EHLO, if not the client's own.
    pub ehlo_name: Option<Name>,
    /// How long each step may take.
    pub timeouts: Timeouts,
}

/// One transaction's wish for a remote.
#[derive(Debug)]
pub struct Request<'a> {
    /// The recipient's domain.
    pub domain: &'a Name,
    /// The client's name for itself.
    pub hello: &'a Hello,
    /// What a session must prove.
    pub level: &'a Level,
    /// When to give up.
    pub until: Instant,
    /// Where to note what was seen.
    pub trace: &'a Trace,
}

/// A remote that mail may be sent to, and what failed before it was found.
#[derive(Debug)]
pub struct Connected {
    /// The remote.
    pub ready: Ready,
    /// Better exchanges, or other addresses, that were tried in vain.
    pub skipped: Refusals,
    /// What enforcing would have refused the mail for; nothing, unless the mode is `observe` and it would have.
    pub would: Refusals,
}

impl<R: Resolver> Connector<R> {
    /// A remote for the domain, secured as the policy asks.
    ///
    /// # Errors
    /// All that was tried, if nothing was left to try (RFC 7672 §2.1.2: defer, unless the DNS says it is final).
    pub async fn connect(&self, request: &Request<'_>) -> Result<Connected, Refusals> {
        let route = self.route(request).await?;
        match self.mode {
            Mode::Enforce => self.walk(&route, request).await,
            Mode::Observe => self.observe(&route, request).await,
        }
    }

    /// What enforcing would have done; and where that is to refuse the mail for want of TLS or of a proof, what an ordinary
    /// opportunistic server does (RFC 7435 §3).
    async fn observe(&self, route: &Route, request: &Request<'_>) -> Result<Connected, Refusals> {
        // Half of the time, so that a server which stalls in its handshake leaves some for the second way.
        let now = Instant::now();
        let until = now + request.until.saturating_duration_since(now) / 2;
        let refusals = match self.walk(route, &Request { until, ..*request }).await {
            Err(refusals) if refusals.iter().any(|refusal| refusal.reason.is_waived_by_observing()) => refusals,
            enforced => return enforced,
        };
        request.trace.fact(format!("enforcing would have answered {}; going on, to observe", refusals.verdict()));
        let level = Level::May(Permit::Observe);
        let connected = self.walk(route, &Request { level: &level, ..*request }).await?;
        Ok(Connected { would: refusals, ..connected })
    }

    /// Tries the exchanges in turn.
    async fn walk(&self, route: &Route, request: &Request<'_>) -> Result<Connected, Refusals> {
        let mut refusals = Refusals::default();
        for exchange in route.exchanges() {
            // RFC 7672 §2.1.2: what fails at one exchange sends us to the next, never to a weaker policy.
            match tokio::time::timeout_at(request.until, self.try_exchange(route, exchange, request)).await {
                Ok(Ok(ready)) => return Ok(Connected { ready, skipped: refusals, would: Refusals::default() }),
                Ok(Err(tried)) => refusals.extend(tried),
                Err(_) => {
                    refusals.push(Refusal::host(exchange, Reason::OutOfTime));
                    break;
                }
            }
        }
        if route.untried() > 0 {
            refusals.push(Refusal::domain(Reason::NotTried(route.untried())));
        }
        Err(refusals)
    }

    async fn route(&self, request: &Request<'_>) -> Result<Route, Refusal> {
        let lookup =
            request.trace.lookup((request.domain, "MX"), self.dns.mx(request.domain)).await.map_err(Refusal::domain)?;
        let here = Here { names: &self.names_here(request.hello), seed: fastrand::u64(..) };
        mx::route(&lookup, here).map_err(Refusal::domain)
    }

    async fn try_exchange(&self, route: &Route, exchange: &Name, request: &Request<'_>) -> Result<Ready, Refusals> {
        let at_host = |reason: Reason| Refusal::host(exchange, reason);
        let host = self.host(exchange, request.trace).await.map_err(at_host)?;
        let addresses = self.dialable(&host).map_err(at_host)?;
        let associations = self.associations(route, &host, request).await.map_err(|failure| at_host(failure.into()))?;
        request.trace.fact(format!("{exchange}: {associations}"));
        let policy = policy::decide(route, &host, associations, request.level).map_err(|no| at_host(no.into()))?;
        request.trace.fact(format!("{exchange}: at level {} the policy is {}", request.level, policy.label()));
        let mut refusals = Refusals::default();
        for address in addresses {
            let peer = Peer { exchange: exchange.clone(), address };
            match self.try_peer(&peer, &policy, request).await {
                Ok(ready) => return Ok(ready),
                Err(reason) => refusals.push(Refusal::peer(&peer, reason)),
            }
        }
        Err(refusals)
    }

    async fn try_peer(&self, peer: &Peer, policy: &TlsPolicy, request: &Request<'_>) -> Result<Ready, Reason> {
        let dial = self.dial(request);
        let greeted = self.greeted(peer, request).await?;
        let tls = self.tls.noting(request.trace);
        let secured = greeted.secure(policy.clone(), &tls, &dial);
        let secured = request.trace.watch(secured, |secured| (What::Tls(label(secured)), told(peer, secured))).await;
        match (secured, policy) {
            // RFC 7435 §1: the one policy that takes what it can get, on a connection of its own.
            (Err(reason), TlsPolicy::May(_, permit)) if reason.is_about_tls() => {
                let greeted = self.greeted(peer, request).await?;
                request.trace.fact(format!("{peer}: going on in cleartext"));
                Ok(greeted.in_cleartext(policy.clone(), permit.clone(), &dial))
            }
            (secured, _) => secured,
        }
    }

    async fn greeted(&self, peer: &Peer, request: &Request<'_>) -> Result<Greeted, Reason> {
        let dial = self.dial(request);
        let greeted = Greeted::open(peer, &dial);
        request.trace.watch(greeted, |greeted| (What::Connect(label(greeted)), told(peer, greeted))).await
    }

    fn dial<'a>(&'a self, request: &'a Request<'_>) -> Dial<'a> {
        Dial { port: self.port, ehlo: self.ehlo(request.hello), timeouts: &self.timeouts }
    }

    async fn host(&self, exchange: &Name, trace: &Trace) -> Result<Host, Reason> {
        match trace.lookup((exchange, "A/AAAA"), self.dns.host(exchange)).await? {
            HostLookup::Found(host) => Ok(host),
            HostLookup::NoAddress => Err(Reason::NoAddress),
        }
    }

    /// The addresses to dial, in order.
    fn dialable(&self, host: &Host) -> Result<Vec<IpAddr>, Reason> {
        let allowed: Vec<_> = host.addresses.iter().copied().filter(|&address| self.dialable.allows(address)).collect();
        match (allowed.is_empty(), &host.unknown, host.addresses.first()) {
            (false, ..) => Ok(allowed.into_iter().take(self.max_addresses).collect()),
            // RFC 7672 §2.1.2: what a failed lookup may have hidden is not refused for good.
            (true, Some(failure), _) => Err(failure.clone().into()),
            (true, None, Some(&reserved)) => Err(Reason::ReservedAddress(reserved)),
            (true, None, None) => Err(Reason::NoAddress),
        }
    }

    /// The TLSA records of a host: at the expanded name first, then at the original (RFC 7672 §2.2.3).
    async fn associations(&self, route: &Route, host: &Host, request: &Request<'_>) -> Result<Associations, Failure> {
        if let Some(why) = policy::tlsa_not_asked(route, request.level) {
            return Ok(Associations::None(why));
        }
        let base_domains = tlsa::base_domains(host);
        if base_domains.is_empty() {
            // RFC 7672 §2.2.2: never ask below an insecure address; such servers are known to drop the question.
            return Ok(Associations::None(NoDane::InsecureAddress));
        }
        for base_domain in base_domains {
            let owner = base_domain.tlsa_owner(self.port).map_err(|_| Failure {
                name: base_domain.clone(),
                rtype: "TLSA",
                reason: FailureReason::NameTooLong,
            })?;
            // RFC 7672 §2.2.3: an error here must not move on to the next name; an absence must.
            let lookup = request.trace.lookup((&owner, "TLSA"), self.dns.tlsa(&owner)).await?;
            if lookup.security() == Security::Secure && !lookup.answer.records().is_empty() {
                return Ok(tlsa::associations(base_domain, lookup.answer.records(), &self.digests));
            }
        }
        Ok(Associations::None(NoDane::NoTlsa))
    }

    /// The name to give in EHLO: the client's own, which is the one its address resolves to, if it is a name at all
    /// (RFC 5321 §4.1.1.1 wants a domain or an address literal, and some remotes insist).
    fn ehlo<'a>(&'a self, hello: &'a Hello) -> &'a str {
        let literal = hello.as_str().starts_with('[') && hello.as_str().ends_with(']');
        match &self.ehlo_name {
            Some(name) => name.as_str(),
            None if literal || Name::parse(hello.as_str()).is_ok() => hello.as_str(),
            None => self.hostname.as_str(),
        }
    }

    /// Names under which the mail would come back to where it is now: ours, and the client's.
    fn names_here(&self, hello: &Hello) -> Vec<Name> {
        self.own_names
            .iter()
            .chain([&self.hostname])
            .chain(&self.ehlo_name)
            .cloned()
            .chain(Name::parse(hello.as_str()).ok())
            .collect()
    }
}

/// What a step is called in metrics.
fn label<T>(done: &Result<T, Reason>) -> &'static str {
    done.as_ref().map_or_else(|reason| reason.view().label, |_| "ok")
}

/// What is said of a step with a remote.
fn told<T: fmt::Display>(peer: &Peer, done: &Result<T, Reason>) -> String {
    match done {
        Ok(done) => format!("{peer}: {done}"),
        Err(reason) => format!("{peer}: {reason}"),
    }
}

/// What is left until a moment, at most `limit`, and never so little that a healthy remote could not answer.
pub fn remaining(until: Instant, limit: Duration) -> Duration {
    limit.min(until.saturating_duration_since(Instant::now()).max(Duration::from_secs(15)))
}
