//! The dashboard and the alerts: they ask for metrics that danelaw serves, and the alerts fire when they should. The page
//! about them has every metric, log field and alert.

mod log_fields;
mod sketch;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use danelaw::discovery::StsFigures;
use danelaw::name::Name;
use danelaw::policy::{ListenerMail, Mode};
use danelaw::refusal::Label;
use danelaw::refusal::table::ROWS;
use danelaw::report::metrics::admin::{AdminPart, AdminResult};
use danelaw::report::metrics::{Format, HostFigures, Moment, WatchFigures};
use danelaw::report::{Outcome, Reporter, Verdict, Would};
use danelaw::requiretls::TagResult;
use danelaw::rules::LevelFloor;
use danelaw::store::{OperationFigures, StoreFigures};
use danelaw::tls::server::{ClientCertificate, ClientTls};
use danelaw::tlsrpt::TlsEvent;
use danelaw::tlsrpt::event::{ReportedPolicy, TlsResult};
use danelaw::trace::{StepKind, Trace};
use danelaw::upstream::original_destination::{OriginalDestination, Relation};
use serde_json::Value;
use tokio::time::Instant;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};

use crate::manual::made::{assert_file, assert_made, rows, spans};
use sketch::sketch;

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn text(path: &str) -> String {
    std::fs::read_to_string(repository(path)).unwrap()
}

