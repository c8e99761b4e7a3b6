//! RCPT: which recipients a transaction takes, and which destination each of them has.

use std::collections::BTreeSet;

use super::dialogue::enhanced;
use super::recipient::New;
use super::{Destination, DestinationId, DomainLimit, Recipient, Transaction};
use crate::name::Name;
use crate::smtp::address::{ForwardPath, Mailbox, RecipientDomain, SmtpUtf8};
use crate::smtp::reply::{Code, Reply};
use crate::store::key::RecordId;

/// The most domains of one transaction: each has a connection of its own. Postfix sends to fifty recipients at a time.
const MAX_DOMAINS: usize = 50;
/// The most destinations: a domain whose recipients are in different records has several. Beyond that a recipient joins
/// another destination of its domain.
const MAX_DESTINATIONS: usize = 4 * MAX_DOMAINS;
/// The most replies that wait for remotes in one turn, however many RCPTs the client has pipelined.
const MAX_OWED: usize = 1000;

/// The decision about a RCPT.
pub(super) enum Admitted {
    /// Its destination is asked for it.
    Named,
    /// It depends on recipients before it that have no reply yet.
    Depends,
    /// This is the reply.
    Answered(Reply),
}

impl Transaction {
    pub(super) fn is_waiting(&self) -> bool {
        !self.owed.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.owed.len() >= MAX_OWED
    }

    /// One more recipient, which has a final outcome in these records.
    pub(super) fn name(&mut self, path: &ForwardPath, records: Vec<RecordId>, max_recipients: usize) -> Admitted {
        let (mailbox, domain) = match self.route(path) {
            Ok(found) => found,
            Err(no) => return Admitted::Answered(no),
        };
        if self.recipients.all().len() >= max_recipients {
            // RFC 5321 §4.5.3.1.10.
            return Admitted::Answered(later("too many recipients in one transaction"));
        }
        if let Some(instead) = self.taken(&domain) {
            return instead;
        }
        let Some(destination) = self.destination_for(domain, &records) else {
            return Admitted::Answered(later("too many destinations in one transaction, try again"));
        };
        let new = New { mailbox, destination, records };
        let id = self.recipients.add(new);
        self.owed.owe(id);
        Admitted::Named
    }

    /// The reply that is known to a command, in its turn.
    pub(super) fn reply_in_turn(&mut self, reply: Reply) {
        self.owed.say(reply);
    }

    /// An obstacle to a recipient at this domain: another domain, in a transaction that may have one.
    fn taken(&self, domain: &Name) -> Option<Admitted> {
        match self.replies.row().domains {
            DomainLimit::One => {}
            DomainLimit::Several => return None,
        }
        let others = || self.destinations.all().iter().filter(|destination| destination.domain != *domain);
        others().next()?;
        let accepted = self.with(Recipient::is_accepted);
        let named = self.with(Recipient::is_named);
        // A domain that has refused all its recipients leaves room for another one.
        let holder = others().find(|other| accepted.contains(&other.id) || named.contains(&other.id))?;
        if !accepted.contains(&holder.id) {
            // Whether that domain takes a recipient at all is about to be seen.
            return Some(Admitted::Depends);
        }
        // RFC 5321 §4.1.1.4: one reply for all after DATA, so one remote for all. The client sends the others again in a
        // transaction of their own.
        let text = format!("one destination per transaction: this one is for {}, try again", holder.domain);
        Some(Admitted::Answered(later(&text)))
    }

    /// The destinations that have such a recipient.
    fn with(&self, is_such: impl Fn(&Recipient) -> bool) -> BTreeSet<DestinationId> {
        let such = self.recipients.all().iter().filter(|recipient| is_such(recipient));
        such.map(|recipient| recipient.destination).collect()
    }

    /// The destination of a recipient at this domain and in these records, if there is room for one.
    fn destination_for(&mut self, domain: Name, records: &[RecordId]) -> Option<DestinationId> {
        let all = self.destinations.all();
        let of_domain = || all.iter().filter(|destination| destination.domain == domain);
        let known = of_domain().find(|destination| destination.records == *records);
        let is_crowded = all.len() >= MAX_DESTINATIONS;
        if let Some(known) = known.or_else(|| of_domain().next().filter(|_| is_crowded)) {
            return Some(known.id);
        }
        // A destination that has failed, and has no accepted recipient, needs no connection.
        let accepted = self.with(Recipient::is_accepted);
        let needs_one = |one: &&Destination| accepted.contains(&one.id) || !one.has_failed();
        let domains: BTreeSet<&Name> = all.iter().filter(needs_one).map(|destination| &destination.domain).collect();
        if domains.len() >= MAX_DOMAINS && !domains.contains(&domain) {
            return None;
        }
        Some(self.destinations.add(domain, records.to_vec()))
    }

    /// The mailbox and its domain; or the reply to a recipient that mail cannot be routed to.
    fn route(&self, path: &ForwardPath) -> Result<(Mailbox, Name), Reply> {
        let refused = |code, subject, detail, text| Err(enhanced(code, subject, detail, text));
        let ForwardPath::Mailbox(mailbox) = path else {
            return refused(Code::MAILBOX_UNAVAILABLE, 1, 2, "there is no postmaster here: give the address a domain");
        };
        let RecipientDomain::Name(domain) = mailbox.domain() else {
            let text = "address literals are not delivered to: DANE needs a domain";
            return refused(Code::MAILBOX_UNAVAILABLE, 1, 2, text);
        };
        if mailbox.needs_smtp_utf8() && self.envelope.mail.smtp_utf8 == SmtpUtf8::Absent {
            // RFC 6531 §3.5.
            let text = "the address is not ASCII, and MAIL did not say SMTPUTF8";
            return refused(Code::MAILBOX_NAME_NOT_ALLOWED, 6, 7, text);
        }
        Ok((mailbox.clone(), domain.clone()))
    }
}

fn later(text: &str) -> Reply {
    enhanced(Code::INSUFFICIENT_STORAGE, 5, 3, text)
}
