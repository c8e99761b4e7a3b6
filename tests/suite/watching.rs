//! The watch over domains: `danelaw watch --once` as a program, and the watch of a danelaw that runs.

use std::net::SocketAddr;
use std::path::Path;

use danelaw::store::{MailDelta, MailWrite, Store};
use danelaw::watch::WatchProgress;
use serde_json::Value;

use crate::check::with_config;
use crate::check_loops::{RESERVED, add_interface};
use crate::lab::certs::Identity;
use crate::lab::dns::{Fault, Tree};
use crate::lab::exchange::Exchange;
use crate::lab::mx::{Mx, say};
use crate::lab::{Lab, Scenario, free_port};
use crate::process::Said;
use crate::store::server::Server;

/// A memory in a directory of its own.
struct Memory(tempfile::TempDir);

impl Memory {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> String {
        self.0.path().join("state").to_str().unwrap().to_owned()
    }

    fn read(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.path()).unwrap()).unwrap()
    }

    /// Makes all that is remembered older by so many hours.
    fn age(&self, hours: i64) {
        fn age(value: &mut Value, seconds: i64) {
            match value {
                Value::Array(values) => values.iter_mut().for_each(|value| age(value, seconds)),
                Value::Object(fields) => {
                    for (name, value) in fields {
                        match (name.as_str(), value.as_i64()) {
                            ("since" | "at" | "last" | "good_since" | "last_run", Some(time)) => {
                                *value = (time - seconds).into();
                            }
                            _ => age(value, seconds),
                        }
                    }
                }
                _ => {}
            }
        }
        let mut state = self.read();
        age(&mut state, hours * 3600);
        std::fs::write(self.path(), state.to_string()).unwrap();
    }

    /// Shows the memory.
    async fn shown(&self, lab: &Lab, arguments: &[&str]) -> Said {
        let state = self.path();
        with_config(lab, "", &[&["watch", "--state", &state], arguments].concat(), "").await
    }

    /// Looks at a domain of a lab.
    async fn look(&self, lab: &Lab, arguments: &[&str]) -> Said {
        let state = self.path();
        let watch = "watch.domains = ['example.test']";
        with_config(lab, watch, &[&["watch", "--once", "--state", &state], arguments].concat(), "").await
    }
}

#[tokio::test]
async fn a_host_at_an_address_of_this_machine_is_seen_as_others_see_it() {
    let (address, identity, name) = (add_interface(), Identity::for_name("own.example.test"), "own.example.test");
    let record = identity.record("3 1 1");
    let scenario = Scenario::with_domain(|tree, port| {
        tree.mx("example.test", 10, name).a(name, &address.to_string()).tlsa(name, port, &record)
    });
    let lab = scenario.start().await;
    let mx = Mx::new(identity).start(SocketAddr::from((address, lab.port)), name).await;
    let memory = Memory::new();
    let said = memory.look(&lab, &["--set", RESERVED]).await;
    assert_eq!((said.status, mx.connections()), (0, 1), "{}", said.err);
    let shown = memory.shown(&lab, &[]).await;
    assert!(shown.out.starts_with("1 domain with 1 host") && !shown.out.contains("unknown"), "{}", shown.out);
}

/// The connections to all exchanges of a lab.
fn connections(lab: &Lab) -> usize {
    lab.seen.iter().map(|mx| mx.connections()).sum()
}

/// Whether a mail is delivered.
async fn is_delivered(lab: &Lab) -> bool {
    lab.send().await.last().starts_with("250 ")
}

fn other_key() -> Scenario {
    let other = Identity::for_name("mx1.example.test");
    Scenario::new().mx(move |mx| mx.identity = other)
}

