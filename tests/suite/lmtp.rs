//! LMTP and PRDR: recipients that are answered one by one, to the end (RFC 2033 §4.2).

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use std::time::{Duration, Instant};

use crate::lab::client::Client;
use crate::lab::mx::{Act, Mx, say};
use crate::lab::{self, Lab, Scenario, wait_for};
use crate::log::captured;
use danelaw::config::Config;
use danelaw::server::{Drained, OpenListener};

/// A listener's table with one kind and address.
fn listener(kind: &str, address: &str) -> String {
    format!("listener = [{{ kind = '{kind}', address = '{address}' }}]")
}

/// Two domains, `example.test` and `second.example.test`; the second one's exchange is changed.
fn two(change: impl FnOnce(&mut Mx)) -> Scenario {
    Scenario::new().and_domain("second.example.test", change).set(&lmtp())
}

/// MAIL, these recipients and DATA in one piece.
async fn pipeline(client: &mut Client, mail: &str, to: &[&str]) {
    let recipients: String = to.iter().map(|to| format!("RCPT TO:<{to}>\r\n")).collect();
    client.write(format!("MAIL FROM:<a@client.test>{mail}\r\n{recipients}DATA\r\n").as_bytes()).await;
}

const BOTH: [&str; 3] = ["b@example.test", "c@second.example.test", "d@example.test"];
const MESSAGE: &[u8] = b"Subject: x\r\n\r\nbody\r\n.\r\n";

/// Each domain's whole messages, without the fields that danelaw has put before them.
fn bodies(lab: &Lab) -> Vec<Vec<String>> {
    let body = |message: &Vec<u8>| {
        let text = String::from_utf8(message.clone()).unwrap();
        text.find("Subject:").map_or(text.clone(), |start| text[start..].to_owned())
    };
    lab.seen.iter().map(|seen| seen.messages().iter().map(body).collect()).collect()
}

fn lmtp() -> String {
    listener("lmtp", "127.0.0.1:0")
}

#[tokio::test]
async fn lhlo_and_nothing_else() {
    let lab = Scenario::new().set(&lmtp()).start().await;
    let mut client = lab.client().await;
    // J1.
    for other in ["EHLO client.test", "HELO client.test"] {
        assert!(client.command(other).await.starts_with("500 5.5.1 "));
    }
    // J6: the extensions that RFC 2033 §5 asks for; LIMITS and PRDR are for clients that get one answer for all
    // recipients.
    let offered = client.command("LHLO client.test").await;
    let offered: Vec<_> = offered.lines().skip(1).map(|line| &line[4..]).collect();
    assert_eq!(offered, ["PIPELINING", "SIZE 104857600", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "CHUNKING"]);
    // J2.
    client.command("MAIL FROM:<a@client.test>").await;
    assert!(client.command("DATA").await.starts_with("503 5.5.1 "));
    // An SMTP listener speaks no LMTP.
    let lab = Scenario::new().start().await;
    assert!(lab.client().await.command("LHLO client.test").await.starts_with("500 5.5.1 "));
}

#[tokio::test]
async fn a_unix_socket() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lmtp.sock");
    let at = path.display();
    let owner = std::fs::metadata(directory.path()).unwrap();
    let (user, group) = (owner.uid(), owner.gid());
    let setting =
        format!("listener = [{{ kind = 'lmtp', address = 'unix:{at}', mode = '0640', owner = '{user}:{group}' }}]");
    let mut lab = Scenario::new().set(&setting).start().await;
    // the file's mode and owner decide which programs may relay.
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    let mut client = lab.lmtp_client().await;
    let answers = client.send(&["b@example.test"], lab::MESSAGE).await;
    assert!(answers.last().starts_with("250 2.0.0 "), "{answers:?}");
    let stored = String::from_utf8(lab.mx().messages().remove(0)).unwrap();
    let trace = "Received: from client.test (unix socket)\r\n\tby danelaw.test (danelaw) with LMTP id ";
    assert!(stored.starts_with(trace), "{stored}");
    // A program listens here, so no other can take its place.
    assert!(open(&path).unwrap_err().to_string().contains("another program listens"));
    lab.stop();
    assert_eq!(lab.stopped().await, Drained::Clean);
    assert!(!path.exists(), "removed at the end");
    // The socket of a process that has died is replaced; a file that is no socket is not.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    drop(open(&path).unwrap());
    std::fs::write(&path, "mine").unwrap();
    assert!(open(&path).unwrap_err().to_string().contains("no socket"));
    assert_eq!(std::fs::read(&path).unwrap(), b"mine");
}

