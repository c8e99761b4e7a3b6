//! The TLS reports since the start.

use maud::html;
use time::OffsetDateTime;

use super::super::super::status::{ago, stamp};
use super::{Page, scrolling};
use crate::report::metrics::TlsReportFigures;

/// The result of a report that its receiver has taken.
const SENT: &str = "sent";

/// The TLS reports that wait and that were sent; none for a danelaw that sends none.
pub(in crate::admin) fn tls_reports(figures: Option<&TlsReportFigures>, now: OffsetDateTime) -> Page {
    let body = match figures {
        None => html! { p { "This danelaw sends no TLS reports (tlsrpt.mode)." } },
        Some(TlsReportFigures { waiting, last_sent, reports }) => {
            let is_sent = reports.iter().any(|([_, result], _)| *result == SENT);
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
    Page::still("TLS reports", body)
}