#[tokio::test]
async fn a_host_that_breaks_is_told_by_the_second_look_and_so_is_its_end() {
    // W3, W8, W12, W14.
    let memory = Memory::new();
    let good = Scenario::new().start().await;
    let said = memory.look(&good, &[]).await;
    assert_eq!((said.status, said.out.as_str(), said.err.as_str()), (0, "", ""));
    // A look greets as mail does, and ends with QUIT.
    assert_eq!(good.mx().clear(), ["EHLO check.test", "STARTTLS"]);
    assert_eq!(good.mx().tls(), ["EHLO check.test", "QUIT"]);
    memory.age(24);
    let broken = other_key().start().await;
    let said = memory.look(&broken, &[]).await;
    assert_eq!((said.status, said.out.as_str()), (0, ""), "{}", said.err);
    // Too soon for a second look to confirm it.
    let said = memory.look(&broken, &[]).await;
    assert_eq!((said.status, said.out.as_str()), (0, ""), "{}", said.err);
    memory.age(24);
    let said = memory.look(&broken, &[]).await;
    assert!(
        said.out.starts_with("new warn broken-now mx1.example.test: mx1.example.test[127.0.0.1]: "),
        "{}",
        said.out
    );
    assert!(said.out.contains("\n    the host's operator must publish a TLSA record"), "{}", said.out);
    assert_eq!(said.status, 1);
    assert!(broken.seen.iter().all(|mx| !mx.saw_mail()));
    // It is told once, and goes on to count.
    memory.age(24);
    let said = memory.look(&broken, &[]).await;
    assert_eq!((said.status, said.out.as_str()), (1, ""), "{}", said.err);
    let said = memory.shown(&broken, &["--all"]).await;
    assert!(said.out.starts_with("1 domain with 1 host, last looked at "), "{}", said.out);
    let row = "warn  broken-now         mx1.example.test (of example.test), for 2days";
    assert!(said.out.contains(row), "{}", said.out);
    let said = memory.shown(&broken, &["--letter", "example.test"]).await;
    assert!(said.status == 0 && said.out.starts_with("To: postmaster@example.test\n"), "{}{}", said.out, said.err);
    memory.age(24);
    let said = memory.look(&good, &[]).await;
    assert!(said.out.starts_with("ended warn broken-now mx1.example.test: over after "), "{}", said.out);
    assert_eq!(said.status, 0);
}

#[tokio::test]
async fn one_look_that_fails_is_not_told() {
    // W8.
    let memory = Memory::new();
    let (good, broken) = (Scenario::new().start().await, other_key().start().await);
    for lab in [&good, &broken, &good, &broken, &good] {
        let said = memory.look(lab, &[]).await;
        assert_eq!((said.status, said.out.as_str()), (0, ""), "{}", said.err);
        memory.age(24);
    }
}

#[tokio::test]
async fn a_host_without_tlsa_records_is_not_connected_to() {
    // W2.
    let plain = Exchange::new("example.test", "mx2.example.test").preference(20).tlsa([]);
    let lab = Scenario::new().exchange(plain).start().await;
    let memory = Memory::new();
    assert_eq!(memory.look(&lab, &[]).await.status, 0);
    assert_eq!((lab.seen[0].connections(), lab.seen[1].connections()), (1, 0));
    assert_eq!(memory.read()["hosts"]["mx2.example.test"]["now"]["dane"], "absent");
    // A domain with one host of each kind is told of.
    memory.age(24);
    let said = memory.look(&lab, &[]).await;
    assert!(
        said.out.contains("new info mx-without-dane example.test: mx2.example.test cannot be verified"),
        "{}",
        said.out
    );
    // Without connections the DNS alone is asked.
    let said = memory.look(&lab, &["--set", "watch.connect=false"]).await;
    assert_eq!((said.status, lab.seen[0].connections()), (0, 2), "{}", said.err);
}

#[tokio::test]
async fn domains_on_few_hosts_cost_one_session_for_each_address() {
    // W1.
    const DOMAINS: usize = 500;
    let tree = |tree: Tree, _| {
        (0..DOMAINS).fold(tree, |tree, number| {
            tree.mx(&format!("d{number}.example.test"), 10, &format!("mx{}.example.test", number % 3 + 1))
        })
    };
    let others =
        ["mx2.example.test", "mx3.example.test"].map(|name| Exchange::new("example.test", name).preference(20));
    let lab = others.into_iter().fold(Scenario::new(), Scenario::exchange).tree(tree).start().await;
    let mut list = tempfile::NamedTempFile::new().unwrap();
    for number in 0..DOMAINS {
        std::io::Write::write_all(&mut list, format!("d{number}.example.test\n").as_bytes()).unwrap();
    }
    let memory = Memory::new();
    let said = memory.look(&lab, &["--file", list.path().to_str().unwrap()]).await;
    assert_eq!(said.status, 0, "{}", said.err);
    assert_eq!(connections(&lab), 3);
    assert_eq!(memory.read()["domains"].as_object().unwrap().len(), DOMAINS + 1);
}

