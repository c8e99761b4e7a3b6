//! One mail transaction with a client, from MAIL to the last reply (RFC 5321 §3.3, RFC 2033 §4).
//!
//! Everything here turns values into values: no socket, no clock, no task. A session reads commands and remotes' replies
//! and carries out the decisions.
//!
//! 1. [`dialogue`] decides which command is legal. MAIL makes a [`Transaction`].
//! 2. RCPT adds a [`Recipient`] and, for a new domain, a [`Destination`]. Recipients that the client has pipelined are
//!    asked for together ([`Transaction::turns`]). The replies of all remotes come back as [`Event`]s, and go to the
//!    client in the order of its commands (RFC 2920 §3.2).
//! 3. At DATA or BDAT each destination that has an accepted recipient is sent the message, unless a reply to the client is
//!    due without it ([`Transaction::reply_to_data`]).
//! 4. [`Event::Read`] says that the whole message was read. In a fan-out transaction the record of the message is asked
//!    first: a recipient that has a final outcome in it gets no second copy.
//! 5. Each destination's final reply is the outcome of its recipients ([`Event::Finished`]), and the client gets one reply
//!    for all recipients ([`reply::conclude`]) or one for each.
//!
//! The kinds of transaction differ in these points only ([`Replies`]):
//!
//! | | destinations | a remote's no to RCPT | replies to the message |
//! |---|---|---|---|
//! | SMTP | one | is the reply to RCPT | one (RFC 5321 §4.1.1.4) |
//! | fan-out | several | is held back until the end of the data | one |
//! | LMTP | several | is the reply to RCPT | one for each recipient (RFC 2033 §4.2) |
//! | PRDR | several | is the reply to RCPT | 353, one for each recipient, and one for all (draft-hall-prdr) |

pub mod chunks;
pub mod destination;
pub mod dialogue;
mod naming;
mod owed;
pub mod recipient;
pub mod reply;
mod step;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::name::Name;
use crate::requiretls::{Tag, TagDemand};
use crate::smtp::address::Mailbox;
use crate::smtp::command::{Mail, Prdr};
use crate::smtp::reply::Reply;
use crate::store::key::Pair;
use EndReplies::{OneReply, ReplyForEach, ReplyForEachAndAll};
use Refused::{AtOnce, AtTheEnd};
use destination::{Destination, DestinationId, DestinationState, Destinations};
use dialogue::{Client, Service};
use naming::Admitted;
use owed::Owed;
use recipient::{Recipient, RecipientId, RecipientList, RecipientState};
use reply::{Disposition, before_data, worst};

pub use step::{Effect, Event, FinalReply, ReadMessage, RecordedOutcomes};

/// Everything since MAIL: the recipients, their destinations, and the replies that the client waits for.
#[derive(Debug)]
pub struct Transaction {
    /// The client and its MAIL.
    pub envelope: Arc<Envelope>,
    /// The replies that the client gets.
    pub replies: Replies,
    recipients: RecipientList,
    destinations: Destinations,
    /// Replies that the client waits for, in order.
    owed: Owed,
    /// The final outcomes by the record of the message; none for a message that has no record.
    recorded: Option<BTreeMap<Pair, Reply>>,
}

/// The client and its MAIL.
#[derive(Debug)]
pub struct Envelope {
    /// The client, as it introduced itself.
    pub client: Client,
    /// The sender and the parameters.
    pub mail: Mail,
    /// The tag of the mail, by its client or by its listener.
    pub tag: Option<Tag>,
}

impl Envelope {
    /// The sender and a recipient, as records know them. A client may name an address twice.
    pub fn pair(&self, mailbox: &Mailbox) -> Pair {
        Pair::new(&self.mail.reverse_path, mailbox)
    }

    /// The demand of its tag.
    pub fn demand(&self) -> TagDemand {
        TagDemand::of(self.tag, &self.mail.reverse_path)
    }
}

/// The replies that the client gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replies {
    /// One for all recipients, which are at one domain therefore (RFC 5321 §4.1.1.4).
    Once,
    /// One for recipients at any domains.
    FanOut,
    /// One for each accepted recipient (RFC 2033 §4.2).
    PerRecipient,
    /// One for each accepted recipient, between an announcement and a last reply (draft-hall-prdr).
    Prdr,
}

/// One batch of a destination: the RCPT commands that are sent to it together.
#[derive(Debug)]
pub struct Turn {
    /// The destination.
    pub destination: DestinationId,
    /// Its domain.
    pub domain: Name,
    /// The recipients to ask for, in the client's order.
    pub recipients: Vec<Addressee>,
}

/// A recipient in a [`Turn`].
#[derive(Debug, Clone)]
pub struct Addressee {
    /// Its id, for the answer.
    pub id: RecipientId,
    /// Its address.
    pub mailbox: Mailbox,
}

impl Replies {
    fn new(service: Service, prdr: Prdr) -> Self {
        match (service, prdr) {
            (Service::Lmtp, _) => Self::PerRecipient,
            (Service::Smtp | Service::FanOut, Prdr::Requested) => Self::Prdr,
            (Service::FanOut, Prdr::Absent) => Self::FanOut,
            (Service::Smtp, Prdr::Absent) => Self::Once,
        }
    }

