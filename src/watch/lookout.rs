//! One run of the watch: it looks at each domain as a delivery would, a few at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use time::OffsetDateTime;
use tokio::time::timeout;

use super::book::RunFacts;
use super::facts::{HostFacts, SeenFault, Standing};
use super::seen::{DeliveredFacts, RuledLook, Seeing, SeenDomain, of_delivery};
use crate::check::checker::{CheckTarget, Checker, Connections, PolicyChecks, SessionChecks, SparedPeers};
use crate::check::reach::Reach;
use crate::config::Config;
use crate::dns::stub::Stub;
use crate::name::Name;
use crate::policy::Level;
use crate::report::deliveries::{DeliveryNotes, RefusedDomain};
use crate::rules::{Rule, Rules};
use crate::smtp::command::Hello;
use crate::terms::ListenerTerms;
use crate::tls::Tls;
use crate::tlsrpt::lookup::{RecordLookupError, record_of};

/// How many domains are looked at, and how many sessions are open, at a time.
const AT_A_TIME: usize = 4;
/// The most time for one domain with all its hosts.
const MAX_LOOK: Duration = Duration::from_secs(20 * 60);
/// The most hosts of a domain whose facts are kept.
const MAX_HOSTS: usize = 20;
/// So many refused deliveries, apart from each other, confirm a finding.
const SURE: usize = 3;
/// The most addresses of a host.
const MAX_ADDRESSES: usize = 4;

/// The parts of a look that the configuration alone does not make.
pub(crate) struct LookParts {
    pub(crate) hostname: Name,
    pub(crate) dns: Stub,
    pub(crate) tls: Tls,
    pub(crate) policies: PolicyChecks,
}

/// Looks at domains.
pub(crate) struct Lookout {
    checker: Checker,
    rules: Rules,
    own: BTreeSet<Name>,
    delivered: DeliveredFacts,
    refused: BTreeMap<Name, RefusedDomain>,
}

impl Lookout {
    /// One by this configuration. Its sessions are never repeated.
    ///
    /// # Errors
    /// A rule can never hold, or the host name cannot be said in EHLO.
    pub(crate) fn new(config: &Config, parts: LookParts) -> Result<Self, String> {
        let LookParts { hostname, dns, tls, policies } = parts;
        let hello: Hello = hostname.as_str().parse().map_err(|error| format!("hostname: {error}"))?;
        let checker = Checker {
            hello,
            policies,
            dns,
            tls,
            connections: if config.watch.connect { Connections::Dane } else { Connections::None },
            spared: SparedPeers::new(),
            gauge: Arc::new(()),
            sessions: SessionChecks::at_a_time(AT_A_TIME),
            reach: Reach::default(),
            hostname,
            config: config.clone(),
        };
        let rules = config.rules().map_err(|error| error.to_string())?;
        let own = config.watch.own.iter().map(|name| name.0.clone()).collect();
        let (delivered, refused) = Default::default();
        Ok(Self { checker, rules, own, delivered, refused })
    }

    /// Takes the deliveries since a time, in seconds since 1970: the addresses that they have verified are not connected to.
    pub(crate) fn heed(&mut self, deliveries: &DeliveryNotes, since: i64) {
        let verified = deliveries.verified_since(since).into_iter();
        self.delivered = verified.map(|(peer, seen)| (peer.clone(), of_delivery(peer.1, &seen.matched))).collect();
        self.checker.spared = self.delivered.keys().cloned().collect();
        self.refused = deliveries.refused_domains().into_iter().collect();
    }

