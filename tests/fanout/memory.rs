//! A final reply that was lost between us and the client, on every kind of listener.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use danelaw::report::metrics::{Format, Moment};

use crate::lab::client::Client;
use crate::lab::mx::{Mx, say};
use crate::lab::{Lab, MESSAGE, Scenario, wait_for};
use crate::{Trouble, closed, copies, fan_out, scenario};

const TEXT: &[u8] = b"Subject: x\r\n\r\nbody\r\n.\r\n";

/// The same, in chunks.
const CHUNKS: &[u8] = b"BDAT 12\r\nSubject: x\r\nBDAT 8 LAST\r\n\r\nbody\r\n";

/// How it is sent.
#[derive(Clone, Copy)]
enum By {
    Data,
    Bdat,
}

async fn send(client: &mut Client, (by, to): (By, &[&str])) {
    match by {
        By::Data => {
            begin(client, to).await;
            client.write(TEXT).await;
        }
        By::Bdat => {
            envelope(client, to).await;
            client.write(CHUNKS).await;
            assert_eq!(client.reply().await, "250 2.0.0 12 octets");
        }
    }
}

async fn begin(client: &mut Client, to: &[&str]) {
    envelope(client, to).await;
    assert!(client.command("DATA").await.starts_with("354 "));
}

async fn envelope(client: &mut Client, to: &[&str]) {
    assert!(client.command("MAIL FROM:<a@client.test>").await.starts_with("250 "));
    for to in to {
        assert!(client.command(&format!("RCPT TO:<{to}>")).await.starts_with("250 "), "{to}");
    }
}

/// The recipients whose remote took the message while the client was lost.
fn orphans(lab: &Lab) -> usize {
    let written = lab.now().reporter.metrics().written(Moment::default(), Format::Prometheus);
    let count = written.lines().find_map(|line| line.strip_prefix("danelaw_orphaned_accepts_total "));
    count.unwrap().parse().unwrap()
}

/// The client is gone when its answer comes; then it sends again until the first session is over.
async fn retried(lab: &Lab, hello: &str, (to, by): (&[&str], [By; 2])) -> Vec<String> {
    let mut client = Client::connect(&lab.address).await;
    client.command(hello).await;
    send(&mut client, (by[0], to)).await;
    wait_for(|| !lab.mx().messages().is_empty()).await;
    client.vanish();
    // What was not heard is remembered when the session is over.
    wait_for(|| lab.sessions() == 0).await;
    let mut client = Client::connect(&lab.address).await;
    client.command(hello).await;
    send(&mut client, (by[1], to)).await;
    let mut heard = Vec::new();
    for _ in 0..if hello.starts_with('L') { to.len() } else { 1 } {
        heard.push(client.reply().await);
    }
    client.command("QUIT").await;
    heard
}

#[tokio::test]
async fn a_lost_reply_is_told_on_the_retry() {
    // L6, RFC 1047: on every kind of listener, with a memory that ends with the process too.
    let two = ["b@example.test", "c@example.test"];
    let yes = "250 2.0.0 mx1.example.test[127.0.0.1]: queued as 42";
    for (kind, hello, expected) in [("smtp", "EHLO c.test", vec![yes]), ("lmtp", "LHLO c.test", vec![yes, yes])] {
        let lab = Scenario::new().set(&format!("listener = [{{ kind = '{kind}', address = '127.0.0.1:0' }}]"));
        let lab = lab.start().await;
        assert_eq!(retried(&lab, hello, (&two, [By::Data; 2])).await, expected, "{kind}");
        assert_eq!(copies(&lab), [1], "{kind}");
        //
        assert_eq!(orphans(&lab), two.len(), "{kind}");
    }
    // A no is told again too, and not asked for again.
    let lab = Scenario::new().mx(|mx| mx.end = say("554 5.7.1 no")).start().await;
    assert_eq!(
        retried(&lab, "EHLO c.test", (&two, [By::Data; 2])).await,
        ["554 5.7.1 mx1.example.test[127.0.0.1]: no"]
    );
    assert_eq!(copies(&lab), [1]);
    let folder = tempfile::tempdir().unwrap();
    let lab = Scenario::new().set(&fan_out(&folder.path().join("ledger"))).start().await;
    assert_eq!(retried(&lab, "EHLO c.test", (&two, [By::Data; 2])).await, [yes]);
    assert_eq!(copies(&lab), [1]);
}

#[tokio::test]
async fn chunks_and_lines_are_one_message() {
    // M13, L6: what came one way is known again the other way.
    let yes = "250 2.0.0 mx1.example.test[127.0.0.1]: queued as 42";
    let chunks = |mx: &mut Mx| mx.ehlo_under_tls = say("250-mx\r\n250-PIPELINING\r\n250 CHUNKING");
    let changes: [fn(&mut Mx); 2] = [|_| {}, chunks];
    for by in [[By::Bdat, By::Bdat], [By::Bdat, By::Data], [By::Data, By::Bdat]] {
        for change in changes {
            let lab = Scenario::new().mx(change).start().await;
            assert_eq!(retried(&lab, "EHLO c.test", (&["b@example.test"], by)).await, [yes]);
            assert_eq!(copies(&lab), [1]);
        }
    }
}

