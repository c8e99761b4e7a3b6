//! Delivery by MTA-STS policies (RFC 8461), and the levels that ask for public CAs, with policies that are simply there. The
//! suite `mta_sts` has the policy host.

use std::sync::Arc;

use crate::lab::certs::{Authority, Identity};
use crate::lab::dns::{Fault, Tree};
use crate::lab::exchange::Exchange;
use crate::lab::mx::say;
use crate::lab::policy_host::{Answer, PolicyHost, served};
use crate::lab::sts::{Policies, absent, denied_by_fallback, failed, policy, unfetched};
use crate::lab::{Lab, MESSAGE, Scenario};
use crate::log::captured;
use crate::starttls::knows_no_name;
use crate::tlsrpt::told;
use danelaw::admin::client::ask;
use danelaw::discovery::StsFound;
use danelaw::dns::FailureReason;
use danelaw::mta_sts::StsFetchError;
use danelaw::roots::Roots;
use danelaw::scarce::Scarcity;
use hickory_resolver::proto::op::ResponseCode;

/// The unsigned domain of most scenarios.
const PLAIN: &str = "plain.test";

/// A CA that is known, and exchanges of an unsigned domain without TLSA records, in the order of their names.
struct Bed {
    ca: Authority,
    scenario: Scenario,
    policies: Policies,
}

impl Bed {
    fn new() -> Self {
        let ca = Identity::authority();
        let roots = Roots::of(vec![ca.certificate.clone()]);
        let scenario = Scenario::with_domain(|tree: Tree, _| tree.insecure(PLAIN)).roots(roots);
        Self { ca, scenario, policies: Policies::default() }
    }

    /// An exchange with a good certificate.
    fn good(self, name: &str) -> Self {
        let identity = self.ca.issue(name);
        self.exchange(name, identity)
    }

    /// An exchange with another certificate.
    fn exchange(mut self, name: &str, identity: Identity) -> Self {
        let preference = if name.starts_with("mx1") { 10 } else { 20 };
        let exchange = Exchange::new(PLAIN, name).preference(preference).tlsa([]);
        self.scenario = self.scenario.exchange(exchange.script(|mx| mx.identity = identity));
        self
    }

    fn with(mut self, change: impl FnOnce(Scenario) -> Scenario) -> Self {
        self.scenario = change(self.scenario);
        self
    }

    fn found(mut self, found: StsFound) -> Self {
        self.policies = self.policies.with(PLAIN, found);
        self
    }

    fn enforce(self, patterns: &[&str]) -> Self {
        self.found(policy("enforce", patterns))
    }

    fn told(self) -> Self {
        Self { policies: self.policies.told(), ..self }
    }

    /// Sessions wait for the next mail.
    fn pooled(self) -> Self {
        self.with(|scenario| scenario.set("remote.idle_connections = 100"))
    }

    async fn start(self) -> (Lab, Arc<Policies>) {
        let policies = Arc::new(self.policies);
        (self.scenario.policies(&policies).start().await, policies)
    }
}

/// Sends a mail to the unsigned domain and returns the answer to it and the log.
async fn send(lab: &Lab) -> (String, String) {
    let (log, _guard) = captured();
    let answers = lab.client().await.send(&[&format!("b@{PLAIN}")], MESSAGE).await;
    let last = answers.last().to_owned();
    (last, log.text())
}

/// The whole account of one mail to a scenario: its answer, the log line and the connections of each exchange.
async fn outcome(bed: Bed) -> (String, String, Vec<usize>) {
    let (lab, _) = bed.start().await;
    let (answer, log) = send(&lab).await;
    (answer, log, lab.seen.iter().map(|seen| seen.connections()).collect())
}

#[tokio::test]
async fn p13_a_listed_host_with_a_good_certificate_is_verified() {
    // P12, P13: over an unsigned MX record, the words of the log.
    let (answer, log, _) = outcome(Bed::new().good("mx1.plain.test").enforce(&["*.plain.test"])).await;
    assert!(answer.starts_with("250 2.0.0 "), "{answer}");
    for field in [
        "policy=\"sts\"",
        "protection=\"verified\"",
        "verified_by=\"mta-sts\"",
        "sts=\"enforce\"",
        "sts_id=\"20260101T0\"",
    ] {
        assert!(log.contains(field), "{field} in {log}");
    }
    assert!(!log.contains("sts_would") && !log.contains("pkix="), "{log}");
}

