//! What is on the disk, and what the file may be.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use danelaw::ledger::{Attempt, Fate, Found, Ledger, LedgerError, Manners, OpenError, Settings};
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

/// Opens the file; the process that had it may need a moment to let go.
async fn open(path: &Path) -> (Ledger, Found) {
    Ledger::open(at(path)).await.unwrap()
}

async fn closed(ledger: Ledger, path: &Path) {
    drop(ledger);
    // The connection closes in a thread of its own.
    drop(open(path).await);
}

#[tokio::test]
async fn outcomes_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.sqlite");
    let (ledger, found) = open(&path).await;
    assert_eq!(found, Found { remembered: 0, unknown: 0 });
    let (one, two, three) = (pair("one@a.test"), pair("two@b.test"), pair("three@c.test"));
    let mut claim = ledger.claim(content("x"), [one, two, three]).await.unwrap();
    assert_eq!(claim.attempt(), Attempt::First);
    claim.prepare().await.unwrap();
    claim.record(&[(one, &delivered("queued as 1"))]).await.unwrap();
    claim.record(&[(two, &refused())]).await.unwrap();
    drop(claim);
    drop(ledger);

    let (ledger, found) = open(&path).await;
    // The third had no outcome when danelaw ended.
    assert_eq!(found, Found { remembered: 2, unknown: 1 });
    let claim = ledger.claim(content("x"), [one, two, three]).await.unwrap();
    assert_eq!(claim.attempt(), Attempt::Retry);
    assert_eq!(claim.remembered(one), Some(&delivered("queued as 1")));
    assert_eq!(claim.remembered(two), Some(&refused()));
    assert_eq!(claim.remembered(three), None);
    assert!(ledger.past(one).await.unwrap().clashes_with(&ledger.past(two).await.unwrap()));
    assert!(ledger.past(three).await.unwrap().is_empty());
    // Another message is another message.
    assert_eq!(ledger.claim(content("y"), [one, two]).await.unwrap().attempt(), Attempt::First);
    // Once the client knows, nobody needs to.
    claim.settle().await.unwrap();
    assert!(ledger.past(one).await.unwrap().is_empty());
    closed(ledger, &path).await;
    assert_eq!(open(&path).await.1, Found { remembered: 0, unknown: 0 });
}

#[tokio::test]
async fn to_keep_is_to_forget_the_rest() {
    let (ledger, _) = Ledger::open(Settings { path: None, entries: 10, expiry: DAY }).await.unwrap();
    let (one, two) = (pair("one@a.test"), pair("two@b.test"));
    let mut claim = ledger.claim(content("x"), [one, two]).await.unwrap();
    claim.prepare().await.unwrap();
    claim.record(&[(two, &refused())]).await.unwrap();
    claim.keep(&[(one, &delivered("1"))]).await.unwrap();
    drop(claim);
    assert!(ledger.past(two).await.unwrap().is_empty());
    assert_eq!(ledger.past(one).await.unwrap().manners(), Manners::Unproved);
    ledger.all_or_nothing(&[one, two]).await.unwrap();
    assert_eq!(ledger.past(one).await.unwrap().manners(), Manners::AllOrNothing);
    // What is kept again stays marked.
    let mut claim = ledger.claim(content("x"), [one, two]).await.unwrap();
    claim.keep(&[(one, &delivered("1")), (two, &refused())]).await.unwrap();
    assert_eq!(ledger.past(one).await.unwrap().manners(), Manners::AllOrNothing);
}

#[tokio::test]
async fn one_session_at_a_time_has_a_message_for_a_recipient() {
    let (ledger, _) = Ledger::open(Settings { path: None, entries: 10, expiry: DAY }).await.unwrap();
    let (one, two) = (pair("one@a.test"), pair("two@b.test"));
    // A client may name a recipient twice.
    let claim = ledger.claim(content("x"), [one, one]).await.unwrap();
    let busy = ledger.claim(content("x"), [two, one]).await.unwrap_err();
    assert!(matches!(busy, LedgerError::Busy));
    assert_eq!((Fate::of(&busy.reply()), busy.label()), (Fate::Deferred, "ledger-busy"));
    // What was refused has taken nothing.
    drop(ledger.claim(content("x"), [two]).await.unwrap());
    drop(ledger.claim(content("y"), [one]).await.unwrap());
    drop(claim);
    assert!(ledger.claim(content("x"), [one]).await.is_ok());
}

#[tokio::test]
async fn what_is_full_takes_no_more_before_anything_is_sent() {
    let (ledger, _) = Ledger::open(Settings { path: None, entries: 2, expiry: DAY }).await.unwrap();
    let (one, two, three) = (pair("one@a.test"), pair("two@b.test"), pair("three@c.test"));
    let mut claim = ledger.claim(content("x"), [one, two]).await.unwrap();
    claim.prepare().await.unwrap();
    let mut other = ledger.claim(content("y"), [three]).await.unwrap();
    let full = other.prepare().await.unwrap_err();
    assert!(matches!(full, LedgerError::Full(2)) && full.to_string().contains("ledger.entries"));
    assert_eq!(full.reply().to_string(), "451 4.3.1 the ledger is full (2 outcomes); raise ledger.entries");
    assert!(matches!(other.record(&[(three, &delivered("3"))]).await, Err(LedgerError::Full(2))));
    // What was prepared has its place.
    claim.record(&[(one, &delivered("1"))]).await.unwrap();
    claim.keep(&[(one, &delivered("1"))]).await.unwrap();
    other.prepare().await.unwrap();
}

