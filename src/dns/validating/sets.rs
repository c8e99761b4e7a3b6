//! The record sets of a message and the signatures over them (RFC 4035 §5.3).
//!
//! These functions fetch no records: a set, the keys of a zone, the time and a [`Budget`] go in, a verdict comes out. The
//! cryptography is the library's; of signatures over denials its result is kept ([`verified`](super::verified)).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use hickory_resolver::proto::ProtoError;
use hickory_resolver::proto::dnssec::rdata::sig::SigInput;
use hickory_resolver::proto::dnssec::rdata::{DNSKEY, DNSSECRData, DS, RRSIG};
use hickory_resolver::proto::dnssec::{DigestType, PublicKey, Verifier};
use hickory_resolver::proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_resolver::proto::serialize::binary::{BinEncodable, BinEncoder, NameEncoding};

use super::super::budget::Budget;
use super::super::cache::EntryWeight;
use super::super::reply::{DsSupport, Signature};
use super::anchors::Anchors;
use super::convert::{canonical, ds_support};
use super::verified::VerifiedSignatures;

/// The most signatures of one set that are verified with keys, and the most keys with the tag of one signature. Honest
/// zones have two of either in the midst of a change of keys (RFC 6781 §4.1).
const MAX_TRIES: usize = 8;
/// The most signatures beside one set. A set with more is not validated at all. Two algorithms with two keys each, in
/// the midst of a change, make eight.
const MAX_SIGNATURES: usize = 32;
/// The most DNSKEY records of a zone, and the most DS records of a delegation. A zone with more fails. BIND takes no more
/// records of one type either (`max-records-per-type`).
pub(super) const MAX_KEYS: usize = 100;
/// The seconds by which a signature may begin in the future. A server that signs each reply anew signs it from its own "now",
/// and where the clock here is behind by a second, all that it says would be bogus. PowerDNS allows as much, Unbound an
/// hour. Such a signature is the zone's own, and one that has ended, which might be an old one, gets no time.
const CLOCK_DIFFERENCE: u32 = 60;
/// The text of a failure by one of these bounds.
const TOO_MANY: &str = "more signatures and keys than a zone needs";

/// Where in a message a set stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    Answer,
    Authority,
}

/// The records of one type at one owner, with the signatures that claim to be over them.
pub(super) struct Set<'a> {
    pub(super) owner: &'a Name,
    pub(super) rtype: RecordType,
    pub(super) records: Vec<&'a Record>,
    pub(super) signatures: Vec<&'a RRSIG>,
}

/// Groups the records of a section.
pub(super) fn group(records: &[Record]) -> Vec<Set<'_>> {
    let mut sets: Vec<Set<'_>> = Vec::new();
    let mut places: HashMap<(&Name, RecordType), usize> = HashMap::new();
    for record in records.iter().filter(|record| record.record_type() != RecordType::RRSIG) {
        let (owner, rtype) = (&record.name, record.record_type());
        let place = *places.entry((owner, rtype)).or_insert_with(|| {
            sets.push(Set { owner, rtype, records: Vec::new(), signatures: Vec::new() });
            sets.len() - 1
        });
        if let Some(set) = sets.get_mut(place) {
            set.records.push(record);
        }
    }
    for record in records {
        let Some(rrsig) = signature_data(record) else { continue };
        let place = places.get(&(&record.name, rrsig.input().type_covered));
        if let Some(set) = place.and_then(|place| sets.get_mut(*place)) {
            set.signatures.push(rrsig);
        }
    }
    sets
}

/// The signature that a record is.
pub(super) fn signature_data(record: &Record) -> Option<&RRSIG> {
    match &record.data {
        RData::DNSSEC(DNSSECRData::RRSIG(rrsig)) => Some(rrsig),
        _ => None,
    }
}

impl Set<'_> {
    /// The zones that claim to have signed it and may have, each once: its owner lies in them (RFC 4035 §5.3.1). A DS
    /// record is the parent's (RFC 4035 §2.4).
    ///
    /// # Errors
    /// There are more signatures than are looked at.
    pub(super) fn signers(&self) -> Result<Vec<&Name>, &'static str> {
        if self.signatures.len() > MAX_SIGNATURES {
            return Err(TOO_MANY);
        }
        let mut signers: Vec<&Name> = Vec::new();
        for signer in self.signatures.iter().map(|rrsig| &rrsig.input().signer_name) {
            let own = self.rtype == RecordType::DS && signer == self.owner && !self.owner.is_root();
            if signer.zone_of(self.owner) && !own && !signers.contains(&signer) {
                signers.push(signer);
            }
        }
        Ok(signers)
    }
}

