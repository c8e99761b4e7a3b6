//! danelaw's own resolver, while no configured one passes the self-test: when it serves, how loudly, and what it may deny.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use danelaw::dns::selftest::{FALLEN_BACK, SelfTestFailure, ServerState};
use danelaw::dns::server::ResolverFallback;
use danelaw::dns::server::{NameServer, ResolverMode};
use danelaw::dns::setup::{MemoryLimits, ResolverSettings};
use danelaw::dns::stub::Stub;
use danelaw::dns::{Answer, FailureReason, Finality, HostLookup, Resolver, Security};
use danelaw::http::{HttpLimits, HttpsClient, HttpsError, HttpsPart};
use danelaw::name::Name;
use danelaw::reserved::Dialable;
use danelaw::roots::Roots;
use hickory_resolver::proto::op::Message;

use crate::lab::dns::authority::{Authorities, Manner};
use crate::lab::dns::{Fault, Tree};
use crate::lab::exchange::Exchange;
use crate::lab::mx::say;
use crate::lab::sts::{Policies, absent};
use crate::lab::{Lab, MESSAGE, Scenario};
use crate::log::captured;

/// Any free port of loopback.
const ANYWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

fn tree() -> Tree {
    Tree::new()
        .vouches()
        .secure("example.test")
        .mx("example.test", 10, "mx.example.test")
        .a("mx.example.test", "192.0.2.1")
        .record("spf.example.test", "TXT", "\"v=spf1 -all\"")
        .a("host.ent.example.test", "192.0.2.1")
        .mx("nomail.example.test", 0, ".")
        .cname("onion.example.test", "host.onion")
        .insecure("plain.test")
        .mx("plain.test", 10, "mx.plain.test")
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// The fallback of these authoritative servers, behind this resolver.
fn settings(authorities: &Authorities, resolver: SocketAddr) -> ResolverSettings {
    ResolverSettings { servers: vec![resolver.into()], fallback: ResolverFallback::Recurse, ..authorities.settings() }
}

#[tokio::test]
async fn a26_all_servers_down_at_the_start_and_one_that_comes_back() {
    // A26, A-55.
    for mode in [ResolverMode::Validate, ResolverMode::TrustAd] {
        let authorities = tree().delegate().await;
        let address = authorities.resolver(ANYWHERE).await.addr;
        let stub = Stub::new(&ResolverSettings { mode, ..settings(&authorities, address) }).unwrap();
        let (log, _guard) = captured();
        stub.first_pass().await;
        let health = stub.health().borrow().clone();
        assert!(health.falls_back() && !health.is_bad() && !health.any_good(), "{health:?}");
        let secure = stub.mx(&name("example.test")).await.unwrap();
        assert_eq!((secure.security(), secure.answer.records().len()), (Security::Secure, 1), "{mode}");
        // Its own validation alone makes an answer insecure, in either mode.
        assert_eq!(stub.mx(&name("plain.test")).await.unwrap().security(), Security::Insecure, "{mode}");
        assert!(
            log.text().contains("WARN") && log.text().contains("asks the root and the authoritative servers itself")
        );
        // The server comes back at its address.
        let resolver = authorities.resolver(address).await;
        stub.self_test().await;
        let health = stub.health().borrow().clone();
        assert!(health.any_good() && !health.falls_back(), "{health:?}");
        assert!(log.text().contains("itself no longer"), "{}", log.text());
        let before = authorities.count();
        assert_eq!(stub.mx(&name("plain.test")).await.unwrap().security(), Security::Insecure);
        assert!(authorities.count() == before && resolver.was_asked("plain.test", "MX"));
    }
}

#[tokio::test]
async fn a26_a_start_without_a_server_is_served_until_the_list_has_one() {
    // A26: a network that is not up yet, and a list that other programs have written badly.
    let authorities = tree().delegate().await;
    let resolver = authorities.resolver(SocketAddr::from(([127, 0, 53, 26], 53))).await;
    let directory = tempfile::tempdir().unwrap();
    let list = directory.path().join("resolv.conf");
    let unusable = "nameserver dns.example\nnameserver fe80::1%no-such-one\n";
    for text in [None, Some(""), Some("search example\n"), Some(unusable)] {
        for mode in [ResolverMode::Validate, ResolverMode::TrustAd] {
            let _ = std::fs::remove_file(&list);
            text.iter().for_each(|text| std::fs::write(&list, text).unwrap());
            let recursive = authorities.settings();
            let settings = ResolverSettings { mode, servers: vec![], system: list.clone(), ..recursive };
            assert!(Stub::new(&settings).is_err(), "without a fallback {text:?} is no start");
            let (log, _guard) = captured();
            let stub = Stub::new(&ResolverSettings { fallback: ResolverFallback::Recurse, ..settings }).unwrap();
            let loud = log.text();
            assert!(loud.contains("ERROR") && loud.contains("there is no name server that can be used"), "{loud}");
            stub.first_pass().await;
            let health = stub.health().borrow().clone();
            assert!(health.falls_back() && !health.is_bad() && !health.all_good(), "{text:?} {health:?}");
            assert_eq!(stub.mx(&name("example.test")).await.unwrap().security(), Security::Secure, "{text:?} {mode}");
            let denied = stub.mx(&name("corp.example.test")).await.unwrap();
            assert_eq!((denied.answer, denied.finality), (Answer::NxDomain, Finality::Provisional), "no bounce");
            // The list has a server.
            std::fs::write(&list, "nameserver 127.0.53.26\n").unwrap();
            stub.self_test().await;
            let health = stub.health().borrow().clone();
            assert!(health.all_good() && !health.falls_back(), "{text:?} {health:?}");
            let before = authorities.count();
            assert_eq!(stub.mx(&name("example.test")).await.unwrap().security(), Security::Secure, "{text:?} {mode}");
            assert!(authorities.count() == before && resolver.was_asked("example.test", "MX"));
            // A list that is of no use later on leaves it in force.
            std::fs::write(&list, text.unwrap_or_default()).unwrap();
            stub.self_test().await;
            assert!(stub.health().borrow().all_good());
        }
    }
}

#[tokio::test]
async fn a26_a_list_that_appears_is_followed() {
    // A26.
    let authorities = tree().delegate().await;
    let _resolver = authorities.resolver(SocketAddr::from(([127, 0, 53, 27], 53))).await;
    let directory = tempfile::tempdir().unwrap();
    let list = directory.path().join("resolv.conf");
    let fallback = ResolverFallback::Recurse;
    let settings = ResolverSettings { servers: vec![], system: list.clone(), fallback, ..authorities.settings() };
    let stub = Stub::new(&settings).unwrap();
    let testing = tokio::spawn(stub.clone().keep_testing(Duration::from_secs(3600)));
    let mut health = stub.health();
    health.wait_for(|health| health.falls_back()).await.unwrap();
    std::fs::write(&list, "nameserver 127.0.53.27\n").unwrap();
    health.wait_for(|health| health.any_good() && !health.falls_back()).await.unwrap();
    testing.abort();
}

#[tokio::test]
async fn a26_an_answer_of_the_fallback_is_not_the_last_word() {
    // A26.
    use Finality::{Final, Provisional};
    let authorities = tree().delegate().await;
    let address = authorities.resolver(ANYWHERE).await.addr;
    let stub = Stub::new(&settings(&authorities, address)).unwrap();
    let finality = async |text: &str| {
        let (mx, host) = (stub.mx(&name(text)).await.unwrap(), stub.host(&name(text)).await.unwrap());
        let of_host = match host {
            HostLookup::Found(host) => host.finality,
            HostLookup::NoAddress(finality) => finality,
            HostLookup::NotInFamily(families) => panic!("not in {families}"),
        };
        [mx.finality, of_host]
    };
    // A name with records, one that is not there, names without any of these, and an alias of a name that no resolver has.
    let names = ["example.test", "mx.example.test", "corp.example.test", "spf.example.test", "ent.example.test"];
    let names = || names.into_iter().chain(["nomail.example.test", "onion.example.test"]);
    stub.self_test().await;
    assert!(stub.health().borrow().falls_back());
    for text in names() {
        assert_eq!(finality(text).await, [Provisional; 2], "{text}");
    }
    let tlsa = stub.tlsa(&name("_25._tcp.mx.example.test")).await.unwrap();
    assert_eq!((tlsa.end, tlsa.answer, tlsa.finality), (Security::Secure, Answer::NxDomain, Provisional));
    assert_eq!(finality("host.invalid").await, [Final; 2], "no server is asked about it");
    let _resolver = authorities.resolver(address).await;
    stub.self_test().await;
    for text in names() {
        assert_eq!(finality(text).await, [Final; 2], "{text}");
    }
}

#[tokio::test]
async fn a26_an_https_host_that_the_fallback_alone_denies_is_a_failed_lookup() {
    // A26: policy hosts of MTA-STS, and the hosts that take TLS reports.
    let authorities = tree().a("inside.example.test", "10.1.2.3").delegate().await;
    let address = authorities.resolver(ANYWHERE).await.addr;
    let stub = Stub::new(&settings(&authorities, address)).unwrap();
    let part = HttpsPart { dialable: Dialable::default(), roots: Roots::default(), port: 443 };
    let client = HttpsClient::new(stub.clone(), part);
    let limits = HttpLimits { head_octets: 1024, head_fields: 10, body_octets: 1024 };
    stub.self_test().await;
    assert!(stub.health().borrow().falls_back());
    let hosts = ["corp.example.test", "spf.example.test", "inside.example.test"];
    for host in hosts {
        let error = client.get(&name(host), "/", limits).await.map(drop).unwrap_err();
        let HttpsError::Dns(failure) = &error else { panic!("{host}: {error}") };
        assert_eq!(failure.reason, FailureReason::DeniedByFallback, "{host}");
    }
    let _resolver = authorities.resolver(address).await;
    stub.self_test().await;
    for (host, expected) in hosts.into_iter().zip(["has no address", "has no address", "is at 10.1.2.3, "]) {
        let error = client.get(&name(host), "/", limits).await.map(drop).unwrap_err();
        assert!(!matches!(error, HttpsError::Dns(_)) && error.to_string().contains(expected), "{host}: {error}");
    }
}

fn clear_ad(reply: &mut Message) {
    reply.metadata.authentic_data = false;
}

fn set_ad(reply: &mut Message) {
    reply.metadata.authentic_data = true;
}

#[tokio::test]
async fn a44_a_server_that_fails_is_not_trusted_until_the_fallback_is_tested() {
    // A-44.
    let bad = SelfTestFailure::DoesNotValidate;
    let liar = SelfTestFailure::VouchesForUnsigned;
    for (spoiled, change, failure) in [(".", clear_ad as fn(&mut Message), bad), ("10.in-addr.arpa", set_ad, liar)] {
        let authorities = tree().insecure("10.in-addr.arpa").delegate().await;
        let resolver = authorities.resolver(ANYWHERE).await;
        let (answers, failures) = (Duration::from_secs(3600), Duration::from_secs(30));
        let memory = MemoryLimits { entries: 100, octets: 100_000, answers, failures };
        let slow = Duration::from_secs(2);
        let settings = ResolverSettings {
            mode: ResolverMode::TrustAd,
            memory,
            timeout: slow,
            ..settings(&authorities, resolver.addr)
        };
        let stub = Stub::new(&settings).unwrap();
        stub.self_test().await;
        assert!(stub.health().borrow().all_good(), "{:?}", stub.health().borrow());
        assert_eq!(stub.mx(&name("plain.test")).await.unwrap().security(), Security::Insecure);
        // The server is unfit from now on, and the fallback takes its time.
        for rtype in ["SOA", "DNSKEY"] {
            resolver.set_fault(spoiled, rtype, Fault::Tamper(change));
        }
        authorities.behave(".", Manner::Silent);
        let testing = tokio::spawn({
            let stub = stub.clone();
            async move { stub.self_test().await }
        });
        let failed = ServerState::Failed(failure);
        stub.health().wait_for(|health| health.servers[0].state == failed).await.unwrap();
        let asked = resolver.asked().len();
        let recalled = stub.mx(&name("plain.test")).await;
        assert!(recalled.is_err() && stub.mx(&name("example.test")).await.is_err(), "{failed:?}: {recalled:?}");
        assert_eq!(resolver.asked().len(), asked, "{failed:?}: the server is not asked");
        assert!(!testing.is_finished() && !stub.health().borrow().falls_back(), "{failed:?}: the fallback was slow");
        testing.await.unwrap();
        assert!(stub.health().borrow().is_bad());
    }
}

#[tokio::test]
async fn without_a_fallback_the_servers_alone_are_asked() {
    let authorities = tree().delegate().await;
    let address = authorities.resolver(ANYWHERE).await.addr;
    let settings = ResolverSettings { fallback: ResolverFallback::Off, ..settings(&authorities, address) };
    let stub = Stub::new(&settings).unwrap();
    stub.self_test().await;
    assert!(stub.health().borrow().is_bad() && !stub.health().borrow().falls_back());
    assert!(stub.mx(&name("example.test")).await.is_err());
    assert_eq!(authorities.count(), 0);
}

#[tokio::test]
async fn a_network_without_port_53_is_named_within_three_seconds() {
    let authorities = tree().delegate().await;
    let address = authorities.resolver(ANYWHERE).await.addr;
    // Packets to the root servers vanish.
    let silent = UdpSocket::bind((authorities.address("."), 0)).unwrap();
    let port = silent.local_addr().unwrap().port();
    let _unaccepted = TcpListener::bind((authorities.address("."), port)).unwrap();
    let stub = Stub::new(&ResolverSettings { recursion_port: port, ..settings(&authorities, address) }).unwrap();
    let began = Instant::now();
    stub.self_test().await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let health = stub.health().borrow().clone();
    assert!(health.is_bad());
    let Some(ServerState::Failed(SelfTestFailure::NoRoot(why))) = health.fallback.map(|fallback| fallback.state) else {
        panic!("the fallback passes")
    };
    assert!(why.to_string().contains(&format!("cannot reach any root server on port {port}")), "{why}");
}

/// A server that takes questions over UDP and TCP, and answers none.
fn silence(address: impl Into<std::net::IpAddr>) -> (SocketAddr, UdpSocket, TcpListener) {
    let ip = address.into();
    // Another test may have the port for TCP.
    loop {
        let udp = UdpSocket::bind((ip, 0)).unwrap();
        let address = udp.local_addr().unwrap();
        if let Ok(tcp) = TcpListener::bind(address) {
            return (address, udp, tcp);
        }
    }
}

#[tokio::test]
async fn a_network_without_port_53_is_named_within_three_seconds_behind_a_silent_resolver() {
    let authorities = tree().delegate().await;
    let (resolver, _udp, _tcp) = silence(Ipv4Addr::LOCALHOST);
    let (root, _root_udp, _root_tcp) = silence(authorities.address("."));
    for mode in [ResolverMode::Validate, ResolverMode::TrustAd] {
        let timeout = Duration::from_secs(3);
        let patient = ResolverSettings { mode, timeout, attempts: 2, ..settings(&authorities, resolver) };
        let stub = Stub::new(&ResolverSettings { recursion_port: root.port(), ..patient }).unwrap();
        let testing = tokio::spawn({
            let stub = stub.clone();
            async move { stub.self_test().await }
        });
        let began = Instant::now();
        let mut health = stub.health();
        let named = health.wait_for(|health| match health.fallback.as_ref().map(|fallback| &fallback.state) {
            Some(ServerState::Failed(SelfTestFailure::NoRoot(why))) => {
                why.to_string().contains("cannot reach any root")
            }
            _ => false,
        });
        let named = named.await.unwrap().clone();
        assert!(began.elapsed() < Duration::from_secs(3), "{mode}: {:?}", began.elapsed());
        assert_eq!(named.servers[0].state, ServerState::Untested, "{mode}");
        testing.abort();
    }
}

#[tokio::test]
async fn the_fallback_serves_when_the_servers_have_had_their_time_and_then_at_once() {
    let authorities = tree().delegate().await;
    let (resolver, _udp, _tcp) = silence(Ipv4Addr::LOCALHOST);
    let patient = ResolverSettings { timeout: Duration::from_secs(3), attempts: 2, ..settings(&authorities, resolver) };
    let stub = Stub::new(&patient).unwrap();
    let began = Instant::now();
    stub.first_pass().await;
    let (took, health) = (began.elapsed(), stub.health().borrow().clone());
    assert!(health.falls_back() && health.servers[0].state == ServerState::Untested, "{health:?}");
    assert!((Duration::from_secs(3)..Duration::from_millis(3500)).contains(&took), "{took:?}");
    assert_eq!(stub.mx(&name("example.test")).await.unwrap().security(), Security::Secure);
}

#[tokio::test]
async fn a_slow_server_that_passes_keeps_the_fallback_out() {
    // Each reply takes 150 ms, so that the fallback is examined before the server has passed.
    let authorities = tree().delegate().await;
    let resolver = authorities.resolver(ANYWHERE).await;
    let (address, slow) = slow(resolver.addr).await;
    let stub =
        Stub::new(&ResolverSettings { timeout: Duration::from_secs(3), ..settings(&authorities, address) }).unwrap();
    let mut health = stub.health();
    let testing = stub.self_test();
    let watching = async {
        while health.changed().await.is_ok() {
            assert!(!health.borrow_and_update().falls_back(), "it serves before the server has had its time");
        }
    };
    tokio::select! { () = testing => {}, () = watching => {} }
    assert!(stub.health().borrow().any_good(), "{:?}", stub.health().borrow());
    assert!(authorities.count() > 0, "the fallback was examined");
    assert_eq!(stub.health().borrow().state_of(&NameServer::RECURSION), Some(&ServerState::Untested));
    slow.abort();
}

/// A resolver that passes questions on, and each reply on 150 ms later. It knows no TCP.
async fn slow(resolver: SocketAddr) -> (SocketAddr, tokio::task::JoinHandle<()>) {
    let socket = Arc::new(tokio::net::UdpSocket::bind(ANYWHERE).await.unwrap());
    let address = socket.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let mut buffer = [0; 4096];
        while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
            let (socket, question) = (Arc::clone(&socket), buffer[..length].to_vec());
            tokio::spawn(async move {
                let on = tokio::net::UdpSocket::bind(ANYWHERE).await.unwrap();
                on.send_to(&question, resolver).await.unwrap();
                let mut reply = [0; 4096];
                let length = on.recv(&mut reply).await.unwrap();
                tokio::time::sleep(Duration::from_millis(150)).await;
                socket.send_to(&reply[..length], client).await.unwrap();
            });
        }
    });
    (address, task)
}

