//! From a recipient's domain to the host, the base domain and the records that decide: rows C1 to C21 and D1 to D16 of
//! the requirements, each along the whole delivery path, as far as `delivery_path.rs` and the tests of the modules do
//! not show them.
//!
//! C15 has no test: senders are not checked.

use crate::lab::certs::Identity;
use crate::lab::dns::{Fault, Tree};
use crate::lab::exchange::Exchange;
use crate::lab::mx::say;
use crate::lab::{Lab, MESSAGE, Scenario};
use danelaw::name::Name;
use hickory_resolver::proto::op::ResponseCode;

const SERVFAIL: Fault = Fault::Rcode(ResponseCode::ServFail);

/// Sends one message to `b@example.test`; returns the client's reply.
async fn sent(scenario: Scenario) -> (Lab, String) {
    sent_to(scenario, "b@example.test").await
}

async fn sent_to(scenario: Scenario, to: &str) -> (Lab, String) {
    let lab = scenario.start().await;
    let answer = lab.client().await.send(&[to], MESSAGE).await.last().to_owned();
    (lab, answer)
}

/// The mail arrives at the exchange with this index, under this server name, and at no other.
#[track_caller]
fn assert_delivered((lab, answer): &(Lab, String), index: usize, server_name: &str) {
    assert!(answer.starts_with("250 2.0.0 "), "{answer}");
    for (at, seen) in lab.seen.iter().enumerate() {
        assert_eq!(seen.messages().len(), usize::from(at == index), "exchange {at}: {seen:?}");
    }
    assert_eq!(lab.seen[index].server_names().last(), Some(&Some(server_name.to_owned())));
}

/// The client keeps the mail, and danelaw did not even connect to an exchange.
#[track_caller]
fn assert_skipped((lab, answer): &(Lab, String), reply: &str) {
    assert!(answer.starts_with(reply), "{reply:?} expected, got {answer:?}");
    assert!(lab.seen.iter().all(|seen| seen.connections() == 0), "{:?}", lab.seen);
}

fn tlsa_questions(lab: &Lab) -> Vec<String> {
    let mut asked: Vec<String> = lab.dns.asked().into_iter().filter(|question| question.ends_with(" TLSA")).collect();
    asked.dedup();
    let host = |question: &String| question.split_once("._tcp.").unwrap().1.trim_end_matches(" TLSA").to_owned();
    // The lab's library shows U-labels; on the wire there are none.
    asked.iter().map(|question| Name::parse(&host(question)).unwrap().to_string()).collect()
}

/// `example.test` whose exchange is an alias: `start.example.test`, of `middle.example.test`, of `end.other.test`. The
/// host presents `identity`, and `records` says where its record stands.
fn aliased(identity: Identity, records: impl FnOnce(Tree, u16, &dyn Fn(&str) -> String) -> Tree) -> Scenario {
    Scenario::with_domain(|tree, _| {
        tree.secure("other.test")
            .insecure("plain.test")
            .mx("example.test", 10, "start.example.test")
            .cname("start.example.test", "middle.example.test")
            .cname("middle.example.test", "end.other.test")
    })
    .host("end.other.test", |mut mx, tree, port| {
        let tree = records(tree, port, &|form| identity.record(form));
        mx.identity = identity;
        (mx, tree)
    })
}

/// A record that matches no key here.
fn wrong() -> String {
    Identity::for_name("other").record("3 1 1")
}

#[tokio::test]
async fn c1_the_domain_is_asked_as_it_is() {
    // C1.
    for domain in ["foo", "sub.example"] {
        let (lab, answer) = sent_to(Scenario::new(), &format!("b@{domain}")).await;
        assert!(answer.starts_with("550 5.4.4 "), "{answer}");
        assert_eq!(lab.dns.asked()[0], format!("{domain} MX"));
        let guessed = |question: &String| question.contains(&format!("{domain}."));
        assert!(!lab.dns.asked().iter().any(guessed), "{:?}", lab.dns.asked());
    }
}

