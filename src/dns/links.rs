//! The verdict on one reply to one question: records, an alias, a denial, or a failure.
//!
//! RFC 7672 needs the security of *every* link of a chain of aliases (§2.1.3, §2.2.2), so each name is asked for by
//! itself and each reply is judged by itself, by the record set at the asked name alone. Records of further names that
//! a resolver adds are ignored; those names are asked for in their turn.
//!
//! The rules, in the order in which they are applied:
//!
//! 1. Records of the asked type at the asked name are the answer. To a question for CNAME records the CNAME that a signed
//!    DNAME makes is the answer, too.
//! 2. A CNAME at the asked name is a link; so is a signed DNAME above it, from which the alias is made here (the CNAME
//!    that comes with a DNAME is never signed, RFC 6672 §5.3.1).
//! 3. Records about anything else are no answer at all. In particular they are not "no records".
//! 4. An empty reply is a denial, and only if it is proven: by signed records that deny this very name and type, or by
//!    an unsigned zone that this name lies in.
//!
//! An unsigned zone is a [`LinkStatus::Claimed`] here: it becomes [`Security::Insecure`] when the delegation is found that
//! a signed parent left unsigned ([`delegation`]).

use super::canonical::CanonicalName;
use super::denial::{Denied, Evidence, costs_too_much};
use super::reply::{Data, DnsReply, DsSupport, Nsec3Hash, Proof, Rcode, RrSet, Rtype};
use super::{Alias, FailureReason, Security};
use crate::name::Name;

/// The most links of a chain of aliases that are followed (RFC 7672 §2.1.3 asks for a bound).
pub(super) const MAX_ALIASES: usize = 16;

/// A name and a type to ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) name: CanonicalName,
    pub(super) rtype: Rtype,
}

/// How sure the answer to one question is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LinkStatus {
    /// Proven secure, or proven to lie in an opt-out span and thus insecure.
    Proven(Security),
    /// Said to be insecure, because this name lies below an unsigned delegation. Which one is still to be shown.
    Claimed(CanonicalName),
}

/// The verdict on one reply: with a [`LinkStatus`] as long as a claim in it is still to be decided, with a [`Security`]
/// once it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Link<S = LinkStatus> {
    /// The records of the asked type.
    Records(Vec<Data>, S),
    /// The name is an alias.
    Alias(CanonicalName, S),
    /// There are no such records.
    Denied(Denied, S),
}

impl<S> Link<S> {
    /// The same answer with another status.
    pub(super) fn with<T>(self, status: T) -> Link<T> {
        match self {
            Self::Records(records, _) => Link::Records(records, status),
            Self::Alias(target, _) => Link::Alias(target, status),
            Self::Denied(denied, _) => Link::Denied(denied, status),
        }
    }
}

/// Judges one reply.
///
/// # Errors
/// The reply does not prove its answer, or does not fit the question.
pub(super) fn judge(question: &Question, reply: &DnsReply, hash: Nsec3Hash<'_>) -> Result<Link, FailureReason> {
    let at_name = |rtype| reply.answers.iter().find(|set| set.owner == question.name && set.rtype == rtype);
    if let Some(set) = at_name(question.rtype) {
        // RFC 2308 §2.1: a name error denies the name at the end of the chain, which here is the name itself.
        if reply.rcode == Rcode::NxDomain {
            return Err(FailureReason::malformed("the name is said not to exist, and has records"));
        }
        if question.rtype != Rtype::CNAME || is_secure(set) || signed_dname(&question.name, reply).is_none() {
            return Ok(Link::Records(set.records.clone(), positive_status(set, reply, hash)?));
        }
    }
    let cname = at_name(Rtype::CNAME);
    if let Some(dname) = signed_dname(&question.name, reply).filter(|_| !cname.is_some_and(is_secure)) {
        let target = question.name.substituted(&dname.owner, sole_target(&dname.records)?)?;
        let status = positive_status(dname, reply, hash)?;
        return Ok(match question.rtype {
            Rtype::CNAME => Link::Records(vec![Data::Alias(target)], status),
            _ => Link::Alias(target, status),
        });
    }
    if let Some(set) = cname {
        return Ok(Link::Alias(sole_target(&set.records)?.clone(), positive_status(set, reply, hash)?));
    }
    if !reply.answers.is_empty() {
        return Err(FailureReason::malformed("it answers another question"));
    }
    denial(question, reply, hash).map(|(denied, status)| Link::Denied(denied, status))
}

/// The kind of delegation at a name, by the signed parent's reply to a DS question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delegation {
    /// A zone begins here, and is signed by keys that the DS records name.
    Signed,
    /// A zone begins here and is not signed, or only by algorithms that are not supported (RFC 4035 §5.2).
    Unsigned,
    /// No zone begins here.
    None,
    /// The reply is no proof. That alone is no failure: the name may be an alias.
    Unproven,
}

