//! The delivery path in one process: each test is the happy path with one thing changed.
//!
//! The tests cover the lies of a peer and the replies to the client. Row ids are those of the requirements (A1, H3) and
//! of the attacks (A-05).

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::lab::certs::Identity;
use crate::lab::client::Client;
use crate::lab::dns::Fault;
use crate::lab::exchange::Exchange;
use crate::lab::mx::{Act, say};
use crate::lab::{self, Lab, MESSAGE, Scenario, wait_for};
use danelaw::dns::stub::Stub;
use danelaw::dns::{Failure, HostLookup, Lookup, Mx as MxRecord, RawTlsa, RawTxt, Resolver};
use danelaw::name::Name;
use danelaw::server::Drained;
use danelaw::session::{Origin, Stop};
use danelaw::transaction::dialogue::Service;
use danelaw::wire::BLOCK;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The client keeps the mail, its last reply starts with `reply`, and no exchange saw a mail command.
async fn refused(scenario: Scenario, reply: &str) -> Lab {
    let lab = scenario.start().await;
    let answers = lab.send().await;
    assert!(answers.last().starts_with(reply), "{reply:?} expected, got {:?}", answers.last());
    assert_eq!(answers.data, None, "no recipient was accepted, so DATA was never said");
    for seen in &lab.seen {
        assert!(!seen.saw_mail(), "{seen:?}");
        assert!(seen.messages().is_empty());
    }
    lab
}

/// The mail is delivered by the exchange with this index, and by no other.
async fn delivered(scenario: Scenario, index: usize) -> Lab {
    let lab = scenario.start().await;
    let answers = lab.send().await;
    assert!(answers.last().starts_with("250 2.0.0 "), "{answers:?}");
    for (at, seen) in lab.seen.iter().enumerate() {
        assert_eq!(seen.messages().len(), usize::from(at == index), "exchange {at}: {seen:?}");
        assert!(seen.clear().iter().all(|line| line.starts_with("EHLO ") || line == "STARTTLS" || line == "QUIT"));
    }
    lab
}

/// The only exchange of `example.test`.
fn mx1() -> Exchange {
    Exchange::new("example.test", "mx1.example.test")
}

/// The happy path with a second exchange that is all right.
fn with_second() -> Scenario {
    Scenario::new().exchange(Exchange::new("example.test", "mx2.example.test").preference(20))
}

#[tokio::test]
async fn happy_path() {
    let lab = delivered(Scenario::new(), 0).await;
    let stored = String::from_utf8(lab.mx().messages().remove(0)).unwrap();
    // I13, I15, I17: one field of ours in front, the rest as it was sent, dots included.
    let (ours, rest) = stored.split_once("From: ").unwrap();
    assert!(ours.starts_with("Received: from client.test ([127.0.0.1])\r\n\tby danelaw.test (danelaw) with ESMTP id "));
    assert_eq!(format!("From: {rest}").as_bytes(), MESSAGE);
    // G1, G2: SNI is the TLSA base domain, and the server need not look at it: this one has one certificate for all;
    // H6: EHLO first under TLS, with the client's own name.
    assert_eq!(lab.mx().server_names(), [Some("mx1.example.test".to_owned())]);
    assert_eq!(
        lab.mx().tls()[..4],
        ["EHLO client.test", "MAIL FROM:<a@client.test>", "RCPT TO:<b@example.test>", "DATA"]
    );
    // D1, D8: addresses before TLSA, and TLSA for the port of the connection.
    let asked = lab.dns.asked();
    let first = |rtype: &str| asked.iter().position(|question| question.ends_with(rtype)).unwrap();
    assert!(first(" A") < first(" TLSA"), "{asked:?}");
}

#[tokio::test]
async fn every_kind_of_record_that_matches() {
    // E6, F1.
    for form in ["3 1 1", "3 0 1", "3 1 2", "3 0 2", "3 1 0", "3 0 0", "2 1 1", "2 0 1", "2 1 2", "2 0 0", "2 1 0"] {
        let identity = Identity::under_ca("mx1.example.test");
        let scenario = Scenario::of([mx1().identity(identity, form)]);
        delivered(scenario, 0).await;
    }
}

#[tokio::test]
async fn digests_by_setting() {
    // E4, E7, E8, A-28: the weaker digest is right and the stronger is wrong; a setting says which one is the stronger.
    let scenario = || {
        let wrong = Identity::for_name("other").record("3 1 2");
        Scenario::new().tree(|tree, port| tree.tlsa("mx1.example.test", port, &wrong))
    };
    // Where refusal and remedy do not fit into one line, there are two.
    refused(scenario(), "451-4.7.5 mx1.example.test[127.0.0.1]: the server could not be verified").await;
    for digests in ["['sha256', 'sha512']", "['sha256']"] {
        delivered(scenario().set(&format!("tls.digests = {digests}")), 0).await;
    }
    // E4, B2: with only a disabled digest TLS is mandatory, and no host is verified.
    let disabled = |ehlo: &'static str| {
        let wrong = Identity::for_name("other").record("3 1 2");
        Scenario::of([mx1().tlsa([wrong]).script(|mx| mx.ehlo = say(ehlo))]).set("tls.digests = ['sha256']")
    };
    delivered(disabled("250-mx\r\n250 STARTTLS"), 0).await;
    // B8.
    refused(disabled("250 mx"), "451 4.7.4 ").await;
    refused(disabled("250-mx\r\n250 STARTTLS").set("tls.level = 'dane-only'"), "451 4.7.5 ").await;
}

#[tokio::test]
async fn many_large_records() {
    // E9, E10, A22: thirty certificates in full, 40 KB over TCP, and the server's own is one of them.
    let names: Vec<String> = (0..60).map(|index| format!("host{index}.example.test")).collect();
    let others = (0..29).map(|_| {
        let key = rcgen::KeyPair::generate().unwrap();
        let other = rcgen::CertificateParams::new(names.clone()).unwrap().self_signed(&key).unwrap();
        let hex: String = other.der().iter().map(|octet| format!("{octet:02x}")).collect();
        format!("3 0 0 {hex}")
    });
    let exchange = mx1();
    let right = exchange.record("3 0 0");
    delivered(Scenario::of([exchange.tlsa(others.chain([right]))]), 0).await;
}