#[tokio::test]
async fn c2_the_mx_records_of_an_alias() {
    // C2.
    let scenario = || {
        Scenario::new().tree(|tree, _| {
            tree.cname("www.example.test", "web.example.test")
                .cname("web.example.test", "example.test")
                .cname("loop.example.test", "pool.example.test")
                .cname("pool.example.test", "loop.example.test")
        })
    };
    assert_delivered(&sent_to(scenario(), "b@www.example.test").await, 0, "mx1.example.test");
    assert_skipped(&sent_to(scenario(), "b@loop.example.test").await, "451 4.4.3 MX lookup");
}

#[tokio::test]
async fn c7_c19_c20_the_publishers_order_and_each_hosts_own_policy() {
    let two = |first: &'static str, second: &'static str| {
        Scenario::of([(10, first), (20, second)].map(|(preference, name)| {
            let exchange = Exchange::new("example.test", name).preference(preference);
            match name.split('.').next() {
                Some("dane") => exchange,
                Some("wrong") => exchange.tlsa([wrong()]),
                _ => exchange.tlsa([]),
            }
        }))
    };
    // C7: a worse exchange with DANE does not jump ahead of a better one without.
    assert_delivered(&sent(two("free.example.test", "dane.example.test")).await, 0, "free.example.test");
    // C20: the better exchange is tried, and fails by its own records, before the worse one has its turn by its own.
    let found = sent(two("wrong.example.test", "dane.example.test")).await;
    assert_delivered(&found, 1, "dane.example.test");
    assert_eq!(found.0.seen[0].connections(), 1);
    // C19: a requirement on one host is no requirement on the other.
    assert_delivered(&sent(two("wrong.example.test", "free.example.test")).await, 1, "free.example.test");
    let unencrypted = two("free.example.test", "wrong.example.test").mx(|mx| mx.greeting = say("421 no"));
    let (lab, answer) = sent(unencrypted).await;
    assert!(
        answer.starts_with("451") && answer.contains("wrong.example.test[127.0.0.2]: the server could not be"),
        "{answer}"
    );
    assert!(lab.seen.iter().all(|seen| seen.messages().is_empty()));
}

#[tokio::test]
async fn c9_the_sixth_address() {
    // C9.
    let scenario = Scenario::with_domain(|tree, _| {
        tree.mx("example.test", 5, "d1.example.test")
            .mx("example.test", 6, "d2.example.test")
            .a("d1.example.test", "127.0.0.91")
            .a("d1.example.test", "127.0.0.92")
            .a("d2.example.test", "127.0.0.93")
            .a("d2.example.test", "127.0.0.94")
            .a("mx.example.test", "127.0.0.95")
    })
    .exchange(Exchange::new("example.test", "mx.example.test"));
    assert_delivered(&sent(scenario).await, 0, "mx.example.test");
}

#[tokio::test]
async fn a9_c12_d3_hosts_without_an_address() {
    let with_better = |records: fn(Tree) -> Tree| {
        Scenario::new().tree(|tree, _| records(tree.mx("example.test", 5, "better.example.test")))
    };
    // A9: the lookup of one host's addresses fails, in both families.
    let failing = |tree: Tree| {
        tree.a("better.example.test", "127.0.0.2").fault("better.example.test", "A", SERVFAIL).fault(
            "better.example.test",
            "AAAA",
            SERVFAIL,
        )
    };
    assert_delivered(&sent(with_better(failing)).await, 0, "mx1.example.test");
    // D3: it has none.
    assert_delivered(
        &sent(with_better(|tree| tree.record("better.example.test", "TXT", "x"))).await,
        0,
        "mx1.example.test",
    );
    assert_delivered(&sent(with_better(|tree| tree)).await, 0, "mx1.example.test");
    // C12, decision 5: one family fails, the other has an address.
    let half = Scenario::new().tree(|tree, _| tree.fault("mx1.example.test", "AAAA", SERVFAIL));
    assert_delivered(&sent(half).await, 0, "mx1.example.test");
    // And if the only family with records fails, there is no address to connect to.
    let none = Scenario::new().tree(|tree, _| tree.fault("mx1.example.test", "A", SERVFAIL));
    assert_skipped(&sent(none).await, "451 4.4.3 mx1.example.test: A lookup");
}

