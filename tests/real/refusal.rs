//! Refusals. Each time the client keeps the mail, its log gives the reason, and
//! the MX has not got the mail.

use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};

use crate::case::{Case, Certificate, Exchange, MX1, Server, Tlsa};
use crate::lab::Lab;
use crate::peers::Script;

/// Asserts that the client keeps the message because of this reply, which has the words; that no MX hears a mail
/// command; and that danelaw's log has the reason.
#[track_caller]
fn refused(case: &Case, reply: &str, words: &[&str], reason: &str) -> Lab {
    let lab = Lab::start(case);
    lab.mail().assert_deferred(reply, words);
    lab.assert_client_keeps_the_message();
    for exchange in &case.exchanges {
        lab.assert_no_mail_command_at(exchange);
    }
    let (code, _) = reply.split_once(' ').expect("a basic and an enhanced code");
    let fields = [("domain", "example.test"), ("code", code), ("reason", reason), ("protection", "none")];
    lab.danelaw().await_delivery("deferred").assert(&fields);
    lab
}

/// The same for a domain with this one MX, which the reply names.
#[track_caller]
fn refused_at(exchange: Exchange, reply: &str, reason: &str) -> Lab {
    let name = exchange.name;
    refused(&Case::of([exchange]), reply, &[name], reason)
}

/// Asserts a refusal whose reply says that the MX offers no TLS.
#[track_caller]
fn refused_without_tls(case: &Case) {
    let lab = refused(case, "451 4.7.4", &[MX1.name, "TLS is required, but was not offered"], "starttls-missing");
    // danelaw has connected to it.
    assert!(lab.mx(&MX1).connections() > 0);
}

/// Rows B1, B5, N1, N3, decision 7: the records promise STARTTLS, and an attacker on the path has removed it.
#[test]
fn stripped_starttls() {
    refused_without_tls(&Case::of([Exchange { server: Server::WITHOUT_STARTTLS, ..MX1 }]));
}

/// Decision 1: no domain gets mail in cleartext, not even one without DNSSEC.
#[test]
fn no_starttls_in_an_unsigned_domain() {
    let case = Case::of([Exchange { server: Server::WITHOUT_STARTTLS, ..MX1 }]);
    refused_without_tls(&Case { signed: false, ..case });
}

/// Decision 1.
#[test]
fn no_starttls_and_no_record() {
    refused_without_tls(&Case::of([Exchange { server: Server::WITHOUT_STARTTLS, tlsa: Tlsa::Absent, ..MX1 }]));
}

/// Rows H3, H11: STARTTLS is offered, and then the command is refused.
#[test]
fn refused_starttls() {
    let exchange = Exchange { server: Server::Scripted(Script::RefusesStartTls), ..MX1 };
    let lab = refused_at(exchange, "451 4.7.4", "starttls-refused");
    assert!(lab.peer(&MX1).heard_command("STARTTLS"));
}

/// Rows B1, B10, F19, N7.
#[test]
fn certificate_that_matches_no_record() {
    refused_at(Exchange { tlsa: Tlsa::Other, ..MX1 }, "451 4.7.5", "tlsa-mismatch");
}

/// Row F6: the CA matches, but the certificate names another host.
#[test]
fn certificate_of_another_host_from_the_right_ca() {
    let certificate = Certificate::FromCaFor("elsewhere.example.test");
    refused_at(Exchange { certificate, ..MX1 }, "451 4.7.5", "name-mismatch");
}

/// Rows A7, A10, A11, B11, N7: no answer to the TLSA question validates, so danelaw does not even connect.
#[track_caller]
fn refused_without_connection(tlsa: Tlsa) {
    let lab = refused_at(Exchange { tlsa, ..MX1 }, "451 4.7.5", "tlsa-lookup-failed");
    assert_eq!(lab.mx(&MX1).connections(), 0);
}

#[test]
fn forged_tlsa() {
    refused_without_connection(Tlsa::Forged);
}

#[test]
fn tlsa_lookup_is_refused() {
    refused_without_connection(Tlsa::Refused);
}

#[test]
fn tlsa_lookup_fails() {
    refused_without_connection(Tlsa::ServFail);
}

#[test]
fn tlsa_lookup_times_out() {
    refused_without_connection(Tlsa::TimesOut);
}

/// Rows A8, C4, N6.
#[test]
fn forged_mx() {
    let case = Case { mx_forged: true, ..Case::default() };
    let lab = refused(&case, "451 4.4.3", &["example.test"], "mx-lookup-failed");
    assert_eq!(lab.mx(&MX1).connections(), 0);
}

/// Row G10: the certificate matches, but the peer that shows it does not have its key.
#[track_caller]
fn refused_replay(version: &'static SupportedProtocolVersion) {
    let exchange = Exchange { server: Server::Scripted(Script::Replays(version)), ..MX1 };
    let lab = refused_at(exchange, "451 4.7.5", "wrong-key");
    assert!(lab.peer(&MX1).heard_command("STARTTLS"));
}

#[test]
fn replayed_certificate_on_tls_1_2() {
    refused_replay(&TLS12);
}

#[test]
fn replayed_certificate_on_tls_1_3() {
    refused_replay(&TLS13);
}
