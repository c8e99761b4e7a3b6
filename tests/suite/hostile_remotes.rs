//! Remotes that misbehave once they have met their policy: each ends in the right code within its limit,
//! in bounded memory, and the client's session goes on.
//!
//! Attacks of a remote before TLS are in `starttls.rs`, attacks within TLS in `flood.rs`.

use std::time::{Duration, Instant};

use crate::lab::client::Client;
use crate::lab::mx::{Act, Mx, say};
use crate::lab::{Lab, MESSAGE, Scenario, wait_for};
use crate::log::CapturedLog;
use crate::process::is_alone;
use tokio::time::Instant as Clock;

/// A step of a session with a remote, where it can misbehave.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Turn {
    Greeting,
    Ehlo,
    StartTls,
    EhloUnderTls,
    Mail,
    Rcpt,
    Data,
    End,
}

impl Turn {
    const ALL: [Self; 8] =
        [Self::Greeting, Self::Ehlo, Self::StartTls, Self::EhloUnderTls, Self::Mail, Self::Rcpt, Self::Data, Self::End];
    /// The steps at which the remote's answer is passed on to the client.
    const RELAYED: [Self; 4] = [Self::Mail, Self::Rcpt, Self::Data, Self::End];

    fn set(self, mx: &mut Mx, act: Act) {
        match self {
            Self::Greeting => mx.greeting = act,
            Self::Ehlo => mx.ehlo = act,
            Self::StartTls => mx.starttls = act,
            Self::EhloUnderTls => mx.ehlo_under_tls = act,
            Self::Mail => mx.mail = act,
            Self::Rcpt => mx.rcpt = vec![act],
            Self::Data => mx.data = act,
            Self::End => mx.end = act,
        }
    }

    /// The regular reply at this step.
    fn good(self) -> &'static str {
        match self {
            Self::Greeting | Self::StartTls => "220",
            Self::Data => "354",
            Self::Ehlo | Self::EhloUnderTls | Self::Mail | Self::Rcpt | Self::End => "250",
        }
    }
}

/// The happy path and a second domain, whose remote is a good one.
fn scenario() -> Scenario {
    Scenario::new().and_domain("second.test", |_| {})
}

const IMPATIENT: &str = "timeouts = { greeting = '500ms', handshake = '2s', command = '500ms', data = '500ms', \
                         block = '500ms', final = '500ms' }\nremote.failed_hosts_for = '0s'";

/// One message to the bad remote; returns the reply to the client, and proves that it can go on: the next mail on the
/// same connection is delivered.
async fn one_then_another(lab: &Lab, message: &[u8]) -> String {
    let mut client = lab.client().await;
    let started = Instant::now();
    let answers = client.send(&["b@example.test"], message).await;
    assert!(started.elapsed() < Duration::from_secs(10), "{answers:?} took {:?}", started.elapsed());
    assert_usable(lab, &mut client).await;
    answers.last().to_owned()
}

async fn assert_usable(lab: &Lab, client: &mut Client) {
    assert!(client.command("RSET").await.starts_with("250 "));
    let good = lab.seen.last().unwrap().messages().len();
    let answers = client.send(&["b@second.test"], MESSAGE).await;
    assert!(answers.last().starts_with("250 2.0.0 "), "{answers:?}");
    assert_eq!(lab.seen.last().unwrap().messages().len(), good + 1);
}

/// A-60, K3: replies that do not end: in lines, in octets, or in time.
#[tokio::test]
async fn endless_replies() {
    for turn in Turn::ALL {
        let code = turn.good();
        let acts = [
            Act::SayForEver(format!("{code}-and so on\r\n")),
            Act::SayForEver("x".repeat(1000)),
            Act::SayForEver(format!("{code}-{}\r\n", "y".repeat(3000))),
            // Octets arrive all the time, and the limit is for the whole reply.
            Act::Drip(format!("{code} {}\r\n", "z".repeat(500)), Duration::from_millis(50)),
        ];
        for act in acts {
            let lab = scenario().mx(|mx| turn.set(mx, act.clone())).set(IMPATIENT).start().await;
            let answer = one_then_another(&lab, MESSAGE).await;
            assert_eq!(answer[..3], *"451", "{turn:?} {act:?}: {answer}");
            assert!(answer.len() < 1024, "{turn:?} {act:?}: {answer}");
        }
    }
}

