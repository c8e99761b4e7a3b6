//! A listener for mail with the header field `TLS-Required: No` (RFC 8689 §4.1): such mail gets through where TLS is broken, and no
//! other mail is lowered (Q6, Q8, A-115).

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::lab::certs::{Authority, Identity};
use crate::lab::client::{Answers, Client};
use crate::lab::dns::{Fault, Tree};
use crate::lab::exchange::Exchange;
use crate::lab::mx::{Act, Mx, say};
use crate::lab::sts::{Policies, policy};
use crate::lab::{Lab, Scenario, wait_for};
use crate::log::captured;
use danelaw::admin::client::ask;
use danelaw::roots::Roots;
use tokio::sync::mpsc;

const LISTENER: &str = "listener = [{ address = '127.0.0.1:0', tls_required_no = 'only' }]";
const MESSAGE: &[u8] = b"From: <a@client.test>\r\nTLS-Required: No\r\nSubject: lab\r\n\r\n.dots\r\nbody\r\n";
const WITHOUT: &[u8] = b"From: <a@client.test>\r\nSubject: lab\r\n\r\nTLS-Required: No\r\n";

/// The happy path by such a listener.
fn only() -> Scenario {
    Scenario::new().set(LISTENER)
}

/// The same, but that the record is of another key.
fn mismatch() -> Scenario {
    let wrong = Identity::for_name("other").record("3 1 1");
    Scenario::of([Exchange::new("example.test", "mx1.example.test").tlsa([wrong])]).set(LISTENER)
}

async fn send<R: danelaw::dns::Resolver>(lab: &Lab<R>, message: &[u8]) -> Answers {
    lab.client().await.send(&["b@example.test"], message).await
}

async fn metrics(lab: &Lab) -> String {
    ask(&lab.admin().await, "/metrics").await.unwrap().1
}

/// Asserts the count of mails with the field, by result, and that no other result is there.
#[track_caller]
fn assert_counted(metrics: &str, results: &[(&str, u64)]) {
    let name = "danelaw_tls_required_no_total{";
    let mut found: Vec<_> = metrics.lines().filter(|line| line.starts_with(name)).collect();
    found.sort_unstable();
    let mut wanted: Vec<_> =
        results.iter().map(|(result, times)| format!("{name}result=\"{result}\"}} {times}")).collect();
    wanted.sort_unstable();
    assert_eq!(found, wanted);
}

/// How many of these commands came under TLS and in the clear.
fn heard(lab: &Lab, verb: &str) -> usize {
    let seen = lab.mx();
    seen.tls().iter().chain(&seen.clear()).filter(|line| line.starts_with(verb)).count()
}

/// One mail goes to the first exchange without the proof, protected like this; its level would have refused it for this.
async fn lowered(scenario: Scenario, would: &str, protection: &str) -> Lab {
    let (log, _logging) = captured();
    let lab = scenario.start().await;
    let answers = send(&lab, MESSAGE).await;
    assert!(answers.last().starts_with("250 2.0.0 "), "{would}: {answers:?}");
    assert!(lab.mx().messages()[0].ends_with(MESSAGE));
    wait_for(|| log.text().contains("verdict=delivered")).await;
    let text = log.text();
    let line = text.lines().find(|line| line.contains("verdict=delivered")).unwrap();
    for part in [
        " policy=\"may\" permit=\"tls-required-no\" ",
        &format!(" protection=\"{protection}\" "),
        &format!(" would=\"{would}\" would_text=\"451 4."),
    ] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    assert!(!line.contains("verified_by") && !line.contains(" tlsa=") && !line.contains(" mode="), "{line}");
    if protection == "encrypted" {
        assert!(line.contains(" no_dane=\"mail with TLS-Required: No is not held to the level "), "{line}");
    }
    let metrics = metrics(&lab).await;
    assert_counted(&metrics, &[("lowered", 1)]);
    assert!(!metrics.contains("danelaw_observed_total{"), "{would}: {metrics}");
    lab
}

