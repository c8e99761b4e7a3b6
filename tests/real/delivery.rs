//! Deliveries, and the claims of the log about them.

use crate::case::{Case, Certificate, Exchange, MX1, MX2, Server, Tlsa};
use crate::forwarders::ForwarderKind;
use crate::lab::Lab;
use crate::program::Delivery;

/// Asserts that the message reaches this host whole and that the log shows this protection. Returns the log event.
#[track_caller]
fn delivered(case: &Case, exchange: &Exchange, protection: &str) -> (Lab, Delivery) {
    let lab = Lab::start(case);
    let outcome = lab.mail();
    assert_eq!(outcome.status, "sent", "{outcome:?}");
    lab.assert_message_at(exchange);
    let delivery = lab.danelaw().await_delivery("delivered");
    delivery.assert(&[
        ("domain", "example.test"),
        ("exchange", exchange.name),
        ("address", &lab.address(exchange)),
        ("protection", protection),
    ]);
    // The MX has seen the same TLS.
    let tls = format!(": {} with cipher {} ", delivery.field("tls_version"), delivery.field("cipher"));
    assert!(lab.mx(exchange).log().contains(&tls), "{tls}");
    (lab, delivery)
}

/// Rows B1, D4, E6, I15, L1, M2: usage 3.
#[test]
fn ee_record_verifies() {
    let (lab, delivery) = delivered(&Case::default(), &MX1, "verified");
    delivery.assert(&[("tlsa", &lab.tlsa(&MX1))]);
}

/// Rows B1, E6: usage 2, with the CA in the chain and the name checked.
#[test]
fn ta_record_verifies() {
    let (lab, delivery) =
        delivered(&Case::of([Exchange { certificate: Certificate::FromCa, ..MX1 }]), &MX1, "verified");
    delivery.assert(&[("tlsa", &lab.tlsa(&MX1))]);
}

/// Records for the preferred MX that match no certificate: two kilobytes of them.
fn many_records() -> &'static [(&'static str, &'static str)] {
    let record = |number| ("_25._tcp.mx1.example.test", &*format!("TLSA 3 1 1 {number:064x}").leak());
    (0..50).map(record).collect::<Vec<_>>().leak()
}

/// Rows A1, B1, D4: danelaw asks systemd-resolved or `dnsmasq --dnssec`, and the host has more records than a reply over
/// UDP has room for.
#[test]
fn ee_record_verifies_through_the_forwarders_of_hosts() {
    for kind in [ForwarderKind::SystemdResolved, ForwarderKind::Dnsmasq] {
        let case = Case { forwarder: Some(kind), more: many_records(), ..Case::default() };
        let (lab, delivery) = delivered(&case, &MX1, "verified");
        delivery.assert(&[("tlsa", &lab.tlsa(&MX1))]);
        assert!(lab.danelaw().events("the name server fails the self-test").is_empty(), "{kind:?}");
    }
}

/// Rows B1, K16: a host that fails DANE is treated like one that is down.
#[test]
fn next_host_takes_over_from_one_that_does_not_match() {
    let (lab, _) = delivered(&Case::of([Exchange { tlsa: Tlsa::Other, ..MX1 }, MX2]), &MX2, "verified");
    lab.assert_no_mail_command_at(&MX1);
}

/// Rows A10, B11, K16: so is one whose TLSA lookup fails, and danelaw does not connect to it.
#[test]
fn next_host_takes_over_from_one_whose_lookup_fails() {
    let (lab, _) = delivered(&Case::of([Exchange { tlsa: Tlsa::Forged, ..MX1 }, MX2]), &MX2, "verified");
    assert_eq!(lab.mx(&MX1).connections(), 0);
}

/// Rows K4, K16, decision 12: so is one that greets with anything but 220.
#[test]
fn next_host_takes_over_from_one_that_does_not_greet() {
    let unwilling = Exchange { server: Server::greets("554 5.3.2 no mail today"), ..MX1 };
    let (lab, _) = delivered(&Case::of([unwilling, MX2]), &MX2, "verified");
    lab.assert_no_mail_command_at(&MX1);
}

/// Rows A5, C18, decision 1: no records to verify by, yet never cleartext.
#[test]
fn unsigned_domain_is_encrypted_but_not_verified() {
    let (_, delivery) = delivered(&Case { signed: false, ..Case::default() }, &MX1, "encrypted");
    delivery.assert(&[("tlsa", "")]);
}

/// Rows A6, B3, decision 1: the same when the domain proves that it has no record.
#[test]
fn signed_domain_without_record_is_encrypted_but_not_verified() {
    let (_, delivery) = delivered(&Case::of([Exchange { tlsa: Tlsa::Absent, ..MX1 }]), &MX1, "encrypted");
    delivery.assert(&[("tlsa", "")]);
}