#[tokio::test]
async fn c11_d6_d13_the_expanded_name_then_the_original_and_none_between() {
    // C11, D6.
    let identity = || Identity::for_name("end.other.test");
    // Decision 4: aliases of exchanges are followed. At the end; D12: SNI is the base domain.
    let end = aliased(identity(), |tree, port, record| tree.tlsa("end.other.test", port, &record("3 1 1")));
    let found = sent(end).await;
    assert_delivered(&found, 0, "end.other.test");
    assert_eq!(tlsa_questions(&found.0), ["end.other.test"]);
    // At the start.
    let start = aliased(identity(), |tree, port, record| tree.tlsa("start.example.test", port, &record("3 1 1")));
    let found = sent(start).await;
    assert_delivered(&found, 0, "start.example.test");
    assert_eq!(tlsa_questions(&found.0), ["end.other.test", "start.example.test"]);
    let start = aliased(identity(), |tree, port, _| tree.tlsa("start.example.test", port, &wrong()));
    assert!(sent(start).await.1.starts_with("451 4.7.5 "));
    // In the middle: no query goes there, so that a record that matches no key does no harm.
    let middle = aliased(identity(), |tree, port, _| tree.tlsa("middle.example.test", port, &wrong()));
    let found = sent(middle).await;
    assert!(found.1.starts_with("250 "), "{}", found.1);
    assert_eq!(tlsa_questions(&found.0), ["end.other.test", "start.example.test"]);
    // D7: the first name with records decides, with any records at the second.
    let both = aliased(identity(), |tree, port, record| {
        tree.tlsa("end.other.test", port, &wrong()).tlsa("start.example.test", port, &record("3 1 1"))
    });
    let found = sent(both).await;
    assert!(found.1.starts_with("451 4.7.5 "), "{}", found.1);
    assert_eq!(tlsa_questions(&found.0), ["end.other.test"]);
}

#[tokio::test]
async fn d7_an_error_at_the_first_name_does_not_move_on_to_the_second() {
    for fault in [SERVFAIL, Fault::BogusSignature, Fault::Drop, Fault::Stripped, Fault::Empty] {
        let scenario = aliased(Identity::for_name("end.other.test"), |tree, port, record| {
            tree.tlsa("end.other.test", port, &record("3 1 1"))
                .tlsa("start.example.test", port, &record("3 1 1"))
                .fault(&format!("_{port}._tcp.end.other.test"), "TLSA", fault)
        });
        let found = sent(scenario).await;
        assert_skipped(&found, "451 4.7.5 start.example.test: TLSA lookup");
        assert!(!tlsa_questions(&found.0).contains(&"start.example.test".to_owned()));
    }
    // Insecure records there count as none (D7): the second name has its turn.
    let scenario = aliased(Identity::for_name("end.other.test"), |tree, port, record| {
        tree.cname(&format!("_{port}._tcp.end.other.test"), "_dane.plain.test")
            .record("_dane.plain.test", "TLSA", &wrong())
            .tlsa("start.example.test", port, &record("3 1 1"))
    });
    assert_delivered(&sent(scenario).await, 0, "start.example.test");
}

