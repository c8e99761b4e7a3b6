//! The servers of one zone, as a question goes to one and another of them ([`race`](crate::dns::race::race)).

use std::net::IpAddr;
use std::time::Duration;

use super::super::FailureReason;
use super::super::canonical::CanonicalName;
use super::super::race::RacedServers;
use super::lanes::HeldPlace;
use super::servers::{AuthoritativeServers, Effort};

/// Some servers of a zone, in the order in which they are asked.
pub(super) struct ZoneServers<'a> {
    servers: &'a AuthoritativeServers,
    zone: &'a CanonicalName,
    addresses: Vec<IpAddr>,
    effort: &'a Effort,
    /// Those from which no reply came.
    pub(super) silent: Vec<IpAddr>,
}

impl<'a> ZoneServers<'a> {
    pub(super) fn new(
        servers: &'a AuthoritativeServers,
        zone: &'a CanonicalName,
        addresses: Vec<IpAddr>,
        effort: &'a Effort,
    ) -> Self {
        Self { servers, zone, addresses, effort, silent: Vec::new() }
    }
}

impl<'a> RacedServers for ZoneServers<'a> {
    type Place = ServerPlace<'a>;

    async fn enter(&mut self, server: usize) -> Result<ServerPlace<'a>, FailureReason> {
        let address = *self.addresses.get(server).ok_or(FailureReason::Timeout)?;
        if !self.effort.questions.spend() {
            return Err(FailureReason::Network(format!("the way to zone {} takes too many questions", self.zone)));
        }
        let place = self.servers.lanes.enter(self.zone, address, &self.servers.places).await?;
        Ok(ServerPlace { address, place })
    }

    fn enter_beside(&mut self, server: usize) -> Option<ServerPlace<'a>> {
        let address = *self.addresses.get(server)?;
        let place = self.servers.lanes.enter_beside(self.zone, address, &self.servers.places)?;
        self.effort.questions.spend().then_some(ServerPlace { address, place })
    }

    fn wait(&self, server: usize, _: u32) -> Duration {
        // Each server has a question once, and so no wait is doubled.
        let address = self.addresses.get(server);
        address.map_or(Duration::ZERO, |address| self.servers.places.wait_alone(*address))
    }

    fn answered(&mut self, _: usize, _: Duration) {
        // The exchange has taken note of it.
    }

    fn missed(&mut self, server: usize, after: Duration) {
        if let Some(address) = self.addresses.get(server) {
            self.servers.places.missed(*address, after);
        }
    }

    fn failed(&mut self, server: usize, reason: &FailureReason) {
        if let Some(address) = self.addresses.get(server).filter(|_| *reason == FailureReason::Timeout) {
            self.silent.push(*address);
        }
    }
}

/// The address of a server, and the place that a question to it holds.
pub(super) struct ServerPlace<'a> {
    pub(super) address: IpAddr,
    pub(super) place: HeldPlace<'a>,
}
