//! Negative trust anchors (RFC 7646): below them answers are insecure, in both modes, and everywhere else nothing changes.

use danelaw::admin::client::ask;
use danelaw::dns::server::ResolverMode;
use danelaw::dns::setup::ResolverSettings;
use danelaw::dns::stub::Stub;
use danelaw::dns::{Answer, FailureReason, HostLookup, NegativeTrustAnchor, NegativeTrustAnchors, Resolver, Security};
use danelaw::last_day::LastDay;
use danelaw::name::Name;
use hickory_resolver::proto::op::{Message, ResponseCode};
use serde_json::Value;
use time::{Duration, OffsetDateTime};

use crate::lab::dns::{DnsLab, Fault, Tree};
use crate::lab::{Lab, MESSAGE, Scenario};
use crate::process::{Said, danelaw, said};

const EE: &str = "3 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// In so many days.
fn day(days: i64) -> LastDay {
    LastDay((OffsetDateTime::now_utc() + Duration::days(days)).date())
}

pub(crate) fn anchor(zone: &str, days: i64) -> NegativeTrustAnchors {
    NegativeTrustAnchors(vec![NegativeTrustAnchor { zone: name(zone), reason: "x".to_owned(), until: day(days) }])
}

/// The same in the configuration.
fn configured(zone: &str, days: i64) -> String {
    format!("negative_trust_anchor = [{{ zone = '{zone}', reason = 'ticket 4711', until = '{}' }}]", day(days))
}

/// A secure zone of which each signature is broken, and one beside it that is not.
fn tree() -> Tree {
    let broken = |tree: Tree, (owner, rtype)| tree.fault(owner, rtype, Fault::BogusSignature);
    let tree = Tree::new()
        .secure("sec.test")
        .a("mx.sec.test", "192.0.2.1")
        .a("ok.sec.test", "192.0.2.9")
        .secure("broken.test")
        .mx("broken.test", 10, "mx.broken.test")
        .a("mx.broken.test", "192.0.2.2")
        .tlsa("mx.broken.test", 25, EE)
        .cname("alias.broken.test", "mx.sec.test")
        .cname("to.sec.test", "mx.broken.test");
    let spoiled = [
        ("broken.test", "MX"),
        ("mx.broken.test", "A"),
        ("mx.broken.test", "AAAA"),
        ("_25._tcp.mx.broken.test", "TLSA"),
        ("alias.broken.test", "A"),
        ("alias.broken.test", "AAAA"),
        ("no.broken.test", "A"),
        ("broken.test", "DNSKEY"),
    ];
    spoiled.into_iter().fold(tree, broken)
}

async fn resolver(lab: &DnsLab, mode: ResolverMode, negative: NegativeTrustAnchors) -> Stub {
    let stub = Stub::new(&ResolverSettings { mode, negative, ..lab.settings() }).unwrap();
    stub.self_test().await;
    stub
}

async fn addresses(dns: &Stub, host: &str) -> Result<(Security, usize), FailureReason> {
    match dns.host(&name(host)).await.map_err(|failure| failure.reason)? {
        HostLookup::Found(host) => Ok((host.security(), host.addresses.len())),
        HostLookup::NoAddress(_) | HostLookup::NotInFamily(_) => Ok((Security::Secure, 0)),
    }
}

