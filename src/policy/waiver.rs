//! The ground on which a policy is not enforced to the end: the mode, or the mail's own field `TLS-Required: No`.

use super::{Level, Mode};

/// The mail that a listener takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ListenerMail {
    /// Any.
    #[default]
    Any,
    /// Mail with the header field `TLS-Required: No` (RFC 8689 §4.1), and no other.
    TlsRequiredNo,
}

/// The ground on which mail that its level would refuse for want of a proof goes at the level `may`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiver {
    /// There is none: the level is enforced.
    None,
    /// The mode is `observe`.
    Observe,
    /// The mail has the field `TLS-Required: No`.
    TlsRequiredNo,
}

impl Waiver {
    /// The waiver for mail from a listener. The field does not lower `fingerprint` and `dane-only`, which are stronger by records and
    /// the operator's own word. The level `may` cannot be lowered.
    pub fn of(mail: ListenerMail, level: &Level, mode: Mode) -> Self {
        match (mail, level) {
            (ListenerMail::Any, _) | (_, Level::May(_) | Level::DaneOnly | Level::Fingerprint(_)) => mode.into(),
            (ListenerMail::TlsRequiredNo, Level::Encrypt | Level::Dane(_) | Level::Verify | Level::Secure(_)) => {
                Self::TlsRequiredNo
            }
        }
    }

    /// The level in the place of one that would refuse the mail.
    pub fn instead_of(self, level: &Level) -> Option<&'static Level> {
        match self {
            Self::None => None,
            Self::Observe => Some(level.observed()),
            Self::TlsRequiredNo => Some(level.not_required()),
        }
    }
}

impl From<Mode> for Waiver {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Enforce => Self::None,
            Mode::Observe => Self::Observe,
        }
    }
}

#[cfg(test)]
mod tests {
    use time::Date;

    use super::super::{InsecureMx, Permit};
    use super::*;

    #[test]
    fn q6_the_field_lowers_no_level_that_is_stronger_by_records() {
        // Q6, A-115: on its own listener, and in mode observe as that mode has it.
        let permit = || Permit::Rule { reason: "appliance".into(), until: Date::MAX };
        let secure = || Level::Secure(Vec::new());
        for (level, enforcing, observing) in [
            (Level::Dane(InsecureMx::Dane), Waiver::TlsRequiredNo, Waiver::TlsRequiredNo),
            (Level::Verify, Waiver::TlsRequiredNo, Waiver::TlsRequiredNo),
            (secure(), Waiver::TlsRequiredNo, Waiver::TlsRequiredNo),
            (Level::Encrypt, Waiver::TlsRequiredNo, Waiver::TlsRequiredNo),
            (Level::DaneOnly, Waiver::None, Waiver::Observe),
            (Level::Fingerprint(Vec::new()), Waiver::None, Waiver::Observe),
            (Level::May(permit()), Waiver::None, Waiver::Observe),
        ] {
            for (mode, expected) in [(Mode::Enforce, enforcing), (Mode::Observe, observing)] {
                assert_eq!(Waiver::of(ListenerMail::TlsRequiredNo, &level, mode), expected, "{level} {mode}");
                assert_eq!(Waiver::of(ListenerMail::Any, &level, mode), mode.into(), "{level} {mode}");
            }
            assert_eq!(Waiver::None.instead_of(&level), None);
            let Some(Level::May(lowered)) = Waiver::TlsRequiredNo.instead_of(&level) else { panic!("{level}") };
            let text = format!("mail with TLS-Required: No is not held to the level {level}");
            assert_eq!(lowered.no_dane().to_string(), text);
        }
    }
}
