//! The DNS port against a signed tree of its own: secure, insecure and absent records, and above all failures.
//!
//! Row ids (A4, D10, ...) are those of the requirements, S1 and S2 the two shapes of replies that must not be read as
//! "no records". A reply that is no answer has to be an error: "no TLSA record" and "insecure" switch DANE off.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::lab::dns::{DnsLab, Fault, Tree};
use crate::lab::free_port;
use danelaw::dns::selftest::ServerState;
use danelaw::dns::server::NameServer;
use danelaw::dns::setup::{MemoryLimits, ResolverSettings, ResolverSetupError};
use danelaw::dns::stub::Stub;
use danelaw::dns::{
    Answer, Failure, FailureReason, Finality, Host, HostLookup, Lookup, MxTarget, RawTlsa, Resolver, Rtype, Security,
};
use danelaw::name::Name;
use futures_util::StreamExt;
use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, NS, NULL};
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use tokio::net::UdpSocket;

use Security::{Insecure, Secure};

const EE: &str = "3 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const OWNER: &str = "_25._tcp.mx.sec.test";

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// A resolver with a cache, which keeps a failure for this time.
fn remembering(lab: &DnsLab, failures: Duration) -> Stub {
    let memory = MemoryLimits { entries: 1000, octets: 1_000_000, answers: Duration::from_secs(3600), failures };
    Stub::new(&ResolverSettings { memory, ..lab.settings() }).unwrap()
}

/// The result of the self-test for the first server.
async fn tested(settings: &ResolverSettings) -> ServerState {
    let stub = Stub::new(settings).unwrap();
    stub.self_test().await;
    stub.health().borrow().servers[0].state.clone()
}

fn resolver(lab: &DnsLab) -> Stub {
    Stub::new(&lab.settings()).unwrap()
}

async fn tlsa(lab: &DnsLab, owner: &str) -> Result<Lookup<RawTlsa>, Failure> {
    resolver(lab).tlsa(&name(owner)).await
}

/// The security of the end, and whether there are records.
async fn tlsa_end(lab: &DnsLab, owner: &str) -> Result<(Security, &'static str), FailureReason> {
    let found = tlsa(lab, owner).await.map_err(|failure| failure.reason)?;
    let kind = match found.answer {
        Answer::Records(_) => "records",
        Answer::NoData => "no data",
        Answer::NxDomain => "no name",
    };
    Ok((found.end, kind))
}

async fn host(lab: &DnsLab, host: &str) -> Host {
    match resolver(lab).host(&name(host)).await.unwrap() {
        HostLookup::Found(host) => host,
        HostLookup::NoAddress(_) | HostLookup::NotInFamily(_) => panic!("no address"),
    }
}

fn links(aliases: &[danelaw::dns::Alias]) -> Vec<(&str, Security)> {
    aliases.iter().map(|alias| (alias.target.as_str(), alias.security)).collect()
}

/// A signed domain with DANE, below a TLD whose NSEC3 records opt unsigned delegations out, as those of `com.` do.
fn tree() -> Tree {
    Tree::new()
        .opt_out("test")
        .secure("sec.test")
        .nsec3("hashed.test", 5)
        .insecure("plain.test")
        .mx("sec.test", 10, "mx.sec.test")
        .a("mx.sec.test", "192.0.2.1")
        .tlsa("mx.sec.test", 25, EE)
        .mx("hashed.test", 10, "mx.hashed.test")
        .a("mx.hashed.test", "192.0.2.2")
        .tlsa("mx.hashed.test", 25, EE)
        .mx("plain.test", 10, "mx.plain.test")
        .a("mx.plain.test", "192.0.2.3")
        .tlsa("mx.plain.test", 25, EE)
}

// --- replies that are an answer --------------------------------------------------------------------------------------

#[tokio::test]
async fn a_step_that_has_failed_for_want_of_a_reply_fails_a_second_and_no_longer() {
    // RFC 9520 §3.2. A resolver shows the reply that it has lost as SERVFAIL.
    let faults = [Fault::Rcode(ResponseCode::ServFail), Fault::Rcode(ResponseCode::Refused), Fault::Drop];
    let steps = [("test", "DS"), ("test", "DNSKEY"), ("sec.test", "DS")];
    let cases = steps.into_iter().flat_map(|step| faults.clone().map(|fault| (step, fault)));
    let run = |((place, rtype), fault): ((&'static str, &'static str), Fault)| async move {
        let tree = Tree::new().secure("sec.test").mx("sec.test", 10, "mx.sec.test").a("mx.sec.test", "192.0.2.1");
        let lab = tree.tlsa("mx.sec.test", 25, EE).fault(place, rtype, fault).start().await;
        let dns = remembering(&lab, Duration::from_secs(10));
        assert!(dns.tlsa(&name(OWNER)).await.is_err(), "{place} {rtype}");
        lab.clear_fault(place, rtype);
        assert!(dns.host(&name("mx.sec.test")).await.is_err(), "{place} {rtype}: others share the failure for now");
        tokio::time::sleep(Duration::from_millis(1100)).await;
        let found = dns.mx(&name("sec.test")).await.map(|found| found.security());
        assert_eq!(found, Ok(Secure), "{place} {rtype}");
        // The lookup itself has failed, and is kept as one.
        assert!(dns.tlsa(&name(OWNER)).await.is_err(), "{place} {rtype}");
    };
    futures_util::stream::iter(cases).map(run).buffered(3).collect::<()>().await;
}

#[tokio::test]
async fn a1_secure_insecure_and_bogus_are_told_apart() {
    // A1.
    let lab = tree().fault("_25._tcp.mx.hashed.test", "TLSA", Fault::BogusSignature).start().await;
    assert_eq!(tested(&lab.settings()).await, ServerState::Good);
    assert_eq!(tlsa_end(&lab, OWNER).await, Ok((Secure, "records")));
    assert_eq!(tlsa_end(&lab, "_25._tcp.mx.plain.test").await, Ok((Insecure, "records")));
    assert!(matches!(tlsa_end(&lab, "_25._tcp.mx.hashed.test").await, Err(FailureReason::Bogus(_))));
}

#[tokio::test]
async fn a17_every_question_asks_for_dnssec_and_for_what_fails_validation() {
    // A17.
    let lab = tree().start().await;
    for owner in [OWNER, "_25._tcp.mx.plain.test", "_25._tcp.nothing.hashed.test"] {
        tlsa(&lab, owner).await.unwrap();
    }
    assert!(lab.was_asked("sec.test", "DNSKEY") && lab.was_asked("plain.test", "DS"));
    assert_eq!(lab.careless(), [] as [&str; 0]);
}