#[tokio::test]
async fn nobody_takes_the_room_that_was_prepared() {
    let (ledger, _) = Ledger::open(Settings { path: None, entries: 3, expiry: DAY }).await.unwrap();
    let (one, two, three, four) = (pair("one@a.test"), pair("two@b.test"), pair("three@c.test"), pair("four@d.test"));
    ledger.claim(content("x"), [one]).await.unwrap().record(&[(one, &delivered("1"))]).await.unwrap();
    let mut prepared = ledger.claim(content("y"), [two, three]).await.unwrap();
    prepared.prepare().await.unwrap();
    // Something is remembered of this one, which is no room for the others.
    let mut retry = ledger.claim(content("x"), [one, four]).await.unwrap();
    let both = [(one, &delivered("1")), (four, &delivered("4"))];
    assert!(matches!(retry.record(&both).await, Err(LedgerError::Full(3))));
    assert!(matches!(retry.prepare().await, Err(LedgerError::Full(3))));
    // But its own place is.
    retry.record(&both[..1]).await.unwrap();
    prepared.record(&[(two, &delivered("2"))]).await.unwrap();
    prepared.keep(&[(two, &delivered("2"))]).await.unwrap();
    retry.prepare().await.unwrap();
    retry.record(&both).await.unwrap();
}

#[tokio::test]
async fn what_is_old_is_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.sqlite");
    let one = pair("one@a.test");
    let (ledger, _) = open(&path).await;
    ledger.claim(content("x"), [one]).await.unwrap().record(&[(one, &delivered("1"))]).await.unwrap();
    drop(ledger);
    let brief = Settings { expiry: Duration::from_secs(1), ..at(&path) };
    let (ledger, found) = Ledger::open(brief.clone()).await.unwrap();
    assert_eq!(found.remembered, 1);
    // The one test here that needs the clock on the wall: the file has times of it.
    tokio::time::sleep(Duration::from_millis(2100)).await;
    assert!(ledger.past(one).await.unwrap().is_empty());
    assert_eq!(ledger.claim(content("x"), [one]).await.unwrap().attempt(), Attempt::First);
    drop(ledger);
    assert_eq!(Ledger::open(brief).await.unwrap().1.remembered, 0);
}

#[tokio::test]
async fn a_file_that_does_not_do_is_an_error_that_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let fails = |path: PathBuf| async move { Ledger::open(at(&path)).await.map(drop).unwrap_err() };

    let nowhere = fails(folder.path().join("no/such/ledger.sqlite")).await;
    assert!(nowhere.to_string().contains("may write to"), "{nowhere}");

    let text = folder.path().join("text");
    fs::write(&text, "Dear diary, ".repeat(1000)).unwrap();
    assert!(matches!(fails(text.clone()).await, OpenError::NotALedger { .. }));
    assert!(fs::read_to_string(&text).unwrap().starts_with("Dear diary"));

    let ours = folder.path().join("ledger.sqlite");
    let (ledger, _) = open(&ours).await;
    assert_eq!(fs::metadata(&ours).unwrap().permissions().mode() & 0o777, 0o600);
    let in_use = fails(ours.clone()).await;
    assert!(matches!(in_use, OpenError::InUse(_)), "{in_use}");
    let one = pair("one@a.test");
    ledger.claim(content("x"), [one]).await.unwrap().record(&[(one, &delivered("1"))]).await.unwrap();
    let log = fs::metadata(ours.with_extension("sqlite-wal")).unwrap();
    assert_eq!(log.permissions().mode() & 0o777, 0o600);
    closed(ledger, &ours).await;

    // Octets 60 to 63 of the header are the version, 68 to 71 the application.
    let with = |offset: usize, octet: u8| {
        let mut octets = fs::read(&ours).unwrap();
        octets[offset] = octet;
        let path = folder.path().join(format!("{offset}"));
        fs::write(&path, octets).unwrap();
        path
    };
    assert!(matches!(fails(with(63, 2)).await, OpenError::Newer { found: 2, .. }));
    assert!(matches!(fails(with(68, 0)).await, OpenError::NotALedger { .. }));
    // The first table's root page is no page.
    let damaged = fails(with(4096, 0x77)).await;
    assert!(matches!(damaged, OpenError::NotALedger { .. }), "{damaged:?}");
}

/// Not a test of its own: what `nothing_recorded_is_lost_to_sigkill` kills.
#[tokio::test]
#[ignore = "run by another test"]
async fn records_until_it_is_killed() {
    let path = std::env::var("DANELAW_LEDGER").unwrap();
    let (ledger, _) = open(Path::new(&path)).await;
    for number in 0.. {
        let one = pair(&format!("r{number}@a.test"));
        let mut claim = ledger.claim(content("x"), [one]).await.unwrap();
        claim.prepare().await.unwrap();
        claim.record(&[(one, &delivered("1"))]).await.unwrap();
        println!("\nrecorded {number}");
    }
}

#[tokio::test]
async fn nothing_recorded_is_lost_to_sigkill() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..10_u64 {
        let path = folder.path().join(format!("{round}.sqlite"));
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "durable::records_until_it_is_killed", "--nocapture"])
            .env("DANELAW_LEDGER", &path)
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
        let (ledger, found) = open(&path).await;
        assert!(found.remembered as u64 >= recorded && found.unknown <= 1, "{recorded} of {found:?}");
        for number in 0..recorded {
            assert!(!ledger.past(pair(&format!("r{number}@a.test"))).await.unwrap().is_empty());
        }
    }
}
