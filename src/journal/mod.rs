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
//! A delivery answers the message with any tag for REQUIRETLS, so that no recipient gets a second copy. A refusal answers it
//! with the same tag alone, since the tag may be why ([`Journal::tagged`]).
//!
//! # The life of a record
//!
//! 1. **RCPT.** [`Journal::served_each`] returns the records in which a recipient has a final outcome. Recipients of one
//!    destination share a transaction if these records are the same, so that the message can be kept from those that have
//!    it. Before the end of the data this is all that depends on a record.
//! 2. **The end of the data.** The message is known by its [`MessageKey`]: sender, recipients, and the octets of the
//!    message, Message-ID included. A message without Message-ID has no record, since two such messages may be equal and
//!    still be two. [`Journal::message`] claims the message against a second session and reads its record. Recipients with
//!    a final outcome get no end of data: their remote sees a reset.
//! 3. **While outcomes are open**, [`Message::record`] writes the final ones to the disk, the first time as soon as a
//!    destination has answered while another one has not, and always before the client gets 451.
//! 4. **When no outcome is open**, [`Message::delete`] deletes the record, and then the client gets the reply. So a record
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
//! # Several danelaws with one database
//!
//! A client may send the message again to another danelaw. So each of them asks the database at RCPT and at the end of the
//! data, and the claim of a message is there too: while it holds, the others answer 451. It ends when the client is told to
//! send again or gets the last reply, when the session ends, or else by the database's clock, after the time that the last
//! reply of a remote may take. If the database does not answer, fan-out mail is deferred before any end of data.
//!
//! | moment | cost |
//! |---|---|
//! | the database fails between a remote's 2xx and its record | a second copy on the client's next attempt |
//! | it fails before the deletion | the deletion is tried until it succeeds, and others answer 451 for as long as the claim holds. Beyond that, or if danelaw ends, the record stays until it expires: if the client sends the same message with the same Message-ID once more, recipients that have it do not get it again |
//! | a danelaw is killed or cut off in the middle | the others answer 451 for as long as the claim holds |
//!
//! Records are in the store (`src/store`). Addresses and messages are kept as digests, the remotes' replies in clear.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use crate::background::keep_up;
use crate::requiretls::Tag;
use crate::smtp::reply::{Class, Reply};
use crate::store::{Claim, HeldClaim, Writing};
pub use crate::store::{
    ContentDigest, ContentHasher, DatabaseSettings, Error, MessageKey, OpenError, Pair, RecordId, Store,
};

/// How often a database is tidied. A file is, when records are written to it.
const TIDY: Duration = Duration::from_secs(60);
/// How long to wait between two tries to end a claim: as often as the store is asked whether it is up.
const AGAIN: Duration = Duration::from_secs(1);

/// The operator's settings for the journal.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the store is.
    pub place: StorePlace,
    /// The most outcomes that are kept. The oldest records make room for new ones.
    pub entries: usize,
    /// How long a record is kept after the client's last attempt.
    pub expiry: Duration,
    /// How long a claim lasts if its holder is not heard of again: longer than the last reply of a remote may take.
    pub hold: Duration,
}

/// Where a store is.
#[derive(Debug, Clone)]
pub enum StorePlace {
    /// In memory: it ends with the process.
    Memory,
    /// In a file, for one danelaw.
    File(PathBuf),
    /// In a database, for several.
    Database(Box<DatabaseSettings>),
}

impl StorePlace {
    /// Opens the store.
    ///
    /// # Errors
    /// If it cannot be used.
    pub async fn open(&self) -> Result<Store, OpenError> {
        match self {
            Self::Memory => Store::open(None).await,
            Self::File(path) => Store::open(Some(path)).await,
            Self::Database(settings) => Store::connect((**settings).clone()).await,
        }
    }

    fn file(&self) -> Option<&std::path::Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Memory | Self::Database(_) => None,
        }
    }
}

/// The journal, shared by all sessions.
#[derive(Clone)]
pub struct Journal {
    inner: Arc<Inner>,
    /// The tag of the mail that asks.
    tag: Option<Tag>,
}

struct Inner {
    settings: Settings,
    store: Store,
    /// The messages with a session at the end of their data.
    locked: Mutex<HashSet<MessageKey>>,
    /// The number of the last claim.
    claims: AtomicI64,
}

/// Why a session may not go on with a message. The client gets 451.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unclaimed {
    /// Another session has it, here or at another danelaw.
    Busy,
    /// The store fails.
    Down,
}

impl Journal {
    /// Opens the store, and returns the number of outcomes in it too.
    ///
    /// # Errors
    /// If the store cannot be used, or another process uses its file.
    pub async fn open(settings: Settings) -> Result<(Self, usize), OpenError> {
        let store = settings.place.open().await?;
        Self::with_store(settings, store).await
    }

