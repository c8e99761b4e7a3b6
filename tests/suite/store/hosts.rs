//! The memory of hosts in the store: days of sessions, the warning of a change, restarts, and several danelaws.

use std::sync::Arc;

use danelaw::policy::host_session::{LeafNote, SessionNote};
use danelaw::report::Reporter;
use danelaw::report::metrics::{Format, HostFigures, Moment};
use danelaw::store::{HostSessions, Store, WatchRow};
use danelaw::watch::hosts::SettledHosts;
use danelaw::watch::settled::HostKey;
use time::{Date, Month, OffsetDateTime, Time};

use super::laws::Backend;
use crate::lab::Scenario;
use crate::lab::dns::Tree;
use crate::lab::mx::say;
use crate::log::captured;
use crate::reload::{Program, anchor};

laws!(
    u12_a_settled_host_that_changes_is_told,
    u10_an_entry_that_cannot_be_read_is_left_out,
    u7_old_entries_leave_the_store
);

fn noon(day: i64) -> OffsetDateTime {
    let first = Date::from_calendar_date(2026, Month::February, 1).unwrap();
    OffsetDateTime::new_utc(first + time::Duration::days(day), Time::from_hms(12, 0, 0).unwrap())
}

/// Sessions with `mx.test` on a day, counted from 2026-02-01.
pub(crate) fn sessions(day: i64, word: &str, sessions: i64) -> HostSessions {
    let at = noon(day);
    let leaf = LeafNote { issuer: format!("{word} CA"), ends: noon(200).unix_timestamp() };
    HostSessions {
        host: "mx.test".to_owned(),
        port: 25,
        day: i64::from(at.date().to_julian_day()),
        word: word.to_owned(),
        sessions,
        last: at.unix_timestamp(),
        note: serde_json::to_string(&SessionNote { leaf: Some(leaf), roots: 7 }).unwrap(),
    }
}

/// A memory that has learnt these sessions, each on its day.
pub(crate) async fn learnt(store: &Store, rows: impl IntoIterator<Item = HostSessions>) -> SettledHosts {
    let hosts = SettledHosts::new(store.clone(), Arc::new(Reporter::new(0)));
    for row in rows {
        let at = OffsetDateTime::from_unix_timestamp(row.last).unwrap();
        store.add_host_sessions(&[row]).await.unwrap();
        hosts.minute(at).await;
    }
    hosts
}

fn key() -> HostKey {
    HostKey::parse("mx.test:25").unwrap()
}

impl Backend {
    /// The time of a danelaw that has ended is over.
    fn end_leases(&self) {
        self.database.iter().for_each(|server| drop(server.sql("UPDATE danelaw.leases SET until = 0")));
    }
}

/// U12, U16.
async fn u12_a_settled_host_that_changes_is_told(backend: Backend) {
    let store = backend.place.open().await.unwrap();
    let hosts = learnt(&store, (0..=31).map(|day| sessions(day, "valid", 3))).await;
    let known = hosts.get(&key()).unwrap();
    let streak = known.valid.clone().unwrap();
    assert_eq!((known.settled, streak.since.as_str(), streak.days, streak.sessions), (true, "2026-02-01", 32, 96));
    drop((hosts, store));
    backend.end_leases();

    // Another process.
    let store = backend.place.open().await.unwrap();
    let reporter = Arc::new(Reporter::new(0));
    let hosts = SettledHosts::new(store.clone(), Arc::clone(&reporter));
    let (log, _guard) = captured();
    for (day, expected) in [(32, 1), (32, 1), (33, 2)] {
        store.add_host_sessions(&[sessions(day, "self-signed", 1)]).await.unwrap();
        hosts.minute(noon(day)).await;
        let told = log.text();
        assert_eq!(told.matches("WARN").count(), expected, "{told}");
        for field in [
            "host changed host=mx.test port=25 kind=\"self-signed\" since=\"2026-02-01\" days=32 sessions=96 ",
            "issuer=\"self-signed CA\" ends=\"2026-08-20\" issuer_before=\"valid CA\" ends_before=\"2026-08-20\"",
        ] {
            assert_eq!(told.matches(field).count(), expected, "{told}");
        }
    }
    assert!(!hosts.get(&key()).unwrap().settled);
    assert_eq!(hosts.figures(), HostFigures { settled: 0, others: 1 });
    let moment = Moment { hosts: Some(hosts.figures()), ..Moment::default() };
    let metrics = reporter.metrics().written(moment, Format::Prometheus);
    for line in ["danelaw_host_changes_total{kind=\"self-signed\"} 2", "danelaw_hosts_remembered{settled=\"no\"} 1"] {
        assert!(metrics.lines().any(|shown| shown == line), "{metrics}");
    }
    drop((hosts, store));
    backend.end_leases();

    // The process after it remembers that the day was told.
    let store = backend.place.open().await.unwrap();
    let hosts = learnt(&store, [sessions(33, "self-signed", 1)]).await;
    assert_eq!((log.text().matches("WARN").count(), hosts.get(&key()).unwrap().days), (2, 34));
}

