//! What has become of messages, for the client that has to send them again.
//!
//! At the end of the data plain SMTP has one reply for all recipients (RFC 5321 §4.1.1.4), and danelaw has no queue to
//! keep the difference in. Two things can go wrong with that. The recipients have several outcomes: whatever the one
//! reply is, it is wrong for somebody. Or the reply gets lost on its way to the client, which sends all of it again. The
//! ledger is what makes sending again harmless: it remembers, by sender, recipient and content, what a remote has said
//! for good, and on the next attempt that is the answer, and the remote does not get a second copy. Mail that has one
//! outcome and whose client hears of it never gets here.
//!
//! # When it is known what is being sent
//!
//! At the end of the data, and not before; but the remotes are asked at RCPT and stream the message along. Therefore:
//!
//! 1. **RCPT.** [`Ledger::past`] tells for which messages of this sender to this recipient something is remembered. It
//!    is empty for nearly all, and then costs a look into a set. Recipients share a leg (a transaction with one remote) if
//!    their domain *and their past* are the same. So whichever message it will turn out to be, the recipients of a leg
//!    have all been served before, or none has.
//! 2. **The message** streams to all legs while a [`ContentHasher`] reads along. Unless outcomes may differ or something
//!    is remembered of a recipient, it gives up on a large one.
//! 3. **The end of the data.** [`Ledger::claim`] takes the message for these recipients, tells what is remembered of it,
//!    and keeps other sessions off it: the client that got tired of waiting and comes again while the first session is
//!    still at it is told 451, if outcomes may differ or something is remembered; else nothing will be remembered of the
//!    second one. A leg whose recipients are all served is dropped without its final dot: its remote sees a
//!    reset, and has nothing. The others get their dot. (A leg that is served in part, because the past has changed since
//!    RCPT, is dropped and deferred.)
//! 4. **If outcomes may differ** (several legs, or a recipient without one), [`Claim::prepare`] comes before the first
//!    dot, and [`Claim::record`] as soon as a leg has a final outcome while that of another one is open or different.
//!    Otherwise nothing is written.
//! 5. **The answer** is [`fanout::conclude`](crate::fanout::conclude)'s. If it is "again", [`Claim::keep`] has all that is
//!    to be remembered before the client hears a word. Otherwise the client hears at once, since nothing may lie
//!    between the remote's 250 and ours (RFC 1047).
//! 6. **Afterwards.** Once the client has shown that it heard the answer, by its next command, by leaving in order after it
//!    or by being there still when it is sent away, [`Claim::settle`] forgets the message. If it is gone without that, [`Claim::keep`] has the outcomes for its retry.
//!    Until one of the two the message is taken: a client whose connection is dead, unknown to us, hears 451 on its next
//!    one, and no remote gets a second copy.
//!
//! # What must be on the disk before what
//!
//! | before | on the disk | else |
//! |---|---|---|
//! | the first of several dots | a row for each recipient, without outcome | no dot; all are deferred, nobody has anything |
//! | "again" (4xx) after an outcome for good | that outcome | a second copy, or a refusal told twice |
//! | 2xx or 5xx | nothing more | the client has the outcome, and asks no more |
//!
//! The rows without outcome show in time that the store can be written and has room. If it fails all the same after a
//! remote has said 250 (the disk filled up in that second), there is no right answer left: 2xx would lose the mail of
//! those who do not have it, 5xx would bounce it to a sender whose recipients have it. The answer is 4xx, and an error in
//! the log that names the possible duplicate: better twice than never, as with every lost reply. The same holds for the
//! moment between the remote's 250 and the end of the commit, if danelaw is killed in it. A row without outcome that is
//! found at the start is such a case; how many there are is logged, and they are delivered again.
//!
//! # The store
//!
//! One file, SQLite, mode 0600. A commit is in the write-ahead log and synced when it returns. Addresses and messages are
//! kept as digests, remotes' replies as they are. Without a file the memory is that of the process: it answers lost
//! replies until the restart, and is too weak for fan-out.
//!
//! What it is asked is seldom asked, and waits on the heap: else every session would have room for it all the time.

