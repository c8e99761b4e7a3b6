//! One run of the watch: it looks at each domain as a delivery would, a few at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use time::OffsetDateTime;
use tokio::time::timeout;

use super::book::{Book, RunFacts, RunReason};
use super::facts::{DomainFacts, FactSource, HostFacts, SeenFault, Standing};
use super::seen::{DeliveredFacts, RuledLook, Seeing, SeenDomain, of_delivery};
use crate::check::checker::{CheckTarget, Checker, Connections, OwnHosts, PolicyChecks};
use crate::check::ends::DAY;
use crate::check::reach::Reach;
use crate::check::sessions::{SessionChecks, SessionPace, SparedPeers};
use crate::config::Config;
use crate::dns::stub::Stub;
use crate::name::Name;
use crate::policy::Level;
use crate::report::Reporter;
use crate::report::deliveries::{DeliveryNotes, RefusedDomain};
use crate::rules::{Rule, Rules};
use crate::smtp::command::Hello;
use crate::terms::ListenerTerms;
use crate::tls::Tls;
use crate::tlsrpt::lookup::{RecordLookupError, record_of};

/// How many domains are looked at at a time, each with one session.
const AT_A_TIME: usize = 4;
/// The most time for one domain with all its hosts.
const MAX_LOOK: Duration = Duration::from_secs(20 * 60);
/// The most time for one host: its lookups, and each session.
const MAX_HOST: Duration = Duration::from_secs(60);
/// The most hosts of a domain.
const MAX_HOSTS: usize = 20;
/// The most addresses of a host.
const MAX_ADDRESSES: usize = 4;
/// The most names that lead to sessions with one address.
const MAX_NAMES: usize = 10;
/// The number of refused deliveries, ten minutes apart, that confirm a finding.
const CONFIRMING: usize = 3;

/// The parts of a look that the configuration alone does not make.
pub(crate) struct LookParts {
    pub(crate) hostname: Name,
    pub(crate) dns: Stub,
    pub(crate) tls: Tls,
    pub(crate) policies: PolicyChecks,
    /// Notes the deliveries, if mail goes through this danelaw.
    pub(crate) reporter: Option<Arc<Reporter>>,
}

/// Looks at domains.
pub(crate) struct Lookout {
    checker: Checker,
    rules: Rules,
    own: BTreeSet<Name>,
    reporter: Option<Arc<Reporter>>,
    delivered: DeliveredFacts,
    refused: BTreeMap<Name, RefusedDomain>,
}

/// The domains of one run.
pub(crate) struct RunPlan<'a> {
    pub(crate) domains: &'a [Name],
    pub(crate) reason: RunReason,
    /// The time between two looks at a domain, in seconds.
    pub(crate) every: i64,
}

impl Lookout {
    /// One by this configuration. Its sessions are never repeated.
    ///
    /// # Errors
    /// A rule can never hold, or the host name cannot be said in EHLO.
    pub(crate) fn new(config: &Config, parts: LookParts) -> Result<Self, String> {
        let LookParts { hostname, dns, tls, policies, reporter } = parts;
        let hello: Hello = hostname.as_str().parse().map_err(|error| format!("hostname: {error}"))?;
        let rules = config.rules().map_err(|error| error.to_string())?;
        let own = config.watch.own.iter().map(|name| name.0.clone()).collect();
        let mut config = config.clone();
        config.timeouts.route = config.timeouts.route.min(MAX_HOST);
        config.remote.exchanges = config.remote.exchanges.min(MAX_HOSTS);
        config.remote.addresses = config.remote.addresses.min(MAX_ADDRESSES);
        let checker = Checker {
            hello,
            policies,
            dns,
            tls,
            connections: if config.watch.connect { Connections::Dane } else { Connections::None },
            spared: SparedPeers::new(),
            // Its own mail server is on this host, as often as not.
            own_hosts: OwnHosts::AreSeen,
            pace: SessionPace::OneByOne,
            show_open: Box::new(|_| ()),
            sessions: SessionChecks::bounded(AT_A_TIME, MAX_NAMES),
            reach: Reach::default(),
            hostname,
            config,
        };
        let (delivered, refused) = (DeliveredFacts::new(), BTreeMap::new());
        Ok(Self { checker, rules, own, reporter, delivered, refused })
    }