/// Reads a reply to a DS question that was verified with the parent's keys alone.
///
/// # Errors
/// There are DS records, and they are not secure.
pub(super) fn delegation(
    name: &CanonicalName,
    reply: &DnsReply,
    hash: Nsec3Hash<'_>,
) -> Result<Delegation, FailureReason> {
    let Some(set) = reply.answers.iter().find(|set| set.owner == *name && set.rtype == Rtype::DS) else {
        let evidence = Evidence::about(&name.parent(), &reply.authorities, hash);
        return Ok(match evidence {
            Some(evidence) if evidence.unsigned_delegation(name) => Delegation::Unsigned,
            Some(evidence) if evidence.denial(name, Rtype::DS).is_some() => Delegation::None,
            Some(_) | None => Delegation::Unproven,
        });
    };
    match &set.proof {
        // RFC 4035 §5.2: a delegation signed only by unsupported algorithms counts as unsigned. It is the parent's
        // word.
        Proof::Secure(signature) if signature.labels == name.depth() && name.is_below(&signature.signer) => {
            let unsupported = |data: &Data| matches!(data, Data::Ds(DsSupport::Unsupported, _));
            Ok(if set.records.iter().all(unsupported) { Delegation::Unsigned } else { Delegation::Signed })
        }
        Proof::Secure(_) => Err(bogus("a DS record that is not the parent's own")),
        // Above the first unsigned delegation no record may be insecure.
        Proof::Insecure => Err(bogus("an unsigned DS record")),
        Proof::Unproven(why) => Err(bogus(why)),
    }
}

/// The status of a record set at or above the asked name.
fn positive_status(set: &RrSet, reply: &DnsReply, hash: Nsec3Hash<'_>) -> Result<LinkStatus, FailureReason> {
    let signature = match &set.proof {
        Proof::Unproven(why) => return Err(bogus(why)),
        Proof::Insecure => return Ok(LinkStatus::Claimed(set.owner.clone())),
        Proof::Secure(signature) => signature,
    };
    // RFC 4035 §5.3.1: the signer is the zone of the owner, and a wildcard is in that zone.
    if !set.owner.is_at_or_below(&signature.signer)
        || !(signature.signer.depth()..=set.owner.signed_labels()).contains(&signature.labels)
    {
        return Err(bogus("a signature that is not of this zone"));
    }
    if signature.labels == set.owner.signed_labels() {
        return Ok(LinkStatus::Proven(Security::Secure));
    }
    // RFC 6672 §2.3: a DNAME is not taken from a wildcard.
    if set.rtype == Rtype::DNAME {
        return Err(bogus("a DNAME record made from a wildcard"));
    }
    // RFC 4035 §5.3.4: records made from a wildcard count only where no closer name exists.
    Evidence::of_zone(&signature.signer, &reply.authorities, hash)
        .and_then(|evidence| evidence.expansion(&set.owner, signature.labels))
        .map(LinkStatus::Proven)
        .ok_or_else(|| bogus("records made from a wildcard, and no proof that nothing closer exists"))
}

fn denial(question: &Question, reply: &DnsReply, hash: Nsec3Hash<'_>) -> Result<(Denied, LinkStatus), FailureReason> {
    let denied = match reply.rcode {
        Rcode::NoError => Denied::NoData,
        Rcode::NxDomain => Denied::NxDomain,
    };
    if let Some(evidence) = Evidence::about(&question.name, &reply.authorities, hash) {
        // The SOA record says for how long the denial holds (RFC 2308 §5): unsigned beside signed proofs, it is not of
        // their zone.
        if reply.authorities.iter().any(|set| set.rtype == Rtype::SOA && !is_secure(set)) {
            return Err(bogus("a SOA record without a valid signature beside a signed denial"));
        }
        return match evidence.denial(&question.name, question.rtype) {
            Some((proven, security)) => Ok((lesser(proven, denied), LinkStatus::Proven(security))),
            None => Err(bogus("signed records do not deny this name and type")),
        };
    }
    // RFC 2308 §2: a denial carries the SOA of its zone; an unsigned denial must come from a zone the name lies in.
    let of_ancestor = |set: &RrSet| {
        set.rtype == Rtype::SOA && set.proof == Proof::Insecure && question.name.is_at_or_below(&set.owner)
    };
    // A forwarder may leave the authority section out. The name is still looked up in the unsigned zone that it must
    // lie in.
    if reply.authorities.is_empty() || reply.authorities.iter().any(of_ancestor) {
        return Ok((denied, LinkStatus::Claimed(question.name.clone())));
    }
    Err(bogus(match costs_too_much(&reply.authorities) {
        true => "NSEC3 records with more than 500 iterations",
        false => "an unsigned denial that is not of an ancestor zone",
    }))
}

