//! The report of a month: the share of mail and of domains with each result.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use strum::VariantArray as _;
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use super::result::MailResult;
use crate::store::{MailDelta, Month, day_of};
use crate::version;

/// How many domains are named: those with the most mail.
const BUSIEST: usize = 20;
/// How long after a month the last counts come: each danelaw writes every ten seconds, and clocks differ.
const SETTLED_AFTER: Duration = Duration::minutes(5);
/// How mail is counted.
const COUNTING: &str = "A mail counts once for each domain of its recipients, and a domain once in each row. An attempt without a delivery \
     counts each time: a mail that the client sends again counts again. Attempts that the client ended are not counted. Shares are rounded down.";
/// The deliveries that the configuration let go without DANE, which no result names.
const WITHOUT_DANE: &str = "Where a setting lets mail go without DANE, no result says so: the mail counts by what its session gave, mostly as \
     “encrypted”, “cleartext by a rule” or “verified by a rule's key”. It is not “not enforced” for that, also where the host has a valid \
     TLSA record. Such settings are rules of the levels `encrypt`, `may` and `fingerprint`, rules whose `next_hop` is an address, \
     `tls.level = \"encrypt\"`, `tls.insecure_mx = \"encrypt\"` and negative trust anchors. Read `danelaw rules` and `danelaw config show \
     --changed` beside this report; they show the settings of now, which may have changed since. No mail under “not enforced” is no proof \
     that each valid TLSA record was held to.";

/// Mail, and the domains that it was for. A domain counts once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailTotals {
    /// Mails that were delivered, or else attempts: a mail counts once for each domain of its recipients, and each time that it is
    /// tried.
    pub count: u64,
    /// The domains, as far as they have names.
    pub domains: u64,
}

/// The mail with one result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultTotals {
    /// The word for the result.
    pub result: String,
    /// How many, and to how many domains.
    #[serde(flatten)]
    pub totals: MailTotals,
    /// The day of the last one (UTC).
    pub last_day: Option<String>,
}

/// A domain with much mail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BusyDomain {
    /// The domain.
    pub domain: String,
    /// The counts by the words of their results.
    pub results: BTreeMap<String, u64>,
}

/// The report of a month.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MonthReport {
    /// The month, as in 2026-11.
    pub month: String,
    /// Whether the month has been over for some minutes, so that no danelaw that reaches the store adds to it.
    pub is_over: bool,
    /// When the counts were read (RFC 3339).
    pub written: String,
    /// The version of danelaw that wrote it.
    pub danelaw: String,
    /// All mail that was delivered.
    pub delivered: MailTotals,
    /// All attempts that did not end in a delivery.
    pub not_delivered: MailTotals,
    /// Each result, deliveries first; also those that did not occur.
    pub results: Vec<ResultTotals>,
    /// The part of all that went to domains without a name here: the month had no room for more.
    pub to_other_domains: u64,
    /// Counts with words that only a newer danelaw knows. They are in no other number.
    pub unknown: u64,
    /// The domains with the most mail, delivered or not.
    pub busiest: Vec<BusyDomain>,
    /// The meaning of the numbers, and the facts that no number tells: a sentence or more each.
    pub notes: Vec<String>,
}

/// The domains of some rows.
#[derive(Debug, Default)]
struct SummedRows<'a> {
    count: u64,
    domains: BTreeSet<&'a str>,
    last_day: i64,
}

impl<'a> SummedRows<'a> {
    fn of(rows: impl Iterator<Item = &'a MailDelta>) -> Self {
        let mut summed = Self::default();
        for row in rows {
            summed.count = summed.count.saturating_add(mails(row));
            summed.last_day = summed.last_day.max(row.last_day);
            if !row.domain.is_empty() {
                summed.domains.insert(&row.domain);
            }
        }
        summed
    }

    fn totals(&self) -> MailTotals {
        MailTotals { count: self.count, domains: u64::try_from(self.domains.len()).unwrap_or(u64::MAX) }
    }
}

impl MonthReport {
    /// The report of these rows of a month, at this time.
    pub fn of(month: Month, rows: &[MailDelta], now: OffsetDateTime) -> Self {
        let known = |row: &&MailDelta| row.result.parse::<MailResult>().is_ok();
        let of_kind = |is_delivery: bool| {
            let is = move |row: &&MailDelta| row.result.parse().map(MailResult::is_delivery) == Ok(is_delivery);
            SummedRows::of(rows.iter().filter(is)).totals()
        };
        let of_result = |result: MailResult| {
            let summed = SummedRows::of(rows.iter().filter(|row| row.result == result.as_str()));
            let last_day = (summed.count > 0).then(|| day_of(summed.last_day)).flatten().map(|day| day.to_string());
            ResultTotals { result: result.as_str().to_owned(), totals: summed.totals(), last_day }
        };
        let others = rows.iter().filter(known).filter(|row| row.domain.is_empty());
        let mut report = Self {
            month: month.to_string(),
            is_over: now.checked_sub(SETTLED_AFTER).is_some_and(|then| Month::of(then.date()) > month),
            written: now.replace_nanosecond(0).unwrap_or(now).format(&Rfc3339).unwrap_or_default(),
            danelaw: version::VERSION.to_owned(),
            delivered: of_kind(true),
            not_delivered: of_kind(false),
            results: MailResult::VARIANTS.iter().copied().map(of_result).collect(),
            to_other_domains: SummedRows::of(others).count,
            unknown: SummedRows::of(rows.iter().filter(|row| !known(row))).count,
            busiest: busiest(rows.iter().filter(known)),
            notes: Vec::new(),
        };
        report.notes = report.notes();
        report
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = vec![COUNTING.to_owned(), WITHOUT_DANE.to_owned(), self.gaps()];
        if self.to_other_domains > 0 {
            notes.push(format!(
                "{} of all were for domains beyond the room of the month; these are not among the domains.",
                self.to_other_domains
            ));
        }
        if self.unknown > 0 {
            notes.push(format!("{} more have results that only a newer danelaw knows.", self.unknown));
        }
        notes
    }