/// The evidence for the first keys of a zone.
#[derive(Clone)]
pub(super) enum Trusted {
    /// By themselves.
    Anchors(Anchors),
    /// By the parent's word.
    Ds(Vec<DS>),
}

impl Trusted {
    /// Whether there are no more DS records than are looked at.
    fn check(&self) -> Result<(), &'static str> {
        match self {
            Self::Ds(records) if records.len() > MAX_KEYS => Err(TOO_MANY),
            Self::Ds(_) | Self::Anchors(_) => Ok(()),
        }
    }

    fn has(&self, apex: &Name, key: &ZoneKey, budget: &mut Budget) -> bool {
        let records = match self {
            Self::Anchors(anchors) if anchors.has(apex, &key.dnskey) => return true,
            Self::Anchors(anchors) => anchors.hashes(apex),
            Self::Ds(records) => records,
        };
        // RFC 4509 §3: SHA-1 does not count beside a better digest.
        let usable = || records.iter().filter(|ds| ds_support(ds) == DsSupport::Supported);
        let better = usable().any(|ds| ds.digest_type() != DigestType::SHA1);
        let named = |ds: &&DS| {
            ds.key_tag() == key.tag
                && ds.algorithm() == key.dnskey.algorithm()
                && !(better && ds.digest_type() == DigestType::SHA1)
        };
        usable().filter(named).any(|ds| {
            let matches = budget.spend_signature() && ds.covers(apex, &key.dnskey).unwrap_or(false);
            if !matches {
                budget.count_mismatch();
            }
            matches
        })
    }
}

struct ZoneKey {
    tag: u16,
    dnskey: DNSKEY,
}

/// The keys of a zone that may sign its records.
pub(super) struct ZoneKeys {
    apex: Name,
    keys: Vec<ZoneKey>,
    /// The signatures over denials that have been verified, by the keys of any zone.
    verified: Option<Arc<VerifiedSignatures>>,
}

