//! The cost of a lookup: with new validation, with another resolver's AD bit, from the cache, and without a resolver, beside
//! an unbound that asks the same authoritative servers. The lab's servers sign each reply when they are asked, on the same
//! cores.
//!
//! `cargo bench --bench dns -- --resident` prints instead how much memory the process takes with 100,000 names in the
//! cache; the lab is then a process of its own.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../../tests/lab/dns.rs"]
mod lab;
mod unbound;

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use danelaw::dns::server::ResolverMode;
use danelaw::dns::setup::{MemoryLimits, ResolverSettings};
use danelaw::dns::stub::Stub;
use danelaw::dns::{Resolver, Security};
use danelaw::name::Name;
use lab::authority::Authorities;
use lab::{DnsLab, Tree};
use tokio::runtime::Runtime;
use unbound::Unbound;

const EE: &str = "3 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
/// How many names the lab has.
const ALL_NAMES: u64 = 100_000;
/// How many lookups are in progress at once.
const TASKS: u64 = 64;
/// The default configuration: `dns.cache_entries`, `dns.cache_size`, `dns.cache_max_ttl`, `dns.cache_failures`.
const DEFAULTS: MemoryLimits = MemoryLimits {
    entries: 100_000,
    octets: 48 << 20,
    answers: Duration::from_secs(3600),
    failures: Duration::from_secs(10),
};

/// How many names are enough where each bench runs once, as `cargo test` does.
const FEW_NAMES: u64 = 1_000;

static NAMES: LazyLock<u64> =
    LazyLock::new(|| if asked("--bench") || asked("--serve") || asked("--resident") { ALL_NAMES } else { FEW_NAMES });

/// Parsed once, since a mail session has a parsed name already.
static OWNERS: LazyLock<Vec<Name>> =
    LazyLock::new(|| (0..*NAMES).map(|i| Name::parse(&format!("_25._tcp.mx{i}.bulk.test")).unwrap()).collect());

/// The same allocator as danelaw's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn owner(number: u64) -> &'static Name {
    &OWNERS[(number % *NAMES) as usize]
}

fn tree() -> Tree {
    let tree = Tree::new().vouches().secure("bulk.test");
    (0..*NAMES).fold(tree, |tree, i| tree.tlsa(&format!("mx{i}.bulk.test"), 25, EE))
}

fn settings(address: SocketAddr, anchors: PathBuf) -> ResolverSettings {
    ResolverSettings { servers: vec![address.into()], trust_anchor: Some(anchors), ..ResolverSettings::default() }
}

