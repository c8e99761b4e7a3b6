//! One transaction, several domains, one reply: with any answers of the remotes, and after any cut, clients that try
//! until they are done deliver one copy to each recipient, and hear which recipients a remote has refused.

mod cut;
mod queue;
mod record;

use std::path::Path;

use crate::lab::certs::Identity;
use crate::lab::mx::{Mx, say};
use crate::lab::{Lab, Scenario};
use danelaw::server::Drained;
use queue::{Kind, Queue};

/// A message that may have a record.
const MESSAGE: &[u8] = b"From: <a@client.test>\r\nMessage-ID: <1@client.test>\r\nSubject: lab\r\n\r\n.dots\r\nbody\r\n";

/// The fault of the last of the domains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    None,
    /// No certificate matches; repaired at the end.
    Dane,
    NullMx,
    RefusedAtRcpt,
    DeferredAfterDot,
    RefusedAfterDot,
}

const TROUBLES: [Trouble; 6] = [
    Trouble::None,
    Trouble::Dane,
    Trouble::NullMx,
    Trouble::RefusedAtRcpt,
    Trouble::DeferredAfterDot,
    Trouble::RefusedAfterDot,
];

/// The settings of a fan-out listener with a journal.
fn fan_out(store: &Path) -> String {
    format!(
        "listener = [{{ address = '127.0.0.1:0', recipients = 'fan-out' }}]\nstore.path = '{}'\n\
         remote.failed_hosts_for = '0s'",
        store.display()
    )
}

/// `domains` domains: `example.test` first, whose exchange takes chunks, then `d2.example.test` and so on; the last one is in trouble.
fn scenario(domains: usize, trouble: Trouble, store: &Path) -> Scenario {
    let chunks = |mx: &mut Mx| mx.ehlo_under_tls = say("250-mx\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 CHUNKING");
    let mut scenario = Scenario::new().mx(chunks).set(&fan_out(store));
    for number in 2..domains {
        scenario = scenario.and_domain(&format!("d{number}.example.test"), |_| {});
    }
    let change = |mx: &mut Mx| match trouble {
        Trouble::RefusedAtRcpt => mx.rcpt = vec![say("550 5.1.1 no such user")],
        Trouble::DeferredAfterDot => mx.first_ends.lock().unwrap().push_back(say("451 4.3.0 not now")),
        Trouble::RefusedAfterDot => mx.end = say("554 5.7.1 we do not like it"),
        // The record is that of the certificate before.
        Trouble::Dane | Trouble::NullMx | Trouble::None => {}
    };
    match trouble {
        Trouble::NullMx => scenario.tree(|tree, _| tree.mx("last.example.test", 0, ".")),
        Trouble::Dane => scenario.and_domain("last.example.test", |mx| {
            mx.identity = Identity::for_name("mx.last.example.test");
        }),
        _ => scenario.and_domain("last.example.test", change),
    }
}

/// The recipients of a scenario's message.
fn recipients(domains: usize, first: Order) -> Vec<String> {
    let mut to = vec!["one@example.test".to_owned(), "two@example.test".to_owned()];
    to.extend((2..domains).map(|number| format!("b@d{number}.example.test")));
    to.push("last@last.example.test".to_owned());
    if first == Order::TroubleFirst {
        to.reverse();
    }
    to
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    TroubleFirst,
    TroubleLast,
}

async fn closed(mut lab: Lab) {
    lab.stop();
    assert_eq!(lab.stopped().await, Drained::Clean);
}

/// Copies that each exchange took.
fn copies(lab: &Lab) -> Vec<usize> {
    lab.seen.iter().map(|seen| seen.messages().len()).collect()
}

