//! The way to the name servers below the validator: bounded, and without what is never used.
//!
//! The validator fetches the keys and delegations above a name again for every record set it checks. They are
//! remembered here for a short time, *as they came*: nothing in this memory has been validated, and each use of it is
//! validated anew. So a forged reply in it can make a lookup fail for that time, and do nothing else.
//!
//! The library's own memory of finished validations is switched off in exchange. It finds a verdict by 64 bits of an
//! unkeyed hash of the records, and a verdict should rest on more than that.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{self, Stream};
use hickory_resolver::NameServerPool;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::{DnsHandle, FirstAnswer, RetryDnsHandle};
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::op::{DnsRequest, DnsResponse, Query, ResponseCode};
use hickory_resolver::proto::rr::{Record, RecordType};
use hickory_resolver::proto::serialize::binary::BinEncodable;
use tokio::sync::Semaphore;

use super::super::cache::{Bounds, Cache, Lasting, Weight};

/// How many questions may be on their way at once.
const IN_FLIGHT: usize = 200;
/// What the pool allows on one connection. The library spins while a connection is at its limit, so it never is.
pub(super) const MAX_ACTIVE_REQUESTS: usize = IN_FLIGHT + 56;
/// How many replies about keys and delegations are remembered, and how much of them.
const MEMORY: Bounds = Bounds { entries: 4096, octets: 16 << 20 };
/// How long at most (RFC 9520 §3.2 bounds failures by 5 minutes; a forged reply is one).
const MEMORY_TTL: Duration = Duration::from_secs(60);

/// A reply, or the library's word for an empty one.
type Exchange = Result<DnsResponse, NetError>;

/// Asks the configured servers.
#[derive(Clone)]
pub(super) struct Upstream {
    pool: RetryDnsHandle<NameServerPool<TokioRuntimeProvider>>,
    permits: Arc<Semaphore>,
    memory: Arc<Cache<Query, Exchange>>,
}

impl Upstream {
    pub(super) fn new(pool: RetryDnsHandle<NameServerPool<TokioRuntimeProvider>>) -> Self {
        Self { pool, permits: Arc::new(Semaphore::new(IN_FLIGHT)), memory: Arc::new(Cache::new(MEMORY)) }
    }

    async fn exchange(self, request: DnsRequest) -> Exchange {
        let query = request.queries.first().cloned().ok_or(NetError::Message("a request without a question"))?;
        if let Some(remembered) = self.memory.get(&query, Instant::now()) {
            return (*remembered).clone();
        }
        let reply = {
            // The semaphore is never closed; should that change, the lookup fails.
            let _permit = self.permits.acquire().await.map_err(|_| NetError::NoConnections)?;
            self.pool.send(request).first_answer().await
        };
        let reply = reply.map(|response| relevant(response, &query));
        if let Some(ttl) = memory_ttl(&query, &reply) {
            self.memory.put(query.clone(), Lasting { value: Arc::new(reply.clone()), ttl }, Instant::now());
        }
        tolerant(reply, &query)
    }
}

impl DnsHandle for Upstream {
    type Response = Pin<Box<dyn Stream<Item = Exchange> + Send>>;
    type Runtime = TokioRuntimeProvider;

    fn send(&self, request: DnsRequest) -> Self::Response {
        Box::pin(stream::once(self.clone().exchange(request)))
    }
}

/// Leaves out what is never used, each set of which would be validated at the price of several questions: additional
/// records, authority records that deny nothing, and answers about names further down a chain of aliases, which are
/// asked for afresh. Answers that are all about something else stay: the reply must not look empty.
fn relevant(mut response: DnsResponse, query: &Query) -> DnsResponse {
    response.additionals.clear();
    if response.answers.iter().any(|record| answers(record, query) && record.record_type() != RecordType::RRSIG) {
        response.answers.retain(|record| answers(record, query));
    }
    if query.query_type() != RecordType::NS {
        response.authorities.retain(|record| {
            matches!(record.record_type(), RecordType::SOA | RecordType::NSEC | RecordType::NSEC3 | RecordType::RRSIG)
        });
    }
    response
}

/// Whether a record is at the asked name, or is a DNAME above it (RFC 6672 §3.2) or a signature up there.
fn answers(record: &Record, query: &Query) -> bool {
    let redirects = matches!(record.record_type(), RecordType::DNAME | RecordType::RRSIG);
    record.name == query.name || redirects && record.name.zone_of(&query.name)
}

/// The validator looks for the cut above an unsigned name by asking for NS records from that name upwards, and believes
/// the unsigned replies just as far as to look further up where there are none. Servers that know only addresses fail
/// on such questions, which says as little as "none".
fn tolerant(reply: Exchange, query: &Query) -> Exchange {
    match reply {
        Err(_) if query.query_type() == RecordType::NS => {
            Err(NoRecords::new(query.clone(), ResponseCode::NoError).into())
        }
        other => other,
    }
}

/// How long a reply is remembered; `None` for anything but keys, delegations and their denials.
fn memory_ttl(query: &Query, reply: &Exchange) -> Option<Duration> {
    if !matches!(query.query_type(), RecordType::DNSKEY | RecordType::DS | RecordType::NS) {
        return None;
    }
    let ttl = match reply {
        Ok(response) => least_ttl(response.answers.iter().chain(&response.authorities)),
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) => {
            // A referral is no denial, and may come with any number of addresses.
            let is_referral = none.ns.as_ref().is_some_and(|ns| !ns.is_empty());
            if is_referral { None } else { least_ttl(authorities(none)) }
        }
        Err(_) => None,
    };
    ttl.map(|ttl| ttl.min(MEMORY_TTL))
}

fn authorities(none: &NoRecords) -> impl Iterator<Item = &Record> {
    none.authorities.iter().flat_map(|all| all.iter())
}

/// The octets of records outside of a message; of one that cannot be written, as many as there can be.
fn octets<'a>(records: impl Iterator<Item = &'a Record>) -> usize {
    records.map(|record| record.to_bytes().map_or(usize::from(u16::MAX), |octets| octets.len())).sum()
}

fn least_ttl<'a>(records: impl Iterator<Item = &'a Record>) -> Option<Duration> {
    records.map(|record| record.ttl).min().map(|seconds| Duration::from_secs(seconds.into()))
}

impl Weight for Exchange {
    fn octets(&self) -> usize {
        // The message as it came, and the same once more as values, which take about four times as much.
        match self {
            Ok(response) => 5 * response.as_buffer().len(),
            Err(NetError::Dns(DnsError::NoRecordsFound(none))) => {
                let records = authorities(none).count() * size_of::<Record>();
                size_of::<NoRecords>() + records + 4 * octets(authorities(none))
            }
            Err(_) => size_of::<NetError>(),
        }
    }
}
