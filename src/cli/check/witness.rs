//! A resolver that remembers what it was asked and what it said: what the decisions of one exchange rest on.

use std::sync::{Arc, Mutex, PoisonError};

use crate::dns::stub::Stub;
use crate::dns::{Failure, HostLookup, Lookup, Mx, RawTlsa, Resolver, Rtype, Security, SignatureValidity};
use crate::name::Name;

/// What the DNS was asked on the way to a decision.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    pub(super) mx: Option<Result<Lookup<Mx>, Failure>>,
    pub(super) host: Option<Result<HostLookup, Failure>>,
    /// The owner names in the order they were asked.
    pub(super) tlsa: Vec<(Name, Result<Lookup<RawTlsa>, Failure>)>,
    /// Of the secure ones, the signature that ends first.
    pub(super) signatures: Vec<(Name, Rtype, SignatureValidity)>,
}

/// The resolver of a delivery, watched.
#[derive(Clone)]
pub(super) struct Witness {
    dns: Stub,
    seen: Arc<Mutex<Seen>>,
}

impl Witness {
    pub(super) fn new(dns: &Stub) -> Self {
        Self { dns: dns.clone(), seen: Arc::default() }
    }

    /// What was seen so far.
    pub(super) fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn signature(&self, name: &Name, rtype: Rtype) {
        if let Some(validity) = self.dns.first_to_end(name, rtype).await {
            self.note(|seen| seen.signatures.push((name.clone(), rtype, validity)));
        }
    }

    fn note(&self, note: impl FnOnce(&mut Seen)) {
        note(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Resolver for Witness {
    async fn mx(&self, domain: &Name) -> Result<Lookup<Mx>, Failure> {
        let found = self.dns.mx(domain).await;
        if found.as_ref().is_ok_and(|found| found.security() == Security::Secure) {
            self.signature(domain, Rtype::MX).await;
        }
        self.note(|seen| seen.mx = Some(found.clone()));
        found
    }

    async fn host(&self, name: &Name) -> Result<HostLookup, Failure> {
        let found = self.dns.host(name).await;
        if let Ok(HostLookup::Found(host)) = &found
            && host.security() == Security::Secure
        {
            self.signature(name, Rtype::A).await;
            self.signature(name, Rtype::AAAA).await;
        }
        self.note(|seen| seen.host = Some(found.clone()));
        found
    }

    async fn tlsa(&self, owner: &Name) -> Result<Lookup<RawTlsa>, Failure> {
        let found = self.dns.tlsa(owner).await;
        if found.as_ref().is_ok_and(|found| found.security() == Security::Secure) {
            self.signature(owner, Rtype::TLSA).await;
        }
        self.note(|seen| seen.tlsa.push((owner.clone(), found.clone())));
        found
    }
}
