//! On which terms a session stands.

use std::fmt;

use crate::policy::{Permit, TlsPolicy};
use crate::smtp::extensions::Extensions;
use crate::tls::Protection;

/// What was asked of the session, what it proved, and what the remote can do.
#[derive(Debug)]
pub struct Terms {
    /// What was asked.
    pub policy: TlsPolicy,
    /// What came of it.
    pub channel: Channel,
    /// The extensions the remote offers under TLS.
    pub extensions: Extensions,
}

/// How the mail travels.
#[derive(Debug, Clone)]
pub enum Channel {
    /// Under TLS that has met the policy.
    Secured(Protection),
    /// In the open, on the word of a rule.
    Cleartext(Permit),
}

/// For people: what the session proved when it was opened.
impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secured(protection) => protection.fmt(f),
            Self::Cleartext(_) => f.write_str("cleartext"),
        }
    }
}
