//! The exchange that is tried now.

use std::collections::VecDeque;
use std::net::IpAddr;

use tokio::time::Instant;

use super::super::host_status::HostStatus;
use super::super::{Choice, Plan, order, original_destination};
use super::MxIteration;
use super::reported::Published;
use crate::dns::{Failure, Finality, Resolver};
use crate::mx::Route;
use crate::name::Name;
use crate::policy::TlsPolicy;
use crate::refusal::{FailedPart, HostEndpoint, Peer, Reason, Refusal};

/// One exchange: its addresses, and the policy that a session with it must meet.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) exchange: Name,
    /// The port, if a rule names one.
    pub(super) port: Option<u16>,
    /// The addresses that were not tried yet, in order.
    pub(super) addresses: VecDeque<IpAddr>,
    /// Whether the answers that gave them are the last word on mail.
    pub(super) finality: Finality,
    pub(super) policy: TlsPolicy,
    pub(super) sessions: Sessions,
    /// The address that it was reached at, if that session had served other mail before.
    pub(super) reused: Option<IpAddr>,
    /// The lookup that failed, which may hide further addresses.
    pub(super) unknown: Option<Failure>,
    /// The number of addresses beyond those that are tried.
    pub(super) beyond: usize,
}

/// The sessions that may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sessions {
    /// One that waits, or a new one.
    Any,
    /// A new one.
    New,
}

/// The addresses of an exchange by their status, each list in order.
#[derive(Debug, Default)]
struct AddressesByStatus {
    good: VecDeque<IpAddr>,
    failed: VecDeque<IpAddr>,
    unresponsive: Vec<(IpAddr, Reason)>,
}

impl Candidate {
    pub(super) fn peer(&self, address: IpAddr) -> Peer {
        Peer { exchange: self.exchange.clone(), address, port: self.port }
    }

    /// The reasons for which it may have addresses that are never dialled.
    pub(super) fn not_dialled(&self) -> impl Iterator<Item = Refusal> {
        let beyond = (self.beyond > 0).then_some(Reason::NotAsked(self.beyond));
        let reasons = self.unknown.clone().map(Reason::from).into_iter().chain(beyond);
        reasons.map(|reason| Refusal::host(&self.exchange, reason))
    }
}

impl<R: Resolver> MxIteration<'_, R> {
    /// The next exchange to try, with at least one address that was not tried.
    pub(super) async fn candidate(&mut self, route: &Route) -> Option<Candidate> {
        if let Some(candidate) = self.candidate.take().filter(|candidate| !candidate.addresses.is_empty()) {
            return Some(candidate);
        }
        while let Some(exchange) = self.untried.pop_front() {
            let until = self.until(1 + self.untried.len() + self.last.len());
            if until <= Instant::now() {
                self.untried.clear();
                self.last.clear();
                self.refuse(Refusal::host(&exchange, Reason::OutOfTime));
                return None;
            }
            let choice = Choice { route, exchange: &exchange, inquiry: &self.sts };
            let plan = self.connector.plan(choice, &self.request);
            match tokio::time::timeout_at(until, plan).await {
                Ok(Ok(plan)) => {
                    if let Some(candidate) = self.by_status(exchange, plan) {
                        return Some(candidate);
                    }
                }
                Ok(Err(reason)) => {
                    let refusal = Refusal::host(&exchange, reason);
                    self.report_untried(&refusal);
                    self.refuse(refusal);
                }
                Err(_) => drop(self.refuse(Refusal::host(&exchange, Reason::OutOfTime))),
            }
        }
        self.last.pop_front()
    }

    /// Puts the addresses that failed a moment ago behind the others (RFC 5321 §4.5.4.1), so that they are the ones beyond the
    /// number that is tried, and the exchange behind the others if all its addresses failed.
    fn by_status(&mut self, exchange: Name, plan: Plan) -> Option<Candidate> {
        let (port, all) = (self.request.port(), self.by_preference(&plan));
        let AddressesByStatus { good, mut failed, mut unresponsive } = self.statuses(&all, &plan.policy);
        let Plan { finality, policy, nat64, unknown, published, trial, .. } = plan;
        self.published.extend(published.map(|tlsa| Published { exchange: exchange.clone(), tlsa }));
        self.sts.note(&exchange, trial);
        self.nat64 = nat64;
        let (any_good, most, mut addresses) = (!good.is_empty(), self.connector.max_addresses, good);
        addresses.append(&mut failed);
        addresses.truncate(most);
        unresponsive.truncate(most - addresses.len());
        let beyond = all.len() - addresses.len() - unresponsive.len();
        let (sessions, reused) = (Sessions::Any, None);
        let candidate = Candidate { exchange, port, addresses, finality, policy, sessions, reused, unknown, beyond };
        for (address, reason) in unresponsive {
            self.refusals.push(Refusal::peer(&candidate.peer(address), reason).under(&candidate.policy));
        }
        match (any_good, candidate.addresses.is_empty()) {
            (true, _) => return Some(candidate),
            (false, false) => self.last.push_back(candidate),
            (false, true) => {}
        }
        None
    }

    /// An address that did not answer a moment ago is not tried again: in a storm of retries each mail would wait for it
    ///
    fn statuses(&self, addresses: &[IpAddr], policy: &TlsPolicy) -> AddressesByStatus {
        let mut by_status = AddressesByStatus::default();
        for &address in addresses {
            match self.connector.host_status.status(HostEndpoint { address, port: self.request.port() }) {
                HostStatus::Good => by_status.good.push_back(address),
                HostStatus::Failed => by_status.failed.push_back(address),
                // It may be had without TLS.
                HostStatus::Unresponsive(Reason::JustFailed { part: FailedPart::Tls, .. })
                    if policy.is_lowered_by_the_mail() =>
                {
                    by_status.failed.push_back(address);
                }
                HostStatus::Unresponsive(reason) => by_status.unresponsive.push((address, reason)),
            }
        }
        by_status
    }

    /// The addresses of an exchange, the better ones first: the original destination, then those with a session that waits, then
    /// the others in the order of the DNS, or in random order if there are more than are tried.
    fn by_preference(&self, plan: &Plan) -> Vec<IpAddr> {
        let mut addresses = plan.addresses.clone();
        if !plan.beyond.is_empty() {
            addresses =
                order::shuffled(addresses.into_iter().chain(plan.beyond.iter().copied()).collect(), fastrand::u64(..));
        }
        // Each address is looked up once: sessions come and go meanwhile.
        addresses.sort_by_cached_key(|&address| !self.connector.dialer.pool.has(address));
        original_destination::first(addresses, self.request.original_destination)
    }
}
