//! The events of a TLS session with one address: one for each policy that was evaluated there (RFC 8460 §4.4).
//!
//! | policy of the session | under `tlsa` | under `sts`, or `no-policy-found` |
//! |---|---|---|
//! | Dane, HalfDane, StsDane | the session's end | the STS policy, if it was asked |
//! | Sts, Pkix, Encrypt with unusable records | `tlsa-invalid`, or no TLS | the STS policy, if it was asked |
//! | Sts, Pkix, Encrypt without records | none | the STS policy, else no policy |
//! | Encrypt by the operator, Fingerprint, May | none | none |
//!
//! A policy that could not be fetched is told once, as a failure for which no policy was found (RFC 8460 §4.3.3).

use std::net::IpAddr;

use super::event::{
    PolicyKind, PublishedTlsa, ReportedFailure, ReportedPolicy, ReportedSts, StsFault, TlsEvent, TlsResult,
};
use crate::dane::mismatch::Mismatch;
use crate::dane::tlsa::NoDane;
use crate::name::Name;
use crate::policy::TlsPolicy;
use crate::refusal::{Peer, Reason, ResultType, TlsFailure};

/// A session with one address.
#[derive(Debug, Clone, Copy)]
pub struct TriedSession<'a> {
    /// The domain that the mail was for.
    pub recipient: &'a Name,
    /// The policy that the session had to meet.
    pub policy: &'a TlsPolicy,
    /// The TLSA records of the host.
    pub published: Option<&'a PublishedTlsa>,
    /// The host.
    pub peer: &'a Peer,
    /// The address that danelaw dialled from.
    pub sending: Option<IpAddr>,
    /// The MTA-STS policy of the domain, if it was evaluated at this host and there is one.
    pub sts: Option<&'a ReportedSts>,
    /// The fault by a policy that is not held to.
    pub trial: Option<StsFault>,
}

/// How a session ended, as far as that says anything about TLS.
#[derive(Debug, Clone, Copy)]
enum SessionEnd<'a> {
    /// It met its policy.
    Met,
    /// It did not.
    Failed { kind: ResultType, reason: &'a Reason },
}

impl<'a> SessionEnd<'a> {
    /// None if the failure is not about the receiver's TLS.
    fn of(failed: Option<&'a Reason>) -> Option<Self> {
        match failed {
            // The first reply came under TLS, and it is about another matter.
            None | Some(Reason::EhloUnderTls(_) | Reason::EhloName { .. }) => Some(Self::Met),
            Some(reason) => Some(Self::Failed { kind: reason.result_type()?, reason }),
        }
    }

    /// Whether TLS went well, and the certificate is not one that the policy asks for.
    fn is_of_certificate(self) -> bool {
        match self {
            // Without a certificate there is no TLS under any policy.
            Self::Failed { reason: Reason::Tls(TlsFailure::Mismatch(mismatch)), .. } => {
                !matches!(mismatch, Mismatch::NoCertificate)
            }
            Self::Failed { .. } | Self::Met => false,
        }
    }
}

