//! The resolver that takes another one's word: a validating resolver on loopback, or over TLS, and its AD bit.
//!
//! RFC 7672 §2.1.1 allows this where nobody can change the bit on the way, and it is how Postfix and Exim do DANE. The
//! bit says that *every* record of the answer and of the authority section is secure (RFC 4035 §3.2.3), so its absence
//! says only that one is not. That is exact for one name and too little for a chain of aliases, of which each link has
//! a security of its own (RFC 7672 §2.2.2). So an alias in a reply without AD is asked for once more, by itself, and
//! its target afresh: one question and one bit for each hop, as in [`validating`](super::validating).
//!
//! | the reply | it is |
//! |---|---|
//! | records of the type at the name | an answer, as secure as AD says |
//! | a CNAME at the name, where another type was asked for | a link; if AD is clear, as secure as AD says of the reply to a CNAME question |
//! | nothing, NOERROR or NXDOMAIN, with the SOA of a zone above or nothing at all | a denial, as secure as AD says |
//! | anything else: SERVFAIL, which is how bogus looks (RFC 4035 §5.5), other records, a referral | a failure |

use std::sync::Arc;

use rustls::ClientConfig;

use super::cache::Lasting;
use super::canonical::CanonicalName;
use super::denial::Denied;
use super::exchange::Line;
use super::hops::{Hop, Question};
use super::reply::{Data, Rcode, Reply, RrSet, Rtype};
use super::server::Server;
use super::setup::Settings;
use super::validating::convert;
use super::{FailureReason, Security};

/// Trusts the AD bit of these servers, each of which has shown that it sets it.
pub(super) struct TrustAd {
    lines: Vec<Line>,
    attempts: usize,
}

impl TrustAd {
    /// Prepares to ask these servers; nothing is asked yet.
    pub(super) fn new(servers: &[Server], settings: &Settings, tls: &Arc<ClientConfig>) -> Self {
        let line = |server: &Server| Line::new(server.clone(), settings.timeout, Arc::clone(tls));
        Self { lines: servers.iter().map(line).collect(), attempts: settings.attempts }
    }

    /// What is said of one name, and for how long.
    ///
    /// # Errors
    /// No server has an answer.
    pub(super) async fn hop(&self, question: &Question) -> Result<Lasting<Hop<Security>>, FailureReason> {
        let (reply, security) = self.ask(question).await?;
        match read(question, &reply, security)? {
            // RFC 7672 §2.2.2: clear, the bit may be clear for what comes after the alias.
            Hop::Alias(_, Security::Insecure) => {
                let alone = Question { name: question.name.clone(), rtype: Rtype::CNAME };
                let (alias, security) = self.ask(&alone).await?;
                let ttl = alias.ttl.min(reply.ttl);
                match read(&alone, &alias, security)? {
                    Hop::Records(records, security) => {
                        let target = sole_target(&records)?.clone();
                        Ok(Lasting { value: Hop::Alias(target, security), ttl })
                    }
                    // Its "none" is one about CNAME records, and none about the type that is wanted.
                    Hop::Alias(..) | Hop::Denied(..) => Err(malformed("an alias that comes and goes")),
                }
            }
            hop @ (Hop::Records(..) | Hop::Alias(_, Security::Secure) | Hop::Denied(..)) => {
                Ok(Lasting { value: hop, ttl: reply.ttl })
            }
        }
    }

    /// Puts one question to one server after the other, until there is an answer or the attempts are used up.
    async fn ask(&self, question: &Question) -> Result<(Reply, Security), FailureReason> {
        let mut last = FailureReason::Network("no name server has passed its self-test".to_owned());
        for line in self.lines.iter().cycle().take(self.attempts.max(self.lines.len())) {
            match line.ask(question).await.and_then(|octets| convert::vouched(&octets)) {
                Ok(vouched) => return Ok(vouched),
                Err(reason) => last = reason,
            }
        }
        Err(last)
    }
}

/// Reads one reply. To a question for CNAME records the CNAME is the answer, and no link.
fn read(question: &Question, reply: &Reply, security: Security) -> Result<Hop<Security>, FailureReason> {
    let at_name = |rtype| reply.answers.iter().find(|set| set.owner == question.name && set.rtype == rtype);
    if let Some(set) = at_name(Rtype::CNAME) {
        let target = sole_target(&set.records)?.clone();
        return Ok(match question.rtype {
            Rtype::CNAME => Hop::Records(set.records.clone(), security),
            _ => Hop::Alias(target, security),
        });
    }
    if let Some(set) = at_name(question.rtype) {
        return match reply.rcode {
            Rcode::NoError => Ok(Hop::Records(set.records.clone(), security)),
            Rcode::NxDomain => Err(malformed("the name is said not to exist, and has records")),
        };
    }
    if !reply.answers.is_empty() {
        return Err(malformed("it answers another question"));
    }
    // RFC 2308 §2.2: a denial carries the SOA of its zone or, of type 3, nothing; with NS alone it is a referral.
    let of_ancestor = |set: &RrSet| set.rtype == Rtype::SOA && question.name.is_at_or_below(&set.owner);
    if !reply.authorities.is_empty() && !reply.authorities.iter().any(of_ancestor) {
        return Err(malformed("a denial that is not of an ancestor zone"));
    }
    let denied = match reply.rcode {
        Rcode::NoError => Denied::NoData,
        Rcode::NxDomain => Denied::NxDomain,
    };
    Ok(Hop::Denied(denied, security))
}

/// RFC 1034 §3.6.2: there is one CNAME at a name.
fn sole_target(records: &[Data]) -> Result<&CanonicalName, FailureReason> {
    match records {
        [Data::Alias(target)] => Ok(target),
        _ => Err(malformed("a name with several aliases")),
    }
}

fn malformed(why: &str) -> FailureReason {
    FailureReason::Malformed(why.to_owned())
}
