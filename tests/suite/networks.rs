//! Names and addresses that the public DNS and the public network do not have: special-use names (RFC 6761), a network with
//! one family of addresses, and a next hop that is an address.

use danelaw::dns::server::NameServer;
use danelaw::dns::setup::ResolverSettings;
use danelaw::dns::stub::Stub;
use danelaw::dns::{Resolver, Security};
use danelaw::name::Name;
use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::OPT;
use hickory_resolver::proto::rr::{Name as LibraryName, RData, Record, RecordType};

use crate::lab::certs::Identity;
use crate::lab::dns::{Fault, Tree};
use crate::lab::exchange::Exchange;
use crate::lab::mx::say;
use crate::lab::{Lab, MESSAGE, Scenario};

const NXDOMAIN: ResponseCode = ResponseCode::NXDomain;

/// Sends one message; returns the reply to the client.
async fn sent_to(scenario: Scenario, to: &str) -> (Lab, String) {
    let lab = scenario.start().await;
    let answer = lab.client().await.send(&[to], MESSAGE).await.last().to_owned();
    (lab, answer)
}

/// The types of the questions about a name and names below it.
fn asked(lab: &Lab, name: &str) -> Vec<String> {
    let all = lab.dns.asked().into_iter().filter_map(|question| {
        let (owner, rtype) = question.rsplit_once(' ')?;
        owner.ends_with(name).then(|| rtype.to_owned())
    });
    all.collect()
}

#[tokio::test]
async fn a_name_that_exists_in_no_dns_is_refused_without_a_question() {
    // C3.
    for (domain, why) in [
        ("localhost", "names in .localhost are reserved (RFC 6761 section 6.3)"),
        ("foo.invalid", "names in .invalid are reserved (RFC 6761 section 6.4)"),
        ("expyuzz4wqqyqhjn.onion", "names in .onion are reserved (RFC 7686)"),
    ] {
        let (lab, answer) = sent_to(Scenario::new(), &format!("b@{domain}")).await;
        let refusal = format!("550 5.4.4 the domain {domain} does not exist: {why}");
        assert!(answer.starts_with(&refusal), "{answer}");
        assert_eq!(asked(&lab, domain), [] as [&str; 0]);
    }
}

#[tokio::test]
async fn lmtp_and_fan_out_refuse_such_a_name_for_its_recipient_alone() {
    let lmtp = Scenario::new().set("listener = [{ kind = 'lmtp', address = '127.0.0.1:0' }]");
    let lab = lmtp.start().await;
    let mut client = lab.lmtp_client().await;
    client.command("MAIL FROM:<a@client.test>").await;
    assert!(client.command("RCPT TO:<b@foo.invalid>").await.starts_with("550 5.4.4 "));
    assert!(client.command("RCPT TO:<b@example.test>").await.starts_with("250 "));
    let store = tempfile::tempdir().unwrap();
    let fan_out = Scenario::new().set(&format!(
        "listener = [{{ address = '127.0.0.1:0', recipients = 'fan-out' }}]\nstore.path = '{}'",
        store.path().join("store.sqlite").display()
    ));
    let (_lab, answer) = sent_to(fan_out, "b@foo.invalid").await;
    assert!(answer.starts_with("550 5.4.4 "), "{answer}");
}

#[tokio::test]
async fn a_resolvers_own_answer_counts_where_the_root_denies_the_zone() {
    // A resolver that serves `local` by itself denies without signatures; the root's denial of its DS records is signed.
    let unsigned = || Fault::Denial(NXDOMAIN, "local");
    for fault in [unsigned(), Fault::Rcode(ResponseCode::Refused), Fault::Empty] {
        let served = Scenario::new().tree(|tree, _| tree.fault("corp.local", "MX", fault));
        let (lab, answer) = sent_to(served, "b@corp.local").await;
        assert!(answer.starts_with("550 5.4.4 the domain corp.local does not exist: "), "{answer}");
        assert!(answer.contains("(RFC 6762 section 3)"), "{answer}");
        assert_eq!(lab.mx().connections(), 0);
    }
    // No answer in time says nothing about the name; and without the root's denial there is no proof.
    for faults in [
        (|tree: Tree| tree.fault("corp.local", "MX", Fault::Drop)) as fn(Tree) -> Tree,
        |tree| tree.fault("corp.local", "MX", Fault::Denial(NXDOMAIN, "local")).fault("local", "DS", Fault::Drop),
        |tree| {
            let denied = || Fault::Denial(NXDOMAIN, "local");
            tree.fault("corp.local", "MX", denied()).fault("local", "DS", denied())
        },
    ] {
        let (_lab, answer) = sent_to(Scenario::new().tree(|tree, _| faults(tree)), "b@corp.local").await;
        assert!(answer.starts_with("451 4.4.3 "), "{answer}");
    }
}

