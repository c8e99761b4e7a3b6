//! The word for the protection of a mail in transit: in the log, in metrics, for `danelaw check` and on the admin port.

use serde::Serialize;

use crate::words::words;

/// How a mail, or a session without one, is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, strum::Display, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
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

words!(ProtectionWord);

impl ProtectionWord {
    /// Whether the host was authenticated.
    pub fn is_of_proven_host(self) -> bool {
        match self {
            Self::Verified | Self::HostVerified => true,
            Self::Encrypted | Self::Cleartext | Self::None => false,
        }
    }
}
