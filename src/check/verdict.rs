//! The verdict on one domain: its words, and the exit status.

use serde::Serialize;

use super::checker::DomainCheck;
use super::forecast::Forecast;
use crate::dane::tlsa::NoDane;
use crate::policy::{Level, NamedBy, TlsPolicy};
use crate::refusal::Reason;
use crate::tls::Authentication;
use crate::upstream::verified::Channel;
use crate::words::words;

/// The outcome for mail to a domain now. The words are those of the log's `protection` and `verdict`; without
/// connections, those of its `policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub(crate) enum MailVerdict {
    /// Delivered to a host that was verified: by DANE, by MTA-STS, or as a rule asks.
    Verified,
    /// Delivered to a host that was verified; that it serves the domain rests on an insecure MX record.
    HostVerified,
    /// Delivered under TLS, to any host that holds the address.
    Encrypted,
    /// Delivered in the open, as a rule allows.
    Cleartext,
    /// Refused for now: the client tries again.
    Deferred,
    /// Refused for good.
    Rejected,
    /// Not connected: a session would have to be verified by DANE.
    Dane,
    /// The same under the host's name alone.
    HalfDane,
    /// The same by an MTA-STS policy.
    Sts,
    /// The same by a public CA, as a rule asks.
    Pkix,
    /// The same under the host's name alone.
    #[strum(serialize = "pkix")]
    HostPkix,
    /// The same by the records of a rule.
    Fingerprint,
    /// Not connected: a session would need TLS.
    Encrypt,
    /// Not connected: any session would do.
    May,
}

words!(MailVerdict);

/// The meanings of the exit status, the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum CheckStatus {
    /// Mail would be delivered.
    Delivered,
    /// The domain takes no mail.
    Rejected,
    /// No host could be reached.
    Unreachable,
    /// A lookup failed.
    LookupFailed,
    /// A host was reached, and did not prove the identity that its policy demands.
    Refused,
}

/// The same for `--help` and the manual.
pub(crate) const STATUS: &str = "\
Exit status:
  0   mail to every domain would be delivered as its level asks; with
      --no-connect: neither the DNS nor a policy of MTA-STS is against it
  1   refused for now: a host was reached and did not prove what it must
      (STARTTLS, certificate), or has no DANE where the level demands it
  3   deferred: a lookup failed
  4   deferred: no host could be reached, or none was in order
  5   rejected: the domain does not exist or takes no mail
  64  the command line is wrong
  71  the system refuses something, such as a file with domains
  78  the configuration is wrong
  130 interrupted by ^C
  Of several domains the first of 1, 3, 4, 5 that applies to any of them.
  Where no name server can be used (3), or no mail server can be reached
  from this host (4), the check ends before the last domain of a list.";

impl MailVerdict {
    pub(crate) fn of(check: &DomainCheck) -> Self {
        match check.forecast() {
            Forecast::Delivered(_, Some((_, channel))) => match channel {
                Channel::Cleartext(_) => Self::Cleartext,
                Channel::Secured(protection) => match protection.authentication() {
                    Authentication::Verified(_) => Self::Verified,
                    Authentication::HostVerified(_) => Self::HostVerified,
                    Authentication::Unverified(..) => Self::Encrypted,
                },
            },
            Forecast::Delivered(exchange, None) => match exchange.plan.as_ref().map(|plan| &plan.policy) {
                Ok(TlsPolicy::Dane(_)) => Self::Dane,
                Ok(TlsPolicy::HalfDane(_)) => Self::HalfDane,
                Ok(TlsPolicy::Sts(_) | TlsPolicy::StsDane(_)) => Self::Sts,
                Ok(TlsPolicy::Pkix(_, NamedBy::SecureMx | NamedBy::Rule)) => Self::Pkix,
                Ok(TlsPolicy::Pkix(_, NamedBy::InsecureMx)) => Self::HostPkix,
                Ok(TlsPolicy::Fingerprint(_)) => Self::Fingerprint,
                Ok(TlsPolicy::Encrypt(..)) => Self::Encrypt,
                Ok(TlsPolicy::May(..)) => Self::May,
                // An exchange without a plan takes no mail.
                Err(_) => Self::Deferred,
            },
            Forecast::Refused => match check.main_obstacle() {
                Some((_, reason)) if reason.view().code.is_permanent() => Self::Rejected,
                Some(_) | None => Self::Deferred,
            },
        }
    }

    /// Whether mail would go out, as far as was looked.
    pub(crate) fn is_delivery(self) -> bool {
        !matches!(self, Self::Deferred | Self::Rejected)
    }

    /// How much is proven, or would have to be.
    fn strength(self) -> u8 {
        match self {
            Self::Rejected | Self::Deferred => 0,
            Self::Cleartext | Self::May => 1,
            Self::Encrypted | Self::Encrypt => 2,
            Self::HostVerified | Self::HalfDane | Self::HostPkix => 3,
            Self::Verified | Self::Dane | Self::Sts | Self::Pkix | Self::Fingerprint => 4,
        }
    }

    pub(crate) fn is_as_strong_as(self, other: Self) -> bool {
        self.strength() >= other.strength()
    }

