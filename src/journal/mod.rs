//! The outcomes of fan-out messages that the client has to send again.
//!
//! At the end of the data plain SMTP has one reply for all recipients (RFC 5321 §4.1.1.4), and danelaw has no queue. A
//! fan-out transaction has recipients at several destinations. If one destination takes the message and another one
//! defers it, the reply is 451, and the client sends the message to all recipients again. The journal makes this harmless:
//! it keeps one *record* for each such message, with the final outcome (2xx or 5xx) of each recipient that has one. On the
//! next attempt these recipients do not get the message again.
//!
//! No other mail has a record. A client of SMTP, LMTP or PRDR that has lost the reply sends the message again, and it may
//! arrive twice, as with every mail server (RFC 1047, RFC 5321 §4.5.4.1: better twice than never). danelaw does not guess
//! which replies a client has heard.
//!
//! # The life of a record
//!
//! 1. **RCPT.** [`Journal::served`] returns the records in which the recipient has a final outcome. Recipients of one destination
//!    share a transaction if these records are the same, so that the message can be kept from those that have it. Before
//!    the end of the data this is all that depends on a record.
//! 2. **The end of the data.** The message is known by its [`MessageKey`]: sender, recipients, and the octets of the
//!    message, Message-ID included. A message without Message-ID has no record, since two such messages may be equal and
//!    still be two. [`Journal::message`] locks the message against a second session and reads its record. Recipients with
//!    a final outcome get no end of data: their remote sees a reset.
//! 3. **While outcomes are open**, [`Message::record`] writes the final ones to the disk, the first time as soon as a
//!    destination has answered while another one has not, and always before the client gets 451.
//! 4. **When no outcome is open**, [`Message::take`] deletes the record, and then the client gets the reply. So a record
//!    answers once. The same message, sent once more, is delivered again.
//!
//! # The cost of a crash or a failing disk
//!
//! | moment | cost |
//! |---|---|
//! | between a remote's 2xx and its record, or if the record cannot be written | a second copy on the client's next attempt |
//! | between the deletion and the reply | a second copy on the client's next attempt |
//! | the record cannot be read or deleted | it counts as deleted for this process: a second copy |
//! | the record was evicted for room, or has expired | a second copy on the client's next attempt |
//!
//! No row loses a message, and no row answers 2xx or 5xx without the remote's 2xx or 5xx to this message.
//!
//! Records are in the store (`src/store`). Addresses and messages are kept as digests, the remotes' replies in clear.

mod index;

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use time::OffsetDateTime;

use crate::smtp::reply::Reply;
use crate::store::Writing;
pub use crate::store::{ContentDigest, ContentHasher, Error, MessageKey, OpenError, Pair, RecordId, Store};

use index::Index;

/// How often expired records are looked for.
const TIDY: Duration = Duration::from_secs(60 * 60);

/// The operator's settings for the journal.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The file of the store; none for a store that ends with the process.
    pub path: Option<PathBuf>,
    /// The most outcomes that are kept. The oldest records make room for new ones.
    pub entries: usize,
    /// How long a record is kept after the client's last attempt.
    pub expiry: Duration,
}

/// The journal, shared by all sessions.
#[derive(Clone)]
pub struct Journal {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Settings,
    store: tokio::sync::Mutex<Kept>,
    /// Which recipients have a final outcome in which records.
    index: RwLock<Index>,
    /// The messages with a session at the end of their data.
    locked: Mutex<HashSet<MessageKey>>,
}

struct Kept {
    store: Store,
    tidied: i64,
    /// Records that were taken and could not be deleted. They count as deleted.
    gone: HashSet<MessageKey>,
}

/// Another session has locked the same message. The client gets 451.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy;

impl Journal {
    /// Opens the store, and returns the number of outcomes in it too.
    ///
    /// # Errors
    /// If the file cannot be used, or another process uses it.
    pub async fn open(settings: Settings) -> Result<(Self, usize), OpenError> {
        let store = Store::open(settings.path.as_deref()).await?;
        Self::with_store(settings, store).await
    }

    /// As [`open`](Self::open), with the file of these settings, which is open already.
    ///
    /// # Errors
    /// If the file cannot be used.
    pub async fn with_store(settings: Settings, store: Store) -> Result<(Self, usize), OpenError> {
        let library = |error| OpenError::library(settings.path.as_deref(), error);
        let tidied = now();
        store.tidy(since(&settings, tidied)).await.map_err(library)?;
        let index = Index::of(store.served().await.map_err(library)?);
        let outcomes = store.outcomes().await;
        let kept = Kept { store, tidied, gone: HashSet::new() };
        let (store, index, locked) = (tokio::sync::Mutex::new(kept), RwLock::new(index), Mutex::default());
        Ok((Self { inner: Arc::new(Inner { settings, store, index, locked }) }, outcomes))
    }

    /// The records in which this recipient has a final outcome; nearly always none.
    pub fn served(&self, recipient: Pair) -> Vec<RecordId> {
        let since = since(&self.inner.settings, now());
        self.inner.read_index().records(recipient, since)
    }

