//! The findings of the watch.

use maud::{Markup, html};
use time::OffsetDateTime;

use super::super::{ROWS, watch};
use super::{MAX_TEXT, Page};
use crate::excerpt;
use crate::watch::view::{FindingRow, UnknownRow, WatchView, lasting};

/// The findings of the watch; none for a danelaw that does not watch. The rows of all parts are bounded together.
pub(in crate::admin) fn findings(view: Option<&WatchView>, now: OffsetDateTime) -> Page {
    let body = match view {
        Some(view) => listed(view, now),
        None => html! { p { "This danelaw does not watch (watch.every)." } },
    };
    Page::still("Watch", body)
}

fn listed(view: &WatchView, now: OffsetDateTime) -> Markup {
    let WatchView { findings, unknown, more, .. } = view;
    let of = |state| findings.iter().filter(move |row| row.state == state);
    let ordered: Vec<_> = watch::STATES.iter().flat_map(|(_, state)| of(*state)).take(ROWS).collect();
    let silent: Vec<&UnknownRow> = unknown.iter().take(ROWS - ordered.len()).collect();
    let left = findings.len() + more + unknown.len() - ordered.len() - silent.len();
    html! {
        p { (view.last_look(now.unix_timestamp())) "." }
        @for (title, state) in watch::STATES {
            @let rows: Vec<_> = ordered.iter().filter(|row| row.state == state).collect();
            @if !rows.is_empty() { h2 { (title) } @for row in rows { (finding(row, now)) } }
        }
        @if findings.is_empty() { p { "No finding." } }
        @if !silent.is_empty() {
            h2 { "Without an answer at the last look" }
            ul { @for row in silent { li { bdi { (row.domain) } ": " (excerpt::cut(&row.text, MAX_TEXT)) } } }
        }
        @if left > 0 { p { "and " (left) " more, which " code { "danelaw watch --all" } " lists." } }
    }
}

/// One finding.
pub(super) fn finding(row: &FindingRow, now: OffsetDateTime) -> Markup {
    let text = excerpt::cut(&row.text, MAX_TEXT);
    html! {
        h3 { bdi { (row.about()) } ": " span class=(watch::class(row.severity)) { (row.severity.as_str()) " " (row.kind.as_str()) } }
        // A refusal may have words of the host in it.
        @if row.reason.is_some() { p { "Words of the host may stand in this:" } blockquote { (text) } } @else { p { (text) } }
        p { "For " (lasting(now.unix_timestamp() - row.since)) @if row.host.is_some() { ", " (excerpt::cut(row.behind(), MAX_TEXT)) } "." }
        @if let Some(remedy) = &row.remedy { p { strong { "To do: " } (remedy) "." } }
    }
}
