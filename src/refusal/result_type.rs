//! The result type of each reason in TLS reports (RFC 8460 §4.3).
//!
//! A failure is reported where it says something about the receiver: its TLS, its certificate, its DNSSEC. The network, the
//! limits of this host and the rules of its operator are not reported (RFC 8460 §4.3.4).

use super::table::Label;
use super::{Reason, Stage, TlsFailure};
use crate::dane::mismatch::Mismatch;
use crate::dane::pkix::PkixWorth;
use crate::dane::tlsa::NoDane;
use crate::dns::{Failure, FailureReason, Rtype};
use crate::smtp::reply::Reply;
use crate::words::words;

/// A result type of the registry of RFC 8460 §6.6, as far as a sender of mail has one.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    strum::Display,
    strum::IntoStaticStr,
    strum::EnumString,
    strum::VariantArray,
)]
#[strum(serialize_all = "kebab-case")]
pub enum ResultType {
    /// The host does not offer STARTTLS, or refuses it.
    #[strum(serialize = "starttls-not-supported")]
    StartTlsNotSupported,
    /// The certificate is for another name.
    CertificateHostMismatch,
    /// The certificate has expired.
    CertificateExpired,
    /// The certificate does not lead to a key that is trusted.
    CertificateNotTrusted,
    /// TLS failed in another way.
    ValidationFailure,
    /// The TLSA records are of no use.
    TlsaInvalid,
    /// The DNS gave no valid answer.
    DnssecInvalid,
    /// DANE was required of the domain, and it has none.
    DaneRequired,
    /// The MTA-STS policy could not be fetched.
    StsPolicyFetchError,
    /// The MTA-STS policy could not be read.
    StsPolicyInvalid,
    /// The certificate of the host with the MTA-STS policy is not valid.
    StsWebpkiInvalid,
}

words!(ResultType);

/// Labels of which only a part is reported, and the part.
const IN_PART: &[(Label, &str)] = &[
    (Label::MxLookupFailed, "where the answer does not validate or is SERVFAIL"),
    (Label::AddressLookupFailed, "where the answer does not validate or is SERVFAIL"),
    (Label::TlsaLookupFailed, "where there is no answer, or it does not validate or is SERVFAIL"),
    (Label::DaneRequired, "where a rule asks for dane-only"),
    (Label::EhloRefused, "where the code says that the host does not know EHLO"),
    (Label::RemoteTimeout, "at STARTTLS"),
    (Label::ConnectionLost, "at STARTTLS and in the handshake"),
    (Label::ProtocolError, "at STARTTLS and in the handshake"),
];

impl Label {
    /// The condition under which a failure with this label is reported, where it has a condition.
    pub fn reported_where(self) -> Option<&'static str> {
        IN_PART.iter().find(|(label, _)| *label == self).map(|(_, part)| *part)
    }
}

impl Reason {
    /// The result type of RFC 8460 §4.3, if a failure for this reason is reported. That of `dane-required` holds where a rule
    /// asks for `dane-only`, which the reason does not know.
    pub fn result_type(&self) -> Option<ResultType> {
        match self {
            Self::Dns(failure) => of_lookup(failure),
            Self::DaneRequired(_) => Some(ResultType::DaneRequired),
            Self::Ehlo(reply) | Self::EhloInDoubt { reply, .. } => of_ehlo(reply),
            Self::StartTlsMissing | Self::StartTlsRefused(_) => Some(ResultType::StartTlsNotSupported),
            Self::StartTlsInjected => Some(ResultType::ValidationFailure),
            Self::Tls(failure) => Some(of_handshake(failure)),
            Self::Timeout { stage, .. } | Self::Lost { stage, .. } | Self::Protocol { stage, .. } => {
                stage.is_of_tls().then_some(ResultType::ValidationFailure)
            }
            // RFC 8460 §4.3.3 has no type of its own for it.
            Self::MxNotInPolicy { .. } => Some(ResultType::ValidationFailure),
            Self::NoRoute(_)
            | Self::StsLookup(_)
            | Self::StsNoTurn
            | Self::UnsignedUnderSts
            | Self::NotAuthenticated
            | Self::NoAddress
            | Self::NotInFamily(_)
            | Self::ReservedAddress(_)
            | Self::Bind { .. }
            | Self::Busy(_)
            | Self::Scarce(_)
            | Self::JustFailed { .. }
            | Self::Connect(_)
            | Self::Greeting(_)
            | Self::EhloName { .. }
            | Self::EhloUnderTls(_)
            | Self::Unsolicited(_)
            | Self::AnsweredUnread { .. }
            | Self::Closing(_)
            | Self::WrongAnswer { .. }
            | Self::Refused { .. }
            | Self::BdatRefused(_)
            | Self::Lacking(_)
            | Self::NotAsked(_)
            | Self::NotTried(_)
            | Self::OutOfTime => None,
        }
    }

