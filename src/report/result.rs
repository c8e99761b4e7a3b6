//! The results that the counts of a month tell apart.

use super::{Outcome, Verdict};
use crate::policy::{Permit, VerifiedBy};
use crate::refusal::{Label, Shortfall};
use crate::tls::{Authentication, Protection};
use crate::upstream::verified::Channel;
use crate::words::words;

/// The result of an attempt to deliver, by the proof that its session has given.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, strum::IntoStaticStr, strum::EnumString, strum::VariantArray,
)]
#[strum(serialize_all = "kebab-case")]
pub enum MailResult {
    /// Delivered to a host that DANE has verified for the domain.
    Dane,
    /// Delivered to a host that DANE has verified; the MX record that names it was not signed.
    DaneHost,
    /// Delivered to a host that was verified by the domain's policy of MTA-STS.
    MtaSts,
    /// Delivered to a host that a public CA vouches for, as the level or a rule asks.
    Pkix,
    /// Delivered to a host with a key that a rule names.
    Fingerprint,
    /// Delivered under TLS, without a proof.
    Encrypted,
    /// Delivered under TLS, without the proof that enforcing would have demanded.
    EncryptedUnenforced,
    /// Delivered in cleartext by a rule.
    Cleartext,
    /// Delivered in cleartext, which enforcing would have refused.
    CleartextUnenforced,
    /// Delivered, without a session of which anything is known.
    Unclaimed,
    /// Not delivered for want of TLS or of a proof.
    Refused,
    /// Not delivered for want of an answer of the DNS.
    NoDnsAnswer,
    /// Not delivered, and to be tried again, for another reason.
    Deferred,
    /// Not delivered, and not to be tried again, for another reason.
    Rejected,
}

words!(MailResult);

impl MailResult {
    /// The words for people.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Dane => "verified by DANE",
            Self::DaneHost => "host verified by DANE",
            Self::MtaSts => "verified by MTA-STS",
            Self::Pkix => "verified by a public CA",
            Self::Fingerprint => "verified by a rule's key",
            Self::Encrypted => "encrypted",
            Self::EncryptedUnenforced => "encrypted, not enforced",
            Self::Cleartext => "cleartext by a rule",
            Self::CleartextUnenforced => "cleartext, not enforced",
            Self::Unclaimed => "delivered, nothing claimed",
            Self::Refused => "refused for want of TLS or proof",
            Self::NoDnsAnswer => "deferred for want of a DNS answer",
            Self::Deferred => "deferred otherwise",
            Self::Rejected => "rejected otherwise",
        }
    }

    /// The meaning, in a sentence.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Dane => {
                "The host has shown a key of the domain's TLSA records, and its name is in a signed MX record (RFC 7672)."
            }
            Self::DaneHost => {
                "The host has shown a key of its TLSA records. That it serves the domain rests on an MX record without a signature."
            }
            Self::MtaSts => {
                "The domain's policy of MTA-STS lists the host, and a public CA or its TLSA records vouch for it (RFC 8461)."
            }
            Self::Pkix => "A public CA vouches for the host's name, as the level or a rule asks.",
            Self::Fingerprint => "The host has shown the key that a rule names.",
            Self::Encrypted => {
                "The session had TLS. No policy in force demanded a proof of the host, so it has given none that counts."
            }
            Self::EncryptedUnenforced => {
                "The session had TLS. Enforcing would have refused the mail: it went by mode `observe`, or by its field `TLS-Required: No`."
            }
            Self::Cleartext => "The session had no TLS, by a rule of the level `may`.",
            Self::CleartextUnenforced => "The session had no TLS. Enforcing would have refused the mail, as above.",
            Self::Unclaimed => {
                "danelaw has no note of the session, and claims nothing about it. Such mail is the sign of a fault in danelaw."
            }
            Self::Refused => "The mail was not sent for want of TLS, or of the proof that the policy demands.",
            Self::NoDnsAnswer => "A lookup failed: the DNS gave no answer, or none that DNSSEC proves.",
            Self::Deferred => {
                "The mail is to be tried again for another reason: no connection, a limit, the remote's own answer."
            }
            Self::Rejected => "The mail is not to be tried again for another reason: mostly the remote's own answer.",
        }
    }

    /// Whether the mail was delivered.
    pub const fn is_delivery(self) -> bool {
        match self {
            Self::Dane | Self::DaneHost | Self::MtaSts | Self::Pkix | Self::Fingerprint => true,
            Self::Encrypted | Self::EncryptedUnenforced | Self::Cleartext | Self::CleartextUnenforced => true,
            Self::Unclaimed => true,
            Self::Refused | Self::NoDnsAnswer | Self::Deferred | Self::Rejected => false,
        }
    }

    /// The result of an attempt; none for one that the client has ended.
    pub fn of(outcome: &Outcome) -> Option<Self> {
        match (outcome.verdict, outcome.shortfall()) {
            (Verdict::Aborted, _) => None,
            (Verdict::Delivered, _) => Some(Self::of_delivery(outcome)),
            (Verdict::Deferred | Verdict::Rejected, Shortfall::Proof) => Some(Self::Refused),
            (Verdict::Deferred | Verdict::Rejected, Shortfall::DnsAnswer) => Some(Self::NoDnsAnswer),
            (Verdict::Deferred, Shortfall::Other) => Some(Self::Deferred),
            (Verdict::Rejected, Shortfall::Other) => Some(Self::Rejected),
        }
    }

    fn of_delivery(outcome: &Outcome) -> Self {
        match outcome.remote.as_ref().map(|remote| &remote.channel) {
            Some(Channel::Secured(protection)) => match Self::of_proof(protection) {
                Self::Encrypted if outcome.would.is_some() => Self::EncryptedUnenforced,
                result => result,
            },
            None => Self::Unclaimed,
            Some(Channel::Cleartext(Permit::Rule { .. })) => Self::Cleartext,
            Some(Channel::Cleartext(Permit::Observe { .. } | Permit::TlsRequiredNo { .. })) => {
                Self::CleartextUnenforced
            }
        }
    }

    fn of_proof(protection: &Protection) -> Self {
        use Authentication::{HostVerified, Unverified, Verified};
        match (protection.authentication(), protection.verified_by()) {
            (Unverified(..), _) | (Verified(_) | HostVerified(_), None) => Self::Encrypted,
            (Verified(_), Some(VerifiedBy::Dane)) => Self::Dane,
            (HostVerified(_), Some(VerifiedBy::Dane)) => Self::DaneHost,
            (Verified(_) | HostVerified(_), Some(VerifiedBy::MtaSts | VerifiedBy::MtaStsTlsa)) => Self::MtaSts,
            (Verified(_) | HostVerified(_), Some(VerifiedBy::Pkix)) => Self::Pkix,
            (Verified(_) | HostVerified(_), Some(VerifiedBy::Record)) => Self::Fingerprint,
        }
    }
}

