//! One reply for several recipients: what the client is told at RCPT and at the end of the data, and what is remembered.
//!
//! Plain SMTP has one reply at the end of the data (RFC 5321 §4.1.1.4), and the recipients of a fan-out transaction may
//! have several outcomes. The rules, whoever the client is:
//!
//! 1. **RCPT says yes** ([`said`]). Many clients give the whole message up when one recipient is refused, and then the
//!    others would get nothing. A remote's no is held back until the end of the data.
//! 2. **One outcome for all is the answer** ([`conclude`]): 2xx, 4xx or 5xx. If it is plain before the message that all
//!    are refused or all deferred, that is the answer to DATA ([`before_data`]).
//! 3. **Several outcomes are 451**, and what is final is remembered in the [`ledger`](crate::ledger). Whoever has the
//!    message does not get it again.
//! 4. **On the retry those part who cannot agree** ([`Company::admit`]): of recipients for whom the same message has become
//!    different things, those that were named first are taken, and the others told 452 at RCPT. So each group comes alone
//!    in the end and hears its own outcome: 250 those who have it, 5xx those who were refused, and nobody else bounces. A
//!    recipient who was deferred once may come along, since mostly it is served now; if it is not, it parts the next time.
//!    Whoever was deferred in a turn of its own leaves the next one to the others ([`Turns`](crate::ledger::Turns)), so that
//!    those who have the message hear of it even if they are always named last.
//! 5. **A client that does not part** gives the message up on that 452 ([`Company::given_up`]), and this is remembered too.
//!    Then all its recipients are taken again, and once nobody is left to try, the answer is that of those who were
//!    refused: 5xx, and it says that the others have the message. Such a client has one fate for a message anyway.
//!
//! | client | 4xx for some at RCPT | what it hears of {delivered, refused} | of {delivered, deferred} |
//! |---|---|---|---|
//! | Postfix, Exim, Sendmail, OpenSMTPD, smtplib | sends to the others | 451; 250 for the one, 452 for the other; 5xx for the other, alone | 451; 250, or 451 and then 250 for the one, 452 for the other; then the other alone |
//! | nullmailer | leaves without QUIT, tries all again | 451; 452; 5xx: into failed/ | 451; 250, or 451 until the other has it; 452 in between, once |
//! | msmtp | leaves before the message, exit code; whoever calls it tries again | as nullmailer | as nullmailer |
//! | dma, qmail | one recipient in a transaction | never | never |
//!
//! What a false guess costs: a *different* message to the same recipients, while something is remembered of an earlier
//! one, may have its recipients part (4xx) and come in two attempts. Nothing is answered 2xx or 5xx on the strength of a
//! guess: both come from a remote, now or earlier for the same octets. One thing is inferred and may be wrong: a client
//! that is cut off in the very moment after a 452 is taken for one that does not part, until the message is settled, and
//! a 5xx may then bounce recipients that have it.

use std::collections::BTreeSet;

use crate::ledger::{Attempt, Fate, Manners, Pair, Past};
use crate::smtp::reply::{Code, EnhancedCode, Reply};

pub use crate::config::Recipients;

/// Those who are in a transaction with one reply together.
#[derive(Debug, Default)]
pub struct Company {
    /// Each once; mostly none but the empty one.
    pasts: Vec<Past>,
    /// Those of whom something is remembered, so that something can be added to it.
    named: BTreeSet<Pair>,
    manners: Manners,
    parted: bool,
}

/// Whether a recipient can be in this transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// It can: ask the remote.
    Join,
    /// It would need another answer at the end of the data than those who are in it. This is the client's answer now.
    Part(Reply),
}

impl Company {
    /// Whether a recipient with this past can join those who are in it.
    pub fn admit(&mut self, pair: Pair, past: &Past) -> Admission {
        if !past.is_empty() {
            self.named.insert(pair);
        }
        if past.manners() == Manners::AllOrNothing {
            self.manners = Manners::AllOrNothing;
        }
        let clashes = self.pasts.iter().any(|other| other.clashes_with(past));
        if clashes && self.manners == Manners::Unproved {
            self.parted = true;
            let text = "this recipient's last answer was another one than the others'; send to it on its own";
            return Admission::Part(Reply::new(Code::INSUFFICIENT_STORAGE, EnhancedCode::transient(5, 3), text));
        }
        if !self.pasts.contains(past) {
            self.pasts.push(past.clone());
        }
        Admission::Join
    }

