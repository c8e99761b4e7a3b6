//! Pipelining on both sides (RFC 2920): commands that a client sends together are passed on together, and every answer
//! finds its command.

use std::time::{Duration, Instant};

use crate::lab::client::Client;
use crate::lab::mx::{Act, Mx, say};
use crate::lab::{self, Lab, Scenario, wait_for};
use danelaw::wire::Wire;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

const TRANSACTION: &str =
    "MAIL FROM:<a@client.test>\r\nRCPT TO:<b@example.test>\r\nRCPT TO:<c@example.test>\r\nDATA\r\n";

/// A client that has sent [`TRANSACTION`] in one piece.
async fn pipelined(change: impl FnOnce(&mut Mx)) -> (Lab, Client) {
    let lab = Scenario::new().mx(change).start().await;
    let mut client = lab.client().await;
    client.write(TRANSACTION.as_bytes()).await;
    (lab, client)
}

fn turns(lab: &Lab) -> Vec<String> {
    let verb = |line: &String| line.split(' ').next().unwrap().to_owned();
    lab.mx().turns().iter().map(|turn| turn.iter().map(verb).collect::<Vec<_>>().join(" ")).collect()
}

#[tokio::test]
async fn a_transaction_costs_one_round_trip_and_its_message_one_more() {
    // K8, I18, I20.
    let (lab, mut client) = pipelined(|_| {}).await;
    assert_eq!(client.codes(4).await, ["250 2.1.0", "250 2.1.5", "250 2.1.5", "354"]);
    client.write(b"one\r\n.\r\nQUIT\r\n").await;
    assert_eq!(client.codes(2).await, ["250 2.0.0", "221 2.0.0"]);
    wait_for(|| lab.mx().closed() == 1).await;
    assert_eq!(turns(&lab), ["EHLO", "MAIL RCPT RCPT DATA", "QUIT"]);
    assert_eq!(lab.mx().messages().len(), 1);
}

#[tokio::test]
async fn a_transaction_in_chunks_costs_no_more() {
    // K8, M11: lines wait for the remote's 354, chunks are sent at once.
    let commands = TRANSACTION.replace("DATA\r\n", "BDAT 5 LAST\r\none\r\nQUIT\r\n");
    for (chunking, expected) in [
        ("", &["EHLO", "MAIL RCPT RCPT DATA", "QUIT"][..]),
        ("250-CHUNKING\r\n", &["EHLO", "MAIL RCPT RCPT", "BDAT", "QUIT"]),
    ] {
        let offered = say(&format!("250-mx\r\n250-PIPELINING\r\n{chunking}250 8BITMIME"));
        let lab = Scenario::new().mx(|mx| mx.ehlo_under_tls = offered.clone()).start().await;
        let mut client = lab.client().await;
        client.write(commands.as_bytes()).await;
        assert_eq!(client.codes(5).await, ["250 2.1.0", "250 2.1.5", "250 2.1.5", "250 2.0.0", "221 2.0.0"]);
        wait_for(|| lab.mx().closed() == 1).await;
        assert_eq!(turns(&lab), expected);
        // K10: and no message is sent without an accepted recipient.
        let nobody = |mx: &mut Mx| {
            mx.ehlo_under_tls = offered.clone();
            mx.rcpt = vec![say("550 5.1.1 no")];
        };
        let lab = Scenario::new().mx(nobody).start().await;
        let mut client = lab.client().await;
        client.write(commands.as_bytes()).await;
        assert_eq!(client.codes(5).await, ["250 2.1.0", "550 5.1.1", "550 5.1.1", "503 5.5.1", "221 2.0.0"]);
        wait_for(|| lab.mx().closed() == 1).await;
        assert!(lab.mx().messages().iter().all(Vec::is_empty));
    }
}

#[tokio::test]
async fn a_client_that_waits_is_not_overtaken() {
    // I18: one command at a time, octet by octet.
    let lab = Scenario::new().start().await;
    let mut client = lab.client().await;
    for (line, code) in TRANSACTION.lines().zip(["250 2.1.0", "250 2.1.5", "250 2.1.5", "354"]) {
        for octet in format!("{line}\r\n").as_bytes() {
            client.write(&[*octet]).await;
        }
        assert_eq!(client.codes(1).await, [code]);
    }
    assert_eq!(turns(&lab), ["EHLO", "MAIL RCPT", "RCPT", "DATA"]);
}