#[tokio::test]
async fn q6_where_a_proof_is_missing_it_goes_without() {
    // Q6, Q8, A-115.
    let starttls_refused = only().mx(|mx| mx.starttls = say("454 4.7.0 not now"));
    let no_record = |tree: Tree, port: u16| tree.fault(&format!("_{port}._tcp.mx1.example.test"), "TLSA", Fault::Drop);
    let lab = lowered(mismatch(), "tlsa-mismatch", "encrypted").await;
    assert_eq!(lab.mx().connections(), 2, "one that was verified in vain, and one for the mail");
    let stored = String::from_utf8(lab.mx().messages().remove(0)).unwrap();
    let id = stored.split_once(" id ").unwrap().1.split(';').next().unwrap().to_owned();
    let (_, told) = ask(&lab.admin().await, &format!("/explain/{id}")).await.unwrap();
    for part in [
        "enforcing   would have answered 451 4.7.5 mx1.example.test[127.0.0.1]: the server could not be verified",
        "permit      TLS-Required: No, by its listener",
        "encrypted, not verified: mail with TLS-Required: No is not held to the level dane",
    ] {
        assert!(told.contains(part), "{part:?} is not in\n{told}");
    }
    lowered(only().mx(|mx| mx.ehlo = say("250 mx")), "starttls-missing", "cleartext").await;
    lowered(starttls_refused, "starttls-refused", "cleartext").await;
    lowered(only().mx(|mx| mx.instead_of_tls = Some(Act::Hang)), "handshake-timeout", "cleartext").await;
    lowered(only().tree(no_record), "tlsa-lookup-failed", "encrypted").await;
    let bogus =
        |tree: Tree, port: u16| tree.fault(&format!("_{port}._tcp.mx1.example.test"), "TLSA", Fault::BogusSignature);
    lowered(only().tree(bogus), "tlsa-lookup-failed", "encrypted").await;
    // A level without authentication, and one that asks for a public CA.
    let in_clear = || only().mx(|mx| mx.ehlo = say("250 mx"));
    lowered(in_clear().set("tls.level = 'encrypt'"), "starttls-missing", "cleartext").await;
    let no_records = Scenario::of([Exchange::new("example.test", "mx1.example.test").tlsa([])]).set(LISTENER);
    lowered(no_records.set("tls.level = 'verify'"), "untrusted-authority", "encrypted").await;
    // In mode observe too: the mail's own permit is told.
    let lab = mismatch().set("mode = 'observe'").start().await;
    assert!(send(&lab, MESSAGE).await.last().starts_with("250 2.0.0 "));
    assert_counted(&metrics(&lab).await, &[("lowered", 1)]);
}

#[tokio::test]
async fn q6_an_mta_sts_policy_is_lowered_too() {
    let ca: Authority = Identity::authority();
    for (patterns, would) in [("mx9.plain.test", "mx-not-in-policy"), ("mx1.plain.test", "untrusted-authority")] {
        let policies = Arc::new(Policies::default().with("plain.test", policy("enforce", &[patterns])));
        let exchange = Exchange::new("plain.test", "mx1.plain.test").tlsa([]);
        let scenario = Scenario::with_domain(|tree: Tree, _| tree.insecure("plain.test")).exchange(exchange);
        let roots = Roots::of(vec![ca.certificate.clone()]);
        let lab = scenario.roots(roots).policies(&policies).set(LISTENER).start().await;
        let (log, _logging) = captured();
        let answers = lab.client().await.send(&["b@plain.test"], MESSAGE).await;
        assert!(answers.last().starts_with("250 2.0.0 "), "{answers:?}");
        let would = format!(" would=\"{would}\" ");
        wait_for(|| log.text().contains(&would)).await;
        assert!(log.text().contains(" permit=\"tls-required-no\" "));
    }
}

#[tokio::test]
async fn q6_mail_that_meets_its_level_goes_verified_as_ever() {
    let second =
        |scenario: Scenario| scenario.exchange(Exchange::new("example.test", "mx2.example.test").preference(20));
    for (scenario, index) in [(only(), 0), (second(mismatch()), 1)] {
        let lab = scenario.start().await;
        assert!(send(&lab, MESSAGE).await.last().starts_with("250 2.0.0 "));
        assert_eq!(lab.seen[index].messages().len(), 1);
        let metrics = metrics(&lab).await;
        assert!(metrics.contains("policy=\"dane\",protection=\"verified\"} 1\n"), "{metrics}");
        assert_counted(&metrics, &[("met", 1)]);
    }
}

#[tokio::test]
async fn q6_only_a_missing_proof_is_waived() {
    // the DNS, the network and the remote's own answers hold as ever.
    let fault = |owner: &'static str, rtype: &'static str| {
        only().tree(move |tree, _| tree.fault(owner, rtype, Fault::BogusSignature))
    };
    let null = Scenario::with_domain(|tree, _| tree.mx("example.test", 0, ".")).set(LISTENER);
    for (scenario, answer) in [
        (fault("example.test", "MX"), "451 4.4.3 "),
        (fault("mx1.example.test", "A"), "451 4.4.3 "),
        (null, "556 5.1.10 "),
        (only().mx(|mx| mx.greeting = Act::Close), "451 4.4.2 "),
        (only().mx(|mx| mx.mail = say("550 5.7.1 no")), "550 5.7.1 "),
        (only().mx(|mx| mx.rcpt = vec![say("550 5.1.1 no such user")]), "550 5.1.1 "),
        (mismatch().mx(|mx| mx.rcpt = vec![say("550 5.1.1 no such user")]), "550 5.1.1 "),
    ] {
        let lab = scenario.start().await;
        let answers = send(&lab, MESSAGE).await;
        assert!(answers.last().starts_with(answer), "{answers:?}");
        assert!(lab.seen.iter().all(|seen| seen.messages().is_empty()));
        assert_counted(&metrics(&lab).await, &[]);
    }
}

