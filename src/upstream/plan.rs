//! The exchanges of a domain, and for each of them the addresses to try and the policy to meet. No address is connected to
//! here.
//!
//! Each "no" that rests on answers of the DNS goes through [`by_dns`]: mail is returned to its sender only where these answers are
//! final.

use std::net::{IpAddr, SocketAddr};

use super::sts::{StsInquiry, StsTrial, final_for_tagged, unmeetable};
use super::tcp::is_of_this_host;
use super::{Connector, Request, order};
use crate::dane::tlsa::{self, Associations, NoDane};
use crate::dns::{
    Failure, FailureReason, Finality, Host, HostLookup, Lookup, Mx, Nat64Prefix, Resolver, Rtype, Security, by_nat64,
};
use crate::mx::{self, Here, NoRoute, Route};
use crate::name::Name;
use crate::policy::{self, ExchangeFacts, StsDemand, StsListing, TlsPolicy, Unmeetable};
use crate::refusal::{Reason, Refusal};
use crate::rules::NextHopHost;
use crate::smtp::command::Hello;
use crate::tlsrpt::event::PublishedTlsa;

/// The addresses of one exchange, and the policy that a session with it must meet.
#[derive(Debug)]
pub(crate) struct Plan {
    /// As many as are tried at most, with the families taking turns.
    pub(crate) addresses: Vec<IpAddr>,
    /// Those beyond that number.
    pub(crate) beyond: Vec<IpAddr>,
    /// Whether the answers that gave them are the last word on mail.
    pub(crate) finality: Finality,
    /// The policy for each of them.
    pub(crate) policy: TlsPolicy,
    /// The prefix by which IPv4 addresses are reached, if they are reached by NAT64.
    pub(crate) nat64: Option<Nat64Prefix>,
    /// The lookup that failed, which may hide further addresses.
    pub(crate) unknown: Option<Failure>,
    /// The TLSA records as they are published, for TLS reports.
    pub(crate) published: Option<PublishedTlsa>,
    /// The result by an MTA-STS policy that is not held to.
    pub(crate) trial: StsTrial,
}

/// The choice of one exchange.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Choice<'a> {
    /// The domain's exchanges.
    pub(crate) route: &'a Route,
    /// This one.
    pub(crate) exchange: &'a Name,
    /// The domain's MTA-STS policy.
    pub(crate) inquiry: &'a StsInquiry,
}

/// Why there is no exchange to try.
#[derive(Debug)]
pub(crate) struct Unrouted {
    /// The refusal of the domain.
    pub(crate) refusal: Refusal,
    /// The security of the MX records that say so.
    pub(crate) mx: Security,
}

impl Unrouted {
    /// The configuration says so, or no MX record does.
    fn surely(why: impl Into<Reason>) -> Self {
        Self { refusal: Refusal::domain(why), mx: Security::Secure }
    }

    fn by(why: NoRoute, mx: &Lookup<Mx>) -> Self {
        Self { refusal: Refusal::domain(by_dns(why, &mx.asked, mx.finality)), mx: mx.security() }
    }
}

/// A refusal because of answers of the DNS for this domain or exchange. Where they are not final, it is a lookup that failed, and
/// the mail waits.
pub(crate) fn by_dns(why: impl Into<Reason>, asked: &Name, finality: Finality) -> Reason {
    let why = why.into();
    // Of the rules for failures (`failover`) that for MX records is the one for a domain without a route.
    let rtype = if matches!(why, Reason::NoRoute(_)) { Rtype::MX } else { Rtype::A };
    finality.failure(asked, rtype).map_or(why, Reason::from)
}

/// A host, and its TLSA records.
struct KnownHost<'a> {
    host: &'a Host,
    associations: Associations,
}

/// The result of the TLSA lookups for one host.
struct TlsaFound {
    associations: Associations,
    published: Option<PublishedTlsa>,
}

impl From<NoDane> for TlsaFound {
    fn from(why: NoDane) -> Self {
        Self { associations: Associations::None(why), published: None }
    }
}

impl<R: Resolver> Connector<R> {
    /// The exchanges to try, in order.
    pub(crate) async fn route(&self, request: &Request<'_>) -> Result<Route, Unrouted> {
        let seed = fastrand::u64(..);
        let names = if self.may_come_back(request.port()) { self.names_here(request.hello) } else { Vec::new() };
        let here = Here { names: &names, most: self.max_exchanges, seed };
        match request.next_hop.map(|next_hop| &next_hop.host) {
            Some(NextHopHost::Name(host)) => {
                return mx::by_way_of(host, request.domain, here).map_err(Unrouted::surely);
            }
            Some(NextHopHost::Address(_)) => return Ok(mx::by_address(request.domain)),
            None => {}
        }
        let lookup = self.dns.mx(request.domain);
        let lookup = request.trace.lookup(request.domain, "MX", lookup).await.map_err(Unrouted::surely)?;
        mx::route(&lookup, here).map_err(|why| Unrouted::by(why, &lookup))
    }

