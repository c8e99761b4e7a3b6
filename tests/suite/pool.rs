//! Sessions that wait for the next mail: the mail that they serve, and their end (L14, A-106).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::lab::certs::Identity;
use crate::lab::client::Client;
use crate::lab::dns::Tree;
use crate::lab::exchange::Exchange;
use crate::lab::mx::{Act, Mx, Seen, say};
use crate::lab::{Lab, MESSAGE, Scenario, wait_for};
use danelaw::dns::stub::Stub;
use danelaw::dns::{Answer, Failure, HostLookup, Lookup, Mx as MxRecord, RawTlsa, RawTxt, Resolver, Security};
use danelaw::name::Name;
use danelaw::session::{Caller, Shared, Stop, serve};
use tokio::net::TcpStream;
use tokio::sync::watch;

/// A change to an exchange's script.
type Change = fn(&mut Mx);

/// The happy path, with sessions that wait.
fn pooled() -> Scenario {
    Scenario::new().set(POOL)
}

const POOL: &str = "remote.idle_connections = 100";

/// The number of these commands, such as MAIL or RSET.
fn said(seen: &Seen, verb: &str) -> usize {
    seen.tls().iter().filter(|line| line.starts_with(verb)).count()
}

fn waiting<R: Resolver>(lab: &Lab<R>) -> usize {
    lab.now().connector.dialer.pool.waiting()
}

/// One message, which must arrive.
async fn delivered<R: Resolver>(lab: &Lab<R>, to: &str) {
    let answer = lab.client().await.send(&[to], MESSAGE).await.last().to_owned();
    assert!(answer.starts_with("250 2.0.0 "), "{answer}");
}

#[tokio::test]
async fn one_session_for_many_mails() {
    let lab = pooled().start().await;
    for mails in 1..4 {
        delivered(&lab, "b@example.test").await;
        assert_eq!((lab.mx().messages().len(), lab.mx().connections(), waiting(&lab)), (mails, 1, 1));
    }
    // And for mails of one client session.
    let mut client = lab.client().await;
    for _ in 0..2 {
        assert!(client.send(&["b@example.test"], MESSAGE).await.last().starts_with("250 2.0.0 "));
    }
    assert_eq!((lab.mx().messages().len(), lab.mx().connections()), (5, 1));
    assert_eq!((said(lab.mx(), "EHLO"), said(lab.mx(), "MAIL"), said(lab.mx(), "RSET")), (1, 5, 0));
    // Two at a time are two sessions.
    let (mut one, mut two) = (lab.client().await, lab.client().await);
    for client in [&mut one, &mut two] {
        client.command("MAIL FROM:<a@client.test>").await;
        assert!(client.command("RCPT TO:<b@example.test>").await.starts_with("250 "));
    }
    assert_eq!((lab.mx().connections(), waiting(&lab)), (2, 0));
}

#[tokio::test]
async fn a_session_that_waited_is_told_as_one() {
    let lab = pooled().start().await;
    let admin = lab.admin().await;
    for _ in 0..3 {
        delivered(&lab, "b@example.test").await;
    }
    // The metrics count no event that did not happen for these mails.
    let (_, metrics) = danelaw::admin::client::ask(&admin, "/metrics").await.unwrap();
    for series in [
        "connections_total{result=\"ok\"} 1",
        "handshakes_total{result=\"ok\"} 1",
        "reused_sessions_total 2",
        "waiting_sessions 1",
    ] {
        assert!(metrics.contains(&format!("danelaw_{series}\n")), "{series} in {metrics}");
    }
    // And `explain` tells no such event of them.
    let mut client = lab.client().await;
    client.command("MAIL FROM:<a@client.test>").await;
    client.command("RCPT TO:<b@example.test>").await;
    client.command("DATA").await;
    client.write(format!("{}\r\n.\r\n", "Received: x\r\n".repeat(101)).as_bytes()).await;
    let refused = client.reply().await;
    let id = refused.trim_end().rsplit_once("(id ").unwrap().1.trim_end_matches(')');
    let (_, told) = danelaw::admin::client::ask(&admin, &format!("/explain/{id}")).await.unwrap();
    assert!(told.contains("took a session that waited; when it was opened: TLSv1.3"), "{told}");
    assert!(told.contains("proven when the session was opened, 3 mails before"), "{told}");
    assert!(!told.contains("it offers STARTTLS") && !told.contains("certificate 0"), "{told}");
}

