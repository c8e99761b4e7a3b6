//! SMTPUTF8 (RFC 6531) towards remotes that do not have it: mail that needs it is refused, and mail that was only said to
//! need it goes without. Some clients ask for it whatever the mail is; Postfix as a relay does the same.

// A test that cannot go on may panic.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod lab;

use lab::client::Client;
use lab::mx::{Mx, say};
use lab::{Lab, Scenario};

const ASCII: &[u8] = b"Subject: green\r\n\r\ngreen\r\n";

/// A remote that offers this, and no SMTPUTF8.
fn offers(extensions: &'static str) -> Scenario {
    Scenario::new().mx(move |mx: &mut Mx| mx.ehlo_under_tls = say(extensions)).set("received = false")
}

const EIGHT_BIT: &str = "250-mx\r\n250-PIPELINING\r\n250-CHUNKING\r\n250 8BITMIME";

/// What the client is told of each of these lines, and of the message.
async fn sent(lab: &Lab, envelope: &[&str], message: &[u8]) -> Vec<String> {
    let mut client: Client = lab.client().await;
    let mut said = Vec::new();
    for line in envelope {
        said.push(client.command(line).await);
    }
    match client.command("DATA").await {
        go if go.starts_with("354 ") => {
            client.write(&[message, b".\r\n"].concat()).await;
            said.push(client.reply().await);
        }
        refused => said.push(refused),
    }
    said
}

fn starts(said: &[String], expected: &[&str]) {
    assert_eq!(said.len(), expected.len(), "{said:?}");
    assert!(said.iter().zip(expected).all(|(said, expected)| said.starts_with(expected)), "{said:?}");
}

fn mails(lab: &Lab) -> Vec<String> {
    lab.mx().tls().into_iter().filter(|line| line.starts_with("MAIL")).collect()
}

#[tokio::test]
async fn mail_that_does_not_need_it_goes_without() {
    for (envelope, mail, body) in [
        ("MAIL FROM:<a@client.test> SMTPUTF8", "MAIL FROM:<a@client.test>", "green"),
        // A body may be anything that 8BITMIME lets through (RFC 6152).
        ("MAIL FROM:<> BODY=8BITMIME SMTPUTF8", "MAIL FROM:<> BODY=8BITMIME", "gr\u{fc}n\r\nSubject: gr\u{fc}n"),
    ] {
        let lab = offers(EIGHT_BIT).start().await;
        let message = format!("Subject: green\r\n\r\n{body}\r\n");
        let said = sent(&lab, &[envelope, "RCPT TO:<b@example.test>"], message.as_bytes()).await;
        starts(&said, &["250 ", "250 ", "250 "]);
        assert_eq!((mails(&lab), lab.mx().messages()), (vec![mail.to_owned()], vec![message.into_bytes()]));
    }
}

#[tokio::test]
async fn a_header_that_needs_it_is_refused_behind_the_message() {
    // M4: 554 5.6.9 after the dot, whether in one piece or not, and nothing is delivered.
    let filler = "X-Filler: 0123456789012345678901234567890123456789\r\n".repeat(2000);
    for header in ["Subject: gr\u{fc}n".to_owned(), format!("{filler}Subject:\r\n gr\u{fc}n")] {
        let lab = offers(EIGHT_BIT).start().await;
        let envelope = ["MAIL FROM:<a@client.test> SMTPUTF8", "RCPT TO:<b@example.test>"];
        let said = sent(&lab, &envelope, format!("{header}\r\n\r\ngreen\r\n").as_bytes()).await;
        starts(&said, &["250 ", "250 ", "554 5.6.9 mx1.example.test[127.0.0.1]: the remote does not take"]);
        let mut client = lab.client().await;
        for line in envelope {
            assert!(client.command(line).await.starts_with("250 "));
        }
        client.write(format!("BDAT {} LAST\r\n{header}\r\n", header.len() + 2).as_bytes()).await;
        assert!(client.reply().await.starts_with("554 5.6.9 "));
        assert!(lab.mx().messages().is_empty());
        // Who does not call it internationalised sends what many send, and 8BITMIME lets it through.
        let envelope = ["MAIL FROM:<a@client.test> BODY=8BITMIME", "RCPT TO:<b@example.test>"];
        starts(&sent(&lab, &envelope, format!("{header}\r\n\r\n").as_bytes()).await, &["250 ", "250 ", "250 "]);
    }
}

#[tokio::test]
async fn an_address_that_needs_it_is_refused() {
    // M4: nobody who lacks it sees such an address.
    let lab = offers(EIGHT_BIT).start().await;
    let mail = "MAIL FROM:<a@client.test> SMTPUTF8";
    for envelope in [
        ["MAIL FROM:<\u{e4}@client.test> SMTPUTF8", "RCPT TO:<b@example.test>"],
        [mail, "RCPT TO:<\u{fc}@example.test>"],
    ] {
        starts(&sent(&lab, &envelope, ASCII).await, &["250 ", "553 5.6.7 ", "554 5.5.1 "]);
    }
    assert!(mails(&lab).is_empty());
    // Behind an accepted one, where the transaction goes without SMTPUTF8 already.
    let envelope = [mail, "RCPT TO:<b@example.test>", "RCPT TO:<\u{fc}@example.test>", "RCPT TO:<c@example.test>"];
    starts(&sent(&lab, &envelope, ASCII).await, &["250 ", "250 ", "553 5.6.7 ", "250 ", "250 "]);
    assert_eq!(mails(&lab), ["MAIL FROM:<a@client.test>"]);
    assert!(lab.mx().tls().iter().all(|line| line.is_ascii()));
    assert_eq!(lab.mx().messages(), [ASCII]);
}

#[tokio::test]
async fn an_exchange_that_has_it_is_preferred() {
    // M22.
    let utf8 = say("250-mx\r\n250-8BITMIME\r\n250 SMTPUTF8");
    let header = "Subject: gr\u{fc}n\r\n\r\n".as_bytes();
    let envelope = ["MAIL FROM:<a@client.test> SMTPUTF8", "RCPT TO:<b@example.test>"];
    let scenario = offers(EIGHT_BIT).host("mx2.example.test", |mut mx, tree, port| {
        mx.ehlo_under_tls = utf8;
        let record = mx.identity.record("3 1 1");
        let tree = tree.mx("example.test", 20, "mx2.example.test").tlsa("mx2.example.test", port, &record);
        (mx, tree)
    });
    let lab = scenario.start().await;
    starts(&sent(&lab, &envelope, header).await, &["250 ", "250 2.1.5 mx2.example.test[", "250 "]);
    assert!(mails(&lab).is_empty());
}
