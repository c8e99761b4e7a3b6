//! The invariant of the link layer, for its fuzz target and for a property test. The replies hold genuine records in
//! any selection and place, and forged ones. No name is called secure without the zones' word, and no name insecure
//! that they have signed.
//!
//! The world is small and fixed: the root, `t` with every kind of record, `s.t` signed and `u.t` unsigned below it. The
//! attacker writes every reply. Signatures limit him: [`Proof::Secure`] stands on genuine record sets alone, at their
//! own owner or as a wildcard makes them. He may put [`Proof::Insecure`] on any set, which is more than a real attacker
//! can do.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a broken invariant is a panic")]

use std::time::Duration;

use super::canonical::CanonicalName;
use super::denial::Denied;
use super::links::{AliasChain, Delegation, Link, LinkStatus, Question, delegation, judge};
use super::reference_model::{Zone, name, toy_hash};
use super::reply::{Data, DnsReply, DsSupport, Presentation, Proof, Rcode, RrSet, Rtype, Signature};
use super::{FailureReason, RawTlsa, Security};

/// Names that questions, forged records and renamed ones are about.
const NAMES: [&str; 31] = [
    "a.t",
    "a.s.t",
    "_25._tcp.a.s.t",
    "b.s.t",
    "c.t",
    "x.d.t",
    "a.d.t",
    "q.w.t",
    "x.w.t",
    "y.x.w.t",
    "x.q.w.t",
    "w.t",
    "u.t",
    "a.u.t",
    "s.t",
    "f.s.t",
    "no.t",
    "x.no.t",
    "e.t",
    "u.e.t",
    "a.u.e.t",
    "x.e.t",
    "g.t",
    "s.g.t",
    "a.s.g.t",
    "x.v.t",
    "y.x.v.t",
    "v.t",
    "x.b.s.t",
    "t",
    "",
];
const TYPES: [Rtype; 9] =
    [Rtype::TLSA, Rtype::A, Rtype::MX, Rtype::CNAME, Rtype::DNAME, Rtype::DS, Rtype::SOA, Rtype::NSEC, Rtype::NS];

/// Reads a world, a question and the attacker's replies out of `octets`, and follows the question to its end.
///
/// # Panics
/// The invariant is broken.
pub fn links(octets: &[u8]) {
    let mut attack = Attack { octets: octets.iter(), world: World::new(octets.first().copied().unwrap_or_default()) };
    attack.next();
    let rtype = [Rtype::TLSA, Rtype::A, Rtype::MX][usize::from(attack.next()) % 3];
    let mut chain = AliasChain::new(&attack.name().to_name().unwrap(), rtype);
    // An end, a failure, or no more octets: then every reply is empty, which denies or fails.
    while let Ok(Some(target)) = attack.link(&chain.question) {
        let (target, security) = target;
        if chain.follow(target, security).is_err() {
            break;
        }
    }
}

/// How a zone denies.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Denies {
    Nsec,
    Nsec3,
    OptOut,
}

struct World {
    zones: Vec<(Zone, Denies)>,
    genuine: Vec<RrSet>,
}

impl World {
    fn new(seed: u8) -> Self {
        let denies = |bits: u8| [Denies::Nsec, Denies::Nsec3, Denies::OptOut][usize::from(bits) % 3];
        let zones = vec![
            (Zone::new("", &[("t", &[Rtype::NS, Rtype::DS])]), Denies::Nsec),
            (
                Zone::new(
                    "t",
                    &[
                        ("a.t", &[Rtype::A]),
                        ("s.t", &[Rtype::NS, Rtype::DS]),
                        ("u.t", &[Rtype::NS]),
                        // Opt-out leaves `e.t` out with the one delegation below it, and keeps `g.t`.
                        ("u.e.t", &[Rtype::NS]),
                        ("u.g.t", &[Rtype::NS]),
                        ("s.g.t", &[Rtype::NS, Rtype::DS]),
                        ("*.w.t", &[Rtype::TLSA]),
                        ("q.w.t", &[Rtype::A]),
                        ("*.v.t", &[Rtype::CNAME]),
                        ("c.t", &[Rtype::CNAME]),
                        ("d.t", &[Rtype::DNAME]),
                    ],
                ),
                denies(seed),
            ),
            (
                Zone::new(
                    "s.t",
                    &[
                        ("a.s.t", &[Rtype::A]),
                        ("_25._tcp.a.s.t", &[Rtype::TLSA]),
                        ("b.s.t", &[Rtype::CNAME]),
                        ("e.f.s.t", &[Rtype::A]),
                        ("*.s.t", &[Rtype::MX]),
                    ],
                ),
                denies(seed / 3),
            ),
        ];
        let genuine = zones.iter().flat_map(|(zone, denies)| signed(zone, *denies)).collect();
        Self { zones, genuine }
    }