#[tokio::test]
async fn a_remote_that_does_not_pipeline() {
    // K8: an offer in the clear does not count; every command waits for the answer before it.
    let (lab, mut client) = pipelined(|mx| {
        mx.ehlo = say("250-mx\r\n250-PIPELINING\r\n250 STARTTLS");
        mx.ehlo_under_tls = say("250-mx\r\n250 8BITMIME");
    })
    .await;
    assert_eq!(client.codes(4).await, ["250 2.1.0", "250 2.1.5", "250 2.1.5", "354"]);
    client.write(b"one\r\n.\r\n").await;
    assert_eq!(client.codes(1).await, ["250 2.0.0"]);
    assert_eq!(turns(&lab)[..5], ["EHLO", "MAIL", "RCPT", "RCPT", "DATA"]);
    // K10: and DATA is not sent without an accepted recipient.
    let (lab, mut client) = pipelined(|mx| {
        mx.ehlo_under_tls = say("250 mx");
        mx.rcpt = vec![say("550 5.1.1 no")];
    })
    .await;
    assert_eq!(client.codes(4).await, ["250 2.1.0", "550 5.1.1", "550 5.1.1", "554 5.5.1"]);
    wait_for(|| lab.mx().closed() == 1).await;
    assert_eq!(turns(&lab), ["EHLO", "MAIL", "RCPT", "RCPT", "QUIT"]);
}

#[tokio::test]
async fn a_message_without_recipients() {
    // K10, I19: with any answer of the remote to a pipelined DATA and to the end of data, the client hears that no
    // recipient is valid.
    for (data, end) in [
        (say("354 go"), say("250 2.0.0 queued as 42")),
        (say("354 go"), say("554 5.5.1 no valid recipients")),
        (say("503 5.5.1 no"), say("250 2.0.0 queued as 42")),
        (say("250 2.0.0 why not"), say("250 2.0.0 queued as 42")),
        (Act::Hang, say("250 2.0.0 queued as 42")),
        (Act::Close, say("250 2.0.0 queued as 42")),
    ] {
        let go = matches!(&data, Act::Say(said) if said.starts_with("354"));
        let (lab, mut client) = pipelined(|mx| {
            mx.rcpt = vec![say("550 5.1.1 no"), say("450 4.2.0 later"), say("250 2.1.5 ok")];
            mx.data = data.clone();
            mx.end = end.clone();
        })
        .await;
        assert_eq!(client.codes(4).await, ["250 2.1.0", "550 5.1.1", "450 4.2.0", "554 5.5.1"], "{data:?}");
        // RFC 2920 §3.1: a lone dot, and no octet before it.
        wait_for(|| lab.mx().messages().len() == usize::from(go)).await;
        assert!(lab.mx().messages().iter().all(Vec::is_empty));
        // I4: the transaction is still open, and may go on with another recipient.
        assert_eq!(client.command("RCPT TO:<d@example.test>").await[..3], *"550");
        assert!(client.command("RSET").await.starts_with("250 "));
    }
}

#[tokio::test]
async fn data_with_somebody_accepted() {
    // K11, I19: 354 and refusals are answers to DATA, and the client's session goes on.
    for (data, expected) in [
        (say("250 2.0.0 ok"), "451 4.5.0"),
        (say("554 5.7.1 no"), "554 5.7.1"),
        (say("451 4.3.0 later"), "451 4.3.0"),
        (say("421 4.3.2 bye"), "451 4.3.2"),
        (Act::Close, "451 4.4.2"),
    ] {
        let (lab, mut client) = pipelined(|mx| mx.data = data.clone()).await;
        assert_eq!(client.codes(4).await, ["250 2.1.0", "250 2.1.5", "250 2.1.5", expected], "{data:?}");
        assert!(client.command("MAIL FROM:<a@client.test>").await.starts_with("250 2.1.0"));
        assert!(lab.mx().messages().is_empty());
    }
}