#[tokio::test]
async fn starttls_is_not_offered_or_refused() {
    let stripped = |scenario: Scenario| scenario.mx(|mx| mx.ehlo = say("250-mx\r\n250 PIPELINING"));
    // A-01, B5: stripped. H10.
    let lab = refused(stripped(Scenario::new()), "451 4.7.4 mx1.example.test[127.0.0.1]: TLS is required").await;
    assert!(!lab.mx().clear().iter().any(|line| line == "STARTTLS"));
    // B1: with another exchange that is all right, delivered there.
    delivered(stripped(with_second()), 1).await;
    // Decision 1: the same for a domain that publishes no TLSA records.
    refused(stripped(Scenario::of([mx1().tlsa([])])), "451 4.7.4 ").await;
    // A-02, A-03, H3, H11: any code but 220 is no go-ahead.
    for code in ["200", "221", "250", "354", "421", "454", "500", "501", "502", "530", "550"] {
        let scenario = Scenario::new().mx(|mx| mx.starttls = say(&format!("{code} no")));
        refused(scenario, "451 4.7.4 mx1.example.test[127.0.0.1]: TLS is required, but STARTTLS was answered").await;
    }
    // A-04, H12: no falling back to HELO.
    let lab = refused(Scenario::new().mx(|mx| mx.ehlo = say("502 5.5.1 what?")), "451 4.7.4 ").await;
    assert!(!lab.mx().clear().iter().any(|line| line.starts_with("HELO")));
}

#[tokio::test]
async fn plaintext_around_the_handshake() {
    // A-05, H5: in the same segment as the 220.
    let injected = Act::Say("220 go\r\n250-mx\r\n250 AUTH LOGIN\r\n".into());
    refused(Scenario::new().mx(|mx| mx.starttls = injected), "451 4.7.5 ").await;
    let partial = Act::Say("220 go\r\n2".into());
    refused(Scenario::new().mx(|mx| mx.starttls = partial), "451 4.7.5 ").await;
    // A-06, G9: where the handshake should be.
    for text in ["250 ok\r\n", "220 go\r\n", "HTTP/1.1 200 OK\r\n\r\n", "\r\n"] {
        let scenario = Scenario::new().mx(|mx| mx.instead_of_tls = Some(Act::Say(text.into())));
        refused(scenario, "451 4.7.5 ").await;
    }
    // A-14: the remote sends no octet; the handshake has a limit.
    let scenario = Scenario::new().mx(|mx| mx.instead_of_tls = Some(Act::Hang));
    refused(scenario.set("timeouts.handshake = '300ms'"), "451 4.7.5 ").await;
    // Closed: it looks like an outage, and even so the mail does not go in the clear.
    let scenario = Scenario::new().mx(|mx| mx.instead_of_tls = Some(Act::Close));
    refused(scenario, "451 4.").await;
}

#[tokio::test]
async fn certificate_does_not_match() {
    let other = || Identity::for_name("mx1.example.test");
    let mismatch = |scenario: Scenario| scenario.mx(|mx| mx.identity = other());
    // A-13, A-20, B10, F19.
    let lab =
        refused(mismatch(Scenario::new()), "451 4.7.5 mx1.example.test[127.0.0.1]: the server could not be verified")
            .await;
    assert_eq!(lab.mx().tls(), [] as [&str; 0]);
    delivered(mismatch(with_second()), 1).await;
}

#[tokio::test]
async fn right_certificate_wrong_key() {
    // A-22, F3, G10: the certificate is public, the key is not.
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let scenario = Scenario::new().mx(|mx| {
            mx.identity = mx.identity.clone().with_wrong_key();
            mx.versions = vec![version];
        });
        refused(scenario, "451 4.7.5 mx1.example.test[127.0.0.1]: the server did not prove").await;
    }
}

#[tokio::test]
async fn lookups_that_fail() {
    let owner = |scenario: Scenario, fault: Fault| {
        scenario.tree(|tree, port| tree.fault(&format!("_{port}._tcp.mx1.example.test"), "TLSA", fault))
    };
    use hickory_resolver::proto::op::ResponseCode;
    for fault in [
        Fault::BogusSignature,
        Fault::Drop,
        Fault::Rcode(ResponseCode::ServFail),
        Fault::Rcode(ResponseCode::Refused),
        Fault::Rcode(ResponseCode::NotImp),
        Fault::Stripped,
        Fault::Empty,
    ] {
        // A7, A10, A-40: a TLSA lookup that fails is no absence, and not even a connection is made.
        let lab = refused(owner(Scenario::new(), fault.clone()), "451 4.7.5 mx1.example.test: TLSA lookup").await;
        assert_eq!(lab.mx().connections(), 0);
        // A8, C4, A-46: an MX lookup that fails is no implicit MX.
        let scenario =
            Scenario::new().tree(|tree, _| tree.a("example.test", "127.0.0.1").fault("example.test", "MX", fault));
        let lab = refused(scenario, "451 4.4.3 MX lookup").await;
        assert_eq!(lab.mx().connections(), 0);
    }
    // A11, B1: the other exchange is all right.
    delivered(owner(with_second(), Fault::Drop), 1).await;
}

#[tokio::test]
async fn without_dane_tls_is_still_required() {
    // B3 with decision 1, D2: no DNSSEC: no TLSA question, encrypted all the same.
    let lab = delivered(
        Scenario::of([
            Exchange::new("example.test", "mx.plain.test").tlsa([Identity::for_name("other").record("3 1 1")])
        ])
        .tree(|tree, _| tree.insecure("plain.test")),
        0,
    )
    .await;
    assert!(lab.dns.asked().iter().all(|question| !question.ends_with("TLSA")), "{:?}", lab.dns.asked());
    // A6: a proven absence.
    delivered(Scenario::of([mx1().tlsa([])]), 0).await;
    // B2, E12: only unusable records: TLS, unauthenticated; but never without TLS.
    let unusable = || {
        let exchange = mx1();
        let record = exchange.record("3 1 1").replacen('3', "1", 1);
        Scenario::of([exchange.tlsa([record])])
    };
    delivered(unusable(), 0).await;
    // B8.
    refused(unusable().mx(|mx| mx.ehlo = say("250 mx")), "451 4.7.4 ").await;
    // B6: at the level `dane-only` that is not enough.
    let lab = refused(unusable().set("tls.level = 'dane-only'"), "451 4.7.5 mx1.example.test: DANE is required").await;
    assert_eq!(lab.mx().connections(), 0);
}

