//! `danelaw tlsrpt read --check`: the policy of a report beside the policy that is published now.

use std::fs;

use serde_json::{Value, json};

use crate::lab::dns::{DnsLab, Tree};
use crate::process::{Said, danelaw, said};

const SEEN: &str = "3 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const NOW: &str = "3 1 1 fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";

fn policy(kind: &str, domain: &str, strings: &[&str], hosts: &[&str]) -> Value {
    json!({
        "policy": { "policy-type": kind, "policy-domain": domain, "policy-string": strings, "mx-host": hosts },
        "summary": { "total-successful-session-count": 1, "total-failure-session-count": 0 },
    })
}

/// The policies of the report as the program tells them, and its exit status.
async fn read(lab: &DnsLab, policies: Value, flags: &[&str]) -> (i32, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.json");
    fs::write(&file, json!({"organization-name": "Example", "policies": policies}).to_string()).unwrap();
    let mut command = danelaw();
    let server = format!("dns.servers=[\"{}\"]", lab.addr);
    let anchor = format!("dns.trust_anchor={}", lab.anchor_file.display());
    command.args(["tlsrpt", "read", "--config", "/dev/null", "--set", &server, "--set", &anchor]);
    command.args(["--set", "dns.timeout=1s", "--set", "dns.attempts=1"]).args(flags).arg(file);
    let Said { status, out, .. } = said(command, "").await;
    (status, out)
}

#[tokio::test]
async fn u9_the_policy_of_a_report_is_compared_by_check_alone() {
    let tree = Tree::new().secure("sec.test").insecure("plain.test");
    let tree = tree.tlsa("same.sec.test", 25, SEEN).tlsa("new.sec.test", 25, NOW).tlsa("mx.plain.test", 25, SEEN);
    let tree = tree.mx("mail.sec.test", 5, "new.sec.test").mx("mail.sec.test", 10, "same.sec.test");
    let lab = tree.record("_mta-sts.sec.test", "TXT", "\"v=STSv1; id=1;\"").start().await;
    for (kind, domain, strings, hosts, expected) in [
        ("tlsa", "same.sec.test", &[SEEN][..], &[][..], json!({"result": "same"})),
        (
            "tlsa",
            "new.sec.test",
            &[SEEN],
            &[],
            json!({"result": "changed", "gone": [SEEN.to_uppercase()], "new": [NOW.to_uppercase()]}),
        ),
        // The recipient domain alone: its exchanges are hosts that the report may be about.
        ("tlsa", "mail.sec.test", &[SEEN], &[], json!({"result": "same"})),
        (
            "tlsa",
            "gone.sec.test",
            &[SEEN],
            &[],
            json!({"result": "unknown", "why": "no host that the report names has signed TLSA records"}),
        ),
        // The recipient domain, with its host beside it.
        ("tlsa", "sec.test", &[SEEN], &["same.sec.test"], json!({"result": "same"})),
        ("tlsa", "same.sec.test", &[], &[], json!({"result": "untold"})),
        (
            "sts",
            "none.sec.test",
            &["version: STSv1"],
            &[],
            json!({"result": "changed", "gone": ["version: STSv1"], "new": []}),
        ),
        ("no-policy-found", "sec.test", &[], &[], Value::Null),
        ("tlsa", "$(reboot)", &[SEEN], &["192.0.2.1"], Value::Null),
    ] {
        let policies = json!([policy(kind, domain, strings, hosts)]);
        let (status, out) = read(&lab, policies, &["--check", "--json"]).await;
        let line: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"));
        assert_eq!((status, &line["policies"][0]["published"]), (0, &expected), "{kind} {domain}");
    }
    for (kind, domain, why) in [
        ("tlsa", "mx.plain.test", "no host that the report names has signed TLSA records"),
        ("sts", "sec.test", "The policy that is published now is not known: "),
    ] {
        let (_, out) = read(&lab, json!([policy(kind, domain, &[SEEN], &[])]), &["--check"]).await;
        assert!(out.contains(why), "{out}");
    }
    let (_, out) = read(&lab, json!([policy("tlsa", "other.sec.test", &[SEEN], &[])]), &["--json"]).await;
    assert!(!lab.was_asked("_25._tcp.other.sec.test", "TLSA") && !out.contains("published"), "{out}");
}
