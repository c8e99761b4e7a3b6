//! The connections of clients that are refused at once, before any mail.

use crate::words::words;

/// Why a client's connection is refused: the label of a metric. `danelaw refusals` has none of these, since no mail is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub enum TurnedAway {
    /// The client is not on the allow-list, and has shown no certificate that opens the listener.
    NotAllowed,
    /// Too many clients that may show a certificate have shown none yet.
    Uncertified,
    /// `limits.sessions` is reached.
    Sessions,
    /// A balancer sent no PROXY header of version 2.
    ProxyHeader,
}

words!(TurnedAway);
