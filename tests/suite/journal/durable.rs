//! The records on the disk, and the files that the journal opens or refuses.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use danelaw::journal::{Busy, Journal, Message, MessageKey, OpenError, Pair, Settings};
use danelaw::smtp::reply::{Code, EnhancedCode, Reply};

use super::{content, pair};

const DAY: Duration = Duration::from_secs(86_400);

fn at(path: &Path) -> Settings {
    Settings { path: Some(path.to_owned()), entries: 100_000, expiry: DAY }
}

fn delivered(text: &str) -> Reply {
    Reply::new(Code::OK, EnhancedCode::success(0, 0), format!("mx.test[192.0.2.1]: {text}"))
}

fn refused() -> Reply {
    let lines = ["mx.test[192.0.2.1]: no such user", "mx.test[192.0.2.1]: <one@a.test>"];
    Reply::multiline(Code::MAILBOX_UNAVAILABLE, Some(EnhancedCode::permanent(1, 1)), lines)
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

#[tokio::test]
async fn a_record_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sqlite");
    let (journal, found) = open(&path).await;
    assert_eq!(found, 0);
    let all = [pair("one@a.test"), pair("two@b.test"), pair("three@c.test")];
    let mut open_message = message(&journal, "x", &all).await;
    open_message.record([(all[0], delivered("queued as 1"))]).await.unwrap();
    open_message.record([(all[1], refused())]).await.unwrap();
    drop(open_message);
    drop(journal);

    let (journal, found) = open(&path).await;
    assert_eq!(found, 2);
    // In any order of the recipients.
    let open_message = message(&journal, "x", &[all[2], all[0], all[1]]).await;
    assert_eq!(open_message.outcome(all[0]), Some(&delivered("queued as 1")));
    assert_eq!(open_message.outcome(all[1]), Some(&refused()));
    assert_eq!(open_message.outcome(all[2]), None);
    assert_eq!(journal.served(all[0]), journal.served(all[1]));
    assert!(!journal.served(all[0]).is_empty() && journal.served(all[2]).is_empty());
    // Another text, and the same text to other recipients, are other messages.
    assert_eq!(message(&journal, "y", &all).await.outcome(all[0]), None);
    assert_eq!(message(&journal, "x", &all[..2]).await.outcome(all[0]), None);
    // A record answers once.
    open_message.delete().await.unwrap();
    assert!(journal.served(all[0]).is_empty());
    assert_eq!(message(&journal, "x", &all).await.outcome(all[0]), None);
    closed(journal, &path).await;
    assert_eq!(open(&path).await.1, 0);
}

#[tokio::test]
async fn one_session_at_a_time_has_a_message() {
    let (journal, _) = Journal::open(Settings { path: None, entries: 10, expiry: DAY }).await.unwrap();
    let (one, two) = (pair("one@a.test"), pair("two@b.test"));
    let first = message(&journal, "x", &[one, two]).await;
    let again = MessageKey::new(content("x"), [two, one, one]);
    assert_eq!(journal.message(again, &[two, one]).await.unwrap_err(), Busy);
    drop(message(&journal, "x", &[two]).await);
    drop(message(&journal, "y", &[one, two]).await);
    drop(first);
    assert!(journal.message(again, &[two, one]).await.is_ok());
}

#[tokio::test]
async fn the_oldest_records_make_room() {
    let (journal, _) = Journal::open(Settings { path: None, entries: 4, expiry: DAY }).await.unwrap();
    let all = [pair("one@a.test"), pair("two@b.test"), pair("three@c.test")];
    let both = |text| [(all[0], delivered(text)), (all[1], delivered(text))];
    for text in ["x", "y"] {
        message(&journal, text, &all).await.record(both(text)).await.unwrap();
    }
    // The same record once more takes no more room, and a larger one goes first.
    message(&journal, "y", &all).await.record(both("y")).await.unwrap();
    assert!(message(&journal, "x", &all).await.outcome(all[0]).is_some());
    message(&journal, "y", &all).await.record([(all[2], refused())]).await.unwrap();
    assert!(message(&journal, "x", &all).await.outcome(all[0]).is_none());
    assert_eq!(message(&journal, "y", &all).await.outcome(all[2]), Some(&refused()));
    assert_eq!(journal.served(all[0]).len(), 1);
}

#[tokio::test]
async fn an_old_record_is_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sqlite");
    let both = [pair("one@a.test"), pair("two@b.test")];
    let (journal, _) = open(&path).await;
    message(&journal, "x", &both).await.record([(both[0], delivered("1"))]).await.unwrap();
    drop(journal);
    let brief = Settings { expiry: Duration::from_secs(1), ..at(&path) };
    let (journal, found) = Journal::open(brief.clone()).await.unwrap();
    assert_eq!(found, 1);
    // The one test here that needs real time: the file holds times of day.
    tokio::time::sleep(Duration::from_millis(2100)).await;
    assert_eq!(message(&journal, "x", &both).await.outcome(both[0]), None);
    drop(journal);
    assert_eq!(Journal::open(brief).await.unwrap().1, 0);
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
    assert!(matches!(fails(with(63, 5)).await, OpenError::Newer { found: 5, .. }));
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
            assert!(!journal.served(pair(&format!("r{number}@a.test"))).is_empty());
        }
    }
}
