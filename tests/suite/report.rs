//! `danelaw report`: the numbers of a month are those of the mails that went.

use std::path::Path;
use std::sync::Arc;

use danelaw::admin::client::ask;
use danelaw::config::Address;
use danelaw::roots::Roots;
use serde_json::Value;
use time::OffsetDateTime;

use crate::admin::{get, is_valid_html};
use crate::lab::certs::Identity;
use crate::lab::client::Client;
use crate::lab::dns::Fault;
use crate::lab::exchange::Exchange;
use crate::lab::mx::say;
use crate::lab::sts::{Policies, policy};
use crate::lab::{MESSAGE, Scenario};
use crate::process::{Said, danelaw, said};
use crate::reload::{Program, anchor};

/// `danelaw report` with this admin port.
async fn report(admin: &Address, arguments: &[&str]) -> Said {
    let mut command = danelaw();
    command.args(["--config", "/dev/null", "--set", &format!("admin.address={:?}", admin.to_string()), "report"]);
    command.args(arguments);
    said(command, "").await
}

/// The count and the number of domains of each result that occurred.
fn results(report: &Value) -> Vec<(&str, u64, u64)> {
    let number = |row: &Value, field: &str| row[field].as_u64().unwrap();
    let rows = report["results"].as_array().unwrap().iter();
    let rows = rows.map(|row| (row["result"].as_str().unwrap(), number(row, "count"), number(row, "domains")));
    rows.filter(|(_, count, _)| *count > 0).collect()
}

fn this_month() -> String {
    let today = OffsetDateTime::now_utc().date();
    format!("{:04}-{:02}", today.year(), u8::from(today.month()))
}

/// Exchanges that differ in the proof that they give.
fn exchanges(store: &Path) -> Scenario {
    let tomorrow = OffsetDateTime::now_utc().date().next_day().unwrap();
    let in_the_clear =
        |name: &str| Exchange::new(name, &format!("mx.{name}")).tlsa([]).script(|mx| mx.ehlo = say("250 mx"));
    Scenario::new()
        .tree(|tree, _| {
            tree.insecure("plain.test").insecure("clear.test").insecure("stripped.test").insecure("full.test")
        })
        .exchange(Exchange::new("plain.test", "mx.plain.test").tlsa([]))
        .exchange(in_the_clear("clear.test"))
        .exchange(in_the_clear("stripped.test"))
        .exchange(Exchange::new("full.test", "mx.full.test").tlsa([]).script(|mx| mx.rcpt = vec![say("550 full")]))
        .set(&format!(
            "store.path = '{}'\n[[rule]]\ndomain = 'clear.test'\nlevel = 'may'\nreason = 'old'\nuntil = '{tomorrow}'",
            store.display()
        ))
}