#[tokio::test]
async fn the_records_come_out_whole() {
    let lab = tree().mx("sec.test", 0, ".").aaaa("mx.sec.test", "2001:db8::1").start().await;
    let mx = resolver(&lab).mx(&name("sec.test")).await.unwrap();
    let mut records = mx.answer.records().to_vec();
    records.sort_by_key(|mx| mx.preference);
    assert_eq!(records[0].target, MxTarget::Root);
    assert_eq!((records[1].preference, &records[1].target), (10, &MxTarget::Host(name("mx.sec.test"))));
    let addresses = host(&lab, "mx.sec.test").await.addresses;
    assert_eq!(addresses, ["192.0.2.1", "2001:db8::1"].map(|text| text.parse::<std::net::IpAddr>().unwrap()));
    let found = tlsa(&lab, OWNER).await.unwrap();
    let octets = &found.answer.records()[0].0;
    assert_eq!((&octets[..4], octets.len()), (&[3, 1, 1, 1][..], 35));
}

#[tokio::test]
async fn a5_insecure_is_insecure_for_whatever_reason() {
    // A5.
    let lab = tree()
        .insecure("corp")
        .island("island.test")
        .unknown_algorithm("future.test")
        .secure("nsec.test.")
        .insecure("sub.nsec.test")
        .tlsa("mx.corp", 25, EE)
        .tlsa("mx.island.test", 25, EE)
        .tlsa("mx.future.test", 25, EE)
        .tlsa("mx.sub.nsec.test", 25, EE)
        .start()
        .await;
    for host in ["mx.corp", "mx.island.test", "mx.future.test", "mx.sub.nsec.test", "mx.plain.test"] {
        assert_eq!(tlsa_end(&lab, &format!("_25._tcp.{host}")).await, Ok((Insecure, "records")), "{host}");
        assert_eq!(tlsa_end(&lab, &format!("_26._tcp.{host}")).await, Ok((Insecure, "no name")), "{host}");
    }
}

#[tokio::test]
async fn a6_denials_are_answers() {
    // A6.
    let lab = tree().a("_24._tcp.mx.sec.test", "192.0.2.9").a("_24._tcp.mx.hashed.test", "192.0.2.9").start().await;
    for (owner, expected) in [
        ("_24._tcp.mx.sec.test", (Secure, "no data")),
        ("_26._tcp.mx.sec.test", (Secure, "no name")),
        ("_25._tcp.nohost.sec.test", (Secure, "no name")),
        // An empty non-terminal.
        ("_tcp.mx.sec.test", (Secure, "no data")),
        ("_24._tcp.mx.hashed.test", (Secure, "no data")),
        ("_26._tcp.mx.hashed.test", (Secure, "no name")),
        ("_tcp.mx.hashed.test", (Secure, "no data")),
        ("mx.plain.test", (Insecure, "no data")),
        ("_26._tcp.mx.plain.test", (Insecure, "no name")),
        // RFC 5155 §9.2: in an opt-out span an unsigned delegation may exist.
        ("_25._tcp.nodomain.test", (Insecure, "no name")),
        // Names of special use (RFC 6761).
        ("localhost", (Secure, "no name")),
        ("mx.invalid", (Secure, "no name")),
    ] {
        assert_eq!(tlsa_end(&lab, owner).await, Ok(expected), "{owner}");
    }
    let mx = resolver(&lab).mx(&name("mx.sec.test")).await.unwrap();
    assert_eq!((mx.security(), mx.answer), (Secure, Answer::NoData));
}

#[tokio::test]
async fn wildcards_count_where_nothing_closer_exists() {
    let wild = |tree: Tree, zone: &str| {
        tree.tlsa(&format!("*.{zone}"), 25, EE)
            .record(&format!("*.{zone}"), "TLSA", EE)
            .mx(&format!("*.{zone}"), 5, "mx.sec.test")
            .cname(&format!("*.alias.{zone}"), &format!("a.{zone}"))
            .a(&format!("a.{zone}"), "192.0.2.7")
    };
    let lab = wild(wild(tree().secure("wild.test").nsec3("wild3.test", 3), "wild.test"), "wild3.test").start().await;
    for zone in ["wild.test", "wild3.test"] {
        assert_eq!(tlsa_end(&lab, &format!("_25._tcp.b.{zone}")).await, Ok((Secure, "records")));
        assert_eq!(tlsa_end(&lab, &format!("x.{zone}")).await, Ok((Secure, "records")));
        // `a` exists, so the wildcard makes nothing below it (RFC 4592 §3.3.1).
        assert_eq!(tlsa_end(&lab, &format!("_25._tcp.a.{zone}")).await, Ok((Secure, "no name")));
        assert_eq!(tlsa_end(&lab, &format!("y.alias.{zone}")).await, Ok((Secure, "no data")));
        let mx = resolver(&lab).mx(&name(&format!("x.{zone}"))).await.unwrap();
        assert_eq!((mx.security(), mx.answer.records().len()), (Secure, 1));
        // The wildcard exists and lacks the type.
        assert!(matches!(resolver(&lab).host(&name(&format!("x.{zone}"))).await, Ok(HostLookup::NoAddress(_))));
        let host = host(&lab, &format!("y.alias.{zone}")).await;
        assert_eq!((host.security(), host.aliases.len()), (Secure, 1));
    }
}

#[tokio::test]
async fn an_alias_leads_to_the_wildcard_itself() {
    // RFC 1034 §4.3.3: asked for by its own name, a wildcard answers like any other name.
    let wild = |tree: Tree, zone: &str| {
        tree.record(&format!("*.wild.{zone}"), "TLSA", EE)
            .a(&format!("*.bare.{zone}"), "192.0.2.7")
            .cname(&format!("_25._tcp.a.{zone}"), &format!("*.wild.{zone}"))
            .cname(&format!("_25._tcp.b.{zone}"), &format!("*.bare.{zone}"))
            .cname(&format!("_25._tcp.c.{zone}"), &format!("*.none.{zone}"))
            .cname(&format!("d.{zone}"), &format!("*.bare.{zone}"))
    };
    let lab = ["sec.test", "hashed.test", "plain.test"].into_iter().fold(tree(), wild).start().await;
    for (zone, security) in [("sec.test", Secure), ("hashed.test", Secure), ("plain.test", Insecure)] {
        for (host, end) in [("a", "records"), ("b", "no data"), ("c", "no name")] {
            assert_eq!(tlsa_end(&lab, &format!("_25._tcp.{host}.{zone}")).await, Ok((security, end)), "{host}.{zone}");
        }
        let found = tlsa(&lab, &format!("_25._tcp.a.{zone}")).await.unwrap();
        assert_eq!((found.security(), found.expanded().as_str()), (security, &*format!("*.wild.{zone}")));
        // A wildcard is no host.
        let failure = resolver(&lab).host(&name(&format!("d.{zone}"))).await.unwrap_err();
        assert!(matches!(failure.reason, FailureReason::Malformed(_)), "{failure:?}");
    }
}