#[tokio::test]
async fn a26_verified_mail_is_delivered_behind_a_resolver_that_strips_dnssec() {
    let (lab, _authorities) = Scenario::new().start_with_authorities().await;
    for rtype in ["DNSKEY", "SOA"] {
        lab.dns.set_fault(".", rtype, Fault::Stripped);
    }
    for (owner, rtype) in [("example.test", "MX"), ("mx1.example.test", "A"), ("test", "DS"), ("example.test", "DS")] {
        lab.dns.set_fault(owner, rtype, Fault::Stripped);
    }
    let stub = lab.now().connector.dns.clone();
    assert!(lab.send().await.last().starts_with("451"), "the resolver proves nothing");
    stub.self_test().await;
    let admin = lab.admin().await;
    let (ready, text) = crate::admin::get(&admin, "/readyz").await;
    assert!(
        ready == 200 && text.contains(FALLEN_BACK) && text.contains("fails the self-test: strips DNSSEC"),
        "{text}"
    );
    let (_, metrics) = crate::admin::get(&admin, "/metrics").await;
    assert!(metrics.contains("danelaw_resolver_fallback 1"), "{metrics}");
    let answers = lab.send().await;
    assert!(answers.last().starts_with("250 2.0.0 "), "{answers:?}");
    let message = &lab.mx().messages()[0];
    assert!(message.ends_with(&MESSAGE[MESSAGE.len() - 6..]));
    let (_, metrics) = crate::admin::get(&admin, "/metrics").await;
    let verified = r#"deliveries_total{verdict="delivered",reason="",policy="dane",protection="verified"} 1"#;
    assert!(metrics.contains(verified), "{metrics}");
    // The resolver passes again, and the fallback ends.
    for (owner, rtype) in [(".", "DNSKEY"), (".", "SOA"), ("example.test", "MX"), ("mx1.example.test", "A")] {
        lab.dns.clear_fault(owner, rtype);
    }
    ["test", "example.test"].iter().for_each(|zone| lab.dns.clear_fault(zone, "DS"));
    stub.self_test().await;
    let (_, text) = crate::admin::get(&admin, "/readyz").await;
    assert!(!text.contains(FALLEN_BACK), "{text}");
}