async fn play(kind: Kind, domains: usize, trouble: Trouble, order: Order) {
    let what = format!("{kind:?}, {domains} domains, {trouble:?}, {order:?}");
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store.sqlite");
    let lab = scenario(domains, trouble, &store).start().await;
    let mut queue = Queue::new(kind, &recipients(domains, order));
    for _ in 0..4 {
        queue.attempt(&lab.address).await;
    }
    let mut copies = copies(&lab);
    closed(lab).await;
    if trouble == Trouble::Dane {
        assert!(!queue.is_empty(), "{what}: {queue:?}");
        assert_eq!(queue.bounced, Vec::<String>::new(), "{what}");
        let lab = scenario(domains, Trouble::None, &store).start().await;
        for _ in 0..4 {
            queue.attempt(&lab.address).await;
        }
        copies = copies.into_iter().zip(self::copies(&lab)).map(|(before, after)| before + after).collect();
        closed(lab).await;
    }
    assert!(queue.is_empty(), "{what}: {queue:?}");
    let mut expected = vec![1; copies.len()];
    match trouble {
        // Taken twice, and one of these with a yes.
        Trouble::DeferredAfterDot => *expected.last_mut().unwrap() = 2,
        Trouble::RefusedAtRcpt => *expected.last_mut().unwrap() = 0,
        Trouble::None | Trouble::Dane | Trouble::NullMx | Trouble::RefusedAfterDot => {}
    }
    if kind == Kind::Dma {
        // A transaction for each, two of them at the first domain.
        *expected.first_mut().unwrap() = 2;
    }
    assert_eq!(copies, expected, "{what}: {queue:?}");
    let refused = matches!(trouble, Trouble::NullMx | Trouble::RefusedAtRcpt | Trouble::RefusedAfterDot);
    let bounced = match (refused, kind) {
        (false, _) => Vec::new(),
        (true, Kind::Dma) => vec!["last@last.example.test".to_owned()],
        // The client returns the whole message, and the reply says that all other recipients have it.
        (true, Kind::Nullmailer | Kind::Msmtp | Kind::Chunks) => recipients(domains, order),
    };
    assert_eq!(queue.bounced, bounced, "{what}: {queue:?}");
}

async fn play_all(kind: Kind) {
    for trouble in TROUBLES {
        for (domains, order) in [(2, Order::TroubleLast), (2, Order::TroubleFirst), (3, Order::TroubleLast)] {
            play(kind, domains, trouble, order).await;
        }
    }
}

#[tokio::test]
async fn a_client_that_sends_chunks() {
    play_all(Kind::Chunks).await;
}

#[tokio::test]
async fn a_client_that_gives_up_and_hangs_up() {
    play_all(Kind::Nullmailer).await;
}

#[tokio::test]
async fn a_client_that_gives_up_when_the_message_is_asked_for() {
    play_all(Kind::Msmtp).await;
}

#[tokio::test]
async fn a_client_with_one_recipient_at_a_time() {
    play_all(Kind::Dma).await;
}

#[tokio::test]
async fn replies_of_a_transaction_with_a_refused_recipient() {
    let folder = tempfile::tempdir().unwrap();
    let lab = scenario(2, Trouble::RefusedAtRcpt, &folder.path().join("store")).start().await;
    let mut client = lab.client().await;
    let offered = client.command("EHLO client.test").await;
    // RFC 9422: a transaction may have recipients at several domains.
    assert!(offered.contains("PRDR") && !offered.contains("RCPTDOMAINMAX"), "{offered}");
    let (ok, no) = ("b@example.test", "no@last.example.test");
    let heard = client.send(&[no, ok], MESSAGE).await;
    assert_eq!(
        heard.rcpt,
        ["250 2.1.5 the answer comes at the end of the message", "250 2.1.5 mx1.example.test[127.0.0.1]: recipient ok"]
    );
    assert_eq!(
        heard.last(),
        "550-5.1.1 <no@last.example.test>: 550 5.1.1 mx.last.example.test[127.0.0.2]: no such user\n\
         550 5.1.1 all other recipients have the message"
    );
    // The record ends there: the same message is a new one, without the refused recipient and with it.
    let heard = client.send(&[ok], MESSAGE).await;
    assert_eq!(heard.last(), "250 2.0.0 mx1.example.test[127.0.0.1]: queued as 42");
    assert!(client.send(&[no, ok], MESSAGE).await.last().starts_with("550-5.1.1 <no@last.example.test>: "));
    assert_eq!((lab.mx().messages().len(), lab.mx().cut()), (3, 0));
    // All recipients are refused: no message is asked for.
    let heard = client.send(&[no], b"another one\r\n").await;
    assert!(heard.rcpt[0].starts_with("250 "), "{heard:?}");
    assert_eq!(heard.data.as_deref(), Some("550 5.1.1 mx.last.example.test[127.0.0.2]: no such user"));
    // M12: the first chunk is read and refused; no recipient is left for the others.
    for last in ["", " LAST"] {
        client.command("MAIL FROM:<a@client.test>").await;
        assert!(client.command(&format!("RCPT TO:<{no}>")).await.starts_with("250 "));
        client.write(format!("BDAT 6{last}\r\nRSET\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n").as_bytes()).await;
        assert_eq!(client.codes(3).await, ["550 5.1.1", "503 5.5.1", "250 2.0.0"]);
    }
}