/// A host of this preference that fails in TLS and takes all content.
fn fails(preference: u16) -> Exchange {
    let wrong = Identity::for_name("other").record("3 1 1");
    let exchange = Exchange::new("example.test", "fails.example.test").preference(preference).tlsa([wrong]);
    exchange.script(|mx| mx.ehlo_under_tls = say("250-mx\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SMTPUTF8"))
}

/// A host of this preference that is verified and offers this.
fn verified(preference: u16, offers: &str) -> Exchange {
    let exchange = Exchange::new("example.test", "lacks.example.test").preference(preference);
    exchange.script(|mx| mx.ehlo_under_tls = say(offers))
}

/// The replies to RCPT and to the message, or to RCPT alone.
async fn told(lab: &Lab, mail: &str, message: &str) -> Vec<String> {
    let mut client = lab.client().await;
    assert!(client.command(mail).await.starts_with("250 2.1.0"));
    let mut told = vec![client.command("RCPT TO:<b@example.test>").await];
    if told[0].starts_with("250 ") {
        assert!(client.command("DATA").await.starts_with("354 "));
        client.write(format!("{message}.\r\n").as_bytes()).await;
        told.push(client.reply().await);
    }
    told
}

const ASCII: &str = "TLS-Required: No\r\nSubject: green\r\n\r\ngreen\r\n";
const BODY: &str = "TLS-Required: No\r\nSubject: green\r\n\r\ngr\u{fc}n\r\n";
const HEADER: &str = "TLS-Required: No\r\nSubject: gr\u{fc}n\r\n\r\ngreen\r\n";

#[tokio::test]
async fn q6_a_missing_extension_lowers_nothing_but_the_next_try() {
    // Q6, Q8, Q26: a verified host that lacks it comes before the lower level. Mail that it cannot take is known again.
    const LACKS: &str = "250-mx\r\n250 PIPELINING";
    const MAIL: &str = "MAIL FROM:<a@client.test>";
    for preferences in [[10, 20], [20, 10]] {
        for (parameters, message, end) in [
            ("", ASCII, "250 2.0.0 lacks."),
            (" BODY=8BITMIME", ASCII, "250 2.0.0 lacks."),
            (" BODY=8BITMIME SMTPUTF8", ASCII, "250 2.0.0 lacks."),
            ("", BODY, "451-4."),
            (" BODY=8BITMIME", BODY, "451-4.7.5 "),
            (" BODY=8BITMIME SMTPUTF8", BODY, "451-4.7.5 "),
            (" BODY=8BITMIME SMTPUTF8", HEADER, "451-4.7.5 "),
        ] {
            let both = [verified(preferences[0], LACKS), fails(preferences[1])];
            let lab = Scenario::of(both).set(LISTENER).start().await;
            let first = told(&lab, &format!("{MAIL}{parameters}"), message).await;
            assert!(first[0].starts_with("250 2.1.5 lacks.example.test["), "{parameters}: {first:?}");
            assert!(first[1].starts_with(end), "{parameters} {message}: {first:?}");
            // That some mail needs it lowers no other.
            let other = told(&lab, &format!("MAIL FROM:<other@client.test>{parameters}"), ASCII).await;
            assert!(other[1].starts_with("250 2.0.0 lacks."), "{parameters}: {other:?}");
            assert!(!lab.seen[1].saw_mail(), "{parameters} {message}");
            let next = told(&lab, &format!("{MAIL}{parameters}"), message).await;
            if end.starts_with('2') {
                assert!(next[1].starts_with(end), "{parameters} {message}: {next:?}");
                assert_counted(&metrics(&lab).await, &[("met", 3)]);
            } else {
                assert!(next[0].starts_with("250 2.1.5 fails.example.test["), "{parameters}: {next:?}");
                assert!(next[1].starts_with("250 2.0.0 "), "{parameters} {message}: {next:?}");
                assert_counted(&metrics(&lab).await, &[("lowered", 1), ("met", 1)]);
            }
        }
    }
}

