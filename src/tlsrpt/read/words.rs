//! A report in words: how many sessions went well, which failed, and the remedy on the receiving side.

use std::fmt::{self, Write as _};

use super::FoundReport;
use super::compared::ReportedChange;
use super::received::{MAX_TEXT, ReceivedFailure, ReceivedPolicy, ReceivedReport, sum};
use crate::excerpt::{cut, printable};
use crate::name::Name;
use crate::refusal::{Label, ResultType};

/// The most failures of one policy that are shown; the others are counted.
const MAX_SHOWN: usize = 50;

/// Which parts of a report are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShownPart {
    /// All of it.
    All,
    /// The policies with failures alone.
    Failures,
}

/// The reader that the advice is for.
#[derive(Debug, Clone, Copy)]
enum Advised<'a> {
    /// The operator of the mail servers that failed.
    Receiver,
    /// The operator of the danelaw whose mail for this domain they were to take.
    Sender(&'a Name),
}

/// The meaning of a result type for the side that receives the report.
pub fn meaning(result: ResultType) -> &'static str {
    match result {
        ResultType::StartTlsNotSupported => "The host did not offer STARTTLS, or refused it.",
        ResultType::CertificateHostMismatch => "The certificate has none of the names that the sender expected.",
        ResultType::CertificateExpired => "The certificate, or one above it in the chain, has expired.",
        ResultType::CertificateNotTrusted => {
            "The certificate does not lead to a key that the sender trusts. Under DANE no TLSA record matches it, mostly \
             because the certificate was renewed with another key."
        }
        ResultType::ValidationFailure => {
            "TLS failed for another reason: no version or cipher in common, a handshake that stopped, or a connection that \
             broke in it."
        }
        ResultType::TlsaInvalid => "TLSA records are published, and none of them can be used.",
        ResultType::DnssecInvalid => {
            "The DNS gave no valid answer: a signature has expired or does not fit, or the name servers do not answer for TLSA."
        }
        ResultType::DaneRequired => "The sender requires DANE, and the domain has none.",
        ResultType::StsPolicyFetchError => "The MTA-STS policy could not be fetched.",
        ResultType::StsPolicyInvalid => "The MTA-STS policy could not be read.",
        ResultType::StsWebpkiInvalid => "The certificate of the web server with the MTA-STS policy is not valid.",
    }
}

/// The remedy on the side that receives the report.
pub fn receiver_remedy(result: ResultType) -> &'static str {
    match result {
        ResultType::StartTlsNotSupported => {
            "see whether the mail server can read its certificate and key, and whether a firewall in front of it removes STARTTLS"
        }
        ResultType::CertificateHostMismatch => "get a certificate with the name that stands in the MX record",
        ResultType::CertificateExpired => {
            "renew it, and see whether the mail server was reloaded after the last renewal"
        }
        ResultType::CertificateNotTrusted => {
            "publish a TLSA record of the key in use, and that of the next key a day before it is used; without DANE, send the \
             whole chain of the certificate"
        }
        ResultType::ValidationFailure => {
            "see the reason, and the log of the mail server at that time; if one sender alone reports it, ask that sender"
        }
        ResultType::TlsaInvalid => {
            "publish records of the form 3 1 1 or 2 1 1; usages 0 and 1 do not exist in mail (RFC 7672 3.1.3)"
        }
        ResultType::DnssecInvalid => {
            "look at the zone with a DNSSEC checker, and ask each of its name servers for the TLSA records"
        }
        ResultType::DaneRequired => "sign the zone and publish TLSA records, or ask the sender for another rule",
        ResultType::StsPolicyFetchError => {
            "see whether https://mta-sts.DOMAIN/.well-known/mta-sts.txt can be read from outside"
        }
        ResultType::StsPolicyInvalid => "correct it (RFC 8461 3.2), and change the id in the DNS",
        ResultType::StsWebpkiInvalid => "renew it; its name is mta-sts.DOMAIN",
    }
}

/// A stranger's text on one line, without anything that steers a terminal, and cut.
pub fn shown(text: &str) -> String {
    let visible: String = text.chars().take(MAX_TEXT + 1).map(printable).collect();
    cut(visible, MAX_TEXT)
}