    /// The plan for one exchange, from the DNS and the level.
    pub(crate) async fn plan(&self, choice: Choice<'_>, request: &Request<'_>) -> Result<Plan, Reason> {
        let Choice { route, exchange, .. } = choice;
        let (host, nat64) = tokio::join!(self.host_beside_policy(choice, request), self.dns.nat64());
        let (mut host, nat64) = (host?, nat64?);
        if let Some(prefix) = nat64 {
            host.addresses = by_nat64::identities(host.addresses, prefix);
        }
        let port = self.port(request);
        if host.addresses.iter().any(|address| self.own_addresses.contains(SocketAddr::new(*address, port))) {
            // RFC 5321 §5.1, A-52: under any name.
            let why = NoRoute::Loop(route.next_hop.clone(), exchange.clone());
            return Err(by_dns(why, &route.next_hop, host.finality));
        }
        let mut addresses = self.dialable(&host, request)?;
        let beyond = addresses.split_off(self.max_addresses.min(addresses.len()));
        let TlsaFound { associations, published } = self.associations(route, &host, request).await?;
        request.trace.fact(format_args!("{exchange}: {associations}"));
        let (policy, trial) = self.policy(choice, KnownHost { host: &host, associations }, request).await?;
        request.trace.fact(format_args!("{exchange}: at level {} the policy is {}", request.level, policy.as_str()));
        let Host { finality, unknown, .. } = host;
        Ok(Plan { addresses, beyond, finality, policy, nat64, unknown, published, trial })
    }

    /// The addresses of an exchange. Over an insecure MX the MTA-STS policy is asked for at the same time. If the policy in
    /// force does not list the exchange, its addresses are of no interest: an attacker may have named it, and chosen addresses
    /// for which mail bounces.
    async fn host_beside_policy(&self, choice: Choice<'_>, request: &Request<'_>) -> Result<Host, Reason> {
        let Choice { route, exchange, inquiry } = choice;
        if route.security == Security::Secure || !request.level.heeds_sts() {
            return self.host(choice, request).await;
        }
        let asked = inquiry.answer(&*self.enforced_sts, &route.next_hop, request);
        let (host, at_hand) = tokio::join!(self.host(choice, request), asked);
        match at_hand.demand(route, exchange)? {
            StsDemand::Enforce(StsListing::No) => Err(unmeetable(Unmeetable::NotListed, Some(at_hand), exchange)),
            StsDemand::Enforce(StsListing::Yes) | StsDemand::Testing(_) | StsDemand::Nothing => host,
        }
    }

    /// The policy for a host by the tables, and the result by an MTA-STS policy that is not held to.
    async fn policy(
        &self,
        choice: Choice<'_>,
        known: KnownHost<'_>,
        request: &Request<'_>,
    ) -> Result<(TlsPolicy, StsTrial), Reason> {
        let (Choice { route, exchange, inquiry }, KnownHost { host, associations }) = (choice, known);
        let found = match policy::asks_sts(route, &associations, request.level) {
            true => Some(inquiry.answer(&*self.enforced_sts, &route.next_hop, request).await),
            false => None,
        };
        let sts = found.map_or(Ok(StsDemand::Nothing), |found| found.demand(route, exchange))?;
        let facts = ExchangeFacts { route, host, associations, sts };
        let trial = match (found, sts) {
            (None, _) => StsTrial::NotAsked,
            (Some(_), StsDemand::Testing(_)) => {
                let enforced = ExchangeFacts { sts: sts.enforced(), ..facts.clone() };
                policy::decide(enforced, request.level).into()
            }
            (Some(_), StsDemand::Nothing | StsDemand::Enforce(_)) => StsTrial::Passed,
        };
        let decided = policy::decide(facts, request.level).map_err(|why| unmeetable(why, found, exchange));
        let decided = decided.map_err(|reason| match host.finality {
            Finality::Provisional => reason,
            Finality::Final => final_for_tagged(reason, found, request.demand),
        });
        Ok((decided?, trial))
    }