/// U10: nothing depends on it.
async fn u10_an_entry_that_cannot_be_read_is_left_out(backend: Backend) {
    let store = backend.place.open().await.unwrap();
    drop(learnt(&store, (0..=3).map(|day| sessions(day, "valid", 3))).await);
    let lease = store.watch_lease().await.unwrap();
    let row = |kind: &str, name: &str, entry: &str| {
        let [kind, name, entry] = [kind, name, entry].map(str::to_owned);
        WatchRow { kind, name, entry, seen: noon(3).unix_timestamp() }
    };
    let rows = [
        row("tls-host", "mx2.test:25", "{"),
        row("tls-host", "mx3.test", "{}"),
        row("domain", "a.test", "another part's"),
    ];
    store.put_watch_rows(&rows, lease).await.unwrap();
    store.add_host_sessions(&[HostSessions { note: "{".to_owned(), ..sessions(4, "valid", 1) }]).await.unwrap();
    store.add_host_sessions(&[HostSessions { host: "a b".to_owned(), ..sessions(4, "valid", 1) }]).await.unwrap();
    store.add_host_sessions(&[HostSessions { port: 26, ..sessions(4, "of a later version", 1) }]).await.unwrap();
    let (log, _guard) = captured();
    let hosts = SettledHosts::new(store.clone(), Arc::new(Reporter::new(0)));
    hosts.minute(noon(4)).await;
    assert_eq!((hosts.figures(), hosts.get(&key()).unwrap().days), (HostFigures { settled: 0, others: 1 }, 4));
    let told = log.text();
    assert!(told.matches("WARN").count() == 1 && told.contains("entries that cannot be read"), "{told}");
    assert!(told.contains("unreadable=2"), "{told}");
    // The others' entries stay, and each part reads its own.
    let names = async |kind: &str| {
        let rows = store.watch_rows_of(kind).await.unwrap();
        rows.into_iter().map(|row| row.name).collect::<Vec<_>>()
    };
    assert_eq!(names("domain").await, ["a.test"]);
    assert_eq!(names("tls-host").await, ["mx.test:25", "mx2.test:25", "mx3.test"]);
    assert_eq!(names("tls").await, [] as [&str; 0]);
    assert_eq!(store.watch_rows().await.unwrap().len(), 4);
}

/// U7.
async fn u7_old_entries_leave_the_store(backend: Backend) {
    let store = backend.place.open().await.unwrap();
    let hosts = learnt(&store, [sessions(0, "valid", 3)]).await;
    assert_eq!(store.watch_rows().await.unwrap()[0].name, "mx.test:25");
    hosts.minute(noon(90)).await;
    assert_eq!((hosts.figures().others, store.watch_rows().await.unwrap().len()), (1, 1));
    hosts.minute(noon(92)).await;
    assert_eq!((hosts.figures().others, store.watch_rows().await.unwrap().len()), (0, 0));
}

#[tokio::test]
async fn u11_one_danelaw_learns_the_sessions_of_all() {
    // U11: the one with the lease writes, and another reads its entries.
    let backend = Backend::database();
    let [first, second] = [backend.place.open().await.unwrap(), backend.place.open().await.unwrap()];
    let leading = learnt(&first, [sessions(0, "valid", 3)]).await;
    let following = learnt(&second, [sessions(0, "valid", 4)]).await;
    assert_eq!(following.get(&key()).unwrap().sessions, 3);
    leading.minute(noon(0)).await;
    assert_eq!(leading.get(&key()).unwrap().sessions, 7);
    // It reads them once an hour.
    following.minute(noon(0) + time::Duration::minutes(59)).await;
    assert_eq!(following.get(&key()).unwrap().sessions, 3);
    following.minute(noon(0) + time::Duration::minutes(60)).await;
    assert_eq!(following.get(&key()).unwrap().sessions, 7);
}

#[tokio::test]
async fn a_store_without_a_file_is_a_memory_for_the_process() {
    let store = Store::open(None).await.unwrap();
    let hosts = learnt(&store, (0..=30).map(|day| sessions(day, "valid", 1))).await;
    assert!(hosts.get(&key()).unwrap().settled);
}

#[tokio::test]
async fn u6_mail_to_hosts_at_reserved_addresses_teaches_nothing() {
    // U6: with TLS, in cleartext by a rule, and in mode observe.
    let rule = "rule = [{ domain = 'example.test', level = 'may', reason = 'x', until = '2999-01-01' }]";
    for (ehlo, toml) in [
        ("250-mx\r\n250 STARTTLS", "tls.level = 'encrypt'"),
        ("250-mx\r\n250 STARTTLS", rule),
        ("250 mx", rule),
        ("250 mx", "mode = 'observe'\ntls.level = 'encrypt'"),
    ] {
        let lab = Scenario::new().mx(|mx| mx.ehlo = say(ehlo)).set(toml).start().await;
        assert!(lab.send().await.last().starts_with("250 "), "{toml}");
        assert_eq!(lab.now().reporter.host_sessions().unwrap().take(), [], "{toml}");
    }
}

#[tokio::test]
async fn u11_a_danelaw_that_runs_remembers_hosts() {
    // U11: sessions that another process has left in the store.
    let dns = Tree::new().start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sqlite");
    let store = Store::open(Some(&path)).await.unwrap();
    let now = OffsetDateTime::now_utc();
    let today = HostSessions {
        day: i64::from(now.date().to_julian_day()),
        last: now.unix_timestamp(),
        ..sessions(0, "valid", 3)
    };
    store.add_host_sessions(&[today]).await.unwrap();
    drop(store);
    let anchor = anchor(folder.path(), &dns);
    let toml = format!("[store]\npath = \"{}\"\n[watch]\nevery = \"24h\"\nown = [\"example.test\"]\n", path.display());
    Program::configure(folder.path(), &anchor, &dns, &toml);
    let program = Program::start(folder).await;
    program
        .becomes("/hosts/mx.test", |text| text.contains("\"sessions\":3") && text.contains("\"settled\":false"))
        .await;
    program.becomes("/metrics", |text| text.contains("danelaw_hosts_remembered{settled=\"no\"} 1\n")).await;
}
