//! The records on the disk, and the files that the journal opens or refuses.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use danelaw::journal::{Journal, Message, MessageKey, OpenError, Pair, Settings, StorePlace};
use danelaw::smtp::reply::{Code, EnhancedCode, Reply};

use super::{content, pair};

fn at(path: &Path) -> Settings {
    crate::store::at(StorePlace::File(path.to_owned()))
}

fn delivered(text: &str) -> Reply {
    Reply::new(Code::OK, EnhancedCode::success(0, 0), format!("mx.test[192.0.2.1]: {text}"))
}

/// Opens the file; the process that had it may need a moment to let go. Also the number of outcomes in it.
async fn open(path: &Path) -> (Journal, usize) {
    Journal::open(at(path)).await.unwrap()
}

async fn closed(journal: Journal, path: &Path) {
    drop(journal);
    // The connection closes in a thread of its own.
    drop(open(path).await);
}

async fn message(journal: &Journal, text: &str, to: &[Pair]) -> Message {
    journal.message(MessageKey::new(content(text), to.iter().copied()), to).await.unwrap()
}

/// The tables of version 1, with a row in them.
const VERSION_1: &str = "
    CREATE TABLE outcomes (
        pair BLOB NOT NULL, content BLOB NOT NULL, reply TEXT, all_or_nothing INTEGER NOT NULL DEFAULT 0,
        seen INTEGER NOT NULL, PRIMARY KEY (pair, content)
    );
    CREATE INDEX outcomes_seen ON outcomes (seen);
    INSERT INTO outcomes VALUES (x'00', x'01', '250 2.0.0 ok', 0, 1700000000);
    PRAGMA application_id = 1684106860;
    PRAGMA user_version = 1;
";

#[tokio::test]
async fn a_file_of_version_1_is_taken_over() {
    use sqlx::ConnectOptions as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sqlite");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let mut connection = options.connect().await.unwrap();
    sqlx::raw_sql(VERSION_1).execute(&mut connection).await.unwrap();
    sqlx::Connection::close(connection).await.unwrap();
    let both = [pair("one@a.test"), pair("two@b.test")];
    for found in 0..2 {
        let (journal, outcomes) = open(&path).await;
        assert_eq!(outcomes, found);
        message(&journal, "x", &both).await.record([(both[0], delivered("1"))]).await.unwrap();
        closed(journal, &path).await;
    }
}

#[tokio::test]
async fn a_file_that_does_not_do_is_an_error_that_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let fails = |path: PathBuf| async move { Journal::open(at(&path)).await.map(drop).unwrap_err() };

    let nowhere = fails(folder.path().join("no/such/store.sqlite")).await;
    assert!(nowhere.to_string().contains("may write to"), "{nowhere}");

    let directory = fails(folder.path().to_owned()).await;
    assert!(directory.to_string().contains("it is no regular file"), "{directory}");

    let text = folder.path().join("text");
    fs::write(&text, "Dear diary, ".repeat(1000)).unwrap();
    assert!(matches!(fails(text.clone()).await, OpenError::NotAStore { .. }));
    assert!(fs::read_to_string(&text).unwrap().starts_with("Dear diary"));

    let ours = folder.path().join("store.sqlite");
    let (journal, _) = open(&ours).await;
    assert_eq!(fs::metadata(&ours).unwrap().permissions().mode() & 0o777, 0o600);
    let in_use = fails(ours.clone()).await;
    assert!(matches!(in_use, OpenError::InUse(_)), "{in_use}");
    let one = pair("one@a.test");
    message(&journal, "x", &[one]).await.record([(one, delivered("1"))]).await.unwrap();
    let log = fs::metadata(ours.with_extension("sqlite-wal")).unwrap();
    assert_eq!(log.permissions().mode() & 0o777, 0o600);
    closed(journal, &ours).await;

    // Octets 60 to 63 of the header are the version, 68 to 71 the application.
    let with = |offset: usize, octet: u8| {
        let mut octets = fs::read(&ours).unwrap();
        octets[offset] = octet;
        let path = folder.path().join(format!("{offset}"));
        fs::write(&path, octets).unwrap();
        path
    };
    assert!(matches!(fails(with(63, 99)).await, OpenError::Newer { found: 99, .. }));
    assert!(matches!(fails(with(68, 0)).await, OpenError::NotAStore { .. }));
    // The first table's root page is no page.
    let damaged = fails(with(4096, 0x77)).await;
    assert!(matches!(damaged, OpenError::NotAStore { .. }), "{damaged:?}");
}

/// Not a test of its own: the process that `nothing_recorded_is_lost_to_sigkill` kills.
#[tokio::test]
#[ignore = "run by another test"]
async fn records_until_it_is_killed() {
    let path = std::env::var("DANELAW_JOURNAL").unwrap();
    let (journal, _) = open(Path::new(&path)).await;
    for number in 0.. {
        let one = pair(&format!("r{number}@a.test"));
        message(&journal, "x", &[one]).await.record([(one, delivered("1"))]).await.unwrap();
        println!("\nrecorded {number}");
    }
}

#[tokio::test]
async fn nothing_recorded_is_lost_to_sigkill() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..10_u64 {
        let path = folder.path().join(format!("{round}.sqlite"));
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "journal::durable::records_until_it_is_killed", "--nocapture"])
            .env("DANELAW_JOURNAL", &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut recorded = 0;
        let mut count = |line: String| recorded += u64::from(line.starts_with("recorded "));
        lines.by_ref().filter(|line| line.starts_with("recorded ")).take(1 + 7 * round as usize).for_each(&mut count);
        child.kill().unwrap();
        lines.for_each(&mut count);
        child.wait().unwrap();
        assert!(recorded > 7 * round);
        let (journal, found) = open(&path).await;
        assert!(found as u64 >= recorded, "{recorded} of {found}");
        for number in 0..recorded {
            assert!(!journal.served(pair(&format!("r{number}@a.test"))).await.unwrap().is_empty());
        }
    }
}