    /// As [`open`](Self::open), with the store of these settings, which is open already.
    ///
    /// # Errors
    /// If the file cannot be used.
    pub async fn with_store(settings: Settings, store: Store) -> Result<(Self, usize), OpenError> {
        let (expiry, entries) = (settings.expiry, settings.entries);
        let is_shared = store.is_shared();
        if !is_shared {
            store.tidy(expiry, entries).await.map_err(|error| OpenError::library(settings.place.file(), error))?;
        }
        let outcomes = store.outcomes().await;
        let (locked, claims) = (Mutex::new(HashSet::new()), AtomicI64::new(0));
        let inner = Arc::new(Inner { settings, store, locked, claims });
        if is_shared {
            let inner = Arc::downgrade(&inner);
            keep_up("tidying of the store", move || keep_tidy(Weak::clone(&inner)));
        }
        Ok((Self { inner, tag: None }, outcomes))
    }

    /// The same journal, for mail with this tag. A delivery counts for mail with any tag, a refusal for mail with the same tag:
    /// it may be that REQUIRETLS was the reason.
    #[must_use]
    pub fn tagged(&self, tag: Option<Tag>) -> Self {
        Self { inner: Arc::clone(&self.inner), tag }
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// Deletes records that have expired, and in a database the oldest above `entries`. This is for tests: the store is
    /// tidied without it, from time to time.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn tidy(&self) -> Result<(), Error> {
        let Settings { expiry, entries, .. } = self.inner.settings;
        self.inner.store.tidy(expiry, entries).await
    }

    /// The records in which this recipient has a final outcome; nearly always none. This is for tests and benches:
    /// a session asks with [`served_each`](Self::served_each).
    ///
    /// # Errors
    /// If the store fails.
    pub async fn served(&self, recipient: Pair) -> Result<Vec<RecordId>, Error> {
        Ok(self.served_each(&[recipient]).await?.remove(&recipient).unwrap_or_default())
    }

    /// The records in which each of these recipients has a final outcome, by one question; nearly always none.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn served_each(&self, recipients: &[Pair]) -> Result<BTreeMap<Pair, Vec<RecordId>>, Error> {
        let kept = |recipient: &Pair| [*recipient, recipient.refused(self.tag)];
        let pairs: Vec<Pair> = recipients.iter().flat_map(kept).collect();
        let served = self.inner.store.served(&pairs, self.inner.settings.expiry).await?;
        let of = |recipient: &Pair| {
            let records: BTreeSet<_> =
                kept(recipient).iter().filter_map(|pair| served.get(pair)).flatten().copied().collect();
            (*recipient, records.into_iter().collect())
        };
        Ok(recipients.iter().map(of).collect())
    }

    /// Claims a message until the result is deleted, released or dropped, and reads its record.
    ///
    /// # Errors
    /// If another session has claimed it, or the store fails.
    pub async fn message(&self, key: MessageKey, recipients: &[Pair]) -> Result<Message, Unclaimed> {
        let Inner { settings, store, claims, .. } = &*self.inner;
        let lock = Lock::acquire(self, key)?;
        let token = claims.fetch_add(1, Relaxed) + 1;
        let &Settings { hold, expiry, entries, .. } = settings;
        // Made before the claim: a call that is cut or given up may have claimed the message all the same.
        let held = Some(Held { lock, token });
        let mut message = Message { held, outcomes: BTreeMap::new(), is_stored: store.is_shared(), tag: self.tag };
        // Refusals under other tags are kept, too.
        let kept: Vec<Pair> = recipients.iter().flat_map(all_kept).collect();
        match store.claim(Claim { key, recipients: &kept, token, hold, expiry, entries }).await {
            Ok(claimed) => {
                (message.outcomes, message.is_stored) = (claimed.outcomes, claimed.is_stored);
                Ok(message)
            }
            Err(Error::Busy) => {
                // There is nothing to end.
                message.is_stored = false;
                Err(Unclaimed::Busy)
            }
            Err(error) => {
                tracing::warn!(%error, "a fan-out message is deferred: it is not known which recipients have it already");
                Err(Unclaimed::Down)
            }
        }
    }
}

/// A message with one session at the end of its data, and its record.
pub struct Message {
    /// None once the claim has ended.
    held: Option<Held>,
    outcomes: BTreeMap<Pair, Reply>,
    /// Whether the store has a row for it.
    is_stored: bool,
    /// The tag of the mail.
    tag: Option<Tag>,
}

/// The pairs under which the outcomes of a recipient may be kept.
fn all_kept(recipient: &Pair) -> [Pair; 4] {
    let refused = |tag| recipient.refused(tag);
    [*recipient, refused(None), refused(Some(Tag::WhereOffered)), refused(Some(Tag::Always))]
}

/// A message that is claimed.
struct Held {
    lock: Lock,
    token: i64,
}

impl Message {
    /// The final outcome of a recipient, by the record.
    pub fn outcome(&self, recipient: Pair) -> Option<&Reply> {
        self.outcomes.get(&recipient).or_else(|| self.outcomes.get(&recipient.refused(self.tag)))
    }

