//! The cost of the store, in a file of SQLite and in a database of PostgreSQL side by side: of opening it, of a look-up, and of
//! a write.
//!
//! The file lies where the system keeps its temporary files; set `TMPDIR` to measure another disk. The bench starts a
//! PostgreSQL of its own below `/tmp`, with the limits and the synced commits of its package. With `STORE_URL` as in `store.url`
//! that database is measured in its place; it must be empty.

// A benchmark may panic when it cannot continue.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

#[path = "../tests/shared/command.rs"]
mod command;
// The PostgreSQL of the tests.
#[allow(dead_code)]
#[path = "../tests/suite/store/server.rs"]
mod server;

use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use danelaw::journal::{
    ContentDigest, ContentHasher, DatabaseSettings, Journal, Message, MessageKey, Pair, Settings, StorePlace,
};
use danelaw::smtp::address::{ForwardPath, ReversePath, SmtpUtf8};
use danelaw::smtp::reply::{Code, EnhancedCode, Reply};
use server::{Server, settings};
use tokio::runtime::Runtime;

/// How many outcomes the journal keeps: the default of `store.entries`, or a few where each bench runs only once.
fn entries() -> usize {
    if std::env::args().any(|argument| argument == "--bench") { 100_000 } else { 1_000 }
}

fn pair(number: usize) -> Pair {
    let path = ForwardPath::parse(&format!("<r{number}@example.test>"), SmtpUtf8::Absent).unwrap();
    let ForwardPath::Mailbox(mailbox) = path else { panic!("no mailbox") };
    Pair::new(&ReversePath::Null, &mailbox)
}

fn content(octets: &[u8]) -> ContentDigest {
    let mut hasher = ContentHasher::default();
    hasher.update(octets);
    hasher.finish()
}

fn reply() -> Reply {
    Reply::new(Code::OK, EnhancedCode::success(0, 0), "mx.example.test[192.0.2.1]: queued as 4F1D2C0A9B")
}

/// A place for the store.
struct Backend {
    name: &'static str,
    place: StorePlace,
    /// Ends with the bench.
    _server: Option<Server>,
}

impl Backend {
    fn database() -> Self {
        let (url, server) = match std::env::var("STORE_URL") {
            Ok(url) => (url, None),
            Err(_) => {
                let server = Server::start_with(&["fsync=on", "full_page_writes=on", "shared_buffers=128MB"]);
                (server.url(), Some(server))
            }
        };
        let settings = DatabaseSettings { connections: 8, patience: Duration::from_secs(30), ..settings(&url) };
        Self { name: "PostgreSQL", place: StorePlace::Database(Box::new(settings)), _server: server }
    }

    fn fill(&self, runtime: &Runtime) {
        runtime.block_on(async {
            let journal = open(&self.place).await;
            for thousand in 0..entries() / 1000 {
                let pairs: Vec<Pair> = (thousand * 1000..(thousand + 1) * 1000).map(pair).collect();
                let outcomes = pairs.iter().map(|pair| (*pair, reply()));
                let mut message = message(&journal, b"kept", &pairs).await;
                message.record(outcomes).await.unwrap();
                message.release().await;
            }
        });
    }
}

async fn open(place: &StorePlace) -> Journal {
    let settings = Settings {
        place: place.clone(),
        entries: 2 * entries(),
        expiry: Duration::from_secs(5 * 86_400),
        hold: Duration::from_secs(900),
    };
    Journal::open(settings).await.unwrap().0
}

async fn message(journal: &Journal, octets: &[u8], to: &[Pair]) -> Message {
    journal.message(MessageKey::new(content(octets), to.iter().copied()), to).await.unwrap()
}

/// An open journal in each backend.
struct Opened<'a> {
    runtime: &'a Runtime,
    journals: Vec<(&'static str, Journal)>,
}

impl Opened<'_> {
    /// Measures an operation in each backend, side by side.
    fn measure(&self, criterion: &mut Criterion, operation: &str, run: impl AsyncFn(&Journal)) {
        let mut group: BenchmarkGroup<'_, WallTime> = criterion.benchmark_group(operation);
        group.sample_size(50);
        for (name, journal) in &self.journals {
            group.bench_function(*name, |bencher| bencher.iter(|| self.runtime.block_on(run(journal))));
        }
        group.finish();
    }
}

fn store(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sqlite");
    let file = Backend { name: "SQLite", place: StorePlace::File(path.clone()), _server: None };
    let (backends, runtime) = ([file, Backend::database()], Runtime::new().unwrap());
    backends.iter().for_each(|backend| backend.fill(&runtime));
    let entries = entries();
    println!("{entries} outcomes in SQLite: {} octets", std::fs::metadata(&path).unwrap().len());
    let mut group = criterion.benchmark_group(format!("open with {entries} outcomes"));
    group.sample_size(10);
    for Backend { name, place, .. } in &backends {
        group.bench_function(*name, |bencher| bencher.iter(|| runtime.block_on(open(place))));
    }
    group.finish();
    let journals = backends.iter().map(|backend| (backend.name, runtime.block_on(open(&backend.place)))).collect();
    let opened = Opened { runtime: &runtime, journals };
    for (name, pair) in [("without a record", pair(entries)), ("with a record", pair(471))] {
        opened.measure(criterion, &format!("RCPT of a recipient {name}"), async |journal| {
            journal.served(pair).await.unwrap();
        });
        let end = format!("end of a message to a recipient {name}, which has none");
        opened
            .measure(criterion, &end, async |journal| message(journal, b"new", &[pair]).await.delete().await.unwrap());
    }
    let pairs = [pair(entries), pair(entries + 1), pair(entries + 2)];
    opened.measure(criterion, "three domains, all delivered: record two, take", async |journal| {
        let mut message = message(journal, b"new", &pairs).await;
        message.record([(pairs[0], reply())]).await.unwrap();
        message.record([(pairs[1], reply())]).await.unwrap();
        message.delete().await.unwrap();
    });
    opened.measure(criterion, "three domains, one deferred: record two, release", async |journal| {
        let mut message = message(journal, b"again", &pairs).await;
        message.record([(pairs[0], reply()), (pairs[1], reply())]).await.unwrap();
        message.release().await;
    });
    let mut group = criterion.benchmark_group("digest");
    group.throughput(Throughput::Bytes(1 << 20));
    group.bench_function("1 MiB", |bencher| {
        let octets = vec![b'x'; 1 << 20];
        bencher.iter(|| content(&octets));
    });
    group.finish();
}

criterion_group!(benches, store);
criterion_main!(benches);
