//! Where the replies to validate come from: resolvers, or the authoritative servers themselves.

use std::net::IpAddr;
use std::sync::Arc;

use hickory_resolver::proto::op::{Message, Query};
use hickory_resolver::proto::rr::{Name, RecordType};

use super::super::FailureReason;
use super::super::links::Question;
use super::super::query::Purpose;
use super::super::recursion::Recursion;
use super::super::servers::Servers;
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
    /// The authoritative server that sent it, if it was one.
    pub(super) server: Option<IpAddr>,
}

impl ReplySource {
    /// One question, one reply, not validated.
    ///
    /// # Errors
    /// There is none, or it is an error.
    pub(super) async fn ask(&self, asked: &Queried) -> Result<ReceivedReply, FailureReason> {
        self.ask_for(asked, Purpose::Validate).await
    }

    /// The same with the flags of another purpose.
    pub(super) async fn ask_for(&self, asked: &Queried, purpose: Purpose) -> Result<ReceivedReply, FailureReason> {
        match self {
            Self::Resolvers(servers) => {
                let message = servers.ask(&asked.question, purpose, read).await?;
                Ok(ReceivedReply { message, server: None })
            }
            // On the heap: the way down is many times as large as a question to resolvers.
            Self::Recursion(recursion) => {
                let reply = Box::pin(recursion.ask(&asked.question)).await?;
                Ok(ReceivedReply { message: read(&reply.octets)?, server: Some(reply.server) })
            }
        }
    }

    /// The reply of another server of the same zone than this one, whose reply is no proof. None if there is none:
    /// a resolver chooses the server itself.
    pub(super) async fn ask_another(&self, asked: &Queried, server: Option<IpAddr>) -> Option<Message> {
        match (self, server) {
            (Self::Recursion(recursion), Some(server)) => {
                let reply = Box::pin(recursion.ask_another(&asked.question, server)).await.ok()?;
                read(&reply.octets).ok()
            }
            (Self::Recursion(_), None) | (Self::Resolvers(_), _) => None,
        }
    }
}

fn read(octets: &[u8]) -> Result<Message, FailureReason> {
    let message = convert::message(octets)?;
    convert::rcode(&message)?;
    Ok(message)
}