#[tokio::test]
async fn a_zone_of_special_use_that_the_root_delegates_is_one_like_any_other() {
    let internal = |tree: Tree| tree.secure("internal");
    let with = |fault: Option<Fault>| {
        let scenario = Scenario::new().tree(|tree, _| match fault {
            Some(fault) => internal(tree).fault("corp.internal", "MX", fault),
            None => internal(tree),
        });
        scenario.exchange(Exchange::new("corp.internal", "mx.corp.internal"))
    };
    let (lab, answer) = sent_to(with(None), "b@corp.internal").await;
    assert!(answer.starts_with("250 ") && lab.seen[1].messages().len() == 1, "{answer}");
    // Its records are bogus: the zone exists, so mail waits.
    for fault in [Fault::BogusSignature, Fault::Denial(NXDOMAIN, "internal"), Fault::Stripped] {
        let (_lab, answer) = sent_to(with(Some(fault)), "b@corp.internal").await;
        assert!(answer.starts_with("451 4.4.3 "), "{answer}");
    }
}

#[tokio::test]
async fn an_exchange_with_such_a_name_is_passed_over() {
    for name in ["mx.invalid", "localhost", "mx.local"] {
        let forged = |tree: Tree| {
            let address = vec![("mx.local", "A", "127.0.0.1")];
            tree.fault("mx.local", "A", Fault::Answer(address)).fault(
                "mx.local",
                "AAAA",
                Fault::Denial(NXDOMAIN, "local"),
            )
        };
        let better = Scenario::new().tree(|tree, _| forged(tree.mx("example.test", 5, name)));
        let (lab, answer) = sent_to(better, "b@example.test").await;
        assert!(answer.starts_with("250 "), "{name}: {answer}");
        assert_eq!(lab.mx().messages().len(), 1);
        let only = Scenario::with_domain(|tree, _| forged(tree.mx("example.test", 5, name)));
        let (_lab, answer) = sent_to(only, "b@example.test").await;
        assert!(answer.starts_with(&format!("550 5.4.4 {name}: the host has no address")), "{answer}");
    }
}

#[tokio::test]
async fn one_family_is_asked_for_and_connected_to() {
    let families = |families: &str| format!("remote.families = '{families}'");
    let both = || Scenario::new().tree(|tree, _| tree.aaaa("mx1.example.test", "::1"));
    let (lab, answer) = sent_to(both().set(&families("ipv4")), "b@example.test").await;
    assert!(answer.starts_with("250 "), "{answer}");
    assert_eq!(lab.mx().messages().len(), 1);
    assert!(!lab.dns.asked().iter().any(|question| question.ends_with(" AAAA")), "{:?}", lab.dns.asked());
    // The exchange has an IPv4 address alone: it may have one of the other family, so mail waits, and the text names the key.
    let (lab, answer) = sent_to(Scenario::new().set(&families("ipv6")), "b@example.test").await;
    let refusal = "451 4.4.4 mx1.example.test: the host has no address of the family in remote.families (\"ipv6\")";
    assert!(answer.starts_with(refusal), "{answer}");
    assert_eq!(lab.mx().connections(), 0);
    assert!(!lab.dns.asked().iter().any(|question| question.ends_with(" A")), "{:?}", lab.dns.asked());
    // The next exchange has one.
    let next = Scenario::new()
        .tree(|tree, _| tree.mx("example.test", 5, "six.example.test").aaaa("six.example.test", "::1"))
        .set(&families("ipv4"));
    let (lab, answer) = sent_to(next, "b@example.test").await;
    assert!(answer.starts_with("250 "), "{answer}");
    assert_eq!(lab.mx().messages().len(), 1);
}

#[tokio::test]
async fn an_ipv4_address_in_an_aaaa_record_is_the_ipv4_address() {
    // The lab's exchange listens on 127.0.0.1; A-52: and our own address in this form is ours.
    let mapped = || {
        Scenario::new()
            .tree(|tree, _| tree.mx("example.test", 5, "six.example.test").aaaa("six.example.test", "::ffff:127.0.0.1"))
    };
    let (lab, answer) = sent_to(mapped(), "b@example.test").await;
    assert!(answer.starts_with("250 "), "{answer}");
    assert_eq!(lab.mx().messages().len(), 1);
    let (lab, answer) = sent_to(mapped().set("remote.own_addresses = ['127.0.0.1']"), "b@example.test").await;
    assert!(answer.starts_with("554 5.4.6 "), "{answer}");
    assert_eq!(lab.mx().connections(), 0);
}

/// A domain whose rule names the address of its host. The domain's MX records, and the host's name, lead elsewhere.
fn by_address(level: &str, next_hop: &str, more: &str) -> Scenario {
    let rule = format!("domain = 'example.test', level = '{level}', next_hop = '{next_hop}'");
    Scenario::with_domain(|tree, _| tree.mx("example.test", 10, "elsewhere.example.test"))
        .host("mx.example.test", |mx, tree, _| (mx, tree))
        .set(&format!("rule = [{{ {rule}, reason = 'internal', until = '2999-12-31'{more} }}]"))
}