#[tokio::test]
async fn q6_the_next_try_is_lowered_for_want_of_a_proof_alone() {
    // Q6, A-115: the other host cannot be reached, or refuses the mail; in both cases the mail waits. Ordinary mail is
    // never lowered.
    let lacks = || verified(10, "250 mx");
    let other = || Exchange::new("example.test", "other.example.test").preference(20);
    let takes_all = |mx: &mut Mx| mx.ehlo_under_tls = say("250-mx\r\n250 8BITMIME");
    let closed = || other().script(|mx| mx.greeting = Act::Close);
    let busy = || other().script(takes_all).script(|mx| mx.mail = say("451 4.3.1 not now"));
    for (exchange, listener) in [(closed(), LISTENER), (busy(), LISTENER), (fails(20), "")] {
        let lab = Scenario::of([lacks(), exchange]).set(listener).start().await;
        for _ in 0..3 {
            let told = told(&lab, "MAIL FROM:<a@client.test> BODY=8BITMIME", BODY).await;
            assert!(told[0].starts_with("250 2.1.5 lacks.example.test["), "{told:?}");
            assert!(told[1].starts_with('4'), "{told:?}");
            assert!(lab.seen.iter().all(|seen| seen.messages().is_empty()), "{told:?}");
        }
    }
}

/// A host of the law below.
#[derive(Debug, Clone, Copy)]
struct Drawn {
    /// Whether it meets its policy.
    is_verified: bool,
    /// Whether it takes mail now.
    takes: bool,
    /// Whether it offers 8BITMIME.
    has: bool,
}

impl Drawn {
    fn exchange(self, preference: u16) -> Exchange {
        let exchange = Exchange::new("example.test", &format!("mx{preference}.example.test")).preference(preference);
        let exchange = exchange.script(|mx| {
            mx.ehlo_under_tls = say(if self.has { "250-mx\r\n250 8BITMIME" } else { "250 mx" });
            if !self.takes {
                mx.mail = say("451 4.3.1 not now");
            }
        });
        if self.is_verified { exchange } else { exchange.tlsa([Identity::for_name("other").record("3 1 1")]) }
    }
}

#[tokio::test]
async fn q6_no_host_without_a_proof_has_mail_that_a_verified_one_takes() {
    // Q6, Q26: every two hosts, as a law. Mail that a verified one takes but for its content waits for its next try and no longer.
    let drawn = |bits: u8| Drawn { is_verified: bits & 1 > 0, takes: bits & 2 > 0, has: bits & 4 > 0 };
    for bits in 0_u8..64 {
        let hosts = [drawn(bits), drawn(bits >> 3)];
        let lab = Scenario::of([hosts[0].exchange(10), hosts[1].exchange(20)]).set(LISTENER).start().await;
        let is_taken = |is_verified| hosts.iter().any(|host| host.is_verified == is_verified && host.takes);
        for (sender, message, is_next_try) in
            [("a", ASCII, false), ("a", BODY, false), ("a", BODY, true), ("b", ASCII, false)]
        {
            let mail = format!("MAIL FROM:<{sender}@client.test> BODY=8BITMIME");
            let told = told(&lab, &mail, message).await.pop().unwrap();
            let delivered: Vec<_> = lab.seen.iter().map(|seen| !seen.take_messages().is_empty()).collect();
            let by: Vec<_> = hosts.iter().zip(delivered).filter_map(|(host, has_it)| has_it.then_some(host)).collect();
            let case = format!("{hosts:?} {message:?}: {told}");
            assert_eq!(by.len(), usize::from(told.starts_with("250 ")), "{case}");
            let best = hosts.iter().any(|host| host.is_verified && host.takes && host.has);
            let is_better = if is_next_try { best } else { is_taken(true) };
            assert!(by.iter().all(|host| host.is_verified || !is_better), "{case}");
            if message == ASCII {
                assert_eq!(by.len(), usize::from(is_taken(true) || is_taken(false)), "{case}");
                assert!(!told.starts_with('5'), "{case}");
            } else {
                assert!(by.iter().all(|host| host.has), "{case}");
                assert!(!told.starts_with('5') || hosts.iter().all(|host| !host.has), "{case}");
                assert!(!best || by.len() == 1, "{case}");
                let can_be_had = hosts.iter().any(|host| host.takes && host.has);
                assert!(!is_next_try || by.len() == usize::from(can_be_had), "{case}");
            }
        }
    }
}

