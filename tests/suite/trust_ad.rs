//! The DNS port with trust in another resolver's AD bit: alias link by alias link, for records and for denials.
//!
//! The lab's server takes the role of the validating resolver. Row ids are those of the requirements.

use std::time::Duration;

use crate::lab::dns::{DnsLab, Fault, Tree};
use danelaw::dns::selftest::{SelfTestFailure, ServerState};
use danelaw::dns::server::{NameServer, ResolverMode};
use danelaw::dns::setup::{MemoryLimits, ResolverSettings, ResolverSetupError};
use danelaw::dns::stub::Stub;
use danelaw::dns::{Alias, Answer, FailureReason, HostLookup, Lookup, RawTlsa, Resolver, Security};
use danelaw::name::Name;
use hickory_resolver::proto::dnssec::rdata::{DNSSECRData, RRSIG};
use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::{RData, SerialNumber};

use Security::{Insecure, Secure};

const EE: &str = "3 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const OWNER: &str = "_25._tcp.mx.sec.test";

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn settings(lab: &DnsLab) -> ResolverSettings {
    ResolverSettings { mode: ResolverMode::TrustAd, ..lab.settings() }
}

/// A resolver whose server has passed the self-test.
async fn resolver(lab: &DnsLab) -> Stub {
    let stub = Stub::new(&settings(lab)).unwrap();
    stub.self_test().await;
    assert!(stub.health().borrow().all_good(), "{:?}", stub.health().borrow());
    stub
}

async fn tlsa(lab: &DnsLab, owner: &str) -> Result<Lookup<RawTlsa>, FailureReason> {
    resolver(lab).await.tlsa(&name(owner)).await.map_err(|failure| failure.reason)
}

async fn end(lab: &DnsLab, owner: &str) -> Result<(Security, &'static str), FailureReason> {
    let found = tlsa(lab, owner).await?;
    let kind = match found.answer {
        Answer::Records(_) => "records",
        Answer::NoData => "no data",
        Answer::NxDomain => "no name",
    };
    Ok((found.end, kind))
}

fn tree() -> Tree {
    Tree::new()
        .vouches()
        .secure("sec.test")
        .insecure("plain.test")
        .a("mx.sec.test", "192.0.2.1")
        .tlsa("mx.sec.test", 25, EE)
        .a("mx.plain.test", "192.0.2.3")
        .tlsa("mx.plain.test", 25, EE)
}

#[tokio::test]
async fn a1_a6_the_bit_counts_for_records_and_denials() {
    // A1, A6.
    let lab = tree().island("island.test").tlsa("mx.island.test", 25, EE).start().await;
    for (owner, expected) in [
        (OWNER, (Secure, "records")),
        ("_25._tcp.mx.plain.test", (Insecure, "records")),
        ("_25._tcp.mx.island.test", (Insecure, "records")),
        ("mx.sec.test", (Secure, "no data")),
        ("_26._tcp.mx.sec.test", (Secure, "no name")),
        ("mx.plain.test", (Insecure, "no data")),
        ("_26._tcp.mx.plain.test", (Insecure, "no name")),
    ] {
        assert_eq!(end(&lab, owner).await, Ok(expected), "{owner}");
    }
}

