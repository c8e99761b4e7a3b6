//! The watch of a danelaw that runs.
//!
//! It looks at a part of the domains each hour. With a database several danelaws have one watch: that of the one with the lease,
//! so that each finding is told once, and a host is not asked by each of them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::agenda::{self, Watched};
use super::book::{BlindStart, Book, RunEnd, RunFacts};
use super::lookout::{LookParts, Lookout};
use super::view::WatchView;
use crate::check::checker::PolicyChecks;
use crate::config::Config;
use crate::dns::stub::Stub;
use crate::name::Name;
use crate::report::metrics::WatchFigures;
use crate::report::result::MailResult;
use crate::session::Shared;
use crate::store::{Error, Store, TaskLease, WatchRow};
use crate::upstream::sts::PolicySource;

/// How often the lease is renewed.
const MINUTE: Duration = Duration::from_secs(60);
/// How long the first look waits for the start of everything else.
const START: Duration = Duration::from_secs(5);
/// A suspected finding is looked at again after so long, in seconds.
const AGAIN: i64 = 60 * 60;
/// How long an entry that is no longer looked at is kept, in seconds.
const KEPT: i64 = 90 * 24 * 60 * 60;
/// The kinds of entries in the store.
const DOMAIN: &str = "domain";
const HOST: &str = "host";
const RUN: &str = "run";

/// The watch.
pub struct Watch {
    store: Option<Store>,
    config: watch::Receiver<Arc<Config>>,
    shared: watch::Receiver<Arc<Shared<Stub>>>,
    book: Mutex<Book>,
    looks: Looks,
}

/// How the facts since the start were had.
#[derive(Debug, Default)]
struct Looks {
    delivery: AtomicU64,
    dns: AtomicU64,
    session: AtomicU64,
}

/// The end of a run, in the store.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct RunEntry {
    last_run: Option<i64>,
    blind: Option<super::book::Blind>,
}

/// How far the watch of one danelaw is.
#[derive(Default)]
pub struct WatchTurn {
    held: Option<TaskLease>,
    /// The time of the next look.
    next: Option<Instant>,
    /// It lasts for a pass over all domains, so that a host is asked once.
    lookout: Option<PassLookout>,
}

/// The place of a run among all of one watch.
struct WatchRound {
    lease: Option<TaskLease>,
    every: i64,
}

impl Watch {
    /// A watch over domains by this configuration, with a store that outlives the process if there is one.
    pub fn new(
        config: watch::Receiver<Arc<Config>>,
        shared: watch::Receiver<Arc<Shared<Stub>>>,
        store: Option<Store>,
    ) -> Self {
        Self { store, config, shared, book: Mutex::default(), looks: Looks::default() }
    }

