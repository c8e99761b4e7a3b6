//! One TLS session with one address under one policy, or the failure that kept danelaw from trying.

use std::net::IpAddr;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::dns::{Failure, RawTlsa, Rtype};
use crate::hex::Hex;
use crate::mta_sts::{MxPattern, StsPolicy};
use crate::name::Name;
use crate::policy::Level;
use crate::refusal::{Place, Reason, Refusal, ResultType};
use crate::reserved::Dialable;
use crate::rules::Rule;
use crate::words::words;

/// The most octets of policy strings that are kept. A record set of a hostile zone has 65 KB.
const MAX_STRINGS: usize = 4096;

/// The result of one session under one policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsEvent {
    /// The domain that the mail was for.
    pub recipient: Name,
    /// The policy that was in force.
    pub policy: ReportedPolicy,
    /// How it went.
    pub result: TlsResult,
}

/// A policy as RFC 8460 §4.4 reports it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReportedPolicy {
    /// Its type.
    pub kind: PolicyKind,
    /// Its domain: the TLSA base domain for `tlsa`, else the domain that the mail was for (RFC 8460 §1.1).
    pub domain: Name,
    /// The policy itself: the TLSA records as they are published, in order, or the lines of an MTA-STS policy. Empty where there
    /// is none.
    pub strings: Arc<[String]>,
    /// The MX patterns of an MTA-STS policy.
    pub mx: Arc<[String]>,
}

/// The policy types of RFC 8460 §4.4.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    strum::IntoStaticStr,
    strum::EnumString,
    strum::VariantArray,
)]
#[strum(serialize_all = "kebab-case")]
pub enum PolicyKind {
    /// DANE.
    Tlsa,
    /// MTA-STS.
    Sts,
    /// The domain has neither.
    NoPolicyFound,
}

words!(PolicyKind);

/// The result of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsResult {
    /// The session met the policy.
    Success,
    /// It did not, or was never tried.
    Failure(ReportedFailure),
}

/// A failure as RFC 8460 §4.4 reports it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReportedFailure {
    /// The result type.
    pub kind: ResultType,
    /// The reason, in words of this program.
    pub reason: String,
    /// The name of the exchange.
    pub host: Option<Name>,
    /// The address that was dialled.
    pub receiving: Option<IpAddr>,
    /// The address that danelaw dialled from.
    pub sending: Option<IpAddr>,
}

/// The TLSA records of a host as they are published, before any choice among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedTlsa {
    /// The TLSA base domain.
    pub base_domain: Name,
    /// The records.
    pub records: Vec<RawTlsa>,
}

impl PublishedTlsa {
    /// These records.
    pub fn new(base_domain: &Name, records: &[RawTlsa]) -> Self {
        Self { base_domain: base_domain.clone(), records: records.to_vec() }
    }
}

/// The MTA-STS policy of a domain as reports know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReportedSts {
    /// Sessions are measured by this one, of mode `enforce` or `testing`.
    Policy(ReportedPolicy),
    /// There is a record, and its policy could not be had, for this reason (RFC 8460 §4.3.3).
    Unfetched(StsFault),
}

/// A fault by an MTA-STS policy, in the words of reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StsFault {
    /// Its type.
    pub kind: ResultType,
    /// The reason, in a word of this program.
    pub reason: &'static str,
}

/// Whether the sessions of an MX iteration are reported. A level that the operator has chosen for a domain is no finding about the
/// receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reporting {
    /// They are not.
    Off,
    /// They are, at the level of the configuration.
    ByDefault,
    /// They are, at the level that a rule asks of the domain.
    ByRule,
}

impl Reporting {
    /// For a domain with this level, which the rule has set if there is one.
    pub fn of(level: &Level, rule: Option<&Rule>) -> Self {
        match (level, rule) {
            (Level::May(_) | Level::Encrypt | Level::Fingerprint(_), _) => Self::Off,
            // The operator's own route is no policy of the domain.
            (_, Some(Rule { next_hop: Some(_), .. })) => Self::Off,
            (Level::Dane(_) | Level::Verify | Level::Secure(_) | Level::DaneOnly, Some(_)) => Self::ByRule,
            (Level::Dane(_) | Level::Verify | Level::Secure(_) | Level::DaneOnly, None) => Self::ByDefault,
        }
    }

    /// Whether anything is reported.
    pub fn is_on(self) -> bool {
        match self {
            Self::Off => false,
            Self::ByDefault | Self::ByRule => true,
        }
    }
}