    /// The signed zone that has the say about a name and type: the deepest, but for DS the parent's.
    fn zone(&self, name: &CanonicalName, rtype: Rtype) -> &(Zone, Denies) {
        let inside = |zone: &Zone| match rtype {
            Rtype::DS => name.is_below(&zone.apex),
            _ => name.is_at_or_below(&zone.apex),
        };
        let zones = self.zones.iter().filter(|(zone, _)| inside(zone));
        zones.max_by_key(|(zone, _)| zone.apex.depth()).unwrap_or(&self.zones[0])
    }

    /// Whether a name may be called insecure: it lies in an unsigned zone, or in an opt-out span that leaves this open,
    /// and no signed record stands at or below it.
    fn may_be_insecure(&self, name: &CanonicalName) -> bool {
        let (zone, denies) = self.zone(name, Rtype::A);
        zone.is_below_unsigned(name) || *denies == Denies::OptOut && zone.has_nothing_signed(name)
    }

    fn uphold(&self, question: &Question, link: &Link, security: Security) {
        let (zone, _) = self.zone(&question.name, question.rtype);
        let lawful = match (security, link) {
            (Security::Insecure, _) => self.may_be_insecure(&question.name),
            (Security::Secure, Link::Denied(denied, _)) => {
                let truth = zone.truth(&question.name, question.rtype);
                // A name that does not exist has no records either.
                truth == Some(*denied) || (truth, *denied) == (Some(Denied::NxDomain), Denied::NoData)
            }
            (Security::Secure, Link::Records(records, _)) => {
                let source = source(zone, &question.name);
                !zone.is_beyond(&source)
                    && zone.types(&source).has(question.rtype)
                    && *records == [data(&source, question.rtype)]
            }
            (Security::Secure, Link::Alias(target, _)) => {
                let source = source(zone, &question.name);
                let cname =
                    zone.types(&source).has(Rtype::CNAME) && Data::Alias(target.clone()) == data(&source, Rtype::CNAME);
                cname || is_redirected(zone, &question.name, target)
            }
        };
        assert!(lawful, "{question:?} in {zone:?}: {link:?}, {security}");
    }
}

/// The name itself, or the wildcard that stands for it (RFC 4592 §3.3.1).
fn source(zone: &Zone, name: &CanonicalName) -> CanonicalName {
    if zone.exists(name) { name.clone() } else { zone.encloser(name).wildcard() }
}

fn is_redirected(zone: &Zone, name: &CanonicalName, target: &CanonicalName) -> bool {
    let dnames = zone.names.iter().filter(|(owner, types)| types.contains(&Rtype::DNAME.0) && name.is_below(owner));
    dnames.into_iter().any(|(owner, _)| match data(owner, Rtype::DNAME) {
        Data::Alias(to) => name.substituted(owner, &to).as_ref() == Ok(target),
        _ => false,
    })
}

/// The one record of a type at a name.
fn data(owner: &CanonicalName, rtype: Rtype) -> Data {
    let target = |text: &str| Data::Alias(name(text));
    match (rtype, owner.to_string().as_str()) {
        (Rtype::CNAME, "c.t") => target("_25._tcp.a.s.t"),
        (Rtype::CNAME, _) => target("a.u.t"),
        (Rtype::DNAME, _) => target("s.t"),
        (Rtype::TLSA, text) => Data::Tlsa(RawTlsa(text.bytes().collect())),
        (Rtype::DS, _) => Data::Ds(DsSupport::Supported, Presentation::default()),
        (_, text) => Data::Other(Presentation::new(text)),
    }
}

/// All that a zone has signed.
fn signed(zone: &Zone, denies: Denies) -> Vec<RrSet> {
    let mut sets = match denies {
        Denies::Nsec => zone.nsec(),
        Denies::Nsec3 => zone.nsec3(),
        Denies::OptOut => zone.nsec3_with_opt_out(),
    };
    for (owner, types) in &zone.names {
        let cut = *owner != zone.apex && types.contains(&Rtype::NS.0);
        // RFC 4035 §2.2: the parent does not sign the NS records of a delegation.
        let types = types.iter().map(|number| Rtype(*number)).filter(|rtype| !cut || *rtype == Rtype::DS);
        sets.extend(types.map(|rtype| zone.secure(owner.clone(), rtype, data(owner, rtype))));
    }
    sets
}

