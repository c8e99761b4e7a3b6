//! The events of an iteration for TLS reports (RFC 8460 §4.3).
//!
//! A handshake is told once for each policy, also where its session serves more mails later. Where a waiver starts again, only
//! the enforced pass is told.

use std::net::IpAddr;

use super::super::verified::Ready;
use super::{MxIteration, WaiverState};
use crate::dns::Resolver;
use crate::name::Name;
use crate::policy::TlsPolicy;
use crate::refusal::{Peer, Reason, Refusal};
use crate::tlsrpt::event::{self, PublishedTlsa, ReportedSts, Reporting};
use crate::tlsrpt::tried::TriedSession;

/// The TLSA records of an exchange.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) exchange: Name,
    pub(super) tlsa: PublishedTlsa,
}

/// A new connection, before its session.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dialled<'a> {
    pub(super) peer: &'a Peer,
    pub(super) policy: &'a TlsPolicy,
    /// The address that it was dialled from.
    pub(super) sending: Option<IpAddr>,
}

impl<R: Resolver> MxIteration<'_, R> {
    /// Whether this pass is told.
    pub(super) fn reporting(&self) -> Reporting {
        match self.waiver_state {
            WaiverState::None | WaiverState::Open(_) => self.request.reporting,
            WaiverState::Used(_) => Reporting::Off,
        }
    }

    /// Tells the end of a handshake.
    pub(super) fn report_session(&self, dialled: Dialled<'_>, end: Result<&Ready, &Reason>) {
        if !self.reporting().is_on() {
            return;
        }
        let Dialled { peer, policy, sending } = dialled;
        // The last one, if the exchange was tried twice.
        let of_peer = self.published.iter().rfind(|published| published.exchange == peer.exchange);
        let published = of_peer.map(|published| &published.tlsa);
        let protection = end.ok().and_then(|ready| ready.terms().channel.protection());
        let trial = self.sts.fault(&peer.exchange, protection);
        let sts = self.reported_sts().filter(|_| self.sts.is_evaluated(&peer.exchange));
        let recipient = self.request.domain;
        let session = TriedSession { recipient, policy, published, peer, sending, sts: sts.as_ref(), trial };
        session.events(end.err()).for_each(|event| self.request.trace.report(event));
    }

    /// Tells that a host, or the domain, could not be tried: once, also where exchanges are tried again by a newer policy.
    pub(super) fn report_untried(&mut self, refusal: &Refusal) {
        let reporting = self.reporting();
        if !reporting.is_on() {
            return;
        }
        let event = event::untried(self.request.domain, refusal, reporting, self.reported_sts().as_ref());
        if let Some(event) = event.filter(|event| !self.untried_told.contains(&event.result)) {
            self.untried_told.push(event.result.clone());
            self.request.trace.report(event);
        }
    }

    fn reported_sts(&self) -> Option<ReportedSts> {
        self.sts.known()?.reported(self.request.domain)
    }
}
