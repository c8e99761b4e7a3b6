//! Zones that are made to cost a validator as much as possible: while some lookups are expensive, the
//! others stay fast, and the expensive ones end in time.

use std::time::Duration;

use crate::lab::dns::{DnsLab, Fault, Tree};
use crate::process::is_alone;
use danelaw::dns::setup::ResolverSettings;
use danelaw::dns::stub::Stub;
use danelaw::dns::{Answer, Failure, FailureReason, Lookup, RawTlsa, Resolver, Security};
use danelaw::name::Name;
use hickory_resolver::proto::dnssec::crypto::EcdsaSigningKey;
use hickory_resolver::proto::dnssec::rdata::{DNSKEY, DNSSECRData, RRSIG};
use hickory_resolver::proto::dnssec::{Algorithm, PublicKeyBuf, SigningKey};
use hickory_resolver::proto::op::Message;
use hickory_resolver::proto::rr::rdata::NULL;
use hickory_resolver::proto::rr::{RData, Record, RecordType};

const EE: &str = "3 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
/// The tag that all keys of the burning zone share.
const TAG: u16 = 4711;
/// As many keys as a zone may have, and as many signatures as a set may have, or nearly. A validator that tries each with
/// each verifies 2,700 signatures for one record set.
const KEYS: usize = 90;
const SIGNATURES: usize = 30;
/// About as many signatures by no key, and as many keys of two octets, as a message of the lab holds. A validator that
/// compares each with each, once for each signature, makes 1,600 million comparisons for one record set.
const UNKNOWN: u32 = 900;
const TINY_KEYS: u16 = 2_000;
/// The limit for all expensive lookups together, in the time that this whole process spends on processors: other
/// processes do not count. It is a debug build, and the lab's own signing and hashing are in it.
const ALL: Duration = Duration::from_secs(6);
/// The limit for the wait of an ordinary question.
const FAIR: Duration = Duration::from_secs(2);
/// The number of expensive questions of each kind at once.
const FIRES: usize = 20;

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// A key with the tag: reserved bits of the flags make up the difference (RFC 4034 §2.1.1, appendix B).
fn colliding_key() -> DNSKEY {
    loop {
        let algorithm = Algorithm::ECDSAP256SHA256;
        let pkcs8 = EcdsaSigningKey::generate_pkcs8(algorithm).unwrap();
        let public = EcdsaSigningKey::from_pkcs8(&pkcs8, algorithm).unwrap().to_public_key().unwrap();
        for flags in [0x0100, 0x0101] {
            let tag = DNSKEY::with_flags(flags, public.clone()).calculate_key_tag().unwrap();
            let flags = flags.wrapping_add(TAG.wrapping_sub(tag));
            let key = DNSKEY::with_flags(flags, public.clone());
            if key.zone_key() && !key.revoke() && key.calculate_key_tag().unwrap() == TAG {
                return key;
            }
        }
    }
}

/// Replaces each signature by many wrong ones, by a key of the shared tag.
fn multiply(reply: &mut Message) {
    let genuine = reply.answers.iter().find_map(|record| match &record.data {
        RData::DNSSEC(DNSSECRData::RRSIG(rrsig)) => Some((record.name.clone(), rrsig.clone())),
        _ => None,
    });
    let Some((owner, genuine)) = genuine else { return };
    reply.answers.retain(|record| !matches!(record.data, RData::DNSSEC(DNSSECRData::RRSIG(_))));
    let (mut input, mut signature) = (genuine.input().clone(), genuine.sig().to_vec());
    input.key_tag = TAG;
    for number in 0..SIGNATURES {
        signature[40..48].copy_from_slice(&number.to_be_bytes());
        let rrsig = RRSIG::from_sig(input.clone(), signature.clone());
        reply.answers.push(Record::from_rdata(owner.clone(), 300, RData::DNSSEC(DNSSECRData::RRSIG(rrsig))));
    }
}

