//! Without a resolver: danelaw asks the authoritative servers itself, honest and hostile ones.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use danelaw::dns::selftest::ServerState;
use danelaw::dns::setup::ResolverSettings;
use danelaw::dns::stub::Stub;
use danelaw::dns::{Answer, Failure, Lookup, NegativeTrustAnchors, Rtype};
use hickory_resolver::proto::dnssec::rdata::{DNSSECRData, RRSIG};
use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::NS;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType, SerialNumber};
use tokio::net::UdpSocket;

use crate::lab::dns::authority::{Authorities, Manner};
use crate::lab::dns::{Fault, Tree};
use crate::negative_anchors::anchor;

/// A change to a reply.
type Tamper = fn(&mut Message);

fn tree() -> Tree {
    Tree::new()
        .secure("example.test")
        .mx("example.test", 10, "mx.example.test")
        .a("mx.example.test", "192.0.2.1")
        .tlsa("mx.example.test", 25, "3 1 1 00")
        .insecure("plain.test")
        .mx("plain.test", 10, "mx.plain.test")
}

fn stub(lab: &Authorities) -> Stub {
    Stub::new(&lab.settings()).unwrap()
}

async fn look(stub: &Stub, name: &str, rtype: &str) -> Result<Lookup<String>, Failure> {
    stub.lookup(&name.parse().unwrap(), rtype.parse::<Rtype>().unwrap()).await
}

/// The security of the answer and its records; a failure by its reason.
async fn found(stub: &Stub, name: &str, rtype: &str) -> String {
    match look(stub, name, rtype).await {
        Ok(lookup) => match &lookup.answer {
            Answer::Records(records) => format!("{} {}", lookup.security(), records.join(", ")),
            Answer::NoData => format!("{} nodata", lookup.security()),
            Answer::NxDomain => format!("{} nxdomain", lookup.security()),
        },
        Err(failure) => format!("failed: {}", failure.reason),
    }
}

