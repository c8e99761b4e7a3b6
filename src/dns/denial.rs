//! The facts that signed NSEC and NSEC3 records prove: a name or a type does not exist, no closer name than a wildcard
//! exists, a delegation is unsigned (RFC 4035 §5.4, RFC 5155 §8, RFC 6840 §4).
//!
//! This is where a downgrade would begin: an attacker who makes a validator believe "there is no TLSA record" or "this
//! zone is unsigned" has switched DANE off. So the rules are applied here alone, on records whose signatures were
//! verified; no other module decides about these proofs. Records of one zone are evidence about names of that zone
//! only: the zone is the *signer*, never a name that the sender of the reply can choose.

use super::Security;
use super::canonical::CanonicalName;
use super::reply::{Data, Nsec, Nsec3, Nsec3Hash, Nsec3Parameters, Proof, RrSet, Rtype};

/// More iterations than this are not computed. RFC 9276 §3.2 lets a validator fail above a limit of its choice; the
/// other choice, "insecure", would let a zone's own parameters switch DANE off.
pub(super) const MAX_ITERATIONS: u16 = 500;

/// The kind of a denial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Denied {
    /// The name exists and has no record of the type.
    NoData,
    /// The name does not exist.
    NxDomain,
}

/// The verified NSEC or NSEC3 records of one zone.
pub(super) enum Evidence<'a> {
    Nsec(NsecChain<'a>),
    Nsec3(Nsec3Chain<'a>),
}

impl<'a> Evidence<'a> {
    /// The records that speak about `name`: of the signers at or above it, the closest.
    pub(super) fn about(name: &CanonicalName, sets: &'a [RrSet], hash: Nsec3Hash<'a>) -> Option<Self> {
        let closest = sets
            .iter()
            .filter_map(denial_signer)
            .filter(|signer| name.is_at_or_below(signer))
            .max_by_key(|signer| signer.depth())?;
        Self::of_zone(closest, sets, hash)
    }

    /// The records that `zone` signed; `None` where NSEC and NSEC3 are mixed (RFC 5155 §7.1) or parameters differ.
    pub(super) fn of_zone(zone: &CanonicalName, sets: &'a [RrSet], hash: Nsec3Hash<'a>) -> Option<Self> {
        let ours = || sets.iter().filter(|set| denial_signer(set) == Some(zone));
        let nsec: Vec<_> = ours().filter_map(|set| nsec_record(set, zone)).collect();
        let nsec3: Vec<_> = ours().filter_map(|set| nsec3_record(set, zone)).collect();
        match (nsec.is_empty(), nsec3.first()) {
            (false, None) => Some(Self::Nsec(NsecChain { zone: zone.clone(), records: nsec })),
            (true, Some((_, first))) => {
                let parameters = first.parameters.clone();
                // RFC 5155 §8.2: records of differing parameters are no chain.
                let uniform = nsec3.iter().all(|(_, record)| record.parameters == parameters);
                let affordable = parameters.iterations <= MAX_ITERATIONS;
                (uniform && affordable)
                    .then(|| Self::Nsec3(Nsec3Chain { zone: zone.clone(), records: nsec3, parameters, hash }))
            }
            (true, None) | (false, Some(_)) => None,
        }
    }

    /// The denial that is proven for the type at this name, if one is. It is insecure if it rests on an opt-out span:
    /// such a span leaves open whether an unsigned delegation at or below that name exists (RFC 5155 §9.2).
    pub(super) fn denial(&self, name: &CanonicalName, rtype: Rtype) -> Option<(Denied, Security)> {
        match self {
            Self::Nsec(chain) => chain.denial(name, rtype).map(|denied| (denied, Security::Secure)),
            Self::Nsec3(chain) => chain.denial(name, rtype),
        }
    }

    /// Whether records that a wildcard of `labels` labels made are proven to be the right ones for this name: neither
    /// the name nor anything between it and the wildcard's parent exists (RFC 4035 §5.3.4, RFC 5155 §8.8).
    pub(super) fn expansion(&self, name: &CanonicalName, labels: usize) -> Option<Security> {
        match self {
            Self::Nsec(chain) => {
                let encloser = chain.closest_encloser(name)?;
                (encloser.depth() == labels).then_some(Security::Secure)
            }
            Self::Nsec3(chain) => chain.covering(&name.ancestor(labels + 1)).map(opt_out_security),
        }
    }

    /// Whether a delegation at this very name is proven to be unsigned, or the name to be one that opt-out leaves out (RFC
    /// 4035 §5.2, RFC 5155 §8.6 and §8.9, RFC 6840 §4.4).
    pub(super) fn unsigned_delegation(&self, name: &CanonicalName) -> bool {
        match self {
            Self::Nsec(chain) => chain.at(name).is_some_and(|record| record.types.is_unsigned_delegation()),
            Self::Nsec3(chain) => match chain.at(name) {
                Some(record) => record.types.is_unsigned_delegation(),
                // RFC 5155 §6, §7.1: an opt-out span stands for unsigned delegations right below the closest encloser, and
                // for empty non-terminals above such delegations. A signed name at or below one would give it a record
                // of its own, and no genuine span covers the hash of a record. Deeper names are not decided here: the
                // path to a zone comes by the name that is covered first, and ends there.
                None => chain
                    .closest_encloser(name)
                    .is_some_and(|(encloser, cover)| cover.opt_out && encloser.depth() + 1 == name.depth()),
            },
        }
    }
}

fn denial_signer(set: &RrSet) -> Option<&CanonicalName> {
    match &set.proof {
        Proof::Secure(signature) if [Rtype::NSEC, Rtype::NSEC3].contains(&set.rtype) => Some(&signature.signer),
        Proof::Secure(_) | Proof::Insecure | Proof::Unproven(_) => None,
    }
}

fn nsec_record<'a>(set: &'a RrSet, zone: &CanonicalName) -> Option<(&'a CanonicalName, &'a Nsec)> {
    match set.records.as_slice() {
        [Data::Nsec(record)] if is_unexpanded(set) && set.owner.is_at_or_below(zone) => Some((&set.owner, record)),
        _ => None,
    }
}