impl ZoneKeys {
    /// Reads a DNSKEY set, which one of its own keys that are trusted beforehand must have signed (RFC 4035 §5.2).
    ///
    /// # Errors
    /// None has.
    pub(super) fn proven(
        set: &Set<'_>,
        trusted: &Trusted,
        now: u32,
        budget: &mut Budget,
    ) -> Result<Self, &'static str> {
        trusted.check()?;
        if set.records.len() > MAX_KEYS {
            return Err(TOO_MANY);
        }
        let apex = set.owner.clone();
        let (mut keys, mut first): (Vec<ZoneKey>, Vec<ZoneKey>) = (Vec::new(), Vec::new());
        for record in &set.records {
            let RData::DNSSEC(DNSSECRData::DNSKEY(dnskey)) = &record.data else { continue };
            // RFC 2181 §5: a record that comes twice is one.
            if keys.iter().any(|known| known.dnskey == *dnskey) {
                continue;
            }
            // RFC 4034 §2.1.1, RFC 5011 §2.1.
            if !dnskey.zone_key() || dnskey.revoke() || !dnskey.algorithm().is_supported() {
                continue;
            }
            let Ok(tag) = dnskey.calculate_key_tag() else { continue };
            let key = ZoneKey { tag, dnskey: dnskey.clone() };
            if trusted.has(&apex, &key, budget) {
                first.push(ZoneKey { tag, dnskey: dnskey.clone() });
            }
            keys.push(key);
        }
        if first.is_empty() {
            return Err(match trusted {
                Trusted::Anchors(anchors) => anchors.mismatch(),
                Trusted::Ds(_) => "none of its keys is one that its DS records name",
            });
        }
        Self { apex: apex.clone(), keys: first, verified: None }
            .verify(set, now, budget)
            .map_err(|_| "its keys are not signed by the one that is trusted")?;
        Ok(Self { apex, keys, verified: None })
    }

    /// The same keys, with a memory of the signatures that they verify.
    pub(super) fn remembering(self, verified: &Arc<VerifiedSignatures>) -> Self {
        Self { verified: Some(Arc::clone(verified)), ..self }
    }

    /// The octets of each key, as the cost of a signature by it goes by them.
    pub(super) fn sizes(&self) -> impl Iterator<Item = usize> {
        self.keys.iter().map(|key| key.dnskey.public_key().public_bytes().len())
    }

    /// Whether a signature that names its key by a tag (RFC 4034 §3.1.6) may be by more than one of them.
    pub(super) fn collide(&self) -> bool {
        let tags: HashSet<u16> = self.keys.iter().map(|key| key.tag).collect();
        tags.len() < self.keys.len()
    }

    /// The zone.
    pub(super) fn apex(&self) -> &Name {
        &self.apex
    }

    /// Whether a signature names this zone as its signer and fits the set's owner.
    fn is_signer(&self, set: &Set<'_>, input: &SigInput) -> bool {
        input.signer_name == self.apex && self.apex.zone_of(set.owner) && input.num_labels <= set.owner.num_labels()
    }

    /// Whether a signature over records of this type is by a key of the zone.
    fn is_by(&self, key: &ZoneKey, rtype: RecordType, signed: &Signed<'_>) -> bool {
        let denies = matches!(rtype, RecordType::SOA | RecordType::NSEC | RecordType::NSEC3);
        match self.verified.as_ref().filter(|_| denies) {
            Some(verified) => verified.verify(&key.dnskey, signed.octets, signed.signature),
            None => key.dnskey.verify(signed.octets, signed.signature).is_ok(),
        }
    }

    /// Verifies a set's signatures with these keys.
    ///
    /// # Errors
    /// None of them is valid now and by one of these keys.
    pub(super) fn verify(&self, set: &Set<'_>, now: u32, budget: &mut Budget) -> Result<Signature, &'static str> {
        let mut why = "no signature of its zone";
        let mut rdata = None;
        let mut tries = 0;
        if set.signatures.len() > MAX_SIGNATURES {
            return Err(TOO_MANY);
        }
        for rrsig in &set.signatures {
            // Also for a signature with the tag of no key: it is compared with every key.
            if !budget.spend_look() {
                return Err(TOO_MANY);
            }
            let input = rrsig.input();
            if !self.is_signer(set, input) {
                continue;
            }
            if !is_current(input, now) {
                why = "a signature that is not valid now";
                continue;
            }
            let named = |key: &&ZoneKey| key.tag == input.key_tag && key.dnskey.algorithm() == input.algorithm;
            let mut signed = None;
            for key in self.keys.iter().filter(named) {
                if tries == MAX_TRIES || !budget.spend_signature() {
                    return Err(TOO_MANY);
                }
                tries += 1;
                let rdata = rdata.get_or_insert_with(|| canonical_rdata(set));
                let signed = signed.get_or_insert_with(|| signed_data(set, input, rdata));
                if signed
                    .as_ref()
                    .is_ok_and(|signed| self.is_by(key, set.rtype, &Signed { octets: signed, signature: rrsig.sig() }))
                {
                    return Ok(Signature { signer: canonical(&self.apex), labels: usize::from(input.num_labels) });
                }
                budget.count_mismatch();
                why = "a signature that does not verify";
            }
        }
        Err(why)
    }
}

/// Octets, and a signature that is said to be over them.
struct Signed<'a> {
    octets: &'a [u8],
    signature: &'a [u8],
}

impl EntryWeight for ZoneKeys {
    fn octets(&self) -> usize {
        let key = |key: &ZoneKey| size_of::<ZoneKey>() + key.dnskey.public_key().public_bytes().len();
        size_of::<Self>() + self.keys.iter().map(key).sum::<usize>()
    }
}

/// RFC 4035 §5.3.1; the comparisons are of serial numbers (RFC 4034 §3.1.5).
fn is_current(input: &SigInput, now: u32) -> bool {
    let not_after = |a: u32, b: u32| i32::try_from(b.wrapping_sub(a)).is_ok();
    not_after(input.sig_inception.get(), now.wrapping_add(CLOCK_DIFFERENCE))
        && not_after(now, input.sig_expiration.get())
}

