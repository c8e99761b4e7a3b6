//! The resolver that takes another one's word: a validating resolver on loopback, or over TLS, and its AD bit.
//!
//! RFC 7672 §2.1.1 allows this where the bit cannot be changed on the network, and it is how Postfix and Exim do DANE.
//! The bit says that *every* record of the answer and of the authority section is secure (RFC 4035 §3.2.3), so its
//! absence says only that one is not. That is exact for one name and too little for a chain of aliases, of which each
//! link has a security of its own (RFC 7672 §2.2.2). So the CNAME or DNAME that makes an alias in a reply without AD is asked
//! for once more, by itself, and its target afresh: one question and one bit for each link, as in
//! [`validating`](super::validating).
//!
//! | the reply | it is |
//! |---|---|
//! | records of the type at the name | an answer, as secure as AD says |
//! | a CNAME at the name, where another type was asked for | a link; if AD is clear, as secure as AD says of the reply to a question for it, or for the DNAME above the name that made it |
//! | no answer records, NOERROR or NXDOMAIN, with the SOA of a zone above or an empty authority section | a denial, as secure as AD says |
//! | any of these as "insecure", from a server whose answer for the root has no AD either ([`ad_bit`](super::ad_bit)) | a failure |
//! | anything else: SERVFAIL, which is how bogus looks (RFC 4035 §5.5), other records, a referral | a failure |

use std::sync::Arc;

use super::ad_bit::AdCheck;
use super::cache::WithTtl;
use super::denial::Denied;
use super::fitness::Fitness;
use super::links::{Link, Question, sole_target};
use super::query::Purpose;
use super::reply::{DnsReply, Rcode, RrSet, Rtype};
use super::servers::Servers;
use super::validating::convert;
use super::{FailureReason, Security};

/// Trusts the AD bit of these servers, each of which has shown that it sets it.
pub(super) struct TrustAd {
    servers: Servers,
    /// In the order of the servers.
    checks: Vec<AdCheck>,
}

impl TrustAd {
    /// Prepares to ask these servers; no question is sent yet.
    pub(super) fn new(servers: Servers, fitness: &Arc<Fitness>) -> Self {
        let checks = servers.clients().iter().map(|client| AdCheck::new(client, fitness)).collect();
        Self { servers, checks }
    }

    /// Answers one question about one name, with the time for which the answer holds.
    ///
    /// # Errors
    /// No server has an answer.
    pub(super) async fn link(&self, question: &Question) -> Result<WithTtl<Link<Security>>, FailureReason> {
        let (reply, security) = self.ask(question).await?;
        match read(question, &reply, security)? {
            // RFC 7672 §2.2.2: the bit may be clear because of records after the alias.
            Link::Alias(_, Security::Insecure) => self.alias_alone(question, &reply).await,
            link @ (Link::Records(..) | Link::Alias(_, Security::Secure) | Link::Denied(..)) => {
                Ok(WithTtl { value: link, ttl: reply.ttl })
            }
        }
    }

    /// Asks for the record that makes the alias in this reply, and for no other.
    async fn alias_alone(
        &self,
        question: &Question,
        reply: &DnsReply,
    ) -> Result<WithTtl<Link<Security>>, FailureReason> {
        // RFC 6672 §3.1: the CNAME that comes with a DNAME is made from it, and is as secure. unbound 1.17 answers SERVFAIL
        // where that CNAME itself is asked for.
        let dname = reply.answers.iter().find(|set| set.rtype == Rtype::DNAME && question.name.is_below(&set.owner));
        let alone = match dname {
            Some(set) => Question { name: set.owner.clone(), rtype: Rtype::DNAME },
            None => Question { name: question.name.clone(), rtype: Rtype::CNAME },
        };
        let (alias, security) = self.ask(&alone).await?;
        let (records, security) = match read(&alone, &alias, security)? {
            Link::Records(records, security) => (records, security),
            // Its "none" is one about records of this type, and none about the type that is wanted.
            Link::Alias(..) | Link::Denied(..) => {
                return Err(FailureReason::malformed("an alias that comes and goes"));
            }
        };
        let target = match dname {
            Some(set) => question.name.substituted(&set.owner, sole_target(&records)?)?,
            None => sole_target(&records)?.clone(),
        };
        Ok(WithTtl { value: Link::Alias(target, security), ttl: alias.ttl.min(reply.ttl) })
    }

    /// Answers one question without validation. The answer is insecure, with or without the AD bit.
    ///
    /// # Errors
    /// No server has an answer.
    pub(super) async fn unvalidated(
        &self,
        question: &Question,
        purpose: Purpose,
    ) -> Result<WithTtl<Link<Security>>, FailureReason> {
        let reply = self.servers.ask(question, purpose, convert::as_it_is).await?.value;
        Ok(WithTtl { value: read(question, &reply, Security::Insecure)?, ttl: reply.ttl })
    }

    async fn ask(&self, question: &Question) -> Result<(DnsReply, Security), FailureReason> {
        let exchange =
            |place: usize| async move { self.checks.get(place).ok_or(FailureReason::Timeout)?.ask(question).await };
        self.servers.first(exchange).await
    }
}

/// Reads one reply. To a question for CNAME records the CNAME is the answer, and no link.
fn read(question: &Question, reply: &DnsReply, security: Security) -> Result<Link<Security>, FailureReason> {
    let at_name = |rtype| reply.answers.iter().find(|set| set.owner == question.name && set.rtype == rtype);
    if let Some(set) = at_name(Rtype::CNAME) {
        let target = sole_target(&set.records)?.clone();
        return Ok(match question.rtype {
            Rtype::CNAME => Link::Records(set.records.clone(), security),
            _ => Link::Alias(target, security),
        });
    }
    if let Some(set) = at_name(question.rtype) {
        return match reply.rcode {
            Rcode::NoError => Ok(Link::Records(set.records.clone(), security)),
            Rcode::NxDomain => Err(FailureReason::malformed("the name is said not to exist, and has records")),
        };
    }
    if !reply.answers.is_empty() {
        return Err(FailureReason::malformed("it answers another question"));
    }
    // RFC 2308 §2.2: a denial carries the SOA of its zone or, of type 3, an empty authority section; with NS alone it
    // is a referral.
    let of_ancestor = |set: &RrSet| set.rtype == Rtype::SOA && question.name.is_at_or_below(&set.owner);
    if !reply.authorities.is_empty() && !reply.authorities.iter().any(of_ancestor) {
        return Err(FailureReason::malformed("a denial that is not of an ancestor zone"));
    }
    let denied = match reply.rcode {
        Rcode::NoError => Denied::NoData,
        Rcode::NxDomain => Denied::NxDomain,
    };
    Ok(Link::Denied(denied, security))
}
