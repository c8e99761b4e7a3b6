//! One transaction: its recipients, the domains they are at, and how far each has come.

pub mod dialogue;
pub mod reply;

use std::collections::BTreeSet;

use crate::name::Name;
use crate::smtp::address::{ForwardPath, Mailbox, RecipientDomain, SmtpUtf8};
use crate::smtp::command::{Mail, Prdr};
use crate::smtp::reply::{Code, Reply};
use dialogue::{Client, Service, enhanced};

/// The most domains of one transaction: each has a connection of its own. Postfix sends to fifty recipients at a time.
const MAX_DOMAINS: usize = 50;
/// The most legs: a domain whose recipients are in several groups has one for each. Beyond that a recipient joins another
/// group of its domain.
const MAX_LEGS: usize = 4 * MAX_DOMAINS;
/// The most recipients that are asked for in one turn, whatever the client has pipelined.
const MAX_ASKED: usize = 1000;

/// What the client has said since MAIL, and what came of it. `U` is an open upstream.
#[derive(Debug)]
pub struct Transaction<U> {
    /// Who said it.
    pub client: Client,
    /// The sender and the parameters of MAIL.
    pub mail: Mail,
    /// How the message will be answered.
    pub answers: Answers,
    /// A leg for each recipient domain and group, in the order in which they were named.
    pub legs: Vec<Leg<U>>,
    /// Each recipient whose RCPT was answered with yes, in the client's order.
    pub accepted: Vec<Accepted>,
    /// What waits to be answered, in the client's order.
    asked: Vec<Asked>,
    /// Recipients named so far, accepted or not.
    named: usize,
}

/// How the message is answered at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answers {
    /// Once, for all recipients, who must be at one domain therefore (RFC 5321 §4.1.1.4).
    Once,
    /// Once, for recipients at any domains.
    FanOut,
    /// For each accepted recipient (RFC 2033 §4.2).
    PerRecipient,
    /// For each accepted recipient, between an announcement and a last word (draft-hall-prdr).
    Prdr,
}

/// The recipients at one domain, and the way to them.
#[derive(Debug)]
pub struct Leg<U> {
    /// The domain they are routed by.
    pub domain: Name,
    /// Which of those at the domain: recipients that have got the same messages before are one group (see
    /// [`crate::ledger`]). Group 0 is that of nearly all.
    pub group: usize,
    /// The way to them.
    pub way: Way<U>,
    /// How many the remote has accepted.
    pub accepted: usize,
}

/// The way to the recipients at one domain.
#[derive(Debug)]
pub enum Way<U> {
    /// It is still to be found.
    Unknown,
    /// A remote has taken MAIL.
    Open(U),
    /// There is none, or there is none any more: recipients get this answer, and those accepted before get it in the
    /// place of the message's.
    Closed(Reply),
}

/// One thing the client asked for.
#[derive(Debug)]
pub enum Asked {
    /// A recipient at the domain of this leg.
    Recipient(usize, Mailbox),
    /// Something whose answer is known, and waits for those before it.
    Answered(Reply),
}

/// A recipient whose RCPT was answered with yes.
#[derive(Debug)]
pub struct Accepted {
    /// Its leg.
    pub leg: usize,
    /// The recipient.
    pub mailbox: Mailbox,
    /// Its real answer, if that was held back: the message does not go to it on this leg.
    pub held: Option<Reply>,
}

/// What becomes of a RCPT.
pub(super) enum Admitted {
    /// It is to be asked for.
    Asked,
    /// It depends on what those say who were asked before.
    Depends,
    /// It is answered.
    Answered(Reply),
}

impl<U> Transaction<U> {
    pub(super) fn new(client: Client, mail: Mail, service: Service) -> Self {
        let answers = match (service, mail.prdr) {
            (Service::Lmtp, _) => Answers::PerRecipient,
            (Service::Smtp | Service::FanOut, Prdr::Requested) => Answers::Prdr,
            (Service::FanOut, Prdr::Absent) => Answers::FanOut,
            (Service::Smtp, Prdr::Absent) => Answers::Once,
        };
        let (legs, accepted, asked) = (Vec::new(), Vec::new(), Vec::new());
        Self { client, mail, answers, legs, accepted, asked, named: 0 }
    }

    /// What waits to be answered; to be told by [`Transaction::answered`] when it is.
    pub fn take_asked(&mut self) -> Vec<Asked> {
        std::mem::take(&mut self.asked)
    }

    /// What the client was answered to a recipient; in its order.
    pub fn answered(&mut self, recipient: Accepted, answer: &Reply) {
        if let (true, Some(leg)) = (answer.code().is_success(), self.legs.get_mut(recipient.leg)) {
            leg.accepted += usize::from(recipient.held.is_none());
            self.accepted.push(recipient);
        }
    }

    /// The one answer to all accepted recipients of a transaction that no leg can carry on. With fan-out each recipient has
    /// an answer of its own, and the end of the data tells it.
    pub fn refusal(&self) -> Option<Reply> {
        if self.answers == Answers::FanOut {
            return None;
        }
        let closed = |leg: &Leg<U>| match &leg.way {
            Way::Closed(answer) => Some(answer.clone()),
            Way::Unknown | Way::Open(_) => None,
        };
        let answers: Option<Vec<Reply>> = self.legs.iter().filter(|leg| leg.accepted > 0).map(closed).collect();
        answers.and_then(worst)
    }

