//! The resolver that danelaw uses: a security-aware stub (RFC 4033 §2), validating or not as its settings say.
//!
//! A lookup asks one name at a time and follows aliases to the end, within one deadline; the
//! [`backend`](super::backend) answers for each name with the security of that answer alone, and one name without an
//! answer fails the whole lookup (RFC 7672 §2.1.3). Finished lookups are kept, and callers with the same question wait
//! for the one lookup in flight ([`memory`](super::memory)).
//!
//! The self-test ([`selftest`](super::selftest)) decides which servers are asked: while one passes, those that fail are
//! not asked. If none passes, a validating stub goes on with all of them, since signatures tell right from wrong and a
//! server that recovers is of use at once. A stub that trusts the AD bit then asks none: a server that does not
//! validate would call every zone insecure, and switch DANE off without notice. Each verdict is taken up as it comes, so
//! that a dead server delays no other; with it an [epoch](super::fitness) begins, in which no older result is remembered.
//!
//! If none passes and the settings have a fallback that does, the fallback serves in either mode: danelaw asks the root
//! and the authoritative servers itself, and validates. The configured servers may have names that the public DNS denies, and
//! addresses for hosts that have none there, so that each answer is [`Provisional`](Finality::Provisional) then: no mail is returned
//! to its sender by it.

mod log;
mod round;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::time::Instant;

use super::answers::{self, DnsResult};
use super::backend::{Backend, BackendFactory};
use super::budget::LookupBudget;
use super::cache::{CacheBounds, WithTtl};
use super::denial::Denied;
use super::fitness::Fitness;
use super::links::{AliasChain, Link, Question};
use super::memory::Memory;
use super::nat64::IPV4_ONLY;
use super::query::Purpose;
use super::reply::{Data, Rtype, SeenSignatures};
use super::selftest::{Health, SelfTested, ServerState};
use super::server::{NameServer, ResolverMode};
use super::setup::{ResolverSettings, ResolverSetupError};
use super::special::{ResolverUse, SpecialUse, never_asked, special_use};
pub use super::validating::QUIET;
use super::validating::convert;
use super::{
    Answer, Failure, FailureReason, Families, Finality, HostLookup, Lookup, Mx, Nat64, Nat64Prefix,
    NegativeTrustAnchors, RawTlsa, RawTxt, Resolver, Security,
};
use crate::name::Name;

use log::{report, warn_of};
use round::TestRound;

/// How often the list of the system's resolvers is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How soon a server that fails is tested again.
const RETEST_AFTER: Duration = Duration::from_secs(15);
/// The least time between two tests, where a server is doubted.
const DOUBT_AFTER: Duration = Duration::from_secs(1);

/// The question of a lookup.
type LookupKey = (Name, Rtype);

/// A security-aware stub resolver. Clones share everything.
#[derive(Clone)]
pub struct Stub {
    inner: Arc<StubInner>,
}

struct StubInner {
    factory: BackendFactory,
    in_use: RwLock<Arc<InUse>>,
    memory: Memory<LookupKey, Lookup<Data>>,
    health: watch::Sender<Health>,
    last_test: watch::Sender<Option<SelfTested>>,
    fitness: Arc<Fitness>,
    /// Answers that a negative trust anchor made insecure.
    unvalidated: AtomicU64,
}

/// The servers that are asked.
struct InUse {
    backend: Backend,
    /// That of their answers.
    finality: Finality,
}

impl Stub {
    /// Prepares the resolver; nothing is asked yet. Must be called inside of a tokio runtime.
    ///
    /// In [`ResolverMode::TrustAd`] every lookup fails until the first [`self_test`](Self::self_test) has found a
    /// server whose AD bit may be trusted.
    ///
    /// # Errors
    /// A setting that the operator has to change.
    pub fn new(settings: &ResolverSettings) -> Result<Self, ResolverSetupError> {
        let factory = BackendFactory::new(settings.clone())?;
        let usable = factory.settings.first_servers()?;
        warn_of(&usable);
        let health = Health::untested(usable.servers, settings.fallback_server());
        let fitness = Arc::default();
        let in_use = RwLock::new(Arc::new(InUse::of(&factory, &health, &fitness)));
        let bounds = CacheBounds { entries: settings.memory.entries, octets: settings.memory.octets };
        let (memory, health) = (Memory::of(bounds, Arc::clone(&fitness)), watch::Sender::new(health));
        let unvalidated = AtomicU64::new(0);
        let last_test = watch::Sender::new(None);
        Ok(Self { inner: Arc::new(StubInner { factory, in_use, memory, health, last_test, fitness, unvalidated }) })
    }

