//! The cost of the journal: of opening it, of a look-up, and of a write.
//!
//! The file lies where the system keeps its temporary files; set `TMPDIR` to measure another disk. With `STORE_URL` as in
//! `store.url`, the same is measured with a database, which must be empty.

// A benchmark may panic when it cannot continue.
#![allow(missing_docs, clippy::unwrap_used)]

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use danelaw::journal::{
    ContentDigest, ContentHasher, DatabaseSettings, Journal, Message, MessageKey, Pair, Settings, StorePlace,
};
use danelaw::smtp::address::{ForwardPath, ReversePath, SmtpUtf8};
use danelaw::smtp::reply::{Code, EnhancedCode, Reply};
use danelaw::store::Migration;
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

/// The database, if there is to be one.
fn database() -> Option<StorePlace> {
    let url = std::env::var("STORE_URL").ok()?;
    Some(StorePlace::Database(Box::new(DatabaseSettings {
        url: url.parse().unwrap(),
        password_file: None,
        ca: None,
        pepper_file: None,
        connections: 8,
        patience: Duration::from_secs(30),
        migration: Migration::AtStart,
    })))
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

fn journal(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sqlite");
    backend(criterion, "journal", &StorePlace::File(path.clone()));
    println!("{} outcomes: {} octets", entries(), std::fs::metadata(&path).unwrap().len());
    if let Some(database) = database() {
        backend(criterion, "journal in PostgreSQL", &database);
    }
}

fn backend(criterion: &mut Criterion, name: &str, place: &StorePlace) {
    let entries = entries();
    let (runtime, reply) = (Runtime::new().unwrap(), reply());
    runtime.block_on(async {
        let journal = open(place).await;
        for thousand in 0..entries / 1000 {
            let pairs: Vec<Pair> = (thousand * 1000..(thousand + 1) * 1000).map(pair).collect();
            let outcomes = pairs.iter().map(|pair| (*pair, reply.clone()));
            let mut message = message(&journal, b"kept", &pairs).await;
            message.record(outcomes).await.unwrap();
            message.release().await;
        }
    });
    let mut group = criterion.benchmark_group(name);
    group.sample_size(10);
    group.bench_function(format!("open with {entries} outcomes"), |bencher| {
        bencher.iter(|| runtime.block_on(open(place)));
    });
    let journal = runtime.block_on(open(place));
    group.sample_size(50);
    for (name, pair) in [("without a record", pair(entries)), ("with a record", pair(471))] {
        group.bench_function(format!("RCPT of a recipient {name}"), |bencher| {
            bencher.iter(|| runtime.block_on(journal.served(pair)))
        });
        group.bench_function(format!("end of a message to a recipient {name}, which has none"), |bencher| {
            bencher
                .iter(|| runtime.block_on(async { message(&journal, b"new", &[pair]).await.delete().await.unwrap() }));
        });
    }
    group.bench_function("three domains, all delivered: record two, take", |bencher| {
        let pairs = [pair(entries), pair(entries + 1), pair(entries + 2)];
        bencher.iter(|| {
            runtime.block_on(async {
                let mut message = message(&journal, b"new", &pairs).await;
                message.record([(pairs[0], reply.clone())]).await.unwrap();
                message.record([(pairs[1], reply.clone())]).await.unwrap();
                message.delete().await.unwrap();
            });
        });
    });
    group.bench_function("record one outcome", |bencher| {
        let one = pair(entries);
        let mut message = runtime.block_on(message(&journal, b"new", &[one]));
        bencher.iter(|| runtime.block_on(message.record([(one, reply.clone())])).unwrap());
    });
    group.throughput(Throughput::Bytes(1 << 20));
    group.bench_function("digest of 1 MiB", |bencher| {
        let octets = vec![b'x'; 1 << 20];
        bencher.iter(|| content(&octets));
    });
    group.finish();
}

criterion_group!(benches, journal);
criterion_main!(benches);