#[tokio::test]
async fn no_session_outlives_its_configuration() {
    let lab = pooled().start().await;
    delivered(&lab, "b@example.test").await;
    assert_eq!(waiting(&lab), 1);
    // One that is in use meanwhile ends with its transaction.
    let mut client = lab.client().await;
    client.command("MAIL FROM:<a@client.test>").await;
    assert!(client.command("RCPT TO:<b@example.test>").await.starts_with("250 "));
    delivered(&lab, "b@example.test").await;
    assert_eq!((lab.mx().connections(), waiting(&lab)), (2, 1));
    lab.reload("");
    wait_for(|| said(lab.mx(), "QUIT") == 1).await;
    client.command("RSET").await;
    wait_for(|| said(lab.mx(), "QUIT") == 2).await;
    assert_eq!(waiting(&lab), 0);
    delivered(&lab, "b@example.test").await;
    assert_eq!((lab.mx().connections(), waiting(&lab)), (3, 1));
}

#[tokio::test]
async fn another_name_in_ehlo_is_another_session() {
    let lab = pooled().start().await;
    delivered(&lab, "b@example.test").await;
    let mut client = Client::connect(&lab.address).await;
    client.command("EHLO other.test").await;
    assert!(client.send(&["b@example.test"], MESSAGE).await.last().starts_with("250 2.0.0 "));
    assert_eq!(lab.mx().connections(), 2);
}

/// `example.test` and `other.test` with the same exchange, which has a record for its own key, or for a key that no
/// server has.
fn shared_exchange(record: fn(&Identity) -> String) -> Scenario {
    Scenario::with_domain(|tree, _| {
        tree.secure("other.test").mx("example.test", 10, "mx.example.test").mx("other.test", 10, "mx.example.test")
    })
    .host("mx.example.test", |mx, tree, port| {
        let record = record(&mx.identity);
        (mx, if record.is_empty() { tree } else { tree.tlsa("mx.example.test", port, &record) })
    })
    .set(POOL)
}

#[tokio::test]
async fn domains_share_sessions_where_the_policy_is_equal_and_nowhere_else() {
    // No DANE: the same proof is enough for both domains.
    let lab = shared_exchange(|_| String::new()).start().await;
    delivered(&lab, "b@example.test").await;
    delivered(&lab, "b@other.test").await;
    assert_eq!(lab.mx().connections(), 1);
    // L14: with DANE the domain itself is a reference identifier.
    let lab = shared_exchange(|identity| identity.record("3 1 1")).start().await;
    delivered(&lab, "b@example.test").await;
    delivered(&lab, "b@other.test").await;
    delivered(&lab, "b@example.test").await;
    assert_eq!((lab.mx().connections(), waiting(&lab)), (2, 2));
    // a session that was opened without verification does not serve a domain that requires it.
    let wrong = |_: &Identity| Identity::for_name("other").record("3 1 1");
    for level in ["encrypt", "may"] {
        let rule =
            format!("rule = [{{ domain = 'other.test', level = '{level}', reason = 'x', until = '9999-12-31' }}]");
        let lab = shared_exchange(wrong).set(&rule).start().await;
        delivered(&lab, "b@other.test").await;
        assert_eq!(waiting(&lab), 1);
        let answer = lab.send().await.last().to_owned();
        assert!(answer.starts_with("451") && answer.contains("no TLSA record matches"), "{answer}");
        assert_eq!((lab.mx().connections(), lab.mx().messages().len()), (2, 1));
    }
}

/// The DNS, with one answer about TLSA and the security of all MX records as they are set.
#[derive(Clone)]
struct Changing {
    stub: Stub,
    now: Arc<Mutex<Now>>,
}

#[derive(Default)]
struct Now {
    tlsa: Option<Vec<RawTlsa>>,
    insecure_mx: bool,
}

impl Resolver for Changing {
    async fn mx(&self, domain: &Name) -> Result<Lookup<MxRecord>, Failure> {
        let mut lookup = self.stub.mx(domain).await?;
        if self.now.lock().unwrap().insecure_mx {
            lookup.end = Security::Insecure;
        }
        Ok(lookup)
    }

    async fn host(&self, name: &Name) -> Result<HostLookup, Failure> {
        self.stub.host(name).await
    }

