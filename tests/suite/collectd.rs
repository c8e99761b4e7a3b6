//! The unmodified tlsrpt-collectd reads each datagram of danelaw (O19).

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use danelaw::name::Name;
use danelaw::refusal::ResultType;
use danelaw::tlsrpt::TlsEvent;
use danelaw::tlsrpt::collectd::{CollectdQueue, CollectdTask};
use danelaw::tlsrpt::event::{PolicyKind, ReportedFailure, ReportedPolicy, TlsResult};
use danelaw::tlsrpt::record::TlsrptRecord;
use strum::VariantArray as _;
use tokio::sync::{mpsc, watch};

/// tlsrpt-reporter, as `tests/real/prepare` installs it.
fn installed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/clients/tlsrpt-reporter")
}

fn python(code: &str) -> Command {
    let mut python = Command::new("python3");
    python.env("PYTHONPATH", installed()).arg("-c").arg(code);
    python
}

struct Collectd {
    folder: tempfile::TempDir,
    process: Child,
}

impl Collectd {
    fn start() -> Self {
        assert!(installed().exists(), "tests/real/prepare installs tlsrpt-reporter");
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let main = "from tlsrpt_reporter.tlsrpt import tlsrpt_collectd_main; tlsrpt_collectd_main()";
        let mut command = python(main);
        command.arg(format!("--storage=sqlite://{}", path("db"))).arg(format!("--socketname={}", path("socket")));
        command.arg(format!("--logfilename={}", path("log"))).arg(format!("--pidfilename={}", path("pid")));
        // An empty path for broken datagrams would end it at the first one.
        command.arg(format!("--dump_path_for_invalid_datagram={}", path("invalid"))).arg("--sockettimeout=1");
        let process = command.stdin(Stdio::null()).spawn().unwrap();
        Self { folder, process }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn wait_for(&self, done: impl Fn() -> bool) {
        let waited = async {
            while !done() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let log = || std::fs::read_to_string(self.path("log")).unwrap_or_default();
        tokio::time::timeout(Duration::from_secs(30), waited).await.unwrap_or_else(|_| panic!("{}", log()));
    }

    /// The rows of a query, one a line.
    fn query(&self, query: &str) -> String {
        let code = format!(
            "import sqlite3\nfor row in sqlite3.connect('file:{}?mode=ro', uri=True).execute(\"{query}\"): print(*row)",
            self.path("db").display()
        );
        let output = python(&code).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Collectd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn events() -> Vec<TlsEvent> {
    let name = |text: &str| Name::parse(text).unwrap();
    let policy = |kind, strings: &[&str]| ReportedPolicy {
        kind,
        domain: name("mx.example.net"),
        strings: strings.iter().map(|string| (*string).to_owned()).collect(),
        mx: Arc::default(),
    };
    let policies = [
        policy(PolicyKind::Tlsa, &["2 1 1 CD", "3 1 1 AB"]),
        policy(PolicyKind::Sts, &["version: STSv1", "mode: enforce"]),
        policy(PolicyKind::NoPolicyFound, &[]),
    ];
    let failure = |kind: ResultType| ReportedFailure {
        kind,
        reason: format!("reason of {kind}"),
        host: Some(name("mx.example.net")),
        receiving: Some([198, 51, 100, 2].into()),
        sending: Some("2620:fe::9".parse().unwrap()),
    };
    let bare = |failure| ReportedFailure { host: None, receiving: None, sending: None, ..failure };
    let mut all = Vec::new();
    for policy in policies {
        let failures = ResultType::VARIANTS.iter().copied().flat_map(|kind| [failure(kind), bare(failure(kind))]);
        for result in failures.map(TlsResult::Failure).chain([TlsResult::Success]) {
            all.push(TlsEvent { recipient: name("example.org"), policy: policy.clone(), result });
        }
    }
    all
}

// Queries wait for a program, and datagrams go on meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o19_collectd_reads_each_datagram_and_adds_up_equal_ones() {
    // T51, O19.
    let collectd = Collectd::start();
    collectd.wait_for(|| collectd.path("socket").exists()).await;
    let dropped = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&dropped);
    let queue = CollectdQueue::new(watch::channel(collectd.path("socket")).1, move |_| {
        count.fetch_add(1, Relaxed);
    });
    let (sender, receiver) = mpsc::channel(1000);
    let record = || TlsrptRecord::among(&["v=TLSRPTv1; rua=mailto:r@example.org"]).ok();
    let task = CollectdTask::start(receiver, queue.unwrap(), move |_| std::future::ready(record()));
    // Twice each, in one burst of which the kernel keeps about ten.
    let (events, rounds) = (events(), 8);
    for event in std::iter::repeat_n(&events, rounds).flatten() {
        sender.send(event.clone()).await.unwrap();
    }
    let all = events.len() * rounds;
    assert!(all > 500, "{all}");
    collectd.wait_for(|| collectd.query("SELECT sum(cntrtotal) FROM finalresults").trim() == all.to_string()).await;
    task.finish().await;
    assert_eq!(dropped.load(Relaxed), 0);
    // One row for each policy, and one for each failure of it.
    assert_eq!(collectd.query("SELECT cntrtotal, cntrfailure FROM finalresults"), "184 176\n".repeat(3));
    assert_eq!(collectd.query("SELECT count(*), min(cntr), max(cntr) FROM failures"), "66 8 8\n");
    let log = std::fs::read_to_string(collectd.path("log")).unwrap_or_default();
    assert!(!log.to_lowercase().contains("error") && !collectd.path("invalid").exists(), "{log}");
}