fn nsec3_record<'a>(set: &'a RrSet, zone: &CanonicalName) -> Option<(Vec<u8>, &'a Nsec3)> {
    match set.records.as_slice() {
        // RFC 5155 §3: the owner is one label, the hash, below the apex.
        [Data::Nsec3(record)] if is_unexpanded(set) && set.owner.parent() == *zone => {
            Some((base32hex(set.owner.leftmost()?)?, record))
        }
        _ => None,
    }
}

/// Whether signed NSEC3 records have more iterations than are computed.
pub(super) fn costs_too_much(sets: &[RrSet]) -> bool {
    let iterations = |data: &Data| match data {
        Data::Nsec3(record) => record.parameters.iterations,
        _ => 0,
    };
    let signed = sets.iter().filter(|set| denial_signer(set).is_some());
    signed.flat_map(|set| &set.records).any(|data| iterations(data) > MAX_ITERATIONS)
}

/// RFC 4035 §5.4: an NSEC proves that its owner exists only if the owner was not made from a wildcard.
fn is_unexpanded(set: &RrSet) -> bool {
    match &set.proof {
        Proof::Secure(signature) => signature.labels == set.owner.signed_labels(),
        Proof::Insecure | Proof::Unproven(_) => false,
    }
}

fn opt_out_security(cover: &Nsec3) -> Security {
    if cover.opt_out { Security::Insecure } else { Security::Secure }
}

/// NSEC records of one zone.
pub(super) struct NsecChain<'a> {
    zone: CanonicalName,
    records: Vec<(&'a CanonicalName, &'a Nsec)>,
}