#[tokio::test]
async fn who_has_heard_is_asked_no_more() {
    // The same octets again are a message like any other.
    let lab = Scenario::new().start().await;
    let mut client = lab.client().await;
    for _ in 0..2 {
        assert!(client.send(&["b@example.test"], MESSAGE).await.last().starts_with("250 2.0.0 "));
    }
    drop(client);
    tokio::time::sleep(Duration::from_millis(100)).await;
    // Whether it says QUIT or not, as long as it has taken its answer.
    for _ in 0..2 {
        let mut client = lab.client().await;
        let heard = client.send(&["b@example.test"], MESSAGE).await;
        assert!(heard.last().starts_with("250 2.0.0 "), "{heard:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(copies(&lab), [4]);
    assert_eq!(lab.mx().cut(), 0);
}

/// How a script that says the same each time may go about it, with its connection still open.
async fn the_same_alarm(client: &mut Client, how: &str) {
    let envelope = "MAIL FROM:<a@client.test>\r\nRCPT TO:<b@example.test>\r\nDATA\r\n";
    let text = "Subject: alarm\r\n\r\nit burns\r\n.\r\n";
    match how {
        "waits" => {
            begin(client, &["b@example.test"]).await;
            client.write(text.as_bytes()).await;
            assert!(client.reply().await.starts_with("250 2.0.0 "), "{how}");
        }
        "says all at once" | "and closes its half" => {
            client.write(format!("{envelope}{text}QUIT\r\n").as_bytes()).await;
            if how == "and closes its half" {
                client.half_close().await;
            }
        }
        "pipelines the next one" => {
            client.write(format!("{envelope}{text}{envelope}").as_bytes()).await;
            client.write(text.replace("burns", "rains").as_bytes()).await;
            client.write(b"NOOP\r\n").await;
            assert_eq!(client.codes(9).await[2..4], ["354", "250 2.0.0"], "{how}");
        }
        _ => unreachable!("{how}"),
    }
}

#[tokio::test]
async fn two_alarms_that_say_the_same_are_two() {
    // Whoever was there to hear its answer has heard it, whether it says so or not.
    for how in ["waits", "says all at once", "and closes its half", "pipelines the next one"] {
        let lab = Scenario::new().set("timeouts.client = '1s'").start().await;
        for _ in 0..2 {
            let mut client = lab.client().await;
            the_same_alarm(&mut client, how).await;
            // To wait is to be sent away after a second with nothing to say.
            let said = client.rest().await;
            assert!(!said.contains("451 "), "{how}: {said}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let copies = lab.mx().messages().iter().filter(|text| text.ends_with(b"it burns\r\n")).count();
        assert_eq!(copies, 2, "{how}");
    }
}

#[tokio::test]
async fn the_remote_may_change_its_mind_about_a_recipient() {
    // Whoever has the message does not bounce because he is refused now; not after a restart either.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger");
    let set = format!("ledger.path = '{}'", path.display());
    let lab = Scenario::new().set(&set).start().await;
    let mut client = lab.client().await;
    begin(&mut client, &["b@example.test"]).await;
    client.write(TEXT).await;
    wait_for(|| copies(&lab) == [1]).await;
    client.vanish();
    closed(lab).await;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let lab = Scenario::new().mx(|mx| mx.rcpt = vec![say("550 5.1.1 not any more")]).set(&set).start().await;
    let mut client = lab.client().await;
    begin(&mut client, &["b@example.test"]).await;
    client.write(TEXT).await;
    assert_eq!(client.reply().await, "250 2.0.0 mx1.example.test[127.0.0.1]: queued as 42");
    // Once it has heard that, the remote's word counts again.
    client.command("MAIL FROM:<a@client.test>").await;
    assert!(client.command("RCPT TO:<b@example.test>").await.starts_with("550 5.1.1 "));
}

#[tokio::test]
async fn without_room_nothing_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let lab = scenario(2, Trouble::RefusedAtRcpt, &folder.path().join("ledger"))
        .set("ledger.entries = 100\nlimits.recipients = 100")
        .start()
        .await;
    let mut client = lab.client().await;
    // A hundred outcomes are remembered, and that is all there is room for.
    let mut many: Vec<String> = (0..99).map(|number| format!("b{number}@example.test")).collect();
    many.push("c@last.example.test".into());
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let heard = client.send(&many, MESSAGE).await;
    assert!(heard.last().starts_with("451-4.1.1 "), "{heard:?}");
    let heard = client.send(&["d@example.test", "e@last.example.test"], MESSAGE).await;
    assert!(heard.last().starts_with("451 4.3.1 the ledger is full"), "{heard:?}");
    wait_for(|| lab.mx().cut() == 1).await;
    assert_eq!(copies(&lab), [1, 0]);
    // What needs no memory passes.
    let heard = client.send(&["d@example.test"], MESSAGE).await;
    assert!(heard.last().starts_with("250 "), "{heard:?}");
}

#[tokio::test]
async fn the_same_octets_at_once_are_messages_like_any_others() {
    // A program that says the same in every message, on a listener that does not have to know them again.
    let lab = Scenario::new().start().await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = lab.client().await;
        client.send(&["b@example.test"], MESSAGE).await;
        clients.push(client);
    }
    assert_eq!(copies(&lab), [3]);
}
