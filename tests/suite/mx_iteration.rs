//! Along the exchanges of a domain: the failures that lead on to the next one, the time for each, the hosts that are
//! remembered, and the limits of connections. The tables themselves are tested in `upstream::failover` and
//! `upstream::order`.

use std::time::Duration;

use crate::lab::dns::{Fault, Tree};
use crate::lab::exchange::Exchange;
use crate::lab::mx::{Act, Mx, say};
use crate::lab::{self, Lab, Scenario};
use danelaw::name::Name;
use danelaw::policy::{InsecureMx, Level, Waiver};
use danelaw::refusal::{Cap, Lacking, Reason, Refusals, Stage};
use danelaw::requiretls::TagDemand;
use danelaw::rules::StsByRule;
use danelaw::smtp::command::Hello;
use danelaw::smtp::reply::{Code, EnhancedCode, Reply};
use danelaw::trace::Trace;
use danelaw::upstream::verified::Ready;
use danelaw::upstream::{Connector, MxIteration, Request};
use tokio::time::Instant;

/// A change to an exchange's script.
type Change = fn(&mut Mx);

/// The request of an MX iteration.
struct IterationRequest {
    domain: Name,
    hello: Hello,
    level: Level,
    time: Duration,
    trace: Trace,
}

impl IterationRequest {
    fn to(domain: &str) -> Self {
        Self {
            domain: Name::parse(domain).unwrap(),
            hello: "client.test".parse().unwrap(),
            level: Level::Dane(InsecureMx::Dane),
            time: Duration::from_secs(240),
            trace: Trace::default(),
        }
    }

    fn iterate<'a, R: danelaw::dns::Resolver>(&'a self, connector: &'a Connector<R>) -> MxIteration<'a, R> {
        self.iterate_under(connector, connector.mode.into())
    }

    fn iterate_under<'a, R: danelaw::dns::Resolver>(
        &'a self,
        connector: &'a Connector<R>,
        waiver: Waiver,
    ) -> MxIteration<'a, R> {
        let Self { domain, hello, level, time, trace } = self;
        let request = Request {
            domain,
            next_hop: None,
            hello,
            level,
            demand: TagDemand::None,
            sts: StsByRule::Heeded,
            until: Instant::now() + *time,
            original_destination: None,
            reporting: danelaw::tlsrpt::event::Reporting::Off,
            trace,
        };
        connector.iterate(&request, waiver)
    }
}

/// The first remote of an MX iteration for `example.test`.
async fn first(lab: &Lab) -> Result<Ready, Refusals> {
    IterationRequest::to("example.test").iterate(&lab.now().connector).next().await
}

/// The reply that the client would get.
async fn refused(lab: &Lab) -> Reply {
    first(lab).await.unwrap_err().verdict()
}

/// The failed attempts.
async fn tried(lab: &Lab) -> Vec<String> {
    first(lab).await.unwrap_err().iter().map(ToString::to_string).collect()
}

/// `mx0.example.test`, `mx1.example.test`.., each worse than the one before.
fn exchange(index: u16) -> Exchange {
    Exchange::new("example.test", &format!("mx{index}.example.test")).preference(index)
}

/// `example.test` with so many exchanges, `mx0`, `mx1`.., each worse than the one before.
fn exchanges(count: u16) -> Scenario {
    Scenario::of((0..count).map(exchange))
}