#[tokio::test]
async fn a21_many_nsec3_iterations_stay_secure_or_fail() {
    // A21.
    let lab = tree().nsec3("many.test", 120).nsec3("more.test", 501).start().await;
    assert_eq!(tlsa_end(&lab, "_25._tcp.mx.many.test").await, Ok((Secure, "no name")));
    assert!(tlsa_end(&lab, "_25._tcp.mx.more.test").await.is_err());
}

#[tokio::test]
async fn servers_that_know_only_addresses_are_borne_with() {
    for fault in [Fault::Rcode(ResponseCode::ServFail), Fault::Rcode(ResponseCode::NotImp), Fault::Drop] {
        let lab = tree().fault("mx.plain.test", "NS", fault.clone()).fault("mx.plain.test", "DS", fault).start().await;
        assert_eq!(host(&lab, "mx.plain.test").await.security(), Insecure);
    }
}

#[tokio::test]
async fn a22_long_answers_come_over_tcp() {
    // A22.
    let many = (0..60).fold(tree(), |tree, i| tree.tlsa("many.sec.test", 25, &format!("{EE}{i:02x}")));
    let lab = many.fault(OWNER, "TLSA", Fault::TruncatedUdp).start().await;
    assert_eq!(tlsa(&lab, "_25._tcp.many.sec.test").await.unwrap().answer.records().len(), 60);
    assert_eq!(tlsa_end(&lab, OWNER).await, Ok((Secure, "records")));
    // RFC 2181 §9: the records of a truncated reply are not looked at.
    lab.set_fault(OWNER, "TLSA", Fault::CutUdp);
    assert_eq!(tlsa_end(&lab, OWNER).await, Ok((Secure, "records")));
}

// --- aliases ---------------------------------------------------------------------------------------------------------

/// `l1.sec.test` is an alias of `l2.sec.test` and so on; the last target has an address.
fn chain(length: usize) -> Tree {
    let link = |i: usize| format!("l{i}.sec.test");
    let tree = (1..=length).fold(tree(), |tree, i| tree.cname(&link(i), &link(i + 1)));
    tree.a(&link(length + 1), "192.0.2.4")
}

#[tokio::test]
async fn a13_sixteen_links_are_followed_and_no_more() {
    // A13.
    for length in [1, 8, 16] {
        let lab = chain(length).start().await;
        let host = host(&lab, "l1.sec.test").await;
        assert_eq!((host.aliases.len(), host.security()), (length, Secure));
        assert_eq!(host.expanded().as_str(), format!("l{}.sec.test", length + 1));
    }
    let lab = chain(17).start().await;
    let failure = resolver(&lab).host(&name("l1.sec.test")).await.unwrap_err();
    assert_eq!(failure.reason, FailureReason::TooManyAliases(16));
}

#[tokio::test]
async fn a13_loops_are_failures() {
    // A13, A-45.
    let lab = tree()
        .cname("self.sec.test", "self.sec.test")
        .cname("a.sec.test", "b.sec.test")
        .cname("b.sec.test", "c.sec.test")
        .cname("c.sec.test", "b.sec.test")
        .start()
        .await;
    for owner in ["self.sec.test", "a.sec.test"] {
        let failure = resolver(&lab).mx(&name(owner)).await.unwrap_err();
        assert_eq!(failure.reason, FailureReason::TooManyAliases(16), "{owner}");
    }
}

#[tokio::test]
async fn a14_a_chain_fails_as_a_whole() {
    // A14.
    for fault in [Fault::BogusSignature, Fault::Drop, Fault::Rcode(ResponseCode::ServFail), Fault::Stripped] {
        let lab = chain(3).fault("l4.sec.test", "A", fault.clone()).fault("l4.sec.test", "AAAA", fault).start().await;
        assert!(resolver(&lab).host(&name("l1.sec.test")).await.is_err());
    }
    // The zone that does not answer need not be a signed one.
    for fault in [Fault::Drop, Fault::Rcode(ResponseCode::ServFail)] {
        let tree = tree().cname("to.sec.test", "dead.plain.test").cname("_25._tcp.to.sec.test", "dead.plain.test");
        let tree = tree.cname("_mta-sts.sec.test", "dead.plain.test");
        let types = ["A", "AAAA", "TLSA", "TXT"];
        let lab = types.iter().fold(tree, |tree, rtype| tree.fault("dead.plain.test", rtype, fault.clone()));
        let lab = lab.start().await;
        let dns = resolver(&lab);
        assert!(dns.host(&name("to.sec.test")).await.is_err());
        assert!(dns.tlsa(&name("_25._tcp.to.sec.test")).await.is_err());
        assert!(dns.txt(&name("_mta-sts.sec.test")).await.is_err());
    }
}

#[tokio::test]
async fn a15_d5_d6_each_link_has_its_own_security() {
    // A-45.
    let lab = tree()
        .cname("in.sec.test", "out.plain.test")
        .cname("out.plain.test", "mx.sec.test")
        .cname("half.sec.test", "mx.plain.test")
        .cname("alias.plain.test", "mx.sec.test")
        .cname("whole.sec.test", "mx.hashed.test")
        .start()
        .await;
    // A15: secure, insecure, secure is insecure.
    let host_in = host(&lab, "in.sec.test").await;
    assert_eq!(links(&host_in.aliases), [("out.plain.test", Secure), ("mx.sec.test", Insecure)]);
    assert_eq!((host_in.end, host_in.security()), (Secure, Insecure));
    // A16, D5: the first alias is secure although the address is not.
    let half = host(&lab, "half.sec.test").await;
    assert_eq!((links(&half.aliases), half.end), (vec![("mx.plain.test", Secure)], Insecure));
    // D5: and here the first alias is not secure.
    let plain = host(&lab, "alias.plain.test").await;
    assert_eq!((links(&plain.aliases), plain.end), (vec![("mx.sec.test", Insecure)], Secure));
    // D6.
    let whole = host(&lab, "whole.sec.test").await;
    assert_eq!((whole.security(), whole.expanded().as_str()), (Secure, "mx.hashed.test"));
}

