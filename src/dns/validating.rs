//! The resolver that validates in this process, whatever the configured name servers say about validity.
//!
//! The DNS library verifies signatures, up to the root's keys, and says of each record set whether it is secure. What
//! the record sets prove is decided by [`hops`](super::hops), one question and one reply at a time; following aliases
//! is done here. Only this file and its submodules know the library.
//!
//! | the library says | it is |
//! |---|---|
//! | records or a denial, secure | an answer, once the rules of `hops` agree |
//! | records or a denial, insecure | an answer, once the unsigned delegation above the name is found and proven |
//! | bogus, indeterminate, an error, an unknown error, nothing in time | a [`Failure`] |
//!
//! So "insecure" never rests on the library's word alone: a name is in an unsigned zone if signed records of a parent
//! say so about one of its ancestors (RFC 4035 §5.2), and those records are asked for and read here.

mod convert;
mod upstream;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverOpts};
use hickory_resolver::net::dnssec::DnssecDnsHandle;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::{DnsHandle, FirstAnswer, RetryDnsHandle};
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::dnssec::{PublicKeyBuf, TrustAnchors, Verifier};
use hickory_resolver::proto::op::{DnsRequestOptions, Query};
use hickory_resolver::proto::rr::{LowerName, RecordType};
use hickory_resolver::proto::serialize::txt::ParseError;
use hickory_resolver::proto::serialize::txt::trust_anchor::{Entry, Parser};
use hickory_resolver::{NameServerPool, PoolContext, TlsConfig};

pub use super::setup::{Settings, SetupError, system_servers};

use self::convert::{failure, library_name, nsec3_hash};
use self::upstream::{MAX_ACTIVE_REQUESTS, Upstream};
use super::cache::{Bounds, Cache, Lasting, Weight};
use super::denial::Denied;
use super::hops::{Chain, Hop, Question, Status, judge, unsigned_delegation};
use super::reply::{Data, LibraryVerdict, Reply, Rtype};
use super::{Answer, Failure, FailureReason, Host, HostLookup, Lookup, Mx, RawTlsa, Resolver, Security};
use crate::name::Name;

/// Directives for a log filter: the library reports each oddity of each reply with the reply in full, so that a stranger's
/// zone could fill the log. What matters of it is in our own events.
pub const QUIET: &str = "hickory_net=off,hickory_proto=off,hickory_resolver=off";

/// More MX records than this are a failure.
const MAX_MX: usize = 200;
/// More addresses of one family than this are a failure.
const MAX_ADDRESSES: usize = 100;
/// More TLSA records than this are a failure, and never "absent".
const MAX_TLSA: usize = 100;

/// How many lookups are remembered, once [`Validating::remembering`] asks for it.
const MEMORY: Bounds = Bounds { entries: 4096, octets: 16 << 20 };
/// How long an answer is remembered at most.
const MAX_TTL: Duration = Duration::from_secs(3600);
/// How long a failure is remembered (RFC 9520 §3.2: a second at least, five minutes at most).
const FAILURE_TTL: Duration = Duration::from_secs(10);

/// How a lookup ended.
type Found = Result<Lookup<Data>, FailureReason>;

impl Weight for Found {
    fn octets(&self) -> usize {
        let records = self.as_ref().map_or(0, |lookup| lookup.answer.records().len());
        size_of::<Self>() + records * 2 * size_of::<Data>()
    }
}

/// A resolver that trusts nothing but signatures.
#[derive(Clone)]
pub struct Validating {
    handle: DnssecDnsHandle<Upstream>,
    deadline: Duration,
    memory: Arc<Cache<(Name, Rtype), Found>>,
    /// Whose last clone goes takes the library's background tasks along.
    _runtime: TokioRuntimeProvider,
}

