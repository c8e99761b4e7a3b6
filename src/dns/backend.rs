//! The two ways to decide whether an answer is secure, behind one interface for [`stub`](super::stub): one question
//! about one name, answered with the security of that answer alone.

use std::sync::Arc;

use rustls::ClientConfig;

use super::ad_bit::AdServer;
use super::budget::Budget;
use super::cache::WithTtl;
use super::fitness::Fitness;
use super::links::{Link, Question};
use super::query::{Purpose, QueryClient};
use super::server::{NameServer, ResolverMode};
use super::setup::{ResolverSettings, ResolverSetupError};
use super::trust_ad::TrustAd;
use super::validating::{Anchors, Validating};
use super::{FailureReason, Security};

/// One way of answering, by one set of servers.
pub(super) enum Backend {
    Validating(Box<Validating>),
    TrustAd(TrustAd),
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
        budget: &mut Budget,
    ) -> Result<WithTtl<Link<Security>>, FailureReason> {
        match self {
            Self::Validating(validating) => validating.link(question, budget).await,
            // On the heap: with TCP and TLS in it, it is many times as large as the other.
            Self::TrustAd(trust_ad) => Box::pin(trust_ad.link(question)).await,
        }
    }
}

/// Where backends are made: one for the servers in use, and one for each server under test.
pub(super) struct BackendFactory {
    pub(super) settings: ResolverSettings,
    tls: Arc<ClientConfig>,
    anchors: Anchors,
}

impl BackendFactory {
    /// Reads the files that the settings name.
    ///
    /// # Errors
    /// A setting that the operator has to change.
    pub(super) fn new(settings: ResolverSettings) -> Result<Self, ResolverSetupError> {
        let anchors = Anchors::read(settings.trust_anchor.as_deref())?;
        Ok(Self { tls: settings.tls_client()?, anchors, settings })
    }

    /// A backend that asks these servers and reports doubts about them. Must be called inside of a tokio runtime.
    pub(super) fn backend(&self, servers: &[NameServer], fitness: &Arc<Fitness>) -> Backend {
        match self.settings.mode {
            ResolverMode::Validate => {
                Backend::Validating(Box::new(Validating::new(servers, &self.settings, &self.anchors, &self.tls)))
            }
            ResolverMode::TrustAd => {
                let server = |server| AdServer::new(self.client(server), Arc::clone(fitness));
                Backend::TrustAd(TrustAd::new(servers.iter().map(server).collect(), self.settings.attempts))
            }
        }
    }

    /// The use of replies in this mode.
    pub(super) fn purpose(&self) -> Purpose {
        match self.settings.mode {
            ResolverMode::Validate => Purpose::Validate,
            ResolverMode::TrustAd => Purpose::TrustAd,
        }
    }

    /// A client of one server, for queries outside of lookups.
    pub(super) fn client(&self, server: &NameServer) -> QueryClient {
        QueryClient::new(server.clone(), self.settings.timeout, Arc::clone(&self.tls))
    }
}