/// The lesser of the denial that records prove and the one that the response code claims. The code is not signed, so it adds
/// nothing to the proof. Some forwarders answer NOERROR where the name does not exist (dnsmasq). Some servers answer NXDOMAIN
/// for an empty non-terminal, a name that has no records and is above others (RFC 8020 §2 forbids it).
fn lesser(proven: Denied, claimed: Denied) -> Denied {
    match (proven, claimed) {
        (Denied::NxDomain, Denied::NxDomain) => Denied::NxDomain,
        (Denied::NxDomain | Denied::NoData, Denied::NoData) | (Denied::NoData, Denied::NxDomain) => Denied::NoData,
    }
}

/// The DNAME that covers the name, if the zone signed it (RFC 6672 §2.2). An unsigned one comes with its CNAME.
fn signed_dname<'a>(name: &CanonicalName, reply: &'a DnsReply) -> Option<&'a RrSet> {
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
pub(super) fn sole_target(records: &[Data]) -> Result<&CanonicalName, FailureReason> {
    match records {
        [Data::Alias(target)] => Ok(target),
        _ => Err(FailureReason::malformed("a name with several aliases")),
    }
}

fn bogus(why: &str) -> FailureReason {
    FailureReason::Bogus(why.to_owned())
}

/// The links that were followed so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AliasChain {
    /// The question about the name at the end of the links so far.
    pub(super) question: Question,
    /// The same name as a host or a domain.
    host: Name,
    /// The links, in order.
    pub(super) aliases: Vec<Alias>,
}

impl AliasChain {
    /// A chain that begins, and mostly ends, at `name`.
    pub(super) fn new(name: &Name, rtype: Rtype) -> Self {
        Self { question: Question { name: name.into(), rtype }, host: name.clone(), aliases: Vec::new() }
    }