#[tokio::test]
async fn c2_mx_records_behind_an_alias() {
    // C2.
    let lab = tree().cname("www.hashed.test", "mail.hashed.test").cname("mail.hashed.test", "sec.test").start().await;
    let mx = resolver(&lab).mx(&name("www.hashed.test")).await.unwrap();
    assert_eq!((mx.security(), mx.expanded().as_str(), mx.answer.records().len()), (Secure, "sec.test", 1));
    assert_eq!(mx.asked, name("www.hashed.test"));
}

#[tokio::test]
async fn d10_d11_tlsa_records_behind_an_alias() {
    // D10, D11.
    let lab = tree()
        .cname("_25._tcp.a.sec.test", "_dane.hashed.test")
        .record("_dane.hashed.test", "TLSA", EE)
        .cname("_25._tcp.b.sec.test", "_25._tcp.mx.plain.test")
        .cname("_25._tcp.c.sec.test", "_25._tcp.nowhere.sec.test")
        .start()
        .await;
    assert_eq!(tlsa(&lab, "_25._tcp.a.sec.test").await.unwrap().security(), Secure);
    let insecure = tlsa(&lab, "_25._tcp.b.sec.test").await.unwrap();
    assert_eq!((insecure.security(), insecure.aliases[0].security), (Insecure, Secure));
    assert_eq!(tlsa_end(&lab, "_25._tcp.c.sec.test").await, Ok((Secure, "no name")));
}

#[tokio::test]
async fn a12_a_dname_makes_aliases() {
    // A12.
    let lab = tree()
        .dname("old.sec.test", "new.sec.test")
        .a("mx.new.sec.test", "192.0.2.5")
        .tlsa("mx.new.sec.test", 25, EE)
        .dname("old.plain.test", "new.sec.test")
        .start()
        .await;
    let moved = host(&lab, "mx.old.sec.test").await;
    assert_eq!((moved.security(), moved.expanded().as_str()), (Secure, "mx.new.sec.test"));
    assert_eq!(tlsa_end(&lab, "_25._tcp.mx.old.sec.test").await, Ok((Secure, "records")));
    let plain = host(&lab, "mx.old.plain.test").await;
    assert_eq!((links(&plain.aliases), plain.end), (vec![("mx.new.sec.test", Insecure)], Secure));
}

#[tokio::test]
async fn a12_the_unsigned_cname_beside_a_dname_is_not_followed() {
    // A12.
    let tamper = |reply: &mut Message| {
        reply.answers.retain(|record| record.name.num_labels() == 3 || record.record_type() == RecordType::CNAME);
    };
    let lab = tree()
        .dname("old.sec.test", "new.sec.test")
        .a("mx.new.sec.test", "192.0.2.5")
        .fault(
            "mx.old.sec.test",
            "A",
            Fault::All(vec![Fault::Tamper(tamper), Fault::Inject(vec![("mx.old.sec.test", "CNAME", "mx.plain.test")])]),
        )
        .start()
        .await;
    assert_eq!(host(&lab, "mx.old.sec.test").await.expanded().as_str(), "mx.new.sec.test");
}

// --- replies that are no answer --------------------------------------------------------------------------------------

#[tokio::test]
async fn a7_every_kind_of_failure_is_a_failure() {
    // A7.
    for code in [ResponseCode::ServFail, ResponseCode::Refused, ResponseCode::NotImp, ResponseCode::FormErr] {
        let lab = tree().fault(OWNER, "TLSA", Fault::Rcode(code)).start().await;
        assert!(matches!(tlsa_end(&lab, OWNER).await, Err(FailureReason::Refused(_))), "{code}");
    }
    for code in [ResponseCode::YXDomain, ResponseCode::Unknown(300), ResponseCode::BADVERS] {
        let lab = tree().fault(OWNER, "TLSA", Fault::Rcode(code)).start().await;
        assert!(tlsa_end(&lab, OWNER).await.is_err(), "{code}");
    }
    let lab = tree().fault(OWNER, "TLSA", Fault::Drop).start().await;
    assert_eq!(tlsa_end(&lab, OWNER).await, Err(FailureReason::Timeout));
    let failure = tlsa(&lab, OWNER).await.unwrap_err();
    assert_eq!((failure.name, failure.rtype), (name(OWNER), Rtype::TLSA));
}

/// Replies that an attacker between danelaw and the resolver may send instead of a signed TLSA record set.
fn forgeries() -> Vec<(&'static str, Fault)> {
    let (none, no_name) = (ResponseCode::NoError, ResponseCode::NXDomain);
    let other = ("_25._tcp.evil.test", "TLSA", EE);
    let forged = (OWNER, "TLSA", "3 1 1 ffff");
    vec![
        ("bogus signature", Fault::BogusSignature),
        ("stripped signatures", Fault::Stripped),
        ("empty", Fault::Empty),
        ("empty name error", Fault::All(vec![Fault::Empty, Fault::Relabelled(no_name)])),
        ("unsigned NODATA of the zone", Fault::Denial(none, "sec.test")),
        ("unsigned NXDOMAIN of the zone", Fault::Denial(no_name, "sec.test")),
        ("unsigned NODATA of the name", Fault::Denial(none, OWNER)),
        // S1: an unsigned denial has to be of an ancestor zone.
        ("NODATA of an unsigned zone", Fault::Denial(none, "plain.test")),
        ("NXDOMAIN of an unsigned zone", Fault::Denial(no_name, "plain.test")),
        ("NODATA of the root", Fault::Denial(none, ".")),
        ("signed denial of the parent", Fault::DeniedBy("test")),
        ("signed denial of the root", Fault::DeniedBy(".")),
        ("signed denial of a sibling", Fault::DeniedBy("hashed.test")),
        ("signed denial of another name", Fault::ReplyTo("_26._tcp.mx.sec.test", "TLSA")),
        ("signed denial of another type", Fault::ReplyTo(OWNER, "MX")),
        ("records of another name", Fault::ReplyTo("_25._tcp.mx.hashed.test", "TLSA")),
        ("records of another name, unsigned", Fault::Answer(vec![other])),
        ("records of another type", Fault::Answer(vec![(OWNER, "A", "192.0.2.66")])),
        ("forged record", Fault::Answer(vec![forged])),
        ("injected record", Fault::Inject(vec![forged])),
        ("forged alias", Fault::Answer(vec![(OWNER, "CNAME", "_25._tcp.mx.plain.test")])),
        ("records and a name error", Fault::Relabelled(no_name)),
        ("another question", Fault::WrongQuestion("_25._tcp.mx.hashed.test")),
        ("truncated", Fault::Truncated),
    ]
}

