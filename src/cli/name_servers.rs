//! The report of a command on the name servers that it asks: which of them fail the self-test, and why.

use super::log;
use crate::config::Config;
use crate::dns::selftest::{FALLEN_BACK, ServerState};
use crate::dns::setup::ResolverSettings;
use crate::dns::stub::Stub;

/// Tells that none of the configured or the system's servers can be used, and why.
pub(super) fn tell_that_there_is_none(config: &Config) {
    if let Some(why) = ResolverSettings::from(config).none_usable() {
        log::caution(&format!("no name server can be used: {why}; dns.fallback serves instead, if it can"));
    }
}

/// Where a lookup failed, the resolver may be at fault: tells so if it is, by the last self-test.
pub(super) fn tell_faults(dns: &Stub) {
    let health = dns.health().borrow().clone();
    if health.falls_back() {
        log::complain(&format!("a lookup failed; a running danelaw goes on without the name servers: {FALLEN_BACK}"));
    }
    for server in health.servers.iter().chain(&health.fallback) {
        let (name, no_tcp) = (&server.server, server.no_tcp.as_ref());
        match &server.state {
            ServerState::Failed(why) => {
                log::complain(&format!("a lookup failed, and the name server {name} fails the self-test: {why}"));
            }
            ServerState::Good | ServerState::Untested => no_tcp.into_iter().for_each(|why| {
                log::complain(&format!("a lookup failed, and the name server {name} does not answer over TCP: {why}"));
            }),
        }
    }
}
