//! The JSON of a report, as its sender wrote it.

use std::sync::Arc;

use serde_json::{Map, Value};
use time::format_description::well_known::{Iso8601, Rfc3339};
use time::{Date, OffsetDateTime, UtcOffset};

use crate::excerpt::{cut, without_mark};

/// The most failures of one report.
const MAX_ROWS: usize = 100_000;
/// The most members and elements of the JSON: ten for each failure, and as many again.
const MAX_ELEMENTS: usize = 2_000_000;
/// The most objects of the JSON: three for each failure. One takes as much memory as ten elements.
const MAX_OBJECTS: usize = 300_000;
/// The most characters of a stranger's text.
pub const MAX_TEXT: usize = 200;
/// The most texts of a policy.
pub const MAX_TEXTS: usize = 64;
/// The most characters of one of them: a TLSA record may be a whole certificate.
pub const MAX_STRING: usize = 4096;

/// A report. Words of a stranger are in it as they came, and cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedReport {
    /// The name of the sender.
    pub organization: String,
    /// Where to ask.
    pub contact: Option<String>,
    /// The id.
    pub id: String,
    /// The UTC day on which it begins, if that can be read.
    pub day: Option<Date>,
    /// The policies and their counts.
    pub policies: Vec<ReceivedPolicy>,
}

/// A policy and its counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedPolicy {
    /// The policy type.
    pub kind: String,
    /// The policy domain.
    pub domain: String,
    /// The policy as the sender saw it: TLSA records, or the lines of a policy of MTA-STS.
    pub strings: Vec<String>,
    /// The hosts that it is for.
    pub hosts: Vec<String>,
    /// The policy as it is now, if that was looked up.
    pub published: Option<Arc<PublishedPolicy>>,
    /// Sessions that went well.
    pub success: u64,
    /// Sessions that failed.
    pub failed: u64,
    /// The failures.
    pub failures: Vec<ReceivedFailure>,
}

/// A policy as it is published now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublishedPolicy {
    /// With the texts of one of these: of each host that the report may be about, or of the one policy of MTA-STS.
    OneOf(Vec<Vec<String>>),
    /// It could not be looked up, for this reason.
    Unknown(String),
}

/// A kind of failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedFailure {
    /// The result type.
    pub result: String,
    /// How often.
    pub times: u64,
    /// The host of the receiver.
    pub host: Option<String>,
    /// Its address.
    pub receiving: Option<String>,
    /// The sender's address.
    pub sending: Option<String>,
    /// The reason in the sender's words.
    pub reason: Option<String>,
}

/// Why a text is no report.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAReport {
    /// No JSON.
    #[error("it is no JSON: {0}")]
    Syntax(String),
    /// JSON of another kind.
    #[error("it is JSON, and no TLS report (RFC 8460)")]
    OtherJson,
    /// More than any report.
    #[error("it has more than {MAX_ELEMENTS} members, {MAX_OBJECTS} objects or {MAX_ROWS} failures")]
    TooLong,
}

impl ReceivedReport {
    /// Reads a report, leniently: senders leave members out, write numbers as strings and lists of one as the one.
    ///
    /// # Errors
    /// It is no report at all, or too long.
    pub fn read(json: &[u8]) -> Result<Self, NotAReport> {
        let text = without_mark(json);
        // Before any is read: each takes more memory than its octets.
        let count = |octets: &[u8]| text.iter().filter(|octet| octets.contains(octet)).count();
        if count(b",[{") > MAX_ELEMENTS || count(b"{") > MAX_OBJECTS {
            return Err(NotAReport::TooLong);
        }
        let value: Value = serde_json::from_slice(text).map_err(|error| NotAReport::Syntax(error.to_string()))?;
        let report = value.as_object().ok_or(NotAReport::OtherJson)?;
        if !["policies", "report-id", "organization-name"].iter().any(|member| report.contains_key(*member)) {
            return Err(NotAReport::OtherJson);
        }
        let range = report.get("date-range").and_then(Value::as_object);
        let policies: Vec<_> =
            list(report.get("policies")).iter().filter_map(|policy| policy.as_object()).map(policy).collect();
        if policies.iter().map(|policy| policy.failures.len()).sum::<usize>() > MAX_ROWS {
            return Err(NotAReport::TooLong);
        }
        Ok(Self {
            organization: text_of(report, "organization-name").unwrap_or_else(|| "an unnamed sender".to_owned()),
            contact: text_of(report, "contact-info"),
            id: text_of(report, "report-id").unwrap_or_default(),
            day: range.and_then(|range| text_of(range, "start-datetime")).and_then(|start| day(&start)),
            policies,
        })
    }