#[tokio::test]
async fn insecure_mx_with_a_secure_host() {
    let scenario =
        || Scenario::of([Exchange::new("plain.test", "mx1.example.test")]).tree(|tree, _| tree.insecure("plain.test"));
    let send = async |scenario: Scenario| {
        let lab = scenario.start().await;
        let answers = lab.client().await.send(&["b@plain.test"], MESSAGE).await;
        (lab, answers.last().to_owned())
    };
    // C17, decision 3: the host is verified by its records.
    assert!(send(scenario()).await.1.starts_with("250 "));
    let other = |scenario: Scenario| scenario.mx(|mx| mx.identity = Identity::for_name("mx1.example.test"));
    assert!(send(other(scenario())).await.1.starts_with("451 4.7.5 "));
    // By setting, they are not asked for.
    let (lab, answer) = send(other(scenario()).set("tls.insecure_mx = 'encrypt'")).await;
    assert!(answer.starts_with("250 "), "{answer}");
    assert!(lab.dns.asked().iter().all(|question| !question.ends_with("TLSA")));
    // C16, B6: that is not enough where DANE is required.
    assert!(send(scenario().set("tls.level = 'dane-only'")).await.1.starts_with("451 4.7.5 "));
}

/// A rule for `example.test` that has not ended.
fn rule(level: &str) -> String {
    format!("rule = [{{ domain = 'example.test', level = '{level}', reason = 'a test', until = '9999-12-31' }}]")
}

#[tokio::test]
async fn cleartext_only_by_a_rule() {
    let in_clear = |lab: &Lab| lab.mx().clear().iter().any(|line| line.starts_with("MAIL"));
    // Decisions 1 and 2: where TLS is offered it is used.
    let lab = delivered(Scenario::new().set(&rule("may")), 0).await;
    assert!(!in_clear(&lab) && lab.dns.asked().iter().all(|question| !question.ends_with("TLSA")));
    // B3: where it is not offered, or does not work (B4, on a new connection), the mail goes without.
    type Change = fn(&mut lab::mx::Mx);
    let cases: [(Change, usize); 3] = [
        (|mx| mx.ehlo = say("250 mx"), 2),
        (|mx| mx.starttls = say("454 not now"), 2),
        (|mx| mx.instead_of_tls = Some(Act::Say("what?\r\n".into())), 2),
    ];
    for (change, connections) in cases {
        let lab = Scenario::new().mx(change).set(&rule("may")).start().await;
        assert!(lab.send().await.last().starts_with("250 2.0.0 "));
        assert!(in_clear(&lab) && lab.mx().messages().len() == 1);
        assert_eq!(lab.mx().connections(), connections);
        // The rule is for that domain; it changes no other domain.
        let other = "rule = [{ domain = '.example.test', level = 'may', reason = 'a test', until = '9999-12-31' }]";
        refused(Scenario::new().mx(change).set(other), "451 4.7.").await;
        // K4: a host that does not answer at all is no reason to go without TLS.
        refused(Scenario::new().mx(change).mx(|mx| mx.greeting = say("554 no")).set(&rule("may")), "451 4.4.1 ").await;
    }
}

#[tokio::test]
async fn pins_of_the_configuration() {
    let pin =
        |record: &str| format!("rule = [{{ domain = 'example.test', level = 'fingerprint', records = ['{record}'] }}]");
    let identity = Identity::under_ca("mx1.example.test");
    let scenario = || {
        let identity = identity.clone();
        Scenario::of([mx1().tlsa([]).script(|mx| mx.identity = identity)])
    };
    // Decision 2: the rule's own records, by the same code.
    for form in ["3 1 1", "2 0 1"] {
        let lab = delivered(scenario().set(&pin(&identity.record(form))), 0).await;
        assert!(lab.dns.asked().iter().all(|question| !question.ends_with("TLSA")));
    }
    let other = Identity::for_name("mx1.example.test").record("3 1 1");
    refused(scenario().set(&pin(&other)), "451 4.7.5 mx1.example.test[127.0.0.1]: the server could not").await;
    refused(scenario().mx(|mx| mx.ehlo = say("250 mx")).set(&pin(&identity.record("3 1 1"))), "451 4.7.4 ").await;
}

#[tokio::test]
async fn permanent_answers_of_the_dns() {
    let send = async |scenario: Scenario, to: &str| {
        let lab = scenario.start().await;
        lab.client().await.send(&[to], MESSAGE).await.last().to_owned()
    };
    let null = Scenario::with_domain(|tree, _| tree.mx("example.test", 0, "."));
    // C13, N4.
    assert!(send(null, "b@example.test").await.starts_with("556 5.1.10 "));
    // C3.
    assert!(send(Scenario::new(), "b@missing.example.test").await.starts_with("550 5.4.4 "));
    // C6: MX exists, so the domain's own address does not count.
    let nowhere = Scenario::with_domain(|tree, _| {
        tree.mx("example.test", 10, "gone.example.test").a("example.test", "127.0.0.1")
    });
    assert!(send(nowhere, "b@example.test").await.starts_with("550 5.4.4 gone.example.test: "));
    // C10, A-52.
    let ours = Scenario::with_domain(|tree, _| tree.mx("example.test", 10, "danelaw.test"));
    assert!(send(ours, "b@example.test").await.starts_with("554 5.4.6 "));
    let clients = Scenario::with_domain(|tree, _| tree.mx("example.test", 10, "client.test"));
    assert!(send(clients, "b@example.test").await.starts_with("554 5.4.6 "));
    // The implicit MX is an exchange like any other.
    let implicit = Scenario::with_domain(|tree, _| tree.secure("client.test").a("client.test", "127.0.0.9"));
    assert!(send(implicit, "b@client.test").await.starts_with("554 5.4.6 "));
    // A-51: danelaw does not connect to reserved addresses, and the text says how to allow them.
    let reserved = Scenario::new().set("remote.allow_reserved = []");
    let answer = send(reserved, "b@example.test").await;
    assert!(answer.starts_with("550 5.4.4 ") && answer.contains("remote.allow_reserved"), "{answer}");
}

#[tokio::test]
async fn an_unanswered_address_family_makes_no_failure_permanent() {
    // N1, C12: one family has only reserved addresses, and the other cannot be known.
    for (answers, fails) in [("AAAA", "A"), ("A", "AAAA")] {
        let scenario = Scenario::with_domain(|tree, _| {
            let tree = tree.mx("example.test", 10, "mx1.example.test");
            let tree = match answers {
                "A" => tree.a("mx1.example.test", "10.0.0.1"),
                _ => tree.aaaa("mx1.example.test", "fd00::1"),
            };
            tree.fault("mx1.example.test", fails, Fault::Drop)
        });
        refused(scenario, &format!("451 4.4.3 mx1.example.test: {fails} lookup")).await;
    }
}

