//! danelaw beside the alternatives: a real Postfix with `smtp_tls_security_level = dane`, and, as the ceiling, a bare
//! pass-through without any check ("null"). All run on this machine, one after the other, in rounds; every message is
//! compared octet for octet at its destination.
//!
//! `cargo bench --bench relay -- --help` lists the options; `--quick` takes a minute or two. It needs root and the
//! programs that `tests/run` installs: it runs in a network, mount and process namespace of its own, with port 25 on
//! loopback addresses.
//!
//! The load source, the sink and the pass-through are this same program under other names ([`source`], [`sink`],
//! [`null`]), in processes of their own, so that the CPU time of each is known.

#![allow(missing_docs)]
#![allow(clippy::expect_used, reason = "a benchmark that cannot be set up has no result")]
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]

mod conn;
mod growth;
mod lab;
mod message;
mod null;
mod plot;
mod policy_host;
mod proc;
mod run;
mod scenario;
mod sink;
mod source;
mod table;
mod tls;
mod world;

// The lab of the tests with real servers.
#[path = "../../tests/shared/command.rs"]
mod command;
#[allow(dead_code, clippy::unwrap_used, reason = "the lab in one process has more of it")]
#[path = "../../tests/lab/certs.rs"]
mod certs;
#[allow(dead_code)]
#[path = "../../tests/real/dns.rs"]
mod dns;
#[allow(dead_code)]
#[path = "../../tests/real/net.rs"]
mod net;
#[allow(dead_code)]
#[path = "../../tests/real/pki.rs"]
mod pki;
#[allow(dead_code)]
#[path = "../../tests/real/postfix.rs"]
mod postfix;
#[allow(dead_code)]
#[path = "../../tests/real/process.rs"]
mod process;
// The PostgreSQL of the tests.
#[allow(dead_code, clippy::unwrap_used)]
#[path = "../../tests/suite/store/server.rs"]
mod server;
#[allow(dead_code)]
#[path = "../../tests/real/smtp.rs"]
mod smtp;
#[allow(dead_code)]
#[path = "../../tests/real/zones.rs"]
mod zones;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use clap::Parser;

#[derive(Parser)]
#[command(name = "relay")]
enum Role {
    Source(source::Options),
    Sink(sink::Options),
    Null(null::Options),
    PolicyHost(policy_host::Options),
    /// Everything, in the namespace that is made for it.
    Inside(run::Options),
}

#[derive(Parser)]
#[command(name = "relay", about = "danelaw, Postfix and a bare pass-through side by side")]
struct Outside {
    /// Draw the lines of growth of an earlier run, which are in this file, as an SVG, in place of a measurement.
    #[arg(long)]
    plot: Option<PathBuf>,
    #[command(flatten)]
    options: run::Options,
}

/// The same allocator as danelaw's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if matches!(arguments.get(1).map(String::as_str), Some("source" | "sink" | "null" | "policy-host" | "inside")) {
        return play(Role::parse_from(arguments));
    }
    // cargo passes --bench for a measurement; a test of this target has to be quick.
    if !arguments.iter().any(|argument| argument == "--bench") {
        message::self_check();
        growth::self_check();
        return ExitCode::SUCCESS;
    }
    let arguments: Vec<String> = arguments.into_iter().filter(|argument| argument != "--bench").collect();
    match Outside::parse_from(&arguments).plot {
        Some(file) => plot::draw(&file),
        None => isolate(arguments.get(1..).unwrap_or_default()),
    }
}

fn play(role: Role) -> ExitCode {
    match role {
        Role::Source(options) => block_on(options.threads, async {
            let report = source::run(options).await;
            println!("{}", serde_json::to_string(&report).expect("numbers and text"));
            // The process stays until the reader of this line has read the process's CPU time too.
            let _ = tokio::task::spawn_blocking(|| std::io::stdin().lines().next()).await;
        }),
        Role::Sink(options) => block_on(options.threads, sink::run(options)),
        Role::Null(options) => block_on(options.threads, null::run(options)),
        Role::PolicyHost(options) => block_on(1, policy_host::run(options)),
        Role::Inside(options) => return run::run(&options),
    }
    ExitCode::SUCCESS
}

fn block_on(threads: usize, role: impl Future<Output = ()>) {
    let mut builder = match threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = builder.worker_threads(threads).enable_all().build().expect("a runtime");
    runtime.block_on(role);
    runtime.shutdown_background();
}

/// Runs this program again in namespaces of its own, with a file system in memory mounted over the directory.
fn isolate(arguments: &[String]) -> ExitCode {
    let directory = tempfile::Builder::new().prefix("danelaw-relay-").tempdir().expect("a writable /tmp");
    // Postfix refuses a queue below a directory that others cannot enter.
    let script = "{ ulimit -n 65536 2>/dev/null || ulimit -n $(ulimit -Hn); } && ip link set lo up && mount -t tmpfs -o mode=755 tmpfs \"$1\" && \
                  exec \"$0\" inside --directory \"$@\"";
    let status = Command::new("unshare")
        .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", script])
        .arg(std::env::current_exe().expect("a program has a path"))
        .arg(directory.path())
        .args(arguments)
        .stdin(std::process::Stdio::null())
        .status();
    match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("unshare does not start: {error}");
            ExitCode::FAILURE
        }
    }
}
