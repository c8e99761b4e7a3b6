//! The laws of records. Both backends keep them.

use std::path::PathBuf;
use std::time::Duration;

use danelaw::journal::{Journal, Settings, StorePlace, Unclaimed};
use danelaw::smtp::reply::{Code, EnhancedCode, Reply};
use tempfile::TempDir;

use super::pooler::Pooler;
use super::server::Server;
use super::{at, claim, delivered, message, refused};
use crate::journal::pair;

/// An empty store of one backend.
pub(super) struct Backend {
    pub(super) place: StorePlace,
    pub(super) database: Option<Server>,
    _pooler: Option<Pooler>,
    _folder: TempDir,
}

impl Backend {
    pub(super) fn file() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = StorePlace::File(folder.path().join("store.sqlite"));
        Self { place, database: None, _pooler: None, _folder: folder }
    }

    pub(super) fn database() -> Self {
        let server = Server::start();
        let place = StorePlace::Database(Box::new(server.settings()));
        Self { place, database: Some(server), _pooler: None, _folder: tempfile::tempdir().unwrap() }
    }

    pub(super) fn behind_a_pooler() -> Self {
        let server = Server::start();
        let pooler = Pooler::before(&server);
        let place = StorePlace::Database(Box::new(pooler.settings()));
        Self { place, database: Some(server), _pooler: Some(pooler), _folder: tempfile::tempdir().unwrap() }
    }

    fn peppered() -> Self {
        let (server, folder) = (Server::start(), tempfile::tempdir().unwrap());
        let pepper: PathBuf = folder.path().join("pepper");
        std::fs::write(&pepper, [7; 32]).unwrap();
        let mut settings = server.settings();
        settings.pepper_file = Some(pepper);
        let place = StorePlace::Database(Box::new(settings));
        Self { place, database: Some(server), _pooler: None, _folder: folder }
    }

    /// Starts anew. A file must have been let go by the journal before.
    async fn open(&self) -> Journal {
        self.open_with(|_| {}).await
    }

    async fn open_with(&self, change: impl Fn(&mut Settings)) -> Journal {
        let mut settings = at(self.place.clone());
        change(&mut settings);
        Journal::open(settings).await.unwrap().0
    }
}

laws!(
    v23_a_record_survives_a_restart_and_answers_once,
    v23_one_session_at_a_time_has_a_message,
    v12_a_delivery_stays_a_delivery,
    v23_a_claim_that_is_dropped_leaves_the_record,
    v25_the_oldest_records_make_room,
    v23_an_old_record_is_deleted,
    v26_a_reply_comes_back_as_it_went_in
);

/// V23.
#[tokio::test]
async fn v23_a_pepper_changes_the_octets_in_the_database_and_nothing_else() {
    let backend = Backend::peppered();
    let one = pair("one@a.test");
    message(&backend.open().await, "x", &[one]).await.record([(one, delivered("1"))]).await.unwrap();
    let kept = backend.database.as_ref().unwrap().sql("SELECT encode(pair, 'hex') FROM danelaw.outcomes");
    assert_eq!(kept.len(), 64);
    v23_a_record_survives_a_restart_and_answers_once(backend).await;
    let plain = Backend::database();
    message(&plain.open().await, "x", &[one]).await.record([(one, delivered("1"))]).await.unwrap();
    assert_ne!(plain.database.as_ref().unwrap().sql("SELECT encode(pair, 'hex') FROM danelaw.outcomes"), kept);
}

/// V23.
async fn v23_a_record_survives_a_restart_and_answers_once(backend: Backend) {
    let journal = backend.open().await;
    let all = [pair("one@r.test"), pair("two@b.test"), pair("three@c.test")];
    let mut open = message(&journal, "r", &all).await;
    open.record([(all[0], delivered("queued as 1"))]).await.unwrap();
    open.record([(all[1], refused())]).await.unwrap();
    open.release().await;
    drop(journal);

    let journal = backend.open().await;
    // In any order of the recipients.
    let open = message(&journal, "r", &[all[2], all[0], all[1]]).await;
    assert_eq!(open.outcome(all[0]), Some(&delivered("queued as 1")));
    assert_eq!(open.outcome(all[1]), Some(&refused()));
    assert_eq!(open.outcome(all[2]), None);
    let served = journal.served(all[0]).await.unwrap();
    assert_eq!(served, journal.served(all[1]).await.unwrap());
    assert!(served.len() == 1 && journal.served(all[2]).await.unwrap().is_empty());
    // Another text, and the same text to other recipients, are other messages.
    assert_eq!(message(&journal, "y", &all).await.outcome(all[0]), None);
    assert_eq!(message(&journal, "r", &all[..2]).await.outcome(all[0]), None);
    open.delete().await.unwrap();
    assert!(journal.served(all[0]).await.unwrap().is_empty());
    assert_eq!(message(&journal, "r", &all).await.outcome(all[0]), None);
    drop(journal);
    assert!(backend.open().await.served(all[1]).await.unwrap().is_empty());
}

/// V23.
async fn v23_one_session_at_a_time_has_a_message(backend: Backend) {
    let journal = backend.open().await;
    let (one, two) = (pair("one@a.test"), pair("two@b.test"));
    let first = message(&journal, "x", &[one, two]).await;
    assert_eq!(claim(&journal, "x", &[two, one, one]).await.err(), Some(Unclaimed::Busy));
    drop(message(&journal, "x", &[two]).await);
    drop(message(&journal, "y", &[one, two]).await);
    first.release().await;
    assert!(claim(&journal, "x", &[two, one]).await.is_ok());
}