#[tokio::test]
async fn q6_where_no_verified_host_takes_it_the_level_is_lowered() {
    // Q6: it cannot be verified at any host, for content or for want of a host.
    const ALL: &str = " BODY=8BITMIME SMTPUTF8";
    let sized = || verified(10, "250-mx\r\n250-PIPELINING\r\n250 SIZE 1000");
    let busy = |preference| verified(preference, "250 mx").script(|mx| mx.mail = say("451 4.3.1 not now"));
    let other = || verified(10, "250 mx").tlsa([Identity::for_name("third").record("3 1 1")]);
    for (exchanges, mail, message) in [
        ([sized(), fails(20)], format!("<a@client.test>{ALL} SIZE=1001"), ASCII),
        ([sized(), fails(20)], format!("<\u{fc}@client.test>{ALL}"), ASCII),
        ([busy(10), fails(20)], format!("<a@client.test>{ALL}"), BODY),
        ([busy(20), fails(10)], format!("<a@client.test>{ALL}"), BODY),
        ([other(), fails(20)], format!("<a@client.test>{ALL}"), HEADER),
    ] {
        let lab = Scenario::of(exchanges).set(LISTENER).start().await;
        let told = told(&lab, &format!("MAIL FROM:{mail}"), message).await;
        assert!(told[0].starts_with("250 2.1.5 fails.example.test["), "{mail}: {told:?}");
        assert!(told[1].starts_with("250 2.0.0 "), "{mail}: {told:?}");
        assert_counted(&metrics(&lab).await, &[("lowered", 1)]);
    }
}

#[tokio::test]
async fn q6_levels_that_are_stronger_by_records_hold() {
    let other = Identity::for_name("other").record("3 1 1");
    let pins = format!("rule = [{{ domain = 'example.test', level = 'fingerprint', records = ['{other}'] }}]");
    let dane_only = "rule = [{ domain = 'example.test', level = 'dane-only' }]".to_owned();
    for rule in [pins, dane_only, "tls.level = 'dane-only'".to_owned()] {
        let lab = mismatch().set(&rule).start().await;
        let answers = send(&lab, MESSAGE).await;
        assert!(answers.last().starts_with("451 4.7.5 "), "{rule}: {answers:?}");
        assert!(lab.mx().messages().is_empty());
    }
}

#[tokio::test]
async fn q6_no_remote_hears_data_before_the_end_of_the_header() {
    let lab = mismatch().start().await;
    let mut client = lab.client().await;
    // DATA is pipelined.
    client.write(b"MAIL FROM:<a@client.test>\r\nRCPT TO:<b@example.test>\r\nDATA\r\n").await;
    assert_eq!(client.codes(3).await, ["250 2.1.0", "250 2.1.5", "354"]);
    client.write(b"From: <a@client.test>\r\nTLS-Required: No\r\nSubject: x\r\n").await;
    assert!(client.is_silent(Duration::from_millis(200)).await);
    assert_eq!((heard(&lab, "RCPT"), heard(&lab, "DATA")), (1, 0));
    client.write(b"\r\n").await;
    wait_for(|| heard(&lab, "DATA") == 1).await;
    client.write(b"body\r\n.\r\n").await;
    assert_eq!(client.codes(1).await, ["250 2.0.0"]);
    assert_eq!(lab.mx().messages().len(), 1);
    // The same with an offer of chunks, and for a message that goes verified.
    let lab = only().mx(takes_chunks).start().await;
    assert!(send(&lab, MESSAGE).await.last().starts_with("250 2.0.0 "));
    assert!(lab.mx().messages()[0].ends_with(MESSAGE));
}

#[tokio::test]
async fn q6_a_message_without_the_one_field_is_refused() {
    // with and without the proof. The session goes on.
    let long = [b"X: ".as_slice(), &b"x".repeat(65 * 1024), b"\r\nTLS-Required: No\r\n\r\nbody\r\n"].concat();
    let second =
        [b"TLS-Required: No\r\nX: ".as_slice(), &b"x".repeat(65 * 1024), b"\r\nTLS-Required: No\r\n\r\n"].concat();
    for message in [
        WITHOUT,
        b"",
        b"TLS-Required: Yes\r\n\r\n",
        b"TLS-Required: No (x)\r\n\r\n",
        b"TLS-Required: No\r\nTLS-Required: No\r\n\r\n",
        b"Content-Type: message/rfc822\r\n\r\nTLS-Required: No\r\n\r\nbody\r\n",
        long.as_slice(),
        // Behind 64 KiB: the message is on its way then, and never ends.
        second.as_slice(),
    ] {
        let (log, _logging) = captured();
        for scenario in [only(), mismatch()] {
            let lab = scenario.set("remote.idle_connections = 100").start().await;
            let mut client = lab.client().await;
            let answers = client.send(&["b@example.test"], message).await;
            assert!(answers.data.as_ref().unwrap().starts_with("354 "), "{answers:?}");
            assert!(answers.last().starts_with("550 5.7.1 "), "{answers:?}");
            assert!(answers.last().contains("not exactly one field \"TLS-Required: No\""), "{answers:?}");
            assert!(lab.mx().messages().is_empty());
            wait_for(|| heard(&lab, "RSET") + heard(&lab, "QUIT") > 0 || lab.mx().cut() == 1).await;
            assert_counted(&metrics(&lab).await, &[("refused", 1)]);
            assert!(client.send(&["b@example.test"], MESSAGE).await.last().starts_with("250 2.0.0 "));
        }
        let told = " verdict=rejected code=550 reason=\"tls-required-missing\" ";
        wait_for(|| log.text().matches(told).count() == 2).await;
    }
}

