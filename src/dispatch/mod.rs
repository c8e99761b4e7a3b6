//! TLS reports on their way (RFC 8460): danelaw counts sessions and sends reports itself, with `tlsrpt.mode = "send"`.
//!
//! A task counts the events of sessions and writes the counts to the store every few seconds. Another one looks each minute
//! for reports that are due, by [`schedule`](crate::tlsrpt::schedule), and starts a task that looks up records and one for each
//! report, which goes by [`mail`] or [`https`]. No mail of clients waits for any of them. The states of reports are in the
//! store too, so that a restart neither repeats a report nor forgets one.
//!
//! With a file, one danelaw has all counts and states in memory. With a database several danelaws add to its counts; one of them
//! [leads](leading) and makes the reports of a day, and each of them [takes](taking) some of the reports that are due.

mod https;
pub mod key;
mod leading;
mod lookups;
mod mail;
pub mod preview;
mod rows;
mod sending;
pub mod signers;
mod taking;
mod task;
pub mod view;
mod writing;

pub use task::DispatchTask;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use time::{Date, OffsetDateTime};
use tokio::sync::{OnceCell, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::delivery::shared::Shared;
use crate::dns::Resolver;
use crate::http::{HttpsClient, HttpsPart};
use crate::reserved::Dialable;
use crate::store::{Error, SharedReports, Store, TallyWrite};
use crate::tlsrpt::TlsEvent;
use crate::tlsrpt::collectd::DatagramDropped;
use crate::tlsrpt::document::ReportAuthor;
use crate::tlsrpt::kept::KeptTally;
use crate::tlsrpt::read::words::shown;
use crate::tlsrpt::record::ReportAddress;
use crate::tlsrpt::schedule::{ReportBook, ReportKey, SummedEnd, UntoldEnds};
use crate::tlsrpt::scope::ReportScope;
use crate::tlsrpt::tally::{TalliedDomain, TallyRoom};
use leading::Leading;
use sending::{DispatchRound, DueReport, RoundClock};
use signers::{KeyNotFound, Signer, Unverifiable};
use taking::TakenReports;

/// How many events wait to be counted.
pub const MAX_EVENTS: usize = 10_000;
/// How long reports by mail wait for the DKIM record.
const WITHOUT_RECORD: Duration = Duration::from_secs(60 * 60);
/// How long they wait where the lookup of that record failed.
const WITHOUT_LOOKUP: Duration = Duration::from_secs(5 * 60);

/// The settings of [`Dispatch`].
#[derive(Debug)]
pub struct DispatchSettings {
    /// The author of the reports.
    pub author: ReportAuthor,
    /// The keys that sign mails, and where receivers find their public halves.
    pub signers: Vec<Signer>,
    /// The domains that get reports.
    pub scope: ReportScope,
    /// The port of HTTPS: 443, except in tests.
    pub https_port: u16,
    /// Where HTTPS may go: to public addresses, except in tests. `remote.allow_reserved` is for mail alone, since any stranger
    /// may name a host that takes reports.
    pub dialable: Dialable,
}

/// The counts, the reports that are due, and the ways to send them.
pub struct Dispatch<R> {
    settings: watch::Receiver<Arc<DispatchSettings>>,
    store: Store,
    /// The tables of a database, if the store is one.
    pool: Option<SharedReports>,
    /// The id of the store in reports. A database may tell it later.
    store_id: OnceCell<String>,
    shared: watch::Receiver<Arc<Shared<R>>>,
    state: Mutex<DispatchState>,
    /// Held by the one write to the store that is under way: an older one must not come behind a newer one.
    writing: tokio::sync::Mutex<()>,
    /// Held by the one task that looks up records.
    looking_up: tokio::sync::Mutex<()>,
    /// Held by the one task that makes the reports of all danelaws, with its state for as long as it leads.
    leading: tokio::sync::Mutex<Option<Leading>>,
    /// How many reports of all danelaws wait, if this one leads.
    waiting: AtomicUsize,
}

#[derive(Default)]
struct DispatchState {
    kept: KeptTally,
    book: ReportBook,
    /// The day on which the log last said that the DKIM record is missing, and that record.
    warned: Option<(Date, String)>,
    /// Whether the last write to the store failed.
    unwritable: bool,
    /// Whether the id of the store could not be read.
    unidentified: bool,
    /// The reports of a database that this danelaw has taken.
    taken: TakenReports,
    /// The counts on their way to a database. They stay the same until it has them: it may have them already.
    adding: Option<TallyWrite>,
    /// The number of the last of these.
    added: i64,
}

impl<R: Resolver + Clone> Dispatch<R> {
    /// Goes on with the counts and reports in the store. Each round takes the settings that are new by then.
    ///
    /// # Errors
    /// The store cannot be read. A database may be down: then it is read later.
    pub async fn open(
        settings: watch::Receiver<Arc<DispatchSettings>>,
        store: Store,
        shared: watch::Receiver<Arc<Shared<R>>>,
    ) -> Result<Self, Error> {
        let pool = store.shared_reports();
        let (state, store_id) = match &pool {
            Some(_) => (DispatchState::default(), OnceCell::new()),
            None => {
                let state = rows::restored(store.report_rows().await?);
                (state, OnceCell::new_with(Some(store.reporter_id().await?)))
            }
        };
        shared.borrow().reporter.metrics().tls_report_sent(OffsetDateTime::now_utc().unix_timestamp());
        Ok(Self {
            settings,
            store,
            pool,
            store_id,
            shared,
            state: Mutex::new(state),
            writing: tokio::sync::Mutex::new(()),
            looking_up: tokio::sync::Mutex::new(()),
            leading: tokio::sync::Mutex::new(None),
            waiting: AtomicUsize::new(0),
        })
    }

    /// The id of the store in reports.
    async fn store_id(&self) -> Result<&str, Error> {
        Ok(self.store_id.get_or_try_init(|| self.store.reporter_id()).await?)
    }

    /// Counts an event.
    pub fn count(&self, event: &TlsEvent, now: OffsetDateTime) {
        let room = {
            let mut state = self.state.lock();
            let day = state.book.day_of_counts(now.date(), state.kept.tally());
            state.kept.add(event, day)
        };
        if room == TallyRoom::Cut {
            self.shared.borrow().reporter.metrics().tls_session_dropped(DatagramDropped::Full.as_str());
        }
    }

    /// Starts to look up the records that are due, and to send the reports that are due. Neither a slow lookup nor a slow report
    /// holds up the others or the next round: [`ReportBook::due_lookups`] and [`ReportBook::due_reports`] bound how many are
    /// under way. The reports to addresses that are found go in the next round.
    pub async fn round(self: &Arc<Self>, now: OffsetDateTime, tasks: &mut JoinSet<()>) {
        while tasks.try_join_next().is_some() {}
        let clock = RoundClock { begin: now, since: Instant::now() };
        let (shared, settings) = (Arc::clone(&self.shared.borrow()), Arc::clone(&self.settings.borrow()));
        self.forget(now).await;
        let dns = shared.connector.dns.clone();
        match &self.pool {
            Some(pool) => {
                tasks.spawn(Arc::clone(self).lead(pool.clone(), dns, Arc::clone(&settings), clock));
            }
            None => {
                self.close_days(&settings.scope, now);
                tasks.spawn(Arc::clone(self).look_up(dns, Arc::clone(&settings), clock));
            }
        }
        let part = HttpsPart {
            dialable: settings.dialable.clone(),
            roots: shared.connector.tls.roots().clone(),
            port: settings.https_port,
        };
        let client = HttpsClient::new(shared.connector.dns.clone(), part);
        let round = Arc::new(DispatchRound { shared, client, settings, clock });
        if let Some(pool) = &self.pool {
            // A report that is sent, and not written yet, is not due again.
            self.flush().await;
            self.take(pool, clock.now()).await;
        }
        let due = self.due(&round).await;
        // The author of each is written before its first try.
        self.flush().await;
        for report in due {
            tasks.spawn(report.go(Arc::clone(&round)));
        }
        let untold = self.state.lock().book.take_untold();
        self.tell_untold(untold);
        self.show_waiting();
    }

    /// Looks up records, unless the lookups of a round before still go on.
    async fn look_up(self: Arc<Self>, dns: R, settings: Arc<DispatchSettings>, clock: RoundClock) {
        let Ok(_one) = self.looking_up.try_lock() else { return };
        let lookups = {
            let state = self.state.lock();
            state.book.due_lookups(state.kept.tally(), &settings.scope, clock.now())
        };
        let mut lookups = lookups::begin(&dns, lookups);
        while let Some(looked_up) = lookups.join_next().await {
            if let Ok((of, found)) = looked_up {
                self.state.lock().book.looked_up(&of, found, clock.now());
            }
        }
        self.show_waiting();
    }

    /// Tells of the reports that have ended without a try.
    fn tell_untold(&self, UntoldEnds { named, summed }: UntoldEnds) {
        let shared = self.shared.borrow();
        let metrics = shared.reporter.metrics();
        for (key, end) in named {
            let address = key.address.as_ref().map(ReportAddress::to_string).unwrap_or_default();
            metrics.tls_report(key.way(), end.as_str());
            tracing::info!(
                domain = %key.of.domain,
                day = %key.of.day,
                address = shown(&address),
                result = end.as_str(),
                given_up = true,
                "TLS report"
            );
        }
        for (SummedEnd { day, end, way }, reports) in summed {
            metrics.tls_reports_ended([way, end.as_str()], reports);
            tracing::info!(%day, way, result = end.as_str(), reports, given_up = true, "TLS reports");
        }
    }

    /// The reports that are due. Mails wait as long as their receivers could not verify them.
    async fn due(self: &Arc<Self>, round: &DispatchRound<R>) -> Vec<DueReport<R>> {
        let now = round.clock.now();
        let keys = self.state.lock().book.due_reports(now);
        let is_mail = |key: &ReportKey| matches!(key.address, Some(ReportAddress::Mail(_)));
        let mails_wait = match keys.iter().any(is_mail) {
            true => self.without_key(&round.settings, &round.shared.connector.dns, now).await,
            false => None,
        };
        let mut due = Vec::new();
        let mut state = self.state.lock();
        for key in keys {
            if !round.settings.scope.reports_to(&key.of.domain) {
                state.book.skip(&key, now);
                continue;
            }
            if is_mail(&key)
                && let Some(wait) = mails_wait
            {
                state.book.postpone(&key, now + wait);
                continue;
            }
            let policies = state.content(&key);
            match key.address.clone().filter(|_| !policies.is_empty()) {
                Some(address) => {
                    let author = state.book.begin(&key, &round.settings.author);
                    due.push(DueReport { dispatch: Arc::clone(self), key, address, policies, author });
                }
                None => state.book.end_as_told(&key, now),
            }
        }
        state.taken.settle();
        due
    }

    fn show_waiting(&self) {
        let waiting = match &self.pool {
            Some(_) => self.waiting.load(Relaxed),
            None => self.state.lock().book.waiting(),
        };
        self.shared.borrow().reporter.metrics().tls_reports_wait(waiting);
    }

    /// Looks up the records of the keys that sign mails. The log tells of one that is missing: at the start, and not only when
    /// reports wait.
    pub async fn check_keys(&self, now: OffsetDateTime) {
        let (shared, settings) = (Arc::clone(&self.shared.borrow()), Arc::clone(&self.settings.borrow()));
        let dns = &shared.connector.dns;
        let _ = self.without_key(&settings, dns, now).await;
        for Unverifiable { record, publish, why } in signers::left_out(&settings.signers, dns).await {
            let text = "TLS reports by mail go without this signature: their receivers could not verify it";
            tracing::warn!(record, why = shown(&why.to_string()), publish, "{text}");
        }
    }

    /// How long mails wait, because receivers cannot find one of our public keys, or because it could not be looked up.
    async fn without_key(&self, settings: &DispatchSettings, dns: &R, now: OffsetDateTime) -> Option<Duration> {
        let Unverifiable { record, publish, why } = signers::unverifiable(&settings.signers, dns).await?;
        match &why {
            KeyNotFound::Lookup(_) => {
                tracing::info!(record, why = shown(&why.to_string()), "TLS reports by mail wait");
                Some(WITHOUT_LOOKUP)
            }
            KeyNotFound::NoKey(_) => {
                let warned = (now.date(), format!("{record} {publish}"));
                if self.state.lock().warned.replace(warned.clone()) != Some(warned) {
                    let text = "TLS reports by mail wait: their receivers cannot verify the signature";
                    tracing::warn!(record, why = %why, publish, "{text}");
                }
                Some(WITHOUT_RECORD)
            }
        }
    }
}

impl DispatchState {
    /// The counts for a report.
    fn content(&self, key: &ReportKey) -> TalliedDomain {
        if let Some(content) = self.taken.content(key) {
            return content.clone();
        }
        let day = self.kept.tally().day(key.of.day);
        day.map(|day| self.book.content(day, key)).unwrap_or_default()
    }
}
