//! Health and metrics, as the operator of danelaw sees them.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::lab::certs::Identity;
use crate::lab::dns::Fault;
use crate::lab::exchange::Exchange;
use crate::lab::mx::{Act, say};
use crate::lab::{Lab, MESSAGE, Scenario};
use danelaw::admin::client::ask;
use danelaw::config::{Address, AdminSection};
use danelaw::discovery::StsFigures;
use danelaw::name::Name;
use danelaw::policy::Mode;
use danelaw::refusal::Label;
use danelaw::report::metrics::{Format, Moment};
use danelaw::report::{Outcome, Reporter, Verdict, Would};
use danelaw::smtp::reply::Code;
use danelaw::store::StoreFigures;
use danelaw::trace::{StepKind, Trace};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// The status and the text at a path.
pub(crate) async fn get(address: &Address, path: &str) -> (u16, String) {
    let (status, text) = ask(address, path).await.unwrap();
    (status.as_u16(), text)
}

pub(crate) async fn self_test(lab: &Lab) {
    let dns = lab.shared.borrow().connector.dns.clone();
    dns.self_test().await;
}

/// Sends these octets, and returns all that comes back.
async fn said(address: &Address, octets: &str) -> String {
    let Address::Tcp(address) = address else { panic!("{address}") };
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(octets.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn health_is_told_in_words() {
    let mut lab = Scenario::new().start().await;
    let admin = lab.admin().await;
    assert_eq!(get(&admin, "/livez").await, (200, "alive\n".to_owned()));
    let (status, why) = get(&admin, "/readyz").await;
    assert_eq!(status, 503);
    assert!(why.starts_with("not ready\n") && why.contains("not tested yet"), "{why}");
    self_test(&lab).await;
    let (status, why) = get(&admin, "/readyz").await;
    assert_eq!((status, why.lines().next()), (200, Some("ready")), "{why}");
    lab.dns.set_fault(".", "SOA", Fault::Stripped);
    self_test(&lab).await;
    let (status, why) = get(&admin, "/readyz").await;
    assert_eq!(status, 503);
    assert!(why.contains("strips DNSSEC records") && why.contains("all mail is deferred"), "{why}");
    lab.dns.clear_fault(".", "SOA");
    self_test(&lab).await;
    lab.stop();
    lab.stopped().await;
    let (status, why) = get(&admin, "/readyz").await;
    assert_eq!(status, 503);
    assert!(why.contains("danelaw is stopping"), "{why}");
    // A danelaw that is stopping must not be restarted for it.
    assert_eq!(get(&admin, "/livez").await.0, 200);
}

#[tokio::test]
async fn what_is_not_there_is_told_with_its_reason() {
    let lab = Scenario::new().start().await;
    let (admin, off) = (lab.admin().await, lab.admin_without_page().await);
    for (path, why) in [
        ("/none", "nothing is at this path\nthe paths are /livez, /readyz, "),
        ("/status/a..b", "\"a..b\" is no domain: it has an empty label\n"),
        ("/status/never.test", "no mail to this domain since danelaw has started"),
        ("/mta-sts/192.0.2.1", "\"192.0.2.1\" is no domain: it is an IP address, not a name\n"),
        ("/mta-sts/never.test", "no MTA-STS policy of this domain is kept and in force: "),
        ("/watch/", "this danelaw does not watch: set watch.every"),
        ("/hosts/mx.test", "this danelaw remembers no hosts: set watch.every"),
        ("/explain/", "no attempt that did not end in a delivery is remembered: there was none since"),
        ("/explain/last", "no attempt that did not end in a delivery is remembered: there was none since"),
        ("/explain/id", "an id is like 5F0C63B1A7D2\n"),
        ("/explain/0123456789AB", "no attempt with this id is remembered: "),
        ("/tlsrpt/counts/today", "give a day as in /tlsrpt/counts/2026-11-28"),
        ("/tlsrpt/preview/?before=a.test", "give a domain or none"),
        ("/tlsrpt/preview/", "this danelaw does not run with tlsrpt.mode"),
        ("/report/2026-13", "a month is written as 2026-11: "),
        ("/domains?state=other", "give a domain as in /domains/example.com, or no parameters but state=failing"),
        ("/domains/a..b", "give a domain as in /domains/example.com"),
    ] {
        let (status, text) = get(&admin, path).await;
        assert!(status == 404 && text.starts_with(why), "{path}: {status} {text}");
    }
    let (status, text) = get(&off, "/domains").await;
    assert!(status == 404 && text.starts_with("the pages for browsers are off: set admin.page = true"), "{text}");
}

#[tokio::test]
async fn requests_of_another_form_are_refused() {
    let admin = Scenario::new().start().await.admin().await;
    let (status, paths) = get(&admin, "/none").await;
    assert!(status == 404 && paths.contains("/readyz"), "{status} {paths}");
    let post = said(&admin, "POST /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").await;
    assert!(post.starts_with("HTTP/1.1 405 ") && post.contains("allow: GET, HEAD"), "{post}");
    let long = said(&admin, &format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(20_000))).await;
    assert!(long.is_empty() || long.starts_with("HTTP/1.1 4"), "{long}");
    assert!(said(&admin, "EHLO client.test\r\n\r\n").await.starts_with("HTTP/1.1 400 "));
}

/// The value of a series.
fn value(metrics: &str, series: &str) -> f64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in {metrics}")).parse().unwrap()
}