impl TlsResult {
    /// The word for it in metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure(failure) => failure.kind.as_str(),
        }
    }
}

impl ReportedFailure {
    /// The address that danelaw dialled from, as others see it. None behind a NAT: the address tells the receiver nothing, and
    /// others of our network.
    pub fn public_sending(&self) -> Option<IpAddr> {
        self.sending.filter(|address| Dialable::new([]).allows(*address))
    }
}

impl ReportedPolicy {
    /// That no policy was found for this domain.
    pub fn none_for(recipient: &Name) -> Self {
        Self::plain(PolicyKind::NoPolicyFound, recipient)
    }

    /// A policy without strings.
    pub fn plain(kind: PolicyKind, domain: &Name) -> Self {
        Self { kind, domain: domain.clone(), strings: Arc::default(), mx: Arc::default() }
    }

    /// The TLSA records at a base domain.
    pub fn tlsa(published: &PublishedTlsa) -> Self {
        let strings = strings(&published.records);
        Self { strings, ..Self::plain(PolicyKind::Tlsa, &published.base_domain) }
    }

    /// The MTA-STS policy of this domain (RFC 8460 §4.4: its lines, and its patterns).
    pub fn sts(recipient: &Name, policy: &StsPolicy) -> Self {
        let text = String::from_utf8_lossy(policy.body());
        let strings = bounded(text.lines().map(|line| line.trim_end().to_owned()).filter(|line| !line.is_empty()));
        let mx = bounded(policy.patterns().iter().map(MxPattern::to_string));
        Self { strings, mx, ..Self::plain(PolicyKind::Sts, recipient) }
    }
}

/// The event for a host or domain that a failure of the DNS or of the policy kept danelaw from trying. None for a refusal
/// that says nothing about the receiver.
pub fn untried(
    recipient: &Name,
    refusal: &Refusal,
    reporting: Reporting,
    sts: Option<&ReportedSts>,
) -> Option<TlsEvent> {
    let host = match &refusal.at {
        Place::Domain => None,
        Place::Host(host) => Some(host.clone()),
        Place::Peer(peer) => Some(peer.exchange.clone()),
    };
    let policy = match &refusal.reason {
        // The base domain lies below the port and the protocol (RFC 6698 §3).
        Reason::Dns(Failure { name, rtype: Rtype::TLSA, .. }) => {
            ReportedPolicy::plain(PolicyKind::Tlsa, &name.parent().parent())
        }
        // Where the operator asks DANE of all domains, its absence is no fault of this one.
        Reason::DaneRequired(_) if reporting != Reporting::ByRule => return None,
        Reason::MxNotInPolicy { .. } => match sts {
            Some(ReportedSts::Policy(policy)) => policy.clone(),
            Some(ReportedSts::Unfetched(_)) | None => return None,
        },
        // Of the others only lookups have a result type and no session.
        _ => ReportedPolicy::none_for(recipient),
    };
    let (kind, reason) = (refusal.reason.result_type()?, refusal.reason.reason_code());
    let failure = ReportedFailure { kind, reason, host, receiving: None, sending: None };
    Some(TlsEvent { recipient: recipient.clone(), policy, result: TlsResult::Failure(failure) })
}

/// These strings while they are short enough to be kept, and then a word for the others.
fn bounded(strings: impl Iterator<Item = String>) -> Arc<[String]> {
    let (mut kept, mut octets) = (Vec::new(), 0);
    for string in strings {
        octets += string.len();
        if octets > MAX_STRINGS {
            kept.push("(cut)".to_owned());
            break;
        }
        kept.push(string);
    }
    kept.into()
}