    /// The facts of these domains and of their hosts. It never ends with an error: a look that fails is a fact.
    pub(crate) async fn run(&self, domains: &[Name]) -> RunFacts {
        if !self.checker.dns.health().borrow().resolves() {
            self.checker.dns.first_pass().await;
        }
        let mut facts = RunFacts {
            at: OffsetDateTime::now_utc().unix_timestamp(),
            own: self.own.iter().map(ToString::to_string).collect(),
            ..RunFacts::default()
        };
        if !self.can_see() {
            facts.cannot_see = Some("no-resolver".to_owned());
            return facts;
        }
        let looks = stream::iter(domains.to_vec()).map(|domain| self.look_in_time(domain));
        let mut looks = std::pin::pin!(looks.buffer_unordered(AT_A_TIME));
        while let Some((domain, look)) = looks.next().await {
            if let Some(seen) = look {
                self.add(&mut facts, &domain, seen);
            }
        }
        // A resolver that went away in the middle says nothing about the hosts.
        if !self.can_see() {
            facts.cannot_see = Some("no-resolver".to_owned());
        }
        facts.at = OffsetDateTime::now_utc().unix_timestamp();
        facts
    }

    /// Adds a look to the facts of the run. Where no session was opened, a delivery that was refused says more.
    fn add(&self, facts: &mut RunFacts, domain: &Name, seen: SeenDomain) {
        let SeenDomain { facts: mut of_domain, hosts, is_unasked } = seen;
        if let Some(refused) = self.refused.get(domain) {
            if is_unasked {
                of_domain.standing = Standing::Broken(SeenFault::new(refused.label.as_str(), &refused.text, None));
            }
            if refused.times >= SURE {
                facts.sure.insert(domain.to_string());
                facts.sure.extend(hosts.iter().map(|(key, _)| key.clone()));
            }
        }
        facts.looks.dns += 1;
        facts.domains.insert(domain.to_string(), of_domain);
        for (key, host) in hosts.into_iter().take(MAX_HOSTS) {
            add(facts, key, host);
        }
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
        let seeing = Seeing { digests, rules, delivered, now };
        let (level, rule) = self.rules.level(domain, now.date());
        let check = self.checker.check(domain, target(level, rule)).await;
        let mut seen = match rule {
            Some(rule) => {
                let without = self.checker.check(domain, target(&self.rules.default, None)).await;
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

/// Ordinary mail, as it comes by a listener without terms.
fn target<'a>(level: &'a Level, rule: Option<&'a Rule>) -> CheckTarget<'a> {
    let (terms, next_hop) = (ListenerTerms::default().of_ordinary_mail(), rule.and_then(|rule| rule.next_hop.as_ref()));
    CheckTarget {
        level: terms.level(level),
        floor: terms.floor(),
        demand: terms.demand,
        next_hop,
        sts: terms.sts(rule),
    }
}

/// Adds the facts of a host. Of two looks at one host, the one with sessions tells more.
fn add(facts: &mut RunFacts, key: String, mut host: HostFacts) {
    host.addresses.truncate(MAX_ADDRESSES);
    let of_sessions = host.addresses.iter().filter(|fact| fact.certificate.is_some()).count() as u64;
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
    fn a_host_has_few_addresses_and_the_look_that_tells_more() {
        // W16.
        let key = record([3, 1, 1], "K1");
        let at = |number: usize| AddressFact { address: format!("192.0.2.{number}"), ..address(&key) };
        let with = |count: usize| HostFacts { addresses: (0..count).map(at).collect(), ..host() };
        let mut facts = RunFacts::default();
        add(&mut facts, "mx.example".to_owned(), with(100));
        assert_eq!(facts.hosts["mx.example"].addresses.len(), MAX_ADDRESSES);
        // A look without sessions, as at a rule's level, does not take its place; and it takes that of one without an answer.
        add(&mut facts, "mx.example".to_owned(), with(0));
        assert_eq!(facts.hosts["mx.example"].addresses.len(), MAX_ADDRESSES);
        let unknown = HostFacts { dane: DaneFact::Unknown, ..with(0) };
        add(&mut facts, "mx2.example".to_owned(), unknown);
        add(&mut facts, "mx2.example".to_owned(), with(0));
        assert_eq!(facts.hosts["mx2.example"].dane, DaneFact::Usable);
        assert_eq!(facts.looks.session, MAX_ADDRESSES as u64);
    }
}