#[tokio::test]
async fn p14_each_fault_has_its_refusal_and_the_next_exchange_comes_first() {
    // P13, P14, P16, P20: 451, and never a 5yz.
    let ca = Identity::authority();
    let foreign = ca.issue("mx1.plain.test");
    /// Adds an exchange with a fault; the identity is that of a foreign authority.
    type Fault = fn(Bed, Identity) -> Bed;
    let faults: [(&str, &str, Fault); 6] = [
        ("451 4.7.5 ", "name-mismatch", |bed, _| {
            let identity = bed.ca.issue("www.plain.test");
            bed.exchange("mx1.plain.test", identity)
        }),
        ("451 4.7.5 ", "certificate-expired", |bed, _| {
            let identity = bed.ca.issue_expired("mx1.plain.test");
            bed.exchange("mx1.plain.test", identity)
        }),
        ("451 4.7.5 ", "untrusted-authority", |bed, foreign| bed.exchange("mx1.plain.test", foreign)),
        ("451 4.7.5 ", "untrusted-authority", |bed, _| {
            bed.exchange("mx1.plain.test", Identity::for_name("mx1.plain.test"))
        }),
        ("451 4.7.4 ", "starttls-missing", |bed, _| {
            bed.good("mx1.plain.test").with(|scenario| scenario.mx(|mx| mx.ehlo = say("250 mx1.plain.test")))
        }),
        ("451 4.7.4 ", "starttls-refused", |bed, _| {
            bed.good("mx1.plain.test").with(|scenario| scenario.mx(|mx| mx.starttls = say("454 4.7.0 not now")))
        }),
    ];
    for (code, label, fault) in faults {
        let alone = fault(Bed::new(), foreign.clone()).enforce(&["*.plain.test"]);
        let (answer, log, _) = outcome(alone).await;
        assert!(answer.starts_with(code), "{label}: {answer}");
        assert!(log.contains(&format!("reason=\"{label}\"")) && log.contains("sts=\"enforce\""), "{label}: {log}");
        let both = fault(Bed::new(), foreign.clone()).good("mx2.plain.test").enforce(&["*.plain.test"]);
        let (answer, log, connections) = outcome(both).await;
        assert!(answer.starts_with("250 2.0.0 "), "{label}: {answer}");
        assert!(log.contains("exchange=mx2.plain.test") && log.contains("verified_by=\"mta-sts\""), "{label}: {log}");
        assert!(connections[0] > 0, "{label}: the first is tried first");
    }
}

#[tokio::test]
async fn p12_a_host_that_the_policy_does_not_list_is_not_dialled() {
    // P12, P14, P16.
    let (answer, log, connections) = outcome(Bed::new().good("mx1.plain.test").enforce(&["*.mx.plain.test"])).await;
    let said = "451 4.7.5 mx1.plain.test: the domain's STS policy 20260101T0 (fetched 3h 25s ago) does not list mx1.plain.test; ";
    assert!(answer.starts_with(said), "{answer}");
    assert!(log.contains("reason=\"mx-not-in-policy\"") && connections == [0], "{log}");
    let other = Bed::new().good("mx1.plain.test").good("mx2.plain.test").enforce(&["mx2.plain.test"]);
    let (answer, log, connections) = outcome(other).await;
    assert!(answer.starts_with("250 2.0.0 ") && connections == [0, 1], "{answer} {connections:?}");
    assert!(log.contains("does not list mx1.plain.test"), "{log}");
}

#[tokio::test]
async fn p16_forged_dns_under_an_enforced_policy_bounces_no_mail() {
    // P16: the attacker chooses the MX records and the addresses of an unsigned domain.
    let forged = |address: Option<&'static str>| {
        move |tree: Tree, _: u16| {
            let tree = tree.mx(PLAIN, 5, "x.evil.test").insecure("evil.test");
            address.into_iter().fold(tree, |tree, address| tree.a("x.evil.test", address))
        }
    };
    let defers = |answer: &str, code: &str| {
        [format!("451 {code} "), format!("451-{code} ")].iter().any(|start| answer.starts_with(start))
    };
    let own = "remote.own_addresses = ['127.77.0.1']";
    for address in [None, Some("10.0.0.1"), Some("127.77.0.1"), Some("0.0.0.0")] {
        // No exchange is listed, the genuine one comes second, and there is only a forged one.
        let bed = || Bed::new().good("mx1.plain.test").with(|scenario| scenario.set(own).tree(forged(address)));
        let (answer, log, _) = outcome(bed().enforce(&["mx9.plain.test"])).await;
        assert!(defers(&answer, "4.7.5"), "{address:?}: {answer} {log}");
        let (answer, log, connections) = outcome(bed().enforce(&["mx1.plain.test"])).await;
        assert!(answer.starts_with("250 2.0.0 ") && connections == [1], "{address:?}: {answer} {log}");
        let alone = Bed::new().with(|scenario| scenario.set(own).tree(forged(address)));
        let (answer, log, _) = outcome(alone.enforce(&["mx1.plain.test"])).await;
        assert!(defers(&answer, "4.7.5"), "{address:?}: {answer} {log}");
        // The name of a listed exchange, with the attacker's address.
        let listed = Bed::new().with(|scenario| scenario.set(own).tree(forged(address)));
        let (answer, log, _) = outcome(listed.enforce(&["x.evil.test"])).await;
        assert!(defers(&answer, "4.4.4"), "{address:?}: {answer} {log}");
        assert!(log.contains("reason=\"sts-unsigned-dns\""), "{log}");
        // Mode observe has no worse answer.
        let observed = Bed::new().with(|scenario| scenario.set(own).set("mode = 'observe'").tree(forged(address)));
        let (answer, log, _) = outcome(observed.enforce(&["mx1.plain.test"])).await;
        assert!(defers(&answer, "4.4.4"), "{address:?}: {answer} {log}");
        // Without a policy that is held to, it is as before.
        let plain = Bed::new().with(|scenario| scenario.set(own).tree(forged(address)));
        let (answer, _, _) = outcome(plain.found(policy("testing", &["x.evil.test"]))).await;
        assert!(answer.starts_with("55"), "{address:?}: {answer}");
    }
    // MX records that leave no route, and an alias of a name that does not exist in any DNS.
    for target in [".", "danelaw.test", "192.0.2.1", "host.onion"] {
        let forged = |tree: Tree, _: u16| match target {
            "host.onion" => tree.cname(PLAIN, target),
            target => tree.mx(PLAIN, 5, target),
        };
        let name = "remote.own_names = ['danelaw.test']";
        let (answer, log, _) =
            outcome(Bed::new().with(|scenario| scenario.set(name).tree(forged)).enforce(&["mx1.plain.test"])).await;
        assert!(defers(&answer, "4.4.4") && log.contains("sts-unsigned-dns"), "{target}: {answer} {log}");
        let (answer, _, _) = outcome(Bed::new().with(|scenario| scenario.set(name).tree(forged)).found(absent())).await;
        assert!(answer.starts_with("55"), "{target}: {answer}");
    }
}