#[tokio::test]
async fn the_verdict_is_that_of_the_next_mail() {
    // W5: broken, for TLS or DNSSEC, if and only if the mail waits for one of them.
    let other = Identity::for_name("mx1.example.test");
    let bogus = |owner: &'static str, rtype: &'static str| {
        Scenario::new().tree(move |tree, _| tree.fault(owner, rtype, Fault::BogusSignature))
    };
    let scenarios = [
        ("verified", Scenario::new(), "good"),
        ("another key", Scenario::new().mx(move |mx| mx.identity = other), "broken"),
        ("STARTTLS refused", Scenario::new().mx(|mx| mx.starttls = say("454 no")), "broken"),
        ("STARTTLS not offered", Scenario::new().mx(|mx| mx.ehlo = say("250 mx")), "broken"),
        ("greylisted", Scenario::new().mx(|mx| mx.greeting = say("450 later")), "unknown"),
        ("closing", Scenario::new().mx(|mx| mx.greeting = say("421 later")), "unknown"),
        ("forged MX", bogus("example.test", "MX"), "broken"),
        ("null MX", Scenario::with_domain(|tree, _| tree.mx("example.test", 0, ".")), "unknown"),
    ];
    let scenarios = scenarios.into_iter().chain([(
        "forged TLSA",
        Scenario::new()
            .tree(|tree, port| tree.fault(&format!("_{port}._tcp.mx1.example.test"), "TLSA", Fault::BogusSignature)),
        "broken",
    )]);
    for (what, scenario, standing) in scenarios {
        let lab = scenario.start().await;
        let memory = Memory::new();
        let looked = memory.look(&lab, &[]).await;
        assert_eq!(looked.status, 0, "{what}: {}", looked.err);
        let found = memory.read()["domains"]["example.test"]["now"]["standing"].clone();
        let word = found.as_str().map(str::to_owned).or_else(|| found.as_object()?.keys().next().cloned());
        assert_eq!(word.as_deref(), Some(standing), "{what}: {found}");
        assert_eq!(is_delivered(&lab).await, standing == "good", "{what}");
    }
}

#[tokio::test]
async fn a_run_that_sees_nothing_says_so_and_touches_nothing() {
    // W10, W14.
    let lab = Scenario::new().start().await;
    let memory = Memory::new();
    assert_eq!(memory.look(&lab, &[]).await.status, 0);
    let before = memory.read()["domains"].clone();
    let closed = format!("dns.servers=[\"127.0.0.1:{}\"]", free_port());
    let said = memory.look(&lab, &["--set", &closed, "--set", "dns.fallback="]).await;
    assert_eq!((said.status, said.out.as_str()), (75, ""), "{}", said.err);
    assert!(said.err.contains("no name server passes the self-test"), "{}", said.err);
    assert_eq!(memory.read()["domains"], before);
    assert_eq!(memory.shown(&lab, &[]).await.status, 75);
    // It is over with the next run.
    assert_eq!(memory.look(&lab, &[]).await.status, 0);
    assert_eq!(memory.read()["blind"], Value::Null);
}

#[tokio::test]
async fn a_memory_that_cannot_be_used_is_named() {
    // W14.
    let lab = Scenario::new().start().await;
    let memory = Memory::new();
    std::fs::write(memory.path(), "{\"domains\":").unwrap();
    let said = memory.look(&lab, &[]).await;
    assert_eq!(said.status, 71);
    assert!(said.err.contains(&memory.path()) && said.err.contains("is no state of danelaw watch"), "{}", said.err);
    assert_eq!(std::fs::read_to_string(memory.path()).unwrap(), "{\"domains\":");
    let state = memory.0.path().join("none").join("state");
    let arguments = ["watch", "--once", "--state", state.to_str().unwrap()];
    let said = with_config(&lab, "watch.own = ['example.test']", &arguments, "").await;
    assert_eq!(said.status, 71, "{}", said.err);
    // Nothing to look at, and no memory for a look.
    let said = with_config(&lab, "", &["watch", "--once", "--state", &memory.path()], "").await;
    assert!(said.status == 64 && said.err.contains("watch.own"), "{}", said.err);
    let said = with_config(&lab, "", &["watch", "--once"], "").await;
    assert!(said.status == 64 && said.err.contains("--state"), "{}", said.err);
    // The file is for its owner alone: it names domains that mail goes to.
    std::fs::remove_file(memory.path()).unwrap();
    assert_eq!(memory.look(&lab, &[]).await.status, 0);
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(memory.path()).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    assert!(!Path::new(&format!("{}.new", memory.path())).exists());
    // One look at a time.
    let beside = std::fs::File::create(format!("{}.new", memory.path())).unwrap();
    beside.lock().unwrap();
    let before = connections(&lab);
    let said = memory.look(&lab, &[]).await;
    assert!(said.status == 71 && said.err.contains("is under way"), "{}", said.err);
    assert_eq!(connections(&lab), before);
    // A directory is no memory.
    let said = with_config(&lab, "watch.own = ['example.test']", &["watch", "--once", "--state", "/"], "").await;
    assert_eq!(said.status, 71, "{}", said.err);
}

