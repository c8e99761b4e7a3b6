//! The failures of a TLS handshake with a remote.

use super::row::View;
use super::table::{self, Label};
use crate::dane::mismatch::Mismatch;
use crate::dane::pkix::PkixWorth;

/// Why there is no TLS session that meets the policy. None of these says "no TLS here": an attacker on the path can
/// cause each of them, so none ever leads to cleartext (RFC 7672 §2.2).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsFailure {
    /// The server is not the one that the TLSA records mean, or no public CA vouches for it.
    #[error("the server could not be verified: {0}")]
    Mismatch(#[from] Mismatch),
    /// No protocol version, cipher suite or group in common; it is no statement about the identity of the server.
    #[error("the server and danelaw share no TLS parameters: {0}")]
    NoSharedParameters(String),
    /// The handshake is not signed by the key in the certificate: the server does not hold it.
    #[error("the server did not prove that it holds the key of its certificate")]
    WrongKey,
    /// The key is an RSA key of a size that is not taken.
    #[error("the server has an RSA key of {0} bits, and only 2048 to 8192 bits are accepted")]
    SmallKey(usize),
    /// The key is of a kind that cannot check this handshake.
    #[error("the server has a key of a kind that is not supported")]
    UnsupportedKey,
    /// Plaintext where a TLS record was due.
    #[error("the server sent plaintext in the TLS handshake")]
    Injected,
    /// The server ended the handshake because it does not know the name that it was asked for (RFC 6066 §3).
    #[error("the server ended the TLS handshake because it does not know the name that it was asked for (SNI)")]
    NameNotKnown,
    /// The server ended the handshake with this alert.
    #[error("the server ended the TLS handshake with the alert {0}")]
    Alert(String),
    /// The connection was lost in the handshake.
    #[error("the connection was lost in the TLS handshake: {0}")]
    Closed(String),
    /// Anything else that breaks the protocol.
    #[error("the TLS handshake failed: {0}")]
    Broken(String),
}

impl TlsFailure {
    /// The name of the reason in logs, metrics and reports.
    pub fn label(&self) -> &'static str {
        self.view().label.as_str()
    }

    /// The row of this failure.
    pub(super) fn view(&self) -> View {
        match self {
            Self::Mismatch(mismatch) => of_mismatch(mismatch),
            Self::NoSharedParameters(_) => table::NO_SHARED_TLS_PARAMETERS,
            Self::WrongKey => table::WRONG_KEY,
            Self::SmallKey(_) => table::RSA_KEY_SIZE,
            Self::UnsupportedKey => table::UNSUPPORTED_KEY,
            Self::Injected => table::PLAINTEXT_INJECTED,
            Self::NameNotKnown => table::SNI_REFUSED,
            Self::Alert(_) => table::TLS_ALERT,
            Self::Closed(_) => table::TLS_CLOSED,
            Self::Broken(_) => table::TLS_BROKEN,
        }
    }
}

impl Mismatch {
    /// The name of the reason in logs, metrics and reports. It stands in the table of refusals and nowhere else.
    pub fn label(&self) -> &'static str {
        of_mismatch(self).label.as_str()
    }
}

impl PkixWorth {
    /// The reason for which a policy that asks for a public CA would refuse the session; none if it would not.
    pub fn refusal(self) -> Option<Label> {
        match self {
            Self::Valid => None,
            Self::Expired => Some(Label::CertificateExpired),
            Self::NotYetValid => Some(Label::CertificateNotYetValid),
            Self::OtherName => Some(Label::NameMismatch),
            Self::SelfSigned | Self::UnknownAuthority | Self::Invalid => Some(Label::UntrustedAuthority),
            Self::SniRefused => Some(Label::SniRefused),
        }
    }
}

fn of_mismatch(mismatch: &Mismatch) -> View {
    match mismatch {
        Mismatch::NoCertificate => table::NO_CERTIFICATE,
        Mismatch::ChainTooLarge { .. } => table::CHAIN_TOO_LARGE,
        Mismatch::NoRecord(_) => table::TLSA_MISMATCH,
        Mismatch::KeySize(..) => table::RSA_KEY_SIZE,
        Mismatch::Expired(_) => table::CERTIFICATE_EXPIRED,
        Mismatch::NotYetValid(_) => table::CERTIFICATE_NOT_YET_VALID,
        Mismatch::Path(..) => table::CHAIN_NOT_VERIFIED,
        Mismatch::Untrusted(_) => table::UNTRUSTED_AUTHORITY,
        Mismatch::Name { .. } => table::NAME_MISMATCH,
    }
}
