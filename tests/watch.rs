//! The dashboard and the alerts: they ask for nothing but what danelaw serves, and the alerts fire when they should.

// A test that cannot go on may panic.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use danelaw::refusal::Label;
use danelaw::refusal::table::ROWS;
use danelaw::report::Reporter;
use danelaw::report::metrics::{Format, Moment};
use serde_json::Value;

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn text(path: &str) -> String {
    std::fs::read_to_string(repository(path)).unwrap()
}

/// What promtool says of a file; it has to be content.
fn promtool(arguments: &[&str], file: &str) {
    let mut promtool = Command::new("promtool");
    let output = promtool.args(arguments).arg(repository(file)).output();
    let output = output.expect("the package prometheus, which tests/run installs");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

/// The names of all series that a danelaw serves, with and without events.
fn served() -> BTreeSet<String> {
    let moment = Moment { resolvers: vec![true], build: vec![("version", "0")], ..Moment::default() };
    let written = Reporter::new(0).metrics().written(moment, Format::Prometheus);
    let typed = written.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    typed
        .flat_map(|(name, kind)| {
            let suffixes: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            suffixes.iter().map(move |suffix| format!("{name}{suffix}"))
        })
        .collect()
}

/// The names of our series in a text.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("danelaw_")).map(str::to_owned).collect()
}

/// Every value of a key, however deep.
fn values<'a>(json: &'a Value, key: &str) -> Vec<&'a str> {
    match json {
        Value::Object(fields) => {
            let own = fields.get(key).and_then(Value::as_str);
            own.into_iter().chain(fields.values().flat_map(|value| values(value, key))).collect()
        }
        Value::Array(items) => items.iter().flat_map(|item| values(item, key)).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn the_dashboard_shows_what_is_served_and_all_of_it() {
    let dashboard: Value = serde_json::from_str(&text("config/grafana/danelaw.json")).unwrap();
    let asked: BTreeSet<String> = values(&dashboard, "expr").into_iter().flat_map(named).collect();
    assert_eq!(asked, served());
}

#[test]
fn readme_has_every_number() {
    let documented = named(&text("README.md"));
    for name in served().iter().map(|name| name.trim_end_matches("_bucket").trim_end_matches("_sum")) {
        assert!(documented.contains(name.trim_end_matches("_count")), "{name}");
    }
    let known: BTreeSet<String> = served().into_iter().chain(["danelaw_stage_seconds".to_owned()]).collect();
    assert!(documented.is_subset(&known), "{:?}", documented.difference(&known));
}

#[test]
fn readme_names_reasons_and_protections_as_the_log_does() {
    let readme = text("README.md");
    let named = |field: &str| -> Vec<String> {
        let row = readme.lines().find_map(|line| line.strip_prefix(&format!("| `{field}` | "))).expect(field);
        row.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    };
    let reasons = named("reason");
    assert!(reasons.len() > 3, "{reasons:?}");
    for reason in reasons {
        assert!(Label::ALL.iter().any(|label| label.as_str() == reason), "{reason}");
    }
    assert_eq!(named("protection"), ["verified", "host-verified", "encrypted", "cleartext", "none"]);
    assert_eq!(named("verdict"), ["delivered", "deferred", "rejected", "aborted"]);
}

#[test]
fn the_alerts_ask_for_what_is_served() {
    let alerts = text("config/prometheus/alerts.yml");
    let (asked, served) = (named(&alerts), served());
    assert!(asked.len() > 5 && asked.is_subset(&served), "{:?}", asked.difference(&served));
    // The reasons are those of the table, letter by letter.
    let matchers =
        ["result=", "reason="].map(|label| alerts.split(label).skip(1).filter_map(|rest| rest.split('"').nth(1)));
    let reasons: Vec<&str> = matchers.into_iter().flatten().flat_map(|words| words.split('|')).collect();
    assert!(reasons.len() > 5);
    for reason in reasons {
        assert!(ROWS.iter().any(|row| row.label.as_str() == reason), "{reason}");
    }
    promtool(&["check", "config"], "config/prometheus/prometheus.yml");
}

#[test]
fn the_alerts_fire_when_they_should_and_then_only() {
    promtool(&["test", "rules"], "tests/watch/alerts.yml");
    let (alerts, tests) = (text("config/prometheus/alerts.yml"), text("tests/watch/alerts.yml"));
    for alert in alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(tests.contains(&format!("{alert}\"")), "{alert} has no test");
    }
}
