//! One report on its way.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::Instant;

use super::mail::Posting;
use super::{Dispatch, DispatchSettings, https, signers};
use crate::delivery::shared::Shared;
use crate::dns::Resolver;
use crate::http::HttpsClient;
use crate::store::ReportRight;
use crate::tlsrpt::document::{ReportAuthor, ReportTitle};
use crate::tlsrpt::gzip::gzip;
use crate::tlsrpt::mime::{ReportMail, ReportParts};
use crate::tlsrpt::read::words::shown;
use crate::tlsrpt::record::{ReportAddress, ReportMailbox};
use crate::tlsrpt::report_end::ReportEnd;
use crate::tlsrpt::schedule::{ReportKey, ReportTried};
use crate::tlsrpt::tally::TalliedDomain;
use crate::tlsrpt::window::ReportWindow;

/// How long a report may take.
const TRY: Duration = Duration::from_secs(5 * 60);

/// The result of sending a report.
pub(super) struct SentReport {
    pub(super) tried: ReportTried,
    pub(super) text: String,
}

/// A report that is under way for as long as this lives.
pub(super) struct DueReport<R> {
    pub(super) dispatch: Arc<Dispatch<R>>,
    pub(super) key: ReportKey,
    pub(super) address: ReportAddress,
    pub(super) policies: TalliedDomain,
    pub(super) author: Arc<ReportAuthor>,
}

/// The parts that all reports of a round share.
pub(super) struct DispatchRound<R> {
    pub(super) shared: Arc<Shared<R>>,
    pub(super) client: HttpsClient<R>,
    pub(super) settings: Arc<DispatchSettings>,
    pub(super) clock: RoundClock,
}

/// The clock of a round. Its reports may take minutes.
#[derive(Clone, Copy)]
pub(super) struct RoundClock {
    pub(super) begin: OffsetDateTime,
    pub(super) since: Instant,
}

impl RoundClock {
    pub(super) fn now(self) -> OffsetDateTime {
        self.begin + self.since.elapsed()
    }
}

impl<R: Resolver + Clone> DueReport<R> {
    /// Sends it, and writes down how that went.
    pub(super) async fn go(self, round: Arc<DispatchRound<R>>) {
        match self.dispatch.hold(&self.key).await {
            ReportRight::Ours => {}
            // Another danelaw sends it.
            ReportRight::Lost => return,
        }
        let sent = self.send(&round).await;
        self.note(&sent, round.clock.now());
        self.dispatch.show_waiting();
        // At once: if danelaw is killed before, the receiver gets a second copy, with the same id.
        self.dispatch.flush().await;
    }

    async fn send(&self, round: &DispatchRound<R>) -> SentReport {
        let Self { key, address, policies, author, .. } = self;
        let store = match self.dispatch.store_id().await {
            Ok(store) => store,
            Err(error) => return SentReport::failed(&error),
        };
        let window = ReportWindow::of(key.of.day);
        let title = ReportTitle { author, window, domain: &key.of.domain, store };
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
                ReportAddress::Https(url) => https::post(&round.client, url, gzip).await,
                ReportAddress::Mail(to) => {
                    let parts = ReportParts { to, date: round.clock.now(), policies, gzip: &gzip };
                    match self.posting(to, &ReportMail::new(&title, parts), round).await {
                        Ok(posting) => posting.deliver(&round.shared).await,
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

    async fn posting(
        &self,
        to: &ReportMailbox,
        mail: &ReportMail,
        round: &DispatchRound<R>,
    ) -> Result<Posting, String> {
        let signatures =
            signers::signatures(&round.settings.signers, mail, round.clock.now(), &round.shared.connector.dns).await?;
        Posting::new(&self.author.contact, to, mail.octets(&signatures)).map_err(|error| error.to_string())
    }

    fn note(&self, sent: &SentReport, now: OffsetDateTime) {
        let Self { dispatch, key, address, .. } = self;
        let mut state = dispatch.state.lock();
        state.book.tried(key, sent.tried, now);
        // Before the write, which tells that another danelaw may have it.
        state.book.leave(key);
        let tries = state.book.entry(key).map_or(0, |entry| entry.tries);
        let end = state.book.entry(key).and_then(|entry| entry.end);
        drop(state);
        {
            let shared = dispatch.shared.borrow();
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

/// It is no longer under way, however its task ended.
impl<R> Drop for DueReport<R> {
    fn drop(&mut self) {
        self.dispatch.state.lock().book.leave(&self.key);
    }
}

impl SentReport {
    pub(super) fn failed(why: &impl fmt::Display) -> Self {
        Self { tried: ReportTried::Failed, text: why.to_string() }
    }

    fn label(&self) -> &'static str {
        match self.tried {
            ReportTried::Accepted => ReportEnd::Sent.as_str(),
            ReportTried::Refused => ReportEnd::Refused.as_str(),
            ReportTried::Failed => "failed",
        }
    }
}