#[tokio::test]
async fn implicit_mx() {
    // C5: no MX, so the domain itself is the host.
    let scenario = Scenario::with_domain(|tree, _| tree).host("example.test", |mx, tree, port| {
        let record = mx.identity.record("3 1 1");
        (mx, tree.tlsa("example.test", port, &record))
    });
    delivered(scenario, 0).await;
}

#[tokio::test]
async fn greeting_is_no_answer_to_the_mail() {
    // K4, decision 12: the next host, and 451 when none is left.
    for greeting in ["421 busy", "450 no", "500 no", "521 no", "554 no", "250 ok", "354 go", "999 what", "hello"] {
        let greets = |scenario: Scenario| scenario.mx(|mx| mx.greeting = say(greeting));
        refused(greets(Scenario::new()), "451 4.").await;
        delivered(greets(with_second()), 1).await;
    }
    // A-11: no greeting at all.
    for greeting in [Act::Hang, Act::Close] {
        let greets =
            |scenario: Scenario| scenario.mx(|mx| mx.greeting = greeting.clone()).set("timeouts.greeting = '300ms'");
        refused(greets(Scenario::new()), "451 4.4.2 ").await;
        delivered(greets(with_second()), 1).await;
    }
    // A-60: endless.
    let endless = Act::Say("220-and\r\n".repeat(100_000));
    refused(Scenario::new().mx(|mx| mx.greeting = endless), "451 4.").await;
}

#[tokio::test]
async fn connection_is_refused() {
    // C9: the first address refuses the connection, the second takes the mail.
    let scenario = Scenario::new()
        .tree(|tree, _| tree.mx("example.test", 5, "dead.example.test").a("dead.example.test", "127.0.0.99"));
    let lab = delivered(scenario, 0).await;
    assert_eq!(lab.mx().connections(), 1);
    let scenario = Scenario::with_domain(|tree, _| {
        tree.mx("example.test", 5, "dead.example.test").a("dead.example.test", "127.0.0.99")
    });
    refused(scenario, "451 4.4.1 dead.example.test[127.0.0.99]: cannot connect").await;
}

#[tokio::test]
async fn ehlo_under_tls() {
    // A-09, H14: refused, the host fails.
    refused(Scenario::new().mx(|mx| mx.ehlo_under_tls = say("500 what?")), "451 4.4.1 ").await;
    // A-08, H4: the offer in the clear (SIZE 99) is forgotten; the offer under TLS counts.
    let scenario = Scenario::new().mx(|mx| mx.ehlo_under_tls = say("250-mx\r\n250 SIZE 2000"));
    let lab = scenario.start().await;
    let mut client = lab.client().await;
    client.command("MAIL FROM:<a@client.test> SIZE=900").await;
    assert!(client.command("RCPT TO:<b@example.test>").await.starts_with("250 "));
    client.command("RSET").await;
    // I21, L15: with danelaw's trace line it would be more than the remote takes, and without one octet of it not.
    let line = lab.mx().tls().iter().find_map(|line| line.split_once("SIZE=").map(|(_, size)| size.to_owned()));
    let added = line.unwrap().parse::<u64>().unwrap() - 900;
    for (size, answer) in [(2000 - added, "250 "), (2001 - added, "552 5.3.4 ")] {
        client.command("RSET").await;
        client.command(&format!("MAIL FROM:<a@client.test> SIZE={size}")).await;
        assert!(client.command("RCPT TO:<b@example.test>").await.starts_with(answer), "{size}");
    }
    // M1: 8-bit mail to a remote that does not take it, declared or not.
    for declared in [" BODY=8BITMIME", ""] {
        client.command("RSET").await;
        client.command(&format!("MAIL FROM:<a@client.test>{declared}")).await;
        assert!(client.command("RCPT TO:<b@example.test>").await.starts_with("250 "));
        client.command("DATA").await;
        client.write("gr\u{fc}\u{df}e\r\n.\r\n".as_bytes()).await;
        assert!(client.reply().await.starts_with("554 5.6.3 "));
    }
    assert!(lab.mx().messages().is_empty());
    // M4.
    client.command("MAIL FROM:<\u{e4}@client.test> SMTPUTF8").await;
    assert!(client.command("RCPT TO:<b@example.test>").await.starts_with("553 5.6.7 "));
    // M3: the parameter is not passed on where the extension is missing.
    assert!(lab.mx().tls().iter().all(|line| !line.contains("BODY=")));
}

#[tokio::test]
async fn the_remotes_own_answers() {
    type Change = fn(&mut lab::mx::Mx);
    let cases: [(Change, &str); 9] = [
        (|mx| mx.mail = say("550 5.7.1 not you"), "550 5.7.1 mx1.example.test[127.0.0.1]: not you"),
        (|mx| mx.mail = say("452 4.3.1 full"), "452 4.3.1 mx1.example.test[127.0.0.1]: full"),
        (|mx| mx.rcpt = vec![say("550 5.1.1 no such user")], "550 5.1.1 mx1.example.test[127.0.0.1]: no such user"),
        (
            |mx| mx.rcpt = vec![say("452-4.2.2 full\r\n452 4.2.2 up")],
            "452-4.2.2 mx1.example.test[127.0.0.1]: full\n452 4.2.2 mx1.example.test[127.0.0.1]: up",
        ),
        (|mx| mx.rcpt = vec![say("450 later")], "450 4.0.0 mx1.example.test[127.0.0.1]: later"),
        (|mx| mx.data = say("554 5.5.1 no"), "554 5.5.1 mx1.example.test[127.0.0.1]: no"),
        (|mx| mx.end = say("554 5.7.1 spam"), "554 5.7.1 mx1.example.test[127.0.0.1]: spam"),
        (|mx| mx.end = say("451 4.3.0 later"), "451 4.3.0 mx1.example.test[127.0.0.1]: later"),
        // L8: 421 would close the client's session; it closes only the remote's.
        (|mx| mx.end = say("421 4.3.2 bye"), "451 4.3.2 mx1.example.test[127.0.0.1]: 421 bye"),
    ];
    for (change, answer) in cases {
        let lab = Scenario::new().mx(change).start().await;
        // K18, L8, L9.
        assert_eq!(lab.send().await.last(), answer);
    }
}