#[tokio::test]
async fn the_remote_goes_in_the_middle_of_a_group() {
    // A-69, K15, L11: the recipients without an answer are deferred, and the accepted one too.
    for (turn, code) in [
        (Act::SayAndClose("421 4.3.2 bye\r\n".into()), "451 4.3.2"),
        (Act::Close, "451 4.4.2"),
        (Act::Hang, "451 4.4.2"),
        (say("what?"), "451 4.5.0"),
    ] {
        let scenario = Scenario::new().mx(|mx| mx.rcpt = vec![say("250 2.1.5 ok"), turn.clone()]);
        let lab = scenario.set("timeouts.command = '300ms'").start().await;
        let mut client = lab.client().await;
        client.write(TRANSACTION.replace("DATA", "RCPT TO:<d@example.test>\r\nDATA").as_bytes()).await;
        assert_eq!(client.codes(5).await, ["250 2.1.0", "250 2.1.5", code, code, code], "{turn:?}");
        // The client's session goes on, with the same exchange.
        assert!(client.command("MAIL FROM:<a@client.test>").await.starts_with("250 2.1.0"));
        assert!(client.command("RCPT TO:<b@example.test>").await.starts_with("250 2.1.5"));
        assert!(lab.mx().messages().is_empty());
    }
    // MAIL refused: the answers to the pipelined commands behind it have no effect.
    let no = say("503 5.5.1 MAIL first");
    let (lab, mut client) =
        pipelined(|mx| (mx.mail, mx.rcpt, mx.data) = (say("550 5.7.1 not you"), vec![no.clone()], no)).await;
    assert_eq!(client.codes(4).await, ["250 2.1.0", "550 5.7.1", "550 5.7.1", "554 5.5.1"]);
    wait_for(|| lab.mx().closed() == 1).await;
    // A remote that takes recipients all the same and asks for the message: an end of data would be a message for them.
    let (lab, mut client) = pipelined(|mx| mx.mail = say("550 5.7.1 not you")).await;
    assert_eq!(client.codes(4).await, ["250 2.1.0", "550 5.7.1", "550 5.7.1", "554 5.5.1"]);
    wait_for(|| lab.mx().cut() == 1).await;
    assert!(lab.mx().messages().is_empty());
}

#[tokio::test]
async fn one_answer_too_many() {
    // answers are counted, so they are one off from there; no mail is delivered by that transaction.
    for act in [
        |mx: &mut Mx| mx.mail = say("250 2.1.0 ok\r\n250 2.1.5 ok"),
        |mx: &mut Mx| mx.rcpt = vec![say("250 2.1.5 ok\r\n250 2.1.5 ok"), say("550 5.1.1 no")],
        |mx: &mut Mx| mx.data = say("354 go\r\n250 2.0.0 queued"),
    ] {
        let (lab, mut client) = pipelined(act).await;
        let go = client.codes(4).await.pop().unwrap();
        if go == "354" {
            client.write(b"one\r\n.\r\n").await;
            assert_eq!(client.codes(1).await, ["451 4.5.0"]);
        } else {
            assert!(!go.starts_with('2'), "{go}");
        }
        assert!(client.command("NOOP").await.starts_with("250 "));
        assert!(lab.mx().messages().iter().all(Vec::is_empty), "{:?}", lab.mx());
    }
}

#[tokio::test]
async fn an_end_of_the_transaction_behind_its_recipients() {
    // L13, A-85: RSET behind outstanding recipients; the next transaction follows at once.
    for end in ["RSET", "EHLO client.test"] {
        let lab = Scenario::new().start().await;
        let mut client = lab.client().await;
        client.write(TRANSACTION.replace("DATA", end).as_bytes()).await;
        client.write(TRANSACTION.as_bytes()).await;
        let codes = client.codes(8).await;
        assert_eq!(codes[..3], ["250 2.1.0", "250 2.1.5", "250 2.1.5"]);
        assert_eq!(codes[4..], ["250 2.1.0", "250 2.1.5", "250 2.1.5", "354"]);
        client.write(b"two\r\n.\r\n").await;
        assert_eq!(client.codes(1).await, ["250 2.0.0"]);
        assert_eq!(lab.mx().messages().len(), 1);
        wait_for(|| lab.mx().closed() == 2).await;
    }
    let lab = Scenario::new().start().await;
    let mut client = lab.client().await;
    client.write(TRANSACTION.replace("DATA", "QUIT").as_bytes()).await;
    assert_eq!(client.codes(4).await, ["250 2.1.0", "250 2.1.5", "250 2.1.5", "221 2.0.0"]);
    wait_for(|| lab.mx().closed() == 1).await;
}

