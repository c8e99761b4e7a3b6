//! The self-test of name servers: its results, their wording, and the servers that are asked afterwards.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::lab::dns::{Fault, Tree};
use danelaw::dns::selftest::{Clock, SelfTestFailure, ServerState};
use danelaw::dns::server::{NameServer, ResolverMode};
use danelaw::dns::setup::ResolverSettings;
use danelaw::dns::stub::Stub;
use danelaw::dns::{FailureReason, Resolver};
use danelaw::name::Name;
use hickory_resolver::proto::dnssec::rdata::{DNSSECRData, RRSIG};
use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::OPT;
use hickory_resolver::proto::rr::{Name as LibraryName, RData, Record, SerialNumber};

/// A stub that follows this list of servers, none of which exists.
fn following(list: &Path) -> Stub {
    let settings = ResolverSettings {
        system: list.to_owned(),
        timeout: Duration::from_millis(50),
        deadline: Duration::from_millis(200),
        attempts: 1,
        ..ResolverSettings::default()
    };
    Stub::new(&settings).unwrap()
}

async fn states(settings: &ResolverSettings) -> Vec<ServerState> {
    let stub = Stub::new(settings).unwrap();
    stub.self_test().await;
    let health = stub.health();
    health.borrow().servers.iter().map(|server| server.state.clone()).collect()
}

async fn state(tree: Tree) -> ServerState {
    let lab = tree.start().await;
    states(&lab.settings()).await.remove(0)
}

fn shift(reply: &mut Message, days: i64) {
    for record in reply.answers.iter_mut().chain(&mut reply.authorities) {
        if let RData::DNSSEC(DNSSECRData::RRSIG(rrsig)) = &mut record.data {
            let mut input = rrsig.input().clone();
            let moved = |at: SerialNumber| SerialNumber::new(at.get().wrapping_add((days * 86_400) as u32));
            (input.sig_inception, input.sig_expiration) = (moved(input.sig_inception), moved(input.sig_expiration));
            *rrsig = RRSIG::from_sig(input, rrsig.sig().to_vec());
        }
    }
}

/// A2.
#[tokio::test]
async fn a2_what_a_server_lacks_is_named() {
    assert_eq!(state(Tree::new()).await, ServerState::Good);
    let strips = ServerState::Failed(SelfTestFailure::StripsDnssec);
    for (rtype, fault, expected) in [
        ("SOA", Fault::Stripped, strips.clone()),
        ("DNSKEY", Fault::Stripped, strips.clone()),
        ("DNSKEY", Fault::Empty, strips),
        ("DNSKEY", Fault::Drop, ServerState::Failed(SelfTestFailure::TimesOut)),
        (
            "SOA",
            Fault::Rcode(ResponseCode::Refused),
            ServerState::Failed(SelfTestFailure::Answers("REFUSED".to_owned())),
        ),
        (
            "SOA",
            Fault::Rcode(ResponseCode::ServFail),
            ServerState::Failed(SelfTestFailure::Answers("SERVFAIL".to_owned())),
        ),
    ] {
        assert_eq!(state(Tree::new().fault(".", rtype, fault)).await, expected, "{rtype}");
    }
    let forged = state(Tree::new().fault(".", "SOA", Fault::BogusSignature)).await;
    assert!(matches!(forged, ServerState::Failed(SelfTestFailure::Unproven(FailureReason::Bogus(_)))), "{forged:?}");
}

#[tokio::test]
async fn a56_a_clock_that_is_off_is_named() {
    //
    let future = state(Tree::new().fault(".", "DNSKEY", Fault::Tamper(|reply| shift(reply, 40)))).await;
    let ServerState::Failed(SelfTestFailure::ClockOff(Clock::Behind(by))) = future else { panic!("{future:?}") };
    assert_eq!(by.as_secs().div_ceil(86_400), 40);
    let past = state(Tree::new().fault(".", "DNSKEY", Fault::Tamper(|reply| shift(reply, -3)))).await;
    let ServerState::Failed(SelfTestFailure::ClockOff(Clock::Ahead(by))) = past else { panic!("{past:?}") };
    assert_eq!(by.as_secs() / 86_400, 2);
}

#[tokio::test]
async fn a40_a_server_that_does_not_answer_tlsa_is_named() {
    //
    for fault in [Fault::Drop, Fault::Rcode(ResponseCode::NotImp)] {
        let state = state(Tree::new().every("TLSA", fault)).await;
        assert!(matches!(state, ServerState::Failed(SelfTestFailure::NoTlsa(_))), "{state:?}");
    }
    assert_eq!(
        state(Tree::new().every("TLSA", Fault::Stripped)).await,
        ServerState::Failed(SelfTestFailure::StripsDnssec)
    );
}

