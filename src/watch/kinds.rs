//! The kinds of findings, and how urgent each is.

use serde::{Deserialize, Serialize};

use crate::refusal::Label;
use crate::words::words;

/// The kinds of findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[derive(strum::Display, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "kebab-case")]
pub enum FindingKind {
    /// Mail waits: all hosts are refused for TLS or DNSSEC.
    BrokenNow,
    /// One of several hosts fails so, and others take the mail.
    HostBroken,
    /// The host had secure TLSA records, and has none now.
    DaneLost,
    /// The host has usable TLSA records, and had none.
    DaneGained,
    /// The exchanges are others.
    MxMoved,
    /// Some exchanges have DANE, and others do not.
    MxWithoutDane,
    /// The next renewal of the certificate breaks DANE.
    WillBreakRenewal,
    /// A certificate whose dates count ends soon.
    CertificateEnds,
    /// A signature of the DNS ends soon: the signer has stopped.
    SignatureEnds,
    /// A single record has no overlap at the next rollover (RFC 7671 §8.1).
    OneRecord,
    /// All secure records are unusable, so that TLS is not verified.
    UnusableRecords,
    /// The records changed, and the certificate did not.
    TlsaChanged,
    /// The certificate changed, and is verified by the same records.
    CertificateChanged,
    /// A host without DANE offered STARTTLS, and does so no more.
    StarttlsLost,
    /// The policy of MTA-STS has another id.
    StsChanged,
    /// The policy of MTA-STS does not list an exchange.
    StsMxMismatch,
    /// The policy of MTA-STS cannot be fetched anew, and ends soon.
    StsEnds,
    /// The domain no longer asks for TLS reports.
    TlsrptGone,
    /// A rule is not needed, or ends while it is.
    RuleNeedless,
}

words!(FindingKind);

/// How urgently an operator must look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// For the record.
    Info,
    /// Mail will wait, or goes without its protection.
    Warn,
    /// The operator can act at once, and must.
    Alarm,
}

words!(Severity);

/// The owner of the domain or host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
#[serde(rename_all = "kebab-case")]
pub enum Ownership {
    /// `watch.own` names it.
    Ours,
    /// Mail goes there.
    Theirs,
}

words!(Ownership);

impl FindingKind {
    /// Whether it tells of a change, once, and not of a state that ends.
    pub(crate) fn is_change(self) -> bool {
        matches!(
            self,
            Self::DaneGained
                | Self::MxMoved
                | Self::TlsaChanged
                | Self::CertificateChanged
                | Self::StsChanged
                | Self::TlsrptGone
        )
    }

    /// The remedy of a finding: that of the refusal that it is about, or its own.
    pub(crate) fn remedy(self, label: Option<&str>) -> Option<&'static str> {
        match self {
            Self::BrokenNow | Self::HostBroken | Self::StarttlsLost => label?.parse().ok().map(Label::remedy),
            Self::DaneLost => Some("if this is not meant, publish the TLSA records again or sign the zone again"),
            Self::MxWithoutDane => Some("publish TLSA records for each exchange of the domain"),
            Self::WillBreakRenewal => Some("publish TLSA 3 1 1, of the key, and keep the key at renewals"),
            Self::CertificateEnds => Some("renew the certificate"),
            Self::SignatureEnds => Some("let the signer of the zone sign again"),
            Self::OneRecord => Some("publish the record of the next key beside it before that key is used"),
            Self::UnusableRecords => Some("publish TLSA 3 1 1 (`danelaw tlsa generate`)"),
            Self::StsMxMismatch => Some("list each exchange in the policy, and give it a new id"),
            Self::StsEnds => Some("let the policy host serve the policy again"),
            Self::TlsrptGone => Some("publish the TXT record of _smtp._tls again"),
            Self::RuleNeedless => Some("`danelaw check DOMAIN` shows the outcome without the rule"),
            Self::DaneGained | Self::MxMoved | Self::TlsaChanged | Self::CertificateChanged | Self::StsChanged => None,
        }
    }

    /// The severity for each owner; none where it is not told.
    pub(super) fn severity(self, whose: Ownership) -> Option<Severity> {
        use Severity::{Alarm, Info, Warn};
        let (ours, theirs) = match self {
            Self::BrokenNow | Self::CertificateEnds | Self::SignatureEnds => (Alarm, Some(Warn)),
            Self::HostBroken | Self::MxMoved | Self::MxWithoutDane | Self::WillBreakRenewal | Self::UnusableRecords => {
                (Warn, Some(Info))
            }
            Self::DaneLost | Self::StarttlsLost | Self::StsMxMismatch | Self::StsEnds => (Warn, Some(Warn)),
            Self::DaneGained | Self::StsChanged | Self::RuleNeedless => (Info, Some(Info)),
            Self::OneRecord | Self::TlsaChanged | Self::CertificateChanged => (Info, None),
            Self::TlsrptGone => (Warn, None),
        };
        match whose {
            Ownership::Ours => Some(ours),
            Ownership::Theirs => theirs,
        }
    }
}

#[cfg(test)]
mod tests {
    use strum::VariantArray as _;

    use super::*;

    #[test]
    fn each_kind_is_written_as_its_word() {
        for kind in FindingKind::VARIANTS {
            assert_eq!(serde_json::to_string(kind).unwrap(), format!("\"{kind}\""));
        }
    }
}