    /// The state of each server, as the last self-test found it; to read at any time, or to wait for a change.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.inner.health.subscribe()
    }

    /// The last self-test that has ended.
    pub fn last_test(&self) -> Option<SelfTested> {
        *self.inner.last_test.borrow()
    }

    /// The zones below which nothing is validated.
    pub fn negative_trust_anchors(&self) -> &NegativeTrustAnchors {
        &self.inner.factory.settings.negative
    }

    /// How many questions of one type for one name were answered from memory, joined a lookup under way, and were asked.
    pub fn questions(&self) -> [u64; 3] {
        self.inner.memory.counts()
    }

    /// How many answers were taken without validation, because a negative trust anchor covers the name. An answer from memory
    /// is not counted again.
    pub fn negative_anchor_answers(&self) -> u64 {
        self.inner.unvalidated.load(Ordering::Relaxed)
    }

    /// Tests every server once and takes into use those that pass, each as soon as it has. The fallback serves where none
    /// has passed in time.
    pub async fn self_test(&self) {
        let (factory, began) = (&self.inner.factory, Instant::now());
        let servers = factory.settings.current_servers().map(|usable| usable.servers).unwrap_or_else(|_| {
            // The last good list is better than none: the file may be about to be written.
            self.inner.health.borrow().servers.iter().map(|server| server.server.clone()).collect()
        });
        let health = self.inner.health.borrow().of_list(&servers);
        let round = TestRound::new(factory, servers);
        let health = round.run(health, |health| {
            // The servers of an old list serve until one of the new list passes.
            if health.resolves() || !self.inner.health.borrow().resolves() || self.inner.trusts_in_vain(health) {
                self.inner.take_up(health.clone());
            }
        });
        let health = health.await;
        let resolves = health.resolves();
        self.inner.take_up(health);
        self.inner.last_test.send_replace(Some(SelfTested { began, resolves }));
    }

    /// Tests every server, and returns as soon as one passes or all have failed; those that are not tested by then stay so.
    pub async fn first_pass(&self) {
        let mut health = self.health();
        tokio::select! {
            () = self.self_test() => {}
            _ = health.wait_for(|health| !health.is_open()) => {}
        }
    }

    /// Tests every server now and from time to time, and follows the list of the system's resolvers. Never ends.
    pub async fn keep_testing(self, every: Duration) {
        let settings = &self.inner.factory.settings;
        let listed = || settings.current_servers().map_err(|error| error.to_string());
        let mut last = listed();
        loop {
            let began = Instant::now();
            self.self_test().await;
            let due = if self.inner.health.borrow().all_good() { every } else { every.min(RETEST_AFTER) };
            let mut due = Instant::now() + due;
            let mut now = listed();
            while now == last && Instant::now() < due {
                let nap = if settings.servers.is_empty() { due.min(Instant::now() + LOOK_EVERY) } else { due };
                tokio::select! {
                    () = tokio::time::sleep_until(nap) => {}
                    // A lookup has seen that a server does not validate. Tests do not follow each other more closely.
                    () = self.inner.fitness.doubted() => due = due.min(began + DOUBT_AFTER),
                }
                now = listed();
            }
            if let Some(error) = now.as_ref().err().filter(|_| now != last) {
                tracing::error!(error, "the list of name servers is of no use; going on with the last one");
            }
            if let Some(usable) = now.as_ref().ok().filter(|_| now != last) {
                warn_of(usable);
            }
            last = now;
        }
    }

    /// The records of any type as in a master file: the records behind the four questions of [`Resolver`], for people.
    ///
    /// # Errors
    /// The same as those of [`Resolver`], by the same rules and under the same bounds.
    pub async fn lookup(&self, name: &Name, rtype: Rtype) -> Result<Lookup<String>, Failure> {
        answers::presented(name, rtype, self.find(name, rtype).await.as_ref().as_ref())
    }

    /// The signatures that a name server sends with the records of one type. They are not validated here: they tell how long the
    /// result of [`Resolver`] will hold. None if the reply shows no signature.
    pub async fn seen_signatures(&self, name: &Name, rtype: Rtype) -> Option<SeenSignatures> {
        let factory = &self.inner.factory;
        let servers = in_use(factory.settings.mode, &self.inner.health.borrow());
        let question = Question { name: name.into(), rtype };
        let octets = factory.ask(servers.first()?, &question).await.ok()?;
        convert::seen_signatures(&octets).ok()?
    }

    /// The addresses of one type.
    async fn addresses(&self, name: &Name, rtype: Rtype) -> Result<Lookup<IpAddr>, Failure> {
        answers::addresses(name, rtype, self.find(name, rtype).await.as_ref().as_ref())
    }

    /// Asks for one type, following aliases, within the deadline; or remembers.
    async fn find(&self, name: &Name, rtype: Rtype) -> Arc<DnsResult<Lookup<Data>>> {
        let inner = Arc::clone(&self.inner);
        let make = move |key: LookupKey| async move { inner.look_up(&key).await };
        self.inner.memory.find((name.clone(), rtype), make).await
    }
}