    async fn tlsa(&self, owner: &Name) -> Result<Lookup<RawTlsa>, Failure> {
        let mut lookup = self.stub.tlsa(owner).await?;
        if let Some(records) = &self.now.lock().unwrap().tlsa {
            lookup.answer = if records.is_empty() { Answer::NoData } else { Answer::Records(records.clone()) };
        }
        Ok(lookup)
    }

    async fn txt(&self, owner: &Name) -> Result<Lookup<RawTxt>, Failure> {
        self.stub.txt(owner).await
    }
}

/// The RDATA of a record.
fn raw(record: &str) -> RawTlsa {
    let [usage, selector, matching, data] = record.split(' ').collect::<Vec<_>>()[..] else { panic!("{record}") };
    let octet = |text: &str| text.parse::<u8>().unwrap();
    let hex = (0..data.len()).step_by(2).map(|at| u8::from_str_radix(&data[at..at + 2], 16).unwrap());
    RawTlsa([octet(usage), octet(selector), octet(matching)].into_iter().chain(hex).collect())
}

#[tokio::test]
async fn an_idle_session_is_judged_by_the_present_records() {
    // L14, promise 6: the records are asked for before a session is taken, whichever proof the session has for other
    // domains.
    let identity = Identity::for_name("mx1.example.test");
    let (right, wrong) = (raw(&identity.record("3 1 1")), raw(&Identity::for_name("other").record("3 1 1")));
    let now = Arc::new(Mutex::new(Now::default()));
    let lab =
        pooled().mx(|mx| mx.identity = identity).start_with(|stub| Changing { stub, now: Arc::clone(&now) }).await;
    now.lock().unwrap().tlsa = Some(vec![right.clone()]);
    delivered(&lab, "b@example.test").await;
    delivered(&lab, "b@example.test").await;
    assert_eq!(lab.mx().connections(), 1);
    // A roll: the session that waits was verified by a record that is gone.
    now.lock().unwrap().tlsa = Some(vec![wrong.clone()]);
    let answer = lab.send().await.last().to_owned();
    assert!(answer.starts_with("451") && answer.contains("no TLSA record matches"), "{answer}");
    assert_eq!((lab.mx().connections(), lab.mx().messages().len()), (2, 2));
    // One more record is another set.
    now.lock().unwrap().tlsa = Some(vec![right.clone(), wrong.clone()]);
    delivered(&lab, "b@example.test").await;
    assert_eq!(lab.mx().connections(), 3);
    // The same set in another order is the same.
    now.lock().unwrap().tlsa = Some(vec![wrong, right]);
    delivered(&lab, "b@example.test").await;
    assert_eq!(lab.mx().connections(), 3);
    // Insecure MX records name another policy, and so does the end of all records.
    now.lock().unwrap().insecure_mx = true;
    delivered(&lab, "b@example.test").await;
    assert_eq!(lab.mx().connections(), 4);
    *now.lock().unwrap() = Now { tlsa: Some(Vec::new()), insecure_mx: false };
    delivered(&lab, "b@example.test").await;
    assert_eq!((lab.mx().connections(), waiting(&lab)), (5, 4));
}

#[tokio::test]
async fn remotes_that_do_not_wait() {
    // K15: a close or reply during the wait is found before any mail is lost; one at the very moment of the next
    // command costs another connection, and the client sees neither.
    let ends: [(Change, &str); 10] = [
        (|mx| mx.after = Some(Act::Close), "closed"),
        (|mx| mx.after = Some(Act::SayAndClose("421 4.4.2 idle for too long\r\n".into())), "said 421"),
        (|mx| mx.after = Some(say("421 4.4.2 idle for too long")), "said 421 and stayed"),
        (|mx| mx.after = Some(Act::SayAndCut(String::new())), "cut"),
        (|mx| mx.mail_again = Some(Act::Close), "closed at MAIL"),
        (|mx| mx.mail_again = Some(Act::SayAndClose("421 4.4.2 idle\r\n".into())), "421 to MAIL"),
        (|mx| mx.mail_again = Some(say("452 4.5.3 too many mails")), "452 to MAIL"),
        (|mx| mx.mail_again = Some(say("503 5.5.1 nested MAIL command")), "503 to MAIL"),
        (|mx| mx.mail_again = Some(say("550 5.7.1 too many mails")), "550 to MAIL"),
        (|mx| mx.mail_again = Some(Act::SayAndClose("250 2.1.0 ok\r\n".into())), "closed at RCPT"),
    ];
    for (change, what) in ends {
        let lab = pooled().mx(change).start().await;
        for mails in 1..4 {
            delivered(&lab, "b@example.test").await;
            assert_eq!((lab.mx().messages().len(), lab.mx().connections()), (mails, mails), "{what}");
        }
    }
    // Even if the remote closes at every MAIL: no mail is tried for ever.
    let lab = pooled().mx(|mx| mx.mail = Act::Close).start().await;
    assert!(lab.send().await.last().starts_with("451 4.4.2 mx1.example.test"));
    assert_eq!(lab.mx().connections(), 1);
}

