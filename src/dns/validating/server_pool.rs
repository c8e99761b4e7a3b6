//! The name servers below the validator: a bounded pool that drops the unused parts of replies.

use std::sync::Arc;
use std::time::Instant;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverOpts};
use hickory_resolver::net::xfer::{DnsHandle, FirstAnswer, RetryDnsHandle};
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::op::{DnsRequest, DnsRequestOptions, Message, Query};
use hickory_resolver::proto::rr::rdata::opt::EdnsOption;
use hickory_resolver::proto::rr::{Name, Record, RecordType};
use hickory_resolver::proto::serialize::binary::BinEncodable;
use hickory_resolver::{NameServerPool, PoolContext, TlsConfig};
use rustls::ClientConfig;
use tokio::sync::Semaphore;

use super::super::FailureReason;
use super::super::links::Question;
use super::super::query::{PADDING, padding};
use super::super::server::{NameServer, Transport};
use super::super::setup::ResolverSettings;
use super::convert::{failure, library_name};
use super::sets::signature_data;
use super::sockets::DnsSockets;

/// How many questions may be on their way at once.
const IN_FLIGHT: usize = 200;
/// The pool's limit for one connection. The library spins while a connection is at its limit, so this one is never
/// reached.
const MAX_ACTIVE_REQUESTS: usize = IN_FLIGHT + 56;
/// The most records in an authority section. An honest denial with 16 wildcards on the way needs some 100.
const MAX_AUTHORITIES: usize = 256;
/// The most signatures of answers. An honest answer has those of one set, and of a DNAME above it.
const MAX_ANSWER_SIGNATURES: usize = 256;

/// A question with its name in the library's form, which is made once for all steps of an answer.
#[derive(Clone)]
pub(super) struct Queried {
    pub(super) question: Question,
    query: Query,
}

impl Queried {
    /// # Errors
    /// The library cannot hold the name.
    pub(super) fn new(question: Question) -> Result<Self, FailureReason> {
        let query = Query::query(library_name(&question.name)?, RecordType::from(question.rtype.0));
        Ok(Self { question, query })
    }

    /// The name in the library's form.
    pub(super) fn name(&self) -> &Name {
        &self.query.name
    }

    /// The type in the library's form.
    pub(super) fn rtype(&self) -> RecordType {
        self.query.query_type
    }
}

/// The padding of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Padding {
    /// To a multiple of the block of RFC 8467 §4.1.
    Blocks,
    None,
}

/// Asks the configured servers. Clones share everything.
#[derive(Clone)]
pub(super) struct ServerPool {
    pool: RetryDnsHandle<NameServerPool<DnsSockets>>,
    permits: Arc<Semaphore>,
    padding: Padding,
    /// Dropping the last clone ends the library's background tasks.
    sockets: DnsSockets,
}

impl ServerPool {
    /// Prepares to ask these servers; no question is sent yet. Must be called inside of a tokio runtime.
    pub(super) fn new(servers: &[NameServer], settings: &ResolverSettings, tls: &ClientConfig) -> Self {
        let mut options = ResolverOpts::default();
        options.timeout = settings.timeout;
        options.max_active_requests = MAX_ACTIVE_REQUESTS;
        let sockets = DnsSockets::default();
        let context = PoolContext::new(options, TlsConfig { config: tls.clone() });
        let named = servers.iter().map(name_server);
        let pool = NameServerPool::from_config(named, Arc::new(context), sockets.clone());
        Self {
            // The library counts retries, not attempts.
            pool: RetryDnsHandle::new(pool, settings.attempts.saturating_sub(1)),
            permits: Arc::new(Semaphore::new(IN_FLIGHT)),
            // The pool chooses the server after the message is made, so the message is padded only if all servers are
            // asked over TLS.
            padding: match servers.iter().all(|server| matches!(server.transport, Transport::Tls(_))) {
                true => Padding::Blocks,
                false => Padding::None,
            },
            sockets,
        }
    }

    /// One question, one reply, not validated.
    ///
    /// # Errors
    /// There is none, or it is an error.
    pub(super) async fn ask(&self, asked: &Queried) -> Result<Message, FailureReason> {
        let query = &asked.query;
        let request = request(query.clone(), self.padding)?;
        let began = Instant::now();
        let reply = {
            // The semaphore is never closed; should that change, the lookup fails.
            let _permit = self.permits.acquire().await.map_err(|error| FailureReason::Network(error.to_string()))?;
            self.pool.send(request).first_answer().await
        };
        let message = match reply {
            Ok(response) => relevant(response.into_message(), query),
            Err(NetError::Dns(DnsError::NoRecordsFound(none))) => denial(none),
            Err(error) => return Err(self.failed(&error, began)),
        };
        if message.authorities.len() > MAX_AUTHORITIES {
            return Err(FailureReason::TooManyRecords(MAX_AUTHORITIES));
        }
        let signatures = message.answers.iter().filter(|record| record.record_type() == RecordType::RRSIG).count();
        if signatures > MAX_ANSWER_SIGNATURES {
            return Err(FailureReason::Bogus("more signatures than a zone needs".to_owned()));
        }
        Ok(message)
    }

