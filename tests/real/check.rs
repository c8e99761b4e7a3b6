//! `danelaw check` among real servers: its verdict on a domain is the outcome of mail to it, and it sends no mail.

use std::process::Command;

use serde_json::Value;

use crate::case::{Case, Certificate, DOMAIN, Exchange, MX1, MX2, Server, Tlsa};
use crate::lab::Lab;

/// The JSON report on the domain, and the exit status.
#[track_caller]
fn check(lab: &Lab) -> (Value, Option<i32>) {
    let output = Command::new(env!("CARGO_BIN_EXE_danelaw"))
        .args(["check", DOMAIN, "--json", "--config"])
        .arg(lab.configuration())
        .output()
        .expect("danelaw runs");
    let object = serde_json::from_slice(&output.stdout);
    (object.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr))), output.status.code())
}

/// Rows B1, F6: the same host, record and depth as in the log of a delivery.
#[test]
fn mail_that_check_calls_verified_is_delivered() {
    let first = Exchange { certificate: Certificate::FromCa, ..MX1 };
    let lab = Lab::start(&Case::of([first.clone(), MX2]));
    let (found, status) = check(&lab);
    assert_eq!((status, &found["verdict"]), (Some(0), &"verified".into()), "{found:#}");
    for exchange in [&MX1, &MX2] {
        lab.assert_no_mail_command_at(exchange);
    }
    let depths = [0, 1].map(|number| &found["exchanges"][number]["sessions"][0]["tlsa_depth"]);
    assert_eq!(depths, [&Value::from(1), &Value::from(0)], "{found:#}");
    assert_eq!(lab.mail().status, "sent");
    let session = &found["exchanges"][0]["sessions"][0];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    lab.danelaw().await_delivery("delivered").assert(&[
        ("exchange", &text(&found["exchange"])),
        ("address", &text(&found["address"])),
        ("protection", &text(&session["protection"])),
        ("tls_version", &text(&session["tls_version"])),
        ("cipher", &text(&session["cipher"])),
        ("tlsa", &text(&session["tlsa"])),
        ("tlsa_depth", &session["tlsa_depth"].to_string()),
    ]);
}

/// Rows B10, H2, B11: a mismatch, a missing STARTTLS, a forged record.
#[test]
fn mail_is_refused_for_the_reason_that_check_gives() {
    for (exchange, status) in [
        (Exchange { tlsa: Tlsa::Other, ..MX1 }, 1),
        (Exchange { server: Server::WITHOUT_STARTTLS, ..MX1 }, 1),
        (Exchange { tlsa: Tlsa::Forged, ..MX1 }, 3),
    ] {
        let lab = Lab::start(&Case::of([exchange]));
        let (found, found_status) = check(&lab);
        assert_eq!((found_status, &found["verdict"]), (Some(status), &"deferred".into()), "{found:#}");
        let no = &found["refusal"];
        let [code, reason] = ["code", "reason"].map(|field| no[field].as_str().unwrap_or_default());
        lab.mail().assert_deferred(code, &[MX1.name]);
        lab.danelaw().await_delivery("deferred").assert(&[("reason", reason)]);
        lab.assert_no_mail_command_at(&MX1);
    }
}

/// The findings about the domain after one look, as kind, state and reason.
#[track_caller]
fn watch(lab: &Lab) -> Vec<[String; 3]> {
    let memory = tempfile::tempdir().expect("a directory");
    let state = memory.path().join("state");
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_danelaw"));
        command.args(["watch", "--config"]).arg(lab.configuration()).arg("--state").arg(&state);
        command
            .args(["--set", &format!("watch.domains=[\"{DOMAIN}\"]")])
            .args(arguments)
            .output()
            .expect("danelaw runs")
    };
    let looked = run(&["--once"]);
    assert_eq!((looked.status.code(), looked.stdout.as_slice()), (Some(0), &b""[..]), "{looked:?}");
    let shown = run(&["--all", "--json"]);
    let view: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    let rows = view["findings"].as_array().expect("a list").iter();
    let text = |row: &Value, field: &str| row[field].as_str().unwrap_or_default().to_owned();
    rows.map(|row| ["kind", "state", "reason"].map(|field| text(row, field))).collect()
}

/// Row W5: the watch calls a host broken for the reason for which mail to it waits.
#[test]
fn the_watch_finds_the_fault_that_mail_meets() {
    let good = Lab::start(&Case::of([Exchange { certificate: Certificate::FromCa, ..MX1 }, MX2]));
    assert_eq!(watch(&good), Vec::<[String; 3]>::new());
    for (exchange, reason) in [
        (Exchange { tlsa: Tlsa::Other, ..MX1 }, "tlsa-mismatch"),
        (Exchange { server: Server::WITHOUT_STARTTLS, ..MX1 }, "starttls-missing"),
        (Exchange { tlsa: Tlsa::Forged, ..MX1 }, "tlsa-lookup-failed"),
    ] {
        let lab = Lab::start(&Case::of([exchange]));
        assert_eq!(watch(&lab), [["broken-now", "suspected", reason].map(str::to_owned)]);
        lab.assert_no_mail_command_at(&MX1);
        assert_ne!(lab.mail().status, "sent");
        lab.danelaw().await_delivery("deferred").assert(&[("reason", reason)]);
    }
}