mod error;
mod key;
mod past;
mod store;
mod turns;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard};
use std::time::Duration;

use time::OffsetDateTime;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use crate::smtp::reply::Reply;

pub use error::LedgerError;
pub use key::{Content, ContentHasher, Pair};
pub use past::{Attempt, Fate, Manners, Past};
pub use store::OpenError;
use store::{Store, Writing};
pub use turns::Turns;

/// How often what is too old is looked for.
const TIDY: Duration = Duration::from_secs(60 * 60);

/// How many locks the claims are spread over, so that no lock is in the way of all messages.
const PARTS: usize = 16;

/// What an operator decides about the memory.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The file; none for a memory that ends with the process.
    pub path: Option<PathBuf>,
    /// The most outcomes that are remembered.
    pub entries: usize,
    /// How long an outcome is remembered after the client's last attempt.
    pub expiry: Duration,
}

/// The memory of outcomes, shared by all sessions.
#[derive(Clone)]
pub struct Ledger {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Settings,
    store: tokio::sync::Mutex<Kept>,
    /// Of which pairs there may be something in the store; too many rather than too few.
    known: RwLock<HashSet<u64>>,
    /// What sessions are at, in parts by the message, so that sessions seldom meet.
    claimed: [Mutex<HashSet<(Pair, Content)>>; PARTS],
    /// What goes on without its session.
    left_over: TaskTracker,
    turns: Turns,
}

struct Kept {
    store: Store,
    tidied: i64,
}

/// What was found when the memory was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Outcomes that clients may still ask for.
    pub remembered: usize,
    /// Recipients for whom a remote had been sent the end of a message when danelaw was killed. If it is sent again, they
    /// may get a second copy.
    pub unknown: u64,
}

impl Ledger {
    /// Opens the memory.
    ///
    /// # Errors
    /// If the file cannot be used, or is in use. A memory that does not work is found out before any port opens.
    pub async fn open(settings: Settings) -> Result<(Self, Found), OpenError> {
        let mut store = Store::open(settings.path.as_deref()).await?;
        let unknown = store.forget_unknown().await.map_err(OpenError::Library)?;
        let now = OffsetDateTime::now_utc().unix_timestamp();
        let mut kept = Kept { store, tidied: 0 };
        let known = kept.tidy(&settings, now).await.map_err(OpenError::Library)?;
        let found = Found { remembered: kept.store.rows(), unknown };
        let (store, known, claimed) = (tokio::sync::Mutex::new(kept), RwLock::new(known), Default::default());
        let inner = Inner { settings, store, known, claimed, left_over: TaskTracker::new(), turns: Turns::default() };
        Ok((Self { inner: Arc::new(inner) }, found))
    }

    /// What is remembered of messages from this sender to this recipient.
    ///
    /// # Errors
    /// If the store fails. The recipient is deferred.
    pub async fn past(&self, pair: Pair) -> Result<Past, LedgerError> {
        if !self.knows(&pair) {
            return Ok(Past::default());
        }
        let since = self.since();
        Ok(Box::pin(self.inner.store.lock().await.store.past(pair, since)).await?)
    }

    /// Remembers that a client gave a message to these recipients up because one of them was told to come alone.
    ///
    /// # Errors
    /// If the store fails. The client's next attempt will end like this one.
    pub async fn all_or_nothing(&self, pairs: &[Pair]) -> Result<(), LedgerError> {
        Ok(Box::pin(self.inner.store.lock().await.store.mark(pairs, now())).await?)
    }

