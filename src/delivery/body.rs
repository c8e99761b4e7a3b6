//! The message at one destination, from DATA to the reply to its end.

use futures_util::future::join_all;

use super::attempt::Attempt;
use super::declined::Declined;
use super::{DestinationUpstream, Upstream};
use crate::refusal::{Label, Lacking, Peer};
use crate::smtp::chunk::Framing;
use crate::smtp::data::DataScanner;
use crate::smtp::extensions::Content;
use crate::smtp::reply::Reply;
use crate::transaction::destination::DestinationId;
use crate::transaction::{Event, FinalReply};
use crate::upstream::verified::{Body, Started, TransferError};
use crate::wire::WireError;

/// The message on its way to one destination.
pub(crate) struct Delivery {
    destination: DestinationId,
    pub(crate) attempt: Attempt,
    state: DeliveryState,
}

enum DeliveryState {
    /// It is on its way.
    Sending(Box<Body>),
    /// It goes no further. The attempt is reported once the client has its reply.
    Stopped(Declined),
    /// The remote has it. The attempt is reported once the client has its reply.
    Delivered(Reply),
}

impl Delivery {
    /// Asks a remote that has accepted a recipient for the message to come: by DATA, unless it takes chunks.
    pub(crate) async fn start(open: DestinationUpstream, framing: Framing) -> Self {
        let DestinationUpstream { destination, upstream: Upstream { ready, mut attempt } } = open;
        let peer = ready.peer().clone();
        let state = match ready.message(framing).await {
            Ok(Started::Body(body)) => {
                attempt.message_begins();
                DeliveryState::Sending(body)
            }
            Ok(Started::Refused(ready, reply)) => {
                ready.release();
                stopped(Declined::by_remote(Label::DataRefused, reply.relayed(&peer)), &attempt)
            }
            Err(reason) => stopped(Declined::broke(&peer, &reason), &attempt),
        };
        Self { destination, attempt, state }
    }

    /// Leaves a remote that is not asked for the message to come.
    pub(crate) fn decline(open: DestinationUpstream, declined: Declined) -> Self {
        let DestinationUpstream { destination, upstream: Upstream { ready, attempt } } = open;
        ready.release();
        Self { destination, state: stopped(declined, &attempt), attempt }
    }

    fn is_sending(&self) -> bool {
        match &self.state {
            DeliveryState::Sending(_) => true,
            DeliveryState::Stopped(_) | DeliveryState::Delivered(_) => false,
        }
    }

    /// The reply to the recipients, once it is known.
    pub(crate) fn reply(&self) -> Option<FinalReply> {
        let reply = match &self.state {
            DeliveryState::Delivered(reply) | DeliveryState::Stopped(Declined { answer: reply, .. }) => reply.clone(),
            DeliveryState::Sending(_) => return None,
        };
        Some(FinalReply { destination: self.destination, reply })
    }

    /// Whether the remote waits for the message.
    pub(crate) fn started(&self) -> Event {
        match self.reply() {
            Some(FinalReply { destination, reply }) => Event::Failed(destination, reply),
            None => Event::Started(self.destination),
        }
    }

    /// RFC 6152 §3: never 8-bit octets to a server that does not say it takes them, declared or not. RFC
    /// 6531 §3.5: nor the header of an internationalised message; without SMTPUTF8 in MAIL, such a header is 8-bit mail.
    pub(crate) fn stop_if_lacking(&mut self, block: &[u8], scanner: &DataScanner) {
        let (DeliveryState::Sending(body), attempt) = (&self.state, &mut self.attempt) else { return };
        let extensions = &body.terms().extensions;
        let takes = extensions.takes();
        let holds = if attempt.declared() == Content::International && scanner.has_international_header() {
            Content::International
        } else if (takes == Content::Ascii || attempt.has_condition()) && !block.is_ascii() {
            Content::EightBit
        } else {
            return;
        };
        attempt.shows(holds);
        if holds > takes {
            let lacking = match holds {
                Content::International if !extensions.smtp_utf8 => Lacking::SmtpUtf8Header,
                Content::International | Content::EightBit | Content::Ascii => Lacking::EightBitMime,
            };
            let declined = attempt.lacking(lacking, body.peer());
            self.stop(declined);
        }
    }

    /// Takes the next bytes of the message, to go with those behind them.
    pub(crate) fn load(&mut self, block: &[u8]) {
        if let DeliveryState::Sending(body) = &mut self.state {
            body.load(block);
        }
    }

    /// Takes the last bytes of the message, to go with its end.
    pub(crate) fn load_last(&mut self, block: &[u8]) {
        if let DeliveryState::Sending(body) = &mut self.state {
            body.load(block);
            body.ends();
        }
    }

