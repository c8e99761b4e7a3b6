//! How long each step with a remote may take.

use std::time::Duration;

/// The limit of each step with a remote.
#[derive(Debug, Clone)]
pub struct Timeouts {
    /// For finding, dialling and verifying a host, up to the answer to the first recipient.
    pub route: Duration,
    /// For a TCP connection to one address.
    pub connect: Duration,
    /// For the greeting, each EHLO and STARTTLS.
    pub greeting: Duration,
    /// For the whole TLS handshake.
    pub handshake: Duration,
    /// For the remote's answer to MAIL or RCPT.
    pub command: Duration,
    /// For the remote's answer to DATA.
    pub data: Duration,
    /// For the remote to take a block of the message (RFC 5321 §4.5.3.2.5).
    pub block: Duration,
    /// For all that is left once the client has sent the end of its message, the remote's answer to it included.
    pub r#final: Duration,
}