    /// Writes final outcomes to the record. They are on the disk when this returns. A delivery stays a delivery.
    ///
    /// # Errors
    /// If the store fails. On the client's next attempt these recipients may get a second copy.
    pub async fn record(&mut self, outcomes: impl IntoIterator<Item = (Pair, Reply)>) -> Result<(), Error> {
        for (pair, reply) in outcomes {
            // A delivery is kept under the pair itself.
            if !self.outcomes.contains_key(&pair) {
                let kept = if reply.class() == Class::Success { pair } else { pair.refused(self.tag) };
                self.outcomes.insert(kept, reply);
            }
        }
        let Some(Held { lock, token }) = &self.held else { return Err(Error::ClaimEnded) };
        let Inner { settings, store, .. } = &*lock.journal.inner;
        // Before the write: one that fails may have reached the disk all the same, and has to be deleted then.
        self.is_stored = true;
        let &Settings { hold, entries, expiry, .. } = settings;
        let writing = Writing { key: lock.key, token: *token, hold, outcomes: &self.outcomes, entries };
        store.put(writing, expiry).await
    }

    /// Deletes the record: the client is about to get the reply that ends the message.
    ///
    /// # Errors
    /// If the store fails. A record in a file counts as deleted until danelaw ends. One in a database is deleted as soon as the
    /// database answers, and until then the message is busy.
    pub async fn delete(mut self) -> Result<(), Error> {
        let Some(held) = self.held.take().filter(|_| self.is_stored) else { return Ok(()) };
        let Inner { store, .. } = &*held.lock.journal.inner;
        if !store.is_shared() {
            return store.take(held.claim()).await;
        }
        // A session that is cut in it must not stop it.
        let ending = EndingClaim { held: Some(held), end: End::Take };
        ending.end().await
    }

    /// Ends the claim, and leaves the record: the client is about to be told to send the message again.
    pub async fn release(mut self) {
        if let Some(held) = self.held.take().filter(|_| self.is_stored)
            && held.lock.journal.inner.store.is_shared()
        {
            let ending = EndingClaim { held: Some(held), end: End::Release };
            // It goes on behind our back, and the message is busy until then.
            let _ = ending.end().await;
        }
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        if let Some(held) = self.held.take().filter(|_| self.is_stored)
            && held.lock.journal.inner.store.is_shared()
        {
            // Its own drop ends the claim.
            drop(EndingClaim { held: Some(held), end: End::Release });
        }
    }
}

/// How a claim ends.
#[derive(Debug, Clone, Copy)]
enum End {
    /// With the record.
    Take,
    /// The record stays.
    Release,
}

/// A claim that is to end. If the call fails or is cut, it is made again until it succeeds; the message is busy here until then.
struct EndingClaim {
    held: Option<Held>,
    end: End,
}

impl EndingClaim {
    async fn end(mut self) -> Result<(), Error> {
        let Some(held) = &self.held else { return Ok(()) };
        held.end(self.end).await?;
        self.held = None;
        Ok(())
    }
}

impl Drop for EndingClaim {
    fn drop(&mut self) {
        let (Some(held), Ok(runtime)) = (self.held.take(), tokio::runtime::Handle::try_current()) else { return };
        let end = self.end;
        runtime.spawn(async move {
            // At the end of the program there is no store to wait for.
            while held.end(end).await.is_err() {
                tokio::time::sleep(AGAIN).await;
            }
        });
    }
}

impl Held {
    fn claim(&self) -> HeldClaim {
        HeldClaim { key: self.lock.key, token: self.token, entries: self.lock.journal.inner.settings.entries }
    }

    async fn end(&self, end: End) -> Result<(), Error> {
        let store = &self.lock.journal.inner.store;
        match end {
            End::Take => store.take(self.claim()).await,
            End::Release => store.release(self.claim()).await,
        }
    }
}

/// Keeps other sessions of this process off a message.
struct Lock {
    journal: Journal,
    key: MessageKey,
}

impl Lock {
    fn acquire(journal: &Journal, key: MessageKey) -> Result<Self, Unclaimed> {
        if !journal.inner.locked.lock().insert(key) {
            return Err(Unclaimed::Busy);
        }
        Ok(Self { journal: journal.clone(), key })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.journal.inner.locked.lock().remove(&self.key);
    }
}

/// Tidies a database, for as long as it is used. One danelaw of all that use it does so at a time.
async fn keep_tidy(inner: Weak<Inner>) {
    loop {
        tokio::time::sleep(TIDY).await;
        let Some(inner) = inner.upgrade() else { return };
        if let Err(error) = inner.store.tidy(inner.settings.expiry, inner.settings.entries).await {
            tracing::debug!(%error, "the store cannot be tidied");
        }
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").field("settings", &self.inner.settings).finish_non_exhaustive()
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message").field("key", &self.held.as_ref().map(|held| held.lock.key)).finish_non_exhaustive()
    }
}