/// A-61, K1, K2, L1, L8: with any code at any step, the client hears a yes only where the remote said one, and never a
/// code that would act on its own session.
#[tokio::test]
async fn every_code_at_every_step() {
    let broken = [
        "99 x",
        "100 x",
        "199 x",
        "600 x",
        "25 0",
        "2500 x",
        "250x",
        "",
        " 250 x",
        "\0",
        "250-a\r\n550 b",
        "250 x\n250",
    ];
    let codes = ["200", "211", "220", "221", "235", "250", "251", "252", "299", "334", "354", "399"];
    let refusals = ["421", "432", "450", "451", "454", "499", "521", "530", "535", "550", "551", "554", "599"];
    for turn in Turn::RELAYED {
        for said in broken.iter().chain(&codes).chain(&refusals) {
            let lab = scenario().mx(|mx| turn.set(mx, say(said))).set(IMPATIENT).start().await;
            let mut client = lab.client().await;
            let answers = client.send(&["b@example.test"], MESSAGE).await;
            let answer = match turn {
                Turn::Mail | Turn::Rcpt => answers.rcpt.last(),
                Turn::Data => answers.data.as_ref(),
                _ => answers.end.as_ref(),
            };
            let answer = answer.unwrap_or_else(|| panic!("{turn:?} {said:?}: {answers:?}"));
            // A bare code without text is a reply too.
            let expected = match (said.as_bytes().first(), said.len(), turn) {
                // RFC 5321 §4.2: by the first digit, where it is an answer to this command at all.
                (Some(b'2'), 3, Turn::Mail | Turn::Rcpt | Turn::End) if !["220", "221", "235"].contains(said) => "2",
                (Some(b'3'), 3, Turn::Data) if *said == "354" => "354",
                (Some(b'4'), 3, _) => "4",
                (Some(b'5'), 3, _) => "5",
                _ => "451",
            };
            assert!(answer.starts_with(expected), "{turn:?} {said:?}: {expected} expected, {answers:?}");
            for forbidden in ["421", "521", "220", "221", "334", "235", "530", "535"] {
                assert!(!answer.starts_with(forbidden), "{turn:?} {said:?}: {answer}");
            }
            let delivered = answers.end.as_ref().is_some_and(|answer| answer.starts_with('2'));
            assert!(!delivered || lab.mx().messages().len() == 1, "{turn:?} {said:?}: {answers:?}");
            assert_usable(&lab, &mut client).await;
        }
    }
}