#[tokio::test]
async fn a7_a10_a23_forged_replies_are_failures() {
    // A7, A10, A23.
    // A-57.
    let lab = tree().start().await;
    for (what, fault) in forgeries() {
        lab.set_fault(OWNER, "TLSA", fault);
        assert!(tlsa_end(&lab, OWNER).await.is_err(), "{what}");
    }
}

#[tokio::test]
async fn a8_c4_forged_mx_replies_are_failures() {
    // A8, C4.
    let (none, no_name) = (ResponseCode::NoError, ResponseCode::NXDomain);
    for fault in [
        Fault::BogusSignature,
        Fault::Stripped,
        Fault::Empty,
        Fault::Denial(none, "sec.test"),
        Fault::Denial(no_name, "plain.test"),
        Fault::DeniedBy("test"),
        Fault::Answer(vec![("sec.test", "MX", "10 evil.test.")]),
        Fault::Inject(vec![("sec.test", "MX", "5 evil.test.")]),
        Fault::Answer(vec![("sec.test", "CNAME", "plain.test")]),
        Fault::Drop,
    ] {
        let lab = tree().fault("sec.test", "MX", fault).start().await;
        assert!(resolver(&lab).mx(&name("sec.test")).await.is_err());
    }
}

#[tokio::test]
async fn s2_an_alias_without_records_at_its_end_is_not_none() {
    let owner = "_25._tcp.alias.sec.test";
    let forged = vec![("_25._tcp.mx.sec.test", "TLSA", "3 1 1 ffff")];
    let alias = tree().cname(owner, OWNER).fault(owner, "TLSA", Fault::FirstLinkPlus(forged));
    // The target is asked afresh, so the genuine records are found ...
    let lab = alias.start().await;
    let found = tlsa(&lab, owner).await.unwrap();
    assert_eq!((found.security(), found.answer.records()[0].0[3]), (Secure, 0x01));
    // ... or the lookup fails.
    lab.set_fault(OWNER, "TLSA", Fault::Answer(vec![(owner, "CNAME", OWNER)]));
    assert!(tlsa_end(&lab, owner).await.is_err());
}

#[tokio::test]
async fn a41_an_unsigned_delegation_must_be_proven_at_its_own_name() {
    // A-41.
    let none = ResponseCode::NoError;
    let lab = tree().start().await;
    for cut in ["sec.test", "_tcp.mx.sec.test", OWNER] {
        // The reply is unsigned, and the questions that it leads to say that the zone is.
        lab.set_fault(cut, "NS", Fault::Answer(vec![(cut, "NS", "ns.evil.test")]));
        for (what, denial) in [
            ("an unsigned denial", Fault::Denial(none, "test")),
            ("a denial of an unsigned zone", Fault::Denial(none, "plain.test")),
            ("nothing", Fault::Empty),
            // RFC 5155 §8.9: opt-out records cover delegations right below the closest encloser, and no deeper name.
            ("an opt-out record of the parent", Fault::DeniedBy("test")),
            ("the denial of an unsigned sibling", Fault::ReplyTo("plain.test", "DS")),
            ("the denial of a name that does not exist", Fault::ReplyTo("nothing.test", "DS")),
            ("a record of the zone itself", Fault::DeniedBy("sec.test")),
        ] {
            lab.set_fault(cut, "DS", denial);
            for unsigned in [Fault::Denial(none, OWNER), Fault::Stripped] {
                lab.set_fault(OWNER, "TLSA", unsigned);
                assert!(tlsa_end(&lab, OWNER).await.is_err(), "{what} at {cut}");
            }
        }
        lab.clear_fault(cut, "NS");
        lab.clear_fault(cut, "DS");
    }
}

#[tokio::test]
async fn a41_an_unsigned_address_in_a_signed_zone_is_a_failure() {
    // A-41.
    for cut in ["sec.test", "mx.sec.test"] {
        let lab = tree()
            .fault(cut, "NS", Fault::Answer(vec![(cut, "NS", "ns.evil.test")]))
            .fault(cut, "DS", Fault::DeniedBy("test"))
            .fault("mx.sec.test", "A", Fault::Answer(vec![("mx.sec.test", "A", "192.0.2.66")]))
            .fault("mx.sec.test", "AAAA", Fault::Denial(ResponseCode::NoError, "mx.sec.test"))
            .start()
            .await;
        assert!(resolver(&lab).host(&name("mx.sec.test")).await.is_err(), "{cut}");
    }
}

#[tokio::test]
async fn wildcard_records_are_not_denied_by_a_gap_alone() {
    // RFC 4035 §5.4: the gap after `a` covers the name; it does not prove that `*.wild.test` does not exist.
    let gap = |reply: &mut Message| {
        reply.authorities.retain(|record| record.name.to_string() == "a.wild.test.");
    };
    let owner = "_25._tcp.mx.wild.test";
    let lab = tree()
        .secure("wild.test")
        .record("*.wild.test", "TLSA", EE)
        .a("a.wild.test", "192.0.2.7")
        .fault(
            owner,
            "TLSA",
            Fault::All(vec![
                Fault::DeniedBy("wild.test"),
                Fault::Relabelled(ResponseCode::NXDomain),
                Fault::Tamper(gap),
            ]),
        )
        .start()
        .await;
    assert!(tlsa_end(&lab, owner).await.is_err());
}

#[tokio::test]
async fn wildcard_records_do_not_replace_closer_ones() {
    let rename = |reply: &mut Message| {
        let asked = reply.queries[0].name().clone();
        reply.answers.iter_mut().for_each(|record| record.name = asked.clone());
    };
    let owner = "_25._tcp.mx.wild.test";
    for zone in [Tree::new().secure("wild.test"), Tree::new().nsec3("wild.test", 1)] {
        let lab = zone
            .insecure("plain.test")
            .record("*.wild.test", "TLSA", "3 1 1 ffff")
            .tlsa("mx.wild.test", 25, EE)
            .start()
            .await;
        let replay = || vec![Fault::ReplyTo("x.wild.test", "TLSA"), Fault::Tamper(rename)];
        for more in [vec![], vec![Fault::AuthorityOnly("plain.test")], vec![Fault::Stripped]] {
            lab.set_fault(owner, "TLSA", Fault::All([replay(), more].concat()));
            assert!(tlsa_end(&lab, owner).await.is_err());
        }
        lab.clear_fault(owner, "TLSA");
        assert_eq!(tlsa_end(&lab, owner).await, Ok((Secure, "records")));
    }
}