#[tokio::test]
async fn q6_a_refusal_of_data_is_the_answer_to_the_message() {
    for (said, expected) in [("451 4.3.0 later", "451 4.3.0 "), ("554 5.5.1 no", "554 5.5.1 ")] {
        let lab = mismatch().mx(|mx| mx.data = say(said)).start().await;
        let mut client = lab.client().await;
        for _ in 0..2 {
            let answers = client.send(&["b@example.test"], MESSAGE).await;
            assert!(answers.data.as_ref().unwrap().starts_with("354 "), "{answers:?}");
            assert!(answers.last().starts_with(expected), "{answers:?}");
        }
        assert_counted(&metrics(&lab).await, &[]);
    }
}

#[tokio::test]
async fn q6_its_sessions_are_in_no_tls_report() {
    // O14: reports come by this listener.
    for scenario in [only(), mismatch(), only().mx(|mx| mx.ehlo = say("250 mx"))] {
        let (told, mut events) = mpsc::channel(100);
        let lab = scenario.telling(told).start().await;
        assert!(send(&lab, MESSAGE).await.last().starts_with("250 2.0.0 "));
        drop(lab);
        assert!(events.try_recv().is_err());
    }
}

#[tokio::test]
async fn q6_a_lowered_session_serves_no_other_mail() {
    //
    let lab = mismatch().set("remote.idle_connections = 100").start().await;
    for mails in 1..4 {
        assert!(send(&lab, MESSAGE).await.last().starts_with("250 2.0.0 "));
        assert_eq!((lab.mx().messages().len(), lab.mx().connections()), (mails, 2 * mails));
        assert_eq!(lab.now().connector.dialer.pool.waiting(), 0);
    }
    // One that met its policy is like any other.
    let lab = only().set("remote.idle_connections = 100").start().await;
    for _ in 0..3 {
        assert!(send(&lab, MESSAGE).await.last().starts_with("250 2.0.0 "));
    }
    assert_eq!((lab.mx().connections(), lab.now().connector.dialer.pool.waiting()), (1, 1));
}

#[tokio::test]
async fn q6_one_domain_in_a_transaction() {
    let lab = mismatch().and_domain("second.example.test", |_| {}).start().await;
    let mut client = lab.client().await;
    let answers = client.send(&["b@example.test", "c@second.example.test", "d@example.test"], MESSAGE).await;
    assert!(answers.rcpt[1].starts_with("452 4.5.3 ") && answers.rcpt[2].starts_with("250 "), "{answers:?}");
    assert!(answers.last().starts_with("250 2.0.0 "));
    assert_eq!((lab.seen[0].messages().len(), lab.seen[1].messages().len()), (1, 0));
}

#[tokio::test]
async fn q6_both_tries_have_the_time_of_one() {
    // K7.
    let hanging = only().mx(|mx| mx.ehlo = Act::Late(Duration::from_secs(30), Box::new(say("250 mx"))));
    let stalling = only().mx(|mx| mx.instead_of_tls = Some(Act::Hang));
    for scenario in [hanging, stalling] {
        let lab = scenario.set("timeouts.route = '3s'\nmta_sts.timeout = '1s'").start().await;
        let begin = Instant::now();
        let answers = send(&lab, MESSAGE).await;
        assert!(answers.last().starts_with("451 ") || answers.last().starts_with("250 "), "{answers:?}");
        assert!(begin.elapsed() < Duration::from_secs(6), "{:?}", begin.elapsed());
    }
}

fn takes_chunks(mx: &mut Mx) {
    mx.ehlo_under_tls = say("250-mx\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 CHUNKING");
}

/// MAIL and RCPT for each of these, accepted.
async fn accepted(lab: &Lab, to: &[&str]) -> Client {
    let mut client = lab.client().await;
    client.command("MAIL FROM:<a@client.test>").await;
    for recipient in to {
        assert!(client.command(&format!("RCPT TO:<{recipient}>")).await.starts_with("250 "));
    }
    client
}

