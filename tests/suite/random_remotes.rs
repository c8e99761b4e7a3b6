//! Random remotes: each reply of each remote is drawn at random, and so is the message of the client. In every case a
//! client that hears 2xx has its message at one remote, once and whole. A client with any other reply has it at no
//! remote that meant to keep it, except for a remote that spoke before it was asked.

use std::time::Duration;

use crate::lab::client::Client;
use crate::lab::exchange::Exchange;
use crate::lab::mx::{Act, Mx, say};
use crate::lab::{self, Lab, Scenario};
use fastrand::Rng;

const EXCHANGES: usize = 3;

/// One of `others`, or mostly `usual`.
fn drawn(random: &mut Rng, usual: &Act, others: &[Act]) -> Act {
    if random.u8(0..100) < 88 { usual.clone() } else { random.choice(others).unwrap().clone() }
}

/// The wrong answers that a remote may give at any step.
fn rude() -> Vec<Act> {
    vec![
        Act::Close,
        Act::SayAndReset(String::new()),
        Act::SayAndCut("4".to_owned()),
        say("421 4.3.2 not now"),
        Act::SayAndClose("421 4.3.2 not now\r\n".to_owned()),
        say("451 4.3.0 later"),
        say("554 5.7.1 never"),
        say("500 what?"),
        say("354 go"),
        say("199 one"),
        say("999 nine"),
        say("250"),
        say("garbage"),
        say("250-first\r\n550 second"),
        say("250 ok\r\n250 and once more"),
        say("452-4.5.3 a\r\n452 4.5.3 b"),
    ]
}

/// The answers of an exchange to the end of a message, and whether it keeps the message, which it has then said in
/// full.
fn ends() -> Vec<(Act, bool)> {
    let drip = |text: &str| Act::Drip(text.to_owned(), Duration::from_millis(1));
    vec![
        (say("250 2.0.0 kept"), true),
        (say("250-2.0.0 kept\r\n250 2.0.0 for good"), true),
        (Act::SayAndClose("250 kept\r\n".to_owned()), true),
        (Act::SayAndCut("250 2.0.0 kept\r\n".to_owned()), true),
        (Act::SayAndReset("250 2.0.0 kept\r\n".to_owned()), true),
        (drip("250-a\r\n250 kept\r\n"), true),
        (say("250 5.0.0 kept, and confused"), true),
        (say("451 4.3.0 later"), false),
        (say("554 5.7.1 never"), false),
        (say("421 4.3.2 going"), false),
        (say("354 go on"), false),
        (say("250-half"), false),
        (Act::SayAndCut("250 2.0.0 kep".to_owned()), false),
        (Act::SayAndCut("250-2.0.0 kept\r\n".to_owned()), false),
        (Act::SayAndClose("250 2.0.0 kept\r".to_owned()), false),
        (say("2500 kept"), false),
        (say("garbage"), false),
        (Act::Close, false),
        (Act::Hang, false),
    ]
}

fn script(mx: &mut Mx, random: &mut Rng, end: Act, hasty: bool) {
    let rude = rude();
    mx.greeting = drawn(random, &mx.greeting, &rude);
    mx.starttls = drawn(random, &mx.starttls, &rude);
    let hello = random.choice([
        "250 mx",
        "250-mx\r\n250 PIPELINING",
        "250-mx\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 CHUNKING",
    ]);
    mx.ehlo_under_tls = drawn(random, &say(hello.unwrap()), &rude);
    mx.mail = drawn(random, &mx.mail, &rude);
    mx.rcpt = (0..3).map(|_| drawn(random, &mx.rcpt[0], &rude)).collect();
    mx.data = drawn(random, &mx.data, &rude);
    if hasty {
        // A-62: replies before their commands, one of which would pass for the answer to the message.
        let words = ["354 go\r\n250 2.0.0 kept", "354 go\r\n354 go", "354 go\r\n250-2.0.0 kept", "354 go\r\n554 never"];
        mx.data = random.choice(words.map(say)).unwrap();
    }
    if random.u8(0..20) == 0 {
        mx.amid_message = random.choice(rude).filter(|act| !matches!(act, Act::Say(_)));
    }
    mx.end = end;
}

/// Reads the replies that are due, and returns their codes.
async fn codes(client: &mut Client, due: usize) -> Vec<u16> {
    client.codes(due).await.iter().map(|code| code[..3].parse().unwrap()).collect()
}