/// The attacker's replies, read from octets.
struct Attack<'a> {
    octets: std::slice::Iter<'a, u8>,
    world: World,
}

impl Attack<'_> {
    fn next(&mut self) -> u8 {
        self.octets.next().copied().unwrap_or_default()
    }

    fn name(&mut self) -> CanonicalName {
        name(NAMES[usize::from(self.next()) % NAMES.len()])
    }

    /// Asks one question, judges its reply, and checks the verdict; returns the target and its security where it is an
    /// alias.
    fn link(&mut self, question: &Question) -> Result<Option<(CanonicalName, Security)>, FailureReason> {
        let reply = self.reply(&question.name);
        let link = judge(question, &reply, &toy_hash)?;
        let status = match &link {
            Link::Records(_, status) | Link::Alias(_, status) | Link::Denied(_, status) => status.clone(),
        };
        let security = self.settle(status)?;
        self.world.uphold(question, &link, security);
        match link {
            Link::Alias(target, _) => Ok(Some((target, security))),
            Link::Records(..) | Link::Denied(Denied::NoData | Denied::NxDomain, _) => Ok(None),
        }
    }

    /// As the resolver settles a claim: by DS questions from the top down.
    fn settle(&mut self, status: LinkStatus) -> Result<Security, FailureReason> {
        let claimed = match status {
            LinkStatus::Proven(security) => return Ok(security),
            LinkStatus::Claimed(name) => name,
        };
        for depth in 1..=claimed.depth() {
            let cut = claimed.ancestor(depth);
            let reply = self.reply(&cut);
            match delegation(&cut, &reply, &toy_hash)? {
                Delegation::Unsigned => return Ok(Security::Insecure),
                Delegation::Signed | Delegation::None | Delegation::Unproven => {}
            }
        }
        Err(FailureReason::Timeout)
    }

    fn reply(&mut self, asked: &CanonicalName) -> DnsReply {
        let flags = self.next();
        let (answers, authorities) = (usize::from(flags >> 2 & 3), usize::from(flags >> 4 & 7));
        // Often all that a zone has to deny with, which chance would seldom put together.
        let chain = if flags & 0x80 == 0 { Vec::new() } else { self.chain() };
        DnsReply {
            rcode: if flags & 1 == 0 { Rcode::NoError } else { Rcode::NxDomain },
            answers: (0..answers).map(|_| self.set(asked)).collect(),
            authorities: (0..authorities).map(|_| self.set(asked)).chain(chain).collect(),
            ttl: Duration::ZERO,
        }
    }

    /// Every denial record of one zone.
    fn chain(&mut self) -> Vec<RrSet> {
        let zone = usize::from(self.next()) % self.world.zones.len();
        let (zone, denies) = &self.world.zones[zone];
        signed(zone, *denies).into_iter().filter(|set| [Rtype::NSEC, Rtype::NSEC3].contains(&set.rtype)).collect()
    }

    /// A set of the attacker's choice: genuine, made from a wildcard, or forged.
    fn set(&mut self, asked: &CanonicalName) -> RrSet {
        let kind = self.next();
        if kind % 4 < 3 {
            let chosen = usize::from(self.next());
            let genuine = self.world.genuine[chosen % self.world.genuine.len()].clone();
            return if kind % 4 == 2 { expanded(genuine, asked) } else { genuine };
        }
        let owner = if kind & 4 == 0 { asked.clone() } else { self.name() };
        let rtype = TYPES[usize::from(self.next()) % TYPES.len()];
        let proof = if kind & 8 == 0 { Proof::Insecure } else { Proof::Unproven("bogus") };
        let records = match rtype {
            Rtype::CNAME | Rtype::DNAME => vec![Data::Alias(self.name())],
            _ => vec![Data::Other(Presentation::new("forged"))],
        };
        RrSet { owner, rtype, proof, records }
    }
}

/// A wildcard's set under the name that was asked, where the signature still verifies (RFC 4035 §5.3.2).
fn expanded(set: RrSet, asked: &CanonicalName) -> RrSet {
    let encloser = set.owner.parent();
    let is_wild = set.owner.leftmost() == Some(b"*") && asked.is_below(&encloser);
    match &set.proof {
        Proof::Secure(Signature { .. }) if is_wild => RrSet { owner: asked.clone(), ..set },
        Proof::Secure(_) | Proof::Insecure | Proof::Unproven(_) => set,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn the_invariant_holds(octets in prop::collection::vec(any::<u8>(), 0..120)) {
            links(&octets);
        }
    }
}
