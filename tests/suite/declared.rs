//! Declared is not needed: clients declare 8BITMIME and SMTPUTF8 for all their mail, and mail that needs neither goes
//! to remotes without them. Mail that needs one goes to an exchange that has it, waits for one, or is refused
//! (RFC 6152 §3, RFC 6531 §3.4, §3.5).

use crate::lab::certs::Identity;
use crate::lab::client::Client;
use crate::lab::dns::Fault;
use crate::lab::exchange::Exchange;
use crate::lab::mx::{Act, Mx, say};
use crate::lab::{self, Lab, Scenario};
use danelaw::admin::client::ask;

const NOTHING: &str = "250-mx\r\n250 PIPELINING";
const EIGHT_BIT: &str = "250-mx\r\n250-PIPELINING\r\n250-CHUNKING\r\n250 8BITMIME";
const ALL: &str = "250-mx\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SMTPUTF8";

const ASCII: &str = "Subject: green\r\n\r\ngreen\r\n";
const BODY: &str = "Subject: green\r\n\r\ngr\u{fc}n\r\nSubject: gr\u{fc}n\r\n";
const HEADER: &str = "Subject: gr\u{fc}n\r\n\r\ngreen\r\n";

const TO: &str = "RCPT TO:<b@example.test>";
const DECLARED: &str = "MAIL FROM:<a@client.test> BODY=8BITMIME SMTPUTF8";