impl Validating {
    /// Prepares the resolver; nothing is asked yet. Must be called inside of a tokio runtime.
    ///
    /// # Errors
    /// What an operator has to change.
    pub fn new(settings: &Settings) -> Result<Self, SetupError> {
        if settings.servers.is_empty() {
            return Err(SetupError::NoServers);
        }
        let anchors = match &settings.trust_anchor {
            Some(path) => read_anchors(path)?,
            None => TrustAnchors::default(),
        };
        let mut options = ResolverOpts::default();
        options.timeout = settings.timeout;
        options.max_active_requests = MAX_ACTIVE_REQUESTS;
        let tls = TlsConfig::new().map_err(|error| SetupError::Library(error.to_string()))?;
        let runtime = TokioRuntimeProvider::default();
        let servers = settings.servers.iter().copied().map(name_server);
        let pool = NameServerPool::from_config(servers, Arc::new(PoolContext::new(options, tls)), runtime.clone());
        // The library counts retries, not attempts.
        let upstream = Upstream::new(RetryDnsHandle::new(pool, settings.attempts.saturating_sub(1)));
        let handle = DnssecDnsHandle::with_trust_anchor(upstream, Arc::new(anchors))
            // See `upstream`: no verdict is taken from a memory.
            .validation_cache_size(0)
            // The library calls a zone insecure between its two limits. Between equal limits there is nothing.
            .nsec3_iteration_limits(Some(super::denial::MAX_ITERATIONS), Some(super::denial::MAX_ITERATIONS));
        Ok(Self {
            handle,
            deadline: settings.deadline,
            memory: Arc::new(Cache::new(Bounds { entries: 0, octets: 0 })),
            _runtime: runtime,
        })
    }

    /// The same resolver with a memory of finished lookups, each for as long as its records allow.
    #[must_use]
    pub fn remembering(self) -> Self {
        Self { memory: Arc::new(Cache::new(MEMORY)), ..self }
    }

    /// Whether these servers can carry DNSSEC at all: the root's own SOA record must come out secure (RFC 7672 §2.1.1
    /// forbids to go on without).
    ///
    /// # Errors
    /// Why not. With such servers every lookup would fail, and no mail would leave.
    pub async fn probe(&self) -> Result<(), Failure> {
        let found = self.find(&Name::root(), Rtype::SOA).await?;
        match (found.end, found.answer) {
            (Security::Secure, Answer::Records(_)) => Ok(()),
            _ => Err(failed(&Name::root(), Rtype::SOA)(FailureReason::Bogus("the root is not signed".to_owned()))),
        }
    }

    /// Asks for one type, following aliases, within the deadline; or remembers.
    async fn find(&self, name: &Name, rtype: Rtype) -> Result<Lookup<Data>, Failure> {
        let key = (name.clone(), rtype);
        if let Some(found) = self.memory.get(&key, Instant::now()) {
            return (*found).clone().map_err(failed(name, rtype));
        }
        let mut ttl = MAX_TTL;
        let found = tokio::time::timeout(self.deadline, self.follow(&key, &mut ttl)).await;
        let found = found.unwrap_or(Err(FailureReason::Timeout));
        let ttl = if found.is_ok() { ttl } else { FAILURE_TTL };
        self.memory.put(key, Lasting { value: Arc::new(found.clone()), ttl }, Instant::now());
        found.map_err(failed(name, rtype))
    }

    /// Follows aliases to the end. `ttl` becomes the least TTL on the way.
    async fn follow(&self, (asked, rtype): &(Name, Rtype), ttl: &mut Duration) -> Found {
        let mut chain = Chain::new(asked.into());
        loop {
            let question = Question { name: chain.next.clone(), rtype: *rtype };
            let reply = self.ask(&question).await?;
            *ttl = reply.ttl.min(*ttl);
            let (answer, status) = match judge(&question, &reply, nsec3_hash)? {
                Hop::Alias(target, status) => {
                    // RFC 7672 §2.1.3: a chain fails as a whole, and each link has a status of its own.
                    let security = self.settle(status, ttl).await?;
                    chain.follow(target, security)?;
                    continue;
                }
                Hop::Records(records, status) => (Answer::Records(records), status),
                Hop::Denied(Denied::NoData, status) => (Answer::NoData, status),
                Hop::Denied(Denied::NxDomain, status) => (Answer::NxDomain, status),
            };
            let end = self.settle(status, ttl).await?;
            return Ok(Lookup { asked: asked.clone(), aliases: chain.aliases, end, answer });
        }
    }

