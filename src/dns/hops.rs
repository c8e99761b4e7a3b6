//! What one reply to one question says: records, an alias, a denial, or nothing that may be believed.
//!
//! RFC 7672 needs the security of *every* link of a chain of aliases (§2.1.3, §2.2.2), so each name is asked for by
//! itself and each reply is judged by itself, from nothing but the record set at the name that was asked. Whatever a
//! resolver adds about further names is ignored; they are asked for in their turn.
//!
//! The rules, in the order in which they are applied:
//!
//! 1. Records of the asked type at the asked name are the answer.
//! 2. A CNAME at the asked name is a link; so is a signed DNAME above it, from which the alias is made here (the CNAME
//!    that comes with a DNAME is never signed, RFC 6672 §5.3.1).
//! 3. Records about anything else are no answer at all. In particular they are not "no records".
//! 4. An empty reply is a denial, and only if it is proven: by signed records that deny this very name and type, or by
//!    an unsigned zone that this name lies in.
//!
//! An unsigned zone is a [`Status::Claimed`] here: it becomes [`Security::Insecure`] when the delegation is found that
//! a signed parent left unsigned ([`unsigned_delegation`]).

use super::canonical::CanonicalName;
use super::denial::{Denied, Evidence};
use super::reply::{Data, DsSupport, LibraryVerdict, Nsec3Hash, Proof, Rcode, Reply, RrSet, Rtype};
use super::{Alias, FailureReason, Security};

/// The most links of a chain of aliases that are followed (RFC 7672 §2.1.3 asks for a bound).
pub(super) const MAX_ALIASES: usize = 16;

/// What was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) name: CanonicalName,
    pub(super) rtype: Rtype,
}

/// How sure the answer to one question is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Status {
    /// Proven secure, or proven to lie in an opt-out span and thus insecure.
    Proven(Security),
    /// Said to be insecure, because this name lies below an unsigned delegation. Which one is still to be shown.
    Claimed(CanonicalName),
}

/// What one reply says about the question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Hop {
    /// The records of the asked type.
    Records(Vec<Data>, Status),
    /// The name is an alias.
    Alias(CanonicalName, Status),
    /// There are no such records.
    Denied(Denied, Status),
}

/// Judges one reply.
///
/// # Errors
/// The reply proves nothing, or does not fit the question.
pub(super) fn judge(question: &Question, reply: &Reply, hash: Nsec3Hash) -> Result<Hop, FailureReason> {
    let at_name = |rtype| reply.answers.iter().find(|set| set.owner == question.name && set.rtype == rtype);
    if let Some(set) = at_name(question.rtype) {
        // RFC 2308 §2.1: a name error denies the name at the end of the chain, which here is the name itself.
        if reply.rcode == Rcode::NxDomain {
            return Err(malformed("the name is said not to exist, and has records"));
        }
        return Ok(Hop::Records(set.records.clone(), positive_status(set, reply, hash)?));
    }
    let cname = at_name(Rtype::CNAME);
    if let Some(dname) = signed_dname(&question.name, reply).filter(|_| !cname.is_some_and(is_secure)) {
        let target = question.name.substituted(&dname.owner, sole_target(dname)?)?;
        return Ok(Hop::Alias(target, positive_status(dname, reply, hash)?));
    }
    if let Some(set) = cname {
        return Ok(Hop::Alias(sole_target(set)?.clone(), positive_status(set, reply, hash)?));
    }
    if !reply.answers.is_empty() {
        return Err(malformed("it answers another question"));
    }
    denial(question, reply, hash).map(|(denied, status)| Hop::Denied(denied, status))
}

/// Whether a reply to a DS question proves that the delegation at `name` is unsigned (RFC 4035 §5.2). "No" is not "it
/// is signed": it may be no delegation at all.
///
/// # Errors
/// There are DS records, and they are not secure.
pub(super) fn unsigned_delegation(name: &CanonicalName, reply: &Reply, hash: Nsec3Hash) -> Result<bool, FailureReason> {
    let Some(set) = reply.answers.iter().find(|set| set.owner == *name && set.rtype == Rtype::DS) else {
        return Ok(Evidence::about(&name.parent(), &reply.authorities, hash)
            .is_some_and(|evidence| evidence.unsigned_delegation(name)));
    };
    match &set.proof {
        // RFC 4035 §5.2: a delegation signed by nothing that is understood counts as unsigned.
        Proof::Secure(signature) if signature.labels == name.depth() => {
            Ok(set.records.iter().all(|data| *data == Data::Ds(DsSupport::Unsupported)))
        }
        Proof::Secure(_) => Err(bogus("a DS record made from a wildcard")),
        // Above the first unsigned delegation there is nothing that may be insecure.
        Proof::Insecure => Err(bogus("an unsigned DS record")),
        Proof::Unproven(why) => Err(bogus(why)),
    }
}

