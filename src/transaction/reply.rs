//! One reply for several destinations: the replies of a fan-out transaction at RCPT and at the end of the data.
//!
//! Plain SMTP has one reply at the end of the data (RFC 5321 §4.1.1.4), and the recipients of a fan-out transaction may
//! have several outcomes. Fan-out is for clients that keep one disposition for a message: nullmailer, msmtp, and libraries that give
//! the whole message up when one recipient is refused. Postfix, Exim, Sendmail and OpenSMTPD keep one for each
//! recipient and need no fan-out: danelaw tells them 452 at RCPT for the second destination, and they send it by itself.
//!
//! 1. **RCPT says yes** ([`held`]). A remote's 4xx or 5xx, or the lack of a remote, is held back until the end of the
//!    data: such a client would give up the message to the others.
//! 2. **One outcome for all is the reply** ([`conclude`]): 2xx, 4xx or 5xx. If all recipients are refused or all are
//!    deferred before the message, that is the reply to DATA ([`before_data`]).
//! 3. **While one recipient is deferred, the reply is 451.** The client sends the message again. The
//!    [`journal`](crate::journal) keeps it from the recipients that have a final outcome, if the message has a Message-ID.
//! 4. **When none is deferred, the reply is final**: 250, or the 5xx that names the refused recipients and says that all
//!    others have the message.
//!
//! A 250 says that each recipient's remote has answered 250 for this message, now or on an earlier attempt.

use crate::smtp::reply::{Class, Code, EnhancedCode, MAX_REPLY_LINES, Reply};

/// The outcome of a message for one recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// The remote has it.
    Delivered,
    /// The remote has refused it for good.
    Refused,
    /// The client has to send it again.
    Deferred,
}

impl Disposition {
    /// By the reply.
    pub fn of(reply: &Reply) -> Self {
        match reply.class() {
            Class::Success => Self::Delivered,
            Class::Permanent => Self::Refused,
            // 354 is never the end; the remote is asked again.
            Class::Intermediate | Class::Transient => Self::Deferred,
        }
    }

    /// Whether no further attempt is needed.
    pub fn is_final(self) -> bool {
        match self {
            Self::Delivered | Self::Refused => true,
            Self::Deferred => false,
        }
    }
}

/// The client's reply to a RCPT with an outcome that is held back.
pub fn held() -> Reply {
    Reply::new(Code::OK, EnhancedCode::success(1, 5), "the answer comes at the end of the message")
}

/// The reply to DATA if no message can change it: the held replies of all recipients, none of which has a record.
pub fn before_data<'a>(held: impl IntoIterator<Item = Option<&'a Reply>>) -> Option<Reply> {
    let part = |reply: &Reply| Part { mailbox: String::new(), reply: reply.clone() };
    let parts: Vec<Part> = held.into_iter().map(|reply| reply.map(part)).collect::<Option<_>>()?;
    match conclude(&parts) {
        Conclusion::Final(reply) => Some(reply),
        Conclusion::Again => None,
    }
}

/// Whether the recipients of one destination get the end of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndOfData {
    /// They do.
    Send,
    /// Each has its outcome by the record: the connection is dropped.
    Withhold,
    /// Some have an outcome. The connection is dropped, and the others are deferred.
    Defer,
}

/// Whether a destination gets the end of the data, by the recorded outcome of each of its recipients.
pub fn end_of_data<'a>(recorded: impl IntoIterator<Item = Option<&'a Reply>>) -> EndOfData {
    let (mut served, mut open) = (false, false);
    for outcome in recorded {
        if outcome.is_some() { served = true } else { open = true }
    }
    match (served, open) {
        (false, _) => EndOfData::Send,
        (true, false) => EndOfData::Withhold,
        (true, true) => EndOfData::Defer,
    }
}

/// The outcome for one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The recipient, as the reply names it.
    pub mailbox: String,
    /// Its own reply: the remote's, ours, or the recorded one.
    pub reply: Reply,
}

impl Part {
    fn disposition(&self) -> Disposition {
        Disposition::of(&self.reply)
    }
}

