//! `danelaw resolve` as a program: its output and its exit status.

use crate::lab::dns::{DnsLab, Fault, Tree};
use crate::process::{Said, danelaw, said};
use hickory_resolver::proto::rr::RData;
use hickory_resolver::proto::rr::rdata::TXT;
use serde_json::{Value, json};

const EE: &str = "3 1 1 0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF";

fn tree() -> Tree {
    Tree::new()
        .secure("sec.test")
        .insecure("plain.test")
        .mx("sec.test", 10, "mx.sec.test")
        .a("mx.sec.test", "192.0.2.1")
        .tlsa("mx.sec.test", 25, EE)
        .a("xn--bcher-kva.sec.test", "192.0.2.2")
        .a("mx.plain.test", "192.0.2.3")
        .cname("alias.sec.test", "mx.plain.test")
        .rdata("sec.test", RData::TXT(TXT::new(vec!["odd\u{1b}[2J".to_owned()])))
        .fault("broken.sec.test", "A", Fault::Stripped)
        .fault("silent.sec.test", "A", Fault::Drop)
}

/// The exit status and the output.
async fn resolve(lab: &DnsLab, arguments: &[&str], input: &str) -> (i32, String) {
    let mut command = danelaw();
    command.args(["resolve", "--server", &lab.addr.to_string(), "--trust-anchor"]).arg(&lab.anchor_file);
    command.args(["--set", "dns.timeout=1s", "--set", "dns.attempts=1"]).args(arguments);
    let Said { status, out, .. } = said(command, input).await;
    (status, out)
}

#[tokio::test]
async fn each_outcome_has_its_text_and_its_status() {
    let lab = tree().start().await;
    for (name, rtype, status, text) in [
        ("sec.test", "MX", 0, "sec.test MX: secure\n  10 mx.sec.test. (secure)\n"),
        ("MX.sec.test.", "a", 0, "mx.sec.test A: secure\n  192.0.2.1 (secure)\n"),
        ("_25._tcp.mx.sec.test", "TLSA", 0, &format!("_25._tcp.mx.sec.test TLSA: secure\n  {EE} (secure)\n")),
        ("mx.sec.test", "TLSA", 0, "mx.sec.test TLSA: secure\n  the name has no such records (secure)\n"),
        ("no.sec.test", "A", 0, "no.sec.test A: secure\n  the name does not exist (secure)\n"),
        ("mx.plain.test", "A", 1, "mx.plain.test A: insecure\n  192.0.2.3 (insecure)\n"),
        (
            "alias.sec.test",
            "A",
            1,
            "alias.sec.test A: insecure\n  alias.sec.test is an alias of mx.plain.test (secure)\n  192.0.2.3 (insecure)\n",
        ),
        ("alias.sec.test", "CNAME", 0, "alias.sec.test CNAME: secure\n  mx.plain.test. (secure)\n"),
        // M7, D9.
        ("b\u{fc}cher.sec.test", "A", 0, "xn--bcher-kva.sec.test A: secure\n  192.0.2.2 (secure)\n"),
        ("silent.sec.test", "A", 3, "silent.sec.test A: failed\n  no answer within the time limit\n"),
    ] {
        assert_eq!(resolve(&lab, &[name, rtype], "").await, (status, text.to_owned()), "{name} {rtype}");
    }
    let (status, text) = resolve(&lab, &["broken.sec.test", "A"], "").await;
    assert!(status == 3 && text.starts_with("broken.sec.test A: failed\n  DNSSEC validation failed"), "{text}");
    // the data of an attacker's zone stays on its line, and sends no control characters to the terminal.
    let (status, text) = resolve(&lab, &["sec.test", "TXT"], "").await;
    assert!(status == 0 && text.contains("odd\\u{1b}[2J"), "{text:?}");
}

#[tokio::test]
async fn an_ad_bit_of_a_resolver_that_does_not_validate() {
    // A2, A3: the tree's resolver passes records on and validates none; danelaw does not trust it.
    let lab = tree().start().await;
    let (status, text) = resolve(&lab, &["mx.sec.test", "A", "--mode", "trust-ad"], "").await;
    assert!(status == 3 && text.starts_with("mx.sec.test A: failed\n"), "{status} {text}");
    assert_eq!(resolve(&lab, &["mx.sec.test", "A", "--mode", "validate"], "").await.0, 0);
    assert_eq!(resolve(&lab, &["mx.sec.test", "A", "--mode", "trust"], "").await.0, 64);
}

#[tokio::test]
async fn many_questions_are_answered_in_their_order() {
    let lab = tree().start().await;
    let input =
        "silent.sec.test A\nsec.test MX\n  alias.sec.test\tA \nno.sec.test A\na..b MX\nsec.test WHAT\nsec.test\n";
    let (status, text) = resolve(&lab, &["-", "--json"], input).await;
    assert_eq!(status, 3);
    let answers: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let short: Vec<_> = answers.iter().map(|answer| [&answer["name"], &answer["security"], &answer["kind"]]).collect();
    assert_eq!(
        short,
        [
            ["silent.sec.test", "failed", "failure"],
            ["sec.test", "secure", "answer"],
            ["alias.sec.test", "insecure", "answer"],
            ["no.sec.test", "secure", "nxdomain"],
            ["a..b", "failed", "failure"],
            ["sec.test", "failed", "failure"],
            ["sec.test", "failed", "failure"],
        ]
    );
    let alias = json!({
        "name": "alias.sec.test", "type": "A", "security": "insecure", "kind": "answer", "records": ["192.0.2.3"],
        "aliases": [{"owner": "alias.sec.test", "target": "mx.plain.test", "security": "secure"}], "reason": null,
        "negative_trust_anchor": null,
    });
    assert_eq!(answers[2], alias);
    assert_eq!(answers[0]["reason"], "no answer within the time limit");
    // The exit status is that of the worst answer.
    assert_eq!(resolve(&lab, &["-"], "sec.test MX\nmx.plain.test A\n").await.0, 1);
    assert_eq!(resolve(&lab, &["-"], "sec.test MX\n").await.0, 0);
}

#[tokio::test]
async fn an_argument_that_is_no_question_is_an_error_of_its_own() {
    let lab = tree().start().await;
    for arguments in
        [&["sec.test"][..], &["sec.test", "WHAT"], &["-", "MX"], &["sec.test", "MX", "--server", "dns.example"]]
    {
        assert_eq!(resolve(&lab, arguments, "").await.0, 64, "{arguments:?}");
    }
    assert_eq!(resolve(&lab, &["sec.test", "MX", "--set", "dns.deadline=1ms"], "").await.0, 78);
}