/// A change to the first exchange, and the name of the reason that comes of it.
type Case = (fn(&mut Mx), &'static str);

#[tokio::test]
async fn failures_that_lead_to_the_next_exchange() {
    // K4, K12, K15, K16.
    let cases: [Case; 14] = [
        (|mx| mx.greeting = say("421 busy"), "greeting-refused"),
        (|mx| mx.greeting = say("554 no"), "greeting-refused"),
        (|mx| mx.greeting = say("250 hello"), "greeting-refused"),
        (|mx| mx.greeting = say("hello"), "protocol-error"),
        (|mx| mx.greeting = Act::Close, "connection-lost"),
        (|mx| mx.greeting = Act::Hang, "remote-timeout"),
        (|mx| mx.ehlo = say("550 no"), "ehlo-refused"),
        (|mx| mx.ehlo = Act::Close, "connection-lost"),
        (|mx| mx.ehlo = say("250 mx"), "starttls-missing"),
        (|mx| mx.starttls = say("454 no"), "starttls-refused"),
        (|mx| mx.starttls = Act::Say("220 go\r\n250 injected\r\n".into()), "starttls-injected"),
        (|mx| mx.instead_of_tls = Some(Act::Hang), "handshake-timeout"),
        (|mx| mx.identity = lab::certs::Identity::for_name("mx0.example.test"), "tlsa-mismatch"),
        (|mx| mx.ehlo_under_tls = say("550 no"), "ehlo-under-tls-refused"),
    ];
    for (change, label) in cases {
        let limits = "timeouts = { greeting = '200ms', handshake = '1s' }";
        let lab = exchanges(2).mx(change).set(limits).start().await;
        let request = IterationRequest::to("example.test");
        let now = lab.now();
        let mut iteration = request.iterate(&now.connector);
        let ready = iteration.next().await.unwrap_or_else(|refusals| panic!("{label}: {refusals:?}"));
        assert_eq!(ready.peer().exchange.as_str(), "mx1.example.test");
        let skipped: Vec<_> = iteration.skipped().map(|refusal| refusal.reason.view().label.as_str()).collect();
        assert_eq!(skipped, [label]);
        // The exchange that failed got no command of the mail.
        assert!(!lab.seen[0].saw_mail(), "{label}");
    }
}

fn refused_at(stage: Stage, reply: Reply) -> Reason {
    Reason::Refused { stage, reply }
}

#[tokio::test]
async fn what_is_said_to_mail() {
    // K15, K16, M22, L11: until a reply of the remote was passed on, the mail may go to another remote.
    let goes_on = |reason: fn() -> Reason| (true, reason);
    let decides = |reason: fn() -> Reason| (false, reason);
    for (on, reason) in [
        goes_on(|| {
            refused_at(Stage::Mail, Reply::new(Code::INSUFFICIENT_STORAGE, EnhancedCode::transient(3, 1), "full"))
        }),
        goes_on(|| Reason::Closing(Reply::plain(Code::SERVICE_NOT_AVAILABLE, "closing"))),
        goes_on(|| Reason::Lacking(Lacking::SmtpUtf8)),
        goes_on(|| Reason::Lacking(Lacking::EightBitMime)),
        goes_on(|| Reason::Lacking(Lacking::Size(1))),
        goes_on(|| Reason::Lost { stage: Stage::Mail, error: std::io::ErrorKind::ConnectionReset.into() }),
        goes_on(|| {
            refused_at(Stage::Rcpt, Reply::new(Code::INSUFFICIENT_STORAGE, EnhancedCode::transient(3, 1), "full"))
        }),
        decides(|| refused_at(Stage::Mail, Reply::new(Code::MAILBOX_UNAVAILABLE, EnhancedCode::permanent(7, 1), "no"))),
    ] {
        let lab = exchanges(2).start().await;
        let request = IterationRequest::to("example.test");
        let now = lab.now();
        let mut iteration = request.iterate(&now.connector);
        for exchange in ["mx0.example.test", "mx1.example.test"] {
            let ready = iteration.next().await.unwrap();
            assert_eq!(ready.peer().exchange.as_str(), exchange);
            let went_on = iteration.fail_over(ready.peer(), reason());
            assert_eq!(went_on.is_ok(), on, "{:?}", reason());
            ready.quit();
            if !on {
                break;
            }
        }
        if on {
            let verdict = iteration.next().await.unwrap_err().verdict();
            // The reason's own code, once no exchange is left.
            assert_eq!(verdict.code(), reason().view().code, "{verdict:?}");
            assert_eq!(verdict.lines().count(), 2);
        }
    }
}

#[tokio::test]
async fn every_address_of_an_exchange() {
    // K16, C9: two addresses that refuse, one that greets badly, then the exchange itself.
    let lab = exchanges(2)
        .tree(|tree, _| {
            tree.a("mx0.example.test", "127.0.0.66").a("mx0.example.test", "127.0.0.67").aaaa("mx0.example.test", "::1")
        })
        .mx(|mx| mx.greeting = say("421 busy"))
        .set("remote.allow_reserved = ['127.0.0.0/8', '::1']")
        .start()
        .await;
    let request = IterationRequest::to("example.test");
    let now = lab.now();
    let mut iteration = request.iterate(&now.connector);
    assert_eq!(iteration.next().await.unwrap().peer().exchange.as_str(), "mx1.example.test");
    let skipped: Vec<_> = iteration.skipped().map(ToString::to_string).collect();
    assert_eq!(skipped.len(), 4, "{skipped:?}");
    // IPv6 first.
    assert!(skipped[0].starts_with("mx0.example.test[::1]: cannot connect"), "{skipped:?}");
    // The limit is for each exchange.
    let lab = exchanges(1)
        .tree(|tree, _| {
            (60..70).fold(tree, |tree, last| tree.a("mx9.example.test", &format!("127.0.0.{last}"))).mx(
                "example.test",
                0,
                "mx9.example.test",
            )
        })
        .mx(|mx| mx.greeting = say("421 busy"))
        .set("remote.addresses = 3")
        .start()
        .await;
    assert_eq!(first(&lab).await.unwrap_err().iter().count(), 4);
}

/// `mx0` with its own address, five more that no server is at, and a limit of two that are tried.
fn mostly_dead() -> Scenario {
    let dead = |tree: Tree| (60..65).fold(tree, |tree, last| tree.a("mx0.example.test", &format!("127.0.0.{last}")));
    exchanges(1).tree(|tree, _| dead(tree)).set("remote.addresses = 2")
}

#[tokio::test]
async fn no_address_is_left_out_for_ever() {
    // C22: the DNS always gives the same order. Addresses that have failed are the ones beyond the limit.
    for _ in 0..10 {
        let lab = mostly_dead().remember().start().await;
        let mut failed = 0;
        for _ in 0..10 {
            failed += usize::from(first(&lab).await.is_err());
        }
        // A mail that fails has tried two of the five dead ones.
        assert!(failed <= 2, "{failed}");
    }
}

#[tokio::test]
async fn a_session_that_waits_is_preferred_to_any_address() {
    // C22, L14: the order is random, and no session is passed over for it.
    let lab = mostly_dead().set("remote.idle_connections = 100\nremote.failed_hosts_for = '0s'").start().await;
    while !lab.send().await.last().starts_with("250 ") {}
    for mails in 2..20 {
        assert!(lab.send().await.last().starts_with("250 "));
        assert_eq!((lab.mx().messages().len(), lab.mx().connections()), (mails, 1));
    }
}

#[tokio::test]
async fn the_number_of_exchanges_is_bounded() {
    // the number of exchanges is limited, and at the limit no refusal is final.
    let lab = Scenario::with_domain(|tree, _| {
        (0..5).fold(tree, |tree, index| tree.mx("example.test", index, &format!("none{index}.example.test")))
    });
    let lab = lab.set("remote.exchanges = 3").start().await;
    let refusals = first(&lab).await.unwrap_err();
    assert_eq!(refusals.iter().count(), 4);
    assert_eq!(refusals.verdict().to_string().split(" none").next(), Some("451 4.4.1"));
    assert!(refusals.verdict().lines().nth(3).unwrap().starts_with("2 more exchanges were not tried"));
}

#[tokio::test]
async fn helo_only_where_tls_is_not_required() {
    // K5.
    let old = |mx: &mut Mx| mx.ehlo = say("502 5.5.1 EHLO?");
    let rule = "rule = [{ domain = 'example.test', level = 'may', reason = 'a test', until = '9999-12-31' }]";
    let lab = Scenario::new().mx(old).set(rule).start().await;
    let answer = lab.send().await.last().to_owned();
    assert!(answer.starts_with("250 2.0.0 "), "{answer}");
    assert!(lab.mx().clear().iter().any(|line| line == "HELO client.test"));
    assert_eq!(lab.mx().messages().len(), 1);
    for (rule, ehlo) in [("", "502 5.5.1 EHLO?"), ("", "421 busy"), (rule, "450 busy")] {
        let lab = Scenario::new().mx(|mx| mx.ehlo = say(ehlo)).set(rule).start().await;
        let answer = lab.send().await.last().to_owned();
        assert!(answer.starts_with("451 4.7.4 ") && answer.contains("EHLO was refused"), "{answer}");
        assert!(!lab.mx().clear().iter().any(|line| line.starts_with("HELO")), "{rule} {ehlo}");
    }
}

#[tokio::test]
async fn ten_tarpits() {
    // K7, A-71: each has its share, and the client, which waits five minutes, hears of all of them.
    let patient = "timeouts = { route = '4m', connect = '30s', greeting = '1m', handshake = '30s' }";
    let tarpits = || {
        let silent = |index| exchange(index).tlsa([]).script(|mx| mx.greeting = Act::Hang);
        Scenario::of((0..10).map(silent)).set(patient)
    };
    let lab = tarpits().remember().start().await;
    lab.stop_the_clock(&["example.test"]).await;
    let started = Instant::now();
    let refusals = first(&lab).await.unwrap_err();
    let took = started.elapsed();
    assert!(took <= Duration::from_secs(240) && took > Duration::from_secs(200), "{took:?}");
    assert_eq!(refusals.verdict().code(), Code::LOCAL_ERROR);
    assert!(lab.seen.iter().all(|seen| seen.connections() == 1));
    assert!(refusals.iter().all(|refusal| refusal.reason.view().label.as_str() == "remote-timeout"), "{refusals:?}");
    tokio::time::resume();
    // A healthy exchange behind nine of them has its turn.
    let lab = tarpits().change(9, |mx| mx.greeting = say("220 mx")).remember().start().await;
    lab.stop_the_clock(&["example.test"]).await;
    assert_eq!(first(&lab).await.unwrap().peer().exchange.as_str(), "mx9.example.test");
}

#[tokio::test]
async fn a_storm_of_retries_does_not_wait_for_the_silent() {
    // the first mail waits its full time, the others do not, until the memory of the failure expires.
    let lab = Scenario::new().mx(|mx| mx.greeting = Act::Hang).remember().start().await;
    lab.stop_the_clock(&["example.test"]).await;
    assert_eq!(tried(&lab).await, ["mx1.example.test[127.0.0.1]: no answer to the greeting within 2s"]);
    tokio::time::advance(Duration::from_secs(20)).await;
    let started = Instant::now();
    for _ in 0..100 {
        let refusals = first(&lab).await.unwrap_err();
        assert_eq!(refusals.verdict().code(), Code::LOCAL_ERROR);
        assert_eq!(
            refusals.main().unwrap().to_string(),
            "mx1.example.test[127.0.0.1]: not tried again, because 20 seconds ago: no answer to the greeting within 2s"
        );
    }
    assert!(started.elapsed() < Duration::from_secs(1));
    assert_eq!(lab.mx().connections(), 1);
    // Further mails do not extend the memory of the failure.
    tokio::time::advance(Duration::from_secs(40)).await;
    assert!(refused(&lab).await.lines().next().unwrap().contains("within 2s"));
    assert_eq!(lab.mx().connections(), 2);
}

#[tokio::test]
async fn a_shortened_timeout_does_not_make_a_host_unresponsive() {
    // A host that was given less than its full time is tried again by the next mail.
    let lab = Scenario::new().mx(|mx| mx.greeting = Act::Hang).remember().start().await;
    lab.stop_the_clock(&["example.test"]).await;
    let request = IterationRequest { time: Duration::from_secs(1), ..IterationRequest::to("example.test") };
    for connections in 1..3 {
        request.iterate(&lab.now().connector).next().await.unwrap_err();
        assert_eq!(lab.mx().connections(), connections);
    }
}

#[tokio::test]
async fn a_failed_host_is_tried_last() {
    let lab = exchanges(3).mx(|mx| mx.greeting = say("421 busy")).start().await;
    for connections in [1, 1, 1] {
        assert_eq!(first(&lab).await.unwrap().peer().exchange.as_str(), "mx1.example.test");
        assert_eq!(lab.seen[0].connections(), connections);
    }
    // A failed host is tried last, and still tried.
    let lab =
        exchanges(2).mx(|mx| mx.greeting = say("421 busy")).change(1, |mx| mx.greeting = say("421 busy")).start().await;
    for connections in 1..4 {
        assert_eq!(refused(&lab).await.lines().count(), 2);
        assert!(lab.seen.iter().all(|seen| seen.connections() == connections));
    }
    // A TLS failure does not change the order (C20), and a refusal of mail is not remembered (K17).
    let lab = exchanges(2).mx(|mx| mx.starttls = say("454 no")).start().await;
    for connections in 1..3 {
        first(&lab).await.unwrap();
        assert_eq!(lab.seen[0].connections(), connections);
    }
    let lab = Scenario::new().mx(|mx| mx.mail = say("550 5.7.1 not you")).start().await;
    for mails in 1..3 {
        let answer = lab.send().await.last().to_owned();
        assert!(answer.starts_with("550 5.7.1 "), "{answer}");
        assert_eq!(lab.mx().tls().iter().filter(|line| line.starts_with("MAIL")).count(), mails);
    }
    // With this setting no failure is remembered.
    let forgetful = "remote.failed_hosts_for = '0s'";
    let lab = exchanges(2).mx(|mx| mx.greeting = say("421 busy")).set(forgetful).start().await;
    for connections in 1..3 {
        first(&lab).await.unwrap();
        assert_eq!(lab.seen[0].connections(), connections);
    }
}

#[tokio::test]
async fn a_tarpit_cannot_hold_everything() {
    // a limit of connections for one address, a limit of transactions for one domain; the other mails are told
    // which limit.
    for (caps, found) in [
        ("connections_per_host = 2", format!("mx1.example.test[127.0.0.1]: {}", Cap::Host(2))),
        ("connections_per_domain = 2", Cap::Domain(2).to_string()),
    ] {
        let lab = Scenario::new()
            .mx(|mx| mx.greeting = Act::Hang)
            .tree(|tree, _| tree.secure("good.test"))
            .exchange(Exchange::new("good.test", "mx.good.test").tlsa([]))
            .set(&format!("remote = {{ {caps} }}\ntimeouts.greeting = '50s'"))
            .remember()
            .start()
            .await;
        lab.stop_the_clock(&["example.test", "good.test"]).await;
        let started = Instant::now();
        let others = async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            let request = IterationRequest::to("good.test");
            request.iterate(&lab.now().connector).next().await.unwrap();
            assert_eq!(started.elapsed().as_secs(), 5);
            let third = refused(&lab).await;
            assert_eq!(started.elapsed().as_secs(), 15);
            third
        };
        let (one, two, third) = tokio::join!(tried(&lab), tried(&lab), others);
        let slow = ["mx1.example.test[127.0.0.1]: no answer to the greeting within 50s"];
        assert!(one == slow && two == slow, "{one:?} {two:?}");
        assert!(third.to_string().starts_with(&format!("451 4.4.5 {found}")), "{third}");
        assert_eq!(lab.mx().connections(), 2);
        tokio::time::resume();
    }
}

