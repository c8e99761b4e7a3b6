//! Zones that are made to cost a validator as much as can be (A-47, A-48; item 7 of issue 3): while some lookups burn,
//! the others stay fast, and what burns ends in time.

// A test that cannot go on may panic.
#![allow(clippy::unwrap_used)]

#[path = "lab/dns.rs"]
mod lab;

use std::time::{Duration, Instant};

use danelaw::dns::setup::Settings;
use danelaw::dns::stub::Stub;
use danelaw::dns::{Failure, Lookup, RawTlsa, Resolver, Security};
use danelaw::name::Name;
use futures_util::StreamExt;
use hickory_resolver::proto::dnssec::crypto::EcdsaSigningKey;
use hickory_resolver::proto::dnssec::rdata::{DNSKEY, DNSSECRData, RRSIG};
use hickory_resolver::proto::dnssec::{Algorithm, SigningKey};
use hickory_resolver::proto::op::Message;
use hickory_resolver::proto::rr::{RData, Record};
use lab::{DnsLab, Fault, Tree};

const EE: &str = "3 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
/// The tag that all keys of the burning zone share.
const TAG: u16 = 4711;
/// As many keys, and as many signatures, as stay well below what a message holds. A validator that tries each with each
/// verifies 90,000 signatures for one record set.
const MANY: usize = 300;
/// Debug builds on a loaded machine; a release build needs a thousandth.
const FAST: Duration = Duration::from_secs(2);
/// For everything that one lookup may do.
const DEADLINE: Duration = Duration::from_secs(10);

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

/// In the place of each signature many that are wrong, by a key of the shared tag.
fn multiply(reply: &mut Message) {
    let genuine = reply.answers.iter().find_map(|record| match &record.data {
        RData::DNSSEC(DNSSECRData::RRSIG(rrsig)) => Some((record.name.clone(), rrsig.clone())),
        _ => None,
    });
    let Some((owner, genuine)) = genuine else { return };
    reply.answers.retain(|record| !matches!(record.data, RData::DNSSEC(DNSSECRData::RRSIG(_))));
    let (mut input, mut signature) = (genuine.input().clone(), genuine.sig().to_vec());
    input.key_tag = TAG;
    for number in 0..MANY {
        signature[40..48].copy_from_slice(&number.to_be_bytes());
        let rrsig = RRSIG::from_sig(input.clone(), signature.clone());
        reply.answers.push(Record::from_rdata(owner.clone(), 300, RData::DNSSEC(DNSSECRData::RRSIG(rrsig))));
    }
}

fn deep(label: usize, zone: &str) -> String {
    format!("x{label}.{}{zone}", "a.".repeat(100))
}

async fn lab() -> DnsLab {
    let tree = Tree::new()
        .secure("burn.test")
        .nsec3("deep.test", 500)
        .secure("sec.test")
        .tlsa("mx.sec.test", 25, EE)
        .a("mx.deep.test", "192.0.2.1");
    let tree =
        (0..MANY).fold(tree, |tree, _| tree.rdata("burn.test", RData::DNSSEC(DNSSECRData::DNSKEY(colliding_key()))));
    let tree = (0..20).fold(tree, |tree, i| {
        let host = format!("mx{i}.burn.test");
        tree.tlsa(&host, 25, EE).fault(&format!("_25._tcp.{host}"), "TLSA", Fault::Tamper(multiply))
    });
    tree.start().await
}

fn resolver(lab: &DnsLab) -> Stub {
    Stub::new(&Settings {
        servers: vec![lab.addr.into()],
        trust_anchor: Some(lab.anchor_file.clone()),
        timeout: Duration::from_secs(3),
        attempts: 1,
        deadline: DEADLINE,
        ..Settings::default()
    })
    .unwrap()
}

/// Puts these questions, two at a time, and asks for something innocent over and over meanwhile: how those ended, and
/// the longest that an innocent question took.
async fn beside(lab: &DnsLab, owners: Vec<String>) -> (Vec<Result<Lookup<RawTlsa>, Failure>>, Duration) {
    let dns = resolver(lab);
    let innocent = tokio::spawn({
        let dns = dns.clone();
        async move {
            let mut longest = Duration::ZERO;
            for _ in 0..30 {
                let begin = Instant::now();
                let found = dns.tlsa(&name("_25._tcp.mx.sec.test")).await.unwrap();
                assert_eq!(found.security(), Security::Secure);
                longest = longest.max(begin.elapsed());
            }
            longest
        }
    });
    let burn = |owner: String| {
        let dns = dns.clone();
        async move {
            let begin = Instant::now();
            let ended = tokio::spawn(async move { dns.tlsa(&name(&owner)).await }).await.unwrap();
            assert!(begin.elapsed() < DEADLINE + FAST, "{:?}", begin.elapsed());
            ended
        }
    };
    let ended = futures_util::stream::iter(owners).map(burn).buffered(2).collect().await;
    (ended, innocent.await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a47_colliding_keys_and_many_signatures() {
    let lab = lab().await;
    let owners = (0..20).map(|i| format!("_25._tcp.mx{i}.burn.test")).collect();
    let (ended, longest) = beside(&lab, owners).await;
    assert!(ended.iter().all(Result::is_err));
    assert!(longest < FAST, "{longest:?}");
    // The zone without its fire is a zone like any other, keys and all.
    lab.clear_fault("_25._tcp.mx0.burn.test", "TLSA");
    let found = resolver(&lab).tlsa(&name("_25._tcp.mx0.burn.test")).await.unwrap();
    assert_eq!(found.security(), Security::Secure);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a48_deep_names_and_many_iterations() {
    let lab = lab().await;
    let owners = (0..20).map(|i| deep(i, "deep.test")).collect();
    let (ended, longest) = beside(&lab, owners).await;
    // Denied, or not in time; nothing else.
    assert!(ended.iter().flatten().all(|lookup| lookup.answer.records().is_empty()));
    assert!(longest < FAST, "{longest:?}");
}