    /// The `failure-reason-code` of RFC 8460 §4.4: the label, and one more word of this program where that tells more. No text
    /// of a remote or of a resolver is in it.
    pub fn reason_code(&self) -> String {
        let label = self.view().label;
        match self.detail() {
            Some(detail) => format!("{label} {detail}"),
            None => label.to_string(),
        }
    }

    fn detail(&self) -> Option<String> {
        if let Self::Ehlo(reply) | Self::EhloInDoubt { reply, .. } | Self::StartTlsRefused(reply) = self {
            return Some(reply.code().number().to_string());
        }
        if let Self::DaneRequired(required) = self {
            return Some(no_dane(&required.0).to_owned());
        }
        if let Self::Tls(TlsFailure::Alert(alert)) = self {
            // The name of the alert is the first word of the text.
            return Some(alert.chars().take_while(char::is_ascii_alphanumeric).take(MAX_ALERT).collect());
        }
        let (Self::Timeout { stage, .. } | Self::Lost { stage, .. } | Self::Protocol { stage, .. }) = self else {
            return None;
        };
        match stage {
            Stage::StartTls => Some("starttls".to_owned()),
            // `handshake-timeout` has it in its label.
            Stage::Handshake => (!matches!(self, Self::Timeout { .. })).then(|| "handshake".to_owned()),
            Stage::Connect
            | Stage::Greeting
            | Stage::Ehlo
            | Stage::EhloUnderTls
            | Stage::Mail
            | Stage::Rcpt
            | Stage::Data
            | Stage::Message
            | Stage::EndOfMessage => None,
        }
    }
}

/// The longest name of an alert is shorter.
const MAX_ALERT: usize = 40;

/// RFC 8460 §4.3.2.1: no valid answer came. A timeout may be a fault of the network here, so it counts only for TLSA, which is
/// asked behind an address that was answered; some name servers drop that question alone.
fn of_lookup(failure: &Failure) -> Option<ResultType> {
    match &failure.reason {
        FailureReason::Bogus(_) => Some(ResultType::DnssecInvalid),
        FailureReason::Refused(code) if code.contains("SERVFAIL") => Some(ResultType::DnssecInvalid),
        FailureReason::Timeout | FailureReason::Network(_) => {
            (failure.rtype == Rtype::TLSA).then_some(ResultType::DnssecInvalid)
        }
        FailureReason::Refused(_)
        | FailureReason::Malformed(_)
        | FailureReason::TooManyAliases(_)
        | FailureReason::TooManyRecords(_)
        | FailureReason::Scarce(_)
        | FailureReason::DeniedByFallback
        | FailureReason::NotValidating
        | FailureReason::NameTooLong => None,
    }
}

/// A host that does not know EHLO has no STARTTLS. Block lists answer EHLO with 550 and 554, which says nothing of TLS.
fn of_ehlo(reply: &Reply) -> Option<ResultType> {
    matches!(reply.code().number(), 500 | 502 | 504).then_some(ResultType::StartTlsNotSupported)
}

impl PkixWorth {
    /// The result type of a session by a policy that asks for a public CA; none where one vouches for the server.
    pub fn result_type(self) -> Option<ResultType> {
        match self {
            Self::Valid => None,
            Self::Expired => Some(ResultType::CertificateExpired),
            Self::OtherName => Some(ResultType::CertificateHostMismatch),
            // As in `of_mismatch`.
            Self::NotYetValid | Self::SelfSigned | Self::UnknownAuthority | Self::Invalid => {
                Some(ResultType::CertificateNotTrusted)
            }
            // As in `of_handshake`.
            Self::SniRefused => Some(ResultType::ValidationFailure),
        }
    }
}

fn of_handshake(failure: &TlsFailure) -> ResultType {
    match failure {
        TlsFailure::Mismatch(mismatch) => of_mismatch(mismatch),
        TlsFailure::SmallKey(_) | TlsFailure::UnsupportedKey => ResultType::CertificateNotTrusted,
        // The signature of the handshake is wrong, and the certificate may be right.
        TlsFailure::WrongKey
        | TlsFailure::NoSharedParameters(_)
        | TlsFailure::Injected
        | TlsFailure::NameNotKnown
        | TlsFailure::Alert(_)
        | TlsFailure::Closed(_)
        | TlsFailure::Broken(_) => ResultType::ValidationFailure,
    }
}