    /// Whether a message of this kind may have a record: the replies to its recipients are held back until the end.
    fn has_records(self) -> bool {
        match self.row().refused {
            AtTheEnd => true,
            AtOnce => false,
        }
    }

    /// The row of this kind in the table at the head of this module.
    fn row(self) -> RepliesRow {
        match self {
            Self::Once => RepliesRow { domains: DomainLimit::One, refused: AtOnce, end: OneReply },
            Self::FanOut => RepliesRow { domains: DomainLimit::Several, refused: AtTheEnd, end: OneReply },
            Self::PerRecipient => RepliesRow { domains: DomainLimit::Several, refused: AtOnce, end: ReplyForEach },
            Self::Prdr => RepliesRow { domains: DomainLimit::Several, refused: AtOnce, end: ReplyForEachAndAll },
        }
    }
}

/// The differences between the kinds of transaction.
struct RepliesRow {
    domains: DomainLimit,
    refused: Refused,
    end: EndReplies,
}

/// The domains of the recipients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DomainLimit {
    One,
    Several,
}

/// The time at which the client hears that a remote has refused or deferred a RCPT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    AtOnce,
    AtTheEnd,
}

/// The replies to the end of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EndReplies {
    OneReply,
    ReplyForEach,
    /// 353 before them, and a reply for all behind them.
    ReplyForEachAndAll,
}

impl Transaction {
    fn new(envelope: Envelope, service: Service) -> Self {
        let replies = Replies::new(service, envelope.mail.prdr);
        let envelope = Arc::new(envelope);
        let (recipients, destinations) = (RecipientList::default(), Destinations::default());
        Self { envelope, replies, recipients, destinations, owed: Owed::default(), recorded: None }
    }

    /// The recipients whose RCPT was answered with 2xx, in the client's order.
    pub fn expected(&self) -> impl Iterator<Item = &Recipient> {
        self.recipients.all().iter().filter(|recipient| recipient.is_expected())
    }

    /// One destination.
    pub fn destination(&self, id: DestinationId) -> &Destination {
        self.destinations.get(id)
    }

    /// Whether a destination has a recipient that the message is to go to.
    pub fn has_accepted(&self, id: DestinationId) -> bool {
        self.recipients.all().iter().any(|recipient| recipient.destination == id && recipient.is_accepted())
    }

    /// The recipients that wait to be asked for, by destination. A destination with an empty batch is listed too, since its
    /// remote may still need DATA.
    pub fn turns(&self) -> Vec<Turn> {
        let mut named: BTreeMap<DestinationId, Vec<Addressee>> = BTreeMap::new();
        for recipient in self.recipients.all().iter().filter(|recipient| recipient.is_named()) {
            let addressee = Addressee { id: recipient.id, mailbox: recipient.mailbox.clone() };
            named.entry(recipient.destination).or_default().push(addressee);
        }
        let turn = |destination: &Destination| Turn {
            destination: destination.id,
            domain: destination.domain.clone(),
            recipients: named.remove(&destination.id).unwrap_or_default(),
        };
        self.destinations.all().iter().map(turn).collect()
    }

    /// The reply to DATA, if no message can change it.
    pub fn reply_to_data(&self) -> Option<Reply> {
        let known = |recipient: &Recipient| match &recipient.state {
            RecipientState::Held(reply) | RecipientState::Concluded(reply) => Some(reply.clone()),
            RecipientState::Accepted | RecipientState::Named | RecipientState::Rejected => {
                self.destinations.get(recipient.destination).reply().cloned()
            }
        };
        let known: Vec<Option<Reply>> = self.expected().map(known).collect();
        match self.replies.row().end {
            // A recipient that is refused now may have the message from an earlier attempt. Only fan-out has records.
            OneReply if self.expected().any(|recipient| !recipient.records.is_empty()) => None,
            OneReply => before_data(known.iter().map(Option::as_ref)),
            ReplyForEach | ReplyForEachAndAll => known.into_iter().collect::<Option<Vec<Reply>>>().and_then(worst),
        }
    }

    /// The reply to a chunk, if no message can change it. RFC 2033 §4.3: a client of LMTP expects
    /// one reply for each recipient at the last chunk, so that one early reply for all is impossible.
    pub fn reply_to_chunk(&self) -> Option<Reply> {
        match self.replies.row().end {
            ReplyForEach => None,
            OneReply | ReplyForEachAndAll => self.reply_to_data(),
        }
    }

    /// Whether the message may have a record: its recipients get one reply and may have several outcomes.
    pub fn may_have_record(&self) -> bool {
        self.replies.has_records() && self.expected().count() > 1
    }

    /// Whether a destination has still to answer the end of the data.
    pub fn is_undecided(&self) -> bool {
        self.destinations.all().iter().any(|destination| destination.state == DestinationState::Sending)
    }

    /// How many recipients have the message.
    pub fn delivered(&self) -> usize {
        let outcomes = self.recipients.all().iter().filter_map(Recipient::outcome);
        outcomes.filter(|outcome| Disposition::of(outcome) == Disposition::Delivered).count()
    }
}

#[cfg(test)]
mod invariants;
