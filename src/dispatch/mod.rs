//! TLS reports on their way (RFC 8460): danelaw counts sessions and sends reports itself, with `tlsrpt.mode = "send"`.
//!
//! A task counts the events of sessions and writes the counts to the store every few seconds. Another one looks each minute
//! for reports that are due, by [`schedule`](crate::tlsrpt::schedule), looks up records, and sends reports by [`mail`] or
//! [`https`]. No mail of clients waits for either. The states of reports are in the store too, so that a restart neither
//! repeats a report nor forgets one.

mod https;
pub mod key;
mod mail;
mod rows;
mod task;
mod writing;

pub use task::DispatchTask;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use time::{Date, OffsetDateTime};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::delivery::shared::Shared;
use crate::dns::Resolver;
use crate::http::{HttpsClient, HttpsPart};
use crate::name::Name;
use crate::store::{Error, Store};
use crate::tlsrpt::TlsEvent;
use crate::tlsrpt::collectd::DatagramDropped;
use crate::tlsrpt::dkim::{self, DkimIdentity};
use crate::tlsrpt::document::{ReportAuthor, ReportTitle};
use crate::tlsrpt::gzip::gzip;
use crate::tlsrpt::kept::KeptTally;
use crate::tlsrpt::lookup::{RecordLookupError, record_of};
use crate::tlsrpt::mime::{ReportMail, ReportParts};
use crate::tlsrpt::read::words::shown;
use crate::tlsrpt::record::{ReportAddress, ReportMailbox};
use crate::tlsrpt::schedule::{RecordFound, ReportBook, ReportKey, ReportScope, ReportTried};
use crate::tlsrpt::tally::{TalliedDomain, TallyRoom};
use crate::tlsrpt::window::ReportWindow;
use key::DkimKey;
use mail::Posting;

/// How many events wait to be counted.
pub const MAX_EVENTS: usize = 10_000;
/// How many lookups and reports go on at a time.
const TOGETHER: usize = 16;
/// How long a report may take. The others of a round may wait for it.
const TRY: Duration = Duration::from_secs(5 * 60);
/// How long reports by mail wait for the DKIM record.
const WITHOUT_RECORD: Duration = Duration::from_secs(60 * 60);
/// How long they wait where the lookup of that record failed.
const WITHOUT_LOOKUP: Duration = Duration::from_secs(5 * 60);

/// The settings of [`Dispatch`].
#[derive(Debug)]
pub struct DispatchSettings {
    /// The author of the reports.
    pub author: ReportAuthor,
    /// Where receivers find the public key.
    pub identity: DkimIdentity,
    /// The key that signs mails.
    pub key: DkimKey,
    /// The domains that get reports.
    pub scope: ReportScope,
    /// The port of HTTPS: 443, except in tests.
    pub https_port: u16,
}

/// The counts, the reports that are due, and the ways to send them.
pub struct Dispatch<R> {
    settings: watch::Receiver<Arc<DispatchSettings>>,
    store: Store,
    shared: watch::Receiver<Arc<Shared<R>>>,
    state: Mutex<DispatchState>,
    /// Held by the one write to the store that is under way: an older one must not come behind a newer one.
    writing: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct DispatchState {
    kept: KeptTally,
    book: ReportBook,
    /// The day on which the log last said that the DKIM record is missing, and that record.
    warned: Option<(Date, String)>,
    /// Whether the last write to the store failed.
    unwritable: bool,
}

/// The result of sending a report.
struct SentReport {
    tried: ReportTried,
    text: String,
}

/// A report that is due.
struct DueReport {
    key: ReportKey,
    address: ReportAddress,
    policies: TalliedDomain,
}

impl<R: Resolver + Clone> Dispatch<R> {
    /// Goes on with the counts and reports in the store. Each round takes the settings that are new by then.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn open(
        settings: watch::Receiver<Arc<DispatchSettings>>,
        store: Store,
        shared: watch::Receiver<Arc<Shared<R>>>,
    ) -> Result<Self, Error> {
        let state = rows::restored(store.report_rows().await?);
        shared.borrow().reporter.metrics().tls_report_sent(OffsetDateTime::now_utc().unix_timestamp());
        Ok(Self { settings, store, shared, state: Mutex::new(state), writing: tokio::sync::Mutex::default() })
    }

    /// Counts an event.
    pub fn count(&self, event: &TlsEvent, now: OffsetDateTime) {
        let room = {
            let mut state = self.state();
            let day = state.book.day_of_counts(now.date(), state.kept.tally());
            state.kept.add(event, day)
        };
        if room == TallyRoom::Cut {
            self.shared.borrow().reporter.metrics().tls_session_dropped(DatagramDropped::Full.as_str());
        }
    }