#[tokio::test]
async fn recipients_are_answered_one_by_one() {
    // K18.
    let turns = vec![say("250 2.1.5 ok"), say("550 5.1.1 no"), say("251 2.1.5 will forward"), say("450 4.2.1 later")];
    let lab = Scenario::new().mx(|mx| mx.rcpt = turns).start().await;
    let to = ["a@example.test", "b@example.test", "c@example.test", "d@example.test", "e@plain.test"];
    let answers = lab.client().await.send(&to, MESSAGE).await;
    let codes: Vec<_> = answers.rcpt.iter().map(|reply| &reply[..9]).collect();
    // L3: another domain's recipient is for another transaction.
    assert_eq!(codes, ["250 2.1.5", "550 5.1.1", "251 2.1.5", "450 4.2.1", "452 4.5.3"]);
    assert!(answers.last().starts_with("250 "));
    assert_eq!(lab.mx().messages().len(), 1);
    // K13: the recipients for which the remote has no room are asked for again, and alone it is a no.
    let turns = vec![say("250 2.1.5 ok"), say("552 too many recipients")];
    let lab = Scenario::new().mx(|mx| mx.rcpt = turns).start().await;
    let answers = lab.client().await.send(&["a@example.test", "b@example.test"], MESSAGE).await;
    assert!(
        answers.rcpt[1].starts_with("452 4.5.3 mx1.example.test[127.0.0.1]: 552 too many recipients"),
        "{answers:?}"
    );
    let lab = Scenario::new().mx(|mx| mx.rcpt = vec![say("552 too many recipients")]).start().await;
    assert!(lab.send().await.last().starts_with("552 5.0.0 "));
}

#[tokio::test]
async fn the_remote_breaks() {
    type Change = fn(&mut lab::mx::Mx);
    let cases: [(Change, &str); 13] = [
        // A-66, K12: at each step.
        (|mx| mx.mail = Act::Close, "451 4.4.2 "),
        (|mx| mx.rcpt = vec![Act::Close], "451 4.4.2 "),
        (|mx| mx.data = Act::Close, "451 4.4.2 "),
        (|mx| mx.data = Act::Hang, "451 4.4.2 "),
        (|mx| mx.amid_message = Some(Act::Close), "451 4.4.2 "),
        // L6, I24, A-100: after the end of data and before its answer: never 2xx.
        (|mx| mx.end = Act::Close, "451 4.4.2 "),
        (|mx| mx.end = Act::Hang, "451 4.4.2 "),
        // L12, A-32: an answer without its end is no answer.
        (|mx| mx.end = Act::SayAndClose("250 2.0.0 ok".into()), "451 4.4.2 "),
        (|mx| mx.end = Act::SayAndClose("250-2.0.0 ok\r\n".into()), "451 4.4.2 "),
        // K2, A-61.
        (|mx| mx.end = say("999 ok"), "451 4."),
        (|mx| mx.end = say("354 more"), "451 4."),
        (|mx| mx.end = say("221 bye"), "451 4."),
        // K11.
        (|mx| mx.data = say("250 ok"), "451 4.5.0 "),
    ];
    for (change, answer) in cases {
        let lab = Scenario::new().mx(change).set("timeouts.final = '300ms'\ntimeouts.data = '300ms'").start().await;
        let mut client = lab.client().await;
        let answers = client.send(&["b@example.test"], MESSAGE).await;
        assert!(answers.last().starts_with(answer), "{answer:?} expected, got {answers:?}");
        // The client's session goes on.
        assert!(client.command("RSET").await.starts_with("250 "));
        assert!(client.command("NOOP").await.starts_with("250 "));
    }
    let lab = Scenario::new().mx(|mx| mx.end = Act::SayAndClose("250 2.0.0 ok\r\n".into())).start().await;
    assert!(lab.send().await.last().starts_with("250 2.0.0 "));
}

#[tokio::test]
async fn the_answer_is_cut_off() {
    // A-32, G8, L12: the connection is cut at every octet, by FIN without a close_notify or by RST. A complete answer
    // stands all the same.
    for answer in ["250 2.0.0 ok\r\n", "250-2.0.0 o\r\n250 k\r\n"] {
        for cut in 0..=answer.len() {
            for end in [Act::SayAndCut(answer[..cut].into()), Act::SayAndReset(answer[..cut].into())] {
                let lab = Scenario::new().mx(|mx| mx.end = end).start().await;
                let answers = lab.send().await;
                let expected = if cut == answer.len() { "250" } else { "451 4.4.2 " };
                assert!(answers.last().starts_with(expected), "{:?}: {answers:?}", &answer[..cut]);
            }
        }
    }
    // A-33: octets in the clear behind the close_notify are no answer.
    let lab = Scenario::new().mx(|mx| mx.end = Act::CloseAndSayInClear("250 2.0.0 ok\r\n".into())).start().await;
    assert!(lab.send().await.last().starts_with("451 4.4.2 "));
    // G8, RFC 8446 §6.1: danelaw's own sessions end with one.
    let lab = Scenario::new().start().await;
    let mut client = lab.client().await;
    client.send(&["b@example.test"], MESSAGE).await;
    client.command("QUIT").await;
    wait_for(|| lab.mx().closed() == 1).await;
}

#[tokio::test]
async fn starttls_under_tls() {
    // A-10, H7: an offer of STARTTLS under TLS, which danelaw does not take up.
    let lab = delivered(Scenario::new().mx(|mx| mx.ehlo_under_tls = say("250-mx\r\n250 STARTTLS")), 0).await;
    assert!(!lab.mx().tls().iter().any(|line| line.starts_with("STARTTLS")), "{:?}", lab.mx().tls());
    // A-07, H13: danelaw offers no STARTTLS to the client either.
    let mut client = lab.client().await;
    assert!(!client.command("EHLO client.test").await.contains("STARTTLS"));
    assert!(client.command("STARTTLS").await.starts_with('5'));
}

