//! The events of a transaction besides the client's commands, and the effects of each.

use std::collections::{BTreeMap, BTreeSet};

use super::reply::{Conclusion, Disposition, EndOfData, Part, Recorded, again, conclude, end_of_data, held, worst};
use super::{
    DestinationId, DestinationState, EndReplies, Recipient, RecipientId, RecipientState, Refused, Transaction,
};
use crate::refusal::OwnRefusal;
use crate::smtp::reply::{Code, EnhancedCode, Reply};
use crate::store::key::{ContentDigest, Pair};

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A remote's reply to RCPT is there, or ours in its place.
    Answered(RecipientId, Reply),
    /// A remote has taken MAIL, and has answered all that it was asked.
    Opened(DestinationId),
    /// A remote has answered all that it was asked, has accepted no recipient, and was left.
    Left(DestinationId),
    /// No remote takes the message: this is the reply to the recipients.
    Failed(DestinationId, Reply),
    /// A remote waits for the message.
    Started(DestinationId),
    /// The client has sent the message to its end.
    Read(ReadMessage),
    /// The record of the message was looked up.
    Recalled(RecordedOutcomes),
    /// These destinations have answered the end of the data, or have failed.
    Finished(Vec<FinalReply>),
    /// The final outcomes were written to the record, or not.
    Recorded(Recorded),
}

/// A message that was read to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadMessage {
    /// It is refused for all recipients; the replies of their remotes do not count.
    Refused(Reply),
    /// It has a Message-ID, and may have a record.
    Identified(ContentDigest),
    /// It has no record.
    Unidentified,
}

/// The record of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordedOutcomes {
    /// Another session is at the end of the same message.
    Busy,
    /// The store cannot tell.
    Unknown,
    /// The final outcomes of earlier attempts; of a message without a record there are none.
    Outcomes(BTreeMap<Pair, Reply>),
}

/// A destination's reply to the end of the data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinalReply {
    /// The destination.
    pub destination: DestinationId,
    /// The remote's reply, or ours in its place.
    pub reply: Reply,
}

/// An effect, for the session to carry out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// The client gets this reply.
    Say(Reply),
    /// The client gets this reply, and has to send the message again.
    SayAgain(Reply),
    /// The record of the message is to be locked and read; see [`Event::Recalled`].
    Recall(ContentDigest),
    /// The remote gets the end of the data.
    Finish(DestinationId),
    /// The remote gets no end of data: its recipients have their outcomes from an earlier attempt.
    Withhold(DestinationId),
    /// The remote gets no end of data, and its recipients are deferred.
    Stop(DestinationId, OwnRefusal),
    /// These final outcomes are to be on the disk before anything else is done; see [`Event::Recorded`].
    Record(Vec<(Pair, Reply)>),
    /// The record is to be deleted before anything else is done.
    Forget,
}

impl Transaction {
    /// Takes note of an event. The effects are to be carried out in this order.
    pub fn step(&mut self, event: Event) -> Vec<Effect> {
        match event {
            Event::Answered(recipient, reply) => self.answered(recipient, reply),
            Event::Opened(destination) => return self.asked(destination, DestinationState::Open),
            Event::Left(destination) => return self.asked(destination, DestinationState::Unresolved),
            Event::Failed(destination, reply) => return self.asked(destination, DestinationState::Failed(reply)),
            Event::Started(destination) => self.destinations.get_mut(destination).state = DestinationState::Sending,
            Event::Read(message) => return self.read(message),
            Event::Recalled(record) => return self.recalled(record),
            Event::Finished(replies) => return self.finished(replies),
            Event::Recorded(recorded) if !self.is_undecided() => {
                return vec![Effect::SayAgain(again(&self.parts(), recorded))];
            }
            Event::Recorded(_) => {}
        }
        self.due()
    }

    /// The replies that are due.
    fn due(&mut self) -> Vec<Effect> {
        self.owed.drain().into_iter().map(Effect::Say).collect()
    }

    /// The reply to RCPT.
    fn answered(&mut self, id: RecipientId, reply: Reply) {
        let (state, told) = match self.replies.row().refused {
            _ if reply.code().is_success() => (RecipientState::Accepted, reply),
            Refused::AtOnce => (RecipientState::Rejected, reply),
            Refused::AtTheEnd => (RecipientState::Held(reply), held()),
        };
        let recipient = self.recipients.get_mut(id);
        if recipient.is_named() {
            recipient.state = state;
            self.owed.put(id, &told);
        }
    }

    /// A destination was asked all that it could be asked.
    fn asked(&mut self, id: DestinationId, state: DestinationState) -> Vec<Effect> {
        let unanswered = match &state {
            DestinationState::Failed(reply) => reply.clone(),
            DestinationState::Unresolved
            | DestinationState::Open
            | DestinationState::Sending
            | DestinationState::Released
            | DestinationState::Done(_) => no_remote(),
        };
        self.destinations.get_mut(id).state = state;
        let of_it = |recipient: &&Recipient| recipient.destination == id && recipient.is_named();
        let named: Vec<RecipientId> = self.recipients.all().iter().filter(of_it).map(|one| one.id).collect();
        named.into_iter().for_each(|recipient| self.answered(recipient, unanswered.clone()));
        self.due()
    }