#[tokio::test]
async fn an_answered_recipient_is_not_sent_again() {
    // L11: the second mail's recipient has its answer from the session that waited, and DATA breaks.
    for data in [Act::Close, Act::SayAndClose("421 4.3.2 restarting\r\n".into())] {
        let lab = pooled().mx(|mx| mx.data = data.clone()).start().await;
        let mut client = lab.client().await;
        // This leaves a session that waits.
        client.command("MAIL FROM:<a@client.test>").await;
        assert!(client.command("RCPT TO:<b@example.test>").await.starts_with("250 "));
        client.command("RSET").await;
        wait_for(|| waiting(&lab) == 1).await;
        let answer = lab.send().await.last().to_owned();
        assert!(answer.starts_with("451 "), "{answer}");
        assert_eq!((lab.mx().connections(), said(lab.mx(), "MAIL")), (1, 2));
    }
    // L6: and never after the end of the message, when it may have arrived.
    let lab = pooled().mx(|mx| mx.end = Act::Close).start().await;
    let mut client = lab.client().await;
    client.command("MAIL FROM:<a@client.test>").await;
    client.command("RCPT TO:<b@example.test>").await;
    client.command("RSET").await;
    wait_for(|| waiting(&lab) == 1).await;
    assert!(lab.send().await.last().starts_with("451 4.4.2 "));
    assert_eq!((lab.mx().connections(), lab.mx().messages().len()), (1, 1));
}

#[tokio::test]
async fn only_sessions_in_step_wait() {
    // A transaction that was aborted is reset first.
    let lab = pooled().start().await;
    let mut client = lab.client().await;
    client.command("MAIL FROM:<a@client.test>").await;
    client.command("RCPT TO:<b@example.test>").await;
    client.command("QUIT").await;
    wait_for(|| waiting(&lab) == 1).await;
    assert_eq!(said(lab.mx(), "RSET"), 1);
    delivered(&lab, "b@example.test").await;
    assert_eq!(lab.mx().connections(), 1);
    // As after a refusal of the recipient or the message: Postfix then still has the transaction.
    let refusals: [Change; 2] = [|mx| mx.rcpt = vec![say("550 5.1.1 no")], |mx| mx.end = say("554 5.7.1 spam")];
    for change in refusals {
        let lab = pooled().mx(change).start().await;
        for _ in 0..2 {
            assert!(lab.send().await.last().starts_with("55"));
            wait_for(|| waiting(&lab) == 1).await;
        }
        assert_eq!((lab.mx().connections(), said(lab.mx(), "RSET")), (1, 2));
    }
    // A remote that does not take RSET gets QUIT.
    let lab = pooled().mx(|mx| mx.rset = say("500 5.5.1 what?")).mx(|mx| mx.mail = say("550 5.7.1 no")).start().await;
    lab.send().await;
    wait_for(|| lab.mx().closed() == 1).await;
    assert_eq!(waiting(&lab), 0);
    // L2: a message that was cut off ends the session with it.
    let lab = pooled().start().await;
    let mut client = lab.client().await;
    client.command("MAIL FROM:<a@client.test>").await;
    client.command("RCPT TO:<b@example.test>").await;
    client.command("DATA").await;
    client.write(b"half a message\r\n").await;
    client.vanish();
    wait_for(|| lab.mx().cut() == 1).await;
    assert_eq!((waiting(&lab), lab.mx().messages().len()), (0, 0));
}