#[tokio::test]
async fn a15_a16_each_link_has_a_bit_of_its_own() {
    // A15.
    let lab = tree()
        .cname("half.sec.test", "mx.plain.test")
        .cname("whole.sec.test", "mx.sec.test")
        .cname("alias.plain.test", "mx.sec.test")
        .cname("in.sec.test", "out.plain.test")
        .cname("out.plain.test", "mx.sec.test")
        .dname("old.sec.test", "plain.test")
        .dname("new.plain.test", "sec.test")
        .start()
        .await;
    let dns = resolver(&lab).await;
    for (host, links, last) in [
        ("half.sec.test", vec![("mx.plain.test", Secure)], Insecure),
        ("whole.sec.test", vec![("mx.sec.test", Secure)], Secure),
        ("alias.plain.test", vec![("mx.sec.test", Insecure)], Secure),
        ("in.sec.test", vec![("out.plain.test", Secure), ("mx.sec.test", Insecure)], Secure),
        // A12.
        ("mx.old.sec.test", vec![("mx.plain.test", Secure)], Insecure),
        ("mx.new.plain.test", vec![("mx.sec.test", Insecure)], Secure),
    ] {
        let HostLookup::Found(found) = dns.host(&name(host)).await.unwrap() else { panic!("{host} has an address") };
        let link = |alias: &Alias| (alias.target.clone(), alias.security);
        let expected: Vec<_> = links.into_iter().map(|(target, security)| (name(target), security)).collect();
        assert_eq!((found.aliases.iter().map(link).collect::<Vec<_>>(), found.end), (expected, last), "{host}");
    }
    // A16: the bit was clear, so the first alias was asked for by itself; where it is set there is no need.
    assert!(lab.was_asked("half.sec.test", "CNAME") && !lab.was_asked("whole.sec.test", "CNAME"));
    // The CNAME that a DNAME makes is no record of its own: unbound 1.17 answers SERVFAIL to a question for it.
    for (dname, alias) in [("old.sec.test", "mx.old.sec.test"), ("new.plain.test", "mx.new.plain.test")] {
        assert!(lab.was_asked(dname, "DNAME") && !lab.was_asked(alias, "CNAME"), "{alias}");
    }
}

#[tokio::test]
async fn an_alias_leads_to_the_wildcard_itself() {
    // RFC 1034 §4.3.3.
    let wild = |tree: Tree, zone: &str| {
        tree.record(&format!("*.wild.{zone}"), "TLSA", EE)
            .cname(&format!("_25._tcp.a.{zone}"), &format!("*.wild.{zone}"))
            .cname(&format!("d.{zone}"), &format!("*.wild.{zone}"))
    };
    let lab = ["sec.test", "plain.test"].into_iter().fold(tree(), wild).start().await;
    assert_eq!(end(&lab, "_25._tcp.a.sec.test").await, Ok((Secure, "records")));
    assert_eq!(end(&lab, "_25._tcp.a.plain.test").await, Ok((Insecure, "records")));
    // A wildcard is no host.
    let failure = resolver(&lab).await.host(&name("d.sec.test")).await.unwrap_err();
    assert!(matches!(failure.reason, FailureReason::Malformed(_)), "{failure:?}");
}

#[tokio::test]
async fn an_alias_that_is_asked_for_is_an_answer() {
    let lab = tree()
        .cname("half.sec.test", "mx.plain.test")
        .cname("alias.plain.test", "mx.sec.test")
        .dname("old.sec.test", "plain.test")
        .start()
        .await;
    let dns = [resolver(&lab).await, Stub::new(&lab.settings()).unwrap()];
    for (owner, target, security) in [
        ("half.sec.test", "mx.plain.test.", Secure),
        ("alias.plain.test", "mx.sec.test.", Insecure),
        ("mx.old.sec.test", "mx.plain.test.", Secure),
    ] {
        // Both modes say the same.
        for dns in &dns {
            let found = dns.lookup(&name(owner), "CNAME".parse().unwrap()).await.unwrap();
            assert_eq!((&*found.aliases, found.end), (&[][..], security), "{owner}");
            assert_eq!(found.answer, Answer::Records(vec![target.to_owned()]), "{owner}");
        }
    }
}

#[tokio::test]
async fn a13_chains_have_an_end() {
    // A13, A-45.
    let link = |i: usize| format!("l{i}.sec.test");
    let chain = |length: usize| (1..=length).fold(tree(), |tree, i| tree.cname(&link(i), &link(i + 1)));
    let lab = chain(16).tlsa("x.sec.test", 25, EE).start().await;
    assert_eq!(end(&lab, "l1.sec.test").await, Ok((Secure, "no name")));
    let lab = chain(17).start().await;
    assert_eq!(end(&lab, "l1.sec.test").await, Err(FailureReason::TooManyAliases(16)));
    let lab = tree().cname("a.sec.test", "b.sec.test").cname("b.sec.test", "a.sec.test").start().await;
    assert_eq!(end(&lab, "a.sec.test").await, Err(FailureReason::TooManyAliases(16)));
}

