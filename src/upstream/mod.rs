//! From a domain to a remote that may be given mail: the core of danelaw (RFC 7672 §2.2).
//!
//! A [`Walk`] goes along the exchanges in the publisher's order, and [`next`] says which failures lead on; [`dialer`]
//! connects to one of the addresses of an exchange, within the bounds of [`caps`]; [`open`] greets and secures it;
//! [`ready`] is what mail may be sent on, and nothing else can make one. [`failed`] remembers for a moment who could not
//! be reached, `without_bdat` which hosts do not take chunks. A session that has done its work waits in the [`pool`] for mail that asks for the very same.

pub mod caps;
pub mod dialled;
pub mod dialer;
pub mod eight_bit;
pub mod failed;
pub mod next;
pub mod open;
mod order;
pub mod pool;
pub mod ready;
mod shards;
pub mod tcp;
mod walk;
mod without_bdat;
mod wishes;

use std::borrow::Borrow;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Timeouts;
use crate::dane::agility::Digests;
use crate::dane::tlsa::{self, Associations, NoDane};
use crate::dns::{Failure, FailureReason, Host, HostLookup, Resolver, Rtype, Security};
use crate::mx::{self, Here, NoRoute, OwnAddresses, Route};
use crate::name::Name;
use crate::policy::{self, Level, Mode, TlsPolicy};
use crate::refusal::{Peer, Reason, Refusal};
use crate::reserved::Dialable;
use crate::smtp::command::Hello;
use crate::tls::Tls;
use crate::trace::{Trace, What};

use dialer::Dialer;
use eight_bit::EightBitDomains;
use failed::FailedHosts;
use open::{Dial, Greeted};
use ready::Ready;
use tcp::Tcp;

pub use walk::{Held, Walk};

/// Finds, dials and verifies remotes.
#[derive(Debug)]
pub struct Connector<R> {
    /// The DNS.
    pub dns: R,
    /// TCP towards remotes.
    pub dialer: Dialer,
    /// TLS towards remotes.
    pub tls: Tls,
    /// Whether what the policy asks for is held to.
    pub mode: Mode,
    /// Which digests of TLSA records count.
    pub digests: Digests,
    /// Which addresses may be dialled.
    pub dialable: Dialable,
    /// Who could not be reached a moment ago.
    pub failed: FailedHosts,
    /// Domains with mail that needs 8BITMIME although clients do not declare it.
    pub eight_bit: Arc<EightBitDomains>,
    /// The most exchanges of one domain that are tried.
    pub max_exchanges: usize,
    /// The most addresses of one exchange that are tried.
    pub max_addresses: usize,
    /// Names that are ours in MX records.
    pub own_names: Vec<Name>,
    /// Addresses that are ours behind MX records.
    pub own_addresses: OwnAddresses,
    /// Our own name.
    pub hostname: Name,
    /// The name to give in EHLO, if not the client's own.
    pub ehlo_name: Option<Name>,
    /// How long each step may take.
    pub timeouts: Timeouts,
}

/// One transaction's wish for a remote.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The recipient's domain.
    pub domain: &'a Name,
    /// The host that takes the domain's mail, if a rule says so.
    pub next_hop: Option<&'a Name>,
    /// The client's name for itself.
    pub hello: &'a Hello,
    /// What a session must prove.
    pub level: &'a Level,
    /// When to give up.
    pub until: Instant,
    /// The address that an intercepted client dialled.
    pub dialled: Option<IpAddr>,
    /// Where to note what was seen.
    pub trace: &'a Trace,
}

/// Where to seek a session with an exchange, and what it has to prove.
#[derive(Debug)]
pub(crate) struct Plan {
    /// In the order to dial them.
    pub(crate) addresses: Vec<IpAddr>,
    /// What each of them is held to.
    pub(crate) policy: TlsPolicy,
    /// The reasons for which the exchange may have addresses that are never dialled.
    pub(crate) beyond: Vec<Reason>,
}

impl<R: Resolver> Connector<R> {
    /// Sets out for a remote for the domain.
    pub fn walk<'a>(&'a self, request: &Request<'a>) -> Walk<'a, R> {
        Walk::new(self, *request)
    }

    /// The exchanges to try, in order.
    pub(crate) async fn route(&self, request: &Request<'_>) -> Result<Route, Refusal> {
        let seed = fastrand::u64(..);
        let here = Here { names: &self.names_here(request.hello), most: self.max_exchanges, seed };
        if let Some(next_hop) = request.next_hop {
            return mx::by_way_of(next_hop, request.domain, here).map_err(Refusal::domain);
        }
        let lookup = self.dns.mx(request.domain);
        let lookup = request.trace.lookup((request.domain, "MX"), lookup).await.map_err(Refusal::domain)?;
        mx::route(&lookup, here).map_err(Refusal::domain)
    }

    /// What the DNS and the level make of one exchange. Nothing is dialled yet.
    pub(crate) async fn plan(&self, route: &Route, exchange: &Name, request: &Request<'_>) -> Result<Plan, Reason> {
        let Request { level, dialled, trace, .. } = *request;
        let host = self.host(exchange, trace).await?;
        if host.addresses.iter().any(|address| self.own_addresses.contains(*address)) {
            // RFC 5321 §5.1, A-52: under whatever name.
            return Err(NoRoute::Loop(route.next_hop.clone(), exchange.clone()).into());
        }
        let mut addresses = self.dialable(&host, dialled)?;
        let mut beyond: Vec<Reason> = host.unknown.iter().cloned().map(Reason::from).collect();
        if addresses.len() > self.max_addresses {
            beyond.push(Reason::NotAsked(addresses.len() - self.max_addresses));
            addresses.truncate(self.max_addresses);
        }
        let associations = self.associations(route, &host, request).await?;
        trace.fact(format_args!("{exchange}: {associations}"));
        let policy = policy::decide(route, &host, associations, level)?;
        trace.fact(format_args!("{exchange}: at level {level} the policy is {}", policy.label()));
        Ok(Plan { addresses, policy, beyond })
    }

