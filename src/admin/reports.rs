//! The answers about TLS reports.

use hyper::Uri;
use serde::Serialize;
use time::{Date, OffsetDateTime};

use super::client::{COUNTS, PREVIEW};
use crate::dispatch::Dispatch;
use crate::dispatch::preview::PreviewOf;
use crate::dns::stub::Stub;
use crate::last_day;
use crate::name::Name;
use crate::store::Error;

/// The parameter with the last domain of the page before.
const AFTER: &str = "after=";

/// A question about TLS reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ReportQuestion {
    /// The counts of a day, for the domains behind this one.
    Counts(Date, Option<Name>),
    /// The reports about today, for the domains behind this one.
    Preview(Option<Name>),
    /// The report about today for this domain.
    PreviewOne(Name),
}

impl ReportQuestion {
    /// The question at this path, if it is one.
    pub(super) fn of(uri: &Uri) -> Option<Self> {
        let after = match uri.query() {
            Some(query) => Some(Name::parse(query.strip_prefix(AFTER)?).ok()?),
            None => None,
        };
        if let Some(day) = uri.path().strip_prefix(COUNTS) {
            return Some(Self::Counts(last_day::parsed(day)?, after));
        }
        match uri.path().strip_prefix(PREVIEW)? {
            "" => Some(Self::Preview(after)),
            domain => Some(Self::PreviewOne(Name::parse(domain).ok()?)),
        }
    }

    /// The answer, as JSON.
    ///
    /// # Errors
    /// The database cannot be read.
    pub(super) async fn answer(&self, dispatch: &Dispatch<Stub>) -> Result<String, Error> {
        let now = OffsetDateTime::now_utc();
        Ok(match self {
            Self::Counts(day, after) => json(&dispatch.counts_of_all(*day, after.as_ref()).await?),
            Self::Preview(after) => json(&dispatch.preview(PreviewOf::Behind(after.as_ref()), now).await?),
            Self::PreviewOne(domain) => json(&dispatch.preview(PreviewOf::One(domain), now).await?),
        })
    }
}

/// It is text and numbers, which can always be written.
fn json(page: &impl Serialize) -> String {
    serde_json::to_string(page).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_that_are_understood() {
        use ReportQuestion::{Counts, Preview, PreviewOne};
        let name = |text: &str| Name::parse(text).unwrap();
        let day = Date::from_calendar_date(2026, time::Month::November, 28).unwrap();
        for (uri, expected) in [
            ("/tlsrpt/counts/2026-11-28", Some(Counts(day, None))),
            ("/tlsrpt/counts/2026-11-28?after=a.example", Some(Counts(day, Some(name("a.example"))))),
            ("/tlsrpt/counts/today", None),
            ("/tlsrpt/counts/2026-11-28?before=a.example", None),
            ("/tlsrpt/counts/2026-11-28?after=a..example", None),
            ("/tlsrpt/preview/", Some(Preview(None))),
            ("/tlsrpt/preview/?after=a.example", Some(Preview(Some(name("a.example"))))),
            ("/tlsrpt/preview/a.example", Some(PreviewOne(name("a.example")))),
            ("/tlsrpt/preview/../livez", None),
            ("/tlsrpt/", None),
        ] {
            assert_eq!(ReportQuestion::of(&uri.parse().unwrap()), expected, "{uri}");
        }
    }
}
