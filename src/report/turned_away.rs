//! The connections of clients that are refused at once, before any mail.

/// Why a client's connection is refused: the label of a metric. `danelaw refusals` has none of these, since no mail is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

impl TurnedAway {
    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotAllowed => "not-allowed",
            Self::Uncertified => "uncertified",
            Self::Sessions => "sessions",
            Self::ProxyHeader => "proxy-header",
        }
    }
}