    /// One question, one reply.
    async fn ask(&self, question: &Question) -> Result<Reply, FailureReason> {
        let query = Query::query(library_name(&question.name)?, RecordType::from(question.rtype.0));
        // RFC 4035 §3.2.1: with DO; the library adds AD and never sets CD (RFC 6840 §5.7, §5.9).
        let mut options = DnsRequestOptions::default();
        options.use_edns = true;
        options.edns_set_dnssec_ok = true;
        options.recursion_desired = true;
        match self.handle.lookup(query, options).first_answer().await {
            Ok(response) => convert::reply(&response, LibraryVerdict::Accepted),
            // The library's check of denials covers the whole reply, and rejects good ones that also hold denials of
            // other names. The record sets are judged by themselves; a denial is not believed then.
            Err(NetError::Dns(DnsError::Nsec { response, .. })) => convert::reply(&response, LibraryVerdict::Rejected),
            Err(error) => Err(failure(&error)),
        }
    }

    /// Turns a claim of insecurity into knowledge: finds the ancestor, top down, that a signed parent delegates
    /// unsigned (RFC 4035 §4.3, §5.2).
    async fn settle(&self, status: Status, ttl: &mut Duration) -> Result<Security, FailureReason> {
        let claimed = match status {
            Status::Proven(security) => return Ok(security),
            Status::Claimed(name) => name,
        };
        for depth in 1..=claimed.depth() {
            let question = Question { name: claimed.ancestor(depth), rtype: Rtype::DS };
            let reply = self.ask(&question).await?;
            *ttl = reply.ttl.min(*ttl);
            if unsigned_delegation(&question.name, &reply, nsec3_hash)? {
                return Ok(Security::Insecure);
            }
        }
        Err(FailureReason::Bogus(format!("no unsigned delegation above {claimed}, and no signature")))
    }

    /// The addresses of one family.
    async fn addresses(&self, name: &Name, rtype: Rtype) -> Result<Lookup<IpAddr>, Failure> {
        typed(self.find(name, rtype).await?, rtype, MAX_ADDRESSES, |data| match data {
            Data::Address(address) => Some(address),
            _ => None,
        })
    }
}

impl Resolver for Validating {
    async fn mx(&self, domain: &Name) -> Result<Lookup<Mx>, Failure> {
        typed(self.find(domain, Rtype::MX).await?, Rtype::MX, MAX_MX, |data| match data {
            Data::Mx(mx) => Some(mx),
            _ => None,
        })
    }

    async fn host(&self, name: &Name) -> Result<HostLookup, Failure> {
        let (v4, v6) = tokio::join!(self.addresses(name, Rtype::A), self.addresses(name, Rtype::AAAA));
        either_family(v4, v6)
    }

    async fn tlsa(&self, owner: &Name) -> Result<Lookup<RawTlsa>, Failure> {
        typed(self.find(owner, Rtype::TLSA).await?, Rtype::TLSA, MAX_TLSA, |data| match data {
            Data::Tlsa(tlsa) => Some(tlsa),
            _ => None,
        })
    }
}

/// What two lookups say about a host. A family that fails does no harm while the other has addresses; a family that is
/// merely absent cannot stand in for one that failed.
fn either_family(
    v4: Result<Lookup<IpAddr>, Failure>,
    v6: Result<Lookup<IpAddr>, Failure>,
) -> Result<HostLookup, Failure> {
    let has_address = |found: &Result<Lookup<IpAddr>, Failure>| {
        found.as_ref().is_ok_and(|lookup| !lookup.answer.records().is_empty())
    };
    match (has_address(&v4), has_address(&v6)) {
        (true, true) => Ok(HostLookup::Found(both_families(v4?, v6?))),
        (true, false) => Ok(HostLookup::Found(host(v4?))),
        (false, true) => Ok(HostLookup::Found(host(v6?))),
        // RFC 7672 §2.1.2: only two answers of "none" are the answer "none".
        (false, false) => v4.and(v6).map(|_| HostLookup::NoAddress),
    }
}

