//! A report as RFC 8460 §4.4 writes it: JSON that comes out the same at each try and on each replica.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::event::{PolicyKind, ReportedFailure, ReportedPolicy};
use super::tally::{ResultCounts, TalliedDomain};
use super::window::ReportWindow;
use crate::hex::Hex;
use crate::name::Name;

/// The most octets of a report before it is compressed. Receivers may refuse more than 10 MB (RFC 8460 §5.2).
const MAX_OCTETS: usize = 1024 * 1024;
/// The most octets of the policies in a report without their failures, in the order of the attempts to keep within the octets.
/// A hostile zone may have shown a long record set of its own to each recipient of a base domain.
const POLICIES: [usize; 2] = [512 * 1024, 0];
/// The octets of a policy beside its texts, about.
const POLICY: usize = 256;
/// How many failures of a policy are told with their hosts, in the order of the attempts to keep within the octets.
const MOST_FAILURES: [usize; 6] = [usize::MAX, 128, 32, 8, 2, 0];

/// The author of reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportAuthor {
    /// The name of the organisation.
    pub organization: String,
    /// The mailbox for questions.
    pub contact: String,
    /// The domain of that mailbox.
    pub domain: Name,
}

/// The parts of a report that are no counts.
#[derive(Debug, Clone, Copy)]
pub struct ReportTitle<'a> {
    /// The author.
    pub author: &'a ReportAuthor,
    /// The day.
    pub window: ReportWindow,
    /// The domain whose record asks for it.
    pub domain: &'a Name,
    /// The id of the store that has the counts. Two stores of one author make different reports about one day and domain.
    pub store: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct DocumentJson<'a> {
    organization_name: &'a str,
    date_range: DateRangeJson,
    contact_info: &'a str,
    report_id: String,
    policies: Vec<PolicyCountsJson<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct DateRangeJson {
    start_datetime: String,
    end_datetime: String,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct PolicyCountsJson<'a> {
    policy: PolicyJson<'a>,
    summary: SummaryJson,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failure_details: Vec<FailureJson>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct PolicyJson<'a> {
    policy_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy_string: Option<&'a [String]>,
    policy_domain: &'a str,
    // Erratum 6241: a list.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    mx_host: &'a [String],
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct SummaryJson {
    total_successful_session_count: u64,
    total_failure_session_count: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct FailureJson {
    result_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sending_mta_ip: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    receiving_mx_hostname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    receiving_ip: Option<IpAddr>,
    failed_session_count: u64,
    failure_reason_code: String,
}

impl ReportAuthor {
    /// The author with this name and mailbox; none if the mailbox has no domain.
    pub fn of(organization: &str, contact: &str) -> Option<Self> {
        let domain = Name::parse(contact.rsplit_once('@')?.1).ok()?;
        Some(Self { organization: organization.to_owned(), contact: contact.to_owned(), domain })
    }
}

impl ReportTitle<'_> {
    /// RFC 8460 §4.4: unique, and the same at each try and for all that share a store, so that a receiver knows a second copy.
    pub fn report_id(&self) -> String {
        let Self { author, window, domain, store } = self;
        let text = format!("{window} {domain} {} {} {store}", author.organization, author.contact);
        let digest = Sha256::digest(text);
        let short = Hex(digest.get(..4).unwrap_or_default()).to_string().to_ascii_lowercase();
        format!("{window}.{domain}.{short}@{}", author.domain)
    }

    /// The name of the compressed file (RFC 8460 §5.1).
    pub fn file_name(&self) -> String {
        let (seconds, id) = (self.window.seconds(), self.report_id());
        let unique = id.split('@').next().and_then(|left| left.rsplit('.').next()).unwrap_or_default();
        format!("{}!{}!{}!{}!{unique}.json.gz", self.author.domain, self.domain, seconds.start, seconds.end)
    }

    /// The report on these policies. Where it would be too long, the failures that are least frequent lose their hosts and
    /// addresses, and the policies with the fewest sessions lose their texts.
    ///
    /// # Errors
    /// Never: all of it is text and numbers.
    pub fn document(&self, policies: &TalliedDomain) -> serde_json::Result<Vec<u8>> {
        let mut written = Vec::new();
        for most in POLICIES {
            let policies = shortened(policies, most)?;
            for rows in MOST_FAILURES {
                written = serde_json::to_vec(&self.json(&policies, rows))?;
                if written.len() <= MAX_OCTETS {
                    return Ok(written);
                }
            }
        }
        Ok(written)
    }

    fn json<'a>(&'a self, policies: &'a TalliedDomain, rows: usize) -> DocumentJson<'a> {
        let day = self.window.day();
        let [year, month, day] = [day.year(), i32::from(u8::from(day.month())), i32::from(day.day())];
        let time = |time: &str| format!("{year:04}-{month:02}-{day:02}T{time}Z");
        DocumentJson {
            organization_name: &self.author.organization,
            date_range: DateRangeJson { start_datetime: time("00:00:00"), end_datetime: time("23:59:59") },
            contact_info: &self.author.contact,
            report_id: self.report_id(),
            policies: policies.iter().map(|(policy, counts)| policy_counts(policy, counts, rows)).collect(),
        }
    }
}

/// The policies with their counts, each as in a report.
pub fn policies_json(policies: &TalliedDomain) -> Vec<serde_json::Value> {
    let written = |(policy, counts)| serde_json::to_value(policy_counts(policy, counts, usize::MAX)).ok();
    policies.iter().filter_map(written).collect()
}

/// The policies with most sessions, as many as fit into so many octets; the others without their texts, summed by type and
/// domain.
fn shortened(policies: &TalliedDomain, most: usize) -> serde_json::Result<TalliedDomain> {
    let mut sorted: Vec<_> = policies.iter().collect();
    // Those with equally many stay in the order of the tally, so that each try has the same octets.
    sorted.sort_by_key(|(_, counts)| Reverse(counts.success.saturating_add(counts.failed())));
    let (mut short, mut octets) = (TalliedDomain::new(), 0);
    for (policy, counts) in sorted {
        octets += POLICY + serde_json::to_vec(&*policy.strings)?.len() + serde_json::to_vec(&*policy.mx)?.len();
        if octets <= most {
            short.insert(policy.clone(), counts.clone());
        } else {
            short.entry(ReportedPolicy::plain(policy.kind, &policy.domain)).or_default().merge(counts);
        }
    }
    Ok(short)
}

fn policy_counts<'a>(policy: &'a ReportedPolicy, counts: &ResultCounts, rows: usize) -> PolicyCountsJson<'a> {
    let ReportedPolicy { kind, domain, strings, mx } = policy;
    PolicyCountsJson {
        policy: PolicyJson {
            policy_type: kind.as_str(),
            policy_string: match kind {
                PolicyKind::Tlsa | PolicyKind::Sts => Some(strings),
                PolicyKind::NoPolicyFound => None,
            },
            policy_domain: domain.as_str(),
            mx_host: mx,
        },
        summary: SummaryJson {
            total_successful_session_count: counts.success,
            total_failure_session_count: counts.failed(),
        },
        failure_details: failures(&counts.failures, rows)
            .into_iter()
            .map(|(failure, times)| failure_json(failure, times))
            .collect(),
    }
}

