//! The report of a month as one page that needs no other file, for `danelaw report --html`.

use maud::{DOCTYPE, Markup, html};
use strum::VariantArray as _;

use crate::report::guidelines::{NOT_ANSWERED, SENTENCES};
use crate::report::month::{BusyDomain, MailTotals, MonthReport, share};
use crate::report::result::MailResult;

/// It has no character that HTML escapes.
const STYLE: &str = "
:root { color-scheme: light dark; --edge: #8886; --verified: #1b6e3c; --encrypted: #2d6cb5; --clear: #b3261e; --other: #777; }
@media (prefers-color-scheme: dark) { :root { --verified: #81c995; --encrypted: #8ab4f8; --clear: #ff8a80; --other: #aaa; } }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 60rem; padding: 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.15rem; }
table { border-collapse: collapse; width: 100%; }
th, td { border-bottom: 1px solid var(--edge); padding: .3rem .6rem .3rem 0; text-align: left; vertical-align: top; }
td.number, th.number { text-align: right; white-space: nowrap; }
svg { display: block; height: auto; max-width: 100%; }
svg text { fill: currentColor; font-size: 13px; }
.verified { fill: var(--verified); } .encrypted { fill: var(--encrypted); } .clear { fill: var(--clear); } .other { fill: var(--other); }
@media print { body { max-width: none; } h2 { break-after: avoid; } tr { break-inside: avoid; } }
";
/// The place of a row of the plot, and the widths of its parts.
const ROW: u64 = 24;
const TITLE: u64 = 240;
const BAR: u64 = 260;
const WIDTH: u64 = 640;

/// One of the two tables.
#[derive(Clone, Copy, PartialEq, Eq)]
enum MonthTable {
    /// Mail that was delivered.
    Delivered,
    /// Attempts that were not.
    NotDelivered,
}

impl MonthTable {
    const fn title(self) -> &'static str {
        match self {
            Self::Delivered => "Mail that was delivered",
            Self::NotDelivered => "Attempts without a delivery",
        }
    }

    const fn unit(self) -> &'static str {
        match self {
            Self::Delivered => "mails",
            Self::NotDelivered => "attempts",
        }
    }

    fn results(self, report: &MonthReport) -> Vec<(MailResult, MailTotals)> {
        let is_delivered = self == Self::Delivered;
        report.known_results().filter(|(result, _)| result.is_delivery() == is_delivered).collect()
    }

    const fn all(self, report: &MonthReport) -> MailTotals {
        match self {
            Self::Delivered => report.delivered,
            Self::NotDelivered => report.not_delivered,
        }
    }
}

/// The page.
pub(crate) fn month_page(report: &MonthReport) -> String {
    let so_far = if report.is_over { "" } else { " so far" };
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'";
                title { "Mail of " (report.month) " · danelaw" }
                style { (STYLE) }
            }
            body {
                main {
                    h1 { "Mail of " (report.month) (so_far) }
                    p { "Read at " (report.written) " by danelaw " (report.danelaw) ". Months and days are those of UTC." }
                    @for table in [MonthTable::Delivered, MonthTable::NotDelivered] { (section(table, report)) }
                    @for note in &report.notes { p { (plain(note)) } }
                    (busiest(&report.busiest))
                    (meanings())
                    (guidelines())
                }
            }
        }
    };
    page.into_string()
}

fn section(table: MonthTable, report: &MonthReport) -> Markup {
    let (results, all) = (table.results(report), table.all(report));
    html! {
        h2 { (table.title()) }
        (plot(table, &results, all))
        table {
            thead { tr {
                th scope="col" { "result" }
                @for title in [table.unit(), "share", "domains", "share"] { th scope="col" class="number" { (title) } }
            } }
            tbody {
                @for (result, totals) in &results { (row(result.title(), *totals, all)) }
                (row("all", all, all))
            }
        }
    }
}

fn row(title: &str, totals: MailTotals, all: MailTotals) -> Markup {
    html! {
        tr {
            th scope="row" { (title) }
            td class="number" { (totals.count) }
            td class="number" { (share(totals.count, all.count)) }
            td class="number" { (totals.domains) }
            td class="number" { (share(totals.domains, all.domains)) }
        }
    }
}

