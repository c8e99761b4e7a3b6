//! The page for browsers on the admin port: read-only, for this machine alone, without a script.
//!
//! | path | shows |
//! |---|---|
//! | `/` | the state of danelaw, as `danelaw status` |
//! | `/domains` | the domains that fail, or all of them |
//! | `/domains/NAME` | a domain: its last mail, its rule, its hosts and findings by the watch, commands, a rule to copy |
//! | `/refusals` | the reasons that were seen, with cause and remedy |
//! | `/explain/`, `/explain/ID` | the attempts that can be explained |
//! | `/watch` | the findings of the watch, which it keeps over a restart if there is a store |
//! | `/tlsrpt` | the TLS reports that wait and that were sent |
//!
//! All of it but the watch is about this danelaw since its start.

mod html;
mod watch;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Response, Uri};
use time::OffsetDateTime;

use super::answers::AdminState;
use super::domain::DomainView;
use super::response::of_kind;
use super::status::{self, StatusView};
use crate::name::Name;
use crate::words::words;

pub(crate) use html::month_page;

/// The one style sheet.
const STYLE: &str = include_str!("style.css");
/// How many rows a page has.
const MOST_ROWS: usize = 100;

/// A question that a browser asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PageQuestion {
    /// The state of danelaw.
    Overview,
    /// The domains behind this one.
    Domains(DomainsShown, Option<Name>),
    /// The last mail to this domain.
    Domain(Name),
    /// The reasons that were seen.
    Reasons,
    /// The attempts that can be explained.
    Attempts,
    /// The account of one of them.
    Account(String),
    /// The findings of the watch.
    Findings,
    /// The TLS reports that wait and that were sent.
    TlsReports,
    /// The style sheet.
    Style,
}

/// Which domains are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub(super) enum DomainsShown {
    /// Those that fail.
    Failing,
    /// All that are remembered.
    All,
}

words!(DomainsShown);

impl PageQuestion {
    /// The question at this path, if it is one.
    pub(super) fn of(uri: &Uri) -> Option<Self> {
        let parts: Vec<&str> = uri.path().strip_prefix('/')?.split('/').collect();
        match (parts.as_slice(), uri.query()) {
            ([""], None) => Some(Self::Overview),
            (["style.css"], None) => Some(Self::Style),
            (["refusals"], None) => Some(Self::Reasons),
            (["watch"], None) => Some(Self::Findings),
            (["tlsrpt"], None) => Some(Self::TlsReports),
            (["domains"], query) => {
                let (shown, after) = shown(query.unwrap_or_default())?;
                Some(Self::Domains(shown, after))
            }
            (["domains", name], None) => Some(Self::Domain(Name::parse(name).ok()?)),
            (["explain", ""], None) => Some(Self::Attempts),
            (["explain", id], None) if id.bytes().all(|octet| octet.is_ascii_hexdigit()) => {
                Some(Self::Account((*id).to_owned()))
            }
            _ => None,
        }
    }
}

/// The page that answers a question.
pub(super) fn answer(state: &AdminState, question: &PageQuestion) -> Response<Full<Bytes>> {
    let (shared, now) = (state.shared(), OffsetDateTime::now_utc());
    let (reporter, recent) = (&shared.reporter, shared.reporter.recent());
    let page = match question {
        PageQuestion::Style => return of_kind("text/css; charset=utf-8", STYLE),
        PageQuestion::Overview => html::overview(&StatusView::of(state)),
        PageQuestion::Domains(shown, after) => {
            let listed = recent.map(|recent| match shown {
                DomainsShown::Failing => recent.failing(after.as_ref(), MOST_ROWS),
                DomainsShown::All => recent.all(after.as_ref(), MOST_ROWS),
            });
            html::domains(*shown, &listed.unwrap_or_default(), now)
        }
        PageQuestion::Domain(name) => html::domain(&DomainView::of(state, name)),
        PageQuestion::Reasons => {
            let seen = recent.map(|recent| recent.summary(now, 0).reasons).unwrap_or_default();
            html::reasons(&seen, now)
        }
        PageQuestion::Attempts => html::attempts(&reporter.remembered()),
        PageQuestion::Findings => html::findings(state.watch.as_ref().map(|watch| watch.view()).as_ref(), now),
        PageQuestion::TlsReports => {
            let figures = state.reports.as_ref().map(|_| reporter.metrics().tls_reports());
            html::tls_reports(figures.as_ref(), now)
        }
        PageQuestion::Account(id) => html::account(id, reporter.explain(id).as_deref()),
    };
    of_kind("text/html; charset=utf-8", page.written(status::replica(state).as_deref()))
}

/// The parameters of the list of domains, each at most once.
fn shown(query: &str) -> Option<(DomainsShown, Option<Name>)> {
    let (mut shown, mut after) = (None, None);
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let taken = match parameter.split_once('=')? {
            ("state", "failing") => shown.replace(DomainsShown::Failing).is_some(),
            ("state", "all") => shown.replace(DomainsShown::All).is_some(),
            ("after", name) => after.replace(Name::parse(name).ok()?).is_some(),
            _ => return None,
        };
        if taken {
            return None;
        }
    }
    Some((shown.unwrap_or(DomainsShown::Failing), after))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Y9.
    #[test]
    fn y9_paths_are_names_and_ids() {
        let name = |text: &str| Name::parse(text).unwrap();
        for (path, expected) in [
            ("/", Some(PageQuestion::Overview)),
            ("/style.css", Some(PageQuestion::Style)),
            ("/domains", Some(PageQuestion::Domains(DomainsShown::Failing, None))),
            (
                "/domains?state=all&after=a.example",
                Some(PageQuestion::Domains(DomainsShown::All, Some(name("a.example")))),
            ),
            ("/domains?state=all&state=all", None),
            ("/domains?state=other", None),
            ("/domains?after=a..b", None),
            ("/domains?x", None),
            ("/domains/a.example", Some(PageQuestion::Domain(name("a.example")))),
            ("/domains/", None),
            ("/domains/a.example/b", None),
            ("/domains/%3Cscript%3E", None),
            ("/explain/", Some(PageQuestion::Attempts)),
            ("/explain/5F0C63B1A7D2", Some(PageQuestion::Account("5F0C63B1A7D2".to_owned()))),
            ("/explain/../metrics", None),
            ("/watch", Some(PageQuestion::Findings)),
            ("/watch/a.example", None),
            ("/tlsrpt", Some(PageQuestion::TlsReports)),
            ("/tlsrpt/preview/", None),
            ("/refusals?x=y", None),
            ("//evil.example", None),
            ("/?", None),
        ] {
            assert_eq!(PageQuestion::of(&path.parse().unwrap()), expected, "{path}");
        }
    }
}
