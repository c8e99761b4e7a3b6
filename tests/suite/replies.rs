//! Replies as real servers give them: read as Postfix reads them before MAIL, and strictly from MAIL on (RFC 5321 §4.2).

use std::time::Duration;

use crate::lab::client::Client;
use crate::lab::exchange::Exchange;
use crate::lab::mx::{Act, Mx, say};
use crate::lab::{self, Lab, MESSAGE, Scenario};

/// A change to an exchange.
type Change = fn(&mut Mx);

/// The happy path with a second exchange behind the first one, which is all right.
fn two_exchanges(change: Change) -> Scenario {
    Scenario::new().mx(change).exchange(Exchange::new("example.test", "mx2.example.test").preference(20))
}

/// Longer than danelaw takes for its next command.
const A_MOMENT: Duration = Duration::from_millis(200);

async fn told(lab: &Lab) -> (Client, String) {
    let mut client = lab.client().await;
    let told = client.send(&["b@example.test"], MESSAGE).await.last().to_owned();
    (client, told)
}

#[tokio::test]
async fn odd_replies_before_mail_are_read() {
    // Decision 20, K2, A-61: each of these gets its mail from Postfix.
    let changes: [Change; 14] = [
        |mx| mx.greeting = Act::Say("\r\n220 mx ESMTP\r\n".into()),
        |mx| mx.greeting = Act::Say("Welcome to mx\r\n220 mx ESMTP\r\n".into()),
        |mx| mx.greeting = Act::Say("220-mx ESMTP\n220 and more\n".into()),
        |mx| mx.greeting = Act::Say("220 mx ESMTP\r\n\r\n".into()),
        |mx| mx.greeting = Act::SayAndAdd("220-mx\r\n".into(), Duration::from_millis(200), Box::new(say("220 mx"))),
        |mx| mx.ehlo = Act::Say("250-mx\n250 STARTTLS\n".into()),
        |mx| mx.ehlo = Act::Say("250-mx\r\n\r\n250-STARTTLS\r\n250 SIZE\r\n\r\n".into()),
        |mx| mx.ehlo = Act::Say("220-mx\r\n250 STARTTLS\r\n".into()),
        |mx| mx.starttls = Act::Say("\r\n220 go\n".into()),
        |mx| mx.ehlo_under_tls = Act::Say("250-mx\r\n250 PIPELINING\r\n\r\n".into()),
        // The empty line comes by itself: before MAIL was sent, behind it, and in two pieces.
        |mx| mx.ehlo_under_tls = Act::SayAndAdd("250-mx\r\n250 SIZE\r\n".into(), A_MOMENT, Box::new(say(""))),
        |mx| mx.mail = Act::Say("\r\n250 2.1.0 ok\r\n".into()),
        |mx| {
            mx.ehlo_under_tls =
                Act::SayAndAdd("250-mx\r\n250 SIZE\r\n\r".into(), A_MOMENT, Box::new(Act::Say("\n".into())))
        },
        |mx| mx.ehlo_under_tls = Act::Say("251-mx\n250 8BITMIME\n".into()),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let lab = Scenario::new().mx(change).start().await;
        let (_, told) = told(&lab).await;
        assert!(told.starts_with("250 2.0.0 "), "{number}: {told}");
        assert_eq!(lab.mx().messages().len(), 1, "{number}");
    }
}

#[tokio::test]
async fn from_mail_on_replies_are_read_strictly() {
    // A-61, A-62: the same oddities, where a mail rests on them.
    let changes: [Change; 7] = [
        |mx| mx.mail = Act::Say("250 2.1.0 ok\n".into()),
        |mx| mx.mail = Act::Say("\r\n".repeat(17) + "250 2.1.0 ok\r\n"),
        |mx| mx.mail = Act::Say("hello\r\n250 2.1.0 ok\r\n".into()),
        |mx| mx.rcpt = vec![Act::Say("\r\n250 2.1.5 ok\r\n".into())],
        |mx| mx.rcpt = vec![Act::Say("550-no\r\n250 2.1.5 ok\r\n".into())],
        |mx| mx.end = Act::Say("250-2.0.0 a\n250 2.0.0 b\r\n".into()),
        |mx| mx.end = Act::Say("550-no\r\n250 2.0.0 queued\r\n".into()),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let lab = Scenario::new().mx(change).start().await;
        let (_, told) = told(&lab).await;
        assert!(told.starts_with("451 4."), "{number}: {told}");
    }
}

#[tokio::test]
async fn the_second_greeting_of_postscreen() {
    // The code is that of the last line, and its text reaches the operator.
    let greeting: Change = |mx| {
        let no = "521 5.7.1 Service unavailable; client [127.0.0.1] blocked using bl.example\r\n";
        mx.greeting =
            Act::SayAndAdd("220-mx ESMTP\r\n".into(), Duration::from_millis(300), Box::new(Act::Say(no.into())));
    };
    let lab = Scenario::new().mx(greeting).start().await;
    let (_, answer) = told(&lab).await;
    assert!(answer.starts_with("451 4.4.1 "), "{answer}");
    for words in
        ["the greeting was 521 5.7.1", "blocked using bl.example", "see whether your address is on a block list"]
    {
        assert!(answer.contains(words), "{answer}");
    }
    let lab = two_exchanges(greeting).start().await;
    assert!(told(&lab).await.1.starts_with("250 2.0.0 "));
}