fn bdat(content: &[u8], last: &str) -> Vec<u8> {
    [format!("BDAT {}{last}\r\n", content.len()).as_bytes(), content].concat()
}

#[tokio::test]
async fn q6_chunks_are_held_back_too() {
    for change in [takes_chunks as fn(&mut Mx), |_| {}] {
        for scenario in [only, mismatch] {
            // Cut in the field, behind it, before the end of the header, behind it, and not at all.
            for at in [30, 41, 55, 57, MESSAGE.len()] {
                let lab = scenario().mx(change).start().await;
                let mut client = accepted(&lab, &["b@example.test"]).await;
                let (first, rest) = MESSAGE.split_at(at);
                client.write(&bdat(first, "")).await;
                assert_eq!(client.codes(1).await, ["250 2.0.0"]);
                if at <= 55 {
                    assert_eq!(heard(&lab, "DATA") + heard(&lab, "BDAT"), 0);
                }
                client.write(&bdat(rest, " LAST")).await;
                assert_eq!(client.codes(1).await, ["250 2.0.0"], "cut at {at}");
                let messages = lab.mx().messages();
                assert!(messages.len() == 1 && messages[0].ends_with(MESSAGE), "cut at {at}");
            }
        }
    }
}

#[tokio::test]
async fn q6_chunks_without_the_field_are_refused() {
    for change in [takes_chunks as fn(&mut Mx), |_| {}] {
        for last in ["", " LAST"] {
            let lab = mismatch().mx(change).start().await;
            let mut client = accepted(&lab, &["b@example.test"]).await;
            client.write(&bdat(WITHOUT, last)).await;
            assert_eq!(client.codes(1).await, ["550 5.7.1"]);
            // The transaction is over.
            client.write(&bdat(b"more\r\n", " LAST")).await;
            assert_eq!(client.codes(1).await, ["503 5.5.1"]);
            assert!(client.send(&["b@example.test"], MESSAGE).await.last().starts_with("250 2.0.0 "));
            assert_eq!(lab.mx().messages().len(), 1);
            assert_counted(&metrics(&lab).await, &[("refused", 1), ("lowered", 1)]);
        }
    }
}

#[tokio::test]
async fn q6_a_message_that_is_off_leaves_the_remote() {
    let (log, _logging) = captured();
    let lab = mismatch().start().await;
    let mut client = accepted(&lab, &["b@example.test"]).await;
    client.write(&bdat(b"TLS-Required: No\r\n", "")).await;
    assert_eq!(client.codes(1).await, ["250 2.0.0"]);
    assert!(client.command("RSET").await.starts_with("250 2.0.0 "));
    wait_for(|| log.text().contains(" verdict=aborted ")).await;
    wait_for(|| heard(&lab, "QUIT") == 1).await;
    assert!(client.send(&["b@example.test"], MESSAGE).await.last().starts_with("250 2.0.0 "));
    // The client goes away while its message is held back.
    let mut client = accepted(&lab, &["b@example.test"]).await;
    client.write(b"DATA\r\nTLS-Required: No\r\n").await;
    assert_eq!(client.codes(1).await, ["354"]);
    client.vanish();
    wait_for(|| log.text().contains(" verdict=aborted reason=\"client-lost\" ")).await;
    assert_eq!(lab.mx().messages().len(), 1);
}

#[tokio::test]
async fn q6_the_octets_of_a_message_that_is_held_back_are_told() {
    // Each end that such a message can have, and the octets that were read by then.
    const HELD: &[u8] = b"TLS-Required: No\r\nSubject: x\r\n";
    let octets = HELD.len();
    for (sent, then) in [
        (bdat(HELD, ""), "RSET\r\n"),
        (bdat(HELD, ""), "QUIT\r\n"),
        (bdat(HELD, ""), ""),
        ([b"DATA\r\n".as_slice(), HELD].concat(), ""),
    ] {
        let (log, _logging) = captured();
        let lab = mismatch().start().await;
        let mut client = accepted(&lab, &["b@example.test"]).await;
        client.write(&sent).await;
        client.reply().await;
        client.write(then.as_bytes()).await;
        if then.is_empty() {
            client.half_close().await;
        }
        wait_for(|| log.text().contains(" verdict=aborted ")).await;
        assert!(log.text().contains(&format!(" bytes={octets} ")), "{then:?}: {}", log.text());
        let counted = format!("\ndanelaw_message_bytes_total {octets}\n");
        assert!(metrics(&lab).await.contains(&counted), "{then:?}");
    }
    // The session is cut, with a message that is held back and with one that is on its way.
    for (scenario, listener) in [(mismatch(), LISTENER), (Scenario::new(), "listener = [{ address = '127.0.0.1:0' }]")]
    {
        let (log, _logging) = captured();
        let mut lab = scenario.set(listener).set("timeouts.grace = '10ms'").start().await;
        let mut client = accepted(&lab, &["b@example.test"]).await;
        client.write(&[b"DATA\r\n".as_slice(), HELD].concat()).await;
        // The octets behind DATA are there by then.
        client.reply().await;
        lab.stop();
        lab.stopped().await;
        wait_for(|| log.text().contains(" verdict=aborted ")).await;
        assert!(log.text().contains(&format!(" bytes={octets} ")), "{}", log.text());
    }
    // A refusal for want of the field tells the whole message.
    let (log, _logging) = captured();
    let lab = mismatch().start().await;
    assert!(send(&lab, WITHOUT).await.last().starts_with("550 5.7.1 "));
    wait_for(|| log.text().contains(" verdict=rejected ")).await;
    assert!(log.text().contains(&format!(" bytes={} ", WITHOUT.len())), "{}", log.text());
}

