//! One round of the self-test: which examinations run, and when their verdicts count.
//!
//! Each verdict counts as it comes. That a server does not answer over TCP is told once it is known, and holds up no verdict:
//! where a firewall drops TCP, it takes the whole time-out.
//!
//! danelaw's own resolver is examined where no server has passed for a moment, so that its verdict is there when it is needed.
//! That it fails is told at once. That it passes counts only when the configured servers have had their time, or have all
//! failed: until then it must not serve.

use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::time::sleep;

use super::super::backend::BackendFactory;
use super::super::selftest::{Health, OverTcp, ServerState, ServerVerdict, examine, over_tcp};
use super::super::server::NameServer;

/// How long the configured servers have before the fallback is examined beside them.
const FALLBACK_BESIDE: Duration = Duration::from_millis(400);
/// How long they have to pass before the fallback may serve.
const FALLBACK_AFTER: Duration = Duration::from_secs(3);

/// The examinations under way.
pub(super) struct TestRound<'a> {
    factory: &'a BackendFactory,
    configured: FuturesUnordered<BoxFuture<'a, ServerVerdict>>,
    own: FuturesUnordered<BoxFuture<'a, ServerVerdict>>,
    over_tcp: FuturesUnordered<BoxFuture<'a, OverTcp>>,
    own_over_tcp: FuturesUnordered<BoxFuture<'a, OverTcp>>,
    /// The fallback, until it is examined.
    fallback: Option<NameServer>,
    /// That the fallback passes, until it may serve.
    held: Option<ServerVerdict>,
}

/// A result of the round.
enum Finding {
    Configured(ServerVerdict),
    Own(ServerVerdict),
    OverTcp(OverTcp),
}

impl<'a> TestRound<'a> {
    /// Begins to examine these servers.
    pub(super) fn new(factory: &'a BackendFactory, servers: Vec<NameServer>) -> Self {
        let round = Self {
            factory,
            configured: FuturesUnordered::new(),
            own: FuturesUnordered::new(),
            over_tcp: FuturesUnordered::new(),
            own_over_tcp: FuturesUnordered::new(),
            fallback: factory.settings.fallback_server(),
            held: None,
        };
        for server in servers {
            round.over_tcp.push(Box::pin(over_tcp(factory, server.clone())));
            round.configured.push(Box::pin(examine(factory, server)));
        }
        round
    }

    /// Learns each finding as it comes, and has it taken up. Returns all that is known at the end.
    pub(super) async fn run(mut self, mut health: Health, take_up: impl Fn(&Health)) -> Health {
        let (mut beside, mut patience) = (pin!(sleep(FALLBACK_BESIDE)), pin!(sleep(FALLBACK_AFTER)));
        loop {
            let all_heard = self.configured.is_empty();
            if !health.any_good() && (all_heard || beside.is_elapsed()) {
                self.examine_fallback();
            }
            if let Some(verdict) = self.held.take_if(|_| all_heard || patience.is_elapsed()) {
                health.learn(&verdict);
                take_up(&health);
            }
            if self.is_over() {
                return health;
            }
            let finding = tokio::select! {
                Some(verdict) = self.configured.next() => Finding::Configured(verdict),
                Some(verdict) = self.own.next() => Finding::Own(verdict),
                Some(found) = self.over_tcp.next() => Finding::OverTcp(found),
                Some(found) = self.own_over_tcp.next() => Finding::OverTcp(found),
                () = &mut beside, if !beside.is_elapsed() => continue,
                () = &mut patience, if !patience.is_elapsed() => continue,
            };
            match finding {
                Finding::Own(verdict) if verdict.state == ServerState::Good => {
                    self.held = Some(verdict);
                    continue;
                }
                Finding::Configured(verdict) | Finding::Own(verdict) => health.learn(&verdict),
                Finding::OverTcp(found) => health.learn_over_tcp(&found),
            }
            if health.any_good() {
                self.end_of_fallback();
            }
            take_up(&health);
        }
    }

    fn examine_fallback(&mut self) {
        if let Some(fallback) = self.fallback.take() {
            self.own_over_tcp.push(Box::pin(over_tcp(self.factory, fallback.clone())));
            self.own.push(Box::pin(examine(self.factory, fallback)));
        }
    }

    /// A server passes, so that the fallback is not needed.
    fn end_of_fallback(&mut self) {
        self.own.clear();
        self.own_over_tcp.clear();
        self.held = None;
    }

    fn is_over(&self) -> bool {
        let verdicts = self.configured.is_empty() && self.own.is_empty() && self.held.is_none();
        verdicts && self.over_tcp.is_empty() && self.own_over_tcp.is_empty()
    }
}