impl NsecChain<'_> {
    fn at(&self, name: &CanonicalName) -> Option<&Nsec> {
        self.records.iter().find(|(owner, _)| *owner == name).map(|(_, record)| *record)
    }

    /// The record in whose gap the name falls, and its owner.
    fn covering(&self, name: &CanonicalName) -> Option<(&CanonicalName, &Nsec)> {
        self.records.iter().copied().find(|(owner, record)| {
            // RFC 6840 §4.1: the record at a cut or a DNAME cannot prove facts about names below it.
            let beyond = record.types.ends_the_zone() && name.is_below(owner);
            // RFC 4034 §4.1.1: the last record of a zone points back to the apex.
            let before_next = name < &record.next || record.next == self.zone;
            !beyond && *owner < name && before_next && name.is_at_or_below(&self.zone)
        })
    }

    /// The deepest existing ancestor of a name that does not exist (RFC 4592 §3.3.1), derived from the neighbours in
    /// the gap: they exist, and so does each ancestor that they share with the name. `None` for an empty non-terminal,
    /// which exists.
    fn closest_encloser(&self, name: &CanonicalName) -> Option<CanonicalName> {
        let (owner, record) = self.covering(name)?;
        if record.next.is_below(name) {
            return None;
        }
        let (left, right) = (name.common_ancestor(owner), name.common_ancestor(&record.next));
        Some(if left.depth() >= right.depth() { left } else { right })
    }

    fn denial(&self, name: &CanonicalName, rtype: Rtype) -> Option<Denied> {
        if let Some(record) = self.at(name) {
            return record.types.deny(rtype).then_some(Denied::NoData);
        }
        if self.covering(name)?.1.next.is_below(name) {
            return Some(Denied::NoData); // An empty non-terminal (RFC 8020 §2).
        }
        let wildcard = self.closest_encloser(name)?.wildcard();
        if let Some(record) = self.at(&wildcard) {
            return record.types.deny(rtype).then_some(Denied::NoData);
        }
        // RFC 4035 §5.4: a gap for the name is not enough, the wildcard must be missing as well. It may also be an
        // empty non-terminal.
        let (_, gap) = self.covering(&wildcard)?;
        Some(if gap.next.is_below(&wildcard) { Denied::NoData } else { Denied::NxDomain })
    }
}

/// NSEC3 records of one zone, all of the same parameters, by the hash of their owner.
pub(super) struct Nsec3Chain<'a> {
    zone: CanonicalName,
    records: Vec<(Vec<u8>, &'a Nsec3)>,
    parameters: Nsec3Parameters,
    hash: Nsec3Hash<'a>,
}

impl Nsec3Chain<'_> {
    fn at(&self, name: &CanonicalName) -> Option<&Nsec3> {
        let hashed = self.hashed(name)?;
        self.records.iter().find(|(owner, _)| *owner == hashed).map(|(_, record)| *record)
    }

    fn covering(&self, name: &CanonicalName) -> Option<&Nsec3> {
        let hashed = self.hashed(name)?;
        let covers = |owner: &Vec<u8>, next: &Vec<u8>| {
            if owner < next { *owner < hashed && hashed < *next } else { *owner < hashed || hashed < *next }
        };
        self.records.iter().find(|(owner, record)| covers(owner, &record.next)).map(|(_, record)| *record)
    }

    fn hashed(&self, name: &CanonicalName) -> Option<Vec<u8>> {
        if name.is_at_or_below(&self.zone) { (self.hash)(name, &self.parameters) } else { None }
    }

    /// The closest encloser proof of RFC 5155 §8.3: the deepest proper ancestor that has a record, and the record in
    /// whose gap the next closer name falls.
    fn closest_encloser(&self, name: &CanonicalName) -> Option<(CanonicalName, &Nsec3)> {
        for depth in (self.zone.depth()..name.depth()).rev() {
            let ancestor = name.ancestor(depth);
            if let Some(record) = self.at(&ancestor) {
                // RFC 5155 §8.3, RFC 6840 §4.1: this zone has no authority below a cut or a DNAME.
                if record.types.ends_the_zone() {
                    return None;
                }
                return self.covering(&name.ancestor(depth + 1)).map(|cover| (ancestor, cover));
            }
        }
        None
    }

    fn denial(&self, name: &CanonicalName, rtype: Rtype) -> Option<(Denied, Security)> {
        if let Some(record) = self.at(name) {
            return record.types.deny(rtype).then_some((Denied::NoData, Security::Secure));
        }
        let (encloser, cover) = self.closest_encloser(name)?;
        let wildcard = encloser.wildcard();
        if let Some(record) = self.at(&wildcard) {
            return record.types.deny(rtype).then_some((Denied::NoData, opt_out_security(cover)));
        }
        match self.covering(&wildcard) {
            Some(_) => Some((Denied::NxDomain, opt_out_security(cover))),
            // RFC 5155 §8.6, erratum 3441: an unsigned delegation that was left out of the chain has no DS record, and an
            // empty non-terminal above such delegations has no records. Servers send no more than the closest encloser
            // proof for them. Any answer about names in the span is insecure, so a wildcard that is hidden this way was
            // never secure there (RFC 5155 §9.2).
            None => cover.opt_out.then_some((Denied::NoData, Security::Insecure)),
        }
    }
}