/// The reply at the end of the data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Conclusion {
    /// This one ends the message, or defers it for all recipients alike.
    Final(Reply),
    /// [`again`]: some recipients have a final outcome, and others are deferred.
    Again,
}

/// The one reply for all recipients of a transaction.
pub fn conclude(parts: &[Part]) -> Conclusion {
    use Disposition::{Deferred, Delivered, Refused};
    let any = |disposition| parts.iter().any(|part| part.disposition() == disposition);
    match (any(Delivered), any(Refused), any(Deferred)) {
        (true, false, false) => Conclusion::Final(shared(parts, Some(Code::OK))),
        (false, true, false) | (false, false, true) => Conclusion::Final(shared(parts, None)),
        (true, true, false) => Conclusion::Final(naming(parts, Refused, "all other recipients have the message")),
        (_, _, true) => Conclusion::Again,
        // The dialogue lets no message come without a recipient.
        (false, false, false) => Conclusion::Final(Reply::new(
            Code::TRANSACTION_FAILED,
            EnhancedCode::permanent(5, 1),
            "no valid recipients",
        )),
    }
}

/// The reply that holds for several recipients of which none was delivered to: 5xx only if all have 5xx.
pub fn worst(answers: impl IntoIterator<Item = Reply>) -> Option<Reply> {
    answers.into_iter().reduce(|first, next| match (first.code().is_permanent(), next.code().is_permanent()) {
        (true, false) => next,
        (false, _) | (true, true) => first,
    })
}

/// Whether the final outcomes of a message are on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// They are.
    Yes,
    /// The message has no Message-ID to be known by.
    NoMessageId,
    /// The store has failed.
    Failed,
}

/// The 451 that names the deferred recipients.
pub fn again(parts: &[Part], recorded: Recorded) -> Reply {
    let last = match recorded {
        Recorded::Yes => "send the message again; recipients that have it do not get it twice",
        Recorded::NoMessageId => "send the message again; all recipients get it again, because it has no Message-ID",
        Recorded::Failed => "send the message again; all recipients may get it again, because the store has failed",
    };
    let named = naming(parts, Disposition::Deferred, last);
    Reply::multiline(Code::LOCAL_ERROR, named.enhanced(), named.lines())
}

/// Most characters of such a line.
const MAX_LINE: usize = 480;

/// The reply that all have in common, or a line for each different one. `code` where it must be the plainest: there are
/// clients that take 250 alone for success.
fn shared(parts: &[Part], code: Option<Code>) -> Reply {
    let mut replies: Vec<&Reply> = Vec::new();
    for part in parts {
        if !replies.contains(&&part.reply) {
            replies.push(&part.reply);
        }
    }
    let first = replies.first().map(|reply| (reply.code(), reply.enhanced()));
    let (first, enhanced) = first.unwrap_or((Code::LOCAL_ERROR, None));
    let lines = replies.iter().flat_map(|reply| reply.lines()).take(MAX_REPLY_LINES);
    Reply::multiline(code.unwrap_or(first), enhanced, lines)
}

