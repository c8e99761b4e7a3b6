//! The watch of a danelaw that runs.
//!
//! It looks at a 24th of the domains at a time. With a database several danelaws have one watch: that of the one with the lease,
//! so that each finding is told once, and a host is not asked by each of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use strum::VariantArray as _;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::agenda::{self, Watched};
use super::book::{BlindStart, Book, LookCounts, RunEnd, RunFacts, RunReason};
use super::looked::LookedDomain;
use super::lookout::{LookParts, Lookout, RunPlan};
use super::view::WatchView;
use crate::check::checker::PolicyChecks;
use crate::check::ends::DAY;
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
/// The most domains that are looked at again in one round.
const MOST_AGAIN: usize = 100;
/// How often a danelaw without the lease reads the entries.
const READ_EVERY: Duration = Duration::from_secs(10 * 60);
/// How long an entry that is no longer looked at is kept, in seconds.
const KEPT: i64 = 90 * DAY;
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
    /// The facts since the start, by their source.
    looks: Mutex<LookCounts>,
}

/// The end of a run, in the store.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct RunEntry {
    last_run: Option<i64>,
    blind: Option<super::book::Blind>,
    #[serde(default)]
    every: i64,
}

/// How far the watch of one danelaw is.
#[derive(Default)]
pub struct WatchProgress {
    held: Option<TaskLease>,
    /// The time of the next look.
    next: Option<Instant>,
    /// The last time that the entries were read for another danelaw's looks.
    read: Option<Instant>,
    /// It lasts for a pass over all domains, so that a host is asked once.
    pass: Option<PassLookout>,
}

impl Watch {
    /// A watch over domains by this configuration, with a store that outlives the process if there is one.
    pub fn new(
        config: watch::Receiver<Arc<Config>>,
        shared: watch::Receiver<Arc<Shared<Stub>>>,
        store: Option<Store>,
    ) -> Self {
        Self { store, config, shared, book: Mutex::default(), looks: Mutex::default() }
    }