    /// Sessions that went well.
    pub fn success(&self) -> u64 {
        sum(self.policies.iter().map(|policy| policy.success))
    }

    /// Sessions that failed.
    pub fn failed(&self) -> u64 {
        sum(self.policies.iter().map(|policy| policy.failed))
    }
}

impl ReceivedPolicy {
    /// One policy of a report; none if it is no object.
    pub fn read(value: &Value) -> Option<Self> {
        value.as_object().map(policy)
    }
}

/// Counts saturate: they are a stranger's.
pub fn sum(counts: impl Iterator<Item = u64>) -> u64 {
    counts.fold(0, u64::saturating_add)
}

fn policy(item: &Map<String, Value>) -> ReceivedPolicy {
    let empty = Map::new();
    let object = |key| item.get(key).and_then(Value::as_object).unwrap_or(&empty);
    let (policy, summary) = (object("policy"), object("summary"));
    let details = list(item.get("failure-details"));
    let failures: Vec<_> =
        details.iter().filter_map(|failure| failure.as_object()).map(failure).take(MAX_ROWS + 1).collect();
    let told = sum(failures.iter().map(|failure| failure.times));
    ReceivedPolicy {
        kind: text_of(policy, "policy-type").unwrap_or_default(),
        domain: text_of(policy, "policy-domain").unwrap_or_default(),
        strings: texts(policy.get("policy-string")),
        hosts: texts(policy.get("mx-host")),
        published: None,
        success: number(summary.get("total-successful-session-count")).unwrap_or(0),
        // Some senders say less in the sum than in the rows.
        failed: number(summary.get("total-failure-session-count")).unwrap_or(0).max(told),
        failures,
    }
}

fn failure(item: &Map<String, Value>) -> ReceivedFailure {
    ReceivedFailure {
        result: text_of(item, "result-type").unwrap_or_default(),
        times: number(item.get("failed-session-count")).unwrap_or(1),
        host: text_of(item, "receiving-mx-hostname"),
        receiving: text_of(item, "receiving-ip"),
        sending: text_of(item, "sending-mta-ip"),
        reason: text_of(item, "failure-reason-code").or_else(|| text_of(item, "additional-information")),
    }
}

/// The elements of a list, or the one value in the place of a list.
fn list(value: Option<&Value>) -> Vec<&Value> {
    match value {
        Some(Value::Array(all)) => all.iter().collect(),
        Some(Value::Null) | None => Vec::new(),
        Some(one) => vec![one],
    }
}

fn text_of(object: &Map<String, Value>, key: &str) -> Option<String> {
    let text = match object.get(key)? {
        Value::String(text) => cut(text.trim(), MAX_TEXT),
        Value::Number(number) => number.to_string(),
        // A list of one, or the first of several.
        Value::Array(all) => cut(all.first().and_then(Value::as_str).unwrap_or_default(), MAX_TEXT),
        Value::Null | Value::Bool(_) | Value::Object(_) => return None,
    };
    (!text.is_empty()).then_some(text)
}

/// The first texts of a list.
fn texts(value: Option<&Value>) -> Vec<String> {
    let texts = list(value).into_iter().filter_map(Value::as_str).map(|text| cut(text.trim(), MAX_STRING));
    texts.filter(|text| !text.is_empty()).take(MAX_TEXTS).collect()
}

