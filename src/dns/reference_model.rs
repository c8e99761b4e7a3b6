//! A reference model of a signed zone, for the tests and invariants of [`denial`](super::denial) and
//! [`links`](super::links): its records, the denials it would sign, and the true answer for a name.

#![allow(clippy::unwrap_used, reason = "a model that cannot be built is a test that fails")]

use std::collections::{BTreeMap, BTreeSet};

use super::canonical::CanonicalName;
use super::denial::Denied;
use super::reply::{Data, Nsec, Nsec3, Nsec3Parameters, Proof, RrSet, Rtype, Signature, Types};

pub(super) fn name(text: &str) -> CanonicalName {
    CanonicalName::from_labels(text.split('.').filter(|label| !label.is_empty()).map(str::as_bytes))
}

/// Stands in for SHA-1: the names need an order that is unrelated to their own.
pub(super) fn toy_hash(name: &CanonicalName, parameters: &Nsec3Parameters) -> Option<Vec<u8>> {
    let seed = 0xcbf2_9ce4_8422_2325 ^ u64::from(parameters.iterations);
    let hash = name
        .to_string()
        .bytes()
        .fold(seed, |hash, octet| (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3).rotate_left(17));
    Some(hash.to_be_bytes()[..5].to_vec())
}

/// A signed zone: its apex and the types at each name, the apex's and the cuts' among them.
#[derive(Debug, Clone)]
pub(super) struct Zone {
    pub(super) apex: CanonicalName,
    pub(super) names: BTreeMap<CanonicalName, BTreeSet<u16>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OptOut {
    Yes,
    No,
}

impl Zone {
    pub(super) fn new(apex: &str, names: &[(&str, &[Rtype])]) -> Self {
        let apex = name(apex);
        let mut zone = Self { names: BTreeMap::new(), apex };
        zone.names.insert(zone.apex.clone(), [Rtype::SOA, Rtype::NS].map(|rtype| rtype.0).into());
        for (owner, types) in names {
            zone.names.insert(name(owner), types.iter().map(|rtype| rtype.0).collect());
        }
        zone
    }

    pub(super) fn secure(&self, owner: CanonicalName, rtype: Rtype, data: Data) -> RrSet {
        let stars = usize::from(owner.leftmost() == Some(b"*"));
        let proof = Proof::Secure(Signature { signer: self.apex.clone(), labels: owner.depth() - stars });
        RrSet { owner, rtype, proof, records: vec![data] }
    }

    pub(super) fn nsec(&self) -> Vec<RrSet> {
        let owners: Vec<_> = self.names.keys().collect();
        let next = owners.iter().cycle().skip(1);
        let chain = self.names.iter().zip(next);
        chain
            .map(|((owner, types), next)| {
                let nsec = Nsec { next: (*next).clone(), types: Types(types.clone()) };
                self.secure(owner.clone(), Rtype::NSEC, Data::Nsec(nsec))
            })
            .collect()
    }

    pub(super) fn nsec3(&self) -> Vec<RrSet> {
        self.nsec3_chain(OptOut::No)
    }

    /// The chain that leaves out unsigned delegations and the empty non-terminals that lead to no other names (RFC 5155
    /// §6, §7.1, erratum 3441).
    pub(super) fn nsec3_with_opt_out(&self) -> Vec<RrSet> {
        self.nsec3_chain(OptOut::Yes)
    }

    fn nsec3_chain(&self, opt_out: OptOut) -> Vec<RrSet> {
        let opt_out = opt_out == OptOut::Yes;
        let parameters = Nsec3Parameters { iterations: 1, salt: vec![] };
        let mut hashes: BTreeMap<Vec<u8>, BTreeSet<u16>> = BTreeMap::new();
        for (owner, types) in &self.names {
            if opt_out && Types(types.clone()).is_unsigned_delegation() {
                continue;
            }
            for depth in self.apex.depth()..=owner.depth() {
                hashes.entry(toy_hash(&owner.ancestor(depth), &parameters).unwrap()).or_default();
            }
            hashes.get_mut(&toy_hash(owner, &parameters).unwrap()).unwrap().extend(types);
        }
        let sets = hashes.iter().zip(hashes.keys().cycle().skip(1)).map(|((hash, types), next)| {
            let label = base32hex_of(hash);
            let labels: Vec<&[u8]> = std::iter::once(label.as_bytes()).chain(self.apex.labels()).collect();
            let (next, types) = (next.clone(), Types(types.clone()));
            let nsec3 = Nsec3 { opt_out, parameters: parameters.clone(), next, types };
            self.secure(CanonicalName::from_labels(labels.into_iter()), Rtype::NSEC3, Data::Nsec3(nsec3))
        });
        sets.collect()
    }

    /// Below a cut or a DNAME: not this zone's names.
    pub(super) fn is_beyond(&self, name: &CanonicalName) -> bool {
        let ends = |(owner, types): (&CanonicalName, &BTreeSet<u16>)| {
            name.is_below(owner) && Types(types.clone()).ends_the_zone()
        };
        !name.is_at_or_below(&self.apex) || self.names.iter().any(ends)
    }

    pub(super) fn is_below_unsigned(&self, name: &CanonicalName) -> bool {
        let cut = |(owner, types): (&CanonicalName, &BTreeSet<u16>)| {
            name.is_at_or_below(owner) && Types(types.clone()).is_unsigned_delegation()
        };
        self.names.iter().any(cut)
    }

    /// No name at or below this one is signed: none is in this zone, or all are unsigned delegations. A chain with
    /// opt-out leaves such a name out (RFC 5155 §7.1, erratum 3441).
    pub(super) fn has_nothing_signed(&self, name: &CanonicalName) -> bool {
        let inside = self.names.iter().filter(|(owner, _)| owner.is_at_or_below(name));
        name.is_below(&self.apex)
            && (!self.is_beyond(name) || self.is_below_unsigned(name))
            && inside.into_iter().all(|(_, types)| Types(types.clone()).is_unsigned_delegation())
    }

    pub(super) fn exists(&self, name: &CanonicalName) -> bool {
        self.names.keys().any(|owner| owner.is_at_or_below(name))
    }

    pub(super) fn encloser(&self, name: &CanonicalName) -> CanonicalName {
        (0..name.depth()).rev().map(|depth| name.ancestor(depth)).find(|at| self.exists(at)).unwrap()
    }

    pub(super) fn types(&self, name: &CanonicalName) -> Types {
        Types(self.names.get(name).cloned().unwrap_or_default())
    }

    /// The true answer of the zone, by RFC 4592 §3.3.1 and RFC 6840 §4.1: proofs are compared with it.
    pub(super) fn truth(&self, name: &CanonicalName, rtype: Rtype) -> Option<Denied> {
        if self.is_beyond(name) {
            return None;
        }
        let source = if self.exists(name) { name.clone() } else { self.encloser(name).wildcard() };
        if !self.exists(&source) {
            return Some(Denied::NxDomain);
        }
        self.types(&source).deny(rtype).then_some(Denied::NoData)
    }
}

pub(super) fn base32hex_of(octets: &[u8]) -> String {
    let bits: String = octets.iter().map(|octet| format!("{octet:08b}")).collect();
    let value = |five: &[u8]| five.iter().fold(0, |value, bit| value * 2 + usize::from(bit - b'0'));
    bits.as_bytes().chunks(5).map(|five| char::from(b"0123456789abcdefghijklmnopqrstuv"[value(five)])).collect()
}