#[tokio::test]
async fn a_session_that_refuses_again_serves_no_other_mail() {
    // K20: the first mail of a session is answered for itself; after it a refusal may be for the number of mails.
    let refusals: [(Change, [usize; 3]); 6] = [
        (|mx| mx.mail = say("550 5.7.1 no"), [1, 2, 3]),
        (|mx| mx.rcpt = vec![say("451 4.7.1 no")], [1, 2, 3]),
        (|mx| mx.data = say("451 4.4.5 no"), [1, 1, 2]),
        (|mx| mx.data = say("503 5.5.1 no"), [1, 1, 2]),
        (|mx| mx.end = say("452 4.4.5 no"), [1, 1, 2]),
        // About the message, and not about the session.
        (|mx| mx.end = say("554 5.7.1 spam"), [1, 1, 1]),
    ];
    for (change, connections) in refusals {
        let lab = pooled().mx(change).start().await;
        for connections in connections {
            let answer = lab.send().await.last().to_owned();
            assert!(answer.contains(" no") || answer.contains("spam"), "{answer}");
            assert_eq!(lab.mx().connections(), connections, "{answer}");
            // It is gone or it waits before the next mail comes.
            wait_for(|| lab.mx().closed() + waiting(&lab) == connections).await;
        }
    }
}

/// One message to two recipients, its envelope and DATA in one piece. The starts of the replies.
async fn pipelined(lab: &Lab) -> Vec<String> {
    let mut client = lab.client().await;
    let recipients = "RCPT TO:<b@example.test>\r\nRCPT TO:<c@example.test>\r\n";
    client.write(format!("MAIL FROM:<a@client.test>\r\n{recipients}DATA\r\n").as_bytes()).await;
    let mut codes = client.codes(4).await;
    if codes[3] == "354" {
        client.write(b"Subject: lab\r\n\r\nbody\r\n.\r\n").await;
        codes.extend(client.codes(1).await);
    }
    codes
}

#[tokio::test]
async fn a_host_with_a_limit_of_mails_for_a_session_takes_all_mails() {
    // K20: Stalwart refuses DATA, others RCPT or MAIL, and all keep the session.
    let limits: [(Change, &str); 6] = [
        (|mx| mx.data_again = Some(say("452 4.4.5 maximum number of messages per session exceeded")), "452 to DATA"),
        (|mx| mx.data_again = Some(say("503 5.5.1 bad sequence")), "503 to DATA"),
        (|mx| mx.data_again = Some(say("554 5.7.0 too many mails")), "554 to DATA"),
        (|mx| mx.data_again = Some(Act::SayAndClose("421 4.4.5 too many mails\r\n".into())), "421 to DATA"),
        (|mx| mx.rcpt_again = Some(say("451 4.4.5 mails per session limit")), "451 to RCPT"),
        (|mx| mx.mail_again = Some(say("554 5.7.0 too many mails")), "554 to MAIL"),
    ];
    for (change, what) in limits {
        let lab = pooled().mx(change).start().await;
        for mails in 1..5 {
            assert_eq!(pipelined(&lab).await, ["250 2.1.0", "250 2.1.5", "250 2.1.5", "354", "250 2.0.0"], "{what}");
            // K10: a remote that has refused all recipients gets an empty message for its 354.
            let taken = lab.mx().messages().iter().filter(|message| !message.is_empty()).count();
            assert_eq!((taken, lab.mx().connections()), (mails, mails), "{what}");
            // No session that has refused waits for the next mail.
            wait_for(|| waiting(&lab) == 1 && lab.mx().open() == 1).await;
        }
    }
}

#[tokio::test]
async fn the_word_of_the_new_session_is_final() {
    // K20, L11: the client hears the answers of one session alone.
    let verdicts: [(Change, &[&str]); 4] = [
        (
            |mx| mx.rcpt = vec![say("250 2.1.5 ok"), say("550 5.1.1 who?")],
            &["250 2.1.0", "250 2.1.5", "550 5.1.1", "354", "250 2.0.0"],
        ),
        (|mx| mx.rcpt = vec![say("550 5.1.1 who?")], &["250 2.1.0", "550 5.1.1", "550 5.1.1", "554 5.5.1"]),
        (|mx| mx.rcpt = vec![say("450 4.2.0 later")], &["250 2.1.0", "450 4.2.0", "450 4.2.0", "554 5.5.1"]),
        (|mx| mx.data = say("554 5.7.1 no"), &["250 2.1.0", "250 2.1.5", "250 2.1.5", "554 5.7.1"]),
    ];
    for (change, heard) in verdicts {
        let limit = |mx: &mut Mx| {
            let mut later = mx.clone();
            change(&mut later);
            (mx.data_again, mx.later) = (Some(say("452 4.4.5 too many")), Some(Arc::new(later)));
        };
        let lab = pooled().mx(limit).start().await;
        delivered(&lab, "b@example.test").await;
        assert_eq!(pipelined(&lab).await, heard);
        assert_eq!(lab.mx().connections(), 2);
    }
}