#[tokio::test]
async fn a_goodbye_takes_room_too() {
    // a host that refuses and then does not hang up.
    let rude = |mx: &mut Mx| {
        mx.greeting = say("554 no");
        mx.quit = Act::Hang;
    };
    let caps = "remote = { connections = 1, failed_hosts_for = '0s' }\ntimeouts.greeting = '1m'";
    let lab = Scenario::new().mx(rude).set(caps).remember().start().await;
    lab.stop_the_clock(&["example.test"]).await;
    let started = Instant::now();
    assert!(refused(&lab).await.lines().next().unwrap().contains("554"));
    assert_eq!(started.elapsed().as_secs(), 0);
    assert!(refused(&lab).await.lines().next().unwrap().contains("554"));
    assert_eq!(started.elapsed().as_secs(), 5);
}

#[tokio::test]
async fn exchanges_that_are_this_host() {
    // by address, under any name. Alone it is a loop, and final.
    let ours = "remote.own_addresses = ['127.0.0.2']";
    let aliased =
        |tree: Tree| tree.mx("example.test", 5, "innocent.example.test").a("innocent.example.test", "127.0.0.2");
    let lab = Scenario::with_domain(|tree, _| aliased(tree)).set(ours).start().await;
    assert_eq!(refused(&lab).await.code(), Code::TRANSACTION_FAILED);
    assert_eq!(
        tried(&lab).await.concat(),
        "innocent.example.test: mail for example.test loops back to this host: innocent.example.test is its \
         best MX"
    );
    // Better exchanges are tried, and the others are not.
    let lab = exchanges(3).set(ours).mx(|mx| mx.greeting = say("421 busy")).start().await;
    let reply = refused(&lab).await;
    assert_eq!((reply.code(), reply.lines().count()), (Code::LOCAL_ERROR, 2));
    assert_eq!(lab.seen.iter().map(|seen| seen.connections()).collect::<Vec<_>>(), [1, 0, 0]);
    // A better exchange that failed a moment ago is still tried.
    refused(&lab).await;
    assert_eq!(lab.seen.iter().map(|seen| seen.connections()).collect::<Vec<_>>(), [2, 0, 0]);
}