    /// Why there was no reply to the question of that time. Where there was no socket, no server is at fault.
    fn failed(&self, error: &NetError, began: Instant) -> FailureReason {
        match failure(error) {
            FailureReason::Network(why) => {
                self.sockets.shortage_since(began).map_or(FailureReason::Network(why), FailureReason::Scarce)
            }
            reason => reason,
        }
    }
}

fn name_server(server: &NameServer) -> NameServerConfig {
    let mut connections = match &server.transport {
        Transport::Plain => vec![ConnectionConfig::udp(), ConnectionConfig::tcp()],
        Transport::Tls(name) => vec![ConnectionConfig::tls(name.as_str().into())],
    };
    for connection in &mut connections {
        connection.port = server.address.port();
    }
    NameServerConfig::new(server.address.ip(), true, connections)
}

/// RFC 4035 §3.2.1: with DO, with AD (RFC 6840 §5.7), and never with CD (RFC 6840 §5.9).
fn request(query: Query, padded: Padding) -> Result<DnsRequest, FailureReason> {
    let mut options = DnsRequestOptions::default();
    options.use_edns = true;
    options.edns_set_dnssec_ok = true;
    options.recursion_desired = true;
    let mut request = DnsRequest::from_query(query, options);
    request.metadata.authentic_data = true;
    request.metadata.checking_disabled = false;
    if padded == Padding::Blocks {
        let octets = request.to_bytes().map_err(|error| FailureReason::Malformed(error.to_string()))?.len();
        if let Some(edns) = &mut request.edns {
            edns.options_mut().insert(EdnsOption::Unknown(PADDING, vec![0; padding(octets)]));
        }
    }
    Ok(request)
}

/// Drops the unused parts: additional records, authority records that are no part of a denial, and answers about names
/// further down a chain of aliases, which are asked for afresh. If all answers are about another name, one stays: the
/// reply must not look empty.
fn relevant(mut message: Message, query: &Query) -> Message {
    message.additionals.clear();
    if message.answers.iter().any(|record| record.record_type() != RecordType::RRSIG && answers(record, query)) {
        message.answers.retain(|record| answers(record, query));
    } else {
        message.answers.retain(|record| record.record_type() != RecordType::RRSIG);
        message.answers.truncate(1);
    }
    message.authorities.retain(denies);
    message
}

/// Whether a record is of the asked type or an alias at the asked name, or a DNAME above it (RFC 6672 §3.2), or signs
/// one of these.
fn answers(record: &Record, query: &Query) -> bool {
    let covers = signature_data(record).map_or(record.record_type(), |rrsig| rrsig.input().type_covered);
    match covers {
        RecordType::DNAME => record.name.zone_of(&query.name),
        rtype => record.name == query.name && (rtype == query.query_type || rtype == RecordType::CNAME),
    }
}

/// Whether a record of the authority section is a denial, gives its time, or signs such a record.
fn denies(record: &Record) -> bool {
    let covers = signature_data(record).map_or(record.record_type(), |rrsig| rrsig.input().type_covered);
    matches!(covers, RecordType::SOA | RecordType::NSEC | RecordType::NSEC3)
}

/// The reply that the library turns into an error: one without answers. Its other records stay, or a referral would
/// look like a denial.
fn denial(none: NoRecords) -> Message {
    let mut message = Message::query().into_response();
    message.metadata.response_code = none.response_code;
    message.authorities = none.authorities.map(|records| records.to_vec()).unwrap_or_default();
    message
}

#[cfg(test)]
mod tests {
    use super::super::super::canonical::CanonicalName;
    use super::*;

    #[test]
    fn questions_over_tls_are_of_one_size() {
        // RFC 8467 §4.1.
        for labels in [1, 7, 20, 60] {
            let name = CanonicalName::from_labels(
                [&b"mx"[..]].into_iter().cycle().take(labels).collect::<Vec<_>>().into_iter(),
            );
            let query = Query::query(library_name(&name).unwrap(), RecordType::TLSA);
            let padded = request(query.clone(), Padding::Blocks).unwrap().to_bytes().unwrap().len();
            let bare = request(query, Padding::None).unwrap().to_bytes().unwrap().len();
            assert!(padded.is_multiple_of(128) && bare < padded && padded < bare + 4 + 128, "{bare} {padded}");
        }
    }
}