#[tokio::test]
async fn a26_mail_that_the_fallback_alone_would_return_waits() {
    // A26: split DNS, in which the public view has no way for this mail: no domain, no address, a null MX, no host that can be,
    // this very host by its name or its address, and an address of its own network.
    let own = "remote.own_names = ['gateway.example.test']\nremote.own_addresses = ['127.77.0.1']";
    let mut scenario = Scenario::new().set(own);
    let domains = [
        ("loop.example.test", "gateway.example.test", "554 5.4.6"),
        ("own.example.test", "own-address.example.test", "554 5.4.6"),
        ("reserved.example.test", "inside.example.test", "550 5.4.4"),
        ("nohost.example.test", "1.2.3.4", "550 5.4.4"),
        ("noaddress.example.test", "spf.example.test", "550 5.4.4"),
        ("noname.example.test", "missing.example.test", "550 5.4.4"),
        ("null.example.test", ".", "556 5.1.10"),
    ];
    let without_mx = [("spf.example.test", "550 5.4.4"), ("missing.example.test", "550 5.4.4")];
    let to_nowhere = [("onion.example.test", "550 5.4.4")];
    scenario = scenario.tree(|tree, _| {
        let tree = tree
            .a("own-address.example.test", "127.77.0.1")
            .a("inside.example.test", "10.1.2.3")
            .record("spf.example.test", "TXT", "\"v=spf1 -all\"")
            .cname("onion.example.test", "host.onion");
        domains.iter().fold(tree, |tree, (domain, exchange, _)| tree.mx(domain, 10, exchange))
    });
    let all =
        || domains.map(|(domain, _, returned)| (domain, returned)).into_iter().chain(without_mx).chain(to_nowhere);
    let (lab, _authorities) = scenario.start_with_authorities().await;
    let stub = lab.now().connector.dns.clone();
    let answer =
        async |domain: &str| lab.client().await.send(&[&format!("b@{domain}")], MESSAGE).await.last().to_owned();
    stub.self_test().await;
    for (domain, returned) in all() {
        let answer = answer(domain).await;
        assert!(answer.starts_with(returned), "{domain}: {answer}");
    }
    fall_back(&lab).await;
    for (domain, _) in all() {
        let answer = answer(domain).await;
        assert!(answer.starts_with("451") && answer.contains("fail the self-test"), "{domain}: {answer}");
    }
    // No resolver knows this one.
    assert!(answer("host.invalid").await.starts_with("550 5.4.4 "));
}

