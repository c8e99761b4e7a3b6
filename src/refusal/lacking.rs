//! Extensions that a message needs and a remote does not have.

use super::{Peer, Place, Reason, Refusal, Refusals};

/// An extension, the room or the proof, that a message needs and a remote does not have. No message is ever rewritten to fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Lacking {
    /// 8BITMIME, for 8-bit content (RFC 6152 §3).
    #[error("the remote does not take 8-bit mail (8BITMIME)")]
    EightBitMime,
    /// SMTPUTF8, for internationalised addresses or headers (RFC 6531 §3.5).
    #[error("the remote does not take internationalised mail (SMTPUTF8)")]
    SmtpUtf8,
    /// The same, for a header field that turned up in the message (RFC 6531 §3.4).
    #[error("the remote does not take internationalised headers (SMTPUTF8)")]
    SmtpUtf8Header,
    /// REQUIRETLS, for which the client or the listener asks (RFC 8689 §4.2.1).
    #[error("the remote does not offer REQUIRETLS, and the mail asks for it")]
    RequireTls,
    /// The proof of its name, which mail with REQUIRETLS needs (RFC 8689 §4.2.1).
    #[error("the mail asks for REQUIRETLS, and neither a secure MX record, an STS policy nor a rule names the host")]
    Authentication,
    /// Room: it takes at most so many octets (RFC 1870 §6.1).
    #[error("the remote takes at most {0} octets")]
    Size(u64),
}

impl Refusals {
    /// Exchanges that lack an extension lack this one, as it has turned out.
    pub fn lack(&mut self, lacking: Lacking) {
        let lacks = self.0.iter_mut().map(|refusal| &mut refusal.reason).filter(|reason| reason.is_about_content());
        lacks.for_each(|reason| *reason = lacking.into());
    }

    /// Takes back that this exchange lacks an extension.
    pub fn forget_lacking(&mut self, peer: &Peer) {
        self.0.retain(|refusal| !refusal.is_of(peer) || !refusal.reason.is_about_content());
    }

    /// Takes back all that was said of this address, which is asked again.
    pub fn forget(&mut self, peer: &Peer) {
        self.0.retain(|refusal| !refusal.is_of(peer));
    }

    /// The first of them alone, so many.
    pub(crate) fn truncate(&mut self, most: usize) {
        self.0.truncate(most);
    }

    /// With those of a second try over the same exchanges, which tells anew that there are more than are ever tried.
    pub fn followed_by(mut self, second: Self) -> Self {
        self.0.retain(|refusal| !matches!(refusal.reason, Reason::NotTried(_)));
        self.extend(second);
        self
    }
}

impl Refusal {
    /// Whether it happened at this address.
    fn is_of(&self, peer: &Peer) -> bool {
        matches!(&self.at, Place::Peer(at) if at == peer)
    }
}

impl Reason {
    /// Whether the exchange lacks an extension for the content of messages.
    fn is_about_content(&self) -> bool {
        let Self::Lacking(lacking) = self else { return false };
        match lacking {
            Lacking::EightBitMime | Lacking::SmtpUtf8 | Lacking::SmtpUtf8Header => true,
            Lacking::Size(_) | Lacking::RequireTls | Lacking::Authentication => false,
        }
    }
}
