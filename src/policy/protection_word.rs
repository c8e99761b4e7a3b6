//! The word for the protection of a mail in transit: in the log, in metrics, for `danelaw check` and on the admin port.

use std::fmt;

use serde::Serialize;

/// How a mail, or a session without one, is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(into = "&'static str")]
pub enum ProtectionWord {
    /// The host was authenticated, and is known to serve the domain.
    Verified,
    /// The host was authenticated; that it serves the domain rests on an insecure MX record.
    HostVerified,
    /// TLS, with any server that holds the address.
    Encrypted,
    /// No TLS.
    Cleartext,
    /// There was no session.
    None,
}

impl ProtectionWord {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::HostVerified => "host-verified",
            Self::Encrypted => "encrypted",
            Self::Cleartext => "cleartext",
            Self::None => "none",
        }
    }

    /// Whether the host was authenticated.
    pub fn is_of_proven_host(self) -> bool {
        match self {
            Self::Verified | Self::HostVerified => true,
            Self::Encrypted | Self::Cleartext | Self::None => false,
        }
    }
}

impl fmt::Display for ProtectionWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<ProtectionWord> for &'static str {
    fn from(word: ProtectionWord) -> Self {
        word.as_str()
    }
}
