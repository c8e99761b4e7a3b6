//! The pages as HTML. maud escapes each value.

mod month;

use maud::{DOCTYPE, Markup, html};
use time::OffsetDateTime;

use super::super::status::{self, StatusView, StoreState};
use super::{DomainsShown, watch};
use crate::name::Name;
use crate::refusal::Label;
use crate::refusal::table::{ROWS, SILENT};
use crate::report::recent::{ListedDomains, RecentDomain, RecentSummary, SeenReason, VerdictCounts};
use crate::version;
use crate::watch::view::{FindingRow, WatchView, lasting};

pub(crate) use month::month_page;

/// A page that a browser fetches anew by itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Renewal {
    /// Every 30 seconds.
    HalfAMinute,
    /// Never.
    Never,
}

fn page(title: &str, renewal: Renewal, body: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                @if renewal == Renewal::HalfAMinute { meta http-equiv="refresh" content="30"; }
                title { (title) " · danelaw" }
                link rel="stylesheet" href="/style.css";
            }
            body {
                nav aria-label="Pages" {
                    a href="/" { "State" }
                    a href="/domains" { "Domains" }
                    a href="/refusals" { "Refusals" }
                    a href="/explain/" { "Attempts" }
                    a href="/watch" { "Watch" }
                }
                main { h1 { (title) } (body) }
            }
        }
    };
    page.into_string()
}

/// The state of danelaw.
pub(in crate::admin) fn overview(view: &StatusView) -> String {
    let StatusView { now, readiness, sessions: [open, most], store, recent, ending } = view;
    let is_ready = readiness.starts_with("ready\n");
    let body = html! {
        p { strong class=(if is_ready { "good" } else { "bad" }) { (readiness.lines().next().unwrap_or_default()) } " · danelaw " (version::VERSION) }
        ul {
            @for line in readiness.lines().skip(1) { li { (line) } }
            li { (open) " sessions of " (most) }
            @if *store == StoreState::Down { li class="bad" { "the store does not answer: fan-out mail is deferred, and all other mail goes on" } }
        }
        @match recent {
            Some(recent) => { (counts(recent, *now)) (frequent(&recent.reasons, *now)) (failing(recent, *now)) }
            None => { p { "Mail is not counted." } }
        }
        @if !ending.is_empty() {
            h2 { "Rules that end within a week, or have ended" }
            ul { @for (domains, last) in ending { li { "rule for " bdi { (domains) } ": its last day is " (last) } } }
        }
    };
    page("State", Renewal::HalfAMinute, &body)
}

fn counts(recent: &RecentSummary, now: OffsetDateTime) -> Markup {
    let row = |title: &str, counts: VerdictCounts| {
        let VerdictCounts { delivered, deferred, rejected, aborted } = counts;
        html! {
            tr {
                th scope="row" { (title) }
                @for count in [delivered, deferred, rejected, aborted] { td class="number" { (count) } }
            }
        }
    };
    html! {
        h2 { "Attempts" }
        p { "Counted since " (status::stamp(recent.since)) ", for " (status::ago(recent.since, now)) "." }
        div class="scroll" tabindex="0" role="region" aria-label="Attempts" {
            table {
                thead { tr { th scope="col" { "time" } @for verdict in ["delivered", "deferred", "rejected", "aborted"] { th scope="col" class="number" { (verdict) } } } }
                tbody { (row("last hour", recent.hour)) (row("last 24 hours", recent.day)) }
            }
        }
    }
}

fn frequent(reasons: &[SeenReason], now: OffsetDateTime) -> Markup {
    html! {
        h2 { "Reasons since then" }
        @if reasons.is_empty() { p { "None." } } @else {
            ul {
                @for seen in reasons.iter().take(5) {
                    li { (times(seen.times)) " " a href=(format!("/refusals#{}", seen.label)) { (seen.label) } ", last " (status::ago(seen.last, now)) " ago" }
                }
            }
        }
    }
}

fn failing(recent: &RecentSummary, now: OffsetDateTime) -> Markup {
    html! {
        h2 { "Domains whose last mail was refused" }
        p { (recent.failing_domains) " of " (recent.domains) " since then. " a href="/domains" { "All of them" } }
        (table_of(&recent.failing, now))
    }
}

fn table_of(rows: &[(Name, RecentDomain)], now: OffsetDateTime) -> Markup {
    html! {
        @if !rows.is_empty() {
            div class="scroll" tabindex="0" role="region" aria-label="Domains" {
                table {
                    thead { tr { @for title in ["domain", "last mail", "so for", "policy", "delivered / deferred / rejected", "attempt"] { th scope="col" { (title) } } } }
                    tbody { @for (name, domain) in rows { (row_of(name, domain, now)) } }
                }
            }
        }
    }
}

fn row_of(name: &Name, domain: &RecentDomain, now: OffsetDateTime) -> Markup {
    let VerdictCounts { delivered, deferred, rejected, .. } = domain.counts;
    html! {
        tr {
            th scope="row" { a href=(format!("/domains/{name}")) { bdi { (name) } } }
            td class=(if domain.reason.is_some() { "bad" } else { "good" }) { (status::verdict(domain)) }
            td { (status::ago(domain.since, now)) }
            td { (domain.remote.as_ref().map_or("none", |(_, policy)| policy)) }
            td { (delivered) " / " (deferred) " / " (rejected) }
            td { @if domain.reason.is_some() { a href=(format!("/explain/{}", domain.id)) { (domain.id) } } }
        }
    }
}