    /// The days that the counts do not tell of.
    fn gaps(&self) -> String {
        // Days are written so that they sort as text.
        let last = self.results.iter().filter_map(|row| row.last_day.as_deref()).max();
        let last = last.map_or(String::new(), |day| format!(" The last day with a count is {day}."));
        format!(
            "The counts say nothing of days on which danelaw did not run or did not count, so the month may be counted in part.{last} The \
             report does not know the first day."
        )
    }

    /// Each result that this program knows, with its totals.
    pub fn known_results(&self) -> impl Iterator<Item = (MailResult, MailTotals)> {
        self.results.iter().filter_map(|row| Some((row.result.parse().ok()?, row.totals)))
    }
}

/// A part of a whole in percent, rounded down: all of it is no less than that. Empty if there is no whole.
pub fn share(part: u64, whole: u64) -> String {
    if whole == 0 {
        return String::new();
    }
    match u128::from(part) * 1000 / u128::from(whole) {
        0 if part > 0 => "<0.1 %".to_owned(),
        tenths => format!("{}.{} %", tenths / 10, tenths % 10),
    }
}

fn mails(row: &MailDelta) -> u64 {
    u64::try_from(row.mails).unwrap_or_default()
}

fn busiest<'a>(rows: impl Iterator<Item = &'a MailDelta>) -> Vec<BusyDomain> {
    let mut domains = BTreeMap::<&str, BTreeMap<String, u64>>::new();
    for row in rows.filter(|row| !row.domain.is_empty()) {
        *domains.entry(&row.domain).or_default().entry(row.result.clone()).or_default() += mails(row);
    }
    let mut domains: Vec<_> = domains.into_iter().collect();
    domains.sort_by_key(|(_, results)| Reverse(results.values().sum::<u64>()));
    domains.truncate(BUSIEST);
    domains.into_iter().map(|(domain, results)| BusyDomain { domain: domain.to_owned(), results }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_never_rounded_up() {
        for (part, whole, text) in [
            (1, 1, "100.0 %"),
            (9_999, 10_000, "99.9 %"),
            (999_999, 1_000_000, "99.9 %"),
            (1, 3, "33.3 %"),
            (0, 5, "0.0 %"),
            (1, 5_000, "<0.1 %"),
            (0, 0, ""),
            (u64::MAX, u64::MAX, "100.0 %"),
        ] {
            assert_eq!(share(part, whole), text, "{part} of {whole}");
        }
    }

    fn row(domain: &str, result: &str, [mails, last_day]: [i64; 2]) -> MailDelta {
        let [domain, result] = [domain, result].map(str::to_owned);
        MailDelta { month: 2020 * 12, domain, result, mails, last_day }
    }

    #[test]
    fn the_numbers_add_up_and_a_domain_counts_once() {
        let rows = [
            row("a.example", "dane", [10, 2_458_850]),
            row("a.example", "encrypted", [2, 2_458_851]),
            row("a.example", "refused", [5, 2_458_852]),
            row("b.example", "dane", [1, 2_458_860]),
            row("c.example", "cleartext", [3, 2_458_850]),
            row("c.example", "rejected", [1, 2_458_850]),
            row("", "dane", [7, 2_458_849]),
            row("d.example", "of-next-year", [9, 2_458_850]),
        ];
        let now = OffsetDateTime::UNIX_EPOCH + time::Duration::days(18_270);
        let report = MonthReport::of("2020-01".parse().unwrap(), &rows, now);
        assert_eq!(report.delivered, MailTotals { count: 23, domains: 3 });
        assert_eq!(report.not_delivered, MailTotals { count: 6, domains: 2 });
        assert_eq!((report.to_other_domains, report.unknown, report.is_over), (7, 9, false));
        let of = |result: MailResult| report.results.iter().find(|row| row.result == result.as_str()).unwrap();
        let dane = of(MailResult::Dane);
        assert_eq!((dane.totals.count, dane.totals.domains, dane.last_day.as_deref()), (18, 2, Some("2020-01-11")));
        let none = of(MailResult::MtaSts);
        assert_eq!((none.totals, &none.last_day), (MailTotals::default(), &None));
        assert_eq!(report.known_results().map(|(_, totals)| totals.count).sum::<u64>(), 29);
        assert_eq!(
            report.busiest.iter().map(|domain| domain.domain.as_str()).collect::<Vec<_>>(),
            ["a.example", "c.example", "b.example"]
        );
        let notes = report.notes.join("\n");
        for part in [
            "7 of all were for",
            "9 more have",
            "The last day with a count is 2020-01-11.",
            "no proof",
            "`danelaw rules`",
        ] {
            assert!(notes.contains(part), "{part} is not in {notes}");
        }
        // It is read as it was written, and its month is over later.
        let written = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<MonthReport>(&written).unwrap(), report);
    }

    #[test]
    fn a_month_is_over_when_others_have_written_too() {
        // 2020-02-01.
        let end = OffsetDateTime::UNIX_EPOCH + Duration::days(18_293);
        for (seconds, is_over) in [(-1, false), (0, false), (299, false), (300, true), (86_400 * 40, true)] {
            let report = MonthReport::of("2020-01".parse().unwrap(), &[], end + Duration::seconds(seconds));
            assert_eq!(report.is_over, is_over, "{seconds}");
        }
        let notes = MonthReport::of("2020-01".parse().unwrap(), &[], end).notes;
        assert!(notes.len() == 3 && !notes[2].contains("last day"), "{notes:?}");
    }
}