/// In front of each signature many by keys that do not exist.
fn flood<const NUMBER: u32>(reply: &mut Message) {
    let genuine = reply.answers.iter().find_map(|record| match &record.data {
        RData::DNSSEC(DNSSECRData::RRSIG(rrsig)) => Some((record.name.clone(), rrsig.clone())),
        _ => None,
    });
    let Some((owner, genuine)) = genuine else { return };
    let mut input = genuine.input().clone();
    input.key_tag ^= 1;
    for number in 0..NUMBER {
        let rrsig = RRSIG::from_sig(input.clone(), number.to_be_bytes().to_vec());
        reply.answers.insert(0, Record::from_rdata(owner.clone(), 300, RData::DNSSEC(DNSSECRData::RRSIG(rrsig))));
    }
}

/// The shortest key that there is.
fn tiny_key(number: u16) -> RData {
    let key = PublicKeyBuf::new(number.to_be_bytes().to_vec(), Algorithm::ED25519);
    RData::DNSSEC(DNSSECRData::DNSKEY(DNSKEY::new(true, false, false, key)))
}

fn deep(label: usize, zone: &str) -> String {
    format!("x{label}.{}{zone}", "a.".repeat(100))
}

/// In the place of each denial those with lists of all types, by windows that say so again and again (RFC 4034 §4.1.2).
fn list_all_types(reply: &mut Message) {
    let windows = [&[0, 32][..], &[0xff; 32]].concat().repeat(220);
    let owner = reply.queries[0].name().clone();
    reply.authorities = (0..8)
        .map(|_| {
            let rdata = NULL::with([&[0][..], &windows].concat());
            Record::from_rdata(owner.clone(), 300, RData::Unknown { code: RecordType::NSEC, rdata })
        })
        .collect();
}

async fn lab() -> DnsLab {
    let tree = Tree::new()
        .secure("burn.test")
        .nsec3("deep.test", 500)
        .secure("sec.test")
        .nsec3("calm.test", 0)
        .secure("flood.test")
        .secure("keys.test")
        .tlsa("mx.sec.test", 25, EE)
        .tlsa("mx.keys.test", 25, EE)
        .a("mx.deep.test", "192.0.2.1");
    let tree = (0..TINY_KEYS).fold(tree, |tree, number| tree.rdata("keys.test", tiny_key(number)));
    let tree = (0..FIRES).fold(tree, |tree, i| {
        let host = format!("mx{i}.flood.test");
        // Above the bound of a reply, and below it above that of a record set.
        let flood = if i % 2 == 0 { flood::<UNKNOWN> } else { flood::<200> };
        tree.tlsa(&host, 25, EE).fault(&format!("_25._tcp.{host}"), "TLSA", Fault::Tamper(flood))
    });
    let tree =
        (0..KEYS).fold(tree, |tree, _| tree.rdata("burn.test", RData::DNSSEC(DNSSECRData::DNSKEY(colliding_key()))));
    let tree = (0..FIRES).fold(tree, |tree, i| {
        let host = format!("mx{i}.burn.test");
        tree.tlsa(&host, 25, EE).fault(&format!("_25._tcp.{host}"), "TLSA", Fault::Tamper(multiply))
    });
    tree.start().await
}

fn resolver(lab: &DnsLab) -> Stub {
    let patience = Duration::from_secs(60);
    Stub::new(&ResolverSettings { timeout: patience, deadline: patience, ..lab.settings() }).unwrap()
}

/// The time that this process has spent on processors.
fn spent() -> Duration {
    let status = std::fs::read_to_string("/proc/self/stat").unwrap();
    let ticks = status.rsplit(") ").next().unwrap().split(' ').skip(11).take(2);
    // proc(5): utime and stime, in hundredths of a second.
    Duration::from_millis(10 * ticks.map(|ticks| ticks.parse::<u64>().unwrap()).sum::<u64>())
}

