//! The TLS reports since the start.

use maud::html;
use time::OffsetDateTime;

use super::super::super::status::{ago, stamp};
use super::{AdminPage, scrolling};
use crate::report::metrics::TlsReportFigures;
use crate::tlsrpt::report_end::ReportEnd;

/// The TLS reports that wait and that were sent; none for a danelaw that sends none.
pub(in crate::admin) fn tls_reports(figures: Option<&TlsReportFigures>, now: OffsetDateTime) -> AdminPage {
    let body = match figures {
        None => html! { p { "This danelaw sends no TLS reports (tlsrpt.mode)." } },
        Some(TlsReportFigures { waiting, last_sent, reports }) => {
            let is_sent = reports.iter().any(|([_, result], _)| *result == ReportEnd::Sent.as_str());
            let last = i64::try_from(*last_sent).ok().and_then(|at| OffsetDateTime::from_unix_timestamp(at).ok());
            let table = html! {
                table {
                    thead { tr { @for title in ["way", "result", "tries"] { th scope="col" { (title) } } } }
                    tbody { @for ([way, result], count) in reports { tr { th scope="row" { (way) } td { (result) } td class="number" { (count) } } } }
                }
            };
            html! {
                p { (waiting) " of those that are due wait to be sent." }
                p {
                    @match last.filter(|_| is_sent) {
                        Some(at) => { "A receiver took one last at " (stamp(at)) ", " (ago(at, now)) " ago." }
                        None => { "No receiver has taken one since danelaw started." }
                    }
                }
                h2 { "Since danelaw started" }
                @if reports.is_empty() { p { "None has ended, and no try was made." } } @else { (scrolling("Reports", &table)) }
                h2 { "Commands" }
                pre { "danelaw tlsrpt show\ndanelaw tlsrpt preview\n" }
            }
        }
    };
    AdminPage::still("TLS reports", body)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Y14.
    #[test]
    fn y14_the_page_tells_of_no_report_that_was_not_sent() {
        let page = |reports| {
            let figures = TlsReportFigures { waiting: 3, last_sent: 1_700_000_000, reports };
            tls_reports(Some(&figures), OffsetDateTime::UNIX_EPOCH).written(None)
        };
        let none = page(Vec::new());
        assert!(none.contains("3 of those that are due wait") && none.contains("No receiver has taken one"), "{none}");
        // `last_sent` is that of the start until one was sent.
        let refused = page(vec![(["mail", ReportEnd::Refused.as_str()], 2)]);
        assert!(refused.contains("No receiver has taken one") && refused.contains("<td>refused</td>"), "{refused}");
        let sent = page(vec![(["https", ReportEnd::Sent.as_str()], 1)]);
        assert!(sent.contains("A receiver took one last at 2023-11-14T22:13:20Z"), "{sent}");
        let off = tls_reports(None, OffsetDateTime::UNIX_EPOCH).written(None);
        assert!(off.contains("This danelaw sends no TLS reports (tlsrpt.mode)."), "{off}");
    }
}