#[tokio::test]
async fn a7_a14_every_kind_of_failure_is_a_failure() {
    // A7.
    let none = ResponseCode::NoError;
    let clear_ra = |reply: &mut Message| reply.metadata.recursion_available = false;
    let set_cd = |reply: &mut Message| reply.metadata.checking_disabled = true;
    let wrong_id = |reply: &mut Message| reply.metadata.id ^= 1;
    let a_query = |reply: &mut Message| {
        let mut query = Message::query();
        query.queries = reply.queries.clone();
        query.metadata.id = reply.metadata.id;
        *reply = query;
    };
    for (what, fault) in [
        // RFC 4035 §5.5: this is how a validating resolver says bogus.
        ("SERVFAIL", Fault::Rcode(ResponseCode::ServFail)),
        ("REFUSED", Fault::Rcode(ResponseCode::Refused)),
        ("NOTIMP", Fault::Rcode(ResponseCode::NotImp)),
        ("FORMERR", Fault::Rcode(ResponseCode::FormErr)),
        ("silence", Fault::Drop),
        // A22.
        ("truncation without TCP", Fault::Truncated),
        // A23.
        ("another question", Fault::WrongQuestion("_25._tcp.mx.plain.test")),
        ("another ID", Fault::Tamper(wrong_id)),
        ("a query", Fault::Tamper(a_query)),
        //
        ("records of another name", Fault::ReplyTo("_25._tcp.mx.plain.test", "TLSA")),
        ("records of another type", Fault::Answer(vec![(OWNER, "A", "192.0.2.66")])),
        ("records and a name error", Fault::Relabelled(ResponseCode::NXDomain)),
        ("a denial of another zone", Fault::Denial(none, "plain.test")),
        ("two aliases", Fault::Answer(vec![(OWNER, "CNAME", "a.test"), (OWNER, "CNAME", "b.test")])),
        // A17.
        ("a server that does not recurse", Fault::Tamper(clear_ra)),
        ("a reply with CD", Fault::Tamper(set_cd)),
    ] {
        let lab = tree().fault(OWNER, "TLSA", fault.clone()).start().await;
        assert!(end(&lab, OWNER).await.is_err(), "{what}");
        // A14: also at the end of an alias, and where the alias itself is asked for.
        let lab = tree().cname("_25._tcp.a.plain.test", OWNER).fault(OWNER, "TLSA", fault).start().await;
        assert!(end(&lab, "_25._tcp.a.plain.test").await.is_err(), "{what}, behind an alias");
    }
    let lab = tree().cname("_25._tcp.b.sec.test", "_25._tcp.mx.plain.test").start().await;
    for fault in [Fault::Rcode(ResponseCode::ServFail), Fault::Drop, Fault::Denial(none, "sec.test")] {
        lab.set_fault("_25._tcp.b.sec.test", "CNAME", fault);
        assert!(end(&lab, "_25._tcp.b.sec.test").await.is_err());
    }
}

#[tokio::test]
async fn a22_long_answers_come_over_tcp() {
    // A22.
    let many = (0..60).fold(tree(), |tree, i| tree.tlsa("many.sec.test", 25, &format!("{EE}{i:02x}")));
    let lab = many.fault(OWNER, "TLSA", Fault::TruncatedUdp).start().await;
    assert_eq!(tlsa(&lab, "_25._tcp.many.sec.test").await.unwrap().answer.records().len(), 60);
    assert_eq!(end(&lab, OWNER).await, Ok((Secure, "records")));
}

#[tokio::test]
async fn a2_a44_a_resolver_that_does_not_validate_is_not_believed() {
    // A2, A-44.
    // Every record would be insecure, and DANE off.
    let lab = Tree::new().secure("sec.test").tlsa("mx.sec.test", 25, EE).start().await;
    let stub = Stub::new(&settings(&lab)).unwrap();
    for _ in 0..2 {
        // Neither before the self-test nor after it.
        let failure = stub.tlsa(&name(OWNER)).await.unwrap_err();
        assert!(matches!(failure.reason, FailureReason::Network(_)), "{failure}");
        stub.self_test().await;
    }
    assert_eq!(stub.health().borrow().servers[0].state, ServerState::Failed(SelfTestFailure::DoesNotValidate));
    assert!(!lab.was_asked(OWNER, "TLSA"));
}