    /// The end of the message: the record is asked, or each remote gets the end of the data.
    fn read(&mut self, message: ReadMessage) -> Vec<Effect> {
        let end = self.replies.row().end;
        match end {
            EndReplies::OneReply => {}
            EndReplies::ReplyForEach | EndReplies::ReplyForEachAndAll => {
                let expected = self.recipients.all().iter().filter(|recipient| recipient.is_expected());
                expected.for_each(|recipient| self.owed.owe(recipient.id));
            }
        }
        let announced = match end {
            EndReplies::ReplyForEachAndAll => {
                let text = "the message is there; each recipient's answer follows";
                Some(Effect::Say(Reply::plain(Code::ANSWERS_FOLLOW, text)))
            }
            EndReplies::OneReply | EndReplies::ReplyForEach => None,
        };
        let then = match message {
            ReadMessage::Refused(reply) => {
                self.refuse(&reply);
                Vec::new()
            }
            ReadMessage::Identified(content) if self.may_have_record() => vec![Effect::Recall(content)],
            ReadMessage::Identified(_) | ReadMessage::Unidentified => {
                self.conclude_held();
                self.sending().into_iter().map(Effect::Finish).collect()
            }
        };
        announced.into_iter().chain(then).collect()
    }

    /// A message that is refused is refused for all recipients, and has no record.
    fn refuse(&mut self, reply: &Reply) {
        let destinations = &self.destinations;
        for recipient in self.recipients.all_mut() {
            let outcome = match &recipient.state {
                RecipientState::Named | RecipientState::Rejected | RecipientState::Concluded(_) => continue,
                RecipientState::Held(_) => reply,
                RecipientState::Accepted => {
                    // A destination's own reply has the id of its attempt.
                    let own = destinations.get(recipient.destination).reply();
                    own.filter(|own| own.code().is_permanent()).unwrap_or(reply)
                }
            };
            recipient.state = RecipientState::Concluded(outcome.clone());
        }
    }

    /// Replies that were held back are outcomes.
    fn conclude_held(&mut self) {
        for recipient in self.recipients.all_mut() {
            if let RecipientState::Held(reply) = &recipient.state {
                recipient.state = RecipientState::Concluded(reply.clone());
            }
        }
    }

    fn sending(&self) -> Vec<DestinationId> {
        let sending = self.destinations.all().iter().filter(|one| one.state == DestinationState::Sending);
        sending.map(|destination| destination.id).collect()
    }

    /// Destinations at which a recipient has an outcome by the record get no end of data.
    fn recalled(&mut self, record: RecordedOutcomes) -> Vec<Effect> {
        let outcomes = match record {
            RecordedOutcomes::Outcomes(outcomes) => outcomes,
            RecordedOutcomes::Busy => return self.defer_all(OwnRefusal::StoreBusy),
            RecordedOutcomes::Unknown => return self.defer_all(OwnRefusal::StoreDown),
        };
        let mut effects = Vec::new();
        for id in self.sending() {
            let of_it = |recipient: &&Recipient| recipient.destination == id && recipient.is_accepted();
            let recorded =
                self.recipients.all().iter().filter(of_it).map(|one| outcomes.get(&self.envelope.pair(&one.mailbox)));
            effects.push(match end_of_data(recorded) {
                EndOfData::Send => Effect::Finish(id),
                EndOfData::Withhold => {
                    self.destinations.get_mut(id).state = DestinationState::Released;
                    Effect::Withhold(id)
                }
                EndOfData::Defer => Effect::Stop(id, OwnRefusal::AnsweredInPart),
            });
        }
        for recipient in self.recipients.all_mut().iter_mut().filter(|recipient| recipient.is_expected()) {
            if let Some(recorded) = outcomes.get(&self.envelope.pair(&recipient.mailbox)) {
                recipient.state = RecipientState::Concluded(recorded.clone());
            }
        }
        self.conclude_held();
        self.recorded = Some(outcomes);
        effects
    }

    fn defer_all(&mut self, refusal: OwnRefusal) -> Vec<Effect> {
        let reply = refusal.reply();
        for recipient in self.recipients.all_mut().iter_mut().filter(|recipient| recipient.is_expected()) {
            recipient.state = RecipientState::Concluded(reply.clone());
        }
        self.sending().into_iter().map(|id| Effect::Stop(id, refusal)).collect()
    }

    /// Final replies of destinations are the outcomes of their recipients.
    fn finished(&mut self, replies: Vec<FinalReply>) -> Vec<Effect> {
        for FinalReply { destination, reply } in replies {
            self.destinations.get_mut(destination).state = match reply.code().is_success() {
                true => DestinationState::Done(reply),
                false => DestinationState::Failed(reply),
            };
        }
        self.learn();
        match (self.replies.row().end, self.is_undecided()) {
            (EndReplies::OneReply, false) => self.conclude(),
            (EndReplies::OneReply, true) => self.record_early(),
            (end @ (EndReplies::ReplyForEach | EndReplies::ReplyForEachAndAll), is_undecided) => {
                let recipients = &self.recipients;
                self.owed.put_all(|id| recipients.get(id).outcome());
                let mut effects = self.due();
                if (end, is_undecided) == (EndReplies::ReplyForEachAndAll, false) {
                    effects.push(Effect::Say(self.overall_reply()));
                }
                effects
            }
        }
    }

