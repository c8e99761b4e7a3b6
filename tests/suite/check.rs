//! `danelaw check` as a program: the verdict on a domain, the tree, the JSON, the forecast for many, and the exit status
//! of each. It never sends a mail command.

use std::io::Write;
use std::sync::Arc;

use crate::lab::certs::Identity;
use crate::lab::dns::{Fault, Tree};
use crate::lab::exchange::Exchange;
use crate::lab::mx::say;
use crate::lab::{Lab, Scenario};
use crate::process::{Said, danelaw, said};
use crate::store::hosts::{learnt, sessions};
use danelaw::store::{HostSessions, Store};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::Value;
use time::OffsetDateTime;

impl Said {
    /// The one object that was printed.
    pub(crate) fn object(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}{}", self.out, self.err))
    }
}

/// Runs `danelaw check` with the lab's configuration and the keys that the test adds to it.
pub(crate) async fn check(lab: &Lab, toml: &str, arguments: &[&str], input: &str) -> Said {
    with_config(lab, toml, &[&["check"], arguments].concat(), input).await
}

/// The same for any command.
pub(crate) async fn with_config(lab: &Lab, toml: &str, arguments: &[&str], input: &str) -> Said {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let [dns, anchor] = [lab.dns.addr.to_string(), lab.dns.anchor_file.display().to_string()];
    let port = lab.now().connector.dialer.port;
    write!(
        file,
        "hostname = 'check.test'\ndns.servers = ['{dns}']\ndns.trust_anchor = '{anchor}'\ndns.timeout = '1s'\n\
         dns.attempts = 1\nremote.port = {port}\nremote.allow_reserved = ['127.0.0.0/8']\ntimeouts.connect = '5s'\n\
         timeouts.greeting = '5s'\ntimeouts.handshake = '5s'\n{toml}\n"
    )
    .unwrap();
    let mut command = danelaw();
    command.args([arguments[0], "--config"]).arg(file.path()).args(&arguments[1..]);
    said(command, input).await
}

/// Checks `example.test`, as JSON.
async fn judged(scenario: Scenario, toml: &str) -> (Lab, i32, Value) {
    let lab = scenario.start().await;
    let said = check(&lab, toml, &["example.test", "--json"], "").await;
    assert!(lab.seen.iter().all(|mx| !mx.saw_mail()));
    let object = said.object();
    (lab, said.status, object)
}