#[tokio::test]
async fn p16_forged_dns_beside_a_host_that_lacks_an_extension_bounces_no_mail() {
    // P16: the attacker gives one host a reserved address, and the other one lacks an extension that the mail needs.
    let eight_bit = "Subject: green\r\n\r\ngr\u{fc}n\r\n".as_bytes();
    let listed = ["x.evil.test", "mx1.plain.test"];
    for (found, code) in [(policy("enforce", &listed), "451"), (policy("testing", &listed), "55")] {
        let forged =
            |tree: Tree, _: u16| tree.mx(PLAIN, 5, "x.evil.test").insecure("evil.test").a("x.evil.test", "10.0.0.1");
        let bed = Bed::new()
            .good("mx1.plain.test")
            .found(found)
            .with(|scenario| scenario.tree(forged).mx(|mx| mx.ehlo_under_tls = say("250-mx\r\n250 PIPELINING")));
        let (lab, _) = bed.start().await;
        let answer = lab.client().await.send(&[&format!("b@{PLAIN}")], eight_bit).await.last().to_owned();
        assert!(answer.starts_with(code) && lab.mx().messages().is_empty(), "{answer}");
    }
}

#[tokio::test]
async fn p15_a_policy_in_mode_testing_delivers_and_tells() {
    // P15: the certificate, the list, and a host that would pass.
    let own = || Identity::for_name("mx1.plain.test");
    let bed = || Bed::new().exchange("mx1.plain.test", own());
    let nameless = || Bed::new().good("mx1.plain.test").with(|scenario| scenario.mx(knows_no_name));
    for (bed, would) in [
        (bed().found(policy("testing", &["*.plain.test"])), Some("untrusted-authority")),
        (bed().enforce(&["*.plain.test"]).told(), Some("untrusted-authority")),
        (bed().found(policy("testing", &["other.test"])), Some("mx-not-in-policy")),
        (Bed::new().good("mx1.plain.test").found(policy("testing", &["*.plain.test"])), None),
        // Its certificate is good, and it refuses the session in which it would have to show it.
        (nameless().found(policy("testing", &["*.plain.test"])), Some("sni-refused")),
        (nameless().enforce(&["*.plain.test"]).told(), Some("sni-refused")),
    ] {
        let (lab, _) = bed.pooled().start().await;
        for _ in 0..2 {
            // The second mail goes over the same session.
            let (answer, log) = send(&lab).await;
            assert!(answer.starts_with("250 2.0.0 "), "{answer}");
            assert!(log.contains("policy=\"encrypt\"") && log.contains("protection=\"encrypted\""), "{log}");
            assert_eq!(log.contains("sts_would="), would.is_some(), "{log}");
            if let Some(would) = would {
                assert!(log.contains(&format!("sts_would=\"{would}\"")), "{log}");
            }
        }
        let metrics = ask(&lab.admin().await, "/metrics").await.unwrap().1;
        let counted = format!("danelaw_mta_sts_would_refuse_total{{label=\"{}\"}} 2\n", would.unwrap_or("-"));
        assert_eq!(metrics.contains(&counted), would.is_some(), "{metrics}");
    }
}

#[tokio::test]
async fn p9_without_a_policy_mail_goes_as_before() {
    // P9: over an unsigned MX record.
    for (found, word) in [
        (policy("none", &[]), "none"),
        (absent(), "none"),
        (unfetched(), "unfetched"),
        (denied_by_fallback(), "unfetched"),
        (failed(FailureReason::Timeout), "failed"),
    ] {
        let bed = Bed::new().exchange("mx1.plain.test", Identity::for_name("other.test")).found(found);
        let (answer, log, _) = outcome(bed).await;
        assert!(answer.starts_with("250 2.0.0 ") && log.contains("policy=\"encrypt\""), "{answer} {log}");
        assert!(log.contains(&format!("sts=\"{word}\"")) && log.contains("pkix=\"self-signed\""), "{word}: {log}");
    }
    // An answer that does not validate is no answer.
    let bed = Bed::new().good("mx1.plain.test").found(failed(FailureReason::Bogus("so".into())));
    let (answer, log, connections) = outcome(bed).await;
    assert!(answer.starts_with("451 4.4.3 ") && log.contains("reason=\"sts-lookup-failed\""), "{answer} {log}");
    assert_eq!(connections, [0]);
}

