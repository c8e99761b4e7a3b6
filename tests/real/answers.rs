//! The remote's own answers, as the client gets them, and the outcome of a message that gets no
//! answer.

use crate::case::{BOB, CAROL, Case, Exchange, MX1, Server};
use crate::lab::Lab;
use crate::message::{Stored, message, stuffed};
use crate::peers::Script;
use crate::postfix::RecipientOutcome;
use crate::smtp::Session;

const NO_BOB: &str = "smtpd_recipient_restrictions = \
    check_recipient_access inline:{ { bob@example.test = 550 5.1.1 no Bob here } }, reject_unauth_destination";
const FULL: &str = "smtpd_recipient_restrictions = \
    check_recipient_access inline:{ { bob@example.test = 452 4.2.2 Bob has no room } }, reject_unauth_destination";
const BAD_CONTENT: &str = "smtpd_end_of_data_restrictions = check_client_access static:{ 554 5.6.0 what a message }";
const NO_TIME: &str = "smtpd_end_of_data_restrictions = check_client_access static:{ 451 4.3.0 come back later }";

/// The outcome of a message for Bob at a host with this line of main.cf.
fn mail(setting: &'static [&'static str]) -> (Lab, RecipientOutcome) {
    let lab = Lab::start(&Case::of([Exchange { server: Server::Postfix(setting), ..MX1 }]));
    let outcome = lab.mail();
    (lab, outcome)
}

/// The client gives up and tells Alice why.
#[track_caller]
fn bounced(setting: &'static [&'static str], reply: &str, words: &[&str]) {
    let (lab, outcome) = mail(setting);
    outcome.assert_bounced(reply, words);
    lab.danelaw().await_delivery("rejected").assert(&[("exchange", MX1.name), ("protection", "verified")]);
    let bounce = lab.client.await_stored("alice");
    assert!(String::from_utf8_lossy(&bounce).contains(words[0]), "{}", bounce.escape_ascii());
    lab.client.await_empty_queue();
    assert!(lab.mx(&MX1).stored("bob").is_empty());
}

#[track_caller]
fn deferred(setting: &'static [&'static str], reply: &str, words: &[&str]) {
    let (lab, outcome) = mail(setting);
    outcome.assert_deferred(reply, words);
    lab.danelaw().await_delivery("deferred").assert(&[("exchange", MX1.name), ("protection", "verified")]);
    lab.assert_client_keeps_the_message();
}

/// Rows K18, L8.
#[test]
fn permanent_refusal_of_the_recipient() {
    bounced(&[NO_BOB], "550 5.1.1", &["no Bob here", "in reply to RCPT TO command"]);
}

/// Rows K18, L8.
#[test]
fn temporary_refusal_of_the_recipient() {
    deferred(&[FULL], "452 4.2.2", &["Bob has no room", "in reply to RCPT TO command"]);
}

/// Rows L1, L8.
#[test]
fn permanent_refusal_of_the_message() {
    bounced(&[BAD_CONTENT], "554 5.6.0", &["what a message", "in reply to end of DATA command"]);
}

/// Rows L1, L8.
#[test]
fn temporary_refusal_of_the_message() {
    deferred(&[NO_TIME], "451 4.3.0", &["come back later", "in reply to end of DATA command"]);
}

/// Row K18: each recipient gets his own answer.
#[test]
fn one_recipient_of_two() {
    let lab = Lab::start(&Case::of([Exchange { server: Server::Postfix(&[NO_BOB]), ..MX1 }]));
    let [bob, carol] = lab.mail_to([BOB, CAROL]);
    bob.assert_bounced("550 5.1.1", &["no Bob here"]);
    assert_eq!(carol.status, "sent", "{carol:?}");
    assert!(Stored::parse(&lab.mx(&MX1).await_stored("carol")).message == message());
    assert!(lab.mx(&MX1).stored("bob").is_empty());
}

/// An MX that takes mail for two domains: the second has no MX record, so it is its own host (RFC 5321 §5.1).
const OF_TWO_DOMAINS: Exchange = Exchange {
    server: Server::Postfix(&[
        "virtual_mailbox_domains = example.test, mx1.example.test",
        "virtual_mailbox_maps = inline:{ bob@example.test=bob/, dora@mx1.example.test=dora/ }",
    ]),
    ..MX1
};
const DORA: &str = "dora@mx1.example.test";

/// Decision 11: one message for two domains, with these lines in the client's main.cf; the client's status of each.
#[track_caller]
fn mail_to_two_domains(client: &'static [&'static str]) -> (Lab, [RecipientOutcome; 2]) {
    let lab = Lab::start(&Case { client, ..Case::of([OF_TWO_DOMAINS]) });
    let outcomes = lab.mail_to([BOB, DORA]);
    (lab, outcomes)
}

#[track_caller]
fn assert_both_have_it(lab: &Lab) {
    lab.client.await_empty_queue();
    for local_part in ["bob", "dora"] {
        assert!(Stored::parse(&lab.mx(&MX1).await_stored(local_part)).message == message());
    }
}

