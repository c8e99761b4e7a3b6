//! The signatures of denials that have been verified.
//!
//! The SOA record of a zone comes with each of its denials, and so does the NSEC3 record of its apex. Their signatures need no
//! second calculation: the same key, the same signed octets and the same signature have the same result. So all of these
//! octets are the key of the memory, and no digest of them. The memory holds only signatures that verify; the caller checks each time
//! whether a signature is valid at that time, and which zone and which records it fits.

use std::time::Duration;

use hickory_resolver::proto::dnssec::rdata::DNSKEY;
use hickory_resolver::proto::dnssec::{PublicKey, Verifier};

use super::super::cache::{Cache, CacheBounds, EntryWeight, WithTtl};
use super::super::memory::now;

/// How much is remembered.
const MEMORY: CacheBounds = CacheBounds { entries: 4096, octets: 2 << 20 };
/// A signature whose octets are more than this is not remembered. An honest denial has some 500.
const MAX_OCTETS: usize = 2048;
/// How long one is remembered.
const LASTS: Duration = Duration::from_secs(3600);

/// The memory. Bounded in entries, in octets and in time.
pub(super) struct VerifiedSignatures(Cache<Box<[u8]>, Verified>);

/// A signature that verifies. Its octets are so many.
struct Verified {
    octets: usize,
}

impl VerifiedSignatures {
    /// None is known yet.
    pub(super) fn new() -> Self {
        Self(Cache::new(MEMORY))
    }

    /// Whether a signature over these octets is by this key.
    pub(super) fn verify(&self, dnskey: &DNSKEY, signed: &[u8], signature: &[u8]) -> bool {
        let octets = all_octets(dnskey, signed, signature);
        if octets.len() > MAX_OCTETS {
            return dnskey.verify(signed, signature).is_ok();
        }
        if self.0.get(&octets, now()).is_some() {
            return true;
        }
        let verifies = dnskey.verify(signed, signature).is_ok();
        if verifies {
            let value = Verified { octets: octets.len() }.into();
            self.0.put(octets, WithTtl { value, ttl: LASTS }, now());
        }
        verifies
    }
}

/// All octets that decide about a signature. Each part has its length in front, so that no two cases have the same octets.
fn all_octets(dnskey: &DNSKEY, signed: &[u8], signature: &[u8]) -> Box<[u8]> {
    let public_key = dnskey.public_key().public_bytes();
    let mut octets = Vec::with_capacity(32 + public_key.len() + signed.len() + signature.len());
    octets.push(u8::from(dnskey.algorithm()));
    for part in [public_key, signed, signature] {
        octets.extend_from_slice(&part.len().to_be_bytes());
        octets.extend_from_slice(part);
    }
    octets.into_boxed_slice()
}

impl EntryWeight for Verified {
    fn octets(&self) -> usize {
        size_of::<Self>() + self.octets
    }
}

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::dnssec::crypto::EcdsaSigningKey;
    use hickory_resolver::proto::dnssec::{Algorithm, SigningKey, TBS};

    use super::*;

    #[test]
    fn a_signature_is_remembered_for_its_key_and_its_octets_alone() {
        let algorithm = Algorithm::ECDSAP256SHA256;
        let key = || {
            let pkcs8 = EcdsaSigningKey::generate_pkcs8(algorithm).unwrap();
            EcdsaSigningKey::from_pkcs8(&pkcs8, algorithm).unwrap()
        };
        let (by, other) = (key(), key());
        let dnskey = |key: &EcdsaSigningKey| DNSKEY::with_flags(256, key.to_public_key().unwrap());
        let (signed, verified) = (b"octets".to_vec(), VerifiedSignatures::new());
        let signature = by.sign(&TBS::from(&signed[..])).unwrap();
        for _ in 0..2 {
            assert!(verified.verify(&dnskey(&by), &signed, &signature));
            assert!(!verified.verify(&dnskey(&other), &signed, &signature));
            // Each octet of either counts.
            for place in 0..signed.len() {
                let mut changed = signed.clone();
                changed[place] ^= 1;
                assert!(!verified.verify(&dnskey(&by), &changed, &signature));
            }
            for place in 0..signature.len() {
                let mut changed = signature.clone();
                changed[place] ^= 1;
                assert!(!verified.verify(&dnskey(&by), &signed, &changed));
            }
            let (head, tail) = signature.split_first().unwrap();
            assert!(!verified.verify(&dnskey(&by), &[&signed[..], &[*head]].concat(), tail));
            assert!(!verified.verify(&dnskey(&by), &signed, &[]));
        }
        let remembered = |signed: &[u8]| verified.0.get(&all_octets(&dnskey(&by), signed, &signature), now()).is_some();
        assert!(remembered(&signed) && !remembered(b"octet5"));
    }

    #[test]
    fn a_signature_over_many_octets_is_not_remembered() {
        let algorithm = Algorithm::ECDSAP256SHA256;
        let by = EcdsaSigningKey::from_pkcs8(&EcdsaSigningKey::generate_pkcs8(algorithm).unwrap(), algorithm).unwrap();
        let dnskey = DNSKEY::with_flags(256, by.to_public_key().unwrap());
        let (signed, verified) = (vec![7; MAX_OCTETS], VerifiedSignatures::new());
        let signature = by.sign(&TBS::from(&signed[..])).unwrap();
        assert!(verified.verify(&dnskey, &signed, &signature));
        assert!(verified.0.get(&all_octets(&dnskey, &signed, &signature), now()).is_none());
    }
}
