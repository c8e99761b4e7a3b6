//! How long anything may take.

use std::time::Duration;

use serde::Deserialize;

use super::check::{Faults, STOPS_ALL, short};

/// How long anything may take.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeoutsSection {
    /// How long a client may be silent between commands, and within a message (RFC 5321 §4.5.3.2.7).
    #[serde(with = "humantime_serde")]
    pub client: Duration,
    /// How long finding, dialling and verifying a host may take in all, up to the answer to the first recipient.
    /// Clients wait five minutes for it.
    #[serde(with = "humantime_serde")]
    pub route: Duration,
    /// For a TCP connection to one address.
    #[serde(with = "humantime_serde")]
    pub connect: Duration,
    /// For the greeting, each EHLO and STARTTLS.
    #[serde(with = "humantime_serde")]
    pub greeting: Duration,
    /// For the whole TLS handshake.
    #[serde(with = "humantime_serde")]
    pub handshake: Duration,
    /// For the remote's answer to MAIL or RCPT.
    #[serde(with = "humantime_serde")]
    pub command: Duration,
    /// For the remote's answer to DATA. Postfix waits two minutes for ours.
    #[serde(with = "humantime_serde")]
    pub data: Duration,
    /// For the remote to take a block of the message, while the client still sends it (RFC 5321 §4.5.3.2.5).
    #[serde(with = "humantime_serde")]
    pub block: Duration,
    /// For all that is left once the client has sent the end of its message, the remote's answer to it included. Postfix and
    /// Exim wait ten minutes for ours.
    #[serde(with = "humantime_serde")]
    pub r#final: Duration,
    /// How long open transactions may go on after SIGTERM or SIGINT.
    #[serde(with = "humantime_serde")]
    pub grace: Duration,
}

impl TimeoutsSection {
    pub(super) fn check(&self, faults: &mut Faults) {
        for (key, value) in [
            ("timeouts.client", self.client),
            ("timeouts.route", self.route),
            ("timeouts.connect", self.connect),
            ("timeouts.greeting", self.greeting),
            ("timeouts.handshake", self.handshake),
            ("timeouts.command", self.command),
            ("timeouts.data", self.data),
            ("timeouts.block", self.block),
            ("timeouts.final", self.r#final),
        ] {
            if value.is_zero() {
                faults.add(key, STOPS_ALL);
            }
            short(faults, key, value);
        }
        short(faults, "timeouts.grace", self.grace);
    }
}