fn clear_ad(reply: &mut Message) {
    reply.metadata.authentic_data = false;
}

fn set_ad(reply: &mut Message) {
    reply.metadata.authentic_data = true;
}

const SIGNED: [(&str, &str); 3] = [(".", "SOA"), (".", "DNSKEY"), (OWNER, "TLSA")];

/// The resolver does not validate any more.
fn stops_validating(lab: &DnsLab) {
    SIGNED.iter().for_each(|(owner, rtype)| lab.set_fault(owner, rtype, Fault::Tamper(clear_ad)));
}

fn validates_again(lab: &DnsLab) {
    SIGNED.iter().for_each(|(owner, rtype)| lab.clear_fault(owner, rtype));
}

/// A resolver that remembers.
async fn remembering(lab: &DnsLab) -> Stub {
    let (answers, failures) = (Duration::from_secs(3600), Duration::from_secs(30));
    let memory = MemoryLimits { entries: 100, octets: 100_000, answers, failures };
    let stub = Stub::new(&ResolverSettings { memory, ..settings(lab) }).unwrap();
    stub.self_test().await;
    stub
}

#[tokio::test]
async fn a44_nothing_is_used_that_a_resolver_said_while_it_did_not_validate() {
    //
    let lab = tree().start().await;
    let stub = remembering(&lab).await;
    let end = || async { stub.tlsa(&name(OWNER)).await.unwrap().end };
    // The root is secure at this moment, and the resolver stops validating in the next.
    assert_eq!(stub.tlsa(&name("_25._tcp.mx.plain.test")).await.unwrap().end, Insecure);
    stops_validating(&lab);
    assert_eq!(end().await, Insecure);
    stub.self_test().await;
    assert_eq!(stub.health().borrow().servers[0].state, ServerState::Failed(SelfTestFailure::DoesNotValidate));
    assert!(stub.tlsa(&name(OWNER)).await.is_err(), "the server is not in use, and its words are not recalled");
    validates_again(&lab);
    stub.self_test().await;
    assert!(stub.health().borrow().all_good());
    assert_eq!(end().await, Secure);
    // The epoch lasts: the answer is remembered now.
    let asked = lab.asked().len();
    assert_eq!((end().await, lab.asked().len()), (Secure, asked));
}

#[tokio::test]
async fn a2_a44_insecure_counts_beside_a_secure_root_alone() {
    // A2, A-44.
    let lab = tree().cname("_25._tcp.half.sec.test", "_25._tcp.mx.plain.test").start().await;
    let stub = remembering(&lab).await;
    stops_validating(&lab);
    for owner in [OWNER, "_25._tcp.mx.plain.test", "_26._tcp.mx.plain.test", "_25._tcp.half.sec.test"] {
        let failure = stub.tlsa(&name(owner)).await.unwrap_err();
        assert_eq!(failure.reason, FailureReason::NotValidating, "{owner}");
        assert!(failure.to_string().contains("has stopped validating"), "{failure}");
    }
    validates_again(&lab);
    // A failure that is due to the server is not remembered of the name.
    assert_eq!(stub.tlsa(&name(OWNER)).await.unwrap().end, Secure);
    let root = || lab.asked().iter().filter(|asked| *asked == " SOA").count();
    let before = root();
    for owner in ["_25._tcp.mx.plain.test", "_26._tcp.mx.plain.test", "mx.plain.test"] {
        assert_eq!(stub.tlsa(&name(owner)).await.unwrap().end, Insecure, "{owner}");
    }
    assert_eq!(root() - before, 1, "one question for the root serves them all");
    // No answer for the root is no confirmation.
    let other = remembering(&lab).await;
    lab.set_fault(".", "SOA", Fault::Rcode(ResponseCode::ServFail));
    assert!(other.tlsa(&name("_25._tcp.mx.plain.test")).await.is_err());
}

