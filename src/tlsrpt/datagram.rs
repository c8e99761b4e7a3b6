//! The datagrams that `tlsrpt-collectd` of tlsrpt-reporter reads, as libtlsrpt writes them (version 1).
//!
//! The collector adds up datagrams of equal text, so the order of members and of records is fixed, and a member that differs
//! from one session to the next without need is left out: the text of EHLO.

use serde::Serialize;

use super::event::{PolicyKind, ReportedFailure, TlsEvent, TlsResult};
use super::record::TlsrptRecord;
use crate::refusal::ResultType;

#[derive(Serialize)]
struct DatagramJson<'a> {
    /// The version of the form.
    dpv: &'static str,
    /// The domain that the mail was for.
    d: &'a str,
    /// The text of its record.
    pr: &'a str,
    policies: [PolicyDatagramJson<'a>; 1],
}

#[derive(Serialize)]
struct PolicyDatagramJson<'a> {
    #[serde(rename = "policy-type")]
    kind: u8,
    #[serde(rename = "policy-domain")]
    domain: &'a str,
    #[serde(rename = "policy-string", skip_serializing_if = "<[String]>::is_empty")]
    strings: &'a [String],
    #[serde(rename = "mx-host", skip_serializing_if = "<[String]>::is_empty")]
    mx: &'a [String],
    #[serde(rename = "failure-details", skip_serializing_if = "Option::is_none")]
    failures: Option<[FailureDatagramJson<'a>; 1]>,
    /// The number of failures.
    t: u8,
    /// Whether the session failed in the end.
    f: u8,
}

#[derive(Serialize)]
struct FailureDatagramJson<'a> {
    /// The result type.
    c: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    s: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    n: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    r: Option<String>,
    f: &'a str,
}

/// The datagram for an event, for a domain with this record. An event has 4 kB of policy at most and a record as much, so no
/// datagram is too long for a socket.
///
/// # Errors
/// Never: all of it is text and numbers.
pub fn datagram(event: &TlsEvent, record: &TlsrptRecord) -> serde_json::Result<Vec<u8>> {
    let TlsEvent { recipient, policy, result } = event;
    let failures = match result {
        TlsResult::Success => None,
        TlsResult::Failure(failure) => Some([told(failure)]),
    };
    let failed = u8::from(failures.is_some());
    let policy = PolicyDatagramJson {
        kind: number_of_kind(policy.kind),
        domain: policy.domain.as_str(),
        strings: &policy.strings,
        mx: &policy.mx,
        failures,
        t: failed,
        f: failed,
    };
    serde_json::to_vec(&DatagramJson { dpv: "1", d: recipient.as_str(), pr: &record.text, policies: [policy] })
}

fn told(failure: &ReportedFailure) -> FailureDatagramJson<'_> {
    let ReportedFailure { kind, reason, host, receiving, .. } = failure;
    FailureDatagramJson {
        c: number_of_type(*kind),
        s: failure.public_sending().map(|address| address.to_string()),
        n: host.as_ref().map(|host| host.as_str()),
        r: receiving.map(|address| address.to_string()),
        f: reason,
    }
}

/// `tlsrpt_policy_type_t` of libtlsrpt.
fn number_of_kind(kind: PolicyKind) -> u8 {
    match kind {
        PolicyKind::Tlsa => 1,
        PolicyKind::Sts => 2,
        PolicyKind::NoPolicyFound => 9,
    }
}

/// `tlsrpt_failure_t` of libtlsrpt.
fn number_of_type(kind: ResultType) -> u16 {
    match kind {
        ResultType::StartTlsNotSupported => 201,
        ResultType::CertificateHostMismatch => 202,
        ResultType::CertificateNotTrusted => 203,
        ResultType::CertificateExpired => 204,
        ResultType::ValidationFailure => 205,
        ResultType::StsPolicyFetchError => 301,
        ResultType::StsPolicyInvalid => 302,
        ResultType::StsWebpkiInvalid => 303,
        ResultType::TlsaInvalid => 304,
        ResultType::DnssecInvalid => 305,
        ResultType::DaneRequired => 306,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use strum::VariantArray as _;

    use super::super::event::ReportedPolicy;
    use super::super::event::tests::name;
    use super::*;

    pub(crate) fn record() -> TlsrptRecord {
        TlsrptRecord::among(&["v=TLSRPTv1;rua=mailto:r@example.org"]).unwrap()
    }

    pub(crate) fn event(result: TlsResult) -> TlsEvent {
        let policy = ReportedPolicy {
            kind: PolicyKind::Tlsa,
            domain: name("mx.example.net"),
            strings: Arc::new(["3 1 1 AB".to_owned()]),
            mx: Arc::default(),
        };
        TlsEvent { recipient: name("example.org"), policy, result }
    }

    fn failure() -> ReportedFailure {
        ReportedFailure {
            kind: ResultType::CertificateNotTrusted,
            reason: "tlsa-mismatch".into(),
            host: Some(name("mx.example.net")),
            receiving: Some([198, 51, 100, 2].into()),
            sending: Some([9, 9, 9, 9].into()),
        }
    }

    #[test]
    fn the_form_that_collectd_reads() {
        // O19.
        let written = |event| String::from_utf8(datagram(&event, &record()).unwrap()).unwrap();
        let start = r#"{"dpv":"1","d":"example.org","pr":"v=TLSRPTv1;rua=mailto:r@example.org","policies":["#;
        let policy = r#"{"policy-type":1,"policy-domain":"mx.example.net","policy-string":["3 1 1 AB"],"#;
        let details = r#""failure-details":[{"c":203,"s":"9.9.9.9","n":"mx.example.net","r":"198.51.100.2","f":"tlsa-mismatch"}],"#;
        assert_eq!(written(event(TlsResult::Success)), format!(r#"{start}{policy}"t":0,"f":0}}]}}"#));
        let failed = event(TlsResult::Failure(failure()));
        assert_eq!(written(failed.clone()), format!(r#"{start}{policy}{details}"t":1,"f":1}}]}}"#));
        let none = TlsEvent { policy: ReportedPolicy::none_for(&name("example.org")), ..failed };
        let bare = ReportedFailure { host: None, receiving: None, sending: None, ..failure() };
        let policy = r#"{"policy-type":9,"policy-domain":"example.org","#;
        let details = r#""failure-details":[{"c":203,"f":"tlsa-mismatch"}],"#;
        assert_eq!(
            written(TlsEvent { result: TlsResult::Failure(bare), ..none }),
            format!(r#"{start}{policy}{details}"t":1,"f":1}}]}}"#)
        );
    }

    #[test]
    fn an_address_behind_a_nat_is_told_to_nobody() {
        // T28: the same in both modes.
        for (address, told) in [
            ("9.9.9.9", Some("9.9.9.9")),
            ("2620:fe::9", Some("2620:fe::9")),
            ("10.1.2.3", None),
            ("192.168.1.1", None),
            ("100.64.0.1", None),
            ("127.0.0.1", None),
            ("fd00::1", None),
            ("fe80::1", None),
        ] {
            let failed = ReportedFailure { sending: Some(address.parse().unwrap()), ..failure() };
            let json = datagram(&event(TlsResult::Failure(failed)), &record()).unwrap();
            let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
            assert_eq!(json["policies"][0]["failure-details"][0]["s"].as_str(), told, "{address}");
        }
    }

    #[test]
    fn each_result_type_has_a_number_of_its_own() {
        let mut numbers: Vec<_> = ResultType::VARIANTS.iter().copied().map(number_of_type).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [201, 202, 203, 204, 205, 301, 302, 303, 304, 305, 306]);
    }
}