    /// Locks a message until the result is dropped, and reads its record.
    ///
    /// # Errors
    /// If another session has locked it.
    pub async fn message(&self, key: MessageKey, recipients: &[Pair]) -> Result<Message, Busy> {
        let mut message = Message { lock: Lock::acquire(self, key)?, outcomes: BTreeMap::new(), is_stored: false };
        let may_have_record = {
            let index = self.inner.read_index();
            recipients.iter().any(|recipient| index.has(*recipient))
        };
        if may_have_record {
            message.read().await;
        }
        Ok(message)
    }
}

impl Kept {
    /// Deletes expired records once in a while, and returns their numbers. A record that is still there has expired all the same.
    async fn tidy(&mut self, settings: &Settings, now: i64) -> Vec<RecordId> {
        if self.tidied.saturating_add(seconds(TIDY)) >= now {
            return Vec::new();
        }
        self.tidied = now;
        self.store.tidy(since(settings, now)).await.unwrap_or_else(|error| {
            tracing::error!(%error, "expired records of the store cannot be deleted");
            Vec::new()
        })
    }

    /// A record counts as deleted from now on. There are no more of them than records.
    fn lose(&mut self, key: MessageKey, most: usize) {
        if self.gone.len() < most {
            self.gone.insert(key);
        }
    }
}

/// A message with one session at the end of its data, and its record.
pub struct Message {
    lock: Lock,
    outcomes: BTreeMap<Pair, Reply>,
    /// Whether the store has a record.
    is_stored: bool,
}

impl Message {
    /// The final outcome of a recipient, by the record.
    pub fn outcome(&self, recipient: Pair) -> Option<&Reply> {
        self.outcomes.get(&recipient)
    }

    /// Writes final outcomes to the record. They are on the disk when this returns.
    ///
    /// # Errors
    /// If the store fails. On the client's next attempt these recipients may get a second copy.
    pub async fn record(&mut self, outcomes: impl IntoIterator<Item = (Pair, Reply)>) -> Result<(), Error> {
        self.outcomes.extend(outcomes);
        let Inner { settings, store, .. } = &*self.lock.journal.inner;
        let now = now();
        let mut kept = store.lock().await;
        let expired = kept.tidy(settings, now).await;
        // Before the write: one that fails may have reached the disk all the same, and has to be deleted then.
        self.is_stored = true;
        let writing = Writing { key: self.lock.key, outcomes: &self.outcomes, entries: settings.entries, now };
        let written = kept.store.put(writing).await?;
        kept.gone.remove(&self.lock.key);
        let mut index = self.lock.journal.inner.write_index();
        expired.into_iter().chain(written.evicted).for_each(|record| index.remove(record));
        index.insert(written.record, now, self.outcomes.keys().copied());
        Ok(())
    }

    /// Deletes the record: the client is about to get the reply that ends the message.
    ///
    /// # Errors
    /// If the store fails. The record counts as deleted until danelaw ends.
    pub async fn delete(self) -> Result<(), Error> {
        if !self.is_stored {
            return Ok(());
        }
        let Lock { journal, key } = &self.lock;
        let mut kept = journal.inner.store.lock().await;
        // Before the deletion: a session that is cut in it leaves a record that counts as deleted.
        kept.lose(*key, journal.inner.settings.entries);
        if let Some(record) = kept.store.delete(*key).await? {
            journal.inner.write_index().remove(record);
        }
        kept.gone.remove(key);
        Ok(())
    }

    /// A record that cannot be read counts as deleted.
    async fn read(&mut self) {
        let Lock { journal, key } = &self.lock;
        let since = since(&journal.inner.settings, now());
        let mut kept = journal.inner.store.lock().await;
        if kept.gone.contains(key) {
            return;
        }
        match kept.store.replies(*key, since).await {
            Ok(outcomes) => {
                self.is_stored = !outcomes.is_empty();
                self.outcomes = outcomes;
            }
            Err(error) => {
                kept.lose(*key, journal.inner.settings.entries);
                tracing::error!(%error, "the record of a message cannot be read; its recipients may get a second copy");
            }
        }
    }
}

/// Keeps other sessions off a message.
struct Lock {
    journal: Journal,
    key: MessageKey,
}

impl Lock {
    fn acquire(journal: &Journal, key: MessageKey) -> Result<Self, Busy> {
        if !journal.inner.locked().insert(key) {
            return Err(Busy);
        }
        Ok(Self { journal: journal.clone(), key })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.journal.inner.locked().remove(&self.key);
    }
}

/// A panic elsewhere does not poison these: keys are put in and taken out whole.
impl Inner {
    fn locked(&self) -> MutexGuard<'_, HashSet<MessageKey>> {
        self.locked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_index(&self) -> impl std::ops::Deref<Target = Index> + '_ {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_index(&self) -> impl std::ops::DerefMut<Target = Index> + '_ {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").field("settings", &self.inner.settings).finish_non_exhaustive()
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message").field("key", &self.lock.key).finish_non_exhaustive()
    }
}

fn now() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp()
}

/// The time before which a record has expired.
fn since(settings: &Settings, now: i64) -> i64 {
    now.saturating_sub(seconds(settings.expiry))
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}
