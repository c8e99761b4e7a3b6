//! `danelaw tlsrpt show` and `preview` ask the danelaw that runs.

use std::process::Command;

use danelaw::config::Address;

use super::*;

/// The exit status and the output of a subcommand that asks there.
async fn told(admin: &Address, arguments: &[&str]) -> (Option<i32>, String) {
    let settings = [
        format!("admin.address={admin}"),
        "store.path=/nowhere/store.sqlite".to_owned(),
        "tlsrpt.mode=send".to_owned(),
        "tlsrpt.organization=Example Ltd".to_owned(),
        "tlsrpt.contact=tls@sender.example.test".to_owned(),
        "tlsrpt.dkim_key=/nowhere/key.pem".to_owned(),
    ];
    let mut command = Command::new(env!("CARGO_BIN_EXE_danelaw"));
    command.arg("tlsrpt").args(arguments).args(["--config", "/dev/null"]);
    command.args(settings.iter().flat_map(|setting| ["--set", setting]));
    let run = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    (run.status.code(), [run.stdout, run.stderr].map(|text| String::from_utf8(text).unwrap()).concat())
}

#[tokio::test]
async fn a_day_is_shown_in_words_by_the_danelaw_that_runs() {
    let sender = Sender::new();
    let (mut lab, dispatch, _events) = sender.counted(sender.scenario("mailto:r@example.test")).await;
    lab.reports = Some(dispatch);
    let admin = lab.admin().await;
    let (status, text) = told(&admin, &["show", "--days", "2"]).await;
    assert_eq!(status, Some(1), "{text}");
    for line in [
        "example.test: 0 sessions went well, 1 failed\n  DANE for mx1.example.test: 0 sessions went well, 1 failed\n",
        "    1 time certificate-not-trusted at mx1.example.test [127.0.0.1]: tlsa-mismatch\n",
        "      To do for the receiver: publish a TLSA record ",
        "      See: danelaw check example.test; danelaw refusals tlsa-mismatch\n",
        " (UTC): 0 sessions went well, with 0 domains\n",
        " (UTC): 0 sessions went well, 1 failed, with 1 domain\n",
    ] {
        assert!(text.contains(line), "{line:?} in {text}");
    }
    let (status, text) = told(&admin, &["show", "yesterday", "--failures"]).await;
    assert!(status == Some(0) && text.lines().count() == 1, "{text}");
    let (_, text) = told(&admin, &["show", "--json"]).await;
    let line: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(line["policies"][0]["failures"][0]["reason"], "tlsa-mismatch");
    // The counts are not the reports' alone: a danelaw that makes none has none.
    lab.reports = None;
    let (status, text) = told(&lab.admin().await, &["show"]).await;
    assert!(status == Some(69) && text.contains("does not run with tlsrpt.mode = \"send\""), "{text}");
}

#[tokio::test]
async fn t47_a_preview_tells_where_reports_would_go_and_sends_none() {
    // T47, T40.
    let sender = Sender::new();
    let (told_events, mut events) = mpsc::channel(100);
    let rua = "mailto:r@example.test,https://report.example.test/v1";
    let mut lab = sender.scenario(rua).telling(told_events).start().await;
    let (news, settings) = watch::channel(sender.settings(443));
    let dispatch = sender.dispatch_with(&lab, settings).await;
    count_one(&lab, &dispatch, &mut events).await;
    lab.reports = Some(dispatch);
    let admin = lab.admin().await;
    let (status, text) = told(&admin, &["preview"]).await;
    let start = "example.test\n  to mailto:r@example.test\n  to https://report.example.test/v1\n{\"organization-name\":\"Example Ltd\",";
    assert!(status == Some(0) && text.starts_with(start), "{text}");
    // The domain of the TLSA records asks for none.
    let of_base =
        "mx1.example.test\n  no report: there is no record that starts with v=TLSRPTv1;\n{\"organization-name\":";
    assert!(text.contains(of_base), "{text}");
    let report = text.lines().find(|line| line.starts_with('{')).unwrap();
    assert_eq!(report_in(report.as_bytes()).report.failed(), 1);
    // Another key, and a domain that is left out.
    let other = Sender::new();
    let mut settings = Arc::into_inner(other.settings(443)).unwrap();
    settings.scope.skip = vec!["mx1.example.test".parse().unwrap()];
    news.send_replace(Arc::new(settings));
    let (_, text) = told(&admin, &["preview", "example.test"]).await;
    let waits = "  not to mailto:r@example.test now: mails wait: no TXT record has the key of tlsrpt.dkim_key, or there is another one beside it\n";
    assert!(text.contains(waits) && text.contains("  to https://"), "{text}");
    let (_, text) = told(&admin, &["preview", "mx1.example.test"]).await;
    assert!(text.starts_with("mx1.example.test\n  no report: tlsrpt.skip has it\n{"), "{text}");
    let (status, text) = told(&admin, &["preview", "none.example.test"]).await;
    assert!(status == Some(1) && text.contains("no TLS session of today is counted"), "{text}");
    assert!(lab.mx().messages().is_empty());
}

#[test]
fn without_counts_there_is_nothing_to_ask() {
    for command in ["show", "preview"] {
        let mut danelaw = Command::new(env!("CARGO_BIN_EXE_danelaw"));
        let run = danelaw.args(["tlsrpt", command, "--config", "/dev/null"]).output().unwrap();
        let error = String::from_utf8(run.stderr).unwrap();
        assert!(run.status.code() == Some(78) && error.contains("tlsrpt.mode is empty"), "{error}");
    }
}