impl Outcome {
    /// The want for which the mail was not delivered.
    pub(super) fn shortfall(&self) -> Shortfall {
        self.shortfall.or_else(|| self.reason.map(Label::shortfall)).unwrap_or(Shortfall::Other)
    }
}

#[cfg(test)]
mod tests {
    use strum::VariantArray as _;

    use super::super::tests::outcome;
    use super::super::{ReachedRemote, Would};
    use super::*;
    use crate::name::Name;
    use crate::refusal::Peer;

    fn over(channel: Channel, would: Option<Label>) -> Option<MailResult> {
        let exchange = Name::parse("mx.example").unwrap();
        let peer = Peer { exchange, address: [192, 0, 2, 1].into(), port: None };
        let remote = ReachedRemote { peer, policy: "may", permit: None, channel, earlier_mails: 0 };
        let would = would.map(|reason| Would { reason, answer: String::new() });
        let outcome = Outcome { remote: Some(remote), verdict: Verdict::Delivered, reason: None, would, ..outcome() };
        MailResult::of(&outcome)
    }

    #[test]
    fn cleartext_tells_by_whose_permit() {
        let until = time::Date::MAX;
        let rule = Permit::Rule { reason: String::new(), until };
        assert_eq!(over(Channel::Cleartext(rule), None), Some(MailResult::Cleartext));
        for permit in [Permit::Observe { level: "dane" }, Permit::TlsRequiredNo { level: "dane" }] {
            let result = over(Channel::Cleartext(permit), Some(Label::StartTlsMissing));
            assert_eq!(result, Some(MailResult::CleartextUnenforced));
        }
    }

    #[test]
    fn without_a_session_nothing_is_claimed() {
        let outcome = Outcome { remote: None, verdict: Verdict::Delivered, reason: None, would: None, ..outcome() };
        assert_eq!(MailResult::of(&outcome), Some(MailResult::Unclaimed));
    }

    #[test]
    fn mail_that_is_not_delivered_tells_what_it_lacked() {
        use MailResult::{Deferred, NoDnsAnswer, Refused, Rejected};
        for (verdict, reason, result) in [
            (Verdict::Deferred, Some(Label::TlsaMismatch), Some(Refused)),
            (Verdict::Deferred, Some(Label::StartTlsMissing), Some(Refused)),
            (Verdict::Rejected, Some(Label::RequireTlsMissing), Some(Refused)),
            (Verdict::Deferred, Some(Label::MxLookupFailed), Some(NoDnsAnswer)),
            (Verdict::Deferred, Some(Label::ConnectTimeout), Some(Deferred)),
            (Verdict::Deferred, None, Some(Deferred)),
            (Verdict::Rejected, Some(Label::RecipientRefused), Some(Rejected)),
            (Verdict::Aborted, Some(Label::TlsaMismatch), None),
        ] {
            let outcome = Outcome { verdict, reason, ..outcome() };
            assert_eq!(MailResult::of(&outcome), result, "{verdict} {reason:?}");
        }
        // A host that knows EHLO, and takes no mail from this address.
        let (verdict, reason) = (Verdict::Deferred, Some(Label::EhloRefused));
        for (shortfall, result) in
            [(Some(Shortfall::Other), Deferred), (Some(Shortfall::Proof), Refused), (None, Refused)]
        {
            let outcome = Outcome { verdict, reason, shortfall, ..outcome() };
            assert_eq!(MailResult::of(&outcome), Some(result), "{shortfall:?}");
        }
        // In mode observe a mail may be refused by the remote itself.
        assert_eq!(MailResult::of(&outcome()), Some(Rejected));
    }

    #[test]
    fn each_word_is_read_again_and_deliveries_come_first() {
        for &result in MailResult::VARIANTS {
            assert_eq!(result.as_str().parse(), Ok(result));
        }
        assert!("verified".parse::<MailResult>().is_err());
        assert!(MailResult::VARIANTS.is_sorted_by_key(|result| !result.is_delivery()));
        assert!(MailResult::VARIANTS.is_sorted());
    }
}