/// The replies of the recipients with this `disposition`, by name, and a last line.
fn naming(parts: &[Part], disposition: Disposition, last: &str) -> Reply {
    let mut named = parts.iter().filter(|part| part.disposition() == disposition);
    let (code, enhanced) = match named.clone().next() {
        Some(part) => (part.reply.code(), part.reply.enhanced()),
        None => (Code::LOCAL_ERROR, None),
    };
    let enhanced = enhanced.unwrap_or(EnhancedCode::transient(0, 0));
    let line = |part: &Part| format!("<{}>: {}", part.mailbox, part.reply).chars().take(MAX_LINE).collect();
    let mut lines: Vec<String> = named.by_ref().take(MAX_REPLY_LINES).map(line).collect();
    let more = named.count();
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    lines.push(last.to_owned());
    Reply::multiline(code, Some(enhanced), lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(number: u16) -> Reply {
        let text = format!("mx{number}.test[192.0.2.1]: said so");
        Reply::new(Code::new(number).unwrap(), EnhancedCode::success(1, 1), text)
    }

    fn parts(numbers: &[u16]) -> Vec<Part> {
        let part = |(place, number): (usize, &u16)| Part { mailbox: format!("r{place}@test"), reply: reply(*number) };
        numbers.iter().enumerate().map(part).collect()
    }

    /// The reply at the end of the data.
    fn told(numbers: &[u16]) -> Reply {
        let parts = parts(numbers);
        match conclude(&parts) {
            Conclusion::Final(reply) => reply,
            Conclusion::Again => again(&parts, Recorded::Yes),
        }
    }

    #[test]
    fn data_is_refused_if_no_message_can_change_the_reply() {
        let (later, never) = (reply(450), reply(550));
        let code = |held: &[Option<&Reply>]| before_data(held.iter().copied()).map(|reply| reply.code().number());
        assert_eq!(code(&[Some(&never)]), Some(550));
        assert_eq!(code(&[Some(&later), Some(&later)]), Some(450));
        // One recipient waits for the message.
        assert_eq!(code(&[Some(&never), None]), None);
        // The refused one goes into a record, and a record needs the message.
        assert_eq!(code(&[Some(&never), Some(&later)]), None);
    }

    #[test]
    fn recipients_with_an_outcome_get_no_second_copy() {
        let (yes, no) = (reply(250), reply(550));
        for (recorded, expected) in [
            (&[None, None][..], EndOfData::Send),
            (&[Some(&yes), Some(&yes)], EndOfData::Withhold),
            (&[Some(&no)], EndOfData::Withhold),
            (&[Some(&yes), None], EndOfData::Defer),
            (&[None, Some(&no)], EndOfData::Defer),
        ] {
            assert_eq!(end_of_data(recorded.iter().copied()), expected, "{recorded:?}");
        }
    }

    #[test]
    fn one_reply_for_all() {
        for (numbers, code) in [
            (&[250][..], 250),
            (&[250, 251], 250),
            (&[550, 550], 550),
            (&[552, 556], 552),
            (&[450, 451], 450),
            (&[250, 450], 451),
            (&[450, 250], 451),
            (&[450, 550], 451),
            (&[250, 550, 450], 451),
            (&[250, 554], 554),
            (&[550, 250, 250], 550),
            (&[], 554),
        ] {
            assert_eq!(told(numbers).code().number(), code, "{numbers:?}");
        }
    }

    #[test]
    fn the_reply_names_the_recipients_it_speaks_of() {
        assert_eq!(told(&[250, 250]).to_string(), "250 2.1.1 mx250.test[192.0.2.1]: said so");
        assert_eq!(
            told(&[250, 450, 550]).to_string(),
            "451 4.1.1 <r1@test>: 450 4.1.1 mx450.test[192.0.2.1]: said so / send the message again; recipients that have \
             it do not get it twice"
        );
        assert_eq!(
            told(&[250, 550]).to_string(),
            "550 5.1.1 <r1@test>: 550 5.1.1 mx550.test[192.0.2.1]: said so / all other recipients have the message"
        );
        let parts = parts(&[250, 450]);
        for (recorded, because) in [(Recorded::NoMessageId, "it has no Message-ID"), (Recorded::Failed, "has failed")] {
            let told = again(&parts, recorded);
            assert!(told.code().number() == 451 && told.to_string().ends_with(because), "{told}");
        }
        let many: Vec<u16> = [250].into_iter().chain([450; 20]).collect();
        let told = told(&many).to_string();
        assert!(told.contains("<r8@test>") && !told.contains("<r9@test>") && told.contains("and 12 more"), "{told}");
    }

    #[test]
    fn a_long_reply_is_cut() {
        let long = Reply::new(Code::LOCAL_ERROR, EnhancedCode::transient(0, 0), "x".repeat(60_000));
        let part = |number| Part { mailbox: format!("r{number}@test"), reply: long.clone() };
        let mut parts: Vec<Part> = (0..900).map(part).collect();
        parts.push(Part { mailbox: "ok@test".into(), reply: reply(250) });
        assert_eq!(conclude(&parts), Conclusion::Again);
        let told = again(&parts, Recorded::Yes).to_string();
        assert!(told.len() < 10 * MAX_LINE, "{} octets", told.len());
    }
}