#[tokio::test]
async fn d4_d5_aliases_to_and_from_unsigned_zones() {
    // D4.
    let alias = |owner: &'static str, zone: &'static str, tlsa_at: &'static str, record: fn(&Identity) -> String| {
        Scenario::with_domain(|tree, _| {
            tree.secure("other.test")
                .insecure("plain.test")
                .mx("example.test", 10, owner)
                .cname(owner, &format!("host.{zone}"))
        })
        .host(&format!("host.{zone}"), move |mx, tree, port| {
            let record = record(&mx.identity);
            (mx, tree.tlsa(tlsa_at, port, &record))
        })
    };
    let right: fn(&Identity) -> String = |identity| identity.record("3 1 1");
    let bad: fn(&Identity) -> String = |_| wrong();
    // D5: a secure alias of an insecure host: the original name alone.
    let found = sent(alias("mx.example.test", "plain.test", "mx.example.test", right)).await;
    assert_delivered(&found, 0, "mx.example.test");
    assert_eq!(tlsa_questions(&found.0), ["mx.example.test"]);
    let found = sent(alias("mx.example.test", "plain.test", "mx.example.test", bad)).await;
    assert!(found.1.starts_with("451 4.7.5 "), "{}", found.1);
    // The insecure name is not asked (D2).
    let found = sent(alias("mx.example.test", "plain.test", "host.plain.test", bad)).await;
    assert!(found.1.starts_with("250 "), "{}", found.1);
    assert_eq!(tlsa_questions(&found.0), ["mx.example.test"]);
    // An insecure alias: no name at all, though the host at its end is signed (A15).
    let found = sent(alias("mx.plain.test", "other.test", "host.other.test", bad)).await;
    assert!(found.1.starts_with("250 "), "{}", found.1);
    assert_eq!(tlsa_questions(&found.0), [] as [&str; 0]);
}

#[tokio::test]
async fn d10_d11_records_behind_an_alias() {
    let behind = |target: &'static str, identity: Identity, record: String| {
        Scenario::with_domain(|tree, _| tree.secure("other.test").insecure("plain.test")).host(
            "mx1.example.test",
            move |mut mx, tree, port| {
                mx.identity = identity;
                let tree = tree.mx("example.test", 10, "mx1.example.test").record(target, "TLSA", &record);
                (mx, tree.cname(&format!("_{port}._tcp.mx1.example.test"), target))
            },
        )
    };
    // D10: the names of the certificate are still compared with the host's own.
    let identity = Identity::under_ca("mx1.example.test");
    let record = identity.record("2 1 1");
    assert_delivered(&sent(behind("_dane.other.test", identity, record)).await, 0, "mx1.example.test");
    let identity = Identity::under_ca("_dane.other.test");
    let record = identity.record("2 1 1");
    assert!(sent(behind("_dane.other.test", identity, record)).await.1.starts_with("451 4.7.5 "));
    // D11: an alias to unsigned records is no record.
    let identity = Identity::for_name("mx1.example.test");
    let (lab, answer) = sent(behind("_dane.plain.test", identity.clone(), wrong())).await;
    assert!(answer.starts_with("250 ") && lab.mx().messages().len() == 1, "{answer}");
    // And the absence must be proven.
    let failing =
        behind("_dane.plain.test", identity, wrong()).tree(|tree, _| tree.fault("_dane.plain.test", "TLSA", SERVFAIL));
    assert_skipped(&sent(failing).await, "451 4.7.5 ");
}

#[tokio::test]
async fn d12_the_expanded_name_is_what_certificates_are_held_against() {
    // D12.
    let under_ca = |name: &str| {
        aliased(Identity::under_ca(name), |tree, port, record| tree.tlsa("end.other.test", port, &record("2 1 1")))
    };
    assert_delivered(&sent(under_ca("end.other.test")).await, 0, "end.other.test");
    // R2: a name in the middle is no reference identifier.
    for other in ["middle.example.test", "elsewhere.test"] {
        let answer = sent(under_ca(other)).await.1;
        assert!(answer.starts_with("451 4.7.5 "), "{other}: {answer}");
    }
}