    /// Watches for as long as danelaw runs.
    pub async fn keep(self: Arc<Self>) {
        tokio::time::sleep(START).await;
        let (mut minutes, mut progress) = (interval(MINUTE), WatchProgress::default());
        minutes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            minutes.tick().await;
            self.minute(&mut progress).await;
        }
    }

    /// The work of one minute: renews the lease, and looks if it is time.
    pub async fn minute(&self, progress: &mut WatchProgress) {
        let Some(every) = self.config.borrow().watch.every else { return };
        let lease = match self.lease().await {
            Ok(lease) => lease,
            Err(error) => {
                tracing::warn!(%error, "the watch waits for the store");
                return;
            }
        };
        // Another danelaw may have looked meanwhile; and one that does not watch shows the findings of the other.
        let is_new = lease.is_some() && lease != progress.held;
        let is_late = lease.is_none() && progress.read.is_none_or(|read| read.elapsed() >= READ_EVERY);
        if is_new || is_late {
            if let Err(error) = self.reread().await {
                tracing::warn!(%error, "the watch waits, since its memory cannot be read");
                progress.held = None;
                return;
            }
            progress.read = Some(Instant::now());
        }
        progress.held = lease;
        if lease.is_some() && progress.next.is_none_or(|next| Instant::now() >= next) {
            progress.next = Some(Instant::now() + every / agenda::PARTS);
            let every = i64::try_from(every.as_secs()).unwrap_or(i64::MAX);
            tokio::select! {
                () = self.round(&mut progress.pass, lease, every) => {}
                // A look takes longer than a lease lasts.
                () = self.lost(lease) => tracing::info!("another danelaw has the lease of the watch; its looks count"),
            }
        }
    }

    /// Renews the lease each minute. It ends when another danelaw has it.
    async fn lost(&self, held: Option<TaskLease>) {
        loop {
            tokio::time::sleep(MINUTE).await;
            // A store without an answer may come back; a finding that cannot be kept is not logged.
            if self.lease().await.is_ok_and(|lease| lease != held) {
                return;
            }
        }
    }

    /// The findings now.
    pub fn view(&self) -> WatchView {
        self.book.lock().view()
    }

    /// The findings about one domain; none for one that is not watched.
    pub fn view_of(&self, domain: &Name) -> Option<WatchView> {
        self.book.lock().view_of(domain)
    }

    /// The last look at one domain; none for one that is not watched.
    pub fn looked(&self, domain: &Name, now: OffsetDateTime) -> Option<LookedDomain> {
        self.book.lock().looked(domain, now.unix_timestamp())
    }

    /// The numbers for metrics.
    pub fn figures(&self) -> WatchFigures {
        let LookCounts { delivery, dns, session } = *self.looks.lock();
        let looks = vec![("delivery", delivery), ("dns", dns), ("session", session)];
        WatchFigures { looks, ..self.book.lock().figures() }
    }

    async fn lease(&self) -> Result<Option<TaskLease>, Error> {
        match &self.store {
            Some(store) => store.watch_lease().await,
            None => Ok(Some(TaskLease::of_one())),
        }
    }

    /// Looks at the domains that are due, our own ones first; and again at those with a finding that is not confirmed, or whose mail
    /// was refused since.
    async fn round(&self, pass: &mut Option<PassLookout>, lease: Option<TaskLease>, every: i64) {
        let (config, shared) = (Arc::clone(&self.config.borrow()), Arc::clone(&self.shared.borrow()));
        let watched = match self.watched(&config).await {
            Ok(watched) => watched,
            Err(error) => {
                tracing::warn!(%error, "the domains that mail goes to cannot be read, so that the watch has to wait");
                return;
            }
        };
        let now = OffsetDateTime::now_utc().unix_timestamp();
        // Before its first domains are due again: their looks must not have its old sessions.
        let lasts = every - 2 * every / i64::from(agenda::PARTS);
        let is_over = |pass: &PassLookout| now - pass.since >= lasts || !Arc::ptr_eq(&pass.shared, &shared);
        if pass.as_ref().is_none_or(is_over) {
            *pass = PassLookout::new(&config, &shared, now);
        }
        let (named, mailed, again) = {
            let book = self.book.lock();
            let again = self.again(&watched, &book, now);
            (watched.due_named(&book, now, every), watched.due_mailed(&book, now, every), again)
        };
        if let Some(pass) = pass {
            for domains in [named, mailed] {
                let plan = RunPlan { domains: &domains, reason: RunReason::Due, every };
                self.look(&mut pass.lookout, plan, lease).await;
            }
        }
        // Its sessions are those of this minute.
        if let Some(mut fresh) = PassLookout::new(&config, &shared, now).filter(|_| !again.is_empty()) {
            let plan = RunPlan { domains: &again, reason: RunReason::Again, every };
            self.look(&mut fresh.lookout, plan, lease).await;
        }
    }

    /// The watched domains to look at again.
    fn again(&self, watched: &Watched, book: &Book, now: i64) -> Vec<Name> {
        let suspects = book.suspects(now).into_iter().filter_map(|name| Name::parse(&name).ok());
        let refused = Lookout::refused_since(&self.shared.borrow().reporter, now - DAY).into_iter();
        // A domain that is known to be broken has its regular looks.
        let is_news = |(name, at): &(Name, i64)| {
            let known = book.domains.get(name.as_str());
            known.is_none_or(|entry| entry.last < *at) && !book.is_settled(name.as_str(), now)
        };
        let refused = refused.filter(is_news).map(|(name, _)| name);
        let all: BTreeSet<_> = suspects.chain(refused).filter(|name| watched.has(name)).collect();
        all.into_iter().take(MOST_AGAIN).collect()
    }

    async fn look(&self, lookout: &mut Lookout, plan: RunPlan<'_>, lease: Option<TaskLease>) {
        if plan.domains.is_empty() {
            return;
        }
        let book = self.book.lock().clone();
        let facts = lookout.run(plan, &book).await;
        self.looks.lock().add(facts.looks);
        self.take_up(book, facts, lease).await;
    }

    /// Takes up the facts, keeps them, and logs the findings that are new. A finding that is not kept is logged by the next look.
    async fn take_up(&self, mut book: Book, facts: RunFacts, lease: Option<TaskLease>) {
        let names: Vec<_> = facts.domains.keys().cloned().collect();
        let keys: Vec<_> = facts.hosts.keys().cloned().collect();
        let end = book.take_up(facts);
        if let Err(error) = self.write(&book, [&names, &keys], lease).await {
            tracing::error!(%error, "the findings of the watch cannot be kept, and are not told before they are");
            return;
        }
        let last_run = book.last_run.unwrap_or_default();
        *self.book.lock() = book;
        match end {
            RunEnd::Saw(told) => {
                told.iter().for_each(super::log::tell);
                self.forget(last_run - KEPT).await;
            }
            RunEnd::Blind(BlindStart::First, blind) => tracing::warn!(label = blind.label, why = %blind, "watch-blind"),
            RunEnd::Blind(BlindStart::Again, _) => {}
        }
    }

    /// The domains to watch by the configuration and by the mail of the last days.
    async fn watched(&self, config: &Config) -> Result<Watched, Error> {
        let section = &config.watch;
        let named = section.named();
        let days = i64::try_from(section.seen_within.as_secs()).unwrap_or(i64::MAX) / DAY;
        let day = i64::from(OffsetDateTime::now_utc().to_julian_day()) - days;
        let mailed = match &self.store {
            Some(store) => {
                let delivered = MailResult::VARIANTS.iter().copied().filter(|result| result.is_delivery());
                let delivered: Vec<_> = delivered.map(MailResult::as_str).collect();
                store.mailed_since(day, &delivered, section.most).await?
            }
            None => Vec::new(),
        };
        let mailed = mailed.iter().filter_map(|mailed| Name::parse(&mailed.domain).ok());
        Ok(Watched { mailed: mailed.filter(|name| !section.skips(name) && !named.contains(name)).collect(), named })
    }

    /// Writes the entries of these domains and hosts.
    async fn write(&self, book: &Book, [names, keys]: [&[String]; 2], lease: Option<TaskLease>) -> Result<(), Error> {
        let Some(store) = &self.store else { return Ok(()) };
        let entry = RunEntry { last_run: book.last_run, blind: book.blind.clone(), every: book.every };
        let seen = book.last_run.unwrap_or_default();
        let mut rows = vec![WatchRow::of(RUN, RUN, &entry, seen)];
        rows.extend(names.iter().filter_map(|name| Some(WatchRow::of(DOMAIN, name, book.domains.get(name)?, seen))));
        rows.extend(keys.iter().filter_map(|key| Some(WatchRow::of(HOST, key, book.hosts.get(key)?, seen))));
        // Together, so that no finding counts as told that is not.
        store.put_watch_rows(&rows, lease).await
    }

    /// Deletes the entries that no look has renewed since this time.
    async fn forget(&self, before: i64) {
        let Some(store) = &self.store else { return };
        for kind in [DOMAIN, HOST] {
            if let Err(error) = store.forget_watch_rows(kind, before).await {
                tracing::warn!(%error, "old entries of the watch cannot be deleted");
            }
        }
    }

    /// Reads the memory. An entry that cannot be read is forgotten, since no mail depends on it.
    async fn reread(&self) -> Result<(), Error> {
        let Some(store) = &self.store else { return Ok(()) };
        let mut rows = Vec::new();
        for kind in [DOMAIN, HOST, RUN] {
            rows.extend(store.watch_rows_of(kind).await?);
        }
        *self.book.lock() = restored(rows);
        Ok(())
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
            reporter: Some(Arc::clone(&shared.reporter)),
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
    let RunEntry { last_run, blind, every } = run.unwrap_or(RunEntry { last_run: None, blind: None, every: 0 });
    Book { domains, hosts, blind, last_run, every }
}
