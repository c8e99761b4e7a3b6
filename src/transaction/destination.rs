//! A destination: recipients of one domain that share a connection, and how far their delivery has come.

use crate::name::Name;
use crate::smtp::reply::Reply;
use crate::store::key::RecordId;

/// A destination of one transaction. Only the transaction makes ids, and it never removes a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DestinationId(usize);

/// Recipients of one domain that share a connection.
///
/// A recipient that has a message already must not get it again with those that do not have it. Whether the client is
/// sending such a message shows at the end of the data only. So recipients of a fan-out transaction share a connection if
/// they have a final outcome in the same records of the [journal](crate::journal): for each message, all of them have an
/// outcome or none has.
#[derive(Debug)]
pub struct Destination {
    /// Its id.
    pub id: DestinationId,
    /// The domain that its recipients are routed by.
    pub domain: Name,
    /// The records in which its recipients have a final outcome; nearly always none.
    pub records: Vec<RecordId>,
    /// How far the delivery has come.
    pub state: DestinationState,
}

/// How far the delivery to a destination has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DestinationState {
    /// No remote has the transaction: none was looked for, or the one that was found has no recipient left.
    Unresolved,
    /// A remote has taken MAIL.
    Open,
    /// The remote takes the message.
    Sending,
    /// Its remote was left without a message.
    Released,
    /// No remote takes the message. Recipients get this reply to RCPT, and those that were accepted before get it in the
    /// place of the reply to the message.
    Failed(Reply),
    /// The remote has taken the message with this reply.
    Done(Reply),
}

impl Destination {
    /// The reply to its recipients, once it is known.
    pub fn reply(&self) -> Option<&Reply> {
        match &self.state {
            DestinationState::Failed(reply) | DestinationState::Done(reply) => Some(reply),
            DestinationState::Unresolved
            | DestinationState::Open
            | DestinationState::Sending
            | DestinationState::Released => None,
        }
    }

    pub(super) fn has_failed(&self) -> bool {
        matches!(self.state, DestinationState::Failed(_))
    }
}

/// All destinations of a transaction, in the order in which the client has named them.
#[derive(Debug, Default)]
pub(super) struct Destinations(Vec<Destination>);

impl Destinations {
    pub(super) fn add(&mut self, domain: Name, records: Vec<RecordId>) -> DestinationId {
        let id = DestinationId(self.0.len());
        self.0.push(Destination { id, domain, records, state: DestinationState::Unresolved });
        id
    }

    /// The destination of an id. [`Destinations::add`] has made the id, and no destination is ever removed.
    pub(super) fn get(&self, id: DestinationId) -> &Destination {
        &self.0[id.0]
    }

    pub(super) fn get_mut(&mut self, id: DestinationId) -> &mut Destination {
        &mut self.0[id.0]
    }

    pub(super) fn all(&self) -> &[Destination] {
        &self.0
    }
}