/// The report for a reader.
///
/// # Errors
/// Never: a string is written to.
pub fn explain(found: &FoundReport, part: ShownPart) -> Result<String, fmt::Error> {
    let FoundReport { report, signed_by } = found;
    let mut out = String::new();
    let day = report.day.map_or_else(|| "a day that cannot be read".to_owned(), |day| day.to_string());
    write!(out, "{day}  {}", shown(&report.organization))?;
    if let Some(contact) = &report.contact {
        write!(out, " <{}>", shown(contact))?;
    }
    write!(out, ": {}", counts(report.success(), report.failed()))?;
    match signed_by.is_empty() {
        true => writeln!(out, " (sender unverified)")?,
        false => writeln!(out, " (signed by {})", shown(&signed_by.join(", ")))?,
    }
    for policy in &report.policies {
        if part == ShownPart::All || policy.failed > 0 || !policy.failures.is_empty() {
            explain_policy(&mut out, policy, Advised::Receiver)?;
        }
    }
    Ok(out)
}

/// Counts of our own sessions with the exchanges of a domain, for the operator of this danelaw.
///
/// # Errors
/// Never: a string is written to.
pub fn explain_own(domain: &Name, policies: &[ReceivedPolicy], part: ShownPart) -> Result<String, fmt::Error> {
    let mut out = String::new();
    let (success, failed) = (policies.iter().map(|policy| policy.success), policies.iter().map(|policy| policy.failed));
    writeln!(out, "{domain}: {}", counts(sum(success), sum(failed)))?;
    for policy in policies.iter().filter(|policy| part == ShownPart::All || policy.failed > 0) {
        explain_policy(&mut out, policy, Advised::Sender(domain))?;
    }
    Ok(out)
}

/// So many sessions, in words.
pub fn counts(success: u64, failed: u64) -> String {
    let sessions = |number: u64| if number == 1 { "session" } else { "sessions" };
    match failed {
        0 => format!("{success} {} went well", sessions(success)),
        _ => format!("{success} {} went well, {failed} failed", sessions(success)),
    }
}

fn explain_policy(out: &mut String, policy: &ReceivedPolicy, advised: Advised<'_>) -> fmt::Result {
    let kind = match policy.kind.as_str() {
        "tlsa" => "DANE".to_owned(),
        "sts" => "MTA-STS".to_owned(),
        "no-policy-found" => "no policy".to_owned(),
        other => format!("unknown word {}", shown(other)),
    };
    writeln!(out, "  {kind} for {}: {}", shown(&policy.domain), counts(policy.success, policy.failed))?;
    if let Some(change) = ReportedChange::of(policy) {
        explain_change(out, &change)?;
    }
    let mut explained = Vec::new();
    for failure in policy.failures.iter().take(MAX_SHOWN) {
        explain_failure(out, failure)?;
        // Once for each type, below the first failure of it.
        match failure.result.parse() {
            Ok(result) if !explained.contains(&result) => {
                writeln!(out, "      {}", meaning(result))?;
                match advised {
                    Advised::Receiver => advise_receiver(out, result, policy)?,
                    Advised::Sender(domain) => advise_sender(out, failure, domain)?,
                }
                explained.push(result);
            }
            Ok(_) | Err(_) => {}
        }
    }
    match policy.failures.len().saturating_sub(MAX_SHOWN) {
        0 => Ok(()),
        more => writeln!(out, "    {more} more rows of failures"),
    }
}

fn explain_change(out: &mut String, change: &ReportedChange) -> fmt::Result {
    match change {
        ReportedChange::Same => writeln!(out, "    The policy of the report is the one that is published now."),
        ReportedChange::Untold => writeln!(out, "    The report does not say which policy the sender saw."),
        ReportedChange::Unknown(why) => {
            writeln!(out, "    The policy that is published now is not known: {}", shown(why))
        }
        ReportedChange::Changed { gone, new } => {
            writeln!(out, "    The policy has changed since the report, or the sender saw another one:")?;
            for text in gone {
                writeln!(out, "      only in the report: {}", shown(text))?;
            }
            for text in new {
                writeln!(out, "      only published now: {}", shown(text))?;
            }
            Ok(())
        }
    }
}

fn change_json(change: &ReportedChange) -> serde_json::Value {
    match change {
        ReportedChange::Same => serde_json::json!({ "result": "same" }),
        ReportedChange::Untold => serde_json::json!({ "result": "untold" }),
        ReportedChange::Unknown(why) => serde_json::json!({ "result": "unknown", "why": why }),
        ReportedChange::Changed { gone, new } => serde_json::json!({ "result": "changed", "gone": gone, "new": new }),
    }
}

/// So many times, in words.
pub fn in_times(count: u64) -> String {
    if count == 1 { "1 time".to_owned() } else { format!("{count} times") }
}

