//! The state of reports as rows of the store.

use std::sync::Arc;

use time::{Date, OffsetDateTime};

use super::DispatchState;
use crate::name::Name;
use crate::store::{CountsRow, DomainTally, ReportRow, ReportRows, SuppressedRow, TallyDelta};
use crate::tlsrpt::document::ReportAuthor;
use crate::tlsrpt::kept::{AddedResult, KeptTally, TallyRow};
use crate::tlsrpt::record::ReportAddress;
use crate::tlsrpt::report_end::ReportEnd;
use crate::tlsrpt::schedule::{ReportBook, ReportEntry, ReportKey, ReportSuppression};
use crate::tlsrpt::tally::DomainDay;

impl ReportRows {
    pub(super) fn is_empty(&self) -> bool {
        self.counts.is_empty() && self.reports.is_empty() && self.suppressed.is_empty()
    }
}

/// The state that these rows describe. A row that danelaw did not write is left out.
pub(super) fn restored(rows: ReportRows) -> DispatchState {
    let mut state = DispatchState::default();
    for CountsRow { day, domain, counts } in rows.counts {
        if let Some(of) = domain_day(day, &domain) {
            state.kept.restore(&TallyRow { of, counts });
        }
    }
    restore_reports(&mut state.book, rows.reports);
    restore_suppressions(&mut state.book, rows.suppressed);
    state
}

/// Takes up the states of reports.
pub(super) fn restore_reports(book: &mut ReportBook, rows: Vec<ReportRow>) {
    for row in rows {
        if let Some(key) = key(&row)
            && let Some(entry) = entry(&row)
        {
            book.restore(key, entry);
        }
    }
}

/// Takes up the addresses that have refused a report.
pub(super) fn restore_suppressions(book: &mut ReportBook, rows: Vec<SuppressedRow>) {
    for row in rows {
        if let (Ok(address), Some(suppression)) = (ReportAddress::parse(&row.address), suppression(&row)) {
            book.restore_suppression(address, suppression);
        }
    }
}

pub(super) fn suppression(row: &SuppressedRow) -> Option<ReportSuppression> {
    let until = OffsetDateTime::from_unix_timestamp(row.until?).ok()?;
    Some(ReportSuppression { until, level: row.level.try_into().ok()? })
}

/// These counts, and as many changes in the book as one write may have besides.
pub(super) fn changed(unwritten: &[TallyRow], book: &mut ReportBook, most: usize) -> ReportRows {
    let most = most.saturating_sub(unwritten.len());
    let counts = unwritten.iter().map(|row| CountsRow {
        day: i64::from(row.of.day.to_julian_day()),
        domain: row.of.domain.to_string(),
        counts: row.counts.clone(),
    });
    let counts = counts.collect();
    let keys = book.take_changed(most);
    let reports = keys.iter().filter_map(|key| Some(report_row(key, book.entry(key)?))).collect();
    let suppressed = suppressed(book, most.saturating_sub(keys.len()));
    ReportRows { counts, reports, suppressed }
}

/// So many changes of addresses that have refused a report.
pub(super) fn suppressed(book: &mut ReportBook, most: usize) -> Vec<SuppressedRow> {
    let row = |(address, suppression): (ReportAddress, Option<ReportSuppression>)| SuppressedRow {
        address: address.to_string(),
        until: suppression.map(|suppression| suppression.until.unix_timestamp()),
        level: suppression.map_or(0, |suppression| i64::try_from(suppression.level).unwrap_or(i64::MAX)),
    };
    book.take_changed_suppressions(most).into_iter().map(row).collect()
}

/// These could not be written.
pub(super) fn put_back(rows: &ReportRows, book: &mut ReportBook) {
    book.put_back(rows.reports.iter().filter_map(key));
    put_back_suppressed(&rows.suppressed, book);
}

/// These could not be written.
pub(super) fn put_back_suppressed(rows: &[SuppressedRow], book: &mut ReportBook) {
    for row in rows {
        if let Ok(address) = ReportAddress::parse(&row.address) {
            book.put_back_suppression(address);
        }
    }
}

/// A result as a row of a database.
pub(super) fn delta(row: AddedResult) -> TallyDelta {
    TallyDelta {
        day: i64::from(row.of.day.to_julian_day()),
        domain: row.of.domain.to_string(),
        owner: row.of.domain.registered().to_string(),
        counted: row.counted,
        count: i64::try_from(row.times).unwrap_or(i64::MAX),
    }
}

/// Takes up the counts of a database. A row that danelaw did not write is left out.
pub(super) fn restore_counts(kept: &mut KeptTally, rows: Vec<DomainTally>) {
    let added = |DomainTally { day, domain, counted, count }| {
        Some(AddedResult { of: domain_day(day, &domain)?, counted, times: u64::try_from(count).ok()? })
    };
    kept.restore_added(&rows.into_iter().filter_map(added).collect::<Vec<_>>());
}

pub(super) fn report_row(key: &ReportKey, entry: &ReportEntry) -> ReportRow {
    ReportRow {
        day: i64::from(key.of.day.to_julian_day()),
        domain: key.of.domain.to_string(),
        address: key.address.as_ref().map(ReportAddress::to_string).unwrap_or_default(),
        state: entry.end.map(ReportEnd::as_str).unwrap_or_default().to_owned(),
        first: entry.first.unix_timestamp(),
        tries: i64::try_from(entry.tries).unwrap_or(i64::MAX),
        next: entry.next.unix_timestamp(),
        organization: entry.author.as_ref().map(|author| author.organization.clone()).unwrap_or_default(),
        contact: entry.author.as_ref().map(|author| author.contact.clone()).unwrap_or_default(),
    }
}

fn domain_day(of: i64, domain: &str) -> Option<DomainDay> {
    Some(DomainDay { day: day(of)?, domain: Name::parse(domain).ok()? })
}

/// The date of a Julian day.
pub(super) fn day(julian: i64) -> Option<Date> {
    Date::from_julian_day(i32::try_from(julian).ok()?).ok()
}

pub(super) fn key(row: &ReportRow) -> Option<ReportKey> {
    let address = match row.address.as_str() {
        "" => None,
        address => Some(ReportAddress::parse(address).ok()?),
    };
    Some(ReportKey { of: domain_day(row.day, &row.domain)?, address })
}

pub(super) fn entry(row: &ReportRow) -> Option<ReportEntry> {
    let time = |seconds| OffsetDateTime::from_unix_timestamp(seconds).ok();
    let end = match row.state.as_str() {
        "" => None,
        word => Some(word.parse().ok()?),
    };
    let author = ReportAuthor::of(&row.organization, &row.contact).map(Arc::new);
    let tries = usize::try_from(row.tries).ok()?;
    Some(ReportEntry { first: time(row.first)?, tries, next: time(row.next)?, end, author })
}
