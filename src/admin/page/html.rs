//! The pages as HTML. maud escapes each value.

mod domains;
mod findings;
mod month;
mod state;
mod tlsrpt;

use maud::{DOCTYPE, Markup, html};
use time::OffsetDateTime;

use super::super::status;
use super::MOST_ROWS;
use crate::report::recent::SeenReason;

pub(in crate::admin) use domains::{domain, domains};
pub(in crate::admin) use findings::findings;
pub(crate) use month::month_page;
pub(in crate::admin) use state::overview;
pub(in crate::admin) use tlsrpt::tls_reports;

/// The most characters of a text that may have a stranger's words in it.
const MAX_TEXT: usize = 200;

/// A page.
pub(in crate::admin) struct AdminPage {
    title: String,
    renewal: Renewal,
    body: Markup,
}

/// Whether a browser fetches a page anew by itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Renewal {
    /// Every 30 seconds.
    HalfAMinute,
    /// Never.
    Never,
}

impl AdminPage {
    fn still(title: &str, body: Markup) -> Self {
        Self { title: title.to_owned(), renewal: Renewal::Never, body }
    }

    /// The page as HTML, with the words about one danelaw of several.
    pub(in crate::admin) fn written(&self, replica: Option<&str>) -> String {
        let Self { title, renewal, body } = self;
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    @if *renewal == Renewal::HalfAMinute { meta http-equiv="refresh" content="30"; }
                    title { (title) " · danelaw" }
                    link rel="stylesheet" href="/style.css";
                }
                body {
                    nav aria-label="Pages" {
                        a href="/" { "State" } " "
                        a href="/domains" { "Domains" } " "
                        a href="/refusals" { "Refusals" } " "
                        a href="/explain/" { "Attempts" } " "
                        a href="/watch" { "Watch" } " "
                        a href="/tlsrpt" { "TLS reports" }
                    }
                    main { h1 { (title) } (body) }
                    @if let Some(replica) = replica { footer { p { "This is " (replica) "." } } }
                }
            }
        };
        page.into_string()
    }
}

/// A table that scrolls by itself where it is too wide.
fn scrolling(label: &str, table: &Markup) -> Markup {
    html! { div class="scroll" tabindex="0" role="region" aria-label=(label) { (table) } }
}

fn times(count: u64) -> String {
    if count == 1 { "1 time".to_owned() } else { format!("{count} times") }
}

/// The reasons that were seen, with cause and remedy.
pub(in crate::admin) fn reasons(seen: &[SeenReason], now: OffsetDateTime) -> AdminPage {
    let body = html! {
        @if seen.is_empty() { p { "None since danelaw started." } }
        @for one in seen {
            h2 id=(one.label.as_str()) { (one.label) }
            p {
                (times(one.times)) ", last " (status::ago(one.last, now)) " ago for "
                a href=(format!("/domains/{}", one.domain)) { bdi { (one.domain) } } "."
            }
            p { (one.label.cause()) }
            p { strong { "To do: " } (one.label.remedy()) "." }
        }
    };
    AdminPage::still("Refusals", body)
}

/// The attempts that can be explained, each with its id first.
pub(in crate::admin) fn attempts(lines: &[String]) -> AdminPage {
    let body = html! {
        @if lines.is_empty() { p { "No attempt that did not end in a delivery is remembered (admin.remember)." } }
        ul {
            @for line in lines.iter().take(MOST_ROWS) {
                @let (id, rest) = line.split_once(' ').unwrap_or((line, ""));
                li { a href=(format!("/explain/{id}")) { (id) } " " (rest) }
            }
        }
        @if lines.len() > MOST_ROWS { p { "and " (lines.len() - MOST_ROWS) " more, which " code { "danelaw explain" } " lists." } }
    };
    AdminPage::still("Attempts", body)
}

/// The account of one attempt. Words of a remote stand in it.
pub(in crate::admin) fn account(id: &str, told: Option<&str>) -> AdminPage {
    let body = html! {
        @match told {
            Some(told) => { p { "Replies in it are the words of the remote." } pre { (told) } }
            None => { p { "No attempt with this id is remembered." } }
        }
    };
    AdminPage::still(&format!("Attempt {id}"), body)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Y11.
    #[test]
    fn y11_an_account_of_the_greatest_length_fits_in_a_page() {
        // `report::ring` bounds accounts to 20,000 octets, and a quote takes six octets in HTML.
        let page = account("0123456789AB", Some(&"\"".repeat(20_100))).written(None);
        assert!(page.len() <= 256 * 1024, "{}", page.len());
    }

    // Y15.
    #[test]
    fn y15_one_of_several_says_so_on_each_page() {
        let words = "this is danelaw on mail1.example";
        for page in [
            attempts(&[]),
            reasons(&[], OffsetDateTime::UNIX_EPOCH),
            account("0", None),
            findings(None, OffsetDateTime::UNIX_EPOCH),
        ] {
            assert!(page.written(Some(words)).contains(&format!("<footer><p>This is {words}.</p></footer>")));
            assert!(!page.written(None).contains("<footer>"));
        }
    }
}
