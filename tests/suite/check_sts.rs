//! `danelaw check` on domains with policies of MTA-STS. The policy hosts are at port 443 of loopback, each at an address of its own.

use crate::certificates::pem;
use crate::check::{check, kinds};
use crate::lab::certs::{Authority, Identity};
use crate::lab::dns::Tree;
use crate::lab::exchange::Exchange;
use crate::lab::policy_host::{Answer, PolicyHost, served};
use crate::lab::{Lab, Scenario};
use crate::process::Said;
use danelaw::roots::Roots;
use serde_json::Value;
use time::OffsetDateTime;

const TXT: &str = "\"v=STSv1; id=1;\"";
const OTHER_TXT: &str = "\"v=STSv1; id=2;\"";

/// A domain, one exchange with a certificate of the lab's CA, and the policy host.
struct Bed {
    lab: Lab,
    host: PolicyHost,
    /// The file of the CA.
    roots: tempfile::NamedTempFile,
}

impl Bed {
    /// `domain` is `plain.test`, which is unsigned, or `example.test`. `address` is that of the policy host.
    async fn new(domain: &str, address: &str, text: &str) -> Self {
        let ca = Identity::authority();
        let policy_host = ca.issue_with(&format!("mta-sts.{domain}"), |certificate| {
            certificate.not_after = OffsetDateTime::now_utc() + time::Duration::days(400) + time::Duration::hours(1);
        });
        Self::with(ca, policy_host, Domain { domain, address, text, records: &[TXT] }).await
    }

    async fn with(ca: Authority, policy_host: Identity, at: Domain<'_>) -> Self {
        let Domain { domain, address, text, records } = at;
        let identity = ca.issue(&format!("mx1.{domain}"));
        let host = PolicyHost::start_at(&format!("{address}:443"), &policy_host, Answer::Say(served(text))).await;
        let exchange = Exchange::new(domain, &format!("mx1.{domain}")).tlsa([]);
        let scenario = Scenario::with_domain(|tree: Tree, _| tree.insecure("plain.test"))
            .exchange(exchange.script(|mx| mx.identity = identity))
            .roots(Roots::of(vec![ca.certificate.clone()]))
            .policy_hosts(443)
            .tree(|tree, _| {
                let tree = tree.a(&format!("mta-sts.{domain}"), address);
                records.iter().fold(tree, |tree, text| tree.record(&format!("_mta-sts.{domain}"), "TXT", text))
            });
        let roots = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(roots.path(), pem("CERTIFICATE", &ca.certificate)).unwrap();
        Self { lab: scenario.start().await, host, roots }
    }

    async fn check(&self, toml: &str, arguments: &[&str]) -> Said {
        let toml = format!("tls.ca = '{}'\n{toml}", self.roots.path().display());
        check(&self.lab, &toml, arguments, "").await
    }

    async fn judged(&self, toml: &str, arguments: &[&str]) -> Value {
        self.check(toml, &[arguments, &["--json"]].concat()).await.object()
    }
}

struct Domain<'a> {
    domain: &'a str,
    address: &'a str,
    text: &'a str,
    /// The TXT records.
    records: &'a [&'a str],
}

fn policy(mode: &str, mx: &str) -> String {
    format!("version: STSv1\nmode: {mode}\nmx: {mx}\nmax_age: 604800\n")
}

#[tokio::test]
async fn a_policy_is_fetched_once_and_decides_the_verdict() {
    let bed = Bed::new("plain.test", "127.0.43.1", &policy("enforce", "*.plain.test")).await;
    let found = bed.judged("", &["plain.test"]).await;
    assert_eq!((&found["verdict"], &found["sts"]["found"]), (&"verified".into(), &"enforce".into()));
    assert_eq!((&found["sts"]["record"], &found["sts"]["running"]), (&"insecure".into(), &Value::Null));
    assert_eq!((&found["sts"]["certificate_days_left"], kinds(&found).len()), (&400.into(), 0));
    assert_eq!(bed.host.connections(), 1);
    // A rule is compared with the default level, for which no other fetch is made.
    let rule = "[[rule]]\ndomain = 'plain.test'\nlevel = 'verify'\n";
    let found = bed.judged(rule, &["plain.test"]).await;
    assert_eq!((&found["rule"]["need"], bed.host.connections()), (&"stricter".into(), 2));
    // Without a connection to the exchange the policy is known all the same.
    let sessions = bed.lab.mx().connections();
    let found = bed.judged("", &["plain.test", "--no-connect"]).await;
    assert_eq!((&found["verdict"], bed.host.connections(), bed.lab.mx().connections()), (&"sts".into(), 3, sessions));
    let said = bed.check("", &["plain.test"]).await;
    let line = "├─ MTA-STS mode enforce, 1 (fetched 0s ago), TXT record insecure, holds for 7days: *.plain.test; the policy \
                host's certificate ends in 400 days\n";
    assert!(said.out.contains(line), "{}", said.out);
}

#[tokio::test]
async fn p16_a_word_of_the_dns_that_may_be_forged_is_not_the_last_one() {
    // P16: as a delivery, by the names and by the addresses of the exchanges.
    let settings = ["remote.own_names = ['mx1.plain.test']", "remote.own_addresses = ['127.0.0.1']"];
    for (mode, address, verdict, reason, status) in [
        ("enforce", "127.0.43.21", "deferred", "sts-unsigned-dns", 4),
        ("testing", "127.0.43.22", "rejected", "mail-loop", 5),
    ] {
        let bed = Bed::new("plain.test", address, &policy(mode, "*.plain.test")).await;
        for toml in settings {
            let said = bed.check(toml, &["plain.test", "--json"]).await;
            let found = said.object();
            let told = (&found["verdict"], &found["refusal"]["reason"], said.status);
            assert_eq!(told, (&verdict.into(), &reason.into(), status), "{toml}: {found}");
        }
    }
}

