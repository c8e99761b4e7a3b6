//! The level that holds for every domain.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;

use super::optional;
use super::rule::RuleLevel;
use crate::dane::agility::Digests;
use crate::policy::{InsecureMx, Level};

/// The proof that a TLS session must give.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSection {
    /// The proof that a session must give: "dane" (DANE where it is published, else MTA-STS where a policy is in force, else
    /// unauthenticated TLS), "verify" (the same, and else a certificate of a public CA for the host's name), "secure" (the same, and
    /// no host is believed that an insecure MX record alone names), "dane-only" (DANE or no delivery), "encrypt" (TLS without
    /// authentication). None of them ever sends in cleartext, unless the mode is "observe" or a listener
    /// has tls_required_no.
    pub level: DefaultLevel,
    /// TLSA records of a host that an insecure MX record names, at level "dane": "dane" (verify the host by them), "encrypt"
    /// (do not ask).
    #[serde(with = "super::word::InsecureMxWord")]
    pub insecure_mx: InsecureMx,
    /// Whether to offer post-quantum key exchange (X25519MLKEM768). Hosts that do not know it are not hindered by it.
    pub post_quantum: bool,
    /// The digests in TLSA records that count, strongest first: of several of one thing only the strongest does (RFC
    /// 7671 §9). "sha256" must be among them, since most domains publish no other.
    #[serde(deserialize_with = "super::word::digests")]
    pub digests: Digests,
    /// A file of CA certificates (PEM) that may vouch for mail servers and policy hosts, in place of the system's. Empty:
    /// the system's bundle, or where there is none, the built-in public CAs.
    #[serde(deserialize_with = "optional")]
    pub ca: Option<PathBuf>,
    /// A file of CA certificates (PEM) beside those: private CAs, or one that left the public set.
    #[serde(deserialize_with = "optional")]
    pub extra_ca: Option<PathBuf>,
}

/// The levels that may hold for every domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DefaultLevel {
    /// DANE where it is published, else MTA-STS, else unauthenticated TLS.
    Dane,
    /// DANE, else a certificate of a public CA.
    Verify,
    /// The same, and the host's name is vouched for.
    Secure,
    /// DANE or no delivery.
    DaneOnly,
    /// TLS without authentication.
    Encrypt,
}

impl fmt::Display for DefaultLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.level(InsecureMx::Dane).fmt(f)
    }
}

impl DefaultLevel {
    pub(super) fn level(self, insecure_mx: InsecureMx) -> Level {
        match self {
            Self::Dane => Level::Dane(insecure_mx),
            Self::Verify => Level::Verify,
            Self::Secure => Level::Secure(Vec::new()),
            Self::DaneOnly => Level::DaneOnly,
            Self::Encrypt => Level::Encrypt,
        }
    }

    /// The same level among those of rules, which are ordered from weak to strong.
    pub(super) fn as_rule(self) -> RuleLevel {
        match self {
            Self::Dane => RuleLevel::Dane,
            Self::Verify => RuleLevel::Verify,
            Self::Secure => RuleLevel::Secure,
            Self::DaneOnly => RuleLevel::DaneOnly,
            Self::Encrypt => RuleLevel::Encrypt,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::with;
    use crate::dane::agility::Digests;

    #[test]
    fn digests_as_they_may_be_written() {
        let digests = |list: &str| with(&format!("tls.digests = {list}")).map(|config| config.tls.digests);
        assert_eq!(digests("['sha512', 'sha256']"), Ok(Digests::default()));
        assert!(digests("['sha256', 'sha512']").is_ok_and(|digests| digests != Digests::default()));
        for (list, why) in [
            ("[]", "must be in the list"),
            ("['sha512']", "must be in the list"),
            ("['sha256', 'sha512', 'sha256']", "twice"),
            ("['sha1', 'sha256']", "unknown variant"),
        ] {
            assert!(digests(list).unwrap_err().contains(why), "{list}");
        }
    }
}