/// A count. One below 0 is none, and one that is too large is the largest.
fn number(value: Option<&Value>) -> Option<u64> {
    let of_float = |number: f64| if number > 0.0 { number as u64 } else { 0 };
    match value? {
        Value::Number(number) => Some(number.as_u64().unwrap_or_else(|| of_float(number.as_f64().unwrap_or(0.0)))),
        Value::String(text) => text.trim().parse::<f64>().ok().filter(|number| !number.is_nan()).map(of_float),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The UTC day of a time. A time without a zone is UTC.
fn day(text: &str) -> Option<Date> {
    let with_zone =
        OffsetDateTime::parse(text, &Rfc3339).or_else(|_| OffsetDateTime::parse(&format!("{text}Z"), &Rfc3339));
    // In UTC it may be before the first or after the last year that a date can have.
    let of_time = with_zone.ok().and_then(|time| time.checked_to_offset(UtcOffset::UTC)).map(OffsetDateTime::date);
    of_time.or_else(|| Date::parse(text.get(..10)?, &Iso8601::DATE).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> ReceivedReport {
        ReceivedReport::read(json.as_bytes()).unwrap_or_else(|error| panic!("{error}: {json}"))
    }

    #[test]
    fn u3_reports_as_the_big_senders_write_them() {
        // The shapes of senders, with other names.
        let google = r#"{"organization-name":"Google Inc.","date-range":{"start-datetime":"2026-11-28T00:00:00Z",
            "end-datetime":"2026-11-28T23:59:59Z"},"contact-info":"smtp-tls-reporting@example.com",
            "report-id":"2026-11-28T00:00:00Z_example.org","policies":[{"policy":{"policy-type":"sts",
            "policy-string":["version: STSv1","mode: testing"],"policy-domain":"example.org","mx-host":["mx.example.org"]},
            "summary":{"total-successful-session-count":3,"total-failure-session-count":2},
            "failure-details":[{"result-type":"certificate-expired","sending-mta-ip":"192.0.2.1","receiving-ip":"198.51.100.2",
            "receiving-mx-hostname":"mx.example.org","failed-session-count":2}]}]}"#;
        let report = read(google);
        assert_eq!((report.success(), report.failed(), report.day.unwrap().to_string().as_str()), (3, 2, "2026-11-28"));
        assert_eq!(report.policies[0].failures[0].host.as_deref(), Some("mx.example.org"));
        // Without optional members, times without a zone, and numbers as strings.
        let microsoft = r#"{"organization-name":"Microsoft","date-range":{"start-datetime":"2026-11-28T00:00:00",
            "end-datetime":"2026-11-28T23:59:59"},"contact-info":"a@example.com","report-id":"1+example.org",
            "policies":[{"policy":{"policy-type":"tlsa","policy-domain":"example.org"},
            "summary":{"total-successful-session-count":"7","total-failure-session-count":"0"}}]}"#;
        assert_eq!((read(microsoft).success(), read(microsoft).day), (7, read(google).day));
        // No contact, an object in the place of a list, and a string in the place of another.
        let stalwart = r#"{"organization-name":"x","contact-info":null,"report-id":5,"date-range":
            {"start-datetime":"2026-11-28T01:00:00+02:00"},"policies":{"policy":{"policy-type":"no-policy-found",
            "policy-domain":"example.org","mx-host":"mx.example.org"},"summary":{"total-successful-session-count":1},
            "failure-details":{"result-type":["dane-required"],"additional-information":"why"}}}"#;
        let report = read(stalwart);
        assert_eq!(
            (report.contact, report.id.as_str(), report.day.unwrap().to_string().as_str()),
            (None, "5", "2026-11-27")
        );
        let failure = &report.policies[0].failures[0];
        assert_eq!(
            (failure.result.as_str(), failure.reason.as_deref(), failure.times),
            ("dane-required", Some("why"), 1)
        );
        assert_eq!(read(r#"{"organization-name":"x"}"#).policies, []);
    }

    #[test]
    fn a_day_at_the_edge_of_the_calendar_is_read() {
        for (text, expected) in [
            ("9999-12-31T23:59:59-01:00", Some("9999-12-31")),
            ("9999-12-31T23:59:59-23:59", Some("9999-12-31")),
            ("9999-12-31T23:59:59+01:00", Some("9999-12-31")),
            ("0000-01-01T00:00:00+23:59", Some("-0001-12-31")),
            ("0000-01-01T00:00:00", Some("0000-01-01")),
            ("+12000-01-01T00:00:00Z", None),
            ("-9999-01-01T00:00:00+01:00", None),
            ("2026-11-31T00:00:00Z", None),
            ("2026-11-2\u{e9}", None),
            ("", None),
        ] {
            assert_eq!(day(text).map(|day| day.to_string()).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn u8_each_text_is_cut() {
        let long = "é".repeat(100_000);
        let failure = |text: serde_json::Value| {
            serde_json::json!({"result-type": text, "receiving-mx-hostname": text, "receiving-ip": text, "sending-mta-ip": text,
                "failure-reason-code": text})
        };
        for text in [serde_json::json!(long), serde_json::json!([long, long])] {
            let report = serde_json::json!({"organization-name": text, "contact-info": text, "report-id": text, "policies": [
                {"policy": {"policy-type": text, "policy-domain": text}, "failure-details": [failure(text.clone())]}]});
            let ReceivedReport { organization, contact, id, policies, .. } = read(&report.to_string());
            let ReceivedPolicy { kind, domain, failures, .. } = policies[0].clone();
            let ReceivedFailure { result, host, receiving, sending, reason, .. } = failures[0].clone();
            let expected = "é".repeat(MAX_TEXT) + "...";
            for text in [contact, host, receiving, sending, reason].into_iter().flatten() {
                assert_eq!(text, expected);
            }
            assert_eq!([organization, id, kind, domain, result], [(); 5].map(|()| expected.clone()));
        }
    }

    #[test]
    fn counts_members_and_depth_of_a_stranger() {
        let count = |count: &str| {
            read(&format!(
                r#"{{"policies":[{{"summary":{{"total-successful-session-count":{count}}}}},
                {{"summary":{{"total-successful-session-count":1}}}}]}}"#
            ))
            .success()
        };
        assert_eq!((count("18446744073709551616"), count("-5"), count("true")), (u64::MAX, 1, 1));
        assert_eq!(read(r#"{"report-id":"a","report-id":"b"}"#).id, "b");
        let refused = |json: &[u8]| ReceivedReport::read(json).unwrap_err();
        let rows = "{},".repeat(MAX_ROWS + 1);
        let rows = format!(r#"{{"policies":[{{"failure-details":[{rows}{{}}]}}]}}"#);
        assert_eq!(refused(rows.as_bytes()), NotAReport::TooLong);
        assert_eq!(refused(&[&b"{\"a\":["[..], &vec![b','; MAX_ELEMENTS]].concat()), NotAReport::TooLong);
        let objects = |number| format!("{{\"report-id\":\"\",\"a\":[{}0]}}", "{},".repeat(number)).into_bytes();
        assert_eq!(refused(&objects(MAX_OBJECTS)), NotAReport::TooLong);
        assert!(ReceivedReport::read(&objects(MAX_OBJECTS - 1)).is_ok());
        assert!(matches!(refused("[".repeat(100_000).as_bytes()), NotAReport::Syntax(_)));
        assert!(matches!(refused(b"{"), NotAReport::Syntax(_)));
        assert_eq!(refused(b"{\"a\":1}"), NotAReport::OtherJson);
        assert_eq!(refused(b"[]"), NotAReport::OtherJson);
    }
}