#[tokio::test]
async fn p12_a_host_that_is_not_listed_is_refused_without_a_connection_too() {
    // P12.
    let bed = Bed::new("plain.test", "127.0.43.2", &policy("enforce", "*.mx.plain.test")).await;
    for arguments in [&["plain.test"][..], &["plain.test", "--no-connect"]] {
        let found = bed.judged("", arguments).await;
        assert_eq!((&found["verdict"], &found["refusal"]["reason"]), (&"deferred".into(), &"mx-not-in-policy".into()));
        assert_eq!(kinds(&found), ["sts-mx-not-listed"]);
    }
    assert_eq!(bed.lab.mx().connections(), 0);
}

#[tokio::test]
async fn advice_on_the_text_of_a_policy() {
    let text = format!("{}mx: 192.0.2.1\nmx: [2001:db8::1]\nmx: *\n", policy("testing", "mx1.plain.test"));
    let bed = Bed::new("plain.test", "127.0.43.3", &text.replace("604800", "3600")).await;
    let found = bed.judged("", &["plain.test"]).await;
    let expected = ["sts-testing", "sts-short-max-age", "sts-ip-as-mx", "sts-ip-as-mx", "sts-unusable-mx"];
    assert_eq!((&found["verdict"], kinds(&found)), (&"encrypted".into(), expected.to_vec()));
}

#[tokio::test]
async fn advice_on_records_and_the_policy_hosts_certificate() {
    for (address, days, records, expected) in [
        ("127.0.43.4", 13, &[TXT][..], vec!["sts-certificate-ends"]),
        ("127.0.43.5", 14, &[TXT], vec![]),
        ("127.0.43.6", 90, &[TXT, OTHER_TXT], vec!["sts-several-records"]),
        ("127.0.43.11", 90, &["\"v=STSv1; id=2026-11-29\""], vec!["sts-bad-record"]),
        ("127.0.43.12", 90, &["\"v=STSv1;\""], vec!["sts-bad-record"]),
    ] {
        let ca = Identity::authority();
        let policy_host = ca.issue_with("mta-sts.plain.test", |certificate| {
            certificate.not_after = OffsetDateTime::now_utc() + time::Duration::days(days) + time::Duration::hours(1);
        });
        let text = policy("enforce", "mx1.plain.test");
        let bed = Bed::with(ca, policy_host, Domain { domain: "plain.test", address, text: &text, records }).await;
        let found = bed.judged("", &["plain.test"]).await;
        assert_eq!(kinds(&found), expected, "{address}: {found}");
    }
}

#[tokio::test]
async fn dane_that_passes_where_the_policy_would_not() {
    // The signed domain's exchange has TLSA records for a certificate of no public CA.
    for (address, identity, expected) in [
        ("127.0.43.7", None, vec!["one-record", "sts-contradicts-dane"]),
        ("127.0.43.8", Some("mx1.example.test"), vec!["one-record"]),
    ] {
        let ca = Identity::authority();
        let identity = identity.map_or_else(|| Identity::for_name("mx1.example.test"), |name| ca.issue(name));
        let host = ca.issue("mta-sts.example.test");
        let text = policy("enforce", "*.example.test");
        let host = PolicyHost::start_at(&format!("{address}:443"), &host, Answer::Say(served(&text))).await;
        let exchange = Exchange::new("example.test", "mx1.example.test").identity(identity, "3 1 1");
        let scenario = Scenario::of([exchange])
            .tree(|tree, _| tree.a("mta-sts.example.test", address).record("_mta-sts.example.test", "TXT", TXT));
        let roots = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(roots.path(), pem("CERTIFICATE", &ca.certificate)).unwrap();
        let bed = Bed { lab: scenario.start().await, host, roots };
        let found = bed.judged("", &["example.test"]).await;
        assert_eq!((&found["verdict"], kinds(&found)), (&"verified".into(), expected));
        assert_eq!((&found["sts"]["found"], bed.host.connections()), (&"enforce".into(), 1));
    }
}

#[tokio::test]
async fn the_policy_of_a_danelaw_that_runs_is_compared() {
    let bed = Bed::new("plain.test", "127.0.43.9", &policy("enforce", "*.plain.test")).await;
    let admin = bed.lab.admin().await;
    let toml = format!("admin.address = '{admin}'");
    let found = bed.judged(&toml, &["plain.test"]).await;
    assert_eq!(found["sts"]["running"], Value::Null, "it has none");
    bed.lab.client().await.send(&["b@plain.test"], crate::lab::MESSAGE).await;
    let found = bed.judged(&toml, &["plain.test"]).await;
    assert_eq!((&found["sts"]["running"], kinds(&found).len()), (&Value::Null, 0), "it has the same");
    bed.host.answer(Answer::Say(served(&policy("testing", "*.plain.test"))));
    let found = bed.judged(&toml, &["plain.test"]).await;
    let running = found["sts"]["running"].as_str().unwrap();
    assert!(running.starts_with("another MTA-STS policy: mode enforce, 1 (fetched "), "{running}");
    assert_eq!(kinds(&found), ["sts-testing", "sts-id-unchanged"]);
    let said = bed.check(&toml, &["plain.test"]).await;
    assert!(
        said.out.contains("├─ the danelaw that runs has another MTA-STS policy: mode enforce, 1 (fetched "),
        "{}",
        said.out
    );
}