#[tokio::test]
async fn where_connections_come_from() {
    let lab = Scenario::new().set("remote.source_ipv4 = '127.0.0.9'").start().await;
    assert!(lab.send().await.last().starts_with("250 2.0.0 "));
    assert_eq!(lab.mx().peers(), [std::net::IpAddr::from([127, 0, 0, 9])]);
    let lab = Scenario::new().set("remote.source_ipv4 = '192.0.2.1'").start().await;
    let answer = lab.send().await.last().to_owned();
    assert!(
        answer.starts_with(
            "451 4.3.5 mx1.example.test[127.0.0.1]: cannot connect from 192.0.2.1 (remote.source_ipv4): Cannot assign"
        ),
        "{answer}"
    );
}

#[tokio::test]
async fn lookups_that_fail_lead_on() {
    // A9, K16: a failed lookup for one exchange does not affect the next.
    let servfail = || Fault::Rcode(hickory_resolver::proto::op::ResponseCode::ServFail);
    let lab = exchanges(2)
        .tree(|tree, port| tree.fault(&format!("_{port}._tcp.mx0.example.test"), "TLSA", servfail()))
        .start()
        .await;
    assert_eq!(first(&lab).await.unwrap().peer().exchange.as_str(), "mx1.example.test");
    assert_eq!(lab.seen[0].connections(), 0);
}