/// V12.
async fn v12_a_delivery_stays_a_delivery(backend: Backend) {
    let journal = backend.open().await;
    let one = pair("one@a.test");
    let mut open = message(&journal, "x", &[one]).await;
    open.record([(one, refused())]).await.unwrap();
    open.record([(one, delivered("1"))]).await.unwrap();
    for other in [refused(), delivered("2")] {
        open.record([(one, other)]).await.unwrap();
        assert_eq!(open.outcome(one), Some(&delivered("1")));
    }
    open.release().await;
    assert_eq!(message(&journal, "x", &[one]).await.outcome(one), Some(&delivered("1")));
}

/// V23.
async fn v23_a_claim_that_is_dropped_leaves_the_record(backend: Backend) {
    let journal = backend.open().await;
    let both = [pair("one@a.test"), pair("two@b.test")];
    let mut open = message(&journal, "x", &both).await;
    open.record([(both[0], delivered("1"))]).await.unwrap();
    // The client is gone.
    drop(open);
    let open = message(&journal, "x", &both).await;
    assert_eq!((open.outcome(both[0]), open.outcome(both[1])), (Some(&delivered("1")), None));
    // A message without an outcome leaves no record.
    drop(open);
    message(&journal, "y", &both).await.release().await;
    if let Some(server) = &backend.database {
        drop(message(&journal, "x", &both).await);
        assert_eq!(server.sql("SELECT count(*) FROM danelaw.records"), "1");
    }
}

/// V25.
async fn v25_the_oldest_records_make_room(backend: Backend) {
    let journal = backend.open_with(|settings| settings.entries = 4).await;
    let all = [pair("one@a.test"), pair("two@b.test"), pair("three@c.test")];
    let both = |text| [(all[0], delivered(text)), (all[1], delivered(text))];
    for text in ["x", "y"] {
        let mut open = message(&journal, text, &all).await;
        open.record(both(text)).await.unwrap();
        open.release().await;
        if let Some(server) = &backend.database {
            // The clock has seconds.
            server.sql("UPDATE danelaw.records SET seen = seen - 10");
        }
    }
    journal.tidy().await.unwrap();
    // The same record once more takes no more room, and a larger one goes first.
    for (text, more) in [("y", both("y").to_vec()), ("y", vec![(all[2], refused())])] {
        let open = message(&journal, "x", &all).await;
        assert!(open.outcome(all[0]).is_some());
        open.release().await;
        let mut open = message(&journal, text, &all).await;
        open.record(more).await.unwrap();
        // A database is tidied from time to time; a claimed message is never evicted.
        journal.tidy().await.unwrap();
        open.release().await;
    }
    let open = message(&journal, "x", &all).await;
    assert!(open.outcome(all[0]).is_none());
    let open = message(&journal, "y", &all).await;
    assert_eq!(open.outcome(all[2]), Some(&refused()));
    assert_eq!(journal.served(all[0]).await.unwrap().len(), 1);
}

/// V23.
async fn v23_an_old_record_is_deleted(backend: Backend) {
    let both = [pair("one@a.test"), pair("two@b.test")];
    let journal = backend.open().await;
    let mut open = message(&journal, "x", &both).await;
    open.record([(both[0], delivered("1"))]).await.unwrap();
    open.release().await;
    drop(journal);
    let brief = |settings: &mut Settings| settings.expiry = Duration::from_secs(1);
    let journal = backend.open_with(brief).await;
    assert_eq!(journal.served(both[0]).await.unwrap().len(), 1);
    // A test that needs real time: stores hold times of day.
    tokio::time::sleep(Duration::from_millis(2100)).await;
    assert!(journal.served(both[0]).await.unwrap().is_empty());
    let mut open = message(&journal, "x", &both).await;
    assert_eq!(open.outcome(both[0]), None);
    // An expired record does not come back with a later outcome.
    open.record([(both[1], refused())]).await.unwrap();
    open.release().await;
    let open = message(&journal, "x", &both).await;
    assert_eq!((open.outcome(both[0]), open.outcome(both[1])), (None, Some(&refused())));
    open.release().await;
    drop(journal);
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let journal = backend.open_with(brief).await;
    journal.tidy().await.unwrap();
    if let Some(server) = &backend.database {
        assert_eq!(
            server.sql("SELECT (SELECT count(*) FROM danelaw.records) + (SELECT count(*) FROM danelaw.outcomes)"),
            "0"
        );
    }
    assert!(backend.database.is_some() || journal.served(both[1]).await.unwrap().is_empty());
}

/// V26.
async fn v26_a_reply_comes_back_as_it_went_in(backend: Backend) {
    let journal = backend.open().await;
    let one = pair("one@a.test");
    for (number, text) in ["'; DROP TABLE danelaw.records; --", "$1 \\ \\' \" %s", "ünïcödé \u{fffd}", "tab\tand\u{7f}"]
        .iter()
        .enumerate()
    {
        let (text, name) = (*text, number.to_string());
        let reply = Reply::multiline(Code::OK, Some(EnhancedCode::success(0, 0)), [text, text]);
        let mut open = message(&journal, &name, &[one]).await;
        open.record([(one, reply.clone())]).await.unwrap();
        open.release().await;
        let open = message(&journal, &name, &[one]).await;
        assert_eq!(open.outcome(one).map(ToString::to_string), Some(reply.to_string()));
        open.delete().await.unwrap();
    }
}
