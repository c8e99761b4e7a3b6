//! A rule's next-hop with a port of its own: danelaw dials that port, takes the TLSA records of that port, and treats another port
//! as another server.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use crate::lab::certs::Identity;
use crate::lab::mx::{Mx, Seen, say};
use crate::lab::{Lab, MESSAGE, Scenario, free_port};

const HOST: &str = "mx1.example.test";

/// The rule for a domain.
fn rule(domain: &str, level: &str, next_hop: &str) -> String {
    format!(
        "[[rule]]\ndomain = '{domain}'\nlevel = '{level}'\nnext_hop = '{next_hop}'\nreason = 'x'\nuntil = '2999-12-31'\n"
    )
}

/// One more server at the address of the lab's first exchange, at a port of its own.
async fn beside(port: u16, identity: Identity) -> Arc<Seen> {
    Mx::new(identity).start(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), HOST).await
}

/// Sends one message; returns the reply to the client.
async fn sent(lab: &Lab, to: &str) -> String {
    lab.client().await.send(&[to], MESSAGE).await.last().to_owned()
}

fn tlsa_questions(lab: &Lab) -> Vec<String> {
    lab.dns.asked().into_iter().filter(|question| question.ends_with(" TLSA")).collect()
}

#[tokio::test]
async fn d16_a_host_with_a_port_is_verified_by_the_records_of_that_port() {
    // D16: RFC 6698 §3.
    for next_hop in [format!("{HOST}:"), format!("[{HOST}]:")] {
        let (port, identity) = (free_port(), Identity::for_name("anything"));
        let (right, wrong) = (identity.record("3 1 1"), Identity::for_name("other").record("3 1 1"));
        let other = beside(port, identity).await;
        let scenario = |record: String| {
            let rule = rule("example.test", "dane-only", &format!("{next_hop}{port}"));
            Scenario::new().tree(|tree, _| tree.tlsa(HOST, port, &record)).set(&rule)
        };
        let lab = scenario(right).start().await;
        let answer = sent(&lab, "b@example.test").await;
        assert!(answer.starts_with("250 "), "{answer}");
        assert_eq!((other.messages().len(), lab.mx().connections()), (1, 0));
        assert_eq!(tlsa_questions(&lab), [format!("_{port}._tcp.{HOST} TLSA")]);
        assert!(!lab.dns.asked().iter().any(|question| question.ends_with(" MX")), "{:?}", lab.dns.asked());
        // The record of the other port matches the server there, and does not count here.
        let lab = scenario(wrong).start().await;
        let answer = sent(&lab, "b@example.test").await;
        assert!(answer.starts_with(&format!("451 4.7.5 {HOST}[127.0.0.1]:{port}: ")), "{answer}");
        assert_eq!((other.messages().len(), lab.mx().connections()), (1, 0));
    }
}

#[tokio::test]
async fn an_address_with_a_port() {
    // another program of this host may take the mail at that port.
    for own in ["", "remote.own_addresses = ['127.0.0.1']\n"] {
        let port = free_port();
        let other = beside(port, Identity::for_name("anything")).await;
        let rule = rule("example.test", "encrypt", &format!("[127.0.0.1]:{port}"));
        let lab = Scenario::new().set(&format!("{own}{rule}")).start().await;
        let answer = sent(&lab, "b@example.test").await;
        assert!(answer.starts_with("250 "), "{answer}");
        assert_eq!((other.messages().len(), lab.mx().connections()), (1, 0));
        assert_eq!(lab.dns.asked(), [] as [&str; 0]);
    }
    // No server is there: the reply names the port.
    let port = free_port();
    let rule = rule("example.test", "encrypt", &format!("[127.0.0.1]:{port}"));
    let lab = Scenario::new().set(&rule).start().await;
    let answer = sent(&lab, "b@example.test").await;
    assert!(answer.starts_with(&format!("451 4.4.1 example.test[127.0.0.1]:{port}: ")), "{answer}");
}

#[tokio::test]
async fn another_port_is_another_server() {
    let port = free_port();
    let other = beside(port, Identity::for_name("anything")).await;
    let rules = [
        rule("example.test", "encrypt", HOST),
        rule("b.test", "encrypt", &format!("{HOST}:{port}")),
        rule("c.test", "encrypt", &format!("{HOST}:{}", free_port())),
    ];
    let settings = format!("remote.idle_connections = 100\nremote.failed_hosts_for = '5m'\n{}", rules.concat());
    let lab = Scenario::new().set(&settings).start().await;
    // The server of c.test is down. That says nothing about those of the other ports.
    let answer = sent(&lab, "b@c.test").await;
    assert!(answer.starts_with("451 "), "{answer}");
    // A session that waits serves its own port alone.
    for round in 1..3 {
        for domain in ["example.test", "b.test"] {
            let answer = sent(&lab, &format!("b@{domain}")).await;
            assert!(answer.starts_with("250 "), "{domain}: {answer}");
        }
        assert_eq!((lab.mx().messages().len(), other.messages().len()), (round, round));
    }
    assert_eq!((lab.mx().connections(), other.connections()), (1, 1));
}

#[tokio::test]
async fn level_encrypt_is_no_way_to_cleartext_at_another_port() {
    let port = free_port();
    let mut plain = Mx::new(Identity::for_name("anything"));
    plain.ehlo = say("250 mx");
    let seen = plain.start(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), HOST).await;
    let rule = rule("example.test", "encrypt", &format!("[127.0.0.1]:{port}"));
    let lab = Scenario::new().set(&rule).start().await;
    let answer = sent(&lab, "b@example.test").await;
    assert!(answer.starts_with("451 4.7.4 ") && seen.messages().is_empty(), "{answer}");
}