/// The records in presentation form, in one order whatever the order of the answer.
fn strings(records: &[RawTlsa]) -> Arc<[String]> {
    let mut all: Vec<String> = records.iter().map(ToString::to_string).collect();
    all.sort();
    all.dedup();
    if all.iter().map(String::len).sum::<usize>() > MAX_STRINGS {
        let digest = Sha256::digest(all.join("\n"));
        all = vec![format!("{} records, cut; SHA-256 {}", records.len(), Hex(&digest))];
    }
    all.into()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::dane::tlsa::NoDane;
    use crate::dns::FailureReason;
    use crate::policy::{DaneRequired, InsecureMx};
    use crate::rules::Domains;

    pub(crate) fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[test]
    fn hosts_and_domains_that_were_never_tried() {
        let failed = |rtype, reason| Reason::Dns(Failure { name: name("_25._tcp.base.example"), rtype, reason });
        let bogus = || FailureReason::Bogus("x".into());
        let required = || Reason::DaneRequired(DaneRequired(NoDane::NoTlsa));
        let host = name("mx.example");
        for (refusal, reporting, expected) in [
            (Refusal::domain(failed(Rtype::MX, bogus())), Reporting::ByDefault, Some(("no-policy-found", "example"))),
            (
                Refusal::host(&host, failed(Rtype::A, bogus())),
                Reporting::ByDefault,
                Some(("no-policy-found", "example")),
            ),
            (Refusal::host(&host, failed(Rtype::TLSA, bogus())), Reporting::ByDefault, Some(("tlsa", "base.example"))),
            (Refusal::host(&host, failed(Rtype::A, FailureReason::Timeout)), Reporting::ByDefault, None),
            // §17: only where a rule asks for it.
            (Refusal::host(&host, required()), Reporting::ByDefault, None),
            (Refusal::host(&host, required()), Reporting::ByRule, Some(("no-policy-found", "example"))),
            (Refusal::host(&host, Reason::NoAddress), Reporting::ByRule, None),
        ] {
            let found = untried(&name("example"), &refusal, reporting, None);
            let policy = found.as_ref().map(|found| (found.policy.kind.as_str(), found.policy.domain.as_str()));
            assert_eq!(policy, expected, "{refusal}");
            if let Some(TlsEvent { result: TlsResult::Failure(failure), .. }) = found {
                assert_eq!(failure.host.is_some(), refusal.at != Place::Domain);
            }
        }
    }

    #[test]
    fn p19_a_policy_of_mta_sts_has_its_lines_and_patterns() {
        // P19.
        let policy = |text: &str| ReportedPolicy::sts(&name("example"), &StsPolicy::parse(text.as_bytes()).unwrap());
        let text = "version: STSv1\r\nmode: testing \r\n\r\nmx: *.example\r\nmx: mx.example\r\nmax_age: 86400";
        let found = policy(text);
        assert_eq!(
            *found.strings,
            ["version: STSv1", "mode: testing", "mx: *.example", "mx: mx.example", "max_age: 86400"]
        );
        assert_eq!(*found.mx, ["*.example", "mx.example"]);
        assert_eq!((found.kind, found.domain), (PolicyKind::Sts, name("example")));
        // A long one is cut.
        let many: String = (0..1000).map(|number| format!("mx: mx{number}.example\n")).collect();
        let found = policy(&format!("{text}\n{many}"));
        for strings in [found.strings, found.mx] {
            assert!(strings.iter().map(String::len).sum::<usize>() <= MAX_STRINGS + 5);
            assert_eq!(strings.last().unwrap(), "(cut)");
        }
    }

    #[test]
    fn a_will_of_the_operator_is_not_reported() {
        let rule = |level: &Level, next_hop| Rule {
            sts: crate::rules::StsByRule::Heeded,
            domains: "example".parse::<Domains>().unwrap(),
            level: level.clone(),
            next_hop,
            reason: None,
            until: None,
        };
        let (dane, pins) = (Level::Dane(InsecureMx::Dane), Level::Fingerprint(vec![]));
        let hop = || Some("relay.example".parse().unwrap());
        for (level, ruled, expected) in [
            (&dane, None, Reporting::ByDefault),
            (&Level::DaneOnly, None, Reporting::ByDefault),
            (&Level::Encrypt, None, Reporting::Off),
            (&dane, Some(None), Reporting::ByRule),
            (&Level::DaneOnly, Some(None), Reporting::ByRule),
            (&dane, Some(hop()), Reporting::Off),
            (&pins, Some(None), Reporting::Off),
        ] {
            let rule = ruled.map(|next_hop| rule(level, next_hop));
            assert_eq!(Reporting::of(level, rule.as_ref()), expected, "{level} {rule:?}");
        }
    }

    #[test]
    fn a_hostile_record_set_is_cut() {
        let many: Vec<_> = (0..100).map(|fill| RawTlsa([vec![3, 1, 0], vec![fill; 600]].concat())).collect();
        let strings = strings(&many);
        assert_eq!(strings.len(), 1);
        assert!(strings[0].starts_with("100 records, cut; SHA-256 ") && strings[0].len() < 100, "{strings:?}");
    }
}