    /// Takes the deliveries of the last day. The addresses that they have verified are not connected to, but for the hosts of domains
    /// whose mail is refused.
    fn heed(&mut self, book: &Book) {
        let Some(deliveries) = self.deliveries() else { return };
        let since = OffsetDateTime::now_utc().unix_timestamp() - DAY;
        let (refused, verified) = (deliveries.refused_since(since), deliveries.verified_since(since));
        self.refused = refused.into_iter().collect();
        let refused = self.refused.keys().filter_map(|name| book.domains.get(name.as_str()));
        let exchanges = refused.flat_map(|entry| entry.now.mx.iter().flatten());
        let hosts: BTreeSet<_> = exchanges.filter_map(|mx| Name::parse(&mx.host).ok()).collect();
        let verified = verified.into_iter().filter(|((host, _), _)| !hosts.contains(host));
        self.delivered = verified.map(|(peer, seen)| (peer.clone(), of_delivery(peer.1, &seen))).collect();
        self.checker.spared = self.delivered.keys().cloned().collect();
    }

    /// The domains whose last mail was refused after this time, in seconds since 1970.
    pub(crate) fn refused_since(reporter: &Reporter, since: i64) -> Vec<(Name, i64)> {
        let refused = reporter.deliveries().map(|notes| notes.refused_since(since)).unwrap_or_default();
        refused.into_iter().map(|(name, refused)| (name, refused.last)).collect()
    }

    /// The facts of these domains and of their hosts. It never ends with an error: a look that fails is a fact.
    pub(crate) async fn run(&mut self, plan: RunPlan<'_>, book: &Book) -> RunFacts {
        let RunPlan { domains, reason, every } = plan;
        if !self.can_see() {
            self.checker.dns.first_pass().await;
        }
        let own = self.own.iter().map(ToString::to_string).collect();
        let mut facts = RunFacts { own, reason, every, ..RunFacts::default() };
        if self.can_see() {
            self.heed(book);
            self.look_at(domains, &mut facts, book).await;
        }
        // Without a resolver the facts of the hosts are not to be relied on.
        if !self.can_see() {
            facts.cannot_see = Some("no-resolver".to_owned());
        }
        facts.at = OffsetDateTime::now_utc().unix_timestamp();
        facts
    }

    async fn look_at(&self, domains: &[Name], facts: &mut RunFacts, book: &Book) {
        let looks = stream::iter(domains.to_vec()).map(|domain| self.look_in_time(domain));
        let mut looks = std::pin::pin!(looks.buffer_unordered(AT_A_TIME));
        while let Some((domain, look)) = looks.next().await {
            facts.looks.dns += 1;
            match look {
                Some(seen) => self.add(book, facts, &domain, seen),
                None => {
                    facts.domains.insert(domain.to_string(), out_of_time());
                }
            }
        }
    }

    /// Adds a look to the facts of the run. Where no session was opened, a delivery that was refused says more; and where one was known
    /// before, only a delivery that went proves that it is over.
    fn add(&self, book: &Book, facts: &mut RunFacts, domain: &Name, seen: SeenDomain) {
        let SeenDomain { facts: mut of_domain, hosts, is_unasked } = seen;
        let known = book.domains.get(domain.as_str()).and_then(|entry| entry.now.refused);
        match (self.refused.get(domain), known) {
            (Some(refused), _) => {
                let label = refused.label.as_str();
                if is_unasked {
                    let fault = SeenFault::new(label, refused.label.cause(), None);
                    (of_domain.standing, of_domain.refused) = (Standing::Broken(fault), Some(refused.last));
                }
                if refused.times >= CONFIRMING {
                    facts.met.insert(domain.to_string(), label.to_owned());
                    facts.met.extend(of_domain.stopping.iter().map(|key| (key.clone(), label.to_owned())));
                }
            }
            (None, Some(refused)) if is_unasked && !self.has_delivered(domain, refused) => {
                let why = "no mail has gone since one was refused";
                of_domain.standing = Standing::Unknown(SeenFault::new("out-of-time", why, None));
            }
            (None, _) => {}
        }
        facts.domains.insert(domain.to_string(), of_domain);
        for (key, host) in hosts {
            add(facts, key, host);
        }
    }

    /// Whether mail has gone to a domain since this time.
    fn has_delivered(&self, domain: &Name, since: i64) -> bool {
        self.deliveries().is_none_or(|deliveries| deliveries.delivered(domain).last > since)
    }