#[tokio::test]
async fn the_report_has_the_mails_that_went() {
    // V30.
    let folder = tempfile::tempdir().unwrap();
    let lab = exchanges(&folder.path().join("store.sqlite")).start().await;
    let admin = lab.admin().await;
    let none = report(&admin, &[]).await;
    assert!(none.status == 1 && none.err.contains("no mail of 20"), "{none:?}");
    for (to, times, code) in [
        ("example.test", 3, "250 2.0.0 "),
        ("plain.test", 2, "250 2.0.0 "),
        ("clear.test", 1, "250 2.0.0 "),
        ("stripped.test", 2, "451 4.7.4 "),
        ("full.test", 1, "550 "),
        ("nowhere.test", 1, "550 5.4.4 "),
    ] {
        for _ in 0..times {
            let mut client = lab.client().await;
            let answers = client.send(&[&format!("b@{to}")], MESSAGE).await;
            assert!(answers.last().starts_with(code), "{to}: {answers:?}");
        }
    }
    // An attempt that the client ends counts nowhere.
    let mut client = lab.client().await;
    client.command("MAIL FROM:<a@client.test>").await;
    assert!(client.command("RCPT TO:<b@plain.test>").await.starts_with("250 "));
    client.command("RSET").await;
    let json = report(&admin, &["--json"]).await;
    assert_eq!(json.status, 0, "{json:?}");
    let told: Value = serde_json::from_str(&json.out).unwrap();
    let expected = [("dane", 3, 1), ("encrypted", 2, 1), ("cleartext", 1, 1), ("refused", 2, 1), ("rejected", 2, 2)];
    assert_eq!(results(&told), expected);
    assert_eq!(told["delivered"], serde_json::json!({"count": 6, "domains": 3}));
    assert_eq!(told["not_delivered"], serde_json::json!({"count": 4, "domains": 3}));
    assert_eq!((&told["month"], &told["is_over"]), (&Value::from(this_month()), &Value::from(false)));
    assert_eq!(told["busiest"][0]["domain"], "example.test");
    let notes = told["notes"].as_array().unwrap();
    assert!(notes.iter().any(|note| note.as_str().unwrap().contains("negative trust anchors")), "{notes:?}");

    let text = report(&admin, &["--month", &this_month()]).await;
    assert_eq!(text.status, 0, "{text:?}");
    for line in [
        &format!("mail of {}, so far (UTC), read at 20", this_month()),
        "  verified by DANE                           3   50.0 %           1   33.3 %",
        "  cleartext, not enforced                    0    0.0 %           0    0.0 %",
        "  refused for want of TLS or proof           2   50.0 %           1   33.3 %",
        "that each valid TLSA record was held to.",
        "The counts say nothing of days on which danelaw did not run or did not count",
    ] {
        assert!(text.out.contains(line), "{line:?} is not in\n{}", text.out);
    }

    let html = report(&admin, &["--html"]).await;
    assert_eq!(html.status, 0, "{html:?}");
    is_valid_html(html.out.trim_end());
    for part in [
        "<title>Mail of 20",
        "<svg ",
        "<bdi>stripped.test</bdi>",
        "TR-03108-06-M",
        " so far</h1>",
        "danelaw config show --changed",
    ] {
        assert!(html.out.contains(part), "{part} is not in {}", html.out);
    }
    // It needs no other file, and no script.
    for part in ["<script", "http:", "https:", "<img", "src=", "href=", "url(", "@import"] {
        assert!(!html.out.contains(part), "{part} is in {}", html.out);
    }

    let written = "a month is written as 2026-11: a year from 0001 on, and a month from 01 to 12";
    for (month, why) in [
        ("2020-01", "no mail of 2020-01 is counted; store.mail_months says"),
        ("9999-12", "no mail of 9999-12 is counted: that month is in the future, since it is 20"),
        ("2020-13", written),
        ("0000-01", written),
    ] {
        let (status, text) = get(&admin, &format!("/report/{month}")).await;
        assert!(status == 404 && text.contains(why), "{status} {text}");
    }
    for month in ["2020-13", "0000-01"] {
        let wrong = report(&admin, &["--month", month]).await;
        assert!(wrong.status == 64 && wrong.err.contains(written), "{wrong:?}");
    }
    let future = report(&admin, &["--month", "9999-12"]).await;
    assert!(future.status == 1 && future.err.contains("is in the future"), "{future:?}");
    assert_eq!(report(&admin, &["--json", "--html"]).await.status, 64);
    assert_eq!(report(&"unix:/nonexistent/admin.sock".parse().unwrap(), &[]).await.status, 69);
}

