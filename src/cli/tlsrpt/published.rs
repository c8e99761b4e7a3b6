//! The policies that domains publish now, for `danelaw tlsrpt read --check`.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;

use crate::cli::run::{self, StartError};
use crate::config::Config;
use crate::discovery::{MtaSts, StsFound, StsPolicies, StsSettings};
use crate::dns::stub::Stub;
use crate::dns::{Failure, Rtype, Security};
use crate::mta_sts::StsUse;
use crate::name::Name;
use crate::settings;
use crate::tlsrpt::read::received::{PublishedPolicy, ReceivedPolicy};

/// How many policies are looked up in all: a report is a stranger's text, and names what it likes.
const MAX_LOOKUPS: usize = 200;
/// How many hosts of a policy are asked for TLSA records.
const MAX_HOSTS: usize = 4;
/// How long one policy may take.
const LIMIT: Duration = Duration::from_secs(30);

/// Looks policies up, each once.
pub(super) struct PublishedPolicies {
    runtime: Runtime,
    dns: Stub,
    sts: MtaSts<Stub>,
    found: BTreeMap<PolicySought, PublishedPolicy>,
}

/// A policy that is looked up.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum PolicySought {
    /// The TLSA records of the first of these names that has any.
    Tlsa(Vec<Name>),
    /// The policy of this domain.
    Sts(Name),
}

impl PolicySought {
    /// The names of a stranger that can be mail domains or hosts.
    fn of(policy: &ReceivedPolicy) -> Option<Self> {
        let name = |text: &String| Name::parse(text).ok().filter(Name::is_fully_qualified);
        match policy.kind.as_str() {
            // Some senders put the host here, and others the domain of the recipients.
            "tlsa" => {
                let names: Vec<_> = std::iter::once(&policy.domain).chain(&policy.hosts).filter_map(name).collect();
                (!names.is_empty()).then(|| Self::Tlsa(names.into_iter().take(MAX_HOSTS).collect()))
            }
            "sts" => name(&policy.domain).map(Self::Sts),
            _ => None,
        }
    }
}

impl PublishedPolicies {
    /// By the resolver and the certification authorities of this configuration.
    pub(super) fn of(config: &Config) -> Result<Self, StartError> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().map_err(StartError::system)?;
        let (dns, sts) = runtime.block_on(async {
            let (dns, roots) = (run::tested_resolver(config).await?, run::roots(config)?);
            // The policy is told whether or not mail is held to it here.
            let settings = StsSettings { usage: StsUse::Observe, ..config.into() };
            let policies = StsPolicies::in_memory(&settings);
            Ok((dns.clone(), MtaSts::new(settings::policy_hosts(config, dns, &roots), settings, policies)))
        })?;
        Ok(Self { runtime, dns, sts, found: BTreeMap::new() })
    }

    /// The policy as it is now; none for a kind that is nowhere published.
    pub(super) fn look_up(&mut self, policy: &ReceivedPolicy) -> Option<PublishedPolicy> {
        let sought = PolicySought::of(policy)?;
        if let Some(found) = self.found.get(&sought) {
            return Some(found.clone());
        }
        if self.found.len() >= MAX_LOOKUPS {
            return Some(PublishedPolicy::Unknown(format!(
                "{MAX_LOOKUPS} policies have been looked up, and no more are"
            )));
        }
        let looked_up = async {
            match &sought {
                PolicySought::Tlsa(names) => tlsa(&self.dns, names).await,
                PolicySought::Sts(domain) => sts(&self.sts, domain).await,
            }
        };
        let found = self.runtime.block_on(async { tokio::time::timeout(LIMIT, looked_up).await });
        let found = found.unwrap_or_else(|_| PublishedPolicy::Unknown("no answer in time".to_owned()));
        self.found.insert(sought, found.clone());
        Some(found)
    }
}

async fn tlsa(dns: &Stub, names: &[Name]) -> PublishedPolicy {
    let unknown = |failure: Failure| PublishedPolicy::Unknown(failure.to_string());
    for name in names {
        let Ok(owner) = Name::parse(&format!("_25._tcp.{name}")) else { continue };
        match dns.lookup(&owner, Rtype::TLSA).await {
            Err(failure) => return unknown(failure),
            Ok(found) if found.answer.records().is_empty() => {}
            Ok(found) if found.security() == Security::Insecure => {
                return PublishedPolicy::Unknown(format!(
                    "the TLSA records of {owner} are not signed, and do not count"
                ));
            }
            Ok(found) => return PublishedPolicy::Texts(found.answer.records().to_vec()),
        }
    }
    PublishedPolicy::Texts(Vec::new())
}

async fn sts(sts: &MtaSts<Stub>, domain: &Name) -> PublishedPolicy {
    match sts.policy_for(domain, Instant::now() + LIMIT).await {
        StsFound::InForce(in_force) => PublishedPolicy::Texts(in_force.policy.lines()),
        StsFound::Absent(_) | StsFound::Off => PublishedPolicy::Texts(Vec::new()),
        StsFound::Unfetched(error) => PublishedPolicy::Unknown(error.to_string()),
        StsFound::LookupFailed(failure) => PublishedPolicy::Unknown(failure.to_string()),
    }
}
