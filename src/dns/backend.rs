//! The two ways to decide whether an answer is secure, behind one interface for [`stub`](super::stub): one question
//! about one name, answered with the security of that answer alone.

use std::sync::Arc;

use rustls::ClientConfig;

use super::budget::{LookupBudget, Questions};
use super::cache::WithTtl;
use super::fitness::Fitness;
use super::links::{Link, Question};
use super::query::{Purpose, QueryClient};
use super::recursion::Recursion;
use super::server::{NameServer, ResolverMode, Transport};
use super::servers::Servers;
use super::setup::{ResolverSettings, ResolverSetupError};
use super::trust_ad::TrustAd;
use super::validating::source::ReplySource;
use super::validating::{Anchors, Validating};
use super::{FailureReason, Security};

/// One way of answering, by one set of servers.
pub(super) enum Backend {
    Validating(Box<Validating>),
    TrustAd(Box<TrustAd>),
}

impl Backend {
    /// Answers one question about one name, with the time for which the answer holds. `budget` limits the cost of the
    /// rest of the lookup.
    ///
    /// # Errors
    /// There is no answer that may be relied on.
    pub(super) async fn link(
        &self,
        question: &Question,
        budget: &mut LookupBudget,
    ) -> Result<WithTtl<Link<Security>>, FailureReason> {
        match self {
            Self::Validating(validating) => validating.link(question, budget).await,
            // On the heap: with TCP and TLS in it, it is many times as large as the other.
            Self::TrustAd(trust_ad) => Box::pin(trust_ad.link(question)).await,
        }
    }

    /// Answers one question without validation: the answer is taken as it is, and is insecure.
    ///
    /// # Errors
    /// There is no answer, or it does not fit the question.
    pub(super) async fn unvalidated(
        &self,
        question: &Question,
        purpose: Purpose,
        budget: &LookupBudget,
    ) -> Result<WithTtl<Link<Security>>, FailureReason> {
        match self {
            Self::Validating(validating) => validating.unvalidated(question, purpose, &budget.questions).await,
            Self::TrustAd(trust_ad) => Box::pin(trust_ad.unvalidated(question, purpose)).await,
        }
    }
}

/// Where backends are made: one for the servers in use, and one for each server under test.
pub(super) struct BackendFactory {
    pub(super) settings: ResolverSettings,
    tls: Arc<ClientConfig>,
    anchors: Anchors,
    /// One for all backends: the way to a zone is the same for each.
    recursion: Recursion,
}

impl BackendFactory {
    /// Reads the files that the settings name.
    ///
    /// # Errors
    /// A setting that the operator has to change.
    pub(super) fn new(settings: ResolverSettings) -> Result<Self, ResolverSetupError> {
        let anchors = Anchors::read(settings.trust_anchor.as_deref())?;
        let tls = settings.tls_client()?;
        let recursion = Recursion::new(settings.hints()?, &settings, Arc::clone(&tls));
        Ok(Self { tls, anchors, recursion, settings })
    }

    /// A backend that asks these servers and reports doubts about them. Must be called inside of a tokio runtime.
    pub(super) fn backend(&self, servers: &[NameServer], fitness: &Arc<Fitness>) -> Backend {
        let validating = |source| {
            let failures = self.settings.memory.failures;
            Backend::Validating(Box::new(Validating::new(source, self.anchors.clone(), failures)))
        };
        if let [server] = servers
            && server.transport == Transport::Recursion
        {
            return validating(ReplySource::Recursion(self.recursion.clone()));
        }
        let resolvers = Servers::new(servers, &self.settings, &self.tls);
        match self.settings.mode {
            ResolverMode::Validate => validating(ReplySource::Resolvers(Arc::new(resolvers))),
            ResolverMode::TrustAd => Backend::TrustAd(Box::new(TrustAd::new(resolvers, fitness))),
        }
    }

    /// The bare reply of one server, for reports about it. No decision rests on it.
    ///
    /// # Errors
    /// There is none.
    pub(super) async fn ask(&self, server: &NameServer, question: &Question) -> Result<Vec<u8>, FailureReason> {
        let purpose = match self.settings.mode {
            ResolverMode::Validate => Purpose::Validate,
            ResolverMode::TrustAd => Purpose::TrustAd,
        };
        match server.transport {
            Transport::Recursion => {
                Box::pin(self.recursion.ask(question, &Questions::of_lookup())).await.map(|reply| reply.octets)
            }
            Transport::Plain | Transport::Tls(_) => self.client(server).ask(question, purpose).await,
        }
    }

    /// Asks over TCP, without a try over UDP: a server, or one of the root.
    ///
    /// # Errors
    /// There is no reply.
    pub(super) async fn ask_over_tcp(&self, server: &NameServer, question: &Question) -> Result<(), FailureReason> {
        match server.transport {
            Transport::Recursion => self.recursion.reach_root_over_tcp().await,
            Transport::Plain => self.client(server).ask_over_tcp(question).await.map(drop),
            // Every question goes over a connection already.
            Transport::Tls(_) => Ok(()),
        }
    }

    /// Whether a server has the servers that it needs before it is asked a question: a root server, if it is no resolver.
    ///
    /// # Errors
    /// No root server can be reached.
    pub(super) async fn reach(&self, server: &NameServer) -> Result<(), FailureReason> {
        match server.transport {
            Transport::Recursion => self.recursion.reach_root().await,
            Transport::Plain | Transport::Tls(_) => Ok(()),
        }
    }

    fn client(&self, server: &NameServer) -> QueryClient {
        QueryClient::new(server.clone(), self.settings.timeout, Arc::clone(&self.tls))
    }
}