/// the remote sends a reply that no command asked for; no later command is answered by it.
#[tokio::test]
async fn unsolicited_replies() {
    let later = Duration::from_millis(100);
    for (turn, said) in [
        (Turn::EhloUnderTls, "250 2.1.0 ok"),
        (Turn::Mail, "250 2.1.5 ok"),
        (Turn::Rcpt, "250 2.1.5 ok"),
        (Turn::Rcpt, "354 go"),
        (Turn::Rcpt, "550 5.1.1 no"),
        (Turn::Rcpt, "421 4.3.2 bye"),
    ] {
        let first = if turn == Turn::EhloUnderTls { "250-mx\r\n250 PIPELINING" } else { "250 2.1.0 ok" };
        let act = Act::SayAndAdd(format!("{first}\r\n"), later, Box::new(say(said)));
        let lab = scenario().mx(|mx| turn.set(mx, act)).set(IMPATIENT).start().await;
        let mut client = lab.client().await;
        client.command("MAIL FROM:<a@client.test>").await;
        client.command("RCPT TO:<b@example.test>").await;
        tokio::time::sleep(2 * later).await;
        let answer = client.command("DATA").await;
        let end = if answer.starts_with("354") {
            client.write(b"one\r\n.\r\n").await;
            client.reply().await
        } else {
            answer
        };
        // A reply before the first recipient was answered may cost the remote its place; it never helps it.
        let fine = ["451 4.5.0", "451 4.3.2", "451 4.4.2", "503 5.5.1", "554 5.5.1"];
        assert!(fine.iter().any(|code| end.starts_with(code)), "{turn:?} {said}: {end}");
        assert!(lab.mx().messages().is_empty(), "{turn:?} {said}");
        assert_usable(&lab, &mut client).await;
    }
    // The reply comes behind the 354, while the message is sent.
    for (said, expected) in
        [("250 2.0.0 queued", "451 4.5.0"), ("354 go on", "451 4.5.0"), ("554 5.7.1 no", "554 5.7.1")]
    {
        let act = Act::SayAndAdd("354 go\r\n".into(), later, Box::new(say(said)));
        let lab = scenario().mx(|mx| mx.data = act).set(IMPATIENT).start().await;
        let mut client = lab.client().await;
        for command in ["MAIL FROM:<a@client.test>", "RCPT TO:<b@example.test>", "DATA"] {
            client.command(command).await;
        }
        client.write(b"one\r\n").await;
        tokio::time::sleep(2 * later).await;
        client.write(b"two\r\n.\r\n").await;
        assert_eq!(client.codes(1).await, [expected], "{said}");
        assert!(lab.mx().messages().is_empty(), "{said}");
        assert_usable(&lab, &mut client).await;
    }
}

/// A-67, L10, A-93: a remote that does not read the message. The client is held back meanwhile, and then gets its
/// reply.
#[tokio::test]
async fn windows_that_stay_shut() {
    let big = b"0123456789012345678901234567890123456789012345678901234567890123456789\r\n".repeat(300_000);
    let amid = scenario().mx(|mx| mx.amid_message = Some(Act::Hang)).set(IMPATIENT).start().await;
    assert!(one_then_another(&amid, &big).await.starts_with("451 4.4.2 "));
    // The remote asks for the message and is then silent: even a short message gets no answer.
    let never = Act::SayAndAdd("354 go\r\n".into(), Duration::from_secs(3600), Box::new(Act::Close));
    let lab = scenario().mx(|mx| mx.data = never.clone()).set(IMPATIENT).start().await;
    assert!(one_then_another(&lab, &big).await.starts_with("451 4.4.2 "));
    assert!(one_then_another(&lab, MESSAGE).await.starts_with("451 4.4.2 "));
    assert!(lab.mx().messages().is_empty() && amid.mx().messages().is_empty());
}