#[tokio::test]
async fn d9_m7_internationalised_names_are_asked_as_a_labels() {
    // D9, M7.
    let exchange = Exchange::new("xn--bcher-kva.test", "mx.xn--bcher-kva.test")
        .script(|mx| mx.ehlo_under_tls = say("250-mx\r\n250-8BITMIME\r\n250 SMTPUTF8"));
    let scenario = Scenario::of([exchange]).tree(|tree, _| tree.secure("xn--bcher-kva.test"));
    let lab = scenario.start().await;
    let mut client = lab.client().await;
    client.command("MAIL FROM:<a@client.test> SMTPUTF8").await;
    let answer = client.command("RCPT TO:<b@b\u{fc}cher.test>").await;
    assert!(answer.starts_with("250 "), "{answer}");
    assert_eq!(tlsa_questions(&lab), ["mx.xn--bcher-kva.test"]);
    assert_eq!(lab.mx().server_names(), [Some("mx.xn--bcher-kva.test".to_owned())]);
}

#[tokio::test]
async fn d14_a_name_too_long_for_its_records_is_a_failure() {
    // D14.
    let name = [&"a".repeat(63), &"b".repeat(63), &"c".repeat(63), &"d".repeat(40), "example.test"].join(".");
    let found = sent(Scenario::of([Exchange::new("example.test", &name).tlsa([])])).await;
    assert_skipped(&found, "451-4.7.5 ");
    assert_eq!(tlsa_questions(&found.0), [] as [&str; 0]);
}

#[tokio::test]
async fn d1_d15_every_question_goes_to_the_same_resolver() {
    // D15.
    let found = sent(Scenario::new()).await;
    assert_delivered(&found, 0, "mx1.example.test");
    let asked = found.0.dns.asked();
    let at = |rtype: &str| asked.iter().position(|question| question.ends_with(rtype)).expect(rtype);
    // D1: addresses before TLSA.
    assert!(at(" MX") < at(" A") && at(" A") < at(" TLSA") && at(" AAAA") < at(" TLSA"), "{asked:?}");
}

/// A host that a rule names is a destination without MX records: no MX query is made, its CNAMEs are followed by the
/// rules for hosts, and its own names are the reference identifiers (RFC 7672 §2.2.2, §3.2.2).
#[tokio::test]
async fn d16_a_next_hop_that_a_rule_names() {
    // D16.
    let rule = |rest: &str| format!("[[rule]]\ndomain = 'example.test'\nlevel = 'dane-only'\nnext_hop = {rest}");
    let by_way = |identity: Identity, form: &'static str| {
        Scenario::with_domain(|tree, _| {
            tree.mx("example.test", 10, "elsewhere.example.test").cname("relay.example.test", "end.example.test")
        })
        .host("end.example.test", |mut mx, tree, port| {
            let record = identity.record(form);
            mx.identity = identity;
            (mx, tree.tlsa("end.example.test", port, &record))
        })
        .set(&rule("'relay.example.test'"))
    };
    for (identity, form) in [
        (Identity::for_name("anything"), "3 1 1"),
        (Identity::under_ca("end.example.test"), "2 1 1"),
        (Identity::under_ca("relay.example.test"), "2 1 1"),
    ] {
        let found = sent(by_way(identity, form)).await;
        assert_delivered(&found, 0, "end.example.test");
        assert!(!found.0.dns.asked().iter().any(|question| question.ends_with(" MX")), "{:?}", found.0.dns.asked());
    }
    // The recipient's domain is no name of the host.
    let (lab, answer) = sent(by_way(Identity::under_ca("example.test"), "2 1 1")).await;
    assert!(answer.starts_with("451") && lab.mx().messages().is_empty(), "{answer}");
    // This host itself.
    let loops = Scenario::new().set(&rule("'danelaw.test'"));
    assert_skipped(&sent(loops).await, "554 5.4.6 ");
}