/// Lets the lab's resolver fail the self-test, so that the fallback serves.
async fn fall_back(lab: &Lab) {
    for rtype in ["DNSKEY", "SOA"] {
        lab.dns.set_fault(".", rtype, Fault::Stripped);
    }
    let stub = lab.now().connector.dns.clone();
    stub.self_test().await;
    assert!(stub.health().borrow().falls_back());
}

#[tokio::test]
async fn a26_an_exchange_that_the_fallback_cannot_find_keeps_others_from_the_last_word() {
    // A26: the first exchange has a reserved address alone, and the second one lacks an extension that the mail needs.
    let lacks = Exchange::new("example.test", "mx2.example.test").preference(20);
    let lacks = lacks.script(|mx| mx.ehlo_under_tls = say("250-mx\r\n250 PIPELINING"));
    let scenario = Scenario::of([lacks]);
    let scenario = scenario
        .tree(|tree, _| tree.mx("example.test", 10, "inside.example.test").a("inside.example.test", "10.1.2.3"));
    let (lab, _authorities) = scenario.start_with_authorities().await;
    let eight_bit = "Subject: green\r\n\r\ngr\u{fc}n\r\n".as_bytes();
    let answer = async |message| lab.client().await.send(&["b@example.test"], message).await.last().to_owned();
    lab.now().connector.dns.self_test().await;
    let returned = answer(eight_bit).await;
    assert!(returned.starts_with("554-5.6.3 ") && returned.contains("8BITMIME"), "{returned}");
    fall_back(&lab).await;
    let waits = answer(eight_bit).await;
    assert!(waits.starts_with("451-4.4.3 ") && waits.contains("fail the self-test"), "{waits}");
    // Mail that needs no more goes on, as before.
    assert!(answer(MESSAGE).await.starts_with("250 2.0.0 "));
}

#[tokio::test]
async fn a26_tagged_mail_for_which_the_fallback_names_no_host_waits() {
    // A26, Q2: the configured resolvers may have a signed zone.
    let host = Exchange::new("plain.test", "mx1.plain.test").tlsa([]);
    let host = host.script(|mx| mx.ehlo_under_tls = say("250-mx\r\n250 REQUIRETLS"));
    let scenario = Scenario::with_domain(|tree, _| tree.insecure("plain.test")).exchange(host);
    let held = Arc::new(Policies::default().with("plain.test", absent()));
    let scenario = scenario.policies(&held).set("listener = [{ address = '127.0.0.1:0', require_tls = 'always' }]");
    let (lab, _authorities) = scenario.start_with_authorities().await;
    let answer = async || lab.client().await.send(&["b@plain.test"], MESSAGE).await.last().to_owned();
    lab.now().connector.dns.self_test().await;
    let returned = answer().await;
    assert!(returned.starts_with("550 5.7.10 "), "{returned}");
    fall_back(&lab).await;
    let waits = answer().await;
    assert!(waits.starts_with("451 4.7.5 "), "{waits}");
}