#[tokio::test]
async fn p21_a_policy_that_was_not_fetched_for_a_lack_here_defers() {
    // P21: a stranger who keeps this host busy makes no policy not count. The reason is told, also where policies are not held to.
    for (error, code, reason) in [
        (StsFetchError::Busy, "451 4.4.5 ", "sts-no-turn"),
        (StsFetchError::Scarce(Scarcity::OwnDescriptors), "451 4.3.0 ", "out-of-descriptors"),
    ] {
        let bed = || Bed::new().good("mx1.plain.test").found(StsFound::Unfetched(error.clone()));
        let (answer, log, connections) = outcome(bed()).await;
        assert!(answer.starts_with(code) && log.contains(&format!("reason=\"{reason}\"")), "{answer} {log}");
        assert!(log.contains("sts=\"unfetched\""), "{log}");
        assert_eq!(connections, [0]);
        let (answer, log, _) = outcome(bed().told()).await;
        assert!(answer.starts_with("250 2.0.0 ") && log.contains("sts=\"unfetched\""), "{answer} {log}");
    }
    // A lookup that failed stops no mail either where no policy would.
    let bed = Bed::new().good("mx1.plain.test").found(failed(FailureReason::Bogus("so".into()))).told();
    let (answer, _, _) = outcome(bed).await;
    assert!(answer.starts_with("250 2.0.0 "), "{answer}");
    // DANE needs no policy.
    let (scenario, _) = signed(StsFound::Unfetched(StsFetchError::Busy), |identity| vec![identity.record("3 1 1")]);
    let said = scenario.start().await.send().await;
    assert!(said.last().starts_with("250 2.0.0 "), "{said:?}");
}

/// The signed domain with one exchange without TLSA records, and this policy.
fn signed(found: StsFound, tlsa: impl FnOnce(&Identity) -> Vec<String>) -> (Scenario, Arc<Policies>) {
    let ca = Identity::authority();
    let identity = ca.issue("mx1.example.test");
    let exchange = Exchange::new("example.test", "mx1.example.test").tlsa(tlsa(&identity));
    let scenario = Scenario::of([exchange.script(|mx| mx.identity = identity)]);
    let policies = Arc::new(Policies::default().with("example.test", found));
    (scenario.roots(Roots::of(vec![ca.certificate])).policies(&policies), policies)
}

#[tokio::test]
async fn p17_dane_comes_first_and_sts_never_saves_it() {
    // P17, decision 18: over a secure MX with usable TLSA records no policy is asked, match or not.
    for (tlsa, answer) in [
        ((|identity: &Identity| vec![identity.record("3 1 1")]) as fn(&Identity) -> Vec<String>, "250 2.0.0 "),
        (|_| vec![Identity::for_name("other").record("3 1 1")], "451 4.7.5 "),
    ] {
        for patterns in [["*.example.test"], ["other.test"]] {
            let (scenario, policies) = signed(policy("enforce", &patterns), tlsa);
            let lab = scenario.start().await;
            let said = lab.send().await;
            assert!(said.last().starts_with(answer), "{said:?}");
            assert_eq!(policies.asked(), Vec::<String>::new());
        }
    }
    // A failed lookup of TLSA records is a refusal under any policy.
    let (scenario, policies) = signed(policy("enforce", &["*.example.test"]), |_| vec![]);
    let no_answer = |tree: Tree, port: u16| tree.fault(&format!("_{port}._tcp.mx1.example.test"), "TLSA", Fault::Drop);
    let lab = scenario.tree(no_answer).start().await;
    let said = lab.send().await;
    assert!(said.last().starts_with("451 4.7.5 ") && policies.asked().is_empty(), "{said:?}");
}

#[tokio::test]
async fn p14_without_tlsa_records_the_policy_counts_over_a_secure_mx_too() {
    // P14, P16.
    let none: fn(&Identity) -> Vec<String> = |_| vec![];
    for (found, answer) in [
        (policy("enforce", &["*.example.test"]), "250 2.0.0 "),
        (policy("enforce", &["other.test"]), "451 4.7.5 "),
        (absent(), "250 2.0.0 "),
        (failed(FailureReason::Timeout), "451 4.4.3 "),
    ] {
        let (scenario, policies) = signed(found, none);
        let lab = scenario.start().await;
        let said = lab.send().await;
        assert!(said.last().starts_with(answer), "{said:?}");
        assert_eq!(policies.asked().first().map(String::as_str), Some("example.test"));
    }
    // A rule's next hop is the policy domain for mail to any domain.
    let (scenario, policies) = signed(absent(), none);
    let rule = "rule = [{ domain = 'example.test', level = 'dane', next_hop = 'mx1.example.test' }]";
    let lab = scenario.set(rule).start().await;
    assert!(lab.send().await.last().starts_with("250 2.0.0 "));
    assert_eq!(policies.asked(), ["mx1.example.test"]);
}