#[tokio::test]
async fn a_next_hop_that_is_an_address_needs_no_dns() {
    for level in ["may", "encrypt"] {
        // no other range is open, and the operator's own word is enough.
        let closed = by_address(level, "[127.0.0.1]", "").set("remote.allow_reserved = []");
        let (lab, answer) = sent_to(closed, "b@example.test").await;
        assert!(answer.starts_with("250 "), "{level}: {answer}");
        assert_eq!(lab.mx().messages().len(), 1);
        assert_eq!(lab.dns.asked(), [] as [&str; 0]);
        // The name for TLS is that of the domain.
        assert_eq!(lab.mx().server_names().last(), Some(&Some("example.test".to_owned())));
    }
    // IPv4 in IPv6 form.
    let (lab, answer) = sent_to(by_address("encrypt", "[IPv6:::ffff:127.0.0.1]", ""), "b@example.test").await;
    assert!(answer.starts_with("250 ") && lab.mx().messages().len() == 1, "{answer}");
    // Level "encrypt" is no way to cleartext.
    let plain = by_address("encrypt", "[127.0.0.1]", "").mx(|mx| mx.ehlo = say("250 mx"));
    let (lab, answer) = sent_to(plain, "b@example.test").await;
    assert!(answer.starts_with("451 4.7.4 ") && lab.mx().messages().is_empty(), "{answer}");
    // Nor is an address of our own a way round the loop.
    let own = by_address("encrypt", "[127.0.0.1]", "").set("remote.own_addresses = ['127.0.0.1']");
    let (lab, answer) = sent_to(own, "b@example.test").await;
    assert!(answer.starts_with("554 5.4.6 ") && lab.mx().connections() == 0, "{answer}");
}

#[tokio::test]
async fn an_address_is_held_to_the_rules_own_records() {
    let pinned = |record: &str| format!(", records = ['{record}']");
    for (record, reply) in [(None, "250 "), (Some(Identity::for_name("other").record("3 1 1")), "451 4.7.5 ")] {
        let identity = Identity::for_name("anything");
        let record = record.unwrap_or_else(|| identity.record("3 1 1"));
        let scenario = by_address("fingerprint", "[127.0.0.1]", &pinned(&record)).mx(|mx| mx.identity = identity);
        let (lab, answer) = sent_to(scenario, "b@example.test").await;
        assert!(answer.starts_with(reply), "{answer}");
        assert_eq!(lab.mx().messages().len(), usize::from(reply == "250 "));
        assert_eq!(lab.dns.asked(), [] as [&str; 0]);
    }
}

/// Takes the signatures away where the question had CD: a resolver that keeps an old reply, and would ask for a better one
/// without the bit (RFC 6840 appendix B).
fn stale_with_cd(reply: &mut Message) {
    if reply.metadata.checking_disabled {
        reply.answers.retain(|record| record.record_type() != RecordType::RRSIG);
    }
}

/// Replaces all records by one that answers no question.
fn opt_alone(reply: &mut Message) {
    reply.answers = vec![Record::from_rdata(LibraryName::root(), 0, RData::OPT(OPT::default()))];
    reply.authorities.clear();
}

#[tokio::test]
async fn one_reply_that_proves_nothing_is_overruled_by_a_better_one() {
    let tree = || Tree::new().secure("example.test").mx("example.test", 10, "mx.example.test");
    let example = Name::parse("example.test").unwrap();
    let spoiled = [("example.test", "MX"), ("example.test", "DNSKEY"), ("example.test", "DS"), ("test", "DS")];
    for (name, rtype) in spoiled {
        for fault in [Fault::BogusSignature, Fault::Stripped, Fault::Empty, Fault::Tamper(opt_alone)] {
            // One of two resolvers is honest. The order makes no difference.
            let bad = tree().fault(name, rtype, fault.clone()).start().await;
            let good = bad.twin().await;
            for servers in [[bad.addr, good.addr], [good.addr, bad.addr]] {
                let servers = servers.map(NameServer::from).to_vec();
                let stub = Stub::new(&ResolverSettings { servers, ..bad.settings() }).unwrap();
                let found = stub.mx(&example).await;
                assert!(found.as_ref().is_ok_and(|mx| mx.security() == Security::Secure), "{name} {rtype}: {found:?}");
            }
            // Where both are bad there is no answer.
            good.set_fault(name, rtype, fault.clone());
            let servers = vec![bad.addr.into(), good.addr.into()];
            let stub = Stub::new(&ResolverSettings { servers, ..bad.settings() }).unwrap();
            let found = stub.mx(&example).await;
            assert!(found.is_err(), "{name} {rtype}: {found:?}");
        }
        // The only one does better without CD.
        let lab = tree().fault(name, rtype, Fault::Tamper(stale_with_cd)).start().await;
        let found = Stub::new(&lab.settings()).unwrap().mx(&example).await;
        assert!(found.as_ref().is_ok_and(|mx| mx.security() == Security::Secure), "{name} {rtype}: {found:?}");
    }
}