#[tokio::test]
async fn a_delay_over_an_old_session_counts_where_there_is_no_new_one() {
    // K20, L11: the host gives no new session, and a worse exchange that knows no recipient is no reason to return the mail.
    let delays: [(Change, &str); 3] = [
        (|mx| mx.mail_again = Some(say("450 4.7.1 later")), "450 4.7.1"),
        (|mx| mx.rcpt_again = Some(say("450 4.7.1 later")), "450 4.7.1"),
        (|mx| mx.data_again = Some(say("452 4.4.5 later")), "452 4.4.5"),
    ];
    let worse: [Change; 4] = [
        |mx| mx.rcpt = vec![say("550 5.1.1 who?")],
        |mx| mx.mail = say("550 5.7.1 not you"),
        |mx| mx.greeting = say("554 no"),
        |mx| mx.rcpt = vec![Act::Close],
    ];
    let new: [Change; 5] = [
        |mx| mx.greeting = say("421 4.7.0 too many sessions"),
        |mx| mx.starttls = say("454 no"),
        |mx| mx.mail = say("450 4.7.1 slowly"),
        |mx| mx.mail = Act::Close,
        |mx| mx.rcpt = vec![Act::SayAndClose("421 4.7.0 bye\r\n".into())],
    ];
    for (delay, code) in delays {
        for worse in worse {
            for new in new {
                let first = |mx: &mut Mx| {
                    let mut later = mx.clone();
                    new(&mut later);
                    mx.later = Some(Arc::new(later));
                    delay(mx);
                };
                let host = |place| Exchange::new("example.test", &format!("mx{place}.example.test")).preference(place);
                let lab = Scenario::of([host(0), host(1)]).set(POOL).change(0, first).change(1, worse).start().await;
                delivered(&lab, "b@example.test").await;
                let heard = pipelined(&lab).await;
                assert_eq!(heard, ["250 2.1.0", code, code, "554 5.5.1"]);
                assert_eq!((lab.seen[0].connections(), lab.seen[1].connections()), (2, 1));
            }
        }
    }
}

#[tokio::test]
async fn a_session_carries_no_more_mails_than_its_limit() {
    // K19, and danelaw's own limit.
    let announced = |mx: &mut Mx| mx.ehlo_under_tls = say("250-mx\r\n250-PIPELINING\r\n250 LIMITS MAILMAX=2");
    for scenario in [pooled().mx(announced), pooled().set("remote.mails_per_connection = 2")] {
        let lab = scenario.start().await;
        for connections in [1, 1, 2, 2, 3] {
            delivered(&lab, "b@example.test").await;
            assert_eq!(lab.mx().connections(), connections);
        }
        // A session at its limit does not wait.
        wait_for(|| lab.mx().closed() == 2).await;
        assert_eq!(waiting(&lab), 1);
    }
    let lab = pooled().set("remote.idle_connections = 0").start().await;
    for connections in [1, 2] {
        delivered(&lab, "b@example.test").await;
        assert_eq!((lab.mx().connections(), waiting(&lab)), (connections, 0));
    }
}

/// Opens this number of sessions at once, which then all wait.
async fn many<R: Resolver>(lab: &Lab<R>, count: usize) {
    let mut clients = Vec::new();
    for _ in 0..count {
        let mut client = lab.client().await;
        client.command("MAIL FROM:<a@client.test>").await;
        assert!(client.command("RCPT TO:<b@example.test>").await.starts_with("250 "));
        clients.push(client);
    }
    for client in &mut clients {
        client.command("RSET").await;
    }
}

#[tokio::test]
async fn idle_sessions_are_bounded() {
    for bounds in ["remote.idle_connections = 2", "remote.idle_connections_per_host = 2"] {
        let lab = pooled().set(bounds).start().await;
        many(&lab, 4).await;
        // The others get QUIT.
        wait_for(|| lab.mx().closed() == 2).await;
        assert_eq!((lab.mx().connections(), waiting(&lab)), (4, 2));
    }
}