#[tokio::test]
async fn p12_a_forged_mx_record_to_a_host_with_dane_of_its_own() {
    // P12: TLSA proves the host's key, and the policy must name the host.
    let bed = |patterns: &[&str]| {
        let exchange = Exchange::new(PLAIN, "mx1.example.test");
        Bed::new().with(|scenario| scenario.exchange(exchange)).enforce(patterns)
    };
    let (answer, log, _) = outcome(bed(&["mx1.example.test"])).await;
    assert!(answer.starts_with("250 2.0.0 "), "{answer}");
    for field in ["policy=\"sts\"", "protection=\"verified\"", "verified_by=\"mta-sts+tlsa\""] {
        assert!(log.contains(field), "{field} in {log}");
    }
    let (answer, log, connections) = outcome(bed(&["*.plain.test"])).await;
    assert!(answer.starts_with("451 4.7.5 ") && connections == [0], "{answer}");
    assert!(log.contains("reason=\"mx-not-in-policy\""), "{log}");
}

#[tokio::test]
async fn p16_a_domain_that_has_moved_is_reached_by_its_newer_policy() {
    // P16, A-114 (RFC 8461 §5.1): at once, and asked once.
    let moved = Bed::new().good("mx1.plain.test").enforce(&["old.plain.test"]);
    let policies = moved.policies.newer(PLAIN, policy("enforce", &["mx1.plain.test"]));
    let (lab, policies) = Bed { policies, ..moved }.start().await;
    let (answer, log) = send(&lab).await;
    assert!(answer.starts_with("250 2.0.0 ") && log.contains("verified_by=\"mta-sts\""), "{answer} {log}");
    assert_eq!(policies.asked(), [PLAIN.to_owned(), format!("{PLAIN} again")]);
    // A failure and a record that is gone change nothing.
    for newer in [absent(), unfetched()] {
        let bed = Bed::new().good("mx1.plain.test").enforce(&["old.plain.test"]);
        let policies = bed.policies.newer(PLAIN, newer);
        let (lab, policies) = Bed { policies, ..bed }.start().await;
        let (answer, _) = send(&lab).await;
        assert!(answer.starts_with("451 4.7.5 ") && lab.mx().connections() == 0, "{answer}");
        assert_eq!(policies.asked().len(), 2);
    }
}

#[tokio::test]
async fn p12_two_domains_on_one_host_are_decided_apart() {
    // P12: a session that waits serves the domain whose policy lists the host, and no other.
    let bed = Bed::new().good("mx1.plain.test").enforce(&["mx1.plain.test"]);
    let bed = bed
        .with(|scenario| scenario.tree(|tree, _| tree.insecure("second.test").mx("second.test", 10, "mx1.plain.test")));
    let policies = bed.policies.with("second.test", policy("enforce", &["mx.second.test"]));
    let (lab, _) = Bed { policies, ..bed }.pooled().start().await;
    for _ in 0..2 {
        assert!(send(&lab).await.0.starts_with("250 2.0.0 "));
        let other = lab.client().await.send(&["b@second.test"], MESSAGE).await;
        assert!(other.last().starts_with("451 4.7.5 "), "{other:?}");
    }
    assert_eq!((lab.mx().connections(), lab.mx().messages().len()), (1, 2));
}

#[tokio::test]
async fn p14_each_domain_of_a_fan_out_goes_by_its_own_policy() {
    // P12, P14, P15: one transaction, one reply. The first domain's policy lists its host.
    const FAN_OUT: &str = "listener = [{ address = '127.0.0.1:0', recipients = 'fan-out' }]";
    let message = b"From: <a@client.test>\r\nMessage-ID: <1@client.test>\r\n\r\nbody\r\n";
    for (second, answer, fields) in [
        (policy("enforce", &["mx1.second.test"]), "250", ["sts=\"enforce\"", "verified_by=\"mta-sts\""]),
        (policy("enforce", &["mx1.plain.test"]), "451", ["sts=\"enforce\"", "reason=\"mx-not-in-policy\""]),
        (policy("testing", &["mx1.plain.test"]), "250", ["sts=\"testing\"", "sts_would=\"mx-not-in-policy\""]),
        (StsFound::Unfetched(StsFetchError::Busy), "451", ["sts=\"unfetched\"", "reason=\"sts-no-turn\""]),
        (absent(), "250", ["sts=\"none\"", "protection=\"encrypted\""]),
    ] {
        let (folder, bed) =
            (tempfile::tempdir().unwrap(), Bed::new().good("mx1.plain.test").enforce(&["mx1.plain.test"]));
        let identity = bed.ca.issue("mx1.second.test");
        let exchange = Exchange::new("second.test", "mx1.second.test").tlsa([]).script(|mx| mx.identity = identity);
        let store = format!("{FAN_OUT}\nstore.path = '{}'", folder.path().join("store.sqlite").display());
        let bed =
            bed.with(|scenario| scenario.tree(|tree, _| tree.insecure("second.test")).exchange(exchange).set(&store));
        let (lab, policies) = Bed { policies: bed.policies.with("second.test", second), ..bed }.start().await;
        let (log, _guard) = captured();
        let answers = lab.client().await.send(&["b@plain.test", "b@second.test"], message).await;
        let (said, log) = (answers.last().to_owned(), log.text());
        assert!(said.starts_with(answer), "{said} {log}");
        let line = |domain: &str| log.lines().find(|line| line.contains(&format!("domain={domain} "))).unwrap();
        for field in fields {
            assert!(line("second.test").contains(field), "{field} in {log}");
        }
        assert!(line(PLAIN).contains("sts=\"enforce\""), "{log}");
        let mut asked = policies.asked();
        asked.retain(|domain| !domain.ends_with(" again"));
        asked.sort();
        assert_eq!(asked, [PLAIN, "second.test"]);
        let taken: Vec<_> = lab.seen.iter().map(|seen| seen.messages().len()).collect();
        assert_eq!(taken, [1, usize::from(answer == "250")], "{log}");
    }
}