fn n(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn ns(owner: &str, server: &str) -> Record {
    Record::from_rdata(n(owner), 300, RData::NS(NS(n(server))))
}

fn a(owner: &str, address: Ipv4Addr) -> Record {
    Record::from_rdata(n(owner), 300, RData::A(address.into()))
}

/// Makes the reply a bare referral.
fn refer(reply: &mut Message, records: Vec<Record>) {
    reply.answers.clear();
    reply.additionals.clear();
    reply.metadata.authoritative = false;
    reply.metadata.response_code = ResponseCode::NoError;
    reply.authorities = records;
}

#[tokio::test]
async fn answers_and_denials_of_authoritative_servers_are_validated() {
    let lab = tree().delegate().await;
    let stub = stub(&lab);
    for (name, rtype, expected) in [
        ("example.test", "MX", "secure 10 mx.example.test."),
        ("mx.example.test", "A", "secure 192.0.2.1"),
        ("_25._tcp.mx.example.test", "TLSA", "secure 3 1 1 00"),
        ("_26._tcp.mx.example.test", "TLSA", "secure nxdomain"),
        ("mx.example.test", "AAAA", "secure nodata"),
        ("nowhere.test", "MX", "secure nxdomain"),
        ("plain.test", "MX", "insecure 10 mx.plain.test."),
        ("mx.plain.test", "A", "insecure nxdomain"),
        ("example.test", "DNSKEY", "secure"),
        ("example.test", "DS", "secure"),
    ] {
        let found = found(&stub, name, rtype).await;
        assert!(found.starts_with(expected), "{name} {rtype}: {found}");
    }
    assert_eq!(lab.careless(), Vec::<String>::new(), "RD is clear, DO is set");
}

/// Unbound takes such replies, too, if RA is clear.
#[tokio::test]
async fn servers_that_forget_the_aa_bit_are_heard_and_resolvers_are_not() {
    let forget = Fault::Tamper(|reply| reply.metadata.authoritative = false);
    let recurse = Fault::Tamper(|reply| {
        (reply.metadata.authoritative, reply.metadata.recursion_available) = (false, true);
    });
    for (zone, asked, expected) in [
        ("example.test", ("example.test", "MX"), "secure 10 mx.example.test."),
        ("example.test", ("_25._tcp.mx.example.test", "TLSA"), "secure 3 1 1 00"),
        ("example.test", ("_26._tcp.mx.example.test", "TLSA"), "secure nxdomain"),
        ("example.test", ("mx.example.test", "AAAA"), "secure nodata"),
        ("plain.test", ("plain.test", "MX"), "insecure 10 mx.plain.test."),
    ] {
        for (fault, expected) in [(&forget, expected), (&recurse, "failed")] {
            let lab = tree().delegate().await;
            lab.spoil(zone, asked, fault.clone());
            let found = found(&stub(&lab), asked.0, asked.1).await;
            assert!(found.starts_with(expected), "{asked:?}: {found}");
        }
    }
}

#[tokio::test]
async fn a_server_above_is_not_told_more_than_it_needs() {
    let lab = tree().delegate().await;
    let stub = stub(&lab);
    assert!(found(&stub, "_25._tcp.mx.example.test", "TLSA").await.starts_with("secure"));
    assert!(lab.asked(".").iter().all(|asked| !asked.contains("example")), "{:?}", lab.asked("."));
    assert!(lab.asked("test").iter().all(|asked| !asked.contains("mx.")), "{:?}", lab.asked("test"));
    // The case is another one each time, and the server is not asked over TCP for that.
    let written = lab.written("example.test");
    assert!(written.iter().any(|asked| asked.chars().any(|c| c.is_lowercase())), "{written:?}");
    assert!(written.iter().all(|asked| !asked.ends_with(" over TCP")), "{written:?}");
}

#[tokio::test]
async fn the_way_is_remembered() {
    let lab = tree().delegate().await;
    let stub = stub(&lab);
    assert!(found(&stub, "example.test", "MX").await.starts_with("secure"));
    let before = (lab.count(), lab.asked(".").len(), lab.asked("test").len());
    assert!(found(&stub, "mx.example.test", "A").await.starts_with("secure"));
    assert_eq!((lab.count(), lab.asked(".").len(), lab.asked("test").len()), (before.0 + 1, before.1, before.2));
}

#[tokio::test]
async fn the_self_test_examines_the_authoritative_servers_like_any_resolver() {
    let lab = tree().delegate().await;
    let stub = stub(&lab);
    stub.self_test().await;
    let state = |stub: &Stub| stub.health().borrow().servers.iter().map(|s| s.state.clone()).collect::<Vec<_>>();
    assert_eq!(state(&stub), [ServerState::Good]);
    assert_eq!(stub.health().borrow().servers[0].server.to_string(), "recurse");
    let nowhere = Stub::new(&ResolverSettings { recursion_port: 1, ..lab.settings() }).unwrap();
    let began = Instant::now();
    nowhere.self_test().await;
    assert!(began.elapsed() < Duration::from_secs(3));
    let [ServerState::Failed(why)] = &state(&nowhere)[..] else { panic!() };
    assert!(why.to_string().contains("cannot reach any root server on port 1"), "{why}");
}

#[tokio::test]
async fn a58_referrals_that_go_nowhere_end_in_a_failure() {
    //
    let wrong: [(&str, Tamper); 5] = [
        ("upwards", |reply| refer(reply, vec![ns(".", "ns.")])),
        ("to itself", |reply| refer(reply, vec![ns("test.", "ns.test.")])),
        ("sideways", |reply| refer(reply, vec![ns("plain.test.", "ns.plain.test.")])),
        ("past the name", |reply| refer(reply, vec![ns("a.b.example.test.", "ns.test.")])),
        ("to no name server", |reply| refer(reply, Vec::new())),
    ];
    for (direction, tamper) in wrong {
        let lab = tree().delegate().await;
        for rtype in ["A", "MX"] {
            lab.spoil("test", ("example.test", rtype), Fault::Tamper(tamper));
        }
        let found = found(&stub(&lab), "example.test", "MX").await;
        assert!(found.starts_with("failed") && found.contains("is no server of zone test"), "{direction}: {found}");
        assert!(lab.count() < 30, "{direction}: {} questions", lab.count());
    }
}

#[tokio::test]
async fn a58_a_thousand_server_names_are_five_lookups() {
    // NXNSAttack, CVE-2020-12662.
    let lab = tree().secure("victim.test").delegate().await;
    let attack: fn(&mut Message) = |reply| {
        refer(reply, (0..150).map(|i| ns("evil.example.test.", &format!("ns{i}.victim.test."))).collect());
    };
    for rtype in ["A", "MX"] {
        lab.spoil("example.test", ("evil.example.test", rtype), Fault::Tamper(attack));
    }
    let stub = stub(&lab);
    let found = found(&stub, "evil.example.test", "MX").await;
    assert!(found.starts_with("failed"), "{found}");
    let asked = lab.asked("victim.test");
    let names: std::collections::BTreeSet<_> = asked.iter().filter_map(|asked| asked.split(' ').next()).collect();
    assert!(names.iter().filter(|name| name.starts_with("ns")).count() <= 5, "{names:?}");
    assert!(lab.count() < 40, "{}", lab.count());
}

/// How many zones the aliases of the test below lead through.
const ZONES: usize = 14;

/// The same for one zone of many: four servers below the victim, with long names, before the one that is there.
fn amplify(reply: &mut Message) {
    let asked = reply.queries[0].name.to_string().to_lowercase();
    let zone = asked.split('.').find(|label| label.starts_with('z')).unwrap_or_default().to_owned();
    let deep = |i| ns(&format!("{zone}.test."), &format!("a.b.c.d.e.ns{i}.{zone}.victim.test."));
    let real = ns(&format!("{zone}.test."), &format!("{zone}.host.test."));
    refer(reply, (0..4).map(deep).chain([real]).collect());
}

#[tokio::test]
async fn a58_aliases_through_many_zones_share_one_bound() {
    // each zone of the chain has servers to look up, and the chain has sixteen links.
    let zone = |i: usize| format!("z{i}.test");
    let mut tree = tree().secure("victim.test").secure("host.test");
    for i in 0..ZONES {
        tree = tree.insecure(&zone(i));
        for server in 0..4 {
            // Each label is one more question.
            tree = tree.record(&format!("a.b.c.d.e.ns{server}.z{i}.victim.test"), "TXT", "x");
        }
        tree = match i + 1 {
            ZONES => tree.mx(&format!("w.{}", zone(i)), 10, "mx.example.test"),
            next => tree.cname(&format!("w.{}", zone(i)), &format!("w.{}", zone(next))),
        };
    }
    // Without the attack it is one answer.
    let plain = tree.clone().delegate().await;
    assert_eq!(found(&stub(&plain), "w.z0.test", "MX").await, "insecure 10 mx.example.test.");
    for i in 0..ZONES {
        tree = tree.a(&format!("z{i}.host.test"), &plain.address(&zone(i)).to_string());
    }
    // Below a negative trust anchor too, where no proof is asked for.
    for negative in [NegativeTrustAnchors::default(), anchor("test", 1)] {
        let lab = tree.clone().delegate().await;
        for i in 0..ZONES {
            assert_eq!(lab.address(&zone(i)), plain.address(&zone(i)));
            for rtype in ["A", "MX", "NS"] {
                lab.spoil("test", (&zone(i), rtype), Fault::Tamper(amplify));
                lab.spoil("test", (&format!("w.{}", zone(i)), rtype), Fault::Tamper(amplify));
            }
        }
        let stub = Stub::new(&ResolverSettings { negative, ..lab.settings() }).unwrap();
        let found = found(&stub, "w.z0.test", "MX").await;
        assert!(found.starts_with("failed"), "{found}");
        assert!((200..300).contains(&lab.count()), "{} questions", lab.count());
    }
}

#[tokio::test]
async fn a58_glue_of_another_zone_poisons_nothing() {
    //
    let lab = tree().secure("other").secure("bank.other").mx("bank.other", 1, "mx.bank.other").delegate().await;
    // The server of test. says that the server of other. is at an address of its own choice.
    let poison: fn(&mut Message) = |reply| {
        reply.authorities.push(ns("other.", "ns.other."));
        reply.authorities.push(ns("example.test.", "ns.bank.other."));
        reply.additionals.push(a("ns.other.", Ipv4Addr::new(127, 53, 9, 9)));
        reply.additionals.push(a("ns.bank.other.", Ipv4Addr::new(127, 53, 9, 9)));
    };
    lab.spoil("test", ("example.test", "A"), Fault::Tamper(poison));
    let stub = stub(&lab);
    assert_eq!(found(&stub, "example.test", "MX").await, "secure 10 mx.example.test.");
    assert_eq!(found(&stub, "bank.other", "MX").await, "secure 1 mx.bank.other.");
}

#[tokio::test]
async fn a58_zones_whose_servers_are_in_each_other_end_in_a_failure() {
    //
    let lab = tree().insecure("a.test").insecure("b.test").delegate().await;
    let (to_b, to_a): (Tamper, Tamper) = (
        |reply| refer(reply, vec![ns("a.test.", "ns.b.test.")]),
        |reply| refer(reply, vec![ns("b.test.", "ns.a.test.")]),
    );
    for rtype in ["A", "MX"] {
        lab.spoil("test", ("a.test", rtype), Fault::Tamper(to_b));
        lab.spoil("test", ("b.test", rtype), Fault::Tamper(to_a));
    }
    let found = found(&stub(&lab), "a.test", "MX").await;
    assert!(found.contains("no name server of zone a.test has an address"), "{found}");
    assert!(lab.count() < 20, "{}", lab.count());
}

#[tokio::test]
async fn a_server_without_glue_is_looked_up() {
    let lab = tree().secure("host.test").delegate().await;
    // The server's name is in another zone, behind an alias; its address is that of the zone's own server.
    let there = lab.address("example.test").to_string();
    let lab =
        tree().secure("host.test").cname("ns.host.test", "real.host.test").a("real.host.test", &there).delegate().await;
    assert_eq!(lab.address("example.test").to_string(), there);
    for rtype in ["A", "MX"] {
        let refer_to: fn(&mut Message) = |reply| {
            reply.additionals.clear();
            reply.authorities.retain(|record| record.record_type() != RecordType::NS);
            reply.authorities.push(ns("example.test.", "ns.host.test."));
        };
        lab.spoil("test", ("example.test", rtype), Fault::Tamper(refer_to));
    }
    assert_eq!(found(&stub(&lab), "example.test", "MX").await, "secure 10 mx.example.test.");
}

#[tokio::test]
async fn lame_and_dead_servers_are_passed_over() {
    let lab = tree().delegate().await;
    // 127.53.9.9 refuses the port; the root's server refuses the zone.
    let more: fn(&mut Message) = |reply| {
        for (i, address) in [[127, 53, 9, 9], [127, 53, 0, 1]].into_iter().enumerate() {
            let name = format!("ns{i}.test.");
            reply.authorities.insert(0, ns("example.test.", &name));
            reply.additionals.insert(0, a(&name, address.into()));
        }
    };
    lab.spoil("test", ("example.test", "A"), Fault::Tamper(more));
    let began = Instant::now();
    assert_eq!(found(&stub(&lab), "example.test", "MX").await, "secure 10 mx.example.test.");
    assert!(began.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn a58_a_server_in_our_own_network_is_not_asked_for_a_stranger() {
    //
    let lab = tree().delegate().await;
    let inside: fn(&mut Message) = |reply| {
        refer(reply, vec![ns("example.test.", "ns.example.test.")]);
        reply.additionals = vec![a("ns.example.test.", Ipv4Addr::new(10, 0, 0, 1))];
    };
    for rtype in ["A", "MX"] {
        lab.spoil("test", ("example.test", rtype), Fault::Tamper(inside));
    }
    let found = found(&stub(&lab), "example.test", "MX").await;
    assert!(found.contains("no name server of zone example.test has an address that may be asked"), "{found}");
}

#[tokio::test]
async fn truncated_replies_come_over_tcp_and_others_are_failures() {
    let lab = tree().delegate().await;
    lab.spoil("test", ("example.test", "A"), Fault::TruncatedUdp);
    lab.spoil("example.test", ("example.test", "MX"), Fault::TruncatedUdp);
    assert_eq!(found(&stub(&lab), "example.test", "MX").await, "secure 10 mx.example.test.");
    assert!(lab.asked("example.test").iter().any(|asked| asked == "example.test mx over tcp"));
    lab.spoil("example.test", ("example.test", "MX"), Fault::Truncated);
    let found = found(&stub(&lab), "example.test", "MX").await;
    assert!(found.starts_with("failed"), "{found}");
}

#[tokio::test]
async fn questions_to_a_server_share_its_tcp_connection() {
    // RFC 7766 §6.2.1: at once and one after the other.
    let lab = tree().delegate().await;
    let questions = [
        ("example.test", "MX", "secure 10 mx.example.test."),
        ("mx.example.test", "A", "secure 192.0.2.1"),
        ("mx.example.test", "AAAA", "secure nodata"),
        ("_25._tcp.mx.example.test", "TLSA", "secure 3 1 1 00"),
        ("example.test", "DNSKEY", "secure"),
    ];
    questions.iter().for_each(|(name, rtype, _)| lab.spoil("example.test", (name, rtype), Fault::TruncatedUdp));
    let stub = stub(&lab);
    let ask = async |(name, rtype, expected)| {
        let found = found(&stub, name, rtype).await;
        assert!(found.starts_with(expected), "{name} {rtype}: {found}");
    };
    let [first, second, third, fourth, fifth] = questions;
    ask(first).await;
    tokio::join!(ask(second), ask(third), ask(fourth));
    ask(fifth).await;
    let over_tcp = lab.asked("example.test").iter().filter(|asked| asked.ends_with(" over tcp")).count();
    assert!(over_tcp >= questions.len(), "{:?}", lab.asked("example.test"));
    assert_eq!(lab.connections("example.test"), 1, "{over_tcp} questions");
}

#[tokio::test]
async fn the_next_server_of_a_zone_is_asked_beside_one_that_is_silent() {
    // Neither server is known; which of the two is asked first is a matter of chance.
    let mut lab = tree().delegate().await;
    lab.add_secondary("example.test").await;
    lab.behave("example.test", Manner::Silent);
    let settings = ResolverSettings { timeout: Duration::from_secs(3), ..lab.settings() };
    for attempt in 0.. {
        assert!(attempt < 60, "the silent server is never asked first");
        let (stub, began) = (Stub::new(&settings).unwrap(), Instant::now());
        assert_eq!(found(&stub, "example.test", "MX").await, "secure 10 mx.example.test.");
        // An unknown server has a second and a half for its reply, and is alone for a part of it.
        assert!(began.elapsed() < Duration::from_millis(1500), "{:?}", began.elapsed());
        let asked = lab.asked("example.test").len();
        if asked > 0 {
            // It has failed, and the other one answers.
            assert!(found(&stub, "mx.example.test", "A").await.starts_with("secure"));
            assert_eq!(lab.asked("example.test").len(), asked);
            break;
        }
    }
}

#[tokio::test]
async fn a58_silent_servers_of_one_zone_cost_a_bounded_number_of_questions() {
    // a lookup asks each server once, and those that were silent once more, whichever were asked beside others.
    let mut lab = tree().delegate().await;
    for _ in 0..3 {
        lab.add_secondary("example.test").await;
    }
    lab.behave("example.test", Manner::Silent);
    lab.behave_secondaries("example.test", Manner::Silent);
    let settings = ResolverSettings { timeout: Duration::from_secs(3), ..lab.settings() };
    let stub = Stub::new(&settings).unwrap();
    assert_eq!(found(&stub, "example.test", "MX").await, "failed: no answer within the time limit");
    let asked = lab.asked("example.test").iter().filter(|asked| asked.starts_with("example.test mx")).count();
    assert_eq!(asked, 2, "{:?}", lab.asked("example.test"));
}

#[tokio::test]
async fn a_denied_or_refused_ancestor_does_not_hide_the_names_below() {
    // Some servers answer NXDOMAIN for a name that has only names below it.
    for fault in [Fault::Relabelled(ResponseCode::NXDomain), Fault::Rcode(ResponseCode::Refused), Fault::Drop] {
        let lab = tree().secure("c.b.test").mx("c.b.test", 1, "mx.test").delegate().await;
        lab.spoil("test", ("b.test", "A"), fault);
        assert_eq!(found(&stub(&lab), "c.b.test", "MX").await, "secure 1 mx.test.");
    }
}

#[tokio::test]
async fn a_reply_in_another_case_is_asked_for_again_over_tcp() {
    let lab = tree().delegate().await;
    let lower: fn(&mut Message) = |reply| {
        let name = reply.queries[0].name().to_lowercase();
        reply.queries[0].set_name(name);
    };
    lab.spoil("example.test", ("_25._tcp.mx.example.test", "TLSA"), Fault::Tamper(lower));
    assert!(found(&stub(&lab), "_25._tcp.mx.example.test", "TLSA").await.starts_with("secure"));
    let asked = lab.asked("example.test");
    assert!(asked.iter().any(|asked| asked == "_25._tcp.mx.example.test tlsa over tcp"), "{asked:?}");
}

#[tokio::test]
async fn forged_records_of_an_authoritative_server_are_bogus() {
    let lab = tree().delegate().await;
    lab.spoil("example.test", ("example.test", "MX"), Fault::BogusSignature);
    assert!(found(&stub(&lab), "example.test", "MX").await.starts_with("failed: DNSSEC validation failed"));
    lab.spoil("example.test", ("example.test", "MX"), Fault::Stripped);
    assert!(found(&stub(&lab), "example.test", "MX").await.starts_with("failed: DNSSEC validation failed"));
    // A referral without the DS record makes no zone insecure.
    let lab = tree().delegate().await;
    lab.spoil("test", ("example.test", "DS"), Fault::Stripped);
    assert!(found(&stub(&lab), "example.test", "MX").await.starts_with("failed: DNSSEC validation failed"));
}

/// Every signature has ended long ago.
fn expired(reply: &mut Message) {
    for record in reply.answers.iter_mut().chain(&mut reply.authorities) {
        if let RData::DNSSEC(DNSSECRData::RRSIG(rrsig)) = &mut record.data {
            let mut input = rrsig.input().clone();
            input.sig_inception = SerialNumber::new(1_000_000_000);
            input.sig_expiration = SerialNumber::new(1_000_100_000);
            *rrsig = RRSIG::from_sig(input, rrsig.sig().to_vec());
        }
    }
}

#[tokio::test]
async fn one_stale_or_lying_server_makes_no_zone_bogus() {
    let foreign = |rtype| Fault::ReplyTo("other.test", rtype);
    let unsigned = Fault::Answer(vec![("example.test", "MX", "10 evil.test.")]);
    for (what, zone, question, fault) in [
        ("expired", "example.test", ("example.test", "MX"), Fault::Tamper(expired)),
        ("forged", "example.test", ("example.test", "MX"), Fault::BogusSignature),
        ("stripped", "example.test", ("example.test", "MX"), Fault::Stripped),
        ("unsigned", "example.test", ("example.test", "MX"), unsigned),
        ("denied", "example.test", ("example.test", "MX"), Fault::Denial(ResponseCode::NoError, "example.test")),
        ("expired keys", "example.test", ("example.test", "DNSKEY"), Fault::Tamper(expired)),
        ("foreign keys", "example.test", ("example.test", "DNSKEY"), foreign("DNSKEY")),
        ("no keys", "example.test", ("example.test", "DNSKEY"), Fault::Denial(ResponseCode::NoError, "example.test")),
        ("expired DS", "test", ("example.test", "DS"), Fault::Tamper(expired)),
        ("DS without signatures", "test", ("example.test", "DS"), Fault::Stripped),
        ("DS denied", "test", ("example.test", "DS"), Fault::Denial(ResponseCode::NoError, "test")),
        ("expired keys above", "test", ("test", "DNSKEY"), Fault::Tamper(expired)),
    ] {
        let mut lab = tree().secure("other.test").mx("other.test", 10, "mx.other.test").delegate().await;
        lab.add_secondary(zone).await;
        lab.spoil_secondary(zone, question, fault.clone());
        let bad = format!("{} {}", question.0, question.1.to_lowercase());
        // Which of the two is asked first is a matter of chance.
        for attempt in 0.. {
            assert_eq!(found(&stub(&lab), "example.test", "MX").await, "secure 10 mx.example.test.", "{what}");
            if lab.asked_secondary(zone).contains(&bad) {
                break;
            }
            assert!(attempt < 60, "{what}: the bad server is never asked");
        }
        // The other one is no better: the zone is bogus, and the servers are not asked for long.
        lab.spoil(zone, question, fault);
        let before = lab.count() + lab.asked_secondary(zone).len();
        let failed = found(&stub(&lab), "example.test", "MX").await;
        assert!(failed.starts_with("failed: "), "{what}: {failed}");
        let asked = lab.count() + lab.asked_secondary(zone).len() - before;
        assert!(asked < 25, "{what}: {asked} questions");
    }
}

#[tokio::test]
async fn a_bogus_zone_of_one_server_costs_no_more_questions() {
    // There is no other server to ask, and the parent is not asked again either.
    let lab = tree().delegate().await;
    let stub = stub(&lab);
    assert_eq!(found(&stub, "example.test", "MX").await, "secure 10 mx.example.test.");
    lab.spoil("example.test", ("mx.example.test", "A"), Fault::BogusSignature);
    let asked = || ["test", "example.test"].map(|zone| lab.asked(zone).len());
    let [above, within] = asked();
    assert!(found(&stub, "mx.example.test", "A").await.starts_with("failed: DNSSEC validation failed"));
    assert_eq!(asked(), [above, within + 1]);
}

#[tokio::test]
async fn a_deep_name_takes_a_third_of_the_questions_that_a_lookup_may_ask() {
    let deep = ["a.test", "b.a.test", "c.b.a.test", "d.c.b.a.test"];
    let lab = deep.into_iter().fold(tree(), Tree::secure).mx("d.c.b.a.test", 1, "mx.test").delegate().await;
    assert_eq!(found(&stub(&lab), "d.c.b.a.test", "MX").await, "secure 1 mx.test.");
    // With the keys of every zone on the way, each of which is a lookup by itself.
    assert!(lab.count() <= 33, "{} questions", lab.count());
}

#[tokio::test]
async fn a_server_without_edns_answers_for_unsigned_zones_alone() {
    let lab = tree().delegate().await;
    lab.behave("plain.test", Manner::WithoutEdns);
    lab.behave("example.test", Manner::WithoutEdns);
    let stub = stub(&lab);
    assert_eq!(found(&stub, "plain.test", "MX").await, "insecure 10 mx.plain.test.");
    let found = found(&stub, "example.test", "MX").await;
    assert!(found.starts_with("failed: DNSSEC validation failed"), "{found}");
}

#[tokio::test]
async fn a_server_that_drops_edns_answers_for_unsigned_zones_alone() {
    let lab = tree().a("mx.plain.test", "192.0.2.2").delegate().await;
    lab.behave("plain.test", Manner::DropsEdns);
    lab.behave("example.test", Manner::DropsEdns);
    let stub = stub(&lab);
    assert_eq!(found(&stub, "plain.test", "MX").await, "insecure 10 mx.plain.test.");
    assert_eq!(lab.asked("plain.test").len(), 2, "{:?}", lab.asked("plain.test"));
    // From then on it is asked without EDNS.
    assert_eq!(found(&stub, "mx.plain.test", "A").await, "insecure 192.0.2.2");
    assert_eq!(found(&stub, "mx.plain.test", "AAAA").await, "insecure nodata");
    assert_eq!(lab.asked("plain.test").len(), 4, "{:?}", lab.asked("plain.test"));
    // The parent has DS records: a reply without signatures would be no proof, and is not asked for.
    assert_eq!(found(&stub, "example.test", "MX").await, "failed: no answer within the time limit");
    let without = lab.careless();
    assert!(
        without.len() == 3 && without.iter().all(|asked| asked.to_lowercase().contains("plain.test")),
        "{without:?}"
    );
}

#[tokio::test]
async fn a_lost_reply_of_an_unsigned_zone_makes_no_signed_zone_bogus() {
    // One server of an unsigned zone that was silent once is asked without EDNS; servers of signed zones never are.
    let lab = tree().delegate().await;
    let stub = stub(&lab);
    assert_eq!(found(&stub, "plain.test", "MX").await, "insecure 10 mx.plain.test.");
    for zone in ["plain.test", "example.test"] {
        lab.behave(zone, Manner::Silent);
        let lost = found(&stub, zone, "MX").await;
        assert_eq!(lost, "failed: no answer within the time limit", "{zone}");
        lab.behave(zone, Manner::Ordinary);
    }
    assert_eq!(found(&stub, "example.test", "MX").await, "secure 10 mx.example.test.");
    assert_eq!(found(&stub, "plain.test", "MX").await, "insecure 10 mx.plain.test.");
    assert!(lab.careless().iter().all(|asked| asked.to_lowercase().contains("plain.test")), "{:?}", lab.careless());
}

#[tokio::test]
async fn a_tarpit_gets_no_more_questions_for_being_unsigned() {
    let lab = tree().insecure("dead.test").secure("quiet.test").delegate().await;
    let stub = stub(&lab);
    for zone in ["dead.test", "quiet.test"] {
        lab.behave(zone, Manner::Silent);
        assert_eq!(found(&stub, zone, "MX").await, "failed: no answer within the time limit");
    }
    assert_eq!(lab.asked("dead.test").len(), lab.asked("quiet.test").len());
}

#[tokio::test]
async fn a_zone_of_silent_servers_does_not_take_the_places_of_others() {
    let lab = tree().insecure("dead.test").delegate().await;
    let stub = Stub::new(&ResolverSettings { timeout: Duration::from_secs(2), ..lab.settings() }).unwrap();
    assert_eq!(found(&stub, "example.test", "MX").await, "secure 10 mx.example.test.");
    assert_eq!(found(&stub, "dead.test", "MX").await, "insecure nodata");
    lab.behave("dead.test", Manner::Silent);
    let silent: Vec<_> = (0..300)
        .map(|i| {
            let stub = stub.clone();
            tokio::spawn(async move { found(&stub, &format!("n{i}.dead.test"), "MX").await })
        })
        .collect();
    tokio::task::yield_now().await;
    for i in 0..20 {
        let began = Instant::now();
        let found = found(&stub, &format!("n{i}.example.test"), "MX").await;
        assert!(found.starts_with("secure nxdomain"), "{found}");
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    }
    silent.iter().for_each(|silent| silent.abort());
}

/// Refers `z3.evil.test` to twenty servers that do not answer.
fn to_the_dead(reply: &mut Message) {
    let zone = reply.queries[0].name().clone();
    let number = std::str::from_utf8(zone.iter().next().unwrap()).unwrap()[1..].parse::<u8>().unwrap();
    let server = n("ns").append_domain(&zone).unwrap();
    refer(reply, vec![Record::from_rdata(zone, 300, RData::NS(NS(server.clone())))]);
    reply.additionals =
        DEAD.map(|host| Record::from_rdata(server.clone(), 300, RData::A(dead(number, host).into()))).collect();
}

const DEAD: std::ops::RangeInclusive<u8> = 1..=20;

fn dead(zone: u8, host: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 54, zone, host)
}

#[tokio::test]
async fn a58_strangers_with_many_dead_servers_do_not_hold_up_a_zone_that_was_never_asked() {
    // a thousand lookups in fifty zones with twenty dead servers each. Nothing is known of the zone that is wanted.
    const ZONES: u8 = 50;
    let lab = tree().insecure("evil.test").secure("cold.test").mx("cold.test", 1, "mx.test").delegate().await;
    let mut silent = Vec::new();
    for zone in 0..ZONES {
        for host in DEAD {
            silent.push(UdpSocket::bind((dead(zone, host), lab.port())).await.unwrap());
        }
        let asked = format!("z{zone}.evil.test");
        ["A", "MX"].iter().for_each(|rtype| lab.spoil("evil.test", (&asked, rtype), Fault::Tamper(to_the_dead)));
    }
    let (timeout, deadline) = (Duration::from_secs(3), Duration::from_secs(5));
    let stub = Stub::new(&ResolverSettings { timeout, deadline, ..lab.settings() }).unwrap();
    assert_eq!(found(&stub, "example.test", "MX").await, "secure 10 mx.example.test.");
    let look_up = |i: u32| {
        let (stub, name) = (stub.clone(), format!("n{i}.z{}.evil.test", i % u32::from(ZONES)));
        tokio::spawn(async move { found(&stub, &name, "MX").await })
    };
    let mut attack: Vec<_> = (0..u32::from(ZONES)).map(look_up).collect();
    // The servers of a zone are asked for once.
    crate::lab::wait_for(|| lab.asked("evil.test").len() >= usize::from(ZONES)).await;
    attack.extend((u32::from(ZONES)..1000).map(look_up));
    tokio::time::sleep(Duration::from_millis(500)).await;
    let began = Instant::now();
    let cold = found(&stub, "cold.test", "MX").await;
    assert_eq!(cold, "secure 1 mx.test.", "{:?} {:?}", began.elapsed(), lab.asked("cold.test"));
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    attack.iter().for_each(|attack| attack.abort());
}
