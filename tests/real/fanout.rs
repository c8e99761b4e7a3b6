//! Fan-out with a real Postfix as the client, which gives danelaw all recipients in one transaction: nobody gets two copies,
//! who has to wait waits alone, who is refused bounces alone. Issue 5, item 3.

use std::thread;
use std::time::Duration;

use crate::case::{BOB, Case, Exchange, MX1, MX2, Server};
use crate::lab::Lab;
use crate::message::{message, stuffed};
use crate::process::eventually;

/// A domain of its own, whose one host is `mx2`.
const DAVE: &str = "dave@mx2.example.test";
const CLIENT: &[&str] = &["relayhost = [{danelaw}]:10027"];

/// A message to both, tried until nothing changes any more.
fn both(second: &'static [&'static str]) -> Lab {
    let second = Exchange { server: Server::Postfix(second), ..MX2 };
    let lab = Lab::start(&Case { client: CLIENT, ..Case::of([MX1, second]) });
    let queue_id = lab.client.submit(&stuffed(&message()), &[BOB, DAVE]);
    lab.client.fate(&queue_id, BOB);
    for _ in 0..5 {
        // What it is at is over first.
        let at_rest = || Some(lab.client.queue()).filter(|queue| !queue.contains("\"queue_name\": \"active\""));
        if eventually("a client at rest", at_rest).is_empty() {
            break;
        }
        lab.client.try_again();
        thread::sleep(Duration::from_secs(2));
    }
    assert_eq!(lab.mx(&MX1).stored("bob").len(), 1, "Bob has one copy");
    lab
}

#[test]
fn both_have_it() {
    let lab = both(&["virtual_mailbox_domains = mx2.example.test", "virtual_mailbox_maps = static:dave/"]);
    lab.client.await_empty_queue();
    lab.mx(&MX2).await_stored("dave");
    assert_eq!(lab.mx(&MX2).stored("dave").len(), 1);
}

#[test]
fn one_has_to_wait() {
    let lab = both(&["smtpd_tls_security_level = none"]);
    let queue = lab.client.queue();
    assert!(queue.lines().count() == 1 && queue.contains(DAVE) && !queue.contains(BOB), "{queue}");
    lab.assert_no_mail_command_at(&MX2);
}

#[test]
fn one_bounces_alone() {
    // There is no such user.
    let lab = both(&["virtual_mailbox_domains = mx2.example.test"]);
    lab.client.await_empty_queue();
    let bounce = String::from_utf8_lossy(&lab.client.await_stored("alice")).into_owned();
    assert!(bounce.contains(DAVE) && !bounce.contains(&format!("<{BOB}>: ")), "{bounce}");
    assert_eq!(lab.client.stored("alice").len(), 1);
}