/// Some of the domains.
pub(in crate::admin) fn domains(shown: DomainsShown, listed: &ListedDomains, now: OffsetDateTime) -> String {
    let ListedDomains { rows, more } = listed;
    let last = rows.last().filter(|_| *more).map(|(name, _)| name);
    let body = html! {
        p {
            @match shown {
                DomainsShown::Failing => { "Those whose last mail was refused. " a href="/domains?state=all" { "All domains" } }
                DomainsShown::All => { "All that are remembered since danelaw started. " a href="/domains" { "Those whose last mail was refused" } }
            }
        }
        @if rows.is_empty() { p { "None." } }
        (table_of(rows, now))
        @if let Some(last) = last { p { a href=(format!("/domains?state={}&after={last}", shown.as_str())) { "More" } } }
    };
    page("Domains", Renewal::Never, &body)
}

/// The last mail to a domain.
pub(in crate::admin) fn domain(name: &Name, found: Option<&RecentDomain>, now: OffsetDateTime) -> String {
    let body = html! {
        @match found {
            Some(domain) => {
                (table_of(&[(name.clone(), domain.clone())], now))
                pre { (status::of_domain(name, domain, now)) }
                @if let Some(reason) = domain.reason { p { a href=(format!("/refusals#{reason}")) { "Cause and remedy" } } }
            }
            None => { p { "No mail to this domain since danelaw has started, or not for a long time." } }
        }
    };
    page(name.as_str(), Renewal::Never, &body)
}

fn times(count: u64) -> String {
    if count == 1 { "1 time".to_owned() } else { format!("{count} times") }
}

/// The reasons that were seen, with cause and remedy.
pub(in crate::admin) fn reasons(seen: &[SeenReason], now: OffsetDateTime) -> String {
    let body = html! {
        @if seen.is_empty() { p { "None since danelaw started." } }
        @for one in seen {
            h2 id=(one.label.as_str()) { (one.label) }
            p {
                (times(one.times)) ", last " (status::ago(one.last, now)) " ago for "
                a href=(format!("/domains/{}", one.domain)) { bdi { (one.domain) } } "."
            }
            @if let Some(words) = words_of(one.label) { p { (words.cause) } p { strong { "To do: " } (words.remedy) "." } }
        }
    };
    page("Refusals", Renewal::Never, &body)
}

/// The words of the table of refusals.
struct ReasonWords {
    cause: &'static str,
    remedy: &'static str,
}

fn words_of(label: Label) -> Option<ReasonWords> {
    let replied = ROWS.iter().find(|row| row.label == label);
    let replied = replied.map(|row| ReasonWords { cause: row.cause, remedy: row.remedy });
    let silent = || SILENT.iter().find(|row| row.label == label);
    replied.or_else(|| silent().map(|row| ReasonWords { cause: row.cause, remedy: row.remedy }))
}

/// The findings of the watch; none for a danelaw that does not watch.
pub(in crate::admin) fn findings(view: Option<&WatchView>, now: OffsetDateTime) -> String {
    let body = html! {
        @match view {
            Some(view) => {
                p { (view.last_look(now.unix_timestamp())) "." }
                @for (title, state) in watch::STATES {
                    @let rows: Vec<_> = view.findings.iter().filter(|row| row.state == state).collect();
                    @if !rows.is_empty() { h2 { (title) } @for row in rows.iter().take(MOST_FINDINGS) { (finding(row, now)) } }
                    @if rows.len() > MOST_FINDINGS { p { "and " (rows.len() - MOST_FINDINGS) " more: danelaw watch --all" } }
                }
                @if view.findings.is_empty() { p { "No finding." } }
                @if !view.unknown.is_empty() {
                    h2 { "Without an answer at the last look" }
                    ul { @for row in view.unknown.iter().take(MOST_FINDINGS) { li { bdi { (row.domain) } ": " (row.text) } } }
                }
            }
            None => { p { "This danelaw does not watch (watch.every)." } }
        }
    };
    page("Watch", Renewal::Never, &body)
}

/// How many findings of one state a page has.
const MOST_FINDINGS: usize = 100;

fn finding(row: &FindingRow, now: OffsetDateTime) -> Markup {
    html! {
        h3 { bdi { (row.about()) } ": " span class=(watch::class(row.severity)) { (row.severity.as_str()) " " (row.kind.as_str()) } }
        // A refusal may have words of the host in it.
        @if row.reason.is_some() { blockquote { (row.text) } } @else { p { (row.text) } }
        p { "For " (lasting(now.unix_timestamp() - row.since)) @if row.host.is_some() { ", " (row.behind()) } "." }
        @if let Some(remedy) = &row.remedy { p { strong { "To do: " } (remedy) "." } }
    }
}

/// The attempts that can be explained, each with its id first.
pub(in crate::admin) fn attempts(lines: &[String]) -> String {
    let body = html! {
        @if lines.is_empty() { p { "No attempt that did not end in a delivery is remembered (admin.remember)." } }
        ul {
            @for line in lines {
                @let (id, rest) = line.split_once(' ').unwrap_or((line, ""));
                li { a href=(format!("/explain/{id}")) { (id) } " " (rest) }
            }
        }
    };
    page("Attempts", Renewal::Never, &body)
}

/// The account of one attempt. Words of a remote stand in it.
pub(in crate::admin) fn account(id: &str, told: Option<&str>) -> String {
    let body = html! {
        @match told {
            Some(told) => { p { "Replies in it are the words of the remote." } pre { (told) } }
            None => { p { "No attempt with this id is remembered." } }
        }
    };
    page(&format!("Attempt {id}"), Renewal::Never, &body)
}