/// Looks up so many names, beginning with this one, in many tasks at once.
async fn look_up(stub: &Stub, first: u64, count: u64) {
    let tasks = (0..TASKS).map(|task| {
        let stub = stub.clone();
        tokio::spawn(async move {
            for number in (task..count).step_by(TASKS as usize) {
                let found = stub.tlsa(owner(first + number)).await.unwrap();
                assert_eq!((found.end, found.answer.records().len()), (Security::Secure, 1));
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

fn bench(criterion: &mut Criterion, lab: &DnsLab, runtime: &Runtime) {
    let _inside = runtime.enter();
    let with = |mode, memory| {
        let stub =
            Stub::new(&ResolverSettings { mode, memory, ..settings(lab.addr, lab.anchor_file.clone()) }).unwrap();
        runtime.block_on(stub.self_test());
        stub
    };
    let mut group = criterion.benchmark_group("dns");
    group.throughput(Throughput::Elements(1)).sample_size(20);
    let mut next = 0;
    for (name, mode) in
        [("cold, validated", ResolverMode::Validate), ("cold, on another's word", ResolverMode::TrustAd)]
    {
        let stub = with(mode, MemoryLimits::NONE);
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|count| {
                let begin = Instant::now();
                runtime.block_on(look_up(&stub, next, count));
                next += count;
                begin.elapsed()
            });
        });
    }
    let stub = with(ResolverMode::Validate, DEFAULTS);
    runtime.block_on(look_up(&stub, 0, 1000));
    group.bench_function("remembered", |bencher| {
        bencher.iter_custom(|count| {
            let begin = Instant::now();
            // The same thousand names again and again.
            runtime.block_on(async {
                for done in (0..count).step_by(1000) {
                    look_up(&stub, 0, 1000.min(count - done)).await;
                }
            });
            begin.elapsed()
        });
    });
    group.finish();
}

/// Without a resolver: from the authoritative servers of the same zones, each at an address of its own.
fn bench_recursion(criterion: &mut Criterion, runtime: &Runtime) {
    let _inside = runtime.enter();
    let lab = runtime.block_on(tree().delegate());
    let mut group = criterion.benchmark_group("dns");
    group.throughput(Throughput::Elements(1)).sample_size(20);
    let mut next = 0;
    // Cold: no server is known, and no key. Warm: the zone is known, and no answer.
    group.bench_function("recurse, cold", |bencher| {
        bencher.iter_custom(|count| {
            let begin = Instant::now();
            for number in next..next + count {
                let stub = Stub::new(&lab.settings()).unwrap();
                runtime.block_on(look_up(&stub, number, 1));
            }
            next += count;
            begin.elapsed()
        });
    });
    let stub = Stub::new(&lab.settings()).unwrap();
    group.bench_function("recurse, warm", |bencher| {
        bencher.iter_custom(|count| {
            let begin = Instant::now();
            runtime.block_on(look_up(&stub, next, count));
            next += count;
            begin.elapsed()
        });
    });
    group.finish();
    match Unbound::start(&lab, &[".", "test", "bulk.test"]) {
        Some(unbound) => bench_unbound(criterion, runtime, (&lab, &unbound)),
        None => println!("unbound is not installed: there are no figures of it"),
    }
}

/// The same lookups through unbound, on its word: it finds the servers and validates.
fn bench_unbound(criterion: &mut Criterion, runtime: &Runtime, (lab, unbound): (&Authorities, &Unbound)) {
    let settings = ResolverSettings {
        mode: ResolverMode::TrustAd,
        servers: vec![unbound.address.into()],
        timeout: Duration::from_secs(3),
        attempts: 3,
        ..lab.settings()
    };
    let stub = Stub::new(&settings).unwrap();
    runtime.block_on(stub.self_test());
    let mut group = criterion.benchmark_group("dns");
    group.throughput(Throughput::Elements(1)).sample_size(20);
    let mut next = 0;
    group.bench_function("unbound, cold", |bencher| {
        bencher.iter_custom(|count| {
            let mut took = Duration::ZERO;
            for number in next..next + count {
                unbound.forget();
                let begin = Instant::now();
                runtime.block_on(look_up(&stub, number, 1));
                took += begin.elapsed();
            }
            next += count;
            took
        });
    });
    group.bench_function("unbound, warm", |bencher| {
        bencher.iter_custom(|count| {
            unbound.forget();
            runtime.block_on(look_up(&stub, next, 1));
            let begin = Instant::now();
            runtime.block_on(look_up(&stub, next + 1, count));
            next += count + 1;
            begin.elapsed()
        });
    });
    group.finish();
}

fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    status.lines().find(|line| line.starts_with("VmRSS")).unwrap().to_owned()
}

/// Serves the tree until its standard input ends.
fn serve(runtime: &Runtime) {
    let lab = runtime.block_on(tree().start());
    println!("{} {}", lab.addr, lab.anchor_file.display());
    std::io::stdout().flush().unwrap();
    let _ = std::io::stdin().lines().next();
}

fn measure(runtime: &Runtime) {
    let myself = std::env::current_exe().unwrap();
    let mut server = Command::new(myself).arg("--serve").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let (address, anchors) = line.trim().split_once(' ').unwrap();
    let _inside = runtime.enter();
    let settings = settings(address.parse().unwrap(), anchors.into());
    let stub = Stub::new(&ResolverSettings { memory: DEFAULTS, ..settings }).unwrap();
    runtime.block_on(look_up(&stub, 0, 1000));
    assert_eq!(OWNERS.len() as u64, *NAMES);
    println!("{} with 1,000 names", resident());
    let begin = Instant::now();
    runtime.block_on(look_up(&stub, 1000, *NAMES - 1000));
    println!("{} with {} names, after {:?}", resident(), *NAMES, begin.elapsed());
    let begin = Instant::now();
    runtime.block_on(look_up(&stub, 0, *NAMES));
    println!("{} once more from memory, after {:?}", resident(), begin.elapsed());
    drop(server.stdin.take());
    server.wait().unwrap();
}

fn asked(flag: &str) -> bool {
    std::env::args().any(|argument| argument == flag)
}

fn main() {
    let runtime = Runtime::new().unwrap();
    if asked("--serve") {
        return serve(&runtime);
    }
    if asked("--resident") {
        return measure(&runtime);
    }
    let lab = runtime.block_on(tree().start());
    let mut criterion = Criterion::default().configure_from_args();
    bench(&mut criterion, &lab, &runtime);
    drop(lab);
    bench_recursion(&mut criterion, &runtime);
    criterion.final_summary();
}
