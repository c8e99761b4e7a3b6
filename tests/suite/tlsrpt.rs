//! The events for TLS reports: one for each handshake, and for each host or domain that a failure of the DNS or of the policy
//! kept danelaw from trying (RFC 8460 §4.3).

use danelaw::tlsrpt::TlsEvent;
use danelaw::tlsrpt::event::TlsResult;
use tokio::sync::mpsc;

use crate::lab::certs::Identity;
use crate::lab::dns::Fault;
use crate::lab::exchange::Exchange;
use crate::lab::mx::{Act, say};
use crate::lab::{MESSAGE, Scenario};

/// An event as one line.
fn line(event: &TlsEvent) -> String {
    assert_eq!(event.recipient.as_str(), "example.test");
    told(event)
}

/// The same, for any recipient.
pub(crate) fn told(event: &TlsEvent) -> String {
    let (kind, domain) = (event.policy.kind.as_str(), &event.policy.domain);
    match &event.result {
        TlsResult::Success => format!("{kind} {domain}: success"),
        TlsResult::Failure(failure) => format!("{kind} {domain}: {} {}", failure.kind, failure.reason),
    }
}

/// The events of so many mails, one after the other.
async fn events_of(scenario: Scenario, mails: usize) -> Vec<TlsEvent> {
    let (sender, mut events) = mpsc::channel(100);
    let mut lab = scenario.telling(sender).start().await;
    for _ in 0..mails {
        lab.send().await;
    }
    lab.stop();
    lab.stopped().await;
    std::iter::from_fn(|| events.try_recv().ok()).collect()
}

async fn lines_of(scenario: Scenario, mails: usize) -> Vec<String> {
    events_of(scenario, mails).await.iter().map(line).collect()
}

/// An exchange with the record of another key.
fn mismatching(name: &str) -> Exchange {
    Exchange::new("example.test", name).tlsa([Identity::for_name("other").record("3 1 1")])
}

#[tokio::test]
async fn each_handshake_counts_once() {
    // T1, O7.
    let success = "tlsa mx1.example.test: success";
    assert_eq!(lines_of(Scenario::new(), 3).await, [success; 3]);
    // Three mails over one session, and the pool is closed at the end.
    assert_eq!(lines_of(Scenario::new().set("remote.idle_connections = 9"), 3).await, [success]);
    let events = events_of(Scenario::new(), 1).await;
    assert_eq!(events[0].policy.strings.len(), 1);
    assert!(events[0].policy.strings[0].starts_with("3 1 1 "), "{events:?}");
}

#[tokio::test]
async fn a_failure_counts_where_another_host_takes_the_mail() {
    // T2, O17.
    let good = Exchange::new("example.test", "mx2.example.test").preference(20);
    let events = events_of(Scenario::of([mismatching("mx1.example.test"), good]), 1).await;
    let lines: Vec<_> = events.iter().map(line).collect();
    assert_eq!(
        lines,
        ["tlsa mx1.example.test: certificate-not-trusted tlsa-mismatch", "tlsa mx2.example.test: success"]
    );
    let TlsResult::Failure(failure) = &events[0].result else { panic!() };
    assert_eq!(failure.host.as_ref().unwrap().as_str(), "mx1.example.test");
    assert_eq!(failure.receiving.unwrap().to_string(), "127.0.0.1");
    assert!(failure.sending.unwrap().is_loopback());
}

#[tokio::test]
async fn what_says_nothing_of_tls_is_not_told() {
    // T3, O9.
    for (scenario, about) in [
        (Scenario::new().mx(|mx| mx.greeting = say("421 busy")), "greeting"),
        (Scenario::new().mx(|mx| mx.greeting = Act::Close), "closed before the greeting"),
        (Scenario::new().mx(|mx| mx.ehlo = say("550 you are on a list")), "EHLO refused"),
        (Scenario::of([]), "no exchange"),
        (Scenario::new().tree(|tree, _| tree.fault("example.test", "MX", Fault::Drop)), "no answer for MX"),
        (Scenario::new().tree(|tree, _| tree.fault("mx1.example.test", "A", Fault::Drop)), "no answer for A"),
    ] {
        assert_eq!(lines_of(scenario, 1).await, Vec::<String>::new(), "{about}");
    }
    // A refusal of the mail is no failure of TLS.
    let refused = Scenario::new().mx(|mx| mx.mail = say("550 no"));
    assert_eq!(lines_of(refused, 1).await, ["tlsa mx1.example.test: success"]);
}