#[tokio::test]
async fn a_recipient_that_is_listed_twice_has_one_outcome() {
    // A remote may take the first and refuse or defer the second, or the other way round. The recipient has the message.
    let (yes, no) = (say("250 2.1.5 ok"), say("550 5.1.1 I know him already"));
    let later = say("450 4.5.3 once is enough");
    for rcpt in
        [vec![yes.clone(), no.clone()], vec![no, yes.clone()], vec![yes.clone(), later.clone()], vec![later, yes]]
    {
        let folder = tempfile::tempdir().unwrap();
        let set = fan_out(&folder.path().join("store"));
        let lab = Scenario::new().mx(|mx| mx.rcpt = rcpt.clone()).set(&set).start().await;
        let heard = lab.client().await.send(&["b@example.test", "b@example.test"], MESSAGE).await;
        assert!(heard.last().starts_with("250 2.0.0 "), "{rcpt:?}: {heard:?}");
        assert_eq!(copies(&lab), [1], "{rcpt:?}");
    }
}

#[tokio::test]
async fn a_recipient_that_is_listed_twice_is_refused_only_if_both_are() {
    // The second one is refused as a duplicate, and the message is deferred: the refusal is no outcome of the recipient.
    let folder = tempfile::tempdir().unwrap();
    let (yes, no) = (say("250 2.1.5 ok"), say("550 5.1.1 I know him already"));
    let lab = Scenario::new()
        .mx(|mx| {
            mx.rcpt = vec![yes.clone(), no.clone(), yes, no];
            mx.first_ends.lock().unwrap().push_back(say("451 4.3.0 not now"));
        })
        .set(&fan_out(&folder.path().join("store")))
        .start()
        .await;
    let twice = ["b@example.test", "b@example.test"];
    let mut client = lab.client().await;
    let heard = client.send(&twice, MESSAGE).await;
    assert!(heard.last().starts_with("451 4.3.0 "), "{heard:?}");
    let heard = client.send(&twice, MESSAGE).await;
    assert!(heard.last().starts_with("250 2.0.0 "), "{heard:?}");
    assert_eq!(copies(&lab), [2]);
}

#[tokio::test]
async fn a_recipient_that_has_the_message_gets_it_once_however_long_another_is_deferred() {
    for kind in [Kind::Nullmailer, Kind::Msmtp, Kind::Chunks] {
        for order in [Order::TroubleFirst, Order::TroubleLast] {
            let folder = tempfile::tempdir().unwrap();
            let store = folder.path().join("store");
            let lab =
                scenario(2, Trouble::None, &store).change(1, |mx| mx.end = say("451 4.3.0 not now")).start().await;
            let mut queue = Queue::new(kind, &recipients(2, order));
            for _ in 0..6 {
                queue.attempt(&lab.address).await;
            }
            assert!(!queue.is_empty() && queue.bounced.is_empty(), "{kind:?} {order:?}: {queue:?}");
            assert_eq!(copies(&lab), [1, 6], "{kind:?} {order:?}: {queue:?}");
        }
    }
}