/// The findings that hold, or wait for a second look.
fn findings(view: &danelaw::watch::view::WatchView) -> Vec<(&'static str, &'static str)> {
    view.findings.iter().map(|row| (row.kind.as_str(), row.state.as_str())).collect()
}

#[tokio::test]
async fn a_delivery_spares_the_host_a_session() {
    // W1, W4.
    let lab = Scenario::new().start().await;
    assert!(is_delivered(&lab).await);
    let watch = lab.watching("watch = { every = '24h', domains = ['example.test'] }", None);
    let mut progress = WatchProgress::default();
    let before = connections(&lab);
    watch.minute(&mut progress).await;
    assert_eq!(connections(&lab), before);
    let view = watch.view();
    assert_eq!((view.domains, view.hosts, findings(&view).len()), (1, 1, 0));
    assert_eq!(watch.figures().looks, [("delivery", 1), ("dns", 1), ("session", 0)]);
    // The second minute has nothing to do.
    watch.minute(&mut progress).await;
    assert_eq!(watch.figures().looks[1], ("dns", 1));
}

#[tokio::test]
async fn deliveries_that_are_refused_are_a_finding() {
    // A host without TLSA records is not connected to: the mail itself tells.
    let stripped = Exchange::new("example.test", "mx1.example.test").tlsa([]).script(|mx| mx.ehlo = say("250 mx"));
    let lab = Scenario::of([stripped]).start().await;
    assert!(!is_delivered(&lab).await);
    let before = connections(&lab);
    let watch = lab.watching("watch = { every = '24h', domains = ['example.test'] }", None);
    watch.minute(&mut WatchProgress::default()).await;
    assert_eq!(connections(&lab), before);
    assert_eq!(findings(&watch.view()), [("broken-now", "suspected")]);
    let view = watch.view_of(&"example.test".parse().unwrap()).unwrap();
    assert_eq!(view.findings[0].domain.as_deref(), Some("example.test"));
    assert_eq!(view.findings[0].reason.as_deref(), Some("starttls-missing"));
    assert!(view.findings[0].remedy.is_some());
    assert!(watch.view_of(&"other.test".parse().unwrap()).is_none());
}

