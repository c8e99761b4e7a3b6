//! How many mails each domain got in a month, and with which result.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::month::{Month, day_of};
use super::{Error, Store, StoreBackend};

/// The most domains of a month. The mails of later domains count for the domain "", which stands for all others.
const MOST_DOMAINS: i64 = 100_000;
/// Attempts without a delivery bring no domain into a month that has this many, so that invented domains leave room for others.
const MOST_DOMAINS_BY_FAILURES: i64 = MOST_DOMAINS / 2;
/// How many rows are read or deleted together. The journal waits meanwhile in a file.
pub(super) const STEP: i64 = 5000;

/// The mails of a domain with one result in a month: those that a write adds, or their sum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailDelta {
    /// The number of the [`Month`].
    pub month: i64,
    /// The domain; empty for all domains that the month had no room for.
    pub domain: String,
    /// The word for the result.
    pub result: String,
    /// How many mails.
    pub mails: i64,
    /// The Julian day of the last one.
    pub last_day: i64,
}

/// Mails that are added in one write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailWrite {
    /// Later writes of a process have higher numbers. A write with the number of one before adds nothing, so that one that is given
    /// up, or whose answer is lost, may be made again.
    pub number: i64,
    /// The mails.
    pub deltas: Vec<MailDelta>,
}

/// A domain that got mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailedDomain {
    /// The domain.
    pub domain: String,
    /// How many mails, since the month in which the time that was asked for begins.
    pub mails: i64,
    /// The Julian day of the last one.
    pub last_day: i64,
}

/// The rows that are read together: those of these months behind a row.
pub(super) struct MailPage {
    pub(super) months: [i64; 2],
    pub(super) after: (i64, String, String),
}

impl Store {
    /// Adds mails that were delivered to the counts of their months, in one transaction.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn add_mails(&self, write: &MailWrite) -> Result<(), Error> {
        self.add_mails_in(MOST_DOMAINS, write).await
    }

    /// Adds attempts that ended without a delivery. Half of the room of a month is for other domains than theirs.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn add_failed_mails(&self, write: &MailWrite) -> Result<(), Error> {
        self.add_mails_in(MOST_DOMAINS_BY_FAILURES, write).await
    }

    /// New domains come into months that have less than so many.
    async fn add_mails_in(&self, most: i64, write: &MailWrite) -> Result<(), Error> {
        self.timed("mails", async {
            match &self.backend {
                StoreBackend::Sqlite(local) => Ok(local.lock().await.sqlite.add_mails(most, write).await?),
                StoreBackend::Postgres(postgres) => postgres.add_mails(most, write).await,
            }
        })
        .await
    }

    /// The mails of a month.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn mails_of(&self, month: i64) -> Result<Vec<MailDelta>, Error> {
        self.mails([month, month]).await
    }

    /// The domains whose last mail with one of these results was on this Julian day or later: at most so many, those with the most
    /// mails first.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn mailed_since(&self, day: i64, results: &[&str], most: usize) -> Result<Vec<MailedDomain>, Error> {
        let first = day_of(day).map_or(0, |day| Month::of(day).number());
        Ok(mailed(self.mails([first, i64::MAX]).await?, day, results, most))
    }

    /// Deletes the counts of months before this one. In a database the month of its own clock stays, whatever the caller's clock says.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn forget_mails(&self, before_month: i64) -> Result<(), Error> {
        loop {
            let deleted = self.timed("mails", async {
                match &self.backend {
                    StoreBackend::Sqlite(local) => Ok(local.lock().await.sqlite.forget_mails(before_month).await?),
                    StoreBackend::Postgres(postgres) => postgres.forget_mails(before_month).await,
                }
            });
            if deleted.await? < STEP {
                return Ok(());
            }
        }
    }

    async fn mails(&self, months: [i64; 2]) -> Result<Vec<MailDelta>, Error> {
        let (mut rows, mut page) = (Vec::new(), MailPage { months, after: (i64::MIN, String::new(), String::new()) });
        loop {
            let part = self.timed("mails", async {
                match &self.backend {
                    StoreBackend::Sqlite(local) => Ok(local.lock().await.sqlite.mails(&page).await?),
                    StoreBackend::Postgres(postgres) => postgres.mails(&page).await,
                }
            });
            let part = part.await?;
            let is_last = i64::try_from(part.len()) != Ok(STEP);
            if let Some(MailDelta { month, domain, result, .. }) = part.last() {
                page.after = (*month, domain.clone(), result.clone());
            }
            rows.extend(part);
            if is_last {
                return Ok(rows);
            }
        }
    }
}

fn mailed(rows: Vec<MailDelta>, day: i64, results: &[&str], most: usize) -> Vec<MailedDomain> {
    let mut domains = BTreeMap::<String, MailedDomain>::new();
    for MailDelta { domain, mails, last_day, result, .. } in rows {
        if domain.is_empty() || !results.contains(&result.as_str()) {
            continue;
        }
        let found = domains.entry(domain.clone()).or_insert(MailedDomain { domain, mails: 0, last_day });
        found.mails = found.mails.saturating_add(mails);
        found.last_day = found.last_day.max(last_day);
    }
    let mut domains: Vec<MailedDomain> = domains.into_values().filter(|found| found.last_day >= day).collect();
    domains.sort_by_key(|found| Reverse(found.mails));
    domains.truncate(most);
    domains
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_domains_with_the_most_mails_come_first_and_others_are_left_out() {
        let row = |month, domain: &str, result: &str, [mails, last_day]: [i64; 2]| {
            let [domain, result] = [domain, result].map(str::to_owned);
            MailDelta { month, domain, result, mails, last_day }
        };
        let rows = || {
            vec![
                row(1, "a.test", "verified", [2, 31]),
                row(2, "a.test", "encrypted", [3, 40]),
                row(1, "b.test", "verified", [9, 29]),
                row(2, "c.test", "verified", [5, 30]),
                row(2, "d.test", "rejected", [50, 40]),
                row(2, "", "verified", [500, 40]),
                row(2, "e.test", "verified", [6, 32]),
            ]
        };
        let found = |day, most| {
            let found = mailed(rows(), day, &["verified", "encrypted"], most);
            found.into_iter().map(|found| (found.domain, found.mails, found.last_day)).collect::<Vec<_>>()
        };
        let of = |domain: &str, mails, last_day| (domain.to_owned(), mails, last_day);
        assert_eq!(found(30, 9), [of("e.test", 6, 32), of("a.test", 5, 40), of("c.test", 5, 30)]);
        assert_eq!(found(29, 1), [of("b.test", 9, 29)]);
        assert_eq!(found(41, 9), []);
    }
}