/// A client's transaction goes along the exchanges as long as no reply of the first was passed on.
#[tokio::test]
async fn a_transaction_goes_along() {
    // K15, K16, L11, M22.
    let first_says: [(Change, &str); 5] = [
        (|mx| mx.mail = say("450 4.7.1 not now"), "MAIL was answered with 450 4.7.1 not now"),
        (|mx| mx.mail = say("421 4.3.2 restarting"), "the remote closes the session: 421 4.3.2 restarting"),
        (|mx| mx.mail = Act::Close, "the connection was lost at MAIL"),
        (
            |mx| mx.rcpt = vec![Act::SayAndClose("421 4.3.2 restarting\r\n".into())],
            "the remote closes the session: 421",
        ),
        (|mx| mx.rcpt = vec![Act::Close], "the connection was lost at RCPT"),
    ];
    for (change, _) in first_says {
        let lab = exchanges(2).mx(change).start().await;
        let answer = lab.send().await.last().to_owned();
        assert!(answer.starts_with("250 2.0.0 mx1.example.test["), "{answer}");
        assert_eq!((lab.seen[0].messages().len(), lab.seen[1].messages().len()), (0, 1));
    }
    for (change, said) in first_says {
        let lab = exchanges(2).mx(change).change(1, |mx| mx.greeting = say("554 no")).start().await;
        let answer = lab.send().await.last().to_owned();
        assert!(answer.starts_with('4') && answer.contains(said), "{answer}");
        assert!(answer.contains("mx1.example.test[127.0.0.2]: the greeting was 554 no"), "{answer}");
    }
    // Final answers: 5yz to MAIL, any answer to RCPT, and the loss of the connection once one was passed on.
    let decides: [(Change, &str); 5] = [
        (|mx| mx.mail = say("550 5.7.1 not you"), "550 5.7.1 mx0.example.test[127.0.0.1]: not you"),
        (|mx| mx.rcpt = vec![say("450 4.2.1 full")], "450 4.2.1 mx0.example.test[127.0.0.1]: full"),
        (|mx| mx.rcpt = vec![say("550 5.1.1 who?")], "550 5.1.1 mx0.example.test[127.0.0.1]: who?"),
        (|mx| mx.data = Act::Close, "451 4.4.2 mx0.example.test[127.0.0.1]: the connection was lost at DATA"),
        (|mx| mx.end = Act::Close, "451 4.4.2 mx0.example.test[127.0.0.1]: the connection was lost at the end"),
    ];
    for (change, said) in decides {
        let lab = exchanges(2).mx(change).start().await;
        let answer = lab.send().await.last().to_owned();
        assert!(answer.starts_with(said), "{said}: {answer}");
        assert_eq!(lab.seen[1].connections(), 0, "{said}");
    }
    // M22: only the second takes it.
    let utf8 = say("250-mx\r\n250-8BITMIME\r\n250 SMTPUTF8");
    let lab = exchanges(2).change(1, |mx| mx.ehlo_under_tls = utf8.clone()).start().await;
    let mut client = lab.client().await;
    client.command("MAIL FROM:<a@client.test> SMTPUTF8").await;
    let answer = client.command("RCPT TO:<b@example.test>").await;
    assert!(answer.starts_with("250 2.1.5 mx1.example.test["), "{answer}");
    // M4: none does.
    let lab = exchanges(2).start().await;
    let mut client = lab.client().await;
    client.command("MAIL FROM:<a@client.test> SMTPUTF8").await;
    let answer = client.command("RCPT TO:<\u{fc}@example.test>").await;
    assert!(answer.starts_with("553-5.6.7 mx0.example.test[127.0.0.1]: the remote does not take"), "{answer}");
    assert!(lab.seen.iter().all(|seen| !seen.saw_mail()));
}

