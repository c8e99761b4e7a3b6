//! The name in EHLO: the client's, or danelaw's own where a strict host would refuse the client's; and the name
//! that the reply blames if a host refuses it all the same (RFC 5321 §2.3.5, §4.1.1.1).

use crate::lab::client::Client;
use crate::lab::mx::{Mx, say};
use crate::lab::{Lab, MESSAGE, Scenario};

/// The final reply to a client that introduces itself with this name.
async fn sent_as(lab: &Lab, hello: &str) -> String {
    let mut client = Client::connect(&lab.address).await;
    assert!(client.command(&format!("EHLO {hello}")).await.starts_with("250"));
    client.send(&["b@example.test"], MESSAGE).await.last().to_owned()
}

#[tokio::test]
async fn a_name_that_is_none_goes_out_as_ours() {
    for (hello, given) in [
        ("mail.client.test", "mail.client.test"),
        ("mail.client.test.", "mail.client.test"),
        ("[9.9.9.9]", "[9.9.9.9]"),
        ("[IPv6:2620:fe::fe]", "[IPv6:2620:fe::fe]"),
        ("localhost", "danelaw.test"),
        ("localhost.localdomain", "danelaw.test"),
        ("3f2a9c0b1d4e", "danelaw.test"),
        ("my_host.client.test", "danelaw.test"),
        ("exchange.corp.local", "danelaw.test"),
        ("[10.0.0.5]", "danelaw.test"),
        ("[IPv6:fd00::5]", "danelaw.test"),
        ("[::1]", "danelaw.test"),
        ("[mail]", "danelaw.test"),
        ("9.9.9.9", "danelaw.test"),
    ] {
        let lab = Scenario::new().start().await;
        assert!(sent_as(&lab, hello).await.starts_with("250 "), "{hello}");
        let ehlo = format!("EHLO {given}");
        assert_eq!((&lab.mx().clear()[0], &lab.mx().tls()[0]), (&ehlo, &ehlo), "{hello}");
    }
    let lab = Scenario::new().set("ehlo_name = 'mta.test'").start().await;
    assert!(sent_as(&lab, "localhost").await.starts_with("250 "));
    assert_eq!(lab.mx().tls()[0], "EHLO mta.test");
}

#[tokio::test]
async fn sessions_are_shared_under_the_name_that_was_given() {
    let lab = Scenario::new().set("remote.idle_connections = 10").start().await;
    for hello in ["localhost", "3f2a9c0b1d4e"] {
        assert!(sent_as(&lab, hello).await.starts_with("250 "));
    }
    assert_eq!(lab.mx().connections(), 1);
}

#[tokio::test]
async fn a_refused_name_is_named() {
    type Change = fn(&mut Mx);
    let cases: [(Change, &str); 6] = [
        // Before TLS the reply may come from an attacker in the path that removes STARTTLS (RFC 3207 §6).
        (
            |mx| mx.ehlo = say(NO),
            "451 4.7.4 mx1.example.test[127.0.0.1]: EHLO was refused with 504 5.5.2 <mail.client.test>: Helo",
        ),
        (|mx| mx.ehlo_under_tls = say(NO), "451 4.4.1 mx1.example.test[127.0.0.1]: the name mail.client.test, which"),
        (|mx| mx.mail = say(NO), "504-5.5.2 mx1.example.test[127.0.0.1]: <mail.client.test>: Helo command rejected"),
        (|mx| mx.rcpt = vec![say(NO)], "504-5.5.2 mx1.example.test[127.0.0.1]: <mail.client.test>: Helo command"),
        (
            |mx| mx.ehlo = say("502 5.5.1 EHLO not implemented"),
            "451 4.7.4 mx1.example.test[127.0.0.1]: EHLO was refused",
        ),
        (
            |mx| mx.ehlo = say("554 5.7.1 mail.client.test is on a block list"),
            "451 4.7.4 mx1.example.test[127.0.0.1]: EHLO was refused",
        ),
    ];
    for (index, (change, told)) in cases.into_iter().enumerate() {
        let lab = Scenario::new().mx(change).start().await;
        let answer = sent_as(&lab, "mail.client.test").await;
        assert!(answer.starts_with(told), "{told}: {answer}");
        assert_eq!(answer.contains("ehlo_name"), index < 4, "{answer}");
        assert_eq!(answer.contains("firewall"), [0, 4, 5].contains(&index), "{answer}");
    }
}

const NO: &str = "504 5.5.2 <mail.client.test>: Helo command rejected: need fully-qualified hostname";
