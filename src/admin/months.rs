//! The answer about a month of mail, as JSON.

use hyper::StatusCode;
use time::OffsetDateTime;

use super::client::{NOT_COUNTED, STORE_UNREADABLE};
use crate::dns::stub::Stub;
use crate::report::month::MonthReport;
use crate::session::Shared;
use crate::store::Month;

/// Why there is no report.
pub(super) struct NoMonthReport {
    pub(super) status: StatusCode,
    pub(super) why: String,
}

/// The report of a month. The counts that this danelaw has not written yet are written first; those of others with the same store
/// follow within ten seconds.
pub(super) async fn answer(shared: &Shared<Stub>, month: &str) -> Result<String, NoMonthReport> {
    let not_found = |why: String| NoMonthReport { status: StatusCode::NOT_FOUND, why };
    let month: Month = month.parse().map_err(|error| not_found(format!("{error}\n")))?;
    let Some(months) = shared.reporter.months() else {
        let how = "set store.path or store.url, and store.mail_months above 0, and restart danelaw\n";
        return Err(not_found(format!("{NOT_COUNTED}{how}")));
    };
    let store = shared.journal.store();
    let rows = match months.flush(store).await {
        Ok(()) => store.mails_of(month.number()).await,
        Err(error) => Err(error),
    };
    let now = OffsetDateTime::now_utc();
    let this = Month::of(now.date());
    match rows {
        Ok(rows) if rows.is_empty() && month > this => Err(not_found(format!(
            "no mail of {month} is counted: that month is in the future, since it is {this} now (UTC)\n"
        ))),
        Ok(rows) if rows.is_empty() => {
            Err(not_found(format!("no mail of {month} is counted; store.mail_months says how many months are kept\n")))
        }
        // It is text and numbers, which can always be written.
        Ok(rows) => Ok(serde_json::to_string(&MonthReport::of(month, &rows, now)).unwrap_or_default()),
        Err(error) => {
            let why = format!("{STORE_UNREADABLE}{error}\n");
            Err(NoMonthReport { status: StatusCode::SERVICE_UNAVAILABLE, why })
        }
    }
}
