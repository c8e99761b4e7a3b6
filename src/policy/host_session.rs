//! The result of a session under the policy `encrypt` or `may`, for the memory of hosts.

use serde::{Deserialize, Serialize};

use super::{Permit, TlsPolicy};
use crate::dane::pkix::PkixWorth;
use crate::dane::tlsa::NoDane;
use crate::name::Name;

/// One session with an exchange under the policy `encrypt` or `may`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostSession {
    /// The exchange.
    pub host: Name,
    /// The port that was dialled.
    pub port: u16,
    /// The result.
    pub word: SessionWord,
    /// The server's own certificate, if it has shown one that can be read.
    pub leaf: Option<LeafNote>,
    /// The digest of the authorities that the certificate was judged by.
    pub roots: u64,
}

/// The result of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum SessionWord {
    /// TLS, and the worth of the certificate.
    Tls(PkixWorth),
    /// The host did not offer STARTTLS, and mail went in cleartext by a rule.
    Cleartext,
    /// The same, by mode `observe` or by the mail's field `TLS-Required: No`.
    Waived,
    /// The host did not offer STARTTLS, and got no mail.
    Refused,
}

/// The issuer and the end of a server's certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeafNote {
    /// The issuer, with printable characters alone.
    pub issuer: String,
    /// The last moment at which it is valid, in seconds since 1970.
    pub ends: i64,
}

/// The last session of several, beside its result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionNote {
    /// The server's own certificate.
    pub leaf: Option<LeafNote>,
    /// The digest of the authorities.
    pub roots: u64,
}

impl SessionWord {
    const WITHOUT_TLS: [Self; 3] = [Self::Cleartext, Self::Waived, Self::Refused];

    /// The word for a session under TLS; none where the policy asks for a proof, and where mode `observe` or the mail itself has
    /// waived one. A server that is held to its TLSA records is not judged by public CAs.
    pub fn under_tls(policy: &TlsPolicy, worth: PkixWorth) -> Option<Self> {
        match policy {
            // A certificate has no address, and the name here is that of the domain.
            TlsPolicy::Encrypt(_, NoDane::AddressOnly)
            | TlsPolicy::May(_, Permit::Observe { .. } | Permit::TlsRequiredNo { .. })
            | TlsPolicy::Dane(_)
            | TlsPolicy::HalfDane(_)
            | TlsPolicy::Sts(_)
            | TlsPolicy::StsDane(_)
            | TlsPolicy::Pkix(..)
            | TlsPolicy::Fingerprint(_) => None,
            TlsPolicy::Encrypt(..) | TlsPolicy::May(_, Permit::Rule { .. }) => Some(Self::Tls(worth)),
        }
    }

    /// The word for a host that does not offer STARTTLS; none where the policy asks for a proof.
    pub fn without_starttls(policy: &TlsPolicy) -> Option<Self> {
        match policy {
            TlsPolicy::Encrypt(..) => Some(Self::Refused),
            TlsPolicy::May(_, Permit::Rule { .. }) => Some(Self::Cleartext),
            TlsPolicy::May(_, Permit::Observe { .. } | Permit::TlsRequiredNo { .. }) => Some(Self::Waived),
            TlsPolicy::Dane(_)
            | TlsPolicy::HalfDane(_)
            | TlsPolicy::Sts(_)
            | TlsPolicy::StsDane(_)
            | TlsPolicy::Pkix(..)
            | TlsPolicy::Fingerprint(_) => None,
        }
    }

    /// The word in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tls(worth) => worth.as_str(),
            Self::Cleartext => "cleartext",
            Self::Waived => "cleartext-waived",
            Self::Refused => "starttls-missing",
        }
    }

    /// The word of the store, if it is one.
    pub fn parse(word: &str) -> Option<Self> {
        let without_tls = Self::WITHOUT_TLS.into_iter().find(|known| known.as_str() == word);
        without_tls.or_else(|| word.parse().ok().map(Self::Tls))
    }
}

impl From<SessionWord> for &'static str {
    fn from(word: SessionWord) -> Self {
        word.as_str()
    }
}

impl TryFrom<String> for SessionWord {
    type Error = String;

    fn try_from(word: String) -> Result<Self, Self::Error> {
        Self::parse(&word).ok_or_else(|| format!("{word:?} is no result of a session"))
    }
}

#[cfg(test)]
mod tests {
    use strum::VariantArray as _;
    use time::Date;

    use super::*;
    use crate::policy::NamedBy;

    #[test]
    fn u6_sessions_that_teach_and_those_that_do_not() {
        // U6: policies with a proof, mode observe and mail with its own permit teach nothing.
        let name = || Name::parse("mx.example").unwrap();
        let rule = Permit::Rule { reason: String::new(), until: Date::MAX };
        let (observe, no) = (Permit::Observe { level: "dane" }, Permit::TlsRequiredNo { level: "dane" });
        let valid = Some(SessionWord::Tls(PkixWorth::Valid));
        for (policy, tls, without) in [
            (TlsPolicy::Encrypt(name(), NoDane::NoTlsa), valid, Some(SessionWord::Refused)),
            (TlsPolicy::Encrypt(name(), NoDane::AddressOnly), None, Some(SessionWord::Refused)),
            (TlsPolicy::May(name(), rule), valid, Some(SessionWord::Cleartext)),
            (TlsPolicy::May(name(), observe), None, Some(SessionWord::Waived)),
            (TlsPolicy::May(name(), no), None, Some(SessionWord::Waived)),
            (TlsPolicy::Sts(name()), None, None),
            (TlsPolicy::Pkix(name(), NamedBy::SecureMx), None, None),
        ] {
            assert_eq!(SessionWord::under_tls(&policy, PkixWorth::Valid), tls, "{policy:?}");
            assert_eq!(SessionWord::without_starttls(&policy), without, "{policy:?}");
        }
    }

    #[test]
    fn words_are_read_as_they_were_written() {
        for word in PkixWorth::VARIANTS.iter().copied().map(SessionWord::Tls).chain(SessionWord::WITHOUT_TLS) {
            assert_eq!(SessionWord::parse(word.as_str()), Some(word));
        }
        assert_eq!(SessionWord::parse("other"), None);
    }
}