    /// Looks up the records that are due, and sends the reports that are due.
    pub async fn round(&self, now: OffsetDateTime) {
        let clock = RoundClock { begin: now, since: Instant::now() };
        self.forget(now).await;
        let (shared, settings) = (Arc::clone(&self.shared.borrow()), Arc::clone(&self.settings.borrow()));
        let lookups = {
            let state = self.state();
            state.book.due_lookups(state.kept.tally(), &settings.scope, now)
        };
        let dns = &shared.connector.dns;
        let lookups = stream::iter(lookups).map(|of| async move { (found(dns, &of.domain).await, of) });
        let mut lookups = std::pin::pin!(lookups.buffer_unordered(TOGETHER));
        while let Some((found, of)) = lookups.next().await {
            self.state().book.looked_up(&of, found, clock.now());
        }
        self.show_waiting();
        let part = HttpsPart {
            dialable: shared.connector.dialable.clone(),
            roots: shared.connector.tls.roots().clone(),
            port: settings.https_port,
        };
        let client = HttpsClient::new(dns.clone(), part);
        let round = DispatchRound { shared: &shared, client: &client, settings: &settings };
        let due = self.due(round, clock.now()).await;
        let sent =
            stream::iter(due).map(|report| async move { (self.send(round, &report, clock.now()).await, report) });
        let mut sent = std::pin::pin!(sent.buffer_unordered(TOGETHER));
        while let Some((sent, report)) = sent.next().await {
            self.note(&report, &sent, clock.now());
            // At once: if danelaw is killed before, the receiver gets a second copy, with the same id.
            self.flush().await;
        }
        self.tell_untold();
        self.show_waiting();
        self.flush().await;
    }

    /// Tells of the reports that have ended without a try.
    fn tell_untold(&self) {
        for (key, end) in self.state().book.take_untold() {
            let address = key.address.as_ref().map(ReportAddress::to_string).unwrap_or_default();
            let shared = self.shared.borrow();
            shared.reporter.metrics().tls_report(key.address.as_ref().map_or("none", ReportAddress::way), end.as_str());
            tracing::info!(
                domain = %key.of.domain,
                day = %key.of.day,
                address = shown(&address),
                result = end.as_str(),
                given_up = true,
                "TLS report"
            );
        }
    }

