//! What the memory of outcomes costs: to open it, to ask it, to write to it.
//!
//! The file lies where the system keeps its temporary files; set `TMPDIR` to measure another disk.

// A benchmark that cannot go on may panic.
#![allow(missing_docs, clippy::unwrap_used)]

use std::path::Path;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use danelaw::ledger::{Content, ContentHasher, Ledger, Pair, Settings};
use danelaw::smtp::address::{ForwardPath, ReversePath, SmtpUtf8};
use danelaw::smtp::reply::{Code, EnhancedCode, Reply};
use tokio::runtime::Runtime;

/// How many outcomes are remembered: the default of `ledger.entries`, and a few where each bench only runs once.
fn entries() -> usize {
    if std::env::args().any(|argument| argument == "--bench") { 100_000 } else { 1_000 }
}

fn pair(number: usize) -> Pair {
    let path = ForwardPath::parse(&format!("<r{number}@example.test>"), SmtpUtf8::Absent).unwrap();
    let ForwardPath::Mailbox(mailbox) = path else { panic!("no mailbox") };
    Pair::new(&ReversePath::Null, &mailbox)
}

fn content(octets: &[u8]) -> Content {
    let mut hasher = ContentHasher::of_any_size();
    hasher.update(octets);
    hasher.finish().unwrap()
}

fn reply() -> Reply {
    Reply::new(Code::OK, EnhancedCode::success(0, 0), "mx.example.test[192.0.2.1]: queued as 4F1D2C0A9B")
}

async fn open(path: &Path) -> Ledger {
    let settings =
        Settings { path: Some(path.to_owned()), entries: 2 * entries(), expiry: Duration::from_secs(5 * 86_400) };
    Ledger::open(settings).await.unwrap().0
}

fn ledger(criterion: &mut Criterion) {
    let entries = entries();
    let (runtime, folder, reply) = (Runtime::new().unwrap(), tempfile::tempdir().unwrap(), reply());
    let path = folder.path().join("ledger.sqlite");
    runtime.block_on(async {
        let ledger = open(&path).await;
        for thousand in 0..entries / 1000 {
            let pairs: Vec<Pair> = (thousand * 1000..(thousand + 1) * 1000).map(pair).collect();
            let outcomes: Vec<_> = pairs.iter().map(|pair| (*pair, &reply)).collect();
            let mut claim = ledger.claim(content(b"kept"), pairs.iter().copied()).await.unwrap();
            claim.keep(&outcomes).await.unwrap();
        }
    });
    println!("{entries} outcomes: {} octets", std::fs::metadata(&path).unwrap().len());
    let mut group = criterion.benchmark_group("ledger");
    group.sample_size(10);
    group.bench_function(format!("open with {entries} outcomes"), |bencher| {
        bencher.iter(|| runtime.block_on(open(&path)));
    });
    let ledger = runtime.block_on(open(&path));
    group.sample_size(50);
    group.bench_function("past of an unknown pair", |bencher| {
        let unknown = pair(entries);
        bencher.iter(|| runtime.block_on(ledger.past(unknown)).unwrap());
    });
    group.bench_function("past of a known pair", |bencher| {
        let known = pair(471);
        bencher.iter(|| runtime.block_on(ledger.past(known)).unwrap());
    });
    group.bench_function("claim and settle what is unknown", |bencher| {
        let (unknown, new) = (pair(entries), content(b"new"));
        bencher.iter(|| {
            runtime.block_on(async { ledger.claim(new, [unknown]).await.unwrap().settle().await.unwrap() });
        });
    });
    group.bench_function("three domains, all delivered: prepare, record two, settle", |bencher| {
        let (pairs, new) = ([pair(entries), pair(entries + 1), pair(entries + 2)], content(b"new"));
        bencher.iter(|| {
            runtime.block_on(async {
                let mut claim = ledger.claim(new, pairs).await.unwrap();
                claim.prepare().await.unwrap();
                claim.record(&[(pairs[0], &reply)]).await.unwrap();
                claim.record(&[(pairs[1], &reply)]).await.unwrap();
                claim.settle().await.unwrap();
            });
        });
    });
    group.bench_function("record one outcome", |bencher| {
        let (one, new) = (pair(entries), content(b"new"));
        let mut claim = runtime.block_on(ledger.claim(new, [one])).unwrap();
        bencher.iter(|| runtime.block_on(claim.record(&[(one, &reply)])).unwrap());
    });
    group.throughput(Throughput::Bytes(1 << 20));
    group.bench_function("digest of 1 MiB", |bencher| {
        let octets = vec![b'x'; 1 << 20];
        bencher.iter(|| content(&octets));
    });
    group.finish();
}

criterion_group!(benches, ledger);
criterion_main!(benches);
