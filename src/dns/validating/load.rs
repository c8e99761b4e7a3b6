//! How much a reply may cost to judge: an estimate from its counts, made before it is judged.
//!
//! The estimate decides where the work is done ([`workers`](super::workers)): a [`Load::Light`] reply where it came in, an
//! [`Load::Ordinary`] one on a worker, and a [`Load::Heavy`] one on a worker of which it may have only some. Each bound is
//! well above the replies of honest zones, and a reply that is taken for heavier than it is merely waits longer. The
//! verdict does not depend on the estimate.

use hickory_resolver::proto::dnssec::PublicKey;
use hickory_resolver::proto::dnssec::rdata::DNSSECRData;
use hickory_resolver::proto::op::Message;
use hickory_resolver::proto::rr::{RData, Record, RecordType};

use super::sets::ZoneKeys;

/// The classes of replies, the cheapest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Load {
    /// It costs next to no time: a few signatures, of which each may be by one key alone, over a few records, and no
    /// hashing.
    Light,
    /// As much as a denial of an honest zone.
    Ordinary,
    /// More.
    Heavy,
}

/// The most that a reply of a class may have.
struct LoadLimits {
    records: usize,
    signatures: usize,
    keys: usize,
    /// The octets of a key. A signature by RSA of 8,192 bits may cost as much as a dozen of those by RSA of 2,048 bits.
    key: usize,
    /// Rounds of hashing.
    rounds: usize,
}

/// An answer has one signature, a denial by NSEC those of its SOA and of two others.
const LIGHT: LoadLimits = LoadLimits { records: 32, signatures: 4, keys: 16, key: 260, rounds: 0 };
/// RSA of 4,096 bits, and a denial with the 150 iterations that RFC 9276 §3.2 still has a validator bear.
const ORDINARY: LoadLimits = LoadLimits { records: 64, signatures: 16, keys: 16, key: 520, rounds: 2_500 };

/// The class of a reply about a name of so many labels, judged by these keys.
pub(super) fn load<'a>(message: &Message, depth: usize, keys: impl Iterator<Item = &'a ZoneKeys>) -> Load {
    let keys: Vec<&ZoneKeys> = keys.collect();
    if keys.iter().any(|keys| keys.collide()) {
        return Load::Heavy;
    }
    let sizes = keys.iter().flat_map(|keys| keys.sizes());
    // The bound on the number of keys is for one zone.
    let most = keys.iter().map(|keys| keys.sizes().count()).max().unwrap_or(0);
    class(message, depth, &Sizes { most, largest: sizes.max().unwrap_or(0) })
}

/// The class of a reply that brings the keys of a zone, which are not known before.
pub(super) fn load_of_keys(message: &Message) -> Load {
    let keys = message.answers.iter().filter_map(|record| match &record.data {
        RData::DNSSEC(DNSSECRData::DNSKEY(dnskey)) => Some(dnskey.public_key().public_bytes().len()),
        _ => None,
    });
    let sizes: Vec<usize> = keys.collect();
    class(message, 0, &Sizes { most: sizes.len(), largest: sizes.into_iter().max().unwrap_or(0) })
}

/// How many keys there are, and how large.
struct Sizes {
    most: usize,
    largest: usize,
}

fn class(message: &Message, depth: usize, keys: &Sizes) -> Load {
    let records = || message.answers.iter().chain(&message.authorities);
    let signatures = records().filter(|record| record.record_type() == RecordType::RRSIG).count();
    let rounds = records().map(|record| rounds(record, depth)).max().unwrap_or(0);
    let within = |limits: &LoadLimits| {
        records().count() <= limits.records
            && signatures <= limits.signatures
            && keys.most <= limits.keys
            && keys.largest <= limits.key
            && rounds <= limits.rounds
    };
    match (within(&LIGHT), within(&ORDINARY)) {
        (true, _) => Load::Light,
        (false, true) => Load::Ordinary,
        (false, false) => Load::Heavy,
    }
}

/// The rounds of hashing that an NSEC3 record asks for: about one name for each label (RFC 5155 §8.3).
fn rounds(record: &Record, depth: usize) -> usize {
    match &record.data {
        RData::DNSSEC(DNSSECRData::NSEC3(nsec3)) => (usize::from(nsec3.iterations()) + 1) * (depth + 2),
        _ => 0,
    }
}
