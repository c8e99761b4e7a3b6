//! The MTA-STS policies of a scenario, as they would be found, without any web host.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use danelaw::discovery::{StsFound, StsInForce, StsSource};
use danelaw::dns::{Failure, FailureReason, Finality, Rtype, Security};
use danelaw::mta_sts::{NoStsRecord, StsFetchError, StsId, StsPolicy, StsUse};
use danelaw::name::Name;
use danelaw::upstream::sts::{PolicyAnswer, PolicySource};
use tokio::time::Instant;

/// The policies, and the questions for them.
#[derive(Debug)]
pub(crate) struct Policies {
    usage: StsUse,
    found: HashMap<Name, StsFound>,
    /// Those that a domain has published since.
    newer: HashMap<Name, StsFound>,
    asked: Mutex<Vec<String>>,
}

/// A policy of this mode with these `mx` values.
pub(crate) fn policy(mode: &str, patterns: &[&str]) -> StsFound {
    let patterns: String = patterns.iter().map(|pattern| format!("mx: {pattern}\n")).collect();
    let text = format!("version: STSv1\nmode: {mode}\n{patterns}max_age: 86400\n");
    let age = Duration::from_secs(3 * 60 * 60 + 25);
    StsFound::InForce(StsInForce {
        policy: Arc::new(StsPolicy::parse(text.as_bytes()).unwrap()),
        id: StsId::parse(b"20260101T0").unwrap(),
        fetched: SystemTime::now() - age,
        age,
        source: StsSource::Kept(Security::Insecure),
    })
}

/// There is no record.
pub(crate) fn absent() -> StsFound {
    StsFound::Absent(NoStsRecord::Absent)
}

/// There is a record, and no policy can be fetched.
pub(crate) fn unfetched() -> StsFound {
    StsFound::Unfetched(StsFetchError::Timeout)
}

/// There is a record, and the fallback of the resolver alone says that the policy host has no address.
pub(crate) fn denied_by_fallback() -> StsFound {
    let name = Name::parse("mta-sts.example.test").unwrap();
    let failure = Finality::Provisional.failure(&name, Rtype::A).unwrap();
    StsFound::Unfetched(StsFetchError::Dns(failure))
}

/// The record cannot be looked up.
pub(crate) fn failed(reason: FailureReason) -> StsFound {
    let name = Name::parse("_mta-sts.example.test").unwrap();
    StsFound::LookupFailed(Failure { name, rtype: "TXT".parse().unwrap(), reason })
}

impl Default for Policies {
    fn default() -> Self {
        let (found, newer, asked) = Default::default();
        Self { usage: StsUse::Enforce, found, newer, asked }
    }
}

impl Policies {
    /// The same, which are not held to.
    pub(crate) fn told(self) -> Self {
        Self { usage: StsUse::Observe, ..self }
    }

    /// None, as without MTA-STS.
    pub(crate) fn off() -> Self {
        Self { usage: StsUse::Off, ..Self::default() }
    }

    pub(crate) fn with(mut self, domain: &str, found: StsFound) -> Self {
        self.found.insert(Name::parse(domain).unwrap(), found);
        self
    }

    pub(crate) fn newer(mut self, domain: &str, found: StsFound) -> Self {
        self.newer.insert(Name::parse(domain).unwrap(), found);
        self
    }

    /// The questions so far; those for a newer policy have a mark.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl PolicySource for Policies {
    fn usage(&self) -> StsUse {
        self.usage
    }

    fn policy<'a>(&'a self, domain: &'a Name, _until: Instant) -> PolicyAnswer<'a, StsFound> {
        self.asked.lock().unwrap().push(domain.to_string());
        let found = match self.usage {
            StsUse::Off => StsFound::Off,
            StsUse::Enforce | StsUse::Observe => self.found.get(domain).cloned().unwrap_or_else(absent),
        };
        Box::pin(std::future::ready(found))
    }

    fn newer<'a>(
        &'a self,
        domain: &'a Name,
        _at_hand: &'a StsInForce,
        _until: Instant,
    ) -> PolicyAnswer<'a, Option<StsInForce>> {
        self.asked.lock().unwrap().push(format!("{domain} again"));
        let newer = self.newer.get(domain).and_then(|found| found.in_force().cloned());
        Box::pin(std::future::ready(newer))
    }
}