#[tokio::test]
async fn p11_the_policy_is_that_of_the_next_hop_which_a_rule_names() {
    // P11 (RFC 8461 §3.4): neither the recipient's domain nor the client's has a say. An address has no policy.
    let rule = |next_hop: &str| format!("[[rule]]\ndomain = '{PLAIN}'\nlevel = 'dane'\nnext_hop = '{next_hop}'");
    for (found, answer) in [
        (policy("enforce", &["mx1.plain.test"]), "250 2.0.0 "),
        (policy("enforce", &["*.mx.plain.test"]), "451 4.7.5 "),
    ] {
        let bed = Bed::new().good("mx1.plain.test").enforce(&["none.test"]);
        let bed = bed.with(|scenario| scenario.set(&rule("mx1.plain.test")));
        let (lab, policies) = Bed { policies: bed.policies.with("mx1.plain.test", found), ..bed }.start().await;
        let (said, log) = send(&lab).await;
        assert!(said.starts_with(answer), "{said} {log}");
        assert_eq!(policies.asked()[0], "mx1.plain.test");
        assert!(!policies.asked().iter().any(|asked| asked.starts_with(PLAIN)));
    }
    let bed = Bed::new().good("mx1.plain.test").enforce(&["none.test"]);
    let by_address = "[[rule]]\ndomain = 'plain.test'\nlevel = 'encrypt'\nnext_hop = '[127.0.0.1]'\n\
                      reason = 'x'\nuntil = '2999-12-31'";
    let (lab, policies) = bed.with(|scenario| scenario.set(by_address)).start().await;
    let (said, log) = send(&lab).await;
    assert!(said.starts_with("250 ") && policies.asked().is_empty(), "{said} {log}");
}

#[tokio::test]
async fn levels_verify_and_secure() {
    // Each over a secure and an insecure MX record.
    let rule = |level: &str| format!("rule = [{{ domain = '{PLAIN}', {level} }}]");
    for (level, identity, answer, fields) in [
        (
            "level = 'verify'",
            "mx1.plain.test",
            "250 ",
            &["policy=\"pkix\"", "protection=\"host-verified\"", "verified_by=\"pkix\""][..],
        ),
        ("level = 'verify'", "www.plain.test", "451 4.7.5 ", &["reason=\"name-mismatch\""]),
        ("level = 'secure'", "mx1.plain.test", "451 4.7.5 ", &["reason=\"not-authenticated\""]),
        (
            "level = 'secure', mx = ['*.plain.test']",
            "mx1.plain.test",
            "250 ",
            &["policy=\"pkix\"", "protection=\"verified\""],
        ),
        (
            "level = 'secure', mx = ['mx2.plain.test']",
            "mx1.plain.test",
            "451 4.7.5 ",
            &["reason=\"not-authenticated\""],
        ),
    ] {
        let bed = Bed::new();
        let identity = bed.ca.issue(identity);
        let (said, log, _) =
            outcome(bed.exchange("mx1.plain.test", identity).with(|scenario| scenario.set(&rule(level)))).await;
        assert!(said.starts_with(answer), "{level}: {said}");
        for field in fields {
            assert!(log.contains(field), "{level}: {field} in {log}");
        }
    }
    for level in ["verify", "secure"] {
        let (scenario, _) = signed(absent(), |_| vec![]);
        let lab = scenario.set(&format!("tls.level = '{level}'")).start().await;
        assert!(lab.send().await.last().starts_with("250 2.0.0 "), "{level}");
        // No CA is known.
        let (scenario, _) = signed(absent(), |_| vec![]);
        let lab = scenario.roots(Roots::default()).set(&format!("tls.level = '{level}'")).start().await;
        assert!(lab.send().await.last().starts_with("451 4.7.5 "), "{level}");
    }
}