    async fn host(&self, choice: Choice<'_>, request: &Request<'_>) -> Result<Host, Reason> {
        let Choice { route, exchange, .. } = choice;
        if let Some(address) = request.address() {
            request.trace.fact(format_args!("{exchange}: the rule names the address {address}; the DNS is not asked"));
            let (name, aliases, addresses) = (exchange.clone(), Vec::new(), vec![address]);
            let (end, finality) = (Security::Secure, Finality::Final);
            return Ok(Host { name, aliases, end, addresses, unknown: None, finality });
        }
        match request.trace.lookup(exchange, "A/AAAA", self.dns.host(exchange)).await? {
            HostLookup::Found(host) => Ok(Host { finality: host.finality.min(route.finality), ..host }),
            HostLookup::NoAddress(finality) => Err(by_dns(Reason::NoAddress, exchange, finality.min(route.finality))),
            HostLookup::NotInFamily(families) => Err(Reason::NotInFamily(families)),
        }
    }

    /// The addresses of a host to which connections are allowed, with the families taking turns.
    fn dialable(&self, host: &Host, request: &Request<'_>) -> Result<Vec<IpAddr>, Reason> {
        let mut allowed = order::interleaved(&host.addresses);
        // A-51 is about addresses that a stranger names. A rule is the operator's.
        allowed.retain(|&address| self.dialable.allows(address) || request.address() == Some(address));
        let why = match (allowed.is_empty(), &host.unknown, host.addresses.first()) {
            (false, ..) => return Ok(allowed),
            // RFC 7672 §2.1.2: the failed lookup may hide an address, so the refusal is not permanent.
            (true, Some(failure), _) => return Err(failure.clone().into()),
            (true, None, Some(&reserved)) => Reason::ReservedAddress(reserved),
            (true, None, None) => Reason::NoAddress,
        };
        Err(by_dns(why, &host.name, host.finality))
    }

    /// The TLSA records of a host: at the expanded name first, then at the original (RFC 7672 §2.2.3).
    async fn associations(&self, route: &Route, host: &Host, request: &Request<'_>) -> Result<TlsaFound, Failure> {
        if request.address().is_some() {
            return Ok(NoDane::AddressOnly.into());
        }
        if let Some(why) = policy::tlsa_not_asked(route, request.level) {
            return Ok(why.into());
        }
        let base_domains = tlsa::base_domains(host);
        if base_domains.is_empty() {
            // RFC 7672 §2.2.2: never ask below an insecure address; such servers are known to drop the question.
            return Ok(NoDane::InsecureAddress.into());
        }
        for base_domain in base_domains {
            let owner = base_domain.tlsa_owner(self.port(request)).map_err(|_| Failure {
                name: base_domain.clone(),
                rtype: Rtype::TLSA,
                reason: FailureReason::NameTooLong,
            })?;
            // RFC 7672 §2.2.3: an error here must not move on to the next name; an absence must.
            let lookup = request.trace.lookup(&owner, "TLSA", self.dns.tlsa(&owner)).await?;
            if lookup.security() == Security::Secure && !lookup.answer.records().is_empty() {
                let records = lookup.answer.records();
                let published = request.reporting.is_on().then(|| PublishedTlsa::new(&base_domain, records));
                return Ok(TlsaFound {
                    associations: tlsa::associations(base_domain, records, &self.digests),
                    published,
                });
            }
        }
        Ok(NoDane::NoTlsa.into())
    }

    /// The port to connect to.
    fn port(&self, request: &Request<'_>) -> u16 {
        request.port().unwrap_or(self.dialer.port)
    }

    /// The reason for which mail to one of these addresses of an exchange would come back to this host, or for which that is
    /// not known. The addresses are by answers of this finality. RFC 5321 §5.1, A-52: a relay that is among the exchanges drops
    /// itself and all that is not better.
    pub(crate) fn comes_back<'a>(
        &self,
        exchange: &Name,
        addresses: impl IntoIterator<Item = &'a IpAddr>,
        finality: Finality,
        request: &Request<'_>,
    ) -> Option<Reason> {
        if !self.may_come_back(request.port()) {
            return None;
        }
        addresses.into_iter().find_map(|&address| match is_of_this_host(address) {
            Ok(false) => None,
            Ok(true) => {
                let why = NoRoute::Loop(request.domain.clone(), exchange.clone());
                Some(by_dns(why, request.domain, finality))
            }
            Err(scarcity) => Some(scarcity.into()),
        })
    }

    /// Whether mail may come back from this host's own addresses at the port that a rule names. Another program of this host
    /// may take mail at a port that is not ours.
    fn may_come_back(&self, port: Option<u16>) -> bool {
        port.is_none_or(|port| self.own_addresses.are_reached_at(port))
    }

    /// Names under which the mail would come back to this host: ours, and the client's.
    fn names_here(&self, hello: &Hello) -> Vec<Name> {
        self.own_names.iter().chain([&self.hostname]).chain(&self.ehlo_name).chain(hello.name()).cloned().collect()
    }
}
