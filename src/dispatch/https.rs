//! A report on its way by HTTPS (RFC 8460 §5.4).

use std::time::Duration;

use bytes::Bytes;

use super::sending::SentReport;
use crate::dns::Resolver;
use crate::http::{HttpContent, HttpLimits, HttpPost, HttpsClient};
use crate::tlsrpt::record::ReportUrl;
use crate::tlsrpt::schedule::ReportTried;

/// How long a request may take in all.
const LIMIT: Duration = Duration::from_secs(60);
/// The most that the answer may have.
const LIMITS: HttpLimits = HttpLimits { head_octets: 16 * 1024, head_fields: 64, body_octets: 64 * 1024 };

/// Sends a report, and says how that went.
pub(super) async fn post<R: Resolver>(client: &HttpsClient<R>, url: &ReportUrl, gzip: Vec<u8>) -> SentReport {
    let content = HttpContent { content_type: "application/tlsrpt+gzip", octets: Bytes::from(gzip) };
    let post = HttpPost { path: url.path(), content };
    match tokio::time::timeout(LIMIT, client.post(url.host(), post, LIMITS)).await {
        Ok(Ok(response)) => {
            let status = response.head.status;
            SentReport { tried: of_status(status), text: format!("status {status}") }
        }
        Ok(Err(error)) => SentReport::failed(&error),
        Err(_) => SentReport::failed(&"there was no answer in a minute"),
    }
}

/// RFC 8460 §5.4: 2xx alone is success. A redirect is not followed.
fn of_status(status: u16) -> ReportTried {
    match status {
        200..=299 => ReportTried::Accepted,
        // RFC 9110 §15.5.9, RFC 6585 §4: these are for now.
        408 | 429 => ReportTried::Failed,
        400..=499 => ReportTried::Refused,
        _ => ReportTried::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn success_is_2xx_alone() {
        // a redirect is not followed.
        use ReportTried::{Accepted, Failed, Refused};
        let cases = [
            (200, Accepted),
            (204, Accepted),
            (301, Failed),
            (404, Refused),
            (408, Failed),
            (413, Refused),
            (429, Failed),
            (503, Failed),
        ];
        for (status, expected) in cases {
            assert_eq!(of_status(status), expected, "{status}");
        }
    }
}