#[tokio::test]
async fn a_level_of_the_operator_is_not_told() {
    // T4.
    let may = "[[rule]]\ndomain = 'example.test'\nlevel = 'may'\nreason = 'so'\nuntil = '9999-12-31'\n";
    let hop = "[[rule]]\ndomain = 'example.test'\nlevel = 'dane'\nnext_hop = 'mx1.example.test'\n";
    for change in [may, hop, "tls.level = 'encrypt'"] {
        let mismatch = Scenario::of([mismatching("mx1.example.test")]).set(change);
        assert_eq!(lines_of(mismatch, 1).await, Vec::<String>::new(), "{change}");
    }
}

#[tokio::test]
async fn only_the_enforced_pass_of_observing_is_told() {
    // T5.
    let mismatch = Scenario::of([mismatching("mx1.example.test")]).set("mode = 'observe'");
    assert_eq!(lines_of(mismatch, 1).await, ["tlsa mx1.example.test: certificate-not-trusted tlsa-mismatch"]);
}

#[tokio::test]
async fn policies_and_failures_of_the_dns() {
    // T6, T7.
    let tlsa = |fault: Fault| {
        Scenario::new().tree(move |tree, port| tree.fault(&format!("_{port}._tcp.mx1.example.test"), "TLSA", fault))
    };
    let bogus = |owner: &'static str, rtype: &'static str| {
        Scenario::new().tree(move |tree, _| tree.fault(owner, rtype, Fault::BogusSignature))
    };
    let without = || Scenario::of([Exchange::new("example.test", "mx1.example.test").tlsa([])]);
    let unusable = Exchange::new("example.test", "mx1.example.test").tlsa([format!("1 1 1 {}", "ab".repeat(32))]);
    let dane_only = "[[rule]]\ndomain = 'example.test'\nlevel = 'dane-only'\n";
    for (scenario, expected) in [
        // Some name servers drop questions for TLSA.
        (tlsa(Fault::Drop), vec!["tlsa mx1.example.test: dnssec-invalid tlsa-lookup-failed"]),
        (tlsa(Fault::BogusSignature), vec!["tlsa mx1.example.test: dnssec-invalid tlsa-lookup-failed"]),
        (bogus("example.test", "MX"), vec!["no-policy-found example.test: dnssec-invalid mx-lookup-failed"]),
        (bogus("mx1.example.test", "A"), vec!["no-policy-found example.test: dnssec-invalid address-lookup-failed"]),
        (without(), vec!["no-policy-found example.test: success"]),
        (without().set("tls.level = 'dane-only'"), vec![]),
        (without().set(dane_only), vec!["no-policy-found example.test: dane-required dane-required no-tlsa"]),
        (Scenario::of([unusable]), vec!["tlsa mx1.example.test: tlsa-invalid all-records-unusable"]),
        (
            Scenario::new().mx(|mx| mx.starttls = say("454 4.7.0 not now")),
            vec!["tlsa mx1.example.test: starttls-not-supported starttls-refused 454"],
        ),
        (
            Scenario::new().mx(|mx| mx.ehlo = say("502 what")),
            vec!["tlsa mx1.example.test: starttls-not-supported ehlo-refused 502"],
        ),
        (
            Scenario::new().mx(|mx| mx.starttls = Act::Close),
            vec!["tlsa mx1.example.test: validation-failure connection-lost starttls"],
        ),
    ] {
        assert_eq!(lines_of(scenario, 1).await, expected);
    }
}

#[tokio::test]
async fn nothing_of_a_mail_is_in_an_event() {
    // T25.
    let (sender, mut events) = mpsc::channel(100);
    let mut lab = Scenario::of([mismatching("mx1.example.test")]).telling(sender).start().await;
    let mut client = lab.client().await;
    client.send(&["secret-person@example.test"], MESSAGE).await;
    lab.stop();
    lab.stopped().await;
    let told = format!("{:?}", events.try_recv().unwrap());
    for secret in ["secret-person", "client.test", "Subject", "@"] {
        assert!(!told.contains(secret), "{told}");
    }
}