#[tokio::test]
async fn probes_leave_no_trace_in_deliveries() {
    // W4: the next mail is tried as if there had been no look.
    let lab = other_key().set("remote.failed_hosts_for = '5m'").start().await;
    let watch = lab.watching("watch = { every = '24h', own = ['example.test'] }", None);
    watch.minute(&mut WatchProgress::default()).await;
    assert_eq!(connections(&lab), 1);
    let (_, metrics) = crate::admin::get(&lab.admin().await, "/metrics").await;
    for series in ["danelaw_deliveries_total{", "danelaw_connections_total{", "danelaw_handshakes_total{"] {
        assert!(!metrics.contains(series), "{series}");
    }
    assert!(!is_delivered(&lab).await);
    assert_eq!(connections(&lab), 2);
    let (_, metrics) = crate::admin::get(&lab.admin().await, "/metrics").await;
    for series in ["danelaw_deliveries_total{", "danelaw_connections_total{", "danelaw_handshakes_total{"] {
        assert!(metrics.contains(series), "{series}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_danelaws_have_one_watch() {
    // W11, W12.
    let lab = other_key().start().await;
    let server = Server::start();
    let open = async || Store::connect(server.settings()).await.unwrap();
    let toml = "watch = { every = '24h', own = ['example.test'] }";
    let one = lab.watching(toml, Some(open().await));
    let other = lab.watching(toml, Some(open().await));
    let (mut progress, mut other_progress) = (WatchProgress::default(), WatchProgress::default());
    one.minute(&mut progress).await;
    assert_eq!(connections(&lab), 1);
    other.minute(&mut other_progress).await;
    // The other one has not looked, and shows the findings of the first.
    assert_eq!(connections(&lab), 1);
    assert_eq!(other.view(), one.view());
    assert!(findings(&one.view()).contains(&("broken-now", "suspected")));
    // Not for lack of a reason, but of the lease.
    server.sql("DELETE FROM danelaw.watch_entries");
    other.minute(&mut WatchProgress::default()).await;
    assert_eq!((connections(&lab), other.view().domains), (1, 0));
    server.sql("UPDATE danelaw.leases SET until = 0");
    other.minute(&mut other_progress).await;
    assert_eq!((connections(&lab), other.view().domains), (2, 1));
    // The lease ends, and the first goes on with the memory of the other. It does not look again so soon.
    server.sql("UPDATE danelaw.leases SET until = 0");
    one.minute(&mut WatchProgress::default()).await;
    assert_eq!((connections(&lab), one.view()), (2, other.view()));
}

#[tokio::test]
async fn a_file_keeps_the_memory_over_a_restart() {
    // W12, W13.
    let lab = other_key().start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sqlite");
    let toml = "watch = { every = '24h', own = ['example.test'] }";
    let watch = lab.watching(toml, Some(Store::open(Some(&path)).await.unwrap()));
    watch.minute(&mut WatchProgress::default()).await;
    let view = watch.view();
    assert_eq!(view.domains, 1);
    drop(watch);
    let again = lab.watching(toml, Some(Store::open(Some(&path)).await.unwrap()));
    again.minute(&mut WatchProgress::default()).await;
    assert_eq!((again.view(), connections(&lab)), (view, 1));
    // Domains that mail went to are known by the store; without one, those of the configuration are watched.
    let memory = lab.watching(toml, None);
    memory.minute(&mut WatchProgress::default()).await;
    assert_eq!(memory.view().domains, 1);
}

#[tokio::test]
async fn domains_that_took_mail_are_watched_and_those_that_refused_all_of_it_are_not() {
    // W17.
    let lab = Scenario::new().tree(|tree, _| tree.mx("typo.example.test", 10, "mx1.example.test")).start().await;
    let store = Store::open(None).await.unwrap();
    let today = time::OffsetDateTime::now_utc();
    let (day, month) =
        (i64::from(today.to_julian_day()), i64::from(today.year()) * 12 + i64::from(u8::from(today.month())) - 1);
    let delta = |domain: &str, result: &str, last_day| MailDelta {
        month,
        domain: domain.to_owned(),
        result: result.to_owned(),
        mails: 3,
        last_day,
    };
    let deltas = vec![
        delta("example.test", "dane", day),
        delta("typo.example.test", "refused", day),
        delta("other.example.test", "rejected", day),
        delta("skipped.example.test", "dane", day),
    ];
    store.add_mails(&MailWrite { number: 1, deltas }).await.unwrap();
    let toml = "watch = { every = '24h', skip = ['skipped.example.test'] }\nstore = { path = '/nowhere/store.sqlite' }";
    let watch = lab.watching(toml, Some(store));
    watch.minute(&mut WatchProgress::default()).await;
    let view = watch.view();
    assert_eq!((view.domains, view.hosts), (1, 1));
    assert!(watch.view_of(&"example.test".parse().unwrap()).is_some());
}

#[tokio::test]
async fn a_domain_with_many_exchanges_is_asked_by_few_sessions_of_each_name() {
    // W16: the addresses of strangers are not for a zone to aim at.
    let names: Vec<String> = (0..15).map(|number| format!("n{number}.example.test")).collect();
    let aliases = names.clone();
    let lab = Scenario::new()
        .tree(move |tree, port| {
            let record = Identity::for_name("mx1.example.test").record("3 1 1");
            aliases.iter().fold(tree, |tree, name| {
                tree.mx("aimed.example.test", 10, name).a(name, "127.0.0.1").tlsa(name, port, &record)
            })
        })
        .start()
        .await;
    let watch = lab.watching("watch = { every = '24h', domains = ['aimed.example.test'] }", None);
    watch.minute(&mut WatchProgress::default()).await;
    assert_eq!(connections(&lab), 10);
}