/// Asks these questions all at once, and meanwhile ordinary names one after the other, each an NSEC3 denial that is not
/// known yet. Returns the results of the questions, and the most processor time during one ordinary question.
async fn beside(dns: &Stub, owners: Vec<String>) -> (Vec<Result<Lookup<RawTlsa>, Failure>>, Duration) {
    // The delegations to the ordinary zone are known, as they are while mail flows.
    dns.tlsa(&name("_25._tcp.mx.calm.test")).await.unwrap();
    let burn = owners.into_iter().map(|owner| {
        let dns = dns.clone();
        tokio::spawn(async move { dns.tlsa(&name(&owner)).await })
    });
    let fires: Vec<_> = burn.collect();
    let mut most = Duration::ZERO;
    for i in 0..10 {
        let begin = spent();
        let found = dns.tlsa(&name(&format!("_25._tcp.mx{i}.calm.test"))).await.unwrap();
        assert_eq!((found.security(), found.answer), (Security::Secure, Answer::NxDomain));
        most = most.max(spent() - begin);
    }
    let ended = futures_util::future::join_all(fires).await;
    (ended.into_iter().map(Result::unwrap).collect(), most)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a47_a48_an_expensive_reply_delays_its_own_lookup_alone() {
    //
    if !is_alone(module_path!(), "a47_a48_an_expensive_reply_delays_its_own_lookup_alone") {
        return;
    }
    let lab = lab().await;
    let dns = resolver(&lab);
    let keys = (0..FIRES).map(|i| format!("_25._tcp.mx{i}.burn.test"));
    let hashes = (0..FIRES).map(|i| deep(i, "deep.test"));
    let begin = spent();
    let (ended, most) = beside(&dns, keys.chain(hashes).collect()).await;
    let all = spent() - begin;
    assert!(all < ALL && most < FAIR, "{all:?} in all, {most:?} during an ordinary question");
    // Colliding keys and as many signatures: above the bounds no signature is believed.
    assert!(ended[..FIRES].iter().all(Result::is_err));
    // Deep names and many iterations: denied, or failed.
    assert!(ended[FIRES..].iter().flatten().all(|lookup| lookup.answer.records().is_empty()));
    // Without its expensive records the zone is a zone like any other, keys and all.
    lab.clear_fault("_25._tcp.mx0.burn.test", "TLSA");
    let found = dns.tlsa(&name("_25._tcp.mx0.burn.test")).await.unwrap();
    assert_eq!(found.security(), Security::Secure);
    // Its keys are asked for once, however many lookups need them: over UDP, perhaps again, and over TCP.
    let asked = lab.asked().iter().filter(|asked| *asked == "burn.test DNSKEY").count();
    assert!(asked < FIRES / 2, "{asked}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a47_signatures_and_keys_by_the_thousand_fail_and_cost_little() {
    //
    if !is_alone(module_path!(), "a47_signatures_and_keys_by_the_thousand_fail_and_cost_little") {
        return;
    }
    let lab = lab().await;
    let dns = resolver(&lab);
    let begin = spent();
    let (ended, most) = beside(&dns, (0..FIRES).map(|i| format!("_25._tcp.mx{i}.flood.test")).collect()).await;
    let all = spent() - begin;
    assert!(all < ALL && most < FAIR, "{all:?} in all, {most:?} during an ordinary question");
    assert!(
        ended.iter().all(|ended| matches!(ended, Err(Failure { reason: FailureReason::Bogus(_), .. }))),
        "{ended:?}"
    );
    // A zone of as many keys as a message holds fails, and is never taken for one that is not signed.
    let failed = dns.tlsa(&name("_25._tcp.mx.keys.test")).await.unwrap_err();
    assert!(matches!(failed.reason, FailureReason::TooManyRecords(_)), "{failed}");
    let found = dns.tlsa(&name("_25._tcp.mx.sec.test")).await.unwrap();
    assert_eq!(found.security(), Security::Secure);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a49_lists_of_all_types_fail_and_cost_little() {
    // half a million types in each reply.
    if !is_alone(module_path!(), "a49_lists_of_all_types_fail_and_cost_little") {
        return;
    }
    const LISTS: usize = 100;
    let tree = Tree::new().secure("sec.test").nsec3("calm.test", 0).tlsa("mx.sec.test", 25, EE);
    let tree = (0..LISTS)
        .fold(tree, |tree, i| tree.fault(&format!("_25._tcp.mx{i}.sec.test"), "TLSA", Fault::Tamper(list_all_types)));
    let lab = tree.start().await;
    let dns = resolver(&lab);
    let begin = spent();
    let (ended, most) = beside(&dns, (0..LISTS).map(|i| format!("_25._tcp.mx{i}.sec.test")).collect()).await;
    let all = spent() - begin;
    assert!(all < ALL && most < FAIR, "{all:?} in all, {most:?} during an ordinary question");
    assert!(
        ended.iter().all(|ended| matches!(ended, Err(Failure { reason: FailureReason::Malformed(_), .. }))),
        "{ended:?}"
    );
}
