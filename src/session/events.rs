//! Events reach a transaction by one function, [`perform`].

use std::collections::VecDeque;

use bytes::BytesMut;

use crate::transaction::{Effect, Event, Transaction};

/// Tells the transaction of these events. The client gets the replies that come first of their effects; all other effects
/// are to be carried out, in their order.
pub(super) fn perform(
    transaction: &mut Transaction,
    events: impl IntoIterator<Item = Event>,
    output: &mut BytesMut,
) -> VecDeque<Effect> {
    let mut effects: VecDeque<Effect> = events.into_iter().flat_map(|event| transaction.step(event)).collect();
    while let Some(Effect::Say(reply)) = effects.front() {
        reply.write(output);
        effects.pop_front();
    }
    effects
}

/// The same before the end of the message: the events have no effects but replies.
pub(super) fn reply(transaction: &mut Transaction, events: impl IntoIterator<Item = Event>, output: &mut BytesMut) {
    let effects = perform(transaction, events, output);
    debug_assert!(effects.is_empty(), "{effects:?}");
}
