//! The forecast for a mail, from the check of its domain.

use std::net::IpAddr;

use super::checker::{DomainCheck, ExchangeCheck, SessionCheck};
use crate::dns::Security;
use crate::refusal::{Lacking, Peer, Place, Reason};
use crate::requiretls::{TagDemand, TagUnmet, TaggedRemote};
use crate::upstream::failover::{NextCandidate, rule, without_primary};
use crate::upstream::sts::StsInquiry;
use crate::upstream::timeouts::Timeouts;
use crate::upstream::verified::Channel;

/// The forecast for a message.
pub(crate) enum Forecast<'w> {
    /// It would go to this host and address; over this, if there was a session.
    Delivered(&'w ExchangeCheck, Option<(IpAddr, &'w Channel)>),
    /// It would be refused for these reasons.
    Refused,
}

impl DomainCheck {
    /// The forecast for a message now.
    pub(crate) fn forecast(&self) -> Forecast<'_> {
        let taken = self.exchanges.iter().find_map(|exchange| match exchange.taken() {
            Some((address, channel)) => Some(Forecast::Delivered(exchange, Some((address, channel)))),
            None => exchange.has_unasked.then_some(Forecast::Delivered(exchange, None)),
        });
        taken.unwrap_or(Forecast::Refused)
    }

    /// Everything that stands in the way, in the order mail would meet it; if the mail is refused, that is why.
    pub(crate) fn obstacles(&self) -> Vec<(Place, &Reason)> {
        let domain = self.route.as_ref().err().map(|refusal| (refusal.at.clone(), &refusal.reason));
        let beyond = self.beyond.iter().map(|reason| (Place::Domain, reason));
        domain.into_iter().chain(self.exchanges.iter().flat_map(ExchangeCheck::obstacles)).chain(beyond).collect()
    }

    /// That the mail is deferred because the exchanges before this host have no address.
    pub(super) fn without_primary(&self) -> Option<Reason> {
        match (self.forecast(), &self.route) {
            (Forecast::Refused, Ok(route)) => {
                let reasons: Vec<_> = self.obstacles().into_iter().map(|(_, reason)| reason).collect();
                without_primary(route, &reasons)
            }
            (Forecast::Refused, Err(_)) | (Forecast::Delivered(..), _) => None,
        }
    }

    /// The doubt about MX records of this security, if mail is refused by the word of the DNS alone.
    pub(super) fn doubt(&self, mx: Security, inquiry: &StsInquiry) -> Option<Reason> {
        match self.forecast() {
            Forecast::Delivered(..) => None,
            Forecast::Refused => {
                let reasons: Vec<_> = self.obstacles().into_iter().map(|(_, reason)| reason).collect();
                inquiry.doubt(mx, &reasons)
            }
        }
    }

    /// Whether the mail is refused for want of TLS or of a proof at some host, so that it goes on if that is waived.
    pub(crate) fn is_waived(&self) -> bool {
        let is_waived = |(_, reason): &(Place, &Reason)| reason.may_be_waived();
        matches!(self.forecast(), Forecast::Refused) && self.obstacles().iter().any(is_waived)
    }

    /// The reason that speaks for all, as in the reply to a client.
    pub(crate) fn main_obstacle(&self) -> Option<(Place, &Reason)> {
        self.obstacles().into_iter().rev().max_by_key(|(_, reason)| reason.weight())
    }
}

impl SessionCheck {
    /// The session, if mail of this demand goes over it.
    fn taken(&self, demand: TagDemand) -> Result<&Channel, &Reason> {
        let channel = self.outcome.as_ref()?;
        let offers = self.offers_require_tls.unwrap_or_default();
        match demand.at(TaggedRemote { is_verified: channel.is_verified(), offers }) {
            Ok(_) => Ok(channel),
            Err(TagUnmet::Missing) => Err(const { &Reason::Lacking(Lacking::RequireTls) }),
            Err(TagUnmet::Unauthenticated) => Err(const { &Reason::Lacking(Lacking::Authentication) }),
        }
    }
}

impl ExchangeCheck {
    /// Whether a delivery that comes to it tries no exchange behind it: it is this host, or this host has run out of a resource.
    pub(super) fn ends_the_list(&self, limits: &Timeouts) -> bool {
        let stops = |reason: &Reason| rule(reason, limits).next == NextCandidate::Stop;
        match &self.plan {
            Err(reason) => stops(reason),
            // A session that takes the mail comes before the failures behind it.
            Ok(_) => self.sessions.iter().map_while(|(_, session)| session.taken(self.demand).err()).any(stops),
        }
    }

