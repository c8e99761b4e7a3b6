//! The log lines about name servers: those that cannot be used, and each change that the self-test finds.

use super::super::selftest::{Health, ServerHealth, ServerState};
use super::super::setup::UsableServers;

/// Logs each server that is left out, or that there is none.
pub(super) fn warn_of(usable: &UsableServers) {
    for found in &usable.left_out {
        match usable.servers.is_empty() {
            true => tracing::error!(
                found,
                "there is no name server that can be used: dns.fallback serves until there is one, if it passes the self-test"
            ),
            false => tracing::warn!(found, "a name server cannot be used and is left out"),
        }
    }
}

/// Logs each change: of each server, and of all of them together.
pub(super) fn report(before: &Health, now: &Health) {
    for server in now.servers.iter().chain(&now.fallback) {
        if !before.servers.iter().chain(&before.fallback).any(|known| known == server) {
            report_server(before.state_of(&server.server), server);
        }
    }
    match (before.falls_back(), now.falls_back()) {
        (false, true) => tracing::warn!(
            "no name server passes the self-test: danelaw asks the root and the authoritative servers itself until one does \
             (dns.fallback)"
        ),
        (true, false) => tracing::warn!("danelaw asks the authoritative servers itself no longer (dns.fallback)"),
        (true, true) | (false, false) => {}
    }
    if now.is_bad() && !before.is_bad() {
        tracing::error!(
            "no name server passes the self-test, so mail is deferred; set dns.servers to resolvers that pass DNSSEC \
             records on"
        );
    }
    if !now.is_bad() && before.is_bad() {
        tracing::info!("lookups are possible again: a name server or the fallback passes the self-test");
    }
}

/// Logs a server that has changed since it was in this state.
fn report_server(before: Option<&ServerState>, ServerHealth { server, state, no_tcp }: &ServerHealth) {
    match (state, no_tcp) {
        (ServerState::Good, Some(why)) => tracing::warn!(
            %server,
            %why,
            "the name server passes the self-test, but not over TCP: lookups of large answers will fail, and defer mail"
        ),
        (ServerState::Good, None) => tracing::info!(%server, "the name server passes the self-test"),
        (ServerState::Failed(why), _) if before != Some(state) => {
            tracing::error!(%server, %why, "the name server fails the self-test");
        }
        (ServerState::Failed(_) | ServerState::Untested, _) => {}
    }
}