#[tokio::test]
async fn a44_a_doubted_server_is_tested_at_once() {
    //
    let lab = tree().start().await;
    let stub = Stub::new(&settings(&lab)).unwrap();
    let mut health = stub.health();
    let testing = tokio::spawn(stub.clone().keep_testing(Duration::from_secs(3600)));
    health.wait_for(|health| health.all_good()).await.unwrap();
    stops_validating(&lab);
    assert!(stub.tlsa(&name(OWNER)).await.is_err());
    let failed = health.wait_for(|health| health.is_bad());
    tokio::time::timeout(Duration::from_secs(10), failed).await.unwrap().unwrap();
    testing.abort();
}

#[tokio::test]
async fn a44_a_resolver_that_always_sets_ad_is_not_believed() {
    //
    let unsigned = || tree().insecure("10.in-addr.arpa");
    let lies = ServerState::Failed(SelfTestFailure::VouchesForUnsigned);
    for (what, tree, expected) in [
        ("always AD", unsigned().every("SOA", Fault::Tamper(set_ad)), lies),
        ("an unsigned zone", unsigned(), ServerState::Good),
        ("a root without the zone", tree(), ServerState::Good),
        ("a signed zone of the operator's own", tree().secure("10.in-addr.arpa"), ServerState::Good),
        (
            "no answer",
            unsigned().fault("10.in-addr.arpa", "SOA", Fault::Rcode(ResponseCode::ServFail)),
            ServerState::Good,
        ),
    ] {
        let lab = tree.start().await;
        let stub = Stub::new(&settings(&lab)).unwrap();
        stub.self_test().await;
        assert_eq!(stub.health().borrow().servers[0].state, expected, "{what}");
    }
}

/// A3, A-44.
#[tokio::test]
async fn a3_an_ad_bit_from_afar_is_not_believed() {
    let remote = |more: ResolverSettings| {
        let settings =
            ResolverSettings { mode: ResolverMode::TrustAd, servers: vec!["192.0.2.1".parse().unwrap()], ..more };
        Stub::new(&settings).map(drop)
    };
    assert!(matches!(remote(ResolverSettings::default()), Err(ResolverSetupError::WithinReach(_))));
    assert!(remote(ResolverSettings { trust_ad_unsafe_remote: true, ..ResolverSettings::default() }).is_ok());
    let over_tls: NameServer = "tls://192.0.2.1#dns.example".parse().unwrap();
    assert!(
        Stub::new(&ResolverSettings {
            mode: ResolverMode::TrustAd,
            servers: vec![over_tls],
            ..ResolverSettings::default()
        })
        .is_ok()
    );
    // The servers of the system are no better.
    let list = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(list.path(), "nameserver 192.0.2.1\n").unwrap();
    let system =
        ResolverSettings { mode: ResolverMode::TrustAd, system: list.path().to_owned(), ..ResolverSettings::default() };
    assert!(matches!(Stub::new(&system), Err(ResolverSetupError::WithinReach(_))));
}

/// Signatures that end in two seconds.
fn ends_soon(reply: &mut Message) {
    for record in &mut reply.answers {
        if let RData::DNSSEC(DNSSECRData::RRSIG(rrsig)) = &mut record.data {
            let mut input = rrsig.input().clone();
            let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
            input.sig_expiration = SerialNumber::new(now as u32 + 2);
            *rrsig = RRSIG::from_sig(input, rrsig.sig().to_vec());
        }
    }
}

#[tokio::test]
async fn a18_records_do_not_outlive_their_signature() {
    // A18.
    let lab = tree().fault(OWNER, "TLSA", Fault::Tamper(ends_soon)).start().await;
    let (answers, failures) = (Duration::from_secs(60), Duration::from_secs(1));
    let memory = MemoryLimits { entries: 100, octets: 100_000, answers, failures };
    let stub = Stub::new(&ResolverSettings { memory, ..settings(&lab) }).unwrap();
    stub.self_test().await;
    let times_asked = || lab.asked().iter().filter(|asked| asked.starts_with(OWNER)).count();
    for _ in 0..3 {
        stub.tlsa(&name(OWNER)).await.unwrap();
    }
    assert_eq!(times_asked(), 1);
    // The TTL of the records is five minutes.
    tokio::time::sleep(Duration::from_millis(2100)).await;
    stub.tlsa(&name(OWNER)).await.unwrap();
    assert_eq!(times_asked(), 2);
}
