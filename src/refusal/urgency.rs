//! How urgently an operator of danelaw must look at an attempt: the level of its log event.
//!
//! | urgency | level | the operator |
//! |---|---|---|
//! | routine | info | has no task: the mail was delivered, or the client, the other side or time settles it |
//! | refusal | warning | looks for an attack on the way, or whether a rule, a limit or the DNS has to be mended |
//! | fault | error | mends this host or the configuration: mail waits until then |

/// How urgently an operator must look at an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// The operator has no task. A sender's own demand is among these: the reply tells the sender of it.
    Routine,
    /// A policy was not met, an attack looks just so, or a limit of the configuration was reached. A lookup that fails is among these: it
    /// never switches DANE off, and an attacker may be the reason.
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

#[cfg(test)]
mod tests {
    use strum::VariantArray as _;

    use super::super::Label;
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
        assert!(
            Label::VARIANTS.iter().filter(|label| label.is_scarcity()).all(|label| label.urgency() == Urgency::Fault)
        );
    }
}