#[tokio::test]
async fn a_denial_is_of_the_kind_that_is_proven() {
    let (none, no_name) = (ResponseCode::NoError, ResponseCode::NXDomain);
    let lab = tree().fault("_26._tcp.mx.sec.test", "TLSA", Fault::Relabelled(none)).start().await;
    // dnsmasq does so: a name that is proven not to exist has no record of the type either.
    assert_eq!(tlsa_end(&lab, "_26._tcp.mx.sec.test").await, Ok((Secure, "no data")));
    lab.set_fault("mx.sec.test", "TLSA", Fault::Relabelled(no_name));
    // Unbound takes it so, too.
    assert_eq!(tlsa_end(&lab, "mx.sec.test").await, Ok((Secure, "no data")));
}

#[tokio::test]
async fn a4_keys_and_delegations_that_do_not_come_are_failures() {
    // A4.
    for (owner, rtype) in
        [("sec.test", "DNSKEY"), ("sec.test", "DS"), ("test", "DNSKEY"), ("test", "DS"), (".", "DNSKEY")]
    {
        for fault in [Fault::Drop, Fault::Rcode(ResponseCode::ServFail), Fault::BogusSignature, Fault::Stripped] {
            let lab = tree().fault(owner, rtype, fault).start().await;
            let found = tlsa_end(&lab, OWNER).await;
            assert!(found.is_err(), "{owner} {rtype}: {found:?}");
        }
    }
    for fault in [Fault::Drop, Fault::Rcode(ResponseCode::ServFail)] {
        let lab = tree().fault("plain.test", "DS", fault).start().await;
        assert!(tlsa_end(&lab, "_25._tcp.mx.plain.test").await.is_err());
    }
}

#[tokio::test]
async fn a5_below_an_island_all_is_insecure() {
    // A5, A-42.
    // RFC 4035 §4.3: the DS record of a zone counts if its parent is signed, all the way up.
    let lab = tree().island("island.test").secure("sub.island.test").tlsa("mx.sub.island.test", 25, EE).start().await;
    assert_eq!(tlsa_end(&lab, "_25._tcp.mx.sub.island.test").await, Ok((Insecure, "records")));
    assert_eq!(tlsa_end(&lab, "_25._tcp.mx.island.test").await.map(|(end, _)| end), Ok(Insecure));
}