#[tokio::test]
async fn a_client_that_closes_its_half() {
    // behind the end of data it is answered all the same; before it, the remote sees a reset.
    let (lab, mut client) = pipelined(|_| {}).await;
    client.codes(4).await;
    client.write(b"one\r\n.\r\n").await;
    client.half_close().await;
    assert_eq!(client.codes(1).await, ["250 2.0.0"]);
    assert_eq!(lab.mx().messages().len(), 1);
    let (lab, mut client) = pipelined(|_| {}).await;
    client.codes(4).await;
    client.write(b"one\r\n.").await;
    client.half_close().await;
    wait_for(|| lab.mx().cut() == 1).await;
    assert!(lab.mx().messages().is_empty());
    // Behind its recipients: the outstanding commands are answered.
    let lab = Scenario::new().start().await;
    let mut client = lab.client().await;
    client.write(TRANSACTION.replace("DATA\r\n", "").as_bytes()).await;
    client.half_close().await;
    assert_eq!(client.codes(3).await, ["250 2.1.0", "250 2.1.5", "250 2.1.5"]);
}

#[tokio::test]
async fn a_thousand_recipients() {
    // K9, I7, I18: in one piece, with a remote that gives a long reply to each.
    let wordy = "250-2.1.5 yes, and much more could be said about it\r\n".repeat(20) + "250 2.1.5 ok";
    let lab = Scenario::new().mx(|mx| mx.rcpt = vec![say(&wordy)]).start().await;
    let mut client = lab.client().await;
    let mut commands = "MAIL FROM:<a@client.test>\r\n".to_owned();
    for index in 0..1001 {
        commands += &format!("RCPT TO:<recipient{index}@example.test>\r\n");
    }
    client.write((commands + "DATA\r\n").as_bytes()).await;
    let codes = client.codes(1003).await;
    assert!(codes[1..1001].iter().all(|code| code == "250 2.1.5"));
    assert_eq!(codes[1001..], ["452 4.5.3", "354"]);
    client.write(b"one\r\n.\r\n").await;
    assert_eq!(client.codes(1).await, ["250 2.0.0"]);
    assert!(turns(&lab).len() < 30, "{} round trips", turns(&lab).len());
}

#[tokio::test]
async fn windows_that_hold_next_to_nothing() {
    // K9: the remote reads no command before its answer to the last one is taken.
    let (ours, theirs) = tokio::io::duplex(64);
    let remote = tokio::spawn(async move {
        let mut theirs = BufReader::new(theirs);
        let mut line = String::new();
        for _ in 0..1000 {
            line.clear();
            theirs.read_line(&mut line).await.unwrap();
            theirs.write_all(format!("250 {}\r\n", "y".repeat(200)).as_bytes()).await.unwrap();
        }
    });
    let mut wire = Wire::new(ours);
    wire.output.extend_from_slice(&b"RCPT TO:<somebody@example.test>\r\n".repeat(1000));
    for _ in 0..1000 {
        assert!(wire.reply(lab::SOON).await.unwrap().code().is_success());
    }
    assert!(wire.output.is_empty());
    remote.await.unwrap();
}

#[tokio::test]
async fn answers_that_are_known_are_not_kept() {
    // I20, K7: the second recipient takes long; the replies before it were sent already, a refusal of danelaw's own
    // among them.
    let scenario = Scenario::new().mx(|mx| mx.rcpt = vec![say("250 2.1.5 ok"), Act::Hang]);
    let lab = scenario.set("timeouts.command = '1s'").start().await;
    let mut client = lab.client().await;
    let started = Instant::now();
    client.write(TRANSACTION.replace("RCPT TO:<c@", "RCPT TO:<c@other.test>\r\nRCPT TO:<c@").as_bytes()).await;
    assert_eq!(client.codes(3).await, ["250 2.1.0", "250 2.1.5", "452 4.5.3"]);
    assert!(started.elapsed() < Duration::from_secs(1));
    assert_eq!(client.codes(2).await, ["451 4.4.2", "451 4.4.2"]);
}