/// Lets promtool judge a file.
fn promtool(arguments: &[&str], file: &str) {
    let mut promtool = Command::new("promtool");
    let output = promtool.args(arguments).arg(repository(file)).output();
    let output = output.expect("the package prometheus, which tests/run installs");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

/// The names of all series that a danelaw serves, with and without events.
fn served() -> BTreeSet<String> {
    let watch = Some(WatchFigures { last_run: Some(1), ..WatchFigures::default() });
    let (build, hosts) = (vec![("version", "0")], Some(HostFigures::default()));
    let moment = Moment { resolvers: vec![true], watch, hosts, build, ..Moment::default() };
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

/// An attempt with a step of each kind, and a value for each label.
fn attempt() -> Outcome {
    let seen = Trace::default();
    for what in
        [StepKind::Lookup("MX", "secure"), StepKind::Connect("ok"), StepKind::Tls("ok"), StepKind::RequireTls("no")]
    {
        seen.since(Instant::now(), what, format_args!(""));
    }
    let name = Name::parse("example").unwrap();
    seen.report(TlsEvent {
        recipient: name.clone(),
        policy: ReportedPolicy::none_for(&name),
        result: TlsResult::Success,
    });
    Outcome {
        id: "A1B2".to_owned(),
        would: Some(Would { reason: Label::TlsaMismatch, answer: "451 no".to_owned() }),
        verdict: Verdict::Delivered,
        reason: None,
        text: String::new(),
        recipients: 1,
        octets: 1,
        listener_level: Some(LevelFloor::Secure),
        requiretls: Some(TagResult::Sent),
        listener_mail: ListenerMail::TlsRequiredNo,
        client_tls: Some(Arc::new(ClientTls {
            version: "TLSv1.3",
            cipher_suite: "TLS_AES_128_GCM_SHA256".into(),
            certificate: ClientCertificate::Verified,
        })),
        original_destination: Some(OriginalDestination {
            address: [192, 0, 2, 1].into(),
            relation: Relation::Exchange,
        }),
        seen,
        ..Outcome::unfinished(&name, Mode::Observe)
    }
}

/// All series after one event of each kind.
fn busy() -> String {
    let reporter = Reporter::new(0).telling(tokio::sync::mpsc::channel(1).0);
    reporter.report(&attempt());
    reporter.ran_out(Label::OutOfMemory, "accept");
    let metrics = reporter.metrics();
    metrics.turned_away(danelaw::report::turned_away::TurnedAway::Sessions);
    metrics.client_handshake("verified");
    metrics.tls_session_dropped("full");
    metrics.tls_report("mail", "sent");
    metrics.asked(AdminPart::Page, AdminResult::Ok);
    metrics.host_changed("expired");
    metrics.reloaded();
    let build = vec![("version", "0"), ("commit", "0"), ("rustc", "0")];
    let mta_sts = StsFigures {
        lookups: vec![("found", 1)],
        fetches: vec![("ok", 1)],
        policies: vec![("enforce", 1)],
        failing: 0,
    };
    let claims = OperationFigures { operation: "claim", buckets: vec![(1.0, 1)], seconds: 0.1 };
    let (operations, errors, leads) = (vec![claims], vec![("busy", 1)], vec![("tidy", true)]);
    let store = StoreFigures { is_up: true, leads, operations, errors, unknown: 1 };
    let hosts = Some(HostFigures::default());
    let watch = Some(WatchFigures {
        findings: [(["broken-now", "warn", "theirs"], 1)].into(),
        names: [(["domains", "good"], 1)].into(),
        looks: vec![("dns", 1)],
        last_run: Some(1),
        is_blind: false,
    });
    let moment = Moment { resolvers: vec![true], mta_sts, store, watch, hosts, build, ..Moment::default() };
    metrics.written(moment, Format::Prometheus)
}

/// The labels of a metric, of its first series.
fn labels(written: &str, name: &str) -> Vec<String> {
    let series = |line: &&str| {
        let suffixes = ["", "_bucket"].map(|suffix| format!("{name}{suffix}{{"));
        suffixes.iter().any(|start| line.starts_with(start.as_str()))
    };
    let Some(line) = written.lines().find(series) else { return Vec::new() };
    let inside = line.split_once('{').unwrap().1.split_once('}').unwrap().0;
    let names = inside.split(',').map(|label| label.split('=').next().unwrap());
    names.filter(|label| *label != "le").map(|label| format!("`{label}`")).collect()
}

#[test]
fn the_page_has_every_metric() {
    let written = busy();
    let mut table = "| metric | type | labels | help |\n|---|---|---|---|\n".to_owned();
    for line in written.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        let help = written.lines().find_map(|line| line.strip_prefix(&format!("# HELP {name} "))).unwrap();
        let labels = labels(&written, name).join(", ");
        table += &format!("| `{name}` | {kind} | {labels} | {} |\n", help.trim_end_matches('.'));
    }
    for name in ["danelaw_deliveries_total", "danelaw_intercepted_total", "danelaw_shortages_total"] {
        assert!(!labels(&written, name).is_empty(), "{name}");
    }
    assert_made("config/prometheus/README.md", "/metrics", &table);
    // All pages speak of metrics that exist.
    let histograms = ["danelaw_stage_seconds", "danelaw_store_seconds"].map(str::to_owned);
    let known: BTreeSet<String> = served().into_iter().chain(histograms).collect();
    for page in ["README.md", "config/README.md", "config/prometheus/README.md", "config/clients/README.md"] {
        let documented = named(&text(page));
        assert!(documented.is_subset(&known), "{page}: {:?}", documented.difference(&known));
    }
}

/// Notes the names of the fields of the event `delivery`.
#[derive(Clone, Default)]
struct Fields(Arc<Mutex<BTreeSet<&'static str>>>);

impl<S: tracing::Subscriber> Layer<S> for Fields {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let fields = event.metadata().fields();
        if fields.field("verdict").is_some() {
            self.0.lock().unwrap().extend(fields.iter().map(|field| field.name()));
        }
    }
}

#[test]
fn the_page_has_every_field_of_the_log() {
    let fields = Fields::default();
    let subscriber = tracing_subscriber::registry().with(fields.clone());
    tracing::subscriber::with_default(subscriber, || Reporter::new(0).report(&attempt()));
    let logged: BTreeSet<String> =
        fields.0.lock().unwrap().iter().filter(|name| **name != "message").map(|name| (*name).to_owned()).collect();
    let page = text("config/prometheus/README.md");
    let rows = rows(&page, "| field | meaning |");
    let documented: BTreeSet<String> = rows.iter().flat_map(|row| spans(&row[0])).map(str::to_owned).collect();
    assert_eq!(documented, logged);
    let verdicts = [Verdict::Delivered, Verdict::Deferred, Verdict::Rejected, Verdict::Aborted];
    let row = rows.iter().find(|row| row[0] == "`verdict`").unwrap();
    assert_eq!(spans(&row[1]).collect::<Vec<_>>(), verdicts.map(Verdict::as_str));
}

#[test]
fn the_page_has_every_field_of_other_events() {
    let page = text("config/prometheus/README.md");
    let rows = rows(&page, "| field of other events | meaning |");
    let documented: BTreeSet<String> = rows.iter().flat_map(|row| spans(&row[0])).map(str::to_owned).collect();
    assert_eq!(documented, log_fields::of_events_below(&repository("src")));
}

#[test]
fn the_page_has_every_alert() {
    let mut table = "| alert | severity | meaning |\n|---|---|---|\n".to_owned();
    let alerts = text("config/prometheus/alerts.yml");
    for alert in alerts.split("- alert: ").skip(1) {
        let value = |key: &str| alert.lines().find_map(|line| line.trim().strip_prefix(key)).unwrap();
        let severity = value("labels: {severity: ").trim_end_matches('}');
        let text = value("description: ").trim_matches('"');
        // `{{ $labels.reason }}` is REASON.
        let text = text.split("{{ $labels.").map(|part| match part.split_once(" }}") {
            Some((label, rest)) => label.to_uppercase() + rest,
            None => part.to_owned(),
        });
        let text: String = text.collect();
        table += &format!("| `{}` | {severity} | {text} |\n", alert.lines().next().unwrap());
    }
    assert_made("config/prometheus/README.md", "config/prometheus/alerts.yml", &table);
}

#[test]
fn the_sketch_is_that_of_the_dashboard() {
    let dashboard: Value = serde_json::from_str(&text("config/grafana/danelaw.json")).unwrap();
    assert_file("config/grafana/dashboard.svg", &sketch(&dashboard));
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
    promtool(&["test", "rules"], "tests/suite/watch/alerts.yml");
    let (alerts, tests) = (text("config/prometheus/alerts.yml"), text("tests/suite/watch/alerts.yml"));
    for alert in alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(tests.contains(&format!("{alert}\"")), "{alert} has no test");
    }
}
