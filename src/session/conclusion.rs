//! The ends of data, and the replies to the client: one for all recipients, or one for each.
//!
//! The [`transaction`](crate::transaction) decides; here its decisions are carried out. [`crate::journal`] explains the
//! record of a message.

use futures_util::future::join_all;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Session;
use super::events::perform;
use super::transfer::ReadToEnd;
use crate::delivery::body::{Deliveries, Delivery};
use crate::delivery::declined::Declined;
use crate::delivery::incoming::Incoming;
use crate::dns::Resolver;
use crate::journal::{ContentDigest, Message, MessageKey, Pair, Unclaimed};
use crate::smtp::reply::Reply;
use crate::transaction::reply::Recorded;
use crate::transaction::{Effect, Event, RecordedOutcomes, Transaction};
use crate::wire::WireError;

/// A message at the end of its data.
struct Ending {
    transaction: Transaction,
    /// Deliveries that have their reply, or wait for the end of the data.
    deliveries: Deliveries,
    /// Deliveries that are sent the end of the data.
    finishing: Vec<Delivery>,
    /// The claim of a message that may have a record.
    message: Option<Message>,
}

impl<R: Resolver, S: AsyncRead + AsyncWrite + Unpin> Session<R, S> {
    /// The ends of data, side by side, and the replies to them.
    pub(super) async fn conclude(&mut self, read: ReadToEnd) -> Result<(), WireError> {
        let ReadToEnd { transaction, deliveries, message } = read;
        let mut end = Ending { transaction, deliveries, finishing: Vec::new(), message: None };
        self.advance(Event::Read(message), &mut end).await;
        let ended = Incoming::new();
        let finishing = std::mem::take(&mut end.finishing);
        let mut finishing =
            join_all(finishing.into_iter().map(|delivery| async { ended.put(delivery.finish().await) }));
        let mut told = Ok(());
        let mut known = std::mem::take(&mut end.deliveries).into_all();
        loop {
            let replies = known.iter().filter_map(Delivery::reply).collect();
            self.advance(Event::Finished(replies), &mut end).await;
            // RFC 1047: between the remote's answer and ours lies the one window for a duplicate, so no work goes in between.
            if told.is_ok() {
                told = self.client.flush(self.shared.client_timeout).await;
            }
            known.into_iter().for_each(|delivery| delivery.report(None));
            if !end.transaction.is_undecided() {
                break;
            }
            known = tokio::select! {
                biased;
                _ = &mut finishing => ended.drain(),
                known = ended.any() => known,
            };
        }
        if told.is_err() {
            // RFC 1047: the client has not heard that these have the message, and sends it again.
            self.shared.reporter.metrics().orphaned(end.transaction.delivered());
        }
        told
    }

    /// Carries out all that follows from an event.
    async fn advance(&mut self, event: Event, end: &mut Ending) {
        let mut effects = perform(&mut end.transaction, [event], &mut self.client.output);
        while let Some(effect) = effects.pop_front() {
            let then = match effect {
                Effect::Say(reply) => {
                    self.say(&reply);
                    None
                }
                Effect::SayAgain(reply) => {
                    // The client may send the message again before it has read this reply to its end.
                    Box::pin(end.release()).await;
                    // Quoted, since it names mailboxes and holds texts of remotes.
                    tracing::info!(answer = ?reply.to_string(), "the client is told to send the message again to all recipients");
                    self.say(&reply);
                    None
                }
                // On the heap, or every session would have room for it while it waits.
                Effect::Recall(content) => Some(Event::Recalled(Box::pin(self.recall(content, end)).await)),
                Effect::Record(outcomes) => Some(Event::Recorded(Box::pin(end.write_record(outcomes)).await)),
                Effect::Forget => {
                    Box::pin(end.forget()).await;
                    None
                }
                Effect::Finish(destination) => {
                    end.finishing.extend(end.deliveries.remove(destination));
                    None
                }
                Effect::Withhold(destination) => {
                    end.deliveries.remove(destination).into_iter().for_each(Delivery::withhold);
                    None
                }
                Effect::Stop(destination, refusal) => {
                    end.deliveries.stop(destination, Declined::own(refusal));
                    None
                }
            };
            if let Some(event) = then {
                debug_assert!(effects.is_empty(), "an effect that makes an event is the last one: {effects:?}");
                effects.extend(perform(&mut end.transaction, [event], &mut self.client.output));
            }
        }
    }

    /// Claims a message that may have a record, and reads that.
    async fn recall(&self, content: ContentDigest, end: &mut Ending) -> RecordedOutcomes {
        let envelope = &end.transaction.envelope;
        let pairs: Vec<Pair> = end.transaction.expected().map(|recipient| envelope.pair(&recipient.mailbox)).collect();
        let key = MessageKey::new(content, pairs.iter().copied());
        let key = self.caller.listener.terms.floor.map_or(key, |floor| key.at_level(floor.level().as_str()));
        match self.shared.journal.tagged(envelope.tag).message(key, &pairs).await {
            Ok(message) => {
                let outcomes = pairs.iter().filter_map(|pair| Some((*pair, message.outcome(*pair)?.clone()))).collect();
                end.message = Some(message);
                RecordedOutcomes::Outcomes(outcomes)
            }
            Err(Unclaimed::Busy) => RecordedOutcomes::Busy,
            Err(Unclaimed::Down) => RecordedOutcomes::Unknown,
        }
    }
}

impl Ending {
    /// Writes final outcomes to the record.
    async fn write_record(&mut self, outcomes: Vec<(Pair, Reply)>) -> Recorded {
        let Some(message) = &mut self.message else { return Recorded::NoMessageId };
        match message.record(outcomes).await {
            Ok(()) => Recorded::Yes,
            Err(error) => {
                tracing::error!(
                    %error,
                    "the outcomes of a fan-out message cannot be recorded; no mail is lost and the attempt goes on, but if the client has \
                     to send the message again, recipients that have it may get a second copy"
                );
                Recorded::Failed
            }
        }
    }

    /// Ends the claim of the message.
    async fn release(&mut self) {
        if let Some(message) = self.message.take() {
            message.release().await;
        }
    }

    /// Deletes the record.
    async fn forget(&mut self) {
        if let Some(message) = self.message.take()
            && let Err(error) = message.delete().await
        {
            tracing::error!(%error, "the record of a message cannot be deleted now; it counts as deleted");
        }
    }
}
