//! A report as a mail (RFC 8460 §5.3).

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use super::document::ReportTitle;
use super::event::ReportedFailure;
use super::read::words::{in_times, receiver_remedy};
use super::record::ReportMailbox;
use super::tally::TalliedDomain;

/// Octets of a line of base64 (RFC 2045 §6.8).
const LINE: usize = 76;
/// How many kinds of failures the words tell.
const TOLD: usize = 3;

/// A header field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailField {
    /// The name.
    pub name: &'static str,
    /// The value; a line that goes on begins with a blank.
    pub value: String,
}

/// A mail with CRLF line ends, all ASCII.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportMail {
    /// The header fields, in order.
    pub fields: Vec<MailField>,
    /// The body.
    pub body: Vec<u8>,
}

/// The parts of a mail that are no title.
#[derive(Debug, Clone, Copy)]
pub struct ReportParts<'a> {
    /// The receiver.
    pub to: &'a ReportMailbox,
    /// The time of this try.
    pub date: OffsetDateTime,
    /// The counts.
    pub policies: &'a TalliedDomain,
    /// The report, compressed.
    pub gzip: &'a [u8],
}

impl ReportMail {
    /// The mail for a report. It is the same at each try, but for the Date.
    pub fn new(title: &ReportTitle<'_>, parts: ReportParts<'_>) -> Self {
        let ReportTitle { author, domain, .. } = title;
        let id = title.report_id();
        // Neither part has a line that begins so.
        let boundary = format!("=_{}", id.replace('@', "_"));
        let boundary = boundary.get(..boundary.len().min(60)).unwrap_or_default();
        // RFC 8460 §5.3: Report-ID with its brackets, and folded before each word, so that no line is too long.
        let subject = format!("Report Domain: {domain}\r\n Submitter: {}\r\n Report-ID: <{id}>", author.domain);
        let field = |name, value: &str| MailField { name, value: value.to_owned() };
        let kind = format!("multipart/report; report-type=\"tlsrpt\";\r\n boundary=\"{boundary}\"");
        let fields = vec![
            field("From", &format!("<{}>", author.contact)),
            field("To", &format!("<{}>", parts.to)),
            field("Subject", &subject),
            field("Date", &parts.date.format(&Rfc2822).unwrap_or_default()),
            field("Message-ID", &format!("<{id}>")),
            field("MIME-Version", "1.0"),
            field("Content-Type", &kind),
            field("TLS-Report-Domain", domain.as_str()),
            field("TLS-Report-Submitter", author.domain.as_str()),
            // RFC 8689 §5: it is to arrive where TLS fails.
            field("TLS-Required", "No"),
            // RFC 3834 §5: no vacation notice comes back.
            field("Auto-Submitted", "auto-generated"),
        ];
        let file = title.file_name();
        let body = format!(
            "This is an aggregate TLS report from {}.\r\n--{boundary}\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n\
             {}--{boundary}\r\nContent-Type: application/tlsrpt+gzip\r\nContent-Transfer-Encoding: base64\r\n\
             Content-Disposition: attachment;\r\n filename=\"{file}\"\r\n\r\n{}--{boundary}--\r\n",
            author.domain,
            words(title, parts.policies),
            lines(parts.gzip),
        );
        Self { fields, body: body.into_bytes() }
    }

    /// The octets of the mail, with these fields first.
    pub fn octets(&self, signatures: &[MailField]) -> Vec<u8> {
        let mut octets = String::new();
        for MailField { name, value } in signatures.iter().chain(&self.fields) {
            // A String takes all that is written to it.
            let _ = write!(octets, "{name}: {value}\r\n");
        }
        octets.push_str("\r\n");
        let mut octets = octets.into_bytes();
        octets.extend_from_slice(&self.body);
        octets
    }
}

/// Base64 in lines of a mail.
pub(super) fn lines(octets: &[u8]) -> String {
    let encoded = STANDARD.encode(octets);
    let lines = encoded.as_bytes().chunks(LINE).map(|line| format!("{}\r\n", String::from_utf8_lossy(line)));
    lines.collect()
}

