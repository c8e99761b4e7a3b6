//! A recipient, from RCPT to its outcome.

use super::destination::DestinationId;
use crate::smtp::address::Mailbox;
use crate::smtp::reply::Reply;
use crate::store::key::RecordId;

/// A recipient of one transaction. Only the transaction makes ids, and it never removes a recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecipientId(usize);

/// A recipient that the client has named and that has a destination.
#[derive(Debug)]
pub struct Recipient {
    /// Its id.
    pub id: RecipientId,
    /// The address.
    pub mailbox: Mailbox,
    /// The destination that its mail goes to.
    pub destination: DestinationId,
    /// The records in which it has a final outcome of another message or of an earlier attempt.
    pub records: Vec<RecordId>,
    /// How far it has come.
    pub state: RecipientState,
}

/// How far a recipient has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecipientState {
    /// The client waits for the reply to RCPT.
    Named,
    /// The reply to RCPT was 4xx or 5xx. It gets no message.
    Rejected,
    /// The reply to RCPT was 2xx, and so was the remote's.
    Accepted,
    /// The reply to RCPT was 2xx. The remote's own reply is kept for the end of the data, and it gets no message.
    Held(Reply),
    /// Its outcome: the remote's reply to the message, ours in its place, or the recorded one.
    Concluded(Reply),
}

impl Recipient {
    /// Whether the reply to RCPT was 2xx: the client waits for its outcome or knows it.
    pub fn is_expected(&self) -> bool {
        match &self.state {
            RecipientState::Accepted | RecipientState::Held(_) | RecipientState::Concluded(_) => true,
            RecipientState::Named | RecipientState::Rejected => false,
        }
    }

    /// Whether the message is to go to it.
    pub fn is_accepted(&self) -> bool {
        self.state == RecipientState::Accepted
    }

    /// Whether its RCPT has no reply yet.
    pub fn is_named(&self) -> bool {
        self.state == RecipientState::Named
    }

    /// Its outcome, once it has one.
    pub fn outcome(&self) -> Option<&Reply> {
        match &self.state {
            RecipientState::Concluded(reply) => Some(reply),
            RecipientState::Named | RecipientState::Rejected | RecipientState::Accepted | RecipientState::Held(_) => {
                None
            }
        }
    }
}

/// All recipients of a transaction, in the order in which the client has named them.
#[derive(Debug, Default)]
pub(super) struct RecipientList(Vec<Recipient>);

impl RecipientList {
    /// Adds a recipient, named and not yet asked for.
    pub(super) fn add(&mut self, new: New) -> RecipientId {
        let id = RecipientId(self.0.len());
        let New { mailbox, destination, records } = new;
        self.0.push(Recipient { id, mailbox, destination, records, state: RecipientState::Named });
        id
    }

    /// The recipient of an id. [`RecipientList::add`] has made the id, and no recipient is ever removed.
    pub(super) fn get(&self, id: RecipientId) -> &Recipient {
        &self.0[id.0]
    }

    pub(super) fn get_mut(&mut self, id: RecipientId) -> &mut Recipient {
        &mut self.0[id.0]
    }

    pub(super) fn all(&self) -> &[Recipient] {
        &self.0
    }

    pub(super) fn all_mut(&mut self) -> &mut [Recipient] {
        &mut self.0
    }
}

/// A recipient that is about to be added.
pub(super) struct New {
    pub(super) mailbox: Mailbox,
    pub(super) destination: DestinationId,
    pub(super) records: Vec<RecordId>,
}
