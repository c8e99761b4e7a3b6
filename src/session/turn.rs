//! One turn of the client: destinations are asked for the pipelined recipients side by side, and the client gets the
//! replies in its own order.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Session;
use super::events::reply;
use crate::delivery::Upstreams;
use crate::delivery::envelope::{Agent, NextCommand};
use crate::delivery::incoming::Incoming;
use crate::dns::Resolver;
use crate::transaction::{Event, Transaction};
use crate::wire::WireError;

/// How long replies that are known may wait for those of other remotes, to be sent in one piece.
const PROMPT: Duration = Duration::from_millis(100);

impl<R: Resolver, S: AsyncRead + AsyncWrite + Unpin> Session<R, S> {
    /// Asks for the recipients that wait, if any do.
    pub(super) async fn ask_for_recipients(&mut self, next: NextCommand) -> Result<(), WireError> {
        let Some(transaction) = self.dialogue.waiting() else { return Ok(()) };
        let patience = self.shared.client_timeout;
        let (envelope, incoming, opened) = (Arc::clone(&transaction.envelope), Incoming::new(), Incoming::new());
        let agent = Agent {
            shared: &self.shared,
            envelope: &envelope,
            origin: self.caller.origin,
            original_destination: self.caller.original_destination,
            tls: self.tls.as_ref(),
            terms: self.caller.listener.terms,
            next,
            incoming: &incoming,
            opened: &opened,
        };
        let mut asked = join_all(asks(&agent, transaction, &mut self.upstreams));
        let mut late = pin!(tokio::time::sleep(PROMPT));
        let told = loop {
            tokio::select! {
                biased;
                // First, so that replies that are known together are sent together, with the next one of the session.
                _ = &mut asked => break Ok(()),
                events = incoming.any() => reply(transaction, events, &mut self.client.output),
                () = &mut late, if !self.client.output.is_empty() => {}
            }
            if let Err(gone) = self.client.flush(patience).await {
                break Err(gone);
            }
        };
        drop(asked);
        reply(transaction, incoming.drain(), &mut self.client.output);
        // Also where the client has gone: a remote that has answered is left in step, and its session may be used again.
        opened.drain().into_iter().for_each(|open| self.upstreams.put(open));
        told
    }
}

/// The deliveries that have a recipient or DATA to ask for in this turn.
fn asks<'a, R: Resolver>(
    agent: &'a Agent<'a, R>,
    transaction: &Transaction,
    upstreams: &mut Upstreams,
) -> Vec<Pin<Box<impl Future<Output = ()> + use<'a, R>>>> {
    let mut asks = Vec::new();
    for turn in transaction.turns() {
        let id = turn.destination;
        let hears_of_data = upstreams.get(id).is_some_and(|upstream| agent.asks_for_data(upstream));
        if turn.recipients.is_empty() && !hears_of_data {
            continue;
        }
        match transaction.destination(id).reply() {
            Some(reply) => agent.incoming.put(Event::Failed(id, reply.clone())),
            // Cut in the middle of a group, a session with a remote is of no further use.
            // On the heap, where its kilobytes stay: it is moved several times until it runs.
            None => asks.push(Box::pin(agent.ask(turn, upstreams.remove(id)))),
        }
    }
    asks
}