    /// Sends the next bytes of the message.
    async fn send(&mut self, block: &[u8]) {
        if let DeliveryState::Sending(body) = &mut self.state
            && let Err(stop) = body.send(block).await
        {
            let declined = broken(stop, body.peer());
            self.stop(declined);
        }
    }

    /// The message goes no further here. Its body is dropped, not finished: the remote sees a reset.
    pub(crate) fn stop(&mut self, declined: Declined) {
        if self.is_sending() {
            self.state = stopped(declined, &self.attempt);
        }
    }

    /// The recipients have an outcome of an earlier attempt. The body is dropped, not finished: the remote sees a reset.
    pub(crate) fn withhold(self) {
        self.attempt.withheld();
    }

    /// The end of data, and the remote's answer to it: the only place where a message can become delivered.
    pub(crate) async fn finish(self) -> Self {
        let Self { destination, mut attempt, state } = self;
        let DeliveryState::Sending(body) = state else { return Self { destination, attempt, state } };
        attempt.undecided();
        let peer = body.peer().clone();
        let state = match body.finish().await {
            Ok((reply, ready)) => {
                ready.release();
                // The reply to the client counts: 221 is a success of another command, and the client gets 451.
                let answer = reply.relayed(&peer);
                attempt.decided(&answer);
                if answer.code().is_success() {
                    DeliveryState::Delivered(answer)
                } else {
                    stopped(Declined::by_remote(Label::MessageRefused, answer), &attempt)
                }
            }
            Err(stop) => stopped(broken(stop, &peer), &attempt),
        };
        Self { destination, attempt, state }
    }

    /// The end of the attempt, with the answer that the client was given, if it was not this one's own.
    pub(crate) fn report(self, given: Option<&Reply>) {
        match self.state {
            DeliveryState::Delivered(answer) => self.attempt.delivered(&answer),
            DeliveryState::Stopped(Declined { reason, answer, .. }) => {
                self.attempt.answered(reason, given.unwrap_or(&answer));
            }
            // A delivery that is sending has not ended.
            DeliveryState::Sending(_) => {}
        }
    }
}

/// The deliveries of one message, side by side.
#[derive(Default)]
pub(crate) struct Deliveries(Vec<Delivery>);

impl Deliveries {
    /// DATA at each of these remotes.
    pub(crate) async fn start(open: Vec<DestinationUpstream>, framing: Framing) -> Self {
        Self(join_all(open.into_iter().map(|open| Delivery::start(open, framing))).await)
    }

    /// None of these remotes is asked.
    pub(crate) fn decline(open: Vec<DestinationUpstream>, declined: &Declined) -> Self {
        Self(open.into_iter().map(|open| Delivery::decline(open, declined.clone())).collect())
    }

    pub(crate) fn all(&mut self) -> &mut [Delivery] {
        &mut self.0
    }

    pub(crate) fn into_all(self) -> Vec<Delivery> {
        self.0
    }

    /// Whether each remote waits for the message.
    pub(crate) fn started(&self) -> Vec<Event> {
        self.0.iter().map(Delivery::started).collect()
    }

    /// Sends the next bytes of the message to all.
    pub(crate) async fn send(&mut self, block: &[u8]) {
        join_all(self.0.iter_mut().map(|delivery| delivery.send(block))).await;
    }

    /// The message goes no further to this destination.
    pub(crate) fn stop(&mut self, destination: DestinationId, declined: Declined) {
        let to_it = self.0.iter_mut().filter(|delivery| delivery.destination == destination);
        to_it.for_each(|delivery| delivery.stop(declined.clone()));
    }

    /// Takes a delivery out.
    pub(crate) fn remove(&mut self, destination: DestinationId) -> Option<Delivery> {
        let place = self.0.iter().position(|delivery| delivery.destination == destination)?;
        Some(self.0.remove(place))
    }

    /// Tells all attempts that the client is lost.
    pub(crate) fn client_lost(self, gone: &WireError) {
        self.0.into_iter().for_each(|delivery| delivery.attempt.client_lost(gone));
    }
}

fn stopped(declined: Declined, attempt: &Attempt) -> DeliveryState {
    DeliveryState::Stopped(declined.with_id(attempt.id()))
}

fn broken(stop: TransferError, peer: &Peer) -> Declined {
    match stop {
        TransferError::Answered(reply) => Declined::by_remote(Label::MessageRefused, reply.relayed(peer)),
        TransferError::Failed(reason) => Declined::broke(peer, &reason),
    }
}