#[tokio::test]
async fn bogus_is_insecure_below_the_zone_and_nowhere_else() {
    // A24.
    let lab = tree().start().await;
    let dns = resolver(&lab, ResolverMode::Validate, anchor("broken.test", 1)).await;
    let mx = dns.mx(&name("broken.test")).await.unwrap();
    assert_eq!((mx.security(), mx.answer.records().len()), (Security::Insecure, 1));
    assert_eq!(addresses(&dns, "mx.broken.test").await, Ok((Security::Insecure, 1)));
    let tlsa = dns.tlsa(&name("_25._tcp.mx.broken.test")).await.unwrap();
    assert_eq!((tlsa.security(), tlsa.answer.records().len()), (Security::Insecure, 1));
    // MX, A, AAAA and TLSA; from here on names beside the anchor.
    assert_eq!(dns.negative_anchor_answers(), 4);
    assert_eq!(addresses(&dns, "mx.sec.test").await, Ok((Security::Secure, 1)));
    assert_eq!(dns.negative_anchor_answers(), 4);
    // Each link has a status of its own (RFC 7672 §2.1.3).
    assert_eq!(addresses(&dns, "alias.broken.test").await, Ok((Security::Insecure, 1)));
    assert_eq!(addresses(&dns, "to.sec.test").await, Ok((Security::Insecure, 1)));
    assert_eq!(addresses(&dns, "ok.sec.test").await, Ok((Security::Secure, 1)));
    // Nothing below the zone is validated: no keys are asked for.
    let asked = lab.asked();
    assert!(!asked.iter().any(|question| question.starts_with("broken.test. D")), "{asked:?}");
    // The day after, and for a zone that has another name, it is bogus.
    for negative in [anchor("broken.test", -1), anchor("roken.test", 1), anchor("mx.broken.tes", 1)] {
        let dns = resolver(&lab, ResolverMode::Validate, negative).await;
        assert!(matches!(addresses(&dns, "mx.broken.test").await, Err(FailureReason::Bogus(_))));
        assert!(matches!(
            dns.mx(&name("broken.test")).await.map_err(|failure| failure.reason),
            Err(FailureReason::Bogus(_))
        ));
    }
    // Below the apex of the zone that signs: the place of a name decides, and not its signer.
    let dns = resolver(&lab, ResolverMode::Validate, anchor("mx.broken.test", 1)).await;
    assert_eq!(addresses(&dns, "mx.broken.test").await, Ok((Security::Insecure, 1)));
    assert!(matches!(
        dns.mx(&name("broken.test")).await.map_err(|failure| failure.reason),
        Err(FailureReason::Bogus(_))
    ));
}

#[tokio::test]
async fn a_secure_answer_is_insecure_below_the_zone() {
    // RFC 7646 §2: the same for good signatures, as the operator wants it.
    let lab = tree().start().await;
    let dns = resolver(&lab, ResolverMode::Validate, anchor("sec.test", 1)).await;
    assert_eq!(addresses(&dns, "ok.sec.test").await, Ok((Security::Insecure, 1)));
    let denied = dns.mx(&name("no.sec.test")).await.unwrap();
    assert_eq!((denied.security(), denied.answer), (Security::Insecure, Answer::NxDomain));
}

#[tokio::test]
async fn an_answer_that_fits_no_question_stays_a_failure() {
    let foreign = Fault::Denial(ResponseCode::NXDomain, "plain.test");
    let lab = tree()
        .insecure("plain.test")
        .fault("a.broken.test", "A", foreign.clone())
        .fault("a.broken.test", "AAAA", foreign)
        .fault("b.broken.test", "A", Fault::Rcode(ResponseCode::ServFail))
        .fault("b.broken.test", "AAAA", Fault::Rcode(ResponseCode::ServFail))
        .fault("c.broken.test", "A", Fault::Answer(vec![("d.broken.test", "A", "192.0.2.7")]))
        .start()
        .await;
    let dns = resolver(&lab, ResolverMode::Validate, anchor("broken.test", 1)).await;
    assert!(matches!(addresses(&dns, "a.broken.test").await, Err(FailureReason::Bogus(_))));
    assert!(matches!(addresses(&dns, "b.broken.test").await, Err(FailureReason::Refused(_))));
    assert!(matches!(addresses(&dns, "c.broken.test").await, Err(FailureReason::Malformed(_))));
}

/// SERVFAIL without CD.
fn kept_back(reply: &mut Message) {
    if !reply.metadata.checking_disabled {
        reply.answers.clear();
        reply.authorities.clear();
        reply.metadata.response_code = ResponseCode::ServFail;
    }
}