/// The counts for a reader, with the remedy for each of the most frequent failures. All of it are words of this program,
/// names and numbers.
fn words(title: &ReportTitle<'_>, policies: &TalliedDomain) -> String {
    let success: u64 = policies.values().map(|counts| counts.success).sum();
    let failed: u64 = policies.values().map(|counts| counts.failed()).sum();
    let day = title.window.day();
    let mut words = format!(
        "TLS sessions of {} with the mail servers of {} on {day} (UTC):\r\n{success} went well, {failed} failed.\r\n",
        title.author.domain, title.domain
    );
    let failures = policies.values().flat_map(|counts| &counts.failures);
    let mut failures: Vec<(&ReportedFailure, &u64)> = failures.collect();
    failures.sort_by_key(|(_, times)| std::cmp::Reverse(**times));
    for (failure, times) in failures.into_iter().take(TOLD) {
        let host = failure.host.as_ref().map(|host| format!(" at {host}")).unwrap_or_default();
        let remedy = receiver_remedy(failure.kind);
        let ReportedFailure { kind, reason, .. } = failure;
        let times = in_times(*times);
        let _ = write!(words, "\r\n{times} {kind}{host} ({reason}).\r\nRemedy: {remedy}.\r\n");
    }
    let _ = write!(words, "\r\nThe attachment has all of them (RFC 8460). Questions: {}\r\n", title.author.contact);
    words
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::document::ReportAuthor;
    use super::super::event::TlsResult;
    use super::super::event::tests::name;
    use super::super::record::ReportAddress;
    use super::super::tally::TlsTally;
    use super::super::tally::tests::{event, failure};
    use super::super::window::ReportWindow;
    use super::*;
    use crate::refusal::ResultType;

    pub(crate) fn mail() -> ReportMail {
        let day = time::Date::from_calendar_date(2026, time::Month::November, 28).unwrap();
        let author = ReportAuthor {
            organization: "Example Ltd".into(),
            contact: "tls@sender.example".into(),
            domain: name("sender.example"),
        };
        let domain = name("example.org");
        let mut tally = TlsTally::default();
        tally.add(&event("example.org", "mx.example.net", TlsResult::Success), day);
        tally.add(&event("example.org", "mx.example.net", failure(ResultType::CertificateExpired, 7)), day);
        let title = ReportTitle { author: &author, window: ReportWindow::of(day), domain: &domain, store: "a" };
        let ReportAddress::Mail(to) = ReportAddress::parse("mailto:r@example.org").unwrap() else { panic!() };
        let policies = &tally.day(day).unwrap().domains()[&domain];
        let date = day.next_day().unwrap().with_hms(1, 2, 3).unwrap().assume_utc();
        ReportMail::new(&title, ReportParts { to: &to, date, policies, gzip: &[0xff; 100] })
    }

    #[test]
    fn the_mail_has_the_fields_of_the_rfc() {
        // T31, T34, O12.
        let signature = MailField { name: "DKIM-Signature", value: "x".to_owned() };
        let octets = String::from_utf8(mail().octets(&[signature])).unwrap();
        let (head, body) = octets.split_once("\r\n\r\n").unwrap();
        let start = "DKIM-Signature: x\r\nFrom: <tls@sender.example>\r\nTo: <r@example.org>\r\n\
                     Subject: Report Domain: example.org\r\n Submitter: sender.example\r\n Report-ID: <20261128.example.org.";
        assert!(head.starts_with(start), "{head}");
        for field in [
            "Date: Sun, 29 Nov 2026 01:02:03 +0000",
            "Message-ID: <20261128.example.org.",
            "MIME-Version: 1.0",
            "Content-Type: multipart/report; report-type=\"tlsrpt\";\r\n boundary=\"=_20261128.example.org.",
            "TLS-Report-Domain: example.org",
            "TLS-Report-Submitter: sender.example",
            "TLS-Required: No",
            "Auto-Submitted: auto-generated",
        ] {
            assert!(head.contains(&format!("\r\n{field}")), "{field}");
        }
        for text in [
            "1 went well, 1 failed.",
            "1 time certificate-expired at mx7.example (reason-7).\r\nRemedy: ",
            // O10.
            "filename=\"sender.example!example.org!1795824000!1795910399!",
            "\r\nContent-Type: application/tlsrpt+gzip\r\n",
        ] {
            assert!(body.contains(text), "{text}: {body}");
        }
        assert!(octets.is_ascii() && octets.lines().all(|line| line.len() < 998));
        assert!(octets.split("\r\n").all(|line| !line.contains(['\r', '\n'])));
        let boundary = head.split("boundary=\"").nth(1).unwrap().split('"').next().unwrap();
        assert_eq!(body.matches(&format!("--{boundary}")).count(), 3);
    }
}