#[tokio::test]
async fn a_root_of_somebody_else_proves_nothing() {
    let (lab, other) = (Tree::new().start().await, Tree::new().start().await);
    for (trust_anchor, remedy) in [
        (Some(other.anchor_file.clone()), "add the new ones to that file and reload"),
        (None, "put the new ones into a file and name it in dns.trust_anchor"),
    ] {
        let states = states(&ResolverSettings { trust_anchor, ..lab.settings() }).await;
        let ServerState::Failed(failure @ SelfTestFailure::Unproven(_)) = &states[0] else { panic!("{states:?}") };
        // The operator is told of the one setting that helps when the root has changed its keys in haste.
        let text = failure.to_string();
        assert!(text.contains("dns.trust_anchor") && text.contains(remedy), "{text}");
    }
}

#[tokio::test]
async fn a_server_that_fails_is_not_asked_while_another_passes() {
    let (good, bad) = (Tree::new().start().await, Tree::new().fault(".", "SOA", Fault::Stripped).start().await);
    let servers: Vec<NameServer> = vec![bad.addr.into(), good.addr.into()];
    let stub = Stub::new(&ResolverSettings { servers, ..good.settings() }).unwrap();
    stub.self_test().await;
    let health = stub.health().borrow().clone();
    assert!(matches!(health.servers[0].state, ServerState::Failed(_)));
    assert_eq!(health.servers[1].state, ServerState::Good);
    let before = bad.asked().len();
    for i in 0..20 {
        stub.tlsa(&Name::parse(&format!("h{i}.test")).unwrap()).await.unwrap();
    }
    assert_eq!(bad.asked().len(), before);
}

#[tokio::test]
async fn a55_a_dead_server_delays_no_other() {
    //
    let dead =
        ["DNSKEY", "SOA", "TLSA", "A"].into_iter().fold(Tree::new(), |tree, rtype| tree.every(rtype, Fault::Drop));
    let (dead, good) = (dead.vouches().start().await, Tree::new().vouches().start().await);
    for mode in [ResolverMode::Validate, ResolverMode::TrustAd] {
        let servers: Vec<NameServer> = vec![dead.addr.into(), good.addr.into()];
        let long = Duration::from_secs(60);
        let stub =
            Stub::new(&ResolverSettings { mode, servers, timeout: long, deadline: long, ..good.settings() }).unwrap();
        tokio::time::timeout(Duration::from_secs(20), stub.first_pass()).await.expect("it waits for the dead server");
        let health = stub.health().borrow().clone();
        let states: Vec<_> = health.servers.iter().map(|server| &server.state).collect();
        assert_eq!(states, [&ServerState::Untested, &ServerState::Good]);
        // The server that passes is in use already, and it alone.
        let before = dead.asked().len();
        assert!(stub.tlsa(&Name::parse("h.test").unwrap()).await.is_ok());
        assert_eq!(dead.asked().len(), before);
    }
}

#[tokio::test]
async fn servers_of_an_old_list_serve_until_one_of_the_new_list_passes() {
    let lab = Tree::new().at((Ipv4Addr::new(127, 0, 53, 1), 53)).start().await;
    let list = tempfile::NamedTempFile::new().unwrap();
    let write = |text: &str| std::fs::write(list.path(), text).unwrap();
    write("nameserver 127.0.53.1\n");
    let settings = ResolverSettings { servers: vec![], system: list.path().to_owned(), ..lab.settings() };
    let stub = Stub::new(&settings).unwrap();
    stub.self_test().await;
    assert!(stub.health().borrow().all_good());
    write("nameserver 127.0.53.2\nnameserver 127.0.53.1\n");
    let mut seen = stub.health();
    let testing = tokio::spawn({
        let stub = stub.clone();
        async move { stub.self_test().await }
    });
    let every_state_resolves = async {
        while seen.changed().await.is_ok() {
            assert!(seen.borrow_and_update().any_good());
        }
    };
    tokio::select! {
        tested = testing => tested.unwrap(),
        () = every_state_resolves => unreachable!("the stub lives"),
    }
    assert_eq!(stub.health().borrow().servers.len(), 2);
}

#[tokio::test]
async fn a_server_without_tcp_passes_and_is_named() {
    let lab = Tree::new().fault(".", "DNSKEY", Fault::DropTcp).start().await;
    let stub = Stub::new(&lab.settings()).unwrap();
    stub.self_test().await;
    let server = stub.health().borrow().servers[0].clone();
    assert_eq!((server.state, server.no_tcp), (ServerState::Good, Some(FailureReason::Timeout)));
    lab.clear_fault(".", "DNSKEY");
    stub.self_test().await;
    assert_eq!(stub.health().borrow().servers[0].no_tcp, None);
}

