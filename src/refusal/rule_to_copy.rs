//! The rule that lets mail pass in spite of a refusal, until a day. A person decides, and copies it.

use std::fmt;

use time::Date;

use super::Label;
use crate::name::Name;
use crate::policy::Level;

/// Refusals for which the server could not be authenticated: TLS without authentication would do.
const UNAUTHENTICATED: &[Label] = &[
    Label::TlsaLookupFailed,
    Label::DaneRequired,
    Label::NotAuthenticated,
    Label::TlsaMismatch,
    Label::CertificateExpired,
    Label::CertificateNotYetValid,
    Label::ChainNotVerified,
    Label::UntrustedAuthority,
    Label::NameMismatch,
];
/// Refusals for want of TLS. Those that look like an attack are not among them.
const WITHOUT_TLS: &[Label] =
    &[Label::StartTlsMissing, Label::StartTlsRefused, Label::NoSharedTlsParameters, Label::TlsAlert, Label::TlsBroken];
/// Refusals by the domain's MTA-STS policy, or because it could not be looked up.
const BY_STS: &[Label] = &[Label::MxNotInPolicy, Label::StsLookupFailed];

/// The rule as TOML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleToCopy {
    domain: Name,
    label: Label,
    demand: String,
    meaning: &'static str,
    until: Date,
}

impl RuleToCopy {
    /// The rule for a domain at this level with this refusal, until this day; none for a refusal that no rule takes back.
    pub fn of(domain: &Name, level: &Level, label: Label, until: Date) -> Option<Self> {
        let (demand, meaning) = if UNAUTHENTICATED.contains(&label) {
            (level_of(&Level::Encrypt), "with TLS and without a proof of the server")
        } else if WITHOUT_TLS.contains(&label) {
            ("level = \"may\"".to_owned(), "with TLS where it works, and CLEARTEXT where it does not")
        } else if BY_STS.contains(&label) {
            (format!("{}\nmta_sts = \"ignore\"", level_of(level)), "without the domain's MTA-STS policy")
        } else {
            return None;
        };
        Some(Self { domain: domain.clone(), label, demand, meaning, until })
    }
}

/// The level without its policy of MTA-STS. The patterns of `secure` are those of another rule.
fn level_of(level: &Level) -> String {
    let label = match level {
        Level::Secure(_) => Level::Verify.as_str(),
        Level::May(_) | Level::Encrypt | Level::Dane(_) | Level::Verify | Level::DaneOnly | Level::Fingerprint(_) => {
            level.as_str()
        }
    };
    format!("level = \"{label}\"")
}

impl fmt::Display for RuleToCopy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { domain, label, demand, meaning, until } = self;
        writeln!(f, "# Mail to {domain} goes {meaning}, until the end of that day.")?;
        writeln!(f, "[[rule]]\ndomain = \"{domain}\"\n{demand}\nreason = \"{label}\"\nuntil = \"{until}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_lowers_no_more_than_it_must() {
        let day = Date::MAX;
        let name = "example.com".parse().unwrap();
        let rule = |label| RuleToCopy::of(&name, &Level::Verify, label, day).map(|rule| rule.to_string());
        for (label, demand) in [
            (Label::TlsaMismatch, "level = \"encrypt\""),
            (Label::StartTlsMissing, "level = \"may\""),
            (Label::MxNotInPolicy, "level = \"verify\"\nmta_sts = \"ignore\""),
        ] {
            let text = rule(label).unwrap();
            let lines =
                format!("[[rule]]\ndomain = \"example.com\"\n{demand}\nreason = \"{label}\"\nuntil = \"9999-12-31\"\n");
            assert!(text.starts_with("# ") && text.ends_with(&lines), "{text}");
            let config = crate::config::tests::with(&text).unwrap();
            assert_eq!(config.rules().unwrap().entries().len(), 1, "{text}");
        }
    }

    #[test]
    fn an_attack_a_bounce_and_a_fault_of_the_dns_have_none() {
        for label in [
            Label::StartTlsInjected,
            Label::PlaintextInjected,
            Label::WrongKey,
            Label::MxLookupFailed,
            Label::RecipientRefused,
            Label::RequireTlsMissing,
            Label::StoreDown,
        ] {
            let name = "example.com".parse().unwrap();
            assert_eq!(RuleToCopy::of(&name, &Level::DaneOnly, label, Date::MIN), None, "{label}");
        }
    }
}