#[tokio::test]
async fn an_ad_bit_counts_for_nothing_below_the_zone() {
    // The server validates: it keeps bogus answers back unless it is asked with CD.
    let refused = |tree: Tree, owner| {
        tree.fault(owner, "A", Fault::Tamper(kept_back)).fault(owner, "AAAA", Fault::Tamper(kept_back))
    };
    let tree = Tree::new().vouches().secure("sec.test").a("mx.sec.test", "192.0.2.1").a("bad.sec.test", "192.0.2.2");
    let lab = refused(tree, "bad.sec.test").start().await;
    let dns = resolver(&lab, ResolverMode::TrustAd, anchor("sec.test", 1)).await;
    assert_eq!(addresses(&dns, "mx.sec.test").await, Ok((Security::Insecure, 1)));
    assert_eq!(addresses(&dns, "bad.sec.test").await, Ok((Security::Insecure, 1)));
    let dns = resolver(&lab, ResolverMode::TrustAd, anchor("sec.test", -1)).await;
    assert_eq!(addresses(&dns, "mx.sec.test").await, Ok((Security::Secure, 1)));
    assert!(matches!(addresses(&dns, "bad.sec.test").await, Err(FailureReason::Refused(_))));
}

/// `cluster.local` as the resolver of a cluster serves it: unsigned, below a name that the root denies.
fn cluster(tree: Tree) -> Tree {
    tree.fault("mta.cluster.local", "MX", Fault::Answer(vec![("mta.cluster.local", "MX", "10 mx.cluster.local.")]))
        .fault("mx.cluster.local", "A", Fault::Answer(vec![("mx.cluster.local", "A", "127.0.0.1")]))
        .fault("mx.cluster.local", "AAAA", Fault::Denial(ResponseCode::NoError, "cluster.local"))
        .fault("no.cluster.local", "MX", Fault::Denial(ResponseCode::NXDomain, "cluster.local"))
}

async fn sent(negative: &str, to: &str) -> (Lab, String) {
    let scenario = Scenario::new().tree(|tree, _| cluster(tree)).set(negative);
    let lab = scenario.start().await;
    let answer = lab.client().await.send(&[to], MESSAGE).await.last().to_owned();
    (lab, answer)
}

#[tokio::test]
async fn names_of_a_cluster_are_asked_for_and_their_mail_goes_unverified() {
    let (lab, answer) = sent(&configured("cluster.local", 30), "b@mta.cluster.local").await;
    assert!(answer.starts_with("250 "), "{answer}");
    assert_eq!(lab.mx().messages().len(), 1);
    let metrics = ask(&lab.admin().await, "/metrics").await.unwrap().1;
    let counted = metrics.lines().find(|line| line.starts_with("danelaw_negative_trust_anchor_answers_total "));
    assert!(counted.is_some_and(|line| !line.ends_with(" 0")), "{metrics}");
    assert!(metrics.contains("policy=\"encrypt\",protection=\"encrypted\"} 1\n"), "{metrics}");
    // Without it they are names of special use, which the root denies.
    for (negative, days) in [("other.local", 30), ("cluster.local", -1)] {
        let (lab, answer) = sent(&configured(negative, days), "b@mta.cluster.local").await;
        assert!(answer.starts_with("550 5.4.4 "), "{negative}: {answer}");
        assert_eq!(lab.mx().connections(), 0);
    }
}

