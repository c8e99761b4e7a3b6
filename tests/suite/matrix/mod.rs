//! The live certificate matrix: odd certificates and chains, each served by `openssl s_server` over TLS 1.2 and TLS 1.3 and
//! judged by danelaw's TLS code, by OpenSSL's own DANE and, where it can be asked without DNS, by Postfix.
//!
//! A row states the verdict once. Where danelaw differs it refuses a certificate that OpenSSL accepts; the row then
//! names the reason, the words of the error, and whether the TLS library or a decision forces it. It never accepts a
//! certificate that OpenSSL refuses. The rows are the whole list of differences; `differences` prints it.

mod authorities;
mod judges;
mod keys;
mod row;
mod server_certificates;

use crate::certificates;
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

// F1-F3, F12-F18, G10, G14, R3-R9, E6, E7, E9, A-21, A-25 to A-29, decision 15. No certificate here is in a log, and the
// revocation list that some of them name is nowhere: F4, F20. openssl answers no SNI: G2.
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

/// G4, G5, G6, G7, A-30: an outdated server with the right key. A failure to agree on TLS parameters is no verdict on
/// its certificate; and shared parameters are enough.
#[test]
fn parameters() {
    const ALL: &str = "ALL:@SECLEVEL=0";
    let apart = [
        &["-tls1", "-cipher", ALL][..],
        &["-tls1_1", "-cipher", ALL],
        &["-tls1_2", "-cipher", "AES256-GCM-SHA384:@SECLEVEL=0"],
        &["-tls1_2", "-cipher", "AES128-SHA:@SECLEVEL=0"],
        &["-tls1_2", "-cipher", "DHE-RSA-AES256-GCM-SHA384:@SECLEVEL=0"],
        &["-tls1_2", "-cipher", "ECDHE-RSA-AES128-SHA:@SECLEVEL=0"],
        &["-tls1_2", "-cipher", "ECDHE-RSA-AES256-SHA384:@SECLEVEL=0"],
        &["-tls1_2", "-cipher", "aNULL:@SECLEVEL=0"],
        &["-tls1_2", "-cipher", "eNULL:@SECLEVEL=0"],
        &["-tls1_2", "-cipher", ALL, "-sigalgs", "RSA+SHA1"],
        &["-tls1_3", "-groups", "ffdhe2048"],
        &["-tls1_3", "-ciphersuites", "TLS_AES_128_CCM_SHA256"],
    ];
    let shared = [
        &["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"][..],
        &["-tls1_2", "-cipher", "ECDHE-RSA-CHACHA20-POLY1305"],
        &["-tls1_2", "-cipher", "ECDHE-RSA-AES256-GCM-SHA384", "-groups", "P-384"],
        &["-tls1_3", "-groups", "P-384"],
        &["-tls1_2", "-cipher", "ECDHE-RSA-AES256-GCM-SHA384", "-groups", "P-521"],
        &["-tls1_3", "-groups", "P-521"],
        &["-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"],
        // G11: it asks for a certificate of ours, and gets none.
        &["-tls1_2", "-verify", "1"],
        &["-tls1_3", "-verify", "1"],
    ];
    let own = keys::key((keys::RSA_2048, 0));
    let certificate = keys::issue(&certificates::Spec::default(), &own, &own, &keys::RSA_SHA256);
    let record = certificates::tlsa("3 1 1", &certificate, &own.spki);
    let verdict = |arguments: &[&str]| {
        let server = judges::Server::with(arguments, std::slice::from_ref(&certificate), &own.pem);
        server.danelaw("mx.example.com", std::slice::from_ref(&record))
    };
    for arguments in apart {
        let why = verdict(arguments).unwrap_err();
        assert_eq!(why.label(), "no-shared-tls-parameters", "{arguments:?}: {why}");
    }
    for arguments in shared {
        assert_eq!(verdict(arguments), Ok(0), "{arguments:?}");
    }
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