#[tokio::test]
async fn a_server_passes_before_it_is_known_that_it_does_not_answer_over_tcp() {
    // Where a firewall drops TCP, it takes the whole time-out to know.
    let lab = Tree::new().fault(".", "DNSKEY", Fault::DropTcp).start().await;
    let stub = Stub::new(&ResolverSettings { timeout: Duration::from_secs(3), ..lab.settings() }).unwrap();
    let began = Instant::now();
    let testing = tokio::spawn({
        let stub = stub.clone();
        async move { stub.self_test().await }
    });
    stub.health().wait_for(|health| health.all_good()).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert!(stub.tlsa(&Name::parse("h.test").unwrap()).await.is_ok());
    stub.health().wait_for(|health| health.servers[0].no_tcp == Some(FailureReason::Timeout)).await.unwrap();
    testing.await.unwrap();
    assert!(stub.health().borrow().all_good());
    // The next test does not forget it on its way.
    let mut health = stub.health();
    let again = stub.self_test();
    tokio::select! {
        () = again => {}
        changed = health.wait_for(|health| health.servers[0].no_tcp.is_none()) => panic!("{changed:?}"),
    }
}

#[tokio::test]
async fn a55_a_server_that_recovers_is_of_use_at_once() {
    //
    let lab = Tree::new().fault(".", "SOA", Fault::Drop).start().await;
    let stub = Stub::new(&lab.settings()).unwrap();
    let mut health = stub.health();
    stub.self_test().await;
    assert!(health.borrow_and_update().is_bad());
    // Signatures tell right from wrong: a validating resolver keeps its servers.
    assert!(stub.tlsa(&Name::parse("h.test").unwrap()).await.is_ok());
    lab.clear_fault(".", "SOA");
    stub.self_test().await;
    assert!(health.has_changed().unwrap() && health.borrow().all_good());
}

#[tokio::test]
async fn the_list_of_the_system_is_followed() {
    // Two servers of one tree: the port is always 53 there, so the list names addresses that do not answer.
    let list = tempfile::NamedTempFile::new().unwrap();
    let write = |text: &str| std::fs::write(list.path(), text).unwrap();
    write("nameserver 127.0.0.1\n");
    let stub = following(list.path());
    let servers = || {
        let health = stub.health().borrow().clone();
        health.servers.iter().map(|server| server.server.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(servers(), ["127.0.0.1:53"]);
    write("nameserver 127.0.0.2\nnameserver ::1\n");
    stub.self_test().await;
    assert_eq!(servers(), ["127.0.0.2:53", "[::1]:53"]);
    // A list without a valid server leaves the old servers in use.
    write("nameserver nonsense\n");
    stub.self_test().await;
    assert_eq!(servers(), ["127.0.0.2:53", "[::1]:53"]);
}

#[tokio::test]
async fn the_list_of_the_system_is_looked_at_again_and_again() {
    let list = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(list.path(), "nameserver 127.0.0.1\n").unwrap();
    let stub = following(list.path());
    let mut health = stub.health();
    let testing = tokio::spawn(stub.keep_testing(Duration::from_secs(3600)));
    health.wait_for(|health| health.is_tested()).await.unwrap();
    std::fs::write(list.path(), "nameserver 127.0.0.2\n").unwrap();
    let second: NameServer = "127.0.0.2".parse().unwrap();
    let seen = health.wait_for(|health| health.state_of(&second).is_some());
    tokio::time::timeout(Duration::from_secs(30), seen).await.unwrap().unwrap();
    testing.abort();
}

/// Replaces all records by one that the library cannot write as text.
fn opt_alone(reply: &mut Message) {
    reply.answers.clear();
    reply.authorities = vec![Record::from_rdata(LibraryName::root(), 0, RData::OPT(OPT::default()))];
}

#[tokio::test]
async fn a_reply_that_no_one_expects_ends_neither_a_lookup_nor_the_self_test() {
    let lab = Tree::new().secure("example.test").mx("example.test", 10, "mx.example.test").start().await;
    let stub = Stub::new(&lab.settings()).unwrap();
    for rtype in ["SOA", "DNSKEY"] {
        lab.set_fault(".", rtype, Fault::Tamper(opt_alone));
        stub.self_test().await;
        let state = stub.health().borrow().servers[0].state.clone();
        let ServerState::Failed(failure) = state else { panic!("{rtype}: {state:?}") };
        assert!(!failure.to_string().contains("panicked"), "{rtype}: {failure}");
        lab.clear_fault(".", rtype);
        stub.self_test().await;
        assert!(stub.health().borrow().all_good(), "{rtype}");
    }
    let example = Name::parse("example.test").unwrap();
    lab.set_fault("example.test", "MX", Fault::Tamper(opt_alone));
    let failed = stub.mx(&example).await.unwrap_err();
    assert!(!failed.to_string().contains("given up"), "{failed}");
}