#[tokio::test]
async fn a_broken_domain_takes_mail_and_is_never_verified() {
    let spoil = |tree: Tree, port: u16| {
        tree.fault("example.test", "MX", Fault::BogusSignature)
            .fault("mx1.example.test", "A", Fault::BogusSignature)
            .fault("mx1.example.test", "AAAA", Fault::BogusSignature)
            .fault(&format!("_{port}._tcp.mx1.example.test"), "TLSA", Fault::BogusSignature)
    };
    let scenario = |days| Scenario::new().tree(spoil).set(&configured("example.test", days));
    let lab = scenario(1).start().await;
    assert!(lab.send().await.last().starts_with("250 "));
    let metrics = ask(&lab.admin().await, "/metrics").await.unwrap().1;
    assert!(metrics.contains("policy=\"encrypt\",protection=\"encrypted\"} 1\n"), "{metrics}");
    assert!(
        !lab.dns.asked().iter().any(|question| question.ends_with("TLSA")),
        "insecure addresses have no TLSA question"
    );
    let lab = scenario(-1).start().await;
    assert!(lab.send().await.last().starts_with("451 4.4.3 "));
    // Where the level wants DANE, there is no mail without it.
    let lab = scenario(1).set("tls.level = 'dane-only'").start().await;
    assert!(lab.send().await.last().starts_with("451 4.7."));
}

/// The exit status and the output of a command that asks the lab.
async fn run(lab: &DnsLab, negative: &str, arguments: &[&str]) -> (i32, String) {
    let mut command = danelaw();
    let server = format!("dns.servers=[\"{}\"]", lab.addr);
    command.args(arguments).args(["--set", &server, "--set", &negative.replacen(" = ", "=", 1).replace('\'', "\"")]);
    command.arg("--set").arg(format!("dns.trust_anchor={}", lab.anchor_file.display()));
    command.args(["--set", "hostname=danelaw.test"]);
    let Said { status, out, .. } = said(command, "").await;
    (status, out)
}

#[tokio::test]
async fn commands_show_the_zone_and_the_reason() {
    let lab = tree().start().await;
    let negative = configured("broken.test", 30);
    let why = format!("negative trust anchor for broken.test until {}: ticket 4711", day(30));
    let (status, text) = run(&lab, &negative, &["resolve", "mx.broken.test", "A"]).await;
    assert_eq!((status, text), (1, format!("mx.broken.test A: insecure ({why})\n  192.0.2.2 (insecure)\n")));
    let (_, text) = run(&lab, &negative, &["resolve", "to.sec.test", "A", "--json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["negative_trust_anchor"], Value::from(why.clone()));
    let (_, text) = run(&lab, &negative, &["resolve", "ok.sec.test", "A", "--json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["negative_trust_anchor"], Value::Null);
    let (_, text) = run(&lab, &negative, &["check", "--no-connect", "broken.test"]).await;
    assert!(text.contains(&format!("MX broken.test: insecure ({why})\n")), "{text}");
    assert!(text.contains(&format!("address 192.0.2.2: insecure ({why})\n")), "{text}");
    let (_, text) = run(&lab, &negative, &["check", "--no-connect", "--json", "broken.test"]).await;
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["mx"]["negative_trust_anchor"], Value::from(why.clone()));
    assert_eq!(report["exchanges"][0]["lookup"]["negative_trust_anchor"], Value::from(why));
    for (days, status, end) in [(30, 0, "(30 days left)"), (3, 1, "(3 days left) ENDS SOON"), (-1, 1, "HAS ENDED")] {
        let (found, text) = run(&lab, &configured("broken.test", days), &["rules"]).await;
        let line = format!(
            "broken.test and below: negative trust anchor, {} {} {end}\n  ticket 4711\n",
            if days < 0 { "ended on" } else { "until" },
            day(days)
        );
        assert!(found == status && text.ends_with(&line), "{found} {text}");
    }
    let (_, text) = run(&lab, &configured("broken.test", 3), &["rules", "--json"]).await;
    let row: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!((&row["negative_trust_anchor"], &row["ends_soon"]), (&"broken.test".into(), &true.into()));
    for (arguments, status) in [(&["config", "check"][..], 78), (&["config", "check", "--allow-ended-rules"], 0)] {
        assert_eq!(run(&lab, &configured("broken.test", -1), arguments).await.0, status, "{arguments:?}");
    }
}