    /// Follows one link.
    ///
    /// # Errors
    /// The chain is too long or loops, or the target can have no such records (RFC 7672 §2.1.3).
    pub(super) fn follow(&mut self, target: CanonicalName, security: Security) -> Result<(), FailureReason> {
        let name = match self.question.rtype {
            Rtype::TLSA | Rtype::TXT => target.to_owner()?,
            _ => target.to_name()?,
        };
        let alias = Alias { owner: self.host.clone(), target: name, security };
        let loops = alias.target == alias.owner || self.aliases.iter().any(|link| link.owner == alias.target);
        if loops || self.aliases.len() == MAX_ALIASES {
            return Err(FailureReason::TooManyAliases(MAX_ALIASES));
        }
        self.host = alias.target.clone();
        self.question.name = target;
        self.aliases.push(alias);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::reference_model::{Zone, name, toy_hash};
    use super::super::reply::{Presentation, Signature};
    use super::super::{Answer, Finality, Lookup, RawTlsa};
    use super::*;
    use crate::name::Name;

    const OWNER: &str = "_25._tcp.mx.z";

    fn question() -> Question {
        Question { name: name(OWNER), rtype: Rtype::TLSA }
    }

    fn tlsa(octet: u8) -> Data {
        Data::Tlsa(RawTlsa(vec![3, 1, 1, octet]))
    }

    fn signed_by(signer: &str, labels: usize) -> Proof {
        Proof::Secure(Signature { signer: name(signer), labels })
    }

    fn set(owner: &str, rtype: Rtype, proof: Proof, records: Vec<Data>) -> RrSet {
        RrSet { owner: name(owner), rtype, proof, records }
    }

    fn secure(owner: &str, rtype: Rtype, data: Data) -> RrSet {
        set(owner, rtype, signed_by("z", name(owner).depth()), vec![data])
    }

    fn insecure(owner: &str, rtype: Rtype, data: Data) -> RrSet {
        set(owner, rtype, Proof::Insecure, vec![data])
    }

    fn bogus_set(owner: &str, rtype: Rtype, data: Data) -> RrSet {
        set(owner, rtype, Proof::Unproven("bogus"), vec![data])
    }

    fn alias(target: &str) -> Data {
        Data::Alias(name(target))
    }

    fn answer(answers: Vec<RrSet>) -> DnsReply {
        DnsReply { authorities: vec![], answers, ..denied(Rcode::NoError, vec![]) }
    }

    fn denied(rcode: Rcode, authorities: Vec<RrSet>) -> DnsReply {
        DnsReply { rcode, answers: vec![], authorities, ttl: Duration::ZERO }
    }

    fn judged(reply: &DnsReply) -> Result<Link, FailureReason> {
        judge(&question(), reply, &toy_hash)
    }

    fn claimed(at: &str) -> LinkStatus {
        LinkStatus::Claimed(name(at))
    }

    const SECURE: LinkStatus = LinkStatus::Proven(Security::Secure);

    #[test]
    fn records_at_the_name_are_the_answer() {
        let records = vec![tlsa(1)];
        let reply = answer(vec![secure(OWNER, Rtype::TLSA, tlsa(1))]);
        assert_eq!(judged(&reply), Ok(Link::Records(records.clone(), SECURE)));
        let reply = answer(vec![insecure(OWNER, Rtype::TLSA, tlsa(1))]);
        assert_eq!(judged(&reply), Ok(Link::Records(records, claimed(OWNER))));
        // Records come before other sets beside them, such as a forged alias.
        let reply = answer(vec![insecure(OWNER, Rtype::CNAME, alias("x")), secure(OWNER, Rtype::TLSA, tlsa(1))]);
        assert_eq!(judged(&reply), Ok(Link::Records(vec![tlsa(1)], SECURE)));
    }

    #[test]
    fn aliases_are_links() {
        let cname = secure(OWNER, Rtype::CNAME, alias("t.z"));
        let dname = secure("mx.z", Rtype::DNAME, alias("new.y"));
        let made = insecure(OWNER, Rtype::CNAME, alias("evil"));
        for (answers, expected) in [
            (vec![cname.clone()], Link::Alias(name("t.z"), SECURE)),
            (vec![insecure(OWNER, Rtype::CNAME, alias("t.z"))], Link::Alias(name("t.z"), claimed(OWNER))),
            // Records of further names that a resolver adds are ignored, genuine or not.
            (vec![cname.clone(), bogus_set("t.z", Rtype::TLSA, tlsa(9))], Link::Alias(name("t.z"), SECURE)),
            (vec![cname, dname.clone()], Link::Alias(name("t.z"), SECURE)),
            // RFC 6672 §5.3.1: the alias is made here.
            (vec![made, dname.clone()], Link::Alias(name("_25._tcp.new.y"), SECURE)),
            (vec![bogus_set(OWNER, Rtype::CNAME, alias("evil")), dname], Link::Alias(name("_25._tcp.new.y"), SECURE)),
            // An unsigned DNAME comes with its CNAME.
            (
                vec![insecure("mx.z", Rtype::DNAME, alias("y")), insecure(OWNER, Rtype::CNAME, alias("_25._tcp.y"))],
                Link::Alias(name("_25._tcp.y"), claimed(OWNER)),
            ),
        ] {
            assert_eq!(judged(&answer(answers)), Ok(expected));
        }
    }

    #[test]
    fn an_alias_that_is_asked_for_is_an_answer() {
        let asked = Question { name: name(OWNER), rtype: Rtype::CNAME };
        let judged = |reply: Vec<RrSet>| judge(&asked, &answer(reply), &toy_hash);
        let made = insecure(OWNER, Rtype::CNAME, alias("_25._tcp.new.y"));
        let dname = secure("mx.z", Rtype::DNAME, alias("new.y"));
        let records = |target| vec![alias(target)];
        let cname = secure(OWNER, Rtype::CNAME, alias("t.z"));
        assert_eq!(judged(vec![cname.clone()]), Ok(Link::Records(records("t.z"), SECURE)));
        assert_eq!(judged(vec![made.clone()]), Ok(Link::Records(records("_25._tcp.new.y"), claimed(OWNER))));
        // RFC 6672 §5.3.1: the CNAME that comes with a DNAME is never signed.
        assert_eq!(judged(vec![made, dname.clone()]), Ok(Link::Records(records("_25._tcp.new.y"), SECURE)));
        assert_eq!(judged(vec![cname, dname]), Ok(Link::Records(records("t.z"), SECURE)));
    }

    #[test]
    fn answers_that_are_failures() {
        let twice = set(OWNER, Rtype::CNAME, signed_by("z", 4), vec![alias("a"), alias("b")]);
        let foreign = set(OWNER, Rtype::TLSA, signed_by("other", 4), vec![tlsa(1)]);
        let deeper = set(OWNER, Rtype::TLSA, signed_by("z", 5), vec![tlsa(1)]);
        let above_the_zone = set(OWNER, Rtype::TLSA, signed_by("mx.z", 1), vec![tlsa(1)]);
        let wildcard = set(OWNER, Rtype::TLSA, signed_by("z", 1), vec![tlsa(1)]);
        let wild_dname = set("mx.z", Rtype::DNAME, signed_by("z", 1), vec![alias("y")]);
        for answers in [
            vec![bogus_set(OWNER, Rtype::TLSA, tlsa(1))],
            vec![bogus_set(OWNER, Rtype::TLSA, tlsa(1)), secure(OWNER, Rtype::CNAME, alias("t.z"))],
            vec![bogus_set(OWNER, Rtype::CNAME, alias("t.z"))],
            // No record of the asked type at the asked name: no answer, and not "none" (S2).
            vec![secure("other.z", Rtype::TLSA, tlsa(1))],
            vec![secure(OWNER, Rtype::A, Data::Other(Presentation::default()))],
            vec![insecure("other.z", Rtype::CNAME, alias(OWNER))],
            // A DNAME does not redirect its own name (RFC 6672 §2.3).
            vec![secure(OWNER, Rtype::DNAME, alias("y"))],
            vec![bogus_set("mx.z", Rtype::DNAME, alias("y"))],
            vec![twice],
            vec![foreign],
            vec![deeper],
            vec![above_the_zone],
            vec![wildcard],
            vec![wild_dname],
        ] {
            assert!(judged(&answer(answers.clone())).is_err(), "{answers:?}");
            // Nor does a genuine denial turn them into one.
            let zone = Zone::new("z", &[]);
            let with_denial = DnsReply { authorities: zone.nsec(), ..answer(answers.clone()) };
            let expands = matches!(judged(&with_denial), Ok(Link::Records(..)));
            assert!(judged(&with_denial).is_err() || expands, "{answers:?}");
        }
        let mut reply = answer(vec![secure(OWNER, Rtype::TLSA, tlsa(1))]);
        reply.rcode = Rcode::NxDomain;
        assert!(judged(&reply).is_err());
    }

    #[test]
    fn wildcards_need_a_gap() {
        let wildcard = || answer(vec![set(OWNER, Rtype::TLSA, signed_by("z", 1), vec![tlsa(1)])]);
        let zone = Zone::new("z", &[("*.z", &[Rtype::TLSA]), ("a.z", &[Rtype::A])]);
        let closer = Zone::new("z", &[("*.z", &[Rtype::TLSA]), ("mx.z", &[Rtype::A])]);
        let other = Zone::new("", &[("y", &[Rtype::NS])]);
        for (authorities, status) in [
            (zone.nsec(), Some(SECURE)),
            (zone.nsec3(), Some(SECURE)),
            // RFC 5155 §9.2.
            (zone.nsec3_with_opt_out(), Some(LinkStatus::Proven(Security::Insecure))),
            (closer.nsec(), None),
            (closer.nsec3(), None),
            (other.nsec(), None),
            (vec![insecure("plain", Rtype::SOA, Data::Other(Presentation::default()))], None),
        ] {
            let found = judged(&DnsReply { authorities, ..wildcard() }).ok();
            assert_eq!(found, status.map(|status| Link::Records(vec![tlsa(1)], status)));
        }
    }

    #[test]
    fn a_denial_that_costs_too_much_says_so() {
        // RFC 9276 §3.2.
        let mut authorities = Zone::new("z", &[("mx.z", &[Rtype::A])]).nsec3();
        authorities.push(secure("z", Rtype::SOA, Data::Other(Presentation::default())));
        for data in authorities.iter_mut().flat_map(|set| &mut set.records) {
            if let Data::Nsec3(record) = data {
                record.parameters.iterations = 501;
            }
        }
        for rcode in [Rcode::NoError, Rcode::NxDomain] {
            let why = judged(&denied(rcode, authorities.clone())).unwrap_err();
            assert_eq!(why, bogus("NSEC3 records with more than 500 iterations"));
        }
    }

    #[test]
    fn a_wildcard_itself_needs_no_gap() {
        // RFC 4034 §3.1.3: the signature does not count the `*`.
        let asked = Question { name: name("*.w.z"), rtype: Rtype::TLSA };
        let signed = |labels| answer(vec![set("*.w.z", Rtype::TLSA, signed_by("z", labels), vec![tlsa(1)])]);
        let judged = |labels| judge(&asked, &signed(labels), &toy_hash).ok();
        assert_eq!(judged(2), Some(Link::Records(vec![tlsa(1)], SECURE)));
        // Made from `*.z`, or signed as no wildcard is.
        assert_eq!([judged(1), judged(3)], [None, None]);
    }

    #[test]
    fn denials_need_a_fitting_record() {
        let zone = Zone::new("z", &[("mx.z", &[Rtype::A])]);
        let deep = Zone::new("z", &[(OWNER, &[Rtype::A])]);
        let has = Zone::new("z", &[(OWNER, &[Rtype::TLSA])]);
        let parent = Zone::new("", &[("z", &[Rtype::NS, Rtype::DS])]);
        let soa = |owner: &str| vec![insecure(owner, Rtype::SOA, Data::Other(Presentation::default()))];
        let bogus_soa = vec![bogus_set("z", Rtype::SOA, Data::Other(Presentation::default()))];
        for (rcode, authorities, expected) in [
            (Rcode::NxDomain, zone.nsec(), Some(SECURE)),
            (Rcode::NxDomain, zone.nsec3(), Some(SECURE)),
            (Rcode::NoError, deep.nsec(), Some(SECURE)),
            // A name that does not exist has no records: the code that is not signed may say that alone, and no more
            // than is proven.
            (Rcode::NoError, zone.nsec(), Some(SECURE)),
            (Rcode::NoError, zone.nsec3(), Some(SECURE)),
            (Rcode::NoError, zone.nsec3_with_opt_out(), Some(LinkStatus::Proven(Security::Insecure))),
            // An empty non-terminal: the records prove that it has no such record.
            (Rcode::NxDomain, deep.nsec(), Some(SECURE)),
            (Rcode::NoError, has.nsec(), None),
            (Rcode::NxDomain, parent.nsec(), None),
            (Rcode::NoError, parent.nsec(), None),
            // S1: an unsigned denial is of an ancestor zone, and even then a claim.
            (Rcode::NoError, soa("z"), Some(claimed(OWNER))),
            (Rcode::NxDomain, soa("mx.z"), Some(claimed(OWNER))),
            (Rcode::NoError, soa("plain"), None),
            (Rcode::NoError, soa("x._25._tcp.mx.z"), None),
            (Rcode::NoError, bogus_soa.clone(), None),
            // Beside signed proofs too: the TTL of the denial is the SOA record's.
            (Rcode::NxDomain, [zone.nsec(), bogus_soa].concat(), None),
            (Rcode::NxDomain, [zone.nsec(), soa("z")].concat(), None),
            (Rcode::NoError, vec![insecure("z", Rtype::NS, Data::Other(Presentation::default()))], None),
            (Rcode::NoError, vec![], Some(claimed(OWNER))),
        ] {
            let reply = denied(rcode, authorities);
            let status = match judged(&reply) {
                Ok(Link::Denied(_, status)) => Some(status),
                Ok(Link::Records(..) | Link::Alias(..)) => panic!("{reply:?}"),
                Err(_) => None,
            };
            assert_eq!(status, expected, "{reply:?}");
        }
    }

    #[test]
    fn a_denial_says_no_more_than_its_proof_and_no_more_than_its_code() {
        use Denied::{NoData, NxDomain};
        let (above, wild) = (format!("x.{OWNER}"), "*._tcp.mx.z");
        for (records, proven) in [
            (vec![("mx.z", &[Rtype::A][..])], NxDomain),
            (vec![(OWNER, &[Rtype::A][..])], NoData),
            // An empty non-terminal.
            (vec![(above.as_str(), &[Rtype::A][..])], NoData),
            (vec![(wild, &[Rtype::A][..])], NoData),
        ] {
            let zone = Zone::new("z", &records);
            for authorities in [zone.nsec(), zone.nsec3()] {
                for (rcode, denied_by_code) in [(Rcode::NoError, NoData), (Rcode::NxDomain, NxDomain)] {
                    let least = if proven == denied_by_code { proven } else { NoData };
                    let found = judged(&denied(rcode, authorities.clone())).ok();
                    assert_eq!(found, Some(Link::Denied(least, SECURE)), "{records:?} {rcode:?}");
                }
            }
        }
    }

    #[test]
    fn unsigned_delegations_are_proven_by_the_parent() {
        let cut = |types: &[Rtype]| Zone::new("", &[("z", types)]).nsec();
        let ds =
            |proof, support| answer(vec![set("z", Rtype::DS, proof, vec![Data::Ds(support, Presentation::default())])]);
        let soa = || vec![insecure("", Rtype::SOA, Data::Other(Presentation::default()))];
        let asked = |reply: &DnsReply| delegation(&name("z"), reply, &toy_hash).ok();
        assert_eq!(asked(&denied(Rcode::NoError, cut(&[Rtype::NS]))), Some(Delegation::Unsigned));
        // RFC 6840 §4.4: without NS it is no delegation.
        assert_eq!(asked(&denied(Rcode::NoError, cut(&[Rtype::A]))), Some(Delegation::None));
        assert_eq!(asked(&denied(Rcode::NoError, cut(&[Rtype::NS, Rtype::DS]))), Some(Delegation::Unproven));
        // The zone's own records do not prove its delegation.
        let own = Zone::new("z", &[]);
        assert_eq!(asked(&denied(Rcode::NoError, own.nsec())), Some(Delegation::Unproven));
        assert_eq!(asked(&denied(Rcode::NoError, soa())), Some(Delegation::Unproven));
        assert_eq!(asked(&denied(Rcode::NoError, vec![])), Some(Delegation::Unproven));
        assert_eq!(asked(&ds(signed_by("", 1), DsSupport::Supported)), Some(Delegation::Signed));
        // RFC 4035 §5.2.
        assert_eq!(asked(&ds(signed_by("", 1), DsSupport::Unsupported)), Some(Delegation::Unsigned));
        assert_eq!(asked(&ds(signed_by("", 0), DsSupport::Unsupported)), None);
        assert_eq!(asked(&ds(signed_by("z", 1), DsSupport::Unsupported)), None);
        assert_eq!(asked(&ds(Proof::Insecure, DsSupport::Unsupported)), None);
        assert_eq!(asked(&ds(Proof::Unproven("bogus"), DsSupport::Unsupported)), None);
        let mixed = vec![
            Data::Ds(DsSupport::Unsupported, Presentation::default()),
            Data::Ds(DsSupport::Supported, Presentation::default()),
        ];
        assert_eq!(asked(&answer(vec![set("z", Rtype::DS, signed_by("", 1), mixed)])), Some(Delegation::Signed));
    }

    #[test]
    fn chains_are_bounded() {
        let mut chain = AliasChain::new(&Name::parse("h0").unwrap(), Rtype::TLSA);
        for i in 1..=MAX_ALIASES {
            chain.follow(name(&format!("h{i}")), Security::Secure).unwrap();
        }
        let too_many = Err(FailureReason::TooManyAliases(MAX_ALIASES));
        assert_eq!(chain.follow(name("h17"), Security::Secure), too_many);
        let mut chain = AliasChain::new(&Name::parse("a").unwrap(), Rtype::TLSA);
        assert_eq!(chain.follow(name("a"), Security::Secure), too_many);
        chain.follow(name("b"), Security::Secure).unwrap();
        assert_eq!(chain.follow(name("a"), Security::Secure), too_many);
    }

    #[test]
    fn chains_lead_to_what_can_have_the_records() {
        // RFC 1034 §4.3.3: a wildcard has records of its own. It is no host and no mail domain.
        let leads = |rtype, target: &str| {
            let mut chain = AliasChain::new(&Name::parse("a").unwrap(), rtype);
            chain.follow(name(target), Security::Secure).is_ok_and(|()| chain.aliases[0].target.to_string() == target)
        };
        for (rtype, target, expected) in [
            (Rtype::TLSA, "*._tcp.b", true),
            (Rtype::TXT, "*.b", true),
            (Rtype::TLSA, "*", true),
            (Rtype::MX, "*.b", false),
            (Rtype::A, "*.b", false),
            (Rtype::AAAA, "*.b", false),
            (Rtype::TLSA, "*.*.b", false),
            (Rtype::TLSA, "b.*", false),
            (Rtype::TLSA, "**.b", false),
        ] {
            assert_eq!(leads(rtype, target), expected, "{rtype:?} {target}");
        }
    }

    fn any_owner() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec![OWNER, "_tcp.mx.z", "mx.z", "z", "", "t.z", "plain", "x._25._tcp.mx.z"])
    }

    fn any_proof() -> impl Strategy<Value = Proof> {
        prop_oneof![
            (prop::sample::select(vec!["z", "", "mx.z", "plain"]), 0_usize..6)
                .prop_map(|(signer, labels)| signed_by(signer, labels)),
            Just(Proof::Insecure),
            Just(Proof::Unproven("bogus")),
        ]
    }

    fn any_set() -> impl Strategy<Value = RrSet> {
        let types = vec![Rtype::TLSA, Rtype::CNAME, Rtype::DNAME, Rtype::SOA, Rtype::A];
        (any_owner(), prop::sample::select(types), any_proof()).prop_map(|(owner, rtype, proof)| {
            let data = match rtype {
                Rtype::TLSA => tlsa(1),
                Rtype::CNAME | Rtype::DNAME => alias("t.z"),
                _ => Data::Other(Presentation::default()),
            };
            set(owner, rtype, proof, vec![data])
        })
    }

    /// Denial records of the zone, its parent or a stranger, in part, with their proof taken away or not.
    fn any_denial() -> impl Strategy<Value = Vec<RrSet>> {
        let zones = vec![
            Zone::new("z", &[("mx.z", &[Rtype::A])]),
            Zone::new("z", &[(OWNER, &[Rtype::TLSA])]),
            Zone::new("z", &[("*.z", &[Rtype::TLSA])]),
            Zone::new("", &[("z", &[Rtype::NS])]),
            Zone::new("plain", &[]),
        ];
        let sets = (prop::sample::select(zones), 0..3).prop_map(|(zone, kind)| match kind {
            0 => zone.nsec(),
            1 => zone.nsec3(),
            _ => zone.nsec3_with_opt_out(),
        });
        (sets, prop::collection::vec(prop::option::weighted(0.3, any_proof()), 8)).prop_map(|(mut sets, proofs)| {
            for (set, proof) in sets.iter_mut().zip(proofs) {
                set.proof = proof.unwrap_or_else(|| set.proof.clone());
            }
            sets
        })
    }

    fn any_reply() -> impl Strategy<Value = DnsReply> {
        let rcode = prop::sample::select(vec![Rcode::NoError, Rcode::NxDomain]);
        let answers = prop::collection::vec(any_set(), 0..3);
        let authorities = (prop::collection::vec(any_set(), 0..2), prop::option::of(any_denial()))
            .prop_map(|(sets, denial)| [sets, denial.unwrap_or_default()].concat());
        (rcode, answers, authorities)
            .prop_map(|(rcode, answers, authorities)| DnsReply { answers, ..denied(rcode, authorities) })
    }

    fn is_claim_or_proof(status: &LinkStatus, set: &RrSet) -> bool {
        match (status, &set.proof) {
            (LinkStatus::Proven(_), Proof::Secure(_)) => true,
            (LinkStatus::Claimed(at), Proof::Insecure) => *at == set.owner,
            (LinkStatus::Proven(_), Proof::Insecure)
            | (LinkStatus::Claimed(_), Proof::Secure(_))
            | (_, Proof::Unproven(_)) => false,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5000))]

        /// Never records or a link without a set that bears them, never a denial without a record that does.
        #[test]
        fn each_verdict_rests_on_a_record(reply in any_reply()) {
            let asked = question();
            let evidence = || Evidence::about(&asked.name, &reply.authorities, &toy_hash);
            match judged(&reply) {
                Ok(Link::Records(records, status)) => {
                    let bears = |set: &RrSet| {
                        set.owner == asked.name && set.rtype == asked.rtype && set.records == records
                            && is_claim_or_proof(&status, set)
                    };
                    prop_assert!(reply.answers.iter().any(bears));
                }
                Ok(Link::Alias(_, status)) => {
                    let bears = |set: &RrSet| is_claim_or_proof(&status, set) && match set.rtype {
                        Rtype::CNAME => set.owner == asked.name,
                        Rtype::DNAME => asked.name.is_below(&set.owner) && status == SECURE,
                        _ => false,
                    };
                    prop_assert!(reply.answers.iter().any(bears));
                }
                Ok(Link::Denied(denied, LinkStatus::Proven(security))) => {
                    prop_assert!(reply.answers.is_empty());
                    let proven = evidence().and_then(|evidence| evidence.denial(&asked.name, asked.rtype));
                    let is_no_more = |proven| proven == denied || denied == Denied::NoData;
                    prop_assert!(proven.is_some_and(|(proven, by)| is_no_more(proven) && by == security));
                }
                Ok(Link::Denied(_, LinkStatus::Claimed(at))) => {
                    let of_ancestor = |set: &RrSet| {
                        set.rtype == Rtype::SOA && set.proof == Proof::Insecure && at.is_at_or_below(&set.owner)
                    };
                    prop_assert!(reply.answers.is_empty());
                    prop_assert!(at == asked.name && evidence().is_none());
                    prop_assert!(reply.authorities.is_empty() || reply.authorities.iter().any(of_ancestor));
                }
                Err(_) => {}
            }
        }

        /// A chain is secure if every link and its end are, and not otherwise (RFC 7672 §2.1.3).
        #[test]
        fn a_chain_is_as_secure_as_its_weakest_link(links in prop::collection::vec(any::<bool>(), 1..=MAX_ALIASES + 1)) {
            let security = |secure: bool| if secure { Security::Secure } else { Security::Insecure };
            let mut chain = AliasChain::new(&Name::parse("h").unwrap(), Rtype::TLSA);
            for (i, secure) in links[1..].iter().enumerate() {
                chain.follow(name(&format!("h{i}")), security(*secure)).unwrap();
            }
            let asked = Name::parse("h").unwrap();
            let end = security(links[0]);
            let (aliases, answer, finality) = (chain.aliases, Answer::NoData, Finality::Final);
            let lookup: Lookup<()> = Lookup { asked, aliases, end, answer, finality };
            prop_assert_eq!(lookup.security(), security(links.iter().all(|secure| *secure)));
            prop_assert_eq!(CanonicalName::from(lookup.expanded()), chain.question.name);
        }
    }
}