/// The RDATA of each record in canonical form and order, each once (RFC 4034 §6.2, §6.3).
fn canonical_rdata(set: &Set<'_>) -> Result<Vec<Vec<u8>>, ProtoError> {
    let mut all = Vec::with_capacity(set.records.len());
    for record in &set.records {
        let mut octets = Vec::new();
        let mut encoder = BinEncoder::new(&mut octets);
        encoder.set_canonical_form(true);
        encoder.set_name_encoding(NameEncoding::Uncompressed);
        record.data.emit(&mut encoder)?;
        if set.rtype == RecordType::DNAME {
            // The library does not read DNAME records. Lengths of labels are no letters.
            octets.make_ascii_lowercase();
        }
        all.push(octets);
    }
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

/// The octets that were signed: the signature's own fields and the records as they stand in the zone (RFC 4035 §5.3.2).
fn signed_data(
    set: &Set<'_>,
    input: &SigInput,
    rdata: &Result<Vec<Vec<u8>>, ProtoError>,
) -> Result<Vec<u8>, ProtoError> {
    let rdata = rdata.as_ref().map_err(Clone::clone)?;
    let mut octets = Vec::new();
    let mut encoder = BinEncoder::new(&mut octets);
    encoder.set_canonical_form(true);
    encoder.set_name_encoding(NameEncoding::Uncompressed);
    input.emit(&mut encoder)?;
    let mut head = Vec::new();
    let mut encoder = BinEncoder::new(&mut head);
    encoder.set_name_encoding(NameEncoding::UncompressedLowercase);
    name_in_zone(set.owner, input.num_labels)?.emit(&mut encoder)?;
    set.rtype.emit(&mut encoder)?;
    DNSClass::IN.emit(&mut encoder)?;
    encoder.emit_u32(input.original_ttl)?;
    for rdata in rdata {
        let length = u16::try_from(rdata.len()).map_err(|_| ProtoError::from("RDATA that is too long"))?;
        octets.extend_from_slice(&head);
        octets.extend_from_slice(&length.to_be_bytes());
        octets.extend_from_slice(rdata);
    }
    Ok(octets)
}

/// The owner itself, or the wildcard that it was made from (RFC 4035 §5.3.2).
fn name_in_zone(owner: &Name, labels: u8) -> Result<Name, ProtoError> {
    if owner.num_labels() == labels {
        return Ok(owner.clone());
    }
    Name::from_labels([&b"*"[..]])?.append_domain(&owner.trim_to(usize::from(labels)))
}

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::dnssec::crypto::EcdsaSigningKey;
    use hickory_resolver::proto::dnssec::rdata::NSEC3;
    use hickory_resolver::proto::dnssec::{Algorithm, DnssecSigner, Nsec3HashAlgorithm, PublicKeyBuf, SigningKey};
    use hickory_resolver::proto::op::Message;
    use hickory_resolver::proto::rr::RecordSet;
    use hickory_resolver::proto::rr::rdata::{A, MX, NULL};
    use time::OffsetDateTime;

    use super::super::load::{Load, load, load_of_keys};
    use super::*;

    const NOW: u32 = 1_800_000_000;
    /// How long signatures hold.
    const DAY: u32 = 86_400;
    /// The tag that colliding keys share.
    const TAG: u16 = 4711;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    /// A key of its own for a zone.
    fn signer(apex: &str) -> DnssecSigner {
        let algorithm = Algorithm::ECDSAP256SHA256;
        let pkcs8 = EcdsaSigningKey::generate_pkcs8(algorithm).unwrap();
        let key = EcdsaSigningKey::from_pkcs8(&pkcs8, algorithm).unwrap();
        let dnskey = DNSKEY::with_flags(257, key.to_public_key().unwrap());
        DnssecSigner::new(dnskey, Box::new(key), name(apex), std::time::Duration::from_secs(DAY.into()))
    }

    fn zone_keys(apex: &str, keys: Vec<DNSKEY>) -> ZoneKeys {
        let key = |dnskey: DNSKEY| ZoneKey { tag: dnskey.calculate_key_tag().unwrap(), dnskey };
        ZoneKeys { apex: name(apex), keys: keys.into_iter().map(key).collect(), verified: None }
    }

    /// Records with the signature that the library makes over them.
    fn signed(owner: &str, data: &[RData], by: &DnssecSigner) -> Vec<Record> {
        let mut set = RecordSet::with_ttl(name(owner), data[0].record_type(), 300);
        let records = data.iter().map(|data| Record::from_rdata(name(owner), 300, data.clone()));
        let mut records: Vec<Record> = records.collect();
        set.set_records(records.clone());
        let since = OffsetDateTime::from_unix_timestamp(NOW.into()).unwrap();
        let rrsig = RRSIG::from_rrset(&set, DNSClass::IN, since, by).unwrap();
        records.push(signature(owner, rrsig));
        records
    }

    fn signature(owner: &str, rrsig: RRSIG) -> Record {
        Record::from_rdata(name(owner), 300, RData::DNSSEC(DNSSECRData::RRSIG(rrsig)))
    }

    fn address() -> RData {
        RData::A(A::new(192, 0, 2, 1))
    }

    fn verified_at(records: &[Record], keys: &ZoneKeys, now: u32) -> Result<Signature, &'static str> {
        keys.verify(&group(records)[0], now, &mut Budget::lookup())
    }

    fn verified(records: &[Record], keys: &ZoneKeys) -> Result<Signature, &'static str> {
        verified_at(records, keys, NOW + 1)
    }

    fn change(records: &mut [Record], change: impl Fn(&mut SigInput, &mut Vec<u8>)) {
        for record in records {
            let Some(rrsig) = signature_data(record).cloned() else { continue };
            let (mut input, mut octets) = (rrsig.input().clone(), rrsig.sig().to_vec());
            change(&mut input, &mut octets);
            record.data = RData::DNSSEC(DNSSECRData::RRSIG(RRSIG::from_sig(input, octets)));
        }
    }

    #[test]
    fn a_signature_holds_for_its_set_its_zone_and_its_time() {
        let by = signer("z.test.");
        let keys = zone_keys("z.test.", vec![by.dnskey().clone()]);
        let records = signed("mx.z.test.", &[address()], &by);
        let signature = Signature { signer: canonical(&name("z.test.")), labels: 3 };
        assert_eq!(verified(&records, &keys), Ok(signature));
        // RFC 4034 §3.1.5: from the first second, which may be that of another clock, to the last.
        let first = NOW - CLOCK_DIFFERENCE;
        for (now, valid) in [(first - 1, false), (first, true), (NOW, true), (NOW + DAY, true), (NOW + DAY + 1, false)]
        {
            assert_eq!(verified_at(&records, &keys, now).is_ok(), valid, "{now}");
        }
        assert!(verified(&records, &zone_keys("z.test.", vec![signer("z.test.").dnskey().clone()])).is_err());
        assert!(verified(&records, &zone_keys("test.", vec![by.dnskey().clone()])).is_err());
        let changed = |what: fn(&mut SigInput, &mut Vec<u8>)| {
            let mut records = records.clone();
            change(&mut records, what);
            verified(&records, &keys).is_err()
        };
        assert!(!changed(|_, _| {}));
        assert!(changed(|_, octets| octets[0] ^= 1));
        assert!(changed(|_, octets| octets.truncate(63)));
        assert!(changed(|input, _| input.original_ttl += 1));
        assert!(changed(|input, _| input.key_tag ^= 1));
        assert!(changed(|input, _| input.num_labels = 4));
        assert!(changed(|input, _| input.num_labels = 2));
        assert!(changed(|input, _| input.signer_name = name("test.")));
        assert!(changed(|input, _| input.algorithm = Algorithm::ED25519));
        let mut more = records.clone();
        more.push(Record::from_rdata(name("mx.z.test."), 300, RData::A(A::new(192, 0, 2, 66))));
        assert!(verified(&more, &keys).is_err());
        let mut elsewhere = records.clone();
        elsewhere.iter_mut().for_each(|record| record.name = name("other.z.test."));
        assert!(verified(&elsewhere, &keys).is_err());
    }

    #[test]
    fn wildcards_verify_under_their_expanded_names() {
        let by = signer("z.test.");
        let mut records = signed("*.z.test.", &[address()], &by);
        records.iter_mut().for_each(|record| record.name = name("a.b.z.test."));
        let keys = zone_keys("z.test.", vec![by.dnskey().clone()]);
        assert_eq!(verified(&records, &keys).unwrap().labels, 2);
        let by = signer(".");
        let mut records = signed("*.", &[address()], &by);
        records.iter_mut().for_each(|record| record.name = name("a."));
        assert_eq!(verified(&records, &zone_keys(".", vec![by.dnskey().clone()])).unwrap().labels, 0);
    }

    #[test]
    fn the_canonical_form_is_that_of_rfc_4034() {
        let by = signer("z.test.");
        let keys = zone_keys("z.test.", vec![by.dnskey().clone()]);
        let mx = |target: &str| RData::MX(MX::new(10, name(target)));
        let mut records = signed("z.test.", &[mx("a.z.test."), mx("b.z.test."), mx("c.z.test.")], &by);
        // A signature does not cover case, TTL and order, and a record that comes twice is one (§6.2, §6.3).
        records[1].data = mx("B.Z.test.");
        records[2].data = mx("C.z.TEST.");
        records[0].ttl = 7;
        records.swap(0, 2);
        records.push(records[1].clone());
        records.iter_mut().for_each(|record| record.name = name("Z.test."));
        assert!(verified(&records, &keys).is_ok());
        let dname = |target: &str| {
            let rdata = NULL::with(name(target).to_bytes().unwrap());
            RData::Unknown { code: RecordType::DNAME, rdata }
        };
        let mut records = signed("old.z.test.", &[dname("new.test.")], &by);
        records[0].data = dname("NEW.test.");
        assert!(verified(&records, &keys).is_ok());
    }

    /// A key with the tag: reserved bits of the flags make up the difference (RFC 4034 §2.1.1, appendix B).
    fn colliding_key() -> DNSKEY {
        loop {
            let public = signer("z.test.").dnskey().public_key().clone();
            for flags in [0x0100, 0x0101] {
                let tag = DNSKEY::with_flags(flags, public.clone()).calculate_key_tag().unwrap();
                let key = DNSKEY::with_flags(flags.wrapping_add(TAG.wrapping_sub(tag)), public.clone());
                if key.zone_key() && !key.revoke() && key.calculate_key_tag().unwrap() == TAG {
                    return key;
                }
            }
        }
    }

    /// The cost charged to a budget, found by spending the rest of it.
    fn checks(budget: Budget) -> u32 {
        let left = |mut budget: Budget| (0..).take_while(|_| budget.spend_signature()).count() as u32;
        left(Budget::lookup()) - left(budget)
    }

    /// The same for signatures that were looked at.
    fn looks(budget: Budget) -> u32 {
        let left = |mut budget: Budget| (0..).take_while(|_| budget.spend_look()).count() as u32;
        left(Budget::lookup()) - left(budget)
    }

    /// The record set with so many signatures more, each other than the others, in front of its own.
    fn flood(records: &[Record], number: usize, edit: impl Fn(&mut SigInput)) -> Vec<Record> {
        let (genuine, mut all) = (&records[1], vec![records[0].clone()]);
        for number in 0..number as u32 {
            let mut another = [genuine.clone()];
            change(&mut another, |input, octets| {
                edit(input);
                octets[..4].copy_from_slice(&number.to_be_bytes());
            });
            all.extend(another);
        }
        all.push(genuine.clone());
        all
    }

    #[test]
    fn a47_colliding_keys_and_many_signatures_cost_little() {
        //
        let by = signer("z.test.");
        let mut keys = vec![by.dnskey().clone()];
        keys.extend((0..40).map(|_| colliding_key()));
        let keys = zone_keys("z.test.", keys);
        let good = signed("mx.z.test.", &[address()], &by);
        let records = flood(&good, MAX_SIGNATURES - 1, |input| input.key_tag = TAG);
        let mut budget = Budget::lookup();
        assert!(keys.verify(&group(&records)[0], NOW, &mut budget).is_err());
        assert_eq!(checks(budget), MAX_TRIES as u32);
        // A second such set uses the lookup's patience up, and then not even a good one is looked at.
        assert!(keys.verify(&group(&records)[0], NOW, &mut budget).is_err() && budget.is_spent());
        assert!(keys.verify(&group(&good)[0], NOW, &mut budget).is_err());
        assert!(verified(&good, &keys).is_ok());
    }

    #[test]
    fn a47_signatures_by_no_key_are_charged_and_capped() {
        //
        let by = signer("z.test.");
        let keys = zone_keys("z.test.", vec![by.dnskey().clone()]);
        let good = signed("mx.z.test.", &[address()], &by);
        let unknown = by.dnskey().calculate_key_tag().unwrap() ^ 1;
        let flood = |number| flood(&good, number, |input| input.key_tag = unknown);
        for (number, found, cost) in [
            (0, Ok(3), 1),
            // A set in the midst of a change of keys, and then some.
            (MAX_SIGNATURES - 1, Ok(3), MAX_SIGNATURES as u32),
            // Above the bound no signature is looked at, not even a good one.
            (MAX_SIGNATURES, Err(TOO_MANY), 0),
            (1_700, Err(TOO_MANY), 0),
        ] {
            let (records, mut budget) = (flood(number), Budget::lookup());
            let set = &group(&records)[0];
            let verified = keys.verify(set, NOW, &mut budget).map(|signature| signature.labels);
            assert_eq!((verified, looks(budget)), (found, cost), "{number}");
            // However many signatures a zone has made, it is one signer.
            let signers = set.signers().map(|signers| signers.len());
            assert_eq!(signers, found.map(|_| 1), "{number}");
        }
        // And all sets of a lookup together are bounded as well.
        let (records, mut budget) = (flood(MAX_SIGNATURES - 1), Budget::lookup());
        let verified = (0..100).filter(|_| keys.verify(&group(&records)[0], NOW, &mut budget).is_ok()).count();
        assert!(verified == 1_024 / MAX_SIGNATURES && budget.is_spent(), "{verified}");
    }

    #[test]
    fn a47_replies_are_classed_by_the_most_that_they_may_cost() {
        //
        let by = signer("z.test.");
        let honest = zone_keys("z.test.", vec![by.dnskey().clone(), signer("z.test.").dnskey().clone()]);
        let colliding = zone_keys("z.test.", vec![by.dnskey().clone(), colliding_key(), colliding_key()]);
        let records = signed("mx.z.test.", &[address()], &by);
        let message = |answers: Vec<Record>, authorities: Vec<Record>| {
            let mut message = Message::query();
            (message.answers, message.authorities) = (answers, authorities);
            message
        };
        let by_keys = |keys: &[&ZoneKeys]| load(&message(records.clone(), vec![]), 3, keys.iter().copied());
        let many = |number| zone_keys("z.test.", (0..number).map(|_| signer("z.test.").dnskey().clone()).collect());
        let large = |octets| {
            let large = PublicKeyBuf::new(vec![1; octets], Algorithm::RSASHA256);
            zone_keys("z.test.", vec![by.dnskey().clone(), DNSKEY::new(true, false, false, large)])
        };
        assert_eq!(by_keys(&[&honest, &many(16)]), Load::Light);
        assert_eq!(by_keys(&[&honest, &large(516)]), Load::Ordinary);
        for heavy in [&colliding, &many(17), &large(1028)] {
            assert_eq!(by_keys(&[&honest, heavy]), Load::Heavy);
        }
        let by_reply = |answers, authorities| load(&message(answers, authorities), 3, [&honest].into_iter());
        let again = |number: usize| [records.clone(), vec![records[1].clone(); number]].concat();
        assert_eq!(by_reply(again(3), vec![]), Load::Light);
        assert_eq!(by_reply(again(2), again(1)), Load::Ordinary);
        assert_eq!(by_reply(again(15), vec![]), Load::Ordinary);
        assert_eq!(by_reply(again(16), vec![]), Load::Heavy);
        assert_eq!(by_reply(vec![records[0].clone(); 33], vec![]), Load::Ordinary);
        assert_eq!(by_reply(vec![records[0].clone(); 65], vec![]), Load::Heavy);
        let nsec3 = |iterations, depth| {
            let nsec3 = NSEC3::new(Nsec3HashAlgorithm::SHA1, false, iterations, vec![], vec![1; 20], [RecordType::A]);
            let nsec3 = Record::from_rdata(name("h.z.test."), 300, RData::DNSSEC(DNSSECRData::NSEC3(nsec3)));
            load(&message(vec![], vec![nsec3]), depth, [&honest].into_iter())
        };
        // A denial of TLSA records, with the most iterations that RFC 9276 §3.2 has a validator bear.
        assert_eq!((nsec3(0, 6), nsec3(150, 6)), (Load::Ordinary, Load::Ordinary));
        assert_eq!((nsec3(500, 6), nsec3(150, 100)), (Load::Heavy, Load::Heavy));
        // The keys of a zone are told apart before any of them is known.
        let keys = |number| load_of_keys(&message(dnskeys(&vec![&by; number], &by), vec![]));
        assert_eq!((keys(2), keys(17)), (Load::Light, Load::Heavy));
    }

    #[test]
    fn a47_a_zone_of_too_many_keys_or_names_for_them_fails() {
        //
        let by = signer("z.test.");
        let named = ds(by.dnskey(), DigestType::SHA256);
        let set = |number: usize| {
            // The shortest keys that there are, each another.
            let short = |number: usize| {
                let key = PublicKeyBuf::new(vec![(number >> 8) as u8, number as u8], Algorithm::ED25519);
                RData::DNSSEC(DNSSECRData::DNSKEY(DNSKEY::new(true, false, false, key)))
            };
            let mut data: Vec<RData> = (1..number).map(short).collect();
            data.push(RData::DNSSEC(DNSSECRData::DNSKEY(by.dnskey().clone())));
            signed("z.test.", &data, &by)
        };
        assert_eq!(proven(&set(MAX_KEYS), vec![named.clone()]), Ok(MAX_KEYS));
        for number in [MAX_KEYS + 1, 2_000] {
            assert_eq!(proven(&set(number), vec![named.clone()]), Err(TOO_MANY), "{number}");
        }
        assert_eq!(proven(&set(2), vec![named.clone(); MAX_KEYS]), Ok(2));
        assert_eq!(proven(&set(2), vec![named; MAX_KEYS + 1]), Err(TOO_MANY));
        // RFC 2181 §5: a key that comes twice is one, and does not collide with itself.
        let mut doubled = set(2);
        doubled.push(doubled[1].clone());
        assert_eq!(proven(&doubled, vec![ds(by.dnskey(), DigestType::SHA256)]), Ok(2));
    }

    fn ds(key: &DNSKEY, digest_type: DigestType) -> DS {
        let digest = key.to_digest(&name("z.test."), digest_type).unwrap().as_ref().to_vec();
        DS::new(key.calculate_key_tag().unwrap(), key.algorithm(), digest_type, digest)
    }

    fn dnskeys(keys: &[&DnssecSigner], by: &DnssecSigner) -> Vec<Record> {
        let data = keys.iter().map(|key| RData::DNSSEC(DNSSECRData::DNSKEY(key.dnskey().clone())));
        signed("z.test.", &data.collect::<Vec<_>>(), by)
    }

    fn proven(records: &[Record], trusted: Vec<DS>) -> Result<usize, &'static str> {
        let mut budget = Budget::step();
        let keys = ZoneKeys::proven(&group(records)[0], &Trusted::Ds(trusted), NOW, &mut budget);
        keys.map(|keys| keys.keys.len())
    }

    #[test]
    fn keys_are_those_that_a_named_key_has_signed() {
        let (first, second) = (signer("z.test."), signer("z.test."));
        let named = |key: &DnssecSigner| ds(key.dnskey(), DigestType::SHA256);
        let both = dnskeys(&[&first, &second], &first);
        assert_eq!(proven(&both, vec![named(&first)]), Ok(2));
        assert_eq!(proven(&both, vec![named(&second), named(&first)]), Ok(2));
        // RFC 4035 §5.2: named and not the signer, signer and not named, or not there at all.
        assert!(proven(&both, vec![named(&second)]).is_err());
        assert!(proven(&both, vec![named(&signer("z.test."))]).is_err());
        assert!(proven(&both, vec![]).is_err());
        // A lone key that the parent names signs itself like any other.
        assert!(proven(&dnskeys(&[&first], &second), vec![named(&first)]).is_err());
        // RFC 4509 §3.
        let (sha1, wrong) = (ds(first.dnskey(), DigestType::SHA1), {
            let good = named(&first);
            DS::new(good.key_tag(), good.algorithm(), good.digest_type(), vec![0; 32])
        });
        assert_eq!(proven(&both, vec![sha1.clone()]), Ok(2));
        assert!(proven(&both, vec![sha1, wrong]).is_err());
    }

    #[test]
    fn revoked_keys_and_keys_of_others_do_not_count() {
        let by = signer("z.test.");
        for flags in [0x0001, 0x0101 | 0x0080] {
            let key = DNSKEY::with_flags(flags, by.dnskey().public_key().clone());
            let other =
                DnssecSigner::new(key.clone(), Box::new(resigner()), name("z.test."), std::time::Duration::ZERO);
            assert!(proven(&dnskeys(&[&other, &by], &by), vec![ds(&key, DigestType::SHA256)]).is_err());
        }
    }

    fn resigner() -> EcdsaSigningKey {
        let algorithm = Algorithm::ECDSAP256SHA256;
        EcdsaSigningKey::from_pkcs8(&EcdsaSigningKey::generate_pkcs8(algorithm).unwrap(), algorithm).unwrap()
    }

    #[test]
    fn a_set_has_the_signatures_that_stand_beside_it() {
        let by = signer("z.test.");
        let mut records = signed("mx.z.test.", &[address()], &by);
        records.extend(signed("MX.z.test.", &[RData::MX(MX::new(10, name("mx.z.test.")))], &by));
        let sets = group(&records);
        let shape: Vec<_> = sets.iter().map(|set| (set.rtype, set.records.len(), set.signatures.len())).collect();
        assert_eq!(shape, [(RecordType::A, 1, 1), (RecordType::MX, 1, 1)]);
        assert_eq!(sets[0].signers(), Ok(vec![&name("z.test.")]));
        // RFC 4035 §2.4, §5.3.1: a zone below, and for a DS record the zone itself, is no signer.
        let records = signed("test.", &[address()], &by);
        assert_eq!(group(&records)[0].signers(), Ok(vec![]));
        let key = RData::DNSSEC(DNSSECRData::DS(ds(by.dnskey(), DigestType::SHA256)));
        assert_eq!(group(&signed("z.test.", std::slice::from_ref(&key), &by))[0].signers(), Ok(vec![]));
        assert_eq!(group(&signed("a.z.test.", &[key], &by))[0].signers().unwrap().len(), 1);
    }
}