    /// Takes a message for these recipients, until the claim is dropped.
    ///
    /// # Errors
    /// If another session has taken it for one of them, or the store fails. No remote may get its final dot then.
    pub async fn claim(&self, content: Content, pairs: impl IntoIterator<Item = Pair>) -> Result<Claim, LedgerError> {
        // A client may name a recipient twice.
        let pairs: BTreeSet<Pair> = pairs.into_iter().collect();
        let pairs: Vec<Pair> = pairs.into_iter().collect();
        let hold = Hold::take(self, content, pairs)?;
        let known: Vec<Pair> = hold.pairs.iter().filter(|pair| self.knows(pair)).copied().collect();
        let remembered = if known.is_empty() {
            BTreeMap::new()
        } else {
            let since = self.since();
            Box::pin(self.inner.store.lock().await.store.replies(content, &known, since)).await?
        };
        let stored = remembered.keys().copied().collect();
        Ok(Claim { hold, remembered, stored })
    }

    /// Who goes behind the others of a message the next time.
    pub fn turns(&self) -> &Turns {
        &self.inner.turns
    }

    /// Does something for a session that may be cut before it is done. None if the program has ended.
    pub fn go_on(&self, work: impl Future<Output = ()> + Send + 'static) -> Option<JoinHandle<()>> {
        Handle::try_current().ok().map(|runtime| self.inner.left_over.spawn_on(work, &runtime))
    }

    /// Waits until everything is on the disk that sessions have left to be remembered when they were cut. No session is
    /// left then.
    pub async fn at_rest(&self) {
        self.inner.left_over.close();
        self.inner.left_over.wait().await;
    }

    fn knows(&self, pair: &Pair) -> bool {
        self.inner.known.read().unwrap_or_else(PoisonError::into_inner).contains(&pair.short())
    }

    fn since(&self) -> i64 {
        now().saturating_sub(seconds(self.inner.settings.expiry))
    }

    /// The store, with room for so many more outcomes; for those that have their place there always is.
    async fn with_room(&self, more: usize) -> Result<tokio::sync::MutexGuard<'_, Kept>, LedgerError> {
        let (settings, now) = (&self.inner.settings, now());
        let mut kept = self.inner.store.lock().await;
        let is_full = |rows: usize| more > 0 && rows.saturating_add(more) > settings.entries;
        if is_full(kept.store.rows()) || kept.tidied.saturating_add(seconds(TIDY)) < now {
            let known = kept.tidy(settings, now).await?;
            *self.inner.known_mut() = known;
        }
        if is_full(kept.store.rows()) {
            return Err(LedgerError::Full(settings.entries));
        }
        Ok(kept)
    }
}

impl Kept {
    /// Forgets what is too old; the pairs of what is left.
    async fn tidy(&mut self, settings: &Settings, now: i64) -> sqlx::Result<HashSet<u64>> {
        self.store.expire(now.saturating_sub(seconds(settings.expiry))).await?;
        self.tidied = now;
        Ok(self.store.pairs().await?.iter().map(Pair::short).collect())
    }
}

/// A message that one session is at the end of, and its recipients.
pub struct Claim {
    hold: Hold,
    remembered: BTreeMap<Pair, Reply>,
    /// For whom there is a row in the store.
    stored: BTreeSet<Pair>,
}

/// Whose message it is, and what keeps other sessions off it.
struct Hold {
    ledger: Ledger,
    content: Content,
    pairs: Vec<Pair>,
}

impl Claim {
    /// Whose claim it is.
    pub fn ledger(&self) -> &Ledger {
        &self.hold.ledger
    }

    /// What the client was told, or would have been, of this message to this recipient on an earlier attempt.
    pub fn remembered(&self, pair: Pair) -> Option<&Reply> {
        self.remembered.get(&pair)
    }

    /// Whether something is remembered of this message to one of its recipients.
    pub fn attempt(&self) -> Attempt {
        if self.remembered.is_empty() { Attempt::First } else { Attempt::Retry }
    }

