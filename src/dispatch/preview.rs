//! The reports about the day so far, for people. Nothing is sent.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use time::{Date, OffsetDateTime};
use tokio::time::Instant;

use super::signers::{self, KeyNotFound};
use super::{Dispatch, DispatchSettings, DispatchState};
use crate::dns::Resolver;
use crate::name::Name;
use crate::store::Error;
use crate::tlsrpt::document::ReportTitle;
use crate::tlsrpt::lookup::record_of;
use crate::tlsrpt::record::ReportAddress;
use crate::tlsrpt::schedule::ReportKey;
use crate::tlsrpt::scope::subjects;
use crate::tlsrpt::tally::{DomainDay, ResultCounts, TalliedDomain};
use crate::tlsrpt::window::ReportWindow;

/// The most reports on a page. Their records are looked up side by side.
const PAGE: usize = 16;
/// How long the lookups of a page may take. The client of the admin port waits for ten seconds.
const LOOKUPS: Duration = Duration::from_secs(8);
/// The octets of reports at which no further one is put on a page.
const MAX_OCTETS: usize = 1024 * 1024;

/// The domains that a page is about.
#[derive(Debug, Clone, Copy)]
pub enum PreviewOf<'a> {
    /// This one alone.
    One(&'a Name),
    /// Those behind this one, as many as a page has.
    Behind(Option<&'a Name>),
}

/// Some of the reports, in the order of their domains.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct PreviewPage {
    /// The reports.
    pub reports: Vec<PreviewedReport>,
    /// Whether more follow.
    pub more: bool,
}

/// The report about a domain.
#[derive(Debug, Serialize, Deserialize)]
pub struct PreviewedReport {
    /// The domain.
    pub domain: String,
    /// The reason for which it would go nowhere.
    pub kept_back: Option<String>,
    /// Where it would go.
    pub addresses: Vec<PreviewedAddress>,
    /// The JSON as it would go out now.
    pub report: String,
}

/// An address that asks for a report.
#[derive(Debug, Serialize, Deserialize)]
pub struct PreviewedAddress {
    /// The address.
    pub address: String,
    /// The reason for which it would not go there now.
    pub kept_back: Option<String>,
}

/// A domain and its counts so far.
struct PreviewSubject {
    of: DomainDay,
    policies: TalliedDomain,
}

impl<R: Resolver + Clone> Dispatch<R> {
    /// The reports about the day so far. The counts for the domain of TLSA records are those of all recipients with these
    /// records. In the end, recipients with a report of their own to the same address are left out.
    ///
    /// # Errors
    /// The store of several danelaws cannot be read.
    pub async fn preview(&self, of: PreviewOf<'_>, now: OffsetDateTime) -> Result<PreviewPage, Error> {
        let until = Instant::now() + LOOKUPS;
        let (shared, settings) = (Arc::clone(&self.shared.borrow()), Arc::clone(&self.settings.borrow()));
        let dns = &shared.connector.dns;
        let of_all = self.state_of_all(now.date()).await?;
        let subjects = match &of_all {
            Some(state) => state.preview_subjects(of, now.date()),
            None => self.state.lock().preview_subjects(of, now.date()),
        };
        let mut page = settings.preview_page(&subjects, self.store_id().await?);
        let unverifiable = async {
            let found = tokio::time::timeout_at(until, signers::unverifiable(&settings.signers, dns)).await;
            let late = || KeyNotFound::Lookup("no answer in time".to_owned());
            found.map_or_else(|_| Some(late()), |found| found.map(|found| found.why))
        };
        let lookups = addresses(dns, &page, &subjects, until);
        let (unverifiable, found) = tokio::join!(unverifiable, lookups);
        for (report, found) in page.reports.iter_mut().zip(found) {
            match found {
                Err(why) => report.kept_back = Some(why),
                Ok(addresses) => {
                    let unverifiable = unverifiable.as_ref();
                    let previewed = |address| match &of_all {
                        Some(state) => state.previewed(address, unverifiable, now),
                        None => self.state.lock().previewed(address, unverifiable, now),
                    };
                    report.addresses = addresses.iter().map(previewed).collect();
                }
            }
        }
        Ok(page)
    }
}