    /// How to open sessions for this client, without further bounds.
    pub(crate) fn dial<'a>(&'a self, hello: &'a Hello, trace: &'a Trace) -> Dial<'a> {
        let until = Instant::now() + self.timeouts.route;
        Dial { ehlo: self.ehlo(hello), timeouts: &self.timeouts, until, domain: None, trace }
    }

    /// One address, held to the policy.
    pub(crate) async fn try_peer(&self, peer: &Peer, policy: &TlsPolicy, dial: &Dial<'_>) -> Result<Ready, Reason> {
        let tcp = self.dialer.dial(peer.address, dial.errand()).await?;
        self.session(tcp, peer, policy, dial).await
    }

    /// A session on a connection, as the policy asks.
    async fn session(&self, tcp: Tcp, peer: &Peer, policy: &TlsPolicy, dial: &Dial<'_>) -> Result<Ready, Reason> {
        let greeted = greet(tcp, peer, policy, dial).await?;
        let began = Instant::now();
        let (tls, shown) = self.tls.watched();
        let secured = greeted.secure(policy.clone(), &tls, dial).await;
        let certificates = shown.chain().len();
        for (depth, line) in shown.lines().iter().enumerate() {
            dial.trace.fact(format_args!("certificate {depth} of {certificates}: {line}"));
        }
        let proven = secured.as_ref().map(|ready| &ready.terms().channel);
        dial.trace.since(began, (What::Tls(label(&proven)), told(peer, &proven)));
        match (secured, policy) {
            // RFC 7435 §1: the one policy that takes what it can get, on a connection of its own.
            (Err(reason), TlsPolicy::May(_, permit)) if reason.is_about_tls() => {
                let tcp = self.dialer.dial(peer.address, dial.errand()).await?;
                let greeted = greet(tcp, peer, policy, dial).await?;
                dial.trace.fact(format_args!("{peer}: going on in cleartext"));
                Ok(greeted.in_cleartext(policy.clone(), permit.clone(), dial))
            }
            (secured, _) => secured,
        }
    }

    async fn host(&self, exchange: &Name, trace: &Trace) -> Result<Host, Reason> {
        match trace.lookup((exchange, "A/AAAA"), self.dns.host(exchange)).await? {
            HostLookup::Found(host) => Ok(host),
            HostLookup::NoAddress => Err(Reason::NoAddress),
        }
    }

    /// The addresses to dial, in order.
    fn dialable(&self, host: &Host, dialled: Option<IpAddr>) -> Result<Vec<IpAddr>, Reason> {
        let mut allowed = order::interleaved(&host.addresses);
        allowed.retain(|&address| self.dialable.allows(address));
        match (allowed.is_empty(), &host.unknown, host.addresses.first()) {
            (false, ..) => Ok(dialled::first(allowed, dialled)),
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
            let owner = base_domain.tlsa_owner(self.dialer.port).map_err(|_| Failure {
                name: base_domain.clone(),
                rtype: Rtype::TLSA,
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

    /// The name to give in EHLO: the client's own, which is the one its address resolves to. RFC 5321 §4.1.1.1 wants a fully
    /// qualified name or an address literal, and some remotes insist; where the client's is neither, it is ours.
    pub(crate) fn ehlo<'a>(&'a self, hello: &'a Hello) -> &'a str {
        let is_name = || Name::parse(hello.as_str()).is_ok_and(|name| name.is_fully_qualified());
        let is_public_literal = || hello.literal().is_some_and(|address| self.dialable.allows(address));
        match &self.ehlo_name {
            Some(name) => name.as_str(),
            None if is_name() => hello.as_str().strip_suffix('.').unwrap_or(hello.as_str()),
            None if is_public_literal() => hello.as_str(),
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

/// Greets a remote; from the first packet to its answer to EHLO it is one step.
async fn greet(tcp: Tcp, peer: &Peer, policy: &TlsPolicy, dial: &Dial<'_>) -> Result<Greeted, Reason> {
    let began = tcp.dialled();
    let greeted = Greeted::greet(tcp, peer, policy, dial).await;
    dial.trace.since(began, (What::Connect(label(&greeted)), told(peer, &greeted)));
    greeted
}

/// What a step is called in metrics.
fn label<T>(done: &Result<T, impl Borrow<Reason>>) -> &'static str {
    done.as_ref().map_or_else(|reason| reason.borrow().view().label.as_str(), |_| "ok")
}

/// What is said of a step with a remote.
fn told<T: fmt::Display>(peer: &Peer, done: &Result<T, impl Borrow<Reason>>) -> String {
    match done {
        Ok(done) => format!("{peer}: {done}"),
        Err(reason) => format!("{peer}: {}", reason.borrow()),
    }
}

/// What is left until a moment, at most `limit`, and never so little that a healthy remote could not answer.
pub fn remaining(until: Instant, limit: Duration) -> Duration {
    limit.min(until.saturating_duration_since(Instant::now()).max(Duration::from_secs(15)))
}
