//! The live certificate matrix: odd certificates and chains, each served by `openssl s_server` over TLS 1.2 and TLS 1.3 and
//! judged by danelaw's TLS code, by OpenSSL's own DANE and, where it can be asked without DNS, by Postfix.
//!
//! A row says the verdict once. Where danelaw differs it refuses what OpenSSL accepts; the row then names the reason, the
//! words of the error, and whether the TLS library or a decision forces it. There is one exception: where certificates
//! of one name offer several ways up, danelaw tries them all, and OpenSSL only the first. The rows are the whole list of
//! differences; `differences` prints it.

// A test that cannot go on may panic.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod authorities;
#[path = "../certificates/mod.rs"]
mod certificates;
mod judges;
mod keys;
mod row;
mod server_certificates;

use std::sync::Mutex;

use row::Row;

/// Enough for two cores: most of the time is spent waiting for processes to start.
const WORKERS: usize = 6;

fn judge(rows: &[Row]) {
    let home = tempfile::tempdir().unwrap();
    let settings = "compatibility_level = 3.6\ninet_protocols = ipv4\nmaillog_file = /dev/null\n";
    let folder = home.path().display();
    let settings = format!("{settings}queue_directory = {folder}\ndata_directory = {folder}\n");
    std::fs::write(home.path().join("main.cf"), settings).unwrap();
    let (waiting, wrong) = (Mutex::new(rows.iter()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let Some(row) = waiting.lock().unwrap().next() else { break };
                    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| row.judge(home.path())));
                    let found = found.unwrap_or_else(|_| vec![format!("{}: panicked", row.what)]);
                    wrong.lock().unwrap().extend(found);
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

macro_rules! matrix {
    ($($name:ident: $rows:path;)*) => {
        $(#[test]
        fn $name() {
            judge(&$rows());
        })*

        /// All rows.
        fn all() -> Vec<Row> {
            [$($rows()),*].concat()
        }
    };
}

// F1-F3, F12-F18, G10, G14, R3-R9, E6, E7, E9, A-21, A-25 to A-29, decision 15.
matrix! {
    server_keys: server_certificates::keys;
    server_contents: server_certificates::contents;
    records: server_certificates::records;
    chains: authorities::chains;
    dates: authorities::dates;
    uses: authorities::uses;
    leftovers: authorities::leftovers;
    names: authorities::names;
    constraints: authorities::constraints;
    signatures: authorities::signatures;
}

#[test]
fn differences() {
    let rows = all();
    let differences: Vec<_> = rows.iter().filter_map(Row::difference).collect();
    println!("{} rows, {} differences:\n{}", rows.len(), differences.len(), differences.join("\n"));
    assert!(rows.len() >= 120);
    let mut names: Vec<_> = rows.iter().map(|row| row.what.as_str()).collect();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count, "two rows of one name");
}