fn explain_failure(out: &mut String, failure: &ReceivedFailure) -> fmt::Result {
    let ReceivedFailure { result, times, host, receiving, sending, reason } = failure;
    match result.parse::<ResultType>() {
        Ok(known) => write!(out, "    {} {known}", in_times(*times))?,
        Err(_) => write!(out, "    {} an unknown word {}", in_times(*times), shown(result))?,
    }
    if let Some(host) = host {
        write!(out, " at {}", shown(host))?;
    }
    if let Some(receiving) = receiving {
        write!(out, " [{}]", shown(receiving))?;
    }
    if let Some(sending) = sending {
        write!(out, " from {}", shown(sending))?;
    }
    if let Some(reason) = reason {
        write!(out, ": {}", shown(reason))?;
    }
    writeln!(out)
}

fn advise_receiver(out: &mut String, result: ResultType, policy: &ReceivedPolicy) -> fmt::Result {
    writeln!(out, "      To do: {}.", receiver_remedy(result))?;
    // Only a name that is one may become part of a command that a person copies.
    let Some(domain) = Name::parse(&policy.domain).ok().filter(Name::is_fully_qualified) else { return Ok(()) };
    match policy.kind.as_str() {
        "tlsa" => writeln!(out, "      See: danelaw resolve _25._tcp.{domain} TLSA"),
        _ => writeln!(out, "      See: danelaw check {domain}"),
    }
}

/// The receiver has the fault, and the operator of the sender can find out which one, tell the receiver, or write a rule.
fn advise_sender(out: &mut String, failure: &ReceivedFailure, domain: &Name) -> fmt::Result {
    if let Ok(result) = failure.result.parse() {
        writeln!(out, "      To do for the receiver: {}.", receiver_remedy(result))?;
    }
    write!(out, "      See: danelaw check {domain}")?;
    // The reason begins with its label, if it is one of a refusal.
    let word = failure.reason.as_deref().and_then(|reason| reason.split(' ').next()).unwrap_or_default();
    match word.parse::<Label>() {
        Ok(label) => writeln!(out, "; danelaw refusals {label}"),
        Err(_) => writeln!(out),
    }
}

/// A value as one line of JSON in ASCII. Other characters are escaped, since controls above ASCII and marks of direction steer a
/// terminal too.
pub fn ascii_json(value: &serde_json::Value) -> String {
    let mut out = String::new();
    // Outside of strings, JSON is ASCII.
    for character in value.to_string().chars() {
        match character {
            ' '..='~' => out.push(character),
            _ => out.extend(character.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}"))),
        }
    }
    out
}

/// The report as one line of JSON, in one form whatever the form of the sender.
pub fn line(found: &FoundReport) -> String {
    let FoundReport { report, signed_by } = found;
    let ReceivedReport { organization, contact, id, day, policies } = report;
    ascii_json(&serde_json::json!({
        "day": day.map(|day| day.to_string()), "organization": organization, "contact": contact, "report_id": id,
        "signed_by": signed_by, "success": report.success(), "failed": report.failed(),
        "policies": policies.iter().map(policy_json).collect::<Vec<_>>(),
    }))
}

/// A policy in that form.
pub fn policy_json(policy: &ReceivedPolicy) -> serde_json::Value {
    let failure = |failure: &ReceivedFailure| {
        let ReceivedFailure { result, times, host, receiving, sending, reason } = failure;
        serde_json::json!({
            "result_type": result, "count": times, "host": host, "receiving_ip": receiving, "sending_ip": sending,
            "reason": reason,
        })
    };
    let ReceivedPolicy { kind, domain, success, failed, failures, .. } = policy;
    let failures: Vec<_> = failures.iter().map(failure).collect();
    let mut written = serde_json::json!({
        "type": kind, "domain": domain, "success": success, "failed": failed, "failures": failures,
    });
    if let Some(change) = ReportedChange::of(policy) {
        written["published"] = change_json(&change);
    }
    written
}

#[cfg(test)]
mod tests {
    use strum::VariantArray as _;

    use super::super::reports;
    use super::super::unpack::tests::{gzip, mail_with};
    use super::*;

