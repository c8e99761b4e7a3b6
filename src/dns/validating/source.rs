//! Where the replies to validate come from: resolvers, or the authoritative servers themselves.

use std::net::IpAddr;
use std::sync::Arc;

use hickory_resolver::proto::op::{Message, Query};
use hickory_resolver::proto::rr::{Name, RecordType};

use super::super::FailureReason;
use super::super::budget::Questions;
use super::super::links::Question;
use super::super::query::Purpose;
use super::super::recursion::Recursion;
use super::super::servers::{ReadReply, Servers};
use super::convert::{self, library_name};

/// A question with its name in the library's form, which is made once for all steps of an answer.
#[derive(Clone)]
pub(super) struct Queried {
    pub(super) question: Question,
    query: Query,
}

impl Queried {
    /// # Errors
    /// The library cannot hold the name.
    pub(super) fn new(question: Question) -> Result<Self, FailureReason> {
        let query = Query::query(library_name(&question.name)?, RecordType::from(question.rtype.0));
        Ok(Self { question, query })
    }

    /// The name in the library's form.
    pub(super) fn name(&self) -> &Name {
        &self.query.name
    }

    /// The type in the library's form.
    pub(super) fn rtype(&self) -> RecordType {
        self.query.query_type
    }
}

/// The servers that are asked. Clones share everything.
#[derive(Clone)]
pub(in super::super) enum ReplySource {
    /// Recursive resolvers.
    Resolvers(Arc<Servers>),
    /// The servers of the root and those below it.
    Recursion(Recursion),
}

/// A reply that is not validated.
pub(super) struct ReceivedReply {
    pub(super) message: Message,
    pub(super) from: Replier,
}

/// The server that sent a reply.
#[derive(Debug, Clone, Copy)]
pub(super) enum Replier {
    /// The resolver at this place of the list.
    Resolver(usize),
    /// An authoritative server.
    Authority(IpAddr),
}

impl ReplySource {
    /// One question, one reply, not validated.
    ///
    /// # Errors
    /// There is none, or it is an error.
    pub(super) async fn ask(&self, asked: &Queried, left: &Questions) -> Result<ReceivedReply, FailureReason> {
        match self {
            Self::Resolvers(servers) => {
                let ReadReply { value, place } = servers.ask(&asked.question, Purpose::Validate, read).await?;
                Ok(ReceivedReply { message: value, from: Replier::Resolver(place) })
            }
            // On the heap: the way down is many times as large as a question to resolvers.
            Self::Recursion(recursion) => {
                let reply = Box::pin(recursion.ask(&asked.question, left)).await?;
                Ok(ReceivedReply { message: read(&reply.octets)?, from: Replier::Authority(reply.server) })
            }
        }
    }

    /// The reply to a question. Nothing of it is to be validated.
    ///
    /// # Errors
    /// There is none, or it is an error.
    pub(super) async fn ask_unvalidated(
        &self,
        asked: &Queried,
        purpose: Purpose,
        left: &Questions,
    ) -> Result<Message, FailureReason> {
        match self {
            Self::Resolvers(servers) => Ok(servers.ask(&asked.question, purpose, read).await?.value),
            Self::Recursion(_) => Ok(self.ask(asked, left).await?.message),
        }
    }

    /// The reply of another server than this one: this one's reply is no proof. None if there is none.
    pub(super) async fn ask_another(&self, asked: &Queried, from: Replier, left: &Questions) -> Option<Message> {
        match (self, from) {
            (Self::Recursion(recursion), Replier::Authority(server)) => {
                let reply = Box::pin(recursion.ask_another(&asked.question, server, left)).await.ok()?;
                read(&reply.octets).ok()
            }
            (Self::Resolvers(servers), Replier::Resolver(place)) => {
                servers.ask_another(&asked.question, place, read).await.ok()
            }
            (Self::Recursion(_), Replier::Resolver(_)) | (Self::Resolvers(_), Replier::Authority(_)) => None,
        }
    }
}

fn read(octets: &[u8]) -> Result<Message, FailureReason> {
    let message = convert::message(octets)?;
    convert::rcode(&message)?;
    Ok(message)
}