    pub(crate) fn is_verified(self) -> bool {
        self.strength() >= 3
    }
}

impl CheckStatus {
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Delivered => 0,
            Self::Refused => 1,
            Self::LookupFailed => 3,
            Self::Unreachable => 4,
            Self::Rejected => 5,
        }
    }

    pub(crate) fn of(check: &DomainCheck) -> Self {
        match check.forecast() {
            Forecast::Delivered(..) => Self::Delivered,
            Forecast::Refused => check.main_obstacle().map_or(Self::Unreachable, |(_, reason)| Self::of_reason(reason)),
        }
    }

    fn of_reason(reason: &Reason) -> Self {
        let view = reason.view();
        match (reason, view.enhanced.subject()) {
            _ if view.code.is_permanent() => Self::Rejected,
            (Reason::Dns(_) | Reason::StsLookup(_), _) => Self::LookupFailed,
            // RFC 3463 §3.8: X.7, security and policy.
            (_, 7) => Self::Refused,
            _ => Self::Unreachable,
        }
    }
}

/// Why a session is not verified, if it is not.
pub(crate) fn no_dane(check: &DomainCheck) -> Option<&NoDane> {
    match check.forecast() {
        Forecast::Delivered(_, Some((_, Channel::Secured(protection)))) => protection.unverified().map(|(why, _)| why),
        Forecast::Delivered(exchange, None) => match exchange.plan.as_ref().map(|plan| &plan.policy) {
            Ok(TlsPolicy::Encrypt(_, why)) => Some(why),
            Ok(_) | Err(_) => None,
        },
        Forecast::Delivered(_, Some((_, Channel::Cleartext(_)))) | Forecast::Refused => None,
    }
}

/// Whether a rule is still of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Need {
    /// Without it the mail would be refused.
    Needed,
    /// Without it the mail would go out just as well.
    NotNeeded,
    /// It asks for more than the default: it is there to refuse mail that the default would let pass.
    Stricter,
    /// The mail is refused because of it.
    Refuses,
    /// The mail is refused with it and without it.
    NoHelp,
}

impl Need {
    /// Compares the outcome for mail under a rule with that by default.
    pub(crate) fn of(rule: &Level, default: &Level, with: MailVerdict, without: MailVerdict) -> Self {
        match (with.is_delivery(), without.is_delivery()) {
            (false, false) => Self::NoHelp,
            (false, true) => Self::Refuses,
            (true, false) => Self::Needed,
            (true, true) if demand(rule) > demand(default) => Self::Stricter,
            (true, true) if without.is_as_strong_as(with) => Self::NotNeeded,
            (true, true) => Self::Needed,
        }
    }
}

/// Levels from weak to strong, in the order of [`RuleLevel`](crate::config::RuleLevel).
fn demand(level: &Level) -> u8 {
    match level {
        Level::May(_) => 0,
        Level::Encrypt => 1,
        Level::Dane(_) => 2,
        Level::Verify => 3,
        Level::Secure(_) => 4,
        Level::DaneOnly => 5,
        Level::Fingerprint(_) => 6,
    }
}

#[cfg(test)]
mod tests {
    use time::Date;

    use super::*;
    use crate::policy::{InsecureMx, Permit};

    #[test]
    fn a_rule_that_is_no_longer_needed_is_named() {
        let may = Level::May(Permit::Rule { reason: "x".into(), until: Date::MAX });
        let dane = Level::Dane(InsecureMx::Dane);
        let pins = Level::Fingerprint(Vec::new());
        for (rule, with, without, need) in [
            (&may, MailVerdict::Cleartext, MailVerdict::Deferred, Need::Needed),
            (&may, MailVerdict::Encrypted, MailVerdict::Encrypted, Need::NotNeeded),
            (&may, MailVerdict::Encrypted, MailVerdict::Verified, Need::NotNeeded),
            (&Level::Encrypt, MailVerdict::Encrypted, MailVerdict::Verified, Need::NotNeeded),
            (&Level::Encrypt, MailVerdict::Encrypted, MailVerdict::Deferred, Need::Needed),
            (&Level::Encrypt, MailVerdict::Deferred, MailVerdict::Deferred, Need::NoHelp),
            (&Level::DaneOnly, MailVerdict::Verified, MailVerdict::Verified, Need::Stricter),
            (&Level::DaneOnly, MailVerdict::Deferred, MailVerdict::Encrypted, Need::Refuses),
            (&pins, MailVerdict::Verified, MailVerdict::Encrypted, Need::Stricter),
            (&pins, MailVerdict::Verified, MailVerdict::Deferred, Need::Needed),
            (&may, MailVerdict::May, MailVerdict::Dane, Need::NotNeeded),
        ] {
            assert_eq!(Need::of(rule, &dane, with, without), need, "{rule} {with:?} {without:?}");
        }
    }

    #[test]
    fn the_worst_status_counts() {
        let mut all = [
            CheckStatus::Rejected,
            CheckStatus::Refused,
            CheckStatus::Delivered,
            CheckStatus::LookupFailed,
            CheckStatus::Unreachable,
        ];
        all.sort();
        assert_eq!(all.map(CheckStatus::exit_code), [0, 5, 4, 3, 1]);
    }
}
