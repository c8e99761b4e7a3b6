//! The want for which a mail was not delivered: that of a proof, of an answer of the DNS, or another one.

use super::Label;

/// The want for which a mail was not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortfall {
    /// TLS, or the proof that a policy demands: of the host, of its name, or of the domain's DNSSEC.
    Proof,
    /// An answer of the DNS. Its failure may be one of DNSSEC, or of the network.
    DnsAnswer,
    /// Another one.
    Other,
}

impl Label {
    /// The want of a mail with this reason.
    pub fn shortfall(self) -> Shortfall {
        use Shortfall::{DnsAnswer, Other, Proof};
        match self {
            Self::MxLookupFailed | Self::AddressLookupFailed | Self::TlsaLookupFailed | Self::StsLookupFailed => {
                DnsAnswer
            }
            Self::DaneRequired | Self::MxNotInPolicy | Self::StsUnsignedDns | Self::NotAuthenticated => Proof,
            Self::RequireTlsUnauthenticated | Self::RequireTlsMissing => Proof,
            // Without EHLO there is no STARTTLS.
            Self::EhloRefused | Self::StartTlsMissing | Self::StartTlsRefused | Self::StartTlsInjected => Proof,
            Self::NoCertificate | Self::ChainTooLarge | Self::TlsaMismatch | Self::RsaKeySize => Proof,
            Self::CertificateExpired | Self::CertificateNotYetValid | Self::ChainNotVerified => Proof,
            Self::UntrustedAuthority | Self::NameMismatch | Self::WrongKey | Self::UnsupportedKey => Proof,
            Self::NoSharedTlsParameters | Self::PlaintextInjected | Self::TlsAlert | Self::TlsClosed => Proof,
            Self::TlsBroken | Self::HandshakeTimeout => Proof,
            Self::NoDomain | Self::SpecialUseName | Self::NullMx | Self::NoHost | Self::NoAddress => Other,
            Self::NoAddressInFamily | Self::ReservedAddress | Self::MailLoop | Self::StsNoTurn => Other,
            Self::TooManyConnections | Self::OutOfDescriptors | Self::OutOfMemory | Self::BindFailed => Other,
            Self::FailedJustNow | Self::ConnectFailed | Self::ConnectTimeout | Self::GreetingRefused => Other,
            Self::EhloNameRefused | Self::EhloUnderTlsRefused | Self::RemoteTimeout | Self::ConnectionLost => Other,
            Self::FinalReplyLost | Self::ProtocolError | Self::UnsolicitedReply | Self::AnsweredUnread => Other,
            Self::RemoteClosing | Self::MailRefused | Self::BdatRefused | Self::EightBitMimeMissing => Other,
            Self::ExtensionNotAsked | Self::SmtpUtf8Missing | Self::SmtpUtf8MissingForHeader => Other,
            Self::MessageTooLarge | Self::OutOfTime | Self::ExchangesNotTried | Self::NoExchange => Other,
            Self::RecipientRefused | Self::DataRefused | Self::MessageRefused | Self::TooLarge => Other,
            Self::BareNewline | Self::Nul | Self::TooManyHops | Self::TlsRequiredMissing => Other,
            Self::StoreBusy | Self::StoreDown | Self::AnsweredInPart | Self::AnsweredBefore => Other,
            Self::ClientLost | Self::Aborted => Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::table::ROWS;

    #[test]
    fn refusals_for_want_of_a_proof_are_those_with_a_code_for_security() {
        for row in ROWS {
            // RFC 3463 §3.8: X.7.Z is "security or policy". A few have another code, or are no matter of TLS.
            let expected = match row.label {
                Label::TlsaLookupFailed => Shortfall::DnsAnswer,
                Label::MxLookupFailed | Label::AddressLookupFailed | Label::StsLookupFailed => Shortfall::DnsAnswer,
                Label::StsUnsignedDns => Shortfall::Proof,
                Label::MessageRefused | Label::TlsRequiredMissing => Shortfall::Other,
                _ if row.enhanced.to_string().split('.').nth(1) == Some("7") => Shortfall::Proof,
                _ => Shortfall::Other,
            };
            assert_eq!(row.label.shortfall(), expected, "{}", row.label);
        }
    }
}
