//! A resolver that records its questions and answers: the evidence for the decisions about one exchange.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::dns::stub::Stub;
use crate::dns::{
    Failure, HostLookup, Lookup, Mx, Nat64Prefix, RawTlsa, RawTxt, Resolver, Rtype, Security, SignatureValidity,
};
use crate::name::Name;

/// An alias and a DNAME record above it may lie in several zones; the keys of so many are looked at.
const MAX_ZONES: usize = 4;

/// The answers of the DNS on which a decision rests.
#[derive(Debug, Clone, Default)]
pub(crate) struct RecordedAnswers {
    pub(crate) mx: Option<Result<Lookup<Mx>, Failure>>,
    pub(crate) host: Option<Result<HostLookup, Failure>>,
    /// The less secure of the two denials, for a host without addresses.
    pub(crate) denial: Option<Lookup<String>>,
    /// The owner names in the order they were asked.
    pub(crate) tlsa: Vec<(Name, Result<Lookup<RawTlsa>, Failure>)>,
    /// Of each secure one, and of the keys of its zone, the signature that ends first.
    pub(crate) signatures: Vec<(Name, Rtype, SignatureValidity)>,
}

/// The resolver of a delivery, watched.
#[derive(Clone)]
pub(crate) struct RecordingResolver {
    dns: Stub,
    recorded: Arc<Mutex<RecordedAnswers>>,
}

impl RecordingResolver {
    pub(crate) fn new(dns: &Stub) -> Self {
        Self { dns: dns.clone(), recorded: Arc::default() }
    }

    /// The answers so far.
    pub(crate) fn recorded(&self) -> RecordedAnswers {
        self.recorded.lock().clone()
    }

    /// Notes the signatures of records, and those of the keys of the zones that signed them: each ends by itself.
    async fn signature(&self, name: &Name, rtype: Rtype) {
        let Some(seen) = self.dns.seen_signatures(name, rtype).await else { return };
        self.note_signature(name, rtype, seen.first);
        for zone in seen.zones.iter().take(MAX_ZONES) {
            let is_noted = |(name, rtype, _): &(Name, Rtype, _)| (name, *rtype) == (zone, Rtype::DNSKEY);
            if self.recorded().signatures.iter().any(is_noted) {
                continue;
            }
            if let Some(keys) = self.dns.seen_signatures(zone, Rtype::DNSKEY).await {
                self.note_signature(zone, Rtype::DNSKEY, keys.first);
            }
        }
    }

    fn note_signature(&self, name: &Name, rtype: Rtype, first: SignatureValidity) {
        self.note(|recorded| recorded.signatures.push((name.clone(), rtype, first)));
    }

    /// The denials on which "no address" rests: the resolver has them in its cache.
    async fn denial(&self, name: &Name) {
        let (v4, v6) = tokio::join!(self.dns.lookup(name, Rtype::A), self.dns.lookup(name, Rtype::AAAA));
        let is_insecure = |found: &Lookup<String>| found.security() == Security::Insecure;
        if let (Ok(v4), Ok(v6)) = (v4, v6) {
            let denial = if is_insecure(&v6) { v6 } else { v4 };
            self.note(|recorded| recorded.denial = Some(denial));
        }
    }

    fn note(&self, note: impl FnOnce(&mut RecordedAnswers)) {
        note(&mut self.recorded.lock());
    }
}

impl Resolver for RecordingResolver {
    async fn mx(&self, domain: &Name) -> Result<Lookup<Mx>, Failure> {
        let found = self.dns.mx(domain).await;
        if found.as_ref().is_ok_and(|found| found.security() == Security::Secure) {
            self.signature(domain, Rtype::MX).await;
        }
        self.note(|recorded| recorded.mx = Some(found.clone()));
        found
    }

    async fn host(&self, name: &Name) -> Result<HostLookup, Failure> {
        let found = self.dns.host(name).await;
        match &found {
            Ok(HostLookup::Found(host)) if host.security() == Security::Secure => {
                self.signature(name, Rtype::A).await;
                self.signature(name, Rtype::AAAA).await;
            }
            Ok(HostLookup::NoAddress(_)) => self.denial(name).await,
            Ok(HostLookup::Found(_) | HostLookup::NotInFamily(_)) | Err(_) => {}
        }
        self.note(|recorded| recorded.host = Some(found.clone()));
        found
    }

    async fn nat64(&self) -> Result<Option<Nat64Prefix>, Failure> {
        self.dns.nat64().await
    }

    async fn tlsa(&self, owner: &Name) -> Result<Lookup<RawTlsa>, Failure> {
        let found = self.dns.tlsa(owner).await;
        if found.as_ref().is_ok_and(|found| found.security() == Security::Secure) {
            self.signature(owner, Rtype::TLSA).await;
        }
        self.note(|recorded| recorded.tlsa.push((owner.clone(), found.clone())));
        found
    }

    async fn txt(&self, owner: &Name) -> Result<Lookup<RawTxt>, Failure> {
        self.dns.txt(owner).await
    }
}
