//! A letter to the postmaster of a domain, which a person may send. danelaw sends none.

use time::OffsetDateTime;

use super::kinds::FindingKind;
use super::view::{FindingRow, FindingWord, WatchView};

/// The letter on the findings about a domain; none where its operator need not mend anything. It has no word about mails, senders or
/// our own configuration.
pub fn letter(domain: &str, view: &WatchView) -> Option<String> {
    let theirs = |row: &&FindingRow| row.state == FindingWord::Active && row.kind != FindingKind::RuleNeedless;
    let active: Vec<_> = view.findings.iter().filter(theirs).collect();
    if active.is_empty() {
        return None;
    }
    let mut text = format!(
        "To: postmaster@{domain}\nSubject: {domain}: mail servers and DANE\n\nDear postmaster,\n\nour mail server verifies the mail \
         servers of {domain} by DNSSEC and TLS (RFC 7672, RFC 8461) before it sends mail to them. We have seen the following.\n"
    );
    for (number, row) in active.iter().enumerate() {
        text.push_str(&paragraph(number + 1, row));
    }
    text.push_str(&format!("\nTo see it yourself:\n\n    danelaw check {domain}\n"));
    active.iter().filter_map(|row| row.host.as_deref()).for_each(|host| text.push_str(&questions(host)));
    text.push_str("\nKind regards\n");
    Some(text)
}

fn paragraph(number: usize, row: &FindingRow) -> String {
    let since = OffsetDateTime::from_unix_timestamp(row.since).map_or(String::new(), |since| since.date().to_string());
    let remedy = remedy(row).map_or(String::new(), |remedy| format!("   To mend it: {remedy}.\n"));
    format!("\n{number}. {}, since {since} (UTC): {}.\n{remedy}", row.about(), row.text.trim_end_matches('.'))
}

/// The remedy of the receiver, which comes first, before that of the sender.
fn remedy(row: &FindingRow) -> Option<&str> {
    row.remedy.as_deref()?.split(';').next()
}

/// The commands that show the records and the certificate of a host.
fn questions(host: &str) -> String {
    let (name, port) = host.split_once(':').unwrap_or((host, "25"));
    format!(
        "    dig +dnssec _{port}._tcp.{name} TLSA\n    openssl s_client -starttls smtp -connect {name}:{port} -showcerts\n"
    )
}

#[cfg(test)]
mod tests {
    use super::super::kinds::{FindingKind, Ownership, Severity};
    use super::*;

    fn row(state: FindingWord) -> FindingRow {
        FindingRow {
            severity: Severity::Warn,
            whose: Ownership::Theirs,
            kind: FindingKind::BrokenNow,
            domain: None,
            host: Some("mx.example".to_owned()),
            domains: vec!["example".to_owned(), "customer.example".to_owned()],
            domains_in_all: 2,
            state,
            since: 1_790_000_000,
            text: "mx.example[192.0.2.1]: no TLSA record matches".to_owned(),
            reason: Some("tlsa-mismatch".to_owned()),
            remedy: Some("publish a TLSA record of the key; or write a rule".to_owned()),
        }
    }

    #[test]
    fn a_letter_has_the_findings_that_hold_and_nothing_about_mail() {
        // W18.
        let with = |states: &[FindingWord]| WatchView {
            findings: states.iter().copied().map(row).collect(),
            ..WatchView::default()
        };
        let written = letter("example", &with(&[FindingWord::Active, FindingWord::Suspected])).unwrap();
        let expected = "\
To: postmaster@example
Subject: example: mail servers and DANE

Dear postmaster,

our mail server verifies the mail servers of example by DNSSEC and TLS (RFC 7672, RFC 8461) before it sends mail to them. We have seen \
the following.

1. mx.example, since 2026-09-21 (UTC): mx.example[192.0.2.1]: no TLSA record matches.
   To mend it: publish a TLSA record of the key.

To see it yourself:

    danelaw check example
    dig +dnssec _25._tcp.mx.example TLSA
    openssl s_client -starttls smtp -connect mx.example:25 -showcerts

Kind regards
";
        assert_eq!(written, expected);
        assert!(!written.contains("customer.example"));
        assert_eq!(letter("example", &with(&[FindingWord::Suspected, FindingWord::Ended])), None);
        assert_eq!(letter("example", &WatchView::default()), None);
        // A rule is our own matter.
        let own = FindingRow { kind: FindingKind::RuleNeedless, reason: None, ..row(FindingWord::Active) };
        assert_eq!(letter("example", &WatchView { findings: vec![own], ..WatchView::default() }), None);
    }
}
