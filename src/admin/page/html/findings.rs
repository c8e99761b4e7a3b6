//! The findings of the watch.

use maud::{Markup, html};
use time::OffsetDateTime;

use super::super::{MOST_ROWS, watch};
use super::{AdminPage, MAX_TEXT};
use crate::excerpt;
use crate::watch::view::{FindingRow, UnknownRow, WatchView, lasting};

/// The findings of the watch; none for a danelaw that does not watch. The rows of all parts are bounded together.
pub(in crate::admin) fn findings(view: Option<&WatchView>, now: OffsetDateTime) -> AdminPage {
    let body = match view {
        Some(view) => listed(view, now),
        None => html! { p { "This danelaw does not watch (watch.every)." } },
    };
    AdminPage::still("Watch", body)
}

fn listed(view: &WatchView, now: OffsetDateTime) -> Markup {
    let WatchView { findings, unknown, more, .. } = view;
    let of = |state| findings.iter().filter(move |row| row.state == state);
    let ordered: Vec<_> = watch::STATES.iter().flat_map(|(_, state)| of(*state)).take(MOST_ROWS).collect();
    let silent: Vec<&UnknownRow> = unknown.iter().take(MOST_ROWS - ordered.len()).collect();
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
        h3 { bdi { (row.about()) } ": " span class=(watch::class(row.severity)) { (row.severity.as_str()) " " (row.kind.as_str()) } " (" (row.state.as_str()) ")" }
        // A refusal may have words of the host in it.
        @if row.reason.is_some() { p { "Words of the host may stand in this:" } blockquote { (text) } } @else { p { (text) } }
        p { "For " (lasting(now.unix_timestamp() - row.since)) @if row.host.is_some() { ", " (excerpt::cut(row.behind(), MAX_TEXT)) } "." }
        @if let Some(remedy) = &row.remedy { p { strong { "To do: " } (remedy) "." } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::kinds::{FindingKind, Ownership, Severity};
    use crate::watch::view::FindingWord;

    fn row(state: FindingWord, text: &str) -> FindingRow {
        let name = [63, 63, 63, 61].map(|length| "x".repeat(length)).join(".");
        FindingRow {
            severity: Severity::Alarm,
            whose: Ownership::Theirs,
            kind: FindingKind::HostBroken,
            domain: None,
            host: Some(name.clone()),
            domains: vec![name; 5],
            domains_in_all: 1000,
            state,
            since: 0,
            text: text.to_owned(),
            reason: Some("tlsa-mismatch".to_owned()),
            remedy: Some("the host's operator must repair it".to_owned()),
        }
    }

    // Y8.
    #[test]
    fn y8_a_text_of_a_host_is_cut_and_is_no_more_than_text() {
        let text = format!("<script>{}", "&".repeat(500));
        let view = WatchView { findings: vec![row(FindingWord::Active, &text)], ..WatchView::default() };
        let page = findings(Some(&view), OffsetDateTime::UNIX_EPOCH).written(None);
        let shown =
            format!("<blockquote>&lt;script&gt;{}...</blockquote>", "&amp;".repeat(MAX_TEXT - "<script>".len()));
        assert!(page.contains(&shown) && !page.contains("<script"), "{page}");
        let unknown = UnknownRow { domain: "a.test".to_owned(), whose: Ownership::Ours, text };
        let view = WatchView { unknown: vec![unknown], ..WatchView::default() };
        let page = findings(Some(&view), OffsetDateTime::UNIX_EPOCH).written(None);
        assert!(
            page.contains(&format!("&lt;script&gt;{}...</li>", "&amp;".repeat(MAX_TEXT - "<script>".len()))),
            "{page}"
        );
    }

    // Y11.
    #[test]
    fn y11_the_parts_have_their_rows_together() {
        let states = [FindingWord::Active, FindingWord::Suspected, FindingWord::Ended];
        let findings_of_all = states.iter().flat_map(|state| vec![row(*state, &"\"".repeat(500)); 60]).collect();
        let unknown = UnknownRow { domain: "a.test".to_owned(), whose: Ownership::Ours, text: "\"".repeat(500) };
        let view = WatchView { findings: findings_of_all, unknown: vec![unknown; 90], more: 5, ..WatchView::default() };
        let page = findings(Some(&view), OffsetDateTime::UNIX_EPOCH).written(Some("x"));
        assert_eq!(page.matches("<h3>").count(), MOST_ROWS);
        // 60 and 40 of 180, none of the 90, and 5 that the view has left out.
        assert!(page.contains("and 175 more, which <code>danelaw watch --all</code> lists"), "{page}");
        assert!(page.len() <= 256 * 1024, "{}", page.len());
        let few = WatchView { findings: view.findings[..10].to_vec(), more: 0, ..view };
        let page = findings(Some(&few), OffsetDateTime::UNIX_EPOCH).written(None);
        assert!(page.matches("<h3>").count() == 10 && !page.contains(" more, which"), "{page}");
        assert_eq!(page.matches("<bdi>a.test</bdi>").count(), 90);
    }
}