pub(crate) fn kinds(object: &Value) -> Vec<&str> {
    object["advice"].as_array().unwrap().iter().map(|advice| advice["kind"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn the_port_of_a_rule_is_told() {
    let lab = Scenario::new().start().await;
    let port = lab.now().connector.dialer.port;
    let toml =
        format!("rule = [{{ domain = 'example.test', level = 'dane-only', next_hop = 'mx1.example.test:{port}' }}]");
    let said = check(&lab, &toml, &["example.test", "--json"], "").await;
    let found = said.object();
    assert_eq!((said.status, &found["verdict"], &found["port"]), (0, &"verified".into(), &port.into()));
    assert_eq!(found["exchanges"][0]["port"], port);
    let said = check(&lab, &toml, &["example.test"], "").await;
    assert!(said.out.contains(&format!("mx1.example.test[127.0.0.1]:{port}")), "{}", said.out);
}

#[tokio::test]
async fn a_domain_that_is_verified() {
    let lab = Scenario::new().start().await;
    let said = check(&lab, "", &["EXAMPLE.test", "--json"], "").await;
    let found = said.object();
    assert_eq!((said.status, &found["verdict"], &found["level"]), (0, &"verified".into(), &"dane".into()));
    assert_eq!((&found["exchange"], &found["address"]), (&"mx1.example.test".into(), &"127.0.0.1".into()));
    assert_eq!(
        (&found["mx"]["security"], &found["refusal"], &found["rule"]),
        (&"secure".into(), &Value::Null, &Value::Null)
    );
    let exchange = &found["exchanges"][0];
    assert_eq!((&exchange["preference"], &exchange["policy"]), (&10.into(), &"dane".into()));
    let question = &exchange["tlsa"][0];
    assert_eq!(question["lookup"]["security"], "secure");
    assert_eq!(question["records"][0]["standing"], "binding");
    let session = &exchange["sessions"][0];
    assert_eq!((&session["protection"], &session["tls_version"]), (&"verified".into(), &"TLSv1.3".into()));
    assert_eq!((&session["tlsa"], &session["tlsa_depth"]), (&question["records"][0]["record"], &0.into()));
    assert_eq!(session["certificates"][0]["names"][0], "mx1.example.test");
    assert_eq!(kinds(&found), ["one-record"]);
    // EHLO, STARTTLS, EHLO, QUIT.
    assert_eq!(lab.mx().clear(), ["EHLO check.test", "STARTTLS"]);
    assert_eq!(lab.mx().tls(), ["EHLO check.test", "QUIT"]);
    assert_eq!(lab.mx().closed(), 1);
    // The same as text for people, without colours and progress, because the output is no terminal.
    let said = check(&lab, "", &["example.test"], "").await;
    assert_eq!((said.status, said.err.as_str()), (0, ""));
    for line in [
        "example.test (level dane)\n├─ MX example.test: secure\n├─ 10 mx1.example.test\n│  ├─ address 127.0.0.1: secure\n",
        "│  ├─ policy dane\n│  └─ 127.0.0.1: verified, TLSv1.3 TLS_AES_128_GCM_SHA256 X25519",
        "\n├─ ! mx1.example.test: 3 1 1 ",
        "\n└─ verified: mail would go to mx1.example.test[127.0.0.1]\n",
    ] {
        assert!(said.out.contains(line), "{line:?} is not in\n{}", said.out);
    }
}

#[tokio::test]
async fn servers_that_do_not_prove_what_they_must() {
    let other = Identity::for_name("mx1.example.test");
    let (_, status, found) = judged(Scenario::new().mx(move |mx| mx.identity = other), "").await;
    assert_eq!((status, &found["verdict"]), (1, &"deferred".into()));
    assert_eq!(
        (&found["refusal"]["reason"], &found["refusal"]["code"]),
        (&"tlsa-mismatch".into(), &"451 4.7.5".into())
    );
    assert!(found["refusal"]["text"].as_str().unwrap().starts_with("mx1.example.test[127.0.0.1]: "));
    assert!(found["refusal"]["remedy"].as_str().unwrap().contains("publish a TLSA record"));
    // The output shows the server's session all the same.
    let session = &found["exchanges"][0]["sessions"][0];
    assert_eq!((&session["protection"], &session["tlsa"]), (&"none".into(), &Value::Null));
    assert_eq!(session["certificates"][0]["names"][0], "mx1.example.test");

    let stripped = Scenario::new().mx(|mx| mx.ehlo = say("250 mx"));
    let (lab, status, found) = judged(stripped, "").await;
    assert_eq!((status, &found["refusal"]["reason"]), (1, &"starttls-missing".into()));
    assert_eq!(lab.mx().clear()[0], "EHLO check.test");
    let said = check(&lab, "", &["example.test"], "").await;
    let verdict = "└─ deferred: mail would be refused with 451 4.7.4 (starttls-missing)\n   ├─ mx1.example.test[127.0.0.1]: \
                   TLS is required, but was not offered\n   └─ to do: the host must offer STARTTLS";
    assert!(said.out.contains(verdict), "{}", said.out);
}

#[tokio::test]
async fn domains_without_dane() {
    let without = || Scenario::of([Exchange::new("example.test", "mx1.example.test").tlsa([])]);
    let (_, status, found) = judged(without(), "").await;
    assert_eq!((status, &found["verdict"]), (0, &"encrypted".into()));
    assert_eq!(found["no_dane"], "the host has no TLSA records in a secure zone");
    let (lab, status, found) = judged(without(), "tls.level = 'dane-only'").await;
    assert_eq!((status, &found["refusal"]["reason"]), (1, &"dane-required".into()));
    assert_eq!(lab.mx().connections(), 0);
    // B3: below an insecure address TLSA is not asked for.
    let insecure = Scenario::of([Exchange::new("example.test", "mx.plain.test").tlsa([])])
        .tree(|tree, _| tree.insecure("plain.test"));
    let (lab, status, found) = judged(insecure, "").await;
    assert_eq!((status, &found["verdict"]), (0, &"encrypted".into()));
    assert_eq!(found["exchanges"][0]["lookup"]["security"], "insecure");
    assert!(found["exchanges"][0]["tlsa"].as_array().unwrap().is_empty());
    assert!(!lab.dns.was_asked(&format!("_{}._tcp.mx.plain.test", lab.now().connector.dialer.port), "TLSA"));
    // C16: the host is verified; its right to serve the domain is not.
    let half = Scenario::new().tree(|tree, _| tree.insecure("plain.test").mx("plain.test", 10, "mx1.example.test"));
    let lab = half.start().await;
    let said = check(&lab, "", &["plain.test", "--json"], "").await;
    let found = said.object();
    assert_eq!(
        (said.status, &found["verdict"], &found["mx"]["security"]),
        // C18.
        (0, &"host-verified".into(), &"insecure".into())
    );
    assert_eq!(kinds(&found), ["one-record", "insecure-mx"]);
}

#[tokio::test]
async fn domains_that_cannot_be_written_to() {
    let scenario = Scenario::new().tree(|tree, port| {
        tree.mx("null.example.test", 0, ".")
            .mx("dead.example.test", 10, "host.dead.example.test")
            .a("host.dead.example.test", "127.0.0.99")
            .mx("tlsa.example.test", 10, "host.tlsa.example.test")
            .a("host.tlsa.example.test", "127.0.0.1")
            .fault(&format!("_{port}._tcp.host.tlsa.example.test"), "TLSA", Fault::Drop)
            .mx("mx.example.test", 10, "mx1.example.test")
            .fault("mx.example.test", "MX", Fault::BogusSignature)
    });
    let lab = scenario.start().await;
    for (domain, status, verdict, reason) in [
        ("null.example.test", 5, "rejected", "null-mx"),
        ("none.example.test", 5, "rejected", "special-use-name"),
        ("none.example", 5, "rejected", "no-domain"),
        ("dead.example.test", 4, "deferred", "connect-failed"),
        ("tlsa.example.test", 3, "deferred", "tlsa-lookup-failed"),
        ("mx.example.test", 3, "deferred", "mx-lookup-failed"),
    ] {
        let said = check(&lab, "", &[domain, "--json"], "").await;
        let found = said.object();
        assert_eq!(
            (said.status, &found["verdict"], &found["refusal"]["reason"]),
            (status, &verdict.into(), &reason.into())
        );
    }
    assert_eq!(lab.mx().connections(), 0);
    for arguments in [&[][..], &["a..b"], &["example.test", "--parallel", "0"], &["-"]] {
        let said = check(&lab, "", arguments, "# nothing\n").await;
        assert_eq!((said.status, said.out.as_str()), (64, ""), "{arguments:?}: {}", said.err);
    }
    for arguments in [&["--file", "/nowhere/at/all"][..], &["--file", "/"], &["a.test", "--resume", "/nowhere/at/all"]]
    {
        let said = check(&lab, "", arguments, "").await;
        assert_eq!((said.status, said.out.as_str()), (71, ""), "{arguments:?}: {}", said.err);
        assert!(said.err.contains(arguments[arguments.len() - 1]) && !said.err.contains("Usage"), "{}", said.err);
    }
}

#[tokio::test]
async fn a_host_without_addresses_is_an_answer_and_no_failure() {
    let scenario = Scenario::new().tree(|tree, _| {
        tree.mx("nodata.example.test", 10, "txt.example.test")
            .mx("txt.example.test", 10, "mx1.example.test")
            .mx("gone.example.test", 10, "none.example.test")
            .insecure("plain.test")
            .mx("insecure.example.test", 10, "none.plain.test")
            .mx("failed.example.test", 10, "silent.example.test")
            .fault("silent.example.test", "A", Fault::Drop)
    });
    let lab = scenario.start().await;
    for (domain, security, kind, line) in [
        ("nodata.example.test", "secure", "nodata", "─ no address: secure\n"),
        ("gone.example.test", "secure", "nxdomain", "─ no address, no such name: secure\n"),
        ("insecure.example.test", "insecure", "nxdomain", "─ no address, no such name: insecure\n"),
        ("failed.example.test", "failed", "failure", "─ address A lookup for silent.example.test failed: "),
    ] {
        let found = check(&lab, "", &[domain, "--json"], "").await.object();
        let lookup = &found["exchanges"][0]["lookup"];
        assert_eq!((&lookup["security"], &lookup["kind"]), (&security.into(), &kind.into()), "{domain}");
        assert_eq!(lookup["reason"].is_null(), kind != "failure", "{domain}");
        let said = check(&lab, "", &[domain], "").await;
        assert!(said.out.contains(line), "{line:?} is not in\n{}", said.out);
    }
}

#[tokio::test]
async fn the_mode_of_the_verdicts_is_told_where_another_is_configured() {
    let lab = Scenario::new().mx(|mx| mx.ehlo = say("250 mx")).start().await;
    for (mode, lines) in [("enforce", 0), ("observe", 1)] {
        let said = check(&lab, &format!("mode = '{mode}'"), &["example.test"], "").await;
        assert!(said.status == 1 && said.out.contains("(starttls-missing)"), "{}", said.out);
        assert_eq!(said.err.lines().count(), lines, "{}", said.err);
        assert!(lines == 0 || said.err.contains("the verdicts are those of mode \"enforce\""), "{}", said.err);
    }
}

#[tokio::test]
async fn the_dns_alone() {
    let lab = Scenario::new().start().await;
    let said = check(&lab, "", &["example.test", "--no-connect", "--json"], "").await;
    let found = said.object();
    assert_eq!((said.status, &found["verdict"], &found["connected"]), (0, &"dane".into(), &false.into()));
    assert_eq!((&found["exchange"], &found["address"]), (&"mx1.example.test".into(), &Value::Null));
    assert_eq!(lab.mx().connections(), 0);
    let said = check(&lab, "", &["example.test", "--no-connect"], "").await;
    assert!(said.out.contains("└─ dane: mx1.example.test was not asked; a session would have to meet"), "{}", said.out);
}

#[tokio::test]
async fn check_warns_of_coming_failures() {
    let scenario = Scenario::new()
        .tree(|tree, port| tree.tlsa("mx1.example.test", port, &format!("1 1 1 {}", "07".repeat(32))))
        .tree(|tree, _| tree.fault("mx3.example.test", "AAAA", Fault::Drop))
        .exchange(Exchange::new("example.test", "mx2.example.test").preference(20).tlsa([]))
        .exchange(
            Exchange::new("example.test", "mx3.example.test").preference(30).script(|mx| mx.greeting = say("554 no")),
        );
    let (_, status, found) = judged(scenario, "").await;
    assert_eq!((status, &found["verdict"]), (0, &"verified".into()));
    assert_eq!(
        kinds(&found),
        ["unusable-record", "one-record", "mx-without-dane", "one-record", "partial-lookup", "failing-host"]
    );
    let texts: Vec<_> =
        found["advice"].as_array().unwrap().iter().map(|advice| advice["text"].as_str().unwrap()).collect();
    assert!(texts[0].contains("certificate usage 1 relies on public certificate authorities"), "{texts:?}");
    assert!(texts[2].contains("while mx1.example.test has"), "{texts:?}");
    assert!(texts[5].starts_with("mx3.example.test[127.0.0.3]: the greeting was 554 no"), "{texts:?}");
}

/// A chain with a server certificate that has this many days left.
fn ending(days: i64, name: &str) -> Identity {
    let [ca_key, key] = [KeyPair::generate().unwrap(), KeyPair::generate().unwrap()];
    let mut ca = CertificateParams::new(vec!["lab.ca".to_owned()]).unwrap();
    ca.distinguished_name.push(DnType::CommonName, "lab CA");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_certificate = ca.self_signed(&ca_key).unwrap();
    let mut server = CertificateParams::new(vec![name.to_owned()]).unwrap();
    server.not_after = OffsetDateTime::now_utc() + time::Duration::days(days) + time::Duration::hours(1);
    let certificate = server.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
    Identity { chain: vec![certificate.der().clone(), ca_certificate.der().clone()], key: key.serialize_der() }
}

#[tokio::test]
async fn certificates_whose_dates_count() {
    for (form, days, expected) in [
        ("2 1 1", 13, vec!["one-record", "certificate-ends"]),
        ("2 1 1", 14, vec!["one-record"]),
        // RFC 7671 §5.1.
        ("3 1 1", 13, vec!["one-record"]),
    ] {
        let exchange = Exchange::new("example.test", "mx1.example.test");
        let scenario = Scenario::of([exchange.identity(ending(days, "mx1.example.test"), form)]);
        let (_, status, found) = judged(scenario, "").await;
        assert_eq!((status, kinds(&found)), (0, expected), "{form} {days}");
    }
}

#[tokio::test]
async fn signatures_that_should_have_been_renewed() {
    // Made an hour ago: seven minutes are left of 67, or six of 66. The domain and its host have the keys of one zone.
    let lasting = |minutes: u64| std::time::Duration::from_secs(60 * minutes);
    let late = ["example.test MX", "example.test DNSKEY", "mx1.example.test A", "TLSA"];
    for (records, keys, expected) in [
        (67, 67, vec![]),
        (66, 66, late.to_vec()),
        (67, 66, vec!["example.test DNSKEY"]),
        (66, 67, vec![late[0], late[2], late[3]]),
    ] {
        let lasting = |tree: Tree, _| tree.lasting(lasting(records)).keys_lasting(lasting(keys));
        let (_, status, found) = judged(Scenario::new().tree(lasting), "").await;
        let advice = found["advice"].as_array().unwrap().iter();
        let texts =
            advice.filter(|advice| advice["kind"] == "signature-ends").map(|advice| advice["text"].as_str().unwrap());
        let texts: Vec<_> = texts.collect();
        assert_eq!((status, texts.len()), (0, expected.len()), "{texts:?}");
        for (text, expected) in texts.iter().zip(expected) {
            assert!(text.contains(&format!("{expected} ends in ")), "{texts:?}");
        }
    }
}

#[tokio::test]
async fn check_tells_whether_a_rule_is_still_needed() {
    let rule = |level: &str| {
        format!("[[rule]]\ndomain = 'example.test'\nlevel = '{level}'\nreason = 'ticket 4711'\nuntil = '2999-12-31'")
    };
    let (_, status, found) = judged(Scenario::new(), &rule("may")).await;
    assert_eq!((status, &found["level"], &found["verdict"]), (0, &"may".into(), &"encrypted".into()));
    assert_eq!((&found["rule"]["need"], &found["rule"]["default_verdict"]), (&"not-needed".into(), &"verified".into()));
    let stripped = || Scenario::new().mx(|mx| mx.ehlo = say("250 mx"));
    let (_, status, found) = judged(stripped(), &rule("may")).await;
    assert_eq!((status, &found["verdict"], &found["rule"]["need"]), (0, &"cleartext".into(), &"needed".into()));
    assert_eq!(found["rule"]["default_refusal"]["reason"], "starttls-missing");
    let (_, status, found) = judged(stripped(), &rule("encrypt")).await;
    assert_eq!((status, &found["rule"]["need"]), (1, &"no-help".into()));
    let lab = Scenario::new().start().await;
    let said = check(&lab, &rule("dane-only"), &["example.test"], "").await;
    let text = "├─ rule for example.test: ticket 4711, until 2999-12-31 (";
    assert!(said.out.contains(text) && said.out.contains("the rule asks for more than the default"), "{}", said.out);
}

#[tokio::test]
async fn a_forecast_for_many() {
    let scenario =
        Scenario::new().exchange(Exchange::new("b.example.test", "plain.example.test").tlsa([])).tree(|tree, _| {
            tree.mx("a.example.test", 10, "mx1.example.test").mx("c.example.test", 10, "mx1.example.test").mx(
                "null.example.test",
                0,
                ".",
            )
        });
    let lab = scenario.start().await;
    let input = "a.example.test\n\n# the second\nb.example.test # and why\nuser@C.example.test\nno domain\na.example.test\n\
                 null.example.test\n";
    let said = check(&lab, "", &["-", "--parallel", "3"], input).await;
    assert_eq!(said.status, 5);
    let lines: Vec<_> = said.out.lines().collect();
    // The verdicts come in the order of the domains, each once.
    for (line, start) in lines.iter().zip([
        "a.example.test verified mx1.example.test [1 to mend]",
        "b.example.test encrypted plain.example.test (the host has no TLSA records in a secure zone)",
        "c.example.test verified mx1.example.test [1 to mend]",
        "null.example.test rejected null-mx: the domain null.example.test accepts no mail",
        "4 domains:",
        "       2 verified by DANE",
        "       1 encrypted, and not verified",
        "       1 rejected: refused for good",
        "not verified, because:",
        "       1 the host has no TLSA records in a secure zone",
        "refused, because:",
        "       1 null-mx: null.example.test",
        "to mend:",
        "       2 one-record: a.example.test, c.example.test",
    ]) {
        assert!(line.starts_with(start), "{start:?} is not\n{}", said.out);
    }
    assert_eq!(lines.len(), 14, "{}", said.out);
    let left_out = "danelaw: standard input, line 6: \"no domain\" is no domain and left out: ";
    assert!(said.err.starts_with(left_out) && said.err.lines().count() == 1, "{}", said.err);
    // No host is asked the same question twice; under usage 3 the domain makes no difference (RFC 7671 §5.1).
    assert_eq!(lab.mx().connections(), 1);
    // Of several verdicts, a host that failed verification counts more than a domain that takes no mail, and more than
    // a failed lookup.
    lab.dns.set_fault("b.example.test", "MX", Fault::Drop);
    assert_eq!(check(&lab, "", &["null.example.test", "b.example.test"], "").await.status, 3);
    let strict = "tls.level = 'dane-only'";
    lab.dns.clear_fault("b.example.test", "MX");
    assert_eq!(check(&lab, strict, &["null.example.test", "b.example.test", "a.example.test"], "").await.status, 1);
    // As JSON the objects have standard output to themselves.
    let said = check(&lab, "tls.level = 'encrypt'", &["-", "--json"], "a.example.test\nc.example.test\n").await;
    let objects: Vec<Value> = said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(objects.iter().map(|object| &object["verdict"]).collect::<Vec<_>>(), ["encrypted", "encrypted"]);
    assert!(said.err.starts_with("2 domains:\n"), "{}", said.err);
    // One at level `encrypt`, and one with the proof that mail with REQUIRETLS needs.
    assert_eq!((said.status, lab.mx().connections()), (0, 4));
}

#[tokio::test]
async fn a_rule_is_suggested_where_it_would_hold() {
    // U19 to U23.
    let ca = Identity::authority();
    let roots = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(roots.path(), crate::lab::certs::pem("CERTIFICATE", &ca.certificate)).unwrap();
    let exchange = |domain: &str, host: &str, identity: Identity| {
        Exchange::new(domain, host).tlsa([]).script(move |mx| mx.identity = identity)
    };
    let own = Identity::for_name("mx1.own.test");
    let [good, plain, one] = ["mx1.good.test", "mx1.plain.test", "mx1.two.test"].map(|name| ca.issue(name));
    let lab = Scenario::new()
        .tree(|tree, _| tree.insecure("plain.test"))
        .exchange(exchange("good.test", "mx1.good.test", good))
        .exchange(exchange("plain.test", "mx1.plain.test", plain))
        .exchange(exchange("own.test", "mx1.own.test", own.clone()))
        .exchange(exchange("two.test", "mx1.two.test", one))
        .exchange(exchange("two.test", "mx2.two.test", own))
        .start()
        .await;
    let toml = format!("tls.ca = '{}'", roots.path().display());
    for (domain, parts) in [
        ("example.test", &["# example.test: no rule: its mail is verified without one\n"][..]),
        (
            "own.test",
            &["# own.test: no rule: mx1.own.test [127.0.0.", "to public CAs its certificate is self-signed\n"],
        ),
        ("two.test", &["# two.test: no rule: mx2.two.test [127.0.0."]),
        ("gone.example.test", &["# gone.example.test: no rule: special-use-name\n"]),
    ] {
        let said = with_config(&lab, &toml, &["rules", "suggest", domain], "").await;
        assert!(parts.iter().all(|part| said.out.contains(part)), "{domain}: {}{}", said.out, said.err);
        assert!(!said.out.contains("[[rule]]"), "{}", said.out);
    }
    let said = with_config(&lab, &toml, &["rules", "suggest", "-"], "a@good.test\nplain.test\n").await;
    let rules: toml::Table = said.out.parse().unwrap_or_else(|error| panic!("{error}: {}", said.out));
    let of = |place: usize, key: &str| rules["rule"][place][key].as_str().unwrap().to_owned();
    assert_eq!((of(0, "domain"), of(0, "level")), ("good.test".to_owned(), "verify".to_owned()));
    assert_eq!(of(1, "domain"), "plain.test");
    assert_eq!(said.out.matches("# mx = [").count(), 1, "{}", said.out);
    assert!(said.out.ends_with("# level = \"secure\"\n# mx = [\"mx1.plain.test\"]\n"), "{}", said.out);
    assert!(lab.seen.iter().all(|mx| !mx.saw_mail()));
}

#[tokio::test]
async fn a_suggested_rule_tells_how_long_its_hosts_have_been_good() {
    // U19, U20.
    let ca = Identity::authority();
    let roots = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(roots.path(), crate::lab::certs::pem("CERTIFICATE", &ca.certificate)).unwrap();
    let identity = ca.issue("mx.test");
    let mx = |domain: &str| Exchange::new(domain, "mx.test").tlsa([]).script(move |mx| mx.identity = identity);
    let mut lab = Scenario::new().exchange(mx("good.test")).start().await;
    let store = Store::open(None).await.unwrap();
    let port = lab.now().connector.dialer.port;
    let of_port = |row: HostSessions| HostSessions { port, ..row };
    let days = |days: std::ops::RangeInclusive<i64>| days.map(|day| of_port(sessions(day, "valid", 2)));
    for (rows, expected) in [
        (days(0..=1).collect::<Vec<_>>(), "# mx.test: good for 1 day (4 sessions on 2 days)\n[[rule]]\n"),
        (days(2..=31).collect(), "# mx.test: settled since 2026-02-01 (64 sessions on 32 days)\n[[rule]]\n"),
        (
            vec![of_port(sessions(32, "self-signed", 1))],
            "# good.test: no rule: mx.test: the last session that danelaw remembers, on 2026-03-05, was self-signed\n",
        ),
    ] {
        lab.hosts = Some(Arc::new(learnt(&store, rows).await));
        let admin = lab.admin().await;
        let toml = format!("tls.ca = '{}'\nadmin.address = '{admin}'", roots.path().display());
        let said = with_config(&lab, &toml, &["rules", "suggest", "good.test"], "").await;
        assert!(said.out.contains(expected), "{}{}", said.out, said.err);
        assert!(said.out.parse::<toml::Table>().is_ok(), "{}", said.out);
        // A question about mail: no web page may ask it under a name of its own.
        let (status, told) = crate::admin::get(&admin, "/hosts/mx.test").await;
        let told: Value = serde_json::from_str(&told).unwrap();
        assert_eq!((status, &told["host"], &told["port"]), (200, &"mx.test".into(), &port.into()));
        let (status, _) = crate::admin::get(&admin, "/hosts/mx.test:1").await;
        assert_eq!(status, 404);
    }
}