#[tokio::test]
async fn q6_lmtp_and_prdr_answer_for_each_recipient() {
    //
    let both = ["b@example.test", "c@second.example.test"];
    let lmtp = LISTENER.replace("address", "kind = 'lmtp', address");
    let two = |listener: &str, change: fn(&mut Mx)| mismatch().and_domain("second.example.test", change).set(listener);
    let refuses: fn(&mut Mx) = |mx| mx.data = say("554 5.5.1 no");
    for (message, change, codes) in [
        (MESSAGE, (|_| {}) as fn(&mut Mx), ["250 2.0.0", "250 2.0.0"]),
        (MESSAGE, refuses, ["250 2.0.0", "554 5.5.1"]),
        (WITHOUT, |_| {}, ["550 5.7.1", "550 5.7.1"]),
    ] {
        let stuffed =
            [&String::from_utf8_lossy(message).replace("\r\n.", "\r\n..").into_bytes()[..], b".\r\n"].concat();
        for (listener, hello, mail) in [(lmtp.as_str(), "LHLO", ""), (LISTENER, "EHLO", " PRDR")] {
            let lab = two(listener, change).start().await;
            let mut client = Client::connect(&lab.address).await;
            client.command(&format!("{hello} client.test")).await;
            client.command(&format!("MAIL FROM:<a@client.test>{mail}")).await;
            for recipient in both {
                assert!(client.command(&format!("RCPT TO:<{recipient}>")).await.starts_with("250 "));
            }
            assert!(client.command("DATA").await.starts_with("354 "));
            client.write(&stuffed).await;
            let told = client.codes(if mail.is_empty() { 2 } else { 4 }).await;
            let each = if mail.is_empty() { &told[..] } else { &told[1..3] };
            assert_eq!(each, codes, "{hello} {told:?}");
            let whole = lab.seen.iter().map(|seen| seen.messages().len()).sum::<usize>();
            assert_eq!(whole, codes.iter().filter(|code| code.starts_with('2')).count());
        }
        // In chunks each recipient has its answer at the last one (RFC 2033 §4.3).
        let lab = two(&lmtp, change).start().await;
        let mut client = lab.lmtp_client().await;
        client.command("MAIL FROM:<a@client.test>").await;
        for recipient in both {
            client.command(&format!("RCPT TO:<{recipient}>")).await;
        }
        client.write(&bdat(message, "")).await;
        assert_eq!(client.codes(1).await, ["250 2.0.0"]);
        client.write(&bdat(b"", " LAST")).await;
        assert_eq!(client.codes(2).await, codes);
    }
}

#[tokio::test]
async fn q6_elsewhere_the_field_means_nothing() {
    // A-115, I17: the same verdicts with and without, and the message as it came.
    let plain = "listener = [{ address = '127.0.0.1:0' }]";
    for (scenario, starts) in [(only(), "250 2.0.0 "), (mismatch(), "451 4.7.5 ")] {
        let lab = scenario.set(plain).start().await;
        for (mails, message) in [WITHOUT, MESSAGE, b"TLS-Required: Yes\r\nTLS-Required: No\r\n\r\n"].iter().enumerate()
        {
            let answers = send(&lab, message).await;
            assert!(answers.last().starts_with(starts), "{answers:?}");
            if answers.last().starts_with('2') {
                assert!(lab.mx().messages()[mails].ends_with(message));
            }
        }
        let ignored: &[_] = if starts.starts_with('2') { &[("ignored", 2)] } else { &[] };
        assert_counted(&metrics(&lab).await, ignored);
    }
}