#[tokio::test]
async fn a_rule_that_ignores_the_policy_ends() {
    let rule = |until: &str| {
        format!(
            "rule = [{{ domain = '{PLAIN}', level = 'dane', mta_sts = 'ignore', reason = 'x', until = '{until}' }}]"
        )
    };
    for (until, answer) in [("9999-12-31", "250 2.0.0 "), ("2020-01-01", "451 4.7.5 ")] {
        let bed = Bed::new().good("mx1.plain.test").enforce(&["old.plain.test"]);
        let (said, _, _) = outcome(bed.with(|scenario| scenario.set(&rule(until)))).await;
        assert!(said.starts_with(answer), "{until}: {said}");
    }
}

#[tokio::test]
async fn b9_mode_observe_delivers_what_a_policy_would_refuse() {
    // B9.
    for (patterns, would) in [(["old.plain.test"], "mx-not-in-policy"), (["*.plain.test"], "untrusted-authority")] {
        let bed = Bed::new().exchange("mx1.plain.test", Identity::for_name("mx1.plain.test")).enforce(&patterns);
        let (said, log, _) = outcome(bed.with(|scenario| scenario.set("mode = 'observe'"))).await;
        assert!(said.starts_with("250 2.0.0 ") && log.contains(&format!("would=\"{would}\"")), "{said} {log}");
        assert!(log.contains("policy=\"may\""), "{log}");
    }
}

#[tokio::test]
async fn p19_reports_tell_of_policies_and_of_the_failures_to_fetch_them() {
    // P19, T7, T12: one event for each session, under the policy that was evaluated.
    let good = || Bed::new().good("mx1.plain.test");
    let other = || {
        let bed = Bed::new();
        let identity = bed.ca.issue("www.plain.test");
        bed.exchange("mx1.plain.test", identity)
    };
    let nameless = || good().with(|scenario| scenario.mx(knows_no_name));
    let verify = |scenario: Scenario| scenario.set("tls.level = 'verify'");
    for (bed, expected) in [
        // G15: a name is left out where no proof is asked for, and then no policy asks for one. By a policy on trial one would.
        (nameless().found(absent()), "no-policy-found plain.test: success"),
        (nameless().found(policy("testing", &["*.plain.test"])), "sts plain.test: validation-failure sni-refused"),
        (nameless().enforce(&["*.plain.test"]), "sts plain.test: validation-failure sni-refused"),
        (good().enforce(&["*.plain.test"]), "sts plain.test: success"),
        (other().enforce(&["*.plain.test"]), "sts plain.test: certificate-host-mismatch name-mismatch"),
        (good().enforce(&["mx9.plain.test"]), "sts plain.test: validation-failure mx-not-in-policy"),
        (good().found(policy("testing", &["*.plain.test"])), "sts plain.test: success"),
        (
            other().found(policy("testing", &["*.plain.test"])),
            "sts plain.test: certificate-host-mismatch name-mismatch",
        ),
        (good().found(policy("testing", &["mx9.plain.test"])), "sts plain.test: validation-failure mx-not-in-policy"),
        (good().enforce(&["mx9.plain.test"]).told(), "sts plain.test: validation-failure mx-not-in-policy"),
        (good().found(unfetched()), "no-policy-found plain.test: sts-policy-fetch-error timeout"),
        // No fault of the receiver.
        (good().found(denied_by_fallback()), "no-policy-found plain.test: success"),
        (good().found(policy("none", &[])), "no-policy-found plain.test: success"),
        (good().found(absent()), "no-policy-found plain.test: success"),
        // At a level that asks for certificates: by the policy that there is, else by none.
        (good().found(absent()).with(verify), "no-policy-found plain.test: success"),
        (good().found(policy("testing", &["*.plain.test"])).with(verify), "sts plain.test: success"),
        (
            other().found(policy("testing", &["*.plain.test"])).with(verify),
            "sts plain.test: certificate-host-mismatch name-mismatch",
        ),
    ] {
        let (sender, mut events) = tokio::sync::mpsc::channel(100);
        let (mut lab, _) = bed.with(|scenario| scenario.telling(sender)).start().await;
        send(&lab).await;
        lab.stop();
        lab.stopped().await;
        let event = events.try_recv().unwrap();
        assert_eq!(told(&event), expected);
        assert_eq!(event.policy.mx.len(), usize::from(event.policy.kind.as_str() == "sts"), "{event:?}");
        assert!(events.try_recv().is_err(), "{expected}: one event");
    }
}

/// The events of one mail, each as a line.
async fn lines_of(bed: Bed) -> Vec<String> {
    let (sender, mut events) = tokio::sync::mpsc::channel(100);
    let (mut lab, _) = bed.with(|scenario| scenario.telling(sender)).start().await;
    send(&lab).await;
    lab.stop();
    lab.stopped().await;
    std::iter::from_fn(|| events.try_recv().ok()).map(|event| told(&event)).collect()
}

#[tokio::test]
async fn each_policy_that_was_evaluated_at_a_host_with_records_is_told() {
    // T12.
    let bed = || Bed::new().with(|scenario| scenario.exchange(Exchange::new(PLAIN, "mx1.example.test")));
    let met = "tlsa mx1.example.test: success";
    for (bed, expected) in [
        (bed().found(absent()), vec![met]),
        (bed().enforce(&["mx1.example.test"]), vec![met, "sts plain.test: success"]),
        (
            bed().found(policy("testing", &["mx9.plain.test"])),
            vec![met, "sts plain.test: validation-failure mx-not-in-policy"],
        ),
        (bed().found(unfetched()), vec![met, "no-policy-found plain.test: sts-policy-fetch-error timeout"]),
    ] {
        assert_eq!(lines_of(bed).await, expected);
    }
}