/// One host out of two families, which were asked at different moments. If they came over different aliases, or differ
/// in their security, only the family that is surer is used: the status of a host is one (RFC 7672 §2.2.2).
fn both_families(v4: Lookup<IpAddr>, v6: Lookup<IpAddr>) -> Host {
    if v4.aliases == v6.aliases && v4.end == v6.end {
        let further = v6.answer.records().to_vec();
        let mut host = host(v4);
        host.addresses.extend(further);
        return host;
    }
    let first = |lookup: &Lookup<IpAddr>| lookup.aliases.first().map_or(lookup.end, |alias| alias.security);
    let surer = (v6.security(), first(&v6)) > (v4.security(), first(&v4));
    host(if surer { v6 } else { v4 })
}

fn host(found: Lookup<IpAddr>) -> Host {
    let addresses = found.answer.records().to_vec();
    Host { name: found.asked, aliases: found.aliases, end: found.end, addresses }
}

/// Reads the records of a lookup as what they must be.
fn typed<T>(
    found: Lookup<Data>,
    rtype: Rtype,
    limit: usize,
    read: impl Fn(Data) -> Option<T>,
) -> Result<Lookup<T>, Failure> {
    let Lookup { asked, aliases, end, answer } = found;
    let fail = failed(&asked, rtype);
    let answer = match answer {
        Answer::NoData => Answer::NoData,
        Answer::NxDomain => Answer::NxDomain,
        Answer::Records(records) if records.len() > limit => return Err(fail(FailureReason::TooManyRecords(limit))),
        Answer::Records(records) => match records.into_iter().map(read).collect::<Option<Vec<T>>>() {
            Some(records) => Answer::Records(records),
            None => return Err(fail(FailureReason::Malformed("records of another type".to_owned()))),
        },
    };
    Ok(Lookup { asked, aliases, end, answer })
}

fn failed(name: &Name, rtype: Rtype) -> impl FnOnce(FailureReason) -> Failure + use<> {
    let (name, rtype) = (name.clone(), rtype.label());
    move |reason| Failure { name, rtype, reason }
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
    for connection in &mut connections {
        connection.port = address.port();
    }
    NameServerConfig::new(address.ip(), true, connections)
}

/// Reads DNSKEY records; a key that may not sign zones or is revoked is no anchor (RFC 4034 §2.1.1, RFC 5011 §2.1).
fn read_anchors(path: &Path) -> Result<TrustAnchors, SetupError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| SetupError::Unreadable { path: path.to_owned(), source })?;
    let bad = |why: String| SetupError::BadAnchors { path: path.to_owned(), why };
    let entries = Parser::new(text).parse().map_err(|error| match error {
        ParseError::UnsupportedRecordType(RecordType::DS) => SetupError::DsAnchors(path.to_owned()),
        other => bad(other.to_string()),
    })?;
    let mut anchors = TrustAnchors::empty();
    for entry in entries {
        let Entry::DNSKEY(record) = entry else { continue };
        let dnskey = record.data();
        if dnskey.revoke() || !dnskey.zone_key() {
            continue;
        }
        let key = dnskey.key().map_err(|error| bad(error.to_string()))?;
        let key = PublicKeyBuf::new(key.public_bytes().to_vec(), dnskey.algorithm());
        anchors.insert_with_name(&key, LowerName::from(record.name()));
    }
    if anchors.is_empty() { Err(SetupError::NoAnchors(path.to_owned())) } else { Ok(anchors) }
}
