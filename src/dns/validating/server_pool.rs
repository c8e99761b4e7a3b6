//! The name servers below the validator.

use std::sync::Arc;

use hickory_resolver::proto::op::{Message, Query};
use hickory_resolver::proto::rr::{Name, RecordType};
use rustls::ClientConfig;

use super::super::FailureReason;
use super::super::links::Question;
use super::super::query::Purpose;
use super::super::server::NameServer;
use super::super::servers::Servers;
use super::super::setup::ResolverSettings;
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

/// Asks the configured servers. Clones share everything.
#[derive(Clone)]
pub(super) struct ServerPool {
    servers: Arc<Servers>,
}

impl ServerPool {
    /// Prepares to ask these servers; no question is sent yet.
    pub(super) fn new(servers: &[NameServer], settings: &ResolverSettings, tls: &Arc<ClientConfig>) -> Self {
        Self { servers: Arc::new(Servers::new(servers, settings, tls)) }
    }

    /// One question, one reply, not validated.
    ///
    /// # Errors
    /// There is none, or it is an error.
    pub(super) async fn ask(&self, asked: &Queried) -> Result<Message, FailureReason> {
        let read = |octets: &[u8]| {
            let message = convert::message(octets)?;
            convert::rcode(&message)?;
            Ok(message)
        };
        self.servers.ask(&asked.question, Purpose::Validate, read).await
    }
}