#[tokio::test]
async fn metrics_count_events_and_promtool_reads_them() {
    let tomorrow = time::OffsetDateTime::now_utc().date().next_day().unwrap();
    let lab = Scenario::new()
        .tree(|tree, _| tree.insecure("other.test"))
        .exchange(Exchange::new("other.test", "mx1.other.test").tlsa([]).script(|mx| mx.ehlo = say("250 mx")))
        .set(&format!("[[rule]]\ndomain = 'example.test'\nlevel = 'dane-only'\nuntil = '{tomorrow}'"))
        .start()
        .await;
    let admin = lab.admin().await;
    self_test(&lab).await;
    let mut client = lab.client().await;
    for _ in 0..2 {
        let answers = client.send(&["b@example.test"], MESSAGE).await;
        assert!(answers.last().starts_with("250 2.0.0 "), "{answers:?}");
    }
    let refused = client.send(&["b@other.test"], MESSAGE).await;
    assert!(refused.last().starts_with("451 4.7.4 "), "{refused:?}");
    let (_, metrics) = get(&admin, "/metrics").await;
    for (series, expected) in [
        (r#"deliveries_total{verdict="delivered",reason="",policy="dane",protection="verified"}"#, 2.0),
        (r#"deliveries_total{verdict="deferred",reason="starttls-missing",policy="encrypt",protection="none"}"#, 1.0),
        (r#"dns_lookups_total{type="MX",result="secure"}"#, 2.0),
        (r#"dns_lookups_total{type="MX",result="insecure"}"#, 1.0),
        (r#"dns_lookups_total{type="TLSA",result="secure"}"#, 2.0),
        (r#"connections_total{result="ok"}"#, 3.0),
        (r#"handshakes_total{result="ok"}"#, 2.0),
        (r#"handshakes_total{result="starttls-missing"}"#, 1.0),
        (r#"stage_seconds_count{stage="message"}"#, 2.0),
        (r#"stage_seconds_count{stage="total"}"#, 3.0),
        (r#"resolver_up{resolver="0"}"#, 1.0),
        ("recipients_total", 2.0),
        ("ruled_total", 2.0),
        ("rules_ending", 1.0),
        ("rules_ended", 0.0),
        ("sessions", 1.0),
        ("sessions_limit", 9000.0),
        ("sessions_started_total", 1.0),
        ("ready", 1.0),
        ("config_last_reload_successful", 1.0),
    ] {
        assert_eq!(value(&metrics, &format!("danelaw_{series}")), expected, "{series} in {metrics}");
    }
    assert!(value(&metrics, r#"danelaw_dns_questions_total{result="asked"}"#) >= 8.0, "{metrics}");
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the package prometheus, which tests/run installs");
    promtool.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaints.is_empty(), "{complaints}\n{metrics}");
}

#[test]
fn a111_a_client_cannot_make_a_metric_series() {
    // A-111.
    let reporter = Reporter::new(100);
    let random = || -> String { std::iter::repeat_with(fastrand::lowercase).take(12).collect() };
    let tell = || {
        let (domain, seen) = (Name::parse(&format!("{}.test", random())).unwrap(), Trace::default());
        seen.fact(format_args!("{}", random()));
        seen.since(tokio::time::Instant::now(), StepKind::Lookup("MX", "insecure"), format_args!("{}", random()));
        seen.since(tokio::time::Instant::now(), StepKind::Connect("greeting-refused"), format_args!("{}", random()));
        reporter.report(&Outcome {
            id: random(),
            would: Some(Would { reason: Label::StartTlsMissing, answer: random() }),
            verdict: Verdict::Deferred,
            code: Code::new(451),
            reason: Some(Label::GreetingRefused),
            text: random(),
            rule: Some(random()),
            skipped: vec![random()],
            seen,
            ..Outcome::unfinished(&domain, Mode::Observe)
        });
    };
    let series = || {
        let moment = Moment {
            sessions: 0,
            max_sessions: 0,
            waiting: 0,
            resolvers: vec![],
            fallen_back: false,
            memory: [0; 3],
            negative_anchor_answers: 0,
            mta_sts: StsFigures::default(),
            watch: None,
            store: StoreFigures::default(),
            hosts: None,
            ready: true,
            observing: true,
            rules_ending: 0,
            rules_ended: 0,
            log_dropped: 0,
            build: vec![("version", "0")],
        };
        let written = reporter.metrics().written(moment, Format::Prometheus);
        written.lines().filter(|line| !line.starts_with('#')).count()
    };
    tell();
    let before = series();
    (0..10_000).for_each(|_| tell());
    assert_eq!(series(), before);
}

#[tokio::test]
async fn an_endless_request_does_not_delay_others_for_long() {
    let lab = Scenario::new().start().await;
    let admin = lab.admin().await;
    let Address::Tcp(address) = admin else { panic!("{admin}") };
    let mut silent = Vec::new();
    for _ in 0..64 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: ").await.unwrap();
        silent.push(stream);
    }
    // The admin port takes no part in the delivery of mail.
    assert!(lab.send().await.last().starts_with("250 2.0.0 "));
    for (index, stream) in silent.iter_mut().take(16).enumerate() {
        let mut rest = Vec::new();
        let began = Instant::now();
        let closed = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "{index} is still open after {:?}", began.elapsed());
    }
}

#[tokio::test]
async fn a_request_is_answered_while_others_hold_the_port() {
    let lab = Scenario::new().start().await;
    let admin = lab.admin().await;
    let Address::Tcp(address) = admin else { panic!("{admin}") };
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    for path in ["/livez", "/readyz", "/metrics"] {
        let answer = tokio::time::timeout(Duration::from_secs(2), ask(&admin, path)).await;
        assert!(answer.is_ok_and(|answer| answer.is_ok()), "{path} is not answered in time");
    }
    // The connections that have been silent the longest made room, and the others have their full time.
    let mut octet = [0];
    let gone = tokio::time::timeout(Duration::from_secs(1), silent[0].read(&mut octet)).await;
    assert!(matches!(gone, Ok(Ok(0) | Err(_))), "{gone:?}");
    assert!(silent[199].try_read(&mut octet).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock));
}

#[tokio::test]
async fn the_socket_of_a_danelaw_that_is_gone_is_taken_over() {
    let lab = Scenario::new().start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let address = format!("unix:{}", path.display());
    let admin = lab.admin_at(&address).await;
    assert_eq!(get(&admin, "/livez").await.0, 200);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    // A socket that answers belongs to a running program.
    let settings = AdminSection { address: Some(address.parse().unwrap()), allow: vec![], remember: 0, page: false };
    let taken = danelaw::admin::AdminPort::open(&settings).await.unwrap_err();
    assert_eq!(taken.kind(), std::io::ErrorKind::AddrInUse);
    // A file that is no socket is not danelaw's to remove.
    std::fs::write(folder.path().join("file"), "x").unwrap();
    let file = format!("unix:{}", folder.path().join("file").display()).parse().unwrap();
    assert!(danelaw::admin::AdminPort::open(&AdminSection { address: Some(file), ..settings }).await.is_err());
}

/// The id at the end of a refusal.
fn id_of(answer: &str) -> String {
    let tail = answer.rsplit_once(" (id ").unwrap_or_else(|| panic!("no id in {answer:?}")).1;
    let id = tail.strip_suffix(')').unwrap();
    assert!(id.len() == 12 && id.bytes().all(|octet| octet.is_ascii_hexdigit()), "{answer:?}");
    id.to_owned()
}

/// The clients of a port that is not on loopback.
const ALLOW: &str = r#"admin.allow=["10.67.71.0/24"]"#;

/// `danelaw explain` with this admin port: its exit status and its output.
async fn explained(admin: &Address, arguments: &[&str]) -> (i32, String) {
    let address = admin.to_string();
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_danelaw"))
        .args(["explain", "--config", "/dev/null", "--set", &format!("admin.address={address:?}"), "--set", ALLOW])
        .args(arguments)
        .output()
        .await
        .unwrap();
    let said = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.code().unwrap(), String::from_utf8(said).unwrap())
}

#[tokio::test]
async fn a_refusal_can_be_explained() {
    let wrong = || Identity::for_name("other").record("3 1 1");
    let lab = Scenario::with_domain(|tree, _| tree.mx("example.test", 5, "gone.example.test"))
        .exchange(
            Exchange::new("example.test", "mx1.example.test")
                .tlsa([wrong()])
                .script(|mx| mx.greeting = say("220-hello \u{1b}[2J\r\n220 mx1")),
        )
        .start()
        .await;
    let admin = lab.admin().await;
    let (status, why) = explained(&admin, &[]).await;
    assert!(status == 1 && why.contains("no attempt that did not end in a delivery is remembered"), "{status} {why}");
    assert_eq!(explained(&admin, &["--last"]).await, (1, why));
    let answers = lab.send().await;
    let id = id_of(answers.last());
    let (status, told) = explained(&admin, &[&id]).await;
    assert_eq!(status, 0, "{told}");
    assert_eq!(explained(&admin, &["--last"]).await, (0, told.clone()));
    let (status, listed) = explained(&admin, &[]).await;
    assert!(status == 0 && listed.lines().count() == 1, "{listed}");
    assert!(listed.starts_with(&format!("{id}  20")), "{listed}");
    assert!(listed.ends_with("Z  example.test  deferred: tlsa-mismatch\n"), "{listed}");
    for part in [
        &format!("attempt     {id}, ended at 20"),
        "domain      example.test",
        "verdict     deferred: tlsa-mismatch",
        "the client  was told 451 4.7.5 ",
        "example.test MX: secure: 5 gone.example.test, 10 mx1.example.test",
        "gone.example.test A/AAAA: absent: neither A nor AAAA",
        "mx1.example.test A/AAAA: secure: 127.0.0.1",
        "_tcp.mx1.example.test TLSA: secure: 3 1 1 ",
        "mx1.example.test: usable TLSA records under mx1.example.test: 3 1 1 ",
        "mx1.example.test: at level dane the policy is dane",
        "mx1.example.test[127.0.0.1]: it offers STARTTLS",
        "certificate 0 of 1: ",
        "for mx1.example.test, valid from ",
        "key 3 1 1 ",
        "mx1.example.test[127.0.0.1]: the server could not be verified: no TLSA record matches",
        "not taken   gone.example.test: the host has no address",
    ] {
        assert!(told.contains(part), "{part:?} is not in\n{told}");
    }
    // A-110.
    assert!(told.chars().all(|c| c == '\n' || c == ' ' || c.is_ascii_graphic()), "{told}");
    // The id in lower case, as an operator may type it.
    assert_eq!(explained(&admin, &[&id.to_lowercase()]).await.0, 0);
    let (status, why) = explained(&admin, &["0123456789AB"]).await;
    assert!(status == 1 && why.contains("admin.remember"), "{status} {why}");
    // An argument that is no id is a wrong command line, and no admin port is asked.
    for wrong in ["../metrics", "", "(id 0123456789AB)", "zz"] {
        let (status, why) = explained(&admin, &[wrong]).await;
        assert!(status == 64 && why.contains("an id is like 5F0C63B1A7D2"), "{wrong}: {status} {why}");
    }
    assert_eq!(explained(&"127.0.0.1:1".parse().unwrap(), &[&id]).await.0, 69);
    let (status, why) = explained(&"unix:/nonexistent/admin.sock".parse().unwrap(), &["--last"]).await;
    assert!(status == 69 && why.contains("no danelaw runs, or it has another admin.address"), "{why}");
}

#[tokio::test]
async fn every_refusal_of_ours_has_an_id_and_a_remotes_text_is_unchanged() {
    let large = b"0123456789\r\n".repeat(6000);
    let ours = |mut scenario: Scenario| async {
        scenario = scenario.set("admin.remember = 1");
        let lab = scenario.start().await;
        let admin = lab.admin().await;
        let answer = lab.client().await.send(&["b@example.test"], &large).await.last().to_owned();
        let (status, told) = get(&admin, &format!("/explain/{}", id_of(&answer))).await;
        assert_eq!(status, 200, "{told}");
        (lab, admin, answer)
    };
    // Refusals before the connection to the remote, at it, and in the middle of the message.
    ours(Scenario::new().mx(|mx| mx.ehlo = say("250 mx"))).await;
    ours(Scenario::new().mx(|mx| mx.mail = Act::Close)).await;
    ours(Scenario::new().mx(|mx| mx.rcpt = vec![Act::Close])).await;
    ours(Scenario::new().mx(|mx| mx.data = Act::Close)).await;
    ours(Scenario::new().mx(|mx| mx.end = Act::Close)).await;
    let (lab, admin, first) = ours(Scenario::new().set("limits.message_size = '64KiB'")).await;
    assert!(first.starts_with("552 5.3.4 "), "{first}");
    // One attempt is remembered: the last.
    let second = lab.client().await.send(&["b@example.test"], &large).await.last().to_owned();
    assert_eq!(get(&admin, &format!("/explain/{}", id_of(&first))).await.0, 404);
    assert_eq!(get(&admin, &format!("/explain/{}", id_of(&second))).await.0, 200);
    for refused in [
        Scenario::new().mx(|mx| mx.rcpt = vec![say("550 5.1.1 no such user")]),
        Scenario::new().mx(|mx| mx.end = say("554 5.7.1 spam")),
    ] {
        let answer = refused.start().await.send().await.last().to_owned();
        assert!(answer.starts_with("55") && !answer.contains("(id "), "{answer}");
    }
}

/// `danelaw status` with this admin port: its exit status and its output.
async fn status_of(admin: &Address, domain: Option<&str>) -> (i32, String) {
    told_by("status", admin, domain).await
}

/// The exit status and the output of a command that asks at this admin port.
async fn told_by(command: &str, admin: &Address, argument: Option<&str>) -> (i32, String) {
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_danelaw"))
        .args([
            command,
            "--config",
            "/dev/null",
            "--set",
            &format!("admin.address={:?}", admin.to_string()),
            "--set",
            ALLOW,
        ])
        .args(argument)
        .output()
        .await
        .unwrap();
    let told = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    (output.status.code().unwrap(), String::from_utf8(told).unwrap())
}

#[tokio::test]
async fn a_health_check_is_one_command() {
    let mut lab = Scenario::new().start().await;
    let admin = lab.admin().await;
    let (status, text) = told_by("ready", &admin, None).await;
    assert!(status == 1 && text.starts_with("not ready\n") && text.contains("not tested yet"), "{status} {text}");
    self_test(&lab).await;
    let (status, text) = told_by("ready", &admin, None).await;
    assert!(status == 0 && text.starts_with("ready\nlisteners: open\n"), "{status} {text}");
    lab.stop();
    lab.stopped().await;
    let (status, text) = told_by("ready", &admin, None).await;
    assert!(status == 1 && text.contains("danelaw is stopping"), "{status} {text}");
    let gone = "unix:/nonexistent/admin.sock".parse().unwrap();
    assert_eq!(told_by("ready", &gone, None).await.0, 69);
}

#[tokio::test]
async fn the_state_is_told_in_words() {
    let lab = Scenario::new()
        .tree(|tree, _| tree.insecure("other.test"))
        .exchange(Exchange::new("other.test", "mx1.other.test").tlsa([]).script(|mx| mx.ehlo = say("250 mx")))
        .start()
        .await;
    let admin = lab.admin().await;
    let (status, text) = status_of(&admin, None).await;
    assert!(status == 1 && text.starts_with("not ready\n"), "{status} {text}");
    self_test(&lab).await;
    let mut client = lab.client().await;
    assert!(client.send(&["b@example.test"], MESSAGE).await.last().starts_with("250 2.0.0 "));
    let id = id_of(client.send(&["b@other.test"], MESSAGE).await.last());
    let (status, text) = status_of(&admin, None).await;
    assert_eq!(status, 0, "{text}");
    for part in [
        "ready\nlisteners: open\nresolver 127.0.0.1:",
        "\nmode: enforce\nsessions: 1 of 9000 (<0.1 %)\nconnections: 0 of 9000 (0.0 %)\nstore: answers\n",
        "\nlast hour              1         1         0         0\n",
        "\nlast 24 hours          1         1         0         0\n",
        "\n       1  starttls-missing, last for other.test, 0s ago\n",
        "\ndomains whose last mail was refused: 1 of 2 since then\n  other.test, for 0s: deferred: starttls-missing; danelaw explain ",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    let (status, text) = status_of(&admin, Some("other.test")).await;
    assert_eq!(status, 0, "{text}");
    for part in [
        "domain      other.test\nlast mail   deferred: starttls-missing, 0s ago\nso since    20",
        "attempts    0 delivered, 1 deferred, 0 rejected, 0 aborted\n",
        "rule        none; the level is dane\nsee         danelaw check other.test\nsee         danelaw resolve other.test MX\n",
        &format!(
            "see         danelaw explain {id}\nsee         danelaw refusals starttls-missing\n\na rule that would let its mail pass"
        ),
        "\n[[rule]]\ndomain = \"other.test\"\nlevel = \"may\"\nreason = \"starttls-missing\"\nuntil = \"20",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    let (status, text) = status_of(&admin, Some("example.test")).await;
    let remote = "remote      mx1.example.test, policy dane, protection verified by TLSv1.3\n";
    assert!(status == 0 && text.contains(remote) && !text.contains("explain"), "{text}");
    assert_eq!(status_of(&admin, Some("b@example.test")).await.0, 0);
    let (status, text) = status_of(&admin, Some("never.test")).await;
    assert!(status == 1 && text.contains("no mail to this domain"), "{text}");
}

/// Y3.
#[tokio::test]
async fn y3_questions_about_mail_are_for_this_machine() {
    let admin = Scenario::new().start().await.admin().await;
    for path in [
        "/explain/",
        "/explain/0123456789AB",
        "/status/",
        "/status/a.test",
        "/mta-sts/a.test",
        "/tlsrpt/preview/",
        "/report/2026-11",
        "/hosts/mx.test",
        "/watch/",
        "/watch/a.test",
        "/none",
    ] {
        for (fields, status) in
            [("Host: evil.example", "421"), ("X: y", "421"), ("Host: localhost\r\nSec-Fetch-Site: cross-site", "403")]
        {
            let answer = said(&admin, &format!("GET {path} HTTP/1.1\r\n{fields}\r\n\r\n")).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path} {fields}: {answer}");
        }
        let answer = said(&admin, &format!("GET {path} HTTP/1.1\r\nHost: localhost:7671\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") || answer.starts_with("HTTP/1.1 404 "), "{path}: {answer}");
    }
    // Monitors ask for these under any name.
    for path in ["/livez", "/metrics"] {
        let answer = said(&admin, &format!("GET {path} HTTP/1.1\r\nHost: danelaw.example:7671\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
    }
}

/// Y13: html5lib finds no error.
pub(crate) fn is_valid_html(body: &str) {
    let readers = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/clients/html-reader");
    assert!(readers.exists(), "tests/real/prepare installs html5lib");
    let program = "import html5lib, sys\nhtml5lib.HTMLParser(strict=True).parse(sys.stdin.read())";
    let mut python = Command::new("python3");
    python.env("PYTHONPATH", readers).args(["-c", program]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut python = python.spawn().unwrap();
    python.stdin.take().unwrap().write_all(body.as_bytes()).unwrap();
    let run = python.wait_with_output().unwrap();
    assert!(run.status.success(), "{}\n{body}", String::from_utf8_lossy(&run.stderr));
}

/// The answer to a browser.
pub(crate) async fn browsed(admin: &Address, path: &str) -> String {
    let fields = "Host: localhost:7671\r\nAccept: text/html,*/*;q=0.8\r\nSec-Fetch-Site: none";
    said(admin, &format!("GET {path} HTTP/1.1\r\n{fields}\r\n\r\n")).await
}

#[tokio::test]
async fn the_page_shows_what_is_wrong_and_how_to_mend_it() {
    let script = "550 <script>alert(1)</script>\"><img src=x> \u{1b}[2J \u{202e}evil";
    let lab = Scenario::new().mx(|mx| mx.rcpt = vec![say(script)]).start().await;
    let admin = lab.admin().await;
    self_test(&lab).await;
    let id = lab.send().await;
    assert!(!id.last().starts_with("250"), "{id:?}");
    let (_, line) = get(&admin, "/explain/").await;
    let id = line.split(' ').next().unwrap();
    for (path, parts) in [
        (
            "/",
            vec![
                "<h1>State</h1>",
                "<strong class=\"good\">ready</strong>",
                "href=\"/domains/example.test\"",
                "recipient-refused",
            ],
        ),
        ("/domains", vec!["<bdi>example.test</bdi>", "rejected: recipient-refused"]),
        ("/domains?state=all", vec!["<bdi>example.test</bdi>"]),
        ("/domains?after=example.test", vec!["None."]),
        ("/domains/example.test", vec!["danelaw check example.test", "href=\"/refusals#recipient-refused\""]),
        ("/domains/other.test", vec!["No mail to this domain"]),
        ("/refusals", vec!["<h2 id=\"recipient-refused\">", "To do: "]),
        ("/explain/", vec![id]),
        (&format!("/explain/{id}"), vec!["&lt;script&gt;", "words of the remote"]),
    ] {
        let page = browsed(&admin, path).await;
        let (head, body) = page.split_once("\r\n\r\n").unwrap();
        assert!(
            head.starts_with("HTTP/1.1 200 ") && head.contains("content-security-policy: default-src 'none'; "),
            "{head}"
        );
        for part in parts {
            assert!(body.contains(part), "{path}: {part:?} is not in {body}");
        }
        // Y5 to Y8: no script, no style but the sheet, no other place, and no text of a stranger that is more than text.
        for part in ["<script", "style=", "http:", "https:", "<img", "\u{1b}", "\u{202e}", "onclick"] {
            assert!(!body.contains(part), "{path}: {part:?} is in {body}");
        }
        assert!(body.starts_with("<!DOCTYPE html><html lang=\"en\">") && body.ends_with("</html>"), "{body}");
        is_valid_html(body);
    }
    let sheet = browsed(&admin, "/style.css").await;
    assert!(sheet.contains("content-type: text/css") && sheet.contains("prefers-color-scheme"), "{sheet}");
    // A program that does not ask for HTML gets text.
    let (status, text) = get(&admin, "/").await;
    assert!(status == 200 && text.starts_with("ready\n"), "{text}");
}

/// Y1, Y4.
#[tokio::test]
async fn y1_y4_the_page_is_off_by_default_and_for_get_alone() {
    let lab = Scenario::new().start().await;
    let admin = lab.admin().await;
    for path in ["/", "/domains", "/refusals", "/style.css"] {
        let post = said(&admin, &format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")).await;
        assert!(post.starts_with("HTTP/1.1 405 "), "{post}");
        let rebound =
            said(&admin, &format!("GET {path} HTTP/1.1\r\nHost: evil.example\r\nAccept: text/html\r\n\r\n")).await;
        assert!(rebound.starts_with("HTTP/1.1 421 "), "{rebound}");
        let head = said(&admin, &format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/html\r\n\r\n")).await;
        assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
    }
    let off = lab.admin_without_page().await;
    for path in ["/", "/domains", "/domains/a.test", "/refusals", "/style.css"] {
        assert!(browsed(&off, path).await.starts_with("HTTP/1.1 404 "), "{path}");
    }
}

/// The answer to a client with this address, by this port of loopback or of the other address.
async fn said_to(client: &str, port: &str, request: &str) -> String {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{client}:0").parse().unwrap()).unwrap();
    let mut stream = socket.connect(port.parse().unwrap()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Y2: another machine has no answer about mail in any form, with `admin.allow` too. Commands of this machine have theirs.
#[tokio::test]
async fn y2_another_machine_reads_health_and_metrics_alone() {
    let [other, own] = ["10.67.71.1", "10.67.71.2"];
    for address in [other, own] {
        let added = Command::new("ip").args(["address", "replace", &format!("{address}/32"), "dev", "lo"]).status();
        assert!(added.unwrap().success(), "the tests run in a network namespace of their own");
    }
    let lab = Scenario::new().start().await;
    self_test(&lab).await;
    let settings = |address: &str| AdminSection {
        address: Some(address.parse().unwrap()),
        allow: vec!["10.67.71.0/24".parse().unwrap()],
        remember: 0,
        page: true,
    };
    let everywhere = lab.admin_by(settings("0.0.0.0:0")).await;
    let loopback = everywhere.to_string().replace("0.0.0.0", "127.0.0.1");
    let at_own = lab.admin_by(settings(&format!("{own}:0"))).await;
    for port in [loopback.clone(), at_own.to_string()] {
        for path in [
            "/",
            "/domains",
            "/domains/a.test",
            "/refusals",
            "/explain/",
            "/explain/last",
            "/explain/0123456789AB",
            "/watch",
            "/watch/",
            "/status/",
            "/status/a.test",
            "/mta-sts/a.test",
            "/tlsrpt",
            "/tlsrpt/preview/",
            "/tlsrpt/counts/2026-11-28",
            "/report/2026-11",
            "/hosts/mx.test",
            "/style.css",
            "/none",
        ] {
            for fields in ["", "Accept: text/html\r\n", "Accept: text/plain\r\n", "Accept: application/json\r\n"] {
                let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
                let answer = said_to(other, &port, &request).await;
                let says =
                    answer.starts_with("HTTP/1.1 403 ") && answer.contains("use `ssh -L` or `kubectl port-forward`");
                assert!(says && !answer.contains("example.test"), "{port}{path} {fields}: {answer}");
            }
        }
        for path in ["/livez", "/readyz", "/metrics"] {
            let answer = said_to(other, &port, &format!("GET {path} HTTP/1.1\r\nHost: danelaw.example\r\n\r\n")).await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{port}{path}: {answer}");
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let socket = lab.admin_by(settings(&format!("unix:{}", folder.path().join("admin.sock").display()))).await;
    for admin in [everywhere, loopback.parse().unwrap(), at_own, socket] {
        let (status, text) = status_of(&admin, None).await;
        assert!(status == 0 && text.starts_with("ready\n"), "{admin}: {status} {text}");
        let (status, text) = told_by("watch", &admin, None).await;
        assert!(status != 0 && text.contains("this danelaw does not watch"), "{admin}: {status} {text}");
        let (status, text) = explained(&admin, &[]).await;
        assert!(status == 1 && text.contains("is remembered"), "{admin}: {status} {text}");
        let (status, text) = told_by("report", &admin, None).await;
        assert!(status != 0 && text.contains("mail is not counted by month"), "{admin}: {status} {text}");
    }
}

/// Y5: each answer, in every form, has the same fields.
#[tokio::test]
async fn y5_every_answer_has_the_fields_against_other_sites() {
    let admin = Scenario::new().start().await.admin().await;
    for (path, kind) in [
        ("/livez", "text/plain; charset=utf-8"),
        ("/readyz", "text/plain; charset=utf-8"),
        ("/metrics", "text/plain; version=0.0.4; charset=utf-8"),
        ("/", "text/plain; charset=utf-8"),
        ("/status/", "text/plain; charset=utf-8"),
        ("/explain/", "text/plain; charset=utf-8"),
        ("/none", "text/plain; charset=utf-8"),
        ("/domains", "text/html; charset=utf-8"),
        ("/style.css", "text/css; charset=utf-8"),
    ] {
        for method in ["GET", "HEAD", "POST"] {
            let answer =
                said(&admin, &format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"))
                    .await;
            let kind = if method == "POST" { "text/plain; charset=utf-8" } else { kind };
            for field in [
                &format!("content-type: {kind}"),
                "content-security-policy: default-src 'none'; style-src 'self'; img-src 'none'; base-uri 'none'; form-action 'self'; \
                 frame-ancestors 'none'",
                "x-content-type-options: nosniff",
                "referrer-policy: no-referrer",
                "cache-control: no-store",
                "cross-origin-resource-policy: same-origin",
                "cross-origin-opener-policy: same-origin",
            ] {
                assert!(answer.contains(&format!("\r\n{field}\r\n")), "{method} {path}: {field:?} is not in {answer}");
            }
        }
    }
}

/// The text of a page in a text browser with 100 columns.
fn read_by_w3m(page: &str) -> String {
    let mut w3m = Command::new("w3m");
    w3m.args(["-dump", "-T", "text/html", "-I", "UTF-8", "-O", "UTF-8", "-cols", "100"]);
    w3m.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut w3m = w3m.spawn().expect("the package w3m, which tests/run installs");
    w3m.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let run = w3m.wait_with_output().unwrap();
    assert!(run.status.success(), "{run:?}");
    String::from_utf8(run.stdout).unwrap()
}

/// The text between two marks.
fn between<'a>(text: &'a str, begin: &str, end: &str) -> &'a str {
    let (_, rest) = text.split_once(begin).unwrap_or_else(|| panic!("no {begin:?} in {text}"));
    rest.split_once(end).unwrap_or_else(|| panic!("no {end:?} in {rest}")).0
}

/// Y14: the page claims no unknown facts. Y12: the state is in words, and one page alone is fetched anew.
#[tokio::test]
async fn y12_y14_a_danelaw_without_mail_claims_nothing() {
    let admin = Scenario::new().start().await.admin().await;
    for (path, words) in [
        ("/", "0 of 0 since then. All of them"),
        ("/domains", "None."),
        ("/domains/example.test", "No mail to this domain since danelaw has started, or not for a long time."),
        ("/refusals", "None since danelaw started."),
        ("/explain/", "No attempt that did not end in a delivery is remembered"),
        ("/watch", "This danelaw does not watch"),
        ("/tlsrpt", "This danelaw sends no TLS reports"),
    ] {
        let page = browsed(&admin, path).await;
        let (_, body) = page.split_once("\r\n\r\n").unwrap();
        let read = read_by_w3m(body);
        assert!(read.contains(words), "{path}: {words:?} is not in {read}");
        assert_eq!(body.contains("http-equiv=\"refresh\" content=\"30\""), path == "/", "{path}: {body}");
        is_valid_html(body);
    }
    let read = read_by_w3m(browsed(&admin, "/").await.split_once("\r\n\r\n").unwrap().1);
    for words in [
        "not ready · danelaw 0.",
        "· mode enforce",
        "sessions: 0 of 9000 (0.0 %)",
        "connections: 0 of 9000 (0.0 %)",
        "store: answers",
    ] {
        assert!(read.contains(words), "{words:?} is not in {read}");
    }
    // A time in UTC with its distance.
    let since = between(&read, "Counted since ", ".");
    let (stamp, ago) = since.split_once(", for ").unwrap();
    assert!(stamp.starts_with("20") && stamp.ends_with('Z') && ago.ends_with('s'), "{since}");
}

/// Y10: no address stands on a page, and no key of the configuration.
#[tokio::test]
async fn y10_no_page_has_an_address_or_a_setting() {
    let lab = Scenario::new()
        .mx(|mx| mx.rcpt = vec![say("550 5.1.1 <secret-local@example.test> is unknown")])
        .set("ehlo_name = 'secret-ehlo.example'")
        .start()
        .await;
    let admin = lab.admin().await;
    let answers = lab.client().await.send(&["secret-local@example.test"], MESSAGE).await;
    assert!(answers.last().starts_with("550 "), "{answers:?}");
    let paths = [
        "/",
        "/domains",
        "/domains?state=all",
        "/domains/example.test",
        "/refusals",
        "/explain/",
        "/watch",
        "/tlsrpt",
        "/style.css",
    ];
    for path in paths {
        for page in [browsed(&admin, path).await, get(&admin, path).await.1] {
            for secret in ["secret-", "a@client.test", "@"] {
                // The style sheet has rules that begin with one.
                assert!(path == "/style.css" || !page.contains(secret), "{path}: {secret} is in {page}");
            }
        }
    }
    let attempts = browsed(&admin, "/explain/").await;
    assert!(attempts.contains("example.test  rejected: recipient-refused"), "{attempts}");
}

/// Y11: all pages of a danelaw with as many attempts, domains and rules as it remembers, all with the longest names.
#[tokio::test]
async fn y11_every_page_has_a_bound() {
    let long = |number: usize| format!("{number:05}{}", [58, 63, 63, 61].map(|length| "x".repeat(length)).join("."));
    let tomorrow = time::OffsetDateTime::now_utc().date().next_day().unwrap();
    let rule = |number| {
        format!("[[rule]]\ndomain = '{}'\nlevel = 'encrypt'\nreason = 'x'\nuntil = '{tomorrow}'\n", long(number))
    };
    let rules: String = (0..200).map(rule).collect();
    let lab = Scenario::new().set("admin.remember = 1000").set(&rules).start().await;
    let admin = lab.admin().await;
    let reporter = lab.now().reporter.clone();
    for number in 0..10_000 {
        let name = Name::parse(&long(number)).unwrap();
        reporter.report(&Outcome {
            id: format!("{number:012X}"),
            verdict: if number % 2 == 0 { Verdict::Deferred } else { Verdict::Delivered },
            reason: (number % 2 == 0).then_some(Label::TlsaMismatch),
            text: "\"".repeat(5000),
            ..Outcome::unfinished(&name, Mode::Enforce)
        });
    }
    let last = long(9998);
    for path in [
        "/",
        "/domains",
        "/domains?state=all",
        &format!("/domains?state=all&after={}", long(5000)),
        &format!("/domains/{last}"),
        "/refusals",
        "/explain/",
        &format!("/explain/{:012X}", 9998),
        "/watch",
        "/tlsrpt",
    ] {
        let page = browsed(&admin, path).await;
        let (head, body) = page.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 ") && body.len() <= 256 * 1024, "{path}: {} octets, {head}", body.len());
        let rows = body.matches("<tr>").count().max(body.matches("<li>").count());
        assert!(rows <= 102, "{path} has {rows} rows");
        is_valid_html(body);
    }
    let attempts = browsed(&admin, "/explain/").await;
    assert!(attempts.contains("and 900 more, which <code>danelaw explain</code> lists"), "{attempts}");
    assert_eq!(get(&admin, "/explain/").await.1.lines().count(), 1000, "the command lists all");
    let (_, status) = get(&admin, "/").await;
    assert!(status.ends_with("  and 180 more: danelaw rules\n"), "{status}");
}

/// The rule on the page of a failing domain lets its mail pass.
#[tokio::test]
async fn a_rule_that_is_copied_from_the_page_lets_the_mail_pass() {
    let wrong = || Identity::for_name("other").record("3 1 1");
    for (exchange, reason) in [
        (Exchange::new("example.test", "mx1.example.test").tlsa([wrong()]), "tlsa-mismatch"),
        (
            Exchange::new("example.test", "mx1.example.test").tlsa([]).script(|mx| mx.ehlo = say("250 mx")),
            "starttls-missing",
        ),
    ] {
        let lab = Scenario::of([exchange]).start().await;
        let admin = lab.admin().await;
        assert!(lab.send().await.last().starts_with("451 "));
        let page = browsed(&admin, "/domains/example.test").await;
        let rule =
            between(&page, "<h2>A rule to copy</h2>", "</pre>").split_once("<pre>").unwrap().1.replace("&quot;", "\"");
        assert!(rule.contains(&format!("reason = \"{reason}\"")), "{rule}");
        let (_, text) = status_of(&admin, Some("example.test")).await;
        assert!(text.ends_with(&format!("\n{rule}")), "{text} without {rule}");
        lab.reload(&rule);
        assert!(lab.send().await.last().starts_with("250 "), "{rule}");
        let page = browsed(&admin, "/domains/example.test").await;
        assert!(!page.contains("A rule to copy") && page.contains("for example.test until 20"), "{page}");
    }
}

/// Requests are counted by part and result. A stranger chooses neither.
#[tokio::test]
async fn requests_are_counted() {
    let admin = Scenario::new().start().await.admin().await;
    for path in ["/livez", "/readyz", "/metrics", "/explain/", "/explain/0123456789AB", "/status/", "/none"] {
        get(&admin, path).await;
    }
    browsed(&admin, "/domains").await;
    browsed(&admin, "/style.css").await;
    said(&admin, "GET /domains HTTP/1.1\r\nHost: evil.example\r\n\r\n").await;
    said(&admin, "POST /explain/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n").await;
    let (_, metrics) = get(&admin, "/metrics").await;
    for (what, result, expected) in [
        ("health", "ok", 1.0),
        ("health", "unavailable", 1.0),
        ("metrics", "ok", 1.0),
        ("explain", "not-found", 2.0),
        ("explain", "refused", 1.0),
        ("other", "ok", 1.0),
        ("other", "not-found", 1.0),
        ("page", "ok", 2.0),
        ("page", "refused", 1.0),
    ] {
        let series = format!("danelaw_admin_requests_total{{what=\"{what}\",result=\"{result}\"}}");
        assert_eq!(value(&metrics, &series), expected, "{series}");
    }
    assert_eq!(metrics.lines().filter(|line| line.starts_with("danelaw_admin_requests_total{")).count(), 9);
}

/// The pages show the findings of the watch by severity, and the hosts of a domain with the results of the last look.
#[tokio::test]
async fn the_page_of_a_domain_has_its_hosts_and_findings() {
    let wrong = Identity::for_name("other").record("3 1 1");
    let mut lab = Scenario::new()
        .tree(|tree, _| tree.insecure("bad.test"))
        .exchange(Exchange::new("bad.test", "mx.bad.example.test").tlsa([wrong]))
        .set("[[rule]]\ndomain = 'bad.test'\nlevel = 'verify'")
        .start()
        .await;
    let toml = "watch = { every = '24h', own = ['example.test', 'bad.test', 'never.test'] }";
    let watch = std::sync::Arc::new(lab.watching(toml, None));
    lab.watch = Some(std::sync::Arc::clone(&watch));
    let admin = lab.admin().await;
    self_test(&lab).await;
    lab.send().await;
    watch.minute(&mut danelaw::watch::WatchProgress::default()).await;
    let read = |page: String| read_by_w3m(page.split_once("\r\n\r\n").unwrap().1);
    let good = read(browsed(&admin, "/domains/example.test").await);
    for part in [
        "The watch has looked at 0s ago.",
        "mx1.example.test (preference 10): DANE, usable records 3 1 1",
        "127.0.0.1: verified by a record 3 1 1, by a ",
        "none; the level is dane",
        "danelaw check example.test\ndanelaw resolve example.test MX\ndanelaw watch example.test\n",
        "one-record",
    ] {
        assert!(good.contains(part), "{part:?} is not in {good}");
    }
    let bad = read(browsed(&admin, "/domains/bad.test").await);
    for part in [
        "verify for bad.test: no reason given",
        "mx.bad.example.test (preference 10): DANE",
        "broken, tlsa-mismatch: ",
        "Words of the host may stand in this:",
        "alarm broken-now (suspected)",
        "level = \"encrypt\"\nreason = \"tlsa-mismatch\"\nuntil = \"20",
    ] {
        assert!(bad.contains(part), "{part:?} is not in {bad}");
    }
    let (status, text) = status_of(&admin, Some("bad.test")).await;
    for part in [
        "rule        verify for bad.test: no reason given\n",
        "\nhost        mx.bad.example.test (preference 10): DANE",
        "\nfinding     ",
    ] {
        assert!(status == 0 && text.contains(part), "{part:?} is not in {text}");
    }
    let state = read(browsed(&admin, "/").await);
    let (_, text) = status_of(&admin, None).await;
    let counts = between(&text, "findings of the watch: ", " (danelaw watch)");
    assert!(state.contains(&format!("Findings of the watch: {counts}")), "{counts} is not in {state}");
}