    const REPORT: &str = r#"{"organization-name":"Example Ltd","contact-info":"tls@sender.example","report-id":"1",
        "date-range":{"start-datetime":"2026-11-28T00:00:00Z"},"policies":[
        {"policy":{"policy-type":"tlsa","policy-domain":"mx.example.org"},
         "summary":{"total-successful-session-count":120,"total-failure-session-count":3},
         "failure-details":[{"result-type":"certificate-not-trusted","receiving-mx-hostname":"mx.example.org",
          "receiving-ip":"198.51.100.2","sending-mta-ip":"192.0.2.1","failed-session-count":2,"failure-reason-code":"tlsa-mismatch"},
          {"result-type":"certificate-not-trusted","failed-session-count":1}]},
        {"policy":{"policy-type":"no-policy-found","policy-domain":"example.org"},
         "summary":{"total-successful-session-count":1,"total-failure-session-count":0}}]}"#;

    fn found(octets: &[u8]) -> FoundReport {
        reports(octets, Some("mx.example.org")).next().unwrap().unwrap()
    }

    #[test]
    fn u4_a_report_in_words() {
        let words =
            explain(&found(&mail_with("application/tlsrpt+gzip", &gzip(REPORT.as_bytes()))), ShownPart::All).unwrap();
        let kind = ResultType::CertificateNotTrusted;
        let expected = format!(
            "2026-11-28  Example Ltd <tls@sender.example>: 121 sessions went well, 3 failed (signed by sender.example)\n  \
             DANE for mx.example.org: 120 sessions went well, 3 failed\n    \
             2 times certificate-not-trusted at mx.example.org [198.51.100.2] from 192.0.2.1: tlsa-mismatch\n      \
             {}\n      To do: {}.\n      See: danelaw resolve _25._tcp.mx.example.org TLSA\n    \
             1 time certificate-not-trusted\n  \
             no policy for example.org: 1 session went well\n",
            meaning(kind),
            receiver_remedy(kind)
        );
        assert_eq!(words, expected);
        let failures = explain(&found(REPORT.as_bytes()), ShownPart::Failures).unwrap();
        assert!(failures.contains("(sender unverified)") && !failures.contains("no policy for"), "{failures}");
    }

    #[test]
    fn our_own_counts_in_words() {
        let policies = found(REPORT.as_bytes()).report.policies;
        let kind = ResultType::CertificateNotTrusted;
        let expected = format!(
            "example.org: 121 sessions went well, 3 failed\n  DANE for mx.example.org: 120 sessions went well, 3 failed\n    \
             2 times certificate-not-trusted at mx.example.org [198.51.100.2] from 192.0.2.1: tlsa-mismatch\n      \
             {}\n      To do for the receiver: {}.\n      See: danelaw check example.org; danelaw refusals tlsa-mismatch\n    \
             1 time certificate-not-trusted\n",
            meaning(kind),
            receiver_remedy(kind)
        );
        let domain = Name::parse("example.org").unwrap();
        assert_eq!(explain_own(&domain, &policies, ShownPart::Failures).unwrap(), expected);
        let all = explain_own(&domain, &policies, ShownPart::All).unwrap();
        assert_eq!(all, expected + "  no policy for example.org: 1 session went well\n");
    }

    #[test]
    fn u8_a_stranger_does_not_steer_the_terminal() {
        let hostile = "\\u001b[2J\\u202e$(reboot)\\n".repeat(50);
        let report = REPORT
            .replace("Example Ltd", &hostile)
            .replace("mx.example.org", &hostile)
            .replace("tlsa-mismatch", &hostile);
        let report = report.replace("certificate-not-trusted", &hostile).replace("no-policy-found", &hostile);
        let words = explain(&found(report.as_bytes()), ShownPart::All).unwrap();
        assert!(words.chars().all(|c| c == '\n' || c == ' ' || c.is_ascii_graphic()), "{words}");
        assert!(words.lines().all(|line| line.len() < 1000) && !words.contains("danelaw "), "{words}");
        assert!(line(&found(report.as_bytes())).lines().count() == 1);
    }

    #[test]
    fn u8_the_json_is_ascii_and_says_the_same() {
        for text in [
            "\u{9b}2J",
            "\u{202e}\u{2066}\u{200f}",
            "\u{7f}",
            "\u{2028}\u{feff}",
            "é 日本 \u{1f600}",
            "\"\\\n\t\u{1b}[2J",
        ] {
            let report = serde_json::json!({"organization-name": format!("a{text}b")}).to_string();
            let found = found(report.as_bytes());
            let line = line(&found);
            assert!(line.bytes().all(|octet| matches!(octet, b' '..=b'~')), "{line:?}");
            let read: serde_json::Value = serde_json::from_str(&line).unwrap();
            assert_eq!(read["organization"], found.report.organization);
            assert_eq!(found.report.organization, format!("a{text}b"));
        }
    }

    #[test]
    fn each_result_type_has_a_remedy() {
        for &result in ResultType::VARIANTS {
            let (meaning, remedy) = (meaning(result), receiver_remedy(result));
            assert!(meaning.ends_with('.') && meaning.is_ascii() && !remedy.ends_with('.'), "{result}");
        }
    }
}
