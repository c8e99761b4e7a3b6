//! The task that keeps the memory of hosts: each danelaw adds its sessions to the store once a minute, and the one with the lease of
//! the watch takes them, learns, warns, and writes the entries. Mail never waits for it, and does not depend on it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use time::OffsetDateTime;
use tokio::time::{MissedTickBehavior, interval};

use super::settled::{
    self, DaySessions, FORGOTTEN, FloodState, HostChange, HostEntry, HostKey, HostMemory, LearnTime, Learnt,
    RememberedHost,
};
use crate::check::ends::DAY;
use crate::name::Name;
use crate::policy::host_session::{LeafNote, SessionNote, SessionWord};
use crate::report::Reporter;
use crate::report::metrics::HostFigures;
use crate::store::{self, HostSessions, Store, TaskLease, WatchRow};

/// The kind of the entries in the store.
const KIND: &str = "tls-host";
/// How often a danelaw without the lease reads the entries of the one with it.
const READ_EVERY: time::Duration = time::Duration::hours(1);
/// How often it works.
const MINUTE: Duration = Duration::from_secs(60);

/// The memory of hosts, kept in the store.
#[derive(Debug)]
pub struct SettledHosts {
    store: Store,
    reporter: Arc<Reporter>,
    memory: Mutex<HostMemory>,
    keeping: Mutex<HostKeeping>,
}

/// The state of the task.
#[derive(Debug, Default)]
struct HostKeeping {
    /// The lease under which the memory is the one of all danelaws.
    lease: Option<TaskLease>,
    /// When the entries were last read.
    read: Option<OffsetDateTime>,
    /// The entries that the store does not have as they are.
    unwritten: BTreeSet<HostKey>,
    /// The day on which old entries were last deleted.
    tidied: Option<i64>,
}

impl SettledHosts {
    /// A memory in this store, of the sessions that this reporter counts.
    pub fn new(store: Store, reporter: Arc<Reporter>) -> Self {
        Self { store, reporter, memory: Mutex::default(), keeping: Mutex::default() }
    }

    /// Remembers for as long as danelaw runs.
    pub async fn keep(self: Arc<Self>) {
        let mut minutes = interval(MINUTE);
        minutes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            minutes.tick().await;
            self.minute(OffsetDateTime::now_utc()).await;
        }
    }

    /// The work of a minute. A store that fails is asked again in the next one; the sessions of this one may be lost.
    pub async fn minute(&self, now: OffsetDateTime) {
        if let Err(error) = self.try_minute(now).await {
            // It is told by the store's own log and metrics.
            tracing::debug!(%error, "the memory of hosts misses a minute");
        }
    }

    /// The memory of a host.
    pub fn get(&self, key: &HostKey) -> Option<RememberedHost> {
        self.memory.lock().get(key).map(|entry| RememberedHost::of(key, entry))
    }

    /// How many hosts are remembered.
    pub fn figures(&self) -> HostFigures {
        let memory = self.memory.lock();
        let settled = memory.settled();
        HostFigures { settled, others: memory.count() - settled }
    }

    async fn try_minute(&self, now: OffsetDateTime) -> Result<(), store::Error> {
        let rows = self.reporter.host_sessions().map(|counts| counts.take()).unwrap_or_default();
        self.store.add_host_sessions(&rows).await?;
        match self.store.watch_lease().await? {
            Some(lease) => self.lead(lease, now).await,
            None => self.follow(now).await,
        }
    }

    /// Reads the entries of the danelaw with the lease now and then.
    async fn follow(&self, now: OffsetDateTime) -> Result<(), store::Error> {
        let is_due = {
            let mut keeping = self.keeping.lock();
            keeping.lease = None;
            keeping.read.is_none_or(|read| (now - read).abs() >= READ_EVERY)
        };
        if is_due { self.read(now).await } else { Ok(()) }
    }

    /// Takes the sessions of all danelaws, learns, warns, and writes.
    async fn lead(&self, lease: TaskLease, now: OffsetDateTime) -> Result<(), store::Error> {
        let is_new = self.keeping.lock().lease != Some(lease);
        if is_new {
            self.read(now).await?;
            self.keeping.lock().lease = Some(lease);
        }
        let taken = self.store.take_host_sessions(Some(lease)).await?;
        let day = i64::from(now.date().to_julian_day());
        let batch = taken.iter().filter_map(day_sessions).collect();
        let learnt = self.memory.lock().learn(batch, LearnTime { at: now.unix_timestamp(), day });
        self.tell(&learnt);
        self.keeping.lock().unwritten.extend(learnt.changed);
        self.write(&learnt.evicted, lease).await?;
        self.tidy(now, &learnt.evicted).await
    }

    async fn read(&self, now: OffsetDateTime) -> Result<(), store::Error> {
        let rows = self.store.watch_rows_of(KIND).await?;
        self.memory.lock().replace(entries(&rows));
        let mut keeping = self.keeping.lock();
        keeping.read = Some(now);
        keeping.unwritten.clear();
        Ok(())
    }

    async fn write(&self, evicted: &[HostKey], lease: TaskLease) -> Result<(), store::Error> {
        let mut rows: Vec<_> = {
            let (memory, keeping) = (self.memory.lock(), self.keeping.lock());
            keeping.unwritten.iter().filter_map(|key| Some(row(key, memory.get(key)?))).collect()
        };
        // Their time is over.
        rows.extend(evicted.iter().map(|key| WatchRow {
            kind: KIND.to_owned(),
            name: key.to_string(),
            entry: String::new(),
            seen: 0,
        }));
        if !rows.is_empty() {
            self.store.put_watch_rows(&rows, Some(lease)).await?;
            self.keeping.lock().unwritten.clear();
        }
        Ok(())
    }

    /// Deletes old entries, once a day and where some made room.
    async fn tidy(&self, now: OffsetDateTime, evicted: &[HostKey]) -> Result<(), store::Error> {
        let day = i64::from(now.date().to_julian_day());
        if self.keeping.lock().tidied == Some(day) && evicted.is_empty() {
            return Ok(());
        }
        self.store.forget_watch_rows(KIND, now.unix_timestamp() - FORGOTTEN * DAY).await?;
        self.keeping.lock().tidied = Some(day);
        Ok(())
    }

    fn tell(&self, learnt: &Learnt) {
        match learnt.flood {
            FloodState::Begins(hosts) => tracing::warn!(
                hosts,
                "many hosts at once are not what they were: look at this machine's clock and CA certificates; each host is \
                 logged at level debug"
            ),
            FloodState::None | FloodState::GoesOn => {}
        }
        for (key, change) in &learnt.changes {
            self.reporter.metrics().host_changed(change.kind.as_str());
            match learnt.flood {
                FloodState::None => warn(key, change),
                FloodState::Begins(_) | FloodState::GoesOn => {
                    tracing::debug!(host = %key.host, port = key.port, kind = change.kind.as_str(), "host changed");
                }
            }
        }
    }
}

