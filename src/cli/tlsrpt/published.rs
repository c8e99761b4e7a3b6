//! The policies that domains publish now, for `danelaw tlsrpt read --check`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;

use crate::cli::run::{self, StartError};
use crate::config::Config;
use crate::discovery::{MtaSts, StsFound, StsPolicies, StsSettings};
use crate::dns::stub::Stub;
use crate::dns::{MxTarget, Resolver, Rtype, Security};
use crate::excerpt::cut;
use crate::http::{HttpsClient, HttpsPart};
use crate::mta_sts::{NoStsRecord, StsUse};
use crate::name::Name;
use crate::reserved::Dialable;
use crate::tlsrpt::read::received::{MAX_STRING, MAX_TEXTS, PublishedPolicy, ReceivedPolicy};

/// How many policies are looked up in all: a report has the text of a stranger, and any names.
const MAX_LOOKUPS: usize = 200;
/// How many hosts may be the one that a policy is of.
const MAX_HOSTS: usize = 8;
/// The port of mail servers.
const SMTP: u16 = 25;
/// How long all lookups may take together.
const LIMIT: Duration = Duration::from_secs(120);

/// Looks policies up, each once.
pub(super) struct PublishedPolicies {
    runtime: Runtime,
    dns: Stub,
    sts: MtaSts<Stub>,
    until: Instant,
    found: BTreeMap<PolicySought, Arc<PublishedPolicy>>,
}

/// A policy that is looked up.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum PolicySought {
    /// The TLSA records of these names, and of the exchanges of the first.
    Tlsa(Vec<Name>),
    /// The policy of this domain.
    Sts(Name),
}

impl PolicySought {
    /// The names of a stranger that can be mail domains or hosts.
    fn of(policy: &ReceivedPolicy) -> Option<Self> {
        let name = |text: &String| Name::parse(text).ok().filter(Name::is_fully_qualified);
        match policy.kind.as_str() {
            // Some senders put the host into the policy domain, and others the domain of the recipients.
            "tlsa" => {
                let failed = policy.failures.iter().filter_map(|failure| failure.host.as_ref()).take(MAX_HOSTS);
                let named = std::iter::once(&policy.domain).chain(&policy.hosts).chain(failed);
                let mut names = Vec::new();
                for name in named.filter_map(name).take(MAX_HOSTS) {
                    if !names.contains(&name) {
                        names.push(name);
                    }
                }
                (!names.is_empty()).then_some(Self::Tlsa(names))
            }
            "sts" => name(&policy.domain).map(Self::Sts),
            _ => None,
        }
    }
}

impl PublishedPolicies {
    /// By the resolver and the certification authorities of this configuration. Policy hosts at reserved addresses are not
    /// connected to: any stranger may name one.
    pub(super) fn of(config: &Config) -> Result<Self, StartError> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().map_err(StartError::system)?;
        let (dns, roots) = (runtime.block_on(run::tested_resolver(config))?, run::roots(config)?);
        let https = HttpsClient::new(dns.clone(), HttpsPart { dialable: Dialable::default(), roots, port: 443 });
        // The policy is told whether or not mail is held to it here.
        let settings = StsSettings { usage: StsUse::Observe, ..config.into() };
        let policies = StsPolicies::in_memory(&settings);
        let sts = MtaSts::new(https, settings, policies);
        Ok(Self { runtime, dns, sts, until: Instant::now() + LIMIT, found: BTreeMap::new() })
    }

    /// The policy as it is now; none for a kind that is nowhere published.
    pub(super) fn look_up(&mut self, policy: &ReceivedPolicy) -> Option<Arc<PublishedPolicy>> {
        let sought = PolicySought::of(policy)?;
        if let Some(found) = self.found.get(&sought) {
            return Some(Arc::clone(found));
        }
        if self.found.len() >= MAX_LOOKUPS {
            let why = format!("{MAX_LOOKUPS} policies have been looked up, and no more are");
            return Some(Arc::new(PublishedPolicy::Unknown(why)));
        }
        let looked_up = async {
            match &sought {
                PolicySought::Tlsa(names) => tlsa(&self.dns, names).await,
                PolicySought::Sts(domain) => sts(&self.sts, domain, self.until).await,
            }
        };
        let found = self.runtime.block_on(async { tokio::time::timeout_at(self.until, looked_up).await });
        let late = || PublishedPolicy::Unknown(format!("no answer within {LIMIT:?} for all policies"));
        let found = Arc::new(found.unwrap_or_else(|_| late()));
        self.found.insert(sought, Arc::clone(&found));
        Some(found)
    }
}

async fn tlsa(dns: &Stub, names: &[Name]) -> PublishedPolicy {
    let mut hosts = names.to_vec();
    if let [domain, ..] = names
        && let Ok(found) = dns.mx(domain).await
    {
        let exchanges = found.answer.records().iter().filter_map(|mx| match &mx.target {
            MxTarget::Host(name) => Some(name.clone()),
            MxTarget::Root | MxTarget::Invalid(_) => None,
        });
        hosts.extend(exchanges.take(MAX_HOSTS));
    }
    let mut sets = Vec::new();
    for host in hosts {
        let Ok(owner) = host.tlsa_owner(SMTP) else { continue };
        match dns.lookup(&owner, Rtype::TLSA).await {
            Err(failure) => return PublishedPolicy::Unknown(failure.to_string()),
            Ok(found) if found.answer.records().is_empty() || found.security() == Security::Insecure => {}
            Ok(found) => sets.push(bounded(found.answer.records())),
        }
    }
    match sets.is_empty() {
        true => PublishedPolicy::Unknown("no host that the report names has signed TLSA records".to_owned()),
        false => PublishedPolicy::OneOf(sets),
    }
}

async fn sts(sts: &MtaSts<Stub>, domain: &Name, until: Instant) -> PublishedPolicy {
    match sts.policy_for(domain, until).await {
        StsFound::InForce(in_force) => PublishedPolicy::OneOf(vec![bounded(&in_force.policy.lines())]),
        StsFound::Absent(NoStsRecord::Absent) | StsFound::Off => PublishedPolicy::OneOf(vec![Vec::new()]),
        StsFound::Absent(why) => PublishedPolicy::Unknown(why.to_string()),
        StsFound::Unfetched(error) => PublishedPolicy::Unknown(error.to_string()),
        StsFound::LookupFailed(failure) => PublishedPolicy::Unknown(failure.to_string()),
    }
}

/// The first texts, as long as those of a report are kept.
fn bounded(texts: &[String]) -> Vec<String> {
    texts.iter().take(MAX_TEXTS).map(|text| cut(text, MAX_STRING)).collect()
}