/// A bar for each result. The table below has the same numbers.
fn plot(table: MonthTable, results: &[(MailResult, MailTotals)], all: MailTotals) -> Markup {
    let rows = u64::try_from(results.len()).unwrap_or_default();
    let places = (0..rows).map(|place| place * ROW);
    html! {
        svg viewBox=(format!("0 0 {WIDTH} {}", rows * ROW)) width=(WIDTH) height=(rows * ROW) role="img" {
            title { (table.title()) ", " (table.unit()) " by result" }
            @for (y, (result, totals)) in places.zip(results) {
                text x="0" y=(y + 16) { (result.title()) }
                rect class=(class(*result)) x=(TITLE) y=(y + 4) width=(width(totals.count, all.count)) height=(ROW - 8) {}
                text x=(TITLE + BAR + 10) y=(y + 16) { (totals.count) " " (share(totals.count, all.count)) }
            }
        }
    }
}

/// A result that occurred has a bar that can be seen.
fn width(part: u64, whole: u64) -> u64 {
    match (part, whole) {
        (0, _) | (_, 0) => 0,
        (part, whole) => u64::try_from(u128::from(part) * u128::from(BAR) / u128::from(whole)).unwrap_or(BAR).max(2),
    }
}

const fn class(result: MailResult) -> &'static str {
    match result {
        MailResult::Dane | MailResult::DaneHost | MailResult::MtaSts => "verified",
        MailResult::Pkix | MailResult::Fingerprint => "verified",
        MailResult::Encrypted => "encrypted",
        MailResult::EncryptedUnenforced | MailResult::Cleartext | MailResult::CleartextUnenforced => "clear",
        MailResult::Unclaimed => "clear",
        MailResult::Refused | MailResult::NoDnsAnswer | MailResult::Deferred | MailResult::Rejected => "other",
    }
}

/// The words without the marks of Markdown.
fn plain(text: &str) -> String {
    text.replace('`', "")
}

fn busiest(domains: &[BusyDomain]) -> Markup {
    let results = |domain: &BusyDomain| {
        let known = |(word, count): (&String, &u64)| Some((word.parse::<MailResult>().ok()?, *count));
        let mut results: Vec<_> = domain.results.iter().filter_map(known).collect();
        results.sort_unstable();
        let results = results.into_iter().map(|(result, count)| format!("{}: {count}", result.title()));
        results.collect::<Vec<_>>().join(", ")
    };
    html! {
        h2 { "The domains with the most mail" }
        table {
            thead { tr { @for title in ["domain", "results"] { th scope="col" { (title) } } } }
            tbody { @for domain in domains { tr { th scope="row" { bdi { (domain.domain) } } td { (results(domain)) } } } }
        }
    }
}

fn meanings() -> Markup {
    html! {
        h2 { "The results" }
        table {
            thead { tr { @for title in ["result", "meaning"] { th scope="col" { (title) } } } }
            tbody { @for result in MailResult::VARIANTS { tr { th scope="row" { (result.title()) } td { (plain(result.meaning())) } } } }
        }
    }
}

fn guidelines() -> Markup {
    html! {
        h2 { "Guidelines" }
        table {
            thead { tr { @for title in ["sentence", "answered here", "not answered here"] { th scope="col" { (title) } } } }
            tbody {
                @for one in &SENTENCES {
                    tr {
                        td { q { (one.sentence) } br; small { (one.source) } }
                        td { (plain(one.answers)) }
                        td { (plain(one.leaves)) }
                    }
                }
            }
        }
        p { (plain(NOT_ANSWERED)) }
    }
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;
    use crate::store::MailDelta;

    #[test]
    fn no_text_of_the_report_is_more_than_text() {
        let row = |domain: &str, mails| MailDelta {
            month: 2020 * 12,
            domain: domain.to_owned(),
            result: "dane".to_owned(),
            mails,
            last_day: 2_458_850,
        };
        let rows = [row("<script>alert(1)</script>", 7), row("\"><img src=x>", 2)];
        let mut report = MonthReport::of("2020-01".parse().unwrap(), &rows, OffsetDateTime::UNIX_EPOCH);
        report.danelaw = "</title><b>".to_owned();
        let page = month_page(&report);
        for part in ["<script", "<img", "<b>", "href=", "http:"] {
            assert!(!page.contains(part), "{part} is in {page}");
        }
        assert!(page.contains("&lt;script&gt;alert(1)") && page.contains("Mail of 2020-01 so far"), "{page}");
        assert!(page.contains("no proof that each valid TLSA record was held to") && !page.contains('`'), "{page}");
        assert!(STYLE.bytes().all(|octet| !b"<>&\"".contains(&octet)));
    }

    #[test]
    fn bars_fit_and_can_be_seen() {
        for (part, whole, expected) in [(0, 0, 0), (0, 5, 0), (5, 5, BAR), (1, u64::MAX, 2), (1, 2, BAR / 2)] {
            assert_eq!(width(part, whole), expected, "{part} of {whole}");
        }
    }
}