    /// The reports that are due. Mails wait as long as their receivers could not verify them.
    async fn due(&self, round: DispatchRound<'_, R>, now: OffsetDateTime) -> Vec<DueReport> {
        let keys = self.state().book.due_reports(now);
        let is_mail = |key: &ReportKey| matches!(key.address, Some(ReportAddress::Mail(_)));
        let mails_wait = if keys.iter().any(is_mail) { self.without_key(round, now).await } else { None };
        let mut due = Vec::new();
        let mut state = self.state();
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
            let day = state.kept.tally().day(key.of.day);
            let policies = day.map(|day| state.book.content(day, &key)).unwrap_or_default();
            match key.address.clone().filter(|_| !policies.is_empty()) {
                Some(address) => due.push(DueReport { key, address, policies }),
                None => state.book.end_as_told(&key, now),
            }
        }
        due
    }

    fn show_waiting(&self) {
        let waiting = self.state().book.waiting();
        self.shared.borrow().reporter.metrics().tls_reports_wait(waiting);
    }

    /// How long mails wait, because receivers cannot find our public key, or because it could not be looked up.
    async fn without_key(&self, round: DispatchRound<'_, R>, now: OffsetDateTime) -> Option<Duration> {
        let DispatchSettings { identity, key, .. } = round.settings;
        let record = format!("{}._domainkey.{}", identity.selector, identity.domain);
        let found = match Name::parse(&record) {
            Ok(owner) => round.shared.connector.dns.txt(&owner).await.map_err(|failure| failure.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let found = match found {
            Ok(found) => found,
            Err(why) => {
                let text = "TLS reports by mail wait: the record of their signature could not be looked up";
                tracing::info!(record, why = shown(&why), "{text}");
                return Some(WITHOUT_LOOKUP);
            }
        };
        if found.answer.records().iter().any(|record| dkim::has_key(&record.0, key.public())) {
            return None;
        }
        let warned = (now.date(), format!("{record} {}", key.record()));
        if self.state().warned.replace(warned.clone()) != Some(warned) {
            let why = "no TXT record has the key of tlsrpt.dkim_key";
            let text = "TLS reports by mail wait: their receivers cannot verify the signature";
            tracing::warn!(record, why, publish = key.record(), "{text}");
        }
        Some(WITHOUT_RECORD)
    }

    async fn send(&self, round: DispatchRound<'_, R>, report: &DueReport, now: OffsetDateTime) -> SentReport {
        let DueReport { key, address, policies } = report;
        let title = ReportTitle {
            author: &round.settings.author,
            window: ReportWindow::of(key.of.day),
            domain: &key.of.domain,
        };
        let gzip = match title.document(policies).map_err(|error| error.to_string()) {
            Ok(document) => gzip(&document).map_err(|error| error.to_string()),
            Err(error) => Err(error),
        };
        let gzip = match gzip {
            Ok(gzip) => gzip,
            Err(error) => return SentReport::failed(&error),
        };
        let sent = async {
            match address {
                ReportAddress::Https(url) => https::post(round.client, url, gzip).await,
                ReportAddress::Mail(to) => {
                    let parts = ReportParts { to, date: now, policies, gzip: &gzip };
                    match round.settings.posting(to, &ReportMail::new(&title, parts), now) {
                        Ok(posting) => posting.deliver(round.shared).await,
                        Err(error) => SentReport::failed(&error),
                    }
                }
            }
        };
        // On the heap, with a limit: a receiver may answer one octet a minute.
        match tokio::time::timeout(TRY, Box::pin(sent)).await {
            Ok(sent) => sent,
            Err(_) => SentReport::failed(&"it took too long"),
        }
    }

    fn note(&self, report: &DueReport, sent: &SentReport, now: OffsetDateTime) {
        let DueReport { key, address, .. } = report;
        let mut state = self.state();
        state.book.tried(key, sent.tried, now);
        let tries = state.book.entry(key).map_or(0, |entry| entry.tries);
        let end = state.book.entry(key).and_then(|entry| entry.end);
        drop(state);
        {
            let shared = self.shared.borrow();
            let metrics = shared.reporter.metrics();
            metrics.tls_report(address.way(), sent.label());
            if sent.tried == ReportTried::Accepted {
                metrics.tls_report_sent(now.unix_timestamp());
            }
        }
        tracing::info!(
            domain = %key.of.domain,
            day = %key.of.day,
            address = shown(&address.to_string()),
            result = sent.label(),
            text = shown(&sent.text),
            tries,
            given_up = end.is_some() && sent.tried != ReportTried::Accepted,
            "TLS report"
        );
    }
}

impl<R> Dispatch<R> {
    fn state(&self) -> MutexGuard<'_, DispatchState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DispatchSettings {
    fn posting(&self, to: &ReportMailbox, mail: &ReportMail, now: OffsetDateTime) -> Result<Posting, String> {
        let DispatchSettings { author, identity, key, .. } = self;
        let signature = dkim::signature(mail, identity, now, |octets| key.sign(octets));
        let octets = mail.octets(&signature.map_err(|error| error.to_string())?);
        Posting::new(&author.contact, to, octets).map_err(|error| error.to_string())
    }
}

/// The clock of a round, which may take an hour.
#[derive(Clone, Copy)]
struct RoundClock {
    begin: OffsetDateTime,
    since: Instant,
}

impl RoundClock {
    fn now(self) -> OffsetDateTime {
        self.begin + self.since.elapsed()
    }
}

/// The parts that all reports of a round share.
struct DispatchRound<'a, R> {
    shared: &'a Shared<R>,
    client: &'a HttpsClient<R>,
    settings: &'a DispatchSettings,
}

impl<R> Clone for DispatchRound<'_, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Copy for DispatchRound<'_, R> {}

impl SentReport {
    fn failed(why: &impl fmt::Display) -> Self {
        Self { tried: ReportTried::Failed, text: why.to_string() }
    }

    fn label(&self) -> &'static str {
        match self.tried {
            ReportTried::Accepted => "sent",
            ReportTried::Refused => "refused",
            ReportTried::Failed => "failed",
        }
    }
}

/// The addresses in a domain's record.
async fn found<R: Resolver>(dns: &R, domain: &Name) -> RecordFound {
    match record_of(dns, domain).await {
        Ok(record) => RecordFound::Addresses(record.addresses),
        Err(RecordLookupError::Record(_)) => RecordFound::None,
        Err(RecordLookupError::Dns(_)) => RecordFound::Failed,
    }
}