/// The replies to MAIL and each recipient, and the reply to DATA, a chunk or the message: the last of these.
async fn send(lab: &Lab, random: &mut Rng, message: &[u8]) -> (Vec<u16>, Option<u16>) {
    let mut client = lab.client().await;
    let recipients = random.usize(1..4);
    let envelope: Vec<String> = std::iter::once("MAIL FROM:<a@client.test>".to_owned())
        .chain((0..recipients).map(|number| format!("RCPT TO:<b{number}@example.test>")))
        .collect();
    let (pipelined, chunks) = (random.bool(), random.bool());
    let mut answers = Vec::new();
    if pipelined {
        client.write(format!("{}\r\n", envelope.join("\r\n")).as_bytes()).await;
        answers = codes(&mut client, envelope.len()).await;
    } else {
        for line in envelope {
            answers.push(client.command(&line).await[..3].parse().unwrap());
        }
    }
    let accepted = answers[1..].iter().filter(|code| **code / 100 == 2).count();
    if accepted == 0 {
        return (answers, None);
    }
    if chunks {
        let (first, rest) = message.split_at(random.usize(0..message.len()));
        client.write(format!("BDAT {}\r\n", first.len()).as_bytes()).await;
        client.write(first).await;
        let [code] = codes(&mut client, 1).await[..] else { panic!() };
        if code / 100 != 2 {
            return (answers, Some(code));
        }
        client.write(format!("BDAT {} LAST\r\n", rest.len()).as_bytes()).await;
        client.write(rest).await;
    } else {
        let code: u16 = client.command("DATA").await[..3].parse().unwrap();
        if code != 354 {
            return (answers, Some(code));
        }
        client.write(&[message, b".\r\n"].concat()).await;
    }
    (answers, Some(codes(&mut client, 1).await[0]))
}

/// One lab with its exchanges, and some messages one after the other; how many were delivered.
async fn one(seed: u64) -> usize {
    let mut random = Rng::with_seed(seed);
    let (mut ends, mut scenario) = (ends(), Scenario::with_domain(|tree, _| tree).set("received = false"));
    random.shuffle(&mut ends);
    ends.truncate(EXCHANGES);
    let hasty = random.u8(0..4) == 0;
    for (index, (end, _)) in ends.iter().enumerate() {
        let exchange = Exchange::new("example.test", &format!("mx{index}.example.test"));
        scenario = scenario.exchange(exchange.script(|mx| script(mx, &mut random, end.clone(), hasty)));
    }
    let limits = "timeouts = { greeting = '1s', command = '1s', data = '1s', final = '2s' }";
    let waiting = if random.bool() { "remote.idle_connections = 10" } else { "" };
    let lab = scenario.set(limits).set(waiting).start().await;
    let mut delivered = 0;
    for number in 0..3 {
        let message = format!("Subject: {seed}\r\n\r\n{number} {}\r\n", "green ".repeat(random.usize(1..9)));
        let (recipients, told) = send(&lab, &mut random, message.as_bytes()).await;
        let come: Vec<_> = lab
            .seen
            .iter()
            .zip(&ends)
            .flat_map(|(seen, (_, keeps))| seen.take_messages().into_iter().map(move |message| (message, *keeps)))
            .collect();
        let found = format!("seed {seed}, message {number}: {recipients:?}, {told:?}, {come:?}");
        let kept = come.iter().filter(|(_, keeps)| *keeps).count();
        let success = told.is_some_and(|code| code / 100 == 2);
        // A remote that has spoken too early is not believed any more, even if it has kept a message: better twice than
        // never.
        assert!(kept == usize::from(success) || hasty && !success && kept == 1, "{found}");
        assert!(come.len() <= 1 && come.iter().all(|(come, _)| come == message.as_bytes()), "{found}");
        // With any behaviour of the remote, danelaw answers with a reply that SMTP allows there.
        let mut words = recipients.iter().chain(&told);
        assert!(words.all(|code| matches!(code / 100, 2 | 4 | 5)), "{found}");
        assert!(lab.seen.iter().all(|seen| seen.clear().iter().all(|line| !line.starts_with("MAIL"))), "{found}");
        delivered += usize::from(success);
    }
    delivered
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_is_told_what_became_of_its_message() {
    let runs = if lab::long() { 2000 } else { 25 };
    let first = fastrand::u64(0..u64::MAX / 2);
    let mut delivered = 0;
    for seed in first..first + runs {
        delivered += tokio::spawn(one(seed)).await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
    assert!(delivered > 0);
}