impl TriedSession<'_> {
    /// The events for a session that ended so: one for each policy that was evaluated. None if the end is not about the
    /// receiver, or the policy is the operator's own.
    pub fn events(&self, failed: Option<&Reason>) -> impl Iterator<Item = TlsEvent> {
        let end = SessionEnd::of(failed).filter(|_| !self.is_by_operator());
        let events = end.map(|end| [self.by_tlsa(end), self.by_domain(end)]);
        events.into_iter().flatten().flatten()
    }

    /// Whether the operator has chosen the policy, and the domain has no say.
    fn is_by_operator(&self) -> bool {
        match self.policy {
            TlsPolicy::Encrypt(
                _,
                NoDane::AddressOnly | NoDane::NotAsked | NoDane::NotEnforced(_) | NoDane::NotRequired(_),
            )
            | TlsPolicy::Fingerprint(_)
            | TlsPolicy::May(..) => true,
            TlsPolicy::Dane(_)
            | TlsPolicy::HalfDane(_)
            | TlsPolicy::StsDane(_)
            | TlsPolicy::Sts(_)
            | TlsPolicy::Pkix(..)
            | TlsPolicy::Encrypt(..) => false,
        }
    }

    /// Whether TLSA records authenticate the host.
    fn is_by_records(&self) -> bool {
        matches!(self.policy, TlsPolicy::Dane(_) | TlsPolicy::HalfDane(_) | TlsPolicy::StsDane(_))
    }

    fn by_tlsa(&self, end: SessionEnd<'_>) -> Option<TlsEvent> {
        let policy = self.tlsa_policy()?;
        let is_encrypted = matches!(end, SessionEnd::Met) || end.is_of_certificate();
        let result = if is_encrypted && !self.is_by_records() {
            // RFC 8460 §4.3.2.1: the session is encrypted, and records of which none is usable authenticate nothing.
            TlsResult::Failure(self.failure(ResultType::TlsaInvalid, "all-records-unusable".to_owned()))
        } else {
            self.ended(end)
        };
        Some(self.told(policy, result))
    }

    fn tlsa_policy(&self) -> Option<ReportedPolicy> {
        let base_domain = match self.policy {
            TlsPolicy::Dane(expected) | TlsPolicy::HalfDane(expected) | TlsPolicy::StsDane(expected) => {
                Some(expected.usable.base_domain())
            }
            TlsPolicy::Encrypt(host, NoDane::UnusableTlsa(_)) => Some(host),
            // These do not say why there are no usable records.
            TlsPolicy::Sts(_) | TlsPolicy::Pkix(..) => None,
            TlsPolicy::Encrypt(..) | TlsPolicy::Fingerprint(_) | TlsPolicy::May(..) => return None,
        };
        let published = self.published.map(ReportedPolicy::tlsa);
        published.or_else(|| Some(ReportedPolicy::plain(PolicyKind::Tlsa, base_domain?)))
    }

    /// By the domain's MTA-STS policy, or without any policy.
    fn by_domain(&self, end: SessionEnd<'_>) -> Option<TlsEvent> {
        let none = || ReportedPolicy::none_for(self.recipient);
        let has_tlsa = self.tlsa_policy().is_some();
        match self.sts {
            Some(ReportedSts::Policy(policy)) => Some(self.told(policy.clone(), self.by_sts(end)?)),
            Some(ReportedSts::Unfetched(fault)) => {
                let is_told = has_tlsa || matches!(end, SessionEnd::Met) || end.is_of_certificate();
                Some(self.told(none(), if is_told { of_fetch(*fault) } else { self.ended(end) }))
            }
            None if has_tlsa => None,
            // The operator's level alone asks for the certificate.
            None if end.is_of_certificate() => None,
            None => Some(self.told(none(), self.ended(end))),
        }
    }

    /// None where the TLSA records alone have measured the certificate, and the policy lists the host.
    fn by_sts(&self, end: SessionEnd<'_>) -> Option<TlsResult> {
        let is_of_certificate = end.is_of_certificate();
        match (end, self.trial) {
            (SessionEnd::Met, Some(fault)) => Some(self.at_fault(fault)),
            (SessionEnd::Failed { .. }, Some(fault)) if is_of_certificate => Some(self.at_fault(fault)),
            (SessionEnd::Failed { .. }, None) if is_of_certificate && self.is_by_records() => None,
            (SessionEnd::Met | SessionEnd::Failed { .. }, _) => Some(self.ended(end)),
        }
    }

    fn at_fault(&self, StsFault { kind, reason }: StsFault) -> TlsResult {
        TlsResult::Failure(self.failure(kind, reason.to_owned()))
    }

    fn ended(&self, end: SessionEnd<'_>) -> TlsResult {
        match end {
            SessionEnd::Met => TlsResult::Success,
            SessionEnd::Failed { kind, reason } => TlsResult::Failure(self.failure(kind, reason.reason_code())),
        }
    }

    fn told(&self, policy: ReportedPolicy, result: TlsResult) -> TlsEvent {
        TlsEvent { recipient: self.recipient.clone(), policy, result }
    }

    fn failure(&self, kind: ResultType, reason: String) -> ReportedFailure {
        let Peer { exchange, address, .. } = self.peer;
        let (host, receiving) = (Some(exchange.clone()), Some(*address));
        ReportedFailure { kind, reason, host, receiving, sending: self.sending }
    }
}