    /// The open upstreams.
    pub fn into_upstreams(self) -> Vec<U> {
        let open = |leg: Leg<U>| match leg.way {
            Way::Open(upstream) => Some(upstream),
            Way::Unknown | Way::Closed(_) => None,
        };
        self.legs.into_iter().filter_map(open).collect()
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.asked.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.asked.len() >= MAX_ASKED
    }

    /// An answer that is known, in its turn.
    pub(super) fn answer_in_turn(&mut self, answer: Reply) {
        self.asked.push(Asked::Answered(answer));
    }

    /// One more recipient.
    pub(super) fn name(&mut self, path: &ForwardPath, group: usize, max_recipients: usize) -> Admitted {
        let (mailbox, domain) = match self.route(path) {
            Ok(found) => found,
            Err(no) => return Admitted::Answered(no),
        };
        if self.named >= max_recipients {
            // RFC 5321 §4.5.3.1.10.
            return Admitted::Answered(later("too many recipients in one transaction"));
        }
        if let Some(instead) = self.taken(&domain) {
            return instead;
        }
        let Some(leg) = self.leg(domain, group) else {
            return Admitted::Answered(later("too many destinations in one transaction, try again"));
        };
        self.named += 1;
        self.asked.push(Asked::Recipient(leg, mailbox));
        Admitted::Asked
    }

    /// What stands in the way of a recipient at this domain: another one, in a transaction that may have one.
    fn taken(&self, domain: &Name) -> Option<Admitted> {
        match self.answers {
            Answers::Once => {}
            Answers::FanOut | Answers::PerRecipient | Answers::Prdr => return None,
        }
        let mut others = self.legs.iter().enumerate().filter(|(_, leg)| leg.domain != *domain);
        let (index, holder) = others.find(|(index, leg)| self.holds(*index, leg))?;
        if holder.accepted == 0 && self.is_asked(index) {
            // Whether that domain takes a recipient at all is about to be seen.
            return Some(Admitted::Depends);
        }
        // RFC 5321 §4.1.1.4: one answer for all after DATA, so one remote for all. The client sends the others again in a
        // transaction of their own.
        let text = format!("one destination per transaction: this one is for {}, try again", holder.domain);
        Some(Admitted::Answered(later(&text)))
    }

    /// The leg of this group of a domain, if there is room for one.
    fn leg(&mut self, domain: Name, group: usize) -> Option<usize> {
        let known = self.legs.iter().position(|leg| leg.domain == domain && leg.group == group);
        let other_group = || self.legs.iter().position(|leg| leg.domain == domain);
        if known.is_some() || (self.legs.len() >= MAX_LEGS && other_group().is_some()) {
            return known.or_else(other_group);
        }
        // A domain without a way, and without an accepted recipient, needs no connection.
        let needs_one = |leg: &&Leg<U>| leg.accepted > 0 || !matches!(leg.way, Way::Closed(_));
        let domains: BTreeSet<&Name> = self.legs.iter().filter(needs_one).map(|leg| &leg.domain).collect();
        if domains.len() >= MAX_DOMAINS && !domains.contains(&domain) {
            return None;
        }
        self.legs.push(Leg { domain, group, way: Way::Unknown, accepted: 0 });
        Some(self.legs.len() - 1)
    }

    /// Whether a transaction that may have one domain has this one: it has an accepted recipient there, or is about to ask
    /// for one. A domain that has refused all its recipients leaves room for another.
    fn holds(&self, index: usize, leg: &Leg<U>) -> bool {
        leg.accepted > 0 || self.is_asked(index)
    }

    fn is_asked(&self, leg: usize) -> bool {
        self.asked.iter().any(|asked| matches!(asked, Asked::Recipient(asked, _) if *asked == leg))
    }

    /// The mailbox and the domain, if there is a way to such; or what to say about it.
    fn route(&self, path: &ForwardPath) -> Result<(Mailbox, Name), Reply> {
        let refused = |code, subject, detail, text| Err(enhanced(code, subject, detail, text));
        let ForwardPath::Mailbox(mailbox) = path else {
            return refused(Code::MAILBOX_UNAVAILABLE, 1, 2, "there is no postmaster here: give the address a domain");
        };
        let RecipientDomain::Name(domain) = mailbox.domain() else {
            return refused(
                Code::MAILBOX_UNAVAILABLE,
                1,
                2,
                "address literals are not delivered to: DANE needs a domain",
            );
        };
        if mailbox.needs_smtp_utf8() && self.mail.smtp_utf8 == SmtpUtf8::Absent {
            // RFC 6531 §3.5.
            let text = "the address is not ASCII, and MAIL did not say SMTPUTF8";
            return refused(Code::MAILBOX_NAME_NOT_ALLOWED, 6, 7, text);
        }
        Ok((mailbox.clone(), domain.clone()))
    }
}

/// The answer that holds for several recipients of whom none was delivered to: a no for good only if it is one for each.
pub fn worst(answers: impl IntoIterator<Item = Reply>) -> Option<Reply> {
    answers.into_iter().reduce(|first, next| match (first.code().is_permanent(), next.code().is_permanent()) {
        (true, false) => next,
        (false, _) | (true, true) => first,
    })
}

fn later(text: &str) -> Reply {
    enhanced(Code::INSUFFICIENT_STORAGE, 5, 3, text)
}
