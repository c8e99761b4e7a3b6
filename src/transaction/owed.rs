//! Replies in the order of the commands or recipients that they answer, each as soon as it and all before it are known
//! (RFC 2920 §3.2, RFC 2033 §4.2).

use std::collections::VecDeque;

use super::recipient::RecipientId;
use crate::smtp::reply::Reply;

/// The replies that the client waits for.
#[derive(Debug, Default)]
pub(super) struct Owed(VecDeque<One>);

#[derive(Debug)]
enum One {
    /// It is not known yet.
    Of(RecipientId),
    Known(Reply),
}

impl Owed {
    /// A reply to a recipient is owed.
    pub(super) fn owe(&mut self, recipient: RecipientId) {
        self.0.push_back(One::Of(recipient));
    }

    /// A reply that is known has its turn here.
    pub(super) fn say(&mut self, reply: Reply) {
        self.0.push_back(One::Known(reply));
    }

    /// The reply to a recipient is known. The first one counts.
    pub(super) fn put(&mut self, recipient: RecipientId, reply: &Reply) {
        let of_it = |one: &&mut One| matches!(one, One::Of(id) if *id == recipient);
        if let Some(one) = self.0.iter_mut().find(of_it) {
            *one = One::Known(reply.clone());
        }
    }

    /// The replies to these recipients are known.
    pub(super) fn put_all<'a>(&mut self, reply: impl Fn(RecipientId) -> Option<&'a Reply>) {
        for one in &mut self.0 {
            if let One::Of(id) = one
                && let Some(reply) = reply(*id)
            {
                *one = One::Known(reply.clone());
            }
        }
    }

    /// The replies that are due: all before them were taken.
    pub(super) fn drain(&mut self) -> Vec<Reply> {
        let mut due = Vec::new();
        while let Some(One::Known(_)) = self.0.front() {
            if let Some(One::Known(reply)) = self.0.pop_front() {
                due.push(reply);
            }
        }
        due
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::super::destination::Destinations;
    use super::super::recipient::{New, RecipientList};
    use super::*;
    use crate::name::Name;
    use crate::smtp::address::{ForwardPath, SmtpUtf8};
    use crate::smtp::reply::Code;

    #[test]
    fn answers_keep_their_order() {
        // I18, J8: a reply that is known early waits for those before it only.
        let mut recipients = RecipientList::default();
        let destination = Destinations::default().add(Name::parse("test").unwrap(), Vec::new());
        let ForwardPath::Mailbox(mailbox) = ForwardPath::parse("<a@test>", SmtpUtf8::Absent).unwrap() else { panic!() };
        let mut owed = Owed::default();
        let ids = [0, 1, 2].map(|_| {
            let id = recipients.add(New { mailbox: mailbox.clone(), destination, records: Vec::new() });
            owed.owe(id);
            id
        });
        let mut told = |place: usize| {
            owed.put(ids[place], &Reply::plain(Code::OK, place.to_string()));
            owed.drain().iter().map(|reply| format!("{reply}\r\n")).collect::<String>()
        };
        assert_eq!(told(1), "");
        assert_eq!(told(0), "250 0\r\n250 1\r\n");
        assert_eq!(told(2), "250 2\r\n");
    }
}