/// A fault of the policy host, which is none of the exchange.
fn of_fetch(StsFault { kind, reason }: StsFault) -> TlsResult {
    TlsResult::Failure(ReportedFailure { kind, reason: reason.to_owned(), host: None, receiving: None, sending: None })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use super::super::event::tests::name;
    use super::*;
    use crate::dane::agility::Digests;
    use crate::dane::tlsa::{Associations, associations};
    use crate::dane::verify::{Expectation, References};
    use crate::dns::RawTlsa;
    use crate::policy::{NamedBy, Permit};
    use crate::refusal::examples::refusals;
    use crate::refusal::{Refusal, Stage};
    use crate::smtp::reply::{Code, Reply};

    fn raw(usage: u8, fill: u8) -> RawTlsa {
        RawTlsa([vec![usage, 1, 1], vec![fill; 32]].concat())
    }

    fn published(records: Vec<RawTlsa>) -> PublishedTlsa {
        PublishedTlsa { base_domain: name("base.example"), records }
    }

    fn expected(records: &[RawTlsa]) -> Arc<Expectation> {
        let usable = match associations(name("base.example"), records, &Digests::default()) {
            Associations::Usable(usable) => usable,
            Associations::None(why) => panic!("{why}"),
        };
        Arc::new(Expectation { references: References::new(name("base.example"), []), usable })
    }

    /// The parts of a session that decide on its events.
    #[derive(Debug, Clone)]
    struct Case {
        policy: TlsPolicy,
        published: Option<PublishedTlsa>,
        sts: Option<ReportedSts>,
        trial: Option<StsFault>,
    }

    impl Case {
        fn events(&self, failed: Option<&Reason>) -> Vec<TlsEvent> {
            let peer = Peer { exchange: name("mx.example"), address: [198, 51, 100, 2].into(), port: None };
            let Self { policy, published, sts, trial } = self;
            let session = TriedSession {
                recipient: &name("example"),
                policy,
                published: published.as_ref(),
                peer: &peer,
                sending: Some([192, 0, 2, 1].into()),
                sts: sts.as_ref(),
                trial: *trial,
            };
            session.events(failed).collect()
        }

        /// Each event in a line: its policy type, and `success` or the reason.
        fn lines(&self, failed: Option<&Reason>) -> Vec<String> {
            let events = self.events(failed);
            let line = |TlsEvent { policy, result, .. }: &TlsEvent| match result {
                TlsResult::Success => format!("{} success", policy.kind.as_str()),
                TlsResult::Failure(failure) => {
                    format!("{} {} {}", policy.kind.as_str(), failure.kind.as_str(), failure.reason)
                }
            };
            events.iter().map(line).collect()
        }
    }

    fn usable() -> Vec<RawTlsa> {
        vec![raw(3, 0xbb), raw(3, 0xaa), raw(1, 0xcc)]
    }

    fn encrypt(why: NoDane) -> TlsPolicy {
        TlsPolicy::Encrypt(name("mx.example"), why)
    }

    fn pkix() -> TlsPolicy {
        TlsPolicy::Pkix(name("mx.example"), NamedBy::SecureMx)
    }

    fn sts() -> ReportedSts {
        ReportedSts::Policy(ReportedPolicy::plain(PolicyKind::Sts, &name("example")))
    }

    fn unfetched() -> ReportedSts {
        ReportedSts::Unfetched(StsFault { kind: ResultType::StsWebpkiInvalid, reason: "certificate" })
    }

    const NOT_LISTED: StsFault = StsFault { kind: ResultType::ValidationFailure, reason: "mx-not-in-policy" };

    fn bare(policy: TlsPolicy) -> Case {
        Case { policy, published: None, sts: None, trial: None }
    }

    fn with_records(policy: TlsPolicy) -> Case {
        Case { published: Some(published(usable())), ..bare(policy) }
    }

    /// Every policy of a session, with the TLSA records and answers on MTA-STS that may come with it.
    fn cases() -> Vec<Case> {
        let pins = || expected(&usable());
        let permit = Permit::Observe { level: "dane" };
        let of_operator = [
            encrypt(NoDane::AddressOnly),
            encrypt(NoDane::NotAsked),
            encrypt(NoDane::NotEnforced("dane")),
            encrypt(NoDane::NotRequired("dane")),
            TlsPolicy::Fingerprint(pins()),
            TlsPolicy::May(name("mx.example"), permit),
            TlsPolicy::May(name("mx.example"), Permit::TlsRequiredNo { level: "dane" }),
        ];
        let mut all: Vec<_> =
            of_operator.into_iter().flat_map(|policy| [bare(policy.clone()), with_records(policy)]).collect();
        let by_records = [TlsPolicy::Dane(pins()), TlsPolicy::HalfDane(pins()), TlsPolicy::StsDane(pins())];
        all.extend(by_records.into_iter().map(with_records));
        all.push(with_records(encrypt(NoDane::UnusableTlsa(vec![]))));
        all.extend([NoDane::NoTlsa, NoDane::InsecureAddress, NoDane::InsecureMx].map(encrypt).map(bare));
        for policy in [TlsPolicy::Sts(name("mx.example")), pkix()] {
            all.extend([bare(policy.clone()), with_records(policy)]);
        }
        let answers = [(None, None), (Some(sts()), None), (Some(sts()), Some(NOT_LISTED)), (Some(unfetched()), None)];
        let with =
            |case: Case| answers.clone().into_iter().map(move |(sts, trial)| Case { sts, trial, ..case.clone() });
        all.into_iter().flat_map(with).collect()
    }

    /// The law over policies and ends: the kinds of policies under which an end counts.
    fn law(case: &Case, failed: Option<&Reason>) -> BTreeSet<&'static str> {
        let is_silent = match &case.policy {
            TlsPolicy::Encrypt(_, why) => {
                let by_mail = matches!(why, NoDane::NotRequired(_));
                by_mail || matches!(why, NoDane::AddressOnly | NoDane::NotAsked | NoDane::NotEnforced(_))
            }
            policy => matches!(policy, TlsPolicy::Fingerprint(_) | TlsPolicy::May(..)),
        };
        let is_under_tls = matches!(failed, None | Some(Reason::EhloUnderTls(_) | Reason::EhloName { .. }));
        if is_silent || !is_under_tls && failed.is_some_and(|reason| reason.result_type().is_none()) {
            return BTreeSet::new();
        }
        let of_certificate = failed.is_some_and(|reason| {
            matches!(reason, Reason::Tls(TlsFailure::Mismatch(found)) if !matches!(found, Mismatch::NoCertificate))
        });
        let by_records = matches!(case.policy, TlsPolicy::Dane(_) | TlsPolicy::HalfDane(_) | TlsPolicy::StsDane(_));
        let mut kinds = BTreeSet::new();
        kinds.extend(case.published.as_ref().map(|_| "tlsa"));
        match &case.sts {
            Some(ReportedSts::Policy(_)) if of_certificate && by_records && case.trial.is_none() => {}
            Some(ReportedSts::Policy(_)) => drop(kinds.insert("sts")),
            Some(ReportedSts::Unfetched(_)) => drop(kinds.insert("no-policy-found")),
            None if kinds.is_empty() && !of_certificate => drop(kinds.insert("no-policy-found")),
            None => {}
        }
        kinds
    }

    #[test]
    fn each_policy_that_was_evaluated_counts_a_session_once() {
        // T1, T4, T7, T12, over all policies and all reasons.
        let refusals = refusals().unwrap();
        let ends: Vec<_> = refusals.iter().map(|Refusal { reason, .. }| Some(reason)).chain([None]).collect();
        for case in cases() {
            for end in &ends {
                let events = case.events(*end);
                let kinds: BTreeSet<_> = events.iter().map(|event| event.policy.kind.as_str()).collect();
                assert_eq!(kinds.len(), events.len(), "twice under one policy: {case:?} {end:?}");
                assert_eq!(kinds, law(&case, *end), "{case:?} {end:?}");
                // No failed session is told as a success, and a session without a fault is one under each usable policy.
                let is_met = matches!(end, None | Some(Reason::EhloUnderTls(_) | Reason::EhloName { .. }));
                let successes = events.iter().filter(|event| event.result == TlsResult::Success).count();
                assert!(is_met || successes == 0, "{case:?} {end:?}");
            }
        }
    }

    #[test]
    fn the_policies_of_a_level_that_asks_for_certificates() {
        // T1, T7: level `verify` or `secure` without DANE and without a policy that is enforced.
        let starttls = Some(Reason::StartTlsMissing);
        let name_mismatch = refusals()
            .unwrap()
            .into_iter()
            .map(|refusal| refusal.reason)
            .find(|reason| matches!(reason, Reason::Tls(TlsFailure::Mismatch(Mismatch::Name { .. }))));
        let (missing, other_name) =
            ("starttls-not-supported starttls-missing", "certificate-host-mismatch name-mismatch");
        let with = |sts, trial| Case { sts, trial, ..bare(pkix()) };
        for (case, failed, expected) in [
            (with(None, None), &None, vec!["no-policy-found success".to_owned()]),
            (with(None, None), &starttls, vec![format!("no-policy-found {missing}")]),
            // The operator alone asks for it.
            (with(None, None), &name_mismatch, vec![]),
            (with(Some(sts()), None), &None, vec!["sts success".to_owned()]),
            (with(Some(sts()), None), &starttls, vec![format!("sts {missing}")]),
            (with(Some(sts()), None), &name_mismatch, vec![format!("sts {other_name}")]),
            (with(Some(sts()), Some(NOT_LISTED)), &None, vec!["sts validation-failure mx-not-in-policy".to_owned()]),
        ] {
            assert_eq!(case.lines(failed.as_ref()), expected, "{case:?} {failed:?}");
        }
    }

    #[test]
    fn the_policy_of_mta_sts_beside_records() {
        // T12.
        let mismatch = Reason::from(TlsFailure::Mismatch(Mismatch::ChainTooLarge { certificates: 40, octets: 90_000 }));
        let (half, both) = (TlsPolicy::HalfDane(expected(&usable())), TlsPolicy::StsDane(expected(&usable())));
        let (by_sts, unusable) = (TlsPolicy::Sts(name("mx.example")), encrypt(NoDane::UnusableTlsa(vec![])));
        let chain = "certificate-not-trusted chain-too-large";
        let (invalid, fetch) = ("tlsa-invalid all-records-unusable", "sts-webpki-invalid certificate");
        for (policy, sts, trial, met, failed) in [
            (&half, None, None, vec!["tlsa success".to_owned()], vec![format!("tlsa {chain}")]),
            (
                &half,
                Some(sts()),
                Some(NOT_LISTED),
                vec!["tlsa success".to_owned(), "sts validation-failure mx-not-in-policy".to_owned()],
                vec![format!("tlsa {chain}"), "sts validation-failure mx-not-in-policy".to_owned()],
            ),
            (
                &half,
                Some(unfetched()),
                None,
                vec!["tlsa success".to_owned(), format!("no-policy-found {fetch}")],
                vec![format!("tlsa {chain}"), format!("no-policy-found {fetch}")],
            ),
            (
                &both,
                Some(sts()),
                None,
                vec!["tlsa success".to_owned(), "sts success".to_owned()],
                vec![format!("tlsa {chain}")],
            ),
            (
                &by_sts,
                Some(sts()),
                None,
                vec![format!("tlsa {invalid}"), "sts success".to_owned()],
                vec![format!("tlsa {invalid}"), format!("sts {chain}")],
            ),
            (
                &unusable,
                Some(unfetched()),
                None,
                vec![format!("tlsa {invalid}"), format!("no-policy-found {fetch}")],
                vec![format!("tlsa {invalid}"), format!("no-policy-found {fetch}")],
            ),
        ] {
            let case = Case { sts, trial, ..with_records(policy.clone()) };
            assert_eq!(case.lines(None), met, "{case:?}");
            assert_eq!(case.lines(Some(&mismatch)), failed, "{case:?}");
        }
    }

    #[test]
    fn the_records_of_a_policy_have_one_order() {
        // T9.
        let case = with_records(TlsPolicy::Dane(expected(&usable())));
        let found = case.events(None);
        assert_eq!((found[0].policy.domain.as_str(), found[0].policy.strings.len()), ("base.example", 3));
        assert_eq!(found[0].recipient, name("example"));
        // The same, where the DNS turns the records round.
        let turned = published(usable().into_iter().rev().collect());
        assert_eq!(Case { published: Some(turned), ..case }.events(None), found);
    }

    #[test]
    fn the_result_of_a_session() {
        // T10.
        let dane = with_records(TlsPolicy::Dane(expected(&usable())));
        let reply = |number| Reply::plain(Code::new(number).unwrap(), "no");
        let result = |failed: Reason| dane.events(Some(&failed)).pop().map(|event| event.result);
        assert_eq!(result(Reason::EhloUnderTls(reply(550))), Some(TlsResult::Success));
        let whole = ReportedFailure {
            kind: ResultType::StartTlsNotSupported,
            reason: "starttls-refused 454".into(),
            host: Some(name("mx.example")),
            receiving: Some([198, 51, 100, 2].into()),
            sending: Some([192, 0, 2, 1].into()),
        };
        assert_eq!(result(Reason::StartTlsRefused(reply(454))), Some(TlsResult::Failure(whole)));
        let refused = Reason::Refused { stage: Stage::Mail, reply: reply(450) };
        for reason in [Reason::Greeting(reply(421)), Reason::Ehlo(reply(554)), refused] {
            assert_eq!(result(reason), None);
        }
    }
}