#[tokio::test]
async fn a_remote_without_reply_codes_is_no_mail_server() {
    // Bounded in lines, octets and time; and called by its name.
    for said in ["hello\r\n".to_owned(), "x\r\n".repeat(100), format!("{}\r\n", "x".repeat(3000)).repeat(2)] {
        let lab = Scenario::new().mx(|mx| mx.greeting = Act::Say(said.clone())).start().await;
        let (_, answer) = told(&lab).await;
        assert!(answer.starts_with("451 4.5.0 ") && answer.contains("no reply code"), "{answer}");
    }
}

#[tokio::test]
async fn a_session_whose_replies_are_shifted_is_left() {
    // A-61, A-62: a second greeting under TLS, or in the place of an answer. The client hears no 250 from it.
    let changes: [Change; 6] = [
        |mx| mx.ehlo_under_tls = say("220 mx ESMTP\r\n250-mx\r\n250 PIPELINING"),
        |mx| mx.ehlo_under_tls = say("221 mx"),
        |mx| mx.ehlo = say("220 mx ESMTP\r\n250-mx\r\n250 STARTTLS"),
        |mx| mx.mail = say("220 mx ESMTP\r\n250 2.1.0 ok"),
        |mx| mx.mail = say("354 go"),
        |mx| mx.rcpt = vec![say("220 mx ESMTP\r\n250 2.1.5 ok")],
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let lab = Scenario::new().mx(change).start().await;
        let mut client = lab.client().await;
        client.command("MAIL FROM:<a@client.test>").await;
        let answer = client.command("RCPT TO:<b@example.test>").await;
        assert!(answer.starts_with("451 4.5.0 "), "{number}: {answer}");
        // The next address may do better.
        let lab = two_exchanges(change).start().await;
        let (_, answer) = told(&lab).await;
        assert!(answer.starts_with("250 2.0.0 "), "{number}: {answer}");
        assert!(lab.seen[0].messages().is_empty() && lab.seen[1].messages().len() == 1, "{number}");
    }
}

#[tokio::test]
async fn a_refusal_that_comes_in_pieces_ends_the_message() {
    // A-65, L2: at any size, a remote that has begun to refuse does not get the end of the message, and the client hears
    // the whole refusal.
    let refusal = Act::Drip("452-4.3.1 first\r\n452 4.3.1 last\r\n".into(), Duration::from_millis(20));
    for size in [1, 10_000, 100_000, 1_000_000, 6_000_000] {
        let lab = Scenario::new()
            .mx(|mx| mx.amid_message = Some(refusal.clone()))
            .set("received = false\ntimeouts = { greeting = '20s', block = '20s', final = '20s', client = '20s' }")
            .start()
            .await;
        let mut client = lab.client().await;
        client.patience = Duration::from_secs(60);
        for command in ["MAIL FROM:<a@client.test>", "RCPT TO:<b@example.test>", "DATA"] {
            client.command(command).await;
        }
        lab.mx().take_octets();
        client.write(&b"0123456789\r\n".repeat(1 + size / 12)).await;
        // The remote has begun, and danelaw has had the time to read it.
        lab::wait_for(|| !lab.mx().take_octets().is_empty()).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        client.write(b".\r\n").await;
        let answer = client.reply().await;
        assert!(
            answer.starts_with("452-4.3.1 ") && answer.contains("first\n") && answer.ends_with("last"),
            "{size}: {answer}"
        );
        lab::wait_for(|| lab.mx().open() == 0).await;
        let octets = lab.mx().take_octets();
        assert!(!octets.windows(3).any(|window| window == b".\r\n"), "{size}: the end came through");
    }
}

#[tokio::test]
async fn long_replies_to_many_recipients_are_bounded() {
    // A-60: a remote with 60 kB to say to each recipient.
    let novel = (0..15).map(|number| format!("550-5.1.1 {number} {}\r\n", "x".repeat(4000))).collect::<String>();
    let lab = Scenario::new().mx(|mx| mx.rcpt = vec![Act::Say(format!("{novel}550 5.1.1 no\r\n"))]).start().await;
    let mut client = lab.client().await;
    client.command("MAIL FROM:<a@client.test>").await;
    let all: String = (0..100).map(|number| format!("RCPT TO:<b{number}@example.test>\r\n")).collect();
    client.write(all.as_bytes()).await;
    let mut octets = 0;
    for _ in 0..100 {
        let answer = client.reply().await;
        assert!(answer.starts_with("550"), "{answer}");
        assert!(answer.lines().count() <= 8 && answer.lines().all(|line| line.len() <= 510), "{answer}");
        octets += answer.len();
    }
    assert!(octets < 64 * 1024 + 100 * 300, "{octets}");
}