#[tokio::test]
async fn answers_before_their_time() {
    // A-62: two replies to one command.
    let lab = Scenario::new().mx(|mx| mx.mail = say("250 2.1.0 ok\r\n250 2.1.5 ok")).start().await;
    assert!(lab.send().await.last().starts_with("451 4.5.0 "));
    // More than the kernel's buffers on both sides hold: the remote must have spoken before the end is sent.
    let big: Vec<u8> = b"0123456789012345678901234567890123456789012345678901234567890123456789\r\n".repeat(200_000);
    for (said, answer) in [
        // A-64: a yes before the end of data is no answer to the message.
        ("250 2.0.0 ok", "451 4.5.0 "),
        // A-65: a no is, and the client's message is read to its end.
        ("552 5.3.4 too much", "552 5.3.4 mx1.example.test[127.0.0.1]: too much"),
        ("451 4.3.0 trouble", "451 4.3.0 "),
    ] {
        let lab = Scenario::new().mx(|mx| mx.amid_message = Some(say(said))).start().await;
        let mut client = lab.client().await;
        let answers = client.send(&["b@example.test"], &big).await;
        assert!(answers.last().starts_with(answer), "{said}: {answers:?}");
        assert!(lab.mx().messages().is_empty());
        assert!(client.command("NOOP").await.starts_with("250 "));
    }
}

#[tokio::test]
async fn the_client_goes_away() {
    // L2, A-103, A-86: in the middle of the message; the exchange stores no message, at any place of the cut.
    for sent in ["", "F", "From: x\r\n", "From: x\r\n\r\nbody\r\n", "body\r\n.", "body\r\n.\r"] {
        let lab = Scenario::new().start().await;
        let mut client = lab.client().await;
        for command in ["MAIL FROM:<a@client.test>", "RCPT TO:<b@example.test>", "DATA"] {
            client.command(command).await;
        }
        client.write(sent.as_bytes()).await;
        client.vanish();
        wait_for(|| lab.mx().cut() == 1).await;
        assert!(lab.mx().messages().is_empty(), "{sent:?}");
    }
    // L13: between the commands; the exchange sees QUIT.
    let lab = Scenario::new().start().await;
    let mut client = lab.client().await;
    client.command("MAIL FROM:<a@client.test>").await;
    client.command("RCPT TO:<b@example.test>").await;
    client.vanish();
    wait_for(|| lab.mx().tls().last().is_some_and(|line| line == "QUIT")).await;
}

#[tokio::test]
async fn one_message_stays_one_message() {
    // A-80, A-81, I11, I12: only CRLF.CRLF ends the message, here and at the remote.
    for smuggled in [
        "\n.\n",
        "\n.\r",
        "\r.\n",
        "\r.\r",
        "\n.\r\n",
        "\r.\r\n",
        "\r\n.\n",
        "\r\n.\r",
        "\r\n\0.\r\n",
        "\r\n.\0\r\n",
        "\r\n.\r\r\n",
    ] {
        let lab = Scenario::new().start().await;
        let mut client = lab.client().await;
        for command in ["MAIL FROM:<a@client.test>", "RCPT TO:<b@example.test>", "DATA"] {
            client.command(command).await;
        }
        let message = format!(
            "Subject: x\r\n\r\none{smuggled}MAIL FROM:<evil@client.test>\r\nRCPT TO:<c@example.test>\r\nDATA\r\ntwo\r\n.\r\n"
        );
        client.write(message.as_bytes()).await;
        assert!(client.reply().await.starts_with("250 "), "{smuggled:?}");
        assert_eq!(lab.mx().messages().len(), 1, "{smuggled:?}");
        let stored = lab.mx().messages().remove(0);
        assert!(stored.ends_with(b"DATA\r\ntwo\r\n"), "{smuggled:?}");
    }
    // The other setting: refused at the end, and never delivered.
    let lab = Scenario::new().set("limits.bare_newlines = 'reject'").start().await;
    let mut client = lab.client().await;
    let answers = client.send(&["b@example.test"], b"bare\nnewline\r\n").await;
    assert!(answers.last().starts_with("554 5.5.2 "), "{answers:?}");
    let answers = client.send(&["b@example.test"], b"Subject: x\r\n\r\na\0b\r\n").await;
    assert!(answers.last().starts_with("554 5.6.0 the message has a NUL"), "{answers:?}");
    assert!(lab.mx().messages().is_empty());
}

#[tokio::test]
async fn messages_of_every_size() {
    // L10, I14: empty, one line, and far more than any buffer.
    for size in [0, 1, 20_000] {
        let lab = Scenario::new().set("received = false\ntimeouts.final = '20s'").start().await;
        let message = b"0123456789012345678901234567890123456789012345678901234567890123456789\r\n".repeat(size);
        let answers = lab.client().await.send(&["b@example.test"], &message).await;
        assert!(answers.last().starts_with("250 "), "{answers:?}");
        assert!(lab.mx().messages() == [message]);
    }
    // I21: more than danelaw takes, with the size declared or not.
    let lab = Scenario::new().set("limits.message_size = '64KiB'").start().await;
    let mut client = lab.client().await;
    assert!(client.command("MAIL FROM:<a@client.test> SIZE=70000").await.starts_with("552 5.3.4 "));
    let answers = client.send(&["b@example.test"], &b"0123456789\r\n".repeat(6000)).await;
    assert!(answers.last().starts_with("552 5.3.4 "), "{answers:?}");
    assert!(lab.mx().messages().is_empty());
    // I16, A-94.
    let lab = Scenario::new().start().await;
    let looping = b"Received: from x\r\n".repeat(101);
    let answers = lab.client().await.send(&["b@example.test"], &looping).await;
    assert!(answers.last().starts_with("554 5.4.6 "), "{answers:?}");
    assert!(lab.mx().messages().is_empty());
}