/// The addresses of each report on the page, or the reason for none.
fn addresses<R: Resolver + Clone>(
    dns: &R,
    page: &PreviewPage,
    subjects: &[PreviewSubject],
    until: Instant,
) -> impl Future<Output = Vec<Result<Vec<ReportAddress>, String>>> + use<R> {
    // Each has its own parts: a future of references in a task of its own is beyond the compiler.
    let dns = dns.clone();
    let wanted = page.reports.iter().zip(subjects);
    let wanted: Vec<_> = wanted.map(|(report, of)| (report.kept_back.clone(), of.of.domain.clone())).collect();
    let lookups = stream::iter(wanted).map(move |(kept_back, domain)| {
        let dns = dns.clone();
        async move {
            match kept_back {
                Some(why) => Err(why),
                None => match tokio::time::timeout_at(until, record_of(&dns, &domain)).await {
                    Ok(Ok(record)) => Ok(record.addresses),
                    Ok(Err(error)) => Err(error.to_string()),
                    Err(_) => Err("its record could not be looked up in time".to_owned()),
                },
            }
        }
    });
    lookups.buffered(PAGE).collect()
}

impl DispatchState {
    fn previewed(
        &self,
        address: &ReportAddress,
        unverifiable: Option<&KeyNotFound>,
        now: OffsetDateTime,
    ) -> PreviewedAddress {
        let suppressed = self.book.suppressed_until(address, now);
        let kept_back = match (suppressed, address, unverifiable) {
            (Some(until), ..) => Some(format!("it has refused a report, and gets none until {}", until.date())),
            (None, ReportAddress::Mail(_), Some(why)) => Some(format!("mails wait: {why}")),
            (None, ReportAddress::Mail(_), None) | (None, ReportAddress::Https(_), _) => None,
        };
        PreviewedAddress { address: address.to_string(), kept_back }
    }

    /// One more than a page has, so that it is known whether more follow.
    fn preview_subjects(&self, of: PreviewOf<'_>, day: Date) -> Vec<PreviewSubject> {
        let Some(tallied) = self.kept.tally().day(day) else { return Vec::new() };
        let all = subjects(tallied);
        let range = match of {
            PreviewOf::One(domain) => (Bound::Included(domain), Bound::Included(domain)),
            PreviewOf::Behind(Some(domain)) => (Bound::Excluded(domain), Bound::Unbounded),
            PreviewOf::Behind(None) => (Bound::Unbounded, Bound::Unbounded),
        };
        let wanted = all.range::<&Name, _>(range).take(PAGE + 1);
        let subject = |domain: &&Name| {
            let of = DomainDay { day, domain: (*domain).clone() };
            let policies = self.book.content(tallied, &ReportKey { of: of.clone(), address: None });
            PreviewSubject { of, policies }
        };
        wanted.map(subject).collect()
    }
}

impl DispatchSettings {
    /// The first reports, before their addresses are looked up.
    fn preview_page(&self, subjects: &[PreviewSubject], store: &str) -> PreviewPage {
        let (mut page, mut octets) = (PreviewPage::default(), 0);
        for PreviewSubject { of, policies } in subjects {
            if page.reports.len() == PAGE || octets >= MAX_OCTETS {
                page.more = true;
                break;
            }
            let (author, window) = (&self.author, ReportWindow::of(of.day));
            let title = ReportTitle { author, window, domain: &of.domain, store };
            let report = String::from_utf8(title.document(policies).unwrap_or_default()).unwrap_or_default();
            octets += report.len();
            let failed = policies.values().map(ResultCounts::failed).fold(0, u64::saturating_add);
            let kept_back = self.scope.keeps_back(&of.domain, failed).map(|why| why.to_string());
            page.reports.push(PreviewedReport {
                domain: of.domain.to_string(),
                kept_back,
                addresses: Vec::new(),
                report,
            });
        }
        page
    }
}