/// The status of a record set at or above the asked name.
fn positive_status(set: &RrSet, reply: &Reply, hash: Nsec3Hash) -> Result<Status, FailureReason> {
    let signature = match &set.proof {
        Proof::Unproven(why) => return Err(bogus(why)),
        Proof::Insecure => return Ok(Status::Claimed(set.owner.clone())),
        Proof::Secure(signature) => signature,
    };
    // RFC 4035 §5.3.1: the signer is the zone of the owner, and a wildcard is in that zone.
    if !set.owner.is_at_or_below(&signature.signer)
        || !(signature.signer.depth()..=set.owner.depth()).contains(&signature.labels)
    {
        return Err(bogus("a signature that is not of this zone"));
    }
    if signature.labels == set.owner.depth() {
        return Ok(Status::Proven(Security::Secure));
    }
    // RFC 6672 §2.3: a DNAME is not taken from a wildcard.
    if set.rtype == Rtype::DNAME {
        return Err(bogus("a DNAME record made from a wildcard"));
    }
    // RFC 4035 §5.3.4: records made from a wildcard count only where nothing closer exists.
    Evidence::of_zone(&signature.signer, &reply.authorities, hash)
        .and_then(|evidence| evidence.expansion(&set.owner, signature.labels))
        .map(Status::Proven)
        .ok_or_else(|| bogus("records made from a wildcard, and no proof that nothing closer exists"))
}

fn denial(question: &Question, reply: &Reply, hash: Nsec3Hash) -> Result<(Denied, Status), FailureReason> {
    if reply.verdict == LibraryVerdict::Rejected {
        return Err(bogus("the denial is not proven"));
    }
    let denied = match reply.rcode {
        Rcode::NoError => Denied::NoData,
        Rcode::NxDomain => Denied::NxDomain,
    };
    if let Some(evidence) = Evidence::about(&question.name, &reply.authorities, hash) {
        return match evidence.denial(&question.name, question.rtype) {
            // The response code is not signed: it must be the one that the records prove.
            Some((proven, security)) if proven == denied => Ok((denied, Status::Proven(security))),
            Some(_) | None => Err(bogus("signed records do not deny this name and type")),
        };
    }
    // RFC 2308 §2: a denial carries the SOA of its zone; an unsigned denial must come from a zone the name lies in.
    let of_ancestor = |set: &RrSet| {
        set.rtype == Rtype::SOA && set.proof == Proof::Insecure && question.name.is_at_or_below(&set.owner)
    };
    // Where there is no authority record at all, the library has looked for the unsigned delegation itself.
    if reply.authorities.is_empty() || reply.authorities.iter().any(of_ancestor) {
        return Ok((denied, Status::Claimed(question.name.clone())));
    }
    Err(bogus("an unsigned denial that is not of an ancestor zone"))
}

/// The DNAME that covers the name, if the zone signed it (RFC 6672 §2.2). An unsigned one comes with its CNAME.
fn signed_dname<'a>(name: &CanonicalName, reply: &'a Reply) -> Option<&'a RrSet> {
    let covers = |set: &&RrSet| set.rtype == Rtype::DNAME && name.is_below(&set.owner) && is_secure(set);
    reply.answers.iter().filter(covers).max_by_key(|set| set.owner.depth())
}

fn is_secure(set: &RrSet) -> bool {
    match &set.proof {
        Proof::Secure(_) => true,
        Proof::Insecure | Proof::Unproven(_) => false,
    }
}

/// RFC 1034 §3.6.2, RFC 6672 §2.4: there is one CNAME or one DNAME at a name.
fn sole_target(set: &RrSet) -> Result<&CanonicalName, FailureReason> {
    match set.records.as_slice() {
        [Data::Alias(target)] => Ok(target),
        _ => Err(malformed("a name with several aliases")),
    }
}

fn bogus(why: &str) -> FailureReason {
    FailureReason::Bogus(why.to_owned())
}

fn malformed(why: &str) -> FailureReason {
    FailureReason::Malformed(why.to_owned())
}

/// The links that were followed so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chain {
    /// The name to ask next.
    pub(super) next: CanonicalName,
    /// The links, in order.
    pub(super) aliases: Vec<Alias>,
}

impl Chain {
    /// A chain that begins, and mostly ends, at `name`.
    pub(super) fn new(name: CanonicalName) -> Self {
        Self { next: name, aliases: Vec::new() }
    }

    /// Follows one link.
    ///
    /// # Errors
    /// The chain is too long or loops, or the target is no host name (RFC 7672 §2.1.3).
    pub(super) fn follow(&mut self, target: CanonicalName, security: Security) -> Result<(), FailureReason> {
        let alias = Alias { owner: self.next.to_name()?, target: target.to_name()?, security };
        let loops = alias.target == alias.owner || self.aliases.iter().any(|link| link.owner == alias.target);
        if loops || self.aliases.len() == MAX_ALIASES {
            return Err(FailureReason::TooManyAliases(MAX_ALIASES));
        }
        self.aliases.push(alias);
        self.next = target;
        Ok(())
    }
}
