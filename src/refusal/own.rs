//! Refusals of a message by danelaw itself.

use super::View;
use super::table;
use crate::smtp::data::Offence;
use crate::smtp::reply::Reply;

/// A reason of our own for which a message goes no further. Its text is that of the reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OwnRefusal {
    /// The content breaks a rule of the format.
    #[error(transparent)]
    Content(Offence),
    /// The message has more octets than this limit.
    #[error("the message is larger than {0} octets")]
    TooLarge(u64),
    /// It has more Received fields than any honest path has.
    #[error("too many Received fields: the message goes round in circles")]
    TooManyHops,
    /// The listener takes mail with the field `TLS-Required: No` alone, and the message has not exactly one, or another value.
    #[error("the header has not exactly one field \"TLS-Required: No\", and no other mail is taken here")]
    TlsRequiredMissing,
    /// Some recipients on a connection have an outcome: another session has written the record since RCPT, or there was no
    /// connection left for these recipients.
    #[error("other recipients on the same connection have the message already; send it again")]
    AnsweredInPart,
    /// Another session is at the end of the same message.
    #[error("another session is still sending the same message to the same recipients")]
    StoreBusy,
    /// The store cannot tell which recipients have the message already.
    #[error("the store does not answer, so it is not known which recipients have the message already; send it again")]
    StoreDown,
}

impl OwnRefusal {
    /// Its row in the table.
    pub fn view(self) -> View {
        match self {
            Self::Content(Offence::CarriageReturn | Offence::LineFeed) => table::BARE_NEWLINE,
            Self::Content(Offence::Nul) => table::NUL,
            Self::TooLarge(_) => table::TOO_LARGE,
            Self::TooManyHops => table::TOO_MANY_HOPS,
            Self::TlsRequiredMissing => table::TLS_REQUIRED_MISSING,
            Self::AnsweredInPart => table::ANSWERED_IN_PART,
            Self::StoreBusy => table::STORE_BUSY,
            Self::StoreDown => table::STORE_DOWN,
        }
    }

    /// The reply to the client.
    pub fn reply(self) -> Reply {
        let view = self.view();
        Reply::new(view.code, view.enhanced, self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reply_has_the_codes_of_the_row() {
        for (refusal, reply) in [
            (OwnRefusal::Content(Offence::Nul), "554 5.6.0 the message has a NUL, which no message may have"),
            // X2.
            (OwnRefusal::Content(Offence::LineFeed), "554 5.5.2 the message has a LF without CR"),
            (OwnRefusal::Content(Offence::CarriageReturn), "554 5.5.2 the message has a CR without LF"),
            (OwnRefusal::TooLarge(1000), "552 5.3.4 the message is larger than 1000 octets"),
            (OwnRefusal::TooManyHops, "554 5.4.6 too many Received fields"),
            (OwnRefusal::TlsRequiredMissing, "550 5.7.1 the header has not exactly one field \"TLS-Required: No\""),
            (OwnRefusal::AnsweredInPart, "451 4.3.5 other recipients on the same connection"),
            (OwnRefusal::StoreBusy, "451 4.3.5 another session is still sending the same message"),
            (OwnRefusal::StoreDown, "451 4.3.0 the store does not answer"),
        ] {
            assert!(refusal.reply().to_string().starts_with(reply), "{}", refusal.reply());
        }
    }
}