fn open(path: &Path) -> std::io::Result<OpenListener> {
    let mut table: toml::Table = danelaw::config::DEFAULTS.parse().unwrap();
    table.extend(listener("lmtp", &format!("unix:{}", path.display())).parse::<toml::Table>().unwrap());
    let config: Config = table.try_into().unwrap();
    OpenListener::open(&config.listener[0])
}

#[tokio::test]
async fn an_answer_for_each_recipient() {
    // J3, J4, L4: in the client's order, duplicates included, each reply that of its own domain.
    let lab = two(|mx| mx.end = say("451 4.3.0 later")).start().await;
    let mut client = lab.lmtp_client().await;
    // Decision 13.
    let to = ["b@example.test", "c@second.example.test", "no@[192.0.2.1]", "b@example.test"];
    pipeline(&mut client, "", &to).await;
    assert_eq!(client.codes(6).await, ["250 2.1.0", "250 2.1.5", "250 2.1.5", "550 5.1.2", "250 2.1.5", "354"]);
    client.write(MESSAGE).await;
    let answers = [client.reply().await, client.reply().await, client.reply().await];
    assert_eq!(
        answers,
        [
            "250 2.0.0 mx1.example.test[127.0.0.1]: queued as 42",
            "451 4.3.0 mx.second.example.test[127.0.0.2]: later",
            "250 2.0.0 mx1.example.test[127.0.0.1]: queued as 42",
        ]
    );
    // The domain with two of the recipients has heard of both in one transaction.
    let rcpt = |seen: &lab::mx::Seen| seen.tls().iter().filter(|line| line.starts_with("RCPT")).count();
    assert_eq!(lab.seen.iter().map(|seen| rcpt(seen)).collect::<Vec<_>>(), [2, 1]);
    // The session goes on.
    pipeline(&mut client, "", &["c@second.example.test"]).await;
    assert_eq!(client.codes(3).await, ["250 2.1.0", "250 2.1.5", "354"]);
}