#[tokio::test]
async fn a_request_of_http_ends_the_session() {
    // A-98. A page in a browser on this host, or a program that fetches the address of a stranger, sends commands in the body of a request.
    const MAIL: &str =
        "EHLO x\r\nMAIL FROM:<a@client.test>\r\nRCPT TO:<b@example.test>\r\nDATA\r\nspam\r\n.\r\nQUIT\r\n";
    let long = format!("POST /{} HTTP/1.1", "x".repeat(5000));
    let lab = Scenario::new().start().await;
    for request in [
        "POST / HTTP/1.1",
        long.as_str(),
        "POST / HTTP/1.1\nHost: 127.0.0.1",
        "GET / HTTP/1.0",
        "GET /",
        "PUT /x HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "CONNECT b.example:25 HTTP/1.1",
        "PRI * HTTP/2.0",
    ] {
        let mut client = lab.client().await;
        let _ = client.try_write(format!("{request}\r\nHost: 127.0.0.1\r\n\r\n{MAIL}").as_bytes()).await;
        let said = client.reply().await;
        assert_eq!(said, "500 5.5.1 this is SMTP, and not HTTP", "{request}");
        assert_eq!(client.rest().await, "", "{request}");
    }
    // Between chunks, too.
    let mut client = lab.client().await;
    for command in ["MAIL FROM:<a@client.test>", "RCPT TO:<b@example.test>", "BDAT 0"] {
        assert!(client.command(command).await.starts_with("250 "), "{command}");
    }
    assert!(client.command("POST / HTTP/1.1").await.starts_with("500 5.5.1 "));
    assert_eq!(client.rest().await, "");
    // Other lines that begin with such a word are refused alone.
    let mut client = lab.client().await;
    for unknown in ["get / HTTP/1.1", "HELP", "HEAR", "Host: 127.0.0.1", "PUTS", ""] {
        assert!(!client.command(unknown).await.is_empty());
    }
    assert!(client.command("NOOP").await.starts_with("250 "));
    assert!(lab.mx().messages().is_empty());
}

#[tokio::test]
async fn a_first_line_means_behind_our_line_what_it_means_alone() {
    // I15. Programs send a text without a header, and scripts a message as it stands in an mbox.
    for (sent, put) in [
        ("Subject: x\r\n\r\ntext\r\n", ""),
        ("\r\ntext\r\n", ""),
        ("  text\r\nmore\r\n", "\r\n"),
        ("\ttext\r\n", "\r\n"),
        ("From a@client.test Mon Nov 30 12:00:00 2026\r\nSubject: x\r\n\r\ntext\r\n", "X-Mailbox-Line: "),
        (">From a@client.test Mon Nov 30 12:00:00 2026\r\nSubject: x\r\n\r\ntext\r\n", "X-Mailbox-Line: "),
        ("From: a@client.test\r\n\r\ntext\r\n", ""),
        ("F\r\n", ""),
        ("", ""),
    ] {
        for received in [true, false] {
            let lab = Scenario::new().set(&format!("received = {received}")).start().await;
            let envelope = ["MAIL FROM:<a@client.test>", "RCPT TO:<b@example.test>"];
            // Whole, by single octets, and in chunks.
            let mut client = lab.client().await;
            for by_octets in [false, true] {
                for command in envelope.into_iter().chain(["DATA"]) {
                    client.command(command).await;
                }
                for piece in sent.as_bytes().chunks(if by_octets { 1 } else { 1000 }) {
                    client.write(piece).await;
                    tokio::time::sleep(Duration::from_millis(u64::from(by_octets))).await;
                }
                assert!(client.command(".").await.starts_with("250 2.0.0 "), "{sent:?}");
            }
            for command in envelope {
                client.command(command).await;
            }
            for octet in sent.bytes() {
                client.write(&[b"BDAT 1\r\n", &[octet][..]].concat()).await;
                assert!(client.reply().await.starts_with("250 "), "{sent:?}");
            }
            assert!(client.command("BDAT 0 LAST").await.starts_with("250 2.0.0 "), "{sent:?}");
            let stored = lab.mx().messages();
            assert_eq!(stored.len(), 3);
            for message in stored {
                let message = String::from_utf8(message).unwrap();
                let behind = if received { message.split_once(" +0000\r\n").unwrap().1 } else { &message };
                let put = if received { put } else { "" };
                assert_eq!(behind, format!("{put}{sent}"));
            }
        }
    }
}

#[tokio::test]
async fn pipelined() {
    // I18, A-84: one write, every answer, in order; the next transaction stands behind the end of data.
    let lab = Scenario::new().start().await;
    let mut client = lab.client().await;
    let transaction = "MAIL FROM:<a@client.test>\r\nRCPT TO:<b@example.test>\r\nRCPT TO:<c@other.test>\r\nDATA\r\n";
    client.write(transaction.as_bytes()).await;
    for expected in ["250 2.1.0", "250 2.1.5", "452 4.5.3", "354 "] {
        assert!(client.reply().await.starts_with(expected), "{expected}");
    }
    client.write(format!("one\r\n.\r\n{transaction}").as_bytes()).await;
    for expected in ["250 2.0.0", "250 2.1.0", "250 2.1.5", "452 4.5.3", "354 "] {
        assert!(client.reply().await.starts_with(expected), "{expected}");
    }
    client.write(b"two\r\n.\r\nQUIT\r\n").await;
    for expected in ["250 2.0.0", "221 2.0.0"] {
        assert!(client.reply().await.starts_with(expected), "{expected}");
    }
    assert_eq!(lab.mx().messages().len(), 2);
}

#[tokio::test]
async fn an_answer_does_not_wait_for_the_next() {
    // I18, K7: the client's timeout is for each recipient, so it hears of the first while the second takes its time.
    let scenario = Scenario::new().mx(|mx| mx.rcpt = vec![say("250 2.1.5 ok"), Act::Hang]);
    let lab = scenario.set("timeouts.command = '10m'").start().await;
    let mut client = lab.client().await;
    client
        .write(b"MAIL FROM:<a@client.test>\r\nRCPT TO:<b@example.test>\r\nRCPT TO:<c@example.test>\r\nDATA\r\n")
        .await;
    for expected in ["250 2.1.0", "250 2.1.5"] {
        assert!(client.reply().await.starts_with(expected), "{expected}");
    }
    assert!(client.is_silent(Duration::from_millis(100)).await);
}

#[tokio::test]
async fn answers_do_not_pile_up() {
    // A-92: each command is a few octets, each answer may be many; the memory for answers is bounded all the same.
    let lab = Scenario::new().start().await;
    let (client, ours) = tokio::io::duplex(1 << 20);
    let (stream, most) = lab::client::Measured::new(ours);
    let caller = crate::lab::caller(Origin::UnixSocket, Service::Smtp);
    let served = danelaw::session::serve(lab.shared.clone(), stream, caller, Stop::default());
    let (mut answers, mut commands) = tokio::io::split(client);
    commands.write_all("EHLO x\r\n".repeat(4000).as_bytes()).await.unwrap();
    commands.write_all(b"QUIT\r\n").await.unwrap();
    let mut said = Vec::new();
    tokio::join!(served, async { answers.read_to_end(&mut said).await.unwrap() });
    assert!(said.len() > 500_000 && said.ends_with(b"221 2.0.0 Bye\r\n"));
    assert!(most.load(Ordering::Relaxed) < 2 * BLOCK, "{most:?} octets were kept");
}