/// `example.test` with exchanges that offer these, each worse than the one before.
fn exchanges(offers: &[&'static str]) -> Scenario {
    let exchanges = (0..).zip(offers).map(|(index, offered)| {
        let exchange = Exchange::new("example.test", &format!("mx{index}.example.test")).preference(index);
        exchange.script(|mx| mx.ehlo_under_tls = say(offered))
    });
    Scenario::of(exchanges).set("received = false")
}

/// `example.test` with one exchange, the addresses of which offer these.
fn addresses(offers: &[&'static str]) -> Scenario {
    const NAME: &str = "mx0.example.test";
    let domain = Scenario::with_domain(|tree, _| tree.mx("example.test", 0, NAME)).set("received = false");
    offers.iter().fold(domain, |scenario, offered| {
        scenario.host(NAME, |mut mx, tree, port| {
            mx.ehlo_under_tls = say(offered);
            let record = mx.identity.record("3 1 1");
            (mx, tree.tlsa(NAME, port, &record))
        })
    })
}

fn unreachable(mx: &mut Mx) {
    mx.greeting = Act::Close;
}

/// The replies to each of these lines, and to the message.
async fn sent_by(client: &mut Client, envelope: &[&str], message: &str) -> Vec<String> {
    let mut said = Vec::new();
    for line in envelope {
        said.push(client.command(line).await);
    }
    match client.command("DATA").await {
        go if go.starts_with("354 ") => {
            client.write(format!("{message}.\r\n").as_bytes()).await;
            said.push(client.reply().await);
        }
        refused => said.push(refused),
    }
    said
}

async fn sent(lab: &Lab, envelope: &[&str], message: &str) -> Vec<String> {
    sent_by(&mut lab.client().await, envelope, message).await
}

fn starts(said: &[String], expected: &[&str]) {
    assert_eq!(said.len(), expected.len(), "{said:?}");
    assert!(said.iter().zip(expected).all(|(said, expected)| said.starts_with(expected)), "{said:?}, {expected:?}");
}

fn mails(lab: &Lab, index: usize) -> Vec<String> {
    lab.seen[index].tls().into_iter().filter(|line| line.starts_with("MAIL")).collect()
}

/// How often each exchange was connected to.
fn connections(lab: &Lab) -> Vec<usize> {
    lab.seen.iter().map(|seen| seen.connections()).collect()
}

/// How many messages each exchange has.
fn delivered(lab: &Lab) -> Vec<usize> {
    lab.seen.iter().map(|seen| seen.messages().len()).collect()
}

#[tokio::test]
async fn mail_goes_without_what_it_does_not_need() {
    // Decision 19.
    for (offered, declared, sent_on, message) in [
        (NOTHING, " BODY=8BITMIME SMTPUTF8", "", ASCII),
        (NOTHING, " BODY=8BITMIME", "", ASCII),
        (NOTHING, " SMTPUTF8", "", ASCII),
        (EIGHT_BIT, " BODY=8BITMIME SMTPUTF8", " BODY=8BITMIME", ASCII),
        // A body may be anything that 8BITMIME lets through (RFC 6152 §3).
        (EIGHT_BIT, " BODY=8BITMIME SMTPUTF8", " BODY=8BITMIME", BODY),
        (EIGHT_BIT, " SMTPUTF8", "", BODY),
        // Without SMTPUTF8 a header may as well: mail of old.
        (EIGHT_BIT, " BODY=8BITMIME", " BODY=8BITMIME", HEADER),
        (EIGHT_BIT, "", "", HEADER),
        (ALL, " BODY=8BITMIME SMTPUTF8", " BODY=8BITMIME SMTPUTF8", HEADER),
    ] {
        let lab = exchanges(&[offered]).start().await;
        let said = sent(&lab, &[&format!("MAIL FROM:<a@client.test>{declared}"), TO], message).await;
        starts(&said, &["250 ", "250 ", "250 "]);
        assert_eq!(mails(&lab, 0), [format!("MAIL FROM:<a@client.test>{sent_on}")]);
        assert_eq!(lab.mx().messages(), [message.as_bytes()], "{declared}");
        assert_eq!(lab.mx().connections(), 1);
    }
}

#[tokio::test]
async fn a_message_that_needs_an_absent_extension_is_refused_after_its_end() {
    let filler = "X-Filler: 0123456789012345678901234567890123456789\r\n".repeat(2000);
    let far = format!("{filler}Subject:\r\n {HEADER}");
    for (offered, mail, message, told) in [
        (EIGHT_BIT, DECLARED, HEADER, "554 5.6.9 mx0.example.test[127.0.0.1]: the remote does not take int"),
        (EIGHT_BIT, DECLARED, far.as_str(), "554 5.6.9 "),
        (NOTHING, DECLARED, HEADER, "554 5.6.9 "),
        (NOTHING, DECLARED, BODY, "554 5.6.3 mx0.example.test[127.0.0.1]: the remote does not take 8-bit mail"),
        (NOTHING, "MAIL FROM:<> BODY=8BITMIME", BODY, "554 5.6.3 "),
        (NOTHING, "MAIL FROM:<>", BODY, "554 5.6.3 "),
        (NOTHING, "MAIL FROM:<>", HEADER, "554 5.6.3 "),
    ] {
        let lab = exchanges(&[offered]).start().await;
        starts(&sent(&lab, &[mail, TO], message).await, &["250 ", "250 ", told]);
        let mut client = lab.client().await;
        client.command(mail).await;
        client.command(TO).await;
        client.write(format!("BDAT {} LAST\r\n{message}", message.len()).as_bytes()).await;
        assert!(client.reply().await.starts_with(told), "{told}");
        // The session goes on.
        assert!(client.command("NOOP").await.starts_with("250 "));
        assert_eq!(delivered(&lab), [0]);
        lab::wait_for(|| lab.mx().cut() > 0).await;
    }
}

#[tokio::test]
async fn an_address_is_refused_alone() {
    // M4: no remote that lacks it sees such an address.
    let utf8 = "RCPT TO:<\u{fc}@example.test>";
    let lab = exchanges(&[EIGHT_BIT]).start().await;
    let sender = "MAIL FROM:<\u{e4}@client.test> SMTPUTF8";
    starts(&sent(&lab, &[sender, TO], ASCII).await, &["250 ", "553 5.6.7 ", "554 5.5.1 "]);
    starts(&sent(&lab, &[DECLARED, utf8], ASCII).await, &["250 ", "553 5.6.7 ", "554 5.5.1 "]);
    assert!(!lab.mx().saw_mail());
    // In front of others that the client names after the answer.
    for (before, answer) in [(vec![utf8], "250 "), (vec![utf8, "NOOP", utf8], "250 ")] {
        let said = sent(&lab, &[vec![DECLARED], before, vec![TO]].concat(), ASCII).await;
        assert!(said[1].starts_with("553 5.6.7 "), "{said:?}");
        starts(&said[said.len() - 2..], &[answer, "250 "]);
    }
    // Behind an accepted one, where the transaction goes without SMTPUTF8 already.
    let expected = ["250 ", "250 ", "553 5.6.7 ", "250 "];
    let envelope = [DECLARED, TO, utf8, "RCPT TO:<c@example.test>"];
    starts(&sent(&lab, &envelope, ASCII).await[..4], &expected);
    // In one go, and in front of the others.
    for (envelope, expected) in
        [(envelope, expected), ([DECLARED, utf8, TO, TO], ["250 ", "553 5.6.7 ", "250 ", "250 "])]
    {
        let mut client = lab.client().await;
        client.write(format!("{}\r\nDATA\r\n", envelope.join("\r\n")).as_bytes()).await;
        for expected in expected {
            let said = client.reply().await;
            assert!(said.starts_with(expected), "{expected}: {said}");
        }
        assert!(client.reply().await.starts_with("354 "));
        client.write(format!("{ASCII}.\r\n").as_bytes()).await;
        assert!(client.reply().await.starts_with("250 "));
    }
    assert_eq!(delivered(&lab), [5]);
    assert!(lab.mx().tls().iter().all(|line| line.is_ascii() && !line.contains("SMTPUTF8")));
}

#[tokio::test]
async fn an_address_is_refused_alone_whatever_the_replies_are() {
    // J8: a client that waits for each reply names the recipients of one domain in several turns.
    let (utf8, store) = ("RCPT TO:<\u{fc}@example.test>", tempfile::tempdir().unwrap());
    let fan_out = format!(
        "listener = [{{ address = '127.0.0.1:0', recipients = 'fan-out' }}]\nstore.path = '{}'",
        store.path().join("store.sqlite").display()
    );
    let lab = exchanges(&[EIGHT_BIT]).set(&fan_out).start().await;
    let said = sent(&lab, &[DECLARED, utf8, TO], &format!("Message-ID: <1@client.test>\r\n{ASCII}")).await;
    starts(&said[..3], &["250 ", "250 ", "250 "]);
    assert!(said[3].starts_with("553-5.6.7 ") && said[3].ends_with("553 5.6.7 all other recipients have the message"));
    assert_eq!(delivered(&lab), [1]);

    let lab = exchanges(&[EIGHT_BIT]).set("listener = [{ kind = 'lmtp', address = '127.0.0.1:0' }]").start().await;
    let said = sent_by(&mut lab.lmtp_client().await, &[DECLARED, utf8, TO], ASCII).await;
    starts(&said, &["250 ", "553 5.6.7 ", "250 ", "250 "]);
    // An exchange that may have it is not reached: such an address waits, and another goes to the one without.
    let lab = exchanges(&[EIGHT_BIT, ALL]).change(1, unreachable).start().await;
    starts(&sent(&lab, &[DECLARED, utf8, TO], ASCII).await, &["250 ", "451-4.4.2 ", "250 ", "250 "]);
    // An exchange that has refused one recipient is asked for the next one, if no other exchange takes the mail.
    let not_now = |mx: &mut Mx| mx.mail = say("451 4.3.1 not now");
    let full = |mx: &mut Mx| mx.rcpt = vec![say("452 4.2.2 full")];
    let lab = exchanges(&[EIGHT_BIT, ALL]).change(0, not_now).change(1, full).start().await;
    let envelope = [DECLARED, TO, "RCPT TO:<c@example.test>"];
    starts(&sent(&lab, &envelope, ASCII).await, &["250 ", "452-4.2.2 ", "452-4.2.2 ", "554 5.5.1 "]);
    assert!(lab.seen[1].tls().iter().any(|line| line.contains("<c@example.test>")));
    // No remote was found that could take any.
    let lab = exchanges(&[ALL]).change(0, unreachable).start().await;
    starts(&sent(&lab, &[DECLARED, utf8, TO], ASCII).await, &["250 ", "451 4.4.2 ", "451 4.4.2 ", "554 5.5.1 "]);
}

#[tokio::test]
async fn an_exchange_that_has_it_is_preferred() {
    // M22.
    for offers in [[NOTHING, EIGHT_BIT, ALL], [EIGHT_BIT, NOTHING, ALL]] {
        let lab = exchanges(&offers).start().await;
        starts(&sent(&lab, &[DECLARED, TO], HEADER).await, &["250 ", "250 2.1.5 mx2.example.test[", "250 "]);
    }
    // Without one that has all, the one that has most.
    for (offers, best) in [([NOTHING, EIGHT_BIT, NOTHING], 1), ([NOTHING, NOTHING, EIGHT_BIT], 2)] {
        let lab = exchanges(&offers).start().await;
        let said = sent(&lab, &[DECLARED, TO], BODY).await;
        starts(&said, &["250 ", &format!("250 2.1.5 mx{best}.example.test["), "250 "]);
        // Each of them was seen to lack it.
        let said = sent(&lab, &[DECLARED, TO], HEADER).await;
        starts(&said, &["250 ", "250 ", "554-5.6.9 mx0.example.test[127.0.0.1]: the remote does not take int"]);
        starts(&sent(&lab, &["MAIL FROM:<\u{e4}@client.test> SMTPUTF8", TO], "").await[1..2], &["553-5.6.7 mx0."]);
    }
    // Of equals the first, and the next one if that does not take the mail.
    let equals = || exchanges(&[NOTHING, NOTHING]);
    let lab = equals().start().await;
    starts(&sent(&lab, &[DECLARED, TO], ASCII).await, &["250 ", "250 2.1.5 mx0.example.test[", "250 "]);
    let lab = equals().mx(|mx| mx.mail = say("451 4.3.1 not now")).start().await;
    starts(&sent(&lab, &[DECLARED, TO], ASCII).await, &["250 ", "250 2.1.5 mx1.example.test[", "250 "]);
    let no = |mx: &mut Mx| mx.mail = say("451 4.3.1 not now");
    let lab = equals().mx(no).change(1, no).start().await;
    starts(&sent(&lab, &[DECLARED, TO], ASCII).await[1..2], &["451-4.3.1 mx0.example.test["]);
}

#[tokio::test]
async fn an_unreachable_exchange_may_have_the_extension() {
    // K16: deferred and never refused, in mode observe as well; mail that does not need it goes.
    for mode in ["enforce", "observe"] {
        for down in [0, 1] {
            let mut offers = [EIGHT_BIT; 2];
            offers[down] = ALL;
            let up = 1 - down;
            let scenario = exchanges(&offers).set(&format!("mode = '{mode}'"));
            let lab = scenario.change(down, unreachable).start().await;
            let there = format!("250 2.1.5 mx{up}.example.test[");
            starts(&sent(&lab, &[DECLARED, TO], ASCII).await, &["250 ", &there, "250 "]);
            let said = sent(&lab, &[DECLARED, TO], HEADER).await;
            starts(&said, &["250 ", &there, "451-4.4.2 "]);
            assert!(
                said[2].contains(&format!("mx{up}.example.test[127.0.0.{}]: the remote does not", up + 1)),
                "{said:?}"
            );
            assert!(said[2].contains(&format!("mx{down}.example.test[127.0.0.{}]: the conn", down + 1)), "{said:?}");
            let said = sent(&lab, &[DECLARED, TO, "RCPT TO:<\u{fc}@example.test>"], ASCII).await;
            starts(&said, &["250 ", &there, "451-4.4.2 ", "250 "]);
            for envelope in
                [["MAIL FROM:<\u{e4}@client.test> SMTPUTF8", TO], [DECLARED, "RCPT TO:<\u{fc}@example.test>"]]
            {
                starts(&sent(&lab, &envelope, ASCII).await[1..2], &["451-4.4.2 "]);
            }
            assert_eq!((delivered(&lab)[up], delivered(&lab)[down]), (2, 0));
            let metrics = ask(&lab.admin().await, "/metrics").await.unwrap().1;
            assert!(!metrics.contains("danelaw_observed_total{"), "{metrics}");
        }
    }
}

#[tokio::test]
async fn an_address_that_has_it_is_preferred() {
    // M22: the addresses of one exchange may be hosts of their own.
    const SIZED: &str = "250-mx\r\n250 SIZE 1000";
    const LARGE: &str = "MAIL FROM:<a@client.test> SIZE=1001";
    for (less, more, mail, message) in [
        (NOTHING, EIGHT_BIT, "MAIL FROM:<a@client.test> BODY=8BITMIME", BODY),
        (EIGHT_BIT, ALL, DECLARED, HEADER),
        (SIZED, NOTHING, LARGE, ASCII),
    ] {
        for (offers, taker) in [([less, more], 2), ([more, less], 1)] {
            for idle in [0, 10] {
                let set = format!("remote.idle_connections = {idle}");
                let lab = addresses(&offers).set(&set).start().await;
                let there = format!("250 2.1.5 mx0.example.test[127.0.0.{taker}]");
                // Twice: over a session that waited as over a new one.
                for _ in 0..2 {
                    starts(&sent(&lab, &[mail, TO], message).await, &["250 ", &there, "250 "]);
                }
                assert_eq!(delivered(&lab)[taker - 1], 2);
            }
        }
    }
    // A session that waited reports the same missing extensions as a new one.
    let lab = addresses(&[NOTHING, ALL]).set("remote.idle_connections = 10").start().await;
    for _ in 0..2 {
        starts(&sent(&lab, &[DECLARED, TO], HEADER).await, &["250 ", "250 ", "250 "]);
        lab::wait_for(|| lab.now().connector.dialer.pool.waiting() == 2).await;
    }
    assert_eq!(connections(&lab), [1, 1]);
    // Without one that has all, the one that has most, and no other.
    let lab = addresses(&[NOTHING, EIGHT_BIT, NOTHING]).start().await;
    starts(&sent(&lab, &[DECLARED, TO], BODY).await[1..], &["250 2.1.5 mx0.example.test[127.0.0.2]", "250 "]);
    let lab = addresses(&[NOTHING, EIGHT_BIT, NOTHING]).change(1, |mx| mx.mail = say("451 4.3.1 not now"));
    let said = sent(&lab.start().await, &[DECLARED, TO], ASCII).await;
    starts(&said[1..2], &["451-4.3.1 2 more exchanges or addresses were not asked"]);
    assert!(
        said[1].contains("\n451 4.3.1 mx0.example.test[127.0.0.2]: MAIL was answered with 451 4.3.1 not now"),
        "{said:?}"
    );
}

#[tokio::test]
async fn mail_is_refused_for_good_if_each_address_lacks_it() {
    for (mail, message, told) in [
        ("MAIL FROM:<a@client.test> BODY=8BITMIME", BODY, "554-5.6.3 mx0.example.test[127.0.0.1]: the remote does"),
        (DECLARED, HEADER, "554-5.6.9 mx0.example.test[127.0.0.1]: the remote does"),
    ] {
        let lab = addresses(&[NOTHING, NOTHING]).start().await;
        starts(&sent(&lab, &[mail, TO], ASCII).await, &["250 ", "250 ", "250 "]);
        // Equal addresses of one exchange: the last one serves at once.
        assert_eq!(connections(&lab), [1, 1]);
        let said = sent(&lab, &[mail, TO], message).await;
        starts(&said, &["250 ", "250 ", told]);
        assert!(said[2].contains("mx0.example.test[127.0.0.2]: the remote does"), "{said:?}");
    }
    let lab = addresses(&["250-mx\r\n250 SIZE 1000", "250-mx\r\n250 SIZE 900"]).start().await;
    let large = ["MAIL FROM:<a@client.test> SIZE=1001", TO];
    starts(&sent(&lab, &large, ASCII).await[1..2], &["552-5.3.4 mx0.example.test[127.0.0.1]: the remote takes"]);
    // An undeclared need, first with an exchange that was not asked.
    let undeclared = ["MAIL FROM:<a@client.test>", TO];
    let lab = addresses(&[NOTHING, NOTHING]).start().await;
    let said = sent(&lab, &undeclared, BODY).await;
    starts(&said[2..], &["451-4.6.3 mx0.example.test[127.0.0.1]"]);
    assert!(said[2].contains("1 more exchanges or addresses were not asked"), "{said:?}");
    starts(&sent(&lab, &undeclared, BODY).await[2..], &["554-5.6.3 "]);
    let lab = addresses(&[NOTHING, EIGHT_BIT]).start().await;
    starts(&sent(&lab, &undeclared, BODY).await[2..], &["451-4.6.3 "]);
    starts(&sent(&lab, &undeclared, BODY).await[1..], &["250 2.1.5 mx0.example.test[127.0.0.2]", "250 "]);
}

#[tokio::test]
async fn an_address_that_was_not_asked_may_have_it() {
    // K16, for the addresses of one exchange. In mode observe as well.
    let size = "250-mx\r\n250 SIZE 1000";
    for (mode, down) in [("enforce", 0), ("enforce", 1), ("observe", 0), ("observe", 1)] {
        let there = format!("250 2.1.5 mx0.example.test[127.0.0.{}]", 2 - down);
        let lab_of = |offered| {
            let scenario = addresses(&[offered, offered]).set(&format!("mode = '{mode}'"));
            scenario.change(down, unreachable).start()
        };
        let lab = lab_of(NOTHING).await;
        for _ in 0..2 {
            starts(&sent(&lab, &[DECLARED, TO], ASCII).await, &["250 ", &there, "250 "]);
            starts(&sent(&lab, &[DECLARED, TO], BODY).await, &["250 ", &there, "451-4.4.2 "]);
            starts(&sent(&lab, &[DECLARED, TO], HEADER).await, &["250 ", &there, "451-4.4.2 "]);
            starts(&sent(&lab, &["MAIL FROM:<a@client.test>", TO], BODY).await[1..2], &[&there]);
        }
        let utf8 = [DECLARED, "RCPT TO:<\u{fc}@example.test>"];
        starts(&sent(&lab, &utf8, ASCII).await[1..2], &["451-4.4.2 "]);
        let lab = lab_of(size).await;
        let large = ["MAIL FROM:<a@client.test> SIZE=1001", TO];
        starts(&sent(&lab, &large, ASCII).await[1..2], &["451-4.4.2 "]);
    }
    // Addresses that no mail of this try may go to: beyond the bound, or hidden behind a failed lookup.
    let bound = addresses(&[NOTHING, NOTHING]).set("remote.addresses = 1");
    let hidden = addresses(&[NOTHING]).tree(|tree, _| tree.fault("mx0.example.test", "AAAA", Fault::Drop));
    let further = exchanges(&[NOTHING, NOTHING]).tree(|tree, _| tree.a("mx0.example.test", "127.0.0.66"));
    for (scenario, told) in [
        (bound, "1 more exchanges or addresses were not asked"),
        (hidden, "AAAA"),
        (further.set("remote.addresses = 1"), "1 more exchanges or addresses were not asked"),
        (exchanges(&[NOTHING, NOTHING]).set("remote.exchanges = 1"), "1 more exchanges"),
    ] {
        let lab = scenario.start().await;
        starts(&sent(&lab, &[DECLARED, TO], ASCII).await, &["250 ", "250 ", "250 "]);
        for mail in [DECLARED, "MAIL FROM:<a@client.test>", "MAIL FROM:<a@client.test>"] {
            let said = sent(&lab, &[mail, TO], BODY).await;
            starts(&said, &["250 ", "250 ", "451-4."]);
            // Of more addresses than are tried, any may be the one.
            assert!(said[2].contains(told) || said[2].contains("127.0.0.66]: cannot connect"), "{said:?}, {told}");
        }
    }
}

#[tokio::test]
async fn an_exchange_that_was_asked_is_not_told_as_left_out() {
    // K16: the first one lacks an extension that the mail may yet need, and does not take the mail. Those behind it are asked then.
    let busy = |mx: &mut Mx| mx.mail = say("451 4.3.1 not now");
    for envelope in [["MAIL FROM:<a@client.test>", TO], ["MAIL FROM:<a@client.test> SIZE=9", TO]] {
        let lab = exchanges(&[NOTHING, NOTHING]).mx(busy).change(1, busy).start().await;
        let said = sent(&lab, &envelope, ASCII).await;
        starts(&said[1..2], &["451-4.3.1 mx0.example.test[127.0.0.1]: MAIL was answered"]);
        assert!(said[1].contains("\n451 4.3.1 mx1.example.test[127.0.0.2]: MAIL was answered"), "{said:?}");
        assert_eq!(said[1].lines().count(), 2, "{said:?}");
        assert_eq!(connections(&lab), [1, 1]);
    }
}

#[tokio::test]
async fn a_second_lap_answers_with_all_that_is_known() {
    // K16, X2: each host once, and no answer for good while one is left that may take the mail.
    let busy = |mx: &mut Mx| mx.mail = say("451 4.3.1 not now");
    let lab = exchanges(&[NOTHING, ALL]).mx(busy).change(1, unreachable).start().await;
    let said = sent(&lab, &[DECLARED, TO], ASCII).await;
    starts(&said[1..2], &["451-4.3.1 mx1.example.test[127.0.0.2]: the connection was lost"]);
    assert!(said[1].contains("\n451 4.3.1 mx0.example.test[127.0.0.1]: MAIL was answered with 451 4.3.1"), "{said:?}");
    assert_eq!(said[1].lines().count(), 2, "{said:?}");
    // The host that took the mail in the first lap does not in the second, and says so for good.
    let sized = "MAIL FROM:<a@client.test> BODY=8BITMIME SMTPUTF8 SIZE=1000";
    let small = || say("250-mx\r\n250-8BITMIME\r\n250 SIZE 10");
    let tagged = |offered: &str| say(&offered.replace("250-PIPELINING", "250-PIPELINING\r\n250-REQUIRETLS"));
    let always = "listener = [{ address = '127.0.0.1:0', require_tls = 'always' }]";
    let then = |first: Act, then: Act| {
        move |mx: &mut Mx| {
            mx.first_ehlos_under_tls.lock().unwrap().push_back(first);
            mx.ehlo_under_tls = then;
        }
    };
    for (scenario, told) in [
        (exchanges(&[EIGHT_BIT, ALL]).mx(then(say(EIGHT_BIT), small())).change(1, unreachable), "mx1.example.test["),
        // It would have had the mail in the second lap, if the first host had not been better.
        (
            exchanges(&[EIGHT_BIT, NOTHING]).mx(then(say(EIGHT_BIT), small())),
            "1 more exchanges or addresses were not asked",
        ),
        (
            exchanges(&[EIGHT_BIT, ALL]).mx(then(tagged(EIGHT_BIT), say(EIGHT_BIT))).change(1, unreachable).set(always),
            "mx1.example.test[",
        ),
        (
            exchanges(&[EIGHT_BIT, ALL, ALL])
                .mx(then(say(EIGHT_BIT), small()))
                .change(1, unreachable)
                .set("remote.exchanges = 2"),
            "1 more exchanges were not tried",
        ),
    ] {
        let lab = scenario.start().await;
        let said = sent(&lab, &[sized, TO], ASCII).await;
        starts(&said[1..2], &["451-4."]);
        assert_eq!(said[1].matches(told).count(), 1, "{said:?}");
        assert_eq!(said[1].matches("mx0.example.test[").count(), 1, "{said:?}");
        assert_eq!(delivered(&lab).iter().sum::<usize>(), 0);
    }
}

#[tokio::test]
async fn observing_tells_of_refusals_that_would_have_been() {
    // B9: the one that has it is not authenticated by DANE. Enforcing would have sent to the other one, but for mail that
    // needs it.
    let scenario = || {
        exchanges(&[EIGHT_BIT, ALL]).change(1, |mx| mx.identity = Identity::for_name("other")).set("mode = 'observe'")
    };
    for (envelope, message, would) in [
        ([DECLARED, TO], ASCII, 0),
        ([DECLARED, TO], BODY, 0),
        ([DECLARED, TO], HEADER, 1),
        (["MAIL FROM:<\u{e4}@client.test> SMTPUTF8", TO], ASCII, 1),
        ([DECLARED, "RCPT TO:<\u{fc}@example.test>"], ASCII, 1),
    ] {
        let lab = scenario().start().await;
        starts(&sent(&lab, &envelope, message).await, &["250 ", "250 2.1.5 mx1.example.test[", "250 "]);
        let metrics = ask(&lab.admin().await, "/metrics").await.unwrap().1;
        let told = metrics.contains("danelaw_observed_total{would=\"tlsa-mismatch\"} 1\n");
        assert_eq!(told, would == 1, "{envelope:?} {message:?}: {metrics}");
    }
    // Where the one that has it cannot be had at all, the other one is held to its policy as ever.
    let lab = scenario().change(1, |mx| mx.rcpt = vec![Act::Close]).start().await;
    starts(&sent(&lab, &[DECLARED, TO], ASCII).await, &["250 ", "250 2.1.5 mx0.example.test[", "250 "]);
    let metrics = ask(&lab.admin().await, "/metrics").await.unwrap().1;
    assert!(!metrics.contains("danelaw_observed_total{") && metrics.contains("policy=\"dane\""), "{metrics}");
}

#[tokio::test]
async fn an_undeclared_extension_is_found_at_the_next_try() {
    let envelope = ["MAIL FROM:<a@client.test>", TO];
    let lab = exchanges(&[NOTHING, EIGHT_BIT]).start().await;
    starts(&sent(&lab, &envelope, ASCII).await, &["250 ", "250 2.1.5 mx0.example.test[", "250 "]);
    let said = sent(&lab, &envelope, BODY).await;
    starts(&said, &["250 ", "250 2.1.5 mx0.example.test[", "451-4.6.3 mx0.example.test[127.0.0.1]: the remote does"]);
    assert!(said[2].contains("1 more exchanges or addresses were not asked"), "{said:?}");
    starts(&sent(&lab, &envelope, BODY).await, &["250 ", "250 2.1.5 mx1.example.test[", "250 "]);
    assert_eq!(delivered(&lab), [1, 1]);
    // It was the only one, or the last one that there is.
    let lab = exchanges(&[NOTHING, NOTHING]).start().await;
    starts(&sent(&lab, &envelope, BODY).await[2..], &["451-4.6.3 "]);
    starts(&sent(&lab, &envelope, BODY).await[2..], &["554-5.6.3 mx0.example.test[127.0.0.1]: the remote does"]);
    starts(&sent(&lab, &envelope, ASCII).await[2..], &["250 "]);
    // One that cannot be reached may have it.
    let lab = exchanges(&[ALL, NOTHING]).mx(unreachable).start().await;
    for _ in 0..2 {
        starts(&sent(&lab, &envelope, BODY).await[2..], &["451-4.4.2 "]);
    }
    starts(&sent(&lab, &envelope, ASCII).await[2..], &["250 "]);
}

#[tokio::test]
async fn a_destination_that_stops_stops_alone() {
    // L: the limits of one remote are no reason for the others.
    let other = |mx: &mut Mx| mx.ehlo_under_tls = say(EIGHT_BIT);
    let lab = exchanges(&[NOTHING])
        .and_domain("other.test", other)
        .set("listener = [{ kind = 'lmtp', address = '127.0.0.1:0' }]");
    let lab = lab.start().await;
    let mut client = lab.lmtp_client().await;
    let said = sent_by(&mut client, &[DECLARED, TO, "RCPT TO:<c@other.test>"], BODY).await;
    starts(&said, &["250 ", "250 ", "250 ", "554 5.6.3 mx0.example.test["]);
    assert!(client.reply().await.starts_with("250 2.0.0 mx.other.test["));
    assert_eq!(delivered(&lab), [0, 1]);
    assert_eq!(lab.seen[1].messages(), [BODY.as_bytes()]);
}

#[tokio::test]
async fn a_refusal_by_an_exchange_with_the_extension_is_not_final() {
    // The first exchange takes mail that does not need the extension that it lacks, with any answer of the one behind
    // it.
    for (mail, rcpt) in [
        ("250 2.1.0 ok", "554 5.7.1 relay access denied"),
        ("250 2.1.0 ok", "451 4.7.1 greylisted"),
        ("550 5.7.1 not here", "250 2.1.5 ok"),
        ("451 4.3.0 not now", "250 2.1.5 ok"),
    ] {
        let set = |mx: &mut Mx| {
            mx.mail = say(mail);
            mx.rcpt = vec![say(rcpt)];
        };
        let lab = exchanges(&[EIGHT_BIT, ALL]).change(1, set).start().await;
        starts(&sent(&lab, &[DECLARED, TO], ASCII).await, &["250 ", "250 2.1.5 mx0.example.test[", "250 "]);
        // Mail that needs it waits for an exchange that takes it.
        starts(&sent(&lab, &[DECLARED, TO], HEADER).await, &["250 ", "250 2.1.5 mx0.example.test[", "451"]);
        assert_eq!(delivered(&lab), [1, 0]);
    }
}