#[tokio::test]
async fn as_many_domains_as_there_may_be() {
    // J4: each recipient has its own outcome, and none waits for a recipient behind it. Fifty lookups and handshakes at once
    // take longer than the lab's limits on a busy machine.
    const DOMAINS: usize = 50;
    let limits = "dns.timeout = '2s'\ntimeouts.final = '4s'";
    let mut scenario = Scenario::with_domain(|tree, _| tree).set(&lmtp()).set(limits);
    let end = |number| match number % 5 {
        1 => say("451 4.3.0 later"),
        2 => say("554 5.7.1 spam"),
        _ if number == DOMAINS - 1 => Act::Hang,
        _ => say("250 2.0.0 queued"),
    };
    for number in 0..DOMAINS {
        scenario = scenario.and_domain(&format!("d{number}.example.test"), |mx| mx.end = end(number));
    }
    let lab = scenario.start().await;
    let mut client = lab.lmtp_client().await;
    let to: Vec<String> = (0..DOMAINS).map(|number| format!("b@d{number}.example.test")).collect();
    pipeline(&mut client, "", &to.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let accepted = client.codes(1 + DOMAINS).await;
    assert!(accepted.iter().all(|code| code.starts_with("250 ")), "{accepted:?}");
    assert_eq!(client.codes(1).await, ["354"]);
    client.write(MESSAGE).await;
    let codes = ["250 2.0.0", "451 4.3.0", "554 5.7.1", "250 2.0.0", "250 2.0.0"];
    let known: Vec<&str> = codes.into_iter().cycle().take(DOMAINS - 1).collect();
    assert_eq!(client.codes(DOMAINS - 1).await, known);
    assert!(client.is_silent(Duration::from_millis(100)).await);
    assert_eq!(client.codes(1).await, ["451 4.4.2"]);
    assert_eq!(bodies(&lab).iter().flatten().count(), DOMAINS);
}

#[tokio::test]
async fn a_client_without_pipelining_gets_the_same_replies() {
    // J3, J6: a client that does not pipeline.
    let lab = two(|_| {}).start().await;
    let mut client = lab.lmtp_client().await;
    assert!(client.command("MAIL FROM:<a@client.test>").await.starts_with("250 "));
    for to in BOTH {
        assert!(client.command(&format!("RCPT TO:<{to}>")).await.starts_with("250 2.1.5 "));
    }
    assert!(client.command("DATA").await.starts_with("354 "));
    client.write(MESSAGE).await;
    assert_eq!(client.codes(3).await, ["250 2.0.0"; 3]);
    assert_eq!(bodies(&lab), vec![vec!["Subject: x\r\n\r\nbody\r\n"]; 2]);
}

#[tokio::test]
async fn each_answer_as_soon_as_it_is_known() {
    // J8: the second remote takes its time with the end of data; the replies before it are not held back.
    let lab = two(|mx| mx.end = Act::Hang).set("timeouts.final = '1s'").start().await;
    let mut client = lab.lmtp_client().await;
    pipeline(&mut client, "", &BOTH).await;
    client.codes(5).await;
    client.write(MESSAGE).await;
    assert_eq!(client.codes(1).await, ["250 2.0.0"]);
    assert!(client.is_silent(Duration::from_millis(100)).await);
    assert_eq!(client.codes(2).await, ["451 4.4.2", "250 2.0.0"]);
    // The same with recipients: the second domain does not greet.
    let lab = two(|mx| mx.greeting = Act::Hang).set("timeouts.greeting = '1s'").start().await;
    let mut client = lab.lmtp_client().await;
    pipeline(&mut client, "", &BOTH).await;
    assert_eq!(client.codes(2).await, ["250 2.1.0", "250 2.1.5"]);
    assert!(client.is_silent(Duration::from_millis(100)).await);
    assert_eq!(client.codes(3).await, ["451 4.4.2", "250 2.1.5", "354"]);
}

/// J9: the first recipient has its reply. The 421 is for the other one alone, which gets the message again.
#[tokio::test]
async fn an_end_between_two_replies() {
    let mut lab = two(|mx| mx.end = Act::Hang).set("timeouts.grace = '300ms'").start().await;
    let mut client = lab.lmtp_client().await;
    pipeline(&mut client, "", &["b@example.test", "c@second.example.test"]).await;
    client.codes(4).await;
    client.write(MESSAGE).await;
    assert_eq!(client.codes(1).await, ["250 2.0.0"]);
    lab.stop();
    assert_eq!(lab.stopped().await, Drained::Cut(1));
    assert!(client.rest().await.starts_with("421 4.3.2 "));
    assert_eq!(bodies(&lab), vec![vec!["Subject: x\r\n\r\nbody\r\n"]; 2]);
}

#[tokio::test]
async fn domains_are_dialled_side_by_side() {
    // K7: eight that do not greet take as long as one.
    let mut scenario = Scenario::with_domain(|tree, _| tree).set(&lmtp());
    let domains: Vec<String> = (0..8).map(|index| format!("d{index}.example.test")).collect();
    for domain in &domains {
        scenario = scenario.and_domain(domain, |mx| mx.greeting = Act::Hang);
    }
    let lab = scenario.set("timeouts.greeting = '500ms'").start().await;
    let mut client = lab.lmtp_client().await;
    let to: Vec<String> = domains.iter().map(|domain| format!("b@{domain}")).collect();
    let started = Instant::now();
    pipeline(&mut client, "", &to.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let codes = client.codes(10).await;
    assert!(codes[1..9].iter().all(|code| code == "451 4.4.2") && codes[9] == "503 5.5.1", "{codes:?}");
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_failed_domain_does_not_affect_other_recipients() {
    // L4: at every step; the others get the message whole, the failed one never an end of data.
    type Change = fn(&mut Mx);
    let cases: [(Change, &str, &str); 9] = [
        (|mx| mx.ehlo = say("250 mx"), "451 4.7.4", ""),
        (|mx| mx.mail = say("550 5.7.1 not you"), "550 5.7.1", ""),
        (|mx| (mx.rcpt, mx.data) = (vec![say("550 5.1.1 no")], say("503 5.5.1 for whom?")), "550 5.1.1", ""),
        (|mx| mx.data = say("554 5.5.1 no"), "250 2.1.5", "554 5.5.1"),
        (|mx| mx.data = Act::Close, "250 2.1.5", "451 4.4.2"),
        (|mx| mx.amid_message = Some(say("552 5.3.4 too much")), "250 2.1.5", "552 5.3.4"),
        (|mx| mx.amid_message = Some(Act::Close), "250 2.1.5", "451 4.4.2"),
        // M1, I21: an extension that this remote alone lacks.
        (|mx| mx.ehlo_under_tls = say("250-mx\r\n250 PIPELINING"), "250 2.1.5", "554 5.6.3"),
        // The only remote that has read the whole message.
        (|mx| mx.end = say("554 5.7.1 spam"), "250 2.1.5", "554 5.7.1"),
    ];
    // Many blocks.
    let text = format!("Subject: gr\u{fc}n\r\n\r\n{}", "0123456789 gr\u{fc}n\r\n".repeat(6_000));
    for (change, at_rcpt, at_end) in cases {
        let lab = two(change).set("timeouts.final = '20s'\ntimeouts.block = '20s'").start().await;
        let mut client = lab.lmtp_client().await;
        pipeline(&mut client, "", &BOTH).await;
        assert_eq!(client.codes(5).await, ["250 2.1.0", "250 2.1.5", at_rcpt, "250 2.1.5", "354"]);
        client.write(format!("{text}.\r\n").as_bytes()).await;
        let expected: Vec<&str> =
            ["250 2.0.0", at_end, "250 2.0.0"].into_iter().filter(|code| !code.is_empty()).collect();
        assert_eq!(client.codes(expected.len()).await, expected);
        let stored = if at_end == "554 5.7.1" { vec![text.as_str()] } else { vec![] };
        assert_eq!(bodies(&lab), [vec![text.as_str()], stored], "{at_rcpt} {at_end}");
        assert!(client.command("NOOP").await.starts_with("250 "));
    }
}

#[tokio::test]
async fn all_recipients_fail() {
    // One refusal in the place of 354, for good only if it is for good for every recipient.
    for (data, expected) in [("554 5.7.1 no", "554 5.7.1"), ("451 4.3.0 later", "451 4.3.0")] {
        let lab = two(|mx| mx.data = say(data)).mx(|mx| mx.data = say("550 5.7.1 no")).start().await;
        let mut client = lab.lmtp_client().await;
        pipeline(&mut client, "", &BOTH).await;
        let codes = client.codes(5).await;
        let first = if expected.starts_with('5') { "550 5.7.1" } else { expected };
        assert_eq!(codes[4], first);
        assert!(client.command("MAIL FROM:<a@client.test>").await.starts_with("250 "));
    }
    // In the middle of the message: its rest is read, and every recipient has an answer.
    let refuses = |mx: &mut Mx| mx.amid_message = Some(say("552 5.3.4 too much"));
    let lab = two(refuses).mx(refuses).start().await;
    let mut client = lab.lmtp_client().await;
    pipeline(&mut client, "", &BOTH).await;
    client.codes(5).await;
    client.write(&b"0123456789012345678901234567890123456789\r\n".repeat(100_000)).await;
    client.write(b".\r\nNOOP\r\n").await;
    assert_eq!(client.codes(4).await, ["552 5.3.4", "552 5.3.4", "552 5.3.4", "250 2.0.0"]);
    assert!(lab.seen.iter().all(|seen| seen.messages().is_empty()));
}

#[tokio::test]
async fn faults_of_the_message() {
    // I12, I16: every recipient has an answer, and no remote gets an end of data.
    let lab = two(|_| {}).set("limits.bare_newlines = 'reject'").start().await;
    let mut client = lab.lmtp_client().await;
    pipeline(&mut client, "", &BOTH).await;
    client.codes(5).await;
    client.write(b"a\nb\r\n.\r\n").await;
    assert_eq!(client.codes(3).await, ["554 5.5.2"; 3]);
    wait_for(|| lab.seen.iter().all(|seen| seen.cut() == 1)).await;
    assert!(lab.seen.iter().all(|seen| seen.messages().is_empty()));
}

#[tokio::test]
async fn the_client_goes_away() {
    // L2, L13: every remote sees a reset.
    let lab = two(|_| {}).start().await;
    let mut client = lab.lmtp_client().await;
    pipeline(&mut client, "", &BOTH).await;
    client.codes(5).await;
    client.write(b"half a mess").await;
    client.vanish();
    wait_for(|| lab.seen.iter().all(|seen| seen.cut() == 1)).await;
    assert!(lab.seen.iter().all(|seen| seen.messages().is_empty()));
    // RSET reaches all of them.
    let mut client = lab.lmtp_client().await;
    client.command("MAIL FROM:<a@client.test>").await;
    for to in BOTH {
        client.command(&format!("RCPT TO:<{to}>")).await;
    }
    assert!(client.command("RSET").await.starts_with("250 "));
    wait_for(|| lab.seen.iter().all(|seen| seen.closed() == 1)).await;
}

#[tokio::test]
async fn prdr() {
    let smtp = "listener = [{ address = '127.0.0.1:0' }]";
    // A-104, L3: where MAIL asks for it, SMTP answers each recipient too.
    for (change, at_end, last) in [
        ((|_| {}) as fn(&mut Mx), ["250 2.0.0", "250 2.0.0"], "250 2.0.0"),
        // With a refusal at the end Exim would send the message again to the recipients that have it.
        (|mx| mx.end = say("554 5.7.1 spam"), ["250 2.0.0", "554 5.7.1"], "250 2.0.0"),
        (|mx| mx.end = say("451 4.3.0 later"), ["250 2.0.0", "451 4.3.0"], "250 2.0.0"),
    ] {
        let lab = two(change).set(smtp).start().await;
        let mut client = lab.client().await;
        pipeline(&mut client, " PRDR", &BOTH[..2]).await;
        assert_eq!(client.codes(4).await, ["250 2.1.0", "250 2.1.5", "250 2.1.5", "354"]);
        client.write(MESSAGE).await;
        let codes = client.codes(4).await;
        assert_eq!((codes[0].as_str(), codes[3].as_str()), ("353", last));
        assert_eq!(codes[1..3], at_end);
        // Extensions between the client and danelaw are not passed on to the remote.
        assert!(lab.seen.iter().all(|seen| seen.tls()[1] == "MAIL FROM:<a@client.test>"));
    }
    // No recipient has the message: the refusal is for good only if it is for good for every recipient.
    for (end, last) in [("550 5.7.1 no", "554 5.7.1"), ("451 4.3.0 later", "451 4.3.0")] {
        let lab = two(|mx| mx.end = say(end)).mx(|mx| mx.end = say("554 5.7.1 spam")).set(smtp).start().await;
        let mut client = lab.client().await;
        pipeline(&mut client, " PRDR", &BOTH[..2]).await;
        client.codes(4).await;
        client.write(MESSAGE).await;
        assert_eq!(client.codes(4).await, ["353", "554 5.7.1", &end[..9], last]);
    }
    // L3: without it, one domain.
    let lab = two(|_| {}).set(smtp).start().await;
    let mut client = lab.client().await;
    pipeline(&mut client, "", &BOTH).await;
    assert_eq!(client.codes(5).await, ["250 2.1.0", "250 2.1.5", "452 4.5.3", "250 2.1.5", "354"]);
    client.write(MESSAGE).await;
    assert_eq!(client.codes(1).await, ["250 2.0.0"]);
    assert_eq!(lab.seen[1].connections(), 0);
}

#[tokio::test]
async fn one_log_event_for_each_domain() {
    let (log, _logging) = captured();
    let lab = two(|mx| mx.end = say("554 5.7.1 spam")).start().await;
    let mut client = lab.lmtp_client().await;
    pipeline(&mut client, "", &[BOTH[0], BOTH[1], BOTH[2], "e@missing.example.test"]).await;
    client.codes(6).await;
    client.write(MESSAGE).await;
    client.codes(3).await;
    client.command("QUIT").await;
    let log = log.text();
    let mut told: Vec<(&str, &str, &str)> = Vec::new();
    for line in log.lines().filter(|line| line.contains(" delivery ")) {
        let field = |key: &str| line.split(' ').find_map(|word| word.strip_prefix(key)).unwrap();
        told.push((field("domain="), field("verdict="), field("recipients=")));
    }
    told.sort_unstable();
    assert_eq!(
        told,
        [
            ("example.test", "delivered", "2"),
            ("missing.example.test", "rejected", "0"),
            ("second.example.test", "rejected", "1"),
        ]
    );
}
