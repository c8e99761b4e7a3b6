//! A check of the lab: Postfix with its own DANE reaches the verdicts for which the cases are made.

use crate::case::{Case, Certificate, Exchange, MX1, MX2, Server, Tlsa};
use crate::lab::Lab;
use crate::peers::Script;

/// Asserts that Postfix delivers to this host, over TLS that its log names by this word.
#[track_caller]
fn delivers(case: &Case, exchange: &Exchange, tls: &str) {
    let lab = Lab::reference(case);
    let outcome = lab.mail();
    assert_eq!(outcome.status, "sent", "{outcome:?}");
    lab.assert_message_at(exchange);
    let verdict = format!("{tls} TLS connection established to {}[{}]:25", exchange.name, lab.address(exchange));
    assert!(lab.client.log().contains(&verdict), "{verdict}");
}

/// Asserts that Postfix keeps the message, with this enhanced code and this reason.
#[track_caller]
fn defers(case: &Case, dsn: &str, reason: &str) {
    let lab = Lab::reference(case);
    let outcome = lab.mail();
    assert_eq!((outcome.status.as_str(), outcome.dsn.as_str()), ("deferred", dsn), "{outcome:?}");
    assert!(outcome.text.contains(reason), "{outcome:?}");
    lab.assert_client_keeps_the_message();
}

#[test]
fn ee_record_verifies() {
    delivers(&Case::default(), &MX1, "Verified");
}

#[test]
fn ta_record_verifies() {
    delivers(&Case::of([Exchange { certificate: Certificate::FromCa, ..MX1 }]), &MX1, "Verified");
}

#[test]
fn ta_record_with_another_name_defers() {
    let certificate = Certificate::FromCaFor("elsewhere.example.test");
    defers(&Case::of([Exchange { certificate, ..MX1 }]), "4.7.5", "Server certificate not verified");
}

#[test]
fn stripped_starttls_defers() {
    let stripped = Exchange { server: Server::WITHOUT_STARTTLS, ..MX1 };
    defers(&Case::of([stripped]), "4.7.4", "TLS is required, but was not offered");
}

#[test]
fn mismatch_defers() {
    defers(&Case::of([Exchange { tlsa: Tlsa::Other, ..MX1 }]), "4.7.5", "Server certificate not verified");
}

#[test]
fn second_host_takes_over() {
    delivers(&Case::of([Exchange { tlsa: Tlsa::Other, ..MX1 }, MX2]), &MX2, "Verified");
}

#[test]
fn failed_lookups_defer() {
    for tlsa in [Tlsa::Forged, Tlsa::Refused, Tlsa::ServFail, Tlsa::TimesOut] {
        defers(&Case::of([Exchange { tlsa, ..MX1 }]), "4.7.5", "TLSA lookup error");
    }
    defers(&Case { mx_forged: true, ..Case::default() }, "4.4.3", "Host or domain name not found");
}

#[test]
fn without_dnssec_or_record_tls_is_not_verified() {
    delivers(&Case { signed: false, ..Case::default() }, &MX1, "Untrusted");
    delivers(&Case::of([Exchange { tlsa: Tlsa::Absent, ..MX1 }]), &MX1, "Untrusted");
}

#[test]
fn replayed_certificate_defers() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let lab = Lab::reference(&Case::of([Exchange { server: Server::Scripted(Script::Replays(version)), ..MX1 }]));
        assert_eq!(lab.mail().dsn, "4.7.5");
        assert!(!lab.peer(&MX1).heard_command("MAIL"), "{:?}", lab.peer(&MX1).heard());
    }
}

#[test]
fn scripted_host_loses_the_connection_after_the_dot() {
    let lab = Lab::reference(&Case::of([Exchange { server: Server::Scripted(Script::HangsUpAfterDot), ..MX1 }]));
    assert_eq!(lab.mail().dsn, "4.4.2");
    assert!(lab.peer(&MX1).heard().contains(&"the final dot".to_owned()));
}