fn warn(key: &HostKey, change: &HostChange) {
    let end = |leaf: &Option<LeafNote>| leaf.as_ref().map(|leaf| settled::date(day_of(leaf.ends)));
    let issuer = |leaf: &Option<LeafNote>| leaf.as_ref().map(|leaf| leaf.issuer.clone());
    tracing::warn!(
        host = %key.host,
        port = key.port,
        kind = change.kind.as_str(),
        since = settled::date(change.since),
        days = change.days,
        sessions = change.sessions,
        issuer = issuer(&change.now),
        ends = end(&change.now),
        issuer_before = issuer(&change.before),
        ends_before = end(&change.before),
        "host changed"
    );
}

/// The Julian day of a time in seconds since 1970.
fn day_of(seconds: i64) -> i64 {
    let epoch = i64::from(OffsetDateTime::UNIX_EPOCH.to_julian_day());
    seconds.div_euclid(DAY).saturating_add(epoch)
}

fn row(key: &HostKey, entry: &HostEntry) -> WatchRow {
    let end_of_day = entry.last_seen().saturating_sub(day_of(0)).saturating_add(1).saturating_mul(DAY);
    WatchRow::of(KIND, &key.to_string(), entry, end_of_day)
}

/// The entries of the store. Those that cannot be read are left out: no decision depends on them.
fn entries(rows: &[WatchRow]) -> BTreeMap<HostKey, HostEntry> {
    let (mut entries, mut unreadable) = (BTreeMap::new(), 0_usize);
    for row in rows.iter().filter(|row| !row.entry.is_empty()) {
        match (HostKey::parse(&row.name), serde_json::from_str(&row.entry)) {
            (Some(key), Ok(entry)) => drop(entries.insert(key, entry)),
            _ => unreadable += 1,
        }
    }
    if unreadable > 0 {
        tracing::warn!(unreadable, "the memory of hosts has entries that cannot be read; these hosts are learned anew");
    }
    entries
}

/// A row of the store, if it is one of this version.
fn day_sessions(row: &HostSessions) -> Option<(HostKey, DaySessions)> {
    let SessionNote { leaf, roots } = serde_json::from_str(&row.note).ok()?;
    let key = HostKey { host: Name::parse(&row.host).ok()?, port: row.port };
    let (word, sessions) = (SessionWord::parse(&row.word)?, u64::try_from(row.sessions).ok()?);
    Some((key, DaySessions { day: row.day, word, sessions, last: row.last, leaf, roots }))
}
