//! What became of earlier messages from one sender to one recipient.

use std::collections::BTreeMap;

use super::key::Content;
use crate::smtp::reply::{Class, Reply};

/// What became of a message for one recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The remote has it.
    Delivered,
    /// The remote does not want it, ever.
    Refused,
    /// Nobody has it yet.
    Deferred,
}

/// Whether a message was sent before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// Nothing is remembered of it.
    First,
    /// For some recipient something is.
    Retry,
}

/// How a client takes it that one of several recipients is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Manners {
    /// It has not been seen to mind. Postfix, Exim, Sendmail, OpenSMTPD and Python's smtplib send to the others.
    #[default]
    Unproved,
    /// It has given the whole message up: nullmailer, msmtp and many libraries do.
    AllOrNothing,
}

/// What is remembered of one sender and one recipient: the messages whose outcome is still of use, and the client's
/// manners. Mostly nothing.
///
/// Which of these messages the client is about to send, if any, shows at the end of the data only. So two recipients
/// with the same past have the same outcome behind them whichever it will be, and may share a transaction upstream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Past {
    fates: BTreeMap<Content, Fate>,
    manners: Manners,
}

impl Fate {
    /// What the client's answer makes of it.
    pub fn of(reply: &Reply) -> Self {
        match reply.class() {
            Class::Success => Self::Delivered,
            Class::Permanent => Self::Refused,
            // 354 is never the end; whoever says it is asked again.
            Class::Intermediate | Class::Transient => Self::Deferred,
        }
    }

    /// Whether there is nothing left to try.
    pub fn is_final(self) -> bool {
        match self {
            Self::Delivered | Self::Refused => true,
            Self::Deferred => false,
        }
    }
}

impl Past {
    /// What became of these messages, for a client with these manners.
    pub fn new(fates: impl IntoIterator<Item = (Content, Fate)>, manners: Manners) -> Self {
        Self { fates: fates.into_iter().collect(), manners }
    }

    /// Whether the client may be about to send a message again.
    pub fn is_empty(&self) -> bool {
        self.fates.is_empty()
    }

    /// How the client has behaved.
    pub fn manners(&self) -> Manners {
        self.manners
    }

    /// Whether there is a message that has become one thing for the one recipient and another for the other.
    pub fn clashes_with(&self, other: &Self) -> bool {
        self.fates.iter().any(|(content, fate)| other.fates.get(content).is_some_and(|other| other != fate))
    }
}