/// The result of one mail of a scenario.
async fn result_of(scenario: Scenario, to: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store.sqlite");
    let lab = scenario.set(&format!("store.path = '{}'", store.display())).start().await;
    let answers = lab.client().await.send(&[&format!("b@{to}")], MESSAGE).await;
    let told: Value =
        serde_json::from_str(&get(&lab.admin().await, &format!("/report/{}", this_month())).await.1).unwrap();
    match results(&told)[..] {
        [(result, 1, 1)] => {
            assert_eq!(told["delivered"]["count"] == 1, answers.last().starts_with("250 "), "{told}");
            result.to_owned()
        }
        ref other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn each_proof_is_a_result_of_its_own() {
    // V30.
    let plain = |identity: Option<Identity>| {
        let exchange = Exchange::new("plain.test", "mx1.plain.test").tlsa([]);
        let exchange = match identity {
            Some(identity) => exchange.script(|mx| mx.identity = identity),
            None => exchange,
        };
        Scenario::with_domain(|tree, _| tree.insecure("plain.test")).exchange(exchange)
    };
    let ca = Identity::authority();
    let vouched = || plain(Some(ca.issue("mx1.plain.test"))).roots(Roots::of(vec![ca.certificate.clone()]));
    let listed = |mode: &str| Arc::new(Policies::default().with("plain.test", policy(mode, &["*.plain.test"])));
    let verify = "rule = [{ domain = 'plain.test', level = 'verify' }]";
    let identity = Identity::for_name("mx1.plain.test");
    let pins = format!(
        "rule = [{{ domain = 'plain.test', level = 'fingerprint', records = ['{}'] }}]",
        identity.record("3 1 1")
    );
    let other = Identity::for_name("other").record("3 1 1");
    let mismatch = || Scenario::of([Exchange::new("example.test", "mx1.example.test").tlsa([other.clone()])]);
    let signed_host = Scenario::new()
        .tree(|tree, _| tree.insecure("half.test"))
        .exchange(Exchange::new("half.test", "mx9.example.test"));
    let stripped = || Scenario::new().mx(|mx| mx.ehlo = say("250 mx"));
    for (scenario, to, expected) in [
        (Scenario::new(), "example.test", "dane"),
        (signed_host, "half.test", "dane-host"),
        (vouched().policies(&listed("enforce")), "plain.test", "mta-sts"),
        (vouched().policies(&listed("testing")), "plain.test", "encrypted"),
        (vouched().set(verify), "plain.test", "pkix"),
        (plain(Some(identity)).set(&pins), "plain.test", "fingerprint"),
        (plain(None), "plain.test", "encrypted"),
        (plain(None).policies(&listed("enforce")), "plain.test", "refused"),
        (mismatch(), "example.test", "refused"),
        (mismatch().set("mode = 'observe'"), "example.test", "encrypted-unenforced"),
        (stripped(), "example.test", "refused"),
        (stripped().set("mode = 'observe'"), "example.test", "cleartext-unenforced"),
        (
            Scenario::new().tree(|tree, _| tree.fault("example.test", "MX", Fault::Drop)),
            "example.test",
            "no-dns-answer",
        ),
        // A host that does not know EHLO has no STARTTLS; one that takes no mail from here may have it.
        (Scenario::new().mx(|mx| mx.ehlo = say("502 what?")), "example.test", "refused"),
        (Scenario::new().mx(|mx| mx.ehlo = say("550 5.7.1 listed")), "example.test", "deferred"),
        (Scenario::new().mx(|mx| mx.rcpt = vec![say("450 4.2.0 later")]), "example.test", "deferred"),
        (Scenario::new().mx(|mx| mx.rcpt = vec![say("550 5.1.1 none")]), "example.test", "rejected"),
    ] {
        assert_eq!(result_of(scenario, to).await, expected, "{to}");
    }
}

#[tokio::test]
async fn without_a_store_that_lasts_or_without_months_no_mail_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("store.sqlite");
    for set in [String::new(), format!("store = {{ path = '{}', mail_months = 0 }}", file.display())] {
        let lab = Scenario::new().set(&set).start().await;
        let admin = lab.admin().await;
        assert!(lab.send().await.last().starts_with("250 2.0.0 "));
        let none = report(&admin, &[]).await;
        assert!(none.status == 78 && none.err.contains("mail is not counted by month: set store.path"), "{none:?}");
    }
}

#[tokio::test]
async fn a_program_that_is_stopped_and_started_again_keeps_its_counts() {
    // V30.
    let folder = tempfile::tempdir().unwrap();
    let lab = Scenario::new().start().await;
    let (anchor, store) = (anchor(folder.path(), &lab.dns), folder.path().join("store.sqlite"));
    let rest = format!(
        "[remote]\nport = {}\nallow_reserved = [\"127.0.0.0/8\"]\n[store]\npath = \"{}\"\n",
        lab.port,
        store.display()
    );
    Program::configure(folder.path(), &anchor, &lab.dns, &rest);
    let mut folder = Some(folder);
    for total in [1, 2] {
        let mut program = Program::start(folder.take().unwrap()).await;
        let mut client = Client::connect(&Address::Tcp(program.listening().await)).await;
        client.command("EHLO client.test").await;
        let answers = client.send(&["b@example.test"], MESSAGE).await;
        assert!(answers.last().starts_with("250 2.0.0 "), "{answers:?}");
        drop(client);
        if total == 2 {
            let told = report(&program.admin(), &["--json"]).await;
            let told: Value = serde_json::from_str(&told.out).unwrap_or_else(|_| panic!("{told:?}"));
            assert_eq!(results(&told), [("dane", 2, 1)]);
            assert_eq!(ask(&program.admin(), "/report/2020-01").await.unwrap().0.as_u16(), 404);
        }
        // Long before the ten seconds after which counts are written.
        program.signal("TERM");
        program.ends_well().await;
        let place = std::mem::replace(&mut program.folder, tempfile::tempdir().unwrap());
        std::fs::remove_file(place.path().join("log")).unwrap();
        folder = Some(place);
    }
}