    /// Makes sure that outcomes can be recorded, before any remote gets its final dot.
    ///
    /// # Errors
    /// If the store fails or is full. No remote may get its final dot then.
    pub async fn prepare(&mut self) -> Result<(), LedgerError> {
        let more = self.hold.pairs.iter().filter(|pair| !self.stored.contains(pair)).count();
        let mut kept = Box::pin(self.hold.ledger.with_room(more)).await?;
        self.stored.extend(&self.hold.pairs);
        Ok(Box::pin(kept.store.reserve(self.hold.content, &self.hold.pairs, now())).await?)
    }

    /// Remembers outcomes: they are on the disk when this returns.
    ///
    /// # Errors
    /// If the store fails, or is full and nothing was prepared. What is recorded after a remote's answer and fails is to
    /// be logged as a possible duplicate.
    pub async fn record(&mut self, outcomes: &[(Pair, &Reply)]) -> Result<(), LedgerError> {
        self.put(outcomes, &[]).await
    }

    /// Remembers these outcomes, and no more of this message: the client will be told to send it again.
    ///
    /// # Errors
    /// As of [`Claim::record`].
    pub async fn keep(&mut self, outcomes: &[(Pair, &Reply)]) -> Result<(), LedgerError> {
        let others: Vec<Pair> =
            self.hold.pairs.iter().filter(|pair| outcomes.iter().all(|(kept, _)| kept != *pair)).copied().collect();
        self.put(outcomes, &others).await
    }

    async fn put(&mut self, outcomes: &[(Pair, &Reply)], forget: &[Pair]) -> Result<(), LedgerError> {
        let new: BTreeSet<Pair> = outcomes.iter().map(|(pair, _)| *pair).collect();
        let more = new.difference(&self.stored).count();
        let mut kept = Box::pin(self.hold.ledger.with_room(more)).await?;
        // Before anything is written, and under the lock: a session that is cut in between leaves a name too many.
        self.hold.ledger.inner.known_mut().extend(outcomes.iter().map(|(pair, _)| pair.short()));
        self.stored.extend(new);
        Ok(Box::pin(kept.store.put(self.hold.content, Writing { outcomes, forget, now: now() })).await?)
    }

    /// The client has heard the answer: there is nothing left to remember.
    ///
    /// # Errors
    /// If the store fails. What it has is then forgotten when it expires.
    pub async fn settle(self) -> Result<(), LedgerError> {
        let Hold { ledger, content, pairs } = &self.hold;
        match self.stored.is_empty() {
            true => Ok(()),
            false => Ok(ledger.inner.store.lock().await.store.forget(*content, pairs).await?),
        }
    }
}

impl Hold {
    fn take(ledger: &Ledger, content: Content, pairs: Vec<Pair>) -> Result<Self, LedgerError> {
        let mut claimed = ledger.inner.claimed(content);
        if pairs.iter().any(|pair| claimed.contains(&(*pair, content))) {
            return Err(LedgerError::Busy);
        }
        claimed.extend(pairs.iter().map(|pair| (*pair, content)));
        Ok(Self { ledger: ledger.clone(), content, pairs })
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut claimed = self.ledger.inner.claimed(self.content);
        for pair in &self.pairs {
            claimed.remove(&(*pair, self.content));
        }
    }
}

impl Inner {
    /// The claims on this message, and on others that share their lock with it. A lock that somebody broke is taken all the
    /// same, here and below: members are put in and taken out whole.
    fn claimed(&self, content: Content) -> MutexGuard<'_, HashSet<(Pair, Content)>> {
        let part = content.octets().first().map_or(0, |octet| usize::from(*octet) % PARTS);
        self.claimed[part].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known_mut(&self) -> RwLockWriteGuard<'_, HashSet<u64>> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").field("settings", &self.inner.settings).finish_non_exhaustive()
    }
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim")
            .field("content", &self.hold.content)
            .field("pairs", &self.hold.pairs.len())
            .finish_non_exhaustive()
    }
}

fn now() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp()
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}