#[tokio::test]
async fn command_lines_that_are_none() {
    // I6, A-87: too long, and in step again.
    let lab = Scenario::new().start().await;
    let mut client = lab.client().await;
    client.write(&[b'x'; 100_000]).await;
    client.write(b"\r\n").await;
    assert!(client.reply().await.starts_with("500 5.5."));
    assert!(client.command("NOOP\nNOOP").await.starts_with("500 5.5."));
    assert!(client.reply().await.starts_with("250 2.0.0"));
    // I9: unknown commands do not end the session.
    for _ in 0..20 {
        assert!(client.command("WHAT").await.starts_with("500 5.5."));
    }
}

#[tokio::test]
async fn clients_that_may_connect() {
    // I26, A-95: only the allow-list.
    let lab = Scenario::new().set("listener = [{ address = '127.0.0.1:0', allow = ['10.0.0.0/8'] }]").start().await;
    let greeting = first_line(lab.port()).await;
    assert!(greeting.starts_with("554 5.7.1 "), "{greeting}");
    // I28: one session too many.
    let lab = Scenario::new().set("limits.sessions = 1").start().await;
    let _client = lab.client().await;
    let greeting = first_line(lab.port()).await;
    assert!(greeting.starts_with("421 4.3.2 "), "{greeting}");
}

async fn first_line(address: std::net::SocketAddr) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let mut said = String::new();
    tokio::time::timeout(lab::SOON, stream.read_to_string(&mut said)).await.unwrap().unwrap();
    said
}

#[tokio::test]
async fn stopping() {
    // I10: an idle client hears 421, an open transaction finishes, then every session is closed.
    let mut lab = Scenario::new().start().await;
    let idle = lab.client().await;
    let mut busy = lab.client().await;
    for command in ["MAIL FROM:<a@client.test>", "RCPT TO:<b@example.test>", "DATA"] {
        busy.command(command).await;
    }
    lab.stop();
    assert!(idle.rest().await.starts_with("421 4.3.2 "));
    busy.write(b"body\r\n.\r\n").await;
    assert!(busy.reply().await.starts_with("250 2.0.0 "));
    assert!(busy.rest().await.starts_with("421 4.3.2 "));
    assert_eq!(lab.stopped().await, Drained::Clean);
    assert_eq!(lab.mx().messages().len(), 1);
    assert!(tokio::net::TcpStream::connect(lab.port()).await.is_err());
}

#[tokio::test]
async fn stopping_a_client_that_does_not_finish() {
    // L2: when the grace period is over the message is cut, and the remote stores no message.
    let mut lab = Scenario::new().set("timeouts.grace = '300ms'").start().await;
    let mut busy = lab.client().await;
    for command in ["MAIL FROM:<a@client.test>", "RCPT TO:<b@example.test>", "DATA"] {
        busy.command(command).await;
    }
    busy.write(b"half a mess").await;
    lab.stop();
    assert_eq!(lab.stopped().await, Drained::Cut(1));
    wait_for(|| lab.mx().cut() == 1).await;
    assert!(lab.mx().messages().is_empty());
}

#[tokio::test]
async fn a_silent_client() {
    // I8.
    let lab = Scenario::new().set("timeouts.client = '300ms'").start().await;
    let mut client: Client = lab.client().await;
    client.command("MAIL FROM:<a@client.test>").await;
    assert!(client.rest().await.starts_with("421 4.4.2 "));
    // A-91: danelaw connects to no remote for a client that never sends a recipient.
    assert_eq!(lab.mx().connections(), 0);
    // In the middle of a message too, and the remote sees it cut.
    let mut client = lab.client().await;
    for command in ["MAIL FROM:<a@client.test>", "RCPT TO:<b@example.test>", "DATA"] {
        client.command(command).await;
    }
    client.write(b"half a mess").await;
    assert!(client.rest().await.starts_with("421 4.4.2 "));
    wait_for(|| lab.mx().cut() == 1).await;
    assert!(lab.mx().messages().is_empty());
}

#[tokio::test]
async fn tarpits_end_within_the_clients_patience() {
    // K7, A-71: ten exchanges that never greet; one time limit for all.
    let scenario = Scenario::of((0..10).map(|index| {
        let exchange = Exchange::new("example.test", &format!("mx{index}.example.test")).preference(index);
        exchange.tlsa([]).script(|mx| mx.greeting = Act::Hang)
    }));
    let started = std::time::Instant::now();
    refused(
        scenario.set("timeouts.route = '1500ms'\ntimeouts.greeting = '500ms'\nmta_sts.timeout = '1s'"),
        "451-4.4.2 mx0",
    )
    .await;
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

/// A resolver that has a bug.
#[derive(Clone)]
struct Broken(Stub);

impl Resolver for Broken {
    async fn mx(&self, domain: &Name) -> Result<Lookup<MxRecord>, Failure> {
        assert_ne!(domain.as_str(), "bug.test", "this panic is part of the test");
        self.0.mx(domain).await
    }

    async fn host(&self, name: &Name) -> Result<HostLookup, Failure> {
        self.0.host(name).await
    }

    async fn tlsa(&self, owner: &Name) -> Result<Lookup<RawTlsa>, Failure> {
        self.0.tlsa(owner).await
    }

    async fn txt(&self, owner: &Name) -> Result<Lookup<RawTxt>, Failure> {
        self.0.txt(owner).await
    }
}

#[tokio::test]
async fn a_panic_ends_one_session() {
    // A-117: the panic ends no other session, and frees the session's own place among them.
    let mut lab = Scenario::new().set("limits.sessions = 2").start_with(Broken).await;
    let mut bystander = lab.client().await;
    for _ in 0..3 {
        let mut client = lab.client().await;
        client.write(b"MAIL FROM:<a@client.test>\r\nRCPT TO:<b@bug.test>\r\n").await;
        // The client is not told of any acceptance but that of the sender.
        assert!(!client.rest().await.contains("2.1.5"));
    }
    let answers = bystander.send(&["b@example.test"], MESSAGE).await;
    assert!(answers.last().starts_with("250 2.0.0 "), "{answers:?}");
    bystander.command("QUIT").await;
    lab.stop();
    assert_eq!(lab.stopped().await, Drained::Clean);
}
