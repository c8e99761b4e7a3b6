//! The terms of a session: its policy, its protection and the extensions of the remote.

use std::fmt;
use std::sync::Arc;

use crate::policy::{Permit, ProtectionWord, TlsPolicy};
use crate::requiretls::TaggedRemote;
use crate::smtp::extensions::Extensions;
use crate::tls::{Authentication, Protection};

/// The terms of a session.
#[derive(Debug)]
pub struct Terms {
    /// The policy that the session had to meet.
    pub policy: TlsPolicy,
    /// The protection that it has.
    pub channel: Channel,
    /// The extensions that the remote offers under TLS.
    pub extensions: Extensions,
}

impl Terms {
    /// The facts that count for tagged mail. An offer in the clear is none (RFC 8689 §2).
    pub fn for_tagged(&self) -> TaggedRemote {
        TaggedRemote { is_verified: self.channel.is_verified(), offers: self.extensions.require_tls }
    }

    /// `yes` or `no`: whether the remote offers REQUIRETLS (RFC 8689).
    pub fn offers_require_tls(&self) -> &'static str {
        if self.extensions.require_tls { "yes" } else { "no" }
    }
}

/// The protection of the mail on its way.
#[derive(Debug, Clone)]
pub enum Channel {
    /// Under TLS that has met the policy.
    Secured(Arc<Protection>),
    /// No TLS, by this permit.
    Cleartext(Permit),
}

impl Channel {
    /// Whether the host is proven, and that it serves the domain.
    pub fn is_verified(&self) -> bool {
        match self.protection().map(Protection::authentication) {
            Some(Authentication::Verified(_)) => true,
            Some(Authentication::HostVerified(_) | Authentication::Unverified(..)) | None => false,
        }
    }

    /// The word for it.
    pub fn word(&self) -> ProtectionWord {
        match self {
            Self::Secured(protection) => protection.word(),
            Self::Cleartext(_) => ProtectionWord::Cleartext,
        }
    }

    /// The proof of the session, if it is under TLS.
    pub fn protection(&self) -> Option<&Protection> {
        match self {
            Self::Secured(protection) => Some(protection),
            Self::Cleartext(_) => None,
        }
    }
}

/// For people: the protection as it was proven when the session was opened.
impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secured(protection) => protection.fmt(f),
            Self::Cleartext(_) => ProtectionWord::Cleartext.fmt(f),
        }
    }
}
