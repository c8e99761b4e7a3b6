//! The seam between what is common to all lookups ([`stub`](super::stub)) and on whose word an answer is secure: one
//! question about one name, answered with the security of that answer alone.

use std::sync::Arc;

use rustls::ClientConfig;

use super::budget::Budget;
use super::cache::Lasting;
use super::exchange::Line;
use super::hops::{Hop, Question};
use super::server::{Mode, Server};
use super::setup::{Settings, SetupError};
use super::trust_ad::TrustAd;
use super::validating::{Anchors, Validating};
use super::{FailureReason, Security};

/// One way of answering, by one set of servers.
pub(super) enum Backend {
    Validating(Box<Validating>),
    TrustAd(TrustAd),
}

impl Backend {
    /// What is true of one name, and for how long. `budget` is what its lookup may still cost.
    ///
    /// # Errors
    /// Nothing that may be relied on is known.
    pub(super) async fn hop(
        &self,
        question: &Question,
        budget: &mut Budget,
    ) -> Result<Lasting<Hop<Security>>, FailureReason> {
        match self {
            Self::Validating(validating) => validating.hop(question, budget).await,
            // On the heap: with TCP and TLS in it, it is many times as large as the other.
            Self::TrustAd(trust_ad) => Box::pin(trust_ad.hop(question)).await,
        }
    }
}

/// Where backends are made: one for the servers in use, and one for each server under test.
pub(super) struct Workshop {
    pub(super) settings: Settings,
    tls: Arc<ClientConfig>,
    anchors: Anchors,
}

impl Workshop {
    /// Reads what the settings name.
    ///
    /// # Errors
    /// What an operator has to change.
    pub(super) fn new(settings: Settings) -> Result<Self, SetupError> {
        let anchors = Anchors::read(settings.trust_anchor.as_deref())?;
        Ok(Self { tls: settings.tls_client()?, anchors, settings })
    }

    /// A backend that asks these servers. Must be called inside of a tokio runtime.
    pub(super) fn backend(&self, servers: &[Server]) -> Backend {
        match self.settings.mode {
            Mode::Validate => {
                Backend::Validating(Box::new(Validating::new(servers, &self.settings, (&self.anchors, &self.tls))))
            }
            Mode::TrustAd => Backend::TrustAd(TrustAd::new(servers, &self.settings, &self.tls)),
        }
    }

    /// A line to one server, for what is not a lookup.
    pub(super) fn line(&self, server: &Server) -> Line {
        Line::new(server.clone(), self.settings.timeout, Arc::clone(&self.tls))
    }
}