fn of_mismatch(mismatch: &Mismatch) -> ResultType {
    match mismatch {
        Mismatch::Expired(_) => ResultType::CertificateExpired,
        Mismatch::Name { .. } => ResultType::CertificateHostMismatch,
        // A reader of "expired" would renew a certificate that is not valid yet, in vain.
        Mismatch::NotYetValid(_)
        | Mismatch::NoCertificate
        | Mismatch::ChainTooLarge { .. }
        | Mismatch::NoRecord(_)
        | Mismatch::KeySize(..)
        | Mismatch::Untrusted(_)
        | Mismatch::Path(..) => ResultType::CertificateNotTrusted,
    }
}

fn no_dane(why: &NoDane) -> &'static str {
    match why {
        NoDane::InsecureMx => "insecure-mx",
        NoDane::InsecureAddress => "insecure-address",
        NoDane::NoTlsa => "no-tlsa",
        NoDane::UnusableTlsa(_) => "unusable-tlsa",
        NoDane::AddressOnly => "address-only",
        NoDane::NotAsked => "not-asked",
        NoDane::NotEnforced(_) => "not-enforced",
        NoDane::NotRequired(_) => "not-required",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::super::Refusal;
    use super::super::examples::refusals;
    use super::super::table::ROWS;
    use super::*;
    use crate::dane::mismatch::Holder;
    use crate::name::Name;
    use crate::smtp::reply::{Code, ReplyError};

    fn reply(number: u16) -> Reply {
        Reply::plain(Code::new(number).unwrap(), "so")
    }

    fn failed(rtype: Rtype, reason: FailureReason) -> Reason {
        Failure { name: Name::parse("example").unwrap(), rtype, reason }.into()
    }

    /// The law of the page: TLS, a host without ESMTP, DNSSEC, DANE that was required, and a host that an STS policy leaves out.
    fn is_reported(reason: &Reason) -> bool {
        let unknown_ehlo = match reason {
            Reason::Ehlo(reply) | Reason::EhloInDoubt { reply, .. } => [500, 502, 504].contains(&reply.code().number()),
            _ => false,
        };
        let no_valid_answer = match reason {
            Reason::Dns(Failure { reason: FailureReason::Bogus(_), .. }) => true,
            Reason::Dns(Failure { reason: FailureReason::Refused(code), .. }) => code == "SERVFAIL",
            Reason::Dns(Failure { reason: FailureReason::Timeout | FailureReason::Network(_), rtype, .. }) => {
                *rtype == Rtype::TLSA
            }
            _ => false,
        };
        let by_policy = matches!(reason, Reason::DaneRequired(_) | Reason::MxNotInPolicy { .. });
        reason.is_about_tls() || unknown_ehlo || no_valid_answer || by_policy
    }

    #[test]
    fn exactly_those_refusals_are_reported() {
        // O6, X3, T3: each example of the table of refusals.
        for Refusal { reason, .. } in refusals().unwrap() {
            assert_eq!(reason.result_type().is_some(), is_reported(&reason), "{reason:?}");
        }
    }

    #[test]
    fn labels_that_are_reported_in_part_say_which() {
        let types = |label| {
            let all = refusals().unwrap().into_iter().chain(variants());
            let of = all.filter(move |refusal| refusal.reason.view().label == label);
            of.map(|refusal| refusal.reason.result_type()).collect::<BTreeSet<_>>()
        };
        for row in ROWS {
            let types = types(row.label);
            assert!(types.iter().flatten().count() <= 1, "{}: {types:?}", row.label);
            let in_part = types.contains(&None) && types.len() > 1 || row.label == Label::DaneRequired;
            assert_eq!(row.label.reported_where().is_some(), in_part, "{}: {types:?}", row.label);
        }
    }

    /// Refusals with the labels of examples, and another result type.
    fn variants() -> Vec<Refusal> {
        let limit = std::time::Duration::from_secs(1);
        let error = || std::io::ErrorKind::ConnectionReset.into();
        let mut all = vec![Reason::Ehlo(reply(550)), Reason::Ehlo(reply(500))];
        for rtype in [Rtype::MX, Rtype::A, Rtype::TLSA] {
            all.extend([
                failed(rtype, FailureReason::Timeout),
                failed(rtype, FailureReason::Bogus("x".into())),
                failed(rtype, FailureReason::Refused("REFUSED".into())),
            ]);
        }
        for stage in [Stage::Greeting, Stage::StartTls, Stage::Handshake, Stage::Mail] {
            all.extend([
                Reason::Timeout { stage, limit },
                Reason::Lost { stage, error: error() },
                Reason::Protocol { stage, error: ReplyError::LineTooLong },
            ]);
        }
        all.into_iter().map(Refusal::domain).collect()
    }

    #[test]
    fn a_session_without_sni_is_told_as_the_refusal_of_one_with_it() {
        let refused = Reason::from(TlsFailure::NameNotKnown);
        assert_eq!(PkixWorth::SniRefused.result_type(), refused.result_type());
        assert_eq!(PkixWorth::SniRefused.refusal(), Some(refused.view().label));
    }

    #[test]
    fn a_certificate_has_one_result_type_by_dane_and_by_mta_sts() {
        let name = Mismatch::Name { found: std::iter::empty().collect(), wanted: vec![] };
        for (worth, mismatch) in [
            (PkixWorth::Expired, Mismatch::Expired(Holder::Server)),
            (PkixWorth::NotYetValid, Mismatch::NotYetValid(Holder::Server)),
            (PkixWorth::OtherName, name),
        ] {
            assert_eq!(worth.result_type(), Some(of_mismatch(&mismatch)), "{worth:?}");
        }
    }

    #[test]
    fn dns_failures_count_where_the_fault_is_there() {
        // T6.
        let (bogus, refused) = (|| FailureReason::Bogus("x".into()), |code: &str| FailureReason::Refused(code.into()));
        for rtype in [Rtype::MX, Rtype::A, Rtype::AAAA, Rtype::TLSA] {
            for (reason, counts) in [
                (bogus(), true),
                (refused("SERVFAIL"), true),
                (refused("REFUSED"), false),
                (FailureReason::Timeout, rtype == Rtype::TLSA),
                (FailureReason::Network("x".into()), rtype == Rtype::TLSA),
                (FailureReason::Malformed("x".into()), false),
                (FailureReason::NotValidating, false),
                (crate::scarce::Scarcity::OwnDescriptors.into(), false),
            ] {
                let found = failed(rtype, reason.clone()).result_type();
                assert_eq!(found, counts.then_some(ResultType::DnssecInvalid), "{rtype} {reason}");
            }
        }
    }

    #[test]
    fn the_code_of_a_reason_is_made_of_our_words() {
        let error = std::io::ErrorKind::ConnectionReset.into();
        for (reason, code) in [
            (Reason::StartTlsMissing, "starttls-missing"),
            (Reason::StartTlsRefused(reply(454)), "starttls-refused 454"),
            (Reason::Ehlo(reply(502)), "ehlo-refused 502"),
            (TlsFailure::NameNotKnown.into(), "sni-refused"),
            (TlsFailure::Alert("CertificateRequired: it takes mail".into()).into(), "tls-alert CertificateRequired"),
            (crate::policy::DaneRequired(NoDane::NoTlsa).into(), "dane-required no-tlsa"),
            (Reason::Lost { stage: Stage::StartTls, error }, "connection-lost starttls"),
            (Reason::Protocol { stage: Stage::Handshake, error: ReplyError::LineTooLong }, "protocol-error handshake"),
            (
                Reason::Timeout { stage: Stage::Handshake, limit: std::time::Duration::from_secs(1) },
                "handshake-timeout",
            ),
        ] {
            assert_eq!(reason.reason_code(), code);
        }
    }

    proptest! {
        /// H3: a remote, or a resolver, writes no part of it.
        #[test]
        fn no_text_of_a_stranger_is_in_a_reason_code(text in "\\PC{1,60}") {
            let marked = format!("\u{e9}{text}\u{e9}");
            let said = || Reply::plain(Code::LOCAL_ERROR, marked.clone());
            for reason in [
                Reason::StartTlsRefused(said()),
                Reason::Ehlo(said()),
                TlsFailure::Alert(marked.clone()).into(),
                TlsFailure::Broken(marked.clone()).into(),
                TlsFailure::NoSharedParameters(marked.clone()).into(),
                failed(Rtype::TLSA, FailureReason::Bogus(marked.clone())),
            ] {
                let code = reason.reason_code();
                prop_assert!(code.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b' '), "{}", code);
                prop_assert!(code.len() < 80);
            }
        }
    }
}
