//! The state of danelaw.

use maud::{Markup, html};
use time::OffsetDateTime;

use super::super::super::status::{self, CapUse, EndingRules, FindingCounts, StatusView, StoreState};
use super::super::{MOST_ROWS, watch};
use super::domains::table_of;
use super::{AdminPage, Renewal, scrolling, times};
use crate::report::recent::{RecentSummary, SeenReason, VerdictCounts};
use crate::version;

/// The state of danelaw.
pub(in crate::admin) fn overview(view: &StatusView) -> AdminPage {
    let StatusView { now, readiness, mode, caps, store, replica: _, recent, ending, findings, reports } = view;
    let mut lines = readiness.lines();
    let first = lines.next().unwrap_or_default();
    let lines: Vec<_> = lines.collect();
    let body = html! {
        p { strong class=(if first == "ready" { "good" } else { "bad" }) { (first) } " · danelaw " (version::VERSION) " · mode " (mode) }
        ul {
            @for line in lines.iter().take(MOST_ROWS) { li { (line) } }
            @if lines.len() > MOST_ROWS { li { "and " (lines.len() - MOST_ROWS) " more lines: " code { "danelaw ready" } } }
            @for cap in caps { (cap_line(*cap)) }
            li class=[(*store == StoreState::Down).then_some("bad")] { "store: " (store.words()) }
            @if let Some(counts) = findings { (finding_line(counts)) }
            @if let Some(waiting) = reports { li { a href="/tlsrpt" { "TLS reports" } " that wait: " (waiting) } }
        }
        @match recent {
            Some(recent) => { (counts(recent, *now)) (frequent(&recent.reasons, *now)) (failing(recent, *now)) }
            None => { p { "Mail is not counted." } }
        }
        (rules(ending))
    };
    AdminPage { title: "State".to_owned(), renewal: Renewal::HalfAMinute, body }
}

fn cap_line(cap: CapUse) -> Markup {
    html! { li { (cap.title) ": " (cap.words()) " " meter aria-label=(cap.title) max=(cap.most.max(1)) value=(cap.used) {} } }
}

fn finding_line(FindingCounts(counts): &FindingCounts) -> Markup {
    html! {
        li {
            a href="/watch" { "Findings of the watch" } ": "
            @for (place, (severity, count)) in counts.iter().enumerate() {
                @if place > 0 { ", " }
                span class=[(*count > 0).then(|| watch::class(*severity))] { (count) " " (severity.as_str()) }
            }
        }
    }
}

fn rules(EndingRules { rows, more }: &EndingRules) -> Markup {
    html! {
        @if !rows.is_empty() {
            h2 { "Rules that end within two weeks, or have ended" }
            ul {
                @for (domains, last) in rows { li { "rule for " bdi { (domains) } ": its last day is " (last) } }
                @if *more > 0 { li { "and " (more) " more: " code { "danelaw rules" } } }
            }
        }
    }
}

/// The columns of attempts.
const VERDICTS: [&str; 4] = ["delivered", "deferred", "rejected", "aborted"];

fn counts(recent: &RecentSummary, now: OffsetDateTime) -> Markup {
    let row = |title: &str, counts: VerdictCounts| {
        let VerdictCounts { delivered, deferred, rejected, aborted } = counts;
        let all = delivered + deferred + rejected + aborted;
        html! {
            tr {
                th scope="row" { (title) }
                @for (count, title) in [delivered, deferred, rejected, aborted].into_iter().zip(VERDICTS) {
                    td class="number" { (count) " " meter aria-label=(format!("share of {title}")) max=(all.max(1)) value=(count) {} }
                }
            }
        }
    };
    let table = html! {
        table {
            thead { tr { th scope="col" { "time" } @for verdict in VERDICTS { th scope="col" class="number" { (verdict) } } } }
            tbody { (row("last hour", recent.hour)) (row("last 24 hours", recent.day)) }
        }
    };
    html! {
        h2 { "Attempts" }
        p { "Counted since " (status::stamp(recent.since)) ", for " (status::ago(recent.since, now)) "." }
        (scrolling("Attempts", &table))
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
