//! The want for which a mail was not delivered: that of a proof, of an answer of the DNS, or another one.

use super::Reason;

/// The want for which a mail was not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortfall {
    /// TLS, or the proof that a policy demands: of the host, of its name, or of the domain's DNSSEC. A refused EHLO is among these:
    /// without EHLO there is no STARTTLS.
    Proof,
    /// An answer of the DNS. Its failure may be one of DNSSEC, or of the network.
    DnsAnswer,
    /// Another one.
    Other,
}

impl Reason {
    /// The want of a mail that was refused for this. A host that does not know EHLO has no STARTTLS; one that knows it may refuse it
    /// because it takes no mail from this address, which is no matter of TLS.
    pub fn shortfall(&self) -> Shortfall {
        match self {
            Self::Ehlo(_) | Self::EhloInDoubt { .. } if self.result_type().is_none() => Shortfall::Other,
            reason => reason.view().label.shortfall(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::Label;
    use crate::refusal::table::ROWS;
    use crate::smtp::reply::{Code, Reply};

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

    #[test]
    fn a_refused_ehlo_is_a_want_of_tls_only_where_the_host_does_not_know_it() {
        for (code, expected) in [
            (500, Shortfall::Proof),
            (502, Shortfall::Proof),
            (504, Shortfall::Proof),
            (421, Shortfall::Other),
            (550, Shortfall::Other),
            (554, Shortfall::Other),
        ] {
            let reply = Reply::plain(Code::new(code).unwrap(), "so");
            let in_doubt = Reason::EhloInDoubt { name: "x".into(), reply: reply.clone() };
            for reason in [Reason::Ehlo(reply), in_doubt] {
                assert_eq!(reason.shortfall(), expected, "{code}");
            }
        }
        assert_eq!(Reason::StartTlsMissing.shortfall(), Shortfall::Proof);
        assert_eq!(Reason::OutOfTime.shortfall(), Shortfall::Other);
    }
}
