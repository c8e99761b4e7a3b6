//! The forecast for mail that asks for REQUIRETLS (RFC 8689): the same check at the level of such mail, with the keyword.

use serde::Serialize;

use super::checker::{Connections, DomainCheck, ExchangeCheck};
use super::report::RefusalReport;
use crate::refusal::{Lacking, Peer, Place, Reason};
use crate::requiretls::{TagDemand, TagUnmet, TaggedRemote};

/// The outcome for such mail.
#[derive(Debug, Serialize)]
pub(super) struct RequireTlsReport {
    /// `delivered`, `deferred` or `rejected`.
    pub(super) verdict: &'static str,
    /// The host that it would go to.
    pub(super) exchange: Option<String>,
    /// Why it would be refused.
    pub(super) refusal: Option<RefusalReport>,
}

impl RequireTlsReport {
    /// By a check for mail of this demand; none without connections, since the keyword is told under TLS alone.
    pub(super) fn of(check: &DomainCheck, demand: TagDemand) -> Option<Self> {
        if check.connections == Connections::None {
            return None;
        }
        let mut obstacles = check.obstacles();
        for exchange in &check.exchanges {
            match at(exchange, demand) {
                Ok(()) => {
                    let exchange = Some(exchange.name.to_string());
                    return Some(Self { verdict: "delivered", exchange, refusal: None });
                }
                Err(more) => obstacles.extend(more),
            }
        }
        let (place, main) = obstacles.iter().rev().max_by_key(|(_, reason)| reason.weight())?;
        let verdict = if main.view().code.is_permanent() { "rejected" } else { "deferred" };
        Some(Self { verdict, exchange: None, refusal: Some(RefusalReport::of(place, main)) })
    }

    /// For people.
    pub(super) fn line(&self) -> String {
        const MAIL: &str = "mail with REQUIRETLS";
        match (&self.exchange, &self.refusal) {
            (Some(exchange), _) => format!("{MAIL}: would go to {exchange}"),
            (None, Some(no)) if self.verdict == "rejected" => {
                format!("{MAIL}: would be refused, {} ({}: {})", no.code, no.reason, no.text)
            }
            (None, Some(no)) => format!("{MAIL}: would be deferred, {} ({}: {})", no.code, no.reason, no.text),
            (None, None) => format!("{MAIL}: {}", self.verdict),
        }
    }
}

/// Whether an exchange takes such mail; without that, the reason of each session that may not.
fn at(exchange: &ExchangeCheck, demand: TagDemand) -> Result<(), Vec<(Place, &'static Reason)>> {
    let mut unmet = Vec::new();
    for (address, session) in &exchange.sessions {
        let Ok(channel) = &session.outcome else { continue };
        let offers = session.offers_require_tls.unwrap_or_default();
        let reason = match demand.at(TaggedRemote { is_verified: channel.is_verified(), offers }) {
            Ok(_) => return Ok(()),
            Err(TagUnmet::Missing) => const { &Reason::Lacking(Lacking::RequireTls) },
            Err(TagUnmet::Unauthenticated) => const { &Reason::Lacking(Lacking::Authentication) },
        };
        let peer = Peer { exchange: exchange.name.clone(), address: *address, port: exchange.port };
        unmet.push((Place::Peer(peer), reason));
    }
    Err(unmet)
}