    fn learn(&mut self) {
        let destinations = &self.destinations;
        for recipient in self.recipients.all_mut().iter_mut().filter(|recipient| recipient.is_accepted()) {
            let outcome = match &destinations.get(recipient.destination).state {
                DestinationState::Done(reply) | DestinationState::Failed(reply) => reply.clone(),
                DestinationState::Sending => continue,
                DestinationState::Unresolved | DestinationState::Open | DestinationState::Released => no_remote(),
            };
            recipient.state = RecipientState::Concluded(outcome);
        }
        // A recipient may be listed twice, and its remote may refuse or defer the second one. It has one outcome: delivered if
        // one of the two is, else deferred if one of the two is, and refused only if both are.
        for disposition in [Disposition::Delivered, Disposition::Deferred] {
            let is_such =
                |recipient: &Recipient| recipient.outcome().map(|outcome| Disposition::of(outcome) == disposition);
            let has = |wanted: bool| self.recipients.all().iter().any(|one| is_such(one) == Some(wanted));
            // The pair of a recipient is a digest, and most messages have one outcome for all.
            if !(has(true) && has(false)) {
                continue;
            }
            let pair = |recipient: &Recipient| self.envelope.pair(&recipient.mailbox);
            let such = self.recipients.all().iter().filter(|one| is_such(one) == Some(true));
            let such: BTreeMap<Pair, Reply> =
                such.filter_map(|one| Some((pair(one), one.outcome()?.clone()))).collect();
            for recipient in self.recipients.all_mut().iter_mut().filter(|one| is_such(one) == Some(false)) {
                if let Some(outcome) = such.get(&pair(recipient)) {
                    recipient.state = RecipientState::Concluded(outcome.clone());
                }
            }
        }
    }

    /// The one reply to all, with all on the disk that must be there before the client hears it.
    fn conclude(&mut self) -> Vec<Effect> {
        let parts = self.parts();
        match (conclude(&parts), self.recorded.is_some()) {
            (Conclusion::Final(reply), false) => vec![Effect::Say(reply)],
            (Conclusion::Final(reply), true) => vec![Effect::Forget, Effect::Say(reply)],
            (Conclusion::Again, false) => vec![Effect::SayAgain(again(&parts, Recorded::NoMessageId))],
            (Conclusion::Again, true) => vec![self.record_effect()],
        }
    }

    /// The final outcomes that are known while others are open are recorded at once: danelaw may be killed before all are
    /// known.
    fn record_early(&mut self) -> Vec<Effect> {
        let Some(recorded) = &self.recorded else { return Vec::new() };
        let is_new = self.final_outcomes().iter().any(|(pair, _)| !recorded.contains_key(pair));
        if is_new { vec![self.record_effect()] } else { Vec::new() }
    }

    fn record_effect(&mut self) -> Effect {
        let outcomes = self.final_outcomes();
        self.recorded.iter_mut().for_each(|recorded| recorded.extend(outcomes.iter().cloned()));
        Effect::Record(outcomes)
    }

    /// The final outcomes of the recipients that have one; of a recipient that is listed twice, if both have one.
    fn final_outcomes(&self) -> Vec<(Pair, Reply)> {
        let pair = |recipient: &Recipient| self.envelope.pair(&recipient.mailbox);
        let open = self.expected().filter(|recipient| recipient.outcome().is_none());
        let open: BTreeSet<Pair> = open.map(pair).collect();
        let concluded = self.expected().filter(|recipient| !open.contains(&pair(recipient)));
        let outcomes = concluded.filter_map(|recipient| Some((pair(recipient), recipient.outcome()?.clone())));
        outcomes.filter(|(_, outcome)| Disposition::of(outcome).is_final()).collect()
    }

    fn parts(&self) -> Vec<Part> {
        let part = |one: &Recipient| Some(Part { mailbox: one.mailbox.to_string(), reply: one.outcome()?.clone() });
        self.expected().filter_map(part).collect()
    }

    /// The overall reply of PRDR. Exim takes a no here for one to every recipient, those with a yes among them, and would
    /// send the message to them again: so one yes makes it a yes.
    fn overall_reply(&self) -> Reply {
        let yes = Reply::new(Code::OK, EnhancedCode::success(0, 0), "each recipient has had its answer");
        if self.delivered() > 0 {
            return yes;
        }
        worst(self.recipients.all().iter().filter_map(|recipient| recipient.outcome().cloned())).unwrap_or(yes)
    }
}

/// The outcome of a recipient whose destination has no remote and no reply.
fn no_remote() -> Reply {
    Reply::new(Code::LOCAL_ERROR, EnhancedCode::transient(4, 2), "no remote takes the message")
}