    /// How the client behaves, as far as its recipients have it remembered.
    pub fn manners(&self) -> Manners {
        self.manners
    }

    /// Whether somebody was told to come alone.
    pub fn has_parted(&self) -> bool {
        self.parted
    }

    /// The client has ended the transaction without an octet of a message. If that was its reply to being told to part,
    /// these are the recipients to remember it for; else there are none.
    pub fn given_up(&self) -> Vec<Pair> {
        self.named.iter().filter(|_| self.parted).copied().collect()
    }
}

/// The client's answer to a recipient that had its turn alone and was deferred: this turn is the others'.
pub fn after_the_others() -> Reply {
    let text = "other recipients of the same message are told first what became of it; try again";
    Reply::new(Code::INSUFFICIENT_STORAGE, EnhancedCode::transient(5, 3), text)
}

/// What becomes of a remote's answer to RCPT, or of the lack of a remote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// The client hears it, and a refused recipient is out of the transaction.
    Now(Reply),
    /// The client hears yes. The recipient is in the transaction, and this is its outcome, unless it turns out to have
    /// another one already.
    Held(Reply),
}

/// What the client is told at RCPT when this is the `answer`.
pub fn said(recipients: Recipients, past: &Past, answer: Reply) -> Said {
    let may_be_retry = !past.is_empty();
    match recipients {
        _ if answer.code().is_success() => Said::Now(answer),
        // Whoever has the message must not bounce because its remote has changed its mind.
        Recipients::Split if may_be_retry => Said::Held(answer),
        Recipients::Split => Said::Now(answer),
        Recipients::FanOut => Said::Held(answer),
    }
}

/// The client's answer to a RCPT whose outcome is held back.
pub fn yes() -> Reply {
    Reply::new(Code::OK, EnhancedCode::success(1, 5), "the answer comes at the end of the message")
}

/// The answer to DATA, if no message can change it: each recipient with its past, and with what was held back.
pub fn before_data<'a>(recipients: impl IntoIterator<Item = (&'a Past, Option<&'a Reply>)>) -> Option<Reply> {
    let mut parts = Vec::new();
    for (past, held) in recipients {
        if !past.is_empty() {
            return None;
        }
        parts.push(Part { mailbox: String::new(), reply: held?.clone() });
    }
    match conclude(&parts, Manners::Unproved, Attempt::First) {
        Conclusion::Final(reply) => Some(reply),
        Conclusion::Again { .. } => None,
    }
}

/// What to do with a leg at the end of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dot {
    /// Send it.
    Send,
    /// Drop the connection: all recipients have their outcome.
    Withhold,
    /// Drop the connection: some have their outcome. The others are deferred; on the next attempt the two part.
    Defer,
}

/// Whether a leg gets its final dot, by what is remembered of the message for each of its recipients.
pub fn dot(remembered: impl IntoIterator<Item = Option<Fate>>) -> Dot {
    let (mut served, mut waiting) = (false, false);
    for fate in remembered {
        if fate.is_some_and(Fate::is_final) { served = true } else { waiting = true }
    }
    match (served, waiting) {
        (false, _) => Dot::Send,
        (true, false) => Dot::Withhold,
        (true, true) => Dot::Defer,
    }
}

/// What became of one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The recipient, as it is told to the client.
    pub mailbox: String,
    /// The answer that would be its own: the remote's, ours, or the remembered one.
    pub reply: Reply,
}

/// What the client is told at the end of the data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Conclusion {
    /// The outcome. Once the client has heard it, nothing needs to be remembered; until then everything is of use.
    Final(Reply),
    /// It has to try again.
    Again {
        /// The answer.
        answer: Reply,
        /// Whose outcomes, by their place, must be remembered before it hears that; the others' must not.
        remember: Vec<usize>,
    },
}