#[test]
fn another_domain_has_to_wait_for_the_next_try() {
    let (lab, [bob, dora]) = mail_to_two_domains(&[]);
    assert_eq!(bob.status, "sent", "{bob:?}");
    dora.assert_deferred("452 4.5.3", &["one destination per transaction"]);
    lab.client.try_again();
    assert_both_have_it(&lab);
}

#[track_caller]
fn sent_at_once(client: &'static [&'static str]) {
    let (lab, outcomes) = mail_to_two_domains(client);
    assert!(outcomes.iter().all(|outcome| outcome.status == "sent"), "{outcomes:?}");
    assert_both_have_it(&lab);
}

#[test]
fn another_domain_goes_at_once_where_each_recipient_has_a_transaction() {
    sent_at_once(&["smtp_destination_recipient_limit = 1"]);
}

#[test]
fn another_domain_goes_at_once_by_a_second_port() {
    sent_at_once(&["relayhost = [{danelaw}]:10025, [{danelaw}]:10026"]);
}

/// The setting in config/clients.
const LMTP: &[&str] =
    &["relayhost =", "default_transport = lmtp:inet:[{danelaw}]:10024", "lmtp_tls_security_level = none"];

/// Rows J3, J4, J6, L4.
#[test]
fn several_domains_go_at_once_by_lmtp() {
    sent_at_once(LMTP);
}

/// Rows J4, J9, L4: the outcome of one domain's recipients does not change that of the other's.
#[test]
fn by_lmtp_each_recipient_has_its_own_reply() {
    let server = Server::Postfix(&[
        "virtual_mailbox_domains = example.test, mx1.example.test",
        "virtual_mailbox_maps = inline:{ bob@example.test=bob/, dora@mx1.example.test=dora/ }",
        NO_BOB,
    ]);
    let lab = Lab::start(&Case { client: LMTP, ..Case::of([Exchange { server, ..MX1 }]) });
    let [bob, dora, nobody] = lab.mail_to([BOB, DORA, "eve@missing.example.test"]);
    bob.assert_bounced("550 5.1.1", &["no Bob here"]);
    nobody.assert_bounced("550 5.4.4", &["missing.example.test"]);
    assert_eq!(dora.status, "sent", "{dora:?}");
    let stored = lab.mx(&MX1).await_stored("dora");
    assert!(Stored::parse(&stored).message == message());
}

/// The cost of a second port: the client gets every other temporary reply twice.
#[test]
fn a_second_port_is_tried_after_any_temporary_refusal() {
    let client = &["relayhost = [{danelaw}]:10025, [{danelaw}]:10026"];
    let lab = Lab::start(&Case { client, ..Case::of([Exchange { server: Server::Postfix(&[FULL]), ..MX1 }]) });
    lab.mail().assert_deferred("452 4.2.2", &["Bob has no room"]);
    assert_eq!(lab.mx(&MX1).refusals(), 2);
}

/// Rows K4, K15, decision 12: a greeting with an error code is no reply to the mail.
#[track_caller]
fn deferred_greeting(greeting: &'static str) {
    let lab = Lab::start(&Case::of([Exchange { server: Server::greets(greeting), ..MX1 }]));
    lab.mail().assert_deferred("451 4.", &[MX1.name]);
    lab.assert_client_keeps_the_message();
    lab.assert_no_mail_command_at(&MX1);
}

#[test]
fn permanent_refusal_in_the_greeting() {
    deferred_greeting("554 5.3.2 no mail today");
}

#[test]
fn temporary_refusal_in_the_greeting() {
    deferred_greeting("421 4.3.2 come back later");
}

/// Rows I24, L1, L6, L12: it is unknown whether the remote has the message, so the client keeps it.
#[test]
fn connection_lost_before_the_last_reply() {
    let lab = Lab::start(&Case::of([Exchange { server: Server::Scripted(Script::HangsUpAfterDot), ..MX1 }]));
    lab.mail().assert_deferred("451 4.4.2", &[MX1.name]);
    lab.assert_client_keeps_the_message();
    let ends = lab.peer(&MX1).heard().iter().filter(|line| *line == "the final dot").count();
    assert_eq!(ends, 1, "{:?}", lab.peer(&MX1).heard());
}

/// Rows L2, L13: a message without its end of data is not delivered, wherever it breaks off.
#[test]
fn client_vanishes_in_mid_message() {
    let lab = Lab::start(&Case::default());
    let whole = stuffed(&message());
    let in_mid_line = &whole[..whole.len() / 2];
    let before_the_dot = whole.as_slice();
    let in_the_end = &[before_the_dot, b"."].concat();
    for part in [in_mid_line, before_the_dot, in_the_end] {
        let mut client = Session::open(lab.danelaw_address()).expect("danelaw listens");
        client.expect("EHLO client.test", 250);
        client.expect("MAIL FROM:<alice@client.test> BODY=8BITMIME", 250);
        client.expect("RCPT TO:<bob@example.test>", 250);
        client.expect("DATA", 354);
        client.send(part);
    }
    let mx = lab.mx(&MX1);
    let sessions = mx.await_sessions();
    // Each session began DATA, and none completed it.
    assert!(sessions.len() == 3 && sessions.iter().all(|commands| commands.contains(" data=0/1 ")), "{sessions:?}");
    assert!(mx.stored("bob").is_empty());
    assert_eq!(mx.queue(), "");
}