impl StubInner {
    /// Acts on what the self-test has found so far, and then makes it known. The servers in use change only if the test says so.
    fn take_up(&self, health: Health) {
        let mode = self.factory.settings.mode;
        let servers = in_use(mode, &health);
        let before = self.health.borrow().clone();
        if servers != in_use(mode, &before) {
            let in_use = Arc::new(InUse::of(&self.factory, &health, &self.fitness));
            *self.in_use.write() = in_use;
            // In this order: a question of the new epoch goes to the new servers.
            self.fitness.advance();
        }
        report(&before, &health);
        self.health.send_if_modified(|known| {
            let is_new = *known != health;
            *known = health;
            is_new
        });
    }

    /// Whether a server whose AD bit is trusted at this moment fails by now. It may have stopped validating, so that it is not
    /// asked until another verdict comes, nor are its words recalled (RFC 7672 §2.1.1). Signatures need no such haste.
    fn trusts_in_vain(&self, now: &Health) -> bool {
        let mode = self.factory.settings.mode;
        let fails = |server: &NameServer| matches!(now.state_of(server), Some(ServerState::Failed(_)));
        mode == ResolverMode::TrustAd && in_use(mode, &self.health.borrow()).iter().any(fails)
    }

    /// Answers one question about one name.
    async fn link(
        &self,
        backend: &Backend,
        question: &Question,
        name: &Name,
        budget: &mut LookupBudget,
    ) -> Result<WithTtl<Link<Security>>, FailureReason> {
        let now = OffsetDateTime::now_utc();
        let negative = self.factory.settings.negative.covering(name, now.date());
        match (special_use(name), negative) {
            (Some(special), _) if special.asked() == ResolverUse::Never => Ok(absent(Duration::MAX)),
            (_, Some(negative)) => {
                // RFC 6840 §5.9: with CD a server that validates keeps nothing back.
                let WithTtl { value, ttl } = backend.unvalidated(question, Purpose::Validate, budget).await?;
                self.unvalidated.fetch_add(1, Ordering::Relaxed);
                Ok(WithTtl { value, ttl: ttl.min(negative.until.time_left(now)) })
            }
            // RFC 7050 §3: with CD no DNS64 resolver makes addresses. No signature can prove those that it makes.
            (None, None) if name.as_str() == IPV4_ONLY => backend.unvalidated(question, Purpose::TrustAd, budget).await,
            (Some(special), None) => special_link(backend, question, special, budget).await,
            (None, None) => backend.link(question, budget).await,
        }
    }

    async fn look_up(&self, key: &LookupKey) -> (DnsResult<Lookup<Data>>, Duration) {
        let settings = &self.factory.settings;
        let mut ttl = settings.memory.answers;
        let found = tokio::time::timeout(settings.deadline, self.follow(key, &mut ttl)).await;
        let found = found.unwrap_or(Err(FailureReason::Timeout));
        let ttl = if found.is_ok() { ttl } else { settings.memory.failures };
        (found, ttl)
    }

    /// Follows aliases to the end. `ttl` becomes the least TTL on the way.
    async fn follow(&self, key: &LookupKey, ttl: &mut Duration) -> DnsResult<Lookup<Data>> {
        let (asked, rtype) = key;
        // A chain is followed through one set of servers.
        let in_use = Arc::clone(&self.in_use.read());
        let backend = &in_use.backend;
        // A name that no server is asked about is denied by none.
        let finality = never_asked(asked).map_or(in_use.finality, |_| Finality::Final);
        let (mut chain, mut budget) = (AliasChain::new(asked, *rtype), LookupBudget::new());
        loop {
            let name = chain.aliases.last().map_or(asked, |alias| &alias.target);
            let link = self.link(backend, &chain.question, name, &mut budget).await?;
            *ttl = link.ttl.min(*ttl);
            let (answer, end) = match link.value {
                Link::Alias(target, security) => {
                    chain.follow(target, security)?;
                    continue;
                }
                Link::Records(records, security) => (Answer::Records(records), security),
                Link::Denied(Denied::NoData, security) => (Answer::NoData, security),
                Link::Denied(Denied::NxDomain, security) => (Answer::NxDomain, security),
            };
            return Ok(Lookup { asked: asked.clone(), aliases: chain.aliases, end, answer, finality });
        }
    }
}