#[tokio::test]
async fn a_remote_that_is_silent_at_mail_leaves_time_for_the_next() {
    // K7.
    let limits = "timeouts = { route = '4m', command = '4m', client = '5m' }";
    let lab = exchanges(2).mx(|mx| mx.mail = Act::Hang).set(limits).remember().start().await;
    lab.stop_the_clock(&["example.test"]).await;
    let request = IterationRequest::to("example.test");
    let now = lab.now();
    let mut iteration = request.iterate(&now.connector);
    iteration.next().await.unwrap();
    assert_eq!(iteration.answer_by() - Instant::now(), Duration::from_secs(120));
    tokio::time::advance(Duration::from_secs(120)).await;
    iteration.next().await.unwrap();
    assert_eq!(iteration.answer_by() - Instant::now(), Duration::from_secs(120));
}

#[tokio::test]
async fn q6_a_host_that_other_mail_found_silent_in_its_handshake_is_tried_without_tls() {
    // A-105, O14: it is remembered for mail that needs TLS, which goes on to fail at once.
    let lab = Scenario::new().mx(|mx| mx.instead_of_tls = Some(Act::Hang)).start().await;
    assert!(refused(&lab).await.to_string().contains("no answer to the TLS handshake"));
    assert!(refused(&lab).await.to_string().contains("not tried again"));
    let (now, request) = (lab.now(), IterationRequest::to("example.test"));
    let mut iteration = request.iterate_under(&now.connector, Waiver::TlsRequiredNo);
    let ready = iteration.next().await.unwrap();
    assert!(ready.terms().channel.protection().is_none());
    assert!(iteration.would_have_refused().is_some());
    assert!(refused(&lab).await.to_string().contains("not tried again"));
    // One that does not answer at all stays remembered for all mail.
    let lab = Scenario::new().mx(|mx| mx.greeting = Act::Hang).start().await;
    refused(&lab).await;
    let now = lab.now();
    let refusals = request.iterate_under(&now.connector, Waiver::TlsRequiredNo).next().await.unwrap_err();
    assert!(refusals.verdict().to_string().contains("not tried again"));
}