fn unread(rtype: RecordType, rdata: Vec<u8>) -> RData {
    RData::Unknown { code: rtype, rdata: NULL::with(rdata) }
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_worth_nothing_and_spoils_no_other() {
    // E1: the octets come out as they are, under their signature.
    let lab = tree().rdata(OWNER, unread(RecordType::TLSA, vec![3, 1])).start().await;
    let found = tlsa(&lab, OWNER).await.unwrap();
    let mut lengths: Vec<usize> = found.answer.records().iter().map(|tlsa| tlsa.0.len()).collect();
    lengths.sort_unstable();
    assert_eq!((found.end, lengths), (Secure, vec![2, 35]));
    let alone = tree().rdata("_25._tcp.a.sec.test", unread(RecordType::TLSA, vec![3, 1])).start().await;
    let found = tlsa(&alone, "_25._tcp.a.sec.test").await.unwrap();
    assert_eq!((found.end, found.answer), (Secure, Answer::Records(vec![RawTlsa(vec![3, 1])])));
    // RFC 4034 §2.1.2: a key of another protocol is none.
    let key = unread(RecordType::DNSKEY, vec![1, 1, 2, 13, 1, 2, 3, 4]);
    let lab = tree().rdata("sec.test", key).start().await;
    assert_eq!(tlsa_end(&lab, OWNER).await, Ok((Secure, "records")));
}

#[tokio::test]
async fn records_that_decide_nothing_are_not_read() {
    fn beside(reply: &mut Message) {
        let owner = hickory_resolver::proto::rr::Name::from_ascii("srv.test.").unwrap();
        let of = |rdata| Record::from_rdata(owner.clone(), 300, rdata);
        reply.additionals.push(of(unread(RecordType::SRV, vec![0])));
        reply.authorities.push(of(unread(RecordType::NSEC3, vec![200, 0, 0, 1, 0, 1, 7])));
        // Alone it would be the answer to another question.
        if !reply.answers.is_empty() {
            reply.answers.push(of(unread(RecordType::SRV, vec![0])));
        }
    }
    let every = ["TLSA", "DS", "DNSKEY"];
    let lab = every.iter().fold(tree(), |tree, rtype| tree.every(rtype, Fault::Tamper(beside))).start().await;
    assert_eq!(tlsa_end(&lab, OWNER).await, Ok((Secure, "records")));
    // RFC 5155 §8.1.
    assert_eq!(tlsa_end(&lab, "_25._tcp.nothing.hashed.test").await, Ok((Secure, "no name")));
}

/// A-49: some servers and as many addresses of each, in a reply of 64 kB.
#[tokio::test]
async fn a49_a_reply_full_of_glue_is_walked_over() {
    fn glue(reply: &mut Message) {
        for i in 0..700_u16 {
            let server = hickory_resolver::proto::rr::Name::from_ascii(format!("n{i}.sec.test.")).unwrap();
            let zone = hickory_resolver::proto::rr::Name::from_ascii("sec.test.").unwrap();
            reply.authorities.push(Record::from_rdata(zone, 300, RData::NS(NS(server.clone()))));
            let [high, low] = i.to_be_bytes();
            reply.additionals.push(Record::from_rdata(server, 300, RData::A(A::new(192, 0, high, low))));
        }
    }
    let lab = tree().fault(OWNER, "TLSA", Fault::Tamper(glue)).start().await;
    let begin = Instant::now();
    let patient = ResolverSettings { timeout: Duration::from_secs(4), ..lab.settings() };
    let found = Stub::new(&patient).unwrap().tlsa(&name(OWNER)).await.unwrap();
    assert_eq!(found.security(), Secure);
    // The most of it is the lab's.
    assert!(begin.elapsed() < Duration::from_secs(4));
}

#[tokio::test]
async fn a_server_that_refuses_cd_is_asked_without_it() {
    // RFC 6840 §5.9.
    let lab = tree().every("TLSA", Fault::RefusesCd).every("DS", Fault::RefusesCd).start().await;
    assert_eq!(tlsa_end(&lab, OWNER).await, Ok((Secure, "records")));
    let asked = lab.asked().iter().filter(|asked| asked.starts_with(OWNER)).count();
    assert_eq!(asked, 2);
}

/// RFC 2181 §5: a record that comes twice is one record, also where only one is allowed.
#[tokio::test]
async fn records_that_come_twice_are_one() {
    fn double(reply: &mut Message) {
        let (answers, authorities) = (reply.answers.clone(), reply.authorities.clone());
        reply.answers.extend(answers);
        reply.authorities.extend(authorities);
    }
    let many = (0..60).fold(tree(), |tree, i| tree.tlsa("many.sec.test", 25, &format!("{EE}{i:02x}")));
    let every = ["TLSA", "A", "AAAA", "CNAME", "MX", "DS", "DNSKEY"];
    let tree = every.iter().fold(many, |tree, rtype| tree.every(rtype, Fault::Tamper(double)));
    let lab = tree.cname("alias.sec.test", "mx.sec.test").cname("alias.plain.test", "mx.sec.test").start().await;
    let dns = resolver(&lab);
    let addresses = |host: danelaw::dns::HostLookup| match host {
        HostLookup::Found(host) => (host.addresses.len(), host.end),
        HostLookup::NoAddress(_) | HostLookup::NotInFamily(_) => (0, Secure),
    };
    let once = dns.host(&name("mx.sec.test")).await.unwrap();
    assert_eq!(addresses(once.clone()).1, Secure);
    for alias in ["alias.sec.test", "alias.plain.test"] {
        assert_eq!(addresses(dns.host(&name(alias)).await.unwrap()), addresses(once.clone()), "{alias}");
    }
    // 120 records on the wire, and a limit of 100.
    assert_eq!(dns.tlsa(&name("_25._tcp.many.sec.test")).await.unwrap().answer.records().len(), 60);
    let found = dns.tlsa(&name("_25._tcp.mx.sec.test")).await.unwrap();
    assert_eq!((found.security(), found.answer.records().len()), (Secure, 1));
    assert_eq!(dns.tlsa(&name("_25._tcp.no.sec.test")).await.unwrap().end, Secure);
}

#[tokio::test]
async fn a49_more_records_than_the_cap_are_a_failure() {
    // A-49.
    let many = (0..101).fold(tree(), |tree, i| tree.tlsa("many.sec.test", 25, &format!("{EE}{i:02x}")));
    let many = (0..101).fold(many, |tree, i| tree.a("many.sec.test", &format!("192.0.2.{i}")));
    let lab = (0..201).fold(many, |tree, i| tree.mx("many.sec.test", i, "mx.sec.test")).start().await;
    let dns = resolver(&lab);
    assert_eq!(tlsa_end(&lab, "_25._tcp.many.sec.test").await, Err(FailureReason::TooManyRecords(100)));
    let mx = dns.mx(&name("many.sec.test")).await.unwrap_err();
    assert_eq!(mx.reason, FailureReason::TooManyRecords(200));
    let addresses = dns.host(&name("many.sec.test")).await.unwrap_err();
    assert_eq!((addresses.reason, addresses.rtype), (FailureReason::TooManyRecords(100), Rtype::A));
}

#[tokio::test]
async fn c12_one_address_family_may_fail_if_the_other_has_addresses() {
    // C12.
    let lab = tree().fault("mx.sec.test", "AAAA", Fault::Rcode(ResponseCode::ServFail)).start().await;
    assert_eq!(host(&lab, "mx.sec.test").await.security(), Secure);
    // The other family is absent, which alone is no answer about this host.
    lab.clear_fault("mx.sec.test", "AAAA");
    lab.set_fault("mx.sec.test", "A", Fault::Rcode(ResponseCode::ServFail));
    assert_eq!(resolver(&lab).host(&name("mx.sec.test")).await.unwrap_err().rtype, Rtype::A);
    // Both absent is an answer.
    assert_eq!(resolver(&lab).host(&name("sec.test")).await, Ok(HostLookup::NoAddress(Finality::Final)));
    assert_eq!(resolver(&lab).host(&name("nothing.plain.test")).await, Ok(HostLookup::NoAddress(Finality::Final)));
}

#[tokio::test]
async fn odd_octets_in_names_stay_in_the_dns() {
    // A-53: an MX target that would be a command, and one that is an address.
    let lab = tree()
        .mx("odd.sec.test", 10, "a\\013\\010rcpt.sec.test")
        .mx("odd.sec.test", 20, "192.0.2.1")
        .cname("alias.sec.test", "a\\013\\010rcpt.sec.test")
        .start()
        .await;
    let mx = resolver(&lab).mx(&name("odd.sec.test")).await.unwrap();
    let mut targets: Vec<_> = mx.answer.records().iter().map(|mx| format!("{:?}", mx.target)).collect();
    targets.sort();
    assert_eq!(targets, [r#"Invalid("192.0.2.1")"#, r#"Invalid("a\\013\\010rcpt.sec.test")"#]);
    assert!(matches!(
        resolver(&lab).mx(&name("alias.sec.test")).await.unwrap_err().reason,
        FailureReason::Malformed(_)
    ));
}

// --- time and setup --------------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_lookup_ends_at_its_deadline() {
    // A-42.
    let lab = tree().fault(OWNER, "TLSA", Fault::Drop).start().await;
    let patient =
        ResolverSettings { timeout: Duration::from_secs(30), deadline: Duration::from_millis(300), ..lab.settings() };
    let begin = Instant::now();
    let failure = Stub::new(&patient).unwrap().tlsa(&name(OWNER)).await.unwrap_err();
    assert_eq!(failure.reason, FailureReason::Timeout);
    assert!(begin.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn a19_a_healed_zone_is_seen_at_once() {
    // A19.
    let lab = tree().fault(OWNER, "TLSA", Fault::BogusSignature).start().await;
    let dns = resolver(&lab);
    assert!(dns.tlsa(&name(OWNER)).await.is_err());
    lab.clear_fault(OWNER, "TLSA");
    assert_eq!(dns.tlsa(&name(OWNER)).await.unwrap().security(), Secure);
}

#[tokio::test]
async fn a19_a_failure_on_the_way_to_a_zone_is_not_remembered_for_as_long_as_its_records() {
    // A19.
    // RFC 9520 §3.2: a server that was silent for a moment, or one forged reply, must not cost a zone its mail for an hour.
    for fault in [Fault::Drop, Fault::Rcode(ResponseCode::ServFail), Fault::BogusSignature, Fault::Stripped] {
        for (owner, rtype) in [("sec.test", "DS"), ("sec.test", "DNSKEY"), ("test", "DS"), ("test", "DNSKEY")] {
            let lab = tree().fault(owner, rtype, fault.clone()).start().await;
            let dns = resolver(&lab);
            assert!(dns.tlsa(&name(OWNER)).await.is_err());
            lab.clear_fault(owner, rtype);
            let found = dns.tlsa(&name(OWNER)).await;
            assert_eq!(found.map(|found| found.security()), Ok(Secure), "{owner} {rtype}");
        }
    }
}

/// Passes questions on to one server, then to the other.
async fn switched(first: SocketAddr, second: SocketAddr) -> (SocketAddr, Arc<AtomicBool>) {
    let (switch, socket) = (Arc::new(AtomicBool::new(false)), UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let (address, switched) = (socket.local_addr().unwrap(), Arc::clone(&switch));
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        loop {
            let (length, peer) = socket.recv_from(&mut buffer).await.unwrap();
            let server = if switched.load(Ordering::SeqCst) { second } else { first };
            let onwards = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            onwards.send_to(&buffer[..length], server).await.unwrap();
            let length = onwards.recv(&mut buffer).await.unwrap();
            socket.send_to(&buffer[..length], peer).await.unwrap();
        }
    });
    (address, switch)
}

#[tokio::test]
async fn a19_keys_that_were_changed_in_haste_are_seen_after_half_a_minute() {
    // A19.
    let (before, after) = (tree().start().await, tree().start().await);
    let (address, switch) = switched(before.addr, after.addr).await;
    let mut anchors = tempfile::NamedTempFile::new().unwrap();
    for lab in [&before, &after] {
        anchors.write_all(&std::fs::read(&lab.anchor_file).unwrap()).unwrap();
    }
    let trust_anchor = Some(anchors.path().to_owned());
    let dns =
        Stub::new(&ResolverSettings { servers: vec![address.into()], trust_anchor, ..before.settings() }).unwrap();
    let owner = name(OWNER);
    assert_eq!(dns.tlsa(&owner).await.unwrap().security(), Secure);
    // Every zone has other keys now, the root among them, and the proven ones would stay valid for minutes yet.
    switch.store(true, Ordering::SeqCst);
    assert!(dns.tlsa(&owner).await.is_err());
    assert!(!after.was_asked("sec.test", "DNSKEY"));
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(31)).await;
    tokio::time::resume();
    assert_eq!(dns.tlsa(&owner).await.unwrap().security(), Secure);
}

#[tokio::test]
async fn keys_are_asked_for_once() {
    let lab = tree().start().await;
    let dns = resolver(&lab);
    for owner in [OWNER, "_26._tcp.mx.sec.test", "_25._tcp.other.sec.test"] {
        dns.tlsa(&name(owner)).await.unwrap();
    }
    // A5: the same holds for unsigned zones.
    for owner in ["mx.plain.test", "nothing.plain.test", "deep.er.plain.test"] {
        dns.host(&name(owner)).await.unwrap();
    }
    let asked = lab.asked();
    for key in [". DNSKEY", "test DS", "test DNSKEY", "sec.test DS", "sec.test DNSKEY", "plain.test DS"] {
        let key = key.trim_start_matches('.');
        assert_eq!(asked.iter().filter(|asked| *asked == key).count(), 1, "{key:?} of {asked:?}");
    }
}

#[tokio::test]
async fn a18_lookups_are_remembered_if_the_ttl_allows() {
    // A18.
    let asked_again = |tree: Tree, owner: &'static str| async move {
        let lab = tree.start().await;
        let dns = remembering(&lab, Duration::from_secs(10));
        let first = dns.tlsa(&name(owner)).await;
        let asked = lab.asked().len();
        assert_eq!(dns.tlsa(&name(owner)).await, first);
        lab.asked().len() > asked
    };
    let missing = "_26._tcp.mx.plain.test";
    for owner in [OWNER, missing] {
        assert!(!asked_again(tree(), owner).await, "{owner}");
        assert!(asked_again(tree().ttl(0), owner).await, "{owner}");
    }
    // A failure is remembered as a failure.
    assert!(!asked_again(tree().fault(OWNER, "TLSA", Fault::Stripped), OWNER).await);
}

#[tokio::test]
async fn no_server_answers() {
    let lab = tree().start().await;
    let mut settings = lab.settings();
    let unused = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let (dead, begin) = (NameServer::from(unused), Instant::now());
    settings.timeout = Duration::from_secs(60);
    settings.servers = vec![dead.clone()];
    let failure = Stub::new(&settings).unwrap().tlsa(&name(OWNER)).await.unwrap_err();
    assert!(matches!(failure.reason, FailureReason::Network(_)), "{failure}");
    // One of two: the other is asked at once.
    settings.servers = vec![dead, lab.addr.into()];
    assert_eq!(Stub::new(&settings).unwrap().tlsa(&name(OWNER)).await.unwrap().security(), Secure);
    assert!(begin.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_setup_that_will_not_do_says_why() {
    let lab = tree().start().await;
    let with = |anchors: &str| {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(anchors.as_bytes()).unwrap();
        Stub::new(&ResolverSettings { trust_anchor: Some(file.path().to_owned()), ..lab.settings() }).err()
    };
    let anchor = std::fs::read_to_string(&lab.anchor_file).unwrap();
    assert!(with(&anchor).is_none());
    assert!(matches!(with(""), Some(ResolverSetupError::NoAnchors(_))));
    assert!(matches!(with("; nothing\n"), Some(ResolverSetupError::NoAnchors(_))));
    assert!(matches!(with(&anchor.replace(". 3600", "test. 3600")), Some(ResolverSetupError::NoAnchors(_))));
    // RFC 5011 §2.1: a revoked key is no anchor, and a key without the zone flag never was.
    assert!(matches!(with(&anchor.replace(" 257 ", " 385 ")), Some(ResolverSetupError::NoAnchors(_))));
    assert!(matches!(with(&anchor.replace(" 257 ", " 1 ")), Some(ResolverSetupError::NoAnchors(_))));
    assert!(with(". IN DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D\n").is_none());
    let fault = with("\nwhat is this\n").unwrap();
    assert!(
        matches!(fault, ResolverSetupError::BadAnchors { .. }) && fault.to_string().contains("line 2: "),
        "{fault}"
    );
    let missing = ResolverSettings { trust_anchor: Some(PathBuf::from("/nonexistent/root.key")), ..lab.settings() };
    assert!(matches!(Stub::new(&missing), Err(ResolverSetupError::Unreadable { .. })));
    let nobody = ResolverSettings { servers: vec![], system: PathBuf::from("/dev/null"), ..lab.settings() };
    assert!(matches!(Stub::new(&nobody), Err(ResolverSetupError::NoServers(_))));
}