    /// Watches for as long as danelaw runs.
    pub async fn keep(self: Arc<Self>) {
        tokio::time::sleep(START).await;
        let (mut minutes, mut turn) = (interval(MINUTE), WatchTurn::default());
        minutes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            minutes.tick().await;
            self.minute(&mut turn).await;
        }
    }

    /// The work of one minute: renews the lease, and looks if it is time.
    pub async fn minute(&self, turn: &mut WatchTurn) {
        let Some(every) = self.config.borrow().watch.every else { return };
        let lease = match self.lease().await {
            Ok(lease) => lease,
            Err(error) => {
                tracing::warn!(%error, "the watch waits for the store");
                return;
            }
        };
        // Another danelaw may have looked meanwhile; and one that does not watch shows what the other has found.
        if (lease.is_none() || lease != turn.held) && self.store.is_some() {
            self.reread().await;
        }
        turn.held = lease;
        if lease.is_some() && turn.next.is_none_or(|next| Instant::now() >= next) {
            turn.next = Some(Instant::now() + every / agenda::PARTS);
            let every = i64::try_from(every.as_secs()).unwrap_or(i64::MAX);
            self.round(&mut turn.lookout, &WatchRound { lease, every }).await;
        }
    }

    /// The findings now.
    pub fn view(&self) -> WatchView {
        self.book().view()
    }

    /// The findings about one domain; none for one that is not watched.
    pub fn view_of(&self, domain: &Name) -> Option<WatchView> {
        self.book().view_of(domain)
    }

    /// The numbers for metrics.
    pub fn figures(&self) -> WatchFigures {
        let Looks { delivery, dns, session } = &self.looks;
        let looks =
            vec![("delivery", delivery.load(Relaxed)), ("dns", dns.load(Relaxed)), ("session", session.load(Relaxed))];
        WatchFigures { looks, ..self.book().figures() }
    }

    async fn lease(&self) -> Result<Option<TaskLease>, Error> {
        match &self.store {
            Some(store) => store.watch_lease().await,
            None => Ok(Some(TaskLease::of_one())),
        }
    }

    /// Looks at the domains that are due, and again at those with a finding that is not confirmed.
    async fn round(&self, lookout: &mut Option<PassLookout>, round: &WatchRound) {
        let (config, shared) = (Arc::clone(&self.config.borrow()), Arc::clone(&self.shared.borrow()));
        let watched = match self.watched(&config).await {
            Ok(watched) => watched,
            Err(error) => {
                tracing::warn!(%error, "the domains that mail goes to cannot be read, so that the watch has to wait");
                return;
            }
        };
        let now = OffsetDateTime::now_utc().unix_timestamp();
        let (due, suspects) = {
            let book = self.book();
            (agenda::due(&watched, &book, now, round.every), book.suspects(now - AGAIN))
        };
        // Second looks have a fresh one.
        let is_over = |pass: &PassLookout| now - pass.since >= round.every || !Arc::ptr_eq(&pass.shared, &shared);
        if lookout.as_ref().is_none_or(is_over) {
            *lookout = PassLookout::new(&config, &shared, now);
        }
        let (suspects, due): (Vec<_>, Vec<_>) = {
            let all = due.into_iter().chain(suspects.iter().filter_map(|name| Name::parse(name).ok()));
            let all: std::collections::BTreeSet<_> = all.collect();
            all.into_iter().partition(|name| suspects.contains(name.as_str()))
        };
        if let Some(pass) = lookout {
            self.look(&mut pass.lookout, &due, round).await;
        }
        if let Some(mut fresh) = PassLookout::new(&config, &shared, now).filter(|_| !suspects.is_empty()) {
            self.look(&mut fresh.lookout, &suspects, round).await;
        }
    }

    async fn look(&self, lookout: &mut Lookout, domains: &[Name], round: &WatchRound) {
        if domains.is_empty() {
            return;
        }
        if let Some(deliveries) = self.shared.borrow().reporter.deliveries() {
            lookout.heed(deliveries, OffsetDateTime::now_utc().unix_timestamp() - round.every);
        }
        let facts = lookout.run(domains).await;
        // A look takes minutes: another danelaw may have begun meanwhile.
        if self.lease().await.ok().flatten() != round.lease {
            tracing::info!("another danelaw watches now; this look is not told");
            return;
        }
        self.looks.delivery.fetch_add(facts.looks.delivery, Relaxed);
        self.looks.dns.fetch_add(facts.looks.dns, Relaxed);
        self.looks.session.fetch_add(facts.looks.session, Relaxed);
        self.take_up(facts, round).await;
    }

    /// Takes up the facts, keeps them, and tells what is new. What is not kept is not told: the next look tells it.
    async fn take_up(&self, facts: RunFacts, round: &WatchRound) {
        let names: Vec<_> = facts.domains.keys().cloned().collect();
        let keys: Vec<_> = facts.hosts.keys().cloned().collect();
        let mut book = self.book().clone();
        let end = book.take_up(facts);
        if let Err(error) = self.write(&book, [&names, &keys], round).await {
            tracing::error!(%error, "what the watch has seen cannot be kept in the store, and is not told before it is");
            return;
        }
        let blind = book.blind.clone();
        *self.book() = book;
        match end {
            RunEnd::Saw(told) => told.iter().for_each(super::log::tell),
            RunEnd::Blind(BlindStart::First) => {
                let why = blind.as_ref().map(ToString::to_string).unwrap_or_default();
                let label = blind.map(|blind| blind.label).unwrap_or_default();
                tracing::warn!(label, why, "watch-blind");
            }
            RunEnd::Blind(BlindStart::Again) => {}
        }
    }

    /// The domains to watch by the configuration and by the mail of the last days.
    async fn watched(&self, config: &Config) -> Result<Watched, Error> {
        let section = &config.watch;
        let skips = |name: &Name| section.skip.iter().any(|skip| skip.0.contain(name));
        let named = section.own.iter().chain(&section.domains).map(|name| name.0.clone());
        let named: Vec<_> = named.filter(|name| !skips(name)).collect();
        let days = i64::try_from(section.seen_within.as_secs() / (24 * 60 * 60)).unwrap_or(i64::MAX);
        let day = i64::from(OffsetDateTime::now_utc().to_julian_day()) - days;
        let mailed = match &self.store {
            Some(store) => {
                let delivered = MailResult::ALL.into_iter().filter(|result| result.is_delivery());
                let delivered: Vec<_> = delivered.map(MailResult::as_str).collect();
                store.mailed_since(day, &delivered, section.most).await?
            }
            None => Vec::new(),
        };
        let mailed = mailed.iter().filter_map(|mailed| Name::parse(&mailed.domain).ok());
        Ok(Watched { mailed: mailed.filter(|name| !skips(name) && !named.contains(name)).collect(), named })
    }

    /// Writes the entries of these domains and hosts.
    async fn write(&self, book: &Book, [names, keys]: [&[String]; 2], round: &WatchRound) -> Result<(), Error> {
        let Some(store) = &self.store else { return Ok(()) };
        let run = RunEntry { last_run: book.last_run, blind: book.blind.clone() };
        let seen = book.last_run.unwrap_or_default();
        let mut rows = vec![row(RUN, "", &run, seen)];
        rows.extend(names.iter().filter_map(|name| Some(row(DOMAIN, name, book.domains.get(name)?, seen))));
        rows.extend(keys.iter().filter_map(|key| Some(row(HOST, key, book.hosts.get(key)?, seen))));
        store.put_watch_rows(&rows, round.lease).await?;
        store.forget_watch_rows(seen - KEPT).await
    }

    /// Reads the memory. An entry that cannot be read is forgotten: nothing of mail depends on it.
    async fn reread(&self) {
        let Some(store) = &self.store else { return };
        match store.watch_rows().await {
            Ok(rows) => *self.book() = restored(rows),
            Err(error) => tracing::warn!(%error, "the memory of the watch cannot be read"),
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The lookout of one pass over all domains.
struct PassLookout {
    lookout: Lookout,
    shared: Arc<Shared<Stub>>,
    since: i64,
}

impl PassLookout {
    /// By the settings now. The policies of MTA-STS are those that mail goes by.
    fn new(config: &Config, shared: &Arc<Shared<Stub>>, since: i64) -> Option<Self> {
        let connector = &shared.connector;
        let source: Arc<dyn PolicySource> = Arc::new(connector.mta_sts.clone());
        let parts = LookParts {
            hostname: connector.hostname.clone(),
            dns: connector.dns.clone(),
            tls: connector.tls.clone(),
            policies: PolicyChecks::from(source),
        };
        match Lookout::new(config, parts) {
            Ok(lookout) => Some(Self { lookout, shared: Arc::clone(shared), since }),
            Err(why) => {
                tracing::error!(why, "the watch cannot look");
                None
            }
        }
    }
}

fn row(kind: &str, name: &str, entry: &impl serde::Serialize, seen: i64) -> WatchRow {
    // Text, numbers and lists: it can always be written.
    let entry = serde_json::to_string(entry).unwrap_or_default();
    WatchRow { kind: kind.to_owned(), name: name.to_owned(), entry, seen }
}

fn restored(rows: Vec<WatchRow>) -> Book {
    fn read<T: serde::de::DeserializeOwned>(row: &WatchRow) -> Option<T> {
        let read = serde_json::from_str(&row.entry);
        if let Err(error) = &read {
            tracing::warn!(kind = row.kind, name = row.name, %error, "the watch cannot read an entry, and forgets it");
        }
        read.ok()
    }
    let (mut domains, mut hosts, mut run) = (BTreeMap::new(), BTreeMap::new(), None);
    for row in &rows {
        match row.kind.as_str() {
            DOMAIN => domains.extend(read(row).map(|entry| (row.name.clone(), entry))),
            HOST => hosts.extend(read(row).map(|entry| (row.name.clone(), entry))),
            RUN => run = read(row),
            // Another part of danelaw has entries of its own.
            _ => {}
        }
    }
    let RunEntry { last_run, blind } = run.unwrap_or(RunEntry { last_run: None, blind: None });
    Book { domains, hosts, blind, last_run }
}