/// Reads the owner label of an NSEC3 record (RFC 4648 §7, without padding).
fn base32hex(label: &[u8]) -> Option<Vec<u8>> {
    let (mut octets, mut bits, mut filled) = (Vec::new(), 0_u32, 0_u32);
    for &digit in label {
        let value = match digit.to_ascii_lowercase() {
            digit @ b'0'..=b'9' => digit - b'0',
            digit @ b'a'..=b'v' => digit - b'a' + 10,
            _ => return None,
        };
        bits = ((bits << 5) | u32::from(value)) & 0xfff;
        filled += 5;
        if filled >= 8 {
            filled -= 8;
            octets.push(((bits >> filled) & 0xff) as u8);
        }
    }
    Some(octets)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::reference_model::{Zone, base32hex_of, name, toy_hash};
    use super::*;

    #[test]
    fn base32hex_is_read() {
        assert_eq!(base32hex(b"00000000"), Some(vec![0; 5]));
        assert_eq!(base32hex(b"CPNMU"), Some(b"foo".to_vec()));
        assert_eq!(base32hex(base32hex_of(b"twenty octets of has").as_bytes()), Some(b"twenty octets of has".to_vec()));
        assert_eq!(base32hex(b"w"), None);
    }

    fn small_zone() -> Zone {
        Zone::new(
            "z",
            &[
                ("a.z", &[Rtype::A]),
                ("*.w.z", &[Rtype::TLSA]),
                ("x.y.z", &[Rtype::A]),
                ("cut.z", &[Rtype::NS]),
                ("signed.z", &[Rtype::NS, Rtype::DS]),
                ("d.z", &[Rtype::DNAME]),
                ("c.z", &[Rtype::CNAME]),
            ],
        )
    }

    #[test]
    fn denials_of_a_small_zone() {
        use Denied::{NoData, NxDomain};
        let zone = small_zone();
        for sets in [zone.nsec(), zone.nsec3()] {
            for (asked, rtype, expected) in [
                ("a.z", Rtype::TLSA, Some(NoData)),
                ("a.z", Rtype::A, None),
                ("b.z", Rtype::A, Some(NxDomain)),
                ("t.a.z", Rtype::TLSA, Some(NxDomain)),
                // An empty non-terminal exists.
                ("y.z", Rtype::A, Some(NoData)),
                // A wildcard that has the type, and one that lacks it.
                ("q.w.z", Rtype::TLSA, None),
                ("q.w.z", Rtype::A, Some(NoData)),
                // RFC 6840 §4.1: the parent's records speak of DS at a cut, and not of names below it.
                ("cut.z", Rtype::DS, Some(NoData)),
                ("cut.z", Rtype::MX, None),
                ("mx.cut.z", Rtype::A, None),
                ("mx.signed.z", Rtype::TLSA, None),
                ("signed.z", Rtype::DS, None),
                ("b.d.z", Rtype::A, None),
                // A CNAME stands for every type.
                ("c.z", Rtype::TLSA, None),
                // Not of this zone.
                ("a.other", Rtype::A, None),
                ("com", Rtype::A, None),
                // RFC 4035 §5.2: the apex cannot deny its own DS.
                ("z", Rtype::DS, None),
                ("z", Rtype::MX, Some(NoData)),
            ] {
                let evidence = Evidence::of_zone(&zone.apex, &sets, &toy_hash).unwrap();
                let denied = evidence.denial(&name(asked), rtype).map(|(denied, _)| denied);
                assert_eq!(denied, expected, "{asked} {rtype:?}");
            }
        }
    }

    #[test]
    fn unsigned_delegations_of_a_small_zone() {
        let mut zone = small_zone();
        let delegations: [(&str, &[Rtype]); 3] =
            [("a.ent.z", &[Rtype::NS]), ("plain.mixed.z", &[Rtype::NS]), ("signed.mixed.z", &[Rtype::NS, Rtype::DS])];
        for (owner, types) in delegations {
            zone.names.insert(name(owner), types.iter().map(|rtype| rtype.0).collect());
        }
        for (sets, opt_out) in [(zone.nsec(), false), (zone.nsec3(), false), (zone.nsec3_with_opt_out(), true)] {
            let evidence = Evidence::of_zone(&zone.apex, &sets, &toy_hash).unwrap();
            for (asked, expected) in [
                ("cut.z", true),
                ("signed.z", false),
                ("a.z", false),
                ("y.z", false),
                ("z", false),
                ("nothing.z", opt_out),
                // Hash ranges of a parent's chain hold every deeper name; that proves no fact about them.
                ("t.signed.z", false),
                ("t.u.signed.z", false),
                ("t.a.z", opt_out),
                // The path ends at the empty non-terminal that opt-out leaves out.
                ("t.u.nothing.z", false),
                ("ent.z", opt_out),
                ("a.ent.z", !opt_out),
                ("b.ent.z", false),
                ("x.a.ent.z", false),
                // An empty non-terminal above a signed delegation has a record.
                ("mixed.z", false),
                ("signed.mixed.z", false),
                ("x.signed.mixed.z", false),
            ] {
                assert_eq!(evidence.unsigned_delegation(&name(asked)), expected, "{asked}, opt-out {opt_out}");
            }
        }
    }

    /// The records that a server sends in proof of a closest encloser: no wildcard is denied.
    fn without_wildcard_proofs(zone: &Zone) -> Vec<RrSet> {
        let mut sets = zone.nsec3_with_opt_out();
        let wildcard = zone.apex.wildcard();
        let Some(Evidence::Nsec3(chain)) = Evidence::of_zone(&zone.apex, &sets, &toy_hash) else { panic!() };
        let hidden = chain.covering(&wildcard).unwrap().next.clone();
        sets.retain(|set| !matches!(&set.records[..], [Data::Nsec3(record)] if record.next == hidden));
        sets
    }

    #[test]
    fn names_left_out_by_opt_out_are_insecure_and_have_no_records() {
        let zone = Zone::new(
            "z",
            &[
                ("a.ent.z", &[Rtype::NS]),
                ("plain.z", &[Rtype::NS]),
                ("mx.z", &[Rtype::A]),
                // It has the record whose span holds the wildcard, which is left out.
                ("b.z", &[Rtype::A]),
            ],
        );
        let sets = without_wildcard_proofs(&zone);
        let evidence = Evidence::of_zone(&zone.apex, &sets, &toy_hash).unwrap();
        let insecure = Some((Denied::NoData, Security::Insecure));
        for (asked, rtype, expected) in [
            ("ent.z", Rtype::A, insecure),
            ("ent.z", Rtype::DS, insecure),
            ("plain.z", Rtype::DS, insecure),
            ("a.ent.z", Rtype::DS, insecure),
            // Signed names are in no span.
            ("mx.z", Rtype::A, None),
            ("mx.z", Rtype::TLSA, Some((Denied::NoData, Security::Secure))),
        ] {
            assert_eq!(evidence.denial(&name(asked), rtype), expected, "{asked} {rtype:?}");
        }
        // Without opt-out the same records prove too little.
        let mut strict = sets.clone();
        for set in &mut strict {
            let Data::Nsec3(record) = &mut set.records[0] else { panic!() };
            record.opt_out = false;
        }
        let evidence = Evidence::of_zone(&zone.apex, &strict, &toy_hash).unwrap();
        assert_eq!(evidence.denial(&name("ent.z"), Rtype::A), None);
        // A wildcard that has the type is no denial, and one that lacks it is one.
        let wild = Zone::new("z", &[("a.ent.z", &[Rtype::NS]), ("*.z", &[Rtype::MX])]);
        let sets = wild.nsec3_with_opt_out();
        let evidence = Evidence::of_zone(&wild.apex, &sets, &toy_hash).unwrap();
        assert_eq!(evidence.denial(&name("ent.z"), Rtype::MX), None);
        assert_eq!(evidence.denial(&name("ent.z"), Rtype::A), insecure);
    }

    #[test]
    fn records_that_are_no_evidence() {
        let zone = small_zone();
        let broken = |change: fn(&mut RrSet)| {
            let mut sets = zone.nsec3();
            sets.iter_mut().for_each(change);
            Evidence::of_zone(&zone.apex, &sets, &toy_hash).is_none()
        };
        assert!(!broken(|_| {}));
        assert!(broken(|set| set.proof = Proof::Insecure));
        assert!(broken(|set| set.proof = Proof::Unproven("bogus")));
        // Not an owner right below the apex.
        assert!(broken(|set| set.owner = name("x").substituted(&name(""), &set.owner).unwrap()));
        let foreign = |set: &mut RrSet| {
            let Proof::Secure(signature) = &mut set.proof else { return };
            signature.signer = name("y");
        };
        let mut sets = zone.nsec();
        sets.iter_mut().for_each(foreign);
        assert!(Evidence::of_zone(&name("y"), &sets, &toy_hash).is_none());
        // RFC 4035 §5.4: made from a wildcard.
        assert!(broken(|set| {
            let Proof::Secure(signature) = &mut set.proof else { return };
            signature.labels -= 1;
        }));
        // RFC 5155 §8.2, RFC 9276 §3.2.
        let iterate = |set: &mut RrSet, iterations| {
            let Data::Nsec3(nsec3) = &mut set.records[0] else { return };
            nsec3.parameters.iterations = iterations;
        };
        let mut sets = zone.nsec3();
        iterate(&mut sets[0], 2);
        assert!(Evidence::of_zone(&zone.apex, &sets, &toy_hash).is_none());
        assert!(!costs_too_much(&sets));
        sets.iter_mut().for_each(|set| iterate(set, 501));
        assert!(Evidence::of_zone(&zone.apex, &sets, &toy_hash).is_none() && costs_too_much(&sets));
        sets.iter_mut().for_each(|set| iterate(set, 500));
        assert!(Evidence::of_zone(&zone.apex, &sets, &toy_hash).is_some() && !costs_too_much(&sets));
        // RFC 5155 §7.1.
        let mixed = [zone.nsec(), zone.nsec3()].concat();
        assert!(Evidence::of_zone(&zone.apex, &mixed, &toy_hash).is_none());
    }

    fn any_name() -> impl Strategy<Value = CanonicalName> {
        prop::collection::vec(prop::sample::select(vec!["a", "b", "*", "m"]), 0..4)
            .prop_map(|labels| name(&format!("{}.z", labels.join("."))))
    }

    fn any_type() -> impl Strategy<Value = Rtype> {
        prop::sample::select(vec![Rtype::A, Rtype::TLSA, Rtype::CNAME, Rtype::DNAME, Rtype::NS, Rtype::DS])
    }

    /// Any zone that could exist: no names are listed below its cuts, and no wildcard is a cut (RFC 4592 §4.2).
    fn any_zone() -> impl Strategy<Value = Zone> {
        let types = prop::collection::btree_set(any_type().prop_map(|rtype| rtype.0), 1..3);
        prop::collection::btree_map(any_name(), types, 0..7).prop_map(|names| {
            let mut zone = Zone::new("z", &[]);
            for (owner, types) in names {
                let wild_cut = owner.leftmost() == Some(b"*") && types.contains(&Rtype::NS.0);
                if owner.depth() > 1 && !zone.is_beyond(&owner) && !wild_cut {
                    zone.names.insert(owner, types);
                }
            }
            zone
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// From any selection of a zone's own records only true facts are proven.
        #[test]
        fn only_true_facts_are_proven(
            zone in any_zone(),
            asked in any_name(),
            rtype in any_type(),
            chain in 0..3,
            kept in prop::collection::vec(any::<bool>(), 20),
        ) {
            let mut sets = match chain {
                0 => zone.nsec(),
                1 => zone.nsec3(),
                _ => zone.nsec3_with_opt_out(),
            };
            let mut keep = kept.iter().cycle();
            sets.retain(|_| *keep.next().unwrap());
            let Some(evidence) = Evidence::of_zone(&zone.apex, &sets, &toy_hash) else { return Ok(()) };
            match evidence.denial(&asked, rtype) {
                Some((denied, Security::Secure)) => prop_assert_eq!(Some(denied), zone.truth(&asked, rtype)),
                // A name that the zone signed cannot be denied by an opt-out span either. A wildcard above an opted-out
                // name may be hidden; its records are insecure there.
                Some((denied, Security::Insecure)) => {
                    let opted_out = chain == 2 && denied == Denied::NoData && zone.has_nothing_signed(&asked);
                    let true_or_unsigned = zone.truth(&asked, rtype).is_some() || zone.is_below_unsigned(&asked);
                    prop_assert!(true_or_unsigned || opted_out);
                }
                None => {}
            }
            for labels in 1..asked.depth() {
                if evidence.expansion(&asked, labels) == Some(Security::Secure) && !zone.is_beyond(&asked) {
                    prop_assert!(!zone.exists(&asked) && (chain > 0 || zone.encloser(&asked).depth() == labels));
                    prop_assert!(zone.encloser(&asked).depth() <= labels);
                }
            }
            if evidence.unsigned_delegation(&asked) {
                // RFC 5155 §6: an opt-out span holds unsigned delegations and names below them only.
                let opted_out = chain == 2 && zone.has_nothing_signed(&asked);
                prop_assert!(zone.types(&asked).is_unsigned_delegation() || opted_out);
                prop_assert!(!zone.is_beyond(&asked) || chain == 2 && zone.is_below_unsigned(&asked));
            }
        }

        /// With the whole chain at hand, each true fact is proven.
        #[test]
        fn true_facts_are_proven(zone in any_zone(), asked in any_name(), rtype in any_type(), hashed in any::<bool>()) {
            let sets = if hashed { zone.nsec3() } else { zone.nsec() };
            let evidence = Evidence::of_zone(&zone.apex, &sets, &toy_hash).unwrap();
            prop_assert_eq!(evidence.denial(&asked, rtype).map(|(denied, _)| denied), zone.truth(&asked, rtype));
        }

        /// The same for a chain that leaves unsigned delegations and the empty non-terminals above them out. The chain
        /// cannot tell an opted-out name from a missing one, and denies both.
        #[test]
        fn true_facts_are_proven_beside_opted_out_names(zone in any_zone(), asked in any_name(), rtype in any_type()) {
            let sets = zone.nsec3_with_opt_out();
            let evidence = Evidence::of_zone(&zone.apex, &sets, &toy_hash).unwrap();
            let proven = evidence.denial(&asked, rtype);
            let path = || (2..=asked.depth()).map(|depth| asked.ancestor(depth));
            if let Some(truth) = zone.truth(&asked, rtype) {
                // A wildcard at the closest name that the chain knows may have the type.
                let wild = path().any(|place| zone.exists(&place.parent().wildcard()));
                if path().any(|place| zone.exists(&place) && zone.has_nothing_signed(&place)) {
                    prop_assert!(wild || matches!(proven, Some((_, Security::Insecure))), "{proven:?}");
                } else if !wild {
                    prop_assert_eq!(proven.map(|(denied, _)| denied), Some(truth));
                }
            }
        }
    }
}