    /// The first address at which a session met the policy and the mail's tag.
    fn taken(&self) -> Option<(IpAddr, &Channel)> {
        self.sessions.iter().find_map(|(address, session)| Some((*address, session.taken(self.demand).ok()?)))
    }

    /// The reasons against delivery at this exchange.
    pub(crate) fn obstacles(&self) -> Vec<(Place, &Reason)> {
        if let Err(reason) = &self.plan {
            return vec![(Place::Host(self.name.clone()), reason)];
        }
        let (exchange, port) = (&self.name, self.port);
        let peer = |address: &IpAddr| Place::Peer(Peer { exchange: exchange.clone(), address: *address, port });
        let failed =
            self.sessions.iter().filter_map(|(address, session)| Some((address, session.taken(self.demand).err()?)));
        failed.map(|(address, reason)| (peer(address), reason)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::check::recording::RecordedAnswers;
    use crate::config::{Config, DEFAULTS};
    use crate::dane::pkix::PkixWorth;
    use crate::dane::tlsa::NoDane;
    use crate::dns::{Failure, FailureReason, Finality, Rtype};
    use crate::mx::NoRoute;
    use crate::name::Name;
    use crate::policy::{Permit, TlsPolicy};
    use crate::scarce::Scarcity;
    use crate::upstream::Plan;
    use crate::upstream::sts::StsTrial;

    #[test]
    fn the_list_ends_where_a_delivery_stops() {
        let name = || Name::parse("example").unwrap();
        let config: Config = DEFAULTS.parse::<toml::Table>().unwrap().try_into().unwrap();
        let out_of = |rtype, scarcity| Failure { name: name(), rtype, reason: FailureReason::Scarce(scarcity) };
        for (reason, ends) in [
            (Reason::NoRoute(NoRoute::Loop(name(), name())), true),
            // By answers that are not final a loop is a failed lookup of MX records.
            (Finality::Provisional.failure(&name(), Rtype::MX).unwrap().into(), true),
            (Finality::Provisional.failure(&name(), Rtype::A).unwrap().into(), false),
            (out_of(Rtype::A, Scarcity::OwnDescriptors).into(), true),
            (out_of(Rtype::TLSA, Scarcity::Memory).into(), true),
            (Reason::StsLookup(out_of(Rtype::TXT, Scarcity::Descriptors)), true),
            (Reason::OutOfTime, false),
            (Reason::NoAddress, false),
        ] {
            let exchange = exchange(Err(reason), Vec::new());
            assert_eq!(exchange.ends_the_list(&(&config).into()), ends, "{:?}", exchange.plan);
        }
        let out_of = || Err(Scarcity::OwnDescriptors.into());
        let refused = || Err(Reason::StartTlsMissing);
        let taken = || Ok(Channel::Cleartext(Permit::Observe { level: "dane" }));
        for (outcomes, ends) in [
            (vec![], false),
            (vec![refused(), refused()], false),
            (vec![out_of()], true),
            (vec![refused(), out_of()], true),
            (vec![taken(), out_of()], false),
        ] {
            let exchange = exchange(Ok(plan()), outcomes);
            assert_eq!(exchange.ends_the_list(&(&config).into()), ends, "{:?}", exchange.obstacles());
        }
    }

    fn exchange(plan: Result<Plan, Reason>, outcomes: Vec<Result<Channel, Reason>>) -> ExchangeCheck {
        let session = |outcome| {
            let (offers_require_tls, chain, worth, at) = (None, Vec::new(), PkixWorth::Invalid, 0);
            let session = SessionCheck { outcome, offers_require_tls, chain, worth, at };
            (IpAddr::from([192, 0, 2, 1]), Arc::new(session))
        };
        ExchangeCheck {
            name: Name::parse("example").unwrap(),
            port: None,
            recorded: RecordedAnswers::default(),
            plan,
            sessions: outcomes.into_iter().map(session).collect(),
            has_unasked: false,
            demand: TagDemand::None,
        }
    }

    fn plan() -> Plan {
        Plan {
            addresses: Vec::new(),
            beyond: Vec::new(),
            finality: Finality::Final,
            policy: TlsPolicy::Encrypt(Name::parse("example").unwrap(), NoDane::NoTlsa),
            nat64: None,
            unknown: None,
            published: None,
            trial: StsTrial::NotAsked,
        }
    }
}