/// K8, A-68: the remote announces PIPELINING, and then loses some commands, or answers in its own order.
#[tokio::test]
async fn lies_about_pipelining() {
    const GROUP: &str = "MAIL FROM:<a@client.test>\r\nRCPT TO:<b@example.test>\r\nRCPT TO:<c@example.test>\r\nDATA\r\n";
    let nothing = || Act::Say(String::new());
    let slow = |line: &str| Act::Drip(format!("{line}\r\n"), Duration::from_millis(10));
    type Change<'a> = Box<dyn Fn(&mut Mx) + 'a>;
    let cases: [(Change<'_>, [&str; 4]); 6] = [
        // Fewer answers than commands: the result of an unanswered command is unknown.
        (Box::new(|mx| mx.mail = nothing()), ["250 2.1.0", "250 2.1.5", "451 4.5.0", "451 4.5.0"]),
        (Box::new(|mx| mx.rcpt = vec![nothing()]), ["250 2.1.0", "451 4.5.0", "451 4.5.0", "554 5.5.1"]),
        (Box::new(|mx| mx.data = nothing()), ["250 2.1.0", "250 2.1.5", "250 2.1.5", "451 4.4.2"]),
        (
            Box::new(|mx| (mx.mail, mx.rcpt, mx.data) = (nothing(), vec![nothing()], nothing())),
            ["250 2.1.0", "451 4.4.2", "451 4.4.2", "554 5.5.1"],
        ),
        // All of them at the end, in its own order: danelaw counts them, and does not read them.
        (
            Box::new(|mx| {
                (mx.mail, mx.rcpt) = (nothing(), vec![nothing()]);
                mx.data = say("550 5.1.1 the second\r\n250 2.1.5 the first\r\n250 2.1.0 the sender\r\n354 go");
            }),
            ["250 2.1.0", "550 5.1.1", "550 5.1.1", "554 5.5.1"],
        ),
        // One by one and slowly: such answers are correct.
        (
            Box::new(|mx| {
                (mx.mail, mx.rcpt) = (slow("250 2.1.0 ok"), vec![slow("250 2.1.5 ok")]);
                mx.data = slow("354 go");
            }),
            ["250 2.1.0", "250 2.1.5", "250 2.1.5", "354"],
        ),
    ];
    for (number, (change, expected)) in cases.iter().enumerate() {
        let lab = scenario().mx(change).set(IMPATIENT).start().await;
        let mut client = lab.client().await;
        client.write(GROUP.as_bytes()).await;
        let codes = client.codes(4).await;
        assert_eq!(codes, *expected, "{number}");
        if codes[3] == "354" {
            client.write(b"one\r\n.\r\n").await;
            client.reply().await;
        }
        assert_usable(&lab, &mut client).await;
    }
}

/// A-68, M9, M10, I21: a remote's SIZE, PIPELINING and other announcements are not trusted beyond their meaning.
#[tokio::test]
async fn lies_about_size() {
    let many = (0..400).map(|number| format!("250-X-KEYWORD-{number} {}\r\n", "x".repeat(90))).collect::<String>();
    for (ehlo, expected) in [
        ("250-mx\r\n250 SIZE 0".to_owned(), "250 2.0.0"),
        ("250-mx\r\n250 SIZE".to_owned(), "250 2.0.0"),
        ("250-mx\r\n250 SIZE -1".to_owned(), "250 2.0.0"),
        ("250-mx\r\n250 SIZE 99999999999999999999".to_owned(), "250 2.0.0"),
        (format!("250-mx\r\n250 SIZE {}", "9".repeat(400)), "250 2.0.0"),
        ("250-mx\r\n250 SIZE many".to_owned(), "250 2.0.0"),
        ("250-mx\r\n250-SIZE 10000\r\n250-SIZE 20000\r\n250-PIPELINING\r\n250 PIPELINING".to_owned(), "250 2.0.0"),
        (format!("{many}250 SIZE"), "250 2.0.0"),
        // More than any honest server announces.
        (format!("{many}{many}250 SIZE"), "451 4.5.0"),
        ("250-mx\r\n250 SIZE 10".to_owned(), "552 5.3.4"),
    ] {
        let lab = scenario().mx(|mx| mx.ehlo_under_tls = say(&ehlo)).set(IMPATIENT).start().await;
        let mut client = lab.client().await;
        client.command("MAIL FROM:<a@client.test> SIZE=50").await;
        let mut answer = client.command("RCPT TO:<b@example.test>").await;
        if answer.starts_with('2') {
            client.command("DATA").await;
            client.write(b"one\r\n.\r\n").await;
            answer = client.reply().await;
        }
        assert!(answer.starts_with(expected), "{:?}: {answer}", &ehlo[..ehlo.len().min(80)]);
        assert_usable(&lab, &mut client).await;
    }
    // It takes less than it announces, and says so at the end: that is its answer.
    let lab = scenario().mx(|mx| mx.end = say("552 5.3.4 too much after all")).set(IMPATIENT).start().await;
    assert!(one_then_another(&lab, MESSAGE).await.starts_with("552 5.3.4 "));
}

/// A-66, K12: it closes its half of the connection and keeps the other.
#[tokio::test]
async fn half_closes() {
    for turn in Turn::ALL {
        let lab = scenario().mx(|mx| turn.set(mx, Act::HalfClose)).set(IMPATIENT).start().await;
        let answer = one_then_another(&lab, MESSAGE).await;
        assert_eq!(answer[..3], *"451", "{turn:?}: {answer}");
        assert!(!answer.contains("within"), "{turn:?} was waited for: {answer}");
    }
    let big = b"0123456789012345678901234567890123456789012345678901234567890123456789\r\n".repeat(100_000);
    let lab = scenario().mx(|mx| mx.amid_message = Some(Act::HalfClose)).set(IMPATIENT).start().await;
    assert!(one_then_another(&lab, &big).await.starts_with("451 4.4.2 "));
}

/// A-70, K14, L5: the client's answers do not wait for a remote's answer to QUIT, nor for other octets behind its
/// answer.
#[tokio::test]
async fn a_goodbye_that_never_comes() {
    let lab = scenario().mx(|mx| mx.quit = Act::Hang).start().await;
    let mut client = lab.client().await;
    let started = Instant::now();
    assert!(client.send(&["b@example.test"], MESSAGE).await.last().starts_with("250 2.0.0 "));
    assert_usable(&lab, &mut client).await;
    assert!(client.command("QUIT").await.starts_with("221 "));
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    assert_eq!(lab.mx().tls().last().unwrap(), "QUIT");
}

/// a remote that refuses a transaction, and then takes its time with each answer that is still due, keeps its
/// connection no longer than a silent one.
#[tokio::test]
async fn a_goodbye_that_takes_its_time() {
    let drip = Act::Drip("250 2.1.5 ok\r\n".to_owned(), Duration::from_millis(100));
    let lab = scenario().mx(|mx| (mx.mail, mx.rcpt) = (say("450 4.7.1 no"), vec![drip])).remember().start().await;
    lab.stop_the_clock(&["example.test", "second.test"]).await;
    let mut client = lab.client().await;
    client.patience = Duration::from_secs(3600);
    let to: String = (0..100).map(|number| format!("RCPT TO:<b{number}@example.test>\r\n")).collect();
    client.write(format!("MAIL FROM:<a@client.test>\r\n{to}").as_bytes()).await;
    assert!(client.codes(101).await[1..].iter().all(|code| code == "450 4.7.1"));
    let started = Clock::now();
    while lab.mx().open() > 0 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
}

/// K6, L7, A-66: the limits of RFC 5321 §4.5.3.2 by default, and that of the whole delivery path, which is shorter than
/// the client's own timeout.
#[tokio::test]
async fn each_step_has_its_limit() {
    let defaults: toml::Table = danelaw::config::DEFAULTS.parse().unwrap();
    let set = toml::Table::from_iter([("timeouts".to_owned(), defaults["timeouts"].clone())]).to_string();
    // Just below the time that Postfix and Exim wait for danelaw's answers, so that they hear them: 2 and 10 minutes
    // (L7).
    let (way, data, last) = (Duration::from_secs(240), Duration::from_secs(110), Duration::from_secs(570));
    for (turn, limit) in [(Turn::Mail, way), (Turn::Rcpt, way), (Turn::Data, data), (Turn::End, last)] {
        let lab = scenario().mx(|mx| turn.set(mx, Act::Hang)).set(&set).remember().start().await;
        lab.stop_the_clock(&["example.test", "second.test"]).await;
        let mut client = lab.client().await;
        client.patience = Duration::from_secs(3600);
        let started = Clock::now();
        let answer = client.send(&["b@example.test"], MESSAGE).await.last().to_owned();
        let took = started.elapsed();
        assert!(answer.starts_with("451 4.4.2 "), "{turn:?}: {answer}");
        assert!(took <= limit + Duration::from_secs(5), "{turn:?} took {took:?}");
        // The commands before the message share their time with other hosts that may be asked in their place.
        let least = if matches!(turn, Turn::Mail | Turn::Rcpt) { Duration::from_secs(30) } else { limit };
        assert!(took >= least, "{turn:?} took {took:?}");
        tokio::time::resume();
    }
}

/// The memory of this process.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    // proc(5): the second number, in pages.
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Item 10, L10: the memory of a session while its remote misbehaves. The remote's own end, its TLS included, is in the
/// number.
#[tokio::test]
async fn memory_of_sessions_with_hostile_remotes() {
    if !is_alone(module_path!(), "memory_of_sessions_with_hostile_remotes") {
        return;
    }
    const SESSIONS: usize = 100;
    let block = b"0123456789012345678901234567890123456789012345678901234567890123456789\r\n".repeat(1000);
    let limits = "timeouts = { client = '5m', block = '1m', command = '1m', data = '1m', final = '1m' }\n\
                  remote = { connections = 1000, connections_per_domain = 1000, connections_per_host = 1000 }";
    type Change = fn(&mut Mx);
    let worst: [(&str, usize, Change); 2] = [
        ("a window that stays shut", 100, |mx| mx.amid_message = Some(Act::Hang)),
        ("a reply that does not end", 0, |mx| {
            let novel = format!("250-{}\r\n", "y".repeat(4000)).repeat(15);
            mx.end = Act::SayAndAdd(novel, Duration::from_secs(60), Box::new(Act::Close));
        }),
    ];
    for (what, blocks, change) in worst {
        let lab = scenario().mx(change).set(limits).remember().start().await;
        // Memory that exists once is not counted for a session.
        lab.client().await.send(&["b@second.test"], MESSAGE).await;
        let before = resident();
        let mut clients = Vec::new();
        for _ in 0..SESSIONS {
            let mut client = lab.client().await;
            for command in ["MAIL FROM:<a@client.test>", "RCPT TO:<b@example.test>", "DATA"] {
                let answer = client.command(command).await;
                assert!(answer.starts_with(['2', '3']), "{answer}");
            }
            clients.push(client);
        }
        let mut sent = Vec::new();
        for mut client in clients {
            let block = block.clone();
            sent.push(tokio::spawn(async move {
                // Far more than any buffer; a client that is held back is cut off in the end.
                let all = async {
                    for _ in 0..blocks {
                        client.write(&block).await;
                    }
                    client.write(b".\r\n").await;
                };
                let _ = tokio::time::timeout(Duration::from_secs(3), all).await;
                client
            }));
        }
        let clients = futures_util::future::join_all(sent).await;
        let each = resident().saturating_sub(before) / SESSIONS;
        println!("{what}: {} KiB a session", each / 1024);
        assert!(each < 256 * 1024, "{what}: {each} octets a session");
        drop(clients);
    }
}

/// no word of a message is in any log, at every log level and with every end of the attempt.
#[tokio::test]
async fn messages_are_in_no_log() {
    let log = CapturedLog::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let _logging = tracing::subscriber::set_default(subscriber);
    let canary = b"Subject: canary\r\n\r\ncanary\r\nMAIL FROM:<canary@client.test>\r\n";
    for end in [say("250 2.0.0 ok"), say("554 5.7.1 no"), say("what?"), Act::Close] {
        let lab = scenario().mx(|mx| mx.end = end).set(IMPATIENT).start().await;
        one_then_another(&lab, canary).await;
        let mut client = lab.client().await;
        for command in ["MAIL FROM:<a@client.test>", "RCPT TO:<b@example.test>", "DATA"] {
            client.command(command).await;
        }
        client.write(b"canary\r\n.").await;
        client.vanish();
        wait_for(|| lab.mx().cut() == 1).await;
    }
    let log = log.text();
    assert!(log.contains("delivery"), "{log}");
    assert!(!log.contains("canary"));
}