#[tokio::test]
async fn an_idle_session_ends_after_its_time() {
    let lab = pooled().set("remote.connection_age = '70s'").remember().start().await;
    delivered(&lab, "b@example.test").await;
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(29)).await;
    assert_eq!((waiting(&lab), lab.mx().closed()), (1, 0));
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!((waiting(&lab), lab.mx().closed()), (0, 1));
    tokio::time::resume();
    // Its age counts from when it was verified, however often it was used.
    for age in [0, 25, 50, 75] {
        delivered(&lab, "b@example.test").await;
        assert_eq!(lab.mx().connections(), if age < 70 { 2 } else { 3 }, "{age}");
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(25)).await;
        tokio::time::resume();
    }
}

#[tokio::test]
async fn at_the_end_all_hear_goodbye() {
    let mut lab = pooled().start().await;
    many(&lab, 3).await;
    wait_for(|| waiting(&lab) == 3).await;
    lab.stop();
    lab.stopped().await;
    assert_eq!((waiting(&lab), said(lab.mx(), "QUIT")), (0, 3));
    wait_for(|| lab.mx().closed() == 3).await;
}

#[tokio::test]
async fn idle_sessions_make_room_for_other_mail() {
    // a session that waits counts as a connection, and makes room for other mail.
    let other = |tree: Tree| tree.secure("other.test");
    for caps in ["remote.connections = 1", "remote.connections_per_host = 1"] {
        let lab = pooled()
            .tree(|tree, _| other(tree))
            .exchange(Exchange::new("other.test", "mx.other.test").tlsa([]))
            .set(caps)
            .start()
            .await;
        delivered(&lab, "b@example.test").await;
        delivered(&lab, "b@other.test").await;
        let mut client = Client::connect(&lab.address).await;
        client.command("EHLO another.test").await;
        assert!(client.send(&["b@example.test"], MESSAGE).await.last().starts_with("250 2.0.0 "));
        assert_eq!((lab.seen[0].connections(), lab.seen[1].connections()), (2, 1));
    }
    // Nor does it count for its domain.
    let lab = pooled().set("remote.connections_per_domain = 1").start().await;
    for _ in 0..3 {
        delivered(&lab, "b@example.test").await;
        let mut client = Client::connect(&lab.address).await;
        client.command("EHLO another.test").await;
        assert!(client.send(&["b@example.test"], MESSAGE).await.last().starts_with("250 2.0.0 "));
    }
    assert_eq!((lab.mx().connections(), waiting(&lab)), (2, 2));
}

#[tokio::test]
async fn a_session_is_handed_to_a_waiter_before_it_idles() {
    // many mails to one host at once end as fast as the host takes them.
    let lab = pooled().set("remote.connections_per_host = 1").start().await;
    let storm = (0..10).map(|_| delivered(&lab, "b@example.test"));
    tokio::time::timeout(Duration::from_secs(8), futures_util::future::join_all(storm))
        .await
        .expect("no timeout expires");
    assert_eq!(lab.mx().messages().len(), 10);
    // The session that one mail leaves is right for the next one, which takes it over.
    assert_eq!(lab.mx().connections(), 1);
}

#[tokio::test]
async fn a_session_goes_to_nobody_who_wants_another_one() {
    // a mail with another EHLO may have waited longest, or not; each has its turn, with a session of its
    // own.
    let lab = pooled().set("remote.connections_per_host = 1").start().await;
    let storm = (0..10).map(|number| {
        let lab = &lab;
        async move {
            let mut client = Client::connect(&lab.address).await;
            client.command(&format!("EHLO client{}.test", number % 2)).await;
            assert!(client.send(&["b@example.test"], MESSAGE).await.last().starts_with("250 2.0.0 "));
        }
    });
    tokio::time::timeout(Duration::from_secs(8), futures_util::future::join_all(storm))
        .await
        .expect("no timeout expires");
    assert_eq!(lab.mx().messages().len(), 10);
    assert!((0..2).all(|number| said(lab.mx(), &format!("EHLO client{number}.test")) >= 1));
}

/// The size in octets of the value that a function returns.
fn size_made<A, M>(_: impl FnOnce(A) -> M) -> usize {
    size_of::<M>()
}

/// Each client has the state of its session for as long as it stays, however little of it a moment needs.
#[test]
fn the_state_of_a_session_is_small() {
    type Arguments = (watch::Receiver<Arc<Shared<Stub>>>, TcpStream, Caller, Stop);
    let size = size_made(|(settings, stream, caller, stop): Arguments| serve(settings, stream, caller, stop));
    assert!(size <= 6 * 1024, "{size} octets: put what only few sessions need on the heap (Box::pin)");
}