impl InUse {
    /// The servers that are asked in this state. Must be called inside of a tokio runtime.
    fn of(factory: &BackendFactory, health: &Health, fitness: &Arc<Fitness>) -> Self {
        let finality = if health.falls_back() { Finality::Provisional } else { Finality::Final };
        Self { backend: factory.backend(&in_use(factory.settings.mode, health), fitness), finality }
    }
}

impl Resolver for Stub {
    async fn mx(&self, domain: &Name) -> Result<Lookup<Mx>, Failure> {
        answers::mx(domain, self.find(domain, Rtype::MX).await.as_ref().as_ref())
    }

    async fn host(&self, name: &Name) -> Result<HostLookup, Failure> {
        match self.inner.factory.settings.families {
            Families::Any => {
                let (v4, v6) = tokio::join!(self.addresses(name, Rtype::A), self.addresses(name, Rtype::AAAA));
                answers::either_family(v4, v6)
            }
            only @ Families::Ipv4 => answers::one_family(self.addresses(name, Rtype::A).await, only),
            only @ Families::Ipv6 => answers::one_family(self.addresses(name, Rtype::AAAA).await, only),
        }
    }

    async fn nat64(&self) -> Result<Option<Nat64Prefix>, Failure> {
        match self.inner.factory.settings.nat64 {
            Nat64::Off => return Ok(None),
            Nat64::By(prefix) => return Ok(Some(prefix)),
            Nat64::Auto => {}
        }
        let Ok(name) = Name::parse(IPV4_ONLY) else { return Ok(None) };
        let found = self.addresses(&name, Rtype::AAAA).await?;
        let v6 = |address: &IpAddr| match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(v6) => Some(*v6),
        };
        let addresses: Vec<_> = found.answer.records().iter().filter_map(v6).collect();
        Ok(Nat64Prefix::discovered(&addresses))
    }

    async fn tlsa(&self, owner: &Name) -> Result<Lookup<RawTlsa>, Failure> {
        answers::tlsa(owner, self.find(owner, Rtype::TLSA).await.as_ref().as_ref())
    }

    async fn txt(&self, owner: &Name) -> Result<Lookup<RawTxt>, Failure> {
        answers::txt(owner, self.find(owner, Rtype::TXT).await.as_ref().as_ref())
    }
}

/// The name does not exist, and no zone can make it exist.
fn absent(ttl: Duration) -> WithTtl<Link<Security>> {
    WithTtl { value: Link::Denied(Denied::NxDomain, Security::Secure), ttl }
}

/// Answers one question about a special-use name (RFC 6761) that may exist, by the table of [`special`](super::special).
async fn special_link(
    backend: &Backend,
    question: &Question,
    special: &SpecialUse,
    budget: &mut LookupBudget,
) -> Result<WithTtl<Link<Security>>, FailureReason> {
    let failed = match backend.link(question, budget).await {
        Err(why @ (FailureReason::Bogus(_) | FailureReason::Refused(_) | FailureReason::Malformed(_))) => why,
        other => return other,
    };
    let Some(zone) = special.zone() else { return Err(failed) };
    // A resolver that serves the zone by itself answers the question for DS from the parent zone (RFC 4035 §3.1.4.1).
    let question = Question { name: (&zone).into(), rtype: Rtype::DS };
    match backend.link(&question, budget).await {
        Ok(WithTtl { value: Link::Denied(Denied::NxDomain, Security::Secure), ttl }) => Ok(absent(ttl)),
        Ok(_) | Err(_) => Err(failed),
    }
}

/// The servers to ask.
fn in_use(mode: ResolverMode, health: &Health) -> Vec<NameServer> {
    let of = |wanted: fn(&ServerState) -> bool| -> Vec<NameServer> {
        health.servers.iter().filter(|server| wanted(&server.state)).map(|server| server.server.clone()).collect()
    };
    if let Some(fallback) = health.fallback.as_ref().filter(|_| health.falls_back()) {
        return vec![fallback.server.clone()];
    }
    let good = of(|state| *state == ServerState::Good);
    match mode {
        ResolverMode::Validate if good.is_empty() => of(|_| true),
        // RFC 7672 §2.1.1: a resolver that cannot tell secure from insecure must not be used.
        ResolverMode::Validate | ResolverMode::TrustAd => good,
    }
}