/// The one answer for all recipients of a transaction.
pub fn conclude(parts: &[Part], manners: Manners, attempt: Attempt) -> Conclusion {
    let any = |fate| parts.iter().any(|part| part.fate() == fate);
    match (any(Fate::Delivered), any(Fate::Refused), any(Fate::Deferred)) {
        (true, false, false) => Conclusion::Final(shared(parts, Some(Code::OK))),
        (false, true, false) | (false, false, true) => Conclusion::Final(shared(parts, None)),
        (true, true, false) if manners == Manners::AllOrNothing => {
            Conclusion::Final(mixed(parts, Fate::Refused, "all other recipients have the message"))
        }
        (true, true, false) => again(parts, attempt, Fate::Refused),
        (_, _, true) => again(parts, attempt, Fate::Deferred),
        // Nobody was accepted, and the dialogue lets no message come then.
        (false, false, false) => Conclusion::Final(Reply::new(
            Code::TRANSACTION_FAILED,
            EnhancedCode::permanent(5, 1),
            "no valid recipients",
        )),
    }
}

impl Part {
    fn fate(&self) -> Fate {
        Fate::of(&self.reply)
    }
}

fn again(parts: &[Part], attempt: Attempt, because_of: Fate) -> Conclusion {
    let told = mixed(parts, because_of, "who has the message does not get it again; send it once more");
    let answer = Reply::multiline(Code::LOCAL_ERROR, told.enhanced(), told.lines());
    // Whoever is deferred for the first time comes along the next time, and mostly has it then.
    let of_use = |part: &Part| part.fate().is_final() || attempt == Attempt::Retry;
    let remember = parts.iter().enumerate().filter(|(_, part)| of_use(part)).map(|(place, _)| place).collect();
    Conclusion::Again { answer, remember }
}

/// Most lines of an answer that speaks for several recipients.
const MAX_LINES: usize = 8;

/// What all have in common: the reply, or a line for each different one. `code` where it must be the plainest: there are
/// clients that take 250 alone for a yes.
fn shared(parts: &[Part], code: Option<Code>) -> Reply {
    let mut replies: Vec<&Reply> = Vec::new();
    for part in parts {
        if !replies.contains(&&part.reply) {
            replies.push(&part.reply);
        }
    }
    let first = replies.first().map(|reply| (reply.code(), reply.enhanced()));
    let (first, enhanced) = first.unwrap_or((Code::LOCAL_ERROR, None));
    let lines = replies.iter().flat_map(|reply| reply.lines()).take(MAX_LINES);
    Reply::multiline(code.unwrap_or(first), enhanced, lines)
}