    fn deliveries(&self) -> Option<&DeliveryNotes> {
        self.reporter.as_ref()?.deliveries()
    }

    fn can_see(&self) -> bool {
        self.checker.dns.health().borrow().resolves()
    }

    /// Takes the name as its own, so that the run can go from thread to thread.
    async fn look_in_time(&self, domain: Name) -> (Name, Option<SeenDomain>) {
        let look = timeout(MAX_LOOK, self.look(&domain)).await;
        (domain, look.ok())
    }

    async fn look(&self, domain: &Name) -> SeenDomain {
        let now = OffsetDateTime::now_utc();
        let (digests, rules, delivered) = (&self.checker.config.tls.digests, &self.rules, &self.delivered);
        let connects = self.checker.connections != Connections::None;
        let seeing = Seeing { digests, rules, delivered, connects, deliveries: self.deliveries(), now };
        let (level, rule) = self.rules.level(domain, now.date());
        let check = self.checker.check(domain, target(level, rule, rule)).await;
        let mut seen = match rule {
            Some(rule) => {
                // As in `danelaw check`, the mail goes on to the host that the rule names.
                let without = self.checker.check(domain, target(&self.rules.default, None, Some(rule))).await;
                SeenDomain::of(&check, Some(&RuledLook { rule, without: &without }), seeing)
            }
            None => SeenDomain::of(&check, None, seeing),
        };
        if self.own.contains(domain) {
            seen.facts.tlsrpt = match record_of(&self.checker.dns, domain).await {
                Ok(_) => Some(true),
                Err(RecordLookupError::Record(_)) => Some(false),
                Err(RecordLookupError::Dns(_)) => None,
            };
        }
        seen
    }
}

/// The facts of a domain that was not looked at to the end.
fn out_of_time() -> DomainFacts {
    DomainFacts {
        standing: Standing::Unknown(SeenFault::new("out-of-time", "the look took too long", None)),
        refused: None,
        newest: None,
        took_tls: false,
        stopping: Vec::new(),
        is_verified: false,
        mx: None,
        sts: None,
        tlsrpt: None,
        rule: None,
        signature: None,
    }
}

/// Ordinary mail, as it comes by a listener without terms.
fn target<'a>(level: &'a Level, rule: Option<&'a Rule>, route: Option<&'a Rule>) -> CheckTarget<'a> {
    let terms = ListenerTerms::default().of_ordinary_mail();
    let next_hop = route.and_then(|rule| rule.next_hop.as_ref());
    CheckTarget {
        level: terms.level(level),
        floor: terms.floor(),
        demand: terms.demand,
        next_hop,
        sts: terms.sts(rule),
    }
}

/// Adds the facts of a host. Of two looks at one host, the one with sessions tells more.
fn add(facts: &mut RunFacts, key: String, host: HostFacts) {
    let of_sessions = host.addresses.iter().filter(|fact| fact.source == FactSource::Session).count() as u64;
    match facts.hosts.get(&key) {
        Some(known) if !known.is_unknown() && known.addresses.len() >= host.addresses.len() => {}
        Some(_) | None => {
            facts.looks.session += of_sessions;
            facts.looks.delivery += host.addresses.len() as u64 - of_sessions;
            facts.hosts.insert(key, host);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::tests::{address, host, record};
    use super::super::facts::{AddressFact, DaneFact};
    use super::*;

    #[test]
    fn of_two_looks_at_a_host_the_one_that_tells_more_counts() {
        let key = record([3, 1, 1], "K1");
        let at = |number: usize| AddressFact { address: format!("192.0.2.{number}"), ..address(&key) };
        let with = |count: usize| HostFacts { addresses: (0..count).map(at).collect(), ..host() };
        let mut facts = RunFacts::default();
        add(&mut facts, "mx.example".to_owned(), with(4));
        // A look without sessions, as at a rule's level, does not take its place; and it takes that of one without an answer.
        add(&mut facts, "mx.example".to_owned(), with(0));
        assert_eq!(facts.hosts["mx.example"].addresses.len(), 4);
        let unknown = HostFacts { dane: DaneFact::Unknown, ..with(0) };
        add(&mut facts, "mx2.example".to_owned(), unknown);
        add(&mut facts, "mx2.example".to_owned(), with(0));
        assert_eq!(facts.hosts["mx2.example"].dane, DaneFact::Usable);
        assert_eq!(facts.looks.session, 4);
    }
}
