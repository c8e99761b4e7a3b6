//! The resolver that validates in this process, whatever the configured name servers say about validity.
//!
//! The DNS library verifies signatures, up to the root's keys, and says of each record set whether it is secure. What
//! the record sets prove is decided by [`hops`](super::hops), one question and one reply at a time. Only this file and
//! its submodules know the library.
//!
//! | the library says | it is |
//! |---|---|
//! | records or a denial, secure | an answer, once the rules of `hops` agree |
//! | records or a denial, insecure | an answer, once the unsigned delegation above the name is found and proven |
//! | bogus, indeterminate, an error, an unknown error, nothing in time | a failure |
//!
//! So "insecure" never rests on the library's word alone: a name is in an unsigned zone if signed records of a parent
//! say so about one of its ancestors (RFC 4035 §5.2), and those records are asked for and read here.

pub(super) mod convert;
mod upstream;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

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
use rustls::ClientConfig;

use self::convert::{failure, library_name, nsec3_hash};
use self::upstream::{MAX_ACTIVE_REQUESTS, Upstream};
use super::cache::Lasting;
use super::hops::{Hop, Question, Status, judge, unsigned_delegation};
use super::reply::{LibraryVerdict, Reply, Rtype};
use super::server::{Server, Transport};
use super::setup::{Settings, SetupError};
use super::{FailureReason, Security};

/// Directives for a log filter: the library reports each oddity of each reply with the reply in full, so that a
/// stranger's zone could fill the log. What matters of it is in our own events.
pub const QUIET: &str = "hickory_net=off,hickory_proto=off,hickory_resolver=off";

/// The keys of the root that everything is proven from.
#[derive(Clone)]
pub(super) struct Anchors(Arc<TrustAnchors>);

impl Anchors {
    /// Those of the file, else IANA's.
    pub(super) fn read(path: Option<&Path>) -> Result<Self, SetupError> {
        let anchors = path.map_or_else(|| Ok(TrustAnchors::default()), read_anchors)?;
        Ok(Self(Arc::new(anchors)))
    }
}

/// Trusts nothing but signatures.
pub(super) struct Validating {
    handle: DnssecDnsHandle<Upstream>,
    /// Whose last clone goes takes the library's background tasks along.
    _runtime: TokioRuntimeProvider,
}

impl Validating {
    /// Prepares to ask these servers; nothing is asked yet. Must be called inside of a tokio runtime.
    pub(super) fn new(servers: &[Server], settings: &Settings, (anchors, tls): (&Anchors, &ClientConfig)) -> Self {
        let mut options = ResolverOpts::default();
        options.timeout = settings.timeout;
        options.max_active_requests = MAX_ACTIVE_REQUESTS;
        let runtime = TokioRuntimeProvider::default();
        let servers = servers.iter().map(name_server);
        let context = PoolContext::new(options, TlsConfig { config: tls.clone() });
        let pool = NameServerPool::from_config(servers, Arc::new(context), runtime.clone());
        // The library counts retries, not attempts.
        let upstream = Upstream::new(RetryDnsHandle::new(pool, settings.attempts.saturating_sub(1)));
        let handle = DnssecDnsHandle::with_trust_anchor(upstream, Arc::clone(&anchors.0))
            // See `upstream`: no verdict is taken from a memory.
            .validation_cache_size(0)
            // The library calls a zone insecure between its two limits. Between equal limits there is nothing.
            .nsec3_iteration_limits(Some(super::denial::MAX_ITERATIONS), Some(super::denial::MAX_ITERATIONS));
        Self { handle, _runtime: runtime }
    }

    /// What is true of one name, and for how long: the reply judged, and its claims settled.
    ///
    /// # Errors
    /// Nothing is proven.
    pub(super) async fn hop(&self, question: &Question) -> Result<Lasting<Hop<Security>>, FailureReason> {
        let reply = self.ask(question).await?;
        let mut ttl = reply.ttl;
        // RFC 7672 §2.1.3: each link of a chain has a status of its own.
        let value = match judge(question, &reply, nsec3_hash)? {
            Hop::Records(records, status) => Hop::Records(records, self.settle(status, &mut ttl).await?),
            Hop::Alias(target, status) => Hop::Alias(target, self.settle(status, &mut ttl).await?),
            Hop::Denied(denied, status) => Hop::Denied(denied, self.settle(status, &mut ttl).await?),
        };
        Ok(Lasting { value, ttl })
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
}

fn name_server(server: &Server) -> NameServerConfig {
    let mut connections = match &server.transport {
        Transport::Plain => vec![ConnectionConfig::udp(), ConnectionConfig::tcp()],
        Transport::Tls(name) => vec![ConnectionConfig::tls(name.as_str().into())],
    };
    for connection in &mut connections {
        connection.port = server.address.port();
    }
    NameServerConfig::new(server.address.ip(), true, connections)
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