/// The most frequent failures first; those behind the first `rows` without their hosts and addresses.
fn failures(all: &BTreeMap<ReportedFailure, u64>, rows: usize) -> Vec<(ReportedFailure, u64)> {
    let mut sorted: Vec<_> = all.iter().map(|(failure, times)| (failure.clone(), *times)).collect();
    sorted.sort_by_key(|(_, times)| Reverse(*times));
    if sorted.len() <= rows {
        return sorted;
    }
    let mut merged = BTreeMap::<ReportedFailure, u64>::new();
    for (failure, times) in sorted.split_off(rows) {
        let anywhere = ReportedFailure { host: None, receiving: None, sending: None, ..failure };
        let count = merged.entry(anywhere).or_default();
        *count = count.saturating_add(times);
    }
    sorted.extend(merged);
    sorted
}

fn failure_json(failure: ReportedFailure, times: u64) -> FailureJson {
    let sending_mta_ip = failure.public_sending();
    let ReportedFailure { kind, reason, host, receiving, .. } = failure;
    FailureJson {
        result_type: kind.as_str(),
        sending_mta_ip,
        receiving_mx_hostname: host.map(|host| host.to_string()),
        receiving_ip: receiving,
        failed_session_count: times,
        failure_reason_code: reason,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use time::{Date, Month};

    use super::super::event::TlsResult;
    use super::super::event::tests::name;
    use super::super::tally::TlsTally;
    use super::super::tally::tests::{event, failure as failed};
    use super::*;
    use crate::refusal::ResultType;

    fn author() -> ReportAuthor {
        ReportAuthor {
            organization: "Example Ltd".into(),
            contact: "tls@sender.example".into(),
            domain: name("sender.example"),
        }
    }

    fn day() -> Date {
        Date::from_calendar_date(2026, Month::November, 28).unwrap()
    }

    #[test]
    fn the_report_of_a_day() {
        // T8, T26, T28, O5: a golden.
        let mut tally = TlsTally::default();
        let mut of_tlsa = event("example.org", "mx.example.net", TlsResult::Success);
        of_tlsa.policy.strings = Arc::new(["3 1 1 AB".to_owned()]);
        tally.add(&of_tlsa, day());
        let TlsResult::Failure(failed) = failed(ResultType::CertificateNotTrusted, 7) else { panic!() };
        let seen = ReportedFailure { sending: Some([9, 9, 9, 9].into()), ..failed.clone() };
        for failure in [failed.clone(), seen.clone(), seen] {
            tally.add(&crate::tlsrpt::TlsEvent { result: TlsResult::Failure(failure), ..of_tlsa.clone() }, day());
        }
        let none = ReportedPolicy::none_for(&name("example.org"));
        tally.add(&crate::tlsrpt::TlsEvent { policy: none, ..of_tlsa }, day());
        let author = author();
        let domain = name("example.org");
        let title = ReportTitle { author: &author, window: ReportWindow::of(day()), domain: &domain, store: "a" };
        let policies = &tally.day(day()).unwrap().domains()[&domain];
        let written = String::from_utf8(title.document(policies).unwrap()).unwrap();
        let id = title.report_id();
        let expected = [
            r#"{"organization-name":"Example Ltd","date-range":{"start-datetime":"2026-11-28T00:00:00Z","#,
            r#""end-datetime":"2026-11-28T23:59:59Z"},"contact-info":"tls@sender.example","report-id":""#,
            &id,
            r#"","policies":[{"policy":{"policy-type":"tlsa","policy-string":["3 1 1 AB"],"#,
            r#""policy-domain":"mx.example.net"},"#,
            r#""summary":{"total-successful-session-count":1,"total-failure-session-count":3},"#,
            r#""failure-details":[{"result-type":"certificate-not-trusted","sending-mta-ip":"9.9.9.9","#,
            r#""receiving-mx-hostname":"mx7.example","receiving-ip":"198.51.100.7","failed-session-count":2,"#,
            r#""failure-reason-code":"reason-7"},{"result-type":"certificate-not-trusted","#,
            r#""receiving-mx-hostname":"mx7.example","receiving-ip":"198.51.100.7","failed-session-count":1,"#,
            r#""failure-reason-code":"reason-7"}]},"#,
            r#"{"policy":{"policy-type":"no-policy-found","policy-domain":"example.org"},"#,
            r#""summary":{"total-successful-session-count":1,"total-failure-session-count":0}}]}"#,
        ];
        assert_eq!(written, expected.concat());
        assert!(id.starts_with("20261128.example.org.") && id.ends_with("@sender.example"), "{id}");
        let unique = id.strip_prefix("20261128.example.org.").unwrap().strip_suffix("@sender.example").unwrap();
        assert!(unique.len() == 8 && unique.bytes().all(|digit| digit.is_ascii_hexdigit()), "{id}");
        let file = title.file_name();
        assert_eq!(file, format!("sender.example!example.org!1795824000!1795910399!{unique}.json.gz"));
        // Another try, the same octets.
        assert_eq!(title.document(policies).unwrap(), written.as_bytes());
    }

    #[test]
    fn two_stores_of_one_author_make_reports_of_their_own() {
        // T29.
        let (author, domain) = (author(), name("example.org"));
        let title = |store| ReportTitle { author: &author, window: ReportWindow::of(day()), domain: &domain, store };
        assert_eq!((title("a").report_id(), title("a").file_name()), (title("a").report_id(), title("a").file_name()));
        assert_ne!(title("a").report_id(), title("b").report_id());
        assert_ne!(title("a").file_name(), title("b").file_name());
    }

    #[test]
    fn a_report_is_bounded() {
        // T30.
        let long = format!("{}.{}.{}.example", "a".repeat(63), "b".repeat(63), "c".repeat(63));
        let (domain, mut policies) = (name("example.org"), TalliedDomain::new());
        for policy in 0..32_u8 {
            // One domain alone has no room for all of them.
            let mut tally = TlsTally::default();
            for row in 0..200_u8 {
                let TlsResult::Failure(failed) = failed(ResultType::ValidationFailure, row) else { panic!() };
                let host = Some(name(&long));
                let failed = TlsResult::Failure(ReportedFailure { host, ..failed });
                let mut event = event("example.org", &format!("mx{policy}.example"), failed);
                event.policy.strings = Arc::new(["x".repeat(4000)]);
                for _ in 0..=4 * u32::from(row == 7) {
                    tally.add(&event, day());
                }
            }
            policies.extend(tally.day(day()).unwrap().domains()[&domain].clone());
        }
        let author = author();
        let title = ReportTitle { author: &author, window: ReportWindow::of(day()), domain: &domain, store: "a" };
        let written = title.document(&policies).unwrap();
        assert!(written.len() <= MAX_OCTETS && written.len() > 200_000, "{}", written.len());
        let json: serde_json::Value = serde_json::from_slice(&written).unwrap();
        let mut all = 0;
        for policy in json["policies"].as_array().unwrap() {
            let rows = policy["failure-details"].as_array().unwrap();
            let sum: u64 = rows.iter().map(|row| row["failed-session-count"].as_u64().unwrap()).sum();
            assert_eq!(policy["summary"]["total-failure-session-count"], sum);
            assert!(sum > 204 || rows[0]["receiving-ip"] == "198.51.100.7", "{policy}");
            all += sum;
        }
        assert_eq!(all, 32 * 204);
    }

    #[test]
    fn the_policies_of_a_report_are_bounded() {
        // T30, H4: each of the recipients was shown other records, of 4 kB, some with characters that JSON escapes.
        let base = name("mx.provider.example");
        for (text, failures) in [("x", 0), ("\u{1}", 0), ("x", 3)] {
            let mut tally = TlsTally::default();
            for number in 0..500_u32 {
                let mut event = event(&format!("d{number}.example"), base.as_str(), TlsResult::Success);
                event.policy.strings = Arc::new([format!("{number} {}", text.repeat(4000))]);
                // One with most sessions is told with its text.
                for _ in 0..=u32::from(number == 321) {
                    tally.add(&event, day());
                }
                for row in 0..failures {
                    event.result = failed(ResultType::ValidationFailure, row);
                    tally.add(&event, day());
                }
            }
            let policies = tally.day(day()).unwrap().of_base_domain(&base, |_| false);
            let author = author();
            let title = ReportTitle { author: &author, window: ReportWindow::of(day()), domain: &base, store: "a" };
            let written = title.document(&policies).unwrap();
            assert!(written.len() <= MAX_OCTETS, "{}", written.len());
            let json: serde_json::Value = serde_json::from_slice(&written).unwrap();
            let told = json["policies"].as_array().unwrap();
            let sum = |member: &str| told.iter().map(|policy| policy["summary"][member].as_u64().unwrap()).sum::<u64>();
            assert_eq!(sum("total-successful-session-count"), 501);
            assert_eq!(sum("total-failure-session-count"), 500 * u64::from(failures));
            let strings = |policy: &serde_json::Value| policy["policy"]["policy-string"].as_array().unwrap().len();
            assert_eq!(told.iter().filter(|policy| strings(policy) == 0).count(), 1);
            assert!(told.iter().any(|policy| strings(policy) == 1 && policy.to_string().contains("\"321 ")));
        }
    }
}
