//! How urgently an operator of danelaw must look at an attempt: the level of its log event.
//!
//! | urgency | level | the operator |
//! |---|---|---|
//! | routine | info | has no task: the mail was delivered, or the client, the other side or time settles it |
//! | refusal | warning | looks for an attack on the way, or whether a rule, a limit or the DNS has to be mended |
//! | fault | error | mends this host or the configuration: mail waits until then |

use super::Label;

/// How urgently an operator must look at an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// The operator has no task.
    Routine,
    /// A policy was not met, an attack looks just so, or a limit of the configuration was reached.
    Refusal,
    /// danelaw or its host is at fault.
    Fault,
}

impl Urgency {
    /// The level of a log event.
    pub fn level(self) -> &'static str {
        match self {
            Self::Routine => "info",
            Self::Refusal => "warning",
            Self::Fault => "error",
        }
    }
}

impl Label {
    /// How urgently an operator must look at a mail with this reason.
    pub fn urgency(self) -> Urgency {
        use Urgency::{Fault, Refusal, Routine};
        match self {
            Self::OutOfDescriptors | Self::OutOfMemory | Self::BindFailed => Fault,
            Self::StoreDown | Self::NoExchange => Fault,
            // A lookup that fails never switches DANE off, and an attacker may be the reason that it fails.
            Self::MxLookupFailed | Self::AddressLookupFailed => Refusal,
            Self::TlsaLookupFailed | Self::StsLookupFailed => Refusal,
            Self::DaneRequired | Self::MxNotInPolicy | Self::StsUnsignedDns | Self::NotAuthenticated => Refusal,
            Self::EhloRefused | Self::StartTlsMissing | Self::StartTlsRefused | Self::StartTlsInjected => Refusal,
            Self::NoCertificate | Self::ChainTooLarge | Self::TlsaMismatch | Self::RsaKeySize => Refusal,
            Self::CertificateExpired | Self::CertificateNotYetValid | Self::ChainNotVerified => Refusal,
            Self::UntrustedAuthority | Self::NameMismatch | Self::WrongKey | Self::UnsupportedKey => Refusal,
            Self::NoSharedTlsParameters | Self::PlaintextInjected | Self::TlsAlert | Self::TlsClosed => Refusal,
            Self::SniRefused
            | Self::TlsBroken
            | Self::HandshakeTimeout
            | Self::UnsolicitedReply
            | Self::AnsweredUnread => Refusal,
            Self::MailLoop | Self::TooManyHops | Self::BareNewline | Self::Nul => Refusal,
            Self::ReservedAddress | Self::NoAddressInFamily | Self::NoPrimary => Refusal,
            Self::TooManyConnections | Self::StsNoTurn | Self::ExchangesNotTried => Refusal,
            Self::EhloNameRefused | Self::EhloUnderTlsRefused | Self::FinalReplyLost => Refusal,
            Self::NoDomain | Self::SpecialUseName | Self::NullMx | Self::NoHost | Self::NoAddress => Routine,
            // The sender's own demand, of which the reply tells.
            Self::RequireTlsUnauthenticated | Self::RequireTlsMissing | Self::TlsRequiredMissing => Routine,
            Self::FailedJustNow | Self::ConnectFailed | Self::ConnectTimeout | Self::GreetingRefused => Routine,
            Self::RemoteTimeout | Self::ConnectionLost | Self::ProtocolError | Self::RemoteClosing => Routine,
            Self::MailRefused | Self::BdatRefused | Self::EightBitMimeMissing | Self::ExtensionNotAsked => Routine,
            Self::SmtpUtf8Missing | Self::SmtpUtf8MissingForHeader | Self::MessageTooLarge => Routine,
            Self::OutOfTime | Self::RecipientRefused | Self::DataRefused | Self::MessageRefused => Routine,
            Self::TooLarge | Self::StoreBusy | Self::AnsweredInPart | Self::AnsweredBefore => Routine,
            Self::ClientLost | Self::Aborted => Routine,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_operator_has_to_look_at() {
        for (urgency, labels) in [
            (
                Urgency::Refusal,
                &[
                    Label::TlsaMismatch,
                    Label::WrongKey,
                    Label::StartTlsInjected,
                    Label::PlaintextInjected,
                    Label::StartTlsMissing,
                    Label::TlsaLookupFailed,
                    Label::MxNotInPolicy,
                    Label::DaneRequired,
                ][..],
            ),
            (Urgency::Fault, &[Label::OutOfDescriptors, Label::OutOfMemory, Label::BindFailed, Label::StoreDown]),
            (Urgency::Routine, &[Label::RecipientRefused, Label::NoDomain, Label::ConnectTimeout, Label::Aborted]),
        ] {
            for label in labels {
                assert_eq!(label.urgency(), urgency, "{label}");
            }
        }
        // A shortage of this host is its own fault.
        assert!(Label::ALL.iter().filter(|label| label.is_scarcity()).all(|label| label.urgency() == Urgency::Fault));
    }
}