/// The outcomes of those with one `fate` for whose sake the client is told, and a last line for it to read.
fn mixed(parts: &[Part], fate: Fate, last: &str) -> Reply {
    let mut told = parts.iter().filter(|part| part.fate() == fate);
    let (code, enhanced) = match told.clone().next() {
        Some(part) => (part.reply.code(), part.reply.enhanced()),
        None => (Code::LOCAL_ERROR, None),
    };
    let enhanced = enhanced.unwrap_or(EnhancedCode::transient(0, 0));
    let mut lines: Vec<String> =
        told.by_ref().take(MAX_LINES).map(|part| format!("<{}>: {}", part.mailbox, part.reply)).collect();
    let more = told.count();
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    lines.push(last.to_owned());
    Reply::multiline(code, Some(enhanced), lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Content, ContentHasher};
    use crate::smtp::address::{ForwardPath, ReversePath, SmtpUtf8};

    fn pair(name: &str) -> Pair {
        let recipient = ForwardPath::parse(&format!("<{name}@a.test>"), SmtpUtf8::Absent).unwrap();
        let ForwardPath::Mailbox(recipient) = recipient else { panic!("no mailbox") };
        Pair::new(&ReversePath::Null, &recipient)
    }

    fn message(text: &str) -> Content {
        let mut hasher = ContentHasher::of_any_size();
        hasher.update(text.as_bytes());
        hasher.finish().unwrap()
    }

    fn past(fates: &[(&str, Fate)]) -> Past {
        Past::new(fates.iter().map(|(text, fate)| (message(text), *fate)), Manners::Unproved)
    }

    fn stubborn(fates: &[(&str, Fate)]) -> Past {
        Past::new(fates.iter().map(|(text, fate)| (message(text), *fate)), Manners::AllOrNothing)
    }

    fn reply(number: u16) -> Reply {
        let text = format!("mx{number}.test[192.0.2.1]: said so");
        Reply::new(Code::new(number).unwrap(), EnhancedCode::success(1, 1), text)
    }

    fn parts(numbers: &[u16]) -> Vec<Part> {
        let part = |(place, number): (usize, &u16)| Part { mailbox: format!("r{place}@test"), reply: reply(*number) };
        numbers.iter().enumerate().map(part).collect()
    }

    /// The code of the answer, and what is remembered before it.
    fn concluded(numbers: &[u16], manners: Manners, attempt: Attempt) -> (u16, Option<Vec<usize>>) {
        match conclude(&parts(numbers), manners, attempt) {
            Conclusion::Final(answer) => (answer.code().number(), None),
            Conclusion::Again { answer, remember } => (answer.code().number(), Some(remember)),
        }
    }

    #[test]
    fn no_more_is_kept_of_those_who_are_named_than_is_remembered_of_them() {
        // a client may say RCPT for as long as it likes.
        let mut company = Company::default();
        for number in 0..1000 {
            company.admit(pair(&format!("stranger{number}")), &past(&[]));
            company.admit(pair("one"), &past(&[("m", Fate::Delivered)]));
            company.admit(pair("two"), &past(&[("m", Fate::Refused)]));
        }
        assert_eq!(company.given_up().len(), 2);
    }

    #[test]
    fn who_cannot_have_the_same_answer_parts() {
        use Fate::{Deferred, Delivered, Refused};
        let joins = |pasts: &[Past]| {
            let mut company = Company::default();
            let joined: Vec<bool> = pasts
                .iter()
                .enumerate()
                .map(|(number, past)| company.admit(pair(&format!("r{number}")), past) == Admission::Join)
                .collect();
            (joined, company.given_up().len())
        };
        // The first attempt: nobody knows anything, and everybody comes along.
        assert_eq!(joins(&[past(&[]), past(&[]), past(&[])]), (vec![true, true, true], 0));
        // The same message became different things; the order decides who comes first.
        for (one, other) in [(Delivered, Refused), (Delivered, Deferred), (Refused, Deferred)] {
            for (one, other) in [(one, other), (other, one)] {
                let pasts = [past(&[("m", one)]), past(&[("m", other)]), past(&[("m", one)])];
                assert_eq!(joins(&pasts), (vec![true, false, true], 3), "{one:?} {other:?}");
            }
        }
        // Who was not there, or was deferred once, comes along; so do those of whom other messages are remembered.
        assert_eq!(joins(&[past(&[("m", Delivered)]), past(&[])]), (vec![true, true], 0));
        assert_eq!(joins(&[past(&[("m", Delivered)]), past(&[("n", Refused)])]), (vec![true, true], 0));
        // One message of several is enough.
        let many = past(&[("l", Delivered), ("m", Refused)]);
        assert_eq!(joins(&[many.clone(), past(&[("m", Delivered)])]), (vec![true, false], 2));
        assert_eq!(joins(&[many.clone(), past(&[("l", Delivered)])]), (vec![true, true], 0));
        // A client that has given up before is not asked to part again.
        assert_eq!(joins(&[stubborn(&[("m", Delivered)]), stubborn(&[("m", Refused)])]), (vec![true, true], 0));
        assert_eq!(joins(&[past(&[]), stubborn(&[("m", Refused)]), past(&[("m", Delivered)])]).1, 0);
    }

    #[test]
    fn a_no_is_told_at_rcpt_where_the_client_can_bear_it() {
        let remembered = past(&[("m", Fate::Delivered)]);
        for (recipients, past, number, held) in [
            (Recipients::Split, &Past::default(), 250, false),
            (Recipients::Split, &Past::default(), 450, false),
            (Recipients::Split, &Past::default(), 550, false),
            (Recipients::Split, &remembered, 251, false),
            (Recipients::Split, &remembered, 450, true),
            (Recipients::Split, &remembered, 550, true),
            (Recipients::FanOut, &Past::default(), 250, false),
            (Recipients::FanOut, &Past::default(), 450, true),
            (Recipients::FanOut, &Past::default(), 550, true),
        ] {
            let expected = if held { Said::Held(reply(number)) } else { Said::Now(reply(number)) };
            assert_eq!(said(recipients, past, reply(number)), expected, "{recipients:?} {number}");
        }
        assert!(yes().code().is_success());
    }

    #[test]
    fn data_is_refused_if_no_message_can_change_the_answer() {
        let (nothing, something) = (past(&[]), past(&[("m", Fate::Delivered)]));
        let (later, never) = (reply(450), reply(550));
        let code = |recipients: &[(&Past, Option<&Reply>)]| {
            before_data(recipients.iter().copied()).map(|reply| reply.code().number())
        };
        assert_eq!(code(&[(&nothing, Some(&never))]), Some(550));
        assert_eq!(code(&[(&nothing, Some(&later)), (&nothing, Some(&later))]), Some(450));
        // Somebody is waiting for it, or has it.
        assert_eq!(code(&[(&nothing, Some(&never)), (&nothing, None)]), None);
        assert_eq!(code(&[(&something, Some(&never))]), None);
        // It takes the message to remember who was refused.
        assert_eq!(code(&[(&nothing, Some(&never)), (&nothing, Some(&later))]), None);
    }

    #[test]
    fn no_remote_gets_a_message_twice() {
        use Fate::{Deferred, Delivered, Refused};
        for (remembered, expected) in [
            (&[None, None][..], Dot::Send),
            (&[Some(Deferred), None], Dot::Send),
            (&[Some(Delivered), Some(Delivered)], Dot::Withhold),
            (&[Some(Refused)], Dot::Withhold),
            (&[Some(Delivered), None], Dot::Defer),
            (&[Some(Deferred), Some(Refused)], Dot::Defer),
        ] {
            assert_eq!(dot(remembered.iter().copied()), expected, "{remembered:?}");
        }
    }

    #[test]
    fn one_answer_for_all() {
        use Attempt::{First, Retry};
        use Manners::{AllOrNothing, Unproved};
        for manners in [Unproved, AllOrNothing] {
            for attempt in [First, Retry] {
                // What all have in common is the answer, and needs no memory.
                assert_eq!(concluded(&[250], manners, attempt), (250, None));
                assert_eq!(concluded(&[250, 251], manners, attempt), (250, None));
                assert_eq!(concluded(&[550, 550], manners, attempt), (550, None));
                assert_eq!(concluded(&[552, 556], manners, attempt), (552, None));
                assert_eq!(concluded(&[450, 451], manners, attempt), (450, None));
                assert_eq!(concluded(&[], manners, attempt), (554, None));
            }
            // Who is deferred comes along once more.
            assert_eq!(concluded(&[250, 450], manners, First), (451, Some(vec![0])));
            assert_eq!(concluded(&[450, 550, 250], manners, First), (451, Some(vec![1, 2])));
            // And then it parts.
            assert_eq!(concluded(&[250, 450], manners, Retry), (451, Some(vec![0, 1])));
            assert_eq!(concluded(&[450, 550], manners, Retry), (451, Some(vec![0, 1])));
        }
        assert_eq!(concluded(&[250, 550], Unproved, First), (451, Some(vec![0, 1])));
        assert_eq!(concluded(&[250, 550], Unproved, Retry), (451, Some(vec![0, 1])));
        assert_eq!(concluded(&[250, 550], AllOrNothing, Retry), (550, None));
    }

    #[test]
    fn the_answer_says_whose_it_is() {
        let told = |numbers: &[u16], manners| match conclude(&parts(numbers), manners, Attempt::Retry) {
            Conclusion::Final(answer) | Conclusion::Again { answer, .. } => answer.to_string(),
        };
        assert_eq!(told(&[250, 250], Manners::Unproved), "250 2.1.1 mx250.test[192.0.2.1]: said so");
        assert_eq!(
            told(&[250, 550], Manners::Unproved),
            "451 4.1.1 <r1@test>: 550 5.1.1 mx550.test[192.0.2.1]: said so / who has the message does not get it again; \
             send it once more"
        );
        assert_eq!(
            told(&[250, 550], Manners::AllOrNothing),
            "550 5.1.1 <r1@test>: 550 5.1.1 mx550.test[192.0.2.1]: said so / all other recipients have the message"
        );
        let many: Vec<u16> = [250].into_iter().chain([450; 20]).collect();
        let told = told(&many, Manners::Unproved);
        assert!(told.contains("<r8@test>") && !told.contains("<r9@test>") && told.contains("and 12 more"), "{told}");
    }
}