#[tokio::test]
async fn a_host_that_two_policies_in_turn_leave_out_is_told_once() {
    let bed = Bed::new().good("mx1.plain.test").enforce(&["old.plain.test"]);
    let policies = bed.policies.newer(PLAIN, policy("enforce", &["other.plain.test"]));
    assert_eq!(lines_of(Bed { policies, ..bed }).await, ["sts plain.test: validation-failure mx-not-in-policy"]);
}

#[tokio::test]
async fn unverified_sessions_are_counted_by_the_worth_of_their_certificate() {
    let ca = Identity::authority();
    for (identity, worth) in
        [(Identity::for_name("mx1.plain.test"), "self-signed"), (ca.issue("mx1.plain.test"), "unknown-authority")]
    {
        let (lab, _) = Bed::new().exchange("mx1.plain.test", identity).pooled().start().await;
        for _ in 0..2 {
            let (answer, log) = send(&lab).await;
            assert!(answer.starts_with("250 ") && log.contains(&format!("pkix=\"{worth}\"")), "{log}");
        }
        // One session, two mails.
        let metrics = ask(&lab.admin().await, "/metrics").await.unwrap().1;
        assert!(metrics.contains(&format!("danelaw_unverified_sessions_total{{pkix=\"{worth}\"}} 1\n")), "{metrics}");
    }
}

#[tokio::test]
async fn p14_a_policy_that_danelaw_fetches_decides_the_delivery() {
    // P3, P6, P12, P14, P15: TXT record, policy host, policy and exchange, all of them real.
    for (mode, patterns, answer, field) in [
        ("enforce", "*.plain.test", "250 2.0.0 ", "verified_by=\"mta-sts\""),
        ("enforce", "*.mx.plain.test", "451 4.7.5 ", "reason=\"mx-not-in-policy\""),
        ("testing", "*.mx.plain.test", "250 2.0.0 ", "sts_would=\"mx-not-in-policy\""),
    ] {
        let host_ca = Authority::named("lab CA");
        let text = format!("version: STSv1\nmode: {mode}\nmx: {patterns}\nmax_age: 86400\n");
        let host = PolicyHost::start(&host_ca.issue("mta-sts.plain.test"), Answer::Say(served(&text))).await;
        let bed = Bed::new().good("mx1.plain.test");
        let roots = Roots::of(vec![bed.ca.certificate.clone(), host_ca.certificate.clone()]);
        let records = |tree: Tree, _| {
            tree.a("mta-sts.plain.test", "127.0.0.1").record(
                "_mta-sts.plain.test",
                "TXT",
                "\"v=STSv1; id=20260101T0;\"",
            )
        };
        let scenario = bed.scenario.roots(roots).tree(records).policy_hosts(host.address.port());
        let lab = scenario.start().await;
        for _ in 0..2 {
            let (said, log) = send(&lab).await;
            assert!(said.starts_with(answer), "{mode} {patterns}: {said} {log}");
            let sts = format!("sts=\"{mode}\" sts_id=\"20260101T0\"");
            assert!(log.contains(&sts) && log.contains(field), "{log}");
        }
        // The second mail went by the policy that is kept; a refusal has asked no second time within five minutes.
        assert_eq!(host.connections(), 1);
    }
}

#[tokio::test]
async fn p9_a_signed_domain_waits_for_its_record_behind_an_alias_that_leads_nowhere() {
    // P9: the record would bind, and its zone is not signed and does not answer.
    let ignore =
        "rule = [{ domain = 'example.test', level = 'dane', mta_sts = 'ignore', reason = 'x', until = '2999-01-01' }]";
    for (domain, settings, starts) in
        [("example.test", "", "451 4.4.3 "), ("example.test", ignore, "250 2.0.0 "), (PLAIN, "", "250 2.0.0 ")]
    {
        let records = |tree: Tree, _: u16| {
            let tree = tree.insecure("dead.test").fault("sts.dead.test", "TXT", Fault::Rcode(ResponseCode::ServFail));
            tree.cname(&format!("_mta-sts.{domain}"), "sts.dead.test")
        };
        let scenario = Scenario::with_domain(|tree: Tree, _| tree.insecure(PLAIN));
        let exchange = Exchange::new(domain, &format!("mx.{domain}")).tlsa([]);
        let lab = scenario.exchange(exchange).tree(records).set(settings).policy_hosts(1).start().await;
        let (log, _guard) = captured();
        let answer = lab.client().await.send(&[&format!("b@{domain}")], MESSAGE).await.last().to_owned();
        assert!(answer.starts_with(starts), "{domain} {settings}: {answer} {}", log.text());
        assert_eq!(log.text().contains("sts-lookup-failed"), starts.starts_with("451"), "{}", log.text());
    }
}
